//! A Deployment's status: counts, and the conditions by which `kubectl rollout status` and people know how it goes.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{Rollout, replicas};
use crate::controllers::deployment::revision::REVISION;
use crate::controllers::pods::second;
use crate::engine::Write;

const AVAILABLE: &str = "NewReplicaSetAvailable";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";

fn count(status: &Value, name: &str) -> i64 {
    status[name].as_i64().unwrap_or(0)
}

fn condition<'v>(status: &'v Value, type_: &str) -> Option<&'v Value> {
    status["conditions"].as_array()?.iter().find(|condition| condition["type"] == type_)
}

fn remove(status: &mut Value, type_: &str) {
    if let Some(conditions) = status["conditions"].as_array_mut() {
        conditions.retain(|condition| condition["type"] != type_);
    }
}

impl Rollout<'_> {
    /// Writes the counts.
    pub(super) fn status(&self) -> Vec<Write> {
        self.written(self.counted())
    }

    /// Writes the counts and how the rollout goes.
    pub(super) fn rollout_status(&self) -> Vec<Write> {
        let mut status = self.counted();
        self.put_progress(&mut status);
        let failure =
            self.new.into_iter().chain(self.old.iter().copied()).find_map(|set| set.condition("ReplicaFailure"));
        match failure {
            Some(failure) => {
                let text = |name: &str| failure[name].as_str().unwrap_or_default();
                self.set(&mut status, ["ReplicaFailure", text("status"), text("reason"), text("message")]);
            }
            None => remove(&mut status, "ReplicaFailure"),
        }
        self.written(status)
    }

    fn written(&self, status: Value) -> Vec<Write> {
        let mut after = self.deployment.json().clone();
        after["status"] = status;
        if let Some(revision) = self.shown_revision() {
            after["metadata"]["annotations"][REVISION] = json!(revision);
        }
        self.replaced(after)
    }

    /// Annotations go with the status: written otherwise they would count as a change of the spec.
    fn replaced(&self, after: Value) -> Vec<Write> {
        if after == *self.deployment.json() {
            return Vec::new();
        }
        vec![Write::Replace { object: after, subresource: Some("status") }]
    }

    fn counted(&self) -> Value {
        let sum = |name: &str| self.sets().map(|set| count(set.at("/status"), name)).sum::<i64>();
        let available = sum("availableReplicas");
        let updated = self.new.map_or(0, |new| count(new.at("/status"), "replicas"));
        let mut status = json!({"observedGeneration": self.deployment.generation()});
        for (name, value) in [
            ("replicas", sum("replicas")),
            ("updatedReplicas", updated),
            ("readyReplicas", sum("readyReplicas")),
            ("availableReplicas", available),
            ("unavailableReplicas", (self.sets().map(replicas).sum::<i64>() - available).max(0)),
        ] {
            if value > 0 {
                status[name] = json!(value);
            }
        }
        status["terminatingReplicas"] = json!(sum("terminatingReplicas"));
        for kept in ["collisionCount", "conditions"] {
            if !self.deployment.at("/status")[kept].is_null() {
                status[kept] = self.deployment.at("/status")[kept].clone();
            }
        }
        let enough = available >= self.wanted() - self.slack().1;
        self.set(
            &mut status,
            if enough {
                ["Available", "True", "MinimumReplicasAvailable", "Deployment has minimum availability."]
            } else {
                ["Available", "False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability."]
            },
        );
        status
    }

    /// Sets a condition, unless it has this status for this reason already; its time moves only if its status does.
    fn set(&self, status: &mut Value, [type_, value, reason, message]: [&str; 4]) {
        let there = condition(status, type_);
        if there.is_some_and(|there| there["status"] == value && there["reason"] == reason) {
            return;
        }
        let now = json!(second(self.now));
        let since = there
            .filter(|there| there["status"] == value)
            .map_or_else(|| now.clone(), |there| there["lastTransitionTime"].clone());
        let condition = json!({
            "type": type_, "status": value, "reason": reason, "message": message,
            "lastUpdateTime": now, "lastTransitionTime": since,
        });
        remove(status, type_);
        match status["conditions"].as_array_mut() {
            Some(conditions) => conditions.push(condition),
            None => status["conditions"] = json!([condition]),
        }
    }

    fn progress_deadline(&self) -> Option<i64> {
        // The largest number there is stands for none.
        Some(self.deployment.number("/spec/progressDeadlineSeconds").unwrap_or(600))
            .filter(|seconds| *seconds < i64::from(i32::MAX))
    }

    fn put_progress(&self, status: &mut Value) {
        if self.progress_deadline().is_none() {
            return remove(status, "Progressing");
        }
        let was = self.deployment.condition("Progressing");
        let complete = was.is_some_and(|was| was["reason"] == AVAILABLE);
        if complete && count(status, "replicas") == count(status, "updatedReplicas") {
            return;
        }
        let what = self.new.map_or_else(
            || format!("Deployment {:?}", self.deployment.name()),
            |new| format!("ReplicaSet {:?}", new.name()),
        );
        if self.is_complete(status) {
            self.set(status, ["Progressing", "True", AVAILABLE, &format!("{what} has successfully progressed.")]);
        } else if self.has_progressed(status) {
            let since = was.filter(|was| was["status"] == "True").map(|was| was["lastTransitionTime"].clone());
            remove(status, "Progressing");
            self.set(status, ["Progressing", "True", "ReplicaSetUpdated", &format!("{what} is progressing.")]);
            let conditions = status["conditions"].as_array_mut();
            if let (Some(since), Some(last)) = (since, conditions.and_then(|conditions| conditions.last_mut())) {
                last["lastTransitionTime"] = since;
            }
        } else if was.is_none() {
            if let Some(new) = self.new {
                let message = format!("Found new replica set {:?}", new.name());
                self.set(status, ["Progressing", "True", "FoundNewReplicaSet", &message]);
            }
        } else if self.deadline().is_some_and(|deadline| deadline <= self.now) {
            self.set(status, ["Progressing", "False", TIMED_OUT, &format!("{what} has timed out progressing.")]);
        }
    }

    /// Whether a status says that the rollout is over.
    pub(super) fn is_complete(&self, status: &Value) -> bool {
        let all = ["updatedReplicas", "replicas", "availableReplicas"];
        let seen = count(status, "observedGeneration") >= self.deployment.generation();
        seen && all.iter().all(|name| count(status, name) == self.wanted())
    }

    fn has_progressed(&self, status: &Value) -> bool {
        let was = self.deployment.at("/status");
        let old = |status: &Value| count(status, "replicas") - count(status, "updatedReplicas");
        let more = |name: &str| count(status, name) > count(was, name);
        more("updatedReplicas") || more("readyReplicas") || more("availableReplicas") || old(status) < old(was)
    }

    /// When a rollout that makes no progress counts as failed.
    pub(super) fn deadline(&self) -> Option<Timestamp> {
        let progressing = self.deployment.condition("Progressing")?;
        if progressing["reason"] == AVAILABLE || progressing["reason"] == TIMED_OUT {
            return None;
        }
        let since: Timestamp = progressing["lastUpdateTime"].as_str()?.parse().ok()?;
        // Times have whole seconds: only one later is the deadline surely over.
        since.checked_add(SignedDuration::from_secs(self.progress_deadline()? + 1)).ok()
    }

    /// The status that says that a ReplicaSet was made.
    pub(super) fn announced(&self, name: &str) -> Vec<Write> {
        let mut after = self.deployment.json().clone();
        after["metadata"]["annotations"][REVISION] = json!(self.coming_revision());
        if self.progress_deadline().is_some() {
            let message = format!("Created new replica set {name:?}");
            self.put(&mut after, ["Progressing", "True", "NewReplicaSetCreated", &message]);
        }
        self.replaced(after)
    }

    /// The status that says that none could be made.
    pub(super) fn not_created(&self, why: &str) -> Vec<Write> {
        let mut after = self.deployment.json().clone();
        if self.progress_deadline().is_some() {
            let message = format!("Failed to create new replica set: {why}");
            self.put(&mut after, ["Progressing", "False", "ReplicaSetCreateError", &message]);
        }
        self.replaced(after)
    }

    /// The status that says that the Deployment was paused or goes on.
    pub(super) fn pausing(&self) -> Option<Write> {
        self.progress_deadline()?;
        let reason = self.deployment.condition("Progressing").and_then(|condition| condition["reason"].as_str());
        let was = reason == Some("DeploymentPaused");
        if reason == Some(TIMED_OUT) || was == self.is_paused() {
            return None;
        }
        let [reason, message] = if self.is_paused() {
            ["DeploymentPaused", "Deployment is paused"]
        } else {
            ["DeploymentResumed", "Deployment is resumed"]
        };
        let mut after = self.deployment.json().clone();
        self.put(&mut after, ["Progressing", "Unknown", reason, message]);
        self.replaced(after).pop()
    }

    fn put(&self, object: &mut Value, condition: [&str; 4]) {
        let mut status = object["status"].take();
        if !status.is_object() {
            status = json!({});
        }
        self.set(&mut status, condition);
        object["status"] = status;
    }
}
