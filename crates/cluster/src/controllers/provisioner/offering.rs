//! What can be had: instance types, in zones, as spot or on demand, at a price; and which of it a NodePool allows.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{CAPACITY_TYPE, NODE_POOL};
use crate::object::Object;
use crate::quantity::Quantity;
use crate::selector::Requirement;

pub(super) const INSTANCE_TYPE: &str = "node.kubernetes.io/instance-type";
pub(super) const ZONE: &str = "topology.kubernetes.io/zone";
/// There is one, called as the NodePool calls it.
const REGION: &str = "topology.kubernetes.io/region";

/// On a NodePool: what its nodes have, as JSON, in place of the catalogue.
pub const ALLOCATABLE: &str = "embedded-cluster/allocatable";
/// On a NodePool: capacity types, zones or instance types that cannot be had now, separated by commas.
pub const UNAVAILABLE: &str = "embedded-cluster/unavailable";

/// Name, cpus, GiB, pods. All cost the same for each cpu.
const CATALOGUE: [(&str, u32, u32, u32); 4] =
    [("general.2", 2, 8, 29), ("general.4", 4, 16, 58), ("general.8", 8, 32, 58), ("general.16", 16, 64, 110)];
const ZONES: [&str; 3] = ["zone-a", "zone-b", "zone-c"];
/// Millionths of a dollar for one cpu and one hour.
const PRICES: [(&str, u64); 2] = [("spot", 15_000), ("on-demand", 48_000)];

/// One thing that can be had.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Offering {
    instance_type: String,
    zone: String,
    capacity_type: String,
    /// What a node of it has.
    pub(super) capacity: Value,
    price: u64,
}

impl Offering {
    /// By what a node of it is known.
    pub(super) fn labels(&self) -> [(&'static str, &str); 3] {
        [(INSTANCE_TYPE, &self.instance_type), (ZONE, &self.zone), (CAPACITY_TYPE, &self.capacity_type)]
    }

    pub(super) fn is_bigger_kind_of(&self, other: &Self) -> bool {
        (&self.zone, &self.capacity_type) == (&other.zone, &other.capacity_type) && self.price > other.price
    }
}

/// A NodePool and what it allows.
pub(super) struct Pool<'s> {
    pub(super) object: &'s Object,
    /// The better first: spot, then the cheaper.
    pub(super) offerings: Vec<Offering>,
    labels: BTreeMap<String, String>,
}

impl<'s> Pool<'s> {
    pub(super) fn of(object: &'s Object) -> Self {
        let requirements = object.list("/spec/template/spec/requirements");
        let mut labels: BTreeMap<String, String> =
            [("kubernetes.io/arch", "amd64"), ("kubernetes.io/os", "linux"), (NODE_POOL, object.name())]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into();
        for (key, value) in object.at("/spec/template/metadata/labels").as_object().into_iter().flatten() {
            labels.insert(key.clone(), value.as_str().unwrap_or_default().to_owned());
        }
        // A requirement with values is a label of the nodes, too.
        let chosen = requirements.iter().filter(|it| it["operator"] == "In");
        for (key, value) in chosen.filter_map(|it| Some((it["key"].as_str()?, it["values"][0].as_str()?))) {
            if ![INSTANCE_TYPE, ZONE, CAPACITY_TYPE].contains(&key) {
                labels.entry(key.to_owned()).or_insert_with(|| value.to_owned());
            }
        }
        labels.entry(REGION.to_owned()).or_insert_with(|| "region".to_owned());
        let mut offerings = offered(object, requirements);
        let allows = |offering: &Offering| {
            requirements.iter().filter_map(|it| Requirement::parse(it).ok()).all(|requirement| {
                let own =
                    offering.labels().into_iter().find(|(key, _)| *key == requirement.key()).map(|(_, value)| value);
                requirement.allows(own.or(labels.get(requirement.key()).map(String::as_str)))
            })
        };
        offerings
            .retain(|offering| allows(offering) && is_available(object, &offering.labels().map(|(_, value)| value)));
        offerings.sort_by(|a, b| {
            let order =
                |it: &Offering| (it.capacity_type != "spot", it.price, it.instance_type.clone(), it.zone.clone());
            order(a).cmp(&order(b))
        });
        Self { object, offerings, labels }
    }

    pub(super) fn weight(&self) -> i64 {
        self.object.number("/spec/weight").unwrap_or(0)
    }

    /// One node without room for each zone.
    pub(super) fn zones(&self) -> impl Iterator<Item = Value> {
        let zones: BTreeMap<&str, &Offering> = self.offerings.iter().map(|it| (it.zone.as_str(), it)).collect();
        zones.into_values().map(|offering| {
            let mut node = self.node(offering);
            node["status"] = json!({});
            node
        })
    }

    /// A node of an offering, before it has a name.
    pub(super) fn node(&self, offering: &Offering) -> Value {
        let mut labels = json!(self.labels);
        for (key, value) in offering.labels() {
            labels[key] = json!(value);
        }
        json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": "", "labels": labels},
            "spec": {"taints": self.object.list("/spec/template/spec/taints")},
            "status": {"capacity": offering.capacity, "allocatable": offering.capacity},
        })
    }
}

/// Whether something with these names can be had from a NodePool now.
pub(super) fn is_available(pool: &Object, names: &[&str]) -> bool {
    let unavailable = pool.annotation(UNAVAILABLE).unwrap_or_default();
    !unavailable.split(',').any(|name| names.contains(&name.trim()))
}

/// All that there is, of the zones that a NodePool names.
fn offered(pool: &Object, requirements: &[Value]) -> Vec<Offering> {
    let named = |key: &str| {
        let named = requirements.iter().filter(|it| it["key"] == key && it["operator"] == "In");
        named.flat_map(|it| it["values"].as_array().into_iter().flatten().filter_map(Value::as_str)).collect::<Vec<_>>()
    };
    let zones = Some(named(ZONE)).filter(|zones| !zones.is_empty()).unwrap_or_else(|| ZONES.to_vec());
    // Who does not ask for spot does not get it.
    let asked = requirements.iter().any(|it| it["key"] == CAPACITY_TYPE);
    let prices = PRICES.iter().filter(|(capacity_type, _)| asked || *capacity_type == "on-demand");
    let types = types(pool);
    let mut offered = Vec::new();
    for (capacity_type, price) in prices {
        for zone in &zones {
            offered.extend(types.iter().map(|(instance_type, capacity)| Offering {
                instance_type: instance_type.clone(),
                zone: (*zone).to_owned(),
                capacity_type: (*capacity_type).to_owned(),
                capacity: capacity.clone(),
                price: price * u64::try_from(Quantity::of(&capacity["cpu"]).milli() / 1000).unwrap_or(1),
            }));
        }
    }
    offered
}

fn types(pool: &Object) -> Vec<(String, Value)> {
    let own = pool.annotation(ALLOCATABLE).and_then(|text| serde_json::from_str::<Value>(text).ok());
    if let Some(mut capacity) = own.filter(Value::is_object) {
        if capacity["pods"].is_null() {
            capacity["pods"] = json!("110");
        }
        return vec![("custom".to_owned(), capacity)];
    }
    let capacity = |cpus: u32, memory: u32, pods: u32| json!({"cpu": cpus.to_string(), "memory": format!("{memory}Gi"), "pods": pods.to_string()});
    CATALOGUE.map(|(name, cpus, memory, pods)| (name.to_owned(), capacity(cpus, memory, pods))).to_vec()
}
