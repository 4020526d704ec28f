//! The one door for everything that is not plain cargo: `cargo xtask help` lists it.
//!
//! This file only tells the commands apart; each has a module of its own. Nothing that ships depends on this crate.

mod bench;
mod deny;
mod docs;
mod rig;
mod test;
mod tidy;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Everything that is not plain cargo.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// A real control plane on this machine: build its programs, hold one, list and end those that run.
    #[command(subcommand)]
    Rig(rig::RigCommand),
    /// Everything that has to hold: format, lints, documentation, dependencies, tests, tests on the rig.
    Test(test::TestOptions),
    /// What Spotalis costs, each figure beside its baseline from the same run.
    Bench(bench::BenchOptions),
    /// The rules of the house that no compiler knows.
    Tidy,
    /// Write the reference pages that are drawn from the code.
    Docs(docs::DocsOptions),
}

fn main() -> ExitCode {
    let Cli { command } = Cli::parse();
    let done = match command {
        Command::Rig(command) => rig::run(command),
        Command::Test(options) => test::run(&options),
        Command::Bench(options) => bench::run(&options),
        Command::Tidy => workspace::Workspace::read().and_then(|workspace| tidy::run(&workspace)),
        Command::Docs(options) => docs::run(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            spotalis_rig::say(format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
