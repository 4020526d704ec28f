//! Eviction: deletion that a disruption budget may refuse.
//!
//! The budget is taken before the pod is deleted, and not given back if that fails: so does a real API server.

use serde_json::{Value, json};

use super::binding::{done, set_condition};
use super::body::{self, Expected, Sent};
use super::create::place;
use super::delete::check_preconditions;
use super::meta::{meta_text, section};
use super::options::{DeleteOptions, WriteOptions};
use super::ownership;
use super::request::Request;
use super::service::{Outcome, Reply, check_body};
use super::status::Status;
use crate::api::labels::Selector;
use crate::clock::seconds;
use crate::cluster::{Cluster, State};
use crate::object::Object;
use crate::resource::Kind;
use crate::store::{Key, Store};

const VIOLATES: &str = "Cannot evict pod as it would violate the pod's disruption budget.";
const SEVERAL: &str =
    "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
/// How long a caller is told to wait for a budget whose own state is behind.
const RETRY: u64 = 10;
/// How many evictions a budget keeps in mind.
const LARGEST: usize = 2000;

impl Cluster {
    pub(crate) fn evict(&self, request: &Request) -> Result<Reply, Status> {
        check_body(request)?;
        let options = WriteOptions::of("CreateOptions", request)?;
        let target = &request.target;
        let Sent { object: mut eviction, warnings } = body::object(request, &Expected::eviction(), options.unknown)?;
        let warn = |status: Status| status.warning(&warnings);
        place(&mut eviction, target.kind, &target.namespace).map_err(warn)?;
        let key = target.key();
        if meta_text(&eviction, "name") != &*key.name {
            return Err(warn(Status::bad_request("name in URL does not match name in Eviction object")));
        }
        let sent = DeleteOptions::of_object(&eviction["deleteOptions"]);
        if sent.dry_run && !options.dry_run && request.query.get("dryRun").is_some() {
            let why = "Non-matching dry-run options in request and content: [] and [All]";
            return Err(warn(Status::bad_request(why)));
        }
        let sent = DeleteOptions { dry_run: sent.dry_run || options.dry_run, ..sent };
        self.evict_pod(&mut self.state(), &key, &sent).map_err(warn)?;
        Ok(Reply { outcome: Outcome::Json(201, done()), warnings })
    }

    fn evict_pod(&self, state: &mut State, key: &Key, sent: &DeleteOptions) -> Result<(), Status> {
        let pod = state.store.get(key).cloned().ok_or_else(|| Status::not_found(key.kind, &key.name))?;
        if is_unprotected(&pod) {
            return self.end(state, key, &versioned(&pod, sent, !is_over(&pod)));
        }
        let mut budgets = budgets(&state.store, &pod);
        let budget = match (budgets.pop(), budgets.is_empty()) {
            (Some(_), false) => return Err(Status::bare(500, SEVERAL)),
            (budget, _) => budget,
        };
        let Some(budget) = budget else { return self.end(state, key, sent) };
        if !pod.has_condition("Ready") && spares(&budget) {
            // The version of now takes the place of the caller's.
            let options = DeleteOptions { resource_version: Some(pod.revision().to_string()), ..sent.clone() };
            let result = self.end(state, key, &options);
            let behind = matches!(&result, Err(status) if status.code == 409) && sent.resource_version.is_none();
            return if behind { Err(still_processed(&budget)) } else { result };
        }
        self.take(state, &budget, key, sent.dry_run)?;
        self.end(state, key, sent)
    }

    /// Says why a pod ends, and deletes it.
    fn end(&self, state: &mut State, key: &Key, options: &DeleteOptions) -> Result<(), Status> {
        let mut options = options.clone();
        if !options.dry_run {
            let pod = state.store.get(key).cloned().ok_or_else(|| Status::not_found(key.kind, &key.name))?;
            check_preconditions(key, &pod, &options)?;
            let mut marked = pod.json().clone();
            let condition = json!({
                "type": "DisruptionTarget", "status": "True", "lastProbeTime": null,
                "reason": "EvictionByEvictionAPI", "message": "Eviction API: evicting",
            });
            set_condition(&mut marked, condition, self.now());
            if marked != *pod.json() {
                let marked = self.put(state, key.clone(), marked);
                options.resource_version = options.resource_version.map(|_| marked.revision().to_string());
            }
        }
        self.delete_object(state, key, &options).map(drop)
    }

    /// Takes one disruption from a budget.
    fn take(&self, state: &mut State, budget: &Object, pod: &Key, dry_run: bool) -> Result<(), Status> {
        if budget.number("/status/observedGeneration").unwrap_or(0) < budget.generation() {
            return Err(still_processed(budget));
        }
        let allowed = budget.number("/status/disruptionsAllowed").unwrap_or(0);
        let disrupted = budget.at("/status/disruptedPods").as_object().map_or(0, serde_json::Map::len);
        if allowed < 0 {
            return Err(forbidden(budget, "pdb disruptions allowed is negative"));
        }
        if disrupted > LARGEST {
            let why = "DisruptedPods map too big - too many evictions not confirmed by PDB controller";
            return Err(forbidden(budget, why));
        }
        if allowed == 0 {
            return Err(Status::too_many_requests(VIOLATES, 0, &refusal(budget)));
        }
        if dry_run {
            return Ok(());
        }
        let mut taken = budget.json().clone();
        let status = section(&mut taken, "status");
        status.insert("disruptionsAllowed".to_owned(), (allowed - 1).into());
        let pods = status.entry("disruptedPods").or_insert_with(|| json!({}));
        pods[&*pod.name] = seconds(self.now()).into();
        if allowed == 1 {
            let condition = json!({
                "type": "DisruptionAllowed", "status": "False", "reason": "InsufficientPods", "message": "",
                "observedGeneration": budget.at("/status/observedGeneration"),
            });
            set_condition(&mut taken, condition, self.now());
        }
        let write =
            ownership::Write { subresource: "status", manager: "kube-apiserver", applied: false, now: self.now() };
        ownership::note(&mut taken, budget, &write);
        let key = Key::new(Kind::PodDisruptionBudget, budget.namespace(), budget.name());
        self.put(state, key, taken);
        Ok(())
    }
}

fn is_over(pod: &Object) -> bool {
    matches!(pod.text("/status/phase"), Some("Succeeded" | "Failed")) || pod.deletion().is_some()
}

/// Whether budgets do not matter for a pod.
fn is_unprotected(pod: &Object) -> bool {
    is_over(pod) || pod.text("/status/phase") == Some("Pending")
}

/// Options with the version of now, if the caller named none and it matters.
fn versioned(pod: &Object, sent: &DeleteOptions, matters: bool) -> DeleteOptions {
    let version = sent.resource_version.clone().or_else(|| matters.then(|| pod.revision().to_string()));
    DeleteOptions { resource_version: version, ..sent.clone() }
}

fn budgets(store: &Store, pod: &Object) -> Vec<std::sync::Arc<Object>> {
    let budgets = store.list(Kind::PodDisruptionBudget, Some(pod.namespace()));
    let protects = |budget: &Object| {
        Selector::of_object(budget.at("/spec/selector")).is_some_and(|selector| selector.matches(pod))
    };
    budgets.filter(|budget| protects(budget)).cloned().collect()
}

/// Whether a budget lets pods pass that are not ready.
fn spares(budget: &Object) -> bool {
    let number = |field: &str| budget.number(field).unwrap_or(0);
    let (healthy, desired) = (number("/status/currentHealthy"), number("/status/desiredHealthy"));
    budget.text("/spec/unhealthyPodEvictionPolicy") == Some("AlwaysAllow") || (healthy >= desired && desired > 0)
}

fn still_processed(budget: &Object) -> Status {
    let cause = format!("The disruption budget {} is still being processed by the server.", budget.name());
    Status::too_many_requests(VIOLATES, RETRY, &cause)
}

/// Why a budget allows nothing.
fn refusal(budget: &Object) -> String {
    let name = budget.name();
    let number = |field: &str| budget.number(field).unwrap_or(0);
    let (healthy, desired) = (number("/status/currentHealthy"), number("/status/desiredHealthy"));
    let condition = budget.condition("DisruptionAllowed").filter(|condition| condition["status"] == "False");
    let said = |field: &str| condition.and_then(|condition| condition[field].as_str()).unwrap_or_default();
    let (reason, message) = (said("reason"), said("message"));
    if reason == "SyncFailed" && !message.is_empty() {
        format!("The disruption budget {name} does not allow evicting pods currently because it failed sync: {message}")
    } else if healthy <= desired {
        format!("The disruption budget {name} needs {desired} healthy pods and has {healthy} currently")
    } else if !message.is_empty() {
        format!("The disruption budget {name} does not allow evicting pods currently ({reason}): {message}")
    } else {
        format!("The disruption budget {name} does not allow evicting pods currently")
    }
}

fn forbidden(budget: &Object, why: &str) -> Status {
    let name = budget.name();
    let message = format!("poddisruptionbudget.policy {name:?} is forbidden: {why}");
    let details: Value = json!({"name": name, "group": "policy", "kind": "poddisruptionbudget"});
    Status::with_reason(403, "Forbidden", message, details)
}
