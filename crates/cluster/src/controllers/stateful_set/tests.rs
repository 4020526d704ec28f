//! Objects in, writes out; and sets in motion with kubelets.

use serde_json::{Value, json};

use super::*;
use crate::controllers::kubelet::{Kubelets, Timing};
use crate::controllers::scheduler::Scheduler;
use crate::engine::bare::{Bare, epoch, short, store_of};
use crate::engine::{World, Write};

fn set(replicas: u32, change: impl FnOnce(&mut Value)) -> Value {
    let mut set = json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet",
        "metadata": {"namespace": "a", "name": "db", "generation": 1, "annotations": {"example.com/a": "b"}},
        "spec": {
            "replicas": replicas, "serviceName": "svc", "selector": {"matchLabels": {"app": "db"}},
            "podManagementPolicy": "OrderedReady",
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
            "template": {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": [{"name": "c", "image": "1"}]}},
        },
    });
    change(&mut set);
    set
}

fn parallel(set: &mut Value) {
    set["spec"]["podManagementPolicy"] = json!("Parallel");
}

/// The revision with this image, under the name `db-` and that image.
fn revision(image: &str) -> Value {
    let template = json!({"metadata": {"labels": {"app": "db"}}, "spec": {"containers": [{"name": "c", "image": image}]}, "$patch": "replace"});
    json!({
        "apiVersion": "apps/v1", "kind": "ControllerRevision",
        "metadata": {"namespace": "a", "name": format!("db-{image}"), "ownerReferences": [owner()]},
        "data": {"spec": {"template": template}}, "revision": image.parse::<i64>().unwrap(),
    })
}

fn owner() -> Value {
    json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db", "uid": "db-uid", "controller": true})
}

/// A pod: `+` is ready, `*` for an hour, `-` is not, `x` is being deleted; then its revision.
fn pod(ordinal: i64, state: &str) -> Value {
    let (condition, image) = state.split_at(1);
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "namespace": "a", "name": format!("db-{ordinal}"), "ownerReferences": [owner()],
            "labels": {"app": "db", "controller-revision-hash": format!("db-{image}")},
        },
        "spec": {"nodeName": "n"},
        "status": {"phase": "Running", "conditions": [
            {"type": "Ready", "status": if condition == "-" { "False" } else { "True" }, "lastTransitionTime": "2026-03-01T12:00:00Z"},
        ]},
    });
    if condition == "*" {
        pod["status"]["conditions"][0]["lastTransitionTime"] = json!("2026-03-01T11:00:00Z");
    }
    if condition == "x" {
        pod["metadata"]["deletionTimestamp"] = json!("2026-03-01T12:00:30Z");
    }
    pod
}

/// What is done about a set with these pods, in order from 0.
fn look(set: Value, revisions: &[&str], pods: &[&str]) -> Act {
    let pods = (0..).zip(pods).filter(|(_, state)| !state.is_empty()).map(|(ordinal, state)| pod(ordinal, state));
    let objects = std::iter::once(set).chain(revisions.iter().map(|image| revision(image))).chain(pods);
    StatefulSets.look(&store_of(objects), &Key::new(Kind::StatefulSet, "a", "db"), epoch())
}

const STATUS: &str = "replace/status StatefulSet db";

#[test]
fn pods_are_made_in_order_and_each_waits_for_those_before_it() {
    for (name, pods, expected) in [
        ("none", vec![], "create Pod db-0"),
        ("the first is there", vec!["+1"], "create Pod db-1"),
        ("not ready", vec!["-1"], STATUS),
        ("going", vec!["x1"], STATUS),
        ("one is missing in between", vec!["+1", "", "+1"], "create Pod db-1"),
        ("all", vec!["+1", "+1", "+1"], STATUS),
        ("one too many", vec!["+1", "+1", "+1", "+1", "+1"], "delete Pod db-4"),
        ("one too many that goes", vec!["+1", "+1", "+1", "+1", "x1"], STATUS),
        ("one too many that is not ready", vec!["+1", "+1", "+1", "+1", "-1"], "delete Pod db-4"),
        ("one below it that is not ready", vec!["+1", "+1", "+1", "-1", "-1"], STATUS),
        ("too many, but one is missing", vec!["+1", "", "+1", "+1"], "create Pod db-1"),
    ] {
        assert_eq!(short(&look(set(3, |_| ()), &["1"], &pods)), expected, "{name}");
    }
}

#[test]
fn in_parallel_all_are_made_in_batches_and_all_go_at_once() {
    for (name, pods, expected) in [
        ("none", vec![], "create Pod db-0 | create Pod db-1, create Pod db-2"),
        ("not ready", vec!["-1"], "create Pod db-1 | create Pod db-2"),
        ("too many", vec!["-1", "+1", "+1", "+1", "-1"], "delete Pod db-4, delete Pod db-3"),
        ("going", vec!["+1", "x1", "+1", "x1"], STATUS),
    ] {
        assert_eq!(short(&look(set(3, parallel), &["1"], &pods)), expected, "{name}");
    }
}

#[test]
fn pods_of_an_old_revision_are_replaced_from_the_highest_down_to_the_partition() {
    let to = |partition: i64| {
        set(3, |set| {
            set["spec"]["template"]["spec"]["containers"][0]["image"] = json!("2");
            set["spec"]["updateStrategy"]["rollingUpdate"]["partition"] = json!(partition);
            set["status"]["currentRevision"] = json!("db-1");
        })
    };
    for (name, partition, pods, expected) in [
        ("the highest", 0, vec!["+1", "+1", "+1"], "delete Pod db-2"),
        ("it is away", 0, vec!["+1", "+1", ""], "create Pod db-2"),
        ("it is not ready yet", 0, vec!["+1", "+1", "-2"], STATUS),
        ("the next", 0, vec!["+1", "+1", "+2"], "delete Pod db-1"),
        ("the partition", 2, vec!["+1", "+1", "+2"], STATUS),
        ("above it", 2, vec!["+1", "+1", "+1"], "delete Pod db-2"),
        ("beyond all", 3, vec!["+1", "+1", "+1"], STATUS),
    ] {
        assert_eq!(short(&look(to(partition), &["1", "2"], &pods)), expected, "{name}");
    }
    let image = |act: &Act| match &act.batches[0][0] {
        Write::Create(pod) => pod["spec"]["containers"][0]["image"].clone(),
        other => panic!("no creation: {other:?}"),
    };
    assert_eq!(image(&look(to(2), &["1", "2"], &["+1", "", "+2"])), "1");
    assert_eq!(image(&look(to(2), &["1", "2"], &["+1", "+1", ""])), "2");
    let on_delete = |mut set: Value| {
        set["spec"]["updateStrategy"] = json!({"type": "OnDelete"});
        set
    };
    assert_eq!(short(&look(on_delete(to(0)), &["1", "2"], &["+1", "+1", "+1"])), STATUS);
    assert_eq!(image(&look(on_delete(to(0)), &["1", "2"], &["+1", "", "+1"])), "2");
    let broken = |mut set: Value| {
        parallel(&mut set);
        set
    };
    assert_eq!(short(&look(broken(to(0)), &["1", "2"], &["-1", "-1", "-1"])), "delete Pod db-2");
    assert_eq!(short(&look(broken(to(0)), &["1", "2"], &["+1", "+1", "-2"])), STATUS);
    assert_eq!(short(&look(broken(to(0)), &["1", "2"], &["-1", "-1", "+2"])), "delete Pod db-1");
    assert_eq!(short(&look(to(0), &["1", "2"], &["-1", "-1", "-1"])), STATUS);
}

#[test]
fn who_is_ready_is_waited_for_until_it_was_so_for_long_enough() {
    let patient = |mut set: Value| {
        set["spec"]["minReadySeconds"] = json!(10);
        set
    };
    let new = |set: &mut Value| set["spec"]["template"]["spec"]["containers"][0]["image"] = json!("2");
    let both = |set: &mut Value| {
        parallel(set);
        new(set);
    };
    for (name, set, pods, expected) in [
        ("one after the other", patient(set(2, |_| ())), vec!["+1"], STATUS),
        ("the next", patient(set(2, |_| ())), vec!["*1"], "create Pod db-1"),
        ("the first that is not available goes", patient(set(2, |_| ())), vec!["*1", "*1", "+1"], "delete Pod db-2"),
        ("one above it waits", patient(set(2, |_| ())), vec!["*1", "*1", "+1", "+1"], STATUS),
        ("an update", patient(set(3, new)), vec!["*1", "*1", "+2"], STATUS),
        ("an update in parallel", patient(set(3, both)), vec!["*1", "*1", "+2"], STATUS),
        ("the next in parallel", patient(set(3, both)), vec!["*1", "*1", "*2"], "delete Pod db-1"),
        ("what nobody asks for", set(3, both), vec!["*1", "*1", "+2"], "delete Pod db-1"),
    ] {
        let is_new = set["spec"]["template"]["spec"]["containers"][0]["image"] == "2";
        let revisions = if is_new { &["1", "2"][..] } else { &["1"] };
        assert_eq!(short(&look(set, revisions, &pods)), expected, "{name}");
    }
}

#[test]
fn a_pod_is_called_by_its_number() {
    let start = |set: &mut Value| set["spec"]["ordinals"] = json!({"start": 5});
    let act = look(set(2, start), &["1"], &[]);
    let Write::Create(pod) = &act.batches[0][0] else { panic!("{act:?}") };
    assert_eq!(pod["metadata"]["name"], "db-5");
    assert_eq!(
        pod["metadata"]["labels"],
        json!({"app": "db", "apps.kubernetes.io/pod-index": "5", "statefulset.kubernetes.io/pod-name": "db-5", "controller-revision-hash": "db-1"})
    );
    assert_eq!((&pod["spec"]["hostname"], &pod["spec"]["subdomain"]), (&json!("db-5"), &json!("svc")));
}

#[test]
fn a_template_becomes_a_revision_and_an_old_one_gets_a_new_number() {
    let act = look(set(1, |_| ()), &[], &[]);
    let Write::Create(made) = &act.batches[0][0] else { panic!("{act:?}") };
    assert_eq!((&made["kind"], &made["revision"]), (&json!("ControllerRevision"), &json!(1)));
    assert_eq!(made["data"], revision("1")["data"]);
    assert_eq!(made["metadata"]["annotations"], json!({"example.com/a": "b"}));
    let act = look(set(1, |_| ()), &["1", "2"], &["+2"]);
    let Write::Replace { object, subresource: None } = &act.batches[0][0] else { panic!("{act:?}") };
    assert_eq!((&object["metadata"]["name"], &object["revision"]), (&json!("db-1"), &json!(3)));
    let few = |set: &mut Value| {
        set["spec"]["revisionHistoryLimit"] = json!(1);
        set["spec"]["template"]["spec"]["containers"][0]["image"] = json!("4");
        set["status"] = json!({
            "observedGeneration": 1, "replicas": 1, "availableReplicas": 1, "readyReplicas": 1, "currentReplicas": 1,
            "updatedReplicas": 1, "currentRevision": "db-4", "updateRevision": "db-4", "collisionCount": 0,
        });
    };
    assert_eq!(
        short(&look(set(1, few), &["1", "2", "3", "4"], &["+4"])),
        "delete ControllerRevision db-1, delete ControllerRevision db-2"
    );
}

/// `partition: 2` of 3 settles with one updated; a real 1.36.3 gave this status for a partition of 1.
#[test]
fn the_status_counts_by_revision() {
    let partitioned = |set: &mut Value| {
        set["spec"]["template"]["spec"]["containers"][0]["image"] = json!("2");
        set["spec"]["updateStrategy"]["rollingUpdate"]["partition"] = json!(1);
        set["status"]["currentRevision"] = json!("db-1");
    };
    let act = look(set(3, partitioned), &["1", "2"], &["+1", "+2", "+2"]);
    let Write::Replace { object, subresource: Some("status") } = &act.batches[0][0] else { panic!("{act:?}") };
    assert_eq!(
        object["status"],
        json!({
            "availableReplicas": 3, "collisionCount": 0, "currentReplicas": 1, "currentRevision": "db-1",
            "observedGeneration": 1, "readyReplicas": 3, "replicas": 3, "updateRevision": "db-2", "updatedReplicas": 2,
        })
    );
}

#[test]
fn a_pod_has_a_volume_for_each_claim_of_its_set() {
    let claiming = |set: &mut Value| {
        set["spec"]["volumeClaimTemplates"] =
            json!([{"metadata": {"name": "data"}, "spec": {}}, {"metadata": {"name": "log"}, "spec": {}}]);
        set["spec"]["template"]["spec"]["volumes"] =
            json!([{"name": "log", "emptyDir": {}}, {"name": "cache", "emptyDir": {}}]);
    };
    let mut revision = revision("1");
    revision["data"]["spec"]["template"]["spec"]["volumes"] =
        json!([{"name": "log", "emptyDir": {}}, {"name": "cache", "emptyDir": {}}]);
    let store = store_of([set(3, claiming), revision, pod(0, "+1")]);
    let act = StatefulSets.look(&store, &Key::new(Kind::StatefulSet, "a", "db"), epoch());
    let Write::Create(pod) = &act.batches[0][0] else { panic!("{act:?}") };
    let claim = |name: &str, claim: &str| json!({"name": name, "persistentVolumeClaim": {"claimName": claim}});
    let wanted = json!([claim("data", "data-db-1"), claim("log", "log-db-1"), {"name": "cache", "emptyDir": {}}]);
    assert_eq!(pod["spec"]["volumes"], wanted, "that of the template with the same name gives way");
}

fn world() -> Bare {
    let world = Bare::new();
    let timing = Timing { start_spread: jiff::SignedDuration::ZERO, ..Timing::default() };
    world.run(vec![Box::new(StatefulSets), Box::new(Scheduler), Box::new(Kubelets { timing })]);
    world.create(json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}, "status": {"capacity": {"cpu": "9", "memory": "9Gi"}},
    }));
    world
}

fn images(store: &Store) -> Vec<String> {
    let image = |pod: &Object| pod.text("/spec/containers/0/image").unwrap_or_default().to_owned();
    store.list(Kind::Pod, None).map(|pod| image(pod)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_set_is_rolled_out_one_by_one() {
    let world = world();
    let key = Key::new(Kind::StatefulSet, "a", "db");
    world.create(set(3, |_| ()));
    let ready =
        |store: &Store, count: i64| store.get(&key).and_then(|set| set.number("/status/readyReplicas")) == Some(count);
    assert_eq!(world.until(|store| ready(store, 3)).await, 3);
    world.change(&key, |set| set["spec"]["template"]["spec"]["containers"][0]["image"] = json!("2"));
    let done = |store: &Store| {
        let set = store.get(&key).unwrap();
        let seen = set.number("/status/observedGeneration") == Some(set.generation());
        seen && set.number("/status/updatedReplicas") == Some(3)
            && set.text("/status/currentRevision") == set.text("/status/updateRevision")
    };
    let seconds = world.until(done).await;
    // Two seconds to end, one to start, three times.
    assert!((7..=10).contains(&seconds), "{seconds}");
    assert_eq!(world.read(images), ["2", "2", "2"]);
    let deletions: Vec<String> =
        world.log().iter().filter(|line| line.contains("delete Pod") && !line.ends_with(" 0")).cloned().collect();
    let names: Vec<&str> = deletions.iter().filter_map(|line| line.split(' ').nth(3)).collect();
    assert_eq!(names, ["db-2", "db-1", "db-0"]);
    world.change(&key, |set| set["spec"]["replicas"] = json!(1));
    world.wait(10.0).await;
    assert_eq!(world.list(Kind::Pod).len(), 1);
    assert_eq!(world.list(Kind::ControllerRevision).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn on_delete_an_evicted_pod_comes_back_at_the_new_revision() {
    let world = world();
    let key = Key::new(Kind::StatefulSet, "a", "db");
    world.create(set(2, |set| {
        parallel(set);
        set["spec"]["updateStrategy"] = json!({"type": "OnDelete"});
    }));
    world.wait(5.0).await;
    world.change(&key, |set| set["spec"]["template"]["spec"]["containers"][0]["image"] = json!("2"));
    world.wait(60.0).await;
    assert_eq!(world.read(images), ["1", "1"]);
    world.delete(&Key::new(Kind::Pod, "a", "db-0"));
    world.wait(60.0).await;
    assert_eq!(world.read(images), ["2", "1"]);
    let status = world.get(&key).at("/status").clone();
    assert_eq!((&status["updatedReplicas"], &status["currentReplicas"]), (&json!(1), &json!(1)));
    assert_ne!(status["currentRevision"], status["updateRevision"]);
}
