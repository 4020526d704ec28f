//! A cluster with Spotalis in it: nodes, workloads and what fate does to them, all by the cluster's own way of writing.

use std::time::Duration;

use embedded_cluster::controllers::{self, kubelet::Timing};
use embedded_cluster::engine::{Engine, World as _, Write};
use embedded_cluster::resource::Kind;
use embedded_cluster::store::Key;
use embedded_cluster::{Cluster, Options, reclaim};
use serde_json::{Value, json};
use spotalis_config::Config;
use spotalis_webhook::registration::{self, registration};

use crate::process::Doors;
use crate::requests::Requests;

/// The namespace of the workloads.
pub const NAMESPACE: &str = "shop";
/// Where Spotalis's Lease lies.
const OWN_NAMESPACE: &str = "spotalis-system";
const ADDRESS: &str = "https://spotalis";

/// A cluster that lives. Clones are the same.
#[derive(Clone)]
pub struct World {
    /// The cluster.
    pub cluster: Cluster,
    /// Where reviews come in.
    pub doors: Doors,
}

impl World {
    /// A cluster with a namespace for workloads and the webhook registered. Has to be called within a runtime.
    pub async fn new(seed: u64, config: &Config, requests: Requests) -> Self {
        let world = Self::empty(Options { seed, ..Options::default() }, requests).await;
        let labels = json!({"spotalis.io/enabled": "true"});
        world
            .create(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}}))
            .await;
        world.register(config).await;
        world
    }

    /// An empty cluster whose controllers run. Has to be called within a runtime.
    pub async fn empty(options: Options, requests: Requests) -> Self {
        let cluster = Cluster::new(options);
        let doors = Doors::new(requests);
        let answers = doors.clone();
        cluster.route(&format!("{ADDRESS}{}", registration::PATH), move |review| {
            let answers = answers.clone();
            async move { answers.answer(review).await }
        });
        cluster.understand(registration::OWNED, is_owned);
        cluster.understand(registration::UNBOUND, |request| {
            request["object"]["spec"]["nodeName"].as_str().is_none_or(str::is_empty)
        });
        tokio::spawn(Engine::new(cluster.clone(), controllers::all(Timing::default())).run());
        let world = Self { cluster, doors };
        world.create(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": OWN_NAMESPACE}})).await;
        world
    }

    /// The API server is told of the webhook.
    pub async fn register(&self, config: &Config) {
        let client = registration::Client::Url { base: ADDRESS.to_owned(), ca: String::new() };
        let registration = registration("spotalis", client, &config.opt_in);
        self.create(serde_json::to_value(registration).expect("an API object is JSON")).await;
    }

    /// Creates an object, which must not be refused.
    pub async fn create(&self, object: Value) {
        let refused = self.cluster.perform(Write::Create(object.clone())).await;
        if let Err(refused) = refused {
            panic!("{refused}: {object}");
        }
    }

    /// Changes an object by a JSON merge patch (RFC 7386). What is gone stays gone.
    pub async fn change(&self, kind: Kind, namespace: &str, name: &str, patch: &Value) {
        let key = Key::new(kind, namespace, name);
        // Somebody else may write between the look and the write.
        while let Some(object) = self.cluster.read(|store| store.get(&key).map(|object| object.json().clone())) {
            let mut object = object;
            merge(&mut object, patch);
            match self.cluster.perform(Write::Replace { object, subresource: None }).await {
                Err(refused) if refused.code == 409 => {}
                Err(refused) => panic!("{refused}: {patch} of {kind} {name}"),
                Ok(()) => return,
            }
        }
    }

    /// Deletes an object, if it is there.
    pub async fn delete(&self, kind: Kind, namespace: &str, name: &str) {
        let key = Key::new(kind, namespace, name);
        let uid = self.cluster.read(|store| store.get(&key).map(|object| object.uid().to_owned()));
        if let Some(uid) = uid {
            let _gone_by_itself = self.cluster.perform(Write::Delete { key, uid, grace: None }).await;
        }
    }

    /// Adds a node with room for so many pods.
    pub async fn add_node(&self, name: &str, capacity: &str, pods: u32) {
        let room = json!({"cpu": "64", "memory": "256Gi", "pods": pods.to_string()});
        self.create(json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": name, "labels": {
                "karpenter.sh/capacity-type": capacity, "kubernetes.io/hostname": name,
                "topology.kubernetes.io/zone": format!("zone-{}", name.len() % 3),
            }},
            "status": {"capacity": room, "allocatable": room, "conditions": [
                {"type": "Ready", "status": "True", "reason": "KubeletReady"},
            ]},
        }))
        .await;
    }

    /// Takes a node back, after a notice.
    pub async fn reclaim(&self, node: &str, notice: Duration) {
        reclaim::reclaim(&self.cluster, node, notice, |_| ()).await;
    }

    /// The names of a kind's objects.
    pub fn names(&self, kind: Kind, namespace: Option<&str>) -> Vec<String> {
        self.cluster.read(|store| store.list(kind, namespace).map(|object| object.name().to_owned()).collect())
    }
}

/// What the registration's first condition says: a controller that keeps several alike.
fn is_owned(request: &Value) -> bool {
    let owners = request["object"]["metadata"]["ownerReferences"].as_array();
    owners.into_iter().flatten().any(|owner| {
        owner["controller"] == true && !matches!(owner["kind"].as_str(), Some("DaemonSet" | "Job" | "Node"))
    })
}

fn merge(base: &mut Value, patch: &Value) {
    match (base, patch) {
        (Value::Object(base), Value::Object(patch)) => {
            for (key, value) in patch {
                if value.is_null() {
                    base.remove(key);
                } else {
                    merge(base.entry(key.clone()).or_insert(Value::Null), value);
                }
            }
        }
        (base, patch) => *base = patch.clone(),
    }
}
