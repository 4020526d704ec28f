//! What a kind makes of an object on its way into the store: what a client cannot set, and when the generation counts.
//!
//! Neither defaults nor validation: what is sent stays, or is put back to what it was.

use serde_json::{Value, json};

use super::meta::{keep, put, put_meta, section};
use super::{qos, schema};
use crate::resource::Kind;

/// What there is of a status when nothing is known yet.
fn blank_status(kind: Kind) -> Option<Value> {
    let type_ = schema::of_kind(kind)?;
    type_.field("status")?;
    let blank = super::decode::normalized(json!({}), type_).ok()?;
    blank.get("status").cloned()
}

/// What a write to a subresource, or to the object itself, leaves alone whatever is sent.
pub(crate) fn reset_fields(kind: Option<Kind>, subresource: &str) -> &'static [&'static [&'static str]] {
    match (kind, subresource) {
        (_, "") => &[&["status"]],
        (Some(Kind::Deployment), "status") => &[&["spec"], &["metadata", "labels"]],
        (Some(Kind::Pod), "status") => {
            &[&["spec"], &["metadata", "deletionTimestamp"], &["metadata", "ownerReferences"]]
        }
        (_, "status") => &[&["spec"]],
        _ => &[],
    }
}

/// Before a creation.
pub(crate) fn prepare_create(kind: Kind, object: &mut Value) {
    if kind.resource().has_generation {
        put_meta(object, "generation", Some(1.into()));
    }
    match kind {
        Kind::Namespace => {
            put(object, "status", Some(json!({"phase": "Active"})));
            let finalizers = section(object, "spec").entry("finalizers").or_insert_with(|| json!([]));
            if let Value::Array(finalizers) = finalizers
                && !finalizers.contains(&json!("kubernetes"))
            {
                finalizers.push(json!("kubernetes"));
            }
        }
        Kind::Pod => {
            let mut status = json!({"phase": "Pending", "qosClass": qos::class(object)});
            if object["spec"]["schedulingGates"].as_array().is_some_and(|gates| !gates.is_empty()) {
                status["conditions"] = json!([{
                    "type": "PodScheduled", "status": "False", "lastProbeTime": null,
                    "lastTransitionTime": object["metadata"]["creationTimestamp"],
                    "reason": "SchedulingGated", "message": "Scheduling is blocked due to non-empty scheduling gates",
                }]);
            }
            put(object, "status", Some(status));
            select_by_own_labels(object);
        }
        Kind::Deployment
        | Kind::ReplicaSet
        | Kind::StatefulSet
        | Kind::PodDisruptionBudget
        | Kind::HorizontalPodAutoscaler
        | Kind::ResourceQuota => put(object, "status", blank_status(kind)),
        Kind::NodePool | Kind::NodeClaim => put(object, "status", None),
        Kind::Lease => drop_election(object),
        Kind::Node
        | Kind::ConfigMap
        | Kind::Secret
        | Kind::ServiceAccount
        | Kind::ControllerRevision
        | Kind::Event
        | Kind::MutatingWebhookConfiguration => {}
    }
}

/// What a pod says of others by its own labels (`matchLabelKeys`, `mismatchLabelKeys`) becomes part of its selectors: the
/// scheduler looks at nothing else.
fn select_by_own_labels(pod: &mut Value) {
    let labels = pod["metadata"]["labels"].clone();
    let spec = section(pod, "spec");
    for which in ["podAffinity", "podAntiAffinity"] {
        let mut terms = |when: &str, term: &str| {
            let list = spec.get_mut("affinity").and_then(|affinity| affinity.pointer_mut(&format!("/{which}/{when}")));
            let list = list.and_then(Value::as_array_mut).into_iter().flatten();
            list.filter_map(|it| it.pointer_mut(term)).for_each(|term| add_own_labels(term, &labels));
        };
        terms("requiredDuringSchedulingIgnoredDuringExecution", "");
        terms("preferredDuringSchedulingIgnoredDuringExecution", "/podAffinityTerm");
    }
    let constraints = spec.get_mut("topologySpreadConstraints").and_then(Value::as_array_mut);
    constraints.into_iter().flatten().for_each(|constraint| add_own_labels(constraint, &labels));
}

fn add_own_labels(term: &mut Value, labels: &Value) {
    let mut own: Vec<Value> = Vec::new();
    for (field, operator) in [("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")] {
        let keys = term[field].as_array().into_iter().flatten().filter_map(Value::as_str);
        let there = keys.filter_map(|key| Some((key, labels.get(key)?)));
        own.extend(there.map(|(key, value)| json!({"key": key, "operator": operator, "values": [value]})));
    }
    // Where there is no selector nothing is selected, and this changes nothing about it.
    if own.is_empty() || !term["labelSelector"].is_object() {
        return;
    }
    match term["labelSelector"]["matchExpressions"].as_array_mut() {
        Some(expressions) => expressions.extend(own),
        None => term["labelSelector"]["matchExpressions"] = own.into(),
    }
}

/// Fields of a feature that is off.
fn drop_election(object: &mut Value) {
    let spec = section(object, "spec");
    spec.remove("strategy");
    spec.remove("preferredHolder");
}

/// Before an update of the object itself or of a subresource.
pub(crate) fn prepare_update(kind: Kind, subresource: &str, object: &mut Value, old: &Value) {
    put_meta(object, "generation", old["metadata"].get("generation").cloned());
    match subresource {
        "status" => prepare_status(kind, object, old),
        "finalize" => keep(object, "status", old),
        _ => prepare_main(kind, object, old),
    }
}

fn prepare_status(kind: Kind, object: &mut Value, old: &Value) {
    keep(object, "spec", old);
    match kind {
        Kind::Deployment => put_meta(object, "labels", old["metadata"].get("labels").cloned()),
        Kind::Pod => {
            put_meta(object, "ownerReferences", old["metadata"].get("ownerReferences").cloned());
            if object["status"]["qosClass"].as_str().unwrap_or_default().is_empty() {
                let class = old["status"]["qosClass"].clone();
                section(object, "status").insert("qosClass".to_owned(), class);
            }
        }
        Kind::NodePool | Kind::NodeClaim => {
            // Of a custom resource, /status takes the status and nothing else.
            let managed = object["metadata"].get("managedFields").cloned();
            let (status, version) = (object.get("status").cloned(), object["metadata"].get("resourceVersion").cloned());
            *object = old.clone();
            put(object, "status", status);
            put_meta(object, "resourceVersion", version);
            put_meta(object, "managedFields", managed);
        }
        _ => {}
    }
}

fn prepare_main(kind: Kind, object: &mut Value, old: &Value) {
    if kind.resource().subresources.contains(&"status") {
        keep(object, "status", old);
    }
    match kind {
        Kind::Namespace => {
            let finalizers = old["spec"].get("finalizers").cloned();
            let spec = section(object, "spec");
            match finalizers {
                Some(finalizers) => spec.insert("finalizers".to_owned(), finalizers),
                None => spec.remove("finalizers"),
            };
        }
        Kind::Secret if object["type"].as_str().unwrap_or_default().is_empty() => keep(object, "type", old),
        Kind::Lease => drop_election(object),
        _ => {}
    }
    if kind.resource().has_generation && counts(kind, object, old) {
        let generation = old["metadata"]["generation"].as_i64().unwrap_or(0) + 1;
        put_meta(object, "generation", Some(generation.into()));
    }
}

/// Whether the generation counts a change.
fn counts(kind: Kind, object: &Value, old: &Value) -> bool {
    match kind {
        Kind::Deployment => {
            let annotations = |object: &Value| object["metadata"].get("annotations").cloned();
            object["spec"] != old["spec"] || annotations(object) != annotations(old)
        }
        Kind::MutatingWebhookConfiguration => object["webhooks"] != old["webhooks"],
        _ => object["spec"] != old["spec"],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generation_counts_changes_of_what_is_wanted() {
        let old = json!({"metadata": {"generation": 3, "annotations": {"a": "b"}}, "spec": {"replicas": 1}, "status": {"x": 1}});
        for (kind, subresource, change, generation) in [
            (Kind::Deployment, "", json!({"spec": {"replicas": 2}}), 4),
            (Kind::Deployment, "", json!({"metadata": {"annotations": {"a": "c"}}}), 4),
            (Kind::ReplicaSet, "", json!({"metadata": {"annotations": {"a": "c"}}}), 3),
            (Kind::ReplicaSet, "", json!({"metadata": {"generation": 9}}), 3),
            (Kind::Deployment, "status", json!({"spec": {"replicas": 2}, "status": {"x": 2}}), 3),
        ] {
            let mut new = old.clone();
            json_patch::merge(&mut new, &change);
            prepare_update(kind, subresource, &mut new, &old);
            assert_eq!(new["metadata"]["generation"], generation, "{kind} {subresource} {change}");
            assert_eq!(new["status"]["x"] == 2, subresource == "status", "{kind} {change}");
        }
    }
}
