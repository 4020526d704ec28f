//! An API object: JSON, and the questions that everybody asks of it.
//!
//! Nothing is parsed twice into types of its own: the cluster stores what was sent, and reads the few fields that it knows.
//! A field of another type than it should have reads as absent; keeping such objects out is validation's business.

use std::sync::OnceLock;

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::Value;

use crate::resource::Kind;

/// An object as it is stored and sent. Never changed in place once it is in the store.
#[derive(Clone, Debug)]
pub struct Object {
    json: Value,
    /// As it is sent, once somebody has asked: many are told of the same version.
    text: OnceLock<Bytes>,
    known: OnceLock<Known>,
}

/// What controllers ask of every object all the time, read once.
#[derive(Clone, Debug)]
struct Known {
    uid: Box<str>,
    /// The UID of the controller.
    controller: Option<Box<str>>,
    deletion: Option<Timestamp>,
    /// Since when it is ready, if it is.
    ready: Option<Timestamp>,
    /// Whether it is a pod that came to its end.
    is_over: bool,
}

impl PartialEq for Object {
    fn eq(&self, other: &Self) -> bool {
        self.json == other.json
    }
}

impl Eq for Object {}

/// A reference to the object that something belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner<'o> {
    /// `apiVersion`
    pub api_version: &'o str,
    /// `kind`
    pub kind: &'o str,
    /// `name`
    pub name: &'o str,
    /// `uid`
    pub uid: &'o str,
    /// `controller`
    pub is_controller: bool,
}

impl<'o> Owner<'o> {
    fn of(reference: &'o Value) -> Self {
        Self {
            api_version: text(reference, "apiVersion"),
            kind: text(reference, "kind"),
            name: text(reference, "name"),
            uid: text(reference, "uid"),
            is_controller: is_controller(reference),
        }
    }
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn is_controller(reference: &Value) -> bool {
    reference.get("controller").and_then(Value::as_bool).unwrap_or(false)
}

/// The condition of pods and nodes that everybody asks about.
const READY: &str = "Ready";

static NULL: Value = Value::Null;

fn step<'v>(value: &'v Value, part: &str) -> Option<&'v Value> {
    match value {
        Value::Object(fields) => fields.get(part),
        Value::Array(elements) => elements.get(part.parse::<usize>().ok()?),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

impl From<Value> for Object {
    fn from(value: Value) -> Self {
        Self { json: value, text: OnceLock::new(), known: OnceLock::new() }
    }
}

impl Object {
    /// As JSON.
    pub const fn json(&self) -> &Value {
        &self.json
    }

    /// As JSON, to make another version of it.
    pub fn into_json(self) -> Value {
        self.json
    }

    /// As JSON in text. It is written once; clones of what is returned are the same bytes.
    pub fn written(&self) -> &Bytes {
        self.text.get_or_init(|| serde_json::to_vec(&self.json).expect("JSON is written as JSON").into())
    }

    /// What stands at a JSON pointer (RFC 6901); null if nothing does.
    pub fn at(&self, pointer: &str) -> &Value {
        // Without escapes, no part needs to be copied: this is asked all the time.
        let mut value = &self.json;
        let mut rest = pointer.strip_prefix('/');
        while let Some(parts) = rest {
            let end = parts.bytes().position(|byte| matches!(byte, b'/' | b'~')).unwrap_or(parts.len());
            if parts[end..].starts_with('~') {
                return self.json.pointer(pointer).unwrap_or(&NULL);
            }
            let Some(next) = step(value, &parts[..end]) else { return &NULL };
            (value, rest) = (next, parts.get(end + 1..));
        }
        value
    }

    /// A text at a pointer.
    pub fn text(&self, pointer: &str) -> Option<&str> {
        self.at(pointer).as_str()
    }

    /// A whole number at a pointer.
    pub fn number(&self, pointer: &str) -> Option<i64> {
        self.at(pointer).as_i64()
    }

    /// A yes or no at a pointer; no if there is none.
    pub fn is(&self, pointer: &str) -> bool {
        self.at(pointer).as_bool().unwrap_or(false)
    }

    /// The elements of a list at a pointer.
    pub fn list(&self, pointer: &str) -> &[Value] {
        self.at(pointer).as_array().map_or(&[], Vec::as_slice)
    }

    /// A point in time at a pointer.
    pub fn time(&self, pointer: &str) -> Option<Timestamp> {
        self.text(pointer)?.parse().ok()
    }

    /// The kind, if it is one that the cluster knows.
    pub fn kind(&self) -> Option<Kind> {
        Kind::of_object(self.text("/apiVersion")?, self.text("/kind")?)
    }

    /// `metadata.name`
    pub fn name(&self) -> &str {
        self.text("/metadata/name").unwrap_or_default()
    }

    /// `metadata.namespace`; empty outside namespaces.
    pub fn namespace(&self) -> &str {
        self.text("/metadata/namespace").unwrap_or_default()
    }

    /// `metadata.uid`
    pub fn uid(&self) -> &str {
        &self.known().uid
    }

    /// `metadata.resourceVersion`; 0 before it is stored.
    pub fn revision(&self) -> u64 {
        self.text("/metadata/resourceVersion").and_then(|version| version.parse().ok()).unwrap_or(0)
    }

    /// `metadata.generation`
    pub fn generation(&self) -> i64 {
        self.number("/metadata/generation").unwrap_or(0)
    }

    /// `metadata.creationTimestamp`
    pub fn created(&self) -> Timestamp {
        self.time("/metadata/creationTimestamp").unwrap_or(Timestamp::MIN)
    }

    /// `metadata.deletionTimestamp`: when it is to be gone at the latest.
    pub fn deletion(&self) -> Option<Timestamp> {
        self.known().deletion
    }

    /// A label.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.at("/metadata/labels").get(key)?.as_str()
    }

    /// An annotation.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.at("/metadata/annotations").get(key)?.as_str()
    }

    /// `spec.nodeName` of a pod; empty before it is bound.
    pub fn node(&self) -> &str {
        self.text("/spec/nodeName").unwrap_or_default()
    }

    /// All owners.
    pub fn owners(&self) -> impl Iterator<Item = Owner<'_>> {
        self.list("/metadata/ownerReferences").iter().map(Owner::of)
    }

    /// The UIDs of all owners.
    pub fn owner_uids(&self) -> impl Iterator<Item = &str> {
        self.list("/metadata/ownerReferences").iter().map(|owner| text(owner, "uid"))
    }

    /// The owner that is the controller of this.
    pub fn controller(&self) -> Option<Owner<'_>> {
        self.controller_reference().map(Owner::of)
    }

    fn controller_reference(&self) -> Option<&Value> {
        self.list("/metadata/ownerReferences").iter().find(|owner| is_controller(owner))
    }

    /// The UID of the controller.
    pub fn controlled_by(&self) -> Option<&str> {
        self.known().controller.as_deref()
    }

    /// Whether the object with this UID is the controller of this.
    pub fn is_controlled_by(&self, uid: &str) -> bool {
        self.controlled_by() == Some(uid)
    }

    /// A condition of the status, by its type.
    pub fn condition(&self, type_: &str) -> Option<&Value> {
        self.list("/status/conditions").iter().find(|condition| condition["type"] == type_)
    }

    /// Whether a condition of the status is `True`.
    pub fn has_condition(&self, type_: &str) -> bool {
        if type_ == READY { self.ready_since().is_some() } else { self.fulfilled(type_).is_some() }
    }

    /// Since when the condition `Ready` is `True`; since ever, if it does not say.
    pub fn ready_since(&self) -> Option<Timestamp> {
        self.known().ready
    }

    /// Whether `status.phase` is that of a pod that came to its end.
    pub fn is_over(&self) -> bool {
        self.known().is_over
    }

    /// A condition that is `True`.
    fn fulfilled(&self, type_: &str) -> Option<&Value> {
        self.condition(type_).filter(|condition| condition["status"] == "True")
    }

    fn known(&self) -> &Known {
        self.known.get_or_init(|| Known {
            uid: self.text("/metadata/uid").unwrap_or_default().into(),
            controller: self.controller_reference().map(|owner| text(owner, "uid").into()),
            deletion: self.time("/metadata/deletionTimestamp"),
            ready: self.fulfilled(READY).map(|condition| {
                condition["lastTransitionTime"].as_str().and_then(|time| time.parse().ok()).unwrap_or(Timestamp::MIN)
            }),
            is_over: matches!(self.text("/status/phase"), Some("Succeeded" | "Failed")),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_there_is_read_and_what_is_not_is_absent() {
        let pod = Object::from(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": "a", "namespace": "b", "uid": "u", "resourceVersion": "7", "labels": {"example.com/k": "v"},
                "creationTimestamp": "2026-03-01T12:00:00Z",
                "ownerReferences": [{"kind": "Node", "name": "x"}, {"kind": "ReplicaSet", "uid": "o", "controller": true}],
            },
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        }));
        assert_eq!(pod.kind(), Some(Kind::Pod));
        assert_eq!((pod.name(), pod.namespace(), pod.uid(), pod.revision()), ("a", "b", "u", 7));
        assert_eq!((pod.label("example.com/k"), pod.annotation("example.com/k")), (Some("v"), None));
        assert_eq!(pod.controller().map(|owner| owner.uid), Some("o"));
        assert!(pod.is_controlled_by("o") && !pod.is_controlled_by(""));
        assert!(pod.has_condition("Ready") && !pod.has_condition("PodScheduled"));
        assert_eq!(pod.created(), "2026-03-01T12:00:00Z".parse().unwrap());
        assert_eq!(pod.text("/metadata/labels/example.com~1k"), Some("v"));
        assert_eq!(
            (pod.text("/metadata/ownerReferences/0/name"), pod.text("/metadata/ownerReferences/2/name")),
            (Some("x"), None)
        );
        assert_eq!((pod.text("/metadata/name/x"), pod.at("").is_object()), (None, true));
        assert_eq!((pod.text("/metadata/"), pod.text("/metadata/name/"), pod.text("metadata")), (None, None, None));
        assert_eq!(pod.written().as_ref(), pod.json().to_string().as_bytes());
        assert_eq!((pod.deletion(), pod.generation(), pod.list("/spec/containers")), (None, 0, &[][..]));
    }
}
