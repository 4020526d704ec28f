//! How many spot nodes can be had, over time: read from a file, or made up from a seed.
//!
//! A trace is data. Who loses which node is the fleet's business, and what follows from it the cluster's.

mod synthetic;

use std::fmt;
use std::time::Duration;

use serde::de::{DeserializeSeed, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};

pub use synthetic::Synthetic;

use crate::chance::Chance;
use crate::scenario::{Event, Happening, Mistake, Mistakes, Place};

/// The longest step.
const LONGEST_GAP: u32 = 86_400;
/// The most steps.
const MOST_STEPS: usize = 1_000_000;
/// What a trace looks like, for who wrote something else.
const FORM: &str = "a trace is {\"metadata\": {\"gap_seconds\": N}, \"data\": [available capacity, ...]}";

/// Available capacity, at each step of the same length. There is at least one step.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    /// How long a step lasts.
    pub gap: Duration,
    /// Finite numbers that are not negative.
    pub available: Vec<f64>,
}

/// What the numbers of a trace are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Scale {
    /// So many nodes.
    Nodes,
    /// A share of the fleet: the largest number is all of it.
    Largest,
}

impl Trace {
    /// Reads one. `file` is named in what is said about it.
    pub fn read(file: &str, text: &str) -> Result<Self, Mistakes> {
        let Written { metadata: Metadata { gap_seconds: Gap(gap) }, data: Steps(available) } =
            serde_json::from_str(text).map_err(|error| {
                // The parser says the place itself, in its own way.
                let said = error.to_string();
                let said = said.rsplit_once(" at line ").map_or(said.as_str(), |(said, _)| said);
                let place = Place { line: error.line().max(1) as u64, column: error.column().max(1) as u64 };
                let mistake = Mistake { place, what: format!("{said}; {FORM}") };
                Mistakes { file: file.to_owned(), mistakes: vec![mistake] }
            })?;
        Ok(Self { gap: Duration::from_secs(gap.into()), available })
    }

    /// Written down, as [`Trace::read`] reads it.
    pub fn to_json(&self) -> Value {
        let Self { gap, available } = self;
        // Whole numbers are written as such, as far as they can be counted.
        let counts = |value: f64| value.fract() == 0.0 && value <= f64::from(u32::MAX);
        let number = |value: &f64| if counts(*value) { json!(whole(*value)) } else { json!(value) };
        json!({"metadata": {"gap_seconds": gap.as_secs()}, "data": available.iter().map(number).collect::<Vec<_>>()})
    }

    /// How long it is.
    pub fn lasts(&self) -> Duration {
        self.gap * u32::try_from(self.available.len()).unwrap_or(u32::MAX)
    }

    /// The largest number.
    pub fn largest(&self) -> f64 {
        self.available.iter().copied().fold(0.0, f64::max)
    }

    /// What its numbers are for a fleet of so many spot nodes, where nobody said it: nodes if that can be.
    pub fn scale(&self, nodes: u32) -> Scale {
        if self.largest() <= f64::from(nodes) { Scale::Nodes } else { Scale::Largest }
    }

    /// What of its numbers is not taken as it is: how many have a fraction, which is cut, and how many are above all nodes.
    pub fn cut(&self, nodes: u32, scale: Scale) -> (usize, usize) {
        let count = |is: &dyn Fn(&&f64) -> bool| self.available.iter().filter(is).count();
        match scale {
            Scale::Nodes => (count(&|value| value.fract() != 0.0), count(&|value| **value > f64::from(nodes))),
            Scale::Largest => (0, 0),
        }
    }

    /// The part of it that is played: of a long one, a seed says which; a short one begins again at its end.
    #[must_use]
    pub fn window(&self, seed: u64, lasts: Duration) -> Self {
        let Self { gap, available } = self;
        let steps = usize::try_from(lasts.as_nanos().div_ceil(gap.as_nanos())).unwrap_or(usize::MAX).max(1);
        let spare = u32::try_from(available.len().saturating_sub(steps)).expect("the steps are bounded");
        let first = Chance::of(seed).fork().between(0, spare) as usize;
        Self { gap: *gap, available: available.iter().cycle().skip(first).take(steps).copied().collect() }
    }

    /// How many of so many spot nodes can be had, at each step.
    pub fn nodes(&self, nodes: u32, scale: Scale) -> Vec<u32> {
        let (largest, all) = (self.largest(), f64::from(nodes));
        let share = |value: f64| match scale {
            Scale::Nodes => value.min(all),
            Scale::Largest if largest > 0.0 => value / largest * all,
            Scale::Largest => 0.0,
        };
        self.available.iter().map(|value| whole(share(*value))).collect()
    }
}

/// The whole part of a number that is not negative, and no more than can be counted.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast itself cuts at both ends")]
const fn whole(number: f64) -> u32 {
    number as u32
}

/// What happens to a group of nodes of which so many can be had at each step: an event for each change.
pub fn events(group: &str, all: u32, available: &[u32], gap: Duration) -> Vec<Event> {
    let mut last = all;
    let mut events = Vec::new();
    for (step, count) in (0..).zip(available) {
        if *count != last {
            let happening = Happening::Available { nodes: group.to_owned(), count: Some(*count) };
            events.push(Event { at: gap * step, happening });
            last = *count;
        }
    }
    events
}

#[derive(Deserialize)]
struct Written {
    metadata: Metadata,
    data: Steps,
}

#[derive(Deserialize)]
struct Metadata {
    gap_seconds: Gap,
}

struct Gap(u32);

impl<'de> Deserialize<'de> for Gap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let seconds = value.as_f64().filter(|seconds| seconds.fract() == 0.0);
        let seconds = seconds.filter(|seconds| (1.0..=f64::from(LONGEST_GAP)).contains(seconds));
        let allowed = || format!("gap_seconds is {value}; allowed is a whole number from 1 to {LONGEST_GAP}");
        seconds.map(|seconds| Self(whole(seconds))).ok_or_else(|| serde::de::Error::custom(allowed()))
    }
}

struct Steps(Vec<f64>);

impl<'de> Deserialize<'de> for Steps {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ReadingSteps)
    }
}

struct ReadingSteps;

impl<'de> Visitor<'de> for ReadingSteps {
    type Value = Steps;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of numbers")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Steps, A::Error> {
        let mut steps = Vec::new();
        while let Some(step) = items.next_element_seed(Step(steps.len()))? {
            if steps.len() == MOST_STEPS {
                return Err(serde::de::Error::custom(format!("data has more than {MOST_STEPS} steps: cut it")));
            }
            steps.push(step);
        }
        if steps.is_empty() {
            return Err(serde::de::Error::custom("data is empty"));
        }
        Ok(Steps(steps))
    }
}

/// The so-manieth step.
struct Step(usize);

impl<'de> DeserializeSeed<'de> for Step {
    type Value = f64;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<f64, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let number = value.as_f64().filter(|number| number.is_finite() && *number >= 0.0);
        number.ok_or_else(|| {
            let Self(index) = self;
            serde::de::Error::custom(format!("data[{index}] is {value}; allowed is a number that is not negative"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Trace, String> {
        Trace::read("trace.json", text).map_err(|mistakes| mistakes.to_string())
    }

    fn of(gap: u64, available: &[f64]) -> Trace {
        Trace { gap: Duration::from_secs(gap), available: available.to_vec() }
    }

    #[test]
    fn a_trace_is_read_with_what_others_put_into_it() {
        let text = r#"{"metadata": {"gap_seconds": 600.0, "start": "2023"}, "data": [3, 0, 1.5], "name": "a"}"#;
        let trace = read(text).unwrap();
        assert_eq!(trace, of(600, &[3.0, 0.0, 1.5]));
        assert_eq!(read(&trace.to_json().to_string()), Ok(trace.clone()));
        assert_eq!(trace.to_json()["data"], json!([3, 0, 1.5]));
        assert_eq!(trace.lasts(), Duration::from_mins(30));
    }

    #[test]
    fn what_is_no_trace_is_told_with_its_place() {
        let with = |gap: &str, data: &str| format!("{{\"metadata\": {{\"gap_seconds\": {gap}}},\n\"data\": {data}}}");
        for (text, line, says) in [
            (String::new(), 1, "EOF while parsing"),
            ("{\n]".to_owned(), 2, "key must be a string"),
            ("{\"data\": [1]}".to_owned(), 1, "missing field `metadata`"),
            (with("0", "[1]"), 1, "gap_seconds is 0; allowed is a whole number from 1 to 86400"),
            (with("90000", "[1]"), 1, "gap_seconds is 90000"),
            (with("0.5", "[1]"), 1, "gap_seconds is 0.5"),
            (with("\"600\"", "[1]"), 1, "gap_seconds is \"600\""),
            (with("600", "[]"), 2, "data is empty"),
            (with("600", "[1, null]"), 2, "data[1] is null; allowed is a number that is not negative"),
            (with("600", "[1,\n-1]"), 3, "data[1] is -1"),
            (with("600", "[\"3\"]"), 2, "data[0] is \"3\""),
            (with("600", "[NaN]"), 2, "expected value"),
            (with("600", "[1e999]"), 2, "number out of range"),
            (with("600", "7"), 2, "invalid type: integer `7`, expected a list of numbers"),
        ] {
            let error = read(&text).unwrap_err();
            assert!(error.starts_with(&format!("trace.json:{line}:")), "{text}: {error}");
            assert!(error.contains(&format!(": {says}")), "{text}: {error}");
            assert!(error.ends_with(FORM), "{error}");
        }
    }

    #[test]
    fn numbers_are_nodes_if_they_fit() {
        let trace = of(60, &[0.0, 4.0, 2.9]);
        assert_eq!((trace.scale(4), trace.scale(3)), (Scale::Nodes, Scale::Largest));
        assert_eq!(trace.nodes(10, Scale::Nodes), [0, 4, 2]);
        assert_eq!(trace.nodes(3, Scale::Nodes), [0, 3, 2]);
        assert_eq!(trace.nodes(10, Scale::Largest), [0, 10, 7]);
        assert_eq!(of(60, &[0.0]).nodes(10, Scale::Largest), [0], "nothing is no share of anything");
    }

    #[test]
    fn what_is_cut_is_counted() {
        let trace = of(60, &[0.5, 4.0, 2.9, 7.5, 8.0]);
        assert_eq!((trace.cut(7, Scale::Nodes), trace.nodes(7, Scale::Nodes)), ((3, 2), vec![0, 4, 2, 7, 7]));
        assert_eq!(trace.cut(7, Scale::Largest), (0, 0), "shares are no nodes");
        let large = of(60, &[5e9]);
        assert_eq!(read(&large.to_json().to_string()), Ok(large));
    }

    #[test]
    fn a_short_trace_begins_again_and_of_a_long_one_the_seed_chooses() {
        let trace = of(60, &[1.0, 2.0, 3.0]);
        assert_eq!(trace.window(7, Duration::from_secs(241)).available, [1.0, 2.0, 3.0, 1.0, 2.0]);
        let long = of(60, &(0..1_000).map(f64::from).collect::<Vec<_>>());
        let first = |seed| long.window(seed, Duration::from_mins(10)).available;
        assert_eq!((first(1).len(), first(1)), (10, first(1)));
        assert_ne!(first(1), first(2));
    }

    #[test]
    fn only_changes_are_events() {
        let events = events("spot", 3, &[3, 1, 1, 3], Duration::from_mins(1));
        let told: Vec<(u64, String)> =
            events.iter().map(|event| (event.at.as_secs(), event.happening.to_string())).collect();
        let said = |count: u32| format!("only {count} spot nodes can be had");
        assert_eq!(told, [(60, said(1)), (180, said(3))]);
    }
}
