//! The configuration: file, then environment, then flags; checked once, and plain values from then on.
//!
//! What is absent: the environment is handed in, not read; nothing is printed; nothing here decides about workloads.
//! The only input this crate fetches itself is the text of the file it is pointed to.

mod bounds;
mod decode;
mod effective;
mod keys;
mod layers;
mod problem;
mod reload;
mod settings;
mod tree;

pub use effective::{Config, Sources};
pub use keys::{Key, json_schema, keys};
pub use layers::{Flags, OTHER_VARIABLES, variable};
pub use problem::{ConfigErrors, Fault, Origin, Problem};
pub use reload::{changed_needing_restart, reloaded};
pub use settings::{
    Agent, AgentProvider, ApiClient, AtDeadline, Certificates, ConflictRule, Controller, Defaults, DisruptionWindow,
    Distribution, Drain, Group, Guard, HandOver, Health, Interruption, KarpenterNodes, LeaderElection, LogFormat,
    LogLevel, Logging, Metrics, NamespaceMode, NodeLabels, Notifications, Prices, Protect, Provisioner, Rebalance,
    ScaleDownOrder, SecretUrl, Settings, Sqs, Tolerations, Utilization, Webhook,
};
pub use spotalis_core::split::Rounding;
