//! Runs `spotalis controller` against a rig: its files, its rights, its ports, its registration, and its end.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use parking_lot::Mutex;
use serde_json::{Value, json};
use spotalis_core::opt_in::{Mode, OptInRules};
use spotalis_core::selector::Selector;
use spotalis_rig::{Rig, RigOptions, free_ports, on_rig, say};
use spotalis_webhook::registration::{self, registration};
use tokio::task::spawn_blocking;

use crate::binary::binary;
use crate::certs::Authority;
use crate::cluster::{Cluster, USER};
use crate::eventually;
use crate::http_get::get;
use crate::process::Process;
use crate::relay::Relay;
use crate::scrape::Scrape;
use crate::workload::merge;

/// Where the product runs, so to speak: its Lease lies there.
const NAMESPACE: &str = "spotalis-system";
/// The name of the webhook's registration.
const REGISTRATION: &str = "spotalis";
/// A managed namespace in which nothing ever runs: to see whether the API server calls the webhook.
const PROBE: &str = "spotalis-probe";
/// So much of a log is shown when a test fails.
const TAIL_LINES: usize = 40;

/// How the product is to be.
#[derive(Clone, Debug)]
pub struct ProductOptions {
    /// How many controllers.
    pub replicas: usize,
    /// Configuration that takes the place of the harness's own, as JSON.
    pub config: Value,
    /// Whether the API server is told of the webhook at the start.
    pub register: bool,
    /// The kubeconfig of another user than the one with the product's rights.
    pub kubeconfig: Option<PathBuf>,
    /// Whether the test takes rights away. Otherwise, where requests are on record, the product must not have asked for
    /// anything that it has no right to.
    pub is_refused: bool,
}

impl Default for ProductOptions {
    fn default() -> Self {
        Self { replicas: 1, config: json!({}), register: true, kubeconfig: None, is_refused: false }
    }
}

/// The product. Dropping it kills all of it, and shows the end of its logs if that happens in a failed test.
pub struct Product {
    replicas: Vec<Replica>,
    authority: Authority,
    certificates: PathBuf,
    relay: Option<Relay>,
    client: kube::Client,
    failed: AtomicBool,
}

/// One controller.
#[derive(Debug)]
pub struct Replica {
    binary: PathBuf,
    config: PathBuf,
    kubeconfig: PathBuf,
    log: PathBuf,
    ports: Ports,
    process: Mutex<Option<Process>>,
}

#[derive(Clone, Copy, Debug)]
struct Ports {
    webhook: u16,
    peer: u16,
    metrics: u16,
    health: u16,
}

impl Ports {
    fn free() -> Result<Self> {
        let [webhook, peer, metrics, health] = free_ports()?;
        Ok(Self { webhook, peer, metrics, health })
    }
}

/// Runs a test on a rig of its own with the product running in it. Says how long the test took.
///
/// Skips as [`Rig::start_or_skip`] does.
pub async fn on_product(
    name: &str,
    rig: RigOptions,
    product: ProductOptions,
    test: impl AsyncFnOnce(&Cluster<'_>, &Product) -> Result<()>,
) -> Result<()> {
    let audited = rig.audit.is_some();
    on_rig(rig, async |rig| {
        let cluster = Cluster::of(rig);
        let is_refused = product.is_refused;
        let product = Box::pin(Product::start(rig, product)).await?;
        let since = tokio::time::Instant::now();
        let mut passed = Box::pin(test(&cluster, &product)).await;
        if passed.is_ok() && audited && !is_refused {
            passed = cluster.expect_no_refusal();
        }
        if passed.is_err() {
            product.failed.store(true, Ordering::Relaxed);
        }
        let word = if passed.is_ok() { "passed" } else { "failed" };
        say(format!("{name}: {word} after {:.1} s", since.elapsed().as_secs_f64()));
        passed
    })
    .await
}

impl Product {
    /// Starts it with the rights of `manifests/rbac.yaml`, waits until it is ready, and registers its webhook.
    pub async fn start(rig: &Rig, options: ProductOptions) -> Result<Self> {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let ProductOptions { replicas, config, register, kubeconfig, is_refused: _ } = options;
        let binary = spawn_blocking(binary).await??;
        grant(rig)?;
        let kubeconfig = match kubeconfig {
            Some(kubeconfig) => kubeconfig,
            None => rig.kubeconfig_as(USER, None)?,
        };
        let dir = rig.dir().join(format!("product-{}", STARTED.fetch_add(1, Ordering::Relaxed)));
        let certificates = dir.join("certificates");
        let authority = Authority::new()?;
        authority.write(&certificates)?;
        let lay_out = |number: usize| {
            let ports = Ports::free()?;
            let mut settings = base(ports, &certificates);
            merge(&mut settings, config.clone());
            let path = dir.join(format!("{number}.yaml"));
            fs::write(&path, settings.to_string())?;
            let log = dir.join(format!("{number}.log"));
            let (binary, kubeconfig) = (binary.clone(), kubeconfig.clone());
            anyhow::Ok(Replica { binary, config: path, kubeconfig, log, ports, process: Mutex::default() })
        };
        let replicas: Vec<Replica> = (0..replicas).map(lay_out).collect::<Result<_>>()?;
        let relay = match &replicas[..] {
            [_] => None,
            _ => Some(Relay::start(replicas.iter().map(|replica| replica.ports.webhook).collect()).await?),
        };
        let (client, failed) = (rig.client(), AtomicBool::new(true));
        let product = Self { replicas, authority, certificates, relay, client, failed };
        for replica in &product.replicas {
            replica.launch()?;
        }
        for replica in &product.replicas {
            replica.ready().await?;
        }
        if register {
            product.register().await?;
        }
        product.failed.store(false, Ordering::Relaxed);
        Ok(product)
    }

    /// Tells the API server of the webhook, and waits until it calls.
    pub async fn register(&self) -> Result<()> {
        let port = self.relay.as_ref().map_or(self.replicas[0].ports.webhook, Relay::port);
        let address = registration::Client::Url {
            base: format!("https://127.0.0.1:{port}"),
            ca: self.authority.pem().to_owned(),
        };
        let rules = OptInRules {
            mode: Mode::Both,
            namespace_selector: Selector::default(),
            own_namespace: NAMESPACE.into(),
            watch_namespaces: std::collections::BTreeSet::new(),
        };
        let mut object = json!(registration(REGISTRATION, address, &rules));
        object["apiVersion"] = json!("admissionregistration.k8s.io/v1");
        object["kind"] = json!("MutatingWebhookConfiguration");
        let registrations: Api<MutatingWebhookConfiguration> = Api::all(self.client.clone());
        let ours = PatchParams::apply("spotalis-e2e").force();
        registrations.patch(REGISTRATION, &ours, &Patch::Apply(object)).await?;
        eventually("the API server to call the webhook", async || {
            let before = self.admissions().await;
            self.probe().await.ok()?;
            (self.admissions().await > before).then_some(())
        })
        .await
    }

    /// Tells the API server that there is no webhook, and waits until it calls no more.
    pub async fn unregister(&self) -> Result<()> {
        let registrations: Api<MutatingWebhookConfiguration> = Api::all(self.client.clone());
        registrations.delete(REGISTRATION, &DeleteParams::default()).await?;
        eventually("the API server to call no more", async || {
            let before = self.admissions().await;
            self.probe().await.ok()?;
            (self.admissions().await == before).then_some(())
        })
        .await
    }

    async fn admissions(&self) -> u64 {
        // A count: a fraction would be a defect, and is of no use here.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of requests")]
        let count = self.metric("spotalis_admission_requests_total", &[]).await as u64;
        count
    }

    /// Creates a pod as a trial that looks like one of a `ReplicaSet`, which does not exist.
    async fn probe(&self) -> Result<()> {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"generateName": "probe-", "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "probe", "uid": "probe", "controller": true,
            }]},
            "spec": {"containers": [{"name": "main", "image": "none"}]},
        }))?;
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), PROBE);
        pods.create(&PostParams { dry_run: true, ..PostParams::default() }, &pod).await?;
        Ok(())
    }

    /// The controllers.
    pub fn replicas(&self) -> &[Replica] {
        &self.replicas
    }

    /// The only controller.
    pub fn replica(&self) -> &Replica {
        &self.replicas[0]
    }

    /// Gives all controllers a new certificate of the same authority.
    pub fn renew_certificate(&self) -> Result<()> {
        self.authority.write(&self.certificates)
    }

    /// The sum of a metric over all controllers that answer, and over all series with these labels. If nobody answers, it is
    /// no number, and equal to none.
    pub async fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let mut sum = None;
        for replica in &self.replicas {
            if let Ok(scrape) = replica.scrape().await {
                sum = Some(sum.unwrap_or(0.0) + scrape.sum(name, labels));
            }
        }
        sum.unwrap_or(f64::NAN)
    }

    /// Waits until the sum of a metric is as wanted.
    pub async fn metric_becomes(&self, name: &str, labels: &[(&str, &str)], is: impl Fn(f64) -> bool) -> Result<f64> {
        eventually(format!("{name} {labels:?} to be as wanted"), async || {
            let value = self.metric(name, labels).await;
            is(value).then_some(value)
        })
        .await
    }

    /// Waits until workloads were looked at so many times more and each time left with this reason.
    pub async fn passes(&self, reason: &str, times: u32) -> Result<()> {
        let labels = [("result", reason)];
        let before = self.metric("spotalis_reconcile_total", &labels).await;
        let enough = before + f64::from(times);
        self.metric_becomes("spotalis_reconcile_total", &labels, |count| count >= enough).await?;
        Ok(())
    }
}

impl Drop for Product {
    fn drop(&mut self) {
        for replica in &self.replicas {
            drop(replica.process.lock().take());
        }
        if self.failed.load(Ordering::Relaxed) || std::thread::panicking() {
            for replica in &self.replicas {
                say(format!("the end of {}:\n{}", replica.log.display(), replica.log_tail()));
            }
        }
    }
}

impl Replica {
    /// Starts it, or starts it again.
    pub fn launch(&self) -> Result<()> {
        let args = ["controller".to_owned(), "--config".to_owned(), self.config.display().to_string()];
        let kubeconfig = ["--kubeconfig".to_owned(), self.kubeconfig.display().to_string()];
        let args: Vec<String> = args.into_iter().chain(kubeconfig).collect();
        let process = Process::start(&self.binary, &args, &self.log)?;
        ensure!(self.process.lock().replace(process).is_none(), "it runs already");
        Ok(())
    }

    /// Waits until it is ready.
    pub async fn ready(&self) -> Result<()> {
        eventually(format!("readiness ({})", self.log.display()), async || {
            if self.process.lock().as_mut().is_none_or(Process::has_ended) {
                return Some(Err(anyhow::anyhow!("the controller ended:\n{}", self.log_tail())));
            }
            matches!(get(self.ports.health, "/readyz").await, Ok((200, _))).then_some(Ok(()))
        })
        .await?
    }

    /// Ends it at once.
    pub fn kill(&self) -> Result<()> {
        self.process.lock().take().map(drop).context("it does not run")
    }

    /// Asks it to end, and tells its exit code.
    pub async fn terminate(&self, limit: Duration) -> Result<i32> {
        let process = self.process.lock().take().context("it does not run")?;
        process.signal("TERM")?;
        process.ended(limit).await
    }

    /// Sends it a signal.
    pub fn signal(&self, name: &str) -> Result<()> {
        self.process.lock().as_ref().context("it does not run")?.signal(name)
    }

    /// Its process id.
    pub fn pid(&self) -> Option<u32> {
        self.process.lock().as_ref().map(Process::pid)
    }

    /// Its metrics.
    pub async fn scrape(&self) -> Result<Scrape> {
        let (status, text) = get(self.ports.metrics, "/metrics").await?;
        ensure!(status == 200, "/metrics answers {status}");
        Ok(Scrape::parse(&text))
    }

    /// Status and body of one of its health pages.
    pub async fn health(&self, path: &str) -> Result<(u16, String)> {
        get(self.ports.health, path).await
    }

    /// Whether it leads.
    pub async fn leads(&self) -> bool {
        self.scrape().await.is_ok_and(|scrape| scrape.sum("spotalis_leader", &[]) > 0.0)
    }

    /// Its log, a JSON object per line. Lines that are none are left out.
    pub fn log(&self) -> Result<Vec<Value>> {
        let text = fs::read_to_string(&self.log)?;
        Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
    }

    /// Its configuration file, for a test to change.
    pub fn config_path(&self) -> &Path {
        &self.config
    }

    fn log_tail(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
    }
}

/// What the product needs to exist: its namespace, its rights, and a namespace to try the webhook in.
fn grant(rig: &Rig) -> Result<()> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/rbac.yaml");
    apply(rig, &manifest.display().to_string(), "")?;
    let probe = json!({"apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": PROBE, "labels": {"spotalis.io/enabled": "true"}}});
    apply(rig, "-", &probe.to_string())
}

/// `kubectl apply` of a file, or of `input` if that is `-`, as an administrator.
pub fn apply(rig: &Rig, file: &str, input: &str) -> Result<()> {
    use std::io::Write as _;
    let mut kubectl: Command = rig.kubectl();
    kubectl.args(["apply", "--filename", file]).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut kubectl = kubectl.spawn().context("cannot run kubectl")?;
    kubectl.stdin.take().context("it was asked for")?.write_all(input.as_bytes())?;
    ensure!(kubectl.wait()?.success(), "kubectl apply --filename {file} failed");
    Ok(())
}

/// Configuration for tests: loopback and free ports, and a pace that does not keep anybody waiting. The cooldown is not
/// below a second, which is as fine as Kubernetes' own times are.
fn base(ports: Ports, certificates: &Path) -> Value {
    let Ports { webhook, peer, metrics, health } = ports;
    json!({
        "controller": {
            "resyncPeriod": "5s",
            "cooldown": "1s",
            "maxConcurrentDisruptions": 100,
            "leaderElection": {
                "namespace": NAMESPACE, "leaseDuration": "6s", "renewDeadline": "4s", "retryPeriod": "1s",
            },
        },
        "webhook": {
            "bindAddress": "127.0.0.1", "port": webhook, "peerPort": peer,
            "certificates": "files", "certDir": certificates,
        },
        "metrics": {"bindAddress": "127.0.0.1", "port": metrics},
        "health": {"bindAddress": "127.0.0.1", "port": health},
        "logging": {"level": "debug", "format": "json"},
    })
}
