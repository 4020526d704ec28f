//! The built binary, run as a person would, and an API server that answers what a test tells it to.

#![expect(
    clippy::unwrap_used,
    reason = "this file is part of tests; the lint knows that of functions marked as such alone"
)]
#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// What a run came to.
#[derive(Debug)]
pub struct Ran {
    /// Exit code.
    pub code: i32,
    /// Data.
    pub out: String,
    /// Talk.
    pub err: String,
}

/// A command of the binary that knows nothing of the machine it runs on.
pub fn command(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_spotalis"));
    command.args(words).env_clear().env("HOME", "/nonexistent").stdin(Stdio::null());
    command
}

/// Runs it to its end.
pub fn run_with(words: &[&str], variables: &[(&str, &str)]) -> Ran {
    ended(command(words).envs(variables.iter().copied()))
}

/// Runs a command to its end.
pub fn ended(command: &mut Command) -> Ran {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

/// Runs it in an empty environment.
pub fn run(words: &[&str]) -> Ran {
    run_with(words, &[])
}

/// Runs it in an empty environment, with a file as its standard input.
pub fn run_on(input: &Path, words: &[&str]) -> Ran {
    ended(command(words).stdin(std::fs::File::open(input).unwrap()))
}

/// A file of one test, named after it.
pub fn file(name: &str, text: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, text).unwrap();
    path
}

/// A kubeconfig that leads to `server`.
pub fn kubeconfig(name: &str, server: &str) -> PathBuf {
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "here",
        "clusters": [{ "name": "here", "cluster": { "server": server } }],
        "users": [{ "name": "me", "user": { "token": "secret" } }],
        "contexts": [{ "name": "here", "context": { "cluster": "here", "user": "me", "namespace": "shop" } }],
    });
    file(&format!("{name}.kubeconfig"), &config.to_string())
}

/// Path without query, and what is answered to a GET of it.
pub type Answers = BTreeMap<String, (u16, Value)>;

/// An API server.
pub struct ApiServer {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl ApiServer {
    /// Answers `answers`, and 404 to everything else, until it is dropped.
    pub fn start(answers: Answers) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (stop, stopped) = oneshot::channel();
        let seen = asked.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).unwrap();
                tokio::select! {
                    biased;
                    _ = stopped => {}
                    () = accept(listener, Arc::new(answers), seen) => {}
                }
            });
        });
        Self { address, asked, stop: Some(stop), thread: Some(thread) }
    }

    /// A kubeconfig for it.
    pub fn kubeconfig(&self, name: &str) -> String {
        kubeconfig(name, &format!("http://{}", self.address)).to_str().unwrap().to_owned()
    }

    /// Method and path of every request so far.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        let _ = self.stop.take().unwrap().send(());
        let _ = self.thread.take().unwrap().join();
    }
}

async fn accept(listener: TcpListener, answers: Arc<Answers>, asked: Arc<Mutex<Vec<String>>>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (answers, asked) = (answers.clone(), asked.clone());
        tokio::spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let answer = answer(&request, &answers, &asked);
                async move { Ok::<_, Infallible>(answer) }
            });
            // A client that goes away ends its connection, which is no failure.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

fn answer(request: &Request<Incoming>, answers: &Answers, asked: &Mutex<Vec<String>>) -> Response<Full<Bytes>> {
    let path = request.uri().path().to_owned();
    asked.lock().unwrap().push(format!("{} {path}", request.method()));
    let (code, body) = answers.get(&path).cloned().unwrap_or_else(|| status(404, "NotFound"));
    Response::builder()
        .status(code)
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body.to_string())))
        .unwrap()
}

/// A refusal as the API server writes it.
pub fn status(code: u16, reason: &str) -> (u16, Value) {
    let status = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                         "message": reason, "reason": reason, "code": code });
    (code, status)
}

/// A list as the API server writes it.
pub fn list(kind: &str, items: &[Value]) -> (u16, Value) {
    (
        200,
        json!({ "kind": format!("{kind}List"), "apiVersion": "v1", "metadata": { "resourceVersion": "1" }, "items": items }),
    )
}

/// The collections of the namespaced kinds, and where they are.
const NAMESPACED: [(&str, &str); 5] = [
    ("/api/v1", "pods"),
    ("/apis/apps/v1", "deployments"),
    ("/apis/apps/v1", "statefulsets"),
    ("/apis/apps/v1", "replicasets"),
    ("/apis/policy/v1", "poddisruptionbudgets"),
];

/// A cluster with the Deployment `web` in the namespace `shop`: `on_demand` pods on the on-demand node, none steered.
/// The namespace is opted in; the Deployment is if `opted_in`.
pub fn shop(on_demand: u32, opted_in: bool, annotations: &Value) -> Answers {
    let labels = if opted_in { json!({ "spotalis.io/enabled": "true" }) } else { json!({}) };
    let namespace =
        json!({ "metadata": { "name": "shop", "uid": "shop", "labels": { "spotalis.io/enabled": "true" } } });
    let node = |name: &str, class: &str| {
        json!({ "metadata": { "name": name, "uid": name, "labels": { "karpenter.sh/capacity-type": class } },
                "status": { "allocatable": { "cpu": "4", "memory": "8Gi", "pods": "110" },
                            "conditions": [{ "type": "Ready", "status": "True" }] } })
    };
    let web = json!({
        "metadata": { "name": "web", "namespace": "shop", "uid": "web", "generation": 1, "labels": labels,
                      "annotations": annotations },
        "spec": { "replicas": on_demand, "template": {} },
        "status": { "observedGeneration": 1, "replicas": on_demand, "updatedReplicas": on_demand },
    });
    let revision = json!({
        "metadata": { "name": "web-1", "namespace": "shop", "uid": "web-1",
                      "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "web",
                                            "controller": true }] },
        "spec": { "replicas": on_demand },
    });
    let pod = |number: u32| {
        json!({
            "metadata": { "name": format!("web-1-{number}"), "namespace": "shop", "uid": format!("pod-{number}"),
                          "creationTimestamp": "2026-03-01T10:00:00Z",
                          "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-1",
                                                "uid": "web-1", "controller": true }] },
            "spec": { "nodeName": "node-o", "containers": [] },
            "status": { "phase": "Running", "conditions": [
                { "type": "Ready", "status": "True", "lastTransitionTime": "2026-03-01T10:00:20Z" }] },
        })
    };
    let pods: Vec<Value> = (1..=on_demand).map(pod).collect();
    let mut answers = Answers::from([
        ("/version".to_owned(), (200, json!({ "major": "1", "minor": "36" }))),
        ("/api/v1/namespaces".to_owned(), list("Namespace", std::slice::from_ref(&namespace))),
        ("/api/v1/namespaces/shop".to_owned(), (200, namespace)),
        ("/api/v1/nodes".to_owned(), list("Node", &[node("node-s", "spot"), node("node-o", "on-demand")])),
        ("/apis/apps/v1/namespaces/shop/deployments/web".to_owned(), (200, web.clone())),
    ]);
    for place in ["/api/v1/events", "/api/v1/namespaces/shop/events"] {
        answers.insert(place.to_owned(), list("Event", &[]));
    }
    for (api, plural) in NAMESPACED {
        let objects = match plural {
            "pods" => list("Pod", &pods),
            "deployments" => list("Deployment", std::slice::from_ref(&web)),
            "replicasets" => list("ReplicaSet", std::slice::from_ref(&revision)),
            _ => list("Any", &[]),
        };
        answers.insert(format!("{api}/{plural}"), objects.clone());
        answers.insert(format!("{api}/namespaces/shop/{plural}"), objects);
    }
    answers
}
