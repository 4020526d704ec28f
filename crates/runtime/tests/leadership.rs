//! Leadership against an in-memory Lease that answers as an API server does: versions, conflicts, a watch.

#![expect(clippy::unwrap_used, reason = "all of this is a test")]

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use kube::Client;
use kube::client::Body;
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use spotalis_core::election::Timing;
use spotalis_runtime::Clock;
use spotalis_runtime::apiclient::{Call, RateLimit};
use spotalis_runtime::leadership::{Candidate, Leadership, LeadershipMetrics, PEER_ADDRESS};
use spotalis_runtime::writer::{WriteError, Writer};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tower::service_fn;

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);

/// The server: one Lease, and what is wrong with the network.
#[derive(Clone, Default)]
struct Server(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    lease: Option<Value>,
    version: u64,
    watches: Vec<mpsc::UnboundedSender<String>>,
    /// Requests are swallowed.
    hangs: bool,
    /// Writes are applied, and the connection breaks.
    loses_replies: bool,
    requests: Vec<String>,
}

impl Server {
    fn client(&self) -> Client {
        let server = self.clone();
        let service = service_fn(move |request: Request<Body>| {
            let server = server.clone();
            async move { Ok::<_, Infallible>(server.serve(request).await) }
        });
        Client::new(service, "default")
    }

    async fn serve(self, request: Request<Body>) -> Answer {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let query = parts.uri.query().unwrap_or_default();
        self.0.lock().requests.push(format!("{} {}?{query}", parts.method, parts.uri.path()));
        let (hangs, loses_replies) = {
            let state = self.0.lock();
            (state.hangs, state.loses_replies)
        };
        if hangs {
            std::future::pending::<()>().await;
        }
        sleep(MS * 5).await;
        let response = match parts.method {
            Method::GET if query.contains("watch=true") => return self.watch(),
            Method::GET => self.get(),
            Method::POST => self.write(&body, true),
            Method::PATCH => self.write(&body, false),
            method => panic!("{method} is not expected"),
        };
        if loses_replies && parts.method != Method::GET {
            std::future::pending::<()>().await;
        }
        sleep(MS * 5).await;
        response
    }

    fn get(&self) -> Answer {
        match &self.0.lock().lease {
            Some(lease) => answer(200, lease),
            None => failure(404, "NotFound"),
        }
    }

    fn write(&self, body: &Bytes, create: bool) -> Answer {
        let body: Value = serde_json::from_slice(body).unwrap();
        let mut state = self.0.lock();
        let lease = match (&state.lease, create) {
            (None, false) => return failure(404, "NotFound"),
            (Some(_), true) => return failure(409, "AlreadyExists"),
            (None, true) => body,
            (Some(lease), false) => {
                assert!(body["metadata"]["resourceVersion"].is_string(), "a patch without a fence: {body}");
                if lease["metadata"]["resourceVersion"] != body["metadata"]["resourceVersion"] {
                    return failure(409, "Conflict");
                }
                let mut lease = lease.clone();
                merge(&mut lease, &body);
                lease
            }
        };
        answer(if create { 201 } else { 200 }, &state.store(lease))
    }

    fn watch(&self) -> Answer {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut state = self.0.lock();
        if let Some(lease) = &state.lease {
            sender.send(format!("{}\n", json!({"type": "ADDED", "object": lease}))).unwrap();
        }
        state.watches.push(sender);
        let lines = futures::stream::unfold(receiver, |mut receiver| async move {
            let line = receiver.recv().await?;
            Some((Ok::<_, Infallible>(Frame::data(Bytes::from(line))), receiver))
        });
        Response::new(StreamBody::new(lines).boxed_unsync())
    }

    fn lease(&self) -> Value {
        self.0.lock().lease.clone().unwrap()
    }

    fn holder(&self) -> String {
        self.lease()["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned()
    }
}

impl State {
    fn store(&mut self, mut lease: Value) -> Value {
        self.version += 1;
        lease["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.lease = Some(lease.clone());
        let line = format!("{}\n", json!({"type": "MODIFIED", "object": lease}));
        self.watches.retain(|watch| watch.send(line.clone()).is_ok());
        lease
    }
}

fn merge(into: &mut Value, patch: &Value) {
    match (into.as_object_mut(), patch.as_object()) {
        (Some(object), Some(patch)) => {
            for (key, value) in patch {
                if value.is_null() {
                    object.remove(key);
                } else {
                    merge(object.entry(key.clone()).or_insert(json!({})), value);
                }
            }
        }
        _ => *into = patch.clone(),
    }
}

fn answer(code: u16, body: &Value) -> Answer {
    Response::builder().status(code).body(Full::new(Bytes::from(body.to_string())).boxed_unsync()).unwrap()
}

fn failure(code: u16, reason: &str) -> Answer {
    answer(code, &json!({"kind": "Status", "status": "Failure", "message": "no", "reason": reason, "code": code}))
}

struct Replica {
    leadership: Leadership,
    shutdown: CancellationToken,
    campaign: JoinHandle<()>,
    metrics: LeadershipMetrics,
}

fn replica(server: &Server, identity: &str) -> Replica {
    let candidate = Candidate {
        client: server.client(),
        namespace: "spotalis-system".into(),
        lease: "spotalis".into(),
        identity: identity.into(),
        peer_address: Some(format!("{identity}.example:9444")),
        timing: Timing::default(),
    };
    let clock = Clock::starting_at("2026-03-01T12:00:00Z".parse().unwrap());
    let (metrics, shutdown) = (LeadershipMetrics::default(), CancellationToken::new());
    let (leadership, campaign) = Leadership::contend(candidate, clock, metrics.clone(), shutdown.clone());
    Replica { leadership, shutdown, campaign: tokio::spawn(campaign), metrics }
}

/// How long it takes until `replica` leads.
async fn leads(replica: &Replica) -> Duration {
    let start = Instant::now();
    timeout(S * 60, replica.leadership.next_term()).await.expect("it leads within a minute").unwrap();
    start.elapsed()
}

#[tokio::test(start_paused = true)]
async fn the_first_takes_the_lease_and_says_where_it_is() {
    let server = Server::default();
    let a = replica(&server, "a");
    assert!(leads(&a).await < MS * 100);
    let b = replica(&server, "b");
    sleep(S * 30).await;
    assert!(a.leadership.may_write() && !b.leadership.may_write());
    assert_eq!(server.holder(), "a");
    assert_eq!(server.lease()["metadata"]["annotations"][PEER_ADDRESS], "a.example:9444");
    assert_eq!(server.lease()["spec"]["leaseDurationSeconds"], 15);
    assert_eq!(server.lease()["spec"]["acquireTime"], "2026-03-01T12:00:00.010000Z");
    let leader = b.leadership.leader().unwrap();
    assert_eq!((&*leader.identity, leader.peer_address.as_deref()), ("a", Some("a.example:9444")));
    assert!(b.leadership.permit().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_steady_state_costs_a_renewal_every_two_seconds_and_nothing_else() {
    let server = Server::default();
    let a = replica(&server, "a");
    leads(&a).await;
    let _b = replica(&server, "b");
    sleep(S * 10).await;
    server.0.lock().requests.clear();
    sleep(S * 100).await;
    let requests = server.0.lock().requests.clone();
    assert!(requests.iter().all(|request| request.starts_with("PATCH")), "{requests:?}");
    assert!((45..=50).contains(&requests.len()), "{}", requests.len());
}

#[tokio::test(start_paused = true)]
async fn a_planned_change_takes_less_than_a_second_and_waits_for_writes_in_flight() {
    let server = Server::default();
    let a = replica(&server, "a");
    leads(&a).await;
    let b = replica(&server, "b");
    sleep(S * 5).await;
    let term = a.leadership.term().unwrap();
    let permit = a.leadership.permit().unwrap();
    assert!(permit.remaining() > S * 7);

    a.shutdown.cancel();
    sleep(MS * 300).await;
    assert!(!a.leadership.may_write() && a.leadership.permit().is_err(), "no new write");
    assert!(!term.ended.is_cancelled(), "the write in flight may end");
    assert_eq!(server.holder(), "a", "not released under a write in flight");

    drop(permit);
    assert!(leads(&b).await < S, "a released Lease is taken at once");
    timeout(S, a.campaign).await.unwrap().unwrap();
    assert!(term.ended.is_cancelled());
    assert_eq!(server.holder(), "b");
    assert_eq!(server.lease()["spec"]["leaseTransitions"], 1);
}

#[tokio::test(start_paused = true)]
async fn a_killed_leader_is_followed_within_the_lease_duration() {
    let server = Server::default();
    let a = replica(&server, "a");
    leads(&a).await;
    let b = replica(&server, "b");
    sleep(S * 5).await;
    let term = a.leadership.term().unwrap();
    a.campaign.abort();
    let took = leads(&b).await;
    assert!(took > S * 12 && took < S * 16, "{took:?}");
    assert!(!a.leadership.may_write());
    assert!(term.ended.is_cancelled());
    let mut registry = Registry::default();
    b.metrics.register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    assert!(text.contains("\nleader 1\n") && text.contains("\nlease_transitions_total 1\n"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_leader_without_answers_is_silent_from_the_renew_deadline_on() {
    let server = Server::default();
    let a = replica(&server, "a");
    leads(&a).await;
    sleep(S).await;
    let term = a.leadership.term().unwrap();
    server.0.lock().hangs = true;
    let left = a.leadership.remaining();
    sleep(left.saturating_sub(MS)).await;
    assert!(a.leadership.may_write() && !term.ended.is_cancelled());
    sleep(MS * 2).await;
    assert!(!a.leadership.may_write());
    assert!(term.ended.is_cancelled(), "work in flight is cancelled");
    assert!(a.leadership.term().is_none());

    server.0.lock().hangs = false;
    assert!(leads(&a).await < S * 8, "its own record is renewed without waiting for it to expire");
}

#[tokio::test(start_paused = true)]
async fn a_lost_reply_is_read_not_repeated() {
    let server = Server::default();
    server.0.lock().loses_replies = true;
    let a = replica(&server, "a");
    sleep(S).await;
    assert_eq!(server.holder(), "a");
    assert!(!a.leadership.may_write(), "applied, but not known to be");
    server.0.lock().loses_replies = false;
    assert!(leads(&a).await < S * 5);
    let creations = server.0.lock().requests.iter().filter(|request| request.starts_with("POST")).count();
    assert_eq!(creations, 1);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_somebody_else_wrote_is_given_up_and_foreign_labels_are_kept() {
    let server = Server::default();
    let a = replica(&server, "a");
    leads(&a).await;
    {
        let mut state = server.0.lock();
        let mut lease = state.lease.clone().unwrap();
        lease["metadata"]["labels"] = json!({"team": "platform"});
        state.store(lease);
    }
    sleep(S * 3).await;
    assert!(a.leadership.may_write(), "a label is no reason to step down");
    assert_eq!(server.lease()["metadata"]["labels"]["team"], "platform");
    {
        let mut state = server.0.lock();
        let mut lease = state.lease.clone().unwrap();
        lease["spec"]["holderIdentity"] = json!("x");
        state.store(lease);
    }
    sleep(S * 3).await;
    assert!(!a.leadership.may_write());
    assert_eq!(server.holder(), "x");
}

#[tokio::test(start_paused = true)]
async fn without_an_election_it_leads_until_shutdown() {
    let shutdown = CancellationToken::new();
    let clock = Clock::system();
    let leadership = Leadership::alone("a", clock, &LeadershipMetrics::default(), &shutdown);
    let term = leadership.next_term().await.unwrap();
    assert!(leadership.may_write());
    shutdown.cancel();
    assert!(!leadership.may_write() && term.ended.is_cancelled());
}

/// The check comes after the wait for a turn: leadership lost while waiting stops the write.
#[tokio::test(start_paused = true)]
async fn a_write_is_fenced_last() {
    let call = Call { verb: "create", resource: "pods/eviction" };
    let request = || Request::post("/evict").body(Vec::new()).unwrap();
    let sent = Arc::new(Mutex::new(0));
    let service = service_fn({
        let sent = Arc::clone(&sent);
        move |_: Request<Body>| {
            *sent.lock() += 1;
            async move { Ok::<_, Infallible>(answer(201, &json!({}))) }
        }
    });
    let shutdown = CancellationToken::new();
    let leadership = Leadership::alone("a", Clock::system(), &LeadershipMetrics::default(), &shutdown);
    let writer = Writer::new(Client::new(service, "default"), Arc::new(RateLimit::new(1, 1)), leadership, S * 5);
    writer.write(writer.try_turn().unwrap(), call, request()).await.unwrap();
    assert!(writer.try_turn().is_none(), "the next turn is a second away");
    let waiting = tokio::spawn({
        let writer = writer.clone();
        async move { writer.write(writer.turn().await, call, request()).await }
    });
    sleep(MS * 100).await;
    shutdown.cancel();
    assert!(matches!(waiting.await.unwrap(), Err(WriteError::NotLeading(_))));
    assert_eq!(*sent.lock(), 1);
    writer.read(writer.turn().await, call, request()).await.unwrap();
    assert_eq!(*sent.lock(), 2, "whoever does not lead may still look");
}

/// What is not answered when the term is over is given up: it may have been done, and the next leader begins.
#[tokio::test(start_paused = true)]
async fn a_write_is_waited_for_no_longer_than_the_term() {
    let server = Server::default();
    let a = replica(&server, "a");
    leads(&a).await;
    let silent = service_fn(|_: Request<Body>| std::future::pending::<Result<Answer, Infallible>>());
    let pace = Arc::new(RateLimit::new(1, 1));
    let writer = Writer::new(Client::new(silent, "default"), pace, a.leadership.clone(), S * 60);
    let (left, begun) = (a.leadership.remaining(), Instant::now());
    let request = Request::post("/evict").body(Vec::new()).unwrap();
    let call = Call { verb: "create", resource: "pods/eviction" };
    let answer = writer.write(writer.try_turn().unwrap(), call, request).await;
    assert!(matches!(answer, Err(WriteError::Api(error)) if error.may_have_been_applied()));
    assert_eq!(begun.elapsed(), left);
}

/// A server that pushes back slows down every write, not only the one it answered.
#[tokio::test(start_paused = true)]
async fn a_throttled_write_pauses_all() {
    let call = Call { verb: "patch", resource: "nodes" };
    let first = Arc::new(Mutex::new(true));
    let service = service_fn(move |_: Request<Body>| {
        let response = if std::mem::take(&mut *first.lock()) {
            Response::builder().status(429).header("retry-after", "7").body(Full::from("later").boxed_unsync()).unwrap()
        } else {
            answer(200, &json!({}))
        };
        async move { Ok::<_, Infallible>(response) }
    });
    let leadership = Leadership::alone("a", Clock::system(), &LeadershipMetrics::default(), &CancellationToken::new());
    let writer = Writer::new(Client::new(service, "default"), Arc::new(RateLimit::new(50, 100)), leadership, S * 5);
    let request = || Request::patch("/nodes/n").body(Vec::new()).unwrap();
    let start = Instant::now();
    assert!(writer.write(writer.try_turn().unwrap(), call, request()).await.is_err());
    assert!(writer.try_turn().is_none());
    writer.write(writer.turn().await, call, request()).await.unwrap();
    assert_eq!(start.elapsed(), S * 7);
}
