//! Writes what a command found: tables as wide as their content, documents for programs, colours where they help.
//!
//! Everything goes through `io::Write`; a reader that has seen enough and closes the pipe is no error. Text from the
//! cluster is shown without its control characters.

use std::io::{self, BufWriter, IsTerminal, Write};

use serde::Serialize;
use spotalis_runtime::text::printable;

use crate::args::{Environment, Look, Output};

/// Between two columns.
const GAP: usize = 3;

/// Whether colours are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Palette {
    /// Not.
    Plain,
    /// ANSI colours.
    Colours,
}

impl Palette {
    /// Colours on a terminal, unless somebody said no.
    pub fn of(look: Look, environment: &Environment) -> Self {
        let refused = look.no_color || environment.no_color;
        if !refused && io::stdout().is_terminal() { Self::Colours } else { Self::Plain }
    }

    fn paint(self, tone: Tone, text: &str) -> String {
        match (self, tone.code()) {
            (Self::Colours, Some(code)) => format!("\x1b[{code}m{text}\x1b[0m"),
            (Self::Colours, None) | (Self::Plain, _) => text.to_owned(),
        }
    }
}

/// How a text is meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tone {
    /// As it is.
    #[default]
    Plain,
    /// All is well.
    Good,
    /// Something is being done.
    Busy,
    /// Somebody should look.
    Warning,
    /// A title.
    Title,
}

impl Tone {
    const fn code(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Good => Some("32"),
            Self::Busy => Some("36"),
            Self::Warning => Some("33"),
            Self::Title => Some("1"),
        }
    }
}

/// One field of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// A field with a tone.
    pub fn toned(text: impl AsRef<str>, tone: Tone) -> Self {
        Self { text: printable(text.as_ref()).into_owned(), tone }
    }

    fn width(&self) -> usize {
        self.text.chars().count()
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::toned(text, Tone::Plain)
    }
}

/// A table, to be written as a whole.
#[derive(Debug)]
pub struct Table {
    indent: usize,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table with a line of titles, set in by `indent` columns.
    pub fn new(indent: usize, titles: &[&str]) -> Self {
        let titles = titles.iter().map(|title| Cell::toned(title, Tone::Title)).collect();
        Self { indent, rows: vec![titles] }
    }

    /// A table without titles.
    pub const fn untitled(indent: usize) -> Self {
        Self { indent, rows: Vec::new() }
    }

    /// Adds a line.
    pub fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Writes it; nothing follows the last field of a line, not even spaces.
    pub fn write(&self, out: &mut dyn Write, palette: Palette) -> io::Result<()> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column| self.rows.iter().filter_map(|row| row.get(column)).map(Cell::width).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &self.rows {
            let filled = row.iter().rposition(|cell| !cell.text.is_empty()).map_or(0, |last| last + 1);
            if filled > 0 {
                write!(out, "{:1$}", "", self.indent)?;
            }
            for (column, cell) in row[..filled].iter().enumerate() {
                let padding = if column + 1 < filled { widths[column] - cell.width() + GAP } else { 0 };
                write!(out, "{}{:padding$}", palette.paint(cell.tone, &cell.text), "")?;
            }
            writeln!(out)?;
        }
        Ok(())
    }
}

/// Writes a heading.
pub fn heading(out: &mut dyn Write, palette: Palette, text: &str) -> io::Result<()> {
    writeln!(out, "\n{}", palette.paint(Tone::Title, text))
}

/// Writes a line, without its control characters.
pub fn line(out: &mut dyn Write, indent: usize, text: &str) -> io::Result<()> {
    writeln!(out, "{:indent$}{}", "", printable(text))
}

/// Writes `found` as a document, or leaves it to `people`.
pub fn present(
    found: &impl Serialize,
    look: Look,
    people: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), Unwritten> {
    to_stdout(|out| match look.output {
        Output::Table | Output::Wide => people(out),
        Output::Json => json(found, out),
        Output::Yaml => out.write_all(yaml(found).as_bytes()),
    })
}

/// Writes JSON for people to read and programs to parse.
pub fn json(found: &impl Serialize, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, found)?;
    writeln!(out)
}

fn yaml(found: &impl Serialize) -> String {
    serde_saphyr::to_string(found).expect("what commands show are maps with text for keys")
}

/// What was found is not all on standard output.
#[derive(Debug, thiserror::Error)]
#[error("standard output cannot be written, and is not complete")]
pub struct Unwritten(#[source] pub io::Error);

/// Hands standard output over, and forgives it for having been closed.
pub fn to_stdout(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Unwritten> {
    let mut out = BufWriter::new(io::stdout().lock());
    match write(&mut out).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome.map_err(Unwritten),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(table: &Table, palette: Palette) -> String {
        let mut out = Vec::new();
        table.write(&mut out, palette).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn columns_are_as_wide_as_their_content_and_lines_end_without_spaces() {
        let mut table = Table::new(2, &["NAME", "TYPE", "NOTE"]);
        table.row(["wéb-1".into(), "on-demand".into(), "".into()]);
        table.row(["b".into(), "".into(), "x".into()]);
        assert_eq!(
            written(&table, Palette::Plain),
            "  NAME    TYPE        NOTE\n  wéb-1   on-demand\n  b                   x\n"
        );
    }

    #[test]
    fn colours_do_not_shift_columns_and_only_we_write_them() {
        let mut table = Table::untitled(0);
        table.row([Cell::toned("\u{1b}[31mred", Tone::Good), "x".into()]);
        table.row(["".into(), "y".into()]);
        let coloured = written(&table, Palette::Colours);
        assert!(coloured.starts_with("\x1b[32m\\u001b[31mred\x1b[0m   x\n"), "{coloured:?}");
        let plain = written(&table, Palette::Plain);
        assert!(!plain.contains('\x1b'), "{plain:?}");
        let places: Vec<_> = plain.lines().map(|line| line.find(['x', 'y'])).collect();
        assert_eq!(places[0], places[1]);
    }
}
