//! The small HTTP servers for metrics and probes.
//!
//! They answer GET and HEAD, read no bodies, and never ask anybody else: a probe that waits for the API server would turn
//! its outage into ours. Slow and numerous clients are bounded.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::RwLock;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::metrics::Metrics;

/// A request's head must be complete within this, counted from the connection or from the previous answer.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection is asked to end after this.
const CONNECTION_LIFE: Duration = Duration::from_mins(5);
/// And cut off after this much more.
const FAREWELL: Duration = Duration::from_secs(2);
/// Connections at a time; more wait in the kernel's queue.
const CONNECTIONS: usize = 64;
/// The largest request head.
const HEAD_LIMIT: usize = 16 << 10;
/// After a failed accept, which most often means that the file descriptors are used up.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The content type of `OpenMetrics` text.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PLAIN: &str = "text/plain; charset=utf-8";

/// The server cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The address is taken, or not ours.
    #[error("cannot listen on {address} for {purpose}; another process may use the port, choose another one")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// For what.
        purpose: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// What must hold before anybody should send us work. Clones are the same.
#[derive(Clone, Default)]
pub struct Readiness {
    conditions: Arc<RwLock<BTreeMap<&'static str, Check>>>,
}

type Check = Box<dyn Fn() -> bool + Send + Sync>;

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readiness").field("missing", &self.missing()).finish_non_exhaustive()
    }
}

impl Readiness {
    /// Nothing to wait for yet, hence ready. Add every condition before serving.
    pub fn new() -> Self {
        Self::default()
    }

    /// A condition that holds when it was [set](Condition::set).
    pub fn condition(&self, name: &'static str) -> Condition {
        let flag = Arc::new(AtomicBool::new(false));
        let condition = Condition { flag: Arc::clone(&flag) };
        self.check(name, move || flag.load(Ordering::Acquire));
        condition
    }

    /// A condition that is asked for at every probe; it must answer at once.
    pub fn check(&self, name: &'static str, holds: impl Fn() -> bool + Send + Sync + 'static) {
        self.conditions.write().insert(name, Box::new(holds));
    }

    /// The names of the conditions that do not hold, in alphabetical order.
    pub fn missing(&self) -> Vec<&'static str> {
        self.conditions.read().iter().filter(|(_, holds)| !holds()).map(|(name, _)| *name).collect()
    }

    /// Whether all of them hold.
    pub fn is_ready(&self) -> bool {
        self.missing().is_empty()
    }
}

/// One named condition of a [`Readiness`].
#[derive(Clone, Debug)]
pub struct Condition {
    flag: Arc<AtomicBool>,
}

impl Condition {
    /// Says whether it holds.
    pub fn set(&self, holds: bool) {
        self.flag.store(holds, Ordering::Release);
    }
}

/// What a server shows.
#[derive(Clone, Debug)]
pub enum Pages {
    /// `/metrics`.
    Metrics(Arc<Metrics>),
    /// `/healthz` and `/readyz`.
    Health(Readiness),
}

impl Pages {
    const fn purpose(&self) -> &'static str {
        match self {
            Self::Metrics(_) => "metrics",
            Self::Health(_) => "health",
        }
    }

    fn answer<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return page(StatusCode::METHOD_NOT_ALLOWED, PLAIN, "only GET\n");
        }
        match (self, request.uri().path()) {
            (Self::Metrics(metrics), "/metrics") => page(StatusCode::OK, OPEN_METRICS, metrics.encode()),
            // That this is answered is all there is to say.
            (Self::Health(_), "/healthz") => page(StatusCode::OK, PLAIN, "ok\n"),
            (Self::Health(readiness), "/readyz") => ready(&readiness.missing()),
            (Self::Metrics(_) | Self::Health(_), _) => page(StatusCode::NOT_FOUND, PLAIN, "no such page\n"),
        }
    }
}

fn ready(missing: &[&str]) -> Response<Full<Bytes>> {
    if missing.is_empty() {
        return page(StatusCode::OK, PLAIN, "ok\n");
    }
    let mut text = String::new();
    for name in missing {
        writeln!(text, "not yet: {name}").expect("writing to a String cannot fail");
    }
    page(StatusCode::SERVICE_UNAVAILABLE, PLAIN, text)
}

fn page(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, content_type)
        .body(Full::new(body.into()))
        .expect("constant headers are valid")
}

/// A bound socket that does not answer yet.
#[derive(Debug)]
pub struct AdminServer {
    listener: TcpListener,
    address: SocketAddr,
    pages: Pages,
}

impl AdminServer {
    /// Listens on `address`; port 0 means any.
    pub async fn bind(address: SocketAddr, pages: Pages) -> Result<Self, AdminError> {
        let purpose = pages.purpose();
        let bound = async {
            let listener = TcpListener::bind(address).await?;
            let address = listener.local_addr()?;
            Ok((listener, address))
        };
        match bound.await {
            Ok((listener, address)) => Ok(Self { listener, address, pages }),
            Err(source) => Err(AdminError::Bind { address, purpose, source }),
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `stop`, then lets the answers under way end. Probes are wanted until the last moment, so `stop` should
    /// come later than the request to shut down.
    pub async fn serve(self, stop: CancellationToken) {
        let Self { listener, address, pages } = self;
        tracing::info!(%address, "serving {}", pages.purpose());
        let connections = TaskTracker::new();
        let room = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let accepted = async {
                let place = Arc::clone(&room).acquire_owned().await.expect("the semaphore is never closed");
                (listener.accept().await, place)
            };
            let (accepted, place) = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                accepted = accepted => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    let (pages, stop) = (pages.clone(), stop.clone());
                    connections.spawn(async move {
                        serve_connection(stream, &pages, stop).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%address, %error, "cannot accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        connections.close();
        connections.wait().await;
    }
}

async fn serve_connection(stream: TcpStream, pages: &Pages, stop: CancellationToken) {
    let answer = service_fn(|request: Request<Incoming>| async move { Ok::<_, Infallible>(pages.answer(&request)) });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(HEAD_LIMIT);
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), answer));
    let end = async {
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = sleep(CONNECTION_LIFE) => {}
        }
    };
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = end => {
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(FAREWELL, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection of the admin server broke");
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::Clock;

    async fn ask(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        String::from_utf8(answer).unwrap()
    }

    async fn get(address: SocketAddr, path: &str) -> (u16, String) {
        let answer = ask(address, &format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).await;
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        (status, answer)
    }

    async fn serving(pages: Pages) -> (SocketAddr, CancellationToken, tokio::task::JoinHandle<()>) {
        let server = AdminServer::bind("127.0.0.1:0".parse().unwrap(), pages).await.unwrap();
        let (address, stop) = (server.address(), CancellationToken::new());
        (address, stop.clone(), tokio::spawn(server.serve(stop)))
    }

    #[tokio::test]
    async fn probes_say_what_is_missing() {
        let readiness = Readiness::new();
        let synced = readiness.condition("pods are synced");
        let listening = readiness.condition("the webhook is listening");
        let (address, stop, server) = serving(Pages::Health(readiness.clone())).await;
        assert_eq!(get(address, "/healthz").await.0, 200);
        synced.set(true);
        let (status, text) = get(address, "/readyz").await;
        assert_eq!(status, 503);
        assert!(text.ends_with("\r\n\r\nnot yet: the webhook is listening\n"), "{text}");
        listening.set(true);
        assert_eq!(get(address, "/readyz").await.0, 200);
        readiness.check("not shutting down", || false);
        assert!(!readiness.is_ready());
        assert_eq!(get(address, "/readyz").await.0, 503);
        assert_eq!(get(address, "/metrics").await.0, 404);
        stop.cancel();
        server.await.unwrap();
    }

    #[tokio::test]
    async fn metrics_are_open_metrics() {
        let metrics = Arc::new(Metrics::new("1.2.3", "abc", Clock::system()));
        let (address, stop, server) = serving(Pages::Metrics(metrics)).await;
        let (status, text) = get(address, "/metrics").await;
        assert_eq!(status, 200);
        assert!(text.contains(OPEN_METRICS) && text.ends_with("# EOF\n"), "{text}");
        let refused = ask(address, "POST /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
        assert!(refused.starts_with("HTTP/1.1 405"), "{refused}");
        stop.cancel();
        server.await.unwrap();
    }

    #[tokio::test]
    async fn an_endless_head_is_cut_off() {
        let (address, stop, server) = serving(Pages::Health(Readiness::new())).await;
        let head = format!("GET /healthz HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(2 * HEAD_LIMIT));
        let mut stream = TcpStream::connect(address).await.unwrap();
        let mut answer = Vec::new();
        // The server hangs up with the head half read, which may reach us as a reset before its answer does.
        let _ = stream.write_all(head.as_bytes()).await;
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
        assert_eq!(get(address, "/healthz").await.0, 200);
        stop.cancel();
        server.await.unwrap();
    }

    #[tokio::test]
    async fn an_idle_connection_does_not_hold_the_end_up() {
        let (address, stop, server) = serving(Pages::Health(Readiness::new())).await;
        let mut idle = TcpStream::connect(address).await.unwrap();
        idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut first = [0; 8];
        idle.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1");
        stop.cancel();
        server.await.unwrap();
    }

    #[tokio::test]
    async fn a_taken_port_is_named() {
        let (address, stop, server) = serving(Pages::Health(Readiness::new())).await;
        let error = AdminServer::bind(address, Pages::Health(Readiness::new())).await.unwrap_err();
        assert!(error.to_string().contains(&address.to_string()), "{error}");
        stop.cancel();
        server.await.unwrap();
    }
}
