//! Disruption budgets: how many pods of those selected are healthy, how many have to be, how many may go.
//!
//! It evicts nothing and holds nothing back; the API does that by what stands in the status. Evictions that the API let
//! through stand in `disruptedPods` until the pod is seen to go, or for two minutes.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use super::pods::{is_ready, key, second, set_condition, transition, write_status};
use super::portion::portion;
use crate::engine::{Act, Controller};
use crate::object::Object;
use crate::resource::Kind;
use crate::selector;
use crate::store::{Alike, Change, Crowd, Key, Store};

/// How long an eviction counts though its pod does not go.
const PATIENCE: SignedDuration = SignedDuration::from_mins(2);

/// The controller of disruption budgets.
#[derive(Clone, Copy, Debug)]
pub struct Disruption;

impl Controller for Disruption {
    fn name(&self) -> &'static str {
        "disruption"
    }

    fn touched(&self, store: &Store, change: &Change) -> Vec<Key> {
        match change.key.kind {
            Kind::PodDisruptionBudget => vec![change.key.clone()],
            Kind::Pod if matters(change.before.as_deref(), change.after.as_deref()) => {
                let states = [&change.before, &change.after].into_iter().flatten();
                let labels: Vec<&Value> = states.map(|pod| pod.at("/metadata/labels")).collect();
                let budgets = store.list(Kind::PodDisruptionBudget, Some(&change.key.namespace));
                let selecting = budgets.filter(|budget| {
                    let selector = budget.at("/spec/selector");
                    labels.iter().any(|labels| selector::selects(selector, labels))
                });
                selecting.filter_map(|budget| key(budget)).collect()
            }
            _ => Vec::new(),
        }
    }

    fn look(&self, store: &Store, key: &Key, now: Timestamp) -> Act {
        let Some(budget) = store.get(key) else { return Act::none() };
        let selector = budget.at("/spec/selector");
        let is_selected = |crowd: &Crowd| selector::selects(selector, crowd.one.at("/metadata/labels"));
        let crowds: Vec<(&Alike, &Crowd)> =
            store.crowds_in(budget.namespace()).filter(|(_, crowd)| is_selected(crowd)).collect();
        let disrupted = disrupted(store, budget, now);
        let healthy = healthy(store, budget, &crowds, &disrupted);
        let after = match expectations(store, budget, &crowds) {
            Ok((expected, desired)) => with_status(budget, Counts { healthy, desired, expected }, &disrupted, now),
            Err(stranger) => closed(budget, &stranger, now),
        };
        let writes = write_status(budget, after);
        let again = disrupted.values().min().map(|since| *since + PATIENCE);
        Act { batches: vec![writes], again }
    }
}

/// Whether a change of a pod can change anything about a budget.
fn matters(before: Option<&Object>, after: Option<&Object>) -> bool {
    let (Some(before), Some(after)) = (before, after) else { return true };
    let same = |part: &str| before.at(part) == after.at(part);
    is_ready(before) != is_ready(after)
        || !["/metadata/labels", "/metadata/ownerReferences", "/metadata/deletionTimestamp"].into_iter().all(same)
}

fn selects(budget: &Object, pod: &Object) -> bool {
    selector::selects(budget.at("/spec/selector"), pod.at("/metadata/labels"))
}

/// The evictions that still count, by the pod's name.
fn disrupted(store: &Store, budget: &Object, now: Timestamp) -> BTreeMap<String, Timestamp> {
    let known = budget.at("/status/disruptedPods").as_object().into_iter().flatten();
    let staying = known.filter(|(name, _)| pod_of(store, budget, name).is_some_and(|pod| pod.deletion().is_none()));
    let since = staying.filter_map(|(name, since)| Some((name.clone(), since.as_str()?.parse().ok()?)));
    since.filter(|(_, since): &(String, Timestamp)| *since + PATIENCE > now).collect()
}

/// A pod that a budget is about.
fn pod_of<'s>(store: &'s Store, budget: &Object, name: &str) -> Option<&'s Arc<Object>> {
    store.get(&Key::new(Kind::Pod, budget.namespace(), name)).filter(|pod| selects(budget, pod))
}

fn healthy(
    store: &Store,
    budget: &Object,
    crowds: &[(&Alike, &Crowd)],
    disrupted: &BTreeMap<String, Timestamp>,
) -> i64 {
    let ready = crowds.iter().filter(|(alike, _)| !alike.is_ending && alike.ready_since.is_some());
    let leaving = disrupted.keys().filter(|name| pod_of(store, budget, name).is_some_and(|pod| is_ready(pod)));
    number(ready.map(|(_, crowd)| crowd.count).sum::<usize>() - leaving.count())
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A pod that belongs to something whose scale nobody knows: what should be there cannot be said.
struct Stranger(String);

/// How many pods there should be, and how many of them have to be healthy.
fn expectations(store: &Store, budget: &Object, crowds: &[(&Alike, &Crowd)]) -> Result<(i64, i64), Stranger> {
    let most = budget.at("/spec/maxUnavailable");
    if !most.is_null() {
        let expected = scale(store, crowds)?;
        return Ok((expected, (expected - portion(most, expected, true).unwrap_or(0)).max(0)));
    }
    let least = budget.at("/spec/minAvailable");
    match least {
        Value::String(_) => {
            let expected = scale(store, crowds)?;
            Ok((expected, portion(least, expected, true).unwrap_or(0)))
        }
        _ => Ok((number(crowds.iter().map(|(_, crowd)| crowd.count).sum()), least.as_i64().unwrap_or(0))),
    }
}

/// How many pods those that own these ask for. A pod that nobody owns asks for nothing.
fn scale(store: &Store, crowds: &[(&Alike, &Crowd)]) -> Result<i64, Stranger> {
    let mut owners: BTreeMap<&str, i64> = BTreeMap::new();
    for pod in crowds.iter().map(|(_, crowd)| &crowd.one).filter(|pod| pod.controlled_by().is_some()) {
        let owner = top_owner(store, pod).ok_or_else(|| Stranger(pod.name().to_owned()))?;
        owners.insert(owner.uid(), owner.number("/spec/replicas").unwrap_or(1));
    }
    Ok(owners.values().sum())
}

/// The object with a scale that a pod belongs to: the Deployment if there is one above.
fn top_owner<'s>(store: &'s Store, pod: &Object) -> Option<&'s Arc<Object>> {
    let owner = owner_of(store, pod)?;
    let is_of_a_deployment = owner.controller().is_some_and(|above| above.kind == "Deployment");
    if owner.kind() == Some(Kind::ReplicaSet) && is_of_a_deployment { owner_of(store, owner) } else { Some(owner) }
}

fn owner_of<'s>(store: &'s Store, object: &Object) -> Option<&'s Arc<Object>> {
    let owner = object.controller()?;
    let kind = Kind::of_object(owner.api_version, owner.kind)?;
    let found = store.get(&Key::new(kind, object.namespace(), owner.name))?;
    (found.uid() == owner.uid && kind.resource().subresources.contains(&"scale")).then_some(found)
}

#[derive(Clone, Copy)]
struct Counts {
    healthy: i64,
    desired: i64,
    expected: i64,
}

fn with_status(budget: &Object, counts: Counts, disrupted: &BTreeMap<String, Timestamp>, now: Timestamp) -> Value {
    let Counts { healthy, desired, expected } = counts;
    let allowed = if expected > 0 { (healthy - desired).max(0) } else { 0 };
    let mut after = budget.json().clone();
    let status = &mut after["status"];
    if !status.is_object() {
        *status = json!({});
    }
    status["observedGeneration"] = json!(budget.generation());
    for (name, count) in [
        ("currentHealthy", healthy),
        ("desiredHealthy", desired),
        ("disruptionsAllowed", allowed),
        ("expectedPods", expected),
    ] {
        status[name] = json!(count);
    }
    let times: Map<String, Value> =
        disrupted.iter().map(|(name, since)| (name.clone(), json!(second(*since)))).collect();
    match status.as_object_mut() {
        Some(fields) if times.is_empty() => drop(fields.remove("disruptedPods")),
        _ => status["disruptedPods"] = Value::Object(times),
    }
    put_condition(budget, &mut after, allowed > 0, now);
    after
}

/// Nothing may go while nobody knows what should be there.
fn closed(budget: &Object, Stranger(pod): &Stranger, now: Timestamp) -> Value {
    let mut after = budget.json().clone();
    if !after["status"].is_object() {
        after["status"] = json!({"currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0});
    }
    after["status"]["disruptionsAllowed"] = json!(0);
    set_condition(
        &mut after,
        json!({
            "type": "DisruptionAllowed", "status": "False", "reason": "SyncFailed",
            "message": format!("found no controllers for pod {pod:?}"),
            "observedGeneration": budget.number("/status/observedGeneration").unwrap_or(0),
            "lastTransitionTime": transition(budget, "DisruptionAllowed", "False", now),
        }),
    );
    after
}

fn put_condition(budget: &Object, after: &mut Value, allowed: bool, now: Timestamp) {
    let (status, reason) = if allowed { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
    set_condition(
        after,
        json!({
            "type": "DisruptionAllowed", "status": status, "reason": reason, "message": "",
            "observedGeneration": budget.generation(),
            "lastTransitionTime": transition(budget, "DisruptionAllowed", status, now),
        }),
    );
}

#[cfg(test)]
mod tests;
