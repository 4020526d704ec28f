//! What a run consists of: the world at the start, what happens in it and when, and what goes wrong.
//!
//! A plan is data: it is made from a seed, written down as JSON, made shorter, and run again.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use embedded_cluster::controllers::kubelet::READY_AFTER;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::chance::Chance;
use crate::fault::{ADMIT, ASK, Call, Fate, Fault, Spot};
use crate::judge::Rounding;
use crate::world::NAMESPACE;

/// A run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Decides what is random in the cluster itself.
    pub seed: u64,
    /// How many processes there are.
    pub processes: u32,
    /// By how many milliseconds their clocks are ahead of the API server's, in turn.
    pub clocks: [i64; 3],
    /// How long after the start of each process somebody sets its clock, and by how many milliseconds forward.
    pub clock_set: Option<(Duration, i64)>,
    /// How long after the processes were started the workloads are created; absent, they run when Spotalis comes.
    pub head_start: Option<Duration>,
    /// `controller.cooldown`
    pub cooldown: Duration,
    /// `controller.maxConcurrentDisruptions`
    pub limit: u32,
    /// `controller.apiClient.qps`: requests a second, besides those that keep the Lease and the watches.
    pub qps: u32,
    /// `distribution.rounding`
    pub rounding: Rounding,
    /// Nodes of each type, and how many pods each takes.
    pub nodes: (u32, u32),
    /// The workloads at the start.
    pub workloads: Vec<Workload>,
    /// What happens, in order.
    pub events: Vec<(Duration, Event)>,
    /// What goes wrong.
    pub faults: Faults,
    /// When nothing happens and nothing goes wrong any more.
    pub calm_at: Duration,
    /// How long nothing has to have changed before a run may end.
    pub stillness: Duration,
}

/// What goes wrong with requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Faults {
    /// So many of a thousand, whatever they are.
    Random {
        /// Its own.
        seed: u64,
        /// Of a thousand requests; of the few that evict, five times as many.
        per_mille: u32,
        /// And half of these. A defence that has another behind it is tried only where both fail again and again.
        often: Vec<(Site, Fault)>,
        /// And the so-manieth of these, from 1.
        once: Vec<(Site, u32, Fault)>,
    },
    /// These.
    These(Vec<(Spot, Fault)>),
}

/// Requests of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Site {
    /// Of pods.
    Evictions,
    /// Of all kinds.
    Watches,
    /// Of all kinds.
    Lists,
    /// About who leads.
    Leases,
    /// From the API server.
    Reviews,
    /// From followers to their leader.
    Questions,
}

impl Site {
    const ALL: [Self; 6] = [Self::Evictions, Self::Watches, Self::Lists, Self::Leases, Self::Reviews, Self::Questions];

    fn has(self, call: &Call) -> bool {
        match self {
            Self::Evictions => call.site == "create pods/eviction",
            Self::Watches => call.is_watch(),
            Self::Lists => call.is_list(),
            Self::Leases => call.is_about_the_lease(),
            Self::Reviews => call.site == ADMIT,
            Self::Questions => call.site == ASK,
        }
    }

    fn faults(self) -> &'static [Fault] {
        match self {
            Self::Evictions | Self::Leases => &Fault::OF_REQUESTS,
            Self::Watches => &Fault::OF_WATCHES,
            Self::Lists => &Fault::OF_LISTS,
            Self::Reviews | Self::Questions => &Fault::OF_REVIEWS,
        }
    }
}

/// A workload to be created.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// Its name.
    pub name: String,
    /// A StatefulSet instead of a Deployment.
    pub stateful: bool,
    /// `spec.replicas`
    pub replicas: u32,
    /// Opted in from the start.
    pub opted_in: bool,
    /// `spot-percentage`; absent, nobody asked.
    pub percentage: Option<String>,
    /// `min-on-demand`
    pub floor: String,
    /// A budget that lets one pod at a time go.
    pub budget: bool,
    /// `podManagementPolicy: Parallel`, or a large surge.
    pub hasty: bool,
    /// How long its pods run before they are ready.
    pub slow: Duration,
}

/// Something that happens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// `spec.replicas` is changed.
    Scale(String, u32),
    /// All pods are replaced, as by `kubectl rollout restart`.
    Restart(String, u32),
    /// The annotation is changed; absent, it is removed.
    Percentage(String, Option<String>),
    /// The annotation is changed.
    Floor(String, String),
    /// The label is set or removed.
    OptIn(String, bool),
    /// A pod is deleted by somebody: the so-manieth one of the workload.
    DeletePod(String, u32),
    /// A pod crashes again and again until it is well or gone: the so-manieth one of the workload.
    Sicken(String, u32),
    /// Somebody asks that a pod be left where it is: the so-manieth one of the workload.
    Keep(String, u32),
    /// All pods are well again, and may go where they have to.
    Heal,
    /// A node is taken back, the so-manieth one; another of its type comes half a minute later.
    Reclaim(u32, bool),
    /// A rollout of it is stopped half way, or goes on.
    Pause(String, bool),
    /// A node is closed to new pods, or opened.
    Cordon(u32, bool),
    /// A budget that allows nothing is there, or gone.
    Block(String, bool),
    /// A process ends in order, and another starts a little later.
    Replace(u32),
    /// A process ends all at once, and another starts a little later.
    Crash(u32),
    /// A process reaches nobody and is reached by nobody, for so many seconds, and hears that at once.
    CutOff(u32, u32),
    /// The same, and it hears nothing.
    Silence(u32, u32),
    /// Nothing of a process runs for so many seconds.
    StandStill(u32, u32),
}

/// Longer than Spotalis waits for anything where all is as it should be: the longest is ten minutes.
pub const STILLNESS: Duration = Duration::from_mins(15);
/// How long a run rests that rests to the end: longer than Spotalis ever waits for anything.
pub const REST: Duration = Duration::from_mins(45);

impl Plan {
    /// Two processes as they are installed, with the right time, and nothing that happens or goes wrong.
    pub fn uneventful(workloads: Vec<Workload>, calm_at: Duration) -> Self {
        Self {
            seed: 0,
            processes: 2,
            clocks: [0; 3],
            clock_set: None,
            head_start: Some(Duration::from_secs(2)),
            cooldown: Duration::from_secs(10),
            limit: 5,
            qps: 50,
            rounding: Rounding::Ceil,
            nodes: (2, 40),
            workloads,
            events: Vec::new(),
            faults: Faults::These(Vec::new()),
            calm_at,
            stillness: STILLNESS,
        }
    }

    /// The plan of a seed. Every eighth rests to the end.
    pub fn of(seed: u64) -> Self {
        let mut chance = Chance::of(seed);
        let workloads = workloads(&mut chance);
        let calm_at = Duration::from_secs(chance.between(240, 600).into());
        let mut events = Vec::new();
        for _ in 0..chance.between(0, 18) {
            let at = chance.time(Duration::from_secs(20), calm_at);
            events.push((at, event(&mut chance, &workloads)));
        }
        if chance.percent(30) {
            // All want something else at once: the limit on moves is felt.
            let (at, share) = (chance.time(Duration::from_secs(20), calm_at), share(&mut chance));
            let all = workloads.iter().map(|one| (at, Event::Percentage(one.name.clone(), Some(share.clone()))));
            events.extend(all);
        }
        // What lasts has to be taken back, or there could be no rest. Now and then a budget stays.
        for workload in &workloads {
            if chance.percent(85) {
                events.push((calm_at, Event::Block(workload.name.clone(), false)));
            }
            events.push((calm_at, Event::Pause(workload.name.clone(), false)));
        }
        events.push((calm_at, Event::Heal));
        events.extend((0..8).map(|node| (calm_at, Event::Cordon(node, false))));
        events.sort_by_key(|(at, _)| *at);
        let per_mille = *chance.pick(&[0, 0, 5, 20, 60, 150]);
        let nodes = chance.between(2, 3);
        // Room for all of them on each type, with a little to spare, or more.
        let count = u32::try_from(workloads.len()).expect("a few");
        let enough = count * MOST_REPLICAS / nodes + 8;
        Self {
            seed,
            processes: chance.between(1, 3),
            clocks: clocks(&mut chance),
            clock_set: clock_set(&mut chance),
            head_start: *chance.pick(&[None, None, Some(Duration::from_secs(2)), Some(Duration::from_secs(40))]),
            cooldown: Duration::from_secs(*chance.pick(&[5, 10, 10, 30])),
            limit: *chance.pick(&[1, 1, 2, 3, 5]),
            qps: *chance.pick(&[1, 50, 50, 50]),
            rounding: *chance.pick(&[Rounding::Ceil, Rounding::Ceil, Rounding::Nearest, Rounding::Floor]),
            nodes: (nodes, enough * *chance.pick(&[1, 1, 2])),
            workloads,
            events,
            faults: Faults::Random {
                seed: chance.fork().between(0, u32::MAX).into(),
                per_mille,
                often: if per_mille == 0 { Vec::new() } else { often(&mut chance) },
                once: if per_mille == 0 { Vec::new() } else { once(&mut chance) },
            },
            calm_at,
            stillness: if seed.is_multiple_of(8) { REST } else { STILLNESS },
        }
    }
}

impl Plan {
    /// Whether reviews reach the webhook all the time.
    pub fn is_undisturbed(&self) -> bool {
        let disturbs = |event: &Event| {
            matches!(
                event,
                Event::Replace(_) | Event::Crash(_) | Event::CutOff(..) | Event::Silence(..) | Event::StandStill(..)
            )
        };
        self.faults.are_none() && self.head_start.is_some() && !self.events.iter().any(|(_, event)| disturbs(event))
    }
}

/// No workload is scaled to more.
const MOST_REPLICAS: u32 = 16;

/// Mostly right, as where somebody sets them; now and then far off.
fn clocks(chance: &mut Chance) -> [i64; 3] {
    let most = *chance.pick(&[0, 0, 500, 3_000, 60_000]);
    std::array::from_fn(|_| i64::from(chance.between(0, 2 * most)) - i64::from(most))
}

/// None, one or two, mostly of what moves pods or decides who may.
fn once(chance: &mut Chance) -> Vec<(Site, u32, Fault)> {
    let sites = [Site::Evictions, Site::Evictions, Site::Evictions, Site::Leases, Site::Reviews, Site::Watches];
    let mut one = |_| {
        let site = *chance.pick(&sites);
        (site, chance.between(1, 6), *chance.pick(site.faults()))
    };
    let mut some: Vec<(Site, u32, Fault)> = (0..2).map(&mut one).collect();
    some.truncate(chance.between(0, 2) as usize);
    some
}

/// None, one or two, and nothing that ends the process: it would do nothing else.
fn often(chance: &mut Chance) -> Vec<(Site, Fault)> {
    let mut one = |_| {
        let site = *chance.pick(&Site::ALL);
        let lasting: Vec<Fault> = site.faults().iter().copied().filter(|fault| !fault.is_crash()).collect();
        (site, *chance.pick(&lasting))
    };
    let mut some: Vec<(Site, Fault)> = (0..2).map(&mut one).collect();
    some.truncate(chance.between(0, 2) as usize);
    some
}

fn clock_set(chance: &mut Chance) -> Option<(Duration, i64)> {
    let most = *chance.pick(&[0, 0, 3_000, 120_000]);
    let after = chance.time(Duration::from_secs(10), Duration::from_mins(5));
    (most > 0).then(|| (after, i64::from(chance.between(0, 2 * most)) - i64::from(most)))
}

/// A few, or more small ones.
fn workloads(chance: &mut Chance) -> Vec<Workload> {
    let (count, replicas) = if chance.percent(75) { (chance.between(1, 4), 12) } else { (chance.between(5, 8), 5) };
    (0..count).map(|number| workload(chance, number, replicas)).collect()
}

fn workload(chance: &mut Chance, number: u32, replicas: u32) -> Workload {
    Workload {
        name: format!("w{number}"),
        stateful: chance.percent(25),
        replicas: chance.between(1, replicas),
        opted_in: chance.percent(80),
        percentage: chance.percent(85).then(|| share(chance)),
        floor: floor(chance),
        budget: chance.percent(35),
        hasty: chance.percent(50),
        slow: Duration::from_secs(*chance.pick(&[0, 0, 10, 40])),
    }
}

fn share(chance: &mut Chance) -> String {
    (*chance.pick(&["0", "20", "25", "33%", "50", "50%", "70", "80", "100", "100%"])).to_owned()
}

fn floor(chance: &mut Chance) -> String {
    (*chance.pick(&["0", "0", "1", "1", "2", "4", "25%", "50%"])).to_owned()
}

fn event(chance: &mut Chance, workloads: &[Workload]) -> Event {
    let name = chance.pick(workloads).name.clone();
    match chance.between(0, 24) {
        0..=2 => Event::Scale(name, chance.between(0, MOST_REPLICAS)),
        3 => Event::Restart(name, chance.between(0, 999)),
        4 | 5 | 17 | 18 => Event::Percentage(name, chance.percent(90).then(|| share(chance))),
        19 => Event::Sicken(name, chance.between(0, 11)),
        20 => Event::Pause(name, true),
        6 => Event::Percentage(name, Some((*chance.pick(&["most", "101", "-1", "50 %"])).to_owned())),
        7 => Event::Floor(name, (*chance.pick(&["0", "most", "1", "1", "2", "4", "25%", "101%"])).to_owned()),
        8 | 22 => Event::OptIn(name, chance.percent(60)),
        9 => Event::DeletePod(name, chance.between(0, 11)),
        10 | 11 => Event::Reclaim(chance.between(0, 7), chance.percent(70)),
        12 => Event::Cordon(chance.between(0, 7), true),
        13 => Event::Block(name, true),
        14 => Event::Replace(chance.between(0, 2)),
        15 => Event::CutOff(chance.between(0, 2), chance.between(2, 60)),
        21 => Event::Silence(chance.between(0, 2), chance.between(2, 60)),
        24 => Event::StandStill(chance.between(0, 2), chance.between(2, 40)),
        23 => Event::Keep(name, chance.between(0, 11)),
        _ => Event::Crash(chance.between(0, 2)),
    }
}

impl Workload {
    /// The objects to create.
    pub fn objects(&self) -> Vec<Value> {
        let Self { name, stateful, replicas, opted_in, percentage, floor, budget, hasty, slow } = self;
        let mut labels = json!({});
        if *opted_in {
            labels["spotalis.io/enabled"] = json!("true");
        }
        let mut annotations = json!({"spotalis.io/min-on-demand": floor});
        if let Some(percentage) = percentage {
            annotations["spotalis.io/spot-percentage"] = json!(percentage);
        }
        let mut spec = json!({
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {
                    "labels": {"app": name},
                    "annotations": {READY_AFTER: format!("{}s", slow.as_secs())},
                },
                "spec": {
                    "terminationGracePeriodSeconds": 5,
                    "containers": [{"name": "main", "image": "none", "resources": {"requests": {"cpu": "100m"}}}],
                },
            },
        });
        let kind = if *stateful {
            spec["serviceName"] = json!(name);
            spec["podManagementPolicy"] = json!(if *hasty { "Parallel" } else { "OrderedReady" });
            "StatefulSet"
        } else {
            let surge = if *hasty { json!("100%") } else { json!(1) };
            spec["strategy"] =
                json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": 0}});
            "Deployment"
        };
        let metadata = json!({"namespace": NAMESPACE, "name": name, "labels": labels, "annotations": annotations});
        let mut objects = vec![json!({"apiVersion": "apps/v1", "kind": kind, "metadata": metadata, "spec": spec})];
        if *budget {
            objects.push(pdb(name, name, json!({"maxUnavailable": 1})));
        }
        objects
    }
}

/// A budget over the pods of a workload.
pub fn pdb(name: &str, app: &str, spec: Value) -> Value {
    let mut spec = spec;
    spec["selector"] = json!({"matchLabels": {"app": app}});
    json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
        "metadata": {"namespace": NAMESPACE, "name": name}, "spec": spec})
}

impl Faults {
    /// Whether nothing goes wrong with any request.
    pub fn are_none(&self) -> bool {
        match self {
            Self::Random { seed: _, per_mille, often, once } => *per_mille == 0 && often.is_empty() && once.is_empty(),
            Self::These(faults) => faults.is_empty(),
        }
    }

    /// As fate.
    pub fn fate(&self) -> Box<dyn Fate> {
        match self {
            Self::Random { seed, per_mille, often, once } => Box::new(Random {
                chance: Chance::of(*seed),
                per_mille: *per_mille,
                often: often.clone(),
                once: once.clone(),
                counts: BTreeMap::new(),
            }),
            Self::These(faults) => Box::new(These(faults.iter().cloned().collect())),
        }
    }
}

struct Random {
    chance: Chance,
    per_mille: u32,
    often: Vec<(Site, Fault)>,
    once: Vec<(Site, u32, Fault)>,
    /// How many requests there were at the sites of `once`.
    counts: BTreeMap<Site, u32>,
}

impl Random {
    fn once(&mut self, call: &Call) -> Option<Fault> {
        let sites: BTreeSet<Site> = self.once.iter().map(|(site, ..)| *site).filter(|site| site.has(call)).collect();
        for site in &sites {
            *self.counts.entry(*site).or_default() += 1;
        }
        let is_it = |site: &Site, nth: u32| sites.contains(site) && self.counts.get(site) == Some(&nth);
        self.once.iter().find(|(site, nth, _)| is_it(site, *nth)).map(|(.., fault)| *fault)
    }

    fn of_chance(&mut self, call: &Call) -> Option<Fault> {
        let often = self.often.iter().find(|(site, _)| site.has(call)).map(|(_, fault)| *fault);
        if let Some(fault) = often.filter(|_| self.chance.percent(50)) {
            return Some(fault);
        }
        let times = if Site::Evictions.has(call) { 5 * self.per_mille } else { self.per_mille };
        self.chance.per_mille(times).then(|| *self.chance.pick(call.faults()))
    }
}

impl Fate for Random {
    fn of(&mut self, call: &Call) -> Option<Fault> {
        let once = self.once(call);
        let fault = once.or_else(|| self.of_chance(call))?;
        Some(match fault {
            // The API server's patience with a webhook is 2 s, and a process's with another 20 ms.
            Fault::Late(_) if call.is_review() => Fault::Late(self.chance.between(1, 40)),
            Fault::LateAnswer(_) if call.is_review() => Fault::LateAnswer(self.chance.between(1, 40)),
            Fault::Late(_) if call.is_watch() => Fault::Late(self.chance.between(5, 40_000)),
            Fault::LateAnswer(_) if call.is_list() => Fault::LateAnswer(self.chance.between(5, 40_000)),
            Fault::Held(..) => Fault::Held(self.chance.between(0, 30), self.chance.between(1_000, 60_000)),
            Fault::Expired(_) => Fault::Expired(self.chance.between(0, 30_000)),
            // Longer than any term lasts.
            Fault::Late(_) if call.is_about_the_lease() => Fault::Late(self.chance.between(5, 20_000)),
            Fault::LateAnswer(_) if call.is_about_the_lease() => Fault::LateAnswer(self.chance.between(5, 20_000)),
            Fault::Late(_) if call.is_write() => Fault::Late(self.chance.between(5, 12_000)),
            Fault::Late(_) => Fault::Late(self.chance.between(5, 2_500)),
            Fault::LateAnswer(_) => Fault::LateAnswer(self.chance.between(5, 2_500)),
            Fault::Cut(_) => Fault::Cut(self.chance.between(0, 20)),
            other => other,
        })
    }
}

struct These(BTreeMap<Spot, Fault>);

impl Fate for These {
    fn of(&mut self, call: &Call) -> Option<Fault> {
        self.0.get(&call.spot()).copied()
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, processes, clocks, clock_set, head_start, cooldown, limit, qps, rounding, .. } = self;
        let Self { nodes: (nodes, room), workloads, events, faults, calm_at, .. } = self;
        let created = match head_start {
            Some(time) => format!("{time:?} before the workloads"),
            None => "after the workloads".to_owned(),
        };
        writeln!(f, "seed {seed}: {processes} processes {created}")?;
        writeln!(f, "  cooldown {cooldown:?}, limit {limit}, {qps} requests a second, rounding {rounding:?}")?;
        writeln!(f, "  clocks {clocks:?} ms ahead, set: {clock_set:?}")?;
        writeln!(f, "  {nodes} nodes of each type for {room} pods, calm at {calm_at:?}")?;
        for workload in workloads {
            writeln!(f, "  {workload:?}")?;
        }
        for (at, event) in events.iter().filter(|(at, _)| at < calm_at) {
            writeln!(f, "  {:>9.3} s  {event:?}", at.as_secs_f64())?;
        }
        match faults {
            Faults::Random { seed, per_mille, often, once } => {
                writeln!(f, "  faults: {per_mille} of 1000 requests, often {often:?}, once {once:?}, seed {seed}")
            }
            Faults::These(faults) => {
                faults.iter().try_for_each(|(spot, fault)| writeln!(f, "  fault {fault:?}: {spot}"))
            }
        }
    }
}
