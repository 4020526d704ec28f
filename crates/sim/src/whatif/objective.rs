//! What somebody asks of every workload, and where it was missed.
//!
//! Held against the record of a run, from the moment on at which the workload counts, which is the same as without Spotalis.

use std::fmt;

use serde::Serialize;

use crate::record::Record;
use crate::summary::{Summary, lasting, since};

/// A number of replicas, or a share of those that are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// So many.
    Count(u32),
    /// So many of a hundred, rounded up, as in a PodDisruptionBudget.
    Percent(u32),
}

impl Amount {
    /// Reads `3` or `30%`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is neither a number of replicas, as 3, nor a share of them, as 30%");
        match text.strip_suffix('%') {
            Some(percent) => {
                percent.parse().ok().filter(|percent| *percent <= 100).map(Self::Percent).ok_or_else(wrong)
            }
            None => text.parse().map(Self::Count).map_err(|_| wrong()),
        }
    }

    fn of(self, wanted: u32) -> u32 {
        match self {
            Self::Count(count) => count.min(wanted),
            Self::Percent(percent) => {
                u32::try_from((u64::from(wanted) * u64::from(percent)).div_ceil(100)).unwrap_or(wanted)
            }
        }
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

/// What somebody asks of every workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Objective {
    /// No more replicas are missing.
    MaxUnavailable(Amount),
    /// No fewer are ready; of a workload that wants fewer, all of them.
    MinReady(Amount),
}

impl fmt::Display for Objective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MaxUnavailable(amount) => write!(f, "--max-unavailable {amount}"),
            Self::MinReady(amount) => write!(f, "--min-ready {amount}"),
        }
    }
}

/// An objective that was missed, for the first time in a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Miss {
    /// Which one.
    pub objective: String,
    /// By which workload, as `NAMESPACE/NAME`.
    pub workload: String,
    /// When, from the creation of the workloads on.
    pub at_seconds: f64,
    /// For how long.
    pub lasted_seconds: f64,
    /// Replicas that were ready then.
    pub ready: u32,
    /// Replicas that were wanted then.
    pub wanted: u32,
}

impl Objective {
    fn holds(self, ready: u32, wanted: u32) -> bool {
        match self {
            Self::MaxUnavailable(amount) => wanted.saturating_sub(ready) <= amount.of(wanted),
            Self::MinReady(amount) => ready >= amount.of(wanted),
        }
    }

    /// Each workload that missed it in a run.
    pub fn missed(self, record: &Record, summary: &Summary) -> Vec<Miss> {
        let first = summary.workloads.iter().filter_map(|workload| {
            let steps = record.steps(&workload.workload);
            let mut lasting = since(workload.counted_from, lasting(&steps, record.lasted));
            let (at, time, counts) = lasting.find(|(_, _, counts)| !self.holds(counts.ready.total(), counts.wanted))?;
            // It may get worse or better and still be missed.
            let more = lasting.take_while(|(_, _, counts)| !self.holds(counts.ready.total(), counts.wanted));
            let time = more.fold(time, |sum, (_, time, _)| sum + time);
            Some(Miss {
                objective: self.to_string(),
                workload: workload.workload.clone(),
                at_seconds: at.as_secs_f64(),
                lasted_seconds: time.as_secs_f64(),
                ready: counts.ready.total(),
                wanted: counts.wanted,
            })
        });
        first.collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::record::{Counts, Moment, Sides};

    fn record(steps: &[(u64, u32, u32)]) -> Record {
        let counted = |(at, wanted, ready): &(u64, u32, u32)| {
            let ready = Sides { spot: *ready, on_demand: 0, unknown: 0 };
            let counts = Counts { wanted: *wanted, ready, placed: ready, pending: 0 };
            (Duration::from_secs(*at), Moment::Counted { workload: "shop/web".to_owned(), counts })
        };
        Record { lasted: Duration::from_secs(1_000), moments: steps.iter().map(counted).collect() }
    }

    fn missed(objective: Objective, steps: &[(u64, u32, u32)]) -> Option<(f64, f64, u32)> {
        let record = record(steps);
        let misses = objective.missed(&record, &Summary::of(&record));
        assert!(misses.len() <= 1);
        misses.first().map(|miss| (miss.at_seconds, miss.lasted_seconds, miss.ready))
    }

    #[test]
    fn the_first_miss_after_the_first_whole_moment_is_told() {
        use Amount::{Count, Percent};
        use Objective::{MaxUnavailable, MinReady};
        let steps = [(0, 10, 0), (5, 10, 10), (100, 10, 7), (150, 10, 6), (200, 10, 9), (300, 10, 0), (300, 10, 10)];
        for (objective, wanted) in [
            (MinReady(Count(7)), Some((150.0, 50.0, 6))),
            (MinReady(Count(8)), Some((100.0, 100.0, 7))),
            (MinReady(Count(6)), None),
            (MinReady(Count(100)), Some((100.0, 200.0, 7))),
            (MinReady(Percent(61)), Some((150.0, 50.0, 6))),
            (MaxUnavailable(Count(3)), Some((150.0, 50.0, 6))),
            (MaxUnavailable(Percent(31)), None),
            (MaxUnavailable(Count(0)), Some((100.0, 200.0, 7))),
        ] {
            assert_eq!(missed(objective, &steps), wanted, "{objective}");
        }
        let never_whole = [(0, 3, 0), (5, 3, 2)];
        assert_eq!(missed(MinReady(Count(1)), &never_whole), Some((0.0, 5.0, 0)), "it counts from the beginning on");
        assert_eq!(missed(MaxUnavailable(Count(0)), &never_whole), Some((0.0, 1_000.0, 0)));
        for impossible in [MinReady(Count(0)), MinReady(Percent(0)), MaxUnavailable(Percent(100))] {
            assert_eq!(missed(impossible, &never_whole), None, "{impossible} cannot be missed");
        }
        assert_eq!(missed(MinReady(Count(1)), &[(0, 0, 0)]), None, "nothing is wanted");
    }

    #[test]
    fn what_is_whole_late_on_one_side_is_missed_from_a_minute_after_the_other_on() {
        let (late, early) = (record(&[(0, 10, 0), (500, 10, 10)]), record(&[(0, 10, 0), (10, 10, 10)]));
        let misses = |with: &Record, without: &Record| {
            let missed = Objective::MaxUnavailable(Amount::Count(0)).missed(with, &Summary::of_both(with, without).0);
            missed
                .iter()
                .map(|miss| format!("{} s on, for {} s", miss.at_seconds, miss.lasted_seconds))
                .collect::<Vec<_>>()
        };
        assert_eq!(misses(&late, &early), ["70 s on, for 430 s"]);
        assert_eq!(misses(&early, &late), [""; 0]);
    }

    #[test]
    fn amounts_are_numbers_or_shares() {
        assert_eq!(Amount::parse("3"), Ok(Amount::Count(3)));
        assert_eq!(Amount::parse("30%"), Ok(Amount::Percent(30)));
        for text in ["", "%", "-1", "101%", "1.5", "three", "30 %"] {
            assert!(Amount::parse(text).unwrap_err().contains("as 30%"), "{text}");
        }
    }
}
