//! JSON patches (RFC 6902), with what the real server's library makes of the corners: `replace` puts what is not there,
//! and `copy` of nothing puts null.

use serde_json::Value;

/// Applies all operations, or says which one did not work.
pub(crate) fn apply(document: &mut Value, patch: &Value) -> Result<(), String> {
    let operations = patch.as_array().ok_or("a patch is a list of operations")?;
    operations.iter().try_for_each(|operation| one(document, operation))
}

fn one(document: &mut Value, operation: &Value) -> Result<(), String> {
    let path = operation["path"].as_str().ok_or("an operation has a path")?;
    let from = || operation["from"].as_str().ok_or("this operation needs a from");
    let value = || operation.get("value").cloned().unwrap_or(Value::Null);
    match operation["op"].as_str().unwrap_or_default() {
        "add" => put(document, path, value(), true),
        "replace" => put(document, path, value(), false),
        "remove" => remove(document, path).map(drop),
        "move" => {
            let moved = remove(document, from()?)?;
            put(document, path, moved, true)
        }
        "copy" => {
            let copied = get(document, from()?)?.cloned().unwrap_or(Value::Null);
            put(document, path, copied, true)
        }
        "test" => {
            let found = get(document, path)?.unwrap_or(&Value::Null);
            if *found == value() { Ok(()) } else { Err(format!("testing value {path} failed")) }
        }
        other => Err(format!("Unexpected kind: {other}")),
    }
}

fn unescaped(segment: &str) -> String {
    segment.replace("~1", "/").replace("~0", "~")
}

/// The container of a path, and the last segment.
fn container<'d>(document: &'d mut Value, path: &str) -> Result<(&'d mut Value, String), String> {
    let (parent, last) = path.rsplit_once('/').ok_or_else(|| format!("doc is missing path: {path:?}"))?;
    let there = document.pointer_mut(parent).filter(|value| value.is_object() || value.is_array());
    there.map(|container| (container, unescaped(last))).ok_or_else(|| format!("doc is missing path: {path:?}"))
}

/// An index into a list of a length; from the end if it is negative.
fn index(segment: &str, length: usize) -> Option<usize> {
    let index: i64 = segment.parse().ok()?;
    let length = i64::try_from(length).ok()?;
    let index = if index < 0 { index + length } else { index };
    usize::try_from(index).ok().filter(|_| index < length)
}

fn get<'d>(document: &'d mut Value, path: &str) -> Result<Option<&'d Value>, String> {
    let (container, last) = container(document, path)?;
    match container {
        Value::Array(elements) => {
            let index = index(&last, elements.len()).ok_or_else(|| format!("no element {last}"))?;
            Ok(elements.get(index))
        }
        container => Ok(container.get(&last)),
    }
}

fn remove(document: &mut Value, path: &str) -> Result<Value, String> {
    let (container, last) = container(document, path)?;
    match container {
        Value::Array(elements) => {
            let index = index(&last, elements.len()).ok_or_else(|| format!("no element {last}"))?;
            Ok(elements.remove(index))
        }
        Value::Object(fields) => {
            fields.remove(&last).ok_or_else(|| format!("Unable to remove nonexistent key: {last}"))
        }
        _ => Err(format!("doc is missing path: {path:?}")),
    }
}

fn put(document: &mut Value, path: &str, value: Value, insert: bool) -> Result<(), String> {
    if path.is_empty() && !insert {
        *document = value;
        return Ok(());
    }
    let (container, last) = container(document, path)?;
    match container {
        Value::Object(fields) => {
            fields.insert(last, value);
            Ok(())
        }
        Value::Array(elements) if insert => {
            let end = elements.len();
            let at = if last == "-" || last == end.to_string() { Some(end) } else { index(&last, end) };
            elements.insert(at.ok_or_else(|| format!("no place for element {last}"))?, value);
            Ok(())
        }
        Value::Array(elements) => {
            let index = index(&last, elements.len()).ok_or_else(|| format!("no element {last}"))?;
            elements[index] = value;
            Ok(())
        }
        _ => Err(format!("doc is missing path: {path:?}")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn operations_do_what_the_real_library_does() {
        let document = json!({"a": {"b/c": [1, 2]}, "n": null});
        for (operation, expected) in [
            (json!({"op": "add", "path": "/a/x", "value": 1}), Some(json!({"a": {"b/c": [1, 2], "x": 1}, "n": null}))),
            (json!({"op": "add", "path": "/a/b~1c/-", "value": 3}), Some(json!({"a": {"b/c": [1, 2, 3]}, "n": null}))),
            (json!({"op": "add", "path": "/a/b~1c/0", "value": 0}), Some(json!({"a": {"b/c": [0, 1, 2]}, "n": null}))),
            (json!({"op": "add", "path": "/a/b~1c/3", "value": 0}), None),
            (json!({"op": "add", "path": "/z/x", "value": 1}), None),
            (
                json!({"op": "replace", "path": "/a/x", "value": 1}),
                Some(json!({"a": {"b/c": [1, 2], "x": 1}, "n": null})),
            ),
            (json!({"op": "replace", "path": "/a/b~1c/2", "value": 1}), None),
            (json!({"op": "remove", "path": "/a/x"}), None),
            (json!({"op": "remove", "path": "/n"}), Some(json!({"a": {"b/c": [1, 2]}}))),
            (json!({"op": "remove", "path": "/a/b~1c/-1"}), Some(json!({"a": {"b/c": [1]}, "n": null}))),
            (json!({"op": "move", "from": "/a", "path": "/n"}), Some(json!({"n": {"b/c": [1, 2]}}))),
            (json!({"op": "move", "from": "/x", "path": "/n"}), None),
            (json!({"op": "copy", "from": "/a/b~1c/1", "path": "/n"}), Some(json!({"a": {"b/c": [1, 2]}, "n": 2}))),
            (json!({"op": "test", "path": "/a/b~1c", "value": [1, 2]}), Some(document.clone())),
            (json!({"op": "test", "path": "/x", "value": null}), Some(document.clone())),
            (json!({"op": "test", "path": "/a", "value": {}}), None),
            (json!({"op": "turn", "path": "/a"}), None),
        ] {
            let mut patched = document.clone();
            let done = apply(&mut patched, &json!([operation])).map(|()| patched);
            assert_eq!(done.ok(), expected, "{operation}");
        }
    }
}
