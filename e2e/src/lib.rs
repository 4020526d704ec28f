//! What the tests on the rig share: the product as a process of its own, workloads to put before it, and questions to ask
//! of the cluster afterwards.
//!
//! The product runs with the rights of `manifests/rbac.yaml` and nothing more, and is judged from outside: by pods and the
//! nodes they run on, Events, metrics, and the API server's own record of requests. Nothing here calls a decision of
//! Spotalis; the split that is expected is computed anew, so that a mistake in the product cannot hide in its own test.

mod answer;
mod attempt;
mod binary;
mod caller;
mod calls;
mod cargo;
mod certs;
mod cluster;
mod creations;
pub mod differential;
mod gate;
mod http_get;
mod neighbour;
mod process;
mod product;
mod reconfigure;
mod relay;
mod rights;
mod scrape;
mod witness;
mod workload;

pub use answer::{Answer, JSON, MERGE, ask};
pub use attempt::Attempt;
pub use binary::{binary, built, release};
pub use caller::{Caller, Heard};
pub use calls::{Calls, count};
pub use cargo::{cargo, forget_this_package};
pub use certs::{Authority, Pair};
pub use cluster::{Cluster, Split, USER, active_pods, annotation, is_ready, label, wanted};
pub use creations::{Creations, Tally, next_pod};
pub use gate::Gate;
pub use neighbour::{Neighbour, Review};
pub use process::Process;
pub use product::{Product, ProductOptions, Replica, apply, on_product};
pub use reconfigure::IN_FORCE;
pub use rights::Withdrawn;
pub use scrape::Scrape;
pub use witness::Witness;
pub use workload::{Budget, Workload};

use std::time::Duration;

use anyhow::{Context as _, Result};

/// What is not so by then never will be. A second is usual; the rest is for a machine with other work.
pub const LIMIT: Duration = Duration::from_mins(2);

/// Asks again and again until the answer is `Some`, at most for [`LIMIT`].
pub async fn eventually<T>(what: impl Into<String>, ask: impl AsyncFnMut() -> Option<T>) -> Result<T> {
    Ok(spotalis_rig::until(&what.into(), LIMIT, ask).await?)
}

/// Runs a part of a test, and says how long it took and, if it failed, which one it was.
pub async fn scenario(name: &str, part: impl Future<Output = Result<()>>) -> Result<()> {
    let since = tokio::time::Instant::now();
    // Parts of tests are large, and tests join many of them.
    let passed = Box::pin(part).await.with_context(|| format!("scenario: {name}"));
    let word = if passed.is_ok() { "" } else { "failed after " };
    spotalis_rig::say(format!("  {name}: {word}{:.1} s", since.elapsed().as_secs_f64()));
    passed
}
