//! The kinds that are neither pods nor workloads.

use serde_json::{Value, json};

use super::super::field::{Errors, FieldError};
use super::super::names;
use super::{at_most_all, entries, formed, immutable, list, meta, nonnegative, number_or_percent, pod, selector, text};
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
        Kind::MutatingWebhookConfiguration => webhooks(&object["webhooks"], errors),
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
        Kind::PodDisruptionBudget if subresource.is_empty() => {
            meta::object(kind, object, errors);
            budget(&object["spec"], errors);
        }
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
            webhooks(&object["webhooks"], errors);
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
        errors.push(FieldError::invalid("spec", spec, "minAvailable and maxUnavailable cannot be both set"));
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
    let version = text(&spec["scaleTargetRef"]["apiVersion"]);
    if !version.contains('/') {
        let why = "apiVersion must specify API group";
        errors.push(FieldError::invalid_text("spec.scaleTargetRef.apiVersion", version, why));
    }
    for part in ["kind", "name"] {
        let field = format!("spec.scaleTargetRef.{part}");
        match text(&spec["scaleTargetRef"][part]) {
            "" => errors.push(FieldError::required(field, "")),
            value => formed(value, names::path_segment, &field, errors),
        }
    }
}

/// A metric that there is even without pods.
fn scales_to_nothing(metric: &Value) -> bool {
    matches!(text(&metric["type"]), "Object" | "External")
}

fn webhooks(webhooks: &Value, errors: &mut Errors) {
    let mut seen: Vec<&str> = Vec::new();
    for (index, webhook) in list(webhooks).iter().enumerate() {
        let at = format!("webhooks[{index}]");
        self::webhook(webhook, &at, errors);
        let name = text(&webhook["name"]);
        if seen.contains(&name) && !name.is_empty() {
            errors.push(FieldError::duplicate(format!("{at}.name"), &webhook["name"]));
        }
        seen.push(name);
    }
}

fn supported(value: &Value, field: String, known: &[&str], errors: &mut Errors) {
    if !value.is_null() && !known.contains(&text(value)) {
        errors.push(FieldError::not_supported(field, value, known));
    }
}

fn webhook(webhook: &Value, at: &str, errors: &mut Errors) {
    let under = |name: &str| format!("{at}.{name}");
    let name = text(&webhook["name"]);
    if name.is_empty() {
        errors.push(FieldError::required(under("name"), ""));
    } else {
        formed(name, names::subdomain, &under("name"), errors);
        if name.split('.').count() < 3 {
            let why = "should be a domain with at least three segments separated by dots";
            errors.push(FieldError::invalid_text(under("name"), name, why));
        }
    }
    for (index, rule) in list(&webhook["rules"]).iter().enumerate() {
        self::rule(rule, &format!("{at}.rules[{index}]"), errors);
    }
    supported(&webhook["failurePolicy"], under("failurePolicy"), &["Fail", "Ignore"], errors);
    supported(&webhook["matchPolicy"], under("matchPolicy"), &["Equivalent", "Exact"], errors);
    let effects = &webhook["sideEffects"];
    if effects.is_null() {
        errors.push(FieldError::required(under("sideEffects"), "must specify one of None, NoneOnDryRun"));
    }
    supported(effects, under("sideEffects"), &["None", "NoneOnDryRun"], errors);
    let timeout = &webhook["timeoutSeconds"];
    if timeout.as_i64().is_some_and(|seconds| !(1..=30).contains(&seconds)) {
        let why = "the timeout value must be between 1 and 30 seconds";
        errors.push(FieldError::invalid(under("timeoutSeconds"), timeout, why));
    }
    selector(&webhook["namespaceSelector"], &under("namespaceSelector"), errors);
    selector(&webhook["objectSelector"], &under("objectSelector"), errors);
    supported(&webhook["reinvocationPolicy"], under("reinvocationPolicy"), &["IfNeeded", "Never"], errors);
    client(&webhook["clientConfig"], &under("clientConfig"), errors);
    let versions = list(&webhook["admissionReviewVersions"]);
    if versions.is_empty() {
        errors.push(FieldError::required(under("admissionReviewVersions"), "must specify one of v1, v1beta1"));
    } else if !versions.iter().any(|version| matches!(text(version), "v1" | "v1beta1")) {
        let why = "must include at least one of v1, v1beta1";
        errors.push(FieldError::invalid(under("admissionReviewVersions"), &json!(versions), why));
    }
}

fn rule(rule: &Value, at: &str, errors: &mut Errors) {
    let operations = list(&rule["operations"]);
    let known = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
    if operations.is_empty() {
        errors.push(FieldError::required(format!("{at}.operations"), ""));
    }
    if operations.len() > 1 && operations.iter().any(|operation| operation == "*") {
        let why = "if '*' is present, must not specify other operations";
        errors.push(FieldError::invalid(format!("{at}.operations"), &rule["operations"], why));
    }
    for (index, operation) in operations.iter().enumerate() {
        supported(operation, format!("{at}.operations[{index}]"), &known, errors);
    }
    for (name, word) in [("apiGroups", "API groups"), ("apiVersions", "API versions")] {
        let values = list(&rule[name]);
        if values.is_empty() {
            errors.push(FieldError::required(format!("{at}.{name}"), ""));
        }
        if values.len() > 1 && values.iter().any(|value| value == "*") {
            let why = format!("if '*' is present, must not specify other {word}");
            errors.push(FieldError::invalid(format!("{at}.{name}"), &rule[name], &why));
        }
    }
    if list(&rule["resources"]).is_empty() {
        errors.push(FieldError::required(format!("{at}.resources"), ""));
    }
    supported(&rule["scope"], format!("{at}.scope"), &["*", "Cluster", "Namespaced"], errors);
}

fn client(config: &Value, at: &str, errors: &mut Errors) {
    let (url, service) = (&config["url"], &config["service"]);
    if url.is_null() == service.is_null() {
        errors.push(FieldError::required(at, "exactly one of url or service is required"));
        return;
    }
    if url.is_null() {
        return;
    }
    let field = format!("{at}.url");
    let form = "; desired format: https://host[/path]";
    let (scheme, rest) = text(url).split_once("://").unwrap_or(("", text(url)));
    if scheme != "https" {
        let why = format!("'https' is the only allowed URL scheme{form}");
        errors.push(FieldError::invalid_text(field.clone(), scheme, &why));
    }
    let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    if scheme.is_empty() || rest.split('/').next().unwrap_or_default().is_empty() {
        errors.push(FieldError::invalid_text(field.clone(), "", &format!("host must be specified{form}")));
    }
    if !fragment.is_empty() {
        errors.push(FieldError::invalid_text(field.clone(), fragment, "fragments are not permitted in the URL"));
    }
    if !query.is_empty() {
        errors.push(FieldError::invalid_text(field, query, "query parameters are not permitted in the URL"));
    }
}

// ---- Events ----

pub(super) fn event_create(event: &Value, errors: &mut Errors) {
    event_legacy(event, errors);
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

fn event_legacy(event: &Value, errors: &mut Errors) {
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

pub(super) fn event_update(event: &Value, old: &Value, errors: &mut Errors) {
    event_legacy(event, errors);
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
