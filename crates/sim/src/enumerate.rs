//! Every request of a quiet run, with everything that can go wrong with it: enumerated, not sampled.
//!
//! The run is a small one in which everything is done that balance does: a running workload is opted in and moved, seated,
//! scaled and restarted, by two processes of which one ends. Each plan is that run with one fault.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::fault::Call;
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
        percentage: Some(0),
        floor: 1,
        budget: true,
        hasty: false,
        slow: Duration::ZERO,
    };
    let db = Workload { name: "db".to_owned(), stateful: true, replicas: 3, budget: false, ..web.clone() };
    let old = Workload { name: "old".to_owned(), opted_in: false, percentage: Some(50), ..web.clone() };
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
    let Outcome { calls, calm_after, .. } = run(&quiet);
    // Renewals of the Lease are all alike.
    let worth =
        |call: &&Call| call.site != "get leases" && call.site != "patch leases" || call.number.is_multiple_of(7);
    calls
        .iter()
        // Of what comes later nothing goes wrong.
        .filter(|call| call.number <= calm_after)
        .filter(worth)
        .flat_map(|call| call.faults().iter().map(|fault| (call.number, *fault)))
        .map(|(number, fault)| Plan { faults: Faults::These(BTreeMap::from([(number, fault)])), ..quiet.clone() })
        .collect()
}
