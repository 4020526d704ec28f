//! The flags of `simulate`. What can be judged without looking at anything else is judged here.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ValueEnum, value_parser};
use spotalis_core::duration;
use spotalis_sim::scenario::MOST_NODES;
use spotalis_sim::trace::Scale;
use spotalis_sim::whatif::{Amount, Seen, Wish};

use crate::args::Look;

/// What a spot node costs, as a share of an on-demand node of the same size, where nobody says it: discounts of 60 to 70
/// percent are what the large providers' price lists show most of the time.
const SPOT_PRICE: &str = "0.35";
/// The longest run: a month.
const LONGEST: Duration = Duration::from_hours(24 * 31);
/// The shortest run.
const SHORTEST: Duration = Duration::from_mins(1);
/// The most runs.
const MOST_RUNS: i64 = 1_000;
/// The most zones.
const MOST_ZONES: i64 = 26;

const CLUSTER: &str = "What is simulated";
const FLEET: &str = "Fleet";
const CAPACITY: &str = "Spot capacity";
const RUNS: &str = "Runs";
const OBJECTIVES: &str = "Objectives, which every workload has to keep in every run with Spotalis once it was whole";

/// `simulate`.
#[derive(Debug, clap::Args)]
pub struct SimulateArgs {
    /// Manifests: files, directories with all that is below them, or - for standard input. May be repeated
    #[arg(short = 'f', long = "filename", value_name = "FILE|DIR|-", num_args = 1.., help_heading = CLUSTER)]
    #[arg(required_unless_present_any = ["from_cluster", "print_trace"])]
    pub filenames: Vec<PathBuf>,
    /// Workloads, budgets, autoscalers and namespaces of the cluster, which is only read. Manifests of the same name win
    #[arg(long, help_heading = CLUSTER)]
    pub from_cluster: bool,
    /// With --from-cluster only this namespace; and the namespace of manifests that name none
    #[arg(short, long, value_name = "NAMESPACE", conflicts_with = "all_namespaces", help_heading = CLUSTER)]
    pub namespace: Option<String>,
    /// All namespaces of the cluster, which is the default
    #[arg(short = 'A', long, requires = "from_cluster", help_heading = CLUSTER)]
    pub all_namespaces: bool,
    /// How long a pod needs from its start until it is ready
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = up_to_an_hour, help_heading = CLUSTER)]
    pub ready_after: Duration,
    /// The nodes.
    #[command(flatten)]
    pub fleet: FleetArgs,
    /// What becomes of them.
    #[command(flatten)]
    pub capacity: CapacityArgs,
    /// How many runs; each has another seed, and is played with and without Spotalis
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = value_parser!(u32).range(1..=MOST_RUNS))]
    #[arg(allow_negative_numbers = true, help_heading = RUNS)]
    pub runs: u32,
    /// How many hours are simulated in each; 0.5 is half of one
    #[arg(long = "hours", value_name = "H", default_value = "24", value_parser = hours, help_heading = RUNS)]
    #[arg(allow_negative_numbers = true)]
    pub lasts: Duration,
    /// The seed of the first run; the next ones have the next
    #[arg(long, value_name = "S", default_value_t = 0, value_parser = value_parser!(u64).range(0..))]
    #[arg(allow_negative_numbers = true, help_heading = RUNS)]
    pub seed: u64,
    /// The price of a spot node as a share of the price of an on-demand node
    #[arg(long, value_name = "SHARE", default_value = SPOT_PRICE, value_parser = share, help_heading = RUNS)]
    #[arg(allow_negative_numbers = true)]
    pub spot_price: f64,
    /// No more replicas missing than so many, or than that share of them: 1 or 10%
    #[arg(long, value_name = "N|P%", value_parser = Amount::parse, help_heading = OBJECTIVES)]
    #[arg(allow_negative_numbers = true)]
    pub max_unavailable: Option<Amount>,
    /// No fewer replicas ready than so many, or than that share of them; all of a workload that has fewer
    #[arg(long, value_name = "N|P%", value_parser = Amount::parse, help_heading = OBJECTIVES)]
    #[arg(allow_negative_numbers = true)]
    pub min_ready: Option<Amount>,
    /// How to show it.
    #[command(flatten)]
    pub look: Look,
}

/// The nodes.
#[derive(Debug, clap::Args)]
pub struct FleetArgs {
    /// How many nodes; those of the cluster, if nothing is said, and without one what the workloads ask for and a quarter more
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..=i64::from(MOST_NODES)))]
    #[arg(allow_negative_numbers = true, help_heading = FLEET)]
    pub nodes: Option<u32>,
    /// How many of a hundred are spot nodes; 50 with --nodes, else those of the cluster, or as many as are wanted there
    #[arg(long, value_name = "P", value_parser = value_parser!(u32).range(0..=100))]
    #[arg(allow_negative_numbers = true, help_heading = FLEET)]
    pub spot_share: Option<u32>,
    /// The CPU of each; 16, or the average of the cluster
    #[arg(long, value_name = "CPU", allow_negative_numbers = true, help_heading = FLEET)]
    pub node_cpu: Option<String>,
    /// The memory of each; 64Gi, or the average of the cluster
    #[arg(long, value_name = "MEMORY", allow_negative_numbers = true, help_heading = FLEET)]
    pub node_memory: Option<String>,
    /// Over how many zones they are spread; 3, or those of the cluster
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..=MOST_ZONES))]
    #[arg(allow_negative_numbers = true, help_heading = FLEET)]
    pub zones: Option<u32>,
    /// How long until another node is there in place of a lost one, once it can be had
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = up_to_a_day, help_heading = FLEET)]
    pub replace_after: Duration,
}

impl FleetArgs {
    /// The fleet that is asked for, beside the nodes of a cluster.
    pub fn wish(&self, seen: Vec<Seen>) -> Wish {
        let Self { nodes, spot_share, node_cpu, node_memory, zones, replace_after } = self;
        Wish {
            nodes: *nodes,
            spot_share: *spot_share,
            cpu: node_cpu.clone(),
            memory: node_memory.clone(),
            zones: *zones,
            replace_after: *replace_after,
            seen,
        }
    }
}

/// What becomes of spot nodes.
#[derive(Debug, clap::Args)]
pub struct CapacityArgs {
    /// How many spot nodes can be had over time: calm, bursty, diurnal or outage, made up from the seed, or a file
    #[arg(long, value_name = "NAME|FILE", default_value = "calm", help_heading = CAPACITY)]
    pub trace: PathBuf,
    /// What the numbers of the file are; nodes, if nothing is said and the largest fits the fleet
    #[arg(long, value_enum, value_name = "WHAT", help_heading = CAPACITY)]
    pub trace_scale: Option<TraceScale>,
    /// Write the trace of the seed, in nodes (of 100, if --nodes is not given), instead of simulating
    #[arg(long, help_heading = CAPACITY)]
    pub print_trace: bool,
}

/// What the numbers of a trace are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TraceScale {
    /// So many nodes
    Nodes,
    /// A share of the fleet, of which the largest is all
    Largest,
}

impl From<TraceScale> for Scale {
    fn from(scale: TraceScale) -> Self {
        match scale {
            TraceScale::Nodes => Self::Nodes,
            TraceScale::Largest => Self::Largest,
        }
    }
}

fn bounded(text: &str, most: Duration) -> Result<Duration, String> {
    let time = duration::parse(text).map_err(|error| error.to_string())?;
    if time <= most { Ok(time) } else { Err(format!("it is at most {}", duration::format(most))) }
}

fn up_to_an_hour(text: &str) -> Result<Duration, String> {
    bounded(text, Duration::from_hours(1))
}

fn up_to_a_day(text: &str) -> Result<Duration, String> {
    bounded(text, Duration::from_hours(24))
}

fn hours(text: &str) -> Result<Duration, String> {
    let hours: Option<f64> = text.parse().ok();
    let lasts = hours.and_then(|hours| Duration::try_from_secs_f64((hours * 3_600.0).round()).ok());
    let allowed = format!("it is a number of hours, at least 0.02 and at most {}", LONGEST.as_secs() / 3_600);
    lasts.filter(|lasts| (SHORTEST..=LONGEST).contains(lasts)).ok_or(allowed)
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "it is a share: a number from 0 to 1, as 0.35".to_owned())
}
