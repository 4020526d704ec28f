//! Writes what is added to a pod as a JSON Patch (RFC 6902), absent parents included.
//!
//! The only place that knows how an addition looks in JSON. What to add was decided elsewhere; nothing is removed
//! except what an [`Amendment`] names or what is taken away by name, and what the pod says already is not said again.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use spotalis_core::class::{TaintEffect, Toleration};
use spotalis_core::selector::{Operator, Requirement};
use spotalis_core::steering::{Amendment, PREFERRED_WEIGHT, RequiredAmendment, TermAmendment};

use crate::wire::{Entries, Pod};

const NODE_AFFINITY: &str = "/spec/affinity/nodeAffinity";
const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

/// The additions to one pod, collected.
#[derive(Debug)]
pub struct PodPatch<'p> {
    pod: &'p Pod<'p>,
    labels: BTreeMap<&'p str, String>,
    annotations: BTreeMap<&'p str, String>,
    removed: Vec<&'p str>,
    spec: Vec<Value>,
}

impl<'p> PodPatch<'p> {
    /// Nothing yet.
    pub const fn new(pod: &'p Pod<'p>) -> Self {
        Self { pod, labels: BTreeMap::new(), annotations: BTreeMap::new(), removed: Vec::new(), spec: Vec::new() }
    }

    /// Sets a label, over another value as well.
    #[must_use]
    pub fn label(mut self, key: &'p str, value: impl Into<String>) -> Self {
        self.labels.insert(key, value.into());
        self
    }

    /// Sets an annotation, over another value as well.
    #[must_use]
    pub fn annotation(mut self, key: &'p str, value: impl Into<String>) -> Self {
        self.annotations.insert(key, value.into());
        self
    }

    /// Takes an annotation away, if the pod has it.
    #[must_use]
    pub fn without_annotation(mut self, key: &'p str) -> Self {
        if self.pod.annotation(key).is_some() {
            self.removed.push(key);
        }
        self
    }

    /// Adds what steering asks for: once, and decided on this very pod, for it speaks of the pod's terms by index.
    #[must_use]
    pub fn amend(mut self, amendment: &Amendment<'_>) -> Self {
        let Amendment { drop_from_node_selector, node_selector, required, preferred, tolerations } = amendment;
        for key in drop_from_node_selector {
            self.spec.push(remove(&below("/spec/nodeSelector", key)));
        }
        if let Some((key, value)) = *node_selector {
            let has_map = self.pod.placement.node_selector.is_some();
            self.spec.extend(set_entries("/spec/nodeSelector", has_map, [(key, value)]));
        }
        self.amend_affinity(required.as_ref(), *preferred);
        let tolerations = tolerations.iter().map(|toleration| toleration_json(toleration));
        let has_list = self.pod.placement.tolerations.is_some();
        self.spec.extend(append("/spec/tolerations", has_list, tolerations));
        self
    }

    fn amend_affinity(&mut self, required: Option<&RequiredAmendment<'_>>, preferred: Option<&[Requirement]>) {
        let preferred = preferred.map(|requirements| {
            json!({"weight": PREFERRED_WEIGHT, "preference": {"matchExpressions": requirements_json(requirements)}})
        });
        let mut new = Map::new();
        match required {
            None => {}
            Some(RequiredAmendment::NewTerm(requirements)) => {
                let term = json!({"matchExpressions": requirements_json(*requirements)});
                new.insert(REQUIRED.to_owned(), json!({"nodeSelectorTerms": [term]}));
            }
            Some(RequiredAmendment::IntoTerms(terms)) => {
                for TermAmendment { term, requirements } in terms {
                    self.amend_term(*term, requirements);
                }
            }
        }
        match (preferred, &self.pod.placement.preferred) {
            (None, _) => {}
            (Some(term), Some(_)) => self.spec.push(add(format!("{NODE_AFFINITY}/{PREFERRED}/-"), term)),
            (Some(term), None) => {
                new.insert(PREFERRED.to_owned(), json!([term]));
            }
        }
        if new.is_empty() {
            return;
        }
        if self.pod.has_node_affinity {
            self.spec.extend(new.into_iter().map(|(field, value)| add(format!("{NODE_AFFINITY}/{field}"), value)));
        } else if self.pod.has_affinity {
            self.spec.push(add(NODE_AFFINITY.to_owned(), Value::Object(new)));
        } else {
            self.spec.push(add("/spec/affinity".to_owned(), json!({"nodeAffinity": new})));
        }
    }

    fn amend_term(&mut self, term: usize, requirements: &[&Requirement]) {
        let expressions = self.pod.placement.required.as_ref().and_then(|terms| terms.get(term)?.expressions.as_ref());
        let path = format!("{NODE_AFFINITY}/{REQUIRED}/nodeSelectorTerms/{term}/matchExpressions");
        let requirements = requirements.iter().map(|requirement| requirement_json(requirement));
        self.spec.extend(append(&path, expressions.is_some(), requirements));
    }

    /// The patch; `None` where the pod has everything already.
    pub fn into_bytes(self) -> Option<Vec<u8>> {
        let Self { pod, labels, annotations, removed, spec } = self;
        let mut operations = metadata("/metadata/labels", pod.labels.as_ref(), &labels);
        operations.extend(metadata("/metadata/annotations", pod.annotations.as_ref(), &annotations));
        operations.extend(removed.into_iter().map(|key| remove(&below("/metadata/annotations", key))));
        operations.extend(spec);
        if operations.is_empty() {
            return None;
        }
        Some(serde_json::to_vec(&operations).expect("a JSON value is always JSON"))
    }
}

fn metadata(path: &str, present: Option<&Entries<'_>>, wanted: &BTreeMap<&str, String>) -> Vec<Value> {
    let is_new = |(key, value): &(&str, &str)| present.and_then(|entries| entries.get(key)) != Some(*value);
    let entries = wanted.iter().map(|(key, value)| (*key, value.as_str())).filter(is_new);
    set_entries(path, present.is_some(), entries)
}

/// Sets entries of a map, one by one where it is there, as a whole where it is not.
fn set_entries<'e>(path: &str, has_map: bool, entries: impl IntoIterator<Item = (&'e str, &'e str)>) -> Vec<Value> {
    let entries = entries.into_iter();
    if has_map {
        return entries.map(|(key, value)| add(below(path, key), json!(value))).collect();
    }
    let map: Map<String, Value> = entries.map(|(key, value)| (key.to_owned(), json!(value))).collect();
    if map.is_empty() { Vec::new() } else { vec![add(path.to_owned(), Value::Object(map))] }
}

/// Appends items to a list, one by one where it is there, as a whole where it is not.
fn append(path: &str, has_list: bool, items: impl Iterator<Item = Value>) -> Vec<Value> {
    if has_list {
        return items.map(|item| add(format!("{path}/-"), item)).collect();
    }
    let list: Vec<Value> = items.collect();
    if list.is_empty() { Vec::new() } else { vec![add(path.to_owned(), Value::Array(list))] }
}

/// `add` also replaces: a `null` in the place of a map, or another value.
fn add(path: String, value: Value) -> Value {
    let mut operation = Map::new();
    operation.insert("op".to_owned(), json!("add"));
    operation.insert("path".to_owned(), Value::String(path));
    operation.insert("value".to_owned(), value);
    Value::Object(operation)
}

fn remove(path: &str) -> Value {
    json!({"op": "remove", "path": path})
}

/// The JSON Pointer (RFC 6901) of a member.
fn below(parent: &str, key: &str) -> String {
    let mut pointer = String::with_capacity(parent.len() + 1 + key.len());
    pointer.push_str(parent);
    pointer.push('/');
    for character in key.chars() {
        match character {
            '~' => pointer.push_str("~0"),
            '/' => pointer.push_str("~1"),
            _ => pointer.push(character),
        }
    }
    pointer
}

fn requirements_json<'r>(requirements: impl IntoIterator<Item = &'r Requirement>) -> Vec<Value> {
    requirements.into_iter().map(requirement_json).collect()
}

fn requirement_json(Requirement { key, operator }: &Requirement) -> Value {
    let (operator, values) = match operator {
        Operator::In(values) => ("In", json!(values)),
        Operator::NotIn(values) => ("NotIn", json!(values)),
        Operator::Exists => return json!({"key": key, "operator": "Exists"}),
        Operator::DoesNotExist => return json!({"key": key, "operator": "DoesNotExist"}),
        Operator::Gt(bound) => ("Gt", json!([bound.to_string()])),
        Operator::Lt(bound) => ("Lt", json!([bound.to_string()])),
    };
    json!({"key": key, "operator": operator, "values": values})
}

fn toleration_json(toleration: &Toleration) -> Value {
    let Toleration { key, operator, value, effect, toleration_seconds } = toleration;
    let fields = [
        ("key", key.as_deref().map(Value::from)),
        ("operator", Some(Value::from(operator.as_str()))),
        ("value", value.as_deref().map(Value::from)),
        ("effect", effect.map(TaintEffect::as_str).map(Value::from)),
        ("tolerationSeconds", toleration_seconds.map(Value::from)),
    ];
    fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect::<Map<_, _>>().into()
}
