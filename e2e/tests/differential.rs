//! The embedded cluster answers as a real API server does: thousands of generated requests to both, in the same order, and
//! no difference that is not explained.
//!
//! A difference is told with the seed and the shortest sequence that shows it; `SPOTALIS_DIFFERENTIAL_SEED=N` tries one seed
//! alone.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use embedded_cluster::{Cluster, Options, Ownership};
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::ListParams;
use kube::{Api, Client};
use spotalis_e2e::differential::{Found, Tally, Worlds};
use spotalis_rig::{Part, Rig, RigOptions, on_rig, say};

/// Sequences. Each is of some sixty requests.
const SEEDS: u64 = 180;
/// Sequences that are under way at once.
const AT_ONCE: usize = 12;
/// So many requests at least.
const REQUESTS: usize = 10_000;
/// Differences of which the shortest sequence is looked for.
const SHORTENED: usize = 3;

#[tokio::test]
async fn both_answer_the_same() -> Result<()> {
    on_rig(RigOptions { bare: true, ..RigOptions::default() }, async |rig| {
        let since = tokio::time::Instant::now();
        let options = Options { ownership: Ownership::Always, compaction: None, ..Options::default() };
        let cluster = Cluster::new(options);
        // A server that was just started knows nothing of what was before.
        cluster.compact();
        let forget = || compact(rig, &cluster).boxed_local();
        let worlds = Worlds { real: rig.client(), here: Client::new(cluster.service(), "default"), compact: &forget };
        let one = one_seed()?;
        let seeds = one.map_or(0..SEEDS, |seed| seed..seed + 1);
        let tried = stream::iter(seeds).map(|seed| worlds.try_seed(Some(seed))).buffered(AT_ONCE);
        let mut tried: Vec<(Tally, Vec<Found>)> = tried.try_collect().await?;
        if one.is_none() {
            tried.push(worlds.try_seed(None).await?);
        }
        let mut tally = Tally::default();
        tried.iter().for_each(|(one, _)| tally.add(one));
        say(format!("differential: {tally}, after {:.1} s", since.elapsed().as_secs_f64()));
        let found: Vec<Found> = tried.into_iter().flat_map(|(_, found)| found).collect();
        ensure!(found.is_empty(), "{}", told(&worlds, found).await?);
        if one.is_none() {
            ensure!(tally.sent() >= REQUESTS, "only {} requests", tally.sent());
            let idle = tally.idle();
            ensure!(idle.is_empty(), "explained, but no longer needed: {}", idle.join("; "));
        }
        anyhow::Ok(())
    })
    .await
}

/// Has etcd and the cluster forget what was. The API server is started anew, for its watch caches remember.
async fn compact(rig: &Rig, cluster: &Cluster) -> Result<()> {
    let newest = Api::<Namespace>::all(rig.client()).list(&ListParams::default()).await?;
    let revision = newest.metadata.resource_version.and_then(|revision| revision.parse().ok());
    rig.compact(revision.context("a list has a revision")?).await?;
    rig.kill(Part::ApiServer)?;
    rig.launch(Part::ApiServer).await?;
    cluster.compact();
    Ok(())
}

fn one_seed() -> Result<Option<u64>> {
    let Some(seed) = std::env::var_os("SPOTALIS_DIFFERENTIAL_SEED") else { return Ok(None) };
    let seed = seed.to_str().and_then(|seed| seed.parse().ok());
    seed.map(Some).context("SPOTALIS_DIFFERENTIAL_SEED is the number of a seed, as 17")
}

/// One of each place, and of the first few the shortest sequence.
async fn told(worlds: &Worlds<'_>, found: Vec<Found>) -> Result<String> {
    let mut text = format!("{} differences that nothing explains\n", found.len());
    let mut places: BTreeMap<String, (usize, Found)> = BTreeMap::new();
    for one in found {
        places.entry(one.place()).or_insert_with(|| (0, one)).0 += 1;
    }
    for (place, (count, one)) in &places {
        text.extend(["\n", &count.to_string(), " x ", place.as_str(), "\n  ", &one.to_string(), "\n"]);
    }
    for (_, one) in places.into_values().take(SHORTENED) {
        text.extend(["\n", &worlds.shorten(one).await?.to_string(), "\n"]);
    }
    Ok(text)
}
