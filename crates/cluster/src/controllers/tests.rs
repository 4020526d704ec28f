//! All controllers together.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use serde_json::{Value, json};

use super::*;
use crate::engine::World;
use crate::engine::bare::{Bare, counts};
use crate::object::Object;
use crate::resource::Kind;
use crate::store::{Key, Store};

fn exact() -> Timing {
    Timing { start_spread: SignedDuration::ZERO, ..Timing::default() }
}

fn node(name: &str, zone: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"topology.kubernetes.io/zone": zone}},
        "spec": {}, "status": {"capacity": {"cpu": "8", "memory": "32Gi", "pods": "30"}},
    })
}

fn deployment(name: &str, replicas: u32) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"namespace": "a", "name": name},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": {"app": name}}, "progressDeadlineSeconds": 600,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {
                    "containers": [{"name": "c", "image": "1", "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}}}],
                    "tolerations": [
                        {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
                        {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
                    ],
                },
            },
        },
    })
}

fn web() -> Key {
    Key::new(Kind::Deployment, "a", "web")
}

fn world(nodes: usize) -> Bare {
    let world = Bare::slow(Duration::from_millis(5));
    world.run(all(exact()));
    for number in 0..nodes {
        world.create(node(&format!("n{number}"), ["x", "y", "z"][number % 3]));
    }
    world
}

fn ready(store: &Store) -> usize {
    store.list(Kind::Pod, None).filter(|pod| pod.has_condition("Ready") && pod.deletion().is_none()).count()
}

fn is_rolled_out(store: &Store, replicas: i64) -> bool {
    let web = store.get(&web()).unwrap();
    let counts = ["replicas", "updatedReplicas", "readyReplicas", "availableReplicas"];
    let seen = web.number("/status/observedGeneration") == Some(web.generation());
    seen && counts.iter().all(|name| web.number(&format!("/status/{name}")) == Some(replicas))
}

fn set_image(world: &Bare, image: &str) {
    world.change(&web(), |web| web["spec"]["template"]["spec"]["containers"][0]["image"] = json!(image));
}

#[tokio::test(start_paused = true)]
async fn a_deployment_comes_up_spread_over_nodes_and_says_so() {
    let world = world(3);
    world.create(deployment("web", 9));
    assert_eq!(world.until(|store| is_rolled_out(store, 9)).await, 1);
    for number in 0..3 {
        let node = format!("n{number}");
        assert_eq!(world.read(|store| store.pods_on(&node).count()), 3, "{node}");
    }
    let web = world.get(&web());
    assert_eq!(web.condition("Available").unwrap()["reason"], "MinimumReplicasAvailable");
    assert_eq!(web.condition("Progressing").unwrap()["reason"], "NewReplicaSetAvailable");
    assert_eq!(web.annotation("deployment.kubernetes.io/revision"), Some("1"));
    let written = world.log().len();
    world.wait(3600.0).await;
    assert_eq!(world.log().len(), written, "a cluster at rest writes nothing");
}

#[tokio::test(start_paused = true)]
async fn a_rolling_update_never_has_too_few_or_too_many() {
    let world = world(3);
    world.create(deployment("web", 10));
    world.until(|store| is_rolled_out(store, 10)).await;
    set_image(&world, "2");
    let (mut least, mut most) = (usize::MAX, 0);
    while !world.read(|store| is_rolled_out(store, 10)) {
        let (ready, all) = world
            .read(|store| (ready(store), store.list(Kind::Pod, None).filter(|pod| pod.deletion().is_none()).count()));
        (least, most) = (least.min(ready), most.max(all));
        world.wait(0.01).await;
    }
    assert_eq!((least, most), (8, 13));
    let sizes: Vec<i64> =
        world.list(Kind::ReplicaSet).iter().map(|set| set.number("/spec/replicas").unwrap()).collect();
    assert!(sizes == [0, 10] || sizes == [10, 0], "{sizes:?}");
}

/// What a real one does with a rollout that hangs: the second replica goes to the new, Pending ReplicaSet.
#[tokio::test(start_paused = true)]
async fn scaling_a_rollout_that_hangs_gives_the_surge_to_the_new_set() {
    let world = world(1);
    world.create(deployment("web", 1));
    world.until(|store| is_rolled_out(store, 1)).await;
    world.change(&web(), |web| web["spec"]["template"]["spec"]["nodeSelector"] = json!({"no": "where"}));
    world.wait(10.0).await;
    world.change(&web(), |web| web["spec"]["replicas"] = json!(2));
    world.wait(10.0).await;
    let pods = world.list(Kind::Pod);
    let pending = pods.iter().filter(|pod| pod.text("/status/phase") == Some("Pending")).count();
    assert_eq!((pods.len(), pending), (3, 2));
    world.wait(700.0).await;
    assert_eq!(world.get(&web()).condition("Progressing").unwrap()["reason"], "ProgressDeadlineExceeded");
}

/// The sizes that a real 1.36.3 gave the old and the new set of a rollout that hangs, scaled again and again.
#[tokio::test(start_paused = true)]
async fn scaling_in_the_middle_of_a_rollout_goes_as_with_a_real_one() {
    let world = world(3);
    world.create(deployment("web", 10));
    world.until(|store| is_rolled_out(store, 10)).await;
    let old = world.list(Kind::ReplicaSet)[0].name().to_owned();
    world.change(&web(), |web| web["spec"]["template"]["spec"]["nodeSelector"] = json!({"no": "where"}));
    world.wait(10.0).await;
    let sizes = || {
        let sets = world.list(Kind::ReplicaSet);
        let size = |is_old: bool| {
            let set = sets.iter().find(|set| (set.name() == old) == is_old);
            set.and_then(|set| set.number("/spec/replicas"))
        };
        (size(true), size(false))
    };
    assert_eq!(sizes(), (Some(8), Some(5)));
    for (replicas, expected) in [(20, (15, 10)), (5, (4, 3)), (12, (9, 6)), (0, (0, 0)), (3, (0, 3))] {
        world.change(&web(), |web| web["spec"]["replicas"] = json!(replicas));
        world.wait(10.0).await;
        assert_eq!(sizes(), (Some(expected.0), Some(expected.1)), "{replicas}");
    }
    let web_now = world.get(&web());
    assert_eq!(web_now.condition("Progressing").unwrap()["reason"], "NewReplicaSetAvailable");
    assert_eq!(web_now.condition("Available").unwrap()["reason"], "MinimumReplicasUnavailable");
    world.change(&web(), |web| {
        web["spec"]["template"]["spec"].as_object_mut().unwrap().remove("nodeSelector");
    });
    world.wait(10.0).await;
    assert_eq!(sizes(), (Some(3), Some(0)));
    let set = world.get(&Key::new(Kind::ReplicaSet, "a", &old));
    assert_eq!(set.annotation("deployment.kubernetes.io/revision"), Some("3"));
    assert_eq!(set.annotation("deployment.kubernetes.io/revision-history"), Some("1"));
    assert_eq!(set.annotation("deployment.kubernetes.io/max-replicas"), Some("4"));
}

#[tokio::test(start_paused = true)]
async fn recreate_has_no_two_templates_at_the_same_time() {
    let world = world(2);
    let mut object = deployment("web", 4);
    object["spec"]["strategy"] = json!({"type": "Recreate"});
    world.create(object);
    world.until(|store| is_rolled_out(store, 4)).await;
    set_image(&world, "2");
    let images = |store: &Store| {
        let image = |pod: &Arc<Object>| pod.text("/spec/containers/0/image").unwrap().to_owned();
        store.list(Kind::Pod, None).map(image).collect::<std::collections::BTreeSet<_>>()
    };
    while !world.read(|store| is_rolled_out(store, 4) && images(store).contains("2")) {
        assert!(world.read(images).len() <= 1);
        world.wait(0.05).await;
    }
}

/// 1 -> 2 -> 1 removes the newer pod and keeps the old one, unless the old one's cost is lowered first.
#[tokio::test(start_paused = true)]
async fn the_surge_pod_goes_first_unless_the_old_one_is_made_cheaper() {
    for handed_over in [false, true] {
        let world = world(2);
        world.create(deployment("web", 1));
        world.until(|store| is_rolled_out(store, 1)).await;
        let old = world.list(Kind::Pod)[0].name().to_owned();
        world.wait(3600.0).await;
        world.change(&web(), |web| web["spec"]["replicas"] = json!(2));
        world.until(|store| is_rolled_out(store, 2)).await;
        if handed_over {
            world.change(&Key::new(Kind::Pod, "a", &old), |pod| {
                pod["metadata"]["annotations"] = json!({"controller.kubernetes.io/pod-deletion-cost": "-1"});
            });
        }
        world.change(&web(), |web| web["spec"]["replicas"] = json!(1));
        world.until(|store| is_rolled_out(store, 1) && store.list(Kind::Pod, None).count() == 1).await;
        assert_eq!(world.list(Kind::Pod)[0].name() == old, !handed_over);
    }
}

#[tokio::test(start_paused = true)]
async fn pods_of_a_failed_node_are_replaced_after_five_minutes_and_end_when_it_is_gone() {
    let world = world(3);
    world.create(deployment("web", 9));
    world.until(|store| is_rolled_out(store, 9)).await;
    let failed = Key::new(Kind::Node, "", "n1");
    world.change(&failed, |node| {
        for condition in node["status"]["conditions"].as_array_mut().unwrap() {
            condition["status"] = json!("Unknown");
        }
    });
    world.wait(10.0).await;
    assert_eq!(world.read(ready), 6);
    let seconds = world.until(|store| ready(store) == 9).await;
    assert!((290..=295).contains(&seconds), "{seconds}");
    assert_eq!(world.list(Kind::Pod).len(), 12);
    world.delete(&failed);
    assert_eq!(world.until(|store| store.list(Kind::Pod, None).count() == 9).await, 60);
}

#[tokio::test(start_paused = true)]
async fn a_deleted_deployment_leaves_nothing_behind() {
    let world = world(2);
    world.create(deployment("web", 5));
    world.until(|store| is_rolled_out(store, 5)).await;
    world.delete(&web());
    world.wait(10.0).await;
    assert!(world.list(Kind::ReplicaSet).is_empty() && world.list(Kind::Pod).is_empty());
}

const WORKLOADS: usize = 20;

/// Workloads of ten pods, with budgets, on nodes that come for them; nodes are taken back and made anew, images change,
/// somebody renews a lease every two seconds.
async fn live(hours: usize) -> Bare {
    let world = Bare::slow(Duration::from_millis(5));
    world.run(all(Timing::default()));
    world.create(json!({
        "apiVersion": "karpenter.sh/v1", "kind": "NodePool", "metadata": {"name": "pool", "annotations": {"embedded-cluster/allocatable": r#"{"cpu": "4", "memory": "16Gi"}"#}},
        "spec": {"template": {"spec": {"requirements": [{"key": "karpenter.sh/capacity-type", "operator": "In", "values": ["spot", "on-demand"]}]}}, "disruption": {"consolidateAfter": "60s"}},
    }));
    for number in 0..WORKLOADS {
        let name = format!("web{number}");
        world.create(deployment(&name, 10));
        world.create(json!({
            "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"namespace": "a", "name": name},
            "spec": {"minAvailable": "80%", "selector": {"matchLabels": {"app": name}}},
        }));
    }
    world.create(
        json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"namespace": "a", "name": "l"}}),
    );
    world.until(|store| ready(store) == WORKLOADS * 10).await;
    for round in 0..hours * 2 {
        let node = world.list(Kind::Node)[round % 3].name().to_owned();
        crate::reclaim::reclaim(&world, &node, Duration::from_mins(2), |_| ()).await;
        let key = Key::new(Kind::Deployment, "a", &format!("web{}", round % WORKLOADS));
        let image = round.to_string();
        world.change(&key, |web| web["spec"]["template"]["spec"]["containers"][0]["image"] = json!(image));
        for renewal in 0..(28 * 30) {
            world.change(&Key::new(Kind::Lease, "a", "l"), |lease| lease["spec"]["renewals"] = json!(renewal));
            world.wait(2.0).await;
        }
    }
    world
}

#[tokio::test(start_paused = true)]
async fn the_same_happens_twice_and_nothing_is_lost() {
    const HOURS: usize = 1;
    let (first, second) = (live(HOURS).await, live(HOURS).await);
    let state = |world: &Bare| -> Vec<String> {
        world.read(|store| store.all().map(|(_, object)| object.json().to_string()).collect())
    };
    assert!(first.log() == second.log() && state(&first) == state(&second), "the runs differ");
    assert_eq!(first.read(ready), WORKLOADS * 10);
    assert!(
        first.list(Kind::Pod).len() == WORKLOADS * 10
            && first.list(Kind::NodeClaim).len() == first.list(Kind::Node).len()
    );
    let writes = first.log().len();
    assert!(writes < 200 * WORKLOADS + 600 * HOURS, "{writes} writes: {:?}", counts(&first.log()));
}
