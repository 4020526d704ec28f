//! Events against an in-memory store that knows the rules of the API.

#![expect(clippy::unwrap_used, reason = "all of this is a test")]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response};
use http_body_util::BodyExt;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::client::Body;
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use spotalis_runtime::Clock;
use spotalis_runtime::apiclient::RateLimit;
use spotalis_runtime::events::{EventMetrics, EventRecorder, Notice, Reporter};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tower::service_fn;

const S: Duration = Duration::from_secs(1);

#[derive(Clone, Default)]
struct Store(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    events: BTreeMap<String, Value>,
    requests: Vec<String>,
    /// The codes to answer before anything is done.
    failures: Vec<u16>,
    hangs: bool,
}

impl Store {
    fn client(&self) -> Client {
        let store = self.clone();
        let service = service_fn(move |request: Request<Body>| {
            let store = store.clone();
            async move { Ok::<_, Infallible>(store.serve(request).await) }
        });
        Client::new(service, "default")
    }

    async fn serve(self, request: Request<Body>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let body: Value = serde_json::from_slice(&body.collect().await.unwrap().to_bytes()).unwrap();
        let path = parts.uri.path().trim_start_matches("/apis/events.k8s.io/v1/namespaces/").to_owned();
        let hangs = {
            let mut state = self.0.lock();
            state.requests.push(format!("{} {path}", parts.method));
            state.hangs
        };
        if hangs {
            std::future::pending::<()>().await;
        }
        let mut state = self.0.lock();
        if let Some(code) = state.failures.pop() {
            return failure(code);
        }
        match parts.method {
            Method::POST => {
                check(&body, path.split('/').next().unwrap());
                let name = body["metadata"]["name"].as_str().unwrap();
                if state.events.insert(format!("{path}/{name}"), body.clone()).is_some() {
                    return failure(409);
                }
                answer(201, &body)
            }
            Method::PATCH => match state.events.get_mut(&path) {
                None => failure(404),
                Some(event) => {
                    assert!(body["series"]["count"].as_i64().unwrap() >= 2, "{body}");
                    assert_eq!(body.as_object().unwrap().len(), 1, "everything else is immutable: {body}");
                    micro_time(&body["series"]["lastObservedTime"]);
                    event["series"] = body["series"].clone();
                    answer(200, event)
                }
            },
            method => panic!("{method} is not expected"),
        }
    }

    fn events(&self) -> Vec<Value> {
        self.0.lock().events.values().cloned().collect()
    }

    fn requests(&self) -> usize {
        self.0.lock().requests.len()
    }
}

/// What the API server insists on.
fn check(event: &Value, namespace: &str) {
    assert_eq!(event["metadata"]["namespace"], namespace);
    match event["regarding"]["namespace"].as_str() {
        Some(regarding) => assert_eq!(regarding, namespace),
        None => assert_eq!(namespace, "default"),
    }
    micro_time(&event["eventTime"]);
    for (field, limit) in [("note", 1024), ("reason", 128), ("action", 128), ("reportingInstance", 128)] {
        let text = event[field].as_str().unwrap();
        assert!(!text.is_empty() && text.len() <= limit, "{field}: {} bytes", text.len());
    }
    assert!(event["reportingController"].as_str().unwrap().contains('/'));
    assert!(event["metadata"]["name"].as_str().unwrap().len() <= 253);
}

fn micro_time(value: &Value) {
    let (_, fraction) = value.as_str().unwrap().split_once('.').expect("a fraction");
    assert_eq!(fraction.len(), "123456Z".len(), "{value}");
}

fn answer(code: u16, body: &Value) -> Response<Body> {
    Response::builder().status(code).body(Body::from(body.to_string().into_bytes())).unwrap()
}

fn failure(code: u16) -> Response<Body> {
    let reason = if code == 409 { "AlreadyExists" } else { "" };
    answer(code, &json!({"kind": "Status", "status": "Failure", "message": "no", "reason": reason, "code": code}))
}

fn notice(name: &str, note: &str) -> Notice {
    Notice {
        regarding: ObjectReference {
            kind: Some("Deployment".into()),
            namespace: Some("shop".into()),
            name: Some(name.into()),
            uid: Some(format!("uid-{name}")),
            ..ObjectReference::default()
        },
        related: None,
        reason: "Rebalanced",
        note: note.into(),
        warning: false,
        action: "Evict",
    }
}

struct Rig {
    store: Store,
    recorder: EventRecorder,
    metrics: EventMetrics,
    shutdown: CancellationToken,
    publisher: tokio::task::JoinHandle<()>,
}

fn rig(capacity: usize) -> Rig {
    let (store, metrics, shutdown) = (Store::default(), EventMetrics::default(), CancellationToken::new());
    let reporter = Reporter { controller: "spotalis.io/controller".into(), instance: "i".repeat(200) };
    let clock = Clock::starting_at("2026-03-01T12:00:00Z".parse().unwrap());
    let pace = Arc::new(RateLimit::new(10, 20));
    let (recorder, publisher) =
        EventRecorder::new(store.client(), reporter, clock, metrics.clone(), pace, capacity, shutdown.clone());
    Rig { store, recorder, metrics, shutdown, publisher: tokio::spawn(publisher) }
}

fn counted(metrics: &EventMetrics, result: &str) -> u64 {
    let mut registry = Registry::default();
    metrics.register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    let sample = format!("events_total{{result=\"{result}\"}} ");
    text.lines().find_map(|line| line.strip_prefix(&*sample)).map_or(0, |count| count.parse().unwrap())
}

#[tokio::test(start_paused = true)]
async fn repeated_news_is_a_series() {
    let rig = rig(100);
    rig.recorder.publish(notice("web", "moved"));
    sleep(S).await;
    assert!(rig.store.events()[0]["series"].is_null());
    rig.recorder.publish(notice("web", "moved"));
    sleep(S).await;
    assert_eq!(rig.store.events()[0]["series"]["count"], 2);
    for _ in 0..8 {
        rig.recorder.publish(notice("web", "moved"));
        sleep(S).await;
    }
    assert_eq!(rig.store.requests(), 2, "one POST, one PATCH");
    sleep(S * 300).await;
    assert_eq!(rig.store.requests(), 3, "and one that brings it up to date");
    assert_eq!(rig.store.events().len(), 1);
    assert_eq!(rig.store.events()[0]["series"]["count"], 10);
    assert_eq!(rig.store.events()[0]["series"]["lastObservedTime"], "2026-03-01T12:00:09.000000Z");
}

#[tokio::test(start_paused = true)]
async fn other_news_and_later_news_are_events_of_their_own() {
    let rig = rig(100);
    let warning = Notice { warning: true, ..notice("web", "moved") };
    for notice in [notice("web", "moved"), notice("web", "stuck"), notice("api", "moved"), warning] {
        rig.recorder.publish(notice);
    }
    sleep(S).await;
    assert_eq!(rig.store.events().len(), 4);
    sleep(S * 601).await;
    rig.recorder.publish(notice("web", "moved"));
    sleep(S).await;
    assert_eq!(rig.store.events().len(), 5);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_has_expired_is_posted_anew() {
    let rig = rig(100);
    rig.recorder.publish(notice("web", "moved"));
    sleep(S).await;
    rig.store.0.lock().events.clear();
    rig.recorder.publish(notice("web", "moved"));
    sleep(S).await;
    assert_eq!(rig.store.events().len(), 1);
    assert!(rig.store.events()[0]["series"].is_null());
}

#[tokio::test(start_paused = true)]
async fn foreign_text_is_bounded_and_printable_and_nodes_are_in_default() {
    let rig = rig(100);
    let mut long = notice(&format!("{}.", "n".repeat(252)), &format!("a\u{1b}[31m\n{}", "ä".repeat(2000)));
    long.regarding.namespace = None;
    rig.recorder.publish(long);
    sleep(S).await;
    let event = &rig.store.events()[0];
    let note = event["note"].as_str().unwrap();
    assert!(note.starts_with("a\\u001b[31m\\u000aä") && note.ends_with('…'), "{note}");
    assert_eq!(event["metadata"]["namespace"], "default");
    assert!(event["metadata"]["name"].as_str().unwrap().starts_with("nnn"));
}

#[tokio::test(start_paused = true)]
async fn the_caller_never_waits_and_what_does_not_fit_is_counted() {
    let rig = rig(5);
    rig.store.0.lock().hangs = true;
    rig.recorder.publish(notice("first", "moved"));
    sleep(S).await;
    for i in 0..8 {
        rig.recorder.publish(notice(&format!("w{i}"), "moved"));
    }
    assert_eq!(counted(&rig.metrics, "dropped"), 3);
    rig.store.0.lock().hangs = false;
    sleep(S * 30).await;
    assert_eq!(rig.store.events().len(), 6);
    assert_eq!(counted(&rig.metrics, "posted"), 6);
}

#[tokio::test(start_paused = true)]
async fn passing_failures_are_tried_again_and_lasting_ones_given_up() {
    let rig = rig(100);
    rig.store.0.lock().failures = vec![503, 500];
    rig.recorder.publish(notice("web", "moved"));
    sleep(S * 10).await;
    assert_eq!(rig.store.events().len(), 1);
    rig.store.0.lock().failures = vec![403];
    rig.recorder.publish(notice("api", "moved"));
    sleep(S * 10).await;
    assert_eq!((rig.store.events().len(), counted(&rig.metrics, "failed")), (1, 1));
    rig.recorder.publish(notice("api", "moved"));
    sleep(S).await;
    assert_eq!(rig.store.events().len(), 2, "a failed POST starts no series");
}

#[tokio::test(start_paused = true)]
async fn the_pace_is_kept_and_the_rest_is_published_at_shutdown() {
    let rig = rig(1000);
    for i in 0..50 {
        rig.recorder.publish(notice(&format!("w{i}"), "moved"));
    }
    sleep(S).await;
    let published = rig.store.events().len();
    assert!((29..=31).contains(&published), "20 at once and 10 a second: {published}");
    rig.shutdown.cancel();
    rig.publisher.await.unwrap();
    assert!(rig.store.events().len() >= 49, "two more seconds at shutdown: {}", rig.store.events().len());
}
