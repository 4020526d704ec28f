//! `spotalis simulate`: what would become of somebody's own workloads on a described fleet, with Spotalis and without it.
//!
//! Brings the library what it reads, and shows what comes back. Nothing is written anywhere, and nothing is decided here.

mod files;
mod flags;
mod from_cluster;
mod policies;
mod report;
mod unmanaged;

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use spotalis_config::Config;
use spotalis_core::duration;
use spotalis_core::split::Split;
use spotalis_core::steering::OnConflict;
use spotalis_runtime::apiclient::Cluster;
use spotalis_runtime::text::printable;
use spotalis_sim::play::PlayError;
use spotalis_sim::scenario::{Capacity, Installation, Mistakes};
use spotalis_sim::trace::{Scale, Synthetic, Trace};
use spotalis_sim::whatif::{
    Assumptions, Complaints, DISK, Fits, Fleet, Impossible, Inventory, Misfit, Need, Objective, Question, Weather,
    Workload, counted, fits, run as play,
};

pub use self::flags::SimulateArgs;
use self::flags::{CapacityArgs, FleetArgs};
pub use self::from_cluster::There;
use self::report::{Report, Terms, WorkloadReport};
use crate::args::{Environment, Output};
use crate::exit::{Exit, talk};
use crate::table::{self, Palette};
use crate::view::ViewError;

/// Where manifests are that name no namespace.
const NAMESPACE: &str = "default";
/// Of how many nodes a trace is written where nobody says it.
const WHOLE: u32 = 100;
/// Keys of the configuration that mean nothing to simulated replicas: where they listen, whom they tell, how they lead.
const OUTWARD: [&str; 10] = [
    "webhook.",
    "health.",
    "metrics.",
    "logging.",
    "prices.",
    "notifications.",
    "interruption.",
    "controller.leaderElection.",
    "controller.apiClient.",
    "nodeLabels.",
];
/// From so many replicas on it is said how large that is.
const LARGE: u32 = 1_000;
/// What a replica takes while a run is under way, as it was measured: its versions of the last ten minutes, and who watches it.
const KIB_OF_A_REPLICA: u32 = 160;
/// Those among them that mean something to somebody who simulates.
const MISSED: [(&str, &str); 4] = [
    ("nodeLabels.preset", "the nodes are labelled as Karpenter does it"),
    ("nodeLabels.spot", "the nodes are labelled as Karpenter does it"),
    ("nodeLabels.onDemand", "the nodes are labelled as Karpenter does it"),
    ("webhook.enabled", "the webhook is there"),
];
/// One replica, which has nobody to lead: nothing ends it, and to renew a Lease every two seconds would be most of the work of a
/// simulated day.
const ALONE: [(&str, &str); 1] = [("controller.leaderElection.enabled", "false")];
/// Keys that are taken over although their section is not.
const INWARD: [&str; 1] = ["webhook.onConflict"];

/// Why nothing can be simulated.
#[derive(Debug, thiserror::Error)]
pub enum SimulateError {
    /// A file cannot be read.
    #[error("{} cannot be read: {source}", .path.display())]
    Unreadable {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is no text.
    #[error("{}:{line}: this is no UTF-8 text; manifests are YAML or JSON", .path.display())]
    NoText {
        /// Which one.
        path: PathBuf,
        /// Where.
        line: usize,
    },
    /// A file is longer than any manifest.
    #[error("{} is longer than {most} MiB; take a part of it", .path.display())]
    TooLong {
        /// Which one.
        path: PathBuf,
        /// In MiB.
        most: u64,
    },
    /// There are no files.
    #[error("there is no manifest in {0}: files that end with .yaml, .yml or .json are looked at")]
    NoFiles(String),
    /// There is nothing in them.
    #[error("there is nothing in {0}: name files with Deployments or StatefulSets")]
    NoManifests(String),
    /// The manifests are wrong.
    #[error("{0}")]
    Manifests(Complaints),
    /// The trace is neither known nor a file.
    #[error(
        "there is no trace and no file {}: use {}, or a file with {{\"metadata\": {{\"gap_seconds\": N}}, \"data\": [...]}}",
        .0.display(), Synthetic::ALL.map(Synthetic::name).join(", ")
    )]
    NoTrace(PathBuf),
    /// The trace is wrong.
    #[error("{0}")]
    Trace(Mistakes),
    /// The fleet is impossible.
    #[error("{0}")]
    Fleet(Impossible),
    /// Nothing could ever run on it.
    #[error("{}", .0.iter().map(|misfit| format!("{}: {}", never(misfit), misfit.advice)).collect::<Vec<_>>().join("\n"))]
    NothingFits(Vec<Misfit>),
}

/// What a cluster has of what can be simulated.
pub async fn from_cluster(args: &SimulateArgs, cluster: &Cluster, config: &Config) -> Result<There, ViewError> {
    from_cluster::read(cluster, config, args.namespace.as_deref()).await
}

/// Simulates the manifests that are named and those that were read from a cluster.
pub fn run(args: &SimulateArgs, there: There, config: &Config, environment: &Environment) -> anyhow::Result<Exit> {
    if args.capacity.print_trace {
        return refused_or(print_trace(args));
    }
    let prepared = match Prepared::of(args, there, config) {
        Ok(prepared) => prepared,
        Err(error) => return Ok(refuse(&error)),
    };
    let Prepared { question, terms, inventory, wanted } = prepared;
    let runs = simulate(&question)?;
    let report = Report::of(terms, &inventory.workloads, &wanted, &question.objectives, runs);
    let palette = Palette::of(args.look, environment);
    let wide = args.look.output == Output::Wide;
    table::present(&report, args.look, |out| report.write(out, palette, wide))?;
    for WorkloadReport { workload, never_whole, .. } in &report.workloads {
        never_whole.iter().for_each(|it| note(&format!("{workload}, {}", it.in_words(report.runs.len()))));
    }
    Ok(match report.first_miss() {
        Some(seed) => {
            note(&format!(
                "an objective was missed; the same with --seed {seed} --runs 1 plays the first such run again"
            ));
            Exit::Found
        }
        None => Exit::Fine,
    })
}

fn note(text: &str) {
    talk(&format!("note: {}", printable(text)));
}

fn refused_or(outcome: anyhow::Result<Exit>) -> anyhow::Result<Exit> {
    outcome.or_else(|error| error.downcast::<SimulateError>().map(|error| refuse(&error)))
}

/// Says what is wrong, a line each.
fn refuse(error: &SimulateError) -> Exit {
    error.to_string().lines().for_each(|line| talk(&format!("error: {}", printable(line))));
    Exit::Usage
}

/// Everything that is needed.
struct Prepared {
    question: Question,
    terms: Terms,
    inventory: Inventory,
    wanted: Vec<policies::Wanted>,
}

impl Prepared {
    fn of(args: &SimulateArgs, there: There, config: &Config) -> Result<Self, SimulateError> {
        let SimulateArgs { filenames, namespace, ready_after, fleet, capacity, runs, lasts, seed, spot_price, .. } =
            args;
        let There { manifests, nodes } = there;
        let manifests = manifests.into_iter().chain(files::manifests(filenames)?).collect();
        let namespace = namespace.clone().unwrap_or_else(|| NAMESPACE.to_owned());
        let assumptions = Assumptions { namespace, ready_after: *ready_after };
        let inventory = Inventory::of(manifests, &assumptions).map_err(SimulateError::Manifests)?;
        let wanted = policies::wanted(&inventory, config);
        let needs: Vec<Need> =
            inventory.workloads.iter().zip(&wanted).map(|(workload, wanted)| wanted.need(workload)).collect();
        let lasts = *lasts;
        let wish = fleet.wish(nodes);
        let fleet = Fleet::of(&wish, &needs).map_err(SimulateError::Fleet)?;
        let Fits { misfits, only } = fits(&inventory.objects, &fleet);
        let weather = weather(capacity, fleet.spot)?;
        introduce(&inventory, &wanted);
        unmanaged::notes(&inventory, &wanted, config.opt_in.mode).iter().for_each(|text| note(text));
        let spotalis = installation(config);
        let wanted_at_all = inventory.workloads.iter().filter(|workload| workload.replicas > 0).count();
        if !misfits.is_empty() && misfits.len() == wanted_at_all {
            return Err(SimulateError::NothingFits(misfits));
        }
        let trace_scale = match &weather {
            Weather::Synthetic(_) => None,
            Weather::Seen(_, scale) => Some(*scale),
        };
        let trace = capacity.trace.display().to_string();
        if wish.nodes.is_none() {
            let Fleet { spot, on_demand, cpu, memory, .. } = &fleet;
            let why =
                if wish.seen.is_empty() { "for what the workloads ask for" } else { "on average as in the cluster" };
            note(&format!(
                "the fleet is {spot} spot and {on_demand} on-demand nodes of {cpu} CPU, {memory} and {DISK} of disk, {why}; --nodes says another"
            ));
        }
        misfits.iter().for_each(|misfit| note(&never(misfit)));
        if spotalis_instance::rules(config).on_conflict == OnConflict::Respect {
            pinned(&inventory, &wanted, &only).iter().for_each(|text| note(text));
        }
        let replicas = inventory.workloads.iter().map(|workload| workload.replicas).sum();
        size(replicas, *runs, cores()).iter().for_each(|text| note(text));
        say_trace(&weather, &trace, fleet.spot, lasts);
        let objectives = args
            .max_unavailable
            .map(Objective::MaxUnavailable)
            .into_iter()
            .chain(args.min_ready.map(Objective::MinReady))
            .collect();
        let terms = Terms {
            fleet: fleet.clone(),
            trace,
            trace_scale,
            hours: lasts.as_secs_f64() / 3_600.0,
            seed: *seed,
            spot_price: *spot_price,
        };
        let question = Question {
            objects: inventory.objects.clone(),
            fleet,
            weather,
            spotalis,
            lasts,
            seed: *seed,
            runs: *runs,
            objectives,
            spot_price: *spot_price,
        };
        Ok(Self { question, terms, inventory, wanted })
    }
}

fn never(Misfit { workload, why, advice: _ }: &Misfit) -> String {
    format!("{workload} can never run on this fleet: {why}")
}

/// Workloads whose templates leave one type to them although their policies want the other as well.
fn pinned(inventory: &Inventory, wanted: &[policies::Wanted], only: &BTreeMap<String, Capacity>) -> Vec<String> {
    let all = inventory.workloads.iter().zip(wanted);
    let told = all.filter_map(|(Workload { name, replicas, .. }, wanted)| {
        let (capacity, Split { spot, on_demand }) = (only.get(name)?, wanted.split(*replicas)?);
        let elsewhere = if *capacity == Capacity::Spot { on_demand } else { spot };
        (elsewhere > 0).then(|| {
            format!(
                "{name} can run only on {capacity} nodes, whatever its policy wants: its own template decides, by its node \
                 selector, affinity or what it does not tolerate"
            )
        })
    });
    told.collect()
}

/// Says what is left out and what is assumed.
fn introduce(inventory: &Inventory, wanted: &[policies::Wanted]) {
    let Inventory { workloads: _, namespaces: _, objects: _, skipped, notes } = inventory;
    if !skipped.is_empty() {
        let kinds: Vec<String> = counted(skipped).collect();
        note(&format!("skipped, for they are not simulated: {}", kinds.join(", ")));
    }
    notes.iter().chain(wanted.iter().flat_map(|wanted| &wanted.notes)).for_each(|text| note(text));
}

/// Says how a trace of somebody's is taken.
fn say_trace(weather: &Weather, name: &str, spot: u32, lasts: Duration) {
    let Weather::Seen(trace, scale) = weather else { return };
    let largest = trace.largest();
    note(&match scale {
        Scale::Nodes => format!("the numbers of {name} are taken for nodes, of which there are {spot}"),
        Scale::Largest => format!("the numbers of {name} are taken for shares: {largest} are all {spot} nodes"),
    });
    let (fractions, above) = trace.cut(spot, *scale);
    if fractions > 0 {
        note(&format!("{fractions} numbers of {name} are no whole number of nodes: what is behind the point is cut"));
    }
    if above > 0 {
        note(&format!("{above} numbers of {name} are above {spot}, and are taken for all {spot} nodes"));
    }
    let long = duration::format(trace.lasts());
    if trace.lasts() > lasts {
        note(&format!("{name} lasts {long}: in each run another part of it is played"));
    } else if trace.lasts() < lasts {
        note(&format!("{name} lasts {long}: it is played again and again"));
    }
}

/// What the trace that is named says for so many spot nodes.
fn weather(capacity: &CapacityArgs, spot: u32) -> Result<Weather, SimulateError> {
    let CapacityArgs { trace: path, trace_scale, print_trace: _ } = capacity;
    if let Some(kind) = path.to_str().and_then(Synthetic::called) {
        return Ok(Weather::Synthetic(kind));
    }
    if path != Path::new("-") && !path.exists() {
        return Err(SimulateError::NoTrace(path.clone()));
    }
    let trace = Trace::read(&path.display().to_string(), &files::text(path)?).map_err(SimulateError::Trace)?;
    let scale = trace_scale.map_or_else(|| trace.scale(spot), Scale::from);
    Ok(Weather::Seen(trace, scale))
}

fn print_trace(args: &SimulateArgs) -> anyhow::Result<Exit> {
    let SimulateArgs { fleet, capacity, lasts, seed, .. } = args;
    let FleetArgs { nodes, .. } = fleet;
    let spot = match nodes {
        Some(_) => Fleet::of(&fleet.wish(Vec::new()), &[]).map_err(SimulateError::Fleet)?.spot,
        None => WHOLE,
    };
    let trace = weather(capacity, spot)?.trace(*seed, spot, *lasts);
    table::to_stdout(|out| writeln!(out, "{}", trace.to_json()))?;
    Ok(Exit::Fine)
}

/// Spotalis as it is configured, as far as that means something in a simulation.
fn installation(config: &Config) -> Installation {
    let (configured, unchanged) = (config.to_json(), Config::defaults().to_json());
    let at = |value: &serde_json::Value, path: &str| {
        value.pointer(&format!("/{}", path.replace('.', "/"))).cloned().unwrap_or_default()
    };
    let alone = ALONE.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let mut installation = Installation { replicas: 1, settings: alone.into() };
    for key in spotalis_config::keys() {
        let value = at(&configured, &key.path);
        if value == at(&unchanged, &key.path) {
            continue;
        }
        if let Some((_, instead)) = MISSED.iter().find(|(path, _)| *path == key.path) {
            note(&format!("{} of the configuration is not simulated: {instead}", key.path));
        }
        let outward = OUTWARD.iter().any(|section| key.path.starts_with(section)) && !INWARD.contains(&&*key.path);
        if outward || value.is_null() {
            continue;
        }
        // Lists and maps are YAML flow in a variable, which JSON is.
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        installation.settings.insert(key.path, text);
    }
    installation
}

/// How large it is, if it is large.
fn size(replicas: u32, runs: u32, cores: usize) -> Option<String> {
    let at_once = cores.min(2 * runs as usize);
    let each = replicas * KIB_OF_A_REPLICA / 1_024;
    let words = "replicas are many: expect minutes, and";
    (replicas >= LARGE)
        .then(|| format!("{replicas} {words} {each} MiB of memory for each of {at_once} clusters at once"))
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Plays the runs on all cores, with a bar on a terminal.
fn simulate(question: &Question) -> Result<Vec<spotalis_sim::whatif::Run>, PlayError> {
    let all = question.lasts.as_secs() * 2 * u64::from(question.runs);
    let target = if io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(Some(all * 1_000), target);
    bar.set_style(
        ProgressStyle::with_template("simulating {bar:40} {percent}%, {eta} left").expect("the template is constant"),
    );
    let runs = play(question, cores(), &|time| bar.inc(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)));
    bar.finish_and_clear();
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_large_is_told_before_it_runs() {
        assert_eq!(size(999, 5, 8), None);
        let told = "4000 replicas are many: expect minutes, and 625 MiB of memory for each of 2 clusters at once";
        assert_eq!(size(4_000, 1, 8).as_deref(), Some(told));
        assert!(size(1_000, 5, 4).unwrap().ends_with("each of 4 clusters at once"));
    }
}
