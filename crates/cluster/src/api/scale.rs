//! The `scale` subresource: the number of replicas of a workload, and nothing else of it.
//!
//! Webhooks for it are not asked, and it knows no server-side apply.

use serde_json::{Value, json};

use super::body::{self, Expected, Sent};
use super::create::place;
use super::decode::normalized;
use super::field::FieldError;
use super::meta::{keep, meta_text, put_meta, section};
use super::options::WriteOptions;
use super::patch::{Patch, formed};
use super::request::{Request, Target};
use super::schema;
use super::service::{Outcome, Reply, check_body};
use super::status::{Status, qualified};
use super::update::{Update, check_name};
use crate::cluster::Cluster;
use crate::object::Object;

/// A workload as a Scale.
fn scale_of(object: &Object) -> Value {
    let mut scale = json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1",
        "metadata": {},
        "spec": {"replicas": object.at("/spec/replicas")},
        "status": {"replicas": object.at("/status/replicas"), "selector": selector_text(object.at("/spec/selector"))},
    });
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        keep(&mut scale["metadata"], field, object.at("/metadata"));
    }
    normalized(scale, schema::named("autoscaling.Scale")).expect("it was made in this form")
}

/// A selector as it is written in a query.
fn selector_text(selector: &Value) -> String {
    let labels = selector["matchLabels"].as_object().into_iter().flatten();
    let mut parts: Vec<(String, String)> =
        labels.map(|(key, value)| (key.clone(), format!("{key}={}", value.as_str().unwrap_or_default()))).collect();
    for expression in selector["matchExpressions"].as_array().into_iter().flatten() {
        let key = expression["key"].as_str().unwrap_or_default();
        let mut values: Vec<&str> =
            expression["values"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        values.sort_unstable();
        let values = values.join(",");
        let text = match expression["operator"].as_str().unwrap_or_default() {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "DoesNotExist" => format!("!{key}"),
            _ => key.to_owned(),
        };
        parts.push((key.to_owned(), text));
    }
    parts.sort();
    parts.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join(",")
}

/// The workload with the number of a Scale, and its version if it names one.
fn scaled(current: &Object, scale: &Value) -> Result<Value, Status> {
    let replicas = scale["spec"]["replicas"].as_i64().unwrap_or(0);
    if replicas < 0 {
        let error = FieldError::invalid("spec.replicas", &replicas.into(), "must be greater than or equal to 0");
        return Err(Status::invalid_in("autoscaling", "Scale", current.name(), &vec![error]));
    }
    let mut object = current.json().clone();
    section(&mut object, "spec").insert("replicas".to_owned(), replicas.into());
    put_meta(&mut object, "resourceVersion", Some(meta_text(scale, "resourceVersion").into()));
    Ok(object)
}

impl Cluster {
    fn workload(&self, target: &Target) -> Result<std::sync::Arc<Object>, Status> {
        let key = target.key();
        self.read(|store| store.get(&key).cloned()).ok_or_else(|| Status::not_found(key.kind, &key.name))
    }

    pub(crate) fn get_scale(&self, request: &Request) -> Result<Reply, Status> {
        Ok(Outcome::Json(200, scale_of(&*self.workload(&request.target)?)).into())
    }

    pub(crate) async fn put_scale(&self, request: &Request) -> Result<Reply, Status> {
        check_body(request)?;
        let options = WriteOptions::of("UpdateOptions", request)?;
        let target = &request.target;
        let Sent { object: mut scale, warnings } = body::object(request, &Expected::scale(), options.unknown)?;
        let warn = |status: Status| status.warning(&warnings);
        place(&mut scale, target.kind, &target.namespace).map_err(warn)?;
        check_name(&scale, target.name.as_deref().unwrap_or_default()).map_err(warn)?;
        let uid = Some(meta_text(&scale, "uid").to_owned()).filter(|uid| !uid.is_empty());
        let update =
            Update { key: target.key(), subresource: "scale", uid, creates: false, applies: false, options: &options };
        let updated = self.update(&update, |current| scaled(expect(current, target)?, &scale)).await.map_err(warn)?;
        Ok(Reply { outcome: Outcome::Json(200, scale_of(&updated.object())), warnings })
    }

    pub(crate) async fn patch_scale(&self, request: &Request) -> Result<Reply, Status> {
        let (patch, options) = self.patch_of(request)?;
        if matches!(patch, Patch::Apply(_)) {
            let message = "415: Unsupported Media Type";
            return Err(Status::with_reason(415, "UnsupportedMediaType", message, json!({})));
        }
        let target = &request.target;
        let update = Update {
            key: target.key(),
            subresource: "scale",
            uid: None,
            creates: false,
            applies: false,
            options: &options,
        };
        let warnings = parking_lot::Mutex::new(Vec::new());
        let updated = self
            .update(&update, |current| {
                let current = expect(current, target)?;
                scaled(current, &patched(&patch, current, target, &options, &mut warnings.lock())?)
            })
            .await;
        let warnings = warnings.into_inner();
        let updated = updated.map_err(|status| status.warning(&warnings))?;
        Ok(Reply { outcome: Outcome::Json(200, scale_of(&updated.object())), warnings })
    }
}

fn expect<'o>(current: Option<&'o Object>, target: &Target) -> Result<&'o Object, Status> {
    current.ok_or_else(|| Status::not_found(target.kind, target.name.as_deref().unwrap_or_default()))
}

fn patched(
    patch: &Patch,
    current: &Object,
    target: &Target,
    options: &WriteOptions,
    warnings: &mut Vec<String>,
) -> Result<Value, Status> {
    let name = target.name.as_deref().unwrap_or_default();
    let made = patch.laid_over(&scale_of(current), Some(schema::named("autoscaling.Scale")))?;
    let Sent { object: mut scale, warnings: said } = formed(patch, &made, &Expected::scale(), options.unknown)?;
    *warnings = said;
    place(&mut scale, target.kind, &target.namespace)?;
    check_name(&scale, name)?;
    let uid = meta_text(&scale, "uid");
    if !uid.is_empty() && uid != current.uid() {
        let row = target.kind.resource();
        let word = format!("{}/scale", row.plural);
        let found = current.uid();
        let message = format!(
            "Operation cannot be fulfilled on {} {name:?}: Precondition failed: UID in precondition: {uid}, UID in object \
             meta: {found}",
            qualified(&word, row.group)
        );
        let details = json!({"name": name, "group": row.group, "kind": word});
        return Err(Status::with_reason(409, "Conflict", message, details));
    }
    Ok(scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selector_is_written_as_a_query() {
        let selector = json!({
            "matchLabels": {"b": "1", "a": "2"},
            "matchExpressions": [{"key": "c", "operator": "In", "values": ["y", "x"]}, {"key": "d", "operator": "Exists"}],
        });
        assert_eq!(selector_text(&selector), "a=2,b=1,c in (x,y),d");
    }
}
