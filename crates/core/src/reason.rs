//! Why: the one vocabulary for Events, metric labels, log fields, and sentences on the command line.
//!
//! A reason is data. Its code is stable and `UpperCamel`; its sentence (`Display`) carries no figure that changes while the
//! situation lasts, because an Event's note is immutable. Nothing is decided here.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;

use crate::admission::Doubt;
use crate::capacity::CapacityType;
use crate::opt_in::Missing;
use crate::policy::{Fault, Problem};

/// The code of [`Reason::PlacementConflict`], which admission tells of as well.
pub const PLACEMENT_CONFLICT: &str = "PlacementConflict";

/// Why a workload is, or is not, being changed right now; or why a pod went where it went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The realized counts are the wanted ones and every pod sits in its slot.
    OnTarget,
    /// Neither the workload nor a rule opts it in.
    NotManaged,
    /// Only one of the two labels is there.
    HalfOptIn(Missing),
    /// A value that decides is invalid: no disruption until it is mended.
    InvalidAnnotation {
        /// The key with the invalid value.
        key: Arc<str>,
    },
    /// A key of ours that means nothing, or nothing there.
    UnknownAnnotation {
        /// The key.
        key: Arc<str>,
    },
    /// A watch is silent or the first lists are not complete.
    IndexStale,
    /// `spec.paused`.
    Paused,
    /// The controller of the workload has not finished an update.
    RolloutInProgress,
    /// There are more or fewer pods than replicas.
    Scaling,
    /// `spot-percentage` is set nowhere and the floor holds: nothing is moved that nobody asked for.
    NotAsked,
    /// The counts are off, and only pods on nodes of unknown type could mend that.
    UnknownCapacity,
    /// `webhook.enabled: false`: an evicted pod would come back anywhere.
    WebhookDisabled,
    /// The disruption window is closed.
    WindowClosed {
        /// When it opens; `None` if never.
        opens: Option<Timestamp>,
    },
    /// Too little time since a pod of the workload was created, deleted or became Ready.
    CoolingDown,
    /// New pods of this workload come back without our mark.
    WebhookNotSteering,
    /// A pod that we would not move is not Ready.
    WaitingForReady {
        /// The pod.
        pod: Arc<str>,
    },
    /// No Ready node of the wanted type could take the pod, and nothing would provide one.
    NoCapacity {
        /// The wanted type.
        capacity: CapacityType,
    },
    /// How full the nodes of the wanted type are is not seen, and nothing would provide one.
    CapacityUnseen {
        /// The wanted type.
        capacity: CapacityType,
    },
    /// The pod template's own constraints exclude the wanted type.
    PlacementConflict {
        /// What the split wants.
        wanted: CapacityType,
    },
    /// `controller.maxConcurrentDisruptions` is reached.
    LimitReached,
    /// Every pod that could be moved is under a PodDisruptionBudget that allows nothing now.
    MoveBlockedByPdb {
        /// The budget, or the first of them.
        pdb: Arc<str>,
    },
    /// A pod has more than one PodDisruptionBudget, which the eviction API refuses.
    SeveralPdbs {
        /// The pod.
        pod: Arc<str>,
    },
    /// Every pod that could be moved asks not to be disrupted.
    PodsKept,
    /// Evicting a pod would change its revision: update it, with `OnDelete`, or take it back, below a partition.
    OutdatedPods,
    /// The API server does not let us evict: a missing permission, or somebody's policy.
    EvictionRefused {
        /// The pod.
        pod: Arc<str>,
    },
    /// A pod is moved.
    Rebalanced {
        /// The evicted pod.
        pod: Arc<str>,
        /// What it ran on.
        from: CapacityType,
        /// Where its replacement is steered to.
        to: CapacityType,
    },
    /// Pods are given slots of their own type; nothing restarts.
    Seating,
    /// A new pod was steered by its slot.
    Placed {
        /// Where to.
        capacity: CapacityType,
        /// Its slot.
        slot: u32,
    },
    /// A new pod went to on-demand because the index was not to be trusted.
    PlacedInDoubt(Doubt),
}

/// A row of the reference table of reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReasonDoc {
    /// The stable code.
    pub code: &'static str,
    /// Whether an Event tells it: none, or its type.
    pub event: Option<Severity>,
    /// What it means, and what a reader does about it.
    pub meaning: &'static str,
}

/// The type of an Event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Expected.
    Normal,
    /// Somebody should look.
    Warning,
}

macro_rules! docs {
    ($($code:literal $event:expr, $meaning:literal;)*) => {
        /// Every reason, in the order of the reference table.
        pub const REASONS: &[ReasonDoc] = &[$(ReasonDoc { code: $code, event: $event, meaning: $meaning }),*];
    };
}

use Severity::{Normal, Warning};

docs! {
    "OnTarget" None, "The split is exact. Nothing to do.";
    "NotManaged" None, "The workload is not opted in; Spotalis leaves it alone.";
    "HalfOptIn" None, "Only the namespace or only the workload carries the label. `spotalis status` prints the command that completes it.";
    "InvalidAnnotation" Some(Warning), "A value cannot be used. New pods go to on-demand and nothing is moved until it is mended; the note says what is allowed.";
    "UnknownAnnotation" Some(Warning), "A `spotalis.io/` key that means nothing; the note suggests the closest one.";
    "IndexStale" None, "A watch is silent or still listing. Nothing is moved on an old view.";
    "Paused" None, "`spec.paused` is set. Resume the rollout to let moves go on.";
    "RolloutInProgress" None, "The workload's own controller is still updating pods.";
    "Scaling" None, "Pods are being added or removed.";
    "NotAsked" None, "No `spotalis.io/spot-percentage` at any level and the floor holds: running pods stay where they are.";
    "UnknownCapacity" Some(Warning), "Pods run on nodes that match neither class, or both. Check `nodeLabels` and the labels of the nodes.";
    "WebhookDisabled" Some(Warning), "`webhook.enabled` is false, so an evicted pod could come back anywhere. Drift is reported only.";
    "WindowClosed" None, "The disruption window is closed.";
    "CoolingDown" None, "A pod changed less than `controller.cooldown` ago.";
    "WebhookNotSteering" Some(Warning), "A replacement came back unsteered: the webhook is not called for this workload. Check the MutatingWebhookConfiguration; tried again after 5 minutes, doubling to 30.";
    "WaitingForReady" None, "A pod that stays is not Ready, so no other is disturbed.";
    "NoCapacity" Some(Warning), "No Ready, schedulable node of the wanted type could take the pod, and no autoscaler provides that type.";
    "CapacityUnseen" Some(Warning), "With `controller.watchNamespaces` other namespaces' pods are not seen, so nobody knows how full the nodes are, and no autoscaler provides the wanted type. Where there is always room, set `distribution.provisioner: always`.";
    "PlacementConflict" Some(Warning), "The pod's own node selector or affinity excludes the type its slot wants. The pod is left alone.";
    "LimitReached" None, "`controller.maxConcurrentDisruptions` moves are under way in the cluster.";
    "MoveBlockedByPDB" Some(Warning), "A PodDisruptionBudget allows no eviction now; tried again when it does.";
    "SeveralPDBs" Some(Warning), "The eviction API refuses pods with more than one PodDisruptionBudget. Let their selectors not overlap.";
    "PodsKept" Some(Warning), "The pods to move carry `karpenter.sh/do-not-disrupt` or `cluster-autoscaler.kubernetes.io/safe-to-evict: \"false\"`.";
    "OutdatedPods" Some(Warning), "The pods to move would come back at another revision: updated, where the strategy is OnDelete, or taken back, below a partition.";
    "EvictionRefused" Some(Warning), "The API server refuses the eviction: a permission is missing (`kubectl auth can-i create pods/eviction`), or an admission policy forbids it. Tried again after 10 seconds, doubling to 5 minutes; the log has the API server's words.";
    "Rebalanced" Some(Normal), "A pod was evicted so that its replacement starts on the type that is short.";
    "Seating" None, "Pods are given free slots of their own type. Nothing restarts.";
    "Placed" None, "A new pod was steered to the type of its slot.";
    "PlacedInDoubt" None, "A new pod went to on-demand because the webhook's view was not complete.";
}

impl Reason {
    /// The stable code: Event reason, metric label, log field, command line.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::OnTarget => "OnTarget",
            Self::NotManaged => "NotManaged",
            Self::HalfOptIn(_) => "HalfOptIn",
            Self::InvalidAnnotation { key: _ } => "InvalidAnnotation",
            Self::UnknownAnnotation { key: _ } => "UnknownAnnotation",
            Self::IndexStale => "IndexStale",
            Self::Paused => "Paused",
            Self::RolloutInProgress => "RolloutInProgress",
            Self::Scaling => "Scaling",
            Self::NotAsked => "NotAsked",
            Self::UnknownCapacity => "UnknownCapacity",
            Self::WebhookDisabled => "WebhookDisabled",
            Self::WindowClosed { opens: _ } => "WindowClosed",
            Self::CoolingDown => "CoolingDown",
            Self::WebhookNotSteering => "WebhookNotSteering",
            Self::WaitingForReady { pod: _ } => "WaitingForReady",
            Self::NoCapacity { capacity: _ } => "NoCapacity",
            Self::CapacityUnseen { capacity: _ } => "CapacityUnseen",
            Self::PlacementConflict { wanted: _ } => PLACEMENT_CONFLICT,
            Self::LimitReached => "LimitReached",
            Self::MoveBlockedByPdb { pdb: _ } => "MoveBlockedByPDB",
            Self::SeveralPdbs { pod: _ } => "SeveralPDBs",
            Self::PodsKept => "PodsKept",
            Self::OutdatedPods => "OutdatedPods",
            Self::EvictionRefused { pod: _ } => "EvictionRefused",
            Self::Rebalanced { pod: _, from: _, to: _ } => "Rebalanced",
            Self::Seating => "Seating",
            Self::Placed { capacity: _, slot: _ } => "Placed",
            Self::PlacedInDoubt(_) => "PlacedInDoubt",
        }
    }

    /// Why a value or a key of ours is told of.
    pub fn of_problem(problem: &Problem) -> Self {
        let key = problem.key.as_str().into();
        match problem.fault {
            Fault::Invalid { .. } => Self::InvalidAnnotation { key },
            Fault::UnknownKey { .. } | Fault::Misplaced { .. } => Self::UnknownAnnotation { key },
        }
    }

    /// The row of the reference table.
    pub fn doc(&self) -> &'static ReasonDoc {
        REASONS.iter().find(|doc| doc.code == self.code()).expect("every code has a row: tested")
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OnTarget => f.write_str("the split is exact"),
            Self::NotManaged => f.write_str("not opted in"),
            Self::HalfOptIn(Missing::Namespace) => f.write_str("the workload is labelled, its namespace is not"),
            Self::HalfOptIn(Missing::Workload) => f.write_str("the namespace is labelled, the workload is not"),
            Self::InvalidAnnotation { key } => {
                write!(f, "{key} cannot be used: new pods go to on-demand, nothing is moved until it is mended")
            }
            Self::UnknownAnnotation { key } => write!(f, "{key} means nothing there"),
            Self::IndexStale => f.write_str("the view of the cluster is not complete, so nothing is moved"),
            Self::Paused => f.write_str("the workload is paused"),
            Self::RolloutInProgress => f.write_str("a rollout is in progress"),
            Self::Scaling => f.write_str("pods are being added or removed"),
            Self::NotAsked => {
                f.write_str("spot-percentage is set nowhere: new pods go to on-demand, running pods stay")
            }
            Self::UnknownCapacity => f.write_str("pods run on nodes of unknown type, which are never moved"),
            Self::WebhookDisabled => f.write_str("the webhook is disabled, so drift is reported but not mended"),
            Self::WindowClosed { opens: Some(opens) } => write!(f, "the disruption window is closed until {opens}"),
            Self::WindowClosed { opens: None } => f.write_str("the disruption window never opens"),
            Self::CoolingDown => f.write_str("a pod changed a moment ago"),
            Self::WebhookNotSteering => f.write_str(
                "a replacement came back unsteered, so nothing is evicted until the webhook is called again",
            ),
            Self::WaitingForReady { pod } => write!(f, "pod {pod} is not Ready"),
            Self::NoCapacity { capacity } => {
                write!(f, "no {capacity} node could take the pod and no autoscaler provides one")
            }
            Self::CapacityUnseen { capacity } => {
                write!(
                    f,
                    "how full {capacity} nodes are is not seen in watched namespaces alone, and no autoscaler provides one"
                )
            }
            Self::PlacementConflict { wanted } => {
                write!(f, "the pod's own constraints exclude {wanted} nodes, which its slot wants")
            }
            Self::LimitReached => f.write_str("as many moves as allowed are under way in the cluster"),
            Self::MoveBlockedByPdb { pdb } => write!(f, "PodDisruptionBudget {pdb} allows no eviction now"),
            Self::SeveralPdbs { pod } => {
                write!(f, "pod {pod} has more than one PodDisruptionBudget, which the eviction API refuses")
            }
            Self::PodsKept => f.write_str("the pods to move ask not to be disrupted"),
            Self::OutdatedPods => f.write_str("the pods to move would come back at another revision"),
            Self::EvictionRefused { pod } => write!(f, "the API server refuses the eviction of {pod}"),
            Self::Rebalanced { pod, from, to } => {
                write!(f, "evicted {pod} from {from} so that its replacement starts on {to}")
            }
            Self::Seating => f.write_str("pods are given free slots of their own type"),
            Self::Placed { capacity, slot } => write!(f, "slot {slot} is {capacity}"),
            Self::PlacedInDoubt(Doubt::ColdIndex) => f.write_str("on-demand: the first lists were not complete"),
            Self::PlacedInDoubt(Doubt::StaleIndex) => f.write_str("on-demand: a watch was silent"),
            Self::PlacedInDoubt(Doubt::UnknownOwner) => f.write_str("on-demand: the owner was not known yet"),
            Self::PlacedInDoubt(Doubt::Deadline) => f.write_str("on-demand: there was no time left to decide"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The longest name of an object, without a digit that could be taken for a figure.
    fn name() -> Arc<str> {
        "n".repeat(253).into()
    }

    /// One of each variant, and of each sentence that a variant can have. A new variant stops the build here.
    fn samples() -> Vec<Reason> {
        let of = |reason: Reason| match &reason {
            Reason::HalfOptIn(_) => [Missing::Namespace, Missing::Workload].map(Reason::HalfOptIn).to_vec(),
            Reason::WindowClosed { opens: _ } => {
                [None, Some(Timestamp::UNIX_EPOCH)].map(|opens| Reason::WindowClosed { opens }).to_vec()
            }
            Reason::NoCapacity { capacity: _ } => {
                CapacityType::ALL.map(|capacity| Reason::NoCapacity { capacity }).to_vec()
            }
            Reason::CapacityUnseen { capacity: _ } => {
                CapacityType::ALL.map(|capacity| Reason::CapacityUnseen { capacity }).to_vec()
            }
            Reason::PlacementConflict { wanted: _ } => {
                CapacityType::ALL.map(|wanted| Reason::PlacementConflict { wanted }).to_vec()
            }
            Reason::Rebalanced { pod, from: _, to: _ } => {
                CapacityType::ALL.map(|from| Reason::Rebalanced { pod: pod.clone(), from, to: from.other() }).to_vec()
            }
            Reason::PlacedInDoubt(_) => [Doubt::ColdIndex, Doubt::StaleIndex, Doubt::UnknownOwner, Doubt::Deadline]
                .map(Reason::PlacedInDoubt)
                .to_vec(),
            Reason::OnTarget
            | Reason::NotManaged
            | Reason::InvalidAnnotation { key: _ }
            | Reason::UnknownAnnotation { key: _ }
            | Reason::IndexStale
            | Reason::Paused
            | Reason::RolloutInProgress
            | Reason::Scaling
            | Reason::NotAsked
            | Reason::UnknownCapacity
            | Reason::WebhookDisabled
            | Reason::CoolingDown
            | Reason::WebhookNotSteering
            | Reason::WaitingForReady { pod: _ }
            | Reason::LimitReached
            | Reason::MoveBlockedByPdb { pdb: _ }
            | Reason::SeveralPdbs { pod: _ }
            | Reason::EvictionRefused { pod: _ }
            | Reason::PodsKept
            | Reason::OutdatedPods
            | Reason::Seating
            | Reason::Placed { capacity: _, slot: _ } => vec![reason],
        };
        let (from, to) = (CapacityType::Spot, CapacityType::OnDemand);
        [
            Reason::OnTarget,
            Reason::NotManaged,
            Reason::HalfOptIn(Missing::Namespace),
            Reason::InvalidAnnotation { key: "spotalis.io/disruption-time-zone".into() },
            Reason::UnknownAnnotation { key: name() },
            Reason::IndexStale,
            Reason::Paused,
            Reason::RolloutInProgress,
            Reason::Scaling,
            Reason::NotAsked,
            Reason::UnknownCapacity,
            Reason::WebhookDisabled,
            Reason::WindowClosed { opens: None },
            Reason::CoolingDown,
            Reason::WebhookNotSteering,
            Reason::WaitingForReady { pod: name() },
            Reason::NoCapacity { capacity: to },
            Reason::CapacityUnseen { capacity: to },
            Reason::PlacementConflict { wanted: to },
            Reason::LimitReached,
            Reason::MoveBlockedByPdb { pdb: name() },
            Reason::SeveralPdbs { pod: name() },
            Reason::PodsKept,
            Reason::OutdatedPods,
            Reason::EvictionRefused { pod: name() },
            Reason::Rebalanced { pod: name(), from, to },
            Reason::Seating,
            Reason::Placed { capacity: to, slot: 7 },
            Reason::PlacedInDoubt(Doubt::ColdIndex),
        ]
        .into_iter()
        .flat_map(of)
        .collect()
    }

    #[test]
    fn codes_and_rows_belong_to_each_other() {
        let codes: BTreeSet<&str> = samples().iter().map(Reason::code).collect();
        let rows: BTreeSet<&str> = REASONS.iter().map(|doc| doc.code).collect();
        assert_eq!(rows.len(), REASONS.len(), "a code has two rows");
        assert_eq!(codes, rows);
        for reason in samples() {
            assert_eq!(reason.doc().code, reason.code());
        }
    }

    #[test]
    fn codes_are_upper_camel_and_rows_are_one_sentence_or_more() {
        for ReasonDoc { code, event: _, meaning } in REASONS {
            // The API server takes at most 128 bytes as the reason of an Event.
            assert!(code.len() <= 128 && code.starts_with(|c: char| c.is_ascii_uppercase()), "{code}");
            assert!(code.bytes().all(|b| b.is_ascii_alphanumeric()), "{code}");
            assert!(meaning.ends_with('.') && !meaning.contains(['\n', '|']), "{code}: {meaning}");
        }
    }

    /// The note of an Event has at most 1,024 bytes and never changes.
    #[test]
    fn sentences_fit_an_event_and_carry_no_figure_that_changes() {
        for reason in samples() {
            let sentence = reason.to_string();
            assert!(!sentence.is_empty() && sentence.len() <= 1_024, "{}: {} bytes", reason.code(), sentence.len());
            assert!(!sentence.contains(char::is_control), "{sentence:?}");
            assert!(sentence.starts_with(|c: char| !c.is_whitespace()) && !sentence.ends_with('.'), "{sentence:?}");
            if reason.doc().event.is_some() {
                assert!(!sentence.contains(|c: char| c.is_ascii_digit()), "{sentence:?}");
            }
        }
    }

    /// A sentence told of two situations would leave the reader to guess.
    #[test]
    fn no_two_reasons_read_alike() {
        let sentences: BTreeSet<String> = samples().iter().map(ToString::to_string).collect();
        assert_eq!(sentences.len(), samples().len());
    }
}
