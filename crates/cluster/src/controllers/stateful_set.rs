//! StatefulSets: pods with numbers, made and replaced in their order.
//!
//! One pass makes at most the writes that the real controller makes in one: a pod at a time, or with `Parallel` all that are
//! missing in batches. Pods name their volume claims; the claims themselves do not exist here, and nobody waits for one.

mod pass;
mod revisions;
mod status;

use std::sync::Arc;

use jiff::Timestamp;

use self::pass::pass;
use self::revisions::Revisions;
use super::claim::{claimants, claims_if};
use super::pods::{is_controlled_by, next_available};
use crate::engine::{Act, Controller};
use crate::object::Object;
use crate::resource::Kind;
use crate::store::{Change, Key, Store};

/// The controller of StatefulSets.
#[derive(Clone, Copy, Debug)]
pub struct StatefulSets;

impl Controller for StatefulSets {
    fn name(&self) -> &'static str {
        "statefulset"
    }

    fn touched(&self, store: &Store, change: &Change) -> Vec<Key> {
        match change.key.kind {
            Kind::StatefulSet => vec![change.key.clone()],
            Kind::Pod | Kind::ControllerRevision => {
                let versions = [&change.before, &change.after].into_iter().flatten();
                versions.flat_map(|object| claimants(store, object, Kind::StatefulSet)).collect()
            }
            _ => Vec::new(),
        }
    }

    fn look(&self, store: &Store, key: &Key, now: Timestamp) -> Act {
        let Some(set) = store.get(key) else { return Act::none() };
        let claims = claims_if(store, set, Kind::Pod, &|pod| ordinal(set, pod).is_some());
        if !claims.is_empty() {
            return Act::now(claims);
        }
        let revisions = match Revisions::of(store, set) {
            Ok(revisions) => revisions,
            Err(write) => return Act::now(vec![*write]),
        };
        let pods = pods(store, set);
        let batches = if set.deletion().is_some() { Vec::new() } else { pass(set, &revisions, &pods, now) };
        if batches.iter().any(|batch| !batch.is_empty()) {
            return Act { batches, again: None };
        }
        let writes = status::write(set, &revisions, &pods, now);
        if !writes.is_empty() {
            return Act::now(writes);
        }
        let surplus = revisions.surplus(set, &pods);
        if !surplus.is_empty() {
            return Act::now(surplus);
        }
        Act::at(next_available(pods.iter().map(|pod| &**pod.object), min_ready_seconds(set), now))
    }
}

/// A pod of a set.
struct Member<'s> {
    key: &'s Key,
    object: &'s Arc<Object>,
    ordinal: i64,
}

fn pods<'s>(store: &'s Store, set: &Object) -> Vec<Member<'s>> {
    let owned = store.owned_by(set.uid()).filter(|(key, pod)| key.kind == Kind::Pod && is_controlled_by(pod, set));
    let numbered = owned.filter_map(|(key, object)| Some(Member { key, object, ordinal: ordinal(set, object)? }));
    let mut pods: Vec<Member<'s>> = numbered.collect();
    pods.sort_by_key(|pod| pod.ordinal);
    pods
}

/// The number of a pod, by its name; `None` if it is not called after the set.
fn ordinal(set: &Object, pod: &Object) -> Option<i64> {
    let number = pod.name().strip_prefix(set.name())?.strip_prefix('-')?;
    number.bytes().all(|digit| digit.is_ascii_digit()).then(|| number.parse().ok()).flatten()
}

/// The numbers that there are to be.
fn ordinals(set: &Object) -> std::ops::Range<i64> {
    let start = set.number("/spec/ordinals/start").unwrap_or(0);
    start..start + set.number("/spec/replicas").unwrap_or(1)
}

fn min_ready_seconds(set: &Object) -> i64 {
    set.number("/spec/minReadySeconds").unwrap_or(0)
}

#[cfg(test)]
mod tests;
