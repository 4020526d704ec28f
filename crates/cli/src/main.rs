//! The binary: arguments, environment, printing and exit codes live here and nowhere else.
//!
//! Standard output is data, standard error is talk. What the commands say is decided in the other crates.

mod args;
mod config_command;
mod controller;
mod demo;
mod exit;
mod explain;
#[cfg(test)]
mod fixture;
mod listener;
mod logging;
mod plan;
mod simulate;
mod state;
mod status;
mod table;
mod told;
mod view;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use clap_complete::Shell;
use spotalis_config::Config;
use spotalis_runtime::apiclient::Cluster;
use spotalis_runtime::telemetry::{Format, Telemetry};

use crate::args::{Args, Command, Environment, Global};
use crate::exit::Exit;

fn main() -> ExitCode {
    exit::own_up_to_panics();
    rustls::crypto::ring::default_provider()
        .install_default()
        .expect("nothing else installs a provider of cryptography");
    let environment = Environment::read();
    let args = match Args::try_parse().and_then(Args::coherent) {
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
            let config = Config::load(&sources)?;
            let status = async { status::run(&args, &connect(&global, &config).await?, &config, environment).await };
            Ok(runtime()?.block_on(status)?.into())
        }
        Command::Explain(words) => {
            let question = explain::Question::read(words)?;
            let config = Config::load(&sources)?;
            let answer = async { question.answer(&connect(&global, &config).await?, &config, environment).await };
            Ok(runtime()?.block_on(answer)?.into())
        }
        Command::Demo(args) => Ok(demo::run(&args, environment)?.into()),
        Command::Simulate(args) => {
            let config = Config::load(&sources)?;
            let there = if args.from_cluster {
                let reading = async {
                    let cluster = connect(&global, &config).await?;
                    anyhow::Ok(simulate::from_cluster(&args, &cluster, &config).await?)
                };
                runtime()?.block_on(reading)?
            } else {
                simulate::There::default()
            };
            Ok(simulate::run(&args, there, &config, environment)?.into())
        }
        Command::Config(command) => Ok(config_command::run(&command, &sources)?.into()),
        Command::Completion { shell } => Ok(completion(shell)?.into()),
    }
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// The cluster of a command for people. They see no more of the log than warnings unless they ask for it, and nothing of
/// it before there is a connection: that there is none, the command says itself.
async fn connect(global: &Global, config: &Config) -> anyhow::Result<Cluster> {
    let asked_for = global.log_level.is_some();
    let format = if global.log_format.is_some() { logging::format(config) } else { Format::Console };
    if asked_for {
        Telemetry::install(format, logging::level(config))?;
    }
    let cluster = Cluster::configure(&global.cluster()).await?;
    cluster.probe().await?;
    if !asked_for {
        Telemetry::install(format, "warn")?;
    }
    Ok(cluster)
}

fn completion(shell: Shell) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "spotalis", &mut script);
    table::to_stdout(|out| out.write_all(&script))?;
    Ok(Exit::Fine)
}
