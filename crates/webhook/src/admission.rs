//! One admission: from the bytes of a review to the bytes of its answer.
//!
//! Everything is in the index, so nothing is asked of the API server and nothing is searched. The only thing ever waited
//! for is what the watch has not shown yet, and that for a tenth of a second. Whatever goes wrong, the pod is allowed;
//! where its policy is known it then goes to on-demand, otherwise it is left as it is.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use spotalis_core::admission::Verdict;
use spotalis_core::capacity::CapacityType;
use spotalis_core::policy::{Policy, keys};
use spotalis_core::reason::{PLACEMENT_CONFLICT, Reason};
use spotalis_core::slots::Seat;
use spotalis_core::steering::{self, OnConflict, Steering, SteeringRules};
use spotalis_kube::index::{Answer, Index, Look, Newcomer, Untouched, WorkloadKey, WorkloadKind};
use spotalis_kube::names;
use spotalis_runtime::Clock;
use spotalis_runtime::events::{EventRecorder, Notice};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::metrics::AdmissionMetrics;
use crate::patch::PodPatch;
use crate::peer::{self, LeadersAnswer, PeerLink};
use crate::wire::{self, Pod, Review, ReviewError};

/// How long a pod waits for what has not been seen yet. The start of a rollout is the usual case: the ReplicaSet's watch
/// event and its first pod are on their way at the same time.
const WATCH_PATIENCE: Duration = Duration::from_millis(100);
/// After this nothing is waited for or trusted any more.
const DEADLINE: Duration = Duration::from_millis(200);

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

    /// Whether it is what the ledger says, without a doubt: then the leader's ledger is the truth.
    const fn is_the_ledgers(self) -> bool {
        match self {
            Self::Steered | Self::Conflict => true,
            Self::Doubt
            | Self::Forwarded
            | Self::Already
            | Self::Untouched
            | Self::UnknownOwner
            | Self::ReadOnly
            | Self::Unreadable
            | Self::Refused => false,
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
    /// The seat that the pod was given.
    pub seat: Option<Seat>,
}

/// Whether what is decided counts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Only to see what would come of it.
    Peek,
    /// For good.
    Decide,
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

    /// Answers a review that a follower passed on; `None` if this replica does not lead, or knows no better than the
    /// follower. Whether it does is looked at before anything is reserved.
    pub async fn answer_as_leader(&self, body: &[u8]) -> Option<Reply> {
        self.peers.as_ref().filter(|peers| peers.leads())?;
        let review = wire::parse(body).ok()?;
        let pod = review.pod.as_ref()?;
        let deadline = Instant::now() + peer::PATIENCE;
        loop {
            let changed = self.changed.notified();
            match self.try_decide(&review, pod, Look::First, Mode::Peek) {
                Some(reply) if reply.outcome.is_the_ledgers() => return Some(self.answer(body).await),
                Some(_) => return None,
                None => tokio::time::timeout_at(deadline, changed).await.ok()?,
            }
        }
    }

    /// Answers a review, waiting for what is not known yet if need be.
    pub async fn answer(&self, body: &[u8]) -> Reply {
        let started = self.clock.elapsed();
        let reply = self.decide(body).await;
        self.metrics.answered(reply.outcome, self.clock.elapsed().saturating_sub(started));
        reply
    }

    async fn decide(&self, body: &[u8]) -> Reply {
        let begun = Instant::now();
        let review = match wire::parse(body) {
            Ok(review) => review,
            Err(error) => return unreadable(&error),
        };
        let Some(pod) = &review.pod else { return untouched(&review, Outcome::Untouched) };
        let mut leader = self.peers.as_deref().filter(|peers| !peers.leads());
        loop {
            let changed = self.changed.notified();
            if let Some(peers) = leader
                && let Some(foreseen) = self.try_decide(&review, pod, Look::First, Mode::Peek)
            {
                // Asked once, as soon as the pod is known to be one that the ledger decides about.
                leader = None;
                if (foreseen.outcome.is_the_ledgers() || foreseen.outcome == Outcome::Doubt)
                    && let Some(reply) = self.leaders_answer(peers, &review, pod, body).await
                {
                    return reply;
                }
            }
            if let Some(reply) = self.try_decide(&review, pod, Look::First, Mode::Decide) {
                return reply;
            }
            if tokio::time::timeout_at(begun + WATCH_PATIENCE, changed).await.is_err() {
                break;
            }
        }
        // The leader may know what this replica still does not.
        if let Some(peers) = leader
            && let Some(reply) = self.leaders_answer(peers, &review, pod, body).await
        {
            return reply;
        }
        let look = if begun.elapsed() < DEADLINE { Look::Last } else { Look::Late };
        self.try_decide(&review, pod, look, Mode::Decide).unwrap_or_else(|| untouched(&review, Outcome::UnknownOwner))
    }

    /// What the leader says, if it answers in time. Its seat counts here as well, in case the next pod has to be decided
    /// without it.
    async fn leaders_answer(&self, peers: &PeerLink, review: &Review<'_>, pod: &Pod<'_>, body: &[u8]) -> Option<Reply> {
        let LeadersAnswer { body, seat } = peers.ask(body).await?;
        if let (Some(seat), Some(owner), false) = (seat, &pod.controller, self.leaves_no_trace(review)) {
            self.index.lock().note_admission(&owner.uid, &review.uid, seat, self.clock.steady());
        }
        Some(Reply { body: body.into(), outcome: Outcome::Forwarded, seat })
    }

    fn leaves_no_trace(&self, review: &Review<'_>) -> bool {
        review.dry_run || self.settings.borrow().read_only
    }

    /// One look at the index; `None` if something is not there yet.
    fn try_decide(&self, review: &Review<'_>, pod: &Pod<'_>, look: Look, mode: Mode) -> Option<Reply> {
        let settings = *self.settings.borrow();
        let without_trace = mode == Mode::Peek || self.leaves_no_trace(review);
        let Some(owner) = &pod.controller else { return Some(untouched(review, Outcome::Untouched)) };
        let newcomer = Newcomer {
            id: &review.uid,
            dry_run: without_trace,
            namespace: &pod.namespace,
            name: &pod.name,
            owner_api: &owner.api_version,
            owner: (&owner.kind, &owner.name, &owner.uid),
            marked: pod.annotation(keys::ADMISSION_ID),
            steered: pod.label(keys::CAPACITY_TYPE).and_then(CapacityType::parse),
            template_hash: pod.label(names::POD_TEMPLATE_HASH),
            placement: &pod.placement,
        };
        let now = self.clock.steady();
        let (answer, classes, on_conflict) = {
            let mut index = self.index.lock();
            let answer = index.admit(&newcomer, look, now);
            (answer, index.rules().classes.clone(), index.rules().on_conflict)
        };
        let reply = match answer {
            Answer::NotYet => return None,
            Answer::Untouched(Untouched::UnknownOwner) => untouched(review, Outcome::UnknownOwner),
            Answer::Untouched(_) => untouched(review, Outcome::Untouched),
            Answer::Already { .. } | Answer::Decided { .. } if settings.read_only => {
                untouched(review, Outcome::ReadOnly)
            }
            Answer::Already { capacity, policy } => {
                let rules = SteeringRules { placement: policy.placement.value, on_conflict };
                let patch = match steering::steer(&pod.placement, capacity, &classes, rules) {
                    Steering::Amend(amendment) => PodPatch::new(pod).amend(&amendment).into_bytes(),
                    Steering::Satisfied | Steering::Bound | Steering::Conflict(_) => None,
                };
                Reply { body: wire::respond(&review.uid, patch.as_deref(), &[]), outcome: Outcome::Already, seat: None }
            }
            Answer::Unplaceable { constraint, workload } => {
                let note = format!("{constraint} excludes both spot and on-demand nodes; the pod is left alone");
                self.tell_conflict(without_trace, &workload, note);
                untouched(review, Outcome::Conflict)
            }
            Answer::Decided { verdict, policy, workload } => match steer(verdict, &policy, on_conflict) {
                Err(wanted) => {
                    let note = Reason::PlacementConflict { wanted }.to_string();
                    self.tell_conflict(without_trace, &workload, note);
                    untouched(review, Outcome::Conflict)
                }
                Ok((capacity, rules)) => {
                    let steering = steering::steer(&pod.placement, capacity, &classes, rules);
                    let patch = patch(review, pod, verdict, capacity, &steering, settings, workload.kind);
                    let (outcome, seat) = match verdict {
                        Verdict::Seated(seat) => (Outcome::Steered, Some(seat)),
                        Verdict::OnDemand(_) | Verdict::Conflict { .. } => (Outcome::Doubt, None),
                    };
                    Reply { body: wire::respond(&review.uid, patch.as_deref(), &[]), outcome, seat }
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
            regarding: workload.reference(&uid),
            related: None,
            reason: PLACEMENT_CONFLICT,
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
    } else {
        // One that came with the template is a claim of every pod on the same slot.
        patch = patch.without_annotation(keys::SLOT);
    }
    match steering {
        Steering::Amend(amendment) => patch.amend(amendment),
        Steering::Satisfied | Steering::Bound | Steering::Conflict(_) => patch,
    }
    .into_bytes()
}

fn untouched(review: &Review<'_>, outcome: Outcome) -> Reply {
    Reply { body: wire::respond(&review.uid, None, &[]), outcome, seat: None }
}

fn unreadable(error: &ReviewError) -> Reply {
    match error {
        ReviewError::NoUid(_) => Reply { body: error.to_string().into_bytes(), outcome: Outcome::Refused, seat: None },
        ReviewError::Unreadable { uid, fault: _ } => {
            tracing::debug!(%error, "allowed untouched");
            Reply { body: wire::respond(uid, None, &[]), outcome: Outcome::Unreadable, seat: None }
        }
    }
}
