//! Nodes: their class, their room, and the pods that must be counted again when a node turns out to be something else.

use std::collections::BTreeSet;
use std::sync::Arc;

use spotalis_core::capacity::CapacityType;
use spotalis_core::fit::{Resources, Taint, parse_quantity};
use spotalis_core::selector::Labels;

use super::{Epoch, Index, PodKey, convert};
use crate::slim;

#[derive(Debug)]
pub(super) struct NodeRecord {
    pub labels: Labels,
    /// By the labels: spot, on-demand, or neither or both.
    pub class: Option<CapacityType>,
    pub taints: Vec<Taint>,
    pub ready: bool,
    pub cordoned: bool,
    pub allocatable: Resources,
    pub pod_capacity: u32,
    pub epoch: Epoch,
}

impl NodeRecord {
    /// Whether both offer the same to a pod: a heartbeat changes nothing.
    fn offers_as(&self, other: &Self) -> bool {
        let Self { labels, class, taints, ready, cordoned, allocatable, pod_capacity, epoch: _ } = self;
        (labels, class, taints) == (&other.labels, &other.class, &other.taints)
            && (ready, cordoned) == (&other.ready, &other.cordoned)
            && (allocatable, pod_capacity) == (&other.allocatable, &other.pod_capacity)
    }
}

/// The pods bound to a node, seen or not, and what they request together.
#[derive(Debug, Default)]
pub(super) struct Usage {
    pub pods: BTreeSet<PodKey>,
    pub requested: Resources,
}

impl Index {
    /// A node was seen.
    pub fn apply_node(&mut self, object: &slim::Node, epoch: Epoch) {
        let name = self.strings.intern(&*object.metadata.name);
        let pod_capacity =
            object.status.allocatable.get("pods").and_then(|slim::Quantity(text)| parse_quantity(text, 1));
        let record = NodeRecord {
            class: self.rules.classes.classify(&object.metadata.labels),
            labels: object.metadata.labels.clone(),
            taints: convert::taints(object),
            ready: convert::is_true(&object.status.conditions, "Ready"),
            cordoned: object.spec.unschedulable,
            allocatable: convert::resources(&object.status.allocatable),
            pod_capacity: pod_capacity.and_then(|pods| u32::try_from(pods).ok()).unwrap_or(0),
            epoch,
        };
        let old = self.nodes.get(&name);
        let (classified, changed) =
            old.map_or((true, true), |old| (old.class != record.class, !old.offers_as(&record)));
        self.nodes.insert(name.clone(), record);
        self.room_changed |= changed;
        if classified {
            self.recount_node(&name);
        }
    }

    /// A node is gone.
    pub fn delete_node(&mut self, name: &str) {
        if self.nodes.remove(name).is_some() {
            self.recount_node(name);
        }
    }

    pub(super) fn classify_all_nodes(&mut self) {
        let names: Vec<Arc<str>> = self.nodes.keys().cloned().collect();
        for name in names {
            if let Some(record) = self.nodes.get_mut(&name) {
                record.class = self.rules.classes.classify(&record.labels);
            }
            self.recount_node(&name);
        }
    }

    /// Counts the node's pods as what they are now.
    fn recount_node(&mut self, name: &str) {
        let pods: Vec<PodKey> = self.usage.get(name).into_iter().flat_map(|usage| usage.pods.iter().cloned()).collect();
        pods.iter().for_each(|key| self.recount_pod(key));
    }

    pub(super) fn occupy(&mut self, node: &Arc<str>, pod: &PodKey, requests: &Resources) {
        let usage = self.usage.entry(node.clone()).or_default();
        if usage.pods.insert(pod.clone()) {
            usage.requested.add(requests);
        }
    }

    pub(super) fn vacate(&mut self, node: &str, pod: &PodKey, requests: &Resources) {
        let Some(usage) = self.usage.get_mut(node) else { return };
        if usage.pods.remove(pod) {
            usage.requested.subtract(requests);
        }
        if usage.pods.is_empty() {
            self.usage.remove(node);
        }
    }
}
