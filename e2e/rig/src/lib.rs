//! A real control plane on one machine: etcd, kube-apiserver, controller-manager, scheduler, KWOK, Karpenter.
//!
//! [`Rig::start`] gives a cluster of its own (ports, directory, certificates) in a few seconds; dropping the [`Rig`] ends
//! it, and so does the death of the process that holds it, in whatever way. The programs are built once, from the Go
//! modules under `go/`, into a cache that all clones share; those `go.mod` files are the only place that names versions.
//!
//! The rig knows nothing of Spotalis. It does not judge what happens in the cluster, and it holds no test.

mod audit;
mod binaries;
mod component;
mod karpenter;
mod kubeconfig;
mod node;
mod part;
mod pki;
mod port;
mod report;
mod rig;
mod stages;
mod standing;
mod surroundings;
mod wait;

pub use audit::{AuditEntry, AuditLevel};
pub use binaries::{Binaries, BinariesError};
pub use component::{ComponentError, Signal};
pub use karpenter::KarpenterError;
pub use node::{FakeNode, NodeKind, Room};
pub use part::Part;
pub use port::{free_port, free_ports};
pub use report::say;
pub use rig::{Rig, RigError, RigOptions, on_rig};
pub use stages::{CRASH_AFTER, READY_AFTER, RECOVER_AFTER, Stages, TERMINATED_AFTER};
pub use standing::{Standing, StandingError};
pub use wait::{TimedOut, until};

pub use kube;
