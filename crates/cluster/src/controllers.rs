//! The controllers that make a cluster move. Each is a plain function from the store and the time to writes, in a file of
//! its own; [`crate::engine`] runs them.

pub mod autoscaler;
mod claim;
pub mod deployment;
pub mod disruption;
pub mod garbage_collector;
pub mod kubelet;
pub mod namespace;
pub mod node_lifecycle;
pub mod pod_gc;
pub mod pods;
mod portion;
pub mod provisioner;
pub mod replica_set;
pub mod scheduler;
pub mod stateful_set;
pub mod taint_eviction;

use self::kubelet::{Kubelets, Timing};
use crate::engine::Controller;

/// All of them, in the order in which they look at what happens at the same time.
pub fn all(timing: Timing) -> Vec<Box<dyn Controller>> {
    vec![
        Box::new(namespace::Namespaces),
        Box::new(garbage_collector::GarbageCollector),
        Box::new(deployment::Deployments),
        Box::new(stateful_set::StatefulSets),
        Box::new(replica_set::ReplicaSets),
        Box::new(autoscaler::Autoscaler),
        Box::new(disruption::Disruption),
        Box::new(node_lifecycle::NodeLifecycle),
        Box::new(taint_eviction::TaintEviction),
        Box::new(pod_gc::PodGc),
        Box::new(scheduler::Scheduler),
        Box::new(provisioner::Provisioner),
        Box::new(provisioner::NodeClaims),
        Box::new(Kubelets { timing }),
    ]
}

#[cfg(test)]
mod tests;
