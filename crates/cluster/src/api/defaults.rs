//! What the API writes into an object where its author said nothing.
//!
//! Only what does not depend on other objects; what does (service accounts, priorities, tolerations) is admission's.

use serde_json::{Map, Value, json};

use super::quantity::Quantity;
use crate::resource::Kind;

type Fields = Map<String, Value>;

/// Fills an object in.
pub(crate) fn apply(kind: Kind, object: &mut Value) {
    let Some(fields) = object.as_object_mut() else { return };
    match kind {
        Kind::Namespace => namespace(fields),
        Kind::Node => node(fields),
        Kind::Secret => secret(fields),
        Kind::Pod => in_object(fields, "spec", pod),
        Kind::Deployment => in_object(fields, "spec", deployment),
        Kind::ReplicaSet => in_object(fields, "spec", replica_set),
        Kind::StatefulSet => in_object(fields, "spec", stateful_set),
        Kind::HorizontalPodAutoscaler => in_object(fields, "spec", autoscaler),
        Kind::MutatingWebhookConfiguration => each(fields, "webhooks", webhook),
        Kind::ConfigMap
        | Kind::ServiceAccount
        | Kind::ResourceQuota
        | Kind::ControllerRevision
        | Kind::PodDisruptionBudget
        | Kind::Lease
        | Kind::Event
        | Kind::NodePool
        | Kind::NodeClaim => {}
    }
}

/// A field that is absent, or an empty text or a zero where those mean the same, takes a value.
fn fill(fields: &mut Fields, name: &str, value: impl Into<Value>) {
    let given = fields.get(name).is_some_and(|value| !(value.is_null() || *value == json!("") || *value == json!(0)));
    if !given {
        fields.insert(name.to_owned(), value.into());
    }
}

/// The same, where an explicit zero or empty text is a value.
fn fill_absent(fields: &mut Fields, name: &str, value: impl Into<Value>) {
    if fields.get(name).is_none_or(Value::is_null) {
        fields.insert(name.to_owned(), value.into());
    }
}

fn in_object(fields: &mut Fields, name: &str, change: impl FnOnce(&mut Fields)) {
    if let Some(Value::Object(inner)) = fields.get_mut(name) {
        change(inner);
    }
}

fn each(fields: &mut Fields, name: &str, mut change: impl FnMut(&mut Fields)) {
    if let Some(Value::Array(elements)) = fields.get_mut(name) {
        elements.iter_mut().filter_map(Value::as_object_mut).for_each(&mut change);
    }
}

fn namespace(fields: &mut Fields) {
    in_object(fields, "metadata", |metadata| {
        let name = metadata.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
        if !name.is_empty() {
            fill_absent(metadata, "labels", json!({}));
            in_object(metadata, "labels", |labels| {
                labels.insert("kubernetes.io/metadata.name".into(), name.into());
            });
        }
    });
    in_object(fields, "status", |status| fill(status, "phase", "Active"));
}

fn node(fields: &mut Fields) {
    in_object(fields, "status", |status| {
        if let Some(capacity) = status.get("capacity").cloned() {
            fill_absent(status, "allocatable", capacity);
        }
    });
}

/// `stringData` is how texts are sent; it is never stored.
fn secret(fields: &mut Fields) {
    use base64::Engine as _;
    fill(fields, "type", "Opaque");
    let Some(Value::Object(texts)) = fields.remove("stringData") else { return };
    fill_absent(fields, "data", json!({}));
    in_object(fields, "data", |data| {
        for (key, text) in texts {
            let encoded = base64::engine::general_purpose::STANDARD.encode(text.as_str().unwrap_or_default());
            data.insert(key, encoded.into());
        }
    });
}

fn deployment(spec: &mut Fields) {
    fill_absent(spec, "replicas", 1);
    fill_absent(spec, "revisionHistoryLimit", 10);
    fill_absent(spec, "progressDeadlineSeconds", 600);
    fill_absent(spec, "strategy", json!({}));
    in_object(spec, "strategy", |strategy| {
        fill(strategy, "type", "RollingUpdate");
        if strategy["type"] == "RollingUpdate" {
            fill_absent(strategy, "rollingUpdate", json!({}));
            in_object(strategy, "rollingUpdate", |rolling| {
                fill_absent(rolling, "maxUnavailable", "25%");
                fill_absent(rolling, "maxSurge", "25%");
            });
        }
    });
    in_object(spec, "template", template);
}

fn replica_set(spec: &mut Fields) {
    fill_absent(spec, "replicas", 1);
    in_object(spec, "template", template);
}

fn stateful_set(spec: &mut Fields) {
    fill(spec, "podManagementPolicy", "OrderedReady");
    fill_absent(spec, "updateStrategy", json!({}));
    in_object(spec, "updateStrategy", |strategy| {
        fill(strategy, "type", "RollingUpdate");
        if strategy["type"] == "RollingUpdate" {
            fill_absent(strategy, "rollingUpdate", json!({}));
            in_object(strategy, "rollingUpdate", |rolling| fill_absent(rolling, "partition", 0));
        }
    });
    fill_absent(spec, "persistentVolumeClaimRetentionPolicy", json!({}));
    in_object(spec, "persistentVolumeClaimRetentionPolicy", |policy| {
        fill(policy, "whenDeleted", "Retain");
        fill(policy, "whenScaled", "Retain");
    });
    fill_absent(spec, "replicas", 1);
    fill_absent(spec, "revisionHistoryLimit", 10);
    in_object(spec, "template", template);
    each(spec, "volumeClaimTemplates", |claim| {
        fill(claim, "apiVersion", "v1");
        fill(claim, "kind", "PersistentVolumeClaim");
        in_object(claim, "spec", |spec| fill_absent(spec, "volumeMode", "Filesystem"));
        in_object(claim, "status", |status| fill(status, "phase", "Pending"));
    });
}

fn autoscaler(spec: &mut Fields) {
    fill_absent(spec, "minReplicas", 1);
    if spec.get("metrics").and_then(Value::as_array).is_none_or(Vec::is_empty) {
        let target = json!({"type": "Utilization", "averageUtilization": 80});
        spec.insert("metrics".into(), json!([{"type": "Resource", "resource": {"name": "cpu", "target": target}}]));
    }
    in_object(spec, "behavior", |behavior| {
        scaling(
            behavior,
            "scaleUp",
            true,
            &json!([
                {"type": "Pods", "value": 4, "periodSeconds": 15}, {"type": "Percent", "value": 100, "periodSeconds": 15},
            ]),
        );
        scaling(behavior, "scaleDown", false, &json!([{"type": "Percent", "value": 100, "periodSeconds": 15}]));
    });
}

/// The rules of one direction; the window of the way down is left open, for the controller has a flag for it.
fn scaling(behavior: &mut Fields, direction: &str, has_window: bool, policies: &Value) {
    fill_absent(behavior, direction, json!({}));
    in_object(behavior, direction, |rules| {
        if has_window {
            fill_absent(rules, "stabilizationWindowSeconds", 0);
        }
        fill_absent(rules, "selectPolicy", "Max");
        fill_absent(rules, "policies", policies.clone());
    });
}

fn webhook(webhook: &mut Fields) {
    fill_absent(webhook, "failurePolicy", "Fail");
    fill_absent(webhook, "matchPolicy", "Equivalent");
    fill_absent(webhook, "namespaceSelector", json!({}));
    fill_absent(webhook, "objectSelector", json!({}));
    fill_absent(webhook, "timeoutSeconds", 10);
    fill_absent(webhook, "reinvocationPolicy", "Never");
    each(webhook, "rules", |rule| fill_absent(rule, "scope", "*"));
    in_object(webhook, "clientConfig", |config| {
        in_object(config, "service", |service| fill_absent(service, "port", 443));
    });
}

fn template(template: &mut Fields) {
    in_object(template, "spec", pod_spec);
}

/// What a pod has beyond the spec of a template.
fn pod(spec: &mut Fields) {
    for list in ["containers", "initContainers"] {
        each(spec, list, |container| in_object(container, "resources", requests));
    }
    fill_absent(spec, "enableServiceLinks", true);
    pod_spec(spec);
    // Of a pod, not of a template, a negative time is one second.
    if spec["terminationGracePeriodSeconds"].as_i64().is_some_and(|seconds| seconds < 0) {
        spec.insert("terminationGracePeriodSeconds".into(), 1.into());
    }
    if spec.get("hostNetwork") == Some(&json!(true)) {
        for list in ["containers", "initContainers"] {
            each(spec, list, |container| {
                each(container, "ports", |port| {
                    let number = port.get("containerPort").cloned().unwrap_or_default();
                    fill(port, "hostPort", number);
                });
            });
        }
    }
}

/// What is limited is requested, unless something else is.
fn requests(resources: &mut Fields) {
    let Some(Value::Object(limits)) = resources.get("limits").cloned() else { return };
    fill_absent(resources, "requests", json!({}));
    in_object(resources, "requests", |requests| {
        for (resource, amount) in limits {
            requests.entry(resource).or_insert(amount);
        }
    });
}

/// Amounts are counted in thousandths.
fn round(resources: &mut Fields) {
    for list in ["limits", "requests"] {
        in_object(resources, list, |amounts| {
            for amount in amounts.values_mut() {
                if let Some(parsed) = amount.as_str().and_then(|text| Quantity::parse(text).ok()) {
                    *amount = parsed.in_thousandths().to_string().into();
                }
            }
        });
    }
}

fn pod_spec(spec: &mut Fields) {
    for list in ["containers", "initContainers"] {
        each(spec, list, |container| in_object(container, "resources", round));
    }
    fill(spec, "dnsPolicy", "ClusterFirst");
    fill(spec, "restartPolicy", "Always");
    fill_absent(spec, "securityContext", json!({}));
    fill_absent(spec, "terminationGracePeriodSeconds", 30);
    fill(spec, "schedulerName", "default-scheduler");
    // Two names of the same field: the older one follows.
    let account = ["serviceAccountName", "serviceAccount"]
        .into_iter()
        .find_map(|name| spec.get(name).filter(|name| **name != json!("")).cloned());
    if let Some(account) = account {
        spec.insert("serviceAccountName".into(), account.clone());
        spec.insert("serviceAccount".into(), account);
    }
    each(spec, "volumes", volume);
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        each(spec, list, container);
    }
}

fn container(container: &mut Fields) {
    let image = container.get("image").and_then(Value::as_str).unwrap_or_default();
    let policy = if is_latest(image) { "Always" } else { "IfNotPresent" };
    fill(container, "imagePullPolicy", policy);
    fill(container, "terminationMessagePath", "/dev/termination-log");
    fill(container, "terminationMessagePolicy", "File");
    each(container, "ports", |port| fill(port, "protocol", "TCP"));
    each(container, "env", |variable| {
        in_object(variable, "valueFrom", |from| {
            in_object(from, "fieldRef", |field| fill(field, "apiVersion", "v1"));
            in_object(from, "fileKeyRef", |file| fill_absent(file, "optional", false));
        });
    });
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        in_object(container, probe, |probe| {
            fill(probe, "timeoutSeconds", 1);
            fill(probe, "periodSeconds", 10);
            fill(probe, "successThreshold", 1);
            fill(probe, "failureThreshold", 3);
            in_object(probe, "httpGet", http_get);
            in_object(probe, "grpc", |grpc| fill_absent(grpc, "service", ""));
        });
    }
    in_object(container, "lifecycle", |lifecycle| {
        for hook in ["postStart", "preStop"] {
            in_object(lifecycle, hook, |hook| in_object(hook, "httpGet", http_get));
        }
    });
}

fn http_get(action: &mut Fields) {
    fill(action, "path", "/");
    fill(action, "scheme", "HTTP");
}

/// Whether an image is pulled every time: `latest`, or neither tag nor digest.
fn is_latest(image: &str) -> bool {
    let name = image.rsplit('/').next().unwrap_or_default();
    if name.contains('@') {
        return false;
    }
    name.split_once(':').is_none_or(|(_, tag)| tag == "latest")
}

fn volume(volume: &mut Fields) {
    if volume.keys().all(|name| name == "name") {
        volume.insert("emptyDir".into(), json!({}));
    }
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        in_object(volume, source, |source| fill_absent(source, "defaultMode", 0o644));
    }
    in_object(volume, "downwardAPI", |source| each(source, "items", downward));
    in_object(volume, "hostPath", |source| fill_absent(source, "type", ""));
    in_object(volume, "projected", |projected| {
        each(projected, "sources", |source| {
            in_object(source, "serviceAccountToken", |token| fill_absent(token, "expirationSeconds", 3600));
            in_object(source, "downwardAPI", |source| each(source, "items", downward));
        });
    });
}

fn downward(item: &mut Fields) {
    in_object(item, "fieldRef", |field| fill(field, "apiVersion", "v1"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_without_a_tag_are_the_latest() {
        for (image, latest) in [
            ("i", true),
            ("i:latest", true),
            ("i:1", false),
            ("h:5000/i", true),
            ("h:5000/i:1", false),
            ("i@sha256:0", false),
        ] {
            assert_eq!(is_latest(image), latest, "{image}");
        }
    }

    #[test]
    fn what_nobody_said_is_said() {
        let filled = |kind, object: Value| {
            let mut object = object;
            apply(kind, &mut object);
            object
        };
        let deployment = filled(Kind::Deployment, json!({"spec": {"strategy": {"type": "Recreate"}, "replicas": 0}}));
        assert_eq!(deployment["spec"]["strategy"], json!({"type": "Recreate"}));
        assert_eq!(
            (&deployment["spec"]["replicas"], &deployment["spec"]["revisionHistoryLimit"]),
            (&json!(0), &json!(10))
        );
        let limits = json!({"limits": {"cpu": "1"}, "requests": {"memory": "1"}});
        let pod =
            filled(Kind::Pod, json!({"spec": {"containers": [{"name": "c", "image": "i:1", "resources": limits}]}}));
        assert_eq!(pod["spec"]["containers"][0]["resources"]["requests"], json!({"cpu": "1", "memory": "1"}));
        assert_eq!(pod["spec"]["containers"][0]["imagePullPolicy"], "IfNotPresent");
        let secret = filled(Kind::Secret, json!({"stringData": {"a": "b"}}));
        assert_eq!(secret, json!({"type": "Opaque", "data": {"a": "Yg=="}}));
    }
}
