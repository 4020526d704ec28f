//! Creation, update, deletion, subresources, and what a namespace has to say.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use embedded_cluster::resource::Kind;
use embedded_cluster::store::Key;
use embedded_cluster::{Latency, Options};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, Pod};
use kube::Api;
use kube::api::{DeleteParams, ListParams, PostParams};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::world::{JSON, MAPS, MERGE, PODS, World, map, on_node, pod, why};

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

fn deployment(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"selector": {"matchLabels": {"app": "a"}}, "template": {
        "metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}})
}

#[tokio::test(start_paused = true)]
async fn a_client_cannot_tell_the_difference() {
    let world = World::new();
    let maps: Api<ConfigMap> = Api::default_namespaced(world.client.clone());
    let new: ConfigMap = serde_json::from_value(map("a")).unwrap();
    let made = maps.create(&PostParams::default(), &new).await.unwrap();
    assert!(made.metadata.uid.is_some() && made.metadata.creation_timestamp.is_some());
    let twice = maps.create(&PostParams::default(), &new).await.unwrap_err();
    assert!(matches!(twice, kube::Error::Api(status) if status.is_already_exists()));
    let mut newer = made.clone();
    newer.data.get_or_insert_default().insert("x".to_owned(), "y".to_owned());
    let newer = maps.replace("a", &PostParams::default(), &newer).await.unwrap();
    assert_ne!(newer.metadata.resource_version, made.metadata.resource_version);
    let stale = maps.replace("a", &PostParams::default(), &made).await.unwrap_err();
    assert!(matches!(stale, kube::Error::Api(status) if status.is_conflict()));
    assert_eq!(maps.get("a").await.unwrap(), newer);
    assert!(maps.delete("a", &DeleteParams::default()).await.unwrap().right().unwrap().is_success());
    assert_eq!(maps.get_opt("a").await.unwrap(), None);
    assert_eq!(maps.list(&ListParams::default()).await.unwrap().items, []);
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    assert_eq!(namespaces.list(&ListParams::default()).await.unwrap().items.len(), 4);
    assert_eq!(world.client.apiserver_version().await.unwrap().minor, "36");
    assert_eq!(world.client.list_api_groups().await.unwrap().groups.len(), 7);
    assert!(
        world.client.list_core_api_resources("v1").await.unwrap().resources.iter().any(|r| r.name == "pods/eviction")
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_created_has_its_defaults() {
    let world = World::new();
    let pods: Api<Pod> = Api::default_namespaced(world.client.clone());
    let new: Pod = serde_json::from_value(pod("p")).unwrap();
    let made = pods.create(&PostParams::default(), &new).await.unwrap();
    let (spec, status) = (made.spec.unwrap(), made.status.unwrap());
    assert_eq!(spec.termination_grace_period_seconds, Some(30));
    assert_eq!(spec.tolerations.unwrap().len(), 2);
    assert_eq!(spec.service_account_name.as_deref(), Some("default"));
    assert!(spec.volumes.unwrap()[0].name.starts_with("kube-api-access-"));
    assert_eq!((status.phase.as_deref(), status.qos_class.as_deref()), (Some("Pending"), Some("BestEffort")));
    assert_eq!(made.metadata.generation, Some(1));
    let deployments: Api<Deployment> = Api::default_namespaced(world.client.clone());
    let new: Deployment = serde_json::from_value(deployment("d")).unwrap();
    let made = deployments.create(&PostParams::default(), &new).await.unwrap().spec.unwrap();
    assert_eq!((made.replicas, made.progress_deadline_seconds), (Some(1), Some(600)));
    let nodes: Api<Node> = Api::all(world.client.clone());
    let new: Node = serde_json::from_value(json!({"metadata": {"name": "n"}})).unwrap();
    let taints = nodes.create(&PostParams::default(), &new).await.unwrap().spec.unwrap().taints.unwrap();
    assert_eq!(taints[0].key, "node.kubernetes.io/not-ready");
}

#[tokio::test(start_paused = true)]
async fn names_are_generated_from_the_seed() {
    let names = |seed| async move {
        let world = World::with(Options { seed, ..Options::default() });
        let mut names = Vec::new();
        for _ in 0..3 {
            let new = json!({"metadata": {"generateName": "g-"}});
            names.push(world.made(MAPS, &new).await["metadata"]["name"].as_str().unwrap().to_owned());
        }
        names
    };
    assert_eq!(names(1).await, names(1).await);
    assert_ne!(names(1).await, names(2).await);
    assert!(names(1).await.iter().all(|name| name.starts_with("g-") && name.len() == 7));
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_leaves_nothing() {
    let world = World::new();
    let (code, object) = world.post(&format!("{MAPS}?dryRun=All"), &map("a")).await;
    assert_eq!((code, object["metadata"].get("resourceVersion")), (201, None));
    assert_eq!(world.get(&format!("{MAPS}/a")).await.0, 404);
    world.made(MAPS, &map("a")).await;
    let revision = world.cluster.read(embedded_cluster::store::Store::revision);
    world.patch(&format!("{MAPS}/a?dryRun=All"), MERGE, &json!({"data": {"k": "w"}})).await;
    world.delete(&format!("{MAPS}/a?dryRun=All"), &Value::Null).await;
    assert_eq!(world.cluster.read(embedded_cluster::store::Store::revision), revision);
}

#[tokio::test(start_paused = true)]
async fn an_update_without_a_change_is_none() {
    let world = World::new();
    let made = world.made(MAPS, &map("a")).await;
    let (code, same) = world.put(&format!("{MAPS}/a"), &map("a")).await;
    assert_eq!((code, same), (200, made));
}

#[tokio::test(start_paused = true)]
async fn who_comes_too_late_is_told() {
    let world = World::new();
    world.made(MAPS, &map("a")).await;
    let a = format!("{MAPS}/a");
    let modified = "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your \
                    changes to the latest version and try again";
    let stale = json!({"metadata": {"name": "a", "resourceVersion": "1"}});
    for answer in [world.put(&a, &stale).await, world.patch(&a, MERGE, &stale).await] {
        assert_eq!(why(&answer), (409, "Conflict".to_owned(), modified.to_owned()));
    }
    let other = json!({"metadata": {"name": "a", "uid": "x"}});
    assert_eq!(world.put(&a, &other).await.0, 409);
    let (code, status) = world.patch(&a, MERGE, &other).await;
    assert_eq!((code, &status["details"]["causes"][0]["field"]), (422, &json!("metadata.uid")));
    for precondition in [json!({"uid": "x"}), json!({"resourceVersion": "1"})] {
        let (code, status) = world.delete(&a, &json!({"preconditions": precondition})).await;
        assert_eq!((code, &status["details"]), (409, &json!({"name": "a", "kind": "ConfigMap"})));
    }
    assert_eq!(world.get(&a).await.0, 200);
}

#[tokio::test(start_paused = true)]
async fn a_namespace_lets_in_until_it_ends() {
    let world = World::new();
    let maps = "/api/v1/namespaces/x/configmaps";
    assert_eq!(why(&world.post(maps, &map("a")).await).2, "namespaces \"x\" not found");
    let namespace = world.made("/api/v1/namespaces", &json!({"metadata": {"name": "x"}})).await;
    assert_eq!(namespace["metadata"]["labels"]["kubernetes.io/metadata.name"], "x");
    world.made(maps, &map("a")).await;
    let (code, ending) = world.delete("/api/v1/namespaces/x", &Value::Null).await;
    assert_eq!((code, &ending["status"]["phase"]), (200, &json!("Terminating")));
    let refused = world.post(maps, &map("b")).await;
    assert_eq!((refused.0, &refused.1["details"]["causes"][0]["reason"]), (403, &json!("NamespaceTerminating")));
    let mut empty = ending.clone();
    empty["spec"] = json!({});
    assert_eq!(world.put("/api/v1/namespaces/x/finalize", &empty).await.0, 200);
    assert_eq!(world.get("/api/v1/namespaces/x").await.0, 404);
    assert_eq!(world.delete("/api/v1/namespaces/default", &Value::Null).await.0, 403);
}

#[tokio::test(start_paused = true)]
async fn a_pod_with_a_node_is_given_time() {
    let world = World::new();
    let p = format!("{PODS}/p");
    world.made(PODS, &pod("p")).await;
    assert_eq!(world.delete(&p, &Value::Null).await.0, 200);
    assert_eq!(world.get(&p).await.0, 404, "no node, no time");
    world.made(PODS, &on_node("p")).await;
    let (_, ending) = world.delete(&p, &Value::Null).await;
    assert_eq!(ending["metadata"]["deletionTimestamp"], "2026-03-01T12:00:30Z");
    assert_eq!(
        (&ending["metadata"]["deletionGracePeriodSeconds"], &ending["metadata"]["generation"]),
        (&json!(30), &json!(2))
    );
    sleep(Duration::from_secs(10)).await;
    let (_, same) = world.delete(&p, &json!({"gracePeriodSeconds": 60})).await;
    assert_eq!(same, ending, "only less time can be given");
    let (_, shorter) = world.delete(&p, &json!({"gracePeriodSeconds": 15})).await;
    assert_eq!(shorter["metadata"]["deletionTimestamp"], "2026-03-01T12:00:15Z");
    world.delete(&p, &json!({"gracePeriodSeconds": 0})).await;
    assert_eq!(world.get(&p).await.0, 404);
}

#[tokio::test(start_paused = true)]
async fn finalizers_hold() {
    let world = World::new();
    let a = format!("{MAPS}/a");
    let mut held = map("a");
    held["metadata"]["finalizers"] = json!(["x.y/z"]);
    world.made(MAPS, &held).await;
    let (_, ending) = world.delete(&a, &json!({"propagationPolicy": "Foreground"})).await;
    assert_eq!(ending["metadata"]["finalizers"], json!(["x.y/z", "foregroundDeletion"]));
    let (code, status) =
        world.patch(&a, JSON, &json!([{"op": "add", "path": "/metadata/finalizers/-", "value": "q.y/z"}])).await;
    assert_eq!((code, &status["details"]["causes"][0]["field"]), (422, &json!("metadata.finalizers")));
    let (code, _) = world.patch(&a, MERGE, &json!({"metadata": {"finalizers": null}})).await;
    assert_eq!((code, world.get(&a).await.0), (200, 404));
}

#[tokio::test(start_paused = true)]
async fn status_and_spec_are_written_apart() {
    let world = World::new();
    world.made(DEPLOYMENTS, &deployment("d")).await;
    let d = format!("{DEPLOYMENTS}/d");
    let both = json!({"spec": {"replicas": 5}, "status": {"replicas": 5}});
    let (_, spec) = world.patch(&d, MERGE, &both).await;
    assert_eq!(
        (&spec["spec"]["replicas"], spec["status"].get("replicas"), &spec["metadata"]["generation"]),
        (&json!(5), None, &json!(2))
    );
    let both = json!({"spec": {"replicas": 7}, "status": {"replicas": 7}});
    let (_, status) = world.patch(&format!("{d}/status"), MERGE, &both).await;
    assert_eq!((&status["spec"]["replicas"], &status["status"]["replicas"]), (&json!(5), &json!(7)));
    assert_eq!(status["metadata"]["generation"], 2);
}

#[tokio::test(start_paused = true)]
async fn scale_is_fenced() {
    let world = World::new();
    let made = world.made(DEPLOYMENTS, &deployment("d")).await;
    let path = format!("{DEPLOYMENTS}/d/scale");
    let (_, scale) = world.get(&path).await;
    assert_eq!((&scale["spec"]["replicas"], &scale["status"]["selector"]), (&json!(1), &json!("app=a")));
    for fence in [json!({"uid": "x"}), json!({"resourceVersion": "1"})] {
        let patch = json!({"metadata": fence, "spec": {"replicas": 3}});
        assert_eq!(world.patch(&path, MERGE, &patch).await.0, 409, "{patch}");
    }
    let fence = json!({"uid": made["metadata"]["uid"], "resourceVersion": made["metadata"]["resourceVersion"]});
    let (code, scale) = world.patch(&path, MERGE, &json!({"metadata": fence, "spec": {"replicas": 3}})).await;
    assert_eq!((code, &scale["spec"]["replicas"]), (200, &json!(3)));
    assert_eq!(world.put(&path, &scale).await.0, 200);
    assert_eq!(world.patch(&path, MERGE, &json!({"spec": {"replicas": -1}})).await.0, 422);
}

#[tokio::test(start_paused = true)]
async fn a_pod_is_bound_once() {
    let world = World::new();
    let node = json!({"metadata": {"name": "n", "labels": {"topology.kubernetes.io/zone": "z"}}});
    world.made("/api/v1/nodes", &node).await;
    world.made(PODS, &pod("p")).await;
    let binding = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}});
    assert_eq!(world.post(&format!("{PODS}/p/binding"), &binding).await.0, 201);
    let (_, bound) = world.get(&format!("{PODS}/p")).await;
    assert_eq!(
        (&bound["spec"]["nodeName"], &bound["metadata"]["labels"]["topology.kubernetes.io/zone"]),
        (&json!("n"), &json!("z"))
    );
    assert_eq!(bound["status"]["conditions"][0]["type"], "PodScheduled");
    let again = world.post(&format!("{PODS}/p/binding"), &binding).await;
    assert_eq!(
        why(&again).2,
        "Operation cannot be fulfilled on pods/binding \"p\": pod p is already assigned to node \"n\""
    );
}

#[tokio::test(start_paused = true)]
async fn a_quota_counts_pods() {
    let world = World::new();
    let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": {"pods": "1"}}});
    world.made("/api/v1/namespaces/default/resourcequotas", &quota).await;
    world.made(PODS, &pod("a")).await;
    let refused = world.post(PODS, &pod("b")).await;
    let message = "pods \"b\" is forbidden: exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1";
    assert_eq!(why(&refused), (403, "Forbidden".to_owned(), message.to_owned()));
    world.delete(&format!("{PODS}/a"), &Value::Null).await;
    world.made(PODS, &pod("b")).await;
}

#[tokio::test(start_paused = true)]
async fn pages_are_of_one_revision() {
    let world = World::new();
    for name in ["a", "b", "c", "d", "e"] {
        world.made(MAPS, &map(name)).await;
    }
    let names = |list: &Value| -> Vec<String> {
        list["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item["metadata"]["name"].as_str().unwrap().to_owned())
            .collect()
    };
    let (_, first) = world.get(&format!("{MAPS}?limit=2")).await;
    assert_eq!(
        (names(&first), &first["metadata"]["remainingItemCount"]),
        (vec!["a".to_owned(), "b".to_owned()], &json!(3))
    );
    world.delete(&format!("{MAPS}/c"), &Value::Null).await;
    world.made(MAPS, &map("cc")).await;
    let token = first["metadata"]["continue"].as_str().unwrap();
    let (_, second) = world.get(&format!("{MAPS}?limit=2&continue={token}")).await;
    assert_eq!(names(&second), ["c", "d"], "as it was");
    assert_eq!(second["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
    world.cluster.compact();
    let token = second["metadata"]["continue"].as_str().unwrap();
    let (code, expired) = world.get(&format!("{MAPS}?limit=2&continue={token}")).await;
    assert_eq!((code, &expired["reason"]), (410, &json!("Expired")));
    let token = expired["metadata"]["continue"].as_str().unwrap();
    let (_, rest) = world.get(&format!("{MAPS}?limit=2&continue={token}")).await;
    assert_eq!(names(&rest), ["e"]);
    let exact = format!("{MAPS}?resourceVersionMatch=Exact&resourceVersion=");
    assert_eq!(world.get(&format!("{exact}5")).await.0, 410);
    let started = Instant::now();
    let (code, status) = world.get(&format!("{exact}1000")).await;
    assert_eq!((code, &status["details"]["causes"][0]["reason"]), (504, &json!("ResourceVersionTooLarge")));
    assert_eq!(started.elapsed(), Duration::from_secs(3));
}

#[tokio::test(start_paused = true)]
async fn selectors_choose() {
    let world = World::new();
    world.made(PODS, &pod("a")).await;
    world.made(PODS, &on_node("b")).await;
    for (query, count) in [
        ("labelSelector=app%3Da", 2),
        ("labelSelector=app%20notin%20(a)", 0),
        ("fieldSelector=spec.nodeName%3Dn", 1),
        ("fieldSelector=metadata.name!%3Da,status.phase%3DPending", 1),
    ] {
        let (code, list) = world.get(&format!("/api/v1/pods?{query}")).await;
        assert_eq!((code, list["items"].as_array().unwrap().len()), (200, count), "{query}");
    }
    assert_eq!(world.get(&format!("{PODS}?fieldSelector=spec.x%3Dn")).await.0, 400);
    let (code, deleted) = world.delete(&format!("{PODS}?fieldSelector=metadata.name%3Da"), &Value::Null).await;
    assert_eq!((code, deleted["items"].as_array().unwrap().len()), (200, 1));
    assert_eq!((world.get(&format!("{PODS}/a")).await.0, world.get(&format!("{PODS}/b")).await.0), (404, 200));
}

#[tokio::test(start_paused = true)]
async fn a_request_takes_its_time_and_is_written_down() {
    let options = Options { latency: Latency::Fixed(Duration::from_millis(10)), ..Options::default() };
    let world = World::with(options);
    world.cluster.record_requests();
    let started = Instant::now();
    world.made(MAPS, &map("a")).await;
    world.get(&format!("{MAPS}/b")).await;
    assert_eq!(started.elapsed(), Duration::from_millis(20));
    let seen: Vec<_> = world.cluster.take_requests();
    let seen: Vec<_> =
        seen.iter().map(|request| (request.verb, request.kind, request.name.as_str(), request.code)).collect();
    assert_eq!(seen, [("create", Kind::ConfigMap, "", 201), ("get", Kind::ConfigMap, "b", 404)]);
    let range = Latency::Between(Duration::from_millis(1), Duration::from_millis(9));
    let world = World::with(Options { latency: range, ..Options::default() });
    let started = Instant::now();
    world.get(MAPS).await;
    assert!((1..=9).contains(&started.elapsed().as_millis()));
}

#[tokio::test(start_paused = true)]
async fn every_change_is_observed_before_anything_else_happens() {
    let world = World::new();
    let (seen, total) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (last, count) = (seen.clone(), total.clone());
    world.cluster.observe(move |store, change| {
        assert_eq!(store.revision(), change.revision);
        last.store(change.revision, Ordering::Relaxed);
        count.fetch_add(1, Ordering::Relaxed);
    });
    world.made(MAPS, &map("a")).await;
    world.delete(&format!("{MAPS}/a"), &Value::Null).await;
    assert_eq!(total.load(Ordering::Relaxed), 2);
    assert_eq!(world.cluster.read(embedded_cluster::store::Store::revision), seen.load(Ordering::Relaxed));
    let key = Key::new(Kind::ConfigMap, "default", "a");
    assert!(world.cluster.read(|store| store.get(&key).is_none()));
}

#[tokio::test(start_paused = true)]
async fn what_is_not_there_answers_as_it_should() {
    let world = World::new();
    for (method, path, code) in [
        ("GET", "/api/v1/services", 404),
        ("GET", "/apis/nothing/v1", 404),
        ("GET", "/openapi/v2", 404),
        ("GET", "/readyz", 200),
        ("GET", "/livez", 200),
        ("GET", "/apis", 200),
        ("GET", "/apis/apps", 200),
        ("GET", "/apis/apps/v1", 200),
        ("DELETE", "/api/v1", 405),
        ("PUT", PODS, 405),
    ] {
        assert_eq!(world.ask(method, path, "application/json", &Value::Null).await.0, code, "{method} {path}");
    }
}

#[tokio::test(start_paused = true)]
async fn json_is_spoken_and_nothing_else_is_said_to_be() {
    let world = World::new();
    let says = "the body of the request was in an unknown format - accepted media types include: application/json";
    let advice = "; kubectl sends what it reads from a file as JSON: `kubectl create ... --dry-run=client -o yaml | \
                  kubectl apply -f -`";
    for (media, more) in [("text/plain", ""), ("application/yaml", ""), ("application/vnd.kubernetes.protobuf", advice)]
    {
        let answer = world.ask("POST", MAPS, media, &map("a")).await;
        assert_eq!(why(&answer), (415, "UnsupportedMediaType".to_owned(), format!("{says}{more}")), "{media}");
    }
}

/// Two clusters with one seed, and clients that run into each other: the same changes in the same order.
#[tokio::test(start_paused = true)]
async fn the_same_seed_is_the_same_history() {
    let history = |seed| async move {
        let latency = Latency::Between(Duration::from_millis(1), Duration::from_millis(30));
        let world = Arc::new(World::with(Options { seed, latency, ..Options::default() }));
        let told = Arc::new(parking_lot::Mutex::new(String::new()));
        let log = told.clone();
        world.cluster.observe(move |_, change| {
            use std::fmt::Write as _;
            let after = change.after.as_ref().map_or(&Value::Null, |object| object.json());
            writeln!(log.lock(), "{} {} {after}", change.revision, change.key.name).unwrap();
        });
        let clients: Vec<_> = (0..5)
            .map(|client| {
                let world = world.clone();
                tokio::spawn(async move {
                    for round in 0..5 {
                        world.post(MAPS, &json!({"metadata": {"generateName": "g-"}})).await;
                        world.post(MAPS, &map(&format!("m{round}"))).await;
                        let data = json!({"data": {"by": format!("{client}")}});
                        world.patch(&format!("{MAPS}/m{round}"), MERGE, &data).await;
                    }
                })
            })
            .collect();
        for client in clients {
            client.await.unwrap();
        }
        told.lock().clone()
    };
    let first = history(7).await;
    assert!(first.lines().count() > 50);
    assert_eq!(first, history(7).await);
    assert_ne!(first, history(8).await);
}

#[tokio::test(start_paused = true)]
async fn the_claims_of_a_set_are_volumes_of_its_pods() {
    let world = World::new();
    let sets = "/apis/apps/v1/namespaces/default/statefulsets";
    let set = |name: &str, claim: &str, volume: &str, hostname: &str| {
        let mut set = deployment(name);
        set["spec"]["volumeClaimTemplates"] = json!([{"metadata": {"name": claim}, "spec": {
            "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}]);
        set["spec"]["template"]["spec"]["hostname"] = json!(hostname);
        set["spec"]["template"]["spec"]["volumes"] = json!([{"name": volume, "emptyDir": {}}]);
        set["spec"]["template"]["spec"]["containers"][0]["volumeMounts"] =
            json!([{"name": "data", "mountPath": "/data"}, {"name": "cache", "mountPath": "/cache"}]);
        set
    };
    let made = world.made(sets, &set("a", "data", "cache", "Mine")).await;
    let kept = &made["spec"]["template"]["spec"];
    assert_eq!((&kept["hostname"], &kept["volumes"][0]["name"]), (&json!("Mine"), &json!("cache")), "as it was sent");
    let refused = world.post(sets, &set("b", "other", "cache", "b")).await;
    let field = "spec.template.spec.containers[0].volumeMounts[0].name";
    assert_eq!((refused.0, &refused.1["details"]["causes"][0]["field"]), (422, &json!(field)), "{}", refused.1);
    let refused = world.post(DEPLOYMENTS, &set("c", "data", "cache", "c")).await;
    assert_eq!(refused.0, 422, "who makes no claims has none: {}", refused.1);
}
