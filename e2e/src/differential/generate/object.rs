//! Objects that a server accepts, or nearly always does.

use embedded_cluster::resource::Kind;
use serde_json::{Map, Value, json};

use super::super::chance::Chance;

/// The finalizers that objects are given.
pub(crate) const FINALIZERS: [&str; 2] = ["a.b/c", "d.e/f"];

fn labels(chance: &mut Chance) -> Map<String, Value> {
    let count = chance.below(3);
    let mut one = || ((*chance.pick(&["app", "x", "y.z/w"])).to_owned(), Value::from(*chance.pick(&["a", "b", ""])));
    (0..count).map(|_| one()).collect()
}

fn metadata(chance: &mut Chance, kind: Kind, name: &str) -> Value {
    let mut metadata = json!({"name": name});
    if chance.percent(40) {
        metadata["labels"] = labels(chance).into();
    }
    if !kind.resource().namespaced {
        metadata["labels"]["seq"] = "{ns}".into();
    }
    if chance.percent(30) {
        metadata["annotations"] = json!({*chance.pick(&["p", "q.r/s"]): *chance.pick(&["1", "2"])});
    }
    if chance.percent(8) {
        metadata["finalizers"] = json!(FINALIZERS[..=chance.below(2)]);
    }
    if chance.percent(5) {
        let uid = *chance.pick(&["u1", "u2"]);
        metadata["ownerReferences"] = json!([{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": uid}]);
    }
    metadata
}

fn container(chance: &mut Chance, name: &str) -> Value {
    let mut container = json!({"name": name, "image": *chance.pick(&["i", "i:1", "r/i:latest"])});
    if chance.percent(40) {
        let amount = *chance.pick(&["1", "500m", "1Gi", "0.5", "100", "1e3"]);
        let what = *chance.pick(&["cpu", "memory"]);
        container["resources"] = json!({*chance.pick(&["requests", "limits"]): {what: amount}});
    }
    if chance.percent(20) {
        container["env"] = json!([{"name": *chance.pick(&["A", "B"]), "value": *chance.pick(&["1", "2", ""])}]);
    }
    if chance.percent(15) {
        container["ports"] = json!([{"containerPort": *chance.pick(&[80, 81])}]);
    }
    if chance.percent(10) {
        container["readinessProbe"] = json!({"httpGet": {"port": 80}});
    }
    container
}

fn pod_spec(chance: &mut Chance) -> Value {
    let mut containers = vec![container(chance, "c")];
    if chance.percent(30) {
        containers.push(container(chance, "d"));
    }
    let mut spec = json!({"containers": containers});
    if chance.percent(25) {
        let effect = *chance.pick(&["NoSchedule", "NoExecute", ""]);
        spec["tolerations"] = json!([{"key": *chance.pick(&["a", "b"]), "operator": "Exists", "effect": effect}]);
    }
    if chance.percent(15) {
        spec["terminationGracePeriodSeconds"] = (*chance.pick(&[0, 1, 30, 60])).into();
    }
    if chance.percent(10) {
        spec["topologySpreadConstraints"] = json!([{
            "maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": *chance.pick(&["DoNotSchedule", "ScheduleAnyway"]),
            "labelSelector": {"matchLabels": {"a": "b"}},
        }]);
    }
    spec
}

fn workload(chance: &mut Chance, kind: Kind) -> Value {
    let mut labels = json!({"app": "a"});
    if chance.percent(30) {
        labels["t"] = "1".into();
    }
    let template = json!({"metadata": {"labels": labels}, "spec": pod_spec(chance)});
    let mut spec = json!({"selector": {"matchLabels": {"app": "a"}}, "template": template});
    if chance.percent(70) {
        spec["replicas"] = (*chance.pick(&[0, 1, 3])).into();
    }
    match kind {
        Kind::Deployment if chance.percent(30) => {
            let (surge, unavailable) = *chance.pick(&[("1", "0"), ("10%", "25%")]);
            let number = |text: &str| text.parse::<u32>().map_or_else(|_| Value::from(text), Value::from);
            spec["strategy"] = json!({
                "rollingUpdate": {"maxSurge": number(surge), "maxUnavailable": number(unavailable)},
            });
        }
        Kind::StatefulSet => {
            spec["serviceName"] = (*chance.pick(&["s", ""])).into();
            if chance.percent(30) {
                spec["podManagementPolicy"] = (*chance.pick(&["Parallel", "OrderedReady"])).into();
            }
        }
        _ => {}
    }
    spec
}

/// An object of a kind.
pub(crate) fn object(chance: &mut Chance, kind: Kind, name: &str) -> Value {
    let mut object = content(chance, kind);
    object["metadata"] = metadata(chance, kind, name);
    object
}

fn content(chance: &mut Chance, kind: Kind) -> Value {
    match kind {
        Kind::Namespace | Kind::ServiceAccount => json!({}),
        Kind::Node => json!({
            "spec": {"taints": [{"key": *chance.pick(&["a", "b"]), "effect": *chance.pick(&["NoSchedule", "NoExecute"])}]},
            "status": {"capacity": {"cpu": *chance.pick(&["4", "4000m"]), "pods": "10"}},
        }),
        Kind::ConfigMap => json!({"data": {*chance.pick(&["k", "l"]): *chance.pick(&["1", "2"])}}),
        Kind::Secret if chance.percent(50) => json!({"stringData": {"k": "v"}}),
        Kind::Secret => json!({"data": {*chance.pick(&["k", "l"]): *chance.pick(&["MQ==", "Mg=="])}}),
        Kind::ResourceQuota => json!({"spec": {"hard": {"count/things.x": *chance.pick(&["1", "2"])}}}),
        Kind::Pod => {
            let mut spec = pod_spec(chance);
            if chance.percent(40) {
                spec["nodeName"] = (*chance.pick(&["nope", "{ns}-a"])).into();
            }
            json!({"spec": spec})
        }
        Kind::Deployment | Kind::ReplicaSet | Kind::StatefulSet => json!({"spec": workload(chance, kind)}),
        Kind::ControllerRevision => json!({"revision": *chance.pick(&[1, 2]), "data": {"a": {"b": 1}}}),
        Kind::HorizontalPodAutoscaler => json!({"spec": {
            "minReplicas": *chance.pick(&[1, 2]), "maxReplicas": 3,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "a"},
        }}),
        Kind::PodDisruptionBudget => {
            let bound = *chance.pick(&["minAvailable", "maxUnavailable"]);
            let value = chance.pick(&[json!(0), json!(1), json!("50%")]).clone();
            json!({"spec": {bound: value, "selector": {"matchLabels": {"app": *chance.pick(&["a", "b"])}}}})
        }
        Kind::Lease => json!({"spec": {"holderIdentity": *chance.pick(&["x", "y"]), "leaseDurationSeconds": 15}}),
        Kind::Event => json!({
            "eventTime": "2026-01-01T00:00:00.000000Z", "reportingController": "a.b/c", "reportingInstance": "i",
            "action": *chance.pick(&["A", "B"]), "reason": "R", "type": *chance.pick(&["Normal", "Warning"]),
            "regarding": {"namespace": "{ns}", "kind": "Pod", "name": "x"}, "note": *chance.pick(&["n", "m", ""]),
        }),
        Kind::MutatingWebhookConfiguration => json!({"webhooks": [{
            "name": "a.b.c", "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "clientConfig": {"url": "https://localhost:1/x"},
            "rules": [{
                "apiGroups": ["nobody.has"], "apiVersions": ["v1"], "resources": ["things"], "operations": ["CREATE"],
            }],
            "timeoutSeconds": *chance.pick(&[3, 7]),
        }]}),
        Kind::NodePool => json!({"spec": {"template": {"spec": {
            "nodeClassRef": {"group": "x.y", "kind": "C", "name": "default"}, "requirements": [],
        }}}}),
        Kind::NodeClaim => json!({"spec": {
            "nodeClassRef": {"group": "x.y", "kind": "C", "name": "default"}, "requirements": [],
        }}),
    }
}

/// A status that somebody might report.
pub(crate) fn status(chance: &mut Chance, kind: Kind) -> Value {
    match kind {
        Kind::Pod => {
            let phase = *chance.pick(&["Running", "Running", "Pending", "Failed", "Succeeded"]);
            let mut status =
                json!({"phase": phase, "conditions": [{"type": "Ready", "status": *chance.pick(&["True", "False"])}]});
            if chance.percent(20) {
                status["startTime"] = "2026-01-01T00:00:00Z".into();
            }
            if chance.percent(10) {
                status["qosClass"] = "Guaranteed".into();
            }
            status
        }
        Kind::Node => match chance.below(4) {
            0 => json!({"addresses": [{"type": "InternalIP", "address": "1.2.3.4"}]}),
            1 => json!({"capacity": {"cpu": *chance.pick(&["-1", "8"])}}),
            _ => json!({"conditions": [{"type": "Ready", "status": *chance.pick(&["True", "False"])}]}),
        },
        Kind::PodDisruptionBudget => budget_status(chance),
        Kind::HorizontalPodAutoscaler => json!({"desiredReplicas": *chance.pick(&[1, 2]), "currentReplicas": 1}),
        Kind::Namespace => json!({"phase": *chance.pick(&["Active", "Terminating"])}),
        Kind::ResourceQuota => json!({"used": {"count/things.x": *chance.pick(&["0", "1"])}}),
        _ => json!({
            "replicas": *chance.pick(&[0, 1, 2, -1]), "readyReplicas": *chance.pick(&[0, 1]),
            "observedGeneration": 1, "collisionCount": *chance.pick(&[1, 2]),
        }),
    }
}

pub(crate) fn budget_status(chance: &mut Chance) -> Value {
    json!({
        "disruptionsAllowed": *chance.pick(&[0, 1, 2, 2, -1]), "currentHealthy": *chance.pick(&[1, 2, 3]),
        "desiredHealthy": *chance.pick(&[0, 1, 2]), "expectedPods": 3, "observedGeneration": *chance.pick(&[1, 1, 1, 2, 9, 0]),
    })
}
