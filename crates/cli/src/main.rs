//! The binary: arguments, environment, printing and exit codes live here and nowhere else.

mod controller;
mod listener;
mod wiring;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use spotalis_config::{Flags, Sources};
use spotalis_runtime::apiclient::ClusterSource;

#[derive(Parser)]
struct Cli {
    #[arg(long, global = true, env = "SPOTALIS_CONFIG")]
    config: Option<PathBuf>,
    #[arg(long, global = true)]
    kubeconfig: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Run the controller and the webhook.
    Controller,
}

fn main() -> anyhow::Result<ExitCode> {
    rustls::crypto::ring::default_provider().install_default().expect("the first provider");
    let cli = Cli::parse();
    #[expect(clippy::disallowed_methods, reason = "the one place")]
    let environment = std::env::vars().collect();
    let sources = Sources { file: cli.config, environment, flags: Flags::default() };
    let cluster = cli.kubeconfig.map_or(ClusterSource::Inferred, ClusterSource::Kubeconfig);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match cli.command {
        Command::Controller => runtime.block_on(controller::run(controller::Options { sources, cluster })),
    }
}
