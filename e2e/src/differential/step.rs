//! What is sent, as data: requests whose parts may be taken from earlier answers, because versions, uids and generated names
//! are another world's own.
//!
//! In every text, `{ns}` stands for the namespace of the sequence, and `${3/metadata/uid}` for what the answer to request 3
//! holds there. A JSON text that is nothing but such a reference becomes the value itself; what is not there becomes null,
//! and nothing within a text.

use std::fmt;

use embedded_cluster::resource::Resource;
use serde_json::Value;

/// JSON as it is.
pub(crate) const JSON: &str = "application/json";
/// RFC 7386.
pub(crate) const MERGE: &str = "application/merge-patch+json";
/// Kubernetes' own.
pub(crate) const STRATEGIC: &str = "application/strategic-merge-patch+json";
/// RFC 6902.
pub(crate) const OPERATIONS: &str = "application/json-patch+json";
/// Server-side apply.
pub(crate) const APPLY: &str = "application/apply-patch+yaml";

/// What objects can be sent as, besides.
pub(crate) const YAML: &str = "application/yaml";
pub(crate) const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
/// No method of HTTP: here the servers forget the past.
pub(crate) const COMPACT: &str = "COMPACT";

/// A body.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Sent {
    Nothing,
    Json(Value),
    /// As it is, JSON or not.
    Text(String),
    /// The answer to an earlier request, if it was an object, with a merge patch laid over it.
    Edited {
        of: usize,
        merge: Value,
    },
}

/// Until when an answer is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// One piece.
    Whole,
    /// Events, beside the requests that follow, until one of an object with the annotation [`MARK`].
    UntilMark,
    /// Events, until the server ends it.
    ToEnd,
}

/// Ends a watch.
pub(crate) const MARK: &str = "differential/mark";

/// One request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Step {
    /// For the count.
    pub what: &'static str,
    pub method: &'static str,
    /// With the query.
    pub path: String,
    pub content_type: &'static str,
    /// Empty for none.
    pub accept: &'static str,
    pub body: Sent,
    pub reading: Reading,
}

impl Step {
    /// Whether it ends watches.
    pub(crate) fn marks(&self) -> bool {
        matches!(&self.body, Sent::Json(body) if body["metadata"]["annotations"].get(MARK).is_some())
    }

    /// Whether it leaves everything as it is, if all is well.
    pub(crate) fn is_trial(&self) -> bool {
        self.method == "GET" || self.path.contains("dryRun=All")
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, method, path, content_type, accept, body, reading } = self;
        write!(f, "{method} {path}")?;
        if *content_type != JSON {
            write!(f, " [{content_type}]")?;
        }
        if !accept.is_empty() {
            write!(f, " [accept {accept}]")?;
        }
        match body {
            Sent::Nothing => {}
            Sent::Json(body) => write!(f, " {body}")?,
            Sent::Text(body) => write!(f, " {body:?}")?,
            Sent::Edited { of, merge } => write!(f, " (the answer to {of} with {merge})")?,
        }
        if *reading == Reading::UntilMark {
            f.write_str(" (read until the mark)")?;
        }
        write!(f, " ({what})")
    }
}

/// Where the objects of a kind are.
pub(crate) fn collection(row: &Resource) -> String {
    let root = if row.group.is_empty() { "api" } else { "apis" };
    let scope = if row.namespaced { "namespaces/{ns}/" } else { "" };
    format!("/{root}/{}/{scope}{}", row.api_version(), row.plural)
}

/// Percent-encoded for a query or a segment of a path. References stay.
pub(crate) fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'{' | b'}' | b'$' | b'/' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.extend(format!("%{byte:02X}").chars()),
        }
        encoded
    })
}

/// Fills in the namespace and the references to earlier answers.
pub(crate) struct Filling<'a> {
    pub namespace: &'a str,
    pub answers: &'a [Value],
}

impl Filling<'_> {
    fn found(&self, reference: &str) -> Value {
        let (number, pointer) = reference.split_at(reference.find('/').unwrap_or(reference.len()));
        let answer = number.parse().ok().and_then(|number: usize| self.answers.get(number));
        answer.and_then(|answer| answer.pointer(pointer)).cloned().unwrap_or_default()
    }

    /// A text; braces are not part of a path, so what is left of them is encoded.
    pub(crate) fn path(&self, text: &str) -> String {
        self.text(text).replace('{', "%7B").replace('}', "%7D").replace(' ', "%20")
    }

    pub(crate) fn text(&self, text: &str) -> String {
        let mut filled = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            let (reference, after) = after.split_once('}').unwrap_or((after, ""));
            filled += before;
            match self.found(reference) {
                Value::Null => {}
                Value::String(text) => filled += &text,
                other => filled += &other.to_string(),
            }
            rest = after;
        }
        (filled + rest).replace("{ns}", self.namespace)
    }

    pub(crate) fn json(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => match text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')) {
                Some(reference) if !reference.contains('}') => self.found(reference),
                _ => self.text(text).into(),
            },
            Value::Array(items) => items.iter().map(|item| self.json(item)).collect(),
            Value::Object(fields) => fields
                .iter()
                .map(|(key, value)| (self.text(key), self.json(value)))
                .collect::<serde_json::Map<_, _>>()
                .into(),
            other => other.clone(),
        }
    }

    pub(crate) fn body(&self, sent: &Sent) -> Vec<u8> {
        match sent {
            Sent::Nothing => Vec::new(),
            Sent::Json(value) => self.json(value).to_string().into_bytes(),
            Sent::Text(text) => self.text(text).into_bytes(),
            Sent::Edited { of, merge } => {
                let answer = self.answers.get(*of).filter(|answer| answer["kind"] != "Status");
                let mut object = answer.cloned().unwrap_or_default();
                merge_into(&mut object, &self.json(merge));
                object.to_string().into_bytes()
            }
        }
    }
}

/// RFC 7386.
pub(crate) fn merge_into(target: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        target.clone_from(patch);
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    for (key, value) in fields {
        if value.is_null() {
            target.as_object_mut().expect("made one above").remove(key);
        } else {
            merge_into(&mut target[key.as_str()], value);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn references_are_filled_in() {
        let answers = [json!({"metadata": {"uid": "u", "generation": 3}})];
        let filling = Filling { namespace: "s1", answers: &answers };
        assert_eq!(filling.text("/{ns}/${0/metadata/uid}/${1/x}."), "/s1/u/.");
        let body =
            json!({"a": "${0/metadata/generation}", "b": ["${0/nothing}"], "c": "x${0/metadata/uid}", "{ns}": 1});
        assert_eq!(filling.json(&body), json!({"a": 3, "b": [null], "c": "xu", "s1": 1}));
        let edited = Sent::Edited { of: 0, merge: json!({"metadata": {"uid": null, "x": {"y": null, "z": 1}}}) };
        assert_eq!(filling.body(&edited), br#"{"metadata":{"generation":3,"x":{"z":1}}}"#);
    }

    #[test]
    fn queries_are_encoded() {
        assert_eq!(encoded("a in (b,{ns})"), "a%20in%20%28b%2C{ns}%29");
    }
}
