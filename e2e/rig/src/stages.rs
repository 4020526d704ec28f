//! Says how the pretend nodes treat pods: when a pod becomes ready, when it is gone, whether it crashes.
//!
//! KWOK's own fast stages are the base; two of them get a delay. A pod's annotations overrule the rig's defaults, so tests
//! that share a rig need no stages of their own.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

/// Pod annotation: ready so long after it was bound, such as `1500ms` or `5s`.
pub const READY_AFTER: &str = "rig.spotalis.io/ready-after";
/// Pod annotation: gone so long after its deletion, such as `30s`.
pub const TERMINATED_AFTER: &str = "rig.spotalis.io/terminated-after";
/// Pod annotation: crashes so long after it became ready.
pub const CRASH_AFTER: &str = "rig.spotalis.io/crash-after";
/// Pod annotation: ready again so long after a crash; never without it.
pub const RECOVER_AFTER: &str = "rig.spotalis.io/recover-after";

const CRASH_LOOP: &str = include_str!("../stages/crash-loop.yaml");

/// The stages of the nodes and pods of a rig.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stages {
    ready_after: Duration,
    terminated_after: Duration,
    extra: Vec<String>,
    only: Option<String>,
}

impl Stages {
    /// Nothing but these: YAML documents of kind `Stage`, for nodes as well as for pods.
    pub fn only(yaml: impl Into<String>) -> Self {
        Self { only: Some(yaml.into()), ..Self::default() }
    }

    /// Pods become ready so long after they were bound, unless [`READY_AFTER`] says otherwise. Whole milliseconds.
    #[must_use]
    pub fn ready_after(self, ready_after: Duration) -> Self {
        Self { ready_after, ..self }
    }

    /// Pods are gone so long after their deletion, unless [`TERMINATED_AFTER`] says otherwise. Whole milliseconds.
    #[must_use]
    pub fn terminated_after(self, terminated_after: Duration) -> Self {
        Self { terminated_after, ..self }
    }

    /// These besides: YAML documents of kind `Stage`.
    #[must_use]
    pub fn with_yaml(mut self, yaml: impl Into<String>) -> Self {
        self.extra.push(yaml.into());
        self
    }

    /// The whole configuration file, on the base of the stages in `base`.
    pub(crate) fn render(&self, base: &Path) -> Result<String, StagesError> {
        let Self { ready_after, terminated_after, extra, only } = self;
        if let Some(only) = only {
            return Ok(only.clone());
        }
        let mut documents = Vec::new();
        let mut paths: Vec<_> =
            fs::read_dir(base)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
        paths.sort();
        for path in paths {
            let text = fs::read_to_string(&path)?;
            documents.push(match path.file_name().and_then(|name| name.to_str()) {
                Some("pod-ready.yaml") => delayed(&text, *ready_after, READY_AFTER)?,
                Some("pod-delete.yaml") => delayed(&text, *terminated_after, TERMINATED_AFTER)?,
                _ => text,
            });
        }
        documents.push(CRASH_LOOP.to_owned());
        documents.extend(extra.iter().cloned());
        Ok(documents.join("\n---\n"))
    }
}

/// The stages cannot be put together.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StagesError {
    #[error("cannot read KWOK's stages")]
    Read(#[from] std::io::Error),
    #[error("KWOK's stage is not the YAML it was")]
    Yaml(#[from] serde_saphyr::Error),
}

/// The stage with a delay: as the pod's annotation says, else the given one.
fn delayed(stage: &str, delay: Duration, annotation: &str) -> Result<String, StagesError> {
    let mut stage: Value = serde_saphyr::from_str(stage)?;
    stage["spec"]["delay"] = json!({
        "durationMilliseconds": u64::try_from(delay.as_millis()).unwrap_or(u64::MAX),
        "durationFrom": {"expressionFrom": format!(".metadata.annotations[\"{annotation}\"]")},
    });
    Ok(stage.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_is_the_default_and_gives_way_to_the_annotation() {
        let stage = "kind: Stage\nspec:\n  next:\n    delete: true\n";
        let delayed: Value =
            serde_json::from_str(&delayed(stage, Duration::from_secs(2), READY_AFTER).unwrap()).unwrap();
        assert_eq!(delayed["spec"]["delay"]["durationMilliseconds"], 2000);
        let expression = &delayed["spec"]["delay"]["durationFrom"]["expressionFrom"];
        assert_eq!(expression, r#".metadata.annotations["rig.spotalis.io/ready-after"]"#);
        assert_eq!(delayed["spec"]["next"]["delete"], true);
    }

    #[test]
    fn the_crash_stages_use_the_published_annotations() {
        assert!(CRASH_LOOP.contains(CRASH_AFTER));
        assert!(CRASH_LOOP.contains(RECOVER_AFTER));
    }
}
