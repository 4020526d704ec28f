//! What fate does to nodes: spot capacity is taken back, a zone fails, a node stops answering.
//!
//! A scenario calls these; nothing here happens by itself. What follows in the cluster is its controllers' business. The
//! notice before a node is taken back is no object of the cluster: who is to hear of it is told by the scenario.

use std::time::Duration;

use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::controllers::pods::{second, set_condition, transition, write_status};
use crate::engine::{Refused, World, Write};
use crate::object::Object;
use crate::resource::Kind;
use crate::store::{Key, Store};

/// A node is about to be taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Its name.
    pub node: String,
    /// When it will be gone.
    pub at: Timestamp,
}

/// The writes that make a node be gone from one moment to the next: its pods stop, then it is not there any more.
pub fn gone(store: &Store, node: &str) -> Vec<Vec<Write>> {
    let key = Key::new(Kind::Node, "", node);
    let Some(object) = store.get(&key) else { return Vec::new() };
    let now =
        |key: &Key, object: &Object| Write::Delete { key: key.clone(), uid: object.uid().to_owned(), grace: Some(0) };
    let pods = store.pods_on(node).map(|(key, pod)| now(key, pod)).collect();
    vec![pods, vec![now(&key, object)]]
}

/// The writes after which a node says that it is not ready, or that nobody knows.
pub fn not_ready(store: &Store, node: &str, unknown: bool, now: Timestamp) -> Vec<Write> {
    let (status, reason, message) = if unknown {
        ("Unknown", "NodeStatusUnknown", "Kubelet stopped posting node status.")
    } else {
        ("False", "KubeletNotReady", "container runtime is down")
    };
    say(store, node, [status, reason, message], now)
}

/// The writes after which a node says that it is ready again.
pub fn ready(store: &Store, node: &str, now: Timestamp) -> Vec<Write> {
    say(store, node, ["True", "KubeletReady", "kubelet is posting ready status"], now)
}

fn say(store: &Store, node: &str, [status, reason, message]: [&str; 3], now: Timestamp) -> Vec<Write> {
    let Some(node) = store.get(&Key::new(Kind::Node, "", node)) else { return Vec::new() };
    let mut after: Value = node.json().clone();
    set_condition(
        &mut after,
        json!({
            "type": "Ready", "status": status, "reason": reason, "message": message, "lastHeartbeatTime": second(now),
            "lastTransitionTime": transition(node, "Ready", status, now),
        }),
    );
    write_status(node, after)
}

/// The nodes of a zone.
pub fn nodes_of_zone(store: &Store, zone: &str) -> Vec<String> {
    let nodes = store.list(Kind::Node, None).filter(|node| node.label("topology.kubernetes.io/zone") == Some(zone));
    nodes.map(|node| node.name().to_owned()).collect()
}

/// Takes a node back: who is concerned is told, and after the notice it is gone. False if it was not there.
pub async fn reclaim<W: World>(world: &W, node: &str, notice: Duration, tell: impl FnOnce(Notice) + Send) -> bool {
    let key = Key::new(Kind::Node, "", node);
    let uid = |store: &Store| store.get(&key).map(|node| node.uid().to_owned());
    let Some(told) = world.read(uid) else { return false };
    let at = world.now() + SignedDuration::try_from(notice).unwrap_or(SignedDuration::MAX);
    tell(Notice { node: node.to_owned(), at });
    tokio::time::sleep(notice).await;
    // Somebody may have removed it in the meantime, and another may be called the same.
    if world.read(uid) == Some(told) {
        end(world, node).await;
    }
    true
}

/// Ends all nodes of a zone, without a notice. Tells how many there were.
pub async fn fail_zone<W: World>(world: &W, zone: &str) -> usize {
    let nodes = world.read(|store| nodes_of_zone(store, zone));
    for node in &nodes {
        end(world, node).await;
    }
    nodes.len()
}

/// Makes a node stop answering, or answer again.
pub async fn set_answering<W: World>(world: &W, node: &str, answering: bool) -> Result<(), Refused> {
    let now = world.now();
    let writes =
        world.read(|store| if answering { ready(store, node, now) } else { not_ready(store, node, true, now) });
    for write in writes {
        world.perform(write).await?;
    }
    Ok(())
}

/// What is bound to it in the last moment is left to the collector of orphaned pods, as with a real one.
async fn end<W: World>(world: &W, node: &str) {
    for batch in world.read(|store| gone(store, node)) {
        // What is gone already needs no end, and fate is not refused anything else.
        let _outcomes = join_all(batch.into_iter().map(|write| world.perform(write))).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::controllers::all;
    use crate::controllers::kubelet::Timing;
    use crate::engine::bare::Bare;

    fn world() -> Bare {
        let world = Bare::slow(Duration::from_millis(2));
        world.run(all(Timing::default()));
        for (name, zone) in [("n1", "x"), ("n2", "x"), ("n3", "y")] {
            world.create(json!({
                "apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"topology.kubernetes.io/zone": zone}},
                "status": {"capacity": {"cpu": "8", "memory": "8Gi"}},
            }));
        }
        world.create(json!({
            "apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"namespace": "a", "name": "web"},
            "spec": {
                "replicas": 6, "selector": {"matchLabels": {"app": "web"}},
                "template": {"metadata": {"labels": {"app": "web"}}, "spec": {
                    "containers": [{"name": "c"}], "tolerations": [{"operator": "Exists", "tolerationSeconds": 300, "effect": "NoExecute"}],
                }},
            },
        }));
        world
    }

    fn ready_pods(store: &Store) -> usize {
        store.list(Kind::Pod, None).filter(|pod| pod.has_condition("Ready")).count()
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_is_taken_back_is_announced_and_its_pods_stop_at_once() {
        let world = world();
        world.until(|store| ready_pods(store) == 6).await;
        let told = Arc::new(Mutex::new(None));
        let hear = told.clone();
        let began = world.now();
        assert!(
            reclaim(&world, "n1", Duration::from_mins(2), move |notice| *hear.lock().unwrap() = Some(notice)).await
        );
        let expected = Notice { node: "n1".to_owned(), at: began + SignedDuration::from_mins(2) };
        assert_eq!(*told.lock().unwrap(), Some(expected));
        assert_eq!(world.read(ready_pods), 4);
        assert!(world.find(&Key::new(Kind::Node, "", "n1")).is_none());
        assert!((1..=4).contains(&world.until(|store| ready_pods(store) == 6).await));
        assert!(!reclaim(&world, "n1", Duration::ZERO, |_| ()).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_zone_that_fails_takes_all_its_nodes_along() {
        let world = world();
        world.until(|store| ready_pods(store) == 6).await;
        assert_eq!(fail_zone(&world, "x").await, 2);
        world.wait(70.0).await;
        assert_eq!((world.list(Kind::Node).len(), world.read(ready_pods)), (1, 6));
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_stops_answering_has_no_ready_pods_until_it_answers_again() {
        let world = world();
        world.until(|store| ready_pods(store) == 6).await;
        set_answering(&world, "n3", false).await.unwrap();
        world.wait(1.0).await;
        assert_eq!(world.read(ready_pods), 4);
        set_answering(&world, "n3", true).await.unwrap();
        world.wait(1.0).await;
        assert_eq!(world.read(ready_pods), 6);
        let node = world.get(&Key::new(Kind::Node, "", "n3"));
        assert!(node.list("/spec/taints").is_empty());
    }
}
