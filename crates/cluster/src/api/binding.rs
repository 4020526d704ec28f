//! Binding: a pod gets its node, once.

use serde_json::{Value, json};

use super::body::{self, Expected, Sent};
use super::create::place;
use super::meta::{meta_text, metadata, put, section};
use super::options::WriteOptions;
use super::plugins::topology;
use super::request::Request;
use super::service::{Outcome, Reply, check_body};
use super::status::Status;
use super::update::other_uid;
use crate::clock::seconds;
use crate::cluster::Cluster;
use crate::object::Object;
use crate::resource::Kind;
use crate::store::Key;

/// What is answered where there is no object to show.
pub(crate) fn done() -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201})
}

/// Puts a condition in place of the one of its type; its time is kept if it says the same as before.
pub(crate) fn set_condition(object: &mut Value, mut condition: Value, now: jiff::Timestamp) {
    let conditions = section(object, "status").entry("conditions").or_insert_with(|| json!([]));
    let Value::Array(conditions) = conditions else { return };
    let there = conditions.iter_mut().find(|there| there["type"] == condition["type"]);
    let since = there.as_ref().filter(|there| there["status"] == condition["status"]);
    condition["lastTransitionTime"] =
        since.map_or_else(|| seconds(now).into(), |there| there["lastTransitionTime"].clone());
    match there {
        Some(there) => *there = condition,
        None => conditions.push(condition),
    }
}

impl Cluster {
    pub(crate) fn bind(&self, request: &Request) -> Result<Reply, Status> {
        check_body(request)?;
        let options = WriteOptions::of("CreateOptions", request)?;
        let target = &request.target;
        let Sent { object: mut binding, warnings } = body::object(request, &Expected::binding(), options.unknown)?;
        let warn = |status: Status| status.warning(&warnings);
        place(&mut binding, target.kind, &target.namespace).map_err(warn)?;
        self.bind_pod(&target.key(), &binding, options.dry_run).map_err(warn)?;
        Ok(Reply { outcome: Outcome::Json(201, done()), warnings })
    }

    /// Carries a `Binding` out.
    pub(crate) fn bind_pod(&self, key: &Key, binding: &Value, dry_run: bool) -> Result<(), Status> {
        if meta_text(binding, "name") != &*key.name {
            return Err(Status::bad_request("name in URL does not match name in Binding object"));
        }
        let aim = &binding["target"];
        match aim["kind"].as_str().unwrap_or_default() {
            "" | "Node" => {}
            other => {
                let why = format!("target.kind: Unsupported value: {other:?}: supported values: \"Node\", \"<empty>\"");
                return Err(Status::bare(500, why));
            }
        }
        let node = aim["name"].as_str().unwrap_or_default();
        if node.is_empty() {
            return Err(Status::bare(500, "target.name: Required value"));
        }
        let mut state = self.state();
        let pod = state.store.get(key).cloned().ok_or_else(|| Status::not_found(key.kind, &key.name))?;
        check(key, &pod, binding, dry_run)?;
        let mut bound = pod.json().clone();
        section(&mut bound, "spec").insert("nodeName".to_owned(), node.into());
        put(&mut bound["status"], "nominatedNodeName", None);
        copy(&mut bound, binding, "annotations");
        copy(&mut bound, binding, "labels");
        let places = if aim["kind"] == "Node" { topology(&state.store, node) } else { Vec::new() };
        for (label, value) in places {
            let labels = metadata(&mut bound).entry("labels").or_insert_with(|| json!({}));
            labels[label] = value.into();
        }
        let condition = json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null});
        set_condition(&mut bound, condition, self.now());
        if !dry_run {
            self.put(&mut state, key.clone(), bound);
        }
        Ok(())
    }
}

fn copy(pod: &mut Value, binding: &Value, field: &str) {
    let Some(entries) = binding["metadata"][field].as_object().filter(|entries| !entries.is_empty()) else { return };
    let all = metadata(pod).entry(field).or_insert_with(|| json!({}));
    for (key, value) in entries {
        all[key.as_str()] = value.clone();
    }
}

fn check(key: &Key, pod: &Object, binding: &Value, dry_run: bool) -> Result<(), Status> {
    let uid = meta_text(binding, "uid");
    if !uid.is_empty() && uid != pod.uid() {
        return Err(other_uid(key, uid, pod.uid(), dry_run));
    }
    let (version, found) = (meta_text(binding, "resourceVersion"), pod.revision().to_string());
    if !version.is_empty() && version != found {
        let root = if dry_run { "" } else { "/registry" };
        let why = format!(
            "StorageError: invalid object, Code: 4, Key: {root}/pods/{}/{}, ResourceVersion: 0, AdditionalErrorMsg: \
             Precondition failed: ResourceVersion in precondition: {version}, ResourceVersion in object meta: {found}",
            key.namespace, key.name
        );
        return Err(Status::conflict(key.kind, &key.name, &why));
    }
    let name = pod.name();
    let node = pod.text("/spec/nodeName").unwrap_or_default();
    let why = if pod.deletion().is_some() {
        format!("pod {name} is being deleted, cannot be assigned to a host")
    } else if !node.is_empty() {
        format!("pod {name} is already assigned to node {node:?}")
    } else if !pod.list("/spec/schedulingGates").is_empty() {
        format!("pod {name} has non-empty .spec.schedulingGates")
    } else {
        return Ok(());
    };
    let message = format!("Operation cannot be fulfilled on pods/binding {name:?}: {why}");
    debug_assert!(key.kind == Kind::Pod, "only pods are bound");
    Err(Status::with_reason(409, "Conflict", message, json!({"name": name, "kind": "pods/binding"})))
}
