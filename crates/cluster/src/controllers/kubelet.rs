//! What kubelets do: pods that were bound start, become ready, crash and end; nodes report that they are ready.
//!
//! A kubelet whose node is gone or not ready does nothing. Images, probes, volumes and init containers do not exist here:
//! times stand for all of them, by default or by annotations of the pod. How pods of jobs end is no business of this.

mod containers;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use self::containers::Containers;
use super::pods::{is_over, second, set_condition, transition, write_status};
use crate::api::discovery::RELEASE;
use crate::engine::{Act, Controller, Write};
use crate::object::Object;
use crate::resource::Kind;
use crate::store::{Change, Key, Store};

/// On a pod: from running to ready, as `5s`.
pub const READY_AFTER: &str = "embedded-cluster/ready-after";
/// On a pod: how long after each start its containers crash, as `1s`.
pub const CRASH_AFTER: &str = "embedded-cluster/crash-after";

/// How long things take where a pod does not say so itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// From being bound to running, at least.
    pub start: SignedDuration,
    /// The longest that is added to that, another for each pod.
    pub start_spread: SignedDuration,
    /// From running to ready; a pod says [`READY_AFTER`].
    pub ready: SignedDuration,
    /// From deletion to the end, if the grace is not over before; a pod says `embedded-cluster/terminated-after`.
    pub end: SignedDuration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            start: SignedDuration::from_secs(1),
            start_spread: SignedDuration::from_secs(2),
            ready: SignedDuration::ZERO,
            end: SignedDuration::from_secs(2),
        }
    }
}

/// All kubelets.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kubelets {
    /// How long things take.
    pub timing: Timing,
}

/// Whether a node can run something.
pub fn is_up(node: &Object) -> bool {
    node.has_condition("Ready")
}

impl Controller for Kubelets {
    fn name(&self) -> &'static str {
        "kubelet"
    }

    fn touched(&self, store: &Store, change: &Change) -> Vec<Key> {
        match (change.key.kind, &change.after) {
            (Kind::Pod, Some(pod)) if !pod.node().is_empty() => vec![change.key.clone()],
            (Kind::Node, Some(node)) => {
                let was_up = change.before.as_ref().is_some_and(|node| is_up(node));
                let pods = store.pods_on(node.name()).map(|(key, _)| key).filter(|_| is_up(node) && !was_up);
                std::iter::once(&change.key).chain(pods).cloned().collect()
            }
            _ => Vec::new(),
        }
    }

    fn look(&self, store: &Store, key: &Key, now: Timestamp) -> Act {
        let Some(object) = store.get(key) else { return Act::none() };
        if key.kind == Kind::Node {
            return Act::now(registered(object, now));
        }
        let Some(node) = store.get(&Key::new(Kind::Node, "", object.node())).filter(|node| is_up(node)) else {
            return Act::none();
        };
        Runner { pod: object, node, timing: self.timing, now }.step(key)
    }
}

/// What a kubelet tells of the machine that it is on, as `status.nodeInfo`.
pub fn info() -> Value {
    json!({
        "architecture": "amd64", "operatingSystem": "linux", "osImage": "embedded", "kernelVersion": "embedded",
        "containerRuntimeVersion": "embedded://1", "kubeletVersion": RELEASE,
    })
}

/// A node that does not say whether it is ready is new, and is.
fn registered(node: &Object, now: Timestamp) -> Vec<Write> {
    if node.condition("Ready").is_some() || node.deletion().is_some() {
        return Vec::new();
    }
    let mut after = node.json().clone();
    for (type_, status, reason, message) in [
        ("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        ("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        ("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        ("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
    ] {
        set_condition(
            &mut after,
            json!({
                "type": type_, "status": status, "reason": reason, "message": message,
                "lastHeartbeatTime": second(now), "lastTransitionTime": second(now),
            }),
        );
    }
    let mut capacity = node.at("/status/capacity").clone();
    if capacity["pods"].is_null() {
        capacity["pods"] = json!("110");
    }
    let mut allocatable = node.at("/status/allocatable").clone();
    for (resource, amount) in capacity.as_object().into_iter().flatten() {
        if allocatable[resource].is_null() {
            allocatable[resource] = amount.clone();
        }
    }
    after["status"]["capacity"] = capacity;
    after["status"]["allocatable"] = allocatable;
    if node.text("/status/nodeInfo/kubeletVersion").is_none_or(str::is_empty) {
        after["status"]["nodeInfo"] = info();
    }
    write_status(node, after)
}

/// A pod on a node that is up.
struct Runner<'s> {
    pod: &'s Object,
    node: &'s Object,
    timing: Timing,
    now: Timestamp,
}

impl Runner<'_> {
    fn step(&self, key: &Key) -> Act {
        if let Some(deletion) = self.pod.deletion() {
            return self.end(key, deletion);
        }
        if is_over(self.pod) {
            return Act::none();
        }
        let Some(accepted) = self.pod.time("/status/startTime") else { return self.write(self.accepted()) };
        if self.pod.text("/status/phase") != Some("Running") {
            let due = accepted + self.timing.start + self.spread();
            return if due <= self.now { self.write(self.running()) } else { Act::at(Some(due)) };
        }
        self.run(accepted)
    }

    fn write(&self, status: Value) -> Act {
        Act::now(write_status(self.pod, status))
    }

    /// What the pod says about itself, as a duration.
    fn said(&self, key: &str) -> Option<SignedDuration> {
        self.pod.annotation(key)?.parse().ok()
    }

    /// This pod's part of the spread of start times.
    fn spread(&self) -> SignedDuration {
        let number =
            self.pod.uid().bytes().fold(7_u32, |number, byte| number.wrapping_mul(31).wrapping_add(u32::from(byte)));
        let millis = self.timing.start_spread.as_millis() * i128::from(number % 1000) / 1000;
        SignedDuration::from_millis(i64::try_from(millis).unwrap_or(0))
    }

    fn ready_after(&self) -> SignedDuration {
        self.said(READY_AFTER).unwrap_or(self.timing.ready)
    }

    fn accepted(&self) -> Value {
        let mut after = self.pod.json().clone();
        after["status"]["phase"] = json!("Pending");
        after["status"]["startTime"] = json!(second(self.now));
        if let Some(address) = self.host() {
            after["status"]["hostIP"] = json!(address);
            after["status"]["hostIPs"] = json!([{"ip": address}]);
        }
        after["status"]["containerStatuses"] = Containers::new(self.pod).waiting("ContainerCreating").into_json();
        self.put_condition(&mut after, "Initialized", None);
        self.put_readiness(&mut after, false);
        after
    }

    fn host(&self) -> Option<&str> {
        let addresses = self.node.list("/status/addresses");
        addresses.iter().find(|address| address["type"] == "InternalIP")?["address"].as_str()
    }

    fn running(&self) -> Value {
        let mut after = self.pod.json().clone();
        // A revision is given to one write only, so no two pods have the same address.
        let [_, _, _, _, _, b, c, d] = self.pod.revision().to_be_bytes();
        let address = format!("10.{b}.{c}.{d}");
        after["status"]["phase"] = json!("Running");
        after["status"]["podIP"] = json!(address);
        after["status"]["podIPs"] = json!([{"ip": address}]);
        self.started(after)
    }

    /// The containers run from now on.
    fn started(&self, mut after: Value) -> Value {
        let ready = self.ready_after().is_zero();
        after["status"]["containerStatuses"] = Containers::of(self.pod).started(self.pod, self.now, ready).into_json();
        self.put_readiness(&mut after, ready);
        after
    }

    /// Running containers become ready or crash, crashed ones start again.
    fn run(&self, accepted: Timestamp) -> Act {
        let containers = Containers::of(self.pod);
        let Some(started) = containers.since() else {
            let due = containers.crashed().unwrap_or(self.now) + containers.pause();
            return if due <= self.now {
                self.write(self.started(self.pod.json().clone()))
            } else {
                Act::at(Some(due))
            };
        };
        let healthy_from = self.said("embedded-cluster/recover-after").map(|time| accepted + time);
        let crash = self.said(CRASH_AFTER).map(|time| started + time);
        let crash = crash.filter(|crash| healthy_from.is_none_or(|from| *crash < from));
        if crash.is_some_and(|crash| crash <= self.now) {
            let mut after = self.pod.json().clone();
            after["status"]["containerStatuses"] = containers.crash(self.now).into_json();
            self.put_readiness(&mut after, false);
            return self.write(after);
        }
        let ready = started + self.ready_after();
        if ready > self.now {
            return Act::at(Some(crash.map_or(ready, |crash| ready.min(crash))));
        }
        let mut after = self.pod.json().clone();
        after["status"]["containerStatuses"] = containers.ready(true).into_json();
        self.put_readiness(&mut after, true);
        Act { batches: vec![write_status(self.pod, after)], again: crash }
    }

    /// Ends a pod that is being deleted: when its containers ended by themselves or at the end of their grace.
    fn end(&self, key: &Key, deletion: Timestamp) -> Act {
        let grace = SignedDuration::from_secs(self.pod.number("/metadata/deletionGracePeriodSeconds").unwrap_or(0));
        let wanted = self.said("embedded-cluster/terminated-after").unwrap_or(self.timing.end);
        let due = deletion - grace + wanted.min(grace);
        if due > self.now {
            return Act::at(Some(due));
        }
        if grace.is_zero() && !self.pod.list("/metadata/finalizers").is_empty() {
            return Act::none();
        }
        let gone = Write::Delete { key: key.clone(), uid: self.pod.uid().to_owned(), grace: Some(0) };
        let mut batches = Vec::new();
        if self.pod.text("/status/phase") == Some("Running") {
            batches.push(write_status(self.pod, self.over(wanted > grace)));
        }
        batches.push(vec![gone]);
        Act { batches, again: None }
    }

    fn over(&self, killed: bool) -> Value {
        let mut after = self.pod.json().clone();
        after["status"]["phase"] = json!(if killed { "Failed" } else { "Succeeded" });
        let code = if killed { 137 } else { 0 };
        after["status"]["containerStatuses"] = Containers::of(self.pod).ended(code, self.now).into_json();
        let reason = if killed { "PodFailed" } else { "PodCompleted" };
        for type_ in ["Ready", "ContainersReady"] {
            self.put_condition(&mut after, type_, Some((reason, String::new())));
        }
        after
    }

    fn put_readiness(&self, after: &mut Value, ready: bool) {
        let names: Vec<&str> = self.pod.list("/spec/containers").iter().filter_map(|it| it["name"].as_str()).collect();
        let unready = || ("ContainersNotReady", format!("containers with unready status: [{}]", names.join(" ")));
        let mut gates = self.pod.list("/spec/readinessGates").iter().filter_map(|gate| gate["conditionType"].as_str());
        let closed = gates.find(|gate| !self.pod.has_condition(gate));
        let held = closed.map(|gate| {
            ("ReadinessGatesNotReady", format!("the status of pod readiness gate {gate:?} is not \"True\", but False"))
        });
        self.put_condition(after, "Ready", if ready { held } else { Some(unready()) });
        self.put_condition(after, "ContainersReady", (!ready).then(unready));
    }

    /// Sets a condition: to False for a reason, or to True without one.
    fn put_condition(&self, after: &mut Value, type_: &str, because: Option<(&str, String)>) {
        let status = if because.is_some() { "False" } else { "True" };
        let since = transition(self.pod, type_, status, self.now);
        let mut condition =
            json!({"type": type_, "status": status, "lastProbeTime": null, "lastTransitionTime": since});
        if let Some((reason, message)) = because {
            condition["reason"] = json!(reason);
            if !message.is_empty() {
                condition["message"] = json!(message);
            }
        }
        set_condition(after, condition);
    }
}

#[cfg(test)]
mod tests;
