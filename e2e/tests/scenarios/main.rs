//! The scenarios of the suite on a real control plane. They are the files that `crates/sim/tests/scenarios.rs` plays on the
//! embedded cluster, with the same expectations: where the two differ, the embedded cluster is not what it should be, until
//! shown otherwise.
//!
//! A rig is used again for one scenario after the other; in between, everything that was there is taken away.

mod stage;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use spotalis_rig::{Rig, RigOptions, Stages, on_rig, say};
use spotalis_sim::embedded;
use spotalis_sim::expect::broken;
use spotalis_sim::play::{Terms, play};
use spotalis_sim::record::{Moment, Record};
use spotalis_sim::scenario::Scenario;
use spotalis_sim::summary::Summary;
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use crate::stage::{RigStage, clear};

/// Which nodes are lost.
const TERMS: Terms = Terms { seed: 0, with_spotalis: true };
/// A variable that names the only scenario to play, however long it lasts.
const CHOSEN: &str = "SPOTALIS_SCENARIO";
/// What lasts longer is not waited for where time is real.
const LONGEST: Duration = Duration::from_mins(2);
/// A pod takes about as long on the embedded cluster.
const POD_TAKES: Duration = Duration::from_secs(1);

/// Half of them, on a rig of their own: most of the time is spent waiting.
#[tokio::test]
async fn the_first_half_is_kept_on_a_real_control_plane() -> Result<()> {
    half(0).await
}

#[tokio::test]
async fn the_second_half_is_kept_on_a_real_control_plane() -> Result<()> {
    half(1).await
}

async fn half(which: usize) -> Result<()> {
    let stages = Stages::default().ready_after(POD_TAKES).terminated_after(POD_TAKES);
    let (short, others): (Vec<Scenario>, Vec<Scenario>) =
        suite()?.into_iter().partition(|scenario| not_here(scenario).is_none());
    for scenario in others.iter().skip(which).step_by(2) {
        say(format!("  {}: only on the embedded cluster: {}", scenario.name, not_here(scenario).unwrap_or_default()));
    }
    on_rig(RigOptions { stages, ..RigOptions::default() }, async |rig| {
        let begun = Instant::now();
        let mut wrong = Vec::new();
        for scenario in short.iter().skip(which).step_by(2) {
            wrong.extend(kept(rig, scenario).await.with_context(|| format!("scenario: {}", scenario.name))?);
        }
        say(format!("half of the scenarios took {:.0} s", begun.elapsed().as_secs_f64()));
        ensure!(wrong.is_empty(), "not kept:\n{}", wrong.join("\n"));
        Ok(())
    })
    .await
}

/// Why a scenario is not played where time is real, if that is so.
fn not_here(scenario: &Scenario) -> Option<String> {
    let long = format!("it lasts {:?}, and more than {LONGEST:?} are not waited for", scenario.lasts);
    let is_chosen = chosen().is_some();
    scenario.only_embedded.clone().or_else(|| (!is_chosen && scenario.lasts > LONGEST).then_some(long))
}

fn chosen() -> Option<OsString> {
    std::env::var_os(CHOSEN).filter(|name| !name.is_empty())
}

/// The scenarios, those that last longest first, so that every other one makes a fair half.
fn suite() -> Result<Vec<Scenario>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    files.sort();
    let read = |file: &PathBuf| {
        let name = file.file_stem().and_then(|name| name.to_str()).context("a file has a name")?;
        anyhow::Ok(Scenario::read(name, &format!("scenarios/{name}.yaml"), &fs::read_to_string(file)?)?)
    };
    let mut suite: Vec<Scenario> = files.iter().map(read).collect::<Result<_>>()?;
    let chosen = chosen();
    suite.retain(|scenario| chosen.as_ref().is_none_or(|name| *name == *scenario.name));
    ensure!(
        !suite.is_empty(),
        "there is no scenario {chosen:?}: {CHOSEN} names a file in scenarios/ without its ending"
    );
    suite.sort_by_key(|scenario| std::cmp::Reverse(scenario.lasts));
    Ok(suite)
}

/// Plays one, tells how long it took, and returns what was not kept.
async fn kept(rig: &Rig, scenario: &Scenario) -> Result<Vec<String>> {
    let since = Instant::now();
    let mut stage = RigStage::new(rig, &scenario.spotalis)?;
    let record = Box::pin(play(scenario, TERMS, &mut stage, |_, _| ())).await?;
    tokio::try_join!(stage.end(), Box::pin(clear(rig)))?;
    let wrong = broken(scenario, &record);
    let word = if wrong.is_empty() { "" } else { "failed after " };
    say(format!("  {}: {word}{:.1} s", scenario.name, since.elapsed().as_secs_f64()));
    if !wrong.is_empty() {
        say(told(&record));
    }
    let same = scenario.clone();
    let simulated = spawn_blocking(move || embedded::run(&same, TERMS, |_, _| ())).await??;
    let differences = differences(&simulated, &record);
    let wrong = match &scenario.differs {
        Some(why) => {
            differences.iter().for_each(|difference| say(format!("    {difference}: {why}")));
            wrong
        }
        None => [wrong, differences].concat(),
    };
    Ok(wrong.iter().map(|one| format!("{}: {one}", scenario.name)).collect())
}

/// What ended differently on the embedded cluster, although within what was expected on both.
fn differences(simulated: &Record, real: &Record) -> Vec<String> {
    let facts = |record: &Record| -> BTreeSet<String> {
        let summary = Summary::of(record);
        let ends = summary.workloads.iter().map(|of| {
            let steered = |(_, moment): &&(Duration, Moment)| match moment {
                Moment::Steered { workload, .. } => *workload == of.workload,
                _ => false,
            };
            let steered = record.moments.iter().filter(steered).count();
            format!("{} ({}; {} evictions, {steered} steered)", of.workload, of.last, of.evictions)
        });
        let told = record.moments.iter().filter_map(|(_, moment)| match moment {
            Moment::Told { reason, about, .. } => Some(format!("{reason} about {about}")),
            _ => None,
        });
        ends.chain(told).collect()
    };
    let (simulated, real) = (facts(simulated), facts(real));
    let only = |these: &BTreeSet<String>, those: &BTreeSet<String>, place: &str| -> Vec<String> {
        these.difference(those).map(|fact| format!("only {place}: {fact}")).collect()
    };
    [only(&simulated, &real, "on the embedded cluster"), only(&real, &simulated, "here")].concat()
}

/// A record, to see what happened.
fn told(record: &Record) -> String {
    let lines = record.moments.iter().map(|(at, moment)| format!("    {:>7.3} s  {moment}", at.as_secs_f64()));
    lines.collect::<Vec<_>>().join("\n")
}
