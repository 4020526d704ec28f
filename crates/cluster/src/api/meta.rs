//! Writing into objects: the few places of `metadata`, `spec` and `status` that the API itself sets.

use serde_json::{Map, Value};

/// `metadata`, made if it is not there.
pub(crate) fn metadata(object: &mut Value) -> &mut Map<String, Value> {
    section(object, "metadata")
}

/// A field that is an object, made if it is not there.
pub(crate) fn section<'o>(object: &'o mut Value, name: &str) -> &'o mut Map<String, Value> {
    let Value::Object(fields) = object else { unreachable!("an object is a JSON object") };
    let field = fields.entry(name).or_insert_with(|| Value::Object(Map::new()));
    if !field.is_object() {
        *field = Value::Object(Map::new());
    }
    field.as_object_mut().expect("it was just made one")
}

/// A field of an object takes the value that it has in another, and vanishes if it has none there.
pub(crate) fn keep(object: &mut Value, name: &str, from: &Value) {
    put(object, name, from.get(name).cloned());
}

/// A field takes a value, or vanishes.
pub(crate) fn put(object: &mut Value, name: &str, value: Option<Value>) {
    let Value::Object(fields) = object else { return };
    match value {
        Some(value) => fields.insert(name.to_owned(), value),
        None => fields.remove(name),
    };
}

/// A field of `metadata` takes a value, or vanishes.
pub(crate) fn put_meta(object: &mut Value, name: &str, value: Option<Value>) {
    match value {
        Some(value) => metadata(object).insert(name.to_owned(), value),
        None => metadata(object).remove(name),
    };
}

/// A text of `metadata`; empty if it is not there.
pub(crate) fn meta_text<'o>(object: &'o Value, name: &str) -> &'o str {
    object["metadata"][name].as_str().unwrap_or_default()
}
