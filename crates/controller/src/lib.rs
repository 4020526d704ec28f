//! The engines that act on the cluster, each a loop of snapshot, decide, apply.
//!
//! The index says what is, `spotalis-core` says what to do and why, and this crate does it and tells it: one fenced write,
//! one Event, the metrics. It never chooses.

pub mod balance;
mod memory;
mod metrics;
mod node_hours;
mod story;

pub use balance::{Balance, Settings};
pub use metrics::{BalanceMetrics, METRICS};
