//! Runs a plan: the world, the processes, what happens, and the rest afterwards; then looks whether everything came to rest
//! where it should.

use std::collections::BTreeMap;
use std::time::Duration;

use embedded_cluster::controllers::kubelet::CRASH_AFTER;
use embedded_cluster::resource::Kind;
use jiff::SignedDuration;
use serde_json::json;
use spotalis_config::{Config, Sources, variable};
use spotalis_runtime::Clock;
use tokio::time::{Instant, sleep, sleep_until};

use crate::embedded::in_no_time;
use crate::fault::{Call, Fault};
use crate::judge::{self, Eviction, Facts, Judge, Rules, fold};
use crate::panics::noted;
use crate::plan::{Event, Plan, Workload, pdb};
use crate::process::{Process, identity};
use crate::requests::Requests;
use crate::wire::Exchange;
use crate::world::{NAMESPACE, World};

/// Until a process that ended has a successor.
const RESTART: Duration = Duration::from_secs(3);
/// In the last part of a run nothing may be moved any more.
const QUIET: Duration = Duration::from_mins(10);
/// By this a pod asks to be left where it is.
const KEPT: &str = "karpenter.sh/do-not-disrupt";
/// How often it is looked whether all is at rest.
const LOOK: Duration = Duration::from_mins(1);
/// After the last thing that happened, pods are started and stopped, and moves begin, within that.
const PROMPT: Duration = Duration::from_mins(10);
/// After a fault Spotalis does not trust the webhook for so long, at most.
const DISTRUST: Duration = Duration::from_mins(30);
/// What a move takes besides the cooldown and the time in which a pod becomes ready.
const MOVE: Duration = Duration::from_secs(30);

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What was wrong; nothing, if all is well.
    pub wrongs: Vec<String>,
    /// The evictions.
    pub evictions: Vec<Eviction>,
    /// What went wrong with which request, as it was planned.
    pub faults: Vec<(Call, Fault)>,
    /// All requests of the processes.
    pub calls: Vec<Call>,
    /// The number of the last of them that something could go wrong with.
    pub calm_after: u64,
    /// How long after that every workload was where it should be, for good; absent, one never was.
    pub rested_after: Option<Duration>,
    /// Differs if anything that happened differs.
    pub digest: u64,
    /// Changes of the store.
    pub changes: u64,
    /// Simulated time.
    pub took: Duration,
}

/// Runs a plan to its end, on this thread.
pub fn run(plan: &Plan) -> Outcome {
    let (mut outcome, panics) = noted(&format!("the run of seed {}", plan.seed), || in_no_time(live(plan)));
    outcome.wrongs.extend(panics.into_iter().map(|panic| format!("P14: {panic}")));
    outcome
}

struct Run {
    world: World,
    exchange: Exchange,
    judge: Judge,
    config: Config,
    processes: BTreeMap<u32, Process>,
    clocks: [i64; 3],
    clock_set: Option<(Duration, i64)>,
    /// The number of the last request before everything became calm.
    calm_after: u64,
    rested_after: Option<Duration>,
    started: u32,
    begun: Instant,
}

async fn live(plan: &Plan) -> Outcome {
    let begun = Instant::now();
    let config = configuration(plan);
    let requests = Requests::new(plan.faults.fate());
    let world = World::new(plan.seed, &config, requests.clone()).await;
    let judge = Judge::of(&world.cluster, requests.clone(), Rules::of(&config));
    let exchange = Exchange::new(world.cluster.clone(), Some(judge.clone()), requests);
    let mut run = Run {
        world,
        exchange,
        judge,
        config,
        processes: BTreeMap::new(),
        clocks: plan.clocks,
        clock_set: plan.clock_set,
        calm_after: 0,
        rested_after: None,
        started: 0,
        begun,
    };
    run.begin(plan).await;
    run.go_on(plan).await;
    run.rest(plan).await;
    run.close()
}

/// As somebody sets it in the environment.
fn configuration(plan: &Plan) -> Config {
    let rounding = serde_json::to_value(plan.rounding).expect("a word");
    let environment = [
        ("controller.cooldown", format!("{}ms", plan.cooldown.as_millis())),
        ("controller.maxConcurrentDisruptions", plan.limit.to_string()),
        ("controller.apiClient.qps", plan.qps.to_string()),
        ("controller.apiClient.burst", (2 * plan.qps).to_string()),
        ("distribution.rounding", rounding.as_str().unwrap_or_default().to_owned()),
    ];
    let environment = environment.into_iter().map(|(key, value)| (variable(key), value)).collect();
    Config::load(&Sources { environment, ..Sources::default() }).expect("a plan keeps within the bounds of every key")
}

impl Run {
    async fn begin(&mut self, plan: &Plan) {
        let (nodes, room) = plan.nodes;
        for number in 0..nodes {
            self.world.add_node(&format!("spot-{number}"), "spot", room).await;
            self.world.add_node(&format!("on-demand-{number}"), "on-demand", room).await;
        }
        if plan.head_start.is_none() {
            self.create(&plan.workloads).await;
            sleep(Duration::from_secs(15)).await;
        }
        for _ in 0..plan.processes {
            self.start();
        }
        if let Some(head_start) = plan.head_start {
            sleep(head_start).await;
            self.create(&plan.workloads).await;
        }
    }

    async fn create(&self, workloads: &[Workload]) {
        for object in workloads.iter().flat_map(Workload::objects) {
            self.world.create(object).await;
        }
    }

    fn start(&mut self) {
        self.started += 1;
        let number = self.started;
        self.judge.knows(number, &identity(number));
        let ahead = SignedDuration::from_millis(self.clocks[number as usize % self.clocks.len()]);
        let mut clock = Clock::starting_at(self.world.cluster.now() + ahead);
        if let Some((after, millis)) = self.clock_set {
            clock = clock.set_after(after, SignedDuration::from_millis(millis));
        }
        let process = Process::start(number, &self.exchange, &self.config, clock, &self.world.doors);
        self.disturb();
        self.processes.insert(number, process);
    }

    /// A process comes or goes: who decides where pods go may be another, or nobody for a moment.
    fn disturb(&self) {
        self.world.doors.requests().disturb();
    }

    /// The events, and successors for processes that end.
    async fn go_on(&mut self, plan: &Plan) {
        let mut events = plan.events.iter();
        let mut next = events.next();
        let mut restarts: Vec<Instant> = Vec::new();
        while let Some((at, event)) = next {
            let due = self.begun + *at;
            let restart = restarts.iter().min().copied();
            tokio::select! {
                biased;
                number = died(&self.processes) => {
                    self.processes.remove(&number);
                    restarts.push(Instant::now() + RESTART);
                }
                () = until(restart) => {
                    restarts.retain(|at| Some(*at) != restart);
                    self.start();
                }
                () = sleep_until(due) => {
                    if self.happens(event).await {
                        restarts.push(Instant::now() + RESTART);
                    }
                    next = events.next();
                }
            }
        }
        sleep_until(self.begun + plan.calm_at).await;
        self.calm_after = self.world.doors.requests().calls().len() as u64;
        self.world.doors.requests().calm();
        // Those that died in the last moment have successors as well.
        while let Some(number) = self.processes.iter().find(|(_, one)| one.is_dead()).map(|(number, _)| *number) {
            self.processes.remove(&number);
        }
        while self.processes.len() < plan.processes as usize {
            self.start();
        }
    }

    /// Whether a process ended by it.
    async fn happens(&mut self, event: &Event) -> bool {
        let world = &self.world;
        match event {
            Event::Scale(name, replicas) => self.change(name, json!({"spec": {"replicas": replicas}})).await,
            Event::Restart(name, number) => {
                let metadata = json!({"annotations": {"restarted": number.to_string()}});
                self.change(name, json!({"spec": {"template": {"metadata": metadata}}})).await;
            }
            Event::Percentage(name, value) => self.annotate(name, "spot-percentage", value.as_deref()).await,
            Event::Floor(name, value) => self.annotate(name, "min-on-demand", Some(value)).await,
            Event::OptIn(name, opted_in) => {
                let value = opted_in.then_some("true");
                self.change(name, json!({"metadata": {"labels": {"spotalis.io/enabled": value}}})).await;
            }
            Event::DeletePod(name, number) => {
                if let Some(pod) = self.pod(name, *number) {
                    world.delete(Kind::Pod, NAMESPACE, &pod).await;
                }
            }
            Event::Sicken(name, number) => {
                if let Some(pod) = self.pod(name, *number) {
                    self.mark(&pod, CRASH_AFTER, Some("1s")).await;
                }
            }
            Event::Keep(name, number) => {
                if let Some(pod) = self.pod(name, *number) {
                    self.mark(&pod, KEPT, Some("true")).await;
                }
            }
            Event::Heal => {
                for pod in world.names(Kind::Pod, Some(NAMESPACE)) {
                    self.mark(&pod, CRASH_AFTER, None).await;
                    self.mark(&pod, KEPT, None).await;
                }
            }
            Event::Pause(name, paused) => {
                world.change(Kind::Deployment, NAMESPACE, name, &json!({"spec": {"paused": paused}})).await;
            }
            Event::Reclaim(number, spot) => self.reclaim(*number, *spot),
            Event::Cordon(number, closed) => {
                let nodes = world.names(Kind::Node, None);
                if let Some(node) = nodes.get(*number as usize % nodes.len().max(1)) {
                    world.change(Kind::Node, "", node, &json!({"spec": {"unschedulable": closed}})).await;
                }
            }
            Event::Block(name, there) => {
                let budget = format!("{name}-blocked");
                world.delete(Kind::PodDisruptionBudget, NAMESPACE, &budget).await;
                if *there {
                    world.create(pdb(&budget, name, json!({"maxUnavailable": 0}))).await;
                }
            }
            Event::Replace(number) => {
                self.disturb();
                if let Some(process) = self.take(*number) {
                    // It takes its time, in which other things happen.
                    tokio::spawn(process.end());
                    return true;
                }
            }
            Event::Crash(number) => {
                self.disturb();
                return self.take(*number).is_some();
            }
            Event::CutOff(number, seconds) => self.cut_off(*number, *seconds, false),
            Event::Silence(number, seconds) => self.cut_off(*number, *seconds, true),
            Event::StandStill(number, seconds) => {
                if let Some(process) = self.chosen(*number).and_then(|number| self.processes.get(&number)) {
                    process.stand_still(Duration::from_secs((*seconds).into()));
                }
            }
        }
        false
    }

    fn cut_off(&self, number: u32, seconds: u32, silent: bool) {
        if let Some(process) = self.chosen(number) {
            self.world.doors.requests().cut_off(process, Duration::from_secs(seconds.into()), silent);
        }
    }

    /// The so-manieth pod of a workload.
    fn pod(&self, workload: &str, number: u32) -> Option<String> {
        let mut pods = self.world.names(Kind::Pod, Some(NAMESPACE));
        pods.retain(|pod| pod.starts_with(&format!("{workload}-")));
        pods.get(number as usize % pods.len().max(1)).cloned()
    }

    async fn mark(&self, pod: &str, annotation: &str, value: Option<&str>) {
        let annotations = json!({annotation: value});
        self.world.change(Kind::Pod, NAMESPACE, pod, &json!({"metadata": {"annotations": annotations}})).await;
    }

    /// The so-manieth process that runs.
    fn chosen(&self, number: u32) -> Option<u32> {
        self.processes.keys().nth(number as usize % self.processes.len().max(1)).copied()
    }

    fn take(&mut self, number: u32) -> Option<Process> {
        let chosen = self.chosen(number)?;
        self.processes.remove(&chosen)
    }

    async fn change(&self, name: &str, patch: serde_json::Value) {
        for kind in [Kind::Deployment, Kind::StatefulSet] {
            self.world.change(kind, NAMESPACE, name, &patch).await;
        }
    }

    async fn annotate(&self, name: &str, key: &str, value: Option<&str>) {
        self.change(name, json!({"metadata": {"annotations": {format!("spotalis.io/{key}"): value}}})).await;
    }

    fn reclaim(&self, number: u32, spot: bool) {
        let prefix = if spot { "spot-" } else { "on-demand-" };
        let nodes = self.world.names(Kind::Node, None);
        let nodes: Vec<String> = nodes.into_iter().filter(|node| node.starts_with(prefix)).collect();
        let Some(node) = nodes.get(number as usize % nodes.len().max(1)).cloned() else { return };
        let world = self.world.clone();
        tokio::spawn(async move {
            world.reclaim(&node, Duration::ZERO).await;
            sleep(Duration::from_secs(30)).await;
            let (capacity, successor) = (prefix.trim_end_matches('-'), format!("{node}x"));
            // It may have been taken back twice before it was gone.
            if !world.names(Kind::Node, None).contains(&successor) {
                world.add_node(&successor, capacity, 60).await;
            }
        });
    }

    /// Nothing happens any more; everything has to come to rest, in a time that follows from how much is to be moved. Where
    /// it has, and nothing stirs, nothing but Leases would change until the end.
    async fn rest(&mut self, plan: &Plan) {
        let (calm, begun, patience) = (self.world.cluster.now(), Instant::now(), self.patience(plan));
        // Whoever comes to rest in the last moment has to stay there as well.
        let is_over = |rested: Option<Duration>| {
            let until = patience.max(plan.stillness).max(rested.map_or(Duration::ZERO, |rested| rested + QUIET));
            begun.elapsed() >= until
        };
        while !is_over(self.rested_after) {
            self.rested_after = match self.rested_after {
                _ if !self.unbalanced().is_empty() => None,
                None => Some(begun.elapsed()),
                since => since,
            };
            let still = self.world.cluster.now().duration_since(self.judge.still_since().max(calm)).unsigned_abs();
            if self.rested_after.is_some() && still >= plan.stillness && self.restless().is_empty() {
                break;
            }
            sleep(LOOK).await;
        }
        // It may have been so since the look before.
        if let Some(after) = self.rested_after.filter(|after| *after > patience + LOOK) {
            self.judge.complain(&format!("P10: all are where they should be only after {after:?}, not {patience:?}"));
        }
    }

    /// In which time everything has to be where it should be: one move after the other, if the limit is one.
    fn patience(&self, plan: &Plan) -> Duration {
        let drift = self.judge.workloads().values().map(Facts::drift).sum::<u32>();
        let slowest = plan.workloads.iter().map(|workload| workload.slow).max().unwrap_or_default();
        let distrust = if plan.is_undisturbed() { Duration::ZERO } else { DISTRUST };
        PROMPT + distrust + (plan.cooldown + slowest + MOVE) * drift
    }

    /// What would be wrong about the workloads if this were the end.
    fn unbalanced(&self) -> Vec<String> {
        let managed = self.judge.workloads().into_iter().filter(|(_, facts)| facts.opted_in);
        managed.filter_map(|(workload, facts)| self.what_is_wrong(&workload, &facts)).collect()
    }

    fn what_is_wrong(&self, workload: &judge::Workload, facts: &Facts) -> Option<String> {
        let name = &workload.name;
        let untold = |reason: &str| {
            // One that was refused or lost on its way is not told again, as everybody's.
            let told = self.judge.is_told(workload, reason);
            (!told).then(|| format!("P16: no {reason} is told of {name}: {facts}"))
        };
        if facts.ready() < facts.replicas {
            return Some(format!("P10: {name} is not ready: {facts}"));
        }
        if facts.invalid {
            return untold("InvalidAnnotation");
        }
        if facts.is_exact() {
            let seated = facts.is_seated();
            return (!seated).then(|| format!("P10: {name} is not seated as its next scaling needs: {facts}"));
        }
        match self.judge.blocker(workload) {
            Some(reason) => untold(reason),
            None => Some(format!("P10: {name} is not split as it should be: {facts}")),
        }
    }

    /// What would be wrong about the rest if this were the end.
    fn restless(&self) -> Vec<String> {
        let Self { world, judge, processes, .. } = self;
        let now = world.cluster.now();
        let late =
            judge.evictions().into_iter().filter(|eviction| now.duration_since(eviction.at).unsigned_abs() < QUIET);
        let mut wrongs: Vec<String> =
            late.map(|eviction| format!("P11: {} is still moved at {}", eviction.workload.name, eviction.at)).collect();
        let metric = |process: &Process, name: &str| process.metric(name).expect("a metric that every instance shows");
        for process in processes.values() {
            let left = metric(process, "spotalis_admission_reservations");
            if left > 0.0 {
                wrongs.push(format!("P8: process {} holds {left} reservations", process.number()));
            }
        }
        let leading = processes.values().filter(|process| metric(process, "spotalis_leader") > 0.0).count();
        if leading != 1 {
            wrongs.push(format!("P7: {leading} of {} processes lead", processes.len()));
        }
        wrongs
    }

    fn close(self) -> Outcome {
        self.unbalanced().iter().chain(&self.restless()).for_each(|wrong| self.judge.complain(wrong));
        let Self {
            world,
            exchange: _,
            judge,
            config: _,
            processes: _processes,
            clocks: _,
            clock_set: _,
            calm_after,
            rested_after,
            started: _,
            begun,
        } = self;
        let (calls, faults) = (world.doors.requests().calls(), world.doors.requests().happened());
        let (digest, changes) = judge.digest();
        let asked = calls.iter().fold(digest, |digest, call| fold(digest, format!("{call:?}").as_bytes()));
        let digest = faults.iter().fold(asked, |digest, fault| fold(digest, format!("{fault:?}").as_bytes()));
        Outcome {
            wrongs: judge.wrongs(),
            evictions: judge.evictions(),
            faults,
            calls,
            calm_after,
            rested_after,
            digest,
            changes,
            took: begun.elapsed(),
        }
    }
}

async fn died(processes: &BTreeMap<u32, Process>) -> u32 {
    let deaths = processes.iter().map(|(number, process)| {
        Box::pin(async move {
            process.died().await;
            *number
        })
    });
    let deaths: Vec<_> = deaths.collect();
    if deaths.is_empty() {
        return std::future::pending().await;
    }
    futures::future::select_all(deaths).await.0
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
