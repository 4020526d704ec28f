//! Admission on a real API server: pods land where the split wants them, from the first one on, and nobody is evicted for
//! it.
//!
//! The facts about Kubernetes that the product leans on are pinned here as well: if one changes, its test says so before a
//! user does.

#![allow(clippy::float_cmp, reason = "metrics of whole numbers")]

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::apps::v1::{DaemonSet, ReplicaSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Pod, ResourceQuota};
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use spotalis_e2e::{
    Calls, Cluster, Neighbour, Product, ProductOptions, Split, Workload, active_pods, annotation, eventually, label,
    on_product, scenario, wanted,
};
use spotalis_rig::{AuditLevel, NodeKind, RigOptions};

const CAPACITY_TYPE: &str = "spotalis.io/capacity-type";
const SLOT: &str = "spotalis.io/slot";
const ADMISSION_ID: &str = "spotalis.io/admission-id";
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
const NODE_LABEL: &str = "karpenter.sh/capacity-type";

async fn on_cluster(
    name: &str,
    nodes_of_each: u32,
    test: impl AsyncFnOnce(&Cluster<'_>, &Product) -> Result<()>,
) -> Result<()> {
    let rig = RigOptions { audit: Some(AuditLevel::Metadata), ..RigOptions::default() };
    on_product(name, rig, ProductOptions::default(), async |cluster, product| {
        cluster.rig().add_nodes(nodes_of_each, NodeKind::Spot).await?;
        cluster.rig().add_nodes(nodes_of_each, NodeKind::OnDemand).await?;
        Box::pin(test(cluster, product)).await
    })
    .await
}

/// Slots of a workload's active pods.
fn slots(pods: &[Pod]) -> BTreeSet<u32> {
    active_pods(pods).filter_map(|pod| annotation(pod, SLOT)?.parse().ok()).collect()
}

fn spec(pod: &Pod) -> Value {
    json!(pod.spec)
}

/// Whether nothing in the pod is ours: no key, no selector, no affinity.
fn is_untouched(pod: &Pod) -> bool {
    let metadata = json!(pod.metadata);
    let mut keys =
        ["labels", "annotations"].into_iter().filter_map(|map| metadata[map].as_object()).flat_map(|map| map.keys());
    let ours = keys.any(|key| key.starts_with("spotalis.io/") || key == DELETION_COST);
    let spec = spec(pod);
    !ours && spec["nodeSelector"].is_null() && spec["affinity"].is_null()
}

#[tokio::test]
async fn bursts_rollouts_and_scaling_are_exact_without_an_eviction() -> Result<()> {
    on_cluster("bursts, rollouts, scaling", 4, async |cluster, product| {
        scenario("bursts", bursts(cluster)).await?;
        scenario("deletion cost", slots_remain_after_scaling_down(cluster)).await?;
        scenario("scaling", scaling(cluster)).await?;
        scenario("StatefulSets", stateful_sets(cluster)).await?;
        scenario("ten rolling restarts of 60 pods", rolling_restarts(cluster)).await?;
        ensure!(cluster.rig().audit()?.iter().all(|entry| entry.subresource != "eviction"), "there were evictions");
        product.metric_becomes("spotalis_admission_reservations", &[], |left| left == 0.0).await?;
        Ok(())
    })
    .await
}

/// Many workloads at once, each from nothing to all its pods.
async fn bursts(cluster: &Cluster<'_>) -> Result<()> {
    let namespace = "bursts";
    cluster.managed_namespace(namespace).await?;
    let grid: [(u32, u32, u32); 12] = [
        (1, 70, 0),
        (1, 70, 1),
        (2, 50, 1),
        (3, 33, 1),
        (4, 100, 9),
        (5, 0, 0),
        (10, 70, 1),
        (25, 50, 0),
        (60, 70, 2),
        (80, 99, 0),
        (100, 100, 20),
        (120, 70, 3),
    ];
    let mut workloads = Vec::new();
    for (replicas, percentage, floor) in grid {
        let name = format!("w-{replicas}-{percentage}-{floor}");
        let workload = Workload::deployment(namespace, &name).replicas(replicas).spot(percentage).floor(floor);
        cluster.create(&workload).await?;
        workloads.push((workload, wanted(replicas, percentage, floor), replicas));
    }
    for (workload, wanted, replicas) in &workloads {
        let pods = cluster.expect_split(workload, *wanted).await?;
        ensure!(slots(&pods) == (1..=*replicas).collect(), "{}: slots {:?}", workload.name(), slots(&pods));
    }
    cluster.delete_namespace(namespace).await
}

/// Kubernetes removes the pods that cost least to delete first: with `-slot`, the highest slots.
async fn slots_remain_after_scaling_down(cluster: &Cluster<'_>) -> Result<()> {
    cluster.managed_namespace("costs").await?;
    let workload = Workload::deployment("costs", "web").replicas(10).spot(70).floor(2);
    cluster.create(&workload).await?;
    for pod in cluster.expect_split(&workload, wanted(10, 70, 2)).await? {
        let slot = annotation(&pod, SLOT).context("a slot")?;
        ensure!(annotation(&pod, DELETION_COST) == Some(format!("-{slot}").as_str()));
    }
    cluster.scale(&workload, 4).await?;
    let pods = cluster.expect_split(&workload, wanted(4, 70, 2)).await?;
    ensure!(slots(&pods) == (1..=4).collect(), "10 -> 4 leaves slots {:?}", slots(&pods));
    Ok(())
}

/// Up and down as an autoscaler does it.
async fn scaling(cluster: &Cluster<'_>) -> Result<()> {
    cluster.managed_namespace("scaling").await?;
    let workload = Workload::deployment("scaling", "web").replicas(10).spot(70).floor(1);
    cluster.create(&workload).await?;
    cluster.expect_split(&workload, wanted(10, 70, 1)).await?;
    for replicas in [25, 7, 15, 3, 20, 1, 40, 0, 10] {
        cluster.scale(&workload, replicas).await?;
        cluster.expect_split(&workload, wanted(replicas, 70, 1)).await?;
    }
    Ok(())
}

/// Ordinals are slots, whatever number the first one has.
async fn stateful_sets(cluster: &Cluster<'_>) -> Result<()> {
    cluster.managed_namespace("stateful").await?;
    let from_seven = json!({"ordinals": {"start": 7}, "podManagementPolicy": "OrderedReady"});
    let workloads = [
        Workload::stateful_set("stateful", "parallel").replicas(12).spot(70).floor(1),
        Workload::stateful_set("stateful", "ordered").replicas(5).spot(60).spec(from_seven),
    ];
    for workload in &workloads {
        cluster.create(workload).await?;
    }
    let [parallel, ordered] = &workloads;
    cluster.expect_split(ordered, wanted(5, 60, 0)).await?;
    for replicas in [12, 20, 5, 9] {
        cluster.scale(parallel, replicas).await?;
        let pods = cluster.expect_split(parallel, wanted(replicas, 70, 1)).await?;
        ensure!(pods.iter().all(|pod| annotation(pod, DELETION_COST).is_none()), "StatefulSets ignore it");
    }
    cluster.restart(ordered).await?;
    let pods = cluster.expect_split(ordered, wanted(5, 60, 0)).await?;
    ensure!(slots(&pods) == (1..=5).collect(), "{:?}", slots(&pods));
    Ok(())
}

async fn rolling_restarts(cluster: &Cluster<'_>) -> Result<()> {
    cluster.managed_namespace("rollouts").await?;
    let workload = Workload::deployment("rollouts", "web").replicas(60).spot(70).floor(2);
    cluster.create(&workload).await?;
    cluster.expect_split(&workload, wanted(60, 70, 2)).await?;
    for _ in 0..10 {
        cluster.restart(&workload).await?;
        let pods = cluster.expect_split(&workload, wanted(60, 70, 2)).await?;
        ensure!(slots(&pods) == (1..=60).collect(), "{:?}", slots(&pods));
    }
    Ok(())
}

#[tokio::test]
async fn what_else_the_api_server_does_with_a_pod() -> Result<()> {
    on_cluster("the API server's ways", 2, async |cluster, product| {
        scenario("dry run", a_dry_run_leaves_no_trace(cluster, product)).await?;
        scenario("strangers", Box::pin(strangers_are_not_sent(cluster, product))).await?;
        scenario("a second webhook", a_second_webhook_changes_nothing(cluster, product)).await?;
        scenario("uid at reinvocation", reinvocation_has_a_new_uid(cluster)).await?;
        scenario("quota", what_quota_refuses_costs_nothing(cluster)).await
    })
    .await
}

/// A pod that looks like the next one of the workload's `ReplicaSet`.
async fn next_pod(cluster: &Cluster<'_>, workload: &Workload) -> Result<Pod> {
    let sets: Api<ReplicaSet> = Api::namespaced(cluster.client(), workload.namespace());
    let mut found = sets.list(&ListParams::default().labels(&workload.selector())).await?.items;
    let set = found.pop().context("a ReplicaSet")?;
    let template = set.spec.context("a spec")?.template.context("a template")?;
    Ok(serde_json::from_value(json!({
        "metadata": {
            "generateName": format!("{}-", workload.name()),
            "labels": template.metadata.context("labels")?.labels,
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "ReplicaSet", "controller": true, "blockOwnerDeletion": true,
                "name": set.metadata.name, "uid": set.metadata.uid,
            }],
        },
        "spec": template.spec,
    }))?)
}

async fn trial(cluster: &Cluster<'_>, namespace: &str, pod: &Pod) -> Result<Pod> {
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    Ok(Api::namespaced(cluster.client(), namespace).create(&dry_run, pod).await?)
}

async fn a_dry_run_leaves_no_trace(cluster: &Cluster<'_>, product: &Product) -> Result<()> {
    cluster.managed_namespace("trials").await?;
    let workload = Workload::deployment("trials", "web").replicas(4).spot(50);
    cluster.create(&workload).await?;
    cluster.expect_split(&workload, wanted(4, 50, 0)).await?;
    product.metric_becomes("spotalis_admission_reservations", &[], |left| left == 0.0).await?;
    let pod = next_pod(cluster, &workload).await?;
    let mut answers = BTreeSet::new();
    for _ in 0..10 {
        let answer = trial(cluster, "trials", &pod).await?;
        let capacity = label(&answer, CAPACITY_TYPE).context("steered")?.to_owned();
        answers.insert((capacity, annotation(&answer, SLOT).context("seated")?.to_owned()));
    }
    let the_fifth = ("spot".to_owned(), "5".to_owned());
    ensure!(answers == BTreeSet::from([the_fifth]), "the same question, the same answer: {answers:?}");
    let reserved = product.metric("spotalis_admission_reservations", &[]).await;
    ensure!(reserved == 0.0, "{reserved} reservations after trials");
    cluster.scale(&workload, 7).await?;
    let pods = cluster.expect_split(&workload, wanted(7, 50, 0)).await?;
    ensure!(slots(&pods) == (1..=7).collect(), "{:?}", slots(&pods));
    Ok(())
}

/// The registration leaves out what nobody could decide about: no request is made at all.
async fn strangers_are_not_sent(cluster: &Cluster<'_>, product: &Product) -> Result<()> {
    cluster.managed_namespace("strangers").await?;
    cluster.namespace("elsewhere", json!({})).await?;
    let workload = Workload::deployment("strangers", "web").replicas(2).spot(50);
    cluster.create(&workload).await?;
    cluster.expect_split(&workload, wanted(2, 50, 0)).await?;
    let next = next_pod(cluster, &workload).await?;
    let asked = product.metric("spotalis_admission_requests_total", &[]).await;

    let template = json!({
        "metadata": {"labels": {"app": "stranger"}},
        "spec": {"restartPolicy": "Always", "containers": [{"name": "main", "image": "none"}]},
    });
    let daemons: DaemonSet = serde_json::from_value(json!({
        "metadata": {"name": "stranger"},
        "spec": {"selector": {"matchLabels": {"app": "stranger"}}, "template": template},
    }))?;
    Api::namespaced(cluster.client(), "strangers").create(&PostParams::default(), &daemons).await?;
    let mut template = template;
    template["spec"]["restartPolicy"] = json!("Never");
    template["metadata"]["labels"]["app"] = json!("job");
    let job: Job = serde_json::from_value(json!({"metadata": {"name": "stranger"}, "spec": {"template": template}}))?;
    Api::namespaced(cluster.client(), "strangers").create(&PostParams::default(), &job).await?;
    let pods: Api<Pod> = Api::namespaced(cluster.client(), "strangers");
    for selector in ["app=stranger", "app=job"] {
        let pod = eventually(selector, async || {
            let pods = pods.list(&ListParams::default().labels(selector)).await.ok()?;
            pods.items.into_iter().next()
        });
        ensure!(label(&pod.await?, CAPACITY_TYPE).is_none(), "{selector} was steered");
    }
    let alone: Pod = serde_json::from_value(json!({
        "metadata": {"name": "alone"}, "spec": {"containers": [{"name": "main", "image": "none"}]},
    }))?;
    ensure!(is_untouched(&trial(cluster, "strangers", &alone).await?), "a pod without an owner");
    let mut bound = next.clone();
    bound.spec.as_mut().context("a spec")?.node_name = Some("on-demand-0".to_owned());
    ensure!(is_untouched(&trial(cluster, "strangers", &bound).await?), "a pod that is bound already");
    let foreign = Workload::deployment("elsewhere", "web").replicas(3).spot(100);
    cluster.create(&foreign).await?;
    let pods = cluster.settled(&foreign).await?;
    ensure!(pods.iter().all(is_untouched), "a pod in a namespace that nobody opted in");

    let now = product.metric("spotalis_admission_requests_total", &[]).await;
    ensure!(now == asked, "{} requests about strangers", now - asked);
    // The count does move: the same pod unbound is sent.
    ensure!(!is_untouched(&trial(cluster, "strangers", &next).await?));
    Ok(())
}

/// Another webhook changes the pod after ours, so that ours is asked again: what it says then changes nothing.
async fn a_second_webhook_changes_nothing(cluster: &Cluster<'_>, product: &Product) -> Result<()> {
    cluster.managed_namespace("neighbours").await?;
    let neighbour = Neighbour::start(&cluster.rig().dir().join("neighbour"), true).await?;
    // After ours, which is called spotalis.
    neighbour.register(cluster.client(), "zz-neighbour", "neighbours").await?;
    let workload = Workload::deployment("neighbours", "web").replicas(1).spot(70).floor(1);
    neighbour_is_called(cluster, &workload, &neighbour).await?;
    let again = |product| async move {
        Product::metric(product, "spotalis_admission_requests_total", &[("result", "already")]).await
    };
    let before = again(product).await;
    cluster.scale(&workload, 20).await?;
    let pods = cluster.expect_split(&workload, wanted(20, 70, 1)).await?;
    ensure!(slots(&pods) == (1..=20).collect(), "{:?}", slots(&pods));
    ensure!(again(product).await - before >= 19.0, "ours was asked again for every pod");
    // The last answer is the one that counts, and it kept the first one's id, slot and type.
    let ids: BTreeSet<&str> = pods.iter().filter_map(|pod| annotation(pod, ADMISSION_ID)).collect();
    ensure!(ids.len() == pods.len(), "one id per pod");
    let seen: BTreeMap<String, Value> = neighbour
        .reviews()
        .into_iter()
        .filter_map(|review| {
            let annotations = &review.pod["metadata"]["annotations"];
            Some((annotations[ADMISSION_ID].as_str()?.to_owned(), annotations[SLOT].clone()))
        })
        .collect();
    for pod in &pods {
        ensure!(label(pod, "neighbour") == Some("was-here"));
        let id = annotation(pod, ADMISSION_ID).context("an id")?;
        ensure!(
            seen.get(id).and_then(Value::as_str) == annotation(pod, SLOT),
            "seen by the neighbour as it was stored"
        );
    }
    product.metric_becomes("spotalis_admission_reservations", &[], |left| left == 0.0).await?;
    cluster.delete_registration("zz-neighbour").await
}

/// The API server learns of a new webhook with a delay: creates the workload and replaces its pod until the webhook is
/// called.
async fn neighbour_is_called(cluster: &Cluster<'_>, workload: &Workload, neighbour: &Neighbour) -> Result<()> {
    cluster.create(workload).await?;
    let pods: Api<Pod> = Api::namespaced(cluster.client(), workload.namespace());
    eventually("the neighbour to be called", async || {
        if !neighbour.reviews().is_empty() {
            return Some(());
        }
        let selector = ListParams::default().labels(&workload.selector());
        pods.delete_collection(&DeleteParams::default(), &selector).await.ok()?;
        None
    })
    .await?;
    // Whatever came before the webhook was called is replaced as well.
    cluster.settled(workload).await?;
    cluster.restart(workload).await?;
    cluster.settled(workload).await?;
    Ok(())
}

/// A pinned fact: a call that is a repetition cannot be told by its uid.
async fn reinvocation_has_a_new_uid(cluster: &Cluster<'_>) -> Result<()> {
    cluster.namespace("reinvocation", json!({})).await?;
    let first = Neighbour::start(&cluster.rig().dir().join("first"), false).await?;
    let second = Neighbour::start(&cluster.rig().dir().join("second"), true).await?;
    first.register(cluster.client(), "a-first", "reinvocation").await?;
    second.register(cluster.client(), "b-second", "reinvocation").await?;
    let workload = Workload::deployment("reinvocation", "web");
    neighbour_is_called(cluster, &workload, &first).await?;
    neighbour_is_called_too(cluster, &workload, &second).await?;
    cluster.restart(&workload).await?;
    let pods = cluster.settled(&workload).await?;
    let name = pods[0].metadata.generate_name.clone().context("a pod of a ReplicaSet")?;
    let calls: Vec<_> =
        first.reviews().into_iter().filter(|review| review.pod["metadata"]["generateName"] == name.as_str()).collect();
    ensure!(calls.len() == 2, "called and called again, not {} times", calls.len());
    ensure!(calls[0].uid != calls[1].uid, "the same uid both times: {}", calls[0].uid);
    ensure!(calls[1].pod["metadata"]["labels"]["neighbour"] == "was-here", "the second call sees the change");
    for name in ["a-first", "b-second"] {
        cluster.delete_registration(name).await?;
    }
    Ok(())
}

async fn neighbour_is_called_too(cluster: &Cluster<'_>, workload: &Workload, neighbour: &Neighbour) -> Result<()> {
    eventually("the second neighbour to be called", async || {
        if !neighbour.reviews().is_empty() {
            return Some(());
        }
        cluster.restart(workload).await.ok()?;
        cluster.settled(workload).await.ok()?;
        None
    })
    .await
}

/// The API server's clock, which is this machine's.
#[expect(clippy::disallowed_methods, reason = "the age of what the API server recorded")]
fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

/// A pod that is refused after us is tried again and again; none of the tries may leave a seat taken.
async fn what_quota_refuses_costs_nothing(cluster: &Cluster<'_>) -> Result<()> {
    cluster.managed_namespace("quota").await?;
    let quota: ResourceQuota =
        serde_json::from_value(json!({"metadata": {"name": "three"}, "spec": {"hard": {"pods": "3"}}}))?;
    let quotas: Api<ResourceQuota> = Api::namespaced(cluster.client(), "quota");
    quotas.create(&PostParams::default(), &quota).await?;
    eventually("the quota to be in force", async || quotas.get("three").await.ok()?.status?.hard.map(drop)).await?;
    let workload = Workload::deployment("quota", "web").replicas(6).spot(70).floor(1);
    cluster.create(&workload).await?;
    // A pinned fact: tried again about ten times in the first second. Within a second, a refused pod cannot be told from
    // one that is on its way; the quota is raised later than that.
    eventually("several refusals, the last one more than a second ago", async || {
        let mut entries = cluster.rig().audit().ok()?;
        entries.retain(|entry| entry.namespace == "quota" && entry.resource == "pods" && entry.code == 403);
        let age = now().duration_since(entries.last()?.received);
        (entries.len() >= 5 && age.as_millis() > 1_200).then_some(())
    })
    .await?;
    eventually("three pods", async || (cluster.pods(&workload).await.ok()?.len() == 3).then_some(())).await?;
    let raised = Patch::Merge(json!({"spec": {"hard": {"pods": "10"}}}));
    quotas.patch("three", &PatchParams::default(), &raised).await?;
    // The ReplicaSet is tried again with a growing pause; a change of its size ends that.
    cluster.scale(&workload, 7).await?;
    cluster.expect_split(&workload, wanted(7, 70, 1)).await?;
    // A slot that a refused pod still held is given back, at the latest when the others are seated.
    eventually("seven slots without a gap", async || {
        let pods = cluster.pods(&workload).await.ok()?;
        (slots(&pods) == (1..=7).collect()).then_some(())
    })
    .await?;
    cluster.expect_evictions("quota", 0)
}

#[tokio::test]
async fn what_users_say_about_placement_is_kept() -> Result<()> {
    on_cluster("users' placement", 2, async |cluster, _| {
        scenario("contradictions", contradictions_are_left_alone(cluster)).await?;
        scenario("constraints", constraints_are_kept(cluster)).await?;
        scenario("preferred", a_preference_is_only_one(cluster)).await?;
        scenario("opting out", opting_out_stops_it(cluster)).await?;
        scenario("half an opt-in", half_an_opt_in_is_none(cluster)).await
    })
    .await
}

async fn contradictions_are_left_alone(cluster: &Cluster<'_>) -> Result<()> {
    cluster.managed_namespace("conflict").await?;
    let selector = |capacity: &str| json!({"nodeSelector": {NODE_LABEL: capacity}});
    // One type is excluded and wanted; both are excluded.
    let insists = Workload::deployment("conflict", "insists").replicas(3).spot(100).pod(selector("on-demand"));
    let neither = Workload::deployment("conflict", "neither").replicas(2).spot(50).pod(selector("reserved"));
    cluster.create(&insists).await?;
    cluster.create(&neither).await?;
    for pod in cluster.expect_split(&insists, Split { on_demand: 3, ..Split::default() }).await? {
        ensure!(label(&pod, CAPACITY_TYPE).is_none() && annotation(&pod, SLOT).is_none(), "{:?}", pod.metadata);
        ensure!(spec(&pod)["nodeSelector"] == json!({NODE_LABEL: "on-demand"}));
    }
    cluster.told(&insists, "PlacementConflict").await?;
    cluster.told(&neither, "PlacementConflict").await?;
    let pods =
        eventually("two pods", async || cluster.pods(&neither).await.ok().filter(|pods| pods.len() == 2)).await?;
    for pod in &pods {
        ensure!(label(pod, CAPACITY_TYPE).is_none() && spec(pod)["nodeSelector"] == json!({NODE_LABEL: "reserved"}));
    }
    Ok(())
}

async fn constraints_are_kept(cluster: &Cluster<'_>) -> Result<()> {
    cluster.managed_namespace("constraints").await?;
    let affinity = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
        {"matchExpressions": [{"key": "kubernetes.io/os", "operator": "In", "values": ["linux"]}]},
        {"matchExpressions": [{"key": "kubernetes.io/arch", "operator": "Exists"}]},
    ]}}});
    let own = json!({"nodeSelector": {"kubernetes.io/arch": "amd64"}, "affinity": affinity});
    let beside = Workload::deployment("constraints", "beside").replicas(6).spot(50).pod(own);
    let same = Workload::deployment("constraints", "same")
        .replicas(3)
        .spot(100)
        .pod(json!({"nodeSelector": {NODE_LABEL: "spot"}}));
    cluster.create(&beside).await?;
    cluster.create(&same).await?;
    for pod in cluster.expect_split(&beside, wanted(6, 50, 0)).await? {
        let spec = spec(&pod);
        let ours = label(&pod, CAPACITY_TYPE).context("steered")?;
        ensure!(spec["nodeSelector"] == json!({"kubernetes.io/arch": "amd64", NODE_LABEL: ours}));
        ensure!(spec["affinity"] == affinity, "{}", spec["affinity"]);
    }
    for pod in cluster.expect_split(&same, wanted(3, 100, 0)).await? {
        ensure!(spec(&pod)["nodeSelector"] == json!({NODE_LABEL: "spot"}));
        ensure!(label(&pod, CAPACITY_TYPE) == Some("spot") && annotation(&pod, SLOT).is_some());
    }
    Ok(())
}

async fn a_preference_is_only_one(cluster: &Cluster<'_>) -> Result<()> {
    cluster.managed_namespace("preferred").await?;
    let workload =
        Workload::deployment("preferred", "web").replicas(6).spot(50).annotation("spotalis.io/placement", "preferred");
    cluster.create(&workload).await?;
    for pod in cluster.expect_split(&workload, wanted(6, 50, 0)).await? {
        let spec = spec(&pod);
        let ours = label(&pod, CAPACITY_TYPE).context("steered")?;
        let terms = &spec["affinity"]["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"];
        let wanted = json!([{"weight": 100, "preference": {"matchExpressions": [
            {"key": NODE_LABEL, "operator": "In", "values": [ours]},
        ]}}]);
        ensure!(*terms == wanted && spec["nodeSelector"].is_null(), "{terms}");
    }
    Ok(())
}

async fn opting_out_stops_it(cluster: &Cluster<'_>) -> Result<()> {
    cluster.managed_namespace("out").await?;
    let workload = Workload::deployment("out", "web").replicas(4).spot(50);
    cluster.create(&workload).await?;
    cluster.expect_split(&workload, wanted(4, 50, 0)).await?;
    cluster.opt(&workload, false, json!({})).await?;
    let pods = cluster.settled(&workload).await?;
    ensure!(pods.iter().all(|pod| label(pod, CAPACITY_TYPE).is_some()), "pods that run stay as they are");
    cluster.restart(&workload).await?;
    let pods = cluster.settled(&workload).await?;
    ensure!(pods.iter().all(is_untouched), "opted out, and steered");
    // The namespace's word counts as much.
    cluster.opt(&workload, true, json!({})).await?;
    cluster.restart(&workload).await?;
    cluster.expect_split(&workload, wanted(4, 50, 0)).await?;
    cluster.label_namespace("out", json!({"spotalis.io/enabled": null})).await?;
    cluster.restart(&workload).await?;
    let pods = cluster.settled(&workload).await?;
    ensure!(pods.iter().all(is_untouched), "the namespace is opted out, and a pod is steered");
    cluster.expect_evictions("out", 0)
}

/// The API server asks about these, and gets them back as they are.
async fn half_an_opt_in_is_none(cluster: &Cluster<'_>) -> Result<()> {
    cluster.managed_namespace("half").await?;
    let nearly = Workload::deployment("half", "nearly").replicas(3).label("spotalis.io/enabled", "True");
    let silent = Workload::deployment("half", "silent").replicas(3).annotation("spotalis.io/spot-percentage", "100");
    cluster.create(&nearly).await?;
    cluster.create(&silent).await?;
    for workload in [&nearly, &silent] {
        let pods = cluster.settled(workload).await?;
        ensure!(pods.iter().all(is_untouched), "{} is not opted in", workload.name());
    }
    Ok(())
}

#[tokio::test]
async fn the_webhook_goes_away_and_comes_back() -> Result<()> {
    on_cluster("webhook down and back", 2, async |cluster, product| {
        scenario("down and back", down_and_back(cluster, product)).await?;
        scenario("nobody steers", nothing_is_moved_while_nobody_steers(cluster, product)).await
    })
    .await
}

/// While nobody answers, pods are created as if there were no webhook; what that spoils is mended afterwards.
async fn down_and_back(cluster: &Cluster<'_>, product: &Product) -> Result<()> {
    cluster.managed_namespace("away").await?;
    let workload = Workload::deployment("away", "web").replicas(10).spot(70).floor(1);
    // All pods to one side, so that the number of moves is known.
    cluster.cordon(NodeKind::Spot, true).await?;
    let before = Calls::so_far(cluster.rig()).await?;
    product.replica().kill()?;
    cluster.create(&workload).await?;
    let pods = cluster.settled(&workload).await?;
    ensure!(pods.iter().all(is_untouched), "nobody was there to steer");
    let failed_open = Calls::so_far(cluster.rig()).await?.failed_open - before.failed_open;
    ensure!(failed_open == 10, "the API server went on without an answer for ten pods, not {failed_open}");
    ensure!(cluster.split(&workload).await? == Split { on_demand: 10, ..Split::default() });
    cluster.cordon(NodeKind::Spot, false).await?;
    product.replica().launch()?;
    product.replica().ready().await?;
    cluster.until_split(&workload, wanted(10, 70, 1)).await?;
    cluster.expect_evictions("away", 7)?;
    // Everybody has a seat in the end, also those that nobody steered.
    let seated = eventually("a slot for every pod", async || {
        let pods = cluster.pods(&workload).await.ok()?;
        (slots(&pods) == (1..=10).collect()).then_some(())
    });
    seated.await?;
    cluster.scale(&workload, 4).await?;
    let pods = cluster.expect_split(&workload, wanted(4, 70, 1)).await?;
    ensure!(slots(&pods) == (1..=4).collect(), "{:?}", slots(&pods));
    cluster.expect_evictions("away", 7)
}

/// One eviction shows that the API server does not call the webhook. There is no second one.
async fn nothing_is_moved_while_nobody_steers(cluster: &Cluster<'_>, product: &Product) -> Result<()> {
    cluster.managed_namespace("unsteered").await?;
    product.unregister().await?;
    cluster.cordon(NodeKind::Spot, true).await?;
    let workload = Workload::deployment("unsteered", "web").replicas(6).spot(50);
    cluster.create(&workload).await?;
    cluster.settled(&workload).await?;
    cluster.cordon(NodeKind::Spot, false).await?;
    let event = cluster.told(&workload, "WebhookNotSteering").await?;
    ensure!(event.type_.as_deref() == Some("Warning"));
    // Looked at again and again, and left alone each time.
    product.passes("WebhookNotSteering", 2).await?;
    cluster.expect_evictions("unsteered", 1)?;
    ensure!(cluster.events("unsteered", "web", "WebhookNotSteering").await?.len() == 1);
    Ok(())
}
