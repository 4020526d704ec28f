//! Runs a plan: the world, the processes, what happens, and the rest afterwards; then looks whether everything came to rest
//! where it should.

use std::collections::BTreeMap;
use std::time::Duration;

use embedded_cluster::controllers::kubelet::CRASH_AFTER;
use embedded_cluster::resource::Kind;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use spotalis_config::Config;
use spotalis_runtime::Clock;
use tokio::time::{Instant, sleep, sleep_until};

use crate::fault::{Call, Fault};
use crate::judge::{Eviction, Judge, REST, Rules};
use crate::plan::{Event, Plan, Workload, pdb};
use crate::process::{Process, identity};
use crate::requests::Requests;
use crate::wire::Exchange;
use crate::world::{NAMESPACE, World};

/// Until a process that ended has a successor.
const RESTART: Duration = Duration::from_secs(3);
/// In the last part of a run nothing may be moved any more.
const QUIET: SignedDuration = SignedDuration::from_mins(10);

/// After a process came, went or was cut off, another leads by then and everybody knows.
const SETTLING: Duration = Duration::from_secs(30);
/// How often it is looked whether all is at rest.
const LOOK: Duration = Duration::from_mins(1);

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
    /// Differs if anything that happened differs.
    pub digest: u64,
    /// Changes of the store.
    pub changes: u64,
    /// Simulated time.
    pub took: Duration,
}

/// Runs a plan to its end, on this thread.
pub fn run(plan: &Plan) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O needs nothing of the system");
    let outcome = runtime.block_on(Box::pin(live(plan)));
    // Whatever waits still, nobody waits for.
    runtime.shutdown_background();
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
    started: u32,
    begun: Instant,
}

async fn live(plan: &Plan) -> Outcome {
    let begun = Instant::now();
    let mut config = Config::defaults();
    config.settings.controller.cooldown = plan.cooldown;
    config.settings.controller.max_concurrent_disruptions = plan.limit;
    config.settings.controller.api_client.qps = plan.qps;
    config.settings.controller.api_client.burst = 2 * plan.qps;
    let world = World::new(plan.seed, &config, Requests::new(plan.faults.fate())).await;
    let controller = &config.settings.controller;
    let rules = Rules {
        cooldown: SignedDuration::try_from(controller.cooldown).expect("a short time"),
        limit: controller.max_concurrent_disruptions as usize,
        lease: spotalis_instance::LEASE.to_owned(),
        identities: BTreeMap::new(),
    };
    let judge = Judge::of(&world.cluster, rules);
    let exchange = Exchange::new(world.cluster.clone(), Some(judge.clone()), world.doors.requests().clone());
    let mut run = Run {
        world,
        exchange,
        judge,
        config,
        processes: BTreeMap::new(),
        clocks: plan.clocks,
        clock_set: plan.clock_set,
        calm_after: 0,
        started: 0,
        begun,
    };
    if !plan.faults.are_none() {
        run.judge.disturbed_until(Timestamp::MAX);
    }
    run.begin(plan).await;
    run.go_on(plan).await;
    run.rest(plan).await;
    run.close()
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
        self.disturb(Duration::ZERO);
        self.processes.insert(number, process);
    }

    /// Something that reviews may suffer from lasts for so long, and its consequences a little longer.
    fn disturb(&self, length: Duration) {
        self.judge.disturbed_until(self.world.cluster.now() + length + SETTLING);
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
                    self.sicken(&pod, Some("1s")).await;
                }
            }
            Event::Heal => {
                for pod in world.names(Kind::Pod, Some(NAMESPACE)) {
                    self.sicken(&pod, None).await;
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
                self.disturb(Duration::ZERO);
                if let Some(process) = self.take(*number) {
                    // It takes its time, in which other things happen.
                    tokio::spawn(process.end());
                    return true;
                }
            }
            Event::Crash(number) => {
                self.disturb(Duration::ZERO);
                return self.take(*number).is_some();
            }
            Event::CutOff(number, seconds) => {
                self.disturb(Duration::from_secs((*seconds).into()));
                if let Some(process) = self.chosen(*number) {
                    self.judge.is_in_doubt(process);
                    world.doors.requests().cut_off(process, Duration::from_secs((*seconds).into()));
                }
            }
        }
        false
    }

    /// The so-manieth pod of a workload.
    fn pod(&self, workload: &str, number: u32) -> Option<String> {
        let mut pods = self.world.names(Kind::Pod, Some(NAMESPACE));
        pods.retain(|pod| pod.starts_with(&format!("{workload}-")));
        pods.get(number as usize % pods.len().max(1)).cloned()
    }

    async fn sicken(&self, pod: &str, crashes_after: Option<&str>) {
        let annotations = json!({CRASH_AFTER: crashes_after});
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

    /// Nothing happens any more; everything has to come to rest. Where it has, and nothing stirs, nothing but Leases would
    /// change until the end.
    async fn rest(&mut self, plan: &Plan) {
        let (calm, end) = (self.world.cluster.now(), self.begun + plan.calm_at + REST);
        loop {
            let still = self.world.cluster.now().duration_since(self.judge.still_since().max(calm));
            let missing = plan.stillness.saturating_sub(still.unsigned_abs());
            if Instant::now() >= end || missing.is_zero() && self.unrest().is_empty() {
                return;
            }
            sleep_until(end.min(Instant::now() + missing.max(LOOK))).await;
        }
    }

    /// What is not yet as it should be in the end; also what stands in its way, for it may go.
    fn unrest(&self) -> Vec<String> {
        let workloads = self.judge.workloads().into_iter();
        let blocked = workloads.filter(|(workload, facts)| facts.opted_in && !self.judge.is_free(workload));
        blocked.map(|(workload, _)| format!("{} is blocked", workload.name)).chain(self.wrongs()).collect()
    }

    /// What would be wrong if this were the end.
    fn wrongs(&self) -> Vec<String> {
        let Self { world, judge, processes, .. } = self;
        let now = world.cluster.now();
        let mut wrongs = Vec::new();
        for (workload, facts) in judge.workloads() {
            if !facts.opted_in || facts.invalid || !judge.is_free(&workload) {
                continue;
            }
            if !facts.is_exact() || facts.ready < facts.replicas {
                wrongs.push(format!("P10: {} is not at rest where it should be: {facts}", workload.name));
            }
        }
        for eviction in judge.evictions().into_iter().filter(|eviction| now.duration_since(eviction.at) < QUIET) {
            wrongs.push(format!("P11: {} is still moved at {}", eviction.workload.name, eviction.at));
        }
        for process in processes.values() {
            let left = process.metric("spotalis_admission_reservations");
            if left > 0.0 {
                wrongs.push(format!("P8: process {} holds {left} reservations", process.number()));
            }
        }
        let leading = processes.values().filter(|process| process.metric("spotalis_leader") > 0.0).count();
        if leading != 1 {
            wrongs.push(format!("P7: {leading} of {} processes lead", processes.len()));
        }
        wrongs
    }

    fn close(self) -> Outcome {
        self.wrongs().iter().for_each(|wrong| self.judge.complain(wrong));
        let Self {
            world,
            exchange: _,
            judge,
            config: _,
            processes: _processes,
            clocks: _,
            clock_set: _,
            calm_after,
            started: _,
            begun,
        } = self;
        let (digest, changes) = judge.digest();
        Outcome {
            wrongs: judge.wrongs(),
            evictions: judge.evictions(),
            faults: world.doors.requests().happened(),
            calls: world.doors.requests().calls(),
            calm_after,
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
