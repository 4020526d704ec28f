//! What cargo says about this workspace: where it is, its members and what they depend on.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use spotalis_e2e::cargo;

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
