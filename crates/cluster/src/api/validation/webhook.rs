//! Configurations of mutating webhooks. Whether match conditions are understood is admission's to say.

use serde_json::{Value, json};

use super::super::field::{Errors, FieldError};
use super::super::names;
use super::{formed, list, selector, text};

pub(super) fn all(webhooks: &Value, errors: &mut Errors) {
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
    }
    for (index, version) in versions.iter().enumerate().filter(|(index, version)| versions[..*index].contains(version))
    {
        let at = format!("{}[{index}]", under("admissionReviewVersions"));
        errors.push(FieldError::invalid(at, version, "duplicate version"));
    }
    if !versions.is_empty() && !versions.iter().any(|version| matches!(text(version), "v1" | "v1beta1")) {
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
