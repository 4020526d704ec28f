//! What follows from the state of a node: its taints, and whether pods on it count as ready.
//!
//! It does not decide whether a node is ready; a kubelet, or whoever plays fate, says so in the node's conditions. Nor does
//! it evict: that is `taint_eviction`'s, and what lies on nodes that are gone is `pod_gc`'s.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::pods::{second, set_condition, write_object, write_status};
use crate::engine::{Act, Controller, Write};
use crate::matching::taint;
use crate::object::Object;
use crate::resource::Kind;
use crate::store::{Change, Key, Store};

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const CORDONED: &str = "node.kubernetes.io/unschedulable";
/// Conditions that keep pods away while they are true.
const PRESSURES: [(&str, &str); 4] = [
    ("MemoryPressure", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "node.kubernetes.io/network-unavailable"),
];

/// The controller of nodes.
#[derive(Clone, Copy, Debug)]
pub struct NodeLifecycle;

impl Controller for NodeLifecycle {
    fn name(&self) -> &'static str {
        "nodelifecycle"
    }

    fn touched(&self, store: &Store, change: &Change) -> Vec<Key> {
        match (change.key.kind, &change.after) {
            (Kind::Node, Some(_)) => vec![change.key.clone()],
            // A pod that says that it is ready though its node is not.
            (Kind::Pod, Some(pod)) if pod.has_condition("Ready") => {
                let node = Key::new(Kind::Node, "", pod.node());
                let down = store.get(&node).is_some_and(|node| is_down(node));
                if down { vec![node] } else { Vec::new() }
            }
            _ => Vec::new(),
        }
    }

    fn look(&self, store: &Store, key: &Key, now: Timestamp) -> Act {
        let Some(node) = store.get(key) else { return Act::none() };
        let mut writes = tainted(node, now);
        if is_down(node) {
            let ready = store.pods_on(node.name()).map(|(_, pod)| pod).filter(|pod| pod.has_condition("Ready"));
            writes.extend(ready.flat_map(|pod| not_ready(pod, now)));
        }
        Act::now(writes)
    }
}

/// Whether a node says that it is not ready, or nobody knows.
fn is_down(node: &Object) -> bool {
    node.condition("Ready").is_some_and(|ready| ready["status"] != "True")
}

/// The taints that a node is to have of those that this controller sets.
fn due(node: &Object) -> Vec<(&'static str, &'static str)> {
    let mut taints = Vec::new();
    match node.condition("Ready").and_then(|ready| ready["status"].as_str()) {
        Some("False") => taints.extend([(NOT_READY, "NoSchedule"), (NOT_READY, "NoExecute")]),
        Some("Unknown") => taints.extend([(UNREACHABLE, "NoSchedule"), (UNREACHABLE, "NoExecute")]),
        Some(_) | None => {}
    }
    taints.extend(
        PRESSURES.iter().filter(|(condition, _)| node.has_condition(condition)).map(|(_, key)| (*key, "NoSchedule")),
    );
    if node.is("/spec/unschedulable") {
        taints.push((CORDONED, "NoSchedule"));
    }
    taints
}

fn is_ours(key: &str) -> bool {
    [NOT_READY, UNREACHABLE, CORDONED].contains(&key) || PRESSURES.iter().any(|(_, taint)| *taint == key)
}

fn tainted(node: &Object, now: Timestamp) -> Vec<Write> {
    let due = due(node);
    let there = node.list("/spec/taints");
    // A node that has not said anything yet keeps what it was registered with.
    let silent = node.condition("Ready").is_none();
    let kept = |value: &&Value| {
        let taint = taint(value);
        !is_ours(taint.key) || silent && taint.key == NOT_READY || due.contains(&(taint.key, taint.effect))
    };
    let mut taints: Vec<Value> = there.iter().filter(kept).cloned().collect();
    for (key, effect) in &due {
        let has = taints.iter().map(taint).any(|taint| (taint.key, taint.effect) == (*key, *effect));
        if !has {
            taints.push(json!({"key": key, "effect": effect, "timeAdded": second(now)}));
        }
    }
    if taints == there {
        return Vec::new();
    }
    let mut after = node.json().clone();
    match after["spec"].as_object_mut() {
        Some(spec) if taints.is_empty() => drop(spec.remove("taints")),
        _ => after["spec"]["taints"] = json!(taints),
    }
    write_object(node, after)
}

fn not_ready(pod: &Object, now: Timestamp) -> Vec<Write> {
    let Some(mut condition) = pod.condition("Ready").cloned() else { return Vec::new() };
    condition["status"] = json!("False");
    condition["lastTransitionTime"] = json!(second(now));
    let mut after = pod.json().clone();
    set_condition(&mut after, condition);
    write_status(pod, after)
}

#[cfg(test)]
mod tests;
