//! A simulated day: how much faster than the clock a cluster with Spotalis runs in virtual time, and that the same seed gives
//! the same bytes.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use spotalis_e2e::built;

use crate::report::{Figure, Report};

/// The most seconds that a day may take on one core.
const SECONDS: f64 = 10.0;

/// What the simulation says of one run.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Run {
    wall_seconds: f64,
    cpu_seconds: Option<f64>,
    simulated_seconds: f64,
    requests: f64,
    changes: f64,
    evictions: f64,
    wrongs: Vec<String>,
    digest: String,
}

/// Runs so many hours twice in one process. The bound is for a whole day, and its part for a part of one.
pub fn run(hours: u32) -> Result<Report> {
    let program = built("simulation", &["--package", "spotalis-sim", "--bin", "simulate-day"], "simulate-day")?;
    let output = Command::new(program).args(["--runs=2", &format!("--hours={hours}")]).output()?;
    ensure!(output.status.success(), "the simulation failed: {}", String::from_utf8_lossy(&output.stderr));
    let runs: Vec<Run> = serde_json::from_slice(&output.stdout).context("the simulation does not print its figures")?;
    let [first, second] = &runs[..] else { anyhow::bail!("{} runs instead of two", runs.len()) };
    ensure!(first.wrongs.is_empty(), "the judge found something wrong: {:#?}", first.wrongs);
    let bound = SECONDS * f64::from(hours) / 24.0;
    let differs = if first.digest == second.digest { 0.0 } else { 1.0 };
    let wall = first.wall_seconds.max(second.wall_seconds);
    let cpu = first.cpu_seconds.zip(second.cpu_seconds).map(|(first, second)| first.max(second));
    let mut figures = vec![Figure::at_most("wall time of a run, the slower of two", wall, "s", bound)];
    figures.extend(cpu.map(|cpu| Figure::at_most("CPU time of a run, the slower of two", cpu, "s", bound)));
    figures.extend([
        Figure::new("simulated time per wall time", first.simulated_seconds / wall, ""),
        Figure::new("requests of Spotalis", first.requests, ""),
        Figure::new("changes of the store", first.changes, ""),
        Figure::new("evictions", first.evictions, ""),
        Figure::at_most("runs that differ from the first", differs, "", 0.0),
    ]);
    Ok(Report {
        benchmark: "day",
        method: format!(
            "{hours} h in virtual time on one core: 20 nodes, 50 workloads, 500 pods, two processes, two reclaims an hour; \
             digest {}",
            first.digest
        ),
        figures,
    })
}
