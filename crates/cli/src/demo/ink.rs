//! Text with colours that can also be had without, cut into lines as wide as the terminal.

use spotalis_runtime::text::printable;

use crate::table::Palette;

/// How a piece of text is meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ink {
    /// As it is.
    #[default]
    Plain,
    /// Something happens to the world.
    Bold,
    /// Beside the point.
    Dim,
    /// On spot.
    Spot,
    /// On on-demand.
    OnDemand,
    /// Not yet.
    Waiting,
    /// Not there, or a warning.
    Missing,
    /// Spotalis's words.
    Told,
}

impl Ink {
    const fn code(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Bold => Some("1"),
            Self::Dim => Some("2"),
            Self::Spot => Some("32"),
            Self::OnDemand => Some("34"),
            Self::Waiting => Some("33"),
            Self::Missing => Some("31"),
            Self::Told => Some("36"),
        }
    }
}

/// A line in pieces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text(Vec<(Ink, String)>);

impl Text {
    /// One piece.
    pub fn of(ink: Ink, text: impl AsRef<str>) -> Self {
        Self::default().and(ink, text)
    }

    /// With another piece. Control characters are made visible.
    #[must_use]
    pub fn and(mut self, ink: Ink, text: impl AsRef<str>) -> Self {
        if !text.as_ref().is_empty() {
            self.0.push((ink, printable(text.as_ref()).into_owned()));
        }
        self
    }

    /// With another line behind it.
    #[must_use]
    pub fn then(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// How many characters it has.
    pub fn width(&self) -> usize {
        self.0.iter().map(|(_, text)| text.chars().count()).sum()
    }

    /// As one line.
    pub fn paint(&self, palette: Palette) -> String {
        let paint = |(ink, text): &(Ink, String)| match (palette, ink.code()) {
            (Palette::Colours, Some(code)) => format!("\x1b[{code}m{text}\x1b[0m"),
            (Palette::Colours, None) | (Palette::Plain, _) => text.clone(),
        };
        self.0.iter().map(paint).collect()
    }

    /// As lines of at most so many characters, cut between words; those after the first are set in.
    pub fn wrapped(&self, width: Option<usize>, indent: usize) -> Vec<Self> {
        let Some(width) = width.map(|width| width.max(indent + 10)) else { return vec![self.clone()] };
        let mut lines = vec![Self::default()];
        let mut used = 0;
        for (ink, text) in &self.0 {
            for word in text.split_inclusive(' ') {
                let length = word.trim_end_matches(' ').chars().count();
                if used > indent && used + length > width {
                    lines.last_mut().into_iter().for_each(Self::trim_end);
                    lines.push(Self::of(Ink::Plain, " ".repeat(indent)));
                    used = indent;
                }
                used += word.chars().count();
                let line = lines.pop().unwrap_or_default();
                lines.push(line.and(*ink, word));
            }
        }
        lines
    }

    /// Without spaces at its end, which may not fit on the line.
    fn trim_end(&mut self) {
        while let Some((_, last)) = self.0.last_mut() {
            last.truncate(last.trim_end_matches(' ').len());
            if !last.is_empty() {
                return;
            }
            self.0.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_change_no_letter() {
        let text = Text::of(Ink::Bold, "web").and(Ink::Plain, " is ").and(Ink::Missing, "\u{1b}[2J");
        assert_eq!(text.paint(Palette::Colours), "\x1b[1mweb\x1b[0m is \x1b[31m\\u001b[2J\x1b[0m");
        assert_eq!(text.paint(Palette::Plain), "web is \\u001b[2J");
    }

    #[test]
    fn lines_are_cut_between_words_and_set_in() {
        let text = Text::of(Ink::Plain, "one two three ").and(Ink::Told, "four fivefivefive");
        let lines: Vec<String> = text.wrapped(Some(16), 2).iter().map(|line| line.paint(Palette::Plain)).collect();
        assert_eq!(lines, ["one two three", "  four", "  fivefivefive"]);
        assert_eq!(text.wrapped(None, 2).len(), 1);
        assert_eq!(text.width(), 31);
    }
}
