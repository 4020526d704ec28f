//! The admission webhook: TLS listener, wire format, decision, JSON patch.

pub mod admission;
pub mod certs;
pub mod metrics;
pub mod patch;
pub mod peer;
pub mod registration;
pub mod server;
pub mod wire;
