//! The picture: a small part of the page as one SVG with a background of its own, so that it can be read on any.

use std::fmt::Write as _;
use std::time::Duration;

use super::chart::{Chart, Level, thinned, top};
use super::page::HATCH;
use super::{MOST_MARKS, escaped, happened, levels};
use crate::compare::{pairs, relative_cost, short};
use crate::record::Record;
use crate::scenario::Scenario;
use crate::summary::{Summary, WorkloadSummary};
use crate::words::{clock, percent, span};

const WIDTH: f64 = 960.0;
const CHART: (f64, f64) = (440.0, 132.0);
/// A workload's title and its charts.
const ROW: f64 = 168.0;
const HEAD: f64 = 92.0;
const STYLE: &str = "text{font-family:system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif;fill:#1a2029;font-size:13px}\
    .h{font-size:20px;font-weight:600}.b{font-weight:600}.f{fill:#59636f}\
    .g{stroke:#dde1e6;fill:none}.t{fill:#59636f;font-size:11px}.o{fill:#2b62b8}.s{fill:url(#hatch)}.u{fill:#8a8f98}\
    .w{stroke:#1a2029;stroke-width:1.5;stroke-dasharray:5 4;fill:none}.m path{stroke:#b3261e;stroke-dasharray:2 2;fill:none}\
    .m,.m text{fill:#b3261e;font-size:11px;font-weight:600}.hb{fill:#a5dcc0}.hl{stroke:#1f9d63;stroke-width:2.5}";

/// The picture of a scenario that was played with Spotalis and without it.
pub fn picture(scenario: &Scenario, with: &Record, without: &Record) -> String {
    let (ours, others) = Summary::of_both(with, without);
    let marks = happened(with);
    let shown = &marks[..marks.len().min(MOST_MARKS)];
    let rows: Vec<_> = pairs(&ours, &others).collect();
    let mut body = String::new();
    heads(&mut body, scenario, &ours, &others);
    let mut y = HEAD;
    for (_, one, other) in &rows {
        row(&mut body, y, (with, without), (one, other), shown);
        y += ROW;
    }
    y += 8.0;
    for (number, (at, what)) in shown.iter().enumerate() {
        let x = if number % 2 == 0 { 24.0 } else { 500.0 };
        text(&mut body, (x, y), "m", &format!("{}", number + 1));
        text(&mut body, (x + 20.0, y), "f", &format!("{} {what}", clock(*at)));
        if number % 2 == 1 || number + 1 == shown.len() {
            y += 20.0;
        }
    }
    let height = y + 6.0;
    let title = escaped(&scenario.name);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" width=\"{WIDTH}\" height=\"{height:.0}\" role=\"img\" aria-labelledby=\"title about\">\n\
         <title id=\"title\">Spotalis, simulated: {title}</title>\n<desc id=\"about\">{}</desc>\n<style>{STYLE}</style>\n<defs>{HATCH}</defs>\n\
         <rect x=\"0.5\" y=\"0.5\" width=\"{}\" height=\"{}\" rx=\"8\" fill=\"#fff\" stroke=\"#dde1e6\"/>\n{body}</svg>\n",
        escaped(&scenario.about),
        WIDTH - 1.0,
        height - 1.0,
    )
}

fn text(out: &mut String, (x, y): (f64, f64), class: &str, words: &str) {
    add(out, format_args!("<text class=\"{class}\" x=\"{x:.0}\" y=\"{y:.0}\">{}</text>\n", escaped(words)));
}

fn add(out: &mut String, what: std::fmt::Arguments<'_>) {
    out.write_fmt(what).expect("a String takes everything");
}

fn heads(out: &mut String, scenario: &Scenario, ours: &Summary, others: &Summary) {
    text(out, (24.0, 36.0), "h", &format!("Ready replicas in “{}”", scenario.name));
    let mut x = 524.0;
    for (shape, words, room) in [
        ("<rect class=\"s\" width=\"22\" height=\"12\"/>", "on spot", 66.0),
        ("<rect class=\"o\" width=\"22\" height=\"12\"/>", "on on-demand", 116.0),
        ("<path class=\"w\" d=\"M0 6H22\"/>", "wanted", 66.0),
        ("<g class=\"m\"><path d=\"M11 0V12\"/></g>", "happened", 0.0),
    ] {
        add(out, format_args!("<g transform=\"translate({x:.0} 25)\">{shape}</g>\n"));
        text(out, (x + 28.0, 36.0), "f", words);
        x += room + 20.0;
    }
    for (x, run, summary) in [(24.0, "with Spotalis", ours), (500.0, "without, same seed", others)] {
        let cost = percent(relative_cost(&summary.workloads));
        text(out, (x, 72.0), "b", run);
        text(out, (x + 160.0, 72.0), "f", &format!("pods cost {cost} of all on-demand"));
    }
}

fn row(
    out: &mut String,
    y: f64,
    (with, without): (&Record, &Record),
    (one, other): (&WorkloadSummary, &WorkloadSummary),
    marks: &[(Duration, &str)],
) {
    let both: [Vec<(Duration, Level)>; 2] = [with, without].map(|record| levels(&record.steps(&one.workload)));
    let top = top(both.iter().map(Vec::as_slice));
    let sides = [(24.0, with.lasted, one), (500.0, without.lasted, other)];
    for (levels, (x, lasted, summary)) in both.into_iter().zip(sides) {
        let down =
            if summary.down.is_zero() { "never down".to_owned() } else { format!("down for {}", span(summary.down)) };
        text(out, (x, y + 14.0), "b", short(&summary.workload));
        text(out, (x + 80.0, y + 14.0), "f", &format!("fewest ready {}, {down}", summary.fewest_ready));
        let drawn = Chart { levels: thinned(levels, lasted).0, lasted, top, marks, size: CHART }.draw();
        add(out, format_args!("<g transform=\"translate({x:.0} {:.0})\">{drawn}</g>\n", y + 22.0));
    }
}
