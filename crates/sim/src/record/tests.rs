//! What a recorder makes of the versions of objects that it is shown.

use serde_json::json;

use super::*;

fn node(name: &str, labels: &Value) -> Value {
    json!({"kind": "Node", "metadata": {"name": name, "labels": labels}})
}

/// A pod of `web`, of its ReplicaSet, on a node.
fn pod(uid: &str, node: &str, ready: bool) -> Value {
    let owner = json!([{"kind": "ReplicaSet", "name": "web-1", "uid": "set", "controller": true}]);
    let status = if ready { "True" } else { "False" };
    json!({
        "kind": "Pod",
        "metadata": {"namespace": "shop", "name": uid, "uid": uid, "ownerReferences": owner},
        "spec": {"nodeName": node},
        "status": {"conditions": [{"type": "Ready", "status": status}]},
    })
}

fn web(replicas: u32) -> Value {
    json!({"kind": "Deployment", "metadata": {"namespace": "shop", "name": "web", "uid": "web"},
        "spec": {"replicas": replicas}})
}

/// A recorder that knows the nodes and the Deployment `web` with its ReplicaSet.
fn recorder() -> Recorder {
    let recorder = Recorder::default();
    recorder.see(&node("s", &json!({(CAPACITY_TYPE): "spot"})), false);
    recorder.see(&node("d", &json!({(CAPACITY_TYPE): "on-demand"})), false);
    recorder.see(&node("u", &json!({})), false);
    recorder.begin();
    recorder.see(&web(2), false);
    let owner = json!([{"kind": "Deployment", "name": "web", "uid": "web", "controller": true}]);
    let metadata = json!({"namespace": "shop", "name": "web-1", "uid": "set", "ownerReferences": owner});
    recorder.see(&json!({"kind": "ReplicaSet", "metadata": metadata}), false);
    recorder
}

fn last(recorder: &Recorder) -> String {
    recorder.record().steps("shop/web").last().map(|(_, counts)| counts.to_string()).unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn pods_count_by_their_nodes_until_they_end() {
    let recorder = recorder();
    let nodes = recorder.record().nodes();
    assert_eq!(nodes, [(Duration::ZERO, Sides { spot: 1, on_demand: 1, unknown: 1 })], "what was there is told first");
    recorder.see(&pod("a", "s", true), false);
    recorder.see(&pod("b", "", false), false);
    assert_eq!(last(&recorder), "1 of 2 are ready, 1 on spot, 0 on on-demand; 1 not yet");
    recorder.see(&pod("b", "u", true), false);
    assert_eq!(last(&recorder), "2 of 2 are ready, 1 on spot, 0 on on-demand, 1 on nodes that say neither");
    let mut ending = pod("a", "s", true);
    ending["metadata"]["deletionTimestamp"] = json!("2023-11-14T22:13:20Z");
    recorder.see(&ending, false);
    assert_eq!(last(&recorder), "1 of 2 are ready, 0 on spot, 0 on on-demand, 1 on nodes that say neither");
    let mut over = pod("b", "u", true);
    over["status"]["phase"] = json!("Failed");
    recorder.see(&over, false);
    assert_eq!(last(&recorder), "0 of 2 are ready, 0 on spot, 0 on on-demand");
}

#[tokio::test(start_paused = true)]
async fn a_pod_keeps_the_type_of_a_node_that_is_gone() {
    let recorder = recorder();
    recorder.see(&pod("a", "s", true), false);
    recorder.see(&node("s", &json!({})), true);
    recorder.see(&pod("a", "s", false), false);
    recorder.see(&pod("a", "s", true), false);
    assert_eq!(last(&recorder), "1 of 2 are ready, 1 on spot, 0 on on-demand");
    let went = Moment::NodeWent { node: "s".to_owned(), capacity: Capacity::Spot };
    assert!(recorder.record().moments.iter().any(|(_, moment)| *moment == went), "as what it was known");
}

#[tokio::test(start_paused = true)]
async fn each_thing_is_told_once() {
    let recorder = recorder();
    let mut new = pod("a", "s", false);
    new["metadata"]["labels"] = json!({(STEERED_TO): "spot"});
    new["metadata"]["annotations"] = json!({(REASON): "slot 1"});
    let mut evicted = new.clone();
    let target = json!({"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"});
    evicted["status"]["conditions"] = json!([target]);
    let event = json!({"kind": "Event", "metadata": {"uid": "e"}, "reportingController": "spotalis.io/controller",
        "reason": "Rebalanced", "type": "Normal", "note": "n",
        "regarding": {"kind": "Deployment", "namespace": "shop", "name": "web"}});
    let mut foreign = event.clone();
    (foreign["metadata"]["uid"], foreign["reportingController"]) = (json!("f"), json!("kubelet"));
    for _ in 0..2 {
        for object in [&new, &evicted, &event, &foreign] {
            recorder.see(object, false);
        }
    }
    let (workload, pod) = ("shop/web".to_owned(), "a".to_owned());
    let about = "Deployment shop/web".to_owned();
    let wanted = [
        Moment::Steered {
            workload: workload.clone(),
            pod: pod.clone(),
            to: "spot".to_owned(),
            why: "slot 1".to_owned(),
        },
        Moment::Evicted { workload, pod, capacity: Capacity::Spot },
        Moment::Told { reason: "Rebalanced".to_owned(), about, note: "n".to_owned(), warning: false },
    ];
    let told = recorder.record().moments;
    let told: Vec<&Moment> = told
        .iter()
        .map(|(_, moment)| moment)
        .filter(|moment| !matches!(moment, Moment::Counted { .. } | Moment::NodeCame { .. }))
        .collect();
    assert_eq!(told, wanted.iter().collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn nobody_asks_for_pods_of_what_is_deleted() {
    let recorder = recorder();
    recorder.see(&pod("a", "s", true), false);
    recorder.see(&web(2), true);
    recorder.see(&pod("a", "s", true), true);
    assert_eq!(last(&recorder), "0 of 0 are ready, 0 on spot, 0 on on-demand");
}

#[tokio::test(start_paused = true)]
async fn who_is_bound_to_a_node_that_never_was_runs_nowhere() {
    let recorder = recorder();
    let counts = || *recorder.record().steps("shop/web").last().unwrap();
    recorder.see(&pod("a", "nowhere", false), false);
    recorder.see(&pod("b", "u", false), false);
    assert_eq!((counts().1.placed.total(), counts().1.pending), (1, 1), "the other's node does not say its type");
    recorder.see(&pod("a", "nowhere", true), false);
    assert_eq!((counts().1.ready.unknown, counts().1.pending), (1, 0), "who is ready, runs");
}
