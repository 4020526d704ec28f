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

async fn measure(cluster: &Cluster<'_>, product: &Product, sizes: Sizes) -> Result<Report> {
    let nodes = sizes.workload.div_ceil(100) + 2;
    cluster.rig().add_nodes(nodes, NodeKind::Spot).await?;
    cluster.rig().add_nodes(nodes, NodeKind::OnDemand).await?;
    cluster.managed_namespace("measured").await?;
    cluster.namespace("empty", json!({ "empty": "true" })).await?;
    let workload = Workload::deployment("measured", "web").replicas(10).spot(70).floor(1);
    let beside = Workload::deployment("empty", "web").replicas(10);
    cluster.namespace("constant", json!({ "constant": "true" })).await?;
    let patched = Workload::deployment("constant", "web").replicas(10);
    let empty = EmptyHandler::start(cluster).await?;
    cluster.create(&workload).await?;
    cluster.create(&beside).await?;
    cluster.create(&patched).await?;
    cluster.settled(&workload).await?;
    cluster.settled(&beside).await?;
    cluster.settled(&patched).await?;
    let (ours, theirs) = (Load::on(cluster, &workload).await?, Load::on(cluster, &beside).await?);
    let constant = Load::on(cluster, &patched).await?;
    let pid = product.replica().pid().context("the product runs")?;

    let mut figures = Vec::new();
    ours.run(BLOCK, 8).await?;
    theirs.run(BLOCK, 8).await?;
    constant.run(BLOCK, 8).await?;
    for connections in [1, 8] {
        let (mut product_side, mut empty_side) = (Measure::default(), Measure::default());
        let mut constant_side = Measure::default();
        for round in 0..ROUNDS {
            constant_side.add(&timed(cluster, handler::CONSTANT, &constant, connections).await?);
            // A B B A: a drift of the machine's speed falls on both alike.
            if round % 2 == 0 {
                product_side.add(&timed(cluster, PRODUCT, &ours, connections).await?);
                empty_side.add(&timed(cluster, handler::NAME, &theirs, connections).await?);
            } else {
                empty_side.add(&timed(cluster, handler::NAME, &theirs, connections).await?);
                product_side.add(&timed(cluster, PRODUCT, &ours, connections).await?);
            }
        }
        let at = format!("{connections} connection{}", if connections == 1 { "" } else { "s" });
        for (word, ours, theirs, constant) in [
            ("mean", product_side.mean(), empty_side.mean(), constant_side.mean()),
            ("p99", product_side.quantile(0.99), empty_side.quantile(0.99), constant_side.quantile(0.99)),
        ] {
            figures.push(Figure::new(format!("time of the empty handler, {word}, {at}"), theirs, "ms"));
            figures.push(Figure::new(format!("time of one with a constant patch, {word}, {at}"), constant, "ms"));
            figures.push(Figure::new(format!("time of the webhook, {word}, {at}"), ours, "ms"));
            figures.push(Figure::at_most(format!("ratio, {word}, {at}"), ours / theirs, "", 1.25));
            figures.push(Figure::new(format!("ratio to the constant patch, {word}, {at}"), ours / constant, ""));
        }
        say(format!("admission: {at} measured"));
    }

    let baseline = cpu(&theirs, empty.pid()).await?;
    let small = cpu(&ours, pid).await?;
    figures.push(Figure::new("CPU per admission of the empty handler", baseline, "ms"));
    figures.push(Figure::at_most("CPU per admission, 10 pods", small, "ms", 0.2));
    cluster.scale(&workload, sizes.workload).await?;
    cluster.settled(&workload).await?;
    // The same again with everything else as it is now: the API server is slower with more pods, our share must not be.
    let large = cpu(&ours, pid).await?;
    figures.push(Figure::new(format!("CPU per admission, {} pods", sizes.workload), large, "ms"));
    figures.push(Figure::at_most(format!("growth at {} pods", sizes.workload), large / small, "", 1.05));
    if sizes.cluster > 0 {
        crate::split::fill(cluster, "filler", sizes.cluster).await?;
        let largest = cpu(&ours, pid).await?;
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
