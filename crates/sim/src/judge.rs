//! Holds every act of Spotalis against rules of its own, at the moment at which the act arrives at the API server.
//!
//! It sees the store as it is, not what a process believes; it shares no line with the decisions that it judges. A process
//! sees the store late, so what is allowed is judged by every state of the last [`LAG`], or of as long as one of its watches
//! was held back as well: an act is wrong only if it was wrong all that time. Letters and numbers in messages are those of the properties in `docs/explanation/simulation.md`.

mod facts;

use std::collections::{BTreeMap, VecDeque};
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

pub use self::facts::Facts;
use self::facts::{Capacity, capacity_of};
use crate::fault::Call;

/// How late a process may see what happened: a silent watch is believed for five seconds, and one that lags for as long as
/// the longest fault that makes it lag.
pub const LAG: Duration = Duration::from_millis(7_500);
/// States older than this matter to nobody: no watch is held back for that long.
const REMEMBERED: SignedDuration = SignedDuration::from_mins(3);

/// What an instance may write, and nothing else.
const WRITES: [&str; 6] =
    ["create pods/eviction", "patch pods", "create leases", "patch leases", "create events", "patch events"];

/// What the judge goes by.
#[derive(Clone, Debug)]
pub struct Rules {
    /// `controller.cooldown`.
    pub cooldown: SignedDuration,
    /// `controller.maxConcurrentDisruptions`.
    pub limit: usize,
    /// The Lease.
    pub lease: String,
    /// The identity of each process, by its number.
    pub identities: BTreeMap<u32, String>,
}

/// A workload: kind, namespace, name.
pub type Workload = Key;

/// One accepted eviction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Eviction {
    /// When.
    pub at: Timestamp,
    /// Of which workload.
    pub workload: Workload,
    /// The pod.
    pub pod: String,
    /// Which process asked for it.
    pub process: u32,
}

/// The judge. Clones are the same.
#[derive(Clone)]
pub struct Judge {
    cluster: Cluster,
    state: Arc<Mutex<State>>,
}

struct State {
    rules: Rules,
    /// The states of each workload, the newest last; of those older than the lag, only the newest.
    past: BTreeMap<Workload, VecDeque<(Timestamp, Facts)>>,
    evictions: Vec<Eviction>,
    /// Until when reviews may be decided by less than is so.
    disturbed: Timestamp,
    /// Workloads whose evicted pod was not replaced yet, when it was evicted, and by which process.
    moving: BTreeMap<Workload, (Timestamp, u32)>,
    wrongs: Vec<String>,
    /// When leadership changed hands.
    terms: Vec<Timestamp>,
    /// When processes may have thought that they lead no longer, although nobody else did.
    doubts: BTreeMap<u32, Timestamp>,
    holder: String,
    digest: u64,
    changes: u64,
    /// When anything but a Lease changed last.
    stirred: Timestamp,
}

/// What a process may have seen.
#[derive(Clone, Copy, Debug)]
struct Seen {
    now: Timestamp,
    /// Every state since then, and the one at that time.
    since: Timestamp,
}

/// What was found when a request arrived, for when it is done.
#[derive(Debug)]
pub struct Verdict {
    eviction: Option<Eviction>,
    wrongs: Vec<String>,
}

impl Judge {
    /// A judge of all that happens in the cluster from now on.
    pub fn of(cluster: &Cluster, rules: Rules) -> Self {
        let state = State {
            rules,
            past: BTreeMap::new(),
            evictions: Vec::new(),
            disturbed: Timestamp::MIN,
            moving: BTreeMap::new(),
            wrongs: Vec::new(),
            terms: Vec::new(),
            doubts: BTreeMap::new(),
            holder: String::new(),
            digest: 0xcbf2_9ce4_8422_2325,
            changes: 0,
            stirred: cluster.now(),
        };
        let state = Arc::new(Mutex::new(state));
        let (seen, clock) = (state.clone(), cluster.clock());
        cluster.observe(move |store, change| seen.lock().see(store, change, clock.now()));
        Self { cluster: cluster.clone(), state }
    }

    /// The identity of a process, which may be started later.
    pub fn knows(&self, process: u32, identity: &str) {
        self.state.lock().rules.identities.insert(process, identity.to_owned());
    }

    /// Something goes wrong between a process and the Lease.
    pub fn is_in_doubt(&self, process: u32) {
        let now = self.cluster.now();
        self.state.lock().doubts.insert(process, now);
    }

    /// Until then something may go wrong with reviews, or with what they are decided by.
    pub fn disturbed_until(&self, time: Timestamp) {
        let mut state = self.state.lock();
        state.disturbed = state.disturbed.max(time);
    }

    /// A request arrives: what is to be said about it if it is done.
    /// `held_back` is by how much longer than [`LAG`] its process may not have seen what happened.
    pub(crate) fn arrives(&self, call: &Call, body: &Bytes, held_back: Duration) -> Verdict {
        let mut wrongs = Vec::new();
        if call.is_write() && !WRITES.contains(&call.site.as_str()) {
            wrongs
                .push(format!("P15: process {} asked to {} {}/{}", call.process, call.site, call.namespace, call.name));
        }
        let now = self.cluster.now();
        let body = || -> Value { serde_json::from_slice(body).unwrap_or_default() };
        let eviction = match call.site.as_str() {
            "create pods/eviction" => {
                let state = self.state.lock();
                let seen = Seen { now, since: now - LAG - held_back };
                self.cluster.read(|store| state.judge_eviction(store, call, &body(), seen, &mut wrongs))
            }
            "patch pods" => {
                self.cluster.read(|store| judge_seating(store, call, &body(), &mut wrongs));
                None
            }
            _ => None,
        };
        Verdict { eviction, wrongs }
    }

    /// It is done.
    pub(crate) fn is_done(&self, verdict: Verdict, call: &Call, code: u16) {
        let mut state = self.state.lock();
        if code < 300 || call.is_write() && !WRITES.contains(&call.site.as_str()) {
            let at = self.cluster.now();
            state.wrongs.extend(verdict.wrongs.into_iter().map(|wrong| format!("{at} {wrong}")));
        }
        if code < 300
            && let Some(eviction) = verdict.eviction
        {
            state.moving.insert(eviction.workload.clone(), (eviction.at, eviction.process));
            state.evictions.push(eviction);
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

    /// The evictions so far.
    pub fn evictions(&self) -> Vec<Eviction> {
        self.state.lock().evictions.clone()
    }

    /// The workloads as they are.
    pub fn workloads(&self) -> BTreeMap<Workload, Facts> {
        let state = self.state.lock();
        state.past.iter().filter_map(|(key, past)| Some((key.clone(), past.back()?.1.clone()))).collect()
    }

    /// Whether nothing but its own doing stands in the way of a workload's moves.
    pub fn is_free(&self, workload: &Workload) -> bool {
        self.cluster.read(|store| facts::is_free(store, workload))
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
    fn see(&mut self, store: &Store, change: &Change, now: Timestamp) {
        let matters = || facts::matters(change.before.as_deref(), change.after.as_deref());
        self.changes += 1;
        if change.key.kind != Kind::Lease {
            self.stirred = now;
        }
        let object = change.after.as_ref().or(change.before.as_ref());
        let text = object.map_or(&[][..], |object| object.written());
        for byte in text.iter().copied().chain(change.revision.to_le_bytes()) {
            self.digest = (self.digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        match change.key.kind {
            Kind::Lease if *change.key.name == *self.rules.lease => {
                let holder = change.after.as_ref().and_then(|lease| lease.text("/spec/holderIdentity"));
                let holder = holder.unwrap_or_default();
                if holder != self.holder && !holder.is_empty() {
                    self.terms.push(now);
                }
                holder.clone_into(&mut self.holder);
            }
            Kind::Deployment | Kind::StatefulSet => self.look(store, &change.key, now),
            Kind::ReplicaSet if !matters() => {}
            Kind::Pod | Kind::ReplicaSet => {
                let object = change.after.as_ref().or(change.before.as_ref());
                if let Some(workload) = object.and_then(|object| facts::workload_of(store, object)) {
                    self.look(store, &workload, now);
                    if let (Kind::Pod, None, Some(pod)) = (change.key.kind, &change.before, &change.after) {
                        self.judge_steering(&workload, pod, now);
                    }
                }
            }
            Kind::Node | Kind::Namespace if matters() => {
                let known: Vec<Workload> = self.past.keys().cloned().collect();
                known.iter().for_each(|workload| self.look(store, workload, now));
            }
            _ => {}
        }
    }

    fn look(&mut self, store: &Store, workload: &Workload, now: Timestamp) {
        let Some(facts) = Facts::of(store, workload) else {
            self.past.remove(workload);
            self.moving.remove(workload);
            return;
        };
        if self.moving.get(workload).is_some_and(|(evicted, _)| facts.has_replaced(*evicted)) {
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

    /// Whether something held at some time in a state that began after this time, or lasted until then.
    fn held(&self, workload: &Workload, since: Timestamp, holds: impl Fn(&Facts) -> bool) -> bool {
        let Some(past) = self.past.get(workload) else { return false };
        // A state lasts until the next one.
        let ends = past.iter().skip(1).map(|(began, _)| *began).chain([Timestamp::MAX]);
        past.iter().zip(ends).any(|((_, facts), end)| end > since && holds(facts))
    }

    /// While nothing goes wrong, no pod is steered to a type of which there are enough.
    fn judge_steering(&mut self, workload: &Workload, pod: &Object, now: Timestamp) {
        let steered = facts::steered_to(pod);
        if steered == Capacity::Unknown || now < self.disturbed {
            return;
        }
        let Some((_, facts)) = self.past.get(workload).and_then(|past| past.back()) else { return };
        let is_new = self.held(workload, now - LAG, |before| before.wish() != facts.wish());
        if !is_new && facts.has_too_many(steered) {
            self.wrongs.push(format!("{now} P8: {} is steered to {steered:?}: {facts}", pod.name()));
        }
    }

    fn judge_eviction(
        &self,
        store: &Store,
        call: &Call,
        body: &Value,
        Seen { now, since }: Seen,
        wrongs: &mut Vec<String>,
    ) -> Option<Eviction> {
        let pod = store.get(&Key::new(Kind::Pod, &call.namespace, &call.name))?;
        let mut wrong = |property: &str, why: String| {
            wrongs.push(format!("{property}: process {} evicts {}/{}: {why}", call.process, call.namespace, call.name));
        };
        let fence = &body["deleteOptions"]["preconditions"];
        if !fence["uid"].is_string() {
            wrong("P4", "without a UID".to_owned());
        }
        if !fence["resourceVersion"].is_null() {
            wrong("P4", "with a resourceVersion, which can cost a budget".to_owned());
        }
        if fence["uid"].as_str().is_some_and(|uid| uid != pod.uid()) {
            // The API server refuses that.
            return None;
        }
        let Some(workload) = facts::workload_of(store, pod) else {
            wrong("P4", "it belongs to no workload".to_owned());
            return None;
        };
        let capacity = capacity_of(store, pod);
        if !self.held(&workload, since, |facts| facts.opted_in) {
            wrong("P4", "its workload is not opted in".to_owned());
        }
        if pod.annotation("karpenter.sh/do-not-disrupt") == Some("true") {
            wrong("P4", "it asks not to be disrupted".to_owned());
        }
        if capacity == Capacity::Unknown {
            wrong("P13", "it is of unknown type".to_owned());
        }
        if !self.held(&workload, since, |facts| facts.surplus_of(capacity)) {
            let facts = self.past.get(&workload).and_then(|past| past.back()).map(|(_, facts)| facts.to_string());
            wrong("P11", format!("there is none too many of {capacity:?}: {}", facts.unwrap_or_default()));
        }
        if !self.held(&workload, since, |facts| facts.keeps_floor_without(pod.name())) {
            wrong("P1", "the floor would be broken".to_owned());
        }
        if !self.held(&workload, since, |facts| facts.others_are_ready(pod.name(), capacity)) {
            wrong("P2", "another replica that stays is not ready".to_owned());
        }
        if !self.held(&workload, since, |facts| facts.is_settled) {
            wrong("P2", "its workload is in a rollout or paused".to_owned());
        }
        let last = self.evictions.iter().rev().find(|eviction| eviction.workload == workload);
        // What is read off the pods has whole seconds.
        let shortest = self.rules.cooldown.saturating_sub(SignedDuration::from_secs(1));
        if let Some(last) = last.filter(|last| now.duration_since(last.at) < shortest) {
            wrong("P3", format!("{} after {}", now.duration_since(last.at), last.pod));
        }
        let identity = self.rules.identities.get(&call.process).map_or("", String::as_str);
        if self.holder != identity {
            wrong("P7", format!("{identity} does not lead, {:?} does", self.holder));
        }
        let (under_way, own) = self.moving_but(&workload, call.process, now);
        let is_recent = |at: &&Timestamp| now.duration_since(**at) < ABANDONED;
        // Whoever begins to lead does not know what was under way before, not even its own.
        let begins = self.terms.iter().filter(is_recent).count();
        let knows_its_own = !self.doubts.get(&call.process).is_some_and(|at| is_recent(&at));
        if knows_its_own && (own >= self.rules.limit || under_way >= self.rules.limit * (1 + begins)) {
            wrong("P3", format!("{under_way} moves are under way already, {own} of them its own"));
        }
        Some(Eviction { at: now, workload, pod: pod.name().to_owned(), process: call.process })
    }

    /// How many other workloads have an eviction of the last minutes whose pod was not replaced yet: by whoever, and by this
    /// process in this term.
    fn moving_but(&self, workload: &Workload, process: u32, now: Timestamp) -> (usize, usize) {
        let others = self.moving.iter().filter(|(other, _)| *other != workload).map(|(_, moving)| moving);
        let recent = others.filter(|(evicted, _)| now.duration_since(*evicted) < ABANDONED);
        let term = self.terms.last().copied().unwrap_or(Timestamp::MIN);
        let own = recent.clone().filter(|(evicted, by)| *by == process && *evicted >= term);
        (recent.count(), own.count())
    }
}

/// Orders the pods that a scale-down removes.
const COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// A move whose replacement is not ready by then counts no longer.
const ABANDONED: SignedDuration = SignedDuration::from_mins(5);

/// A slot may be written, with the cost that goes with it, on a pod of an opted-in workload, and over no cost of others.
fn judge_seating(store: &Store, call: &Call, body: &Value, wrongs: &mut Vec<String>) {
    let mut wrong = |why: &str| {
        wrongs.push(format!("P4: process {} patches {}/{}: {why}", call.process, call.namespace, call.name));
    };
    let metadata = &body["metadata"];
    if !metadata["uid"].is_string() || !metadata["resourceVersion"].is_string() {
        wrong("without a fence");
    }
    let fields = body.as_object().map_or(0, serde_json::Map::len);
    let within = metadata.as_object().into_iter().flat_map(|map| map.keys());
    let allowed = |key: &String| ["uid", "resourceVersion", "annotations"].contains(&key.as_str());
    let annotations = metadata["annotations"].as_object();
    let ours = |key: &String| key == "spotalis.io/slot" || key == COST;
    if fields != 1 || !within.clone().all(allowed) || !annotations.is_some_and(|map| map.keys().all(ours)) {
        wrong("more than a slot");
    }
    let Some(pod) = store.get(&Key::new(Kind::Pod, &call.namespace, &call.name)) else { return };
    let slot = pod.annotation("spotalis.io/slot");
    if let Some(cost) = pod.annotation(COST)
        && slot.is_none_or(|slot| cost != format!("-{slot}"))
    {
        wrong("over a cost that somebody else wrote");
    }
}

/// How long after its last fault a run is given to come to rest, at most.
pub const REST: Duration = Duration::from_mins(45);
