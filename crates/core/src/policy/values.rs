//! Reads the single values of a policy, the same for annotations and for the configuration.

use std::time::Duration;

use crate::duration;
use crate::split::{Floor, Percentage};

use super::Placement;

/// What [`percentage`] takes.
pub const PERCENTAGE_ALLOWED: &str = "an integer from 0 to 100, optionally followed by %";
/// What [`floor`] takes.
pub const FLOOR_ALLOWED: &str = "an integer from 0 to 2147483647, or a percentage from 0% to 100%";
/// What [`Placement::parse`] takes.
pub const PLACEMENT_ALLOWED: &str = "required or preferred";
/// What [`fallback_after`] takes.
pub const FALLBACK_AFTER_ALLOWED: &str = "a duration such as 90s, 5m or 1h30m, of at most 87840h, or never";
/// What [`truth`] takes.
pub const TRUTH_ALLOWED: &str = "exactly true or false";

/// Most replicas a workload can have; the API holds them in an `int32`.
const MAX_REPLICAS: u32 = i32::MAX.unsigned_abs();

/// `70`, `70%`.
pub fn percentage(text: &str) -> Option<Percentage> {
    let number = whole_number(text.strip_suffix('%').unwrap_or(text))?;
    Percentage::new(u8::try_from(number).ok()?)
}

/// `2`, `20%`.
pub fn floor(text: &str) -> Option<Floor> {
    if text.ends_with('%') {
        return percentage(text).map(Floor::Percent);
    }
    whole_number(text).filter(|count| *count <= MAX_REPLICAS).map(Floor::Count)
}

/// `3m`, or `never`, which is `None` inside.
pub fn fallback_after(text: &str) -> Option<Option<Duration>> {
    if text == "never" { Some(None) } else { duration::parse(text).ok().map(Some) }
}

/// `true`, `false`, and nothing that merely looks like them.
pub fn truth(text: &str) -> Option<bool> {
    match text {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

/// Digits only: the standard parser would also take `+5`.
fn whole_number(text: &str) -> Option<u32> {
    if text.bytes().all(|b| b.is_ascii_digit()) { text.parse().ok() } else { None }
}

impl Placement {
    /// The word of annotations and configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Required => "required",
            Self::Preferred => "preferred",
        }
    }

    /// Reads the word that [`Self::as_str`] writes.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Required, Self::Preferred].into_iter().find(|placement| placement.as_str() == text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages() {
        for (text, wanted) in [
            ("0", Some(0)),
            ("70", Some(70)),
            ("70%", Some(70)),
            ("100%", Some(100)),
            ("007", Some(7)),
            ("101", None),
            ("-1", None),
            ("+5", None),
            ("70 %", None),
            (" 70", None),
            ("70\n", None),
            ("70%%", None),
            ("%", None),
            ("", None),
            ("7O", None),
            ("70.0", None),
            ("0x10", None),
            ("\u{0667}\u{0660}", None),
            ("256", None),
            ("99999999999999999999", None),
            ("seventy", None),
        ] {
            assert_eq!(percentage(text).map(Percentage::get), wanted, "{text:?}");
        }
    }

    #[test]
    fn floors() {
        let percent = |p| Some(Floor::Percent(Percentage::new(p).unwrap()));
        for (text, wanted) in [
            ("0", Some(Floor::Count(0))),
            ("3", Some(Floor::Count(3))),
            ("2147483647", Some(Floor::Count(i32::MAX.unsigned_abs()))),
            ("2147483648", None),
            ("0%", percent(0)),
            ("100%", percent(100)),
            ("101%", None),
            ("-1", None),
            ("1.5", None),
            ("", None),
            ("%", None),
            ("one", None),
        ] {
            assert_eq!(floor(text), wanted, "{text:?}");
        }
    }

    #[test]
    fn words_and_durations() {
        assert_eq!(Placement::parse("required"), Some(Placement::Required));
        assert_eq!(Placement::parse("preferred"), Some(Placement::Preferred));
        for text in ["Required", "prefered", "", "required "] {
            assert_eq!(Placement::parse(text), None, "{text:?}");
        }
        assert_eq!(fallback_after("never"), Some(None));
        assert_eq!(fallback_after("90s"), Some(Some(Duration::from_secs(90))));
        for text in ["Never", "", "3", "-3m", "3d", "99999999h"] {
            assert_eq!(fallback_after(text), None, "{text:?}");
        }
        for text in ["True", "1", "yes", "", " true"] {
            assert_eq!(truth(text), None, "{text:?}");
        }
    }
}
