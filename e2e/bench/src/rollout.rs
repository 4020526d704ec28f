//! What a large rollout costs: time until 3,000 pods are ready with and without the webhook, and memory.

use std::sync::Mutex;

use anyhow::{Context, Result};
use serde_json::json;
use spotalis_e2e::{Cluster, Product, ProductOptions, Workload, on_product};
use spotalis_rig::{NodeKind, RigOptions, say};
use tokio::time::Instant;

use crate::process::peak_megabytes;
use crate::report::{Figure, Report};

/// Runs a benchmark on a rig of its own with the product in it; `None` where there is no rig.
pub(crate) async fn on(
    name: &str,
    bench: impl AsyncFnOnce(&Cluster<'_>, &Product) -> Result<Report>,
) -> Result<Option<Report>> {
    on_rig(name, RigOptions::default(), bench).await
}

/// As [`on`], on a rig of a certain kind. The product logs as much as it does by default: tests have it log more.
pub(crate) async fn on_rig(
    name: &str,
    rig: RigOptions,
    bench: impl AsyncFnOnce(&Cluster<'_>, &Product) -> Result<Report>,
) -> Result<Option<Report>> {
    let report = Mutex::new(None);
    let as_shipped = ProductOptions { config: json!({ "logging": { "level": "info" } }), ..ProductOptions::default() };
    on_product(name, rig, as_shipped, async |cluster, product| {
        let measured = bench(cluster, product).await?;
        *report.lock().expect("nobody panics with the report in hand") = Some(measured);
        Ok(())
    })
    .await?;
    Ok(report.into_inner().expect("nobody panics with the report in hand"))
}

/// Runs on a rig of its own; `None` where there is none.
pub async fn run(pods: u32) -> Result<Option<Report>> {
    on("rollout", async |cluster, product| measure(cluster, product, pods).await).await
}

/// Memory alone, on a rig of its own; `None` where there is none.
pub async fn memory(pods: u32) -> Result<Option<Report>> {
    on("memory", async |cluster, product| {
        let pid = product.replica().pid().context("the product runs")?;
        let idle = peak_megabytes(pid)?;
        prepare(cluster, pods).await?;
        seconds(cluster, &Workload::deployment("with", "web").replicas(pods).spot(70).floor(1)).await?;
        let method = format!("VmHWM of the process, idle and after a Deployment of {pods} pods");
        Ok(Report { benchmark: "memory", method, figures: memory_figures(idle, peak_megabytes(pid)?, pods) })
    })
    .await
}

fn memory_figures(idle: f64, peak: f64, pods: u32) -> Vec<Figure> {
    vec![
        Figure::at_most("memory, idle, peak", idle, "MB", 15.0),
        Figure::at_most(format!("memory, {pods} pods, peak"), peak, "MB", 25.0),
    ]
}

async fn prepare(cluster: &Cluster<'_>, pods: u32) -> Result<()> {
    let nodes = pods.div_ceil(100) + 2;
    cluster.rig().add_nodes(nodes, NodeKind::Spot).await?;
    cluster.rig().add_nodes(nodes, NodeKind::OnDemand).await?;
    cluster.managed_namespace("with").await
}

async fn measure(cluster: &Cluster<'_>, product: &Product, pods: u32) -> Result<Report> {
    let pid = product.replica().pid().context("the product runs")?;
    let idle = peak_megabytes(pid)?;
    prepare(cluster, pods).await?;
    cluster.namespace("without", serde_json::json!({})).await?;
    // The first pods of a fresh control plane are slow, whoever makes them.
    seconds(cluster, &Workload::deployment("without", "warm").replicas(200)).await?;
    let without = seconds(cluster, &Workload::deployment("without", "web").replicas(pods)).await?;
    cluster.delete_namespace("without").await?;
    gone(cluster, "without").await?;
    say(format!("rollout: {without:.1} s without the webhook"));
    let workload = Workload::deployment("with", "web").replicas(pods).spot(70).floor(1);
    let with = seconds(cluster, &workload).await?;
    say(format!("rollout: {with:.1} s with it"));
    let split = cluster.split(&workload).await?;
    let off = f64::from(split.spot.abs_diff(spotalis_e2e::wanted(pods, 70, 1).spot));
    let mut figures = vec![
        Figure::new("without the webhook", without, "s"),
        Figure::new("with the webhook", with, "s"),
        Figure::at_most("ratio", with / without, "", 1.10),
        Figure::at_most("pods on the wrong type", off, "pods", 0.0),
    ];
    figures.extend(memory_figures(idle, peak_megabytes(pid)?, pods));
    let method = format!("{pods} pods of one Deployment, from its creation until all are ready");
    Ok(Report { benchmark: "rollout", method, figures })
}

async fn seconds(cluster: &Cluster<'_>, workload: &Workload) -> Result<f64> {
    let since = Instant::now();
    cluster.create(workload).await?;
    crate::split::all_ready(cluster, workload).await?;
    Ok(since.elapsed().as_secs_f64())
}

async fn gone(cluster: &Cluster<'_>, namespace: &str) -> Result<()> {
    use k8s_openapi::api::core::v1::Pod;
    use kube::api::{Api, ListParams};
    let pods: Api<Pod> = Api::namespaced(cluster.client(), namespace);
    spotalis_rig::until("the pods to be gone", crate::split::LONG, async || {
        pods.list(&ListParams::default().limit(1)).await.ok().filter(|list| list.items.is_empty()).map(drop)
    })
    .await?;
    Ok(())
}
