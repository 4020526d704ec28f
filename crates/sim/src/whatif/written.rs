//! Documents as they were written: values as JSON, and the place of each of them. What they mean is not asked here.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Number, Value};
use serde_saphyr::{Location, Spanned};

use crate::scenario::{Mistake, Place};

/// Most values in a file.
const MOST_VALUES: usize = 4_000_000;
/// Most values that aliases may stand for together, so that a few lines cannot become a forest.
const MOST_ALIASED: usize = 100_000;
/// The deepest a value may be nested.
const DEEPEST: usize = 128;

/// A document.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Document {
    /// What it says.
    pub value: Value,
    /// Where each value is, by its JSON pointer (RFC 6901).
    pub places: Places,
}

/// Where values are.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Places(BTreeMap<String, Place>);

impl Places {
    /// The place of a value, or of the nearest one around it.
    pub fn at(&self, pointer: &str) -> Place {
        let mut pointer = pointer;
        loop {
            if let Some(place) = self.0.get(pointer) {
                return *place;
            }
            let Some((around, _)) = pointer.rsplit_once('/') else { return Place { line: 1, column: 1 } };
            pointer = around;
        }
    }

    /// The places of what is within a value, as if that were the whole.
    pub fn within(&self, pointer: &str) -> Self {
        let inner = |(key, place): (&String, &Place)| {
            let rest = key.strip_prefix(pointer)?;
            (rest.is_empty() || rest.starts_with('/')).then(|| (rest.to_owned(), *place))
        };
        Self(
            self.0
                .range(pointer.to_owned()..)
                .take_while(|(key, _)| key.starts_with(pointer))
                .filter_map(inner)
                .collect(),
        )
    }
}

/// The pointer of a field as the API server names it: `spec.containers[0].image`, `metadata.annotations[a.b/c]`.
pub(super) fn pointer(field: &str) -> String {
    let mut pointer = String::new();
    let mut rest = field;
    while !rest.is_empty() {
        let (step, after) = match rest.strip_prefix('[') {
            Some(inner) => inner.split_once(']').unwrap_or((inner, "")),
            None => rest.split_at(rest.find(['.', '[']).unwrap_or(rest.len())),
        };
        pointer.push('/');
        pointer.push_str(&escaped(step));
        rest = after.strip_prefix('.').unwrap_or(after);
    }
    pointer
}

fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

/// The documents of a file, in YAML or JSON. Empty ones are none.
pub(super) fn documents(text: &str) -> Result<Vec<Document>, Mistake> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_nodes: MOST_VALUES,
            max_events: 2 * MOST_VALUES,
            max_documents: MOST_VALUES,
            max_depth: DEEPEST,
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: MOST_ALIASED },
        // As kubectl reads it: `0644` is a mode.
        legacy_octal_numbers: true,
        with_snippet: false,
    };
    match serde_saphyr::from_multiple_with_options::<Spanned<Written>>(text, options) {
        Ok(written) => Ok(written.into_iter().map(Document::of).collect()),
        // JSON that is no YAML, as with tabs in front of lines. It has no places, but it is not refused.
        Err(error) => match serde_json::from_str::<Spanned<Written>>(text) {
            Ok(written) => Ok(vec![Document::of(written)]),
            Err(_) => Err(crate::scenario::not_understood(&error)),
        },
    }
}

impl Document {
    fn of(written: Spanned<Written>) -> Self {
        let mut places = BTreeMap::new();
        let value = written.value.located(written.referenced, &mut String::new(), &mut places);
        Self { value, places: Places(places) }
    }
}

/// What the YAML parser hands over.
enum Written {
    Plain(Value),
    List(Vec<Spanned<Self>>),
    Map(Vec<(String, Spanned<Self>)>),
}

impl Written {
    fn located(self, place: Location, pointer: &mut String, places: &mut BTreeMap<String, Place>) -> Value {
        if place != Location::UNKNOWN {
            places.insert(pointer.clone(), place.into());
        }
        let length = pointer.len();
        let mut inner = |step: &str, written: Spanned<Self>| {
            pointer.push('/');
            pointer.push_str(&escaped(step));
            let value = written.value.located(written.referenced, pointer, places);
            pointer.truncate(length);
            value
        };
        match self {
            Self::Plain(value) => value,
            Self::List(items) => {
                items.into_iter().enumerate().map(|(index, item)| inner(&index.to_string(), item)).collect()
            }
            Self::Map(pairs) => {
                let pairs = pairs.into_iter().map(|(key, written)| {
                    let value = inner(&key, written);
                    (key, value)
                });
                Value::Object(pairs.collect::<Map<_, _>>())
            }
        }
    }
}

impl<'de> Deserialize<'de> for Written {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reading)
    }
}

struct Reading;

impl<'de> Visitor<'de> for Reading {
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
        Ok(Written::Plain(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Written, E> {
        Ok(Written::Plain(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Written, E> {
        Ok(Written::Plain(value.into()))
    }

    /// A whole number is one however it is written: to the API server `kubectl` sends 3 for `3.0` and 1000 for `1e3`, since Go
    /// writes them so.
    fn visit_f64<E: Error>(self, value: f64) -> Result<Written, E> {
        if let Some(whole) = whole(value) {
            return Ok(Written::Plain(whole.into()));
        }
        let number = Number::from_f64(value).ok_or_else(|| E::custom(format!("{value} is no number that JSON has")))?;
        Ok(Written::Plain(number.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Written, E> {
        Ok(Written::Plain(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Written, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Written::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Written, A::Error> {
        let (mut pairs, mut keys) = (Vec::<(String, Spanned<Written>)>::new(), BTreeSet::new());
        while let Some((key, value)) = entries.next_entry::<String, _>()? {
            // The parser of YAML has its own word on this, that of JSON takes the last.
            if !keys.insert(key.clone()) {
                return Err(A::Error::custom(format!("the key {key:?} is there twice")));
            }
            pairs.push((key, value));
        }
        Ok(Written::Map(pairs))
    }
}

/// A number without a fraction, as far as a double knows whole numbers.
fn whole(value: f64) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    #[expect(clippy::cast_possible_truncation, reason = "it has no fraction, and is within the bounds")]
    (value.fract() == 0.0 && value.abs() <= EXACT).then_some(value as i64)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn place(line: u64, column: u64) -> Place {
        Place { line, column }
    }

    #[test]
    fn values_have_places_in_every_document() {
        let text = "# first\na: 1\n---\n---\nb:\n  c/d: [x, 0644]\n---\n{\"e\": null}\n";
        let documents = documents(text).unwrap();
        let values: Vec<&Value> = documents.iter().map(|document| &document.value).collect();
        assert_eq!(values, [&json!({"a": 1}), &json!({"b": {"c/d": ["x", 0o644]}}), &json!({"e": null})]);
        assert_eq!(documents[0].places.at("/a"), place(2, 4));
        let places = &documents[1].places;
        assert_eq!(places.at(&pointer("b[c/d][1]")), place(6, 12));
        assert_eq!(places.at("/b/c~1d/7/x"), place(6, 8), "of what is not there, the nearest around it");
        assert_eq!(places.within("/b").at("/c~1d/0"), place(6, 9));
        assert_eq!(documents[2].places.at("/e"), place(8, 7));
    }

    #[test]
    fn fields_are_pointers() {
        for (field, wanted) in [
            ("", ""),
            ("spec.replicas", "/spec/replicas"),
            ("spec.template.spec.containers[0].image", "/spec/template/spec/containers/0/image"),
            ("metadata.annotations[a.b/c]", "/metadata/annotations/a.b~1c"),
        ] {
            assert_eq!(pointer(field), wanted);
        }
    }

    #[test]
    fn words_are_what_kubectl_takes_them_for() {
        let read = |text: &str| documents(text).unwrap().remove(0).value;
        assert_eq!(read("a: yes\nb: \"yes\"\nc: 70\nd: 1.5"), json!({"a": true, "b": "yes", "c": 70, "d": 1.5}));
        assert_eq!(read("x: &x {a: 1}\ny: {<<: *x, b: 2}")["y"], json!({"a": 1, "b": 2}));
        assert_eq!(read("x: &x {a: 1}\ny: {<<: *x, a: 2}")["y"], json!({"a": 2}));
        assert_eq!(read("{\n\t\"a\": [1,\n\t2]}"), json!({"a": [1, 2]}));
        let (yaml, json) = ("[3.0, 1e5, -2.0, 3.5]", "[\t3.0,\n\t1e5, -2.0, 3.5]");
        assert_eq!((read(yaml), read(json)), (json!([3, 100_000, -2, 3.5]), json!([3, 100_000, -2, 3.5])));
        assert!(read("[1e300]")[0].is_f64(), "no whole number that a double knows exactly");
    }

    #[test]
    fn mistakes_have_a_place() {
        for (text, wanted) in [
            ("a: 1\n  b: 2\n", place(2, 4)),
            ("a: [1, 2\n", place(1, 4)),
            ("---\na: 1\n---\nb: 1\nb: 2\n", place(5, 1)),
            ("{\"a\": 1,}}", place(1, 10)),
            ("{\"a\": {\"b\": 1,\n \"b\": 2}}", place(2, 2)),
            ("{\n\t\"a\": 1,\n\t\"a\": 2}", place(3, 2)),
            ("a: &x [*x]", place(1, 8)),
        ] {
            let mistake = documents(text).unwrap_err();
            assert_eq!(mistake.place, wanted, "{text:?}: {}", mistake.what);
            assert!(!mistake.what.contains("line "), "{}", mistake.what);
        }
        // The parser of YAML does not take this character, that of JSON does.
        assert!(documents("{\"a\": \"\u{7f}\"}").is_ok() && documents("{\"a\": \"\u{7f}\", \"a\": 1}").is_err());
        assert_eq!(documents("a: 1\na: 2\n").unwrap_err().what, "the key a is there twice: keep one of them");
        let bomb = format!(
            "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n{}",
            (1..9).fold(String::new(), |text, number| {
                let before = format!("*a{}, ", number - 1).repeat(10);
                format!("{text}a{number}: &a{number} [{}]\n", before.trim_end_matches(", "))
            })
        );
        assert!(documents(&bomb).is_err());
        assert!(documents(&"[".repeat(100_000)).is_err());
    }
}
