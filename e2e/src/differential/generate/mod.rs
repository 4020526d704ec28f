//! Makes sequences of requests from seeds. What a server answers to them is not known here.

mod bodies;
mod budgets;
mod invalid;
mod lists;
mod managers;
mod mixed;
mod object;
mod past;
mod pods;
mod variation;
mod watches;

use embedded_cluster::resource::{Kind, RESOURCES, Resource};
use serde_json::{Value, json};

use super::chance::Chance;
use super::step::{JSON, MARK, MERGE, Reading, Sent, Step, collection};

/// The kinds that are spoken of, the frequent ones more than once. Custom resources are another server's matter.
const KINDS: &[(usize, Kind)] = &[
    (3, Kind::ConfigMap),
    (6, Kind::Pod),
    (4, Kind::Deployment),
    (2, Kind::ReplicaSet),
    (2, Kind::StatefulSet),
    (2, Kind::PodDisruptionBudget),
    (1, Kind::Lease),
    (1, Kind::Secret),
    (1, Kind::ServiceAccount),
    (3, Kind::Node),
    (1, Kind::HorizontalPodAutoscaler),
    (1, Kind::Event),
    (1, Kind::ControllerRevision),
    (1, Kind::ResourceQuota),
    (1, Kind::MutatingWebhookConfiguration),
    (1, Kind::Namespace),
];

/// As kubectl asks for what it shows.
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

/// What sequences are about, in turn.
const THEMES: &[fn(&mut Draft)] = &[
    mixed::draft,
    pods::draft,
    mixed::draft,
    budgets::draft,
    watches::draft,
    mixed::draft,
    invalid::draft,
    lists::draft,
    mixed::draft,
    managers::draft,
    watches::draft,
    bodies::draft,
];

/// The requests of a seed; without one, those in the middle of which the past is forgotten.
pub(crate) fn sequence(seed: Option<u64>) -> Vec<Step> {
    let mut draft = Draft { chance: Chance::of(seed.unwrap_or(0)), steps: Vec::new(), marks: Vec::new() };
    let namespace = json!({"metadata": {"name": "{ns}", "labels": {"seq": "{ns}"}}});
    draft.post("create", "/api/v1/namespaces", namespace);
    // Without it there are no pods.
    draft.create(Kind::ServiceAccount, json!({"metadata": {"name": "default"}}));
    match seed {
        Some(seed) => THEMES[usize::try_from(seed).expect("a small number") % THEMES.len()](&mut draft),
        None => past::draft(&mut draft),
    }
    draft.tables();
    draft.steps.append(&mut draft.marks);
    draft.steps
}

/// A sequence in the making.
struct Draft {
    chance: Chance,
    steps: Vec<Step>,
    /// What ends the watches, when all is done.
    marks: Vec<Step>,
}

fn path_of(row: &Resource, name: &str) -> String {
    format!("{}/{name}", collection(row))
}

impl Draft {
    /// Adds a request and tells its number.
    fn request(&mut self, what: &'static str, method: &'static str, path: impl Into<String>, body: Sent) -> usize {
        let path = path.into();
        self.steps.push(Step { what, method, path, content_type: JSON, accept: "", body, reading: Reading::Whole });
        self.steps.len() - 1
    }

    fn last(&mut self) -> &mut Step {
        self.steps.last_mut().expect("a sequence begins with a request")
    }

    fn post(&mut self, what: &'static str, path: impl Into<String>, body: Value) -> usize {
        self.request(what, "POST", path, Sent::Json(body))
    }

    fn create(&mut self, kind: Kind, object: Value) -> usize {
        self.post("create", collection(kind.resource()), object)
    }

    /// What is there at the end, as `kubectl get` shows it: every kind that was spoken of.
    fn tables(&mut self) {
        for (number, (_, kind)) in KINDS.iter().enumerate() {
            let row = kind.resource();
            let path = collection(row);
            if !self.steps.iter().any(|step| step.path.starts_with(&path)) {
                continue;
            }
            let scope = if row.namespaced { "" } else { "&labelSelector=seq%3D{ns}" };
            let include = ["None", "Metadata", "Object", "", "Half"][(number + self.steps.len()) % 5];
            self.list(format!("{path}?includeObject={include}{scope}"));
            self.last().accept = TABLE;
        }
    }

    fn get(&mut self, path: impl Into<String>) -> usize {
        self.request("get", "GET", path, Sent::Nothing)
    }

    fn list(&mut self, path: impl Into<String>) -> usize {
        self.request("list", "GET", path, Sent::Nothing)
    }

    fn put(&mut self, what: &'static str, path: impl Into<String>, body: Sent) -> usize {
        self.request(what, "PUT", path, body)
    }

    fn patch(&mut self, what: &'static str, path: impl Into<String>, media: &'static str, body: Value) -> usize {
        let number = self.request(what, "PATCH", path, Sent::Json(body));
        self.last().content_type = media;
        number
    }

    fn merge(&mut self, path: impl Into<String>, patch: Value) -> usize {
        self.patch("merge patch", path, MERGE, patch)
    }

    fn delete(&mut self, path: impl Into<String>, options: Option<Value>) -> usize {
        self.request("delete", "DELETE", path, options.map_or(Sent::Nothing, Sent::Json))
    }

    /// Watches from here on, until an object is created at the end that the watch must see: one of this kind, changed so.
    fn watch(&mut self, kind: Kind, query: &str, seen_because_of: &Value) {
        let row = kind.resource();
        let path = format!("{}?watch=true{query}", collection(row));
        self.request("watch", "GET", path, Sent::Nothing);
        self.last().reading = Reading::UntilMark;
        let name = format!("{}mark-{}", if row.namespaced { "" } else { "{ns}-" }, self.marks.len());
        let mut mark = object::object(&mut Chance::of(0), kind, &name);
        super::step::merge_into(&mut mark, seen_because_of);
        mark["metadata"]["annotations"][MARK] = "".into();
        self.marks.push(Step {
            what: "create",
            method: "POST",
            path: collection(row),
            content_type: JSON,
            accept: "",
            body: Sent::Json(mark),
            reading: Reading::Whole,
        });
    }

    fn kind(&mut self) -> Kind {
        *self.chance.weighted(KINDS)
    }

    /// A name of the few that objects of a kind have in a sequence.
    fn name(&mut self, kind: Kind) -> String {
        let name = *self.chance.pick(&["a", "b", "c"]);
        if kind.resource().namespaced { name.to_owned() } else { format!("{{ns}}-{name}") }
    }

    /// Mostly nothing; else options that every write understands.
    fn options(&mut self) -> &'static str {
        self.chance.weighted::<&str>(&[
            (18, ""),
            (2, "?dryRun=All"),
            (1, "?fieldValidation=Strict"),
            (1, "?fieldValidation=Ignore"),
        ])
    }
}

/// The kinds with a subresource.
fn with_subresource(name: &str) -> Vec<Kind> {
    let rows = RESOURCES.iter().filter(|row| row.subresources.contains(&name) && row.group != "karpenter.sh");
    rows.map(|row| row.kind).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_requests() {
        for seed in 0..24 {
            assert_eq!(sequence(Some(seed)), sequence(Some(seed)));
            assert!(sequence(Some(seed)).len() > 10, "{seed}");
        }
        assert_ne!(sequence(Some(0)), sequence(Some(12)));
    }
}
