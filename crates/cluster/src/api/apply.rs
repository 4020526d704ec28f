//! Server-side apply: an object becomes what its managers want of it, and who wants otherwise is told.
//!
//! The patch is merged into the object by the types of its fields; what the manager applied before and no longer does goes,
//! unless somebody else wants it too; fields of others that would change are conflicts, unless forced.

use serde_json::{Map, Value, json};

use super::create::place;
use super::fieldset::{FieldSet, Path, Shape, Step, compare, keys_of, shown};
use super::options::WriteOptions;
use super::ownership::{Manager, managers, set};
use super::request::Target;
use super::schema;
use super::status::Status;
use super::strategy::reset_field;
use super::typed;
use crate::object::Object;

/// Who owns what nobody was counted to have written.
const BEFORE: &str = "before-first-apply";

/// Applies a configuration to an object, or to nothing.
pub(crate) fn apply(
    target: &Target,
    current: Option<&Object>,
    mut config: Value,
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
    if let Value::Object(fields) = &mut config {
        fields.entry("metadata").or_insert_with(|| json!({}));
    }
    let type_ = schema::of_kind(target.kind);
    if let Some(type_) = type_ {
        let said = |field: &str| config["metadata"][field].as_str().unwrap_or_default();
        let what = format!("{}/{}; {}, Kind={}", said("namespace"), said("name"), qualified(&version), row.name);
        typed::check(&config, type_)
            .map_err(|error| Status::bare(500, format!("failed to create typed patch object ({what}): {error}")))?;
    }
    place(&mut config, target.kind, &target.namespace)?;
    if current.is_none() {
        let name = target.name.clone().unwrap_or_default();
        config["metadata"].as_object_mut().map(|metadata| metadata.entry("name").or_insert_with(|| name.into()));
    }
    let shape = Shape::of_object(type_);
    let mut owners = current.map(|object| managers(object.json())).unwrap_or_default();
    let live = current.map_or_else(|| json!({"apiVersion": version, "kind": kind}), |object| object.json().clone());
    if current.is_some() && owners.is_empty() {
        owners.push(first(&live, &shape, &version));
    }
    let merged = merge(&live, &config, &shape);
    let reset = |set: FieldSet| reset_field(target.subresource).map_or(set.clone(), |field| set.without(field));
    let wanted = reset(FieldSet::of(&config, &shape).without_bookkeeping());
    let ours =
        |owner: &Manager| owner.applies && owner.name == options.manager && owner.subresource == target.subresource;
    let last = owners.iter().position(ours).map(|index| owners.remove(index));
    let mut new = merged;
    if let Some(last) = &last {
        let mut kept = wanted.clone();
        owners.iter().for_each(|owner| kept.union(owner.fields.clone()));
        prune(&mut new, &last.fields.minus(&kept), &kept, &shape);
    }
    let difference = compare(&live, &new, &shape);
    let mut changed = difference.modified;
    changed.union(difference.added);
    contend(&mut owners, &changed, options.force)?;
    owners.iter_mut().for_each(|owner| owner.fields = owner.fields.minus(&difference.removed));
    let same = last.as_ref().is_some_and(|last| last.fields == wanted)
        && changed.0.is_empty()
        && difference.removed.0.is_empty();
    owners.push(Manager {
        name: options.manager.clone(),
        applies: true,
        api_version: version,
        subresource: target.subresource.to_owned(),
        time: if same { last.map(|last| last.time).unwrap_or_default() } else { String::new() },
        fields: wanted,
    });
    set(&mut new, owners);
    Ok(new)
}

fn qualified(version: &str) -> String {
    if version.contains('/') { version.to_owned() } else { format!("/{version}") }
}

/// Everything that is there before anybody was counted.
fn first(live: &Value, shape: &Shape<'_>, version: &str) -> Manager {
    let fields = compare(&json!({}), live, shape).added.without_bookkeeping();
    Manager {
        name: BEFORE.to_owned(),
        applies: false,
        api_version: version.to_owned(),
        subresource: String::new(),
        // The real one dates it with the write that follows.
        time: String::new(),
        fields,
    }
}

/// Fields of others that would change: taken from them, or refused.
fn contend(owners: &mut [Manager], changed: &FieldSet, force: bool) -> Result<(), Status> {
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

fn described(owner: &Manager) -> String {
    let mut text = format!("{:?}", owner.name);
    if !owner.subresource.is_empty() {
        text = format!("{text} with subresource {:?}", owner.subresource);
    }
    if owner.applies { text } else { format!("{text} using {}", owner.api_version) }
}

fn conflict(conflicts: &mut Vec<(String, Path)>) -> Status {
    conflicts.sort();
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
        (Shape::Set, Value::Array(live), Value::Array(config)) => {
            let new = config.iter().filter(|element| !live.contains(element));
            live.iter().chain(new).cloned().collect()
        }
        (Shape::Keyed(keys, element), Value::Array(live), Value::Array(config)) => keyed(live, config, keys, element),
        (_, _, config) => config.clone(),
    }
}

/// Elements with the same keys are merged where they stand; new ones come after the applied one before them, or at the end.
fn keyed(live: &[Value], config: &[Value], keys: &[&str], element: &schema::Type) -> Value {
    let shape = match element {
        schema::Type::Struct(name) => Shape::Fields(schema::named(name)),
        _ => Shape::Atomic,
    };
    let mut merged: Vec<Value> = live.to_vec();
    let mut after: Option<usize> = None;
    for wanted in config {
        let key = keys_of(wanted, keys);
        if let Some(at) = merged.iter().position(|there| keys_of(there, keys) == key) {
            merged[at] = merge(&merged[at], wanted, &shape);
            after = Some(at);
        } else {
            let at = after.map_or(merged.len(), |after| after + 1);
            merged.insert(at, wanted.clone());
            after = Some(at);
        }
    }
    Value::Array(merged)
}

/// Takes fields out of an object, as far as nothing in them is kept.
fn prune(value: &mut Value, gone: &FieldSet, kept: &FieldSet, shape: &Shape<'_>) {
    // Deepest first, so that what is left of a part is seen before the part is judged.
    let mut paths: Vec<&Path> = gone.0.iter().collect();
    paths.sort_by_key(|path| std::cmp::Reverse(path.len()));
    for path in paths {
        let inside = kept.0.iter().any(|kept| kept.len() > path.len() && kept.starts_with(path));
        if !inside {
            remove(value, path, shape);
        }
    }
}

fn remove(value: &mut Value, path: &[Step], shape: &Shape<'_>) {
    let Some((step, rest)) = path.split_first() else { return };
    let inner = {
        let parts = shape.parts(value).unwrap_or_default();
        let Some((_, shape)) = parts.get(step) else { return };
        shape.clone()
    };
    match (step, value) {
        (Step::Field(name), Value::Object(fields)) => remove_field(fields, name, rest, &inner),
        (Step::Keys(keys), Value::Array(elements)) => {
            let Shape::Keyed(names, _) = shape else { return };
            let Some(at) = elements.iter().position(|element| keys_of(element, names) == *keys) else { return };
            if rest.is_empty() {
                elements.remove(at);
            } else {
                remove(&mut elements[at], rest, &inner);
            }
        }
        (Step::Value(wanted), Value::Array(elements)) => {
            let wanted: Value = serde_json::from_str(wanted).unwrap_or_default();
            elements.retain(|element| *element != wanted);
        }
        _ => {}
    }
}

fn remove_field(fields: &mut Map<String, Value>, name: &str, rest: &[Step], inner: &Shape<'_>) {
    if rest.is_empty() {
        fields.remove(name);
    } else if let Some(value) = fields.get_mut(name) {
        remove(value, rest, inner);
        // A container that held nothing else goes with its last part.
        let empty = value.as_object().is_some_and(Map::is_empty) || value.as_array().is_some_and(Vec::is_empty);
        if empty {
            fields.remove(name);
        }
    }
}
