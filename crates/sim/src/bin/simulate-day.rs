//! Runs the same day some times over and prints what it cost, as JSON. `cargo xtask bench day` calls it and says what is wanted.

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use mimalloc::MiMalloc;
use serde_json::{Value, json};
use spotalis_sim::day;
use spotalis_sim::run::{Outcome, run};
use tokio::time::Instant;

/// Runs Spotalis through a simulated day, on one thread, and prints what that took.
#[derive(Debug, Parser)]
struct Args {
    /// How long the day is.
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u64).range(1..=24 * 7))]
    hours: u64,
    /// How often it is run.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
}

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    let Args { hours, runs } = Args::parse();
    let plan = day::plan(Duration::from_hours(hours));
    let all = (0..runs).map(|_| {
        let (begun, cpu) = (Instant::now(), cpu_seconds());
        let outcome = run(&plan);
        told(&outcome, begun.elapsed(), cpu_seconds().zip(cpu).map(|(after, before)| after - before))
    });
    let all: Value = all.collect();
    match writeln!(io::stdout().lock(), "{all}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn told(outcome: &Outcome, wall: Duration, cpu: Option<f64>) -> Value {
    let Outcome { wrongs, evictions, faults: _, calls, calm_after: _, rested_after: _, digest, changes, took } =
        outcome;
    json!({
        "wallSeconds": wall.as_secs_f64(), "cpuSeconds": cpu, "simulatedSeconds": took.as_secs_f64(),
        "requests": calls.len(), "changes": changes, "evictions": evictions.len(), "wrongs": wrongs,
        "digest": format!("{digest:016x}"),
    })
}

/// What this thread has used so far; nothing where the kernel does not say.
fn cpu_seconds() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(text.split(' ').next()?.parse::<f64>().ok()? / 1e9)
}
