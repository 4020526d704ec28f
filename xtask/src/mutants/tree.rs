//! A copy of the sources, in which defects are made one at a time: what somebody works on is never touched.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::table::Defect;

/// The copy.
#[derive(Debug)]
pub struct Tree {
    root: PathBuf,
}

/// A defect that is in the tree, until [`Made::take_back`].
#[derive(Debug)]
#[must_use = "the next defect comes on top of this one"]
pub struct Made {
    file: PathBuf,
    was: String,
}

impl Tree {
    /// Copies what git knows of `source`, and what it would, to `root`. Files that are there and the same are left, so that
    /// cargo has nothing to build anew; whatever else an earlier run has left behind goes.
    pub fn copy(source: &Path, root: &Path) -> Result<Self> {
        let files = files_of(source)?;
        for file in &files {
            let (from, to) = (source.join(file), root.join(file));
            let bytes = fs::read(&from).with_context(|| format!("cannot read {}", from.display()))?;
            if fs::read(&to).ok().as_ref() != Some(&bytes) {
                let directory = to.parent().context("a file lies in a directory")?;
                fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
                fs::write(&to, bytes).with_context(|| format!("cannot write {}", to.display()))?;
            }
        }
        remove_others(root, root, &files)?;
        Ok(Self { root: root.to_owned() })
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Makes a defect.
    pub fn make(&self, defect: &Defect) -> Result<Made> {
        let file = self.root.join(&defect.file);
        let was = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let is = defect.put_into(&was)?;
        fs::write(&file, is).with_context(|| format!("cannot write {}", file.display()))?;
        Ok(Made { file, was })
    }
}

impl Made {
    /// The file is again as it was.
    pub fn take_back(self) -> Result<()> {
        let Self { file, was } = self;
        fs::write(&file, was).with_context(|| format!("cannot write {}", file.display()))
    }
}

fn files_of(source: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut command = Command::new("git");
    command.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).current_dir(source);
    let listed = command.output().context("cannot start git, which tells what belongs to the sources")?;
    if !listed.status.success() {
        bail!(
            "git cannot list the sources in {}: {}",
            source.display(),
            String::from_utf8_lossy(&listed.stderr).trim()
        );
    }
    let names = String::from_utf8(listed.stdout).context("the name of a source file is not UTF-8")?;
    // Git still knows what was deleted a moment ago.
    let is_there = |name: &&str| !name.is_empty() && source.join(name).is_file();
    Ok(names.split('\0').filter(is_there).map(PathBuf::from).collect())
}

fn remove_others(root: &Path, directory: &Path, files: &BTreeSet<PathBuf>) -> Result<()> {
    let entries = fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            remove_others(root, &path, files)?;
        } else if !path.strip_prefix(root).is_ok_and(|name| files.contains(name)) {
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(())
}
