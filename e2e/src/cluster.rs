//! Puts objects into the cluster and asks it what became of them.
//!
//! A pod's type is that of the node it runs on, read off the node's own label, and the split that is wanted is computed
//! here from the formula in the documentation: nothing is asked of the product.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Result, ensure};
use http::Method;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, ServiceAccount};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};
use spotalis_rig::{AuditEntry, NodeKind, Rig};

use crate::answer::{Answer, JSON, ask};
use crate::eventually;
use crate::workload::{Budget, Kind, Workload};

/// As whom the product runs.
pub const USER: &str = "spotalis-controller";

const CAPACITY_TYPE: &str = "karpenter.sh/capacity-type";

/// Pods of one workload by the type of node they run on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Split {
    /// On spot nodes.
    pub spot: u32,
    /// On on-demand nodes.
    pub on_demand: u32,
    /// On no node yet, or on one of neither type.
    pub unknown: u32,
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { spot, on_demand, unknown } = self;
        write!(f, "{spot}/{on_demand}")?;
        if *unknown > 0 { write!(f, " and {unknown} unknown") } else { Ok(()) }
    }
}

/// What is wanted of `replicas` at `percentage` with the floor `on_demand`: as the documentation has it, rounded up.
pub fn wanted(replicas: u32, percentage: u32, on_demand: u32) -> Split {
    let spot = (replicas * percentage).div_ceil(100).min(replicas.saturating_sub(on_demand));
    Split { spot, on_demand: replicas - spot, unknown: 0 }
}

/// The cluster, as an administrator sees it.
#[derive(Clone)]
pub struct Cluster<'r> {
    rig: &'r Rig,
    client: Client,
}

impl<'r> Cluster<'r> {
    /// The cluster of a rig.
    pub fn of(rig: &'r Rig) -> Self {
        Self { rig, client: rig.client() }
    }

    /// The rig.
    pub const fn rig(&self) -> &'r Rig {
        self.rig
    }

    /// A client of an administrator.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Creates a namespace that pods can be created in.
    pub async fn namespace(&self, name: &str, labels: Value) -> Result<()> {
        let object: Namespace = serde_json::from_value(json!({"metadata": {"name": name, "labels": labels}}))?;
        Api::all(self.client()).create(&PostParams::default(), &object).await?;
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client(), name);
        let account = async || accounts.get("default").await.ok();
        eventually(format!("the service account of {name}"), account).await?;
        Ok(())
    }

    /// Creates an opted-in namespace.
    pub async fn managed_namespace(&self, name: &str) -> Result<()> {
        self.namespace(name, json!({"spotalis.io/enabled": "true"})).await
    }

    /// Changes labels of a namespace; `null` removes one.
    pub async fn label_namespace(&self, name: &str, labels: Value) -> Result<()> {
        let patch = Patch::Merge(json!({"metadata": {"labels": labels}}));
        Api::<Namespace>::all(self.client()).patch(name, &PatchParams::default(), &patch).await?;
        Ok(())
    }

    /// Changes annotations of a namespace; `null` removes one.
    pub async fn annotate_namespace(&self, name: &str, annotations: Value) -> Result<()> {
        let patch = Patch::Merge(json!({"metadata": {"annotations": annotations}}));
        Api::<Namespace>::all(self.client()).patch(name, &PatchParams::default(), &patch).await?;
        Ok(())
    }

    /// Deletes a namespace with all that is in it. Does not wait.
    pub async fn delete_namespace(&self, name: &str) -> Result<()> {
        Api::<Namespace>::all(self.client()).delete(name, &DeleteParams::default()).await?;
        Ok(())
    }

    /// Deletes a webhook's registration.
    pub async fn delete_registration(&self, name: &str) -> Result<()> {
        Api::<MutatingWebhookConfiguration>::all(self.client()).delete(name, &DeleteParams::default()).await?;
        Ok(())
    }

    /// Closes all nodes of a kind to new pods, or opens them.
    pub async fn cordon(&self, kind: NodeKind, cordoned: bool) -> Result<()> {
        let nodes: Api<Node> = Api::all(self.client());
        let selector = match kind {
            NodeKind::Spot => format!("{CAPACITY_TYPE}=spot"),
            NodeKind::OnDemand => format!("{CAPACITY_TYPE}=on-demand"),
            NodeKind::Unlabelled => format!("!{CAPACITY_TYPE}"),
        };
        for node in nodes.list(&ListParams::default().labels(&selector)).await? {
            self.cordon_node(&node.name_any(), cordoned).await?;
        }
        Ok(())
    }

    /// Closes one node to new pods, or opens it.
    pub async fn cordon_node(&self, name: &str, cordoned: bool) -> Result<()> {
        let patch = Patch::Merge(json!({"spec": {"unschedulable": cordoned}}));
        Api::<Node>::all(self.client()).patch(name, &PatchParams::default(), &patch).await?;
        Ok(())
    }

    /// Creates a workload.
    pub async fn create(&self, workload: &Workload) -> Result<()> {
        let (namespace, object) = (workload.namespace(), workload.object());
        let params = PostParams::default();
        match workload.kind {
            Kind::Deployment => {
                let object: Deployment = serde_json::from_value(object)?;
                Api::namespaced(self.client(), namespace).create(&params, &object).await?;
            }
            Kind::StatefulSet => {
                let object: StatefulSet = serde_json::from_value(object)?;
                Api::namespaced(self.client(), namespace).create(&params, &object).await?;
            }
        }
        Ok(())
    }

    /// Changes a workload by a merge patch.
    pub async fn patch(&self, workload: &Workload, patch: Value) -> Result<()> {
        let (namespace, name) = (workload.namespace(), workload.name());
        let (params, patch) = (PatchParams::default(), Patch::Merge(patch));
        match workload.kind {
            Kind::Deployment => {
                Api::<Deployment>::namespaced(self.client(), namespace).patch(name, &params, &patch).await?;
            }
            Kind::StatefulSet => {
                Api::<StatefulSet>::namespaced(self.client(), namespace).patch(name, &params, &patch).await?;
            }
        }
        Ok(())
    }

    /// Changes `spec.replicas`.
    pub async fn scale(&self, workload: &Workload, replicas: u32) -> Result<()> {
        self.patch(workload, json!({"spec": {"replicas": replicas}})).await
    }

    /// Changes annotations of the workload; `null` removes one.
    pub async fn annotate(&self, workload: &Workload, annotations: Value) -> Result<()> {
        self.patch(workload, json!({"metadata": {"annotations": annotations}})).await
    }

    /// Opts the workload in, with these annotations, or out.
    pub async fn opt(&self, workload: &Workload, opted_in: bool, annotations: Value) -> Result<()> {
        let labels = json!({"spotalis.io/enabled": opted_in.to_string()});
        self.patch(workload, json!({"metadata": {"labels": labels, "annotations": annotations}})).await
    }

    /// Has every pod replaced, as `kubectl rollout restart` does.
    pub async fn restart(&self, workload: &Workload) -> Result<()> {
        static RESTARTS: AtomicU32 = AtomicU32::new(0);
        let restart = RESTARTS.fetch_add(1, Ordering::Relaxed).to_string();
        let metadata = json!({"annotations": {"example.com/restart": restart}});
        self.patch(workload, json!({"spec": {"template": {"metadata": metadata}}})).await
    }

    /// Creates a disruption budget, and waits until its status is current.
    pub async fn create_budget(&self, budget: &Budget) -> Result<()> {
        let object: PodDisruptionBudget = serde_json::from_value(budget.object.clone())?;
        let budgets: Api<PodDisruptionBudget> = Api::namespaced(self.client(), &budget.namespace);
        let name = budgets.create(&PostParams::default(), &object).await?.name_any();
        eventually(format!("the status of budget {name}"), async || {
            let budget = budgets.get(&name).await.ok()?;
            let observed = budget.status?.observed_generation?;
            (observed >= budget.metadata.generation? && budget.metadata.generation? > 0).then_some(())
        })
        .await?;
        Ok(())
    }

    /// Deletes a disruption budget.
    pub async fn delete_budget(&self, budget: &Budget) -> Result<()> {
        let name = budget.object["metadata"]["name"].as_str().unwrap_or_default();
        let budgets: Api<PodDisruptionBudget> = Api::namespaced(self.client(), &budget.namespace);
        budgets.delete(name, &DeleteParams::default()).await?;
        Ok(())
    }

    /// All pods of a workload.
    pub async fn pods(&self, workload: &Workload) -> Result<Vec<Pod>> {
        let pods: Api<Pod> = Api::namespaced(self.client(), workload.namespace());
        Ok(pods.list(&ListParams::default().labels(&workload.selector())).await?.items)
    }

    /// Waits until the workload's own controller is done: as many pods as it wants, all ready, none on its way out, all
    /// of the newest revision that are to be. Tells the pods.
    pub async fn settled(&self, workload: &Workload) -> Result<Vec<Pod>> {
        let what = format!("{}/{} to settle", workload.namespace(), workload.name());
        eventually(what, async || {
            let replicas = self.finished(workload).await.ok().flatten()?;
            let pods = self.pods(workload).await.ok()?;
            (pods.len() == replicas && pods.iter().all(is_ready)).then_some(pods)
        })
        .await
    }

    /// The number of replicas, if the workload's status says that they are all there.
    async fn finished(&self, workload: &Workload) -> Result<Option<usize>> {
        let (namespace, name) = (workload.namespace(), workload.name());
        let object = match workload.kind {
            Kind::Deployment => json!(Api::<Deployment>::namespaced(self.client(), namespace).get(name).await?),
            Kind::StatefulSet => json!(Api::<StatefulSet>::namespaced(self.client(), namespace).get(name).await?),
        };
        let number = |value: &Value| value.as_u64().unwrap_or(0);
        let replicas = number(&object["spec"]["replicas"]);
        let strategy = &object["spec"]["updateStrategy"];
        let kept = number(&strategy["rollingUpdate"]["partition"]);
        let status = &object["status"];
        let observed = status["observedGeneration"].as_i64() >= object["metadata"]["generation"].as_i64();
        let updated = strategy["type"] == "OnDelete" || number(&status["updatedReplicas"]) + kept >= replicas;
        let there = number(&status["replicas"]) == replicas && number(&status["readyReplicas"]) == replicas;
        Ok(if observed && updated && there { usize::try_from(replicas).ok() } else { None })
    }

    /// The active pods of a workload by the type of their nodes.
    pub async fn split(&self, workload: &Workload) -> Result<Split> {
        let nodes: Api<Node> = Api::all(self.client());
        let types: BTreeMap<String, String> = nodes
            .list(&ListParams::default())
            .await?
            .into_iter()
            .filter_map(|node| Some((node.name_any(), node.labels().get(CAPACITY_TYPE)?.clone())))
            .collect();
        let mut split = Split::default();
        for pod in active_pods(&self.pods(workload).await?) {
            let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref());
            match node.and_then(|node| types.get(node)).map(String::as_str) {
                Some("spot") => split.spot += 1,
                Some("on-demand") => split.on_demand += 1,
                Some(_) | None => split.unknown += 1,
            }
        }
        Ok(split)
    }

    /// Waits until the workload is settled; then the split must be this one, at once.
    pub async fn expect_split(&self, workload: &Workload, wanted: Split) -> Result<Vec<Pod>> {
        let pods = self.settled(workload).await?;
        let split = self.split(workload).await?;
        let (namespace, name) = (workload.namespace(), workload.name());
        ensure!(split == wanted, "{namespace}/{name} is {split}, not {wanted}");
        Ok(pods)
    }

    /// Waits until the workload is settled and its split is this one.
    pub async fn until_split(&self, workload: &Workload, wanted: Split) -> Result<Vec<Pod>> {
        let (namespace, name) = (workload.namespace(), workload.name());
        let exact = eventually(format!("{namespace}/{name} to be {wanted}"), async || {
            (self.split(workload).await.ok()? == wanted).then_some(())
        });
        if let Err(error) = exact.await {
            anyhow::bail!("{error}; it is {}", self.split(workload).await?);
        }
        self.expect_split(workload, wanted).await
    }

    /// The Events of a reason about one object.
    pub async fn events(&self, namespace: &str, name: &str, reason: &str) -> Result<Vec<Event>> {
        let events: Api<Event> = Api::namespaced(self.client(), namespace);
        let mut events = events.list(&ListParams::default()).await?.items;
        events.retain(|event| {
            let about = event.regarding.as_ref().and_then(|object| object.name.as_deref());
            event.reason.as_deref() == Some(reason) && about == Some(name)
        });
        Ok(events)
    }

    /// Waits for an Event of a reason about a workload, and tells the first one.
    pub async fn told(&self, workload: &Workload, reason: &str) -> Result<Event> {
        let (namespace, name) = (workload.namespace(), workload.name());
        eventually(format!("Event {reason} about {namespace}/{name}"), async || {
            self.events(namespace, name, reason).await.ok()?.into_iter().next()
        })
        .await
    }

    /// What the product asked for in a namespace, from the API server's record: without reads of whole collections.
    pub fn requests(&self, namespace: &str) -> Result<Vec<AuditEntry>> {
        let mut entries = self.rig.audit()?;
        let reads = ["list", "watch"];
        entries.retain(|entry| {
            entry.user == USER && entry.namespace == namespace && !reads.contains(&entry.verb.as_str())
        });
        Ok(entries)
    }

    /// The evictions in a namespace that the API server accepted, whoever asked.
    pub fn evictions(&self, namespace: &str) -> Result<Vec<AuditEntry>> {
        let mut entries = self.rig.audit()?;
        entries.retain(|entry| {
            entry.subresource == "eviction" && entry.namespace == namespace && (200..300).contains(&entry.code)
        });
        Ok(entries)
    }

    /// The evictions of a workload's pods that the API server accepted, whoever asked.
    pub fn evictions_of(&self, workload: &Workload) -> Result<usize> {
        let prefix = format!("{}-", workload.name());
        let evictions = self.evictions(workload.namespace())?;
        Ok(evictions.iter().filter(|entry| entry.name.starts_with(&prefix)).count())
    }

    /// Asks for the eviction of a pod with these options of its deletion, and tells the answer.
    pub async fn evict(&self, namespace: &str, pod: &str, options: Value) -> Result<Answer> {
        let body = json!({
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"namespace": namespace, "name": pod},
            "deleteOptions": options,
        });
        let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}/eviction");
        ask(&self.client, Method::POST, &path, Some((JSON, &body))).await
    }

    /// Fails if the product asked for something that it has no right to.
    pub fn expect_no_refusal(&self) -> Result<()> {
        let entries = self.rig.audit()?;
        let refused = entries.iter().filter(|entry| entry.user == USER && entry.forbidden);
        let asked: BTreeSet<String> =
            refused.map(|entry| format!("{} {}/{}", entry.verb, entry.resource, entry.subresource)).collect();
        ensure!(asked.is_empty(), "not among the product's rights: {asked:?}");
        Ok(())
    }

    /// Fails unless exactly so many evictions were accepted in a namespace.
    pub fn expect_evictions(&self, namespace: &str, count: usize) -> Result<()> {
        let evictions = self.evictions(namespace)?;
        let pods: Vec<&str> = evictions.iter().map(|entry| entry.name.as_str()).collect();
        ensure!(pods.len() == count, "{} evictions in {namespace}, not {count}: {pods:?}", pods.len());
        Ok(())
    }
}

/// Neither finished nor on their way out.
pub fn active_pods(pods: &[Pod]) -> impl Iterator<Item = &Pod> {
    pods.iter().filter(|pod| {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        pod.metadata.deletion_timestamp.is_none() && !matches!(phase, Some("Succeeded" | "Failed"))
    })
}

/// Ready, and not on its way out.
pub fn is_ready(pod: &Pod) -> bool {
    let mut conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    pod.metadata.deletion_timestamp.is_none()
        && conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// An annotation of a pod.
pub fn annotation<'p>(pod: &'p Pod, key: &str) -> Option<&'p str> {
    pod.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

/// A label of a pod.
pub fn label<'p>(pod: &'p Pod, key: &str) -> Option<&'p str> {
    pod.metadata.labels.as_ref()?.get(key).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wanted_split_is_the_documented_one() {
        for (replicas, percentage, floor, spot) in [
            (10, 70, 1, 7),
            (1, 70, 0, 1),
            (1, 70, 1, 0),
            (3, 33, 1, 1),
            (25, 50, 0, 13),
            (4, 100, 9, 0),
            (0, 70, 1, 0),
        ] {
            let split = wanted(replicas, percentage, floor);
            assert_eq!((split.spot, split.spot + split.on_demand), (spot, replicas), "{replicas} at {percentage}");
        }
    }
}
