//! What the cluster holds: objects by kind, namespace and name, one counter of revisions, and the changes since the last
//! compaction.
//!
//! It checks nothing and decides nothing. Who may write what, and whether a precondition holds, is decided before.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use serde_json::Value;

use crate::object::Object;
use crate::resource::Kind;

/// Where an object lies.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace; empty outside namespaces.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

impl Key {
    /// Of an object in a namespace, or outside of them if that is empty.
    pub fn new(kind: Kind, namespace: &str, name: &str) -> Self {
        Self { kind, namespace: namespace.into(), name: name.into() }
    }
}

/// One change. Of a deleted object, the last version is in `before`, as it was stored.
#[derive(Clone, Debug)]
pub struct Change {
    /// The revision that it made.
    pub revision: u64,
    /// Of what.
    pub key: Key,
    /// What was there.
    pub before: Option<Arc<Object>>,
    /// What is there now.
    pub after: Option<Arc<Object>>,
}

/// Changes that were asked for are no longer known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too old resource version: {asked} ({oldest})")]
pub struct Compacted {
    /// The revision that was asked for.
    pub asked: u64,
    /// The oldest one from which changes are known.
    pub oldest: u64,
}

/// An object under another revision: watchers see what left their sight under the revision at which it left.
pub fn at_revision(object: &Object, revision: u64) -> Arc<Object> {
    let mut json = object.json().clone();
    json["metadata"]["resourceVersion"] = Value::String(revision.to_string());
    Arc::new(Object::from(json))
}

/// All objects.
#[derive(Clone, Debug, Default)]
pub struct Store {
    revision: u64,
    objects: BTreeMap<Key, Arc<Object>>,
    log: VecDeque<Change>,
    /// Changes up to this revision are forgotten.
    compacted: u64,
}

impl Store {
    /// The revision of the last change.
    pub const fn revision(&self) -> u64 {
        self.revision
    }

    /// An object.
    pub fn get(&self, key: &Key) -> Option<&Arc<Object>> {
        self.objects.get(key)
    }

    /// The objects of a kind, of one namespace or of all, in the order of namespace and name.
    pub fn list(&self, kind: Kind, namespace: Option<&str>) -> impl Iterator<Item = &Arc<Object>> {
        let from = Key::new(kind, namespace.unwrap_or_default(), "");
        let ours = move |key: &Key| key.kind == kind && namespace.is_none_or(|namespace| *key.namespace == *namespace);
        self.objects
            .range((Bound::Included(from), Bound::Unbounded))
            .take_while(move |(key, _)| ours(key))
            .map(|(_, o)| o)
    }

    /// Stores an object with the next revision as its `resourceVersion`, in place of what was there.
    pub fn put(&mut self, key: Key, mut object: Value) -> Arc<Object> {
        self.revision += 1;
        object["metadata"]["resourceVersion"] = Value::String(self.revision.to_string());
        let object = Arc::new(Object::from(object));
        let before = self.objects.insert(key.clone(), object.clone());
        self.log.push_back(Change { revision: self.revision, key, before, after: Some(object.clone()) });
        object
    }

    /// Takes an object away. What is returned bears the revision of its end.
    pub fn remove(&mut self, key: &Key) -> Option<Arc<Object>> {
        let before = self.objects.remove(key)?;
        self.revision += 1;
        let last = at_revision(&before, self.revision);
        self.log.push_back(Change { revision: self.revision, key: key.clone(), before: Some(before), after: None });
        Some(last)
    }

    /// The changes after a revision, oldest first.
    pub fn changes_after(&self, revision: u64) -> Result<impl Iterator<Item = &Change>, Compacted> {
        if revision < self.compacted {
            return Err(Compacted { asked: revision, oldest: self.compacted });
        }
        let known = self.log.partition_point(|change| change.revision <= revision);
        Ok(self.log.range(known..))
    }

    /// The objects of a kind as they were at a revision, by key.
    pub fn list_at(
        &self,
        kind: Kind,
        namespace: Option<&str>,
        revision: u64,
    ) -> Result<BTreeMap<Key, Arc<Object>>, Compacted> {
        if revision < self.compacted {
            return Err(Compacted { asked: revision, oldest: self.compacted });
        }
        let ours = |key: &Key| key.kind == kind && namespace.is_none_or(|namespace| *key.namespace == *namespace);
        let from = Key::new(kind, namespace.unwrap_or_default(), "");
        let range = self.objects.range((Bound::Included(from), Bound::Unbounded)).take_while(|(key, _)| ours(key));
        let mut objects: BTreeMap<Key, Arc<Object>> =
            range.map(|(key, object)| (key.clone(), object.clone())).collect();
        for change in self.log.iter().rev().take_while(|change| change.revision > revision) {
            if !ours(&change.key) {
                continue;
            }
            match &change.before {
                Some(before) => objects.insert(change.key.clone(), before.clone()),
                None => objects.remove(&change.key),
            };
        }
        Ok(objects)
    }

    /// The oldest revision of which is known what came after it.
    pub const fn oldest(&self) -> u64 {
        self.compacted
    }

    /// The last change.
    pub fn last(&self) -> Option<&Change> {
        self.log.back()
    }

    /// Forgets the changes up to a revision.
    pub fn compact(&mut self, revision: u64) {
        self.compacted = self.compacted.max(revision.min(self.revision));
        let forgotten = self.log.partition_point(|change| change.revision <= self.compacted);
        self.log.drain(..forgotten);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(namespace: &str, name: &str) -> (Key, Value) {
        (Key::new(Kind::Pod, namespace, name), json!({"metadata": {"namespace": namespace, "name": name}}))
    }

    fn names(store: &Store, namespace: Option<&str>) -> Vec<String> {
        store.list(Kind::Pod, namespace).map(|pod| format!("{}/{}", pod.namespace(), pod.name())).collect()
    }

    #[test]
    fn objects_are_listed_by_kind_and_namespace() {
        let mut store = Store::default();
        for (namespace, name) in [("b", "x"), ("a", "y"), ("ab", "z"), ("a", "x")] {
            let (key, object) = pod(namespace, name);
            store.put(key, object);
        }
        store.put(Key::new(Kind::Node, "", "n"), json!({}));
        assert_eq!(names(&store, None), ["a/x", "a/y", "ab/z", "b/x"]);
        assert_eq!(names(&store, Some("a")), ["a/x", "a/y"]);
        assert_eq!(names(&store, Some("c")), [""; 0]);
        assert_eq!(store.list(Kind::Node, None).count(), 1);
    }

    #[test]
    fn every_change_is_one_revision_until_it_is_forgotten() {
        let mut store = Store::default();
        let (key, object) = pod("a", "x");
        assert_eq!(store.put(key.clone(), object.clone()).revision(), 1);
        assert_eq!(store.put(key.clone(), object).revision(), 2);
        assert_eq!(store.remove(&key).map(|last| last.revision()), Some(3));
        assert!(store.remove(&key).is_none() && store.revision() == 3);
        let seen: Vec<(u64, bool, bool)> = store
            .changes_after(0)
            .unwrap()
            .map(|change| (change.revision, change.before.is_some(), change.after.is_some()))
            .collect();
        assert_eq!(seen, [(1, false, true), (2, true, true), (3, true, false)]);
        store.compact(2);
        assert_eq!(store.changes_after(1).err(), Some(Compacted { asked: 1, oldest: 2 }));
        assert_eq!(store.changes_after(2).unwrap().count(), 1);
        assert_eq!(store.changes_after(3).unwrap().count(), 0);
    }

    #[test]
    fn the_past_is_known_back_to_the_compaction() {
        let mut store = Store::default();
        let (x, object) = pod("a", "x");
        let (y, other) = pod("a", "y");
        store.put(x.clone(), object.clone());
        store.put(y, other);
        store.put(x.clone(), object);
        store.remove(&x);
        let at = |store: &Store, revision| {
            let objects = store.list_at(Kind::Pod, Some("a"), revision).ok()?;
            Some(objects.values().map(|pod| format!("{}@{}", pod.name(), pod.revision())).collect::<Vec<_>>().join(" "))
        };
        let past: Vec<_> = (0..=4).map(|revision| at(&store, revision).unwrap()).collect();
        assert_eq!(past, ["", "x@1", "x@1 y@2", "x@3 y@2", "y@2"]);
        store.compact(2);
        assert_eq!(at(&store, 1), None);
        assert_eq!(at(&store, 2).as_deref(), Some("x@1 y@2"));
    }
}
