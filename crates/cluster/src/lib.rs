//! An in-memory Kubernetes.
//!
//! A `kube::Client` made from [`Cluster::service`] cannot tell it from a real API server so far as it goes; what is not
//! there answers 404, never something invented. The controllers that make a cluster move (Deployments, ReplicaSets,
//! StatefulSets, disruption budgets, scheduler, kubelet, garbage collection, autoscalers) are plain functions from the
//! store and the time to writes. Time is tokio's: paused, a day takes seconds. With the same seed everything happens in
//! the same order, to the byte.
//!
//! It knows nothing of who uses it.

mod api;
pub mod clock;
mod cluster;
pub mod controllers;
pub mod engine;
pub mod matching;
mod news;
pub mod object;
pub mod quantity;
pub mod random;
pub mod reclaim;
pub mod resource;
pub mod selector;
pub mod store;

pub use api::decode::{Misfit, misfit};
pub use api::perform::Rejected;
pub use api::reply::Body;
pub use api::service::ApiService;
pub use cluster::{Answered, Cluster, Latency, Options, Ownership};
