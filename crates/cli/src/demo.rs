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
    let (with, without) = if *json {
        in_json(pen, &scenario, *seed)?
    } else {
        let readable = || io::stdout().is_terminal().then(|| scenario.lasts.div_duration_f64(READABLE));
        in_words(pen, look, &scenario, *seed, speed.or_else(readable))?
    };
    if let Some(place) = place {
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

type Out = BufWriter<io::StdoutLock<'static>>;

fn in_words(
    pen: Pen<Out>,
    look: Look,
    scenario: &Scenario,
    seed: u64,
    speed: Option<f64>,
) -> anyhow::Result<(Record, Record)> {
    let mut narrator = Narrator::new(pen, look, speed, scenario.lasts);
    narrator.say(&opening(scenario, seed));
    let with = embedded::run(scenario, Terms { seed, with_spotalis: true }, |at, moment| narrator.hear(at, moment))?;
    let without = embedded::run(scenario, Terms { seed, with_spotalis: false }, |_, _| ())?;
    let mut pen = narrator.end();
    let (ours, others) = Summary::of_both(&with, &without);
    pen.write(|out| outcome::write(out, look, &ours, &others));
    pen.finish()?;
    Ok((with, without))
}

fn in_json(mut pen: Pen<Out>, scenario: &Scenario, seed: u64) -> anyhow::Result<(Record, Record)> {
    pen.write(|out| lines::first(out, scenario, seed));
    let mut played = |run, with_spotalis| {
        embedded::run(scenario, Terms { seed, with_spotalis }, |at, moment| {
            pen.write(|out| lines::moment(out, run, at, moment));
        })
    };
    let with = played(Run::With, true)?;
    let without = played(Run::Without, false)?;
    let (ours, others) = Summary::of_both(&with, &without);
    for (run, summary) in [(Run::With, ours), (Run::Without, others)] {
        pen.write(|out| lines::summary(out, run, &summary));
    }
    pen.finish()?;
    Ok((with, without))
}
