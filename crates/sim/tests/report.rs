//! The page and the picture: well-formed whatever they are made of, with nothing from elsewhere, and of bounded size.

#![expect(clippy::unwrap_used, reason = "this file is tests")]

use std::time::Duration;

use spotalis_sim::catalogue;
use spotalis_sim::embedded;
use spotalis_sim::play::Terms;
use spotalis_sim::record::{Counts, Moment, Record, Sides};
use spotalis_sim::report::{html, picture};
use spotalis_sim::scenario::Scenario;

/// What would end a tag, begin a script or leave an attribute.
const HOSTILE: &str = "</title><script>alert(\"1\")</script> ' onload='x &amp; \u{7}\u{1b}[31m";

fn counted(at: u64, ready: u32) -> (Duration, Moment) {
    let ready = Sides { spot: ready, on_demand: 1, unknown: ready % 2 };
    let counts = Counts { wanted: 4, ready, placed: ready, pending: 0 };
    (Duration::from_secs(at), Moment::Counted { workload: format!("shop/{HOSTILE}"), counts })
}

/// Everything that is told in a record is hostile.
fn hostile() -> (Scenario, Record) {
    let scenario = catalogue::scenario("reclaim").unwrap();
    let scenario = Scenario { name: HOSTILE.to_owned(), about: HOSTILE.to_owned(), ..scenario };
    let text = || HOSTILE.to_owned();
    let moments = vec![
        counted(0, 3),
        (Duration::from_secs(1), Moment::Happened { what: text() }),
        (Duration::from_secs(2), Moment::Steered { workload: text(), pod: text(), to: text(), why: text() }),
        (Duration::from_secs(3), Moment::Told { reason: text(), about: text(), note: text(), warning: true }),
        counted(4, 0),
    ];
    (scenario, Record { lasted: Duration::from_secs(10), moments })
}

/// Fails if a tag is not closed, or an attribute has no quotes. HTML knows exceptions; these texts need none.
fn well_formed(text: &str) {
    let text = text.strip_prefix("<!DOCTYPE html>").unwrap_or(text);
    let mut open: Vec<&str> = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('<') {
        assert!(!before.contains('>') || open.last() == Some(&"style"), "a stray >: {before}");
        let (tag, after) = after.split_once('>').expect("a tag ends");
        rest = after;
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "closed in order");
            continue;
        }
        assert_eq!(tag.matches('"').count() % 2, 0, "quotes: {tag}");
        let outside: String = tag.split('"').step_by(2).collect();
        assert!(!outside.contains('\'') && outside.matches('=').count() == tag.matches("=\"").count(), "quotes: {tag}");
        if !tag.ends_with('/') {
            open.push(tag.split([' ', '\n']).next().unwrap());
        }
    }
    assert_eq!(open, [""; 0], "everything is closed");
    assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "control characters");
}

fn stands_alone(text: &str) {
    let text = text.replace("http://www.w3.org/2000/svg", "");
    for from_elsewhere in
        ["://", "src=", "href=", "@import", "@font-face", "<script", "<link", "<iframe", "javascript:"]
    {
        assert!(!text.contains(from_elsewhere), "{from_elsewhere}");
    }
    assert_eq!(text.matches("url(").count(), text.matches("url(#hatch)").count());
}

#[test]
fn whatever_is_told_stays_text() {
    let (scenario, record) = hostile();
    for text in [html(&scenario, 1, &record, &record), picture(&scenario, &record, &record)] {
        well_formed(&text);
        stands_alone(&text);
        assert!(text.contains("&lt;script&gt;alert(&quot;1&quot;)") && !text.contains("onload='"), "{text}");
    }
}

#[test]
fn a_played_scenario_is_a_page_with_all_its_decisions() {
    let scenario = catalogue::scenario("controller-crash").unwrap();
    let play = |with_spotalis| embedded::run(&scenario, Terms { seed: 3, with_spotalis }, |_, _| ()).unwrap();
    let (with, without) = (play(true), play(false));
    let page = html(&scenario, 3, &with, &without);
    well_formed(&page);
    stands_alone(&page);
    assert_eq!(page, html(&scenario, 3, &play(true), &play(false)), "the same bytes");
    let rows = page.split("Every decision, and why").nth(1).unwrap().matches("<tr").count() - 1;
    let count = |is: fn(&Moment) -> bool| with.moments.iter().filter(|(_, moment)| is(moment)).count();
    let evicted = count(|moment| matches!(moment, Moment::Evicted { .. }));
    let moved = count(|moment| matches!(moment, Moment::Told { reason, .. } if reason == "Rebalanced"));
    assert!(evicted > 0 && evicted == moved, "all evictions are moves of Spotalis's own: {evicted} {moved}");
    let decided = count(|moment| matches!(moment, Moment::Steered { .. } | Moment::Told { .. }));
    assert_eq!(rows, decided, "each move is one line");
    assert!(page.contains(&format!("{rows} decisions with Spotalis")));
    assert!(rows > 20 && page.contains("so that its replacement starts on spot"));
    for part in [
        "the leading replica of Spotalis is killed",
        "without Spotalis",
        "role=\"img\"",
        "lang=\"en\"",
        "prefers-color-scheme:dark",
    ] {
        assert!(page.contains(part), "{part}");
    }
    let killed = |record: &Record| {
        let is_it = |moment: &Moment| matches!(moment, Moment::Happened { what } if what.ends_with("is killed"));
        record.moments.iter().filter(|(_, moment)| is_it(moment)).count()
    };
    assert_eq!((killed(&with), killed(&without)), (1, 0), "what is not there cannot be killed");
    let picture = picture(&scenario, &with, &without);
    well_formed(&picture);
    stands_alone(&picture);
    assert!(picture.matches("class=\"w\"").count() >= 4, "two workloads, both runs");
}

#[test]
fn a_record_of_any_length_is_a_page_of_bounded_size_that_says_what_is_missing() {
    let scenario = catalogue::scenario("reclaim").unwrap();
    let mut moments: Vec<_> = (0..50_000).map(|at| counted(at, u32::try_from(at % 7).unwrap())).collect();
    for at in 0..5_000 {
        let told = Moment::Told { reason: "R".into(), about: "A".into(), note: format!("note {at}."), warning: false };
        moments.push((Duration::from_secs(at), told));
        moments.push((Duration::from_secs(at), Moment::Happened { what: "it rains".into() }));
    }
    moments.sort_by_key(|(at, _)| *at);
    let record = Record { lasted: Duration::from_secs(50_000), moments };
    let page = html(&scenario, 1, &record, &record);
    assert!(page.len() < 500_000, "{}", page.len());
    assert!(picture(&scenario, &record, &record).len() < 200_000);
    for part in
        ["4000 later ones are not listed", "4960 more are not listed", "steps are too near to others to be drawn"]
    {
        assert!(page.contains(part), "{part}");
    }
    assert!(page.contains("note 999.") && !page.contains("note 1000."));
}
