//! Deployments, ReplicaSets, StatefulSets and their revisions.

use serde_json::{Value, json};

use super::super::field::{Errors, FieldError};
use super::super::schema::Type;
use super::{at_most_all, formed, immutable, list, meta, nonnegative, number_or_percent, percent, pod, selector, text};
use crate::api::labels::Selector;
use crate::resource::Kind;

const SELECTOR: Type = Type::Struct("LabelSelector");

pub(super) fn create(kind: Kind, object: &Value, errors: &mut Errors) {
    match kind {
        Kind::Deployment => deployment(&object["spec"], errors),
        Kind::ReplicaSet => replica_set(&object["spec"], errors),
        Kind::StatefulSet => stateful_set(&object["spec"], false, errors),
        _ => {
            nonnegative(&object["revision"], "revision", errors);
            if object["data"].is_null() {
                errors.push(FieldError::required("data", "data is mandatory"));
            } else if !object["data"].is_object() {
                errors.push(FieldError::required("data", "data must be a valid JSON object"));
            }
        }
    }
}

pub(super) fn update(kind: Kind, subresource: &str, object: &Value, old: &Value, errors: &mut Errors) {
    let (spec, old_spec) = (&object["spec"], &old["spec"]);
    match (kind, subresource) {
        (Kind::ControllerRevision, _) => {
            meta::object(kind, object, errors);
            nonnegative(&object["revision"], "revision", errors);
            immutable(&object["data"], &old["data"], "data", errors);
        }
        (_, "status") => status(kind, &object["status"], &old["status"], errors),
        (Kind::Deployment, _) => {
            deployment(spec, errors);
            same_selector(&spec["selector"], &old_spec["selector"], errors);
        }
        (Kind::ReplicaSet, _) => {
            replica_set(spec, errors);
            same_selector(&spec["selector"], &old_spec["selector"], errors);
        }
        _ => {
            stateful_set(spec, true, errors);
            fixed(spec, old_spec, errors);
        }
    }
}

/// The parts of a StatefulSet that stay.
fn fixed(spec: &Value, old: &Value, errors: &mut Errors) {
    const CHANGING: [&str; 7] = [
        "replicas",
        "ordinals",
        "template",
        "updateStrategy",
        "revisionHistoryLimit",
        "persistentVolumeClaimRetentionPolicy",
        "minReadySeconds",
    ];
    let rest = |spec: &Value| {
        let mut spec = spec.as_object().cloned().unwrap_or_default();
        CHANGING.iter().for_each(|field| drop(spec.remove(*field)));
        spec
    };
    if rest(spec) != rest(old) {
        let why = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', \
                   'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
        errors.push(FieldError::forbidden("spec", why));
    }
}

/// What a workload selects stays.
fn same_selector(new: &Value, old: &Value, errors: &mut Errors) {
    if new != old {
        errors.push(FieldError::invalid_as("spec.selector", new, &SELECTOR, "field is immutable"));
    }
}

fn deployment(spec: &Value, errors: &mut Errors) {
    nonnegative(&spec["replicas"], "spec.replicas", errors);
    selector_and_template(spec, "deployment", errors);
    strategy(&spec["strategy"], errors);
    nonnegative(&spec["minReadySeconds"], "spec.minReadySeconds", errors);
    nonnegative(&spec["revisionHistoryLimit"], "spec.revisionHistoryLimit", errors);
    let deadline = &spec["progressDeadlineSeconds"];
    nonnegative(deadline, "spec.progressDeadlineSeconds", errors);
    if deadline.as_i64().is_some_and(|deadline| deadline <= spec["minReadySeconds"].as_i64().unwrap_or(0)) {
        let why = "must be greater than minReadySeconds";
        errors.push(FieldError::invalid("spec.progressDeadlineSeconds", deadline, why));
    }
}

fn replica_set(spec: &Value, errors: &mut Errors) {
    nonnegative(&spec["replicas"], "spec.replicas", errors);
    nonnegative(&spec["minReadySeconds"], "spec.minReadySeconds", errors);
    // The real one says deployment here too.
    selector_and_template(spec, "deployment", errors);
}

fn selector_and_template(spec: &Value, word: &str, errors: &mut Errors) {
    let labels = selects(spec, word, errors);
    if let Some(labels) = labels {
        template_matches(spec, &labels, errors);
        pod::template(&spec["template"], errors);
        always_restarts(spec, "ReplicaSet", errors);
    }
}

/// Checks the selector; none if nothing more can be said about what it selects.
fn selects(spec: &Value, word: &str, errors: &mut Errors) -> Option<Selector> {
    let labels = &spec["selector"];
    let mut is_flawed = false;
    if labels.is_null() {
        errors.push(FieldError::required("spec.selector", ""));
    } else {
        let before = errors.len();
        selector(labels, "spec.selector", errors);
        is_flawed = errors.len() > before;
        let parsed = Selector::of_object(labels);
        if parsed.as_ref().is_some_and(Selector::is_everything) {
            let why = format!("empty selector is invalid for {word}");
            errors.push(FieldError::invalid_as("spec.selector", labels, &SELECTOR, &why));
        }
    }
    let parsed = Selector::of_object(labels).filter(|_| !is_flawed);
    if parsed.is_none() {
        let why = if word == "deployment" { "invalid label selector" } else { "" };
        errors.push(FieldError::invalid_as("spec.selector", labels, &SELECTOR, why));
    }
    parsed
}

fn template_matches(spec: &Value, labels: &Selector, errors: &mut Errors) {
    let found = &spec["template"]["metadata"]["labels"];
    if !labels.is_everything() && !labels.matches_labels(found) {
        let why = "`selector` does not match template `labels`";
        errors.push(FieldError::invalid("spec.template.metadata.labels", found, why));
    }
}

fn always_restarts(spec: &Value, kind: &str, errors: &mut Errors) {
    let template = &spec["template"]["spec"];
    if template["restartPolicy"] != "Always" {
        let field = "spec.template.spec.restartPolicy";
        errors.push(FieldError::not_supported(field, &template["restartPolicy"], &["Always"]));
    }
    if !template["activeDeadlineSeconds"].is_null() {
        let why = format!("activeDeadlineSeconds in {kind} is not Supported");
        errors.push(FieldError::forbidden("spec.template.spec.activeDeadlineSeconds", &why));
    }
}

/// A strategy as the real server shows it, which is not as it is sent.
fn shown(strategy: &Value) -> String {
    format!("{{\"Type\":{},\"RollingUpdate\":{}}}", strategy["type"], strategy["rollingUpdate"])
}

fn strategy(strategy: &Value, errors: &mut Errors) {
    let rolling = &strategy["rollingUpdate"];
    match text(&strategy["type"]) {
        "Recreate" if !rolling.is_null() => {
            let why = "may not be specified when strategy `type` is 'Recreate'";
            errors.push(FieldError::forbidden("spec.strategy.rollingUpdate", why));
        }
        "Recreate" => {}
        "RollingUpdate" => {
            let (unavailable, surge) = (&rolling["maxUnavailable"], &rolling["maxSurge"]);
            let field = "spec.strategy.rollingUpdate.maxUnavailable";
            number_or_percent(unavailable, field, errors);
            number_or_percent(surge, "spec.strategy.rollingUpdate.maxSurge", errors);
            let none = |value: &Value| value.as_i64().or_else(|| percent(value)).unwrap_or(0) == 0;
            if none(unavailable) && none(surge) {
                errors.push(FieldError::invalid(field, unavailable, "may not be 0 when `maxSurge` is 0"));
            }
            at_most_all(unavailable, field, errors);
        }
        _ => {
            let mut error = FieldError::not_supported("spec.strategy", strategy, &[]);
            error.say(&format!(
                "Unsupported value: {}: supported values: \"Recreate\", \"RollingUpdate\"",
                shown(strategy)
            ));
            errors.push(error);
        }
    }
}

fn stateful_set(spec: &Value, is_update: bool, errors: &mut Errors) {
    let policy = text(&spec["podManagementPolicy"]);
    if !matches!(policy, "OrderedReady" | "Parallel") {
        let why = "must be 'OrderedReady' or 'Parallel'";
        errors.push(FieldError::invalid_text("spec.podManagementPolicy", policy, why));
    }
    let strategy = &spec["updateStrategy"];
    let rolling = &strategy["rollingUpdate"];
    match text(&strategy["type"]) {
        "OnDelete" if !rolling.is_null() => {
            let mut error = FieldError::invalid("spec.updateStrategy.rollingUpdate", rolling, "");
            let shown =
                format!("{{\"Partition\":{},\"MaxUnavailable\":{}}}", rolling["partition"], rolling["maxUnavailable"]);
            error.say(&format!("Invalid value: {shown}: only allowed for updateStrategy 'RollingUpdate'"));
            errors.push(error);
        }
        "OnDelete" => {}
        "RollingUpdate" => {
            nonnegative(&rolling["partition"], "spec.updateStrategy.rollingUpdate.partition", errors);
            let unavailable = &rolling["maxUnavailable"];
            if !unavailable.is_null() {
                let field = "spec.updateStrategy.rollingUpdate.maxUnavailable";
                number_or_percent(unavailable, field, errors);
                at_most_all(unavailable, field, errors);
            }
        }
        _ => {
            let mut error = FieldError::invalid("spec.updateStrategy", strategy, "");
            error.say(&format!("Invalid value: {}: must be 'RollingUpdate' or 'OnDelete'", shown(strategy)));
            errors.push(error);
        }
    }
    nonnegative(&spec["replicas"], "spec.replicas", errors);
    nonnegative(&spec["minReadySeconds"], "spec.minReadySeconds", errors);
    nonnegative(&spec["ordinals"]["start"], "spec.ordinals.start", errors);
    let service = text(&spec["serviceName"]);
    if !is_update && !service.is_empty() {
        formed(service, super::super::names::label, "spec.serviceName", errors);
    }
    if let Some(labels) = selects(spec, "statefulset", errors) {
        template_matches(spec, &labels, errors);
        pod::template(&as_its_pods_have_it(spec), errors);
        let metadata = &spec["template"]["metadata"];
        meta::labels(&metadata["labels"], "spec.template.labels", errors);
        meta::annotations(&metadata["annotations"], "spec.template.annotations", errors);
        pod::annotations(&metadata["annotations"], &spec["template"]["spec"], "spec.template.annotations", errors);
    }
    always_restarts(spec, "StatefulSet", errors);
}

/// The template of a StatefulSet as far as its controller leaves it to the pods: it gives them their host name and subdomain,
/// and a volume for each claim, in place of one of the same name (`ValidateStatefulSetSpec` of Kubernetes).
fn as_its_pods_have_it(spec: &Value) -> Value {
    let mut template = spec["template"].clone();
    let claims: Vec<&Value> =
        list(&spec["volumeClaimTemplates"]).iter().map(|claim| &claim["metadata"]["name"]).collect();
    if let Some(pod) = template["spec"].as_object_mut() {
        pod.remove("hostname");
        pod.remove("subdomain");
        let own = pod.get("volumes").map(list).unwrap_or_default();
        let others = own.iter().filter(|volume| !claims.contains(&&volume["name"])).cloned();
        let claimed = claims.iter().map(|name| json!({"name": name, "persistentVolumeClaim": {"claimName": name}}));
        let volumes: Vec<Value> = claimed.chain(others).collect();
        pod.insert("volumes".to_owned(), volumes.into());
    }
    template
}

fn status(kind: Kind, status: &Value, old: &Value, errors: &mut Errors) {
    let field = |name: &str| format!("status.{name}");
    let counts: &[&str] = match kind {
        Kind::Deployment => &[
            "observedGeneration",
            "replicas",
            "updatedReplicas",
            "readyReplicas",
            "availableReplicas",
            "unavailableReplicas",
            "terminatingReplicas",
            "collisionCount",
        ],
        Kind::ReplicaSet => &[
            "replicas",
            "fullyLabeledReplicas",
            "readyReplicas",
            "availableReplicas",
            "observedGeneration",
            "terminatingReplicas",
        ],
        _ => &[
            "replicas",
            "readyReplicas",
            "currentReplicas",
            "updatedReplicas",
            "availableReplicas",
            "observedGeneration",
            "collisionCount",
        ],
    };
    counts.iter().for_each(|name| nonnegative(&status[*name], &field(name), errors));
    let number = |name: &str| status[name].as_i64().unwrap_or(0);
    let bounded: &[&str] = match kind {
        Kind::Deployment => &["updatedReplicas", "readyReplicas", "availableReplicas"],
        Kind::ReplicaSet => &["fullyLabeledReplicas", "readyReplicas", "availableReplicas"],
        _ => &["readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas"],
    };
    for name in bounded {
        if number(name) > number("replicas") {
            let why = "cannot be greater than status.replicas";
            errors.push(FieldError::invalid(field(name), &number(name).into(), why));
        }
    }
    if number("availableReplicas") > number("readyReplicas") {
        let why = if kind == Kind::StatefulSet {
            "cannot be greater than status.readyReplicas"
        } else {
            "cannot be greater than readyReplicas"
        };
        errors.push(FieldError::invalid(field("availableReplicas"), &number("availableReplicas").into(), why));
    }
    let collisions = |status: &Value| status["collisionCount"].as_i64();
    if kind != Kind::ReplicaSet && collisions(old).is_some_and(|old| collisions(status).unwrap_or(i64::MIN) < old) {
        let value = collisions(status).unwrap_or(0);
        errors.push(FieldError::invalid(field("collisionCount"), &value.into(), "cannot be decremented"));
    }
}
