//! What came of a workload in a run, and how that differs from run to run.

use std::time::Duration;

use serde::Serialize;

use crate::record::{Counts, Sides};
use crate::summary::WorkloadSummary;

/// A workload in one run.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Figures {
    /// `NAMESPACE/NAME`
    pub workload: String,
    /// Replicas that are wanted at the end.
    pub wanted: u32,
    /// Those that are ready at the end, by the type of their node.
    pub at_end: Sides,
    /// When it was whole for the first time; never, if absent.
    pub whole_after_seconds: Option<f64>,
    /// From when on replicas count that are not ready, with and without Spotalis alike.
    pub counted_from_seconds: f64,
    /// The fewest ready replicas since then.
    pub fewest_ready: u32,
    /// How long fewer were ready than wanted.
    pub below_seconds: f64,
    /// How long none was ready.
    pub down_seconds: f64,
    /// Missing replicas times hours.
    pub missing_hours: f64,
    /// Pods that were evicted.
    pub evictions: u32,
    /// Pod-hours on spot nodes.
    pub spot_hours: f64,
    /// Pod-hours on on-demand nodes.
    pub on_demand_hours: f64,
    /// What the pods cost, as a share of what they would have cost on on-demand nodes; none, if none ever ran.
    pub cost: Option<f64>,
}

/// Why pods of a workload that was never whole are not ready.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Stuck {
    /// `NAMESPACE/NAME`
    pub workload: String,
    /// How many pods.
    pub pods: u32,
    /// Why, in the words of who tells it.
    pub why: String,
}

impl Figures {
    /// Of a summary. `spot_price` is the price of spot as a share of that of on-demand.
    pub fn of(summary: &WorkloadSummary, spot_price: f64) -> Self {
        let WorkloadSummary {
            workload,
            last: Counts { wanted, ready, placed: _, pending: _ },
            whole_after,
            counted_from,
            fewest_ready,
            most_missing: _,
            below,
            down,
            missing_hours,
            evictions,
            spot_hours,
            other_hours,
        } = summary;
        let seconds = |time: &Duration| rounded(time.as_secs_f64());
        Self {
            workload: workload.clone(),
            wanted: *wanted,
            at_end: *ready,
            whole_after_seconds: whole_after.as_ref().map(seconds),
            counted_from_seconds: seconds(counted_from),
            fewest_ready: *fewest_ready,
            below_seconds: seconds(below),
            down_seconds: seconds(down),
            missing_hours: rounded(*missing_hours),
            evictions: *evictions,
            spot_hours: rounded(*spot_hours),
            on_demand_hours: rounded(*other_hours),
            cost: summary.relative_cost(spot_price).map(rounded),
        }
    }
}

/// To four places, which is finer than anything that is simulated.
pub(super) fn rounded(number: f64) -> f64 {
    (number * 10_000.0).round() / 10_000.0
}

/// A figure over several runs. `M` is what a mean of two figures is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Spread<T, M = T> {
    /// In the middle; of an even number of runs the mean of the two in the middle.
    pub median: M,
    /// In the run in which it is worst.
    pub worst: T,
    /// The least.
    pub min: T,
    /// The most.
    pub max: T,
}

/// A count over several runs.
pub type Counted = Spread<u32, f64>;

impl<T> Spread<T> {
    fn map<R>(self, of: impl Fn(T) -> R) -> Spread<R> {
        let Self { median, worst, min, max } = self;
        Spread { median: of(median), worst: of(worst), min: of(min), max: of(max) }
    }
}

/// The figures of a workload over several runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Spreads {
    /// In how many runs it was whole at some time.
    pub whole: u32,
    /// Ready replicas at the end of the first run, by the type of their node: those of one run belong together, medians of each
    /// type would not.
    pub at_end: Sides,
    /// When it was whole for the first time; never, if absent.
    pub whole_after_seconds: Spread<Option<f64>>,
    /// The fewest ready replicas.
    pub fewest_ready: Counted,
    /// How long fewer were ready than wanted.
    pub below_seconds: Spread<f64>,
    /// How long none was ready.
    pub down_seconds: Spread<f64>,
    /// Pods that were evicted.
    pub evictions: Counted,
    /// What the pods cost, as a share of what they would have cost on on-demand nodes, in the runs in which some ran.
    pub cost: Option<Spread<f64>>,
}

impl Spreads {
    /// Over the runs of a workload; there is at least one.
    pub fn over(runs: &[&Figures]) -> Self {
        Self {
            whole: u32::try_from(runs.iter().filter(|run| run.whole_after_seconds.is_some()).count())
                .unwrap_or(u32::MAX),
            at_end: runs[0].at_end,
            whole_after_seconds: high(runs.iter().map(|run| run.whole_after_seconds.unwrap_or(f64::INFINITY)))
                .map(|seconds| Some(seconds).filter(|seconds| seconds.is_finite())),
            fewest_ready: low(runs.iter().map(|run| run.fewest_ready)),
            below_seconds: high(runs.iter().map(|run| run.below_seconds)),
            down_seconds: high(runs.iter().map(|run| run.down_seconds)),
            evictions: high(runs.iter().map(|run| run.evictions)),
            cost: runs.iter().any(|run| run.cost.is_some()).then(|| high(runs.iter().filter_map(|run| run.cost))),
        }
    }
}

/// Of a figure that is the worse the lower it is.
fn low<T: Copy + PartialOrd + Into<f64>, M: From<f64>>(figures: impl Iterator<Item = T>) -> Spread<T, M> {
    let Spread { median, worst: _, min, max } = high(figures);
    Spread { median, worst: min, min, max }
}

/// Of a figure that is the worse the higher it is.
fn high<T: Copy + PartialOrd + Into<f64>, M: From<f64>>(figures: impl Iterator<Item = T>) -> Spread<T, M> {
    let mut figures: Vec<T> = figures.collect();
    figures.sort_by(|a, b| a.partial_cmp(b).expect("figures are numbers"));
    let (first, last) = (figures[0], figures[figures.len() - 1]);
    let [below, above] = [(figures.len() - 1) / 2, figures.len() / 2].map(|place| figures[place].into());
    // What never was in one of the two was not in their mean either.
    let median = rounded(f64::midpoint(below, above)).into();
    Spread { median, worst: last, min: first, max: last }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_knows_which_end_is_worse() {
        assert_eq!(high([3, 1, 2].into_iter()), Counted { median: 2.0, worst: 3, min: 1, max: 3 });
        assert_eq!(low([3, 1, 2].into_iter()), Counted { median: 2.0, worst: 1, min: 1, max: 3 });
        assert_eq!(high([0.5].into_iter()), Spread { median: 0.5, worst: 0.5, min: 0.5, max: 0.5 });
        assert!((rounded(1.0 / 3.0) - 0.3333).abs() < 1e-12);
    }
    #[test]
    fn the_median_of_an_even_number_of_runs_is_between_the_two_in_the_middle() {
        assert_eq!(low([3, 1, 2, 9].into_iter()), Counted { median: 2.5, worst: 1, min: 1, max: 9 });
        let times: Spread<f64> = high([7.0, 1.0, 2.0, 3.0].into_iter());
        assert_eq!(times, Spread { median: 2.5, worst: 7.0, min: 1.0, max: 7.0 });
        let never: Spread<f64> = high([1.0, f64::INFINITY].into_iter());
        assert!(never.median.is_infinite(), "half of the runs is not most of them");
    }

    #[test]
    fn what_is_there_at_the_end_is_of_one_run() {
        let run = |spot: u32, on_demand: u32| Figures {
            workload: "shop/web".to_owned(),
            wanted: 10,
            at_end: Sides { spot, on_demand, unknown: 0 },
            whole_after_seconds: None,
            counted_from_seconds: 0.0,
            fewest_ready: 0,
            below_seconds: 0.0,
            down_seconds: 0.0,
            missing_hours: 0.0,
            evictions: 0,
            spot_hours: 0.0,
            on_demand_hours: 0.0,
            cost: None,
        };
        let runs = [run(7, 3), run(0, 10), run(4, 0)];
        let over = Spreads::over(&runs.iter().collect::<Vec<_>>());
        assert_eq!(over.at_end, runs[0].at_end, "not the 4 of one and the 3 of another");
        assert_eq!((over.cost, over.whole_after_seconds.median), (None, None));
    }
}
