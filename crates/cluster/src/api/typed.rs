//! Whether a configuration that is applied has the types of its kind, in the words of the real server's apply, which are
//! not those of its decoder.

use serde_json::Value;

use super::fieldset::{Step, keys_of, shown as step_shown};
use super::schema::{ListType, Struct, Type, named};
use super::strategic::go_map;

/// The first thing that has not.
pub(crate) fn check(config: &Value, type_: &'static Struct) -> Result<(), String> {
    fields(config, type_, "")
}

fn fields(value: &Value, type_: &'static Struct, at: &str) -> Result<(), String> {
    let Value::Object(fields) = value else { return expected("map", value, at) };
    for (name, value) in fields {
        let at = format!("{at}.{name}");
        let Some(field) = type_.field(name) else { return Err(format!("{at}: field not declared in schema")) };
        one(value, &field.type_, &at)?;
        unique(value, &field.list, &at)?;
    }
    Ok(())
}

/// The elements of a list that merges by keys are told apart by them.
fn unique(value: &Value, list: &ListType, at: &str) -> Result<(), String> {
    let elements = value.as_array().map_or(&[][..], Vec::as_slice);
    let key = |element: &Value| match list {
        ListType::Atomic => None,
        ListType::Set => Some(Step::Value(element.to_string())),
        ListType::Map(keys) => Some(Step::Keys(keys_of(element, keys))),
    };
    let keys: Vec<Step> = elements.iter().filter_map(key).collect();
    match keys.iter().enumerate().find(|(index, key)| keys[..*index].contains(key)) {
        Some((_, twice)) => Err(format!("{at}: duplicate entries for key {}", step_shown(&vec![twice.clone()]))),
        None => Ok(()),
    }
}

fn expected(what: &str, value: &Value, at: &str) -> Result<(), String> {
    if value.is_null() {
        return Ok(());
    }
    Err(format!("{at}: expected {what}, got &value.valueUnstructured{{Value:{}}}", shown(value)))
}

/// As Go prints a value in detail, as far as scalars go.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => format!("{text:?}"),
        Value::Object(_) | Value::Array(_) => go_map(value),
        other => other.to_string(),
    }
}

fn one(value: &Value, type_: &Type, at: &str) -> Result<(), String> {
    match (type_, value) {
        (_, Value::Null)
        | (Type::Any | Type::Quantity | Type::IntOrString, _)
        | (Type::Text | Type::Time | Type::MicroTime | Type::Bytes, Value::String(_))
        | (Type::Bool, Value::Bool(_))
        | (Type::Int32 | Type::Int64, Value::Number(_)) => Ok(()),
        (Type::Text | Type::Time | Type::MicroTime | Type::Bytes, _) => expected("string", value, at),
        (Type::Bool, _) => expected("boolean", value, at),
        (Type::Int32 | Type::Int64, _) => expected("numeric (int or float)", value, at),
        (Type::List(element), Value::Array(elements)) => {
            elements.iter().enumerate().try_for_each(|(index, value)| one(value, element, &format!("{at}[{index}]")))
        }
        (Type::List(_), _) => expected("list", value, at),
        (Type::Map(element), Value::Object(entries)) => {
            entries.iter().try_for_each(|(key, value)| one(value, element, &format!("{at}.{key}")))
        }
        (Type::Map(_), _) => expected("map", value, at),
        (Type::Struct(name), _) => fields(value, named(name), at),
    }
}
