//! From the configuration to what each part wants to know of it. Only translation: nothing is decided or defaulted here.

use std::sync::Arc;

use spotalis_config::{Config, ConflictRule, Provisioner, ScaleDownOrder};
use spotalis_core::election::Timing;
use spotalis_core::steering::OnConflict;
use spotalis_kube::index;
use spotalis_webhook::admission;

/// What the index derives policies, opt-in and node types from.
pub fn rules(config: &Config) -> index::Rules {
    let Config { settings, opt_in, policy_defaults, classes } = config;
    index::Rules {
        opt_in: opt_in.clone(),
        classes: Arc::new(classes.clone()),
        defaults: policy_defaults.clone(),
        on_conflict: match settings.webhook.on_conflict {
            ConflictRule::Respect => OnConflict::Respect,
            ConflictRule::Override => OnConflict::Override,
        },
        provisioner: match settings.distribution.provisioner {
            Provisioner::Auto => index::Provisioner::Auto,
            Provisioner::Always => index::Provisioner::Always,
            Provisioner::Never => index::Provisioner::Never,
        },
    }
}

/// What balance acts by.
pub fn balance_settings(config: &Config) -> spotalis_controller::Settings {
    let settings = &config.settings;
    spotalis_controller::Settings {
        read_only: settings.read_only_mode,
        steering: settings.webhook.enabled,
        resync: settings.controller.resync_period,
        workers: count(settings.controller.workers),
        cooldown: settings.controller.cooldown,
        max_disruptions: count(settings.controller.max_concurrent_disruptions),
        seating: leads_scale_downs(config),
        per_workload_metrics: settings.metrics.per_workload,
    }
}

/// What admission answers by.
pub(crate) fn admission_settings(config: &Config) -> admission::Settings {
    admission::Settings { read_only: config.settings.read_only_mode, deletion_cost: leads_scale_downs(config) }
}

/// The three durations of leader election.
pub(crate) fn timing(config: &Config) -> Timing {
    let election = &config.settings.controller.leader_election;
    Timing::new(election.lease_duration, election.renew_deadline, election.retry_period)
        .expect("a loaded configuration keeps leaseDuration > renewDeadline > retryPeriod > 0")
}

fn leads_scale_downs(config: &Config) -> bool {
    match config.settings.distribution.scale_down_order {
        ScaleDownOrder::PodDeletionCost => true,
        ScaleDownOrder::None => false,
    }
}

fn count(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
