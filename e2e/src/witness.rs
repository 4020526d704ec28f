//! Watches the pods of one workload and remembers the worst moment, which asking now and then would miss.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Result;
use futures::StreamExt as _;
use futures::pin_mut;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher::{Config, Event, watcher};
use kube::{Api, Client};
use parking_lot::Mutex;
use spotalis_rig::until;
use tokio::task::JoinHandle;

use crate::cluster::is_ready;
use crate::{LIMIT, Workload};

/// What was seen so far. Dropping it ends the watch.
#[derive(Debug)]
pub struct Witness {
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Seen {
    /// By UID: whether the pod is ready and stays.
    pods: BTreeMap<String, bool>,
    listed: bool,
    fewest_ready: Option<usize>,
    created: usize,
}

impl Seen {
    fn hear(&mut self, event: Event<Pod>) {
        match event {
            Event::Init => self.pods.clear(),
            Event::InitApply(pod) => {
                self.pods.insert(uid(&pod), is_ready(&pod));
            }
            Event::InitDone => self.listed = true,
            Event::Apply(pod) => {
                if self.pods.insert(uid(&pod), is_ready(&pod)).is_none() {
                    self.created += 1;
                }
            }
            Event::Delete(pod) => {
                self.pods.remove(&uid(&pod));
            }
        }
        if self.listed {
            let ready = self.pods.values().filter(|ready| **ready).count();
            self.fewest_ready = Some(self.fewest_ready.map_or(ready, |fewest| fewest.min(ready)));
        }
    }
}

impl Witness {
    /// Begins to watch; what is there is seen when this returns.
    pub async fn begin(client: Client, workload: &Workload) -> Result<Self> {
        let seen = Arc::<Mutex<Seen>>::default();
        let pods: Api<Pod> = Api::namespaced(client, workload.namespace());
        let config = Config::default().labels(&workload.selector());
        let told = seen.clone();
        let task = tokio::spawn(async move {
            let events = watcher(pods, config);
            pin_mut!(events);
            while let Some(event) = events.next().await {
                // The watcher begins anew after an error, and lists again.
                if let Ok(event) = event {
                    told.lock().hear(event);
                }
            }
        });
        let witness = Self { seen, task };
        until("the witness to see the pods", LIMIT, async || witness.seen.lock().listed.then_some(())).await?;
        Ok(witness)
    }

    /// The fewest pods that were ready at the same time.
    pub fn fewest_ready(&self) -> usize {
        self.seen.lock().fewest_ready.unwrap_or(0)
    }

    /// How many pods appeared since.
    pub fn created(&self) -> usize {
        self.seen.lock().created
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn uid(pod: &Pod) -> String {
    pod.metadata.uid.clone().unwrap_or_default()
}
