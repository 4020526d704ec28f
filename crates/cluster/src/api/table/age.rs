//! How long ago something was, in two or three figures, as people read it.

use jiff::Timestamp;

/// What is said of a time that nobody told.
pub(super) const UNKNOWN: &str = "<unknown>";

/// The time from then to now.
pub(super) fn since(then: Option<Timestamp>, now: Timestamp) -> String {
    then.map_or_else(|| UNKNOWN.to_owned(), |then| human(now.duration_since(then).as_secs()))
}

/// Seconds in words. A moment in the future is none, but for the two seconds by which clocks may differ.
fn human(seconds: i64) -> String {
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let (days, years) = (hours / 24, hours / 24 / 365);
    let two = |large: i64, of: &str, small: i64, rest: &str| match small {
        0 => format!("{large}{of}"),
        _ => format!("{large}{of}{small}{rest}"),
    };
    match (seconds, minutes, hours) {
        (..-1, ..) => "<invalid>".to_owned(),
        (..0, ..) => "0s".to_owned(),
        (..120, ..) => format!("{seconds}s"),
        (_, ..10, _) => two(minutes, "m", seconds % 60, "s"),
        (_, ..180, _) => format!("{minutes}m"),
        (.., ..8) => two(hours, "h", minutes % 60, "m"),
        (.., ..48) => format!("{hours}h"),
        (.., ..192) => two(days, "d", hours % 24, "h"),
        (.., ..17_520) => format!("{days}d"),
        (.., ..70_080) => two(years, "y", days % 365, "d"),
        _ => format!("{years}y"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_have_two_or_three_figures() {
        const HOUR: i64 = 3600;
        const DAY: i64 = 24 * HOUR;
        for (seconds, says) in [
            (-2, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (121, "2m1s"),
            (599, "9m59s"),
            (600, "10m"),
            (3 * HOUR - 1, "179m"),
            (3 * HOUR, "3h"),
            (3 * HOUR + 60, "3h1m"),
            (8 * HOUR - 1, "7h59m"),
            (8 * HOUR, "8h"),
            (2 * DAY - 1, "47h"),
            (2 * DAY, "2d"),
            (2 * DAY + HOUR, "2d1h"),
            (8 * DAY - 1, "7d23h"),
            (8 * DAY, "8d"),
            (730 * DAY - 1, "729d"),
            (730 * DAY, "2y"),
            (731 * DAY, "2y1d"),
            (8 * 365 * DAY, "8y"),
        ] {
            assert_eq!(human(seconds), says, "{seconds}");
        }
        let now: Timestamp = "2026-01-01T00:00:10.9Z".parse().unwrap();
        assert_eq!(since(Some("2026-01-01T00:00:01Z".parse().unwrap()), now), "9s");
        assert_eq!(since(None, now), "<unknown>");
    }
}
