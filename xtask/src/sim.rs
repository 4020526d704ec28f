//! `cargo xtask sim`: simulated clusters, as many as one likes. Builds the simulation with optimisation and hands it the words.

use std::path::PathBuf;
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
    /// Instead of all that: this scenario, and tell what happens. Its seed is 0, or that of --seed.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seeds", "from", "enumerate"])]
    scenario: Option<PathBuf>,
}

/// Runs them, and tells whether all was well.
pub fn run(options: &SimOptions) -> Result<ExitCode> {
    let SimOptions { seeds, from, seed, enumerate, scenario } = options;
    let words = match (enumerate, scenario, seed) {
        (true, ..) => vec!["--enumerate".to_owned()],
        (false, Some(file), seed) => {
            vec![format!("--scenario={}", file.display()), format!("--seed={}", seed.unwrap_or(0))]
        }
        (false, None, Some(seed)) => vec![format!("--seed={seed}")],
        (false, None, None) => vec![format!("--seeds={seeds}"), format!("--from={from}")],
    };
    let mut command = cargo();
    command
        .args(["run", "--release", "--quiet", "--package", "spotalis-sim", "--bin", "simulate-seeds", "--"])
        .args(words);
    let status = command.status().context("cannot start cargo")?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}
