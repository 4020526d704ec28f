//! A steady stream of pods through the API server, and a record of what became of each: to see that nobody goes
//! unanswered while something is being done to the webhook.
//!
//! The pods are trials: they look like the next one of a workload, are answered like it, and never come to be.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, PostParams};
use kube::{Api, Client};
use parking_lot::Mutex;
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::cluster::{Cluster, label};
use crate::{Workload, eventually};

/// Between two pods of one lane: the stream shares the machine with what it is to disturb.
const PAUSE: Duration = Duration::from_millis(10);

/// What became of the pods so far.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Pods that were steered.
    pub steered: u64,
    /// What else happened, in words.
    pub amiss: Vec<String>,
}

/// Pods that are being created. Dropping it ends that.
#[derive(Debug)]
pub struct Creations {
    tally: Arc<Mutex<Tally>>,
    stop: CancellationToken,
    lanes: JoinSet<Option<()>>,
}

impl Creations {
    /// Begins: so many pods of the workload at the same time, one after another.
    pub async fn begin(cluster: &Cluster<'_>, workload: &Workload, lanes: usize) -> Result<Self> {
        let pod = next_pod(cluster, workload).await?;
        let (tally, stop) = (Arc::<Mutex<Tally>>::default(), CancellationToken::new());
        let mut creations = Self { tally, stop, lanes: JoinSet::new() };
        for _ in 0..lanes {
            let lane = lane(cluster.client(), workload.namespace().to_owned(), pod.clone(), creations.tally.clone());
            creations.lanes.spawn(creations.stop.clone().run_until_cancelled_owned(lane));
        }
        creations.more(1).await?;
        Ok(creations)
    }

    /// Waits until so many more pods were answered, one way or the other.
    pub async fn more(&self, pods: u64) -> Result<()> {
        let answered = || {
            let tally = self.tally.lock();
            tally.steered + u64::try_from(tally.amiss.len()).unwrap_or(u64::MAX)
        };
        let enough = answered() + pods;
        eventually(format!("{pods} more pods"), async || (answered() >= enough).then_some(())).await
    }

    /// Ends it; every pod must have been steered. Tells how many there were.
    pub async fn all_steered(mut self) -> Result<u64> {
        self.stop.cancel();
        while self.lanes.join_next().await.is_some() {}
        let Tally { steered, amiss } = self.tally.lock().clone();
        ensure!(amiss.is_empty(), "{} of {} pods went amiss: {amiss:?}", amiss.len(), steered);
        Ok(steered)
    }
}

async fn lane(client: Client, namespace: String, pod: Pod, tally: Arc<Mutex<Tally>>) {
    let pods: Api<Pod> = Api::namespaced(client, &namespace);
    let trial = PostParams { dry_run: true, ..PostParams::default() };
    loop {
        match pods.create(&trial, &pod).await {
            Ok(pod) if label(&pod, "spotalis.io/capacity-type").is_some() => tally.lock().steered += 1,
            Ok(_) => tally.lock().amiss.push("not steered".to_owned()),
            Err(error) => tally.lock().amiss.push(error.to_string()),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// A pod that looks like the next one of the workload's only ReplicaSet.
pub async fn next_pod(cluster: &Cluster<'_>, workload: &Workload) -> Result<Pod> {
    let sets: Api<ReplicaSet> = Api::namespaced(cluster.client(), workload.namespace());
    let mut found = sets.list(&ListParams::default().labels(&workload.selector())).await?.items;
    let set = found.pop().context("a ReplicaSet")?;
    let template = set.spec.context("a spec")?.template.context("a template")?;
    Ok(serde_json::from_value(json!({
        "metadata": {
            "generateName": format!("{}-", workload.name()),
            "labels": template.metadata.context("labels")?.labels,
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "ReplicaSet", "controller": true, "blockOwnerDeletion": true,
                "name": set.metadata.name, "uid": set.metadata.uid,
            }],
        },
        "spec": template.spec,
    }))?)
}
