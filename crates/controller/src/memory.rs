//! What balance remembers between two passes, and why losing it is harmless.
//!
//! Everything that matters is read off the cluster. Here is only what the cluster does not say: which evictions of ours
//! are not settled yet (a restart forgets them; the cooldown and the count of Ready pods still hold), which workloads
//! were probed (a restart costs one more probe), and what was told already (a restart may tell it again).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use spotalis_core::rebalance::{Probe, Snapshot};
use spotalis_kube::index::WorkloadKey;

/// An eviction counts against the cluster's limit at most this long.
const DISRUPTION_LIMIT: Duration = Duration::from_mins(5);

/// An eviction whose replacement is not Ready yet.
#[derive(Debug)]
struct Disruption {
    /// The evicted pod; `None` while the eviction is being sent.
    pod: Option<Arc<str>>,
    since: Timestamp,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    disruptions: BTreeMap<WorkloadKey, Disruption>,
    /// Workloads that wait for another's disruption to end.
    waiting: BTreeSet<WorkloadKey>,
    probes: BTreeMap<WorkloadKey, Probe>,
    /// Not to be tried again before.
    holds: BTreeMap<WorkloadKey, Timestamp>,
    /// The last thing told about a workload: code and sentence.
    told: BTreeMap<WorkloadKey, (&'static str, String)>,
    /// The problems told.
    problems: BTreeMap<WorkloadKey, Vec<String>>,
}

impl Memory {
    /// Forgets everything about a workload that is gone.
    pub(crate) fn forget(&mut self, key: &WorkloadKey) -> BTreeSet<WorkloadKey> {
        self.probes.remove(key);
        self.holds.remove(key);
        self.told.remove(key);
        self.problems.remove(key);
        self.waiting.remove(key);
        self.end_disruption(key)
    }

    /// Ends the workload's disruption if what it waits for has happened, and says who was waiting for that.
    pub(crate) fn settle(&mut self, key: &WorkloadKey, snapshot: &Snapshot, now: Timestamp) -> BTreeSet<WorkloadKey> {
        let Some(Disruption { pod, since }) = self.disruptions.get(key) else { return BTreeSet::new() };
        let replaced = snapshot.pods.len() == snapshot.replicas as usize
            && snapshot.pods.iter().all(|other| other.ready && Some(&other.uid) != pod.as_ref());
        if pod.is_some() && replaced || elapsed(*since, now) >= DISRUPTION_LIMIT {
            return self.end_disruption(key);
        }
        BTreeSet::new()
    }

    /// Whether the view still shows a pod that we evicted.
    pub(crate) fn awaits(&self, key: &WorkloadKey, snapshot: &Snapshot) -> bool {
        let evicted = self.disruptions.get(key).and_then(|disruption| disruption.pod.as_ref());
        evicted.is_some_and(|evicted| snapshot.pods.iter().any(|pod| pod.uid == *evicted))
    }

    /// Whether this workload may be disrupted as far as the cluster's limit goes. If not, it is told when that changes.
    pub(crate) fn limit_free(&mut self, key: &WorkloadKey, limit: usize) -> bool {
        let others = self.disruptions.len() - usize::from(self.disruptions.contains_key(key));
        others < limit
    }

    /// Has the workload looked at again when another's disruption ends.
    pub(crate) fn wait_for_limit(&mut self, key: &WorkloadKey) {
        self.waiting.insert(key.clone());
    }

    /// Takes a place under the cluster's limit for an eviction about to be sent; `false` if another took the last one.
    pub(crate) fn begin_disruption(&mut self, key: &WorkloadKey, limit: usize, now: Timestamp) -> bool {
        let free = self.limit_free(key, limit);
        if free {
            self.disruptions.insert(key.clone(), Disruption { pod: None, since: now });
        }
        free
    }

    /// The eviction was accepted, or may have been.
    pub(crate) fn evicted(&mut self, key: &WorkloadKey, pod: &Arc<str>, probe: Option<u32>, now: Timestamp) {
        if let Some(disruption) = self.disruptions.get_mut(key) {
            disruption.pod = Some(pod.clone());
        }
        if let Some(failures) = probe {
            self.probes.insert(key.clone(), Probe { evicted: now, failures });
        }
    }

    /// The disruption is over or never was; says who was waiting for that.
    pub(crate) fn end_disruption(&mut self, key: &WorkloadKey) -> BTreeSet<WorkloadKey> {
        match self.disruptions.remove(key) {
            Some(_) => std::mem::take(&mut self.waiting),
            None => BTreeSet::new(),
        }
    }

    /// The last unproven eviction. A newest pod with our mark ends the matter.
    pub(crate) fn probe(&mut self, key: &WorkloadKey, snapshot: &Snapshot) -> Option<Probe> {
        let newest = snapshot.pods.iter().max_by_key(|pod| (pod.created, &pod.name));
        if newest.is_some_and(|pod| pod.marked) {
            self.probes.remove(key);
        }
        self.probes.get(key).copied()
    }

    /// Leaves the workload alone for a while, after an answer that would only be repeated.
    pub(crate) fn hold(&mut self, key: &WorkloadKey, until: Timestamp) {
        self.holds.insert(key.clone(), until);
    }

    /// How long the workload is still to be left alone.
    pub(crate) fn held(&mut self, key: &WorkloadKey, now: Timestamp) -> Option<Duration> {
        let left = self.holds.get(key).map(|until| elapsed(now, *until)).filter(|left| !left.is_zero());
        if left.is_none() {
            self.holds.remove(key);
        }
        left
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

/// The time from `earlier` to `later`, or nothing if it is the other way round.
fn elapsed(earlier: Timestamp, later: Timestamp) -> Duration {
    Duration::try_from(later.duration_since(earlier)).unwrap_or_default()
}
