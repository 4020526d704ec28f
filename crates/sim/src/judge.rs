//! Holds every act of Spotalis against rules of its own, at the moment at which it is sent.
//!
//! It sees the store as it is, not what a process believes; it shares no line with the decisions that it judges. A process
//! sees the store late, so an act is right if it is right by a wish and by pods as they were within the last [`LAG`], or
//! within as long as its process was not told; but by no pods from before an eviction of its own in this term that it knows
//! was done, or came too late. What becomes of the act does not matter: a wrong one that is lost or refused is wrong. Letters
//! and numbers in messages are those of the properties in `docs/explanation/simulation.md`.

mod facts;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use embedded_cluster::Cluster;
use embedded_cluster::object::Object;
use embedded_cluster::resource::Kind;
use embedded_cluster::store::{Change, Key, Store};
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use serde_json::Value;
use spotalis_config::{Config, Provisioner};

use self::facts::{COST, Capacity, Open, PodFacts, SLOT};
pub use self::facts::{Facts, Rounding};
use crate::fault::Call;
use crate::requests::Requests;

/// How late a process may see what happened although nothing keeps it from being told: it moves pods for a second without
/// one of its watches, since every watch ends now and then, and it needs a moment.
pub const LAG: Duration = Duration::from_millis(1_500);
/// States older than this matter to nobody: no process is kept in the dark for that long.
const REMEMBERED: SignedDuration = SignedDuration::from_mins(3);
/// A move whose replacement is not ready by then counts no longer.
const ABANDONED: SignedDuration = SignedDuration::from_mins(5);

/// The answers to who asks for a pod that is gone, or was replaced by one of its name.
const TOO_LATE: [u16; 2] = [404, 409];

/// What an instance may write, and nothing else.
const WRITES: [&str; 6] =
    ["create pods/eviction", "patch pods", "create leases", "patch leases", "create events", "patch events"];
/// What says what is wanted, and what says what there is. One may be known late, and the other at once.
const WISHES: [&str; 3] = ["namespaces", "deployments", "statefulsets"];
const PODS: [&str; 2] = ["pods", "nodes"];

/// What the judge goes by.
#[derive(Clone, Debug)]
pub struct Rules {
    /// `controller.cooldown`.
    pub cooldown: SignedDuration,
    /// `controller.maxConcurrentDisruptions`.
    pub limit: usize,
    /// `distribution.rounding`.
    pub rounding: Rounding,
    /// `leaderElection.renewDeadline`.
    pub renew_deadline: SignedDuration,
    /// `distribution.provisioner: always`.
    pub trusts_autoscaler: bool,
    /// The Lease.
    pub lease: String,
    /// The identity of each process, by its number.
    pub identities: BTreeMap<u32, String>,
}

impl Rules {
    /// Of an installation.
    pub fn of(config: &Config) -> Self {
        let spotalis_config::Settings { controller, distribution, .. } = &config.settings;
        let time = |time| SignedDuration::try_from(time).expect("a short time");
        Self {
            cooldown: time(controller.cooldown),
            limit: controller.max_concurrent_disruptions as usize,
            rounding: match distribution.rounding {
                spotalis_config::Rounding::Ceil => Rounding::Ceil,
                spotalis_config::Rounding::Nearest => Rounding::Nearest,
                spotalis_config::Rounding::Floor => Rounding::Floor,
            },
            renew_deadline: time(controller.leader_election.renew_deadline),
            trusts_autoscaler: distribution.provisioner == Provisioner::Always,
            lease: spotalis_instance::LEASE.to_owned(),
            identities: BTreeMap::new(),
        }
    }
}

/// A workload: kind, namespace, name.
pub type Workload = Key;

/// One accepted eviction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Eviction {
    /// When it was done.
    pub at: Timestamp,
    /// Of which workload.
    pub workload: Workload,
    /// The pod.
    pub pod: String,
    /// Which process asked for it.
    pub process: u32,
}

/// An eviction that was asked for.
struct Request {
    process: u32,
    workload: Workload,
    pod: String,
    sent: Timestamp,
    /// Its sender has not given it up.
    is_awaited: bool,
    /// When it was accepted, and whether somebody waited for that still.
    accepted: Option<(Timestamp, bool)>,
    /// Since when the pod was going or gone, by the answer.
    over: Option<Timestamp>,
    /// Its sender has heard of that.
    is_known: bool,
}

/// The judge. Clones are the same.
#[derive(Clone)]
pub struct Judge {
    cluster: Cluster,
    requests: Requests,
    state: Arc<Mutex<State>>,
}

struct State {
    rules: Rules,
    /// The states of each workload, the newest last; of those older than is remembered, only the newest.
    past: BTreeMap<Workload, VecDeque<(Timestamp, Facts)>>,
    /// Evictions, by the number of the call.
    asked: BTreeMap<u64, Request>,
    /// Workloads whose evicted pod was not replaced yet: by which of those.
    moving: BTreeMap<Workload, u64>,
    wrongs: Vec<String>,
    /// When leadership changed hands, or came back to the same.
    terms: Vec<Timestamp>,
    holder: String,
    /// `acquireTime`: another one is another term.
    acquired: String,
    /// When its holder wrote it last.
    renewed: Timestamp,
    /// The types on whose nodes a pod might go, since when.
    open: VecDeque<(Timestamp, Open)>,
    /// The Events that were sent, whatever became of them: the kind and name of what they are about, and the reason.
    sent_events: BTreeSet<[String; 3]>,
    digest: u64,
    changes: u64,
    /// When anything but a Lease changed last.
    stirred: Timestamp,
}

/// Of what time what a process knows may be: no state that ended before counts.
#[derive(Clone, Copy, Debug)]
struct Horizon {
    wish: Timestamp,
    pods: Timestamp,
}

/// A rule about a pod, as it is in one state of its workload: property, objection, whether it holds.
type Rule<'a> = (&'static str, &'static str, &'a dyn Fn(&Facts, &PodFacts) -> bool);

/// When a pod may be evicted.
const EVICTION: [Rule<'static>; 8] = [
    ("P4", "its workload is not opted in", &|facts, _| facts.opted_in),
    ("P4", "it asks not to be disrupted", &|_, pod| !pod.kept),
    ("P13", "it is of unknown type", &|_, pod| pod.capacity != Capacity::Unknown),
    ("P11", "there are none too many of its type", &|facts, pod| facts.moves_from(pod.capacity) > 0),
    ("P1", "the floor would be broken", &Facts::keeps_floor_without),
    ("P2", "another replica that stays is not ready", &Facts::others_are_ready),
    ("P2", "another one that is not ready goes first", &Facts::is_first_to_go),
    ("P2", "its workload is in a rollout or paused", &|facts, _| facts.is_settled),
];

/// An eviction under way. Whoever drops it has given it up, unless it was told what came of it.
pub(crate) struct UnderWay {
    judge: Judge,
    number: u64,
}

impl UnderWay {
    /// The answer has arrived.
    pub(crate) fn hear(self) {
        if let Some(request) = self.judge.state.lock().asked.get_mut(&self.number) {
            request.is_known = request.over.is_some();
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if let Some(request) = self.judge.state.lock().asked.get_mut(&self.number) {
            request.is_awaited = false;
        }
    }
}

impl Judge {
    /// A judge of all that happens in the cluster from now on.
    pub fn of(cluster: &Cluster, requests: Requests, rules: Rules) -> Self {
        let state = State {
            rules,
            past: BTreeMap::new(),
            asked: BTreeMap::new(),
            moving: BTreeMap::new(),
            wrongs: Vec::new(),
            terms: Vec::new(),
            holder: String::new(),
            acquired: String::new(),
            renewed: Timestamp::MIN,
            open: VecDeque::new(),
            sent_events: BTreeSet::new(),
            digest: 0,
            changes: 0,
            stirred: cluster.now(),
        };
        let judge = Self { cluster: cluster.clone(), requests, state: Arc::new(Mutex::new(state)) };
        let (state, requests, clock) = (judge.state.clone(), judge.requests.clone(), cluster.clock());
        cluster.observe(move |store, change| {
            let disturbed = || requests.is_disturbed();
            state.lock().see(store, change, clock.now(), disturbed);
        });
        judge
    }

    /// The identity of a process, which may be started later.
    pub fn knows(&self, process: u32, identity: &str) {
        self.state.lock().rules.identities.insert(process, identity.to_owned());
    }

    /// A request is sent. If it is an eviction, this is to be kept until its sender hears of the answer.
    pub(crate) fn is_sent(&self, call: &Call, body: &Bytes) -> Option<UnderWay> {
        let mut state = self.state.lock();
        let now = self.cluster.now();
        let body = || -> Value { serde_json::from_slice(body).unwrap_or_default() };
        let since = |resources: &[&str]| now - self.requests.age(call.process, resources, LAG) - LAG;
        let horizon = || Horizon { wish: since(&WISHES), pods: since(&PODS) };
        match call.site.as_str() {
            "create pods/eviction" => state.judge_eviction(call, &body(), now, horizon()),
            "patch pods" => state.judge_seating(call, &body(), now, horizon()),
            "create events" => state.note_event(&body()),
            _ if call.is_write() && !WRITES.contains(&call.site.as_str()) => {
                let wrong = format!(
                    "{now} P15: process {} asks to {} {}/{}",
                    call.process, call.site, call.namespace, call.name
                );
                state.wrongs.push(wrong);
            }
            _ => {}
        }
        state.asked.contains_key(&call.number).then(|| UnderWay { judge: self.clone(), number: call.number })
    }

    /// It arrived, and was answered so.
    pub(crate) fn is_done(&self, number: u64, code: u16) {
        let mut state = self.state.lock();
        let at = self.cluster.now();
        let Some(request) = state.asked.get_mut(&number).filter(|_| code < 300 || TOO_LATE.contains(&code)) else {
            return;
        };
        request.over = Some(at);
        if code >= 300 {
            return;
        }
        request.accepted = Some((at, request.is_awaited));
        let (workload, is_awaited) = (request.workload.clone(), request.is_awaited);
        // Of one that was given up nobody can know.
        if is_awaited {
            state.moving.insert(workload, number);
        }
    }

    /// Something else that is wrong.
    pub fn complain(&self, wrong: &str) {
        let at = self.cluster.now();
        self.state.lock().wrongs.push(format!("{at} {wrong}"));
    }

    /// What was wrong so far.
    pub fn wrongs(&self) -> Vec<String> {
        self.state.lock().wrongs.clone()
    }

    /// The evictions so far, in the order in which they were done.
    pub fn evictions(&self) -> Vec<Eviction> {
        let state = self.state.lock();
        let done = state.asked.values().filter_map(|request| {
            let Request { process, workload, pod, accepted, .. } = request;
            let (at, _) = (*accepted)?;
            Some(Eviction { at, workload: workload.clone(), pod: pod.clone(), process: *process })
        });
        let mut evictions: Vec<Eviction> = done.collect();
        evictions.sort_by_key(|eviction| eviction.at);
        evictions
    }

    /// The workloads as they are.
    pub fn workloads(&self) -> BTreeMap<Workload, Facts> {
        let state = self.state.lock();
        state.past.iter().filter_map(|(key, past)| Some((key.clone(), past.back()?.1.clone()))).collect()
    }

    /// What keeps a workload's pods where they are for good: the reason of the Event that has to tell it.
    pub fn blocker(&self, workload: &Workload) -> Option<&'static str> {
        self.cluster.read(|store| facts::blocker(store, workload))
    }

    /// Whether an Event of this reason tells of a workload, or was sent to and was lost with other Events.
    pub fn is_told(&self, workload: &Workload, reason: &str) -> bool {
        let subject = [workload.kind.resource().name, &workload.name, reason].map(str::to_owned);
        let is_lost = || self.requests.has_lost("create events") && self.state.lock().sent_events.contains(&subject);
        self.cluster.read(|store| facts::is_told(store, workload, reason)) || is_lost()
    }

    /// Since when nothing has changed but Leases.
    pub fn still_since(&self) -> Timestamp {
        self.state.lock().stirred
    }

    /// A number that differs if anything that happened differs, and how many changes there were.
    pub fn digest(&self) -> (u64, u64) {
        let state = self.state.lock();
        (state.digest, state.changes)
    }
}

impl State {
    fn see(&mut self, store: &Store, change: &Change, now: Timestamp, disturbed: impl Fn() -> bool) {
        let matters = || facts::matters(change.before.as_deref(), change.after.as_deref());
        self.changes += 1;
        if change.key.kind != Kind::Lease {
            self.stirred = now;
        }
        let object = change.after.as_ref().or(change.before.as_ref());
        let text = object.map_or(&[][..], |object| object.written());
        self.digest = fold(self.digest ^ change.revision, text);
        match change.key.kind {
            Kind::Lease if *change.key.name == *self.rules.lease => self.see_lease(change.after.as_deref(), now),
            Kind::Deployment | Kind::StatefulSet => self.look(store, &change.key, now),
            Kind::ReplicaSet if !matters() => {}
            Kind::Pod | Kind::ReplicaSet => {
                let object = change.after.as_ref().or(change.before.as_ref());
                if let Some(workload) = object.and_then(|object| facts::workload_of(store, object)) {
                    self.look(store, &workload, now);
                    if let (Kind::Pod, None, Some(pod)) = (change.key.kind, &change.before, &change.after)
                        && !disturbed()
                    {
                        self.judge_steering(&workload, pod, now);
                    }
                }
            }
            Kind::Node | Kind::NodePool => {
                self.see_nodes(store, now);
                if matters() {
                    self.look_at_all(store, now);
                }
            }
            Kind::Namespace if matters() => self.look_at_all(store, now),
            _ => {}
        }
    }

    fn look_at_all(&mut self, store: &Store, now: Timestamp) {
        let known: Vec<Workload> = self.past.keys().cloned().collect();
        known.iter().for_each(|workload| self.look(store, workload, now));
    }

    fn see_nodes(&mut self, store: &Store, now: Timestamp) {
        let open = Open::of(store);
        if self.open.back().is_none_or(|(_, last)| *last != open) {
            self.open.push_back((now, open));
        }
    }

    fn note_event(&mut self, body: &Value) {
        let word = |pointer: &str| body.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        self.sent_events.insert(["/regarding/kind", "/regarding/name", "/reason"].map(word));
    }

    fn see_lease(&mut self, lease: Option<&Object>, now: Timestamp) {
        let text = |pointer: &str| lease.and_then(|lease| lease.text(pointer)).unwrap_or_default();
        let (holder, acquired) = (text("/spec/holderIdentity"), text("/spec/acquireTime"));
        if !holder.is_empty() && (holder != self.holder || acquired != self.acquired) {
            self.terms.push(now);
        }
        self.renewed = now;
        holder.clone_into(&mut self.holder);
        acquired.clone_into(&mut self.acquired);
    }

    fn look(&mut self, store: &Store, workload: &Workload, now: Timestamp) {
        let Some(facts) = Facts::of(store, workload, self.rules.rounding) else {
            self.past.remove(workload);
            self.moving.remove(workload);
            return;
        };
        let moved = self.moving.get(workload).and_then(|number| self.asked.get(number)?.accepted);
        if moved.is_some_and(|(evicted, _)| facts.has_replaced(evicted)) {
            self.moving.remove(workload);
        }
        let past = self.past.entry(workload.clone()).or_default();
        if past.back().is_none_or(|(_, last)| *last != facts) {
            past.push_back((now, facts));
        }
        while past.get(1).is_some_and(|(since, _)| now.duration_since(*since) > REMEMBERED) {
            past.pop_front();
        }
    }

    /// The states of a workload that lasted longer than until then, the newest last.
    fn states(&self, workload: &Workload, since: Timestamp) -> impl DoubleEndedIterator<Item = &Facts> + Clone {
        let past = self.past.get(workload);
        let ended = past.map_or(0, |past| past.iter().skip(1).take_while(|(began, _)| *began <= since).count());
        past.into_iter().flat_map(move |past| past.range(ended..)).map(|(_, facts)| facts)
    }

    /// What is wrong with an act on this pod: nothing, if all rules hold in what its process may believe; otherwise what is
    /// wrong where least is, and there in what is newest.
    fn objections(
        &self,
        workload: &Workload,
        uid: &str,
        horizon: Horizon,
        rules: &[Rule<'_>],
    ) -> Vec<(&'static str, String)> {
        let pods = self.states(workload, horizon.pods).rev().filter(|facts| facts.pod(uid).is_some());
        let beliefs =
            self.states(workload, horizon.wish).rev().flat_map(|wish| pods.clone().map(|pods| wish.with_pods_of(pods)));
        let broken = beliefs.map(|facts| {
            let pod = facts.pod(uid).expect("only states with the pod");
            let broken = rules.iter().filter(|(_, _, holds)| !holds(&facts, pod));
            broken.map(|(property, why, _)| (*property, format!("{why}: {facts}"))).collect::<Vec<_>>()
        });
        broken.min_by_key(Vec::len).unwrap_or_else(|| vec![("P4", "it is no pod of the workload any more".to_owned())])
    }

    /// The workload of which a pod is or was lately.
    fn workload_of(&self, uid: &str) -> Option<Workload> {
        let has = |past: &VecDeque<(Timestamp, Facts)>| past.iter().any(|(_, facts)| facts.pod(uid).is_some());
        self.past.iter().find(|(_, past)| has(past)).map(|(workload, _)| workload.clone())
    }

    /// While nothing goes wrong, no pod is steered to a type of which there are enough, or of a workload that nobody may touch.
    fn judge_steering(&mut self, workload: &Workload, pod: &Object, now: Timestamp) {
        let steered = facts::steered_to(pod);
        let Some(facts) = self.past.get(workload).and_then(|past| past.back()).map(|(_, facts)| facts) else { return };
        let is_new = self.states(workload, now - LAG).any(|before| before.wish() != facts.wish());
        if let Some(why) = facts.objection_to_steering(steered).filter(|_| !is_new) {
            self.wrongs.push(format!("{now} P8: {} is steered to {steered:?}: {why}: {facts}", pod.name()));
        }
    }

    fn judge_eviction(&mut self, call: &Call, body: &Value, now: Timestamp, horizon: Horizon) {
        let fence = &body["deleteOptions"]["preconditions"];
        let mut wrongs = Vec::new();
        if !fence["resourceVersion"].is_null() {
            wrongs.push(("P4", "with a resourceVersion, which can cost a budget".to_owned()));
        }
        let uid = fence["uid"].as_str();
        match uid.map(|uid| (uid, self.workload_of(uid))) {
            None => wrongs.push(("P4", "without a UID".to_owned())),
            Some((_, None)) => wrongs.push(("P4", "it belongs to no workload".to_owned())),
            Some((uid, Some(workload))) => {
                let done = self.known_to_be_done(call.process, &workload);
                let seen = Horizon { pods: done.map_or(horizon.pods, |done| horizon.pods.max(done)), ..horizon };
                wrongs.extend(self.objections(&workload, uid, seen, &EVICTION));
                wrongs.extend(self.objections_to_pace(&workload, call.process, now, horizon));
                wrongs.extend(self.objection_to_loops(&workload, call.process, now, horizon));
                wrongs.extend(self.objection_to_the_void(&workload, uid, horizon));
                self.asked.insert(
                    call.number,
                    Request {
                        process: call.process,
                        workload,
                        pod: call.name.clone(),
                        sent: now,
                        is_awaited: true,
                        accepted: None,
                        over: None,
                        is_known: false,
                    },
                );
            }
        }
        wrongs.extend(self.objections_to_leader(call.process, now));
        self.object(call, "evicts", now, wrongs);
    }

    fn object(&mut self, call: &Call, act: &str, now: Timestamp, wrongs: Vec<(&str, String)>) {
        let Call { process, namespace, name, .. } = call;
        let told = |(property, why)| format!("{now} {property}: process {process} {act} {namespace}/{name}: {why}");
        self.wrongs.extend(wrongs.into_iter().map(told));
    }

    /// Since when, as this process was told in this term, a pod of a workload was gone for which it had asked.
    fn known_to_be_done(&self, process: u32, workload: &Workload) -> Option<Timestamp> {
        self.own(process, workload).filter(|request| request.is_known).filter_map(|request| request.over).max()
    }

    /// What a process has asked of a workload in this term.
    fn own(&self, process: u32, workload: &Workload) -> impl Iterator<Item = &Request> {
        let is_its = move |request: &&Request| request.process == process && request.workload == *workload;
        let term = self.term();
        self.asked.values().filter(is_its).filter(move |request| request.sent >= term)
    }

    /// When the last term began. Whoever leads it does not know what it did before.
    fn term(&self) -> Timestamp {
        self.terms.last().copied().unwrap_or(Timestamp::MIN)
    }

    fn objections_to_leader(&self, process: u32, now: Timestamp) -> Option<(&'static str, String)> {
        let identity = self.rules.identities.get(&process).map_or("", String::as_str);
        if self.holder != identity {
            return Some(("P7", format!("{identity} does not lead, {:?} does", self.holder)));
        }
        let age = now.duration_since(self.renewed);
        (age > self.rules.renew_deadline).then(|| ("P7", format!("{identity} wrote the Lease last {age} ago")))
    }

    /// After an eviction that a process knows was done, it makes no other one if it has to see that the webhook does not steer
    /// what comes back: for five minutes, of which the last two are not remembered here.
    fn objection_to_loops(
        &self,
        workload: &Workload,
        process: u32,
        now: Timestamp,
        horizon: Horizon,
    ) -> Option<(&'static str, String)> {
        let known = self.own(process, workload).filter(|request| request.is_known && request.accepted.is_some());
        let last = known.map(|request| request.sent).max()?;
        let is_soon = now.duration_since(last) < REMEMBERED;
        let has_proof = self.past.get(workload)?.iter().any(|(_, facts)| facts.steers_since(last) == Some(true));
        let is_refuted = self.states(workload, horizon.pods).all(|facts| facts.steers_since(last) == Some(false));
        (is_soon && !has_proof && is_refuted)
            .then(|| ("P11", "what came back after the last one was not steered".to_owned()))
    }

    /// Nobody is moved to where there is no node for him, and nobody says that one would come.
    fn objection_to_the_void(
        &self,
        workload: &Workload,
        uid: &str,
        horizon: Horizon,
    ) -> Option<(&'static str, String)> {
        let known: Vec<&Facts> = self.states(workload, horizon.pods).collect();
        let of = known.iter().filter_map(|facts| facts.pod(uid)).map(|pod| pod.capacity);
        let is_open = |to: Capacity| self.rules.trusts_autoscaler || self.opens(horizon).any(|open| open.has(to));
        let to: Vec<Capacity> = of.filter(|of| *of != Capacity::Unknown).map(Capacity::other).collect();
        let in_vain = !to.is_empty() && !to.into_iter().any(is_open);
        in_vain.then(|| ("P11", "no node of the other type would take it".to_owned()))
    }

    /// What was open at a time that lasted longer than until then.
    fn opens(&self, horizon: Horizon) -> impl Iterator<Item = &Open> {
        let ended = self.open.iter().skip(1).take_while(|(began, _)| *began <= horizon.pods).count();
        self.open.range(ended..).map(|(_, open)| open)
    }

    /// The cooldown of a workload, and the limit on moves in the whole cluster.
    fn objections_to_pace(
        &self,
        workload: &Workload,
        process: u32,
        now: Timestamp,
        horizon: Horizon,
    ) -> Vec<(&'static str, String)> {
        let mut wrongs = Vec::new();
        // What nobody waited for any more when it was done, one has to see first.
        let counts = |(at, was_awaited): &(Timestamp, bool)| *was_awaited || *at <= horizon.pods;
        let of_it = self.asked.values().filter(|request| request.workload == *workload);
        let last = of_it.clone().filter_map(|request| request.accepted).filter(counts).map(|(at, _)| at).max();
        // What is read off the pods has whole seconds.
        let shortest = self.rules.cooldown.saturating_sub(SignedDuration::from_secs(1));
        let has_rested = |facts: &Facts| facts.stirred.is_none_or(|last| now.duration_since(last) >= shortest);
        if !self.states(workload, horizon.pods).any(has_rested) {
            wrongs.push(("P3", "a pod has changed since".to_owned()));
        }
        if let Some(after) = last.map(|last| now.duration_since(last)).filter(|after| *after < shortest) {
            wrongs.push(("P3", format!("{after} after the last one")));
        }
        if of_it.clone().any(|request| request.process == process && request.is_awaited) {
            wrongs.push(("P3", "another one is under way".to_owned()));
        }
        let (all, own) = self.moving_but(workload, process, now);
        // Whoever begins to lead does not know what was under way before, not even its own.
        let begins = self.terms.iter().filter(|at| now.duration_since(**at) < ABANDONED).count();
        if own >= self.rules.limit || all >= self.rules.limit * (1 + begins) {
            wrongs.push(("P3", format!("{all} moves are under way already, {own} of them its own in this term")));
        }
        wrongs
    }

    /// How many other workloads have an eviction of the last minutes whose pod was not replaced yet: by whoever, and by this
    /// process in this term.
    fn moving_but(&self, workload: &Workload, process: u32, now: Timestamp) -> (usize, usize) {
        let others = self.moving.iter().filter(|(other, _)| *other != workload);
        let moves = others.filter_map(|(_, number)| self.asked.get(number));
        let recent = moves.filter(|request| now.duration_since(request.sent) < ABANDONED);
        let own = recent.clone().filter(|request| request.process == process && request.sent >= self.term());
        (recent.count(), own.count())
    }

    /// A slot may be written, with the cost that goes with it, on a pod of an opted-in Deployment at rest, if the slot is of
    /// its type, and over no cost of others.
    fn judge_seating(&mut self, call: &Call, body: &Value, now: Timestamp, horizon: Horizon) {
        let mut wrongs = Vec::new();
        let metadata = &body["metadata"];
        if !metadata["uid"].is_string() || !metadata["resourceVersion"].is_string() {
            wrongs.push(("P4", "without a fence".to_owned()));
        }
        let fields = body.as_object().map_or(0, serde_json::Map::len);
        let mut within = metadata.as_object().into_iter().flat_map(|map| map.keys());
        let annotations = &metadata["annotations"];
        let written = annotations.as_object().map_or(0, serde_json::Map::len);
        let slot = annotations[SLOT].as_str().unwrap_or_default();
        let is_alone = fields == 1
            && within.all(|key| ["uid", "resourceVersion", "annotations"].contains(&key.as_str()))
            && written == 2
            && annotations[COST].as_str() == Some(&format!("-{slot}"));
        if !is_alone {
            wrongs.push(("P4", "something else than a slot and the cost that goes with it".to_owned()));
        }
        let uid = metadata["uid"].as_str().unwrap_or_default();
        match self.workload_of(uid) {
            None => wrongs.push(("P4", "it belongs to no workload".to_owned())),
            Some(workload) => {
                let rules: [Rule<'_>; 5] = [
                    ("P4", "its workload is not opted in", &|facts, _| facts.opted_in),
                    ("P4", "ordinals are seats", &|facts, _| !facts.is_stateful),
                    ("P4", "over a cost that somebody else wrote", &|_, pod| pod.has_our_cost()),
                    ("P4", "its workload is not at rest", &|facts, _| facts.is_at_rest()),
                    ("P4", "it is of the other type than that slot", &|facts, pod| facts.has_slot_for(pod, slot)),
                ];
                wrongs.extend(self.objections(&workload, uid, horizon, &rules));
            }
        }
        wrongs.extend(self.objections_to_leader(call.process, now));
        self.object(call, "seats", now, wrongs);
    }
}

/// A number that differs, but for one chance in 2^64, if the one before or the text does: eight bytes at a time, since every
/// change of the cluster goes through here.
pub(crate) fn fold(before: u64, text: &[u8]) -> u64 {
    text.chunks(8).fold(before, |digest, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        (digest ^ u64::from_le_bytes(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
    })
}
