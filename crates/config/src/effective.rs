//! The configuration that holds: all layers read, every rule between keys kept, and what decisions need worked out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::path::PathBuf;

use spotalis_core::class::{CapacityClass, CapacityClasses, Preset};
use spotalis_core::duration;
use spotalis_core::opt_in::OptInRules;
use spotalis_core::policy::{self, Level, Sourced};
use spotalis_core::window::{Part, Window};

use crate::decode::{decode, wrong_keys};
use crate::keys::keys;
use crate::layers::{Flags, Layers};
use crate::problem::{ConfigErrors, Fault, Origin, Problem, shown};
use crate::settings::{Certificates, DisruptionWindow, LeaderElection, NodeLabels, Settings};
use crate::tree::Node;

/// Where a configuration comes from, the weakest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// The file, if there is to be one; it must then be there.
    pub file: Option<PathBuf>,
    /// The environment; what does not begin with `SPOTALIS_` is passed over.
    pub environment: Vec<(String, String)>,
    /// The command line.
    pub flags: Flags,
}

/// A configuration without mistakes.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Every key as it holds.
    pub settings: Settings,
    /// Who is managed.
    pub opt_in: OptInRules,
    /// The policy of those who declare none.
    pub policy_defaults: policy::Defaults,
    /// How nodes are told apart, and what pods steered there tolerate.
    pub classes: CapacityClasses,
}

impl Config {
    /// The configuration nobody changed.
    pub fn defaults() -> Self {
        Self::load(&Sources::default()).expect("the defaults keep their own rules, which a test holds them to")
    }

    /// Reads and checks all layers. Everything that is wrong is told at once.
    pub fn load(sources: &Sources) -> Result<Self, ConfigErrors> {
        let Sources { file, environment, flags } = sources;
        let mut layers = Layers::new();
        if let Some(path) = file {
            layers.file(path);
        }
        layers.environment(environment.iter().cloned());
        layers.flags(flags);

        let Layers { tree, mut problems } = layers;
        let (settings, mistakes) = decode::<Settings>(tree.clone());
        problems.extend(mistakes.into_iter().map(with_suggestion_from_elsewhere));
        let rules = Rules { tree, wrong: wrong_keys(&problems), problems };
        rules.apply(settings)
    }

    /// The settings as a file that sets every key. Secrets are masked.
    pub fn to_yaml(&self) -> String {
        serde_saphyr::to_string(&self.settings).expect("settings are maps with text for keys")
    }

    /// The settings as JSON. Secrets are masked.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::to_value(&self.settings).expect("settings are maps with text for keys")
    }
}

/// A key in the wrong section is found by its own name.
fn with_suggestion_from_elsewhere(problem: Problem) -> Problem {
    match problem {
        Problem { origin, key, fault: Fault::UnknownKey { suggestion: None } } => {
            let last = |path: &str| path.rsplit('.').next().map(str::to_owned);
            let elsewhere = keys().into_iter().map(|known| known.path).find(|path| last(path) == last(&key));
            Problem { origin, key, fault: Fault::UnknownKey { suggestion: elsewhere } }
        }
        problem => problem,
    }
}

/// The rules between keys. None is applied to a key that was already found wrong.
struct Rules {
    tree: Node,
    wrong: BTreeSet<String>,
    problems: Vec<Problem>,
}

impl Rules {
    fn apply(mut self, mut settings: Settings) -> Result<Config, ConfigErrors> {
        self.leader_election(&settings);
        self.ports(&settings);
        self.certificates(&settings);
        self.guard(&settings);
        self.prices(&settings);
        let window = self.window(&settings);
        let classes = self.classes(&mut settings);
        match (window, classes) {
            (Some(window), Some(classes)) if self.problems.is_empty() => Ok(Config {
                opt_in: opt_in_rules(&settings),
                policy_defaults: self.policy_defaults(&settings, window),
                classes,
                settings,
            }),
            _ => Err(ConfigErrors { problems: self.problems }),
        }
    }

    /// Tells a broken rule at the first of its keys that somebody wrote.
    fn broken(&mut self, paths: &[&str], rule: impl Display) {
        let found_wrong = |path: &&str| {
            self.wrong.iter().any(|wrong| wrong.starts_with(*path) || path.starts_with(&format!("{wrong}.")))
        };
        if paths.iter().any(found_wrong) {
            return;
        }
        let written = paths.iter().find_map(|path| Some((*path, self.written(path)?)));
        let (path, origin) =
            written.or_else(|| Some((*paths.first()?, Origin::Default))).unwrap_or(("", Origin::Default));
        self.problems.push(Problem { origin, key: path.to_owned(), fault: Fault::Rule { message: rule.to_string() } });
    }

    fn written(&self, path: &str) -> Option<Origin> {
        self.tree.get(&path.split('.').collect::<Vec<_>>()).map(|node| node.origin.clone())
    }

    fn leader_election(&mut self, settings: &Settings) {
        let LeaderElection { enabled: _, namespace: _, lease_duration, renew_deadline, retry_period } =
            &settings.controller.leader_election;
        let lease = ("leaseDuration", *lease_duration);
        let renew = ("renewDeadline", *renew_deadline);
        let retry = ("retryPeriod", *retry_period);
        for ((long, longer), (short, shorter)) in [(lease, renew), (renew, retry)] {
            if longer <= shorter {
                let paths = [long, short].map(|key| format!("controller.leaderElection.{key}"));
                let [longer, shorter] = [longer, shorter].map(duration::format);
                let rule = format!(
                    "{long} ({longer}) must be longer than {short} ({shorter}); raise the one or lower the other"
                );
                self.broken(&[&paths[0], &paths[1]], rule);
            }
        }
    }

    /// The agent's port is among them although it is another process: it shares the node's network, perhaps with ours.
    fn ports(&mut self, settings: &Settings) {
        let mut taken: BTreeMap<u16, &str> = BTreeMap::new();
        for (path, port) in [
            ("webhook.port", settings.webhook.port),
            ("webhook.peerPort", settings.webhook.peer_port),
            ("metrics.port", settings.metrics.port),
            ("health.port", settings.health.port),
            ("interruption.agent.port", settings.interruption.agent.port),
        ] {
            let Some(first) = taken.insert(port, path) else { continue };
            // Told about the one that somebody wrote, not about a default.
            let (path, other) = if self.written(path).is_some() { (path, first) } else { (first, path) };
            self.broken(&[path, other], format_args!("{port} is also {other}; each needs a port of its own"));
        }
    }

    fn certificates(&mut self, settings: &Settings) {
        let source = settings.webhook.certificates;
        if !source.is_available() {
            let word = match source {
                Certificates::SelfManaged => "self-managed",
                Certificates::CertManager => "cert-manager",
                Certificates::Files => "files",
            };
            self.broken(
                &["webhook.certificates"],
                format_args!(
                    "{word} comes with a later release; use files, and put tls.crt and tls.key into webhook.certDir"
                ),
            );
        }
    }

    fn guard(&mut self, settings: &Settings) {
        let guard = &settings.guard;
        let (prescale, max, hard) = (guard.utilization.prescale, guard.utilization.max, guard.utilization.hard);
        if prescale > max || max > hard {
            let paths = ["guard.utilization.max", "guard.utilization.prescale", "guard.utilization.hard"];
            self.broken(
                &paths,
                format_args!("prescale ({prescale}), max ({max}) and hard ({hard}) must not decrease in this order"),
            );
        }
        if guard.enabled && guard.groups.is_empty() {
            self.broken(&["guard.enabled", "guard.groups"], "guard needs at least one pair in guard.groups");
        }
        let mut names = BTreeSet::new();
        for group in &guard.groups {
            if !names.insert(&group.name) {
                self.broken(
                    &["guard.groups"],
                    format_args!("two groups are called \"{}\"; rename one", shown(&group.name)),
                );
            }
            if group.spot == group.on_demand {
                self.broken(
                    &["guard.groups"],
                    format_args!("spot and onDemand of \"{}\" are the same group", shown(&group.name)),
                );
            }
        }
    }

    fn prices(&mut self, settings: &Settings) {
        if settings.prices.file.is_empty() != settings.prices.date.is_empty() {
            self.broken(
                &["prices.file", "prices.date"],
                "file and date come together, because an estimate without its date misleads",
            );
        }
    }

    fn window(&mut self, settings: &Settings) -> Option<Sourced<Window>> {
        let DisruptionWindow { schedule, duration, time_zone } = &settings.disruption_window;
        match Window::parse(schedule, duration, time_zone) {
            Ok(value @ Window::AlwaysOpen) => Some(Sourced::built_in(value)),
            Ok(value) => Some(Sourced { value, level: Level::Config }),
            Err(error) => {
                let path = match error.part() {
                    Part::Schedule => "disruptionWindow.schedule",
                    Part::Duration => "disruptionWindow.duration",
                    Part::TimeZone => "disruptionWindow.timeZone",
                };
                self.broken(&[path, "disruptionWindow"], format_args!("allowed is {error}"));
                None
            }
        }
    }

    /// The classes; where nothing is said, the preset is written into the settings, so that they show what holds.
    fn classes(&mut self, settings: &mut Settings) -> Option<CapacityClasses> {
        let paths = ["nodeLabels.spot", "nodeLabels.onDemand", "nodeLabels.preset"];
        let NodeLabels { preset, spot, on_demand } = &settings.node_labels;
        let classes = match (preset, spot, on_demand) {
            (preset, None, None) => {
                let preset = preset.unwrap_or(Preset::Karpenter);
                settings.node_labels.preset = Some(preset);
                Ok(CapacityClasses::preset(preset))
            }
            (None, Some(spot), Some(on_demand)) => {
                let classes =
                    CapacityClasses::new(CapacityClass::new(spot.clone()), CapacityClass::new(on_demand.clone()));
                classes.map_err(|error| error.to_string())
            }
            (None, Some(_), None) | (None, None, Some(_)) => {
                Err("spot and onDemand come together; add the other one".to_owned())
            }
            (Some(preset), _, _) => {
                Err(format!("a preset ({}) and selectors exclude each other; remove one", preset.as_str()))
            }
        };
        match classes {
            Ok(mut classes) => {
                classes.spot.tolerations.extend(settings.tolerations.spot.iter().cloned());
                classes.on_demand.tolerations.extend(settings.tolerations.on_demand.iter().cloned());
                Some(classes)
            }
            Err(rule) => {
                self.broken(&paths, rule);
                None
            }
        }
    }

    fn policy_defaults(&self, settings: &Settings, window: Sourced<Window>) -> policy::Defaults {
        let level = |written: bool| if written { Level::Config } else { Level::BuiltIn };
        let distribution = &settings.distribution;
        let defaults = &distribution.defaults;
        policy::Defaults {
            spot_percentage: Sourced {
                value: defaults.spot_percentage,
                level: level(defaults.spot_percentage.is_some()),
            },
            min_on_demand: Sourced {
                value: defaults.min_on_demand.unwrap_or_default(),
                level: level(defaults.min_on_demand.is_some()),
            },
            placement: Sourced {
                value: distribution.placement,
                level: level(self.written("distribution.placement").is_some()),
            },
            spot_fallback_after: Sourced {
                value: distribution.spot_fallback_after,
                level: level(self.written("distribution.spotFallbackAfter").is_some()),
            },
            window,
            rounding: distribution.rounding,
        }
    }
}

pub(crate) fn opt_in_rules(settings: &Settings) -> OptInRules {
    OptInRules {
        mode: settings.opt_in,
        namespace_selector: settings.controller.namespace_selector.clone(),
        own_namespace: settings.controller.leader_election.namespace.clone(),
        watch_namespaces: settings.controller.watch_namespaces.clone(),
    }
}
