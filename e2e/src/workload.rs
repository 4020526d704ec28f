//! Builds the objects that tests put before the product: opted-in workloads and disruption budgets.

use serde_json::{Value, json};

/// The label by which a workload's pods are found.
const APP: &str = "app";

/// A Deployment or `StatefulSet` to be created, and afterwards the name by which it is asked about.
///
/// Its pods take the least there is: one container without requests, no grace on deletion.
#[derive(Clone, Debug)]
pub struct Workload {
    pub(crate) kind: Kind,
    namespace: String,
    name: String,
    replicas: u32,
    labels: Value,
    annotations: Value,
    template_annotations: Value,
    pod: Value,
    spec: Value,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Deployment,
    StatefulSet,
}

impl Workload {
    /// A Deployment of one replica that nobody opted in.
    pub fn deployment(namespace: &str, name: &str) -> Self {
        Self::new(Kind::Deployment, namespace, name)
    }

    /// A `StatefulSet` of one replica that nobody opted in, whose pods start all at once.
    pub fn stateful_set(namespace: &str, name: &str) -> Self {
        Self::new(Kind::StatefulSet, namespace, name)
            .spec(json!({"serviceName": name, "podManagementPolicy": "Parallel"}))
    }

    fn new(kind: Kind, namespace: &str, name: &str) -> Self {
        Self {
            kind,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            replicas: 1,
            labels: json!({}),
            annotations: json!({}),
            template_annotations: json!({}),
            pod: json!({
                "terminationGracePeriodSeconds": 0,
                "automountServiceAccountToken": false,
                "containers": [{"name": "main", "image": "none"}],
            }),
            spec: json!({}),
        }
    }

    /// `spec.replicas`.
    #[must_use]
    pub fn replicas(self, replicas: u32) -> Self {
        Self { replicas, ..self }
    }

    /// Opted in, so far as the workload's own word goes.
    #[must_use]
    pub fn opted_in(self) -> Self {
        self.label("spotalis.io/enabled", "true")
    }

    /// Opted in, with this share of replicas on spot.
    #[must_use]
    pub fn spot(self, percentage: u32) -> Self {
        self.opted_in().annotation("spotalis.io/spot-percentage", &percentage.to_string())
    }

    /// So many replicas stay on on-demand.
    #[must_use]
    pub fn floor(self, replicas: u32) -> Self {
        self.annotation("spotalis.io/min-on-demand", &replicas.to_string())
    }

    /// A label of the workload itself.
    #[must_use]
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.labels[key] = json!(value);
        self
    }

    /// An annotation of the workload itself.
    #[must_use]
    pub fn annotation(mut self, key: &str, value: &str) -> Self {
        self.annotations[key] = json!(value);
        self
    }

    /// An annotation of every pod.
    #[must_use]
    pub fn pod_annotation(mut self, key: &str, value: &str) -> Self {
        self.template_annotations[key] = json!(value);
        self
    }

    /// More for the pod's spec; of what is there already, this takes the place.
    #[must_use]
    pub fn pod(mut self, more: Value) -> Self {
        merge(&mut self.pod, more);
        self
    }

    /// More for the workload's spec; of what is there already, this takes the place.
    #[must_use]
    pub fn spec(mut self, more: Value) -> Self {
        merge(&mut self.spec, more);
        self
    }

    /// Its namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The label selector of its pods.
    pub fn selector(&self) -> String {
        format!("{APP}={}", self.name)
    }

    /// The object to create.
    pub fn object(&self) -> Value {
        let Self { kind, namespace, name, replicas, labels, annotations, template_annotations, pod, spec } = self;
        let kind = match kind {
            Kind::Deployment => "Deployment",
            Kind::StatefulSet => "StatefulSet",
        };
        let mut object = json!({
            "apiVersion": "apps/v1",
            "kind": kind,
            "metadata": {"namespace": namespace, "name": name, "labels": labels, "annotations": annotations},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": {APP: name}},
                "template": {
                    "metadata": {"labels": {APP: name}, "annotations": template_annotations},
                    "spec": pod,
                },
            },
        });
        merge(&mut object["spec"], spec.clone());
        object
    }
}

/// A `PodDisruptionBudget` over the pods of one workload.
#[derive(Clone, Debug)]
pub struct Budget {
    pub(crate) namespace: String,
    pub(crate) object: Value,
}

impl Budget {
    /// So many pods of the workload stay healthy.
    pub fn min_available(workload: &Workload, name: &str, replicas: u32) -> Self {
        Self {
            namespace: workload.namespace.clone(),
            object: json!({
                "apiVersion": "policy/v1",
                "kind": "PodDisruptionBudget",
                "metadata": {"namespace": workload.namespace, "name": name},
                "spec": {"minAvailable": replicas, "selector": {"matchLabels": {APP: workload.name}}},
            }),
        }
    }

    /// More for the budget's spec; of what is there already, this takes the place.
    #[must_use]
    pub fn spec(mut self, more: Value) -> Self {
        merge(&mut self.object["spec"], more);
        self
    }
}

/// Merges objects key by key; anything else is replaced.
pub(crate) fn merge(base: &mut Value, more: Value) {
    match (base, more) {
        (Value::Object(base), Value::Object(more)) => {
            for (key, value) in more {
                merge(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (base, more) => *base = more,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_stands_beside_what_is_there() {
        let object =
            Workload::stateful_set("shop", "db").replicas(3).spot(70).floor(1).spec(json!({"minReadySeconds": 1}));
        let object = object.pod(json!({"nodeSelector": {"a": "b"}})).object();
        assert_eq!(object["spec"]["replicas"], 3);
        assert_eq!(object["spec"]["minReadySeconds"], 1);
        assert_eq!(object["spec"]["podManagementPolicy"], "Parallel");
        assert_eq!(object["spec"]["template"]["spec"]["nodeSelector"]["a"], "b");
        assert_eq!(object["spec"]["template"]["spec"]["containers"][0]["name"], "main");
        assert_eq!(object["metadata"]["labels"]["spotalis.io/enabled"], "true");
        assert_eq!(object["metadata"]["annotations"]["spotalis.io/min-on-demand"], "1");
    }
}
