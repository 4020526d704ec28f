//! Every kind of mistake somebody can make in a configuration: refused, with what, where, what is allowed, what to do.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use proptest::prelude::*;
use spotalis_config::{Config, Flags, Sources};

/// A file that is gone with the test.
struct File(PathBuf);

impl File {
    fn new(name: &str, text: impl AsRef<[u8]>) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("spotalis-bad-{}-{number}-{name}.yaml", std::process::id()));
        std::fs::write(&path, text).expect("the temporary directory takes files");
        Self(path)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// The lines about single problems, with `FILE` for the file.
fn refused(name: &str, text: impl AsRef<[u8]>) -> Vec<String> {
    let file = File::new(name, text);
    problems(&Sources { file: Some(file.0.clone()), ..Sources::default() })
}

fn problems(sources: &Sources) -> Vec<String> {
    let Err(errors) = Config::load(sources) else { panic!("accepted: {sources:?}") };
    assert!(!errors.problems.is_empty());
    let shown = errors.to_string();
    assert!(shown.contains("hint: `spotalis config print --defaults`"), "{shown}");
    let path = sources.file.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
    errors
        .problems
        .iter()
        .map(ToString::to_string)
        .map(|line| if path.is_empty() { line } else { line.replace(&path, "FILE") })
        .collect()
}

/// Each text holds one mistake, and the message about it says this.
fn refuses(rows: &[(&str, &str)]) {
    for (text, says) in rows {
        let problems = refused("one", text);
        assert_eq!(problems.len(), 1, "{text}: {problems:#?}");
        assert!(problems[0].contains(says), "{text}:\n  {}\nlacks\n  {says}", problems[0]);
        assert!(!problems[0].contains("secret"), "{problems:?}");
    }
}

#[test]
fn unknown_keys() {
    refuses(&[
        ("contoller: {}", "FILE:1:1: contoller: unknown key; did you mean controller?"),
        (
            "controller:\n  resyncPeriode: 30s",
            "FILE:2:3: controller.resyncPeriode: unknown key; did you mean controller.resyncPeriod?",
        ),
        ("resyncPeriod: 30s", "FILE:1:1: resyncPeriod: unknown key; did you mean controller.resyncPeriod?"),
        ("controller: {colour: red}", "FILE:1:14: controller.colour: unknown key"),
        (
            "guard: {groups: [{name: a, spot: b, onDemnd: c}]}",
            "FILE:1:37: guard.groups[0].onDemnd: unknown key; did you mean guard.groups[0].onDemand?",
        ),
        ("1: 2", "FILE:1:1: 1: unknown key"),
    ]);
}

#[test]
fn wrong_types() {
    refuses(&[
        (
            "controller: 5",
            "FILE:1:13: controller: 5 is not allowed; allowed is a map with keys among resyncPeriod, workers,",
        ),
        ("controller: []", "FILE:1:13: controller: a list is not allowed; allowed is a map with keys among"),
        (
            "controller: {workers: five}",
            "FILE:1:23: controller.workers: \"five\" is not allowed; allowed is an integer from 1 to 1000",
        ),
        (
            "controller: {workers: '5'}",
            "controller.workers: \"5\" is not allowed; allowed is an integer from 1 to 1000",
        ),
        ("controller: {workers: 2.5}", "controller.workers: 2.5 is not allowed"),
        ("controller: {workers: [5]}", "controller.workers: a list is not allowed"),
        ("readOnlyMode: 'true'", "FILE:1:15: readOnlyMode: \"true\" is not allowed; allowed is true or false"),
        ("readOnlyMode: yes", "readOnlyMode: \"yes\" is not allowed; allowed is true or false"),
        ("readOnlyMode: 1", "readOnlyMode: 1 is not allowed; allowed is true or false"),
        (
            "controller: {resyncPeriod: 30}",
            "controller.resyncPeriod: 30 is not allowed; allowed is a duration from 5s to 24h",
        ),
        (
            "controller: {watchNamespaces: shop}",
            "controller.watchNamespaces: \"shop\" is not allowed; allowed is a list such as [a, b]",
        ),
        (
            "controller: {watchNamespaces: [a, 5]}",
            "FILE:1:35: controller.watchNamespaces[1]: 5 is not allowed; allowed is a name",
        ),
        (
            "webhook: {certDir: 5}",
            "webhook.certDir: 5 is not allowed; allowed is text of at most 4096 bytes, not empty",
        ),
        (
            "controller: {namespaceSelector: 'a=b'}",
            "controller.namespaceSelector: \"a=b\" is not allowed; allowed is a map with keys among matchLabels or matchExpressions",
        ),
        (
            "controller: {namespaceSelector: {matchLabels: {a: true}}}",
            "FILE:1:51: controller.namespaceSelector.matchLabels.a: true is not allowed; allowed is text, in quotes",
        ),
    ]);
}

#[test]
fn wrong_ranges() {
    refuses(&[
        (
            "controller: {resyncPeriod: 1s}",
            "FILE:1:28: controller.resyncPeriod: \"1s\" is not allowed; allowed is a duration from 5s to 24h",
        ),
        ("controller: {resyncPeriod: -30s}", "\"-30s\" is not allowed"),
        ("controller: {resyncPeriod: 1d}", "\"1d\" is not allowed"),
        ("controller: {workers: 0}", "0 is not allowed; allowed is an integer from 1 to 1000"),
        ("controller: {workers: -1}", "-1 is not allowed"),
        ("controller: {workers: 1001}", "1001 is not allowed"),
        ("controller: {workers: 99999999999999999999999}", "is not allowed; allowed is an integer from 1 to 1000"),
        ("webhook: {port: 0}", "webhook.port: 0 is not allowed; allowed is an integer from 1 to 65535"),
        ("webhook: {port: 65536}", "65536 is not allowed; allowed is an integer from 1 to 65535"),
        ("guard: {utilization: {max: 101}}", "101 is not allowed; allowed is an integer from 1 to 100"),
        ("webhook: {certDir: ''}", "\"\" is not allowed"),
    ]);
}

#[test]
fn wrong_words() {
    refuses(&[
        ("optIn: booth", "FILE:1:8: optIn: \"booth\" is not allowed; allowed is both or either; did you mean both?"),
        ("optIn: true", "optIn: true is not allowed; allowed is both or either"),
        (
            "distribution: {rounding: up}",
            "distribution.rounding: \"up\" is not allowed; allowed is ceil, nearest or floor",
        ),
        ("drain: {atDeadline: remove}", "drain.atDeadline: \"remove\" is not allowed; allowed is delete or leave"),
        (
            "drain: {karpenterNodes: [never]}",
            "drain.karpenterNodes: a list is not allowed; allowed is auto, never or always",
        ),
        ("logging: {level: verbose}", "allowed is error, warn, info, debug or trace"),
        ("nodeLabels: {preset: karpentr}", "allowed is karpenter, eks, gke, aks or spotalis; did you mean karpenter?"),
    ]);
}

#[test]
fn wrong_shapes() {
    refuses(&[
        (
            "distribution: {defaults: {spotPercentage: 101}}",
            "distribution.defaults.spotPercentage: 101 is not allowed; allowed is an integer from 0 to 100, optionally followed by %",
        ),
        ("distribution: {defaults: {spotPercentage: 7O%}}", "\"7O%\" is not allowed"),
        (
            "distribution: {defaults: {minOnDemand: -1}}",
            "-1 is not allowed; allowed is an integer from 0 to 2147483647, or a percentage",
        ),
        (
            "distribution: {spotFallbackAfter: soon}",
            "allowed is a duration such as 90s, 5m or 1h30m, of at most 87840h, or never",
        ),
        ("protect: {selector: 'a in x'}", "FILE:1:21: protect.selector: expected `(` at column 6, found `x`"),
        ("protect: {selector: '-a'}", "label key \"-a\" is not valid"),
        (
            "controller: {watchNamespaces: [Shop]}",
            "\"Shop\" is not allowed; allowed is a name of at most 63 lower-case letters",
        ),
        ("controller: {leaderElection: {namespace: a_b}}", "\"a_b\" is not allowed"),
        (
            "controller: {namespaceSelector: {matchExpressions: [{key: a, operator: In}]}}",
            "controller.namespaceSelector: the list of values of \"a\" is empty",
        ),
        (
            "controller: {namespaceSelector: {matchExpressions: [{key: a, operator: Near}]}}",
            "allowed is In, NotIn, Exists or DoesNotExist",
        ),
        (
            "controller: {namespaceSelector: {matchExpressions: [{operator: Exists}]}}",
            "controller.namespaceSelector.matchExpressions[0]: `key` is missing; add it",
        ),
        ("controller: {namespaceSelector: {matchLabels: {'a b': c}}}", "label key \"a b\" is not valid"),
        (
            "tolerations: {spot: [{key: a, operator: Exists, value: b}]}",
            "FILE:1:22: tolerations.spot[0]: a toleration with `operator: Exists` takes no value",
        ),
        (
            "tolerations: {spot: [{key: a, effect: Never}]}",
            "tolerations.spot[0].effect: \"Never\" is not allowed; allowed is NoSchedule, PreferNoSchedule or NoExecute",
        ),
        ("tolerations: {spot: [{value: b}]}", "a toleration without a key needs `operator: Exists`"),
        ("webhook: {bindAddress: localhost}", "\"localhost\" is not allowed; allowed is an IP address such as 0.0.0.0"),
        (
            "interruption: {sqs: {queueUrl: my-queue}}",
            "allowed is an address beginning with https:// or http://, or empty",
        ),
        (
            "notifications: {webhookUrl: hooks.example.com/secret}",
            "notifications.webhookUrl: the value (not shown) is not allowed",
        ),
        ("prices: {file: a, date: 20/07/2026}", "\"20/07/2026\" is not allowed; allowed is a date such as 2026-07-20"),
        ("guard: {groups: [{name: a, spot: b}]}", "FILE:1:18: guard.groups[0]: `onDemand` is missing; add it"),
    ]);
}

#[test]
fn broken_rules() {
    refuses(&[
        (
            "controller: {leaderElection: {leaseDuration: 10s}}",
            "FILE:1:46: controller.leaderElection.leaseDuration: leaseDuration (10s) must be longer than renewDeadline (10s)",
        ),
        (
            "controller: {leaderElection: {retryPeriod: 10s}}",
            "FILE:1:44: controller.leaderElection.retryPeriod: renewDeadline (10s) must be longer than retryPeriod (10s)",
        ),
        ("health: {port: 8080}", "FILE:1:16: health.port: 8080 is also metrics.port; each needs a port of its own"),
        ("webhook: {port: 8081}", "FILE:1:17: webhook.port: 8081 is also health.port; each needs a port of its own"),
        (
            "webhook: {certificates: self-managed}",
            "FILE:1:25: webhook.certificates: self-managed comes with a later release; use files",
        ),
        ("webhook: {certificates: cert-manager}", "cert-manager comes with a later release; use files"),
        ("guard: {enabled: true}", "FILE:1:18: guard.enabled: guard needs at least one pair in guard.groups"),
        (
            "guard: {groups: [{name: a, spot: b, onDemand: c}, {name: a, spot: d, onDemand: e}]}",
            "two groups are called \"a\"; rename one",
        ),
        ("guard: {groups: [{name: a, spot: b, onDemand: b}]}", "spot and onDemand of \"a\" are the same group"),
        (
            "guard: {utilization: {max: 50}}",
            "FILE:1:28: guard.utilization.max: prescale (65), max (50) and hard (95) must not decrease",
        ),
        ("prices: {file: /prices.yaml}", "FILE:1:16: prices.file: file and date come together"),
        (
            "disruptionWindow: {schedule: 0 2 * * *}",
            "FILE:1:19: disruptionWindow: allowed is schedule and duration together, or neither",
        ),
        (
            "disruptionWindow: {schedule: 0 2 * *, duration: 4h}",
            "FILE:1:30: disruptionWindow.schedule: allowed is a cron schedule of five fields, for example `0 2 * * 1-5` (it has 4 fields)",
        ),
        (
            "disruptionWindow: {schedule: 0 2 * * *, duration: 4}",
            "FILE:1:51: disruptionWindow.duration: 4 is not allowed; allowed is text",
        ),
        (
            "disruptionWindow: {schedule: 0 2 * * *, duration: 0s}",
            "disruptionWindow.duration: allowed is a duration above 0",
        ),
        (
            "disruptionWindow: {timeZone: Europe/Berln}",
            "FILE:1:30: disruptionWindow.timeZone: allowed is a name of the IANA time zone database such as UTC or Europe/Berlin; did you mean Europe/Berlin?",
        ),
        ("nodeLabels: {spot: a}", "FILE:1:20: nodeLabels.spot: spot and onDemand come together; add the other one"),
        ("nodeLabels: {spot: a, onDemand: a}", "nodeLabels.spot: the spot and the on-demand selector are the same"),
        ("nodeLabels: {spot: '', onDemand: a}", "the spot selector is empty and so matches every node"),
        (
            "nodeLabels: {preset: eks, spot: a, onDemand: b}",
            "a preset (eks) and selectors exclude each other; remove one",
        ),
    ]);
}

#[test]
fn no_configuration() {
    refuses(&[
        ("controller: {workers: 5", "FILE:1:13: not valid YAML: "),
        ("controller:\n\tworkers: 5", "FILE:2:2: not valid YAML: tabs"),
        ("optIn: both\noptIn: either", "FILE:2:1: not valid YAML: duplicate mapping key: optIn"),
        ("optIn: both\n---\noptIn: either", "FILE:3:1: not valid YAML: multiple YAML documents"),
        ("- optIn", "FILE:1:1: a list is not allowed; allowed is a map with keys among optIn, readOnlyMode,"),
        ("just text", "FILE:1:1: \"just text\" is not allowed; allowed is a map with keys among"),
    ]);
}

#[test]
fn all_mistakes_are_told_at_once() {
    let text = "
optIn: nobody
controller:
  workers: 0
  resyncPeriode: 30s
  leaderElection: {leaseDuration: 1ms, renewDeadline: 20s}
logging: {level: loud, format: json}
health: {port: 8080}
";
    let file = File::new("all", text);
    let environment = [("SPOTALIS_CONTROLLER_COOLDOWN", "-1s"), ("SPOTALIS_LOGGING_LEVLE", "info")];
    let environment = environment.map(|(name, text)| (name.to_owned(), text.to_owned())).to_vec();
    let flags = Flags { log_format: Some("xml".to_owned()), ..Flags::default() };
    let problems = problems(&Sources { file: Some(file.0.clone()), environment, flags });
    let wanted = [
        "environment variable SPOTALIS_LOGGING_LEVLE: unknown variable; did you mean SPOTALIS_LOGGING_LEVEL?",
        "FILE:2:8: optIn: \"nobody\" is not allowed",
        "FILE:4:12: controller.workers: 0 is not allowed",
        "FILE:5:3: controller.resyncPeriode: unknown key",
        "FILE:6:35: controller.leaderElection.leaseDuration: \"1ms\" is not allowed",
        "environment variable SPOTALIS_CONTROLLER_COOLDOWN: controller.cooldown: \"-1s\" is not allowed",
        "FILE:7:18: logging.level: \"loud\" is not allowed",
        "flag --log-format: logging.format: \"xml\" is not allowed; allowed is json or console",
        // The renewDeadline is not held against a leaseDuration that is wrong in itself.
        "FILE:8:16: health.port: 8080 is also metrics.port",
    ];
    assert_eq!(problems.len(), wanted.len(), "{problems:#?}");
    for wanted in wanted {
        assert!(problems.iter().any(|problem| problem.contains(wanted)), "{wanted}\nnot in {problems:#?}");
    }
}

#[test]
fn one_mistake_in_the_environment() {
    for (name, text, says) in [
        (
            "SPOTALIS_CONTROLLER_RESYNCPERIOD",
            "30s",
            "unknown variable; did you mean SPOTALIS_CONTROLLER_RESYNC_PERIOD?",
        ),
        (
            "SPOTALIS_COLOUR",
            "red",
            "environment variable SPOTALIS_COLOUR: unknown variable; variables beginning with SPOTALIS_",
        ),
        ("SPOTALIS_", "x", "unknown variable"),
        ("SPOTALIS_CONFG", "x", "did you mean SPOTALIS_CONFIG?"),
        (
            "SPOTALIS_CONTROLLER_WORKERS",
            "five",
            "environment variable SPOTALIS_CONTROLLER_WORKERS: controller.workers: \"five\" is not allowed; allowed is an integer from 1 to 1000",
        ),
        ("SPOTALIS_CONTROLLER_WORKERS", "", "\"\" is not allowed"),
        ("SPOTALIS_CONTROLLER_WORKERS", "5 ", "\"5 \" is not allowed"),
        ("SPOTALIS_READ_ONLY_MODE", "yes", "\"yes\" is not allowed; allowed is true or false"),
        ("SPOTALIS_READ_ONLY_MODE", "True", "\"True\" is not allowed"),
        ("SPOTALIS_OPT_IN", "Both", "allowed is both or either; did you mean both?"),
        ("SPOTALIS_CONTROLLER_WATCH_NAMESPACES", "a,b", "\"a,b\" is not allowed; allowed is a list such as [a, b]"),
        ("SPOTALIS_CONTROLLER_WATCH_NAMESPACES", "[a", "\"[a\" is not allowed; allowed is a list such as [a, b]"),
        ("SPOTALIS_CONTROLLER_NAMESPACE_SELECTOR", "team=a", "is not allowed; allowed is a map"),
        (
            "SPOTALIS_CONTROLLER_NAMESPACE_SELECTOR",
            "{matchLabel: {}}",
            "did you mean controller.namespaceSelector.matchLabels?",
        ),
        (
            "SPOTALIS_CONTROLLER",
            "{workers: 0}",
            "environment variable SPOTALIS_CONTROLLER: controller.workers: 0 is not allowed",
        ),
        ("SPOTALIS_CONTROLLER", "{workers", "not valid YAML"),
        ("SPOTALIS_CONTROLLER", "5", "controller: 5 is not allowed; allowed is a map with keys among"),
        ("SPOTALIS_WEBHOOK_PORT", "99999", "99999 is not allowed; allowed is an integer from 1 to 65535"),
        (
            "SPOTALIS_HEALTH_PORT",
            "8080",
            "environment variable SPOTALIS_HEALTH_PORT: health.port: 8080 is also metrics.port",
        ),
        ("SPOTALIS_LOGGING_LEVEL", "\u{1b}[31mred", "\\u{1b}[31mred"),
    ] {
        let environment = vec![(name.to_owned(), text.to_owned())];
        let problems = problems(&Sources { environment, ..Sources::default() });
        assert_eq!(problems.len(), 1, "{name}={text}: {problems:#?}");
        assert!(problems[0].contains(says), "{name}={text}:\n  {}\nlacks\n  {says}", problems[0]);
        assert!(problems[0].starts_with(&format!("environment variable {name}")), "{problems:?}");
    }
}

#[test]
fn files_that_cannot_be_read() {
    let nowhere = std::env::temp_dir().join("spotalis-no-such-file.yaml");
    let says = problems(&Sources { file: Some(nowhere), ..Sources::default() });
    assert_eq!(says, ["FILE: there is no such file; write one, or correct --config"]);
    // A directory fails for everybody; missing permissions would not stop the superuser.
    let says = problems(&Sources { file: Some(std::env::temp_dir()), ..Sources::default() });
    assert!(
        says[0].starts_with("FILE: the file cannot be read; check its permissions and that it is no directory ("),
        "{says:?}"
    );
    assert_eq!(refused("latin", b"optIn: b\xf6th"), ["FILE: the file is not UTF-8 text"]);
    let long = "# a comment\n".repeat(100_000);
    assert_eq!(refused("long", long), ["FILE: the file has 1200000 bytes, more than the 1048576 that are read"]);
    let level = |index: u32| format!("a{}: &a{} [{}]\n", index + 1, index + 1, format!("*a{index},").repeat(9));
    let bomb: String = std::iter::once("a0: &a0 x\n".to_owned()).chain((0..9).map(level)).collect();
    let says = refused("bomb", bomb);
    assert!(says.len() == 1 && says[0].contains("not valid YAML: alias"), "{says:?}");
    assert!(!refused("deep", "[".repeat(100_000)).is_empty());
}

#[test]
fn mistakes_are_bounded() {
    let text = (0..1000).map(|index| format!("key{index}: 1")).collect::<Vec<_>>().join("\n");
    let problems = refused("many", text);
    assert!((10..=60).contains(&problems.len()), "{}", problems.len());
}

#[test]
fn the_whole_message() {
    let file = File::new("whole", "controller: {workers: 0}\n");
    let errors = Config::load(&Sources { file: Some(file.0.clone()), ..Sources::default() }).unwrap_err();
    assert_eq!(
        errors.to_string().replace(&file.0.display().to_string(), "FILE"),
        "the configuration has 1 problem:\n  FILE:1:23: controller.workers: 0 is not allowed; allowed is an integer from 1 to \
         1000\nhint: `spotalis config print --defaults` shows every key with its default"
    );
}

proptest! {
    /// Whatever is in the environment, it is accepted or refused.
    #[test]
    fn no_variable_panics(
        name in "SPOTALIS_(CONTROLLER|CONTROLLER_WORKERS|NODE_LABELS|PROTECT_SELECTOR|DISRUPTION_WINDOW|[A-Z_]{0,12})",
        text in "(\\PC{0,30}|[{}\\[\\]:,a-z0-9 &*!]{0,20})",
    ) {
        if let Err(errors) = Config::load(&Sources { environment: vec![(name, text)], ..Sources::default() }) {
            prop_assert!(!errors.problems.is_empty());
            for problem in &errors.problems {
                prop_assert!(!problem.to_string().contains(char::is_control), "{problem}");
            }
        }
    }
}
