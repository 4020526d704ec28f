//! The balance controller: snapshot, decide, apply.
