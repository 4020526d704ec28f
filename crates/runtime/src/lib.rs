//! The shell every engine runs in: clock, work queue, leadership, writes, admin servers, Events, metrics, telemetry, shutdown.
//!
//! Nothing here decides anything about workloads or nodes, and nothing here reads configuration or the environment: every
//! knob is a parameter. All waiting is `tokio::time` and all reading of the time is [`clock::Clock`], so that everything
//! runs under paused time as well.

pub mod admin;
pub mod apiclient;
pub mod clock;
pub mod events;
pub mod leadership;
pub mod metrics;
pub mod server_time;
pub mod shutdown;
pub mod telemetry;
pub mod text;
pub mod workqueue;
pub mod writer;

pub use clock::Clock;
pub use server_time::ServerTime;
