//! A few seeds, the same one twice, plans written down and made shorter. Thousands of seeds are `cargo xtask sim`'s.

use std::time::Duration;

use spotalis_sim::enumerate;
use spotalis_sim::fault::{ADMIT, ASK};
use spotalis_sim::plan::{Event, Faults, Plan, REST, Workload};
use spotalis_sim::run::run;
use spotalis_sim::shrink::shrink;

#[test]
fn a_few_seeds_are_right() {
    for seed in 0..4 {
        let outcome = run(&Plan::of(seed));
        assert_eq!(outcome.wrongs, [""; 0], "seed {seed}");
    }
}

#[test]
fn a_run_ends_sooner_only_if_all_is_at_rest() {
    let plan = enumerate::quiet();
    let rested = run(&plan);
    assert_eq!(rested.wrongs, [""; 0]);
    assert!(rested.took >= plan.calm_at + plan.stillness, "{:?}", rested.took);
    assert!(rested.took < plan.calm_at + REST, "nothing stirs: {:?}", rested.took);
    assert!(rested.rested_after.unwrap() < Duration::from_mins(2), "{:?}", rested.rested_after);
    // Most of its pods find no place, and nothing changes about that.
    let crowded = run(&Plan { nodes: (2, 1), ..plan.clone() });
    assert_eq!((crowded.rested_after, crowded.took > rested.took), (None, true), "{:?}", crowded.took);
    assert!(crowded.wrongs.iter().any(|wrong| wrong.contains("P10")), "{:?}", crowded.wrongs);
    let to_the_end = run(&Plan { stillness: REST, ..plan.clone() });
    assert_eq!(to_the_end.took, plan.calm_at + REST);
    assert_eq!(to_the_end.evictions, rested.evictions, "nothing more was done");
}

/// Nothing but the workload that finds no place is left of a plan in which one finds none.
#[test]
fn what_fails_is_made_shorter_and_fails_alike() {
    let mut crowded = Plan { nodes: (2, 1), ..enumerate::quiet() };
    crowded.workloads.truncate(2);
    crowded.events.truncate(2);
    let (short, outcome) = shrink(&crowded, &run(&crowded), |_| ());
    assert!(outcome.wrongs.iter().any(|wrong| wrong.contains("P10")), "{:?}", outcome.wrongs);
    assert_eq!((short.processes, short.workloads.len(), short.events), (1, 1, Vec::new()));
}

#[test]
fn the_same_plan_is_the_same_run() {
    let faulty = (0..50).map(Plan::of).filter(|plan| !plan.faults.are_none()).take(2);
    for plan in faulty.chain([enumerate::quiet()]) {
        let (first, second) = (run(&plan), run(&plan));
        assert_eq!(first, second, "{plan}");
    }
    let (plan, other) = (enumerate::quiet(), Plan { seed: 1, ..enumerate::quiet() });
    assert_ne!(run(&plan).digest, run(&other).digest, "another seed is another run");
}

/// As it is written down when it fails. Its faults one by one are the same faults: each has its place, whatever else is
/// left out.
#[test]
fn a_plan_that_is_read_again_is_the_same_run() {
    let plan = (0..50).map(Plan::of).find(|plan| !plan.faults.are_none()).unwrap();
    let outcome = run(&plan);
    let listed = outcome.faults.iter().map(|(call, fault)| (call.spot(), *fault)).collect();
    let listed = Plan { faults: Faults::These(listed), ..plan };
    let text = serde_json::to_string_pretty(&listed).unwrap();
    let read: Plan = serde_json::from_str(&text).unwrap();
    assert_eq!(read, listed);
    assert_eq!(run(&read).digest, outcome.digest);
    for wrong in ["{}", &text.replacen("\"seed\"", "\"sead\"", 1)] {
        assert!(serde_json::from_str::<Plan>(wrong).is_err(), "{wrong}");
    }
}

/// The quiet run does what balance does: otherwise nothing could go wrong in it.
#[test]
fn the_quiet_run_comes_by_every_site() {
    let outcome = run(&enumerate::quiet());
    assert_eq!(outcome.wrongs, [""; 0]);
    assert!(outcome.evictions.len() >= 4, "{:?}", outcome.evictions);
    for site in [
        "create pods/eviction",
        "patch pods",
        "create leases",
        "get leases",
        "patch leases",
        "create events",
        "watch pods",
        ADMIT,
        ASK,
    ] {
        assert!(outcome.calls.iter().any(|call| call.site == site), "{site}");
    }
}

/// What is enumerated happens: a fault that is planned for a request that is not made would prove nothing. `cargo xtask sim
/// --enumerate` looks at each.
#[test]
fn enumerated_faults_happen() {
    let plans = enumerate::plans();
    assert!(plans.len() > 3_000, "{}", plans.len());
    for plan in plans.iter().step_by(plans.len() / 8).chain(plans.last()) {
        let Faults::These(planned) = &plan.faults else { panic!("{plan}") };
        assert_eq!(run(plan).faults.len(), planned.len(), "{plan}");
    }
}

/// A leader whose clock is ahead must not think that every cooldown is over, nor one whose clock is behind wait for ever.
#[test]
fn nobodys_clock_is_trusted() {
    for ahead in [41_000, -41_000] {
        let outcome = run(&Plan { clocks: [ahead; 3], ..enumerate::quiet() });
        assert_eq!(outcome.wrongs, [""; 0], "{ahead} ms ahead");
        assert!(outcome.evictions.len() >= 4, "{:?}", outcome.evictions);
    }
}

/// A replacement that is not ready yet must not look older than the eviction to a leader whose clock is a little ahead: its
/// place under the limit would be free at once.
#[test]
fn the_limit_holds_where_clocks_differ_a_little() {
    let Plan { workloads, .. } = enumerate::quiet();
    let slow = |name: &str| Workload { name: name.to_owned(), slow: Duration::from_secs(40), ..workloads[0].clone() };
    let half = |name: &str| (Duration::from_secs(30), Event::Percentage(name.to_owned(), Some("50".to_owned())));
    let plan = Plan {
        clocks: [1_050; 3],
        limit: 1,
        events: vec![half("a"), half("b")],
        ..Plan::uneventful(vec![slow("a"), slow("b")], Duration::from_mins(5))
    };
    let outcome = run(&plan);
    assert_eq!(outcome.wrongs, [""; 0]);
    assert_eq!(outcome.evictions.len(), 4, "{:?}", outcome.evictions);
}

/// Somebody sets it while pods are moved. What was learned of the API server's clock before holds all the same.
#[test]
fn a_clock_that_is_set_changes_nothing() {
    let quiet = run(&enumerate::quiet());
    for (after, forward) in (30..60).step_by(6).map(|second| (Duration::from_secs(second), 120_000)) {
        let outcome = run(&Plan { clock_set: Some((after, forward)), ..enumerate::quiet() });
        assert_eq!(outcome.wrongs, [""; 0], "set after {after:?}");
        assert_eq!(outcome.evictions, quiet.evictions);
    }
}
