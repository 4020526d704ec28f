//! What an admission costs: CPU of the process, its growth, and the time that the API server sees, beside an empty handler.

use anyhow::{Context, Result};
use serde_json::json;
use spotalis_e2e::{Cluster, Product, Workload};
use spotalis_rig::{NodeKind, say};

use crate::handler::{self, EmptyHandler};
use crate::load::{Load, Measure};
use crate::process::cpu_seconds;
use crate::report::{Figure, Report};

/// Name of the product's webhook in the API server's metrics.
const PRODUCT: &str = "pods.spotalis.io";
/// Creates in one block.
const BLOCK: usize = 400;
/// Blocks for each side, taken in turn so that the machine's mood falls on both.
const ROUNDS: usize = 8;
/// Creates in one measurement of CPU.
const CPU_BLOCK: usize = 2_000;

/// Sizes at which the CPU per admission is measured: pods of the workload, further pods in the cluster.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Pods of the workload in the large measurement.
    pub workload: u32,
    /// Further pods in the cluster in the largest one; 0 leaves it out.
    pub cluster: u32,
}

/// Runs on a rig of its own; `None` where there is none.
pub async fn run(sizes: Sizes) -> Result<Option<Report>> {
    crate::rollout::on("admission", async |cluster, product| Box::pin(measure(cluster, product, sizes)).await).await
}

/// A webhook, and pods that only it is asked about.
struct Side {
    webhook: &'static str,
    /// What it is called in the figures.
    name: &'static str,
    workload: Workload,
    load: Load,
}

/// The namespaces of the sides are labelled with their own names, which is what the registrations go by.
async fn side(
    cluster: &Cluster<'_>,
    webhook: &'static str,
    name: &'static str,
    namespace: &'static str,
    opted_in: bool,
) -> Result<Side> {
    let workload = Workload::deployment(namespace, "web").replicas(10);
    let workload = if opted_in { workload.spot(70).floor(1) } else { workload };
    cluster.create(&workload).await?;
    cluster.settled(&workload).await?;
    let load = Load::on(cluster, &workload).await?;
    load.run(BLOCK, 8).await?;
    Ok(Side { webhook, name, workload, load })
}

async fn measure(cluster: &Cluster<'_>, product: &Product, sizes: Sizes) -> Result<Report> {
    let nodes = sizes.workload.div_ceil(100) + 2;
    cluster.rig().add_nodes(nodes, NodeKind::Spot).await?;
    cluster.rig().add_nodes(nodes, NodeKind::OnDemand).await?;
    cluster.managed_namespace("measured").await?;
    for namespace in [handler::EMPTY, handler::SMALLEST, handler::CONSTANT] {
        cluster.namespace(namespace, json!({ namespace: "true" })).await?;
    }
    let empty = EmptyHandler::start(cluster).await?;
    let sides = [
        side(cluster, PRODUCT, "the webhook", "measured", true).await?,
        side(cluster, handler::EMPTY_NAME, "the empty handler", handler::EMPTY, false).await?,
        side(cluster, handler::SMALLEST_NAME, "one with the smallest patch", handler::SMALLEST, false).await?,
        side(cluster, handler::CONSTANT_NAME, "one with a constant patch of ours", handler::CONSTANT, false).await?,
    ];
    let pid = product.replica().pid().context("the product runs")?;

    let mut figures = Vec::new();
    for connections in [1, 8] {
        let mut measures = [const { Vec::new() }; 4];
        for round in 0..ROUNDS {
            // There and back again: a drift of the machine's speed falls on all alike.
            let there = 0..sides.len();
            let order: Vec<usize> = if round % 2 == 0 { there.collect() } else { there.rev().collect() };
            for place in order {
                let Side { webhook, load, name: _, workload: _ } = &sides[place];
                measures[place].push(timed(cluster, webhook, load, connections).await?);
            }
        }
        let at = format!("{connections} connection{}", if connections == 1 { "" } else { "s" });
        let measures = measures.map(|blocks| {
            let mut sum = Measure::default();
            blocks.iter().for_each(|block| sum.add(block));
            sum
        });
        for (word, times) in [
            ("mean", measures.each_ref().map(Measure::mean)),
            ("p99", measures.each_ref().map(|measure| measure.quantile(0.99))),
        ] {
            for (Side { name, .. }, time) in sides.iter().zip(times) {
                figures.push(Figure::new(format!("time of {name}, {word}, {at}"), time, "ms"));
            }
            let [ours, empty, smallest, constant] = times;
            figures.push(Figure::at_most(format!("ratio to the empty handler, {word}, {at}"), ours / empty, "", 1.25));
            figures.push(Figure::new(format!("ratio of the smallest patch, {word}, {at}"), smallest / empty, ""));
            figures.push(Figure::new(format!("ratio to the constant patch, {word}, {at}"), ours / constant, ""));
        }
        say(format!("admission: {at} measured"));
    }

    let [Side { load: ours, workload, .. }, Side { load: theirs, .. }, _, _] = &sides;
    let baseline = cpu(theirs, empty.pid()).await?;
    let small = cpu(ours, pid).await?;
    figures.push(Figure::new("CPU per admission of the empty handler", baseline, "ms"));
    figures.push(Figure::at_most("CPU per admission, 10 pods", small, "ms", 0.2));
    cluster.scale(workload, sizes.workload).await?;
    cluster.settled(workload).await?;
    // The same again with everything else as it is now: the API server is slower with more pods, our share must not be.
    let large = cpu(ours, pid).await?;
    figures.push(Figure::new(format!("CPU per admission, {} pods", sizes.workload), large, "ms"));
    figures.push(Figure::at_most(format!("growth at {} pods", sizes.workload), large / small, "", 1.05));
    if sizes.cluster > 0 {
        crate::split::fill(cluster, "filler", sizes.cluster).await?;
        let largest = cpu(ours, pid).await?;
        figures.push(Figure::at_most(
            format!("growth at {} pods in the cluster", sizes.cluster),
            largest / small,
            "",
            1.05,
        ));
    }
    Ok(Report {
        benchmark: "admission",
        method: format!("dry-run creates through the API server, {ROUNDS} blocks of {BLOCK} in turn"),
        figures,
    })
}

async fn timed(cluster: &Cluster<'_>, webhook: &str, load: &Load, connections: usize) -> Result<Measure> {
    let before = Measure::of(cluster, webhook).await?;
    load.run(BLOCK, connections).await?;
    Ok(Measure::of(cluster, webhook).await?.since(&before))
}

/// CPU milliseconds of a process per create.
async fn cpu(load: &Load, pid: u32) -> Result<f64> {
    let before = cpu_seconds(pid)?;
    load.run(CPU_BLOCK, 8).await?;
    #[expect(clippy::cast_precision_loss, reason = "a small constant")]
    let count = CPU_BLOCK as f64;
    Ok((cpu_seconds(pid)? - before) * 1e3 / count)
}
