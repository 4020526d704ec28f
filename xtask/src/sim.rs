//! `cargo xtask sim`: simulated clusters, as many as one likes. Builds the simulation with optimisation and hands it the words.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Args;
use spotalis_e2e::cargo;

/// Which ones.
#[derive(Debug, Args)]
pub struct SimOptions {
    /// How many seeds.
    #[arg(long, default_value_t = 1_000)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Only this one, and tell what happens.
    #[arg(long, conflicts_with_all = ["seeds", "from"])]
    seed: Option<u64>,
    /// Instead of seeds: every request of a quiet run with everything that can go wrong with it, one at a time.
    #[arg(long, conflicts_with_all = ["seeds", "from", "seed"])]
    enumerate: bool,
}

/// Runs them, and tells whether all was well.
pub fn run(options: &SimOptions) -> Result<ExitCode> {
    let SimOptions { seeds, from, seed, enumerate } = options;
    let words = match (enumerate, seed) {
        (true, _) => vec!["--enumerate".to_owned()],
        (false, Some(seed)) => vec![format!("--seed={seed}")],
        (false, None) => vec![format!("--seeds={seeds}"), format!("--from={from}")],
    };
    let mut command = cargo();
    command
        .args(["run", "--release", "--quiet", "--package", "spotalis-sim", "--bin", "simulate-seeds", "--"])
        .args(words);
    let status = command.status().context("cannot start cargo")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
