//! Everything in turn on few objects of all kinds, so that each request meets what the ones before left.

use embedded_cluster::resource::Kind;
use serde_json::{Value, json};

use super::super::step::{APPLY, MERGE, OPERATIONS, STRATEGIC, Sent, collection};
use super::object::{object, status};
use super::variation::{self, variation, vary};
use super::{Draft, path_of, with_subresource};

const LENGTH: usize = 60;

pub(super) fn draft(draft: &mut Draft) {
    let kinds = [draft.kind(), draft.kind(), draft.kind(), draft.kind()];
    while draft.steps.len() < LENGTH {
        let kind = *draft.chance.pick(&kinds);
        let act = *draft.chance.weighted::<fn(&mut Draft, Kind)>(&[
            (20, create),
            (8, replace),
            (8, conflict),
            (14, merge),
            (12, strategic),
            (6, operations),
            (8, apply),
            (8, report),
            (5, scale),
            (4, evict),
            (2, bind),
            (9, delete),
            (3, read),
            (4, list),
        ]);
        act(draft, kind);
    }
}

fn create(draft: &mut Draft, kind: Kind) {
    let name = draft.name(kind);
    let mut object = object(&mut draft.chance, kind, &name);
    if draft.chance.percent(10) {
        vary(&mut draft.chance, kind, &mut object);
    }
    if draft.chance.percent(5) {
        object["metadata"]["name"].take();
        object["metadata"]["generateName"] = if kind.resource().namespaced { "g-" } else { "{ns}-g-" }.into();
    }
    let path = collection(kind.resource()) + draft.options();
    draft.post("create", path, object);
}

/// Mostly nothing; else the object's version or uid, or others.
fn fences(draft: &mut Draft, read: usize) -> Value {
    let chance = &mut draft.chance;
    let mut metadata = json!({});
    if chance.percent(30) {
        let there = chance.percent(70);
        metadata["resourceVersion"] =
            if there { format!("${{{read}/metadata/resourceVersion}}") } else { "1".to_owned() }.into();
    }
    if chance.percent(20) {
        let there = chance.percent(70);
        metadata["uid"] = if there { format!("${{{read}/metadata/uid}}") } else { "x".to_owned() }.into();
    }
    metadata
}

/// A patch that has something to do with the kind.
fn part(draft: &mut Draft, kind: Kind) -> Value {
    let chance = &mut draft.chance;
    if chance.percent(50) {
        return variation(chance, variation::PATCHES);
    }
    let mut part = object(chance, kind, "");
    part["metadata"]["name"].take();
    if chance.percent(40) {
        vary(chance, kind, &mut part);
    }
    let fields = part.as_object_mut().expect("an object");
    if chance.percent(50) {
        fields.remove("metadata");
    }
    fields.into_iter().filter(|(_, value)| !value.is_null()).map(|(key, value)| (key.clone(), value.take())).collect()
}

fn fenced(draft: &mut Draft, path: &str, mut patch: Value) -> Value {
    if draft.chance.percent(60) {
        return patch;
    }
    let read = draft.get(path);
    let fences = fences(draft, read);
    if patch["metadata"].is_null() {
        patch["metadata"] = json!({});
    }
    super::super::step::merge_into(&mut patch, &json!({"metadata": fences}));
    patch
}

fn replace(draft: &mut Draft, kind: Kind) {
    let name = draft.name(kind);
    let path = path_of(kind.resource(), &name);
    let read = draft.get(&path);
    let body = if draft.chance.percent(60) {
        Sent::Edited { of: read, merge: part(draft, kind) }
    } else {
        let mut object = object(&mut draft.chance, kind, &name);
        let fences = fences(draft, read);
        super::super::step::merge_into(&mut object, &json!({"metadata": fences}));
        Sent::Json(object)
    };
    let options = draft.options();
    draft.put("update", path + options, body);
}

/// An update of what somebody else changed meanwhile.
fn conflict(draft: &mut Draft, kind: Kind) {
    let name = draft.name(kind);
    let path = path_of(kind.resource(), &name);
    let read = draft.get(&path);
    let value = format!("{}", draft.chance.below(1000));
    draft.merge(&path, json!({"metadata": {"annotations": {"meanwhile": value}}}));
    let merge = part(draft, kind);
    draft.put("conflicting update", path, Sent::Edited { of: read, merge });
}

fn merge(draft: &mut Draft, kind: Kind) {
    let name = draft.name(kind);
    let path = path_of(kind.resource(), &name);
    let patch = part(draft, kind);
    let patch = fenced(draft, &path, patch);
    let options = draft.options();
    draft.merge(path + options, patch);
}

fn strategic(draft: &mut Draft, kind: Kind) {
    let name = draft.name(kind);
    let path = path_of(kind.resource(), &name);
    let patch =
        if draft.chance.percent(40) { variation(&mut draft.chance, variation::DIRECTIVES) } else { part(draft, kind) };
    let patch = fenced(draft, &path, patch);
    let options = draft.options();
    draft.patch("strategic merge patch", path + options, STRATEGIC, patch);
}

fn operations(draft: &mut Draft, kind: Kind) {
    let name = draft.name(kind);
    let patch = variation(&mut draft.chance, variation::OPERATIONS);
    let path = path_of(kind.resource(), &name) + draft.options();
    draft.patch("JSON patch", path, OPERATIONS, patch);
}

fn apply(draft: &mut Draft, kind: Kind) {
    let name = draft.name(kind);
    let row = kind.resource();
    let mut patch = object(&mut draft.chance, kind, &name);
    let fields = patch.as_object_mut().expect("an object");
    fields.remove("status");
    if draft.chance.percent(20) {
        fields.remove("spec");
    }
    patch["apiVersion"] = row.api_version().into();
    patch["kind"] = row.name.into();
    let manager = *draft.chance.pick(&["x", "y"]);
    let force = *draft.chance.pick(&["", "&force=true"]);
    let path = format!("{}?fieldManager={manager}{force}", path_of(row, &name));
    draft.patch("apply", path, APPLY, patch);
}

fn report(draft: &mut Draft, kind: Kind) {
    let reporting = with_subresource("status");
    let kind = if reporting.contains(&kind) { kind } else { *draft.chance.pick(&reporting) };
    let name = draft.name(kind);
    let path = path_of(kind.resource(), &name);
    let mut patch = json!({"status": status(&mut draft.chance, kind)});
    if draft.chance.percent(20) {
        let all = object(&mut draft.chance, kind, &name);
        patch["metadata"] = all["metadata"].clone();
    }
    let patch = fenced(draft, &path, patch);
    if draft.chance.percent(25) {
        let read = draft.get(format!("{path}/status"));
        draft.put("status", path + "/status", Sent::Edited { of: read, merge: patch });
        return;
    }
    let media = *draft.chance.pick(&[MERGE, STRATEGIC]);
    draft.patch("status", path + "/status", media, patch);
}

fn scale(draft: &mut Draft, kind: Kind) {
    let scaled = with_subresource("scale");
    let kind = if scaled.contains(&kind) { kind } else { *draft.chance.pick(&scaled) };
    let name = draft.name(kind);
    let path = path_of(kind.resource(), &name) + "/scale";
    let read = draft.request("scale", "GET", &*path, Sent::Nothing);
    let replicas =
        draft.chance.pick(&[json!(0), json!(1), json!(2), json!(5), json!(-1), json!("x"), Value::Null]).clone();
    let mut scale = json!({"metadata": fences(draft, read), "spec": {"replicas": replicas}});
    let options = draft.options();
    match draft.chance.below(5) {
        0 => draft.patch("scale", path + options, MERGE, scale),
        1 => draft.patch("scale", path + options, STRATEGIC, scale),
        2 => draft.put("scale", path + options, Sent::Edited { of: read, merge: scale }),
        3 => {
            let operations = json!([{"op": "replace", "path": "/spec/replicas", "value": replicas}]);
            draft.patch("scale", path + options, OPERATIONS, operations)
        }
        _ => {
            scale["metadata"]["name"] = (*draft.chance.pick(&[name.as_str(), name.as_str(), "z", ""])).into();
            if draft.chance.percent(20) {
                scale["metadata"]["namespace"] = (*draft.chance.pick(&["{ns}", "zz"])).into();
            }
            draft.put("scale", path + options, Sent::Json(scale))
        }
    };
}

/// Options of a deletion: of those there are, some.
pub(super) fn deletion(draft: &mut Draft, path: &str) -> Value {
    let chance = &mut draft.chance;
    let mut options = json!({});
    if chance.percent(30) {
        options["gracePeriodSeconds"] = (*chance.pick(&[0, 1, 5, 30, 100, -1])).into();
    }
    if chance.percent(25) {
        options["propagationPolicy"] = (*chance.pick(&["Foreground", "Background", "Orphan", "X"])).into();
    }
    if chance.percent(5) {
        options["orphanDependents"] = (*chance.pick(&[true, false])).into();
    }
    if chance.percent(10) {
        options["dryRun"] = json!(["All"]);
    }
    if chance.percent(30) {
        let read = draft.get(path);
        let fences = fences(draft, read);
        if fences != json!({}) {
            options["preconditions"] = fences;
        }
    }
    options
}

fn evict(draft: &mut Draft, _: Kind) {
    let name = draft.name(Kind::Pod);
    let path = path_of(Kind::Pod.resource(), &name);
    let options = deletion(draft, &path);
    draft.post("evict", path + "/eviction", json!({"metadata": {"name": name}, "deleteOptions": options}));
}

fn bind(draft: &mut Draft, _: Kind) {
    let name = draft.name(Kind::Pod);
    let path = path_of(Kind::Pod.resource(), &name);
    let target = draft
        .chance
        .pick(&[
            json!({"kind": "Node", "name": "nope"}),
            json!({"kind": "Node", "name": "{ns}-a"}),
            json!({"name": "nope"}),
            json!({"kind": "X", "name": "nope"}),
            json!({"kind": "Node"}),
        ])
        .clone();
    draft.post("bind", path + "/binding", json!({"metadata": {"name": name}, "target": target}));
}

fn delete(draft: &mut Draft, kind: Kind) {
    // Admission looks for it in a cache of its own.
    let name = draft.name(kind);
    let path = path_of(kind.resource(), &name);
    match draft.chance.below(10) {
        0 if kind.resource().namespaced && kind != Kind::ServiceAccount => {
            let selector =
                *draft.chance.pick(&["", "?labelSelector=app", "?dryRun=All", "?fieldSelector=metadata.name%3Da"]);
            draft.request("delete collection", "DELETE", collection(kind.resource()) + selector, Sent::Nothing);
        }
        1 => {
            let query = *draft.chance.pick(&["?gracePeriodSeconds=0", "?propagationPolicy=Foreground", "?dryRun=All"]);
            draft.delete(path + query, None);
        }
        _ => {
            let options = deletion(draft, &path);
            draft.delete(path, Some(options));
        }
    }
}

fn read(draft: &mut Draft, kind: Kind) {
    let name = draft.name(kind);
    draft.get(path_of(kind.resource(), &name));
}

fn list(draft: &mut Draft, kind: Kind) {
    let row = kind.resource();
    let path = collection(row);
    if row.namespaced {
        let selector = *draft.chance.pick(&[
            "",
            "?labelSelector=app",
            "?labelSelector=app%3Da",
            "?fieldSelector=metadata.name%3Da",
        ]);
        draft.list(path + selector);
    } else {
        draft.list(path + "?labelSelector=seq%3D{ns}");
    }
}
