//! What Spotalis reads from and writes to Kubernetes.
//!
//! Watch events become slim records (`slim`), records become the [`index::Index`], and the index answers with snapshots
//! for the decisions of `spotalis-core`. Nothing but the index keeps API objects, and nothing here decides.

pub mod index;
pub mod intern;
pub mod names;
pub mod slim;
pub mod watch;
pub mod write;
