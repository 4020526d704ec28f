//! One admission: from the bytes of a review to the bytes of its answer.
//!
//! Everything is in the index, so nothing is asked of the API server and nothing is searched. The only thing ever waited
//! for is an owner that the watch has not shown yet, and that for a tenth of a second. Whatever goes wrong, the pod is
//! allowed; where its policy is known it then goes to on-demand, otherwise it is left as it is.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use parking_lot::Mutex;
use spotalis_core::admission::Verdict;
use spotalis_core::capacity::CapacityType;
use spotalis_core::policy::{Policy, keys};
use spotalis_core::reason::Reason;
use spotalis_core::steering::{self, OnConflict, Steering, SteeringRules};
use spotalis_kube::index::{Answer, Index, Newcomer, Untouched, WorkloadKey, WorkloadKind};
use spotalis_kube::names;
use spotalis_runtime::Clock;
use spotalis_runtime::events::{EventRecorder, Notice};
use tokio::sync::{Notify, watch};

use crate::metrics::AdmissionMetrics;
use crate::patch::PodPatch;
use crate::peer::PeerLink;
use crate::wire::{self, Pod, Review, ReviewError};

/// How long a pod waits for its ReplicaSet to be seen. The start of a rollout is the usual case: the ReplicaSet's watch
/// event and its first pod are on their way at the same time.
const OWNER_PATIENCE: Duration = Duration::from_millis(100);

/// What of the configuration admission needs; replaced as a whole on reload.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// `readOnlyMode`: answer as if there were nothing to add.
    pub read_only: bool,
    /// `distribution.scaleDownOrder: pod-deletion-cost`.
    pub deletion_cost: bool,
}

/// What came of an admission; the metric label `result`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// Steered to its seat.
    Steered,
    /// Steered to on-demand because the view was in doubt.
    Doubt,
    /// Answered by the leader.
    Forwarded,
    /// Steered by an earlier call.
    Already,
    /// Its own constraints say otherwise.
    Conflict,
    /// Not opted in, or not ours.
    Untouched,
    /// Nothing is known of its owner.
    UnknownOwner,
    /// `readOnlyMode`.
    ReadOnly,
    /// The review is not one of a pod that we can read.
    Unreadable,
    /// There is no uid to answer to.
    Refused,
}

impl Outcome {
    /// All of them, for the reference table.
    pub const ALL: [Self; 10] = [
        Self::Steered,
        Self::Doubt,
        Self::Forwarded,
        Self::Already,
        Self::Conflict,
        Self::Untouched,
        Self::UnknownOwner,
        Self::ReadOnly,
        Self::Unreadable,
        Self::Refused,
    ];

    /// The metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Steered => "steered",
            Self::Doubt => "doubt",
            Self::Forwarded => "forwarded",
            Self::Already => "already",
            Self::Conflict => "conflict",
            Self::Untouched => "untouched",
            Self::UnknownOwner => "unknown_owner",
            Self::ReadOnly => "read_only",
            Self::Unreadable => "unreadable",
            Self::Refused => "refused",
        }
    }
}

/// The body of an answer, or why there is none.
#[derive(Debug)]
pub struct Reply {
    /// An AdmissionReview; for [`Outcome::Refused`] a sentence for an HTTP 400.
    pub body: Vec<u8>,
    /// What came of it.
    pub outcome: Outcome,
}

/// How to look at the index.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Look {
    /// Only to see what would come of it.
    Peek,
    /// For good, if the owner is known.
    Decide,
    /// For good; an owner that is not known is guessed by its name.
    FollowName,
}

/// Decides admissions. Clones are the same.
#[derive(Clone)]
pub struct Admission {
    index: Arc<Mutex<Index>>,
    /// Told whenever the index changed.
    changed: Arc<Notify>,
    settings: watch::Receiver<Settings>,
    events: EventRecorder,
    metrics: AdmissionMetrics,
    clock: Clock,
    /// The way to the leader, where there are several replicas.
    peers: Option<Arc<PeerLink>>,
}

impl Admission {
    /// Decides from `index`; `changed` must be told of every change of it.
    pub const fn new(
        index: Arc<Mutex<Index>>,
        changed: Arc<Notify>,
        settings: watch::Receiver<Settings>,
        events: EventRecorder,
        metrics: AdmissionMetrics,
        clock: Clock,
    ) -> Self {
        Self { index, changed, settings, events, metrics, clock, peers: None }
    }

    /// Has a follower ask the leader first.
    #[must_use]
    pub fn with_peers(self, peers: Arc<PeerLink>) -> Self {
        Self { peers: Some(peers), ..self }
    }

    /// Answers a review that a follower passed on; `None` if this replica does not lead.
    pub async fn answer_as_leader(&self, body: &[u8]) -> Option<Reply> {
        self.peers.as_ref().is_some_and(|peers| peers.leads()).then_some(())?;
        Some(self.answer(body).await)
    }

    /// Answers a review, waiting for its owner if need be.
    pub async fn answer(&self, body: &[u8]) -> Reply {
        let started = self.clock.elapsed();
        let reply = self.decide(body).await;
        self.metrics.answered(reply.outcome, self.clock.elapsed().saturating_sub(started));
        reply
    }

    async fn decide(&self, body: &[u8]) -> Reply {
        let review = match wire::parse(body) {
            Ok(review) => review,
            Err(error) => return unreadable(&error),
        };
        let Some(pod) = &review.pod else { return untouched(&review, Outcome::Untouched) };
        if let Some(answer) = self.leaders_answer(&review, pod, body).await {
            return Reply { body: answer, outcome: Outcome::Forwarded };
        }
        let deadline = tokio::time::Instant::now() + OWNER_PATIENCE;
        loop {
            let changed = self.changed.notified();
            if let Some(reply) = self.try_decide(&review, pod, Look::Decide) {
                return reply;
            }
            if tokio::time::timeout_at(deadline, changed).await.is_err() {
                break;
            }
        }
        self.try_decide(&review, pod, Look::FollowName).unwrap_or_else(|| untouched(&review, Outcome::UnknownOwner))
    }

    /// What the leader says, if this is a follower and the pod is one that the ledger decides about.
    async fn leaders_answer(&self, review: &Review<'_>, pod: &Pod<'_>, body: &[u8]) -> Option<Vec<u8>> {
        let peers = self.peers.as_ref().filter(|peers| !peers.leads())?;
        let Reply { body: _, outcome } = self.try_decide(review, pod, Look::Peek)?;
        match outcome {
            Outcome::Steered | Outcome::Doubt | Outcome::Conflict => peers.ask(body).await.map(Into::into),
            Outcome::Forwarded
            | Outcome::Already
            | Outcome::Untouched
            | Outcome::UnknownOwner
            | Outcome::ReadOnly
            | Outcome::Unreadable
            | Outcome::Refused => None,
        }
    }

    /// One look at the index; `None` if the owner is not there yet.
    fn try_decide(&self, review: &Review<'_>, pod: &Pod<'_>, look: Look) -> Option<Reply> {
        let settings = *self.settings.borrow();
        let without_trace = review.dry_run || settings.read_only || look == Look::Peek;
        let Some(owner) = &pod.controller else { return Some(untouched(review, Outcome::Untouched)) };
        let newcomer = Newcomer {
            id: &review.uid,
            dry_run: without_trace,
            namespace: &pod.namespace,
            name: &pod.name,
            owner: (&owner.kind, &owner.name, &owner.uid),
            marked: pod.annotation(keys::ADMISSION_ID),
            steered: pod.label(keys::CAPACITY_TYPE).and_then(CapacityType::parse),
            template_hash: pod.label(names::POD_TEMPLATE_HASH),
            placement: &pod.placement,
        };
        let now = self.clock.now();
        let (answer, classes, on_conflict) = {
            let mut index = self.index.lock();
            let answer = index.admit(&newcomer, look == Look::FollowName, now);
            (answer, index.rules().classes.clone(), index.rules().on_conflict)
        };
        let reply = match answer {
            Answer::OwnerUnknown => return None,
            Answer::Untouched(Untouched::UnknownOwner) => untouched(review, Outcome::UnknownOwner),
            Answer::Untouched(_) => untouched(review, Outcome::Untouched),
            Answer::Already(_) => untouched(review, Outcome::Already),
            Answer::Unplaceable { constraint, workload } => {
                let note = format!("{constraint} excludes both spot and on-demand nodes; the pod is left alone");
                self.tell_conflict(without_trace, &workload, note);
                untouched(review, Outcome::Conflict)
            }
            Answer::Decided { .. } if settings.read_only => untouched(review, Outcome::ReadOnly),
            Answer::Decided { verdict, policy, workload } => match steer(verdict, &policy, on_conflict) {
                Err(wanted) => {
                    let note = Reason::PlacementConflict { wanted }.to_string();
                    self.tell_conflict(without_trace, &workload, note);
                    untouched(review, Outcome::Conflict)
                }
                Ok((capacity, rules)) => {
                    let steering = steering::steer(&pod.placement, capacity, &classes, rules);
                    let patch = patch(review, pod, verdict, capacity, &steering, settings, workload.kind);
                    let outcome =
                        if matches!(verdict, Verdict::OnDemand(_)) { Outcome::Doubt } else { Outcome::Steered };
                    Reply { body: wire::respond(&review.uid, patch.as_deref(), &[]), outcome }
                }
            },
        };
        Some(reply)
    }

    fn tell_conflict(&self, without_trace: bool, workload: &WorkloadKey, note: String) {
        if without_trace {
            return;
        }
        let Some(uid) = self.index.lock().uid(workload) else { return };
        self.events.publish(Notice {
            regarding: ObjectReference {
                api_version: Some("apps/v1".to_owned()),
                kind: Some(workload.kind.as_str().to_owned()),
                namespace: Some(workload.namespace.to_string()),
                name: Some(workload.name.to_string()),
                uid: Some(uid.to_string()),
                ..ObjectReference::default()
            },
            related: None,
            reason: "PlacementConflict",
            note,
            warning: true,
            action: "Admit",
        });
    }
}

/// What to steer to, or what was wanted if the pod is to be left alone.
fn steer(
    verdict: Verdict,
    policy: &Policy,
    on_conflict: OnConflict,
) -> Result<(CapacityType, SteeringRules), CapacityType> {
    let rules = SteeringRules { placement: policy.placement.value, on_conflict };
    match verdict {
        Verdict::Seated(seat) => Ok((seat.capacity, rules)),
        Verdict::OnDemand(_) => Ok((CapacityType::OnDemand, rules)),
        Verdict::Conflict { wanted, pinned: _ } => Err(wanted),
    }
}

fn patch(
    review: &Review<'_>,
    pod: &Pod<'_>,
    verdict: Verdict,
    capacity: CapacityType,
    steering: &Steering<'_>,
    settings: Settings,
    kind: WorkloadKind,
) -> Option<Vec<u8>> {
    let reason = match verdict {
        Verdict::Seated(seat) => Reason::Placed { capacity, slot: seat.slot },
        Verdict::OnDemand(doubt) => Reason::PlacedInDoubt(doubt),
        Verdict::Conflict { wanted, pinned: _ } => Reason::PlacementConflict { wanted },
    };
    let mut patch = PodPatch::new(pod)
        .label(keys::CAPACITY_TYPE, capacity.as_str())
        .annotation(keys::ADMISSION_ID, &*review.uid)
        .annotation(keys::PLACEMENT_REASON, reason.to_string());
    if let Verdict::Seated(seat) = verdict {
        patch = patch.annotation(keys::SLOT, seat.slot.to_string());
        // A StatefulSet removes its highest ordinal whatever a pod costs.
        let costs = settings.deletion_cost && kind == WorkloadKind::Deployment;
        if costs && pod.annotation(names::POD_DELETION_COST).is_none() {
            patch = patch.annotation(names::POD_DELETION_COST, format!("-{}", seat.slot));
        }
    }
    match steering {
        Steering::Amend(amendment) => patch.amend(amendment),
        Steering::Satisfied | Steering::Bound | Steering::Conflict(_) => patch,
    }
    .into_bytes()
}

fn untouched(review: &Review<'_>, outcome: Outcome) -> Reply {
    Reply { body: wire::respond(&review.uid, None, &[]), outcome }
}

fn unreadable(error: &ReviewError) -> Reply {
    match error {
        ReviewError::NoUid(_) => Reply { body: error.to_string().into_bytes(), outcome: Outcome::Refused },
        ReviewError::Unreadable { uid, fault: _ } => {
            tracing::debug!(%error, "allowed untouched");
            Reply { body: wire::respond(uid, None, &[]), outcome: Outcome::Unreadable }
        }
    }
}
