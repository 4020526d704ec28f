//! Says on standard error what the rig is doing: a spinner on a terminal, a line per step in a pipe.
//!
//! Nothing else in this crate writes to a terminal, and nothing here decides anything.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// Writes one line to standard error. Not captured by the test harness, so that timings and skip reasons stay visible.
pub fn say(line: impl AsRef<str>) {
    // A closed standard error is no reason to stop.
    let _ = writeln!(io::stderr().lock(), "{}", line.as_ref());
}

/// A build in progress.
pub(crate) struct Building {
    label: String,
    spinner: Option<ProgressBar>,
    packages: u64,
    since: tokio::time::Instant,
}

impl Building {
    /// Announces that `label` is being built.
    pub(crate) fn begin(label: &str) -> Self {
        let spinner = io::stderr().is_terminal().then(spinner);
        match &spinner {
            Some(spinner) => spinner.set_message(format!("building {label}")),
            None => say(format!("rig: building {label} (once; minutes)")),
        }
        Self { label: label.to_owned(), spinner, packages: 0, since: tokio::time::Instant::now() }
    }

    /// Takes one line of what `go build -v` says: a package it compiled, or a module it downloads.
    pub(crate) fn note(&mut self, line: &str) {
        if !line.starts_with("go: ") {
            self.packages += 1;
        }
        if let Some(spinner) = &self.spinner {
            spinner.set_message(format!("building {}: {} packages, {line}", self.label, self.packages));
        }
    }

    /// Announces the end, and how long it took.
    pub(crate) fn finish(self) {
        if let Some(spinner) = self.spinner {
            spinner.finish_and_clear();
        }
        say(format!("rig: built {} in {} s", self.label, self.since.elapsed().as_secs()));
    }
}

fn spinner() -> ProgressBar {
    let spinner = ProgressBar::new_spinner();
    let style = ProgressStyle::with_template("{spinner} {elapsed} {wide_msg}").expect("the template is constant");
    spinner.set_style(style);
    spinner.enable_steady_tick(Duration::from_millis(120));
    spinner
}
