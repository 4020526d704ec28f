//! `spotalis status` and `spotalis explain` beside a running controller: they say what it says, and a plan is what is done.
//!
//! Whoever asks here has the rights that the documentation names for it, and no others.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Output;

use anyhow::{Context as _, Result, ensure};
use kube::ResourceExt as _;
use serde_json::{Value, json};
use spotalis_e2e::{
    Budget, Cluster, Product, ProductOptions, Workload, apply, binary, eventually, on_product, scenario, wanted,
};
use spotalis_rig::{AuditLevel, NodeKind, RigOptions};
use tokio::process::Command;

const PERCENTAGE: &str = "spotalis.io/spot-percentage";
const ONLOOKER: &str = "onlooker";

#[tokio::test]
async fn what_is_said_is_what_the_controller_does() -> Result<()> {
    let rig = RigOptions { audit: Some(AuditLevel::Metadata), ..RigOptions::default() };
    on_product("command line", rig, ProductOptions::default(), async |cluster, product| {
        cluster.rig().add_nodes(2, NodeKind::Spot).await?;
        cluster.rig().add_nodes(2, NodeKind::OnDemand).await?;
        let asked = Asked::prepare(cluster, product).await?;
        scenario("reasons", reasons_are_the_controllers(cluster, &asked)).await?;
        scenario("half an opt-in", half_an_opt_in_is_completed(cluster, &asked)).await?;
        scenario("a plan", a_plan_is_what_is_done(cluster, &asked)).await?;
        scenario("only looked", async { only_looked(cluster) }).await?;
        scenario("the how-to", the_how_to_leads_there(cluster, product)).await
    })
    .await
}

/// The program, asked by the onlooker.
struct Asked {
    binary: PathBuf,
    globals: Vec<String>,
}

impl Asked {
    async fn prepare(cluster: &Cluster<'_>, product: &Product) -> Result<Self> {
        let rule = |group: &str, resources: &[&str], verb: &str| json!({"apiGroups": [group], "resources": resources, "verbs": [verb]});
        let rules = json!([
            rule("", &["namespaces", "nodes", "pods", "configmaps"], "list"),
            rule("apps", &["deployments", "replicasets", "statefulsets"], "list"),
            rule("policy", &["poddisruptionbudgets"], "list"),
            rule("karpenter.sh", &["nodepools"], "list"),
            rule("events.k8s.io", &["events"], "list"),
            rule("", &["events", "namespaces"], "list"),
            rule("", &["namespaces"], "get"),
            rule("apps", &["deployments", "statefulsets"], "get"),
        ]);
        let group = "rbac.authorization.k8s.io";
        let items = json!([
            {"apiVersion": format!("{group}/v1"), "kind": "ClusterRole", "metadata": {"name": ONLOOKER}, "rules": rules},
            {"apiVersion": format!("{group}/v1"), "kind": "ClusterRoleBinding", "metadata": {"name": ONLOOKER},
             "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": ONLOOKER},
             "subjects": [{"apiGroup": group, "kind": "User", "name": ONLOOKER}]},
        ]);
        apply(cluster.rig(), "-", &json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string())?;
        let kubeconfig = cluster.rig().kubeconfig_as(ONLOOKER, None)?.display().to_string();
        let config = product.replica().config_path().display().to_string();
        let binary = tokio::task::spawn_blocking(binary).await??;
        let globals = ["--config".to_owned(), config, "--kubeconfig".to_owned(), kubeconfig].to_vec();
        Ok(Self { binary, globals })
    }

    async fn run(&self, words: &[&str]) -> Result<Output> {
        let mut command = program(&self.binary);
        Ok(command.args(words).args(&self.globals).output().await?)
    }

    /// What it says in JSON, whether or not it finds something amiss.
    async fn json(&self, words: &[&str]) -> Result<Value> {
        let words: Vec<&str> = words.iter().copied().chain(["-o", "json"]).collect();
        let Output { status, stdout, stderr } = self.run(&words).await?;
        let stderr = String::from_utf8_lossy(&stderr);
        ensure!(matches!(status.code(), Some(0 | 1)), "{words:?}: {status}: {stderr}");
        serde_json::from_slice(&stdout).with_context(|| format!("{words:?}: {stderr}"))
    }
}

/// The program, without what this test's own environment has for it.
fn program(binary: &Path) -> Command {
    let mut command = Command::new(binary);
    let ours = |name: &std::ffi::OsStr| name.as_encoded_bytes().starts_with(b"SPOTALIS_");
    for (name, _) in std::env::vars_os().filter(|(name, _)| ours(name)) {
        command.env_remove(name);
    }
    command
}

async fn on_demand(cluster: &Cluster<'_>, workload: Workload) -> Result<Workload> {
    let workload = workload.replicas(4).spot(0);
    cluster.create(&workload).await?;
    cluster.settled(&workload).await?;
    Ok(workload)
}

/// One workload for each state that lasts, and in each the same word from everybody who is asked.
async fn reasons_are_the_controllers(cluster: &Cluster<'_>, asked: &Asked) -> Result<()> {
    cluster.managed_namespace("shop").await?;
    let new = |name: &str| Workload::deployment("shop", name);
    let exact = new("exact").replicas(4).spot(50);
    cluster.create(&exact).await?;
    let blocked = on_demand(cluster, new("blocked")).await?;
    let closed = on_demand(cluster, new("closed")).await?;
    let invalid = on_demand(cluster, new("invalid")).await?;
    let kept = new("kept").pod_annotation("karpenter.sh/do-not-disrupt", "true");
    let kept = on_demand(cluster, kept).await?;
    let alone = new("alone").pod(json!({"nodeSelector": {"kubernetes.io/hostname": "on-demand-0"}}));
    let alone = on_demand(cluster, alone).await?;
    cluster.create_budget(&Budget::min_available(&blocked, "strict", 4)).await?;
    let half = json!({PERCENTAGE: "50"});
    let window = json!({PERCENTAGE: "50", "spotalis.io/disruption-schedule": "0 0 29 2 *",
        "spotalis.io/disruption-duration": "1m"});
    let states = [
        (&exact, half.clone(), "OnTarget", false),
        (&blocked, half.clone(), "MoveBlockedByPDB", true),
        (&closed, window, "WindowClosed", false),
        (&invalid, json!({PERCENTAGE: "half"}), "InvalidAnnotation", true),
        (&kept, half.clone(), "PodsKept", true),
        (&alone, half, "NoCapacity", true),
    ];
    for (workload, annotations, _, _) in &states {
        cluster.annotate(workload, annotations.clone()).await?;
    }
    for (workload, _, reason, is_event) in &states {
        if *is_event {
            cluster.told(workload, reason).await?;
        }
    }
    let wanted: BTreeMap<&str, &str> =
        states.iter().map(|(workload, _, reason, _)| (workload.name(), *reason)).collect();
    let shown = eventually("status to have the controller's reasons", async || {
        let status = asked.json(&["status"]).await.ok()?;
        let of =
            |workload: &Value| Some((workload["name"].as_str()?.to_owned(), workload["reason"].as_str()?.to_owned()));
        let shown: BTreeMap<String, String> = status["workloads"].as_array()?.iter().filter_map(of).collect();
        wanted.iter().all(|(name, reason)| shown.get(*name).map(String::as_str) == Some(reason)).then_some(status)
    });
    let status = match shown.await {
        Ok(status) => status,
        Err(error) => anyhow::bail!("{error}: {wanted:?} is wanted of {:#}", asked.json(&["status"]).await?),
    };
    ensure!(asked.run(&["status"]).await?.status.code() == Some(1), "something is amiss, and the exit code says so");
    for (workload, _, reason, is_event) in &states {
        let explained = asked.json(&["explain", "workload", workload.name(), "-n", "shop"]).await?;
        ensure!(explained["reason"] == *reason, "{explained:#}");
        let listed = status["workloads"].as_array().context("a list")?;
        let listed = listed.iter().find(|listed| listed["name"] == workload.name()).context("listed")?;
        ensure!(explained["message"] == listed["message"], "two sentences: {listed:#} {explained:#}");
        if *is_event {
            let event = cluster.told(workload, reason).await?;
            let (note, message) = (event.note.unwrap_or_default(), listed["message"].as_str().unwrap_or_default());
            // An invalid value is told with the value, which the sentence of the reason leaves to the list of problems.
            ensure!(*reason == "InvalidAnnotation" || note == message, "told {note:?}, shown {message:?}");
        }
        let pods = cluster.pods(workload).await?;
        let pod = pods.first().context("a pod")?.name_any();
        let explained = asked.run(&["explain", "pod", &pod, "-n", "shop"]).await?;
        let said = String::from_utf8_lossy(&explained.stdout).into_owned();
        ensure!(said.contains(&format!("shop/deployment/{}", workload.name())), "{said}");
    }
    Ok(())
}

/// The command that is printed is the one that is missing.
async fn half_an_opt_in_is_completed(cluster: &Cluster<'_>, asked: &Asked) -> Result<()> {
    cluster.namespace("half", json!({})).await?;
    let workload = Workload::deployment("half", "web").replicas(4).spot(50);
    cluster.create(&workload).await?;
    cluster.settled(&workload).await?;
    let status = asked.json(&["status", "-n", "half"]).await?;
    let command = status["halfOptIns"][0]["command"].as_str().context("a command")?.to_owned();
    let words = command.strip_prefix("kubectl ").context("of kubectl")?.split_whitespace();
    let output = cluster.rig().kubectl().args(words).output()?;
    ensure!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    cluster.until_split(&workload, wanted(4, 50, 0)).await?;
    eventually("nothing to be left over", async || {
        let status = asked.json(&["status", "-n", "half"]).await.ok()?;
        (status["halfOptIns"] == json!([]) && status["workloads"][0]["reason"] == "OnTarget").then_some(())
    })
    .await
}

/// What `--if` shows changes nothing; set for real, just that is done.
async fn a_plan_is_what_is_done(cluster: &Cluster<'_>, asked: &Asked) -> Result<()> {
    cluster.managed_namespace("plans").await?;
    let workload = Workload::deployment("plans", "web").replicas(8).spot(25);
    cluster.create(&workload).await?;
    cluster.expect_split(&workload, wanted(8, 25, 0)).await?;
    let words = ["explain", "workload", "web", "-n", "plans", "--if", "spot-percentage=60"];
    let explained = eventually("a plan of something at rest", async || {
        let explained = asked.json(&words).await.ok()?;
        (explained["reason"] == "OnTarget").then_some(explained)
    })
    .await?;
    let plan = &explained["plan"];
    ensure!(plan["wantedAfter"]["spot"] == 5, "{plan:#}");
    let planned: Vec<&str> =
        plan["moves"].as_array().context("moves")?.iter().filter_map(|one| one["pod"].as_str()).collect();
    ensure!(planned.len() == 3, "{plan:#}");
    cluster.expect_evictions("plans", 0)?;
    cluster.annotate(&workload, json!({PERCENTAGE: "60"})).await?;
    cluster.until_split(&workload, wanted(8, 60, 0)).await?;
    let evicted: Vec<String> = cluster.evictions("plans")?.into_iter().map(|entry| entry.name).collect();
    ensure!(evicted == planned, "planned {planned:?}, done {evicted:?}");
    Ok(())
}

fn only_looked(cluster: &Cluster<'_>) -> Result<()> {
    let entries = cluster.rig().audit()?;
    let ours: Vec<_> = entries.iter().filter(|entry| entry.user == ONLOOKER).collect();
    ensure!(ours.len() > 20, "{} requests are on record", ours.len());
    let other: Vec<String> = ours
        .iter()
        .filter(|entry| !["get", "list"].contains(&entry.verb.as_str()) || entry.forbidden)
        .map(|entry| format!("{} {} {}", entry.verb, entry.uri, entry.code))
        .collect();
    ensure!(other.is_empty(), "{other:?}");
    Ok(())
}

/// Every command of the page, in its order.
async fn the_how_to_leads_there(cluster: &Cluster<'_>, product: &Product) -> Result<()> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/how-to/try-it.md");
    let page = std::fs::read_to_string(page)?;
    let commands: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("$ ")).collect();
    let ours = |command: &&&str| command.starts_with("kubectl ") || command.starts_with("cargo run -- ");
    let (opting, looking): (Vec<&str>, Vec<&str>) = commands.iter().filter(ours).copied().partition(|command| {
        ["create ", "label ", "annotate "].iter().any(|verb| command.starts_with(&format!("kubectl {verb}")))
    });
    ensure!(opting.len() == 5 && looking.len() == 5, "the page has other commands: {commands:?}");
    for command in opting {
        of_page(cluster, product, command).await?;
    }
    let workload = Workload::deployment("trial", "web");
    cluster.until_split(&workload, wanted(10, 70, 1)).await?;
    let mut said = String::new();
    for command in looking {
        said += &of_page(cluster, product, command).await?;
    }
    for part in ["on-demand", "Rebalanced", "OnTarget", "Plan, if this were set", "moves         4"] {
        ensure!(said.contains(part), "{part:?} is not in: {said}");
    }
    Ok(())
}

/// Runs a command of the page and tells what it says. Something may be amiss elsewhere in the cluster.
async fn of_page(cluster: &Cluster<'_>, product: &Product, command: &str) -> Result<String> {
    let (mut program, words) = match command.strip_prefix("cargo run -- ") {
        Some(words) => {
            let mut program = program(&tokio::task::spawn_blocking(binary).await??);
            program.env("KUBECONFIG", cluster.rig().kubeconfig_path());
            program.env("SPOTALIS_CONFIG", product.replica().config_path());
            (program, words)
        }
        None => (Command::from(cluster.rig().kubectl()), command.strip_prefix("kubectl ").context("of kubectl")?),
    };
    let Output { status, stdout, stderr } = program.args(words.split_whitespace()).output().await?;
    ensure!(matches!(status.code(), Some(0 | 1)), "{command}: {status}: {}", String::from_utf8_lossy(&stderr));
    Ok(String::from_utf8_lossy(&stdout).into_owned())
}
