//! The kinds that are neither pods nor workloads.

use serde_json::Value;

use super::super::field::{Errors, FieldError};
use super::super::names;
use super::{
    at_most_all, entries, formed, immutable, list, meta, nonnegative, number_or_percent, pod, selector, text, webhook,
};
use crate::api::quantity::Quantity;
use crate::resource::Kind;

/// The largest ConfigMap or Secret.
const LARGEST: usize = 1024 * 1024;

pub(super) fn create(kind: Kind, object: &Value, errors: &mut Errors) {
    match kind {
        Kind::ConfigMap => config_map(object, errors),
        Kind::Secret => secret(object, errors),
        Kind::Node => node(object, errors),
        Kind::ResourceQuota => quota(&object["spec"], errors),
        Kind::PodDisruptionBudget => budget(&object["spec"], errors),
        Kind::Lease => lease(&object["spec"], errors),
        Kind::HorizontalPodAutoscaler => autoscaler(&object["spec"], errors),
        Kind::MutatingWebhookConfiguration => webhook::all(&object["webhooks"], errors),
        _ => {}
    }
}

pub(super) fn update(kind: Kind, subresource: &str, object: &Value, old: &Value, errors: &mut Errors) {
    match kind {
        Kind::ConfigMap => {
            meta::update(object, old, errors);
            sealed(object, old, &["data", "binaryData"], errors);
            meta::object(kind, object, errors);
            config_map(object, errors);
        }
        Kind::Secret => {
            meta::update(object, old, errors);
            immutable(&object["type"], &old["type"], "type", errors);
            sealed(object, old, &["data"], errors);
            meta::object(kind, object, errors);
            secret(object, errors);
        }
        Kind::ServiceAccount => {
            meta::update(object, old, errors);
            meta::object(kind, object, errors);
        }
        Kind::Node => {
            if subresource.is_empty() {
                meta::object(kind, object, errors);
                node(object, errors);
            }
            meta::update(object, old, errors);
            node_update(object, old, errors);
        }
        Kind::Namespace => {
            if subresource.is_empty() {
                meta::object(kind, object, errors);
            }
            meta::update(object, old, errors);
            if subresource == "status" {
                namespace_status(object, errors);
            }
        }
        Kind::ResourceQuota => {
            meta::update(object, old, errors);
            if subresource.is_empty() {
                quota(&object["spec"], errors);
            }
        }
        Kind::PodDisruptionBudget if subresource.is_empty() => budget(&object["spec"], errors),
        Kind::PodDisruptionBudget => {
            for name in ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"] {
                nonnegative(&object["status"][name], &format!("status.{name}"), errors);
            }
        }
        Kind::Lease => {
            meta::update(object, old, errors);
            lease(&object["spec"], errors);
        }
        Kind::HorizontalPodAutoscaler => {
            meta::update(object, old, errors);
            if subresource.is_empty() {
                autoscaler(&object["spec"], errors);
            }
        }
        Kind::MutatingWebhookConfiguration => {
            meta::object(kind, object, errors);
            webhook::all(&object["webhooks"], errors);
        }
        _ => {}
    }
}

/// What is immutable once it says so.
fn sealed(object: &Value, old: &Value, fields: &[&str], errors: &mut Errors) {
    if old["immutable"] != true {
        return;
    }
    let why = "field is immutable when `immutable` is set";
    if object["immutable"] != true {
        errors.push(FieldError::forbidden("immutable", why));
    }
    for field in fields {
        if object[*field] != old[*field] {
            errors.push(FieldError::forbidden(*field, why));
        }
    }
}

/// The size of what base64 says.
fn decoded_size(text: &str) -> usize {
    text.trim_end_matches('=').len() * 3 / 4
}

fn config_map(object: &Value, errors: &mut Errors) {
    let mut size = 0;
    for (key, value) in entries(&object["data"]) {
        formed(key, names::config_key, &format!("data[{key}]"), errors);
        if object["binaryData"].get(key).is_some() {
            let why = "duplicate of key present in binaryData";
            errors.push(FieldError::invalid_text(format!("data[{key}]"), key, why));
        }
        size += text(value).len();
    }
    for (key, value) in entries(&object["binaryData"]) {
        formed(key, names::config_key, &format!("binaryData[{key}]"), errors);
        size += decoded_size(text(value));
    }
    if size > LARGEST {
        errors.push(FieldError::too_long("", LARGEST));
    }
}

fn secret(object: &Value, errors: &mut Errors) {
    let mut size = 0;
    for (key, value) in entries(&object["data"]) {
        formed(key, names::config_key, &format!("data[{key}]"), errors);
        size += decoded_size(text(value));
    }
    if size > LARGEST {
        errors.push(FieldError::too_long("data", LARGEST));
    }
    let needed: &[&str] = match text(&object["type"]) {
        "kubernetes.io/tls" => &["tls.crt", "tls.key"],
        "kubernetes.io/ssh-auth" => &["ssh-privatekey"],
        "kubernetes.io/dockercfg" => &[".dockercfg"],
        "kubernetes.io/dockerconfigjson" => &[".dockerconfigjson"],
        _ => &[],
    };
    for key in needed.iter().filter(|key| object["data"].get(**key).is_none()) {
        errors.push(FieldError::required(format!("data[{key}]"), ""));
    }
}

fn taints(taints: &Value, errors: &mut Errors) {
    let mut seen: Vec<(&str, &str)> = Vec::new();
    for (index, taint) in list(taints).iter().enumerate() {
        let under = |name: &str| format!("metadata.taints[{index}].{name}");
        let (key, value, effect) = (text(&taint["key"]), text(&taint["value"]), text(&taint["effect"]));
        formed(key, names::qualified, &under("key"), errors);
        let wrong = names::label_value(value);
        if !wrong.is_empty() {
            errors.push(FieldError::invalid_text(under("value"), value, &wrong.join(";")));
        }
        match effect {
            "" => errors.push(FieldError::required(under("effect"), "")),
            effect if pod::EFFECTS.contains(&effect) => {}
            _ => errors.push(FieldError::not_supported(under("effect"), &effect.into(), &pod::EFFECTS)),
        }
        if seen.contains(&(effect, key)) {
            let mut error = FieldError::duplicate(format!("metadata.taints[{index}]"), &Value::Null);
            let added = &taint["timeAdded"];
            error.say(&format!(
                "Duplicate value: {{\"Key\":{key:?},\"Value\":{value:?},\"Effect\":{effect:?},\"TimeAdded\":{added}}}: \
                 taints must be unique by key and effect pair"
            ));
            errors.push(error);
            continue;
        }
        seen.push((effect, key));
    }
}

fn node(object: &Value, errors: &mut Errors) {
    taints(&object["spec"]["taints"], errors);
    node_resources(object, errors);
}

fn node_resources(object: &Value, errors: &mut Errors) {
    for part in ["capacity", "allocatable"] {
        for (name, value) in entries(&object["status"][part]) {
            if Quantity::parse(text(value)).is_ok_and(Quantity::is_negative) {
                let field = format!("status.{part}.{name}");
                errors.push(FieldError::invalid(field, value, "must be greater than or equal to 0"));
            }
        }
    }
}

fn node_update(object: &Value, old: &Value, errors: &mut Errors) {
    node_resources(object, errors);
    let addresses = list(&object["status"]["addresses"]);
    for (index, address) in addresses.iter().enumerate() {
        if addresses[..index].contains(address) {
            let mut error = FieldError::duplicate(format!("status.addresses[{index}]"), address);
            let (type_, at) = (text(&address["type"]), text(&address["address"]));
            error.say(&format!("Duplicate value: {{\"Type\":{type_:?},\"Address\":{at:?}}}"));
            errors.push(error);
        }
    }
    let (spec, before) = (&object["spec"], &old["spec"]);
    if !list(&before["podCIDRs"]).is_empty() && spec["podCIDRs"] != before["podCIDRs"] {
        let why = "node updates may not change podCIDR except from \"\" to valid";
        errors.push(FieldError::forbidden("spec.podCIDRs", why));
    }
    if !text(&before["providerID"]).is_empty() && spec["providerID"] != before["providerID"] {
        let why = "node updates may not change providerID except from \"\" to valid";
        errors.push(FieldError::forbidden("spec.providerID", why));
    }
    taints(&spec["taints"], errors);
}

fn namespace_status(object: &Value, errors: &mut Errors) {
    let phase = text(&object["status"]["phase"]);
    let (expected, why) = if object["metadata"]["deletionTimestamp"].is_null() {
        ("Active", "may only be 'Active' if `deletionTimestamp` is empty")
    } else {
        ("Terminating", "may only be 'Terminating' if `deletionTimestamp` is not empty")
    };
    if phase != expected {
        errors.push(FieldError::invalid_text("status.Phase", phase, why));
    }
}

/// What a quota without a prefix can limit.
const QUOTAS: [&str; 19] = [
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.storage",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "persistentvolumeclaims",
    "configmaps",
    "services.nodeports",
    "services.loadbalancers",
];

fn quota(spec: &Value, errors: &mut Errors) {
    for (name, value) in entries(&spec["hard"]) {
        let field = format!("spec.hard[{name}]");
        formed(name, names::qualified, &field, errors);
        if !name.contains('/') && !QUOTAS.contains(&name.as_str()) {
            if names::qualified(name).is_empty() {
                let why = "must be a standard resource type or fully qualified";
                errors.push(FieldError::invalid_text(field.clone(), name, why));
            }
            errors.push(FieldError::invalid_text(field.clone(), name, "must be a standard resource for quota"));
        }
        let Ok(quantity) = Quantity::parse(text(value)) else { continue };
        if quantity.is_negative() {
            errors.push(FieldError::invalid(field.clone(), value, "must be greater than or equal to 0"));
        }
        let counted =
            matches!(name.as_str(), "pods" | "services" | "secrets" | "configmaps") || name.starts_with("count/");
        if counted && quantity.nano() % 1_000_000_000 != 0 {
            errors.push(FieldError::invalid(field, value, "must be an integer"));
        }
    }
}

fn budget(spec: &Value, errors: &mut Errors) {
    if !spec["minAvailable"].is_null() && !spec["maxUnavailable"].is_null() {
        let mut error = FieldError::invalid("spec", spec, "");
        let shown = format!(
            "{{\"MinAvailable\":{},\"Selector\":{},\"MaxUnavailable\":{},\"UnhealthyPodEvictionPolicy\":{}}}",
            spec["minAvailable"], spec["selector"], spec["maxUnavailable"], spec["unhealthyPodEvictionPolicy"]
        );
        error.say(&format!("Invalid value: {shown}: minAvailable and maxUnavailable cannot be both set"));
        errors.push(error);
    }
    for name in ["minAvailable", "maxUnavailable"] {
        if !spec[name].is_null() {
            let field = format!("spec.{name}");
            number_or_percent(&spec[name], &field, errors);
            at_most_all(&spec[name], &field, errors);
        }
    }
    selector(&spec["selector"], "spec.selector", errors);
    let policy = &spec["unhealthyPodEvictionPolicy"];
    if !policy.is_null() && !matches!(text(policy), "AlwaysAllow" | "IfHealthyBudget") {
        let known = ["AlwaysAllow", "IfHealthyBudget"];
        errors.push(FieldError::not_supported("spec.unhealthyPodEvictionPolicy", policy, &known));
    }
}

fn lease(spec: &Value, errors: &mut Errors) {
    let duration = &spec["leaseDurationSeconds"];
    if duration.as_i64().is_some_and(|seconds| seconds <= 0) {
        errors.push(FieldError::invalid("spec.leaseDurationSeconds", duration, "must be greater than 0"));
    }
    nonnegative(&spec["leaseTransitions"], "spec.leaseTransitions", errors);
}

fn autoscaler(spec: &Value, errors: &mut Errors) {
    let (least, most) = (&spec["minReplicas"], &spec["maxReplicas"]);
    let number = |value: &Value| value.as_i64().unwrap_or(0);
    if !least.is_null() && number(least) < 1 {
        errors.push(FieldError::invalid("spec.minReplicas", least, "must be greater than or equal to 1"));
    }
    if number(most) == 0 {
        errors.push(FieldError::required("spec.maxReplicas", "must be set and greater than 0"));
    } else if number(most) < 0 {
        errors.push(FieldError::invalid("spec.maxReplicas", most, "must be greater than or equal to 1"));
    }
    if !least.is_null() && number(most) < number(least) {
        errors.push(FieldError::invalid("spec.maxReplicas", most, "must be greater than or equal to `minReplicas`"));
    }
    if !least.is_null() && number(least) == 0 && !list(&spec["metrics"]).iter().any(scales_to_nothing) {
        let why = "must specify at least one Object or External metric to support scaling to zero replicas";
        errors.push(FieldError::forbidden("spec.metrics", why));
    }
    for part in ["kind", "name"] {
        let field = format!("spec.scaleTargetRef.{part}");
        match text(&spec["scaleTargetRef"][part]) {
            "" => errors.push(FieldError::required(field, "")),
            value => formed(value, names::path_segment, &field, errors),
        }
    }
    let version = text(&spec["scaleTargetRef"]["apiVersion"]);
    if !version.contains('/') {
        let why = "apiVersion must specify API group";
        errors.push(FieldError::invalid_text("spec.scaleTargetRef.apiVersion", version, why));
    }
}

/// A metric that there is even without pods.
fn scales_to_nothing(metric: &Value) -> bool {
    matches!(text(&metric["type"]), "Object" | "External")
}
