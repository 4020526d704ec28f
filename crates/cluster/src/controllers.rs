//! The controllers that make a cluster move. Each is a plain function from the store and the time to writes, in a file of
//! its own; [`crate::engine`] runs them.

mod claim;
pub mod deployment;
pub mod disruption;
pub mod garbage_collector;
pub mod kubelet;
pub mod namespace;
pub mod pods;
mod portion;
pub mod replica_set;
pub mod scheduler;
pub mod stateful_set;
