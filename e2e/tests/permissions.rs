//! Rights, credentials and configuration that are missing or broken: said plainly, and nothing else breaks.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::ByteString;
use serde_json::{Value, json};
use spotalis_e2e::{
    Attempt, Authority, Cluster, Pair, Product, ProductOptions, Split, USER, Withdrawn, Workload, eventually, label,
    on_product, scenario, wanted,
};
use spotalis_rig::{AuditLevel, NodeKind, Rig, RigOptions, on_rig, say};

/// How long tries at something forbidden are counted.
const OBSERVED: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_missing_right_is_named_and_breaks_nothing_else() -> Result<()> {
    let rig = RigOptions { audit: Some(AuditLevel::Metadata), ..RigOptions::default() };
    on_product(
        "missing rights",
        rig,
        ProductOptions { is_refused: true, ..ProductOptions::default() },
        async |cluster, product| {
            cluster.rig().add_nodes(2, NodeKind::Spot).await?;
            cluster.rig().add_nodes(2, NodeKind::OnDemand).await?;
            scenario("without list pods", without_list_pods(cluster, product)).await?;
            scenario("without create pods/eviction", without_evictions(cluster, product)).await?;
            Ok(())
        },
    )
    .await
}

/// Lines of the log that name a verb and a resource.
fn lines_naming(product: &Product, verb: &str, resource: &str) -> Result<Vec<Value>> {
    let phrase = format!("{verb} {resource}");
    let mut lines = product.replica().log()?;
    lines.retain(|line| line["level"] == "ERROR" && line.to_string().contains(&phrase));
    Ok(lines)
}

/// Not ready, because it does not see the pods; alive, and at work again as soon as it may be, without a restart.
async fn without_list_pods(cluster: &Cluster<'_>, product: &Product) -> Result<()> {
    cluster.managed_namespace("unseen").await?;
    let replica = product.replica();
    let withdrawn = Withdrawn::from(cluster, "list", "pods").await?;
    is_forbidden(cluster, "list", "pods").await?;
    ensure!(replica.terminate(Duration::from_secs(30)).await? == 0, "the exit code");
    replica.launch()?;
    let lines = eventually("a line naming kind and verb", async || {
        let lines = lines_naming(product, "list", "pods").ok()?;
        (!lines.is_empty()).then_some(lines)
    });
    ensure!(lines.await?[0].to_string().contains("kubectl auth can-i list pods"), "it says how to see it");
    let (status, body) = replica.health("/readyz").await?;
    ensure!(status == 503 && body.contains("synced"), "{status} {body}");
    ensure!(replica.health("/healthz").await?.0 == 200, "alive");
    ensure!(replica.scrape().await?.has("spotalis_build_info", &[]), "metrics are there");
    // Pods are created all the same, and go where nothing can be wrong: the policy is known, the counts are not.
    let workload = Workload::deployment("unseen", "web").replicas(4).spot(50);
    cluster.create(&workload).await?;
    for pod in cluster.expect_split(&workload, Split { on_demand: 4, ..Split::default() }).await? {
        ensure!(label(&pod, "spotalis.io/capacity-type") == Some("on-demand"), "in doubt, on-demand");
    }
    let other: Vec<_> = replica.log()?.into_iter().filter(|line| line["level"] == "ERROR").collect();
    let about_pods = |line: &Value| line.to_string().contains("list pods");
    ensure!(other.iter().all(about_pods), "{other:?}");
    withdrawn.restore().await?;
    replica.ready().await?;
    cluster.until_split(&workload, wanted(4, 50, 0)).await?;
    cluster.expect_evictions("unseen", 2)
}

/// The move is tried, refused, counted, told, and tried again with a growing pause; everything else goes on.
async fn without_evictions(cluster: &Cluster<'_>, product: &Product) -> Result<()> {
    cluster.managed_namespace("stuck").await?;
    let withdrawn = Withdrawn::from(cluster, "create", "pods/eviction").await?;
    is_forbidden(cluster, "create", "pods/eviction").await?;
    let workload = Workload::deployment("stuck", "web").replicas(6);
    cluster.cordon(NodeKind::Spot, true).await?;
    cluster.create(&workload).await?;
    cluster.settled(&workload).await?;
    cluster.cordon(NodeKind::Spot, false).await?;
    cluster.opt(&workload, true, json!({"spotalis.io/spot-percentage": "50"})).await?;
    let forbidden = [("controller", "balance"), ("reason", "forbidden")];
    product.metric_becomes("spotalis_reconcile_errors_total", &forbidden, |count| count > 0.0).await?;
    ensure!(
        product.metric("spotalis_evictions_total", &[("result", "forbidden")]).await > 0.0,
        "counted as what it is"
    );
    let line = lines_naming(product, "create", "pods/eviction")?.into_iter().next().context("a line")?;
    ensure!(line.to_string().contains("stuck"), "{line}");
    let tries = || -> Result<Vec<jiff::Timestamp>> {
        let mut entries = cluster.requests("stuck")?;
        entries.retain(|entry| entry.subresource == "eviction" && entry.code == 403);
        Ok(entries.into_iter().map(|entry| entry.received).collect())
    };
    // Counted from the API server's record over a stretch of time, which has to pass.
    let first = *tries()?.first().context("a try")?;
    let end = first.checked_add(OBSERVED)?;
    eventually("ten seconds in the record", async || {
        let newest = cluster.rig().audit().ok()?.into_iter().map(|entry| entry.received).max()?;
        (newest > end).then_some(())
    })
    .await?;
    let within = tries()?.into_iter().filter(|at| *at <= end).count();
    say(format!("    {within} tries in {OBSERVED:?}"));
    ensure!(within <= 12, "{within} tries in {OBSERVED:?}: a hot loop");
    // Admission goes on.
    let other = Workload::deployment("stuck", "other").replicas(4).spot(50);
    cluster.create(&other).await?;
    cluster.expect_split(&other, wanted(4, 50, 0)).await?;
    ensure!(product.replica().health("/readyz").await?.0 == 200, "ready");
    withdrawn.restore().await?;
    cluster.until_split(&workload, wanted(6, 50, 0)).await?;
    cluster.expect_evictions("stuck", 3)
}

/// The API server learns of a changed role with a delay.
async fn is_forbidden(cluster: &Cluster<'_>, verb: &str, resource: &str) -> Result<()> {
    use k8s_openapi::api::authorization::v1::SubjectAccessReview;
    use kube::Api;
    use kube::api::PostParams;
    let (name, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let question: SubjectAccessReview = serde_json::from_value(json!({
        "metadata": {},
        "spec": {"user": USER, "resourceAttributes": {
            "verb": verb, "resource": name, "subresource": subresource, "namespace": "default",
        }},
    }))?;
    let reviews: Api<SubjectAccessReview> = Api::all(cluster.client());
    eventually(format!("{verb} {resource} to be forbidden"), async || {
        let answer = reviews.create(&PostParams::default(), &question).await.ok()?.status?;
        (!answer.allowed).then_some(())
    })
    .await
}

#[tokio::test]
async fn what_keeps_it_from_starting_is_said_plainly() -> Result<()> {
    on_rig(RigOptions::default(), async |rig| {
        let since = tokio::time::Instant::now();
        scenario("credentials", credentials(rig)).await?;
        scenario("configuration", configuration(rig)).await?;
        say(format!("what keeps it from starting: passed after {:.1} s", since.elapsed().as_secs_f64()));
        anyhow::Ok(())
    })
    .await
}

/// A case: what is wrong, how the program is called, its exit code, and what it has to say.
struct Case<'a> {
    what: &'a str,
    variables: &'a [(&'a str, &'a str)],
    args: Vec<String>,
    code: i32,
    says: &'a [&'a str],
}

impl Case<'_> {
    async fn check(&self, directory: &Path) -> Result<()> {
        let Self { what, variables, args, code, says } = self;
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let attempt = Attempt::run(directory, variables, &args).await?;
        ensure!(attempt.code == *code, "{what}: exit code {}, not {code}: {}", attempt.code, attempt.said);
        for part in *says {
            ensure!(attempt.said.contains(part), "{what}: {part:?} is not in: {}", attempt.said);
        }
        for never in ["panicked", "PRIVATE KEY", "a-secret-token"] {
            ensure!(!attempt.said.contains(never), "{what}: {}", attempt.said);
        }
        Ok(())
    }
}

fn controller(config: &Path, kubeconfig: &Path) -> Vec<String> {
    let words =
        ["controller", "--config", &config.display().to_string(), "--kubeconfig", &kubeconfig.display().to_string()];
    words.map(str::to_owned).to_vec()
}

/// Credentials that the API server does not know: a token, and a certificate of somebody else's authority.
async fn credentials(rig: &Rig) -> Result<()> {
    let dir = rig.dir();
    let config = dir.join("fine.yaml");
    fs::write(&config, "logging: {format: json}\n")?;
    let known: Value = serde_json::from_str(&fs::read_to_string(rig.kubeconfig_path())?)?;
    let as_user = |name: &str, user: Value| -> Result<std::path::PathBuf> {
        let mut kubeconfig = known.clone();
        kubeconfig["users"][0]["user"] = user;
        let path = dir.join(name);
        fs::write(&path, kubeconfig.to_string())?;
        Ok(path)
    };
    let base64 = |text: String| json!(ByteString(text.into_bytes()));
    let Pair { certificate, key } = Authority::new()?.issue()?;
    let token = as_user("token.kubeconfig", json!({"token": "a-secret-token"}))?;
    let foreign = json!({"client-certificate-data": base64(certificate), "client-key-data": base64(key)});
    let foreign = as_user("foreign.kubeconfig", foreign)?;
    let (certificate, key) = rig.issue_expired_client_cert(USER)?;
    let expired = json!({"client-certificate-data": base64(certificate), "client-key-data": base64(key)});
    let expired = as_user("expired.kubeconfig", expired)?;
    let nowhere = dir.join("nowhere.kubeconfig");
    let mut elsewhere = known.clone();
    elsewhere["clusters"][0]["cluster"]["server"] = json!(format!("https://127.0.0.1:{}", spotalis_rig::free_port()?));
    let dead = dir.join("dead.kubeconfig");
    fs::write(&dead, elsewhere.to_string())?;
    let broken = dir.join("broken.kubeconfig");
    fs::write(&broken, "clusters: [")?;
    let path = |path: &Path| path.display().to_string();
    let (nowhere_path, broken_path, server) = (path(&nowhere), path(&broken), rig.server());
    let cases = [
        ("a token that nobody knows", &token, 4, vec!["does not accept our credentials", "may have expired", &server]),
        ("a certificate of another authority", &foreign, 4, vec!["does not accept our credentials", &server]),
        ("a certificate that ran out", &expired, 4, vec!["does not accept our credentials", "may have expired"]),
        ("no kubeconfig", &nowhere, 2, vec!["cannot read the kubeconfig", &nowhere_path]),
        ("a broken kubeconfig", &broken, 2, vec![&broken_path, "not usable"]),
        ("nobody answers", &dead, 3, vec!["does not answer", "https://127.0.0.1:"]),
    ];
    for (what, kubeconfig, code, says) in cases {
        Case { what, variables: &[], args: controller(&config, kubeconfig), code, says: &says }.check(dir).await?;
    }
    Ok(())
}

/// Every kind of mistake in the configuration, through the program: exit code 2, and where the mistake is.
async fn configuration(rig: &Rig) -> Result<()> {
    let (dir, kubeconfig) = (rig.dir(), rig.kubeconfig_path());
    let texts: [(&str, &str, &[&str]); 6] = [
        (
            "an unknown key",
            "controller:\n  resyncPeriode: 30s\n",
            &[".yaml:2:3: controller.resyncPeriode: unknown key; did you mean controller.resyncPeriod?"],
        ),
        (
            "a wrong type",
            "readOnlyMode: 'true'\n",
            &[".yaml:1:15: readOnlyMode: \"true\" is not allowed; allowed is true or false"],
        ),
        (
            "a wrong range",
            "controller:\n  resyncPeriod: 1s\n",
            &[".yaml:2:17: controller.resyncPeriod: \"1s\" is not allowed; allowed is a duration from 5s to 24h"],
        ),
        ("a wrong word", "optIn: booth\n", &[".yaml:1:8: optIn: \"booth\" is not allowed", "did you mean both?"]),
        ("no YAML", "controller: {workers: 5\n", &[".yaml:1:13: not valid YAML"]),
        (
            "several mistakes at once",
            "optIn: booth\ncontroller: {workers: 0}\n",
            &[".yaml:1:8: optIn", ".yaml:2:23: controller.workers", "2 problems"],
        ),
    ];
    for (number, (what, text, says)) in texts.into_iter().enumerate() {
        let path = dir.join(format!("bad-{number}.yaml"));
        fs::write(&path, text)?;
        let says: Vec<&str> = says.iter().copied().chain(["spotalis config print --defaults"]).collect();
        Case { what, variables: &[], args: controller(&path, &kubeconfig), code: 2, says: &says }.check(dir).await?;
    }
    let missing = dir.join("missing.yaml");
    let says = ["missing.yaml: there is no such file", "--config"];
    Case { what: "no file", variables: &[], args: controller(&missing, &kubeconfig), code: 2, says: &says }
        .check(dir)
        .await?;
    unreadable(dir, &kubeconfig).await?;
    let fine = dir.join("fine.yaml");
    let variables: [(&str, (&str, &str), &[&str]); 2] = [
        (
            "a bad variable",
            ("SPOTALIS_CONTROLLER_WORKERS", "none"),
            &["environment variable SPOTALIS_CONTROLLER_WORKERS: controller.workers: \"none\" is not allowed"],
        ),
        (
            "an unknown variable",
            ("SPOTALIS_LOGGING_LEVLE", "info"),
            &["environment variable SPOTALIS_LOGGING_LEVLE: unknown variable; did you mean SPOTALIS_LOGGING_LEVEL?"],
        ),
    ];
    for (what, variable, says) in variables {
        Case { what, variables: &[variable], args: controller(&fine, &kubeconfig), code: 2, says }.check(dir).await?;
    }
    Ok(())
}

/// A file that may not be read. The superuser may read any, so for them it is a directory, which nobody can.
async fn unreadable(dir: &Path, kubeconfig: &Path) -> Result<()> {
    let path = dir.join("closed.yaml");
    fs::write(&path, "optIn: both\n")?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000))?;
    if fs::read(&path).is_ok() {
        say("    skipped: a file without permissions (the superuser reads it all the same)");
    } else {
        let says = ["closed.yaml: the file cannot be read; check its permissions"];
        Case { what: "a closed file", variables: &[], args: controller(&path, kubeconfig), code: 2, says: &says }
            .check(dir)
            .await?;
    }
    let says = ["the file cannot be read; check its permissions and that it is no directory"];
    Case { what: "a directory", variables: &[], args: controller(dir, kubeconfig), code: 2, says: &says }
        .check(dir)
        .await
}
