//! What can be said without a cluster: usage, configuration, and clusters that are not there.

mod common;

use std::net::TcpListener;

use common::{command, ended, file, kubeconfig, run, run_with};

#[test]
fn usage_is_explained_on_stderr_with_2() {
    for words in [
        &[][..],
        &["stats"],
        &["status", "--output", "xml"],
        &["status", "-n", "a", "-A"],
        &["explain", "workload"],
        &["explain", "workload", "web", "--if", "spot-percentage"],
        &["config", "print", "--defaults", "--effective"],
        &["completion", "cmd.exe"],
    ] {
        let ran = run(words);
        assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{words:?}: {}", ran.err);
        assert!(ran.err.contains("--help"), "{words:?}: {}", ran.err);
    }
}

#[test]
fn what_cannot_be_written_is_74_and_no_finding() {
    for words in [
        &["config", "schema"][..],
        &["completion", "bash"],
        &["demo"],
        &["demo", "--json"],
        &["demo", "--list"],
        &["simulate", "--print-trace"],
        &["simulate", "--print-trace", "--trace", "bursty"],
    ] {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let ran = ended(command(words).stdout(full));
        assert_eq!(ran.code, 74, "{words:?}: {}", ran.err);
        assert!(
            ran.err.starts_with("error: standard output cannot be written, and is not complete: No space"),
            "{}",
            ran.err
        );
    }
    let help = run(&["--help"]);
    assert!(help.out.contains("74 output that cannot be written"), "{}", help.out);
}

#[test]
fn help_and_version_are_data() {
    for words in [&["--help"][..], &["status", "--help"], &["explain", "workload", "--help"], &["--version"]] {
        let ran = run(words);
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{words:?}");
        assert!(!ran.out.is_empty());
    }
}

#[test]
fn a_hypothesis_that_makes_no_sense_is_refused_before_anything_is_asked() {
    for (word, says) in [
        ("spot-percentage=8O", "an integer from 0 to 100"),
        ("spot-precentage=80", "did you mean spotalis.io/spot-percentage?"),
    ] {
        let ran = run(&["explain", "workload", "web", "--if", word]);
        assert_eq!(ran.code, 2, "{}", ran.err);
        assert!(ran.err.contains(says), "{}", ran.err);
    }
    let ran = run(&["explain", "workload", "job/web"]);
    assert!(ran.code == 2 && ran.err.contains("use deployment or statefulset"), "{}", ran.err);
}

#[test]
fn mistakes_in_the_configuration_have_a_place() {
    let path = file("mistakes.yaml", "optIn: both\ncontroller:\n  resyncPeriod: 1s\n  wrokers: 5\n");
    let path = path.to_str().unwrap();
    for words in
        [&["status", "--config", path][..], &["config", "print", "--config", path], &["controller", "--config", path]]
    {
        let ran = run(words);
        assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{words:?}: {}", ran.err);
        for part in [&format!("{path}:3:"), &format!("{path}:4:"), "did you mean controller.workers?"] {
            assert!(ran.err.contains(part), "{part}: {}", ran.err);
        }
    }
    let ran = run_with(&["config", "print"], &[("SPOTALIS_CONFIG", path)]);
    assert!(ran.code == 2 && ran.err.contains(path), "{}", ran.err);
    let ran = run(&["status", "--log-level", "loud"]);
    assert!(ran.code == 2 && ran.err.contains("flag --log-level"), "{}", ran.err);
    let ran = run(&["status", "--config", "/nonexistent.yaml"]);
    assert!(ran.code == 2 && ran.err.contains("there is no such file"), "{}", ran.err);
}

#[test]
fn the_printed_configuration_is_a_configuration() {
    let defaults = run(&["config", "print", "--defaults"]);
    assert_eq!((defaults.code, defaults.err.as_str()), (0, ""));
    let path = file("round-trip.yaml", &defaults.out);
    let again = run(&["config", "print", "--effective", "--config", path.to_str().unwrap()]);
    assert_eq!((again.code, again.out), (0, defaults.out.clone()), "{}", again.err);

    let changed = run_with(
        &["config", "print", "--read-only", "-o", "json"],
        &[("SPOTALIS_CONTROLLER_WORKERS", "7"), ("SPOTALIS_CONFIG", path.to_str().unwrap())],
    );
    let value: serde_json::Value = serde_json::from_str(&changed.out).unwrap();
    assert_eq!((&value["controller"]["workers"], &value["readOnlyMode"]), (&7.into(), &true.into()));
    let untouched = run_with(&["config", "print", "--defaults"], &[("SPOTALIS_CONTROLLER_WORKERS", "7")]);
    assert_eq!(untouched.out, defaults.out);
}

#[test]
fn the_schema_and_the_completion_are_data() {
    let schema = run(&["config", "schema"]);
    let schema: serde_json::Value = serde_json::from_str(&schema.out).unwrap();
    assert!(schema["properties"]["optIn"].is_object());
    for shell in ["bash", "zsh", "fish"] {
        let ran = run(&["completion", shell]);
        assert!(ran.code == 0 && ran.out.contains("explain"), "{shell}");
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = command(&["config", "schema"]).stdout(writer).output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &[][..]));
}

#[test]
fn a_kubeconfig_that_cannot_be_used_is_named() {
    let garbage = file("garbage.kubeconfig", "clusters: [\n");
    let garbage = garbage.to_str().unwrap();
    for (words, part) in [
        (&["status", "--kubeconfig", "/nonexistent"][..], "/nonexistent"),
        (&["status", "--kubeconfig", garbage], garbage),
        (&["explain", "pod", "web-1", "--kubeconfig", garbage], garbage),
        (&["status"], "--kubeconfig"),
    ] {
        let ran = run(words);
        assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{words:?}: {}", ran.err);
        assert!(ran.err.starts_with("error: ") && ran.err.contains(part), "{words:?}: {}", ran.err);
    }
}

#[test]
fn a_server_that_is_not_there_is_3() {
    // The port was free a moment ago, and nobody listens on it now.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let path = kubeconfig("closed", &format!("http://{address}"));
    for words in [&["status"][..], &["explain", "workload", "web"], &["explain", "pod", "web-1"]] {
        let words: Vec<&str> = words.iter().copied().chain(["--kubeconfig", path.to_str().unwrap()]).collect();
        let ran = run(&words);
        assert_eq!((ran.code, ran.out.as_str()), (3, ""), "{words:?}: {}", ran.err);
        assert!(ran.err.contains(&address.to_string()) && ran.err.contains("`kubectl version`"), "{}", ran.err);
        assert_eq!(ran.err.lines().count(), 1, "one sentence and no log: {}", ran.err);
    }
}
