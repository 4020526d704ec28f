//! From the bytes of a review to the bytes of its answer, on an index that fills up meanwhile and on time that is not real:
//! what is waited for, for how long, and what comes of it when it does not come.

#![allow(clippy::unwrap_used, reason = "a test fails where it unwraps")]

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response};
use jiff::Timestamp;
use kube::Client;
use kube::client::Body;
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use spotalis_core::capacity::CapacityType;
use spotalis_core::class::{CapacityClasses, Preset};
use spotalis_core::election::Timing;
use spotalis_core::opt_in::{Mode, OptInRules};
use spotalis_core::policy::Defaults;
use spotalis_core::selector::Selector;
use spotalis_core::slots::Seat;
use spotalis_core::steering::OnConflict;
use spotalis_kube::index::{Currency, Index, Provisioner, Rules, Source, View, WorkloadKind};
use spotalis_runtime::Clock;
use spotalis_runtime::events::{EventMetrics, EventRecorder};
use spotalis_runtime::leadership::{Candidate, Leadership, LeadershipMetrics, PEER_ADDRESS};
use spotalis_webhook::admission::{Admission, Outcome, Settings};
use spotalis_webhook::metrics::AdmissionMetrics;
use spotalis_webhook::peer::{LeadersAnswer, PeerLink, PeerTransport};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

const MS: Duration = Duration::from_millis(1);

/// The webhook of a cluster with the Deployment `web` in `shop`: 50 %, two replicas.
struct Webhook {
    index: Arc<Mutex<Index>>,
    changed: Arc<Notify>,
    admission: Admission,
    _settings: watch::Sender<Settings>,
}

fn read<T: DeserializeOwned>(object: Value) -> T {
    serde_json::from_value(object).unwrap()
}

fn now() -> Timestamp {
    Timestamp::constant(1_700_000_000, 0)
}

impl Webhook {
    fn start() -> Self {
        let mut index = Index::new(Rules {
            opt_in: OptInRules {
                mode: Mode::Both,
                namespace_selector: Selector::default(),
                own_namespace: "spotalis-system".into(),
                watch_namespaces: [].into(),
            },
            classes: Arc::new(CapacityClasses::preset(Preset::Karpenter)),
            defaults: Defaults::default(),
            on_conflict: OnConflict::Respect,
            provisioner: Provisioner::Auto,
        });
        let enabled = json!({ "spotalis.io/enabled": "true" });
        index.apply_namespace(read(json!({ "metadata": { "name": "shop", "labels": enabled } })), 1);
        let deployment = json!({
            "metadata": { "name": "web", "namespace": "shop", "uid": "d", "labels": enabled,
                          "annotations": { "spotalis.io/spot-percentage": "50" } },
            "spec": { "replicas": 2 },
        });
        index.apply_workload(WorkloadKind::Deployment, read(deployment), 1);
        for view in View::REQUIRED {
            let fresh = Currency::heard_at(now());
            index.set_currency(&Source { view, namespace: None }, fresh);
        }
        let index = Arc::new(Mutex::new(index));
        let clock = Clock::starting_at(now());
        let (events, _told) = EventRecorder::channel(clock, EventMetrics::default(), 8);
        let (sender, settings) = watch::channel(Settings { read_only: false, deletion_cost: true });
        let metrics = AdmissionMetrics::register(&mut Registry::default(), index.clone());
        let changed = Arc::new(Notify::new());
        let admission = Admission::new(index.clone(), changed.clone(), settings, events, metrics, clock);
        Self { index, changed, admission, _settings: sender }
    }

    fn with_replica_set() -> Self {
        let webhook = Self::start();
        webhook.see(|index| index.apply_replica_set(&read(replica_set(2)), 1));
        webhook
    }

    fn see(&self, change: impl FnOnce(&mut Index)) {
        change(&mut self.index.lock());
        self.changed.notify_waiters();
    }

    /// What comes of a review, the patch as operations, and how long it took.
    async fn answer(&self, review: &Value) -> (Outcome, Vec<Value>, Duration) {
        let begun = Instant::now();
        let reply = self.admission.answer(review.to_string().as_bytes()).await;
        let answer: Value = serde_json::from_slice(&reply.body).unwrap();
        assert_eq!(answer["response"]["allowed"], json!(true));
        assert_eq!(answer["response"]["uid"], review["request"]["uid"]);
        let patch = answer["response"]["patch"].as_str().map(|patch| STANDARD.decode(patch).unwrap());
        let operations = patch.map_or(Vec::new(), |patch| serde_json::from_slice(&patch).unwrap());
        (reply.outcome, operations, begun.elapsed())
    }
}

fn replica_set(replicas: u32) -> Value {
    json!({
        "metadata": { "name": "web-1", "namespace": "shop", "uid": "r", "ownerReferences": [
            { "apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "d", "controller": true }] },
        "spec": { "replicas": replicas },
    })
}

fn review(uid: &str, owner: &str, metadata: &Value, spec: &Value) -> Value {
    let mut pod = json!({
        "metadata": {
            "generateName": format!("{owner}-"), "namespace": "shop", "labels": { "pod-template-hash": "1" },
            "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": owner, "uid": "r", "controller": true }],
        },
        "spec": spec,
    });
    for (field, value) in metadata.as_object().unwrap() {
        pod["metadata"][field] = value.clone();
    }
    json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": uid, "kind": { "group": "", "version": "v1", "kind": "Pod" }, "namespace": "shop",
        "operation": "CREATE", "object": pod, "dryRun": false } })
}

fn plain(uid: &str) -> Value {
    review(uid, "web-1", &json!({}), &json!({}))
}

/// The type that a patch steers to.
fn steered(patch: &[Value]) -> Option<&str> {
    let labels = patch.iter().find(|operation| operation["path"] == "/metadata/labels/spotalis.io~1capacity-type")?;
    labels["value"].as_str()
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_comes_in_time_is_waited_for() {
    let webhook = Webhook::start();
    let owner = async {
        sleep(MS * 40).await;
        webhook.see(|index| index.apply_replica_set(&read(replica_set(2)), 1));
    };
    let review = plain("u-1");
    let ((outcome, patch, took), ()) = tokio::join!(webhook.answer(&review), owner);
    assert_eq!((outcome, steered(&patch), took), (Outcome::Steered, Some("spot"), MS * 40));
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_does_not_come_is_followed_by_its_name_to_on_demand() {
    let webhook = Webhook::start();
    let (outcome, patch, took) = webhook.answer(&plain("u-1")).await;
    assert_eq!((outcome, steered(&patch), took), (Outcome::Doubt, Some("on-demand"), MS * 100));
    let (outcome, patch, took) = webhook.answer(&review("u-2", "nobody-1", &json!({}), &json!({}))).await;
    assert_eq!((outcome, patch, took), (Outcome::UnknownOwner, Vec::new(), MS * 100));
}

#[tokio::test(start_paused = true)]
async fn a_slot_that_came_with_the_template_does_not_stay_where_none_is_given() {
    let webhook = Webhook::start();
    let copied = json!({ "annotations": { "spotalis.io/slot": "7", "other": "stays" } });
    let (outcome, patch, _) = webhook.answer(&review("u-1", "web-1", &copied, &json!({}))).await;
    assert_eq!(outcome, Outcome::Doubt);
    let removed = json!({ "op": "remove", "path": "/metadata/annotations/spotalis.io~1slot" });
    assert!(patch.contains(&removed), "{patch:?}");
}

#[tokio::test(start_paused = true)]
async fn one_more_than_the_replicas_waits_for_what_makes_room() {
    let webhook = Webhook::with_replica_set();
    for uid in ["u-1", "u-2"] {
        assert_eq!(webhook.answer(&plain(uid)).await.2, Duration::ZERO);
    }
    let scale = async {
        sleep(MS * 30).await;
        webhook.see(|index| index.apply_replica_set(&read(replica_set(3)), 1));
    };
    let third = plain("u-3");
    let ((outcome, patch, took), ()) = tokio::join!(webhook.answer(&third), scale);
    assert_eq!((outcome, steered(&patch), took), (Outcome::Steered, Some("spot"), MS * 30));
    assert_eq!(webhook.index.lock().reservations(), 3, "nobody gave way");
    let (outcome, patch, took) = webhook.answer(&plain("u-4")).await;
    assert_eq!(
        (outcome, steered(&patch), took),
        (Outcome::Steered, Some("spot"), MS * 100),
        "in the place of the oldest"
    );
    assert_eq!(webhook.index.lock().reservations(), 3);
    let mut trial = plain("u-5");
    trial["request"]["dryRun"] = json!(true);
    assert_eq!(webhook.answer(&trial).await.2, Duration::ZERO, "nobody waits for a trial");
}

/// A webhook after ours replaced the node selector. The second call puts back what it took, and nothing else.
#[tokio::test(start_paused = true)]
async fn steering_that_another_webhook_took_away_is_put_back() {
    let webhook = Webhook::with_replica_set();
    let marked = json!({
        "labels": { "pod-template-hash": "1", "spotalis.io/capacity-type": "spot" },
        "annotations": { "spotalis.io/admission-id": "u-1", "spotalis.io/slot": "1" },
    });
    let theirs = json!({ "nodeSelector": { "pool": "x" } });
    let (outcome, patch, _) = webhook.answer(&review("u-2", "web-1", &marked, &theirs)).await;
    let ours = json!({ "op": "add", "path": "/spec/nodeSelector/karpenter.sh~1capacity-type", "value": "spot" });
    assert_eq!((outcome, patch), (Outcome::Already, vec![ours]));
    let both = json!({ "nodeSelector": { "pool": "x", "karpenter.sh/capacity-type": "spot" } });
    let (outcome, patch, _) = webhook.answer(&review("u-3", "web-1", &marked, &both)).await;
    assert_eq!((outcome, patch), (Outcome::Already, Vec::new()));
    assert_eq!(webhook.index.lock().reservations(), 0);
}

/// Whoever reaches the port may send what the API server never would: nothing of it is remembered.
#[tokio::test(start_paused = true)]
async fn ids_and_constraints_out_of_all_proportion_are_not_worked_through() {
    let webhook = Webhook::with_replica_set();
    let long = "u".repeat(129);
    let reply = webhook.admission.answer(plain(&long).to_string().as_bytes()).await;
    assert_eq!(reply.outcome, Outcome::Refused);
    let mut foreign = plain("u-1");
    foreign["request"]["object"]["metadata"]["ownerReferences"][0]["uid"] = json!(long);
    assert_eq!(webhook.answer(&foreign).await.0, Outcome::Unreadable);
    let terms = |count: usize| {
        let term = json!({ "matchExpressions": [{ "key": "zone", "operator": "Exists" }] });
        let terms = json!({ "nodeSelectorTerms": vec![term; count] });
        json!({ "affinity": { "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": terms } } })
    };
    assert_eq!(webhook.answer(&review("u-2", "web-1", &json!({}), &terms(1_001))).await.0, Outcome::Unreadable);
    assert_eq!(webhook.index.lock().reservations(), 0);
    assert_eq!(webhook.answer(&review("u-3", "web-1", &json!({}), &terms(1_000))).await.0, Outcome::Steered);
}

#[tokio::test(start_paused = true)]
async fn a_deletion_cost_of_the_template_stays() {
    let webhook = Webhook::with_replica_set();
    for (uid, annotations, costs) in
        [("a", json!({}), true), ("b", json!({ "controller.kubernetes.io/pod-deletion-cost": "100" }), false)]
    {
        let review = review(uid, "web-1", &json!({ "annotations": annotations }), &json!({}));
        let (outcome, patch, _) = webhook.answer(&review).await;
        assert_eq!(outcome, Outcome::Steered);
        assert_eq!(json!(patch).to_string().contains("pod-deletion-cost"), costs, "{patch:?}");
    }
}

/// Gives every pod this seat.
struct Leader(Seat);

const LEADERS_WORDS: &[u8] = b"as the leader says";

impl PeerTransport for Leader {
    fn carry<'a>(&'a self, leader: &'a str, _review: Bytes) -> BoxFuture<'a, Option<LeadersAnswer>> {
        assert_eq!(leader, "leader.example:9444");
        Box::pin(async { Some(LeadersAnswer { body: Bytes::from_static(LEADERS_WORDS), seat: Some(self.0) }) })
    }
}

/// Of a replica that sees another one lead.
async fn following() -> Leadership {
    let service = tower::service_fn(async |request: Request<Body>| {
        if request.uri().query().unwrap_or_default().contains("watch=true") {
            std::future::pending::<()>().await;
        }
        let lease = json!({
            "metadata": { "name": "spotalis", "resourceVersion": "1",
                          "annotations": { PEER_ADDRESS: "leader.example:9444" } },
            "spec": { "holderIdentity": "leader", "leaseDurationSeconds": 15 },
        });
        Ok::<_, std::convert::Infallible>(Response::new(Body::from(lease.to_string().into_bytes())))
    });
    let candidate = Candidate {
        client: Client::new(service, "default"),
        namespace: "spotalis-system".to_owned(),
        lease: "spotalis".to_owned(),
        identity: "follower".to_owned(),
        peer_address: None,
        timing: Timing::default(),
    };
    let (clock, shutdown) = (Clock::starting_at(now()), CancellationToken::new());
    let (leadership, campaign) = Leadership::contend(candidate, clock, LeadershipMetrics::default(), shutdown);
    tokio::spawn(campaign);
    leadership.state().wait_for(|state| state.leader.is_some()).await.unwrap();
    leadership
}

#[tokio::test(start_paused = true)]
async fn a_follower_asks_the_leader_and_notes_its_seat() {
    let webhook = Webhook::with_replica_set();
    let leader = Arc::new(Leader(Seat { capacity: CapacityType::OnDemand, slot: 2 }));
    let peers = PeerLink::new(following().await, "follower", leader);
    let admission = webhook.admission.clone().with_peers(Arc::new(peers));
    let reply = admission.answer(plain("a").to_string().as_bytes()).await;
    assert_eq!((reply.outcome, &*reply.body), (Outcome::Forwarded, LEADERS_WORDS));
    assert_eq!(webhook.index.lock().reservations(), 1, "the leader's seat counts here as well");
}

#[tokio::test(start_paused = true)]
async fn what_a_leader_answers_it_reserves() {
    let webhook = Webhook::with_replica_set();
    let metrics = LeadershipMetrics::default();
    let leads = Leadership::alone("leader", Clock::starting_at(now()), &metrics, &CancellationToken::new());
    let nobody = Arc::new(Leader(Seat { capacity: CapacityType::Spot, slot: 1 }));
    let admission = webhook.admission.clone().with_peers(Arc::new(PeerLink::new(leads, "leader", nobody)));
    for (uid, capacity, slot) in [("a", CapacityType::Spot, 1), ("b", CapacityType::OnDemand, 2)] {
        let reply = admission.answer_as_leader(plain(uid).to_string().as_bytes()).await.unwrap();
        assert_eq!((reply.outcome, reply.seat), (Outcome::Steered, Some(Seat { capacity, slot })));
    }
    assert_eq!(webhook.index.lock().reservations(), 2);
}
