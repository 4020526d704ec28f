//! From what was sent to what is stored: unknown fields fall away, values get their canonical form, empty ones vanish or
//! appear as the real server's encoding has it, and what has the wrong type is refused in its words.
//!
//! It knows types, not meanings: defaults and validation come after it.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::schema::{self, Field, Struct, Type, named};
use crate::api::quantity::Quantity;
use crate::clock::{microseconds, seconds};
use crate::resource::Kind;

/// What became of it.
#[derive(Debug)]
pub(crate) struct Decoded {
    pub object: Value,
    /// Fields that there are not, as they are named in a warning: `unknown field "spec.foo"`.
    pub unknown: Vec<String>,
}

/// Who complains about a wrong type: the decoder of JSON, or the one that strategic merge patches go through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Words {
    Json,
    Unstructured,
}

/// Brings a value into the form of a type. The error is the real decoder's message.
pub(crate) fn decode(value: Value, type_: &'static Struct) -> Result<Decoded, String> {
    decode_in(value, type_, Words::Json)
}

/// The same, with errors in certain words.
pub(crate) fn decode_in(value: Value, type_: &'static Struct, words: Words) -> Result<Decoded, String> {
    let mut decoder = Decoder { path: Vec::new(), unknown: Vec::new(), words };
    let object = decoder.fields(value, type_)?;
    Ok(Decoded { object, unknown: decoder.unknown })
}

/// The same for an object that is known to fit, as after a patch of ours.
pub(crate) fn normalized(value: Value, type_: &'static Struct) -> Result<Value, String> {
    decode(value, type_).map(|decoded| decoded.object)
}

/// A value that is not of the type of its field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfit {
    /// The field, as in `spec.containers[0].image` and `metadata.annotations[example.com/a]`.
    pub field: String,
    /// The real decoder's message, which does not always say which field it is.
    pub why: String,
}

/// The first value of an object that is not of the type of its field; none of an object of an unknown kind.
pub fn misfit(object: &Value) -> Option<Misfit> {
    let kind = Kind::of_object(object["apiVersion"].as_str()?, object["kind"].as_str()?)?;
    let mut decoder = Decoder { path: Vec::new(), unknown: Vec::new(), words: Words::Json };
    let why = decoder.fields(object.clone(), schema::of_kind(kind)?).err()?;
    Some(Misfit { field: decoder.place(), why })
}

enum Step {
    Field(&'static str),
    Key(String),
    Index(usize),
}

struct Decoder {
    path: Vec<Step>,
    unknown: Vec<String>,
    words: Words,
}

/// What Go's reflection calls the kind of a JSON value, and what of that it can convert.
fn converted(value: &Value, type_: &Type) -> String {
    let kind = match value {
        Value::Null => "invalid",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "slice",
        Value::Object(_) => "map",
    };
    match type_ {
        Type::Map(_) => format!("cannot restore map from {kind}"),
        Type::List(_) => format!("cannot restore slice from {kind}"),
        Type::Struct(_) => format!("cannot restore struct from: {kind}"),
        _ if matches!(kind, "int64" | "float64") => format!("cannot convert {kind} to {}", go_name(type_)),
        _ => format!("unrecognized type: {}", go_name(type_)),
    }
}

/// What Go calls a JSON value.
fn described(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) => "bool".to_owned(),
        Value::Number(number) if number.is_f64() => format!("number {number}"),
        Value::Number(_) => "number".to_owned(),
        Value::String(_) => "string".to_owned(),
        Value::Array(_) => "array".to_owned(),
        Value::Object(_) => "object".to_owned(),
    }
}

/// What Go calls a type.
fn go_name(type_: &Type) -> String {
    match type_ {
        Type::Text => "string".to_owned(),
        Type::Bool => "bool".to_owned(),
        Type::Int32 | Type::IntOrString => "int32".to_owned(),
        Type::Int64 => "int64".to_owned(),
        Type::Quantity => "resource.Quantity".to_owned(),
        Type::Time => "v1.Time".to_owned(),
        Type::MicroTime => "v1.MicroTime".to_owned(),
        Type::Bytes => "[]uint8".to_owned(),
        Type::Any => "interface {}".to_owned(),
        Type::List(element) => format!("[]{}", go_name(element)),
        Type::Map(element) => format!("map[string]{}", go_name(element)),
        Type::Struct(name) => match name.split_once('.') {
            Some(("autoscaling", "Scale" | "ScaleSpec" | "ScaleStatus")) => format!("v1.{}", bare(name)),
            Some(("autoscaling", _)) => format!("v2.{}", bare(name)),
            _ => format!("v1.{}", bare(name)),
        },
    }
}

fn bare(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

/// What a value of a type is when nothing is said of it.
fn zero(type_: &Type) -> Value {
    match type_ {
        Type::Text | Type::Bytes => "".into(),
        Type::Bool => false.into(),
        Type::Int32 | Type::Int64 | Type::IntOrString => 0.into(),
        Type::Quantity => "0".into(),
        Type::Time | Type::MicroTime | Type::Any | Type::List(_) | Type::Map(_) => Value::Null,
        Type::Struct(name) => empty(named(name)),
    }
}

/// A struct of which nothing is said.
fn empty(type_: &'static Struct) -> Value {
    Value::Object(
        shown(type_).iter().map(|(place, value)| (type_.fields[*place].name.to_owned(), value.clone())).collect(),
    )
}

/// What is written of fields of which nothing is said.
fn shown(type_: &'static Struct) -> &'static [(usize, Value)] {
    type_.shown(|| {
        let absent = type_.fields.iter().enumerate().map(|(place, field)| (place, absent(field)));
        absent.filter(|(place, value)| !skipped(&type_.fields[*place], value)).collect()
    })
}

fn absent(field: &Field) -> Value {
    if field.pointer { Value::Null } else { zero(&field.type_) }
}

/// Whether a field is not written when it has this value.
fn skipped(field: &Field, value: &Value) -> bool {
    if field.omitted_zero && value.is_null() {
        return true;
    }
    if !field.omitted {
        return false;
    }
    match value {
        Value::Null => !matches!(field.type_, Type::Time | Type::MicroTime) || field.pointer,
        _ if field.pointer => false,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_i64() == Some(0) && field.type_ != Type::IntOrString,
        Value::String(text) => text.is_empty() && field.type_ != Type::IntOrString && field.type_ != Type::Quantity,
        Value::Array(elements) => elements.is_empty(),
        Value::Object(entries) => entries.is_empty() && !matches!(field.type_, Type::Struct(_)),
    }
}

impl Decoder {
    fn fields(&mut self, value: Value, type_: &'static Struct) -> Result<Value, String> {
        let sent = match value {
            Value::Object(sent) => sent,
            Value::Null => return Ok(empty(type_)),
            other => return Err(self.mismatch(&other, &Type::Struct(type_.name), type_)),
        };
        let (mut said, mut unknown) = (Vec::with_capacity(sent.len()), Vec::new());
        for (name, value) in sent {
            match type_.place(&name) {
                // Null says nothing.
                Some(place) if !value.is_null() => said.push((place, name, value)),
                Some(_) => {}
                None => unknown.push(name),
            }
        }
        // In the order of the type, for the first error is the one that is told.
        said.sort_unstable_by_key(|(place, _, _)| *place);
        let unsaid =
            shown(type_).iter().filter(|(place, _)| said.binary_search_by_key(place, |(said, _, _)| *said).is_err());
        let mut kept: Vec<(String, Value)> =
            unsaid.map(|(place, value)| (type_.fields[*place].name.to_owned(), value.clone())).collect();
        for (place, name, value) in said {
            let field = &type_.fields[place];
            self.path.push(Step::Field(field.name));
            let value = self.value(value, &field.type_, type_)?;
            self.path.pop();
            if !skipped(field, &value) {
                kept.push((name, value));
            }
        }
        for name in unknown {
            let path = self.exact(&name);
            self.unknown.push(format!("unknown field \"{path}\""));
        }
        Ok(Value::Object(kept.into_iter().collect()))
    }

    fn value(&mut self, value: Value, type_: &Type, within: &'static Struct) -> Result<Value, String> {
        if value.is_null() {
            return Ok(zero(type_));
        }
        match (type_, value) {
            (Type::Any, value)
            | (Type::Text | Type::IntOrString, value @ Value::String(_))
            | (Type::Bool, value @ Value::Bool(_)) => Ok(value),
            (Type::Int32 | Type::Int64 | Type::IntOrString, Value::Number(number)) => {
                self.number(&number, type_, within)
            }
            (Type::Quantity, Value::String(text)) => quantity(text.trim()),
            (Type::Quantity, Value::Number(number)) => quantity(&number.to_string()),
            (Type::Quantity, other) => quantity(&other.to_string()),
            (Type::Time, Value::String(text)) => time(&text, "2006-01-02T15:04:05Z07:00").map(|at| seconds(at).into()),
            (Type::MicroTime, Value::String(text)) => {
                let at = time(&text, "2006-01-02T15:04:05.000000Z07:00")?;
                exact_microseconds(&text).map(|()| microseconds(at).into())
            }
            (Type::Bytes, Value::String(text)) => match STANDARD.decode(&text) {
                Ok(_) => Ok(text.into()),
                Err(_) => Err(format!("illegal base64 data at input byte {}", illegal_byte(&text))),
            },
            (Type::List(element), Value::Array(elements)) => {
                if elements.is_empty() {
                    return Ok(Value::Null);
                }
                let mut list = Vec::with_capacity(elements.len());
                for (index, value) in elements.into_iter().enumerate() {
                    self.path.push(Step::Index(index));
                    list.push(self.value(value, element, within)?);
                    self.path.pop();
                }
                Ok(Value::Array(list))
            }
            (Type::Map(element), Value::Object(entries)) => {
                if entries.is_empty() {
                    return Ok(Value::Null);
                }
                let mut map = Map::new();
                for (key, value) in entries {
                    self.path.push(Step::Key(key.clone()));
                    map.insert(key, self.value(value, element, within)?);
                    self.path.pop();
                }
                Ok(Value::Object(map))
            }
            (Type::Struct(name), value @ Value::Object(_)) => self.fields(value, named(name)),
            (_, other) => Err(self.mismatch(&other, type_, within)),
        }
    }

    fn number(&self, number: &serde_json::Number, type_: &Type, within: &'static Struct) -> Result<Value, String> {
        let fits = number.as_i64().filter(|whole| *type_ == Type::Int64 || i32::try_from(*whole).is_ok());
        match fits {
            Some(whole) => Ok(whole.into()),
            None => Err(self.in_field(&format!("number {number}"), type_, within)),
        }
    }

    fn mismatch(&self, value: &Value, type_: &Type, within: &'static Struct) -> String {
        if self.words == Words::Unstructured {
            return converted(value, type_);
        }
        self.in_field(&described(value), type_, within)
    }

    fn in_field(&self, what: &str, type_: &Type, within: &'static Struct) -> String {
        let names: Vec<&str> =
            self.path.iter().filter_map(|step| if let Step::Field(name) = step { Some(*name) } else { None }).collect();
        let type_ = go_name(type_);
        if names.is_empty() {
            return format!("json: cannot unmarshal {what} into Go value of type {type_}");
        }
        format!(
            "json: cannot unmarshal {what} into Go struct field {}.{} of type {type_}",
            bare(within.name),
            names.join(".")
        )
    }

    /// Where the decoder is.
    fn place(&self) -> String {
        let mut path = String::new();
        for step in &self.path {
            match step {
                Step::Field(name) if path.is_empty() => path.push_str(name),
                Step::Field(name) => path.extend([".", name]),
                Step::Key(key) => path.extend(["[", key, "]"]),
                Step::Index(index) => path.extend(["[", &index.to_string(), "]"]),
            }
        }
        path
    }

    /// Where an unknown field stands.
    fn exact(&self, name: &str) -> String {
        let mut path = String::new();
        for step in &self.path {
            let dot = if path.is_empty() { "" } else { "." };
            match step {
                Step::Field(name) => write!(path, "{dot}{name}"),
                Step::Key(key) => write!(path, "{dot}{key}"),
                Step::Index(index) => write!(path, "[{index}]"),
            }
            .expect("a String takes everything");
        }
        if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
    }
}

fn quantity(text: &str) -> Result<Value, String> {
    Quantity::parse(text).map(|quantity| json!(quantity.to_string())).map_err(|error| error.to_string())
}

fn time(text: &str, layout: &str) -> Result<Timestamp, String> {
    let shaped = text.len() >= 20 && text.as_bytes()[10] == b'T';
    let parsed = text.parse().ok().filter(|_| shaped);
    parsed.ok_or_else(|| format!("parsing time {text:?} as {layout:?}: cannot parse {text:?} as \"2006\""))
}

/// Exactly six decimals: the real server reads no others.
fn exact_microseconds(text: &str) -> Result<(), String> {
    let decimals = text.split_once('.').map_or("", |(_, rest)| rest);
    let digits = decimals.bytes().take_while(u8::is_ascii_digit).count();
    if digits == 6 {
        return Ok(());
    }
    let rest = text.get(19..).unwrap_or(text);
    let layout = "2006-01-02T15:04:05.000000Z07:00";
    Err(format!("parsing time {text:?} as {layout:?}: cannot parse {rest:?} as \".000000\""))
}

fn illegal_byte(text: &str) -> usize {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=');
    text.find(|c| !legal(c)).unwrap_or(text.trim_end_matches('=').len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(type_: &str, value: Value) -> Result<Value, String> {
        normalized(value, named(type_))
    }

    #[test]
    fn empty_values_vanish_or_appear_as_go_has_it() {
        for (type_, sent, stored) in [
            (
                "ConfigMap",
                json!({"metadata": {"labels": {}}, "data": {}, "immutable": false}),
                json!({"metadata": {}, "immutable": false}),
            ),
            ("ConfigMap", json!({"data": {"k": null}}), json!({"metadata": {}, "data": {"k": ""}})),
            (
                "PodDisruptionBudgetStatus",
                json!({}),
                json!({"disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0}),
            ),
            (
                "DeploymentSpec",
                json!({"replicas": 0, "paused": false, "minReadySeconds": 0}),
                json!({
                    "replicas": 0, "selector": null, "strategy": {},
                    "template": {"metadata": {}, "spec": {"containers": null}},
                }),
            ),
            (
                "ResourceRequirements",
                json!({"limits": {"cpu": "1000m", "memory": "1024Mi", "x": 1000}}),
                json!({
                    "limits": {"cpu": "1", "memory": "1Gi", "x": "1k"},
                }),
            ),
            (
                "LeaseSpec",
                json!({"renewTime": "2026-01-01T01:00:00.123456+01:00"}),
                json!({"renewTime": "2026-01-01T00:00:00.123456Z"}),
            ),
            (
                "PodCondition",
                json!({"type": "Ready"}),
                json!({
                    "type": "Ready", "status": "", "lastProbeTime": null, "lastTransitionTime": null,
                }),
            ),
            ("Volume", json!({"name": "v", "emptyDir": {}}), json!({"name": "v", "emptyDir": {}})),
            (
                "ObjectMeta",
                json!({"creationTimestamp": "2026-01-01T00:00:00.9Z"}),
                json!({"creationTimestamp": "2026-01-01T00:00:00Z"}),
            ),
        ] {
            assert_eq!(read(type_, sent.clone()), Ok(stored), "{sent}");
        }
    }

    #[test]
    fn what_has_the_wrong_type_is_refused_in_go_s_words() {
        for (type_, sent, message) in [
            (
                "ConfigMap",
                json!({"data": {"x": 1}}),
                "json: cannot unmarshal number into Go struct field ConfigMap.data of type string",
            ),
            (
                "ConfigMap",
                json!({"data": []}),
                "json: cannot unmarshal array into Go struct field ConfigMap.data of type map[string]string",
            ),
            ("ConfigMap", json!({"binaryData": {"c": "!"}}), "illegal base64 data at input byte 0"),
            (
                "Pod",
                json!({"spec": {"containers": [{"image": 5}]}}),
                "json: cannot unmarshal number into Go struct field Container.spec.containers.image of type string",
            ),
            (
                "Lease",
                json!({"spec": 5}),
                "json: cannot unmarshal number into Go struct field Lease.spec of type v1.LeaseSpec",
            ),
            (
                "LeaseSpec",
                json!({"leaseDurationSeconds": 2_147_483_648_u32}),
                "json: cannot unmarshal number 2147483648 into Go struct field LeaseSpec.leaseDurationSeconds of type int32",
            ),
        ] {
            assert_eq!(read(type_, sent.clone()), Err(message.to_owned()), "{sent}");
        }
        assert!(read("LeaseSpec", json!({"renewTime": "2026-01-01T00:00:00Z"})).is_err());
    }

    #[test]
    fn a_misfit_is_told_with_its_field() {
        let pod = |spec: Value| json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"annotations": {"a.b/c": "d"}}, "spec": spec});
        let field = |object: &Value| misfit(object).map(|misfit| misfit.field);
        assert_eq!(field(&pod(json!({"containers": [{"name": "a"}]}))), None);
        let lots = json!({"containers": [{"name": "a"}, {"resources": {"requests": {"cpu": "lots"}}}]});
        assert_eq!(field(&pod(lots)).as_deref(), Some("spec.containers[1].resources.requests[cpu]"));
        let mut number = pod(json!({}));
        number["metadata"]["annotations"]["a.b/c"] = json!(5);
        assert_eq!(field(&number).as_deref(), Some("metadata.annotations[a.b/c]"));
        assert_eq!(misfit(&json!({"apiVersion": "v1", "kind": "Unknown", "spec": 1})), None);
    }

    #[test]
    fn unknown_fields_fall_away_and_are_named() {
        let sent = json!({"foo": 1, "spec": {"containers": [{"name": "c", "bar": 1}]}});
        let decoded = decode(sent, named("Pod")).unwrap();
        assert_eq!(decoded.unknown, ["unknown field \"spec.containers[0].bar\"", "unknown field \"foo\""]);
        assert!(decoded.object.get("foo").is_none());
    }
}
