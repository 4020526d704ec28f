//! Runs sequences on both servers at once, counts, and makes of a difference the shortest sequence that shows it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use anyhow::Result;
use futures::future::LocalBoxFuture;
use kube::Client;
use serde_json::Value;
use tokio::time::Instant;

use super::compare::{Comparison, Difference};
use super::explained::{Case, EXPLAINED, explanation};
use super::generate::sequence;
use super::send::{Answer, Talk};
use super::step::{COMPACT, Step};

/// So long a shorter sequence is looked for.
const SHORTENING: Duration = Duration::from_secs(15);

/// A real API server, and the embedded one.
pub struct Worlds<'w> {
    /// The one that is right.
    pub real: Client,
    /// The one that is tried.
    pub here: Client,
    /// Makes both forget the past.
    pub compact: &'w Compact<'w>,
}

/// Makes two servers forget the past.
pub type Compact<'w> = dyn Fn() -> LocalBoxFuture<'w, Result<()>> + 'w;

/// What was sent and compared.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// By what they ask.
    pub requests: BTreeMap<&'static str, usize>,
    /// Answers that were compared.
    pub answers: usize,
    /// By the real server's code.
    pub codes: BTreeMap<u16, usize>,
    /// Events of watches that were compared.
    pub events: usize,
    /// Sequences.
    pub seeds: usize,
    /// Differences, by the line that explains them.
    pub explained: BTreeMap<usize, usize>,
}

impl Tally {
    /// Both together.
    pub fn add(&mut self, other: &Self) {
        let Self { requests, answers, codes, events, seeds, explained } = other;
        requests.iter().for_each(|(what, count)| *self.requests.entry(what).or_default() += count);
        codes.iter().for_each(|(code, count)| *self.codes.entry(*code).or_default() += count);
        explained.iter().for_each(|(line, count)| *self.explained.entry(*line).or_default() += count);
        self.answers += answers;
        self.events += events;
        self.seeds += seeds;
    }

    /// Requests of all kinds.
    pub fn sent(&self) -> usize {
        self.requests.values().sum()
    }

    /// The explanations that nothing needed.
    pub fn idle(&self) -> Vec<&'static str> {
        let lines = EXPLAINED.iter().enumerate().filter(|(line, _)| !self.explained.contains_key(line));
        lines.map(|(_, explained)| explained.what).collect()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let joined = |pairs: Vec<String>| pairs.join(", ");
        let counts =
            |pairs: &BTreeMap<&str, usize>| joined(pairs.iter().map(|(key, n)| format!("{key} {n}")).collect());
        let Self { requests, answers, codes, events, seeds, explained } = self;
        let codes = joined(codes.iter().map(|(code, count)| format!("{code} {count}")).collect());
        let explained =
            joined(explained.iter().map(|(line, count)| format!("{}: {count}", EXPLAINED[*line].what)).collect());
        write!(
            f,
            "{} requests ({}), {answers} answers compared ({codes}), {events} watch events compared, {seeds} seeds, \
             explained differences: {}",
            self.sent(),
            counts(requests),
            if explained.is_empty() { "none" } else { &explained }
        )
    }
}

/// A difference that nothing explains.
#[derive(Clone, Debug)]
pub struct Found {
    seed: Option<u64>,
    /// The request to which the answers, or the watch whose events, differ.
    number: usize,
    step: Step,
    difference: Difference,
}

impl Found {
    /// What was asked, and where the answers differ: the same for many that have one cause.
    pub fn place(&self) -> String {
        let at: Vec<&str> = self.difference.at.split('/').filter(|part| part.parse::<usize>().is_err()).collect();
        format!("{} {}", self.step.what, at.join("/"))
    }

    fn is_again(&self, (number, difference): &(usize, Difference)) -> bool {
        *number == self.number && difference.at == self.difference.at
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, number, step, difference } = self;
        write!(f, "{}, request {number}: {step}\n    differ {difference}", named(*seed))
    }
}

/// The shortest sequence that was found to show a difference.
#[derive(Clone, Debug)]
pub struct Shortest {
    found: Found,
    /// Numbered as in the whole sequence.
    steps: Vec<(usize, Step)>,
    answers: Option<(Answer, Answer)>,
}

impl fmt::Display for Shortest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { found, steps, answers } = self;
        writeln!(f, "{found}\n    in the shortest sequence that shows it:")?;
        for (number, step) in steps {
            writeln!(f, "    {number:3}. {step}")?;
        }
        if let Some((real, here)) = answers {
            write!(f, "    real answered {} {}\n    here answered {} {}", real.code, real.body, here.code, here.body)?;
        }
        Ok(())
    }
}

/// The namespace of a seed.
fn named(seed: Option<u64>) -> String {
    seed.map_or_else(|| "past".to_owned(), |seed| format!("seed-{seed}"))
}

/// What is done about watches.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Watches {
    /// Their events are compared.
    Awaited,
    /// The same, but one that is not ended by what is left of the sequence is given up soon.
    Hurried,
    Ignored,
}

impl Watches {
    const fn silence(self) -> Duration {
        match self {
            Self::Awaited => Duration::from_mins(1),
            Self::Hurried | Self::Ignored => Duration::from_secs(2),
        }
    }
}

struct Attempt {
    tally: Tally,
    found: Vec<(usize, Difference)>,
    /// Those that differ, by the request.
    answers: BTreeMap<usize, (Answer, Answer)>,
}

impl Worlds<'_> {
    /// Sends the requests of a seed, and tells what it counted and where the answers differ. Without a seed, those in the middle
    /// of which the past is forgotten; no others may be under way then.
    pub async fn try_seed(&self, seed: Option<u64>) -> Result<(Tally, Vec<Found>)> {
        let steps = sequence(seed);
        let Attempt { tally, found, answers: _ } =
            self.attempt(&named(seed), &steps, &BTreeSet::new(), Watches::Awaited).await?;
        let found = found.into_iter().map(|(number, difference)| {
            let step = steps[number].clone();
            Found { seed, number, step, difference }
        });
        Ok((tally, found.collect()))
    }

    /// Leaves out of a sequence what a difference does not need.
    pub async fn shorten(&self, found: Found) -> Result<Shortest> {
        let Found { seed, number, difference, .. } = &found;
        let steps = sequence(*seed);
        let is_watch = difference.at.starts_with("/events");
        let last = if is_watch { steps.len() - 1 } else { *number };
        let watches = if is_watch { Watches::Hurried } else { Watches::Ignored };
        let until = Instant::now() + SHORTENING;
        let mut skipped: BTreeSet<usize> = (last + 1..steps.len()).collect();
        let mut answers = None;
        // The namespace stays, what is asked at last is asked again, and watches have to end.
        let is_needed = |candidate: &usize| candidate == number || is_watch && steps[*candidate].marks();
        for candidate in (1..=last).rev().filter(|candidate| !is_needed(candidate)) {
            if Instant::now() > until {
                break;
            }
            let mut fewer = skipped.clone();
            fewer.insert(candidate);
            let namespace = format!("{}-{number}-without-{candidate}", named(*seed));
            let mut attempt = self.attempt(&namespace, &steps, &fewer, watches).await?;
            if attempt.found.iter().any(|other| found.is_again(other)) {
                skipped = fewer;
                answers = attempt.answers.remove(number);
            }
        }
        let steps = steps.into_iter().enumerate().filter(|(number, _)| !skipped.contains(number)).collect();
        Ok(Shortest { found, steps, answers })
    }

    async fn attempt(
        &self,
        namespace: &str,
        steps: &[Step],
        skipped: &BTreeSet<usize>,
        watches: Watches,
    ) -> Result<Attempt> {
        let mut real = Talk::new(self.real.clone(), namespace.to_owned(), watches.silence());
        let mut here = Talk::new(self.here.clone(), namespace.to_owned(), watches.silence());
        let mut comparison = Comparison::default();
        let mut attempt =
            Attempt { tally: Tally { seeds: 1, ..Tally::default() }, found: Vec::new(), answers: BTreeMap::new() };
        let mut is_apart = false;
        for (number, step) in steps.iter().enumerate() {
            if skipped.contains(&number) {
                real.skip();
                here.skip();
                continue;
            }
            if step.method == COMPACT {
                (self.compact)().await?;
                real.skip();
                here.skip();
                continue;
            }
            let (said, echoed) = tokio::try_join!(real.send(step), here.send(step))?;
            let differences = comparison.answers(&said, &echoed);
            attempt.tally.answers += 1;
            *attempt.tally.requests.entry(step.what).or_default() += 1;
            *attempt.tally.codes.entry(said.code).or_default() += 1;
            let before = attempt.found.len();
            attempt.judge(number, step, Some((&said, &echoed)), differences);
            // One did what the other refused: from here on they are two different stories.
            is_apart = (said.code < 300) != (echoed.code < 300) && !step.is_trial();
            if before < attempt.found.len() {
                attempt.answers.insert(number, (said, echoed));
            }
            if is_apart {
                break;
            }
        }
        if !is_apart && watches != Watches::Ignored {
            attempt.watches(comparison, real, here, steps).await?;
        }
        Ok(attempt)
    }
}

impl Attempt {
    fn judge(&mut self, number: usize, step: &Step, answers: Option<(&Answer, &Answer)>, differences: Vec<Difference>) {
        for difference in differences {
            match explanation(&Case { step, difference: &difference, answers }) {
                Some(line) => *self.tally.explained.entry(line).or_default() += 1,
                None => self.found.push((number, difference)),
            }
        }
    }

    async fn watches(&mut self, mut comparison: Comparison, real: Talk, here: Talk, steps: &[Step]) -> Result<()> {
        let (real, here): (Vec<(usize, Vec<Value>)>, _) = (real.events().await?, here.events().await?);
        for ((number, real), (_, here)) in real.iter().zip(&here) {
            let (count, differences) = comparison.events(real, here);
            self.tally.events += count;
            self.judge(*number, &steps[*number], None, differences);
        }
        Ok(())
    }
}
