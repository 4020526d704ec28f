//! Which workloads no node of a fleet can ever take, whatever else runs there: told before the runs, in the scheduler's words.

use std::collections::BTreeMap;

use embedded_cluster::controllers::scheduler::{Reason, Room, refusals};
use embedded_cluster::object::Object;
use embedded_cluster::resource::Kind;
use embedded_cluster::store::{Key, Store};
use serde_json::{Value, json};

use super::inventory::workload_kind;
use super::machines::Fleet;
use crate::chance::Chance;

/// A workload whose pods no node takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfit {
    /// `NAMESPACE/NAME`
    pub workload: String,
    /// Why, in the scheduler's words.
    pub why: String,
}

/// Those among the objects that are to have replicas and can have none.
pub fn misfits(objects: &[Value], fleet: &Fleet) -> Vec<Misfit> {
    let mut store = Store::default();
    for node in crate::fleet::Fleet::new(&fleet.groups(), Chance::of(0)).first() {
        let name = node["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        store.put(Key::new(Kind::Node, "", &name), node);
    }
    let rooms: Vec<Room> = store.list(Kind::Node, None).map(|node| Room::empty(node.clone())).collect();
    let wanted = |object: &&Value| workload_kind(object).is_some() && object["spec"]["replicas"] != 0;
    objects.iter().filter(wanted).filter_map(|object| Misfit::of(&store, &rooms, object)).collect()
}

impl Misfit {
    fn of(store: &Store, rooms: &[Room], workload: &Value) -> Option<Self> {
        let (metadata, template) = (&workload["metadata"], &workload["spec"]["template"]);
        let text = |key: &str| metadata[key].as_str().unwrap_or_default();
        let labels = &template["metadata"]["labels"];
        let pod = json!({"metadata": {"namespace": text("namespace"), "labels": labels}, "spec": template["spec"]});
        let refusals = refusals(store, rooms, &Object::from(pod));
        let for_ever = |reason: &Reason| !reason.ends_with_other_pods() && !reason.depends_on_others();
        if refusals.iter().any(|reasons| !reasons.iter().any(for_ever)) {
            return None;
        }
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        refusals.iter().flatten().for_each(|reason| *counts.entry(reason.to_string()).or_default() += 1);
        let counts: Vec<String> = counts.into_iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        let why = format!("0/{} nodes are available: {}", rooms.len(), counts.join(", "));
        Some(Self { workload: format!("{}/{}", text("namespace"), text("name")), why })
    }
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
        let gpu = json!({"containers": [{"resources": {"requests": {"nvidia.com/gpu": "1"}}}]});
        let objects = [
            object("plain", 9, json!({})),
            object("spot", 1, json!({"nodeSelector": {"karpenter.sh/capacity-type": "spot"}})),
            object("picky", 1, json!({"nodeSelector": {"disk": "fast"}})),
            object("gpu", 1, gpu),
            object("cache", 1, disk("20Gi")),
            object("hoard", 1, disk("2Ti")),
            object("idle", 0, json!({"nodeSelector": {"disk": "fast"}})),
            object("lonely", 1, with_its_like("podAffinity")),
            object("shy", 1, with_its_like("podAntiAffinity")),
        ];
        let found = misfits(&objects, &fleet);
        let told: Vec<(&str, &str)> = found.iter().map(|it| (it.workload.as_str(), it.why.as_str())).collect();
        let wanted = [
            ("shop/picky", "0/4 nodes are available: 4 node(s) didn't match Pod's node affinity/selector"),
            ("shop/gpu", "0/4 nodes are available: 4 Insufficient nvidia.com/gpu"),
            ("shop/hoard", "0/4 nodes are available: 4 Insufficient ephemeral-storage"),
        ];
        assert_eq!(told, wanted);
    }
}
