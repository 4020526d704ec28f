//! Watches: from now, from a revision of the past, of a selection, with initial events and the bookmark that ends them;
//! while objects come, change, leave the selection and go.

use embedded_cluster::resource::Kind;
use serde_json::{Value, json};

use super::super::step::{collection, encoded};
use super::object::{object, status};
use super::{Draft, TABLE, path_of};

const LENGTH: usize = 50;

pub(super) fn draft(draft: &mut Draft) {
    let kind = *draft.chance.pick(&[Kind::ConfigMap, Kind::Pod, Kind::Deployment, Kind::Node, Kind::Lease]);
    let mut written = Vec::new();
    for name in ["a", "b"] {
        let name = if kind.resource().namespaced { name.to_owned() } else { format!("{{ns}}-{name}") };
        let object = object(&mut draft.chance, kind, &name);
        written.push(draft.create(kind, object));
    }
    while draft.steps.len() < LENGTH {
        match draft.chance.below(10) {
            0 | 1 => watch(draft, kind, &written),
            2..=8 => written.push(change(draft, kind)),
            _ => {
                let name = draft.name(kind);
                draft.delete(path_of(kind.resource(), &name), Some(json!({"gracePeriodSeconds": 0})));
            }
        }
    }
}

fn change(draft: &mut Draft, kind: Kind) -> usize {
    let name = draft.name(kind);
    let path = path_of(kind.resource(), &name);
    match draft.chance.below(6) {
        0 | 1 => {
            let object = object(&mut draft.chance, kind, &name);
            draft.create(kind, object)
        }
        2 if kind.resource().subresources.contains(&"status") => {
            let status = json!({"status": status(&mut draft.chance, kind)});
            draft.patch("status", path + "/status", super::super::step::MERGE, status)
        }
        3 => draft.merge(path, json!({"metadata": {"finalizers": null}})),
        _ => {
            let value = draft.chance.pick(&[json!("a"), json!("b"), Value::Null]).clone();
            draft.merge(path, json!({"metadata": {"labels": {"app": value}}}))
        }
    }
}

/// Selections, and what an object has to have to be seen.
const SELECTIONS: [(&str, &str); 6] = [
    ("", "{}"),
    ("", "{}"),
    ("app", r#"{"metadata":{"labels":{"app":"m"}}}"#),
    ("app=a", r#"{"metadata":{"labels":{"app":"a"}}}"#),
    ("app!=a", r#"{"metadata":{"labels":{"app":null}}}"#),
    ("app in (a,b)", r#"{"metadata":{"labels":{"app":"b"}}}"#),
];

/// Everything that is there first, and a mark where it ends.
const INITIAL: &str = "&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";

fn watch(draft: &mut Draft, kind: Kind, written: &[usize]) {
    let row = kind.resource();
    let path = collection(row);
    let (selector, seen) = *draft.chance.pick(&SELECTIONS);
    let mut seen: Value = serde_json::from_str(seen).expect("a table of JSON");
    let mut labels = if row.namespaced { selector.to_owned() } else { format!("seq={{ns}},{selector}") };
    labels = labels.trim_end_matches(',').to_owned();
    let mut query = if labels.is_empty() { String::new() } else { format!("&labelSelector={}", encoded(&labels)) };
    if kind == Kind::Pod && draft.chance.percent(25) {
        let (field, mark) = *draft.chance.pick(&[
            ("status.phase=Pending", "{}"),
            ("spec.nodeName=nope", r#"{"spec":{"nodeName":"nope"}}"#),
            ("status.phase!=Running", "{}"),
        ]);
        query = format!("{query}&fieldSelector={}", encoded(field));
        super::super::step::merge_into(&mut seen, &serde_json::from_str(mark).expect("a table of JSON"));
    }
    let at = *draft.chance.pick(written);
    let from = format!("&resourceVersion=${{{at}/metadata/resourceVersion}}");
    // From now on: whoever says so is told from a cache, which has to know of now.
    let list = draft.list(path + if row.namespaced { "" } else { "?labelSelector=seq%3D{ns}" });
    let now = format!("&resourceVersion=${{{list}/metadata/resourceVersion}}");
    let how = match draft.chance.below(8) {
        0 => String::new(),
        1 => "&resourceVersion=0".to_owned(),
        2 => INITIAL.to_owned(),
        3 => INITIAL.to_owned() + &from,
        4 => format!("&sendInitialEvents=false&resourceVersionMatch=NotOlderThan{from}"),
        5 => now,
        6 => from + "&allowWatchBookmarks=true",
        _ => from,
    };
    draft.watch(kind, &(how + &query), &seen);
    if draft.chance.percent(15) {
        let is_even = draft.steps.len().is_multiple_of(2);
        draft.last().accept =
            if is_even { TABLE } else { "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1" };
    }
}
