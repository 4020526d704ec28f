//! What cargo says about this workspace: where it is, its members and what they depend on.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

/// The workspace.
#[derive(Debug)]
pub struct Workspace {
    /// Its directory.
    pub root: PathBuf,
    /// Where cargo builds.
    pub target: PathBuf,
    /// Its packages.
    pub members: Vec<Member>,
}

/// A package of the workspace.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Its manifest.
    pub manifest: PathBuf,
    /// The packages of any kind that it needs to build: `dependencies` and `build-dependencies`.
    pub needs: BTreeSet<String>,
    /// The packages that only its tests need.
    pub tests_need: BTreeSet<String>,
}

#[derive(Deserialize)]
struct Metadata {
    workspace_root: PathBuf,
    target_directory: PathBuf,
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    manifest_path: PathBuf,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    /// `null`, `dev` or `build`.
    kind: Option<String>,
}

/// What `cargo run` tells the program it starts about its package.
const ABOUT_THIS_PACKAGE: [&str; 3] = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"];

/// The cargo that started this program, or the one on the path.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    forget_this_package(&mut command);
    command
}

/// Keeps from a command what cargo said about this package to this program.
///
/// ring's build script is run again when one of those variables differs from the last time, and everything above ring is
/// compiled again with it: each time somebody goes from plain cargo to `cargo xtask` and back.
pub fn forget_this_package(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| ABOUT_THIS_PACKAGE.iter().any(|prefix| name.starts_with(prefix))) {
            command.env_remove(name);
        }
    }
}

impl Workspace {
    /// Asks cargo. Needs no network.
    pub fn read() -> Result<Self> {
        let mut command = cargo();
        command.args(["metadata", "--no-deps", "--format-version", "1"]).current_dir(env!("CARGO_MANIFEST_DIR"));
        let output = command.output().context("cannot start cargo")?;
        if !output.status.success() {
            bail!("cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr));
        }
        let Metadata { workspace_root, target_directory, packages } =
            serde_json::from_slice(&output.stdout).context("cargo metadata cannot be read")?;
        let members = packages.into_iter().map(Member::from).collect();
        Ok(Self { root: workspace_root, target: target_directory, members })
    }
}

impl From<Package> for Member {
    fn from(Package { name, manifest_path, dependencies }: Package) -> Self {
        let (for_tests, needed): (Vec<_>, Vec<_>) =
            dependencies.into_iter().partition(|dependency| dependency.kind.as_deref() == Some("dev"));
        let names =
            |dependencies: Vec<Dependency>| dependencies.into_iter().map(|dependency| dependency.name).collect();
        Self { name, manifest: manifest_path, needs: names(needed), tests_need: names(for_tests) }
    }
}
