//! A configuration as it was written: values with the place each comes from, before anybody asks what they mean.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, Spanned};

use crate::problem::Origin;

/// A value and where it was written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    pub origin: Origin,
    pub value: Value,
}

/// What was written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Signed(i64),
    Unsigned(u64),
    Float(f64),
    Text(String),
    /// The text of a variable or flag, which means what the asked-for type makes of it.
    Untyped(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// One key of a map; duplicates are refused by the parser.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub key: String,
    pub key_origin: Origin,
    pub node: Node,
}

/// Why a text is no tree.
#[derive(Debug)]
pub(crate) struct NotYaml {
    /// Line and column, if the parser knows.
    pub place: Option<(u64, u64)>,
    pub message: String,
}

impl Node {
    /// An empty map that nobody wrote.
    pub fn empty() -> Self {
        Self { origin: Origin::Default, value: Value::Map(Vec::new()) }
    }

    /// Reads a file.
    pub fn from_file(path: &Arc<Path>, text: &str) -> Result<Self, NotYaml> {
        let place = |location: Location| Origin::File {
            path: Arc::clone(path),
            line: location.line(),
            column: location.column(),
        };
        parse(text).map(|written| located(written, &place))
    }

    /// Reads the YAML inside a variable or flag, all of which comes from `origin`.
    pub fn from_text(origin: &Origin, text: &str) -> Result<Self, NotYaml> {
        parse(text).map(|written| located(written, &|_| origin.clone()))
    }

    /// The node at a path of keys.
    pub fn get(&self, path: &[&str]) -> Option<&Self> {
        let Some((first, rest)) = path.split_first() else { return Some(self) };
        let Value::Map(entries) = &self.value else { return None };
        entries.iter().find(|entry| entry.key == *first)?.node.get(rest)
    }

    /// Sets the node at a path of keys, making maps on the way; what was no map there is replaced.
    pub fn set(&mut self, path: &[&str], node: Self) {
        let Some((first, rest)) = path.split_first() else {
            *self = node;
            return;
        };
        if !matches!(self.value, Value::Map(_)) {
            *self = Self::empty();
        }
        let Value::Map(entries) = &mut self.value else { return };
        let index = entries.iter().position(|entry| entry.key == *first).unwrap_or_else(|| {
            let key_origin = node.origin.clone();
            entries.push(Entry { key: (*first).to_owned(), key_origin, node: Self::empty() });
            entries.len() - 1
        });
        if let Some(entry) = entries.get_mut(index) {
            entry.node.set(rest, node);
        }
    }

    /// Removes the entry at a path of keys; whether there was one.
    pub fn remove(&mut self, path: &[String]) -> bool {
        let Value::Map(entries) = &mut self.value else { return false };
        match path {
            [] => false,
            [last] => {
                let before = entries.len();
                entries.retain(|entry| entry.key != *last);
                entries.len() < before
            }
            [first, rest @ ..] => {
                entries.iter_mut().find(|entry| entry.key == *first).is_some_and(|entry| entry.node.remove(rest))
            }
        }
    }

    /// Removes keys without a value: a section whose every line is commented out is a section left to its defaults.
    pub fn without_nulls(mut self) -> Self {
        if let Value::Map(entries) = self.value {
            let kept = entries.into_iter().filter(|entry| entry.node.value != Value::Null);
            self.value = Value::Map(kept.map(|entry| Entry { node: entry.node.without_nulls(), ..entry }).collect());
        }
        self
    }
}

/// Most nodes that aliases may stand for together, so that a few lines cannot become a forest.
const MAX_ALIASED: usize = 10_000;

fn parse(text: &str) -> Result<Spanned<Written>, NotYaml> {
    let options = serde_saphyr::options! {
        // `y`, `no` and `on` are what somebody called a label's value.
        strict_booleans: true,
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: MAX_ALIASED },
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| NotYaml {
        place: error.location().map(|location| (location.line(), location.column())),
        message: first_line(&error),
    })
}

/// The parser's own message, without the lines around it: one of them may hold a secret.
fn first_line(error: &serde_saphyr::Error) -> String {
    let rendered = error.without_snippet().to_string();
    let line = rendered.lines().next().unwrap_or_default();
    // The place is told by whoever holds this error, and the advice at the end is for programmers.
    let message = line.split_once(": ").filter(|(place, _)| place.starts_with("error")).map_or(line, |(_, rest)| rest);
    let message =
        message.split_once(": ").filter(|(place, _)| place.starts_with("line ")).map_or(message, |(_, rest)| rest);
    let message = message.split_once(", set DuplicateKeyPolicy").map_or(message, |(message, _)| message);
    message.to_owned()
}

fn located(written: Spanned<Written>, place: &dyn Fn(Location) -> Origin) -> Node {
    let value = match written.value {
        Written::Plain(value) => value,
        Written::List(items) => Value::List(items.into_iter().map(|item| located(item, place)).collect()),
        Written::Map(pairs) => Value::Map(
            pairs
                .into_iter()
                .map(|(key, node)| Entry {
                    key: key.value,
                    key_origin: place(key.referenced),
                    node: located(node, place),
                })
                .collect(),
        ),
    };
    Node { origin: place(written.referenced), value }
}

/// What the YAML parser hands over.
enum Written {
    Plain(Value),
    List(Vec<Spanned<Self>>),
    Map(Vec<(Spanned<String>, Spanned<Self>)>),
}

impl<'de> Deserialize<'de> for Written {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(WrittenVisitor)
    }
}

struct WrittenVisitor;

impl<'de> Visitor<'de> for WrittenVisitor {
    type Value = Written;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("YAML")
    }

    fn visit_unit<E>(self) -> Result<Written, E> {
        Ok(Written::Plain(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Written, E> {
        Ok(Written::Plain(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Written, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Written, E> {
        Ok(Written::Plain(Value::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Written, E> {
        Ok(Written::Plain(Value::Signed(value)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Written, E> {
        Ok(Written::Plain(Value::Unsigned(value)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Written, E> {
        Ok(Written::Plain(Value::Float(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Written, E> {
        Ok(Written::Plain(Value::Text(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Written, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Written::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut pairs: A) -> Result<Written, A::Error> {
        let mut map = Vec::new();
        while let Some(pair) = pairs.next_entry()? {
            map.push(pair);
        }
        Ok(Written::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> Result<Node, NotYaml> {
        Node::from_file(&Path::new("c.yaml").into(), text)
    }

    #[test]
    fn values_know_their_place() {
        let tree = file("# first\na:\n  b: [x, 5]\n  c: -1\n").unwrap();
        for (path, place, value) in [
            (&["a", "c"][..], "c.yaml:4:6", Value::Signed(-1)),
            (&["a", "b"][..], "c.yaml:3:6", tree.get(&["a", "b"]).unwrap().value.clone()),
        ] {
            let node = tree.get(path).unwrap();
            assert_eq!((node.origin.to_string().as_str(), &node.value), (place, &value));
        }
        let Value::List(items) = &tree.get(&["a", "b"]).unwrap().value else { panic!("b is a list") };
        let places: Vec<String> = items.iter().map(|item| item.origin.to_string()).collect();
        assert_eq!(places, ["c.yaml:3:7", "c.yaml:3:10"]);
    }

    #[test]
    fn what_is_not_yaml_is_told_without_its_surroundings() {
        for (text, place, says) in [
            ("webhookUrl: secret\na: [1", (2, 4), "unclosed bracket"),
            ("a: 1\na: 2", (2, 1), "duplicate mapping key: a"),
            ("a:\n\t- b", (2, 2), "tabs"),
            ("a: 'b", (1, 4), "unclosed quote"),
            ("a: 1\n---\nb: 2", (3, 1), "multiple YAML documents"),
            ("a: *nowhere", (1, 4), "anchor"),
        ] {
            let error = file(text).unwrap_err();
            assert_eq!(error.place, Some(place), "{text:?}: {error:?}");
            assert!(error.message.contains(says), "{text:?}: {error:?}");
            assert!(!error.message.contains(['\n']) && !error.message.contains("secret"), "{error:?}");
        }
        for nested in ["[".repeat(100_000), format!("{}1{}", "{a: ".repeat(50_000), "}".repeat(50_000))] {
            assert!(file(&nested).is_err());
        }
    }

    #[test]
    fn keys_without_value_are_left_out() {
        let tree = file("a:\nb: {c: ~, d: 1}\n").unwrap().without_nulls();
        assert_eq!((tree.get(&["a"]), tree.get(&["b", "c"])), (None, None));
        assert!(tree.get(&["b", "d"]).is_some());
    }

    #[test]
    fn setting_and_removing() {
        let mut tree = file("a: 1\n").unwrap();
        let node = Node { origin: Origin::Flag("--x"), value: Value::Bool(true) };
        tree.set(&["a", "b"], node.clone());
        assert_eq!(tree.get(&["a", "b"]), Some(&node));
        assert!(tree.remove(&["a".to_owned(), "b".to_owned()]));
        assert!(!tree.remove(&["a".to_owned(), "b".to_owned()]));
        assert_eq!(tree.get(&["a", "b"]), None);
    }
}
