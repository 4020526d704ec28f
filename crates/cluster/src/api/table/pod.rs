//! A pod in a row: how many of its containers are ready, how it stands in one word, how often it was started anew.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::age::since;
use crate::object::Object;

/// What is shown of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Summary {
    /// `1/2`
    pub ready: String,
    /// `Running`, `CrashLoopBackOff`, `Init:0/1`, `Terminating`, …
    pub status: String,
    /// `3 (5m ago)`
    pub restarts: String,
}

/// Restarts, and when the last one was.
#[derive(Clone, Copy, Default)]
struct Restarts {
    count: i64,
    last: Option<Timestamp>,
}

impl Restarts {
    fn add(&mut self, container: &Value) {
        self.count += container["restartCount"].as_i64().unwrap_or(0);
        let ended = container["lastState"]["terminated"]["finishedAt"].as_str().and_then(|time| time.parse().ok());
        self.last = self.last.max(ended);
    }

    fn shown(self, now: Timestamp) -> String {
        match self.last {
            Some(last) if self.count != 0 => format!("{} ({} ago)", self.count, since(Some(last), now)),
            _ => self.count.to_string(),
        }
    }
}

/// An init container that stays.
fn is_sidecar(container: &Value) -> bool {
    container["restartPolicy"] == "Always"
}

/// Why a container ended, if it says so.
fn ending(terminated: &Value) -> String {
    let number = |field: &str| terminated[field].as_i64().unwrap_or(0);
    match terminated["reason"].as_str().unwrap_or_default() {
        "" if number("signal") != 0 => format!("Signal:{}", number("signal")),
        "" => format!("ExitCode:{}", number("exitCode")),
        reason => reason.to_owned(),
    }
}

/// How the containers stand that come first.
#[derive(Default)]
struct Beginning {
    ready: usize,
    /// What holds the others up.
    held_by: Option<String>,
    restarts: Restarts,
    of_sidecars: Restarts,
}

fn beginning(pod: &Object) -> Beginning {
    let specs = pod.list("/spec/initContainers");
    let mut found = Beginning::default();
    for (index, container) in pod.list("/status/initContainerStatuses").iter().enumerate() {
        let is_sidecar = specs.iter().any(|spec| spec["name"] == container["name"] && is_sidecar(spec));
        found.restarts.add(container);
        if is_sidecar {
            found.of_sidecars.add(container);
        }
        let (terminated, waiting) = (&container["state"]["terminated"], &container["state"]["waiting"]["reason"]);
        if terminated.is_object() && terminated["exitCode"].as_i64().unwrap_or(0) == 0 {
            continue;
        }
        if is_sidecar && container["started"] == true {
            found.ready += usize::from(container["ready"] == true);
            continue;
        }
        let why = match waiting.as_str() {
            _ if terminated.is_object() => ending(terminated),
            Some(reason) if !matches!(reason, "" | "PodInitializing") => reason.to_owned(),
            _ => format!("{index}/{}", specs.len()),
        };
        found.held_by = Some(format!("Init:{why}"));
        break;
    }
    found
}

pub(super) fn summary(pod: &Object, now: Timestamp) -> Summary {
    let phase = pod.text("/status/phase").unwrap_or_default();
    let mut status = pod.text("/status/reason").filter(|reason| !reason.is_empty()).unwrap_or(phase).to_owned();
    let gated = "SchedulingGated";
    if pod.condition("PodScheduled").is_some_and(|condition| condition["reason"] == gated) {
        gated.clone_into(&mut status);
    }
    let sidecars = pod.list("/spec/initContainers").iter().filter(|spec| is_sidecar(spec)).count();
    let total = pod.list("/spec/containers").len() + sidecars;
    let Beginning { mut ready, held_by, mut restarts, of_sidecars } = beginning(pod);
    let is_held = held_by.is_some();
    status = held_by.unwrap_or(status);
    if !is_held || pod.has_condition("Initialized") {
        restarts = of_sidecars;
        let (mut is_running, mut error) = (false, None);
        for container in pod.list("/status/containerStatuses").iter().rev() {
            restarts.add(container);
            let state = &container["state"];
            match state["waiting"]["reason"].as_str() {
                Some(reason) if !reason.is_empty() => reason.clone_into(&mut status),
                _ if state["terminated"].is_object() => {
                    status = ending(&state["terminated"]);
                    if state["terminated"]["exitCode"].as_i64().unwrap_or(0) != 0 {
                        error = Some(status.clone());
                    }
                }
                _ if container["ready"] == true && state["running"].is_object() => {
                    is_running = true;
                    ready += 1;
                }
                _ => {}
            }
        }
        // One that is done does not speak for those that are not.
        if status == "Completed" {
            status = match error {
                _ if is_running && pod.has_condition("Ready") => "Running".to_owned(),
                Some(error) => error,
                None if is_running => "NotReady".to_owned(),
                None => status,
            };
        }
    }
    if pod.deletion().is_some() {
        if pod.text("/status/reason") == Some("NodeLost") {
            "Unknown".clone_into(&mut status);
        } else if !matches!(phase, "Succeeded" | "Failed") {
            "Terminating".clone_into(&mut status);
        }
    }
    Summary { ready: format!("{ready}/{total}"), status, restarts: restarts.shown(now) }
}

/// How many of the conditions that readiness waits for are true.
pub(super) fn readiness_gates(pod: &Object) -> String {
    let gates = pod.list("/spec/readinessGates");
    if gates.is_empty() {
        return "<none>".to_owned();
    }
    let is_true = |gate: &&Value| gate["conditionType"].as_str().is_some_and(|type_| pod.has_condition(type_));
    format!("{}/{}", gates.iter().filter(is_true).count(), gates.len())
}

/// A pod that is done is marked as such, so that it can be left out.
pub(super) fn row_conditions(object: &Object) -> Option<Value> {
    let message = match object.text("/status/phase")? {
        "Succeeded" => "The pod has completed successfully.",
        "Failed" => "The pod failed.",
        _ => return None,
    };
    Some(json!([
        {"type": "Completed", "status": "True", "reason": object.at("/status/phase"), "message": message},
    ]))
}
