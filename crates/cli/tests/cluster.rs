//! Against an API server: what is shown, what is refused, and that nothing is ever written.

mod common;

use common::{Answers, ApiServer, Ran, list, run, shop, status};
use serde_json::{Value, json};

fn half() -> Value {
    json!({ "spotalis.io/spot-percentage": "50" })
}

/// Runs `words` against `answers`, and holds that only reading was done.
fn ask(name: &str, answers: Answers, words: &[&str]) -> Ran {
    let server = ApiServer::start(answers);
    let kubeconfig = server.kubeconfig(name);
    let words: Vec<&str> = words.iter().copied().chain(["--kubeconfig", &kubeconfig]).collect();
    let ran = run(&words);
    let written: Vec<String> = server.asked().into_iter().filter(|asked| !asked.starts_with("GET ")).collect();
    assert_eq!(written, [""; 0], "{words:?}");
    ran
}

fn refuse(mut answers: Answers, paths: &[&str], code: u16, reason: &str) -> Answers {
    answers.extend(paths.iter().map(|path| ((*path).to_owned(), status(code, reason))));
    answers
}

/// Takes the spot nodes away.
fn without_spot(mut answers: Answers) -> Answers {
    let (_, nodes) = answers.get_mut("/api/v1/nodes").expect("there are nodes");
    let nodes = nodes["items"].as_array_mut().expect("a list has items");
    nodes.retain(|node| node["metadata"]["name"] != "node-s");
    answers
}

fn json_of(ran: &Ran) -> Value {
    serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
}

#[test]
fn status_shows_what_is_wanted_and_what_there_is() {
    let ran = ask("status", shop(4, true, &half()), &["status"]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{}", ran.out);
    let web = ran.out.lines().find(|line| line.contains("web")).unwrap();
    let fields: Vec<&str> = web.split_whitespace().collect();
    assert_eq!(fields, ["shop", "web", "Deployment", "4", "2/2", "0/4", "Rebalanced"]);
    assert!(!ran.out.contains('\u{1b}'), "no colours in a pipe");

    let ran = ask("status-json", shop(4, true, &half()), &["status", "-o", "json"]);
    let from_json = json_of(&ran);
    assert_eq!(from_json["workloads"][0]["name"], "web");
    let ran = ask("status-yaml", shop(4, true, &half()), &["status", "-o", "yaml"]);
    assert!(ran.out.starts_with("workloads:"), "{}", ran.out);
    assert_eq!(serde_saphyr::from_str::<Value>(&ran.out).unwrap(), from_json);
}

/// What came of its evictions the controller alone knows, and it has told it in an Event.
#[test]
fn what_the_controller_told_is_heard_where_it_may_be_read() {
    let told = json!({
        "metadata": { "name": "web.1", "namespace": "shop" }, "reason": "WebhookNotSteering",
        "involvedObject": { "kind": "Deployment", "namespace": "shop", "name": "web", "uid": "web" },
        "reportingComponent": "spotalis.io/controller", "eventTime": "2099-01-01T00:00:00.000000Z",
    });
    let mut answers = shop(4, true, &half());
    answers.insert("/api/v1/events".to_owned(), list("Event", &[told]));
    let ran = ask("told", answers, &["status"]);
    assert!(ran.code == 1 && ran.out.contains("WebhookNotSteering"), "{} {}", ran.out, ran.err);
    let ran = ask("untold", refuse(shop(4, true, &half()), &["/api/v1/events"], 403, "Forbidden"), &["status"]);
    assert!(ran.code == 0 && ran.out.contains("Rebalanced"), "{} {}", ran.out, ran.err);
    assert!(ran.err.contains("Events could not be read"), "{}", ran.err);
}

#[test]
fn findings_are_1_and_half_an_opt_in_is_one() {
    let ran = ask("half", shop(2, false, &json!({})), &["status"]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(
        ran.out.contains("kubectl label --overwrite --namespace shop deployment web spotalis.io/enabled=true"),
        "{}",
        ran.out
    );
    let ran = ask("invalid", shop(2, true, &json!({ "spotalis.io/spot-percentage": "half" })), &["status"]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(ran.out.contains("is \"half\"; allowed is an integer from 0 to 100"), "{}", ran.out);
}

#[test]
fn what_is_forbidden_is_named_with_verb_and_kind() {
    for (name, path, permission) in [
        ("no-nodes", "/api/v1/nodes", "list nodes"),
        ("no-deployments", "/apis/apps/v1/deployments", "list deployments.apps"),
        ("no-pdbs", "/apis/policy/v1/poddisruptionbudgets", "list poddisruptionbudgets.policy"),
    ] {
        let ran = ask(name, refuse(shop(2, true, &half()), &[path], 403, "Forbidden"), &["status"]);
        assert_eq!((ran.code, ran.out.as_str()), (4, ""), "{}", ran.err);
        assert!(ran.err.contains(&format!("does not allow us to {permission}\n")), "{}", ran.err);
        assert!(ran.err.contains(&format!("`kubectl auth can-i {permission}`")), "{}", ran.err);
    }
    let both = ["/api/v1/nodes", "/api/v1/pods"];
    let ran = ask("no-two", refuse(shop(2, true, &half()), &both, 403, "Forbidden"), &["status"]);
    assert!(ran.code == 4 && ran.err.contains("list nodes, list pods"), "all of them at once: {}", ran.err);
}

#[test]
fn expired_credentials_are_called_that() {
    let everything: Vec<String> = shop(1, true, &half()).into_keys().collect();
    let paths: Vec<&str> = everything.iter().map(String::as_str).collect();
    let ran = ask("expired", refuse(shop(1, true, &half()), &paths, 401, "Unauthorized"), &["status"]);
    assert_eq!((ran.code, ran.out.as_str()), (4, ""), "{}", ran.err);
    assert!(ran.err.contains("expired"), "{}", ran.err);
    // A token may run out between the first question and the next.
    let ran = ask("expiring", refuse(shop(1, true, &half()), &["/api/v1/nodes"], 401, "Unauthorized"), &["status"]);
    assert!(ran.code == 4 && ran.err.contains("expired"), "{}", ran.err);
}

#[test]
fn a_server_that_is_none_or_is_broken_is_3() {
    let ran = ask("no-api", Answers::new(), &["status"]);
    assert!(ran.code == 3 && ran.err.contains("404"), "{}", ran.err);
    let ran = ask("old", refuse(shop(1, true, &half()), &["/api/v1/pods"], 404, "NotFound"), &["status"]);
    assert!(ran.code == 3 && ran.err.contains("does not know pods"), "{}", ran.err);
    let broken = refuse(shop(1, true, &half()), &["/api/v1/pods"], 500, "InternalError");
    let ran = ask("broken", broken, &["status"]);
    assert!(ran.code == 3 && ran.err.contains("cannot list pods now: 500 InternalError\n"), "{}", ran.err);
}

#[test]
fn whoever_sees_one_namespace_sees_it_whole() {
    let elsewhere = [
        "/api/v1/namespaces",
        "/api/v1/pods",
        "/apis/apps/v1/deployments",
        "/apis/apps/v1/statefulsets",
        "/apis/apps/v1/replicasets",
        "/apis/policy/v1/poddisruptionbudgets",
        "/apis/karpenter.sh/v1/nodepools",
        "/api/v1/namespaces/kube-system/configmaps",
    ];
    let answers = || refuse(shop(4, true, &half()), &elsewhere, 403, "Forbidden");
    let ran = ask("one-namespace", answers(), &["status", "-n", "shop", "-o", "json"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(json_of(&ran)["workloads"][0]["reason"], "Rebalanced");
    assert!(ran.err.contains("nodes look emptier than they are"), "{}", ran.err);
    assert!(!ran.err.contains("Karpenter"), "said only where there is no capacity: {}", ran.err);
    let ran = ask("no-capacity", without_spot(answers()), &["status", "-n", "shop"]);
    assert!(
        ran.err.contains("nodepools.karpenter.sh or the cluster-autoscaler's status could not be read"),
        "{} {}",
        ran.out,
        ran.err
    );
    let none = refuse(answers(), &["/api/v1/namespaces/shop"], 403, "Forbidden");
    let ran = ask("not-even-one", none, &["status", "-n", "shop"]);
    assert!(ran.code == 4 && ran.err.contains("get namespaces in namespace shop"), "{}", ran.err);
    let ran = ask("all-namespaces", answers(), &["status"]);
    assert!(ran.code == 4 && ran.err.contains("look at one namespace with --namespace"), "{}", ran.err);
}

#[test]
fn a_namespace_that_is_not_there_is_2() {
    for name in ["shpo", "no such name", "../nodes"] {
        let ran = ask("no-namespace", shop(1, true, &half()), &["status", "-n", name]);
        assert!(ran.code == 2 && ran.err.contains(&format!("there is no namespace {name}")), "{}", ran.err);
    }
}

#[test]
fn a_plan_comes_before_the_act() {
    let words = ["explain", "workload", "web", "--if", "spot-percentage=50"];
    let ran = ask("plan", shop(4, false, &json!({})), &words);
    let told = ran.out.split_once("Plan, if this were set; nothing is changed\n").unwrap().1;
    assert_eq!(
        told,
        "  \
  kubectl label --overwrite --namespace shop deployment web spotalis.io/enabled=true
  kubectl annotate --overwrite --namespace shop deployment web spotalis.io/spot-percentage=50

  wanted now    nothing, it is not managed
  wanted then   2 spot / 2 on-demand
  actual        0 spot, 4 on-demand, 0 unknown
  moves         2
  takes about   50s, if each replacement finds room and is Ready after 20s (the median of its 4 Ready pods), with a \
cooldown of 10s
  ends with     Seating: pods are given free slots of their own type

  MOVE   POD       FROM        TO     AFTER
  1      web-1-1   on-demand   spot   0s
  2      web-1-2   on-demand   spot   30s
",
        "{}",
        ran.err
    );

    let words = ["explain", "workload", "deployment/web", "-o", "json", "--if", "spot-percentage=75"];
    let ran = ask("plan-json", shop(4, true, &half()), &words);
    let plan = &json_of(&ran)["plan"];
    assert_eq!(plan["wantedBefore"], json!({ "spot": 2, "onDemand": 2 }));
    assert_eq!((&plan["wantedAfter"]["spot"], plan["moves"].as_array().unwrap().len()), (&json!(3), 3));
}

#[test]
fn a_plan_names_what_holds_it_back() {
    let answers = without_spot(shop(4, true, &json!({})));
    let ran = ask("no-room", answers, &["explain", "workload", "web", "--if", "spot-percentage=100"]);
    assert!(ran.out.contains("held back     4 of them, NoCapacity: no spot node could take the pod"), "{}", ran.out);
}

#[test]
fn half_a_window_is_judged_together_with_what_the_workload_has() {
    let words = ["explain", "workload", "web", "--if", "disruption-schedule=0 2 * * *"];
    let ran = ask("half-window", shop(1, true, &half()), &words);
    assert!(ran.code == 2 && ran.err.contains("schedule and duration together"), "{}", ran.err);
    let other_half = json!({ "spotalis.io/spot-percentage": "50", "spotalis.io/disruption-duration": "1h" });
    let ran = ask("whole-window", shop(1, true, &other_half), &words);
    assert!(ran.out.contains("spotalis.io/disruption-schedule=0 2 * * *'"), "{}", ran.err);
}

#[test]
fn a_pod_is_explained() {
    let ran = ask("pod", shop(2, true, &half()), &["explain", "pod", "web-1-1"]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    for part in [
        "workload     shop/deployment/web",
        "node         node-o",
        "why          not steered: older than the opt-in, or the webhook was not called",
        "next         it is number 1 of 1 to be moved: evicted in about 0s, and its replacement starts on spot",
    ] {
        assert!(ran.out.contains(part), "{part}: {}", ran.out);
    }
    let ran = ask("no-pod", shop(2, true, &half()), &["explain", "pod", "web-1-9"]);
    assert!(ran.code == 2 && ran.err.contains("there is no pod web-1-9 in namespace shop"), "{}", ran.err);
    let ran = ask("no-workload", shop(2, true, &half()), &["explain", "workload", "wbe"]);
    assert!(ran.code == 2 && ran.err.contains("did you mean web?"), "{}", ran.err);
}
