//! Decides which minutes a cron schedule of five fields names.
//!
//! The grammar and the rule for days are those of Kubernetes' own `CronJob`, so that a schedule means the same in both.
//! No seconds, no years, no `@daily`, no zone inside the text.

use std::fmt;

use jiff::civil::{Date, DateTime, Time};

/// A cron schedule that names at least one minute of some year.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    minutes: Field,
    hours: Field,
    days: Field,
    months: Field,
    weekdays: Field,
    text: Box<str>,
}

/// Why a text is no schedule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// Longer than any schedule.
    #[error("it has {length} bytes, at most {max} are read", max = super::MAX_LENGTH)]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// A zone inside the schedule.
    #[error("the time zone has a key of its own")]
    ZoneInside,
    /// `@daily` and its like.
    #[error("names such as @daily are not read, write the five fields out")]
    Nickname,
    /// Not five fields.
    #[error("it has {count} fields")]
    FieldCount {
        /// How many it has.
        count: usize,
    },
    /// A field that does not say which values.
    #[error("the {field} field takes {allowed}")]
    Field {
        /// Which field.
        field: &'static str,
        /// What it takes.
        allowed: &'static str,
    },
    /// A day that none of its months has.
    #[error("no such day in any of its months, so it would never open")]
    NeverOccurs,
}

/// The values a field names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Field {
    /// Bit n stands for n.
    bits: u64,
    /// Whether the field is `*`, and so leaves the choice to the other one where days are named in two ways.
    any: bool,
}

/// What a field may hold.
struct Shape {
    name: &'static str,
    allowed: &'static str,
    min: u8,
    max: u8,
    /// Where `*` and `5/2` end: before the second number for Sunday.
    end: u8,
    /// Words for the values from `min` on.
    words: &'static [&'static str],
    /// Whether `?` stands for `*`.
    question_mark: bool,
}

const MINUTES: Shape = Shape {
    name: "minute",
    allowed: "0-59, *, lists, ranges and steps",
    min: 0,
    max: 59,
    end: 59,
    words: &[],
    question_mark: false,
};
const HOURS: Shape = Shape {
    name: "hour",
    allowed: "0-23, *, lists, ranges and steps",
    min: 0,
    max: 23,
    end: 23,
    words: &[],
    question_mark: false,
};
const DAYS: Shape = Shape {
    name: "day of month",
    allowed: "1-31, *, lists, ranges and steps",
    min: 1,
    max: 31,
    end: 31,
    words: &[],
    question_mark: true,
};
const MONTHS: Shape = Shape {
    name: "month",
    allowed: "1-12, JAN-DEC, *, lists, ranges and steps",
    min: 1,
    max: 12,
    end: 12,
    words: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
    question_mark: false,
};
const WEEKDAYS: Shape = Shape {
    name: "day of week",
    allowed: "0-7, SUN-SAT, *, lists, ranges and steps",
    min: 0,
    max: 7,
    end: 6,
    words: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
    question_mark: true,
};

/// Days of each month in a leap year.
const MONTH_LENGTHS: [u8; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

impl Schedule {
    /// Reads minute, hour, day of month, month and day of week.
    pub fn parse(text: &str) -> Result<Self, ScheduleError> {
        if text.len() > super::MAX_LENGTH {
            return Err(ScheduleError::TooLong { length: text.len() });
        }
        if text.starts_with("TZ=") || text.starts_with("CRON_TZ=") {
            return Err(ScheduleError::ZoneInside);
        }
        if text.trim_ascii_start().starts_with('@') {
            return Err(ScheduleError::Nickname);
        }
        let fields: Vec<&str> = text.split_ascii_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = *fields.as_slice() else {
            return Err(ScheduleError::FieldCount { count: fields.len() });
        };
        let schedule = Self {
            minutes: MINUTES.read(minutes)?,
            hours: HOURS.read(hours)?,
            days: DAYS.read(days)?,
            months: MONTHS.read(months)?,
            weekdays: WEEKDAYS.read(weekdays)?.with_sunday_as_zero(),
            text: fields.join(" ").into(),
        };
        if schedule.occurs() { Ok(schedule) } else { Err(ScheduleError::NeverOccurs) }
    }

    /// The minutes of `day` that the schedule names, in order.
    pub fn times_of(&self, day: Date) -> impl DoubleEndedIterator<Item = DateTime> + use<> {
        let hours = if self.names(day) { self.hours } else { Field { bits: 0, any: false } };
        let minutes = self.minutes;
        hours.values().flat_map(move |hour| {
            minutes.values().map(move |minute| {
                let time = Time::new(hour, minute, 0, 0).expect("the fields hold hours below 24 and minutes below 60");
                day.to_datetime(time)
            })
        })
    }

    /// Whether any minute of `day` is named. Days of month and of week are alternatives where both are given, as in
    /// `CronJob`.
    pub fn names(&self, day: Date) -> bool {
        let by_date = self.days.has(day.day());
        let by_weekday = self.weekdays.has(day.weekday().to_sunday_zero_offset());
        let either = !self.days.any && !self.weekdays.any;
        self.months.has(day.month()) && if either { by_date || by_weekday } else { by_date && by_weekday }
    }

    /// Whether any day is ever named. Every weekday occurs in every month; only a day of the month may be missing.
    fn occurs(&self) -> bool {
        let by_weekday = !self.days.any && !self.weekdays.any;
        by_weekday
            || self.months.values().any(|month| {
                let length = MONTH_LENGTHS.get(usize::from(month.unsigned_abs()) - 1).copied().unwrap_or_default();
                self.days.values().any(|day| day.unsigned_abs() <= length)
            })
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Field {
    fn has(self, value: i8) -> bool {
        self.bits & (1 << value) != 0
    }

    fn values(self) -> impl DoubleEndedIterator<Item = i8> {
        (0..60).filter(move |value| self.has(*value))
    }

    /// Sunday is 0 and 7.
    fn with_sunday_as_zero(self) -> Self {
        const SEVEN: u64 = 1 << 7;
        let sunday = u64::from(self.bits & SEVEN != 0);
        Self { bits: self.bits & !SEVEN | sunday, any: self.any }
    }
}

impl Shape {
    fn read(&self, text: &str) -> Result<Field, ScheduleError> {
        let refused = ScheduleError::Field { field: self.name, allowed: self.allowed };
        text.split(',')
            .map(|item| self.item(item))
            .try_fold(Field { bits: 0, any: false }, |all, item| {
                let item = item?;
                Some(Field { bits: all.bits | item.bits, any: all.any || item.any })
            })
            .ok_or(refused)
    }

    /// `*`, `5`, `1-5`, each with an optional `/step`; `5/10` counts from 5 to the end.
    fn item(&self, text: &str) -> Option<Field> {
        let (range, step) = match text.split_once('/') {
            Some((range, step)) => (range, Some(small_number(step).filter(|step| *step > 0)?)),
            None => (text, None),
        };
        let (first, last, any) = match range {
            // A stepped star names some values and not others, so it counts as a choice.
            "*" => (self.min, self.end, step.is_none_or(|step| step == 1)),
            "?" if self.question_mark => (self.min, self.end, step.is_none_or(|step| step == 1)),
            _ => match range.split_once('-') {
                Some((first, last)) => (self.value(first)?, self.value(last)?, false),
                None if step.is_some() => (self.value(range)?, self.end.max(self.value(range)?), false),
                None => (self.value(range)?, self.value(range)?, false),
            },
        };
        if first > last {
            return None;
        }
        let bits = (first..=last).step_by(usize::from(step.unwrap_or(1))).fold(0, |bits, value| bits | 1 << value);
        Some(Field { bits, any })
    }

    fn value(&self, text: &str) -> Option<u8> {
        let named = self.words.iter().zip(self.min..).find(|(word, _)| text.eq_ignore_ascii_case(word));
        let value = named.map(|(_, value)| value).or_else(|| small_number(text))?;
        (self.min..=self.max).contains(&value).then_some(value)
    }
}

/// Digits only: the standard parser would also take `+5`.
fn small_number(text: &str) -> Option<u8> {
    if text.bytes().all(|b| b.is_ascii_digit()) { text.parse().ok() } else { None }
}
