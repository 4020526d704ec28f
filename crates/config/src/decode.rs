//! Turns the written tree into settings, and every mistake in it into a problem with its place.
//!
//! Serde stops at the first mistake. So the mistake is noted, the entry removed, and the rest read again: what somebody
//! has to correct is told at once.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Expected, IntoDeserializer, MapAccess,
    SeqAccess, Unexpected, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;
use spotalis_core::suggest;

use crate::problem::{Fault, Origin, Problem, shown};
use crate::tree::{Entry, Node, Value};

/// Most mistakes that are told at once.
const MAX_PROBLEMS: usize = 50;

/// Reads `tree` as a `T`. What is wrong is left at its default and told.
pub(crate) fn decode<T: DeserializeOwned + Default>(mut tree: Node) -> (T, Vec<Problem>) {
    let mut problems = Vec::new();
    while problems.len() < MAX_PROBLEMS {
        let mistake = match T::deserialize(tree.clone()) {
            Ok(decoded) => return (decoded, problems),
            Err(mistake) => mistake,
        };
        let removed = tree.remove(&mistake.entry());
        problems.push(mistake.into_problem());
        if !removed {
            // The root itself is wrong.
            break;
        }
    }
    (T::default(), problems)
}

/// The entries that were found wrong, so that no rule is applied to what stands in for them.
pub(crate) fn wrong_keys(problems: &[Problem]) -> BTreeSet<String> {
    problems.iter().map(|problem| problem.key.clone()).collect()
}

/// What is wrong under this key may be a secret in the wrong place, so it is not shown.
const SECRETS: &str = "notifications";

/// A step into the tree.
#[derive(Clone, Debug, PartialEq)]
enum Step {
    Key(String),
    Index(usize),
}

/// Why the tree is no `T`.
#[derive(Debug)]
pub(crate) struct Mistake {
    /// From the innermost outwards.
    steps: Vec<Step>,
    origin: Option<Origin>,
    fault: Box<Fault>,
}

impl Mistake {
    fn new(fault: Fault) -> Self {
        Self { steps: Vec::new(), origin: None, fault: Box::new(fault) }
    }

    fn invalid(found: String, allowed: impl Into<String>) -> Self {
        Self::new(Fault::Invalid { found, allowed: allowed.into(), suggestion: None })
    }

    /// The innermost place wins.
    fn at(mut self, origin: &Origin) -> Self {
        self.origin.get_or_insert_with(|| origin.clone());
        self
    }

    fn under(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// The entry to leave out: keys up to the first list, whose elements must keep their places.
    fn entry(&self) -> Vec<String> {
        let outermost_first = self.steps.iter().rev();
        outermost_first
            .map_while(|step| match step {
                Step::Key(key) => Some(key.clone()),
                Step::Index(_) => None,
            })
            .collect()
    }

    fn into_problem(self) -> Problem {
        let mut key = String::new();
        for step in self.steps.iter().rev() {
            match step {
                Step::Key(name) if key.is_empty() => key.push_str(&shown(name)),
                Step::Key(name) => key = format!("{key}.{}", shown(name)),
                Step::Index(index) => key = format!("{key}[{index}]"),
            }
        }
        let fault = match *self.fault {
            Fault::UnknownKey { suggestion: Some(meant) } => {
                // Siblings share everything but the last step.
                let sibling = key.rsplit_once('.').map_or(meant.clone(), |(parent, _)| format!("{parent}.{meant}"));
                Fault::UnknownKey { suggestion: Some(sibling) }
            }
            Fault::Invalid { found: _, allowed, suggestion } if key.starts_with(SECRETS) => {
                Fault::Invalid { found: "the value (not shown)".to_owned(), allowed, suggestion }
            }
            fault => fault,
        };
        Problem { origin: self.origin.unwrap_or(Origin::Default), key, fault }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fault.fmt(f)
    }
}

impl std::error::Error for Mistake {}

impl de::Error for Mistake {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(Fault::Rule { message: message.to_string() })
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid(found(unexpected), expected.to_string())
    }

    fn invalid_value(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid(found(unexpected), expected.to_string())
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self::new(Fault::Invalid {
            found: found(Unexpected::Str(variant)),
            allowed: alternatives(expected),
            suggestion: suggest::closest(variant, expected.iter().copied()).map(str::to_owned),
        })
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        let suggestion = suggest::closest(field, expected.iter().copied()).map(str::to_owned);
        Self::new(Fault::UnknownKey { suggestion })
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(Fault::Missing { key: field.to_owned() })
    }
}

fn found(unexpected: Unexpected<'_>) -> String {
    match unexpected {
        Unexpected::Bool(value) => value.to_string(),
        Unexpected::Unsigned(value) => value.to_string(),
        Unexpected::Signed(value) => value.to_string(),
        Unexpected::Float(value) => value.to_string(),
        Unexpected::Str(value) => format!("\"{}\"", shown(value)),
        Unexpected::Seq => "a list".to_owned(),
        Unexpected::Map => "a map".to_owned(),
        Unexpected::Unit | Unexpected::Option => "nothing".to_owned(),
        other => other.to_string(),
    }
}

fn unexpected(value: &Value) -> Unexpected<'_> {
    match value {
        Value::Null => Unexpected::Unit,
        Value::Bool(value) => Unexpected::Bool(*value),
        Value::Signed(value) => Unexpected::Signed(*value),
        Value::Unsigned(value) => Unexpected::Unsigned(*value),
        Value::Float(value) => Unexpected::Float(*value),
        Value::Text(value) | Value::Untyped(value) => Unexpected::Str(value),
        Value::List(_) => Unexpected::Seq,
        Value::Map(_) => Unexpected::Map,
    }
}

/// `a, b or c`.
pub(crate) fn alternatives(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [rest @ .., last] => format!("{} or {last}", rest.join(", ")),
    }
}

impl Node {
    fn wrong<T>(&self, allowed: impl Into<String>) -> Result<T, Mistake> {
        Err(Mistake::invalid(found(unexpected(&self.value)), allowed).at(&self.origin))
    }

    /// A variable's text as the list or map that is asked for.
    fn unfolded(self, allowed: &str) -> Result<Self, Mistake> {
        let Value::Untyped(text) = &self.value else { return Ok(self) };
        match Self::from_text(&self.origin, text) {
            Ok(node) => Ok(node),
            Err(_) => self.wrong(allowed),
        }
    }
}

const LIST: &str = "a list such as [a, b]";
const MAP: &str = "a map such as {key: value}";

impl<'de> Deserializer<'de> for Node {
    type Error = Mistake;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        let Self { origin, value } = self;
        let visited = match value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(value),
            Value::Signed(value) => visitor.visit_i64(value),
            Value::Unsigned(value) => visitor.visit_u64(value),
            Value::Float(value) => visitor.visit_f64(value),
            Value::Text(value) | Value::Untyped(value) => visitor.visit_string(value),
            Value::List(items) => visitor.visit_seq(Items { items: items.into_iter(), index: 0 }),
            Value::Map(entries) => visitor.visit_map(Entries { entries: entries.into_iter(), node: None }),
        };
        visited.map_err(|mistake| mistake.at(&origin))
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match &self.value {
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Untyped(text) if text == "true" => visitor.visit_bool(true),
            Value::Untyped(text) if text == "false" => visitor.visit_bool(false),
            _ => self.wrong("true or false"),
        }
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        let number = match &self.value {
            Value::Untyped(text) => text.parse().ok(),
            _ => None,
        };
        match number {
            Some(number) => visitor.visit_i64(number).map_err(|mistake: Mistake| mistake.at(&self.origin)),
            None => self.deserialize_any(visitor),
        }
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        self.deserialize_u64(visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match &self.value {
            Value::Text(_) | Value::Untyped(_) => self.deserialize_any(visitor),
            Value::Bool(_) | Value::Signed(_) | Value::Unsigned(_) | Value::Float(_) => self.wrong("text, in quotes"),
            Value::Null | Value::List(_) | Value::Map(_) => self.wrong("text"),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        self.deserialize_string(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match &self.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        let list = self.unfolded(LIST)?;
        match &list.value {
            Value::List(_) => list.deserialize_any(visitor),
            _ => list.wrong(LIST),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        let map = self.unfolded(MAP)?;
        match &map.value {
            Value::Map(_) => map.deserialize_any(visitor),
            _ => map.wrong(MAP),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        let map = self.unfolded(MAP)?;
        match &map.value {
            Value::Map(_) => map.deserialize_any(visitor),
            _ => map.wrong(format!("a map with keys among {}", alternatives(fields))),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        match &self.value {
            Value::Text(word) | Value::Untyped(word) => {
                visitor.visit_enum(Word(word)).map_err(|mistake| mistake.at(&self.origin))
            }
            _ => self.wrong(alternatives(variants)),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _name: &'static str, visitor: V) -> Result<V::Value, Mistake> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i128 u8 u16 u32 u128 f32 f64 char bytes byte_buf unit unit_struct tuple tuple_struct identifier
        ignored_any
    }
}

impl IntoDeserializer<'_, Mistake> for Node {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

struct Items {
    items: std::vec::IntoIter<Node>,
    index: usize,
}

impl<'de> SeqAccess<'de> for Items {
    type Error = Mistake;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Mistake> {
        let Some(item) = self.items.next() else { return Ok(None) };
        let index = self.index;
        self.index += 1;
        let origin = item.origin.clone();
        seed.deserialize(item).map(Some).map_err(|mistake| mistake.at(&origin).under(Step::Index(index)))
    }
}

struct Entries {
    entries: std::vec::IntoIter<Entry>,
    /// The value of the key that was handed out last.
    node: Option<(String, Node)>,
}

impl<'de> MapAccess<'de> for Entries {
    type Error = Mistake;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Mistake> {
        let Some(Entry { key, key_origin, node }) = self.entries.next() else { return Ok(None) };
        let name: StrDeserializer<'_, Mistake> = key.as_str().into_deserializer();
        let read =
            seed.deserialize(name).map_err(|mistake: Mistake| mistake.at(&key_origin).under(Step::Key(key.clone())))?;
        self.node = Some((key, node));
        Ok(Some(read))
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Mistake> {
        let (key, node) = self.node.take().expect("serde asks for a value only after its key");
        let origin = node.origin.clone();
        seed.deserialize(node).map_err(|mistake| mistake.at(&origin).under(Step::Key(key)))
    }
}

/// A variant that is only a word.
struct Word<'w>(&'w str);

impl<'de> EnumAccess<'de> for Word<'_> {
    type Error = Mistake;
    type Variant = Self;

    fn variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<(T::Value, Self), Mistake> {
        let word: StrDeserializer<'_, Mistake> = self.0.into_deserializer();
        Ok((seed.deserialize(word)?, self))
    }
}

impl<'de> VariantAccess<'de> for Word<'_> {
    type Error = Mistake;

    fn unit_variant(self) -> Result<(), Mistake> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, _seed: T) -> Result<T::Value, Mistake> {
        Err(Mistake::invalid(found(Unexpected::Str(self.0)), "a word"))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, _visitor: V) -> Result<V::Value, Mistake> {
        Err(Mistake::invalid(found(Unexpected::Str(self.0)), "a word"))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, Mistake> {
        Err(Mistake::invalid(found(Unexpected::Str(self.0)), "a word"))
    }
}
