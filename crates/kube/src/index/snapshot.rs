//! What the decisions ask for: one workload with its pods, and whether a replacement would find room.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use jiff::Timestamp;
use spotalis_core::capacity::CapacityType;
use spotalis_core::fit::{self, Demand};
use spotalis_core::opt_in::OptIn;
use spotalis_core::policy::{Consequence, Fault, Policy, Problem};
use spotalis_core::rebalance::{Budgets, Nature, Pod, Realized, Rollout, Room, Snapshot};
use spotalis_core::selector::Labels;
use spotalis_core::steering::{self, Amendment, Steering};

use super::admit::slot_of_ordinal;
use super::mark::Mark;
use super::pods::PodRecord;
use super::{Index, PodKey, Provisioner, WorkloadKey, WorkloadKind, WorkloadRecord, convert};
use crate::names;
use crate::slim;

/// A workload as Events, metrics and people refer to it.
#[derive(Clone, Debug)]
pub struct WorkloadView {
    /// Its identity.
    pub key: WorkloadKey,
    /// Its UID.
    pub uid: Arc<str>,
    /// What is wrong with its annotations.
    pub problems: Arc<[Problem]>,
    /// What the decision works on.
    pub snapshot: Snapshot,
}

/// A pod as people ask about it.
#[derive(Clone, Debug)]
pub struct PodView {
    /// The workload it belongs to, if that is known.
    pub workload: Option<WorkloadKey>,
    /// The node it runs on.
    pub node: Option<Arc<str>>,
    /// What that node is.
    pub node_class: Option<CapacityType>,
}

/// What to count on when room is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outlook {
    /// Moves of other workloads to the same type whose pods are not on their nodes yet: each takes a place that looks free.
    pub ahead: u32,
    /// Whether the promise of an autoscaler is believed.
    pub trusting: bool,
}

impl Default for Outlook {
    fn default() -> Self {
        Self { ahead: 0, trusting: true }
    }
}

/// How many nodes there are of a type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeSummary {
    /// Spot nodes.
    pub spot: u32,
    /// On-demand nodes.
    pub on_demand: u32,
    /// Nodes of neither class, or of both.
    pub unknown: u32,
}

impl Index {
    /// The workload as it is now.
    pub fn workload(&self, key: &WorkloadKey) -> Option<WorkloadView> {
        self.view(key, true)
    }

    /// The workload as far as a decision needs it: without its pods while they do not matter. A rollout of thousands asks
    /// dozens of times a second.
    pub fn workload_to_decide(&self, key: &WorkloadKey) -> Option<WorkloadView> {
        self.view(key, false)
    }

    fn view(&self, key: &WorkloadKey, with_pods: bool) -> Option<WorkloadView> {
        let record = self.workloads.get(key)?;
        let opt_in = self.opt_in_of(key, record);
        let snapshot = match opt_in {
            OptIn::Managed => {
                let counted = Snapshot {
                    opt_in: OptIn::Managed,
                    realized: self.realized(key, record),
                    ..empty_snapshot(record, key.kind)
                };
                let matter =
                    counted.rollout == Rollout::Settled && counted.realized.total() == counted.replicas || with_pods;
                if matter { self.with_pods(key, record, counted) } else { counted }
            }
            OptIn::Out | OptIn::Half(_) | OptIn::Never(_) => Snapshot { opt_in, ..empty_snapshot(record, key.kind) },
        };
        Some(WorkloadView { key: key.clone(), uid: record.uid.clone(), problems: record.problems.clone(), snapshot })
    }

    /// The policy of a workload.
    pub fn policy(&self, key: &WorkloadKey) -> Option<Arc<Policy>> {
        self.workloads.get(key).map(|record| record.policy.clone())
    }

    /// Whether a workload is managed.
    pub fn opt_in(&self, key: &WorkloadKey) -> Option<OptIn> {
        self.workloads.get(key).map(|record| self.opt_in_of(key, record))
    }

    /// A pod, if it is known.
    pub fn pod(&self, namespace: &str, name: &str) -> Option<PodView> {
        let record = self.pods.get(&PodKey { namespace: namespace.into(), name: name.into() })?;
        let workload = record.owner.as_ref().and_then(|owner| self.workload_of_owner(owner)).cloned();
        let node_class = record.node.as_ref().and_then(|node| self.nodes.get(node)).and_then(|node| node.class);
        Some(PodView { workload, node: record.node.clone(), node_class })
    }

    /// Whether this very pod is there and is to stay.
    pub fn is_active(&self, namespace: &str, name: &str, uid: &str) -> bool {
        let record = self.pods.get(&PodKey { namespace: namespace.into(), name: name.into() });
        record.is_some_and(|record| &*record.uid == uid && record.active())
    }

    /// The version of a pod that is as a decision saw it: the same pod, with the same slot and deletion cost.
    pub fn version_of(&self, namespace: &str, decided: &Pod) -> Option<u64> {
        let record = self.pods.get(&PodKey { namespace: namespace.into(), name: decided.name.clone() })?;
        let same = record.uid == decided.uid
            && record.slot == decided.slot
            && record.deletion_cost == decided.deletion_cost
            && record.version != 0;
        same.then_some(record.version)
    }

    /// Nodes by type.
    pub fn node_summary(&self) -> NodeSummary {
        let mut summary = NodeSummary::default();
        for node in self.nodes.values() {
            match node.class {
                Some(CapacityType::Spot) => summary.spot += 1,
                Some(CapacityType::OnDemand) => summary.on_demand += 1,
                None => summary.unknown += 1,
            }
        }
        summary
    }

    fn workload_of_owner(&self, owner: &str) -> Option<&WorkloadKey> {
        match self.replica_sets.get(owner) {
            Some(replica_set) => self.workload_of_uid.get(replica_set.deployment.as_ref()?),
            None => self.workload_of_uid.get(owner),
        }
    }

    /// The ReplicaSets of a Deployment, or the StatefulSet itself.
    fn owners_of<'a>(&'a self, key: &WorkloadKey, record: &'a WorkloadRecord) -> Vec<&'a Arc<str>> {
        match key.kind {
            WorkloadKind::Deployment => self.revisions.get(&record.uid).into_iter().flatten().collect(),
            WorkloadKind::StatefulSet => vec![&record.uid],
        }
    }

    fn pods_of<'a>(
        &'a self,
        key: &'a WorkloadKey,
        record: &'a WorkloadRecord,
    ) -> impl Iterator<Item = (&'a PodKey, &'a PodRecord)> {
        self.owners_of(key, record)
            .into_iter()
            .filter_map(|owner| self.owners.get(owner))
            .flat_map(|owner| &owner.pods)
            .filter(|pod| pod.namespace == key.namespace)
            .filter_map(|pod| self.pods.get_key_value(pod))
    }

    /// Its active pods by type, without a look at one of them.
    fn realized(&self, key: &WorkloadKey, record: &WorkloadRecord) -> Realized {
        let mut sum = Realized::default();
        for owner in self.owners_of(key, record).into_iter().filter_map(|owner| self.owners.get(owner)) {
            sum.spot += owner.ledger.visible(Some(CapacityType::Spot));
            sum.on_demand += owner.ledger.visible(Some(CapacityType::OnDemand));
            sum.unknown += owner.ledger.visible(None);
        }
        sum
    }

    fn with_pods(&self, key: &WorkloadKey, record: &WorkloadRecord, counted: Snapshot) -> Snapshot {
        let pods: Vec<(&PodKey, &PodRecord)> = self.pods_of(key, record).collect();
        let owners = self.owners_of(key, record).into_iter().filter_map(|owner| self.owners.get(owner));
        let departed = owners.filter_map(|owner| owner.departed);
        let last_change = pods.iter().filter_map(|(_, pod)| pod.last_change()).chain(departed).max();
        let mut neighbours: BTreeMap<&str, u32> = BTreeMap::new();
        for node in pods.iter().filter_map(|(_, pod)| pod.node.as_deref()) {
            *neighbours.entry(node).or_default() += 1;
        }
        let copied = Mark::in_template(&record.object.spec.template.metadata);
        // In doubt a pod is marked as well, and has no slot: it proves nothing about where the next one would go.
        let marked = |pod: &PodRecord| pod.mark.is_some() && pod.mark != copied && pod.slot.is_some();
        let mut matching = MatchingBudgets::default();
        let mut active = Vec::with_capacity(pods.len());
        let views = pods
            .iter()
            .filter(|(_, pod)| pod.active())
            .map(|(pod_key, pod)| (pod_key, pod, Self::slot_of(key, record, pod_key, pod)))
            .map(|(pod_key, pod, slot)| Pod {
                name: pod_key.name.clone(),
                uid: pod.uid.clone(),
                capacity: self.capacity_of(pod),
                steered: pod.expected.filter(|_| marked(pod)),
                slot,
                deletion_cost: pod.deletion_cost,
                marked: marked(pod),
                ready: pod.ready,
                keeps_revision: keeps_revision(key.kind, record, pod, slot),
                kept: pod.kept,
                created: pod.created,
                budgets: self.budgets(&mut matching, &key.namespace, pod),
                neighbours: pod.node.as_deref().and_then(|node| neighbours.get(node)).copied().unwrap_or(0),
            });
        active.extend(views);
        active.sort_by(|a, b| (a.created, &a.name).cmp(&(b.created, &b.name)));
        Snapshot { pods: active, last_change, ..counted }
    }

    fn slot_of(key: &WorkloadKey, record: &WorkloadRecord, pod_key: &PodKey, pod: &PodRecord) -> Option<u32> {
        match key.kind {
            WorkloadKind::Deployment => pod.slot,
            WorkloadKind::StatefulSet => {
                let start = record.object.spec.ordinals.as_ref().map_or(0, |ordinals| ordinals.start);
                slot_of_ordinal(&pod_key.name, &key.name, start)
            }
        }
    }

    /// The budgets that select a pod. The API server does not ask them about a pod that has not begun to run.
    fn budgets(&self, matching: &mut MatchingBudgets, namespace: &Arc<str>, pod: &PodRecord) -> Budgets {
        if pod.pending || pod.node.is_none() {
            return Budgets::None;
        }
        let names = matching.of(&pod.labels, || {
            self.pdbs
                .range((namespace.clone(), "".into())..)
                .take_while(|((of, _), _)| of == namespace)
                .filter(|(_, pdb)| pdb.selector.as_ref().is_some_and(|selector| selector.matches(&pod.labels)))
                .map(|((_, name), _)| name.clone())
                .collect()
        });
        match names {
            [] => Budgets::None,
            [name] => Budgets::One { name: name.clone(), allows: self.budget_allows(namespace, name, pod.ready) },
            [_, ..] => Budgets::Several,
        }
    }

    fn budget_allows(&self, namespace: &Arc<str>, name: &Arc<str>, ready: bool) -> bool {
        let Some(pdb) = self.pdbs.get(&(namespace.clone(), name.clone())) else { return true };
        let healthy = pdb.current_healthy >= pdb.desired_healthy && pdb.desired_healthy > 0;
        let spares_unready = !ready && (pdb.always_allow_unhealthy || healthy);
        pdb.current && (pdb.disruptions_allowed > 0 || spares_unready)
    }

    /// Whether a pod of the workload, moved to `capacity`, would find a node.
    pub fn room(&self, key: &WorkloadKey, capacity: CapacityType, outlook: Outlook, now: Timestamp) -> Room {
        let Some(record) = self.workloads.get(key) else { return Room::None };
        let template = &record.object.spec.template;
        let placement = convert::placement(&template.spec);
        let steering_rules = self.steering_rules(&record.policy);
        let given_way = match steering::steer(&placement, capacity, &self.rules.classes, steering_rules) {
            Steering::Conflict(_) | Steering::Bound => return Room::Excluded,
            Steering::Satisfied => Vec::new(),
            Steering::Amend(amendment) => given_way(amendment),
        };
        let Outlook { ahead, trusting } = outlook;
        if trusting && self.provided(capacity, now) {
            return Room::Enough;
        }
        // Nobody knows how full a node is whose other pods are not shown.
        if !self.rules.opt_in.watch_namespaces.is_empty() {
            return Room::Unseen;
        }
        let mut demand = convert::demand(template, &self.rules.classes.of(capacity).tolerations);
        demand.node_selector.retain(|key, _| !given_way.contains(key));
        let occupied = self.occupied_domains(key, record, &demand);
        let wanted = ahead.saturating_add(1);
        let mut places = 0_u32;
        for (name, node) in self.nodes.iter().filter(|(_, node)| node.class == Some(capacity)) {
            let usage = self.usage.get(name);
            let nothing = fit::Resources::default();
            let node = fit::Node {
                labels: &node.labels,
                taints: &node.taints,
                ready: node.ready,
                cordoned: node.cordoned,
                allocatable: &node.allocatable,
                pod_capacity: node.pod_capacity,
                used: usage.map_or(&nothing, |usage| &usage.requested),
                pods: usage.map_or(0, |usage| u32::try_from(usage.pods.len()).unwrap_or(u32::MAX)),
            };
            let is_occupied = |key: &str, value: &str| occupied.contains(&(key.into(), value.into()));
            places = places.saturating_add(fit::places(&demand, &node, is_occupied, wanted));
            if places >= wanted {
                return Room::Enough;
            }
        }
        Room::None
    }

    /// Where pods of the workload run, for each topology key that keeps them apart.
    fn occupied_domains(
        &self,
        key: &WorkloadKey,
        record: &WorkloadRecord,
        demand: &Demand,
    ) -> BTreeSet<(Box<str>, Box<str>)> {
        if demand.apart.is_empty() {
            return BTreeSet::new();
        }
        self.pods_of(key, record)
            .filter(|(_, pod)| !pod.finished)
            .filter_map(|(_, pod)| self.nodes.get(pod.node.as_ref()?))
            .flat_map(|node| {
                demand.apart.iter().filter_map(|key| node.labels.get(key).map(|value| (key.clone(), value.clone())))
            })
            .collect()
    }

    fn provided(&self, capacity: CapacityType, now: Timestamp) -> bool {
        match self.rules.provisioner {
            Provisioner::Always => true,
            Provisioner::Never => false,
            Provisioner::Auto => {
                let place = usize::from(capacity == CapacityType::OnDemand);
                self.node_pools.values().any(|pool| pool.provides[place])
                    || self.autoscaler.as_ref().is_some_and(|report| report.provides(now))
                        && self.nodes.values().any(|node| node.class == Some(capacity))
            }
        }
    }
}

/// The entries of the user's `nodeSelector` that admission takes away or sets anew.
fn given_way(amendment: Amendment<'_>) -> Vec<Box<str>> {
    let mut keys = amendment.drop_from_node_selector;
    keys.extend(amendment.node_selector.map(|(key, _)| key.into()));
    keys
}

/// Names of the budgets that select the label sets met last: those of one revision, steered this way and that. Pods of a
/// StatefulSet have a label set each, and to remember more would find none of them.
#[derive(Default)]
struct MatchingBudgets(VecDeque<(Arc<Labels>, Vec<Arc<str>>)>);

impl MatchingBudgets {
    const REMEMBERED: usize = 4;

    fn of(&mut self, labels: &Arc<Labels>, find: impl FnOnce() -> Vec<Arc<str>>) -> &[Arc<str>] {
        // Equal label sets are shared.
        let known = self.0.iter().position(|(known, _)| Arc::ptr_eq(known, labels));
        let place = known.unwrap_or_else(|| {
            self.0.truncate(Self::REMEMBERED - 1);
            self.0.push_front((labels.clone(), find()));
            0
        });
        &self.0[place].1
    }
}

fn empty_snapshot(record: &WorkloadRecord, kind: WorkloadKind) -> Snapshot {
    let deciding = |problem: &&Problem| {
        matches!(problem.fault, Fault::Invalid { consequence: Consequence::FailsClosed, allowed: _ })
    };
    Snapshot {
        opt_in: OptIn::Out,
        policy: record.policy.clone(),
        invalid_key: record.problems.iter().find(deciding).map(|problem| problem.key.as_str().into()),
        nature: nature(kind, &record.object.spec),
        replicas: convert::replicas(record.object.spec.replicas),
        rollout: rollout(kind, &record.object),
        realized: Realized::default(),
        pods: Vec::new(),
        last_change: None,
    }
}

fn nature(kind: WorkloadKind, spec: &slim::WorkloadSpec) -> Nature {
    match kind {
        WorkloadKind::Deployment => Nature::Interchangeable,
        WorkloadKind::StatefulSet => Nature::Ordinal { ordered: &*spec.pod_management_policy != "Parallel" },
    }
}

/// How far the workload's controller is. With a partition, pods below it stay at the older revision for good.
fn rollout(kind: WorkloadKind, object: &slim::Workload) -> Rollout {
    let slim::WorkloadStatus {
        observed_generation,
        replicas,
        updated_replicas,
        update_revision: _,
        current_revision: _,
    } = object.status;
    let wanted = i64::from(convert::replicas(object.spec.replicas));
    let observed = observed_generation >= object.metadata.generation;
    let updated = match kind {
        WorkloadKind::Deployment => i64::from(updated_replicas) >= wanted && replicas <= updated_replicas,
        WorkloadKind::StatefulSet if updates_on_delete(&object.spec) => true,
        WorkloadKind::StatefulSet => i64::from(updated_replicas) >= wanted - partition(&object.spec),
    };
    match (object.spec.paused, observed && updated) {
        (true, _) => Rollout::Paused,
        (false, true) => Rollout::Settled,
        (false, false) => Rollout::InProgress,
    }
}

fn updates_on_delete(spec: &slim::WorkloadSpec) -> bool {
    &*spec.update_strategy.r#type == "OnDelete"
}

fn partition(spec: &slim::WorkloadSpec) -> i64 {
    spec.update_strategy.rolling_update.as_ref().map_or(0, |update| i64::from(update.partition))
}

/// Whether the pod would come back at its own revision. A StatefulSet creates ordinals below the partition at its current
/// revision and all others at the update revision (`newVersionedStatefulSetPod`).
fn keeps_revision(kind: WorkloadKind, record: &WorkloadRecord, pod: &PodRecord, slot: Option<u32>) -> bool {
    let slim::Workload { spec, status, metadata: _ } = &record.object;
    match kind {
        // A settled Deployment has pods of one revision only.
        WorkloadKind::Deployment => true,
        WorkloadKind::StatefulSet => {
            let below = !updates_on_delete(spec) && slot.is_some_and(|slot| i64::from(slot) <= partition(spec));
            let comes_back_at = match &*status.current_revision {
                current if below && !current.is_empty() => current,
                _ => &*status.update_revision,
            };
            pod.labels.get(names::CONTROLLER_REVISION_HASH).is_some_and(|own| &**own == comes_back_at)
        }
    }
}
