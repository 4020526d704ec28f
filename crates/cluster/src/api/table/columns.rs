//! The columns of each kind, in the order and with the cells of a real API server: its printers for the kinds that are built
//! in, what their definitions name for Karpenter's.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::age::since;
use super::{metrics, pod};
use crate::object::Object;
use crate::resource::Kind;

/// One column.
#[derive(Clone, Copy)]
pub(super) struct Column {
    name: &'static str,
    /// `string`, `integer` or `date`.
    type_: &'static str,
    /// `name` of the column that names an object.
    format: &'static str,
    /// Shown by who wants all of it.
    wide: bool,
    cell: fn(&Object, Timestamp) -> Value,
}

impl Column {
    /// How it is called, and what is in it.
    pub(super) fn head(&self) -> Value {
        let Self { name, type_, format, wide, cell: _ } = self;
        json!({"name": name, "type": type_, "format": format, "description": "", "priority": i32::from(*wide)})
    }

    pub(super) fn cell(&self, object: &Object, now: Timestamp) -> Value {
        (self.cell)(object, now)
    }

    const fn wide(self) -> Self {
        Self { wide: true, ..self }
    }
}

const fn column(name: &'static str, type_: &'static str, cell: fn(&Object, Timestamp) -> Value) -> Column {
    Column { name, type_, format: "", wide: false, cell }
}

const fn text(name: &'static str, cell: fn(&Object, Timestamp) -> Value) -> Column {
    column(name, "string", cell)
}

const fn integer(name: &'static str, cell: fn(&Object, Timestamp) -> Value) -> Column {
    column(name, "integer", cell)
}

const NAME: Column = Column { format: "name", ..text("Name", |object, _| object.name().into()) };
const AGE: Column = text("Age", age);
const CONTAINERS: Column = text("Containers", |object, _| of_containers(object, "name")).wide();
const IMAGES: Column = text("Images", |object, _| of_containers(object, "image")).wide();

fn age(object: &Object, now: Timestamp) -> Value {
    since(object.time("/metadata/creationTimestamp"), now).into()
}

/// A number, 0 where nobody said one.
fn count(object: &Object, pointer: &str) -> i64 {
    object.number(pointer).unwrap_or(0)
}

/// A text, or what stands for none.
fn text_or(object: &Object, pointer: &str, none: &str) -> Value {
    object.text(pointer).filter(|text| !text.is_empty()).unwrap_or(none).into()
}

/// A text of a custom resource, whatever it is there; null where nothing is.
fn custom(value: &Value) -> Value {
    match value {
        Value::Number(number) => number.to_string().into(),
        Value::Bool(yes) => yes.to_string().into(),
        other => other.clone(),
    }
}

fn condition(object: &Object, type_: &str) -> Value {
    object.condition(type_).map_or(Value::Null, |condition| condition["status"].clone())
}

fn label(object: &Object, key: &str) -> Value {
    object.label(key).into()
}

fn of_containers(object: &Object, field: &str) -> Value {
    let containers = object.list("/spec/template/spec/containers").iter();
    containers.map(|container| container[field].as_str().unwrap_or_default()).collect::<Vec<_>>().join(",").into()
}

/// A `LabelSelector` as it would be typed.
fn selector(selector: &Value) -> String {
    let equal = selector["matchLabels"].as_object().into_iter().flatten();
    let equal = equal.map(|(key, value)| (key.as_str(), format!("{key}={}", value.as_str().unwrap_or_default())));
    let expressions = selector["matchExpressions"].as_array().into_iter().flatten().map(|expression| {
        let key = expression["key"].as_str().unwrap_or_default();
        let values: BTreeSet<&str> =
            expression["values"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let values = values.into_iter().collect::<Vec<_>>().join(",");
        let text = match expression["operator"].as_str().unwrap_or_default() {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "DoesNotExist" => format!("!{key}"),
            _ => key.to_owned(),
        };
        (key, text)
    });
    let mut parts: Vec<(&str, String)> = equal.chain(expressions).collect();
    parts.sort_by_key(|(key, _)| *key);
    parts.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join(",")
}

fn ready_of(object: &Object) -> Value {
    format!("{}/{}", count(object, "/status/readyReplicas"), count(object, "/spec/replicas")).into()
}

const POD: &[Column] = &[
    NAME,
    text("Ready", |object, now| pod::summary(object, now).ready.into()),
    text("Status", |object, now| pod::summary(object, now).status.into()),
    text("Restarts", |object, now| pod::summary(object, now).restarts.into()),
    AGE,
    text("IP", |object, _| {
        let first = object.text("/status/podIPs/0/ip").or_else(|| object.text("/status/podIP"));
        first.filter(|ip| !ip.is_empty()).unwrap_or("<none>").into()
    })
    .wide(),
    text("Node", |object, _| text_or(object, "/spec/nodeName", "<none>")).wide(),
    text("Nominated Node", |object, _| text_or(object, "/status/nominatedNodeName", "<none>")).wide(),
    text("Readiness Gates", |object, _| pod::readiness_gates(object).into()).wide(),
];

const NODE: &[Column] = &[
    NAME,
    text("Status", |object, _| node_status(object).into()),
    text("Roles", |object, _| node_roles(object).into()),
    AGE,
    text("Version", |object, _| text_or(object, "/status/nodeInfo/kubeletVersion", "")),
    text("Internal-IP", |object, _| address(object, "InternalIP")).wide(),
    text("External-IP", |object, _| address(object, "ExternalIP")).wide(),
    text("OS-Image", |object, _| text_or(object, "/status/nodeInfo/osImage", "<unknown>")).wide(),
    text("Kernel-Version", |object, _| kernel(object).into()).wide(),
    text("Container-Runtime", |object, _| text_or(object, "/status/nodeInfo/containerRuntimeVersion", "<unknown>"))
        .wide(),
];

fn node_status(node: &Object) -> String {
    let ready = match node.condition("Ready").map(|condition| condition["status"] == "True") {
        Some(true) => "Ready",
        Some(false) => "NotReady",
        None => "Unknown",
    };
    if node.is("/spec/unschedulable") { format!("{ready},SchedulingDisabled") } else { ready.to_owned() }
}

fn node_roles(node: &Object) -> String {
    let labels = node.at("/metadata/labels").as_object().into_iter().flatten();
    let roles: BTreeSet<&str> = labels
        .filter_map(|(key, value)| match key.strip_prefix("node-role.kubernetes.io/") {
            Some(role) => Some(role),
            None if key == "kubernetes.io/role" => value.as_str(),
            None => None,
        })
        .filter(|role| !role.is_empty())
        .collect();
    if roles.is_empty() { "<none>".to_owned() } else { roles.into_iter().collect::<Vec<_>>().join(",") }
}

fn kernel(node: &Object) -> String {
    let part = |name: &str| node.at("/status/nodeInfo")[name].as_str().filter(|text| !text.is_empty());
    let version = part("kernelVersion").unwrap_or("<unknown>");
    part("architecture").map_or_else(|| version.to_owned(), |architecture| format!("{version} ({architecture})"))
}

fn address(node: &Object, type_: &str) -> Value {
    let found = node.list("/status/addresses").iter().find(|address| address["type"] == type_);
    found.map_or_else(|| "<none>".into(), |address| address["address"].clone())
}

const NAMESPACE: &[Column] = &[NAME, text("Status", |object, _| text_or(object, "/status/phase", "")), AGE];

const CONFIG_MAP: &[Column] =
    &[NAME, text("Data", |object, _| (entries(object, "/data") + entries(object, "/binaryData")).into()), AGE];

const SECRET: &[Column] = &[
    NAME,
    text("Type", |object, _| text_or(object, "/type", "")),
    text("Data", |object, _| entries(object, "/data").into()),
    AGE,
];

fn entries(object: &Object, pointer: &str) -> usize {
    object.at(pointer).as_object().map_or(0, serde_json::Map::len)
}

const RESOURCE_QUOTA: &[Column] = &[
    NAME,
    text("Request", |object, _| quota(object, false).into()),
    text("Limit", |object, _| quota(object, true).into()),
    AGE,
];

/// What is used of what may be, of the limits or of everything else.
fn quota(quota: &Object, limits: bool) -> String {
    let hard = quota.at("/status/hard").as_object().into_iter().flatten();
    let used = quota.at("/status/used");
    let shown = hard.filter(|(name, _)| name.starts_with("limits.") == limits).map(|(name, most)| {
        let used = used.get(name).and_then(Value::as_str).unwrap_or("0");
        format!("{name}: {used}/{}", most.as_str().unwrap_or_default())
    });
    shown.collect::<Vec<_>>().join(", ")
}

const DEPLOYMENT: &[Column] = &[
    NAME,
    text("Ready", |object, _| ready_of(object)),
    text("Up-to-date", |object, _| count(object, "/status/updatedReplicas").into()),
    text("Available", |object, _| count(object, "/status/availableReplicas").into()),
    AGE,
    CONTAINERS,
    IMAGES,
    text("Selector", |object, _| selector(object.at("/spec/selector")).into()).wide(),
];

const REPLICA_SET: &[Column] = &[
    NAME,
    integer("Desired", |object, _| count(object, "/spec/replicas").into()),
    integer("Current", |object, _| count(object, "/status/replicas").into()),
    integer("Ready", |object, _| count(object, "/status/readyReplicas").into()),
    AGE,
    CONTAINERS,
    IMAGES,
    text("Selector", |object, _| {
        let shown = selector(object.at("/spec/selector"));
        if shown.is_empty() { "<none>".into() } else { shown.into() }
    })
    .wide(),
];

const STATEFUL_SET: &[Column] = &[NAME, text("Ready", |object, _| ready_of(object)), AGE, CONTAINERS, IMAGES];

const CONTROLLER_REVISION: &[Column] = &[
    NAME,
    text("Controller", |object, _| controller(object).into()),
    text("Revision", |object, _| count(object, "/revision").into()),
    AGE,
];

fn controller(object: &Object) -> String {
    object.controller().map_or_else(
        || "<none>".to_owned(),
        |owner| {
            let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
            let kind = super::super::status::qualified(owner.kind, group).to_lowercase();
            format!("{kind}/{}", owner.name)
        },
    )
}

const AUTOSCALER: &[Column] = &[
    NAME,
    text("Reference", |object, _| {
        let part = |name: &str| object.at("/spec/scaleTargetRef")[name].as_str().unwrap_or_default();
        format!("{}/{}", part("kind"), part("name")).into()
    }),
    text("Targets", |object, _| metrics::targets(object).into()),
    text("MinPods", |object, _| {
        object.number("/spec/minReplicas").map_or_else(|| "<unset>".to_owned(), |least| least.to_string()).into()
    }),
    text("MaxPods", |object, _| count(object, "/spec/maxReplicas").into()),
    text("Replicas", |object, _| count(object, "/status/currentReplicas").into()),
    AGE,
];

const DISRUPTION_BUDGET: &[Column] = &[
    NAME,
    text("Min Available", |object, _| amount(object.at("/spec/minAvailable")).into()),
    text("Max Unavailable", |object, _| amount(object.at("/spec/maxUnavailable")).into()),
    integer("Allowed Disruptions", |object, _| count(object, "/status/disruptionsAllowed").into()),
    AGE,
];

/// A number or a percentage.
fn amount(value: &Value) -> String {
    match value {
        Value::String(percentage) => percentage.clone(),
        Value::Number(number) => number.to_string(),
        _ => "N/A".to_owned(),
    }
}

const LEASE: &[Column] = &[NAME, text("Holder", |object, _| text_or(object, "/spec/holderIdentity", "")), AGE];

const EVENT: &[Column] = &[
    text("Last Seen", |object, now| last_seen(object, now).into()),
    text("Type", |object, _| text_or(object, "/type", "")),
    text("Reason", |object, _| text_or(object, "/reason", "")),
    text("Object", |object, _| regarding(object).into()),
    text("Subobject", |object, _| text_or(object, "/regarding/fieldPath", "")).wide(),
    text("Source", |object, _| source(object).into()).wide(),
    text("Message", |object, _| object.text("/note").unwrap_or_default().trim().into()),
    text("First Seen", |object, now| first_seen(object, now).into()).wide(),
    text("Count", |object, _| {
        let series = object.number("/series/count");
        series.or_else(|| object.number("/deprecatedCount").filter(|count| *count != 0)).unwrap_or(1).into()
    })
    .wide(),
    NAME.wide(),
];

fn first_seen(event: &Object, now: Timestamp) -> String {
    since(event.time("/deprecatedFirstTimestamp").or_else(|| event.time("/eventTime")), now)
}

fn last_seen(event: &Object, now: Timestamp) -> String {
    if !event.at("/series").is_null() {
        return since(event.time("/series/lastObservedTime"), now);
    }
    event.time("/deprecatedLastTimestamp").map_or_else(|| first_seen(event, now), |last| since(Some(last), now))
}

fn regarding(event: &Object) -> String {
    let part = |name: &str| event.at("/regarding")[name].as_str().unwrap_or_default();
    let kind = part("kind").to_lowercase();
    if part("name").is_empty() { kind } else { format!("{kind}/{}", part("name")) }
}

fn source(event: &Object) -> String {
    let first = |one: &str, other: &str| {
        let said = |pointer| event.text(pointer).filter(|text| !text.is_empty());
        said(one).or_else(|| said(other)).unwrap_or_default().to_owned()
    };
    let component = first("/deprecatedSource/component", "/reportingController");
    let instance = first("/deprecatedSource/host", "/reportingInstance");
    if instance.is_empty() { component } else { format!("{component}, {instance}") }
}

const WEBHOOK: &[Column] = &[NAME, integer("Webhooks", |object, _| object.list("/webhooks").len().into()), AGE];

const CREATED: Column = column("Age", "date", age);

const NODE_POOL: &[Column] = &[
    NAME,
    text("NodeClass", |object, _| custom(object.at("/spec/template/spec/nodeClassRef/name"))),
    text("Nodes", |object, _| custom(object.at("/status/nodes"))),
    text("Ready", |object, _| condition(object, "Ready")),
    CREATED,
    integer("Weight", |object, _| object.number("/spec/weight").into()).wide(),
    text("CPU", |object, _| custom(object.at("/status/resources/cpu"))).wide(),
    text("Memory", |object, _| custom(object.at("/status/resources/memory"))).wide(),
];

const NODE_CLAIM: &[Column] = &[
    NAME,
    text("Type", |object, _| label(object, "node.kubernetes.io/instance-type")),
    text("Capacity", |object, _| label(object, "karpenter.sh/capacity-type")),
    text("Zone", |object, _| label(object, "topology.kubernetes.io/zone")),
    text("Node", |object, _| custom(object.at("/status/nodeName"))),
    text("Ready", |object, _| condition(object, "Ready")),
    CREATED,
    text("ImageID", |object, _| custom(object.at("/status/imageID"))).wide(),
    text("ID", |object, _| custom(object.at("/status/providerID"))).wide(),
    text("NodePool", |object, _| label(object, "karpenter.sh/nodepool")).wide(),
    text("NodeClass", |object, _| custom(object.at("/spec/nodeClassRef/name"))).wide(),
    text("Drifted", |object, _| condition(object, "Drifted")).wide(),
];

/// Of a `Scale`, which is no kind of its own.
pub(super) const SCALE: &[Column] = &[
    text("Name", |object, _| object.name().into()),
    integer("Desired", |object, _| count(object, "/spec/replicas").into()),
    integer("Available", |object, _| count(object, "/status/replicas").into()),
    AGE,
];

/// Those of a kind.
pub(super) const fn of(kind: Kind) -> &'static [Column] {
    match kind {
        Kind::Namespace => NAMESPACE,
        Kind::Node => NODE,
        Kind::ConfigMap => CONFIG_MAP,
        Kind::Secret => SECRET,
        Kind::ServiceAccount => &[NAME, AGE],
        Kind::ResourceQuota => RESOURCE_QUOTA,
        Kind::Pod => POD,
        Kind::Deployment => DEPLOYMENT,
        Kind::ReplicaSet => REPLICA_SET,
        Kind::StatefulSet => STATEFUL_SET,
        Kind::ControllerRevision => CONTROLLER_REVISION,
        Kind::HorizontalPodAutoscaler => AUTOSCALER,
        Kind::PodDisruptionBudget => DISRUPTION_BUDGET,
        Kind::Lease => LEASE,
        Kind::Event => EVENT,
        Kind::MutatingWebhookConfiguration => WEBHOOK,
        Kind::NodePool => NODE_POOL,
        Kind::NodeClaim => NODE_CLAIM,
    }
}
