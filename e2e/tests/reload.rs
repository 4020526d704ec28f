//! The configuration file is changed under a running controller.

use anyhow::{Result, ensure};
use serde_json::json;
use spotalis_e2e::{
    Caller, Cluster, IN_FORCE, Product, ProductOptions, Split, Workload, eventually, on_product, scenario, wanted,
};
use spotalis_rig::{AuditLevel, NodeKind, RigOptions};

#[tokio::test]
async fn a_changed_file_holds_without_a_restart() -> Result<()> {
    let rig = RigOptions { audit: Some(AuditLevel::Metadata), ..RigOptions::default() };
    // So long that nothing would move within the test.
    let config = json!({"controller": {"cooldown": "1h"}, "logging": {"level": "info"}});
    let options = ProductOptions { config, ..ProductOptions::default() };
    on_product("changed configuration", rig, options, async |cluster, product| {
        cluster.rig().add_nodes(2, NodeKind::Spot).await?;
        cluster.rig().add_nodes(2, NodeKind::OnDemand).await?;
        let pid = product.replica().pid();
        scenario("the cooldown", cooldown(cluster, product)).await?;
        scenario("policy defaults", defaults(cluster, product)).await?;
        scenario("a broken file", broken(cluster, product)).await?;
        scenario("a key that needs a restart", needs_restart(product)).await?;
        scenario("the level of the log", log_level(cluster, product)).await?;
        ensure!(product.replica().pid() == pid && product.replica().health("/readyz").await?.0 == 200);
        Ok(())
    })
    .await
}

async fn cooldown(cluster: &Cluster<'_>, product: &Product) -> Result<()> {
    cluster.managed_namespace("cooldown").await?;
    let workload = Workload::deployment("cooldown", "web").replicas(6);
    cluster.cordon(NodeKind::Spot, true).await?;
    cluster.create(&workload).await?;
    cluster.settled(&workload).await?;
    cluster.cordon(NodeKind::Spot, false).await?;
    cluster.opt(&workload, true, json!({"spotalis.io/spot-percentage": "50"})).await?;
    product.passes("CoolingDown", 1).await?;
    cluster.expect_evictions("cooldown", 0)?;
    let mut config = product.replica().config()?;
    config["controller"]["cooldown"] = json!("1s");
    product.replica().change_config(&config.to_string(), IN_FORCE).await?;
    cluster.until_split(&workload, wanted(6, 50, 0)).await?;
    cluster.expect_evictions("cooldown", 3)
}

/// A workload that says nothing follows the default: first the built-in one, then the configured one.
async fn defaults(cluster: &Cluster<'_>, product: &Product) -> Result<()> {
    cluster.managed_namespace("defaults").await?;
    let workload = Workload::deployment("defaults", "web").replicas(4).opted_in();
    cluster.create(&workload).await?;
    cluster.expect_split(&workload, Split { on_demand: 4, ..Split::default() }).await?;
    let mut config = product.replica().config()?;
    config["distribution"]["defaults"]["spotPercentage"] = json!(50);
    product.replica().change_config(&config.to_string(), IN_FORCE).await?;
    cluster.until_split(&workload, wanted(4, 50, 0)).await?;
    cluster.expect_evictions("defaults", 2)?;
    cluster.scale(&workload, 10).await?;
    cluster.until_split(&workload, wanted(10, 50, 0)).await?;
    cluster.expect_evictions("defaults", 2)
}

async fn broken(cluster: &Cluster<'_>, product: &Product) -> Result<()> {
    let good = product.replica().config()?;
    for (text, says) in [
        ("controller: {workers: 5", "not valid YAML"),
        (
            "{\"controller\": {\"coldown\": \"1s\"}}",
            "controller.coldown: unknown key; did you mean controller.cooldown?",
        ),
        ("{\"readOnlyMode\": 7}", "readOnlyMode: 7 is not allowed; allowed is true or false"),
    ] {
        let line = product.replica().change_config(text, "the changed configuration is not used").await?;
        ensure!(line["level"] == "ERROR" && line.to_string().contains(says), "{line}");
    }
    // What held before holds on: the default of the scenario before.
    let workload = Workload::deployment("defaults", "later").replicas(6).opted_in();
    cluster.create(&workload).await?;
    cluster.expect_split(&workload, wanted(6, 50, 0)).await?;
    product.replica().change_config(&good.to_string(), IN_FORCE).await?;
    Ok(())
}

/// The line names the key, the old port goes on, and what else was changed in the same file holds.
async fn needs_restart(product: &Product) -> Result<()> {
    let good = product.replica().config()?;
    let caller = Caller::of(product.replica())?;
    let mut config = good.clone();
    config["webhook"]["port"] = json!(spotalis_rig::free_port()?);
    config["controller"]["workers"] = json!(7);
    config["controller"]["cooldown"] = json!("2s");
    let line = product.replica().change_config(&config.to_string(), "restart to put these in force").await?.to_string();
    ensure!(line.contains("webhook.port") && line.contains("controller.workers"), "{line}");
    ensure!(!line.contains("cooldown"), "{line}");
    ensure!(caller.post(b"{}").await?.status == 400, "the port of the start is served");
    let named = product.replica().log_with("restart to put these in force")?.len();
    product.replica().change_config(&good.to_string(), IN_FORCE).await?;
    let now = product.replica().log_with("restart to put these in force")?.len();
    ensure!(now == named, "the file says again what has been in force all the while, and a restart is asked for");
    Ok(())
}

/// Each new reason is a line of level debug where it is no Event.
async fn log_level(cluster: &Cluster<'_>, product: &Product) -> Result<()> {
    let debug = || anyhow::Ok(product.replica().log()?.into_iter().any(|line| line["level"] == "DEBUG"));
    ensure!(!debug()?, "at level info there is no line of level debug");
    let mut config = product.replica().config()?;
    config["logging"]["level"] = json!("debug");
    product.replica().change_config(&config.to_string(), IN_FORCE).await?;
    cluster.scale(&Workload::deployment("defaults", "web"), 2).await?;
    eventually("a line of level debug", async || debug().ok()?.then_some(())).await
}
