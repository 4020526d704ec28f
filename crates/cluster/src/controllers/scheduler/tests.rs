//! Pods and nodes in, bindings and explanations out.

#![expect(clippy::needless_pass_by_value, reason = "tables hand over literals")]

use serde_json::Value;

use super::*;
use crate::engine::bare::{Bare, epoch, store_of};

fn node(name: &str, labels: Value, change: impl FnOnce(&mut Value)) -> Value {
    let mut node = json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}, "spec": {},
        "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "10"}},
    });
    change(&mut node);
    node
}

fn plain(name: &str) -> Value {
    node(name, json!({}), |_| ())
}

fn zone(name: &str, zone: &str) -> Value {
    node(name, json!({"topology.kubernetes.io/zone": zone}), |_| ())
}

fn pod(name: &str, spec: Value) -> Value {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": "a", "name": name, "labels": {"app": name.split('-').next()}}, "spec": spec,
    });
    if pod["spec"]["containers"].is_null() {
        pod["spec"]["containers"] = json!([{"name": "c"}]);
    }
    pod
}

fn on(node: &str, name: &str) -> Value {
    pod(name, json!({"nodeName": node}))
}

fn asks(cpu: &str) -> Value {
    json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]})
}

fn port(port: Value) -> Value {
    json!([{"name": "c", "ports": [port]}])
}

fn look(objects: impl IntoIterator<Item = Value>) -> Act {
    Scheduler.look(&store_of(objects), &waiting(), epoch())
}

/// Who goes where, and why nowhere.
fn fates(objects: impl IntoIterator<Item = Value>) -> Vec<String> {
    let fate = |write: &Write| match write {
        Write::Bind { pod, uid: _, node } => format!("{} {node}", pod.name),
        Write::Replace { object, subresource: Some("status") } => {
            let message = object["status"]["conditions"][0]["message"].as_str().unwrap();
            format!("{} {}", object["metadata"]["name"].as_str().unwrap(), message.split(". no new").next().unwrap())
        }
        other => panic!("not a scheduler's write: {other:?}"),
    };
    look(objects).batches.iter().flatten().map(fate).collect()
}

fn affinity(which: &str, key: &str, app: &str) -> Value {
    json!({which: {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": key, "labelSelector": {"matchLabels": {"app": app}}}]}})
}

#[test]
fn every_filter_refuses_in_its_own_words() {
    let cordoned = node("n", json!({}), |node| node["spec"]["unschedulable"] = json!(true));
    let tainted = node("n", json!({}), |node| node["spec"]["taints"] = json!([{"key": "k", "effect": "NoSchedule"}]));
    let full = node("n", json!({}), |node| node["status"]["allocatable"]["pods"] = json!("1"));
    let table: Vec<(Vec<Value>, Value, &str)> = vec![
        (vec![cordoned.clone()], json!({}), "1 node(s) were unschedulable"),
        (vec![cordoned], json!({"tolerations": [{"operator": "Exists"}]}), "n"),
        (vec![tainted.clone()], json!({}), "1 node(s) had untolerated taint(s)"),
        (vec![tainted], json!({"tolerations": [{"key": "k", "operator": "Exists"}]}), "n"),
        (vec![plain("n")], json!({"nodeSelector": {"x": "y"}}), "1 node(s) didn't match Pod's node affinity/selector"),
        (vec![plain("n")], asks("5"), "1 Insufficient cpu"),
        (vec![plain("n")], asks("4"), "n"),
        (
            vec![plain("n"), pod("q", json!({"nodeName": "n", "containers": asks("3500m")["containers"]}))],
            asks("600m"),
            "1 Insufficient cpu",
        ),
        (
            vec![plain("n"), pod("q", json!({"nodeName": "n", "containers": port(json!({"hostPort": 80}))}))],
            json!({"containers": port(json!({"hostPort": 80, "protocol": "TCP", "hostIP": "127.0.0.1"}))}),
            "1 node(s) didn't have free ports for the requested pod ports",
        ),
        (
            vec![
                plain("n"),
                pod("q", json!({"nodeName": "n", "containers": port(json!({"hostPort": 80, "hostIP": "127.0.0.1"}))})),
            ],
            json!({"containers": port(json!({"hostPort": 80}))}),
            "1 node(s) didn't have free ports for the requested pod ports",
        ),
        (
            vec![plain("n"), pod("q", json!({"nodeName": "n", "containers": port(json!({"hostPort": 80}))}))],
            json!({"containers": port(json!({"hostPort": 80, "protocol": "UDP"}))}),
            "n",
        ),
        (
            vec![plain("n"), pod("q", json!({"nodeName": "n", "containers": port(json!({"containerPort": 80}))}))],
            json!({"containers": port(json!({"containerPort": 80}))}),
            "n",
        ),
        (vec![full, on("n", "q")], asks("5"), "1 Insufficient cpu, 1 Too many pods"),
        (vec![plain("n"), on("n", "web")], json!({"affinity": affinity("podAntiAffinity", "x", "web")}), "n"),
        (
            vec![zone("n", "a"), on("n", "web")],
            json!({"affinity": affinity("podAntiAffinity", "topology.kubernetes.io/zone", "web")}),
            "1 node(s) didn't match pod anti-affinity rules",
        ),
        (
            vec![zone("n", "a"), on("n", "web")],
            json!({"affinity": affinity("podAffinity", "topology.kubernetes.io/zone", "web")}),
            "n",
        ),
        (
            vec![zone("n", "a")],
            json!({"affinity": affinity("podAffinity", "topology.kubernetes.io/zone", "web")}),
            "1 node(s) didn't match pod affinity rules",
        ),
        (vec![zone("n", "a")], json!({"affinity": affinity("podAffinity", "topology.kubernetes.io/zone", "p")}), "n"),
        (
            vec![plain("n")],
            json!({"affinity": affinity("podAffinity", "topology.kubernetes.io/zone", "p")}),
            "1 node(s) didn't match pod affinity rules",
        ),
        (
            vec![
                zone("n", "a"),
                pod(
                    "web",
                    json!({"nodeName": "n", "affinity": affinity("podAntiAffinity", "topology.kubernetes.io/zone", "p")}),
                ),
            ],
            json!({}),
            "1 node(s) didn't satisfy existing pods anti-affinity rules",
        ),
    ];
    for (objects, spec, expected) in table {
        let fate = fates(objects.into_iter().chain([pod("p", spec.clone())]));
        assert_eq!(
            fate,
            [if expected == "n" { "p n".to_owned() } else { format!("p 0/1 nodes are available: {expected}") }],
            "{spec}"
        );
    }
}

#[test]
fn pods_are_spread_as_evenly_as_they_ask() {
    let spread = |change: &dyn Fn(&mut Value)| {
        let mut constraint = json!({
            "topologyKey": "topology.kubernetes.io/zone", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": {"matchLabels": {"app": "p"}},
        });
        change(&mut constraint);
        pod("p", json!({"topologySpreadConstraints": [constraint]}))
    };
    let tainted = |name: &str| {
        node(name, json!({"topology.kubernetes.io/zone": "b"}), |node| {
            node["spec"]["taints"] = json!([{"key": "k", "effect": "NoSchedule"}]);
        })
    };
    let uneven = "p 0/2 nodes are available: 1 node(s) didn't match pod topology spread constraints, 1 node(s) had untolerated taint(s)";
    let unlabelled = "p 0/2 nodes are available: 1 Insufficient cpu, 1 node(s) didn't match pod topology spread constraints (missing required label)";
    let small = node("m", json!({"topology.kubernetes.io/zone": "b"}), |node| {
        node["status"]["allocatable"]["cpu"] = json!("1m");
    });
    let mut asking = spread(&|_| ());
    asking["spec"]["containers"] = asks("1")["containers"].clone();
    for (name, objects, expected) in [
        ("the emptier zone", vec![zone("n", "a"), zone("m", "b"), on("n", "p-1"), spread(&|_| ())], "p m"),
        ("a zone that is closed counts", vec![zone("n", "a"), tainted("m"), on("n", "p-1"), spread(&|_| ())], uneven),
        (
            "unless it is not to",
            vec![zone("n", "a"), tainted("m"), on("n", "p-1"), spread(&|c| c["nodeTaintsPolicy"] = json!("Honor"))],
            "p n",
        ),
        ("others do not count", vec![zone("n", "a"), tainted("m"), on("n", "q-1"), spread(&|_| ())], "p n"),
        (
            "more skew is fine",
            vec![zone("n", "a"), tainted("m"), on("n", "p-1"), spread(&|c| c["maxSkew"] = json!(2))],
            "p n",
        ),
        ("without the label", vec![plain("n"), small, asking], unlabelled),
        (
            "too few zones count as empty ones",
            vec![zone("n", "a"), on("n", "p-1"), spread(&|c| c["minDomains"] = json!(2))],
            "p 0/1 nodes are available: 1 node(s) didn't match pod topology spread constraints",
        ),
    ] {
        assert_eq!(fates(objects), [expected], "{name}");
    }
}

#[test]
fn the_best_node_is_the_preferred_the_emptier_or_the_first() {
    let preferred = json!({"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
        {"weight": 1, "preference": {"matchExpressions": [{"key": "x", "operator": "In", "values": ["y"]}]}},
    ]}});
    let liked = || node("z", json!({"x": "y"}), |_| ());
    let soft =
        || node("a", json!({}), |node| node["spec"]["taints"] = json!([{"key": "k", "effect": "PreferNoSchedule"}]));
    let mine = |mut pod: Value| {
        pod["metadata"]["ownerReferences"] =
            json!([{"kind": "ReplicaSet", "name": "o", "uid": "o", "controller": true}]);
        pod
    };
    let away = json!({"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
        {"weight": 100, "podAffinityTerm": {"topologyKey": "topology.kubernetes.io/zone", "labelSelector": {"matchLabels": {"app": "q"}}}},
    ]}});
    let anyway = json!([{
        "topologyKey": "topology.kubernetes.io/zone", "maxSkew": 1, "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": {"app": "p"}},
    }]);
    for (name, objects, expected) in [
        ("the first of equals", vec![plain("b"), plain("a"), pod("p", json!({}))], "p a"),
        ("preferred", vec![plain("a"), liked(), pod("p", json!({"affinity": preferred}))], "p z"),
        ("soft taints", vec![soft(), plain("b"), pod("p", json!({}))], "p b"),
        (
            "the emptier",
            vec![
                plain("a"),
                plain("b"),
                pod("q", json!({"nodeName": "a", "containers": asks("2")["containers"]})),
                pod("p", json!({})),
            ],
            "p b",
        ),
        (
            "away from its own kind",
            vec![
                plain("a"),
                plain("b"),
                mine(on("a", "o-1")),
                pod("q", json!({"nodeName": "b", "containers": asks("2")["containers"]})),
                mine(pod("p", json!({}))),
            ],
            "p b",
        ),
        (
            "away from those it does not like",
            vec![zone("a", "x"), zone("b", "x"), zone("c", "y"), on("a", "q"), pod("p", json!({"affinity": away}))],
            "p c",
        ),
        (
            "spread if possible",
            vec![
                zone("a", "x"),
                zone("b", "x"),
                zone("c", "y"),
                on("a", "p-1"),
                pod("p", json!({"topologySpreadConstraints": anyway})),
            ],
            "p c",
        ),
    ] {
        assert_eq!(fates(objects), [expected], "{name}");
    }
}

#[test]
fn pods_come_in_their_order_and_know_of_each_other() {
    let tight = |name: &str| node(name, json!({}), |node| node["status"]["allocatable"]["pods"] = json!("2"));
    let important = pod("c", json!({"priority": 10}));
    let old = {
        let mut pod = pod("b", json!({}));
        pod["metadata"]["creationTimestamp"] = json!("2026-03-01T11:00:00Z");
        pod
    };
    let fates = fates([tight("n"), pod("a", json!({})), old, important]);
    assert_eq!(fates, ["c n", "b n", "a 0/1 nodes are available: 1 Too many pods"]);
}

#[test]
fn what_is_not_for_the_scheduler_is_left_alone() {
    let deleted = {
        let mut pod = pod("d", json!({}));
        pod["metadata"]["deletionTimestamp"] = json!("2026-03-01T12:00:00Z");
        pod
    };
    let gated = pod("g", json!({"schedulingGates": [{"name": "x"}]}));
    let other = pod("o", json!({"schedulerName": "mine"}));
    assert_eq!(look([plain("n"), deleted, gated, other]), Act { batches: vec![], again: None });
}

/// The words of a real 1.36.3 for these pods on these nodes.
#[test]
fn the_message_is_the_real_one() {
    let nodes = || {
        let tainted = node("n2", json!({"zone": "b"}), |node| {
            node["spec"]["taints"] = json!([{"key": "k", "value": "v", "effect": "NoSchedule"}]);
        });
        let mut nodes = vec![node("n1", json!({"zone": "a"}), |_| ()), tainted];
        nodes.extend(["m1", "m2", "m3", "m4"].map(plain));
        nodes.extend(["web-1", "web-2", "web-3"].map(|name| on("n1", name)));
        nodes
    };
    let message = |pod: Value| {
        let act = look(nodes().into_iter().chain([pod]));
        let Write::Replace { object, .. } = &act.batches[0][0] else { panic!("{act:?}") };
        object["status"]["conditions"][0]["message"].as_str().unwrap().to_owned()
    };
    let nowhere =
        "no new claims to deallocate, preemption: 0/6 nodes are available: 6 Preemption is not helpful for scheduling.";
    assert_eq!(
        message(pod("big", asks("40"))),
        format!("0/6 nodes are available: 1 node(s) had untolerated taint(s), 5 Insufficient cpu. {nowhere}")
    );
    assert_eq!(
        message(pod("sel", json!({"nodeSelector": {"zone": "z"}}))),
        format!(
            "0/6 nodes are available: 1 node(s) had untolerated taint(s), 5 node(s) didn't match Pod's node affinity/selector. {nowhere}"
        )
    );
    assert_eq!(
        message(pod("paff", json!({"affinity": affinity("podAffinity", "zone", "none")}))),
        format!(
            "0/6 nodes are available: 1 node(s) had untolerated taint(s), 5 node(s) didn't match pod affinity rules. {nowhere}"
        )
    );
    let spread = json!({"topologySpreadConstraints": [{"topologyKey": "zone", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"app": "web"}}}]});
    assert_eq!(
        message(pod("web-4", spread)),
        "0/6 nodes are available: 1 node(s) didn't match pod topology spread constraints, 1 node(s) had untolerated taint(s), \
         4 node(s) didn't match pod topology spread constraints (missing required label). no new claims to deallocate, \
         preemption: 0/6 nodes are available: 1 No preemption victims found for incoming pod, 5 Preemption is not helpful for scheduling."
    );
    let store = store_of([pod("p", json!({}))]);
    assert_eq!(
        Cluster::of(&store).place(&Object::from(pod("p", json!({})))),
        Err("no nodes available to schedule pods".to_owned())
    );
}

#[tokio::test(start_paused = true)]
async fn a_pod_waits_until_there_is_room_and_its_condition_keeps_its_time() {
    let world = Bare::new();
    world.run(vec![Box::new(Scheduler)]);
    let key = Key::new(Kind::Pod, "a", "p");
    world.create(pod("p", asks("2")));
    world.wait(1.0).await;
    let condition = |world: &Bare| world.get(&key).condition("PodScheduled").unwrap().clone();
    assert_eq!(condition(&world)["message"], "no nodes available to schedule pods");
    world.create(node("n", json!({}), |node| node["status"]["allocatable"]["cpu"] = json!("1")));
    world.wait(1.0).await;
    assert!(condition(&world)["message"].as_str().unwrap().contains("1 Insufficient cpu"));
    assert_eq!(condition(&world)["lastTransitionTime"], "2026-03-01T12:00:00Z");
    world.change(&Key::new(Kind::Node, "", "n"), |node| node["status"]["allocatable"]["cpu"] = json!("2"));
    world.wait(0.1).await;
    assert_eq!(world.get(&key).node(), "n");
    assert_eq!(condition(&world)["status"], "True");
}

#[test]
fn a_pod_asks_for_what_it_needs_at_one_time() {
    let container = |cpu: &str, stays: bool| {
        let mut container = json!({"name": cpu, "resources": {"requests": {"cpu": cpu}}});
        if stays {
            container["restartPolicy"] = json!("Always");
        }
        container
    };
    let first = |cpu: &str| container(cpu, false);
    let sidecar = |cpu: &str| container(cpu, true);
    for (spec, expected) in [
        (json!({"containers": [first("1"), first("2")]}), "3"),
        (json!({"containers": [first("1")], "initContainers": [first("2"), first("3")]}), "3"),
        (json!({"containers": [first("4")], "initContainers": [first("3")]}), "4"),
        // What stays is there all the time, and from its turn on while others come first.
        (json!({"containers": [first("1")], "initContainers": [sidecar("2")]}), "3"),
        (json!({"containers": [first("1")], "initContainers": [sidecar("2"), first("3")]}), "5"),
        (json!({"containers": [first("1")], "initContainers": [first("3"), sidecar("1")]}), "3"),
        (json!({"containers": [first("1")], "overhead": {"cpu": "500m"}}), "1500m"),
        (json!({"containers": [first("1")], "resources": {"requests": {"cpu": "7"}}, "overhead": {"cpu": "1"}}), "8"),
    ] {
        let asked = requests(&Object::from(json!({"spec": spec})));
        assert_eq!(asked.cpu, crate::quantity::Quantity::of(&json!(expected)), "{spec}");
    }
}

#[test]
fn company_is_a_pod_that_all_terms_select_in_any_of_the_namespaces() {
    let key = "topology.kubernetes.io/zone";
    let term = |labels: Value, more: Value| {
        let mut term = json!({"topologyKey": key, "labelSelector": {"matchLabels": labels}});
        more.as_object().unwrap().iter().for_each(|(key, value)| term[key] = value.clone());
        term
    };
    let asking = |which: &str, terms: Value| {
        pod("p", json!({"affinity": {which: {"requiredDuringSchedulingIgnoredDuringExecution": terms}}}))
    };
    let labelled = |name: &str, labels: Value| {
        let mut pod = on("n", name);
        pod["metadata"]["labels"] = labels;
        pod
    };
    let both = json!([term(json!({"x": "1"}), json!({})), term(json!({"y": "1"}), json!({}))]);
    let (x, y) = (labelled("x", json!({"x": "1"})), labelled("y", json!({"y": "1"})));
    let lonely = "p 0/1 nodes are available: 1 node(s) didn't match pod affinity rules";
    let repelled = "p 0/1 nodes are available: 1 node(s) didn't match pod anti-affinity rules";
    for (others, which, terms, expected) in [
        (vec![x.clone(), y.clone()], "podAffinity", both.clone(), lonely),
        (vec![labelled("z", json!({"x": "1", "y": "1"}))], "podAffinity", both.clone(), "p n"),
        (vec![x.clone()], "podAntiAffinity", both, repelled),
        (
            vec![x.clone()],
            "podAffinity",
            json!([term(
                json!({"x": "1"}),
                json!({"namespaces": ["a"], "namespaceSelector": {"matchLabels": {"no": "where"}}})
            )]),
            "p n",
        ),
        (vec![x], "podAffinity", json!([term(json!({"x": "1"}), json!({"namespaces": ["b"]}))]), lonely),
    ] {
        let fate = fates(others.into_iter().chain([zone("n", "a"), asking(which, terms.clone())]));
        assert_eq!(fate, [expected], "{terms}");
    }
}
