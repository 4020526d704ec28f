//! Runs every command of `docs/how-to/simulate-your-manifests.md`, in less time than it would take: where a command does not
//! say how long and how often, it is a few minutes once.

#![expect(clippy::unwrap_used, reason = "this file is a test; the lint knows that of functions marked as such alone")]

mod common;

use std::path::{Path, PathBuf};

use common::{Answers, ApiServer, Ran, command, ended, list};
use serde_json::{Value, json};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn page() -> String {
    std::fs::read_to_string(root().join("docs/how-to/simulate-your-manifests.md")).unwrap()
}

/// The blocks of a language.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let begin = format!("```{language}\n");
    page.split(&begin).skip(1).map(|rest| rest.split_once("```").unwrap().0.to_owned()).collect()
}

fn commands(page: &str) -> Vec<String> {
    let lines = blocks(page, "console");
    lines
        .iter()
        .flat_map(|block| block.lines())
        .map(|line| line.strip_prefix("$ spotalis ").unwrap().to_owned())
        .collect()
}

/// A place with the examples and the trace of the page.
fn place(page: &str) -> PathBuf {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("simulate-page");
    std::fs::create_dir_all(&place).unwrap();
    let [trace] = blocks(page, "json").try_into().unwrap();
    std::fs::write(place.join("seen.json"), trace).unwrap();
    let examples = place.join("examples");
    if !examples.exists() {
        std::os::unix::fs::symlink(root().join("examples").canonicalize().unwrap(), &examples).unwrap();
    }
    place
}

/// A cluster with the Deployment `web` of the namespace `shop`.
fn cluster() -> ApiServer {
    let namespace = json!({"metadata": {"name": "shop", "labels": {"spotalis.io/enabled": "true"}}});
    let container = json!({"name": "web", "image": "web"});
    let web = json!({
        "metadata": {"namespace": "shop", "name": "web", "labels": {"spotalis.io/enabled": "true"}},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}},
                 "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [container]}}},
    });
    let mut answers = Answers::from([
        ("/version".to_owned(), (200, json!({"major": "1", "minor": "36"}))),
        ("/api/v1/nodes".to_owned(), list("Node", &[])),
        ("/api/v1/namespaces".to_owned(), list("Namespace", std::slice::from_ref(&namespace))),
        ("/api/v1/namespaces/shop".to_owned(), (200, namespace)),
    ]);
    let kinds = [
        ("apps/v1", "deployments"),
        ("apps/v1", "statefulsets"),
        ("policy/v1", "poddisruptionbudgets"),
        ("autoscaling/v2", "horizontalpodautoscalers"),
    ];
    for (api, plural) in kinds {
        let items: &[Value] = if plural == "deployments" { std::slice::from_ref(&web) } else { &[] };
        answers.insert(format!("/apis/{api}/{plural}"), list("Any", items));
        answers.insert(format!("/apis/{api}/namespaces/shop/{plural}"), list("Any", items));
    }
    ApiServer::start(answers)
}

fn run_in(place: &Path, words: &str, more: &[&str]) -> Ran {
    let words: Vec<&str> = words.split(' ').chain(more.iter().copied()).collect();
    ended(command(&words).current_dir(place))
}

#[test]
fn every_command_of_the_page_runs() {
    let page = page();
    let (place, cluster) = (place(&page), cluster());
    let kubeconfig = cluster.kubeconfig("simulate-page");
    let commands = commands(&page);
    assert!(commands.len() > 7, "{commands:?}");
    for words in &commands {
        let mut more = Vec::new();
        if !words.contains("--hours") {
            more.extend(["--hours", "0.1"]);
        }
        if !words.contains("--runs") && !words.contains("--print-trace") {
            more.extend(["--runs", "1"]);
        }
        if words.contains("--from-cluster") {
            more.extend(["--kubeconfig", &kubeconfig]);
        }
        let ran = run_in(&place, words, &more);
        let may_find = words.contains("--min-ready");
        assert!(ran.code == 0 || ran.code == 1 && may_find, "{words}: {} {}", ran.code, ran.err);
        assert!(!ran.out.is_empty(), "{words}");
        if words.ends_with("--hours 1 --runs 2") {
            holds_what_is_shown(&page, &ran.out);
        }
    }
}

/// Each line that the page shows is there. Of the figures only the first that is no time is held against it: the others follow
/// from seconds.
fn holds_what_is_shown(page: &str, out: &str) {
    let [shown] = blocks(page, "text").try_into().unwrap();
    let lines = |text: &str| -> Vec<String> {
        let is_time =
            |word: &&str| word.contains(|c: char| c.is_ascii_digit()) && word.trim_end_matches(')').ends_with('s');
        let squeezed = text
            .lines()
            .map(|line| line.split_whitespace().filter(|word| !is_time(word)).collect::<Vec<_>>().join(" "));
        squeezed.map(|line| line.split(')').next().unwrap_or_default().to_owned()).collect()
    };
    let there = lines(out);
    for line in lines(&shown) {
        assert!(there.contains(&line), "the page shows {line:?}: {out}");
    }
}
