//! Describes pretend nodes: what they are called, labelled, tainted, and how much fits on them.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, NodeSpec, NodeStatus, Taint};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::api::ObjectMeta;

/// The label by which Karpenter, and whoever follows it, tells capacity types apart.
const CAPACITY_TYPE: &str = "karpenter.sh/capacity-type";
/// Zones are given out in turn.
const ZONES: [&str; 3] = ["zone-a", "zone-b", "zone-c"];

/// How much fits on a node, as Kubernetes quantities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    /// Processor, such as `32`.
    pub cpu: String,
    /// Memory, such as `256Gi`.
    pub memory: String,
    /// Number of pods.
    pub pods: u32,
}

impl Default for Room {
    /// As much as a large machine has, with Kubernetes' usual number of pods.
    fn default() -> Self {
        Self { cpu: "32".to_owned(), memory: "256Gi".to_owned(), pods: 110 }
    }
}

/// What kind of capacity a node pretends to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NodeKind {
    /// `karpenter.sh/capacity-type=spot`.
    Spot,
    /// `karpenter.sh/capacity-type=on-demand`.
    OnDemand,
    /// No label that says so.
    Unlabelled,
}

impl NodeKind {
    const fn word(self) -> &'static str {
        match self {
            Self::Spot => "spot",
            Self::OnDemand => "on-demand",
            Self::Unlabelled => "node",
        }
    }
}

/// A node to be created.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FakeNode {
    /// Its name.
    pub name: String,
    /// Its labels, besides host name, architecture and operating system.
    pub labels: BTreeMap<String, String>,
    /// Its taints.
    pub taints: Vec<Taint>,
    /// How much fits on it.
    pub room: Room,
}

impl FakeNode {
    /// The `number`th node of a kind, counted from 0: `spot-0`, `on-demand-7`.
    pub fn numbered(kind: NodeKind, number: u32) -> Self {
        let name = format!("{}-{number}", kind.word());
        let zone = ZONES[number as usize % ZONES.len()];
        let mut labels = BTreeMap::from([
            ("topology.kubernetes.io/region".to_owned(), "region".to_owned()),
            ("topology.kubernetes.io/zone".to_owned(), zone.to_owned()),
        ]);
        match kind {
            NodeKind::Spot | NodeKind::OnDemand => {
                labels.insert(CAPACITY_TYPE.to_owned(), kind.word().to_owned());
            }
            NodeKind::Unlabelled => {}
        }
        Self { name, labels, ..Self::default() }
    }

    /// The object to create. KWOK makes it ready and keeps its lease.
    pub(crate) fn object(&self) -> Node {
        let Self { name, labels, taints, room: Room { cpu, memory, pods } } = self;
        let mut labels = labels.clone();
        for (key, value) in
            [("kubernetes.io/hostname", name.as_str()), ("kubernetes.io/arch", "amd64"), ("kubernetes.io/os", "linux")]
        {
            labels.entry(key.to_owned()).or_insert_with(|| value.to_owned());
        }
        let room = BTreeMap::from([
            ("cpu".to_owned(), Quantity(cpu.clone())),
            ("memory".to_owned(), Quantity(memory.clone())),
            ("pods".to_owned(), Quantity(pods.to_string())),
        ]);
        Node {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                labels: Some(labels),
                annotations: Some(BTreeMap::from([("kwok.x-k8s.io/node".to_owned(), "fake".to_owned())])),
                ..ObjectMeta::default()
            },
            spec: Some(NodeSpec {
                provider_id: Some(format!("rig://{name}")),
                taints: Some(taints.clone()).filter(|taints| !taints.is_empty()),
                ..NodeSpec::default()
            }),
            status: Some(NodeStatus { allocatable: Some(room.clone()), capacity: Some(room), ..NodeStatus::default() }),
        }
    }
}

/// Whether the scheduler would use it: the Ready condition is true, and the taint of its beginnings is gone.
pub(crate) fn is_usable(node: &Node) -> bool {
    let ready = node
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten())
        .any(|condition| condition.type_ == "Ready" && condition.status == "True");
    let mut taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    ready && taints.all(|taint| taint.key != "node.kubernetes.io/not-ready")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_apart_by_the_label() {
        let label = |kind| FakeNode::numbered(kind, 4).labels.get(CAPACITY_TYPE).cloned();
        assert_eq!(label(NodeKind::Spot).as_deref(), Some("spot"));
        assert_eq!(label(NodeKind::OnDemand).as_deref(), Some("on-demand"));
        assert_eq!(label(NodeKind::Unlabelled), None);
    }

    #[test]
    fn own_labels_win_over_the_usual_ones() {
        let labels = BTreeMap::from([("kubernetes.io/arch".to_owned(), "arm64".to_owned())]);
        let object = FakeNode { name: "n".to_owned(), labels, ..FakeNode::default() }.object();
        let labels = object.metadata.labels.unwrap();
        assert_eq!(labels["kubernetes.io/arch"], "arm64");
        assert_eq!(labels["kubernetes.io/hostname"], "n");
    }

    #[test]
    fn a_new_node_is_not_usable() {
        assert!(!is_usable(&FakeNode::numbered(NodeKind::Spot, 0).object()));
    }
}
