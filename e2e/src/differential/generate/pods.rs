//! The life of pods: created in all shapes, bound, reported on, patched, deleted with and without time.

use embedded_cluster::resource::Kind;
use serde_json::{Value, json};

use super::super::step::{MERGE, STRATEGIC, Sent, collection};
use super::mixed::deletion;
use super::object::{object, status};
use super::variation::{self, variation, vary};
use super::{Draft, path_of};

const LENGTH: usize = 65;

/// A pod that says by its own labels which others it means.
fn by_own_labels() -> Value {
    let term = json!({
        "topologyKey": "zone", "labelSelector": {"matchLabels": {"a": "b"}}, "matchLabelKeys": ["x", "none"],
        "mismatchLabelKeys": ["y"],
    });
    let spread = json!({
        "maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {}, "matchLabelKeys": ["x"],
    });
    json!({
        "metadata": {"name": "own", "labels": {"x": "1", "y": "2"}},
        "spec": {
            "affinity": {
                "podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "podAffinityTerm": term}]},
                "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]},
            },
            "topologySpreadConstraints": [spread], "containers": [{"name": "c", "image": "i"}],
        },
    })
}

pub(super) fn draft(draft: &mut Draft) {
    let row = Kind::Pod.resource();
    for name in ["a", "b"] {
        let pod = object(&mut draft.chance, Kind::Pod, name);
        draft.create(Kind::Pod, pod);
    }
    draft.post("create", collection(row) + "?dryRun=All", by_own_labels());
    while draft.steps.len() < LENGTH {
        let name = draft.name(Kind::Pod);
        let path = path_of(row, &name);
        match draft.chance.below(12) {
            0..=3 => {
                let mut pod = object(&mut draft.chance, Kind::Pod, &name);
                vary(&mut draft.chance, Kind::Pod, &mut pod);
                let options = *draft.chance.weighted(&[(3, "?dryRun=All"), (1, "")]);
                draft.post("create", collection(row) + options, pod);
            }
            4 => {
                let cost = *draft.chance.pick(&["+1", "01", "2147483648", "x", "-01", "-0", "-1", "00", ""]);
                let annotations = json!({"controller.kubernetes.io/pod-deletion-cost": cost});
                draft.merge(path, json!({"metadata": {"annotations": annotations}}));
            }
            5 => {
                let target = *draft.chance.pick(&["nope", "n1"]);
                let mut binding = json!({"metadata": {"name": name}, "target": {"kind": "Node", "name": target}});
                match draft.chance.below(4) {
                    0 => binding["metadata"]["uid"] = "x".into(),
                    1 => binding["metadata"]["annotations"] = json!({"x": "y"}),
                    2 => binding["metadata"]["labels"] = json!({"x": "y"}),
                    _ => {}
                }
                let options = *draft.chance.weighted(&[(3, ""), (1, "?dryRun=All")]);
                draft.post("bind", path + "/binding" + options, binding);
            }
            6 | 7 => {
                let patch = json!({"status": status(&mut draft.chance, Kind::Pod)});
                let media = *draft.chance.pick(&[MERGE, STRATEGIC]);
                draft.patch("status", path + "/status", media, patch);
            }
            8 => {
                let options = deletion(draft, &path);
                draft.delete(path, Some(options));
            }
            9 => {
                let patch = variation(&mut draft.chance, variation::PATCHES);
                draft.patch("strategic merge patch", path, STRATEGIC, patch);
            }
            10 => {
                let read = draft.get(&path);
                let mut merge = json!({"spec": object(&mut draft.chance, Kind::Pod, &name)["spec"].take()});
                if draft.chance.percent(50) {
                    merge = variation(&mut draft.chance, variation::PATCHES);
                }
                draft.put("update", path, Sent::Edited { of: read, merge });
            }
            _ => {
                draft.get(path);
            }
        }
    }
}
