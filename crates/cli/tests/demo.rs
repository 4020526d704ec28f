//! `demo` as it is typed: in a pipe, for programs, into a file, with a door, and with everything that can be typed wrong.

#![expect(clippy::unwrap_used, reason = "this file is tests; the lint knows that of functions marked as such alone")]

mod common;

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use common::{command, run};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::Value;

#[test]
fn what_makes_no_sense_is_told_with_2() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (words, says) in [
        (&["--scenario", "tuor"][..], "use tour, rollout, reclaim,"),
        (&["--speed", "0"], "from 0.1 to 100000"),
        (&["--speed", "fast"], "from 0.1 to 100000"),
        (&["--seed", "-1"], "invalid value '-1' for '--seed <N>': write a whole number from 0 to 18446744073709551615"),
        (&["--speed", "-1"], "from 0.1 to 100000"),
        (&["--list", "--json"], "cannot be used with"),
        (&["--list", "--scenario", "tour"], "cannot be used with"),
        (&["--json", "--speed", "5"], "cannot be used with"),
        (&["--read-only"], "--read-only means nothing to demo"),
        (&["--kubeconfig", "a"], "--kubeconfig means nothing to demo"),
        (&["--config", "a"], "--config means nothing to demo"),
        (&["--report", "-"], "standard output has the story"),
        (&["--listen", "0.0.0.0:8001"], "neither TLS nor passwords"),
        (&["--listen", "8001"], "as 127.0.0.1:8001"),
        (&["--listen", &taken], &taken),
        (&["--listen", "127.0.0.1:0", "--json"], "cannot be used with"),
        (&["--report", "/nonexistent/report.html"], "/nonexistent/report.html"),
        (&["--report", "/"], "cannot be written to /"),
    ] {
        let words: Vec<&str> = ["demo"].into_iter().chain(words.iter().copied()).collect();
        let ran = run(&words);
        assert_eq!(ran.code, 2, "{words:?}: {}{}", ran.out, ran.err);
        assert!(ran.err.contains(says), "{words:?}: {}", ran.err);
    }
}

#[test]
fn a_report_that_is_not_finished_is_no_file() {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("unfinished");
    let _ = std::fs::remove_dir_all(&directory);
    std::fs::create_dir_all(&directory).unwrap();
    let path = directory.join("report.html");
    let words = ["demo", "--scenario", "rollout", "--speed", "1", "--report", path.to_str().unwrap()];
    let mut child = command(&words).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success() && !child.wait().unwrap().success(), "{line}");
    assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 0, "neither the report nor a draft of it");
}

#[test]
fn every_scenario_is_listed_with_what_it_shows() {
    let ran = run(&["demo", "--list"]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    for name in
        ["tour", "rollout", "reclaim", "spot-gone", "zone-loss", "hpa-waves", "blocking-pdb", "controller-crash"]
    {
        assert!(ran.out.lines().any(|line| line.starts_with(&format!("{name}  "))), "{name}: {}", ran.out);
    }
}

#[test]
fn a_pipe_gets_the_whole_story_at_once_and_in_plain_letters() {
    let ran = run(&["demo", "--scenario", "blocking-pdb"]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    assert!(!ran.out.contains('\x1b'), "{}", ran.out);
    for part in [
        "blocking-pdb: A workload is told",
        "0:30  pay gets spotalis.io/spot-percentage=50",
        "pay  MoveBlockedByPDB: PodDisruptionBudget pay allows no eviction now",
        "web  Rebalanced: evicted web-",
        "pay  ●●●■■■  6 of 6 ready: 3 on spot, 3 on on-demand",
        "WORKLOAD   SPOTALIS",
        "No workload was ever without a ready replica, with Spotalis or without it;",
        "35% of one on on-demand",
        "pods go where the scheduler puts them",
    ] {
        assert!(ran.out.contains(part), "{part}: {}", ran.out);
    }
}

#[test]
fn the_same_seed_is_the_same_bytes_and_another_is_not() {
    let of = |seed: &str| run(&["demo", "--scenario", "reclaim", "--json", "--seed", seed]).out;
    let first = of("7");
    assert!(first == of("7"), "two runs of the same seed differ");
    assert!(first != of("8"), "the seed decides nothing");
}

#[test]
fn json_has_both_runs_moment_by_moment_and_both_in_figures() {
    let ran = run(&["demo", "--scenario", "controller-crash", "--json"]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    let lines: Vec<Value> = ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [first, moments @ .., with, without] = &lines[..] else { panic!("{}", ran.out) };
    assert_eq!(
        (&first["scenario"], &first["seed"], &first["lastsSeconds"]),
        (&"controller-crash".into(), &1.into(), &240.0.into())
    );
    let turn = moments.iter().position(|line| line["run"] == "without").unwrap();
    assert!(moments[..turn].iter().all(|line| line["run"] == "with"), "first the one, then the other");
    assert!(moments[turn..].iter().all(|line| line["run"] == "without"));
    for part in [&moments[..turn], &moments[turn..]] {
        assert!(part.is_sorted_by_key(|line| line["at"].as_f64().unwrap().to_bits()), "in the order of time");
    }
    let count = |part: &[Value], moment: &str| part.iter().filter(|line| line["moment"] == moment).count();
    assert!(count(&moments[..turn], "steered") >= 14 && count(&moments[..turn], "told") > 0);
    assert_eq!((count(&moments[turn..], "steered"), count(&moments[turn..], "told")), (0, 0), "it is switched off");
    for (line, run, evictions) in [(with, "with", 6), (without, "without", 0)] {
        let web =
            line["summary"]["workloads"].as_array().unwrap().iter().find(|it| it["workload"] == "shop/web").unwrap();
        assert_eq!((&line["run"], &web["evictions"]), (&run.into(), &evictions.into()), "{line}");
        assert!(web["relativeCost"].as_f64().unwrap() < 1.0 && web["belowSeconds"].is_f64());
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    for words in [&["demo", "--scenario", "rollout"][..], &["demo", "--scenario", "rollout", "--json"]] {
        let mut child = command(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(line.contains("rollout"), "{line}");
        assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &[][..]), "{words:?}");
    }
}

/// The demo with its door open.
struct Listening {
    child: Child,
    kubeconfig: PathBuf,
}

impl Listening {
    fn start(words: &[&str]) -> Self {
        let mut child = command(words).stdout(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut said = String::new();
        // Until there are workloads, there is little to look at.
        while !said.contains("  web  ") {
            assert!(out.read_line(&mut said).unwrap() > 0, "it ended: {said}");
        }
        let exported = said.lines().find_map(|line| line.split_once("export KUBECONFIG="));
        let kubeconfig = exported.unwrap_or_else(|| panic!("{said}")).1.into();
        // Somebody has to read the rest of what it says.
        std::thread::spawn(move || out.read_to_string(&mut said));
        Self { child, kubeconfig }
    }

    async fn client(&self) -> Client {
        let kubeconfig = Kubeconfig::read_from(&self.kubeconfig).unwrap();
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
        Client::try_from(config).unwrap()
    }

    /// Ends it as Ctrl-C does.
    fn interrupt(mut self) {
        let sent = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
        assert!(!self.kubeconfig.exists(), "what is no use any more is removed");
    }
}

#[tokio::test]
async fn whoever_has_the_kubeconfig_can_look_at_the_cluster() {
    rustls::crypto::ring::default_provider().install_default().unwrap();
    let listening = Listening::start(&["demo", "--scenario", "rollout", "--listen", "127.0.0.1:0"]);
    let client = listening.client().await;
    let nodes = Api::<Node>::all(client.clone()).list(&ListParams::default()).await.unwrap();
    assert_eq!(nodes.items.len(), 6);
    // The last of its pods comes a moment later; a watch is told of it.
    let pods = Api::<Pod>::default_namespaced(client);
    let last = WatchParams::default().fields("metadata.name=db-2");
    let mut changes = pods.watch(&last, "0").await.unwrap().boxed();
    loop {
        if let WatchEvent::Added(pod) | WatchEvent::Modified(pod) = changes.next().await.unwrap().unwrap()
            && pod.status.is_some_and(|status| status.phase.as_deref() == Some("Running"))
        {
            break;
        }
    }
    let steered = pods.get("db-0").await.unwrap().metadata.labels.unwrap();
    assert!(steered.contains_key("spotalis.io/capacity-type"), "{steered:?}");
    listening.interrupt();
}

/// A test that fails leaves nobody behind.
impl Drop for Listening {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
    }
}

/// The commands of a page.
fn commands(page: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(page);
    let text = std::fs::read_to_string(path).unwrap();
    let commands = text.lines().filter_map(|line| line.strip_prefix("$ "));
    commands.filter(|line| line.contains("-- demo") || page.ends_with("demo.md")).map(str::to_owned).collect()
}

#[test]
fn every_command_of_the_pages_works() {
    let pages = commands("docs/how-to/demo.md");
    let readme = commands("README.md");
    assert!(pages.len() >= 7 && !readme.is_empty() && readme.iter().all(|line| pages.contains(line)), "{readme:?}");
    let mut listening: Option<Listening> = None;
    for line in pages {
        let words = line.strip_prefix("cargo run --release -- ").unwrap_or_else(|| panic!("{line}: how is this run?"));
        let (words, head) = words.split_once(" | ").map_or((words, None), |(words, head)| (words, Some(head)));
        assert!(matches!(head, None | Some("head")), "{line}");
        let words: Vec<&str> = words.split(' ').collect();
        if words.contains(&"--listen") {
            listening = Some(Listening::start(&words));
            continue;
        }
        let mut command = command(&words);
        if let Some(listening) = &listening {
            command.env("KUBECONFIG", &listening.kubeconfig);
        }
        let output = command.current_dir(env!("CARGO_TARGET_TMPDIR")).output().unwrap();
        // A look at a cluster that comes into being may find something.
        let fine = if listening.is_some() { &[Some(0), Some(1)][..] } else { &[Some(0)] };
        assert!(fine.contains(&output.status.code()), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(!output.stdout.is_empty(), "{line}");
    }
    listening.unwrap().interrupt();
    let report = Path::new(env!("CARGO_TARGET_TMPDIR")).join("report.html");
    assert!(std::fs::read_to_string(report).unwrap().contains("Every decision, and why"));
}
