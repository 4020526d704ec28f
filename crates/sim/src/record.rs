//! What happened, written down while it happens: pods and nodes as they come and go, what Spotalis told, and what was done to
//! the world.
//!
//! Whoever watches a cluster, the embedded one or a real one, hands every version of every object to a [`Recorder`]; it
//! keeps the [`Moment`]s worth telling. It takes nothing from Spotalis but what everybody can read in the cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::fleet::CAPACITY_TYPE;
use crate::scenario::Capacity;

/// The label with a node's type.
/// What a pod was steered to, and why.
const STEERED_TO: &str = "spotalis.io/capacity-type";
const REASON: &str = "spotalis.io/placement-reason";

/// Something that is worth telling.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "moment", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Moment {
    /// Something was done to the world, as the scenario has it.
    Happened {
        /// In words.
        what: String,
    },
    /// A node came.
    NodeCame {
        /// Its name.
        node: String,
        /// Its type.
        capacity: Capacity,
    },
    /// A node went.
    NodeWent {
        /// Its name.
        node: String,
        /// Its type.
        capacity: Capacity,
    },
    /// A pod was created, steered by Spotalis.
    Steered {
        /// Its workload, as `NAMESPACE/NAME`.
        workload: String,
        /// Its name.
        pod: String,
        /// To which type.
        to: String,
        /// Why, in Spotalis's words.
        why: String,
    },
    /// A pod is evicted, by whomever.
    Evicted {
        /// Its workload, as `NAMESPACE/NAME`.
        workload: String,
        /// Its name.
        pod: String,
        /// The type of its node.
        capacity: Capacity,
    },
    /// The pods of a workload are others than before.
    Counted {
        /// Which one, as `NAMESPACE/NAME`.
        workload: String,
        /// How many there are now.
        counts: Counts,
    },
    /// Spotalis told something, as an Event.
    Told {
        /// Its reason.
        reason: String,
        /// About what, as `KIND NAMESPACE/NAME`.
        about: String,
        /// The note.
        note: String,
        /// Whether it is a warning.
        warning: bool,
    },
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Happened { what } => write!(f, "* {what}"),
            Self::NodeCame { node, capacity } => write!(f, "node {node} came: {capacity}"),
            Self::NodeWent { node, capacity } => write!(f, "node {node} went: {capacity}"),
            Self::Steered { workload: _, pod, to, why } => write!(f, "{pod} is steered to {to}: {why}"),
            Self::Evicted { workload: _, pod, capacity } => write!(f, "{pod} is evicted from {capacity}"),
            Self::Counted { workload, counts } => write!(f, "{workload}: {counts}"),
            Self::Told { reason, about, note, warning: _ } => write!(f, "{reason} is told about {about}: {note}"),
        }
    }
}

/// The pods of a workload. Pods that end are not among them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// `spec.replicas`
    pub wanted: u32,
    /// Those that are ready, by the type of their node.
    pub ready: Sides,
    /// Those that have a node, by its type.
    pub placed: Sides,
    /// Those that have none yet, or one that does not exist.
    pub pending: u32,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { wanted, ready, placed, pending } = self;
        let Sides { spot, on_demand, unknown } = ready;
        write!(f, "{} of {wanted} are ready, {spot} on spot, {on_demand} on on-demand", ready.total())?;
        if *unknown > 0 {
            write!(f, ", {unknown} on nodes that say neither")?;
        }
        let others = placed.total().saturating_sub(ready.total()) + pending;
        if others > 0 { write!(f, "; {others} not yet") } else { Ok(()) }
    }
}

/// A number for each type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Sides {
    /// On spot nodes.
    pub spot: u32,
    /// On on-demand nodes.
    pub on_demand: u32,
    /// On nodes that say neither.
    pub unknown: u32,
}

impl Sides {
    /// Of all types.
    pub const fn total(self) -> u32 {
        self.spot + self.on_demand + self.unknown
    }

    fn add(&mut self, capacity: Capacity) {
        match capacity {
            Capacity::Spot => self.spot += 1,
            Capacity::OnDemand => self.on_demand += 1,
            Capacity::Unknown => self.unknown += 1,
        }
    }
}

/// What happened, from the beginning to the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Record {
    /// How long it was looked at.
    pub lasted: Duration,
    /// In order.
    pub moments: Vec<(Duration, Moment)>,
}

/// Writes down what it is shown. Clones write into the same record.
#[derive(Clone)]
pub struct Recorder(Arc<Shared>);

struct Shared {
    seen: Mutex<Seen>,
    news: Notify,
}

struct Seen {
    begun: Instant,
    moments: Vec<(Duration, Moment)>,
    nodes: BTreeMap<String, Capacity>,
    /// The workload of each ReplicaSet, by UID.
    sets: BTreeMap<String, String>,
    workloads: BTreeMap<String, Workload>,
    /// The workload of each pod, by UID.
    owners: BTreeMap<String, String>,
    told: BTreeSet<String>,
}

#[derive(Default)]
struct Workload {
    wanted: u32,
    last: Option<Counts>,
    pods: BTreeMap<String, Pod>,
}

struct Pod {
    node: String,
    /// The type of its node; none if there never was such a node.
    capacity: Option<Capacity>,
    ready: bool,
    ending: bool,
    evicted: bool,
}

impl Default for Recorder {
    fn default() -> Self {
        let seen = Seen {
            begun: Instant::now(),
            moments: Vec::new(),
            nodes: BTreeMap::new(),
            sets: BTreeMap::new(),
            workloads: BTreeMap::new(),
            owners: BTreeMap::new(),
            told: BTreeSet::new(),
        };
        Self(Arc::new(Shared { seen: Mutex::new(seen), news: Notify::new() }))
    }
}

impl Recorder {
    /// The record begins now: what was before is known, and not told.
    pub fn begin(&self) {
        let mut seen = self.0.seen.lock();
        seen.begun = Instant::now();
        seen.moments.clear();
        let nodes: Vec<Moment> = seen
            .nodes
            .iter()
            .map(|(node, capacity)| Moment::NodeCame { node: node.clone(), capacity: *capacity })
            .collect();
        nodes.into_iter().for_each(|moment| seen.tell(moment));
    }

    /// A version of an object, or its last one.
    pub fn see(&self, object: &Value, is_gone: bool) {
        let mut seen = self.0.seen.lock();
        let before = seen.moments.len();
        match text(object, "/kind") {
            "Node" => seen.node(object, is_gone),
            "Pod" => seen.pod(object, is_gone),
            "ReplicaSet" => seen.set(object, is_gone),
            "Deployment" | "StatefulSet" => seen.workload(object, is_gone),
            "Event" if !is_gone => seen.event(object),
            _ => {}
        }
        if seen.moments.len() > before {
            self.0.news.notify_one();
        }
    }

    /// Something was done to the world.
    pub fn happened(&self, what: String) {
        self.0.seen.lock().tell(Moment::Happened { what });
        self.0.news.notify_one();
    }

    /// Returns once there may be moments that were not taken yet.
    pub async fn news(&self) {
        self.0.news.notified().await;
    }

    /// The moments from the so-manieth on.
    pub fn since(&self, number: usize) -> Vec<(Duration, Moment)> {
        self.0.seen.lock().moments.get(number..).unwrap_or_default().to_vec()
    }

    /// All of it, until now.
    pub fn record(&self) -> Record {
        let seen = self.0.seen.lock();
        Record { lasted: seen.begun.elapsed(), moments: seen.moments.clone() }
    }
}

impl Seen {
    fn tell(&mut self, moment: Moment) {
        self.moments.push((self.begun.elapsed(), moment));
    }

    fn node(&mut self, object: &Value, is_gone: bool) {
        let node = text(object, "/metadata/name").to_owned();
        let capacity = match object.pointer("/metadata/labels").map(|labels| labels[CAPACITY_TYPE].as_str()) {
            Some(Some("spot")) => Capacity::Spot,
            Some(Some("on-demand")) => Capacity::OnDemand,
            _ => Capacity::Unknown,
        };
        if is_gone {
            if let Some(capacity) = self.nodes.remove(&node) {
                self.tell(Moment::NodeWent { node, capacity });
            }
        } else if self.nodes.insert(node.clone(), capacity).is_none() {
            self.tell(Moment::NodeCame { node, capacity });
        }
    }

    fn set(&mut self, object: &Value, is_gone: bool) {
        let uid = text(object, "/metadata/uid");
        if is_gone {
            self.sets.remove(uid);
        } else if let Some(("Deployment", _, name)) = controller(object) {
            self.sets.insert(uid.to_owned(), format!("{}/{name}", text(object, "/metadata/namespace")));
        }
    }

    fn workload(&mut self, object: &Value, is_gone: bool) {
        let name = format!("{}/{}", text(object, "/metadata/namespace"), text(object, "/metadata/name"));
        let wanted = object.pointer("/spec/replicas").and_then(Value::as_u64).unwrap_or(1);
        let wanted = if is_gone { 0 } else { u32::try_from(wanted).unwrap_or(u32::MAX) };
        self.workloads.entry(name.clone()).or_default().wanted = wanted;
        self.count(&name);
    }

    fn pod(&mut self, object: &Value, is_gone: bool) {
        let uid = text(object, "/metadata/uid");
        let Some(name) = self.owners.get(uid).cloned().or_else(|| self.owner(object)) else { return };
        let over = matches!(text(object, "/status/phase"), "Succeeded" | "Failed");
        if is_gone || over {
            self.owners.remove(uid);
            if let Some(workload) = self.workloads.get_mut(&name) {
                workload.pods.remove(uid);
            }
            return self.count(&name);
        }
        let is_new = self.owners.insert(uid.to_owned(), name.clone()).is_none();
        let node = text(object, "/spec/nodeName").to_owned();
        let workload = self.workloads.entry(name.clone()).or_default();
        let before = workload.pods.get(uid);
        // The type of a node that is gone already is the one that it had.
        let known = before.filter(|pod| pod.node == node).and_then(|pod| pod.capacity);
        let capacity = known.or_else(|| self.nodes.get(&node).copied());
        let was_evicted = before.is_some_and(|pod| pod.evicted);
        let evicted = was_evicted
            || conditions(object).any(|it| it["type"] == "DisruptionTarget" && it["reason"] == "EvictionByEvictionAPI");
        let ready = conditions(object).any(|it| it["type"] == "Ready" && it["status"] == "True");
        let ending = object.pointer("/metadata/deletionTimestamp").is_some_and(|at| !at.is_null());
        workload.pods.insert(uid.to_owned(), Pod { node, capacity, ready, ending, evicted });
        let pod = text(object, "/metadata/name").to_owned();
        if let Some(to) = annotation(object, "labels", STEERED_TO).filter(|_| is_new) {
            let why = annotation(object, "annotations", REASON).unwrap_or_default().to_owned();
            self.tell(Moment::Steered { workload: name.clone(), pod: pod.clone(), to: to.to_owned(), why });
        }
        if evicted && !was_evicted {
            let capacity = capacity.unwrap_or(Capacity::Unknown);
            self.tell(Moment::Evicted { workload: name.clone(), pod, capacity });
        }
        self.count(&name);
    }

    /// The workload of a pod.
    fn owner(&self, object: &Value) -> Option<String> {
        match controller(object)? {
            ("ReplicaSet", uid, _) => self.sets.get(uid).cloned(),
            ("StatefulSet", _, name) => Some(format!("{}/{name}", text(object, "/metadata/namespace"))),
            _ => None,
        }
    }

    fn event(&mut self, object: &Value) {
        let reporter = text(object, "/reportingController");
        if !reporter.contains("spotalis") || !self.told.insert(text(object, "/metadata/uid").to_owned()) {
            return;
        }
        let about = object.pointer("/regarding").unwrap_or(&Value::Null);
        let [kind, namespace, name] =
            ["kind", "namespace", "name"].map(|key| about[key].as_str().unwrap_or_default().to_owned());
        let about = if namespace.is_empty() { format!("{kind} {name}") } else { format!("{kind} {namespace}/{name}") };
        self.tell(Moment::Told {
            reason: text(object, "/reason").to_owned(),
            about,
            note: text(object, "/note").to_owned(),
            warning: text(object, "/type") == "Warning",
        });
    }

    fn count(&mut self, name: &str) {
        let Some(workload) = self.workloads.get_mut(name) else { return };
        let mut counts = Counts { wanted: workload.wanted, ..Counts::default() };
        for pod in workload.pods.values().filter(|pod| !pod.ending) {
            // Who is bound to a node that never was, runs nowhere; who is ready, runs.
            let Some(capacity) = pod.capacity.or_else(|| pod.ready.then_some(Capacity::Unknown)) else {
                counts.pending += 1;
                continue;
            };
            counts.placed.add(capacity);
            if pod.ready {
                counts.ready.add(capacity);
            }
        }
        if workload.last.replace(counts) != Some(counts) {
            self.tell(Moment::Counted { workload: name.to_owned(), counts });
        }
    }
}

fn text<'o>(object: &'o Value, pointer: &str) -> &'o str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// A label or an annotation.
fn annotation<'o>(object: &'o Value, what: &str, key: &str) -> Option<&'o str> {
    object["metadata"][what][key].as_str()
}

fn conditions(object: &Value) -> impl Iterator<Item = &Value> {
    object.pointer("/status/conditions").and_then(Value::as_array).into_iter().flatten()
}

/// Kind, UID and name of the controller.
fn controller(object: &Value) -> Option<(&str, &str, &str)> {
    let owners = object.pointer("/metadata/ownerReferences")?.as_array()?;
    let owner = owners.iter().find(|owner| owner["controller"] == true)?;
    Some((owner["kind"].as_str()?, owner["uid"].as_str()?, owner["name"].as_str()?))
}

impl Record {
    /// The workloads, as `NAMESPACE/NAME`.
    pub fn workloads(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self
            .moments
            .iter()
            .filter_map(|(_, moment)| match moment {
                Moment::Counted { workload, counts: _ } => Some(workload.as_str()),
                _ => None,
            })
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// What a workload's pods were, each from its time until that of the next; of the same time only the last.
    pub fn steps(&self, workload: &str) -> Vec<(Duration, Counts)> {
        let mut steps: Vec<(Duration, Counts)> = Vec::new();
        for (at, moment) in &self.moments {
            let Moment::Counted { workload: name, counts } = moment else { continue };
            if name != workload {
                continue;
            }
            match steps.last_mut() {
                Some((last, latest)) if last == at => *latest = *counts,
                _ => steps.push((*at, *counts)),
            }
        }
        steps
    }

    /// The nodes, each number from its time on.
    pub fn nodes(&self) -> Vec<(Duration, Sides)> {
        let mut steps: Vec<(Duration, Sides)> = Vec::new();
        let mut now: BTreeMap<&str, Capacity> = BTreeMap::new();
        for (at, moment) in &self.moments {
            match moment {
                Moment::NodeCame { node, capacity } => now.insert(node, *capacity),
                Moment::NodeWent { node, capacity: _ } => now.remove(node.as_str()),
                _ => continue,
            };
            let mut sides = Sides::default();
            now.values().for_each(|capacity| sides.add(*capacity));
            match steps.last_mut() {
                Some((last, latest)) if last == at => *latest = sides,
                _ => steps.push((*at, sides)),
            }
        }
        steps
    }
}

#[cfg(test)]
mod tests;
