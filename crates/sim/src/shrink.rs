//! Makes a failing plan shorter: what can be left out without its becoming right is left out.
//!
//! First the faults that happened are written down one by one; then ever smaller parts of the faults, the events and the
//! workloads are left out, and what still fails is kept (Zeller and Hildebrandt, "Simplifying and isolating
//! failure-inducing input", 2002, without its complements).

use std::collections::BTreeSet;

use crate::plan::{Faults, Plan};
use crate::run::{Outcome, run};

/// The shortest plan found that fails alike, and how it ends. `tell` hears of every step.
pub fn shrink(plan: &Plan, outcome: &Outcome, tell: impl FnMut(&Plan)) -> (Plan, Outcome) {
    let of = properties(outcome).into_iter().map(str::to_owned).collect();
    let mut search = Search { of, best: (plan.clone(), outcome.clone()), tell };
    let listed = outcome.faults.iter().map(|(call, fault)| (call.spot(), *fault)).collect();
    search.try_out(Plan { faults: Faults::These(listed), ..plan.clone() });
    loop {
        let before = size(&search.best.0);
        search.without_faults();
        search.without_events();
        search.without_workloads();
        let plan = &search.best.0;
        if plan.processes > 1 {
            let fewer = Plan { processes: plan.processes - 1, ..plan.clone() };
            search.try_out(fewer);
        }
        if size(&search.best.0) == before {
            return search.best;
        }
    }
}

struct Search<T> {
    /// By which properties the plan failed at first.
    of: BTreeSet<String>,
    best: (Plan, Outcome),
    tell: T,
}

fn size(plan: &Plan) -> usize {
    let faults = match &plan.faults {
        Faults::Random { .. } => usize::MAX / 2,
        Faults::These(faults) => faults.len(),
    };
    faults + plan.events.len() + plan.workloads.len() + plan.processes as usize
}

/// The letters and numbers of what was wrong.
fn properties(outcome: &Outcome) -> BTreeSet<&str> {
    let words = outcome.wrongs.iter().filter_map(|wrong| wrong.split_once(": ").map(|(before, _)| before));
    words.filter_map(|before| before.rsplit(' ').next()).collect()
}

impl<T: FnMut(&Plan)> Search<T> {
    /// Keeps the plan if it fails by a property by which the first one failed: another failure would be found by another
    /// seed.
    fn try_out(&mut self, plan: Plan) -> bool {
        let outcome = run(&plan);
        let fails = properties(&outcome).into_iter().any(|property| self.of.contains(property));
        if fails {
            (self.tell)(&plan);
            self.best = (plan, outcome);
        }
        fails
    }

    /// Leaves out parts of a list, large ones first.
    fn thin<I: Clone>(&mut self, list: impl Fn(&Plan) -> Vec<I>, with: impl Fn(&Plan, Vec<I>) -> Plan) {
        let mut part = list(&self.best.0).len();
        while part > 0 {
            let mut from = 0;
            while from < list(&self.best.0).len() {
                let mut rest = list(&self.best.0);
                rest.drain(from..(from + part).min(rest.len()));
                if !self.try_out(with(&self.best.0, rest)) {
                    from += part;
                }
            }
            part /= 2;
        }
    }

    fn without_faults(&mut self) {
        let list = |plan: &Plan| match &plan.faults {
            Faults::Random { .. } => Vec::new(),
            Faults::These(faults) => faults.clone(),
        };
        self.thin(list, |plan, rest| Plan { faults: Faults::These(rest), ..plan.clone() });
    }

    fn without_events(&mut self) {
        // What takes back at the end what lasts stays.
        let lasting =
            |plan: &Plan| plan.events.iter().filter(|(at, _)| *at >= plan.calm_at).cloned().collect::<Vec<_>>();
        let list = |plan: &Plan| plan.events.iter().filter(|(at, _)| *at < plan.calm_at).cloned().collect();
        self.thin(list, |plan, rest| Plan { events: rest.into_iter().chain(lasting(plan)).collect(), ..plan.clone() });
    }

    fn without_workloads(&mut self) {
        self.thin(|plan| plan.workloads.clone(), |plan, rest| Plan { workloads: rest, ..plan.clone() });
    }
}
