//! One copy of each equal value: a thousand pods of a workload share their labels, namespace and owner.

use std::borrow::Borrow;
use std::collections::BTreeSet;
use std::sync::Arc;

/// A set of shared values.
#[derive(Debug)]
pub struct Interner<T: Ord + ?Sized> {
    values: BTreeSet<Arc<T>>,
    /// How many values there were after the last [`Self::prune`].
    kept: usize,
}

impl<T: Ord + ?Sized> Default for Interner<T> {
    fn default() -> Self {
        Self { values: BTreeSet::new(), kept: 0 }
    }
}

impl<T: Ord + ?Sized> Interner<T> {
    /// The shared copy of `value`.
    pub fn intern<V>(&mut self, value: V) -> Arc<T>
    where
        V: Borrow<T> + Into<Arc<T>>,
    {
        if let Some(shared) = self.values.get(value.borrow()) {
            return shared.clone();
        }
        // Values of deleted objects stay until the set has doubled, so that pruning costs nothing per value.
        if self.values.len() >= 2 * self.kept.max(512) {
            self.values.retain(|value| Arc::strong_count(value) > 1);
            self.kept = self.values.len();
        }
        let shared: Arc<T> = value.into();
        self.values.insert(shared.clone());
        shared
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_are_one_and_unused_ones_go() {
        let mut strings = Interner::<str>::default();
        let first = strings.intern("a");
        assert!(Arc::ptr_eq(&first, &strings.intern("a".to_owned())));
        for n in 0..10_000 {
            strings.intern(n.to_string());
        }
        assert!(strings.values.len() < 3_000, "{} values kept", strings.values.len());
        assert!(Arc::ptr_eq(&first, &strings.intern("a")));
    }
}
