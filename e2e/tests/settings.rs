//! Settings that are not the default: each changes what it says and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use spotalis_e2e::{
    Cluster, Product, ProductOptions, Split, Workload, annotation, apply, label, on_product, scenario, wanted,
};
use spotalis_rig::{AuditLevel, NodeKind, READY_AFTER, Rig, RigOptions, on_rig, say};
use tokio::try_join;

const CAPACITY_TYPE: &str = "spotalis.io/capacity-type";
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
const NODE_LABEL: &str = "karpenter.sh/capacity-type";

fn audited() -> RigOptions {
    RigOptions { audit: Some(AuditLevel::Metadata), ..RigOptions::default() }
}

async fn add_nodes(cluster: &Cluster<'_>) -> Result<()> {
    cluster.rig().add_nodes(2, NodeKind::Spot).await?;
    cluster.rig().add_nodes(2, NodeKind::OnDemand).await?;
    Ok(())
}

#[tokio::test]
async fn settings_change_what_they_say() -> Result<()> {
    let config = json!({
        "optIn": "either",
        "webhook": {"onConflict": "override"},
        "distribution": {"rounding": "floor", "scaleDownOrder": "none"},
        "controller": {"maxConcurrentDisruptions": 1},
    });
    let options = ProductOptions { config, ..ProductOptions::default() };
    on_product("settings", audited(), options, async |cluster, product| {
        add_nodes(cluster).await?;
        try_join!(
            scenario("either word is enough", either_word_is_enough(cluster)),
            scenario("never managed", never_managed(cluster, product)),
            scenario("override", a_conflict_is_overridden(cluster)),
            scenario("floor and no order", rounded_down_and_without_costs(cluster)),
        )?;
        scenario("one at a time", one_at_a_time(cluster)).await?;
        Ok(())
    })
    .await
}

fn is_steered(pod: &Pod) -> bool {
    label(pod, CAPACITY_TYPE).is_some()
}

async fn either_word_is_enough(cluster: &Cluster<'_>) -> Result<()> {
    cluster.namespace("unlabelled", json!({})).await?;
    cluster.managed_namespace("labelled").await?;
    let by_itself = Workload::deployment("unlabelled", "web").replicas(4).spot(50);
    let by_namespace =
        Workload::deployment("labelled", "web").replicas(4).annotation("spotalis.io/spot-percentage", "50");
    let neither = Workload::deployment("unlabelled", "other").replicas(2);
    for workload in [&by_itself, &by_namespace, &neither] {
        cluster.create(workload).await?;
    }
    cluster.expect_split(&by_itself, wanted(4, 50, 0)).await?;
    cluster.expect_split(&by_namespace, wanted(4, 50, 0)).await?;
    let pods = cluster.settled(&neither).await?;
    ensure!(!pods.iter().any(is_steered), "neither word was said");
    Ok(())
}

/// Whatever it is labelled with: the API server does not even ask.
async fn never_managed(cluster: &Cluster<'_>, product: &Product) -> Result<()> {
    cluster.label_namespace("kube-system", json!({"spotalis.io/enabled": "true"})).await?;
    let workload = Workload::deployment("kube-system", "web").replicas(3).spot(100);
    cluster.create(&workload).await?;
    let pods = cluster.settled(&workload).await?;
    ensure!(!pods.iter().any(is_steered), "a pod of kube-system was steered");
    let shown = product.replica().scrape().await?;
    ensure!(!shown.has("spotalis_replicas_desired", &[("namespace", "kube-system")]), "it is managed");
    cluster.expect_evictions("kube-system", 0)
}

async fn a_conflict_is_overridden(cluster: &Cluster<'_>) -> Result<()> {
    cluster.managed_namespace("conflict").await?;
    let insists = json!({"nodeSelector": {NODE_LABEL: "on-demand", "kubernetes.io/os": "linux"}});
    let workload = Workload::deployment("conflict", "web").replicas(3).spot(100).pod(insists);
    cluster.create(&workload).await?;
    for pod in cluster.expect_split(&workload, wanted(3, 100, 0)).await? {
        let selector = &json!(pod.spec)["nodeSelector"];
        ensure!(*selector == json!({NODE_LABEL: "spot", "kubernetes.io/os": "linux"}), "{selector}");
    }
    Ok(())
}

/// 75 % of 10 is 7.5, and 7 by this rounding.
async fn rounded_down_and_without_costs(cluster: &Cluster<'_>) -> Result<()> {
    cluster.managed_namespace("rounded").await?;
    let workload = Workload::deployment("rounded", "web").replicas(10).spot(75);
    cluster.create(&workload).await?;
    let pods = cluster.expect_split(&workload, Split { spot: 7, on_demand: 3, unknown: 0 }).await?;
    ensure!(pods.iter().all(|pod| annotation(pod, DELETION_COST).is_none()), "nobody asked for an order");
    let slots: BTreeSet<&str> = pods.iter().filter_map(|pod| annotation(pod, "spotalis.io/slot")).collect();
    ensure!(slots.len() == 10, "slots are given all the same: {slots:?}");
    // Without an order Kubernetes takes whom it likes; what that spoils is mended.
    cluster.scale(&workload, 4).await?;
    cluster.until_split(&workload, Split { spot: 3, on_demand: 1, unknown: 0 }).await?;
    Ok(())
}

/// Three workloads have two moves to make each, and in the whole cluster one pod at most is missing for it.
async fn one_at_a_time(cluster: &Cluster<'_>) -> Result<()> {
    const LATE: Duration = Duration::from_secs(1);
    cluster.managed_namespace("turns").await?;
    cluster.cordon(NodeKind::Spot, true).await?;
    let workloads = ["a", "b", "c"]
        .map(|name| Workload::deployment("turns", name).replicas(4).spot(0).pod_annotation(READY_AFTER, "1s"));
    for workload in &workloads {
        cluster.create(workload).await?;
    }
    for workload in &workloads {
        cluster.settled(workload).await?;
    }
    cluster.cordon(NodeKind::Spot, false).await?;
    let already: usize = cluster.evictions("turns")?.len();
    for workload in &workloads {
        cluster.annotate(workload, json!({"spotalis.io/spot-percentage": "50"})).await?;
    }
    for workload in &workloads {
        cluster.until_split(workload, wanted(4, 50, 0)).await?;
    }
    let mut times: Vec<Timestamp> = cluster.evictions("turns")?[already..].iter().map(|entry| entry.received).collect();
    times.sort_unstable();
    ensure!(times.len() == 6, "{} evictions for six moves", times.len());
    let pauses = times.windows(2).map(|pair| pair[1].duration_since(pair[0]));
    let shortest = pauses.min().context("pauses")?;
    say(format!("    the shortest time between two evictions: {shortest:?}"));
    ensure!(shortest >= LATE.try_into()?, "the one before was not ready yet: {shortest:?}");
    Ok(())
}

const WATCHED: [&str; 2] = ["watched", "watched-too"];
const SCOPED: &str = "spotalis-scoped";

/// Limited to some namespaces, with Roles where the documentation says that they are enough.
#[tokio::test]
async fn watched_namespaces_are_all_it_needs_to_see() -> Result<()> {
    on_rig(audited(), async |rig| {
        let since = tokio::time::Instant::now();
        let cluster = &Cluster::of(rig);
        for namespace in WATCHED {
            cluster.managed_namespace(namespace).await?;
        }
        cluster.managed_namespace("elsewhere").await?;
        cluster.namespace("spotalis-system", json!({})).await?;
        apply(rig, "-", &rights()?.to_string())?;
        let options = ProductOptions {
            // How full nodes are is not seen, so somebody has to say that there is room.
            config: json!({
                "controller": {"watchNamespaces": WATCHED}, "distribution": {"provisioner": "always"},
            }),
            kubeconfig: Some(rig.kubeconfig_as(SCOPED, None)?),
            ..ProductOptions::default()
        };
        let product = Product::start(rig, options).await?;
        add_nodes(cluster).await?;
        scenario("watched namespaces", watched(cluster, rig, &product)).await?;
        say(format!("watched namespaces: passed after {:.1} s", since.elapsed().as_secs_f64()));
        anyhow::Ok(())
    })
    .await
}

async fn watched(cluster: &Cluster<'_>, rig: &Rig, product: &Product) -> Result<()> {
    cluster.cordon(NodeKind::Spot, true).await?;
    let late = Workload::deployment(WATCHED[0], "late").replicas(4);
    cluster.create(&late).await?;
    cluster.settled(&late).await?;
    cluster.cordon(NodeKind::Spot, false).await?;
    cluster.opt(&late, true, json!({"spotalis.io/spot-percentage": "50"})).await?;
    let web = Workload::deployment(WATCHED[1], "web").replicas(10).spot(70).floor(1);
    cluster.create(&web).await?;
    cluster.expect_split(&web, wanted(10, 70, 1)).await?;
    cluster.until_split(&late, wanted(4, 50, 0)).await?;
    cluster.told(&late, "Rebalanced").await?;
    let unseen = Workload::deployment("elsewhere", "web").replicas(3).spot(100);
    cluster.create(&unseen).await?;
    let pods = cluster.settled(&unseen).await?;
    ensure!(!pods.iter().any(is_steered), "a pod of a namespace that is not watched was steered");
    ensure!(
        !product.replica().scrape().await?.has("spotalis_replicas_desired", &[("namespace", "elsewhere")]),
        "a namespace that is not watched is managed"
    );
    let asked = rig.audit()?;
    let ours = asked.iter().filter(|entry| entry.user == SCOPED);
    let refused: BTreeSet<&str> = ours.clone().filter(|entry| entry.forbidden).map(|e| e.uri.as_str()).collect();
    ensure!(refused.is_empty(), "refused: {refused:?}");
    let acts = ours.filter(|entry| entry.subresource == "eviction").count();
    ensure!(acts >= 2, "{acts} evictions by the product");
    Ok(())
}

/// The rights of `manifests/rbac.yaml` for another user, with everything that lies in namespaces as a Role in each of the
/// watched ones.
fn rights() -> Result<Value> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/rbac.yaml");
    let documents: Vec<Value> = serde_saphyr::from_multiple(&std::fs::read_to_string(manifest)?)?;
    let of_cluster = ["namespaces", "nodes", "nodepools"];
    let mut roles: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    let mut wide = Vec::new();
    for document in &documents {
        let rules = document["rules"].as_array().cloned().unwrap_or_default();
        match document["kind"].as_str() {
            Some("ClusterRole") => {
                for rule in rules {
                    let resources = rule["resources"].as_array().context("resources")?.clone();
                    for resource in resources {
                        let mut one = rule.clone();
                        one["resources"] = json!([resource]);
                        if resource.as_str().is_some_and(|name| of_cluster.contains(&name)) {
                            wide.push(one);
                        } else {
                            WATCHED
                                .iter()
                                .for_each(|name| roles.entry((*name).to_owned()).or_default().push(one.clone()));
                        }
                    }
                }
            }
            Some("Role") => {
                let namespace = document["metadata"]["namespace"].as_str().context("a namespace")?;
                roles.entry(namespace.to_owned()).or_default().extend(rules);
            }
            _ => {}
        }
    }
    let subjects = json!([{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": SCOPED}]);
    let group = "rbac.authorization.k8s.io";
    let pair = |kind: &str, metadata: Value, rules: Vec<Value>| {
        let api = format!("{group}/v1");
        let reference = json!({"apiGroup": group, "kind": kind, "name": SCOPED});
        [
            json!({"apiVersion": api, "kind": kind, "metadata": metadata, "rules": rules}),
            json!({"apiVersion": api, "kind": format!("{kind}Binding"), "metadata": metadata, "roleRef": reference,
                "subjects": subjects}),
        ]
    };
    let mut items = pair("ClusterRole", json!({"name": SCOPED}), wide).to_vec();
    for (namespace, rules) in roles {
        items.extend(pair("Role", json!({"name": SCOPED, "namespace": namespace}), rules));
    }
    Ok(json!({"apiVersion": "v1", "kind": "List", "items": items}))
}

/// The rights above are not empty by mistake.
#[test]
fn the_rights_are_split_by_where_things_lie() {
    let rights = rights().unwrap();
    let items = rights["items"].as_array().unwrap();
    let of = |kind: &str| items.iter().filter(|item| item["kind"] == kind).collect::<Vec<_>>();
    assert_eq!(of("ClusterRole")[0]["rules"].as_array().unwrap().len(), 3, "{rights}");
    assert_eq!(of("Role").len(), 4, "two watched namespaces, the Lease's and the autoscaler's");
}
