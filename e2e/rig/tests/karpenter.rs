//! Karpenter on the rig does what it does in a cloud: it makes nodes for pods that have none, of the kind they ask for.

use std::time::Duration;

use anyhow::{Context as _, Result};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Node;
use serde_json::json;
use spotalis_rig::kube::api::{Api, PostParams};
use spotalis_rig::{RigOptions, on_rig, say};
use tokio::time::Instant;

const CAPACITY_TYPE: &str = "karpenter.sh/capacity-type";
const LIMIT: Duration = Duration::from_mins(2);

#[tokio::test]
async fn pods_get_nodes_of_the_kind_they_ask_for() -> Result<()> {
    on_rig(RigOptions { karpenter: true, ..RigOptions::default() }, async |rig| {
        let since = Instant::now();
        for (kind, replicas) in [("spot", 7), ("on-demand", 3)] {
            let deployment: Deployment = serde_json::from_value(json!({
                "metadata": {"name": kind},
                "spec": {
                    "replicas": replicas,
                    "selector": {"matchLabels": {"app": kind}},
                    "template": {
                        "metadata": {"labels": {"app": kind}},
                        "spec": {
                            "nodeSelector": {CAPACITY_TYPE: kind},
                            "containers": [{"name": "main", "image": "none", "resources": {"requests": {"cpu": "1"}}}],
                        },
                    },
                },
            }))?;
            Api::namespaced(rig.client(), "default").create(&PostParams::default(), &deployment).await?;
        }
        let nodes: Api<Node> = Api::all(rig.client());
        for (kind, replicas) in [("spot", 7), ("on-demand", 3)] {
            for pod in rig.pods_ready("default", &format!("app={kind}"), replicas, LIMIT).await? {
                let node = nodes.get(&pod.spec.and_then(|spec| spec.node_name).context("a node")?).await?;
                assert_eq!(node.metadata.labels.context("labels")?[CAPACITY_TYPE], kind);
            }
        }
        say(format!("Karpenter: 10 pods ready after {:?}; the rig after {:?}", since.elapsed(), rig.ready_after()));
        Ok(())
    })
    .await
}
