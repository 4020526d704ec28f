//! Rebalancing on a real control plane: what is off is mended by as few evictions as it takes, one at a time, and never
//! where something forbids it.
//!
//! Workloads are brought off their target by raising a percentage, or by opting in what already runs. Scenarios of one
//! test run side by side, each in a namespace of its own, because most of their time is the cooldown's.

#![allow(clippy::float_cmp, reason = "metrics of whole numbers")]

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod};
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};
use spotalis_e2e::{
    Budget, Cluster, Product, ProductOptions, Split, USER, Witness, Workload, active_pods, annotation, eventually,
    label, on_product, scenario, wanted,
};
use spotalis_rig::{AuditEntry, AuditLevel, FakeNode, NodeKind, READY_AFTER, RigOptions};
use tokio::try_join;

const PERCENTAGE: &str = "spotalis.io/spot-percentage";
const FLOOR: &str = "spotalis.io/min-on-demand";
const SLOT: &str = "spotalis.io/slot";
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

fn rig() -> RigOptions {
    RigOptions { audit: Some(AuditLevel::Request), ..RigOptions::default() }
}

async fn add_nodes(cluster: &Cluster<'_>) -> Result<()> {
    cluster.rig().add_nodes(2, NodeKind::Spot).await?;
    cluster.rig().add_nodes(2, NodeKind::OnDemand).await?;
    Ok(())
}

/// Everything on on-demand.
fn all_on_demand(replicas: u32) -> Split {
    Split { on_demand: replicas, ..Split::default() }
}

/// Creates a workload and has all its pods on one type, steered and seated.
async fn all_on(cluster: &Cluster<'_>, workload: Workload, kind: NodeKind) -> Result<Workload> {
    let workload = match kind {
        NodeKind::Spot => workload.spot(100),
        NodeKind::OnDemand | NodeKind::Unlabelled => workload.spot(0),
    };
    cluster.create(&workload).await?;
    let pods = cluster.settled(&workload).await?.len();
    let split = cluster.split(&workload).await?;
    let there = if kind == NodeKind::Spot { split.spot } else { split.on_demand };
    ensure!(there as usize == pods, "{}: {split}", workload.name());
    Ok(workload)
}

async fn raise(cluster: &Cluster<'_>, workload: &Workload, percentage: u32) -> Result<()> {
    cluster.annotate(workload, json!({PERCENTAGE: percentage.to_string()})).await
}

/// The slots of active pods, if each one's deletion cost goes with it.
fn seats(pods: &[Pod]) -> BTreeSet<u32> {
    let seat = |pod| {
        let slot: u32 = annotation(pod, SLOT)?.parse().ok()?;
        (annotation(pod, DELETION_COST)? == format!("-{slot}")).then_some(slot)
    };
    active_pods(pods).filter_map(seat).collect()
}

async fn until_seated(cluster: &Cluster<'_>, workload: &Workload) -> Result<()> {
    eventually(format!("all pods of {} to be seated", workload.name()), async || {
        let pods = cluster.pods(workload).await.ok()?;
        let count = u32::try_from(pods.len()).ok()?;
        (seats(&pods) == (1..=count).collect()).then_some(())
    })
    .await
}

fn uid(pod: &Pod) -> String {
    pod.uid().unwrap_or_default()
}

#[tokio::test]
async fn what_is_off_is_mended_by_as_few_evictions_as_it_takes() -> Result<()> {
    on_product("moves", rig(), ProductOptions::default(), async |cluster, product| {
        add_nodes(cluster).await?;
        // What nobody opted in runs where only on-demand nodes are open.
        for namespace in ["converging", "seating"] {
            cluster.managed_namespace(namespace).await?;
        }
        cluster.cordon(NodeKind::Spot, true).await?;
        let converging = Workload::deployment("converging", "web").replicas(10);
        let seating = Workload::deployment("seating", "old").replicas(4);
        for workload in [&converging, &seating] {
            cluster.create(workload).await?;
            let pods = u32::try_from(cluster.settled(workload).await?.len())?;
            cluster.expect_split(workload, all_on_demand(pods)).await?;
        }
        cluster.cordon(NodeKind::Spot, false).await?;
        try_join!(
            scenario("a running workload converges", a_running_workload_converges(cluster, &converging)),
            scenario("seats for old pods", seats_for_old_pods(cluster, &seating)),
            scenario("a bad scale-down", a_bad_scale_down_is_mended(cluster)),
            scenario("floor alone", only_the_floor_is_mended(cluster, product)),
            scenario("opting out midway", opting_out_midway(cluster, product)),
            scenario("StatefulSet", a_stateful_set(cluster)),
            scenario("partition", a_partition_is_respected(cluster)),
            scenario("window", a_closed_window_holds(cluster, product)),
        )?;
        scenario("steady state", nothing_is_written_in_steady_state(cluster, product)).await
    })
    .await
}

/// Seven moves are due, and seven are made, the first of them to see whether anybody steers.
async fn a_running_workload_converges(cluster: &Cluster<'_>, workload: &Workload) -> Result<()> {
    let before: BTreeSet<String> = cluster.pods(workload).await?.iter().map(uid).collect();
    let witness = Witness::begin(cluster.client(), workload).await?;
    cluster.opt(workload, true, json!({PERCENTAGE: "70", FLOOR: "1"})).await?;
    let pods = cluster.until_split(workload, wanted(10, 70, 1)).await?;
    cluster.expect_evictions("converging", 7)?;
    ensure!(witness.created() == 7, "{} pods were created", witness.created());
    ensure!(witness.fewest_ready() >= 9, "{} were ready at one moment", witness.fewest_ready());
    for eviction in cluster.evictions("converging")? {
        let body = eviction.request.context("the request is on record")?;
        let fence = &body["deleteOptions"]["preconditions"];
        ensure!(before.contains(fence["uid"].as_str().unwrap_or_default()), "not fenced by the pod's UID: {body}");
        ensure!(fence["resourceVersion"].is_null(), "a cached resourceVersion can cost a budget: {body}");
    }
    let stayed = pods.iter().filter(|pod| before.contains(&uid(pod))).count();
    ensure!(stayed == 3, "{stayed} pods stayed");
    until_seated(cluster, workload).await?;
    cluster.told(workload, "Rebalanced").await?;
    let requests = cluster.requests("converging")?;
    let count = |is: fn(&AuditEntry) -> bool| requests.iter().filter(|entry| is(entry)).count();
    let seatings = count(|entry| entry.resource == "pods" && entry.subresource.is_empty() && entry.verb == "patch");
    let moving = requests.len() - seatings;
    ensure!(moving <= 2 * 7, "{moving} calls for seven evictions: {requests:#?}");
    ensure!(seatings <= 10, "{seatings} patches to give ten pods a seat");
    // The seats are worth something: scaling needs no eviction.
    for replicas in [4, 12] {
        cluster.scale(workload, replicas).await?;
        cluster.expect_split(workload, wanted(replicas, 70, 1)).await?;
    }
    cluster.expect_evictions("converging", 7)
}

/// The counts are right from the start; only seats are missing.
async fn seats_for_old_pods(cluster: &Cluster<'_>, workload: &Workload) -> Result<()> {
    let before: BTreeSet<String> = cluster.pods(workload).await?.iter().map(uid).collect();
    cluster.opt(workload, true, json!({PERCENTAGE: "0"})).await?;
    until_seated(cluster, workload).await?;
    let after: BTreeSet<String> = cluster.pods(workload).await?.iter().map(uid).collect();
    ensure!(before == after, "a seat needs no restart");
    cluster.expect_evictions("seating", 0)
}

/// A pinned fact: Kubernetes removes pods that are not ready before it looks at their cost. What that spoils is mended.
async fn a_bad_scale_down_is_mended(cluster: &Cluster<'_>) -> Result<()> {
    cluster.managed_namespace("unready").await?;
    let workload = Workload::deployment("unready", "web").replicas(10).spot(70).floor(2);
    cluster.create(&workload).await?;
    let pods = cluster.expect_split(&workload, wanted(10, 70, 2)).await?;
    let api: Api<Pod> = Api::namespaced(cluster.client(), "unready");
    for pod in pods.iter().filter(|pod| matches!(annotation(pod, SLOT), Some("2" | "3"))) {
        let condition = json!({"type": "Ready", "status": "False", "reason": "Test"});
        let patch = Patch::Strategic(json!({"status": {"conditions": [condition]}}));
        api.patch_status(&pod.name_any(), &PatchParams::default(), &patch).await?;
    }
    cluster.scale(&workload, 4).await?;
    let left = eventually("four pods", async || {
        let pods = cluster.pods(&workload).await.ok()?;
        (active_pods(&pods).count() == 4).then_some(pods)
    });
    let left = seats(&left.await?);
    ensure!(left == BTreeSet::from([1, 4, 5, 6]), "10 -> 4 with slots 2 and 3 not ready leaves {left:?}");
    cluster.until_split(&workload, wanted(4, 70, 2)).await?;
    until_seated(cluster, &workload).await?;
    let moves = cluster.evictions_of(&workload)?;
    ensure!(moves <= 1, "{moves} evictions");
    cluster.scale(&workload, 10).await?;
    cluster.expect_split(&workload, wanted(10, 70, 2)).await?;
    Ok(())
}

/// Nobody asked for spot, nobody is moved, except where the floor is broken.
async fn only_the_floor_is_mended(cluster: &Cluster<'_>, product: &Product) -> Result<()> {
    cluster.managed_namespace("floor").await?;
    let floor = all_on(cluster, Workload::deployment("floor", "floor").replicas(4), NodeKind::Spot).await?;
    let silent = all_on(cluster, Workload::deployment("floor", "silent").replicas(4), NodeKind::Spot).await?;
    cluster.annotate(&silent, json!({PERCENTAGE: null})).await?;
    cluster.annotate(&floor, json!({PERCENTAGE: null, FLOOR: "2"})).await?;
    cluster.until_split(&floor, Split { spot: 2, on_demand: 2, unknown: 0 }).await?;
    product.passes("NotAsked", 4).await?;
    ensure!(cluster.evictions_of(&floor)? == 2, "{} evictions for a floor of two", cluster.evictions_of(&floor)?);
    ensure!(cluster.evictions_of(&silent)? == 0, "moved, and nobody asked");
    // What is new goes where nobody asked for spot.
    cluster.scale(&silent, 5).await?;
    cluster.expect_split(&silent, Split { spot: 4, on_demand: 1, unknown: 0 }).await?;
    Ok(())
}

async fn opting_out_midway(cluster: &Cluster<'_>, product: &Product) -> Result<()> {
    cluster.managed_namespace("midway").await?;
    let slow = Workload::deployment("midway", "slow").replicas(8).pod_annotation(READY_AFTER, "1s");
    let slow = all_on(cluster, slow, NodeKind::OnDemand).await?;
    let other = all_on(cluster, Workload::deployment("midway", "other"), NodeKind::OnDemand).await?;
    raise(cluster, &slow, 100).await?;
    eventually("two moves", async || (cluster.evictions_of(&slow).ok()? >= 2).then_some(())).await?;
    cluster.opt(&slow, false, json!({})).await?;
    eventually("the workload to be let go", async || {
        let labels = [("namespace", "midway"), ("workload", "slow")];
        let shown = product.replica().scrape().await.ok()?.has("spotalis_replicas_desired", &labels);
        (!shown).then_some(())
    })
    .await?;
    let moved = cluster.evictions_of(&slow)?;
    ensure!(moved < 8, "all were moved before anybody could opt out");
    // Others are moved meanwhile; this one is not.
    raise(cluster, &other, 100).await?;
    cluster.until_split(&other, wanted(1, 100, 0)).await?;
    cluster.settled(&slow).await?;
    ensure!(cluster.evictions_of(&slow)? == moved, "opted out after {moved}, and moved on");
    Ok(())
}

/// One at a time, from the highest ordinal down, and each comes back as the same ordinal.
async fn a_stateful_set(cluster: &Cluster<'_>) -> Result<()> {
    cluster.managed_namespace("stateful").await?;
    let workload = all_on(cluster, Workload::stateful_set("stateful", "db").replicas(5), NodeKind::OnDemand).await?;
    let witness = Witness::begin(cluster.client(), &workload).await?;
    raise(cluster, &workload, 60).await?;
    cluster.until_split(&workload, wanted(5, 60, 0)).await?;
    let evicted: Vec<String> = cluster.evictions("stateful")?.into_iter().map(|entry| entry.name).collect();
    ensure!(evicted.len() == 3, "{evicted:?}");
    ensure!(evicted.is_sorted_by(|a, b| a > b), "the highest ordinal first: {evicted:?}");
    ensure!(witness.fewest_ready() >= 4, "{} were ready at one moment", witness.fewest_ready());
    Ok(())
}

/// A pinned fact: below the partition the old revision stays for good, and a pod evicted there comes back as it was.
async fn a_partition_is_respected(cluster: &Cluster<'_>) -> Result<()> {
    cluster.managed_namespace("partition").await?;
    let update = json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}});
    let workload = Workload::stateful_set("partition", "db").replicas(4).spec(update);
    let workload = all_on(cluster, workload, NodeKind::OnDemand).await?;
    cluster.restart(&workload).await?;
    cluster.settled(&workload).await?;
    raise(cluster, &workload, 100).await?;
    let pods = cluster.until_split(&workload, wanted(4, 100, 0)).await?;
    ensure!(cluster.evictions_of(&workload)? == 4);
    let revisions: BTreeMap<String, &str> =
        pods.iter().filter_map(|pod| Some((pod.name_any(), label(pod, "controller-revision-hash")?))).collect();
    ensure!(revisions["db-0"] == revisions["db-1"] && revisions["db-2"] == revisions["db-3"], "{revisions:?}");
    ensure!(revisions["db-0"] != revisions["db-3"], "an eviction updated what the partition keeps: {revisions:?}");
    Ok(())
}

async fn a_closed_window_holds(cluster: &Cluster<'_>, product: &Product) -> Result<()> {
    cluster.managed_namespace("window").await?;
    let workload = all_on(cluster, Workload::deployment("window", "web").replicas(2), NodeKind::OnDemand).await?;
    let window = |schedule: &str, duration: &str| {
        json!({
            PERCENTAGE: "50",
            "spotalis.io/disruption-schedule": schedule,
            "spotalis.io/disruption-duration": duration,
        })
    };
    // Open for a minute, in leap years.
    cluster.annotate(&workload, window("0 0 29 2 *", "1m")).await?;
    product.passes("WindowClosed", 2).await?;
    ensure!(cluster.evictions_of(&workload)? == 0, "moved while the window was closed");
    cluster.annotate(&workload, window("* * * * *", "2m")).await?;
    cluster.until_split(&workload, wanted(2, 50, 0)).await?;
    ensure!(cluster.evictions_of(&workload)? == 1);
    Ok(())
}

/// Everything is as it should be: two rounds over all workloads write nothing but the Lease.
async fn nothing_is_written_in_steady_state(cluster: &Cluster<'_>, product: &Product) -> Result<()> {
    product.passes("OnTarget", 7).await?;
    let before = writes(cluster)?.len();
    product.passes("OnTarget", 14).await?;
    let writes = writes(cluster)?;
    ensure!(writes.len() == before, "written in steady state: {:#?}", &writes[before..]);
    Ok(())
}

/// What the product wrote, apart from its Lease.
fn writes(cluster: &Cluster<'_>) -> Result<Vec<AuditEntry>> {
    let mut entries = cluster.rig().audit()?;
    entries.retain(|entry| {
        let reads = ["get", "list", "watch"].contains(&entry.verb.as_str());
        entry.user == USER && !reads && entry.resource != "leases"
    });
    Ok(entries)
}

#[tokio::test]
async fn nothing_is_moved_where_something_forbids_it() -> Result<()> {
    on_product("obstacles", rig(), ProductOptions::default(), async |cluster, product| {
        add_nodes(cluster).await?;
        try_join!(
            scenario("budgets", budgets(cluster, product)),
            scenario("OnDelete", on_delete_is_respected(cluster, product)),
            scenario("kept pods", kept_pods_are_kept(cluster, product)),
            scenario("no room", never_into_the_void(cluster, product)),
            scenario("invalid annotations", invalid_annotations(cluster, product)),
            scenario("a namespace's annotations", a_namespaces_annotations(cluster)),
            scenario("a node is lost", a_node_is_lost(cluster)),
        )?;
        scenario("cluster-autoscaler", the_autoscaler_is_believed(cluster, product)).await
    })
    .await
}

async fn budgets(cluster: &Cluster<'_>, product: &Product) -> Result<()> {
    cluster.managed_namespace("budgets").await?;
    let workload = all_on(cluster, Workload::deployment("budgets", "web").replicas(4), NodeKind::OnDemand).await?;
    let witness = Witness::begin(cluster.client(), &workload).await?;
    let blocked = [("namespace", "budgets"), ("workload", "web")];
    let (strict, second) =
        (Budget::min_available(&workload, "strict", 4), Budget::min_available(&workload, "second", 1));
    cluster.create_budget(&strict).await?;
    raise(cluster, &workload, 50).await?;
    cluster.told(&workload, "MoveBlockedByPDB").await?;
    product.metric_becomes("spotalis_evictions_blocked", &blocked, |value| value == 1.0).await?;
    product.passes("MoveBlockedByPDB", 2).await?;
    let told = cluster.events("budgets", "web", "MoveBlockedByPDB").await?;
    ensure!(told.len() == 1 && told[0].series.is_none(), "told once: {told:#?}");

    cluster.create_budget(&second).await?;
    cluster.told(&workload, "SeveralPDBs").await?;
    product.passes("SeveralPDBs", 1).await?;
    cluster.expect_evictions("budgets", 0)?;

    cluster.delete_budget(&strict).await?;
    cluster.delete_budget(&second).await?;
    cluster.create_budget(&Budget::min_available(&workload, "fair", 3)).await?;
    cluster.until_split(&workload, wanted(4, 50, 0)).await?;
    cluster.expect_evictions("budgets", 2)?;
    ensure!(witness.fewest_ready() >= 3, "{} were ready at one moment", witness.fewest_ready());
    product.metric_becomes("spotalis_evictions_blocked", &blocked, |value| value == 0.0).await?;
    Ok(())
}

/// A pod of an old revision would come back updated, so it stays until somebody else removes it.
async fn on_delete_is_respected(cluster: &Cluster<'_>, product: &Product) -> Result<()> {
    cluster.managed_namespace("on-delete").await?;
    let workload = Workload::stateful_set("on-delete", "db").replicas(3);
    let workload = workload.spec(json!({"updateStrategy": {"type": "OnDelete"}}));
    let workload = all_on(cluster, workload, NodeKind::OnDemand).await?;
    cluster.restart(&workload).await?;
    raise(cluster, &workload, 100).await?;
    cluster.told(&workload, "OutdatedPods").await?;
    product.passes("OutdatedPods", 2).await?;
    ensure!(cluster.evictions_of(&workload)? == 0, "an eviction would have updated the pod");
    let pods: Api<Pod> = Api::namespaced(cluster.client(), "on-delete");
    for pod in ["db-2", "db-1", "db-0"] {
        pods.delete(pod, &DeleteParams::default()).await?;
    }
    cluster.until_split(&workload, wanted(3, 100, 0)).await?;
    ensure!(cluster.evictions_of(&workload)? == 0);
    Ok(())
}

async fn kept_pods_are_kept(cluster: &Cluster<'_>, product: &Product) -> Result<()> {
    cluster.managed_namespace("kept").await?;
    let marks = [("karpenter.sh/do-not-disrupt", "true"), ("cluster-autoscaler.kubernetes.io/safe-to-evict", "false")];
    for ((key, value), name) in marks.into_iter().zip(["karpenter", "autoscaler"]) {
        let workload = Workload::deployment("kept", name).replicas(2).pod_annotation(key, value);
        let workload = all_on(cluster, workload, NodeKind::OnDemand).await?;
        raise(cluster, &workload, 100).await?;
        cluster.told(&workload, "PodsKept").await?;
    }
    // Where only one asks for it, the others go.
    let mixed = all_on(cluster, Workload::deployment("kept", "mixed").replicas(3), NodeKind::OnDemand).await?;
    let kept = cluster.pods(&mixed).await?.pop().context("a pod")?;
    let api: Api<Pod> = Api::namespaced(cluster.client(), "kept");
    let mark = json!({"metadata": {"annotations": {"karpenter.sh/do-not-disrupt": "true"}}});
    api.patch(&kept.name_any(), &PatchParams::default(), &Patch::Merge(mark)).await?;
    raise(cluster, &mixed, 100).await?;
    let pods = cluster.until_split(&mixed, Split { spot: 2, on_demand: 1, unknown: 0 }).await?;
    ensure!(pods.iter().any(|pod| uid(pod) == uid(&kept)), "it asked not to be disrupted");
    cluster.told(&mixed, "PodsKept").await?;
    product.passes("PodsKept", 6).await?;
    cluster.expect_evictions("kept", 2)
}

/// A node for one workload alone, and perhaps not even for that.
async fn create_island(cluster: &Cluster<'_>, name: &str, capacity: &str, pool: &str, closed: bool) -> Result<()> {
    let labels = [("pool", pool), ("karpenter.sh/capacity-type", capacity)];
    let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let taint = |key: &str| json!({"key": key, "value": pool, "effect": "NoSchedule"});
    let taints = if closed { json!([taint("pool"), taint("closed")]) } else { json!([taint("pool")]) };
    let taints = serde_json::from_value(taints)?;
    cluster.rig().create_node(&FakeNode { name: name.to_owned(), labels, taints, ..FakeNode::default() }).await?;
    cluster.rig().nodes_usable(&[name.to_owned()]).await?;
    Ok(())
}

/// A pod that may run on the islands of a pool and nowhere else.
fn on_island(pool: &str) -> Value {
    json!({"nodeSelector": {"pool": pool}, "tolerations": [{"key": "pool", "operator": "Exists"}]})
}

async fn never_into_the_void(cluster: &Cluster<'_>, product: &Product) -> Result<()> {
    cluster.managed_namespace("void").await?;
    create_island(cluster, "island-on-demand", "on-demand", "void", false).await?;
    let workload = Workload::deployment("void", "web").replicas(2).pod(on_island("void"));
    let workload = all_on(cluster, workload, NodeKind::OnDemand).await?;
    raise(cluster, &workload, 50).await?;
    let event = cluster.told(&workload, "NoCapacity").await?;
    ensure!(event.type_.as_deref() == Some("Warning"));
    // There is a spot node, and no pod of this workload may go there: tainted, then cordoned.
    create_island(cluster, "island-spot", "spot", "void", true).await?;
    product.passes("NoCapacity", 2).await?;
    cluster.cordon_node("island-spot", true).await?;
    let nodes: Api<Node> = Api::all(cluster.client());
    let taints = ["pool", "node.kubernetes.io/unschedulable"].map(|key| json!({"key": key, "effect": "NoSchedule"}));
    let only_cordoned = Patch::Merge(json!({"spec": {"taints": taints}}));
    nodes.patch("island-spot", &PatchParams::default(), &only_cordoned).await?;
    product.passes("NoCapacity", 2).await?;
    cluster.expect_evictions("void", 0)?;
    ensure!(cluster.events("void", "web", "NoCapacity").await?.len() == 1);
    cluster.cordon_node("island-spot", false).await?;
    cluster.until_split(&workload, wanted(2, 50, 0)).await?;
    cluster.expect_evictions("void", 1)
}

/// No node could take the pod, and the cluster-autoscaler reports a group that can grow: the move is made, and the node
/// comes. While the group is full, nothing moves.
async fn the_autoscaler_is_believed(cluster: &Cluster<'_>, product: &Product) -> Result<()> {
    cluster.managed_namespace("grown").await?;
    create_island(cluster, "grown-on-demand", "on-demand", "grown", false).await?;
    let workload = Workload::deployment("grown", "web").replicas(2).pod(on_island("grown"));
    let workload = all_on(cluster, workload, NodeKind::OnDemand).await?;
    report(cluster, 3).await?;
    raise(cluster, &workload, 50).await?;
    cluster.told(&workload, "NoCapacity").await?;
    product.passes("NoCapacity", 2).await?;
    cluster.expect_evictions("grown", 0)?;
    report(cluster, 2).await?;
    eventually("the move", async || cluster.expect_evictions("grown", 1).ok()).await?;
    create_island(cluster, "grown-spot", "spot", "grown", false).await?;
    cluster.until_split(&workload, wanted(2, 50, 0)).await?;
    cluster.expect_evictions("grown", 1)
}

/// Writes what a cluster-autoscaler with one group of at most three nodes would report now.
async fn report(cluster: &Cluster<'_>, target: u32) -> Result<()> {
    #[expect(clippy::disallowed_methods, reason = "a report bears the time at which it is written")]
    let now = jiff::Timestamp::now();
    let time = now.strftime("%Y-%m-%d %H:%M:%S%.f +0000 UTC");
    let group = format!("{{name: group, health: {{status: Healthy, cloudProviderTarget: {target}, maxSize: 3}}}}");
    let status = format!("time: {time}\nautoscalerStatus: Running\nnodeGroups: [{group}]\n");
    let report = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "cluster-autoscaler-status"},
        "data": {"status": status},
    });
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client(), "kube-system");
    let ours = PatchParams::apply("cluster-autoscaler").force();
    maps.patch("cluster-autoscaler-status", &ours, &Patch::Apply(report)).await?;
    Ok(())
}

/// A value that cannot be used, what else stands there, and the key that the Event names.
struct Invalid {
    name: &'static str,
    annotations: Value,
    key: &'static str,
}

/// Every kind of value that stops balance. Beside each stands what would otherwise be a reason to move.
fn invalid() -> Vec<Invalid> {
    let mut all = Vec::new();
    let percentages =
        [("above", "101"), ("below", "-1"), ("signed", "+5"), ("fraction", "70.5"), ("word", "most"), ("empty", "")];
    for (name, value) in percentages {
        all.push(Invalid { name, annotations: json!({PERCENTAGE: value, FLOOR: "2"}), key: PERCENTAGE });
    }
    let long = "7".repeat(2_000);
    all.push(Invalid { name: "long", annotations: json!({PERCENTAGE: long, FLOOR: "2"}), key: PERCENTAGE });
    for (name, value) in [("negative-floor", "-1"), ("half-floor", "1.5"), ("percent-floor", "101%")] {
        all.push(Invalid { name, annotations: json!({PERCENTAGE: "0", FLOOR: value}), key: FLOOR });
    }
    let placement = "spotalis.io/placement";
    for (name, value) in [("misspelt", "prefered"), ("capital", "Required")] {
        all.push(Invalid { name, annotations: json!({PERCENTAGE: "0", placement: value}), key: placement });
    }
    let keys = ["schedule", "duration", "time-zone"].map(|part| format!("spotalis.io/disruption-{part}"));
    let [schedule, duration, zone] = &keys;
    let windows: [(&str, Value, &str); 5] = [
        ("no-such-minute", json!({schedule: "99 * * * *", duration: "1h"}), "spotalis.io/disruption-schedule"),
        ("six-fields", json!({schedule: "0 0 * * * *", duration: "1h"}), "spotalis.io/disruption-schedule"),
        ("no-duration", json!({schedule: "* * * * *"}), "spotalis.io/disruption-duration"),
        ("no-time", json!({schedule: "* * * * *", duration: "0s"}), "spotalis.io/disruption-duration"),
        (
            "no-such-zone",
            json!({schedule: "* * * * *", duration: "1h", zone: "Mars/Olympus"}),
            "spotalis.io/disruption-time-zone",
        ),
    ];
    for (name, mut annotations, key) in windows {
        annotations[PERCENTAGE] = json!("0");
        all.push(Invalid { name, annotations, key });
    }
    all
}

async fn invalid_annotations(cluster: &Cluster<'_>, product: &Product) -> Result<()> {
    cluster.managed_namespace("invalid").await?;
    let mut workloads = Vec::new();
    for invalid in invalid() {
        let workload = Workload::deployment("invalid", invalid.name).replicas(2).spot(100);
        cluster.create(&workload).await?;
        workloads.push((workload, invalid));
    }
    for (workload, invalid) in &workloads {
        cluster.expect_split(workload, wanted(2, 100, 0)).await?;
        cluster.annotate(workload, invalid.annotations.clone()).await?;
    }
    for (workload, invalid) in &workloads {
        let event = cluster.told(workload, "InvalidAnnotation").await?;
        let note = event.note.unwrap_or_default();
        ensure!(note.contains(invalid.key) && note.contains("allowed is"), "{}: {note}", invalid.name);
        ensure!(event.type_.as_deref() == Some("Warning"));
        cluster.scale(workload, 3).await?;
    }
    // Nothing is moved, and what is new goes to on-demand.
    for (workload, _) in &workloads {
        cluster.expect_split(workload, Split { spot: 2, on_demand: 1, unknown: 0 }).await?;
    }
    product.passes("InvalidAnnotation", 12).await?;
    product.passes("WindowClosed", 5).await?;
    cluster.expect_evictions("invalid", 0)?;
    for (workload, invalid) in &workloads {
        let told = cluster.events("invalid", workload.name(), "InvalidAnnotation").await?.len();
        ensure!(told == 1, "{} was told {told} times", invalid.name);
    }
    let failures = product.metric("spotalis_annotation_parse_failures_total", &[]).await;
    ensure!(failures >= 17.0, "{failures} failures counted");

    // Values that change nothing are told as well, and unknown keys with what was probably meant.
    let harmless = Workload::deployment("invalid", "harmless").replicas(2).spot(0);
    let harmless = harmless.annotation("spotalis.io/spot-fallback-after", "soon");
    let harmless = harmless.annotation("spotalis.io/spot-precentage", "70");
    cluster.create(&harmless).await?;
    cluster.settled(&harmless).await?;
    cluster.told(&harmless, "InvalidAnnotation").await?;
    let note = cluster.told(&harmless, "UnknownAnnotation").await?.note.unwrap_or_default();
    ensure!(note.contains(PERCENTAGE), "{note}");
    raise(cluster, &harmless, 50).await?;
    cluster.until_split(&harmless, wanted(2, 50, 0)).await?;

    // Mended, they move.
    for (workload, invalid) in workloads.iter().filter(|(_, i)| ["above", "misspelt", "no-such-zone"].contains(&i.name))
    {
        let mut mended = json!({PERCENTAGE: "0", FLOOR: "0"});
        mended[invalid.key] = if invalid.key == PERCENTAGE { json!("0") } else { Value::Null };
        cluster.annotate(workload, mended).await?;
    }
    for (workload, _) in workloads.iter().filter(|(_, i)| ["above", "misspelt", "no-such-zone"].contains(&i.name)) {
        cluster.until_split(workload, all_on_demand(3)).await?;
    }
    Ok(())
}

/// What a namespace says counts for those who say nothing, and is reported to all.
async fn a_namespaces_annotations(cluster: &Cluster<'_>) -> Result<()> {
    cluster.managed_namespace("of-namespace").await?;
    let own = all_on(cluster, Workload::deployment("of-namespace", "own").replicas(2), NodeKind::Spot).await?;
    let silent = Workload::deployment("of-namespace", "silent").replicas(4).opted_in();
    cluster.annotate_namespace("of-namespace", json!({PERCENTAGE: "50", FLOOR: "1"})).await?;
    cluster.create(&silent).await?;
    cluster.expect_split(&silent, wanted(4, 50, 1)).await?;
    cluster.annotate_namespace("of-namespace", json!({PERCENTAGE: "half"})).await?;
    for workload in [&own, &silent] {
        cluster.told(workload, "InvalidAnnotation").await?;
    }
    // Its own value is good: it goes on, and the namespace's floor is moved for.
    cluster.until_split(&own, wanted(2, 100, 1)).await?;
    cluster.scale(&silent, 6).await?;
    cluster.expect_split(&silent, Split { spot: 2, on_demand: 4, unknown: 0 }).await?;
    ensure!(cluster.evictions_of(&silent)? == 0);
    Ok(())
}

/// The node is deleted; Kubernetes itself removes its pods some time later, and the new ones are steered to fit.
async fn a_node_is_lost(cluster: &Cluster<'_>) -> Result<()> {
    cluster.managed_namespace("loss").await?;
    for (name, capacity) in [("loss-a", "spot"), ("loss-b", "spot"), ("loss-c", "on-demand")] {
        create_island(cluster, name, capacity, "loss", false).await?;
    }
    let workload = Workload::deployment("loss", "web").replicas(8).spot(50).pod(on_island("loss"));
    cluster.create(&workload).await?;
    let pods = cluster.expect_split(&workload, wanted(8, 50, 0)).await?;
    let on_node = |pod: &&Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) == Some("loss-a");
    let lost = pods.iter().filter(on_node).count();
    ensure!(lost > 0, "the scheduler spreads pods over nodes");
    Api::<Node>::all(cluster.client()).delete("loss-a", &DeleteParams::default()).await?;
    eventually("the pods of the lost node to be gone", async || {
        let pods = cluster.pods(&workload).await.ok()?;
        (!pods.iter().any(|pod| on_node(&pod))).then_some(())
    })
    .await?;
    cluster.until_split(&workload, wanted(8, 50, 0)).await?;
    cluster.expect_evictions("loss", 0)
}

#[tokio::test]
async fn read_only_writes_nothing_but_lease_and_events() -> Result<()> {
    let options = ProductOptions { config: json!({"readOnlyMode": true}), ..ProductOptions::default() };
    on_product("read-only", rig(), options, async |cluster, product| {
        add_nodes(cluster).await?;
        cluster.managed_namespace("looking").await?;
        cluster.cordon(NodeKind::Spot, true).await?;
        let workload = Workload::deployment("looking", "web").replicas(4).spot(50);
        cluster.create(&workload).await?;
        let pods = cluster.settled(&workload).await?;
        let ours = |pod: &Pod| json!(pod.metadata).to_string().contains("spotalis.io/");
        ensure!(!pods.iter().any(ours), "a pod was changed at admission");
        cluster.cordon(NodeKind::Spot, false).await?;
        // It is asked, computes and shows: the drift is there to see.
        ensure!(product.metric("spotalis_admission_requests_total", &[("result", "read_only")]).await >= 4.0);
        let of = [("namespace", "looking"), ("workload", "web"), ("type", "spot")];
        product.metric_becomes("spotalis_replicas_desired", &of, |value| value == 2.0).await?;
        product.metric_becomes("spotalis_replicas_realized", &of, |value| value == 0.0).await?;
        product.passes("Rebalanced", 2).await?;
        let told = cluster.events("looking", "web", "Rebalanced").await?;
        ensure!(
            told.is_empty(),
            "told of what was not done: {:?}",
            told.iter().map(|event| &event.note).collect::<Vec<_>>()
        );
        cluster.annotate(&workload, json!({PERCENTAGE: "all"})).await?;
        cluster.told(&workload, "InvalidAnnotation").await?;
        let resources: BTreeSet<String> = writes(cluster)?.into_iter().map(|entry| entry.resource).collect();
        ensure!(resources == BTreeSet::from(["events".to_owned()]), "written: {resources:?}");
        ensure!(cluster.pods(&workload).await?.iter().map(uid).eq(pods.iter().map(uid)), "pods came and went");
        Ok(())
    })
    .await
}
