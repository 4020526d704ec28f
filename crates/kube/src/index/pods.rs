//! Pods: from the wire to a slim record, counted in the ledger of their owner and on their node.

use std::sync::Arc;

use jiff::Timestamp;
use spotalis_core::capacity::CapacityType;
use spotalis_core::fit::Resources;
use spotalis_core::policy::keys;
use spotalis_core::selector::Labels;
use spotalis_core::slots::parse_claim;
use spotalis_core::steering;

use super::mark::Mark;
use super::{Epoch, Index, PodKey, convert};
use crate::names;
use crate::slim;

/// What a pod counts as in its owner's ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counted {
    pub capacity: Option<CapacityType>,
    pub slot: Option<u32>,
}

#[derive(Debug)]
pub(super) struct PodRecord {
    pub uid: Arc<str>,
    /// UID of the controlling ReplicaSet or StatefulSet.
    pub owner: Option<Arc<str>>,
    pub node: Option<Arc<str>>,
    pub labels: Arc<Labels>,
    /// What it counts as while unbound: the type it was steered to, or the only one its own constraints allow.
    pub expected: Option<CapacityType>,
    pub slot: Option<u32>,
    pub deletion_cost: Option<i32>,
    /// The id that an admission, or a copied template, wrote on it.
    pub mark: Option<Mark>,
    pub ready: bool,
    pub kept: bool,
    /// Phase Pending: not scheduled, or none of its containers has started.
    pub pending: bool,
    /// Succeeded or Failed.
    pub finished: bool,
    pub created: Timestamp,
    /// When its deletion was asked for.
    pub deleted: Option<Timestamp>,
    /// When its Ready condition last changed.
    pub ready_changed: Option<Timestamp>,
    pub requests: Arc<Resources>,
    /// Its `resourceVersion`; 0 if that is no number, which no version of a stored object is.
    pub version: u64,
    /// What the ledger has for it, while it is active.
    pub counted: Option<Counted>,
    pub epoch: Epoch,
}

impl PodRecord {
    pub(super) const fn active(&self) -> bool {
        self.deleted.is_none() && !self.finished
    }

    /// When it was created, became Ready or not, or was asked to go: the newest of these.
    pub(super) fn last_change(&self) -> Option<Timestamp> {
        Some(self.created).max(self.deleted).max(self.ready_changed)
    }
}

impl Index {
    /// A pod was seen.
    pub fn apply_pod(&mut self, object: &slim::Pod, epoch: Epoch) {
        let key = self.pod_key(&object.metadata.namespace, &object.metadata.name);
        let record = self.pod_record(object, epoch);
        let id = object.metadata.annotations.get(keys::ADMISSION_ID);
        match self.pods.get(&key) {
            Some(old) if old.uid != record.uid => {
                self.forget_pod(&key);
                self.welcome_pod(&key, record, id);
            }
            // Released by its owner when its labels no longer match, or adopted by another one.
            Some(old) if old.owner != record.owner => {
                self.forget_pod(&key);
                self.adopt_pod(&key, record);
            }
            None => self.welcome_pod(&key, record, id),
            Some(_) => self.renew_pod(&key, record),
        }
    }

    /// A pod is gone.
    pub fn delete_pod(&mut self, namespace: &str, name: &str) {
        let key = self.pod_key(namespace, name);
        self.forget_pod(&key);
    }

    fn pod_key(&mut self, namespace: &str, name: &str) -> PodKey {
        // A pod's name is its own; interning it would only add a tree of unique names.
        PodKey { namespace: self.strings.intern(namespace), name: name.into() }
    }

    fn pod_record(&mut self, object: &slim::Pod, epoch: Epoch) -> PodRecord {
        let slim::Pod { metadata, spec, status } = object;
        let annotation = |key| metadata.annotations.get(key);
        let owner = metadata.controller().filter(|owner| {
            let kind = (&*owner.api_version, &*owner.kind);
            matches!(kind, ("apps/v1", "ReplicaSet" | "StatefulSet"))
                && self.may_own_in(&owner.uid, &metadata.namespace)
        });
        let ready = status.conditions.iter().find(|condition| &*condition.r#type == "Ready");
        let mark = annotation(keys::ADMISSION_ID).map(Mark::of);
        // Without a mark, the label came with the template.
        let steered = metadata.labels.get(keys::CAPACITY_TYPE).and_then(|word| CapacityType::parse(word));
        let steered = steered.filter(|_| mark.is_some());
        let unbound = spec.node_name.is_empty();
        let grace = jiff::SignedDuration::from_secs(metadata.deletion_grace_period_seconds.clamp(0, 1 << 31));
        PodRecord {
            uid: (&*metadata.uid).into(),
            owner: owner.map(|owner| self.strings.intern(&*owner.uid)),
            node: (!unbound).then(|| self.strings.intern(&*spec.node_name)),
            expected: steered.or_else(|| steering::pinned(&self.rules.classes, &convert::placement(spec))),
            slot: annotation(keys::SLOT).and_then(parse_claim),
            deletion_cost: annotation(names::POD_DELETION_COST).and_then(|cost| cost.parse().ok()),
            mark,
            ready: ready.is_some_and(|condition| &*condition.status == "True"),
            kept: annotation(names::KARPENTER_DO_NOT_DISRUPT) == Some("true")
                || annotation(names::SAFE_TO_EVICT) == Some("false"),
            pending: &*status.phase == "Pending",
            finished: matches!(&*status.phase, "Succeeded" | "Failed"),
            created: metadata.creation_timestamp.unwrap_or(Timestamp::UNIX_EPOCH),
            deleted: metadata.deletion_timestamp.map(|gone| gone.checked_sub(grace).unwrap_or(gone)),
            ready_changed: ready.and_then(|condition| condition.last_transition_time.parse().ok()),
            labels: self.label_sets.intern(metadata.labels.clone()),
            requests: self.requests.intern(convert::requests(spec)),
            version: metadata.resource_version.parse().unwrap_or(0),
            counted: None,
            epoch,
        }
    }

    /// A UID is no secret: somebody may write another namespace's into an owner reference, before the garbage collector
    /// finds out.
    fn may_own_in(&self, owner: &str, namespace: &str) -> bool {
        let replica_set = self.replica_sets.get(owner).map(|record| &record.namespace);
        let workload = self.workload_of_uid.get(owner).map(|key| &key.namespace);
        replica_set.or(workload).is_none_or(|own| &**own == namespace)
    }

    /// A pod that was not known: settles its reservation, even if it is on its way out already.
    fn welcome_pod(&mut self, key: &PodKey, mut record: PodRecord, id: Option<&str>) {
        if let Some(owner) = record.owner.clone() {
            let counted = self.counts_as(&record);
            let state = self.owners.entry(owner).or_default();
            state.ledger.settle(id, counted.capacity, counted.slot);
            record.counted = Some(counted);
        }
        self.adopt_pod(key, record);
    }

    /// A pod that its owner did not have before. Settles nothing.
    fn adopt_pod(&mut self, key: &PodKey, record: PodRecord) {
        if let Some(owner) = &record.owner {
            self.owners.entry(owner.clone()).or_default().pods.insert(key.clone());
        }
        self.attach(key, &record);
        self.pods.insert(key.clone(), record);
        self.recount_pod(key);
    }

    /// A known pod changed.
    fn renew_pod(&mut self, key: &PodKey, mut record: PodRecord) {
        let Some(old) = self.pods.remove(key) else { return };
        self.detach(key, &old);
        record.counted = old.counted;
        self.attach(key, &record);
        self.pods.insert(key.clone(), record);
        self.recount_pod(key);
    }

    fn forget_pod(&mut self, key: &PodKey) {
        let Some(old) = self.pods.remove(key) else { return };
        self.detach(key, &old);
        let last_change = old.last_change();
        let Some(owner) = old.owner else { return };
        if let Some(state) = self.owners.get_mut(&owner) {
            state.pods.remove(key);
            state.departed = state.departed.max(last_change);
            if let Some(Counted { capacity, slot }) = old.counted {
                state.ledger.release(capacity, slot);
            }
        }
        self.drop_owner_if_empty(&owner);
        self.mark_owner(&owner);
    }

    /// Brings the ledger in line with what the pod is now.
    pub(super) fn recount_pod(&mut self, key: &PodKey) {
        let Some(record) = self.pods.get(key) else { return };
        let Some(owner) = record.owner.clone() else { return };
        let (old, new) = (record.counted, record.active().then(|| self.counts_as(record)));
        if old != new
            && let Some(state) = self.owners.get_mut(&owner)
        {
            if let Some(Counted { capacity, slot }) = old {
                state.ledger.release(capacity, slot);
            }
            if let Some(Counted { capacity, slot }) = new {
                state.ledger.recount(capacity, slot);
            }
        }
        if let Some(record) = self.pods.get_mut(key) {
            record.counted = new;
        }
        self.mark_owner(&owner);
    }

    fn counts_as(&self, record: &PodRecord) -> Counted {
        Counted { capacity: self.capacity_of(record), slot: record.slot }
    }

    /// The type of the node it runs on. Unbound, or bound to a node that was not seen yet, what it was steered to.
    pub(super) fn capacity_of(&self, record: &PodRecord) -> Option<CapacityType> {
        let node = record.node.as_ref().and_then(|name| self.nodes.get(name));
        node.map_or(record.expected, |node| node.class)
    }

    fn attach(&mut self, key: &PodKey, record: &PodRecord) {
        if let Some(node) = record.node.clone().filter(|_| !record.finished) {
            self.occupy(&node, key, &record.requests.clone());
        }
    }

    fn detach(&mut self, key: &PodKey, record: &PodRecord) {
        if let Some(node) = &record.node {
            self.vacate(node, key, &record.requests);
        }
    }
}
