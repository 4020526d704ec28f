//! `managedFields`: who owns which field.
//!
//! A real server counts every write. Here it is counted from the first server-side apply of an object on; whatever it had
//! before belongs to `before-first-apply`, as with a real server for objects that are older than its counting. Nothing
//! but apply looks at it.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::decode::normalized;
use super::fieldset::{FieldSet, Shape, Step, compare};
use super::meta::{metadata, put_meta};
use super::schema;
use super::strategy::reset_fields;
use crate::clock::seconds;
use crate::object::Object;
use crate::resource::Kind;

/// One entry.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub name: String,
    pub applies: bool,
    pub api_version: String,
    pub subresource: String,
    pub time: String,
    pub fields: FieldSet,
}

/// Who writes.
pub(crate) struct Write<'w> {
    pub subresource: &'w str,
    pub manager: &'w str,
    /// By server-side apply, which has counted already.
    pub applied: bool,
    pub now: Timestamp,
}

impl Write<'_> {
    /// What it is counted as, if these fields are its own from now on.
    fn entry(&self, object: &Value, fields: FieldSet) -> Entry {
        Entry {
            name: self.manager.to_owned(),
            applies: false,
            api_version: object["apiVersion"].as_str().unwrap_or_default().to_owned(),
            subresource: self.subresource.to_owned(),
            time: seconds(self.now),
            fields,
        }
    }
}

/// The managers of an object.
pub(crate) fn managers(object: &Value) -> Vec<Entry> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let entries = object["metadata"]["managedFields"].as_array().into_iter().flatten();
    entries
        .map(|entry| Entry {
            name: text(&entry["manager"]),
            applies: entry["operation"] == "Apply",
            api_version: text(&entry["apiVersion"]),
            subresource: text(&entry["subresource"]),
            time: text(&entry["time"]),
            fields: FieldSet::of_json(&entry["fieldsV1"]),
        })
        .collect()
}

/// Puts managers into an object; those that own nothing go.
pub(crate) fn set(object: &mut Value, mut managers: Vec<Entry>) {
    managers.retain(|manager| !manager.fields.0.is_empty());
    managers.sort_by(|a, b| (!a.applies, &a.time, &a.name).cmp(&(!b.applies, &b.time, &b.name)));
    let entries: Vec<Value> = managers
        .iter()
        .map(|manager| {
            let mut entry = json!({
                "manager": manager.name,
                "operation": if manager.applies { "Apply" } else { "Update" },
                "apiVersion": manager.api_version,
                "fieldsType": "FieldsV1",
                "fieldsV1": manager.fields.to_json(),
            });
            if !manager.time.is_empty() {
                entry["time"] = manager.time.as_str().into();
            }
            if !manager.subresource.is_empty() {
                entry["subresource"] = manager.subresource.as_str().into();
            }
            entry
        })
        .collect();
    put_meta(object, "managedFields", (!entries.is_empty()).then(|| entries.into()));
}

fn kind(object: &Value) -> Option<Kind> {
    Kind::of_object(object["apiVersion"].as_str()?, object["kind"].as_str()?)
}

fn shape(object: &Value) -> Shape<'static> {
    Shape::of_object(kind(object).and_then(schema::of_kind))
}

/// The time of entries that an apply made, until they are dated.
pub(crate) const UNDATED: &str = "0001-01-01T00:00:00Z";

/// Dates the entries that an apply made.
pub(crate) fn stamp(object: &mut Value, now: Timestamp) {
    let mut managers = managers(object);
    managers.iter_mut().filter(|manager| manager.time == UNDATED).for_each(|manager| manager.time = seconds(now));
    set(object, managers);
}

/// An object of which nothing is said, as far as its type shows that: what is in every object belongs to nobody.
pub(crate) fn blank(kind: Option<Kind>) -> Value {
    let type_ = kind.and_then(schema::of_kind);
    type_.and_then(|type_| normalized(json!({}), type_).ok()).unwrap_or_else(|| json!({}))
}

/// What is new or different in an object.
pub(crate) fn written(old: &Value, new: &Value, shape: &Shape<'_>) -> FieldSet {
    let mut difference = compare(old, new, shape);
    difference.added.union(difference.modified);
    difference.added
}

/// Counts a creation.
pub(crate) fn begin(object: &mut Value, manager: &str, now: Timestamp) {
    let kind = kind(object);
    let fields = written(&blank(kind), object, &shape(object));
    let has_status = kind.is_some_and(|kind| kind.resource().subresources.contains(&"status"));
    let fields = fields.without_bookkeeping();
    let fields = if has_status { fields.without("status") } else { fields };
    let api_version = object["apiVersion"].as_str().unwrap_or_default().to_owned();
    let (name, subresource) = (manager.to_owned(), String::new());
    set(object, vec![Entry { name, applies: false, api_version, subresource, time: seconds(now), fields }]);
}

/// Counts a write of the number of replicas. It passes from owner to owner; as a real server has it, a number of 0 belongs
/// to nobody, what belongs to nobody stays so, and nobody says since when.
fn note_scale(object: &mut Value, old: &Object, mut owners: Vec<Entry>, write: &Write<'_>) {
    let replicas = FieldSet([vec![Step::Field("spec".to_owned()), Step::Field("replicas".to_owned())]].into());
    if object["spec"]["replicas"] != *old.at("/spec/replicas") {
        let owned = owners.iter().any(|owner| !owner.fields.common(&replicas).0.is_empty());
        owners.iter_mut().for_each(|owner| owner.fields = owner.fields.minus(&replicas));
        if owned && object["spec"]["replicas"] != 0 {
            owners.push(Entry { time: String::new(), ..write.entry(object, replicas) });
        }
    } else if object["spec"]["replicas"] != 0 {
        // Whoever owns the number owns it apart from everything else from now on.
        let parted = |owner: &Entry| {
            let fields = owner.fields.common(&replicas);
            (!fields.0.is_empty()).then(|| Entry { time: String::new(), fields, ..owner.clone() })
        };
        let numbers: Vec<Entry> = owners.iter().filter_map(parted).collect();
        owners.iter_mut().for_each(|owner| owner.fields = owner.fields.minus(&replicas));
        owners.extend(numbers);
    }
    set(object, owners);
}

/// Who owns what they owned before has owned it since then, unless something else is new, too.
pub(crate) fn keep_times(object: &mut Value, old: &Value) {
    let (now, before) = (&object["metadata"]["managedFields"], &old["metadata"]["managedFields"]);
    if now.is_null() || now == before {
        return;
    }
    let undated = |entries: &Value| {
        let mut entries = entries.clone();
        entries.as_array_mut().into_iter().flatten().for_each(|entry| entry["time"] = Value::Null);
        entries
    };
    if undated(now) == undated(before) {
        let dated = object.clone();
        put_meta(object, "managedFields", Some(before.clone()));
        if object != old {
            *object = dated;
        }
    }
}

/// Counts a write of an object that is being counted.
pub(crate) fn note(object: &mut Value, old: &Object, write: &Write<'_>) {
    if write.applied {
        stamp(object, write.now);
        return;
    }
    let mut owners = managers(old.json());
    if owners.is_empty() {
        metadata(object).remove("managedFields");
        return;
    }
    if write.subresource == "scale" {
        note_scale(object, old, owners, write);
        return;
    }
    let difference = compare(old.json(), object, &shape(object));
    let mut written = difference.added;
    written.union(difference.modified);
    let keep = |set: FieldSet| set.without_bookkeeping().without_any(reset_fields(old.kind(), write.subresource));
    let (written, removed) = (keep(written), keep(difference.removed));
    if written.0.is_empty() && removed.0.is_empty() {
        put_meta(object, "managedFields", old.at("/metadata").get("managedFields").cloned());
        return;
    }
    for owner in &mut owners {
        owner.fields = owner.fields.minus(&removed).minus(&written);
    }
    let ours =
        |owner: &&mut Entry| owner.name == write.manager && !owner.applies && owner.subresource == write.subresource;
    if let Some(owner) = owners.iter_mut().find(ours) {
        owner.fields.union(written);
        owner.time = seconds(write.now);
    } else {
        owners.push(write.entry(object, written));
    }
    set(object, owners);
}
