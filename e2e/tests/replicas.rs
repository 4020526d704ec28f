//! Two controllers behind one address: one ledger, one leader, and nobody who notices when either goes away.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use spotalis_e2e::{
    Calls, Cluster, Creations, Gate, Product, ProductOptions, Replica, Scrape, Workload, count, eventually, label,
    next_pod, on_product, scenario, wanted,
};
use spotalis_rig::{AuditEntry, AuditLevel, NodeKind, RigOptions, say};
use tokio::time::Instant;

/// What the harness configures as `leaseDuration`.
const LEASE_DURATION: Duration = Duration::from_secs(6);
/// Stopping takes the grace in which connections are told to go elsewhere.
const STOPPING: Duration = Duration::from_secs(30);
const REQUESTS: &str = "spotalis_admission_requests_total";
const CAPACITY_TYPE: &str = "spotalis.io/capacity-type";
const EVICTIONS: &str = "spotalis_evictions_total";

#[tokio::test]
async fn two_replicas_are_one_product() -> Result<()> {
    // With bodies: they say who took the Lease.
    let rig = RigOptions { audit: Some(AuditLevel::Request), ..RigOptions::default() };
    let options = ProductOptions { replicas: 2, ..ProductOptions::default() };
    on_product("two replicas", rig, options, async |cluster, product| {
        cluster.rig().add_nodes(3, NodeKind::Spot).await?;
        cluster.rig().add_nodes(3, NodeKind::OnDemand).await?;
        scenario("a burst over both", burst(cluster, product)).await?;
        scenario("the leader is asked to go", leader_leaves(cluster, product)).await?;
        scenario("the leader is killed", leader_dies(cluster, product)).await?;
        scenario("the leader is killed in a burst", leader_dies_in_a_burst(cluster, product)).await?;
        scenario("the leader is frozen", leader_freezes(cluster, product)).await?;
        scenario("both are restarted, one after the other", rolling_restart(cluster, product)).await?;
        Ok(())
    })
    .await
}

/// The leader and the follower, as they say themselves.
async fn roles(product: &Product) -> Result<(&Replica, &Replica)> {
    let [first, second] = product.replicas() else { anyhow::bail!("two replicas") };
    eventually("one leader", async || match (first.leads().await, second.leads().await) {
        (true, false) => Some((first, second)),
        (false, true) => Some((second, first)),
        (false, false) | (true, true) => None,
    })
    .await
}

/// Decisions that a replica made itself about pods that were to be steered.
fn own_decisions(scrape: &Scrape) -> f64 {
    ["steered", "doubt"].into_iter().map(|result| scrape.sum(REQUESTS, &[("result", result)])).sum()
}

/// The API server's calls are spread over both; the follower asks the leader. Where every question was answered in time
/// the split is exact at once, and otherwise it errs by no more than the pods that the follower decided about itself.
async fn burst(cluster: &Cluster<'_>, product: &Product) -> Result<()> {
    cluster.managed_namespace("bursts").await?;
    let (_, follower) = roles(product).await?;
    let before = follower.scrape().await?;
    let workload = Workload::deployment("bursts", "web").replicas(120).spot(70).floor(2);
    cluster.create(&workload).await?;
    cluster.settled(&workload).await?;
    let split = cluster.split(&workload).await?;
    let after = follower.scrape().await?;
    let forwarded = |scrape: &Scrape| scrape.sum(REQUESTS, &[("result", "forwarded")]);
    let forwarded = forwarded(&after) - forwarded(&before);
    let alone = own_decisions(&after) - own_decisions(&before);
    say(format!("    {forwarded} pods forwarded, {alone} decided by the follower alone, first split {split}"));
    ensure!(forwarded > 0.0, "the follower was not asked, or did not ask");
    let wanted = wanted(120, 70, 2);
    let error = split.spot.abs_diff(wanted.spot);
    ensure!(f64::from(error) <= alone, "{split} is off by {error}, and the follower decided {alone} alone");
    cluster.until_split(&workload, wanted).await?;
    ensure!(cluster.evictions("bursts")?.len() <= error as usize, "more evictions than drift");
    product.metric_becomes("spotalis_admission_reservations", &[], |left| left == 0.0).await?;
    cluster.delete_namespace("bursts").await
}

/// A running workload of twelve pods on on-demand nodes that is to have half of them on spot: six moves.
async fn drift(cluster: &Cluster<'_>, namespace: &str) -> Result<Workload> {
    cluster.managed_namespace(namespace).await?;
    let workload = Workload::deployment(namespace, "web").replicas(12);
    cluster.cordon(NodeKind::Spot, true).await?;
    cluster.create(&workload).await?;
    cluster.settled(&workload).await?;
    cluster.cordon(NodeKind::Spot, false).await?;
    cluster.opt(&workload, true, json!({"spotalis.io/spot-percentage": "50"})).await?;
    eventually("two moves", async || (cluster.evictions(namespace).ok()?.len() >= 2).then_some(())).await?;
    Ok(workload)
}

/// Writes of the Lease that the API server accepted, with the holder that each named: empty for a release.
fn lease_writes(cluster: &Cluster<'_>) -> Result<Vec<(AuditEntry, String)>> {
    let mut writes = Vec::new();
    for entry in cluster.requests("spotalis-system")? {
        let body = entry.request.as_ref().map(|body| body["spec"]["holderIdentity"].clone());
        if entry.resource == "leases"
            && (200..300).contains(&entry.code)
            && let Some(holder) = body.as_ref().and_then(|holder| holder.as_str())
        {
            writes.push((entry.clone(), holder.to_owned()));
        }
    }
    writes.sort_by_key(|(entry, _)| entry.received);
    Ok(writes)
}

async fn leader_leaves(cluster: &Cluster<'_>, product: &Product) -> Result<()> {
    let workload = drift(cluster, "leaving").await?;
    let (leader, follower) = roles(product).await?;
    let before = lease_writes(cluster)?.len();
    let others_before = follower.scrape().await?.sum(EVICTIONS, &[("result", "evicted")]);
    let since = Instant::now();
    let stopping = leader.terminate(STOPPING);
    let taken = async {
        eventually("the follower to lead", async || follower.leads().await.then_some(())).await?;
        anyhow::Ok(since.elapsed())
    };
    let (code, taken) = tokio::join!(stopping, taken);
    ensure!(code? == 0, "the leader's exit code");
    let taken = taken?;
    cluster.until_split(&workload, wanted(12, 50, 0)).await?;

    let writes = lease_writes(cluster)?;
    let position = writes.iter().skip(before).position(|(_, holder)| holder.is_empty()).context("a release")? + before;
    let old = &writes.get(position.checked_sub(1).context("a renewal")?).context("a holder")?.1;
    let released = writes[position].0.received;
    let (acquired, new) = writes.get(position + 1).context("somebody takes it")?;
    let acquired = acquired.received;
    ensure!(new != old && !new.is_empty(), "{old} is followed by {new}");
    ensure!(writes[position..].iter().all(|(_, holder)| holder != old), "the old leader took the Lease again");
    say(format!(
        "    the other led {:.2} s after SIGTERM, and had the Lease {:.3} s after its release",
        taken.as_secs_f64(),
        (acquired - released).total(jiff::Unit::Second)?
    ));
    ensure!(taken < LEASE_DURATION, "a released Lease is taken before it would have run out, not after {taken:?}");
    // What was evicted after the release was evicted by the new leader, by its own count, and after it had the Lease.
    let evictions = cluster.evictions("leaving")?;
    let later: Vec<_> = evictions.iter().filter(|entry| entry.received >= released).collect();
    ensure!(later.iter().all(|entry| entry.received >= acquired), "an eviction while nobody led");
    let by_other = follower.scrape().await?.sum(EVICTIONS, &[("result", "evicted")]) - others_before;
    ensure!(
        count(by_other) == u64::try_from(later.len())?,
        "{} evictions after the release, {by_other} of the new leader",
        later.len()
    );
    nothing_twice(cluster, "leaving", 6)?;
    leader.launch()?;
    leader.ready().await?;
    cluster.delete_namespace("leaving").await
}

/// The drift was mended by exactly so many evictions, of as many pods.
fn nothing_twice(cluster: &Cluster<'_>, namespace: &str, drift: usize) -> Result<()> {
    let evictions = cluster.evictions(namespace)?;
    let pods: BTreeSet<&str> = evictions.iter().map(|entry| entry.name.as_str()).collect();
    ensure!(pods.len() == drift && evictions.len() == drift, "{} evictions of {} pods", evictions.len(), pods.len());
    Ok(())
}

async fn leader_dies(cluster: &Cluster<'_>, product: &Product) -> Result<()> {
    let workload = drift(cluster, "dying").await?;
    let (leader, follower) = roles(product).await?;
    let transitions = follower.scrape().await?.sum("spotalis_lease_transitions_total", &[]);
    let since = Instant::now();
    leader.kill()?;
    eventually("the follower to lead", async || follower.leads().await.then_some(())).await?;
    let taken = since.elapsed();
    say(format!("    the other led {:.1} s after SIGKILL, with a Lease of {LEASE_DURATION:?}", taken.as_secs_f64()));
    ensure!(taken < LEASE_DURATION * 3, "{taken:?}");
    let now = follower.scrape().await?.sum("spotalis_lease_transitions_total", &[]);
    ensure!(count(now - transitions) == 1, "{} transitions", now - transitions);
    cluster.until_split(&workload, wanted(12, 50, 0)).await?;
    nothing_twice(cluster, "dying", 6)?;
    leader.launch()?;
    leader.ready().await?;
    cluster.delete_namespace("dying").await
}

/// Whoever asked the leader at that moment goes without an answer, and so do the pods that nobody asks about; what that
/// spoils is mended, by no more evictions than pods are on the wrong side.
async fn leader_dies_in_a_burst(cluster: &Cluster<'_>, product: &Product) -> Result<()> {
    cluster.managed_namespace("interrupted").await?;
    let (leader, _) = roles(product).await?;
    let workload = Workload::deployment("interrupted", "web").replicas(120).spot(70).floor(2);
    cluster.create(&workload).await?;
    eventually("a burst in its middle", async || (cluster.pods(&workload).await.ok()?.len() >= 20).then_some(()))
        .await?;
    leader.kill()?;
    let there = cluster.pods(&workload).await?.len();
    let pods = cluster.settled(&workload).await?;
    let (split, target) = (cluster.split(&workload).await?, wanted(120, 70, 2));
    let unsteered = pods.iter().filter(|pod| label(pod, CAPACITY_TYPE).is_none()).count();
    say(format!("    killed at {there} of 120 pods; {unsteered} pods were not steered, first split {split}"));
    let off = split.spot.abs_diff(target.spot) as usize;
    cluster.until_split(&workload, target).await?;
    let evictions = cluster.evictions("interrupted")?.len();
    ensure!(evictions <= off, "{evictions} evictions, and {split} is off by {off}");
    leader.launch()?;
    leader.ready().await?;
    cluster.delete_namespace("interrupted").await
}

/// It stops where it stands, with moves under way, and goes on as if nothing had happened when another one leads.
async fn leader_freezes(cluster: &Cluster<'_>, product: &Product) -> Result<()> {
    let workload = drift(cluster, "frozen").await?;
    let (leader, follower) = roles(product).await?;
    let evicted =
        async |replica: &Replica| anyhow::Ok(count(replica.scrape().await?.sum(EVICTIONS, &[("result", "evicted")])));
    leader.signal("STOP")?;
    let stopped = cluster.evictions("frozen")?.len();
    eventually("the follower to lead", async || follower.leads().await.then_some(())).await?;
    let (by_other, at) = (evicted(follower).await?, cluster.evictions("frozen")?.len());
    leader.signal("CONT")?;
    eventually("the old leader to know", async || {
        (!leader.leads().await && leader.ready().await.is_ok()).then_some(())
    })
    .await?;
    cluster.until_split(&workload, wanted(12, 50, 0)).await?;
    let later = cluster.evictions("frozen")?.len() - at;
    let by_other = evicted(follower).await? - by_other;
    say(format!("    {stopped} moves before it froze, {later} after it thawed"));
    ensure!(by_other == u64::try_from(later)?, "{later} evictions since it thawed, {by_other} of the new leader");
    // Pods that the frozen one was asked about go unsteered, and where they land is chance; each may cost a move more.
    let pods = cluster.pods(&workload).await?;
    let unsteered = pods.iter().filter(|pod| label(pod, CAPACITY_TYPE).is_none()).count();
    let evictions = cluster.evictions("frozen")?.len();
    ensure!((6..=6 + unsteered).contains(&evictions), "{evictions} evictions, {unsteered} unsteered pods");
    cluster.delete_namespace("frozen").await
}

/// As a Deployment replaces its pods: one goes, comes back and is ready, then the next. Pods are created all the while.
async fn rolling_restart(cluster: &Cluster<'_>, product: &Product) -> Result<()> {
    cluster.managed_namespace("restarts").await?;
    let trials = Workload::deployment("restarts", "trials").replicas(2).spot(50);
    let web = Workload::deployment("restarts", "web").replicas(40).spot(70).floor(1);
    for workload in [&trials, &web] {
        cluster.create(workload).await?;
    }
    cluster.until_split(&trials, wanted(2, 50, 0)).await?;
    cluster.until_split(&web, wanted(40, 70, 1)).await?;
    let pod = next_pod(cluster, &trials).await?;
    let _gate = Gate::before(product, cluster.client(), ("restarts", &pod)).await?;
    let before = Calls::so_far(cluster.rig()).await?;
    let creations = Creations::begin(cluster, &trials, 4).await?;
    for replica in product.replicas() {
        let stopping = replica.terminate(STOPPING);
        let rollout = async {
            cluster.restart(&web).await?;
            cluster.settled(&web).await
        };
        let (code, pods) = tokio::join!(stopping, rollout);
        ensure!(code? == 0, "the exit code");
        let pods = pods?;
        let unsteered = pods.iter().filter(|pod| label(pod, CAPACITY_TYPE).is_none());
        ensure!(unsteered.count() == 0, "a pod that nobody steered");
        replica.launch()?;
        replica.ready().await?;
        creations.more(50).await?;
    }
    say(format!("    {} trials, all steered, while both were restarted", creations.all_steered().await?));
    let now = Calls::so_far(cluster.rig()).await?;
    let failed_open = now.failed_open - before.failed_open;
    ensure!(failed_open == 0, "the API server went on without an answer {failed_open} times");
    ensure!(now.answered > before.answered, "the API server counts its calls");
    cluster.until_split(&web, wanted(40, 70, 1)).await?;
    Ok(())
}
