//! Starts a control plane, hands out what tests need of it, and ends it.
//!
//! Order: etcd, the API server, then the rest at once; nobody is told that the rig is ready before KWOK is, for a pod bound
//! before KWOK knows its node would stay Pending. What runs is ended in the order of [`Part`], by SIGKILL.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod, ServiceAccount};
use kube::api::{Api, ListParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use parking_lot::Mutex;
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use crate::audit::{self, AuditEntry, AuditLevel};
use crate::binaries::{Binaries, BinariesError};
use crate::component::{Component, ComponentError, Signal};
use crate::karpenter::{self, KarpenterError};
use crate::kubeconfig::{kubeconfig, write_private};
use crate::node::{FakeNode, NodeKind, is_usable};
use crate::part::{ExtraArgs, Part, Plan, Ports};
use crate::pki::{Authority, service_account_keys};
use crate::port::free_ports;
use crate::report::say;
use crate::stages::Stages;
use crate::standing::{Holder, Standing, StandingError, sweep};
use crate::surroundings::{Surroundings, rigs_dir};
use crate::wait::{TimedOut, until};

/// A part that is not of use by then never will be. Seconds are usual; the rest is for a machine with other work.
const READY_WITHIN: Duration = Duration::from_mins(2);
/// Another process may take a port between its choice and its use. So many times new ones are chosen.
const ATTEMPTS: u32 = 3;
/// So much of a log is shown when its program ended.
const TAIL_LINES: usize = 20;

/// How the rig is to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RigOptions {
    /// Its name among those on this machine. Without one it is called after the thread (the test) and the process.
    pub name: Option<String>,
    /// Only etcd and the API server: nobody but the rig's owner writes. There are no service accounts then, and no node
    /// becomes usable.
    pub bare: bool,
    /// With Karpenter, its node class and a node pool for both capacity types, both called `default`.
    pub karpenter: bool,
    /// Record every request; see [`Rig::audit`].
    pub audit: Option<AuditLevel>,
    /// How pods come to be ready and to be gone.
    pub stages: Stages,
    /// More arguments for kube-apiserver, after the rig's own.
    pub apiserver_args: Vec<String>,
    /// More arguments for kube-controller-manager, after the rig's own.
    pub controller_manager_args: Vec<String>,
    /// More arguments for kube-scheduler, after the rig's own.
    pub scheduler_args: Vec<String>,
}

/// What can go wrong with a rig.
#[derive(Debug, thiserror::Error)]
pub enum RigError {
    /// The programs are not there.
    #[error(transparent)]
    Binaries(#[from] BinariesError),
    /// A file or directory of the rig.
    #[error("cannot {doing} {}", path.display())]
    File {
        /// What was attempted.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// No ports.
    #[error("cannot find free ports on 127.0.0.1")]
    Ports(#[source] io::Error),
    /// No certificates.
    #[error("cannot issue a certificate")]
    Certificate(#[from] rcgen::Error),
    /// KWOK's stages.
    #[error("cannot put the stages together: {0}")]
    Stages(String),
    /// A program could not be started or signalled.
    #[error("cannot run {part}")]
    Component {
        /// Which.
        part: Part,
        /// Why not.
        source: ComponentError,
    },
    /// A program ended by itself.
    #[error("{part} ended; the end of {} says:\n{tail}", log.display())]
    Ended {
        /// Which.
        part: Part,
        /// Where it says why.
        log: PathBuf,
        /// The last lines of that.
        tail: String,
    },
    /// A program runs, and is of no use.
    #[error("{part} is not ready; its log is {}", log.display())]
    NotReady {
        /// Which.
        part: Part,
        /// Where it may say why.
        log: PathBuf,
        /// How long was waited.
        source: TimedOut,
    },
    /// A program that this rig does not run at the moment.
    #[error("{part} does not run in this rig")]
    NotRunning {
        /// Which.
        part: Part,
    },
    /// The name is in use.
    #[error(
        "a rig named {name} is running already (process {pid}): end it with `cargo xtask rig down --name {name}`, or \
         choose another name with --name"
    )]
    NameTaken {
        /// The name.
        name: String,
        /// The one who holds it.
        pid: u32,
    },
    /// The rig's state file.
    #[error(transparent)]
    Standing(#[from] StandingError),
    /// Karpenter's objects.
    #[error(transparent)]
    Karpenter(#[from] KarpenterError),
    /// The client's configuration.
    #[error("the rig's own kubeconfig is no good")]
    Kubeconfig(#[from] kube::config::KubeconfigError),
    /// The API server's answer.
    #[error("the API server refused")]
    Api(#[from] kube::Error),
    /// Something in the cluster did not come to be.
    #[error(transparent)]
    TimedOut(#[from] TimedOut),
    /// The audit log.
    #[error("the audit log is not what it was")]
    Audit(#[source] serde_json::Error),
    /// There is no audit log.
    #[error("this rig records no requests: start it with `audit: Some(AuditLevel::Metadata)`")]
    NoAudit,
}

/// Runs a test on a rig of its own. Logs and data stay, and are told of, when the test panics or returns an error.
///
/// Skips as [`Rig::start_or_skip`] does.
pub async fn on_rig<E: From<RigError>>(
    options: RigOptions,
    test: impl AsyncFnOnce(&Rig) -> Result<(), E>,
) -> Result<(), E> {
    let Some(rig) = Box::pin(Rig::start_or_skip(options)).await? else { return Ok(()) };
    let passed = Box::pin(test(&rig)).await;
    if passed.is_err() {
        rig.keep();
    }
    passed
}

/// A running control plane. Dropping it ends it; its directory stays when that happens in a panic.
pub struct Rig {
    name: String,
    plan: Plan,
    authority: Authority,
    config: Config,
    client: Client,
    running: Mutex<BTreeMap<Part, Component>>,
    numbered: Mutex<BTreeMap<NodeKind, u32>>,
    keep: AtomicBool,
    ready_after: Duration,
}

impl Rig {
    /// Starts a rig, building its programs if need be. It is ready for nodes and pods when this returns.
    pub async fn start(options: RigOptions) -> Result<Self, RigError> {
        let karpenter = options.karpenter;
        let binaries = spawn_blocking(move || Binaries::obtain(karpenter)).await.expect("building does not panic")?;
        let mut attempt = 1;
        loop {
            let mut rig = Self::lay_out(binaries.clone(), &options).await?;
            match Box::pin(rig.raise(&options)).await {
                Ok(()) => return Ok(rig),
                Err(RigError::Ended { tail, .. }) if attempt < ATTEMPTS && is_port_taken(&tail) => attempt += 1,
                Err(error) => {
                    rig.keep();
                    return Err(error);
                }
            }
        }
    }

    /// As [`Self::start`], for tests: `None`, and a line on standard error, where the programs are missing and cannot be
    /// built. With `SPOTALIS_RIG_REQUIRED=1` that is an error like any other.
    pub async fn start_or_skip(options: RigOptions) -> Result<Option<Self>, RigError> {
        match Self::start(options).await {
            Err(RigError::Binaries(error)) if error.is_no_go() && !Surroundings::read().required => {
                say(format!("skipped {}: {error}", test_name()));
                Ok(None)
            }
            result => result.map(Some),
        }
    }

    /// Makes directory, certificates and configuration. Nothing runs yet.
    async fn lay_out(binaries: Binaries, options: &RigOptions) -> Result<Self, RigError> {
        let name = options.name.clone().unwrap_or_else(unique_name);
        let dir = claim(&rigs_dir(), &name)?;
        let ports = Ports::from(free_ports().map_err(RigError::Ports)?);
        let extra = ExtraArgs {
            apiserver: options.apiserver_args.clone(),
            controller_manager: options.controller_manager_args.clone(),
            scheduler: options.scheduler_args.clone(),
        };
        let plan = Plan { dir, ports, binaries, audit: options.audit.is_some(), extra };
        let authority = Authority::new()?;
        write_files(&plan, &authority, options)?;
        let config = config_from(&plan.kubeconfig()).await?;
        let standing = Standing {
            name: name.clone(),
            server: plan.server(),
            kubeconfig: plan.kubeconfig(),
            dir: plan.dir.clone(),
            holder: Holder::this(),
        };
        standing.remember()?;
        Ok(Self {
            name,
            plan,
            authority,
            client: Client::try_from(config.clone())?,
            config,
            running: Mutex::default(),
            numbered: Mutex::default(),
            keep: AtomicBool::new(false),
            ready_after: Duration::ZERO,
        })
    }

    async fn raise(&mut self, options: &RigOptions) -> Result<(), RigError> {
        let since = Instant::now();
        self.launch(Part::Etcd).await?;
        self.launch(Part::ApiServer).await?;
        if !options.bare {
            tokio::try_join!(
                self.launch(Part::ControllerManager),
                self.launch(Part::Scheduler),
                self.launch(Part::Kwok),
                self.launch_karpenter(options.karpenter),
                self.default_service_account(),
            )?;
        }
        if let Some(part) = self.first_ended() {
            return Err(self.ended(part));
        }
        self.ready_after = since.elapsed();
        Ok(())
    }

    async fn launch_karpenter(&self, wanted: bool) -> Result<(), RigError> {
        match &self.plan.binaries.karpenter {
            Some(karpenter) if wanted => {
                karpenter::prepare(&self.client, &karpenter.crds).await?;
                self.launch(Part::Karpenter).await
            }
            _ => Ok(()),
        }
    }

    /// No pod can be created in a namespace without it.
    async fn default_service_account(&self) -> Result<(), RigError> {
        let api: Api<ServiceAccount> = Api::namespaced(self.client(), "default");
        until("the default service account", READY_WITHIN, async || api.get("default").await.ok()).await?;
        Ok(())
    }

    /// Starts a part that does not run, and waits until it is of use.
    pub async fn launch(&self, part: Part) -> Result<(), RigError> {
        let launch = self.plan.launch(part).ok_or(RigError::NotRunning { part })?;
        let component = Component::start(&launch).map_err(|source| RigError::Component { part, source })?;
        self.running.lock().insert(part, component);
        self.wait_ready(part).await
    }

    async fn wait_ready(&self, part: Part) -> Result<(), RigError> {
        let address = self.plan.readiness(part);
        let (base, path) = address.split_at(address.rfind('/').expect("an address with a path"));
        let probe = self.client_of(base)?;
        let answered = until("an answer", READY_WITHIN, async || {
            if self.has_ended(part) {
                return Some(Err(self.ended(part)));
            }
            let request = http::Request::get(path).body(Vec::new()).expect("a path of our own making");
            let answers = probe.request_text(request).await.is_ok();
            (answers && (part != Part::Etcd || self.is_own_etcd(&probe).await)).then_some(Ok(()))
        });
        answered.await.map_err(|source| RigError::NotReady { part, log: self.plan.log(part), source })?
    }

    /// Whether what answers at our etcd's address is our etcd: another rig may have taken the port a moment before, and ours
    /// takes a while to find out. Two API servers on one etcd would each find what the other created.
    async fn is_own_etcd(&self, etcd: &Client) -> bool {
        let request = http::Request::post("/v3/cluster/member/list").header("content-type", "application/json");
        let request = request.body(b"{}".to_vec()).expect("a request of our own making");
        let members = etcd.request_text(request).await.unwrap_or_default();
        members.contains(&format!("\"http://127.0.0.1:{}\"", self.plan.ports.etcd_peer))
    }

    /// The first part that runs no more: another process had its port, and was asked in its place whether it is ready.
    fn first_ended(&self) -> Option<Part> {
        self.running.lock().iter_mut().find_map(|(part, component)| component.has_ended().then_some(*part))
    }

    /// Has etcd forget everything before a revision. The API server's watch cache remembers all the same.
    pub async fn compact(&self, revision: u64) -> Result<(), RigError> {
        let etcd = self.client_of(&format!("http://127.0.0.1:{}", self.plan.ports.etcd))?;
        let body = format!("{{\"revision\":\"{revision}\",\"physical\":true}}");
        let request = http::Request::post("/v3/kv/compaction").header("content-type", "application/json");
        let request = request.body(body.into_bytes()).expect("a request of our own making");
        etcd.request_text(request).await?;
        Ok(())
    }

    /// A client of another address of the rig, as its administrator.
    fn client_of(&self, base: &str) -> Result<Client, RigError> {
        let mut config = self.config.clone();
        config.cluster_url = base.parse().expect("an address of our own making");
        Ok(Client::try_from(config)?)
    }

    fn has_ended(&self, part: Part) -> bool {
        self.running.lock().get_mut(&part).is_none_or(Component::has_ended)
    }

    fn ended(&self, part: Part) -> RigError {
        let log = self.plan.log(part);
        let text = fs::read_to_string(&log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n");
        RigError::Ended { part, log, tail }
    }

    /// Ends one part, at once and without asking it. [`Self::launch`] brings it back.
    pub fn kill(&self, part: Part) -> Result<(), RigError> {
        let component = self.running.lock().remove(&part);
        component.map(drop).ok_or(RigError::NotRunning { part })
    }

    /// Stops a part where it stands: its connections stay, its answers do not come.
    pub fn pause(&self, part: Part) -> Result<(), RigError> {
        self.send(part, Signal::Stop)
    }

    /// Lets a paused part go on.
    pub fn resume(&self, part: Part) -> Result<(), RigError> {
        self.send(part, Signal::Continue)
    }

    fn send(&self, part: Part, signal: Signal) -> Result<(), RigError> {
        let running = self.running.lock();
        let component = running.get(&part).ok_or(RigError::NotRunning { part })?;
        component.send(signal).map_err(|source| RigError::Component { part, source })
    }

    /// The process ids of what runs, for those who measure.
    pub fn pids(&self) -> BTreeMap<Part, u32> {
        self.running.lock().iter().map(|(part, component)| (*part, component.pid())).collect()
    }

    /// Its name among the rigs of this machine.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Data, logs, certificates: one `<program>.log` per part.
    pub fn dir(&self) -> &Path {
        &self.plan.dir
    }

    /// How long it took from the first program's start until the rig was ready.
    pub const fn ready_after(&self) -> Duration {
        self.ready_after
    }

    /// The API server's address.
    pub fn server(&self) -> String {
        self.plan.server()
    }

    /// The kubeconfig of an administrator.
    pub fn kubeconfig_path(&self) -> PathBuf {
        self.plan.kubeconfig()
    }

    /// The same for this process. Never retries by itself.
    pub fn kube_config(&self) -> Config {
        self.config.clone()
    }

    /// A client of an administrator. All clones share connections.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// A kubeconfig for another user, at most in one group besides `system:authenticated`. It lies in [`Self::dir`].
    pub fn kubeconfig_as(&self, user: &str, group: Option<&str>) -> Result<PathBuf, RigError> {
        let path = self.plan.dir.join(format!("user-{}.kubeconfig", file_name(user)));
        write_kubeconfig(&path, &self.plan, &self.authority, user, group)?;
        Ok(path)
    }

    /// A client of another user, as [`Self::kubeconfig_as`].
    pub async fn client_as(&self, user: &str, group: Option<&str>) -> Result<Client, RigError> {
        Ok(Client::try_from(config_from(&self.kubeconfig_as(user, group)?).await?)?)
    }

    /// kubectl as an administrator, to be given its arguments.
    pub fn kubectl(&self) -> Command {
        let mut command = Command::new(&self.plan.binaries.kubectl);
        command.env("KUBECONFIG", self.kubeconfig_path());
        command
    }

    /// The certificate of the rig's authority, for `caBundle`.
    pub fn ca_pem(&self) -> &str {
        self.authority.pem()
    }

    /// Certificate and key, PEM, for a server reached by these DNS names or IP addresses; the API server trusts it.
    pub fn issue_server_cert(&self, names: &[&str]) -> Result<(String, String), RigError> {
        let identity = self.authority.server(names)?;
        Ok((identity.cert, identity.key))
    }

    /// Certificate and key, PEM, for a client that the API server takes for `user`, in `group` if one is named.
    pub fn issue_client_cert(&self, user: &str, group: Option<&str>) -> Result<(String, String), RigError> {
        let identity = self.authority.client(user, group)?;
        Ok((identity.cert, identity.key))
    }

    /// A client certificate and its key, PEM, of the rig's own authority, that ran out long ago.
    pub fn issue_expired_client_cert(&self, user: &str) -> Result<(String, String), RigError> {
        let identity = self.authority.expired_client(user)?;
        Ok((identity.cert, identity.key))
    }

    /// Creates one node. KWOK makes it ready soon; see [`Self::nodes_usable`].
    pub async fn create_node(&self, node: &FakeNode) -> Result<(), RigError> {
        Api::all(self.client()).create(&PostParams::default(), &node.object()).await?;
        Ok(())
    }

    /// Creates `count` nodes of a kind, waits until they are usable, and tells their names.
    pub async fn add_nodes(&self, count: u32, kind: NodeKind) -> Result<Vec<String>, RigError> {
        let first = self.count_on(kind, count);
        let mut names = Vec::new();
        for number in first..first + count {
            let node = FakeNode::numbered(kind, number);
            self.create_node(&node).await?;
            names.push(node.name);
        }
        self.nodes_usable(&names).await?;
        Ok(names)
    }

    /// The number of the first of `count` new nodes of a kind.
    fn count_on(&self, kind: NodeKind, count: u32) -> u32 {
        let mut numbered = self.numbered.lock();
        let next = numbered.entry(kind).or_default();
        let first = *next;
        *next += count;
        first
    }

    /// Waits until the scheduler would use every one of these nodes.
    pub async fn nodes_usable(&self, names: &[String]) -> Result<(), RigError> {
        let api: Api<Node> = Api::all(self.client());
        for name in names {
            let usable = async || api.get(name).await.ok().filter(is_usable);
            until(&format!("node {name} to be usable"), READY_WITHIN, usable).await?;
        }
        Ok(())
    }

    /// The pods of a namespace that match a label selector and are ready and not on their way out.
    pub async fn ready_pods(&self, namespace: &str, selector: &str) -> Result<Vec<Pod>, RigError> {
        let api: Api<Pod> = Api::namespaced(self.client(), namespace);
        let mut pods = api.list(&ListParams::default().labels(selector)).await?.items;
        pods.retain(is_ready);
        Ok(pods)
    }

    /// Waits until exactly `count` pods are ready, and tells them.
    pub async fn pods_ready(
        &self,
        namespace: &str,
        selector: &str,
        count: usize,
        limit: Duration,
    ) -> Result<Vec<Pod>, RigError> {
        let what = format!("{count} ready pods with {selector} in {namespace}");
        let ready = async || self.ready_pods(namespace, selector).await.ok().filter(|pods| pods.len() == count);
        Ok(until(&what, limit, ready).await?)
    }

    /// The API server's metrics, in the Prometheus text format.
    pub async fn apiserver_metrics(&self) -> Result<String, RigError> {
        let request = http::Request::get("/metrics").body(Vec::new()).expect("a constant path");
        Ok(self.client.request_text(request).await?)
    }

    /// Everything asked of the API server so far.
    pub fn audit(&self) -> Result<Vec<AuditEntry>, RigError> {
        if !self.plan.audit {
            return Err(RigError::NoAudit);
        }
        let path = self.plan.audit_log();
        let log = fs::read_to_string(&path).map_err(file("read", &path))?;
        audit::parse(&log).map_err(RigError::Audit)
    }

    /// Leave the directory behind, whatever comes.
    pub fn keep(&self) {
        self.keep.store(true, Ordering::Relaxed);
    }

    /// Ends everything and removes the directory. The same as dropping, said aloud.
    pub fn stop(self) {
        drop(self);
    }
}

impl fmt::Debug for Rig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rig").field("name", &self.name).field("dir", &self.plan.dir).finish_non_exhaustive()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let mut running = self.running.lock();
        while let Some((_, component)) = running.pop_first() {
            drop(component);
        }
        if self.keep.load(Ordering::Relaxed) || std::thread::panicking() {
            say(format!("rig: kept logs and data in {}", self.plan.dir.display()));
        } else {
            // Nothing depends on its being gone.
            let _ = fs::remove_dir_all(&self.plan.dir);
        }
    }
}

/// Takes the name: an empty directory that belongs to this process.
fn claim(rigs: &Path, name: &str) -> Result<PathBuf, RigError> {
    sweep(rigs)?;
    let dir = rigs.join(name);
    if let Ok(standing) = Standing::named(name) {
        return Err(RigError::NameTaken { name: name.to_owned(), pid: standing.pid() });
    }
    fs::create_dir_all(rigs).map_err(file("create", rigs))?;
    match fs::remove_dir_all(&dir) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(file("remove", &dir)(source)),
        _ => Ok(()),
    }?;
    fs::create_dir(&dir).map_err(file("create", &dir))?;
    dir.canonicalize().map_err(file("find", &dir))
}

/// Certificates, kubeconfigs, stages, audit policy.
fn write_files(plan: &Plan, authority: &Authority, options: &RigOptions) -> Result<(), RigError> {
    let serving = authority.server(&["127.0.0.1", "localhost", "kubernetes.default.svc"])?;
    let (token_key, token_public_key) = service_account_keys()?;
    let stages =
        options.stages.render(&plan.binaries.kwok_stages).map_err(|error| RigError::Stages(error.to_string()))?;
    for (path, text) in [
        (plan.ca(), authority.pem()),
        (plan.serving_cert(), &serving.cert),
        (plan.serving_key(), &serving.key),
        (plan.token_key(), &token_key),
        (plan.token_public_key(), &token_public_key),
        (plan.stages(), &stages),
    ] {
        write_private(&path, text).map_err(file("write", &path))?;
    }
    if let Some(level) = options.audit {
        let path = plan.audit_policy();
        fs::write(&path, audit::policy(level).to_string()).map_err(file("write", &path))?;
    }
    for part in [Part::ControllerManager, Part::Scheduler] {
        write_kubeconfig(&plan.kubeconfig_of(part), plan, authority, &format!("system:{part}"), None)?;
    }
    write_kubeconfig(&plan.kubeconfig(), plan, authority, "rig-admin", Some("system:masters"))
}

fn write_kubeconfig(
    path: &Path,
    plan: &Plan,
    authority: &Authority,
    user: &str,
    group: Option<&str>,
) -> Result<(), RigError> {
    let identity = authority.client(user, group)?;
    let content = kubeconfig(&plan.server(), authority.pem(), user, &identity);
    write_private(path, &content.to_string()).map_err(file("write", path))
}

/// What the kubeconfig says, without the retries that kube adds: a refusal is an answer that tests want to see.
async fn config_from(path: &Path) -> Result<Config, RigError> {
    let kubeconfig = Kubeconfig::read_from(path)?;
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    config.default_retry = false;
    Ok(config)
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let ready = conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    ready && pod.metadata.deletion_timestamp.is_none()
}

/// What etcd and the Kubernetes programs say when somebody else listens on their port.
fn is_port_taken(tail: &str) -> bool {
    tail.contains("address already in use")
}

/// The test's name: the harness calls the thread of each test after it.
pub(crate) fn test_name() -> String {
    std::thread::current().name().unwrap_or("rig").to_owned()
}

fn unique_name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{}-{}-{count}", file_name(&test_name()), std::process::id())
}

/// The text with everything but letters, digits and dots made a dash.
fn file_name(text: &str) -> String {
    text.replace(|c: char| !c.is_ascii_alphanumeric() && c != '.', "-")
}

fn file<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> RigError + use<'a> {
    move |source| RigError::File { doing, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unnamed_rigs_are_told_apart() {
        let (first, second) = (unique_name(), unique_name());
        assert_ne!(first, second);
        assert!(first.contains("unnamed-rigs-are-told-apart"), "{first}");
    }

    #[test]
    fn file_names_hold_no_separator() {
        assert_eq!(file_name("system:serviceaccount:a/b.c"), "system-serviceaccount-a-b.c");
    }

    /// Ports are free when they are chosen, and another process may be quicker.
    #[tokio::test]
    async fn another_rigs_etcd_is_not_taken_for_our_own() {
        let options = RigOptions { bare: true, ..RigOptions::default() };
        let Some(first) = Rig::start_or_skip(options.clone()).await.unwrap() else { return };
        let mut second = Rig::lay_out(first.plan.binaries.clone(), &options).await.unwrap();
        second.plan.ports.etcd = first.plan.ports.etcd;
        let error = second.raise(&options).await.unwrap_err();
        let found_out = matches!(&error, RigError::Ended { part: Part::Etcd, tail, .. } if is_port_taken(tail));
        assert!(found_out, "{error}");
        assert!(!second.running.lock().contains_key(&Part::ApiServer), "nothing is written into another's etcd");
    }
}
