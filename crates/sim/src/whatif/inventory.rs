//! Which of the manifests are simulated, and what is taken as given where they need what a simulated cluster does not have.
//!
//! Nothing is left out silently: what is skipped is counted, what is assumed is noted, what cannot be is a complaint.

mod adapted;
mod admitted;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use embedded_cluster::quantity::Quantity;
use embedded_cluster::resource::Kind;
use serde_json::{Map, Value, json};

use super::manifests::{Complaint, Complaints, Manifest, Origin};
use crate::scenario::{MOST_REPLICAS, WorkloadKind};

/// The kinds that are simulated, in the order in which they are created.
const KINDS: [Kind; 5] =
    [Kind::Namespace, Kind::PodDisruptionBudget, Kind::Deployment, Kind::StatefulSet, Kind::HorizontalPodAutoscaler];

/// Versions in which Kubernetes served these kinds once.
const OLD_VERSIONS: [&str; 7] = [
    "extensions/v1beta1",
    "apps/v1beta1",
    "apps/v1beta2",
    "policy/v1beta1",
    "autoscaling/v2beta1",
    "autoscaling/v2beta2",
    "autoscaling/v1beta1",
];

/// What holds where the manifests say nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assumptions {
    /// The namespace of those that name none.
    pub namespace: String,
    /// How long a pod needs from its start until it is ready.
    pub ready_after: Duration,
}

/// What is simulated.
#[derive(Clone, Debug, PartialEq)]
pub struct Inventory {
    /// The workloads, by name.
    pub workloads: Vec<Workload>,
    /// Their namespaces, as the API server would show them.
    pub namespaces: Vec<Value>,
    /// Everything that is created, in order.
    pub objects: Vec<Value>,
    /// Kinds that are not simulated, and how many of each there were.
    pub skipped: BTreeMap<String, u32>,
    /// What was assumed.
    pub notes: Vec<String>,
}

/// A workload that is simulated.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    /// `NAMESPACE/NAME`
    pub name: String,
    /// What it is.
    pub kind: WorkloadKind,
    /// How many replicas it begins with.
    pub replicas: u32,
    /// What each of its pods asks for.
    pub cpu: Quantity,
    /// What each of its pods asks for, in bytes.
    pub memory: Quantity,
    /// Its object, as the API server would show it.
    pub object: Value,
}

impl Inventory {
    /// Of manifests. Of two objects of one name, that of a file counts before that of a cluster.
    pub fn of(manifests: Vec<Manifest>, assumptions: &Assumptions) -> Result<Self, Complaints> {
        let Sorted { mut taken, skipped } = Sorted::of(manifests, &assumptions.namespace)?;
        without_idle_namespaces(&mut taken);
        let mut notes = adapted::scaled(&mut taken);
        notes.extend(adapted::adrift(&taken));
        notes.extend(adapted::rivals(&taken));
        bounded(&taken)?;
        let assumed = without_namespace(&taken);
        if !assumed.is_empty() {
            let names = assumed.iter().cloned().collect::<Vec<_>>().join(", ");
            notes.push(format!("no Namespace manifest for {names}: taken as opted in"));
        }
        let labels = json!({"spotalis.io/enabled": "true"});
        let namespaces = assumed.iter().map(|name| {
            let metadata = json!({"name": name, "labels": labels});
            let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata});
            Manifest { object, origin: Origin::Cluster }
        });
        taken.splice(0..0, namespaces);
        taken.sort_by_key(|manifest| KINDS.iter().position(|kind| Some(*kind) == kind_of(&manifest.object)));
        let admitted = admitted::admitted(&taken)?;
        let adapted::Adapted { objects, notes: more } = adapted::adapted(taken, assumptions.ready_after);
        notes.extend(more);
        let mut workloads: Vec<Workload> = objects.iter().zip(&admitted).filter_map(Workload::of).collect();
        workloads.sort_by(|a, b| a.name.cmp(&b.name));
        let is_namespace = |object: &&Value| kind_of(object) == Some(Kind::Namespace);
        let namespaces = admitted.iter().filter(is_namespace).cloned().collect();
        let accounts = adapted::accounts(&objects);
        let (first, rest): (Vec<Value>, Vec<Value>) = objects.into_iter().partition(|object| is_namespace(&object));
        let objects = first.into_iter().chain(accounts).chain(rest).collect();
        Ok(Self { workloads, namespaces, objects, skipped, notes })
    }
}

fn kind_of(object: &Value) -> Option<Kind> {
    Kind::of_object(object["apiVersion"].as_str()?, object["kind"].as_str()?)
}

pub(super) fn workload_kind(object: &Value) -> Option<WorkloadKind> {
    match kind_of(object)? {
        Kind::Deployment => Some(WorkloadKind::Deployment),
        Kind::StatefulSet => Some(WorkloadKind::StatefulSet),
        _ => None,
    }
}

/// The manifests that are simulated, each in its namespace, and the count of the others.
struct Sorted {
    taken: Vec<Manifest>,
    skipped: BTreeMap<String, u32>,
}

impl Sorted {
    fn of(manifests: Vec<Manifest>, namespace: &str) -> Result<Self, Complaints> {
        let (mut taken, mut skipped) = (Vec::<Manifest>::new(), BTreeMap::<String, u32>::new());
        let mut places: BTreeMap<(String, String), usize> = BTreeMap::new();
        let mut complaints = Vec::new();
        for mut manifest in manifests {
            current(&mut manifest.object);
            let Some(kind) = kind_of(&manifest.object).filter(|kind| KINDS.contains(kind)) else {
                match miswritten(&manifest) {
                    Some(complaint) => complaints.push(complaint),
                    None => *skipped.entry(named(&manifest)).or_default() += 1,
                }
                continue;
            };
            if let Err(complaint) = is_named(&manifest, kind) {
                complaints.push(complaint);
                continue;
            }
            without_additions(&mut manifest.object);
            if kind.resource().namespaced && manifest.text("/metadata/namespace").is_empty() {
                manifest.object["metadata"]["namespace"] = namespace.into();
            }
            // Pods are counted by the name of their workload.
            let family = if workload_kind(&manifest.object).is_some() { "workload" } else { kind.resource().name };
            let key = (
                family.to_owned(),
                manifest.called().split_once(' ').map(|(_, name)| name.to_owned()).unwrap_or_default(),
            );
            match places.get(&key).map(|place| (*place, &taken[*place])) {
                None => {
                    places.insert(key, taken.len());
                    taken.push(manifest);
                }
                Some((_, there)) if there.text("/kind") != manifest.text("/kind") => {
                    let what = format!(
                        "{} has the same name, by which they are told apart here: take one of them",
                        there.called()
                    );
                    complaints.push(manifest.complain_by_name("metadata.name", &what));
                }
                Some((place, there)) => match (&there.origin, &manifest.origin) {
                    (Origin::Cluster, _) => taken[place] = manifest,
                    (Origin::File(_), Origin::Cluster) => {}
                    (Origin::File(_), Origin::File(_)) => {
                        let first = there.complain("metadata.name", "").place;
                        complaints
                            .push(manifest.complain_by_name("metadata.name", &format!("it is at {first} already")));
                    }
                },
            }
        }
        if taken.iter().all(|manifest| workload_kind(&manifest.object).is_none()) && complaints.is_empty() {
            let mut there = skipped.clone();
            taken.iter().for_each(|manifest| *there.entry(named(manifest)).or_default() += 1);
            let there: Vec<String> = counted(&there).collect();
            let there = if there.is_empty() { String::new() } else { format!("; there is {}", there.join(", ")) };
            let what =
                format!("neither a Deployment nor a StatefulSet is among them, so there is nothing to simulate{there}");
            complaints.push(Complaint { place: "the manifests".to_owned(), what });
        }
        if complaints.is_empty() { Ok(Self { taken, skipped }) } else { Err(Complaints(complaints)) }
    }
}

/// Whether a manifest says which object it is, in texts.
fn is_named(manifest: &Manifest, kind: Kind) -> Result<(), Complaint> {
    for field in ["name", "namespace", "generateName"] {
        let value = &manifest.object["metadata"][field];
        if !value.is_null() && !value.is_string() {
            let what =
                format!("metadata.{field} of this {kind} is {value}, which is no text: write {:?}", value.to_string());
            return Err(manifest.complain(&format!("metadata.{field}"), what));
        }
    }
    if manifest.name().is_empty() {
        let why = match manifest.text("/metadata/generateName") {
            "" => String::new(),
            _ => ": who generates a name is the API server, so give it one here".to_owned(),
        };
        return Err(manifest.complain("metadata", format!("{kind} without metadata.name{why}")));
    }
    let namespace = if kind == Kind::Namespace { manifest.name() } else { manifest.text("/metadata/namespace") };
    let field = if kind == Kind::Namespace { "metadata.name" } else { "metadata.namespace" };
    if namespace.is_empty() {
        return Ok(());
    }
    namespace_name(namespace).map(drop).map_err(|what| manifest.complain_by_name(field, &format!("{field}: {what}")))
}

/// The name of a namespace, if it is one.
pub fn namespace_name(text: &str) -> Result<String, String> {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let good = text.len() <= 63 && text.starts_with(inner) && text.ends_with(inner);
    let allowed = "use small letters, digits and dashes in between, at most 63 of them";
    if good && text.chars().all(|c| inner(c) || c == '-') {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is no name of a namespace: {allowed}"))
    }
}

/// Kinds and how many there are of each: `2 Service`.
pub fn counted(kinds: &BTreeMap<String, u32>) -> impl Iterator<Item = String> {
    kinds.iter().map(|(kind, count)| format!("{count} {kind}"))
}

/// An older version that is still served, as the newer one. What it says of metrics is left out: they are not simulated.
fn current(object: &mut Value) {
    if object["apiVersion"] == "autoscaling/v1" && object["kind"] == "HorizontalPodAutoscaler" {
        object["apiVersion"] = "autoscaling/v2".into();
        if let Some(spec) = object["spec"].as_object_mut() {
            spec.remove("targetCPUUtilizationPercentage");
        }
    }
}

/// What a cluster adds to an object, and so stands in files that came out of one. An owner is not there, and would take it along.
fn without_additions(object: &mut Value) {
    const ADDED: [&str; 10] = [
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "managedFields",
        "selfLink",
        "ownerReferences",
        "finalizers",
    ];
    if let Some(object) = object.as_object_mut() {
        object.remove("status");
    }
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|key, _| !ADDED.contains(&key.as_str()));
    }
}

/// A manifest of a kind that is simulated, written as no API server takes it: in a version that is no longer served or never was, or
/// in other letters. A group with a dot in it is somebody else's, who may have a kind of the same name.
fn miswritten(manifest: &Manifest) -> Option<Complaint> {
    let (version, kind) = (manifest.text("/apiVersion"), manifest.text("/kind"));
    let group = version.split_once('/').map_or("", |(group, _)| group);
    let known = KINDS.iter().find(|known| known.resource().name.eq_ignore_ascii_case(kind) && !group.contains('.'))?;
    let (now, name) = (known.resource().api_version(), known.resource().name);
    if name == kind && OLD_VERSIONS.contains(&version) {
        return Some(
            manifest.complain("apiVersion", format!("Kubernetes no longer serves {kind} of {version}: write {now}")),
        );
    }
    let field = if name == kind { "apiVersion" } else { "kind" };
    let what = format!("Kubernetes has no {kind} of {version}: write apiVersion: {now}, kind: {name}");
    Some(manifest.complain(field, what))
}

/// `Service`, `ScaledObject (keda.sh/v1alpha1)`
fn named(manifest: &Manifest) -> String {
    let (version, kind) = (manifest.text("/apiVersion"), manifest.text("/kind"));
    if version == "v1" { kind.to_owned() } else { format!("{kind} ({version})") }
}

/// No more replicas than can be simulated, neither of one workload nor of all.
fn bounded(taken: &[Manifest]) -> Result<(), Complaints> {
    let most = i64::from(MOST_REPLICAS);
    let workloads = || taken.iter().filter(|manifest| workload_kind(&manifest.object).is_some());
    let replicas = |manifest: &Manifest| manifest.number("/spec/replicas").unwrap_or(1);
    let large = workloads().filter(|manifest| replicas(manifest) > most);
    let mut complaints: Vec<Complaint> = large
        .map(|manifest| {
            let what = format!("{} replicas: at most {most} are simulated", replicas(manifest));
            manifest.complain_by_name("spec.replicas", &what)
        })
        .collect();
    let all = workloads().map(replicas).fold(0_i64, |sum, replicas| sum.saturating_add(replicas.max(0)));
    if complaints.is_empty() && all > most {
        let what = format!("they have {all} replicas together: at most {most} are simulated, take fewer of them");
        complaints.push(Complaint { place: "the manifests".to_owned(), what });
    }
    if complaints.is_empty() { Ok(()) } else { Err(Complaints(complaints)) }
}

/// A cluster has many namespaces in which nothing is simulated.
fn without_idle_namespaces(taken: &mut Vec<Manifest>) {
    let used: BTreeSet<String> = taken.iter().map(|manifest| manifest.text("/metadata/namespace").to_owned()).collect();
    taken.retain(|manifest| {
        let is_theirs = manifest.origin == Origin::Cluster && kind_of(&manifest.object) == Some(Kind::Namespace);
        !is_theirs || used.contains(manifest.name())
    });
}

/// Namespaces that are named and not described.
fn without_namespace(taken: &[Manifest]) -> BTreeSet<String> {
    let described: BTreeSet<&str> = taken
        .iter()
        .filter(|manifest| kind_of(&manifest.object) == Some(Kind::Namespace))
        .map(Manifest::name)
        .collect();
    let named = taken.iter().map(|manifest| manifest.text("/metadata/namespace"));
    named.filter(|name| !name.is_empty() && !described.contains(name)).map(str::to_owned).collect()
}

impl Workload {
    /// From the object that is created, and the one that the API server would show.
    fn of((created, admitted): (&Value, &Value)) -> Option<Self> {
        let kind = workload_kind(created)?;
        let text = |pointer: &str| created.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let replicas = created.pointer("/spec/replicas").and_then(Value::as_u64).unwrap_or(1);
        let pod = admitted.pointer("/spec/template/spec")?;
        Some(Self {
            name: format!("{}/{}", text("/metadata/namespace"), text("/metadata/name")),
            kind,
            replicas: u32::try_from(replicas).expect("replicas are bounded"),
            cpu: requested(pod, "cpu"),
            memory: requested(pod, "memory"),
            object: admitted.clone(),
        })
    }
}

/// What a pod asks for: all containers together, or the largest that runs before them.
fn requested(pod: &Value, resource: &str) -> Quantity {
    let of = |list: &str| -> Vec<Quantity> {
        let containers = pod[list].as_array().into_iter().flatten();
        // What is limited and asks for nothing asks for its limit.
        let asked = |container: &Value| {
            let [requests, limits] = ["requests", "limits"].map(|what| container["resources"][what][resource].clone());
            Quantity::of(if requests.is_null() { &limits } else { &requests })
        };
        containers.map(asked).collect()
    };
    let before = of("initContainers").into_iter().max().unwrap_or_default();
    of("containers").into_iter().sum::<Quantity>().max(before)
}

/// An object of a running cluster as somebody would write it: without what the cluster added. `None` if it is being deleted.
pub fn stripped(kind: &str, api_version: &str, object: &Value) -> Option<Value> {
    let metadata = object.get("metadata")?;
    if metadata.get("deletionTimestamp").is_some_and(|at| !at.is_null()) {
        return None;
    }
    let mut kept = Map::new();
    for key in ["name", "namespace", "labels", "annotations"] {
        if let Some(value) = metadata.get(key) {
            kept.insert(key.to_owned(), value.clone());
        }
    }
    if let Some(annotations) = kept.get_mut("annotations").and_then(Value::as_object_mut) {
        annotations.retain(|key, _| {
            !["kubectl.kubernetes.io/last-applied-configuration", "deployment.kubernetes.io/revision"]
                .contains(&key.as_str())
        });
    }
    let mut stripped = json!({"apiVersion": api_version, "kind": kind, "metadata": kept});
    // What a namespace has in its spec is the cluster's own.
    if let Some(spec) = object.get("spec").filter(|_| kind != "Namespace") {
        stripped["spec"] = spec.clone();
    }
    Some(stripped)
}

#[cfg(test)]
mod tests;
