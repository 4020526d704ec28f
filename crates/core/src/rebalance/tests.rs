//! Every gate alone, the order of victims, and whole episodes played against a faithful admission.

use CapacityType::{OnDemand, Spot};
use proptest::prelude::*;

use super::*;
use crate::admission::{Ledger, Question, Shape, Verdict};
use crate::opt_in::{Missing, NeverReason};
use crate::policy::{Placement, Sourced};
use crate::split::{Floor, Percentage, Rounding, Target};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + seconds).unwrap()
}

fn now() -> Timestamp {
    at(10_000)
}

/// `percent: None` is a policy in which nobody asked for spot.
fn policy(percent: Option<u8>, floor: Floor) -> Policy {
    Policy {
        spot_percentage: Sourced::built_in(percent.map(|percent| Percentage::new(percent).unwrap())),
        min_on_demand: Sourced::built_in(floor),
        placement: Sourced::built_in(Placement::Required),
        spot_fallback_after: Sourced::built_in(None),
        window: Sourced::built_in(Window::AlwaysOpen),
        protect: None,
        rounding: Rounding::Ceil,
        standing: Standing::Sound,
    }
}

/// A Ready pod of ours; its name says its number in order of creation.
fn pod(number: u32, capacity: Option<CapacityType>, slot: Option<u32>) -> Pod {
    Pod {
        name: format!("web-{number:03}").into(),
        uid: format!("uid-{number:03}").into(),
        capacity,
        steered: capacity,
        slot,
        deletion_cost: slot.map(|slot| -i32::try_from(slot).unwrap()),
        marked: true,
        ready: true,
        keeps_revision: true,
        kept: false,
        created: at(i64::from(number)),
        budgets: Budgets::None,
        neighbours: 1,
    }
}

fn snapshot(policy: Policy, pods: Vec<Pod>) -> Snapshot {
    Snapshot {
        opt_in: OptIn::Managed,
        policy: Arc::new(policy),
        invalid_key: None,
        nature: Nature::Interchangeable,
        replicas: u32::try_from(pods.len()).unwrap(),
        rollout: Rollout::Settled,
        last_change: pods.iter().map(|pod| pod.created).max(),
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
        cooldown: Duration::from_secs(10),
        term_began: None,
        seating: true,
        probe: None,
    }
}

/// A workload with one thing to do, to be broken one way at a time.
struct Case {
    snapshot: Snapshot,
    circumstances: Circumstances,
    room: Room,
}

impl Case {
    /// At 50 % the slots are spot, on-demand, spot, on-demand: `web-002` is on the wrong side.
    fn drifting() -> Self {
        let on = [(1, Spot), (2, Spot), (3, Spot), (4, OnDemand)];
        let pods = on.into_iter().map(|(slot, capacity)| pod(slot, Some(capacity), Some(slot))).collect();
        Self { snapshot: snapshot(policy(Some(50), Floor::Count(0)), pods), circumstances: calm(), room: Room::Enough }
    }

    fn policy(&mut self) -> &mut Policy {
        Arc::make_mut(&mut self.snapshot.policy)
    }

    fn pod(&mut self, number: usize) -> &mut Pod {
        &mut self.snapshot.pods[number - 1]
    }

    fn decide(&self) -> Decision {
        decide(&recounted(&self.snapshot), &self.circumstances, |_| self.room, now())
    }
}

/// With the counts of the pods as they are now.
fn recounted(snapshot: &Snapshot) -> Snapshot {
    Snapshot { realized: Realized::count(&snapshot.pods), ..snapshot.clone() }
}

/// Decides the drifting case after `change`.
fn check(change: impl FnOnce(&mut Case)) -> Decision {
    let mut case = Case::drifting();
    change(&mut case);
    case.decide()
}

fn evicted(decision: &Decision) -> Option<&str> {
    match &decision.action {
        Some(Action::Evict { pod, uid: _, probe: _ }) => Some(pod),
        Some(Action::Seat(_)) | None => None,
    }
}

fn seated(decision: &Decision) -> Vec<(&str, u32)> {
    match &decision.action {
        Some(Action::Seat(seats)) => seats.iter().map(|seat| (&*seat.pod, seat.slot)).collect(),
        Some(Action::Evict { .. }) | None => Vec::new(),
    }
}

fn pdb(allows: bool) -> Budgets {
    Budgets::One { name: "web".into(), allows }
}

#[test]
fn a_pod_on_the_wrong_side_is_moved() {
    let decision = check(|_| {});
    let (pod, uid) = ("web-002".into(), "uid-002".into());
    assert_eq!(decision.action, Some(Action::Evict { pod, uid, probe: None }));
    assert_eq!(decision.reason, Reason::Rebalanced { pod: "web-002".into(), from: Spot, to: OnDemand });
    assert_eq!((decision.wanted, decision.drift), (Split { spot: 2, on_demand: 2 }, 1));
    assert_eq!(decision.realized, Realized { spot: 3, on_demand: 1, unknown: 0 });
}

#[test]
fn each_gate_alone_holds_the_move_back_and_is_named() {
    type Gate = (fn(&mut Case), Reason, Option<Timestamp>);
    let gates: [Gate; 27] = [
        (|case| case.snapshot.opt_in = OptIn::Out, Reason::NotManaged, None),
        (|case| case.snapshot.opt_in = OptIn::Never(NeverReason::OwnNamespace), Reason::NotManaged, None),
        (|case| case.snapshot.opt_in = OptIn::Half(Missing::Namespace), Reason::HalfOptIn(Missing::Namespace), None),
        (
            |case| {
                case.policy().standing = Standing::FailClosed;
                case.snapshot.invalid_key = Some("spotalis.io/min-on-demand".into());
            },
            Reason::InvalidAnnotation { key: "spotalis.io/min-on-demand".into() },
            None,
        ),
        (|case| case.circumstances.fresh = false, Reason::IndexStale, now().checked_add(Duration::from_secs(1)).ok()),
        (|case| case.snapshot.rollout = Rollout::Paused, Reason::Paused, None),
        (|case| case.snapshot.rollout = Rollout::InProgress, Reason::RolloutInProgress, None),
        (|case| case.snapshot.replicas = 5, Reason::Scaling, None),
        (|case| case.snapshot.replicas = 3, Reason::Scaling, None),
        (|case| case.circumstances.awaited = true, Reason::Scaling, None),
        (|case| case.circumstances.steering = false, Reason::WebhookDisabled, None),
        (|case| case.policy().window.value = Window::Closed, Reason::WindowClosed { opens: None }, None),
        (|case| case.snapshot.last_change = Some(at(9_991)), Reason::CoolingDown, Some(at(10_001))),
        // Another machine's clock may be ahead of ours.
        (|case| case.snapshot.last_change = Some(at(10_005)), Reason::CoolingDown, Some(at(10_015))),
        (
            |case| {
                case.pod(4).marked = false;
                case.circumstances.probe = Some(Probe { evicted: at(9_900), failures: 0 });
            },
            Reason::WebhookNotSteering,
            Some(at(9_900 + 300)),
        ),
        (|case| case.pod(4).ready = false, Reason::WaitingForReady { pod: "web-004".into() }, None),
        (
            // Not Ready and kept: it stays, so nothing else may go.
            |case| (case.pod(2).ready, case.pod(2).kept) = (false, true),
            Reason::WaitingForReady { pod: "web-002".into() },
            None,
        ),
        (|case| case.room = Room::None, Reason::NoCapacity { capacity: OnDemand }, None),
        (|case| case.room = Room::Unseen, Reason::CapacityUnseen { capacity: OnDemand }, None),
        (|case| case.room = Room::Excluded, Reason::PlacementConflict { wanted: OnDemand }, None),
        (|case| case.circumstances.limit_free = false, Reason::LimitReached, None),
        (
            |case| case.snapshot.pods.iter_mut().for_each(|pod| pod.budgets = pdb(false)),
            Reason::MoveBlockedByPdb { pdb: "web".into() },
            None,
        ),
        (
            |case| case.snapshot.pods.iter_mut().for_each(|pod| pod.budgets = Budgets::Several),
            Reason::SeveralPdbs { pod: "web-002".into() },
            None,
        ),
        (|case| case.snapshot.pods.iter_mut().for_each(|pod| pod.kept = true), Reason::PodsKept, None),
        (
            |case| {
                case.snapshot.nature = Nature::Ordinal { ordered: true };
                case.snapshot.pods.iter_mut().for_each(|pod| pod.keeps_revision = false);
            },
            Reason::OutdatedPods,
            None,
        ),
        (|case| case.policy().spot_percentage.value = None, Reason::NotAsked, None),
        (
            // Two on-demand are wanted and there is one; but only the unknown pod could make way.
            |case| case.snapshot.pods[1..3].iter_mut().for_each(|pod| pod.capacity = None),
            Reason::UnknownCapacity,
            None,
        ),
    ];
    for (number, (change, reason, wake_at)) in gates.into_iter().enumerate() {
        let decision = check(change);
        assert_eq!((&decision.action, &decision.reason), (&None, &reason), "gate {number}");
        assert_eq!(decision.wake_at, wake_at, "gate {number}: {reason:?}");
    }
}

#[test]
fn a_closed_window_says_when_it_opens() {
    // 10,000 s after 22:13:20 UTC is 01:00:00.
    let recurring = |schedule| Window::parse(schedule, "1h", "").unwrap();
    let decision = check(|case| case.policy().window.value = recurring("30 2 * * *"));
    let opens = Some(at(10_000 + 90 * 60));
    assert_eq!((decision.action, decision.reason), (None, Reason::WindowClosed { opens }));
    assert_eq!(decision.wake_at, opens);
    assert!(evicted(&check(|case| case.policy().window.value = recurring("0 1 * * *"))).is_some());
    assert!(evicted(&check(|case| case.policy().window.value = recurring("0 0 * * *"))).is_none());
}

#[test]
fn the_cooldown_ends_to_the_second_and_can_be_none() {
    assert_eq!(evicted(&check(|case| case.snapshot.last_change = Some(at(9_990)))), Some("web-002"));
    assert_eq!(
        evicted(&check(|case| {
            case.snapshot.last_change = Some(now());
            case.circumstances.cooldown = Duration::ZERO;
        })),
        Some("web-002")
    );
}

#[test]
fn gates_are_asked_in_the_order_in_which_a_person_would_mend_them() {
    let decision = check(|case| {
        case.snapshot.rollout = Rollout::InProgress;
        case.circumstances.steering = false;
        case.policy().window.value = Window::Closed;
        case.room = Room::None;
    });
    assert_eq!(decision.reason, Reason::RolloutInProgress);
    let decision = check(|case| {
        case.policy().window.value = Window::Closed;
        case.room = Room::None;
        case.snapshot.last_change = Some(now());
    });
    assert_eq!(decision.reason, Reason::WindowClosed { opens: None });
}

#[test]
fn room_is_asked_only_for_a_move_that_is_due() {
    let never = |_| panic!("asked for room");
    let mut case = Case::drifting();
    case.circumstances.steering = false;
    decide(&recounted(&case.snapshot), &case.circumstances, never, now());
    case = Case::drifting();
    case.pod(2).capacity = Some(OnDemand);
    decide(&recounted(&case.snapshot), &case.circumstances, never, now());
}

/// Five, ten, twenty, thirty, thirty minutes.
#[test]
fn a_replacement_that_came_back_unsteered_stops_evictions_for_longer_each_time() {
    for (failures, minutes) in [(0, 5), (1, 10), (2, 20), (3, 30), (4, 30), (5, 30), (u32::MAX, 30)] {
        let decided = |ago: i64| {
            check(|case| {
                case.pod(4).marked = false;
                case.circumstances.probe = Some(Probe { evicted: at(10_000 - ago), failures });
            })
        };
        let pause = minutes * 60;
        assert_eq!(decided(pause - 1).reason, Reason::WebhookNotSteering, "after {failures} failures");
        assert_eq!(decided(pause - 1).wake_at, Some(at(10_001)), "after {failures} failures");
        match decided(pause).action {
            Some(Action::Evict { probe, .. }) => assert_eq!(probe, Some(failures.saturating_add(1))),
            other => panic!("after {failures} failures: {other:?}"),
        }
    }
}

#[test]
fn without_evidence_one_eviction_is_the_probe_and_with_it_none_is() {
    let probe_of = |decision: Decision| match decision.action {
        Some(Action::Evict { probe, .. }) => probe,
        other => panic!("{other:?}"),
    };
    assert_eq!(probe_of(check(|case| case.snapshot.pods.iter_mut().for_each(|pod| pod.marked = false))), Some(0));
    assert_eq!(probe_of(check(|case| case.pod(4).marked = false)), Some(0), "the newest pod alone is the evidence");
    assert_eq!(probe_of(check(|case| case.pod(1).marked = false)), None);
    // The pause counts from the replacement, which may come long after the eviction.
    let decision = check(|case| {
        *case.pod(4) = Pod { marked: false, created: at(9_950), ..case.pod(4).clone() };
        case.circumstances.probe = Some(Probe { evicted: at(9_000), failures: 0 });
    });
    assert_eq!(decision.wake_at, Some(at(9_950 + 300)));
    // Once a replacement came back steered, an old failure says nothing.
    let steered = check(|case| case.circumstances.probe = Some(Probe { evicted: at(9_999), failures: 9 }));
    assert_eq!(probe_of(steered), None);
}

/// With `placement: preferred` a replacement may start where it was not steered to; evicting on would be a loop.
#[test]
fn replacements_that_land_elsewhere_stop_moves_for_longer_each_time() {
    let strayed = |strays: usize, ago: i64| {
        check(|case| {
            case.policy().spot_percentage.value = Percentage::new(100);
            for pod in &mut case.snapshot.pods {
                (pod.capacity, pod.steered, pod.created) = (Some(OnDemand), Some(OnDemand), at(0));
            }
            for pod in case.snapshot.pods.iter_mut().rev().take(strays) {
                (pod.steered, pod.created) = (Some(Spot), at(10_000 - ago));
            }
        })
    };
    for (strays, minutes) in [(1, 5), (2, 10), (3, 20), (4, 30)] {
        let pause = minutes * 60;
        let early = strayed(strays, pause - 1);
        assert_eq!((early.action, early.reason), (None, Reason::NoCapacity { capacity: Spot }), "{strays}");
        assert_eq!(early.wake_at, Some(at(10_001)), "{strays}");
        assert!(evicted(&strayed(strays, pause)).is_some(), "{strays}");
    }
    assert!(evicted(&strayed(0, 0)).is_some());
    // What strayed from spot says nothing about on-demand.
    let other_way = |case: &mut Case| {
        *case.pod(4) = Pod { steered: Some(Spot), created: at(9_900), ..case.pod(4).clone() };
    };
    assert_eq!(evicted(&check(other_way)), Some("web-002"));
}

#[test]
fn a_protected_victim_makes_way_for_the_next_eligible_one() {
    type Protection = fn(&mut Pod);
    let protections: [Protection; 4] = [
        |pod| pod.kept = true,
        |pod| pod.budgets = pdb(false),
        |pod| pod.budgets = Budgets::Several,
        |pod| pod.budgets = Budgets::One { name: "other".into(), allows: false },
    ];
    for protect in protections {
        assert_eq!(evicted(&check(|case| protect(case.pod(2)))), Some("web-003"));
        assert_eq!(evicted(&check(|case| [2, 3].into_iter().for_each(|n| protect(case.pod(n))))), Some("web-001"));
        // Pods of the type that is short are no way out.
        let all = check(|case| [1, 2, 3].into_iter().for_each(|n| protect(case.pod(n))));
        assert_eq!(evicted(&all), None);
    }
    assert_eq!(evicted(&check(|case| case.pod(2).budgets = pdb(true))), Some("web-002"));
    let outdated = check(|case| {
        case.snapshot.nature = Nature::Ordinal { ordered: true };
        case.pod(2).keeps_revision = false;
    });
    assert_eq!(evicted(&outdated), Some("web-003"));
}

/// At 0 % all four leave spot, and the two unready ones first. An ordered set creates none of them anew while a lower one
/// is unready, so the lowest unready one goes first.
#[test]
fn an_ordered_set_loses_no_pod_that_it_would_not_create_anew() {
    let unready = |nature| {
        check(|case| {
            case.snapshot.nature = nature;
            case.policy().spot_percentage.value = Percentage::new(0);
            for number in [2, 4] {
                case.pod(number).ready = false;
                case.pod(number).capacity = Some(Spot);
            }
        })
    };
    assert_eq!(evicted(&unready(Nature::Ordinal { ordered: false })), Some("web-004"));
    assert_eq!(evicted(&unready(Nature::Interchangeable)), Some("web-004"));
    assert_eq!(evicted(&unready(Nature::Ordinal { ordered: true })), Some("web-002"));
    let stays = check(|case| {
        case.snapshot.nature = Nature::Ordinal { ordered: true };
        case.pod(1).ready = false;
        case.pod(1).kept = true;
        [2, 3].into_iter().for_each(|number| case.pod(number).ready = false);
    });
    assert_eq!((evicted(&stays), &stays.reason), (None, &Reason::WaitingForReady { pod: "web-001".into() }));
}

#[test]
fn a_new_term_waits_as_if_something_had_just_changed() {
    let began =
        |seconds| check(|case| case.circumstances.term_began = now().checked_sub(Duration::from_secs(seconds)).ok());
    assert_eq!(evicted(&began(10)), Some("web-002"));
    let waits = began(9);
    assert_eq!((evicted(&waits), &waits.reason), (None, &Reason::CoolingDown));
    assert_eq!(waits.wake_at, now().checked_add(Duration::from_secs(1)).ok());
}

/// Pods as (number, what to change); the surplus is two spot pods of five, at 40 % (slots s o s o o).
#[test]
fn the_order_of_victims() {
    type Change = fn(&mut [Pod]);
    let rows: [(&str, Change, &str); 9] = [
        ("a slot of the other type, the highest", |_| {}, "web-004"),
        ("not Ready first", |pods| pods[0].ready = false, "web-001"),
        (
            "not Ready first, then slots of the other type",
            |pods| pods[..2].iter_mut().for_each(|p| p.ready = false),
            "web-002",
        ),
        ("misplaced goes before a higher slot that is right", |pods| pods[2].slot = Some(6), "web-004"),
        ("then the highest slot", |pods| pods[3].slot = Some(6), "web-002"),
        (
            "a slot beyond the replicas goes before one within",
            |pods| {
                pods[1].slot = Some(8);
                pods[3].slot = Some(6);
            },
            "web-002",
        ),
        (
            "without slots, the emptiest node",
            |pods| {
                for pod in pods.iter_mut() {
                    (pod.slot, pod.neighbours) = (None, 2);
                }
                pods[1].neighbours = 1;
            },
            "web-002",
        ),
        ("without slots and all alike, the newest", |pods| pods.iter_mut().for_each(|pod| pod.slot = None), "web-004"),
        (
            "all alike, by name",
            |pods| pods.iter_mut().for_each(|pod| (pod.slot, pod.created) = (None, at(0))),
            "web-001",
        ),
    ];
    for (what, change, victim) in rows {
        let mut pods: Vec<Pod> = (1..=4).map(|slot| pod(slot, Some(Spot), Some(slot))).collect();
        pods.push(pod(5, Some(OnDemand), Some(5)));
        change(&mut pods);
        let snapshot = snapshot(policy(Some(40), Floor::Count(0)), pods);
        let decision = decide(&recounted(&snapshot), &calm(), |_| Room::Enough, now());
        assert_eq!(decision.drift, 2, "{what}");
        assert_eq!(evicted(&decision), Some(victim), "{what}");
    }
}

#[test]
fn the_unready_are_waited_for_unless_they_are_the_ones_to_go() {
    // One move is due and two spot pods are not Ready: whichever goes, the other one stays.
    let decision = check(|case| (case.pod(2).ready, case.pod(3).ready) = (false, false));
    assert_eq!(decision.reason, Reason::WaitingForReady { pod: "web-003".into() });
    assert_eq!(evicted(&check(|case| case.pod(3).ready = false)), Some("web-003"));
}

#[test]
fn without_a_spot_percentage_only_the_floor_is_mended() {
    let drift = |floor, on_demand: u32, percent: Option<u8>| {
        let pods = (1..=5).map(|n| pod(n, Some(if n <= on_demand { OnDemand } else { Spot }), None)).collect();
        let snapshot = snapshot(policy(percent, floor), pods);
        let decision = decide(&recounted(&snapshot), &calm(), |_| Room::Enough, now());
        (decision.drift, evicted(&decision).is_some(), decision.reason)
    };
    let half = Floor::Percent(Percentage::new(50).unwrap());
    for (floor, on_demand, moves) in [
        (Floor::Count(0), 0, 0),
        (Floor::Count(2), 0, 2),
        (Floor::Count(2), 1, 1),
        (Floor::Count(2), 2, 0),
        (Floor::Count(9), 4, 1),
        (half, 1, 2),
        (half, 3, 0),
    ] {
        let (drift, moved, reason) = drift(floor, on_demand, None);
        assert_eq!((drift, moved), (moves, moves > 0), "{floor} with {on_demand}");
        if moves == 0 {
            assert_eq!(reason, Reason::NotAsked, "{floor} with {on_demand}");
        }
    }
    assert_eq!(drift(Floor::Count(2), 5, None).2, Reason::Seating, "all on-demand is what nobody asking means");
    assert_eq!(drift(Floor::Count(0), 0, Some(0)).0, 5, "asked for nothing on spot is asked");
}

#[test]
fn pods_of_unknown_type_stay_and_satisfy_no_floor() {
    // The unknown ones would be the first to go.
    let types = [Some(Spot), Some(Spot), None, None];
    let pods: Vec<Pod> = (1..).zip(types).map(|(n, capacity)| pod(n, capacity, None)).collect();
    let floor = snapshot(policy(None, Floor::Count(2)), pods.clone());
    let decision = decide(&recounted(&floor), &calm(), |_| Room::Enough, now());
    assert_eq!((decision.drift, evicted(&decision)), (2, Some("web-002")));
    // Nobody asked, and the floor holds: the unknown pods are not what keeps anything back.
    let unasked = snapshot(policy(None, Floor::Count(0)), pods);
    assert_eq!(decide(&recounted(&unasked), &calm(), |_| Room::Enough, now()).reason, Reason::NotAsked);
}

/// At 50 % and four replicas: spot 1 and 3, on-demand 2 and 4. Each row: (type, claim, cost) of each pod, oldest first,
/// and who is given which slot.
#[test]
fn seating() {
    type Sitting = (CapacityType, Option<u32>, Option<i32>);
    let check = |what: &str, sittings: [Sitting; 4], wanted: &[(&str, u32)]| {
        let pods = (1..)
            .zip(sittings)
            .map(|(n, (capacity, slot, deletion_cost))| Pod { deletion_cost, ..pod(n, Some(capacity), slot) });
        let snapshot = snapshot(policy(Some(50), Floor::Count(0)), pods.collect());
        let decision = decide(&recounted(&snapshot), &calm(), |_| Room::Enough, now());
        assert_eq!(seated(&decision), wanted, "{what}");
        assert_eq!(decision.reason, if wanted.is_empty() { Reason::OnTarget } else { Reason::Seating }, "{what}");
        assert_eq!((decision.drift, decision.wake_at), (0, None), "{what}");
    };
    let ours = |capacity, slot: u32| (capacity, Some(slot), Some(-i32::try_from(slot).unwrap()));
    let right = [ours(Spot, 1), ours(OnDemand, 2), ours(Spot, 3), ours(OnDemand, 4)];
    check("everybody sits right", right, &[]);
    check(
        "older than the opt-in",
        [(Spot, None, None), (Spot, None, None), (OnDemand, None, None), (OnDemand, None, None)],
        &[("web-001", 1), ("web-002", 3), ("web-003", 2), ("web-004", 4)],
    );
    let [one, two, three, four] = right;
    check("swapped types", [ours(OnDemand, 1), ours(Spot, 2), three, four], &[("web-001", 2), ("web-002", 1)]);
    check("beyond the replicas", [one, two, ours(Spot, 9), four], &[("web-003", 3)]);
    check("a doubled claim: the oldest keeps it", [one, two, ours(Spot, 1), four], &[("web-003", 3)]);
    check("a claim without a cost", [one, two, (Spot, Some(3), None), four], &[("web-003", 3)]);
    check("a foreign cost", [one, two, (Spot, Some(9), Some(7)), four], &[]);
    check("a foreign cost on a pod without a claim", [one, two, (Spot, None, Some(-3)), four], &[]);
    check("a foreign cost on a pod that sits right", [one, two, (Spot, Some(3), Some(0)), four], &[]);
    check(
        "a foreign cost keeps its computed slot from the others",
        [(Spot, None, Some(7)), two, (Spot, None, None), four],
        &[("web-003", 3)],
    );
}

#[test]
fn nobody_is_seated_where_that_would_be_wrong() {
    let check = |change: fn(&mut Case)| {
        let mut case = Case::drifting();
        case.pod(2).capacity = Some(OnDemand);
        case.pod(3).slot = None;
        case.pod(3).deletion_cost = None;
        change(&mut case);
        let decision = case.decide();
        (seated(&decision).len(), decision.reason)
    };
    assert_eq!(check(|_| {}), (1, Reason::Seating));
    assert_eq!(check(|case| case.circumstances.seating = false), (0, Reason::OnTarget));
    assert_eq!(check(|case| case.pod(1).ready = false), (0, Reason::OnTarget));
    assert_eq!(check(|case| case.snapshot.nature = Nature::Ordinal { ordered: true }), (0, Reason::OnTarget));
    assert_eq!(check(|case| case.snapshot.rollout = Rollout::InProgress), (0, Reason::RolloutInProgress));
    assert_eq!(check(|case| case.snapshot.rollout = Rollout::Paused), (0, Reason::Paused));
    assert_eq!(check(|case| case.circumstances.fresh = false), (0, Reason::IndexStale));
    assert_eq!(check(|case| case.circumstances.awaited = true), (0, Reason::Scaling));
    assert_eq!(check(|case| case.snapshot.opt_in = OptIn::Out), (0, Reason::NotManaged));
    assert_eq!(check(|case| case.policy().window.value = Window::Closed), (1, Reason::Seating), "nothing restarts");
}

#[test]
fn drift_is_the_moves_that_would_be_needed_even_while_none_is_made() {
    // Five spot pods where two and one are wanted: one move, and the workload's own controller removes two.
    let mut scaling = snapshot(policy(Some(50), Floor::Count(0)), (1..=5).map(|n| pod(n, Some(Spot), None)).collect());
    scaling.replicas = 3;
    let decision = decide(&recounted(&scaling), &calm(), |_| Room::Enough, now());
    assert_eq!((decision.reason, decision.drift), (Reason::Scaling, 1));
}

#[test]
fn no_replicas_are_on_target() {
    let decision = decide(&snapshot(policy(Some(70), Floor::Count(2)), vec![]), &calm(), |_| Room::None, now());
    assert_eq!((decision.action, decision.reason), (None, Reason::OnTarget));
}

// ---- Whole episodes ----

/// A workload whose controller replaces what is evicted, through the very ledger that admission uses.
struct World {
    snapshot: Snapshot,
    born: u32,
}

impl World {
    fn new(policy: Policy, pods: Vec<Pod>) -> Self {
        let born = u32::try_from(pods.len()).unwrap();
        Self { snapshot: snapshot(policy, pods), born }
    }

    fn target(&self) -> Target {
        self.snapshot.policy.target()
    }

    fn decide(&self, circumstances: &Circumstances) -> Decision {
        decide(&recounted(&self.snapshot), circumstances, |_| Room::Enough, now())
    }

    fn realized(&self) -> Realized {
        Realized::count(&self.snapshot.pods)
    }

    fn distance(&self) -> [u32; 2] {
        let wanted = self.target().split(self.snapshot.replicas);
        CapacityType::ALL.map(|capacity| self.realized().of(Some(capacity)).abs_diff(wanted.of(capacity)))
    }

    fn is_exact(&self) -> bool {
        self.distance() == [0, 0]
    }

    fn remove(&mut self, uid: &str) -> Pod {
        let place = self.snapshot.pods.iter().position(|pod| &*pod.uid == uid).expect("a victim is one of the pods");
        self.snapshot.pods.remove(place)
    }

    /// The workload's controller makes one more pod: the one at this ordinal's slot, or any.
    fn create(&mut self, ordinal: Option<u32>) {
        let mut ledger = Ledger::default();
        self.snapshot.pods.iter().for_each(|pod| ledger.recount(pod.capacity, pod.slot));
        let replicas = self.snapshot.replicas;
        let shape = match ordinal {
            Some(slot) => Shape::Ordinal { slot, replicas, predecessor: None },
            None => Shape::Interchangeable { replicas },
        };
        let question = Question {
            id: "id",
            dry_run: false,
            target: self.target(),
            shape,
            pinned: None,
            doubt: None,
            waited: false,
            now: now(),
        };
        let Verdict::Seated(seat) = ledger.decide(&question) else { panic!("no doubt and no conflict, yet no seat") };
        self.born += 1;
        self.snapshot.pods.push(pod(self.born, Some(seat.capacity), Some(seat.slot)));
    }

    fn seat(&mut self, seats: &[Seating]) {
        for Seating { pod, uid, slot } in seats {
            let sitter = self.snapshot.pods.iter_mut().find(|other| other.uid == *uid).expect("one of the pods");
            assert_eq!(&sitter.name, pod);
            sitter.slot = Some(*slot);
            sitter.deletion_cost = Some(-i32::try_from(*slot).unwrap());
        }
    }

    /// Plays passes until nothing is left to do; the evictions made.
    fn settle(&mut self, circumstances: &Circumstances) -> u32 {
        for evictions in 0.. {
            match self.decide(circumstances).action {
                None => return evictions,
                Some(Action::Seat(seats)) => {
                    self.seat(&seats);
                    assert_eq!(self.decide(circumstances).action, None, "seating is done in one go");
                    return evictions;
                }
                Some(Action::Evict { uid, .. }) => {
                    let ordinal = self.remove(&uid).slot.filter(|_| self.snapshot.nature != Nature::Interchangeable);
                    self.create(ordinal);
                }
            }
            assert!(evictions < 1_000, "does not end");
        }
        unreachable!("the loop returns")
    }

    /// The workload is scaled, as its controller does it: the lowest deletion cost goes first, none counts as 0.
    fn scale(&mut self, replicas: u32) {
        self.snapshot.replicas = replicas;
        while self.snapshot.pods.len() > replicas as usize {
            let by_cost = |pod: &&Pod| (pod.deletion_cost.unwrap_or(0), Reverse(pod.created));
            let uid = self.snapshot.pods.iter().min_by_key(by_cost).expect("there are too many").uid.clone();
            self.remove(&uid);
        }
        self.refill();
    }

    fn refill(&mut self) {
        while self.snapshot.pods.len() < self.snapshot.replicas as usize {
            self.create(None);
        }
    }
}

fn any_floor() -> impl Strategy<Value = Floor> {
    prop_oneof![
        (0..8u32).prop_map(Floor::Count),
        (0..=100u8).prop_map(|percent| Floor::Percent(Percentage::new(percent).unwrap())),
    ]
}

fn any_policy() -> impl Strategy<Value = Policy> {
    (prop_oneof![8 => (0..=100u8).prop_map(Some), 1 => Just(None)], any_floor())
        .prop_map(|(percent, floor)| policy(percent, floor))
}

fn any_capacity() -> impl Strategy<Value = Option<CapacityType>> {
    prop_oneof![5 => Just(Some(Spot)), 5 => Just(Some(OnDemand)), 1 => Just(None)]
}

/// Pods as they may be when the opt-in comes: any type, any claim, none included.
fn any_pods() -> impl Strategy<Value = Vec<Pod>> {
    proptest::collection::vec((any_capacity(), proptest::option::of(1..40u32)), 0..30)
        .prop_map(|pods| (1..).zip(pods).map(|(n, (capacity, slot))| pod(n, capacity, slot)).collect())
}

/// Plays one episode and checks every step of it; the evictions made.
fn play(world: &mut World) -> Result<u32, TestCaseError> {
    let total = world.snapshot.replicas;
    let floor = world.target().min_on_demand.of(total).min(total);
    let promised = world.decide(&calm()).drift;
    for evictions in 0.. {
        let decision = world.decide(&calm());
        let Some(Action::Evict { uid, .. }) = decision.action else { return Ok(evictions) };
        prop_assert!(evictions < promised, "more than {promised} evictions");
        let before = world.distance();
        let victim = world.remove(&uid);
        let Some(from) = victim.capacity else { return Err(TestCaseError::fail("an unknown pod was moved")) };
        prop_assert!(decision.realized.of(Some(from)) > decision.wanted.of(from), "not of the surplus type");
        if from == OnDemand {
            prop_assert!(world.realized().on_demand >= floor, "the floor of {floor} is broken");
        }
        let nearer = |world: &World| world.distance().into_iter().zip(before).all(|(after, before)| after <= before);
        prop_assert!(nearer(world), "the eviction raised {before:?} to {:?}", world.distance());
        world.create(victim.slot.filter(|_| world.snapshot.nature != Nature::Interchangeable));
        prop_assert!(nearer(world), "the replacement raised {before:?} to {:?}", world.distance());
        prop_assert!(world.distance() != before, "moved for nothing");
    }
    unreachable!("the loop returns")
}

/// What may remain when no move is left.
fn check_rest(world: &World) -> Result<(), TestCaseError> {
    let decision = world.decide(&calm());
    let unknown = decision.realized.unknown;
    prop_assert_eq!(decision.drift, 0);
    if world.snapshot.policy.asked_for_spot() {
        prop_assert!(world.is_exact() || unknown > 0, "{:?} wants {}", decision.realized, decision.wanted);
    } else {
        let total = world.snapshot.replicas;
        let floor = world.target().min_on_demand.of(total).min(total);
        prop_assert!(decision.realized.on_demand + unknown >= floor);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(800))]

    #[test]
    fn an_episode_only_ever_comes_nearer_and_ends_exact(policy in any_policy(), pods in any_pods()) {
        let mut world = World::new(policy, pods);
        play(&mut world)?;
        check_rest(&world)?;
    }

    #[test]
    fn an_episode_of_a_stateful_set_only_ever_comes_nearer_and_ends_exact(
        policy in any_policy(), kept in any::<bool>(),
        pods in proptest::collection::vec((any_capacity(), proptest::bool::weighted(0.3)), 0..30),
    ) {
        let pods = (1..).zip(pods).map(|(slot, (capacity, stays))| Pod {
            // Where those on the wrong slot must stay, others go, and come back on the other type all the same.
            kept: kept && stays,
            ..pod(slot, capacity, Some(slot))
        });
        let mut world = World::new(policy, pods.collect());
        world.snapshot.nature = Nature::Ordinal { ordered: false };
        play(&mut world)?;
        if !kept {
            check_rest(&world)?;
        }
        let mut slots: Vec<Option<u32>> = world.snapshot.pods.iter().map(|pod| pod.slot).collect();
        slots.sort_unstable();
        prop_assert_eq!(slots, (1..=world.snapshot.replicas).map(Some).collect::<Vec<_>>());
    }

    /// Once at rest and seated, each of any number of scalings is exact without an eviction.
    #[test]
    fn at_rest_and_seated_every_scaling_is_exact(
        policy in any_policy(), pods in any_pods(), scalings in proptest::collection::vec(0..40u32, 1..8),
    ) {
        let mut world = World::new(policy, pods);
        world.snapshot.pods.iter_mut().for_each(|pod| pod.capacity = pod.capacity.or(Some(OnDemand)));
        world.settle(&calm());
        prop_assume!(world.is_exact());
        for replicas in scalings {
            world.scale(replicas);
            let decision = world.decide(&calm());
            prop_assert_eq!((decision.reason, decision.action), (Reason::OnTarget, None));
        }
    }

    /// Whatever is not Ready, kept, protected or unknown: the one victim is free, surplus, and nobody unready stays.
    #[test]
    fn a_victim_is_always_one_that_may_go(
        policy in any_policy(), mut pods in any_pods(), odds in proptest::collection::vec(0..12u8, 30),
    ) {
        for (pod, odd) in pods.iter_mut().zip(odds) {
            match odd {
                0 => pod.ready = false,
                1 => pod.kept = true,
                2 => pod.budgets = pdb(false),
                3 => pod.budgets = Budgets::Several,
                4 => pod.marked = false,
                _ => {}
            }
        }
        let world = World::new(policy, pods);
        let decision = world.decide(&calm());
        if let Some(Action::Evict { pod, uid, .. }) = &decision.action {
            let victims: Vec<&Pod> = world.snapshot.pods.iter().filter(|other| other.uid == *uid).collect();
            let [victim] = victims.as_slice() else { return Err(TestCaseError::fail("not exactly one victim")) };
            prop_assert_eq!(&victim.name, pod);
            prop_assert!(!victim.kept && matches!(victim.budgets, Budgets::None), "{:?}", victim);
            let surplus = |capacity| decision.realized.of(Some(capacity)) > decision.wanted.of(capacity);
            prop_assert!(victim.capacity.is_some_and(surplus));
            let unready: Vec<&Pod> = world.snapshot.pods.iter().filter(|pod| !pod.ready).collect();
            prop_assert!(unready.iter().all(|pod| pod.capacity == victim.capacity && !pod.kept));
            prop_assert!(unready.len() <= decision.drift as usize);
            prop_assert!(unready.is_empty() || !victim.ready, "a Ready pod went before one that is not");
        }
    }
}

/// A generator of its own: the model needs thousands of steps, none of which is worth shrinking.
struct Dice(u64);

impl Dice {
    /// The next number below `sides`, by the multiplier of Knuth's MMIX.
    fn roll(&mut self, sides: u32) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        u32::try_from((self.0 >> 33) % u64::from(sides)).unwrap()
    }

    fn policy(&mut self) -> Policy {
        let floor = match self.roll(2) {
            0 => Floor::Count(self.roll(6)),
            _ => Floor::Percent(Percentage::new(u8::try_from(self.roll(101)).unwrap()).unwrap()),
        };
        policy(Some(u8::try_from(self.roll(101)).unwrap()), floor)
    }

    fn capacity(&mut self) -> CapacityType {
        CapacityType::ALL[self.roll(2) as usize]
    }
}

/// Random scalings, losses and changes of policy; how many of the scalings and losses were off target at their end.
fn off_target(circumstances: &Circumstances, worlds: u64) -> (u32, u32) {
    let (mut off, mut steps) = (0, 0);
    for seed in 0..worlds {
        let mut dice = Dice(seed);
        // Half of the workloads are older than their opt-in.
        let old = dice.roll(2) * dice.roll(25);
        let pods = (1..=old).map(|number| pod(number, Some(dice.capacity()), None)).collect();
        let mut world = World::new(dice.policy(), pods);
        world.settle(circumstances);
        for _ in 0..60 {
            match dice.roll(6) {
                0 => {
                    world.snapshot.policy = Arc::new(dice.policy());
                    world.settle(circumstances);
                    assert!(world.is_exact(), "moves alone must reach the target");
                    continue;
                }
                1 | 2 => {
                    for _ in 0..dice.roll(world.snapshot.replicas + 1) {
                        let lost = dice.roll(u32::try_from(world.snapshot.pods.len()).unwrap()) as usize;
                        world.snapshot.pods.remove(lost);
                    }
                    world.refill();
                }
                _ => world.scale(dice.roll(30)),
            }
            steps += 1;
            off += u32::from(!world.is_exact());
            world.settle(circumstances);
        }
    }
    (off, steps)
}

#[test]
fn seating_keeps_every_scaling_on_target_and_its_absence_does_not() {
    let (off, steps) = off_target(&calm(), 150);
    assert!(steps > 5_000);
    assert_eq!(off, 0, "of {steps} with seating");
    let (off, steps) = off_target(&Circumstances { seating: false, ..calm() }, 150);
    assert!(off > steps / 200, "the model must be able to fail: {off} of {steps} without seating");
}
