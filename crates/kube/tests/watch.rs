//! The pump against an API server played by the test, one request and one line at a time, under virtual time.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use jiff::Timestamp;
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};
use spotalis_core::class::{CapacityClasses, Preset};
use spotalis_core::opt_in::{Mode, OptInRules};
use spotalis_core::policy::Defaults;
use spotalis_core::selector::Selector;
use spotalis_core::steering::OnConflict;
use spotalis_kube::index::{Currency, Index, Provisioner, Rules, View};
use spotalis_kube::slim;
use spotalis_kube::watch::{Failure, Resource, Sink, pump, read};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// How long the pump waits before it looks again for a kind that does not exist.
const ABSENT_PAUSE: Duration = Duration::from_mins(5);

type Answer = Response<UnsyncBoxBody<Bytes, io::Error>>;

/// A request that waits for the test to answer it.
struct Call {
    path: String,
    query: BTreeMap<String, String>,
    answer: oneshot::Sender<Answer>,
}

/// The sending end of a watch that was accepted.
struct Lines(mpsc::UnboundedSender<io::Result<String>>);

impl Call {
    fn is_watch(&self) -> bool {
        self.query.get("watch").is_some_and(|watch| watch == "true")
    }

    fn query(&self, key: &str) -> Option<&str> {
        self.query.get(key).map(String::as_str)
    }

    fn answer(self, status: u16, body: String) {
        self.open(status).text(body);
    }

    /// Answers the head; the body follows line by line.
    fn open(self, status: u16) -> Lines {
        let (sender, receiver) = mpsc::unbounded_channel();
        let frames = futures::stream::unfold(receiver, |mut receiver| async {
            let text: io::Result<String> = receiver.recv().await?;
            Some((text.map(|text| Frame::data(Bytes::from(text))), receiver))
        });
        let body = BodyExt::boxed_unsync(StreamBody::new(frames));
        self.answer
            .send(Response::builder().status(status).body(body).expect("a status and a body"))
            .expect("the pump waits for an answer");
        Lines(sender)
    }

    fn page(self, names: &[&str], version: &str, next: Option<&str>) {
        assert!(!self.is_watch(), "a list was expected, not {} {:?}", self.path, self.query);
        let items: Vec<Value> = names.iter().map(|name| pod(name, "shop")).collect();
        self.list(&items, version, next);
    }

    fn list(self, items: &[Value], version: &str, next: Option<&str>) {
        let metadata = json!({ "resourceVersion": version, "continue": next, "remainingItemCount": null });
        self.answer(
            200,
            json!({ "kind": "PodList", "apiVersion": "v1", "metadata": metadata, "items": items }).to_string(),
        );
    }

    fn refuse(self, code: u16, reason: &str) {
        self.answer(code, status(code, reason).to_string());
    }

    fn watch(self) -> Lines {
        assert!(self.is_watch(), "a watch was expected, not {} {:?}", self.path, self.query);
        self.open(200)
    }
}

impl Lines {
    fn text(&self, text: String) {
        self.0.send(Ok(text)).expect("the pump reads on");
    }

    fn event(&self, kind: &str, object: &Value) {
        self.text(format!("{}\n", json!({ "type": kind, "object": object })));
    }

    fn bookmark(&self, version: &str) {
        self.event(
            "BOOKMARK",
            &json!({ "kind": "Pod", "apiVersion": "v1", "metadata": { "resourceVersion": version } }),
        );
    }

    fn cut(self) {
        self.0.send(Err(io::Error::from(io::ErrorKind::ConnectionReset))).expect("the pump reads on");
    }
}

fn status(code: u16, reason: &str) -> Value {
    json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code, "reason": reason,
            "message": format!("{reason}, says the server") })
}

fn pod(name: &str, namespace: &str) -> Value {
    json!({ "metadata": { "name": name, "namespace": namespace, "uid": format!("uid-{name}"), "resourceVersion": "7" },
            "spec": {}, "status": { "phase": "Running" } })
}

fn at_version(name: &str, version: &str) -> Value {
    let mut pod = pod(name, "shop");
    pod["metadata"]["resourceVersion"] = json!(version);
    pod
}

fn rules() -> Rules {
    Rules {
        opt_in: OptInRules {
            mode: Mode::Both,
            namespace_selector: Selector::default(),
            own_namespace: "spotalis-system".into(),
            watch_namespaces: BTreeSet::new(),
        },
        classes: CapacityClasses::preset(Preset::Karpenter).into(),
        defaults: Defaults::default(),
        on_conflict: OnConflict::Respect,
        provisioner: Provisioner::Auto,
    }
}

/// The test's side of the wire, and the index that the pump fills.
struct Server {
    calls: mpsc::UnboundedReceiver<Call>,
    changes: mpsc::UnboundedReceiver<()>,
    failures: mpsc::UnboundedReceiver<(String, bool)>,
    index: Arc<Mutex<Index>>,
    client: kube::Client,
    sink: Sink,
    started: Instant,
    pump: Option<JoinHandle<()>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(pump) = self.pump.take() {
            pump.abort();
        }
    }
}

fn epoch(started: Instant) -> Timestamp {
    Timestamp::UNIX_EPOCH + started.elapsed()
}

/// What does not come within an hour of virtual time never comes.
async fn soon<T>(event: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_hours(1), event).await.expect("it comes at all")
}

impl Server {
    fn new() -> Self {
        let (to_test, calls) = mpsc::unbounded_channel();
        let service = tower::service_fn(move |request: Request<Body>| {
            let to_test = to_test.clone();
            async move {
                let (answer, answered) = oneshot::channel();
                let query = request.uri().query().unwrap_or_default();
                let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
                let call = Call {
                    path: request.uri().path().to_owned(),
                    query: pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
                    answer,
                };
                // A test that ended answers nobody.
                to_test.send(call).ok();
                match answered.await {
                    Ok(answer) => Ok::<_, Infallible>(answer),
                    Err(_) => futures::future::pending().await,
                }
            }
        });
        let index = Arc::new(Mutex::new(Index::new(rules())));
        let (change, changes) = mpsc::unbounded_channel();
        let (fail, failures) = mpsc::unbounded_channel();
        let started = Instant::now();
        let sink = Sink {
            index: index.clone(),
            heard: Arc::new(move |view| {
                assert_eq!(view, View::Pods);
                change.send(()).unwrap_or_default();
            }),
            now: Arc::new(move || epoch(started)),
            failed: Arc::new(move |view, failure: &Failure| {
                assert_eq!(view, View::Pods);
                fail.send((failure.to_string(), failure.is_forbidden())).unwrap_or_default();
            }),
        };
        let client = kube::Client::new(service, "default");
        Self { calls, changes, failures, index, client, sink, started, pump: None }
    }

    fn pumping(namespace: Option<&str>) -> Self {
        let mut server = Self::new();
        let (client, sink, namespace) = (server.client.clone(), server.sink.clone(), namespace.map(str::to_owned));
        let resource = Resource::of(View::Pods);
        server.pump = Some(tokio::spawn(pump::<slim::Pod>(client, resource, namespace, sink, ABSENT_PAUSE)));
        server
    }

    /// The pump has listed `names` at version 10 and watches.
    async fn watching(names: &[&str]) -> (Self, Lines) {
        let mut server = Self::pumping(None);
        server.call().await.page(names, "10", None);
        server.change().await;
        let watch = server.call().await;
        assert_eq!(watch.query("resourceVersion"), Some("10"));
        let lines = watch.watch();
        (server, lines)
    }

    async fn call(&mut self) -> Call {
        soon(self.calls.recv()).await.expect("the pump asks again")
    }

    async fn change(&mut self) {
        soon(self.changes.recv()).await.expect("the pump goes on");
    }

    fn now(&self) -> Timestamp {
        epoch(self.started)
    }

    /// A list was refused or a watch failed: in which words, and whether as forbidden.
    async fn failure(&mut self) -> (String, bool) {
        soon(self.failures.recv()).await.expect("the pump goes on")
    }

    fn has(&self, name: &str) -> bool {
        self.index.lock().pod("shop", name).is_some()
    }

    fn currency(&self) -> Currency {
        let index = self.index.lock();
        let mut watches = index.currency(View::Pods);
        let currency = watches.next().expect("the pump announced its watch");
        assert!(watches.next().is_none());
        currency
    }

    fn is_fresh(&self) -> bool {
        self.currency().is_fresh(self.now())
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_is_read_page_by_page_and_then_watched_from_its_version() {
    let mut server = Server::pumping(None);
    let first = server.call().await;
    assert_eq!((&*first.path, first.query("limit"), first.query("continue")), ("/api/v1/pods", Some("500"), None));
    assert_eq!(first.query("resourceVersion"), None, "a list from a cache could be older than what is known");
    first.page(&["a"], "10", Some("more"));
    let second = server.call().await;
    assert_eq!((second.query("limit"), second.query("continue")), (Some("500"), Some("more")));
    assert!(server.has("a") && !server.currency().synced, "half a list is not in sync");
    second.page(&["b"], "10", Some(""));
    server.change().await;
    assert!(server.has("a") && server.has("b") && server.currency().synced);
    let watch = server.call().await;
    assert_eq!((&*watch.path, watch.query("resourceVersion")), ("/api/v1/pods", Some("10")));
    assert_eq!((watch.query("allowWatchBookmarks"), watch.query("timeoutSeconds")), (Some("true"), Some("290")));
    let lines = watch.watch();
    lines.event("ADDED", &at_version("c", "11"));
    server.change().await;
    assert!(server.has("c"));
    lines.event("DELETED", &at_version("a", "12"));
    server.change().await;
    assert!(!server.has("a"));
}

#[tokio::test(start_paused = true)]
async fn a_watch_in_one_namespace_stays_there() {
    let mut server = Server::pumping(Some("shop"));
    let list = server.call().await;
    assert_eq!(list.path, "/api/v1/namespaces/shop/pods");
    // Another watch's pods are none of this list's business.
    server.index.lock().apply_pod(&serde_json::from_value(pod("other", "bank")).unwrap(), 0);
    server.index.lock().apply_pod(&serde_json::from_value(pod("old", "shop")).unwrap(), 0);
    list.page(&["a"], "10", None);
    server.change().await;
    assert!(server.has("a") && !server.has("old"));
    assert!(server.index.lock().pod("bank", "other").is_some());
}

#[tokio::test(start_paused = true)]
async fn a_list_that_runs_out_in_the_middle_begins_anew_and_never_looks_like_deletions() {
    let (mut server, lines) = Server::watching(&["a", "old"]).await;
    lines.event("ERROR", &status(410, "Expired"));
    assert_eq!(server.failure().await.0, "watch pods: the server does not have this resource version any more");
    server.call().await.page(&["a"], "20", Some("more"));
    let second = server.call().await;
    assert_eq!(second.query("continue"), Some("more"));
    second.refuse(410, "Expired");
    assert_eq!(server.failure().await.0, "list pods: the server does not have this resource version any more");
    let anew = server.call().await;
    assert_eq!(anew.query("continue"), None);
    assert!(server.has("a") && server.has("old"), "the old view stays until a new one is complete");
    assert!(server.currency().disconnected.is_some(), "and it is known not to be the newest");
    anew.page(&["b"], "30", Some("more"));
    server.call().await.page(&["c"], "30", None);
    server.change().await;
    let seen = ["a", "old", "b", "c"].map(|name| server.has(name));
    assert_eq!(seen, [false, false, true, true]);
    assert!(server.is_fresh());
    assert_eq!(server.call().await.query("resourceVersion"), Some("30"));
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_the_server_refuses_as_too_old_is_listed_anew() {
    let mut from_the_future = status(504, "Timeout");
    from_the_future["details"] =
        json!({ "causes": [{ "reason": "ResourceVersionTooLarge", "message": "Too large resource version" }] });
    for (code, body) in [(410, status(410, "Gone")), (504, from_the_future)] {
        let (mut server, lines) = Server::watching(&["a"]).await;
        lines.bookmark("15");
        server.change().await;
        drop(lines);
        server.call().await.answer(code, body.to_string());
        server.failure().await;
        let list = server.call().await;
        assert!(!list.is_watch(), "{code}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_ends_or_breaks_is_resumed_after_what_was_seen_last() {
    let (mut server, lines) = Server::watching(&[]).await;
    lines.event("ADDED", &at_version("a", "11"));
    server.change().await;
    drop(lines);
    let resumed = server.call().await;
    assert_eq!(resumed.query("resourceVersion"), Some("11"));
    assert!(server.currency().disconnected.is_some(), "until the next one is there nothing is heard");
    let lines = resumed.watch();
    lines.event("ADDED", &at_version("b", "12"));
    server.change().await;
    lines.bookmark("20");
    server.change().await;
    lines.cut();
    assert_eq!(server.failure().await, ("watch pods failed".to_owned(), false));
    assert!(server.currency().disconnected.is_some());
    let resumed = server.call().await;
    assert_eq!(resumed.query("resourceVersion"), Some("20"), "what was seen is not to be told again");
    let lines = resumed.watch();
    lines.bookmark("21");
    server.change().await;
    assert!(server.currency().disconnected.is_none());
    assert!(server.has("a") && server.has("b"));
}

/// A list shows the moment at which it was asked for; how old that is when the watch begins does not show in it.
#[tokio::test(start_paused = true)]
async fn nothing_is_moved_by_a_list_before_its_watch_is_there() {
    let mut server = Server::pumping(None);
    let asked = server.now();
    let list = server.call().await;
    assert!(server.currency().mixed, "its pages show different moments");
    tokio::time::sleep(Duration::from_secs(20)).await;
    list.page(&["a"], "10", None);
    server.change().await;
    let watch = server.call().await;
    let listed = Currency { disconnected: Some(asked), ..Currency::heard_at(asked) };
    assert_eq!(server.currency(), listed);
    assert!(!listed.is_whole(server.now()) && !listed.is_fresh(server.now()));
    let lines = watch.watch();
    lines.event("ADDED", &at_version("b", "11"));
    server.change().await;
    assert!(server.currency().is_whole(server.now()));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_ends_every_watch_at_once_is_not_asked_in_a_tight_loop() {
    let (mut server, lines) = Server::watching(&["a"]).await;
    drop(lines);
    let mut asked = Instant::now();
    for _ in 0..20 {
        let watch = server.call().await;
        // Virtual time moves only while everything sleeps.
        assert!(Instant::now() > asked, "asked again without a pause");
        assert!(server.currency().disconnected.is_some());
        asked = Instant::now();
        drop(watch.watch());
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_costs_only_itself() {
    let mut server = Server::pumping(None);
    let poison = json!({ "metadata": { "name": "poison", "namespace": "shop", "labels": 7 } });
    server.call().await.list(
        &[pod("a", "shop"), poison.clone(), json!(null), json!("x"), pod("b", "shop")],
        "10",
        None,
    );
    server.change().await;
    assert!(server.has("a") && server.has("b") && !server.has("poison"));
    let lines = server.call().await.watch();
    lines.event("ADDED", &poison);
    lines.text("this is no JSON\n".to_owned());
    lines.text("{\"type\": \"SOMETHING\", \"object\": {}}\n".to_owned());
    lines.event("MODIFIED", &json!(null));
    lines.event("ADDED", &at_version("c", "11"));
    server.change().await;
    assert!(server.has("c"), "the same watch goes on behind it");
    assert!(server.failures.try_recv().is_err(), "nothing was given up");
    // A list that is no list is asked for again.
    lines.event("ERROR", &status(410, "Expired"));
    server.failure().await;
    server.call().await.answer(200, "<html>".to_owned());
    assert_eq!(server.failure().await.0, "list pods: the answer is not a list");
    let again = server.call().await;
    assert!(!again.is_watch() && server.has("a") && server.has("c"));
}

#[tokio::test(start_paused = true)]
async fn bookmarks_keep_a_quiet_view_fresh_and_silence_ends_it() {
    let (mut server, lines) = Server::watching(&["a"]).await;
    for minute in 1..=30 {
        tokio::time::advance(Duration::from_mins(1)).await;
        lines.bookmark(&(10 + minute).to_string());
        server.change().await;
        assert!(server.is_fresh(), "minute {minute}");
    }
    assert!(server.failures.try_recv().is_err());
    assert_eq!(server.failure().await.0, "watch pods was silent for too long");
    let resumed = server.call().await;
    assert_eq!(resumed.query("resourceVersion"), Some("40"));
    assert!(server.is_fresh(), "a moment without connection is not yet a reason to stop");
    tokio::time::advance(Duration::from_secs(5)).await;
    assert!(!server.is_fresh());
    resumed.watch().bookmark("41");
    server.change().await;
    assert!(server.is_fresh());
}

#[tokio::test(start_paused = true)]
async fn a_list_that_is_never_answered_is_given_up() {
    let mut server = Server::pumping(None);
    let hanging = server.call().await;
    assert_eq!(server.failure().await.0, "list pods was silent for too long");
    drop(hanging);
    server.call().await.page(&["a"], "10", None);
    server.change().await;
    assert!(server.has("a"));
    let unanswered = server.call().await;
    assert!(unanswered.is_watch());
    assert_eq!(server.failure().await.0, "watch pods was silent for too long");
}

#[tokio::test(start_paused = true)]
async fn a_missing_permission_is_named_with_verb_and_kind() {
    let mut server = Server::pumping(None);
    server.call().await.refuse(403, "Forbidden");
    assert_eq!(server.failure().await, ("list pods failed".to_owned(), true));
    assert!(!server.currency().synced && !server.is_fresh());
    // Granted meanwhile; then the right to watch is missing.
    server.call().await.page(&["a"], "10", None);
    server.change().await;
    server.call().await.refuse(403, "Forbidden");
    assert_eq!(server.failure().await, ("watch pods failed".to_owned(), true));
    let again = server.call().await;
    assert!(again.is_watch() && server.has("a"), "the view stays, and is asked for again");
    again.refuse(500, "InternalError");
    assert_eq!(server.failure().await, ("watch pods failed".to_owned(), false));
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_does_not_exist_is_looked_for_now_and_then() {
    let mut server = Server::pumping(None);
    server.call().await.refuse(404, "NotFound");
    server.failure().await;
    let refused = Instant::now();
    let again = server.call().await;
    assert!(refused.elapsed() >= ABSENT_PAUSE);
    again.page(&["a"], "10", None);
    server.change().await;
    assert!(server.has("a") && server.currency().synced);
}

#[tokio::test(start_paused = true)]
async fn a_single_reading_lists_once_and_reports_what_stopped_it() {
    let mut server = Server::new();
    let look = |server: &Server| {
        let (client, sink) = (server.client.clone(), server.sink.clone());
        tokio::spawn(async move { read::<slim::Pod>(client, Resource::of(View::Pods), Some("shop"), sink).await })
    };
    let looking = look(&server);
    server.call().await.page(&["a"], "10", Some("more"));
    server.call().await.page(&["b"], "10", None);
    looking.await.unwrap().expect("both pages came");
    assert!(server.has("a") && server.has("b") && server.currency().synced);
    let looking = look(&server);
    server.call().await.refuse(403, "Forbidden");
    let failure = looking.await.unwrap().expect_err("it was forbidden");
    assert!(failure.is_forbidden());
    assert!(server.calls.try_recv().is_err(), "neither watched nor tried again");
}

#[test]
fn where_each_view_is_read() {
    for (view, namespace, path, group) in [
        (View::Namespaces, Some("shop"), "/api/v1/namespaces", ""),
        (View::Nodes, None, "/api/v1/nodes", ""),
        (View::Pods, None, "/api/v1/pods", ""),
        (View::Pods, Some("shop"), "/api/v1/namespaces/shop/pods", ""),
        (View::Deployments, None, "/apis/apps/v1/deployments", "apps"),
        (View::StatefulSets, Some("shop"), "/apis/apps/v1/namespaces/shop/statefulsets", "apps"),
        (View::ReplicaSets, None, "/apis/apps/v1/replicasets", "apps"),
        (View::PodDisruptionBudgets, Some("shop"), "/apis/policy/v1/namespaces/shop/poddisruptionbudgets", "policy"),
        (View::NodePools, Some("shop"), "/apis/karpenter.sh/v1/nodepools", "karpenter.sh"),
        (View::AutoscalerStatus, None, "/api/v1/namespaces/kube-system/configmaps", ""),
        (View::AutoscalerStatus, Some("shop"), "/api/v1/namespaces/kube-system/configmaps", ""),
    ] {
        let resource = Resource::of(view);
        assert_eq!((&*resource.path(namespace), resource.group()), (path, group));
    }
}

/// As on a cluster without a StatefulSet, whose API server has no version of its own to tell in a bookmark.
#[tokio::test(start_paused = true)]
async fn a_kind_of_which_nothing_is_ever_heard_stays_fresh() {
    let (mut server, mut lines) = Server::watching(&[]).await;
    for round in 0..30 {
        assert_eq!(server.failure().await.0, "watch pods was silent for too long");
        let resumed = server.call().await;
        assert!(server.is_fresh(), "round {round}");
        drop(std::mem::replace(&mut lines, resumed.watch()));
    }
}
