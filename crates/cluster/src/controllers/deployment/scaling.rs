//! Sizes of ReplicaSets when the number of pods asked for changes: all of it to the only active one, or to each its share
//! in the middle of a rollout.

use std::cmp::Reverse;

use serde_json::{Value, json};

use super::{Rollout, replicas};
use crate::engine::Write;
use crate::object::Object;

/// On a ReplicaSet: the number of pods that the Deployment asked for when it was last scaled.
pub(super) const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
/// The same with the surge.
pub(super) const MAXIMUM: &str = "deployment.kubernetes.io/max-replicas";

/// A ReplicaSet, and the size that it is to have.
pub(super) type Sizes<'s> = [(&'s Object, i64)];

impl<'s> Rollout<'s> {
    /// The writes that give ReplicaSets these sizes.
    pub(super) fn resized(&self, sizes: &Sizes<'s>) -> Vec<Write> {
        let changed = sizes.iter().filter(|(set, size)| replicas(set) != *size || self.has_old_scale(set));
        let writes = changed.map(|(set, size)| {
            let mut after = set.json().clone();
            after["spec"]["replicas"] = json!(size);
            self.put_scale(&mut after);
            Write::Replace { object: after, subresource: None }
        });
        writes.collect()
    }

    fn scale(&self) -> [(&'static str, String); 2] {
        [(DESIRED, self.wanted().to_string()), (MAXIMUM, (self.wanted() + self.slack().0).to_string())]
    }

    /// Notes on a ReplicaSet for which number of pods it was sized.
    pub(super) fn put_scale(&self, set: &mut Value) {
        for (key, value) in self.scale() {
            set["metadata"]["annotations"][key] = json!(value);
        }
    }

    fn has_old_scale(&self, set: &Object) -> bool {
        self.scale().iter().any(|(key, value)| set.annotation(key) != Some(value))
    }

    /// The sizes after the number of pods asked for changed, or of a paused rollout.
    pub(super) fn proportions(&self) -> Vec<(&'s Object, i64)> {
        let mut active: Vec<&Object> = self.sets().filter(|set| replicas(set) > 0).collect();
        if active.len() <= 1 {
            let only = active.pop().or(self.new).or(self.old.last().copied());
            return only
                .filter(|set| replicas(set) != self.wanted())
                .map(|set| (set, self.wanted()))
                .into_iter()
                .collect();
        }
        if self.new.is_some_and(|new| self.is_saturated(new)) {
            return self.active_old().map(|set| (set, 0)).collect();
        }
        if self.deployment.text("/spec/strategy/type") == Some("Recreate") {
            return Vec::new();
        }
        let allowed = if self.wanted() > 0 { self.wanted() + self.slack().0 } else { 0 };
        let missing = allowed - active.iter().map(|set| replicas(set)).sum::<i64>();
        active.sort_by(|a, b| {
            let (by_size, by_age) = (
                Reverse(replicas(a)).cmp(&Reverse(replicas(b))),
                (a.created(), a.name()).cmp(&(b.created(), b.name())),
            );
            by_size.then(if missing > 0 { by_age.reverse() } else { by_age })
        });
        self.shares(&active, missing)
    }

    /// Gives each its share of what is missing, or surplus if negative, and the first what is left of it.
    fn shares(&self, sets: &[&'s Object], missing: i64) -> Vec<(&'s Object, i64)> {
        let mut left = missing;
        let mut sizes: Vec<(&Object, i64)> = Vec::new();
        for set in sets {
            let share = self.fraction(set);
            let share = if missing > 0 { share.min(left) } else { share.max(left) };
            let share = if left == 0 { 0 } else { share };
            left -= share;
            sizes.push((set, replicas(set) + share));
        }
        if let Some((_, size)) = sizes.first_mut() {
            *size = (*size + left).max(0);
        }
        sizes
    }

    /// By how much a ReplicaSet changes if it keeps its part of the whole.
    fn fraction(&self, set: &Object) -> i64 {
        let size = replicas(set);
        if self.wanted() == 0 {
            return -size;
        }
        let allowed = self.wanted() + self.slack().0;
        let was = set.annotation(MAXIMUM).and_then(|number| number.parse().ok());
        let was = was.or(self.deployment.number("/status/replicas")).filter(|was| *was > 0).unwrap_or(allowed);
        // Rounded to the nearest, halves up; all of these are positive.
        (2 * size * allowed + was) / (2 * was) - size
    }

    /// Whether the new ReplicaSet is all that is asked for, and available.
    fn is_saturated(&self, new: &Object) -> bool {
        let desired = new.annotation(DESIRED).and_then(|number| number.parse().ok());
        let available = new.number("/status/availableReplicas").unwrap_or(0);
        replicas(new) == self.wanted() && desired == Some(self.wanted()) && available == self.wanted()
    }
}
