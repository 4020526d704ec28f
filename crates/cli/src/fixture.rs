//! A small cluster for the tests of this crate, made of objects as the API server writes them.

use serde_json::{Value, json};
use spotalis_config::{Config, Sources};
use spotalis_core::capacity::CapacityType;
use spotalis_kube::index::{Currency, Index, Source, View, WorkloadKey, WorkloadKind};
use spotalis_kube::slim;
use spotalis_kube::watch::Indexed;

use crate::told::Words;
use crate::view::Picture;

/// A configuration with these variables.
pub fn config(variables: &[(&str, &str)]) -> Config {
    let environment = variables.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    Config::load(&Sources { environment, ..Sources::default() }).unwrap_or_else(|errors| panic!("{errors}"))
}

/// An empty cluster that was read at 12:00.
pub fn cluster(config: &Config) -> Picture {
    let mut index = Index::new(spotalis_instance::rules(config));
    let now = "2026-03-01T12:00:00Z".parse().unwrap();
    for view in View::REQUIRED {
        let read = Currency::heard_at(now);
        index.set_currency(&Source { view, namespace: None }, read);
    }
    Picture { index, now, notes: Vec::new(), told: Words::new() }
}

impl Picture {
    /// Something is there.
    pub fn is(&mut self, view: View, object: &Value) -> &mut Self {
        fn apply<K: Indexed>(index: &mut Index, view: View, object: &Value) {
            let object: K = serde_json::from_str(&object.to_string()).unwrap();
            object.apply(index, view, 1);
        }
        let index = &mut self.index;
        match view {
            View::Namespaces => apply::<slim::Namespace>(index, view, object),
            View::Nodes => apply::<slim::Node>(index, view, object),
            View::Pods => apply::<slim::Pod>(index, view, object),
            View::Deployments | View::StatefulSets => apply::<slim::Workload>(index, view, object),
            View::ReplicaSets => apply::<slim::ReplicaSet>(index, view, object),
            View::PodDisruptionBudgets => apply::<slim::PodDisruptionBudget>(index, view, object),
            View::NodePools => apply::<slim::NodePool>(index, view, object),
            View::AutoscalerStatus => apply::<slim::AutoscalerStatus>(index, view, object),
        }
        self
    }

    /// A spot and an on-demand node, with room, and the namespace `shop`, opted in.
    pub fn with_shop(mut self) -> Self {
        for (name, class) in [("node-s", "spot"), ("node-o", "on-demand")] {
            self.is(View::Nodes, &node(name, class));
        }
        self.is(View::Namespaces, &namespace("shop", &json!({ "spotalis.io/enabled": "true" }), &json!({})));
        self
    }

    /// A Deployment `name` in `shop` with one pod for each of `types`: its slot, or none if nobody steered it.
    pub fn with_deployment(mut self, name: &str, annotations: &Value, types: &[(CapacityType, Option<u32>)]) -> Self {
        let replicas = types.len();
        self.is(View::Deployments, &deployment(name, "shop", replicas, annotations));
        self.is(View::ReplicaSets, &replica_set(name, replicas));
        for (number, (capacity, slot)) in (1..).zip(types) {
            self.is(View::Pods, &pod(name, number, *capacity, *slot));
        }
        self
    }
}

/// The key of a Deployment in `shop`.
pub fn key(name: &str) -> WorkloadKey {
    WorkloadKey { namespace: "shop".into(), kind: WorkloadKind::Deployment, name: name.into() }
}

/// A namespace.
pub fn namespace(name: &str, labels: &Value, annotations: &Value) -> Value {
    json!({ "metadata": { "name": name, "uid": name, "labels": labels, "annotations": annotations } })
}

/// A node.
pub fn node(name: &str, class: &str) -> Value {
    json!({
        "metadata": { "name": name, "uid": name, "labels": { "karpenter.sh/capacity-type": class } },
        "status": { "allocatable": { "cpu": "4", "memory": "8Gi", "pods": "110" },
                    "conditions": [{ "type": "Ready", "status": "True" }] },
    })
}

/// A Deployment that is opted in itself.
pub fn deployment(name: &str, namespace: &str, replicas: usize, annotations: &Value) -> Value {
    json!({
        "metadata": { "name": name, "namespace": namespace, "uid": name, "generation": 1,
                      "labels": { "spotalis.io/enabled": "true" }, "annotations": annotations },
        "spec": { "replicas": replicas, "template": {} },
        "status": { "observedGeneration": 1, "replicas": replicas, "updatedReplicas": replicas },
    })
}

fn replica_set(deployment: &str, replicas: usize) -> Value {
    json!({
        "metadata": { "name": format!("{deployment}-1"), "namespace": "shop", "uid": format!("{deployment}-1"),
                      "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "Deployment", "name": deployment, "uid": deployment, "controller": true }] },
        "spec": { "replicas": replicas },
    })
}

fn pod(deployment: &str, number: u32, capacity: CapacityType, slot: Option<u32>) -> Value {
    let (labels, annotations) = match slot {
        Some(slot) => (
            json!({ "spotalis.io/capacity-type": capacity.as_str() }),
            json!({ "spotalis.io/slot": slot.to_string(), "spotalis.io/admission-id": format!("id-{number}"),
                    "controller.kubernetes.io/pod-deletion-cost": format!("-{slot}") }),
        ),
        None => (json!({}), json!({})),
    };
    let node = match capacity {
        CapacityType::Spot => "node-s",
        CapacityType::OnDemand => "node-o",
    };
    let name = format!("{deployment}-1-{number}");
    json!({
        "metadata": { "name": name, "namespace": "shop", "uid": name, "labels": labels, "annotations": annotations,
                      "creationTimestamp": format!("2026-03-01T10:00:{number:02}Z"),
                      "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": format!("{deployment}-1"),
                                            "uid": format!("{deployment}-1"), "controller": true }] },
        "spec": { "nodeName": node },
        "status": { "phase": "Running", "conditions": [
            { "type": "Ready", "status": "True", "lastTransitionTime": "2026-03-01T10:01:00Z" }] },
    })
}
