//! What the API server has to do for Spotalis: calls for each eviction, and calls while there is nothing to do.
//!
//! Counted from the API server's own audit log. Watches and their lists, the Lease and Events are told apart.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use spotalis_e2e::{Cluster, Product, USER, Workload, wanted};
use spotalis_rig::{AuditEntry, AuditLevel, NodeKind, RigOptions, say, until};
use tokio::time::Instant;

use crate::report::{Figure, Report};

/// Workloads that drift at once.
const WORKLOADS: usize = 5;
/// Replicas of each.
const REPLICAS: u32 = 10;
/// The percentage they go to, from none.
const PERCENTAGE: u32 = 70;

/// Runs on a rig of its own and looks at the steady state for `steady`; `None` where there is no rig.
pub async fn run(steady: Duration) -> Result<Option<Report>> {
    let rig = RigOptions { audit: Some(AuditLevel::Metadata), ..RigOptions::default() };
    crate::rollout::on_rig("cost", rig, async |cluster, product| measure(cluster, product, steady).await).await
}

async fn measure(cluster: &Cluster<'_>, product: &Product, steady: Duration) -> Result<Report> {
    cluster.rig().add_nodes(4, NodeKind::Spot).await?;
    cluster.rig().add_nodes(4, NodeKind::OnDemand).await?;
    cluster.managed_namespace("cost").await?;
    let workloads: Vec<Workload> = (0..WORKLOADS)
        .map(|number| Workload::deployment("cost", &format!("web-{number}")).replicas(REPLICAS).spot(0))
        .collect();
    for workload in &workloads {
        cluster.create(workload).await?;
        cluster.settled(workload).await?;
    }
    let before = Traffic::of(cluster)?;
    for workload in &workloads {
        cluster.annotate(workload, json!({ "spotalis.io/spot-percentage": PERCENTAGE.to_string() })).await?;
    }
    for workload in &workloads {
        until("the moves", crate::split::LONG, async || {
            (cluster.split(workload).await.ok()? == wanted(REPLICAS, PERCENTAGE, 0)).then_some(())
        })
        .await?;
    }
    at_rest(product).await?;
    let moving = Traffic::of(cluster)?.since(&before);
    let evictions = moving.evictions;
    ensure!(evictions > 0, "nothing was evicted");
    say(format!("cost: {evictions} evictions, now {} s of steady state", steady.as_secs()));

    let (since, before) = (Instant::now(), Traffic::of(cluster)?);
    until("the steady state to have lasted", steady * 2, async || (since.elapsed() >= steady).then_some(())).await?;
    let resting = Traffic::of(cluster)?.since(&before);
    let minutes = steady.as_secs_f64() / 60.0;
    let moves = WORKLOADS * usize::try_from(wanted(REPLICAS, PERCENTAGE, 0).spot)?;
    Ok(Report {
        benchmark: "cost",
        method: format!(
            "audit log of the API server: {WORKLOADS} Deployments of {REPLICAS} from 0 to {PERCENTAGE} %, then {minutes} min in \
             which nothing changes"
        ),
        figures: vec![
            Figure::new("moves that were due", count(moves), ""),
            Figure::at_most("evictions", count(evictions), "", count(moves)),
            Figure::at_most("calls per eviction, all but Events", per(moving.acts, evictions), "", 2.0),
            Figure::new("Events per eviction", per(moving.events, evictions), ""),
            Figure::at_most("calls in steady state besides watches and Lease", count(resting.acts), "", 0.0),
            Figure::at_most("Events in steady state", count(resting.events), "", 0.0),
            Figure::new("watches begun or resumed in steady state, per minute", count(resting.watches) / minutes, ""),
            Figure::new("calls for the Lease in steady state, per minute", count(resting.leases) / minutes, ""),
        ],
    })
}

/// Waits for the slots of moved pods to be written and what was told to be published: every workload is on target, and
/// stays so for a few passes.
async fn at_rest(product: &Product) -> Result<()> {
    product.passes("OnTarget", 4 * u32::try_from(WORKLOADS)?).await
}

/// Traffic of the product so far.
#[derive(Clone, Copy, Debug, Default)]
struct Traffic {
    evictions: usize,
    /// Everything that is none of the others, evictions included.
    acts: usize,
    events: usize,
    leases: usize,
    /// Lists and watches of whole kinds.
    watches: usize,
}

impl Traffic {
    fn of(cluster: &Cluster<'_>) -> Result<Self> {
        let mut calls = Self::default();
        for entry in
            cluster.rig().audit()?.iter().filter(|entry| entry.user == USER && entry.stage != "ResponseStarted")
        {
            let AuditEntry { verb, resource, subresource, code, .. } = entry;
            match (verb.as_str(), resource.as_str()) {
                ("list" | "watch", _) => calls.watches += 1,
                (_, "leases") => calls.leases += 1,
                (_, "events") => calls.events += 1,
                (_, _) => {
                    calls.acts += 1;
                    calls.evictions += usize::from(subresource == "eviction" && (200..300).contains(code));
                }
            }
        }
        Ok(calls)
    }

    fn since(self, earlier: &Self) -> Self {
        Self {
            evictions: self.evictions - earlier.evictions,
            acts: self.acts - earlier.acts,
            events: self.events - earlier.events,
            leases: self.leases - earlier.leases,
            watches: self.watches - earlier.watches,
        }
    }
}

fn per(calls: usize, evictions: usize) -> f64 {
    count(calls) / count(evictions)
}

#[expect(clippy::cast_precision_loss, reason = "a few thousand at most")]
const fn count(number: usize) -> f64 {
    number as f64
}
