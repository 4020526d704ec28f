//! Every request of a quiet run, with everything that can go wrong with it: enumerated, not sampled.
//!
//! The run is a small one in which everything is done that balance does: a running workload is opted in and moved, seated,
//! scaled and restarted, by two processes of which one ends. Each plan is that run with one fault; and, where the answer to
//! an eviction was lost, with a second one in what is asked only then.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::fault::{Call, Fault, Spot};
use crate::plan::{Event, Faults, Plan, Workload};
use crate::run::{Outcome, run};

/// The run in which nothing goes wrong.
pub fn quiet() -> Plan {
    let at = Duration::from_secs;
    let web = Workload {
        name: "web".to_owned(),
        stateful: false,
        replicas: 4,
        opted_in: true,
        percentage: Some("0".to_owned()),
        floor: "1".to_owned(),
        budget: true,
        hasty: false,
        slow: Duration::ZERO,
    };
    let db = Workload { name: "db".to_owned(), stateful: true, replicas: 3, budget: false, ..web.clone() };
    let old = Workload { name: "old".to_owned(), opted_in: false, percentage: Some("50".to_owned()), ..web.clone() };
    let half = || Some("50".to_owned());
    let events = vec![
        (at(30), Event::OptIn("old".to_owned(), true)),
        (at(30), Event::Percentage("web".to_owned(), half())),
        (at(30), Event::Percentage("db".to_owned(), half())),
        (at(120), Event::Percentage("web".to_owned(), Some("100".to_owned()))),
        (at(150), Event::Replace(0)),
        (at(170), Event::Scale("web".to_owned(), 7)),
        (at(200), Event::Restart("db".to_owned(), 1)),
    ];
    Plan { events, ..Plan::uneventful(vec![web, db, old], Duration::from_mins(5)) }
}

/// All plans.
pub fn plans() -> Vec<Plan> {
    let quiet = quiet();
    let known = run(&quiet);
    let known_spots: BTreeSet<Spot> = known.calls.iter().map(Call::spot).collect();
    let lost = spots(&known).filter(|call| call.site == "create pods/eviction").map(|call| (call.spot(), Fault::Lost));
    let single = faults(spots(&known)).map(|fault| vec![fault]);
    let double = lost.flat_map(|lost| {
        let outcome = run(&with(&quiet, vec![lost.clone()]));
        let new = spots(&outcome).filter(|call| call.site == "get pods" && !known_spots.contains(&call.spot()));
        faults(new).map(|fault| vec![lost.clone(), fault]).collect::<Vec<_>>()
    });
    single.chain(double).map(|faults| with(&quiet, faults)).collect()
}

fn with(quiet: &Plan, faults: Vec<(Spot, Fault)>) -> Plan {
    Plan { faults: Faults::These(faults), ..quiet.clone() }
}

/// Of what comes later nothing goes wrong.
fn spots(outcome: &Outcome) -> impl Iterator<Item = &Call> {
    outcome.calls.iter().filter(|call| call.number <= outcome.calm_after)
}

/// Everything that can go wrong with each. What takes a time takes a short one, and one that is longer than whoever waits is
/// patient.
fn faults<'a>(calls: impl Iterator<Item = &'a Call>) -> impl Iterator<Item = (Spot, Fault)> {
    let of = |call: &Call| -> Vec<(Spot, Fault)> {
        let longer = [Fault::Late(call.patience()), Fault::LateAnswer(call.patience())];
        let longer = longer.into_iter().filter(|longer| {
            call.faults().iter().any(|fault| std::mem::discriminant(fault) == std::mem::discriminant(longer))
        });
        call.faults().iter().copied().chain(longer).map(|fault| (call.spot(), fault)).collect()
    };
    calls.flat_map(of)
}
