//! The embedded cluster held against a real API server: the same requests to both, and every answer compared.
//!
//! Sequences of requests are data and come from seeds. They run in namespaces of their own, so that several run at once. The
//! real server has nobody beside it who writes, and the embedded one no controllers: what is there was asked for.

mod canon;
mod chance;
mod compare;
mod explained;
mod generate;
mod run;
mod send;
mod step;

pub use explained::{EXPLAINED, Explained};
pub use run::{Compact, Found, Shortest, Tally, Worlds};
