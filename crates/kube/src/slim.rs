//! Kubernetes objects with only the fields that Spotalis uses, read straight from the wire.
//!
//! A full pod costs 47 KB in memory and three times the time to decode. Unknown fields are skipped without being kept,
//! `null` is read as absent everywhere, and nothing a user can write makes an object unreadable: values of ours are kept
//! as text here and judged in `spotalis-core`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use spotalis_core::policy::keys;
use spotalis_core::selector::Labels;

use crate::names;

/// An object of a watched kind.
pub trait Slim: for<'de> Deserialize<'de> + Clone + Send + Sync + 'static {
    /// Its metadata.
    fn meta(&self) -> &Meta;
}

/// The annotations that mean something to us: those under `spotalis.io/`, and what decides about the removal of a pod.
#[derive(Clone, Debug, Default)]
pub struct Annotations(pub Labels);

impl Annotations {
    /// The value of a kept key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(|value| &**value)
    }
}

fn is_kept(key: &str) -> bool {
    key.starts_with(keys::PREFIX)
        || [names::POD_DELETION_COST, names::KARPENTER_DO_NOT_DISRUPT, names::SAFE_TO_EVICT].contains(&key)
}

impl<'de> Deserialize<'de> for Annotations {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Kept;
        impl<'de> Visitor<'de> for Kept {
            type Value = Labels;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Labels, A::Error> {
                let mut kept = Labels::new();
                while let Some(key) = map.next_key::<Text<'_>>()? {
                    if !is_kept(&key.0) {
                        map.next_value::<IgnoredAny>()?;
                    } else if let Some(value) = map.next_value::<Option<Text<'_>>>()? {
                        kept.insert(key.0.into(), value.0.into());
                    }
                }
                Ok(kept)
            }
        }
        deserializer.deserialize_any(Kept).map(Self)
    }
}

/// A string that borrows where the wire allows it.
#[derive(serde::Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// `null` and absence as the default.
fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// A time; what cannot be read is absent rather than an object lost.
fn timestamp<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    let text = Option::<Text<'de>>::deserialize(deserializer)?;
    Ok(text.and_then(|text| text.0.parse().ok()))
}

macro_rules! slim {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty),* $(,)? })*) => {
        $($(#[$doc])*
        #[derive(Clone, Debug, Default, serde::Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        pub struct $name {
            $($(#[$field_doc])* #[serde(deserialize_with = "or_default")] pub $field: $type),*
        })*
    };
}

/// The metadata that every kind has.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Meta {
    /// Name.
    #[serde(deserialize_with = "or_default")]
    pub name: Box<str>,
    /// Namespace, empty for cluster-scoped kinds.
    #[serde(deserialize_with = "or_default")]
    pub namespace: Box<str>,
    /// UID.
    #[serde(deserialize_with = "or_default")]
    pub uid: Box<str>,
    /// Resource version.
    #[serde(deserialize_with = "or_default")]
    pub resource_version: Box<str>,
    /// Generation of the spec.
    #[serde(deserialize_with = "or_default")]
    pub generation: i64,
    /// When it was created.
    #[serde(deserialize_with = "timestamp")]
    pub creation_timestamp: Option<Timestamp>,
    /// When it is to be gone.
    #[serde(deserialize_with = "timestamp")]
    pub deletion_timestamp: Option<Timestamp>,
    /// Seconds between the request to delete it and that time.
    #[serde(deserialize_with = "or_default")]
    pub deletion_grace_period_seconds: i64,
    /// Labels.
    #[serde(deserialize_with = "or_default")]
    pub labels: Labels,
    /// The annotations that mean something to us.
    #[serde(deserialize_with = "or_default")]
    pub annotations: Annotations,
    /// Owners.
    #[serde(deserialize_with = "or_default")]
    pub owner_references: Vec<OwnerReference>,
}

impl Meta {
    /// The owner that controls the object.
    pub fn controller(&self) -> Option<&OwnerReference> {
        self.owner_references.iter().find(|owner| owner.controller)
    }
}

slim! {
    /// A reference to an owner.
    OwnerReference {
        /// API group and version.
        api_version: Box<str>,
        /// Kind.
        kind: Box<str>,
        /// Name.
        name: Box<str>,
        /// UID.
        uid: Box<str>,
        /// Whether it is the one owner that controls the object.
        controller: bool,
    }

    /// A condition of a status.
    Condition {
        /// Its type.
        r#type: Box<str>,
        /// `True`, `False` or `Unknown`.
        status: Box<str>,
        /// Why.
        reason: Box<str>,
        /// When the status last changed, RFC 3339.
        last_transition_time: Box<str>,
    }

    /// One requirement of a selector or a node affinity term.
    Expression {
        /// Label key.
        key: Box<str>,
        /// `In`, `NotIn`, `Exists`, `DoesNotExist`, `Gt`, `Lt`.
        operator: Box<str>,
        /// Values.
        values: Vec<Box<str>>,
    }

    /// A label selector.
    LabelSelector {
        /// Equalities.
        match_labels: Labels,
        /// Set requirements.
        match_expressions: Vec<Expression>,
    }

    /// A node selector term.
    NodeSelectorTerm {
        /// On labels.
        match_expressions: Vec<Expression>,
        /// On fields.
        match_fields: Vec<Expression>,
    }

    /// Required node affinity.
    NodeSelector {
        /// Any of these.
        node_selector_terms: Vec<NodeSelectorTerm>,
    }

    /// Node affinity.
    NodeAffinity {
        /// The required part.
        required_during_scheduling_ignored_during_execution: Option<NodeSelector>,
    }

    /// An inter-pod affinity term.
    PodAffinityTerm {
        /// Which pods.
        label_selector: Option<LabelSelector>,
        /// What counts as the same place.
        topology_key: Box<str>,
    }

    /// Inter-pod anti-affinity.
    PodAntiAffinity {
        /// The required part.
        required_during_scheduling_ignored_during_execution: Vec<PodAffinityTerm>,
    }

    /// Affinity.
    Affinity {
        /// To nodes.
        node_affinity: Option<NodeAffinity>,
        /// Away from pods.
        pod_anti_affinity: Option<PodAntiAffinity>,
    }

    /// A toleration.
    Toleration {
        /// Key; empty is every key.
        key: Option<Box<str>>,
        /// `Exists` or `Equal`, the default.
        operator: Box<str>,
        /// Value.
        value: Option<Box<str>>,
        /// Effect; empty is every effect.
        effect: Box<str>,
        /// For `NoExecute`.
        toleration_seconds: Option<i64>,
    }

    /// Resource requirements.
    Requirements {
        /// Requests by resource.
        requests: BTreeMap<Box<str>, Quantity>,
    }

    /// A container.
    Container {
        /// Its resources.
        resources: Requirements,
        /// `Always` makes an init container run beside the others.
        restart_policy: Box<str>,
    }

    /// What a pod asks for, in a pod or a template.
    PodSpec {
        /// Where it runs.
        node_name: Box<str>,
        /// Node selector.
        node_selector: Labels,
        /// Affinity.
        affinity: Option<Affinity>,
        /// Tolerations.
        tolerations: Vec<Toleration>,
        /// Containers.
        containers: Vec<Container>,
        /// Init containers.
        init_containers: Vec<Container>,
        /// What the runtime adds.
        overhead: BTreeMap<Box<str>, Quantity>,
    }

    /// The status of a pod.
    PodStatus {
        /// Phase.
        phase: Box<str>,
        /// Conditions.
        conditions: Vec<Condition>,
    }

    /// The metadata of a template.
    TemplateMeta {
        /// Labels.
        labels: Labels,
        /// Annotations of ours, which somebody copied there.
        annotations: Annotations,
    }

    /// A pod template.
    Template {
        /// Its metadata.
        metadata: TemplateMeta,
        /// Its spec.
        spec: PodSpec,
    }

    /// The update strategy of a StatefulSet.
    UpdateStrategy {
        /// `RollingUpdate` or `OnDelete`.
        r#type: Box<str>,
        /// Parameters of `RollingUpdate`.
        rolling_update: Option<RollingUpdate>,
    }

    /// Parameters of a StatefulSet's rolling update.
    RollingUpdate {
        /// Ordinals below are not updated.
        partition: i32,
    }

    /// How a StatefulSet counts.
    Ordinals {
        /// The first ordinal.
        start: i32,
    }

    /// The spec of a Deployment, ReplicaSet or StatefulSet.
    WorkloadSpec {
        /// Wanted replicas; absent is 1.
        replicas: Option<i32>,
        /// Paused.
        paused: bool,
        /// The pod template.
        template: Template,
        /// How a StatefulSet updates.
        update_strategy: UpdateStrategy,
        /// How a StatefulSet counts.
        ordinals: Option<Ordinals>,
        /// In which order a StatefulSet creates its pods: `OrderedReady` or `Parallel`.
        pod_management_policy: Box<str>,
    }

    /// The status of a Deployment or StatefulSet.
    WorkloadStatus {
        /// The generation it speaks of.
        observed_generation: i64,
        /// All pods.
        replicas: i32,
        /// Pods of the newest revision.
        updated_replicas: i32,
        /// The newest revision of a StatefulSet.
        update_revision: Box<str>,
        /// The revision of its pods that are not updated yet, or not to be.
        current_revision: Box<str>,
    }

    /// The spec of a ReplicaSet.
    ReplicaSetSpec {
        /// Wanted replicas; absent is 1.
        replicas: Option<i32>,
        /// The pod template, for what is ours in it.
        template: ReplicaSetTemplate,
    }

    /// The template of a ReplicaSet, without what the Deployment's says already.
    ReplicaSetTemplate {
        /// Its metadata.
        metadata: TemplateMeta,
    }

    /// A taint.
    Taint {
        /// Key.
        key: Box<str>,
        /// Value.
        value: Box<str>,
        /// Effect.
        effect: Box<str>,
    }

    /// The spec of a node.
    NodeSpec {
        /// Cordoned.
        unschedulable: bool,
        /// Taints.
        taints: Vec<Taint>,
    }

    /// The status of a node.
    NodeStatus {
        /// What pods may use.
        allocatable: BTreeMap<Box<str>, Quantity>,
        /// Conditions.
        conditions: Vec<Condition>,
    }

    /// The spec of a PodDisruptionBudget.
    PdbSpec {
        /// Which pods; absent is none, empty is all.
        selector: Option<LabelSelector>,
        /// `IfHealthyBudget` or `AlwaysAllow`.
        unhealthy_pod_eviction_policy: Box<str>,
    }

    /// The status of a PodDisruptionBudget.
    PdbStatus {
        /// The generation it speaks of.
        observed_generation: i64,
        /// How many evictions it allows now.
        disruptions_allowed: i32,
        /// Healthy pods now.
        current_healthy: i32,
        /// Healthy pods wanted.
        desired_healthy: i32,
    }

    /// The spec of a Karpenter NodePool.
    NodePoolSpec {
        /// What it makes.
        template: NodePoolTemplate,
        /// How much of each resource its nodes may have together.
        limits: BTreeMap<Box<str>, Quantity>,
    }

    /// The template of a NodePool.
    NodePoolTemplate {
        /// Its spec.
        spec: NodeClaimSpec,
    }

    /// What the nodes of a NodePool are.
    NodeClaimSpec {
        /// Requirements on labels.
        requirements: Vec<Expression>,
    }

    /// The status of a NodePool.
    NodePoolStatus {
        /// Conditions.
        conditions: Vec<Condition>,
        /// How much of each resource its nodes have together.
        resources: BTreeMap<Box<str>, Quantity>,
    }

    /// The data of the cluster-autoscaler's ConfigMap.
    AutoscalerData {
        /// Its report.
        status: Box<str>,
    }
}

/// A quantity: a string, or a number as some clients write it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quantity(pub Box<str>);

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl Visitor<'_> for Either {
            type Value = Quantity;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a quantity")
            }

            fn visit_unit<E>(self) -> Result<Quantity, E> {
                Ok(Quantity::default())
            }

            fn visit_str<E>(self, text: &str) -> Result<Quantity, E> {
                Ok(Quantity(text.into()))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Quantity, E> {
                Ok(Quantity(number.to_string().into()))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Quantity, E> {
                Ok(Quantity(number.to_string().into()))
            }

            fn visit_f64<E>(self, number: f64) -> Result<Quantity, E> {
                Ok(Quantity(number.to_string().into()))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty),* $(,)? })*) => {
        $($(#[$doc])*
        #[derive(Clone, Debug, Default, serde::Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        pub struct $name {
            /// Its metadata.
            #[serde(deserialize_with = "or_default")]
            pub metadata: Meta,
            $($(#[$field_doc])* #[serde(deserialize_with = "or_default")] pub $field: $type),*
        }

        impl Slim for $name {
            fn meta(&self) -> &Meta {
                &self.metadata
            }
        })*
    };
}

kinds! {
    /// A pod.
    Pod {
        /// Its spec.
        spec: PodSpec,
        /// Its status.
        status: PodStatus,
    }
    /// A Deployment or StatefulSet.
    Workload {
        /// Its spec.
        spec: WorkloadSpec,
        /// Its status.
        status: WorkloadStatus,
    }
    /// A ReplicaSet.
    ReplicaSet {
        /// Its spec.
        spec: ReplicaSetSpec,
    }
    /// A namespace.
    Namespace {}
    /// A node.
    Node {
        /// Its spec.
        spec: NodeSpec,
        /// Its status.
        status: NodeStatus,
    }
    /// A PodDisruptionBudget.
    PodDisruptionBudget {
        /// Its spec.
        spec: PdbSpec,
        /// Its status.
        status: PdbStatus,
    }
    /// A Karpenter NodePool.
    NodePool {
        /// Its spec.
        spec: NodePoolSpec,
        /// Its status.
        status: NodePoolStatus,
    }
    /// The ConfigMap in which the cluster-autoscaler reports.
    AutoscalerStatus {
        /// Its data.
        data: AutoscalerData,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read<K: Slim>(object: &serde_json::Value) -> serde_json::Result<K> {
        serde_json::from_str(&object.to_string())
    }

    #[test]
    fn only_annotations_that_mean_something_are_kept() {
        let pod: Pod = read(&json!({ "metadata": { "annotations": {
            "spotalis.io/slot": "3",
            "spotalis.io/unheard-of": "x",
            "controller.kubernetes.io/pod-deletion-cost": "-3",
            "karpenter.sh/do-not-disrupt": "true",
            "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
            "kubectl.kubernetes.io/last-applied-configuration": "{\"a\": \"long\\ntext\"}",
            "capacity.spotalis.io": "spot",
            "notspotalis.io/slot": "4",
        } } }))
        .unwrap();
        let kept: Vec<&str> = pod.metadata.annotations.0.keys().map(|key| &**key).collect();
        assert_eq!(
            kept,
            [
                "cluster-autoscaler.kubernetes.io/safe-to-evict",
                "controller.kubernetes.io/pod-deletion-cost",
                "karpenter.sh/do-not-disrupt",
                "spotalis.io/slot",
                "spotalis.io/unheard-of",
            ]
        );
        assert_eq!(pod.metadata.annotations.get("spotalis.io/slot"), Some("3"));
    }

    #[test]
    fn escapes_in_keys_and_values_are_undone() {
        let pod: Pod = serde_json::from_str(
            r#"{"metadata": {"annotations": {"spotalis.io\/slot": "\u0033", "\u0073potalis.io/x": "a\tb"}}}"#,
        )
        .unwrap();
        assert_eq!(pod.metadata.annotations.get("spotalis.io/slot"), Some("3"));
        assert_eq!(pod.metadata.annotations.get("spotalis.io/x"), Some("a\tb"));
    }

    #[test]
    fn null_is_absent_everywhere() {
        type Check = fn(&Pod) -> bool;
        let nothing = |_: &Pod| true;
        let rows: [(serde_json::Value, Check); 8] = [
            (json!({ "metadata": null, "spec": null, "status": null }), nothing),
            (
                json!({ "metadata": { "name": null, "generation": null, "labels": null, "ownerReferences": null } }),
                nothing,
            ),
            (json!({ "metadata": { "creationTimestamp": null } }), |pod| pod.metadata.creation_timestamp.is_none()),
            (json!({ "metadata": { "annotations": null } }), |pod| pod.metadata.annotations.0.is_empty()),
            (json!({ "metadata": { "annotations": { "spotalis.io/slot": null } } }), |pod| {
                pod.metadata.annotations.get("spotalis.io/slot").is_none()
            }),
            (
                json!({ "spec": { "nodeName": null, "containers": null, "affinity": null, "tolerations": null } }),
                |pod| pod.spec.containers.is_empty() && pod.spec.affinity.is_none(),
            ),
            (json!({ "spec": { "containers": [{ "resources": { "requests": { "cpu": null } } }] } }), |pod| {
                pod.spec.containers[0].resources.requests["cpu"] == Quantity::default()
            }),
            (
                json!({ "spec": { "affinity": { "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": [{ "matchExpressions": null }] } } } } }),
                |pod| pod.spec.affinity.as_ref().is_some_and(|affinity| affinity.node_affinity.is_some()),
            ),
        ];
        for (object, check) in rows {
            let pod = read::<Pod>(&object).unwrap_or_else(|error| panic!("{error} in {object}"));
            assert!(check(&pod), "{object}");
        }
    }

    /// The difference that a PodDisruptionBudget makes between an absent and an empty selector survives.
    #[test]
    fn absent_and_empty_are_told_apart_where_that_matters() {
        let pdb = |selector| {
            let pdb: PodDisruptionBudget = read(&json!({ "spec": { "selector": selector } })).unwrap();
            pdb.spec.selector.is_some()
        };
        assert!(!pdb(json!(null)) && pdb(json!({})));
        let replicas = |replicas| read::<Workload>(&json!({ "spec": { "replicas": replicas } })).unwrap().spec.replicas;
        assert_eq!((replicas(json!(null)), replicas(json!(0))), (None, Some(0)));
    }

    #[test]
    fn quantities_are_read_as_they_are_written() {
        let node: Node = serde_json::from_str(
            r#"{"status": {"allocatable": {"a": "3920m", "b": 4, "c": -1, "d": 1.5, "e": 18446744073709551615}}}"#,
        )
        .unwrap();
        let texts: Vec<&str> = node.status.allocatable.values().map(|Quantity(text)| &**text).collect();
        assert_eq!(texts, ["3920m", "4", "-1", "1.5", "18446744073709551615"]);
    }

    #[test]
    fn a_time_that_cannot_be_read_costs_only_itself() {
        for (text, readable) in
            [("2023-11-14T22:13:20Z", true), ("2023-11-14T22:13:20.123456Z", true), ("yesterday", false)]
        {
            let pod: Pod = read(&json!({ "metadata": { "name": "p", "deletionTimestamp": text } })).unwrap();
            assert_eq!(pod.metadata.deletion_timestamp.is_some(), readable, "{text}");
            assert_eq!(&*pod.metadata.name, "p");
        }
    }

    #[test]
    fn the_controller_is_the_owner_that_says_so() {
        let pod: Pod = read(&json!({ "metadata": { "ownerReferences": [
            { "kind": "ConfigMap", "name": "a", "uid": "a" },
            { "kind": "ReplicaSet", "name": "b", "uid": "b", "controller": false },
            { "kind": "ReplicaSet", "name": "c", "uid": "c", "controller": true } ] } }))
        .unwrap();
        assert_eq!(pod.metadata.controller().map(|owner| &*owner.uid), Some("c"));
    }

    /// Whatever stands where we do not look neither fails nor changes what is read.
    #[test]
    fn foreign_fields_may_be_anything() {
        let own = r#""metadata": {"name": "p", "finalizers": @, "managedFields": @}, "spec": {"nodeName": "n", "volumes": @,
            "containers": [{"name": @, "image": @, "resources": {"requests": {"cpu": "1"}, "limits": @}}]},
            "status": {"phase": "Running", "containerStatuses": @, "podIPs": @}"#;
        for foreign in [
            "null",
            "0",
            "-1.5e300",
            "\"text\"",
            "[]",
            "{}",
            "[null, {\"a\": [1]}]",
            "{\"metadata\": {\"name\": 7}}",
            "true",
        ] {
            let text = format!("{{{}, \"kind\": {foreign}, \"apiVersion\": {foreign}}}", own.replace('@', foreign));
            let pod: Pod = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} with {foreign}"));
            assert_eq!((&*pod.metadata.name, &*pod.spec.node_name, &*pod.status.phase), ("p", "n", "Running"));
            assert_eq!(pod.spec.containers[0].resources.requests["cpu"], Quantity("1".into()));
        }
    }

    #[test]
    fn a_wrong_type_where_we_look_is_an_error_and_no_guess() {
        for object in [
            json!({ "metadata": { "name": 7 } }),
            json!({ "metadata": { "labels": ["a"] } }),
            json!({ "metadata": { "annotations": "a" } }),
            json!({ "spec": { "containers": {} } }),
            json!({ "spec": { "containers": [{ "resources": { "requests": { "cpu": {} } } }] } }),
            json!({ "status": "Running" }),
            json!("a pod"),
            json!(null),
        ] {
            assert!(read::<Pod>(&object).is_err(), "{object}");
        }
    }
}
