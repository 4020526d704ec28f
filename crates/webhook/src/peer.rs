//! The way from a follower to the leader, whose ledger is the truth.
//!
//! A follower passes the review on as it came and the leader's answer back as it came, over mutual TLS with the
//! certificate that all replicas share. Twenty milliseconds later it decides from its own index: an error of at most one
//! pod per replica and burst, which the controller repairs. Nothing here looks into a review.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls_pki_types::ServerName;
use spotalis_runtime::leadership::Leadership;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::certs::Certificates;

/// The path of the leader's answer, on the peer port.
pub const PATH: &str = "/decide";
/// How long a follower waits for the leader.
const PATIENCE: Duration = Duration::from_millis(20);
/// Idle connections kept.
const MOST_IDLE: usize = 16;

/// A connection to the leader.
type Sender = SendRequest<Full<Bytes>>;

/// Why the leader did not answer.
#[derive(Debug, thiserror::Error)]
enum PeerError {
    #[error("there is no ca.crt beside the certificate")]
    NoAuthority,
    #[error("the leader's address is not HOST:PORT")]
    Address,
    #[error("cannot reach the leader")]
    Dial(#[from] std::io::Error),
    #[error("the leader broke off")]
    Exchange(#[from] hyper::Error),
    #[error("the leader answered {0}")]
    Status(StatusCode),
}

/// A follower's connections to the leader.
pub struct PeerLink {
    leadership: Leadership,
    certificates: Arc<Certificates>,
    /// Connections without a request, of the leader with this address.
    idle: Mutex<(Box<str>, Vec<Sender>)>,
}

impl std::fmt::Debug for PeerLink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PeerLink").field("leadership", &self.leadership).finish_non_exhaustive()
    }
}

impl PeerLink {
    /// Asks whoever `leadership` says, showing what `certificates` has.
    pub fn new(leadership: Leadership, certificates: Arc<Certificates>) -> Self {
        Self { leadership, certificates, idle: Mutex::default() }
    }

    /// Whether this replica's own ledger is the truth.
    pub fn leads(&self) -> bool {
        self.leadership.term().is_some()
    }

    /// The leader's answer to a review, if there is another leader and it answers in time.
    pub async fn ask(&self, review: &[u8]) -> Option<Bytes> {
        let leader = self.leadership.leader()?.peer_address.filter(|_| !self.leads())?;
        let exchange = tokio::time::timeout(PATIENCE, self.exchange(&leader, review));
        match exchange.await {
            Ok(Ok(answer)) => Some(answer),
            Ok(Err(error)) => {
                tracing::debug!(%leader, error = %spotalis_runtime::text::chain(&error), "deciding without the leader");
                None
            }
            Err(_) => {
                tracing::debug!(%leader, "deciding without the leader, which did not answer in time");
                None
            }
        }
    }

    async fn exchange(&self, leader: &str, review: &[u8]) -> Result<Bytes, PeerError> {
        let mut sender = match self.take_idle(leader) {
            Some(sender) => sender,
            None => self.dial(leader).await?,
        };
        let request = Request::post(PATH)
            .header(http::header::HOST, leader)
            .body(Full::new(Bytes::copy_from_slice(review)))
            .map_err(|_| PeerError::Address)?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        let answer = response.into_body().collect().await?.to_bytes();
        self.keep_idle(leader, sender);
        if status == StatusCode::OK { Ok(answer) } else { Err(PeerError::Status(status)) }
    }

    fn take_idle(&self, leader: &str) -> Option<Sender> {
        let mut idle = self.idle.lock();
        if &*idle.0 != leader {
            *idle = (leader.into(), Vec::new());
        }
        std::iter::from_fn(|| idle.1.pop()).find(SendRequest::is_ready)
    }

    fn keep_idle(&self, leader: &str, sender: Sender) {
        let mut idle = self.idle.lock();
        if &*idle.0 == leader && idle.1.len() < MOST_IDLE {
            idle.1.push(sender);
        }
    }

    async fn dial(&self, leader: &str) -> Result<Sender, PeerError> {
        let tls = self.certificates.current();
        let peer = tls.peer.as_ref().ok_or(PeerError::NoAuthority)?;
        let (host, _) = leader.rsplit_once(':').ok_or(PeerError::Address)?;
        let name = match &tls.name {
            Some(name) => name.clone(),
            None => ServerName::try_from(host.trim_matches(['[', ']']).to_owned()).map_err(|_| PeerError::Address)?,
        };
        let stream = TcpStream::connect(leader).await?;
        stream.set_nodelay(true)?;
        let stream = TlsConnector::from(peer.client.clone()).connect(name, stream).await?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection to the leader ended");
            }
        });
        Ok(sender)
    }
}
