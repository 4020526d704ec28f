//! Revisions: which ReplicaSet has which template, what it is called, what it is told of the Deployment, and how many old
//! ones are kept.

use serde_json::{Value, json};

use super::{Rollout, delete, key, replicas, scaling};
use crate::controllers::pods::{controller_reference, write_object};
use crate::controllers::portion::hash;
use crate::engine::{Act, Write};
use crate::object::Object;

const HASH: &str = "pod-template-hash";
pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
const HISTORY: &str = "deployment.kubernetes.io/revision-history";

/// Annotations of a Deployment that do not go to its ReplicaSets.
const OWN: &[&str] = &[
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    HISTORY,
    scaling::DESIRED,
    scaling::MAXIMUM,
    "deprecated.deployment.rollback.to",
];

/// Whether a ReplicaSet has this template, apart from the label that tells it from others.
pub(super) fn has_template(set: &Object, template: &Value) -> bool {
    let mut own = set.at("/spec/template").clone();
    if let Some(labels) = own["metadata"]["labels"].as_object_mut() {
        labels.remove(HASH);
    }
    own == *template
}

fn revision(object: &Object) -> i64 {
    object.annotation(REVISION).and_then(|revision| revision.parse().ok()).unwrap_or(0)
}

impl Rollout<'_> {
    /// The revision that the template as it is now has, or will have.
    fn next_revision(&self) -> i64 {
        self.old.iter().map(|set| revision(set)).max().unwrap_or(0) + 1
    }

    /// Creates the ReplicaSet of the template as it is now.
    pub(super) fn created(&self) -> Act {
        let template = self.deployment.at("/spec/template");
        let hash = hash(template);
        let (mut template, mut selector) = (template.clone(), self.deployment.at("/spec/selector").clone());
        template["metadata"]["labels"][HASH] = json!(hash);
        selector["matchLabels"][HASH] = json!(hash);
        let name = format!("{}-{hash}", self.deployment.name());
        let mut set = json!({
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "metadata": {
                "namespace": self.deployment.namespace(), "name": name, "labels": template["metadata"]["labels"],
                "ownerReferences": [controller_reference(self.deployment)],
            },
            "spec": {"replicas": self.first_size(), "selector": selector, "template": template},
        });
        if let Some(seconds) = self.deployment.number("/spec/minReadySeconds").filter(|seconds| *seconds > 0) {
            set["spec"]["minReadySeconds"] = json!(seconds);
        }
        self.annotate(&mut set);
        self.put_scale(&mut set);
        Act { batches: vec![vec![Write::Create(set)], self.announced(&name)], again: None }
    }

    /// Copies the Deployment's annotations to a ReplicaSet, and numbers it.
    fn annotate(&self, set: &mut Value) {
        let before = Object::from(set.clone());
        let copied = self.deployment.at("/metadata/annotations").as_object().into_iter().flatten();
        for (key, value) in copied.filter(|(key, _)| !OWN.contains(&key.as_str())) {
            set["metadata"]["annotations"][key] = value.clone();
        }
        let next = self.next_revision();
        if revision(&before) >= next {
            return;
        }
        set["metadata"]["annotations"][REVISION] = json!(next.to_string());
        if let Some(was) = before.annotation(REVISION) {
            let history =
                before.annotation(HISTORY).map_or_else(|| was.to_owned(), |history| format!("{history},{was}"));
            set["metadata"]["annotations"][HISTORY] = json!(history);
        }
    }

    /// Brings the annotations and the readiness time of the new ReplicaSet up to date.
    pub(super) fn annotated(&self, new: &Object) -> Option<Write> {
        let mut after = new.json().clone();
        self.annotate(&mut after);
        let seconds = self.deployment.number("/spec/minReadySeconds").unwrap_or(0);
        if new.number("/spec/minReadySeconds").unwrap_or(0) != seconds {
            after["spec"]["minReadySeconds"] = json!(seconds);
        }
        write_object(new, after).pop()
    }

    /// The revision that the Deployment itself is to show.
    pub(super) fn shown_revision(&self) -> Option<String> {
        self.new.map(|new| revision(new).to_string())
    }

    /// The number of the ReplicaSet that is about to be created.
    pub(super) fn coming_revision(&self) -> String {
        self.next_revision().to_string()
    }

    /// The deletions that leave as many empty old ReplicaSets as are to be kept.
    pub(super) fn history(&self) -> Vec<Write> {
        let kept = usize::try_from(self.deployment.number("/spec/revisionHistoryLimit").unwrap_or(10)).unwrap_or(0);
        let mut old: Vec<&Object> = self.old.iter().copied().filter(|set| set.deletion().is_none()).collect();
        old.sort_by_key(|set| revision(set));
        let surplus = old.len().saturating_sub(kept);
        let empty = |set: &&Object| {
            let seen = set.number("/status/observedGeneration").unwrap_or(0) >= set.generation();
            replicas(set) == 0 && set.number("/status/replicas").unwrap_or(0) == 0 && seen
        };
        old.into_iter().take(surplus).filter(empty).filter_map(|set| Some(delete(&key(set)?, set))).collect()
    }
}
