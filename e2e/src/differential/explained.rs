//! The differences that are known, and why they do not matter: the one table of them. The page on the embedded cluster
//! shows the same lines, and a test holds them together.

use super::compare::Difference;
use super::send::Answer;
use super::step::Step;

/// A known difference.
#[derive(Clone, Copy, Debug)]
pub struct Explained {
    /// Where it shows.
    pub what: &'static str,
    /// What a real API server does.
    pub real: &'static str,
    /// What the embedded cluster does.
    pub here: &'static str,
    /// Why it does not matter.
    pub why: &'static str,
    pub(crate) covers: fn(&Case<'_>) -> bool,
}

/// One difference, and what it is the answer to.
pub(crate) struct Case<'a> {
    pub step: &'a Step,
    pub difference: &'a Difference,
    /// Of a watch, none.
    pub answers: Option<(&'a Answer, &'a Answer)>,
}

impl Case<'_> {
    fn texts(&self) -> Option<(&str, &str)> {
        let Difference { real, here, .. } = self.difference;
        Some((real.as_str()?, here.as_str()?))
    }
}

/// All of them.
pub const EXPLAINED: &[Explained] = &[];

/// The line that explains a difference.
pub(crate) fn explanation(case: &Case<'_>) -> Option<usize> {
    EXPLAINED.iter().position(|explained| (explained.covers)(case))
}
