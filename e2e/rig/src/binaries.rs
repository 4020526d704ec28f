//! Gives the programs of the control plane: from the cache, and into it by `go build` when they are missing.
//!
//! A bundle's directory is named by a hash of everything that decides its content, is built under another name and then
//! renamed, under a file lock. So a second run builds nothing, another clone neither; two builders at once build once;
//! and one that dies leaves nothing that looks finished.

use std::env::consts;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::report::{Building, say};
use crate::rig::test_name;
use crate::surroundings::Surroundings;

/// What keeps the programs from being there.
#[derive(Debug, thiserror::Error)]
pub enum BinariesError {
    /// There is no Go, and nothing built in the cache.
    #[error(
        "needs Go to build {bundle}, and there is no `go` on PATH: install Go 1.26 or newer (https://go.dev/dl), \
         or copy a filled cache to {}", cache.display()
    )]
    NoGo {
        /// What was to be built.
        bundle: &'static str,
        /// Where it would have been found.
        cache: PathBuf,
    },
    /// Go ran and failed.
    #[error("`go {args}` for {bundle} failed; its last words:\n{tail}")]
    Go {
        /// What was to be built.
        bundle: &'static str,
        /// What Go was asked.
        args: String,
        /// The end of what it said.
        tail: String,
    },
    /// A file or directory of the cache.
    #[error("cannot {doing} {}", path.display())]
    File {
        /// What was attempted.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl BinariesError {
    /// Nothing is wrong but that this machine cannot build the programs: a test may skip.
    pub const fn is_no_go(&self) -> bool {
        match self {
            Self::NoGo { .. } => true,
            Self::Go { .. } | Self::File { .. } => false,
        }
    }
}

/// The programs, and the files that come with them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binaries {
    /// etcd.
    pub etcd: PathBuf,
    /// kube-apiserver.
    pub kube_apiserver: PathBuf,
    /// kube-controller-manager.
    pub kube_controller_manager: PathBuf,
    /// kube-scheduler.
    pub kube_scheduler: PathBuf,
    /// kubectl.
    pub kubectl: PathBuf,
    /// KWOK, which plays the kubelets.
    pub kwok: PathBuf,
    /// The directory of KWOK's own stages.
    pub kwok_stages: PathBuf,
    /// Karpenter, when asked for.
    pub karpenter: Option<Karpenter>,
}

/// Karpenter's program and what it needs in the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Karpenter {
    /// Its program.
    pub program: PathBuf,
    /// The directory of its `CustomResourceDefinition`s.
    pub crds: PathBuf,
}

impl Binaries {
    /// Finds the programs, building what is missing. Takes minutes the first time, and blocks.
    pub fn obtain(karpenter: bool) -> Result<Self, BinariesError> {
        Self::obtain_in(&Surroundings::read(), karpenter)
    }

    /// As [`Self::obtain`], for tests that need no rig: skips as [`crate::Rig::start_or_skip`] does.
    pub fn obtain_or_skip(karpenter: bool) -> Result<Option<Self>, BinariesError> {
        match Self::obtain(karpenter) {
            Err(error) if error.is_no_go() && !Surroundings::read().required => {
                say(format!("skipped {}: {error}", test_name()));
                Ok(None)
            }
            result => result.map(Some),
        }
    }

    pub(crate) fn obtain_in(surroundings: &Surroundings, karpenter: bool) -> Result<Self, BinariesError> {
        let Surroundings { cache, assets, required: _ } = surroundings;
        let kubernetes = KUBERNETES.obtain(cache)?;
        let kwok = KWOK.obtain(cache)?;
        let karpenter = if karpenter { Some(KARPENTER.obtain(cache)?) } else { None };
        let preferred = |name: &str| {
            let asset = assets.as_ref().map(|assets| assets.join(name)).filter(|asset| asset.is_file());
            asset.unwrap_or_else(|| kubernetes.join(name))
        };
        Ok(Self {
            etcd: preferred("etcd"),
            kube_apiserver: preferred("kube-apiserver"),
            kubectl: preferred("kubectl"),
            kube_controller_manager: kubernetes.join("kube-controller-manager"),
            kube_scheduler: kubernetes.join("kube-scheduler"),
            kwok: kwok.join("kwok"),
            kwok_stages: kwok.join("stages"),
            karpenter: karpenter
                .map(|karpenter| Karpenter { program: karpenter.join("karpenter"), crds: karpenter.join("crds") }),
        })
    }
}

/// A Go module of this crate, and what becomes of it in the cache.
struct Bundle {
    /// Names it in messages and in the cache.
    name: &'static str,
    /// Its `go.mod`, with the versions.
    go_mod: &'static str,
    /// Its `go.sum`.
    go_sum: &'static str,
    /// Programs that Go calls after their directory, and what they are called here.
    renamed: &'static [(&'static str, &'static str)],
    /// The module whose version the Kubernetes programs are to report.
    reports: Option<&'static str>,
    /// YAML files to take along.
    files: &'static [Files],
}

/// YAML files that lie in a Go module.
struct Files {
    module: &'static str,
    from: &'static str,
    into: &'static str,
}

const KUBERNETES: Bundle = Bundle {
    name: "kubernetes",
    go_mod: include_str!("../go/kubernetes/go.mod"),
    go_sum: include_str!("../go/kubernetes/go.sum"),
    renamed: &[("server", "etcd")],
    reports: Some("k8s.io/kubernetes"),
    files: &[],
};

const KWOK: Bundle = Bundle {
    name: "kwok",
    go_mod: include_str!("../go/kwok/go.mod"),
    go_sum: include_str!("../go/kwok/go.sum"),
    renamed: &[],
    reports: None,
    files: &[
        Files { module: "sigs.k8s.io/kwok", from: "kustomize/stage/node/fast", into: "stages" },
        Files { module: "sigs.k8s.io/kwok", from: "kustomize/stage/node/heartbeat-with-lease", into: "stages" },
        Files { module: "sigs.k8s.io/kwok", from: "kustomize/stage/pod/fast", into: "stages" },
    ],
};

const KARPENTER: Bundle = Bundle {
    name: "karpenter",
    go_mod: include_str!("../go/karpenter/go.mod"),
    go_sum: include_str!("../go/karpenter/go.sum"),
    renamed: &[("kwok", "karpenter")],
    reports: None,
    files: &[
        Files { module: "sigs.k8s.io/karpenter", from: "kwok/apis/crds", into: "crds" },
        Files { module: "sigs.k8s.io/karpenter", from: "kwok/charts/crds", into: "crds" },
    ],
};

/// Part of every name in the cache: raise it when the way of building changes.
const RECIPE: &str = "1";

impl Bundle {
    /// The bundle's directory in the cache, filled.
    fn obtain(&self, cache: &Path) -> Result<PathBuf, BinariesError> {
        let target = cache.join(self.directory());
        if target.is_dir() {
            return Ok(target);
        }
        create_dir(cache)?;
        let _lock = self.lock(cache)?;
        // Somebody else may have built it while this process waited.
        if !target.is_dir() {
            self.build_into(&target, cache)?;
        }
        Ok(target)
    }

    /// Named by all that decides its content but the version of Go: that one changes how the programs are compiled, not
    /// what they do, and a filled cache is of use where there is no Go at all.
    fn directory(&self) -> String {
        let key = fnv1a(&[RECIPE, self.go_mod, self.go_sum]);
        format!("{}-{key:016x}-{}-{}", self.name, consts::OS, consts::ARCH)
    }

    /// Held until dropped, or until this process ends in whatever way.
    fn lock(&self, cache: &Path) -> Result<File, BinariesError> {
        let path = cache.join(format!("{}.lock", self.name));
        let lock = File::create(&path).map_err(file("create", &path))?;
        if lock.try_lock().is_err() {
            say(format!("rig: waiting for another build of {} to end", self.name));
            lock.lock().map_err(file("lock", &path))?;
        }
        Ok(lock)
    }

    fn build_into(&self, target: &Path, cache: &Path) -> Result<(), BinariesError> {
        let work = cache.join(format!(".{}", self.name));
        // Left by one that died.
        remove_dir(&work)?;
        create_dir(&work)?;
        write(&work.join("go.mod"), self.go_mod)?;
        write(&work.join("go.sum"), self.go_sum)?;
        let built = self.build(&work, cache).and_then(|fresh| fs::rename(&fresh, target).map_err(file("name", target)));
        remove_dir(&work)?;
        built
    }

    /// Builds all programs of the module and collects the files, in a directory under `work`.
    fn build(&self, work: &Path, cache: &Path) -> Result<PathBuf, BinariesError> {
        if !has_go() {
            return Err(BinariesError::NoGo { bundle: self.name, cache: cache.to_owned() });
        }
        let fresh = work.join("fresh");
        create_dir(&fresh)?;
        let mut building = Building::begin(self.name);
        let ldflags = format!("-ldflags=-s -w{}", self.version_flags(work)?);
        let output = format!("{}/", fresh.display());
        self.go_build(work, &["build", "-v", "-trimpath", &ldflags, "-o", &output, "tool"], &mut building)?;
        for (from, to) in self.renamed {
            fs::rename(fresh.join(from), fresh.join(to)).map_err(file("rename", &fresh.join(from)))?;
        }
        for Files { module, from, into } in self.files {
            let root = self.go(work, &["list", "-m", "-f", "{{.Dir}}", module])?;
            copy_yaml(&Path::new(root.trim()).join(from), &fresh.join(into))?;
        }
        building.finish();
        Ok(fresh)
    }

    /// Linker flags that make the Kubernetes programs report their version, as their own build does.
    fn version_flags(&self, work: &Path) -> Result<String, BinariesError> {
        let Some(module) = self.reports else { return Ok(String::new()) };
        let said = self.go(work, &["list", "-m", "-f", "{{.Version}}", module])?;
        Ok(version_flags(said.trim()))
    }

    fn command(work: &Path, args: &[&str]) -> Command {
        let mut command = Command::new("go");
        command
            .args(args)
            .current_dir(work)
            .env("CGO_ENABLED", "0")
            .env("GOWORK", "off")
            .env("GOFLAGS", "-mod=readonly");
        command.stdin(Stdio::null());
        command
    }

    fn go(&self, work: &Path, args: &[&str]) -> Result<String, BinariesError> {
        let output = Self::command(work, args).output().map_err(file("run", Path::new("go")))?;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            Err(self.failed(args, String::from_utf8_lossy(&output.stderr).trim().to_owned()))
        }
    }

    fn go_build(&self, work: &Path, args: &[&str], building: &mut Building) -> Result<(), BinariesError> {
        let run = file("run", Path::new("go"));
        let mut child = Self::command(work, args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().map_err(&run)?;
        let stderr = child.stderr.take().expect("its standard error was asked for");
        let mut last = Tail::default();
        for line in BufReader::new(stderr).lines() {
            let line = line.map_err(&run)?;
            building.note(&line);
            last.push(line);
        }
        let status = child.wait().map_err(&run)?;
        if status.success() { Ok(()) } else { Err(self.failed(args, last.to_string())) }
    }

    fn failed(&self, args: &[&str], tail: String) -> BinariesError {
        BinariesError::Go { bundle: self.name, args: args.join(" "), tail }
    }
}

fn has_go() -> bool {
    let asked = Command::new("go").arg("version").stdin(Stdio::null()).stdout(Stdio::null()).status();
    !matches!(asked, Err(error) if error.kind() == io::ErrorKind::NotFound)
}

/// The last lines of something long.
#[derive(Default)]
struct Tail(Vec<String>);

impl Tail {
    const LINES: usize = 30;

    fn push(&mut self, line: String) {
        if self.0.len() == Self::LINES {
            self.0.remove(0);
        }
        self.0.push(line);
    }
}

impl fmt::Display for Tail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

/// FNV-1a, 64 bits: the same in every release of Rust, unlike the standard library's hasher.
fn fnv1a(parts: &[&str]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    // 0xff is no byte of UTF-8: it keeps the parts apart.
    for byte in parts.iter().flat_map(|part| part.bytes().chain([0xff])) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash
}

fn version_flags(version: &str) -> String {
    let mut numbers = version.trim_start_matches('v').split('.');
    let (major, minor) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    let facts = [("gitVersion", version), ("gitMajor", major), ("gitMinor", minor), ("gitTreeState", "clean")];
    ["k8s.io/client-go/pkg/version", "k8s.io/component-base/version"]
        .iter()
        .flat_map(|package| facts.iter().map(move |(key, value)| format!(" -X {package}.{key}={value}")))
        .collect()
}

/// Kustomizations are YAML as well, and nothing that a cluster knows.
fn copy_yaml(from: &Path, into: &Path) -> Result<(), BinariesError> {
    create_dir(into)?;
    for path in entries(from)? {
        let Some(name) = path.file_name().filter(|name| *name != "kustomization.yaml") else { continue };
        if path.extension().is_some_and(|extension| extension == "yaml") {
            // Read and write rather than copy: the module cache is read-only, and a copy would be so too.
            write(&into.join(name), &fs::read_to_string(&path).map_err(file("read", &path))?)?;
        }
    }
    Ok(())
}

/// The entries of a directory in the order of their names.
fn entries(dir: &Path) -> Result<Vec<PathBuf>, BinariesError> {
    let listed = fs::read_dir(dir).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
    let mut paths: Vec<PathBuf> = listed.map_err(file("list", dir))?;
    paths.sort();
    Ok(paths)
}

fn write(path: &Path, text: &str) -> Result<(), BinariesError> {
    fs::write(path, text).map_err(file("write", path))
}

fn create_dir(path: &Path) -> Result<(), BinariesError> {
    fs::create_dir_all(path).map_err(file("create", path))
}

fn remove_dir(path: &Path) -> Result<(), BinariesError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result.map_err(file("remove", path)),
    }
}

fn file(doing: &'static str, path: &Path) -> impl Fn(io::Error) -> BinariesError + use<> {
    let path = path.to_owned();
    move |source| BinariesError::File { doing, path: path.clone(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_follows_every_part() {
        assert_eq!(fnv1a(&[]), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(&["a", "b"]), fnv1a(&["a", "b"]));
        assert_ne!(fnv1a(&["ab", ""]), fnv1a(&["a", "b"]));
        assert_ne!(fnv1a(&["a", "b"]), fnv1a(&["b", "a"]));
    }

    #[test]
    fn version_flags_name_both_packages() {
        let flags = version_flags("v1.36.3");
        for package in ["k8s.io/client-go/pkg/version", "k8s.io/component-base/version"] {
            assert!(flags.contains(&format!(" -X {package}.gitVersion=v1.36.3")), "{flags}");
            assert!(flags.contains(&format!(" -X {package}.gitMinor=36")), "{flags}");
        }
    }

    #[test]
    fn what_is_in_the_cache_needs_no_go() {
        let cache = std::env::temp_dir().join(format!("rig-binaries-{}", std::process::id()));
        let filled = cache.join(KWOK.directory());
        create_dir(&filled).unwrap();
        assert_eq!(KWOK.obtain(&cache).unwrap(), filled);
        remove_dir(&cache).unwrap();
    }

    #[test]
    fn a_missing_go_is_told_apart_and_says_what_to_do() {
        let error = BinariesError::NoGo { bundle: "kwok", cache: "/cache".into() };
        assert!(error.is_no_go());
        assert!(error.to_string().contains("install Go"), "{error}");
        assert!(!BinariesError::Go { bundle: "kwok", args: String::new(), tail: String::new() }.is_no_go());
    }

    #[test]
    fn the_tail_keeps_the_last_lines() {
        let mut tail = Tail::default();
        (0..100).for_each(|line| tail.push(line.to_string()));
        assert!(tail.to_string().starts_with("70\n"));
        assert!(tail.to_string().ends_with("\n99"));
    }
}
