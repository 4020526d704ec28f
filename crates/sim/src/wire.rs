//! The wires: between one process and the API server, and the ways on which reviews come to a process. Whatever can go
//! wrong with a request goes wrong here.
//!
//! A request is known by its site (`create pods/eviction`) and by its number among all requests of the run. What is to
//! happen to it is said by a [`Fate`]; whether that was right is the judge's, who sees every request as it arrives.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use embedded_cluster::{ApiService, Cluster};
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, StreamExt as _};
use http::{Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tower::Service;

use crate::judge::{Judge, LAG};

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// 500, and nothing was done.
    Broken,
    /// 409, and nothing was done.
    Conflict,
    /// 429 in plain text, and nothing was done: priority and fairness.
    Overload,
    /// The connection breaks before the request arrives.
    Unsent,
    /// It is done, and the connection breaks before the answer arrives.
    Lost,
    /// It arrives so many milliseconds late.
    Late(u32),
    /// Its answer arrives so many milliseconds late; of a watch, every event.
    LateAnswer(u32),
    /// The process ends before it is sent.
    CrashBefore,
    /// The process ends when it is done, before the answer arrives.
    CrashAfter,
    /// Of a watch: it ends after so many events.
    Cut(u32),
    /// Of a watch: after so many events it is silent for so many milliseconds, and then all that was held back comes at
    /// once. Whatever its process does meanwhile, it does by an old view.
    Held(u32, u32),
    /// Of a watch: every event comes twice.
    Twice,
    /// Of a watch: 410, its revision is too old, which it hears after so many milliseconds.
    Expired(u32),
    /// Of a watch: the API server that is asked is behind the one that was asked before, and does not know the revision yet.
    Behind,
}

impl Fault {
    /// What can go wrong with a request that is no watch.
    pub const OF_REQUESTS: [Self; 9] = [
        Self::Broken,
        Self::Conflict,
        Self::Overload,
        Self::Unsent,
        Self::Lost,
        Self::Late(1_500),
        Self::LateAnswer(1_500),
        Self::CrashBefore,
        Self::CrashAfter,
    ];
    /// What can go wrong with a review, on the way to a process and back.
    pub const OF_REVIEWS: [Self; 6] =
        [Self::Unsent, Self::Lost, Self::Late(1_500), Self::LateAnswer(1_500), Self::CrashBefore, Self::CrashAfter];
    /// What can go wrong with a watch.
    pub const OF_WATCHES: [Self; 11] = [
        Self::Broken,
        Self::Unsent,
        Self::Late(15_000),
        Self::LateAnswer(1_500),
        Self::Cut(0),
        Self::Cut(3),
        Self::Held(1, 20_000),
        Self::Twice,
        Self::Expired(0),
        Self::Expired(20_000),
        Self::Behind,
    ];
    /// What can go wrong with a list: it is refused or lost, and what it shows is old when it comes.
    pub const OF_LISTS: [Self; 7] = [
        Self::Broken,
        Self::Overload,
        Self::Unsent,
        Self::Lost,
        Self::LateAnswer(15_000),
        Self::CrashBefore,
        Self::CrashAfter,
    ];
}

impl Fault {
    /// Whether the process ends by it.
    pub const fn is_crash(self) -> bool {
        matches!(self, Self::CrashBefore | Self::CrashAfter)
    }
}

/// The site of a review that comes from the API server.
pub const ADMIT: &str = "review pods";
/// The site of a review that comes from another process.
pub const ASK: &str = "review pods of others";

/// A request, as far as its fate may depend on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Its number among all requests of the run, from 1.
    pub number: u64,
    /// The number of the process.
    pub process: u32,
    /// Verb and resource, as `create pods/eviction`.
    pub site: String,
    /// Empty outside namespaces.
    pub namespace: String,
    /// Empty of a collection.
    pub name: String,
}

impl Call {
    /// Whether it is a watch.
    pub fn is_watch(&self) -> bool {
        self.site.starts_with("watch ")
    }

    /// Whether it is a list.
    pub fn is_list(&self) -> bool {
        self.site.starts_with("list ")
    }

    /// Whether it is about who leads.
    pub fn is_about_the_lease(&self) -> bool {
        self.site.ends_with(" leases")
    }

    /// Whether it is a review, from the API server or from another process.
    pub fn is_review(&self) -> bool {
        self.site == ADMIT || self.site == ASK
    }

    /// What can go wrong with it.
    pub fn faults(&self) -> &'static [Fault] {
        if self.is_review() {
            &Fault::OF_REVIEWS
        } else if self.is_watch() {
            &Fault::OF_WATCHES
        } else if self.is_list() {
            &Fault::OF_LISTS
        } else {
            &Fault::OF_REQUESTS
        }
    }

    /// Whether something is written.
    pub fn is_write(&self) -> bool {
        !["get ", "list ", "watch "].iter().any(|verb| self.site.starts_with(verb))
    }

    fn of(process: u32, number: u64, request: &http::request::Parts) -> Self {
        let mut words = request.uri.path().split('/').filter(|word| !word.is_empty());
        // `/api/v1` or `/apis/GROUP/VERSION`
        let skipped = if words.next() == Some("api") { 1 } else { 2 };
        let mut words = words.skip(skipped).peekable();
        let mut namespace = "";
        let mut first = words.next().unwrap_or_default();
        if first == "namespaces" {
            let name = words.next();
            match (name, words.peek()) {
                (Some(name), Some(_)) => {
                    namespace = name;
                    first = words.next().unwrap_or_default();
                }
                (name, _) => return Self::at(process, number, request, "namespaces", "", name.unwrap_or_default()),
            }
        }
        let name = words.next().unwrap_or_default();
        let resource = words.next().map_or_else(|| first.to_owned(), |subresource| format!("{first}/{subresource}"));
        Self::at(process, number, request, &resource, namespace, name)
    }

    fn at(
        process: u32,
        number: u64,
        request: &http::request::Parts,
        resource: &str,
        namespace: &str,
        name: &str,
    ) -> Self {
        let watches = request.uri.query().is_some_and(|query| query.split('&').any(|word| word.starts_with("watch=")));
        let verb = match request.method {
            Method::GET if watches => "watch",
            Method::GET if name.is_empty() => "list",
            Method::GET => "get",
            Method::POST => "create",
            Method::PUT => "update",
            Method::PATCH => "patch",
            Method::DELETE => "delete",
            _ => "other",
        };
        let site = format!("{verb} {resource}");
        Self { number, process, site, namespace: namespace.to_owned(), name: name.to_owned() }
    }
}

/// Says what goes wrong.
pub trait Fate: Send {
    /// With this request.
    fn of(&mut self, call: &Call) -> Option<Fault>;
}

/// Numbers the requests of a run, and knows what goes wrong with which. Clones are the same.
#[derive(Clone)]
pub struct Requests(Arc<Mutex<State>>);

struct State {
    calls: u64,
    fate: Box<dyn Fate>,
    happened: Vec<(Call, Fault)>,
    sites: Vec<Call>,
    /// Processes that nobody reaches and that reach nobody, and until when.
    cut_off: BTreeMap<u32, Instant>,
    /// Processes of which a watch is held back: since when, and until when.
    held: Vec<(u32, Instant, Instant)>,
}

impl Requests {
    /// None yet.
    pub fn new(fate: Box<dyn Fate>) -> Self {
        Self(Arc::new(Mutex::new(State {
            calls: 0,
            fate,
            happened: Vec::new(),
            sites: Vec::new(),
            cut_off: BTreeMap::new(),
            held: Vec::new(),
        })))
    }

    /// Nothing goes wrong from now on. What lasts still ends in its time.
    pub fn calm(&self) {
        self.0.lock().fate = Box::new(Calm);
    }

    /// A process reaches nobody and is reached by nobody for that long. Its watches are silent, and go on afterwards.
    pub fn cut_off(&self, process: u32, length: Duration) {
        self.0.lock().cut_off.insert(process, Instant::now() + length);
    }

    /// A watch of a process is held back from now on; until when.
    fn hold(&self, process: u32, length: Duration) -> Instant {
        let now = Instant::now();
        self.0.lock().held.push((process, now, now + length));
        now + length
    }

    /// By how much longer than usual a process may not have seen what happened: a watch of it is held back, or was within
    /// this time.
    fn held_back(&self, process: u32, within: Duration) -> Duration {
        let now = Instant::now();
        let state = self.0.lock();
        let of = state.held.iter().filter(|(whose, _, until)| *whose == process && *until + within > now);
        of.map(|(_, since, _)| now - *since).max().unwrap_or_default()
    }

    /// Until when a process reaches nobody.
    fn cut_off_until(&self, process: u32) -> Option<Instant> {
        self.0.lock().cut_off.get(&process).copied().filter(|until| *until > Instant::now())
    }

    /// What went wrong so far, and with which request.
    pub fn happened(&self) -> Vec<(Call, Fault)> {
        self.0.lock().happened.clone()
    }

    /// All requests so far.
    pub fn calls(&self) -> Vec<Call> {
        self.0.lock().sites.clone()
    }

    fn meet(&self, call: impl FnOnce(u64) -> Call) -> (Call, Option<Fault>) {
        let mut state = self.0.lock();
        state.calls += 1;
        let call = call(state.calls);
        let fault = state.fate.of(&call);
        state.sites.push(call.clone());
        if let Some(fault) = fault {
            state.happened.push((call.clone(), fault));
        }
        (call, fault)
    }

    /// A review on its way to a process, and its answer on the way back. Absent, nobody hears of an answer. Whether it
    /// was decided on is another matter.
    pub async fn carry<R>(
        &self,
        site: &str,
        process: u32,
        dead: &CancellationToken,
        answer: impl Future<Output = R>,
    ) -> Option<R> {
        let (site, namespace, name) = (site.to_owned(), String::new(), String::new());
        let (_, fault) = self.meet(|number| Call { number, process, site, namespace, name });
        if self.cut_off_until(process).is_some() {
            return None;
        }
        let carried = async {
            match fault {
                Some(
                    Fault::Unsent
                    | Fault::Broken
                    | Fault::Conflict
                    | Fault::Overload
                    | Fault::Expired(_)
                    | Fault::Behind
                    | Fault::Held(..),
                ) => None,
                Some(Fault::Lost | Fault::Cut(_)) => {
                    answer.await;
                    None
                }
                Some(Fault::Late(millis)) => {
                    sleep(Duration::from_millis(millis.into())).await;
                    Some(answer.await)
                }
                Some(Fault::LateAnswer(millis)) => {
                    let answer = answer.await;
                    sleep(Duration::from_millis(millis.into())).await;
                    Some(answer)
                }
                Some(Fault::CrashBefore) => {
                    dead.cancel();
                    None
                }
                Some(Fault::CrashAfter) => {
                    answer.await;
                    dead.cancel();
                    None
                }
                Some(Fault::Twice) | None => Some(answer.await),
            }
        };
        dead.run_until_cancelled(carried).await.flatten()
    }
}

/// What all wires of a run share. Clones are the same.
#[derive(Clone)]
pub struct Exchange {
    cluster: Cluster,
    requests: Requests,
    judge: Option<Judge>,
}

impl Exchange {
    /// Between processes and this cluster. Without a judge, whatever is done is right.
    pub const fn new(cluster: Cluster, judge: Option<Judge>, requests: Requests) -> Self {
        Self { cluster, requests, judge }
    }

    /// A wire for a process. It is cut when `dead` is cancelled, and cancels it itself where the process is to crash.
    pub fn wire(&self, process: u32, dead: CancellationToken) -> Wire {
        Wire { api: self.cluster.service(), exchange: self.clone(), process, dead }
    }
}

/// Nothing goes wrong.
#[derive(Clone, Copy, Debug)]
pub struct Calm;

impl Fate for Calm {
    fn of(&mut self, _: &Call) -> Option<Fault> {
        None
    }
}

/// One process's way to the API server. Clones are the same.
#[derive(Clone)]
pub struct Wire {
    api: ApiService,
    exchange: Exchange,
    process: u32,
    dead: CancellationToken,
}

type Answer = UnsyncBoxBody<Bytes, io::Error>;

fn broken() -> io::Error {
    io::Error::from(io::ErrorKind::ConnectionReset)
}

impl Service<Request<kube::client::Body>> for Wire {
    type Response = Response<Answer>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Response<Answer>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<kube::client::Body>) -> Self::Future {
        let (wire, dead) = (self.clone(), self.dead.clone());
        Box::pin(async move { dead.run_until_cancelled(wire.carry(request)).await.unwrap_or_else(|| Err(broken())) })
    }
}

impl Wire {
    async fn carry(self, request: Request<kube::client::Body>) -> io::Result<Response<Answer>> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        let process = self.process;
        let (call, fault) = self.exchange.requests.meet(|number| Call::of(process, number, &parts));
        let request = Request::from_parts(parts, Full::new(body.clone()));
        if self.is_cut_off() {
            return Err(broken());
        }
        let answer = self.meet_fate(fault, &call, request, &body).await?;
        // Nor does what was done already come back.
        if self.is_cut_off() { Err(broken()) } else { Ok(answer) }
    }

    fn is_cut_off(&self) -> bool {
        self.exchange.requests.cut_off_until(self.process).is_some()
    }

    async fn meet_fate(
        &self,
        fault: Option<Fault>,
        call: &Call,
        request: Request<Full<Bytes>>,
        body: &Bytes,
    ) -> io::Result<Response<Answer>> {
        match fault {
            None => self.forward(call, request, body).await,
            Some(Fault::Broken) => Ok(status(500, "InternalError", "etcdserver: request timed out")),
            Some(Fault::Conflict) => Ok(status(409, "Conflict", "the object has been modified")),
            Some(Fault::Overload) => Ok(overload()),
            Some(Fault::Unsent) => Err(broken()),
            Some(Fault::Lost) => {
                self.forward(call, request, body).await?;
                Err(broken())
            }
            Some(Fault::Late(millis)) => {
                let late = Duration::from_millis(millis.into());
                sleep(late).await;
                self.forward_late(call, request, body, late).await
            }
            Some(Fault::LateAnswer(millis)) => {
                let late = Duration::from_millis(millis.into());
                let response = self.forward(call, request, body).await?;
                if call.is_watch() {
                    return Ok(response.map(|body| lagging(body, late)));
                }
                sleep(late).await;
                Ok(response)
            }
            Some(Fault::CrashBefore) => self.die().await,
            Some(Fault::CrashAfter) => {
                self.forward(call, request, body).await?;
                self.die().await
            }
            Some(Fault::Cut(events)) => {
                let response = self.forward(call, request, body).await?;
                Ok(response.map(|body| streaming(frames(body).take(events as usize).boxed())))
            }
            Some(Fault::Twice) => {
                let response = self.forward(call, request, body).await?;
                let twice = |piece: io::Result<Bytes>| match piece {
                    Ok(bytes) => stream::iter([Ok(bytes.clone()), Ok(bytes)]).left_stream(),
                    Err(error) => stream::iter([Err(error)]).right_stream(),
                };
                Ok(response.map(|body| streaming(frames(body).flat_map(twice).boxed())))
            }
            Some(Fault::Held(events, millis)) => {
                let response = self.forward(call, request, body).await?;
                let (requests, process) = (self.exchange.requests.clone(), self.process);
                let length = Duration::from_millis(millis.into());
                Ok(response.map(|body| held(body, events, move || requests.hold(process, length))))
            }
            Some(Fault::Expired(millis)) => {
                sleep(Duration::from_millis(millis.into())).await;
                Ok(status(410, "Expired", "too old resource version"))
            }
            Some(Fault::Behind) => Ok(behind()),
        }
    }

    async fn forward(&self, call: &Call, request: Request<Full<Bytes>>, body: &Bytes) -> io::Result<Response<Answer>> {
        self.forward_late(call, request, body, Duration::ZERO).await
    }

    /// It arrives so much later than it was sent, and the judge sees it arrive.
    async fn forward_late(
        &self,
        call: &Call,
        request: Request<Full<Bytes>>,
        body: &Bytes,
        late: Duration,
    ) -> io::Result<Response<Answer>> {
        let judge = self.exchange.judge.as_ref();
        let verdict = judge.map(|judge| {
            let held_back = self.exchange.requests.held_back(self.process, LAG + late);
            judge.arrives(call, body, held_back + late)
        });
        let response = self.api.clone().call(request).await.map_err(io::Error::other)?;
        if let (Some(judge), Some(verdict)) = (judge, verdict) {
            judge.is_done(verdict, call, response.status().as_u16());
        }
        let dead = self.dead.clone();
        Ok(response.map(|body| {
            if call.is_watch() {
                let pieces = body.map_err(|never| match never {}).into_data_stream();
                let (requests, process) = (self.exchange.requests.clone(), self.process);
                let arriving = pieces.then(move |piece| {
                    let requests = requests.clone();
                    async move {
                        while let Some(until) = requests.cut_off_until(process) {
                            sleep_until(until).await;
                        }
                        piece
                    }
                });
                streaming(arriving.take_until(async move { dead.cancelled().await }).boxed())
            } else {
                body.map_err(|never| match never {}).boxed_unsync()
            }
        }))
    }

    async fn die(&self) -> io::Result<Response<Answer>> {
        self.dead.cancel();
        std::future::pending().await
    }
}

fn frames(body: Answer) -> BoxStream<'static, io::Result<Bytes>> {
    body.into_data_stream().boxed()
}

fn streaming(pieces: BoxStream<'static, io::Result<Bytes>>) -> Answer {
    StreamBody::new(pieces.map(|piece| piece.map(Frame::data))).boxed_unsync()
}

/// Every piece comes so much later than it was sent, in order; also while nobody asks for the next.
fn lagging(body: Answer, late: Duration) -> Answer {
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut pieces = frames(body);
        loop {
            tokio::select! {
                biased;
                () = sender.closed() => return,
                piece = pieces.next() => {
                    let Some(piece) = piece else { return };
                    if sender.send((Instant::now() + late, piece)).is_err() {
                        return;
                    }
                }
            }
        }
    });
    let later = stream::unfold(receiver, |mut receiver| async move {
        let (due, piece) = receiver.recv().await?;
        sleep_until(due).await;
        Some((piece, receiver))
    });
    streaming(later.boxed())
}

/// After so many pieces nothing comes until the time that `hold` says when the last of them has come.
fn held(body: Answer, events: u32, hold: impl FnOnce() -> Instant + Send + 'static) -> Answer {
    let pieces = frames(body);
    let later = stream::unfold((pieces, events, Some(hold)), |(mut pieces, left, hold)| async move {
        match (left, hold) {
            (0, Some(hold)) => {
                sleep_until(hold()).await;
                Some((pieces.next().await?, (pieces, 0, None)))
            }
            (left, hold) => Some((pieces.next().await?, (pieces, left.saturating_sub(1), hold))),
        }
    });
    streaming(later.boxed())
}

fn status(code: u16, reason: &str, message: &str) -> Response<Answer> {
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
        "reason": reason, "code": code});
    answer(code, &status)
}

/// As `NewTooLargeResourceVersionError` of k8s.io/apiserver's storage errors.
fn behind() -> Response<Answer> {
    let causes = json!([{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]);
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": 504,
        "reason": "Timeout", "message": "Timeout: Too large resource version",
        "details": {"causes": causes, "retryAfterSeconds": 1}});
    answer(504, &status)
}

fn answer(code: u16, body: &Value) -> Response<Answer> {
    let body = Full::new(Bytes::from(body.to_string())).map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(code).expect("a code of our own making");
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    response
}

fn overload() -> Response<Answer> {
    let text = "Too many requests, please try again later.";
    let mut response = Response::new(Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
    response.headers_mut().insert(http::header::RETRY_AFTER, http::HeaderValue::from_static("1"));
    response
}
