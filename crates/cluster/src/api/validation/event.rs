//! Events of `events.k8s.io/v1`. What is wrong is said in the words of the older API, as the real one does.

use serde_json::{Value, json};

use super::super::field::{Errors, FieldError};
use super::super::names;
use super::{formed, immutable, meta, text};
use crate::resource::Kind;

pub(super) fn create(event: &Value, errors: &mut Errors) {
    legacy(event, errors);
    meta::object(Kind::Event, event, errors);
    series(&event["series"], errors);
    if event["eventTime"].is_null() {
        errors.push(FieldError::required("eventTime", ""));
    }
    let type_ = text(&event["type"]);
    if !matches!(type_, "Normal" | "Warning") {
        errors.push(FieldError::invalid_text("type", "", &format!("has invalid value: {type_}")));
    }
    for (name, field) in [
        ("firstTimestamp", "deprecatedFirstTimestamp"),
        ("lastTimestamp", "deprecatedLastTimestamp"),
        ("count", "deprecatedCount"),
    ] {
        if !matches!(event[field], Value::Null) && event[field] != 0 {
            errors.push(FieldError::invalid_text(name, "", "needs to be unset"));
        }
    }
    let source = &event["deprecatedSource"];
    if !text(&source["component"]).is_empty() || !text(&source["host"]).is_empty() {
        errors.push(FieldError::invalid_text("source", "", "needs to be unset"));
    }
}

fn series(series: &Value, errors: &mut Errors) {
    if series.is_null() {
        return;
    }
    if series["count"].as_i64().unwrap_or(0) < 2 {
        errors.push(FieldError::invalid_text("series.count", "", "should be at least 2"));
    }
    if series["lastObservedTime"].is_null() {
        errors.push(FieldError::required("series.lastObservedTime", ""));
    }
}

fn legacy(event: &Value, errors: &mut Errors) {
    let namespace = text(&event["metadata"]["namespace"]);
    let about = text(&event["regarding"]["namespace"]);
    let mismatch = |errors: &mut Errors| {
        errors.push(FieldError::invalid_text("involvedObject.namespace", about, "does not match event.namespace"));
    };
    if event["eventTime"].is_null() {
        if (about.is_empty() && namespace != "default") || (!about.is_empty() && about != namespace) {
            mismatch(errors);
        }
    } else {
        if about.is_empty() && !matches!(namespace, "default" | "kube-system") {
            mismatch(errors);
        }
        let controller = text(&event["reportingController"]);
        if controller.is_empty() {
            errors.push(FieldError::required("reportingController", ""));
        }
        formed(controller, names::qualified, "reportingController", errors);
        for (field, name, limit) in [
            ("reportingInstance", "reportingInstance", 128),
            ("action", "action", 128),
            ("reason", "reason", 128),
            ("note", "message", 1024),
        ] {
            let value = text(&event[field]);
            if value.is_empty() && field != "note" {
                errors.push(FieldError::required(name, ""));
            }
            if value.len() > limit {
                errors.push(FieldError::invalid_text(name, "", &format!("can have at most {limit} characters")));
            }
        }
    }
    formed(namespace, names::subdomain, "namespace", errors);
}

/// A reference as the real server shows it, which is not as it is sent.
fn reference(about: &Value) -> String {
    let parts = [
        ("Kind", "kind"),
        ("Namespace", "namespace"),
        ("Name", "name"),
        ("UID", "uid"),
        ("APIVersion", "apiVersion"),
        ("ResourceVersion", "resourceVersion"),
        ("FieldPath", "fieldPath"),
    ];
    let parts: Vec<String> =
        parts.iter().map(|(shown, field)| format!("\"{shown}\":{:?}", text(&about[*field]))).collect();
    format!("{{{}}}", parts.join(","))
}

pub(super) fn update(event: &Value, old: &Value, errors: &mut Errors) {
    legacy(event, errors);
    meta::update(event, old, errors);
    if event["series"] != old["series"] {
        series(&event["series"], errors);
    }
    for (field, name) in [
        ("regarding", "involvedObject"),
        ("reason", "reason"),
        ("note", "message"),
        ("deprecatedSource", "source"),
        ("deprecatedFirstTimestamp", "firstTimestamp"),
        ("deprecatedLastTimestamp", "lastTimestamp"),
        ("deprecatedCount", "count"),
        ("reason", "reason"),
        ("type", "type"),
        ("eventTime", "eventTime"),
        ("action", "action"),
        ("related", "related"),
        ("reportingController", "reportingController"),
        ("reportingInstance", "reportingInstance"),
    ] {
        // Texts that are not there are empty ones.
        let shown =
            |value: &Value| if value.is_null() && !matches!(field, "related") { json!("") } else { value.clone() };
        let (new, before) = (shown(&event[field]), shown(&old[field]));
        if field == "regarding" && new != before {
            let mut error = FieldError::invalid(name, &new, "");
            error.say(&format!("Invalid value: {}: field is immutable", reference(&new)));
            errors.push(error);
        } else {
            immutable(&new, &before, name, errors);
        }
    }
}
