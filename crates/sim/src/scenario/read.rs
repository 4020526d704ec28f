//! Reads a scenario as it is written down. Everything that is wrong is told with its line and column; nothing is guessed.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use embedded_cluster::quantity::Quantity;
use embedded_cluster::resource::{Kind, RESOURCES};
use jiff::SignedDuration;
use serde::de::{Error as _, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_saphyr::{Location, Spanned};

use super::{Amount, Event, Group, Happening, Installation, Scenario, Workload};
use crate::expect::{Expectation, Written as WrittenExpectation};

/// Longer than this nothing is looked at: a year.
pub const LONGEST: Duration = Duration::from_hours(24 * 366);
/// More replicas than this are not simulated: so many start within half a minute, and need 800 MiB for each run that is under way.
pub const MOST_REPLICAS: u32 = 5_000;
/// More nodes than this are not simulated.
pub const MOST_NODES: u32 = 5_000;
/// So many letters a name has at most: what Kubernetes adds to it needs room as well.
const LONGEST_NAME: usize = 40;
/// More replicas of Spotalis than this are not simulated.
const MOST_INSTANCES: u32 = 9;

/// A place in a file, counted from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The line.
    pub line: u64,
    /// The column.
    pub column: u64,
}

impl From<Location> for Place {
    fn from(location: Location) -> Self {
        Self { line: location.line(), column: location.column() }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// Something that is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Where.
    pub place: Place,
    /// What, and what is allowed.
    pub what: String,
}

/// Everything that is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .mistakes.iter().map(|Mistake { place, what }| format!("{file}:{place}: {what}")).collect::<Vec<_>>().join("\n"))]
pub struct Mistakes {
    /// Which file.
    pub file: String,
    /// What.
    pub mistakes: Vec<Mistake>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Written {
    about: String,
    lasts: Spanned<Lasts>,
    #[serde(default)]
    spotalis: Option<Spanned<Installation>>,
    nodes: Spanned<Vec<Group>>,
    #[serde(default)]
    workloads: Vec<Spanned<Workload>>,
    #[serde(default)]
    objects: Vec<Spanned<Value>>,
    #[serde(default)]
    events: Vec<Spanned<WrittenEvent>>,
    #[serde(default)]
    expect: Vec<Spanned<WrittenExpectation>>,
    #[serde(default)]
    only_embedded: Option<String>,
    differs: Option<String>,
}

#[derive(Deserialize)]
struct Lasts(#[serde(deserialize_with = "duration")] Duration);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenEvent {
    #[serde(deserialize_with = "duration")]
    at: Duration,
    #[serde(rename = "do")]
    happening: Happening,
}

impl Scenario {
    /// Reads one. `file` is named in what is said about it; `name` is what it is called.
    pub fn read(name: &str, file: &str, text: &str) -> Result<Self, Mistakes> {
        let told = |mistakes| Mistakes { file: file.to_owned(), mistakes };
        if text.trim().is_empty() {
            let what = "there is nothing in it: a scenario has at least `about`, `lasts` and `nodes`".to_owned();
            return Err(told(vec![Mistake { place: Place { line: 1, column: 1 }, what }]));
        }
        let written: Written = serde_saphyr::from_str(text).map_err(|error| told(vec![not_understood(&error)]))?;
        written.check(name).map_err(told)
    }
}

/// What the YAML parser said, without the lines around it.
pub(crate) fn not_understood(error: &serde_saphyr::Error) -> Mistake {
    let place = error.location().map_or(Place { line: 1, column: 1 }, Place::from);
    let rendered = error.without_snippet().to_string();
    let line = rendered.lines().next().unwrap_or_default();
    // The parser says the place itself, in its own way.
    let line = line.strip_prefix("error: ").unwrap_or(line);
    let line = line.split_once(": ").filter(|(place, _)| place.starts_with("line ")).map_or(line, |(_, rest)| rest);
    let line = line.rsplit_once(" at line ").map_or(line, |(line, _)| line);
    // Its words are those of a programmer.
    let line = line.replace("unknown variant", "unknown word").replace("unknown field", "unknown key");
    let line = line.replace("missing field", "missing key").replace("invalid u32", "write a whole number, 0 or more");
    let twice = line.strip_prefix("duplicate mapping key: ").and_then(|rest| rest.rsplit_once(", set "));
    let twice = twice.map(|(key, _)| format!("the key {key} is there twice: keep one of them"));
    Mistake { place, what: twice.unwrap_or(line) }
}

impl Written {
    fn check(self, name: &str) -> Result<Scenario, Vec<Mistake>> {
        let Self { about, lasts, spotalis, nodes, workloads, objects, events, expect, only_embedded, differs } = self;
        let mut mistakes = Vec::new();
        let mut wrong = |place: Location, what: String| mistakes.push(Mistake { place: place.into(), what });

        let Spanned { value: Lasts(lasts), referenced, .. } = lasts;
        if lasts.is_zero() {
            wrong(referenced, "a scenario that lasts no time shows nothing: let `lasts` be 1s or more".to_owned());
        }
        if let Some(Spanned { value, referenced, .. }) = &spotalis
            && let Err(what) = value.check()
        {
            wrong(*referenced, what);
        }
        let groups: BTreeSet<&str> = nodes.value.iter().map(|group| group.name.as_str()).collect();
        if nodes.value.is_empty() || groups.len() < nodes.value.len() {
            wrong(
                nodes.referenced,
                "there must be at least one group of nodes, each with a name of its own".to_owned(),
            );
        }
        if nodes.value.iter().map(|group| u64::from(group.count)).sum::<u64>() > MOST_NODES.into() {
            wrong(nodes.referenced, format!("more than {MOST_NODES} nodes are not simulated: lower `count`"));
        }
        let zones: BTreeSet<&str> = nodes.value.iter().flat_map(|group| &group.zones).map(String::as_str).collect();
        for Group { name, count: _, pods: _, cpu, memory, .. } in &nodes.value {
            for what in [is_name(name), is_quantity(name, cpu), is_quantity(name, memory)].into_iter().flatten() {
                wrong(nodes.referenced, what);
            }
        }
        let mut names = BTreeSet::new();
        for Spanned { value: Workload { name, replicas, spot, cpu, .. }, referenced, .. } in &workloads {
            for what in [is_name(name), is_quantity(name, cpu)].into_iter().flatten() {
                wrong(*referenced, what);
            }
            if !names.insert(name) {
                wrong(*referenced, format!("there is a workload {name} already: give each a name of its own"));
            }
            if *replicas > MOST_REPLICAS {
                wrong(*referenced, format!("{name} has {replicas} replicas: at most {MOST_REPLICAS} are simulated"));
            }
            if let Some(spot) = spot.filter(|spot| *spot > 100) {
                wrong(*referenced, format!("{name} has {spot} % on spot: write a percentage of 0 to 100"));
            }
        }
        for Spanned { value, referenced, .. } in &objects {
            if let Err(what) = is_object(value) {
                wrong(*referenced, what);
            }
        }
        let named = named(&workloads, &objects);
        for Spanned { value: WrittenEvent { at, happening }, referenced, .. } in &events {
            if *at > lasts {
                wrong(*referenced, "it happens after the end: raise `lasts`, or let it happen earlier".to_owned());
            }
            if let Some(group) = happening.group().filter(|group| !groups.contains(group)) {
                wrong(*referenced, format!("there are no nodes {group:?}: use {}", one_of(&groups)));
            }
            if let Some(workload) = happening.workload().filter(|workload| !named.contains(workload)) {
                wrong(*referenced, format!("there is no workload {workload:?}: use {}", one_of(&named)));
            }
            if let Err(what) = happening.check(&zones) {
                wrong(*referenced, what);
            }
        }
        let mut kept = Vec::new();
        for Spanned { value, referenced, .. } in expect {
            if let Some(workload) = value.workload.as_deref().filter(|workload| !named.contains(workload)) {
                wrong(referenced, format!("there is no workload {workload:?}: use {}", one_of(&named)));
            }
            match value.check(lasts) {
                Ok(expectation) => kept.push(Expectation { line: referenced.line(), ..expectation }),
                Err(what) => wrong(referenced, what),
            }
        }
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        let mut events: Vec<Event> = events
            .into_iter()
            .map(|Spanned { value: WrittenEvent { at, happening }, .. }| Event { at, happening })
            .collect();
        events.sort_by_key(|event| event.at);
        Ok(Scenario {
            name: name.to_owned(),
            about: about.split_whitespace().collect::<Vec<_>>().join(" "),
            lasts,
            spotalis: spotalis.map(|spotalis| spotalis.value).unwrap_or_default(),
            nodes: nodes.value,
            workloads: workloads.into_iter().map(|workload| workload.value).collect(),
            objects: objects.into_iter().map(|object| object.value).collect(),
            events,
            expect: kept,
            only_embedded,
            differs,
        })
    }
}

/// The workloads that can be spoken of.
fn named<'w>(workloads: &'w [Spanned<Workload>], objects: &'w [Spanned<Value>]) -> BTreeSet<&'w str> {
    let full =
        objects.iter().filter(|object| matches!(object.value["kind"].as_str(), Some("Deployment" | "StatefulSet")));
    let full = full.filter_map(|object| object.value.pointer("/metadata/name")?.as_str());
    workloads.iter().map(|workload| workload.value.name.as_str()).chain(full).collect()
}

fn one_of(names: &BTreeSet<&str>) -> String {
    if names.is_empty() {
        return "none, for there are none here".to_owned();
    }
    names.iter().copied().collect::<Vec<_>>().join(", ")
}

/// What is wrong with a name.
fn is_name(name: &str) -> Option<String> {
    let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let good = name.len() <= LONGEST_NAME
        && name.starts_with(letters)
        && name.ends_with(letters)
        && name.chars().all(|c| letters(c) || c == '-');
    let allowed = "small letters, digits and dashes in between";
    (!good).then(|| format!("{name:?} is no name: use {allowed}, at most {LONGEST_NAME} of them"))
}

/// What is wrong with a quantity of something that is called so.
fn is_quantity(name: &str, text: &str) -> Option<String> {
    let good = Quantity::parse(text).is_some();
    (!good).then(|| format!("{name} has {text:?}, which is no quantity: write one as 500m, 4 or 8Gi"))
}

/// Whether something is an object of a kind that can be played with; otherwise what is wrong.
fn is_object(object: &Value) -> Result<(), String> {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
    let (Some(api_version), Some(kind), Some(_)) = (text("/apiVersion"), text("/kind"), text("/metadata/name")) else {
        return Err("an object needs apiVersion, kind and metadata.name".to_owned());
    };
    match Kind::of_object(api_version, kind) {
        Some(_) => Ok(()),
        None => Err(format!("{api_version} {kind} is not known here: use {}", kinds(|row| row.api_version() + " "))),
    }
}

/// The kinds that there are, each with something before it.
fn kinds(before: impl Fn(&embedded_cluster::resource::Resource) -> String) -> String {
    RESOURCES.iter().map(|row| before(row) + row.name).collect::<Vec<_>>().join(", ")
}

impl Installation {
    /// What is wrong with it.
    fn check(&self) -> Result<(), String> {
        let Self { replicas, settings } = self;
        if !(1..=MOST_INSTANCES).contains(replicas) {
            return Err(format!("{replicas} replicas of Spotalis cannot be: 1 to {MOST_INSTANCES} can"));
        }
        let known = spotalis_config::keys();
        if let Some(key) = settings.keys().find(|key| !known.iter().any(|one| one.path == **key)) {
            return Err(format!(
                "{key} is no key of the configuration: docs/reference/configuration.md lists them all"
            ));
        }
        crate::embedded::configuration(self).map(drop).map_err(|error| {
            let said = error.to_string();
            // How many there are, each on a line of its own, and where to look: all of it goes on one line.
            let problems = said.lines().skip(1).map(str::trim).filter(|line| !line.starts_with("hint: "));
            problems.collect::<Vec<_>>().join("; ")
        })
    }
}

impl Happening {
    /// What is wrong with it, beyond the group and the workload that it speaks of.
    fn check(&self, zones: &BTreeSet<&str>) -> Result<(), String> {
        match self {
            Self::Scale { workload, to: replicas } | Self::Load { workload, wants: replicas } => {
                if *replicas > MOST_REPLICAS {
                    return Err(format!("{workload} gets {replicas} replicas: at most {MOST_REPLICAS} are simulated"));
                }
            }
            Self::FailZone(zone) => {
                if !zones.contains(zone.as_str()) {
                    return Err(format!("there is no zone {zone:?}: use {}", one_of(zones)));
                }
            }
            Self::Apply(object) => is_object(object)?,
            Self::Delete { kind, name: _ } => {
                if !RESOURCES.iter().any(|row| row.name == kind) {
                    return Err(format!("{kind} is not known here: use {}", kinds(|_| String::new())));
                }
            }
            Self::Restart(_)
            | Self::Set { .. }
            | Self::Reclaim { .. }
            | Self::Available { .. }
            | Self::Cordon { .. }
            | Self::Uncordon(_)
            | Self::Spotalis(_) => {}
        }
        Ok(())
    }

    /// The group of nodes that it speaks of.
    pub fn group(&self) -> Option<&str> {
        match self {
            Self::Reclaim { nodes, .. }
            | Self::Available { nodes, .. }
            | Self::Cordon { nodes, .. }
            | Self::Uncordon(nodes) => Some(nodes),
            Self::Scale { .. }
            | Self::Restart(_)
            | Self::Set { .. }
            | Self::Load { .. }
            | Self::FailZone(_)
            | Self::Apply(_)
            | Self::Delete { .. }
            | Self::Spotalis(_) => None,
        }
    }

    /// The workload that it speaks of.
    pub fn workload(&self) -> Option<&str> {
        match self {
            Self::Scale { workload, .. }
            | Self::Set { workload, .. }
            | Self::Load { workload, .. }
            | Self::Restart(workload) => Some(workload),
            Self::Reclaim { .. }
            | Self::Available { .. }
            | Self::FailZone(_)
            | Self::Cordon { .. }
            | Self::Uncordon(_)
            | Self::Apply(_)
            | Self::Delete { .. }
            | Self::Spotalis(_) => None,
        }
    }
}

/// A duration as `90s`, `5m` or `1h30m`.
pub(crate) fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_duration(&text).map_err(D::Error::custom)
}

pub(crate) fn optional_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| parse_duration(&text).map_err(D::Error::custom)).transpose()
}

/// Reads a duration as `90s`, `5m` or `1h30m`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let parsed = text.parse::<SignedDuration>().ok().and_then(|parsed| Duration::try_from(parsed).ok());
    parsed
        .filter(|parsed| *parsed <= LONGEST)
        .ok_or_else(|| format!("{text:?} is no duration: write one as 90s, 5m or 1h30m, at most a year"))
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reading;

        impl Visitor<'_> for Reading {
            type Value = Amount;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of nodes, or a share of them as 50%")
            }

            fn visit_u64<E: serde::de::Error>(self, nodes: u64) -> Result<Amount, E> {
                let nodes = u32::try_from(nodes).ok().filter(|nodes| *nodes <= MOST_NODES);
                nodes
                    .map(Amount::Nodes)
                    .ok_or_else(|| E::custom(format!("more than {MOST_NODES} nodes are not simulated")))
            }

            fn visit_i64<E: serde::de::Error>(self, nodes: i64) -> Result<Amount, E> {
                u64::try_from(nodes)
                    .map_err(|_| E::custom(format!("{nodes} nodes cannot be")))
                    .and_then(|nodes| self.visit_u64(nodes))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Amount, E> {
                if let Some(percent) = text.strip_suffix('%') {
                    let percent = percent.parse().ok().filter(|percent| *percent <= 100);
                    return percent
                        .map(Amount::Percent)
                        .ok_or_else(|| E::custom(format!("{text:?} is not a share of 0% to 100%")));
                }
                match text.parse() {
                    Ok(nodes) => self.visit_u64(nodes),
                    Err(_) => Err(E::invalid_value(serde::de::Unexpected::Str(text), &self)),
                }
            }
        }

        deserializer.deserialize_any(Reading)
    }
}

#[cfg(test)]
mod tests;
