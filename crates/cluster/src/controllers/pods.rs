//! What controllers ask of pods and write into objects: whether a pod is active, ready, available; owner references,
//! conditions, times.
//!
//! It decides nothing about when any of it is written.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::engine::Write;
use crate::object::Object;
use crate::store::Key;

/// A time as metav1.Time has it: whole seconds.
pub fn second(time: Timestamp) -> String {
    Timestamp::from_second(time.as_second()).unwrap_or(time).to_string()
}

/// Whether a pod came to its end.
pub fn is_over(pod: &Object) -> bool {
    pod.is_over()
}

/// Whether a controller counts a pod: neither at its end nor being deleted.
pub fn is_active(pod: &Object) -> bool {
    !is_over(pod) && pod.deletion().is_none()
}

/// Whether a pod is ready.
pub fn is_ready(pod: &Object) -> bool {
    pod.has_condition("Ready")
}

/// Since when a pod is ready.
pub fn ready_since(pod: &Object) -> Option<Timestamp> {
    pod.ready_since()
}

/// When a ready pod is available: it has to be ready for `minReadySeconds`.
pub fn available_from(pod: &Object, min_ready_seconds: i64) -> Option<Timestamp> {
    ready_since(pod)?.checked_add(SignedDuration::from_secs(min_ready_seconds)).ok()
}

/// Whether a pod is available.
pub fn is_available(pod: &Object, min_ready_seconds: i64, now: Timestamp) -> bool {
    available_from(pod, min_ready_seconds).is_some_and(|from| from <= now)
}

/// When the first of these pods that is ready but not available yet will be.
pub fn next_available<'p>(
    pods: impl Iterator<Item = &'p Object>,
    min_ready_seconds: i64,
    now: Timestamp,
) -> Option<Timestamp> {
    pods.filter_map(|pod| available_from(pod, min_ready_seconds)).filter(|from| *from > now).min()
}

/// Where an object lies.
pub fn key(object: &Object) -> Option<Key> {
    Some(Key::new(object.kind()?, object.namespace(), object.name()))
}

/// The reference by which an object owns what it controls.
pub fn controller_reference(owner: &Object) -> Value {
    json!({
        "apiVersion": owner.at("/apiVersion"),
        "kind": owner.at("/kind"),
        "name": owner.name(),
        "uid": owner.uid(),
        "controller": true,
        "blockOwnerDeletion": true,
    })
}

/// Whether an object is controlled by this one, the very one and not a namesake.
pub fn is_controlled_by(object: &Object, owner: &Object) -> bool {
    object.is_controlled_by(owner.uid())
}

/// Sets a condition of an object's status, in place of the one of its type.
pub fn set_condition(object: &mut Value, condition: Value) {
    if !object["status"]["conditions"].is_array() {
        object["status"]["conditions"] = json!([]);
    }
    let Some(conditions) = object["status"]["conditions"].as_array_mut() else { return };
    match conditions.iter_mut().find(|there| there["type"] == condition["type"]) {
        Some(there) => *there = condition,
        None => conditions.push(condition),
    }
}

/// The time for a condition's `lastTransitionTime`: now, unless its status was the same already.
pub fn transition(object: &Object, type_: &str, status: &str, now: Timestamp) -> String {
    let same = object.condition(type_).filter(|condition| condition["status"] == status);
    same.and_then(|condition| condition["lastTransitionTime"].as_str()).map_or_else(|| second(now), str::to_owned)
}

/// The write that makes this the object's status, if it is not.
pub fn write_status(before: &Object, after: Value) -> Vec<Write> {
    if after["status"] == *before.at("/status") {
        return Vec::new();
    }
    vec![Write::Replace { object: after, subresource: Some("status") }]
}

/// The write that makes this the object, but for its status, if it is not.
pub fn write_object(before: &Object, after: Value) -> Vec<Write> {
    if after == *before.json() {
        return Vec::new();
    }
    vec![Write::Replace { object: after, subresource: None }]
}

/// The write that deletes an object with the grace that it asks for.
pub fn delete(key: &Key, object: &Object) -> Write {
    Write::Delete { key: key.clone(), uid: object.uid().to_owned(), grace: None }
}

/// A pod from a template, to belong to an owner.
pub fn from_template(template: &Value, owner: &Object) -> Value {
    let mut metadata = json!({
        "namespace": owner.namespace(),
        "generateName": format!("{}-", owner.name()),
        "ownerReferences": [controller_reference(owner)],
    });
    for part in ["labels", "annotations", "finalizers"] {
        if !template["metadata"][part].is_null() {
            metadata[part] = template["metadata"][part].clone();
        }
    }
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_available_once_it_was_ready_for_long_enough() {
        let pod = Object::from(json!({"status": {"conditions": [
            {"type": "Ready", "status": "True", "lastTransitionTime": "2026-03-01T12:00:00Z"},
        ]}}));
        let at = |time: &str| time.parse().unwrap();
        assert!(is_available(&pod, 0, at("2026-03-01T12:00:00Z")));
        assert!(!is_available(&pod, 10, at("2026-03-01T12:00:09.9Z")));
        assert!(is_available(&pod, 10, at("2026-03-01T12:00:10Z")));
        let next = |time: &str| next_available([&pod].into_iter(), 10, at(time));
        assert_eq!(next("2026-03-01T12:00:09Z"), Some(at("2026-03-01T12:00:10Z")));
        assert_eq!(next("2026-03-01T12:00:10Z"), None);
        assert_eq!(second(at("2026-03-01T12:00:09.987Z")), "2026-03-01T12:00:09Z");
    }

    #[test]
    fn a_condition_keeps_its_time_while_its_status_is_the_same() {
        let mut object = json!({});
        set_condition(
            &mut object,
            json!({"type": "A", "status": "True", "lastTransitionTime": "2026-03-01T12:00:00Z"}),
        );
        set_condition(&mut object, json!({"type": "B", "status": "True"}));
        set_condition(&mut object, json!({"type": "B", "status": "False"}));
        assert_eq!(object["status"]["conditions"].as_array().unwrap().len(), 2);
        let object = Object::from(object);
        assert!(!object.has_condition("B"));
        let later = "2026-03-01T13:00:00Z".parse().unwrap();
        assert_eq!(transition(&object, "A", "True", later), "2026-03-01T12:00:00Z");
        assert_eq!(transition(&object, "A", "False", later), "2026-03-01T13:00:00Z");
    }
}
