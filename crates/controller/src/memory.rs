//! What balance remembers between two passes, and why losing it is harmless.
//!
//! Everything that matters is read off the cluster. Here is only what the cluster does not say: which evictions of ours are
//! not settled yet (a new leader forgets them and may have as many more under way as the limit allows; the cooldown and the
//! count of Ready pods still hold), what came of evictions (forgetting costs one more per workload), and what was told
//! already (it may be told again). Times are those of a clock that never jumps, since the start of the process.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use spotalis_core::capacity::CapacityType;
use spotalis_core::opt_in::OptIn;
use spotalis_core::rebalance::{Budgets, Pod, Probe, Rollout, Snapshot};
use spotalis_kube::index::{Outlook, WorkloadKey};

/// An eviction counts against the cluster's limit at most this long.
pub(crate) const DISRUPTION_LIMIT: Duration = Duration::from_mins(5);
/// For so long it is believed that a pod is gone although the view shows it: nothing waits for ever.
const GONE_LIMIT: Duration = Duration::from_mins(5);
/// After an eviction whose replacement was not Ready by then, no autoscaler's promise of that type is believed for so long.
const DISAPPOINTED: Duration = Duration::from_mins(30);
/// The first pause after the API server refused an eviction, and the longest; each further one doubles it.
const REFUSAL_PAUSE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_mins(5));
/// Creation times are whole seconds, rounded down.
const CREATION_STEP: Duration = Duration::from_secs(1);

/// A pod of ours to be evicted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Victim {
    pub(crate) name: Arc<str>,
    pub(crate) uid: Arc<str>,
    /// Where its replacement is to run.
    pub(crate) to: CapacityType,
}

/// An eviction whose replacement is not Ready yet.
#[derive(Debug)]
struct Disruption {
    victim: Victim,
    since: Duration,
    state: State,
    /// The probe that it took the place of.
    before: Option<Probe>,
    /// The one whose replacement was not Ready yet when this one was asked for: it still counts if this one is refused.
    earlier: Option<Box<Disruption>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Being sent.
    Asked,
    /// Sent at this time, and accepted.
    Accepted(Timestamp),
    /// Sent at this time, and the answer was lost.
    Doubtful(Timestamp),
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// When the term began.
    pub(crate) term_began: Option<Timestamp>,
    disruptions: BTreeMap<WorkloadKey, Disruption>,
    /// Pods of which the API server said that they are gone: the last of each workload, by UID, and when.
    gone: BTreeMap<WorkloadKey, (Arc<str>, Duration)>,
    /// Workloads that wait for another's disruption to end.
    waiting: Waiting,
    /// Those who were woken and not looked at since: a place is kept for each.
    woken: BTreeSet<WorkloadKey>,
    /// Workloads that wait for a node.
    for_room: BTreeSet<WorkloadKey>,
    /// When a replacement was last not Ready in time, by type.
    disappointed: BTreeMap<CapacityType, Duration>,
    probes: BTreeMap<WorkloadKey, Probe>,
    /// Not to be acted upon before.
    holds: BTreeMap<WorkloadKey, Duration>,
    /// Refusals in a row.
    refusals: BTreeMap<WorkloadKey, u32>,
    /// Pods that a budget held back although the index said otherwise: by UID, until when.
    blocked: BTreeMap<WorkloadKey, BTreeMap<Arc<str>, (Blocked, Duration)>>,
    /// The last thing told about a workload: code and sentence.
    told: BTreeMap<WorkloadKey, (&'static str, String)>,
    /// The problems told.
    problems: BTreeMap<WorkloadKey, Vec<String>>,
}

/// What the API server said of a pod's budgets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Blocked {
    /// This one allows nothing.
    By(Arc<str>),
    /// There are several.
    BySeveral,
}

impl Memory {
    /// Nothing yet, in a term that begins now.
    pub(crate) fn of_term(began: Timestamp) -> Self {
        Self { term_began: Some(began), ..Self::default() }
    }

    /// Forgets everything about a workload that is gone.
    pub(crate) fn forget(&mut self, key: &WorkloadKey) {
        self.disruptions.remove(key);
        self.gone.remove(key);
        self.waiting.remove(key);
        self.woken.remove(key);
        self.for_room.remove(key);
        self.probes.remove(key);
        self.holds.remove(key);
        self.refusals.remove(key);
        self.blocked.remove(key);
        self.told.remove(key);
        self.problems.remove(key);
    }

    /// Ends the workload's disruption if its replacement is Ready, or if that takes too long.
    pub(crate) fn settle(&mut self, key: &WorkloadKey, snapshot: &Snapshot, now: Duration) {
        let Some(Disruption { victim, since, state, .. }) = self.disruptions.get(key) else { return };
        let (State::Accepted(at) | State::Doubtful(at)) = *state else { return };
        let to = victim.to;
        let is_new = |pod: &Pod| may_follow(pod, at);
        let replaced = snapshot.pods.len() == snapshot.replicas as usize
            && snapshot.pods.iter().all(|pod| pod.uid != victim.uid && (pod.ready || !is_new(pod)));
        if replaced {
            // With fewer replicas than before there may be no replacement, and that proves nothing.
            if snapshot.pods.iter().any(|pod| is_new(pod) && pod.capacity == Some(to)) {
                self.disappointed.remove(&to);
            }
            self.disruptions.remove(key);
        } else if now.saturating_sub(*since) >= DISRUPTION_LIMIT {
            // Nor does a workload whose pods are not seen, or that replaces them all.
            if matches!(snapshot.opt_in, OptIn::Managed) && snapshot.rollout == Rollout::Settled {
                self.disappointed.insert(to, now);
            }
            self.disruptions.remove(key);
        }
    }

    /// How long the workload's eviction may still count.
    pub(crate) fn unsettled_for(&self, key: &WorkloadKey, now: Duration) -> Option<Duration> {
        let since = self.disruptions.get(key)?.since;
        Some((since + DISRUPTION_LIMIT).saturating_sub(now))
    }

    /// Whether the view still shows a pod that we evicted, or that we know to be gone.
    pub(crate) fn awaits(&self, key: &WorkloadKey, snapshot: &Snapshot, now: Duration) -> bool {
        let shows = |uid: &Arc<str>| snapshot.pods.iter().any(|pod| pod.uid == *uid);
        let disruption = self.disruptions.get(key).filter(|disruption| disruption.state != State::Asked);
        let gone = self.gone.get(key).filter(|(_, since)| now.saturating_sub(*since) < GONE_LIMIT);
        disruption.is_some_and(|disruption| shows(&disruption.victim.uid)) || gone.is_some_and(|(uid, _)| shows(uid))
    }

    /// The pod of which nobody knows whether it was evicted.
    pub(crate) fn doubtful(&self, key: &WorkloadKey) -> Option<Victim> {
        let Disruption { victim, state, .. } = self.disruptions.get(key)?;
        matches!(state, State::Doubtful(_)).then(|| victim.clone())
    }

    /// It was evicted.
    pub(crate) fn confirm(&mut self, key: &WorkloadKey) {
        if let Some(disruption) = self.disruptions.get_mut(key)
            && let State::Doubtful(at) = disruption.state
        {
            disruption.state = State::Accepted(at);
            disruption.earlier = None;
        }
    }

    /// The pod was gone before it could be evicted. That is no move of ours, but the view is behind until it shows it.
    pub(crate) fn found_gone(&mut self, key: &WorkloadKey, now: Duration) {
        let asked = self.disruptions.get(key).map(|disruption| disruption.victim.uid.clone());
        self.gone.extend(asked.map(|uid| (key.clone(), (uid, now))));
        self.end_disruption(key);
    }

    /// It was not: as if nothing had been sent.
    pub(crate) fn retract(&mut self, key: &WorkloadKey) {
        self.probes.remove(key);
        let before = self.disruptions.get(key).and_then(|disruption| disruption.before);
        self.probes.extend(before.map(|probe| (key.clone(), probe)));
        self.end_disruption(key);
    }

    /// Whether this workload may be disrupted as far as the cluster's limit goes.
    pub(crate) fn limit_free(&self, key: &WorkloadKey, limit: usize, now: Duration) -> bool {
        let kept = self.woken.iter().filter(|other| *other != key).count();
        self.others(key, now).count() + kept < limit
    }

    /// What others' moves leave of the room, and whether promises of it were kept lately.
    pub(crate) fn outlook(&self, key: &WorkloadKey, to: CapacityType, now: Duration) -> Outlook {
        let ahead = self.others(key, now).filter(|disruption| disruption.victim.to == to).count();
        let disappointed = self.disappointed.get(&to).is_some_and(|at| now.saturating_sub(*at) < DISAPPOINTED);
        Outlook { ahead: u32::try_from(ahead).unwrap_or(u32::MAX), trusting: !disappointed }
    }

    fn others<'a>(&'a self, key: &'a WorkloadKey, now: Duration) -> impl Iterator<Item = &'a Disruption> {
        let young = move |disruption: &&Disruption| now.saturating_sub(disruption.since) < DISRUPTION_LIMIT;
        self.disruptions.iter().filter(move |(other, _)| *other != key).map(|(_, disruption)| disruption).filter(young)
    }

    /// Has the workload looked at again when there is a place under the limit.
    pub(crate) fn wait_for_limit(&mut self, key: &WorkloadKey) {
        self.waiting.push(key);
    }

    /// The workload that has waited longest for a place under the limit, if there is one now. It is kept for it until
    /// [`Self::looked_at`].
    pub(crate) fn next_waiting(&mut self, limit: usize, now: Duration) -> Option<WorkloadKey> {
        let next = self.waiting.first().filter(|next| self.limit_free(next, limit, now))?;
        self.waiting.remove(&next);
        self.woken.insert(next.clone());
        Some(next)
    }

    /// The workload was looked at. Whoever was woken for a place has taken it by now, or has no use for it.
    pub(crate) fn looked_at(&mut self, key: &WorkloadKey) {
        self.woken.remove(key);
    }

    /// Has the workload looked at again when nodes change.
    pub(crate) fn wait_for_room(&mut self, key: &WorkloadKey) {
        self.for_room.insert(key.clone());
    }

    /// Those who wait for a node, and wait no longer.
    pub(crate) fn take_waiting_for_room(&mut self) -> BTreeSet<WorkloadKey> {
        std::mem::take(&mut self.for_room)
    }

    /// Takes a place under the cluster's limit for an eviction about to be sent; `false` if another took the last one.
    pub(crate) fn begin_disruption(&mut self, key: &WorkloadKey, victim: Victim, limit: usize, now: Duration) -> bool {
        let free = self.limit_free(key, limit, now);
        if free {
            self.waiting.remove(key);
            self.woken.remove(key);
            let earlier = self.disruptions.remove(key).map(Box::new);
            let disruption = Disruption { victim, since: now, state: State::Asked, before: None, earlier };
            self.disruptions.insert(key.clone(), disruption);
        }
        free
    }

    /// The eviction that was sent at that time was accepted, or may have been. What comes back is to be looked at before the
    /// next one: `failures` says how many came back unsteered already.
    pub(crate) fn evicted(&mut self, key: &WorkloadKey, failures: u32, at: Timestamp, is_certain: bool) {
        let before = self.probes.insert(key.clone(), Probe { evicted: at, failures });
        if let Some(disruption) = self.disruptions.get_mut(key) {
            disruption.state = if is_certain { State::Accepted(at) } else { State::Doubtful(at) };
            disruption.before = before;
            if is_certain {
                disruption.earlier = None;
            }
        }
        self.refusals.remove(key);
    }

    /// The eviction did not happen.
    pub(crate) fn end_disruption(&mut self, key: &WorkloadKey) {
        let earlier = self.disruptions.remove(key).and_then(|disruption| disruption.earlier);
        self.disruptions.extend(earlier.map(|earlier| (key.clone(), *earlier)));
    }

    /// The last eviction, until a newer pod carries our mark.
    pub(crate) fn probe(&mut self, key: &WorkloadKey, snapshot: &Snapshot) -> Option<Probe> {
        let probe = self.probes.get(key).copied()?;
        let newest = snapshot.pods.iter().max_by_key(|pod| (pod.created, &pod.name));
        if newest.is_some_and(|pod| pod.marked && may_follow(pod, probe.evicted)) {
            self.probes.remove(key);
            return None;
        }
        Some(probe)
    }

    /// Leaves the workload alone until then, after an answer that would only be repeated.
    pub(crate) fn hold(&mut self, key: &WorkloadKey, until: Duration) {
        self.holds.insert(key.clone(), until);
    }

    /// How long the workload is still to be left alone.
    pub(crate) fn held(&mut self, key: &WorkloadKey, now: Duration) -> Option<Duration> {
        let left = self.holds.get(key)?.saturating_sub(now);
        if left.is_zero() {
            self.holds.remove(key);
            return None;
        }
        Some(left)
    }

    /// Counts a refusal; how long to leave the workload alone.
    pub(crate) fn refused(&mut self, key: &WorkloadKey) -> Duration {
        let (first, longest) = REFUSAL_PAUSE;
        let refusals = self.refusals.entry(key.clone()).or_default();
        let pause = first.saturating_mul(1 << (*refusals).min(8)).min(longest);
        *refusals = refusals.saturating_add(1);
        pause
    }

    /// The API server held this pod back: it is no candidate for a while.
    pub(crate) fn block(&mut self, key: &WorkloadKey, uid: &Arc<str>, blocked: Blocked, until: Duration) {
        self.blocked.entry(key.clone()).or_default().insert(uid.clone(), (blocked, until));
    }

    /// Writes into a snapshot what the API server said of budgets, which knows better than the index; when the first of
    /// that is over.
    pub(crate) fn correct(&mut self, key: &WorkloadKey, snapshot: &mut Snapshot, now: Duration) -> Option<Duration> {
        let blocked = self.blocked.get_mut(key)?;
        let may_be_there = |uid: &Arc<str>| snapshot.pods.is_empty() || snapshot.pods.iter().any(|pod| pod.uid == *uid);
        blocked.retain(|uid, (_, until)| *until > now && may_be_there(uid));
        for pod in &mut snapshot.pods {
            pod.budgets = match blocked.get(&pod.uid) {
                None => continue,
                Some((Blocked::By(name), _)) => Budgets::One { name: name.clone(), allows: false },
                Some((Blocked::BySeveral, _)) => Budgets::Several,
            };
        }
        blocked.values().map(|(_, until)| until.saturating_sub(now)).min()
    }

    /// Whether this differs from what was told last about the workload; remembers it.
    pub(crate) fn is_news(&mut self, key: &WorkloadKey, code: &'static str, sentence: &str) -> bool {
        let same = self.told.get(key).is_some_and(|told| told.0 == code && told.1 == sentence);
        if !same {
            self.told.insert(key.clone(), (code, sentence.to_owned()));
        }
        !same
    }

    /// The problems that were not there the last time.
    pub(crate) fn new_problems(&mut self, key: &WorkloadKey, problems: Vec<String>) -> Vec<String> {
        let known = self.problems.get(key).cloned().unwrap_or_default();
        let new = problems.iter().filter(|problem| !known.contains(problem)).cloned().collect();
        self.problems.insert(key.clone(), problems);
        new
    }
}

/// Whether the pod may have been created after that moment.
fn may_follow(pod: &Pod, moment: Timestamp) -> bool {
    pod.created.checked_add(CREATION_STEP).is_ok_and(|latest| latest > moment)
}

/// Keys in the order in which they came, each once.
#[derive(Debug, Default)]
struct Waiting {
    order: BTreeMap<u64, WorkloadKey>,
    places: BTreeMap<WorkloadKey, u64>,
    arrivals: u64,
}

impl Waiting {
    fn push(&mut self, key: &WorkloadKey) {
        if !self.places.contains_key(key) {
            self.arrivals += 1;
            self.order.insert(self.arrivals, key.clone());
            self.places.insert(key.clone(), self.arrivals);
        }
    }

    fn first(&self) -> Option<WorkloadKey> {
        self.order.first_key_value().map(|(_, key)| key.clone())
    }

    fn remove(&mut self, key: &WorkloadKey) -> bool {
        self.places.remove(key).is_some_and(|place| self.order.remove(&place).is_some())
    }
}

#[cfg(test)]
mod tests;
