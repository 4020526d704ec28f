//! Every decision of Spotalis as a plain function.
//!
//! What is absent here is the point: no Kubernetes client, no runtime, no clock, no environment, no randomness, no
//! unordered collection. A decision takes what was observed, the policy and `now`, and returns what to do, why, and when
//! to look again. Anything that must wait, fetch or write belongs to another crate.

pub mod admission;
pub mod capacity;
pub mod class;
pub mod duration;
pub mod election;
pub mod fit;
pub mod opt_in;
pub mod plan;
pub mod policy;
pub mod reason;
pub mod rebalance;
pub mod selector;
pub mod slots;
pub mod split;
pub mod steering;
pub mod suggest;
pub mod window;
