//! `spotalis simulate --from-cluster` against an API server: what it takes from there, and that it only reads.

#![expect(clippy::unwrap_used, reason = "this file is a test; the lint knows that of functions marked as such alone")]

mod common;

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use common::{Answers, ApiServer, file, kubeconfig, list, run, status};
use embedded_cluster::engine::{World as _, Write};
use embedded_cluster::{Cluster, Options};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tower::Service as _;

/// An embedded cluster that is served on a port until it is dropped, and what was asked of it.
struct Served {
    kubeconfig: String,
    asked: Arc<Mutex<Vec<String>>>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Served {
    fn with(name: &str, objects: Vec<Value>) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let server = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let seen = asked.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let cluster = Cluster::new(Options::default());
                for object in objects {
                    cluster.perform(Write::Create(object)).await.unwrap();
                }
                let listener = TcpListener::from_std(listener).unwrap();
                tokio::select! {
                    biased;
                    _ = stopped => {}
                    () = accept(listener, cluster, seen) => {}
                }
            });
        });
        let kubeconfig = kubeconfig(name, &server).to_str().unwrap().to_owned();
        Self { kubeconfig, asked, stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.stop.take().unwrap().send(());
        let _ = self.thread.take().unwrap().join();
    }
}

async fn accept(listener: TcpListener, cluster: Cluster, seen: Arc<Mutex<Vec<String>>>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (cluster, seen) = (cluster.clone(), seen.clone());
        tokio::spawn(async move {
            let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                seen.lock().unwrap().push(format!("{} {}", request.method(), request.uri()));
                let mut api = cluster.service();
                async move { Ok::<_, Infallible>(api.call(request).await.unwrap()) }
            });
            // A client that goes away ends its connection, which is no failure.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

fn namespace(name: &str, labels: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
}

fn workload(kind: &str, namespace: &str, name: &str, replicas: u32) -> Value {
    let container = json!({"name": "a", "image": "a", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}});
    let mut object = json!({
        "apiVersion": "apps/v1", "kind": kind,
        "metadata": {"namespace": namespace, "name": name, "labels": {"spotalis.io/enabled": "true"},
                     "annotations": {"spotalis.io/spot-percentage": "50"}},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}},
                 "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [container]}}},
    });
    if kind == "StatefulSet" {
        object["spec"]["serviceName"] = json!(name);
    }
    object
}

fn node(name: &str, capacity: &str, cpu: &str) -> Value {
    let room = json!({"cpu": cpu, "memory": "16Gi", "pods": "110"});
    let mut labels = json!({"karpenter.sh/capacity-type": capacity, "topology.kubernetes.io/zone": "here"});
    if capacity.is_empty() {
        labels = json!({"node-role.kubernetes.io/control-plane": ""});
    }
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels},
           "status": {"capacity": room, "allocatable": room}})
}

fn shop() -> Vec<Value> {
    vec![
        node("a", "spot", "4"),
        node("b", "spot", "8"),
        node("c", "on-demand", "6"),
        node("d", "", "2"),
        namespace("shop", &json!({"spotalis.io/enabled": "true"})),
        namespace("batch", &json!({})),
        namespace("idle", &json!({})),
        workload("Deployment", "shop", "web", 4),
        workload("StatefulSet", "shop", "db", 3),
        workload("Deployment", "batch", "encode", 2),
        json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"namespace": "shop", "name": "web"},
               "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": "web"}}}}),
        json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
               "metadata": {"namespace": "shop", "name": "web"},
               "spec": {"minReplicas": 6, "maxReplicas": 9,
                        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}}}),
    ]
}

const SHORT: [&str; 8] = ["simulate", "--from-cluster", "--hours", "0.1", "--runs", "1", "-o", "json"];

#[test]
fn what_is_there_is_simulated_and_only_read() {
    let served = Served::with("simulated", shop());
    let ran = run(&[&SHORT[..], &["--kubeconfig", &served.kubeconfig]].concat());
    assert_eq!(ran.code, 0, "{}", ran.err);
    let report: Value = serde_json::from_str(&ran.out).unwrap();
    let told: Vec<Value> = report["workloads"]
        .as_array()
        .unwrap()
        .iter()
        .map(|workload| {
            json!([workload["workload"], workload["replicas"], workload["standing"], workload["wanted"]["spot"]])
        })
        .collect();
    assert_eq!(
        Value::from(told),
        json!([["batch/encode", 2, "halfOptedIn", null], ["shop/db", 3, "managed", 2], ["shop/web", 6, "managed", 3],])
    );
    let fleet = &report["terms"]["fleet"];
    let told = ["spot", "onDemand", "cpu", "memory", "zones"].map(|key| fleet[key].clone());
    assert_eq!(told, [json!(2), json!(1), json!("6"), json!("16384Mi"), json!(["here"])]);
    for said in [
        "the fleet is 2 spot and 1 on-demand nodes of 6 CPU, 16384Mi and 1000Gi of disk, on average as in the cluster",
        "Deployment shop/web begins with 6 replicas, as its HorizontalPodAutoscaler wants, not with 4",
        "`kubectl label --overwrite namespace batch spotalis.io/enabled=true` would complete it",
    ] {
        assert!(ran.err.contains(said), "{said}: {}", ran.err);
    }
    let asked = served.asked.lock().unwrap().clone();
    assert!(asked.iter().all(|asked| asked.starts_with("GET ") && !asked.contains("watch=")), "{asked:?}");
    assert!(!asked.iter().any(|asked| asked.contains("secrets") || asked.contains("pods?")), "{asked:?}");
}

#[test]
fn a_manifest_of_the_same_name_wins_in_the_one_namespace_that_is_read() {
    let served = Served::with("won", shop());
    let mine = file("mine.json", &workload("Deployment", "shop", "web", 8).to_string());
    let words = ["-n", "shop", "-f", mine.to_str().unwrap(), "--kubeconfig", &served.kubeconfig];
    let ran = run(&[&SHORT[..], &words].concat());
    assert_eq!(ran.code, 0, "{}", ran.err);
    let report: Value = serde_json::from_str(&ran.out).unwrap();
    let told: Vec<(&Value, &Value)> =
        report["workloads"].as_array().unwrap().iter().map(|it| (&it["workload"], &it["replicas"])).collect();
    assert_eq!(told, [(&json!("shop/db"), &json!(3)), (&json!("shop/web"), &json!(8))]);
    let asked = served.asked.lock().unwrap().clone();
    let elsewhere: Vec<&String> = asked.iter().filter(|asked| !asked.contains("/namespaces/shop")).collect();
    assert_eq!(elsewhere, ["GET /version", "GET /api/v1/nodes?&limit=500"]);
}

#[test]
fn what_may_not_be_read_is_named() {
    let kinds = ["deployments", "statefulsets"].map(|plural| format!("/apis/apps/v1/{plural}"));
    let (scalers, nodes) = ("/apis/autoscaling/v2/horizontalpodautoscalers", "/api/v1/nodes");
    let others = ["/apis/policy/v1/poddisruptionbudgets", scalers, nodes, "/api/v1/namespaces"];
    let answers = || -> Answers {
        let lists = kinds.iter().map(String::as_str).chain(others).map(|path| (path.to_owned(), list("Any", &[])));
        lists.chain([("/version".to_owned(), (200, json!({"major": "1", "minor": "36"})))]).collect()
    };
    for (name, path, code, reason, exit, says) in [
        ("no-hpa", scalers, 403, "Forbidden", 4, "does not allow us to list horizontalpodautoscalers.autoscaling"),
        ("no-deployment", &kinds[0], 403, "Forbidden", 4, "`kubectl auth can-i list deployments.apps`"),
        (
            "no-nodes",
            nodes,
            403,
            "Forbidden",
            2,
            "note: nodes may not be listed, so the fleet is not that of the cluster",
        ),
        ("expired", &kinds[0], 401, "Unauthorized", 4, "they may have expired"),
        ("broken", &kinds[1], 500, "InternalError", 3, "cannot list statefulsets now: 500 InternalError"),
        ("old", scalers, 404, "NotFound", 3, "does not know horizontalpodautoscalers"),
        ("nothing", "/nowhere", 404, "NotFound", 2, "neither a Deployment nor a StatefulSet is among them"),
    ] {
        let mut answers = answers();
        answers.insert(path.to_owned(), status(code, reason));
        let server = ApiServer::start(answers);
        let ran = run(&[&SHORT[..], &["--kubeconfig", &server.kubeconfig(&format!("simulate-{name}"))]].concat());
        assert_eq!((ran.code, ran.out.as_str()), (exit, ""), "{name}: {}", ran.err);
        assert!(ran.err.contains(says), "{name}: {}", ran.err);
        assert!(server.asked().iter().all(|asked| asked.starts_with("GET ")), "{:?}", server.asked());
    }
    let server = ApiServer::start(answers());
    let ran = run(&[&SHORT[..], &["-n", "shpo", "--kubeconfig", &server.kubeconfig("simulate-nowhere")]].concat());
    assert!(ran.code == 2 && ran.err.contains("there is no namespace shpo"), "{}", ran.err);
}
