//! A rig as a stage: the product as processes of its own, nodes that KWOK pretends, and watches that the recorder reads.
//!
//! Nothing is decided or judged here, and nothing that happens in a scenario is done here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::future::try_join_all;
use futures::{StreamExt as _, pin_mut};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams};
use kube::runtime::watcher::{Config, Event, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use spotalis_e2e::{Product, ProductOptions, Replica, eventually};
use spotalis_rig::{READY_AFTER, Rig};
use spotalis_sim::play::{PlayError, Stage};
use spotalis_sim::record::Recorder;
use spotalis_sim::scenario::Installation;
use spotalis_sim::world::NAMESPACE;
use tokio::task::JoinHandle;

/// Where the product's Lease lies.
const OWN_NAMESPACE: &str = "spotalis-system";
/// Stopping takes the grace in which connections are told to go elsewhere.
const STOPPING: Duration = Duration::from_secs(30);
/// What the harness sets so that its own tests are quick, and scenarios set themselves if they want it.
const HURRIED: &str = "controller.";
/// What is watched: API group, kind, and the word in paths. All are of `v1`.
const WATCHED: [(&str, &str, &str); 6] = [
    ("", "Node", "nodes"),
    ("apps", "Deployment", "deployments"),
    ("apps", "StatefulSet", "statefulsets"),
    ("apps", "ReplicaSet", "replicasets"),
    ("", "Pod", "pods"),
    ("events.k8s.io", "Event", "events"),
];

/// A rig on which one scenario is played.
pub struct RigStage<'r> {
    rig: &'r Rig,
    client: Client,
    replicas: usize,
    config: Value,
    product: Option<Product>,
    watches: Vec<JoinHandle<()>>,
}

impl<'r> RigStage<'r> {
    /// For an installation, of which nothing runs yet.
    pub fn new(rig: &'r Rig, installation: &Installation) -> Result<Self> {
        let Installation { replicas, settings } = installation;
        let mut config = json!({});
        for key in spotalis_config::keys() {
            if key.path.starts_with(HURRIED) && !key.default.is_null() {
                set(&mut config, &key.path, key.default);
            }
        }
        set(&mut config, "controller.leaderElection.namespace", json!(OWN_NAMESPACE));
        for (key, value) in settings {
            set(&mut config, key, serde_saphyr::from_str(value).with_context(|| format!("{key}: {value}"))?);
        }
        let replicas = usize::try_from(*replicas)?;
        Ok(Self { rig, client: rig.client(), replicas, config, product: None, watches: Vec::new() })
    }

    /// Ends what runs, in order.
    pub async fn end(&mut self) -> Result<()> {
        let running = self.replicas_that(|replica| replica.pid().is_some());
        let codes = try_join_all(running.iter().map(|replica| replica.terminate(STOPPING))).await?;
        ensure!(codes.iter().all(|code| *code == 0), "exit codes {codes:?}");
        Ok(())
    }

    fn replicas_that(&self, is: impl Fn(&Replica) -> bool) -> Vec<&Replica> {
        self.product.iter().flat_map(Product::replicas).filter(|replica| is(replica)).collect()
    }

    async fn launch(&mut self, count: usize) -> Result<()> {
        let Some(product) = &self.product else {
            let config = self.config.clone();
            let options = ProductOptions { replicas: self.replicas, config, ..ProductOptions::default() };
            self.product = Some(Box::pin(Product::start(self.rig, options)).await?);
            return Ok(());
        };
        let resting = self.replicas_that(|replica| replica.pid().is_none());
        let chosen: Vec<&Replica> = resting.into_iter().take(count).collect();
        for replica in &chosen {
            replica.launch()?;
        }
        try_join_all(chosen.iter().map(|replica| replica.ready())).await?;
        product.register().await
    }

    async fn end_leading(&self, in_order: bool) -> Result<bool> {
        for replica in self.replicas_that(|replica| replica.pid().is_some()) {
            if replica.leads().await {
                if in_order {
                    replica.terminate(STOPPING).await?;
                } else {
                    replica.kill()?;
                }
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn watch_all(&mut self, recorder: &Recorder) -> Result<()> {
        let nodes = Api::<Node>::all(self.client.clone()).list(&ListParams::default()).await?;
        let names: Vec<String> = nodes.iter().map(ResourceExt::name_any).collect();
        self.rig.nodes_usable(&names).await?;
        let listed = Arc::new(AtomicUsize::new(0));
        for (group, kind, plural) in WATCHED {
            let api_version = if group.is_empty() { "v1".to_owned() } else { format!("{group}/v1") };
            let resource = ApiResource {
                group: group.to_owned(),
                version: "v1".to_owned(),
                api_version,
                kind: kind.to_owned(),
                plural: plural.to_owned(),
            };
            let watch = Watch { kind, recorder: recorder.clone(), there: BTreeMap::new(), before: BTreeMap::new() };
            let api = Api::all_with(self.client.clone(), &resource);
            self.watches.push(tokio::spawn(watch.run(api, listed.clone())));
        }
        eventually("the first lists", async || (listed.load(Ordering::Relaxed) >= WATCHED.len()).then_some(())).await
    }
}

impl Drop for RigStage<'_> {
    fn drop(&mut self) {
        self.watches.iter().for_each(JoinHandle::abort);
    }
}

impl Stage for RigStage<'_> {
    fn client(&self) -> &Client {
        &self.client
    }

    async fn watch(&mut self, recorder: &Recorder) -> Result<(), PlayError> {
        Box::pin(self.watch_all(recorder)).await.map_err(broke)
    }

    fn dress(&self, mut object: Value) -> Value {
        match object["kind"].as_str() {
            // KWOK makes it ready.
            Some("Node") => {
                object["metadata"]["annotations"]["kwok.x-k8s.io/node"] = json!("fake");
                if let Some(status) = object["status"].as_object_mut() {
                    status.remove("conditions");
                }
            }
            Some("Deployment" | "StatefulSet") => {
                let annotations = object.pointer_mut("/spec/template/metadata/annotations");
                if let Some(Value::Object(annotations)) = annotations
                    && let Some(after) = annotations.remove(spotalis_sim::scenario::READY_AFTER)
                {
                    annotations.insert(READY_AFTER.to_owned(), after);
                }
            }
            _ => {}
        }
        object
    }

    async fn start(&mut self, replicas: u32) -> Result<(), PlayError> {
        Box::pin(self.launch(replicas as usize)).await.map_err(broke)
    }

    async fn end_leader(&mut self, in_order: bool) -> Result<bool, PlayError> {
        self.end_leading(in_order).await.map_err(broke)
    }

    async fn end_all(&mut self) -> Result<(), PlayError> {
        self.end().await.map_err(broke)
    }
}

fn broke(error: anyhow::Error) -> PlayError {
    PlayError::Stage(error.into())
}

/// Sets the value at a path as `controller.cooldown`.
fn set(config: &mut Value, path: &str, value: Value) {
    let place = path.split('.').fold(config, |place, key| &mut place[key]);
    *place = value;
}

/// One watch. What is gone when it begins anew is told as gone.
struct Watch {
    kind: &'static str,
    recorder: Recorder,
    there: BTreeMap<String, Value>,
    before: BTreeMap<String, Value>,
}

impl Watch {
    async fn run(mut self, api: Api<DynamicObject>, listed: Arc<AtomicUsize>) {
        let events = watcher(api, Config::default());
        pin_mut!(events);
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Init) => self.before = std::mem::take(&mut self.there),
                Ok(Event::InitApply(object) | Event::Apply(object)) => self.see(&object, false),
                Ok(Event::Delete(object)) => self.see(&object, true),
                Ok(Event::InitDone) => {
                    for object in std::mem::take(&mut self.before).into_values() {
                        self.recorder.see(&object, true);
                    }
                    listed.fetch_add(1, Ordering::Relaxed);
                }
                // It begins anew by itself.
                Err(_) => {}
            }
        }
    }

    fn see(&mut self, object: &DynamicObject, is_gone: bool) {
        let uid = object.uid().unwrap_or_default();
        let mut object = json!(object);
        // Objects in lists do not say of which kind they are.
        object["kind"] = json!(self.kind);
        self.before.remove(&uid);
        self.recorder.see(&object, is_gone);
        if is_gone {
            self.there.remove(&uid);
        } else {
            self.there.insert(uid, object);
        }
    }
}

/// Takes away everything that a scenario left.
pub async fn clear(rig: &Rig) -> Result<()> {
    let (at_once, all) = (DeleteParams::background().grace_period(0), ListParams::default());
    let namespaces: Api<Namespace> = Api::all(rig.client());
    // Nothing is created in it from now on; the rest of its end begins five seconds later.
    namespaces.delete(NAMESPACE, &DeleteParams::default()).await?;
    Api::<Pod>::namespaced(rig.client(), NAMESPACE).delete_collection(&at_once, &all).await?;
    let nodes: Api<Node> = Api::all(rig.client());
    nodes.delete_collection(&at_once, &all).await?;
    eventually("the namespace and the nodes to be gone", async || {
        let gone = namespaces.get_opt(NAMESPACE).await.ok()?.is_none();
        (gone && nodes.list(&all).await.ok()?.items.is_empty()).then_some(())
    })
    .await
}
