//! `cargo xtask bench`: what Spotalis costs, each figure beside its baseline from the same run.

use std::io::Write as _;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use spotalis_bench::{Report, admission, cost, count, day, rollout, split};

/// What to measure.
#[derive(Debug, Args)]
pub struct BenchOptions {
    #[command(subcommand)]
    bench: Bench,
    /// Print JSON.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Clone, Copy, Debug, Subcommand)]
enum Bench {
    /// Exact at admission: Deployments of many sizes and ten rolling restarts, with not one eviction.
    Split {
        /// Deployments from a fixed seed, besides those of the grid.
        #[arg(long, default_value_t = 200)]
        samples: u32,
        /// The largest Deployment.
        #[arg(long, default_value_t = 3_000)]
        largest: u32,
    },
    /// CPU and time per admission, beside a handler that answers without looking.
    Admission {
        /// Pods of the workload in the large measurement.
        #[arg(long, default_value_t = 3_000)]
        pods: u32,
        /// Further pods in the cluster in the largest one; 0 leaves it out.
        #[arg(long, default_value_t = 30_000)]
        cluster_pods: u32,
    },
    /// Time until a large Deployment is ready, with and without the webhook.
    Rollout {
        /// Its pods.
        #[arg(long, default_value_t = 3_000)]
        pods: u32,
    },
    /// Memory of the process, idle and after a large rollout.
    Memory {
        /// Pods of the rollout.
        #[arg(long, default_value_t = 3_000)]
        pods: u32,
    },
    /// What the API server is asked: calls per eviction, and in steady state.
    Cost {
        /// Minutes of steady state.
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=24 * 60))]
        minutes: u64,
    },
    /// Instructions of the admission path, by valgrind.
    Count,
    /// A day in virtual time: 20 nodes, 50 workloads, 500 pods, two reclaims an hour.
    Day {
        /// Its hours.
        #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=24 * 7))]
        hours: u32,
    },
}

/// Measures and prints; fails if a figure is not what is wanted.
pub fn run(options: &BenchOptions) -> Result<()> {
    let BenchOptions { bench, json } = options;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let report = runtime.block_on(async {
        match *bench {
            Bench::Split { samples, largest } => Box::pin(split::run(samples, largest)).await,
            Bench::Admission { pods, cluster_pods } => {
                Box::pin(admission::run(admission::Sizes { workload: pods, cluster: cluster_pods })).await
            }
            Bench::Rollout { pods } => Box::pin(rollout::run(pods)).await,
            Bench::Memory { pods } => Box::pin(rollout::memory(pods)).await,
            Bench::Cost { minutes } => Box::pin(cost::run(Duration::from_mins(minutes))).await,
            Bench::Count => count::run(),
            Bench::Day { hours } => day::run(hours).map(Some),
        }
    })?;
    let Some(report) = report else {
        spotalis_rig::say("bench: skipped, what it needs is not on this machine (Go, or valgrind for `count`)");
        return Ok(());
    };
    print(&report, *json)?;
    if !report.holds() {
        bail!("{}: a figure is not what is wanted", report.benchmark);
    }
    Ok(())
}

fn print(report: &Report, json: bool) -> Result<()> {
    let mut out = std::io::stdout().lock();
    if json {
        writeln!(out, "{}", serde_json::to_string_pretty(report)?)?;
    } else {
        write!(out, "{report}")?;
    }
    Ok(())
}
