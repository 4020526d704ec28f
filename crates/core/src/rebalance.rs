//! Decides the next step for one workload: evict one pod, give pods their slots, or wait, and why.
//!
//! One eviction at most, and only when all of these hold: the counts are off, the policy is sound, the view fresh, no
//! rollout or scaling under way, the window open, the cooldown over, admission proven live, every pod that stays Ready,
//! room for the replacement, and a victim that no budget or annotation protects. Drift is by counts and only pods of the
//! surplus type are victims, so no act raises |realized - wanted|.
//!
//! Must not: touch templates, move pods of unknown type, look at a clock, or know how an eviction is sent.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::capacity::CapacityType;
use crate::opt_in::OptIn;
use crate::policy::{Policy, Standing};
use crate::reason::Reason;
use crate::slots::{Sitter, seat};
use crate::split::Split;
use crate::window::Window;

/// The first pause after a replacement came back unsteered, or landed elsewhere than it was steered to; each further one doubles it.
pub const PROBE_BACKOFF: Duration = Duration::from_mins(5);
/// How long to wait for a view that is not whole.
const STALE_PAUSE: Duration = Duration::from_secs(1);
/// The longest such pause.
pub const PROBE_BACKOFF_MAX: Duration = Duration::from_mins(30);

/// How far the workload's own controller is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rollout {
    /// Observed, and every pod that should be is at the newest revision.
    Settled,
    /// `spec.paused`.
    Paused,
    /// Not observed yet, or pods of older revisions remain that are to be replaced.
    InProgress,
}

/// How the workload numbers and updates its pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nature {
    /// Pods without identity: a Deployment.
    Interchangeable,
    /// Pods with ordinals: a StatefulSet.
    Ordinal {
        /// `podManagementPolicy: OrderedReady`: no pod is created before all lower ordinals are Ready.
        ordered: bool,
    },
}

/// The PodDisruptionBudgets that select a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Budgets {
    /// None does.
    None,
    /// Exactly one.
    One {
        /// Its name.
        name: Arc<str>,
        /// Whether its status is current and allows an eviction now.
        allows: bool,
    },
    /// More than one: the eviction API answers 500.
    Several,
}

/// An active pod of the workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// `metadata.name`.
    pub name: Arc<str>,
    /// `metadata.uid`.
    pub uid: Arc<str>,
    /// What it counts as: the type of its node, or, unbound, what it was steered to.
    pub capacity: Option<CapacityType>,
    /// What it was steered to at admission, wherever it runs.
    pub steered: Option<CapacityType>,
    /// Slot: the claim of its annotation, or its ordinal's.
    pub slot: Option<u32>,
    /// `pod-deletion-cost`, if set.
    pub deletion_cost: Option<i32>,
    /// Whether it carries our admission id.
    pub marked: bool,
    /// Ready condition true.
    pub ready: bool,
    /// Its replacement would be of the same revision.
    pub keeps_revision: bool,
    /// Asks not to be disrupted.
    pub kept: bool,
    /// `metadata.creationTimestamp`.
    pub created: Timestamp,
    /// PodDisruptionBudgets that select it.
    pub budgets: Budgets,
    /// How many pods of this workload run on its node.
    pub neighbours: u32,
}

/// What the index knows about one workload.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Whether the workload is managed.
    pub opt_in: OptIn,
    /// Its policy.
    pub policy: Arc<Policy>,
    /// The invalid key that decides, if the policy fails closed.
    pub invalid_key: Option<Arc<str>>,
    /// How its pods are numbered and updated.
    pub nature: Nature,
    /// `spec.replicas`.
    pub replicas: u32,
    /// How far its controller is.
    pub rollout: Rollout,
    /// Active pods, counted.
    pub realized: Realized,
    /// Active pods, oldest first, ties by name. None of them while the rollout or their number alone decides.
    pub pods: Vec<Pod>,
    /// The newest creation, deletion request or change of readiness among all its pods, terminating ones included.
    pub last_change: Option<Timestamp>,
}

/// Whether a replacement would find a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// A node can take it, or an autoscaler provides the type.
    Enough,
    /// Neither.
    None,
    /// No autoscaler provides the type, and how full its nodes are is not known.
    Unseen,
    /// The template's own constraints exclude the type.
    Excluded,
}

/// An eviction made without proof that its replacement would be steered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// When the eviction was accepted.
    pub evicted: Timestamp,
    /// How many probes came back unsteered before this one.
    pub failures: u32,
}

/// What holds outside the workload.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances {
    /// All watches are synced and none is silent.
    pub fresh: bool,
    /// An eviction of ours was accepted and the view does not show it yet.
    pub awaited: bool,
    /// `webhook.enabled`.
    pub steering: bool,
    /// Another disruption is allowed in the cluster.
    pub limit_free: bool,
    /// `controller.cooldown`.
    pub cooldown: Duration,
    /// When this leader's term began, if the caller leads: the last act of the one before may not be seen yet.
    pub term_began: Option<Timestamp>,
    /// `distribution.scaleDownOrder: pod-deletion-cost`.
    pub seating: bool,
    /// The last unproven eviction of this workload, until one came back steered.
    pub probe: Option<Probe>,
}

/// Realized counts of active pods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Realized {
    /// On spot nodes.
    pub spot: u32,
    /// On on-demand nodes.
    pub on_demand: u32,
    /// On nodes of neither class.
    pub unknown: u32,
}

impl Realized {
    /// The count of one type; `None` is unknown.
    pub const fn of(self, capacity: Option<CapacityType>) -> u32 {
        match capacity {
            Some(CapacityType::Spot) => self.spot,
            Some(CapacityType::OnDemand) => self.on_demand,
            None => self.unknown,
        }
    }

    /// All of them.
    pub const fn total(self) -> u32 {
        self.spot + self.on_demand + self.unknown
    }

    /// Counts pods.
    pub fn count(pods: &[Pod]) -> Self {
        let of =
            |capacity| u32::try_from(pods.iter().filter(|pod| pod.capacity == capacity).count()).unwrap_or(u32::MAX);
        Self { spot: of(Some(CapacityType::Spot)), on_demand: of(Some(CapacityType::OnDemand)), unknown: of(None) }
    }
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Evict this pod.
    Evict {
        /// Its name.
        pod: Arc<str>,
        /// Its UID, the fence of the eviction.
        uid: Arc<str>,
        /// Whether its replacement is the proof that admission is live; to be remembered as a [`Probe`].
        probe: Option<u32>,
    },
    /// Write these pods' slot annotation and deletion cost.
    Seat(Vec<Seating>),
}

/// A slot for a running pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seating {
    /// The pod's name.
    pub pod: Arc<str>,
    /// Its UID.
    pub uid: Arc<str>,
    /// Its new slot.
    pub slot: u32,
}

/// The next step, why, and when to look again if nothing happens before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The step; `None` is to wait.
    pub action: Option<Action>,
    /// Why.
    pub reason: Reason,
    /// When waiting may end by itself.
    pub wake_at: Option<Timestamp>,
    /// What the policy wants for the present replicas.
    pub wanted: Split,
    /// What there is.
    pub realized: Realized,
    /// How many moves the drift amounts to.
    pub drift: u32,
}

/// So many moves of one type to the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Drift {
    from: CapacityType,
    moves: u32,
}

/// Decides the next step. `room` is asked only when a move is otherwise due.
pub fn decide(
    snapshot: &Snapshot,
    circumstances: &Circumstances,
    room: impl Fn(CapacityType) -> Room,
    now: Timestamp,
) -> Decision {
    let wanted = snapshot.policy.target().split(snapshot.replicas);
    let realized = snapshot.realized;
    let drift = drift(&snapshot.policy, wanted, realized);
    let step = match settled(snapshot, circumstances) {
        // No event of this workload may tell that the view is whole again.
        Err(Reason::IndexStale) => Step::wait_until(Reason::IndexStale, later(now, STALE_PAUSE)),
        Err(reason) => Step::wait(reason),
        Ok(()) => match drift {
            None => at_rest(snapshot, circumstances, wanted, realized),
            Some(drift) => relocate(snapshot, circumstances, drift, room, now),
        },
    };
    let Step { action, reason, wake_at } = step;
    Decision { action, reason, wake_at, wanted, realized, drift: drift.map_or(0, |drift| drift.moves) }
}

struct Step {
    action: Option<Action>,
    reason: Reason,
    wake_at: Option<Timestamp>,
}

impl Step {
    const fn wait(reason: Reason) -> Self {
        Self { action: None, reason, wake_at: None }
    }

    const fn wait_until(reason: Reason, wake_at: Option<Timestamp>) -> Self {
        Self { action: None, reason, wake_at }
    }
}

/// What must hold before the counts mean anything.
fn settled(snapshot: &Snapshot, circumstances: &Circumstances) -> Result<(), Reason> {
    match &snapshot.opt_in {
        OptIn::Managed => {}
        OptIn::Half(missing) => return Err(Reason::HalfOptIn(*missing)),
        OptIn::Out | OptIn::Never(_) => return Err(Reason::NotManaged),
    }
    match snapshot.policy.standing {
        Standing::Sound => {}
        Standing::FailClosed => {
            let key = snapshot.invalid_key.clone().unwrap_or_else(|| "an annotation".into());
            return Err(Reason::InvalidAnnotation { key });
        }
    }
    if !circumstances.fresh {
        return Err(Reason::IndexStale);
    }
    match snapshot.rollout {
        Rollout::Settled => {}
        Rollout::Paused => return Err(Reason::Paused),
        Rollout::InProgress => return Err(Reason::RolloutInProgress),
    }
    if circumstances.awaited || snapshot.realized.total() != snapshot.replicas {
        return Err(Reason::Scaling);
    }
    Ok(())
}

/// The moves that bring both counts nearer to what is wanted. Without a wish for spot only the floor is mended.
fn drift(policy: &Policy, wanted: Split, realized: Realized) -> Option<Drift> {
    let excess = |capacity| realized.of(Some(capacity)).saturating_sub(wanted.of(capacity));
    let lack = |capacity| wanted.of(capacity).saturating_sub(realized.of(Some(capacity)));
    CapacityType::ALL.into_iter().find_map(|from| {
        let mut moves = excess(from).min(lack(from.other()));
        if !policy.asked_for_spot() {
            moves = match from {
                CapacityType::Spot => moves.min(floor(policy, wanted).saturating_sub(realized.on_demand)),
                CapacityType::OnDemand => 0,
            };
        }
        (moves > 0).then_some(Drift { from, moves })
    })
}

/// The on-demand replicas that the floor asks for: all of them, where there are fewer than it asks.
fn floor(policy: &Policy, wanted: Split) -> u32 {
    policy.target().min_on_demand.of(wanted.total()).min(wanted.total())
}

/// The counts need no move: seat whoever sits wrong.
fn at_rest(snapshot: &Snapshot, circumstances: &Circumstances, wanted: Split, realized: Realized) -> Step {
    let exact = CapacityType::ALL.into_iter().all(|t| realized.of(Some(t)) == wanted.of(t));
    if !exact {
        let policy = &snapshot.policy;
        let holds = !policy.asked_for_spot() && realized.on_demand >= floor(policy, wanted);
        return Step::wait(if holds { Reason::NotAsked } else { Reason::UnknownCapacity });
    }
    let seats = match snapshot.nature {
        Nature::Interchangeable if circumstances.seating && snapshot.pods.iter().all(|pod| pod.ready) => {
            seatings(snapshot)
        }
        Nature::Interchangeable | Nature::Ordinal { ordered: _ } => Vec::new(),
    };
    if seats.is_empty() {
        return Step::wait(Reason::OnTarget);
    }
    Step { action: Some(Action::Seat(seats)), reason: Reason::Seating, wake_at: None }
}

fn seats(snapshot: &Snapshot) -> Vec<Option<u32>> {
    let sitters: Vec<Sitter> =
        snapshot.pods.iter().map(|pod| Sitter { capacity: pod.capacity, claim: pod.slot }).collect();
    seat(snapshot.policy.target(), snapshot.replicas, &sitters)
}

fn seatings(snapshot: &Snapshot) -> Vec<Seating> {
    let moved = |(pod, slot): (&Pod, Option<u32>)| {
        let slot = slot.filter(|slot| pod.slot != Some(*slot) || pod.deletion_cost.is_none())?;
        cost_is_ours(pod).then(|| Seating { pod: pod.name.clone(), uid: pod.uid.clone(), slot })
    };
    snapshot.pods.iter().zip(seats(snapshot)).filter_map(moved).collect()
}

/// A deletion cost other than the one that goes with the pod's slot was written by somebody else.
fn cost_is_ours(pod: &Pod) -> bool {
    pod.deletion_cost.is_none_or(|cost| pod.slot.is_some_and(|slot| i64::from(cost) == -i64::from(slot)))
}

/// A move is due: evict one pod if everything allows it.
fn relocate(
    snapshot: &Snapshot,
    circumstances: &Circumstances,
    drift: Drift,
    room: impl Fn(CapacityType) -> Room,
    now: Timestamp,
) -> Step {
    if !circumstances.steering {
        return Step::wait(Reason::WebhookDisabled);
    }
    if let Some(step) = closed_window(&snapshot.policy.window.value, now) {
        return step;
    }
    let last = snapshot.last_change.max(circumstances.term_began);
    if let Some(until) = last.and_then(|last| later(last, circumstances.cooldown)).filter(|until| *until > now) {
        return Step::wait_until(Reason::CoolingDown, Some(until));
    }
    let probe = match proof(snapshot, circumstances.probe, now) {
        Ok(probe) => probe,
        Err(until) => return Step::wait_until(Reason::WebhookNotSteering, until),
    };
    if let Some(until) = in_vain(snapshot, drift).filter(|until| *until > now) {
        return Step::wait_until(Reason::NoCapacity { capacity: drift.from.other() }, Some(until));
    }
    let candidates = candidates(snapshot, drift.from);
    let (free, protections) = split_protected(&candidates);
    if let Some(pod) = unready_stayer(snapshot, &free, drift) {
        return Step::wait(Reason::WaitingForReady { pod: pod.name.clone() });
    }
    let Some(pod) = free.iter().find(|pod| keeps_from_coming_back(snapshot, pod).is_none()) else {
        let waited_for = free.first().and_then(|pod| keeps_from_coming_back(snapshot, pod));
        let waiting = waited_for.map(|other| Reason::WaitingForReady { pod: other.name.clone() });
        // Drift means that there is a candidate; with none free, the first one is protected.
        return Step::wait(waiting.or_else(|| protections.into_iter().next()).unwrap_or(Reason::Scaling));
    };
    if !circumstances.limit_free {
        return Step::wait(Reason::LimitReached);
    }
    // Last, for it looks at all nodes.
    match room(drift.from.other()) {
        Room::Enough => {}
        Room::None => return Step::wait(Reason::NoCapacity { capacity: drift.from.other() }),
        Room::Unseen => return Step::wait(Reason::CapacityUnseen { capacity: drift.from.other() }),
        Room::Excluded => return Step::wait(Reason::PlacementConflict { wanted: drift.from.other() }),
    }
    Step {
        action: Some(Action::Evict { pod: pod.name.clone(), uid: pod.uid.clone(), probe }),
        reason: Reason::Rebalanced { pod: pod.name.clone(), from: drift.from, to: drift.from.other() },
        wake_at: None,
    }
}

fn closed_window(window: &Window, now: Timestamp) -> Option<Step> {
    if window.is_open(now) {
        return None;
    }
    let opens = window.next_change(now);
    Some(Step::wait_until(Reason::WindowClosed { opens }, opens))
}

/// Whether the next replacement would be steered, by the evidence on the newest pod: `Ok(None)` if that pod was,
/// `Ok(Some(failures))` if one eviction may serve as the probe, and otherwise when to try again.
fn proof(snapshot: &Snapshot, probe: Option<Probe>, now: Timestamp) -> Result<Option<u32>, Option<Timestamp>> {
    let newest = snapshot.pods.iter().max_by_key(|pod| (pod.created, &pod.name));
    let Some(newest) = newest.filter(|pod| !pod.marked) else { return Ok(None) };
    let Some(Probe { evicted, failures }) = probe else { return Ok(Some(0)) };
    let pause = PROBE_BACKOFF.saturating_mul(1 << failures.min(8)).min(PROBE_BACKOFF_MAX);
    let until = later(evicted.max(newest.created), pause);
    if until.is_some_and(|until| until <= now) { Ok(Some(failures.saturating_add(1))) } else { Err(until) }
}

/// Until when a move would be in vain: the newest pods were steered to the wanted type and run on the other one all the
/// same, as `placement: preferred` lets them where the wanted type is short. Each further one of them doubles the pause.
fn in_vain(snapshot: &Snapshot, drift: Drift) -> Option<Timestamp> {
    let strayed = |pod: &&Pod| pod.steered == Some(drift.from.other()) && pod.capacity == Some(drift.from);
    let strays = snapshot.pods.iter().rev().take_while(strayed).count();
    let pause = PROBE_BACKOFF.saturating_mul(1 << strays.checked_sub(1)?.min(8)).min(PROBE_BACKOFF_MAX);
    later(snapshot.pods.last()?.created, pause)
}

/// Pods of the surplus type, in the order in which they should go.
fn candidates(snapshot: &Snapshot, from: CapacityType) -> Vec<&Pod> {
    let target = snapshot.policy.target();
    let mut pods: Vec<(&Pod, bool)> = snapshot
        .pods
        .iter()
        .filter(|pod| pod.capacity == Some(from))
        .map(|pod| (pod, pod.slot.is_some_and(|slot| target.slot(slot) != from)))
        .collect();
    pods.sort_by_key(|(pod, misplaced)| {
        let slot = Reverse(pod.slot.unwrap_or(0));
        (pod.ready, !misplaced, slot, pod.neighbours, Reverse(pod.created), &pod.name)
    });
    pods.into_iter().map(|(pod, _)| pod).collect()
}

/// The candidates that may go, in their order, and what protects the others.
fn split_protected<'a>(candidates: &[&'a Pod]) -> (Vec<&'a Pod>, Vec<Reason>) {
    let mut free = Vec::new();
    let mut protections = Vec::new();
    for pod in candidates {
        match protection(pod) {
            None => free.push(*pod),
            Some(reason) => protections.push(reason),
        }
    }
    (free, protections)
}

fn protection(pod: &Pod) -> Option<Reason> {
    if pod.kept {
        return Some(Reason::PodsKept);
    }
    if !pod.keeps_revision {
        return Some(Reason::OutdatedPods);
    }
    match &pod.budgets {
        Budgets::None | Budgets::One { name: _, allows: true } => None,
        Budgets::One { name, allows: false } => Some(Reason::MoveBlockedByPdb { pdb: name.clone() }),
        Budgets::Several => Some(Reason::SeveralPdbs { pod: pod.name.clone() }),
    }
}

/// The pod for which the StatefulSet's controller would wait before it creates this one anew.
fn keeps_from_coming_back<'a>(snapshot: &'a Snapshot, pod: &Pod) -> Option<&'a Pod> {
    match snapshot.nature {
        Nature::Interchangeable | Nature::Ordinal { ordered: false } => None,
        Nature::Ordinal { ordered: true } => {
            snapshot.pods.iter().filter(|other| !other.ready && other.slot < pod.slot).min_by_key(|other| other.slot)
        }
    }
}

/// A pod that is not Ready and is not among those to be moved anyway.
fn unready_stayer<'a>(snapshot: &'a Snapshot, free: &[&Pod], drift: Drift) -> Option<&'a Pod> {
    let leaving = &free[..free.len().min(drift.moves as usize)];
    snapshot.pods.iter().find(|pod| !pod.ready && !leaving.iter().any(|other| other.uid == pod.uid))
}

fn later(time: Timestamp, duration: Duration) -> Option<Timestamp> {
    time.checked_add(duration).ok()
}

#[cfg(test)]
mod tests;
