//! The one door for everything that is not plain cargo: `cargo xtask help` lists it.
//!
//! This file only tells the commands apart; each has a module of its own. Nothing that ships depends on this crate.

mod bench;
mod deny;
mod docs;
mod mutants;
mod rig;
mod sim;
mod test;
mod tidy;
mod up;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use spotalis_rig::{BinariesError, RigError};

/// The exit code where something has to be installed first.
const NO_GO: u8 = 2;

/// Everything that is not plain cargo.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// See it work: a control plane whose nodes Karpenter makes, Spotalis, the examples, and a live table of them.
    Up(up::UpOptions),
    /// A real control plane on this machine: build its programs, hold one, list and end those that run.
    #[command(subcommand)]
    Rig(rig::RigCommand),
    /// Everything that has to hold: format, lints, documentation, dependencies, tests, tests on the rig.
    Test(test::TestOptions),
    /// What Spotalis costs, each figure beside its baseline from the same run.
    Bench(bench::BenchOptions),
    /// Simulated clusters with faults, as many as one likes.
    Sim(sim::SimOptions),
    /// Defects made one at a time, and whether each is caught.
    Mutants(mutants::MutantsOptions),
    /// The rules of the house that no compiler knows.
    Tidy,
    /// Write the reference pages that are drawn from the code.
    Docs(docs::DocsOptions),
}

fn main() -> ExitCode {
    let Cli { command } = Cli::parse();
    let done = match command {
        Command::Up(options) => up::run(options),
        Command::Rig(command) => rig::run(command).map(succeeded),
        Command::Test(options) => test::run(&options).map(succeeded),
        Command::Bench(options) => bench::run(&options).map(succeeded),
        Command::Sim(options) => sim::run(&options),
        Command::Mutants(options) => mutants::run(&options),
        Command::Tidy => workspace::Workspace::read().and_then(|workspace| tidy::run(&workspace)).map(succeeded),
        Command::Docs(options) => docs::run(&options).map(succeeded),
    };
    done.unwrap_or_else(|error| {
        spotalis_rig::say(format!("error: {error:#}"));
        if is_no_go(&error) { ExitCode::from(NO_GO) } else { ExitCode::FAILURE }
    })
}

const fn succeeded((): ()) -> ExitCode {
    ExitCode::SUCCESS
}

/// Whether nothing is wrong but that this machine has no Go.
fn is_no_go(error: &anyhow::Error) -> bool {
    match (error.downcast_ref::<RigError>(), error.downcast_ref::<BinariesError>()) {
        (Some(RigError::Binaries(error)), _) | (_, Some(error)) => error.is_no_go(),
        (Some(_) | None, None) => false,
    }
}
