//! What is so about a workload, read off the store: its wish, its pods by type, and whether they are ready.
//!
//! The formula of the split is written down here a second time, on purpose.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use embedded_cluster::object::Object;
use embedded_cluster::resource::Kind;
use embedded_cluster::store::{Key, Store};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Times of creation have whole seconds, rounded down.
const CREATION_STEP: SignedDuration = SignedDuration::from_secs(1);
const ENABLED: &str = "spotalis.io/enabled";
/// Where a pod says its slot.
pub(super) const SLOT: &str = "spotalis.io/slot";
/// What the webhook writes on every pod that it steers.
const ADMISSION: &str = "spotalis.io/admission-id";
/// Orders the pods that a scale-down removes.
pub(super) const COST: &str = "controller.kubernetes.io/pod-deletion-cost";
/// By which pods ask to be left where they are.
const KEPT: [(&str, &str); 2] =
    [("karpenter.sh/do-not-disrupt", "true"), ("cluster-autoscaler.kubernetes.io/safe-to-evict", "false")];

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

impl Capacity {
    /// Where a pod of this type would be moved to.
    pub(super) const fn other(self) -> Self {
        match self {
            Self::Spot => Self::OnDemand,
            Self::OnDemand => Self::Spot,
            Self::Unknown => Self::Unknown,
        }
    }
}

/// The types of which there is a node that takes pods, or somebody who says that he adds one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Open {
    spot: bool,
    on_demand: bool,
}

impl Open {
    pub(super) fn of(store: &Store) -> Self {
        let is_promised = store.list(Kind::NodePool, None).next().is_some();
        let takes_pods = |node: &&Arc<Object>| node.has_condition("Ready") && !node.is("/spec/unschedulable");
        let types: Vec<Capacity> = store.list(Kind::Node, None).filter(takes_pods).map(|node| type_of(node)).collect();
        let has = |capacity| is_promised || types.contains(&capacity);
        Self { spot: has(Capacity::Spot), on_demand: has(Capacity::OnDemand) }
    }

    pub(super) const fn has(self, capacity: Capacity) -> bool {
        match capacity {
            Capacity::Spot => self.spot,
            Capacity::OnDemand => self.on_demand,
            Capacity::Unknown => false,
        }
    }
}

/// What becomes of a share that is no whole number: `distribution.rounding`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rounding {
    /// The next larger one.
    #[default]
    Ceil,
    /// The nearest one, halves up.
    Nearest,
    /// The next smaller one.
    Floor,
}

/// One active pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PodFacts {
    uid: String,
    pub(super) capacity: Capacity,
    ready: bool,
    /// It asks not to be disrupted.
    pub(super) kept: bool,
    slot: Option<String>,
    cost: Option<String>,
    created: Option<Timestamp>,
    /// The webhook has seen it.
    admitted: bool,
}

/// Replicas that stay on on-demand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Floor {
    Count(u32),
    Percent(u32),
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
    /// `spec.replicas`
    pub replicas: u32,
    /// No rollout, not paused.
    pub is_settled: bool,
    floor: Floor,
    rounding: Rounding,
    /// All its pods are to be of one revision.
    is_uniform: bool,
    /// Its pods have ordinals.
    pub(super) is_stateful: bool,
    /// When a pod of it, active or on its way out, was created, became ready or not, or was asked to go: the last time.
    pub(super) stirred: Option<Timestamp>,
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
fn capacity_of(store: &Store, pod: &Object) -> Capacity {
    match pod.text("/spec/nodeName").filter(|node| !node.is_empty()) {
        Some(node) => store.get(&Key::new(Kind::Node, "", node)).map_or(Capacity::Unknown, |node| type_of(node)),
        None => steered_to(pod),
    }
}

fn type_of(node: &Object) -> Capacity {
    of_word(node.label("karpenter.sh/capacity-type"))
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

impl PodFacts {
    fn of(store: &Store, pod: &Object) -> Self {
        let annotations = pod.at("/metadata/annotations");
        let annotation = |key: &str| annotations.get(key).and_then(Value::as_str);
        Self {
            uid: pod.uid().to_owned(),
            capacity: capacity_of(store, pod),
            ready: pod.has_condition("Ready"),
            kept: KEPT.iter().any(|(key, value)| annotation(key) == Some(value)),
            slot: annotation(SLOT).map(str::to_owned),
            cost: annotation(COST).map(str::to_owned),
            created: pod.time("/metadata/creationTimestamp"),
            admitted: annotation(ADMISSION).is_some(),
        }
    }

    fn may_follow(&self, moment: Timestamp) -> bool {
        self.created.is_some_and(|created| created + CREATION_STEP > moment)
    }

    /// Whether its deletion cost, if it has one, is the one that goes with its slot.
    pub(super) fn has_our_cost(&self) -> bool {
        self.cost.as_ref().is_none_or(|cost| self.slot.as_ref().is_some_and(|slot| *cost == format!("-{slot}")))
    }
}

impl Facts {
    /// Of a workload that is there.
    pub fn of(store: &Store, workload: &Key, rounding: Rounding) -> Option<Self> {
        let object = store.get(workload)?;
        let namespace = store.get(&Key::new(Kind::Namespace, "", &workload.namespace))?;
        let labelled = |object: &Object| object.label(ENABLED) == Some("true");
        let value = |key: &str| {
            let key = format!("spotalis.io/{key}");
            object.annotation(&key).or_else(|| namespace.annotation(&key)).map(str::to_owned)
        };
        let (percentage, floor) = (value("spot-percentage"), value("min-on-demand"));
        let asked = percentage.as_deref().and_then(|text| percent(text.strip_suffix('%').unwrap_or(text)));
        let parsed_floor = floor.as_deref().map_or(Some(Floor::Count(0)), |text| match text.strip_suffix('%') {
            Some(share) => percent(share).map(Floor::Percent),
            None => text.parse().ok().map(Floor::Count),
        });
        let replicas = number(object.at("/spec/replicas")).unwrap_or(1);
        let all = pods(store, workload, object);
        let is_active = |pod: &&&Object| {
            pod.deletion().is_none() && !matches!(pod.text("/status/phase"), Some("Succeeded" | "Failed"))
        };
        Some(Self {
            opted_in: labelled(object) && labelled(namespace),
            invalid: percentage.is_some() && asked.is_none() || parsed_floor.is_none(),
            asked,
            replicas,
            is_settled: is_settled(object, replicas),
            floor: parsed_floor.unwrap_or(Floor::Count(0)),
            rounding,
            is_uniform: is_uniform(store, object),
            is_stateful: workload.kind == Kind::StatefulSet,
            stirred: all.iter().filter_map(|pod| stirred(pod)).max(),
            pods: all.iter().filter(is_active).map(|pod| PodFacts::of(store, pod)).collect(),
        })
    }

    /// What somebody believes who sees this wish and those pods.
    pub(super) fn with_pods_of(&self, other: &Self) -> Self {
        Self { pods: other.pods.clone(), stirred: other.stirred, ..self.clone() }
    }

    /// Active pods that are ready.
    pub fn ready(&self) -> u32 {
        count(&self.pods, |pod| pod.ready)
    }

    /// How many of so many are wanted on spot: the formula of the documentation.
    fn spot_of(&self, total: u32) -> u32 {
        let hundredths = total * self.asked.unwrap_or(0);
        let share = match self.rounding {
            Rounding::Ceil => hundredths.div_ceil(100),
            Rounding::Nearest => (hundredths + 50) / 100,
            Rounding::Floor => hundredths / 100,
        };
        share.min(total - self.floor_of(total))
    }

    /// How many of so many stay on on-demand.
    fn floor_of(&self, total: u32) -> u32 {
        let floor = match self.floor {
            Floor::Count(floor) => floor,
            Floor::Percent(percent) => (total * percent).div_ceil(100),
        };
        floor.min(total)
    }

    fn wanted(&self, capacity: Capacity) -> u32 {
        match capacity {
            Capacity::Spot => self.spot_of(self.replicas),
            Capacity::OnDemand => self.replicas - self.spot_of(self.replicas),
            Capacity::Unknown => 0,
        }
    }

    /// Active pods of a type.
    pub fn count(&self, capacity: Capacity) -> u32 {
        count(&self.pods, |pod| pod.capacity == capacity)
    }

    pub(super) fn pod(&self, uid: &str) -> Option<&PodFacts> {
        self.pods.iter().find(|pod| pod.uid == uid)
    }

    /// Whether the counts are those that are wanted, or nobody asked and the floor holds.
    pub fn is_exact(&self) -> bool {
        if self.asked.is_none() {
            return self.count(Capacity::OnDemand) >= self.floor_of(self.replicas);
        }
        [Capacity::Spot, Capacity::OnDemand].into_iter().all(|capacity| self.count(capacity) == self.wanted(capacity))
    }

    /// What is asked for, and whether it is in the making.
    pub(super) fn wish(&self) -> impl PartialEq {
        (self.opted_in, self.invalid, self.asked, self.floor, self.replicas, self.is_uniform)
    }

    /// Why a pod may not be steered to this type, if it may not.
    pub(super) fn objection_to_steering(&self, steered: Capacity) -> Option<&'static str> {
        match steered {
            Capacity::Unknown => None,
            _ if !self.opted_in => Some("its workload is not opted in"),
            Capacity::Spot if self.invalid => Some("nobody knows what its workload wants"),
            _ => self.has_too_many(steered).then_some("there are enough of that type"),
        }
    }

    /// Whether a workload of one revision has more of this type than it asks for, although it has none too many.
    fn has_too_many(&self, capacity: Capacity) -> bool {
        let is_full = self.pods.len() > self.replicas as usize;
        !self.invalid && self.is_uniform && !is_full && self.count(capacity) > self.wanted(capacity)
    }

    /// How many of this type have to become of the other one.
    pub(super) fn moves_from(&self, capacity: Capacity) -> u32 {
        let other = capacity.other();
        if self.invalid {
            return 0;
        }
        let excess = self.count(capacity).saturating_sub(self.wanted(capacity));
        let moves = excess.min(self.wanted(other).saturating_sub(self.count(other)));
        match capacity {
            Capacity::Spot if self.asked.is_none() => {
                // Nobody is moved to where nobody asked for, except to mend the floor.
                moves.min(self.floor_of(self.replicas).saturating_sub(self.count(Capacity::OnDemand)))
            }
            Capacity::OnDemand if self.asked.is_none() => 0,
            Capacity::Spot | Capacity::OnDemand | Capacity::Unknown => moves,
        }
    }

    /// How many moves are missing.
    pub fn drift(&self) -> u32 {
        self.moves_from(Capacity::Spot) + self.moves_from(Capacity::OnDemand)
    }

    /// Whether enough on-demand pods are ready without this one, or it is none of them.
    pub(super) fn keeps_floor_without(&self, pod: &PodFacts) -> bool {
        let others = count(&self.pods, |one| one.uid != pod.uid && one.capacity == Capacity::OnDemand && one.ready);
        pod.capacity != Capacity::OnDemand || others >= self.floor_of(self.replicas)
    }

    /// Whether what was evicted then was replaced: as many pods as are wanted, and what is newer is ready.
    pub(super) fn has_replaced(&self, evicted: Timestamp) -> bool {
        let is_old = |pod: &PodFacts| pod.created.is_some_and(|created| created + CREATION_STEP <= evicted);
        self.pods.len() >= self.replicas as usize && self.pods.iter().all(|pod| pod.ready || is_old(pod))
    }

    /// Whether the webhook saw the pods that came after that moment: one of them, or none; absent, none came.
    pub(super) fn steers_since(&self, moment: Timestamp) -> Option<bool> {
        let newer = self.pods.iter().filter(|pod| pod.may_follow(moment)).map(|pod| pod.admitted);
        newer.reduce(|one, other| one || other)
    }

    /// Whether all others are there and ready, but for so many as would be moved anyway.
    pub(super) fn others_are_ready(&self, pod: &PodFacts) -> bool {
        let others = || self.pods.iter().filter(|one| one.uid != pod.uid);
        let unready = others().filter(|one| !one.ready);
        others().count() + 1 >= self.replicas as usize
            && unready.clone().all(|one| one.capacity == pod.capacity)
            && unready.count() < self.moves_from(pod.capacity).max(1) as usize
    }

    /// Whether no pod that is not ready has to go before this one. The ordinals of a StatefulSet may have an order of their
    /// own in which they come back.
    pub(super) fn is_first_to_go(&self, pod: &PodFacts) -> bool {
        let goes_before = |one: &PodFacts| one.capacity == pod.capacity && !one.ready && !one.kept;
        self.is_stateful || !pod.ready || !self.pods.iter().any(goes_before)
    }

    /// Whether the slot is one of those that the wanted split of these replicas consists of, and of the pod's type.
    pub(super) fn has_slot_for(&self, pod: &PodFacts, slot: &str) -> bool {
        let Ok(number) = slot.parse::<u32>() else { return false };
        (1..=self.replicas).contains(&number) && self.slot_type(number) == pod.capacity
    }

    fn slot_type(&self, slot: u32) -> Capacity {
        if self.spot_of(slot) > self.spot_of(slot - 1) { Capacity::Spot } else { Capacity::OnDemand }
    }

    /// Whether all replicas are there, exact and ready: only then is anybody given another slot.
    pub(super) fn is_at_rest(&self) -> bool {
        let all = self.pods.len() == self.replicas as usize && self.ready() == self.replicas;
        all && !self.invalid
            && self.is_settled
            && self.moves_from(Capacity::Spot) + self.moves_from(Capacity::OnDemand) == 0
    }

    /// Whether every pod of an exact Deployment sits in a slot of its type, no two in one, with the cost that goes with it:
    /// the next scaling is exact as well.
    pub fn is_seated(&self) -> bool {
        let wanted = |capacity| self.count(capacity) == self.wanted(capacity);
        let applies = !self.is_stateful && wanted(Capacity::Spot) && wanted(Capacity::OnDemand);
        if !applies {
            return true;
        }
        let sits = |pod: &PodFacts| {
            let slot = pod.slot.as_deref().filter(|slot| self.has_slot_for(pod, slot))?;
            (pod.cost.as_deref() == Some(&format!("-{slot}"))).then(|| slot.to_owned())
        };
        let seats: BTreeSet<String> = self.pods.iter().filter_map(sits).collect();
        seats.len() == self.pods.len()
    }
}

impl fmt::Display for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |capacity| self.count(capacity);
        write!(
            f,
            "{} replicas at {:?} % / {:?}, wanted {} on spot; {} spot, {} on-demand, {} unknown, {} ready",
            self.replicas,
            self.asked,
            self.floor,
            self.wanted(Capacity::Spot),
            of(Capacity::Spot),
            of(Capacity::OnDemand),
            of(Capacity::Unknown),
            self.ready()
        )
    }
}

fn count(pods: &[PodFacts], holds: impl Fn(&PodFacts) -> bool) -> u32 {
    u32::try_from(pods.iter().filter(|pod| holds(pod)).count()).unwrap_or(u32::MAX)
}

fn percent(text: &str) -> Option<u32> {
    text.parse().ok().filter(|percent| *percent <= 100)
}

fn number(value: &Value) -> Option<u32> {
    u32::try_from(value.as_i64()?).ok()
}

/// Its pods, whatever becomes of them.
fn pods<'s>(store: &'s Store, workload: &Key, object: &'s Object) -> Vec<&'s Object> {
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
    owners.into_iter().flat_map(of).collect()
}

/// When it was created, became ready or not, or was asked to go: the last of these.
fn stirred(pod: &Object) -> Option<Timestamp> {
    let ready = pod.condition("Ready").and_then(|ready| ready["lastTransitionTime"].as_str()?.parse().ok());
    let grace = SignedDuration::from_secs(pod.number("/metadata/deletionGracePeriodSeconds").unwrap_or(0));
    let asked_to_go = pod.deletion().map(|gone| gone - grace);
    [pod.time("/metadata/creationTimestamp"), ready, asked_to_go].into_iter().flatten().max()
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
    let all = object.at("/status");
    let status = |field: &str| all.get(field).and_then(number).unwrap_or(0);
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

/// What stands in the way of a workload's moves for good: the reason by which an Event has to tell it. Absent, nothing does:
/// a budget that allows nothing only while a pod is not ready is none.
pub(super) fn blocker(store: &Store, workload: &Key) -> Option<&'static str> {
    let object = store.get(workload)?;
    let labels = object.at("/spec/template/metadata/labels");
    let selects = |budget: &Object| {
        let wanted = budget.at("/spec/selector/matchLabels").as_object();
        wanted.is_some_and(|wanted| wanted.iter().all(|(key, value)| labels.get(key) == Some(value)))
    };
    let budgets: Vec<_> =
        store.list(Kind::PodDisruptionBudget, Some(&workload.namespace)).filter(|budget| selects(budget)).collect();
    let allows_none = |budget: &Object| {
        let status = |field: &str| budget.number(&format!("/status/{field}")).unwrap_or(0);
        status("desiredHealthy") >= status("expectedPods")
    };
    match &budgets[..] {
        [] => None,
        [budget] => allows_none(budget).then_some("MoveBlockedByPDB"),
        _ => Some("SeveralPDBs"),
    }
}

/// Whether an Event tells this reason of the workload.
pub(super) fn is_told(store: &Store, workload: &Key, reason: &str) -> bool {
    let about = |event: &Object| {
        event.text("/reason") == Some(reason)
            && event.text("/regarding/name") == Some(&workload.name)
            && event.text("/regarding/kind") == Some(workload.kind.resource().name)
    };
    store.list(Kind::Event, Some(&workload.namespace)).any(|event| about(event))
}
