//! Spotalis on an embedded cluster, in virtual time: the real instances with their real clients, on a cluster that is a
//! value, with a clock that jumps to the next thing that happens.
//!
//! [`plan`] says what a run consists of: a world, what happens to it, and what goes wrong. [`run`] runs it, [`judge`] holds
//! every act against rules of its own, and [`shrink`] finds the least that still fails. The same plan gives the same
//! run, to the byte. Nothing here is used by what it judges.

pub mod catalogue;
pub mod chance;
pub mod compare;
pub mod day;
pub mod embedded;
pub mod enumerate;
pub mod expect;
pub mod fault;
pub mod fleet;
pub mod judge;
mod panics;
pub mod plan;
pub mod play;
pub mod process;
pub mod record;
pub mod report;
pub mod requests;
pub mod run;
pub mod scenario;
pub mod shrink;
mod standstill;
pub mod summary;
pub mod trace;
pub mod whatif;
pub mod wire;
pub mod words;
pub mod world;
