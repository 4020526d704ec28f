//! Holds every command of the documents and of the examples against what there is: each line of a `console` block that begins
//! with `$`. Our own commands are asked whether they know these words; of others' only those named here are used.

#![expect(clippy::unwrap_used, reason = "this file is a test; the lint knows that of functions marked as such alone")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use spotalis_core::policy::keys::{self, Known};

/// Commands of others, by how they begin, and what makes sure that they do what the text says.
const OF_OTHERS: &[(&str, &str)] = &[
    ("cargo test -p spotalis-core", "part of `cargo xtask test`"),
    ("cargo build --release --package spotalis", "the step `release` of `cargo xtask test`"),
    ("kubectl apply --recursive --filename examples", "`cargo xtask up` applies them"),
    ("kubectl apply --filename e2e/manifests/rbac.yaml", "every test on the rig begins with it"),
    ("kubectl create namespace ", "kubectl's own"),
    ("kubectl create deployment ", "kubectl's own"),
    ("kubectl label namespace ", "the key is looked up below"),
    ("kubectl label deployment ", "the key is looked up below"),
    ("kubectl annotate deployment ", "the keys are looked up below"),
    ("kubectl get pods ", "the key is looked up below"),
    ("kubectl get events ", "the reason is looked up below"),
];

/// What introduces a command of the binary: the workspace runs it by default.
const BINARY: [&str; 3] = ["cargo run --release -- ", "cargo run -- ", "spotalis "];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn pages(directory: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            pages(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
}

/// Where each command stands, and its words. Commands joined by `&&` are several.
fn documented() -> Vec<(String, String)> {
    let root = root();
    let mut found = vec![root.join("README.md"), root.join("CONTRIBUTING.md"), root.join("ARCHITECTURE.md")];
    pages(&root.join("docs"), &mut found);
    pages(&root.join("examples"), &mut found);
    let mut commands = Vec::new();
    for page in found {
        let text = std::fs::read_to_string(&page).unwrap();
        let mut in_console = false;
        for (index, line) in text.lines().enumerate() {
            if let Some(language) = line.trim_start().strip_prefix("```") {
                in_console = language == "console";
            } else if let (true, Some(command)) = (in_console, line.trim_start().strip_prefix("$ ")) {
                let place = format!("{}:{}", page.strip_prefix(&root).unwrap().display(), index + 1);
                commands.extend(command.split(" && ").map(|command| (place.clone(), command.trim().to_owned())));
            }
        }
    }
    commands
}

/// Whether a program of ours understands these words. Asked for help at their end, it checks them and does nothing else.
fn is_understood(program: &Path, words: &str) -> Result<(), String> {
    let mut command = Command::new(program);
    command.args(words.split_whitespace()).arg("--help").stdin(Stdio::null());
    let output = command.output().map_err(|error| format!("{}: {error}", program.display()))?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

/// The binary beside this test's own program; built if a run of this test alone has not done so.
fn binary() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let profile =
        own.ancestors().find(|directory| directory.ends_with("debug") || directory.ends_with("release")).unwrap();
    let binary = profile.join("spotalis");
    if !binary.is_file() {
        let mut build = spotalis_e2e::cargo();
        build.args(["build", "--package", "spotalis"]).current_dir(root());
        assert!(build.status().unwrap().success());
    }
    binary
}

fn check(command: &str) -> Result<(), String> {
    if let Some(words) = command.strip_prefix("cargo xtask ") {
        return is_understood(Path::new(env!("CARGO_BIN_EXE_xtask")), words);
    }
    if let Some(words) = BINARY.iter().find_map(|begin| command.strip_prefix(begin)) {
        // What it is piped into is not ours.
        return is_understood(&binary(), words.split(" | ").next().unwrap_or(words));
    }
    if OF_OTHERS.iter().any(|(begin, _)| command.starts_with(begin)) {
        return Ok(());
    }
    Err("no test runs this; use a command that is, or name it in OF_OTHERS with what makes sure of it".to_owned())
}

/// Keys and reasons that a command speaks of.
fn check_words(command: &str) -> Result<(), String> {
    for word in command.split([' ', ',']) {
        let key = word.split_once('=').map_or(word, |(key, _)| key);
        if key.starts_with(keys::PREFIX) && matches!(keys::look_up(key), Known::Unknown(_)) {
            return Err(format!("there is no key {key}"));
        }
        if let Some(reason) = word.strip_prefix("reason=")
            && !spotalis_core::reason::REASONS.iter().any(|doc| doc.code == reason && doc.event.is_some())
        {
            return Err(format!("no Event has the reason {reason}"));
        }
    }
    Ok(())
}

#[test]
fn every_documented_command_exists() {
    let commands = documented();
    assert!(commands.len() > 10, "only {} commands found: is the search still right?", commands.len());
    let wrong: Vec<String> = commands
        .iter()
        .filter_map(|(place, command)| {
            let error = check(command).and_then(|()| check_words(command)).err()?;
            Some(format!("{place}: `{command}`: {error}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The page of the configuration has its flags by hand.
#[test]
fn the_documented_flags_are_those_of_every_command() {
    let help = Command::new(binary()).args(["status", "--help"]).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let (_, global) = help.split_once("\nOptions of every command:\n").expect("the heading of the global flags");
    let page = std::fs::read_to_string(root().join("docs/reference/configuration.md")).unwrap();
    let flag = |line: &str| line.split_whitespace().next().unwrap_or_default().trim_matches('`').to_owned();
    let documented: Vec<String> = page.lines().filter_map(|line| line.strip_prefix("| `--")).map(flag).collect();
    let known: Vec<String> = global.lines().filter_map(|line| line.trim_start().strip_prefix("--")).map(flag).collect();
    assert!(!known.is_empty(), "{help}");
    assert_eq!(documented, known);
}

#[test]
fn wrong_commands_are_found() {
    for command in ["cargo xtask dance", "cargo xtask rig up --loudly", "kubectl delete namespace shop", "rm -r target"]
    {
        assert!(check(command).is_err(), "{command}");
    }
    for command in ["kubectl label deployment web spotalis.io/enable=true", "kubectl get events reason=Rebalance"] {
        assert!(check_words(command).is_err(), "{command}");
    }
}
