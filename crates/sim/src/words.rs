//! Times and shares in words, the same in every place that shows them.

use std::time::Duration;

/// A time of the run as a clock shows it: `4:05`, or `1:04:05`.
pub fn clock(at: Duration) -> String {
    let seconds = at.as_secs();
    let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

/// How long something took, to the second: `9 s`, `1 min 11 s`, `1 h 1 min`. Less than a second is not nothing.
pub fn span(time: Duration) -> String {
    let whole = Duration::from_secs((time.as_millis().div_ceil(500) / 2).try_into().unwrap_or(u64::MAX));
    let seconds = whole.as_secs();
    match (seconds / 3_600, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0) if time.is_zero() => "0 s".to_owned(),
        (0, 0, 0) => "under 1 s".to_owned(),
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, 0) => format!("{minutes} min"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, 0, _) => format!("{hours} h"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

/// A share, in whole percent.
pub fn percent(share: f64) -> String {
    format!("{:.0}%", share * 100.0)
}

/// A number of things: `1 node`, `2 nodes`.
pub fn count(number: usize, one: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {one}s") }
}

/// Several as a list: `a`, `a and b`, `a, b and c`.
pub fn list(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// Whether a text names something, as a word of its own: `db-1` is not in `evicted db-10`.
pub fn names(text: &str, name: &str) -> bool {
    let inside = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    text.split(|c| !inside(c)).any(|word| word.trim_matches('.') == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_are_cut_and_spans_are_rounded_to_the_second() {
        let millis = Duration::from_millis;
        let table = [
            (0, "0:00", "0 s"),
            (400, "0:00", "under 1 s"),
            (9_400, "0:09", "9 s"),
            (9_600, "0:09", "10 s"),
            (60_000, "1:00", "1 min"),
            (71_000, "1:11", "1 min 11 s"),
            (3_600_000, "1:00:00", "1 h"),
            (3_693_000, "1:01:33", "1 h 1 min"),
        ];
        for (time, at, long) in table {
            assert_eq!((clock(millis(time)).as_str(), span(millis(time)).as_str()), (at, long));
        }
    }

    #[test]
    fn lists_and_numbers_are_read_aloud() {
        let words = ["a", "b", "c"].map(str::to_owned);
        assert_eq!([list(&[]), list(&words[..1]), list(&words[..2]), list(&words)], ["", "a", "a and b", "a, b and c"]);
        assert_eq!(
            (count(1, "node"), count(0, "node"), percent(0.345)),
            ("1 node".into(), "0 nodes".into(), "34%".into())
        );
    }

    #[test]
    fn a_name_is_a_word_of_its_own() {
        for (text, named) in [
            ("evicted db-1: too many", true),
            ("evicted db-10", false),
            ("of db-1.", true),
            ("my-db-1", false),
            ("", false),
        ] {
            assert_eq!(names(text, "db-1"), named, "{text}");
        }
    }
}
