//! Reads what `--filename` and `--trace` name. Nothing is skipped without a word.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use spotalis_runtime::text::printable;
use spotalis_sim::whatif::{self, Manifest};

use super::SimulateError;
use crate::exit::talk;

/// Longest text that is read, in bytes.
const LONGEST: u64 = 64 * 1024 * 1024;
/// The endings of files that are taken from a directory.
const ENDINGS: [&str; 3] = ["yaml", "yml", "json"];
/// Standard input, as a file.
const STDIN: &str = "-";
/// Files that are left out and named one by one; the rest is counted.
const NAMED: usize = 8;
/// What a file may begin with to say that it is UTF-8. It says nothing else.
const MARK: char = '\u{feff}';

/// The manifests of all files, in the order in which they are named, and of a directory in the order of names.
pub fn manifests(named: &[PathBuf]) -> Result<Vec<Manifest>, SimulateError> {
    let mut found = Found::default();
    for path in named {
        found.expand(path)?;
    }
    let Found { files, others } = found;
    if !others.is_empty() {
        talk(&format!("note: {}", left_out(&others)));
    }
    if files.is_empty() && !named.is_empty() {
        return Err(SimulateError::NoFiles(list(named)));
    }
    let mut found = Vec::new();
    let mut wrong = Vec::new();
    for file in &files {
        match whatif::read(&called(file), &text(file)?) {
            Ok(manifests) => found.extend(manifests),
            Err(whatif::Complaints(complaints)) => wrong.extend(complaints),
        }
    }
    if !wrong.is_empty() {
        return Err(SimulateError::Manifests(whatif::Complaints(wrong)));
    }
    if found.is_empty() && !named.is_empty() {
        return Err(SimulateError::NoManifests(list(&files)));
    }
    Ok(found)
}

fn left_out(others: &[PathBuf]) -> String {
    let shown = others.iter().take(NAMED).map(|path| printable(&path.display().to_string()).into_owned());
    let shown: Vec<String> = shown.collect();
    let more = match others.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("not read, for they are no files that end with .yaml, .yml or .json: {}{more}", shown.join(", "))
}

fn called(path: &Path) -> String {
    if path == Path::new(STDIN) { "standard input".to_owned() } else { path.display().to_string() }
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| called(path)).collect::<Vec<_>>().join(", ")
}

/// The text of a file, or of standard input.
pub fn text(path: &Path) -> Result<String, SimulateError> {
    let unreadable = |source: io::Error| SimulateError::Unreadable { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let read = if path == Path::new(STDIN) {
        io::stdin().lock().take(LONGEST + 1).read_to_end(&mut bytes)
    } else {
        fs::File::open(path).and_then(|file| file.take(LONGEST + 1).read_to_end(&mut bytes))
    };
    let length = read.map_err(unreadable)?;
    if length as u64 > LONGEST {
        return Err(SimulateError::TooLong { path: path.to_owned(), most: LONGEST / 1024 / 1024 });
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let line = error.as_bytes()[..error.utf8_error().valid_up_to()].split(|byte| *byte == b'\n').count();
        SimulateError::NoText { path: path.to_owned(), line }
    })?;
    Ok(text.strip_prefix(MARK).map(str::to_owned).unwrap_or(text))
}

/// What there is to read.
#[derive(Default)]
struct Found {
    files: Vec<PathBuf>,
    /// What was found in directories and is left out.
    others: Vec<PathBuf>,
}

impl Found {
    /// Adds a file, or the files of a directory and of those in it. What somebody names is read whatever it is, a pipe too; in
    /// a directory only files are, for nobody may ever write into a pipe that lies there.
    fn expand(&mut self, path: &Path) -> Result<(), SimulateError> {
        if path == Path::new(STDIN) || !path.is_dir() {
            self.files.push(path.to_owned());
            return Ok(());
        }
        let unreadable = |source: io::Error| SimulateError::Unreadable { path: path.to_owned(), source };
        let entries: io::Result<Vec<fs::DirEntry>> = fs::read_dir(path).and_then(Iterator::collect);
        let mut entries = entries.map_err(unreadable)?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let (path, kind) = (entry.path(), entry.file_type().map_err(unreadable)?);
            if kind.is_dir() {
                self.expand(&path)?;
            } else if path.is_dir() {
                talk(&format!("note: {} leads to another directory, and is not followed", path.display()));
            } else if has_ending(&path) && (path.is_file() || !path.exists()) {
                self.files.push(path);
            } else {
                self.others.push(path);
            }
        }
        Ok(())
    }
}

fn has_ending(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ENDINGS.iter().any(|known| ending.eq_ignore_ascii_case(known)))
}
