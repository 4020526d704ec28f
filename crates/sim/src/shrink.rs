//! Makes a failing plan shorter: what can be left out without its becoming right is left out.
//!
//! First the faults that happened are written down one by one; then ever smaller parts of the faults, the events and the
//! workloads are left out, and what still fails is kept (Zeller and Hildebrandt, "Simplifying and isolating
//! failure-inducing input", 2002, without its complements).

use std::collections::BTreeSet;

use crate::plan::{Faults, Plan};
use crate::run::{Outcome, run};

/// The shortest plan found that fails, and how it ends. `tell` hears of every step.
pub fn shrink(plan: &Plan, outcome: &Outcome, mut tell: impl FnMut(&Plan)) -> (Plan, Outcome) {
    let mut best = (plan.clone(), outcome.clone());
    let listed = Plan {
        faults: Faults::These(outcome.faults.iter().map(|(call, fault)| (call.number, *fault)).collect()),
        ..plan.clone()
    };
    try_out(listed, &mut best, &mut tell);
    loop {
        let before = size(&best.0);
        without_faults(&mut best, &mut tell);
        without_events(&mut best, &mut tell);
        without_workloads(&mut best, &mut tell);
        if best.0.processes > 1 {
            let fewer = Plan { processes: best.0.processes - 1, ..best.0.clone() };
            try_out(fewer, &mut best, &mut tell);
        }
        if size(&best.0) == before {
            return best;
        }
    }
}

fn size(plan: &Plan) -> usize {
    let faults = match &plan.faults {
        Faults::Random { .. } => usize::MAX / 2,
        Faults::These(faults) => faults.len(),
    };
    faults + plan.events.len() + plan.workloads.len() + plan.processes as usize
}

/// Keeps the plan if it fails by a property by which the one before fails: another failure would be found by another seed.
fn try_out(plan: Plan, best: &mut (Plan, Outcome), tell: &mut impl FnMut(&Plan)) -> bool {
    let outcome = run(&plan);
    let before = properties(&best.1);
    let fails = properties(&outcome).iter().any(|property| before.contains(property));
    if fails {
        tell(&plan);
        *best = (plan, outcome);
    }
    fails
}

/// The letters and numbers of what was wrong.
fn properties(outcome: &Outcome) -> BTreeSet<&str> {
    let words = outcome.wrongs.iter().filter_map(|wrong| wrong.split_once(": ").map(|(before, _)| before));
    words.filter_map(|before| before.rsplit(' ').next()).collect()
}

/// Leaves out parts of a list, large ones first.
fn thin<T: Clone>(
    best: &mut (Plan, Outcome),
    tell: &mut impl FnMut(&Plan),
    list: impl Fn(&Plan) -> Vec<T>,
    with: impl Fn(&Plan, Vec<T>) -> Plan,
) {
    let mut part = list(&best.0).len();
    while part > 0 {
        let mut from = 0;
        while from < list(&best.0).len() {
            let mut rest = list(&best.0);
            rest.drain(from..(from + part).min(rest.len()));
            if !try_out(with(&best.0, rest), best, tell) {
                from += part;
            }
        }
        part /= 2;
    }
}

fn without_faults(best: &mut (Plan, Outcome), tell: &mut impl FnMut(&Plan)) {
    let list = |plan: &Plan| match &plan.faults {
        Faults::Random { .. } => Vec::new(),
        Faults::These(faults) => faults.iter().map(|(number, fault)| (*number, *fault)).collect(),
    };
    thin(best, tell, list, |plan, rest| Plan { faults: Faults::These(rest.into_iter().collect()), ..plan.clone() });
}

fn without_events(best: &mut (Plan, Outcome), tell: &mut impl FnMut(&Plan)) {
    // What takes back at the end what lasts stays.
    let lasting = |plan: &Plan| plan.events.iter().filter(|(at, _)| *at >= plan.calm_at).cloned().collect::<Vec<_>>();
    let list = |plan: &Plan| plan.events.iter().filter(|(at, _)| *at < plan.calm_at).cloned().collect();
    thin(best, tell, list, |plan, rest| Plan {
        events: rest.into_iter().chain(lasting(plan)).collect(),
        ..plan.clone()
    });
}

fn without_workloads(best: &mut (Plan, Outcome), tell: &mut impl FnMut(&Plan)) {
    thin(best, tell, |plan| plan.workloads.clone(), |plan, rest| Plan { workloads: rest, ..plan.clone() });
}
