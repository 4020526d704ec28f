//! Reads and writes durations the way Go and Kubernetes do: `90s`, `5m`, `1h30m`.

use std::fmt::Write;
use std::time::Duration;

/// The longest duration there is a use for: ten years.
pub const MAX: Duration = Duration::from_hours(10 * 366 * 24);

/// Longest text that is read, in bytes.
const MAX_LENGTH: usize = 64;

/// Digits after the point that are looked at; more are finer than a nanosecond in every unit.
const MAX_FRACTION_DIGITS: usize = 18;

const HOUR: u128 = 3_600_000_000_000;
const MINUTE: u128 = 60_000_000_000;
const SECOND: u128 = 1_000_000_000;
const MILLISECOND: u128 = 1_000_000;
const MICROSECOND: u128 = 1_000;

/// Why a text is no duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// Nothing there.
    #[error("a duration cannot be empty; write for example `90s`, `5m` or `1h30m`")]
    Empty,
    /// Less than nothing.
    #[error("a duration cannot be negative")]
    Negative,
    /// A number without its unit.
    #[error("a duration needs a unit after each number; write for example `90s`, `5m` or `1h30m`")]
    NoUnit,
    /// A unit that Go does not have, days above all.
    #[error("the units of a duration are h, m, s, ms, us and ns; a day is `24h`")]
    UnknownUnit,
    /// Not numbers and units.
    #[error("a duration is numbers with units and nothing else, for example `90s`, `5m` or `1h30m`")]
    Malformed,
    /// Above [`MAX`], or longer than any duration is written.
    #[error("a duration is at most {hours} hours", hours = MAX.as_secs() / 3600)]
    TooLong,
}

/// Reads a duration between nothing and [`MAX`]. Parts below a nanosecond are dropped.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    if text.len() > MAX_LENGTH {
        return Err(DurationError::TooLong);
    }
    match text {
        "" => return Err(DurationError::Empty),
        "0" => return Ok(Duration::ZERO),
        _ if text.starts_with('-') => return Err(DurationError::Negative),
        _ => {}
    }
    let mut nanos = 0_u128;
    let mut rest = text;
    while !rest.is_empty() {
        let (part, after) = parse_part(rest)?;
        // Each part is below 10^64 hours only in theory: `parse_part` refuses what is above `MAX`.
        nanos += part;
        rest = after;
    }
    bounded(nanos)
}

/// The leading number and unit in nanoseconds, and what follows.
fn parse_part(text: &str) -> Result<(u128, &str), DurationError> {
    let (whole, rest) = leading_digits(text);
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(rest) => leading_digits(rest),
        None => ("", rest),
    };
    if whole.is_empty() && fraction.is_empty() {
        return Err(DurationError::Malformed);
    }
    let end = rest.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(end);
    let unit = nanos_of(unit)?;
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| DurationError::TooLong)? };
    let nanos = whole.checked_mul(unit).ok_or(DurationError::TooLong)?.saturating_add(share(unit, fraction));
    bounded(nanos)?;
    Ok((nanos, rest))
}

fn leading_digits(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(end)
}

fn nanos_of(unit: &str) -> Result<u128, DurationError> {
    match unit {
        "h" => Ok(HOUR),
        "m" => Ok(MINUTE),
        "s" => Ok(SECOND),
        "ms" => Ok(MILLISECOND),
        // Both signs that read as micro: U+00B5 and U+03BC.
        "us" | "\u{b5}s" | "\u{3bc}s" => Ok(MICROSECOND),
        "ns" => Ok(1),
        "" => Err(DurationError::NoUnit),
        unit if unit.chars().all(char::is_alphabetic) => Err(DurationError::UnknownUnit),
        _ => Err(DurationError::Malformed),
    }
}

/// The part of `unit` that the digits after the point stand for.
fn share(unit: u128, fraction: &str) -> u128 {
    let digits = fraction.bytes().take(MAX_FRACTION_DIGITS);
    let (value, scale) =
        digits.fold((0, 1), |(value, scale), digit| (value * 10 + u128::from(digit - b'0'), scale * 10));
    // At most 3.6 * 10^12 * 10^18, far below the type's 3 * 10^38.
    unit * value / scale
}

fn bounded(nanos: u128) -> Result<Duration, DurationError> {
    if nanos > MAX.as_nanos() { Err(DurationError::TooLong) } else { Ok(Duration::from_nanos_u128(nanos)) }
}

/// Writes a duration in whole numbers, largest unit first: `1h30m`, `1s500ms`, `0s`. [`parse`] reads it again.
pub fn format(duration: Duration) -> String {
    let mut nanos = duration.as_nanos();
    let mut text = String::new();
    for (size, unit) in [(HOUR, "h"), (MINUTE, "m"), (SECOND, "s"), (MILLISECOND, "ms"), (MICROSECOND, "us"), (1, "ns")]
    {
        let count = nanos / size;
        nanos %= size;
        if count > 0 {
            write!(text, "{count}{unit}").expect("a string takes what is written to it");
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_go_durations() {
        for (text, nanos) in [
            ("0", 0),
            ("0s", 0),
            ("0h0m", 0),
            ("90s", 90_000_000_000),
            ("5m", 300_000_000_000),
            ("1h30m", 5_400_000_000_000),
            ("1.5h", 5_400_000_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("500ms", 500_000_000),
            ("1us1\u{b5}s1\u{3bc}s", 3_000),
            ("1ns", 1),
            ("0.0000000000000000001h", 0),
            ("30m1h", 5_400_000_000_000),
            ("87840h", 316_224_000_000_000_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_nanos(nanos)), "{text}");
        }
    }

    #[test]
    fn refuses_everything_else() {
        use DurationError::{Empty, Malformed, Negative, NoUnit, TooLong, UnknownUnit};
        for (text, wanted) in [
            ("", Empty),
            ("-5m", Negative),
            ("5", NoUnit),
            ("1h30", NoUnit),
            ("1.5", NoUnit),
            ("1d", UnknownUnit),
            ("2w", UnknownUnit),
            ("5M", UnknownUnit),
            ("five minutes", Malformed),
            ("never", Malformed),
            ("s", Malformed),
            (".s", Malformed),
            ("+5m", Malformed),
            (" 5m", Malformed),
            ("5m ", Malformed),
            ("5 m", Malformed),
            ("1..5s", NoUnit),
            ("\u{0665}s", Malformed),
            ("87841h", TooLong),
            ("87840h1ns", TooLong),
            ("99999999999999999999999999999999999999999h", TooLong),
            ("340282366920938463463374607431768211455h", TooLong),
        ] {
            assert_eq!(parse(text), Err(wanted), "{text}");
        }
        assert_eq!(parse(&"1s".repeat(40)), Err(TooLong));
    }

    #[test]
    fn writes_whole_numbers() {
        for (nanos, text) in [
            (0, "0s"),
            (90_000_000_000, "1m30s"),
            (5_400_000_000_000, "1h30m"),
            (1_500_000_000, "1s500ms"),
            (180_000_000_000, "3m"),
            (1_001, "1us1ns"),
        ] {
            assert_eq!(format(Duration::from_nanos(nanos)), text);
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(nanos in 0..=MAX.as_nanos()) {
            let duration = Duration::from_nanos_u128(nanos);
            prop_assert_eq!(parse(&format(duration)), Ok(duration));
        }

        #[test]
        fn nothing_panics(text in "\\PC{0,70}", dense in "[0-9.hmsun\u{b5}-]{0,64}") {
            for text in [text, dense] {
                if let Ok(duration) = parse(&text) {
                    prop_assert!(duration <= MAX);
                }
            }
        }
    }
}
