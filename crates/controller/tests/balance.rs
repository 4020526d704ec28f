//! Balance against an API server played by the test, under virtual time: what each answer leads to, what is looked at again
//! after a wait, and what is never sent.
//!
//! The server stores the pods and answers what it is told to; the view changes only when the test changes it. Which pod is
//! to go is decided elsewhere: here it is always the one in the highest slot that wants the other type.

#![expect(clippy::unwrap_used, reason = "all of this is a test")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response};
use http_body_util::BodyExt;
use jiff::Timestamp;
use kube::Client;
use kube::client::Body;
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use spotalis_controller::{Balance, BalanceMetrics, Settings};
use spotalis_core::class::{CapacityClasses, Preset};
use spotalis_core::opt_in::{Mode, OptInRules};
use spotalis_core::policy::Defaults;
use spotalis_core::selector::Selector;
use spotalis_core::steering::OnConflict;
use spotalis_kube::index::{Currency, Index, Provisioner, Rules, Source, View, WorkloadKey, WorkloadKind};
use spotalis_kube::slim;
use spotalis_runtime::apiclient::RateLimit;
use spotalis_runtime::events::{EventMetrics, EventRecorder, Stamped};
use spotalis_runtime::leadership::{Leadership, LeadershipMetrics, Term};
use spotalis_runtime::writer::Writer;
use spotalis_runtime::{Clock, ServerTime};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tower::service_fn;

const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);
/// 2026-03-01T12:00:00Z, when every test begins.
const EPOCH: Timestamp = Timestamp::constant(1_772_366_400, 0);
/// No move in the first ten seconds of a term: the last one of the term before may not be seen yet.
const FIRST: Duration = Duration::from_secs(10);
/// A watch on which something is heard at every moment.
const FRESH: Currency = Currency::heard_at(Timestamp::MAX);
const COST: &str = "controller.kubernetes.io/pod-deletion-cost";

// ---- The API server ----

/// What the server makes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// It does what it was asked.
    Fine,
    /// 404.
    Gone,
    /// 409: changed by somebody else.
    Conflict,
    /// 409: the name is another pod's by now.
    OtherUid,
    /// 429: a PodDisruptionBudget allows nothing.
    Budget,
    /// 429 with a Status and a delay: the budget's own status is behind.
    BudgetBehind,
    /// 429 in plain text with a delay: priority and fairness.
    Overloaded,
    /// 500: more than one budget.
    SeveralBudgets,
    /// 403.
    Forbidden,
    /// 500 of another kind.
    Broken,
    /// The connection breaks.
    Lost,
}

/// The delay of the answers that have one.
const RETRY_AFTER: Duration = Duration::from_secs(30);

type Reply = io::Result<Response<Body>>;

fn response(code: u16, body: String, delay: bool) -> Response<Body> {
    let response = Response::builder().status(code);
    let response = if delay { response.header("retry-after", RETRY_AFTER.as_secs()) } else { response };
    response.body(Body::from(body.into_bytes())).unwrap()
}

impl Answer {
    /// In the words of a real API server.
    fn reply(self, object: &Value) -> Reply {
        let status = |code: u16, reason: &str, message: &str, details: Value, delay| {
            let status = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "code": code, "reason": reason, "message": message, "details": details });
            response(code, status.to_string(), delay)
        };
        Ok(match self {
            Self::Fine => response(200, object.to_string(), false),
            Self::Gone => status(404, "NotFound", "not found", json!({}), false),
            Self::Conflict => status(409, "Conflict", "the object has been modified", json!({}), false),
            Self::OtherUid => {
                let message = "the UID in the precondition (a) does not match the UID in record (b)";
                status(409, "Conflict", message, json!({}), false)
            }
            Self::Budget => {
                let message = "The disruption budget hidden needs 3 healthy pods and has 3 currently";
                let details = json!({ "causes": [{ "reason": "DisruptionBudget", "message": message }] });
                status(429, "TooManyRequests", "Cannot evict pod", details, false)
            }
            Self::BudgetBehind => {
                let details = json!({ "retryAfterSeconds": RETRY_AFTER.as_secs() });
                status(429, "TooManyRequests", "still being processed by the server", details, true)
            }
            Self::Overloaded => response(429, "Too many requests, please try again later.".to_owned(), true),
            Self::SeveralBudgets => {
                let message =
                    "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
                status(500, "", message, json!(null), false)
            }
            Self::Forbidden => status(403, "Forbidden", "pods is forbidden", json!({}), false),
            Self::Broken => status(500, "InternalError", "etcdserver: no leader", json!({}), false),
            Self::Lost => return Err(io::Error::from(io::ErrorKind::ConnectionReset)),
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Evict,
    Look,
    Seat,
}

#[derive(Clone, Debug)]
struct Sent {
    at: Duration,
    verb: Verb,
    pod: String,
    body: Value,
}

#[derive(Clone)]
struct Server(Arc<Mutex<State>>);

struct State {
    clock: Clock,
    /// What is answered to the next evictions, and then to all.
    evictions: VecDeque<Answer>,
    always: Answer,
    /// What is answered to the next looks at a pod; after that, the pod.
    looks: VecDeque<Answer>,
    /// How long an answer takes.
    latency: Duration,
    pods: BTreeMap<String, Value>,
    /// The pods that changed since the view caught up.
    changed: BTreeSet<String>,
    sent: Vec<Sent>,
}

impl Server {
    fn new(clock: Clock) -> Self {
        Self(Arc::new(Mutex::new(State {
            clock,
            evictions: VecDeque::new(),
            always: Answer::Fine,
            looks: VecDeque::new(),
            latency: MS * 5,
            pods: BTreeMap::new(),
            changed: BTreeSet::new(),
            sent: Vec::new(),
        })))
    }

    fn client(&self) -> Client {
        let server = self.clone();
        Client::new(service_fn(move |request: Request<Body>| server.clone().serve(request)), "default")
    }

    async fn serve(self, request: Request<Body>) -> Reply {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let path = parts.uri.path().strip_prefix("/api/v1/namespaces/shop/pods/").unwrap();
        let (pod, verb) = match (parts.method, path.split_once('/')) {
            (Method::POST, Some((pod, "eviction"))) => (pod, Verb::Evict),
            (Method::GET, None) => (path, Verb::Look),
            (Method::PATCH, None) => (path, Verb::Seat),
            (method, _) => panic!("{method} {path} is not expected"),
        };
        let latency = {
            let mut state = self.0.lock();
            let at = state.clock.elapsed();
            state.sent.push(Sent { at, verb, pod: pod.to_owned(), body: body.clone() });
            state.latency
        };
        sleep(latency).await;
        let mut state = self.0.lock();
        match verb {
            Verb::Evict => {
                let always = state.always;
                state.evictions.pop_front().unwrap_or(always).reply(&json!({ "kind": "Status", "status": "Success" }))
            }
            Verb::Look => match (state.looks.pop_front(), state.pods.get(pod)) {
                (Some(answer), _) => answer.reply(&Value::Null),
                (None, Some(stored)) => Answer::Fine.reply(stored),
                (None, None) => Answer::Gone.reply(&Value::Null),
            },
            Verb::Seat => state.seat(pod, &body),
        }
    }
}

impl State {
    /// A merge patch of a pod's annotations, fenced as the server does it.
    fn seat(&mut self, pod: &str, patch: &Value) -> Reply {
        let Some(stored) = self.pods.get_mut(pod) else { return Answer::Gone.reply(&Value::Null) };
        if patch["metadata"]["resourceVersion"] != stored["metadata"]["resourceVersion"] {
            return Answer::Conflict.reply(&Value::Null);
        }
        assert_eq!(patch["metadata"]["uid"], stored["metadata"]["uid"]);
        let annotations = json!({ "metadata": { "annotations": patch["metadata"]["annotations"] } });
        *stored = newer(with(stored.take(), &annotations));
        self.changed.insert(pod.to_owned());
        Answer::Fine.reply(stored)
    }
}

// ---- Objects ----

/// `more` laid over `object`, as a merge patch does it: `null` removes.
fn with(mut object: Value, more: &Value) -> Value {
    fn merge(object: &mut Value, more: &Value) {
        match (object, more) {
            (Value::Object(into), Value::Object(from)) => {
                for (key, value) in from {
                    if value.is_null() {
                        into.remove(key);
                    } else {
                        merge(into.entry(key.clone()).or_insert(Value::Null), value);
                    }
                }
            }
            (object, more) => *object = more.clone(),
        }
    }
    merge(&mut object, more);
    object
}

/// The same at the next resource version.
fn newer(object: Value) -> Value {
    let version: u32 = object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
    with(object, &json!({ "metadata": { "resourceVersion": (version + 1).to_string() } }))
}

/// A node, called after what it is, with room for so many pods.
fn node(class: &str, pods: u32) -> Value {
    json!({
        "metadata": { "name": class, "uid": class, "labels": { "karpenter.sh/capacity-type": class } },
        "status": { "allocatable": { "cpu": "1000", "memory": "1000Gi", "pods": pods.to_string() },
                    "conditions": [{ "type": "Ready", "status": "True" }] },
    })
}

fn deployment(name: &str, percent: u32, replicas: usize) -> Value {
    json!({
        "metadata": { "name": name, "namespace": "shop", "uid": name, "generation": 1,
                      "labels": { "spotalis.io/enabled": "true" },
                      "annotations": { "spotalis.io/spot-percentage": percent.to_string() } },
        "spec": { "replicas": replicas, "template": { "metadata": { "labels": { "app": name } } } },
        "status": { "observedGeneration": 1, "replicas": replicas, "updatedReplicas": replicas },
    })
}

fn replica_set(name: &str, replicas: usize) -> Value {
    let owner = json!({ "apiVersion": "apps/v1", "kind": "Deployment", "name": name, "uid": name, "controller": true });
    json!({
        "metadata": { "name": format!("{name}-rs"), "namespace": "shop", "uid": format!("{name}-rs"),
                      "ownerReferences": [owner] },
        "spec": { "replicas": replicas },
    })
}

/// The workload that a pod is called after.
fn workload_of(pod: &str) -> &str {
    pod.split('-').next().unwrap()
}

fn readiness(ready: bool, since: Timestamp) -> Value {
    let status = if ready { "True" } else { "False" };
    json!({ "status": { "conditions": [
        { "type": "Ready", "status": status, "lastTransitionTime": since.to_string() }] } })
}

/// A Ready pod that nobody steered.
fn pod(name: &str, node: &str, created: Timestamp) -> Value {
    let owner = format!("{}-rs", workload_of(name));
    let pod = json!({
        "metadata": { "name": name, "namespace": "shop", "uid": format!("uid-{name}"), "resourceVersion": "1",
                      "creationTimestamp": created.to_string(), "labels": { "app": workload_of(name) },
                      "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": owner, "uid": owner,
                                            "controller": true }] },
        "spec": { "nodeName": node },
        "status": { "phase": "Running" },
    });
    with(pod, &readiness(true, created))
}

/// What admission writes on a pod.
fn steered(pod: Value, slot: u32) -> Value {
    let (id, node) = (pod["metadata"]["uid"].clone(), pod["spec"]["nodeName"].clone());
    let annotations =
        json!({ "spotalis.io/slot": slot.to_string(), "spotalis.io/admission-id": id, COST: format!("-{slot}") });
    with(pod, &json!({ "metadata": { "labels": { "spotalis.io/capacity-type": node }, "annotations": annotations } }))
}

fn budget(name: &str, app: &str) -> Value {
    json!({
        "metadata": { "name": name, "namespace": "shop", "uid": name, "generation": 1 },
        "spec": { "selector": { "matchLabels": { "app": app } } },
        "status": { "observedGeneration": 1, "disruptionsAllowed": 1, "currentHealthy": 4, "desiredHealthy": 3 },
    })
}

fn read<T: slim::Slim>(object: &Value) -> T {
    serde_json::from_value(object.clone()).unwrap()
}

// ---- The world ----

/// The index as the watches would fill it, and balance on top of it. Clones are the same.
#[derive(Clone)]
struct Cluster {
    clock: Clock,
    server: Server,
    index: Arc<Mutex<Index>>,
    balance: Balance,
}

struct World {
    cluster: Cluster,
    pace: Arc<RateLimit>,
    settings: watch::Sender<Settings>,
    leadership: Leadership,
    told: mpsc::Receiver<Stamped>,
    registry: Registry,
    deployments: BTreeMap<String, Value>,
    shutdown: CancellationToken,
}

impl Drop for World {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
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
        provisioner: Provisioner::Never,
    }
}

fn settings() -> Settings {
    Settings {
        read_only: false,
        steering: true,
        resync: S * 30,
        workers: 5,
        cooldown: S * 10,
        max_disruptions: 5,
        seating: true,
        per_workload_metrics: true,
    }
}

impl Cluster {
    /// What the watches' pump does after each event.
    fn heard(&self) {
        let (changed, room_changed) = {
            let mut index = self.index.lock();
            (index.take_changed(), index.take_room_changed())
        };
        self.balance.notify(changed);
        if room_changed {
            self.balance.room_changed();
        }
    }

    /// The pod is stored so, and the view shows it.
    fn pod_is(&self, pod: Value) {
        self.index.lock().apply_pod(&read(&pod), 0);
        self.server.0.lock().pods.insert(pod["metadata"]["name"].as_str().unwrap().to_owned(), pod);
        self.heard();
    }

    /// The pod is not there any more, and the view shows it.
    fn pod_is_gone(&self, name: &str) {
        self.server.0.lock().pods.remove(name);
        self.index.lock().delete_pod("shop", name);
        self.heard();
    }

    /// Somebody changes a pod, and the view does not show it yet.
    fn amend(&self, name: &str, change: &Value) {
        let mut state = self.server.0.lock();
        let stored = state.pods.get_mut(name).unwrap();
        *stored = newer(with(stored.take(), change));
        state.changed.insert(name.to_owned());
    }

    /// The view shows the pods as they are stored.
    fn catch_up(&self) {
        let pods: Vec<Value> = {
            let mut state = self.server.0.lock();
            let changed = std::mem::take(&mut state.changed);
            changed.iter().map(|name| state.pods[name].clone()).collect()
        };
        pods.iter().for_each(|pod| self.index.lock().apply_pod(&read(pod), 0));
        self.heard();
    }

    fn stored(&self, name: &str) -> Value {
        self.server.0.lock().pods[name].clone()
    }

    /// Now, in whole seconds as the API server writes it.
    fn second(&self) -> Timestamp {
        Timestamp::from_second(self.clock.now().as_second()).unwrap()
    }

    /// What its controller and the scheduler do about an evicted pod: another one, on spot, not Ready yet.
    fn replace(&self, victim: &str) -> String {
        let slot =
            self.stored(victim)["metadata"]["annotations"]["spotalis.io/slot"].as_str().unwrap().parse().unwrap();
        let name = format!("{victim}-again");
        self.pod_is_gone(victim);
        self.pod_is(with(steered(pod(&name, "spot", self.second()), slot), &readiness(false, self.second())));
        name
    }

    fn becomes_ready(&self, name: &str) {
        self.pod_is(newer(with(self.stored(name), &readiness(true, self.second()))));
    }
}

impl World {
    /// A cluster with a node of each type and no workload yet.
    fn new() -> Self {
        Self::with(settings())
    }

    fn with(settings: Settings) -> Self {
        let clock = Clock::starting_at(EPOCH);
        let server = Server::new(clock);
        let index = Arc::new(Mutex::new(Index::new(rules())));
        {
            let mut index = index.lock();
            for view in View::REQUIRED {
                index.set_currency(&Source { view, namespace: None }, FRESH);
            }
            let labels = json!({ "spotalis.io/enabled": "true" });
            index.apply_namespace(read(&json!({ "metadata": { "name": "shop", "labels": labels } })), 0);
            ["spot", "on-demand"].iter().for_each(|class| index.apply_node(&read(&node(class, 10_000)), 0));
        }
        let shutdown = CancellationToken::new();
        let leadership = Leadership::alone("a", clock, &LeadershipMetrics::default(), &shutdown);
        let pace = Arc::new(RateLimit::new(50, 100));
        let writer = Writer::new(server.client(), pace.clone(), leadership.clone(), S * 10);
        let (recorder, told) = EventRecorder::channel(clock, EventMetrics::default(), 1_000);
        let mut registry = Registry::default();
        let metrics = BalanceMetrics::register(&mut registry);
        let (settings, receiver) = watch::channel(settings);
        let balance = Balance::new(index.clone(), writer, recorder, metrics, receiver, (clock, ServerTime::default()));
        let cluster = Cluster { clock, server, index, balance };
        Self { cluster, pace, settings, leadership, told, registry, deployments: BTreeMap::new(), shutdown }
    }

    /// Four Ready pods of ours, `NAME-1` to `NAME-4`, each in the slot of its number and all on on-demand. Of half on spot
    /// `NAME-3` goes first, then `NAME-1`; of a quarter `NAME-1`.
    fn drifting(&mut self, name: &str, percent: u32) {
        let pods = (1..=4).map(|n| steered(pod(&format!("{name}-{n}"), "on-demand", born(n)), n)).collect();
        self.workload(name, percent, pods);
    }

    /// Half of the pods on spot and half on on-demand, as wanted; they are older than the opt-in and have no slots.
    fn unseated(&mut self, name: &str, pods: u32) {
        let node = |n| if n <= pods / 2 { "spot" } else { "on-demand" };
        self.workload(name, 50, (1..=pods).map(|n| pod(&format!("{name}-{n}"), node(n), born(n))).collect());
    }

    fn workload(&mut self, name: &str, percent: u32, pods: Vec<Value>) {
        let replicas = replica_set(name, pods.len());
        self.cluster.index.lock().apply_replica_set(&read(&replicas), 0);
        self.deployment_is(deployment(name, percent, pods.len()));
        pods.into_iter().for_each(|pod| self.cluster.pod_is(pod));
    }

    fn deployment_is(&mut self, deployment: Value) {
        self.cluster.index.lock().apply_workload(WorkloadKind::Deployment, read(&deployment), 0);
        self.deployments.insert(deployment["metadata"]["name"].as_str().unwrap().to_owned(), deployment);
        self.cluster.heard();
    }

    fn amend_deployment(&mut self, name: &str, change: &Value) {
        self.deployment_is(with(self.deployments[name].clone(), change));
    }

    fn opt_out(&mut self, name: &str) {
        self.amend_deployment(name, &json!({ "metadata": { "labels": { "spotalis.io/enabled": null } } }));
    }

    fn node_is(&self, node: &Value) {
        self.cluster.index.lock().apply_node(&read(node), 0);
        self.cluster.heard();
    }

    fn budget_is(&self, budget: &Value) {
        self.cluster.index.lock().apply_pdb(read(budget), 0);
        self.cluster.heard();
    }

    /// Leads from now on.
    fn lead(&self) -> JoinHandle<()> {
        self.lead_a_term(self.leadership.term().unwrap())
    }

    fn lead_a_term(&self, term: Term) -> JoinHandle<()> {
        let balance = self.cluster.balance.clone();
        tokio::spawn(async move { balance.lead(&term).await })
    }

    /// From now on something happens to every workload all the time.
    fn stir(&self) {
        let balance = self.cluster.balance.clone();
        let stirring = async move {
            loop {
                sleep(MS * 400).await;
                balance.notify_all();
            }
        };
        tokio::spawn(self.shutdown.clone().run_until_cancelled_owned(stirring));
    }

    /// From now on the view is never older than 50 ms.
    fn follow(&self) {
        let cluster = self.cluster.clone();
        let following = async move {
            loop {
                sleep(MS * 50).await;
                cluster.catch_up();
            }
        };
        tokio::spawn(self.shutdown.clone().run_until_cancelled_owned(following));
    }

    fn answers(&self, evictions: &[Answer], always: Answer) {
        let mut state = self.cluster.server.0.lock();
        state.evictions = evictions.iter().copied().collect();
        state.always = always;
    }

    async fn until(&self, elapsed: Duration) {
        sleep_until(self.cluster.clock.instant(elapsed)).await;
    }

    fn sent(&self, verb: Verb) -> Vec<Sent> {
        self.cluster.server.0.lock().sent.iter().filter(|sent| sent.verb == verb).cloned().collect()
    }

    /// The pods that slots were written on, or tried to.
    fn seated(&self) -> Vec<String> {
        self.sent(Verb::Seat).into_iter().map(|sent| sent.pod).collect()
    }

    fn requests(&self) -> usize {
        self.cluster.server.0.lock().sent.len()
    }

    /// `POD at SECOND` of each eviction.
    fn evictions(&self) -> Vec<String> {
        let second = |at: Duration| (at + MS * 500).as_secs();
        self.sent(Verb::Evict).iter().map(|sent| format!("{} at {}", sent.pod, second(sent.at))).collect()
    }

    /// The pod of the eviction after so many.
    async fn eviction(&self, after: usize) -> String {
        let sent = async {
            loop {
                if let Some(sent) = self.sent(Verb::Evict).get(after) {
                    return sent.pod.clone();
                }
                sleep(MS * 10).await;
            }
        };
        timeout(MINUTE * 60, sent).await.expect("another eviction")
    }

    /// The Events since the last call, `Reason: note`.
    fn told(&mut self) -> Vec<String> {
        let stamped = std::iter::from_fn(|| self.told.try_recv().ok());
        stamped.map(|Stamped { notice, at: _ }| format!("{}: {}", notice.reason, notice.note)).collect()
    }

    fn exposition(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text
    }

    fn metric(&self, sample: &str) -> Option<String> {
        self.exposition().lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' ').map(str::to_owned))
    }

    fn is_blocked(&self, name: &str) -> bool {
        self.metric(&format!("evictions_blocked{{namespace=\"shop\",workload=\"{name}\"}}")).unwrap() == "1"
    }
}

/// The term's work ends now.
async fn ends(leading: JoinHandle<()>) {
    timeout(S, leading).await.expect("no work after the term").unwrap();
}

/// When the pod of that number was created: long ago, one after another.
fn born(number: u32) -> Timestamp {
    EPOCH - MINUTE * 60 + S * number
}

/// A workload that wants two moves, and a server that answers so.
fn drifting(evictions: &[Answer], always: Answer) -> World {
    let mut world = World::new();
    world.drifting("web", 50);
    world.answers(evictions, always);
    world
}

// ---- When a pod is evicted ----

#[tokio::test(start_paused = true)]
async fn an_eviction_is_fenced_by_the_uid_and_told() {
    let mut world = drifting(&[], Answer::Fine);
    world.lead();
    world.until(S * 9).await;
    assert_eq!(world.requests(), 0, "the cooldown of the term's beginning");
    world.until(FIRST + S).await;
    assert_eq!(world.evictions(), ["web-3 at 10"]);
    let body = world.sent(Verb::Evict)[0].body.clone();
    assert_eq!(body["deleteOptions"], json!({ "preconditions": { "uid": "uid-web-3" } }));
    let note = "Rebalanced: evicted web-3 from on-demand so that its replacement starts on spot";
    assert_eq!(world.told(), [note]);
    let evicted = "evictions_total{reason=\"Rebalanced\",result=\"evicted\"}";
    assert_eq!(world.metric(evicted).as_deref(), Some("1"));
}

#[tokio::test(start_paused = true)]
async fn no_second_eviction_before_the_view_shows_the_first_one_and_its_replacement() {
    let mut world = drifting(&[], Answer::Fine);
    world.stir();
    world.lead();
    world.until(MINUTE).await;
    assert_eq!(world.evictions(), ["web-3 at 10"], "the view is as it was");
    world.cluster.pod_is(with(
        world.cluster.stored("web-3"),
        &json!({ "metadata": {
        "deletionTimestamp": "2026-03-01T12:00:40Z", "deletionGracePeriodSeconds": 30 } }),
    ));
    world.until(MINUTE + S * 20).await;
    let again = world.cluster.replace("web-3");
    world.until(MINUTE + S * 40).await;
    assert_eq!(world.evictions().len(), 1, "the replacement is not Ready");
    world.cluster.becomes_ready(&again);
    world.until(MINUTE + S * 60).await;
    assert_eq!(world.evictions(), ["web-3 at 10", "web-1 at 110"], "ten seconds after it became Ready");
    let again = world.cluster.replace("web-1");
    world.cluster.becomes_ready(&again);
    world.until(MINUTE * 10).await;
    assert_eq!(world.requests(), 2, "the split is exact, and everybody sits in a slot");
    assert_eq!(world.told().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_replacement_that_comes_back_unsteered_stops_the_moves_ever_longer() {
    let mut world = drifting(&[], Answer::Fine);
    world.stir();
    world.lead();
    for (n, second) in [10, 315, 920].into_iter().enumerate() {
        let victim = world.eviction(n).await;
        assert_eq!(world.evictions()[n], format!("{victim} at {second}"));
        sleep(S * 5).await;
        world.cluster.pod_is_gone(&victim);
        world.cluster.pod_is(pod(&format!("web-unsteered{n}"), "on-demand", world.cluster.second()));
    }
    sleep(MINUTE).await;
    let told = world.told();
    let warnings = told.iter().filter(|note| note.starts_with("WebhookNotSteering: ")).count();
    assert_eq!((told.len(), warnings), (6, 3), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn moves_of_several_workloads_count_on_no_place_twice() {
    let mut world = World::new();
    world.node_is(&node("spot", 1));
    ["a", "b", "c"].iter().for_each(|name| world.drifting(name, 25));
    world.lead();
    world.until(FIRST + S).await;
    assert_eq!(world.evictions(), ["a-1 at 10"]);
    let again = world.cluster.replace("a-1");
    world.cluster.becomes_ready(&again);
    world.until(S * 119).await;
    assert_eq!(world.evictions().len(), 1, "the place is taken");
    world.told();
    world.node_is(&node("spot", 2));
    world.until(MINUTE * 2 + S * 5).await;
    assert_eq!(world.evictions(), ["a-1 at 10", "b-1 at 120"], "the node's new place is seen in a second");
    assert_eq!(world.told().len(), 1, "that the others wait is no news");
}

#[tokio::test(start_paused = true)]
async fn a_view_that_is_not_whole_is_not_acted_upon() {
    let world = drifting(&[], Answer::Fine);
    let is = |currency| {
        let source = Source { view: View::PodDisruptionBudgets, namespace: None };
        world.cluster.index.lock().set_currency(&source, currency);
    };
    // Being read anew: not long enough to be stale, but some of it is old.
    is(Currency { mixed: true, ..FRESH });
    world.lead();
    world.until(MINUTE).await;
    assert_eq!(world.requests(), 0);
    // Nothing that happens tells that it is whole again.
    is(FRESH);
    world.until(MINUTE + S * 2).await;
    assert_eq!(world.evictions().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_bad_value_is_told_once_and_nothing_is_moved_until_it_is_mended() {
    let mut world = drifting(&[], Answer::Fine);
    let percent = |value: &str| json!({ "metadata": { "annotations": { "spotalis.io/spot-percentage": value } } });
    world.amend_deployment("web", &percent("half"));
    world.stir();
    world.lead();
    world.until(MINUTE).await;
    assert_eq!(world.requests(), 0);
    let told = world.told();
    assert!(told.len() == 1 && told[0].starts_with("InvalidAnnotation: "), "{told:?}");
    let failures = "annotation_parse_failures_total{key=\"spot-percentage\"}";
    assert_eq!(world.metric(failures).as_deref(), Some("1"));
    world.amend_deployment("web", &percent("50"));
    world.until(MINUTE + S).await;
    assert_eq!(world.evictions(), ["web-3 at 60"]);
}

#[tokio::test(start_paused = true)]
async fn who_opts_out_is_left_alone_and_shown_no_more() {
    let mut world = drifting(&[], Answer::Fine);
    world.lead();
    world.until(S).await;
    assert!(world.exposition().contains("workload=\"web\""));
    world.opt_out("web");
    world.until(MINUTE).await;
    assert_eq!(world.requests(), 0);
    assert!(!world.exposition().contains("workload=\"web\""));
}

// ---- Answers that are no eviction ----

#[tokio::test(start_paused = true)]
async fn after_each_answer_the_next_try_comes_in_its_time_and_nothing_hastens_it() {
    for (answer, has_budget, pause, told) in [
        (Answer::Conflict, false, S * 10, false),
        // The failed precondition took the budget's allowance for two minutes.
        (Answer::Conflict, true, S * 120, false),
        (Answer::BudgetBehind, true, RETRY_AFTER, false),
        (Answer::Overloaded, true, RETRY_AFTER, false),
        (Answer::Forbidden, false, S * 10, true),
    ] {
        let mut world = drifting(&[answer], Answer::Fine);
        if has_budget {
            world.budget_is(&budget("web", "web"));
        }
        world.stir();
        world.lead();
        world.until(MS * 9_900 + pause).await;
        assert_eq!(world.evictions(), ["web-3 at 10"], "{answer:?}");
        assert_eq!(!world.told().is_empty(), told, "{answer:?}");
        world.until(FIRST + pause + S).await;
        let again = format!("web-3 at {}", (FIRST + pause).as_secs());
        assert_eq!(world.evictions(), ["web-3 at 10", &again], "{answer:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_was_gone_is_not_asked_for_again_while_the_view_is_behind() {
    for answer in [Answer::Gone, Answer::OtherUid] {
        let mut world = drifting(&[answer], Answer::Fine);
        world.stir();
        world.lead();
        world.until(MINUTE * 2).await;
        assert_eq!(world.evictions(), ["web-3 at 10"], "{answer:?}");
        let again = world.cluster.replace("web-3");
        world.until(MINUTE * 3).await;
        world.cluster.becomes_ready(&again);
        world.until(MINUTE * 4).await;
        assert_eq!(
            world.evictions(),
            ["web-3 at 10", "web-1 at 190"],
            "{answer:?}: what came instead is there, and ready"
        );
        assert_eq!(world.told().len(), 1, "of the one that was a move");
    }

    let world = drifting(&[Answer::Gone], Answer::Fine);
    world.stir();
    world.lead();
    world.until(MINUTE * 6).await;
    assert_eq!(world.evictions(), ["web-3 at 10", "web-3 at 310"], "the view shows it still: nothing waits for ever");
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_was_gone_takes_no_place_of_others() {
    let mut world = World::with(Settings { max_disruptions: 1, ..settings() });
    ["api", "web"].iter().for_each(|name| world.drifting(name, 25));
    world.answers(&[Answer::Gone], Answer::Fine);
    world.stir();
    world.lead();
    world.until(FIRST + S * 2).await;
    assert_eq!(world.evictions(), ["api-1 at 10", "web-1 at 10"]);
}

#[tokio::test(start_paused = true)]
async fn a_burnt_budget_is_waited_for_even_if_the_pod_was_gone() {
    let world = drifting(&[Answer::OtherUid], Answer::Fine);
    world.budget_is(&budget("web", "web"));
    world.stir();
    world.lead();
    world.until(FIRST + S).await;
    let again = world.cluster.replace("web-3");
    world.cluster.becomes_ready(&again);
    world.until(MINUTE * 3).await;
    assert_eq!(world.evictions(), ["web-3 at 10", "web-1 at 130"]);
}

#[tokio::test(start_paused = true)]
async fn an_overloaded_server_slows_everything_down_and_a_late_budget_only_its_workload() {
    for (answer, next) in [(Answer::Overloaded, "web-3 at 40"), (Answer::BudgetBehind, "web-3 at 15")] {
        let mut world = World::new();
        ["api", "web"].iter().for_each(|name| world.drifting(name, 50));
        // So that the other one has its turn later.
        world.cluster.pod_is(with(world.cluster.stored("web-4"), &readiness(true, EPOCH + S * 5)));
        world.answers(&[answer], Answer::Fine);
        world.stir();
        world.lead();
        world.until(MINUTE).await;
        let mut evictions = world.evictions();
        evictions.sort_unstable();
        assert_eq!(evictions, ["api-3 at 10", "api-3 at 40", next], "{answer:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn where_a_budget_holds_one_pod_back_the_next_one_goes() {
    let mut world = drifting(&[Answer::Budget], Answer::Fine);
    world.lead();
    world.until(FIRST + S).await;
    assert_eq!(world.evictions(), ["web-3 at 10", "web-1 at 10"]);
    let note = "Rebalanced: evicted web-1 from on-demand so that its replacement starts on spot";
    assert_eq!(world.told(), [note]);
    assert!(!world.is_blocked("web"));
}

#[tokio::test(start_paused = true)]
async fn a_budget_that_holds_all_back_is_told_once_and_shown_as_long_as_it_lasts() {
    for (answer, has_budget, note) in [
        (Answer::Budget, false, "MoveBlockedByPDB: PodDisruptionBudget hidden allows no eviction now"),
        (Answer::Budget, true, "MoveBlockedByPDB: PodDisruptionBudget known allows no eviction now"),
        (
            Answer::SeveralBudgets,
            true,
            "SeveralPDBs: pod web-3 has more than one PodDisruptionBudget, which the eviction API refuses",
        ),
    ] {
        let mut world = drifting(&[], answer);
        if has_budget {
            world.budget_is(&budget("known", "web"));
        }
        world.stir();
        world.lead();
        world.until(FIRST + S * 9).await;
        let each = ["web-3 at 10", "web-1 at 10", "web-4 at 10", "web-2 at 10"];
        assert_eq!(world.evictions(), each, "{answer:?}: each pod once");
        assert_eq!(world.told(), [note]);
        assert!(world.is_blocked("web"));
        world.until(MINUTE + S * 9).await;
        assert_eq!(world.evictions().len(), 4 * 6, "{answer:?}: again after ten seconds");
        assert_eq!(world.told(), [""; 0], "{answer:?}: no news");
        assert!(world.is_blocked("web"));
    }
}

#[tokio::test(start_paused = true)]
async fn several_budgets_that_the_view_knows_of_are_told_without_a_try() {
    let mut world = drifting(&[], Answer::Fine);
    ["one", "two"].iter().for_each(|name| world.budget_is(&budget(name, "web")));
    world.lead();
    world.until(MINUTE).await;
    assert_eq!(world.requests(), 0);
    assert_eq!(world.told().len(), 1);
    assert!(world.is_blocked("web"));
}

#[tokio::test(start_paused = true)]
async fn a_budget_says_nothing_of_a_pod_that_is_gone() {
    let mut world = drifting(&[], Answer::Budget);
    world.cluster.server.0.lock().latency = MS * 100;
    world.stir();
    world.lead();
    world.until(FIRST + MS * 50).await;
    assert_eq!(world.evictions().len(), 1);
    world.cluster.pod_is_gone("web-3");
    world.until(MINUTE).await;
    assert_eq!(world.evictions(), ["web-3 at 10"], "a pod is missing");
    assert_eq!(world.told(), [""; 0]);
    assert!(!world.is_blocked("web"));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_told_once_and_tried_again_ever_more_seldom() {
    let mut world = drifting(&[], Answer::Forbidden);
    world.stir();
    world.lead();
    world.until(S * 1_000).await;
    let tries = [10, 20, 40, 80, 160, 320, 620, 920].map(|second| format!("web-3 at {second}"));
    assert_eq!(world.evictions(), tries);
    assert_eq!(world.told(), ["EvictionRefused: the API server refuses the eviction of web-3"]);
    assert_eq!(world.metric("reconcile_errors_total{controller=\"balance\",reason=\"forbidden\"}").unwrap(), "8");
    world.answers(&[Answer::Fine, Answer::Forbidden], Answer::Fine);
    world.until(S * 1_230).await;
    let again = world.cluster.replace("web-3");
    world.cluster.becomes_ready(&again);
    world.until(S * 1_300).await;
    let later = world.evictions().split_off(tries.len());
    assert_eq!(later, ["web-3 at 1220", "web-1 at 1240", "web-1 at 1250"], "an eviction in between ends the series");
}

// ---- An answer that is lost ----

#[tokio::test(start_paused = true)]
async fn after_a_lost_answer_the_pod_itself_says_what_came_of_the_eviction() {
    type Fate = fn(&Cluster);
    let fates: [(&str, Fate, bool); 4] = [
        ("alive", |_| {}, false),
        ("gone", |cluster| drop(cluster.server.0.lock().pods.remove("web-3")), true),
        ("going", |cluster| cluster.amend("web-3", &json!({ "metadata": { "deletionTimestamp": EPOCH } })), true),
        ("another", |cluster| cluster.amend("web-3", &json!({ "metadata": { "uid": "uid-other" } })), true),
    ];
    for (fate, befall, is_done) in fates {
        for answer in [Answer::Lost, Answer::Broken] {
            let world = drifting(&[answer], Answer::Fine);
            world.stir();
            world.lead();
            world.until(FIRST + S).await;
            befall(&world.cluster);
            world.until(FIRST + S * 9).await;
            assert_eq!(world.requests(), 1, "{fate}, {answer:?}: nothing before it is known");
            world.until(MINUTE * 2).await;
            let looks: Vec<String> = world.sent(Verb::Look).into_iter().map(|sent| sent.pod).collect();
            assert_eq!(looks, ["web-3"], "{fate}, {answer:?}");
            let evictions: &[&str] = if is_done { &["web-3 at 10"] } else { &["web-3 at 10", "web-3 at 20"] };
            assert_eq!(world.evictions(), evictions, "{fate}, {answer:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn as_long_as_nobody_knows_what_came_of_an_eviction_there_is_no_other() {
    let mut world = World::with(Settings { max_disruptions: 1, ..settings() });
    ["api", "web"].iter().for_each(|name| world.drifting(name, 25));
    world.answers(&[Answer::Lost], Answer::Fine);
    world.cluster.server.0.lock().looks = [Answer::Lost, Answer::Broken, Answer::Forbidden].into();
    world.stir();
    world.lead();
    world.until(FIRST + S * 39).await;
    assert_eq!(world.evictions(), ["api-1 at 10"], "of this workload or of another");
    assert_eq!(world.sent(Verb::Look).len(), 3);
    world.until(MINUTE * 2).await;
    assert_eq!(world.evictions(), ["api-1 at 10", "api-1 at 50"]);
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_that_was_a_yes_counts_until_the_replacement_is_ready() {
    let mut world = World::with(Settings { max_disruptions: 1, ..settings() });
    ["api", "web"].iter().for_each(|name| world.drifting(name, 25));
    world.answers(&[Answer::Lost], Answer::Fine);
    world.cluster.server.0.lock().latency = S * 3;
    world.stir();
    world.lead();
    world.until(FIRST + S).await;
    let again = world.cluster.replace("api-1");
    world.until(MINUTE * 2).await;
    assert_eq!(world.evictions(), ["api-1 at 10"]);
    world.cluster.becomes_ready(&again);
    world.until(MINUTE * 3).await;
    assert_eq!(world.evictions(), ["api-1 at 10", "web-1 at 120"]);
}

// ---- Waiting for the pace ----

#[tokio::test(start_paused = true)]
async fn what_was_decided_before_a_wait_for_the_pace_is_decided_anew_after_it() {
    type Change = fn(&mut World);
    let changes: [(&str, Change, &[&str]); 7] = [
        ("nothing", |_| {}, &["web-3 at 35"]),
        ("opted out", |world| world.opt_out("web"), &[]),
        ("read-only", |world| world.settings.send_modify(|settings| settings.read_only = true), &[]),
        ("a rollout", |world| world.amend_deployment("web", &json!({ "metadata": { "generation": 2 } })), &[]),
        (
            "no spot is wanted any more",
            |world| {
                let annotations = json!({ "spotalis.io/spot-percentage": "0" });
                world.amend_deployment("web", &json!({ "metadata": { "annotations": annotations } }));
            },
            &[],
        ),
        (
            "another pod does not serve, so it goes first",
            |world| world.cluster.pod_is(with(world.cluster.stored("web-2"), &readiness(false, EPOCH))),
            &["web-2 at 35"],
        ),
        (
            "the workload is gone",
            |world| world.cluster.index.lock().delete_workload(WorkloadKind::Deployment, "shop", "web"),
            &[],
        ),
    ];
    for (what, change, evictions) in changes {
        let mut world = drifting(&[], Answer::Fine);
        world.lead();
        world.until(S * 5).await;
        world.pace.pause(S * 30);
        world.until(S * 20).await;
        assert_eq!(world.requests(), 0);
        change(&mut world);
        world.until(S * 50).await;
        assert_eq!(world.evictions(), evictions, "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_found_out_after_a_wait_is_decided_by_the_settings_of_then() {
    let world = drifting(&[Answer::Lost], Answer::Fine);
    world.lead();
    world.until(FIRST + S).await;
    world.pace.pause(S * 60);
    world.until(S * 40).await;
    world.settings.send_modify(|settings| settings.read_only = true);
    world.until(MINUTE * 3).await;
    assert_eq!(world.evictions(), ["web-3 at 10"]);
}

// ---- Seating ----

#[tokio::test(start_paused = true)]
async fn slots_are_written_on_the_pods_as_they_were_seen_and_once() {
    let mut world = World::new();
    world.unseated("web", 4);
    world.cluster.amend("web-1", &json!({ "metadata": { "labels": { "somebody": "else" } } }));
    world.cluster.catch_up();
    world.lead();
    world.follow();
    world.until(MINUTE).await;
    let bodies: Vec<Value> = world.sent(Verb::Seat).into_iter().map(|sent| sent.body["metadata"].clone()).collect();
    let seat = |pod: &str, version: &str, slot: u32| {
        let annotations = json!({ "spotalis.io/slot": slot.to_string(), COST: format!("-{slot}") });
        json!({ "uid": format!("uid-{pod}"), "resourceVersion": version, "annotations": annotations })
    };
    let want = [seat("web-1", "2", 1), seat("web-2", "1", 3), seat("web-3", "1", 2), seat("web-4", "1", 4)];
    assert_eq!(bodies, want, "the slots of spot are the odd ones");
    assert_eq!(world.requests(), 4);
    assert_eq!(world.told(), [""; 0], "seating is no news");
}

#[tokio::test(start_paused = true)]
async fn what_somebody_else_wrote_meanwhile_is_not_overwritten() {
    let cost = json!({ "metadata": { "annotations": { COST: "1000" } } });
    let slot = json!({ "metadata": { "annotations": { "spotalis.io/slot": "3" } } });
    for change in [cost, slot] {
        let mut world = World::new();
        world.unseated("web", 4);
        world.cluster.amend("web-1", &change);
        world.lead();
        world.until(MS * 400).await;
        assert_eq!(world.seated(), ["web-1", "web-2", "web-3", "web-4"], "the view does not show it yet");
        let written = |annotation| change["metadata"]["annotations"][annotation].clone();
        for annotation in [COST, "spotalis.io/slot"] {
            let stored = world.cluster.stored("web-1")["metadata"]["annotations"][annotation].clone();
            assert_eq!(stored, written(annotation));
        }
        assert!(!world.exposition().contains("reconcile_errors_total{"), "a conflict is no error");
    }
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_turns_out_to_be_another_before_its_turn_gets_no_slot() {
    let other = |pod: Value| with(pod, &json!({ "metadata": { "uid": "uid-other" } }));
    let foreign = |pod: Value| with(pod, &json!({ "metadata": { "annotations": { COST: "1000" } } }));
    let turned: [&dyn Fn(Value) -> Value; 2] = [&other, &foreign];
    for turn in turned {
        let mut world = World::new();
        world.unseated("web", 4);
        world.cluster.server.0.lock().latency = MS * 100;
        world.lead();
        world.until(MS * 50).await;
        assert_eq!(world.seated(), ["web-1"], "on its way");
        world.cluster.pod_is(newer(turn(world.cluster.stored("web-3"))));
        world.until(MS * 290).await;
        let seated = world.seated();
        assert_eq!(seated[..2], ["web-1", "web-2"]);
        assert!(!seated.contains(&"web-3".to_owned()), "{seated:?}");
    }
}

/// An answer may take its time, and the workload be another by then.
#[tokio::test(start_paused = true)]
async fn nobody_else_is_seated_once_the_workload_is_not_at_rest() {
    let mut world = World::new();
    world.unseated("web", 4);
    world.cluster.server.0.lock().latency = S * 5;
    world.lead();
    world.until(S).await;
    assert_eq!(world.seated(), ["web-1"], "on its way");
    world.cluster.pod_is(newer(with(world.cluster.stored("web-4"), &readiness(false, EPOCH))));
    world.until(MINUTE).await;
    assert_eq!(world.seated(), ["web-1"]);
}

#[tokio::test(start_paused = true)]
async fn slots_are_written_ten_a_second() {
    let mut world = World::new();
    world.unseated("web", 60);
    world.lead();
    world.follow();
    for (elapsed, at_least, at_most) in [(MS * 400, 10, 14), (S * 3, 35, 40), (S * 8, 60, 60), (MINUTE, 60, 60)] {
        world.until(elapsed).await;
        let seated = world.sent(Verb::Seat).len();
        assert!((at_least..=at_most).contains(&seated), "{seated} after {elapsed:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_hundred_workloads_to_be_seated_keep_no_eviction_waiting() {
    let mut world = World::new();
    (0..100).for_each(|n| world.unseated(&format!("s{n:02}"), 10));
    world.drifting("web", 50);
    world.lead();
    world.follow();
    world.until(FIRST + S * 5).await;
    let [Sent { at, .. }] = &world.sent(Verb::Evict)[..] else { panic!("one eviction") };
    assert!(*at < FIRST + MS * 100, "{at:?}");
    let seated = world.sent(Verb::Seat).len();
    assert!((120..=160).contains(&seated), "seating goes on at its own pace: {seated}");
    let left = std::iter::repeat_with(|| world.pace.try_turn()).take_while(|due| *due).count();
    assert!(left > 50, "and takes no more turns than it uses: {left} of 100 are left");
}

#[tokio::test(start_paused = true)]
async fn no_slot_is_written_for_a_workload_that_opted_out_meanwhile() {
    let mut world = World::new();
    world.unseated("web", 4);
    world.cluster.server.0.lock().latency = MS * 100;
    world.lead();
    world.until(MS * 50).await;
    assert_eq!(world.seated(), ["web-1"], "on its way");
    world.pace.pause(S * 30);
    world.until(S).await;
    world.opt_out("web");
    let before = world.requests();
    world.until(MINUTE * 2).await;
    assert_eq!(world.requests(), before);
}

// ---- The limit ----

#[tokio::test(start_paused = true)]
async fn under_a_limit_of_one_all_get_their_turn_and_never_two_at_once() {
    let mut world = World::with(Settings { max_disruptions: 1, ..settings() });
    ["a", "b", "c"].iter().for_each(|name| world.drifting(name, 50));
    world.stir();
    world.lead();
    for (n, expected) in ["a-3", "b-3", "c-3", "a-1", "b-1", "c-1"].into_iter().enumerate() {
        let victim = world.eviction(n).await;
        assert_eq!(victim, expected);
        sleep(S * 20).await;
        let again = world.cluster.replace(&victim);
        sleep(S * 20).await;
        assert_eq!(world.evictions().len(), n + 1, "the replacement of {victim} is not Ready");
        world.cluster.becomes_ready(&again);
    }
    sleep(MINUTE).await;
    assert_eq!(world.requests(), 6);
}

#[tokio::test(start_paused = true)]
async fn whoever_is_looked_at_just_then_does_not_take_the_place_of_the_next_in_line() {
    let mut world = World::with(Settings { max_disruptions: 1, ..settings() });
    ["a", "b", "c", "d"].iter().for_each(|name| world.drifting(name, 25));
    world.lead();
    for (n, expected) in ["a-1", "b-1", "c-1", "d-1"].into_iter().enumerate() {
        let victim = world.eviction(n).await;
        assert_eq!(victim, expected);
        sleep(S).await;
        let again = world.cluster.replace(&victim);
        sleep(S).await;
        let last = WorkloadKey { namespace: "shop".into(), kind: WorkloadKind::Deployment, name: "d".into() };
        world.cluster.becomes_ready(&again);
        world.cluster.balance.notify([last].into());
    }
}

#[tokio::test(start_paused = true)]
async fn a_place_that_the_next_in_line_has_no_use_for_goes_to_the_one_after() {
    let mut world = World::with(Settings { max_disruptions: 1, resync: MINUTE * 60, ..settings() });
    ["a", "b", "c"].iter().for_each(|name| world.drifting(name, 25));
    world.lead();
    world.until(FIRST + S).await;
    world.opt_out("b");
    let again = world.cluster.replace("a-1");
    world.until(MINUTE).await;
    world.cluster.becomes_ready(&again);
    world.until(MINUTE + S).await;
    assert_eq!(world.evictions(), ["a-1 at 10", "c-1 at 60"]);
}

#[tokio::test(start_paused = true)]
async fn a_slow_answer_does_not_make_the_replacement_look_older_than_the_eviction() {
    let mut world = World::with(Settings { max_disruptions: 1, ..settings() });
    ["api", "web"].iter().for_each(|name| world.drifting(name, 25));
    world.cluster.server.0.lock().latency = S * 5;
    world.stir();
    world.lead();
    world.until(FIRST + S).await;
    let again = world.cluster.replace("api-1");
    world.until(MINUTE * 2).await;
    assert_eq!(world.evictions(), ["api-1 at 10"], "its replacement is not Ready");
    world.cluster.becomes_ready(&again);
    world.until(MINUTE * 3).await;
    assert_eq!(world.evictions(), ["api-1 at 10", "web-1 at 120"]);
}

#[tokio::test(start_paused = true)]
async fn a_replacement_that_never_comes_gives_its_place_up_after_five_minutes_whatever_the_resync() {
    let mut world = World::with(Settings { max_disruptions: 1, resync: MINUTE * 1_440, ..settings() });
    ["api", "web"].iter().for_each(|name| world.drifting(name, 25));
    world.lead();
    world.until(FIRST + S).await;
    world.cluster.replace("api-1");
    world.until(S * 309).await;
    assert_eq!(world.evictions(), ["api-1 at 10"]);
    world.until(S * 311).await;
    assert_eq!(world.evictions(), ["api-1 at 10", "web-1 at 310"]);
}

// ---- Who does not lead, and who may not write ----

#[tokio::test(start_paused = true)]
async fn with_the_term_everything_ends() {
    let mut world = drifting(&[], Answer::Forbidden);
    world.unseated("old", 40);
    world.stir();
    let leading = world.lead();
    world.until(S * 2).await;
    assert!(world.requests() > 0);
    let shown = |world: &World| world.exposition().matches("workload=\"").count();
    assert_eq!(shown(&world), 2 * 6, "desired by two types, realized by three, blocked");
    world.shutdown.cancel();
    ends(leading).await;
    assert_eq!(shown(&world), 0);
    let before = world.requests();
    world.cluster.catch_up();
    sleep(MINUTE * 10).await;
    assert_eq!((world.requests(), shown(&world)), (before, 0));
}

#[tokio::test(start_paused = true)]
async fn leadership_that_ends_during_the_wait_for_the_pace_lets_nothing_out() {
    let world = drifting(&[], Answer::Fine);
    let leading = world.lead_a_term(Term { number: 0, ended: CancellationToken::new() });
    world.pace.pause(MINUTE);
    world.until(S * 30).await;
    // The fence says so before the term's own token does.
    world.shutdown.cancel();
    world.until(MINUTE * 5).await;
    assert_eq!(world.requests(), 0);
    leading.abort();
}

#[tokio::test(start_paused = true)]
async fn node_hours_are_counted_while_it_leads_and_sees_everything() {
    let world = World::new();
    let hours = |class: &str| -> f64 {
        world.metric(&format!("node_hours_total{{type=\"{class}\"}}")).map_or(0.0, |hours| hours.parse().unwrap())
    };
    let is = |class: &str, wanted: f64| (hours(class) - wanted).abs() < 0.01;
    world.until(MINUTE * 60).await;
    assert!(is("spot", 0.0), "nobody leads");
    let leading = world.lead();
    world.until(MINUTE * 120).await;
    assert!(is("spot", 1.0) && is("on_demand", 1.0) && is("unknown", 0.0), "{}", world.exposition());
    world.node_is(&with(node("spot", 10), &json!({ "metadata": { "name": "another", "uid": "another" } })));
    world.until(MINUTE * 150).await;
    assert!(is("spot", 2.0) && is("on_demand", 1.5), "{}", world.exposition());
    let nodes = Source { view: View::Nodes, namespace: None };
    world.cluster.index.lock().set_currency(&nodes, Currency { synced: false, ..FRESH });
    world.until(MINUTE * 180).await;
    assert!(is("spot", 2.0), "the nodes are being listed: {}", world.exposition());
    world.shutdown.cancel();
    ends(leading).await;
}

#[tokio::test(start_paused = true)]
async fn a_new_term_begins_without_memories() {
    let world = drifting(&[], Answer::Fine);
    let term = Term { number: 0, ended: CancellationToken::new() };
    let first = world.lead_a_term(term.clone());
    world.until(S * 30).await;
    assert_eq!(world.evictions(), ["web-3 at 10"]);
    term.ended.cancel();
    ends(first).await;
    world.lead_a_term(Term { number: 1, ended: CancellationToken::new() });
    world.until(MINUTE).await;
    assert_eq!(world.evictions(), ["web-3 at 10", "web-3 at 40"], "the pod is there, whatever was done to it before");
}

#[tokio::test(start_paused = true)]
async fn in_read_only_mode_everything_is_shown_and_nothing_is_sent() {
    let mut world = World::with(Settings { read_only: true, ..settings() });
    world.drifting("web", 50);
    world.unseated("old", 4);
    world.stir();
    world.lead();
    world.until(MINUTE * 10).await;
    assert_eq!(world.requests(), 0);
    assert_eq!(world.told(), [""; 0], "an Event would say that it was done");
    let replicas = |what: &str, capacity: &str| {
        let labels = format!("namespace=\"shop\",workload=\"web\",kind=\"Deployment\",type=\"{capacity}\"");
        world.metric(&format!("replicas_{what}{{{labels}}}")).unwrap()
    };
    assert_eq!((replicas("desired", "spot"), replicas("realized", "spot")), ("2".to_owned(), "0".to_owned()));
    assert_eq!(replicas("realized", "on_demand"), "4");
}
