//! Sizes of ReplicaSets in a rolling update: the new one grows into the surge, the old ones shrink as far as enough pods
//! are available.

use std::collections::BTreeMap;

use super::{Rollout, replicas};
use crate::object::Object;

fn available(set: &Object) -> i64 {
    set.number("/status/availableReplicas").unwrap_or(0)
}

impl<'s> Rollout<'s> {
    /// The size with which a new ReplicaSet begins.
    pub(super) fn first_size(&self) -> i64 {
        self.room(0)
    }

    /// The size that the new ReplicaSet may have, being of this one.
    fn room(&self, size: i64) -> i64 {
        if self.deployment.text("/spec/strategy/type") == Some("Recreate") {
            return self.wanted();
        }
        let free = self.wanted() + self.slack().0 - self.sets().map(replicas).sum::<i64>();
        size + free.min(self.wanted() - size).max(0)
    }

    /// The new ReplicaSet grows as far as the surge allows, and never stays above what is asked for.
    pub(super) fn grown(&self, new: &'s Object) -> Vec<(&'s Object, i64)> {
        let size = replicas(new);
        let next = if size > self.wanted() { self.wanted() } else { self.room(size) };
        if next == size { Vec::new() } else { vec![(new, next)] }
    }

    /// The old ones shrink: first by pods that are not available anyway, then by as many as are available above the least
    /// that has to be; the oldest first.
    pub(super) fn shrunk(&self, new: &'s Object) -> Vec<(&'s Object, i64)> {
        let old: Vec<&Object> = self.active_old().collect();
        let least = self.wanted() - self.slack().1;
        let all: i64 = self.sets().map(replicas).sum();
        let removable = all - least - (replicas(new) - available(new));
        if old.is_empty() || removable <= 0 {
            return Vec::new();
        }
        let mut sizes: BTreeMap<&str, i64> = old.iter().map(|set| (set.name(), replicas(set))).collect();
        take(&old, &mut sizes, removable, |set, size| size - available(set));
        let spare = self.sets().map(available).sum::<i64>() - least;
        take(&old, &mut sizes, spare, |_, size| size);
        let sized = old.into_iter().map(|set| (set, sizes[set.name()]));
        sized.filter(|(set, size)| replicas(set) != *size).collect()
    }
}

/// Takes up to so many pods away, from each ReplicaSet what it can give.
fn take<'s>(
    sets: &[&'s Object],
    sizes: &mut BTreeMap<&'s str, i64>,
    mut count: i64,
    can: impl Fn(&Object, i64) -> i64,
) {
    for set in sets {
        let Some(size) = sizes.get_mut(set.name()) else { continue };
        let taken = can(set, *size).min(count).max(0);
        *size -= taken;
        count -= taken;
    }
}
