//! `cargo xtask test`: everything that has to hold before a change is taken, in one command, cheapest first.
//!
//! The list of steps is data. A step either passes, fails and ends the run, or says why it did not run; nothing is tried
//! twice. What a step proves is decided elsewhere (tests, lints, `tidy`, `docs`); here is only the order and the account.
//!
//! Nothing is built twice for want of care: lints and documentation share the metadata of all dependencies, because this
//! crate asks for tokio's `test-util` and so every selection of packages that contains it resolves to the same features;
//! all tests come from one build, whichever step runs them. Built twice is only what has to be: for the lints without
//! code, for the tests with it, and the shipped binary with optimisation.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use clap::builder::PossibleValuesParser;
use spotalis_e2e::{cargo, forget_this_package};
use spotalis_rig::Binaries;
use tokio::time::Instant;

use crate::workspace::Workspace;
use crate::{deny, docs, tidy};

/// What to run.
#[derive(Debug, Args)]
pub struct TestOptions {
    /// Only these steps.
    #[arg(long, num_args = 1.., value_name = "STEP", value_parser = step_names())]
    only: Vec<String>,
    /// All but these steps.
    #[arg(long, num_args = 1.., value_name = "STEP", value_parser = step_names())]
    skip: Vec<String>,
    /// Say what the steps are, and run none.
    #[arg(long)]
    list: bool,
}

/// One thing that has to hold.
struct Step {
    name: &'static str,
    /// What it proves, for `--list`.
    proves: &'static str,
    run: fn(&mut Session) -> Result<Outcome>,
}

/// How a step ended that did not fail.
enum Outcome {
    Passed,
    Skipped(String),
}

/// All steps in order. A new one is one more row.
const STEPS: &[Step] = &[
    Step { name: "fmt", proves: "every file is formatted", run: fmt },
    Step { name: "tidy", proves: "the rules of the house that no compiler knows", run: tidy_step },
    Step { name: "docs", proves: "the generated reference pages are those of the code", run: docs_step },
    Step { name: "alone", proves: "crates without a client or a clock build by themselves", run: alone },
    Step { name: "deny", proves: "licences, sources, duplicates and advisories of the dependencies", run: deny_step },
    Step { name: "clippy", proves: "no lint of the workspace is broken", run: clippy },
    Step { name: "doc", proves: "the documentation of every crate builds and its links lead somewhere", run: doc },
    Step { name: "unit", proves: "the tests that need nothing but this machine's CPU", run: unit },
    Step { name: "release", proves: "the binary builds as it ships", run: release },
    Step { name: "count", proves: "an admission takes as many instructions as it did", run: count },
    Step { name: "programs", proves: "the programs of the rig are there, built if need be", run: programs },
    Step { name: "up", proves: "`cargo xtask up` leads to exact splits on nodes that Karpenter makes", run: up },
    Step { name: "rig", proves: "the tests against a real control plane", run: rig },
];

/// The crates whose tests need a control plane.
const ON_THE_RIG: [&str; 3] = ["spotalis-rig", "spotalis-e2e", "spotalis-bench"];

/// Of these, the programs that take longest: begun first, none of them is what is waited for at the end.
const LONG: [&str; 3] = ["--test karpenter", "--test rebalance", "--test admission"];

/// So many of them run at the same time.
const LANES: usize = 2;

/// Crates that must build with nothing but their own features: another crate's would hide that `core` can read no clock.
const ALONE: [&str; 2] = ["spotalis-core", "spotalis-config"];

fn step_names() -> PossibleValuesParser {
    PossibleValuesParser::new(STEPS.iter().map(|step| step.name))
}

/// Runs the steps, or lists them.
pub fn run(options: &TestOptions) -> Result<()> {
    let TestOptions { only, skip, list } = options;
    if *list {
        return print_list();
    }
    let chosen = |step: &&Step| {
        let named = |names: &[String]| names.iter().any(|name| name == step.name);
        (only.is_empty() || named(only)) && !named(skip)
    };
    let mut session = Session::new()?;
    let begun = Instant::now();
    let mut account = Vec::new();
    let mut failure = None;
    for step in STEPS.iter().filter(chosen) {
        session.begin(step.name)?;
        let started = Instant::now();
        let ended = (step.run)(&mut session);
        let took = started.elapsed();
        match ended {
            Ok(Outcome::Passed) => account.push((step.name, took, "passed".to_owned())),
            Ok(Outcome::Skipped(why)) => account.push((step.name, took, format!("skipped: {why}"))),
            Err(error) => {
                account.push((step.name, took, "FAILED".to_owned()));
                failure =
                    Some(error.context(format!("step {} failed; its log is {}", step.name, session.log.display())));
                break;
            }
        }
    }
    print_account(&account, begun.elapsed(), session.tally)?;
    failure.map_or(Ok(()), Err)
}

fn print_list() -> Result<()> {
    let mut out = io::stdout().lock();
    for Step { name, proves, run: _ } in STEPS {
        writeln!(out, "{name:<10} {proves}")?;
    }
    Ok(())
}

fn print_account(account: &[(&str, Duration, String)], total: Duration, tally: Tally) -> Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out)?;
    for (name, took, ended) in account {
        writeln!(out, "{name:<10} {:>7.1} s  {ended}", took.as_secs_f64())?;
    }
    writeln!(out, "{:<10} {:>7.1} s", "all", total.as_secs_f64())?;
    writeln!(out, "{} passed, {} failed", tally.passed, tally.failed)?;
    Ok(())
}

/// Tests by how they ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// So many passed.
    pub passed: u64,
    /// So many did not.
    pub failed: u64,
}

impl Tally {
    /// Reads libtest's closing line, as `test result: ok. 3 passed; 0 failed; 0 ignored; …`.
    pub fn of(line: &str) -> Option<Self> {
        let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
        let mut words = counts.split("; ").map(|count| count.split_once(' '));
        let mut next = |wanted: &str| {
            let (number, word) = words.next()??;
            if word == wanted { number.parse().ok() } else { None }
        };
        Some(Self { passed: next("passed")?, failed: next("failed")? })
    }

    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

/// One program of tests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestProgram {
    package: String,
    /// The directory of its package, where cargo would start it.
    home: PathBuf,
    /// As cargo is told to run only this one.
    selector: String,
    executable: PathBuf,
}

/// One run of the steps.
struct Session {
    workspace: Workspace,
    /// The log of the present step.
    log: PathBuf,
    programs: Option<Vec<TestProgram>>,
    /// Why there can be no control plane here.
    no_rig: Option<String>,
    tally: Tally,
}

impl Session {
    fn new() -> Result<Self> {
        let workspace = Workspace::read()?;
        Ok(Self { workspace, log: PathBuf::new(), programs: None, no_rig: None, tally: Tally::default() })
    }

    fn begin(&mut self, step: &str) -> Result<()> {
        let logs = self.workspace.target.join("xtask-test");
        fs::create_dir_all(&logs).with_context(|| format!("cannot make {}", logs.display()))?;
        self.log = logs.join(format!("{step}.log"));
        File::create(&self.log).with_context(|| format!("cannot write {}", self.log.display()))?;
        writeln!(io::stdout().lock(), "\n=== {step}")?;
        Ok(())
    }

    fn cargo(&self, arguments: &[&str]) -> Command {
        let mut command = cargo();
        command.args(arguments).current_dir(&self.workspace.root);
        command
    }

    /// Runs a command, showing and keeping what it prints; `Err` names the command if it fails.
    fn must(&mut self, command: &mut Command) -> Result<()> {
        let shown = shown(command);
        if self.follow(command)? { Ok(()) } else { bail!("this command failed: {shown}") }
    }

    /// Runs a command, showing, keeping and counting what it prints; whether it succeeded.
    fn follow(&mut self, command: &mut Command) -> Result<bool> {
        let mut log = File::options().append(true).open(&self.log)?;
        let shown = shown(command);
        writeln!(log, "$ {shown}")?;
        let (reader, writer) = io::pipe()?;
        let mut child = command
            .stdin(Stdio::null())
            .stdout(writer.try_clone()?)
            .stderr(writer)
            .spawn()
            .with_context(|| format!("cannot start: {shown}"))?;
        // The command holds this process's ends of the pipe; without them only the child keeps it open.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        for line in BufReader::new(reader).split(b'\n') {
            let line = String::from_utf8_lossy(&line?).into_owned();
            writeln!(io::stdout().lock(), "{line}")?;
            writeln!(log, "{line}")?;
            if let Some(tally) = Tally::of(&line) {
                self.tally.add(tally);
            }
        }
        Ok(child.wait()?.success())
    }

    /// The programs of all tests, built the first time they are asked for.
    fn programs(&mut self) -> Result<Vec<TestProgram>> {
        if let Some(programs) = &self.programs {
            return Ok(programs.clone());
        }
        let mut build = self.cargo(&["test", "--workspace", "--no-run"]);
        self.must(&mut build)?;
        // Said again for programs to read; there is nothing left to build.
        let mut listing = self.cargo(&["test", "--workspace", "--no-run", "--message-format", "json", "--quiet"]);
        let listed = listing.output().with_context(|| format!("cannot start: {}", shown(&listing)))?;
        if !listed.status.success() {
            bail!("this command failed: {}", shown(&listing));
        }
        let told = String::from_utf8(listed.stdout).context("cargo's messages are not UTF-8")?;
        let programs: Vec<TestProgram> = told.lines().filter_map(test_program).collect();
        self.programs = Some(programs.clone());
        Ok(programs)
    }

    /// Runs all test programs of some packages, also after one has failed.
    fn test(&mut self, wanted: impl Fn(&str) -> bool) -> Result<()> {
        let mut failed = Vec::new();
        for program in self.programs()?.into_iter().filter(|program| wanted(&program.package)) {
            writeln!(io::stdout().lock(), "\n--- {}", program.name())?;
            if !self.follow(&mut program.command(&[]))? {
                failed.push(program.again());
            }
        }
        all_passed(&failed)
    }

    /// As [`Self::test`], but two programs at a time, for they spend most of theirs waiting. What each prints is shown when it
    /// has ended.
    fn test_side_by_side(&mut self, mut programs: Vec<TestProgram>, environment: &[(&str, &Path)]) -> Result<()> {
        programs.sort_by_key(|program| !LONG.contains(&program.selector.as_str()));
        let waiting = Mutex::new(VecDeque::from(programs));
        let (ended, endings) = mpsc::channel();
        let mut failed = Vec::new();
        std::thread::scope(|scope| {
            for _ in 0..LANES {
                let (waiting, ended) = (&waiting, ended.clone());
                scope.spawn(move || {
                    let next = || waiting.lock().ok()?.pop_front();
                    while let Some(program) = next() {
                        let output = program.command(environment).stdin(Stdio::null()).output();
                        // Nobody listens any more if the account of another one could not be written.
                        let _ = ended.send((program, output));
                    }
                });
            }
            drop(ended);
            for (program, output) in endings {
                let output = output.with_context(|| format!("cannot start {}", program.name()))?;
                self.account_for(&program, &output)?;
                if !output.status.success() {
                    failed.push(program.again());
                }
            }
            anyhow::Ok(())
        })?;
        all_passed(&failed)
    }

    /// Shows, keeps and counts what a program has printed.
    fn account_for(&mut self, program: &TestProgram, output: &Output) -> Result<()> {
        let said = [&output.stdout[..], &output.stderr[..]].map(String::from_utf8_lossy);
        let text = format!("\n--- {}\n{}{}", program.name(), said[0], said[1]);
        io::stdout().lock().write_all(text.as_bytes())?;
        File::options().append(true).open(&self.log)?.write_all(text.as_bytes())?;
        text.lines().filter_map(Tally::of).for_each(|tally| self.tally.add(tally));
        Ok(())
    }
}

impl TestProgram {
    fn name(&self) -> String {
        format!("{} {}", self.package, self.selector)
    }

    /// How it is run by hand.
    fn again(&self) -> String {
        format!("cargo test -p {}", self.name())
    }

    /// As cargo would start it.
    pub fn command(&self, environment: &[(&str, &Path)]) -> Command {
        let mut command = Command::new(&self.executable);
        forget_this_package(&mut command);
        command.current_dir(&self.home).envs(environment.iter().copied());
        command
    }
}

fn all_passed(failed: &[String]) -> Result<()> {
    if failed.is_empty() { Ok(()) } else { bail!("tests failed; to see them again: {}", failed.join("; ")) }
}

/// The test program that one of cargo's messages tells of.
pub fn test_program(message: &str) -> Option<TestProgram> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    let text = |pointer: &str| message.pointer(pointer).and_then(serde_json::Value::as_str);
    let is_test = message.pointer("/profile/test").and_then(serde_json::Value::as_bool)?;
    if text("/reason") != Some("compiler-artifact") || !is_test {
        return None;
    }
    let home = Path::new(text("/manifest_path")?).parent()?.to_owned();
    let name = text("/target/name")?;
    let selector = match text("/target/kind/0")? {
        "lib" => "--lib".to_owned(),
        kind => format!("--{kind} {name}"),
    };
    // `path+file:///…/crates/core#spotalis-core@0.1.0`, or `…#0.1.0` where the directory has the package's name.
    let (place, version) = text("/package_id")?.rsplit_once('#')?;
    let package = version.split_once('@').map_or_else(|| place.rsplit('/').next(), |(package, _)| Some(package))?;
    Some(TestProgram { package: package.to_owned(), home, selector, executable: text("/executable")?.into() })
}

/// The command as one would type it.
fn shown(command: &Command) -> String {
    let variables = command
        .get_envs()
        .filter_map(|(name, value)| Some(format!("{}='{}'", name.to_string_lossy(), value?.to_string_lossy())));
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let words = std::iter::once(program).chain(command.get_args()).map(|word| word.to_string_lossy().into_owned());
    variables.chain(words).collect::<Vec<_>>().join(" ")
}

fn fmt(session: &mut Session) -> Result<Outcome> {
    let mut command = session.cargo(&["fmt", "--all", "--check"]);
    session.must(&mut command)?;
    Ok(Outcome::Passed)
}

fn tidy_step(session: &mut Session) -> Result<Outcome> {
    tidy::run(&session.workspace)?;
    Ok(Outcome::Passed)
}

fn docs_step(session: &mut Session) -> Result<Outcome> {
    docs::check(&session.workspace.root)?;
    Ok(Outcome::Passed)
}

/// Each for itself: several at once would share their features.
fn alone(session: &mut Session) -> Result<Outcome> {
    for package in ALONE {
        let mut command = session.cargo(&["check", "--package", package]);
        session.must(&mut command)?;
    }
    Ok(Outcome::Passed)
}

fn deny_step(session: &mut Session) -> Result<Outcome> {
    let program = deny::obtain(|install| session.must(install))?;
    let root = session.workspace.root.clone();
    let mut check = Command::new(&program);
    session.must(check.args(["check", "licenses", "bans", "sources"]).current_dir(&root))?;
    // The advisories come from a git repository, which closed networks do not reach.
    let mut fetch = Command::new(&program);
    if !session.follow(fetch.args(["fetch", "db"]).env("GIT_TERMINAL_PROMPT", "0").current_dir(&root))? {
        writeln!(io::stdout().lock(), "advisories: skipped, the advisory database cannot be fetched from here")?;
        return Ok(Outcome::Passed);
    }
    let mut check = Command::new(&program);
    session.must(check.args(["check", "--disable-fetch", "advisories"]).current_dir(&root))?;
    Ok(Outcome::Passed)
}

/// With all targets, so that tests and benchmarks keep the same rules.
fn clippy(session: &mut Session) -> Result<Outcome> {
    let mut command = session.cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]);
    session.must(&mut command)?;
    Ok(Outcome::Passed)
}

/// Ours alone: the dependencies' documentation is theirs to keep.
fn doc(session: &mut Session) -> Result<Outcome> {
    let mut command = session.cargo(&["doc", "--workspace", "--no-deps"]);
    session.must(command.env("RUSTDOCFLAGS", "-D warnings"))?;
    Ok(Outcome::Passed)
}

/// Examples in the documentation are tests, too, and have no program of their own.
fn unit(session: &mut Session) -> Result<Outcome> {
    session.test(|package| !ON_THE_RIG.contains(&package))?;
    let mut command = session.cargo(&["test", "--workspace", "--doc"]);
    session.must(&mut command)?;
    Ok(Outcome::Passed)
}

fn release(session: &mut Session) -> Result<Outcome> {
    let mut command = session.cargo(&["build", "--release", "--package", "spotalis"]);
    session.must(&mut command)?;
    Ok(Outcome::Passed)
}

/// The one benchmark that does not depend on the machine's mood.
fn count(_: &mut Session) -> Result<Outcome> {
    let Some(report) = spotalis_bench::count::run()? else {
        return Ok(Outcome::Skipped("valgrind is not installed, and it counts the instructions".to_owned()));
    };
    write!(io::stdout().lock(), "{report}")?;
    if report.holds() {
        Ok(Outcome::Passed)
    } else {
        bail!("if that is meant, write the new count into e2e/bench/src/count.rs")
    }
}

/// A step of its own, so that the minutes it takes the first time are not taken for the tests'.
fn programs(session: &mut Session) -> Result<Outcome> {
    match Binaries::obtain(true) {
        Ok(_) => Ok(Outcome::Passed),
        Err(error) if error.is_no_go() && !is_rig_required() => {
            session.no_rig = Some(error.to_string());
            Ok(Outcome::Skipped(error.to_string()))
        }
        Err(error) => Err(error.into()),
    }
}

/// As the rig itself reads it.
fn is_rig_required() -> bool {
    std::env::var_os("SPOTALIS_RIG_REQUIRED").is_some_and(|value| !value.is_empty() && value != "0")
}

/// What a new user does first, by the same program as this one.
fn up(session: &mut Session) -> Result<Outcome> {
    if let Some(why) = session.no_rig.clone() {
        return Ok(Outcome::Skipped(why));
    }
    let mut command = Command::new(std::env::current_exe().context("where is this program?")?);
    session.must(command.args(["up", "--once"]).current_dir(session.workspace.root.clone()))?;
    Ok(Outcome::Passed)
}

/// Against the shipped binary.
fn rig(session: &mut Session) -> Result<Outcome> {
    if let Some(why) = session.no_rig.clone() {
        return Ok(Outcome::Skipped(why));
    }
    let binary = session.workspace.target.join("release").join("spotalis");
    if !binary.is_file() {
        bail!("{} is not there; run the step `release` first", binary.display());
    }
    let mut programs = session.programs()?;
    programs.retain(|program| ON_THE_RIG.contains(&&*program.package));
    session.test_side_by_side(programs, &[("SPOTALIS_BIN", &binary)])?;
    Ok(Outcome::Passed)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn libtests_closing_line_is_counted() {
        let line = "test result: FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s";
        assert_eq!(Tally::of(line), Some(Tally { passed: 12, failed: 3 }));
        let line = "test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s";
        assert_eq!(Tally::of(line), Some(Tally::default()));
        for line in ["test foo ... ok", "test result: ", "test result: ok. many passed; 0 failed"] {
            assert_eq!(Tally::of(line), None, "{line}");
        }
    }

    #[test]
    fn cargos_messages_name_the_test_programs() {
        let message = |id: &str, test: bool, kind: &str| {
            serde_json::json!({
                "reason": "compiler-artifact", "package_id": id, "manifest_path": "/w/crates/core/Cargo.toml",
                "target": { "kind": [kind], "name": "spotalis_core" }, "profile": { "test": test },
                "executable": "/w/target/debug/deps/x-1"
            })
            .to_string()
        };
        let program = |package: &str, selector: &str| TestProgram {
            package: package.to_owned(),
            home: "/w/crates/core".into(),
            selector: selector.to_owned(),
            executable: "/w/target/debug/deps/x-1".into(),
        };
        let id = "path+file:///w/crates/core#spotalis-core@0.1.0";
        assert_eq!(test_program(&message(id, true, "lib")), Some(program("spotalis-core", "--lib")));
        assert_eq!(
            test_program(&message("path+file:///w/xtask#0.1.0", true, "test")),
            Some(program("xtask", "--test spotalis_core"))
        );
        assert_eq!(test_program(&message(id, false, "bin")), None);
        assert_eq!(test_program(r#"{"reason":"build-finished","success":true}"#), None);
    }

    #[test]
    fn step_names_are_distinct() {
        let names: BTreeSet<&str> = STEPS.iter().map(|step| step.name).collect();
        assert_eq!(names.len(), STEPS.len());
    }
}
