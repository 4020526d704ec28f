//! What the watches have shown, kept so that every question has an answer without asking the API server.
//!
//! A plain struct: `apply`, `delete`, `sweep`; no async, no lock, no clock of its own. It owns the admission ledgers,
//! because a pod that becomes visible must settle its reservation in the same step. It resolves policies and counts, but
//! decides nothing: decisions are in `spotalis-core`, which its snapshots feed.

mod admit;
mod autoscaler;
mod convert;
mod mark;
mod nodes;
mod pods;
mod snapshot;
#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use spotalis_core::admission::Ledger;
use spotalis_core::capacity::CapacityType;
use spotalis_core::class::CapacityClasses;
use spotalis_core::fit::Resources;
use spotalis_core::opt_in::{OptIn, OptInRules};
use spotalis_core::policy::{self, Declared, Defaults, Policy, Problem};
use spotalis_core::selector::{Labels, Selector};
use spotalis_core::steering::SteeringRules;

pub use admit::{Answer, Look, Newcomer, Untouched};
pub use snapshot::{NodeSummary, Outlook, PodView, WorkloadView};

use self::mark::Mark;
use crate::intern::Interner;
use crate::slim;

/// A watch that is not connected for this long is stale.
pub const DISCONNECTED: Duration = Duration::from_secs(5);
/// Nothing is moved by a view whose watch is not connected for this long: every watch ends and is resumed now and then.
pub const RECONNECTING: Duration = Duration::from_secs(1);
/// A watch without an event or bookmark for this long is stale. API servers send a bookmark about once a minute.
pub const SILENT: Duration = Duration::from_secs(150);

/// What of the configuration the index needs.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Who is managed.
    pub opt_in: OptInRules,
    /// How nodes are classified.
    pub classes: Arc<CapacityClasses>,
    /// What holds where no object says anything.
    pub defaults: Defaults,
    /// How to treat a user's own entry for the class's key.
    pub on_conflict: spotalis_core::steering::OnConflict,
    /// `distribution.provisioner`.
    pub provisioner: Provisioner,
}

/// Whether an autoscaler is trusted to provide a node of a type that has none with room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Provisioner {
    /// Where a Karpenter NodePool or the cluster-autoscaler's status says so.
    #[default]
    Auto,
    /// Yes.
    Always,
    /// No.
    Never,
}

/// The kinds of workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WorkloadKind {
    /// `apps/v1` Deployment.
    Deployment,
    /// `apps/v1` StatefulSet.
    StatefulSet,
}

impl WorkloadKind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Deployment, Self::StatefulSet];

    /// `Deployment`, `StatefulSet`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
            Self::StatefulSet => "StatefulSet",
        }
    }

    /// Reads a kind as people type it: any case, singular, plural or short name.
    pub fn parse(word: &str) -> Option<Self> {
        match word.to_ascii_lowercase().as_str() {
            "deployment" | "deployments" | "deploy" => Some(Self::Deployment),
            "statefulset" | "statefulsets" | "sts" => Some(Self::StatefulSet),
            _ => None,
        }
    }
}

/// A workload's identity.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WorkloadKey {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its kind.
    pub kind: WorkloadKind,
    /// Its name.
    pub name: Arc<str>,
}

impl WorkloadKey {
    /// What the workload of this key, if it has this UID, is to an Event.
    pub fn reference(&self, uid: &str) -> ObjectReference {
        ObjectReference {
            api_version: Some("apps/v1".to_owned()),
            kind: Some(self.kind.as_str().to_owned()),
            namespace: Some(self.namespace.to_string()),
            name: Some(self.name.to_string()),
            uid: Some(uid.to_owned()),
            ..ObjectReference::default()
        }
    }
}

impl fmt::Display for WorkloadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.namespace, self.kind.as_str().to_ascii_lowercase(), self.name)
    }
}

/// A pod's identity within the index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodKey {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

impl Ord for PodKey {
    fn cmp(&self, other: &Self) -> Ordering {
        // Namespaces are shared, and most comparisons are within one.
        let of_namespace = || self.namespace.cmp(&other.namespace);
        let of_namespace =
            if Arc::ptr_eq(&self.namespace, &other.namespace) { Ordering::Equal } else { of_namespace() };
        of_namespace.then_with(|| self.name.cmp(&other.name))
    }
}

impl PartialOrd for PodKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A watched kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum View {
    /// Namespaces.
    Namespaces,
    /// Nodes.
    Nodes,
    /// Deployments.
    Deployments,
    /// StatefulSets.
    StatefulSets,
    /// ReplicaSets.
    ReplicaSets,
    /// Pods.
    Pods,
    /// PodDisruptionBudgets.
    PodDisruptionBudgets,
    /// Karpenter NodePools, where the kind exists.
    NodePools,
    /// The one ConfigMap in which the cluster-autoscaler reports, where there is one.
    AutoscalerStatus,
}

impl View {
    /// The views without which nothing may be decided.
    pub const REQUIRED: [Self; 7] = [
        Self::Namespaces,
        Self::Nodes,
        Self::Deployments,
        Self::StatefulSets,
        Self::ReplicaSets,
        Self::Pods,
        Self::PodDisruptionBudgets,
    ];

    /// The views that say who provides nodes. Each is one watch, whatever namespaces are managed.
    pub const PROVISIONERS: [Self; 2] = [Self::NodePools, Self::AutoscalerStatus];

    /// The resource's plural name: metric label, log field.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Namespaces => "namespaces",
            Self::Nodes => "nodes",
            Self::Deployments => "deployments",
            Self::StatefulSets => "statefulsets",
            Self::ReplicaSets => "replicasets",
            Self::Pods => "pods",
            Self::PodDisruptionBudgets => "poddisruptionbudgets",
            Self::NodePools => "nodepools",
            Self::AutoscalerStatus => "configmaps",
        }
    }
}

/// A watch: a view, in all namespaces or in one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source {
    /// What is watched.
    pub view: View,
    /// The only namespace, with `controller.watchNamespaces`.
    pub namespace: Option<Box<str>>,
}

/// How current a watch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Currency {
    /// The first list is complete.
    pub synced: bool,
    /// When something was last heard on it.
    pub heard: Timestamp,
    /// Since when it has not been connected. After a list, since the list was asked for: it shows that moment.
    pub disconnected: Option<Timestamp>,
    /// It is being listed anew: the pages read so far and the rest show different moments.
    pub mixed: bool,
}

impl Currency {
    /// Of a watch that is connected and tells something now.
    pub const fn heard_at(now: Timestamp) -> Self {
        Self { synced: true, heard: now, disconnected: None, mixed: false }
    }

    /// Whether reviews may be answered by it.
    pub fn is_fresh(&self, now: Timestamp) -> bool {
        self.is_current(now, DISCONNECTED)
    }

    /// Whether pods may be moved by it.
    pub fn is_whole(&self, now: Timestamp) -> bool {
        !self.mixed && self.is_current(now, RECONNECTING)
    }

    fn is_current(&self, now: Timestamp, disconnected: Duration) -> bool {
        let within = |since: Timestamp, limit: Duration| {
            Duration::try_from(now.duration_since(since)).unwrap_or_default() < limit
        };
        self.synced && within(self.heard, SILENT) && self.disconnected.is_none_or(|since| within(since, disconnected))
    }
}

/// The mark of a list: what is not seen again before the list ends is gone.
pub type Epoch = u64;

#[derive(Debug)]
struct NamespaceRecord {
    labels: Labels,
    annotations: Labels,
    epoch: Epoch,
}

#[derive(Debug)]
struct WorkloadRecord {
    uid: Arc<str>,
    object: slim::Workload,
    policy: Arc<Policy>,
    problems: Arc<[Problem]>,
    epoch: Epoch,
}

#[derive(Debug)]
struct ReplicaSetRecord {
    namespace: Arc<str>,
    /// The Deployment's UID, if one controls it.
    deployment: Option<Arc<str>>,
    replicas: u32,
    /// The admission id in its template, copied there by somebody.
    copied: Option<Mark>,
    epoch: Epoch,
}

/// The pods and reservations of one ReplicaSet or StatefulSet.
#[derive(Debug, Default)]
struct OwnerRecord {
    ledger: Ledger,
    pods: BTreeSet<PodKey>,
    /// The newest change of a pod that is gone: what happened to it is not undone by its end.
    departed: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct PdbRecord {
    /// `None` selects nothing.
    selector: Option<Selector>,
    always_allow_unhealthy: bool,
    current: bool,
    disruptions_allowed: i32,
    current_healthy: i32,
    desired_healthy: i32,
    epoch: Epoch,
}

#[derive(Debug)]
struct NodePoolRecord {
    provides: [bool; 2],
    epoch: Epoch,
}

/// See the module.
#[derive(Debug)]
pub struct Index {
    rules: Rules,
    strings: Interner<str>,
    label_sets: Interner<Labels>,
    requests: Interner<Resources>,
    namespaces: BTreeMap<Arc<str>, NamespaceRecord>,
    workloads: BTreeMap<WorkloadKey, WorkloadRecord>,
    workload_of_uid: BTreeMap<Arc<str>, WorkloadKey>,
    replica_sets: BTreeMap<Arc<str>, ReplicaSetRecord>,
    /// ReplicaSets by the UID of their Deployment.
    revisions: BTreeMap<Arc<str>, BTreeSet<Arc<str>>>,
    owners: BTreeMap<Arc<str>, OwnerRecord>,
    pods: BTreeMap<PodKey, pods::PodRecord>,
    nodes: BTreeMap<Arc<str>, nodes::NodeRecord>,
    usage: BTreeMap<Arc<str>, nodes::Usage>,
    pdbs: BTreeMap<(Arc<str>, Arc<str>), PdbRecord>,
    node_pools: BTreeMap<Arc<str>, NodePoolRecord>,
    autoscaler: Option<autoscaler::AutoscalerRecord>,
    sources: BTreeMap<Source, Currency>,
    last_epoch: Epoch,
    changed: BTreeSet<WorkloadKey>,
    /// A node, or who provides them, is not what it was.
    room_changed: bool,
}

impl Index {
    /// An index that has seen nothing.
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            strings: Interner::default(),
            label_sets: Interner::default(),
            requests: Interner::default(),
            namespaces: BTreeMap::new(),
            workloads: BTreeMap::new(),
            workload_of_uid: BTreeMap::new(),
            replica_sets: BTreeMap::new(),
            revisions: BTreeMap::new(),
            owners: BTreeMap::new(),
            pods: BTreeMap::new(),
            nodes: BTreeMap::new(),
            usage: BTreeMap::new(),
            pdbs: BTreeMap::new(),
            node_pools: BTreeMap::new(),
            autoscaler: None,
            sources: BTreeMap::new(),
            last_epoch: 0,
            changed: BTreeSet::new(),
            room_changed: false,
        }
    }

    /// The rules in force.
    pub const fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Puts other rules in force: everything derived from them is derived anew.
    pub fn set_rules(&mut self, rules: Rules) {
        self.rules = rules;
        let keys: Vec<WorkloadKey> = self.workloads.keys().cloned().collect();
        keys.iter().for_each(|key| self.resolve_policy(key));
        self.classify_all_nodes();
        self.changed.extend(keys);
    }

    /// The workloads that something happened to since the last call, in order.
    pub fn take_changed(&mut self) -> BTreeSet<WorkloadKey> {
        std::mem::take(&mut self.changed)
    }

    /// Whether nodes, or who provides them, changed since the last call.
    pub fn take_room_changed(&mut self) -> bool {
        std::mem::take(&mut self.room_changed)
    }

    /// What the API server calls a workload.
    pub fn uid(&self, key: &WorkloadKey) -> Option<Arc<str>> {
        self.workloads.get(key).map(|record| record.uid.clone())
    }

    /// Every workload known.
    pub fn workload_keys(&self) -> impl Iterator<Item = &WorkloadKey> {
        self.workloads.keys()
    }

    /// A watch is about to begin. Until its first list is complete, its view is not synced.
    pub fn expect_source(&mut self, source: Source) {
        let cold = Currency { synced: false, ..Currency::heard_at(Timestamp::UNIX_EPOCH) };
        self.sources.entry(source).or_insert(cold);
    }

    /// How current the watches of a view are, each.
    pub fn currency(&self, view: View) -> impl Iterator<Item = Currency> {
        self.sources.iter().filter(move |(source, _)| source.view == view).map(|(_, currency)| *currency)
    }

    /// Notes how current a watch is.
    pub fn set_currency(&mut self, source: &Source, currency: Currency) {
        self.sources.insert(source.clone(), currency);
    }

    /// Notes how the currency of a watch changed.
    pub fn update_currency(&mut self, source: &Source, change: impl FnOnce(Currency) -> Currency) {
        if let Some(currency) = self.sources.get_mut(source) {
            *currency = change(*currency);
        }
    }

    /// Whether a view is watched, and everywhere as `holds` asks.
    fn view_is(&self, view: View, holds: impl Fn(Currency) -> bool) -> bool {
        let mut watches = self.currency(view).peekable();
        watches.peek().is_some() && watches.all(holds)
    }

    /// Whether the first lists of all required views are complete.
    pub fn is_synced(&self) -> bool {
        View::REQUIRED.iter().all(|view| self.view_is(*view, |currency| currency.synced))
    }

    /// Whether reviews may be answered by every required view.
    pub fn is_fresh(&self, now: Timestamp) -> bool {
        View::REQUIRED.iter().all(|view| self.view_is(*view, |currency| currency.is_fresh(now)))
    }

    /// Whether pods may be moved by every required view.
    pub fn is_whole(&self, now: Timestamp) -> bool {
        View::REQUIRED.iter().all(|view| self.view_is(*view, |currency| currency.is_whole(now)))
    }

    /// Ends reservations that ran out, unless the pod watch is in doubt. They run out by the time at which something was last
    /// heard: a silent watch may hide the pods that would settle them.
    pub fn expire_reservations(&mut self, now: Timestamp) {
        if self.view_is(View::Pods, |currency| currency.is_fresh(now) && currency.disconnected.is_none()) {
            let heard =
                self.currency(View::Pods).map(|currency| currency.heard).min().map_or(now, |heard| heard.min(now));
            self.owners.retain(|_, owner| {
                owner.ledger.expire(heard);
                !owner.pods.is_empty() || !owner.ledger.is_empty()
            });
        }
    }

    /// Reservations outstanding.
    pub fn reservations(&self) -> usize {
        self.owners.values().map(|owner| owner.ledger.reserved()).sum()
    }

    // ---- Namespaces ----

    /// A namespace was seen.
    pub fn apply_namespace(&mut self, object: slim::Namespace, epoch: Epoch) {
        let slim::Meta { name, labels, annotations, .. } = object.metadata;
        let name = self.strings.intern(&*name);
        let new = NamespaceRecord { labels, annotations: annotations.0, epoch };
        let same = self
            .namespaces
            .get(&name)
            .is_some_and(|old| old.labels == new.labels && old.annotations == new.annotations);
        self.namespaces.insert(name.clone(), new);
        if !same {
            self.namespace_changed(&name);
        }
    }

    /// A namespace is gone.
    pub fn delete_namespace(&mut self, name: &str) {
        self.namespaces.remove(name);
        self.namespace_changed(name);
    }

    fn namespace_changed(&mut self, name: &str) {
        let keys: Vec<WorkloadKey> = self.workloads_in(name).cloned().collect();
        keys.iter().for_each(|key| self.resolve_policy(key));
        self.changed.extend(keys);
    }

    fn workloads_in<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a WorkloadKey> {
        let from = WorkloadKey { namespace: namespace.into(), kind: WorkloadKind::Deployment, name: "".into() };
        self.workloads.range(from..).map(|(key, _)| key).take_while(move |key| &*key.namespace == namespace)
    }

    // ---- Workloads and ReplicaSets ----

    fn workload_key(&mut self, kind: WorkloadKind, namespace: &str, name: &str) -> WorkloadKey {
        WorkloadKey { namespace: self.strings.intern(namespace), kind, name: self.strings.intern(name) }
    }

    /// A Deployment or StatefulSet was seen.
    pub fn apply_workload(&mut self, kind: WorkloadKind, object: slim::Workload, epoch: Epoch) {
        let key = self.workload_key(kind, &object.metadata.namespace, &object.metadata.name);
        let uid = self.strings.intern(&*object.metadata.uid);
        if let Some(old) = self.workloads.get(&key)
            && old.uid != uid
        {
            self.forget_workload(&key);
        }
        self.workload_of_uid.insert(uid.clone(), key.clone());
        let (policy, problems) = self.policy_of(&key.namespace, &object);
        self.workloads.insert(key.clone(), WorkloadRecord { uid, object, policy, problems, epoch });
        self.changed.insert(key);
    }

    /// A Deployment or StatefulSet is gone.
    pub fn delete_workload(&mut self, kind: WorkloadKind, namespace: &str, name: &str) {
        let key = self.workload_key(kind, namespace, name);
        self.forget_workload(&key);
        self.changed.insert(key);
    }

    fn forget_workload(&mut self, key: &WorkloadKey) {
        let Some(record) = self.workloads.remove(key) else { return };
        self.workload_of_uid.remove(&record.uid);
        self.abandon(&record.uid);
    }

    /// The owner is gone: nothing that was promised to its pods will appear.
    fn abandon(&mut self, owner: &str) {
        if let Some(record) = self.owners.get_mut(owner) {
            record.ledger.abandon();
        }
        self.drop_owner_if_empty(owner);
    }

    fn drop_owner_if_empty(&mut self, owner: &str) {
        if self.owners.get(owner).is_some_and(|record| record.pods.is_empty() && record.ledger.is_empty()) {
            self.owners.remove(owner);
        }
    }

    fn resolve_policy(&mut self, key: &WorkloadKey) {
        let Some(record) = self.workloads.get(key) else { return };
        let (policy, problems) = self.policy_of(&key.namespace, &record.object);
        if let Some(record) = self.workloads.get_mut(key) {
            record.policy = policy;
            record.problems = problems;
        }
    }

    fn policy_of(&self, namespace: &str, object: &slim::Workload) -> (Arc<Policy>, Arc<[Problem]>) {
        let none = Labels::new();
        let (annotations, labels) =
            self.namespaces.get(namespace).map_or((&none, &none), |record| (&record.annotations, &record.labels));
        let workload = Declared { annotations: &object.metadata.annotations.0, labels: &object.metadata.labels };
        let (policy, problems) = policy::resolve(&workload, &Declared { annotations, labels }, &self.rules.defaults);
        (Arc::new(policy), problems.into())
    }

    fn opt_in_of(&self, key: &WorkloadKey, record: &WorkloadRecord) -> OptIn {
        let none = Labels::new();
        let labels = self.namespaces.get(&key.namespace).map_or(&none, |namespace| &namespace.labels);
        self.rules.opt_in.decide(&key.namespace, labels, &record.object.metadata.labels)
    }

    fn steering_rules(&self, policy: &Policy) -> SteeringRules {
        SteeringRules { placement: policy.placement.value, on_conflict: self.rules.on_conflict }
    }

    /// A ReplicaSet was seen.
    pub fn apply_replica_set(&mut self, object: &slim::ReplicaSet, epoch: Epoch) {
        let uid = self.strings.intern(&*object.metadata.uid);
        let namespace = self.strings.intern(&*object.metadata.namespace);
        let deployment = object
            .metadata
            .controller()
            .filter(|owner| &*owner.kind == "Deployment")
            .map(|owner| owner.uid.clone())
            .map(|uid| self.strings.intern(&*uid));
        let record = ReplicaSetRecord {
            namespace,
            deployment: deployment.clone(),
            replicas: convert::replicas(object.spec.replicas),
            copied: Mark::in_template(&object.spec.template.metadata),
            epoch,
        };
        let old = self.replica_sets.insert(uid.clone(), record).and_then(|old| old.deployment);
        if let Some(old) = old.filter(|old| Some(old) != deployment.as_ref()) {
            self.unlink_revision(Some(&old), &uid);
            self.mark_uid(&old);
        }
        if let Some(deployment) = deployment {
            self.mark_uid(&deployment);
            self.revisions.entry(deployment).or_default().insert(uid);
        }
    }

    /// A ReplicaSet is gone.
    pub fn delete_replica_set(&mut self, uid: &str) {
        let Some(record) = self.replica_sets.remove(uid) else { return };
        self.unlink_revision(record.deployment.as_ref(), uid);
        self.abandon(uid);
        if let Some(deployment) = record.deployment {
            self.mark_uid(&deployment);
        }
    }

    fn unlink_revision(&mut self, deployment: Option<&Arc<str>>, uid: &str) {
        let Some(deployment) = deployment else { return };
        if let Some(revisions) = self.revisions.get_mut(deployment) {
            revisions.remove(uid);
            if revisions.is_empty() {
                self.revisions.remove(deployment);
            }
        }
    }

    fn mark_uid(&mut self, uid: &str) {
        if let Some(key) = self.workload_of_uid.get(uid) {
            self.changed.insert(key.clone());
        }
    }

    /// Marks the workload that owns this ReplicaSet or is this StatefulSet.
    fn mark_owner(&mut self, owner: &str) {
        match self.replica_sets.get(owner) {
            Some(ReplicaSetRecord { deployment: Some(deployment), .. }) => {
                let deployment = deployment.clone();
                self.mark_uid(&deployment);
            }
            Some(ReplicaSetRecord { deployment: None, .. }) => {}
            None => self.mark_uid(owner),
        }
    }

    // ---- PodDisruptionBudgets and provisioners ----

    /// A PodDisruptionBudget was seen.
    pub fn apply_pdb(&mut self, object: slim::PodDisruptionBudget, epoch: Epoch) {
        let slim::PodDisruptionBudget { metadata, spec, status } = object;
        let key = (self.strings.intern(&*metadata.namespace), self.strings.intern(&*metadata.name));
        let record = PdbRecord {
            selector: spec.selector.as_ref().map(convert::selector),
            always_allow_unhealthy: &*spec.unhealthy_pod_eviction_policy == "AlwaysAllow",
            current: status.observed_generation >= metadata.generation,
            disruptions_allowed: status.disruptions_allowed,
            current_healthy: status.current_healthy,
            desired_healthy: status.desired_healthy,
            epoch,
        };
        let namespace = key.0.clone();
        let same = self.pdbs.get(&key).is_some_and(|old| PdbRecord { epoch, ..old.clone() } == record);
        let old = self.pdbs.insert(key, record.clone());
        if !same {
            let both: Vec<&PdbRecord> = old.iter().chain([&record]).collect();
            self.mark_selected(&namespace, &both);
        }
    }

    /// A PodDisruptionBudget is gone.
    pub fn delete_pdb(&mut self, namespace: &str, name: &str) {
        let key = (self.strings.intern(namespace), self.strings.intern(name));
        let old = self.pdbs.remove(&key);
        self.mark_selected(namespace, &old.iter().collect::<Vec<_>>());
    }

    /// Marks the workloads whose pods one of these budgets selects. Labels that somebody adds to a running pod are found by
    /// the next look.
    fn mark_selected(&mut self, namespace: &str, budgets: &[&PdbRecord]) {
        let selected = |key: &&WorkloadKey| {
            let labels = self.workloads.get(*key).map(|record| &record.object.spec.template.metadata.labels);
            let selects = |budget: &PdbRecord| {
                budget.selector.as_ref().zip(labels).is_some_and(|(selector, labels)| selector.matches(labels))
            };
            budgets.iter().copied().any(selects)
        };
        let keys: Vec<WorkloadKey> = self.workloads_in(namespace).filter(selected).cloned().collect();
        self.changed.extend(keys);
    }

    /// A Karpenter NodePool was seen.
    pub fn apply_node_pool(&mut self, object: &slim::NodePool, epoch: Epoch) {
        let name = self.strings.intern(&*object.metadata.name);
        let provides = CapacityType::ALL.map(|capacity| convert::provides(object, capacity));
        let old = self.node_pools.insert(name, NodePoolRecord { provides, epoch });
        self.room_changed |= old.is_none_or(|old| old.provides != provides);
    }

    /// A Karpenter NodePool is gone.
    pub fn delete_node_pool(&mut self, name: &str) {
        self.node_pools.remove(name);
    }

    // ---- Lists ----

    /// A list begins: its mark.
    pub fn begin_list(&mut self) -> Epoch {
        self.last_epoch += 1;
        self.last_epoch
    }

    /// A list, begun with `epoch`, is complete: what it did not show is gone.
    pub fn sweep(&mut self, source: &Source, epoch: Epoch) {
        let within = |namespace: &str| source.namespace.as_deref().is_none_or(|own| own == namespace);
        match source.view {
            View::Namespaces => {
                let gone = stale(&self.namespaces, |_, record| record.epoch < epoch);
                gone.iter().for_each(|name| self.delete_namespace(name));
            }
            View::Deployments => self.sweep_workloads(WorkloadKind::Deployment, within, epoch),
            View::StatefulSets => self.sweep_workloads(WorkloadKind::StatefulSet, within, epoch),
            View::ReplicaSets => {
                let gone = stale(&self.replica_sets, |_, record| record.epoch < epoch && within(&record.namespace));
                gone.iter().for_each(|uid| self.delete_replica_set(uid));
            }
            View::Pods => {
                let gone = stale(&self.pods, |key, record| record.epoch < epoch && within(&key.namespace));
                gone.iter().for_each(|key| self.delete_pod(&key.namespace, &key.name));
            }
            View::Nodes => {
                let gone = stale(&self.nodes, |_, record| record.epoch < epoch);
                gone.iter().for_each(|name| self.delete_node(name));
            }
            View::PodDisruptionBudgets => {
                let gone = stale(&self.pdbs, |(namespace, _), record| record.epoch < epoch && within(namespace));
                gone.iter().for_each(|(namespace, name)| self.delete_pdb(namespace, name));
            }
            View::NodePools => self.node_pools.retain(|_, record| record.epoch >= epoch),
            View::AutoscalerStatus => self.autoscaler = self.autoscaler.take().filter(|record| record.epoch >= epoch),
        }
    }

    fn sweep_workloads(&mut self, kind: WorkloadKind, within: impl Fn(&str) -> bool, epoch: Epoch) {
        let gone =
            stale(&self.workloads, |key, record| key.kind == kind && record.epoch < epoch && within(&key.namespace));
        for key in gone {
            self.forget_workload(&key);
            self.changed.insert(key);
        }
    }
}

fn stale<K: Clone + Ord, V>(records: &BTreeMap<K, V>, is_stale: impl Fn(&K, &V) -> bool) -> Vec<K> {
    records.iter().filter(|(key, record)| is_stale(key, record)).map(|(key, _)| key.clone()).collect()
}
