//! Finds cargo-deny, which checks the dependencies against `deny.toml`, and installs it where it is missing.
//!
//! Kept by its version in the user's cache, beside the programs of the rig and for the same reason: every clone shares it,
//! and a clean build does not throw it away.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use spotalis_e2e::cargo;

/// The one version that is used, so that nobody's check differs from another's.
const VERSION: &str = "0.20.2";

/// How it is compiled: it runs for seconds, so what counts is how long it takes to build.
const QUICK: [(&str, &str); 4] = [
    ("CARGO_PROFILE_RELEASE_LTO", "off"),
    ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16"),
    ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0"),
    ("CARGO_PROFILE_RELEASE_DEBUG", "false"),
];

/// The program. `install` runs the command that installs it, if it has to be.
pub fn obtain(install: impl FnOnce(&mut Command) -> Result<()>) -> Result<PathBuf> {
    let home = cache()?.join(format!("cargo-deny-{VERSION}"));
    let program = home.join("bin").join("cargo-deny");
    if program.is_file() {
        return Ok(program);
    }
    fs::create_dir_all(&home).with_context(|| format!("cannot make {}", home.display()))?;
    let mut command = cargo();
    command.args(["install", "cargo-deny", "--version", VERSION, "--locked", "--root"]).arg(&home);
    command.env("CARGO_TARGET_DIR", home.join("build")).envs(QUICK);
    install(&mut command)?;
    if !program.is_file() {
        bail!("{} was installed and is not there", program.display());
    }
    // Only the program is worth its room.
    fs::remove_dir_all(home.join("build")).context("cannot clear away what cargo-deny was built from")?;
    Ok(program)
}

fn cache() -> Result<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let user = variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")));
    Ok(user.context("neither XDG_CACHE_HOME nor HOME is set, so there is no place for tools")?.join("spotalis-tools"))
}
