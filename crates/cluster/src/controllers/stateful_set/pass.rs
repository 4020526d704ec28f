//! One pass over the pods of a set: what is missing is made, what is too much goes, and then what is of an old revision.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::revisions::{REVISION, Revisions, template};
use super::{Member, min_ready_seconds, ordinals};
use crate::controllers::pods::{delete, from_template, is_available, is_over, is_ready};
use crate::engine::{Write, slow_start};
use crate::object::Object;

/// Whether a pod does its work.
pub(super) fn is_running(pod: &Object) -> bool {
    pod.text("/status/phase") == Some("Running") && is_ready(pod)
}

fn is_healthy(pod: &Object) -> bool {
    is_running(pod) && pod.deletion().is_none()
}

/// The writes of one pass.
pub(super) fn pass(set: &Object, revisions: &Revisions<'_>, pods: &[Member<'_>], now: Timestamp) -> Vec<Vec<Write>> {
    let pass = Pass {
        set,
        revisions,
        now,
        ordered: set.text("/spec/podManagementPolicy") != Some("Parallel"),
        members: pods.iter().map(|pod| (pod.ordinal, pod)).collect(),
    };
    for step in [pass.fill(), pass.shrink()] {
        match step {
            Step::Write(batches) => return batches,
            Step::Wait => return Vec::new(),
            Step::Done => {}
        }
    }
    vec![pass.update()]
}

struct Pass<'s> {
    set: &'s Object,
    revisions: &'s Revisions<'s>,
    now: Timestamp,
    ordered: bool,
    members: BTreeMap<i64, &'s Member<'s>>,
}

enum Step {
    Write(Vec<Vec<Write>>),
    /// Nothing more can be done before something changes.
    Wait,
    Done,
}

impl Pass<'_> {
    /// Makes the pods that are missing. In order, each waits until those before it are available.
    fn fill(&self) -> Step {
        let mut writes = Vec::new();
        let mut waits = false;
        for ordinal in ordinals(self.set) {
            let write = match self.members.get(&ordinal) {
                None => Some(Write::Create(self.pod(ordinal))),
                Some(pod) if is_over(pod.object) && pod.object.deletion().is_none() => {
                    Some(delete(pod.key, pod.object))
                }
                Some(pod) => {
                    waits |= is_over(pod.object) || self.ordered && !self.is_settled(pod.object);
                    None
                }
            };
            writes.extend(write);
            if self.ordered && (waits || !writes.is_empty()) {
                break;
            }
        }
        match (writes.is_empty(), waits) {
            (false, _) => Step::Write(slow_start(writes)),
            (true, true) => Step::Wait,
            (true, false) => Step::Done,
        }
    }

    fn is_settled(&self, pod: &Object) -> bool {
        is_healthy(pod) && is_available(pod, min_ready_seconds(self.set), self.now)
    }

    /// Takes the pods away that are too many. In order, the highest goes first, and one that is not available keeps those
    /// below it.
    fn shrink(&self) -> Step {
        let range = ordinals(self.set);
        let surplus: Vec<&&Member<'_>> =
            self.members.values().rev().filter(|pod| !range.contains(&pod.ordinal)).collect();
        let unavailable = |pod: &&&&Member<'_>| !self.is_settled(pod.object);
        // All that are to stay are available by now if there is an order, so the first that is not is among these.
        let first = surplus.iter().rev().find(unavailable).map(|pod| pod.ordinal);
        let mut writes = Vec::new();
        for pod in &surplus {
            let going = pod.object.deletion().is_some();
            let blocked = going || !self.is_settled(pod.object) && first != Some(pod.ordinal);
            if self.ordered && blocked {
                return Step::Wait;
            }
            if !going {
                writes.push(delete(pod.key, pod.object));
            }
            if self.ordered {
                break;
            }
        }
        if writes.is_empty() { Step::Done } else { Step::Write(vec![writes]) }
    }

    /// Takes the highest pod of an old revision away, unless one above it is not available yet.
    fn update(&self) -> Vec<Write> {
        if self.set.text("/spec/updateStrategy/type") == Some("OnDelete") {
            return Vec::new();
        }
        let range = ordinals(self.set);
        for ordinal in (range.start + self.partition().max(0)..range.end).rev() {
            let Some(pod) = self.members.get(&ordinal) else { return Vec::new() };
            let old = pod.object.label(REVISION) != Some(self.revisions.update.name());
            if old && pod.object.deletion().is_none() {
                return vec![delete(pod.key, pod.object)];
            }
            if !self.is_settled(pod.object) {
                return Vec::new();
            }
        }
        Vec::new()
    }

    fn partition(&self) -> i64 {
        self.set.number("/spec/updateStrategy/rollingUpdate/partition").unwrap_or(0)
    }

    /// The pod with a number: of the old revision below the partition, else of the new one.
    fn pod(&self, ordinal: i64) -> Value {
        let old = ordinal < ordinals(self.set).start + self.partition();
        let revision = if old { self.revisions.current } else { self.revisions.update };
        let mut pod = from_template(&template(revision), self.set);
        let name = format!("{}-{ordinal}", self.set.name());
        for (label, value) in [
            ("statefulset.kubernetes.io/pod-name", name.as_str()),
            ("apps.kubernetes.io/pod-index", &ordinal.to_string()),
            (REVISION, revision.name()),
        ] {
            pod["metadata"]["labels"][label] = json!(value);
        }
        pod["metadata"]["name"] = json!(name);
        pod["spec"]["hostname"] = json!(name);
        if let Some(service) = self.set.text("/spec/serviceName").filter(|service| !service.is_empty()) {
            pod["spec"]["subdomain"] = json!(service);
        }
        let claims = self.set.at("/spec/volumeClaimTemplates").as_array().map_or(&[][..], Vec::as_slice);
        if !claims.is_empty() {
            pod["spec"]["volumes"] = volumes(claims, &pod["spec"]["volumes"], &name);
        }
        pod
    }
}

/// The volumes of a pod: one for each claim, and those of the template that are not called as one of them.
fn volumes(claims: &[Value], own: &Value, pod: &str) -> Value {
    let names: Vec<&str> = claims.iter().filter_map(|claim| claim["metadata"]["name"].as_str()).collect();
    let claimed = names.iter().map(|name| {
        let claim = format!("{name}-{pod}");
        json!({"name": name, "persistentVolumeClaim": {"claimName": claim}})
    });
    let is_claimed = |volume: &&Value| volume["name"].as_str().is_some_and(|name| names.contains(&name));
    let others = own.as_array().into_iter().flatten().filter(|volume| !is_claimed(volume)).cloned();
    claimed.chain(others).collect()
}
