//! Namespaces that are being deleted: all that is in them goes, and then they do.

use jiff::Timestamp;
use serde_json::json;

use super::pods::delete;
use crate::engine::{Act, Controller, Write};
use crate::resource::{Kind, RESOURCES};
use crate::store::{Change, Key, Store};

/// The controller of namespaces.
#[derive(Clone, Copy, Debug)]
pub struct Namespaces;

impl Controller for Namespaces {
    fn name(&self) -> &'static str {
        "namespace"
    }

    fn touched(&self, store: &Store, change: &Change) -> Vec<Key> {
        let key = match change.key.kind {
            Kind::Namespace => change.key.clone(),
            _ if change.key.namespace.is_empty() => return Vec::new(),
            _ => Key { kind: Kind::Namespace, namespace: "".into(), name: change.key.namespace.clone() },
        };
        let ends = store.get(&key).is_some_and(|namespace| namespace.deletion().is_some());
        if ends { vec![key] } else { Vec::new() }
    }

    fn look(&self, store: &Store, key: &Key, _now: Timestamp) -> Act {
        let Some(namespace) = store.get(key).filter(|namespace| namespace.deletion().is_some()) else {
            return Act::none();
        };
        let kinds = RESOURCES.iter().filter(|row| row.namespaced).map(|row| row.kind);
        let content = |kind| {
            store
                .list(kind, Some(&key.name))
                .map(move |object| (Key::new(kind, object.namespace(), object.name()), object))
        };
        let content: Vec<_> = kinds.flat_map(content).collect();
        let staying = content.iter().filter(|(_, object)| object.deletion().is_none());
        let deleted: Vec<Write> = staying.map(|(key, object)| delete(key, object)).collect();
        if !content.is_empty() {
            return Act::now(deleted);
        }
        let mut after = namespace.json().clone();
        if let Some(finalizers) = after["spec"]["finalizers"].as_array_mut() {
            finalizers.retain(|finalizer| *finalizer != json!("kubernetes"));
        }
        if after == *namespace.json() {
            return Act::none();
        }
        Act::now(vec![Write::Replace { object: after, subresource: Some("finalize") }])
    }
}
