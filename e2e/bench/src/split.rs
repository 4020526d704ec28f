//! Exact at admission: Deployments of many sizes, created at once, and rolling restarts; with not one eviction.

use std::time::Duration;

use anyhow::Result;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, PostParams};
use serde_json::json;
use spotalis_e2e::{Cluster, Workload, wanted};
use spotalis_rig::{AuditLevel, NodeKind, RigOptions, say, until};

use crate::report::{Figure, Report};

/// What thousands of pods may take on a busy machine.
pub(crate) const LONG: Duration = Duration::from_mins(10);
/// Deployments under way at once.
const AT_ONCE: usize = 6;
/// Restarts in a row.
const RESTARTS: u32 = 10;

/// One Deployment: T, P, M.
type Sample = (u32, u32, u32);

/// Runs on a rig of its own; `None` where there is none.
pub async fn run(samples: u32, largest: u32) -> Result<Option<Report>> {
    let rig = RigOptions { audit: Some(AuditLevel::Metadata), ..RigOptions::default() };
    crate::rollout::on_rig("split", rig, async |cluster, _| measure(cluster, samples, largest).await).await
}

async fn measure(cluster: &Cluster<'_>, samples: u32, largest: u32) -> Result<Report> {
    let nodes = (largest + 1_000).div_ceil(100) + 10;
    cluster.rig().add_nodes(nodes, NodeKind::Spot).await?;
    cluster.rig().add_nodes(nodes, NodeKind::OnDemand).await?;
    cluster.managed_namespace("split").await?;
    let grid: Vec<Sample> = grid(largest);
    let seeded: Vec<Sample> = seeded(samples);
    let off_grid = off(cluster, &grid).await?;
    say(format!("split: {} Deployments of the grid", grid.len()));
    let off_seeded = off(cluster, &seeded).await?;
    say(format!("split: {} seeded Deployments", seeded.len()));
    let off_restarts = restarts(cluster).await?;
    let evictions = count(cluster.evictions("split")?.len());
    let pods: u32 = grid.iter().chain(&seeded).map(|(total, _, _)| total).sum();
    Ok(Report {
        benchmark: "split",
        method: format!(
            "{pods} pods of {} Deployments, each created at once; then rolling restarts",
            grid.len() + seeded.len()
        ),
        figures: vec![
            Figure::at_most("grid: Deployments off their split", off_grid, "", 0.0),
            Figure::at_most("seeded: Deployments off their split", off_seeded, "", 0.0),
            Figure::at_most(format!("restarts off the split, of {RESTARTS}"), off_restarts, "", 0.0),
            Figure::at_most("evictions", evictions, "", 0.0),
        ],
    })
}

fn grid(largest: u32) -> Vec<Sample> {
    let mut grid: Vec<Sample> = Vec::new();
    for total in [1, 2, 3, 5, 10, 33] {
        for (percentage, floor) in [(0, 0), (1, 0), (50, 0), (70, 1), (100, 0), (100, 3), (33, 2)] {
            grid.push((total, percentage, floor));
        }
    }
    grid.extend([(100, 70, 1), (100, 33, 50), (300, 80, 10), (1_000, 70, 1), (largest, 70, 1)]);
    grid.retain(|(total, _, _)| *total <= largest);
    grid
}

/// Samples from a fixed seed (SplitMix64), so that every run has the same.
fn seeded(samples: u32) -> Vec<Sample> {
    let mut state = 0x5eed_u64;
    let mut next = |below: u32| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        u32::try_from((z ^ (z >> 31)) % u64::from(below)).unwrap_or(0)
    };
    (0..samples).map(|_| (1 + next(60), next(101), next(12))).collect()
}

/// How many of the samples are off their split when all their pods are ready.
async fn off(cluster: &Cluster<'_>, samples: &[Sample]) -> Result<f64> {
    let off: Vec<bool> = futures::stream::iter(samples.iter().enumerate())
        .map(async |(number, (total, percentage, floor))| {
            let workload = Workload::deployment("split", &format!("sample-{total}-{number}"))
                .replicas(*total)
                .spot(*percentage)
                .floor(*floor);
            cluster.create(&workload).await?;
            all_ready(cluster, &workload).await?;
            let split = cluster.split(&workload).await?;
            let wanted = wanted(*total, *percentage, *floor);
            if split != wanted {
                say(format!("split: T={total} P={percentage} M={floor} is {split}, not {wanted}"));
            }
            delete(cluster, &workload).await?;
            anyhow::Ok(split != wanted)
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    Ok(count(off.iter().filter(|off| **off).count()))
}

async fn restarts(cluster: &Cluster<'_>) -> Result<f64> {
    let workload = Workload::deployment("split", "restarted").replicas(60).spot(70).floor(1);
    cluster.create(&workload).await?;
    cluster.settled(&workload).await?;
    let mut off = 0;
    for _ in 0..RESTARTS {
        cluster.restart(&workload).await?;
        cluster.settled(&workload).await?;
        off += usize::from(cluster.split(&workload).await? != wanted(60, 70, 1));
    }
    Ok(count(off))
}

#[expect(clippy::cast_precision_loss, reason = "a few hundred at most")]
fn count(number: usize) -> f64 {
    number as f64
}

/// Waits until a Deployment says that all its replicas are ready. Asks for the Deployment alone: listing thousands of pods
/// again and again would slow down what is measured.
pub(crate) async fn all_ready(cluster: &Cluster<'_>, workload: &Workload) -> Result<()> {
    let api: Api<Deployment> = Api::namespaced(cluster.client(), workload.namespace());
    until(&format!("{} to be ready", workload.name()), LONG, async || {
        let deployment = api.get(workload.name()).await.ok()?;
        let wanted = deployment.spec.as_ref()?.replicas?;
        (deployment.status?.ready_replicas? == wanted).then_some(())
    })
    .await?;
    Ok(())
}

async fn delete(cluster: &Cluster<'_>, workload: &Workload) -> Result<()> {
    let api: Api<Deployment> = Api::namespaced(cluster.client(), workload.namespace());
    api.delete(workload.name(), &kube::api::DeleteParams::background()).await?;
    Ok(())
}

/// Fills the cluster with pods that nobody schedules.
pub(crate) async fn fill(cluster: &Cluster<'_>, namespace: &str, pods: u32) -> Result<()> {
    cluster.namespace(namespace, json!({})).await?;
    let api: Api<Pod> = Api::namespaced(cluster.client(), namespace);
    futures::stream::iter(0..pods)
        .map(async |number| {
            let pod = serde_json::from_value(json!({
                "metadata": { "name": format!("filler-{number}") },
                "spec": { "schedulerName": "nobody", "containers": [{ "name": "c", "image": "none" }] },
            }))?;
            api.create(&PostParams::default(), &pod).await?;
            anyhow::Ok(())
        })
        .buffer_unordered(16)
        .try_for_each(async |()| Ok(()))
        .await
}
