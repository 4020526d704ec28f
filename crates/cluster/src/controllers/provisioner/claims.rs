//! The life of a NodeClaim: after a while its node is there, a little later that is ready; and when the node is empty for
//! long enough, or gone, the claim goes.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::offering::{ALLOCATABLE, is_available};
use super::{NODE_POOL, TERMINATION};
use crate::controllers::kubelet::info;
use crate::controllers::pods::{
    controller_reference, delete, is_over, second, set_condition, write_object, write_status,
};
use crate::engine::{Act, Controller, Write};
use crate::object::Object;
use crate::resource::Kind;
use crate::store::{Change, Key, Store};

/// On a NodePool: from the claim to the node.
pub const LAUNCH_AFTER: &str = "embedded-cluster/launch-after";
/// On a NodePool: from the node to its being ready.
pub const READY_AFTER: &str = "embedded-cluster/ready-after";
const LAUNCH: SignedDuration = SignedDuration::from_secs(30);
const READY: SignedDuration = SignedDuration::from_secs(5);
/// An empty node is left alone for at least so long, for its pods may be on the way.
const GRACE: SignedDuration = SignedDuration::from_secs(20);

/// The controller of `NodeClaim` objects.
#[derive(Clone, Copy, Debug)]
pub struct NodeClaims;

impl Controller for NodeClaims {
    fn name(&self) -> &'static str {
        "nodeclaim"
    }

    fn touched(&self, store: &Store, change: &Change) -> Vec<Key> {
        match change.key.kind {
            Kind::NodeClaim => vec![change.key.clone()],
            Kind::NodePool => {
                let own = |claim: &&Arc<Object>| claim.label(NODE_POOL) == Some(&*change.key.name);
                store.list(Kind::NodeClaim, None).filter(own).map(|claim| claim_key(claim.name())).collect()
            }
            Kind::Node => {
                [&change.before, &change.after].into_iter().flatten().filter_map(|node| claim_of(node)).collect()
            }
            // Only that it came or went matters.
            Kind::Pod if counts(change.before.as_deref()) != counts(change.after.as_deref()) => {
                let nodes = [&change.before, &change.after]
                    .into_iter()
                    .flatten()
                    .map(|pod| Key::new(Kind::Node, "", pod.node()));
                nodes.filter_map(|node| store.get(&node)).filter_map(|node| claim_of(node)).collect()
            }
            _ => Vec::new(),
        }
    }

    fn look(&self, store: &Store, key: &Key, now: Timestamp) -> Act {
        let Some(claim) = store.get(key) else { return Act::none() };
        let life = Life { store, key, claim, node: store.get(&node_of(claim)), now };
        match (claim.deletion().is_some(), life.node) {
            (true, node) => life.end(node),
            (false, None) if is_launched(claim) => Act::now(vec![delete(key, claim)]),
            (false, None) => life.launch(),
            (false, Some(node)) if !claim.has_condition("Initialized") => life.initialize(node),
            (false, Some(node)) => life.idle(node),
        }
    }
}

fn claim_key(name: &str) -> Key {
    Key::new(Kind::NodeClaim, "", name)
}

fn claim_of(node: &Object) -> Option<Key> {
    node.owners().find(|owner| owner.kind == "NodeClaim").map(|owner| claim_key(owner.name))
}

/// Where the node of a claim lies: it is called like the claim.
pub(super) fn node_of(claim: &Object) -> Key {
    Key::new(Kind::Node, "", claim.name())
}

/// Whether the node of a claim was there once.
pub(super) fn is_launched(claim: &Object) -> bool {
    claim.has_condition("Launched")
}

fn counts(pod: Option<&Object>) -> bool {
    pod.is_some_and(|pod| !pod.node().is_empty() && !is_over(pod))
}

/// The node of a claim as it is to be in the end.
pub(super) fn node(claim: &Object, name: &str) -> Value {
    let mut labels = claim.at("/metadata/labels").clone();
    labels["kubernetes.io/hostname"] = json!(name);
    labels["karpenter.sh/registered"] = json!("true");
    let mut annotations = claim.at("/metadata/annotations").clone();
    if let Some(annotations) = annotations.as_object_mut() {
        annotations.remove(ALLOCATABLE);
    }
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels, "annotations": annotations},
        "spec": {"taints": claim.list("/spec/taints"), "providerID": format!("embedded://{}", claim.name())},
        "status": {"capacity": capacity(claim), "allocatable": capacity(claim), "nodeInfo": info()},
    })
}

/// What the node of a claim has. A claim is created without a status, so it stands in an annotation as well.
pub(super) fn capacity(claim: &Object) -> Value {
    claim.annotation(ALLOCATABLE).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_else(|| json!({}))
}

struct Life<'s> {
    store: &'s Store,
    key: &'s Key,
    claim: &'s Object,
    node: Option<&'s Arc<Object>>,
    now: Timestamp,
}

impl<'s> Life<'s> {
    fn pool(&self) -> Option<&'s Arc<Object>> {
        self.store.get(&Key::new(Kind::NodePool, "", self.claim.label(NODE_POOL)?))
    }

    fn said(&self, annotation: &str) -> Option<SignedDuration> {
        self.pool()?.annotation(annotation)?.parse().ok()
    }

    /// The node comes, unless by then it cannot be had; then the claim was in vain.
    fn launch(&self) -> Act {
        let due = self.claim.created() + self.said(LAUNCH_AFTER).unwrap_or(LAUNCH);
        let requirements = self.claim.list("/spec/requirements").iter();
        let names: Vec<&str> = requirements.filter_map(|requirement| requirement["values"][0].as_str()).collect();
        if self.pool().is_some_and(|pool| !is_available(pool, &names)) {
            return Act::now(vec![delete(self.key, self.claim)]);
        }
        if due > self.now {
            return Act::at(Some(due));
        }
        let mut node = node(self.claim, self.claim.name());
        let mut owner = controller_reference(self.claim);
        if let Some(owner) = owner.as_object_mut() {
            owner.remove("controller");
        }
        node["metadata"]["ownerReferences"] = json!([owner]);
        if let Some(taints) = node["spec"]["taints"].as_array_mut() {
            taints.push(json!({"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}));
        }
        set_condition(&mut node, self.readiness("False", "KubeletNotReady", "container runtime network not ready"));
        let mut after = self.claim.json().clone();
        after["status"]["capacity"] = capacity(self.claim);
        after["status"]["allocatable"] = capacity(self.claim);
        after["status"]["nodeName"] = json!(self.claim.name());
        after["status"]["providerID"] = node["spec"]["providerID"].clone();
        for type_ in ["Launched", "Registered"] {
            set_condition(&mut after, self.condition(type_));
        }
        // Until the node is there the claim must not say so, or it would look as if it was gone.
        Act { batches: vec![vec![Write::Create(node)], write_status(self.claim, after)], again: None }
    }

    fn condition(&self, type_: &str) -> Value {
        json!({"type": type_, "status": "True", "reason": type_, "message": "", "lastTransitionTime": second(self.now)})
    }

    fn readiness(&self, status: &str, reason: &str, message: &str) -> Value {
        let now = second(self.now);
        json!({
            "type": "Ready", "status": status, "reason": reason, "message": message, "lastHeartbeatTime": now,
            "lastTransitionTime": now,
        })
    }

    /// The node becomes ready.
    fn initialize(&self, node: &Object) -> Act {
        let due = node.created() + self.said(READY_AFTER).unwrap_or(READY);
        if due > self.now {
            return Act::at(Some(due));
        }
        let mut ready = node.json().clone();
        set_condition(&mut ready, self.readiness("True", "KubeletReady", "kubelet is posting ready status"));
        let mut after = self.claim.json().clone();
        for type_ in ["Launched", "Registered", "Initialized", "Ready"] {
            if !self.claim.has_condition(type_) {
                set_condition(&mut after, self.condition(type_));
            }
        }
        let up = node.has_condition("Ready");
        let batches = vec![if up { Vec::new() } else { write_status(node, ready) }, write_status(self.claim, after)];
        Act { batches, again: None }
    }

    fn pods(&self, node: &Object) -> impl Iterator<Item = (&'s Key, &'s Arc<Object>)> {
        self.store.pods_on(node.name()).filter(|(_, pod)| !is_over(pod))
    }

    /// Notes since when the node is empty, and ends it when that is long enough.
    fn idle(&self, node: &Object) -> Act {
        let noted = self.claim.time("/status/lastPodEventTime");
        let mut after = self.claim.json().clone();
        if self.pods(node).next().is_some() {
            if let Some(status) = after["status"].as_object_mut() {
                status.remove("lastPodEventTime");
            }
            return Act::now(write_status(self.claim, after));
        }
        let Some(since) = noted else {
            after["status"]["lastPodEventTime"] = json!(second(self.now));
            return Act::now(write_status(self.claim, after));
        };
        let after = self.pool().and_then(|pool| pool.text("/spec/disruption/consolidateAfter")).unwrap_or("0s");
        let Ok(after) = after.parse::<SignedDuration>() else { return Act::none() };
        let due = since + after.max(GRACE);
        if due > self.now { Act::at(Some(due)) } else { Act::now(vec![delete(self.key, self.claim)]) }
    }

    /// Nobody is sent there any more, the pods go, then the node, then the claim.
    fn end(&self, node: Option<&'s Arc<Object>>) -> Act {
        let Some(node) = node else {
            let mut after = self.claim.json().clone();
            if let Some(finalizers) = after["metadata"]["finalizers"].as_array_mut() {
                finalizers.retain(|finalizer| finalizer != TERMINATION);
            }
            return Act::now(write_object(self.claim, after));
        };
        let mut closed = node.json().clone();
        let taint = json!({"key": "karpenter.sh/disrupted", "effect": "NoSchedule"});
        if !node.list("/spec/taints").contains(&taint) {
            match closed["spec"]["taints"].as_array_mut() {
                Some(taints) => taints.push(taint),
                None => closed["spec"]["taints"] = json!([taint]),
            }
            return Act::now(write_object(node, closed));
        }
        if self.pods(node).next().is_none() {
            return Act::now(vec![delete(&node_of(self.claim), node)]);
        }
        let staying = self.pods(node).filter(|(_, pod)| pod.deletion().is_none());
        Act::now(staying.map(|(key, pod)| delete(key, pod)).collect())
    }
}
