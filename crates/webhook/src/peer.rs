//! The way from a follower to the leader, whose ledger is the truth.
//!
//! A follower passes the review on as it came and the leader's answer back as it came, over mutual TLS with the
//! certificate that all replicas share. Twenty milliseconds later it decides from its own index: an error of at most one
//! pod per replica and burst, which the controller repairs. Nothing here looks into a review.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls_pki_types::ServerName;
use spotalis_core::capacity::CapacityType;
use spotalis_core::slots::{Seat, parse_claim};
use spotalis_runtime::leadership::Leadership;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use crate::certs::Certificates;

/// The path of the leader's answer, on the peer port.
pub const PATH: &str = "/decide";
/// How long a follower waits for the leader.
pub(crate) const PATIENCE: Duration = Duration::from_millis(20);
/// How long connecting may take, long after which it is of no use to anybody.
const DIAL_LIMIT: Duration = Duration::from_secs(5);
/// Idle connections kept.
const MOST_IDLE: usize = 16;

/// After so many failures in a row the leader is asked again only now and then: a port that is blocked would cost every
/// pod the patience.
const FAILURES: u32 = 3;
/// How long it is then left alone.
const RESPITE: Duration = Duration::from_secs(1);
/// In the leader's answer: the seat that the pod was given.
const SEAT: &str = "spotalis-seat";

/// A connection to the leader.
type Sender = SendRequest<Full<Bytes>>;

/// What the leader says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeadersAnswer {
    /// The body of the answer to the review.
    pub body: Bytes,
    /// The seat that the pod was given, if any.
    pub seat: Option<Seat>,
}

/// Tells a follower the seat beside the answer.
pub fn tell_seat(headers: &mut HeaderMap, seat: Option<Seat>) {
    if let Some(Seat { capacity, slot }) = seat
        && let Ok(value) = HeaderValue::try_from(format!("{} {slot}", capacity.as_str()))
    {
        headers.insert(SEAT, value);
    }
}

fn told_seat(headers: &HeaderMap) -> Option<Seat> {
    let (capacity, slot) = headers.get(SEAT)?.to_str().ok()?.split_once(' ')?;
    Some(Seat { capacity: CapacityType::parse(capacity)?, slot: parse_claim(slot)? })
}

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
    #[error("the connection to the leader was given up")]
    GivenUp,
}

/// How a review gets to the leader, and its answer back.
pub trait PeerTransport: Send + Sync {
    /// Carries a review to the replica at this address; absent, it did not get there or was not answered. Whoever waits
    /// has patience enough for himself: this may take its time.
    fn carry<'a>(&'a self, leader: &'a str, review: Bytes) -> BoxFuture<'a, Option<LeadersAnswer>>;
}

/// A follower's way to the leader.
pub struct PeerLink {
    leadership: Leadership,
    /// Our own name: for a while after we resigned the Lease still says that we lead.
    identity: Box<str>,
    transport: Arc<dyn PeerTransport>,
    lately: Mutex<Lately>,
}

/// How it went lately with the leader at this address.
#[derive(Default)]
struct Lately {
    leader: Box<str>,
    failures: u32,
    not_before: Option<Instant>,
}

impl Lately {
    /// Forgets another leader's failures.
    fn of(&mut self, leader: &str) -> &mut Self {
        if &*self.leader != leader {
            *self = Self { leader: leader.into(), ..Self::default() };
        }
        self
    }

    fn went(&mut self, leader: &str, well: bool) {
        if &*self.leader == leader {
            self.failures = if well { 0 } else { self.failures.saturating_add(1) };
            self.not_before = (self.failures >= FAILURES).then(|| Instant::now() + RESPITE);
        }
    }
}

impl std::fmt::Debug for PeerLink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PeerLink").field("leadership", &self.leadership).finish_non_exhaustive()
    }
}

impl PeerLink {
    /// Asks whoever `leadership` says, unless that is `identity`.
    pub fn new(leadership: Leadership, identity: &str, transport: Arc<dyn PeerTransport>) -> Self {
        Self { leadership, identity: identity.into(), transport, lately: Mutex::default() }
    }

    /// Whether this replica's own ledger is the truth.
    pub fn leads(&self) -> bool {
        self.leadership.term().is_some()
    }

    /// The leader's answer to a review, if there is another leader and it answers in time.
    pub async fn ask(&self, review: &[u8]) -> Option<LeadersAnswer> {
        let leader = self.leadership.leader().filter(|leader| leader.identity != self.identity)?.peer_address?;
        if self.lately.lock().of(&leader).not_before.is_some_and(|until| until > Instant::now()) {
            return None;
        }
        let carried = self.transport.carry(&leader, Bytes::copy_from_slice(review));
        let answer = tokio::time::timeout(PATIENCE, carried).await.unwrap_or_else(|_| {
            tracing::debug!(%leader, "deciding without the leader, which did not answer in time");
            None
        });
        self.lately.lock().went(&leader, answer.is_some());
        answer
    }
}

/// The way over mutual TLS.
pub struct TlsTransport {
    certificates: Arc<Certificates>,
    idle: Arc<Mutex<Idle>>,
}

/// Connections without a request to the leader with this address.
#[derive(Default)]
struct Idle {
    leader: Box<str>,
    senders: Vec<Sender>,
}

impl Idle {
    /// Forgets another leader's connections.
    fn of(&mut self, leader: &str) -> &mut Self {
        if &*self.leader != leader {
            *self = Self { leader: leader.into(), senders: Vec::new() };
        }
        self
    }

    fn keep(&mut self, leader: &str, sender: Sender) {
        if &*self.leader == leader && self.senders.len() < MOST_IDLE {
            self.senders.push(sender);
        }
    }
}

impl PeerTransport for TlsTransport {
    fn carry<'a>(&'a self, leader: &'a str, review: Bytes) -> BoxFuture<'a, Option<LeadersAnswer>> {
        Box::pin(async move {
            match self.exchange(leader, review).await {
                Ok(answer) => Some(answer),
                Err(error) => {
                    tracing::debug!(%leader, error = %spotalis_runtime::text::chain(&error), "deciding without the leader");
                    None
                }
            }
        })
    }
}

impl TlsTransport {
    /// Shows what `certificates` has.
    pub fn new(certificates: Arc<Certificates>) -> Self {
        Self { certificates, idle: Arc::default() }
    }

    async fn exchange(&self, leader: &str, review: Bytes) -> Result<LeadersAnswer, PeerError> {
        let mut sender = match self.take_idle(leader) {
            Some(sender) => sender,
            None => self.dial(leader).await?,
        };
        let request = Request::post(PATH)
            .header(http::header::HOST, leader)
            .body(Full::new(review))
            .map_err(|_| PeerError::Address)?;
        let response = sender.send_request(request).await?;
        let (head, body) = response.into_parts();
        let body = body.collect().await?.to_bytes();
        self.idle.lock().keep(leader, sender);
        if head.status == StatusCode::OK {
            Ok(LeadersAnswer { body, seat: told_seat(&head.headers) })
        } else {
            Err(PeerError::Status(head.status))
        }
    }

    fn take_idle(&self, leader: &str) -> Option<Sender> {
        let mut idle = self.idle.lock();
        let idle = idle.of(leader);
        std::iter::from_fn(|| idle.senders.pop()).find(SendRequest::is_ready)
    }

    /// A new connection. One that comes too late for this pod is kept for the next.
    async fn dial(&self, leader: &str) -> Result<Sender, PeerError> {
        let (hand_over, connected) = oneshot::channel();
        let (idle, certificates, leader) = (self.idle.clone(), self.certificates.clone(), Box::<str>::from(leader));
        tokio::spawn(async move {
            match tokio::time::timeout(DIAL_LIMIT, connect(&certificates, &leader)).await {
                Ok(Ok(sender)) => {
                    if let Err(Ok(sender)) = hand_over.send(Ok(sender)) {
                        idle.lock().keep(&leader, sender);
                    }
                }
                // Nobody waits any more, or is told why.
                Ok(Err(error)) => drop(hand_over.send(Err(error))),
                Err(_) => {}
            }
        });
        connected.await.unwrap_or(Err(PeerError::GivenUp))
    }
}

async fn connect(certificates: &Certificates, leader: &str) -> Result<Sender, PeerError> {
    let tls = certificates.current();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seat_survives_the_way_to_the_follower() {
        for seat in [None, Some(Seat { capacity: CapacityType::Spot, slot: 1 })] {
            let mut headers = HeaderMap::new();
            tell_seat(&mut headers, seat);
            assert_eq!(told_seat(&headers), seat);
        }
        for text in ["", "spot", "spot 0", "spot -1", "both 3", "on-demand 99999999"] {
            let headers = HeaderMap::from_iter([(SEAT.parse().unwrap(), HeaderValue::from_static(text))]);
            assert_eq!(told_seat(&headers), None, "{text:?}");
        }
    }
}
