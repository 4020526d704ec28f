//! Every kind of expectation, kept and broken.

use super::*;
use crate::record::Sides;
use crate::scenario::Capacity;

const LASTS: Duration = Duration::from_secs(100);

fn counted(at: u64, spot: u32, on_demand: u32, pending: u32) -> (Duration, Moment) {
    let sides = Sides { spot, on_demand, unknown: 0 };
    let counts = Counts { wanted: 5, ready: sides, placed: sides, pending };
    (Duration::from_secs(at), Moment::Counted { workload: "shop/web".to_owned(), counts })
}

fn evicted(at: u64, workload: &str) -> (Duration, Moment) {
    let (workload, pod) = (format!("shop/{workload}"), "p".to_owned());
    (Duration::from_secs(at), Moment::Evicted { workload, pod, capacity: Capacity::Spot })
}

/// Three on spot and two on on-demand, of which one is moved at 50 s: it is away until 60 s.
fn record() -> Record {
    let (workload, pod, to) = ("shop/web".to_owned(), "p".to_owned(), "spot".to_owned());
    let told = Moment::Told {
        reason: "Rebalanced".to_owned(),
        about: "Deployment shop/web".to_owned(),
        note: String::new(),
        warning: false,
    };
    let moments = vec![
        counted(2, 3, 2, 0),
        evicted(50, "web"),
        (Duration::from_secs(50), told),
        counted(50, 3, 1, 1),
        (Duration::from_secs(51), Moment::Steered { workload, pod, to, why: String::new() }),
        counted(60, 4, 1, 0),
        evicted(70, "api"),
    ];
    Record { lasted: LASTS, moments }
}

/// What is said about an expectation; nothing, if it is kept.
fn said(expectation: &str) -> Option<String> {
    let written: Written = serde_saphyr::from_str(&format!("{{{expectation}}}")).unwrap();
    written.check(LASTS).unwrap().broken(&record())
}

#[test]
fn what_is_kept_is_not_spoken_of() {
    for expectation in [
        "at: 49s, workload: web, ready: 5, spot: 3, onDemand: 2",
        "at: 100s, workload: shop/web, spot: 4, onDemand: 1",
        "from: 2s, until: 49s, workload: web, onDemand: 2",
        "from: 2s, workload: web, ready: {min: 4}, onDemand: {min: 1, max: 2}",
        "at: 60s, workload: web, ready: 5",
        "evictions: 2",
        "workload: web, evictions: 1",
        "until: 49s, evictions: 0",
        "from: 70s, evictions: {max: 1}",
        "workload: web, steered: 1",
        "workload: api, steered: 0",
        "told: Rebalanced",
        "workload: web, told: Rebalanced",
        "from: 51s, notTold: Rebalanced",
        "workload: api, notTold: Rebalanced",
    ] {
        assert_eq!(said(expectation), None, "{expectation}");
    }
}

#[test]
fn what_is_broken_is_told_with_what_was_and_what_was_wanted() {
    for (expectation, complaint) in [
        (
            "at: 55s, workload: web, ready: 5",
            "line 0: web: 4 of 5 are ready, 3 on spot, 1 on on-demand; 1 not yet since 50.0 s, wanted are 5 ready",
        ),
        (
            "from: 2s, workload: web, spot: 3, onDemand: {max: 2}",
            "line 0: web: 5 of 5 are ready, 4 on spot, 1 on on-demand since 60.0 s, wanted are 3 on spot, at most 2 on \
             on-demand ready",
        ),
        ("at: 1s, workload: web, ready: 0", "line 0: web: there were no pods to count"),
        ("at: 50s, workload: api, ready: {min: 1}", "line 0: api: there were no pods to count"),
        ("evictions: {max: 1}", "line 0: 2 evictions, wanted are at most 1"),
        ("from: 51s, workload: web, evictions: 1", "line 0: web: 0 evictions, wanted are 1"),
        ("until: 50s, steered: {min: 1, max: 3}", "line 0: 0 new pods steered, wanted are 1 to 3"),
        ("until: 49s, told: Rebalanced", "line 0: nobody told Rebalanced"),
        ("workload: api, told: Rebalanced", "line 0: api: nobody told Rebalanced"),
        ("notTold: Rebalanced", "line 0: Rebalanced was told"),
    ] {
        assert_eq!(said(expectation).as_deref(), Some(complaint), "{expectation}");
    }
}
