//! The part of admission that needs no webhook: what a real server's own plugins add to pods and nodes.
//!
//! The default `ServiceAccount` of a namespace is taken to exist: a controller makes it, and nothing here needs its secret.

use serde_json::{Value, json};

use super::admission::{Attributes, Operation};
use super::meta::{metadata, section};
use super::status::Status;
use crate::cluster::State;
use crate::object::Object;
use crate::resource::Kind;
use crate::store::{Key, Store};

const TOKENS: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const ZONE: &str = "topology.kubernetes.io/zone";
const REGION: &str = "topology.kubernetes.io/region";
/// What a pod of every priority does to lower ones, unless its class says otherwise.
const PREEMPTS: &str = "PreemptLowerPriority";
/// Priority classes that every cluster has.
const CLASSES: [(&str, i64); 2] = [("system-cluster-critical", 2_000_000_000), ("system-node-critical", 2_000_001_000)];

pub(crate) fn admit(state: &mut State, attributes: &Attributes<'_>, object: &mut Value) -> Result<(), Status> {
    match (attributes.kind, attributes.operation, attributes.subresource) {
        (Kind::Pod, Operation::Create, "") => {
            account(state, attributes, object)?;
            priority(attributes, object)?;
            tolerations(object);
            overhead(attributes, object)?;
            place(&state.store, object);
        }
        (Kind::Pod, Operation::Update, "") => {
            keep_priority(attributes, object);
            tolerations(object);
        }
        (Kind::Node, Operation::Create, "") => not_ready(object),
        _ => {}
    }
    Ok(())
}

/// A new node is not ready until somebody says so.
fn not_ready(node: &mut Value) {
    let taint = json!({"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"});
    let taints = section(node, "spec").entry("taints").or_insert_with(|| json!([]));
    if let Value::Array(taints) = taints {
        let same = |there: &Value| there["key"] == taint["key"] && there["effect"] == taint["effect"];
        if !taints.iter().any(same) {
            taints.push(taint);
        }
    }
}

fn is_mirror(pod: &Value) -> bool {
    pod["metadata"]["annotations"].get("kubernetes.io/config.mirror").is_some()
}

fn account(state: &mut State, attributes: &Attributes<'_>, pod: &mut Value) -> Result<(), Status> {
    if is_mirror(pod) {
        return Ok(());
    }
    if pod["spec"]["serviceAccountName"].as_str().unwrap_or_default().is_empty() {
        let spec = section(pod, "spec");
        spec.insert("serviceAccountName".into(), "default".into());
        spec.insert("serviceAccount".into(), "default".into());
    }
    let name = pod["spec"]["serviceAccountName"].as_str().unwrap_or_default().to_owned();
    let account = state.store.get(&Key::new(Kind::ServiceAccount, attributes.namespace, &name)).cloned();
    if account.is_none() && name != "default" {
        let why = format!(
            "error looking up service account {}/{name}: serviceaccount {name:?} not found",
            attributes.namespace
        );
        return Err(Status::forbidden(Kind::Pod, attributes.called(pod), &why));
    }
    let wants = |object: &Value, field: &str| object[field].as_bool();
    let automount = wants(&pod["spec"], "automountServiceAccountToken")
        .or_else(|| wants(account.as_deref().map_or(&Value::Null, Object::json), "automountServiceAccountToken"));
    if automount.unwrap_or(true) {
        mount(state, pod);
    }
    Ok(())
}

/// Whether a container has the tokens mounted already.
fn has_tokens(container: &Value) -> bool {
    let mounts = container["volumeMounts"].as_array().map_or(&[][..], Vec::as_slice);
    mounts.iter().any(|mount| mount["mountPath"] == TOKENS)
}

fn mount(state: &mut State, pod: &mut Value) {
    let lists = ["containers", "initContainers"];
    let without = |pod: &Value| {
        lists
            .iter()
            .any(|list| pod["spec"][list].as_array().into_iter().flatten().any(|container| !has_tokens(container)))
    };
    if !without(pod) {
        return;
    }
    let name = format!("kube-api-access-{}", state.random.letters(5));
    for list in lists {
        let containers = pod["spec"][list].as_array_mut();
        for container in containers.into_iter().flatten().filter(|container| !has_tokens(container)) {
            let mount = json!({"name": name, "readOnly": true, "mountPath": TOKENS});
            match &mut container["volumeMounts"] {
                Value::Array(mounts) => mounts.push(mount),
                mounts => *mounts = json!([mount]),
            }
        }
        // Indexing made a null of what was not there.
        if pod["spec"][list].is_null() {
            section(pod, "spec").remove(list);
        }
    }
    let volume = json!({"name": name, "projected": {"defaultMode": 0o644, "sources": [
        {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [
            {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}},
        ]}},
    ]}});
    if let Value::Array(volumes) = section(pod, "spec").entry("volumes").or_insert_with(|| json!([])) {
        volumes.push(volume);
    }
}

fn priority(attributes: &Attributes<'_>, pod: &mut Value) -> Result<(), Status> {
    let class = pod["spec"]["priorityClassName"].as_str().unwrap_or_default();
    let known = CLASSES.iter().find(|(name, _)| *name == class).map(|(_, value)| *value);
    let computed = match (class, known) {
        ("", _) => 0,
        (_, Some(value)) => value,
        (class, None) => {
            let why = format!("no PriorityClass with name {class} was found");
            return Err(Status::forbidden(Kind::Pod, attributes.called(pod), &why));
        }
    };
    if let Some(sent) = pod["spec"]["priority"].as_i64().filter(|sent| *sent != computed) {
        let why = format!(
            "the integer value of priority ({sent}) must not be provided in pod spec; priority admission controller \
             computed {computed} from the given PriorityClass name"
        );
        return Err(Status::forbidden(Kind::Pod, attributes.called(pod), &why));
    }
    if let Some(sent) = pod["spec"]["preemptionPolicy"].as_str().filter(|sent| *sent != PREEMPTS) {
        let why = format!(
            "the string value of PreemptionPolicy ({sent}) must not be provided in pod spec; priority admission controller \
             computed {PREEMPTS} from the given PriorityClass name"
        );
        return Err(Status::forbidden(Kind::Pod, attributes.called(pod), &why));
    }
    let spec = section(pod, "spec");
    spec.insert("priority".into(), computed.into());
    spec.insert("preemptionPolicy".into(), PREEMPTS.into());
    Ok(())
}

/// What a pod costs beside its containers is a runtime class's to say, and there are none here.
fn overhead(attributes: &Attributes<'_>, pod: &Value) -> Result<(), Status> {
    if pod["spec"]["overhead"].is_null() {
        return Ok(());
    }
    let why = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead";
    Err(Status::forbidden(Kind::Pod, attributes.called(pod), why))
}

/// An update that says nothing of the priority does not take it away.
fn keep_priority(attributes: &Attributes<'_>, pod: &mut Value) {
    let Some(old) = attributes.old else { return };
    for field in ["priority", "preemptionPolicy"] {
        let there = old.at("/spec")[field].clone();
        if !there.is_null() {
            section(pod, "spec").entry(field).or_insert(there);
        }
    }
}

/// Five minutes on a node that is not ready or not reachable, unless the pod says otherwise.
fn tolerations(pod: &mut Value) {
    let there = pod["spec"]["tolerations"].as_array().cloned().unwrap_or_default();
    let tolerated = |key: &str| {
        there.iter().any(|toleration| {
            let part = |name: &str| toleration[name].as_str().unwrap_or_default();
            matches!(part("key"), "") | (part("key") == key) && matches!(part("effect"), "" | "NoExecute")
        })
    };
    let missing: Vec<Value> = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"]
        .into_iter()
        .filter(|key| !tolerated(key))
        .map(|key| json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}))
        .collect();
    if missing.is_empty() {
        return;
    }
    let spec = section(pod, "spec");
    spec.insert("tolerations".into(), there.into_iter().chain(missing).collect());
}

/// Where a node lies, for the labels of a pod on it.
pub(crate) fn topology(store: &Store, node: &str) -> Vec<(&'static str, String)> {
    let Some(node) = store.get(&Key::new(Kind::Node, "", node)) else { return Vec::new() };
    [ZONE, REGION].into_iter().filter_map(|key| Some((key, node.label(key)?.to_owned()))).collect()
}

/// A pod that is created on a node has the labels of where that lies.
fn place(store: &Store, pod: &mut Value) {
    let node = pod["spec"]["nodeName"].as_str().unwrap_or_default();
    let labels = if node.is_empty() { Vec::new() } else { topology(store, node) };
    for (key, value) in labels {
        let all = metadata(pod).entry("labels").or_insert_with(|| json!({}));
        all[key] = value.into();
    }
}
