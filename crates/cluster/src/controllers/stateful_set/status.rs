//! A StatefulSet's status: how many pods there are, and of which revision.

use jiff::Timestamp;
use serde_json::json;

use super::pass::is_running;
use super::revisions::{REVISION, Revisions};
use super::{Member, min_ready_seconds};
use crate::controllers::pods::{is_available, write_status};
use crate::engine::Write;
use crate::object::Object;

/// Writes it, if it is another than it was.
pub(super) fn write(set: &Object, revisions: &Revisions<'_>, pods: &[Member<'_>], now: Timestamp) -> Vec<Write> {
    let count = |test: &dyn Fn(&Object) -> bool| pods.iter().filter(|pod| test(pod.object)).count();
    let of = |revision: &Object| count(&|pod| pod.deletion().is_none() && pod.label(REVISION) == Some(revision.name()));
    let replicas = pods.len();
    let ready = count(&is_running);
    let available = count(&|pod| is_running(pod) && is_available(pod, min_ready_seconds(set), now));
    let updated = of(revisions.update);
    let (mut current, mut name) = (of(revisions.current), revisions.current.name());
    let wanted = set.number("/spec/replicas").and_then(|number| usize::try_from(number).ok()).unwrap_or(1);
    let rolling = set.text("/spec/updateStrategy/type") != Some("OnDelete");
    if rolling && [updated, ready, replicas].iter().all(|count| *count == wanted) {
        (current, name) = (updated, revisions.update.name());
    }
    let mut status = json!({
        "observedGeneration": set.generation(),
        "replicas": replicas,
        "availableReplicas": available,
        "currentRevision": name,
        "updateRevision": revisions.update.name(),
        "collisionCount": 0,
    });
    for (name, count) in [("readyReplicas", ready), ("currentReplicas", current), ("updatedReplicas", updated)] {
        if count > 0 {
            status[name] = json!(count);
        }
    }
    if !set.at("/status/conditions").is_null() {
        status["conditions"] = set.at("/status/conditions").clone();
    }
    let mut after = set.json().clone();
    after["status"] = status;
    write_status(set, after)
}
