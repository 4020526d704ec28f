//! Decides which changed keys only a restart can bring into effect.

use serde_json::Value;

use crate::effective::Config;
use crate::keys::keys;

/// What is fixed when the process starts: what it listens on, which watches it opened, who it is among its peers.
/// A name stands for itself and everything under it.
const FIXED: [&str; 17] = [
    "optIn",
    "controller.workers",
    "controller.watchNamespaces",
    "controller.leaderElection",
    "webhook.enabled",
    "webhook.bindAddress",
    "webhook.port",
    "webhook.certificates",
    "webhook.certDir",
    "webhook.peerPort",
    "interruption.agent",
    "interruption.sqs",
    "logging.format",
    "metrics.enabled",
    "metrics.bindAddress",
    "metrics.port",
    "health",
];

/// Whether a change of this key waits for a restart.
pub(crate) fn needs_restart(path: &str) -> bool {
    FIXED.iter().any(|fixed| path.strip_prefix(fixed).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
}

/// The paths of keys that differ and take effect only after a restart. Every other difference holds at once.
pub fn changed_needing_restart(old: &Config, new: &Config) -> Vec<String> {
    let [old, new] = [old, new].map(Config::to_json);
    keys()
        .into_iter()
        .filter(|key| !key.reloadable && value(&old, &key.path) != value(&new, &key.path))
        .map(|key| key.path)
        .collect()
}

fn value<'v>(settings: &'v Value, path: &str) -> Option<&'v Value> {
    path.split('.').try_fold(settings, |section, key| section.get(key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effective::Sources;

    fn config(variables: &[(&str, &str)]) -> Config {
        let environment = variables.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        Config::load(&Sources { environment, ..Sources::default() }).unwrap()
    }

    #[test]
    fn names_exist() {
        let keys = keys();
        for fixed in FIXED {
            let under = |path: &str| path == fixed || path.starts_with(&format!("{fixed}."));
            assert!(keys.iter().any(|key| under(&key.path)), "{fixed}");
        }
    }

    #[test]
    fn only_what_is_fixed_and_differs() {
        let old = config(&[]);
        assert_eq!(changed_needing_restart(&old, &old), [""; 0]);
        let new = config(&[
            ("SPOTALIS_LOGGING_LEVEL", "debug"),
            ("SPOTALIS_DISTRIBUTION_DEFAULTS_SPOT_PERCENTAGE", "70"),
            ("SPOTALIS_NODE_LABELS_PRESET", "eks"),
            ("SPOTALIS_CONTROLLER_API_CLIENT_QPS", "20"),
        ]);
        assert_eq!(changed_needing_restart(&old, &new), [""; 0]);
        let new = config(&[
            ("SPOTALIS_LOGGING_FORMAT", "console"),
            ("SPOTALIS_CONTROLLER_LEADER_ELECTION_ENABLED", "false"),
            ("SPOTALIS_CONTROLLER_COOLDOWN", "20s"),
            ("SPOTALIS_HEALTH_PORT", "9081"),
        ]);
        assert_eq!(
            changed_needing_restart(&old, &new),
            ["controller.leaderElection.enabled", "health.port", "logging.format"]
        );
    }
}
