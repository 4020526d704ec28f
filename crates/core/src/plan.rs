//! Decides what balance would do, from here to where it rests: which pods it moves, in which order, and when.
//!
//! The plan is played, not computed: `rebalance::decide` is asked again and again about a workload in which each victim is
//! already replaced by a Ready pod of the wanted type. So a plan can never differ from the act in its rules, only in what
//! it assumes: that each replacement becomes Ready after `ready_time`, that budgets and room stay as they are, and that
//! nobody else changes the workload. Nothing is written anywhere, and no step is decided here.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::capacity::CapacityType;
use crate::reason::Reason;
use crate::rebalance::{Action, Circumstances, Decision, Nature, Pod, Realized, Room, Snapshot, decide};

/// How often one move is waited for: once for the window, once for the cooldown, and once more for a window that closes
/// in between.
const WAITS: u32 = 3;

/// One pod of the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// The pod that is evicted.
    pub pod: Arc<str>,
    /// What it runs on.
    pub from: CapacityType,
    /// What its replacement runs on.
    pub to: CapacityType,
    /// When, counted from `now`.
    pub at: Duration,
}

/// What balance would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The evictions in their order.
    pub moves: Vec<Move>,
    /// Why there are no more: the workload is on target, or something holds the rest back.
    pub ends_with: Reason,
    /// How many moves are still due at the end; above 0 only if something holds them back.
    pub left: u32,
    /// From `now` until the last replacement is Ready; nothing without a move.
    pub lasts: Duration,
}

/// Plays the workload from `now` until nothing more is due. `ready_time` is how long a replacement takes from the eviction
/// until it is Ready.
///
/// `room` is asked for each move about the cluster as it is, so it says whether one replacement finds a place, not whether
/// all of them do.
pub fn plan(
    snapshot: &Snapshot,
    circumstances: &Circumstances,
    room: impl Fn(CapacityType) -> Room,
    now: Timestamp,
    ready_time: Duration,
) -> Plan {
    let mut world = snapshot.clone();
    let mut circumstances = *circumstances;
    let mut time = now;
    let mut moves = Vec::new();
    let mut lasts = Duration::ZERO;
    // Each move lowers the drift by one, so there are no more of them than the drift at the start.
    let drift = decide(&world, &circumstances, &room, time).drift;
    for number in 1..=drift {
        let Eviction { victim, to, at } = match next_eviction(&world, &circumstances, &room, time) {
            Ok(eviction) => eviction,
            Err(ends_with) => return Plan { moves, ends_with, left: drift - (number - 1), lasts },
        };
        let ready = at.checked_add(ready_time).unwrap_or(Timestamp::MAX);
        let pod = world.pods.remove(victim);
        moves.push(Move { pod: pod.name.clone(), from: to.other(), to, at: since(now, at) });
        world.pods.push(replacement(&world, pod, to, at, number));
        world.realized = Realized::count(&world.pods);
        world.last_change = Some(ready);
        // The replacement carries our mark, which is the proof that a probe waits for.
        circumstances.probe = None;
        time = ready;
        lasts = since(now, ready);
    }
    let Decision { action: _, reason: ends_with, wake_at: _, wanted: _, realized: _, drift: left } =
        decide(&world, &circumstances, &room, time);
    Plan { moves, ends_with, left, lasts }
}

/// An eviction that becomes due.
struct Eviction {
    /// Its place in the snapshot.
    victim: usize,
    to: CapacityType,
    at: Timestamp,
}

/// The next eviction, after waiting for what passes by itself, a closed window and the cooldown; or why there is none.
fn next_eviction(
    world: &Snapshot,
    circumstances: &Circumstances,
    room: &impl Fn(CapacityType) -> Room,
    mut time: Timestamp,
) -> Result<Eviction, Reason> {
    let mut waits = 0;
    loop {
        let Decision { action, reason, wake_at, wanted: _, realized: _, drift: _ } =
            decide(world, circumstances, room, time);
        match (action, reason, wake_at) {
            (Some(Action::Evict { pod: _, uid, probe: _ }), Reason::Rebalanced { pod: _, from: _, to }, _) => {
                let victim = world.pods.iter().position(|pod| pod.uid == uid).expect("a victim is one of the pods");
                return Ok(Eviction { victim, to, at: time });
            }
            (None, Reason::CoolingDown | Reason::WindowClosed { opens: _ }, Some(wake_at)) if waits < WAITS => {
                waits += 1;
                time = wake_at;
            }
            (_, reason, _) => return Err(reason),
        }
    }
}

/// The pod that comes in place of `victim`, as admission would send it on its way.
fn replacement(world: &Snapshot, victim: Pod, to: CapacityType, created: Timestamp, number: u32) -> Pod {
    let Pod {
        name,
        uid: _,
        capacity: _,
        steered: _,
        slot,
        deletion_cost: _,
        marked: _,
        ready: _,
        keeps_revision: _,
        kept,
        created: _,
        budgets,
        neighbours: _,
    } = victim;
    let (name, slot) = match world.nature {
        Nature::Ordinal { ordered: _ } => (name, slot),
        // No name of a real pod contains a space.
        Nature::Interchangeable => (format!("replacement {number}").into(), free_slot(world, to)),
    };
    Pod {
        name,
        uid: format!("replacement {number}").into(),
        capacity: Some(to),
        steered: Some(to),
        slot,
        deletion_cost: slot.and_then(|slot| i32::try_from(slot).ok()).map(|slot| -slot),
        marked: true,
        ready: true,
        keeps_revision: true,
        kept,
        created,
        budgets,
        neighbours: 1,
    }
}

/// The lowest slot of the type that no pod claims, else the lowest of any.
fn free_slot(world: &Snapshot, capacity: CapacityType) -> Option<u32> {
    let claimed: BTreeSet<u32> = world.pods.iter().filter_map(|pod| pod.slot).collect();
    let free = || (1..=world.replicas).filter(|slot| !claimed.contains(slot));
    let target = world.policy.target();
    free().find(|slot| target.slot(*slot) == capacity).or_else(|| free().next())
}

fn since(now: Timestamp, at: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(now)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use CapacityType::{OnDemand, Spot};
    use proptest::prelude::*;

    use super::*;
    use crate::opt_in::OptIn;
    use crate::policy::{Placement, Policy, Sourced, Standing};
    use crate::rebalance::{Budgets, Rollout};
    use crate::split::{Floor, Percentage, Rounding};
    use crate::window::Window;

    const READY: Duration = Duration::from_secs(20);
    const COOLDOWN: Duration = Duration::from_secs(10);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + seconds).unwrap()
    }

    fn now() -> Timestamp {
        at(10_000)
    }

    fn policy(percent: Option<u8>, floor: Floor, window: Window) -> Arc<Policy> {
        Arc::new(Policy {
            spot_percentage: Sourced::built_in(percent.map(|percent| Percentage::new(percent).unwrap())),
            min_on_demand: Sourced::built_in(floor),
            placement: Sourced::built_in(Placement::Required),
            spot_fallback_after: Sourced::built_in(None),
            window: Sourced::built_in(window),
            protect: None,
            rounding: Rounding::Ceil,
            standing: Standing::Sound,
        })
    }

    /// A Ready pod that nobody steered, as before an opt-in.
    fn pod(number: usize, capacity: Option<CapacityType>, slot: Option<u32>) -> Pod {
        Pod {
            name: format!("web-{number}").into(),
            uid: format!("uid-{number}").into(),
            capacity,
            steered: None,
            slot,
            deletion_cost: None,
            marked: false,
            ready: true,
            keeps_revision: true,
            kept: false,
            created: at(i64::try_from(number).unwrap()),
            budgets: Budgets::None,
            neighbours: 1,
        }
    }

    fn snapshot(policy: Arc<Policy>, types: &[Option<CapacityType>]) -> Snapshot {
        let pods: Vec<Pod> = types.iter().enumerate().map(|(number, t)| pod(number, *t, None)).collect();
        Snapshot {
            opt_in: OptIn::Managed,
            policy,
            invalid_key: None,
            nature: Nature::Interchangeable,
            replicas: u32::try_from(pods.len()).unwrap(),
            rollout: Rollout::Settled,
            last_change: pods.last().map(|pod| pod.created),
            realized: Realized::count(&pods),
            pods,
        }
    }

    fn calm() -> Circumstances {
        Circumstances {
            fresh: true,
            awaited: false,
            steering: true,
            limit_free: true,
            cooldown: COOLDOWN,
            term_began: None,
            seating: true,
            probe: None,
        }
    }

    fn check(snapshot: &Snapshot) -> Plan {
        plan(snapshot, &calm(), |_| Room::Enough, now(), READY)
    }

    #[test]
    fn a_first_opt_in_moves_one_pod_after_the_other() {
        let plan = check(&snapshot(policy(Some(50), Floor::Count(0), Window::AlwaysOpen), &[Some(OnDemand); 4]));
        let moved: Vec<_> = plan.moves.iter().map(|m| (&*m.pod, m.from, m.to, m.at.as_secs())).collect();
        assert_eq!(moved, [("web-3", OnDemand, Spot, 0), ("web-2", OnDemand, Spot, 30)]);
        assert_eq!((plan.ends_with, plan.left, plan.lasts), (Reason::Seating, 0, Duration::from_secs(50)));
    }

    #[test]
    fn a_move_waits_for_its_window() {
        // It is 01:00:00 UTC; 15 s are too short for a second move, so that one waits for the next day.
        let window = Window::parse("30 1 * * *", "15s", "").unwrap();
        let plan = check(&snapshot(policy(Some(50), Floor::Count(0), window), &[Some(OnDemand); 4]));
        let times: Vec<_> = plan.moves.iter().map(|m| m.at.as_secs()).collect();
        assert_eq!(times, [30 * 60, 30 * 60 + 86_400]);
        let never = check(&snapshot(policy(Some(50), Floor::Count(0), Window::Closed), &[Some(OnDemand); 4]));
        assert_eq!((never.moves.len(), never.ends_with, never.left), (0, Reason::WindowClosed { opens: None }, 2));
        assert_eq!(never.lasts, Duration::ZERO);
    }

    #[test]
    fn what_holds_moves_back_is_named_and_what_is_left_counted() {
        let opted_in = snapshot(policy(Some(50), Floor::Count(0), Window::AlwaysOpen), &[Some(OnDemand); 6]);
        let full = plan(&opted_in, &calm(), |_| Room::None, now(), READY);
        assert_eq!((full.moves.len(), full.left), (0, 3));
        assert_eq!(full.ends_with, Reason::NoCapacity { capacity: Spot });

        let mut kept = opted_in.clone();
        kept.pods[1..].iter_mut().for_each(|pod| pod.kept = true);
        let kept = check(&kept);
        assert_eq!((kept.moves.len(), kept.ends_with, kept.left), (1, Reason::PodsKept, 2));

        let without_webhook = Circumstances { steering: false, ..calm() };
        let without_webhook = plan(&opted_in, &without_webhook, |_| Room::Enough, now(), READY);
        assert_eq!((without_webhook.moves.len(), without_webhook.ends_with), (0, Reason::WebhookDisabled));
    }

    #[test]
    fn a_workload_that_is_not_managed_has_no_plan() {
        let mut out = snapshot(policy(Some(50), Floor::Count(0), Window::AlwaysOpen), &[Some(OnDemand); 4]);
        out.opt_in = OptIn::Out;
        let plan = check(&out);
        assert_eq!((plan.moves.len(), plan.ends_with), (0, Reason::NotManaged));
    }

    fn any_capacity() -> impl Strategy<Value = CapacityType> {
        prop_oneof![Just(Spot), Just(OnDemand)]
    }

    fn any_policy() -> impl Strategy<Value = Arc<Policy>> {
        let percent = proptest::option::of(0..=100u8);
        (percent, 0..12u32).prop_map(|(percent, floor)| policy(percent, Floor::Count(floor), Window::AlwaysOpen))
    }

    /// Types, and for some pods the slot they claim.
    fn any_pods() -> impl Strategy<Value = Vec<(CapacityType, Option<u32>)>> {
        proptest::collection::vec((any_capacity(), proptest::option::of(1..30u32)), 0..25)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        #[test]
        fn unhindered_there_are_as_many_moves_as_drift_and_then_rest(policy in any_policy(), pods in any_pods()) {
            let types: Vec<_> = pods.iter().map(|(t, _)| Some(*t)).collect();
            let mut before = snapshot(policy, &types);
            before.pods.iter_mut().zip(&pods).for_each(|(pod, (_, slot))| pod.slot = *slot);
            let drift = decide(&before, &calm(), |_| Room::Enough, now()).drift;
            let plan = check(&before);
            prop_assert_eq!(u32::try_from(plan.moves.len()).unwrap(), drift);
            prop_assert_eq!(plan.left, 0);
            let at_rest = matches!(plan.ends_with, Reason::OnTarget | Reason::Seating)
                || plan.ends_with == Reason::NotAsked && !before.policy.asked_for_spot();
            prop_assert!(at_rest, "{:?}", plan.ends_with);
            let victims: BTreeSet<_> = plan.moves.iter().map(|m| m.pod.clone()).collect();
            prop_assert_eq!(victims.len(), plan.moves.len());
            prop_assert!(plan.moves.iter().all(|m| before.pods.iter().any(|p| p.name == m.pod && p.capacity == Some(m.from))));
            prop_assert!(plan.moves.windows(2).all(|pair| pair[1].at == pair[0].at + READY + COOLDOWN));
        }

        #[test]
        fn a_stateful_set_keeps_its_names(policy in any_policy(), types in proptest::collection::vec(any_capacity(), 0..20)) {
            let types: Vec<_> = types.into_iter().map(Some).collect();
            let mut before = snapshot(policy, &types);
            before.nature = Nature::Ordinal { ordered: true };
            before.pods.iter_mut().zip(1..).for_each(|(pod, slot)| pod.slot = Some(slot));
            let drift = decide(&before, &calm(), |_| Room::Enough, now()).drift;
            let plan = check(&before);
            prop_assert_eq!(u32::try_from(plan.moves.len()).unwrap(), drift);
            prop_assert!(matches!(plan.ends_with, Reason::OnTarget | Reason::NotAsked), "{:?}", plan.ends_with);
        }
    }
}
