//! The admission webhook: TLS listener, wire format, decision, JSON patch.

pub mod admission;
pub mod metrics;
pub mod patch;
pub mod wire;
