//! The labels of the common provisioners: pods land where they should and are moved where they should, by each of them.
//!
//! One controller, whose file is changed from one to the next: each finds nodes labelled as that provisioner labels them,
//! and no others. Which type a node is, is known here from its name, not from a label.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use kube::api::DeleteParams;
use serde_json::{Value, json};
use spotalis_e2e::{
    Cluster, IN_FORCE, Product, ProductOptions, Split, Workload, active_pods, eventually, on_product, scenario, wanted,
};
use spotalis_rig::{AuditLevel, FakeNode, RigOptions};

/// A provisioner, as its nodes show it, and how a pod is to be led there.
struct Fleet {
    name: &'static str,
    node_labels: Value,
    spot: &'static [(&'static str, &'static str)],
    on_demand: &'static [(&'static str, &'static str)],
    spot_taint: Option<(&'static str, &'static str)>,
    /// What a pod for spot, and one for on-demand, has in its spec afterwards.
    led: fn(&Value, bool) -> bool,
}

const AKS: &str = "kubernetes.azure.com/scalesetpriority";
const GKE: &str = "cloud.google.com/gke-spot";

fn fleets() -> [Fleet; 5] {
    [
        Fleet {
            name: "eks",
            node_labels: json!({"preset": "eks"}),
            spot: &[("eks.amazonaws.com/capacityType", "SPOT")],
            on_demand: &[("eks.amazonaws.com/capacityType", "ON_DEMAND")],
            spot_taint: None,
            led: |spec, spot| {
                spec["nodeSelector"]["eks.amazonaws.com/capacityType"] == if spot { "SPOT" } else { "ON_DEMAND" }
            },
        },
        Fleet {
            name: "gke",
            node_labels: json!({"preset": "gke"}),
            spot: &[(GKE, "true")],
            on_demand: &[],
            spot_taint: None,
            led: |spec, spot| {
                if spot {
                    spec["nodeSelector"][GKE] == "true"
                } else {
                    *required(spec) == json!([{"key": GKE, "operator": "DoesNotExist"}])
                }
            },
        },
        Fleet {
            name: "aks",
            node_labels: json!({"preset": "aks"}),
            spot: &[(AKS, "spot")],
            on_demand: &[],
            spot_taint: Some((AKS, "spot")),
            led: |spec, spot| {
                let tolerates = spec["tolerations"].as_array().is_some_and(|all| {
                    let ours = json!({"key": AKS, "operator": "Equal", "value": "spot", "effect": "NoSchedule"});
                    all.contains(&ours)
                });
                if spot {
                    spec["nodeSelector"][AKS] == "spot" && tolerates
                } else {
                    *required(spec) == json!([{"key": AKS, "operator": "NotIn", "values": ["spot"]}]) && !tolerates
                }
            },
        },
        Fleet {
            name: "spotalis",
            node_labels: json!({"preset": "spotalis"}),
            spot: &[("capacity.spotalis.io", "spot")],
            on_demand: &[("capacity.spotalis.io", "on-demand")],
            spot_taint: None,
            led: |spec, spot| spec["nodeSelector"]["capacity.spotalis.io"] == if spot { "spot" } else { "on-demand" },
        },
        Fleet {
            name: "own",
            node_labels: json!({"spot": "pool in (cheap, cheaper)", "onDemand": "pool, pool notin (cheap, cheaper)"}),
            spot: &[("pool", "cheaper")],
            on_demand: &[("pool", "sure")],
            spot_taint: None,
            led: |spec, _| required(spec).as_array().is_some_and(|all| !all.is_empty()),
        },
    ]
}

/// The expressions of the only required term.
fn required(spec: &Value) -> &Value {
    let affinity = &spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    &affinity["nodeSelectorTerms"][0]["matchExpressions"]
}

#[tokio::test]
async fn every_preset_leads_pods_to_its_nodes() -> Result<()> {
    let rig = RigOptions { audit: Some(AuditLevel::Metadata), ..RigOptions::default() };
    on_product("presets", rig, ProductOptions::default(), async |cluster, product| {
        for fleet in fleets() {
            scenario(fleet.name, exact_and_mended(cluster, product, &fleet)).await?;
        }
        Ok(())
    })
    .await
}

async fn exact_and_mended(cluster: &Cluster<'_>, product: &Product, fleet: &Fleet) -> Result<()> {
    let mut config = product.replica().config()?;
    config["nodeLabels"] = fleet.node_labels.clone();
    product.replica().change_config(&config.to_string(), IN_FORCE).await?;
    let nodes = provide(cluster, fleet).await?;
    cluster.managed_namespace(fleet.name).await?;

    let web = Workload::deployment(fleet.name, "web").replicas(10).spot(70).floor(1);
    cluster.create(&web).await?;
    let pods = cluster.settled(&web).await?;
    ensure!(split(&pods) == wanted(10, 70, 1), "{}", split(&pods));
    for pod in &pods {
        ensure!((fleet.led)(&json!(pod.spec), on_spot(pod) == Some(true)), "{:#}", json!(pod.spec));
    }

    // What ran before the opt-in is moved: from the one type, and from the other.
    for (name, first, percentage) in [("to-spot", "on-demand", "50"), ("to-on-demand", "spot", "0")] {
        let mut old = Workload::deployment(fleet.name, name).replicas(4);
        old = old.pod(json!({"tolerations": [{"key": AKS, "operator": "Exists"}]}));
        let others = nodes.iter().filter(|node| !node.starts_with(first));
        for node in others.clone() {
            cluster.cordon_node(node, true).await?;
        }
        cluster.create(&old).await?;
        cluster.settled(&old).await?;
        for node in others {
            cluster.cordon_node(node, false).await?;
        }
        cluster.opt(&old, true, json!({"spotalis.io/spot-percentage": percentage})).await?;
        let target = wanted(4, percentage.parse()?, 0);
        eventually(format!("{}/{name} to be {target}", fleet.name), async || {
            (split(&cluster.settled(&old).await.ok()?) == target).then_some(())
        })
        .await?;
    }
    cluster.expect_evictions(fleet.name, 6)?;
    cluster.delete_namespace(fleet.name).await?;
    for node in nodes {
        Api::<Node>::all(cluster.client()).delete(&node, &DeleteParams::default()).await?;
    }
    Ok(())
}

/// Two nodes of each type, as the provisioner would label them.
async fn provide(cluster: &Cluster<'_>, fleet: &Fleet) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for (kind, labels) in [("spot", fleet.spot), ("on-demand", fleet.on_demand)] {
        let labels: BTreeMap<String, String> =
            labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let taint = fleet.spot_taint.filter(|_| kind == "spot");
        let taints = taint.map(|(key, value)| json!({"key": key, "value": value, "effect": "NoSchedule"}));
        let taints = serde_json::from_value(json!(taints.into_iter().collect::<Vec<_>>()))?;
        for number in 0..2 {
            let name = format!("{kind}-{}-{number}", fleet.name);
            let node = FakeNode {
                name: name.clone(),
                labels: labels.clone(),
                taints: Clone::clone(&taints),
                ..FakeNode::default()
            };
            cluster.rig().create_node(&node).await?;
            names.push(name);
        }
    }
    cluster.rig().nodes_usable(&names).await.context("nodes")?;
    Ok(names)
}

fn on_spot(pod: &Pod) -> Option<bool> {
    let node = pod.spec.as_ref()?.node_name.as_deref()?;
    Some(node.starts_with("spot-"))
}

fn split(pods: &[Pod]) -> Split {
    let mut split = Split::default();
    for pod in active_pods(pods) {
        match on_spot(pod) {
            Some(true) => split.spot += 1,
            Some(false) => split.on_demand += 1,
            None => split.unknown += 1,
        }
    }
    split
}
