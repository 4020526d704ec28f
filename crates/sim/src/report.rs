//! Two records beside each other as a page or as a picture: what ran where and when, what happened, what was decided and why.
//!
//! Plain functions from records to text: same records, same bytes. Everything that is not written here is escaped. A record of
//! any length makes a page of bounded size, and what is left out is counted.

mod chart;
mod page;
mod picture;

use std::borrow::Cow;
use std::time::Duration;

use crate::record::{Counts, Moment, Record, Sides};

pub use page::html;
pub use picture::picture;

use chart::Level;

/// No more events than these are marked.
const MOST_MARKS: usize = 40;

/// Text as it may stand in HTML and SVG, between tags and in attributes.
fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(|c: char| matches!(c, '&' | '<' | '>' | '"' | '\'') || c.is_control()) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // Most of them may not stand in XML, not even as numbers.
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// What was done to the world, and when.
fn happened(record: &Record) -> Vec<(Duration, &str)> {
    let happened = record.moments.iter().filter_map(|(at, moment)| match moment {
        Moment::Happened { what } => Some((*at, what.as_str())),
        _ => None,
    });
    happened.collect()
}

/// The ready pods of a workload over time.
fn levels(steps: &[(Duration, Counts)]) -> Vec<(Duration, Level)> {
    steps
        .iter()
        .map(|(at, Counts { wanted, ready, placed: _, pending: _ })| (*at, level(*ready, Some(*wanted))))
        .collect()
}

fn level(sides: Sides, wanted: Option<u32>) -> Level {
    let Sides { spot, on_demand, unknown } = sides;
    Level { on_demand, spot, unknown, wanted }
}
