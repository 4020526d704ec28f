//! Clusters as they are in; what a person and what a program reads out.

use CapacityType::{OnDemand, Spot};
use serde_json::{Value, json};
use spotalis_core::capacity::CapacityType;
use spotalis_kube::index::View;

use super::*;
use crate::fixture::{cluster, config, deployment, namespace};
use crate::told::Told;
use crate::view::Picture;

fn report(config: &Config, picture: &Picture) -> Report {
    Report::of(config, picture)
}

fn written(report: &Report, palette: Palette, wide: bool) -> String {
    let mut out = Vec::new();
    report.write(&mut out, palette, wide).unwrap();
    String::from_utf8(out).unwrap()
}

/// `web` is one pod off, `api` is where it should be, `half` misses its namespace, `bad` cannot be read.
fn shop(config: &Config) -> Picture {
    let mut picture = cluster(config)
        .with_shop()
        .with_deployment("api", &json!({}), &[(OnDemand, Some(1)), (OnDemand, Some(2))])
        .with_deployment(
            "web",
            &json!({ "spotalis.io/spot-percentage": "50" }),
            &[(OnDemand, Some(1)), (OnDemand, Some(2))],
        )
        .with_deployment("bad", &json!({ "spotalis.io/min-on-demand": "few" }), &[(OnDemand, None)]);
    picture.is(View::Namespaces, &namespace("elsewhere", &json!({}), &json!({})));
    picture.is(View::Deployments, &deployment("half", "elsewhere", 3, &json!({})));
    picture
}

#[test]
fn people_read_a_table_then_what_is_to_be_mended() {
    let config = config(&[]);
    let report = report(&config, &shop(&config));
    assert_eq!(
        written(&report, Palette::Plain, false),
        "\
NAMESPACE   WORKLOAD   KIND         REPLICAS   WANTED SPOT/OD   ACTUAL SPOT/OD   REASON
shop        api        Deployment   2          0/2              0/2              OnTarget
shop        bad        Deployment   1          0/1              0/1              InvalidAnnotation
shop        web        Deployment   2          1/1              0/2              Rebalanced
elsewhere   half       Deployment   3          -                -                HalfOptIn

nodes: 1 spot, 1 on-demand, 0 unknown

Half opt-ins, each with the command that completes it
  kubectl label --overwrite namespace elsewhere spotalis.io/enabled=true

Problems
  shop/deployment/bad: annotation spotalis.io/min-on-demand of the workload is \"few\"; allowed is an integer from 0 to \
2147483647, or a percentage from 0% to 100%. Correct or remove it; until then new pods go to on-demand and no pod is moved
"
    );
    assert!(!report.is_fine());
}

#[test]
fn wide_says_why_and_who_said_so() {
    let config = config(&[("SPOTALIS_DISTRIBUTION_PLACEMENT", "preferred")]);
    let report = report(&config, &shop(&config));
    let text = written(&report, Palette::Plain, true);
    let web = text.lines().find(|line| line.contains(" web ")).unwrap();
    for part in [
        "50% (workload)",
        "0 (built-in)",
        "preferred (config)",
        "always open (built-in)",
        "web-1-1 is to be evicted from on-demand so that its replacement starts on spot",
    ] {
        assert!(web.contains(part), "{part}: {web}");
    }
    assert!(text.lines().find(|line| line.contains(" api ")).unwrap().contains("not set (built-in)"), "{text}");
    assert!(text.lines().find(|line| line.contains(" half ")).unwrap().contains("its namespace is not"), "{text}");
}

#[test]
fn programs_read_the_same() {
    let config = config(&[]);
    let value = serde_json::to_value(report(&config, &shop(&config))).unwrap();
    let keys: Vec<&String> = value.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["halfOptIns", "nodes", "problems", "workloads"]);
    assert_eq!(value["nodes"], json!({ "spot": 1, "onDemand": 1, "unknown": 0 }));
    let web = &value["workloads"][2];
    assert_eq!(
        (&web["name"], &web["wanted"], &web["actual"], &web["reason"], &web["severity"]),
        (
            &json!("web"),
            &json!({ "spot": 1, "onDemand": 1 }),
            &json!({ "spot": 0, "onDemand": 2, "unknown": 0 }),
            &json!("Rebalanced"),
            &json!("acting")
        )
    );
    assert_eq!(web["policy"]["spotPercentage"], json!({ "value": 50, "from": "workload" }));
    assert_eq!(value["workloads"][0]["policy"]["spotPercentage"], json!({ "value": Value::Null, "from": "built-in" }));
    assert_eq!(
        value["halfOptIns"][0]["command"],
        "kubectl label --overwrite namespace elsewhere spotalis.io/enabled=true"
    );
    assert_eq!(value["problems"][0]["key"], "spotalis.io/min-on-demand");
}

#[test]
fn only_what_somebody_should_look_at_is_a_finding() {
    let fine = |variables: &[(&str, &str)], prepare: fn(Picture) -> Picture| {
        let config = config(variables);
        report(&config, &prepare(cluster(&config).with_shop())).is_fine()
    };
    let drifting = |picture: Picture| {
        let half = json!({ "spotalis.io/spot-percentage": "50" });
        picture.with_deployment("web", &half, &[(OnDemand, Some(1)), (OnDemand, Some(2))])
    };
    assert!(fine(&[], |picture| picture));
    assert!(fine(&[], drifting), "a move that is about to be made is no problem");
    assert!(fine(&[("SPOTALIS_DISRUPTION_WINDOW", "{schedule: '0 2 * * *', duration: 1h}")], drifting), "closed");
    assert!(!fine(&[("SPOTALIS_WEBHOOK_ENABLED", "false")], drifting), "nothing can be moved");
    assert!(!fine(&[], |picture| picture.with_deployment(
        "web",
        &json!({ "spotalis.io/colour": "red" }),
        &[(Spot, None)]
    )));
}

#[test]
fn a_problem_of_a_namespace_is_told_once() {
    let config = config(&[]);
    let mut picture = cluster(&config)
        .with_shop()
        .with_deployment("a", &json!({}), &[(OnDemand, None)])
        .with_deployment("b", &json!({}), &[(OnDemand, None)]);
    let labels = json!({ "spotalis.io/enabled": "true" });
    picture.is(View::Namespaces, &namespace("shop", &labels, &json!({ "spotalis.io/placement": "somewhere" })));
    let report = report(&config, &picture);
    let subjects: Vec<_> = report.problems.iter().map(|problem| problem.subject.as_str()).collect();
    assert_eq!(subjects, ["namespace shop"]);
}

#[test]
fn reasons_are_coloured_by_what_they_ask_for() {
    let config = config(&[]);
    let text = written(&report(&config, &shop(&config)), Palette::Colours, false);
    for coloured in [
        "\u{1b}[32mOnTarget\u{1b}[0m",
        "\u{1b}[36mRebalanced\u{1b}[0m",
        "\u{1b}[33mInvalidAnnotation\u{1b}[0m",
        "\u{1b}[33mHalfOptIn\u{1b}[0m",
    ] {
        assert!(text.contains(coloured), "{coloured:?} is not in {text:?}");
    }
}

#[test]
fn nodes_that_are_of_no_type_make_one_think_of_the_configuration() {
    let config = config(&[("SPOTALIS_NODE_LABELS_PRESET", "eks")]);
    let picture = shop(&config);
    let advice = report(&config, &picture).advice().unwrap_or_default();
    assert!(advice.contains("--config"), "{advice}");
    let empty = cluster(&config).with_shop();
    assert!(report(&config, &empty).advice().unwrap_or_default().contains("no workload is opted in"));
}

/// What came of its evictions the controller alone knows; but it has told it.
#[test]
fn what_the_controller_told_is_heard() {
    let config = config(&[]);
    let said = |told: Option<(&str, i64)>| {
        let fifty = json!({ "spotalis.io/spot-percentage": "50" });
        let mut picture =
            cluster(&config).with_shop().with_deployment("web", &fifty, &[(OnDemand, None), (OnDemand, None)]);
        if let Some((reason, minutes)) = told {
            let at = picture.now.checked_sub(jiff::SignedDuration::from_mins(minutes)).unwrap();
            picture.told.insert("web".to_owned(), Told { reason: reason.to_owned(), at, times: 1 });
        }
        let report = report(&config, &picture);
        (report.workloads[0].reason, report.is_fine())
    };
    assert_eq!(said(None), ("Rebalanced", true));
    assert_eq!(said(Some(("Rebalanced", 1))), ("Rebalanced", true));
    assert_eq!(said(Some(("WebhookNotSteering", 4))), ("WebhookNotSteering", false));
    assert_eq!(said(Some(("WebhookNotSteering", 6))), ("Rebalanced", true), "it is about to be tried again");
    assert_eq!(said(Some(("EvictionRefused", 1))), ("EvictionRefused", false));
}
