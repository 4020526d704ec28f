//! What is wrong with an object, in the order and the words of a real API server.
//!
//! It changes nothing. What depends on other objects (quotas, accounts) is not validation.

mod apps;
mod event;
mod meta;
mod others;
mod pod;
mod webhook;

use serde_json::Value;

use super::field::{Errors, FieldError};
use crate::resource::Kind;

/// What the metadata of every kind must be, with names as they can stand in a path.
pub(crate) fn common(kind: Kind, object: &Value) -> Errors {
    meta::common(kind, object)
}

/// Of a new object.
pub(crate) fn create(kind: Kind, object: &Value) -> Errors {
    let mut errors = Errors::new();
    let e = &mut errors;
    match kind {
        Kind::Pod => pod::create(object, e),
        Kind::Deployment | Kind::ReplicaSet | Kind::StatefulSet | Kind::ControllerRevision => {
            meta::object(kind, object, e);
            apps::create(kind, object, e);
        }
        Kind::Event => event::create(object, e),
        // Its metadata is only looked at as everybody's is.
        Kind::PodDisruptionBudget => others::create(kind, object, e),
        _ => {
            meta::object(kind, object, e);
            others::create(kind, object, e);
        }
    }
    errors
}

/// Of a new version of an object, or of its status.
pub(crate) fn update(kind: Kind, subresource: &str, object: &Value, old: &Value) -> Errors {
    let mut errors = common(kind, object);
    let e = &mut errors;
    meta::update(object, old, e);
    match (kind, subresource) {
        (Kind::Pod, "") => pod::update(object, old, e),
        (Kind::Pod, _) => pod::update_status(object, old, e),
        (Kind::Deployment | Kind::ReplicaSet | Kind::StatefulSet | Kind::ControllerRevision, _) => {
            meta::update(object, old, e);
            apps::update(kind, subresource, object, old, e);
        }
        (Kind::Event, _) => event::update(object, old, e),
        _ => others::update(kind, subresource, object, old, e),
    }
    errors
}

/// A whole number that is not negative.
fn nonnegative(value: &Value, field: &str, errors: &mut Errors) {
    if value.as_i64().is_some_and(|number| number < 0) {
        errors.push(FieldError::invalid(field, value, "must be greater than or equal to 0"));
    }
}

/// A field that stays as it is.
fn immutable(new: &Value, old: &Value, field: &str, errors: &mut Errors) {
    if new != old {
        errors.push(FieldError::invalid(field, new, "field is immutable"));
    }
}

/// Texts that are names in some form.
fn formed(text: &str, form: fn(&str) -> Vec<String>, field: &str, errors: &mut Errors) {
    errors.extend(form(text).iter().map(|why| FieldError::invalid_text(field, text, why)));
}

/// A list, empty if it is none.
fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A text, empty if it is none.
fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The entries of a map, none if it is none.
fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

/// A number or a percentage.
fn number_or_percent(value: &Value, field: &str, errors: &mut Errors) {
    match value {
        Value::String(text) => {
            let digits = text.strip_suffix('%').unwrap_or_default();
            if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                let why = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', \
                           regex used for validation is '[0-9]+%')";
                errors.push(FieldError::invalid(field, value, why));
            }
        }
        other => nonnegative(other, field, errors),
    }
}

fn percent(value: &Value) -> Option<i64> {
    value.as_str()?.strip_suffix('%')?.parse().ok()
}

fn at_most_all(value: &Value, field: &str, errors: &mut Errors) {
    if percent(value).is_some_and(|percent| percent > 100) {
        errors.push(FieldError::invalid(field, value, "must not be greater than 100%"));
    }
}

/// A label selector inside of an object.
fn selector(selector: &Value, field: &str, errors: &mut Errors) {
    meta::labels(&selector["matchLabels"], &format!("{field}.matchLabels"), errors);
    for (index, expression) in list(&selector["matchExpressions"]).iter().enumerate() {
        requirement(expression, &format!("{field}.matchExpressions[{index}]"), false, errors);
    }
}

/// One expression of a selector, of labels or of nodes.
fn requirement(expression: &Value, field: &str, of_nodes: bool, errors: &mut Errors) {
    let values = list(&expression["values"]);
    match text(&expression["operator"]) {
        "In" | "NotIn" if values.is_empty() => {
            let why = "must be specified when `operator` is 'In' or 'NotIn'";
            errors.push(FieldError::required(format!("{field}.values"), why));
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            let why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            errors.push(FieldError::forbidden(format!("{field}.values"), why));
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        "Gt" | "Lt" if of_nodes => {
            if values.len() != 1 {
                let why = "must be specified single value when `operator` is 'Lt' or 'Gt'";
                errors.push(FieldError::required(format!("{field}.values"), why));
            }
        }
        _ => {
            let operator = &Value::from(text(&expression["operator"]));
            errors.push(FieldError::invalid(format!("{field}.operator"), operator, "not a valid selector operator"));
        }
    }
    formed(text(&expression["key"]), super::names::qualified, &format!("{field}.key"), errors);
    for (index, value) in values.iter().enumerate() {
        formed(text(value), super::names::label_value, &format!("{field}.values[{index}]"), errors);
    }
}
