//! The life of pods, second by second.

use super::*;
use crate::engine::World;
use crate::engine::bare::{Bare, epoch, short, store_of};

fn node(name: &str, ready: Option<&str>) -> Value {
    let conditions = ready.map_or_else(|| json!([]), |status| json!([{"type": "Ready", "status": status}]));
    let addresses = json!([{"type": "InternalIP", "address": "192.0.2.1"}]);
    json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": name},
        "status": {"conditions": conditions, "capacity": {"cpu": "4"}, "addresses": addresses},
    })
}

fn pod(annotations: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "a", "name": "p", "annotations": annotations},
        "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i"}], "terminationGracePeriodSeconds": 30},
    })
}

fn key() -> Key {
    Key::new(Kind::Pod, "a", "p")
}

fn exact() -> Vec<Box<dyn Controller>> {
    let timing = Timing { start_spread: SignedDuration::ZERO, ..Timing::default() };
    vec![Box::new(Kubelets { timing })]
}

fn with(annotations: &Value) -> Bare {
    let world = Bare::new();
    world.create(node("n", Some("True")));
    world.create(pod(annotations));
    world.run(exact());
    world
}

/// The phase, whether ready, the restarts, and the state of the container.
fn seen(world: &Bare) -> String {
    let Some(pod) = world.find(&key()) else { return "gone".to_owned() };
    let container = pod.at("/status/containerStatuses/0").clone();
    let state = container["state"].as_object().and_then(|state| state.keys().next().cloned()).unwrap_or_default();
    let ready = if pod.has_condition("Ready") { "ready" } else { "unready" };
    format!("{} {ready} {} {state}", pod.text("/status/phase").unwrap_or_default(), container["restartCount"])
}

/// What is seen, whenever it is something else than before, with the tenth of a second.
async fn watched(world: &Bare, seconds: u32) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for tenth in 0..seconds * 10 {
        let now = seen(world);
        if all.last().is_none_or(|last| !last.ends_with(&now)) {
            all.push(format!("{}.{} {now}", tenth / 10, tenth % 10));
        }
        world.wait(0.1).await;
    }
    all
}

#[tokio::test(start_paused = true)]
async fn a_bound_pod_runs_and_is_ready_as_fast_as_it_says() {
    let world = with(&json!({"embedded-cluster/ready-after": "5s"}));
    let life = watched(&world, 20).await;
    let expected = [
        "0.0 Pending unready null ",
        "0.1 Pending unready 0 waiting",
        "1.1 Running unready 0 running",
        "6.1 Running ready 0 running",
    ];
    assert_eq!(life, expected);
    let pod = world.get(&key());
    assert_eq!(pod.text("/status/hostIP"), Some("192.0.2.1"));
    assert!(pod.text("/status/podIP").is_some_and(|address| address.starts_with("10.0.0.")));
    assert_eq!(pod.condition("Ready").unwrap()["lastTransitionTime"], "2026-03-01T12:00:06Z");
    assert_eq!(pod.condition("ContainersReady").unwrap()["reason"], Value::Null);
}

#[tokio::test(start_paused = true)]
async fn a_crashing_pod_waits_longer_each_time_and_may_recover() {
    let world = with(&json!({"embedded-cluster/crash-after": "2s", "embedded-cluster/recover-after": "20s"}));
    let life = watched(&world, 60).await;
    let expected = [
        "0.0 Pending unready null ",
        "0.1 Pending unready 0 waiting",
        "1.1 Running ready 0 running",
        "3.1 Running unready 0 terminated",
        "4.1 Running ready 1 running",
        "6.1 Running unready 1 waiting",
        "16.1 Running ready 2 running",
        "18.1 Running unready 2 waiting",
        "38.1 Running ready 3 running",
    ];
    assert_eq!(life, expected);
}

#[tokio::test(start_paused = true)]
async fn a_deleted_pod_ends_when_its_containers_do_or_are_killed() {
    for (annotations, end, phase) in [
        (json!({}), 2, "Succeeded"),
        (json!({"embedded-cluster/terminated-after": "10s"}), 10, "Succeeded"),
        (json!({"embedded-cluster/terminated-after": "60s"}), 30, "Failed"),
    ] {
        let world = with(&annotations);
        world.wait(5.0).await;
        world.delete(&key());
        assert_eq!(world.until(|store| store.get(&key()).is_none()).await, end);
        let last = world.log().iter().rev().take(2).cloned().collect::<Vec<_>>();
        assert!(last[0].ends_with("delete Pod p 0") && last[1].ends_with("replace/status Pod p"), "{last:?}");
        let over = world.read(|store| store.changes_after(0).unwrap().last().cloned()).unwrap();
        assert_eq!(over.before.unwrap().text("/status/phase"), Some(phase));
    }
}

#[tokio::test(start_paused = true)]
async fn on_a_node_that_is_not_ready_nothing_happens_until_it_is() {
    let world = with(&json!({}));
    let node = Key::new(Kind::Node, "", "n");
    let set = |status: &'static str| move |node: &mut Value| node["status"]["conditions"][0]["status"] = json!(status);
    world.change(&node, set("False"));
    world.wait(10.0).await;
    assert_eq!(seen(&world), "Pending unready null ");
    world.change(&node, set("True"));
    world.wait(2.0).await;
    assert_eq!(seen(&world), "Running ready 0 running");
    world.change(&node, set("Unknown"));
    world.delete(&key());
    world.wait(100.0).await;
    assert_eq!(seen(&world), "Running ready 0 running");
    world.change(&node, set("True"));
    world.wait(0.1).await;
    assert_eq!(seen(&world), "gone");
}

#[test]
fn readiness_comes_back_once_the_node_is_there_and_gates_hold_it() {
    let look = |change: &dyn Fn(&mut Value)| {
        let mut pod = pod(&json!({}));
        pod["status"] = json!({
            "phase": "Running", "startTime": "2026-03-01T11:00:00Z",
            "containerStatuses": [{"name": "c", "ready": true, "restartCount": 0, "state": {"running": {"startedAt": "2026-03-01T11:00:02Z"}}}],
            "conditions": [{"type": "Ready", "status": "False", "lastTransitionTime": "2026-03-01T11:30:00Z"}],
        });
        change(&mut pod);
        Kubelets::default().look(&store_of([node("n", Some("True")), pod]), &key(), epoch())
    };
    let ready = |act: &Act| match &act.batches[0][0] {
        Write::Replace { object, subresource: Some("status") } => {
            Object::from(object.clone()).condition("Ready").unwrap().clone()
        }
        other => panic!("no status: {other:?}"),
    };
    let back = ready(&look(&|_| ()));
    assert_eq!((&back["status"], &back["lastTransitionTime"]), (&json!("True"), &json!("2026-03-01T12:00:00Z")));
    let gated = ready(&look(&|pod| pod["spec"]["readinessGates"] = json!([{"conditionType": "example.com/g"}])));
    assert_eq!((&gated["status"], &gated["reason"]), (&json!("False"), &json!("ReadinessGatesNotReady")));
    let open = ready(&look(&|pod| {
        pod["spec"]["readinessGates"] = json!([{"conditionType": "example.com/g"}]);
        let open = json!({"type": "example.com/g", "status": "True"});
        pod["status"]["conditions"].as_array_mut().unwrap().push(open);
    }));
    assert_eq!(open["status"], "True");
}

#[test]
fn a_new_node_says_that_it_is_ready_and_one_that_says_something_is_believed() {
    let look = |ready| Kubelets::default().look(&store_of([node("n", ready)]), &Key::new(Kind::Node, "", "n"), epoch());
    let act = look(None);
    let Write::Replace { object, subresource: Some("status") } = &act.batches[0][0] else { panic!("{act:?}") };
    assert!(Object::from(object.clone()).has_condition("Ready"));
    assert_eq!(object["status"]["allocatable"], json!({"cpu": "4", "pods": "110"}));
    assert_eq!(object["status"]["nodeInfo"], info());
    assert_eq!(short(&look(Some("False"))), "");
}
