//! Manifests as people keep them: several to a file, in YAML or JSON, alone or in lists. Each keeps the place it came from, so
//! that whatever is said of it later can be said with file, line and column.

use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use super::written::{Document, Places, documents, pointer};
use crate::scenario::Mistake;

/// An object that somebody wants.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// What it says.
    pub object: Value,
    /// Where it came from.
    pub origin: Origin,
}

/// Where an object came from.
#[derive(Clone, Debug, PartialEq)]
pub enum Origin {
    /// A file.
    File(Source),
    /// A running cluster.
    Cluster,
}

/// A part of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    file: Arc<str>,
    places: Places,
}

/// Something that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Complaint {
    /// `FILE:LINE:COLUMN`, or what it is about.
    pub place: String,
    /// What, and what is allowed.
    pub what: String,
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, what } = self;
        write!(f, "{place}: {what}")
    }
}

/// More than so many complaints are not told one by one.
const TOLD: usize = 20;

/// Everything that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Complaints(pub Vec<Complaint>);

impl fmt::Display for Complaints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(complaints) = self;
        let told: Vec<String> = complaints.iter().take(TOLD).map(Complaint::to_string).collect();
        f.write_str(&told.join("\n"))?;
        match complaints.len().saturating_sub(TOLD) {
            0 => Ok(()),
            more => write!(f, "\nand {more} more"),
        }
    }
}

impl Manifest {
    /// A complaint about a field, named as the API server names it; about the whole, if it is empty.
    pub fn complain(&self, field: &str, what: impl Into<String>) -> Complaint {
        let place = match &self.origin {
            Origin::File(Source { file, places }) => format!("{file}:{}", places.at(&pointer(field))),
            Origin::Cluster => self.called(),
        };
        Complaint { place, what: what.into() }
    }

    /// The same, with the name of the object where the place does not say it.
    pub(super) fn complain_by_name(&self, field: &str, what: &str) -> Complaint {
        match &self.origin {
            Origin::File(_) => self.complain(field, format!("{}: {what}", self.called())),
            Origin::Cluster => self.complain(field, what),
        }
    }

    /// `Deployment shop/web`
    pub fn called(&self) -> String {
        match self.text("/metadata/namespace") {
            "" => format!("{} {}", self.text("/kind"), self.name()),
            namespace => format!("{} {namespace}/{}", self.text("/kind"), self.name()),
        }
    }

    /// `metadata.name`
    pub fn name(&self) -> &str {
        self.text("/metadata/name")
    }

    /// A text, empty if there is none.
    pub(super) fn text(&self, pointer: &str) -> &str {
        self.object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    /// A number.
    pub(super) fn number(&self, pointer: &str) -> Option<i64> {
        self.object.pointer(pointer).and_then(Value::as_i64)
    }
}

/// Reads a file. `file` is what it is called in what is said about it.
pub fn read(file: &str, text: &str) -> Result<Vec<Manifest>, Complaints> {
    let file: Arc<str> = file.into();
    let documents = documents(text).map_err(|Mistake { place, what }| {
        let what = if text.contains("{{") {
            format!("{what}; a template has to be rendered first, as `helm template` does it")
        } else {
            what
        };
        Complaints(vec![Complaint { place: format!("{file}:{place}"), what }])
    })?;
    let mut found = Vec::new();
    let mut complaints = Vec::new();
    for document in documents.into_iter().filter(|document| !document.value.is_null()) {
        unpack(&file, document, &mut found, &mut complaints);
    }
    if complaints.is_empty() { Ok(found) } else { Err(Complaints(complaints)) }
}

/// A manifest, or those of a list.
fn unpack(file: &Arc<str>, document: Document, found: &mut Vec<Manifest>, complaints: &mut Vec<Complaint>) {
    let Document { value, places } = document;
    let manifest = Manifest { object: value, origin: Origin::File(Source { file: file.clone(), places }) };
    if !manifest.object.is_object() {
        complaints.push(manifest.complain("", "a manifest is a map with apiVersion, kind and metadata"));
        return;
    }
    if let Some(key) = ["apiVersion", "kind"].into_iter().find(|key| manifest.text(&format!("/{key}")).is_empty()) {
        let is = match &manifest.object[key] {
            Value::Null => "missing".to_owned(),
            other => format!("{other}, which is none"),
        };
        let what = format!("{key} is {is}: a manifest is a map with apiVersion, kind and metadata");
        complaints.push(manifest.complain(key, what));
        return;
    }
    let is_list = manifest.text("/kind").ends_with("List");
    let Manifest { object, origin: Origin::File(Source { file: _, places }) } = &manifest else { return };
    match object.get("items") {
        Some(Value::Array(items)) if is_list => {
            for (index, item) in items.iter().enumerate() {
                let places = places.within(&format!("/items/{index}"));
                unpack(file, Document { value: item.clone(), places }, found, complaints);
            }
        }
        _ => found.push(manifest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn called(text: &str) -> Vec<String> {
        read("a.yaml", text).unwrap().iter().map(Manifest::called).collect()
    }

    #[test]
    fn documents_and_lists_are_manifests() {
        let web = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: shop}\n";
        let map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: map}\n";
        assert_eq!(called(&format!("---\n{web}---\n# nothing\n---\n{map}")), ["Deployment shop/web", "ConfigMap map"]);
        let nested = "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Pod, metadata: {name: a}}\n\
                      - apiVersion: v1\n  kind: PodList\n  items: [{apiVersion: v1, kind: Pod, metadata: {name: b}}]\n";
        assert_eq!(called(nested), ["Pod a", "Pod b"]);
        let found = read("list.yaml", nested).unwrap();
        assert_eq!(found[0].complain("metadata.name", "!").to_string(), "list.yaml:4:48: !");
        assert_eq!(found[1].complain("spec.replicas", "!").to_string(), "list.yaml:7:11: !");
        assert_eq!(called(""), [""; 0]);
        assert_eq!(called("{\"apiVersion\": \"v1\", \"kind\": \"List\", \"items\": []}"), [""; 0]);
    }

    #[test]
    fn what_is_no_manifest_has_a_place() {
        for (text, wanted) in [
            (
                "a: 1\n---\n- x\n",
                "a.yaml:1:1: apiVersion is missing: a manifest is a map with apiVersion, kind and metadata",
            ),
            ("# text\njust text\n", "a.yaml:2:1: a manifest is a map with apiVersion, kind and metadata"),
            ("apiVersion: v1\nmetadata: {name: a}\n", "a.yaml:1:1: kind is missing: a manifest is a map"),
            ("apiVersion: v1\nkind: [Pod]\n", "a.yaml:2:7: kind is [\"Pod\"], which is none: a manifest is a map"),
            ("apiVersion: 1\nkind: Pod\n", "a.yaml:1:13: apiVersion is 1, which is none: a manifest is a map"),
            ("a: [\n", "a.yaml:1:4: unclosed bracket '['"),
            ("a: {{ .Values.a }}: 1\n", "as `helm template` does it"),
        ] {
            let error = read("a.yaml", text).unwrap_err().to_string();
            assert!(error.contains(wanted), "{text:?}: {error}");
        }
        let two = read("a.yaml", "a: 1\n---\nb: 1\n").unwrap_err().to_string();
        assert_eq!(two.lines().count(), 2, "{two}");
        let many = read("a.yaml", &"a: 1\n---\n".repeat(30)).unwrap_err().to_string();
        assert!(many.lines().count() == 21 && many.ends_with("\nand 10 more"), "{many}");
    }
}
