//! From the configuration to what each part needs of it.

use std::sync::Arc;

use spotalis_config::{Config, ConflictRule, LogFormat, LogLevel, Provisioner, ScaleDownOrder};
use spotalis_core::election::Timing;
use spotalis_core::steering::OnConflict;
use spotalis_kube::index;
use spotalis_runtime::telemetry::Format;

/// What the index needs.
pub fn rules(config: &Config) -> index::Rules {
    index::Rules {
        opt_in: config.opt_in.clone(),
        classes: Arc::new(config.classes.clone()),
        defaults: config.policy_defaults.clone(),
        on_conflict: match config.settings.webhook.on_conflict {
            ConflictRule::Respect => OnConflict::Respect,
            ConflictRule::Override => OnConflict::Override,
        },
        provisioner: match config.settings.distribution.provisioner {
            Provisioner::Auto => index::Provisioner::Auto,
            Provisioner::Always => index::Provisioner::Always,
            Provisioner::Never => index::Provisioner::Never,
        },
    }
}

/// What balance needs.
pub fn balance_settings(config: &Config) -> spotalis_controller::Settings {
    let settings = &config.settings;
    spotalis_controller::Settings {
        read_only: settings.read_only_mode,
        steering: settings.webhook.enabled,
        resync: settings.controller.resync_period,
        workers: settings.controller.workers as usize,
        cooldown: settings.controller.cooldown,
        max_disruptions: settings.controller.max_concurrent_disruptions as usize,
        seating: uses_deletion_cost(config),
        per_workload_metrics: settings.metrics.per_workload,
    }
}

/// What admission needs.
pub fn admission_settings(config: &Config) -> spotalis_webhook::admission::Settings {
    spotalis_webhook::admission::Settings {
        read_only: config.settings.read_only_mode,
        deletion_cost: uses_deletion_cost(config),
    }
}

fn uses_deletion_cost(config: &Config) -> bool {
    match config.settings.distribution.scale_down_order {
        ScaleDownOrder::PodDeletionCost => true,
        ScaleDownOrder::None => false,
    }
}

/// The durations of the election.
pub fn timing(config: &Config) -> Timing {
    let election = &config.settings.controller.leader_election;
    Timing::new(election.lease_duration, election.renew_deadline, election.retry_period)
        .expect("the configuration was checked for this order when it was read")
}

/// The word for a log level.
pub const fn log_level(config: &Config) -> &'static str {
    match config.settings.logging.level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    }
}

/// How log lines are written.
pub const fn log_format(config: &Config) -> Format {
    match config.settings.logging.format {
        LogFormat::Json => Format::Json,
        LogFormat::Console => Format::Console,
    }
}
