//! What is kept between two passes, for how long, and what ends it.

use CapacityType::{OnDemand, Spot};
use spotalis_core::opt_in::OptIn;
use spotalis_core::policy::{self, Declared, Defaults};
use spotalis_core::rebalance::{Nature, Realized};
use spotalis_core::selector::Labels;
use spotalis_kube::index::WorkloadKind;

use super::*;

const MINUTE: u64 = 60;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + seconds).unwrap()
}

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn key(name: &str) -> WorkloadKey {
    WorkloadKey { namespace: "shop".into(), kind: WorkloadKind::Deployment, name: name.into() }
}

fn victim(name: &str, to: CapacityType) -> Victim {
    Victim { name: name.into(), uid: format!("uid-{name}").into(), to }
}

/// A Ready pod of ours, created so many seconds after the beginning.
fn pod(name: &str, created: i64) -> Pod {
    Pod {
        name: name.into(),
        uid: format!("uid-{name}").into(),
        capacity: Some(OnDemand),
        steered: Some(OnDemand),
        slot: None,
        deletion_cost: None,
        marked: true,
        ready: true,
        keeps_revision: true,
        kept: false,
        created: at(created),
        budgets: Budgets::None,
        neighbours: 1,
    }
}

fn unready(pod: Pod) -> Pod {
    Pod { ready: false, ..pod }
}

fn unmarked(pod: Pod) -> Pod {
    Pod { marked: false, ..pod }
}

fn on(capacity: CapacityType, pod: Pod) -> Pod {
    Pod { capacity: Some(capacity), steered: Some(capacity), ..pod }
}

fn snapshot(replicas: u32, pods: Vec<Pod>) -> Snapshot {
    let none = Labels::new();
    let nothing = Declared { annotations: &none, labels: &none };
    let (policy, _) = policy::resolve(&nothing, &nothing, &Defaults::default());
    Snapshot {
        opt_in: OptIn::Managed,
        policy: Arc::new(policy),
        invalid_key: None,
        nature: Nature::Interchangeable,
        replicas,
        rollout: Rollout::Settled,
        realized: Realized::count(&pods),
        pods,
        last_change: None,
    }
}

/// A second pod that was there all the time, and `more`, of two replicas.
fn two(more: Vec<Pod>) -> Snapshot {
    snapshot(2, [vec![pod("other", 0)], more].concat())
}

/// The memory of a term in which `web` evicted its pod `old` towards spot, accepted at second 100.
fn evicted() -> Memory {
    let mut memory = Memory::of_term(at(0));
    evict(&mut memory, "web", Spot, 100);
    memory
}

fn evict(memory: &mut Memory, name: &str, to: CapacityType, second: u64) {
    assert!(memory.begin_disruption(&key(name), victim("old", to), usize::MAX, s(second)));
    memory.evicted(&key(name), 0, at(second.cast_signed()), true);
}

/// Whether another workload finds the only place under the limit free.
fn is_free(memory: &Memory, second: u64) -> bool {
    memory.limit_free(&key("another"), 1, s(second))
}

#[test]
fn an_eviction_takes_a_place_under_the_limit_for_five_minutes_from_when_it_is_sent() {
    let mut memory = Memory::of_term(at(0));
    let mut begins = |name: &str, second| memory.begin_disruption(&key(name), victim("old", Spot), 2, s(second));
    assert!(begins("a", 0) && begins("b", 100));
    assert!(!begins("c", 299), "both places are taken");
    assert!(begins("c", 300), "the first one is five minutes old");
    assert!(!begins("a", 399) && begins("a", 400));
}

#[test]
fn a_workload_does_not_stand_in_its_own_way() {
    let memory = evicted();
    assert!(memory.limit_free(&key("web"), 1, s(101)));
    assert!(!memory.limit_free(&key("another"), 1, s(101)) && memory.limit_free(&key("another"), 2, s(101)));
}

#[test]
fn an_eviction_that_was_not_made_gives_its_place_back() {
    type End = fn(&mut Memory);
    let ends: [(&str, End); 3] = [
        ("refused", |memory| memory.end_disruption(&key("web"))),
        ("found not to have happened", |memory| memory.retract(&key("web"))),
        ("workload gone", |memory| memory.forget(&key("web"))),
    ];
    for (how, end) in ends {
        let mut memory = evicted();
        assert!(!is_free(&memory, 101));
        end(&mut memory);
        assert!(is_free(&memory, 101), "{how}");
    }
}

/// Its replacement may be the very pod that was to go next, and it is not Ready yet.
#[test]
fn an_eviction_that_was_not_made_leaves_the_one_before_it_under_way() {
    type Answer = fn(&mut Memory);
    let answers: [(&str, Answer); 3] = [
        ("refused", |memory| memory.end_disruption(&key("web"))),
        ("lost on its way", |memory| {
            memory.evicted(&key("web"), 0, at(130), false);
            memory.retract(&key("web"));
        }),
        ("too late", |memory| memory.found_gone(&key("web"), s(130))),
    ];
    for (what, is_answered) in answers {
        let mut memory = evicted();
        assert!(memory.begin_disruption(&key("web"), victim("new", Spot), 1, s(130)));
        is_answered(&mut memory);
        assert!(!is_free(&memory, 131), "{what}");
        memory.settle(&key("web"), &two(vec![unready(pod("new", 101))]), s(132));
        assert!(!is_free(&memory, 132), "its replacement is not ready");
        memory.settle(&key("web"), &two(vec![pod("new", 101)]), s(133));
        assert!(is_free(&memory, 133));
    }
    let mut memory = evicted();
    evict(&mut memory, "web", Spot, 130);
    memory.end_disruption(&key("web"));
    assert!(is_free(&memory, 131), "one that was made takes the place of the one before");
}

#[test]
fn who_waits_longest_is_woken_first() {
    let mut memory = evicted();
    for name in ["c", "a", "b", "a", "c"] {
        memory.wait_for_limit(&key(name));
    }
    assert_eq!(memory.next_waiting(1, s(101)), None, "no place is free");
    memory.end_disruption(&key("web"));
    assert_eq!(memory.next_waiting(1, s(101)), Some(key("c")));
    assert!(memory.begin_disruption(&key("c"), victim("old", Spot), 1, s(101)));
    assert_eq!(memory.next_waiting(1, s(101)), None, "taken by the one that was woken");
    assert_eq!(memory.next_waiting(2, s(101)), Some(key("a")), "the limit was raised");
}

#[test]
fn a_place_is_kept_for_who_was_woken_until_it_was_looked_at() {
    let mut memory = Memory::of_term(at(0));
    ["a", "b", "c"].iter().for_each(|name| memory.wait_for_limit(&key(name)));
    assert_eq!(memory.next_waiting(1, s(0)), Some(key("a")));
    assert_eq!(memory.next_waiting(1, s(0)), None);
    assert!(!memory.begin_disruption(&key("newcomer"), victim("old", Spot), 1, s(0)));
    assert!(memory.limit_free(&key("a"), 1, s(0)));
    assert_eq!(memory.next_waiting(2, s(0)), Some(key("b")), "another place is free");
    memory.forget(&key("b"));
    assert!(memory.begin_disruption(&key("a"), victim("old", Spot), 1, s(0)));
    assert!(memory.limit_free(&key("newcomer"), 2, s(0)), "not kept any more when taken");
}

#[test]
fn a_place_that_is_not_used_is_passed_on() {
    let mut memory = Memory::of_term(at(0));
    ["a", "b", "c"].iter().for_each(|name| memory.wait_for_limit(&key(name)));
    memory.forget(&key("b"));
    for next in ["a", "c"].map(key) {
        assert_eq!(memory.next_waiting(1, s(0)).as_ref(), Some(&next));
        memory.looked_at(&next);
    }
    assert_eq!(memory.next_waiting(1, s(0)), None);
    assert!(is_free(&memory, 0));
}

#[test]
fn who_begins_waits_no_longer() {
    let mut memory = Memory::of_term(at(0));
    ["a", "b"].iter().for_each(|name| memory.wait_for_limit(&key(name)));
    assert!(memory.begin_disruption(&key("a"), victim("old", Spot), 5, s(0)));
    assert_eq!(memory.next_waiting(5, s(0)), Some(key("b")));
    memory.wait_for_limit(&key("a"));
    memory.wait_for_limit(&key("b"));
    assert_eq!(memory.next_waiting(5, s(0)), Some(key("a")), "before those who came later");
}

#[test]
fn only_moves_of_others_to_the_same_type_are_ahead() {
    let mut memory = Memory::of_term(at(0));
    evict(&mut memory, "a", Spot, 0);
    evict(&mut memory, "b", Spot, 200);
    evict(&mut memory, "c", OnDemand, 200);
    let ahead = |name: &str, to, second| memory.outlook(&key(name), to, s(second)).ahead;
    for (name, to, second, want) in [
        ("web", Spot, 201, 2),
        ("web", OnDemand, 201, 1),
        ("a", Spot, 201, 1),
        ("c", OnDemand, 201, 0),
        ("web", Spot, 300, 1),
        ("web", Spot, 500, 0),
    ] {
        assert_eq!(ahead(name, to, second), want, "{name} to {to} at {second} s");
    }
}

#[test]
fn a_late_replacement_makes_promises_of_its_type_unbelievable_for_half_an_hour() {
    let mut memory = evicted();
    let pending = two(vec![unready(on(Spot, pod("new", 101)))]);
    let trusts = |memory: &Memory, to, second| memory.outlook(&key("another"), to, s(second)).trusting;
    memory.settle(&key("web"), &pending, s(399));
    assert!(trusts(&memory, Spot, 399) && !is_free(&memory, 399), "it still has a second");
    memory.settle(&key("web"), &pending, s(400));
    assert!(is_free(&memory, 400));
    assert!(!trusts(&memory, Spot, 400) && trusts(&memory, OnDemand, 400));
    assert!(!trusts(&memory, Spot, 399 + 30 * MINUTE) && trusts(&memory, Spot, 400 + 30 * MINUTE));
}

#[test]
fn a_replacement_that_is_ready_in_time_restores_the_trust_in_its_type() {
    let mut memory = evicted();
    memory.settle(&key("web"), &two(vec![]), s(400));
    let trusts = |memory: &Memory| memory.outlook(&key("another"), Spot, s(600)).trusting;
    let replaced = |to| two(vec![on(to, pod("new", 501))]);
    evict(&mut memory, "to-on-demand", OnDemand, 500);
    memory.settle(&key("to-on-demand"), &replaced(OnDemand), s(510));
    assert!(!trusts(&memory), "the other type proves nothing");
    evict(&mut memory, "to-spot", Spot, 500);
    memory.settle(&key("to-spot"), &replaced(Spot), s(510));
    assert!(trusts(&memory));
}

/// Whether a promise of spot that was broken is believed again after one more eviction that ended in `workload`.
fn trust_after(memory: &mut Memory, workload: &Snapshot) -> bool {
    memory.settle(&key("web"), &two(vec![]), s(400));
    evict(memory, "web", Spot, 500);
    memory.settle(&key("web"), workload, s(510));
    memory.outlook(&key("another"), Spot, s(640)).trusting
}

#[test]
fn trust_returns_only_with_a_replacement_that_runs_where_it_was_to_run() {
    for (what, is_proof, snapshot) in [
        ("it does", true, two(vec![on(Spot, pod("new", 501))])),
        ("it runs on the other type", false, two(vec![on(OnDemand, pod("new", 501))])),
        ("there is none, for one replica less is wanted", false, snapshot(1, vec![pod("other", 0)])),
    ] {
        let mut memory = evicted();
        assert_eq!(trust_after(&mut memory, &snapshot), is_proof, "{what}");
        assert!(is_free(&memory, 511), "{what}: settled all the same");
    }
}

#[test]
fn a_workload_whose_pods_are_not_seen_disappoints_nobody() {
    let unseen = || snapshot(2, vec![]);
    for (what, snapshot) in [
        ("opted out", Snapshot { opt_in: OptIn::Out, ..unseen() }),
        ("a rollout", Snapshot { rollout: Rollout::InProgress, ..unseen() }),
        ("paused", Snapshot { rollout: Rollout::Paused, ..unseen() }),
    ] {
        let mut memory = evicted();
        memory.settle(&key("web"), &snapshot, s(399));
        assert!(!is_free(&memory, 399), "{what}");
        memory.settle(&key("web"), &snapshot, s(400));
        assert!(is_free(&memory, 400) && memory.outlook(&key("another"), Spot, s(400)).trusting, "{what}");
    }
}

#[test]
fn where_no_replica_is_wanted_no_replacement_is_waited_for() {
    let mut memory = evicted();
    memory.settle(&key("web"), &snapshot(0, vec![]), s(101));
    assert!(is_free(&memory, 101));
}

#[test]
fn it_is_known_for_how_long_an_eviction_may_still_count() {
    let mut memory = evicted();
    assert_eq!(memory.unsettled_for(&key("another"), s(101)), None);
    assert_eq!(memory.unsettled_for(&key("web"), s(101)), Some(s(299)));
    memory.settle(&key("web"), &two(vec![pod("new", 101)]), s(110));
    assert_eq!(memory.unsettled_for(&key("web"), s(110)), None);
}

#[test]
fn an_eviction_is_settled_by_its_replacement_alone() {
    let old = || pod("old", 1);
    for (what, is_settled, snapshot) in [
        ("the view shows nothing yet", false, two(vec![old()])),
        ("no replacement yet", false, two(vec![])),
        ("a replacement that is not Ready", false, two(vec![unready(pod("new", 101))])),
        ("a Ready replacement", true, two(vec![pod("new", 101)])),
        ("created in the second of the eviction", true, two(vec![pod("new", 100)])),
        ("created in that second, and not Ready", false, two(vec![unready(pod("new", 100))])),
        (
            "an older pod became unready",
            true,
            snapshot(3, vec![unready(pod("other", 0)), pod("third", 0), pod("new", 101)]),
        ),
        ("one of two newer pods is not Ready", false, snapshot(2, vec![pod("new", 101), unready(pod("newer", 102))])),
        ("more pods than replicas", false, snapshot(2, vec![pod("other", 0), pod("third", 2), pod("new", 101)])),
    ] {
        let mut memory = evicted();
        memory.settle(&key("web"), &snapshot, s(110));
        assert_eq!(is_free(&memory, 110), is_settled, "{what}");
    }
}

#[test]
fn an_eviction_without_an_answer_is_not_settled() {
    let mut memory = Memory::of_term(at(0));
    assert!(memory.begin_disruption(&key("web"), victim("old", Spot), 1, s(100)));
    memory.settle(&key("web"), &two(vec![pod("new", 101)]), s(102));
    assert!(!is_free(&memory, 102));
    assert!(!memory.awaits(&key("web"), &two(vec![pod("old", 1)]), s(101)), "nothing was accepted");
}

#[test]
fn an_accepted_eviction_is_awaited_until_the_view_shows_it() {
    let memory = evicted();
    assert!(memory.awaits(&key("web"), &two(vec![pod("old", 1)]), s(101)));
    assert!(
        !memory.awaits(&key("web"), &two(vec![]), s(101))
            && !memory.awaits(&key("web"), &two(vec![pod("new", 101)]), s(101))
    );
    assert!(!memory.awaits(&key("another"), &two(vec![pod("old", 1)]), s(101)));
}

#[test]
fn a_pod_that_is_gone_is_awaited_for_five_minutes_and_counts_as_nothing() {
    let shown = two(vec![pod("old", 1)]);
    let mut memory = Memory::of_term(at(0));
    assert!(memory.begin_disruption(&key("web"), victim("old", Spot), 1, s(100)));
    memory.found_gone(&key("web"), s(101));
    assert!(is_free(&memory, 101) && memory.probe(&key("web"), &shown).is_none(), "nothing was moved");
    assert!(memory.awaits(&key("web"), &shown, s(101)) && memory.awaits(&key("web"), &shown, s(400)));
    assert!(!memory.awaits(&key("web"), &shown, s(401)), "nothing waits for ever");
    assert!(!memory.awaits(&key("web"), &two(vec![pod("new", 101)]), s(102)), "the view has caught up");
    assert!(!memory.awaits(&key("another"), &shown, s(102)));
    memory.settle(&key("web"), &two(vec![unready(pod("new", 101))]), s(401));
    assert!(memory.outlook(&key("another"), Spot, s(402)).trusting, "and nobody was disappointed");
}

/// An eviction of which the answer was lost, at second 100.
fn lost() -> Memory {
    let mut memory = Memory::of_term(at(0));
    assert!(memory.begin_disruption(&key("web"), victim("old", Spot), 1, s(100)));
    memory.evicted(&key("web"), 0, at(100), false);
    memory
}

#[test]
fn a_lost_answer_counts_as_an_eviction_until_it_is_known_to_be_none() {
    let here = two(vec![pod("old", 1)]);
    let mut memory = lost();
    assert_eq!(memory.doubtful(&key("web")), Some(victim("old", Spot)));
    assert!(memory.awaits(&key("web"), &here, s(101)) && !is_free(&memory, 101));
    assert!(memory.probe(&key("web"), &here).is_some());
    memory.retract(&key("web"));
    assert_eq!(memory.doubtful(&key("web")), None);
    assert!(!memory.awaits(&key("web"), &here, s(101)) && is_free(&memory, 101));
    assert_eq!(memory.probe(&key("web"), &here), None, "nothing was tried");
}

#[test]
fn an_eviction_that_did_not_happen_leaves_the_probe_before_it() {
    let mut memory = evicted();
    assert!(memory.begin_disruption(&key("web"), victim("new", Spot), 1, s(500)));
    memory.evicted(&key("web"), 1, at(500), false);
    memory.retract(&key("web"));
    let unsteered = two(vec![unmarked(pod("new", 101))]);
    assert_eq!(memory.probe(&key("web"), &unsteered), Some(Probe { evicted: at(100), failures: 0 }));
}

#[test]
fn a_lost_answer_that_was_a_yes_is_an_eviction_like_any_other() {
    let mut memory = lost();
    memory.confirm(&key("web"));
    assert_eq!(memory.doubtful(&key("web")), None);
    assert!(memory.awaits(&key("web"), &two(vec![pod("old", 1)]), s(101)) && !is_free(&memory, 101));
    memory.settle(&key("web"), &two(vec![unready(pod("new", 101))]), s(105));
    assert!(!is_free(&memory, 105), "what came after the eviction is looked for since it was sent");
    memory.settle(&key("web"), &two(vec![pod("new", 101)]), s(110));
    assert!(is_free(&memory, 110));
}

#[test]
fn an_accepted_eviction_is_not_doubted() {
    let mut memory = evicted();
    assert_eq!(memory.doubtful(&key("web")), None);
    memory.confirm(&key("web"));
    memory.confirm(&key("another"));
    assert!(memory.awaits(&key("web"), &two(vec![pod("old", 1)]), s(101)));
}

#[test]
fn a_probe_ends_only_with_a_newer_pod_that_carries_our_mark() {
    for (what, ends, pods) in [
        ("no new pod", false, vec![]),
        ("a marked pod, older than the eviction", false, vec![pod("older", 98)]),
        ("a newer pod without a mark", false, vec![unmarked(pod("new", 101))]),
        ("a newer pod with it", true, vec![pod("new", 101)]),
        ("the mark is on the newer of two", true, vec![unmarked(pod("new", 101)), pod("newest", 102)]),
        ("the mark is on the older of two", false, vec![pod("new", 101), unmarked(pod("newest", 102))]),
        ("two of one second: by name", false, vec![pod("new-a", 101), unmarked(pod("new-b", 101))]),
    ] {
        let mut memory = evicted();
        let probe = memory.probe(&key("web"), &two(pods));
        assert_eq!(probe, (!ends).then_some(Probe { evicted: at(100), failures: 0 }), "{what}");
        assert_eq!(memory.probe(&key("web"), &two(vec![])).is_none(), ends, "{what}: and for good");
    }
}

#[test]
fn a_probe_remembers_how_many_failed_before_it() {
    let mut memory = evicted();
    assert!(memory.begin_disruption(&key("web"), victim("old", Spot), 1, s(500)));
    memory.evicted(&key("web"), 3, at(500), true);
    assert_eq!(memory.probe(&key("web"), &two(vec![])), Some(Probe { evicted: at(500), failures: 3 }));
}

#[test]
fn refusals_pause_for_ten_seconds_and_double_up_to_five_minutes() {
    let mut memory = Memory::of_term(at(0));
    for seconds in [10, 20, 40, 80, 160, 300, 300, 300, 300, 300, 300] {
        assert_eq!(memory.refused(&key("web")), s(seconds));
    }
    assert_eq!(memory.refused(&key("another")), s(10), "each workload for itself");
    evict(&mut memory, "web", Spot, 0);
    assert_eq!(memory.refused(&key("web")), s(10), "an eviction that is accepted ends the series");
}

#[test]
fn a_hold_lasts_as_long_as_it_was_given() {
    let mut memory = Memory::of_term(at(0));
    memory.hold(&key("web"), s(130));
    assert_eq!(memory.held(&key("web"), s(120)), Some(s(10)));
    assert_eq!(memory.held(&key("another"), s(120)), None);
    assert_eq!(memory.held(&key("web"), s(130)), None);
    assert_eq!(memory.held(&key("web"), s(0)), None, "and it is over");
}

#[test]
fn the_api_servers_word_on_budgets_stands_above_the_views_for_its_time() {
    let allows = || Budgets::One { name: "web".into(), allows: true };
    let forbids = |name: &str| Budgets::One { name: name.into(), allows: false };
    let mut memory = Memory::of_term(at(0));
    memory.block(&key("web"), &"uid-a".into(), Blocked::By("hidden".into()), s(110));
    memory.block(&key("web"), &"uid-b".into(), Blocked::BySeveral, s(112));
    let mut budgets = |name: &str, second| {
        let pods = ["a", "b", "c"].map(|name| Pod { budgets: allows(), ..pod(name, 0) });
        let mut snapshot = snapshot(3, pods.into());
        let corrected_for = memory.correct(&key(name), &mut snapshot, s(second));
        (snapshot.pods.into_iter().map(|pod| pod.budgets).collect::<Vec<_>>(), corrected_for)
    };
    assert_eq!(budgets("web", 101), (vec![forbids("hidden"), Budgets::Several, allows()], Some(s(9))));
    assert_eq!(budgets("another", 101), (vec![allows(), allows(), allows()], None));
    assert_eq!(budgets("web", 110), (vec![allows(), Budgets::Several, allows()], Some(s(2))));
    assert_eq!(budgets("web", 112), (vec![allows(), allows(), allows()], None));
}

#[test]
fn what_is_held_back_is_forgotten_with_its_pod() {
    let mut memory = Memory::of_term(at(0));
    memory.block(&key("web"), &"uid-a".into(), Blocked::BySeveral, s(110));
    assert!(memory.correct(&key("web"), &mut snapshot(2, vec![]), s(101)).is_some(), "no pod is seen");
    assert_eq!(memory.correct(&key("web"), &mut two(vec![]), s(101)), None);
    let mut back = two(vec![pod("a", 0)]);
    assert_eq!(memory.correct(&key("web"), &mut back, s(102)), None);
    assert_eq!(back.pods[1].budgets, Budgets::None);
}

#[test]
fn news_is_what_differs_from_what_was_told_last() {
    let mut memory = Memory::of_term(at(0));
    for (name, code, sentence, is_news) in [
        ("web", "A", "one", true),
        ("web", "A", "one", false),
        ("another", "A", "one", true),
        ("web", "A", "two", true),
        ("web", "B", "two", true),
        ("web", "A", "one", true),
        ("web", "A", "one", false),
    ] {
        assert_eq!(memory.is_news(&key(name), code, sentence), is_news, "{name} {code} {sentence}");
    }
}

#[test]
fn a_problem_is_new_until_it_is_mended() {
    let mut memory = Memory::of_term(at(0));
    let mut new = |problems: &[&str]| {
        memory.new_problems(&key("web"), problems.iter().map(|problem| (*problem).to_owned()).collect())
    };
    assert_eq!(new(&["a", "b"]), ["a", "b"]);
    assert_eq!(new(&["a", "b", "c"]), ["c"]);
    assert!(new(&[]).is_empty());
    assert_eq!(new(&["a"]), ["a"]);
}

#[test]
fn who_waits_for_a_node_is_asked_once() {
    let mut memory = Memory::of_term(at(0));
    ["b", "a", "b"].iter().for_each(|name| memory.wait_for_room(&key(name)));
    assert_eq!(memory.take_waiting_for_room(), [key("a"), key("b")].into());
    assert!(memory.take_waiting_for_room().is_empty());
}

/// A memory with something of every kind about `web`, and what of that is still there.
fn full() -> Memory {
    let mut memory = evicted();
    let key = key("web");
    memory.settle(&key, &two(vec![]), s(400));
    evict(&mut memory, "web", Spot, 400);
    memory.wait_for_limit(&key);
    memory.wait_for_room(&key);
    memory.hold(&key, s(1_000));
    memory.refused(&key);
    memory.block(&key, &"uid-a".into(), Blocked::BySeveral, s(1_000));
    memory.is_news(&key, "A", "one");
    memory.new_problems(&key, vec!["a".to_owned()]);
    memory
}

fn remembered(memory: &mut Memory) -> Vec<&'static str> {
    let key = key("web");
    let facts = [
        ("an eviction", !is_free(memory, 401)),
        ("a probe", memory.probe(&key, &two(vec![])).is_some()),
        ("waiting for a node", memory.take_waiting_for_room().contains(&key)),
        ("waiting for the limit", memory.next_waiting(9, s(401)).is_some()),
        ("a hold", memory.held(&key, s(401)).is_some()),
        ("refusals", memory.refused(&key) > s(10)),
        ("a budget", memory.correct(&key, &mut two(vec![pod("a", 0)]), s(401)).is_some()),
        ("what was told", !memory.is_news(&key, "A", "one")),
        ("problems", memory.new_problems(&key, vec!["a".to_owned()]).is_empty()),
        ("a disappointment", !memory.outlook(&key, Spot, s(401)).trusting),
    ];
    facts.into_iter().filter(|(_, holds)| *holds).map(|(fact, _)| fact).collect()
}

#[test]
fn a_new_term_remembers_nothing() {
    assert_eq!(remembered(&mut full()).len(), 10);
    let mut memory = Memory::of_term(at(401));
    assert_eq!(memory.term_began, Some(at(401)));
    assert!(remembered(&mut memory).is_empty());
}

#[test]
fn of_a_workload_that_is_gone_only_the_lesson_stays() {
    let mut memory = full();
    memory.forget(&key("web"));
    assert_eq!(remembered(&mut memory), ["a disappointment"]);
}
