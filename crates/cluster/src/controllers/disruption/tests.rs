//! Pods and budgets in, status out.

use super::*;
use crate::engine::bare::{Bare, epoch, store_of};
use crate::engine::{World, Write};

fn budget(spec: &Value, status: &Value) -> Value {
    let mut spec = spec.clone();
    spec["selector"] = json!({"matchLabels": {"app": "web"}});
    json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
        "metadata": {"namespace": "a", "name": "web", "generation": 2}, "spec": spec, "status": status,
    })
}

fn pod(name: &str, ready: bool) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "namespace": "a", "name": name, "labels": {"app": "web"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-1", "uid": "web-1-uid", "controller": true}],
        },
        "status": {"conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]},
    })
}

/// A Deployment of ten, and its ReplicaSet of eight.
fn owners() -> [Value; 2] {
    let owner = json!([{"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "d", "controller": true}]);
    [
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"namespace": "a", "name": "web", "uid": "d"}, "spec": {"replicas": 10}}),
        json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"namespace": "a", "name": "web-1", "ownerReferences": owner}, "spec": {"replicas": 8}}),
    ]
}

fn look(objects: impl IntoIterator<Item = Value>) -> Act {
    Disruption.look(&store_of(objects), &Key::new(Kind::PodDisruptionBudget, "a", "web"), epoch())
}

/// currentHealthy, desiredHealthy, expectedPods, disruptionsAllowed, and the reason.
fn counts(act: &Act) -> (i64, i64, i64, i64, String) {
    let Some(Write::Replace { object, subresource: Some("status") }) = act.batches[0].first() else {
        panic!("{act:?}")
    };
    let status = &object["status"];
    let of = |name: &str| status[name].as_i64().unwrap();
    let reason = status["conditions"][0]["reason"].as_str().unwrap().to_owned();
    assert_eq!(status["observedGeneration"], 2);
    (of("currentHealthy"), of("desiredHealthy"), of("expectedPods"), of("disruptionsAllowed"), reason)
}

#[test]
fn what_has_to_be_healthy_is_counted_from_pods_or_from_the_scale_of_their_owner() {
    for (spec, expected) in [
        (json!({"minAvailable": 2}), (3, 2, 4, 1, "SufficientPods")),
        (json!({"minAvailable": 3}), (3, 3, 4, 0, "InsufficientPods")),
        (json!({"minAvailable": 0}), (3, 0, 4, 3, "SufficientPods")),
        (json!({"minAvailable": "25%"}), (3, 3, 10, 0, "InsufficientPods")),
        (json!({"minAvailable": "20%"}), (3, 2, 10, 1, "SufficientPods")),
        (json!({"minAvailable": "100%"}), (3, 10, 10, 0, "InsufficientPods")),
        (json!({"maxUnavailable": 8}), (3, 2, 10, 1, "SufficientPods")),
        (json!({"maxUnavailable": 0}), (3, 10, 10, 0, "InsufficientPods")),
        (json!({"maxUnavailable": "75%"}), (3, 2, 10, 1, "SufficientPods")),
        (json!({"maxUnavailable": 20}), (3, 0, 10, 3, "SufficientPods")),
    ] {
        let pods = [pod("x", true), pod("y", true), pod("z", true), pod("w", false)];
        let (a, b, c, d, reason) = expected;
        let act = look(owners().into_iter().chain(pods).chain([budget(&spec, &json!({}))]));
        assert_eq!(counts(&act), (a, b, c, d, reason.to_owned()), "{spec}");
    }
    let nobody = look([budget(&json!({"minAvailable": 0}), &json!({}))]);
    assert_eq!(counts(&nobody), (0, 0, 0, 0, "InsufficientPods".to_owned()));
}

#[test]
fn nothing_may_go_while_nobody_knows_what_should_be_there() {
    let of_a_job = || {
        let mut pod = pod("job", true);
        pod["metadata"]["ownerReferences"][0]["kind"] = json!("Job");
        pod
    };
    let share = || budget(&json!({"maxUnavailable": 1}), &json!({"disruptionsAllowed": 5, "observedGeneration": 1}));
    let [_, set] = owners();
    for objects in [vec![pod("x", true)], vec![set, pod("x", true)], vec![of_a_job()]] {
        let act = look(objects.into_iter().chain([share()]));
        let Write::Replace { object, .. } = &act.batches[0][0] else { panic!("{act:?}") };
        let status = &object["status"];
        assert_eq!((&status["disruptionsAllowed"], &status["observedGeneration"]), (&json!(0), &json!(1)));
        assert_eq!(status["conditions"][0]["reason"], "SyncFailed");
    }
    let mut alone = pod("alone", true);
    alone["metadata"]["ownerReferences"] = json!([]);
    let known = look(owners().into_iter().chain([pod("x", true), alone, share()]));
    assert_eq!(counts(&known), (2, 9, 10, 0, "InsufficientPods".to_owned()), "who belongs to nobody asks for nothing");
    let number = look([of_a_job(), budget(&json!({"minAvailable": 0}), &json!({}))]);
    assert_eq!(counts(&number), (1, 0, 1, 1, "SufficientPods".to_owned()), "a number asks nobody");
}

#[test]
fn a_pod_that_goes_or_is_about_to_go_is_not_healthy() {
    let going = |mut pod: Value| {
        pod["metadata"]["deletionTimestamp"] = json!("2026-03-01T12:00:30Z");
        pod
    };
    let status = json!({"disruptedPods": {
        "x": "2026-03-01T11:59:00Z", "y": "2026-03-01T11:58:00Z", "z": "2026-03-01T11:59:59Z", "gone": "2026-03-01T11:59:59Z",
    }});
    let pods = [pod("x", true), pod("y", true), going(pod("z", true)), pod("w", true)];
    let act = look(pods.into_iter().chain([budget(&json!({"minAvailable": 1}), &status)]));
    assert_eq!(counts(&act), (2, 1, 4, 1, "SufficientPods".to_owned()));
    let Write::Replace { object, .. } = &act.batches[0][0] else { unreachable!() };
    assert_eq!(object["status"]["disruptedPods"], json!({"x": "2026-03-01T11:59:00Z"}));
    assert_eq!(act.again, Some("2026-03-01T12:01:00Z".parse().unwrap()));
}

/// A budget that an eviction took whose pod did not go: the facts say for up to two minutes.
#[tokio::test(start_paused = true)]
async fn an_eviction_that_came_to_nothing_is_forgotten_after_two_minutes() {
    let world = Bare::new();
    world.run(vec![Box::new(Disruption)]);
    let key = Key::new(Kind::PodDisruptionBudget, "a", "web");
    world.create(budget(&json!({"minAvailable": 1}), &json!({})));
    for name in ["x", "y"] {
        let mut pod = pod(name, true);
        pod["status"]["conditions"][0]["lastTransitionTime"] = json!("2026-03-01T12:00:00Z");
        world.create(pod);
    }
    world.wait(1.0).await;
    let allowed = |world: &Bare| world.get(&key).number("/status/disruptionsAllowed");
    assert_eq!(allowed(&world), Some(1));
    world.change(&key, |budget| {
        budget["status"]["disruptionsAllowed"] = json!(0);
        budget["status"]["disruptedPods"] = json!({"x": second(epoch())});
    });
    world.wait(1.0).await;
    assert_eq!(allowed(&world), Some(0));
    let seconds = world.until(|store| store.get(&key).unwrap().number("/status/disruptionsAllowed") == Some(1)).await;
    assert_eq!(seconds, 118);
    assert!(world.read(|store| store.get(&key).unwrap().at("/status/disruptedPods").is_null()));
}
