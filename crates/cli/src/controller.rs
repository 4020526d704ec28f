//! `spotalis controller`: puts the parts together and keeps them running until it is told to stop.
//!
//! Order matters in two places only. Starting: the webhook listens before it is ready, and it is ready when the first
//! lists are complete. Stopping: readiness goes first, then what is in flight is finished, then the Lease is released.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use kube::Client;
use parking_lot::Mutex;
use spotalis_config::{Config, Sources, changed_needing_restart, reloaded};
use spotalis_controller::{Balance, BalanceMetrics};
use spotalis_kube::index::{Index, View};
use spotalis_kube::slim;
use spotalis_kube::watch::{self, Failure, Resource, Sink};
use spotalis_runtime::Clock;
use spotalis_runtime::admin::{AdminServer, Pages, Readiness};
use spotalis_runtime::apiclient::{Cluster, ClusterSource, RateLimit};
use spotalis_runtime::events::{CONTROLLER, EventMetrics, EventRecorder, Reporter};
use spotalis_runtime::leadership::{Candidate, Leadership, LeadershipMetrics};
use spotalis_runtime::metrics::Metrics;
use spotalis_runtime::shutdown::{Ending, Shutdown};
use spotalis_runtime::telemetry::Telemetry;
use spotalis_runtime::writer::Writer;
use spotalis_webhook::admission::{self, Admission};
use spotalis_webhook::metrics::AdmissionMetrics;
use spotalis_webhook::peer::PeerLink;
use tokio::sync::{Notify, watch as channel};
use tokio_util::sync::CancellationToken;

use crate::listener::Ports;
use crate::wiring;

/// The Lease of the controllers.
const LEASE: &str = "spotalis-controller";
/// Events that may wait to be published.
const EVENT_QUEUE: usize = 1_024;
/// How often a changed configuration file is looked for.
const RELOAD_PERIOD: Duration = Duration::from_secs(2);
/// How often reservations that ran out are ended.
const EXPIRY_PERIOD: Duration = Duration::from_secs(1);
/// How long a write may take.
const WRITE_LIMIT: Duration = Duration::from_secs(10);
/// How long stopping may take.
const GRACE: Duration = Duration::from_secs(25);
/// Pause before a kind of somebody else's is looked for again, where it does not exist.
const ABSENT_KIND_PERIOD: Duration = Duration::from_mins(10);

/// What the command line says.
pub struct Options {
    /// Where the configuration comes from.
    pub sources: Sources,
    /// Where the cluster is.
    pub cluster: ClusterSource,
}

/// Settings that may change while the controller runs, on their way to whom they concern.
struct Reloadable {
    telemetry: Telemetry,
    index: Arc<Mutex<Index>>,
    balance_settings: channel::Sender<spotalis_controller::Settings>,
    admission_settings: channel::Sender<admission::Settings>,
    /// Of everything that is sent to the API server.
    pace: Arc<RateLimit>,
    balance: Balance,
}

/// Runs until SIGTERM or SIGINT.
pub async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let Options { sources, cluster } = options;
    let config = Config::load(&sources)?;
    let telemetry = Telemetry::install(wiring::log_format(&config), wiring::log_level(&config))?;
    let cluster = Cluster::configure(&cluster).await?;
    cluster.probe().await?;
    let shutdown = Shutdown::new();
    shutdown.listen()?;
    let ending = serve(config, sources, telemetry, cluster, &shutdown).await?;
    Ok(match ending {
        Ending::Complete => ExitCode::SUCCESS,
        Ending::OutOfTime | Ending::Aborted => ExitCode::FAILURE,
    })
}

async fn serve(
    config: Config,
    sources: Sources,
    telemetry: Telemetry,
    cluster: Cluster,
    shutdown: &Shutdown,
) -> anyhow::Result<Ending> {
    let settings = &config.settings;
    let client = cluster.client.clone();
    let elected = settings.controller.leader_election.enabled;
    let ports = if settings.webhook.enabled { Some(Ports::take(&settings.webhook, elected).await?) } else { None };
    let clock = Clock::system();
    let identity = identity();
    let stop = shutdown.token();
    let tasks = shutdown.tasks();

    let mut metrics =
        Metrics::new(env!("CARGO_PKG_VERSION"), option_env!("SPOTALIS_REVISION").unwrap_or("unknown"), clock);
    let index = Arc::new(Mutex::new(Index::new(wiring::rules(&config))));
    let changed = Arc::new(Notify::new());
    let (balance_settings, balance_receiver) = channel::channel(wiring::balance_settings(&config));
    let (admission_settings, admission_receiver) = channel::channel(wiring::admission_settings(&config));

    let event_metrics = EventMetrics::default();
    event_metrics.register(metrics.registry());
    let api = &settings.controller.api_client;
    let pace = Arc::new(RateLimit::new(api.qps, api.burst));
    // Ends after the last term: what a leader does last is told as well.
    let silence = CancellationToken::new();
    let (events, publish) = EventRecorder::new(
        client.clone(),
        Reporter { controller: CONTROLLER.to_owned(), instance: identity.clone() },
        clock,
        event_metrics,
        pace.clone(),
        EVENT_QUEUE,
        silence.clone(),
    );
    tasks.spawn(publish);

    let leadership_metrics = LeadershipMetrics::default();
    leadership_metrics.register(metrics.registry());
    let leadership = if elected {
        let reachable = ports.as_ref().is_some_and(Ports::has_peer_port);
        let own = own_address(settings.webhook.bind_address, &cluster.server).filter(|_| reachable);
        let candidate = Candidate {
            client: client.clone(),
            namespace: settings.controller.leader_election.namespace.to_string(),
            lease: LEASE.to_owned(),
            identity: identity.clone(),
            peer_address: own.map(|own| SocketAddr::new(own, settings.webhook.peer_port).to_string()),
            timing: wiring::timing(&config),
        };
        let (leadership, campaign) = Leadership::contend(candidate, clock, leadership_metrics, stop.clone());
        let whole = until_synced(index.clone(), changed.clone());
        let stop = stop.clone();
        tasks.spawn(async move {
            // Followers ask the leader, so it has to know more than they.
            if stop.run_until_cancelled_owned(whole).await.is_some() {
                campaign.await;
            }
        });
        leadership
    } else {
        Leadership::alone(&identity, clock, &leadership_metrics, &stop)
    };
    let writer = Writer::new(client.clone(), pace.clone(), leadership.clone(), WRITE_LIMIT);

    let balance = Balance::new(
        index.clone(),
        writer,
        events.clone(),
        BalanceMetrics::register(metrics.registry()),
        balance_receiver,
        clock,
    );
    let admission_metrics = AdmissionMetrics::register(metrics.registry(), index.clone());
    let admission =
        Admission::new(index.clone(), changed.clone(), admission_receiver, events, admission_metrics, clock);

    let sink = sink(&index, &metrics, &changed, &balance, &leadership, clock);
    watch_everything(&client, &config, &sink, shutdown);
    tokio::spawn(stop.clone().run_until_cancelled_owned(expire(index.clone(), clock)));

    let readiness = Readiness::new();
    let synced = index.clone();
    readiness.check("synced", move || synced.lock().is_synced());
    let running = stop.clone();
    readiness.check("running", move || !running.is_cancelled());
    if let Some(ports) = ports {
        let admission = if elected {
            admission.with_peers(Arc::new(PeerLink::new(leadership.clone(), &identity, ports.certificates().clone())))
        } else {
            admission
        };
        tasks.spawn(ports.serve(admission, metrics.registry(), stop.clone()));
    }
    serve_admin(&config, metrics, readiness, &stop, shutdown).await?;

    let reloadable = Reloadable {
        telemetry,
        index: index.clone(),
        balance_settings,
        admission_settings,
        pace,
        balance: balance.clone(),
    };
    tokio::spawn(stop.clone().run_until_cancelled_owned(reload(sources, config, reloadable)));
    tasks.spawn(async move {
        lead(&balance, &leadership, &stop).await;
        silence.cancel();
    });
    tracing::info!(version = env!("CARGO_PKG_VERSION"), %identity, "started");
    Ok(shutdown.finished(GRACE).await)
}

/// Leads term after term, until the process is to end.
async fn lead(balance: &Balance, leadership: &Leadership, stop: &CancellationToken) {
    // A replica that leads alone has no campaign whose end would be the end of terms.
    while let Some(Some(term)) = stop.run_until_cancelled(leadership.next_term()).await {
        tracing::info!(term = term.number, "leading");
        balance.lead(&term).await;
        tracing::info!(term = term.number, "no longer leading");
    }
}

/// What happens when something was heard of the cluster.
fn sink(
    index: &Arc<Mutex<Index>>,
    metrics: &Metrics,
    changed: &Arc<Notify>,
    balance: &Balance,
    leadership: &Leadership,
    clock: Clock,
) -> Sink {
    let freshness = metrics.freshness();
    let (index_of_sink, changed, balance, leadership) =
        (index.clone(), changed.clone(), balance.clone(), leadership.clone());
    Sink {
        index: index.clone(),
        heard: Arc::new(move |view| {
            freshness.heard(view.as_str());
            changed.notify_waiters();
            let (keys, room_changed) = {
                let mut index = index_of_sink.lock();
                (index.take_changed(), index.take_room_changed())
            };
            // A follower starts its term with every workload, so what changes before is not kept.
            if leadership.term().is_some() {
                balance.notify(keys);
                if room_changed {
                    balance.room_changed();
                }
            }
        }),
        now: Arc::new(move || clock.now()),
        failed: Arc::new(report),
    }
}

/// A failing watch is tried again for ever; somebody has to hear why.
fn report(view: View, failure: &Failure) {
    let resource = view.as_str();
    if failure.is_forbidden() {
        tracing::error!(
            resource,
            error = %spotalis_runtime::text::chain(failure),
            "{}", failure.forbidden_hint().unwrap_or_default()
        );
    } else if matches!(failure, Failure::Silent { verb: "watch", resource: _ }) {
        // Resumed at once, and usual for a kind of which the cluster has no object: no bookmarks either.
        tracing::debug!(resource, error = %failure, "resuming");
    } else if !View::PROVISIONERS.contains(&view) {
        tracing::warn!(resource, error = %spotalis_runtime::text::chain(failure), "trying again");
    }
}

fn watch_everything(client: &Client, config: &Config, sink: &Sink, shutdown: &Shutdown) {
    let namespaces: Vec<Option<String>> = if config.opt_in.watch_namespaces.is_empty() {
        vec![None]
    } else {
        config.opt_in.watch_namespaces.iter().map(|name| Some(name.to_string())).collect()
    };
    for view in View::REQUIRED {
        let scopes = if Resource::of(view).is_namespaced() { namespaces.clone() } else { vec![None] };
        for scope in scopes {
            let pump = pump(client.clone(), view, scope, sink.clone());
            tokio::spawn(shutdown.token().run_until_cancelled_owned(pump));
        }
    }
    for view in View::PROVISIONERS {
        let pump = pump(client.clone(), view, None, sink.clone());
        tokio::spawn(shutdown.token().run_until_cancelled_owned(pump));
    }
}

async fn pump(client: Client, view: View, namespace: Option<String>, sink: Sink) {
    let resource = Resource::of(view);
    let absent_pause = if View::PROVISIONERS.contains(&view) { ABSENT_KIND_PERIOD } else { Duration::ZERO };
    match view {
        View::Namespaces => watch::pump::<slim::Namespace>(client, resource, namespace, sink, absent_pause).await,
        View::Nodes => watch::pump::<slim::Node>(client, resource, namespace, sink, absent_pause).await,
        View::Pods => watch::pump::<slim::Pod>(client, resource, namespace, sink, absent_pause).await,
        View::Deployments | View::StatefulSets => {
            watch::pump::<slim::Workload>(client, resource, namespace, sink, absent_pause).await;
        }
        View::ReplicaSets => watch::pump::<slim::ReplicaSet>(client, resource, namespace, sink, absent_pause).await,
        View::PodDisruptionBudgets => {
            watch::pump::<slim::PodDisruptionBudget>(client, resource, namespace, sink, absent_pause).await;
        }
        View::NodePools => watch::pump::<slim::NodePool>(client, resource, namespace, sink, absent_pause).await,
        View::AutoscalerStatus => {
            watch::pump::<slim::AutoscalerStatus>(client, resource, namespace, sink, absent_pause).await;
        }
    }
}

/// Waits until all first lists are complete.
async fn until_synced(index: Arc<Mutex<Index>>, changed: Arc<Notify>) {
    loop {
        let news = changed.notified();
        if index.lock().is_synced() {
            return;
        }
        news.await;
    }
}

async fn expire(index: Arc<Mutex<Index>>, clock: Clock) {
    let mut ticks = tokio::time::interval(EXPIRY_PERIOD);
    loop {
        ticks.tick().await;
        index.lock().expire_reservations(clock.now());
    }
}

async fn serve_admin(
    config: &Config,
    metrics: Metrics,
    readiness: Readiness,
    stop: &CancellationToken,
    shutdown: &Shutdown,
) -> anyhow::Result<()> {
    let settings = &config.settings;
    if settings.metrics.enabled {
        let address = SocketAddr::new(settings.metrics.bind_address, settings.metrics.port);
        let server = AdminServer::bind(address, Pages::Metrics(Arc::new(metrics))).await?;
        shutdown.tasks().spawn(server.serve(stop.clone()));
    }
    let address = SocketAddr::new(settings.health.bind_address, settings.health.port);
    let server = AdminServer::bind(address, Pages::Health(readiness)).await?;
    // Answers "not ready" while the rest is finishing, so it is not among what is waited for.
    tokio::spawn(server.serve(CancellationToken::new()));
    Ok(())
}

/// Looks at the file now and then, and puts a changed configuration in force if it has no mistakes.
///
/// Held against the configuration of the start: what only a restart brings into effect is named as long as it differs.
async fn reload(sources: Sources, started: Config, reloadable: Reloadable) {
    let Some(path) = sources.file.clone() else { return };
    let mut seen = text_of(&path).await;
    let mut ticks = tokio::time::interval(RELOAD_PERIOD);
    loop {
        ticks.tick().await;
        let text = text_of(&path).await;
        if text == seen {
            continue;
        }
        seen = text;
        match Config::load(&sources) {
            Err(errors) => tracing::error!(%errors, "the changed configuration is not used"),
            Ok(new) => {
                let restart = changed_needing_restart(&started, &new);
                if !restart.is_empty() {
                    tracing::warn!(keys = ?restart, "restart to put these in force");
                }
                if let Err(error) = reloadable.put_in_force(&reloaded(new, &started)) {
                    tracing::error!(error = format!("{error:#}"), "part of the changed configuration is not used");
                } else {
                    tracing::info!("the changed configuration is in force");
                }
            }
        }
    }
}

async fn text_of(path: &PathBuf) -> Option<Vec<u8>> {
    tokio::fs::read(path).await.ok()
}

impl Reloadable {
    fn put_in_force(&self, config: &Config) -> anyhow::Result<()> {
        let Self { telemetry, index, balance_settings, admission_settings, pace, balance } = self;
        let api = &config.settings.controller.api_client;
        pace.set(api.qps, api.burst);
        index.lock().set_rules(wiring::rules(config));
        balance_settings.send_replace(wiring::balance_settings(config));
        admission_settings.send_replace(wiring::admission_settings(config));
        balance.notify_all();
        telemetry.set_level(wiring::log_level(config)).context("log level")
    }
}

/// The address by which other replicas reach this one: the one it listens on, or the one it reaches the API server from.
fn own_address(bind: IpAddr, server: &str) -> Option<IpAddr> {
    if !bind.is_unspecified() {
        return Some(bind);
    }
    let server: http::Uri = server.parse().ok()?;
    let host = server.host()?.trim_matches(['[', ']']);
    let any = if bind.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    // Connecting a datagram socket sends nothing; it only makes the system choose the address to send from.
    let socket = std::net::UdpSocket::bind(any).ok()?;
    socket.connect((host, server.port_u16().unwrap_or(443))).ok()?;
    socket.local_addr().ok().map(|address| address.ip())
}

/// Who this process is in the Lease and in Events: the pod, and what tells two processes of one pod apart.
fn identity() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = if host.trim().is_empty() { "spotalis" } else { host.trim() };
    format!("{host}-{}", std::process::id())
}
