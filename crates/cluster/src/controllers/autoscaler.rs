//! Autoscalers: a scenario says how many pods a load wants, in the annotation `embedded-cluster/wanted` of the autoscaler, and
//! the target follows as it would: every 15 seconds, between bounds, up at most twofold, down only when it was enough for a
//! while.
//!
//! Metrics do not exist here. What was wanted in the past stands in an annotation, written only when it changes.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::pods::{second, set_condition, transition, write_object, write_status};
use crate::engine::{Act, Controller, Write};
use crate::object::Object;
use crate::resource::Kind;
use crate::store::{Change, Key, Store};

/// How many pods the load wants.
pub const WANTED: &str = "embedded-cluster/wanted";
/// What it wanted before: `time=count` for each change, oldest first.
const HISTORY: &str = "embedded-cluster/wanted-history";
const PERIOD: SignedDuration = SignedDuration::from_secs(15);

/// The controller of autoscalers.
#[derive(Clone, Copy, Debug)]
pub struct Autoscaler;

impl Controller for Autoscaler {
    fn name(&self) -> &'static str {
        "horizontalpodautoscaler"
    }

    fn touched(&self, store: &Store, change: &Change) -> Vec<Key> {
        let number = |object: &Option<_>| {
            object.as_ref().and_then(|object: &std::sync::Arc<Object>| object.number("/spec/replicas"))
        };
        match change.key.kind {
            Kind::HorizontalPodAutoscaler => vec![change.key.clone()],
            Kind::Deployment | Kind::ReplicaSet | Kind::StatefulSet
                if number(&change.before) != number(&change.after) =>
            {
                let scalers = store.list(Kind::HorizontalPodAutoscaler, Some(&change.key.namespace));
                let ours = scalers.filter(|scaler| target(scaler).as_ref() == Some(&change.key));
                ours.map(|scaler| Key::new(Kind::HorizontalPodAutoscaler, scaler.namespace(), scaler.name())).collect()
            }
            _ => Vec::new(),
        }
    }

    fn look(&self, store: &Store, key: &Key, now: Timestamp) -> Act {
        let Some(scaler) = store.get(key) else { return Act::none() };
        let wanted: Option<i64> = scaler.annotation(WANTED).and_then(|wanted| wanted.parse().ok());
        let remembered = write_object(scaler, remembering(scaler, wanted, now));
        if !remembered.is_empty() {
            return Act::now(remembered);
        }
        let tick = next_tick(scaler, now);
        if tick > now {
            return Act::at(Some(tick));
        }
        let Some(target) = target(scaler).and_then(|target| store.get(&target)) else { return Act::none() };
        scale(scaler, target, now)
    }
}

fn target(scaler: &Object) -> Option<Key> {
    let kind =
        Kind::of_object(scaler.text("/spec/scaleTargetRef/apiVersion")?, scaler.text("/spec/scaleTargetRef/kind")?)?;
    let known = kind.resource().subresources.contains(&"scale");
    known.then(|| Key::new(kind, scaler.namespace(), scaler.text("/spec/scaleTargetRef/name").unwrap_or_default()))
}

/// The next time at which it is looked at the target, which may be now. A tick lasts a second, for nothing comes to the
/// millisecond, and has one act; the first is a period after the beginning.
fn next_tick(scaler: &Object, now: Timestamp) -> Timestamp {
    let age = now.duration_since(scaler.created());
    let into = SignedDuration::from_millis(i64::try_from(age.as_millis() % PERIOD.as_millis()).unwrap_or(0));
    let begun = now - into;
    let acted = scaler.time("/status/lastScaleTime").is_some_and(|last| last >= begun);
    if age >= PERIOD && into < SignedDuration::from_secs(1) && !acted { now } else { begun + PERIOD }
}

fn history(scaler: &Object) -> Vec<(Timestamp, i64)> {
    let entries = scaler.annotation(HISTORY).unwrap_or_default().split(',');
    entries
        .filter_map(|entry| entry.split_once('='))
        .filter_map(|(time, count)| Some((time.parse().ok()?, count.parse().ok()?)))
        .collect()
}

/// The autoscaler with what is wanted now noted down, and what no longer matters forgotten.
fn remembering(scaler: &Object, wanted: Option<i64>, now: Timestamp) -> Value {
    let mut after = scaler.json().clone();
    let mut history = history(scaler);
    let Some(wanted) = wanted.filter(|wanted| history.last().is_none_or(|(_, last)| last != wanted)) else {
        return after;
    };
    history.push((now, wanted));
    // An entry counts until the next one; the last before the window begins is still of use.
    let old = now - window(scaler);
    let first = history.iter().rposition(|(since, _)| *since <= old).unwrap_or(0);
    let entries: Vec<String> =
        history[first..].iter().map(|(since, count)| format!("{}={count}", second(*since))).collect();
    after["metadata"]["annotations"][HISTORY] = json!(entries.join(","));
    after
}

fn window(scaler: &Object) -> SignedDuration {
    SignedDuration::from_secs(scaler.number("/spec/behavior/scaleDown/stabilizationWindowSeconds").unwrap_or(300))
}

/// The most that was wanted within the window, and when that may change.
fn stabilised(scaler: &Object, now: Timestamp) -> Option<(i64, Option<Timestamp>)> {
    let (history, window) = (history(scaler), window(scaler));
    let ends = history.iter().skip(1).map(|(since, _)| *since + window).map(Some).chain([None]);
    let counting = history.iter().zip(ends).filter(|(_, end)| end.is_none_or(|end| end > now));
    let (most, until) = counting.map(|((_, count), end)| (*count, end)).max_by_key(|(count, _)| *count)?;
    Some((most, until))
}

fn scale(scaler: &Object, target: &Object, now: Timestamp) -> Act {
    let current = target.number("/spec/replicas").unwrap_or(1);
    let (least, most) =
        (scaler.number("/spec/minReplicas").unwrap_or(1), scaler.number("/spec/maxReplicas").unwrap_or(i64::MAX));
    if current == 0 {
        return Act::now(status(scaler, (0, 0), false, now));
    }
    let last = history(scaler).last().map(|(_, wanted)| *wanted);
    let (stable, until) = stabilised(scaler, now).map_or((current, None), |(most, until)| (most, until));
    // What is wanted now is followed upwards at once; downwards the window decides.
    let proposed = match last {
        Some(wanted) if wanted >= current => wanted,
        _ => stable.min(current),
    };
    let bounded = proposed.min((2 * current).max(current + 4)).clamp(least, most.max(least));
    let again =
        until.map(|until| next_tick(scaler, until)).or((bounded != proposed.clamp(least, most)).then(|| now + PERIOD));
    if bounded == current {
        return Act { batches: vec![status(scaler, (current, bounded), false, now)], again };
    }
    let mut scaled = target.json().clone();
    scaled["spec"]["replicas"] = json!(bounded);
    let write = Write::Replace { object: scaled, subresource: None };
    Act { batches: vec![vec![write], status(scaler, (current, bounded), true, now)], again }
}

fn status(scaler: &Object, (current, desired): (i64, i64), scaled: bool, now: Timestamp) -> Vec<Write> {
    let mut after = scaler.json().clone();
    after["status"]["currentReplicas"] = json!(current);
    after["status"]["desiredReplicas"] = json!(desired);
    if scaled {
        after["status"]["lastScaleTime"] = json!(second(now));
    }
    let (value, reason, message) = if current == 0 {
        ("False", "ScalingDisabled", "scaling is disabled since the replica count of the target is zero")
    } else {
        ("True", "ValidMetricFound", "the HPA was able to successfully calculate a replica count")
    };
    set_condition(
        &mut after,
        json!({
            "type": "ScalingActive", "status": value, "reason": reason, "message": message,
            "lastTransitionTime": transition(scaler, "ScalingActive", value, now),
        }),
    );
    write_status(scaler, after)
}

#[cfg(test)]
mod tests;
