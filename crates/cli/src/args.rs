//! What was typed, and the part of the environment that means something to us.
//!
//! The only place that reads the environment. What the words mean is the business of the commands and of the
//! configuration; here they are only taken apart.

use std::ffi::OsString;
use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use clap::error::ErrorKind;
use clap::{ArgGroup, CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use spotalis_config::{Flags, Sources};
use spotalis_runtime::apiclient::ClusterSource;

use crate::simulate::SimulateArgs;

const EXIT_CODES: &str = "\
Exit codes: 0 fine, 1 found a problem, 2 usage or configuration, 3 cluster unreachable, 4 forbidden or not logged in,
70 a defect of spotalis, 74 output that cannot be written.";

const GLOBAL: &str = "Options of every command";

/// Runs ordinary workloads on spot capacity without anybody noticing.
#[derive(Debug, Parser)]
#[command(name = "spotalis", version, after_help = EXIT_CODES, disable_help_subcommand = true)]
pub struct Args {
    /// For every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Flags of every command.
#[derive(Debug, clap::Args)]
pub struct Global {
    /// The configuration file, also named by `SPOTALIS_CONFIG`. Commands for people need it where the installation does
    /// not use the built-in configuration
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The kubeconfig; without it the usual one, else the pod's service account
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Compute, show and count everything, and change nothing
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub read_only: bool,
    /// The least important line of the log: error, warn, info, debug or trace
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// How lines of the log are written: json or console
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "FORMAT")]
    pub log_format: Option<String>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the controllers and the webhook
    Controller,
    /// Show the split of every managed workload, and why it is not what it should be
    Status(StatusArgs),
    /// Say why a workload or a pod is where it is, and what happens next
    #[command(subcommand)]
    Explain(Explain),
    /// Show what Spotalis does, on a cluster inside this process: nothing is needed, and nothing else is touched
    Demo(DemoArgs),
    /// Say what would become of your workloads on a fleet, with Spotalis and without it
    Simulate(Box<SimulateArgs>),
    /// Show the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Write the completion script of a shell
    Completion {
        /// Which shell
        shell: Shell,
    },
}

/// `status`.
#[derive(Debug, clap::Args)]
pub struct StatusArgs {
    /// Only this namespace
    #[arg(short, long, value_name = "NAMESPACE", conflicts_with = "all_namespaces")]
    pub namespace: Option<String>,
    /// All namespaces, which is the default
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// How to show it.
    #[command(flatten)]
    pub look: Look,
}

/// `explain`.
#[derive(Debug, Subcommand)]
pub enum Explain {
    /// A workload: its policy, its split, its pods, and what happens next
    Workload {
        /// NAME, or KIND/NAME as in deployment/web
        #[arg(value_name = "[KIND/]NAME")]
        target: String,
        /// Its namespace; without it the one of the kubeconfig's context
        #[arg(short, long, value_name = "NAMESPACE")]
        namespace: Option<String>,
        /// Show what another policy would lead to, without changing anything: spot-percentage=80. May be repeated
        #[arg(long = "if", value_name = "KEY=VALUE", value_parser = key_and_value)]
        hypothesis: Vec<(String, String)>,
        /// How to show it.
        #[command(flatten)]
        look: Look,
    },
    /// A pod: why it is where it is, and what will happen to it
    Pod {
        /// Its name
        name: String,
        /// Its namespace; without it the one of the kubeconfig's context
        #[arg(short, long, value_name = "NAMESPACE")]
        namespace: Option<String>,
        /// How to show it.
        #[command(flatten)]
        look: Look,
    },
}

/// `demo`.
#[derive(Debug, clap::Args)]
pub struct DemoArgs {
    /// Which of the built-in scenarios
    #[arg(long, value_name = "NAME", default_value = spotalis_sim::catalogue::DEFAULT)]
    pub scenario: String,
    /// Say which scenarios there are and what they show
    #[arg(long, conflicts_with_all = ["scenario", "seed", "speed", "json", "report", "listen"])]
    pub list: bool,
    /// Decides whatever is left to chance; the same seed gives the same bytes
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = whole(0..=u64::MAX), allow_hyphen_values = true)]
    pub seed: u64,
    /// Simulated seconds per second. Without it a minute for the whole on a terminal, and no time at all elsewhere
    #[arg(long, value_name = "X", value_parser = speed, allow_hyphen_values = true)]
    pub speed: Option<f64>,
    /// One JSON object per line: every moment with Spotalis, then without it, then both in figures
    #[arg(long, conflicts_with = "speed")]
    pub json: bool,
    /// Write a page with charts and every decision to this file
    #[arg(long, value_name = "FILE", value_parser = report)]
    pub report: Option<PathBuf>,
    /// Play in real time, and let kubectl talk to the cluster at this address of this machine, until Ctrl-C
    #[arg(long, value_name = "127.0.0.1:PORT", value_parser = loopback, conflicts_with_all = ["speed", "json", "report"])]
    pub listen: Option<SocketAddr>,
    /// No colours and no moving picture; without it they are used on a terminal, unless `NO_COLOR` is set
    #[arg(long)]
    pub no_color: bool,
}

/// How something is shown.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Look {
    /// The form of the answer
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
    /// No colours; without it they are used on a terminal, unless `NO_COLOR` is set
    #[arg(long)]
    pub no_color: bool,
}

/// The form of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    #[default]
    Table,
    /// For people with wide screens
    Wide,
    /// For programs
    Json,
    /// For programs, too
    Yaml,
}

/// `config`.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Write the configuration with every key
    #[command(group = ArgGroup::new("which"))]
    Print {
        /// The one that nobody changed
        #[arg(long, group = "which")]
        defaults: bool,
        /// The one that holds after file, environment and flags, which is the default
        #[arg(long, group = "which")]
        effective: bool,
        /// The form of the answer
        #[arg(short, long, value_enum, default_value_t)]
        output: ConfigOutput,
    },
    /// Write the JSON schema of the configuration file
    Schema,
}

/// The form of a printed configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ConfigOutput {
    /// As a file to begin with
    #[default]
    Yaml,
    /// For programs
    Json,
}

fn key_and_value(text: &str) -> Result<(String, String), &'static str> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE, for example spot-percentage=80")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// Reads a whole number within bounds.
pub fn whole<N>(bounds: RangeInclusive<N>) -> impl Fn(&str) -> Result<N, String> + Clone + Send + Sync + 'static
where
    N: FromStr + PartialOrd + Display + Clone + Send + Sync + 'static,
{
    move |text| {
        let number = text.parse().ok().filter(|number| bounds.contains(number));
        number.ok_or_else(|| format!("write a whole number from {} to {}", bounds.start(), bounds.end()))
    }
}

/// Standard output has the story already.
fn report(text: &str) -> Result<PathBuf, &'static str> {
    if text == "-" { Err("write the name of a file: standard output has the story") } else { Ok(text.into()) }
}

/// Faster than this nobody can read, slower than this nobody waits.
fn speed(text: &str) -> Result<f64, &'static str> {
    let speed = text.parse().ok().filter(|speed| (0.1..=100_000.0).contains(speed));
    speed.ok_or("write how many simulated seconds pass in a second, from 0.1 to 100000")
}

fn loopback(text: &str) -> Result<SocketAddr, &'static str> {
    let address: SocketAddr = text.parse().map_err(|_| "write an address and a port, as 127.0.0.1:8001")?;
    let refused =
        "the cluster has neither TLS nor passwords, so it listens on this machine alone: use 127.0.0.1 or [::1]";
    if address.ip().is_loopback() { Ok(address) } else { Err(refused) }
}

/// What the environment says.
#[derive(Debug, Default)]
pub struct Environment {
    /// `SPOTALIS_CONFIG`.
    config: Option<PathBuf>,
    /// Everything else that begins with `SPOTALIS_`.
    variables: Vec<(String, String)>,
    /// `NO_COLOR` is set, or the terminal says that it has none.
    pub no_color: bool,
}

impl Environment {
    /// Reads it.
    pub fn read() -> Self {
        Self::of(std::env::vars_os())
    }

    fn of(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let mut environment = Self::default();
        for (name, value) in variables {
            match name.to_str() {
                Some("SPOTALIS_CONFIG") if value.is_empty() => environment.config = None,
                Some("SPOTALIS_CONFIG") => environment.config = Some(PathBuf::from(value)),
                // What cannot be text cannot be a valid value either, and is reported as what is left of it.
                Some(name) if name.starts_with("SPOTALIS_") => {
                    environment.variables.push((name.to_owned(), value.to_string_lossy().into_owned()));
                }
                Some("NO_COLOR") => environment.no_color |= !value.is_empty(),
                Some("TERM") => environment.no_color |= value == "dumb",
                Some(_) | None => {}
            }
        }
        environment
    }
}

impl Args {
    /// What was typed, unless a part of it would mean nothing beside the rest: nobody is to believe that it did.
    pub fn coherent(self) -> Result<Self, clap::Error> {
        let Global { config, kubeconfig, read_only, log_level: _, log_format: _ } = &self.global;
        let incoherent = match &self.command {
            Command::Simulate(args) => args.incoherence(kubeconfig.is_some()),
            Command::Demo(_) => {
                let typed = [
                    ("--config", config.is_some()),
                    ("--kubeconfig", kubeconfig.is_some()),
                    ("--read-only", *read_only),
                ];
                let flag = typed.iter().find(|(_, typed)| *typed);
                flag.map(|(flag, _)| {
                    format!("{flag} means nothing to demo, which asks no cluster and shows the built-in configuration")
                })
            }
            _ => None,
        };
        match incoherent {
            Some(what) => Err(Self::command().error(ErrorKind::ArgumentConflict, what)),
            None => Ok(self),
        }
    }
}

impl Global {
    /// Where the configuration comes from.
    pub fn sources(&self, environment: &Environment) -> Sources {
        let Self { config, kubeconfig: _, read_only, log_level, log_format } = self;
        Sources {
            file: config.clone().or_else(|| environment.config.clone()),
            environment: environment.variables.clone(),
            flags: Flags { read_only: *read_only, log_level: log_level.clone(), log_format: log_format.clone() },
        }
    }

    /// Where the cluster is.
    pub fn cluster(&self) -> ClusterSource {
        self.kubeconfig.clone().map_or(ClusterSource::Inferred, ClusterSource::Kubeconfig)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Args::command().debug_assert();
    }

    fn sources(words: &[&str], variables: &[(&str, &str)]) -> Sources {
        let args = Args::try_parse_from(["spotalis"].iter().chain(words)).unwrap();
        let variables = variables.iter().map(|(name, value)| (name.into(), value.into()));
        args.global.sources(&Environment::of(variables))
    }

    #[test]
    fn the_flag_comes_before_the_variable_and_neither_is_a_key() {
        let variables = [("SPOTALIS_CONFIG", "/from/variable"), ("SPOTALIS_OPT_IN", "either"), ("HOME", "/elsewhere")];
        let from_variable = sources(&["status"], &variables);
        assert_eq!(from_variable.file, Some("/from/variable".into()));
        assert_eq!(from_variable.environment, [("SPOTALIS_OPT_IN".to_owned(), "either".to_owned())]);
        let from_flag = sources(&["status", "--config", "/from/flag", "--read-only"], &variables);
        assert_eq!((from_flag.file, from_flag.flags.read_only), (Some("/from/flag".into()), true));
        assert_eq!(sources(&["status"], &[("SPOTALIS_CONFIG", "")]).file, None);
    }

    #[test]
    fn colours_are_refused_by_the_environment_in_two_ways() {
        for (name, value, refused) in
            [("NO_COLOR", "1", true), ("NO_COLOR", "", false), ("TERM", "dumb", true), ("TERM", "xterm", false)]
        {
            assert_eq!(Environment::of([(name.into(), value.into())]).no_color, refused, "{name}={value:?}");
        }
    }

    #[test]
    fn the_demo_runs_at_a_speed_that_makes_sense_and_listens_here_alone() {
        for text in ["0", "-1", "nan", "inf", "fast", "1e9", ""] {
            assert!(speed(text).is_err(), "{text}");
        }
        assert_eq!(speed("2.5"), Ok(2.5));
        for text in ["0.0.0.0:1", "10.0.0.1:80", "[::]:80"] {
            assert!(loopback(text).unwrap_err().contains("neither TLS"), "{text}");
        }
        assert!(loopback("localhost").is_err() && loopback("8001").is_err());
        assert!(loopback("127.0.0.1:0").is_ok() && loopback("[::1]:80").is_ok());
    }

    #[test]
    fn a_hypothesis_is_a_key_and_a_value() {
        assert_eq!(key_and_value("spot-percentage=80"), Ok(("spot-percentage".to_owned(), "80".to_owned())));
        assert_eq!(key_and_value("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert!(key_and_value("spot-percentage").is_err());
    }
}
