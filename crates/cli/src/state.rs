//! A workload in words: what its policy is and who said so, what is wanted, what there is, and why.
//!
//! The decision is the controller's own; every sentence is the one of its `Reason`, save that what the controller is about
//! to do is not told as done. The serialised form is what `-o json` and `-o yaml` show, and it is stable.

use serde::Serialize;
use spotalis_config::Config;
use spotalis_core::capacity::CapacityType;
use spotalis_core::duration;
use spotalis_core::policy::{Level, Policy, Problem, Sourced, Standing};
use spotalis_core::reason::{self, Reason};
use spotalis_core::rebalance::{self, Action, Circumstances, Decision, Probe};
use spotalis_core::split::{Percentage, Rounding, Split};
use spotalis_kube::index::{Outlook, WorkloadKey, WorkloadView};

use crate::table::Tone;
use crate::told::Told;
use crate::view::Picture;

/// A workload as it is shown.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadState {
    /// Its namespace.
    pub namespace: String,
    /// `Deployment`, `StatefulSet`.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// `spec.replicas`.
    pub replicas: u32,
    /// What the policy wants.
    pub wanted: Pair,
    /// What its active pods are.
    pub actual: Counts,
    /// How many moves lie between the two.
    pub drift: u32,
    /// The code of the reason.
    pub reason: &'static str,
    /// How the reason is to be taken.
    pub severity: Severity,
    /// Its sentence.
    pub message: String,
    /// When the controller looks again by itself, if the reason passes with time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wake_at: Option<String>,
    /// Its policy.
    pub policy: PolicyState,
}

/// So many of each type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Pair {
    /// On spot.
    pub spot: u32,
    /// On on-demand.
    pub on_demand: u32,
}

impl From<Split> for Pair {
    fn from(Split { spot, on_demand }: Split) -> Self {
        Self { spot, on_demand }
    }
}

/// So many of each type, and of none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// Spot.
    pub spot: u32,
    /// On-demand.
    pub on_demand: u32,
    /// Neither, or both.
    pub unknown: u32,
}

/// How a reason is to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Nothing is due.
    Fine,
    /// The controller is acting.
    Acting,
    /// Something is due and passes by itself.
    Waiting,
    /// Somebody should look.
    Warning,
}

impl Severity {
    fn of(reason: &Reason) -> Self {
        match (reason, reason.doc().event) {
            (_, Some(reason::Severity::Warning)) => Self::Warning,
            (Reason::OnTarget | Reason::NotAsked | Reason::NotManaged, _) => Self::Fine,
            (Reason::Seating, _) | (_, Some(reason::Severity::Normal)) => Self::Acting,
            (_, None) => Self::Waiting,
        }
    }

    /// Its colour.
    pub const fn tone(self) -> Tone {
        match self {
            Self::Fine => Tone::Good,
            Self::Acting => Tone::Busy,
            Self::Waiting => Tone::Plain,
            Self::Warning => Tone::Warning,
        }
    }
}

/// A policy, each value with who said it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyState {
    /// The share wanted on spot; none where nobody asked.
    pub spot_percentage: Said<Option<u8>>,
    /// What always stays on on-demand: a number, or a percentage.
    pub min_on_demand: Said<String>,
    /// `required`, `preferred`.
    pub placement: Said<&'static str>,
    /// A duration, or `never`.
    pub spot_fallback_after: Said<String>,
    /// When balance may disrupt.
    pub disruption_window: Said<String>,
    /// Whether a single replica is protected; none leaves it to the configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protect: Option<Said<bool>>,
    /// `ceil`, `nearest`, `floor`.
    pub rounding: &'static str,
    /// A value that decides cannot be used, so that nothing is moved.
    pub fails_closed: bool,
}

/// A value and who said it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Said<T> {
    /// What holds.
    pub value: T,
    /// `workload`, `namespace`, `config`, `built-in`.
    pub from: &'static str,
}

impl<T> Said<T> {
    fn new<S>(Sourced { value, level }: &Sourced<S>, word: impl FnOnce(&S) -> T) -> Self {
        let from = match level {
            Level::Workload => "workload",
            Level::Namespace => "namespace",
            Level::Config => "config",
            Level::BuiltIn => "built-in",
        };
        Self { value: word(value), from }
    }
}

impl PolicyState {
    /// The policy in words.
    pub fn of(policy: &Policy) -> Self {
        let Policy {
            spot_percentage,
            min_on_demand,
            placement,
            spot_fallback_after,
            window,
            protect,
            rounding,
            standing,
        } = policy;
        Self {
            spot_percentage: Said::new(spot_percentage, |percentage| percentage.map(Percentage::get)),
            min_on_demand: Said::new(min_on_demand, ToString::to_string),
            placement: Said::new(placement, |placement| placement.as_str()),
            spot_fallback_after: Said::new(spot_fallback_after, |after| {
                after.map_or_else(|| "never".to_owned(), duration::format)
            }),
            disruption_window: Said::new(window, ToString::to_string),
            protect: protect.as_ref().map(|protect| Said::new(protect, |protect| *protect)),
            rounding: match rounding {
                Rounding::Ceil => "ceil",
                Rounding::Nearest => "nearest",
                Rounding::Floor => "floor",
            },
            fails_closed: match standing {
                Standing::Sound => false,
                Standing::FailClosed => true,
            },
        }
    }

    /// `70%`, `not set`.
    pub fn spot_share(&self) -> String {
        self.spot_percentage.value.map_or_else(|| "not set".to_owned(), |percent| format!("{percent}%"))
    }
}

/// A value of an annotation that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProblemState {
    /// `namespace/deployment/name` or `namespace NAME`.
    pub subject: String,
    /// The key.
    pub key: String,
    /// What is wrong, what is allowed, and what holds meanwhile.
    pub message: String,
}

impl ProblemState {
    /// The problem in words. What is wrong with a namespace is told about the namespace.
    pub fn of(key: &WorkloadKey, problem: &Problem) -> Self {
        let subject = match problem.level {
            Level::Namespace => format!("namespace {}", key.namespace),
            Level::Workload | Level::Config | Level::BuiltIn => key.to_string(),
        };
        Self { subject, key: problem.key.clone(), message: problem.to_string() }
    }
}

/// What holds outside the workload, as far as somebody can tell who is not the controller. What came of its evictions it
/// has told; how many moves are under way in the cluster is known to it alone.
pub fn circumstances(config: &Config, picture: &Picture, view: &WorkloadView) -> Circumstances {
    let settings = spotalis_instance::balance_settings(config);
    let unsteered = told(picture, view, &Reason::WebhookNotSteering);
    Circumstances {
        fresh: picture.index.is_whole(picture.now),
        awaited: false,
        steering: settings.steering,
        limit_free: true,
        cooldown: settings.cooldown,
        term_began: None,
        seating: settings.seating,
        probe: unsteered.map(|told| Probe { evicted: told.at, failures: told.times.saturating_sub(1) }),
    }
}

/// The controller's last word about a workload, if it was this one.
fn told<'p>(picture: &'p Picture, view: &WorkloadView, reason: &Reason) -> Option<&'p Told> {
    picture.told.get(&*view.uid).filter(|told| told.reason == reason.code())
}

/// What the controller would decide, and has told of what comes of it.
pub fn decision(config: &Config, picture: &Picture, view: &WorkloadView) -> Decision {
    let Picture { index, now, notes: _, told: _ } = picture;
    let circumstances = circumstances(config, picture, view);
    let room = |capacity| index.room(&view.key, capacity, Outlook::default(), *now);
    let decision = rebalance::decide(&view.snapshot, &circumstances, room, *now);
    match &decision.action {
        Some(Action::Evict { pod, uid: _, probe: _ }) => {
            let refused = Reason::EvictionRefused { pod: pod.clone() };
            let since = view.snapshot.last_change;
            match told(picture, view, &refused).filter(|told| since.is_none_or(|since| told.at >= since)) {
                Some(_) => Decision { action: None, reason: refused, ..decision },
                None => decision,
            }
        }
        Some(Action::Seat(_)) | None => decision,
    }
}

impl WorkloadState {
    /// The workload in words.
    pub fn of(view: &WorkloadView, decision: &Decision) -> Self {
        let WorkloadView { key, uid: _, problems: _, snapshot } = view;
        let Decision { action: _, reason, wake_at, wanted, realized, drift } = decision;
        Self {
            namespace: key.namespace.to_string(),
            kind: key.kind.as_str(),
            name: key.name.to_string(),
            replicas: snapshot.replicas,
            wanted: (*wanted).into(),
            actual: Counts { spot: realized.spot, on_demand: realized.on_demand, unknown: realized.unknown },
            drift: *drift,
            reason: reason.code(),
            severity: Severity::of(reason),
            message: sentence(decision),
            wake_at: wake_at.map(|wake_at| wake_at.to_string()),
            policy: PolicyState::of(&snapshot.policy),
        }
    }
}

/// The sentence of the decision's reason; of an eviction that is about to be made, what it will be.
fn sentence(Decision { action, reason, .. }: &Decision) -> String {
    match (action, reason) {
        (Some(Action::Evict { .. }), Reason::Rebalanced { pod, from, to }) => {
            format!("{pod} is to be evicted from {from} so that its replacement starts on {to}")
        }
        (Some(Action::Evict { .. } | Action::Seat(_)) | None, reason) => reason.to_string(),
    }
}

/// The word for a type that may be unknown.
pub fn word(capacity: Option<CapacityType>) -> &'static str {
    capacity.map_or("unknown", CapacityType::as_str)
}
