//! The page: one file that needs nothing else, no network, no script.

use std::fmt::Write as _;
use std::time::Duration;

use super::chart::{Chart, Level, thinned, top};
use super::{MOST_MARKS, escaped, happened, level, levels};
use crate::compare::{MEANING, TITLES, WITHOUT, figures, pairs, price, seen, short};
use crate::record::{Moment, Record, Sides};
use crate::scenario::Scenario;
use crate::summary::{Summary, WorkloadSummary};
use crate::words::{clock, count, names, span};

/// No more decisions than these are listed.
const MOST_DECISIONS: usize = 1_000;
/// So near to an eviction is the Event that tells of it.
const AT_ONCE: Duration = Duration::from_secs(1);
const SIZE: (f64, f64) = (500.0, 190.0);
const STYLE: &str = include_str!("style.css");
/// How spot is filled: with stripes, so that it is told from on-demand without colours.
pub(super) const HATCH: &str = r#"<pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect class="hb" width="6" height="6"/><path class="hl" d="M0 0V6"/></pattern>"#;

/// The page of a scenario that was played with Spotalis and without it.
pub fn html(scenario: &Scenario, seed: u64, with: &Record, without: &Record) -> String {
    let summaries = Summary::of_both(with, without);
    let marks: Vec<(Duration, &str)> = happened(with);
    let mut page = String::new();
    head(&mut page, scenario, seed, &seen(&summaries.0, &summaries.1));
    table(&mut page, &summaries.0, &summaries.1);
    charts(&mut page, (with, without), (&summaries.0, &summaries.1), &marks);
    decisions(&mut page, with);
    page.push_str("</main>\n</body>\n</html>\n");
    page
}

fn add(out: &mut String, what: std::fmt::Arguments<'_>) {
    out.write_fmt(what).expect("a String takes everything");
}

fn head(page: &mut String, scenario: &Scenario, seed: u64, seen: &str) {
    let Scenario { name, about, lasts, nodes, .. } = scenario;
    let nodes: Vec<String> = nodes.iter().map(|group| format!("{} {}", group.count, group.name)).collect();
    let name = escaped(name);
    add(
        page,
        format_args!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n<title>Spotalis: {name}</title>\n\
             <style>{STYLE}</style>\n</head>\n<body>\n\
             <svg width=\"0\" height=\"0\" style=\"position:absolute\" aria-hidden=\"true\"><defs>{HATCH}</defs></svg>\n\
             <main>\n<p class=\"soft\">Spotalis, simulated: the real controllers and the real webhook on an embedded cluster</p>\n\
             <h1>{name}</h1>\n<p>{}</p>\n\
             <p class=\"soft\">{} on {} nodes, seed {seed}: the same seed gives the same page, to the byte.</p>\n\
             <p class=\"seen\">{}</p>\n",
            escaped(about),
            span(*lasts),
            escaped(&nodes.join(" and ")),
            escaped(seen),
        ),
    );
}

fn table(page: &mut String, with: &Summary, without: &Summary) {
    page.push_str("<h2 id=\"figures\">In figures</h2>\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-labelledby=\"figures\"><table>\n<thead><tr><th scope=\"col\">workload</th><th scope=\"col\">Spotalis</th>");
    for title in TITLES {
        add(page, format_args!("<th scope=\"col\" class=\"n\">{title}</th>"));
    }
    page.push_str("</tr></thead>\n<tbody>\n");
    for (workload, with, without) in pairs(with, without) {
        for (class, word, summary) in [("with", "with", with), ("without", "without", without)] {
            let workload = escaped(workload);
            add(page, format_args!("<tr class=\"{class}\"><th scope=\"row\">{workload}</th><td>{word}</td>"));
            for figure in figures(summary) {
                add(page, format_args!("<td class=\"n\">{figure}</td>"));
            }
            page.push_str("</tr>\n");
        }
    }
    add(
        page,
        format_args!(
            "</tbody>\n</table></div>\n<p class=\"soft\">{MEANING} {}</p>\n<p class=\"soft\">{WITHOUT}</p>\n",
            price()
        ),
    );
}

fn charts(page: &mut String, records: (&Record, &Record), summaries: (&Summary, &Summary), marks: &[(Duration, &str)]) {
    let (with, without) = records;
    let shown = &marks[..marks.len().min(MOST_MARKS)];
    page.push_str("<h2>What happened</h2>\n<ol>\n");
    for (at, what) in shown {
        add(page, format_args!("<li><b>{}</b> {}</li>\n", clock(*at), escaped(what)));
    }
    page.push_str("</ol>\n");
    if marks.len() > shown.len() {
        add(page, format_args!("<p class=\"soft\">{} more are not listed.</p>\n", marks.len() - shown.len()));
    }
    page.push_str("<h2>Ready replicas</h2>\n");
    legend(page);
    let mut left_out = 0;
    let names = pairs(summaries.0, summaries.1).map(|(_, one, other)| (one, other));
    for (one, other) in names {
        let both = [with, without].map(|record| levels(&record.steps(&one.workload)));
        add(page, format_args!("<h3>{}</h3>\n", escaped(short(&one.workload))));
        left_out += figure_pair(page, both, (with.lasted, without.lasted), shown, [one, other].map(in_words));
    }
    page.push_str("<h2>Nodes</h2>\n");
    let both = [with, without].map(|record| nodes(&record.nodes()));
    let words = [summaries.0, summaries.1].map(|summary| {
        format!("{:.1} node-hours on spot, {:.1} on others", summary.spot_node_hours, summary.other_node_hours)
    });
    left_out += figure_pair(page, both, (with.lasted, without.lasted), shown, words);
    if left_out > 0 {
        add(
            page,
            format_args!(
                "<p class=\"soft\">{left_out} steps are too near to others to be drawn; of each slice of time the lowest is.</p>\n"
            ),
        );
    }
}

fn legend(page: &mut String) {
    page.push_str("<p class=\"legend\">");
    for (shape, words) in [
        ("<rect class=\"s\" width=\"22\" height=\"14\"/>", "ready on spot"),
        ("<rect class=\"o\" width=\"22\" height=\"14\"/>", "ready on on-demand"),
        ("<path class=\"w\" d=\"M0 7H22\"/>", "wanted"),
        ("<g class=\"m\"><path d=\"M11 0V14\"/></g>", "something happened"),
    ] {
        add(page, format_args!("<span><svg viewBox=\"0 0 22 14\" aria-hidden=\"true\">{shape}</svg>{words}</span>"));
    }
    page.push_str("</p>\n");
}

/// Both runs beside each other, on the same scale. How many steps are left out.
fn figure_pair(
    page: &mut String,
    both: [Vec<(Duration, Level)>; 2],
    lasted: (Duration, Duration),
    marks: &[(Duration, &str)],
    words: [String; 2],
) -> usize {
    let top = top(both.iter().map(Vec::as_slice));
    let lasted = [lasted.0, lasted.1];
    let mut left_out = 0;
    page.push_str("<div class=\"pair\">\n");
    for (((levels, lasted), words), run) in
        both.into_iter().zip(lasted).zip(words).zip(["with Spotalis", "without Spotalis"])
    {
        let (levels, fewer) = thinned(levels, lasted);
        left_out += fewer;
        let drawn = Chart { levels, lasted, top, marks, size: SIZE }.draw();
        let (width, height) = SIZE;
        add(
            page,
            format_args!(
                "<figure><figcaption><b>{run}</b> {words}</figcaption>\n\
                 <svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{run}: {words}\">{drawn}</svg></figure>\n",
                words = escaped(&words),
            ),
        );
    }
    page.push_str("</div>\n");
    left_out
}

fn in_words(summary: &WorkloadSummary) -> String {
    let below = if summary.below.is_zero() {
        "never below wanted".to_owned()
    } else {
        format!("below wanted for {}", span(summary.below))
    };
    let down = if summary.down.is_zero() { String::new() } else { format!(", down for {}", span(summary.down)) };
    format!("fewest ready {}, {below}{down}", summary.fewest_ready)
}

fn nodes(steps: &[(Duration, Sides)]) -> Vec<(Duration, Level)> {
    steps.iter().map(|(at, sides)| (*at, level(*sides, None))).collect()
}

/// A line of the list: when, what it is, about what, and the words.
fn decision(moment: &Moment) -> Option<(bool, String, String, String)> {
    match moment {
        Moment::Steered { workload, pod, to, why } => {
            Some((false, format!("steered to {to}"), format!("{} {pod}", short(workload)), why.clone()))
        }
        Moment::Evicted { workload, pod, capacity } => {
            Some((false, "evicted".to_owned(), format!("{} {pod}", short(workload)), format!("from {capacity}")))
        }
        Moment::Told { reason, about, note, warning } => Some((*warning, reason.clone(), about.clone(), note.clone())),
        Moment::Happened { .. } | Moment::NodeCame { .. } | Moment::NodeWent { .. } | Moment::Counted { .. } => None,
    }
}

/// Whether Spotalis tells of an eviction itself, with the reason: one decision is one line.
fn is_told(record: &Record, at: Duration, moment: &Moment) -> bool {
    let Moment::Evicted { pod, .. } = moment else { return false };
    let from = record.moments.partition_point(|(told, _)| *told < at.saturating_sub(AT_ONCE));
    let about = record.moments[from..].iter().take_while(|(told, _)| *told <= at + AT_ONCE);
    about.into_iter().any(|(_, moment)| matches!(moment, Moment::Told { note, .. } if names(note, pod)))
}

fn decisions(page: &mut String, record: &Record) {
    let untold = record.moments.iter().filter(|(at, moment)| !is_told(record, *at, moment));
    let all: Vec<_> = untold.filter_map(|(at, moment)| Some((*at, decision(moment)?))).collect();
    add(
        page,
        format_args!(
            "<h2 id=\"decisions\">Every decision, and why</h2>\n<p class=\"soft\">{} with Spotalis: pods steered by the webhook, what Spotalis told as Events, its evictions among it, and evictions by others.</p>\n",
            count(all.len(), "decision")
        ),
    );
    page.push_str("<div class=\"scroll tall\" tabindex=\"0\" role=\"region\" aria-labelledby=\"decisions\"><table>\n<thead><tr><th scope=\"col\">time</th><th scope=\"col\">decision</th><th scope=\"col\">about</th><th scope=\"col\">reason</th></tr></thead>\n<tbody>\n");
    for (at, (warning, what, about, why)) in all.iter().take(MOST_DECISIONS) {
        let class = if *warning { " class=\"warn\"" } else { "" };
        let (what, about, why) = (escaped(what), escaped(about), escaped(why));
        add(
            page,
            format_args!(
                "<tr{class}><td class=\"at\">{}</td><td>{what}</td><td>{about}</td><td>{why}</td></tr>\n",
                clock(*at)
            ),
        );
    }
    page.push_str("</tbody>\n</table></div>\n");
    if all.len() > MOST_DECISIONS {
        add(page, format_args!("<p class=\"soft\">{} later ones are not listed.</p>\n", all.len() - MOST_DECISIONS));
    }
}
