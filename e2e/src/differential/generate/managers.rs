//! Who owns which field: two appliers that disagree, and others who write between.

use embedded_cluster::resource::Kind;
use serde_json::{Value, json};

use super::super::step::{APPLY, MERGE, STRATEGIC, Sent};
use super::object::{object, status};
use super::{Draft, path_of};

const LENGTH: usize = 60;

pub(super) fn draft(draft: &mut Draft) {
    let kinds = [Kind::ConfigMap, Kind::Deployment, Kind::Pod, Kind::Node, Kind::PodDisruptionBudget, Kind::Lease];
    let kind = *draft.chance.pick(&kinds);
    let name = draft.name(kind);
    let row = kind.resource();
    let path = path_of(row, &name);
    while draft.steps.len() < LENGTH {
        match draft.chance.below(10) {
            0..=4 => {
                let mut patch = applied(draft, kind, &name);
                patch["apiVersion"] = row.api_version().into();
                patch["kind"] = row.name.into();
                let query = *draft.chance.weighted(&[
                    (4, "?fieldManager=x"),
                    (4, "?fieldManager=y"),
                    (3, "?fieldManager=y&force=true"),
                    (1, "?fieldManager=x&dryRun=All"),
                    (1, ""),
                ]);
                draft.patch("apply", path.clone() + query, APPLY, patch);
            }
            5 => {
                let patch = applied(draft, kind, &name);
                let query = *draft.chance.pick(&["", "?fieldManager=x", "?fieldManager=z"]);
                draft.patch("merge patch", path.clone() + query, MERGE, patch);
            }
            6 => {
                let patch = applied(draft, kind, &name);
                draft.patch("strategic merge patch", path.clone(), STRATEGIC, patch);
            }
            7 => {
                let read = draft.get(&path);
                let merge = applied(draft, kind, &name);
                draft.put("update", path.clone() + "?fieldManager=u", Sent::Edited { of: read, merge });
            }
            8 if row.subresources.contains(&"status") => {
                let status = json!({"status": status(&mut draft.chance, kind)});
                draft.patch("status", path.clone() + "/status?fieldManager=s", MERGE, status);
            }
            9 if row.subresources.contains(&"scale") => {
                let replicas = *draft.chance.pick(&[0, 1, 2]);
                draft.patch("scale", path.clone() + "/scale", MERGE, json!({"spec": {"replicas": replicas}}));
            }
            _ => {
                draft.get(path.clone());
            }
        }
    }
}

/// Some of what an object of the kind may hold.
fn applied(draft: &mut Draft, kind: Kind, name: &str) -> Value {
    let mut object = object(&mut draft.chance, kind, name);
    let fields = object.as_object_mut().expect("an object");
    fields.remove("status");
    if draft.chance.percent(30) {
        let one = fields.keys().next().cloned().unwrap_or_default();
        fields.retain(|key, _| key == "metadata" || *key == one);
    }
    if draft.chance.percent(10) {
        fields["metadata"].as_object_mut().expect("an object").remove("name");
    }
    object
}
