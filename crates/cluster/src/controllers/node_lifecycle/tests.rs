//! Nodes that fail, and what becomes of the pods on them.

use super::*;
use crate::controllers::kubelet::Kubelets;
use crate::controllers::pod_gc::PodGc;
use crate::controllers::taint_eviction::TaintEviction;
use crate::engine::bare::{Bare, epoch, store_of};

fn node(ready: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}, "spec": spec,
        "status": {"conditions": [{"type": "Ready", "status": ready}]},
    })
}

/// The taints that a node gets; `None` if they stay as they are.
fn taints(node: Value) -> Option<Vec<String>> {
    let act = NodeLifecycle.look(&store_of([node]), &Key::new(Kind::Node, "", "n"), epoch());
    let Some(Write::Replace { object, subresource: None }) = act.batches.first().and_then(|batch| batch.first()) else {
        return None;
    };
    let taints = Object::from(object.clone());
    let short = |value: &Value| {
        let taint = taint(value);
        format!("{}:{}", taint.key.trim_start_matches("node.kubernetes.io/"), taint.effect)
    };
    Some(taints.list("/spec/taints").iter().map(short).collect())
}

#[test]
fn taints_follow_conditions_and_leave_others_alone() {
    let not_ready = json!({"taints": [
        {"key": "mine", "effect": "NoExecute"}, {"key": NOT_READY, "effect": "NoSchedule"}, {"key": NOT_READY, "effect": "NoExecute"},
    ]});
    for (name, node, expected) in [
        ("ready", node("True", &json!({})), None),
        ("not ready", node("False", &json!({})), Some(vec!["not-ready:NoSchedule", "not-ready:NoExecute"])),
        ("unknown", node("Unknown", &json!({})), Some(vec!["unreachable:NoSchedule", "unreachable:NoExecute"])),
        ("not ready, as before", node("False", &not_ready), None),
        ("ready again", node("True", &not_ready), Some(vec!["mine:NoExecute"])),
        (
            "worse",
            node("Unknown", &not_ready),
            Some(vec!["mine:NoExecute", "unreachable:NoSchedule", "unreachable:NoExecute"]),
        ),
        ("cordoned", node("True", &json!({"unschedulable": true})), Some(vec!["unschedulable:NoSchedule"])),
        ("uncordoned", node("True", &json!({"taints": [{"key": CORDONED, "effect": "NoSchedule"}]})), Some(vec![])),
    ] {
        let expected = expected.map(|taints| taints.into_iter().map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(taints(node), expected, "{name}");
    }
}

fn pod(name: &str, tolerations: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "a", "name": name},
        "spec": {"nodeName": "n", "containers": [{"name": "c"}], "terminationGracePeriodSeconds": 5, "tolerations": tolerations},
    })
}

fn tolerates_for(seconds: u32) -> Value {
    json!([
        {"key": NOT_READY, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds},
        {"key": UNREACHABLE, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds},
    ])
}

fn world(pods: impl IntoIterator<Item = Value>) -> Bare {
    let world = Bare::new();
    world.run(vec![Box::new(Kubelets::default()), Box::new(NodeLifecycle), Box::new(TaintEviction), Box::new(PodGc)]);
    world.create(node("True", &json!({})));
    pods.into_iter().for_each(|pod| world.create(pod));
    world
}

fn set(world: &Bare, status: &'static str) {
    world.change(&Key::new(Kind::Node, "", "n"), |node| node["status"]["conditions"][0]["status"] = json!(status));
}

fn key(name: &str) -> Key {
    Key::new(Kind::Pod, "a", name)
}

#[tokio::test(start_paused = true)]
async fn pods_on_a_node_that_fails_are_not_ready_and_are_evicted_when_their_patience_is_over() {
    let always = json!([{"operator": "Exists"}]);
    let first = json!([{"operator": "Exists", "effect": "NoExecute"}, {"operator": "Exists", "tolerationSeconds": 30}]);
    let world = world([
        pod("always", &always),
        pod("never", &json!([])),
        pod("while", &tolerates_for(300)),
        pod("first", &first),
    ]);
    world.wait(10.0).await;
    assert!(world.get(&key("while")).has_condition("Ready"));
    set(&world, "Unknown");
    world.wait(1.0).await;
    assert!(!world.get(&key("while")).has_condition("Ready"));
    assert!(world.get(&key("never")).deletion().is_some());
    let going = |store: &Store| store.get(&key("while")).is_none_or(|pod| pod.deletion().is_some());
    assert_eq!(world.until(going).await, 299);
    assert_eq!(world.get(&key("while")).condition("DisruptionTarget").unwrap()["reason"], "DeletionByTaintManager");
    world.wait(1000.0).await;
    assert!(world.get(&key("always")).deletion().is_none());
    assert!(world.get(&key("first")).deletion().is_none(), "the first toleration counts");
    // Nobody ends them, for their kubelet is not reached.
    assert!(world.find(&key("never")).is_some());
    set(&world, "True");
    world.wait(1.0).await;
    assert!(world.find(&key("never")).is_none() && world.find(&key("while")).is_none());
    assert!(world.get(&key("always")).has_condition("Ready"));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_comes_back_in_time_keeps_its_pods() {
    let world = world([pod("while", &tolerates_for(300))]);
    world.wait(10.0).await;
    set(&world, "False");
    world.wait(200.0).await;
    set(&world, "True");
    world.wait(1.0).await;
    assert!(world.get(&key("while")).has_condition("Ready"));
    world.wait(1000.0).await;
    assert!(world.get(&key("while")).deletion().is_none());
    assert_eq!(world.get(&Key::new(Kind::Node, "", "n")).list("/spec/taints"), [json!(null); 0]);
}

#[tokio::test(start_paused = true)]
async fn pods_of_a_node_that_is_gone_are_collected_after_a_minute() {
    let world = world([pod("x", &tolerates_for(300))]);
    world.wait(10.0).await;
    world.delete(&Key::new(Kind::Node, "", "n"));
    assert_eq!(world.until(|store| store.get(&key("x")).is_none()).await, 60);
}
