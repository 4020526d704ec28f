//! The states of a pod's containers. All containers of a pod do the same at the same time.
//!
//! It only reads and writes `containerStatuses`; when which state comes is the kubelet's.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::controllers::pods::second;
use crate::object::Object;

/// The longest wait before a crashed container starts again.
const LONGEST_PAUSE: SignedDuration = SignedDuration::from_secs(300);

/// `status.containerStatuses` of a pod.
pub(super) struct Containers(Vec<Value>);

impl Containers {
    /// Of a pod that has none yet.
    pub(super) fn new(pod: &Object) -> Self {
        let containers = pod.list("/spec/containers").iter().map(|container| {
            json!({
                "name": container["name"], "image": container["image"], "imageID": "", "ready": false, "started": false,
                "restartCount": 0, "state": {}, "lastState": {},
            })
        });
        Self(containers.collect())
    }

    /// As they are.
    pub(super) fn of(pod: &Object) -> Self {
        match pod.list("/status/containerStatuses") {
            [] => Self::new(pod),
            statuses => Self(statuses.to_vec()),
        }
    }

    pub(super) fn into_json(self) -> Value {
        Value::Array(self.0)
    }

    fn each(mut self, change: impl Fn(&mut Value)) -> Self {
        self.0.iter_mut().for_each(change);
        self
    }

    pub(super) fn waiting(self, reason: &str) -> Self {
        self.each(|container| container["state"] = json!({"waiting": {"reason": reason}}))
    }

    pub(super) fn ready(self, ready: bool) -> Self {
        self.each(|container| container["ready"] = json!(ready))
    }

    /// They start, for the first time or again. Times in a status have whole seconds, so the exact one is in the ID.
    pub(super) fn started(self, pod: &Object, now: Timestamp, ready: bool) -> Self {
        self.each(|container| {
            let name = container["name"].as_str().unwrap_or_default();
            let id = format!("embedded://{}/{name}/{}", pod.uid(), now.as_millisecond());
            if let Some(terminated) = container["state"].get("terminated").cloned() {
                container["lastState"] = json!({"terminated": terminated});
            }
            if !container["lastState"]["terminated"].is_null() {
                container["restartCount"] = json!(container["restartCount"].as_i64().unwrap_or(0) + 1);
            }
            container["containerID"] = json!(id);
            container["state"] = json!({"running": {"startedAt": second(now)}});
            container["started"] = json!(true);
            container["ready"] = json!(ready);
        })
    }

    /// Since when they run; `None` while they do not.
    pub(super) fn since(&self) -> Option<Timestamp> {
        let first = self.0.first()?;
        let started = first["state"]["running"]["startedAt"].as_str()?;
        let exact = first["containerID"].as_str().and_then(|id| id.rsplit('/').next()?.parse().ok());
        exact.and_then(|exact| Timestamp::from_millisecond(exact).ok()).or_else(|| started.parse().ok())
    }

    /// When they crashed last.
    pub(super) fn crashed(&self) -> Option<Timestamp> {
        let first = self.0.first()?;
        let states = [&first["state"]["terminated"], &first["lastState"]["terminated"]];
        states.into_iter().find_map(|state| state["finishedAt"].as_str())?.parse().ok()
    }

    fn restarts(&self) -> i64 {
        self.0.first().and_then(|first| first["restartCount"].as_i64()).unwrap_or(0)
    }

    /// How long after a crash they start again: at once the first time, then 10 seconds and twice as long each time.
    pub(super) fn pause(&self) -> SignedDuration {
        match u32::try_from(self.restarts()) {
            Ok(0) | Err(_) => SignedDuration::from_secs(1),
            Ok(times) => SignedDuration::from_secs(10 << (times - 1).min(8)).min(LONGEST_PAUSE),
        }
    }

    /// They crash.
    pub(super) fn crash(self, now: Timestamp) -> Self {
        let again = self.restarts() > 0;
        let crashed = self.ended(1, now);
        if !again {
            return crashed;
        }
        crashed.each(|container| {
            container["lastState"] = container["state"].take();
            container["state"] = json!({"waiting": {"reason": "CrashLoopBackOff"}});
        })
    }

    /// They end with this exit code, those that run.
    pub(super) fn ended(self, code: i32, now: Timestamp) -> Self {
        let reason = if code == 0 { "Completed" } else { "Error" };
        self.each(|container| {
            container["ready"] = json!(false);
            container["started"] = json!(false);
            let since = container["state"]["running"]["startedAt"].clone();
            if since.is_null() {
                return;
            }
            container["state"] = json!({"terminated": {
                "exitCode": code, "reason": reason, "startedAt": since, "finishedAt": second(now),
                "containerID": container["containerID"],
            }});
        })
    }
}
