//! The HTTPS listener: one path, one method, HTTP/1.1 on TLS 1.2 or 1.3, and a limit on everything a client may take.
//!
//! Nothing here reads a body's meaning. A connection holds a place only as long as it is of use: where all places are
//! taken, a new connection gets that of one which waits for a request, first of one that never sent any. So a flood of
//! idle or slow connections pushes out itself, and connections on which the API server works stay. Time limits are kept
//! where bytes are read and written, because hyper's only one cannot tell a slow header from an idle connection.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::Future;
use std::io::{self, ErrorKind, IoSlice};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Room for the head of a request: the API server's has a few hundred bytes.
const HEAD_BYTES: usize = 64 * 1024;

/// How long to leave the listener alone when the system cannot give another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What a client may take, and how long things may last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open connections.
    pub connections: usize,
    /// Size of a request's body; 413 above.
    pub body_bytes: usize,
    /// From accepting a connection to the end of the TLS handshake.
    pub handshake: Duration,
    /// From a request's first byte, or from the handshake, to the end of its head.
    pub head: Duration,
    /// From the end of the head to the end of the body; 408 after.
    pub body: Duration,
    /// Between two requests. Longer than the 90 s after which Go's HTTP client closes idle connections itself, so that
    /// no request of the API server meets a connection that is just being closed.
    pub idle: Duration,
    /// For a client to take what was written.
    pub write: Duration,
    /// After shutdown was asked for: how long new connections are still accepted and served. Each connection is told to
    /// close with its next answer, since a POST on a connection that closes unasked is lost (Go repeats it only if
    /// nothing was written).
    pub grace: Duration,
    /// After the grace: how long requests under way may last.
    pub completion: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 512,
            body_bytes: 3 * 1024 * 1024,
            handshake: Duration::from_secs(5),
            head: Duration::from_secs(5),
            body: Duration::from_secs(5),
            idle: Duration::from_mins(2),
            write: Duration::from_secs(5),
            grace: Duration::from_secs(5),
            completion: Duration::from_secs(10),
        }
    }
}

/// Answers requests; a function from request to future is one.
pub trait Handler: Send + Sync + 'static {
    /// The answer to a request whose body is complete and within its limit.
    fn answer(&self, request: Request<Bytes>) -> impl Future<Output = Response<Bytes>> + Send;
}

impl<F, A> Handler for F
where
    F: Fn(Request<Bytes>) -> A + Send + Sync + 'static,
    A: Future<Output = Response<Bytes>> + Send,
{
    fn answer(&self, request: Request<Bytes>) -> impl Future<Output = Response<Bytes>> + Send {
        self(request)
    }
}

/// Why there is no listener.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}; is the port taken, or below 1024 without the right to it?")]
pub struct BindError {
    /// The address that was asked for.
    pub address: SocketAddr,
    /// What the system said.
    pub source: io::Error,
}

/// A port that is held, and not served yet.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// Takes the port.
    pub async fn bind(address: SocketAddr) -> Result<Self, BindError> {
        let bind = async {
            let socket = TcpListener::bind(address).await?;
            let address = socket.local_addr()?;
            Ok(Self { socket, address })
        };
        bind.await.map_err(|source| BindError { address, source })
    }

    /// The address, with the port that was found where none was asked for.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves POSTs to `path` until some time after `shutdown`: [`Limits::grace`] for clients to go elsewhere, then
    /// [`Limits::completion`] for what is under way. `tls` is asked for every connection.
    pub async fn serve<H: Handler>(
        self,
        path: &'static str,
        handler: H,
        tls: impl Fn() -> Arc<ServerConfig> + Send + Sync,
        limits: Limits,
        shutdown: CancellationToken,
    ) {
        let endpoint = Arc::new(Endpoint {
            path,
            handler,
            limits,
            places: Places::new(limits.connections),
            leaving: shutdown.clone(),
            closing: CancellationToken::new(),
            aborting: CancellationToken::new(),
        });
        let connections = TaskTracker::new();
        let mut grace_over = pin!(async {
            shutdown.cancelled().await;
            sleep(limits.grace).await;
        });
        loop {
            let accepted = tokio::select! {
                biased;
                () = &mut grace_over => break,
                accepted = self.socket.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    if let Some(place) = endpoint.places.take() {
                        connections.spawn(connection(stream, TlsAcceptor::from(tls()), place, endpoint.clone()));
                    }
                }
                Err(error) if concerns_one_connection(&error) => tracing::debug!(%error, "connection not accepted"),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept connections");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(self.socket);
        endpoint.closing.cancel();
        connections.close();
        if timeout(limits.completion, connections.wait()).await.is_err() {
            endpoint.aborting.cancel();
            connections.wait().await;
        }
    }
}

fn concerns_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionRefused
            | ErrorKind::Interrupted
    )
}

/// What all connections of a listener share.
struct Endpoint<H> {
    path: &'static str,
    handler: H,
    limits: Limits,
    places: Places,
    /// Answers say `Connection: close`.
    leaving: CancellationToken,
    /// Connections without a request under way close.
    closing: CancellationToken,
    /// All connections close.
    aborting: CancellationToken,
}

async fn connection<H: Handler>(stream: TcpStream, tls: TlsAcceptor, place: Place, endpoint: Arc<Endpoint<H>>) {
    let place = Arc::new(place);
    let served = serve_connection(stream, tls, &place, &endpoint);
    let outcome = tokio::select! {
        biased;
        outcome = served => outcome,
        () = place.lost() => Err("its place went to another connection".into()),
        () = endpoint.aborting.cancelled() => Err("still busy when the time for completion was over".into()),
    };
    if let Err(error) = outcome {
        tracing::debug!(error, "connection ended");
    }
}

async fn serve_connection<H: Handler>(
    stream: TcpStream,
    tls: TlsAcceptor,
    place: &Arc<Place>,
    endpoint: &Arc<Endpoint<H>>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    // Answers are small and whole: waiting for more to send would only delay them.
    stream.set_nodelay(true)?;
    let stream = timeout(endpoint.limits.handshake, tls.accept(stream)).await??;
    let phase = Arc::new(Phase::new());
    let stream = Timed::new(stream, phase.clone(), endpoint.limits);
    let service = service_fn(|request| {
        let (place, phase, endpoint) = (place.clone(), phase.clone(), endpoint.clone());
        async move {
            phase.request();
            place.busy();
            let answer = endpoint.answer(request).await;
            place.idle();
            phase.wait();
            Ok::<_, Infallible>(answer)
        }
    });
    let connection = http1::Builder::new()
        .header_read_timeout(None)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    tokio::select! {
        biased;
        outcome = connection.as_mut() => return Ok(outcome?),
        () = endpoint.closing.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    Ok(connection.await?)
}

impl<H: Handler> Endpoint<H> {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let mut answer = match self.receive(request).await {
            Ok(request) => self.handler.answer(request).await,
            Err(refusal) => refusal.into_response(),
        };
        if self.leaving.is_cancelled() {
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        answer.map(Full::new)
    }

    async fn receive(&self, request: Request<Incoming>) -> Result<Request<Bytes>, Refusal> {
        if request.uri().path() != self.path {
            return Err(Refusal::Path);
        }
        if request.method() != Method::POST {
            return Err(Refusal::Method);
        }
        let (parts, body) = request.into_parts();
        let body = timeout(self.limits.body, collect(body, self.limits.body_bytes)).await;
        Ok(Request::from_parts(parts, body.map_err(|_| Refusal::BodyTooSlow)??))
    }
}

/// The whole body. One that comes in one piece, as most do, is not copied.
async fn collect(mut body: Incoming, limit: usize) -> Result<Bytes, Refusal> {
    if body.size_hint().lower() > u64::try_from(limit).unwrap_or(u64::MAX) {
        return Err(Refusal::BodyTooLarge);
    }
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Refusal::BodyBroken)?.into_data() else { continue };
        if first.len().max(all.len()) + data.len() > limit {
            return Err(Refusal::BodyTooLarge);
        }
        if first.is_empty() && all.is_empty() {
            first = data;
        } else {
            all.extend_from_slice(&std::mem::take(&mut first));
            all.extend_from_slice(&data);
        }
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}

/// Why a request does not reach the handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    Path,
    Method,
    BodyTooLarge,
    BodyTooSlow,
    BodyBroken,
}

impl Refusal {
    fn into_response(self) -> Response<Bytes> {
        let (status, reason) = match self {
            Self::Path => (StatusCode::NOT_FOUND, "no such path\n"),
            Self::Method => (StatusCode::METHOD_NOT_ALLOWED, "only POST\n"),
            Self::BodyTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "the body is too large\n"),
            Self::BodyTooSlow => (StatusCode::REQUEST_TIMEOUT, "the body did not come in time\n"),
            Self::BodyBroken => (StatusCode::BAD_REQUEST, "the body is broken off\n"),
        };
        let mut response = Response::new(Bytes::from_static(reason.as_bytes()));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        match self {
            Self::Path => {}
            Self::Method => {
                headers.insert(ALLOW, HeaderValue::from_static("POST"));
            }
            Self::BodyTooLarge | Self::BodyTooSlow | Self::BodyBroken => {
                headers.insert(CONNECTION, HeaderValue::from_static("close"));
            }
        }
        response
    }
}

/// Who may be connected at the same time.
#[derive(Clone)]
struct Places(Arc<Mutex<Seating>>);

struct Seating {
    limit: usize,
    /// A counter for ids and for the order of waiting.
    last: u64,
    taken: BTreeMap<u64, Seat>,
    /// Ids of the connections without a request under way: those that never had one come first, then in order of
    /// waiting.
    waiting: BTreeMap<(bool, u64), u64>,
}

struct Seat {
    /// The key in `waiting`, while it is there.
    waits_as: Option<(bool, u64)>,
    lost: Arc<Notify>,
}

impl Places {
    fn new(limit: usize) -> Self {
        Self(Arc::new(Mutex::new(Seating { limit, last: 0, taken: BTreeMap::new(), waiting: BTreeMap::new() })))
    }

    /// A place for a new connection; `None` while each is taken by a request under way.
    fn take(&self) -> Option<Place> {
        let mut seating = self.0.lock();
        if seating.taken.len() >= seating.limit {
            let (_, id) = seating.waiting.pop_first()?;
            if let Some(Seat { waits_as: _, lost }) = seating.taken.remove(&id) {
                lost.notify_one();
            }
        }
        let id = seating.count();
        let waits_as = (false, id);
        let lost = Arc::new(Notify::new());
        seating.waiting.insert(waits_as, id);
        seating.taken.insert(id, Seat { waits_as: Some(waits_as), lost: lost.clone() });
        Some(Place { id, lost, places: self.clone() })
    }
}

impl Seating {
    fn count(&mut self) -> u64 {
        self.last += 1;
        self.last
    }
}

/// The place of one connection, until it is dropped or [lost](Self::lost).
struct Place {
    id: u64,
    lost: Arc<Notify>,
    places: Places,
}

impl Place {
    /// Returns when the place was given to another connection; never while [busy](Self::busy).
    async fn lost(&self) {
        self.lost.notified().await;
    }

    /// A request is under way.
    fn busy(&self) {
        let seating = &mut *self.places.0.lock();
        if let Some(waited_as) = seating.taken.get_mut(&self.id).and_then(|seat| seat.waits_as.take()) {
            seating.waiting.remove(&waited_as);
        }
    }

    /// Waiting for the next request.
    fn idle(&self) {
        let seating = &mut *self.places.0.lock();
        let waits_as = (true, seating.count());
        if let Some(seat) = seating.taken.get_mut(&self.id) {
            seat.waits_as = Some(waits_as);
            seating.waiting.insert(waits_as, self.id);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let seating = &mut *self.places.0.lock();
        if let Some(Seat { waits_as: Some(waits_as), lost: _ }) = seating.taken.remove(&self.id) {
            seating.waiting.remove(&waits_as);
        }
    }
}

/// What a connection is about, for the one who reads its bytes: a counter of requests, and in the two lowest bits
/// whether it waits for a request, is amid the head of one, or has one under way.
struct Phase(AtomicU64);

impl Phase {
    const WAITING: u64 = 0;
    const HEAD: u64 = 1;
    const REQUEST: u64 = 2;
    const KIND: u64 = 3;

    /// A fresh connection has opened to send a request at once.
    const fn new() -> Self {
        Self(AtomicU64::new(Self::HEAD))
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn set(&self, phase: u64) {
        self.0.store(phase, Ordering::Relaxed);
    }

    fn bytes_arrived(&self) {
        let phase = self.get();
        if phase & Self::KIND == Self::WAITING {
            self.set(phase | Self::HEAD);
        }
    }

    fn request(&self) {
        self.set((self.get() & !Self::KIND) | Self::REQUEST);
    }

    fn wait(&self) {
        self.set((self.get() & !Self::KIND) + Self::KIND + 1 + Self::WAITING);
    }
}

/// A stream on which reading and writing fail when they take too long for the connection's phase.
struct Timed<S> {
    inner: S,
    phase: Arc<Phase>,
    limits: Limits,
    read_deadline: Pin<Box<Sleep>>,
    /// The phase for which `read_deadline` was set.
    deadline_of: Option<u64>,
    /// Set while a write makes no progress.
    write_deadline: Option<Pin<Box<Sleep>>>,
}

impl<S> Timed<S> {
    fn new(inner: S, phase: Arc<Phase>, limits: Limits) -> Self {
        let read_deadline = Box::pin(sleep(limits.head));
        Self { inner, phase, limits, read_deadline, deadline_of: None, write_deadline: None }
    }

    /// Nothing to read. While a request is under way its body has its own limit, and the client may as well be silent.
    fn poll_read_deadline(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let phase = self.phase.get();
        let limit = match phase & Phase::KIND {
            Phase::WAITING => self.limits.idle,
            Phase::HEAD => self.limits.head,
            _ => return Poll::Pending,
        };
        if self.deadline_of != Some(phase) {
            self.deadline_of = Some(phase);
            self.read_deadline.as_mut().reset(Instant::now() + limit);
        }
        ready!(self.read_deadline.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(ErrorKind::TimedOut, "no complete request in time")))
    }

    /// What became of a write: when nothing, then only for so long.
    fn poll_write_deadline<T>(&mut self, written: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.write_deadline = None;
            return written;
        }
        let limit = self.limits.write;
        let deadline = self.write_deadline.get_or_insert_with(|| Box::pin(sleep(limit)));
        ready!(deadline.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(ErrorKind::TimedOut, "the answer was not taken in time")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Timed<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        match Pin::new(&mut self.inner).poll_read(cx, buf) {
            Poll::Pending => self.poll_read_deadline(cx),
            done @ Poll::Ready(_) => {
                if buf.filled().len() > before {
                    self.phase.bytes_arrived();
                }
                done
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Timed<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.poll_write_deadline(written, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.poll_write_deadline(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.inner).poll_flush(cx);
        self.poll_write_deadline(flushed, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut_down = Pin::new(&mut self.inner).poll_shutdown(cx);
        self.poll_write_deadline(shut_down, cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    use super::*;

    const LIMITS: Limits = Limits {
        connections: 1,
        body_bytes: 1,
        handshake: Duration::ZERO,
        head: Duration::from_secs(5),
        body: Duration::ZERO,
        idle: Duration::from_mins(2),
        write: Duration::from_secs(7),
        grace: Duration::ZERO,
        completion: Duration::ZERO,
    };

    fn timed() -> (Timed<DuplexStream>, DuplexStream, Arc<Phase>) {
        let (inner, client) = duplex(16);
        let phase = Arc::new(Phase::new());
        (Timed::new(inner, phase.clone(), LIMITS), client, phase)
    }

    async fn seconds_until_timeout(stream: &mut Timed<DuplexStream>) -> u64 {
        let began = Instant::now();
        assert_eq!(stream.read_u8().await.unwrap_err().kind(), ErrorKind::TimedOut);
        began.elapsed().as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_request_must_come_as_fast_as_a_head() {
        let (mut stream, _client, _) = timed();
        assert_eq!(seconds_until_timeout(&mut stream).await, 5);
    }

    #[tokio::test(start_paused = true)]
    async fn trickling_does_not_extend_the_time_for_a_head() {
        let (mut stream, mut client, phase) = timed();
        phase.request();
        phase.wait();
        let began = Instant::now();
        let trickle = async {
            loop {
                sleep(Duration::from_secs(1)).await;
                client.write_u8(b'a').await.unwrap();
            }
        };
        let read = async { while stream.read_u8().await.is_ok() {} };
        tokio::select! {
            () = trickle => unreachable!("it never ends"),
            () = read => {}
        }
        // The first byte comes after a second of waiting, which counts as idle.
        assert_eq!(began.elapsed().as_secs(), 1 + 5);
    }

    #[tokio::test(start_paused = true)]
    async fn each_wait_for_a_request_has_the_whole_idle_time() {
        let (mut stream, _client, phase) = timed();
        for _ in 0..3 {
            phase.request();
            phase.wait();
            assert!(timeout(Duration::from_secs(119), stream.read_u8()).await.is_err());
        }
        phase.request();
        phase.wait();
        assert_eq!(seconds_until_timeout(&mut stream).await, 120);
    }

    #[tokio::test(start_paused = true)]
    async fn while_a_request_is_under_way_the_client_may_be_silent() {
        let (mut stream, _client, phase) = timed();
        phase.request();
        assert!(timeout(Duration::from_hours(1), stream.read_u8()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_must_be_taken_but_not_at_once() {
        let (mut stream, mut client, _) = timed();
        let began = Instant::now();
        let take = async {
            for _ in 0..10 {
                sleep(Duration::from_secs(6)).await;
                client.read_exact(&mut [0; 16]).await.unwrap();
            }
            std::future::pending::<()>().await;
        };
        let write = stream.write_all(&[0; 1000]);
        tokio::select! {
            () = take => unreachable!("it never ends"),
            written = write => assert_eq!(written.unwrap_err().kind(), ErrorKind::TimedOut),
        }
        assert_eq!(began.elapsed().as_secs(), 60 + 7);
    }

    #[test]
    fn places_go_to_those_who_need_them() {
        let places = Places::new(3);
        let lost = |place: &Place| !places.0.lock().taken.contains_key(&place.id);
        let (served, busy, fresh) = (places.take().unwrap(), places.take().unwrap(), places.take().unwrap());
        served.busy();
        served.idle();
        busy.busy();

        // First the one that never sent a request, though the other has waited for longer.
        let second = places.take().unwrap();
        assert_eq!([&served, &busy, &fresh, &second].map(lost), [false, false, true, false]);
        second.busy();
        let third = places.take().unwrap();
        assert_eq!([&served, &busy, &second, &third].map(lost), [true, false, false, false]);
        third.busy();
        assert!(places.take().is_none());

        // What a lost place does no longer matters; a free one can be had.
        served.idle();
        drop(fresh);
        assert!(places.take().is_none());
        drop(busy);
        assert!(places.take().is_some_and(|place| !lost(&place)));
        drop((served, second, third));
        assert!(places.0.lock().taken.is_empty() && places.0.lock().waiting.is_empty());
    }
}
