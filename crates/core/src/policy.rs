//! Decides the policy of one workload from what its object, its namespace and the configuration declare.
//!
//! Bad input becomes the safe value plus a [`Problem`]; nothing here fails. Whether the workload is managed at all is
//! [`crate::opt_in`]'s question.

pub mod keys;
mod problem;
pub mod values;

use std::ops::Bound;
use std::time::Duration;

pub use problem::{Consequence, Fault, Problem};

use crate::selector::Labels;
use crate::split::{Floor, Percentage, Rounding, Target};
use crate::window::{Part, Window, WindowError};

/// Longest value that is read, in bytes.
const MAX_VALUE_LENGTH: usize = 1024;

/// Most unknown or misplaced keys told per object: the rest is told when these are mended, and no object makes us
/// compare thousands of words.
const MAX_STRAY_KEYS: usize = 16;

/// How strictly pods are steered to their type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Placement {
    /// Only nodes of the type.
    #[default]
    Required,
    /// Nodes of the type if there are any.
    Preferred,
}

/// Who said it, the strongest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// The workload's own object.
    Workload,
    /// Its namespace.
    Namespace,
    /// The configuration.
    Config,
    /// Nobody: the built-in value.
    BuiltIn,
}

/// Where on an object a key stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Carrier {
    /// Among its labels.
    Label,
    /// Among its annotations.
    Annotation,
}

/// A value and who said it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sourced<T> {
    /// What holds.
    pub value: T,
    /// Who said so; for a value that could not be used, who should mend it.
    pub level: Level,
}

/// What one object declares. The maps may hold foreign keys; only `spotalis.io/…` is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Declared<'a> {
    /// Its annotations.
    pub annotations: &'a Labels,
    /// Its labels.
    pub labels: &'a Labels,
}

/// What holds where neither workload nor namespace declare anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Defaults {
    /// `distribution.defaults.spotPercentage`; `None` asks for nothing.
    pub spot_percentage: Sourced<Option<Percentage>>,
    /// `distribution.defaults.minOnDemand`.
    pub min_on_demand: Sourced<Floor>,
    /// `distribution.placement`.
    pub placement: Sourced<Placement>,
    /// `distribution.spotFallbackAfter`; `None` is never.
    pub spot_fallback_after: Sourced<Option<Duration>>,
    /// `disruptionWindow`.
    pub window: Sourced<Window>,
    /// `distribution.rounding`.
    pub rounding: Rounding,
}

/// How long a pod waits for spot if nobody says otherwise.
pub const SPOT_FALLBACK_AFTER: Duration = Duration::from_mins(3);

impl Default for Defaults {
    fn default() -> Self {
        Self {
            spot_percentage: Sourced::built_in(None),
            min_on_demand: Sourced::built_in(Floor::default()),
            placement: Sourced::built_in(Placement::default()),
            spot_fallback_after: Sourced::built_in(Some(SPOT_FALLBACK_AFTER)),
            window: Sourced::built_in(Window::AlwaysOpen),
            rounding: Rounding::default(),
        }
    }
}

/// Whether the declared policy may be acted upon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Every deciding value could be read.
    #[default]
    Sound,
    /// A deciding value could not: new pods to on-demand, and balance disrupts nothing until it is mended.
    FailClosed,
}

/// What holds for one workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The share wanted on spot; `None` when nobody asked for any.
    pub spot_percentage: Sourced<Option<Percentage>>,
    /// What always stays on on-demand.
    pub min_on_demand: Sourced<Floor>,
    /// How strictly pods are steered.
    pub placement: Sourced<Placement>,
    /// How long a pod waits for spot; `None` is for ever.
    pub spot_fallback_after: Sourced<Option<Duration>>,
    /// When balance may disrupt.
    pub window: Sourced<Window>,
    /// Whether a single replica is protected; `None` leaves it to `protect.selector`.
    pub protect: Option<Sourced<bool>>,
    /// What becomes of fractions.
    pub rounding: Rounding,
    /// Whether all this may be acted upon.
    pub standing: Standing,
}

impl Policy {
    /// What the split is computed from: no spot at all where nobody asked for it or the policy cannot be read.
    pub fn target(&self) -> Target {
        let spot_percentage = match self.standing {
            Standing::Sound => self.spot_percentage.value.unwrap_or(Percentage::ZERO),
            Standing::FailClosed => Percentage::ZERO,
        };
        Target { spot_percentage, min_on_demand: self.min_on_demand.value, rounding: self.rounding }
    }

    /// Whether somebody set a spot percentage, be it 0. Without one, running pods are moved only to mend the floor.
    pub fn asked_for_spot(&self) -> bool {
        self.spot_percentage.value.is_some()
    }
}

impl<T> Sourced<T> {
    /// A value nobody declared.
    pub const fn built_in(value: T) -> Self {
        Self { value, level: Level::BuiltIn }
    }
}

/// The policy of a workload, and everything that is wrong with its declaration, in a stable order.
///
/// Each key is decided by the highest level that sets it, readable or not; the three keys of the window are one value.
/// Two keys are lenient because the contract or their meaning asks for it: an unreadable `protect` or
/// `spot-fallback-after` counts as not set, so the next level is asked.
pub fn resolve(workload: &Declared<'_>, namespace: &Declared<'_>, defaults: &Defaults) -> (Policy, Vec<Problem>) {
    let mut reading =
        Reading { levels: [(Level::Workload, *workload), (Level::Namespace, *namespace)], problems: vec![] };
    let Defaults { spot_percentage, min_on_demand, placement, spot_fallback_after, window, rounding } = defaults;

    let decided = reading.strict(keys::SPOT_PERCENTAGE, values::PERCENTAGE_ALLOWED, values::percentage);
    let (spot_percentage, a) = decided.map(Some).settle(*spot_percentage, None);
    let decided = reading.strict(keys::MIN_ON_DEMAND, values::FLOOR_ALLOWED, values::floor);
    let (min_on_demand, b) = decided.settle(*min_on_demand, Floor::default());
    let decided = reading.strict(keys::PLACEMENT, values::PLACEMENT_ALLOWED, Placement::parse);
    let (placement, c) = decided.settle(*placement, Placement::default());

    let spot_fallback_after = reading.fallback_after().unwrap_or(*spot_fallback_after);
    // A closed window is all that a bad one leads to; the policy itself stays sound.
    let (window, _) = reading.window().settle(window.clone(), Window::Closed);
    let protect = reading.protect();
    reading.stray_keys();

    let standing = [a, b, c].into_iter().max().unwrap_or_default();
    let rounding = *rounding;
    let policy =
        Policy { spot_percentage, min_on_demand, placement, spot_fallback_after, window, protect, rounding, standing };
    (policy, reading.problems)
}

/// What the highest level that sets a key says.
enum Decided<T> {
    Valid(Sourced<T>),
    Invalid(Level),
    Unset,
}

impl<T> Decided<T> {
    fn map<U>(self, map: impl FnOnce(T) -> U) -> Decided<U> {
        match self {
            Self::Valid(Sourced { value, level }) => Decided::Valid(Sourced { value: map(value), level }),
            Self::Invalid(level) => Decided::Invalid(level),
            Self::Unset => Decided::Unset,
        }
    }

    /// The value that holds: declared, `unset`, or the safe one.
    fn settle(self, unset: Sourced<T>, safe: T) -> (Sourced<T>, Standing) {
        match self {
            Self::Valid(sourced) => (sourced, Standing::Sound),
            Self::Invalid(level) => (Sourced { value: safe, level }, Standing::FailClosed),
            Self::Unset => (unset, Standing::Sound),
        }
    }

    const fn is_set(&self) -> bool {
        match self {
            Self::Valid(_) | Self::Invalid(_) => true,
            Self::Unset => false,
        }
    }
}

/// The objects being read, strongest first, and what was found wrong so far.
struct Reading<'a> {
    levels: [(Level, Declared<'a>); 2],
    problems: Vec<Problem>,
}

impl Reading<'_> {
    /// A key whose unreadable value decides, too.
    fn strict<T>(&mut self, key: &str, allowed: &str, read: impl Fn(&str) -> Option<T>) -> Decided<T> {
        let mut decided = Decided::Unset;
        for (level, declared) in self.levels {
            let Some(text) = declared.annotations.get(key) else { continue };
            match (capped(text).and_then(&read), decided.is_set()) {
                (Some(value), false) => decided = Decided::Valid(Sourced { value, level }),
                (Some(_), true) => {}
                (None, false) => {
                    self.invalid(level, Carrier::Annotation, key, text, allowed, Consequence::FailsClosed);
                    decided = Decided::Invalid(level);
                }
                (None, true) => self.invalid(level, Carrier::Annotation, key, text, allowed, Consequence::Shadowed),
            }
        }
        decided
    }

    fn fallback_after(&mut self) -> Option<Sourced<Option<Duration>>> {
        let key = keys::SPOT_FALLBACK_AFTER;
        let mut decided = None;
        for (level, declared) in self.levels {
            let Some(text) = declared.annotations.get(key) else { continue };
            if let Some(value) = capped(text).and_then(values::fallback_after) {
                decided = decided.or(Some(Sourced { value, level }));
            } else {
                let consequence = if decided.is_some() { Consequence::Shadowed } else { Consequence::Unset };
                self.invalid(level, Carrier::Annotation, key, text, values::FALLBACK_AFTER_ALLOWED, consequence);
            }
        }
        decided
    }

    fn window(&mut self) -> Decided<Window> {
        let mut decided = Decided::Unset;
        for (level, declared) in self.levels {
            let get = |key: &str| declared.annotations.get(key).map(|text| &**text);
            let set = [Part::Schedule, Part::Duration, Part::TimeZone].map(|part| get(part.key()));
            if set == [None, None, None] {
                continue;
            }
            match (read_window(set), decided.is_set()) {
                (Ok(window), false) => decided = Decided::Valid(Sourced { value: window, level }),
                (Ok(_), true) => {}
                (Err(error), shadowed) => {
                    let key = error.part().key();
                    let text = get(key).unwrap_or_default();
                    let consequence = if shadowed { Consequence::Shadowed } else { Consequence::WindowClosed };
                    self.invalid(level, Carrier::Annotation, key, text, &error.to_string(), consequence);
                    if !shadowed {
                        decided = Decided::Invalid(level);
                    }
                }
            }
        }
        decided
    }

    /// An explicit `false` wins over everything; else label before annotation, workload before namespace.
    fn protect(&mut self) -> Option<Sourced<bool>> {
        let mut said: Vec<Sourced<bool>> = Vec::new();
        for (level, declared) in self.levels {
            for (carrier, map) in [(Carrier::Label, declared.labels), (Carrier::Annotation, declared.annotations)] {
                let Some(text) = map.get(keys::PROTECT) else { continue };
                match values::truth(text) {
                    Some(value) => said.push(Sourced { value, level }),
                    None => {
                        self.invalid(level, carrier, keys::PROTECT, text, values::TRUTH_ALLOWED, Consequence::Unset);
                    }
                }
            }
        }
        said.iter().find(|said| !said.value).or(said.first()).copied()
    }

    /// Keys under our prefix that nobody reads where they stand, and opt-in labels that do not opt in.
    fn stray_keys(&mut self) {
        for (level, declared) in self.levels {
            let maps = [(Carrier::Label, declared.labels), (Carrier::Annotation, declared.annotations)];
            let ours = maps.into_iter().flat_map(|(carrier, map)| {
                let from_prefix = map.range::<str, _>((Bound::Included(keys::PREFIX), Bound::Unbounded));
                let under_prefix = from_prefix.take_while(|(key, _)| key.starts_with(keys::PREFIX));
                under_prefix.map(move |(key, text)| (carrier, key, text))
            });
            let stray = ours.filter_map(|(carrier, key, text)| {
                let fault = stray_fault(carrier, key, text)?;
                Some(Problem::new(level, carrier, key, text, fault))
            });
            self.problems.extend(stray.take(MAX_STRAY_KEYS));
        }
    }

    fn invalid(
        &mut self,
        level: Level,
        carrier: Carrier,
        key: &str,
        text: &str,
        allowed: &str,
        consequence: Consequence,
    ) {
        let fault = Fault::Invalid { allowed: allowed.to_owned(), consequence };
        self.problems.push(Problem::new(level, carrier, key, text, fault));
    }
}

fn read_window([schedule, duration, time_zone]: [Option<&str>; 3]) -> Result<Window, WindowError> {
    for (part, text) in [(Part::Schedule, schedule), (Part::Duration, duration), (Part::TimeZone, time_zone)] {
        // The configuration writes "not set" as an empty text. On an object, an empty annotation is a mistake.
        if text == Some("") {
            return Err(WindowError::Empty { part });
        }
    }
    match (schedule, duration) {
        // A zone alone would open the window that a lower level narrows, which nobody means by it.
        (None, None) => Err(WindowError::OnlyTimeZone),
        _ => Window::parse(schedule.unwrap_or_default(), duration.unwrap_or_default(), time_zone.unwrap_or_default()),
    }
}

fn stray_fault(carrier: Carrier, key: &str, text: &str) -> Option<Fault> {
    match keys::look_up(key) {
        keys::Known::ByPeople(carriers) if carriers.contains(&carrier) => {
            let mistaken_opt_in = key == keys::ENABLED && values::truth(text).is_none();
            mistaken_opt_in
                .then(|| Fault::Invalid { allowed: values::TRUTH_ALLOWED.to_owned(), consequence: Consequence::Unset })
        }
        keys::Known::ByPeople(carriers) => carriers.first().map(|belongs| Fault::Misplaced { belongs: *belongs }),
        keys::Known::ByUs => None,
        keys::Known::Unknown(suggestion) => Some(Fault::UnknownKey { suggestion }),
    }
}

fn capped(text: &str) -> Option<&str> {
    (text.len() <= MAX_VALUE_LENGTH).then_some(text)
}

#[cfg(test)]
mod tests;
