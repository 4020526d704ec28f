//! `demo`: plays a scenario on a cluster inside this process, tells what happens, and says what it was worth.
//!
//! What is played and what came of it is decided by the simulator; here it is only told. What comes without Spotalis is a
//! run of its own, on the same seed.

mod board;
mod ink;
mod lines;
mod listen;
mod narrator;
mod outcome;
mod place;
mod story;

use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use console::Term;
use spotalis_sim::play::Terms;
use spotalis_sim::record::Record;
use spotalis_sim::scenario::Scenario;
use spotalis_sim::summary::Summary;
use spotalis_sim::words::span;
use spotalis_sim::{catalogue, embedded, report};

use crate::args::{DemoArgs, Environment};
use crate::exit::{Exit, talk};
use crate::table::{Palette, to_stdout};
use ink::{Ink, Text};
use lines::Run;
use narrator::{Look, Narrator, Pen};
use place::Place;

/// How long the whole takes on a terminal if nobody chose a speed.
const READABLE: Duration = Duration::from_mins(1);
/// Lower terminals have no room for the picture and a few lines of the story.
const LOWEST: u16 = 16;

/// Why there is no demo.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// There is no such scenario.
    #[error("there is no scenario {name:?}: use {}", catalogue::names().collect::<Vec<_>>().join(", "))]
    UnknownScenario {
        /// What was asked for.
        name: String,
    },
    /// The report cannot be written.
    #[error("the report cannot be written to {}", path.display())]
    Report {
        /// Where to.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Nobody can listen there.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The kubeconfig cannot be written.
    #[error("the kubeconfig cannot be written to {}", path.display())]
    Kubeconfig {
        /// Where to.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl DemoError {
    /// What to do next.
    pub fn hint(&self) -> String {
        match self {
            Self::UnknownScenario { name: _ } => "`spotalis demo --list` says what each of them shows".to_owned(),
            Self::Report { path: _, source: _ } => "name a file in a directory that you may write to".to_owned(),
            Self::Listen { address, source: _ } => {
                format!("`--listen {}` takes a port that is free", SocketAddr::new(address.ip(), 0))
            }
            Self::Kubeconfig { path: _, source: _ } => "set TMPDIR to a directory that you may write to".to_owned(),
        }
    }
}

/// Plays it.
pub fn run(args: &DemoArgs, environment: &Environment) -> anyhow::Result<Exit> {
    let DemoArgs { scenario: name, list, seed, speed, json, report, listen, no_color } = args;
    let look = look(*no_color || environment.no_color);
    if *list {
        to_stdout(|out| listed(out, look))?;
        return Ok(Exit::Fine);
    }
    let unknown = || DemoError::UnknownScenario { name: name.clone() };
    let scenario = catalogue::scenario(name).ok_or_else(unknown)?;
    let place = report.as_deref().map(Place::of).transpose()?;
    let pen = Pen::new(BufWriter::new(io::stdout().lock()));
    if let Some(address) = listen {
        let mut narrator = Narrator::new(pen, look, None, scenario.lasts);
        narrator.say(&opening(&scenario, *seed));
        crate::runtime()?.block_on(Box::pin(listen::run(&scenario, *seed, *address, narrator)))?;
        return Ok(Exit::Fine);
    }
    // Who wants a report wants it although nobody reads the story.
    let asked = Asked { scenario: &scenario, seed: *seed, to_the_end: report.is_some() };
    let played = if *json {
        in_json(pen, &asked)?
    } else {
        let readable = || io::stdout().is_terminal().then(|| scenario.lasts.div_duration_f64(READABLE));
        in_words(pen, look, &asked, speed.or_else(readable))?
    };
    if let (Some(place), Some((with, without))) = (place, played) {
        place.write(&report::html(&scenario, *seed, &with, &without))?;
        talk(&format!("the report is in {}", place.path().display()));
    }
    Ok(Exit::Fine)
}

fn look(plain: bool) -> Look {
    let is_terminal = io::stdout().is_terminal();
    let size = Term::stdout().size_checked().filter(|_| is_terminal);
    let palette = if plain || !is_terminal { Palette::Plain } else { Palette::Colours };
    let live = palette == Palette::Colours && size.is_some_and(|(rows, _)| rows >= LOWEST);
    Look { palette, live, width: size.map(|(_, columns)| columns.into()) }
}

fn listed(out: &mut dyn Write, look: Look) -> io::Result<()> {
    for name in catalogue::names() {
        let Scenario { about, lasts, .. } = catalogue::scenario(name).expect("it is among those that are built in");
        let default = if name == catalogue::DEFAULT { ", the one that is shown if none is named" } else { "" };
        let title = Text::of(Ink::Bold, name).and(Ink::Dim, format!("  {}{default}", span(lasts)));
        outcome::paragraph(out, look, &title)?;
        outcome::paragraph(out, look, &Text::of(Ink::Plain, about))?;
        writeln!(out)?;
    }
    Ok(())
}

fn opening(scenario: &Scenario, seed: u64) -> [Text; 4] {
    let Scenario { name, about, lasts, .. } = scenario;
    [
        Text::of(Ink::Bold, format!("{name}: ")).and(Ink::Plain, about),
        Text::default(),
        Text::of(
            Ink::Dim,
            format!("{} of a cluster in this process, seed {seed}. Replicas are drawn as ", span(*lasts)),
        )
        .then(board::legend())
        .and(Ink::Dim, "."),
        Text::default(),
    ]
}

/// What is to be played.
struct Asked<'a> {
    scenario: &'a Scenario,
    seed: u64,
    /// Even if nobody reads any more.
    to_the_end: bool,
}

/// What was played with Spotalis, and without it.
type Played = (Record, Record);

fn in_words<W: Write>(
    pen: Pen<W>,
    look: Look,
    asked: &Asked<'_>,
    speed: Option<f64>,
) -> anyhow::Result<Option<Played>> {
    let &Asked { scenario, seed, to_the_end } = asked;
    let mut narrator = Narrator::new(pen, look, speed, scenario.lasts);
    narrator.say(&opening(scenario, seed));
    let with = embedded::run_while(scenario, Terms { seed, with_spotalis: true }, |at, moment| {
        narrator.hear(at, moment);
        narrator.is_read() || to_the_end
    })?;
    let Some(with) = with else {
        narrator.end().finish()?;
        return Ok(None);
    };
    let without = embedded::run(scenario, Terms { seed, with_spotalis: false }, |_, _| ())?;
    let mut pen = narrator.end();
    let (ours, others) = Summary::of_both(&with, &without);
    pen.write(|out| outcome::write(out, look, &ours, &others));
    pen.finish()?;
    Ok(Some((with, without)))
}

fn in_json<W: Write>(mut pen: Pen<W>, asked: &Asked<'_>) -> anyhow::Result<Option<Played>> {
    let &Asked { scenario, seed, to_the_end } = asked;
    pen.write(|out| lines::first(out, scenario, seed));
    let mut played = |run, with_spotalis| {
        embedded::run_while(scenario, Terms { seed, with_spotalis }, |at, moment| {
            pen.write(|out| lines::moment(out, run, at, moment));
            pen.is_read() || to_the_end
        })
    };
    let with = played(Run::With, true)?;
    let without = if with.is_some() { played(Run::Without, false)? } else { None };
    let played = with.zip(without);
    if let Some((with, without)) = &played {
        let (ours, others) = Summary::of_both(with, without);
        for (run, summary) in [(Run::With, ours), (Run::Without, others)] {
            pen.write(|out| lines::summary(out, run, &summary));
        }
    }
    pen.finish()?;
    Ok(played)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A reader that closes after the first line.
    struct Head(bool);

    impl Write for Head {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if std::mem::replace(&mut self.0, true) { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(bytes.len()) }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn nothing_is_played_for_nobody_but_for_a_report() {
        let scenario = catalogue::scenario("rollout").unwrap();
        let look = Look { palette: Palette::Plain, live: false, width: None };
        for to_the_end in [false, true] {
            let asked = Asked { scenario: &scenario, seed: 1, to_the_end };
            let pen = || Pen::new(Head(false));
            assert_eq!(in_words(pen(), look, &asked, None).unwrap().is_some(), to_the_end);
            assert_eq!(in_json(pen(), &asked).unwrap().is_some(), to_the_end);
        }
    }
}
