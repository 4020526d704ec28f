//! The binary: arguments, environment, printing and exit codes live here and nowhere else.
//!
//! Standard output is data, standard error is talk. What the commands say is decided in the other crates.

mod args;
mod config_command;
mod controller;
mod exit;
mod explain;
mod listener;
mod plan;
mod state;
mod status;
mod table;
mod view;
mod wiring;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use clap_complete::Shell;
use spotalis_config::{Config, Sources};
use spotalis_runtime::apiclient::Cluster;
use spotalis_runtime::telemetry::Telemetry;

use crate::args::{Args, Command, Environment, Global};
use crate::exit::Exit;

fn main() -> ExitCode {
    exit::own_up_to_panics();
    rustls::crypto::ring::default_provider()
        .install_default()
        .expect("nothing else installs a provider of cryptography");
    let environment = Environment::read();
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // Help asked for goes to standard output with 0, everything else to standard error with 2. Whether anybody
            // is there to read it changes nothing.
            let _ = error.print();
            return u8::try_from(error.exit_code()).unwrap_or(Exit::Usage.code()).into();
        }
    };
    run(args, &environment).unwrap_or_else(|error| exit::conclude(&error).into())
}

fn run(args: Args, environment: &Environment) -> anyhow::Result<ExitCode> {
    let Args { global, command } = args;
    let sources = global.sources(environment);
    match command {
        Command::Controller => {
            let options = controller::Options { sources, cluster: global.cluster() };
            runtime()?.block_on(controller::run(options))
        }
        Command::Status(args) => {
            let config = for_people(&sources)?;
            let status = async { status::run(&args, &connect(&global).await?, &config, environment).await };
            Ok(runtime()?.block_on(status)?.into())
        }
        Command::Explain(words) => {
            let question = explain::Question::read(words)?;
            let config = for_people(&sources)?;
            let answer = async { question.answer(&connect(&global).await?, &config, environment).await };
            Ok(runtime()?.block_on(answer)?.into())
        }
        Command::Config(command) => Ok(config_command::run(&command, &sources)?.into()),
        Command::Completion { shell } => Ok(completion(shell)?.into()),
    }
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// The configuration of a command for people, who see no more of the log than warnings unless they ask for it.
fn for_people(sources: &Sources) -> anyhow::Result<Config> {
    let config = Config::load(sources)?;
    let level = if sources.flags.log_level.is_some() { wiring::log_level(&config) } else { "warn" };
    let format = if sources.flags.log_format.is_some() {
        wiring::log_format(&config)
    } else {
        spotalis_runtime::telemetry::Format::Console
    };
    Telemetry::install(format, level)?;
    Ok(config)
}

async fn connect(global: &Global) -> anyhow::Result<Cluster> {
    let cluster = Cluster::configure(&global.cluster()).await?;
    cluster.probe().await?;
    Ok(cluster)
}

fn completion(shell: Shell) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "spotalis", &mut script);
    table::to_stdout(|out| out.write_all(&script))?;
    Ok(Exit::Fine)
}
