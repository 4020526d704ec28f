//! The webhook's two ports: reviews of the API server, and reviews that a follower passes on to the leader.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use prometheus_client::registry::Registry;
use spotalis_config::Webhook;
use spotalis_webhook::admission::{Admission, Outcome, Reply};
use spotalis_webhook::certs::{Certificates, ClientVerification, Reload};
use spotalis_webhook::metrics::CertificateMetrics;
use spotalis_webhook::server::{Limits, Listener};
use spotalis_webhook::{peer, registration};
use tokio_util::sync::CancellationToken;

/// How often the certificate files are looked at.
const RELOAD_PERIOD: Duration = Duration::from_secs(2);

/// Ports that are held and not served yet, and the certificates for them.
pub struct Ports {
    certificates: Arc<Certificates>,
    webhook: Listener,
    /// Only where replicas can trust each other: with a `ca.crt`.
    peer: Option<Listener>,
}

impl Ports {
    /// Reads the certificates and takes the ports.
    pub async fn take(settings: &Webhook, several_replicas: bool) -> anyhow::Result<Self> {
        let clients = match settings.client_ca_file.as_str() {
            "" => ClientVerification::Off,
            path => ClientVerification::Authority(path.into()),
        };
        let certificates = Certificates::load(Path::new(&settings.cert_dir), clients).await?;
        let webhook = Listener::bind(SocketAddr::new(settings.bind_address, settings.port)).await?;
        let peer = if several_replicas && certificates.current().peer.is_some() {
            Some(Listener::bind(SocketAddr::new(settings.bind_address, settings.peer_port)).await?)
        } else {
            if several_replicas {
                tracing::warn!(
                    directory = settings.cert_dir,
                    "without ca.crt replicas cannot ask their leader: several of them err by one pod each in a burst"
                );
            }
            None
        };
        Ok(Self { certificates: Arc::new(certificates), webhook, peer })
    }

    /// The certificates, which change as their files do.
    pub const fn certificates(&self) -> &Arc<Certificates> {
        &self.certificates
    }

    /// Whether other replicas can reach this one.
    pub const fn has_peer_port(&self) -> bool {
        self.peer.is_some()
    }

    /// Serves until some time after `stop`.
    pub fn serve(
        self,
        admission: Admission,
        registry: &mut Registry,
        stop: CancellationToken,
    ) -> impl Future<Output = ()> + Send + 'static {
        let Self { certificates, webhook, peer } = self;
        let metrics = CertificateMetrics::register(registry, certificates.current().not_after);
        tracing::info!(address = %webhook.address(), "serving admission");
        let for_peers = admission.clone();
        let answer = move |request: Request<Bytes>| {
            let admission = admission.clone();
            async move { response(admission.answer(request.body()).await) }
        };
        let answer_peer = move |request: Request<Bytes>| {
            let admission = for_peers.clone();
            async move { admission.answer_as_leader(request.body()).await.map_or_else(not_leading, response_to_peer) }
        };
        let (watched, watch_stop) = (certificates.clone(), stop.clone());
        tokio::spawn(async move { watched.watch(RELOAD_PERIOD, watch_stop, |news| report(news, &metrics)).await });
        let (webhook_tls, peer_tls) = (certificates.clone(), certificates);
        let peer_stop = stop.clone();
        async move {
            let webhook = webhook.serve(
                registration::PATH,
                answer,
                move || webhook_tls.current().webhook.clone(),
                Limits::default(),
                stop,
            );
            let peers = async move {
                let Some(peer) = peer else { return };
                // A ca.crt that disappears later does not open the port to everybody: the last one stays in force.
                let last = parking_lot::Mutex::new(peer_tls.current().peer.clone());
                let tls = move || {
                    let mut last = last.lock();
                    if let Some(new) = peer_tls.current().peer.clone() {
                        *last = Some(new);
                    }
                    last.as_ref().expect("the port is taken only with a ca.crt").server.clone()
                };
                peer.serve(peer::PATH, answer_peer, tls, Limits::default(), peer_stop).await;
            };
            tokio::join!(webhook, peers);
        }
    }
}

fn response_to_peer(reply: Reply) -> Response<Bytes> {
    let seat = reply.seat;
    let mut response = response(reply);
    peer::tell_seat(response.headers_mut(), seat);
    response
}

fn response(reply: Reply) -> Response<Bytes> {
    let Reply { body, outcome, seat: _ } = reply;
    let (status, content_type) = match outcome {
        Outcome::Refused => (StatusCode::BAD_REQUEST, "text/plain; charset=utf-8"),
        Outcome::Steered
        | Outcome::Doubt
        | Outcome::Forwarded
        | Outcome::Already
        | Outcome::Conflict
        | Outcome::Untouched
        | Outcome::UnknownOwner
        | Outcome::ReadOnly
        | Outcome::Unreadable => (StatusCode::OK, "application/json"),
    };
    Response::builder()
        .status(status)
        .header(http::header::CONTENT_TYPE, content_type)
        .body(Bytes::from(body))
        .expect("constant headers are valid")
}

fn not_leading() -> Response<Bytes> {
    let mut response = Response::new(Bytes::from_static(b"this replica does not lead, or knows no better\n"));
    *response.status_mut() = StatusCode::CONFLICT;
    response
}

fn report(news: &Reload, metrics: &CertificateMetrics) {
    match news {
        Reload::Unchanged => {}
        Reload::Loaded { not_after } => {
            metrics.loaded(*not_after);
            tracing::info!(not_after = not_after.map(tracing::field::display), "new certificates are in use");
        }
        Reload::Rejected(error) => {
            metrics.rejected();
            tracing::error!(error = %spotalis_runtime::text::chain(error), "the changed certificates are not used");
        }
    }
}
