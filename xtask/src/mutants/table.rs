//! The table of defects: data, and what has to hold of it so that it cannot rot.
//!
//! A defect is one text in one file and what somebody could have written in its place. Nothing is built or run here, and no
//! file is written.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::workspace::Workspace;

/// The file that the table is read from, from the root.
pub const FILE: &str = "xtask/defects.yaml";

const TABLE: &str = include_str!("../../defects.yaml");

/// Something that could be wrong in the product.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Defect {
    /// Its name, for `--only`.
    pub name: String,
    /// What would go wrong for a user, in a sentence.
    pub harm: String,
    /// The file that it is made in, from the root.
    pub file: String,
    /// The text there, which occurs once.
    pub from: String,
    /// What stands in its place.
    pub to: String,
    /// The cheapest test that catches it.
    pub test: CatchingTest,
    /// A simulated cluster that catches it as well.
    pub seed: Option<Simulated>,
}

/// A simulated cluster, and what it has to say of the defect.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Simulated {
    /// The number of its plan.
    pub number: u64,
    /// The property that is not kept, as `P3`: whatever else goes wrong does not tell of this defect.
    pub property: String,
}

/// A test, as `cargo test -p` is told to run it alone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct CatchingTest {
    /// Its package.
    pub package: String,
    /// The program of tests; absent, the one of the library.
    pub target: Option<String>,
    /// Its name, with its modules.
    pub name: String,
}

/// The text that a defect replaces is not there exactly once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stale {
    defect: String,
    file: String,
    times: usize,
}

impl std::error::Error for Stale {}

impl fmt::Display for Stale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { defect, file, times } = self;
        write!(
            f,
            "{FILE}: {defect}: its `from` has to be in {file} exactly once and is there {times} times; say what has become \
             of that text, or choose more of it"
        )
    }
}

impl TryFrom<String> for CatchingTest {
    type Error = String;

    fn try_from(words: String) -> Result<Self, String> {
        let (package, target, name) = match words.split(' ').collect::<Vec<_>>()[..] {
            [package, "--lib", name] => (package, None, name),
            [package, "--test", target, name] => (package, Some(target.to_owned()), name),
            _ => return Err(format!("{words:?} is neither `PACKAGE --lib NAME` nor `PACKAGE --test PROGRAM NAME`")),
        };
        Ok(Self { package: package.to_owned(), target, name: name.to_owned() })
    }
}

impl CatchingTest {
    /// The program of tests, as cargo is told to build only that.
    pub fn program(&self) -> Vec<&str> {
        let target = self.target.as_deref().map_or(vec!["--lib"], |target| vec!["--test", target]);
        [vec!["--package", &self.package], target].concat()
    }

    /// The name of its function.
    fn function(&self) -> &str {
        self.name.rsplit("::").next().unwrap_or(&self.name)
    }

    /// Whether there is a function of this name where the test should be, in the package with this directory.
    fn exists(&self, package: &Path) -> bool {
        let files = match &self.target {
            None => rust_files(&package.join("src")),
            Some(target) => vec![package.join("tests").join(target).with_extension("rs")],
        };
        let begins = format!("fn {}(", self.function());
        files.iter().any(|file| fs::read_to_string(file).is_ok_and(|text| text.contains(&begins)))
    }
}

impl fmt::Display for CatchingTest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { package, target, name } = self;
        match target {
            None => write!(f, "{package} --lib {name}"),
            Some(target) => write!(f, "{package} --test {target} {name}"),
        }
    }
}

impl Defect {
    /// The text of its file with the defect in it.
    pub fn put_into(&self, text: &str) -> Result<String, Stale> {
        match text.matches(&self.from).count() {
            1 => Ok(text.replacen(&self.from, &self.to, 1)),
            times => Err(Stale { defect: self.name.clone(), file: self.file.clone(), times }),
        }
    }
}

/// Reads the table.
pub fn read() -> Result<Vec<Defect>> {
    parse(TABLE)
}

fn parse(text: &str) -> Result<Vec<Defect>> {
    serde_saphyr::from_str(text).with_context(|| format!("{FILE} is not a table of defects"))
}

/// What is wrong with the table, each with what to do about it.
pub fn complaints(table: &[Defect], workspace: &Workspace) -> Vec<String> {
    let packages: BTreeMap<&str, &Path> =
        workspace.members.iter().filter_map(|member| Some((member.name.as_str(), member.manifest.parent()?))).collect();
    let mut names = BTreeSet::new();
    let mut wrongs = Vec::new();
    for defect in table {
        let Defect { name, harm, file, from, to, test, seed: _ } = defect;
        let mut wrong = |what: String| wrongs.push(format!("{FILE}: {name}: {what}"));
        if !names.insert(name) {
            wrong("there are two of this name".to_owned());
        }
        if harm.is_empty() || harm.ends_with('.') {
            wrong("`harm` is a sentence without its full stop".to_owned());
        }
        if from == to {
            wrong("`to` is the same as `from`".to_owned());
        }
        if !packages.get(test.package.as_str()).is_some_and(|package| test.exists(package)) {
            wrong(format!("there is no test `{test}`; name the one that catches it now"));
        }
        match fs::read_to_string(workspace.root.join(file)) {
            Err(error) => wrong(format!("cannot read {file}: {error}")),
            Ok(text) => wrongs.extend(defect.put_into(&text).err().map(|stale| stale.to_string())),
        }
    }
    wrongs
}

/// The Rust files below a directory.
fn rust_files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path());
    entries
        .flat_map(|path| if path.is_dir() { rust_files(&path) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn defect(from: &str, to: &str) -> Defect {
        let text = format!(
            "- name: off-by-one\n  harm: One too many\n  file: a.rs\n  from: '{from}'\n  to: '{to}'\n  \
             test: spotalis-core --lib split::tests::table\n"
        );
        parse(&text).unwrap().remove(0)
    }

    #[test]
    fn the_table_is_true_of_the_code() {
        let table = read().unwrap();
        assert_eq!(complaints(&table, &Workspace::read().unwrap()), [""; 0]);
        assert!(table.len() >= 25, "{} defects", table.len());
        let simulated = table.iter().filter(|defect| defect.seed.is_some()).count();
        assert!(simulated >= 8, "{simulated} of them are caught by a simulation");
    }

    #[test]
    fn a_defect_goes_where_its_text_is_once() {
        let defect = defect("n < limit", "n <= limit");
        assert_eq!(defect.put_into("if n < limit {}").unwrap(), "if n <= limit {}");
        for (text, times) in [("if n <= limit {}", "0 times"), ("n < limit && n < limit", "2 times")] {
            let stale = defect.put_into(text).unwrap_err().to_string();
            assert!(stale.contains("off-by-one") && stale.contains("a.rs") && stale.contains(times), "{stale}");
        }
    }

    #[test]
    fn a_table_that_rots_is_told_row_by_row() {
        let workspace = Workspace::read().unwrap();
        let mut stale = defect("never written", "anywhere");
        stale.file = "crates/core/src/split.rs".to_owned();
        let same = Defect { name: "same".to_owned(), to: stale.from.clone(), ..stale.clone() };
        let gone = Defect { file: "crates/core/src/gone.rs".to_owned(), name: "gone".to_owned(), ..stale.clone() };
        let mut untested = Defect { name: "untested".to_owned(), ..stale.clone() };
        untested.test.name = "split::tests::chair".to_owned();
        let wrongs = complaints(&[stale.clone(), stale, same, gone, untested], &workspace);
        for words in ["two of this name", "there 0 times", "same as `from`", "cannot read", "split::tests::chair"] {
            assert!(wrongs.iter().any(|wrong| wrong.contains(words)), "{words}: {wrongs:#?}");
        }
    }

    #[test]
    fn a_test_is_named_as_cargo_is_told() {
        let read = |words: &str| CatchingTest::try_from(words.to_owned());
        for words in ["spotalis-core --lib split::tests::table", "spotalis-kube --test watch one"] {
            assert_eq!(read(words).unwrap().to_string(), words);
        }
        assert_eq!(read("a --test b c").unwrap().program(), ["--package", "a", "--test", "b"]);
        for words in ["", "a --lib", "a --bin b c", "a b c d e"] {
            assert!(read(words).is_err(), "{words:?}");
        }
    }
}
