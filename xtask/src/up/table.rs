//! Draws the picture of `up`: a table, in place on a terminal, anew on every change in a pipe.
//!
//! What the figures mean is decided elsewhere.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _, Write};

use spotalis_core::reason::Reason;
use spotalis_e2e::Split;

use super::picture::{Picture, Standing, Workload};

const TITLES: [&str; 8] = ["NAMESPACE", "WORKLOAD", "KIND", "READY", "WANTED", "ACTUAL", "NODES", "REASON"];

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
    pub fn of_stdout() -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        if io::stdout().is_terminal() && !refused { Self::Colours } else { Self::Plain }
    }

    fn paint(self, tone: Tone, text: &str) -> String {
        match (self, tone) {
            (Self::Plain, _) | (Self::Colours, Tone::Plain) => text.to_owned(),
            (Self::Colours, Tone::Title) => format!("\x1b[1m{text}\x1b[0m"),
            (Self::Colours, Tone::Good) => format!("\x1b[32m{text}\x1b[0m"),
            (Self::Colours, Tone::Busy) => format!("\x1b[33m{text}\x1b[0m"),
            (Self::Colours, Tone::Dim) => format!("\x1b[2m{text}\x1b[0m"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tone {
    Plain,
    Title,
    Good,
    Busy,
    Dim,
}

/// The table and the lines below it.
pub fn render(picture: &Picture, palette: Palette) -> String {
    let Picture { workloads, nodes, answers } = picture;
    let mut rows = vec![(TITLES.map(str::to_owned), Tone::Title)];
    rows.extend(workloads.iter().map(|workload| (cells(workload), tone(workload))));
    let widths: Vec<usize> = (0..TITLES.len())
        .map(|column| rows.iter().map(|(row, _)| row[column].chars().count()).max().unwrap_or(0) + GAP)
        .collect();
    let mut lines: Vec<String> = rows.iter().map(|(row, tone)| line(row, &widths, *tone, palette)).collect();
    lines.push(String::new());
    lines.push("WANTED, ACTUAL and NODES are spot/on-demand; + counts pods that are on no such node yet.".to_owned());
    lines.push(format!("Karpenter made {}.", made(nodes)));
    if !answers {
        lines.push(palette.paint(Tone::Busy, "Spotalis does not answer: new pods are created without it."));
    }
    lines.into_iter().map(|line| line + "\n").collect()
}

fn line(row: &[String], widths: &[usize], tone: Tone, palette: Palette) -> String {
    let padded: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
    palette.paint(tone, padded.concat().trim_end())
}

fn cells(workload: &Workload) -> [String; 8] {
    let Workload { namespace, name, kind, replicas, ready, actual, nodes, standing } = workload;
    let (wanted, reason) = match standing {
        Standing::Managed { wanted, reason } => (wanted.map(short), reason.clone()),
        Standing::NotManaged { half: Some(missing) } => {
            (None, Some(format!("not managed: {}", Reason::HalfOptIn(*missing))))
        }
        Standing::NotManaged { half: None } => (None, Some("not managed".to_owned())),
    };
    [
        namespace.clone(),
        name.clone(),
        (*kind).to_owned(),
        format!("{ready}/{replicas}"),
        wanted.unwrap_or_else(|| "-".to_owned()),
        short(*actual),
        short(*nodes),
        reason.unwrap_or_else(|| "-".to_owned()),
    ]
}

fn short(Split { spot, on_demand, unknown }: Split) -> String {
    if unknown == 0 { format!("{spot}/{on_demand}") } else { format!("{spot}/{on_demand} +{unknown}") }
}

fn tone(workload: &Workload) -> Tone {
    match (&workload.standing, workload.shortfall()) {
        (Standing::Managed { .. }, None) => Tone::Good,
        (Standing::Managed { .. }, Some(_)) => Tone::Busy,
        (Standing::NotManaged { half: Some(_) }, _) => Tone::Plain,
        (Standing::NotManaged { half: None }, _) => Tone::Dim,
    }
}

/// `3 spot nodes (2 x small, 1 x large) and 1 on-demand node (1 x small)`.
fn made(nodes: &BTreeMap<String, BTreeMap<String, usize>>) -> String {
    let kinds = nodes.iter().rev().map(|(capacity, types)| {
        let sum: usize = types.values().sum();
        let types: Vec<String> = types.iter().map(|(name, count)| format!("{count} x {name}")).collect();
        format!("{sum} {capacity} {} ({})", if sum == 1 { "node" } else { "nodes" }, types.join(", "))
    });
    let kinds: Vec<String> = kinds.collect();
    if kinds.is_empty() { "no node yet".to_owned() } else { kinds.join(" and ") }
}

/// Where the table is shown again and again.
pub struct Screen<W> {
    out: W,
    in_place: bool,
    shown: String,
}

impl Screen<io::Stdout> {
    /// Standard output.
    pub fn stdout() -> Self {
        Self { out: io::stdout(), in_place: io::stdout().is_terminal(), shown: String::new() }
    }
}

impl<W: Write> Screen<W> {
    /// Shows the text, on a terminal in place of what was shown before. The same text again is no news.
    pub fn show(&mut self, text: &str) -> io::Result<()> {
        if self.shown == text {
            return Ok(());
        }
        if self.in_place {
            let up = match self.shown.lines().count() {
                0 => String::new(),
                lines => format!("\x1b[{lines}A"),
            };
            // Lines are cut off at the edge rather than wrapped: the next picture is to begin where this one did.
            write!(self.out, "\x1b[?7l{up}\x1b[J{text}\x1b[?7h")?;
        } else {
            let gap = if self.shown.is_empty() { "" } else { "\n" };
            write!(self.out, "{gap}{text}")?;
        }
        text.clone_into(&mut self.shown);
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture() -> Picture {
        let web = Workload {
            namespace: "shop".to_owned(),
            name: "web".to_owned(),
            kind: "Deployment",
            replicas: 10,
            ready: 9,
            actual: Split { spot: 6, on_demand: 3, unknown: 1 },
            nodes: Split { spot: 2, on_demand: 1, unknown: 0 },
            standing: Standing::Managed {
                wanted: Some(Split { spot: 7, on_demand: 3, unknown: 0 }),
                reason: Some("Scaling: pods are being added".to_owned()),
            },
        };
        let admin = Workload { name: "admin".to_owned(), standing: Standing::NotManaged { half: None }, ..web.clone() };
        let types = |pairs: &[(&str, usize)]| pairs.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        let nodes = BTreeMap::from([
            ("on-demand".to_owned(), types(&[("small", 1)])),
            ("spot".to_owned(), types(&[("large", 1), ("small", 2)])),
        ]);
        Picture { workloads: vec![admin, web], nodes, answers: true }
    }

    #[test]
    fn every_workload_has_its_line() {
        let text = render(&picture(), Palette::Plain);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[..3],
            [
                "NAMESPACE   WORKLOAD   KIND         READY   WANTED   ACTUAL   NODES   REASON",
                "shop        admin      Deployment   9/10    -        6/3 +1   2/1     not managed",
                "shop        web        Deployment   9/10    7/3      6/3 +1   2/1     Scaling: pods are being added",
            ]
        );
        assert_eq!(
            lines.last(),
            Some(&"Karpenter made 3 spot nodes (1 x large, 2 x small) and 1 on-demand node (1 x small).")
        );
    }

    #[test]
    fn colours_change_no_letter() {
        let plain = render(&picture(), Palette::Plain);
        let mut coloured = render(&picture(), Palette::Colours);
        assert!(coloured.contains("\x1b[33mshop        web"), "{coloured}");
        for code in ["\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[32m", "\x1b[33m"] {
            coloured = coloured.replace(code, "");
        }
        assert_eq!(coloured, plain);
    }

    fn shown(in_place: bool, texts: &[&str]) -> String {
        let mut screen = Screen { out: Vec::new(), in_place, shown: String::new() };
        for text in texts {
            screen.show(text).unwrap();
        }
        String::from_utf8(screen.out).unwrap()
    }

    #[test]
    fn a_pipe_gets_what_is_new() {
        assert_eq!(shown(false, &["a\n", "a\n", "b\n"]), "a\n\nb\n");
    }

    #[test]
    fn a_terminal_is_drawn_over() {
        let drawn = shown(true, &["a\nb\n", "c\n"]);
        assert_eq!(drawn, "\x1b[?7l\x1b[Ja\nb\n\x1b[?7h\x1b[?7l\x1b[2A\x1b[Jc\n\x1b[?7h");
    }
}
