//! Strategic merge patches: as a merge patch, but lists whose elements have a key are merged by it.
//!
//! Which lists those are, the types say. Directives (`$patch`, `$retainKeys`, `$setElementOrder/…`,
//! `$deleteFromPrimitiveList/…`) are obeyed.

use serde_json::{Map, Value};

use super::schema::{Field, Struct, Type, named};

const PATCH: &str = "$patch";
const RETAIN: &str = "$retainKeys";
const ORDER: &str = "$setElementOrder/";
const DELETE: &str = "$deleteFromPrimitiveList/";

/// Lays a patch over an object.
pub(crate) fn merge(original: Value, patch: &Map<String, Value>, type_: &'static Struct) -> Result<Value, String> {
    merge_map(original, patch, Some(type_))
}

fn merge_map(original: Value, patch: &Map<String, Value>, type_: Option<&'static Struct>) -> Result<Value, String> {
    match patch.get(PATCH).and_then(Value::as_str) {
        None | Some("merge") => {}
        Some("replace") => {
            let mut replaced = patch.clone();
            replaced.remove(PATCH);
            return Ok(Value::Object(replaced));
        }
        Some("delete") => return Ok(Value::Object(Map::new())),
        Some(other) => return Err(format!("unknown patch type found: {other}")),
    }
    let Value::Object(mut original) = original else { return Ok(without_directives(&Value::Object(patch.clone()))) };
    if let Some(Value::Array(kept)) = patch.get(RETAIN) {
        original.retain(|name, _| kept.iter().any(|kept| kept == name));
    }
    for (name, value) in patch {
        if name == PATCH || name == RETAIN || name.starts_with(ORDER) {
            continue;
        }
        if let Some(list) = name.strip_prefix(DELETE) {
            if let (Some(Value::Array(there)), Value::Array(gone)) = (original.get_mut(list), value) {
                there.retain(|element| !gone.contains(element));
            }
            continue;
        }
        if value.is_null() {
            original.remove(name);
            continue;
        }
        let field = type_.and_then(|type_| type_.field(name));
        let order = patch.get(&format!("{ORDER}{name}")).and_then(Value::as_array);
        let merged = match (original.remove(name), value) {
            (Some(Value::Object(_)), value) if field.is_some_and(|field| field.replaces) => without_directives(value),
            (Some(there @ Value::Object(_)), Value::Object(patch)) => merge_map(there, patch, inner(field))?,
            (Some(Value::Array(there)), Value::Array(patch)) => {
                merge_list(there, patch, field, order.map(Vec::as_slice))?
            }
            // Of what is not there, nothing can be replaced or deleted.
            (_, value) if value.get(PATCH).is_some() => continue,
            (_, value) => without_directives(value),
        };
        original.insert(name.clone(), merged);
    }
    Ok(Value::Object(original))
}

/// The type of what is in a field, if it has fields itself.
fn inner(field: Option<&Field>) -> Option<&'static Struct> {
    match &field?.type_ {
        Type::Struct(name) => Some(named(name)),
        Type::Map(element) | Type::List(element) => match &**element {
            Type::Struct(name) => Some(named(name)),
            _ => None,
        },
        _ => None,
    }
}

/// What is new is taken without what only tells how to merge.
fn without_directives(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let is_directive =
                |name: &str| name == PATCH || name == RETAIN || name.starts_with(ORDER) || name.starts_with(DELETE);
            let fields = fields
                .iter()
                .filter(|(name, value)| !is_directive(name) && !value.is_null() && value.get(PATCH).is_none());
            fields.map(|(name, value)| (name.clone(), without_directives(value))).collect::<Map<_, _>>().into()
        }
        Value::Array(elements) => {
            let elements = elements.iter().filter(|element| element.get(PATCH).is_none());
            elements.map(without_directives).collect()
        }
        other => other.clone(),
    }
}

fn merge_list(
    there: Vec<Value>,
    patch: &[Value],
    field: Option<&Field>,
    order: Option<&[Value]>,
) -> Result<Value, String> {
    let Some(field) = field.filter(|field| field.merges) else {
        return Ok(without_directives(&Value::Array(patch.to_vec())));
    };
    let Some(key) = field.key else {
        let plain = |elements: &[Value]| elements.iter().any(|element| !element.is_object());
        if plain(&there) && patch.iter().any(Value::is_object) {
            let both = [Value::Array(there), Value::Array(patch.to_vec())];
            return Err(format!("list element types are not identical: {}", go_map(&Value::Array(both.to_vec()))));
        }
        let mut merged = there.clone();
        merged.extend(patch.iter().filter(|element| !there.contains(element)).cloned());
        return Ok(ordered(merged, &there, order.unwrap_or(patch), Value::clone));
    };
    if patch.iter().any(|element| element.get(PATCH).and_then(Value::as_str) == Some("replace")) {
        let rest: Vec<Value> = patch.iter().filter(|element| element.get(PATCH).is_none()).cloned().collect();
        return Ok(without_directives(&Value::Array(rest)));
    }
    let mut merged = there.clone();
    for element in patch {
        let fields = element.as_object().ok_or("invalid JSON document")?;
        let Some(value) = fields.get(key) else {
            return Err(format!("map: {} does not contain declared merge key: {key}", go_map(element)));
        };
        let at = merged.iter().position(|there| there.get(key) == Some(value));
        if fields.get(PATCH).and_then(Value::as_str) == Some("delete") {
            merged.retain(|there| there.get(key) != Some(value));
        } else if let Some(at) = at {
            merged[at] = merge_map(merged[at].take(), fields, inner(Some(field)))?;
        } else {
            merged.push(without_directives(element));
        }
    }
    Ok(ordered(merged, &there, order.unwrap_or(patch), |element| element.get(key).cloned().unwrap_or_default()))
}

/// Puts elements into the order that the patch gives; those that it does not name come after it, unless they were before
/// one of them already.
fn ordered(merged: Vec<Value>, there: &[Value], order: &[Value], key: impl Fn(&Value) -> Value) -> Value {
    let keys: Vec<Value> = order.iter().map(&key).collect();
    let rank = |element: &Value| keys.iter().position(|known| *known == key(element));
    let was = |element: &Value| there.iter().position(|old| key(old) == key(element));
    let (mut named, others): (Vec<Value>, Vec<Value>) = merged.into_iter().partition(|element| rank(element).is_some());
    named.sort_by_key(|element| rank(element));
    let mut result = Vec::new();
    let (mut named, mut others) = (named.into_iter().peekable(), others.into_iter().peekable());
    loop {
        let first = match (named.peek(), others.peek()) {
            (None, None) => return Value::Array(result),
            (Some(named), Some(other)) => was(other).zip(was(named)).is_none_or(|(other, named)| other >= named),
            (named, _) => named.is_some(),
        };
        result.extend(if first { named.next() } else { others.next() });
    }
}

/// As Go prints it.
pub(crate) fn go_map(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(elements) => format!("[{}]", elements.iter().map(go_map).collect::<Vec<_>>().join(" ")),
        Value::Object(fields) => {
            let fields: Vec<String> = fields.iter().map(|(name, value)| format!("{name}:{}", go_map(value))).collect();
            format!("map[{}]", fields.join(" "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn patched(type_: &str, original: Value, patch: &Value) -> Result<Value, String> {
        merge(original, patch.as_object().unwrap(), named(type_))
    }

    #[test]
    fn lists_merge_by_their_keys() {
        let pod = json!({"containers": [{"name": "a", "image": "1", "env": [{"name": "X", "value": "1"}]}, {"name": "b", "image": "2"}],
                         "tolerations": [{"key": "t"}]});
        for (patch, expected) in [
            (
                json!({"containers": [{"name": "b", "image": "3"}, {"name": "c", "image": "4"}]}),
                json!({"containers": [{"name": "a", "image": "1", "env": [{"name": "X", "value": "1"}]},
                                      {"name": "b", "image": "3"}, {"name": "c", "image": "4"}], "tolerations": [{"key": "t"}]}),
            ),
            (
                json!({"containers": [{"name": "a", "$patch": "delete"}], "tolerations": [{"key": "u"}]}),
                json!({"containers": [{"name": "b", "image": "2"}], "tolerations": [{"key": "u"}]}),
            ),
            (
                json!({"containers": [{"name": "a", "env": [{"name": "Y", "value": "2"}]}], "tolerations": null}),
                json!({"containers": [{"name": "a", "image": "1", "env": [{"name": "Y", "value": "2"}, {"name": "X", "value": "1"}]},
                                      {"name": "b", "image": "2"}]}),
            ),
            (
                json!({"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}], "containers": [{"name": "a", "image": "9"}]}),
                json!({"containers": [{"name": "b", "image": "2"}, {"name": "a", "image": "9", "env": [{"name": "X", "value": "1"}]}],
                       "tolerations": [{"key": "t"}]}),
            ),
            (
                json!({"containers": [{"$patch": "replace"}, {"name": "z"}]}),
                json!({"containers": [{"name": "z"}], "tolerations": [{"key": "t"}]}),
            ),
        ] {
            assert_eq!(patched("PodSpec", pod.clone(), &patch), Ok(expected), "{patch}");
        }
        let why = "map: map[image:x] does not contain declared merge key: name";
        assert_eq!(patched("PodSpec", pod, &json!({"containers": [{"image": "x"}]})), Err(why.to_owned()));
    }

    #[test]
    fn taints_are_replaced_and_finalizers_joined() {
        let node = json!({"taints": [{"key": "a", "effect": "NoSchedule"}]});
        let patch = json!({"taints": [{"key": "b", "effect": "NoSchedule"}]});
        assert_eq!(patched("NodeSpec", node, &patch), Ok(patch.clone()));
        let meta = json!({"finalizers": ["a"], "labels": {"x": "1", "y": "2"}});
        let patch = json!({"finalizers": ["b"], "labels": {"x": null}});
        assert_eq!(
            patched("ObjectMeta", meta.clone(), &patch),
            Ok(json!({"finalizers": ["b", "a"], "labels": {"y": "2"}}))
        );
        let patch = json!({"$deleteFromPrimitiveList/finalizers": ["a"]});
        assert_eq!(patched("ObjectMeta", meta, &patch), Ok(json!({"finalizers": [], "labels": {"x": "1", "y": "2"}})));
    }

    #[test]
    fn directives_replace_and_retain() {
        let strategy = json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}});
        let patch = json!({"$retainKeys": ["type"], "type": "Recreate"});
        assert_eq!(patched("DeploymentStrategy", strategy.clone(), &patch), Ok(json!({"type": "Recreate"})));
        let patch = json!({"$patch": "replace", "type": "Recreate"});
        assert_eq!(patched("DeploymentStrategy", strategy.clone(), &patch), Ok(json!({"type": "Recreate"})));
        assert!(patched("DeploymentStrategy", strategy, &json!({"$patch": "turn"})).is_err());
    }
}
