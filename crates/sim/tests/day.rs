//! The day that the speed is measured by: that it is what the benchmark says, and the same every time.

use std::time::Duration;

use spotalis_sim::day;
use spotalis_sim::plan::Event;
use spotalis_sim::run::run;

#[test]
fn a_day_has_two_reclaims_an_hour_and_five_hundred_pods() {
    let plan = day::plan(Duration::from_hours(24));
    assert_eq!(plan.workloads.iter().map(|workload| workload.replicas).sum::<u32>(), 500);
    assert!(plan.workloads.len() == 50 && plan.workloads.iter().all(|workload| workload.opted_in));
    assert_eq!(plan.nodes.0 * 2, 20);
    assert!(plan.events.iter().all(|(_, event)| matches!(event, Event::Reclaim(_, true))));
    // None in the rest at its end, for which a run waits.
    assert_eq!(plan.events.len(), 46);
}

#[test]
fn the_same_day_is_the_same_run() {
    let plan = day::plan(Duration::from_mins(80));
    assert_eq!(plan.events.len(), 1);
    let first = run(&plan);
    assert_eq!(first.wrongs, [""; 0]);
    assert!(first.changes > 3_000, "500 pods come, and some again: {} changes", first.changes);
    assert_eq!(first, run(&plan));
}
