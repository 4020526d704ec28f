//! Rolling updates of every kind, and what happens to a workload in the middle of one: the new revision is exact from its
//! first pod on, and nothing is evicted while the workload's own controller is at work.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use spotalis_e2e::{
    Cluster, Product, ProductOptions, Workload, active_pods, annotation, eventually, label, on_product, scenario,
    wanted,
};
use spotalis_rig::{AuditLevel, NodeKind, READY_AFTER, RigOptions};
use tokio::try_join;

const REPLICAS: u32 = 12;

#[tokio::test]
async fn a_rollout_is_exact_whatever_its_strategy() -> Result<()> {
    let rig = RigOptions { audit: Some(AuditLevel::Metadata), ..RigOptions::default() };
    on_product("rollouts", rig, ProductOptions::default(), async |cluster, product| {
        cluster.rig().add_nodes(3, NodeKind::Spot).await?;
        cluster.rig().add_nodes(3, NodeKind::OnDemand).await?;
        let rolling = |surge: Value, unavailable: Value| {
            json!({"strategy": {"rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}})
        };
        let slowly = json!({"minReadySeconds": 1, "strategy": {"rollingUpdate": {"maxSurge": 6, "maxUnavailable": 0}}});
        try_join!(
            scenario("no surge", restarts(cluster, "no-surge", rolling(json!(0), json!(3)))),
            scenario("one by one", restarts(cluster, "one-by-one", rolling(json!(1), json!(0)))),
            scenario("all at once", restarts(cluster, "all-at-once", rolling(json!("100%"), json!(0)))),
            scenario("half and half", restarts(cluster, "half", rolling(json!("50%"), json!("50%")))),
            scenario("minReadySeconds", restarts(cluster, "slowly", slowly)),
            scenario("Recreate", restarts(cluster, "recreate", json!({"strategy": {"type": "Recreate"}}))),
            scenario("scaled up midway", scaled_up_midway(cluster)),
            scenario("scaled down midway", scaled_down_midway(cluster)),
            scenario("stuck and taken back", stuck_and_taken_back(cluster)),
            scenario("paused midway", paused_midway(cluster, product)),
        )?;
        product.metric_becomes("spotalis_admission_reservations", &[], |left| left < 0.5).await?;
        Ok(())
    })
    .await
}

fn slots(pods: &[Pod]) -> BTreeSet<u32> {
    active_pods(pods).filter_map(|pod| annotation(pod, "spotalis.io/slot")?.parse().ok()).collect()
}

/// Twelve replicas, eight of them on spot.
async fn twelve(cluster: &Cluster<'_>, namespace: &str, workload: Workload) -> Result<Workload> {
    cluster.managed_namespace(namespace).await?;
    let workload = workload.replicas(REPLICAS).spot(70).floor(4);
    cluster.create(&workload).await?;
    exact(cluster, &workload, REPLICAS).await?;
    Ok(workload)
}

/// Settled, split as it should be, seated without a gap, and without an eviction.
async fn exact(cluster: &Cluster<'_>, workload: &Workload, replicas: u32) -> Result<()> {
    let pods = cluster.expect_split(workload, wanted(replicas, 70, 4)).await?;
    ensure!(slots(&pods) == (1..=replicas).collect(), "{}: {:?}", workload.namespace(), slots(&pods));
    cluster.expect_evictions(workload.namespace(), 0)
}

async fn restarts(cluster: &Cluster<'_>, namespace: &str, spec: Value) -> Result<()> {
    let workload = twelve(cluster, namespace, Workload::deployment(namespace, "web").spec(spec)).await?;
    for _ in 0..3 {
        cluster.restart(&workload).await?;
        exact(cluster, &workload, REPLICAS).await?;
    }
    Ok(())
}

/// Pods of each revision that there are at the moment.
async fn revisions(cluster: &Cluster<'_>, workload: &Workload) -> Result<BTreeSet<String>> {
    let pods = cluster.pods(workload).await?;
    let revision = |pod: &Pod| label(pod, "pod-template-hash").map(str::to_owned);
    active_pods(&pods).map(revision).collect::<Option<_>>().context("a revision")
}

/// Begins a rollout whose pods take a while, and returns when pods of both revisions are there.
async fn begin(cluster: &Cluster<'_>, workload: &Workload) -> Result<()> {
    cluster.restart(workload).await?;
    eventually("pods of both revisions", async || (revisions(cluster, workload).await.ok()?.len() == 2).then_some(()))
        .await
}

fn slow(namespace: &str) -> Workload {
    Workload::deployment(namespace, "web").pod_annotation(READY_AFTER, "1s")
}

async fn scaled_up_midway(cluster: &Cluster<'_>) -> Result<()> {
    let workload = twelve(cluster, "up-midway", slow("up-midway")).await?;
    begin(cluster, &workload).await?;
    cluster.scale(&workload, 25).await?;
    exact(cluster, &workload, 25).await
}

/// A pinned fact: in a rollout the pods that are not ready yet go first, whatever their slots, so the counts may be off at
/// its end. Then it is mended, by no more evictions than pods are on the wrong side.
async fn scaled_down_midway(cluster: &Cluster<'_>) -> Result<()> {
    let workload = twelve(cluster, "down-midway", slow("down-midway")).await?;
    begin(cluster, &workload).await?;
    cluster.scale(&workload, 6).await?;
    cluster.settled(&workload).await?;
    let (split, target) = (cluster.split(&workload).await?, wanted(6, 70, 4));
    let off = split.spot.abs_diff(target.spot) as usize;
    let pods = cluster.until_split(&workload, target).await?;
    let evictions = cluster.evictions("down-midway")?.len();
    ensure!(evictions <= off, "{evictions} evictions, and {split} was off by {off}");
    ensure!(pods.len() == 6);
    eventually("six slots without a gap", async || {
        (slots(&cluster.pods(&workload).await.ok()?) == (1..=6).collect()).then_some(())
    })
    .await
}

/// The new revision never becomes ready; nothing is moved meanwhile, and the old one grows back to where it was.
async fn stuck_and_taken_back(cluster: &Cluster<'_>) -> Result<()> {
    let workload = twelve(cluster, "stuck", Workload::deployment("stuck", "web")).await?;
    let template = |value: Value| json!({"spec": {"template": {"metadata": {"annotations": {READY_AFTER: value}}}}});
    cluster.patch(&workload, template(json!("1h"))).await?;
    eventually("the rollout to be stuck", async || {
        let pods = cluster.pods(&workload).await.ok()?;
        // A quarter may be too many and a quarter missing: three of twelve.
        (active_pods(&pods).count() == 15 && revisions(cluster, &workload).await.ok()?.len() == 2).then_some(())
    })
    .await?;
    cluster.patch(&workload, template(Value::Null)).await?;
    exact(cluster, &workload, REPLICAS).await
}

/// While a rollout is paused the counts of both revisions are right already, and a raised percentage has to wait.
async fn paused_midway(cluster: &Cluster<'_>, product: &Product) -> Result<()> {
    let workload = twelve(cluster, "paused", slow("paused")).await?;
    begin(cluster, &workload).await?;
    cluster.patch(&workload, json!({"spec": {"paused": true}})).await?;
    cluster.annotate(&workload, json!({"spotalis.io/spot-percentage": "50"})).await?;
    product.passes("Paused", 2).await?;
    cluster.expect_evictions("paused", 0)?;
    cluster.patch(&workload, json!({"spec": {"paused": false}})).await?;
    let target = wanted(REPLICAS, 50, 4);
    cluster.until_split(&workload, target).await?;
    let evictions = cluster.evictions("paused")?.len();
    ensure!(evictions <= 2, "{evictions} evictions for two pods too many on spot");
    Ok(())
}
