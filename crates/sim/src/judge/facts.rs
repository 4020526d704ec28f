//! What is so about a workload, read off the store: its wish, its pods by type, and whether they are ready.
//!
//! The formula of the split is written down here a second time, on purpose.

use std::fmt;
use std::time::Duration;

use embedded_cluster::object::Object;
use embedded_cluster::resource::Kind;
use embedded_cluster::store::{Key, Store};
use jiff::Timestamp;
use serde_json::Value;

const ENABLED: &str = "spotalis.io/enabled";

/// The type of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capacity {
    /// Of its node, or what it was steered to.
    Spot,
    /// Of its node, or what it was steered to.
    OnDemand,
    /// Neither.
    Unknown,
}

/// One active pod.
#[derive(Clone, Debug, PartialEq, Eq)]
struct PodFacts {
    name: String,
    capacity: Capacity,
    ready: bool,
    created: Option<Timestamp>,
}

/// A workload at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Both labels are there.
    pub opted_in: bool,
    /// A share on spot was asked for, and every value can be used.
    pub asked: Option<u32>,
    /// Something that decides cannot be used.
    pub invalid: bool,
    /// Replicas that stay on on-demand.
    pub floor: u32,
    /// `spec.replicas`
    pub replicas: u32,
    /// No rollout, not paused.
    pub is_settled: bool,
    /// All its pods are to be of one revision.
    is_uniform: bool,
    /// Active pods that are ready.
    pub ready: u32,
    pods: Vec<PodFacts>,
}

/// The workload that a pod or ReplicaSet belongs to, by UID.
pub(super) fn workload_of(store: &Store, object: &Object) -> Option<Key> {
    let owner = object.controller()?;
    let kind = match owner.kind {
        "ReplicaSet" => {
            let set = store.get(&Key::new(Kind::ReplicaSet, object.namespace(), owner.name))?;
            return (set.uid() == owner.uid).then(|| workload_of(store, set))?;
        }
        "Deployment" => Kind::Deployment,
        "StatefulSet" => Kind::StatefulSet,
        _ => return None,
    };
    let key = Key::new(kind, object.namespace(), owner.name);
    (store.get(&key)?.uid() == owner.uid).then_some(key)
}

/// By the node that it runs on; before it has one, by what it was steered to.
pub(super) fn capacity_of(store: &Store, pod: &Object) -> Capacity {
    let word = match pod.text("/spec/nodeName").filter(|node| !node.is_empty()) {
        Some(node) => {
            let node = store.get(&Key::new(Kind::Node, "", node));
            node.and_then(|node| node.label("karpenter.sh/capacity-type").map(str::to_owned))
        }
        None => return steered_to(pod),
    };
    of_word(word.as_deref())
}

/// By what the webhook wrote on it.
pub(super) fn steered_to(pod: &Object) -> Capacity {
    of_word(pod.label("spotalis.io/capacity-type"))
}

fn of_word(word: Option<&str>) -> Capacity {
    match word {
        Some("spot") => Capacity::Spot,
        Some("on-demand") => Capacity::OnDemand,
        Some(_) | None => Capacity::Unknown,
    }
}

/// Whether a change of a node, a namespace or a ReplicaSet can change what is so about a workload. Most are of their status.
pub(super) fn matters(before: Option<&Object>, after: Option<&Object>) -> bool {
    let differs = |part: &str| before.map(|object| object.at(part)) != after.map(|object| object.at(part));
    ["/metadata/labels", "/metadata/annotations", "/metadata/ownerReferences"].into_iter().any(differs)
}

impl Facts {
    /// Of a workload that is there.
    pub fn of(store: &Store, workload: &Key) -> Option<Self> {
        let object = store.get(workload)?;
        let namespace = store.get(&Key::new(Kind::Namespace, "", &workload.namespace))?;
        let labelled = |object: &Object| object.label(ENABLED) == Some("true");
        let value = |key: &str| {
            let key = format!("spotalis.io/{key}");
            object.annotation(&key).or_else(|| namespace.annotation(&key)).map(str::to_owned)
        };
        let (percentage, floor) = (value("spot-percentage"), value("min-on-demand"));
        let asked = percentage.as_ref().and_then(|text| text.parse().ok()).filter(|percent| *percent <= 100);
        let parsed_floor = floor.as_ref().map_or(Some(0), |text| text.parse().ok());
        let replicas = number(object.at("/spec/replicas")).unwrap_or(1);
        let pods: Vec<PodFacts> = pods(store, workload, object)
            .map(|pod| PodFacts {
                name: pod.name().to_owned(),
                capacity: capacity_of(store, pod),
                ready: pod.has_condition("Ready"),
                created: pod.time("/metadata/creationTimestamp"),
            })
            .collect();
        Some(Self {
            opted_in: labelled(object) && labelled(namespace),
            invalid: percentage.is_some() && asked.is_none() || parsed_floor.is_none(),
            asked,
            floor: parsed_floor.unwrap_or(0),
            replicas,
            is_settled: is_settled(object, replicas),
            is_uniform: is_uniform(store, object),
            ready: u32::try_from(pods.iter().filter(|pod| pod.ready).count()).unwrap_or(u32::MAX),
            pods,
        })
    }

    /// How many are wanted on spot: the formula of the documentation.
    pub fn wanted_spot(&self) -> u32 {
        let share = (self.replicas * self.asked.unwrap_or(0)).div_ceil(100);
        share.min(self.replicas.saturating_sub(self.floor))
    }

    /// Active pods of a type.
    pub fn count(&self, capacity: Capacity) -> u32 {
        u32::try_from(self.pods.iter().filter(|pod| pod.capacity == capacity).count()).unwrap_or(u32::MAX)
    }

    /// Whether the counts are those that are wanted, or nobody asked and the floor holds.
    pub fn is_exact(&self) -> bool {
        let (spot, on_demand) = (self.count(Capacity::Spot), self.count(Capacity::OnDemand));
        if self.asked.is_none() {
            return on_demand >= self.floor.min(self.replicas);
        }
        spot == self.wanted_spot() && spot + on_demand == self.replicas
    }

    /// What is asked for, and whether it is in the making.
    pub(super) fn wish(&self) -> (bool, Option<u32>, u32, u32, bool) {
        (self.opted_in && !self.invalid, self.asked, self.floor, self.replicas, self.is_uniform)
    }

    /// Whether a workload of one revision has more of this type than it asks for, although it has none too many.
    pub(super) fn has_too_many(&self, capacity: Capacity) -> bool {
        let wanted = match capacity {
            Capacity::Spot => self.wanted_spot(),
            Capacity::OnDemand => self.replicas - self.wanted_spot(),
            Capacity::Unknown => return false,
        };
        let is_full = self.pods.len() > self.replicas as usize;
        self.opted_in && !self.invalid && self.is_uniform && !is_full && self.count(capacity) > wanted
    }

    /// Whether one of this type may go: more of them than are wanted.
    pub(super) fn surplus_of(&self, capacity: Capacity) -> bool {
        if self.invalid {
            return false;
        }
        match capacity {
            // Nobody is moved to where nobody asked for, except to mend the floor.
            Capacity::Spot if self.asked.is_none() => self.count(Capacity::OnDemand) < self.floor.min(self.replicas),
            Capacity::OnDemand if self.asked.is_none() => false,
            Capacity::Spot => self.count(Capacity::Spot) > self.wanted_spot(),
            Capacity::OnDemand => self.count(Capacity::OnDemand) > self.replicas - self.wanted_spot(),
            Capacity::Unknown => false,
        }
    }

    /// Whether enough on-demand pods are ready without this one, or it is none of them.
    pub(super) fn keeps_floor_without(&self, pod: &str) -> bool {
        let is_on_demand = self.pods.iter().any(|one| one.name == pod && one.capacity == Capacity::OnDemand);
        let others = self.pods.iter().filter(|one| one.name != pod && one.capacity == Capacity::OnDemand && one.ready);
        !is_on_demand || others.count() >= self.floor.min(self.replicas) as usize
    }

    /// Whether what was evicted then was replaced: as many pods as are wanted, and what is newer is ready.
    pub(super) fn has_replaced(&self, evicted: Timestamp) -> bool {
        // Times of creation have whole seconds, rounded down.
        let is_old = |pod: &PodFacts| pod.created.is_some_and(|created| created + Duration::from_secs(1) <= evicted);
        self.pods.len() >= self.replicas as usize && self.pods.iter().all(|pod| pod.ready || is_old(pod))
    }

    /// Whether all others are there and ready, but for those that would be moved anyway.
    pub(super) fn others_are_ready(&self, pod: &str, surplus: Capacity) -> bool {
        let mut others = self.pods.iter().filter(|one| one.name != pod);
        others.clone().count() + 1 >= self.replicas as usize && others.all(|one| one.ready || one.capacity == surplus)
    }
}

impl fmt::Display for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |capacity| self.count(capacity);
        write!(
            f,
            "{} replicas at {:?} % / {}, wanted {} on spot; {} spot, {} on-demand, {} unknown, {} ready",
            self.replicas,
            self.asked,
            self.floor,
            self.wanted_spot(),
            of(Capacity::Spot),
            of(Capacity::OnDemand),
            of(Capacity::Unknown),
            self.ready
        )
    }
}

fn number(value: &Value) -> Option<u32> {
    u32::try_from(value.as_i64()?).ok()
}

/// Its active pods.
fn pods<'s>(store: &'s Store, workload: &Key, object: &'s Object) -> impl Iterator<Item = &'s Object> {
    let owners: Vec<String> = match workload.kind {
        Kind::Deployment => store
            .owned_by(object.uid())
            .filter(|(key, _)| key.kind == Kind::ReplicaSet)
            .map(|(_, set)| set.uid().to_owned())
            .collect(),
        _ => vec![object.uid().to_owned()],
    };
    let of = |owner: String| -> Vec<&'s Object> {
        store.owned_by(&owner).filter(|(key, _)| key.kind == Kind::Pod).map(|(_, pod)| &**pod).collect()
    };
    owners
        .into_iter()
        .flat_map(of)
        .filter(|pod| pod.deletion().is_none() && !matches!(pod.text("/status/phase"), Some("Succeeded" | "Failed")))
}

/// Whether all its pods are to be of one revision.
fn is_uniform(store: &Store, object: &Object) -> bool {
    if object.kind() == Some(Kind::StatefulSet) {
        return object.text("/status/currentRevision") == object.text("/status/updateRevision");
    }
    let has_pods = |set: &Object| {
        [set.at("/spec/replicas"), set.at("/status/replicas")].into_iter().any(|count| number(count) > Some(0))
    };
    let sets = store.owned_by(object.uid()).filter(|(key, _)| key.kind == Kind::ReplicaSet);
    sets.filter(|(_, set)| has_pods(set)).count() <= 1
}

/// As the workload's own status says.
fn is_settled(object: &Object, replicas: u32) -> bool {
    let status = |field: &str| number(object.at(&format!("/status/{field}"))).unwrap_or(0);
    let observed = object.number("/status/observedGeneration").unwrap_or(0) >= object.generation();
    let updated = if object.kind() == Some(Kind::StatefulSet) {
        let partition = number(object.at("/spec/updateStrategy/rollingUpdate/partition")).unwrap_or(0);
        object.text("/spec/updateStrategy/type") == Some("OnDelete")
            || status("updatedReplicas") + partition >= replicas
    } else {
        status("updatedReplicas") >= replicas && status("replicas") <= status("updatedReplicas")
    };
    observed && updated && !object.is("/spec/paused")
}

/// Whether nothing but its own doing stands in the way of a move: no budget of its pods is known to allow nothing for good,
/// there is at most one, and no pod is kept.
pub(super) fn is_free(store: &Store, workload: &Key) -> bool {
    let Some(object) = store.get(workload) else { return false };
    let labels = object.at("/spec/template/metadata/labels");
    let selects = |budget: &Object| {
        let wanted = budget.at("/spec/selector/matchLabels").as_object();
        wanted.is_some_and(|wanted| wanted.iter().all(|(key, value)| labels.get(key) == Some(value)))
    };
    let budgets: Vec<_> =
        store.list(Kind::PodDisruptionBudget, Some(&workload.namespace)).filter(|budget| selects(budget)).collect();
    let allows = budgets.iter().all(|budget| budget.number("/status/disruptionsAllowed").unwrap_or(0) > 0);
    let kept = object.at("/spec/template/metadata/annotations").get("karpenter.sh/do-not-disrupt").is_some();
    budgets.len() <= 1 && allows && !kept
}
