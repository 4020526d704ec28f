//! The admission path, so many times: what `cargo xtask bench count` counts the instructions of.
//!
//! `admission_path PODS ADMISSIONS`: an index with one Deployment that has PODS pods, then ADMISSIONS reviews of further
//! ones, each from the bytes of the request to the bytes of the answer. No network, no TLS: those belong to libraries.
//! The reviews are written beforehand, always [`MOST`] of them, so that the difference between two runs is answers alone.

use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use spotalis_core::class::{CapacityClasses, Preset};
use spotalis_core::opt_in::{Mode, OptInRules};
use spotalis_core::policy::Defaults;
use spotalis_core::selector::Selector;
use spotalis_core::steering::OnConflict;
use spotalis_kube::index::{Currency, Index, Provisioner, Rules, Source, View, WorkloadKind};
use spotalis_runtime::Clock;
use spotalis_runtime::events::{EventMetrics, EventRecorder};
use spotalis_webhook::admission::{Admission, Outcome, Settings};
use spotalis_webhook::metrics::AdmissionMetrics;
use tokio::sync::{Notify, watch};

/// Reviews prepared.
const MOST: u32 = 200;

fn main() {
    let mut arguments =
        std::env::args().skip(1).map(|word| word.parse::<u32>().expect("PODS and ADMISSIONS are numbers"));
    let (pods, admissions) = (arguments.next().unwrap_or(10), arguments.next().unwrap_or(0));
    let index = Arc::new(Mutex::new(index_with(pods)));
    let clock = Clock::starting_at(now());
    let (events, _told) = EventRecorder::channel(clock, EventMetrics::default(), 1);
    let (_settings, settings) = watch::channel(Settings { read_only: false, deletion_cost: true });
    let metrics = AdmissionMetrics::register(&mut Registry::default(), index.clone());
    let admission = Admission::new(index, Arc::new(Notify::new()), settings, events, metrics, clock);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let bodies: Vec<Vec<u8>> = (0..MOST).map(review).collect();
    runtime.block_on(async {
        for body in bodies.iter().take(admissions as usize) {
            let reply = admission.answer(body).await;
            assert_eq!(reply.outcome, Outcome::Steered, "{}", String::from_utf8_lossy(&reply.body));
        }
    });
}

fn now() -> Timestamp {
    Timestamp::constant(1_700_000_000, 0)
}

fn index_with(pods: u32) -> Index {
    let mut index = Index::new(Rules {
        opt_in: OptInRules {
            mode: Mode::Both,
            namespace_selector: Selector { requirements: Vec::new() },
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
        "metadata": { "name": "web", "namespace": "shop", "uid": "d", "labels": enabled, "annotations": {
            "spotalis.io/spot-percentage": "70", "spotalis.io/min-on-demand": "1" } },
        "spec": { "replicas": 100_000 },
    });
    index.apply_workload(WorkloadKind::Deployment, read(deployment), 1);
    let replica_set = json!({
        "metadata": { "name": "web-5d9f", "namespace": "shop", "uid": "r", "ownerReferences": [
            { "apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "d", "controller": true }] },
        "spec": { "replicas": 100_000 },
    });
    index.apply_replica_set(&read(replica_set), 1);
    for n in 1..=pods {
        index.apply_pod(&read(pod(n, Some(n))), 1);
    }
    for view in View::REQUIRED {
        let source = Source { view, namespace: None };
        index.set_currency(&source, Currency::heard_at(now()));
    }
    index
}

fn read<T: serde::de::DeserializeOwned>(object: Value) -> T {
    serde_json::from_value(object).expect("the objects of the benchmark are readable")
}

/// A pod as the ReplicaSet controller creates it, or as it was stored with slot `slot`.
fn pod(n: u32, slot: Option<u32>) -> Value {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "generateName": "web-5d9f-", "namespace": "shop",
            "labels": { "app": "web", "tier": "frontend", "pod-template-hash": "5d9f" },
            "annotations": { "prometheus.io/scrape": "true", "checksum/config": "9f86d081884c7d659a2feaa0c55ad015" },
            "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-5d9f", "uid": "r",
                "controller": true, "blockOwnerDeletion": true }],
        },
        "spec": {
            "containers": [
                { "name": "web", "image": "registry.example/web:1.2.3", "ports": [{ "containerPort": 8080 }],
                  "env": [{ "name": "A", "value": "1" }, { "name": "B", "value": "2" }],
                  "resources": { "requests": { "cpu": "100m", "memory": "128Mi" }, "limits": { "memory": "256Mi" } },
                  "volumeMounts": [{ "name": "token", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly": true }],
                  "readinessProbe": { "httpGet": { "path": "/ready", "port": 8080 }, "periodSeconds": 5 } },
                { "name": "proxy", "image": "registry.example/proxy:4.5.6", "args": ["--listen", "0.0.0.0:9000"] },
            ],
            "volumes": [{ "name": "token", "projected": { "sources": [{ "serviceAccountToken": { "expirationSeconds": 3607, "path": "token" } }] } }],
            "tolerations": [
                { "key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300 },
                { "key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300 },
            ],
            "serviceAccountName": "default", "schedulerName": "default-scheduler", "restartPolicy": "Always",
            "terminationGracePeriodSeconds": 30, "dnsPolicy": "ClusterFirst", "securityContext": {},
        },
    });
    if let Some(slot) = slot {
        let metadata = &mut pod["metadata"];
        metadata["name"] = format!("web-5d9f-{n}").into();
        metadata["uid"] = format!("p{n}").into();
        metadata["labels"]["spotalis.io/capacity-type"] = if slot % 10 > 7 { "on-demand" } else { "spot" }.into();
        metadata["annotations"]["spotalis.io/slot"] = slot.to_string().into();
    }
    pod
}

fn review(n: u32) -> Vec<u8> {
    let review = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": format!("705ab4f5-6393-11e8-b7cc-{n:012x}"),
            "kind": { "group": "", "version": "v1", "kind": "Pod" },
            "resource": { "group": "", "version": "v1", "resource": "pods" },
            "requestKind": { "group": "", "version": "v1", "kind": "Pod" },
            "requestResource": { "group": "", "version": "v1", "resource": "pods" },
            "namespace": "shop", "operation": "CREATE",
            "userInfo": { "username": "system:serviceaccount:kube-system:replicaset-controller",
                "groups": ["system:serviceaccounts", "system:authenticated"] },
            "object": pod(n, None), "oldObject": null, "dryRun": false,
            "options": { "kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1" },
        },
    });
    review.to_string().into_bytes()
}
