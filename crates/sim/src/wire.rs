//! The wires between a process and the API server. Whatever can go wrong with a request goes wrong here, as its fate says;
//! whether the request was right is the judge's, who sees each as it is sent, as it is done, and when its sender hears of that.

use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use embedded_cluster::{ApiService, Cluster};
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, StreamExt as _};
use http::{Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tower::Service;

use crate::fault::{Call, Fault, target};
use crate::judge::Judge;
use crate::requests::{Delayed, Requests};

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
        let requests = &self.exchange.requests;
        let (call, fault) = requests.meet(self.process, target(&parts));
        // Whether it was right does not depend on what becomes of it.
        let act = self.exchange.judge.as_ref().and_then(|judge| judge.is_sent(&call, &body));
        let request = Request::from_parts(parts, Full::new(body));
        if requests.is_cut_off(self.process).await {
            return Err(broken());
        }
        let answer = self.meet_fate(fault, &call, request).await?;
        // Nor does what was done already come back.
        if requests.is_cut_off(self.process).await {
            return Err(broken());
        }
        if let Some(act) = act {
            act.hear();
        }
        Ok(answer)
    }

    async fn meet_fate(
        &self,
        fault: Option<Fault>,
        call: &Call,
        request: Request<Full<Bytes>>,
    ) -> io::Result<Response<Answer>> {
        match fault {
            None => self.forward(call, request).await,
            Some(Fault::Broken) => Ok(status(500, "InternalError", "etcdserver: request timed out")),
            Some(Fault::Conflict) => Ok(status(409, "Conflict", "the object has been modified")),
            Some(Fault::Overload) => Ok(overload()),
            Some(Fault::Unsent) => Err(broken()),
            Some(Fault::Lost) => {
                self.forward(call, request).await?;
                Err(broken())
            }
            Some(Fault::Hang) => {
                self.forward(call, request).await?;
                std::future::pending().await
            }
            Some(Fault::Late(millis)) => self.forward_late(call, request, Duration::from_millis(millis.into())).await,
            Some(Fault::LateAnswer(millis)) => {
                let late = Duration::from_millis(millis.into());
                let response = self.forward(call, request).await?;
                if call.is_watch() {
                    let delayed = self.exchange.requests.delay(self.process, call.resource(), Some(late));
                    return Ok(response.map(|body| lagging(body, late, delayed)));
                }
                sleep(late).await;
                Ok(response)
            }
            Some(Fault::CrashBefore) => self.die().await,
            Some(Fault::CrashAfter) => {
                self.forward(call, request).await?;
                self.die().await
            }
            Some(Fault::Cut(events)) => {
                let response = self.forward(call, request).await?;
                Ok(response.map(|body| streaming(frames(body).take(events as usize).boxed())))
            }
            Some(Fault::Twice) => {
                let response = self.forward(call, request).await?;
                let twice = |piece: io::Result<Bytes>| match piece {
                    Ok(bytes) => stream::iter([Ok(bytes.clone()), Ok(bytes)]).left_stream(),
                    Err(error) => stream::iter([Err(error)]).right_stream(),
                };
                Ok(response.map(|body| streaming(frames(body).flat_map(twice).boxed())))
            }
            Some(Fault::Held(events, millis)) => {
                let response = self.forward(call, request).await?;
                let (requests, process, resource) =
                    (self.exchange.requests.clone(), self.process, call.resource().to_owned());
                let begin = move || requests.delay(process, &resource, None);
                Ok(response.map(|body| held(body, events, Duration::from_millis(millis.into()), begin)))
            }
            Some(Fault::Expired(millis)) => {
                sleep(Duration::from_millis(millis.into())).await;
                Ok(status(410, "Expired", "too old resource version"))
            }
            Some(Fault::Behind) => Ok(behind()),
        }
    }

    async fn forward(&self, call: &Call, request: Request<Full<Bytes>>) -> io::Result<Response<Answer>> {
        self.forward_late(call, request, Duration::ZERO).await
    }

    /// It arrives so much later than it was sent. What writes arrives whatever has become of its sender.
    async fn forward_late(
        &self,
        call: &Call,
        request: Request<Full<Bytes>>,
        late: Duration,
    ) -> io::Result<Response<Answer>> {
        let (mut api, judge, number) = (self.api.clone(), self.exchange.judge.clone(), call.number);
        let arrives = async move {
            sleep(late).await;
            let response = api.call(request).await;
            if let (Some(judge), Ok(response)) = (judge, &response) {
                judge.is_done(number, response.status().as_u16());
            }
            response
        };
        let response =
            if call.is_write() { tokio::spawn(arrives).await.map_err(io::Error::other)? } else { arrives.await };
        Ok(response.map_err(io::Error::other)?.map(|body| self.arriving(call, body)))
    }

    /// What an answer consists of, as it comes in.
    fn arriving<E>(&self, call: &Call, body: impl Body<Data = Bytes, Error = E> + Send + 'static) -> Answer
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>> + 'static,
    {
        let body = body.map_err(io::Error::other);
        if !call.is_watch() {
            return body.boxed_unsync();
        }
        let (requests, process, dead) = (self.exchange.requests.clone(), self.process, self.dead.clone());
        let reached = body.into_data_stream().then(move |piece| {
            let requests = requests.clone();
            async move {
                requests.reached(process).await;
                piece
            }
        });
        streaming(reached.take_until(async move { dead.cancelled().await }).boxed())
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
fn lagging(body: Answer, late: Duration, delayed: Delayed) -> Answer {
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
    let later = stream::unfold((receiver, delayed), |(mut receiver, delayed)| async move {
        let (due, piece) = receiver.recv().await?;
        sleep_until(due).await;
        Some((piece, (receiver, delayed)))
    });
    streaming(later.boxed())
}

/// After so many pieces nothing comes for that long; `begin` is called when the last of them has come.
fn held(body: Answer, events: u32, length: Duration, begin: impl FnOnce() -> Delayed + Send + 'static) -> Answer {
    let pieces = frames(body);
    let later = stream::unfold((pieces, events, Some(begin)), move |(mut pieces, left, begin)| async move {
        match (left, begin) {
            (0, Some(begin)) => {
                let delayed = begin();
                sleep(length).await;
                drop(delayed);
                Some((pieces.next().await?, (pieces, 0, None)))
            }
            (left, begin) => Some((pieces.next().await?, (pieces, left.saturating_sub(1), begin))),
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
