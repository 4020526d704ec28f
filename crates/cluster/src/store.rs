//! What the cluster holds: objects by kind, namespace and name, one counter of revisions, and the changes since the last
//! compaction. Indexes beside them answer what controllers ask all the time: what belongs to an owner, which pods are on a
//! node, how many pods are alike.
//!
//! It checks nothing and decides nothing. Who may write what, and whether a precondition holds, is decided before.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use jiff::Timestamp;
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

/// Objects by something that they have in common. They are in it themselves: controllers walk through thousands of them, and a
/// look-up for each would be most of their work.
type Index = BTreeMap<Arc<str>, BTreeMap<Key, Arc<Object>>>;

/// What pods are alike in that are counted together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Alike {
    /// Whether they came to their end.
    pub is_over: bool,
    /// Whether they are being deleted.
    pub is_ending: bool,
    /// Since when they are ready, if they are.
    pub ready_since: Option<Timestamp>,
    /// Their labels, as JSON.
    labels: String,
}

impl Alike {
    fn of(pod: &Object) -> Self {
        Self {
            is_over: pod.is_over(),
            is_ending: pod.deletion().is_some(),
            ready_since: pod.ready_since(),
            labels: pod.at("/metadata/labels").to_string(),
        }
    }
}

/// Pods of one controller, or of none, that are alike.
#[derive(Clone, Debug)]
pub struct Crowd {
    /// How many they are.
    pub count: usize,
    /// One of them, as it was when it came to them: what they are alike in holds of it.
    pub one: Arc<Object>,
}

/// All objects.
#[derive(Clone, Debug, Default)]
pub struct Store {
    revision: u64,
    objects: BTreeMap<Key, Arc<Object>>,
    /// The objects that name an owner, by its UID; under the empty one those that have no controller.
    owned: Index,
    /// The pods on a node, by its name; under the empty name those that are on none.
    placed: Index,
    /// The pods of each controller, by their namespace and its UID; under the empty one those that have none.
    crowds: BTreeMap<(Arc<str>, Arc<str>), BTreeMap<Alike, Crowd>>,
    log: VecDeque<Change>,
    /// Changes up to this revision are forgotten.
    compacted: u64,
    /// The newest change of each kind that is forgotten.
    forgotten: BTreeMap<Kind, u64>,
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

    /// All objects, in the order of their keys.
    pub fn all(&self) -> impl Iterator<Item = (&Key, &Arc<Object>)> {
        self.objects.iter()
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

    /// The objects that name the owner with this UID, as its controller or not.
    pub fn owned_by(&self, uid: &str) -> impl Iterator<Item = (&Key, &Arc<Object>)> {
        self.owned.get(uid).filter(|_| !uid.is_empty()).into_iter().flatten()
    }

    /// The pods that an object controls, those together that are alike. Who counts thousands of them whenever one changes counts
    /// few crowds.
    pub fn crowds(&self, controller: &Object) -> impl Iterator<Item = (&Alike, &Crowd)> {
        self.crowds.get(&(controller.namespace().into(), controller.uid().into())).into_iter().flatten()
    }

    /// The same of all pods of a namespace.
    pub fn crowds_in(&self, namespace: &str) -> impl Iterator<Item = (&Alike, &Crowd)> {
        let ours = move |(there, _): &(Arc<str>, Arc<str>)| **there == *namespace;
        self.crowds
            .range((namespace.into(), "".into())..)
            .take_while(move |(of, _)| ours(of))
            .flat_map(|(_, crowds)| crowds)
    }

    /// The pods on a node; of the empty name, those that are on none.
    pub fn pods_on(&self, node: &str) -> impl Iterator<Item = (&Key, &Arc<Object>)> {
        self.placed.get(node).into_iter().flatten()
    }

    /// The objects of a kind in a namespace that have no controller.
    pub fn uncontrolled(&self, kind: Kind, namespace: &str) -> impl Iterator<Item = &Arc<Object>> {
        let from = Key::new(kind, namespace, "");
        let all = self.owned.get("").into_iter().flat_map(move |objects| objects.range(from.clone()..));
        let ours = move |key: &Key| key.kind == kind && *key.namespace == *namespace;
        all.take_while(move |(key, _)| ours(key)).map(|(_, object)| object)
    }

    fn index(&mut self, key: &Key, object: &Arc<Object>) {
        for owner in named(object) {
            keep(&mut self.owned, owner, key, object);
        }
        if key.kind == Kind::Pod {
            keep(&mut self.placed, object.node(), key, object);
        }
    }

    fn unindex(&mut self, key: &Key, object: &Object) {
        for owner in named(object) {
            forget(&mut self.owned, owner, key);
        }
        if key.kind == Kind::Pod {
            forget(&mut self.placed, object.node(), key);
        }
    }

    fn recount(&mut self, before: Option<&Object>, after: Option<&Arc<Object>>) {
        let (was, is) = (before.map(crowd_of), after.map(|pod| crowd_of(pod)));
        if was == is {
            return;
        }
        if let Some((of, alike)) = was
            && let Some(crowds) = self.crowds.get_mut(&of)
        {
            if let Some(crowd) = crowds.get_mut(&alike).filter(|crowd| crowd.count > 1) {
                crowd.count -= 1;
            } else {
                crowds.remove(&alike);
            }
            if crowds.is_empty() {
                self.crowds.remove(&of);
            }
        }
        if let Some(((of, alike), pod)) = is.zip(after) {
            let crowd = self.crowds.entry(of).or_default().entry(alike);
            crowd.or_insert_with(|| Crowd { count: 0, one: pod.clone() }).count += 1;
        }
    }

    /// Stores an object with the next revision as its `resourceVersion`, in place of what was there.
    pub fn put(&mut self, key: Key, mut object: Value) -> Arc<Object> {
        self.revision += 1;
        object["metadata"]["resourceVersion"] = Value::String(self.revision.to_string());
        let object = Arc::new(Object::from(object));
        let before = self.objects.insert(key.clone(), object.clone());
        if let Some(before) = before.as_ref().filter(|before| !is_indexed_alike(before, &object)) {
            self.unindex(&key, before);
        }
        self.index(&key, &object);
        if key.kind == Kind::Pod {
            self.recount(before.as_deref(), Some(&object));
        }
        self.log.push_back(Change { revision: self.revision, key, before, after: Some(object.clone()) });
        object
    }

    /// Takes an object away. What is returned bears the revision of its end.
    pub fn remove(&mut self, key: &Key) -> Option<Arc<Object>> {
        let before = self.objects.remove(key)?;
        self.unindex(key, &before);
        if key.kind == Kind::Pod {
            self.recount(Some(&before), None);
        }
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

    /// The changes of a kind after a revision, oldest first: known as long as none of them was forgotten.
    pub fn changes_of(&self, kind: Kind, revision: u64) -> Result<impl Iterator<Item = &Change>, Compacted> {
        match self.forgotten.get(&kind) {
            Some(forgotten) if revision < *forgotten => Err(Compacted { asked: revision, oldest: self.compacted }),
            Some(_) | None => {
                let known = self.log.partition_point(|change| change.revision <= revision);
                Ok(self.log.range(known..).filter(move |change| change.key.kind == kind))
            }
        }
    }

    /// Forgets the changes up to a revision.
    pub fn compact(&mut self, revision: u64) {
        self.compacted = self.compacted.max(revision.min(self.revision));
        let forgotten = self.log.partition_point(|change| change.revision <= self.compacted);
        for change in self.log.drain(..forgotten) {
            self.forgotten.insert(change.key.kind, change.revision);
        }
    }
}

/// The UIDs under which an object is found.
fn named(object: &Object) -> impl Iterator<Item = &str> {
    let uncontrolled = object.controlled_by().is_none().then_some("");
    object.owner_uids().chain(uncontrolled)
}

/// With whom a pod is counted.
fn crowd_of(pod: &Object) -> ((Arc<str>, Arc<str>), Alike) {
    ((pod.namespace().into(), pod.controlled_by().unwrap_or_default().into()), Alike::of(pod))
}

/// Most changes are of the status, and leave an object where it is in all indexes.
fn is_indexed_alike(before: &Object, after: &Object) -> bool {
    let parts = ["/metadata/ownerReferences", "/spec/nodeName"];
    parts.iter().all(|part| before.at(part) == after.at(part))
}

fn keep(index: &mut Index, of: &str, key: &Key, object: &Arc<Object>) {
    index.entry(of.into()).or_default().insert(key.clone(), object.clone());
}

fn forget(index: &mut Index, of: &str, key: &Key) {
    if let Some(objects) = index.get_mut(of) {
        objects.remove(key);
        if objects.is_empty() {
            index.remove(of);
        }
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

    #[test]
    fn dependents_and_pods_of_a_node_are_found_as_they_are_now() {
        let mut store = Store::default();
        let put = |store: &mut Store, name: &str, owner: &str, node: &str| {
            let object =
                json!({"metadata": {"name": name, "ownerReferences": [{"uid": owner}]}, "spec": {"nodeName": node}});
            store.put(Key::new(Kind::Pod, "a", name), object);
        };
        let owned =
            |store: &Store, uid: &str| store.owned_by(uid).map(|(_, pod)| pod.name().to_owned()).collect::<Vec<_>>();
        let placed =
            |store: &Store, node: &str| store.pods_on(node).map(|(_, pod)| pod.name().to_owned()).collect::<Vec<_>>();
        put(&mut store, "y", "o", "");
        put(&mut store, "x", "o", "");
        put(&mut store, "z", "p", "n");
        assert_eq!(
            (owned(&store, "o"), placed(&store, "")),
            (vec!["x".into(), "y".into()], vec!["x".into(), "y".into()])
        );
        put(&mut store, "x", "p", "n");
        assert_eq!((owned(&store, "o"), owned(&store, "p")), (vec!["y".into()], vec!["x".into(), "z".into()]));
        assert_eq!((placed(&store, ""), placed(&store, "n")), (vec!["y".into()], vec!["x".into(), "z".into()]));
        assert_eq!(store.uncontrolled(Kind::Pod, "a").count(), 3);
        let owner = json!([{"uid": "p", "controller": true}]);
        store.put(
            Key::new(Kind::Pod, "a", "x"),
            json!({"metadata": {"name": "x", "ownerReferences": owner}, "spec": {"nodeName": "n"}}),
        );
        assert_eq!((store.uncontrolled(Kind::Pod, "a").count(), store.uncontrolled(Kind::Pod, "b").count()), (2, 0));
        store.remove(&Key::new(Kind::Pod, "a", "z"));
        assert_eq!((owned(&store, "p"), placed(&store, "n")), (vec!["x".to_owned()], vec!["x".to_owned()]));
    }

    #[test]
    fn pods_that_are_alike_are_counted_together_as_they_are_now() {
        let mut store = Store::default();
        let pod = |owner: &str, app: &str, ready: &str| {
            json!({
                "metadata": {"namespace": "a", "labels": {"app": app}, "ownerReferences": [{"uid": owner, "controller": true}]},
                "status": {"conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": "2026-03-01T12:00:00Z"}]},
            })
        };
        let key = |name: &str| Key::new(Kind::Pod, "a", name);
        let in_words = |(alike, crowd): (&Alike, &Crowd)| {
            format!("{} {} {}", crowd.count, crowd.one.label("app").unwrap_or("none"), alike.ready_since.is_some())
        };
        let counted = |store: &Store, uid: &str| {
            let owner = Object::from(json!({"metadata": {"namespace": "a", "uid": uid}}));
            store.crowds(&owner).map(in_words).collect::<Vec<_>>().join(", ")
        };
        for name in ["x", "y", "z"] {
            store.put(key(name), pod("o", "web", "False"));
        }
        assert_eq!(counted(&store, "o"), "3 web false");
        store.put(key("y"), pod("o", "web", "True"));
        store.put(key("x"), pod("o", "db", "False"));
        assert_eq!(counted(&store, "o"), "1 db false, 1 web false, 1 web true");
        store.put(key("x"), pod("p", "db", "False"));
        store.remove(&key("z"));
        assert_eq!((counted(&store, "o"), counted(&store, "p")), ("1 web true".to_owned(), "1 db false".to_owned()));
        let abroad = json!({"metadata": {"namespace": "ab", "ownerReferences": [{"uid": "o", "controller": true}]}});
        store.put(Key::new(Kind::Pod, "ab", "x"), abroad);
        store.put(key("w"), json!({"metadata": {"namespace": "a"}}));
        let all = |store: &Store, namespace| store.crowds_in(namespace).map(in_words).collect::<Vec<_>>().join(", ");
        assert_eq!(
            (all(&store, "a"), all(&store, "ab")),
            ("1 none false, 1 web true, 1 db false".to_owned(), "1 none false".to_owned())
        );
        store.remove(&key("y"));
        assert_eq!(counted(&store, "o"), "");
    }
}
