//! `spotalis controller`: puts the parts together and keeps them running until it is told to stop.
//!
//! Order matters in two places only. Starting: the webhook listens before it is ready, and it is ready when the first
//! lists are complete. Stopping: readiness goes first, then what is in flight is finished, then the Lease is released.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use spotalis_config::{Config, Sources, changed_needing_restart, reloaded};
use spotalis_instance::{Adjustable, Instance, Surroundings};
use spotalis_runtime::Clock;
use spotalis_runtime::admin::{AdminServer, Pages, Readiness};
use spotalis_runtime::apiclient::{Cluster, ClusterSource};
use spotalis_runtime::metrics::Metrics;
use spotalis_runtime::shutdown::{Ending, Shutdown};
use spotalis_runtime::telemetry::Telemetry;
use spotalis_webhook::peer::{PeerLink, TlsTransport};
use tokio_util::sync::CancellationToken;

use crate::listener::Ports;
use crate::logging;

const VERSION: &str = env!("CARGO_PKG_VERSION");
/// How often a changed configuration file is looked for.
const RELOAD_PERIOD: Duration = Duration::from_secs(2);
/// How long stopping may take.
const GRACE: Duration = Duration::from_secs(25);

/// What the command line says.
pub struct Options {
    /// Where the configuration comes from.
    pub sources: Sources,
    /// Where the cluster is.
    pub cluster: ClusterSource,
}

/// Runs until SIGTERM or SIGINT.
pub async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let Options { sources, cluster } = options;
    let config = Config::load(&sources)?;
    let telemetry = Telemetry::install(logging::format(&config), logging::level(&config))?;
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
    let elected = settings.controller.leader_election.enabled;
    let ports = if settings.webhook.enabled { Some(Ports::take(&settings.webhook, elected).await?) } else { None };
    let reachable = elected && ports.as_ref().is_some_and(Ports::has_peer_port);
    let own = own_address(settings.webhook.bind_address, &cluster.server).filter(|_| reachable);
    let (identity, stop) = (identity(), shutdown.token());
    let surroundings = Surroundings {
        client: cluster.client.clone(),
        clock: Clock::system(),
        config: &config,
        identity: identity.clone(),
        peer_address: own.map(|own| SocketAddr::new(own, settings.webhook.peer_port).to_string()),
        build: (VERSION, option_env!("SPOTALIS_REVISION").unwrap_or("unknown")),
    };
    let instance = Instance::start(surroundings, &stop, shutdown.tasks());

    let readiness = Readiness::new();
    readiness.check("synced", instance.synced());
    let running = stop.clone();
    readiness.check("running", move || !running.is_cancelled());
    let Instance { admission, leadership, mut metrics, adjustable, .. } = instance;
    if let Some(ports) = ports {
        let admission = if elected {
            let transport = Arc::new(TlsTransport::new(ports.certificates().clone()));
            admission.with_peers(Arc::new(PeerLink::new(leadership, &identity, transport)))
        } else {
            admission
        };
        shutdown.tasks().spawn(ports.serve(admission, metrics.registry(), stop.clone()));
    }
    serve_admin(&config, metrics, readiness, &stop, shutdown).await?;
    tokio::spawn(stop.run_until_cancelled_owned(reload(sources, config, adjustable, telemetry)));
    tracing::info!(version = VERSION, %identity, "started");
    Ok(shutdown.finished(GRACE).await)
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
async fn reload(sources: Sources, started: Config, adjustable: Adjustable, telemetry: Telemetry) {
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
                let new = reloaded(new, &started);
                adjustable.put_in_force(&new);
                match telemetry.set_level(logging::level(&new)) {
                    Ok(()) => tracing::info!("the changed configuration is in force"),
                    Err(error) => tracing::error!(
                        error = %spotalis_runtime::text::chain(&error),
                        "the changed configuration is in force, but for the level of the log"
                    ),
                }
            }
        }
    }
}

async fn text_of(path: &PathBuf) -> Option<Vec<u8>> {
    tokio::fs::read(path).await.ok()
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
