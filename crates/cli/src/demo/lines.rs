//! A run for programs: one JSON object per line. `docs/how-to/demo.md` says what is in them.

use std::io::{self, Write};
use std::time::Duration;

use serde::Serialize;
use spotalis_sim::compare::{SPOT_PRICE, spot_share};
use spotalis_sim::record::Moment;
use spotalis_sim::scenario::Scenario;
use spotalis_sim::summary::{Summary, WorkloadSummary};

/// Which of the two runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Run {
    /// With Spotalis.
    With,
    /// With Spotalis switched off.
    Without,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct First<'s> {
    scenario: &'s str,
    about: &'s str,
    seed: u64,
    lasts_seconds: f64,
    spot_price: f64,
}

#[derive(Serialize)]
struct AtTime<'m> {
    run: Run,
    at: f64,
    #[serde(flatten)]
    moment: &'m Moment,
}

#[derive(Serialize)]
struct InFigures<'s> {
    run: Run,
    summary: Figures<'s>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Figures<'s> {
    spot_node_hours: f64,
    other_node_hours: f64,
    workloads: Vec<OfWorkload<'s>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OfWorkload<'s> {
    workload: &'s str,
    whole_after_seconds: Option<f64>,
    counted_from_seconds: f64,
    fewest_ready: u32,
    most_missing: u32,
    below_seconds: f64,
    down_seconds: f64,
    missing_hours: f64,
    evictions: u32,
    spot_hours: f64,
    other_hours: f64,
    spot_share: f64,
    relative_cost: Option<f64>,
}

/// What is played.
pub fn first(out: &mut impl Write, scenario: &Scenario, seed: u64) -> io::Result<()> {
    let Scenario { name, about, lasts, .. } = scenario;
    line(out, &First { scenario: name, about, seed, lasts_seconds: lasts.as_secs_f64(), spot_price: SPOT_PRICE })
}

/// A moment of a run.
pub fn moment(out: &mut impl Write, run: Run, at: Duration, moment: &Moment) -> io::Result<()> {
    line(out, &AtTime { run, at: at.as_secs_f64(), moment })
}

/// A run in figures.
pub fn summary(out: &mut impl Write, run: Run, summary: &Summary) -> io::Result<()> {
    let Summary { workloads, spot_node_hours, other_node_hours } = summary;
    let workloads = workloads.iter().map(OfWorkload::of).collect();
    let summary = Figures { spot_node_hours: *spot_node_hours, other_node_hours: *other_node_hours, workloads };
    line(out, &InFigures { run, summary })
}

impl<'s> OfWorkload<'s> {
    fn of(summary: &'s WorkloadSummary) -> Self {
        Self {
            workload: &summary.workload,
            whole_after_seconds: summary.whole_after.map(|time| time.as_secs_f64()),
            counted_from_seconds: summary.counted_from.as_secs_f64(),
            fewest_ready: summary.fewest_ready,
            most_missing: summary.most_missing,
            below_seconds: summary.below.as_secs_f64(),
            down_seconds: summary.down.as_secs_f64(),
            missing_hours: summary.missing_hours,
            evictions: summary.evictions,
            spot_hours: summary.spot_hours,
            other_hours: summary.other_hours,
            spot_share: spot_share([summary]),
            relative_cost: summary.relative_cost(SPOT_PRICE),
        }
    }
}

fn line(out: &mut impl Write, what: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, what)?;
    writeln!(out)
}
