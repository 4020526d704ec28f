//! What holds after all layers, from an untouched installation to every layer at once.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use spotalis_config::{AtDeadline, Certificates, Config, Flags, LogFormat, LogLevel, Sources, keys};
use spotalis_core::capacity::CapacityType;
use spotalis_core::opt_in::Mode;
use spotalis_core::policy::{self, Level, Placement};
use spotalis_core::selector::Labels;
use spotalis_core::split::{Floor, Percentage, Rounding};

/// A file that is gone with the test.
struct File(PathBuf);

impl File {
    fn new(name: &str, text: impl AsRef<[u8]>) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("spotalis-layers-{}-{number}-{name}.yaml", std::process::id()));
        std::fs::write(&path, text).expect("the temporary directory takes files");
        Self(path)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn load(name: &str, file: &str, variables: &[(&str, &str)], flags: Flags) -> Config {
    let file = File::new(name, file);
    let environment = variables.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    Config::load(&Sources { file: Some(file.0.clone()), environment, flags })
        .unwrap_or_else(|errors| panic!("{errors}"))
}

/// The defaults as the reference names them, with the certificate source that this release can do and the addresses.
const WRITTEN_OUT: &str = r#"
optIn: both
readOnlyMode: false
controller: {resyncPeriod: 30s, workers: 5, cooldown: 10s, maxConcurrentDisruptions: 5, watchNamespaces: [], namespaceSelector: {},
             apiClient: {qps: 50, burst: 100},
             leaderElection: {enabled: true, namespace: spotalis-system, leaseDuration: 15s, renewDeadline: 10s, retryPeriod: 2s}}
distribution: {rounding: ceil, placement: required, spotFallbackAfter: 3m, provisioner: auto, scaleDownOrder: pod-deletion-cost, defaults: {}}
disruptionWindow: {schedule: "", duration: "", timeZone: UTC}
nodeLabels: {preset: karpenter}
tolerations: {spot: [], onDemand: []}
webhook: {enabled: true, bindAddress: 0.0.0.0, port: 9443, onConflict: respect, certificates: files, certDir: /tmp/k8s-webhook-server/serving-certs, clientCaFile: '', peerPort: 9444}
protect: {enabled: true, selector: "spot-aware=enabled", namespaceMode: all, namespaces: [], scaleUpDelay: 0s, scaleDownDelay: 5m, maxHold: 30m,
          checkInterval: 30s, handOver: hold}
interruption: {nodeSignals: true, rebalance: auto, agent: {provider: auto, pollInterval: 2s, port: 8082}, sqs: {queueUrl: ""}}
drain: {atDeadline: delete, retryInterval: 5s, karpenterNodes: auto, excludeFromLoadBalancers: false, outOfServiceTaint: false}
guard: {enabled: false, groups: [], pollInterval: 10s, spotTimeout: 2m, nodeReadyTimeout: 3m, onDemandTimeout: 5m, minAge: 2m, stableFor: 2m,
        checkInterval: 30s, retryAfter: 5m, recordTtl: 10m, shieldFor: 7m, utilization: {prescale: 65, max: 75, hard: 95}}
notifications: {webhookUrl: "", template: ""}
prices: {file: "", date: ""}
logging: {level: info, format: json}
metrics: {enabled: true, bindAddress: 0.0.0.0, port: 8080, perWorkload: true}
health: {bindAddress: 0.0.0.0, port: 8081}
"#;

#[test]
fn the_defaults_are_the_documented_ones() {
    let written_out = load("written-out", WRITTEN_OUT, &[], Flags::default());
    let defaults = Config::defaults();
    assert_eq!(defaults.settings, written_out.settings);
    assert_eq!((&defaults.opt_in, &defaults.classes), (&written_out.opt_in, &written_out.classes));
    assert_eq!(defaults.policy_defaults, policy::Defaults::default());
    // Writing a default down makes it the configuration's word.
    assert_eq!(written_out.policy_defaults.placement.level, Level::Config);
}

#[test]
fn nothing_is_the_same_as_the_defaults() {
    for (name, file) in
        [("empty", ""), ("comments", "# all\n# of it\n"), ("hollow", "controller:\n  # workers: 9\nlogging: ~\n")]
    {
        assert_eq!(load(name, file, &[], Flags::default()), Config::defaults(), "{file:?}");
    }
}

#[test]
fn what_is_printed_is_read_again() {
    let file = "
optIn: either
controller: {namespaceSelector: {matchLabels: {team: a}, matchExpressions: [{key: tier, operator: NotIn, values: [x, y]}]}}
distribution: {spotFallbackAfter: never, defaults: {spotPercentage: 70%, minOnDemand: 20%}}
disruptionWindow: {schedule: '0 2 * * 1-5', duration: 4h, timeZone: Europe/Berlin}
nodeLabels: {spot: 'pool in (a,b)', onDemand: '!pool'}
tolerations: {spot: [{key: spot, operator: Exists}, {key: a, value: b, effect: NoExecute, tolerationSeconds: 30}]}
guard: {enabled: true, groups: [{name: workers, spot: asg-a, onDemand: asg-b}]}
";
    let config = load("print", file, &[], Flags::default());
    let yaml = config.to_yaml();
    assert_eq!(load("reprint", &yaml, &[], Flags::default()).settings, config.settings, "{yaml}");
    let yaml = Config::defaults().to_yaml();
    assert_eq!(load("reprint-defaults", &yaml, &[], Flags::default()).settings, Config::defaults().settings, "{yaml}");
}

#[test]
fn secrets_are_not_printed() {
    let address = "https://hooks.example.com/T000/B000/XXXX";
    let config = load("secret", &format!("notifications: {{webhookUrl: '{address}'}}"), &[], Flags::default());
    assert_eq!(config.settings.notifications.webhook_url.expose(), address);
    for shown in [config.to_yaml(), format!("{config:?}"), config.to_json().to_string()] {
        assert!(!shown.contains("hooks.example.com"), "{shown}");
    }
}

#[test]
fn flags_win_over_environment_over_file() {
    let file = "
readOnlyMode: false
logging: {level: debug, format: json}
controller: {workers: 1, watchNamespaces: [a, b], apiClient: {qps: 1, burst: 2}}
distribution: {placement: preferred}
";
    let variables = [
        ("SPOTALIS_LOGGING_LEVEL", "warn"),
        ("SPOTALIS_LOGGING_FORMAT", "console"),
        ("SPOTALIS_CONTROLLER_WORKERS", "7"),
        ("SPOTALIS_CONTROLLER_WATCH_NAMESPACES", "[c]"),
        ("SPOTALIS_CONTROLLER_API_CLIENT", "{qps: 3}"),
        ("SPOTALIS_CONTROLLER_RESYNC_PERIOD", "1m30s"),
        ("SPOTALIS_DISRUPTION_WINDOW_SCHEDULE", "* 2 * * *"),
        ("SPOTALIS_DISRUPTION_WINDOW_DURATION", "1h"),
        ("SPOTALIS_PROTECT_SELECTOR", "!a"),
        ("SPOTALIS_DISTRIBUTION_DEFAULTS_SPOT_PERCENTAGE", "70"),
        ("SPOTALIS_DISTRIBUTION_DEFAULTS_MIN_ON_DEMAND", "20%"),
        ("SPOTALIS_TOLERATIONS_SPOT", "[{key: spot, operator: Exists}]"),
        ("SPOTALIS_CONTROLLER_NAMESPACE_SELECTOR", "{matchLabels: {team: a}}"),
        ("SPOTALIS_METRICS_PER_WORKLOAD", "false"),
        ("SPOTALIS_DRAIN_AT_DEADLINE", "leave"),
        ("SPOTALIS_CONFIG", "/etc/spotalis/config.yaml"),
        ("SPOTALISTIC", "is somebody else's"),
        ("PATH", "/bin"),
    ];
    let flags = Flags { read_only: true, log_level: Some("trace".to_owned()), log_format: None };
    let config = load("layers", file, &variables, flags);
    let settings = &config.settings;
    assert!(settings.read_only_mode);
    assert_eq!((settings.logging.level, settings.logging.format), (LogLevel::Trace, LogFormat::Console));
    let controller = &settings.controller;
    assert_eq!((controller.workers, controller.resync_period), (7, Duration::from_secs(90)));
    assert_eq!((controller.api_client.qps, controller.api_client.burst), (3, 2));
    assert_eq!(config.opt_in.watch_namespaces.iter().map(|name| &**name).collect::<Vec<_>>(), ["c"]);
    assert_eq!(config.opt_in.namespace_selector.to_string(), "team=a");
    assert_eq!(settings.protect.selector.to_string(), "!a");
    assert_eq!(settings.drain.at_deadline, AtDeadline::Leave);
    assert!(!settings.metrics.per_workload);
    let policy = &config.policy_defaults;
    assert_eq!(policy.window.value.to_string(), "opens at `* 2 * * *` for 1h (UTC)");
    assert_eq!((policy.spot_percentage.value, policy.spot_percentage.level), (Percentage::new(70), Level::Config));
    assert_eq!(policy.min_on_demand.value, Floor::Percent(Percentage::new(20).unwrap()));
    assert_eq!((policy.placement.value, policy.placement.level), (Placement::Preferred, Level::Config));
    assert_eq!((policy.spot_fallback_after.level, policy.rounding), (Level::BuiltIn, Rounding::Ceil));
    assert_eq!(config.classes.spot.tolerations.len(), 1);
}

/// Kubernetes gives every container variables about the Services of its namespace, one of them named like a key of ours.
#[test]
fn service_links_are_not_configuration() {
    let links = [
        ("SPOTALIS_WEBHOOK_PORT", "tcp://10.96.14.7:443"),
        ("SPOTALIS_WEBHOOK_SERVICE_HOST", "10.96.14.7"),
        ("SPOTALIS_WEBHOOK_SERVICE_PORT", "443"),
        ("SPOTALIS_WEBHOOK_SERVICE_PORT_HTTPS", "443"),
        ("SPOTALIS_WEBHOOK_PORT_443_TCP", "tcp://10.96.14.7:443"),
        ("SPOTALIS_WEBHOOK_PORT_443_TCP_PROTO", "tcp"),
        ("SPOTALIS_WEBHOOK_PORT_443_TCP_PORT", "443"),
        ("SPOTALIS_WEBHOOK_PORT_443_TCP_ADDR", "10.96.14.7"),
        ("SPOTALIS_METRICS_PORT_8080_UDP_ADDR", "10.96.14.8"),
        ("SPOTALIS_PORT", "tcp://10.96.14.9:80"),
        ("SPOTALIS_SERVICE_HOST", "10.96.14.9"),
    ];
    assert_eq!(load("links", "", &links, Flags::default()), Config::defaults());
    let ours = load("no-link", "", &[("SPOTALIS_WEBHOOK_PORT", "10443")], Flags::default());
    assert_eq!(ours.settings.webhook.port, 10443);
}

#[test]
fn every_key_can_be_set_by_its_variable() {
    let file = "guard: {enabled: true, groups: [{name: a, spot: b, onDemand: c}]}\nnodeLabels: {spot: a, onDemand: '!a'}\n\
                prices: {file: /p.yaml, date: '2026-07-20'}";
    let config = load("every", file, &[], Flags::default());
    for key in keys() {
        let value =
            key.path.split('.').fold(config.to_json(), |value, step| value.get(step).cloned().unwrap_or_default());
        let text = match value {
            serde_json::Value::String(text) => text,
            serde_json::Value::Null => continue,
            other => other.to_string(),
        };
        let again = load("every-again", file, &[(&key.variable, &text)], Flags::default());
        assert_eq!(again.settings, config.settings, "{}={text}", key.variable);
    }
}

#[test]
fn presets_and_selectors() {
    for (file, node, wanted) in [
        ("nodeLabels: {preset: gke}", "cloud.google.com/gke-spot=true", CapacityType::Spot),
        ("nodeLabels: {preset: eks}", "eks.amazonaws.com/capacityType=ON_DEMAND", CapacityType::OnDemand),
        ("nodeLabels: {spot: 'pool in (cheap,cheaper)', onDemand: '!pool'}", "pool=cheaper", CapacityType::Spot),
        ("nodeLabels: {spot: 'pool in (cheap,cheaper)', onDemand: '!pool'}", "other=x", CapacityType::OnDemand),
    ] {
        let config = load("preset", file, &[], Flags::default());
        let (key, value) = node.split_once('=').unwrap();
        let labels = Labels::from([(key.into(), value.into())]);
        assert_eq!(config.classes.classify(&labels), Some(wanted), "{file}: {node}");
    }
    let aks =
        load("aks", "nodeLabels: {preset: aks}\ntolerations: {spot: [{operator: Exists}]}", &[], Flags::default());
    assert_eq!(aks.classes.spot.tolerations.len(), 2);
}

#[test]
fn opt_in_rules_follow_the_settings() {
    let config = load("opt-in", "optIn: either\ncontroller: {leaderElection: {namespace: ops}}", &[], Flags::default());
    assert_eq!((config.opt_in.mode, &*config.opt_in.own_namespace), (Mode::Either, "ops"));
    assert_eq!(config.settings.webhook.certificates, Certificates::Files);
}
