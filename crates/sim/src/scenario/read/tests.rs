//! What is wrong with a file is said with its place, what is allowed, and what to do.

use super::*;
use crate::scenario::{Capacity, Turn, WorkloadKind};

/// A scenario of seven lines with nothing in it that happens; more may follow.
const LEAST: &str = "\
about: Nothing much.
lasts: 1m
nodes:
  - {name: spot, type: spot, count: 2, zones: [a, b]}
workloads:
  - {name: web, replicas: 4, spot: 50}
";

fn read(text: &str) -> Result<Scenario, String> {
    Scenario::read("trial", "trial.yaml", text).map_err(|mistakes| mistakes.to_string())
}

fn with(more: &str) -> Result<Scenario, String> {
    read(&format!("{LEAST}{more}\n"))
}

fn event(happening: &str) -> String {
    format!("events:\n  - {{at: 10s, do: {happening}}}")
}

fn expectation(what: &str) -> String {
    format!("expect:\n  - {{{what}}}")
}

/// Fails unless the only thing that is said begins so and contains the rest.
fn says(said: Result<Scenario, String>, place: &str, words: &[&str]) {
    let said = said.map(|scenario| scenario.name).expect_err("it is read as if nothing were wrong");
    assert!(said.starts_with(&format!("trial.yaml:{place}: ")), "not at {place}: {said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    for word in words {
        assert!(said.contains(word), "{word:?} is not in: {said}");
    }
}

#[test]
fn a_scenario_is_read_as_it_is_written() {
    let text = "\
about: >-
  Everything
  at once.
lasts: 1h30m
spotalis: {replicas: 3, settings: {controller.cooldown: 5s}}
nodes:
  - {name: spot, type: spot, count: 3, zones: [a, b], backAfter: 90s, cordoned: true}
  - {name: other, type: unknown, count: 1, cpu: \"2\", memory: 4Gi, pods: 8}
workloads:
  - {name: db, kind: StatefulSet, replicas: 3, spot: 34, floor: 1, readyAfter: 1500ms, maxUnavailable: 1}
events:
  - {at: 20m, do: {spotalis: kill}}
  - {at: 90s, do: {reclaim: {nodes: spot, count: 50%, notice: 2m}}}
expect:
  - {from: 1m, until: 2m, workload: db, ready: {min: 2}}
onlyEmbedded: it is long
differs: it is a race
";
    let scenario = read(text).unwrap();
    let Scenario { name, about, lasts, spotalis, nodes, workloads, objects, events, expect, only_embedded, differs } =
        scenario;
    assert_eq!((name.as_str(), about.as_str(), lasts), ("trial", "Everything at once.", Duration::from_mins(90)));
    assert_eq!((spotalis.replicas, spotalis.settings["controller.cooldown"].as_str()), (3, "5s"));
    assert_eq!((nodes[0].capacity, nodes[0].back_after), (Capacity::Spot, Some(Duration::from_secs(90))));
    assert_eq!((nodes[1].capacity, nodes[1].pods, nodes[1].cpu.as_str()), (Capacity::Unknown, 8, "2"));
    assert!(nodes[0].cordoned && !nodes[1].cordoned);
    assert_eq!((workloads[0].kind, workloads[0].floor), (WorkloadKind::StatefulSet, 1));
    let made = workloads[0].objects();
    assert_eq!(made.len(), 2, "it has a budget");
    assert_eq!(made[0]["spec"]["template"]["metadata"]["annotations"][super::super::READY_AFTER], "1500ms");
    assert_eq!(objects, [Value::Null; 0]);
    assert_eq!(events[0].at, Duration::from_secs(90), "in order of time");
    assert_eq!(events[1].happening, Happening::Spotalis(Turn::Kill));
    assert_eq!(expect[0].line, 15, "it knows its line");
    assert_eq!((only_embedded.as_deref(), differs.as_deref()), (Some("it is long"), Some("it is a race")));
}

#[test]
fn what_is_no_scenario_is_told_with_its_place() {
    says(read(" \n"), "1:1", &["nothing in it", "`nodes`"]);
    says(read("# later\n"), "2:1", &["end of input"]);
    says(read("about: a\nlasts: 1m\n"), "2:1", &["missing key `nodes`"]);
    says(read("about: a\nlasts: 1m\nnodes: [\n"), "3:8", &["unclosed bracket"]);
    says(with("more: 1"), "7:1", &["unknown key `more`", "about, lasts, spotalis, nodes"]);
    says(with("spotalis: {replica: 1}"), "7:12", &["unknown key `replica`", "replicas, settings"]);
    says(with("events: [{at: 1s, do: {explode: spot}}]"), "7:24", &["unknown word `explode`", "one of scale, restart"]);
    says(
        with("events: [{at: 1s, do: {spotalis: rest}}]"),
        "7:34",
        &["unknown word `rest`", "kill, replace, stop, start"],
    );
    says(read(&LEAST.replace("type: spot", "type: cheap")), "4:24", &["`cheap`", "spot, on-demand, unknown"]);
    says(read(&LEAST.replace("count: 2", "count: -2")), "4:37", &["a whole number, 0 or more"]);
    says(read(&LEAST.replace("replicas: 4", "kind: Job, replicas: 4")), "6:23", &["`Job`", "Deployment, StatefulSet"]);
}

#[test]
fn a_time_that_makes_no_sense_is_told_with_its_place() {
    for (text, said) in [
        ("soon", "\"soon\" is no duration: write one as 90s, 5m or 1h30m"),
        ("-5s", "\"-5s\" is no duration"),
        ("9000h", "at most a year"),
        ("\"\"", "\"\" is no duration"),
    ] {
        says(read(&LEAST.replace("lasts: 1m", &format!("lasts: {text}"))), "2:8", &[said]);
        says(with(&format!("events:\n  - {{at: {text}, do: {{spotalis: stop}}}}")), "8:10", &[said]);
    }
    says(read(&LEAST.replace("lasts: 1m", "lasts: 0s")), "2:8", &["`lasts`", "1s or more"]);
    says(with("events:\n  - {at: 61s, do: {spotalis: stop}}"), "8:5", &["after the end", "raise `lasts`"]);
}

#[test]
fn a_world_that_cannot_be_is_told_with_its_place() {
    says(read(&LEAST.replace("replicas: 4", "replicas: 100000")), "6:5", &["web has 100000", "at most 5000"]);
    says(read(&LEAST.replace("spot: 50", "spot: 101")), "6:5", &["web has 101 %", "0 to 100"]);
    says(with("  - {name: web, replicas: 1}"), "7:5", &["a workload web already", "a name of its own"]);
    says(read("about: a\nlasts: 1m\nnodes: []\n"), "3:8", &["at least one group of nodes"]);
    says(read(&LEAST.replace("count: 2", "count: 6000")), "4:3", &["more than 5000 nodes", "lower `count`"]);
    says(read(&LEAST.replace("count: 2", "count: 2, cpu: lots")), "4:3", &["spot has \"lots\"", "500m, 4 or 8Gi"]);
    says(read(&LEAST.replace("spot: 50", "cpu: much")), "6:5", &["web has \"much\"", "500m, 4 or 8Gi"]);
    says(read(&LEAST.replace("name: web", "name: Web_1")), "6:5", &["\"Web_1\" is no name", "small letters"]);
    says(with("spotalis: {replicas: 0}"), "7:11", &["0 replicas of Spotalis", "1 to 9"]);
    says(
        with("spotalis: {settings: {controller.cooldwn: 5s}}"),
        "7:11",
        &["controller.cooldwn is no key", "configuration.md"],
    );
    says(
        with("spotalis: {settings: {controller.cooldown: soon}}"),
        "7:11",
        &["controller.cooldown", "soon", "from 0s to 1h"],
    );
    says(with("objects:\n  - {kind: Pod}"), "8:5", &["needs apiVersion, kind and metadata.name"]);
    let job = "objects:\n  - {apiVersion: batch/v1, kind: Job, metadata: {name: a}}";
    says(with(job), "8:5", &["batch/v1 Job is not known", "apps/v1 Deployment"]);
}

#[test]
fn what_cannot_happen_is_told_with_its_place() {
    for (happening, said) in [
        ("{scale: {workload: wbe, to: 2}}", "no workload \"wbe\": use web"),
        ("{restart: api}", "no workload \"api\": use web"),
        ("{uncordon: on-demand}", "no nodes \"on-demand\": use spot"),
        ("{failZone: c}", "no zone \"c\": use a, b"),
        ("{scale: {workload: web, to: 100000}}", "web gets 100000 replicas: at most 5000"),
        ("{delete: {kind: Job, name: a}}", "Job is not known here: use Namespace, Node"),
        ("{apply: {apiVersion: v1, kind: Service, metadata: {name: a}}}", "v1 Service is not known here"),
    ] {
        says(with(&event(happening)), "8:5", &[said]);
    }
    for (count, place, said) in [
        ("most", "8:42", "a number of nodes, or a share of them as 50%"),
        ("150%", "8:49", "\"150%\" is not a share of 0% to 100%"),
        ("-1", "8:49", "-1 nodes cannot be"),
        ("6000", "8:49", "more than 5000 nodes are not simulated"),
    ] {
        let happening = event(&format!("{{cordon: {{nodes: spot, count: {count}}}}}"));
        says(with(&happening), place, &[said]);
    }
}

#[test]
fn what_cannot_be_expected_is_told_with_its_place() {
    for (what, said) in [
        ("evictions: 0, told: OnTarget", "say one thing that has to hold"),
        ("workload: web, ready: 4, evictions: 0", "say one thing that has to hold"),
        ("workload: web", "say one thing that has to hold"),
        ("at: 5s, from: 3s, evictions: 0", "use one or the other"),
        ("from: 30s, until: 20s, evictions: 0", "from 30 s until 20 s is no time within the 60 s"),
        ("until: 2m, evictions: 0", "from 0 s until 120 s is no time within the 60 s"),
        ("at: 5s, spot: 2", "say of which `workload`"),
        ("workload: api, evictions: 0", "no workload \"api\": use web"),
    ] {
        says(with(&expectation(what)), "8:5", &[said]);
    }
    says(with(&expectation("evictions: -1")), "8:17", &["-1 is less than nothing"]);
    says(with(&expectation("evictions: {least: 1}")), "8:18", &["`least`", "one of min, max"]);
    says(with(&expectation("evictions: few")), "8:6", &["a number, or {min: NUMBER, max: NUMBER}"]);
}

/// One look shows all of it.
#[test]
fn everything_that_is_wrong_is_told_at_once() {
    let text = format!("{}events:\n  - {{at: 2m, do: {{restart: api}}}}\n", LEAST.replace("spot: 50", "spot: 200"));
    let said = read(&text).unwrap_err();
    assert_eq!(said.lines().count(), 3, "{said}");
}
