//! The end of the demo: both runs in figures, and what was seen, in a sentence.

use std::io::{self, Write};

use spotalis_sim::compare::{MEANING, TITLES, WITHOUT, figures, pairs, price, seen};
use spotalis_sim::summary::Summary;

use super::ink::{Ink, Text};
use super::narrator::Look;
use crate::table::{Cell, Table, Tone, heading};

/// Writes it.
pub fn write(out: &mut dyn Write, look: Look, with: &Summary, without: &Summary) -> io::Result<()> {
    heading(out, look.palette, "With Spotalis, and without it on the same seed")?;
    let titles: Vec<String> = TITLES.iter().map(|title| title.to_uppercase()).collect();
    let titles: Vec<&str> = ["WORKLOAD", "SPOTALIS"].into_iter().chain(titles.iter().map(String::as_str)).collect();
    let mut table = Table::new(0, &titles);
    for (workload, with, without) in pairs(with, without) {
        row(&mut table, [workload, "with"], &figures(with));
        row(&mut table, ["", "without"], &figures(without));
    }
    table.write(out, look.palette)?;
    writeln!(out)?;
    paragraph(out, look, &Text::of(Ink::Bold, seen(with, without)))?;
    writeln!(out)?;
    for words in [WITHOUT, MEANING, &price()] {
        paragraph(out, look, &Text::of(Ink::Dim, words))?;
    }
    Ok(())
}

/// Being down is worth a look.
fn row(table: &mut Table, names: [&str; 2], figures: &[String; 6]) {
    let down = |number: usize| if number == 2 && figures[number] != "-" { Tone::Warning } else { Tone::Plain };
    let cells = figures.iter().enumerate().map(|(number, figure)| Cell::toned(figure, down(number)));
    table.row(names.into_iter().map(Cell::from).chain(cells));
}

/// Writes words, cut between them where the terminal ends.
pub fn paragraph(out: &mut dyn Write, look: Look, words: &Text) -> io::Result<()> {
    for line in words.wrapped(look.width, 0) {
        writeln!(out, "{}", line.paint(look.palette).trim_end())?;
    }
    Ok(())
}
