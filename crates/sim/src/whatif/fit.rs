//! Which workloads no node of a fleet can ever take, whatever else runs there: told before the runs, in the scheduler's words.

use std::collections::{BTreeMap, BTreeSet};

use embedded_cluster::controllers::scheduler::{Reason, Room, refusals};
use embedded_cluster::object::Object;
use embedded_cluster::resource::Kind;
use embedded_cluster::store::{Key, Store};
use serde_json::{Value, json};

use super::inventory::workload_kind;
use super::machines::Fleet;
use crate::chance::Chance;
use crate::fleet::CAPACITY_TYPE;
use crate::scenario::Capacity;

/// A workload whose pods no node takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfit {
    /// `NAMESPACE/NAME`
    pub workload: String,
    /// Why, in the scheduler's words, and which labels it asks for that no node has.
    pub why: String,
    /// What can be done about it.
    pub advice: &'static str,
}

/// What can be done where nodes have other labels.
const NO_SUCH_LABELS: &str = "the nodes of a fleet are labelled as Karpenter does it and cannot be given other labels; take what asks \
                              for others out of the manifest, or leave the workload out";
/// What can be done otherwise.
const OTHER_FLEET: &str = "change the fleet, or leave it out";

/// What the nodes of a fleet make of workloads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fits {
    /// Those that no node takes.
    pub misfits: Vec<Misfit>,
    /// Those that only nodes of one type take, of two that there are.
    pub only: BTreeMap<String, Capacity>,
}

/// Of those among the objects that are to have replicas: whose pods can be nowhere, or on one type alone, whatever else runs.
pub fn fits(objects: &[Value], fleet: &Fleet) -> Fits {
    let mut store = Store::default();
    for node in crate::fleet::Fleet::new(&fleet.groups(), Chance::of(0)).first() {
        let name = node["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        store.put(Key::new(Kind::Node, "", &name), node);
    }
    let rooms: Vec<Room> = store.list(Kind::Node, None).map(|node| Room::empty(node.clone())).collect();
    let mut fits = Fits::default();
    for object in objects {
        if workload_kind(object).is_none() || object["spec"]["replicas"] == 0 {
            continue;
        }
        let taken = Taken::of(&store, &rooms, object);
        match (taken.misfit(&rooms), taken.only(&rooms)) {
            (Some(misfit), _) => fits.misfits.push(misfit),
            (None, Some(capacity)) => drop(fits.only.insert(taken.workload, capacity)),
            (None, None) => {}
        }
    }
    fits
}

/// What each node says to a pod of a workload.
struct Taken<'w> {
    workload: String,
    pod: &'w Value,
    refusals: Vec<Vec<Reason>>,
}

impl<'w> Taken<'w> {
    fn of(store: &Store, rooms: &[Room], workload: &'w Value) -> Self {
        let (metadata, template) = (&workload["metadata"], &workload["spec"]["template"]);
        let text = |key: &str| metadata[key].as_str().unwrap_or_default();
        let labels = &template["metadata"]["labels"];
        let pod = json!({"metadata": {"namespace": text("namespace"), "labels": labels}, "spec": template["spec"]});
        let refusals = refusals(store, rooms, &Object::from(pod));
        Self { workload: format!("{}/{}", text("namespace"), text("name")), pod: &template["spec"], refusals }
    }

    /// Whether a node never takes one, by its reasons.
    fn is_for_ever(reasons: &[Reason]) -> bool {
        reasons.iter().any(|reason| !reason.ends_with_other_pods() && !reason.depends_on_others())
    }

    fn misfit(&self, rooms: &[Room]) -> Option<Misfit> {
        let Self { workload, pod, refusals } = self;
        if refusals.iter().any(|reasons| !Self::is_for_ever(reasons)) {
            return None;
        }
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        refusals.iter().flatten().for_each(|reason| *counts.entry(reason.to_string()).or_default() += 1);
        let counts: Vec<String> = counts.into_iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        let why = format!("0/{} nodes are available: {}", rooms.len(), counts.join(", "));
        let is_wanted_elsewhere = refusals.iter().flatten().any(|reason| *reason == Reason::NotWanted);
        let is_nowhere = |asked: &Asked<'_>| is_wanted_elsewhere && rooms.iter().all(|room| !asked.is_on(&room.node));
        let unknown: BTreeSet<String> = asked_labels(pod).filter(is_nowhere).map(|Asked(label, ..)| label).collect();
        let unknown: Vec<String> = unknown.into_iter().collect();
        let (why, advice) = if unknown.is_empty() {
            (why, OTHER_FLEET)
        } else {
            (format!("{why}; no node has the label {}", unknown.join(", ")), NO_SUCH_LABELS)
        };
        Some(Misfit { workload: workload.clone(), why, advice })
    }

    fn only(&self, rooms: &[Room]) -> Option<Capacity> {
        let type_of = |room: &Room| match room.node.label(CAPACITY_TYPE) {
            Some("spot") => Capacity::Spot,
            _ => Capacity::OnDemand,
        };
        let of = |wanted: Capacity| rooms.iter().zip(&self.refusals).filter(move |(room, _)| type_of(room) == wanted);
        let takes = |wanted| of(wanted).any(|(_, reasons)| !Self::is_for_ever(reasons));
        let is_there = |wanted| of(wanted).next().is_some();
        let other = [(Capacity::Spot, Capacity::OnDemand), (Capacity::OnDemand, Capacity::Spot)];
        let mut alone = other.into_iter().filter(|(one, other)| takes(*one) && is_there(*other) && !takes(*other));
        alone.next().map(|(one, _)| one)
    }
}

/// A label that is asked for, as it is shown, with its key and the values that will do; any, if there are none.
struct Asked<'p>(String, &'p str, Vec<&'p str>);

impl Asked<'_> {
    fn is_on(&self, node: &Object) -> bool {
        let Self(_, key, values) = self;
        node.label(key).is_some_and(|value| values.is_empty() || values.contains(&value))
    }
}

/// The labels that a pod's node selector and its required affinity ask for.
fn asked_labels(pod: &Value) -> impl Iterator<Item = Asked<'_>> {
    let selector = pod["nodeSelector"].as_object().into_iter().flatten();
    let selected = selector.filter_map(|(key, value)| {
        let value = value.as_str()?;
        Some(Asked(format!("{key}={value}"), key, vec![value]))
    });
    let required = &pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    let terms = required["nodeSelectorTerms"].as_array().into_iter().flatten();
    let expressions = terms.flat_map(|term| term["matchExpressions"].as_array().into_iter().flatten());
    let wanted = expressions.filter_map(|expression| {
        let key = expression["key"].as_str()?;
        let values: Vec<&str> =
            expression["values"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        match expression["operator"].as_str()? {
            "In" => Some(Asked(format!("{key}={}", values.join("|")), key, values)),
            "Exists" | "Gt" | "Lt" => Some(Asked(key.to_owned(), key, Vec::new())),
            _ => None,
        }
    });
    selected.chain(wanted)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::whatif::{Need, Wish};

    #[test]
    fn only_what_no_node_can_ever_take_is_a_misfit() {
        let wish = Wish {
            nodes: Some(4),
            spot_share: None,
            cpu: None,
            memory: None,
            zones: None,
            replace_after: Duration::ZERO,
            seen: Vec::new(),
        };
        let fleet = Fleet::of(&wish, &[] as &[Need]).unwrap();
        let object = |name: &str, replicas: u32, pod: Value| {
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"namespace": "shop", "name": name},
                "spec": {"replicas": replicas, "template": {"metadata": {"labels": {"app": name}}, "spec": pod}}})
        };
        let with_its_like = |kind: &str| {
            let term =
                json!({"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "other"}}});
            json!({"affinity": {(kind): {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}})
        };
        let disk = |amount: &str| json!({"containers": [{"resources": {"requests": {"ephemeral-storage": amount}}}]});
        let expressions = json!([{"key": "kubernetes.io/arch", "operator": "In", "values": ["arm64", "s390x"]},
            {"key": "kubernetes.io/os", "operator": "In", "values": ["linux"]},
            {"key": "example.com/rack", "operator": "Exists"}]);
        let choosy = json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchExpressions": expressions}]}}}});
        let gpu = json!({"containers": [{"resources": {"requests": {"nvidia.com/gpu": "1"}}}]});
        let objects = [
            object("plain", 9, json!({})),
            object("spot", 1, json!({"nodeSelector": {"karpenter.sh/capacity-type": "spot"}})),
            object("picky", 1, json!({"nodeSelector": {"disk": "fast"}})),
            object("choosy", 1, choosy),
            object("gpu", 1, gpu),
            object("cache", 1, disk("20Gi")),
            object("hoard", 1, disk("2Ti")),
            object("idle", 0, json!({"nodeSelector": {"disk": "fast"}})),
            object("lonely", 1, with_its_like("podAffinity")),
            object("shy", 1, with_its_like("podAntiAffinity")),
        ];
        let Fits { misfits: found, only } = fits(&objects, &fleet);
        assert_eq!(only, BTreeMap::from([("shop/spot".to_owned(), Capacity::Spot)]));
        let told: Vec<(&str, &str)> = found.iter().map(|it| (it.workload.as_str(), it.why.as_str())).collect();
        let wanted = [
            (
                "shop/picky",
                "0/4 nodes are available: 4 node(s) didn't match Pod's node affinity/selector; no node has the label disk=fast",
            ),
            (
                "shop/choosy",
                "0/4 nodes are available: 4 node(s) didn't match Pod's node affinity/selector; no node has the label \
                 example.com/rack, kubernetes.io/arch=arm64|s390x",
            ),
            ("shop/gpu", "0/4 nodes are available: 4 Insufficient nvidia.com/gpu"),
            ("shop/hoard", "0/4 nodes are available: 4 Insufficient ephemeral-storage"),
        ];
        assert_eq!(told, wanted);
        let advice: Vec<&str> = found.iter().map(|it| it.advice).collect();
        assert_eq!(advice, [NO_SUCH_LABELS, NO_SUCH_LABELS, OTHER_FLEET, OTHER_FLEET]);
    }
}
