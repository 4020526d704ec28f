//! Objects as the API server writes them go in; snapshots, counts and answers come out.

use CapacityType::{OnDemand, Spot};
use proptest::prelude::*;
use serde_json::{Value, json};
use spotalis_core::admission::{Doubt, Verdict};
use spotalis_core::class::Preset;
use spotalis_core::opt_in::{Missing, Mode, NeverReason};
use spotalis_core::policy::{Fault, Level, Placement, Standing, keys};
use spotalis_core::rebalance::{Budgets, Nature, Pod, Realized, Rollout, Room, Snapshot};
use spotalis_core::slots::Seat;
use spotalis_core::steering::OnConflict;

use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + seconds).unwrap()
}

fn rules() -> Rules {
    Rules {
        opt_in: OptInRules {
            mode: Mode::Both,
            namespace_selector: Selector::default(),
            own_namespace: "spotalis-system".into(),
            watch_namespaces: BTreeSet::new(),
        },
        classes: CapacityClasses::preset(Preset::Karpenter).into(),
        defaults: Defaults::default(),
        on_conflict: OnConflict::Respect,
        provisioner: Provisioner::Auto,
    }
}

/// An index that takes objects as JSON.
struct Cluster {
    index: Index,
    epoch: Epoch,
}

/// Something that a watch shows.
#[derive(Clone, Debug)]
enum Seen {
    Is(View, Value),
    Gone(View, Value),
}

fn key(kind: WorkloadKind, name: &str) -> WorkloadKey {
    WorkloadKey { namespace: "shop".into(), kind, name: name.into() }
}

fn web() -> WorkloadKey {
    key(WorkloadKind::Deployment, "web")
}

fn db() -> WorkloadKey {
    key(WorkloadKind::StatefulSet, "db")
}

/// `more` laid over `object`, as a merge patch does it: `null` removes.
fn with(mut object: Value, more: &Value) -> Value {
    fn merge(object: &mut Value, more: &Value) {
        match (object, more) {
            (Value::Object(into), Value::Object(from)) => {
                for (key, value) in from {
                    if value.is_null() {
                        into.remove(key);
                        continue;
                    }
                    merge(into.entry(key.clone()).or_insert(Value::Null), value);
                }
            }
            (object, more) => *object = more.clone(),
        }
    }
    merge(&mut object, more);
    object
}

fn managed_fields() -> Value {
    json!([{ "manager": "kube-controller-manager", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1",
             "time": "2023-11-14T22:13:20Z", "fieldsV1": { "f:metadata": { "f:labels": { ".": {}, "f:app": {} } } } }])
}

fn namespace(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": { "name": name, "uid": format!("ns-{name}"), "managedFields": managed_fields(),
                      "labels": { "kubernetes.io/metadata.name": name, "spotalis.io/enabled": "true" } },
        "spec": { "finalizers": ["kubernetes"] }, "status": { "phase": "Active" },
    })
}

fn node(name: &str, class: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": { "name": name, "uid": format!("node-{name}"), "labels": {
            "karpenter.sh/capacity-type": class, "kubernetes.io/hostname": name, "topology.kubernetes.io/zone": "a" } },
        "spec": { "providerID": format!("aws:///eu-1a/{name}") },
        "status": {
            "allocatable": { "cpu": "3920m", "memory": "7Gi", "pods": "58", "ephemeral-storage": "18242267924" },
            "conditions": [{ "type": "MemoryPressure", "status": "False" },
                           { "type": "Ready", "status": "True", "reason": "KubeletReady" }],
            "images": [{ "names": ["registry/app@sha256:0"], "sizeBytes": 1 }],
        },
    })
}

fn template() -> Value {
    json!({
        "metadata": { "labels": { "app": "web" } },
        "spec": { "containers": [{ "name": "app", "image": "app", "resources": {
            "requests": { "cpu": "500m", "memory": "256Mi" }, "limits": { "memory": "256Mi" } } }] },
    })
}

fn deployment(replicas: u32) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {
            "name": "web", "namespace": "shop", "uid": "web", "generation": 3, "managedFields": managed_fields(),
            "labels": { "app": "web", "spotalis.io/enabled": "true" },
            "annotations": { "deployment.kubernetes.io/revision": "2", "spotalis.io/spot-percentage": "50" },
        },
        "spec": { "replicas": replicas, "selector": { "matchLabels": { "app": "web" } }, "template": template(),
                  "strategy": { "type": "RollingUpdate", "rollingUpdate": { "maxSurge": "25%", "maxUnavailable": "25%" } } },
        "status": { "observedGeneration": 3, "replicas": replicas, "updatedReplicas": replicas },
    })
}

fn replica_set(uid: &str, replicas: u32) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": {
            "name": format!("web-{uid}"), "namespace": "shop", "uid": uid,
            "labels": { "app": "web", "pod-template-hash": uid },
            "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "web",
                                  "controller": true, "blockOwnerDeletion": true }],
        },
        "spec": { "replicas": replicas, "selector": {}, "template": template() },
        "status": { "replicas": replicas },
    })
}

fn stateful_set(replicas: u32) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet",
        "metadata": { "name": "db", "namespace": "shop", "uid": "db", "generation": 1,
                      "labels": { "spotalis.io/enabled": "true" },
                      "annotations": { "spotalis.io/spot-percentage": "50%" } },
        "spec": { "replicas": replicas, "serviceName": "db", "template": template(),
                  "updateStrategy": { "type": "RollingUpdate", "rollingUpdate": { "partition": 0 } } },
        "status": { "observedGeneration": 1, "replicas": replicas, "updatedReplicas": replicas,
                    "currentRevision": "db-1", "updateRevision": "db-1" },
    })
}

/// A pod of the ReplicaSet `owner` on `on`; not bound if that is empty. Not steered by us.
fn pod(name: &str, owner: &str, on: &str) -> Value {
    let node = if on.is_empty() { json!({}) } else { json!({ "nodeName": on }) };
    let owned = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name, "namespace": "shop", "uid": format!("pod-{name}"), "generateName": format!("web-{owner}-"),
            "creationTimestamp": "2023-11-14T22:13:20Z", "managedFields": managed_fields(),
            "labels": { "app": "web", "pod-template-hash": owner },
            "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": format!("web-{owner}"),
                                  "uid": owner, "controller": true, "blockOwnerDeletion": true }],
        },
        "spec": template()["spec"],
        "status": { "phase": "Running", "qosClass": "Burstable", "conditions": [
            { "type": "PodScheduled", "status": "True", "lastTransitionTime": "2023-11-14T22:13:21Z" },
            { "type": "Ready", "status": "True", "lastTransitionTime": "2023-11-14T22:13:30Z" } ] },
    });
    with(owned, &json!({ "spec": node }))
}

/// What admission writes on a pod.
fn steered(pod: Value, capacity: CapacityType, slot: u32, id: &str) -> Value {
    with(
        pod,
        &json!({ "metadata": {
            "labels": { "spotalis.io/capacity-type": capacity.as_str() },
            "annotations": { "spotalis.io/slot": slot.to_string(), "spotalis.io/admission-id": id,
                             "controller.kubernetes.io/pod-deletion-cost": format!("-{slot}") },
        } }),
    )
}

fn db_pod(name: &str, on: &str) -> Value {
    let owner =
        json!([{ "apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db", "uid": "db", "controller": true }]);
    let labels = json!({ "controller-revision-hash": "db-1", "pod-template-hash": null });
    with(pod(name, "", on), &json!({ "metadata": { "ownerReferences": owner, "labels": labels } }))
}

fn terminating(pod: Value) -> Value {
    let deletion = json!({ "deletionTimestamp": "2023-11-14T22:14:30Z", "deletionGracePeriodSeconds": 30 });
    with(pod, &json!({ "metadata": deletion }))
}

fn pdb(name: &str, allowed: i32) -> Value {
    json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
        "metadata": { "name": name, "namespace": "shop", "uid": name, "generation": 2 },
        "spec": { "minAvailable": 1, "selector": { "matchLabels": { "app": "web" } } },
        "status": { "observedGeneration": 2, "disruptionsAllowed": allowed, "currentHealthy": 1, "desiredHealthy": 1,
                    "expectedPods": 1, "conditions": [] },
    })
}

/// What the cluster-autoscaler reports at `at(0)`, of one group of at most three nodes.
fn autoscaler_status(target: u32) -> Value {
    let time = at(0).strftime("%Y-%m-%d %H:%M:%S +0000 UTC");
    let group = format!("{{name: a, health: {{status: Healthy, cloudProviderTarget: {target}, maxSize: 3}}}}");
    let status = format!("time: {time}\nautoscalerStatus: Running\nnodeGroups: [{group}]\n");
    json!({ "metadata": { "name": "cluster-autoscaler-status", "namespace": "kube-system" }, "data": { "status": status } })
}

fn node_pool(requirements: &Value) -> Value {
    json!({
        "apiVersion": "karpenter.sh/v1", "kind": "NodePool", "metadata": { "name": "general", "uid": "np" },
        "spec": { "template": { "spec": { "requirements": requirements, "expireAfter": "720h" } } },
        "status": { "conditions": [{ "type": "Ready", "status": "True" }] },
    })
}

fn read<K: slim::Slim>(object: &Value) -> K {
    serde_json::from_str(&object.to_string()).unwrap_or_else(|error| panic!("{error}"))
}

impl Cluster {
    fn empty() -> Self {
        Self { index: Index::new(rules()), epoch: 1 }
    }

    /// The namespace, a node of each kind, `web` with the ReplicaSet `r1`; all watches fresh.
    fn new(replicas: u32) -> Self {
        let mut cluster = Self::empty();
        cluster.refresh(at(0));
        cluster.see([
            Seen::Is(View::Namespaces, namespace("shop")),
            Seen::Is(View::Nodes, node("s", "spot")),
            Seen::Is(View::Nodes, node("o", "on-demand")),
            Seen::Is(View::Nodes, node("r", "reserved")),
            Seen::Is(View::Deployments, deployment(replicas)),
            Seen::Is(View::ReplicaSets, replica_set("r1", replicas)),
        ]);
        cluster
    }

    fn refresh(&mut self, now: Timestamp) {
        for view in View::REQUIRED {
            let fresh = Currency::heard_at(now);
            self.index.set_currency(&Source { view, namespace: None }, fresh);
        }
    }

    fn see(&mut self, seen: impl IntoIterator<Item = Seen>) {
        seen.into_iter().for_each(|seen| self.see_one(&seen));
    }

    fn is(&mut self, view: View, object: Value) {
        self.see_one(&Seen::Is(view, object));
    }

    fn pod_is(&mut self, pod: Value) {
        self.is(View::Pods, pod);
    }

    fn see_one(&mut self, seen: &Seen) {
        use crate::watch::Indexed;
        fn one<K: Indexed>(index: &mut Index, seen: &Seen, epoch: Epoch) {
            match seen {
                Seen::Is(view, object) => read::<K>(object).apply(index, *view, epoch),
                Seen::Gone(view, object) => read::<K>(object).delete(index, *view),
            }
        }
        let (Seen::Is(view, _) | Seen::Gone(view, _)) = seen;
        let (index, epoch) = (&mut self.index, self.epoch);
        match view {
            View::Namespaces => one::<slim::Namespace>(index, seen, epoch),
            View::Nodes => one::<slim::Node>(index, seen, epoch),
            View::Deployments | View::StatefulSets => one::<slim::Workload>(index, seen, epoch),
            View::ReplicaSets => one::<slim::ReplicaSet>(index, seen, epoch),
            View::Pods => one::<slim::Pod>(index, seen, epoch),
            View::PodDisruptionBudgets => one::<slim::PodDisruptionBudget>(index, seen, epoch),
            View::NodePools => one::<slim::NodePool>(index, seen, epoch),
            View::AutoscalerStatus => one::<slim::AutoscalerStatus>(index, seen, epoch),
        }
    }

    fn snapshot(&self, key: &WorkloadKey) -> Snapshot {
        self.index.workload(key).expect("the workload is known").snapshot
    }

    fn pods(&self) -> Vec<Pod> {
        self.snapshot(&web()).pods
    }

    fn only_pod(&self) -> Pod {
        let [pod] = <[Pod; 1]>::try_from(self.pods()).expect("one pod");
        pod
    }

    /// Spot, on-demand, unknown: what admission counts for an owner.
    fn counts(&self, owner: &str) -> [u32; 3] {
        let ledger = self.index.owners.get(owner).map(|owner| &owner.ledger);
        [Some(Spot), Some(OnDemand), None].map(|capacity| ledger.map_or(0, |ledger| ledger.count(capacity)))
    }

    fn admit(&mut self, id: &str, pod: &Value, now: Timestamp) -> Answer {
        self.ask(id, pod, false, now)
    }

    fn ask(&mut self, id: &str, pod: &Value, dry_run: bool, now: Timestamp) -> Answer {
        self.look(id, pod, dry_run, Look::Last, now)
    }

    fn look(&mut self, id: &str, pod: &Value, dry_run: bool, look: Look, now: Timestamp) -> Answer {
        let pod: slim::Pod = read(pod);
        let owner = pod.metadata.controller().expect("an owner").clone();
        let steered = pod.metadata.labels.get(keys::CAPACITY_TYPE).and_then(|word| CapacityType::parse(word));
        let newcomer = Newcomer {
            id,
            dry_run,
            namespace: &pod.metadata.namespace,
            name: &pod.metadata.name,
            owner_api: &owner.api_version,
            owner: (&owner.kind, &owner.name, &owner.uid),
            marked: pod.metadata.annotations.get(keys::ADMISSION_ID),
            steered,
            template_hash: pod.metadata.labels.get("pod-template-hash").map(|hash| &**hash),
            placement: &convert::placement(&pod.spec),
        };
        self.index.admit(&newcomer, look, now)
    }

    /// Everything that can be asked for, in words.
    fn picture(&self) -> String {
        let Index { owners, usage, nodes, pdbs, node_pools, autoscaler, revisions, .. } = &self.index;
        let workloads: Vec<_> = self
            .index
            .workload_keys()
            .map(|key| {
                (
                    self.index.workload(key),
                    CapacityType::ALL.map(|capacity| self.index.room(key, capacity, Outlook::default(), at(0))),
                )
            })
            .collect();
        let owners: Vec<_> = owners.iter().map(|(uid, owner)| (uid, &owner.pods, self.counts(uid))).collect();
        format!(
            "{workloads:#?} {owners:#?} {usage:#?} {nodes:#?} {pdbs:#?} {node_pools:#?} {autoscaler:#?} {revisions:#?}"
        )
    }
}

fn verdict(answer: Answer) -> Verdict {
    match answer {
        Answer::Decided { verdict, policy: _, workload: _ } => verdict,
        other => panic!("not decided: {other:?}"),
    }
}

fn seat(answer: Answer) -> (CapacityType, u32) {
    match verdict(answer) {
        Verdict::Seated(seat) => (seat.capacity, seat.slot),
        other => panic!("no seat: {other:?}"),
    }
}

// ---- What a pod counts as ----

#[test]
fn a_pod_counts_as_the_node_it_runs_on_and_unbound_as_what_it_was_steered_to() {
    let pinned = |class: &str| json!({ "spec": { "nodeSelector": { "karpenter.sh/capacity-type": class } } });
    let ours = |pod| steered(pod, Spot, 1, "a");
    for (what, object, capacity) in [
        ("on spot", pod("p", "r1", "s"), Some(Spot)),
        ("on on-demand", pod("p", "r1", "o"), Some(OnDemand)),
        ("on a node of neither class", pod("p", "r1", "r"), None),
        ("unbound", pod("p", "r1", ""), None),
        ("unbound, steered", ours(pod("p", "r1", "")), Some(Spot)),
        ("steered to spot, yet on on-demand", ours(pod("p", "r1", "o")), Some(OnDemand)),
        ("steered to spot, yet on neither", ours(pod("p", "r1", "r")), None),
        ("on a node not seen yet", pod("p", "r1", "new"), None),
        ("on a node not seen yet, steered", ours(pod("p", "r1", "new")), Some(Spot)),
        ("unbound, pinned by its own selector", with(pod("p", "r1", ""), &pinned("on-demand")), Some(OnDemand)),
        (
            "unbound, a label that is no type",
            with(pod("p", "r1", ""), &json!({ "metadata": { "labels": { "spotalis.io/capacity-type": "both" } } })),
            None,
        ),
    ] {
        let mut cluster = Cluster::new(1);
        cluster.pod_is(object);
        assert_eq!(cluster.only_pod().capacity, capacity, "{what}");
        let counted = [Some(Spot), Some(OnDemand), None].map(|other| u32::from(other == capacity));
        assert_eq!(cluster.counts("r1"), counted, "{what}");
    }
}

#[test]
fn a_pod_is_counted_anew_when_its_node_turns_out_to_be_something_else() {
    let mut cluster = Cluster::new(1);
    cluster.pod_is(steered(pod("p", "r1", "n"), Spot, 1, "a"));
    for (seen, counts) in [
        (Seen::Is(View::Nodes, node("n", "on-demand")), [0, 1, 0]),
        (Seen::Is(View::Nodes, node("n", "spot")), [1, 0, 0]),
        (Seen::Is(View::Nodes, node("n", "reserved")), [0, 0, 1]),
        // Gone: the pod will follow; until then, what it was steered to.
        (Seen::Gone(View::Nodes, node("n", "reserved")), [1, 0, 0]),
    ] {
        cluster.index.take_changed();
        cluster.see([seen.clone()]);
        assert_eq!(cluster.counts("r1"), counts, "{seen:?}");
        assert_eq!(cluster.index.take_changed(), BTreeSet::from([web()]), "{seen:?}");
    }
}

#[test]
fn other_rules_reclassify_everything() {
    let mut cluster = Cluster::new(1);
    cluster.pod_is(pod("p", "r1", "s"));
    assert_eq!(cluster.index.node_summary(), NodeSummary { spot: 1, on_demand: 1, unknown: 1 });
    cluster.index.take_changed();
    cluster.index.set_rules(Rules { classes: CapacityClasses::preset(Preset::Eks).into(), ..rules() });
    assert_eq!((cluster.counts("r1"), cluster.only_pod().capacity), ([0, 0, 1], None));
    assert_eq!(cluster.index.node_summary(), NodeSummary { spot: 0, on_demand: 0, unknown: 3 });
    assert_eq!(cluster.index.take_changed(), BTreeSet::from([web()]));
}

#[test]
fn what_is_read_off_a_pod() {
    let mut cluster = Cluster::new(2);
    let object = with(
        steered(pod("p", "r1", "o"), Spot, 7, "a"),
        &json!({ "metadata": { "annotations": { "karpenter.sh/do-not-disrupt": "true" } } }),
    );
    cluster.pod_is(object);
    cluster.pod_is(pod("q", "r1", "o"));
    let [p, q] = <[Pod; 2]>::try_from(cluster.pods()).unwrap();
    let wanted = Pod {
        name: "p".into(),
        uid: "pod-p".into(),
        capacity: Some(OnDemand),
        steered: Some(Spot),
        slot: Some(7),
        deletion_cost: Some(-7),
        marked: true,
        ready: true,
        keeps_revision: true,
        kept: true,
        created: at(0),
        budgets: Budgets::None,
        neighbours: 2,
    };
    assert_eq!(p, wanted);
    assert_eq!((q.marked, q.slot, q.deletion_cost, q.kept, q.steered), (false, None, None, false, None));
}

#[test]
fn only_exact_words_keep_a_pod_where_it_is() {
    let karpenter = "karpenter.sh/do-not-disrupt";
    let autoscaler = "cluster-autoscaler.kubernetes.io/safe-to-evict";
    for (key, value, kept) in [
        (karpenter, "true", true),
        (karpenter, "false", false),
        (autoscaler, "false", true),
        (autoscaler, "true", false),
    ] {
        let mut cluster = Cluster::new(1);
        cluster.pod_is(with(pod("p", "r1", "s"), &json!({ "metadata": { "annotations": { key: value } } })));
        assert_eq!(cluster.only_pod().kept, kept, "{key}: {value}");
    }
}

#[test]
fn ready_is_the_ready_condition_and_its_change_is_remembered() {
    let ready = |status: &str| {
        json!({ "status": { "conditions": [
        { "type": "ContainersReady", "status": "True" },
        { "type": "Ready", "status": status, "lastTransitionTime": "2023-11-14T22:15:00Z" }] } })
    };
    for (status, is_ready) in [("True", true), ("False", false), ("Unknown", false)] {
        let mut cluster = Cluster::new(1);
        cluster.pod_is(with(pod("p", "r1", "s"), &ready(status)));
        assert_eq!(cluster.only_pod().ready, is_ready);
        assert_eq!(cluster.snapshot(&web()).last_change, Some(at(100)));
    }
}

#[test]
fn the_last_change_is_the_newest_creation_deletion_or_readiness() {
    let mut cluster = Cluster::new(2);
    assert_eq!(cluster.snapshot(&web()).last_change, None);
    cluster.pod_is(pod("p", "r1", "s"));
    assert_eq!(cluster.snapshot(&web()).last_change, Some(at(10)), "Ready ten seconds after its creation");
    // Asked for at 22:14:00; the timestamp is the end of the grace period.
    cluster.pod_is(terminating(pod("q", "r1", "s")));
    assert_eq!(cluster.snapshot(&web()).last_change, Some(at(40)));
    let newest = with(pod("n", "r1", ""), &json!({ "metadata": { "creationTimestamp": "2023-11-14T22:20:00Z" } }));
    cluster.pod_is(newest.clone());
    assert_eq!(cluster.snapshot(&web()).last_change, Some(at(400)));
    // A scale-down may take away the very pods that tell of a move a moment ago.
    cluster.see([Seen::Gone(View::Pods, newest)]);
    assert_eq!(cluster.snapshot(&web()).last_change, Some(at(400)), "it was there a moment ago");
}

#[test]
fn pods_come_oldest_first_and_by_name() {
    let mut cluster = Cluster::new(3);
    let created = |second| json!({ "metadata": { "creationTimestamp": format!("2023-11-14T22:13:{second}Z") } });
    for (name, second) in [("c", 30), ("b", 30), ("a", 40), ("d", 20)] {
        cluster.pod_is(with(pod(name, "r1", "s"), &created(second)));
    }
    let names: Vec<_> = cluster.pods().iter().map(|pod| pod.name.to_string()).collect();
    assert_eq!(names, ["d", "b", "c", "a"]);
}

// ---- Whose pods they are ----

#[test]
fn two_revisions_are_counted_apart_and_shown_together() {
    let mut cluster = Cluster::new(3);
    cluster.is(View::ReplicaSets, replica_set("r2", 3));
    for (name, owner, on) in [("a", "r1", "s"), ("b", "r1", "s"), ("c", "r1", "o"), ("d", "r2", "o")] {
        cluster.pod_is(pod(name, owner, on));
    }
    assert_eq!((cluster.counts("r1"), cluster.counts("r2")), ([2, 1, 0], [0, 1, 0]));
    assert_eq!(cluster.pods().len(), 4);
    // At 50 % the second pod of the new revision goes to spot, whatever the old one has.
    assert_eq!(seat(cluster.admit("x", &pod("", "r2", ""), at(1))), (Spot, 1));
    assert_eq!(seat(cluster.admit("y", &pod("", "r2", ""), at(1))), (Spot, 3));
}

#[test]
fn terminating_and_finished_pods_count_no_more_but_use_their_node_until_they_are_over() {
    let mut cluster = Cluster::new(2);
    let cpu = |cluster: &Cluster| cluster.index.usage.get("s").map_or(0, |usage| usage.requested.cpu);
    let finished = |phase: &str| with(pod("a", "r1", "s"), &json!({ "status": { "phase": phase } }));
    for (what, object, active, used) in [
        ("running", pod("a", "r1", "s"), 1, 500),
        ("terminating", terminating(pod("a", "r1", "s")), 0, 500),
        ("succeeded", finished("Succeeded"), 0, 0),
        ("failed", finished("Failed"), 0, 0),
    ] {
        cluster.pod_is(object.clone());
        assert_eq!(
            (cluster.pods().len(), cluster.counts("r1")),
            (active, [u32::try_from(active).unwrap(), 0, 0]),
            "{what}"
        );
        assert_eq!(cpu(&cluster), used, "{what}");
        // First seen like that.
        let mut late = Cluster::new(2);
        late.pod_is(object.clone());
        assert_eq!((late.picture(), cpu(&late)), (cluster.picture(), used), "{what}");
    }
    cluster.see([Seen::Gone(View::Pods, pod("a", "r1", "s"))]);
    assert!(cluster.index.owners.is_empty() && cluster.index.usage.is_empty());
}

#[test]
fn seeing_the_same_again_changes_nothing() {
    let mut cluster = Cluster::new(2);
    cluster.pod_is(pod("a", "r1", "s"));
    cluster.is(View::PodDisruptionBudgets, pdb("one", 1));
    let before = cluster.picture();
    for _ in 0..3 {
        cluster.see([
            Seen::Is(View::Pods, pod("a", "r1", "s")),
            Seen::Is(View::Nodes, node("s", "spot")),
            Seen::Is(View::ReplicaSets, replica_set("r1", 2)),
            Seen::Is(View::Deployments, deployment(2)),
            Seen::Is(View::Namespaces, namespace("shop")),
            Seen::Is(View::PodDisruptionBudgets, pdb("one", 1)),
            Seen::Gone(View::Pods, pod("never-seen", "r1", "s")),
            Seen::Gone(View::ReplicaSets, replica_set("never-seen", 1)),
        ]);
    }
    assert_eq!(cluster.picture(), before);
}

#[test]
fn the_same_name_with_another_uid_is_another_object() {
    let mut cluster = Cluster::new(2);
    cluster.pod_is(pod("a", "r1", "s"));
    cluster.pod_is(with(pod("a", "r1", "o"), &json!({ "metadata": { "uid": "second" } })));
    assert_eq!(cluster.counts("r1"), [0, 1, 0]);
    assert_eq!(&*cluster.only_pod().uid, "second");
    assert!(!cluster.index.usage.contains_key("s"));
    // A new Deployment of the old name has none of the old one's pods.
    cluster.is(View::Deployments, with(deployment(2), &json!({ "metadata": { "uid": "web-2" } })));
    assert!(cluster.pods().is_empty());
    assert_eq!(&*cluster.index.workload(&web()).unwrap().uid, "web-2");
    cluster.see([Seen::Gone(View::Deployments, deployment(2))]);
    assert!(cluster.index.workload(&web()).is_none());
}

/// A StatefulSet's pod that was deleted and made again while a watch was down is seen only as its successor.
#[test]
fn a_successor_of_the_same_name_settles_its_own_reservation() {
    let mut cluster = Cluster::new(0);
    cluster.is(View::StatefulSets, stateful_set(2));
    cluster.pod_is(db_pod("db-0", "o"));
    assert_eq!(seat(cluster.admit("b", &db_pod("db-0", ""), at(1))), (Spot, 1));
    assert_eq!((cluster.index.reservations(), cluster.counts("db")), (1, [1, 1, 0]));
    let successor = with(steered(db_pod("db-0", ""), Spot, 1, "b"), &json!({ "metadata": { "uid": "second" } }));
    cluster.pod_is(successor);
    assert_eq!((cluster.index.reservations(), cluster.counts("db")), (0, [1, 0, 0]));
}

#[test]
fn a_bare_replica_set_is_nobodys_workload() {
    let mut cluster = Cluster::new(2);
    cluster.is(View::ReplicaSets, with(replica_set("bare", 2), &json!({ "metadata": { "ownerReferences": null } })));
    cluster.pod_is(pod("a", "bare", "s"));
    assert!(cluster.pods().is_empty());
    assert!(matches!(cluster.admit("x", &pod("", "bare", ""), at(1)), Answer::Untouched(Untouched::ForeignOwner)));
    // Controlled by something that we do not manage.
    let job = json!([{ "apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "name": "web", "uid": "web", "controller": true }]);
    cluster.is(View::ReplicaSets, with(replica_set("argo", 2), &json!({ "metadata": { "ownerReferences": job } })));
    assert!(matches!(cluster.admit("x", &pod("", "argo", ""), at(1)), Answer::Untouched(Untouched::ForeignOwner)));
    // An owner that does not control it is none.
    let loose = json!([{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-r1", "uid": "r1" }]);
    cluster.pod_is(with(pod("b", "r1", "s"), &json!({ "metadata": { "ownerReferences": loose } })));
    assert!(cluster.pods().is_empty());
}

/// Taking a label off a pod to look at it in peace is a common practice: the ReplicaSet lets it go and makes another.
#[test]
fn a_released_pod_is_counted_no_more_and_an_adopted_one_is() {
    let mut cluster = Cluster::new(2);
    cluster.is(View::ReplicaSets, replica_set("r2", 2));
    cluster.pod_is(pod("a", "r1", "s"));
    cluster.pod_is(pod("b", "r1", "o"));
    let released = with(pod("a", "r1", "s"), &json!({ "metadata": { "ownerReferences": null } }));
    cluster.index.take_changed();
    cluster.pod_is(released.clone());
    assert_eq!((cluster.counts("r1"), cluster.pods().len()), ([0, 1, 0], 1));
    assert_eq!(cluster.index.take_changed(), BTreeSet::from([web()]));
    assert_eq!(cluster.index.usage["s"].requested.cpu, 500, "it still runs");
    cluster.pod_is(pod("a", "r2", "s"));
    assert_eq!((cluster.counts("r1"), cluster.counts("r2"), cluster.pods().len()), ([0, 1, 0], [1, 0, 0], 2));
    cluster.pod_is(released.clone());
    cluster.see([Seen::Gone(View::Pods, released), Seen::Gone(View::Pods, pod("b", "r1", "o"))]);
    assert!(cluster.index.owners.is_empty() && cluster.index.usage.is_empty());
}

#[test]
fn a_replica_set_that_changes_hands_takes_its_pods_along() {
    let mut cluster = Cluster::new(1);
    cluster.pod_is(pod("a", "r1", "s"));
    cluster.index.take_changed();
    cluster.is(View::ReplicaSets, with(replica_set("r1", 1), &json!({ "metadata": { "ownerReferences": null } })));
    assert!(cluster.pods().is_empty());
    assert_eq!(cluster.index.take_changed(), BTreeSet::from([web()]));
    cluster.is(View::ReplicaSets, replica_set("r1", 1));
    assert_eq!(cluster.pods().len(), 1);
}

// ---- Reservations ----

#[test]
fn a_reservation_is_settled_exactly_when_its_pod_is_seen() {
    let mut cluster = Cluster::new(4);
    assert_eq!(seat(cluster.admit("a", &pod("", "r1", ""), at(1))), (Spot, 1));
    assert_eq!(seat(cluster.admit("b", &pod("", "r1", ""), at(1))), (OnDemand, 2));
    assert_eq!((cluster.index.reservations(), cluster.counts("r1")), (2, [1, 1, 0]));
    // Neither a pod of another admission nor one without our mark settles them.
    cluster.pod_is(steered(pod("x", "r1", ""), Spot, 3, "another"));
    cluster.pod_is(pod("y", "r1", "o"));
    assert_eq!((cluster.index.reservations(), cluster.counts("r1")), (2, [2, 2, 0]));
    let own = steered(pod("p", "r1", ""), OnDemand, 2, "b");
    for object in [own.clone(), own.clone(), steered(pod("p", "r1", "o"), OnDemand, 2, "b")] {
        cluster.pod_is(object);
        assert_eq!((cluster.index.reservations(), cluster.counts("r1")), (1, [2, 2, 0]));
    }
    cluster.see([Seen::Gone(View::Pods, own)]);
    assert_eq!((cluster.index.reservations(), cluster.counts("r1")), (1, [2, 1, 0]));
}

#[test]
fn a_pod_first_seen_on_its_way_out_settles_its_reservation_all_the_same() {
    for phase in ["Running", "Failed"] {
        let mut cluster = Cluster::new(4);
        cluster.admit("a", &pod("", "r1", ""), at(1));
        let own = with(steered(pod("p", "r1", "s"), Spot, 1, "a"), &json!({ "status": { "phase": phase } }));
        cluster.pod_is(if phase == "Running" { terminating(own) } else { own });
        assert_eq!((cluster.index.reservations(), cluster.counts("r1")), (0, [0, 0, 0]), "{phase}");
    }
}

#[test]
fn a_pod_left_alone_is_settled_by_its_lack_of_an_id() {
    let mut cluster = Cluster::new(4);
    let insists =
        with(pod("", "r1", ""), &json!({ "spec": { "nodeSelector": { "karpenter.sh/capacity-type": "on-demand" } } }));
    let conflict = Verdict::Conflict { wanted: Spot, pinned: OnDemand };
    assert_eq!(verdict(cluster.admit("a", &insists, at(1))), conflict);
    cluster.admit("b", &pod("", "r1", ""), at(1));
    assert_eq!((cluster.index.reservations(), cluster.counts("r1")), (2, [1, 1, 0]));
    cluster.pod_is(with(insists, &json!({ "metadata": { "name": "p", "uid": "p" } })));
    assert_eq!((cluster.index.reservations(), cluster.counts("r1")), (1, [1, 1, 0]));
    // One that no node can ever take counts as neither.
    let nowhere =
        with(pod("", "r1", ""), &json!({ "spec": { "nodeSelector": { "karpenter.sh/capacity-type": "reserved" } } }));
    assert!(matches!(cluster.admit("c", &nowhere, at(1)), Answer::Unplaceable { .. }));
    assert_eq!(cluster.index.reservations(), 1);
}

#[test]
fn reservations_end_with_their_owner_and_by_age_only_while_the_pod_watch_is_well() {
    let reserved = |change: &dyn Fn(&mut Cluster)| {
        let mut cluster = Cluster::new(4);
        cluster.pod_is(pod("p", "r1", "s"));
        cluster.admit("a", &pod("", "r1", ""), at(1));
        change(&mut cluster);
        cluster.index.reservations()
    };
    assert_eq!(reserved(&|_| {}), 1);
    assert_eq!(reserved(&|cluster| cluster.see([Seen::Gone(View::ReplicaSets, replica_set("r1", 4))])), 0);
    let expire = |heard: i64, now: i64| {
        move |cluster: &mut Cluster| {
            let source = Source { view: View::Pods, namespace: None };
            cluster.index.update_currency(&source, |currency| Currency { heard: at(heard), ..currency });
            cluster.index.expire_reservations(at(now));
        }
    };
    assert_eq!(reserved(&expire(30, 30)), 1);
    assert_eq!(reserved(&expire(31, 31)), 0);
    // A silent watch hides the pods that would settle them.
    assert_eq!(reserved(&expire(30, 100)), 1);
    assert_eq!(reserved(&expire(100, 249)), 0);
    assert_eq!(reserved(&expire(100, 250)), 1);
    let disconnect = |cluster: &mut Cluster| {
        let source = Source { view: View::Pods, namespace: None };
        cluster.index.update_currency(&source, |currency| Currency { disconnected: Some(at(30)), ..currency });
        cluster.index.expire_reservations(at(31));
    };
    assert_eq!(reserved(&disconnect), 1);
}

#[test]
fn a_dry_run_leaves_no_trace() {
    let mut cluster = Cluster::new(4);
    let before = cluster.picture();
    assert_eq!(seat(cluster.ask("a", &pod("", "r1", ""), true, at(1))), (Spot, 1));
    assert_eq!((cluster.picture(), cluster.index.reservations()), (before, 0));
}

// ---- Admission ----

#[test]
fn a_mark_from_an_earlier_call_is_kept_unless_the_template_forges_it() {
    let ours = steered(pod("", "r1", ""), Spot, 9, "a");
    let mut cluster = Cluster::new(4);
    assert!(matches!(cluster.admit("b", &ours, at(1)), Answer::Already { capacity: Spot, policy: _ }));
    let forged = json!({ "spec": { "template": { "metadata": { "annotations": {
        "spotalis.io/admission-id": "copied", "spotalis.io/slot": "9" } } } } });
    cluster.is(View::ReplicaSets, with(replica_set("r1", 4), &forged));
    cluster.is(View::Deployments, with(deployment(4), &forged));
    assert!(matches!(cluster.admit("b", &ours, at(1)), Answer::Already { capacity: Spot, policy: _ }));
    assert_eq!(seat(cluster.admit("b", &steered(pod("", "r1", ""), Spot, 9, "copied"), at(1))), (Spot, 1));
    // A mark that everybody has proves nothing; one of its own does, if it came with a slot.
    cluster.pod_is(steered(pod("p", "r1", "s"), Spot, 9, "copied"));
    assert!(!cluster.only_pod().marked && cluster.only_pod().steered.is_none());
    cluster.pod_is(steered(pod("p", "r1", "s"), Spot, 9, "own"));
    assert!(cluster.only_pod().marked && cluster.only_pod().steered == Some(Spot));
    let in_doubt = json!({ "metadata": { "annotations": { "spotalis.io/slot": null } } });
    cluster.pod_is(with(steered(pod("p", "r1", "s"), Spot, 9, "own"), &in_doubt));
    assert!(!cluster.only_pod().marked && cluster.only_pod().steered.is_none());
}

#[test]
fn what_may_still_come_is_waited_for_once() {
    let first = |cluster: &mut Cluster, pod: &Value| cluster.look("a", pod, false, Look::First, at(1));
    let not_yet = |answer: &Answer| matches!(answer, Answer::NotYet);
    let mut cluster = Cluster::new(2);
    assert!(not_yet(&first(&mut cluster, &pod("", "r9", ""))), "its ReplicaSet");
    // Both replicas are there, and nothing shows yet why there is a third.
    cluster.pod_is(pod("p", "r1", "s"));
    cluster.pod_is(pod("q", "r1", "o"));
    assert!(not_yet(&first(&mut cluster, &pod("", "r1", ""))), "room");
    assert_eq!(cluster.index.reservations(), 0);
    assert_eq!(
        seat(cluster.look("a", &pod("", "r1", ""), true, Look::First, at(1))).0,
        Spot,
        "nobody waits for a trial"
    );
    cluster.pod_is(terminating(pod("q", "r1", "o")));
    assert_eq!(seat(first(&mut cluster, &pod("", "r1", ""))), (OnDemand, 2));
    assert_eq!(
        verdict(cluster.look("z", &pod("", "r1", ""), false, Look::Late, at(1))),
        Verdict::OnDemand(Doubt::Deadline)
    );
    // A namespace that nobody has seen may be opted in; one that is never managed is nobody's to wait for.
    let elsewhere = |namespace: &str| with(pod("", "r9", ""), &json!({ "metadata": { "namespace": namespace } }));
    assert!(not_yet(&first(&mut cluster, &elsewhere("new"))));
    for never in ["kube-system", "spotalis-system"] {
        assert!(matches!(first(&mut cluster, &elsewhere(never)), Answer::Untouched(_)), "{never}");
    }
}

#[test]
fn an_owner_owns_pods_of_its_namespace_and_its_api_group_alone() {
    let mut cluster = Cluster::new(4);
    let bank = json!({ "metadata": { "name": "bank", "labels": { "spotalis.io/enabled": "true" } } });
    cluster.is(View::Namespaces, bank);
    cluster.is(View::StatefulSets, stateful_set(2));
    for foreign in [pod("", "r1", ""), db_pod("db-0", "")] {
        let foreign = with(foreign, &json!({ "metadata": { "namespace": "bank" } }));
        assert!(matches!(cluster.admit("a", &foreign, at(1)), Answer::Untouched(Untouched::ForeignOwner)));
        cluster.pod_is(with(foreign, &json!({ "metadata": { "name": "stray", "uid": "stray" } })));
    }
    assert_eq!((cluster.counts("r1"), cluster.counts("db")), ([0; 3], [0; 3]));
    assert!(cluster.pods().is_empty());
    let mut kruise = db_pod("db-0", "");
    kruise["metadata"]["ownerReferences"][0]["apiVersion"] = json!("apps.kruise.io/v1beta1");
    assert!(matches!(
        cluster.look("a", &kruise, false, Look::First, at(1)),
        Answer::Untouched(Untouched::ForeignOwner)
    ));
}

#[test]
fn what_the_leader_decided_is_gone_on_from() {
    let mut cluster = Cluster::new(4);
    cluster.index.note_admission("r1", "a", Seat { capacity: Spot, slot: 1 }, at(1));
    assert_eq!(seat(cluster.admit("b", &pod("", "r1", ""), at(1))), (OnDemand, 2));
    cluster.pod_is(steered(pod("p", "r1", ""), Spot, 1, "a"));
    assert_eq!((cluster.index.reservations(), cluster.counts("r1")), (1, [1, 1, 0]));
}

#[test]
fn an_owner_that_is_not_known_yet_is_followed_by_its_name_in_doubt() {
    let mut cluster = Cluster::new(4);
    let early = pod("", "r9", "");
    assert_eq!(verdict(cluster.admit("a", &early, at(1))), Verdict::OnDemand(Doubt::UnknownOwner));
    assert_eq!(cluster.counts("r9"), [0, 1, 0]);
    // Known afterwards: what was decided counts.
    cluster.is(View::ReplicaSets, replica_set("r9", 4));
    assert_eq!(seat(cluster.admit("b", &early, at(2))), (Spot, 1));
    for (what, more) in [
        ("no hash", json!({ "metadata": { "labels": { "pod-template-hash": null } } })),
        ("another hash", json!({ "metadata": { "labels": { "pod-template-hash": "r8" } } })),
    ] {
        let answer = cluster.admit("c", &with(pod("", "r7", ""), &more), at(1));
        assert!(matches!(answer, Answer::Untouched(Untouched::UnknownOwner)), "{what}: {answer:?}");
    }
}

#[test]
fn a_cold_or_stale_index_sends_pods_to_on_demand() {
    let doubt = |change: &dyn Fn(&mut Cluster)| {
        let mut cluster = Cluster::new(4);
        change(&mut cluster);
        match verdict(cluster.admit("a", &pod("", "r1", ""), at(1))) {
            Verdict::OnDemand(doubt) => Some(doubt),
            Verdict::Seated(_) => None,
            other @ Verdict::Conflict { .. } => panic!("{other:?}"),
        }
    };
    let currency = |view, currency: Currency| {
        move |cluster: &mut Cluster| cluster.index.set_currency(&Source { view, namespace: None }, currency)
    };
    let cold = Currency { synced: false, ..Currency::heard_at(at(1)) };
    let silent = Currency::heard_at(at(1 - 150));
    let cut = Currency { disconnected: Some(at(1 - 5)), ..Currency::heard_at(at(1)) };
    for view in View::REQUIRED {
        let matters = view != View::PodDisruptionBudgets;
        assert_eq!(doubt(&currency(view, cold)), matters.then_some(Doubt::ColdIndex), "{view:?}");
        assert_eq!(doubt(&currency(view, silent)), matters.then_some(Doubt::StaleIndex), "{view:?}");
        assert_eq!(doubt(&currency(view, cut)), matters.then_some(Doubt::StaleIndex), "{view:?}");
    }
    assert_eq!(doubt(&currency(View::NodePools, cold)), None);
}

#[test]
fn what_is_not_managed_is_left_untouched() {
    let mut cluster = Cluster::new(4);
    cluster.is(
        View::Deployments,
        with(deployment(4), &json!({ "metadata": { "labels": { "spotalis.io/enabled": "false" } } })),
    );
    assert!(matches!(cluster.admit("a", &pod("", "r1", ""), at(1)), Answer::Untouched(Untouched::NotManaged)));
    let bound = pod("", "r1", "s");
    cluster.is(View::Deployments, deployment(4));
    assert!(matches!(cluster.admit("a", &bound, at(1)), Answer::Untouched(Untouched::Bound)));
    let job = json!([{ "apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "j", "controller": true }]);
    let answer =
        cluster.admit("a", &with(pod("", "r1", ""), &json!({ "metadata": { "ownerReferences": job } })), at(1));
    assert!(matches!(answer, Answer::Untouched(Untouched::ForeignOwner)));
    assert_eq!(cluster.index.reservations(), 0);
}

// ---- StatefulSets ----

#[test]
fn ordinals_are_slots_from_the_first_one_on() {
    let mut cluster = Cluster::new(0);
    for (start, name, slot) in [
        (json!(null), "db-0", Some(1)),
        (json!({ "start": 0 }), "db-3", Some(4)),
        (json!({ "start": 5 }), "db-5", Some(1)),
        (json!({ "start": 5 }), "db-8", Some(4)),
        (json!({ "start": 5 }), "db-4", None),
        (json!(null), "db", None),
        (json!(null), "db-", None),
        (json!(null), "db-x", None),
        (json!(null), "db--1", None),
        (json!(null), "web-1", None),
        // Anybody may name a StatefulSet as owner: no ordinal may cost memory, or overflow.
        (json!(null), "db-4000000000", None),
        (json!(null), "db-9223372036854775807", None),
        (json!({ "start": 2_147_483_647 }), "db-2147483647", Some(1)),
    ] {
        cluster.is(View::StatefulSets, with(stateful_set(4), &json!({ "spec": { "ordinals": start } })));
        let newcomer = db_pod(name, "");
        match cluster.ask("a", &newcomer, true, at(1)) {
            Answer::Untouched(Untouched::NoOrdinal) => assert_eq!(slot, None, "{name} from {start}"),
            answer => assert_eq!(Some(seat(answer).1), slot, "{name} from {start}"),
        }
        cluster.pod_is(db_pod(name, "o"));
        let seen = cluster.snapshot(&db()).pods;
        assert_eq!(seen.iter().map(|pod| pod.slot).collect::<Vec<_>>(), [slot], "{name} from {start}");
        cluster.see([Seen::Gone(View::Pods, db_pod(name, "o"))]);
    }
}

#[test]
fn an_ordinal_takes_the_type_of_its_slot_and_its_predecessor_is_no_other() {
    let mut cluster = Cluster::new(0);
    cluster.is(View::StatefulSets, stateful_set(4));
    for (name, on) in [("db-0", "s"), ("db-1", "o"), ("db-2", "s")] {
        cluster.pod_is(db_pod(name, on));
    }
    assert_eq!(seat(cluster.ask("a", &db_pod("db-3", ""), true, at(1))), (OnDemand, 4));
    // db-2 is created again while its old self is still shown as running.
    assert_eq!(seat(cluster.ask("b", &db_pod("db-2", ""), true, at(1))), (Spot, 3));
    // The one on on-demand went to spot: the fourth is already there in exchange.
    cluster.pod_is(db_pod("db-3", "s"));
    assert_eq!(seat(cluster.ask("c", &db_pod("db-1", ""), true, at(1))), (OnDemand, 2));
    cluster.pod_is(terminating(db_pod("db-0", "s")));
    assert_eq!(seat(cluster.ask("d", &db_pod("db-0", ""), true, at(1))), (OnDemand, 1), "spot has its share");
}

#[test]
fn what_an_evicted_pod_of_a_stateful_set_would_come_back_as() {
    // db-0 is at the update revision, db-1 at the older one, which is the status's current one.
    let keep = |strategy: Value| {
        let mut cluster = Cluster::new(0);
        let older = json!({ "status": { "currentRevision": "db-0" } });
        cluster.is(View::StatefulSets, with(with(stateful_set(2), &older), &json!({ "spec": strategy })));
        cluster.pod_is(db_pod("db-0", "s"));
        let revision = json!({ "metadata": { "labels": { "controller-revision-hash": "db-0" } } });
        cluster.pod_is(with(db_pod("db-1", "s"), &revision));
        let keeps: Vec<bool> = cluster.snapshot(&db()).pods.iter().map(|pod| pod.keeps_revision).collect();
        assert_eq!(cluster.counts("db"), [2, 0, 0], "its pods share one ledger, whatever their revision");
        keeps
    };
    let partition = |partition: u32| json!({ "updateStrategy": { "rollingUpdate": { "partition": partition } } });
    assert_eq!(keep(json!({})), [true, false], "db-1 is yet to be updated");
    assert_eq!(keep(partition(1)), [false, false], "db-0 was updated before the partition was raised");
    assert_eq!(keep(partition(2)), [false, true], "old ones come back as such");
    assert_eq!(keep(json!({ "updateStrategy": { "type": "OnDelete", "rollingUpdate": null } })), [true, false]);
}

#[test]
fn how_a_stateful_set_creates_its_pods() {
    for (policy, ordered) in [(json!(null), true), (json!("OrderedReady"), true), (json!("Parallel"), false)] {
        let mut cluster = Cluster::new(0);
        cluster.is(View::StatefulSets, with(stateful_set(2), &json!({ "spec": { "podManagementPolicy": policy } })));
        assert_eq!(cluster.snapshot(&db()).nature, Nature::Ordinal { ordered }, "{policy}");
    }
}

#[test]
fn pods_are_looked_at_only_when_they_decide() {
    let mut cluster = Cluster::new(2);
    cluster.pod_is(pod("p", "r1", "s"));
    cluster.admit("a", &pod("", "r1", ""), at(1));
    let lean = |cluster: &Cluster| cluster.index.workload_to_decide(&web()).expect("it is known").snapshot;
    assert_eq!((lean(&cluster).pods.len(), lean(&cluster).realized.total()), (0, 1), "one is missing");
    assert_eq!(cluster.pods().len(), 1, "a person sees it all the same");
    cluster.pod_is(pod("q", "r1", "o"));
    assert_eq!(lean(&cluster).pods, cluster.pods());
    cluster.is(View::Deployments, with(deployment(2), &json!({ "status": { "updatedReplicas": 1 } })));
    assert_eq!((lean(&cluster).pods.len(), lean(&cluster).realized.total()), (0, 2), "a rollout is under way");
}

// ---- Rollouts ----

#[test]
fn how_far_a_rollout_is() {
    use Rollout::{InProgress, Paused, Settled};
    let status = |more: Value| json!({ "status": more });
    let deployments = [
        (json!({}), Settled),
        (json!({ "metadata": { "generation": 4 } }), InProgress),
        (status(json!({ "updatedReplicas": 3 })), InProgress),
        (status(json!({ "updatedReplicas": null })), InProgress),
        // A pod of an older revision is left, or the surge is not over.
        (status(json!({ "replicas": 5 })), InProgress),
        (status(json!({ "replicas": 5, "updatedReplicas": 5 })), Settled),
        (json!({ "spec": { "paused": true } }), Paused),
        (json!({ "spec": { "paused": true }, "metadata": { "generation": 4 } }), Paused),
        (json!({ "status": null }), InProgress),
    ];
    for (change, rollout) in deployments {
        let mut cluster = Cluster::new(4);
        cluster.is(View::Deployments, with(deployment(4), &change));
        assert_eq!(cluster.snapshot(&web()).rollout, rollout, "{change}");
    }
    let partition = |partition: i32, updated: i32| {
        json!({
            "spec": { "updateStrategy": { "rollingUpdate": { "partition": partition } } },
            "status": { "updatedReplicas": updated },
        })
    };
    let stateful_sets = [
        (json!({}), Settled),
        (partition(0, 2), InProgress),
        (partition(2, 1), Settled),
        (partition(2, 0), InProgress),
        (partition(3, 0), Settled),
        (partition(9, 0), Settled),
        (json!({ "metadata": { "generation": 2 } }), InProgress),
        (json!({ "spec": { "updateStrategy": { "type": "OnDelete" } }, "status": { "updatedReplicas": 0 } }), Settled),
    ];
    for (change, rollout) in stateful_sets {
        let mut cluster = Cluster::new(0);
        cluster.is(View::StatefulSets, with(stateful_set(3), &change));
        assert_eq!(cluster.snapshot(&db()).rollout, rollout, "{change}");
    }
}

#[test]
fn absent_replicas_are_one_and_negative_ones_none() {
    for (replicas, wanted) in [(json!(null), 1), (json!(0), 0), (json!(-3), 0), (json!(7), 7)] {
        let mut cluster = Cluster::new(0);
        cluster.is(View::Deployments, with(deployment(0), &json!({ "spec": { "replicas": replicas } })));
        assert_eq!(cluster.snapshot(&web()).replicas, wanted);
    }
}

// ---- Opt-in and policy ----

#[test]
fn opting_in_takes_both_words_or_either() {
    let label = |object: Value, value: Value| {
        with(object, &json!({ "metadata": { "labels": { "spotalis.io/enabled": value } } }))
    };
    let (no_namespace, no_workload) = (OptIn::Half(Missing::Namespace), OptIn::Half(Missing::Workload));
    for (on_namespace, on_workload, both, either) in [
        (json!("true"), json!("true"), OptIn::Managed, OptIn::Managed),
        (json!(null), json!("true"), no_namespace, OptIn::Managed),
        (json!("true"), json!(null), no_workload, OptIn::Managed),
        (json!("true"), json!("false"), OptIn::Out, OptIn::Out),
        (json!("TRUE"), json!(null), OptIn::Out, OptIn::Out),
        (json!(null), json!(null), OptIn::Out, OptIn::Out),
    ] {
        for (mode, wanted) in [(Mode::Both, both), (Mode::Either, either)] {
            let mut cluster = Cluster::new(1);
            cluster.index.set_rules(Rules { opt_in: OptInRules { mode, ..rules().opt_in }, ..rules() });
            cluster.is(View::Namespaces, label(namespace("shop"), on_namespace.clone()));
            cluster.is(View::Deployments, label(deployment(1), on_workload.clone()));
            cluster.pod_is(pod("p", "r1", "s"));
            assert_eq!(cluster.index.opt_in(&web()), Some(wanted), "{mode:?} {on_namespace} {on_workload}");
            let snapshot = cluster.snapshot(&web());
            assert_eq!(snapshot.opt_in, wanted);
            assert_eq!(
                snapshot.pods.len(),
                usize::from(wanted == OptIn::Managed),
                "nothing is read of what is not ours"
            );
        }
    }
}

#[test]
fn a_namespace_that_opts_out_or_goes_takes_its_workloads_along() {
    let unlabelled = || with(namespace("shop"), &json!({ "metadata": { "labels": { "spotalis.io/enabled": null } } }));
    for seen in [Seen::Is(View::Namespaces, unlabelled()), Seen::Gone(View::Namespaces, namespace("shop"))] {
        let mut cluster = Cluster::new(1);
        cluster.index.take_changed();
        cluster.see([seen]);
        assert_eq!(cluster.index.opt_in(&web()), Some(OptIn::Half(Missing::Namespace)));
        assert_eq!(cluster.index.take_changed(), BTreeSet::from([web()]));
    }
}

#[test]
fn namespaces_that_are_never_managed() {
    for (name, reason) in
        [("kube-system", NeverReason::SystemNamespace), ("spotalis-system", NeverReason::OwnNamespace)]
    {
        let mut cluster = Cluster::new(1);
        cluster.is(View::Namespaces, namespace(name));
        cluster
            .is(View::Deployments, with(deployment(1), &json!({ "metadata": { "namespace": name, "uid": "other" } })));
        let key = WorkloadKey { namespace: name.into(), ..web() };
        assert_eq!(cluster.index.opt_in(&key), Some(OptIn::Never(reason)));
    }
}

#[test]
fn the_policy_follows_workload_and_namespace() {
    let mut cluster = Cluster::new(10);
    let percentage = |cluster: &Cluster| {
        let policy = cluster.index.policy(&web()).unwrap();
        (policy.spot_percentage.value.map(spotalis_core::split::Percentage::get), policy.spot_percentage.level)
    };
    let annotate = |object: Value, value: Value| {
        with(object, &json!({ "metadata": { "annotations": { "spotalis.io/spot-percentage": value } } }))
    };
    assert_eq!(percentage(&cluster), (Some(50), Level::Workload));
    cluster.is(View::Namespaces, annotate(namespace("shop"), json!("80")));
    assert_eq!(percentage(&cluster), (Some(50), Level::Workload));
    cluster.is(View::Deployments, annotate(deployment(10), json!(null)));
    assert_eq!(percentage(&cluster), (Some(80), Level::Namespace));
    cluster.index.take_changed();
    cluster.is(View::Namespaces, annotate(namespace("shop"), json!("20%")));
    assert_eq!(percentage(&cluster), (Some(20), Level::Namespace));
    assert_eq!(cluster.index.take_changed(), BTreeSet::from([web()]));
    // The same again is no news.
    cluster.is(View::Namespaces, annotate(namespace("shop"), json!("20%")));
    assert!(cluster.index.take_changed().is_empty());
    cluster.see([Seen::Gone(View::Namespaces, namespace("shop"))]);
    assert_eq!(percentage(&cluster), (None, Level::BuiltIn));
}

#[test]
fn an_invalid_value_fails_closed_and_names_its_key() {
    for (key, value, closed) in [
        ("spotalis.io/spot-percentage", "120", true),
        ("spotalis.io/min-on-demand", "many", true),
        ("spotalis.io/placement", "Required", true),
        ("spotalis.io/disruption-time-zone", "Mars", false),
        ("spotalis.io/spot-precentage", "50", false),
    ] {
        let mut cluster = Cluster::new(4);
        cluster.is(View::Deployments, with(deployment(4), &json!({ "metadata": { "annotations": { key: value } } })));
        let view = cluster.index.workload(&web()).unwrap();
        let standing = if closed { Standing::FailClosed } else { Standing::Sound };
        assert_eq!(view.snapshot.policy.standing, standing, "{key}");
        assert_eq!(view.snapshot.invalid_key.as_deref(), closed.then_some(key));
        assert_eq!(view.problems.len(), 1, "{:?}", view.problems);
        let wanted = if closed { OnDemand } else { Spot };
        assert_eq!(seat(cluster.admit("a", &pod("", "r1", ""), at(1))).0, wanted, "{key}");
    }
    let mut cluster = Cluster::new(4);
    let unknown = json!({ "metadata": { "annotations": { "spotalis.io/colour": "blue", "example.com/colour": "x" } } });
    cluster.is(View::Deployments, with(deployment(4), &unknown));
    let problems = cluster.index.workload(&web()).unwrap().problems;
    assert_eq!(
        problems.iter().map(|p| (&*p.key, &p.fault)).collect::<Vec<_>>(),
        [("spotalis.io/colour", &Fault::UnknownKey { suggestion: None })]
    );
}

// ---- PodDisruptionBudgets ----

#[test]
fn the_budgets_of_a_pod() {
    let one = |allows| Budgets::One { name: "one".into(), allows };
    let unready =
        || with(pod("p", "r1", "s"), &json!({ "status": { "conditions": [{ "type": "Ready", "status": "False" }] } }));
    let pending = |pod: Value| with(pod, &json!({ "status": { "phase": "Pending" } }));
    let status = |allowed: i32, healthy: i32, desired: i32| {
        json!({ "status": {
        "disruptionsAllowed": allowed, "currentHealthy": healthy, "desiredHealthy": desired } })
    };
    let always = json!({ "spec": { "unhealthyPodEvictionPolicy": "AlwaysAllow" } });
    let selector = |selector: Value| json!({ "spec": { "selector": selector } });
    let expressions = |expression: Value| selector(json!({ "matchLabels": null, "matchExpressions": [expression] }));
    for (what, object, budget, wanted) in [
        ("allows", pod("p", "r1", "s"), pdb("one", 1), one(true)),
        ("spent", pod("p", "r1", "s"), pdb("one", 0), one(false)),
        ("behind", pod("p", "r1", "s"), with(pdb("one", 1), &json!({ "metadata": { "generation": 3 } })), one(false)),
        ("no status yet", pod("p", "r1", "s"), with(pdb("one", 1), &json!({ "status": null })), one(false)),
        ("spent, unready, enough are healthy", unready(), with(pdb("one", 0), &status(0, 1, 1)), one(true)),
        ("spent, unready, too few are healthy", unready(), with(pdb("one", 0), &status(0, 0, 1)), one(false)),
        ("spent, unready, nothing is desired", unready(), with(pdb("one", 0), &status(0, 0, 0)), one(false)),
        ("spent, unready, always allowed", unready(), with(with(pdb("one", 0), &status(0, 0, 1)), &always), one(true)),
        ("always allowed is for the unready", pod("p", "r1", "s"), with(pdb("one", 0), &always), one(false)),
        (
            "behind, unready, always allowed",
            unready(),
            with(with(pdb("one", 0), &always), &json!({ "metadata": { "generation": 3 } })),
            one(false),
        ),
        (
            "selects everything",
            pod("p", "r1", "s"),
            with(pdb("one", 1), &selector(json!({ "matchLabels": null }))),
            one(true),
        ),
        ("selects nothing", pod("p", "r1", "s"), with(pdb("one", 1), &selector(json!(null))), Budgets::None),
        (
            "another app",
            pod("p", "r1", "s"),
            with(pdb("one", 1), &selector(json!({ "matchLabels": { "app": "db" } }))),
            Budgets::None,
        ),
        (
            "by expression",
            pod("p", "r1", "s"),
            with(pdb("one", 1), &expressions(json!({ "key": "app", "operator": "In", "values": ["db", "web"] }))),
            one(true),
        ),
        (
            "excluded by expression",
            pod("p", "r1", "s"),
            with(pdb("one", 1), &expressions(json!({ "key": "app", "operator": "NotIn", "values": ["web"] }))),
            Budgets::None,
        ),
        ("unbound", pod("p", "r1", ""), pdb("one", 0), Budgets::None),
        ("bound and not started", pending(pod("p", "r1", "s")), pdb("one", 0), Budgets::None),
        (
            "of another namespace",
            pod("p", "r1", "s"),
            with(pdb("one", 0), &json!({ "metadata": { "namespace": "bank" } })),
            Budgets::None,
        ),
    ] {
        let mut cluster = Cluster::new(1);
        cluster.pod_is(object);
        cluster.is(View::PodDisruptionBudgets, budget);
        assert_eq!(cluster.only_pod().budgets, wanted, "{what}");
    }
}

#[test]
fn two_budgets_are_more_than_the_eviction_api_takes() {
    let mut cluster = Cluster::new(1);
    cluster.pod_is(pod("p", "r1", "s"));
    cluster.is(View::PodDisruptionBudgets, pdb("one", 1));
    cluster.index.take_changed();
    cluster.is(View::PodDisruptionBudgets, pdb("two", 1));
    assert_eq!(cluster.only_pod().budgets, Budgets::Several);
    assert_eq!(cluster.index.take_changed(), BTreeSet::from([web()]));
    cluster.see([Seen::Gone(View::PodDisruptionBudgets, pdb("one", 1))]);
    assert_eq!(cluster.only_pod().budgets, Budgets::One { name: "two".into(), allows: true });
    assert_eq!(cluster.index.take_changed(), BTreeSet::from([web()]));
}

// ---- Room ----

#[test]
fn what_a_node_pool_provides() {
    let about = |operator: &str, values: Value| {
        json!([
        { "key": "kubernetes.io/arch", "operator": "In", "values": ["amd64"] },
        { "key": "karpenter.sh/capacity-type", "operator": operator, "values": values }])
    };
    for (requirements, spot, on_demand) in [
        (about("In", json!(["spot"])), true, false),
        (about("In", json!(["spot", "on-demand"])), true, true),
        (about("In", json!(["reserved"])), false, false),
        (about("NotIn", json!(["spot"])), false, true),
        (about("Exists", json!(null)), true, true),
        (about("DoesNotExist", json!([])), false, false),
        (about("Near", json!(["spot"])), false, false),
        (json!([]), false, true),
        (json!(null), false, true),
    ] {
        let mut cluster = Cluster::empty();
        cluster.is(View::Deployments, deployment(1));
        let provided = |cluster: &Cluster| {
            CapacityType::ALL
                .map(|capacity| cluster.index.room(&web(), capacity, Outlook::default(), at(0)) == Room::Enough)
        };
        cluster.is(View::NodePools, node_pool(&requirements));
        assert_eq!(provided(&cluster), [spot, on_demand], "{requirements}");
        for unable in [
            json!({ "status": { "conditions": [{ "type": "Ready", "status": "False" }] } }),
            json!({ "spec": { "limits": { "cpu": 0 } } }),
            json!({ "spec": { "limits": { "memory": "1Ti", "cpu": "10" } }, "status": { "resources": { "cpu": "10500m" } } }),
            json!({ "metadata": { "deletionTimestamp": "2026-01-01T00:00:00Z" } }),
        ] {
            cluster.is(View::NodePools, with(node_pool(&requirements), &unable));
            assert_eq!(provided(&cluster), [false, false], "{unable}");
        }
        let roomy = json!({ "spec": { "limits": { "cpu": "10", "memory": "lots" } }, "status": { "resources": { "cpu": "9" } } });
        cluster.is(View::NodePools, with(node_pool(&requirements), &roomy));
        assert_eq!(provided(&cluster), [spot, on_demand], "{requirements}");
        cluster.is(View::NodePools, node_pool(&requirements));
        cluster.see([Seen::Gone(View::NodePools, node_pool(&requirements))]);
        assert_eq!(provided(&cluster), [false, false]);
    }
}

#[test]
fn provisioners_are_believed_as_configured() {
    let provided = |provisioner, target| {
        let mut cluster = Cluster::new(1);
        // The one spot node is not of use, but shows that there are some.
        cluster.is(View::Nodes, with(node("s", "spot"), &json!({ "spec": { "unschedulable": true } })));
        cluster.index.set_rules(Rules { provisioner, ..rules() });
        cluster.is(View::AutoscalerStatus, autoscaler_status(target));
        let room = cluster.index.room(&web(), Spot, Outlook::default(), at(0));
        cluster.see([Seen::Gone(View::AutoscalerStatus, autoscaler_status(target))]);
        let alone = cluster.index.room(&web(), Spot, Outlook::default(), at(0));
        (room, alone)
    };
    // The one group of the cluster-autoscaler may have three nodes.
    assert_eq!(provided(Provisioner::Auto, 3), (Room::None, Room::None));
    assert_eq!(provided(Provisioner::Auto, 2), (Room::Enough, Room::None));
    assert_eq!(provided(Provisioner::Always, 3), (Room::Enough, Room::Enough));
    assert_eq!(provided(Provisioner::Never, 2), (Room::None, Room::None));
    // Which type the autoscaler's groups are of, it does not say: without a single node of the type, it is not believed.
    let mut cluster = Cluster::new(1);
    cluster.see([Seen::Gone(View::Nodes, node("s", "spot"))]);
    cluster.is(View::AutoscalerStatus, autoscaler_status(2));
    assert_eq!(cluster.index.room(&web(), Spot, Outlook::default(), at(0)), Room::None);
}

/// Where only some namespaces are seen, a node that looks empty may be full; a promise of nodes counts all the same.
#[test]
fn room_is_not_seen_in_watched_namespaces_alone() {
    for (provisioner, seen) in [(Provisioner::Auto, Room::Unseen), (Provisioner::Always, Room::Enough)] {
        let mut cluster = Cluster::new(1);
        assert_eq!(cluster.index.room(&web(), Spot, Outlook::default(), at(0)), Room::Enough);
        let mut rules = Rules { provisioner, ..rules() };
        rules.opt_in.watch_namespaces.insert("shop".into());
        cluster.index.set_rules(rules);
        assert_eq!(cluster.index.room(&web(), Spot, Outlook::default(), at(0)), seen, "{provisioner:?}");
    }
}

/// A change to the spot node, the pod template or the rest of the cluster; whether a pod of the template finds room on spot.
#[test]
fn room_on_a_node() {
    let taint = json!({ "spec": { "taints": [{ "key": "spot", "value": "yes", "effect": "NoSchedule" }] } });
    let tolerates = json!({ "tolerations": [{ "key": "spot", "operator": "Exists" }] });
    let request =
        |name: &str, amount: &str| json!({ "containers": [{ "resources": { "requests": { name: amount } } }] });
    let zone = |zone: &str| {
        json!({ "affinity": { "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": {
        "nodeSelectorTerms": [{ "matchExpressions": [
            { "key": "topology.kubernetes.io/zone", "operator": "In", "values": [zone] }] }] } } } })
    };
    let apart = |app: &str, key: &str| {
        json!({ "affinity": { "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [
        { "labelSelector": { "matchLabels": { "app": app } }, "topologyKey": key }] } } })
    };
    let host = "kubernetes.io/hostname";
    let nothing = || json!({});
    let init = json!({ "initContainers": [{ "resources": { "requests": { "cpu": "4" } } }] });
    let sidecar =
        json!({ "initContainers": [{ "restartPolicy": "Always", "resources": { "requests": { "cpu": "3500m" } } }] });
    for (what, on_node, spec, room) in [
        ("as it is", nothing(), nothing(), Room::Enough),
        (
            "not Ready",
            json!({ "status": { "conditions": [{ "type": "Ready", "status": "Unknown" }] } }),
            nothing(),
            Room::None,
        ),
        ("cordoned", json!({ "spec": { "unschedulable": true } }), nothing(), Room::None),
        ("tainted", taint.clone(), nothing(), Room::None),
        ("tainted and tolerated", taint, tolerates, Room::Enough),
        ("full of pods", json!({ "status": { "allocatable": { "pods": "1" } } }), nothing(), Room::None),
        ("just enough CPU", nothing(), request("cpu", "3420m"), Room::Enough),
        ("too little CPU", nothing(), request("cpu", "3421m"), Room::None),
        ("too little memory", nothing(), request("memory", "7Gi"), Room::None),
        ("a resource it has not", nothing(), request("nvidia.com/gpu", "1"), Room::None),
        ("an init container", nothing(), init, Room::None),
        ("a sidecar", nothing(), sidecar, Room::None),
        ("overhead", nothing(), json!({ "overhead": { "cpu": "3" } }), Room::None),
        ("a selector", nothing(), json!({ "nodeSelector": { "topology.kubernetes.io/zone": "a" } }), Room::Enough),
        ("another selector", nothing(), json!({ "nodeSelector": { "topology.kubernetes.io/zone": "b" } }), Room::None),
        ("affinity", nothing(), zone("a"), Room::Enough),
        ("another affinity", nothing(), zone("b"), Room::None),
        ("apart from its own, by host", nothing(), apart("web", host), Room::None),
        ("apart from others, by host", nothing(), apart("db", host), Room::Enough),
        ("apart by a key the node has not", nothing(), apart("web", "rack"), Room::Enough),
        (
            "pinned to on-demand",
            nothing(),
            json!({ "nodeSelector": { "karpenter.sh/capacity-type": "on-demand" } }),
            Room::Excluded,
        ),
        (
            "pinned to spot",
            nothing(),
            json!({ "nodeSelector": { "karpenter.sh/capacity-type": "spot" } }),
            Room::Enough,
        ),
    ] {
        let mut cluster = Cluster::new(1);
        cluster.pod_is(pod("p", "r1", "s"));
        cluster.is(View::Nodes, with(node("s", "spot"), &on_node));
        cluster.is(View::Deployments, with(deployment(1), &json!({ "spec": { "template": { "spec": spec } } })));
        assert_eq!(cluster.index.room(&web(), Spot, Outlook::default(), at(0)), room, "{what}");
    }
}

#[test]
fn a_finished_pod_keeps_nobody_away() {
    let spec = json!({ "affinity": { "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [
        { "labelSelector": { "matchLabels": { "app": "web" } }, "topologyKey": "kubernetes.io/hostname" }] } } });
    let mut cluster = Cluster::new(1);
    cluster.is(View::Deployments, with(deployment(1), &json!({ "spec": { "template": { "spec": spec } } })));
    cluster.pod_is(terminating(pod("p", "r1", "s")));
    assert_eq!(cluster.index.room(&web(), Spot, Outlook::default(), at(0)), Room::None, "a terminating one still runs");
    cluster.pod_is(with(pod("p", "r1", "s"), &json!({ "status": { "phase": "Failed" } })));
    assert_eq!(cluster.index.room(&web(), Spot, Outlook::default(), at(0)), Room::Enough);
}

#[test]
fn an_entry_that_admission_overrides_excludes_nothing() {
    let mut cluster = Cluster::new(1);
    let own = json!({ "spec": { "template": { "spec": { "nodeSelector": { "karpenter.sh/capacity-type": "on-demand" } } } } });
    cluster.is(View::Deployments, with(deployment(1), &own));
    cluster.index.set_rules(Rules { on_conflict: OnConflict::Override, ..rules() });
    assert_eq!(cluster.index.room(&web(), Spot, Outlook::default(), at(0)), Room::Enough);
    let preferred = json!({ "metadata": { "annotations": { "spotalis.io/placement": "preferred" } } });
    cluster.is(View::Deployments, with(with(deployment(1), &own), &preferred));
    assert_eq!(cluster.index.policy(&web()).unwrap().placement.value, Placement::Preferred);
    assert_eq!(
        cluster.index.room(&web(), Spot, Outlook::default(), at(0)),
        Room::Excluded,
        "a preference overrides nothing"
    );
}

// ---- Currency ----

#[test]
fn a_view_is_fresh_while_it_is_heard_and_connected() {
    let fresh = Currency::heard_at(at(0));
    for (what, currency, now, is_fresh) in [
        ("heard now", fresh, 0, true),
        ("heard a while ago", fresh, 149, true),
        ("silent", fresh, 150, false),
        ("a clock that stepped back", fresh, -500, true),
        ("not synced", Currency { synced: false, ..fresh }, 0, false),
        ("cut a moment ago", Currency { disconnected: Some(at(0)), ..fresh }, 4, true),
        ("cut", Currency { disconnected: Some(at(0)), ..fresh }, 5, false),
    ] {
        assert_eq!(currency.is_fresh(at(now)), is_fresh, "{what}");
    }
}

#[test]
fn pods_are_moved_by_a_view_that_is_of_one_moment_and_connected() {
    let fresh = Currency::heard_at(at(0));
    for (what, currency, now, is_whole) in [
        ("heard a while ago", fresh, 149, true),
        ("silent", fresh, 150, false),
        ("being listed", Currency { mixed: true, ..fresh }, 0, false),
        ("between two watches", Currency { disconnected: Some(at(0)), ..fresh }, 0, true),
        ("cut", Currency { disconnected: Some(at(0)), ..fresh }, 1, false),
    ] {
        assert_eq!(currency.is_whole(at(now)), is_whole, "{what}");
    }
}

#[test]
fn every_watch_of_every_required_view_counts() {
    let fresh = Currency::heard_at(at(0));
    for view in View::REQUIRED {
        let mut cluster = Cluster::empty();
        assert!(!cluster.index.is_synced() && !cluster.index.is_fresh(at(0)));
        for other in View::REQUIRED.into_iter().filter(|other| *other != view) {
            cluster.index.set_currency(&Source { view: other, namespace: None }, fresh);
        }
        assert!(!cluster.index.is_synced(), "{view:?} is not watched at all");
        // One watch for each of two namespaces: both must be well.
        for namespace in ["shop", "bank"] {
            cluster.index.expect_source(Source { view, namespace: Some(namespace.into()) });
        }
        cluster.index.set_currency(&Source { view, namespace: Some("shop".into()) }, fresh);
        assert!(!cluster.index.is_synced() && !cluster.index.is_fresh(at(0)), "{view:?}: bank is still listing");
        let bank = Source { view, namespace: Some("bank".into()) };
        cluster.index.set_currency(&bank, fresh);
        assert!(cluster.index.is_synced() && cluster.index.is_fresh(at(0)));
        // Expected again, as after a reload: what is known of it stays.
        cluster.index.expect_source(bank.clone());
        assert!(cluster.index.is_synced());
        cluster.index.update_currency(&bank, |currency| Currency { disconnected: Some(at(-10)), ..currency });
        assert!(cluster.index.is_synced() && !cluster.index.is_fresh(at(0)), "{view:?}: bank is cut");
    }
}

// ---- Lists ----

#[test]
fn a_sweep_removes_what_the_list_did_not_show_and_only_in_its_namespace() {
    let elsewhere =
        |object: Value, uid: &str| with(object, &json!({ "metadata": { "namespace": "bank", "uid": uid } }));
    let objects = [
        (View::Deployments, deployment(1), elsewhere(deployment(1), "bank-web")),
        (View::StatefulSets, stateful_set(1), elsewhere(stateful_set(1), "bank-db")),
        (View::ReplicaSets, replica_set("r1", 1), elsewhere(replica_set("bank-r1", 1), "bank-r1")),
        (View::Pods, pod("p", "r1", "s"), elsewhere(pod("p", "bank-r1", "s"), "bank-p")),
        (View::PodDisruptionBudgets, pdb("one", 1), elsewhere(pdb("one", 1), "bank-one")),
    ];
    let there = |cluster: &Cluster, view: View, namespace: &str| match view {
        View::Deployments => {
            cluster.index.workloads.contains_key(&WorkloadKey { namespace: namespace.into(), ..web() })
        }
        View::StatefulSets => {
            cluster.index.workloads.contains_key(&WorkloadKey { namespace: namespace.into(), ..db() })
        }
        View::ReplicaSets => cluster.index.replica_sets.values().any(|record| &*record.namespace == namespace),
        View::Pods => cluster.index.pods.keys().any(|key| &*key.namespace == namespace),
        View::PodDisruptionBudgets => cluster.index.pdbs.keys().any(|(of, _)| &**of == namespace),
        View::Namespaces | View::Nodes | View::NodePools | View::AutoscalerStatus => unreachable!("not by namespace"),
    };
    for (view, own, other) in objects {
        for shown in [false, true] {
            let mut cluster = Cluster::empty();
            cluster.epoch = cluster.index.begin_list();
            cluster.see([Seen::Is(view, own.clone()), Seen::Is(view, other.clone())]);
            let epoch = cluster.index.begin_list();
            assert!(epoch > cluster.epoch);
            cluster.epoch = epoch;
            if shown {
                cluster.is(view, own.clone());
            }
            let rest = there(&cluster, view, "shop");
            assert!(rest, "{view:?}: nothing goes before the list is complete");
            cluster.index.sweep(&Source { view, namespace: Some("shop".into()) }, epoch);
            assert_eq!(there(&cluster, view, "shop"), shown, "{view:?}");
            assert!(there(&cluster, view, "bank"), "{view:?}: not in the list's namespace");
            cluster.index.sweep(&Source { view, namespace: None }, epoch);
            assert!(!there(&cluster, view, "bank"), "{view:?}");
        }
    }
}

#[test]
fn a_sweep_of_one_view_leaves_the_others_alone() {
    let mut cluster = Cluster::new(1);
    cluster.is(View::StatefulSets, stateful_set(1));
    cluster.is(View::NodePools, node_pool(&json!([])));
    cluster.pod_is(pod("p", "r1", "s"));
    let before = cluster.picture();
    let epoch = cluster.index.begin_list() + 1;
    cluster.epoch = epoch;
    for seen in [
        Seen::Is(View::Nodes, node("s", "spot")),
        Seen::Is(View::Nodes, node("o", "on-demand")),
        Seen::Is(View::Nodes, node("r", "reserved")),
    ] {
        cluster.see([seen]);
    }
    cluster.index.sweep(&Source { view: View::Nodes, namespace: None }, epoch);
    let epochless =
        |picture: &str| picture.lines().filter(|line| !line.contains("epoch")).collect::<Vec<_>>().join("\n");
    assert_eq!(epochless(&cluster.picture()), epochless(&before));
    for (view, gone) in [(View::Namespaces, "namespaces"), (View::NodePools, "pools"), (View::Nodes, "nodes")] {
        let epoch = cluster.index.begin_list() + 1;
        cluster.index.sweep(&Source { view, namespace: None }, epoch);
        let left = match view {
            View::Namespaces => cluster.index.namespaces.len(),
            View::NodePools => cluster.index.node_pools.len(),
            _ => cluster.index.nodes.len(),
        };
        assert_eq!(left, 0, "{gone}");
    }
    assert_eq!(cluster.counts("r1"), [0, 0, 1], "its node is gone and it was never steered");
}

// ---- Any order ----

/// What each watch shows, in its own order; between watches there is none.
fn histories() -> Vec<Vec<Seen>> {
    let is = |view| move |object| Seen::Is(view, object);
    let spot_pool = node_pool(&json!([{ "key": "karpenter.sh/capacity-type", "operator": "In", "values": ["spot"] }]));
    let second = |pod: Value| with(pod, &json!({ "metadata": { "uid": "second" } }));
    vec![
        vec![
            is(View::Namespaces)(namespace("shop")),
            is(View::Namespaces)(with(
                namespace("shop"),
                &json!({ "metadata": { "annotations": { "spotalis.io/min-on-demand": "1" } } }),
            )),
        ],
        vec![
            is(View::Nodes)(node("s", "spot")),
            is(View::Nodes)(node("o", "on-demand")),
            is(View::Nodes)(node("n", "on-demand")),
            is(View::Nodes)(node("n", "spot")),
            is(View::Nodes)(node("gone", "spot")),
            Seen::Gone(View::Nodes, node("gone", "spot")),
        ],
        vec![
            is(View::Deployments)(deployment(4)),
            is(View::Deployments)(with(deployment(6), &json!({ "metadata": { "generation": 4 } }))),
        ],
        vec![is(View::StatefulSets)(stateful_set(2))],
        vec![
            is(View::ReplicaSets)(replica_set("r1", 4)),
            is(View::ReplicaSets)(replica_set("r2", 1)),
            is(View::ReplicaSets)(replica_set("r0", 0)),
            is(View::ReplicaSets)(replica_set("r1", 3)),
            Seen::Gone(View::ReplicaSets, replica_set("r0", 0)),
        ],
        vec![
            is(View::Pods)(steered(pod("a", "r1", ""), Spot, 1, "a")),
            is(View::Pods)(pod("b", "r1", "gone")),
            is(View::Pods)(steered(pod("a", "r1", "n"), Spot, 1, "a")),
            is(View::Pods)(pod("c", "r2", "o")),
            is(View::Pods)(terminating(pod("c", "r2", "o"))),
            is(View::Pods)(pod("d", "r0", "s")),
            is(View::Pods)(db_pod("db-0", "s")),
            Seen::Gone(View::Pods, pod("d", "r0", "s")),
            is(View::Pods)(pod("e", "r1", "s")),
            is(View::Pods)(with(pod("e", "r1", "s"), &json!({ "metadata": { "ownerReferences": null } }))),
            is(View::Pods)(pod("f", "r2", "s")),
            Seen::Gone(View::Pods, db_pod("db-0", "s")),
            is(View::Pods)(second(db_pod("db-0", "o"))),
            is(View::Pods)(pod("f", "r1", "s")),
            is(View::Pods)(with(pod("g", "r1", "s"), &json!({ "status": { "phase": "Failed" } }))),
        ],
        vec![
            is(View::PodDisruptionBudgets)(pdb("one", 0)),
            is(View::PodDisruptionBudgets)(pdb("two", 1)),
            Seen::Gone(View::PodDisruptionBudgets, pdb("two", 1)),
            is(View::PodDisruptionBudgets)(pdb("one", 1)),
        ],
        vec![is(View::NodePools)(spot_pool)],
        vec![is(View::AutoscalerStatus)(autoscaler_status(2)), is(View::AutoscalerStatus)(autoscaler_status(3))],
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn the_order_of_events_across_watches_does_not_matter(turns in proptest::collection::vec((0..9usize, 1..3usize), 0..80)) {
        let mut in_order = Cluster::empty();
        in_order.see(histories().into_iter().flatten());
        let mut shuffled = Cluster::empty();
        let mut histories: Vec<_> = histories().into_iter().map(Vec::into_iter).collect();
        for (watch, times) in turns {
            // Shown twice, as after a reconnect.
            if let Some(seen) = histories[watch].next() {
                shuffled.see(std::iter::repeat_n(seen, times));
            }
        }
        shuffled.see(histories.into_iter().flatten());
        prop_assert_eq!(shuffled.picture(), in_order.picture());
        let counts = ["r0", "r1", "r2", "db"].map(|owner| shuffled.counts(owner));
        prop_assert_eq!(counts, [[0, 0, 0], [2, 0, 1], [0, 0, 0], [0, 1, 0]]);
        for key in shuffled.index.workload_keys() {
            let Snapshot { realized, pods, .. } = shuffled.snapshot(key);
            prop_assert_eq!(realized, Realized::count(&pods), "{}", key);
        }
    }
}

#[test]
fn when_everything_is_gone_nothing_is_left() {
    let mut cluster = Cluster::empty();
    cluster.see(histories().into_iter().flatten());
    for view in View::REQUIRED.into_iter().chain(View::PROVISIONERS) {
        let epoch = cluster.index.begin_list() + 1;
        cluster.index.sweep(&Source { view, namespace: None }, epoch);
    }
    let Index {
        rules: _,
        strings: _,
        label_sets: _,
        requests: _,
        namespaces,
        workloads,
        workload_of_uid,
        replica_sets,
        revisions,
        owners,
        pods,
        nodes,
        usage,
        pdbs,
        node_pools,
        autoscaler,
        sources: _,
        last_epoch: _,
        changed: _,
        room_changed: _,
    } = cluster.index;
    let left = [
        namespaces.len(),
        workloads.len(),
        workload_of_uid.len(),
        replica_sets.len(),
        revisions.len(),
        owners.len(),
        pods.len(),
        nodes.len(),
        usage.len(),
        pdbs.len(),
        node_pools.len(),
        usize::from(autoscaler.is_some()),
    ];
    assert_eq!(left, [0; 12]);
}

// ---- What people ask ----

#[test]
fn a_pod_is_found_with_its_workload_and_node() {
    let mut cluster = Cluster::new(1);
    cluster.is(View::StatefulSets, stateful_set(1));
    cluster.pod_is(pod("p", "r1", "s"));
    cluster.pod_is(db_pod("db-0", ""));
    let found = cluster.index.pod("shop", "p").unwrap();
    assert_eq!((found.workload, found.node.as_deref(), found.node_class), (Some(web()), Some("s"), Some(Spot)));
    let found = cluster.index.pod("shop", "db-0").unwrap();
    assert_eq!((found.workload, found.node, found.node_class), (Some(db()), None, None));
    assert!(cluster.index.pod("bank", "p").is_none());
}

/// Objects with everything that can be absent absent, and with `null` for it.
#[test]
fn bare_and_null_objects_do_no_harm() {
    let nulls = json!({ "metadata": { "name": "n", "namespace": "shop", "uid": "u", "labels": null, "annotations": null,
        "ownerReferences": null, "creationTimestamp": null, "deletionTimestamp": null }, "spec": null, "status": null });
    let bare = json!({ "metadata": { "name": "n", "namespace": "shop" } });
    for object in [nulls, bare, json!({})] {
        let mut cluster = Cluster::new(1);
        cluster.pod_is(pod("p", "r1", "s"));
        let pods = cluster.pods();
        for view in View::REQUIRED.into_iter().chain(View::PROVISIONERS) {
            cluster.see([Seen::Is(view, object.clone()), Seen::Is(view, object.clone())]);
        }
        for key in cluster.index.workload_keys() {
            assert!(cluster.index.workload(key).is_some());
            let _ = CapacityType::ALL.map(|capacity| cluster.index.room(key, capacity, Outlook::default(), at(0)));
        }
        assert_eq!(cluster.pods(), pods, "{object}");
        for view in View::REQUIRED.into_iter().chain(View::PROVISIONERS) {
            cluster.see([Seen::Gone(view, object.clone())]);
        }
        assert_eq!(cluster.pods(), pods, "{object}");
    }
}
