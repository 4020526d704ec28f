//! The rig gives a control plane that works: pods of real controllers run, on nodes that only pretend.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;
use spotalis_rig::kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use spotalis_rig::{
    AuditLevel, CRASH_AFTER, FakeNode, NodeKind, Part, READY_AFTER, RECOVER_AFTER, Rig, RigOptions, Room,
    TERMINATED_AFTER, on_rig, say, until,
};
use tokio::time::Instant;

const LIMIT: Duration = Duration::from_mins(1);

fn deployment(name: &str, replicas: u32, annotations: &[(&str, &str)]) -> Result<Deployment> {
    let annotations: BTreeMap<_, _> = annotations.iter().copied().collect();
    Ok(serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}, "annotations": annotations},
                "spec": {"containers": [{"name": "main", "image": "none"}]},
            },
        },
    }))?)
}

async fn create(rig: &Rig, deployment: &Deployment) -> Result<()> {
    Api::namespaced(rig.client(), "default").create(&PostParams::default(), deployment).await?;
    Ok(())
}

#[tokio::test]
async fn a_deployment_of_60_pods_becomes_ready() -> Result<()> {
    on_rig(RigOptions::default(), async |rig| {
        rig.add_nodes(2, NodeKind::Spot).await?;
        rig.add_nodes(2, NodeKind::OnDemand).await?;
        let since = Instant::now();
        create(rig, &deployment("web", 60, &[])?).await?;
        rig.pods_ready("default", "app=web", 60, LIMIT).await?;
        say(format!("60 pods ready after {:?}; the rig after {:?}", since.elapsed(), rig.ready_after()));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn annotations_slow_pods_down_and_make_them_crash() -> Result<()> {
    on_rig(RigOptions::default(), async |rig| {
        rig.add_nodes(1, NodeKind::Spot).await?;
        create(rig, &deployment("never-ready", 1, &[(READY_AFTER, "1h")])?).await?;
        create(rig, &deployment("never-gone", 1, &[(TERMINATED_AFTER, "1h")])?).await?;
        create(rig, &deployment("crashing", 1, &[(CRASH_AFTER, "100ms"), (RECOVER_AFTER, "100ms")])?).await?;
        let [lasting] = rig.pods_ready("default", "app=never-gone", 1, LIMIT).await?.try_into().expect("one pod");

        // Restarts are counted by the stage, so two of them mean: ready, crashed, ready again, crashed again.
        let pods: Api<Pod> = Api::namespaced(rig.client(), "default");
        let crashing = ListParams::default().labels("app=crashing");
        until("two crashes", LIMIT, async || {
            let pod = pods.list(&crashing).await.ok()?.items.pop()?;
            pod.status?.container_statuses?.iter().any(|container| container.restart_count >= 2).then_some(())
        })
        .await?;

        pods.delete(lasting.metadata.name.as_deref().context("a name")?, &DeleteParams::default()).await?;
        rig.pods_ready("default", "app=never-gone", 1, LIMIT).await?;
        let both = pods.list(&ListParams::default().labels("app=never-gone")).await?.items;
        assert_eq!(both.len(), 2, "the deleted pod lingers beside its successor");
        assert_eq!(rig.ready_pods("default", "app=never-ready").await?.len(), 0);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn requests_are_on_record() -> Result<()> {
    on_rig(RigOptions { audit: Some(AuditLevel::Metadata), ..RigOptions::default() }, async |rig| {
        rig.add_nodes(1, NodeKind::OnDemand).await?;
        let nodes: Api<k8s_openapi::api::core::v1::Node> =
            Api::all(rig.client_as("somebody", Some("everybody")).await?);
        let refused = nodes.patch("on-demand-0", &PatchParams::default(), &Patch::Merge(json!({}))).await;
        assert!(refused.is_err(), "nobody gave them the right");
        let entries = rig.audit()?;
        let theirs: Vec<_> = entries.iter().filter(|entry| entry.user == "somebody").collect();
        let [entry] = theirs[..] else { panic!("one request, not {theirs:?}") };
        assert_eq!(
            (entry.verb.as_str(), entry.resource.as_str(), entry.name.as_str()),
            ("patch", "nodes", "on-demand-0")
        );
        assert_eq!(entry.code, 403);
        assert!(rig.apiserver_metrics().await?.contains("apiserver_request_total"));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_node_is_as_it_was_ordered() -> Result<()> {
    on_rig(RigOptions::default(), async |rig| {
        let room = Room { cpu: "2".to_owned(), memory: "4Gi".to_owned(), pods: 3 };
        let labels = BTreeMap::from([("pool".to_owned(), "small".to_owned())]);
        let taints = serde_json::from_value(json!([{"key": "only", "value": "me", "effect": "NoSchedule"}]))?;
        let node = FakeNode { name: "small".to_owned(), labels, taints, room };
        rig.create_node(&node).await?;
        rig.nodes_usable(&[node.name]).await?;
        let nodes: Api<k8s_openapi::api::core::v1::Node> = Api::all(rig.client());
        let node = nodes.get("small").await?;
        assert_eq!(node.metadata.labels.context("labels")?["pool"], "small");
        let allocatable = node.status.context("a status")?.allocatable.context("room")?;
        assert_eq!((allocatable["cpu"].0.as_str(), allocatable["pods"].0.as_str()), ("2", "3"));
        let taints = node.spec.context("a spec")?.taints.context("taints")?;
        assert_eq!(taints.iter().filter(|taint| taint.key == "only").count(), 1);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_api_server_can_be_paused_killed_and_brought_back() -> Result<()> {
    on_rig(RigOptions::default(), async |rig| {
        rig.add_nodes(1, NodeKind::Spot).await?;
        create(rig, &deployment("before", 3, &[])?).await?;
        rig.pods_ready("default", "app=before", 3, LIMIT).await?;

        rig.pause(Part::ApiServer)?;
        let unanswered = tokio::time::timeout(Duration::from_millis(200), rig.apiserver_metrics()).await;
        assert!(unanswered.is_err(), "a stopped process does not answer");
        rig.resume(Part::ApiServer)?;
        rig.apiserver_metrics().await?;

        rig.kill(Part::ApiServer)?;
        assert!(rig.apiserver_metrics().await.is_err(), "nobody listens");
        rig.launch(Part::ApiServer).await?;
        create(rig, &deployment("after", 3, &[])?).await?;
        rig.pods_ready("default", "app=after", 3, LIMIT).await?;
        assert_eq!(rig.ready_pods("default", "app=before").await?.len(), 3);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn kubectl_reports_the_version_that_go_mod_names() -> Result<()> {
    on_rig(RigOptions::default(), async |rig| {
        let output = rig.kubectl().args(["version", "-o", "json"]).output()?;
        let versions: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        let go_mod = include_str!("../go/kubernetes/go.mod");
        for side in ["clientVersion", "serverVersion"] {
            let version = versions[side]["gitVersion"].as_str().context("a version")?;
            assert!(go_mod.contains(&format!("k8s.io/kubernetes {version}")), "{side} {version}");
        }
        Ok(())
    })
    .await
}
