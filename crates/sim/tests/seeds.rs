//! A few seeds, the same one twice, and a judge that can say no. Thousands of seeds are `cargo xtask sim`'s.

#![expect(clippy::unwrap_used, reason = "all of this is a test")]

use std::time::Duration;

use bytes::Bytes;
use jiff::SignedDuration;
use serde_json::{Value, json};
use spotalis_config::Config;
use spotalis_sim::enumerate;
use spotalis_sim::fault::{ADMIT, ASK, Calm};
use spotalis_sim::judge::{Judge, REST, Rules};
use spotalis_sim::plan::{Event, Plan, Workload};
use spotalis_sim::requests::Requests;
use spotalis_sim::run::run;
use spotalis_sim::shrink::shrink;
use spotalis_sim::wire::Exchange;
use spotalis_sim::world::{NAMESPACE, World};
use tokio_util::sync::CancellationToken;

#[test]
fn a_few_seeds_are_right() {
    for seed in 0..4 {
        let outcome = run(&Plan::of(seed));
        assert_eq!(outcome.wrongs, [""; 0], "seed {seed}");
    }
}

#[test]
fn a_run_ends_sooner_only_if_all_is_at_rest() {
    let plan = enumerate::quiet();
    let rested = run(&plan);
    assert_eq!(rested.wrongs, [""; 0]);
    assert!(rested.took >= plan.calm_at + plan.stillness, "{:?}", rested.took);
    assert!(rested.took < plan.calm_at + REST, "nothing stirs: {:?}", rested.took);
    // Most of its pods find no place, and nothing changes about that.
    let crowded = run(&Plan { nodes: (2, 1), ..plan.clone() });
    assert_eq!(crowded.took, plan.calm_at + REST);
    assert!(crowded.wrongs.iter().any(|wrong| wrong.contains("P10")), "{:?}", crowded.wrongs);
    let to_the_end = run(&Plan { stillness: REST, ..plan.clone() });
    assert_eq!(to_the_end.took, plan.calm_at + REST);
    assert_eq!(to_the_end.evictions, rested.evictions, "nothing more was done");
}

/// Nothing but the workload that finds no place is left of a plan in which one finds none.
#[test]
fn what_fails_is_made_shorter_and_fails_alike() {
    let mut crowded = Plan { nodes: (2, 1), ..enumerate::quiet() };
    crowded.workloads.truncate(2);
    crowded.events.truncate(2);
    let (short, outcome) = shrink(&crowded, &run(&crowded), |_| ());
    assert!(outcome.wrongs.iter().any(|wrong| wrong.contains("P10")), "{:?}", outcome.wrongs);
    assert_eq!((short.processes, short.workloads.len(), short.events), (1, 1, Vec::new()));
}

#[test]
fn the_same_plan_is_the_same_run() {
    let plan = enumerate::quiet();
    let (first, second) = (run(&plan), run(&plan));
    assert_eq!(first.digest, second.digest);
    assert_eq!(first, second);
    let other = run(&Plan { seed: 1, ..plan });
    assert_ne!(first.digest, other.digest, "another seed is another run");
}

/// The quiet run does what balance does: otherwise nothing could go wrong in it.
#[test]
fn the_quiet_run_comes_by_every_site() {
    let outcome = run(&enumerate::quiet());
    assert_eq!(outcome.wrongs, [""; 0]);
    assert!(outcome.evictions.len() >= 4, "{:?}", outcome.evictions);
    for site in [
        "create pods/eviction",
        "patch pods",
        "create leases",
        "patch leases",
        "create events",
        "watch pods",
        ADMIT,
        ASK,
    ] {
        assert!(outcome.calls.iter().any(|call| call.site == site), "{site}");
    }
}

/// What is enumerated happens: a fault that is planned for a request that is not made would prove nothing.
#[test]
fn every_enumerated_fault_happens() {
    let plans = enumerate::plans();
    assert!(plans.len() > 500, "{}", plans.len());
    for plan in [plans.first(), plans.last()].into_iter().flatten() {
        assert_eq!(run(plan).faults.len(), 1, "{plan}");
    }
}

/// A leader whose clock is ahead must not think that every cooldown is over, nor one whose clock is behind wait for ever.
#[test]
fn nobodys_clock_is_trusted() {
    for ahead in [41_000, -41_000] {
        let outcome = run(&Plan { clocks: [ahead; 3], ..enumerate::quiet() });
        assert_eq!(outcome.wrongs, [""; 0], "{ahead} ms ahead");
        assert!(outcome.evictions.len() >= 4, "{:?}", outcome.evictions);
    }
}

/// A replacement that is not ready yet must not look older than the eviction to a leader whose clock is a little ahead: its
/// place under the limit would be free at once.
#[test]
fn the_limit_holds_where_clocks_differ_a_little() {
    let Plan { workloads, .. } = enumerate::quiet();
    let slow = |name: &str| Workload { name: name.to_owned(), slow: Duration::from_secs(40), ..workloads[0].clone() };
    let half = |name: &str| (Duration::from_secs(30), Event::Percentage(name.to_owned(), Some("50".to_owned())));
    let plan = Plan {
        clocks: [1_050; 3],
        limit: 1,
        events: vec![half("a"), half("b")],
        ..Plan::uneventful(vec![slow("a"), slow("b")], Duration::from_mins(5))
    };
    let outcome = run(&plan);
    assert_eq!(outcome.wrongs, [""; 0]);
    assert_eq!(outcome.evictions.len(), 4, "{:?}", outcome.evictions);
}

/// Somebody sets it while pods are moved. What was learned of the API server's clock before holds all the same.
#[test]
fn a_clock_that_is_set_changes_nothing() {
    let quiet = run(&enumerate::quiet());
    for (after, forward) in (30..60).step_by(6).map(|second| (Duration::from_secs(second), 120_000)) {
        let outcome = run(&Plan { clock_set: Some((after, forward)), ..enumerate::quiet() });
        assert_eq!(outcome.wrongs, [""; 0], "set after {after:?}");
        assert_eq!(outcome.evictions, quiet.evictions);
    }
}

/// A world in which two pods of one workload are ready, one on each type as is wanted, and somebody who acts in it.
struct Stage {
    world: World,
    judge: Judge,
    client: kube::Client,
}

impl Stage {
    async fn set() -> Self {
        let config = Config::defaults();
        let world = World::new(0, &config, Requests::new(Box::new(Calm))).await;
        let rules = Rules {
            cooldown: SignedDuration::from_secs(10),
            limit: 5,
            lease: "spotalis-controller".to_owned(),
            identities: [(1, "rogue".to_owned())].into(),
        };
        let judge = Judge::of(&world.cluster, rules);
        for capacity in ["spot", "on-demand"] {
            world.add_node(capacity, capacity, 10).await;
        }
        let annotations = json!({"spotalis.io/spot-percentage": "50", "spotalis.io/min-on-demand": "1"});
        let labels = json!({"spotalis.io/enabled": "true"});
        let spread = json!([{"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": {"matchLabels": {"app": "web"}}}]);
        let containers = json!([{"name": "main", "image": "none"}]);
        world
            .create(json!({
                "apiVersion": "apps/v1", "kind": "Deployment",
                "metadata": {"namespace": NAMESPACE, "name": "web", "labels": labels, "annotations": annotations},
                "spec": {
                    "replicas": 2, "selector": {"matchLabels": {"app": "web"}},
                    "template": {
                        "metadata": {"labels": {"app": "web"}},
                        "spec": {"containers": containers, "topologySpreadConstraints": spread},
                    },
                },
            }))
            .await;
        tokio::time::sleep(Duration::from_mins(1)).await;
        let exchange = Exchange::new(world.cluster.clone(), Some(judge.clone()), world.doors.requests().clone());
        let client = kube::Client::new(exchange.wire(1, CancellationToken::new()), "default");
        Self { world, judge, client }
    }

    fn pod_on(&self, node: &str) -> (String, String) {
        self.world.cluster.read(|store| {
            let pod = store.pods_on(node).next().unwrap().1;
            (pod.name().to_owned(), pod.uid().to_owned())
        })
    }

    async fn evict(&self, pod: &str, preconditions: Value) {
        let body = json!({"apiVersion": "policy/v1", "kind": "Eviction",
            "metadata": {"namespace": NAMESPACE, "name": pod}, "deleteOptions": {"preconditions": preconditions}});
        self.send("POST", &format!("/api/v1/namespaces/{NAMESPACE}/pods/{pod}/eviction"), body).await;
    }

    async fn send(&self, method: &str, path: &str, body: Value) {
        let content_type = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        let request = http::Request::builder().method(method).uri(path).header("content-type", content_type);
        let body = kube::client::Body::from(Bytes::from(body.to_string()).to_vec());
        self.client.send(request.body(body).unwrap()).await.unwrap();
    }

    /// What was said against what was done, by the property's letter.
    fn properties(&self) -> Vec<String> {
        let word = |wrong: &String| wrong.split([' ', ':']).find(|word| word.starts_with('P')).unwrap().to_owned();
        self.judge.wrongs().iter().map(word).collect()
    }
}

/// Whoever evicts what is exact, without leading, hears of it.
#[tokio::test(start_paused = true)]
async fn the_judge_says_no() {
    let stage = Stage::set().await;
    let (pod, uid) = stage.pod_on("on-demand");
    stage.evict(&pod, json!({"uid": uid})).await;
    let said = stage.properties();
    for property in ["P1", "P7", "P11"] {
        assert!(said.iter().any(|one| one == property), "{property} is not in {:#?}", stage.judge.wrongs());
    }
    tokio::time::sleep(Duration::from_secs(4)).await;
    let (pod, _) = stage.pod_on("spot");
    stage.evict(&pod, json!({})).await;
    let said = stage.properties();
    for property in ["P3", "P4"] {
        assert!(said.iter().any(|one| one == property), "{property} is not in {:#?}", stage.judge.wrongs());
    }
}

#[tokio::test(start_paused = true)]
async fn the_judge_knows_what_may_be_written() {
    let stage = Stage::set().await;
    let (pod, uid) = stage.pod_on("spot");
    let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/{pod}");
    let fence = |annotations: Value| {
        let version = stage.world.cluster.read(|store| store.pods_on("spot").next().unwrap().1.revision().to_string());
        json!({"metadata": {"uid": uid, "resourceVersion": version, "annotations": annotations}})
    };
    stage.send("PATCH", &path, fence(json!({"spotalis.io/slot": "1"}))).await;
    assert_eq!(stage.judge.wrongs(), [""; 0], "a slot may be written");
    stage.send("PATCH", &path, fence(json!({"example.com/other": "1"}))).await;
    assert_eq!(stage.properties(), ["P4"], "and nothing else");
    let scale = json!({"spec": {"replicas": 3}});
    stage.send("PATCH", &format!("/apis/apps/v1/namespaces/{NAMESPACE}/deployments/web"), scale).await;
    assert_eq!(stage.properties(), ["P4", "P15"]);
}
