//! One workload, one pod: what is said about them, and where it comes from.

use CapacityType::{OnDemand, Spot};
use serde_json::json;
use spotalis_kube::index::View;
use std::time::Duration;

use super::*;
use crate::fixture::{cluster, config, key, namespace};

const HALF: &str = "50";

fn half() -> serde_json::Value {
    json!({ "spotalis.io/spot-percentage": HALF })
}

fn details(list: &[(&str, &str)]) -> BTreeMap<String, PodDetail> {
    let detail = |reason: &str| PodDetail {
        placement_reason: Some(reason.to_owned()),
        ready_after: Some(Duration::from_secs(12)),
    };
    list.iter().map(|(name, reason)| ((*name).to_owned(), detail(reason))).collect()
}

fn explained(config: &Config, picture: &Picture, details: &BTreeMap<String, PodDetail>) -> Explanation {
    Explanation::of(config, picture, &key("web"), details).unwrap()
}

fn written(explanation: &Explanation) -> String {
    let mut out = Vec::new();
    explanation.write(&mut out, Palette::Plain).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn a_workload_is_explained_from_policy_to_next_step() {
    let config = config(&[]);
    let picture = cluster(&config).with_shop().with_deployment(
        "web",
        &half(),
        &[(Spot, Some(1)), (OnDemand, Some(2)), (OnDemand, None)],
    );
    let found = explained(&config, &picture, &details(&[("web-1-1", "slot 1 is spot")]));
    assert_eq!(
        written(&found),
        "\
workload   Deployment web in namespace shop
opt-in     managed
replicas   3
wanted     2 spot, 1 on-demand
actual     1 spot, 2 on-demand, 0 unknown
reason     Rebalanced: web-1-2 is to be evicted from on-demand so that its replacement starts on spot
next       the controller evicts web-1-2 now, and waits for the replacement to be Ready, which shows whether \
the webhook is called

Policy
  KEY                   VALUE         FROM
  spot-percentage       50%           workload
  min-on-demand         0             built-in
  placement             required      built-in
  spot-fallback-after   3m            built-in
  disruption window     always open   built-in
  rounding              ceil          distribution.rounding

Split
  spot = min( ceil(3 * 50 / 100), max(0, 3 - 0) )
       = min( 2, 3 ) = 2
  on-demand = 3 - 2 = 1
  slots: S O S (S is spot, O is on-demand)

Pods
  NAME      NODE     TYPE        SLOT   READY   WHY
  web-1-1   node-s   spot        1      yes     slot 1 is spot
  web-1-2   node-o   on-demand   2      yes     steered to on-demand
  web-1-3   node-o   on-demand   -      yes     not steered: the webhook was not called when it was created
"
    );
    assert_eq!(found.exit(), Exit::Fine);
}

#[test]
fn what_is_missing_comes_with_its_commands() {
    let config = config(&[]);
    let mut picture = cluster(&config).with_shop().with_deployment("web", &half(), &[(OnDemand, None)]);
    picture.is(View::Namespaces, &namespace("shop", &json!({}), &json!({})));
    let found = explained(&config, &picture, &BTreeMap::new());
    assert_eq!(found.opt_in.commands, ["kubectl label --overwrite namespace shop spotalis.io/enabled=true"]);
    assert_eq!((found.workload.reason, found.exit()), ("HalfOptIn", Exit::Found));
    assert!(found.pods.is_empty());

    for (mode, commands) in [(Mode::Both, 2), (Mode::Either, 1)] {
        assert_eq!(OptInState::of(OptIn::Out, mode, &key("web")).commands.len(), commands);
    }
}

#[test]
fn the_formula_shows_both_sides_of_the_minimum() {
    let target = |percent, floor, rounding| Target {
        spot_percentage: spotalis_core::split::Percentage::new(percent).unwrap(),
        min_on_demand: floor,
        rounding,
    };
    let (ceil, down) = (spotalis_core::split::Rounding::Ceil, spotalis_core::split::Rounding::Floor);
    for (replicas, target, share, above, spot) in [
        (10, target(70, Floor::Count(1), ceil), 7, 9, 7),
        (10, target(70, Floor::Count(4), ceil), 7, 6, 6),
        (3, target(50, Floor::Count(9), ceil), 2, 0, 0),
        (3, target(50, Floor::Count(0), down), 1, 3, 1),
    ] {
        let split = SplitState::of(target, replicas, "ceil");
        assert_eq!((split.share, split.above_floor, split.spot), (share, above, spot), "{target:?} of {replicas}");
        assert_eq!(split.spot + split.on_demand, replicas);
    }
}

#[test]
fn a_long_strip_of_slots_is_cut() {
    let mut out = Vec::new();
    write_slots(&mut out, &["spot"; 60], 75).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(text.ends_with("S S and 15 more (S is spot, O is on-demand)\n"), "{text}");
}

#[test]
fn what_comes_next_depends_on_time_or_on_somebody() {
    let closed = ("SPOTALIS_DISRUPTION_WINDOW", "{schedule: '0 14 * * *', duration: 1h}");
    for (variables, says) in [
        (vec![closed], "looked at again at 2026-03-01T14:00:00Z, in 2h"),
        (vec![("SPOTALIS_READ_ONLY_MODE", "true")], "nothing, because readOnlyMode is on"),
        (vec![("SPOTALIS_WEBHOOK_ENABLED", "false")], "looked at again as soon as something changes"),
    ] {
        let config = config(&variables);
        let pods = [(OnDemand, Some(1)), (OnDemand, Some(2))];
        let picture = cluster(&config).with_shop().with_deployment("web", &half(), &pods);
        assert_eq!(explained(&config, &picture, &BTreeMap::new()).next, says);
    }
}

fn pod(config: &Config, picture: &Picture, name: &str) -> PodExplanation {
    PodExplanation::of(config, picture, "shop", name, &details(&[])).unwrap()
}

#[test]
fn a_pod_is_told_its_turn() {
    let config = config(&[]);
    let pods = [(OnDemand, Some(1)), (OnDemand, Some(2)), (OnDemand, Some(3)), (OnDemand, Some(4))];
    let picture = cluster(&config).with_shop().with_deployment("web", &half(), &pods);
    let third = pod(&config, &picture, "web-1-3");
    assert_eq!((third.slot_wants, third.matches, third.r#type), (Some("spot"), Some(false), "on-demand"));
    assert_eq!(third.fate, "it is number 1 of 2 to be moved: evicted in about 0s, and its replacement starts on spot");
    // 30 s until the replacement is Ready, which is assumed, and the cooldown.
    let first = pod(&config, &picture, "web-1-1");
    assert_eq!(first.fate, "it is number 2 of 2 to be moved: evicted in about 40s, and its replacement starts on spot");
    let second = pod(&config, &picture, "web-1-2");
    assert_eq!((second.matches, second.fate.as_str()), (Some(true), "it stays where it is"));
}

#[test]
fn a_pod_that_sits_wrong_in_an_exact_split_keeps_running() {
    let config = config(&[]);
    let picture = cluster(&config).with_shop().with_deployment("web", &half(), &[(OnDemand, Some(1)), (Spot, Some(2))]);
    let first = pod(&config, &picture, "web-1-1");
    assert_eq!(first.fate, "it is given slot 2 and keeps running");
}

#[test]
fn names_that_nothing_has_are_guessed() {
    let config = config(&[]);
    let picture = cluster(&config).with_shop().with_deployment("web", &half(), &[(OnDemand, None)]);
    let says = |kind, name| find(&picture.index, "shop", kind, name).map_err(|error| error.to_string());
    assert_eq!(says(None, "web"), Ok(key("web")));
    assert_eq!(says(Some(WorkloadKind::Deployment), "web"), Ok(key("web")));
    assert_eq!(
        says(None, "wbe"),
        Err("there is no Deployment or StatefulSet wbe in namespace shop; did you mean web?".to_owned())
    );
    assert_eq!(
        says(Some(WorkloadKind::StatefulSet), "web"),
        Err("there is no StatefulSet web in namespace shop".to_owned())
    );
    let names = details(&[("web-1-1", "")]);
    let nobody = PodExplanation::of(&config, &picture, "shop", "web-1-2", &names).unwrap_err();
    assert_eq!(nobody.to_string(), "there is no pod web-1-2 in namespace shop; did you mean web-1-1?");
}
