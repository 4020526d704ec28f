//! Server-side apply: an object becomes what its managers want of it, and who wants otherwise is told.
//!
//! The patch is merged into the object by the types of its fields; what the manager applied before and no longer does goes,
//! unless somebody else wants it too; fields of others that would change are conflicts, unless forced.

use serde_json::{Map, Value, json};

use super::fieldset::{FieldSet, Path, Shape, Step, compare, keys_of, shown, told_before};
use super::options::WriteOptions;
use super::ownership::{Entry, UNDATED, blank, managers, set, written};
use super::request::Target;
use super::schema;
use super::status::Status;
use super::strategy::reset_fields;
use super::typed;
use crate::object::Object;

/// Who owns what nobody was counted to have written.
const BEFORE: &str = "before-first-apply";

/// Applies a configuration to an object, or to nothing.
pub(crate) fn apply(
    target: &Target,
    current: Option<&Object>,
    config: &Value,
    options: &WriteOptions,
) -> Result<Value, Status> {
    let row = target.kind.resource();
    let said = |field: &str| config[field].as_str().unwrap_or_default();
    let (version, kind) = (said("apiVersion").to_owned(), said("kind").to_owned());
    if (version.as_str(), kind.as_str()) != (row.api_version().as_str(), row.name) {
        let (group, version) = version.split_once('/').unwrap_or(("", &version));
        return Err(Status::bad_request(format!("invalid object type: {group}/{version}, Kind={kind}")));
    }
    if !config["metadata"]["managedFields"].is_null() {
        return Err(Status::bad_request("metadata.managedFields must be nil"));
    }
    let type_ = schema::of_kind(target.kind);
    if let Some(type_) = type_ {
        let said = |field: &str| config["metadata"][field].as_str().unwrap_or_default();
        let what = format!("{}/{}; {}, Kind={}", said("namespace"), said("name"), qualified(&version), row.name);
        typed::check(config, type_)
            .map_err(|error| Status::bare(500, format!("failed to create typed patch object ({what}): {error}")))?;
    }
    let shape = Shape::of_object(type_);
    let mut owners = current.map(|object| managers(object.json())).unwrap_or_default();
    let live = current.map_or_else(|| json!({"apiVersion": version, "kind": kind}), |object| object.json().clone());
    if current.is_some() && owners.is_empty() {
        owners.push(first(&live, &shape, &version));
    }
    let merged = merge(&live, config, &shape);
    let reset = |set: FieldSet| set.without_any(reset_fields(Some(target.kind), target.subresource));
    let sent = FieldSet::of(config, &shape);
    let wanted = reset(sent.clone().without_bookkeeping());
    let ours =
        |owner: &Entry| owner.applies && owner.name == options.manager && owner.subresource == target.subresource;
    let last = owners.iter().position(ours).map(|index| owners.remove(index));
    let mut new = merged;
    if let Some(last) = &last {
        let mut managed = sent;
        owners.iter().for_each(|owner| managed.union(owner.fields.clone()));
        new = prune(&new, &last.fields, &managed, &shape);
    }
    let difference = compare(&live, &new, &shape);
    let mut changed = difference.modified;
    changed.union(difference.added);
    contend(&mut owners, &changed, options.force)?;
    owners.iter_mut().for_each(|owner| owner.fields = owner.fields.minus(&difference.removed));
    // Who changes nothing is not dated, whatever is its own from now on.
    let changes = !changed.0.is_empty() || !difference.removed.0.is_empty();
    owners.push(Entry {
        name: options.manager.clone(),
        applies: true,
        api_version: version,
        subresource: target.subresource.to_owned(),
        time: if changes { UNDATED.to_owned() } else { last.map(|last| last.time).unwrap_or_default() },
        fields: wanted,
    });
    set(&mut new, owners);
    Ok(new)
}

fn qualified(version: &str) -> String {
    if version.contains('/') { version.to_owned() } else { format!("/{version}") }
}

/// Everything that is there before anybody was counted.
fn first(live: &Value, shape: &Shape<'_>, version: &str) -> Entry {
    let blank = blank(Object::from(live.clone()).kind());
    let fields = written(&blank, live, shape).without_bookkeeping();
    Entry {
        name: BEFORE.to_owned(),
        applies: false,
        api_version: version.to_owned(),
        subresource: String::new(),
        // The real one dates it with the write that follows.
        time: UNDATED.to_owned(),
        fields,
    }
}

/// Fields of others that would change: taken from them, or refused.
fn contend(owners: &mut [Entry], changed: &FieldSet, force: bool) -> Result<(), Status> {
    let mut conflicts: Vec<(String, Path)> = Vec::new();
    for owner in owners.iter_mut() {
        let contended = owner.fields.common(changed);
        if force {
            owner.fields = owner.fields.minus(&contended);
        } else {
            conflicts.extend(contended.0.into_iter().map(|path| (described(owner), path)));
        }
    }
    if conflicts.is_empty() { Ok(()) } else { Err(conflict(&mut conflicts)) }
}

fn described(owner: &Entry) -> String {
    let mut text = format!("{:?}", owner.name);
    if !owner.subresource.is_empty() {
        text = format!("{text} with subresource {:?}", owner.subresource);
    }
    if owner.applies { text } else { format!("{text} using {}", owner.api_version) }
}

fn conflict(conflicts: &mut Vec<(String, Path)>) -> Status {
    conflicts.sort_by(|(owner, path), (other, its)| owner.cmp(other).then_with(|| told_before(path, its)));
    let message = match conflicts.as_slice() {
        [(owner, path)] => format!("Apply failed with 1 conflict: conflict with {owner}: {}", shown(path)),
        all => {
            let mut lines: Vec<String> = Vec::new();
            let mut last = "";
            for (owner, path) in all {
                if owner != last {
                    lines.push(format!("conflicts with {owner}:"));
                    last = owner;
                }
                lines.push(format!("- {}", shown(path)));
            }
            format!("Apply failed with {} conflicts: {}", all.len(), lines.join("\n"))
        }
    };
    let causes: Vec<Value> = conflicts
        .iter()
        .map(|(owner, path)| {
            json!({"reason": "FieldManagerConflict", "message": format!("conflict with {owner}"), "field": shown(path)})
        })
        .collect();
    Status::with_reason(409, "Conflict", message, json!({"causes": causes}))
}

/// Lays a configuration over an object.
fn merge(live: &Value, config: &Value, shape: &Shape<'_>) -> Value {
    match (shape, live, config) {
        (Shape::Fields(_) | Shape::Map(_) | Shape::Unknown, Value::Object(live), Value::Object(_)) => {
            let mut merged = live.clone();
            for (step, (value, shape)) in shape.parts(config).into_iter().flatten() {
                let Step::Field(name) = step else { continue };
                let value = match live.get(&name) {
                    Some(live) => merge(live, value, &shape),
                    None => value.clone(),
                };
                merged.insert(name, value);
            }
            Value::Object(merged)
        }
        (Shape::Set | Shape::Keyed(_, _), Value::Array(live), Value::Array(config)) => merge_lists(live, config, shape),
        (_, _, config) => config.clone(),
    }
}

/// Merges elements that are the same, in an order in which both lists find theirs: as the real one does it, step by step.
fn merge_lists(live: &[Value], config: &[Value], shape: &Shape<'_>) -> Value {
    let step = |element: &Value| match shape {
        Shape::Keyed(keys, _) => keys_of(element, keys),
        _ => element.to_string(),
    };
    let inner = match shape {
        Shape::Keyed(_, schema::Type::Struct(name)) => Shape::Fields(schema::named(name)),
        _ => Shape::Atomic,
    };
    let (left, right): (Vec<String>, Vec<String>) =
        (live.iter().map(step).collect(), config.iter().map(step).collect());
    let joined = |at: usize| match left.iter().position(|known| *known == right[at]) {
        Some(there) => merge(&live[there], &config[at], &inner),
        None => config[at].clone(),
    };
    let mut shared = right.iter().filter(|key| left.contains(key)).peekable();
    let mut merged = Vec::new();
    let (mut l, mut r) = (0, 0);
    while l < left.len() || r < right.len() {
        if l < left.len() && r < right.len() {
            if left[l] == right[r] {
                merged.push(joined(r));
                (l, r) = (l + 1, r + 1);
                shared.next();
                continue;
            }
            // It is in both, but another is to come first.
            if right.contains(&left[l]) && shared.peek().is_some_and(|next| **next != left[l]) {
                l += 1;
                continue;
            }
        }
        if l < left.len() {
            if !right.contains(&left[l]) {
                merged.push(live[l].clone());
                l += 1;
                continue;
            }
            if right[..r].contains(&left[l]) {
                l += 1;
            }
        }
        if r < right.len() {
            merged.push(joined(r));
            if shared.peek().is_some_and(|next| **next == right[r]) {
                shared.next();
            }
            r += 1;
        }
    }
    Value::Array(merged)
}

/// Takes out what the manager applied before and nobody wants any longer. As the real one does it: a part in which something
/// was applied goes as a whole, with what nobody owns in it, unless somebody owns another part of it.
fn prune(merged: &Value, last: &FieldSet, managed: &FieldSet, shape: &Shape<'_>) -> Value {
    let named = |set: &FieldSet| set.with_named_parents(shape);
    let last = named(last);
    let all = named(&FieldSet::of(merged, shape));
    let rest = removed(merged, &last, shape, &mut Vec::new());
    let mut kept = named(&FieldSet::of(&rest, shape));
    kept.union(named(managed));
    let rest = removed(merged, &all.minus(&kept), shape, &mut Vec::new());
    let left = named(&FieldSet::of(&rest, shape));
    removed(merged, &all.minus(&left).common(&last), shape, &mut Vec::new())
}

/// A value without some fields.
fn removed(value: &Value, gone: &FieldSet, shape: &Shape<'_>, path: &mut Path) -> Value {
    let Some(parts) = shape.parts(value).filter(|_| gone.reaches_into(path)) else { return value.clone() };
    let mut keep = |step: &Step| {
        path.push(step.clone());
        let (part, shape) = &parts[step];
        let kept = (!gone.0.contains(path)).then(|| removed(part, gone, shape, path));
        path.pop();
        kept
    };
    match value {
        Value::Object(fields) => {
            let fields = fields.keys().filter_map(|name| Some((name.clone(), keep(&Step::Field(name.clone()))?)));
            let fields: Map<String, Value> = fields.collect();
            if fields.is_empty() { Value::Null } else { Value::Object(fields) }
        }
        Value::Array(elements) => {
            let step = |element: &Value| match shape {
                Shape::Keyed(keys, _) => Step::Keys(keys_of(element, keys)),
                _ => Step::Value(element.to_string()),
            };
            let elements: Vec<Value> = elements.iter().filter_map(|element| keep(&step(element))).collect();
            if elements.is_empty() { Value::Null } else { Value::Array(elements) }
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_merge_in_an_order_that_suits_both() {
        let names =
            |names: &str| -> Vec<Value> { names.chars().map(|name| json!({"name": name.to_string()})).collect() };
        let element = schema::Type::Struct("EnvVar");
        for (live, config, merged) in [
            ("ab", "c", "abc"),
            ("ab", "ba", "ba"),
            ("abc", "b", "abc"),
            ("ac", "abc", "abc"),
            ("abcd", "dxa", "bcdxa"),
            ("", "ab", "ab"),
        ] {
            let result = merge_lists(&names(live), &names(config), &Shape::Keyed(&["name"], &element));
            assert_eq!(result, Value::Array(names(merged)), "{live} {config}");
        }
    }
}
