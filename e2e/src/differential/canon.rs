//! Brings the answers of one server into words that another server can share: uids, revisions and generated names become
//! numbers in the order of their first appearance, so that one that changes, or does not, is still seen.
//!
//! Times stay as they are. Whether two of them are the same moment is a question for the comparison.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde_json::{Map, Value};

/// How many characters the server appends to a `generateName`.
const SUFFIX: usize = 5;

/// What was seen so far of one server.
#[derive(Debug, Default)]
pub(crate) struct Canon {
    uids: BTreeMap<String, usize>,
    revisions: BTreeMap<u64, usize>,
    generated: BTreeMap<String, String>,
    /// By uid.
    created: BTreeMap<String, String>,
    /// The first time that was seen.
    origin: Option<Timestamp>,
}

/// What a revision belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    /// It made the object.
    Object,
    /// Up to here a list tells; others may have written meanwhile.
    UpTo,
}

impl Canon {
    /// The same in words that are shared.
    pub(crate) fn of(&mut self, answer: &Value) -> Value {
        self.learn(answer);
        self.value(answer, Version::Object)
    }

    /// How long after the first time that was seen.
    pub(crate) fn since_origin(&self, time: Timestamp) -> Option<jiff::SignedDuration> {
        self.origin.map(|origin| time.duration_since(origin))
    }

    /// Generated names have to be known before they are met elsewhere in the same answer.
    fn learn(&mut self, value: &Value) {
        match value {
            Value::Object(fields) => {
                if let Some(metadata) = fields.get("metadata") {
                    self.learn_name(metadata);
                }
                fields.values().for_each(|value| self.learn(value));
            }
            Value::Array(items) => items.iter().for_each(|item| self.learn(item)),
            Value::String(text) => {
                if self.origin.is_none() {
                    self.origin = text.parse().ok();
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn learn_name(&mut self, metadata: &Value) {
        let text = |key: &str| metadata[key].as_str().unwrap_or_default();
        let (prefix, name) = (text("generateName"), text("name"));
        let is_generated = !prefix.is_empty() && name.len() == prefix.len() + SUFFIX && name.starts_with(prefix);
        if is_generated && !self.generated.contains_key(name) {
            let number = self.generated.len();
            self.generated.insert(name.to_owned(), format!("{prefix}<generated {number}>"));
        }
    }

    fn value(&mut self, value: &Value, version: Version) -> Value {
        match value {
            Value::Object(fields) => self.object(fields, version).into(),
            Value::Array(items) => items.iter().map(|item| self.value(item, Version::Object)).collect(),
            Value::String(text) => self.text(text).into(),
            other => other.clone(),
        }
    }

    fn object(&mut self, fields: &Map<String, Value>, version: Version) -> Map<String, Value> {
        let is_list = fields.contains_key("items") || fields.contains_key("rows");
        let mut canonical = Map::new();
        // In an order that both servers share.
        let sorted: BTreeMap<&String, &Value> = fields.iter().collect();
        for (key, value) in sorted {
            let shared = match (key.as_str(), value) {
                ("resourceVersion", Value::String(text)) => self.revision(text, version),
                ("continue", Value::String(token)) => self.token(token),
                ("metadata", value) if is_list => self.value(value, Version::UpTo),
                ("metadata", value) => self.value(value, version),
                ("creationTimestamp", Value::String(time)) => self.creation(fields, time),
                ("managedFields", Value::Array(entries)) => self.ownership(entries),
                ("cells", Value::Array(cells)) => cells.iter().map(|cell| self.cell(cell)).collect(),
                (_, value) => self.value(value, Version::Object),
            };
            canonical.insert(self.text(key), shared);
        }
        canonical
    }

    /// A cell of a table. An age in it is as old as the answer is late.
    fn cell(&mut self, cell: &Value) -> Value {
        match cell.as_str() {
            Some(text) if is_age(text) => "<age>".into(),
            Some(text) => match text.strip_suffix(" ago)").and_then(|text| text.split_once(" (")) {
                Some((restarts, age)) if is_age(age) => format!("{restarts} (<age> ago)").into(),
                _ => self.text(text).into(),
            },
            None => cell.clone(),
        }
    }

    fn creation(&mut self, metadata: &Map<String, Value>, time: &str) -> Value {
        let Some(uid) = metadata.get("uid").and_then(Value::as_str) else { return time.into() };
        let first = self.created.entry(uid.to_owned()).or_insert_with(|| time.to_owned());
        if first == time { time.into() } else { "another than before".into() }
    }

    /// Entries are kept in the order of their times, to the second; another second is another order.
    fn ownership(&mut self, entries: &[Value]) -> Value {
        let mut entries: Vec<&Value> = entries.iter().collect();
        let text = |entry: &Value, key: &str| entry[key].as_str().unwrap_or_default().to_owned();
        entries.sort_by_key(|entry| ["operation", "manager", "subresource", "apiVersion"].map(|key| text(entry, key)));
        entries.into_iter().map(|entry| self.value(entry, Version::Object)).collect()
    }

    fn revision(&mut self, text: &str, version: Version) -> Value {
        let Ok(revision) = text.parse::<u64>() else { return text.into() };
        let newest = self.revisions.last_key_value().map_or(0, |(revision, _)| *revision);
        if version == Version::UpTo && revision >= newest {
            return "the newest".into();
        }
        if version == Version::UpTo && !self.revisions.contains_key(&revision) {
            return "an older one".into();
        }
        let number = self.revisions.len();
        let number = *self.revisions.entry(revision).or_insert(number);
        format!("revision {number}").into()
    }

    /// A `continue` token holds the revision of its list and the name that comes next.
    fn token(&mut self, token: &str) -> Value {
        let decoded = URL_SAFE_NO_PAD.decode(token).ok().and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
        let Some(mut decoded) = decoded else { return token.into() };
        if let Some(revision) = decoded["rv"].as_u64() {
            decoded["rv"] = self.revision(&revision.to_string(), Version::UpTo);
        }
        decoded["start"] = self.text(decoded["start"].as_str().unwrap_or_default()).into();
        decoded.to_string().into()
    }

    fn text(&mut self, text: &str) -> String {
        if text.ends_with('Z') && text.parse::<Timestamp>().is_ok() {
            return text.to_owned();
        }
        let mut text = self.named(text);
        text = replaced(&text, UID, |uid| {
            let number = self.uids.len();
            Some(format!("<uid {}>", *self.uids.entry(uid.to_owned()).or_insert(number)))
        });
        text = replaced(&text, TIME, |time| time.parse::<Timestamp>().is_ok().then(|| "<time>".to_owned()));
        without_revisions(&text)
    }

    fn named(&mut self, text: &str) -> String {
        let mut text = text.to_owned();
        if !text.contains('-') {
            return text;
        }
        for (name, shared) in &self.generated {
            text = text.replace(name, shared);
        }
        for (shape, prefix) in [(TOKENS, "kube-api-access-"), (WRONG, "G-")] {
            text = replaced(&text, shape, |name| {
                let number = self.generated.len();
                let shared = format!("{prefix}<generated {number}>");
                self.generated.insert(name.to_owned(), shared.clone());
                Some(shared)
            });
        }
        text
    }
}

/// The shape of a text: `x` for a hexadecimal digit, `9` for a decimal one, `z` for what names are generated of, everything
/// else for itself. `x` and `z` are in none of these texts.
const UID: &str = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";
const TIME: &str = "9999-99-99T99:99:99Z";
/// A generated name that is refused, and so never in an object.
const WRONG: &str = "G-zzzzz";
/// The volume that admission adds to every pod.
const TOKENS: &str = "kube-api-access-zzzzz";

/// `7s`, `2m30s`
fn is_age(text: &str) -> bool {
    let has_unit = text.ends_with(['s', 'm', 'h', 'd', 'y']);
    let mut parts = text.split_inclusive(['s', 'm', 'h', 'd', 'y']);
    has_unit && parts.all(|part| part.len() > 1 && part[..part.len() - 1].bytes().all(|byte| byte.is_ascii_digit()))
}

fn has_shape(text: &[u8], shape: &str) -> bool {
    text.len() == shape.len()
        && text.iter().zip(shape.bytes()).all(|(byte, wanted)| match wanted {
            b'x' => byte.is_ascii_digit() || (b'a'..=b'f').contains(byte),
            b'9' => byte.is_ascii_digit(),
            b'z' => byte.is_ascii_lowercase() || byte.is_ascii_digit(),
            other => *byte == other,
        })
}

/// Puts something else in the place of what has a shape. Every shape has a dash, by which it is found.
fn replaced(text: &str, shape: &str, mut other: impl FnMut(&str) -> Option<String>) -> String {
    let dash = shape.find('-').expect("every shape has a dash");
    let mut done = String::new();
    let mut rest = text;
    loop {
        let starts = rest.match_indices('-').filter_map(|(at, _)| at.checked_sub(dash));
        let fits = |at: &usize| rest.as_bytes().get(*at..*at + shape.len()).is_some_and(|part| has_shape(part, shape));
        let Some(found) = starts.into_iter().find(fits) else { return done + rest };
        let (before, from) = rest.split_at(found);
        let (part, after) = from.split_at(shape.len());
        done += before;
        done += &other(part).unwrap_or_else(|| part.to_owned());
        rest = after;
    }
}

/// Messages name revisions of the whole server: `too old resource version: 5 (9)`, `current: 9`.
fn without_revisions(text: &str) -> String {
    let mut text = text.to_owned();
    if !text.contains(' ') {
        return text;
    }
    for (before, after) in [("resource version: ", " ("), (" (", ")"), ("current: ", "")] {
        let mut from = 0;
        while let Some(at) = text[from..].find(before).map(|at| from + at + before.len()) {
            let digits = text[at..].bytes().take_while(u8::is_ascii_digit).count();
            if digits > 0 && text[at + digits..].starts_with(after) {
                text.replace_range(at..at + digits, "N");
            }
            from = at;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(uid: &str, version: &str) -> Value {
        json!({"metadata": {"uid": uid, "resourceVersion": version}})
    }

    #[test]
    fn what_is_new_is_told_from_what_was_there() {
        let (one, other) = ("0123456a-0000-0000-0000-000000000000", "0123456b-0000-0000-0000-000000000000");
        let told = |steps: &[(&str, &str)]| {
            let mut canon = Canon::default();
            steps.iter().map(|(uid, version)| canon.of(&object(uid, version))).collect::<Vec<_>>()
        };
        assert_eq!(told(&[(one, "5"), (one, "9")]), told(&[(other, "70"), (other, "71")]));
        assert_ne!(told(&[(one, "5"), (one, "9")]), told(&[(one, "5"), (other, "9")]));
        assert_ne!(told(&[(one, "5"), (one, "9")]), told(&[(one, "5"), (one, "5")]));
    }

    #[test]
    fn lists_tell_up_to_the_newest_or_an_older_revision() {
        let mut canon = Canon::default();
        let list = |version: &str| json!({"items": [], "metadata": {"resourceVersion": version}});
        canon.of(&object("", "5"));
        canon.of(&object("", "8"));
        let told: Vec<Value> =
            ["9", "8", "5", "6"].map(|version| canon.of(&list(version))["metadata"]["resourceVersion"].clone()).into();
        assert_eq!(told, ["the newest", "the newest", "revision 0", "an older one"]);
    }

    #[test]
    fn generated_names_and_uids_are_found_within_texts() {
        let mut canon = Canon::default();
        let pod =
            json!({"metadata": {"generateName": "g-", "name": "g-x2b4c"}, "spec": {"v": "kube-api-access-bbbbb"}});
        let told = canon.of(&pod);
        assert_eq!(told["metadata"]["name"], "g-<generated 0>");
        assert_eq!(told["spec"]["v"], "kube-api-access-<generated 1>");
        assert_eq!(canon.of(&pod), told);
        let message = json!("pods \"g-x2b4c\" of 0123456a-0000-0000-0000-000000000000 at 2026-01-01T00:00:00Z");
        assert_eq!(canon.of(&message), "pods \"g-<generated 0>\" of <uid 0> at <time>");
        assert_eq!(canon.of(&json!("too old resource version: 5 (9)")), "too old resource version: N (N)");
    }

    #[test]
    fn ages_are_told_from_names() {
        let mut canon = Canon::default();
        let rows = json!({"rows": [{"cells": ["a", "7s", "2m30s", "3 (5m ago)", "s", "5", "5x3s", null, 4]}]});
        let told = canon.of(&rows)["rows"][0]["cells"].clone();
        assert_eq!(told, json!(["a", "<age>", "<age>", "3 (<age> ago)", "s", "5", "5x3s", null, 4]));
    }

    #[test]
    fn a_creation_does_not_change() {
        let mut canon = Canon::default();
        let of = |time: &str| json!({"uid": "u", "creationTimestamp": time});
        assert_eq!(canon.of(&of("2026-01-01T00:00:00Z"))["creationTimestamp"], "2026-01-01T00:00:00Z");
        assert_eq!(canon.of(&of("2026-01-01T00:00:01Z"))["creationTimestamp"], "another than before");
    }
}
