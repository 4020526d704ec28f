//! The admission webhook: TLS listener, wire format, decision, JSON patch.

pub mod patch;
pub mod wire;
