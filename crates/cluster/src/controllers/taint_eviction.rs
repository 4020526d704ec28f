//! Pods on nodes that they may not stay on (`NoExecute` taints): they go at once, or when their patience is over.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::pods::{delete, is_over, second, set_condition, write_status};
use crate::engine::{Act, Controller, Write};
use crate::matching::{taint, tolerates};
use crate::object::Object;
use crate::resource::Kind;
use crate::store::{Change, Key, Store};

/// The controller that evicts because of taints.
#[derive(Clone, Copy, Debug)]
pub struct TaintEviction;

impl Controller for TaintEviction {
    fn name(&self) -> &'static str {
        "tainteviction"
    }

    fn touched(&self, store: &Store, change: &Change) -> Vec<Key> {
        match (change.key.kind, &change.before, &change.after) {
            (Kind::Node, before, Some(after)) => {
                let same = before.as_ref().is_some_and(|before| before.at("/spec/taints") == after.at("/spec/taints"));
                store.pods_on(after.name()).filter(|_| !same).map(|(key, _)| key.clone()).collect()
            }
            (Kind::Pod, before, Some(after)) if !after.node().is_empty() => {
                let same = before.as_ref().is_some_and(|before| before.at("/spec") == after.at("/spec"));
                if same { Vec::new() } else { vec![change.key.clone()] }
            }
            _ => Vec::new(),
        }
    }

    fn look(&self, store: &Store, key: &Key, now: Timestamp) -> Act {
        let Some(pod) = store.get(key).filter(|pod| pod.deletion().is_none() && !is_over(pod)) else {
            return Act::none();
        };
        let node = store.get(&Key::new(Kind::Node, "", pod.node()));
        match node.and_then(|node| leave(pod, node, now)) {
            Some(due) if due <= now => Act { batches: vec![disrupted(pod, now), vec![delete(key, pod)]], again: None },
            due => Act::at(due),
        }
    }
}

/// When a pod has to leave its node; never if `None`.
fn leave(pod: &Object, node: &Object, now: Timestamp) -> Option<Timestamp> {
    let taints: Vec<&Value> = node.list("/spec/taints").iter().filter(|taint| taint["effect"] == "NoExecute").collect();
    let since = taints.iter().filter_map(|taint| time(&taint["timeAdded"])).min();
    // Whoever came later has the same patience, from then on.
    let bound = pod.condition("PodScheduled").and_then(|condition| time(&condition["lastTransitionTime"]));
    let since = since.max(bound).unwrap_or(now);
    let mut patience: Option<i64> = None;
    for value in taints {
        // The first that tolerates it counts, whatever others say.
        let Some(toleration) = pod.list("/spec/tolerations").iter().find(|it| tolerates(it, taint(value))) else {
            return Some(now);
        };
        let seconds = toleration["tolerationSeconds"].as_i64();
        patience = seconds.map(|seconds| seconds.max(0)).into_iter().chain(patience).min();
    }
    since.checked_add(SignedDuration::from_secs(patience?)).ok()
}

fn time(value: &Value) -> Option<Timestamp> {
    value.as_str()?.parse().ok()
}

fn disrupted(pod: &Object, now: Timestamp) -> Vec<Write> {
    let mut after = pod.json().clone();
    set_condition(
        &mut after,
        json!({
            "type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager",
            "message": "Taint manager: deleting due to NoExecute taint", "lastTransitionTime": second(now),
        }),
    );
    write_status(pod, after)
}
