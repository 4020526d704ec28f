//! `cargo xtask mutants`: makes the defects of `xtask/defects.yaml`, one at a time, and shows that each is caught.
//!
//! It works in a copy of the sources with a target directory of its own, so nobody's work is touched. First everything has to
//! pass without a defect: what fails anyway catches nothing. A defect counts as caught if everything that the table names
//! for it says so.

pub mod table;
mod tree;
mod trial;

use std::collections::BTreeSet;
use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use tokio::time::Instant;

use self::table::{CatchingTest, Defect, Simulated};
use self::tree::Tree;
use self::trial::{By, End, SEEDS, Workshop};
use crate::workspace::Workspace;

/// Which defects.
#[derive(Debug, Args)]
pub struct MutantsOptions {
    /// Only these.
    #[arg(long, num_args = 1.., value_name = "NAME", value_parser = known)]
    only: Vec<String>,
    /// Say what the defects are, and make none.
    #[arg(long)]
    list: bool,
}

fn known(name: &str) -> Result<String> {
    if table::read()?.iter().any(|defect| defect.name == name) {
        return Ok(name.to_owned());
    }
    bail!("there is no defect of this name; `cargo xtask mutants --list` names them")
}

/// Makes them, and tells whether each was caught.
pub fn run(options: &MutantsOptions) -> Result<ExitCode> {
    let MutantsOptions { only, list } = options;
    let mut table = table::read()?;
    if *list {
        return print_list(&table);
    }
    let workspace = Workspace::read()?;
    let wrongs = table::complaints(&table, &workspace);
    if !wrongs.is_empty() {
        bail!("{}", wrongs.join("\n"));
    }
    table.retain(|defect| only.is_empty() || only.contains(&defect.name));
    let place = workspace.target.join("mutants");
    let tree = Tree::copy(&workspace.root, &place.join("tree"))?;
    let workshop = Workshop { tree: tree.root().to_owned(), target: place.join("target") };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start a runtime")?;
    runtime.block_on(async {
        all_pass(&workshop, &table).await?;
        all_are_caught(&workshop, &tree, &table).await
    })
}

fn print_list(table: &[Defect]) -> Result<ExitCode> {
    let mut out = io::stdout().lock();
    for Defect { name, harm, .. } in table {
        writeln!(out, "{name:<40} {harm}")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs everything that is to catch a defect while there is none.
async fn all_pass(workshop: &Workshop, table: &[Defect]) -> Result<()> {
    let begun = Instant::now();
    let tests: BTreeSet<&CatchingTest> = table.iter().map(|defect| &defect.test).collect();
    let seeds: BTreeSet<u64> = table.iter().filter_map(|defect| Some(defect.seed.as_ref()?.number)).collect();
    for test in &tests {
        doing(&format!("without a defect: {test}"))?;
        if let End::Caught(by) = workshop.test(test).await? {
            bail!("without a defect: {test} fails ({by}), so it can catch none; mend that first");
        }
    }
    for seed in &seeds {
        doing(&format!("without a defect: seed {seed}"))?;
        if workshop.simulate(*seed, 1, "").await? != End::Passed {
            bail!("without a defect: the run of seed {seed} fails, so it can catch none; mend that first");
        }
    }
    done(&format!(
        "without a defect: {} tests and {} seeds pass, {:.0} s",
        tests.len(),
        seeds.len(),
        begun.elapsed().as_secs_f64()
    ))
}

async fn all_are_caught(workshop: &Workshop, tree: &Tree, table: &[Defect]) -> Result<ExitCode> {
    let mut caught = 0;
    for (number, defect) in table.iter().enumerate() {
        doing(&format!("{} of {}: {}", number + 1, table.len(), defect.name))?;
        let begun = Instant::now();
        let made = tree.make(defect)?;
        let ends = try_to_catch(workshop, defect).await;
        made.take_back()?;
        let ends = ends.with_context(|| format!("{}: {}", table::FILE, defect.name))?;
        caught += u32::from(ends.iter().all(|(_, end)| matches!(end, End::Caught(_))));
        let told: Vec<String> = ends.iter().map(|(by, end)| account(by, end)).collect();
        done(&format!("{:<40} {} ({:.0} s)", defect.name, told.join(", "), begun.elapsed().as_secs_f64()))?;
    }
    done(&format!("{caught} of {} caught", table.len()))?;
    Ok(if caught as usize == table.len() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// By what it should be caught, and what came of that.
async fn try_to_catch(workshop: &Workshop, defect: &Defect) -> Result<Vec<(By, End)>> {
    let mut ends = vec![(By::Test(defect.test.clone()), workshop.test(&defect.test).await?)];
    if let Some(Simulated { number, property }) = &defect.seed {
        ends.push((By::Seed(*number), workshop.simulate(*number, SEEDS, property).await?));
    }
    Ok(ends)
}

fn account(by: &By, end: &End) -> String {
    match end {
        End::Passed => format!("NOT CAUGHT by {by}"),
        End::Otherwise(seed, properties) => format!("NOT CAUGHT by {by}: seed {seed} tells of {properties:?} alone"),
        End::Caught(really) if really == by => format!("caught by {by}"),
        End::Caught(By::Seed(seed)) => format!("caught by seed {seed}, no longer by {by}: say so in {}", table::FILE),
        End::Caught(really) => format!("caught by {by}: {really}"),
    }
}

/// What is under way, where somebody watches.
fn doing(what: &str) -> Result<()> {
    let mut err = io::stderr().lock();
    if err.is_terminal() {
        write!(err, "\r\x1b[K{what}")?;
        err.flush()?;
    }
    Ok(())
}

/// A line that stays.
fn done(what: &str) -> Result<()> {
    doing("")?;
    writeln!(io::stdout().lock(), "{what}")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_account_says_what_caught_it_and_what_did_not() {
        let test = By::Test(CatchingTest::try_from("spotalis-core --lib split::tests::table".to_owned()).unwrap());
        let silence = By::Silence(Duration::from_mins(2));
        for (by, end, told) in [
            (&test, End::Passed, "NOT CAUGHT by split::tests::table"),
            (&test, End::Caught(test.clone()), "caught by split::tests::table"),
            (&test, End::Caught(silence), "caught by split::tests::table: not ending within 120 s"),
            (&By::Seed(7), End::Caught(By::Seed(7)), "caught by seed 7"),
            (
                &By::Seed(7),
                End::Otherwise(8, ["P10".to_owned()].into()),
                "NOT CAUGHT by seed 7: seed 8 tells of {\"P10\"} alone",
            ),
            (
                &By::Seed(7),
                End::Caught(By::Seed(9)),
                "caught by seed 9, no longer by seed 7: say so in xtask/defects.yaml",
            ),
        ] {
            assert_eq!(account(by, &end), told);
        }
    }
}
