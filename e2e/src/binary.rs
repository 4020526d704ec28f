//! Finds the binary under test, and builds it first if nobody named one; and what benchmarks run beside it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::OnceLock;

use anyhow::{Context as _, Result, anyhow, ensure};
use spotalis_rig::say;

use crate::cargo::cargo;

/// A binary to test instead of the one that is built.
const VARIABLE: &str = "SPOTALIS_BIN";

/// The binary under test; built at most once in a process.
pub fn binary() -> Result<PathBuf> {
    static BINARY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let found = BINARY.get_or_init(|| named().map_or_else(build, Ok).map_err(|error| format!("{error:#}")));
    found.clone().map_err(|error| anyhow!(error))
}

fn named() -> Option<PathBuf> {
    std::env::var_os(VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn build() -> Result<PathBuf> {
    say(format!("building spotalis in release mode (set {VARIABLE} to test another binary)"));
    release(&["--package", "spotalis"], "spotalis")
}

/// Builds something in release mode; `file` is where it then lies in the directory of release builds.
pub fn release(selection: &[&str], file: &str) -> Result<PathBuf> {
    built("release", selection, file)
}

/// Builds something by a profile of the workspace; `file` is where it then lies in the profile's directory.
pub fn built(profile: &str, selection: &[&str], file: &str) -> Result<PathBuf> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("this crate lies in a workspace")?;
    let built = cargo()
        .args(["build", "--quiet", "--profile", profile])
        .args(selection)
        .current_dir(workspace)
        .stdin(Stdio::null())
        .status()
        .context("cannot run cargo")?;
    ensure!(built.success(), "it does not build: run `cargo build --profile {profile} {}`", selection.join(" "));
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    Ok(workspace.join(target).join(profile).join(file))
}
