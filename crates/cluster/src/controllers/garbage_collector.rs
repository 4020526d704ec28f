//! Garbage: what belongs to owners that are gone goes too, now or before its owner does, or is left behind as an orphan.
//!
//! An owner is who has the name and the UID. Owners of kinds that the cluster does not know count as there.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::pods::{delete, write_object};
use crate::engine::{Act, Controller, Write};
use crate::object::{Object, Owner};
use crate::resource::Kind;
use crate::store::{Change, Key, Store};

const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";

/// The garbage collector.
#[derive(Clone, Copy, Debug)]
pub struct GarbageCollector;

impl Controller for GarbageCollector {
    fn name(&self) -> &'static str {
        "garbagecollector"
    }

    fn touched(&self, store: &Store, change: &Change) -> Vec<Key> {
        let mut keys: Vec<Key> = Vec::new();
        match &change.after {
            None => {
                let uid = change.before.as_ref().map_or("", |object| object.uid());
                keys.extend(store.owned_by(uid).map(|(key, _)| key.clone()));
            }
            Some(object) => {
                let waits =
                    object.deletion().is_some() && (has_finalizer(object, FOREGROUND) || has_finalizer(object, ORPHAN));
                if waits || object.owners().any(|owner| standing(store, object, owner) == Standing::Gone) {
                    keys.push(change.key.clone());
                }
            }
        }
        // Whoever waited for it to go, or to belong to somebody else, may go on.
        for owner in change.before.iter().flat_map(|object| object.owners().filter_map(|owner| locate(object, owner))) {
            if store.get(&owner).is_some_and(|owner| owner.deletion().is_some() && has_finalizer(owner, FOREGROUND)) {
                keys.push(owner);
            }
        }
        keys
    }

    fn look(&self, store: &Store, key: &Key, _now: Timestamp) -> Act {
        let Some(object) = store.get(key) else { return Act::none() };
        if object.deletion().is_some() && has_finalizer(object, ORPHAN) {
            return orphan(store, object);
        }
        if object.deletion().is_some() && has_finalizer(object, FOREGROUND) {
            return foreground(store, object);
        }
        Act::now(belongings(store, key, object))
    }
}

fn has_finalizer(object: &Object, finalizer: &str) -> bool {
    object.list("/metadata/finalizers").iter().any(|there| there == finalizer)
}

/// Where an owner would lie; `None` if its kind is not known.
fn locate(object: &Object, owner: Owner<'_>) -> Option<Key> {
    let kind = Kind::of_object(owner.api_version, owner.kind)?;
    let namespace = if kind.resource().namespaced { object.namespace() } else { "" };
    Some(Key::new(kind, namespace, owner.name))
}

/// How it is with an owner.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    There,
    /// It goes once what belongs to it is gone.
    Waiting,
    Gone,
}

fn standing(store: &Store, object: &Object, owner: Owner<'_>) -> Standing {
    let Some(key) = locate(object, owner) else { return Standing::There };
    match store.get(&key).filter(|found| found.uid() == owner.uid) {
        None => Standing::Gone,
        Some(found) if found.deletion().is_some() && has_finalizer(found, FOREGROUND) => Standing::Waiting,
        Some(_) => Standing::There,
    }
}

/// What becomes of an object because of its owners.
fn belongings(store: &Store, key: &Key, object: &Object) -> Vec<Write> {
    let standings: Vec<Standing> = object.owners().map(|owner| standing(store, object, owner)).collect();
    let gone = standings.contains(&Standing::Gone);
    if !gone {
        return Vec::new();
    }
    if standings.contains(&Standing::There) {
        // Somebody still wants it, so only the references to the others go.
        return without_owners(object, |owner| standing(store, object, owner) == Standing::There);
    }
    if standings.contains(&Standing::Waiting) || object.deletion().is_some() {
        return Vec::new();
    }
    vec![delete(key, object)]
}

/// Leaves only some of the references to owners.
fn without_owners(object: &Object, kept: impl Fn(Owner<'_>) -> bool) -> Vec<Write> {
    let kept: Vec<bool> = object.owners().map(kept).collect();
    let owners = object.list("/metadata/ownerReferences").iter().zip(kept).filter(|(_, kept)| *kept);
    let owners: Vec<Value> = owners.map(|(owner, _)| owner.clone()).collect();
    let mut after = object.json().clone();
    after["metadata"]["ownerReferences"] = json!(owners);
    write_object(object, after)
}

fn without_finalizer(object: &Object, finalizer: &str) -> Vec<Write> {
    let mut after = object.json().clone();
    if let Some(finalizers) = after["metadata"]["finalizers"].as_array_mut() {
        finalizers.retain(|there| there != finalizer);
    }
    write_object(object, after)
}

/// Lets go of all that belongs to an object, and then of the object.
fn orphan(store: &Store, object: &Object) -> Act {
    let dependents = store.owned_by(object.uid()).map(|(_, dependent)| dependent);
    let freed = dependents.flat_map(|dependent| without_owners(dependent, |owner| owner.uid != object.uid()));
    Act { batches: vec![freed.collect(), without_finalizer(object, ORPHAN)], again: None }
}

/// Deletes what belongs to an object, and lets go of it once nothing is left that holds it up.
fn foreground(store: &Store, object: &Object) -> Act {
    let dependents: Vec<(&Key, &Arc<Object>)> = store.owned_by(object.uid()).collect();
    let only_ours = |dependent: &Object| {
        dependent
            .owners()
            .all(|owner| owner.uid == object.uid() || standing(store, dependent, owner) != Standing::There)
    };
    let staying: Vec<_> = dependents.iter().filter(|(_, it)| it.deletion().is_none() && only_ours(it)).collect();
    if !staying.is_empty() {
        // What has dependents of its own waits for them as well.
        let parents = staying
            .iter()
            .filter(|(_, it)| store.owned_by(it.uid()).next().is_some() && !has_finalizer(it, FOREGROUND));
        let marked = parents.flat_map(|(_, it)| {
            let mut after = it.json().clone();
            match after["metadata"]["finalizers"].as_array_mut() {
                Some(finalizers) => finalizers.push(json!(FOREGROUND)),
                None => after["metadata"]["finalizers"] = json!([FOREGROUND]),
            }
            write_object(it, after)
        });
        let deleted = staying.iter().map(|(key, it)| delete(key, it));
        return Act { batches: vec![marked.collect(), deleted.collect()], again: None };
    }
    let blocks = |dependent: &Object| {
        let references = dependent.list("/metadata/ownerReferences").iter();
        references.filter(|it| it["uid"] == object.uid()).any(|it| it["blockOwnerDeletion"] == true)
    };
    if dependents.iter().any(|(_, dependent)| blocks(dependent) && only_ours(dependent)) {
        return Act::none();
    }
    Act::now(without_finalizer(object, FOREGROUND))
}

#[cfg(test)]
mod tests;
