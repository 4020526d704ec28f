//! Runs plans from seeds, and shows the first that fails, made as short as it gets; or plays one scenario, and tells what
//! happens in it. `cargo xtask sim` calls it.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use clap::Parser;
use mimalloc::MiMalloc;
use spotalis_sim::plan::Plan;
use spotalis_sim::play::{PlayError, Terms};
use spotalis_sim::run::{Outcome, run};
use spotalis_sim::scenario::Scenario;
use spotalis_sim::shrink::shrink;
use spotalis_sim::{embedded, enumerate, expect};
use tokio::time::Instant;

/// Runs Spotalis in simulated clusters, and holds it against its rules.
#[derive(Debug, Parser)]
struct Args {
    /// How many seeds.
    #[arg(long, default_value_t = 1_000)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Only this one, and tell what happens.
    #[arg(long, conflicts_with_all = ["seeds", "from"])]
    seed: Option<u64>,
    /// Instead of seeds: every request of a quiet run with everything that can go wrong with it, one at a time.
    #[arg(long, conflicts_with_all = ["seeds", "from", "seed"])]
    enumerate: bool,
    /// Instead of all that: this scenario, and tell what happens. Its seed is 0, or that of --seed.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seeds", "from", "enumerate"])]
    scenario: Option<PathBuf>,
    /// Show a run that fails as it is, and make it no shorter.
    #[arg(long)]
    as_it_is: bool,
    /// How many run at the same time.
    #[arg(long, default_value_t = 2)]
    jobs: u64,
}

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
    let plans: Box<dyn Fn(u64) -> Option<Plan> + Sync> = if args.enumerate {
        let plans = enumerate::plans();
        Box::new(move |number| plans.get(usize::try_from(number).ok()?).cloned())
    } else {
        let (from, count) = args.seed.map_or((args.from, args.seeds), |seed| (seed, 1));
        Box::new(move |number| (number < count).then(|| Plan::of(from + number)))
    };
    match all(&*plans, args.jobs, args.seed.is_some(), !args.as_it_is) {
        Ok(code) => code,
        // Nobody reads any more.
        Err(_) => ExitCode::FAILURE,
    }
}

/// Runs plans side by side until one fails.
fn all(plans: &(dyn Fn(u64) -> Option<Plan> + Sync), jobs: u64, tells: bool, shortens: bool) -> io::Result<ExitCode> {
    let (next, (ended, endings)) = (AtomicU64::new(0), mpsc::channel());
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            let (next, ended) = (&next, ended.clone());
            scope.spawn(move || {
                while let Some(plan) = plans(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = run(&plan);
                    if ended.send((plan, outcome)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(ended);
        let (mut runs, mut simulated, mut evictions, mut faults) = (0_u64, Duration::ZERO, 0, 0);
        for (plan, outcome) in endings {
            (runs, simulated) = (runs + 1, simulated + outcome.took);
            (evictions, faults) = (evictions + outcome.evictions.len(), faults + outcome.faults.len());
            if tells {
                write!(io::stdout().lock(), "{plan}")?;
                tell(&outcome)?;
            }
            if !outcome.wrongs.is_empty() {
                next.store(u64::MAX / 2, Ordering::Relaxed);
                failed(&plan, &outcome)?;
                if shortens {
                    shorten(&plan, &outcome)?;
                }
                return Ok(ExitCode::FAILURE);
            }
            progress(runs, begun)?;
        }
        let took = begun.elapsed().as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let rate = runs as f64 / took;
        writeln!(
            io::stdout().lock(),
            "{runs} runs in {took:.1} s, {rate:.1} a second, {:.0} times as fast as the clock: {:.1} simulated days, \
             {evictions} evictions, {faults} faults; nothing was wrong",
            simulated.as_secs_f64() / took,
            simulated.as_secs_f64() / 86_400.0
        )?;
        Ok(ExitCode::SUCCESS)
    })
}

/// Plays a scenario before the judge and tells what happens; what was not kept, or wrong, comes last.
fn play(file: &Path, seed: u64) -> io::Result<ExitCode> {
    let scenario = match read(file) {
        Ok(scenario) => scenario,
        Err(what) => {
            writeln!(io::stderr().lock(), "error: {what}")?;
            return Ok(ExitCode::from(USAGE));
        }
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
    let Outcome { wrongs, evictions, faults, calls, calm_after: _, digest, changes, took } = outcome;
    let mut out = io::stdout().lock();
    for (call, fault) in faults {
        writeln!(out, "  fault {:>5} {fault:?} of process {}: {} {}", call.number, call.process, call.site, call.name)?;
    }
    for eviction in evictions {
        writeln!(out, "  {} process {} evicts {}", eviction.at, eviction.process, eviction.pod)?;
    }
    for wrong in wrongs {
        writeln!(out, "  WRONG {wrong}")?;
    }
    writeln!(out, "  {} requests, {changes} changes, {took:?}, digest {digest:016x}", calls.len())
}

fn failed(plan: &Plan, outcome: &Outcome) -> io::Result<()> {
    writeln!(io::stdout().lock(), "\nFAILED: {}", plan.seed)?;
    write!(io::stdout().lock(), "{plan}")?;
    for wrong in &outcome.wrongs {
        writeln!(io::stdout().lock(), "  WRONG {wrong}")?;
    }
    Ok(())
}

fn shorten(plan: &Plan, outcome: &Outcome) -> io::Result<()> {
    writeln!(io::stdout().lock(), "making it shorter ...")?;
    let (plan, outcome) = shrink(plan, outcome, |_| ());
    write!(io::stdout().lock(), "{plan}")?;
    tell(&outcome)
}
