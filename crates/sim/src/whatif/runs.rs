//! The runs: each with a trace of its own and victims of its own, played with Spotalis and without it.
//!
//! A run is one thread's; which thread it is and when it comes changes nothing. The results are in the order of the seeds.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use embedded_cluster::object::Object;
use embedded_cluster::resource::Kind;
use embedded_cluster::store::{Key, Store};
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::Value;

use super::machines::{Fleet, SPOT};
use super::objective::{Miss, Objective};
use super::outcome::{Figures, Stuck};
use crate::embedded;
use crate::play::{PlayError, Terms};
use crate::record::Record;
use crate::scenario::{Installation, Scenario};
use crate::summary::{Summary, WorkloadSummary};
use crate::trace::{Scale, Synthetic, Trace, events};

/// What spot capacity does.
#[derive(Clone, Debug, PartialEq)]
pub enum Weather {
    /// What a seed makes up.
    Synthetic(Synthetic),
    /// What somebody saw.
    Seen(Trace, Scale),
}

impl Weather {
    /// The trace of a seed for so many spot nodes, in nodes.
    pub fn trace(&self, seed: u64, nodes: u32, lasts: Duration) -> Trace {
        match self {
            Self::Synthetic(kind) => kind.trace(seed, nodes, lasts),
            Self::Seen(trace, scale) => {
                let counts = trace.nodes(nodes, *scale);
                let trace = Trace { gap: trace.gap, available: counts.into_iter().map(f64::from).collect() };
                trace.window(seed, lasts)
            }
        }
    }
}

/// What is asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// What is created, namespaces first.
    pub objects: Vec<Value>,
    /// The nodes.
    pub fleet: Fleet,
    /// What becomes of the spot nodes.
    pub weather: Weather,
    /// How Spotalis is installed.
    pub spotalis: Installation,
    /// How long a run is looked at.
    pub lasts: Duration,
    /// The seed of the first run; each further one has the next.
    pub seed: u64,
    /// How many runs.
    pub runs: u32,
    /// What is asked of the workloads.
    pub objectives: Vec<Objective>,
    /// The price of spot as a share of that of on-demand.
    pub spot_price: f64,
}

/// A run: the same days twice.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Run {
    /// What decides it.
    pub seed: u64,
    /// With Spotalis.
    pub with: Side,
    /// Without it.
    pub without: Side,
}

/// One of the two.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Side {
    /// The workloads, by name.
    pub workloads: Vec<Figures>,
    /// Those that were never whole, and why.
    pub stuck: Vec<Stuck>,
    /// Objectives that were missed.
    pub missed: Vec<Miss>,
    /// Node-hours on spot nodes.
    pub spot_node_hours: f64,
    /// Node-hours on on-demand nodes.
    pub on_demand_node_hours: f64,
}

/// One of the two as it was played.
struct Played {
    record: Record,
    /// What waited when the time was over.
    waiting: Vec<Stuck>,
}

/// Plays all runs on so many threads. `progress` hears of simulated time as it passes, from any of them.
pub fn run(question: &Question, threads: usize, progress: &(dyn Fn(Duration) + Sync)) -> Result<Vec<Run>, PlayError> {
    let jobs: Vec<(u64, bool)> = (0..question.runs)
        .flat_map(|run| [true, false].map(|with| (question.seed.wrapping_add(run.into()), with)))
        .collect();
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Done::default()));
    std::thread::scope(|scope| {
        for _ in 0..threads.clamp(1, jobs.len().max(1)) {
            scope.spawn(|| {
                while let Some(((seed, with), number)) = {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    jobs.get(number).map(|job| (*job, number))
                } {
                    match played(question, Terms { seed, with_spotalis: with }, progress) {
                        Ok(played) => done.lock().add(question, number, seed, played),
                        Err(error) => {
                            next.store(jobs.len(), Ordering::Relaxed);
                            done.lock().failed.get_or_insert(error);
                        }
                    }
                }
            });
        }
    });
    let Done { halves: _, runs, failed } = done.into_inner();
    failed.map_or_else(|| Ok(runs.into_values().collect()), Err)
}

/// What was played so far. Of a run only what is shown of it is kept, once both of its sides are there.
#[derive(Default)]
struct Done {
    /// Sides of which the other is not there yet, by the number of their job.
    halves: BTreeMap<usize, Played>,
    runs: BTreeMap<usize, Run>,
    failed: Option<PlayError>,
}

impl Done {
    /// Jobs come in pairs: with Spotalis and, next, without it.
    fn add(&mut self, question: &Question, number: usize, seed: u64, played: Played) {
        let Some(other) = self.halves.remove(&(number ^ 1)) else {
            self.halves.insert(number, played);
            return;
        };
        let (with, without) = if number.is_multiple_of(2) { (played, other) } else { (other, played) };
        self.runs.insert(number / 2, Run::of(question, seed, with, without));
    }
}

fn scenario(question: &Question, seed: u64) -> Scenario {
    let Question { objects, fleet, weather, spotalis, lasts, .. } = question;
    let trace = weather.trace(seed, fleet.spot, *lasts);
    Scenario {
        name: "simulate".to_owned(),
        about: String::new(),
        lasts: *lasts,
        spotalis: spotalis.clone(),
        nodes: fleet.groups(),
        workloads: Vec::new(),
        objects: objects.clone(),
        events: events(SPOT, fleet.spot, &trace.nodes(fleet.spot, Scale::Nodes), trace.gap),
        expect: Vec::new(),
        only_embedded: None,
        differs: None,
    }
}

fn played(question: &Question, terms: Terms, progress: &(dyn Fn(Duration) + Sync)) -> Result<Played, PlayError> {
    let scenario = scenario(question, terms.seed);
    let mut told = Duration::ZERO;
    let mut advance = |at: Duration| {
        // Often enough for whoever watches.
        let passed = at.saturating_sub(told);
        if passed >= Duration::from_mins(1) {
            progress(passed);
            told = at;
        }
    };
    let (record, waiting) = embedded::run_and_look(&scenario, terms, |at, _| advance(at), waiting)?;
    progress(question.lasts.saturating_sub(told));
    Ok(Played { record, waiting })
}

impl Run {
    fn of(question: &Question, seed: u64, with: Played, without: Played) -> Self {
        let (ours, theirs) = Summary::of_both(&with.record, &without.record);
        Self { seed, with: Side::of(question, with, &ours), without: Side::of(question, without, &theirs) }
    }
}

impl Side {
    fn of(question: &Question, played: Played, summary: &Summary) -> Self {
        let Played { record, waiting } = played;
        let mut stuck = Vec::new();
        for WorkloadSummary { workload, last, .. } in summary.workloads.iter().filter(|it| it.whole_after.is_none()) {
            let told = waiting.iter().filter(|stuck| stuck.workload == *workload);
            stuck.extend(told.cloned());
            if waiting.iter().all(|stuck| stuck.workload != *workload) {
                let why = format!("{} of {} were ready when the time was over", last.ready.total(), last.wanted);
                stuck.push(Stuck { workload: workload.clone(), pods: 0, why });
            }
        }
        Self {
            workloads: summary.workloads.iter().map(|workload| Figures::of(workload, question.spot_price)).collect(),
            stuck,
            missed: question.objectives.iter().flat_map(|objective| objective.missed(&record, summary)).collect(),
            spot_node_hours: super::outcome::rounded(summary.spot_node_hours),
            on_demand_node_hours: super::outcome::rounded(summary.other_node_hours),
        }
    }
}

/// Pods that are not ready, and why, and workloads that could not create theirs.
fn waiting(store: &Store) -> Vec<Stuck> {
    let mut counts: BTreeMap<(String, String), u32> = BTreeMap::new();
    let pods = store.list(Kind::Pod, None).filter(|pod| pod.deletion().is_none() && !pod.has_condition("Ready"));
    for pod in pods {
        let Some(workload) = workload_of(store, pod) else { continue };
        let told = if pod.node().is_empty() { "PodScheduled" } else { "Ready" };
        let is_nowhere = !pod.node().is_empty() && store.get(&Key::new(Kind::Node, "", pod.node())).is_none();
        let why = pod.condition(told).and_then(|condition| condition["message"].as_str());
        let why = match why {
            _ if is_nowhere => format!("there is no node {}, by which its template wants to be run", pod.node()),
            why => why.unwrap_or("nobody says why").to_owned(),
        };
        *counts.entry((workload, why)).or_default() += 1;
    }
    for kind in [Kind::Deployment, Kind::StatefulSet] {
        for workload in store.list(kind, None) {
            let refused = workload.condition("ReplicaFailure").and_then(|condition| condition["message"].as_str());
            if let Some(why) = refused {
                counts.entry((format!("{}/{}", workload.namespace(), workload.name()), why.to_owned())).or_default();
            }
        }
    }
    counts.into_iter().map(|((workload, why), pods)| Stuck { workload, pods, why }).collect()
}

/// The workload of a pod, as `NAMESPACE/NAME`.
fn workload_of(store: &Store, pod: &Object) -> Option<String> {
    let owner = pod.controller()?;
    let name = match owner.kind {
        "ReplicaSet" => {
            let set = store.get(&Key::new(Kind::ReplicaSet, pod.namespace(), owner.name))?;
            set.controller()?.name.to_owned()
        }
        _ => owner.name.to_owned(),
    };
    Some(format!("{}/{name}", pod.namespace()))
}

#[cfg(test)]
mod tests;
