//! What a record says in a few figures: how few replicas were ready, for how long too few, what was evicted, and what it cost.
//!
//! How a workload comes into being is nobody's merit, so counting begins when it was whole for the first time; of two records of
//! the same days at one moment for both, or the slower one would be spared what it was slow at. Everything is a sum over the
//! steps of the record; nothing is sampled.

use std::time::Duration;

use serde::Serialize;

use crate::record::{Counts, Moment, Record};

/// So much later than in one record a workload may be whole in the other: pods take a second or two longer here than there.
/// What is later than that counts as missing.
const ALLOWANCE: Duration = Duration::from_mins(1);

/// A record in figures.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Each workload, by name.
    pub workloads: Vec<WorkloadSummary>,
    /// Node-hours on spot nodes.
    pub spot_node_hours: f64,
    /// Node-hours on all other nodes.
    pub other_node_hours: f64,
}

/// A workload in figures.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadSummary {
    /// `NAMESPACE/NAME`
    pub workload: String,
    /// How its pods are at the end.
    pub last: Counts,
    /// When it was whole for the first time in this record; never, if absent.
    pub whole_after: Option<Duration>,
    /// From when on replicas count that are not ready: see [`Summary::of_both`]. From the beginning, if it was never whole.
    pub counted_from: Duration,
    /// The fewest ready replicas.
    pub fewest_ready: u32,
    /// The most replicas that were missing at the same time.
    pub most_missing: u32,
    /// How long fewer were ready than wanted.
    pub below: Duration,
    /// How long none was ready although some were wanted.
    pub down: Duration,
    /// Missing replicas times hours.
    pub missing_hours: f64,
    /// Pods that were evicted, from the beginning on.
    pub evictions: u32,
    /// Pod-hours on spot nodes, from the beginning on.
    pub spot_hours: f64,
    /// Pod-hours on all other nodes, from the beginning on.
    pub other_hours: f64,
}

impl Summary {
    /// Of a record. Each workload counts from its first whole moment on.
    pub fn of(record: &Record) -> Self {
        Self::counted(record, &[record])
    }

    /// Of two records of the same days. Each workload counts from one moment on in both: when it was whole in both, but no later
    /// than a minute after it was whole in one of them.
    pub fn of_both(with: &Record, without: &Record) -> (Self, Self) {
        let both = [with, without];
        (Self::counted(with, &both), Self::counted(without, &both))
    }

    fn counted(record: &Record, beside: &[&Record]) -> Self {
        let summary = |workload: &str| WorkloadSummary::of(record, workload, beginning(beside, workload));
        let workloads = record.workloads().into_iter().map(summary).collect();
        let (mut spot_node_hours, mut other_node_hours) = (0.0, 0.0);
        for (_, time, sides) in lasting(&record.nodes(), record.lasted) {
            spot_node_hours += f64::from(sides.spot) * hours(time);
            other_node_hours += f64::from(sides.on_demand + sides.unknown) * hours(time);
        }
        Self { workloads, spot_node_hours, other_node_hours }
    }
}

impl WorkloadSummary {
    fn of(record: &Record, workload: &str, counted_from: Duration) -> Self {
        let steps = record.steps(workload);
        let evictions = record
            .moments
            .iter()
            .filter(|(_, moment)| matches!(moment, Moment::Evicted { workload: evicted, .. } if evicted == workload));
        let mut summary = Self {
            workload: workload.to_owned(),
            last: steps.last().map(|(_, counts)| *counts).unwrap_or_default(),
            whole_after: whole_after(&steps),
            counted_from,
            fewest_ready: u32::MAX,
            most_missing: 0,
            below: Duration::ZERO,
            down: Duration::ZERO,
            missing_hours: 0.0,
            evictions: u32::try_from(evictions.count()).unwrap_or(u32::MAX),
            spot_hours: 0.0,
            other_hours: 0.0,
        };
        for (_, time, counts) in lasting(&steps, record.lasted) {
            summary.spot_hours += f64::from(counts.placed.spot) * hours(time);
            summary.other_hours += f64::from(counts.placed.on_demand + counts.placed.unknown) * hours(time);
        }
        for (_, time, counts) in since(counted_from, lasting(&steps, record.lasted)) {
            let ready = counts.ready.total();
            let missing = counts.wanted.saturating_sub(ready);
            summary.fewest_ready = summary.fewest_ready.min(ready);
            summary.most_missing = summary.most_missing.max(missing);
            summary.missing_hours += f64::from(missing) * hours(time);
            if missing > 0 {
                summary.below += time;
            }
            if ready == 0 && counts.wanted > 0 {
                summary.down += time;
            }
        }
        if summary.fewest_ready == u32::MAX {
            summary.fewest_ready = 0;
        }
        summary
    }

    /// What its pods cost, as a share of what they would have cost on on-demand nodes. `spot_price` is the price of spot as a
    /// share of that of on-demand. What never ran has none.
    pub fn relative_cost(&self, spot_price: f64) -> Option<f64> {
        let all = self.spot_hours + self.other_hours;
        (all > 0.0).then(|| self.spot_hours.mul_add(spot_price, self.other_hours) / all)
    }
}

/// When a workload was whole for the first time. One of which nothing is ever wanted is so from the beginning on.
fn whole_after(steps: &[(Duration, Counts)]) -> Option<Duration> {
    let wanted = steps.iter().any(|(_, counts)| counts.wanted > 0);
    let is_whole = |counts: &Counts| counts.ready.total() >= counts.wanted && (counts.wanted > 0 || !wanted);
    steps.iter().find(|(_, counts)| is_whole(counts)).map(|(at, _)| *at)
}

/// The moment from which on a workload counts in all of these records.
fn beginning(records: &[&Record], workload: &str) -> Duration {
    let whole = records.iter().map(|record| whole_after(&record.steps(workload)));
    let (mut first, mut all) = (None::<Duration>, Some(Duration::ZERO));
    for whole in whole {
        first = first.into_iter().chain(whole).min();
        all = all.zip(whole).map(|(all, whole)| all.max(whole));
    }
    let latest = first.map(|first| first.saturating_add(ALLOWANCE));
    all.into_iter().chain(latest).min().unwrap_or_default()
}

/// What of the steps that last is after a moment; what began before it is cut there, and what takes no time is left out.
pub(crate) fn since<T>(
    from: Duration,
    steps: impl Iterator<Item = (Duration, Duration, T)>,
) -> impl Iterator<Item = (Duration, Duration, T)> {
    let cut = move |(at, time, step): (Duration, Duration, T)| {
        let begins = at.max(from);
        (begins, (at + time).saturating_sub(begins), step)
    };
    steps.map(cut).filter(|(_, time, _)| !time.is_zero())
}

/// Each step with its time and how long it lasts.
pub(crate) fn lasting<T: Copy>(
    steps: &[(Duration, T)],
    lasted: Duration,
) -> impl Iterator<Item = (Duration, Duration, T)> {
    let ends = steps.iter().skip(1).map(|(at, _)| *at).chain([lasted]);
    steps.iter().zip(ends).map(|((at, step), end)| (*at, end.saturating_sub(*at), *step))
}

fn hours(time: Duration) -> f64 {
    time.as_secs_f64() / 3_600.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Sides;
    use crate::scenario::Capacity;

    fn counted(at: u64, wanted: u32, spot: u32, on_demand: u32) -> (Duration, Moment) {
        let sides = Sides { spot, on_demand, unknown: 0 };
        let counts = Counts { wanted, ready: sides, placed: sides, pending: 0 };
        (Duration::from_secs(at), Moment::Counted { workload: "shop/web".to_owned(), counts })
    }

    #[test]
    fn what_lasts_is_weighed_by_its_time_from_the_first_whole_moment_on() {
        let node = Moment::NodeCame { node: "n".to_owned(), capacity: Capacity::Spot };
        let evicted =
            Moment::Evicted { workload: "shop/web".to_owned(), pod: "web-1".to_owned(), capacity: Capacity::Spot };
        let moments = vec![
            (Duration::ZERO, node),
            counted(0, 2, 0, 0),
            counted(100, 2, 1, 1),
            (Duration::from_secs(1_000), evicted),
            counted(1_000, 2, 0, 1),
            counted(1_900, 2, 1, 1),
            counted(2_800, 2, 0, 0),
            counted(2_800, 2, 1, 1),
        ];
        let summary = Summary::of(&Record { lasted: Duration::from_secs(3_700), moments });
        let web = &summary.workloads[0];
        assert_eq!((web.whole_after, web.counted_from), (Some(Duration::from_secs(100)), Duration::from_secs(100)));
        assert_eq!((web.fewest_ready, web.most_missing, web.evictions), (1, 1, 1), "a state without a time is none");
        assert_eq!((web.below, web.down), (Duration::from_mins(15), Duration::ZERO));
        let near = |value: f64, wanted: f64| (value - wanted).abs() < 1e-9;
        assert!(near(web.missing_hours, 0.25), "{}", web.missing_hours);
        assert!(near(web.other_hours, 1.0) && near(web.spot_hours, 0.75), "{web:?}");
        let cost = web.relative_cost(0.4);
        assert!(near(cost.unwrap(), (1.0 + 0.75 * 0.4) / 1.75), "{cost:?}");
        assert!(near(summary.spot_node_hours, 3_700.0 / 3_600.0));
    }
    /// When a workload of two replicas is whole in one record and in the other, from when on it counts in both, and how long it
    /// was below in the second.
    #[test]
    fn both_records_count_from_one_moment_on() {
        let record = |whole: Option<u64>| {
            let whole = whole.map(|at| counted(at, 2, 1, 1));
            let moments = [counted(0, 2, 0, 0), counted(5, 2, 0, 1)].into_iter().chain(whole).collect();
            Record { lasted: Duration::from_secs(7_300), moments }
        };
        for (with, without, from, below) in [
            (Some(20), Some(15), 20, 0),
            (Some(15), Some(20), 20, 0),
            (Some(10), Some(70), 70, 0),
            (Some(10), Some(7_210), 70, 7_140),
            (Some(10), None, 70, 7_230),
            (None, None, 0, 7_300),
        ] {
            let (ours, theirs) = Summary::of_both(&record(with), &record(without));
            let (ours, theirs) = (&ours.workloads[0], &theirs.workloads[0]);
            assert_eq!([ours, theirs].map(|it| it.counted_from.as_secs()), [from; 2], "{with:?} {without:?}");
            assert_eq!((ours.whole_after, theirs.whole_after), {
                let at = |whole: Option<u64>| whole.map(Duration::from_secs);
                (at(with), at(without))
            });
            assert_eq!(theirs.below.as_secs(), below, "{with:?} {without:?}");
            assert_eq!(
                theirs.fewest_ready,
                if below == 0 { 2 } else { u32::from(without.is_some() || with.is_some()) }
            );
        }
    }

    #[test]
    fn of_which_nothing_is_wanted_that_is_whole() {
        let of = |moments| Summary::of(&Record { lasted: Duration::from_secs(9), moments }).workloads.remove(0);
        let none = of(vec![counted(0, 0, 0, 0)]);
        assert_eq!((none.whole_after, none.below), (Some(Duration::ZERO), Duration::ZERO));
        assert_eq!(none.relative_cost(0.4), None, "nothing ran, so nothing was paid");
        let grown = of(vec![counted(0, 0, 0, 0), counted(1, 2, 0, 0), counted(3, 2, 1, 1)]);
        assert_eq!((grown.whole_after, grown.below), (Some(Duration::from_secs(3)), Duration::ZERO));
    }
}
