//! With a Karpenter that makes nodes and takes them away: the split is exact on what it makes, and neither of the two works
//! against the other.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::json;
use spotalis_e2e::{
    Budget, Cluster, Product, ProductOptions, Scrape, Workload, count, eventually, on_product, scenario, wanted,
};
use spotalis_rig::{AuditLevel, RigOptions, say};
use tokio::time::Instant;

const KIND: &str = "karpenter.sh/capacity-type";
/// Bookmarks come about once a minute: a quiet watch that was heard of less than this ago has them.
const FRESH: Duration = Duration::from_secs(90);

#[tokio::test]
async fn karpenter_and_the_product_get_along() -> Result<()> {
    let rig = RigOptions { karpenter: true, audit: Some(AuditLevel::Metadata), ..RigOptions::default() };
    on_product("Karpenter", rig, ProductOptions::default(), async |cluster, product| {
        let since = Instant::now();
        quiet_kinds(cluster).await?;
        cluster.managed_namespace("shop").await?;
        let web = workload("web").replicas(10).spot(70).floor(1);
        scenario("nodes of both kinds", from_nothing(cluster, &web)).await?;
        scenario("another percentage", percentages(cluster, &web)).await?;
        scenario("consolidation", consolidation(cluster, product, &web)).await?;
        scenario("watches stay fresh", watches(product, since)).await?;
        Ok(())
    })
    .await
}

/// Pods of a size that nodes are made for.
fn workload(name: &str) -> Workload {
    let requests = json!({"requests": {"cpu": "900m", "memory": "256Mi"}});
    Workload::deployment("shop", name)
        .pod(json!({"containers": [{"name": "main", "image": "none", "resources": requests}]}))
}

/// How many nodes of each kind there are.
async fn nodes(cluster: &Cluster<'_>) -> Result<BTreeMap<String, usize>> {
    let nodes: Api<Node> = Api::all(cluster.client());
    let mut kinds = BTreeMap::new();
    for node in nodes.list(&ListParams::default()).await? {
        *kinds.entry(node.labels().get(KIND).cloned().unwrap_or_default()).or_default() += 1;
    }
    Ok(kinds)
}

async fn from_nothing(cluster: &Cluster<'_>, web: &Workload) -> Result<()> {
    ensure!(nodes(cluster).await?.is_empty(), "no node is there before");
    cluster.create(web).await?;
    cluster.expect_split(web, wanted(10, 70, 1)).await?;
    let nodes = nodes(cluster).await?;
    say(format!("    nodes: {nodes:?}"));
    let kinds: Vec<&str> = nodes.keys().map(String::as_str).collect();
    ensure!(kinds == ["on-demand", "spot"], "{nodes:?}");
    cluster.expect_evictions("shop", 0)
}

/// Down and up: each pod of the difference moves once, most of them to nodes that have to be made first.
async fn percentages(cluster: &Cluster<'_>, web: &Workload) -> Result<()> {
    let mut evictions = 0;
    let mut spot = wanted(10, 70, 1).spot;
    for percentage in [20, 100] {
        cluster.annotate(web, json!({"spotalis.io/spot-percentage": percentage.to_string()})).await?;
        let wanted = wanted(10, percentage, 1);
        cluster.until_split(web, wanted).await?;
        evictions += wanted.spot.abs_diff(spot) as usize;
        spot = wanted.spot;
        let made = ours(cluster)?;
        ensure!(made == evictions, "{made} evictions at {percentage} %, not {evictions}");
    }
    say(format!("    nodes: {:?}, {evictions} moves", nodes(cluster).await?));
    Ok(())
}

/// Evictions that the product asked for, and got.
fn ours(cluster: &Cluster<'_>) -> Result<usize> {
    let requests = cluster.requests("shop")?;
    Ok(requests.iter().filter(|entry| entry.subresource == "eviction" && (200..300).contains(&entry.code)).count())
}

async fn pod_names(cluster: &Cluster<'_>, workload: &Workload) -> Result<Vec<String>> {
    let mut names: Vec<String> = cluster.pods(workload).await?.iter().map(Pod::name_any).collect();
    names.sort();
    Ok(names)
}

async fn consolidate(cluster: &Cluster<'_>) -> Result<()> {
    let resource = ApiResource {
        group: "karpenter.sh".to_owned(),
        version: "v1".to_owned(),
        api_version: "karpenter.sh/v1".to_owned(),
        kind: "NodePool".to_owned(),
        plural: "nodepools".to_owned(),
    };
    let pools: Api<DynamicObject> = Api::all_with(cluster.client(), &resource);
    let disruption = json!({
        "consolidationPolicy": "WhenEmptyOrUnderutilized", "consolidateAfter": "5s", "budgets": [{"nodes": "100%"}],
    });
    let patch = Patch::Merge(json!({"spec": {"disruption": disruption}}));
    pools.patch("default", &PatchParams::default(), &patch).await?;
    Ok(())
}

/// Karpenter takes away what is not needed, moving pods itself. Their replacements are steered like any other, so there is
/// nothing for us to mend, and the two of them come to rest. Pods that nobody may disturb stay where they are throughout.
async fn consolidation(cluster: &Cluster<'_>, product: &Product, web: &Workload) -> Result<()> {
    let kept = workload("kept").replicas(2).spot(50).pod_annotation("karpenter.sh/do-not-disrupt", "true");
    cluster.create(&kept).await?;
    cluster.until_split(&kept, wanted(2, 50, 0)).await?;
    let other = workload("other").replicas(8).spot(50).floor(2);
    cluster.create(&other).await?;
    cluster.until_split(&other, wanted(8, 50, 2)).await?;
    let keeps = pod_names(cluster, &kept).await?;
    let (before, moves) = (nodes(cluster).await?, ours(cluster)?);
    consolidate(cluster).await?;
    // No move of ours is possible for the kept ones, whatever is asked.
    cluster.annotate(&kept, json!({"spotalis.io/spot-percentage": "100"})).await?;
    cluster.told(&kept, "PodsKept").await?;
    cluster.scale(&other, 4).await?;
    cluster.scale(web, 5).await?;
    let total = |nodes: &BTreeMap<String, usize>| nodes.values().sum::<usize>();
    eventually("fewer nodes", async || (total(&nodes(cluster).await.ok()?) < total(&before)).then_some(())).await?;
    let rest = at_rest(cluster, &[web, &other]).await?;
    for (workload, wanted) in [(web, wanted(5, 100, 1)), (&other, wanted(4, 50, 2))] {
        cluster.until_split(workload, wanted).await?;
    }
    let moved = ours(cluster)? - moves;
    say(format!("    nodes: {before:?}, then {rest:?}; {} pods moved by Karpenter, {moved} by us", theirs(cluster)?));
    ensure!(theirs(cluster)? > 0, "Karpenter moved nobody, so nothing was seen");
    ensure!(moved == 0, "{moved} moves of ours, and there was no drift");
    ensure!(pod_names(cluster, &kept).await? == keeps, "a pod that nobody may disturb was disturbed");
    let stayed = product.metric("spotalis_replicas_realized", &[("workload", "kept"), ("type", "on_demand")]).await;
    ensure!(count(stayed) == 1, "{stayed} of them on on-demand nodes");
    Ok(())
}

/// Evictions by Karpenter, which runs as an administrator here.
fn theirs(cluster: &Cluster<'_>) -> Result<usize> {
    Ok(cluster.evictions("shop")?.len() - ours(cluster)?)
}

/// Waits until nodes and pods were the same for longer than Karpenter thinks about an act (15 s) and we pause between two,
/// and tells the nodes.
async fn at_rest(cluster: &Cluster<'_>, workloads: &[&Workload]) -> Result<BTreeMap<String, usize>> {
    let mut last = (BTreeMap::new(), Vec::new());
    let mut since = Instant::now();
    eventually("Karpenter and us to come to rest", async || {
        let mut pods = Vec::new();
        for workload in workloads {
            pods.extend(pod_names(cluster, workload).await.ok()?);
        }
        let now = (nodes(cluster).await.ok()?, pods);
        if now != last {
            (last, since) = (now, Instant::now());
        }
        (since.elapsed() > Duration::from_secs(20)).then(|| last.0.clone())
    })
    .await
}

/// One StatefulSet and one budget, to which nothing happens any more. (Of a kind without any object, an API server whose
/// etcd does not report progress has no version to send a bookmark with.)
async fn quiet_kinds(cluster: &Cluster<'_>) -> Result<()> {
    cluster.namespace("quiet", json!({})).await?;
    let quiet = Workload::stateful_set("quiet", "quiet").replicas(0);
    cluster.create(&quiet).await?;
    cluster.create_budget(&Budget::min_available(&quiet, "quiet", 1)).await
}

/// Nothing happened to namespaces, budgets and StatefulSets since the beginning: without bookmarks their watches would
/// look dead by now.
async fn watches(product: &Product, since: Instant) -> Result<()> {
    eventually("a test that is long enough", async || (since.elapsed() > FRESH + FRESH / 18).then_some(())).await?;
    let scrape: Scrape = product.replica().scrape().await?;
    for kind in ["namespaces", "nodes", "pods", "deployments", "statefulsets", "replicasets", "poddisruptionbudgets"] {
        let labels = [("kind", kind)];
        ensure!(scrape.has("spotalis_watch_age_seconds", &labels), "{kind} is not watched");
        let age = scrape.sum("spotalis_watch_age_seconds", &labels);
        ensure!(age < FRESH.as_secs_f64(), "nothing was heard of {kind} for {age} s");
    }
    Ok(())
}
