//! `cargo xtask sim`: simulated clusters, as many as one likes. Builds the simulation for speed and hands it all words; it
//! knows what they mean.

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Args;
use spotalis_e2e::cargo;

/// Which ones.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub struct SimOptions {
    /// Which ones; `--help` tells what there is to say.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<OsString>,
}

/// Runs them, and tells whether all was well.
pub fn run(options: &SimOptions) -> Result<ExitCode> {
    let SimOptions { words } = options;
    let mut command = cargo();
    command.args(["run", "--profile", "simulation", "--package", "spotalis-sim", "--bin", "simulate-seeds"]);
    if !std::io::stderr().is_terminal() {
        command.arg("--quiet");
    }
    command.arg("--").args(words);
    let status = command.status().context("cannot start cargo")?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}
