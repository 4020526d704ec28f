//! Pods that fit nowhere in, nodes out.

#![expect(clippy::needless_pass_by_value, reason = "tables hand over literals")]

use super::*;
use crate::controllers::all;
use crate::controllers::kubelet::Timing;
use crate::engine::bare::{Bare, epoch, store_of};

fn pool(name: &str, change: impl FnOnce(&mut Value)) -> Value {
    let mut pool = json!({
        "apiVersion": "karpenter.sh/v1", "kind": "NodePool", "metadata": {"name": name, "annotations": {}},
        "spec": {
            "template": {"metadata": {"labels": {"team": "t"}}, "spec": {"requirements": [
                {"key": CAPACITY_TYPE, "operator": "In", "values": ["spot", "on-demand"]},
                {"key": "topology.kubernetes.io/zone", "operator": "In", "values": ["x", "y"]},
            ]}},
            "disruption": {"consolidateAfter": "60s"},
        },
    });
    change(&mut pool);
    pool
}

fn plain(_: &mut Value) {}

fn pod(name: &str, cpu: &str, spec: Value) -> Value {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "a", "name": name, "labels": {"app": "web"}}, "spec": spec,
        "status": {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]},
    });
    pod["spec"]["containers"] = json!([{"name": "c", "resources": {"requests": {"cpu": cpu}}}]);
    pod
}

/// The nodes that are made: instance type, zone and capacity type of each.
fn made(objects: impl IntoIterator<Item = Value>) -> Vec<String> {
    let act = Provisioner.look(&store_of(objects), &plan_key(), epoch());
    let short = |write: &Write| match write {
        Write::Create(claim) => {
            let label = |key: &str| claim["metadata"]["labels"][key].as_str().unwrap_or_default();
            format!("{} {} {}", label(offering::INSTANCE_TYPE), label(offering::ZONE), label(CAPACITY_TYPE))
        }
        other => panic!("not a claim: {other:?}"),
    };
    act.batches.iter().flatten().map(short).collect()
}

fn annotated(key: &'static str, value: &'static str) -> impl FnOnce(&mut Value) {
    move |pool| pool["metadata"]["annotations"][key] = json!(value)
}

#[test]
fn the_cheapest_that_takes_the_pods_is_made_spot_before_on_demand() {
    let on_demand = json!({"nodeSelector": {CAPACITY_TYPE: "on-demand"}});
    let in_y = json!({"nodeSelector": {"topology.kubernetes.io/zone": "y"}});
    let only = |pool: &mut Value| pool["spec"]["template"]["spec"]["requirements"] = json!([]);
    let tainted =
        |pool: &mut Value| pool["spec"]["template"]["spec"]["taints"] = json!([{"key": "k", "effect": "NoSchedule"}]);
    let limited = |pool: &mut Value| pool["spec"]["limits"] = json!({"cpu": "10"});
    let table: Vec<(&str, Vec<Value>, Vec<&str>)> = vec![
        ("nothing waits", vec![pool("p", plain)], vec![]),
        ("no pool", vec![pod("a", "1", json!({}))], vec![]),
        ("one", vec![pool("p", plain), pod("a", "1", json!({}))], vec!["general.2 x spot"]),
        ("a bigger one", vec![pool("p", plain), pod("a", "5", json!({}))], vec!["general.8 x spot"]),
        ("too big", vec![pool("p", plain), pod("a", "50", json!({}))], vec![]),
        (
            "one for several",
            vec![pool("p", plain), pod("a", "1", json!({})), pod("b", "1", json!({})), pod("c", "1", json!({}))],
            vec!["general.4 x spot"],
        ),
        (
            "pinned",
            vec![pool("p", plain), pod("a", "1", on_demand), pod("b", "1", in_y), pod("c", "1", json!({}))],
            vec!["general.2 x on-demand", "general.2 y spot"],
        ),
        (
            "spot is not to be had",
            vec![pool("p", annotated(offering::UNAVAILABLE, "spot")), pod("a", "1", json!({}))],
            vec!["general.2 x on-demand"],
        ),
        (
            "a zone is not to be had",
            vec![pool("p", annotated(offering::UNAVAILABLE, "x, general.2")), pod("a", "1", json!({}))],
            vec!["general.4 y spot"],
        ),
        (
            "who does not ask for spot",
            vec![pool("p", only), pod("a", "1", json!({}))],
            vec!["general.2 zone-a on-demand"],
        ),
        ("taints keep away", vec![pool("p", tainted), pod("a", "1", json!({}))], vec![]),
        (
            "taints are tolerated",
            vec![pool("p", tainted), pod("a", "1", json!({"tolerations": [{"operator": "Exists"}]}))],
            vec!["general.2 x spot"],
        ),
        (
            "limits",
            vec![pool("p", limited), pod("a", "7", json!({})), pod("b", "5", json!({})), pod("c", "2", json!({}))],
            vec!["general.8 x spot", "general.2 x spot"],
        ),
        (
            "own size",
            vec![
                pool("p", annotated(ALLOCATABLE, r#"{"cpu": "3", "memory": "9Gi", "pods": "1"}"#)),
                pod("a", "1", json!({})),
                pod("b", "1", json!({})),
            ],
            vec!["custom x spot", "custom x spot"],
        ),
        (
            "the pool with more weight",
            vec![
                pool("p", plain),
                pool("q", |pool| {
                    pool["spec"]["weight"] = json!(9);
                    annotated(ALLOCATABLE, r#"{"cpu": "3"}"#)(pool);
                }),
                pod("a", "1", json!({})),
            ],
            vec!["custom x spot"],
        ),
        (
            "of the team",
            vec![
                pool("p", plain),
                pod("a", "1", json!({"nodeSelector": {"team": "t"}})),
                pod("b", "1", json!({"nodeSelector": {"team": "u"}})),
            ],
            vec!["general.2 x spot"],
        ),
    ];
    for (name, objects, expected) in table {
        assert_eq!(made(objects), expected, "{name}");
    }
}

#[test]
fn pods_that_are_to_be_spread_get_nodes_in_several_zones() {
    let spread = json!({"topologySpreadConstraints": [{
        "topologyKey": "topology.kubernetes.io/zone", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "web"}},
    }]});
    let pods = ["a", "b", "c", "d"].map(|name| pod(name, "500m", spread.clone()));
    let made = made(pods.into_iter().chain([pool("p", plain)]));
    assert_eq!(made, ["general.2 x spot", "general.2 y spot"]);
}

#[test]
fn what_comes_is_counted_on() {
    let claim = |change: &dyn Fn(&mut Value)| {
        let mut claim = json!({
            "apiVersion": "karpenter.sh/v1", "kind": "NodeClaim",
            "metadata": {"name": "p-1", "labels": {NODE_POOL: "p"}, "annotations": {ALLOCATABLE: r#"{"cpu":"2","memory":"8Gi","pods":"9"}"#}},
        });
        change(&mut claim);
        claim
    };
    let pods = || [pod("a", "1", json!({})), pod("b", "1", json!({}))];
    assert_eq!(made(pods().into_iter().chain([pool("p", plain), claim(&|_| ())])), [""; 0]);
    let going = claim(&|claim| claim["metadata"]["deletionTimestamp"] = json!("2026-03-01T12:00:00Z"));
    assert_eq!(made(pods().into_iter().chain([pool("p", plain), going])), ["general.2 x spot"]);
    // Its node is there and not ready yet, so it is tainted, but not for long.
    let node = json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": "p-1", "ownerReferences": [{"apiVersion": "karpenter.sh/v1", "kind": "NodeClaim", "name": "p-1", "uid": "p-1-uid"}]},
        "spec": {"taints": [{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]},
        "status": {"conditions": [{"type": "Ready", "status": "False"}]},
    });
    let launched = claim(&|claim| claim["status"]["conditions"] = json!([{"type": "Launched", "status": "True"}]));
    assert_eq!(made(pods().into_iter().chain([pool("p", plain), launched, node])), [""; 0]);
}

fn world() -> Bare {
    let world = Bare::new();
    world.run(all(Timing { start_spread: SignedDuration::ZERO, ..Timing::default() }));
    world
}

fn fresh(name: &str, cpu: &str) -> Value {
    let mut pod = pod(name, cpu, json!({}));
    pod["status"] = json!({});
    pod
}

#[tokio::test(start_paused = true)]
async fn a_node_comes_takes_its_pods_and_goes_when_it_was_empty_for_long_enough() {
    let world = world();
    world.create(pool("p", plain));
    ["a", "b", "c"].into_iter().for_each(|name| world.create(fresh(name, "1")));
    let ready = |store: &Store| store.list(Kind::Pod, None).filter(|pod| pod.has_condition("Ready")).count() == 3;
    // A second to collect them, thirty to launch, five to be ready, one to start.
    let seconds = world.until(ready).await;
    assert!((36..=38).contains(&seconds), "{seconds}");
    let nodes = world.list(Kind::Node);
    assert_eq!(nodes.len(), 1);
    assert_eq!((nodes[0].label(CAPACITY_TYPE), nodes[0].label("team")), (Some("spot"), Some("t")));
    assert_eq!(nodes[0].label("topology.kubernetes.io/region"), Some("region"));
    assert_eq!(nodes[0].text("/status/nodeInfo/kubeletVersion"), Some("v1.36.3"));
    assert!(nodes[0].list("/spec/taints").is_empty());
    assert!(world.list(Kind::NodeClaim)[0].has_condition("Initialized"));
    world.wait(600.0).await;
    for name in ["a", "b", "c"] {
        world.delete(&Key::new(Kind::Pod, "a", name));
    }
    world.until(|store| store.list(Kind::Pod, None).next().is_none()).await;
    let seconds = world.until(|store| store.list(Kind::Node, None).next().is_none()).await;
    assert!((58..=61).contains(&seconds), "{seconds}");
    world.wait(1.0).await;
    assert!(world.list(Kind::NodeClaim).is_empty());
}

#[tokio::test(start_paused = true)]
async fn capacity_that_ends_during_the_launch_is_replaced_by_another() {
    let world = world();
    let key = Key::new(Kind::NodePool, "", "p");
    world.create(pool("p", plain));
    world.create(fresh("a", "1"));
    world.wait(10.0).await;
    assert_eq!(world.list(Kind::NodeClaim)[0].label(CAPACITY_TYPE), Some("spot"));
    world.change(&key, |pool| pool["metadata"]["annotations"][offering::UNAVAILABLE] = json!("spot"));
    world.until(|store| store.list(Kind::Pod, None).all(|pod| pod.has_condition("Ready"))).await;
    assert_eq!(world.list(Kind::Node)[0].label(CAPACITY_TYPE), Some("on-demand"));
    assert_eq!(world.list(Kind::NodeClaim).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_is_deleted_takes_its_node_along_and_the_other_way_round() {
    for by_node in [false, true] {
        let world = world();
        world.create(pool("p", plain));
        world.create(fresh("a", "1"));
        world.until(|store| store.list(Kind::Pod, None).all(|pod| pod.has_condition("Ready"))).await;
        let name = world.list(Kind::Node)[0].name().to_owned();
        world.delete(&Key::new(if by_node { Kind::Node } else { Kind::NodeClaim }, "", &name));
        world.wait(120.0).await;
        assert!(
            world.list(Kind::Node).is_empty()
                && world.list(Kind::NodeClaim).is_empty()
                && world.list(Kind::Pod).is_empty()
        );
    }
}
