//! The fields of the kinds that the cluster knows: their types, which are left out when empty, how lists merge.
//!
//! A table, read once from `schema.txt`, which is made from Kubernetes' own types (`schema/main.go`). It decides nothing.

use std::collections::BTreeMap;
use std::sync::{LazyLock, OnceLock};

use serde_json::Value;

use crate::resource::Kind;

/// The type of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    Text,
    Bool,
    Int32,
    Int64,
    Quantity,
    Time,
    MicroTime,
    IntOrString,
    Bytes,
    /// Whatever it is, it stays.
    Any,
    List(Box<Self>),
    Map(Box<Self>),
    Struct(&'static str),
}

/// How a list behaves in server-side apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ListType {
    Atomic,
    Set,
    Map(Vec<&'static str>),
}

/// One field of a type.
#[derive(Clone, Debug)]
pub(crate) struct Field {
    pub name: &'static str,
    pub type_: Type,
    /// Null and zero differ.
    pub pointer: bool,
    /// Not written when empty.
    pub omitted: bool,
    /// Not written when zero, though it is a struct.
    pub omitted_zero: bool,
    /// Strategic merge: elements of the list are merged, not the list replaced.
    pub merges: bool,
    /// Strategic merge: replaced, though it has fields.
    pub replaces: bool,
    /// Strategic merge: fields that the patch does not name are cleared.
    pub retains_keys: bool,
    /// Strategic merge: by which field elements are found.
    pub key: Option<&'static str>,
    /// Server-side apply.
    pub list: ListType,
    /// Server-side apply: owned as a whole.
    pub atomic: bool,
}

/// A type with fields.
#[derive(Clone, Debug)]
pub(crate) struct Struct {
    pub name: &'static str,
    /// Server-side apply: owned as a whole.
    pub atomic: bool,
    pub fields: Vec<Field>,
    by_name: BTreeMap<&'static str, usize>,
    shown: OnceLock<Vec<(usize, Value)>>,
}

impl Struct {
    pub(crate) fn field(&self, name: &str) -> Option<&Field> {
        self.place(name).map(|place| &self.fields[place])
    }

    /// Where a field stands among the fields.
    pub(crate) fn place(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// What is written of fields of which nothing is said, by their places; asked for once.
    pub(crate) fn shown(&self, ask: impl FnOnce() -> Vec<(usize, Value)>) -> &[(usize, Value)] {
        self.shown.get_or_init(ask)
    }
}

static SCHEMA: LazyLock<BTreeMap<&'static str, Struct>> = LazyLock::new(|| parse(include_str!("schema.txt")));

/// A type by its name in the table.
pub(crate) fn named(name: &str) -> &'static Struct {
    SCHEMA.get(name).expect("every type that is named in the table is in it")
}

/// The type of a kind's objects; none for kinds that are custom resources, which are kept as they are sent.
pub(crate) fn of_kind(kind: Kind) -> Option<&'static Struct> {
    let name = match kind {
        Kind::HorizontalPodAutoscaler => "autoscaling.HorizontalPodAutoscaler",
        Kind::Event => "events.Event",
        Kind::MutatingWebhookConfiguration => "admissionregistration.MutatingWebhookConfiguration",
        Kind::NodePool | Kind::NodeClaim => return None,
        Kind::Namespace
        | Kind::Node
        | Kind::ConfigMap
        | Kind::Secret
        | Kind::ServiceAccount
        | Kind::ResourceQuota
        | Kind::Pod
        | Kind::Deployment
        | Kind::ReplicaSet
        | Kind::StatefulSet
        | Kind::ControllerRevision
        | Kind::PodDisruptionBudget
        | Kind::Lease => kind.resource().name,
    };
    Some(named(name))
}

fn parse(text: &'static str) -> BTreeMap<&'static str, Struct> {
    let mut types = BTreeMap::new();
    let mut current: Option<Struct> = None;
    for line in text.lines() {
        if let Some(field) = line.strip_prefix("  ") {
            let within = current.as_mut().expect("a type comes before its fields");
            let field = parse_field(field);
            within.by_name.insert(field.name, within.fields.len());
            within.fields.push(field);
        } else {
            let mut words = line.split(' ');
            let name = words.next().unwrap_or_default();
            let atomic = words.next() == Some("map=atomic");
            let (fields, by_name, shown) = (Vec::new(), BTreeMap::new(), OnceLock::new());
            if let Some(done) = current.replace(Struct { name, atomic, fields, by_name, shown }) {
                types.insert(done.name, done);
            }
        }
    }
    types.extend(current.map(|last| (last.name, last)));
    types
}

fn parse_field(text: &'static str) -> Field {
    let mut words = text.split(' ');
    let (name, type_) = words.next().and_then(|word| word.split_once(':')).expect("a field has a name and a type");
    let mut field = Field {
        name,
        type_: parse_type(type_),
        pointer: false,
        omitted: false,
        omitted_zero: false,
        merges: false,
        replaces: false,
        retains_keys: false,
        key: None,
        list: ListType::Atomic,
        atomic: false,
    };
    let (mut keys, mut list) = (Vec::new(), "atomic");
    for word in words {
        match word.split_once('=').unwrap_or((word, "")) {
            ("pointer", _) => field.pointer = true,
            ("omitempty", _) => field.omitted = true,
            ("omitzero", _) => field.omitted_zero = true,
            ("patch", strategies) => {
                field.merges = strategies.split(',').any(|strategy| strategy == "merge");
                field.replaces = strategies == "replace";
                field.retains_keys = strategies.split(',').any(|strategy| strategy == "retainKeys");
            }
            ("key", key) => field.key = Some(key),
            ("list", type_) => list = type_,
            ("keys", names) => keys = names.split('+').collect(),
            ("map", type_) => field.atomic = type_ == "atomic",
            (word, _) => unreachable!("{word} in the table of fields"),
        }
    }
    field.list = match list {
        "map" => ListType::Map(keys),
        "set" => ListType::Set,
        _ => ListType::Atomic,
    };
    field
}

fn parse_type(text: &'static str) -> Type {
    if let Some(element) = text.strip_prefix("[]") {
        return Type::List(Box::new(parse_type(element)));
    }
    if let Some(element) = text.strip_prefix("{}") {
        return Type::Map(Box::new(parse_type(element)));
    }
    match text {
        "string" => Type::Text,
        "bool" => Type::Bool,
        "int32" => Type::Int32,
        "int64" => Type::Int64,
        "quantity" => Type::Quantity,
        "time" => Type::Time,
        "microtime" => Type::MicroTime,
        "intstr" => Type::IntOrString,
        "bytes" => Type::Bytes,
        "any" => Type::Any,
        name => Type::Struct(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::RESOURCES;

    fn complete(type_: &Type) {
        match type_ {
            Type::List(element) | Type::Map(element) => complete(element),
            Type::Struct(name) => assert!(SCHEMA.contains_key(name), "{name}"),
            _ => {}
        }
    }

    #[test]
    fn every_type_that_is_named_is_there() {
        for within in SCHEMA.values() {
            within.fields.iter().for_each(|field| complete(&field.type_));
        }
        for row in RESOURCES {
            assert!(of_kind(row.kind).is_none_or(|type_| type_.field("metadata").is_some()), "{}", row.kind);
        }
    }

    #[test]
    fn lists_merge_as_their_types_say() {
        let field = |type_: &str, name: &str| named(type_).field(name).unwrap();
        assert_eq!(field("PodSpec", "containers").key, Some("name"));
        assert!(field("PodSpec", "containers").merges && !field("PodSpec", "tolerations").merges);
        assert!(!field("NodeSpec", "taints").merges);
        assert_eq!(field("NodeSpec", "taints").list, ListType::Atomic);
        assert_eq!(field("PodStatus", "conditions").list, ListType::Map(vec!["type"]));
        assert_eq!(field("ObjectMeta", "finalizers").list, ListType::Set);
        assert_eq!(field("ObjectMeta", "ownerReferences").list, ListType::Map(vec!["uid"]));
        assert_eq!(field("Container", "ports").list, ListType::Map(vec!["containerPort", "protocol"]));
    }
}
