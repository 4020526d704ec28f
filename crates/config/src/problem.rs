//! What is wrong with a configuration, in words for the person who wrote it: what, where, what is allowed, what to do.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Longest part of a value that is shown, in characters.
const SHOWN: usize = 64;

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A place in the file, counted from 1.
    File {
        /// The file.
        path: Arc<Path>,
        /// Line.
        line: u64,
        /// Column, in characters.
        column: u64,
    },
    /// An environment variable, by name.
    Variable(Arc<str>),
    /// A flag, by name.
    Flag(&'static str),
    /// Nobody wrote it.
    Default,
}

/// One thing that is wrong.
#[derive(Debug)]
pub struct Problem {
    /// Where.
    pub origin: Origin,
    /// The key, as a path; empty when the trouble is with the file or the variable as a whole.
    pub key: String,
    /// What.
    pub fault: Fault,
}

/// What can be wrong.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The file is not there.
    #[error("there is no such file; write one, or correct --config")]
    NoFile {
        /// The file.
        path: PathBuf,
    },
    /// The file is there and cannot be read.
    #[error("the file cannot be read; check its permissions and that it is no directory")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no text.
    #[error("the file is not UTF-8 text")]
    NotText {
        /// The file.
        path: PathBuf,
    },
    /// Far beyond what a configuration needs.
    #[error("the file has {length} bytes, more than the {max} that are read", max = crate::layers::MAX_FILE_LENGTH)]
    TooLong {
        /// The file.
        path: PathBuf,
        /// Its length in bytes.
        length: usize,
    },
    /// No YAML.
    #[error("not valid YAML: {message}")]
    NotYaml {
        /// What the parser says.
        message: String,
    },
    /// No such key.
    #[error("unknown key{}", meant(.suggestion.as_deref()))]
    UnknownKey {
        /// The key that was probably meant, as a path.
        suggestion: Option<String>,
    },
    /// No such variable.
    #[error("unknown variable{}; variables beginning with SPOTALIS_ are configuration", meant(.suggestion.as_deref()))]
    UnknownVariable {
        /// The variable that was probably meant.
        suggestion: Option<String>,
    },
    /// Wrong type or range.
    #[error("{found} is not allowed; allowed is {allowed}{}", meant(.suggestion.as_deref()))]
    Invalid {
        /// What was written, fit for showing.
        found: String,
        /// What could have been.
        allowed: String,
        /// What was probably meant.
        suggestion: Option<String>,
    },
    /// A list element or a group without one of its keys.
    #[error("`{key}` is missing; add it")]
    Missing {
        /// The missing key.
        key: String,
    },
    /// Right in itself, wrong beside another value; or wrong in a way of its own.
    #[error("{message}")]
    Rule {
        /// The rule and what to do.
        message: String,
    },
}

fn meant(suggestion: Option<&str>) -> String {
    suggestion.map(|meant| format!("; did you mean {meant}?")).unwrap_or_default()
}

/// Everything that is wrong with a configuration; never empty.
#[derive(Debug)]
pub struct ConfigErrors {
    /// In the order file, environment, flags, rules.
    pub problems: Vec<Problem>,
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { problems } = self;
        let (count, noun) = (problems.len(), if problems.len() == 1 { "problem" } else { "problems" });
        write!(f, "the configuration has {count} {noun}:")?;
        problems.iter().try_for_each(|problem| write!(f, "\n  {problem}"))?;
        f.write_str("\nhint: `spotalis config print --defaults` shows every key with its default")
    }
}

impl std::error::Error for ConfigErrors {}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { origin, key, fault } = self;
        match fault {
            Fault::NoFile { path } | Fault::NotText { path } | Fault::TooLong { path, length: _ } => {
                return write!(f, "{}: {fault}", path.display());
            }
            // Nobody prints the source of one problem among several, so it is told here.
            Fault::Unreadable { path, source } => return write!(f, "{}: {fault} ({source})", path.display()),
            Fault::NotYaml { .. }
            | Fault::UnknownKey { .. }
            | Fault::UnknownVariable { .. }
            | Fault::Invalid { .. }
            | Fault::Missing { .. }
            | Fault::Rule { .. } => {}
        }
        write!(f, "{origin}: ")?;
        if !key.is_empty() {
            write!(f, "{key}: ")?;
        }
        fault.fmt(f)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line, column } => write!(f, "{}:{line}:{column}", path.display()),
            Self::Variable(name) => write!(f, "environment variable {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
            Self::Default => f.write_str("default"),
        }
    }
}

/// Fit for logs and terminals: short, and nothing in it that acts on them.
pub(crate) fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN).flat_map(char::escape_debug).collect();
    if text.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    shown
}
