//! Runs the program to its end, as somebody does who got something wrong: its exit code, and what it says.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::Result;
use tokio::task::spawn_blocking;

use crate::binary::binary;
use crate::process::Process;

/// One that runs longer does not end by itself.
const LIMIT: Duration = Duration::from_mins(1);

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The exit code.
    pub code: i32,
    /// What was written, to standard output and error alike.
    pub said: String,
}

impl Attempt {
    /// Runs `spotalis` with these arguments and environment variables; `directory` is for what it says.
    pub async fn run(directory: &Path, variables: &[(&str, &str)], args: &[&str]) -> Result<Self> {
        Self::of(&spawn_blocking(binary).await??, directory, variables, args).await
    }

    /// Runs another program.
    pub async fn of(program: &Path, directory: &Path, variables: &[(&str, &str)], args: &[&str]) -> Result<Self> {
        static ATTEMPTS: AtomicU32 = AtomicU32::new(0);
        let log = directory.join(format!("attempt-{}.log", ATTEMPTS.fetch_add(1, Ordering::Relaxed)));
        // `env` becomes the program: variables of its own for it alone.
        let words = variables.iter().map(|(name, value)| format!("{name}={value}"));
        let words = words
            .chain([program.display().to_string()])
            .chain(args.iter().map(ToString::to_string))
            .collect::<Vec<_>>();
        let code = Process::start(Path::new("/usr/bin/env"), &words, &log)?.ended(LIMIT).await?;
        Ok(Self { code, said: fs::read_to_string(&log)? })
    }
}
