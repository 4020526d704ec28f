//! Certificates are changed under load: no pod goes unanswered, and what does not fit is not used.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use spotalis_e2e::{
    Attempt, Caller, Calls, Cluster, Creations, Product, ProductOptions, Workload, eventually, label, on_product,
    scenario, wanted,
};
use spotalis_rig::{NodeKind, RigOptions, say};

const CERTIFICATE_END: &str = "spotalis_certificate_not_after_timestamp_seconds";
const RELOADS: &str = "spotalis_certificate_reloads_total";

#[tokio::test]
async fn certificates_come_and_go() -> Result<()> {
    on_product("certificates", RigOptions::default(), ProductOptions::default(), async |cluster, product| {
        cluster.rig().add_nodes(1, NodeKind::Spot).await?;
        cluster.rig().add_nodes(1, NodeKind::OnDemand).await?;
        scenario("swapped under load", swapped_under_load(cluster, product)).await?;
        scenario("a pair that does not fit", a_broken_pair(cluster, product)).await?;
        scenario("none at the start", none_at_the_start(cluster, product)).await?;
        Ok(())
    })
    .await
}

fn directory(product: &Product) -> Result<PathBuf> {
    let config: Value = serde_json::from_str(&fs::read_to_string(product.replica().config_path())?)?;
    Ok(config["webhook"]["certDir"].as_str().context("a directory")?.into())
}

/// Real pods of rollouts and a stream of trials, and meanwhile one certificate after another of the same authority.
async fn swapped_under_load(cluster: &Cluster<'_>, product: &Product) -> Result<()> {
    cluster.managed_namespace("swap").await?;
    let trials = Workload::deployment("swap", "trials").replicas(2).spot(50);
    let web = Workload::deployment("swap", "web").replicas(30).spot(70).floor(1);
    for workload in [&trials, &web] {
        cluster.create(workload).await?;
        cluster.settled(workload).await?;
    }
    let caller = Caller::of(product.replica())?;
    let before = Calls::so_far(cluster.rig()).await?;
    let creations = Creations::begin(cluster, &trials, 6).await?;
    for _ in 0..3 {
        let shown = caller.certificate().await?;
        product.renew_certificate()?;
        cluster.restart(&web).await?;
        eventually("another certificate", async || (caller.certificate().await.ok()? != shown).then_some(())).await?;
        // The API server keeps its connections; these many pods also go over new ones.
        creations.more(100).await?;
        for pod in cluster.expect_split(&web, wanted(30, 70, 1)).await? {
            ensure!(label(&pod, "spotalis.io/capacity-type").is_some(), "a pod that nobody steered");
        }
    }
    let steered = creations.all_steered().await?;
    let now = Calls::so_far(cluster.rig()).await?;
    ensure!(now.failed_open == before.failed_open, "{before:?}, then {now:?}");
    ensure!(now.answered - before.answered >= steered, "{before:?}, then {now:?}, and {steered} trials");
    say(format!(
        "    {steered} trials and {} calls, three new certificates, all answered",
        now.answered - before.answered
    ));
    let end = product.metric(CERTIFICATE_END, &[]).await;
    ensure!(end > 0.0, "the end of the certificate is not shown");
    Ok(())
}

/// A key of another pair, then no certificate at all: the one in use stays, somebody is told, and the next good one is
/// taken.
async fn a_broken_pair(cluster: &Cluster<'_>, product: &Product) -> Result<()> {
    let (directory, caller) = (directory(product)?, Caller::of(product.replica())?);
    let (certificate, key) = (directory.join("tls.crt"), directory.join("tls.key"));
    let shown = caller.certificate().await?;
    let before = Calls::so_far(cluster.rig()).await?;
    let foreign = spotalis_e2e::Authority::new()?.issue()?;
    for (path, text) in [(&key, foreign.key.as_str()), (&certificate, "no certificate")] {
        let told = rejections(product)?.len();
        let counted = product.metric(RELOADS, &[("result", "rejected")]).await;
        fs::write(path, text)?;
        let lines = eventually("a line about the broken pair", async || {
            let lines = rejections(product).ok()?;
            (lines.len() > told).then_some(lines)
        });
        let last = lines.await?.pop().context("a line")?.to_string();
        ensure!(last.contains("tls.crt"), "{last}");
        ensure!(!last.contains("PRIVATE KEY"), "a key is in the log");
        product.metric_becomes(RELOADS, &[("result", "rejected")], |count| count > counted).await?;
        ensure!(caller.certificate().await? == shown, "the old pair is in use");
        let trials = Workload::deployment("swap", "trials");
        let creations = Creations::begin(cluster, &trials, 2).await?;
        creations.more(20).await?;
        creations.all_steered().await?;
    }
    product.renew_certificate()?;
    eventually("another certificate", async || (caller.certificate().await.ok()? != shown).then_some(())).await?;
    let now = Calls::so_far(cluster.rig()).await?;
    ensure!(now.failed_open == before.failed_open, "{before:?}, then {now:?}");
    Ok(())
}

fn rejections(product: &Product) -> Result<Vec<Value>> {
    let mut lines = product.replica().log()?;
    lines.retain(|line| line.to_string().contains("the changed certificates are not used"));
    ensure!(lines.iter().all(|line| line["level"] == "ERROR"), "{lines:?}");
    Ok(lines)
}

async fn none_at_the_start(cluster: &Cluster<'_>, product: &Product) -> Result<()> {
    let dir = cluster.rig().dir();
    let mut config: Value = serde_json::from_str(&fs::read_to_string(product.replica().config_path())?)?;
    let [webhook, peer, metrics, health] = spotalis_rig::free_ports()?;
    for (section, port) in [("webhook", webhook), ("metrics", metrics), ("health", health)] {
        config[section]["port"] = json!(port);
    }
    config["webhook"]["peerPort"] = json!(peer);
    config["webhook"]["certDir"] = json!(dir.join("no-certificates"));
    let path = dir.join("without-certificates.yaml");
    fs::write(&path, config.to_string())?;
    let kubeconfig = cluster.rig().kubeconfig_as(spotalis_e2e::USER, None)?;
    let word = |path: &Path| path.display().to_string();
    let args = ["controller", "--config", &word(&path), "--kubeconfig", &word(&kubeconfig)];
    let Attempt { code, said } = Attempt::run(dir, &[], &args).await?;
    ensure!(code == 2, "exit code {code}: {said}");
    for part in ["no-certificates/tls.crt", "`tls.key`", "webhook.certDir"] {
        ensure!(said.contains(part), "{part} is not in: {said}");
    }
    ensure!(!said.contains("panicked"), "{said}");
    Ok(())
}
