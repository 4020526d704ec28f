//! A judge that can say no: every rule is broken once by somebody who acts like Spotalis, and nothing is said of whoever
//! keeps them all.

#![expect(clippy::unwrap_used, reason = "all of this is a test")]

use std::time::Duration;

use bytes::Bytes;
use embedded_cluster::engine::{World as _, Write};
use embedded_cluster::resource::Kind;
use embedded_cluster::store::Key;
use http::StatusCode;
use jiff::SignedDuration;
use serde_json::{Value, json};
use spotalis_config::Config;
use spotalis_sim::fault::{Call, Fate, Fault};
use spotalis_sim::judge::{Judge, Rounding, Rules};
use spotalis_sim::requests::Requests;
use spotalis_sim::wire::Exchange;
use spotalis_sim::world::{NAMESPACE, World};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

const SLOT: &str = "spotalis.io/slot";
const ADMISSION: &str = "spotalis.io/admission-id";
const COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// A world with a node of each type, and somebody who holds the Lease and acts in it.
struct Stage {
    world: World,
    judge: Judge,
    leader: kube::Client,
    follower: kube::Client,
}

/// The same fault for every eviction.
struct Always(Option<Fault>);

impl Fate for Always {
    fn of(&mut self, call: &Call) -> Option<Fault> {
        self.0.filter(|_| call.site == "create pods/eviction")
    }
}

/// By its node.
#[derive(Clone, Debug)]
struct Pod {
    name: String,
    uid: String,
    version: String,
}

impl Pod {
    fn fences(&self) -> Value {
        json!({"uid": self.uid, "resourceVersion": self.version})
    }
}

impl Stage {
    async fn set() -> Self {
        Self::with(None).await
    }

    async fn with(fault: Option<Fault>) -> Self {
        let requests = Requests::new(Box::new(Always(fault)));
        let world = World::new(0, &Config::defaults(), requests.clone()).await;
        let rules = Rules {
            cooldown: SignedDuration::from_secs(10),
            limit: 1,
            rounding: Rounding::Ceil,
            renew_deadline: SignedDuration::from_secs(10),
            trusts_autoscaler: false,
            lease: "spotalis-controller".to_owned(),
            identities: [(1, "leader".to_owned()), (2, "follower".to_owned())].into(),
        };
        let judge = Judge::of(&world.cluster, requests.clone(), rules);
        for capacity in ["spot", "on-demand", "neither"] {
            world.add_node(capacity, capacity, 20).await;
        }
        world.change(Kind::Node, "", "neither", &json!({"spec": {"unschedulable": true}})).await;
        let spec = json!({"holderIdentity": "leader", "acquireTime": "2026-01-01T00:00:00.000000Z"});
        let metadata = json!({"namespace": "spotalis-system", "name": "spotalis-controller"});
        let lease =
            json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec});
        world.create(lease).await;
        let exchange = Exchange::new(world.cluster.clone(), Some(judge.clone()), requests);
        let client = |process| kube::Client::new(exchange.wire(process, CancellationToken::new()), "default");
        let (leader, follower) = (client(1), client(2));
        Self { world, judge, leader, follower }
    }

    /// A workload whose pods are spread over the nodes evenly, and ready.
    async fn add(&self, kind: &str, name: &str, replicas: u32, (share, floor): (&str, &str)) {
        let annotations = json!({"spotalis.io/spot-percentage": share, "spotalis.io/min-on-demand": floor});
        let labels = json!({"spotalis.io/enabled": "true"});
        let app = json!({"app": name});
        let spread = json!([{"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule",
            "nodeTaintsPolicy": "Honor", "labelSelector": {"matchLabels": app}}]);
        let containers = json!([{"name": "main", "image": "none"}]);
        let spec = json!({"containers": containers, "topologySpreadConstraints": spread});
        // As if the webhook had seen each of them.
        let seen = json!({ADMISSION: "seen"});
        let template = json!({"metadata": {"labels": app, "annotations": seen}, "spec": spec});
        self.world
            .create(json!({
                "apiVersion": "apps/v1", "kind": kind,
                "metadata": {"namespace": NAMESPACE, "name": name, "labels": labels, "annotations": annotations},
                "spec": {"replicas": replicas, "selector": {"matchLabels": app}, "template": template, "serviceName": name},
            }))
            .await;
        sleep(Duration::from_mins(1)).await;
    }

    fn pods(&self, workload: &str, node: &str) -> Vec<Pod> {
        self.world.cluster.read(|store| {
            let pods = store.pods_on(node).map(|(_, pod)| pod);
            let its = pods.filter(|pod| pod.name().starts_with(workload) && pod.deletion().is_none());
            its.map(|pod| Pod {
                name: pod.name().to_owned(),
                uid: pod.uid().to_owned(),
                version: pod.revision().to_string(),
            })
            .collect()
        })
    }

    fn pod(&self, workload: &str, node: &str) -> Pod {
        self.pods(workload, node)[0].clone()
    }

    async fn mark(&self, pod: &Pod, annotation: &str, value: &str) {
        let patch = json!({"metadata": {"annotations": {annotation: value}}});
        self.world.change(Kind::Pod, NAMESPACE, &pod.name, &patch).await;
        sleep(Duration::from_mins(1)).await;
    }

    async fn evict(&self, pod: &Pod) {
        self.evict_as(&self.leader, pod, json!({"uid": pod.uid})).await;
    }

    /// The leader goes on leading.
    async fn renew(&self) {
        let renewed = json!({"spec": {"renewTime": format!("{:.6}", self.world.cluster.now())}});
        self.world.change(Kind::Lease, "spotalis-system", "spotalis-controller", &renewed).await;
    }

    async fn evict_as(&self, who: &kube::Client, pod: &Pod, preconditions: Value) {
        self.renew().await;
        self.evict_without_renewal(who, pod, preconditions).await;
    }

    async fn evict_without_renewal(&self, who: &kube::Client, pod: &Pod, preconditions: Value) {
        let name = &pod.name;
        let body = json!({"apiVersion": "policy/v1", "kind": "Eviction",
            "metadata": {"namespace": NAMESPACE, "name": name}, "deleteOptions": {"preconditions": preconditions}});
        Self::send(who, "POST", &format!("/api/v1/namespaces/{NAMESPACE}/pods/{name}/eviction"), body).await;
    }

    async fn seat(&self, pod: &Pod, annotations: Value) {
        self.seat_as(&self.leader, pod, pod.fences(), annotations).await;
    }

    async fn seat_as(&self, who: &kube::Client, pod: &Pod, fences: Value, annotations: Value) {
        self.renew().await;
        let mut metadata = fences;
        metadata["annotations"] = annotations;
        let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/{}", pod.name);
        Self::send(who, "PATCH", &path, json!({"metadata": metadata})).await;
    }

    /// What comes of it is not looked at.
    async fn send(who: &kube::Client, method: &str, path: &str, body: Value) -> Option<StatusCode> {
        let content_type = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        let request = http::Request::builder().method(method).uri(path).header("content-type", content_type);
        let body = kube::client::Body::from(Bytes::from(body.to_string()).to_vec());
        let answer = who.send(request.body(body).unwrap()).await;
        answer.ok().map(|answer| answer.status())
    }

    /// What was said against what was done, by the property's letter, and nothing else.
    #[track_caller]
    fn says(&self, properties: &[&str]) {
        let wrongs = self.judge.wrongs();
        let word = |wrong: &String| wrong.split([' ', ':']).find(|word| word.starts_with('P')).unwrap().to_owned();
        assert_eq!(wrongs.iter().map(word).collect::<Vec<_>>(), properties, "{wrongs:#?}");
    }
}

fn seat(slot: &str) -> Value {
    json!({SLOT: slot, COST: format!("-{slot}")})
}

#[tokio::test(start_paused = true)]
async fn nothing_is_said_of_a_right_eviction() {
    let stage = Stage::set().await;
    stage.add("Deployment", "web", 4, ("75%", "25%")).await;
    stage.evict(&stage.pod("web", "on-demand")).await;
    stage.says(&[]);
    assert_eq!(stage.judge.evictions().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_floor_is_kept() {
    let stage = Stage::set().await;
    stage.add("Deployment", "web", 4, ("75", "1")).await;
    // The other one is to be gone, so its not being ready is no objection of its own.
    let [first, second] = &stage.pods("web", "on-demand")[..] else { panic!("two on each") };
    stage.world.change(Kind::Pod, NAMESPACE, &first.name, &unready()).await;
    sleep(Duration::from_mins(1)).await;
    stage.evict(second).await;
    stage.says(&["P1", "P2", "P2"]);
}

fn unready() -> Value {
    json!({"metadata": {"annotations": {embedded_cluster::controllers::kubelet::CRASH_AFTER: "1s"}}})
}

#[tokio::test(start_paused = true)]
async fn whoever_stays_is_waited_for() {
    let stage = Stage::set().await;
    stage.add("Deployment", "web", 4, ("75", "0")).await;
    stage.world.change(Kind::Pod, NAMESPACE, &stage.pod("web", "spot").name, &unready()).await;
    sleep(Duration::from_mins(1)).await;
    stage.evict(&stage.pod("web", "on-demand")).await;
    stage.says(&["P2"]);
}

#[tokio::test(start_paused = true)]
async fn whoever_is_not_ready_goes_first() {
    let stage = Stage::set().await;
    stage.add("Deployment", "web", 4, ("100", "0")).await;
    let [first, second] = &stage.pods("web", "on-demand")[..] else { panic!("two on each") };
    stage.world.change(Kind::Pod, NAMESPACE, &first.name, &unready()).await;
    sleep(Duration::from_mins(1)).await;
    stage.evict(second).await;
    stage.says(&["P2"]);
    stage.evict(first).await;
    // The one before is not replaced yet.
    stage.says(&["P2", "P2", "P3"]);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_moved_in_a_rollout() {
    let stage = Stage::set().await;
    stage.add("Deployment", "web", 4, ("75", "0")).await;
    stage.world.change(Kind::Deployment, NAMESPACE, "web", &json!({"spec": {"paused": true}})).await;
    sleep(Duration::from_mins(1)).await;
    stage.evict(&stage.pod("web", "on-demand")).await;
    stage.says(&["P2"]);
}

#[tokio::test(start_paused = true)]
async fn a_cooldown_and_the_limit_are_kept() {
    let stage = Stage::set().await;
    for name in ["web", "api"] {
        stage.add("Deployment", name, 4, ("100", "0")).await;
    }
    stage.evict(&stage.pod("web", "on-demand")).await;
    stage.says(&[]);
    // Its replacement was not created when that was sent, and the limit is one.
    stage.evict(&stage.pod("api", "on-demand")).await;
    stage.says(&["P3"]);
    sleep(Duration::from_secs(8)).await;
    // Replaced by now, but neither was the last one long enough ago, nor what came back.
    stage.evict(&stage.pod("web", "on-demand")).await;
    stage.says(&["P3", "P3", "P3"]);
}

#[tokio::test(start_paused = true)]
async fn whatever_happens_to_a_pod_begins_the_cooldown_anew() {
    let stage = Stage::set().await;
    stage.add("Deployment", "web", 4, ("75", "0")).await;
    stage.world.delete(Kind::Pod, NAMESPACE, &stage.pod("web", "spot").name).await;
    sleep(Duration::from_secs(8)).await;
    stage.evict(&stage.pod("web", "on-demand")).await;
    stage.says(&["P3"]);
}

/// Who begins to lead does not know what is under way, and may have as much under way himself, but no more.
#[tokio::test(start_paused = true)]
async fn a_new_term_has_the_limit_once_more() {
    let stage = Stage::set().await;
    for name in ["web", "api", "jobs"] {
        stage.add("Deployment", name, 4, ("100", "0")).await;
    }
    stage.evict(&stage.pod("web", "on-demand")).await;
    sleep(Duration::from_millis(100)).await;
    let anew = json!({"spec": {"acquireTime": "2026-03-01T12:00:00.000000Z"}});
    stage.world.change(Kind::Lease, "spotalis-system", "spotalis-controller", &anew).await;
    stage.evict(&stage.pod("api", "on-demand")).await;
    stage.says(&[]);
    stage.evict(&stage.pod("jobs", "on-demand")).await;
    stage.says(&["P3"]);
}

#[tokio::test(start_paused = true)]
async fn what_others_have_under_way_counts_as_well() {
    let stage = Stage::set().await;
    for name in ["web", "api"] {
        stage.add("Deployment", name, 4, ("100", "0")).await;
    }
    // Nobody began to lead lately.
    sleep(Duration::from_mins(5)).await;
    let pod = stage.pod("web", "on-demand");
    stage.evict_as(&stage.follower, &pod, json!({"uid": pod.uid})).await;
    stage.evict(&stage.pod("api", "on-demand")).await;
    stage.says(&["P7", "P3"]);
}

#[tokio::test(start_paused = true)]
async fn what_came_back_without_the_webhook_is_not_evicted_again() {
    let stage = Stage::set().await;
    stage.add("Deployment", "web", 4, ("100", "0")).await;
    let unseen = json!({"spec": {"template": {"metadata": {"annotations": {ADMISSION: null}}}}});
    stage.world.change(Kind::Deployment, NAMESPACE, "web", &unseen).await;
    sleep(Duration::from_mins(5)).await;
    stage.evict(&stage.pod("web", "on-demand")).await;
    sleep(Duration::from_mins(1)).await;
    stage.says(&[]);
    stage.evict(&stage.pod("web", "on-demand")).await;
    stage.says(&["P11"]);
}

#[tokio::test(start_paused = true)]
async fn nobody_is_moved_to_where_no_node_would_take_him() {
    let stage = Stage::set().await;
    stage.add("Deployment", "web", 4, ("75", "0")).await;
    stage.world.change(Kind::Node, "", "spot", &json!({"spec": {"unschedulable": true}})).await;
    stage.evict(&stage.pod("web", "on-demand")).await;
    // Who decided that may not have known it yet.
    stage.says(&[]);
    sleep(Duration::from_mins(1)).await;
    stage.evict(&stage.pod("web", "on-demand")).await;
    stage.says(&["P11"]);
}

/// The first answer does not come; whoever sends a second one meanwhile does not know what it does.
#[tokio::test(start_paused = true)]
async fn one_eviction_of_a_workload_at_a_time() {
    let stage = Stage::with(Some(Fault::LateAnswer(12_000))).await;
    stage.add("Deployment", "web", 4, ("100", "0")).await;
    let [first, second] = &stage.pods("web", "on-demand")[..] else { panic!("two on each") };
    let second = async {
        sleep(Duration::from_secs(10)).await;
        stage.evict(second).await;
    };
    tokio::join!(stage.evict(first), second);
    stage.says(&["P3"]);
}

#[tokio::test(start_paused = true)]
async fn what_somebody_knows_to_be_done_excuses_nothing() {
    let stage = Stage::set().await;
    stage.add("Deployment", "web", 4, ("75", "0")).await;
    let [first, second] = &stage.pods("web", "on-demand")[..] else { panic!("two on each") };
    stage.evict(first).await;
    stage.says(&[]);
    stage.evict(second).await;
    stage.says(&["P11", "P2", "P3"]);
}

#[tokio::test(start_paused = true)]
async fn whoever_was_told_that_a_pod_is_gone_knows_it_until_its_term_ends() {
    let stage = Stage::set().await;
    stage.add("Deployment", "web", 4, ("75", "0")).await;
    let gone = stage.pod("web", "on-demand");
    let delete = |pod: &Pod| Write::Delete {
        key: Key::new(Kind::Pod, NAMESPACE, &pod.name),
        uid: pod.uid.clone(),
        grace: Some(0),
    };
    stage.world.cluster.perform(delete(&gone)).await.unwrap();
    stage.evict(&gone).await;
    assert_eq!(stage.judge.evictions().len(), 0);
    stage.says(&[]);
    stage.evict(&gone).await;
    stage.says(&["P4"]);
    sleep(Duration::from_millis(100)).await;
    let anew = json!({"spec": {"acquireTime": "2026-03-01T12:00:00.000000Z"}});
    stage.world.change(Kind::Lease, "spotalis-system", "spotalis-controller", &anew).await;
    stage.evict(&gone).await;
    stage.says(&["P4"]);
}

#[tokio::test(start_paused = true)]
async fn the_right_pod_is_named() {
    let stage = Stage::set().await;
    stage.add("Deployment", "web", 4, ("75", "0")).await;
    let pod = stage.pod("web", "on-demand");
    stage.evict_as(&stage.leader, &pod, json!({})).await;
    stage.says(&["P4"]);
    let stage = Stage::set().await;
    stage.add("Deployment", "web", 4, ("75", "0")).await;
    let pod = stage.pod("web", "on-demand");
    stage.evict_as(&stage.leader, &pod, json!({"uid": pod.uid, "resourceVersion": pod.version})).await;
    stage.says(&["P4"]);
    let stranger = Pod { uid: "b5b40a8c-6c40-4c0e-8a3b-000000000000".to_owned(), ..pod.clone() };
    stage.evict(&stranger).await;
    stage.says(&["P4", "P4"]);
    // It is gone for longer than anybody may not know.
    sleep(Duration::from_mins(1)).await;
    stage.evict(&pod).await;
    stage.says(&["P4", "P4", "P4"]);
}

#[tokio::test(start_paused = true)]
async fn only_who_asked_for_it_is_moved() {
    let stage = Stage::set().await;
    stage.add("Deployment", "web", 4, ("75", "0")).await;
    let out = json!({"metadata": {"labels": {"spotalis.io/enabled": null}}});
    stage.world.change(Kind::Deployment, NAMESPACE, "web", &out).await;
    stage.evict(&stage.pod("web", "on-demand")).await;
    stage.says(&[]);
    sleep(Duration::from_mins(1)).await;
    stage.evict(&stage.pod("web", "on-demand")).await;
    stage.says(&["P4"]);
}

#[tokio::test(start_paused = true)]
async fn whoever_asks_to_stay_stays() {
    for (annotation, value) in
        [("karpenter.sh/do-not-disrupt", "true"), ("cluster-autoscaler.kubernetes.io/safe-to-evict", "false")]
    {
        let stage = Stage::set().await;
        stage.add("Deployment", "web", 4, ("75", "0")).await;
        let pod = stage.pod("web", "on-demand");
        stage.mark(&pod, annotation, value).await;
        stage.evict(&pod).await;
        stage.says(&["P4"]);
    }
}

#[tokio::test(start_paused = true)]
async fn only_the_leader_acts() {
    let stage = Stage::set().await;
    stage.add("Deployment", "web", 4, ("75", "0")).await;
    let pod = stage.pod("web", "on-demand");
    stage.evict_as(&stage.follower, &pod, json!({"uid": pod.uid})).await;
    stage.says(&["P7"]);
    let stage = Stage::set().await;
    stage.add("Deployment", "web", 2, ("50", "0")).await;
    let pod = stage.pod("web", "spot");
    stage.seat_as(&stage.follower, &pod, pod.fences(), seat("1")).await;
    stage.says(&["P7"]);
}

#[tokio::test(start_paused = true)]
async fn whoever_does_not_renew_the_lease_leads_no_longer() {
    let stage = Stage::set().await;
    stage.add("Deployment", "web", 4, ("75", "0")).await;
    let pod = stage.pod("web", "on-demand");
    stage.renew().await;
    sleep(Duration::from_secs(11)).await;
    stage.evict_without_renewal(&stage.leader, &pod, json!({"uid": pod.uid})).await;
    stage.says(&["P7"]);
}

#[tokio::test(start_paused = true)]
async fn only_too_many_are_moved_and_none_of_unknown_type() {
    let stage = Stage::set().await;
    stage.add("Deployment", "web", 4, ("75", "0")).await;
    stage.evict(&stage.pod("web", "spot")).await;
    stage.says(&["P11"]);
    let stage = Stage::set().await;
    stage.world.change(Kind::Node, "", "on-demand", &json!({"spec": {"unschedulable": true}})).await;
    stage.world.change(Kind::Node, "", "neither", &json!({"spec": {"unschedulable": null}})).await;
    stage.add("Deployment", "web", 4, ("75", "0")).await;
    stage.evict(&stage.pod("web", "neither")).await;
    stage.says(&["P13", "P11"]);
}

/// A wrong act that is lost or refused is wrong.
#[tokio::test(start_paused = true)]
async fn what_becomes_of_an_act_does_not_matter() {
    for fault in [Fault::Unsent, Fault::Broken, Fault::Overload, Fault::Lost] {
        let stage = Stage::with(Some(fault)).await;
        stage.add("Deployment", "web", 4, ("75", "0")).await;
        stage.evict(&stage.pod("web", "spot")).await;
        stage.says(&["P11"]);
        assert_eq!(stage.judge.evictions().len(), usize::from(fault == Fault::Lost), "{fault:?}");
    }
}

/// A write that is late is done although its sender waits no longer.
#[tokio::test(start_paused = true)]
async fn a_late_write_arrives_all_the_same() {
    let stage = Stage::with(Some(Fault::Late(5_000))).await;
    stage.add("Deployment", "web", 4, ("75", "0")).await;
    let given_up = timeout(Duration::from_secs(1), stage.evict(&stage.pod("web", "on-demand"))).await;
    assert!(given_up.is_err());
    assert_eq!(stage.judge.evictions().len(), 0);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(stage.judge.evictions().len(), 1);
    stage.says(&[]);
}

#[tokio::test(start_paused = true)]
async fn pods_are_steered_to_where_there_are_too_few() {
    for (share, says) in [("100", &[][..]), ("0", &["P8"])] {
        let stage = Stage::set().await;
        stage.add("Deployment", "web", 0, (share, "0")).await;
        let steered = json!({"spec": {"template": {"metadata": {"labels": {"spotalis.io/capacity-type": "spot"}}}}});
        stage.world.change(Kind::Deployment, NAMESPACE, "web", &steered).await;
        stage.world.change(Kind::Deployment, NAMESPACE, "web", &json!({"spec": {"replicas": 2}})).await;
        sleep(Duration::from_mins(1)).await;
        // Who decided that may not have known the wish yet.
        stage.says(&[]);
        stage.world.delete(Kind::Pod, NAMESPACE, &stage.pod("web", "on-demand").name).await;
        sleep(Duration::from_mins(1)).await;
        stage.says(says);
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_is_steered_whose_wish_nobody_knows_or_who_did_not_ask() {
    let out = json!({"metadata": {"labels": {"spotalis.io/enabled": null}}});
    let invalid = json!({"metadata": {"annotations": {"spotalis.io/spot-percentage": "most"}}});
    for wish in [out, invalid] {
        let stage = Stage::set().await;
        stage.add("Deployment", "web", 0, ("100", "0")).await;
        let steered = json!({"spec": {"template": {"metadata": {"labels": {"spotalis.io/capacity-type": "spot"}}}}});
        stage.world.change(Kind::Deployment, NAMESPACE, "web", &steered).await;
        stage.world.change(Kind::Deployment, NAMESPACE, "web", &wish).await;
        sleep(Duration::from_mins(1)).await;
        stage.world.change(Kind::Deployment, NAMESPACE, "web", &json!({"spec": {"replicas": 1}})).await;
        sleep(Duration::from_mins(1)).await;
        // Now it is known whose pod it is.
        let pods = stage.world.names(Kind::Pod, Some(NAMESPACE));
        stage.world.delete(Kind::Pod, NAMESPACE, &pods[0]).await;
        sleep(Duration::from_mins(1)).await;
        stage.says(&["P8"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_slot_is_written_with_its_fences_and_for_those_who_ask() {
    let stage = Stage::set().await;
    stage.add("Deployment", "web", 2, ("50", "0")).await;
    let pod = stage.pod("web", "spot");
    for fence in ["uid", "resourceVersion"] {
        let mut fences = pod.fences();
        fences[fence] = Value::Null;
        stage.seat_as(&stage.leader, &pod, fences, seat("1")).await;
    }
    // Without a UID, nobody knows whose it is.
    stage.says(&["P4", "P4", "P4"]);
    let stage = Stage::set().await;
    stage.add("Deployment", "web", 2, ("50", "0")).await;
    let out = json!({"metadata": {"labels": {"spotalis.io/enabled": null}}});
    stage.world.change(Kind::Deployment, NAMESPACE, "web", &out).await;
    sleep(Duration::from_mins(1)).await;
    stage.seat(&stage.pod("web", "spot"), seat("1")).await;
    stage.says(&["P4"]);
}

#[tokio::test(start_paused = true)]
async fn a_slot_is_written_alone_and_where_it_belongs() {
    let stage = Stage::set().await;
    stage.add("Deployment", "web", 2, ("50", "0")).await;
    stage.seat(&stage.pod("web", "spot"), seat("1")).await;
    stage.says(&[]);
    for (slot, why) in [
        (seat("2"), "it is of the other type"),
        (seat("3"), "beyond the replicas"),
        (json!({SLOT: "1"}), "without its cost"),
        (json!({SLOT: "1", COST: "-2"}), "with another cost"),
        (json!({SLOT: "1", COST: "-1", "example.com/other": "1"}), "with something else"),
    ] {
        let stage = Stage::set().await;
        stage.add("Deployment", "web", 2, ("50", "0")).await;
        stage.seat(&stage.pod("web", "spot"), slot).await;
        assert_eq!(stage.judge.wrongs().len(), 1, "{why}: {:?}", stage.judge.wrongs());
        stage.says(&["P4"]);
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_is_seated_where_others_decide() {
    let stage = Stage::set().await;
    stage.add("StatefulSet", "db", 2, ("50", "0")).await;
    stage.seat(&stage.pod("db", "spot"), seat("1")).await;
    stage.says(&["P4"]);
    let stage = Stage::set().await;
    stage.add("Deployment", "web", 2, ("50", "0")).await;
    stage.mark(&stage.pod("web", "spot"), COST, "7").await;
    stage.seat(&stage.pod("web", "spot"), seat("1")).await;
    stage.says(&["P4"]);
    let stage = Stage::set().await;
    stage.add("Deployment", "web", 4, ("75", "0")).await;
    stage.seat(&stage.pod("web", "spot"), seat("1")).await;
    stage.says(&["P4"]);
}

#[tokio::test(start_paused = true)]
async fn nothing_else_is_written() {
    let stage = Stage::set().await;
    stage.add("Deployment", "web", 2, ("50", "0")).await;
    let path = format!("/apis/apps/v1/namespaces/{NAMESPACE}/deployments/web");
    Stage::send(&stage.leader, "PATCH", &path, json!({"spec": {"replicas": 3}})).await;
    stage.says(&["P15"]);
}

/// What stands in the way for good has to be told, and what does for a moment does not count.
#[tokio::test(start_paused = true)]
async fn a_blocker_is_one_for_good() {
    let stage = Stage::set().await;
    stage.add("Deployment", "web", 4, ("75", "0")).await;
    let (workload, _) = stage.judge.workloads().into_iter().next().unwrap();
    let budget = |name: &str, allowed: u32| spotalis_sim::plan::pdb(name, "web", json!({"maxUnavailable": allowed}));
    assert_eq!(stage.judge.blocker(&workload), None);
    stage.world.create(budget("one", 1)).await;
    stage.world.change(Kind::Pod, NAMESPACE, &stage.pod("web", "spot").name, &unready()).await;
    sleep(Duration::from_mins(1)).await;
    assert_eq!(stage.judge.blocker(&workload), None, "its pod will be ready one day");
    stage.world.create(budget("none", 0)).await;
    sleep(Duration::from_mins(1)).await;
    assert_eq!(stage.judge.blocker(&workload), Some("SeveralPDBs"));
    stage.world.delete(Kind::PodDisruptionBudget, NAMESPACE, "one").await;
    assert_eq!(stage.judge.blocker(&workload), Some("MoveBlockedByPDB"));
    assert!(!stage.judge.is_told(&workload, "MoveBlockedByPDB"));
    let event = |reason: &str| {
        json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "reason": reason, "type": "Warning", "action": "Balance",
            "metadata": {"namespace": NAMESPACE, "name": reason.to_lowercase()}, "reportingController": "a/b",
            "reportingInstance": "c", "eventTime": "2026-01-01T00:00:00.000000Z",
            "regarding": {"kind": "Deployment", "namespace": NAMESPACE, "name": "web"}})
    };
    stage.world.create(event("Rebalanced")).await;
    assert!(!stage.judge.is_told(&workload, "MoveBlockedByPDB"));
    stage.world.create(event("MoveBlockedByPDB")).await;
    assert!(stage.judge.is_told(&workload, "MoveBlockedByPDB"));
}
