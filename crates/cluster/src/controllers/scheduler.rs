//! The scheduler: one pod after the other, each to the best of the nodes that can take it.
//!
//! What keeps a pod from a node is in `filter`, which node is best in `score`, and what is free on a node in `room`. It does
//! not preempt. All pods that wait are looked at together, in one pass that knows what it just placed.

mod affinity;
mod filter;
mod room;
mod score;
mod spread;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

pub use self::filter::{Reason, accepts, refusals};
pub use self::room::{Room, requests};
use super::pods::{is_over, set_condition, transition, write_status};
use crate::engine::{Act, Controller, Write};
use crate::object::Object;
use crate::resource::Kind;
use crate::store::{Change, Key, Store};

/// The scheduler.
#[derive(Clone, Copy, Debug)]
pub struct Scheduler;

/// All pods that wait are looked at under one key, so that no two of them are promised the same room.
fn waiting() -> Key {
    Key::new(Kind::Pod, "", "")
}

impl Controller for Scheduler {
    fn name(&self) -> &'static str {
        "scheduler"
    }

    fn touched(&self, store: &Store, change: &Change) -> Vec<Key> {
        let (before, after) = (change.before.as_deref(), change.after.as_deref());
        let relevant = match change.key.kind {
            Kind::Pod => pod_matters(before, after),
            Kind::Node => node_matters(before, after),
            _ => false,
        };
        if relevant && store.pods_on("").next().is_some() { vec![waiting()] } else { Vec::new() }
    }

    /// Long enough for pods that come together to be looked at together.
    fn delay(&self) -> SignedDuration {
        SignedDuration::from_millis(1)
    }

    fn look(&self, store: &Store, _key: &Key, now: Timestamp) -> Act {
        let pods = queue(store);
        if pods.is_empty() {
            return Act::none();
        }
        let mut cluster = Cluster::of(store);
        let mut writes = Vec::new();
        for (key, pod) in pods {
            match cluster.place(pod) {
                Ok(place) => {
                    let node = cluster.rooms[place].node.name().to_owned();
                    cluster.rooms[place].take(pod.clone());
                    writes.push(Write::Bind { pod: key.clone(), uid: pod.uid().to_owned(), node });
                }
                Err(message) => writes.extend(unschedulable(pod, &message, now)),
            }
        }
        Act::now(writes)
    }
}

/// Whether a change of a pod makes a waiting pod worth another look.
fn pod_matters(before: Option<&Object>, after: Option<&Object>) -> bool {
    match (before, after) {
        (None, Some(pod)) => pod.node().is_empty() || is_over(pod),
        (Some(_), None) => true,
        (Some(before), Some(after)) => {
            before.at("/spec") != after.at("/spec")
                || before.at("/metadata/labels") != after.at("/metadata/labels")
                || is_over(before) != is_over(after)
                || before.deletion().is_some() != after.deletion().is_some()
        }
        (None, None) => false,
    }
}

/// The same of a node.
fn node_matters(before: Option<&Object>, after: Option<&Object>) -> bool {
    match (before, after) {
        (Some(before), Some(after)) => {
            ["/spec", "/metadata/labels", "/status/allocatable"].iter().any(|part| before.at(part) != after.at(part))
        }
        _ => true,
    }
}

/// The pods that wait, in their order: the more important first, then the older.
fn queue(store: &Store) -> Vec<(&Key, &Arc<Object>)> {
    let mut pods: Vec<_> = store.pods_on("").filter(|(_, pod)| waits(pod)).collect();
    pods.sort_by_key(|(_, pod)| (Reverse(pod.number("/spec/priority").unwrap_or(0)), pod.created(), pod.revision()));
    pods
}

/// Whether a pod is to be scheduled, by this scheduler.
pub fn waits(pod: &Object) -> bool {
    pod.node().is_empty()
        && pod.deletion().is_none()
        && !is_over(pod)
        && pod.list("/spec/schedulingGates").is_empty()
        && matches!(pod.text("/spec/schedulerName"), None | Some("" | "default-scheduler"))
}

/// All nodes with what is on them.
pub struct Cluster<'s> {
    store: &'s Store,
    /// In the order of their names.
    pub rooms: Vec<Room>,
}

impl<'s> Cluster<'s> {
    /// As it is.
    pub fn of(store: &'s Store) -> Self {
        let rooms = store.list(Kind::Node, None).map(|node| Room::of(store, node.clone())).collect();
        Self { store, rooms }
    }

    /// Where a pod goes, or why it goes nowhere.
    pub fn place(&self, pod: &Object) -> Result<usize, String> {
        let refusals = refusals(self.store, &self.rooms, pod);
        let fits: Vec<usize> = (0..self.rooms.len()).filter(|place| refusals[*place].is_empty()).collect();
        match fits.as_slice() {
            [] => Err(explanation(&refusals)),
            [only] => Ok(*only),
            _ => Ok(score::best(self.store, &self.rooms, &fits, pod)),
        }
    }
}

/// Why no node takes a pod, in the words of the real one.
fn explanation(refusals: &[Vec<Reason>]) -> String {
    if refusals.is_empty() {
        return "no nodes available to schedule pods".to_owned();
    }
    let counted = |texts: &mut dyn Iterator<Item = String>| {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        texts.for_each(|text| *counts.entry(text).or_default() += 1);
        let mut lines: Vec<String> = counts.into_iter().map(|(text, count)| format!("{count} {text}")).collect();
        lines.sort();
        lines.join(", ")
    };
    let nodes = refusals.len();
    let reasons = counted(&mut refusals.iter().flatten().map(Reason::to_string));
    let victims = counted(&mut refusals.iter().map(|reasons| {
        let helpless = reasons.iter().any(|reason| !reason.ends_with_other_pods());
        let text = if helpless {
            "Preemption is not helpful for scheduling"
        } else {
            "No preemption victims found for incoming pod"
        };
        text.to_owned()
    }));
    format!(
        "0/{nodes} nodes are available: {reasons}. no new claims to deallocate, preemption: 0/{nodes} nodes are available: \
         {victims}."
    )
}

fn unschedulable(pod: &Object, message: &str, now: Timestamp) -> Vec<Write> {
    let mut after = pod.json().clone();
    let mut condition = json!({
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message,
        "lastProbeTime": null, "lastTransitionTime": transition(pod, "PodScheduled", "False", now),
    });
    if pod.generation() > 0 {
        condition["observedGeneration"] = json!(pod.generation());
    }
    set_condition(&mut after, condition);
    write_status(pod, after)
}

#[cfg(test)]
mod tests;
