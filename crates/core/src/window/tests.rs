//! The window against a second formulation, and against clock changes looked up by hand.

use std::collections::BTreeSet;

use jiff::SignedDuration;
use proptest::prelude::*;

use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn window(schedule: &str, duration: &str, zone: &str) -> Window {
    Window::parse(schedule, duration, zone).unwrap()
}

/// The next openings and closings after an instant, as `next_change` walks them.
fn changes(window: &Window, from: &str, count: usize) -> Vec<(String, bool)> {
    std::iter::successors(Some(at(from)), |now| window.next_change(*now))
        .skip(1)
        .take(count)
        .map(|change| (change.to_string(), window.is_open(change)))
        .collect()
}

/// Instants worked out by hand from the zones' published rules.
#[test]
fn clock_changes() {
    for (schedule, duration, zone, from, wanted) in [
        // Berlin, 2026-03-29: 02:00 to 03:00 do not exist; 02:30 happens at 03:00 summer time.
        (
            "30 2 * * *",
            "1h",
            "Europe/Berlin",
            "2026-03-28T12:00:00Z",
            [("2026-03-29T01:00:00Z", true), ("2026-03-29T02:00:00Z", false), ("2026-03-30T00:30:00Z", true)],
        ),
        // Berlin, 2026-10-25: 02:00 to 03:00 happen twice; only the first 02:30 opens, and for real time.
        (
            "30 2 * * *",
            "2h",
            "Europe/Berlin",
            "2026-10-24T12:00:00Z",
            [("2026-10-25T00:30:00Z", true), ("2026-10-25T02:30:00Z", false), ("2026-10-26T01:30:00Z", true)],
        ),
        // New York, 2026-03-08: several openings inside the gap become one.
        (
            "*/20 2 * * *",
            "30m",
            "America/New_York",
            "2026-03-08T00:00:00Z",
            [("2026-03-08T07:00:00Z", true), ("2026-03-08T07:30:00Z", false), ("2026-03-09T06:00:00Z", true)],
        ),
        // New York, 2026-11-01: an hourly opening skips the hour that is repeated.
        (
            "15 * * * *",
            "10m",
            "America/New_York",
            "2026-11-01T05:10:00Z",
            [("2026-11-01T05:15:00Z", true), ("2026-11-01T05:25:00Z", false), ("2026-11-01T07:15:00Z", true)],
        ),
        // Lord Howe, 2026-10-04: half an hour is skipped, 02:00 to 02:30.
        (
            "10 2 * * *",
            "5m",
            "Australia/Lord_Howe",
            "2026-10-03T12:00:00Z",
            [("2026-10-03T15:30:00Z", true), ("2026-10-03T15:35:00Z", false), ("2026-10-04T15:10:00Z", true)],
        ),
        // Lord Howe, 2026-04-05: half an hour is repeated, 01:30 to 02:00.
        (
            "45 1 * * *",
            "5m",
            "Australia/Lord_Howe",
            "2026-04-04T12:00:00Z",
            [("2026-04-04T14:45:00Z", true), ("2026-04-04T14:50:00Z", false), ("2026-04-05T15:15:00Z", true)],
        ),
        // Samoa skipped the whole of 2011-12-30.
        (
            "0 12 30 12 *",
            "1h",
            "Pacific/Apia",
            "2011-12-01T00:00:00Z",
            [("2011-12-30T10:00:00Z", true), ("2011-12-30T11:00:00Z", false), ("2012-12-29T22:00:00Z", true)],
        ),
    ] {
        let wanted = wanted.map(|(change, open)| (change.to_owned(), open));
        assert_eq!(changes(&window(schedule, duration, zone), from, 3), wanted, "{schedule} {duration} {zone}");
    }
}

#[test]
fn edges_of_the_window() {
    let window = window("0 2 * * 1-5", "90m", "");
    for (now, open) in [
        ("2026-07-20T01:59:59.999999999Z", false),
        ("2026-07-20T02:00:00Z", true),
        ("2026-07-20T03:29:59.999999999Z", true),
        ("2026-07-20T03:30:00Z", false),
        ("2026-07-19T02:30:00Z", false),
    ] {
        assert_eq!(window.is_open(at(now)), open, "{now}");
    }
}

#[test]
fn always_and_never() {
    let now = at("2026-07-20T02:00:00Z");
    assert_eq!(Window::parse("", "", ""), Ok(Window::AlwaysOpen));
    assert_eq!(Window::parse("", "", "Europe/Berlin"), Ok(Window::AlwaysOpen));
    assert!(Window::AlwaysOpen.is_open(now) && !Window::Closed.is_open(now));
    assert_eq!((Window::AlwaysOpen.next_change(now), Window::Closed.next_change(now)), (None, None));
}

/// 29 February is eight years away when the century has no leap year.
#[test]
fn the_rarest_opening_is_found() {
    let window = window("0 0 29 2 *", "24h", "UTC");
    let wanted = [("2104-02-29T00:00:00Z", true), ("2104-03-01T00:00:00Z", false)];
    let wanted = wanted.map(|(change, open)| (change.to_owned(), open));
    assert_eq!(changes(&window, "2096-03-01T00:00:00Z", 2), wanted);
    assert!(window.is_open(at("2096-02-29T23:59:59Z")));
}

/// Longer than the schedule's rarest gap: the last opening may lie years back.
#[test]
fn adjoining_openings_are_one_window() {
    let joined = window("0,30 2-3 * * *", "30m", "");
    assert_eq!(joined.next_change(at("2026-07-20T02:10:00Z")), Some(at("2026-07-20T04:00:00Z")));
    let for_ever = window("* * * * *", "1h", "");
    let now = at("2026-07-20T02:10:00Z");
    assert!(for_ever.is_open(now));
    let asked_again = for_ever.next_change(now).unwrap();
    assert!(asked_again > now && for_ever.is_open(asked_again));
    assert!(window("0 0 29 2 *", "87840h", "").is_open(at("2103-12-31T00:00:00Z")));
}

#[test]
fn the_ends_of_time_are_survived() {
    let window = window("0 0 29 2 *", "87840h", "America/New_York");
    for now in [Timestamp::MIN, Timestamp::MAX, Timestamp::UNIX_EPOCH] {
        window.is_open(now);
        window.next_change(now);
    }
}

#[test]
fn refuses_with_part_and_remedy() {
    use Part::{Duration, Schedule, TimeZone};
    let long = "0 ".repeat(600);
    for (schedule, duration, zone, part, says) in [
        ("0 2 * * *", "", "", Duration, "schedule and duration together, or neither"),
        ("", "4h", "", Schedule, "schedule and duration together, or neither"),
        ("0 2 * *", "4h", "", Schedule, "five fields, for example `0 2 * * 1-5` (it has 4 fields)"),
        ("0 0 2 * * *", "4h", "", Schedule, "it has 6 fields"),
        (" ", "4h", "", Schedule, "it has 0 fields"),
        ("60 2 * * *", "4h", "", Schedule, "the minute field takes 0-59"),
        ("0 24 * * *", "4h", "", Schedule, "the hour field takes 0-23"),
        ("0 2 0 * *", "4h", "", Schedule, "the day of month field takes 1-31"),
        ("0 2 * 13 *", "4h", "", Schedule, "the month field takes 1-12, JAN-DEC"),
        ("0 2 * * 8", "4h", "", Schedule, "the day of week field takes 0-7, SUN-SAT"),
        ("0 2 * * FUNDAY", "4h", "", Schedule, "the day of week field"),
        ("+5 2 * * *", "4h", "", Schedule, "the minute field"),
        ("5-1 2 * * *", "4h", "", Schedule, "the minute field"),
        ("*/0 2 * * *", "4h", "", Schedule, "the minute field"),
        ("1-5/ 2 * * *", "4h", "", Schedule, "the minute field"),
        ("1,,2 2 * * *", "4h", "", Schedule, "the minute field"),
        ("? 2 * * *", "4h", "", Schedule, "the minute field"),
        ("0 2 L * *", "4h", "", Schedule, "the day of month field"),
        ("0 2 * * 1#2", "4h", "", Schedule, "the day of week field"),
        ("0 0 30 2 *", "4h", "", Schedule, "would never open"),
        ("0 0 31 2,4,6,9,11 ?", "4h", "", Schedule, "would never open"),
        ("@daily", "4h", "", Schedule, "write the five fields out"),
        ("TZ=TZ=", "4h", "", Schedule, "the time zone has a key of its own"),
        ("CRON_TZ=UTC 0 2 * * *", "4h", "", Schedule, "the time zone has a key of its own"),
        (&long, "4h", "", Schedule, "it has 1200 bytes, at most 1024 are read"),
        ("0 2 * * *", "0s", "", Duration, "a duration above 0"),
        ("0 2 * * *", "-4h", "", Duration, "cannot be negative"),
        ("0 2 * * *", "4", "", Duration, "needs a unit"),
        ("0 2 * * *", "1d", "", Duration, "a day is `24h`"),
        ("0 2 * * *", "4h", "Europe/Berln", TimeZone, "did you mean Europe/Berlin?"),
        ("0 2 * * *", "4h", "Mars/Olympus", TimeZone, "IANA time zone database such as UTC or Europe/Berlin"),
        ("0 2 * * *", "4h", "../../etc/passwd", TimeZone, "IANA time zone database"),
        ("0 2 * * *", "4h", "+02:00", TimeZone, "IANA time zone database"),
        ("", "", &long, TimeZone, "IANA time zone database"),
    ] {
        let error = Window::parse(schedule, duration, zone).unwrap_err();
        assert_eq!(error.part(), part, "{schedule:?} {duration:?} {zone:?}");
        assert!(error.to_string().contains(says), "{schedule:?} {duration:?} {zone:?}: {error}");
    }
}

/// The minutes of 2026-07-20, a Monday, or of 2026-08-01, a Saturday, that a schedule names.
#[test]
fn schedules_mean_what_cronjobs_mean() {
    let monday = jiff::civil::date(2026, 7, 20);
    let saturday = jiff::civil::date(2026, 8, 1);
    for (schedule, on_monday, on_saturday) in [
        ("0 0 * * *", 1, 1),
        ("*/15 * * * *", 96, 96),
        ("5/20 1 * * *", 3, 3),
        ("1-10/4,2 1 * * *", 4, 4),
        ("0 0-23/6 * * *", 4, 4),
        ("0 0 ? * MON", 1, 0),
        ("0 0 * jul mon-fri", 1, 0),
        ("0 0 * * 5-7", 0, 1),
        ("0 0 * * 7", 0, 0),
        ("0 0 * * 1/3", 1, 0),
        ("0 0 * * 6/2", 0, 1),
        // Both named: either is enough.
        ("0 0 1 * 1", 1, 1),
        ("0 0 2 * 2", 0, 0),
        // A stepped star is a choice, `*/1` is not.
        ("0 0 */19 * 6", 1, 1),
        ("0 0 */1 * 6", 0, 1),
    ] {
        let parsed = Schedule::parse(schedule).unwrap();
        assert_eq!(parsed.times_of(monday).count(), on_monday, "{schedule} on Monday");
        assert_eq!(parsed.times_of(saturday).count(), on_saturday, "{schedule} on Saturday");
    }
    let sunday = jiff::civil::date(2026, 7, 19);
    assert_eq!(Schedule::parse("0 0 * * 7").unwrap().times_of(sunday).count(), 1);
    assert_eq!(Schedule::parse("0 0 * * 0").unwrap().times_of(sunday).count(), 1);
    assert_eq!(Schedule::parse("0 0 * * 1/3").unwrap().times_of(sunday).count(), 0);
}

/// Walks real time minute by minute and opens whenever the wall clock reaches a named minute for the first time: no
/// search, no offset, no gap or fold by name. The answer is places in `instants`.
fn opens_by_walking(schedule: &str, zone: &TimeZone, instants: &[Timestamp]) -> Vec<usize> {
    let schedule = Schedule::parse(schedule).unwrap();
    let mut reached = zone.to_datetime(instants[0]);
    // Every civil day the walk can touch, with a day to spare on either side.
    let days = std::iter::successors(reached.date().yesterday().ok(), |day| day.tomorrow().ok()).take(6);
    let named: BTreeSet<DateTime> = days.flat_map(|day| schedule.times_of(day)).collect();
    let mut openings = Vec::new();
    for (index, instant) in instants.iter().enumerate() {
        let shows = zone.to_datetime(*instant);
        let passed =
            std::iter::successors(Some(reached), |minute| minute.checked_add(SignedDuration::from_mins(1)).ok());
        let mut passed = passed.skip(1).take_while(|minute| *minute <= shows);
        if passed.any(|minute| named.contains(&minute)) {
            openings.push(index);
        }
        reached = reached.max(shows);
    }
    openings
}

#[test]
fn equals_a_walk_through_the_clock_changes() {
    for (zone, changes) in [
        ("UTC", ["2026-03-29", "2026-10-25"]),
        ("Europe/Berlin", ["2026-03-29", "2026-10-25"]),
        ("America/New_York", ["2026-03-08", "2026-11-01"]),
        ("Australia/Lord_Howe", ["2026-04-05", "2026-10-04"]),
    ] {
        for around in changes {
            for (schedule, minutes) in
                [("30 2 * * *", 150), ("*/10 1-2 * * *", 7), ("0 * * * *", 20), ("45 1 * * 0", 61)]
            {
                compare_with_walk(schedule, minutes, zone, at(&format!("{around}T00:00:00Z")));
            }
        }
    }
}

/// From 15 hours before `around` to 24 after, minute by minute.
fn compare_with_walk(schedule: &str, minutes: i64, zone: &str, around: Timestamp) {
    // A day earlier, so that what opened before the comparison begins is known.
    let from = around - SignedDuration::from_hours(39);
    let instants: Vec<Timestamp> = (0..63 * 60).map(|index| from + SignedDuration::from_mins(index)).collect();
    let mut open = vec![false; instants.len()];
    for opening in opens_by_walking(schedule, &find_zone(zone).unwrap(), &instants) {
        let rest = open.iter_mut().skip(opening);
        rest.take(usize::try_from(minutes).unwrap()).for_each(|open| *open = true);
    }
    let window = window(schedule, &format!("{minutes}m"), zone);
    // Backwards, so that the next change of the walk is at hand.
    let mut next = None;
    for index in (24 * 60..instants.len()).rev() {
        let now = instants[index];
        assert_eq!(window.is_open(now), open[index], "{schedule} for {minutes}m in {zone} at {now}");
        let at_change = open[index] != open[index - 1];
        // The answer between two changes is the same; every seventh minute is enough to see that.
        if next.is_some() && (at_change || index % 7 == 0) {
            assert_eq!(window.next_change(now), next, "{schedule} for {minutes}m in {zone} at {now}");
        }
        if at_change {
            next = Some(now);
        }
    }
}

proptest! {
    #[test]
    fn nothing_panics_or_runs_away(
        schedule in "\\PC{0,40}",
        dense in "[0-9*/,?-]{1,3} [0-9*/,-]{1,3} [0-9*/,?L-]{1,3} [0-9*/,-]{1,3} [0-9*/,?#-]{1,3}",
        zone in "(Europe/Berlin|America/New_York|Pacific/Apia|\\PC{0,10})",
        now in Timestamp::MIN.as_second()..=Timestamp::MAX.as_second(),
    ) {
        let now = Timestamp::from_second(now).unwrap();
        for schedule in [schedule, dense] {
            if let Ok(window) = Window::parse(&schedule, "4h", &zone) {
                if let Some(next) = window.next_change(now) {
                    prop_assert!(next > now);
                }
                window.is_open(now);
            }
        }
    }
}
