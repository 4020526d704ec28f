//! Runs plans from seeds or from a file, and shows the first that fails, made as short as it gets; or plays one scenario, and
//! tells what happens in it. `cargo xtask sim` calls it.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use clap::Parser;
use mimalloc::MiMalloc;
use spotalis_sim::plan::{Faults, Plan};
use spotalis_sim::play::{PlayError, Terms};
use spotalis_sim::run::{Outcome, run};
use spotalis_sim::scenario::Scenario;
use spotalis_sim::shrink::shrink;
use spotalis_sim::{embedded, enumerate, expect};
use tokio::time::Instant;

/// Runs Spotalis in simulated clusters, and holds it against its rules.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask sim")]
struct Args {
    /// How many seeds.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=FURTHEST))]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=FURTHEST))]
    from: u64,
    /// Only this one, and tell what happens.
    #[arg(long, conflicts_with_all = ["seeds", "from"])]
    seed: Option<u64>,
    /// Instead of seeds: every request of a quiet run with everything that can go wrong with it, one at a time.
    #[arg(long, conflicts_with_all = ["seeds", "from", "seed"])]
    enumerate: bool,
    /// Instead of seeds: the plan in this file, as one that fails is written down. Tells what happens.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seeds", "from", "seed", "enumerate"])]
    plan: Option<PathBuf>,
    /// Instead of all that: this scenario, and tell what happens. Its seed is 0, or that of --seed.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seeds", "from", "enumerate", "plan"])]
    scenario: Option<PathBuf>,
    /// Show a run that fails as it is, and make it no shorter.
    #[arg(long)]
    as_it_is: bool,
    /// Where a plan that fails is written down, to be run again by --plan.
    #[arg(long, value_name = "FILE", default_value = "target/failed-plan.json")]
    write: PathBuf,
    /// How many run at the same time.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=64))]
    jobs: u64,
}

/// Seeds beyond are seeds as well, but nobody comes so far.
const FURTHEST: u64 = u64::MAX / 4;

/// The exit code for words or files that cannot be used.
const USAGE: u8 = 2;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(file) = &args.scenario {
        // Nobody reads any more, if that cannot be written.
        return play(file, args.seed.unwrap_or(0)).unwrap_or(ExitCode::FAILURE);
    }
    let plans: Box<dyn Fn(u64) -> Option<Plan> + Sync> = if let Some(file) = &args.plan {
        match read_plan(file) {
            Ok(plan) => Box::new(move |number| (number == 0).then(|| plan.clone())),
            // Nobody reads any more, if that cannot be written.
            Err(what) => return usage(&what).unwrap_or(ExitCode::FAILURE),
        }
    } else if args.enumerate {
        let plans = enumerate::plans();
        Box::new(move |number| plans.get(usize::try_from(number).ok()?).cloned())
    } else {
        let (from, count) = args.seed.map_or((args.from, args.seeds), |seed| (seed, 1));
        Box::new(move |number| (number < count).then(|| Plan::of(from + number)))
    };
    // Nobody reads any more, if that cannot be written.
    all(&*plans, &args).unwrap_or(ExitCode::FAILURE)
}

/// What all runs so far amount to.
#[derive(Default)]
struct Sum {
    runs: u64,
    simulated: Duration,
    evictions: usize,
    faults: usize,
    /// The longest that a run needed to come to rest when everything was calm.
    rested_after: Duration,
}

/// Runs plans side by side until one fails.
fn all(plans: &(dyn Fn(u64) -> Option<Plan> + Sync), args: &Args) -> io::Result<ExitCode> {
    let tells = args.seed.is_some() || args.plan.is_some();
    let (next, (ended, endings)) = (AtomicU64::new(0), mpsc::channel());
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..args.jobs {
            let (next, ended) = (&next, ended.clone());
            scope.spawn(move || {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(plan) = plans(number) else { return };
                    let outcome = run(&plan);
                    if ended.send((number, plan, outcome)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(ended);
        let (mut sum, mut first) = (Sum::default(), None);
        for (number, plan, mut outcome) in endings {
            if let Some(idle) = idle_faults(&plan, &outcome).filter(|_| args.enumerate) {
                outcome.wrongs.push(idle);
            }
            sum.add(&outcome);
            if tells {
                write!(io::stdout().lock(), "{plan}")?;
                tell(&outcome)?;
            }
            if !outcome.wrongs.is_empty() {
                // Those under way come to their end: one that began before may fail as well.
                next.store(u64::MAX / 2, Ordering::Relaxed);
                first = first.filter(|(earlier, _, _)| *earlier < number).or(Some((number, plan, outcome)));
            }
            progress(sum.runs, begun)?;
        }
        if let Some((_, plan, outcome)) = first {
            failed(&plan, &outcome, args)?;
            return Ok(ExitCode::FAILURE);
        }
        sum.tell(begun.elapsed())?;
        Ok(ExitCode::SUCCESS)
    })
}

/// A fault that was planned and did not happen proves nothing.
fn idle_faults(plan: &Plan, outcome: &Outcome) -> Option<String> {
    let Faults::These(planned) = &plan.faults else { return None };
    let idle = planned.len().checked_sub(outcome.faults.len()).filter(|idle| *idle > 0)?;
    Some(format!("{idle} of the planned faults did not happen"))
}

impl Sum {
    fn add(&mut self, outcome: &Outcome) {
        self.runs += 1;
        self.simulated += outcome.took;
        self.evictions += outcome.evictions.len();
        self.faults += outcome.faults.len();
        self.rested_after = self.rested_after.max(outcome.rested_after.unwrap_or_default());
    }

    fn tell(&self, took: Duration) -> io::Result<()> {
        let Self { runs, simulated, evictions, faults, rested_after } = self;
        let (took, simulated) = (took.as_secs_f64(), simulated.as_secs_f64());
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let rate = *runs as f64 / took;
        writeln!(
            io::stdout().lock(),
            "{runs} runs in {took:.1} s, {rate:.1} a second, {:.0} times as fast as the clock: {:.1} simulated days, \
             {evictions} evictions, {faults} faults, at rest after {} min at most; nothing was wrong",
            simulated / took,
            simulated / 86_400.0,
            rested_after.as_secs() / 60
        )
    }
}

/// Plays a scenario before the judge and tells what happens; what was not kept, or wrong, comes last.
fn play(file: &Path, seed: u64) -> io::Result<ExitCode> {
    let scenario = match read(file) {
        Ok(scenario) => scenario,
        Err(what) => return usage(&what),
    };
    let mut out = io::stdout().lock();
    writeln!(out, "{}, seed {seed}: {}", scenario.name, scenario.about)?;
    let played = embedded::judged(&scenario, Terms { seed, with_spotalis: true }, |_, _| ());
    let (record, wrongs) = match played {
        Ok(played) => played,
        Err(error) => {
            writeln!(io::stderr().lock(), "error: {}: {error}", file.display())?;
            return Ok(match error {
                PlayError::Refused { .. } | PlayError::UnknownKind { .. } => ExitCode::from(USAGE),
                PlayError::Stage(_) => ExitCode::FAILURE,
            });
        }
    };
    for (at, moment) in &record.moments {
        writeln!(out, "{:>9.3} s  {moment}", at.as_secs_f64())?;
    }
    let broken = expect::broken(&scenario, &record);
    broken.iter().chain(&wrongs).try_for_each(|wrong| writeln!(out, "WRONG {wrong}"))?;
    if broken.is_empty() && wrongs.is_empty() {
        writeln!(out, "everything that is expected was kept, and nothing was wrong")?;
        return Ok(ExitCode::SUCCESS);
    }
    Ok(ExitCode::FAILURE)
}

fn usage(what: &str) -> io::Result<ExitCode> {
    writeln!(io::stderr().lock(), "error: {what}")?;
    Ok(ExitCode::from(USAGE))
}

fn read_plan(file: &Path) -> Result<Plan, String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    let plan = serde_json::from_str(&text);
    plan.map_err(|error| format!("{} is not a plan as a run that fails is written down: {error}", file.display()))
}

fn read(file: &Path) -> Result<Scenario, String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    let name = file.file_stem().unwrap_or_default().to_string_lossy();
    Scenario::read(&name, &file.display().to_string(), &text).map_err(|mistakes| mistakes.to_string())
}

fn progress(runs: u64, begun: Instant) -> io::Result<()> {
    let mut err = io::stderr().lock();
    if err.is_terminal() && runs.is_multiple_of(10) {
        write!(err, "\r{runs} runs, {:.0} s ", begun.elapsed().as_secs_f64())?;
    }
    Ok(())
}

fn tell(outcome: &Outcome) -> io::Result<()> {
    let Outcome { wrongs, evictions, faults, calls, calm_after: _, rested_after, digest, changes, took } = outcome;
    let mut out = io::stdout().lock();
    for (call, fault) in faults {
        writeln!(out, "  fault {fault:?}: {} {}", call.spot(), call.name)?;
    }
    for eviction in evictions {
        writeln!(out, "  {} process {} evicts {}", eviction.at, eviction.process, eviction.pod)?;
    }
    for wrong in wrongs {
        writeln!(out, "  WRONG {wrong}")?;
    }
    let rested = rested_after.map_or("never at rest".to_owned(), |after| format!("at rest after {after:?}"));
    writeln!(out, "  {} requests, {changes} changes, {took:?}, {rested}, digest {digest:016x}", calls.len())
}

/// Shows a run that failed, and the shortest that fails alike, and writes that down.
fn failed(plan: &Plan, outcome: &Outcome, args: &Args) -> io::Result<()> {
    writeln!(io::stdout().lock(), "\nFAILED: {}", plan.seed)?;
    write!(io::stdout().lock(), "{plan}")?;
    for wrong in &outcome.wrongs {
        writeln!(io::stdout().lock(), "  WRONG {wrong}")?;
    }
    if args.as_it_is {
        return written(plan, &args.write);
    }
    writeln!(io::stdout().lock(), "making it shorter ...")?;
    let (plan, outcome) = shrink(plan, outcome, |_| ());
    write!(io::stdout().lock(), "{plan}")?;
    tell(&outcome)?;
    written(&plan, &args.write)
}

fn written(plan: &Plan, file: &Path) -> io::Result<()> {
    let text = serde_json::to_string_pretty(plan).map_err(io::Error::other)?;
    match std::fs::write(file, text) {
        Ok(()) => writeln!(io::stdout().lock(), "to run it again: cargo xtask sim --plan {}", file.display()),
        Err(error) => writeln!(io::stderr().lock(), "cannot write {}: {error}", file.display()),
    }
}
