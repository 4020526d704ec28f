//! What `kubectl get` shows: objects as rows of a `Table` (`meta.k8s.io/v1`), with the columns and cells of a real API server.
//!
//! Which columns a kind has is said in `columns`; here a table is made of them. What is wide is in it always: leaving it out
//! is the client's business. No column is described, for nobody shows that.

mod age;
mod columns;
mod metrics;
mod pod;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::query::Query;
use super::status::Status;
use crate::object::Object;
use crate::resource::Kind;
use columns::Column;

/// What comes with the cells of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Include {
    Nothing,
    Metadata,
    Whole,
}

/// How a table is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Terms {
    include: Include,
    /// Whether the columns are named. The events of a watch name them once.
    heads: bool,
}

impl Terms {
    /// What `includeObject` says.
    pub(crate) fn of(query: &Query) -> Result<Self, Status> {
        let include = match query.text("includeObject") {
            "" | "Metadata" => Include::Metadata,
            "None" => Include::Nothing,
            "Object" => Include::Whole,
            other => {
                return Err(Status::bad_request(format!(
                    "Unable to convert to Table as requested: includeObject: Invalid value: {other:?}: must be \
                     'Metadata', 'Object', 'None', or empty"
                )));
            }
        };
        Ok(Self { include, heads: true })
    }

    /// The same for what comes after the first event of a watch.
    pub(crate) const fn after_the_first(self) -> Self {
        Self { heads: false, ..self }
    }

    /// A table of one object.
    pub(crate) fn one(self, kind: Kind, object: &Object, now: Timestamp) -> Value {
        let metadata = json!({"resourceVersion": object.at("/metadata/resourceVersion")});
        self.table(columns::of(kind), &metadata, std::iter::once(object), now)
    }

    /// A table of a list, with the metadata of that list.
    pub(crate) fn many<'o>(
        self,
        kind: Kind,
        metadata: &Value,
        objects: impl Iterator<Item = &'o Object>,
        now: Timestamp,
    ) -> Value {
        self.table(columns::of(kind), metadata, objects, now)
    }

    /// A table of a `Scale`.
    pub(crate) fn scale(self, scale: &Object, now: Timestamp) -> Value {
        let metadata = json!({"resourceVersion": scale.at("/metadata/resourceVersion")});
        self.table(columns::SCALE, &metadata, std::iter::once(scale), now)
    }

    fn table<'o>(
        self,
        columns: &[Column],
        metadata: &Value,
        objects: impl Iterator<Item = &'o Object>,
        now: Timestamp,
    ) -> Value {
        let heads = self.heads.then(|| columns.iter().map(Column::head).collect::<Vec<_>>());
        let rows: Vec<Value> = objects.map(|object| self.row(columns, object, now)).collect();
        json!({
            "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "columnDefinitions": heads, "rows": rows,
        })
    }

    fn row(self, columns: &[Column], object: &Object, now: Timestamp) -> Value {
        let cells: Vec<Value> = columns.iter().map(|column| column.cell(object, now)).collect();
        // The end of what there is at first is said in an annotation, and told to everybody.
        let tells_an_end = object.annotation("k8s.io/initial-events-end").is_some();
        let included = match self.include {
            Include::Whole => object.json().clone(),
            Include::Nothing if !tells_an_end => Value::Null,
            Include::Metadata | Include::Nothing => partial(object),
        };
        let mut row = json!({"cells": cells, "object": included});
        if let Some(conditions) = pod::row_conditions(object) {
            row["conditions"] = conditions;
        }
        row
    }
}

/// An object of which only the metadata is told.
pub(crate) fn partial(object: &Object) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object.at("/metadata")})
}

#[cfg(test)]
mod tests;
