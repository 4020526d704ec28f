//! Deployments: one ReplicaSet for the template as it is now, and how many pods it and the older ones have on the way
//! there.
//!
//! It creates, scales and deletes ReplicaSets and never touches a pod.

mod revision;
mod rolling;
mod scaling;
mod status;

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

use super::claim::{claimants, claims, selects};
use super::pods::{delete, is_controlled_by, is_over, key};
use super::portion::portion;
use crate::engine::{Act, Controller, Refused, Verb, Write};
use crate::object::Object;
use crate::resource::Kind;
use crate::store::{Change, Key, Store};

/// The controller of Deployments.
#[derive(Clone, Copy, Debug)]
pub struct Deployments;

impl Controller for Deployments {
    fn name(&self) -> &'static str {
        "deployment"
    }

    fn touched(&self, store: &Store, change: &Change) -> Vec<Key> {
        match change.key.kind {
            Kind::Deployment => vec![change.key.clone()],
            Kind::ReplicaSet => {
                let versions = [&change.before, &change.after].into_iter().flatten();
                versions.flat_map(|set| claimants(store, set, Kind::Deployment)).collect()
            }
            // Only a Deployment that waits for the last of its old pods to go asks about pods.
            Kind::Pod if change.after.as_ref().is_none_or(|pod| is_over(pod)) => {
                change.before.as_ref().and_then(|pod| waiting_for(store, pod)).into_iter().collect()
            }
            _ => Vec::new(),
        }
    }

    fn look(&self, store: &Store, key: &Key, now: Timestamp) -> Act {
        let Some(deployment) = store.get(key) else { return Act::none() };
        let claims = claims(store, deployment, Kind::ReplicaSet);
        if !claims.is_empty() && deployment.deletion().is_none() {
            return Act::now(claims);
        }
        Rollout::of(store, deployment, now).step(store)
    }

    fn refused(&self, store: &Store, key: &Key, verb: Verb, refused: &Refused, now: Timestamp) -> Vec<Write> {
        let Some(deployment) = store.get(key).filter(|_| verb == Verb::Create) else { return Vec::new() };
        Rollout::of(store, deployment, now).not_created(&refused.message)
    }
}

/// The Deployment of a pod, if it replaces all pods at once.
fn waiting_for(store: &Store, pod: &Object) -> Option<Key> {
    let set = pod.controller().filter(|owner| owner.kind == "ReplicaSet")?;
    let set = store.get(&Key::new(Kind::ReplicaSet, pod.namespace(), set.name))?;
    let owner = set.controller().filter(|owner| owner.kind == "Deployment")?;
    let deployment = store.get(&Key::new(Kind::Deployment, pod.namespace(), owner.name))?;
    (deployment.text("/spec/strategy/type") == Some("Recreate")).then(|| key(deployment)).flatten()
}

/// A Deployment and its ReplicaSets, as they are.
struct Rollout<'s> {
    deployment: &'s Object,
    /// The one with the template as it is now.
    new: Option<&'s Object>,
    /// The others, oldest first.
    old: Vec<&'s Object>,
    now: Timestamp,
}

impl<'s> Rollout<'s> {
    fn of(store: &'s Store, deployment: &'s Object, now: Timestamp) -> Self {
        let ours = |(key, set): &(&Key, &Arc<Object>)| {
            key.kind == Kind::ReplicaSet && is_controlled_by(set, deployment) && selects(deployment, set)
        };
        let mut sets: Vec<&Object> = store.owned_by(deployment.uid()).filter(ours).map(|(_, set)| &**set).collect();
        sets.sort_by(|a, b| (a.created(), a.name()).cmp(&(b.created(), b.name())));
        let new = sets.iter().position(|set| revision::has_template(set, deployment.at("/spec/template")));
        let new = new.map(|place| sets.remove(place));
        Self { deployment, new, old: sets, now }
    }

    fn step(&self, store: &Store) -> Act {
        if self.deployment.deletion().is_some() {
            return Act::now(self.status());
        }
        if let Some(write) = self.pausing() {
            return Act::now(vec![write]);
        }
        if let Some(write) = self.new.and_then(|new| self.annotated(new)) {
            return Act::now(vec![write]);
        }
        if self.is_paused() || self.is_scaled() {
            return self.scale_only();
        }
        match self.deployment.text("/spec/strategy/type") {
            Some("Recreate") => self.recreate(store),
            _ => self.roll(),
        }
    }

    /// While it is paused, and when the number of pods asked for changed, nothing is rolled out.
    fn scale_only(&self) -> Act {
        let scaled = self.resized(&self.proportions());
        if !scaled.is_empty() {
            return Act::now(scaled);
        }
        let surplus = if self.is_paused() { self.history() } else { Vec::new() };
        Act::now(if surplus.is_empty() { self.status() } else { surplus })
    }

    fn roll(&self) -> Act {
        let Some(new) = self.new else { return self.created() };
        for sizes in [self.grown(new), self.shrunk(new)] {
            let writes = self.resized(&sizes);
            if !writes.is_empty() {
                return Act { batches: vec![writes, self.rollout_status()], again: None };
            }
        }
        self.settled()
    }

    fn recreate(&self, store: &Store) -> Act {
        let emptied = self.resized(&self.active_old().map(|set| (set, 0)).collect::<Vec<_>>());
        if !emptied.is_empty() {
            return Act::now(emptied);
        }
        if self.has_old_pods(store) {
            return self.settled();
        }
        let Some(new) = self.new else { return self.created() };
        let filled = self.resized(&[(new, self.wanted())]);
        if filled.is_empty() { self.settled() } else { Act::now(filled) }
    }

    /// Nothing to scale: the history is trimmed, the status written.
    fn settled(&self) -> Act {
        let surplus = if self.is_complete(self.deployment.at("/status")) { self.history() } else { Vec::new() };
        let writes = if surplus.is_empty() { self.rollout_status() } else { surplus };
        Act { batches: vec![writes], again: self.deadline() }
    }

    fn has_old_pods(&self, store: &Store) -> bool {
        let running =
            |set: &&Object| store.owned_by(set.uid()).any(|(key, pod)| key.kind == Kind::Pod && !is_over(pod));
        self.old.iter().any(|set| set.number("/status/replicas").unwrap_or(0) > 0 || running(set))
    }

    /// All ReplicaSets.
    fn sets(&self) -> impl Iterator<Item = &'s Object> {
        self.old.iter().copied().chain(self.new)
    }

    /// The older ones that are to have pods.
    fn active_old(&self) -> impl Iterator<Item = &'s Object> {
        self.old.iter().copied().filter(|set| replicas(set) > 0)
    }

    fn is_paused(&self) -> bool {
        self.deployment.is("/spec/paused")
    }

    /// Whether a ReplicaSet was last scaled for another number of pods than is asked for now.
    fn is_scaled(&self) -> bool {
        let wanted = |set: &Object| set.annotation(scaling::DESIRED).and_then(|number| number.parse::<i64>().ok());
        let mut active = self.sets().filter(|set| replicas(set) > 0);
        active.any(|set| wanted(set).is_some_and(|wanted| wanted != self.wanted()))
    }

    fn wanted(&self) -> i64 {
        replicas(self.deployment)
    }

    /// How many pods there may be above what is asked for, and how many of those asked for may be missing.
    fn slack(&self) -> (i64, i64) {
        if self.deployment.text("/spec/strategy/type") == Some("Recreate") {
            return (0, 0);
        }
        let of = |name: &str, round_up| {
            let value = self.deployment.at(&format!("/spec/strategy/rollingUpdate/{name}"));
            let default = Value::from("25%");
            portion(if value.is_null() { &default } else { value }, self.wanted(), round_up).unwrap_or(0)
        };
        match (of("maxSurge", true), of("maxUnavailable", false)) {
            // Both of zero would never move.
            (0, 0) => (0, 1.min(self.wanted())),
            (surge, unavailable) => (surge, unavailable.min(self.wanted())),
        }
    }
}

/// What an object's spec asks for.
fn replicas(object: &Object) -> i64 {
    object.number("/spec/replicas").unwrap_or(1)
}

#[cfg(test)]
mod tests;
