//! The day that the speed is measured by: that it is what the benchmark says, and the same every time.

use std::time::Duration;

use spotalis_sim::day;
use spotalis_sim::plan::{Event, Plan};
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

/// A tenth of its workloads for a little more than an hour: all of it is `cargo xtask bench day`'s.
#[test]
fn the_same_day_is_the_same_run() {
    let day = day::plan(Duration::from_mins(80));
    assert_eq!(day.events.len(), 1);
    let plan = Plan { workloads: day.workloads[..5].to_vec(), ..day };
    let first = run(&plan);
    assert_eq!(first.wrongs, [""; 0]);
    assert_eq!(first.took, Duration::from_mins(80));
    assert!(first.changes > 500, "50 pods come, and some again: {} changes", first.changes);
    let second = run(&plan);
    assert_eq!(first.digest, second.digest);
    assert_eq!(first, second);
    assert_ne!(first.digest, run(&Plan { seed: 2, ..plan }).digest, "another seed is another day");
}
