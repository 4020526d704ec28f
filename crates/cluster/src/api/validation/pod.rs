//! Pods and templates of pods.
//!
//! Volumes, security contexts, probes and host ports are stored as they are sent: nothing here acts on them.

use serde_json::{Value, json};

use super::super::field::{Errors, FieldError};
use super::super::names;
use super::{entries, formed, immutable, list, meta, nonnegative, requirement, selector, text};
use crate::api::quantity::Quantity;
use crate::resource::Kind;

const COST: &str = "controller.kubernetes.io/pod-deletion-cost";
const UPDATABLE: &str = "pod updates may not change fields other than `spec.containers[*].image`,\
    `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing \
    tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)\n";

pub(super) fn create(pod: &Value, errors: &mut Errors) {
    meta_and_spec(pod, errors);
    if !list(&pod["spec"]["ephemeralContainers"]).is_empty() {
        errors.push(FieldError::forbidden("spec.ephemeralContainers", "cannot be set on create"));
    }
    let node = text(&pod["spec"]["nodeName"]);
    if !node.is_empty() && !list(&pod["spec"]["schedulingGates"]).is_empty() {
        let why = "cannot be set until all schedulingGates have been cleared";
        errors.push(FieldError::forbidden("spec.nodeName", why));
    }
}

fn meta_and_spec(pod: &Value, errors: &mut Errors) {
    meta::object(Kind::Pod, pod, errors);
    annotations(&pod["metadata"]["annotations"], &pod["spec"], "metadata.annotations", errors);
    spec(&pod["spec"], "spec", errors);
}

/// The template of a workload.
pub(super) fn template(template: &Value, errors: &mut Errors) {
    let metadata = &template["metadata"];
    meta::labels(&metadata["labels"], "spec.template.labels", errors);
    meta::annotations(&metadata["annotations"], "spec.template.annotations", errors);
    annotations(&metadata["annotations"], &template["spec"], "spec.template.annotations", errors);
    spec(&template["spec"], "spec.template.spec", errors);
    if !list(&template["spec"]["ephemeralContainers"]).is_empty() {
        let why = "ephemeral containers not allowed in pod template";
        errors.push(FieldError::forbidden("spec.template.spec.ephemeralContainers", why));
    }
}

/// Whether a text is a 32 bit number as pod deletion costs are written: no plus sign, no leading zeros.
fn is_cost(text: &str) -> bool {
    let leads = |byte: &u8| *byte == b'-' || (*byte != b'0' && byte.is_ascii_digit());
    let fine = text == "0" || text.as_bytes().first().is_some_and(leads);
    fine && text.parse::<i32>().is_ok()
}

/// Annotations that mean something to pods.
pub(super) fn annotations(annotations: &Value, spec: &Value, field: &str, errors: &mut Errors) {
    let mirror = "kubernetes.io/config.mirror";
    if let Some(value) = annotations.get(mirror)
        && text(&spec["nodeName"]).is_empty()
    {
        let why = "must set spec.nodeName if mirror pod annotation is set";
        errors.push(FieldError::invalid(format!("{field}[{mirror}]"), value, why));
    }
    if let Some(cost) = annotations.get(COST)
        && !is_cost(text(cost))
    {
        errors.push(FieldError::invalid(format!("{field}[{COST}]"), cost, "must be a 32bit integer"));
    }
}

fn spec(spec: &Value, at: &str, errors: &mut Errors) {
    let under = |name: &str| format!("{at}.{name}");
    containers(spec, at, errors);
    one_of(&spec["restartPolicy"], &under("restartPolicy"), &["Always", "OnFailure", "Never"], errors);
    one_of(
        &spec["dnsPolicy"],
        &under("dnsPolicy"),
        &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"],
        errors,
    );
    meta::labels(&spec["nodeSelector"], &under("nodeSelector"), errors);
    affinity(&spec["affinity"], &under("affinity"), errors);
    gates(&spec["schedulingGates"], &under("schedulingGates"), errors);
    spread(&spec["topologySpreadConstraints"], &under("topologySpreadConstraints"), errors);
    for name in ["serviceAccountName", "nodeName"] {
        let value = text(&spec[name]);
        if !value.is_empty() {
            formed(value, names::subdomain, &under(name), errors);
        }
    }
    let deadline = &spec["activeDeadlineSeconds"];
    if deadline.as_i64().is_some_and(|seconds| !(1..=i64::from(i32::MAX)).contains(&seconds)) {
        let why = "must be between 1 and 2147483647, inclusive";
        errors.push(FieldError::invalid(under("activeDeadlineSeconds"), deadline, why));
    }
    for name in ["hostname", "subdomain"] {
        let value = text(&spec[name]);
        if !value.is_empty() {
            formed(value, names::label, &under(name), errors);
        }
    }
    tolerations(&spec["tolerations"], &under("tolerations"), errors);
    let class = text(&spec["priorityClassName"]);
    if !class.is_empty() {
        formed(class, names::subdomain, &under("priorityClassName"), errors);
    }
    let preemption = &spec["preemptionPolicy"];
    if !preemption.is_null() {
        one_of(preemption, &under("preemptionPolicy"), &["PreemptLowerPriority", "Never"], errors);
    }
}

fn one_of(value: &Value, field: &str, known: &[&str], errors: &mut Errors) {
    match text(value) {
        "" => errors.push(FieldError::required(field, "")),
        word if known.contains(&word) => {}
        _ => errors.push(FieldError::not_supported(field, value, known)),
    }
}

fn containers(spec: &Value, at: &str, errors: &mut Errors) {
    let all = list(&spec["containers"]);
    if all.is_empty() {
        errors.push(FieldError::required(format!("{at}.containers"), ""));
    }
    let mut seen: Vec<&str> = Vec::new();
    for part in ["containers", "initContainers"] {
        for (index, container) in list(&spec[part]).iter().enumerate() {
            let field = format!("{at}.{part}[{index}]");
            self::container(container, &spec["volumes"], &field, errors);
            let name = text(&container["name"]);
            if seen.contains(&name) && !name.is_empty() {
                errors.push(FieldError::duplicate(format!("{field}.name"), &container["name"]));
            }
            seen.push(name);
        }
    }
}

fn container(container: &Value, volumes: &Value, at: &str, errors: &mut Errors) {
    let under = |name: &str| format!("{at}.{name}");
    match text(&container["name"]) {
        "" => errors.push(FieldError::required(under("name"), "")),
        name => formed(name, names::label, &under("name"), errors),
    }
    if text(&container["image"]).is_empty() {
        errors.push(FieldError::required(under("image"), ""));
    }
    let policy = &container["terminationMessagePolicy"];
    one_of(policy, &under("terminationMessagePolicy"), &["File", "FallbackToLogsOnError"], errors);
    ports(&container["ports"], &under("ports"), errors);
    for (index, variable) in list(&container["env"]).iter().enumerate() {
        if text(&variable["name"]).is_empty() {
            errors.push(FieldError::required(format!("{at}.env[{index}].name"), ""));
        }
    }
    mounts(&container["volumeMounts"], volumes, &under("volumeMounts"), errors);
    one_of(&container["imagePullPolicy"], &under("imagePullPolicy"), &["Always", "IfNotPresent", "Never"], errors);
    resources(&container["resources"], &under("resources"), errors);
}

fn mounts(mounts: &Value, volumes: &Value, at: &str, errors: &mut Errors) {
    let mut paths: Vec<&str> = Vec::new();
    for (index, mount) in list(mounts).iter().enumerate() {
        let under = |name: &str| format!("{at}[{index}].{name}");
        if text(&mount["name"]).is_empty() {
            errors.push(FieldError::required(under("name"), ""));
        }
        if !list(volumes).iter().any(|volume| volume["name"] == mount["name"]) {
            errors.push(FieldError::not_found(under("name"), &mount["name"]));
        }
        let path = text(&mount["mountPath"]);
        if path.is_empty() {
            errors.push(FieldError::required(under("mountPath"), ""));
        }
        if paths.contains(&path) {
            errors.push(FieldError::invalid_text(under("mountPath"), path, "must be unique"));
        }
        paths.push(path);
    }
}

fn ports(ports: &Value, at: &str, errors: &mut Errors) {
    let why = "must be between 1 and 65535, inclusive";
    for (index, port) in list(ports).iter().enumerate() {
        let under = |name: &str| format!("{at}[{index}].{name}");
        match port["containerPort"].as_i64().unwrap_or(0) {
            0 => errors.push(FieldError::required(under("containerPort"), "")),
            1..=65535 => {}
            _ => errors.push(FieldError::invalid(under("containerPort"), &port["containerPort"], why)),
        }
        if port["hostPort"].as_i64().is_some_and(|port| port != 0 && !(1..=65535).contains(&port)) {
            errors.push(FieldError::invalid(under("hostPort"), &port["hostPort"], why));
        }
        one_of(&port["protocol"], &under("protocol"), &["SCTP", "TCP", "UDP"], errors);
    }
}

fn resource_name(name: &str, field: &str, errors: &mut Errors) {
    let wrong = names::qualified(name);
    if !wrong.is_empty() {
        errors.extend(wrong.iter().map(|why| FieldError::invalid_text(field, name, why)));
    }
    let standard = matches!(name, "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-");
    if !name.contains('/') && !standard {
        if wrong.is_empty() && !matches!(name, "storage" | "pods" | "services") {
            let why = "must be a standard resource type or fully qualified";
            errors.push(FieldError::invalid_text(field, name, why));
        }
        errors.push(FieldError::invalid_text(field, name, "must be a standard resource for containers"));
    }
}

fn amount(name: &str, value: &Value, field: &str, errors: &mut Errors) {
    let Ok(quantity) = Quantity::parse(text(value)) else { return };
    if quantity.is_negative() {
        errors.push(FieldError::invalid(field, value, "must be greater than or equal to 0"));
    }
    if name.contains('/') && !name.contains("kubernetes.io/") && quantity.nano() % 1_000_000_000 != 0 {
        errors.push(FieldError::invalid(field, value, "must be an integer"));
    }
}

fn resources(resources: &Value, at: &str, errors: &mut Errors) {
    let limits = &resources["limits"];
    for (name, value) in entries(limits) {
        let field = format!("{at}.limits[{name}]");
        resource_name(name, &field, errors);
        amount(name, value, &field, errors);
    }
    for (name, value) in entries(&resources["requests"]) {
        let field = format!("{at}.requests[{name}]");
        resource_name(name, &field, errors);
        amount(name, value, &field, errors);
        let limit = limits.get(name).map(text);
        let nano = |text: &str| Quantity::parse(text).map_or(0, Quantity::nano);
        let whole = name.contains('/') && !name.contains("kubernetes.io/");
        match limit {
            Some(limit) if whole && nano(limit) != nano(text(value)) => {
                let why = format!("must be equal to {name} limit of {limit}");
                errors.push(FieldError::invalid(format!("{at}.requests"), value, &why));
            }
            Some(limit) if !whole && nano(limit) < nano(text(value)) => {
                let why = format!("must be less than or equal to {name} limit of {limit}");
                errors.push(FieldError::invalid(format!("{at}.requests"), value, &why));
            }
            None if whole => {
                let why = "Limit must be set for non overcommitable resources";
                errors.push(FieldError::required(format!("{at}.limits"), why));
            }
            _ => {}
        }
    }
}

fn affinity(affinity: &Value, at: &str, errors: &mut Errors) {
    let node = &affinity["nodeAffinity"];
    let required = &node["requiredDuringSchedulingIgnoredDuringExecution"];
    if !required.is_null() {
        let field = format!("{at}.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms");
        let terms = list(&required["nodeSelectorTerms"]);
        if terms.is_empty() {
            errors.push(FieldError::required(field.clone(), "must have at least one node selector term"));
        }
        for (index, term) in terms.iter().enumerate() {
            node_term(term, &format!("{field}[{index}]"), errors);
        }
    }
    let field = format!("{at}.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution");
    for (index, term) in list(&node["preferredDuringSchedulingIgnoredDuringExecution"]).iter().enumerate() {
        weight(&term["weight"], &format!("{field}[{index}].weight"), errors);
        node_term(&term["preference"], &format!("{field}[{index}].preference"), errors);
    }
    for side in ["podAffinity", "podAntiAffinity"] {
        let pods = &affinity[side];
        let field = format!("{at}.{side}.requiredDuringSchedulingIgnoredDuringExecution");
        for (index, term) in list(&pods["requiredDuringSchedulingIgnoredDuringExecution"]).iter().enumerate() {
            pod_term(term, &format!("{field}[{index}]"), errors);
        }
        let field = format!("{at}.{side}.preferredDuringSchedulingIgnoredDuringExecution");
        for (index, term) in list(&pods["preferredDuringSchedulingIgnoredDuringExecution"]).iter().enumerate() {
            weight(&term["weight"], &format!("{field}[{index}].weight"), errors);
            pod_term(&term["podAffinityTerm"], &format!("{field}[{index}].podAffinityTerm"), errors);
        }
    }
}

fn weight(weight: &Value, field: &str, errors: &mut Errors) {
    if !(1..=100).contains(&weight.as_i64().unwrap_or(0)) {
        errors.push(FieldError::invalid(field, weight, "must be in the range 1-100"));
    }
}

fn node_term(term: &Value, at: &str, errors: &mut Errors) {
    for (index, expression) in list(&term["matchExpressions"]).iter().enumerate() {
        requirement(expression, &format!("{at}.matchExpressions[{index}]"), true, errors);
    }
}

fn pod_term(term: &Value, at: &str, errors: &mut Errors) {
    selector(&term["labelSelector"], &format!("{at}.labelSelector"), errors);
    let key = text(&term["topologyKey"]);
    let field = format!("{at}.topologyKey");
    if key.is_empty() {
        errors.push(FieldError::required(field.clone(), "can not be empty"));
    }
    formed(key, names::qualified, &field, errors);
}

fn gates(gates: &Value, at: &str, errors: &mut Errors) {
    let mut seen: Vec<&str> = Vec::new();
    for (index, gate) in list(gates).iter().enumerate() {
        let name = text(&gate["name"]);
        formed(name, names::qualified, &format!("{at}[{index}]"), errors);
        if seen.contains(&name) {
            errors.push(FieldError::duplicate(format!("{at}[{index}]"), &gate["name"]));
        }
        seen.push(name);
    }
}

fn spread(constraints: &Value, at: &str, errors: &mut Errors) {
    let all = list(constraints);
    for (index, constraint) in all.iter().enumerate() {
        let under = |name: &str| format!("{at}[{index}].{name}");
        let skew = &constraint["maxSkew"];
        if skew.as_i64().unwrap_or(0) <= 0 {
            errors.push(FieldError::invalid(under("maxSkew"), skew, "must be greater than zero"));
        }
        if text(&constraint["topologyKey"]).is_empty() {
            errors.push(FieldError::required(under("topologyKey"), "can not be empty"));
        }
        let action = &constraint["whenUnsatisfiable"];
        if !matches!(text(action), "DoNotSchedule" | "ScheduleAnyway") {
            let known = ["DoNotSchedule", "ScheduleAnyway"];
            errors.push(FieldError::not_supported(under("whenUnsatisfiable"), action, &known));
        }
        let same =
            |other: &Value| other["topologyKey"] == constraint["topologyKey"] && other["whenUnsatisfiable"] == *action;
        if all[index + 1..].iter().any(same) {
            let pair = format!("{{{}, {}}}", text(&constraint["topologyKey"]), text(action));
            errors.push(FieldError::duplicate(under("{topologyKey, whenUnsatisfiable}"), &json!(pair)));
        }
        if constraint["minDomains"].as_i64().is_some_and(|domains| domains <= 0) {
            errors.push(FieldError::invalid(under("minDomains"), &constraint["minDomains"], "must be greater than 0"));
        }
        selector(&constraint["labelSelector"], &under("labelSelector"), errors);
    }
}

pub(super) const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

fn tolerations(tolerations: &Value, at: &str, errors: &mut Errors) {
    for (index, toleration) in list(tolerations).iter().enumerate() {
        let under = |name: &str| format!("{at}[{index}].{name}");
        let part = |name: &str| text(&toleration[name]);
        let value_of = |name: &str| Value::from(text(&toleration[name]));
        if part("key").is_empty() {
            if part("operator") != "Exists" {
                let why = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
                errors.push(FieldError::invalid(under("operator"), &value_of("operator"), why));
            }
        } else {
            formed(part("key"), names::qualified, &under("key"), errors);
        }
        if !toleration["tolerationSeconds"].is_null() && part("effect") != "NoExecute" {
            let why = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            errors.push(FieldError::invalid(under("effect"), &value_of("effect"), why));
        }
        match part("operator") {
            "Equal" | "" => {
                let wrong = names::label_value(part("value"));
                if !wrong.is_empty() {
                    errors.push(FieldError::invalid(under("operator"), &value_of("value"), &wrong.join(";")));
                }
            }
            "Exists" if !part("value").is_empty() => {
                let why = "value must be empty when `operator` is 'Exists'";
                errors.push(FieldError::invalid(under("operator"), &value_of("value"), why));
            }
            "Exists" => {}
            "Lt" | "Gt" => {
                let known = ["Equal", "Exists", "Lt", "Gt"];
                errors.push(FieldError::not_supported(under("operator"), &value_of("operator"), &known));
            }
            _ => errors.push(FieldError::not_supported(under("operator"), &value_of("operator"), &["Equal", "Exists"])),
        }
        if !part("effect").is_empty() && !EFFECTS.contains(&part("effect")) {
            errors.push(FieldError::not_supported(under("effect"), &value_of("effect"), &EFFECTS));
        }
    }
}

/// The few things of a pod that change.
pub(super) fn update(pod: &Value, old: &Value, errors: &mut Errors) {
    meta::update(pod, old, errors);
    // The real one looks at them here and as part of what follows.
    meta::standard_finalizers(pod, errors);
    meta_and_spec(pod, errors);
    annotations(&pod["metadata"]["annotations"], &pod["spec"], "metadata.annotations", errors);
    let (spec, old) = (&pod["spec"], &old["spec"]);
    for part in ["containers", "initContainers"] {
        if list(&spec[part]).len() != list(&old[part]).len() {
            let why = "pod updates may not add or remove containers";
            errors.push(FieldError::forbidden(format!("spec.{part}"), why));
            return;
        }
        for (index, container) in list(&spec[part]).iter().enumerate() {
            let image = text(&container["image"]);
            if image.is_empty() {
                errors.push(FieldError::required(format!("spec.{part}[{index}].image"), ""));
            }
            if image.trim() != image {
                let why = "must not have leading or trailing whitespace";
                let error = FieldError::invalid_text(format!("spec.{part}[{index}].image"), image, why);
                // The real one says it of the container, and of the update.
                errors.extend([error.clone(), error]);
            }
        }
    }
    if !deadline(spec, old, errors) {
        return;
    }
    added_tolerations(spec, old, errors);
    removed_gates(spec, old, errors);
    if munged(spec, old) != *old {
        errors.push(FieldError::forbidden("spec", UPDATABLE));
    }
}

fn deadline(spec: &Value, old: &Value, errors: &mut Errors) -> bool {
    let field = "spec.activeDeadlineSeconds";
    let (new, before) = (&spec["activeDeadlineSeconds"], old["activeDeadlineSeconds"].as_i64());
    match (new.as_i64(), before) {
        (Some(seconds), _) if !(0..=i64::from(i32::MAX)).contains(&seconds) => {
            errors.push(FieldError::invalid(field, new, "must be between 0 and 2147483647, inclusive"));
            false
        }
        (Some(seconds), Some(before)) if before < seconds => {
            errors.push(FieldError::invalid(field, new, "must be less than or equal to previous value"));
            false
        }
        (None, Some(_)) => {
            errors.push(FieldError::invalid(field, new, "must not update from a positive integer to nil value"));
            true
        }
        _ => true,
    }
}

fn added_tolerations(spec: &Value, old: &Value, errors: &mut Errors) {
    let without_seconds = |toleration: &Value| {
        let mut toleration = toleration.clone();
        if let Value::Object(fields) = &mut toleration {
            fields.remove("tolerationSeconds");
        }
        toleration
    };
    let new: Vec<Value> = list(&spec["tolerations"]).iter().map(without_seconds).collect();
    if list(&old["tolerations"]).iter().any(|old| !new.contains(&without_seconds(old))) {
        let why = "existing toleration can not be modified except its tolerationSeconds";
        errors.push(FieldError::forbidden("spec.tolerations", why));
        return;
    }
    tolerations(&spec["tolerations"], "spec.tolerations", errors);
}

fn removed_gates(spec: &Value, old: &Value, errors: &mut Errors) {
    let there = list(&old["schedulingGates"]);
    for (index, gate) in list(&spec["schedulingGates"]).iter().enumerate() {
        if !there.contains(gate) {
            let why =
                "only deletion is allowed, but found new scheduling gate '".to_owned() + text(&gate["name"]) + "'";
            errors.push(FieldError::forbidden(format!("spec.schedulingGates[{index}]"), &why));
        }
    }
}

/// The spec with what may change put back.
fn munged(spec: &Value, old: &Value) -> Value {
    let mut munged = spec.clone();
    for part in ["containers", "initContainers"] {
        if let Value::Array(containers) = &mut munged[part] {
            for (container, old) in containers.iter_mut().zip(list(&old[part])) {
                container["image"] = old["image"].clone();
            }
        } else if let Value::Object(fields) = &mut munged {
            fields.remove(part);
        }
    }
    for part in ["activeDeadlineSeconds", "schedulingGates", "tolerations"] {
        super::super::meta::keep(&mut munged, part, old);
    }
    let gated = !list(&old["schedulingGates"]).is_empty();
    if gated {
        // What a gated pod may change of where it can go is not checked any closer.
        super::super::meta::keep(&mut munged, "nodeSelector", old);
        super::super::meta::keep(&mut munged, "affinity", old);
    }
    if old["terminationGracePeriodSeconds"].as_i64().is_some_and(|seconds| seconds < 0)
        && munged["terminationGracePeriodSeconds"] == 1
    {
        super::super::meta::keep(&mut munged, "terminationGracePeriodSeconds", old);
    }
    munged
}

/// What a kubelet cannot change.
pub(super) fn update_status(pod: &Value, old: &Value, errors: &mut Errors) {
    meta::update(pod, old, errors);
    annotations(&pod["metadata"]["annotations"], &pod["spec"], "metadata.annotations", errors);
    nonnegative(&pod["status"]["observedGeneration"], "status.observedGeneration", errors);
    immutable(&pod["status"]["qosClass"], &old["status"]["qosClass"], "status.qosClass", errors);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deletion_costs_are_numbers_in_their_plainest_form() {
        for (text, fine) in [
            ("-1", true),
            ("-01", true),
            ("-0", true),
            ("0", true),
            ("-2147483648", true),
            ("2147483647", true),
            ("+1", false),
            ("01", false),
            ("00", false),
            ("2147483648", false),
            ("x", false),
            ("", false),
        ] {
            assert_eq!(is_cost(text), fine, "{text}");
        }
    }
}
