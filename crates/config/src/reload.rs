//! Decides which changed keys only a restart can bring into effect, and keeps those as they were until then.

use serde_json::Value;

use crate::effective::{Config, opt_in_rules};
use crate::keys::keys;
use crate::settings::{Metrics, Webhook};

/// What is fixed when the process starts: what it listens on, which watches it opened, who it is among its peers.
/// A name stands for itself and everything under it.
const FIXED: [&str; 18] = [
    "optIn",
    "controller.workers",
    "controller.watchNamespaces",
    "controller.leaderElection",
    "webhook.enabled",
    "webhook.bindAddress",
    "webhook.port",
    "webhook.certificates",
    "webhook.certDir",
    "webhook.clientCaFile",
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

/// The configuration to put in force in place of the one from the start: the new one, with what only a restart changes as
/// it was. So nobody is managed whom no watch shows, and nothing is moved that no webhook steers.
#[must_use]
pub fn reloaded(new: Config, started: &Config) -> Config {
    let Config { mut settings, opt_in: _, policy_defaults, classes } = new;
    let old = started.settings.clone();
    settings.opt_in = old.opt_in;
    settings.controller.workers = old.controller.workers;
    settings.controller.watch_namespaces = old.controller.watch_namespaces;
    settings.controller.leader_election = old.controller.leader_election;
    settings.webhook = Webhook { on_conflict: settings.webhook.on_conflict, ..old.webhook };
    settings.interruption.agent = old.interruption.agent;
    settings.interruption.sqs = old.interruption.sqs;
    settings.logging.format = old.logging.format;
    settings.metrics = Metrics { per_workload: settings.metrics.per_workload, ..old.metrics };
    settings.health = old.health;
    Config { opt_in: opt_in_rules(&settings), settings, policy_defaults, classes }
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

    #[test]
    fn what_is_fixed_keeps_its_value_and_everything_else_does_not() {
        let old = config(&[]);
        let new = config(&[
            ("SPOTALIS_OPT_IN", "either"),
            ("SPOTALIS_CONTROLLER_WORKERS", "7"),
            ("SPOTALIS_CONTROLLER_WATCH_NAMESPACES", "[shop]"),
            ("SPOTALIS_CONTROLLER_NAMESPACE_SELECTOR", "{matchLabels: {team: a}}"),
            ("SPOTALIS_CONTROLLER_LEADER_ELECTION_NAMESPACE", "other"),
            ("SPOTALIS_CONTROLLER_COOLDOWN", "20s"),
            ("SPOTALIS_WEBHOOK_ENABLED", "false"),
            ("SPOTALIS_WEBHOOK_BIND_ADDRESS", "127.0.0.1"),
            ("SPOTALIS_WEBHOOK_PORT", "1443"),
            ("SPOTALIS_WEBHOOK_PEER_PORT", "1444"),
            ("SPOTALIS_WEBHOOK_CERT_DIR", "/elsewhere"),
            ("SPOTALIS_WEBHOOK_ON_CONFLICT", "override"),
            ("SPOTALIS_INTERRUPTION_AGENT_PORT", "1082"),
            ("SPOTALIS_INTERRUPTION_SQS_QUEUE_URL", "https://sqs.eu-west-1.amazonaws.com/1/queue"),
            ("SPOTALIS_LOGGING_FORMAT", "console"),
            ("SPOTALIS_LOGGING_LEVEL", "debug"),
            ("SPOTALIS_METRICS_ENABLED", "false"),
            ("SPOTALIS_METRICS_PORT", "1080"),
            ("SPOTALIS_METRICS_PER_WORKLOAD", "false"),
            ("SPOTALIS_HEALTH_PORT", "1081"),
        ]);
        let kept = reloaded(new.clone(), &old);
        assert_eq!(changed_needing_restart(&old, &kept), [""; 0]);
        let differing = |a: &Config, b: &Config| -> Vec<String> {
            let [a, b] = [a, b].map(Config::to_json);
            keys().into_iter().map(|key| key.path).filter(|path| value(&a, path) != value(&b, path)).collect()
        };
        let taken_over: Vec<String> = differing(&old, &new).into_iter().filter(|path| !needs_restart(path)).collect();
        assert_eq!(taken_over.len(), 5, "{taken_over:?}");
        assert_eq!(differing(&old, &kept), taken_over);
        assert_eq!(kept.opt_in.mode, old.opt_in.mode);
        assert_eq!(kept.opt_in.watch_namespaces, old.opt_in.watch_namespaces);
        assert_eq!(kept.opt_in.namespace_selector, new.opt_in.namespace_selector);
    }
}
