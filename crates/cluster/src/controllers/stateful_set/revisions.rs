//! The revisions of a set's template: kept as `ControllerRevision` objects, the one that pods have and the one that they
//! are to get.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Member, is_controlled_by};
use crate::controllers::pods::{controller_reference, key};
use crate::controllers::portion::hash;
use crate::engine::Write;
use crate::object::Object;
use crate::resource::Kind;
use crate::store::Store;

/// The label that says of which revision a pod is.
pub(super) const REVISION: &str = "controller-revision-hash";

/// All of a set, oldest first, with the two that matter.
pub(super) struct Revisions<'s> {
    all: Vec<&'s Object>,
    pub(super) current: &'s Object,
    pub(super) update: &'s Object,
}

fn number(revision: &Object) -> i64 {
    revision.number("/revision").unwrap_or(0)
}

fn data(set: &Object) -> Value {
    let mut template = set.at("/spec/template").clone();
    template["$patch"] = json!("replace");
    json!({"spec": {"template": template}})
}

impl<'s> Revisions<'s> {
    /// As they are; or the write that has to be made first, so that the template as it is now has the highest number.
    pub(super) fn of(store: &'s Store, set: &'s Object) -> Result<Self, Box<Write>> {
        let ours = store.owned_by(set.uid()).filter(|(key, _)| key.kind == Kind::ControllerRevision);
        let mut all: Vec<&Object> =
            ours.map(|(_, revision)| &**revision).filter(|revision| is_controlled_by(revision, set)).collect();
        all.sort_by(|a, b| (number(a), a.created(), a.name()).cmp(&(number(b), b.created(), b.name())));
        let data = data(set);
        let Some(update) = all.iter().rev().find(|revision| *revision.at("/data") == data).copied() else {
            return Err(Box::new(Write::Create(created(set, &all, &data))));
        };
        let last = all.last().map_or(0, |last| number(last));
        if number(update) < last {
            let mut after = update.json().clone();
            after["revision"] = json!(last + 1);
            return Err(Box::new(Write::Replace { object: after, subresource: None }));
        }
        let name = set.text("/status/currentRevision").unwrap_or_default();
        let current = all.iter().find(|revision| revision.name() == name).copied().unwrap_or(update);
        Ok(Self { all, current, update })
    }

    /// The oldest ones that no pod has and that are more than are to be kept.
    pub(super) fn surplus(&self, set: &Object, pods: &[Member<'_>]) -> Vec<Write> {
        let mut live: BTreeSet<&str> = pods.iter().filter_map(|pod| pod.object.label(REVISION)).collect();
        live.extend([self.current.name(), self.update.name()]);
        let dead: Vec<&&Object> = self.all.iter().filter(|revision| !live.contains(revision.name())).collect();
        let kept = usize::try_from(set.number("/spec/revisionHistoryLimit").unwrap_or(10)).unwrap_or(0);
        let surplus = dead.iter().take(dead.len().saturating_sub(kept));
        surplus.filter_map(|revision| Some(crate::controllers::pods::delete(&key(revision)?, revision))).collect()
    }
}

/// The template of a revision.
pub(super) fn template(revision: &Object) -> Value {
    let mut template = revision.at("/data/spec/template").clone();
    if let Some(fields) = template.as_object_mut() {
        fields.remove("$patch");
    }
    template
}

fn created(set: &Object, all: &[&Object], data: &Value) -> Value {
    let hash = hash(data);
    let mut labels = set.at("/spec/template/metadata/labels").clone();
    labels["controller.kubernetes.io/hash"] = json!(hash);
    let mut revision = json!({
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {
            "namespace": set.namespace(), "name": format!("{}-{hash}", set.name()), "labels": labels,
            "ownerReferences": [controller_reference(set)],
        },
        "data": data,
        "revision": all.last().map_or(0, |last| number(last)) + 1,
    });
    if !set.at("/metadata/annotations").is_null() {
        revision["metadata"]["annotations"] = set.at("/metadata/annotations").clone();
    }
    revision
}
