//! Lays the file, the environment and the flags over each other, and tells who named a key that does not exist.
//!
//! Later layers win key by key; a list is one value and never mixed.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use spotalis_core::suggest;

use crate::keys::{keys, sections};
use crate::problem::{Fault, Origin, Problem};
use crate::tree::{Node, NotYaml, Value};

/// Longest file that is read, in bytes.
pub(crate) const MAX_FILE_LENGTH: usize = 1024 * 1024;

/// What configuration in the environment begins with.
const PREFIX: &str = "SPOTALIS_";

/// Variables with that beginning that are no keys: name, and what it is for.
pub const OTHER_VARIABLES: [(&str, &str); 1] = [("SPOTALIS_CONFIG", "the configuration file, as --config")];

/// What was said on the command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// `--read-only`.
    pub read_only: bool,
    /// `--log-level`.
    pub log_level: Option<String>,
    /// `--log-format`.
    pub log_format: Option<String>,
}

/// The layers as one tree, and what went wrong on the way.
pub(crate) struct Layers {
    pub tree: Node,
    pub problems: Vec<Problem>,
}

impl Layers {
    /// Starts with nothing.
    pub fn new() -> Self {
        Self { tree: Node::empty(), problems: Vec::new() }
    }

    /// The lowest layer.
    pub fn file(&mut self, path: &Path) {
        match read(path) {
            Ok(tree) => self.tree = tree,
            Err((origin, fault)) => self.problems.push(Problem { origin, key: String::new(), fault }),
        }
    }

    /// The layer above it.
    pub fn environment(&mut self, variables: impl IntoIterator<Item = (String, String)>) {
        let known = known_variables();
        // Sorted, and a section before the keys in it: its name is the beginning of theirs.
        let variables: BTreeMap<String, String> =
            variables.into_iter().filter(|(name, _)| name.starts_with(PREFIX)).collect();
        for (name, text) in variables {
            if is_service_link(&name, &text) || OTHER_VARIABLES.iter().any(|(other, _)| *other == name) {
                continue;
            }
            let origin = Origin::Variable(name.as_str().into());
            match known.get(&name) {
                Some(Target { path, section: false }) => self.set(path, Node { origin, value: Value::Untyped(text) }),
                Some(Target { path, section: true }) => self.section(path, &origin, &text),
                None => {
                    let others = OTHER_VARIABLES.iter().map(|(other, _)| *other);
                    let suggestion = suggest::closest(&name, known.keys().map(String::as_str).chain(others));
                    let fault = Fault::UnknownVariable { suggestion: suggestion.map(str::to_owned) };
                    self.problems.push(Problem { origin, key: String::new(), fault });
                }
            }
        }
    }

    /// The highest layer.
    pub fn flags(&mut self, flags: &Flags) {
        let Flags { read_only, log_level, log_format } = flags;
        if *read_only {
            let origin = Origin::Flag("--read-only");
            self.set("readOnlyMode", Node { origin, value: Value::Bool(true) });
        }
        for (flag, path, word) in
            [("--log-level", "logging.level", log_level), ("--log-format", "logging.format", log_format)]
        {
            if let Some(word) = word {
                self.set(path, Node { origin: Origin::Flag(flag), value: Value::Untyped(word.clone()) });
            }
        }
    }

    fn set(&mut self, path: &str, node: Node) {
        self.tree.set(&path.split('.').collect::<Vec<_>>(), node);
    }

    /// A whole section in one variable is laid over the section key by key.
    fn section(&mut self, path: &str, origin: &Origin, text: &str) {
        match Node::from_text(origin, text) {
            Ok(node) => self.lay_over(path, node),
            Err(NotYaml { place: _, message }) => {
                let fault = Fault::NotYaml { message };
                self.problems.push(Problem { origin: origin.clone(), key: path.to_owned(), fault });
            }
        }
    }

    fn lay_over(&mut self, path: &str, node: Node) {
        match node.value {
            Value::Map(entries) if sections().contains(path) => {
                for entry in entries {
                    self.lay_over(&format!("{path}.{}", entry.key), entry.node);
                }
            }
            _ => self.set(path, node),
        }
    }
}

fn read(path: &Path) -> Result<Node, (Origin, Fault)> {
    let shared: Arc<Path> = path.into();
    let at = |line, column| Origin::File { path: Arc::clone(&shared), line, column };
    let path = path.to_owned();
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err((at(1, 1), Fault::NoFile { path }));
        }
        Err(source) => return Err((at(1, 1), Fault::Unreadable { path, source })),
    };
    if bytes.len() > MAX_FILE_LENGTH {
        return Err((at(1, 1), Fault::TooLong { path, length: bytes.len() }));
    }
    let Ok(text) = String::from_utf8(bytes) else { return Err((at(1, 1), Fault::NotText { path })) };
    let tree = Node::from_file(&shared, &text).map_err(|NotYaml { place, message }| {
        let (line, column) = place.unwrap_or((1, 1));
        (at(line, column), Fault::NotYaml { message })
    })?;
    match tree.value {
        // A file of comments.
        Value::Null => Ok(Node::empty()),
        _ => Ok(tree.without_nulls()),
    }
}

/// What a variable sets.
struct Target {
    path: String,
    section: bool,
}

fn known_variables() -> BTreeMap<String, Target> {
    let values = keys().into_iter().map(|key| (key.variable, Target { path: key.path, section: false }));
    let sections = sections().into_iter().map(|path| (variable(&path), Target { path, section: true }));
    values.chain(sections).collect()
}

/// The environment variable of a key: `controller.resyncPeriod` is `SPOTALIS_CONTROLLER_RESYNC_PERIOD`.
pub fn variable(path: &str) -> String {
    let mut name = PREFIX.to_owned();
    for c in path.chars() {
        match c {
            '.' => name.push('_'),
            c if c.is_ascii_uppercase() => {
                name.push('_');
                name.push(c);
            }
            c => name.push(c.to_ascii_uppercase()),
        }
    }
    name
}

/// Whether Kubernetes made this variable. For every Service of the namespace whose name begins with `spotalis` it gives
/// each container `…_SERVICE_HOST`, `…_SERVICE_PORT`, `…_PORT` and `…_PORT_443_TCP…`. `SPOTALIS_WEBHOOK_PORT` would even
/// be a key.
fn is_service_link(name: &str, text: &str) -> bool {
    let address = ["tcp://", "udp://", "sctp://"].iter().any(|scheme| text.starts_with(scheme));
    name.ends_with("_SERVICE_HOST")
        || name.ends_with("_SERVICE_PORT")
        || name.contains("_SERVICE_PORT_")
        || name.ends_with("_PORT") && address
        || is_port_link(name)
}

/// `…_PORT_443_TCP`, and with `_PROTO`, `_PORT` or `_ADDR` after it.
fn is_port_link(name: &str) -> bool {
    let details = ["_PROTO", "_PORT", "_ADDR"];
    let name = details.iter().find_map(|detail| name.strip_suffix(detail)).unwrap_or(name);
    let Some((rest, protocol)) = name.rsplit_once('_') else { return false };
    let Some((rest, number)) = rest.rsplit_once('_') else { return false };
    let numeric = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    ["TCP", "UDP", "SCTP"].contains(&protocol) && numeric && rest.ends_with("_PORT")
}
