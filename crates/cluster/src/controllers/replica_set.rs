//! ReplicaSets: as many pods as asked for, from the template, and a status that says how many there are.
//!
//! It never looks at what the pods' template became; replacing old pods is the Deployment's business.

mod ranking;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

pub use self::ranking::DELETION_COST;
use super::claim::{claimants, claims};
use super::pods::{delete, from_template, is_active, is_controlled_by, is_over, ready_since, second, write_status};
use crate::engine::{Act, Controller, Refused, Verb, Write, slow_start};
use crate::object::Object;
use crate::resource::Kind;
use crate::store::{Alike, Change, Crowd, Key, Store};

/// The most pods that one pass creates or deletes.
const BURST: usize = 500;
/// The condition of a set whose last write was refused.
const FAILURE: &str = "ReplicaFailure";

/// The controller of ReplicaSets.
#[derive(Clone, Copy, Debug)]
pub struct ReplicaSets;

impl Controller for ReplicaSets {
    fn name(&self) -> &'static str {
        "replicaset"
    }

    fn touched(&self, store: &Store, change: &Change) -> Vec<Key> {
        match change.key.kind {
            Kind::ReplicaSet => vec![change.key.clone()],
            Kind::Pod => {
                let matters = matters(change.before.as_deref(), change.after.as_deref());
                let versions = [&change.before, &change.after].into_iter().flatten();
                let sets = versions.flat_map(|pod| claimants(store, pod, Kind::ReplicaSet));
                sets.filter(|set| matters || has_failed(store, set)).collect()
            }
            _ => Vec::new(),
        }
    }

    fn look(&self, store: &Store, key: &Key, now: Timestamp) -> Act {
        let Some(set) = store.get(key) else { return Act::none() };
        let claims = claims(store, set, Kind::Pod);
        if !claims.is_empty() {
            return Act::now(claims);
        }
        let moves = if set.deletion().is_some() { Vec::new() } else { manage(store, set, now) };
        if !moves.is_empty() {
            return Act { batches: moves, again: None };
        }
        let writes = write_status(set, with_status(store, set, Failure::None, now));
        if !writes.is_empty() {
            return Act::now(writes);
        }
        let available = active(store, set).filter_map(|(alike, _)| available_from(set, alike));
        Act::at(available.filter(|from| *from > now).min())
    }

    fn refused(&self, store: &Store, key: &Key, verb: Verb, refused: &Refused, now: Timestamp) -> Vec<Write> {
        let Some(set) = store.get(key) else { return Vec::new() };
        let reason = match verb {
            Verb::Create => "FailedCreate",
            Verb::Delete => "FailedDelete",
            Verb::Replace | Verb::Bind => return Vec::new(),
        };
        let failure = Failure::Some { reason, message: &refused.message };
        write_status(set, with_status(store, set, failure, now))
    }
}

/// Whether a change of a pod can change anything about a set. Most do not.
fn matters(before: Option<&Object>, after: Option<&Object>) -> bool {
    let (Some(before), Some(after)) = (before, after) else { return true };
    let same = |part: &str| before.at(part) == after.at(part);
    ready_since(before) != ready_since(after)
        || is_over(before) != is_over(after)
        || before.deletion() != after.deletion()
        || !["/metadata/labels", "/metadata/ownerReferences"].into_iter().all(same)
}

/// What was refused is tried again with every change of a pod, as the real one does it.
fn has_failed(store: &Store, set: &Key) -> bool {
    store.get(set).is_some_and(|set| set.condition(FAILURE).is_some())
}

fn min_ready_seconds(set: &Object) -> i64 {
    set.number("/spec/minReadySeconds").unwrap_or(0)
}

/// Those of the pods that count.
fn active<'s>(store: &'s Store, set: &Object) -> impl Iterator<Item = (&'s Alike, &'s Crowd)> {
    store.crowds(set).filter(|(alike, _)| !alike.is_over && !alike.is_ending)
}

/// When pods are available, if they are ready.
fn available_from(set: &Object, alike: &Alike) -> Option<Timestamp> {
    alike.ready_since?.checked_add(SignedDuration::from_secs(min_ready_seconds(set))).ok()
}

fn sum<'s>(crowds: impl Iterator<Item = (&'s Alike, &'s Crowd)>) -> usize {
    crowds.map(|(_, crowd)| crowd.count).sum()
}

type Pods<'s> = Vec<(&'s Key, &'s Arc<Object>)>;

/// The pods that count, one by one.
pub fn active_pods<'s>(store: &'s Store, set: &Object) -> Pods<'s> {
    let ours =
        |(key, pod): &(&Key, &Arc<Object>)| key.kind == Kind::Pod && is_controlled_by(pod, set) && is_active(pod);
    store.owned_by(set.uid()).filter(ours).collect()
}

/// The creations or deletions that bring the number of pods to what is asked for.
fn manage(store: &Store, set: &Object, now: Timestamp) -> Vec<Vec<Write>> {
    let wanted = usize::try_from(set.number("/spec/replicas").unwrap_or(1)).unwrap_or(0);
    let there = sum(active(store, set));
    if there < wanted {
        let pod = from_template(set.at("/spec/template"), set);
        return slow_start(vec![Write::Create(pod); (wanted - there).min(BURST)]);
    }
    let surplus = (there - wanted).min(BURST);
    if surplus == 0 {
        return Vec::new();
    }
    vec![
        ranked(store, set, &active_pods(store, set), now)
            .into_iter()
            .take(surplus)
            .map(|(key, pod)| delete(key, pod))
            .collect(),
    ]
}

/// The pods in the order in which they go.
fn ranked<'s>(store: &Store, set: &Object, pods: &Pods<'s>, now: Timestamp) -> Pods<'s> {
    let mut on_node: BTreeMap<&str, usize> = BTreeMap::new();
    for set in siblings(store, set) {
        for (_, pod) in active_pods(store, set) {
            *on_node.entry(pod.node()).or_default() += 1;
        }
    }
    let beside = |pod: &Object| on_node.get(pod.node()).copied().unwrap_or(0);
    ranking::in_order(pods, &|(_, a), (_, b)| ranking::compare((a, beside(a)), (b, beside(b)), now))
}

/// The set and those of the same Deployment.
fn siblings<'s>(store: &'s Store, set: &'s Object) -> Vec<&'s Object> {
    let Some(owner) = set.controller() else { return vec![set] };
    let of_owner = store.owned_by(owner.uid).filter(|(key, _)| key.kind == Kind::ReplicaSet);
    of_owner.map(|(_, set)| &**set).collect()
}

/// What a pass came to.
#[derive(Clone, Copy)]
enum Failure<'a> {
    None,
    Some { reason: &'static str, message: &'a str },
}

fn with_status(store: &Store, set: &Object, failure: Failure<'_>, now: Timestamp) -> Value {
    let template = set.at("/spec/template/metadata/labels").as_object();
    let has_all = |pod: &Object| template.into_iter().flatten().all(|(key, value)| pod.label(key) == value.as_str());
    let count =
        |test: &dyn Fn(&Alike, &Object) -> bool| sum(active(store, set).filter(|(alike, of)| test(alike, &of.one)));
    let terminating = sum(store.crowds(set).filter(|(alike, _)| alike.is_ending && !alike.is_over));
    let mut after = set.json().clone();
    let status = &mut after["status"];
    if !status.is_object() {
        *status = json!({});
    }
    status["replicas"] = json!(count(&|_, _| true));
    status["observedGeneration"] = json!(set.generation());
    status["terminatingReplicas"] = json!(terminating);
    put_count(status, "fullyLabeledReplicas", count(&|_, one| has_all(one)));
    put_count(status, "readyReplicas", count(&|alike, _| alike.ready_since.is_some()));
    put_count(
        status,
        "availableReplicas",
        count(&|alike, _| available_from(set, alike).is_some_and(|from| from <= now)),
    );
    put_failure(set, status, failure, now);
    after
}

/// Counts of zero are left out, as the API does.
fn put_count(status: &mut Value, name: &str, count: usize) {
    if count > 0 {
        status[name] = json!(count);
    } else if let Some(status) = status.as_object_mut() {
        status.remove(name);
    }
}

fn put_failure(set: &Object, status: &mut Value, failure: Failure<'_>, now: Timestamp) {
    let there = set.condition(FAILURE).is_some();
    let Some(fields) = status.as_object_mut() else { return };
    match failure {
        Failure::Some { reason, message } if !there => {
            let condition = json!({
                "type": FAILURE, "status": "True", "reason": reason, "message": message,
                "lastTransitionTime": second(now),
            });
            fields.insert("conditions".to_owned(), json!([condition]));
        }
        Failure::None if there => {
            fields.remove("conditions");
        }
        Failure::Some { .. } | Failure::None => {}
    }
}

#[cfg(test)]
mod tests;
