//! The flags of `simulate`. What can be judged without looking at anything else is judged here.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueEnum;
use spotalis_core::duration;
use spotalis_sim::scenario::MOST_NODES;
use spotalis_sim::trace::{Scale, Synthetic};
use spotalis_sim::whatif::{Amount, Seen, Wish, namespace_name};

use crate::args::{Look, whole};

/// What a spot node costs, as a share of an on-demand node of the same size, where nobody says it: discounts of 60 to 70
/// percent are what the large providers' price lists show most of the time.
const SPOT_PRICE: &str = "0.35";
/// The longest run: a month.
const LONGEST: Duration = Duration::from_hours(24 * 31);
/// The shortest run.
const SHORTEST: Duration = Duration::from_mins(1);
/// The most runs.
const MOST_RUNS: u32 = 1_000;
/// The most zones.
const MOST_ZONES: u32 = 26;

const CLUSTER: &str = "What is simulated";
const FLEET: &str = "Fleet";
const CAPACITY: &str = "Spot capacity";
const RUNS: &str = "Runs";
const OBJECTIVES: &str = "Objectives, which every workload has to keep in every run with Spotalis once it was whole";

/// What means nothing to a trace alone.
const NOT_IN_A_TRACE: [&str; 15] = [
    "filenames",
    "from_cluster",
    "namespace",
    "all_namespaces",
    "ready_after",
    "node_cpu",
    "node_memory",
    "zones",
    "replace_after",
    "runs",
    "spot_price",
    "max_unavailable",
    "min_ready",
    "output",
    "no_color",
];

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
    #[arg(short, long, value_name = "NAMESPACE", value_parser = namespace_name, help_heading = CLUSTER)]
    #[arg(conflicts_with = "all_namespaces")]
    pub namespace: Option<String>,
    /// All namespaces of the cluster, which is the default
    #[arg(short = 'A', long, requires = "from_cluster", help_heading = CLUSTER)]
    pub all_namespaces: bool,
    /// How long a pod needs from its start until it is ready
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = up_to_an_hour, help_heading = CLUSTER)]
    #[arg(allow_hyphen_values = true)]
    pub ready_after: Duration,
    /// The nodes.
    #[command(flatten)]
    pub fleet: FleetArgs,
    /// What becomes of them.
    #[command(flatten)]
    pub capacity: CapacityArgs,
    /// How many runs; each has another seed, and is played with and without Spotalis
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = whole(1..=MOST_RUNS))]
    #[arg(allow_hyphen_values = true, help_heading = RUNS)]
    pub runs: u32,
    /// How many hours are simulated in each; 0.5 is half of one
    #[arg(long = "hours", value_name = "H", default_value = "24", value_parser = hours, help_heading = RUNS)]
    #[arg(allow_hyphen_values = true)]
    pub lasts: Duration,
    /// The seed of the first run; the next ones have the next
    #[arg(long, value_name = "S", default_value_t = 0, value_parser = whole(0..=u64::MAX))]
    #[arg(allow_hyphen_values = true, help_heading = RUNS)]
    pub seed: u64,
    /// The price of a spot node as a share of the price of an on-demand node
    #[arg(long, value_name = "SHARE", default_value = SPOT_PRICE, value_parser = share, help_heading = RUNS)]
    #[arg(allow_hyphen_values = true)]
    pub spot_price: f64,
    /// No more replicas missing than so many, or than that share of them: 1 or 10%
    #[arg(long, value_name = "N|P%", value_parser = Amount::parse, help_heading = OBJECTIVES)]
    #[arg(allow_hyphen_values = true)]
    pub max_unavailable: Option<Amount>,
    /// No fewer replicas ready than so many, or than that share of them; all of a workload that has fewer
    #[arg(long, value_name = "N|P%", value_parser = Amount::parse, help_heading = OBJECTIVES)]
    #[arg(allow_hyphen_values = true)]
    pub min_ready: Option<Amount>,
    /// How to show it.
    #[command(flatten)]
    pub look: Look,
}

/// The nodes.
#[derive(Debug, clap::Args)]
pub struct FleetArgs {
    /// How many nodes; those of the cluster, if nothing is said, and without one what the workloads ask for and a quarter more
    #[arg(long, value_name = "N", value_parser = whole(1..=MOST_NODES))]
    #[arg(allow_hyphen_values = true, help_heading = FLEET)]
    pub nodes: Option<u32>,
    /// How many of a hundred are spot nodes; 50 with --nodes, else those of the cluster, or as many as are wanted there
    #[arg(long, value_name = "P", value_parser = whole(0..=100_u32))]
    #[arg(allow_hyphen_values = true, help_heading = FLEET)]
    pub spot_share: Option<u32>,
    /// The CPU of each; 16, or the average of the cluster
    #[arg(long, value_name = "CPU", allow_hyphen_values = true, help_heading = FLEET)]
    pub node_cpu: Option<String>,
    /// The memory of each; 64Gi, or the average of the cluster
    #[arg(long, value_name = "MEMORY", allow_hyphen_values = true, help_heading = FLEET)]
    pub node_memory: Option<String>,
    /// Over how many zones they are spread; 3, or those of the cluster
    #[arg(long, value_name = "N", value_parser = whole(1..=MOST_ZONES))]
    #[arg(allow_hyphen_values = true, help_heading = FLEET)]
    pub zones: Option<u32>,
    /// How long until another node is there in place of a lost one, once it can be had
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = up_to_a_day, help_heading = FLEET)]
    #[arg(allow_hyphen_values = true)]
    pub replace_after: Duration,
}

impl SimulateArgs {
    /// What of it goes together with nothing else that was typed. `kubeconfig` says whether one was named.
    pub fn incoherence(&self, kubeconfig: bool) -> Option<String> {
        let Self { filenames, from_cluster, capacity: CapacityArgs { trace, trace_scale, print_trace: _ }, .. } = self;
        let stdin = filenames.iter().chain([trace]).filter(|path| *path == Path::new("-")).count();
        if stdin > 1 {
            return Some("standard input can be read once: name a file in place of one of the -".to_owned());
        }
        if kubeconfig && !from_cluster {
            return Some("--kubeconfig means nothing without --from-cluster".to_owned());
        }
        let made_up = trace.to_str().and_then(Synthetic::called).is_some();
        (made_up && trace_scale.is_some()).then(|| {
            format!("--trace-scale is about the numbers of a file, and {} is made up in nodes", trace.display())
        })
    }
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
    #[arg(conflicts_with_all = NOT_IN_A_TRACE)]
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
    if time <= most { Ok(time) } else { Err(format!("write at most {}", duration::format(most))) }
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
    let longest = LONGEST.as_secs() / 3_600;
    let allowed = format!("write a number of hours, from 0.0167, which is a minute, to {longest}");
    lasts.filter(|lasts| (SHORTEST..=LONGEST).contains(lasts)).ok_or(allowed)
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "write a share: a number from 0 to 1, as 0.35".to_owned())
}
