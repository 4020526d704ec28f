//! A day like any other, as a plan: twenty nodes, fifty workloads, five hundred pods, and a spot node that is taken back every
//! half hour. What the speed of the simulation is measured by.

use std::time::Duration;

use crate::plan::{Event, Plan, REST, Workload};

/// Nodes of each type.
const NODES: u32 = 10;
/// Pods that a node takes.
const ROOM: u32 = 60;
/// Workloads: every fifth is a StatefulSet, and every fifth has a budget.
const WORKLOADS: u32 = 50;
/// Replicas of each workload.
const REPLICAS: u32 = 10;
/// From one node that is taken back to the next.
const INTERVAL: Duration = Duration::from_mins(30);
/// The next node is so many further: every one has its turn.
const STRIDE: u32 = 7;

/// So long a piece of it, which is at least the rest that ends every run.
pub fn plan(length: Duration) -> Plan {
    let calm_at = length.saturating_sub(REST);
    let reclaims = (1..).map(|number| (INTERVAL * number, Event::Reclaim(number * STRIDE, true)));
    Plan {
        seed: 1,
        nodes: (NODES, ROOM),
        events: reclaims.take_while(|(at, _)| *at < calm_at).collect(),
        stillness: REST,
        ..Plan::uneventful((0..WORKLOADS).map(workload).collect(), calm_at)
    }
}

fn workload(number: u32) -> Workload {
    Workload {
        name: format!("w{number}"),
        stateful: number % 5 == 4,
        replicas: REPLICAS,
        opted_in: true,
        percentage: Some("70".to_owned()),
        floor: "1".to_owned(),
        budget: number.is_multiple_of(5),
        hasty: number.is_multiple_of(3),
        slow: Duration::ZERO,
    }
}
