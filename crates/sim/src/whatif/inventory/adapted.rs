//! What is changed about the objects so that they can run where there are no images, no priority classes and no metrics.
//!
//! Only what would keep pods from ever being ready in the simulation is left out, and it is noted.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use embedded_cluster::resource::Kind;
use embedded_cluster::selector::selects;
use serde_json::{Value, json};

use super::{kind_of, workload_kind};
use crate::whatif::manifests::Manifest;

/// How long a pod of the embedded cluster takes to be ready.
const READY_AFTER: &str = "embedded-cluster/ready-after";

/// Fields of a pod that need what a simulated cluster does not have, and what that is.
const MISSING: [(&str, &str); 7] = [
    ("priorityClassName", "priority classes"),
    ("priority", "priority classes"),
    ("preemptionPolicy", "priority classes"),
    ("runtimeClassName", "runtime classes"),
    ("overhead", "runtime classes"),
    ("schedulerName", "schedulers but the default one"),
    ("readinessGates", "readiness gates"),
];

/// Objects that can run.
pub(super) struct Adapted {
    pub objects: Vec<Value>,
    pub notes: Vec<String>,
}

/// Adapts them, in the same order.
pub(super) fn adapted(manifests: Vec<Manifest>, ready_after: Duration) -> Adapted {
    let mut notes: Vec<String> =
        manifests.iter().filter(|manifest| is_paused(&manifest.object)).map(unpaused).collect();
    let mut objects: Vec<Value> = manifests.into_iter().map(|manifest| manifest.object).collect();
    for object in objects.iter_mut().filter(|object| is_paused(object)) {
        object["spec"]["paused"] = false.into();
    }
    let mut without: BTreeMap<&str, u32> = BTreeMap::new();
    for object in objects.iter_mut().filter(|object| workload_kind(object).is_some()) {
        let template = &mut object["spec"]["template"];
        let annotations = &mut template["metadata"]["annotations"];
        if annotations.get(READY_AFTER).is_none() {
            annotations[READY_AFTER] = json!(format!("{}ms", ready_after.as_millis()));
        }
        let missing: BTreeSet<&str> = MISSING
            .into_iter()
            .filter(|(field, _)| removed(&mut template["spec"], field))
            .map(|(_, what)| what)
            .collect();
        missing.into_iter().for_each(|what| *without.entry(what).or_default() += 1);
    }
    notes.extend(without.into_iter().map(|(what, workloads)| {
        format!("there are no {what} in the simulation: {workloads} of the workloads are simulated without")
    }));
    Adapted { objects, notes }
}

fn is_paused(object: &Value) -> bool {
    kind_of(object) == Some(Kind::Deployment) && object["spec"]["paused"] == true
}

/// In a cluster it keeps the pods that it had when it was paused; here it would never have any.
fn unpaused(manifest: &Manifest) -> String {
    format!("{} is paused, and is simulated as if it were not: here it would get no pods", manifest.called())
}

/// Budgets and autoscalers of which nothing is simulated that they are about, said in one note.
pub(super) fn adrift(manifests: &[Manifest]) -> Option<String> {
    let workloads: Vec<&Value> =
        manifests.iter().map(|manifest| &manifest.object).filter(|object| workload_kind(object).is_some()).collect();
    let near = |object: &Value| {
        let namespace = object["metadata"]["namespace"].clone();
        workloads.iter().filter(move |workload| workload["metadata"]["namespace"] == namespace)
    };
    let told = manifests.iter().filter_map(|manifest| {
        let (object, spec) = (&manifest.object, &manifest.object["spec"]);
        match kind_of(object)? {
            Kind::HorizontalPodAutoscaler if near(object).all(|workload| !is_target(spec, workload)) => {
                let target = &spec["scaleTargetRef"];
                let word = |key: &str| target[key].as_str().unwrap_or("?").to_owned();
                Some(format!("{} of {} {}", manifest.called(), word("kind"), word("name")))
            }
            Kind::PodDisruptionBudget => {
                let labels = |workload: &Value| workload["spec"]["template"]["metadata"]["labels"].clone();
                let selected = near(object).any(|workload| selects(&spec["selector"], &labels(workload)));
                (!selected).then(|| manifest.called())
            }
            _ => None,
        }
    });
    let told: Vec<String> = told.collect();
    (!told.is_empty())
        .then(|| format!("without effect, for nothing is simulated that they are about: {}", told.join(", ")))
}

/// Workloads that several autoscalers are about. To none of these Kubernetes applies a metric (`AmbiguousSelector` of
/// `validateAndParseSelector` in its `horizontal.go`), but each goes on keeping it within its bounds.
pub(super) fn rivals(manifests: &[Manifest]) -> Vec<String> {
    let scalers =
        || manifests.iter().filter(|manifest| kind_of(&manifest.object) == Some(Kind::HorizontalPodAutoscaler));
    let workloads = manifests.iter().filter(|manifest| workload_kind(&manifest.object).is_some());
    let told = workloads.filter_map(|workload| {
        let object = &workload.object;
        let about = |scaler: &&Manifest| {
            let (namespace, spec) = (&scaler.object["metadata"]["namespace"], &scaler.object["spec"]);
            is_target(spec, object) && *namespace == object["metadata"]["namespace"]
        };
        let ours: Vec<&Manifest> = scalers().filter(about).collect();
        let names = ours.iter().map(|scaler| scaler.name()).collect::<Vec<_>>().join(" and ");
        let least = ours.iter().map(|scaler| scaler.number("/spec/minReplicas").unwrap_or(1)).max()?;
        let most = ours.iter().filter_map(|scaler| scaler.number("/spec/maxReplicas")).min()?;
        let bounds = if least <= most {
            "only keeps it within the bounds of all of them"
        } else {
            "scales it back and forth between their bounds, which contradict each other"
        };
        (ours.len() > 1).then(|| {
            format!(
                "{} HorizontalPodAutoscalers are about {}, {names}: Kubernetes scales it by the metrics of none of them \
                 (AmbiguousSelector), and {bounds}; keep one of them",
                ours.len(),
                workload.called()
            )
        })
    });
    told.collect()
}

/// Whether a workload, in the same namespace, is what an autoscaler scales.
fn is_target(scaler: &Value, workload: &Value) -> bool {
    let target = &scaler["scaleTargetRef"];
    workload["kind"] == target["kind"] && workload["metadata"]["name"] == target["name"]
}

/// Whether there was such a field, which is needed and not there.
fn removed(pod: &mut Value, field: &str) -> bool {
    let Some(pod) = pod.as_object_mut() else { return false };
    let default = match pod.get(field) {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => {
            matches!(text.as_str(), "" | "default-scheduler" | "system-cluster-critical" | "system-node-critical")
        }
        Some(Value::Array(list)) => list.is_empty(),
        Some(Value::Number(number)) => number.as_i64() == Some(0),
        Some(_) => false,
    };
    if !default {
        pod.remove(field);
    }
    !default
}

/// Workloads begin within the bounds of their autoscalers, which would see to it in the first seconds.
pub(super) fn scaled(manifests: &mut [Manifest]) -> Vec<String> {
    let mut notes = Vec::new();
    let is_scaler = |manifest: &&Manifest| kind_of(&manifest.object) == Some(Kind::HorizontalPodAutoscaler);
    let scalers: Vec<Value> = manifests.iter().filter(is_scaler).map(|manifest| manifest.object.clone()).collect();
    if !scalers.is_empty() {
        notes.push("load is not simulated: a HorizontalPodAutoscaler keeps its target within its bounds".to_owned());
    }
    for scaler in scalers {
        let (spec, namespace) = (&scaler["spec"], &scaler["metadata"]["namespace"]);
        let least = spec["minReplicas"].as_u64().unwrap_or(1);
        let most = spec["maxReplicas"].as_u64().unwrap_or(u64::MAX).max(least);
        let workload = manifests.iter_mut().find(|Manifest { object, .. }| {
            workload_kind(object).is_some() && is_target(spec, object) && object["metadata"]["namespace"] == *namespace
        });
        let Some(workload) = workload else { continue };
        let name = workload.called();
        let Some(spec) = workload.object.get_mut("spec").and_then(Value::as_object_mut) else { continue };
        let replicas = match spec.get("replicas") {
            None | Some(Value::Null) => Some(1),
            Some(replicas) => replicas.as_u64(),
        };
        // What is scaled to nothing is left alone; what is no number is refused later.
        let Some(replicas) = replicas.filter(|replicas| *replicas > 0) else { continue };
        let within = replicas.clamp(least, most);
        if replicas != within {
            spec.insert("replicas".to_owned(), within.into());
            notes.push(format!(
                "{name} begins with {within} replicas, as its HorizontalPodAutoscaler wants, not with {replicas}"
            ));
        }
    }
    notes
}

/// The service accounts that pods run as. Every namespace has one called default.
pub(super) fn accounts(objects: &[Value]) -> Vec<Value> {
    let named = objects.iter().filter(|object| workload_kind(object).is_some()).filter_map(|object| {
        let pod = object.pointer("/spec/template/spec")?;
        let name = ["serviceAccountName", "serviceAccount"].iter().find_map(|field| pod[*field].as_str())?;
        Some((object["metadata"]["namespace"].as_str()?.to_owned(), name.to_owned()))
    });
    let named: BTreeSet<(String, String)> = named.filter(|(_, name)| !name.is_empty() && name != "default").collect();
    let account = |(namespace, name): (String, String)| json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"namespace": namespace, "name": name}});
    named.into_iter().map(account).collect()
}
