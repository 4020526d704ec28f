//! What has to hold in a scenario, and whether it did.
//!
//! Expectations have bounds, so that the same ones hold in a simulated world and in a real one. They are held against the
//! record alone.

use std::fmt;
use std::time::Duration;

use serde::de::{MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer};

use crate::record::{Counts, Moment, Record};
use crate::scenario::Scenario;

/// Something that has to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expectation {
    /// Its line in the scenario.
    pub line: u64,
    /// When it begins.
    pub from: Duration,
    /// When it ends; the same for a moment.
    pub until: Duration,
    /// Of which workload; of all, if absent.
    pub workload: Option<String>,
    /// What.
    pub what: What,
}

/// What has to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// All the time, of ready pods.
    Ready {
        /// On both types together.
        all: Bounds,
        /// On spot.
        spot: Bounds,
        /// On on-demand.
        on_demand: Bounds,
    },
    /// In that time, so many pods are evicted.
    Evictions(Bounds),
    /// In that time, so many new pods are steered.
    Steered(Bounds),
    /// In that time, Spotalis tells this reason.
    Told(String),
    /// In that time, Spotalis does not tell this reason.
    NotTold(String),
}

/// From the least to the most, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// No fewer.
    pub min: u32,
    /// No more.
    pub max: u32,
}

impl Bounds {
    /// Whatever it is.
    pub const ANY: Self = Self { min: 0, max: u32::MAX };

    const fn hold(self, number: u32) -> bool {
        self.min <= number && number <= self.max
    }
}

impl fmt::Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.min, self.max) {
            (min, max) if min == max => write!(f, "{min}"),
            (0, u32::MAX) => f.write_str("any"),
            (min, u32::MAX) => write!(f, "at least {min}"),
            (0, max) => write!(f, "at most {max}"),
            (min, max) => write!(f, "{min} to {max}"),
        }
    }
}

/// As it is written down: a time (`at`, or `from` and `until`), and one thing that has to hold.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Written {
    #[serde(default, deserialize_with = "crate::scenario::optional_duration")]
    at: Option<Duration>,
    #[serde(default, deserialize_with = "crate::scenario::optional_duration")]
    from: Option<Duration>,
    #[serde(default, deserialize_with = "crate::scenario::optional_duration")]
    until: Option<Duration>,
    pub workload: Option<String>,
    ready: Option<Bounds>,
    spot: Option<Bounds>,
    on_demand: Option<Bounds>,
    evictions: Option<Bounds>,
    steered: Option<Bounds>,
    told: Option<String>,
    not_told: Option<String>,
}

impl Written {
    /// An expectation without its line, or what is wrong with it.
    pub fn check(self, lasts: Duration) -> Result<Expectation, String> {
        let Self { at, from, until, workload, ready, spot, on_demand, evictions, steered, told, not_told } = self;
        let (from, until) = match (at, from, until) {
            (Some(at), None, None) => (at, at),
            (None, from, until) => (from.unwrap_or_default(), until.unwrap_or(lasts)),
            (Some(_), ..) => {
                return Err("`at` is a moment, `from` and `until` are a time: use one or the other".to_owned());
            }
        };
        if from > until || until > lasts {
            let [from, until, lasts] = [from, until, lasts].map(|time| format!("{} s", time.as_secs_f64()));
            return Err(format!(
                "from {from} until {until} is no time within the {lasts} that are looked at: let it begin before it \
                 ends, and end before `lasts` is over"
            ));
        }
        let counted = ready.is_some() || spot.is_some() || on_demand.is_some();
        let what = match (counted, evictions, steered, told, not_told) {
            (true, None, None, None, None) => What::Ready {
                all: ready.unwrap_or(Bounds::ANY),
                spot: spot.unwrap_or(Bounds::ANY),
                on_demand: on_demand.unwrap_or(Bounds::ANY),
            },
            (false, Some(bounds), None, None, None) => What::Evictions(bounds),
            (false, None, Some(bounds), None, None) => What::Steered(bounds),
            (false, None, None, Some(reason), None) => What::Told(reason),
            (false, None, None, None, Some(reason)) => What::NotTold(reason),
            _ => {
                return Err("say one thing that has to hold: `evictions`, `steered`, `told`, `notTold`, or any of \
                            `ready`, `spot` and `onDemand`; the next one is an entry of its own"
                    .to_owned());
            }
        };
        if counted && workload.is_none() {
            return Err("say of which `workload` the ready pods are counted".to_owned());
        }
        Ok(Expectation { line: 0, from, until, workload, what })
    }
}

impl<'de> Deserialize<'de> for Bounds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct MinMax {
            min: Option<u32>,
            max: Option<u32>,
        }

        struct Reading;

        impl<'de> Visitor<'de> for Reading {
            type Value = Bounds;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, or {min: NUMBER, max: NUMBER}")
            }

            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Bounds, E> {
                let number = u32::try_from(number).map_err(|_| E::custom(format!("{number} is too large")))?;
                Ok(Bounds { min: number, max: number })
            }

            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Bounds, E> {
                let number = u64::try_from(number).map_err(|_| E::custom(format!("{number} is less than nothing")))?;
                self.visit_u64(number)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Bounds, A::Error> {
                let MinMax { min, max } = MinMax::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Bounds { min: min.unwrap_or(0), max: max.unwrap_or(u32::MAX) })
            }
        }

        deserializer.deserialize_any(Reading)
    }
}

/// What was not kept, each as `line N: …`.
pub fn broken(scenario: &Scenario, record: &Record) -> Vec<String> {
    scenario.expect.iter().filter_map(|expectation| expectation.broken(record)).collect()
}

impl Expectation {
    fn broken(&self, record: &Record) -> Option<String> {
        let Self { line, from, until, workload, what } = self;
        let of_workload = |name: &str| workload.as_deref().is_none_or(|wanted| is_called(name, wanted));
        let within = |at: &Duration| from <= at && at <= until;
        let count = |is_one: &dyn Fn(&Moment) -> bool| {
            let ones = record.moments.iter().filter(|(at, moment)| within(at) && is_one(moment)).count();
            u32::try_from(ones).unwrap_or(u32::MAX)
        };
        let of = workload.as_ref().map(|workload| format!("{workload}: ")).unwrap_or_default();
        let complain = |why: String| Some(format!("line {line}: {of}{why}"));
        match what {
            What::Ready { all, spot, on_demand } => {
                let name = record.workloads().into_iter().find(|name| of_workload(name));
                let steps = name.map(|name| record.steps(name)).unwrap_or_default();
                let ends = steps.iter().skip(1).map(|(at, _)| *at).chain([Duration::MAX]);
                let mut lasting = steps.iter().zip(ends).filter(|((at, _), end)| at <= until && end > from).peekable();
                if lasting.peek().is_none() {
                    return complain("there were no pods to count".to_owned());
                }
                let held = |counts: &Counts| {
                    let ready = counts.ready;
                    all.hold(ready.total()) && spot.hold(ready.spot) && on_demand.hold(ready.on_demand)
                };
                let ((at, counts), _) = lasting.find(|((_, counts), _)| !held(counts))?;
                let wanted = [("", all), (" on spot", spot), (" on on-demand", on_demand)];
                let wanted = wanted.iter().filter(|(_, bounds)| **bounds != Bounds::ANY);
                let wanted: Vec<String> = wanted.map(|(side, bounds)| format!("{bounds}{side}")).collect();
                let seconds = at.as_secs_f64();
                complain(format!("{counts} since {seconds:.1} s, wanted are {} ready", wanted.join(", ")))
            }
            What::Evictions(bounds) => {
                let evicted = count(
                    &|moment: &Moment| matches!(moment, Moment::Evicted { workload, .. } if of_workload(workload)),
                );
                if bounds.hold(evicted) { None } else { complain(format!("{evicted} evictions, wanted are {bounds}")) }
            }
            What::Steered(bounds) => {
                let steered = count(
                    &|moment: &Moment| matches!(moment, Moment::Steered { workload, .. } if of_workload(workload)),
                );
                if bounds.hold(steered) {
                    None
                } else {
                    complain(format!("{steered} new pods steered, wanted are {bounds}"))
                }
            }
            What::Told(reason) => {
                if self.is_told(record, reason) {
                    None
                } else {
                    complain(format!("nobody told {reason}"))
                }
            }
            What::NotTold(reason) => {
                if self.is_told(record, reason) {
                    complain(format!("{reason} was told"))
                } else {
                    None
                }
            }
        }
    }

    fn is_told(&self, record: &Record, wanted: &str) -> bool {
        record.moments.iter().any(|(at, moment)| match moment {
            Moment::Told { reason, about, .. } => {
                let about_it =
                    |workload: &String| about.split(' ').next_back().is_some_and(|name| is_called(name, workload));
                self.from <= *at && *at <= self.until && reason == wanted && self.workload.as_ref().is_none_or(about_it)
            }
            _ => false,
        })
    }
}

/// Whether `NAMESPACE/NAME` is called so.
fn is_called(name: &str, wanted: &str) -> bool {
    name == wanted || name.split_once('/').is_some_and(|(_, name)| name == wanted)
}

#[cfg(test)]
mod tests;
