//! The admission webhook: TLS listener, wire format, decision, JSON patch.
