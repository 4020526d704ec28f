//! The API through a `kube::Client`, under virtual time.

#![expect(clippy::unwrap_used, reason = "all of this is a test")]

mod admission;
mod corners;
mod eviction;
mod objects;
mod patches;
mod tables;
mod watches;
mod world;
