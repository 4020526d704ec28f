//! Reads from the environment what the rig wants to know of it. The only place in this crate that does.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Where the built programs are kept.
const CACHE: &str = "SPOTALIS_RIG_CACHE";
/// Where the ecosystem's tools expect kube-apiserver, etcd and kubectl.
const ASSETS: &str = "KUBEBUILDER_ASSETS";
/// Set to anything but `0`: a rig that cannot be built fails its test instead of skipping it.
const REQUIRED: &str = "SPOTALIS_RIG_REQUIRED";

/// What the environment says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Surroundings {
    /// The directory of built programs.
    pub(crate) cache: PathBuf,
    /// A directory whose kube-apiserver, etcd and kubectl take precedence over the built ones.
    pub(crate) assets: Option<PathBuf>,
    /// A missing Go is an error even for those who would skip.
    pub(crate) required: bool,
}

impl Surroundings {
    /// Reads the process environment.
    pub(crate) fn read() -> Self {
        Self::of(|name| env::var_os(name).filter(|value| !value.is_empty()))
    }

    fn of(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let user_cache = || match variable("XDG_CACHE_HOME") {
            Some(cache) => PathBuf::from(cache),
            None => variable("HOME").map_or_else(env::temp_dir, PathBuf::from).join(".cache"),
        };
        Self {
            cache: variable(CACHE).map_or_else(|| user_cache().join("spotalis-rig"), PathBuf::from),
            assets: variable(ASSETS).map(PathBuf::from),
            required: variable(REQUIRED).is_some_and(|value| value != "0"),
        }
    }
}

/// Where running rigs keep their data, logs and state: `target/rig` of this workspace.
pub(crate) fn rigs_dir() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("this crate lies two levels deep");
    workspace.join("target").join("rig")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(pairs: &'static [(&'static str, &'static str)]) -> Surroundings {
        Surroundings::of(|name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into()))
    }

    #[test]
    fn cache_is_the_named_one_else_the_users() {
        assert_eq!(given(&[("SPOTALIS_RIG_CACHE", "/a"), ("HOME", "/h")]).cache, Path::new("/a"));
        assert_eq!(given(&[("XDG_CACHE_HOME", "/x"), ("HOME", "/h")]).cache, Path::new("/x/spotalis-rig"));
        assert_eq!(given(&[("HOME", "/h")]).cache, Path::new("/h/.cache/spotalis-rig"));
    }

    #[test]
    fn required_unless_absent_or_zero() {
        assert!(!given(&[]).required);
        assert!(!given(&[("SPOTALIS_RIG_REQUIRED", "0")]).required);
        assert!(given(&[("SPOTALIS_RIG_REQUIRED", "1")]).required);
    }
}
