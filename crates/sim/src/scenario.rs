//! What a scenario is: a world, what happens in it and when, and what has to hold.
//!
//! A scenario is data and knows nothing of where it is played; the same one is played on the embedded cluster and on a real
//! control plane. How it is written down is `read`'s business, whether it was kept is [`crate::expect`]'s.

mod read;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// The annotation of a pod that says how long it takes from running to ready.
pub use embedded_cluster::controllers::kubelet::READY_AFTER;
use serde::Deserialize;
use serde_json::{Value, json};

pub use read::{LONGEST, MOST_NODES, MOST_REPLICAS, Mistake, Mistakes, Place, parse_duration};
pub(crate) use read::{not_understood, optional_duration};

use crate::expect::Expectation;
use crate::world::NAMESPACE;

/// A scenario.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// What it is called: the name of its file.
    pub name: String,
    /// What it shows, in a sentence or two.
    pub about: String,
    /// How long it is looked at.
    pub lasts: Duration,
    /// Spotalis in it.
    pub spotalis: Installation,
    /// The nodes.
    pub nodes: Vec<Group>,
    /// Deployments and StatefulSets, said shortly.
    pub workloads: Vec<Workload>,
    /// Everything else that is there at the start, as manifests.
    pub objects: Vec<Value>,
    /// What happens, in order.
    pub events: Vec<Event>,
    /// What has to hold.
    pub expect: Vec<Expectation>,
    /// Why only the embedded cluster can play it, if that is so.
    pub only_embedded: Option<String>,
    /// Why it may end differently there, within what is expected, if it may.
    pub differs: Option<String>,
}

/// How Spotalis is installed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Installation {
    /// How many replicas of it run.
    pub replicas: u32,
    /// Its configuration: `controller.cooldown: 5s`.
    pub settings: BTreeMap<String, String>,
}

impl Default for Installation {
    fn default() -> Self {
        Self { replicas: 2, settings: BTreeMap::new() }
    }
}

/// The type of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Capacity {
    /// Cheap, and may be taken back.
    Spot,
    /// Stays.
    OnDemand,
    /// A node that says neither.
    Unknown,
}

impl Capacity {
    /// The word in labels; a node of unknown type has none.
    pub const fn word(self) -> Option<&'static str> {
        match self {
            Self::Spot => Some("spot"),
            Self::OnDemand => Some("on-demand"),
            Self::Unknown => None,
        }
    }
}

impl fmt::Display for Capacity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word().unwrap_or("unknown"))
    }
}

/// Nodes that are alike.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Group {
    /// What its nodes' names begin with.
    pub name: String,
    /// Their type.
    #[serde(rename = "type")]
    pub capacity: Capacity,
    /// How many there are to be.
    pub count: u32,
    /// How many pods each takes.
    #[serde(default = "Group::default_pods")]
    pub pods: u32,
    /// The CPU of each, as a quantity.
    #[serde(default = "Group::default_cpu")]
    pub cpu: String,
    /// The memory of each, as a quantity.
    #[serde(default = "Group::default_memory")]
    pub memory: String,
    /// The zones over which they are spread in turn.
    #[serde(default)]
    pub zones: Vec<String>,
    /// Whether its first nodes are closed to new pods until an event opens them.
    #[serde(default)]
    pub cordoned: bool,
    /// How long until a lost one is replaced; never, if absent.
    #[serde(default, deserialize_with = "read::optional_duration")]
    pub back_after: Option<Duration>,
}

impl Group {
    const fn default_pods() -> u32 {
        110
    }

    fn default_cpu() -> String {
        "16".to_owned()
    }

    fn default_memory() -> String {
        "64Gi".to_owned()
    }
}

/// A workload, said shortly.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Workload {
    /// Its name.
    pub name: String,
    /// Deployment, if nothing is said.
    #[serde(default)]
    pub kind: WorkloadKind,
    /// `spec.replicas`
    pub replicas: u32,
    /// The percentage on spot; absent, nobody asked.
    #[serde(default)]
    pub spot: Option<u32>,
    /// Replicas that stay on on-demand.
    #[serde(default)]
    pub floor: u32,
    /// `false` for one that Spotalis has nothing to do with.
    #[serde(default = "yes")]
    pub opted_in: bool,
    /// The CPU that each replica asks for.
    #[serde(default = "Workload::default_cpu")]
    pub cpu: String,
    /// `spec.maxUnavailable` of its PodDisruptionBudget; none, if absent.
    #[serde(default)]
    pub max_unavailable: Option<Value>,
    /// Whether its replicas are to be on different nodes where that can be.
    #[serde(default)]
    pub spread: bool,
    /// How long a replica takes from running to ready; at once, if absent.
    #[serde(default, deserialize_with = "read::optional_duration")]
    pub ready_after: Option<Duration>,
    /// Fields that are laid over its object, as a JSON merge patch (RFC 7386).
    #[serde(default)]
    pub patch: serde_json::Map<String, Value>,
}

const fn yes() -> bool {
    true
}

/// Who keeps a workload's replicas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum WorkloadKind {
    /// `apps/v1` Deployment
    #[default]
    Deployment,
    /// `apps/v1` StatefulSet
    StatefulSet,
}

impl WorkloadKind {
    /// The word in an object.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
            Self::StatefulSet => "StatefulSet",
        }
    }
}

impl Workload {
    fn default_cpu() -> String {
        "100m".to_owned()
    }

    /// The objects that it consists of.
    pub fn objects(&self) -> Vec<Value> {
        let Self { name, kind, replicas, spot, floor, opted_in, cpu, max_unavailable, spread, ready_after, patch } =
            self;
        let mut metadata = json!({"namespace": NAMESPACE, "name": name, "labels": {}, "annotations": {}});
        if *opted_in {
            metadata["labels"]["spotalis.io/enabled"] = json!("true");
        }
        if let Some(spot) = spot {
            metadata["annotations"]["spotalis.io/spot-percentage"] = json!(spot.to_string());
        }
        if *floor > 0 {
            metadata["annotations"]["spotalis.io/min-on-demand"] = json!(floor.to_string());
        }
        let container = json!({"name": "main", "image": "registry.example/app:1",
            "resources": {"requests": {"cpu": cpu, "memory": "64Mi"}}});
        let mut pod = json!({"terminationGracePeriodSeconds": 5, "containers": [container]});
        if *spread {
            pod["topologySpreadConstraints"] = json!([{"maxSkew": 1, "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": {"matchLabels": {"app": name}}}]);
        }
        let mut template = json!({"metadata": {"labels": {"app": name}}, "spec": pod});
        if let Some(after) = ready_after {
            template["metadata"]["annotations"] = json!({(READY_AFTER): format!("{}ms", after.as_millis())});
        }
        let mut spec = json!({"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template});
        if *kind == WorkloadKind::StatefulSet {
            spec["serviceName"] = json!(name);
        }
        let mut object = json!({"apiVersion": "apps/v1", "kind": kind.word(), "metadata": metadata, "spec": spec});
        json_patch::merge(&mut object, &Value::Object(patch.clone()));
        let budget = max_unavailable.as_ref().map(|most| {
            json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
                "metadata": {"namespace": NAMESPACE, "name": name},
                "spec": {"maxUnavailable": most, "selector": {"matchLabels": {"app": name}}}})
        });
        std::iter::once(object).chain(budget).collect()
    }
}

/// Something that happens at a time.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// From the moment on at which the workloads are created.
    pub at: Duration,
    /// What.
    pub happening: Happening,
}

/// What can happen.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Happening {
    /// Somebody scales a workload.
    Scale {
        /// Which one.
        workload: String,
        /// `spec.replicas`
        to: u32,
    },
    /// All pods of a workload are replaced, as by `kubectl rollout restart`.
    Restart(String),
    /// Labels and annotations of a workload are set, or removed by null.
    Set {
        /// Which one.
        workload: String,
        /// Labels.
        #[serde(default)]
        labels: BTreeMap<String, Option<String>>,
        /// Annotations.
        #[serde(default)]
        annotations: BTreeMap<String, Option<String>>,
    },
    /// The load of a workload with a `HorizontalPodAutoscaler` of the same name would need so many replicas.
    Load {
        /// Which one.
        workload: String,
        /// So many.
        wants: u32,
    },
    /// Nodes are taken back; a seed says which.
    Reclaim {
        /// Of which group.
        nodes: String,
        /// How many.
        count: Amount,
        /// How long before that is known.
        #[serde(default, deserialize_with = "read::duration")]
        notice: Duration,
    },
    /// From now on no more than so many nodes of a group can be had; null ends that.
    Available {
        /// Of which group.
        nodes: String,
        /// How many.
        count: Option<u32>,
    },
    /// All nodes of a zone are gone.
    FailZone(String),
    /// Nodes of a group are closed to new pods; a seed says which.
    Cordon {
        /// Of which group.
        nodes: String,
        /// How many.
        count: Amount,
    },
    /// All nodes of a group are open to new pods.
    Uncordon(String),
    /// A manifest is created, or laid over what is there.
    Apply(Value),
    /// An object is deleted.
    Delete {
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
    },
    /// Something happens to Spotalis itself.
    Spotalis(Turn),
}

/// What can happen to Spotalis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Turn {
    /// The replica that leads dies, and comes back a little later.
    Kill,
    /// The replica that leads ends in order, and a successor starts.
    Replace,
    /// All of them end.
    Stop,
    /// All of them start.
    Start,
}

/// A number of nodes, or a share of those that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// So many.
    Nodes(u32),
    /// So many of a hundred, rounded up.
    Percent(u32),
}

impl Amount {
    /// How many of so many.
    pub fn of(self, all: usize) -> usize {
        match self {
            Self::Nodes(nodes) => all.min(nodes as usize),
            Self::Percent(percent) => (all * percent.min(100) as usize).div_ceil(100),
        }
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nodes(nodes) => write!(f, "{nodes}"),
            Self::Percent(100) => f.write_str("all"),
            Self::Percent(percent) => write!(f, "{percent}% of the"),
        }
    }
}

impl fmt::Display for Happening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scale { workload, to } => write!(f, "{workload} is scaled to {to} replicas"),
            Self::Restart(workload) => write!(f, "{workload} is rolled out anew"),
            Self::Set { workload, labels, annotations } => {
                let said = labels.iter().chain(annotations).map(|(key, value)| match value {
                    Some(value) => format!("{key}={value}"),
                    None => format!("no {key}"),
                });
                write!(f, "{workload} gets {}", said.collect::<Vec<_>>().join(", "))
            }
            Self::Load { workload, wants } => write!(f, "the load of {workload} now needs {wants} replicas"),
            Self::Reclaim { nodes, count, notice } if notice.is_zero() => {
                write!(f, "{count} {nodes} nodes are taken back at once")
            }
            Self::Reclaim { nodes, count, notice } => {
                write!(f, "{count} {nodes} nodes will be taken back in {} s", notice.as_secs())
            }
            Self::Available { nodes, count: Some(0) } => write!(f, "no {nodes} node can be had any more"),
            Self::Available { nodes, count: Some(count) } => write!(f, "only {count} {nodes} nodes can be had"),
            Self::Available { nodes, count: None } => write!(f, "{nodes} nodes can be had again"),
            Self::FailZone(zone) => write!(f, "zone {zone} fails"),
            Self::Cordon { nodes, count } => write!(f, "{count} {nodes} nodes are closed to new pods"),
            Self::Uncordon(nodes) => write!(f, "the {nodes} nodes are open again"),
            Self::Apply(object) => {
                let word = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or("?").to_owned();
                write!(f, "{} {} is applied", word("/kind"), word("/metadata/name"))
            }
            Self::Delete { kind, name } => write!(f, "{kind} {name} is deleted"),
            Self::Spotalis(Turn::Kill) => f.write_str("the leading replica of Spotalis is killed"),
            Self::Spotalis(Turn::Replace) => f.write_str("the leading replica of Spotalis is replaced"),
            Self::Spotalis(Turn::Stop) => f.write_str("Spotalis is switched off"),
            Self::Spotalis(Turn::Start) => f.write_str("Spotalis is switched on"),
        }
    }
}
