//! Objects in, writes out; and the whole under the engine.

use super::*;
use crate::controllers::pods::key;
use crate::engine::bare::{Bare, epoch, refused, short, store_of};

fn set(replicas: u32) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"namespace": "a", "name": "web", "generation": 3},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}, "annotations": {"example.com/a": "b"}},
                "spec": {"containers": [{"name": "c"}]},
            },
        },
    })
}

fn pod(name: &str, ready: bool) -> Value {
    let status = if ready { "True" } else { "False" };
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "namespace": "a", "name": name, "labels": {"app": "web"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "web-uid", "controller": true}],
        },
        "spec": {"nodeName": "n"},
        "status": {"phase": "Running", "conditions": [
            {"type": "Ready", "status": status, "lastTransitionTime": "2026-03-01T12:00:00Z"},
        ]},
    })
}

fn look(objects: Vec<Value>) -> Act {
    ReplicaSets.look(&store_of(objects), &Key::new(Kind::ReplicaSet, "a", "web"), epoch())
}

fn changed(mut object: Value, change: impl FnOnce(&mut Value)) -> Value {
    change(&mut object);
    object
}

#[test]
fn pods_are_made_from_the_template() {
    let act = look(vec![set(1)]);
    let Write::Create(pod) = &act.batches[0][0] else { panic!("no creation: {act:?}") };
    let owner = json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "web-uid", "controller": true,
        "blockOwnerDeletion": true,
    });
    assert_eq!(
        *pod,
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "namespace": "a", "generateName": "web-", "labels": {"app": "web"}, "annotations": {"example.com/a": "b"},
                "ownerReferences": [owner],
            },
            "spec": {"containers": [{"name": "c"}]},
        })
    );
}

#[test]
fn the_number_of_active_pods_is_brought_to_what_is_asked_for() {
    let over = |pod: Value| changed(pod, |pod| pod["status"]["phase"] = json!("Failed"));
    let going = |pod: Value| changed(pod, |pod| pod["metadata"]["deletionTimestamp"] = json!("2026-03-01T12:00:30Z"));
    let foreign = |pod: Value| changed(pod, |pod| pod["metadata"]["ownerReferences"][0]["uid"] = json!("other"));
    for (name, replicas, pods, expected) in [
        ("slow start", 4, vec![], "create Pod web- | create Pod web-, create Pod web- | create Pod web-"),
        ("one is there", 2, vec![pod("x", true)], "create Pod web-"),
        ("at its end", 1, vec![over(pod("x", false))], "create Pod web-"),
        ("being deleted", 1, vec![going(pod("x", true))], "create Pod web-"),
        ("a namesake's", 1, vec![foreign(pod("x", true))], "create Pod web-"),
        ("too many", 1, vec![pod("x", true), pod("y", false)], "delete Pod y"),
        ("far too many", 0, vec![pod("x", true), pod("y", false)], "delete Pod y, delete Pod x"),
    ] {
        let objects = std::iter::once(set(replicas)).chain(pods).collect();
        assert_eq!(short(&look(objects)), expected, "{name}");
    }
    let deleted = changed(set(3), |set| set["metadata"]["deletionTimestamp"] = json!("2026-03-01T12:00:00Z"));
    assert_eq!(short(&look(vec![deleted])), "replace/status ReplicaSet web");
}

#[test]
fn only_changes_of_pods_that_matter_are_looked_at_unless_something_was_refused() {
    let before = changed(pod("x", true), |pod| {
        pod["status"]["podIP"] = json!("");
        pod["metadata"]["deletionTimestamp"] = Value::Null;
    });
    let changes = [
        ("/spec/nodeName", json!("m"), false),
        ("/status/podIP", json!("10.0.0.1"), false),
        ("/status/conditions/0/status", json!("False"), true),
        ("/status/conditions/0/lastTransitionTime", json!("2026-03-01T12:00:01Z"), true),
        ("/status/phase", json!("Failed"), true),
        ("/metadata/deletionTimestamp", json!("2026-03-01T12:00:30Z"), true),
        ("/metadata/labels", json!({"app": "db"}), true),
    ];
    let failing =
        changed(set(1), |set| set["status"]["conditions"] = json!([{"type": "ReplicaFailure", "status": "True"}]));
    for (what, value, matters) in changes {
        for (set, expected) in [(set(1), matters), (failing.clone(), true)] {
            let store = store_of([set, changed(before.clone(), |pod| *pod.pointer_mut(what).unwrap() = value.clone())]);
            let key = Key::new(Kind::Pod, "a", "x");
            let (before, after) = (Some(Arc::new(Object::from(before.clone()))), store.get(&key).cloned());
            let touched = ReplicaSets.touched(&store, &Change { revision: 1, key, before, after });
            assert_eq!(!touched.is_empty(), expected, "{what}");
        }
    }
}

#[test]
fn matching_orphans_are_taken_in_and_others_let_go() {
    let orphan = changed(pod("x", true), |pod| pod["metadata"]["ownerReferences"] = json!([]));
    let act = look(vec![set(1), orphan.clone()]);
    let Write::Replace { object, subresource: None } = &act.batches[0][0] else { panic!("not adopted: {act:?}") };
    assert_eq!(object["metadata"]["ownerReferences"][0]["uid"], "web-uid");
    let other = changed(orphan, |pod| pod["metadata"]["labels"] = json!({"app": "db"}));
    assert_eq!(short(&look(vec![set(1), other])), "create Pod web-");
    let stray = changed(pod("x", true), |pod| pod["metadata"]["labels"] = json!({"app": "db"}));
    let act = look(vec![set(1), stray]);
    let Write::Replace { object, subresource: None } = &act.batches[0][0] else { panic!("not released: {act:?}") };
    assert_eq!(object["metadata"]["ownerReferences"], json!([]));
}

#[test]
fn the_status_counts_and_availability_takes_its_time() {
    let patient = changed(set(2), |set| set["spec"]["minReadySeconds"] = json!(10));
    let old = changed(pod("x", true), |pod| {
        pod["status"]["conditions"][0]["lastTransitionTime"] = json!("2026-03-01T11:59:00Z");
    });
    let unlabelled = changed(pod("y", true), |pod| pod["metadata"]["labels"]["tier"] = json!("1"));
    let template = changed(patient, |set| set["spec"]["template"]["metadata"]["labels"]["tier"] = json!("1"));
    let act = look(vec![template.clone(), old.clone(), unlabelled.clone()]);
    let Write::Replace { object, subresource: Some("status") } = &act.batches[0][0] else {
        panic!("no status: {act:?}")
    };
    let status = json!({
        "replicas": 2, "fullyLabeledReplicas": 1, "readyReplicas": 2, "availableReplicas": 1, "observedGeneration": 3,
        "terminatingReplicas": 0,
    });
    assert_eq!(object["status"], status);
    let written = changed(template, |set| set["status"] = status);
    let act = look(vec![written, old, unlabelled]);
    assert_eq!(act, Act::at(Some("2026-03-01T12:00:10Z".parse().unwrap())));
}

#[test]
fn the_set_with_more_pods_on_a_node_counts_its_siblings_there() {
    let of_deployment = |set: Value| {
        changed(set, |set| {
            set["metadata"]["ownerReferences"] =
                json!([{"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "d", "controller": true}]);
        })
    };
    let sibling = changed(of_deployment(set(1)), |set| set["metadata"]["name"] = json!("old"));
    let of_sibling = changed(pod("z", true), |pod| {
        pod["spec"]["nodeName"] = json!("m");
        pod["metadata"]["ownerReferences"][0]["uid"] = json!("old-uid");
    });
    let on_m = changed(pod("y", true), |pod| pod["spec"]["nodeName"] = json!("m"));
    let objects = |set: Value| vec![set, sibling.clone(), of_sibling.clone(), pod("x", true), on_m.clone()];
    assert_eq!(short(&look(objects(of_deployment(set(1))))), "delete Pod y");
    assert_eq!(short(&look(objects(set(1)))), "delete Pod x");
}

#[tokio::test(start_paused = true)]
async fn a_full_quota_is_reported_and_the_report_is_withdrawn() {
    let world = Bare::new();
    world.gate(|store, write| {
        let full = write.verb() == Verb::Create && store.list(Kind::Pod, None).count() >= 3;
        if full { Err(refused(403, "Forbidden", "exceeded quota")) } else { Ok(()) }
    });
    world.run(vec![Box::new(ReplicaSets)]);
    world.create(set(6));
    world.wait(1.0).await;
    let admissions = world.log().iter().filter(|line| line.contains("create Pod")).count();
    assert_eq!(admissions, 13);
    let web = world.get(&Key::new(Kind::ReplicaSet, "a", "web"));
    assert_eq!(web.condition("ReplicaFailure").map(|condition| &condition["reason"]), Some(&json!("FailedCreate")));
    assert_eq!(web.number("/status/replicas"), Some(3));
    world.gate(|_, _| Ok(()));
    world.wait(10.0).await;
    let web = world.get(&Key::new(Kind::ReplicaSet, "a", "web"));
    assert_eq!((web.number("/status/replicas"), web.condition("ReplicaFailure")), (Some(6), None));
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_goes_is_replaced() {
    let world = Bare::new();
    world.run(vec![Box::new(ReplicaSets)]);
    world.create(set(3));
    world.wait(1.0).await;
    let pods = world.list(Kind::Pod);
    world.delete(&key(&pods[0]).unwrap());
    world.wait(1.0).await;
    assert_eq!(world.list(Kind::Pod).len(), 3);
    world.change(&Key::new(Kind::ReplicaSet, "a", "web"), |set| set["spec"]["replicas"] = json!(1));
    world.wait(1.0).await;
    let left: Vec<_> = world.list(Kind::Pod).iter().map(|pod| pod.name().to_owned()).collect();
    assert_eq!(left.len(), 1);
    let web = world.get(&Key::new(Kind::ReplicaSet, "a", "web"));
    assert_eq!((web.number("/status/replicas"), web.number("/status/observedGeneration")), (Some(1), Some(2)));
}
