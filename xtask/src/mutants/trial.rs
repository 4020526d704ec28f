//! Builds and runs what should catch a defect, and tells how that ended.
//!
//! A program that a defect keeps from ending is ended after a while, which counts as caught: a test that never ends is not
//! taken for one that passed. What a failure means is for the caller to say.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use spotalis_e2e::cargo;
use tokio::time::timeout;

use super::table::CatchingTest;
use crate::test::{Tally, test_program};

/// A test takes seconds.
const TEST_LIMIT: Duration = Duration::from_mins(2);
/// A simulated cluster takes seconds, too, and there may be [`SEEDS`] of them, without optimisation.
const SEEDS_LIMIT: Duration = Duration::from_mins(10);
/// So many seeds are tried, from the one that the table names: whenever the simulation learns something, another one may be
/// the one that tells.
pub const SEEDS: u64 = 20;
/// The last lines of what a program said, for people.
const TAIL: usize = 30;

/// Where things are built and run.
#[derive(Debug)]
pub struct Workshop {
    /// The sources.
    pub tree: PathBuf,
    /// Where cargo builds.
    pub target: PathBuf,
}

/// How a trial ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Nothing was caught.
    Passed,
    /// It was caught, by this.
    Caught(By),
    /// The run of this seed failed, but these properties do not tell of the defect.
    Otherwise(u64, BTreeSet<String>),
}

/// What caught a defect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum By {
    /// A test that failed.
    Test(CatchingTest),
    /// The run of this seed.
    Seed(u64),
    /// What did not end within that time.
    Silence(Duration),
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Test(test) => write!(f, "{}", test.name),
            Self::Seed(seed) => write!(f, "seed {seed}"),
            Self::Silence(limit) => write!(f, "not ending within {} s", limit.as_secs()),
        }
    }
}

impl Workshop {
    /// Runs a test; an error if it cannot be built or is not there.
    pub async fn test(&self, test: &CatchingTest) -> Result<End> {
        self.test_within(test, TEST_LIMIT).await
    }

    async fn test_within(&self, test: &CatchingTest, limit: Duration) -> Result<End> {
        let told = self.build(&[&["test", "--no-run"], &test.program()[..]].concat())?;
        let program =
            told.lines().find_map(test_program).with_context(|| format!("cargo built no program for {test}"))?;
        let mut command = program.command(&[]);
        command.args(["--exact", &test.name]);
        let Some(Said { success, text }) = said(command, limit).await? else {
            return Ok(End::Caught(By::Silence(limit)));
        };
        match text.lines().find_map(Tally::of) {
            Some(Tally { passed: 0, failed: 0 }) => bail!("there is no test {test}"),
            _ if success => Ok(End::Passed),
            // One that does not come to its closing line was ended by what it did.
            _ => Ok(End::Caught(By::Test(test.clone()))),
        }
    }

    /// Runs simulated clusters from this seed on, at most so many, until one goes wrong; it is caught if by this property.
    pub async fn simulate(&self, from: u64, seeds: u64, property: &str) -> Result<End> {
        let told = self.build(&["build", "--package", "spotalis-sim", "--bin", "simulate-seeds"])?;
        let program = told.lines().find_map(executable).context("cargo built no simulate-seeds")?;
        let mut command = Command::new(program);
        command.args([format!("--from={from}"), format!("--seeds={seeds}")]).args(["--jobs=1", "--as-it-is"]);
        let Some(Said { success, text }) = said(command, SEEDS_LIMIT).await? else {
            return Ok(End::Caught(By::Silence(SEEDS_LIMIT)));
        };
        if success {
            return Ok(End::Passed);
        }
        let failed = text.lines().find_map(|line| line.strip_prefix("FAILED: ")?.parse().ok());
        let failed = failed.with_context(|| format!("the simulation says no seed that failed:\n{}", tail(&text)))?;
        let properties = properties(&text);
        Ok(if properties.contains(property) {
            End::Caught(By::Seed(failed))
        } else {
            End::Otherwise(failed, properties)
        })
    }

    /// What cargo tells of what it built.
    fn build(&self, words: &[&str]) -> Result<String> {
        let mut command = cargo();
        command.args(words).args(["--quiet", "--message-format", "json-render-diagnostics"]);
        command.env("CARGO_TARGET_DIR", &self.target).current_dir(&self.tree).stdin(Stdio::null());
        let built = command.output().context("cannot start cargo")?;
        if !built.status.success() {
            let said = String::from_utf8_lossy(&built.stderr).into_owned();
            bail!("it does not build: cargo {}\n{}", words.join(" "), tail(&said));
        }
        String::from_utf8(built.stdout).context("cargo's messages are not UTF-8")
    }
}

/// Those that were not kept: `  WRONG 2026-03-01T12:02:01Z P3: ...`
fn properties(text: &str) -> BTreeSet<String> {
    let wrongs = text.lines().filter_map(|line| line.trim_start().strip_prefix("WRONG "));
    let heads = wrongs.filter_map(|wrong| wrong.split_once(": "));
    heads.filter_map(|(head, _)| head.rsplit(' ').next()).map(str::to_owned).collect()
}

/// What a program said.
struct Said {
    success: bool,
    text: String,
}

/// Runs a program to its end; `None` if it had to be ended.
async fn said(command: Command, limit: Duration) -> Result<Option<Said>> {
    let mut command = tokio::process::Command::from(command);
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let Ok(output) = timeout(limit, output).await else { return Ok(None) };
    let output = output.context("cannot start what was built")?;
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    Ok(Some(Said { success: output.status.success(), text }))
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL)..].join("\n")
}

/// The program that one of cargo's messages tells of.
fn executable(message: &str) -> Option<PathBuf> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    Some(Path::new(message.get("executable")?.as_str()?).to_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::mutants::table::Defect;
    use crate::mutants::tree::Tree;

    const MANIFEST: &str = "[package]\nname = \"made-up\"\nedition = \"2024\"\n[workspace]\n";
    const SOURCE: &str = "pub fn half(n: u32) -> u32 {\n    let mut rest = n;\n    while rest > n / 2 {\n        rest -= 1;\n    }\n    \
                          rest\n}\n\n#[test]\nfn halves() {\n    assert_eq!(half(9), 4);\n}\n";

    /// A crate that only git and this test know.
    fn made_up() -> PathBuf {
        let root = std::env::temp_dir().join(format!("xtask-mutants-{}", std::process::id()));
        fs::create_dir_all(root.join("source/src")).unwrap();
        fs::write(root.join("source/Cargo.toml"), MANIFEST).unwrap();
        fs::write(root.join("source/src/lib.rs"), SOURCE).unwrap();
        let git = Command::new("git").args(["init", "--quiet"]).current_dir(root.join("source")).status().unwrap();
        assert!(git.success());
        root
    }

    fn defect(from: &str, to: &str) -> Defect {
        let test = CatchingTest { package: "made-up".to_owned(), target: None, name: "halves".to_owned() };
        let [name, harm] = ["a-defect", "Halves are wrong"].map(str::to_owned);
        Defect { name, harm, file: "src/lib.rs".to_owned(), from: from.to_owned(), to: to.to_owned(), test, seed: None }
    }

    #[tokio::test]
    async fn defects_are_made_caught_and_taken_back_in_a_copy() {
        let root = made_up();
        let copy = root.join("copy");
        fs::create_dir_all(&copy).unwrap();
        fs::write(copy.join("left-behind.rs"), "").unwrap();
        let tree = Tree::copy(&root.join("source"), &copy).unwrap();
        assert!(!copy.join("left-behind.rs").exists());
        let workshop = Workshop { tree: tree.root().to_owned(), target: root.join("target") };
        let test = defect("", "").test;
        let short = Duration::from_secs(1);
        assert_eq!(workshop.test(&test).await.unwrap(), End::Passed);
        for (defect, limit, caught) in [
            (defect("n / 2", "n / 3"), TEST_LIMIT, By::Test(test.clone())),
            (defect("rest -= 1", "rest -= 0"), short, By::Silence(short)),
        ] {
            let made = tree.make(&defect).unwrap();
            assert_eq!(workshop.test_within(&test, limit).await.unwrap(), End::Caught(caught), "{defect:?}");
            made.take_back().unwrap();
            assert_eq!(fs::read_to_string(copy.join("src/lib.rs")).unwrap(), SOURCE);
        }
        let made = tree.make(&defect("n / 2", "n /")).unwrap();
        let error = workshop.test(&test).await.unwrap_err().to_string();
        assert!(error.contains("does not build") && error.contains("src/lib.rs"), "{error}");
        made.take_back().unwrap();
        let gone = CatchingTest { name: "thirds".to_owned(), ..test.clone() };
        assert!(workshop.test(&gone).await.unwrap_err().to_string().contains("no test made-up --lib thirds"));
        assert_eq!(workshop.test(&test).await.unwrap(), End::Passed);
        assert_eq!(fs::read_to_string(root.join("source/src/lib.rs")).unwrap(), SOURCE, "the sources are not touched");
        fs::remove_dir_all(root).unwrap();
    }
}
