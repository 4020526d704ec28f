//! Metadata: names, labels, annotations, owners, finalizers, and what an update cannot change of them.

use serde_json::Value;

use super::super::field::{Errors, FieldError};
use super::super::names;
use super::super::schema::Type;
use super::{entries, formed, immutable, list, nonnegative, text};
use crate::resource::Kind;

const ANNOTATIONS: usize = 256 * 1024;
const STANDARD_FINALIZERS: [&str; 3] = ["kubernetes", "orphan", "foregroundDeletion"];

type Form = fn(&str) -> Vec<String>;

/// The form of a kind's names.
fn form(kind: Kind) -> Form {
    if matches!(kind, Kind::Namespace | Kind::StatefulSet) { names::label } else { names::subdomain }
}

/// Metadata with names in any form that can stand in a path.
pub(super) fn common(kind: Kind, object: &Value) -> Errors {
    let mut errors = Errors::new();
    with_form(kind, object, names::path_segment, &mut errors);
    errors
}

/// Metadata with names in the form of the kind, and finalizers that somebody knows.
pub(super) fn object(kind: Kind, object: &Value, errors: &mut Errors) {
    with_form(kind, object, form(kind), errors);
    if matches!(kind, Kind::MutatingWebhookConfiguration | Kind::NodePool | Kind::NodeClaim) {
        return;
    }
    standard_finalizers(object, errors);
}

/// Finalizers without a domain are those that everybody knows.
pub(super) fn standard_finalizers(object: &Value, errors: &mut Errors) {
    for (index, finalizer) in list(&object["metadata"]["finalizers"]).iter().map(text).enumerate() {
        if !finalizer.contains('/') && !STANDARD_FINALIZERS.contains(&finalizer) {
            let why = "name is neither a standard finalizer name nor is it fully qualified";
            errors.push(FieldError::invalid_text(format!("metadata.finalizers[{index}]"), finalizer, why));
        }
    }
}

/// A prefix may end with a dash, for more will follow.
fn masked(prefix: &str) -> String {
    if prefix.len() > 1 && prefix.ends_with('-') {
        format!("{}a", &prefix[..prefix.len() - 2])
    } else {
        prefix.to_owned()
    }
}

fn with_form(kind: Kind, object: &Value, form: Form, errors: &mut Errors) {
    let metadata = &object["metadata"];
    let (name, prefix) = (text(&metadata["name"]), text(&metadata["generateName"]));
    if !prefix.is_empty() {
        let wrong = form(&masked(prefix));
        errors.extend(wrong.iter().map(|why| FieldError::invalid_text("metadata.generateName", prefix, why)));
    }
    if name.is_empty() {
        errors.push(FieldError::required("metadata.name", "name or generateName is required"));
    } else {
        formed(name, form, "metadata.name", errors);
    }
    let namespace = text(&metadata["namespace"]);
    match (kind.resource().namespaced, namespace) {
        (true, "") => errors.push(FieldError::required("metadata.namespace", "")),
        (true, namespace) => formed(namespace, names::label, "metadata.namespace", errors),
        (false, "") => {}
        (false, _) => errors.push(FieldError::forbidden("metadata.namespace", "not allowed on this type")),
    }
    nonnegative(&metadata["generation"], "metadata.generation", errors);
    labels(&metadata["labels"], "metadata.labels", errors);
    annotations(&metadata["annotations"], "metadata.annotations", errors);
    owners(&metadata["ownerReferences"], errors);
    finalizers(&metadata["finalizers"], errors);
}

pub(super) fn labels(labels: &Value, field: &str, errors: &mut Errors) {
    for (key, value) in entries(labels) {
        formed(key, names::qualified, field, errors);
        formed(text(value), names::label_value, field, errors);
    }
}

pub(super) fn annotations(annotations: &Value, field: &str, errors: &mut Errors) {
    let mut size = 0;
    for (key, value) in entries(annotations) {
        let wrong = names::qualified(&key.to_lowercase());
        errors.extend(wrong.iter().map(|why| FieldError::invalid_text(field, key, why)));
        size += key.len() + text(value).len();
    }
    if size > ANNOTATIONS {
        errors.push(FieldError::too_long(field, ANNOTATIONS));
    }
}

fn owners(owners: &Value, errors: &mut Errors) {
    let field = "metadata.ownerReferences";
    let mut controller: Option<String> = None;
    for owner in list(owners) {
        let version = text(&owner["apiVersion"]).rsplit('/').next().unwrap_or_default();
        if version.is_empty() {
            let sent = text(&owner["apiVersion"]);
            errors.push(FieldError::invalid_text(format!("{field}.apiVersion"), sent, "version must not be empty"));
        }
        for part in ["kind", "name", "uid"] {
            if text(&owner[part]).is_empty() {
                errors.push(FieldError::invalid_text(format!("{field}.{part}"), "", "must not be empty"));
            }
        }
        if owner["apiVersion"] == "v1" && owner["kind"] == "Event" {
            errors.push(FieldError::invalid(field, owner, "/v1, Kind=Event is disallowed from being an owner"));
        }
        if owner["controller"] == true {
            let this = format!("{}/{}", text(&owner["kind"]), text(&owner["name"]));
            if let Some(first) = &controller {
                let why = format!(
                    "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {this}"
                );
                let list = Type::List(Box::new(Type::Struct("OwnerReference")));
                errors.push(FieldError::invalid_as(field, owners, &list, &why));
            } else {
                controller = Some(this);
            }
        }
    }
}

fn finalizers(finalizers: &Value, errors: &mut Errors) {
    let names: Vec<&str> = list(finalizers).iter().map(text).collect();
    names.iter().for_each(|name| formed(name, names::qualified, "metadata.finalizers", errors));
    if names.contains(&"orphan") && names.contains(&"foregroundDeletion") {
        let why = "finalizer orphan and foregroundDeletion cannot be both set";
        errors.push(FieldError::invalid("metadata.finalizers", finalizers, why));
    }
}

/// What an update cannot change.
pub(super) fn update(object: &Value, old: &Value, errors: &mut Errors) {
    let (new, old) = (&object["metadata"], &old["metadata"]);
    if !old["deletionTimestamp"].is_null() {
        let there = list(&old["finalizers"]);
        let mut added: Vec<&str> =
            list(&new["finalizers"]).iter().filter(|name| !there.contains(name)).map(text).collect();
        added.sort_unstable();
        if !added.is_empty() {
            let quoted: Vec<String> = added.iter().map(|name| format!("{name:?}")).collect();
            let why = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                quoted.join(", ")
            );
            errors.push(FieldError::forbidden("metadata.finalizers", &why));
        }
    }
    for field in ["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        immutable(&new[field], &old[field], &format!("metadata.{field}"), errors);
    }
    labels(&new["labels"], "metadata.labels", errors);
    annotations(&new["annotations"], "metadata.annotations", errors);
    owners(&new["ownerReferences"], errors);
}
