//! What is wrong with a declared policy, in words for the person who declared it.

use std::fmt;

use super::{Carrier, Level, keys};

/// Longest part of a value that is shown, in characters.
const SHOWN: usize = 64;

/// Something declared that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Whose declaration it is; never [`Level::Config`] or [`Level::BuiltIn`], which are checked at start.
    pub level: Level,
    /// Where on the object.
    pub carrier: Carrier,
    /// The key, fit for showing.
    pub key: String,
    /// The value, fit for showing: shortened, control characters escaped.
    pub value: String,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The value cannot be used.
    Invalid {
        /// What can.
        allowed: String,
        /// What is done meanwhile.
        consequence: Consequence,
    },
    /// No such key.
    UnknownKey {
        /// The one that was probably meant.
        suggestion: Option<&'static str>,
    },
    /// The key is read elsewhere on the object.
    Misplaced {
        /// Where.
        belongs: Carrier,
    },
}

/// What an invalid value leads to until it is mended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Consequence {
    /// New pods on on-demand, nothing moved.
    FailsClosed,
    /// The disruption window stays closed.
    WindowClosed,
    /// As if the value were not there.
    Unset,
    /// Nothing: a higher level decides.
    Shadowed,
}

impl Problem {
    pub(super) fn new(level: Level, carrier: Carrier, key: &str, value: &str, fault: Fault) -> Self {
        Self { level, carrier, key: shown(key), value: shown(value), fault }
    }

    /// The key for metrics: one of the known ones, without prefix, or `unknown`.
    pub fn metric_label(&self) -> &'static str {
        keys::metric_label(&self.key)
    }
}

/// Fit for logs and terminals: short, and nothing in it that acts on them.
fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN).flat_map(char::escape_debug).collect();
    if text.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    shown
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { level, carrier, key, value, fault } = self;
        write!(f, "{carrier} {key} of the {level}")?;
        match fault {
            Fault::Invalid { allowed, consequence } => {
                write!(f, " is \"{value}\"; allowed is {allowed}. Correct or remove it; {consequence}")
            }
            Fault::UnknownKey { suggestion: Some(meant) } => {
                write!(f, " is unknown and has no effect; did you mean {meant}? Rename or remove it")
            }
            Fault::UnknownKey { suggestion: None } => write!(f, " is unknown and has no effect. Remove it"),
            Fault::Misplaced { belongs } => write!(f, " has no effect there. Set it as {belongs} instead"),
        }
    }
}

impl fmt::Display for Consequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FailsClosed => "until then new pods go to on-demand and no pod is moved",
            Self::WindowClosed => "until then the disruption window stays closed",
            Self::Unset => "until then it counts as not set",
            Self::Shadowed => "it has no effect, because the workload has its own value",
        })
    }
}

impl fmt::Display for Carrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Label => "label",
            Self::Annotation => "annotation",
        })
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Workload => "workload",
            Self::Namespace => "namespace",
            Self::Config => "configuration",
            Self::BuiltIn => "built-in default",
        })
    }
}
