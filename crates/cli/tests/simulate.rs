//! `spotalis simulate`, run as a person would: what it shows, what it says beside, what it refuses, and its exit codes.

mod common;

use std::path::{Path, PathBuf};

use common::{Ran, file, run, run_on};
use serde_json::Value;

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples")
}

fn example(name: &str) -> String {
    examples().join(name).display().to_string()
}

fn json(ran: &Ran) -> Value {
    serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
}

#[test]
fn the_examples_are_split_as_their_page_says() {
    let ran = run(&["simulate", "-f", &example(""), "--hours", "0.25", "--runs", "1"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let lines: Vec<Vec<&str>> = ran.out.lines().map(|line| line.split_whitespace().collect()).collect();
    for (workload, wanted) in [
        ("batch/encode", "5/1"),
        ("batch/report", "2/1"),
        ("shop/admin", "2"),
        ("shop/cart", "3/2"),
        ("shop/web", "7/3"),
    ] {
        let place = lines.iter().position(|line| line.first() == Some(&workload)).unwrap();
        assert_eq!(lines[place][1..3], [wanted, "with"], "{}", ran.out);
        if workload != "shop/admin" {
            assert_eq!(lines[place][3], wanted, "that is what it comes to: {}", ran.out);
        }
        assert_eq!(lines[place + 1][0], "without", "{}", ran.out);
    }
    // Silence but for what has to be said: no bar, no colours.
    let said: Vec<&str> = ran.err.lines().collect();
    let [left_out, fleet] = said[..] else { panic!("{}", ran.err) };
    assert!(
        left_out.starts_with("note: not read, for they are no files") && left_out.ends_with("README.md"),
        "{left_out}"
    );
    assert!(fleet.starts_with("note: the fleet is "), "{fleet}");
    assert!(!ran.out.contains('\u{1b}') && !ran.err.contains(['\u{1b}', '\r', '%']), "{}", ran.err);
}

#[test]
fn the_same_arguments_give_the_same_bytes_from_a_file_and_from_standard_input() {
    let web = example("shop/web.yaml");
    let flags = ["--hours", "0.25", "--runs", "2", "--seed", "7", "--nodes", "6", "--trace", "bursty", "-o", "json"];
    let words = |from| [&["simulate", "-f", from][..], &flags].concat();
    let (first, second) = (run(&words(&web)), run_on(Path::new(&web), &words("-")));
    assert_eq!((first.code, first.err.as_str()), (0, "note: no Namespace manifest for shop: taken as opted in\n"));
    assert_eq!(first.out, second.out);

    let report = json(&first);
    let terms = &report["terms"];
    assert_eq!((&terms["hours"], &terms["seed"], &terms["trace"]), (&0.25.into(), &7.into(), &"bursty".into()));
    assert_eq!((&terms["fleet"]["spot"], &terms["fleet"]["onDemand"]), (&3.into(), &3.into()));
    let web = &report["workloads"][0];
    assert_eq!(
        (&web["workload"], &web["kind"], &web["standing"]),
        (&"shop/web".into(), &"Deployment".into(), &"managed".into())
    );
    assert_eq!(web["wanted"], serde_json::json!({"spot": 7, "onDemand": 3}));
    for side in ["with", "without"] {
        let spread = &web[side]["fewestReady"];
        let keys: Vec<&String> = spread.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["max", "median", "min", "worst"]);
        assert!(web[side]["cost"]["worst"].as_f64().unwrap() <= 1.0);
    }
    let seeds: Vec<&Value> = report["runs"].as_array().unwrap().iter().map(|run| &run["seed"]).collect();
    assert_eq!(seeds, [7, 8]);
    let figures = &report["runs"][0]["with"]["workloads"][0];
    for key in
        ["atEnd", "belowSeconds", "cost", "downSeconds", "evictions", "fewestReady", "onDemandHours", "spotHours"]
    {
        assert!(!figures[key].is_null(), "{key}: {figures}");
    }
}

#[test]
fn a_missed_objective_is_1_and_can_be_played_again() {
    let words = |seed: &'static str, runs: &'static str| {
        let web = example("shop/web.yaml");
        let rest = "--hours 0.25 --nodes 4 --trace outage --min-ready 4 --max-unavailable 100%";
        let words = format!("simulate -f {web} --seed {seed} --runs {runs} {rest}");
        words.split(' ').map(str::to_owned).collect::<Vec<_>>()
    };
    let ran = |words: &[String]| run(&words.iter().map(String::as_str).collect::<Vec<_>>());
    let missed = ran(&words("4", "2"));
    assert_eq!(missed.code, 1, "{} {}", missed.out, missed.err);
    let line = |ran: &Ran, seed: &str| {
        let found = ran
            .out
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .find(|line| line.get(1) == Some(&seed));
        found.unwrap_or_else(|| panic!("{}", ran.out)).join(" ")
    };
    assert!(missed.out.contains("--min-ready 4: missed\n"), "{}", missed.out);
    assert!(missed.out.contains("--max-unavailable 100%: kept by every workload in every run\n"), "{}", missed.out);
    assert!(
        line(&missed, "5").starts_with("shop/web 5 ") && line(&missed, "5").ends_with(" 3 of 10"),
        "{}",
        missed.out
    );
    assert!(missed.err.contains("--seed 4 --runs 1 plays the first such run again"), "{}", missed.err);
    let again = ran(&words("5", "1"));
    assert_eq!((again.code, line(&again, "5")), (1, line(&missed, "5")), "the same, to the second");
}

#[test]
fn who_never_gets_a_node_is_named_and_what_is_not_simulated_too() {
    let web = std::fs::read_to_string(example("shop/web.yaml")).unwrap();
    let picky = web.replace("      containers:", "      nodeSelector: {disk: fast}\n      containers:");
    let beside = "---\napiVersion: v1\nkind: Service\nmetadata: {name: web}\n";
    let path = file("picky.yaml", &format!("{picky}{beside}"));
    let path = path.to_str().unwrap();
    let config = file("picky-config.yaml", "nodeLabels: {preset: eks}\n");
    let config = config.to_str().unwrap();
    let ran = run(&["simulate", "-f", path, "--hours", "0.25", "--runs", "1", "--config", config]);
    let never =
        "shop/web can never run on this fleet: 0/4 nodes are available: 4 node(s) didn't match Pod's node affinity";
    assert_eq!((ran.code, ran.out.as_str()), (2, ""), "nothing can come of it: {}", ran.err);
    for said in [
        "note: skipped, for they are not simulated: 1 Service\n",
        "note: nodeLabels.preset of the configuration is not simulated: the nodes are labelled as Karpenter does it\n",
        &format!("error: {never}"),
        "; no node has the label disk=fast: the nodes of a fleet are labelled as Karpenter does it and cannot be given other labels;",
    ] {
        assert!(ran.err.contains(said), "{said}: {}", ran.err);
    }
    let ran = run(&[
        "simulate",
        "-f",
        path,
        &example("shop/cart.yaml"),
        "--hours",
        "0.25",
        "--runs",
        "1",
        "--min-ready",
        "1",
    ]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    for said in [
        "note: skipped, for they are not simulated: 1 Service\n",
        &format!("note: {never}"),
        "note: shop/web, never whole with Spotalis and without it: 10 of its pods waited: 0/4 nodes are available: ",
    ] {
        assert!(ran.err.contains(said), "{said}: {}", ran.err);
    }
    let line = |place: usize| {
        let lines = ran.out.lines().skip_while(|line| !line.starts_with("shop/web")).skip(place);
        lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).next().unwrap()
    };
    assert_eq!(line(0), "shop/web 7/3 with 0/0 never 0 15m 0 -", "{}", ran.out);
    assert_eq!(line(1), "without 0/0 never 0 15m 0 -", "{}", ran.out);
    assert!(ran.out.contains("shop/web   0      0s   15m   0 of 10\n"), "missed from the beginning on: {}", ran.out);
}

#[test]
fn what_is_whole_much_later_with_spotalis_misses_what_it_would_keep_if_it_were_not_counted() {
    let path = file("low.json", "{\"metadata\": {\"gap_seconds\": 600}, \"data\": [0, 2]}");
    let web = example("shop/web.yaml");
    let trace = ["--trace", path.to_str().unwrap(), "--trace-scale", "nodes"];
    let rest = ["--hours", "0.33", "--runs", "1", "--nodes", "4", "--max-unavailable", "0", "-o", "json"];
    let ran = run(&[&["simulate", "-f", &web][..], &trace, &rest].concat());
    assert_eq!(ran.code, 1, "{}{}", ran.out, ran.err);
    let report = json(&ran);
    let [with, without] = ["with", "without"].map(|side| report["runs"][0][side]["workloads"][0].clone());
    let (late, early) = (with["wholeAfterSeconds"].as_f64().unwrap(), without["wholeAfterSeconds"].as_f64().unwrap());
    assert!(early < 20.0 && (700.0..800.0).contains(&late), "there is no spot node for ten minutes: {early} {late}");
    let from = early + 60.0;
    let near = |value: &Value, wanted: f64| (value.as_f64().unwrap() - wanted).abs() < 0.001;
    assert!(near(&with["countedFromSeconds"], from) && near(&without["countedFromSeconds"], from), "{with} {without}");
    assert!(near(&with["belowSeconds"], late - from), "{with}");
    assert_eq!((&with["fewestReady"], &without["belowSeconds"]), (&3.into(), &0.0.into()));
    assert!(near(&report["objectives"][0]["missed"][0]["atSeconds"], from), "{}", report["objectives"]);
}

#[test]
fn what_lies_in_a_directory_is_read_or_named() {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mixed-manifests");
    let _ = std::fs::remove_dir_all(&directory);
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::copy(example("shop/web.yaml"), directory.join("web.YAML")).unwrap();
    std::fs::write(directory.join("web.yaml.bak"), "x").unwrap();
    let pipe = directory.join("pipe.yaml");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let ran = run(&["simulate", "-f", directory.to_str().unwrap(), "--hours", "0.05", "--runs", "1"]);
    assert_eq!(ran.code, 0, "nobody ever writes into the pipe: {}", ran.err);
    assert!(ran.out.contains("shop/web"), "an ending is one in capitals, too: {}", ran.out);
    let shown = [pipe, directory.join("web.yaml.bak")].map(|path| path.display().to_string());
    let note = format!("not read, for they are no files that end with .yaml, .yml or .json: {}\n", shown.join(", "));
    assert!(ran.err.contains(&note), "{note}: {}", ran.err);
}

#[test]
fn what_is_cut_of_a_trace_is_told() {
    let path = file("cut.json", "\u{feff}{\"metadata\": {\"gap_seconds\": 60}, \"data\": [1.5, 2, 9, 2]}");
    let (web, trace) = (example("shop/web.yaml"), path.to_str().unwrap());
    let rest = ["--trace-scale", "nodes", "--nodes", "4", "--hours", "0.05", "--runs", "1"];
    let ran = run(&[&["simulate", "-f", &web, "--trace", trace][..], &rest].concat());
    assert_eq!(ran.code, 0, "a mark at its beginning says nothing: {}", ran.err);
    assert!(
        ran.err.contains("1 numbers of ") && ran.err.contains("are no whole number of nodes: what is behind"),
        "{}",
        ran.err
    );
    assert!(ran.err.contains(" are above 2, and are taken for all 2 nodes\n"), "{}", ran.err);
}

#[test]
fn what_makes_no_sense_is_2_and_is_told_with_its_place() {
    let web = example("shop/web.yaml");
    let web = web.as_str();
    let written = |name: &str, text: &str| file(name, text).display().to_string();
    let broken = written("broken.yaml", "kind: [\n");
    let other = written("other.yaml", "a: 1\n");
    let large =
        written("large.yaml", &std::fs::read_to_string(web).unwrap().replace("replicas: 10", "replicas: 100000"));
    let refused =
        written("refused.yaml", &std::fs::read_to_string(web).unwrap().replace("replicas: 10", "replicas: -1"));
    let empty = written("empty.yaml", "---\n# nothing\n");
    let service = written("service.yaml", "{apiVersion: v1, kind: Service, metadata: {name: web}}\n");
    let gap = written("gap.json", "{\"metadata\": {\"gap_seconds\": 60},\n \"data\": [1,\n null]}");
    let none = written("none.json", "{\"metadata\": {\"gap_seconds\": 60}, \"data\": []}");
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("no-manifests");
    std::fs::create_dir_all(&directory).unwrap();
    let directory = directory.to_str().unwrap();
    for (words, says) in [
        (&[][..], "--filename"),
        (&["-f", "/nonexistent.yaml"], "/nonexistent.yaml cannot be read"),
        (&["-f", &broken], "broken.yaml:1:7: unclosed bracket '['"),
        (&["-f", &broken, &other], "other.yaml:1:1: apiVersion is missing"),
        (&["-f", &large], "large.yaml:14:13: Deployment shop/web: 100000 replicas: at most 5000 are simulated"),
        (&["-f", &refused], "refused.yaml:14:13: Deployment shop/web: spec.replicas: Invalid value: -1"),
        (&["-f", &empty], "there is nothing in "),
        (&["-f", "-"], "there is nothing in standard input"),
        (&["-f", directory], "files that end with .yaml, .yml or .json are looked at"),
        (&["-f", &service], "neither a Deployment nor a StatefulSet is among them"),
        (&["-f", "-", "--trace", "-"], "standard input can be read once: name a file"),
        (&["-f", "-", "-"], "standard input can be read once: name a file"),
        (
            &["-f", web, "--trace", "calm", "--trace-scale", "nodes"],
            "--trace-scale is about the numbers of a file, and calm",
        ),
        (&["-f", web, "--kubeconfig", "a"], "--kubeconfig means nothing without --from-cluster"),
        (&["-f", web, "--print-trace"], "cannot be used with"),
        (&["--print-trace", "-o", "json"], "cannot be used with"),
        (&["--print-trace", "--runs", "2"], "cannot be used with"),
        (&["-f", web, "-n", "Bad_NS"], "\"Bad_NS\" is no name of a namespace: use small letters"),
        (&["-f", web, "--nodes", "0"], "invalid value '0' for '--nodes <N>': write a whole number from 1 to 5000"),
        (&["-f", web, "--nodes", "-1"], "invalid value '-1' for '--nodes <N>': write a whole number from 1 to 5000"),
        (&["-f", web, "--nodes", "1000000000000"], "write a whole number from 1 to 5000"),
        (
            &["-f", web, "--nodes", "many"],
            "invalid value 'many' for '--nodes <N>': write a whole number from 1 to 5000",
        ),
        (&["-f", web, "--spot-share", "101"], "write a whole number from 0 to 100"),
        (&["-f", web, "--seed", "-1"], "write a whole number from 0 to 18446744073709551615"),
        (&["-f", web, "--ready-after", "-1s"], "invalid value '-1s' for '--ready-after <DURATION>'"),
        (&["-f", web, "--max-unavailable", "-10%"], "\"-10%\" is neither a number of replicas"),
        (
            &["-f", web, "--nodes", "4", "--spot-share", "0"],
            "wanted on spot are 7 pods, and 0 spot nodes take 0: they can never",
        ),
        (&["-f", web, "--node-cpu", "500m"], "a pod of shop/web asks for 1 CPU and 1024Mi of memory, which no node"),
        (&["-f", web, "--node-memory", "much"], "--node-memory \"much\" is no size of a node"),
        (&["-f", web, "--hours", "0"], "write a number of hours, from 0.0167, which is a minute, to 744"),
        (&["-f", web, "--hours", "-1"], "write a number of hours, from 0.0167, which is a minute, to 744"),
        (&["-f", web, "--hours", "1e9"], "write a number of hours, from 0.0167, which is a minute, to 744"),
        (&["-f", web, "--hours", "nan"], "write a number of hours, from 0.0167, which is a minute, to 744"),
        (&["-f", web, "--runs", "100000"], "write a whole number from 1 to 1000"),
        (&["-f", web, "--spot-price", "-1"], "a number from 0 to 1, as 0.35"),
        (&["-f", web, "--min-ready", "110%"], "nor a share of them, as 30%"),
        (&["-f", web, "--replace-after", "2"], "a duration needs a unit"),
        (&["-f", web, "--replace-after", "48h"], "write at most 24h"),
        (&["-f", web, "--trace", "stormy"], "use calm, bursty, diurnal, outage, or a file"),
        (&["-f", web, "--trace", &gap], "gap.json:3:6: data[1] is null; allowed is a number that is not negative"),
        (&["-f", web, "--trace", &none], "data is empty; a trace is {\"metadata\": "),
        (&["-f", web, "-A"], "--from-cluster"),
    ] {
        let ran = run(&[&["simulate"], words].concat());
        assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{words:?}: {}", ran.err);
        assert!(ran.err.contains(says), "{words:?} should say {says}: {}", ran.err);
        assert!(ran.err.starts_with("error: "), "{}", ran.err);
    }
}

#[test]
fn a_trace_that_was_written_can_be_read_again() {
    for name in ["calm", "bursty", "diurnal", "outage"] {
        let flags = ["--nodes", "20", "--hours", "24", "--seed", "3"];
        let written = run(&[&["simulate", "--print-trace", "--trace", name], &flags[..]].concat());
        assert_eq!((written.code, written.err.as_str()), (0, ""), "{name}");
        let trace = json(&written);
        assert_eq!((trace["data"].as_array().unwrap().len(), &trace["metadata"]["gap_seconds"]), (1_440, &60.into()));
        let path = file(&format!("{name}.json"), &written.out);
        let again = run(&[&["simulate", "--print-trace", "--trace", path.to_str().unwrap()], &flags[..]].concat());
        assert_eq!(again.out, written.out, "{name}");
    }
}

#[test]
fn who_is_not_opted_in_and_whose_template_decides_is_named() {
    let web = std::fs::read_to_string(example("shop/web.yaml")).unwrap();
    let lost =
        web.replace("name: web", "name: lost").replace("spotalis.io/enabled: \"true\"", "spotalis.io/enable: \"true\"");
    let bare = web.replace("name: web", "name: bare").replace("namespace: shop", "namespace: yard");
    let bare = bare.replace("spotalis.io/enabled: \"true\"", "a: b")
        + "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: yard}\n";
    let pinned = web
        .replace("      containers:", "      nodeSelector: {karpenter.sh/capacity-type: on-demand}\n      containers:");
    let path = file("three.yaml", &[pinned, lost, bare].join("\n---\n"));
    let words = ["simulate", "-f", path.to_str().unwrap(), "--hours", "0.05", "--runs", "1"];
    let ran = run(&words);
    assert_eq!(ran.code, 0, "{}", ran.err);
    for said in [
        "note: Deployment shop/lost is not managed: label spotalis.io/enable is unknown; did you mean spotalis.io/enabled?\n",
        "note: 1 of 3 workloads are not opted in, so Spotalis leaves them alone",
        "note: shop/web can run only on on-demand nodes, whatever its policy wants: its own template decides",
    ] {
        assert!(ran.err.contains(said), "{said}: {}", ran.err);
    }
    let config = file("override.yaml", "webhook: {onConflict: override}\n");
    let ran = run(&[&words[..], &["--config", config.to_str().unwrap()]].concat());
    assert!(ran.code == 0 && !ran.err.contains("its own template decides"), "then it does not: {}", ran.err);
}

#[test]
fn what_is_there_at_the_end_is_of_the_first_run_and_medians_lie_in_the_middle() {
    let web = example("shop/web.yaml");
    let ran = run(&[
        "simulate", "-f", &web, "--hours", "0.25", "--runs", "2", "--trace", "bursty", "--seed", "10", "-o", "json",
    ]);
    let report = json(&ran);
    let run_of = |number: usize| report["runs"][number]["with"]["workloads"][0].clone();
    let with = &report["workloads"][0]["with"];
    assert_ne!(run_of(0)["atEnd"], run_of(1)["atEnd"], "at the end of the second there is no spot node");
    assert_eq!(with["atEnd"], run_of(0)["atEnd"]);
    let figure = |number: usize| run_of(number)["belowSeconds"].as_f64().unwrap();
    let middle = f64::midpoint(figure(0), figure(1));
    assert!((with["belowSeconds"]["median"].as_f64().unwrap() - middle).abs() < 0.001, "{with}");
}
