//! Sets of fields, as server-side apply counts who owns what: which fields an object has, which of them differ between two,
//! and `FieldsV1`, the form in which they are kept.
//!
//! The types say what is one field: a list that is atomic is, a list of containers is not.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::schema::{ListType, Struct, Type, named};

/// One step on the way to a field.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    Field(String),
    /// The element of a list with these keys, as canonical JSON.
    Keys(String),
    /// The element of a set, as JSON.
    Value(String),
}

pub(crate) type Path = Vec<Step>;

/// The order in which conflicts are told: what is owned at a place comes before what is owned below it.
pub(crate) fn told_before(a: &[Step], b: &[Step]) -> std::cmp::Ordering {
    let same = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let is_below = |path: &[Step]| path.len() > same + 1;
    (is_below(a), a).cmp(&(is_below(b), b))
}

/// Fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FieldSet(pub BTreeSet<Path>);

/// What is between a type and a value: how its parts are owned.
#[derive(Clone, Debug)]
pub(crate) enum Shape<'s> {
    /// Owned as a whole.
    Atomic,
    Fields(&'s Struct),
    Map(&'s Type),
    Set,
    Keyed(&'s [&'static str], &'s Type),
    /// Of a custom resource: objects by their fields, everything else as a whole.
    Unknown,
}

impl Shape<'_> {
    pub(crate) fn of_object(type_: Option<&'static Struct>) -> Shape<'static> {
        type_.map_or(Shape::Unknown, Shape::Fields)
    }

    fn of_type<'t>(type_: &'t Type, list: &'t ListType, atomic: bool) -> Shape<'t> {
        match type_ {
            Type::Struct(name) if !atomic && !named(name).atomic => Shape::Fields(named(name)),
            Type::Map(element) if !atomic => Shape::Map(element),
            Type::List(element) => match list {
                ListType::Atomic => Shape::Atomic,
                ListType::Set => Shape::Set,
                ListType::Map(keys) => Shape::Keyed(keys, element),
            },
            _ => Shape::Atomic,
        }
    }

    /// What is behind a step, and whether the step is a field that the type names.
    fn child(&self, step: &Step) -> (Shape<'_>, bool) {
        match (self, step) {
            (Self::Fields(type_), Step::Field(name)) => match type_.field(name) {
                Some(field) => (Shape::of_type(&field.type_, &field.list, field.atomic), true),
                None => (Shape::Unknown, false),
            },
            (Self::Map(element), Step::Field(_)) | (Self::Keyed(_, element), Step::Keys(_)) => {
                (Shape::of_type(element, &ListType::Atomic, false), false)
            }
            (Self::Unknown, Step::Field(_)) => (Shape::Unknown, false),
            _ => (Shape::Atomic, false),
        }
    }

    /// The parts on the way along a path that types name.
    fn named_parents(&self, path: &[Step], at: usize, into: &mut BTreeSet<Path>) {
        let Some(step) = path.get(at).filter(|_| at + 1 < path.len()) else { return };
        let (shape, named) = self.child(step);
        if named {
            into.insert(path[..=at].to_vec());
        }
        shape.named_parents(path, at + 1, into);
    }

    /// The parts of a value that are owned apart from each other; none if it is owned as a whole.
    pub(crate) fn parts<'v>(&self, value: &'v Value) -> Option<BTreeMap<Step, (&'v Value, Shape<'_>)>> {
        match (self, value) {
            (Self::Fields(type_), Value::Object(fields)) => Some(
                fields
                    .iter()
                    .map(|(name, value)| {
                        let shape = type_
                            .field(name)
                            .map_or(Shape::Unknown, |field| Shape::of_type(&field.type_, &field.list, field.atomic));
                        (Step::Field(name.clone()), (value, shape))
                    })
                    .collect(),
            ),
            (Self::Map(element), Value::Object(entries)) => Some(
                entries
                    .iter()
                    .map(|(key, value)| {
                        (Step::Field(key.clone()), (value, Shape::of_type(element, &ListType::Atomic, false)))
                    })
                    .collect(),
            ),
            (Self::Unknown, Value::Object(fields)) => {
                Some(fields.iter().map(|(name, value)| (Step::Field(name.clone()), (value, Shape::Unknown))).collect())
            }
            (Self::Set, Value::Array(elements)) => Some(
                elements.iter().map(|element| (Step::Value(element.to_string()), (element, Shape::Atomic))).collect(),
            ),
            (Self::Keyed(keys, element), Value::Array(elements)) => Some(
                elements
                    .iter()
                    .map(|value| {
                        (Step::Keys(keys_of(value, keys)), (value, Shape::of_type(element, &ListType::Atomic, false)))
                    })
                    .collect(),
            ),
            _ => None,
        }
    }
}

/// The keys of an element, canonically. The only key with a default in the kinds that there are is a port's protocol.
pub(crate) fn keys_of(element: &Value, keys: &[&str]) -> String {
    let value = |key: &str| match &element[key] {
        Value::Null if key == "protocol" => "TCP".into(),
        Value::Null => Value::from(""),
        value => value.clone(),
    };
    keys.iter().map(|key| ((*key).to_owned(), value(key))).collect::<Value>().to_string()
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(fields) => fields.is_empty(),
        Value::Array(elements) => elements.is_empty(),
        _ => false,
    }
}

impl FieldSet {
    /// The fields of an object.
    pub(crate) fn of(value: &Value, shape: &Shape<'_>) -> Self {
        let mut set = Self::default();
        set.collect(value, shape, &mut Vec::new());
        set
    }

    fn collect(&mut self, value: &Value, shape: &Shape<'_>, path: &mut Path) {
        let parts = shape.parts(value).filter(|parts| !parts.is_empty());
        let Some(parts) = parts else {
            if !path.is_empty() {
                self.0.insert(path.clone());
            }
            return;
        };
        for (step, (value, shape)) in parts {
            let is_element = !matches!(step, Step::Field(_));
            path.push(step);
            if is_element {
                self.0.insert(path.clone());
            }
            self.collect(value, &shape, path);
            path.pop();
        }
    }

    /// With the fields that lead to its members, as far as types name them.
    pub(crate) fn with_named_parents(&self, shape: &Shape<'_>) -> Self {
        let mut all = self.clone();
        self.0.iter().for_each(|path| shape.named_parents(path, 0, &mut all.0));
        all
    }

    /// Whether it has something within a part.
    pub(crate) fn reaches_into(&self, part: &Path) -> bool {
        self.0.range(part.clone()..).find(|path| *path != part).is_some_and(|path| path.starts_with(part))
    }

    pub(crate) fn union(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    pub(crate) fn minus(&self, other: &Self) -> Self {
        Self(self.0.difference(&other.0).cloned().collect())
    }

    pub(crate) fn common(&self, other: &Self) -> Self {
        Self(self.0.intersection(&other.0).cloned().collect())
    }

    /// Without what the API keeps by itself.
    pub(crate) fn without_bookkeeping(mut self) -> Self {
        const META: [&str; 8] = [
            "name",
            "namespace",
            "creationTimestamp",
            "selfLink",
            "uid",
            "generation",
            "managedFields",
            "resourceVersion",
        ];
        let field = |step: Option<&Step>| match step {
            Some(Step::Field(name)) => Some(name.clone()),
            _ => None,
        };
        self.0.retain(|path| match (field(path.first()).as_deref(), field(path.get(1)).as_deref()) {
            (Some("apiVersion" | "kind"), _) | (Some("metadata"), None) => false,
            (Some("metadata"), Some(name)) => !META.contains(&name),
            _ => true,
        });
        self
    }

    /// Without everything under a field at the top.
    pub(crate) fn without(mut self, top: &str) -> Self {
        self.0.retain(|path| path.first() != Some(&Step::Field(top.to_owned())));
        self
    }

    /// Without what is at or below any of these.
    pub(crate) fn without_any(mut self, of: &[&[&str]]) -> Self {
        let is_field = |(step, name): (&Step, &&str)| matches!(step, Step::Field(field) if field == name);
        let is_below = |path: &Path, top: &[&str]| path.len() >= top.len() && path.iter().zip(top).all(is_field);
        self.0.retain(|path| !of.iter().any(|top| is_below(path, top)));
        self
    }

    /// As it is kept in `managedFields`.
    pub(crate) fn to_json(&self) -> Value {
        let mut root = Map::new();
        for path in &self.0 {
            let mut at = &mut root;
            for step in path {
                let key = match step {
                    Step::Field(name) => format!("f:{name}"),
                    Step::Keys(keys) => format!("k:{keys}"),
                    Step::Value(value) => format!("v:{value}"),
                };
                let child = at.entry(key).or_insert_with(|| Value::Object(Map::new()));
                let Value::Object(child) = child else { unreachable!("all of them are objects") };
                at = child;
            }
            at.insert(".".to_owned(), Value::Object(Map::new()));
        }
        let mut json = Value::Object(root);
        lone_dots(&mut json);
        json
    }

    pub(crate) fn of_json(json: &Value) -> Self {
        let mut set = Self::default();
        set.read(json, &mut Vec::new());
        set
    }

    fn read(&mut self, json: &Value, path: &mut Path) {
        let Value::Object(fields) = json else { return };
        if fields.is_empty() && !path.is_empty() {
            self.0.insert(path.clone());
        }
        for (key, value) in fields {
            let step = match key.split_once(':') {
                Some(("f", name)) => Step::Field(name.to_owned()),
                Some(("k", keys)) => Step::Keys(keys.to_owned()),
                Some(("v", value)) => Step::Value(value.to_owned()),
                _ => {
                    self.0.insert(path.clone());
                    continue;
                }
            };
            path.push(step);
            self.read(value, path);
            path.pop();
        }
    }
}

/// A field that has no parts is `{}`, not `{".": {}}`.
fn lone_dots(json: &mut Value) {
    let Value::Object(fields) = json else { return };
    if fields.len() == 1 && fields.contains_key(".") {
        fields.clear();
    }
    fields.values_mut().for_each(lone_dots);
}

/// A path as messages write it.
pub(crate) fn shown(path: &Path) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            Step::Field(name) => write!(text, ".{name}"),
            Step::Keys(keys) => {
                let keys: Value = serde_json::from_str(keys).unwrap_or_default();
                let keys = keys.as_object().into_iter().flatten().map(|(key, value)| format!("{key}={value}"));
                write!(text, "[{}]", keys.collect::<Vec<_>>().join(","))
            }
            Step::Value(value) => write!(text, "[={value}]"),
        }
        .expect("a String takes everything");
    }
    text
}

/// What is different between two versions.
#[derive(Clone, Debug, Default)]
pub(crate) struct Difference {
    pub added: FieldSet,
    pub modified: FieldSet,
    pub removed: FieldSet,
}

/// Compares two versions of an object.
pub(crate) fn compare(old: &Value, new: &Value, shape: &Shape<'_>) -> Difference {
    let mut difference = Difference::default();
    difference.walk(old, new, shape, &mut Vec::new());
    difference
}

impl Difference {
    fn walk(&mut self, old: &Value, new: &Value, shape: &Shape<'_>, path: &mut Path) {
        if old == new {
            return;
        }
        match (shape.parts(old), shape.parts(new)) {
            (Some(old), Some(new)) => {
                for (step, (value, shape)) in &old {
                    path.push(step.clone());
                    match new.get(step) {
                        Some((now, _)) => self.walk(value, now, shape, path),
                        None => whole(&mut self.removed, value, shape, path),
                    }
                    path.pop();
                }
                for (step, (value, shape)) in new.iter().filter(|(step, _)| !old.contains_key(step)) {
                    path.push(step.clone());
                    whole(&mut self.added, value, shape, path);
                    path.pop();
                }
            }
            (None, Some(_)) if is_empty(old) => inside(&mut self.added, new, shape, path),
            (Some(_), None) if is_empty(new) => inside(&mut self.removed, old, shape, path),
            _ => drop(self.modified.0.insert(path.clone())),
        }
    }
}

/// A part that came or went, and everything in it.
fn whole(set: &mut FieldSet, value: &Value, shape: &Shape<'_>, path: &mut Path) {
    if !path.is_empty() {
        set.0.insert(path.clone());
    }
    inside(set, value, shape, path);
}

/// Everything in a part that was there, though empty.
fn inside(set: &mut FieldSet, value: &Value, shape: &Shape<'_>, path: &mut Path) {
    for (step, (value, shape)) in shape.parts(value).into_iter().flatten() {
        path.push(step);
        whole(set, value, &shape, path);
        path.pop();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shape(name: &str) -> Shape<'static> {
        Shape::of_object(Some(named(name)))
    }

    #[test]
    fn fields_are_what_types_say() {
        let pod = json!({
            "metadata": {"labels": {"a": "b"}, "finalizers": ["x/y"]},
            "spec": {"containers": [{"name": "c", "image": "i", "command": ["a", "b"]}], "tolerations": [{"key": "k"}]},
        });
        let set = FieldSet::of(&pod, &shape("Pod")).without_bookkeeping();
        let expected = json!({
            "f:metadata": {"f:labels": {"f:a": {}}, "f:finalizers": {"v:\"x/y\"": {}}},
            "f:spec": {
                "f:containers": {"k:{\"name\":\"c\"}": {".": {}, "f:name": {}, "f:image": {}, "f:command": {}}},
                "f:tolerations": {},
            },
        });
        assert_eq!(set.to_json(), expected);
        assert_eq!(FieldSet::of_json(&expected), set);
        assert!(set.0.iter().any(|path| shown(path) == ".spec.containers[name=\"c\"].image"));
    }

    #[test]
    fn differences_are_added_modified_and_removed() {
        let old = json!({"metadata": {"labels": {"a": "b", "c": "d"}}, "data": {"k": "v"}});
        let new = json!({"metadata": {"annotations": {"x": "y"}, "labels": {"a": "c"}}, "data": {"k": "v"}});
        let difference = compare(&old, &new, &shape("ConfigMap"));
        assert_eq!(difference.added.to_json(), json!({"f:metadata": {"f:annotations": {".": {}, "f:x": {}}}}));
        assert_eq!(difference.modified.to_json(), json!({"f:metadata": {"f:labels": {"f:a": {}}}}));
        assert_eq!(difference.removed.to_json(), json!({"f:metadata": {"f:labels": {"f:c": {}}}}));
    }
}
