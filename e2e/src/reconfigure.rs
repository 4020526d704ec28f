//! The configuration file of a running controller: read, changed at one blow, and what the controller says to the change.

use std::fs;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::{Replica, eventually};

/// What the controller says when a changed file is used.
pub const IN_FORCE: &str = "the changed configuration is in force";

impl Replica {
    /// The file as it is.
    pub fn config(&self) -> Result<Value> {
        Ok(serde_json::from_str(&fs::read_to_string(self.config_path())?)?)
    }

    /// Lines of the log with this in them, so far.
    pub fn log_with(&self, part: &str) -> Result<Vec<Value>> {
        let mut lines = self.log()?;
        lines.retain(|line| line.to_string().contains(part));
        Ok(lines)
    }

    /// Changes the file, and waits until a line with this in it says what came of it.
    pub async fn change_config(&self, text: &str, says: &str) -> Result<Value> {
        let before = self.log_with(says)?.len();
        // In place of the old one at one blow, so that nobody reads half of it.
        let path = self.config_path();
        let beside = path.with_extension("new");
        fs::write(&beside, text)?;
        fs::rename(&beside, path)?;
        let mut news = eventually(says, async || {
            let lines = self.log_with(says).ok()?;
            (lines.len() > before).then_some(lines)
        })
        .await?;
        news.pop().context("a line")
    }
}
