//! `cargo xtask tidy`: the rules of the house that neither compiler nor lints know.
//!
//! A rule is a plain function from what was read (manifests, files) to complaints; reading is done in one place, before. A
//! rule has no exceptions but those listed here with a reason, and an exception that nothing needs any more is a complaint
//! itself. The workspace is held to the rules by a test of this module, too, so plain `cargo test` finds what they find.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use spotalis_core::class::{CapacityClass, CapacityClasses, Preset, Toleration};

use crate::workspace::{Member, Workspace};

/// For every crate of ours, the crates of ours it may need. Pointing back, or sideways between the engines, is an error;
/// so is a crate that is not listed, because somebody has to decide where it belongs.
const DIRECTIONS: &[(&str, &[&str])] = &[
    ("spotalis-core", &[]),
    ("spotalis-config", &["spotalis-core"]),
    ("spotalis-kube", &["spotalis-core"]),
    ("spotalis-runtime", &["spotalis-core"]),
    ("spotalis-controller", &["spotalis-core", "spotalis-kube", "spotalis-runtime"]),
    ("spotalis-webhook", &["spotalis-core", "spotalis-kube", "spotalis-runtime"]),
    (
        "spotalis-instance",
        &[
            "spotalis-core",
            "spotalis-config",
            "spotalis-kube",
            "spotalis-runtime",
            "spotalis-controller",
            "spotalis-webhook",
        ],
    ),
    // The world does not know whose rules it is tried with.
    ("embedded-cluster", &[]),
    (
        "spotalis-sim",
        &["embedded-cluster", "spotalis-config", "spotalis-runtime", "spotalis-webhook", "spotalis-instance"],
    ),
    (
        "spotalis",
        &[
            "embedded-cluster",
            "spotalis-sim",
            "spotalis-core",
            "spotalis-config",
            "spotalis-kube",
            "spotalis-runtime",
            "spotalis-controller",
            "spotalis-webhook",
            "spotalis-instance",
            "spotalis-sim",
            "embedded-cluster",
        ],
    ),
    // What judges the product from outside shares only its vocabulary, how it is registered and what it can be told.
    ("spotalis-rig", &[]),
    (
        "spotalis-e2e",
        &[
            "embedded-cluster",
            "spotalis-core",
            "spotalis-config",
            "spotalis-kube",
            "spotalis-webhook",
            "spotalis-rig",
            "spotalis-sim",
        ],
    ),
    ("spotalis-bench", &["spotalis-rig", "spotalis-e2e"]),
    (
        "xtask",
        &[
            "spotalis-core",
            "spotalis-config",
            "spotalis-runtime",
            "spotalis-controller",
            "spotalis-webhook",
            "spotalis-rig",
            "spotalis-e2e",
            "spotalis-bench",
            "spotalis-sim",
        ],
    ),
];

/// The one file in which keys of ours are written out.
const KEYS: &str = "crates/core/src/policy/keys.rs";

/// The file of the keys that others own.
const KEYS_OF_OTHERS: &str = "crates/kube/src/names.rs";

/// This file, which has to name what it forbids.
const THIS: &str = "xtask/src/tidy.rs";

/// Files that write out a name beginning like a key, and why they may.
const NAMES_LIKE_KEYS: &[(&str, &str, &str)] = &[(
    "crates/runtime/src/events.rs",
    "spotalis.io/controller",
    "the reporter of Events, which is on no object of a user",
)];

/// The most lines a file has outside its tests.
const MOST_LINES: usize = 900;

/// Files longer than that, and why.
const LONG: &[(&str, &str)] = &[];

/// Words in the names of types that say nothing about what a type is.
const EMPTY_WORDS: [&str; 4] = ["Manager", "Helper", "Util", "Utils"];

/// Something that has to be mended.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Complaint {
    /// The file, from the root of the workspace.
    file: String,
    /// The line, from 1; 0 is the whole file.
    line: usize,
    /// What is wrong, and what to do about it.
    what: String,
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, what } = self;
        match line {
            0 => write!(f, "{file}: {what}"),
            line => write!(f, "{file}:{line}: {what}"),
        }
    }
}

/// A text file of the workspace.
#[derive(Clone, Debug)]
struct SourceFile {
    /// From the root, with `/`.
    path: String,
    text: String,
}

impl SourceFile {
    fn is_rust(&self) -> bool {
        has_extension(&self.path, "rs")
    }

    /// A file that is no part of what ships.
    fn is_test(&self) -> bool {
        ["/tests/", "/benches/", "/examples/"].iter().any(|place| self.path.contains(place))
            || ["/tests.rs", "/fixture.rs"].iter().any(|name| self.path.ends_with(name))
    }

    /// Its lines with their numbers, up to the module of tests.
    fn product(&self) -> impl Iterator<Item = (usize, &str)> {
        let until = if self.is_test() { 0 } else { usize::MAX };
        let lines: Vec<&str> = self.text.lines().take(until).collect();
        // `mod tests;` names another file; `mod tests {` is the end of what ships in this one.
        let opens_tests = |pair: &[&str]| pair[0].starts_with("#[cfg(test)]") && pair[1].ends_with('{');
        let end = lines.windows(2).position(opens_tests).unwrap_or(lines.len());
        lines.into_iter().take(end).enumerate().map(|(index, line)| (index + 1, line))
    }

    fn complain(&self, line: usize, what: impl Into<String>) -> Complaint {
        Complaint { file: self.path.clone(), line, what: what.into() }
    }
}

/// Holds the workspace to the rules.
pub fn run(workspace: &Workspace) -> Result<()> {
    let complaints = check(workspace)?;
    if complaints.is_empty() {
        return Ok(());
    }
    let told: Vec<String> = complaints.iter().map(ToString::to_string).collect();
    bail!("the house is not tidy:\n{}", told.join("\n"))
}

fn check(workspace: &Workspace) -> Result<BTreeSet<Complaint>> {
    let mut files = Vec::new();
    read_below(&workspace.root, &workspace.root, &workspace.target, &mut files)?;
    let mut complaints = directions(&workspace.members);
    complaints.extend(lints(&workspace.root, &workspace.members)?);
    complaints.extend(linked_decisions(&files));
    complaints.extend(documented_keys(&files));
    complaints.extend(broken_links(&workspace.root, &files));
    complaints.extend(unneeded_exceptions(&files));
    for file in &files {
        complaints.extend(marks(file));
        complaints.extend(machine_paths(file));
        if file.is_rust() {
            complaints.extend(opening(file));
            complaints.extend(length(file));
            complaints.extend(keys(file));
            complaints.extend(names(file));
        }
    }
    Ok(complaints.into_iter().collect())
}

/// All text of the workspace, without what was built and what git keeps.
fn read_below(root: &Path, directory: &Path, target: &Path, files: &mut Vec<SourceFile>) -> Result<()> {
    let entries = fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))?;
    let mut paths: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    paths.sort();
    for path in paths {
        if path.is_dir() {
            if path != target && !path.ends_with(".git") && !path.ends_with("target") {
                read_below(root, &path, target, files)?;
            }
        } else if is_written_here(&path) {
            // Files come and go while somebody works; one that is gone has nothing to complain about.
            let Ok(text) = fs::read_to_string(&path) else { continue };
            let path = path.strip_prefix(root).context("a file outside the workspace")?;
            let path = path.components().map(|part| part.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/");
            files.push(SourceFile { path, text });
        }
    }
    Ok(())
}

/// Text by people, not by a tool.
fn is_written_here(path: &Path) -> bool {
    let extensions = ["rs", "md", "toml", "yaml", "yml", "sh", "json", "tpl", "mod"];
    let name = path.file_name().unwrap_or_default();
    path.extension().map_or(name == "run", |extension| extensions.iter().any(|known| extension == *known))
}

fn has_extension(path: &str, extension: &str) -> bool {
    Path::new(path).extension().is_some_and(|found| found == extension)
}

/// Which crate needs which.
fn directions(members: &[Member]) -> Vec<Complaint> {
    let allowed: BTreeMap<&str, &[&str]> = DIRECTIONS.iter().copied().collect();
    let ours: BTreeSet<&str> = members.iter().map(|member| member.name.as_str()).collect();
    let complaint =
        |member: &Member, what: String| Complaint { file: format!("manifest of {}", member.name), line: 0, what };
    let mut complaints = Vec::new();
    for member in members {
        let Some(allowed) = allowed.get(member.name.as_str()) else {
            let what = "this crate is new here; say in xtask/src/tidy.rs, DIRECTIONS, which of ours it may need";
            complaints.push(complaint(member, what.to_owned()));
            continue;
        };
        for needed in member.needs.union(&member.tests_need).filter(|needed| ours.contains(needed.as_str())) {
            if needed != &member.name && !allowed.contains(&needed.as_str()) {
                let what = format!("must not depend on {needed}; dependencies point one way, see ARCHITECTURE.md");
                complaints.push(complaint(member, what));
            }
        }
    }
    complaints
}

/// Every crate takes the lints of the workspace.
fn lints(root: &Path, members: &[Member]) -> Result<Vec<Complaint>> {
    let mut complaints = Vec::new();
    for member in members {
        let text = fs::read_to_string(&member.manifest)
            .with_context(|| format!("cannot read {}", member.manifest.display()))?;
        if !takes_workspace_lints(&text) {
            let path = member.manifest.strip_prefix(root).unwrap_or(&member.manifest);
            let what = "takes no lints; add `[lints]` with `workspace = true`".to_owned();
            complaints.push(Complaint { file: path.display().to_string(), line: 0, what });
        }
    }
    Ok(complaints)
}

fn takes_workspace_lints(manifest: &str) -> bool {
    let mut lines = manifest.lines().map(str::trim).skip_while(|line| *line != "[lints]").skip(1);
    lines.find(|line| !line.is_empty() && !line.starts_with('#')) == Some("workspace = true")
}

/// A file says first what it is for.
fn opening(file: &SourceFile) -> Option<Complaint> {
    let opens = file.text.lines().next().is_some_and(|line| line.starts_with("//! "));
    (!opens).then(|| {
        file.complain(1, "opens without `//!`: say first what the file decides or does, and what it must not do")
    })
}

/// What is left to do belongs into the tracker; a mark in the text must say where.
fn marks(file: &SourceFile) -> Vec<Complaint> {
    let words = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("X", "XX")];
    let is_marked = |line: &str| {
        words.iter().any(|word| {
            line.match_indices(word).any(|(at, _)| {
                let (before, after) = (&line[..at], &line[at + word.len()..]);
                let alone = !before.ends_with(is_word) && !after.starts_with(is_word);
                let number = after.trim_start_matches(['(', ' ', ':']).strip_prefix('#');
                alone && !number.is_some_and(|number| number.starts_with(|c: char| c.is_ascii_digit()))
            })
        })
    };
    let lines = file.text.lines().enumerate().filter(|(_, line)| is_marked(line));
    lines
        .map(|(index, _)| file.complain(index + 1, "a mark of unfinished work without the number of an issue"))
        .collect()
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// A file that one can hold in the head.
fn length(file: &SourceFile) -> Option<Complaint> {
    let lines = file.product().count();
    let long = lines > MOST_LINES && !LONG.iter().any(|(path, _)| *path == file.path);
    long.then(|| {
        file.complain(0, format!("{lines} lines outside tests, more than {MOST_LINES}; cut it where it has a seam"))
    })
}

/// Keys are written out in one place, so that they are spelt in one way.
fn keys(file: &SourceFile) -> Vec<Complaint> {
    // The tests on the rig and the judge of simulations write keys as users do: what they spell out, a wrong constant
    // cannot make right.
    let outside = ["e2e/", "crates/sim/"].iter().any(|place| file.path.starts_with(place));
    if file.path == KEYS || file.path == THIS || outside {
        return Vec::new();
    }
    let stray = file.product().filter(|(_, line)| !line.trim_start().starts_with("//")).filter_map(|(number, line)| {
        let literal = key_literal(line)?;
        let named = NAMES_LIKE_KEYS.iter().any(|(path, name, _)| *path == file.path && *name == literal);
        (!named)
            .then(|| file.complain(number, format!("writes out {literal}; take it from spotalis_core::policy::keys")))
    });
    stray.collect()
}

/// A literal of the line that begins like one of our keys.
fn key_literal(line: &str) -> Option<&str> {
    let prefix = "\"spotalis.io/";
    let from = line.find(prefix)? + 1;
    let literal = &line[from..];
    Some(&literal[..literal.find('"').unwrap_or(literal.len())])
}

/// A type is called after what it is.
fn names(file: &SourceFile) -> Vec<Complaint> {
    let kinds = ["struct ", "enum ", "trait ", "type "];
    let is_empty = |line: &str| {
        let line = line.trim_start().trim_start_matches("pub(crate) ").trim_start_matches("pub(super) ");
        let line = line.trim_start_matches("pub ");
        kinds.iter().find_map(|kind| line.strip_prefix(kind)).is_some_and(|rest| {
            let name = rest.split(|c| !is_word(c)).next().unwrap_or_default();
            EMPTY_WORDS.iter().any(|word| has_word(name, word))
        })
    };
    let lines = file.text.lines().enumerate().filter(|(_, line)| is_empty(line));
    lines
        .map(|(index, _)| file.complain(index + 1, "a name that says nothing; call the type after what it is"))
        .collect()
}

/// Whether `word` is one of the words of a camel-case name.
fn has_word(name: &str, word: &str) -> bool {
    name.match_indices(word).any(|(at, _)| !name[at + word.len()..].starts_with(|c: char| c.is_lowercase()))
}

/// Nothing here knows on which machine it was written.
fn machine_paths(file: &SourceFile) -> Vec<Complaint> {
    let places = [concat!("/wo", "rk/"), concat!("/ho", "me/"), concat!("/ro", "ot/"), concat!("/Us", "ers/")];
    let begins_there = |line: &str| {
        places.iter().any(|place| {
            line.match_indices(place).any(|(at, _)| !line[..at].ends_with(|c: char| is_word(c) || "./-}~".contains(c)))
        })
    };
    let lines = file.text.lines().enumerate().filter(|(_, line)| begins_there(line));
    lines.map(|(index, _)| file.complain(index + 1, "names a place on somebody's machine")).collect()
}

/// A decision that the index does not lead to is not found again.
fn linked_decisions(files: &[SourceFile]) -> Vec<Complaint> {
    const ADR: &str = "docs/adr/";
    let index = files.iter().find(|file| file.path == "docs/adr/README.md").map_or("", |file| &file.text);
    let decisions = files.iter().filter_map(|file| Some((file, file.path.strip_prefix(ADR)?)));
    decisions
        .filter(|(_, name)| *name != "README.md" && !index.contains(&format!("({name})")))
        .map(|(file, _)| file.complain(0, "is not linked from docs/adr/README.md"))
        .collect()
}

/// A key that is not in the table is not known to anybody who reads it.
fn documented_keys(files: &[SourceFile]) -> Vec<Complaint> {
    let Some(page) = files.iter().find(|file| file.path == "docs/reference/labels-and-annotations.md") else {
        return Vec::new();
    };
    let is_missing = |key: &str| !page.text.contains(&format!("`{key}"));
    let written = files.iter().filter(|file| file.path == KEYS || file.path == KEYS_OF_OTHERS).flat_map(|file| {
        file.product().filter_map(move |(number, line)| {
            let (_, literal) = line.strip_prefix("pub const ")?.split_once(": &str = \"")?;
            Some((file, number, literal.split('"').next()?))
        })
    });
    let mut complaints: Vec<Complaint> = written
        .filter(|(_, _, key)| is_missing(key))
        .map(|(file, number, key)| file.complain(number, format!("{key} is not in {}", page.path)))
        .collect();
    for preset in Preset::ALL {
        let CapacityClasses { spot, on_demand } = CapacityClasses::preset(preset);
        for class in [spot, on_demand] {
            let CapacityClass { selector, tolerations } = class;
            let keys = selector.requirements.into_iter().map(|requirement| requirement.key.to_string());
            let tainted = tolerations.iter().filter_map(|Toleration { key, value, .. }| {
                Some(format!("{}={}", key.as_deref()?, value.as_deref().unwrap_or_default()))
            });
            for text in keys.chain(tainted).filter(|text| is_missing(text)) {
                complaints.push(page.complain(0, format!("{text} of preset {} is not there", preset.as_str())));
            }
        }
    }
    complaints
}

/// A link to a page that is not there.
fn broken_links(root: &Path, files: &[SourceFile]) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for file in files.iter().filter(|file| has_extension(&file.path, "md")) {
        let directory = root.join(&file.path).parent().map(Path::to_path_buf).unwrap_or_default();
        for (index, line) in file.text.lines().enumerate() {
            for target in links(line) {
                if !directory.join(target).exists() {
                    complaints.push(file.complain(index + 1, format!("leads to {target}, which is not there")));
                }
            }
        }
    }
    complaints
}

/// The files that a line of Markdown links to.
fn links(line: &str) -> impl Iterator<Item = &str> {
    let targets = line.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    let files = targets.map(|(target, _)| target.split_once('#').map_or(target, |(file, _)| file));
    files.filter(|file| !file.is_empty() && !file.contains("://"))
}

/// Exceptions that nothing needs any more.
fn unneeded_exceptions(files: &[SourceFile]) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    let mut complain = |what: String| {
        complaints.push(Complaint { file: THIS.to_owned(), line: 0, what });
    };
    let file = |path: &str| files.iter().find(|file| file.path == path);
    for (path, name, _) in NAMES_LIKE_KEYS {
        let needed = file(path).is_some_and(|file| file.product().any(|(_, line)| key_literal(line) == Some(name)));
        if !needed {
            complain(format!("{path} does not write out {name} any more; remove it from NAMES_LIKE_KEYS"));
        }
    }
    for (path, _) in LONG {
        if file(path).is_none_or(|file| file.product().count() <= MOST_LINES) {
            complain(format!("{path} is not too long any more; remove it from LONG"));
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_house_is_tidy() {
        run(&Workspace::read().unwrap()).unwrap();
    }

    fn file(path: &str, text: &str) -> SourceFile {
        SourceFile { path: path.to_owned(), text: text.to_owned() }
    }

    fn member(name: &str, needs: &[&str], tests_need: &[&str]) -> Member {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Member { name: name.to_owned(), manifest: PathBuf::new(), needs: names(needs), tests_need: names(tests_need) }
    }

    #[test]
    fn dependencies_point_one_way() {
        let core = || member("spotalis-core", &["jiff"], &[]);
        let kube = || member("spotalis-kube", &["spotalis-core", "kube"], &[]);
        let count = |members: &[Member]| directions(members).len();
        assert_eq!(count(&[core(), kube()]), 0);
        assert_eq!(count(&[member("spotalis-core", &["spotalis-kube"], &[]), kube()]), 1);
        assert_eq!(count(&[member("spotalis-core", &[], &["spotalis-kube"]), kube()]), 1);
        let webhook = member("spotalis-webhook", &["spotalis-controller"], &[]);
        assert_eq!(count(&[webhook, member("spotalis-controller", &[], &[])]), 1);
        assert_eq!(count(&[member("spotalis-new", &[], &[])]), 1);
    }

    #[test]
    fn lints_are_taken_or_not() {
        for (manifest, taken) in [
            ("[package]\nname = \"a\"\n\n[lints]\nworkspace = true\n", true),
            ("[lints]\n# all of them\nworkspace = true", true),
            ("[package]\nname = \"a\"\n", false),
            ("[lints]\n[dependencies]\nworkspace = true", false),
        ] {
            assert_eq!(takes_workspace_lints(manifest), taken, "{manifest}");
        }
    }

    #[test]
    fn a_file_opens_with_its_purpose() {
        assert_eq!(opening(&file("a.rs", "//! Decides.\n")), None);
        for text in ["", "use std::fmt;", "// Decides.", "//!\n"] {
            assert!(opening(&file("a.rs", text)).is_some(), "{text:?}");
        }
    }

    #[test]
    fn marks_need_a_number() {
        let mark = concat!("TO", "DO");
        for (line, complaints) in [
            (format!("// {mark}: later"), 1),
            (format!("// {mark}(#12): later"), 0),
            (format!("// {mark} #12"), 0),
            (format!("// {mark}S are elsewhere"), 0),
            (format!("mktemp a{mark}a"), 0),
            (concat!("# FIX", "ME").to_owned(), 1),
            (concat!("mktemp -d X", "XXXXX").to_owned(), 0),
        ] {
            assert_eq!(marks(&file("a.rs", &line)).len(), complaints, "{line}");
        }
    }

    #[test]
    fn only_the_product_counts_as_long() {
        let lines = |count: usize| "x\n".repeat(count);
        assert_eq!(length(&file("a.rs", &lines(MOST_LINES))), None);
        assert!(length(&file("a.rs", &lines(MOST_LINES + 1))).is_some());
        let with_tests = |module: &str| format!("{}#[cfg(test)]\n{module}\n{}", lines(10), lines(MOST_LINES));
        assert_eq!(length(&file("a.rs", &with_tests("mod tests {"))), None);
        assert!(length(&file("a.rs", &with_tests("mod tests;"))).is_some(), "the tests are elsewhere");
        assert_eq!(length(&file("crates/a/tests/b.rs", &lines(MOST_LINES + 1))), None);
    }

    #[test]
    fn keys_are_written_out_in_one_place() {
        let line = "let key = \"spotalis.io/slot\";";
        assert_eq!(keys(&file("crates/kube/src/a.rs", line)).len(), 1);
        assert_eq!(keys(&file(KEYS, line)).len(), 0);
        assert_eq!(keys(&file("crates/kube/src/a.rs", &format!("/// {line}"))).len(), 0);
        assert_eq!(keys(&file("crates/kube/src/a.rs", &format!("#[cfg(test)]\nmod tests {{\n{line}\n}}"))).len(), 0);
        assert_eq!(keys(&file("crates/kube/tests/a.rs", line)).len(), 0);
        assert_eq!(keys(&file("e2e/src/a.rs", line)).len(), 0);
        let (path, name, _) = NAMES_LIKE_KEYS[0];
        assert_eq!(keys(&file(path, &format!("\"{name}\""))).len(), 0);
        assert_eq!(keys(&file(path, line)).len(), 1);
    }

    #[test]
    fn names_say_something() {
        for (line, complaints) in [
            (concat!("pub struct Pod", "Manager {"), 1),
            (concat!("pub(crate) enum Test", "Helper {}"), 1),
            ("pub struct Manage {", 0),
            ("use foo::PodManager;", 0),
            ("pub struct Occupancy {", 0),
            ("pub struct Utilization {", 0),
        ] {
            assert_eq!(names(&file("a.rs", line)).len(), complaints, "{line}");
        }
    }

    #[test]
    fn no_machine_is_named() {
        for (line, complaints) in [
            (concat!("path = \"/ho", "me/me/a\""), 1),
            (concat!("cd /wo", "rk/main"), 1),
            (concat!("https://example.org/ho", "me/"), 0),
            (concat!("crates/wo", "rk/src"), 0),
        ] {
            assert_eq!(machine_paths(&file("a.md", line)).len(), complaints, "{line}");
        }
    }

    #[test]
    fn keys_are_documented() {
        let files = [
            file(KEYS, "pub const SLOT: &str = \"spotalis.io/slot\";"),
            file(
                KEYS_OF_OTHERS,
                "pub const HASH: &str = \"pod-template-hash\";\npub const MAP: (&str, &str) = (\"a\", \"b\");",
            ),
        ];
        let missing = |text: &str| {
            let page = file("docs/reference/labels-and-annotations.md", text);
            let complaints = documented_keys(&[&files[..], &[page]].concat());
            complaints.into_iter().filter(|complaint| !complaint.what.contains("preset")).count()
        };
        assert_eq!(missing("| `spotalis.io/slot` | `pod-template-hash` |"), 0);
        assert_eq!(missing("| `spotalis.io/slat` | `pod-template-hash` |"), 1);
        assert_eq!(missing(""), 2);
    }

    #[test]
    fn links_to_files_are_followed() {
        let line = "[a](b.md), [c](https://example.org/d.md), [e](f.md#g) and [h](#i)";
        assert_eq!(links(line).collect::<Vec<_>>(), ["b.md", "f.md"]);
    }

    #[test]
    fn decisions_are_linked() {
        let index = file("docs/adr/README.md", "- [0001](0001-a.md)");
        let a = file("docs/adr/0001-a.md", "");
        let b = file("docs/adr/0002-b.md", "");
        assert_eq!(linked_decisions(&[index.clone(), a.clone()]).len(), 0);
        assert_eq!(linked_decisions(&[index, a, b.clone()]).len(), 1);
        assert_eq!(linked_decisions(&[b]).len(), 1);
    }
}
