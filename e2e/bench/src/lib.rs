//! The benchmarks: what Spotalis costs on a real control plane, each figure beside its baseline from the same run.
//!
//! A benchmark measures and says what is wanted of the figure; it never fails a test, and it never compares with a figure
//! of another machine. What can be a ratio within one run is one. Only [`count`] does not depend on the machine's mood.

pub mod admission;
pub mod cost;
pub mod count;
pub mod day;
mod handler;
mod load;
mod process;
pub mod report;
pub mod rollout;
pub mod split;

pub use report::Report;
