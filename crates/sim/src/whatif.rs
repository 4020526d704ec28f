//! What would this do to somebody's own manifests? The objects are read, a fleet is described, spot capacity comes and goes,
//! and the same days are played with Spotalis and without it.
//!
//! Nothing is printed here, and no file is opened: whoever asks brings the texts.

mod fit;
mod inventory;
mod machines;
mod manifests;
mod objective;
mod outcome;
mod runs;
mod written;

pub use crate::fleet::DISK;
pub use embedded_cluster::quantity::Quantity;
pub use fit::{Fits, Misfit, fits};
pub use inventory::{Assumptions, Inventory, Workload, counted, namespace_name, stripped};
pub use machines::{Fleet, Impossible, Need, Seen, Wish};
pub use manifests::{Complaint, Complaints, Manifest, Origin, read};
pub use objective::{Amount, Miss, Objective};
pub use outcome::{Counted, Figures, Spread, Spreads, Stuck};
pub use runs::{Question, Run, Side, Weather, run};
