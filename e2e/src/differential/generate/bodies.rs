//! What is no request at all, or of nothing that there is: bodies, media types, paths, methods, options.

use embedded_cluster::resource::Kind;
use serde_json::{Value, json};

use super::super::step::{APPLY, JSON, MERGE, OPERATIONS, PROTOBUF, STRATEGIC, Sent, YAML, collection};
use super::object::object;
use super::variation::{self, line};
use super::{Draft, path_of};

const LENGTH: usize = 80;

const PATHS: &[&str] = &[
    "/healthz",
    "/livez",
    "/readyz",
    "/api/v1/foo",
    "/foo",
    "/apis/foo/v1/x",
    "/apis/apps/v2",
    "/apis/apps/v2/deployments",
    "/api/v2",
    "/api/v1/namespaces/{ns}/pods/y/foo",
    "/apis/apps/v1/namespaces/{ns}/foo",
    "/apis/apps/v1/namespaces/{ns}",
    "/api/v1/namespaces/{ns}/nodes/n",
    "/api/v1/pods/p",
    "/api/v1/namespaces/{ns}/pods/y/eviction/z",
    "/api/v1/namespaces/nope",
    "/api/v1/namespaces/nope/pods",
    "/api/v1/namespaces/{ns}/pods/a%2Fb",
    "/apis/policy/v1beta1/x",
    "/api/v1//pods",
    "/api/v1/namespaces/{ns}/deployments",
    "/apis/autoscaling/v2/namespaces/{ns}/horizontalpodautoscalers/a/scale",
    "/apis/coordination.k8s.io/v1/namespaces/{ns}/leases/a/status",
    "/api/v1/namespaces/{ns}/configmaps/a/status",
    "/api/v1/namespaces/{ns}/pods/y/status",
    "/api/v1/namespaces/{ns}/pods/y/scale",
];

const METHODS: &[(&str, &str)] = &[
    ("PUT", "/api/v1/namespaces/{ns}/pods"),
    ("POST", "/api/v1/namespaces/{ns}/pods/x"),
    ("GET", "/api/v1/namespaces/{ns}/pods/x/eviction"),
    ("GET", "/api/v1/namespaces/{ns}/pods/x/binding"),
    ("POST", "/api/v1/pods"),
    ("PATCH", "/api/v1/pods"),
    ("DELETE", "/api/v1/pods"),
    ("DELETE", "/api/v1/namespaces"),
    ("PUT", "/apis/apps/v1/deployments"),
    ("POST", "/apis/apps/v1/namespaces/{ns}/deployments/x/scale"),
    ("DELETE", "/apis/apps/v1/namespaces/{ns}/deployments/x/scale"),
    ("PATCH", "/api/v1/namespaces/{ns}/pods/x/eviction"),
    ("POST", "/api/v1/namespaces/{ns}/finalize"),
    ("DELETE", "/api/v1/namespaces/{ns}/pods/x/status"),
];

const OPTIONS: &[&str] = &[
    "dryRun=x",
    "dryRun=All&dryRun=All",
    "dryRun=All",
    "dryRun=",
    "fieldValidation=x",
    "force=true",
    "pretty=false",
    "fieldManager=xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    "fieldManager=a%20b",
    "fieldManager=%07",
    "unheardOf=x",
    "fieldValidation=Strict",
];

const DELETIONS: &[&str] = &[
    "",
    "{",
    "[]",
    "null",
    "5",
    r#"{"kind":"Pod","apiVersion":"v1"}"#,
    r#"{"gracePeriodSeconds":"x"}"#,
    r#"{"dryRun":["x"]}"#,
    r#"{"dryRun":["All"]}"#,
    r#"{"propagationPolicy":"x"}"#,
    r#"{"propagationPolicy":"Orphan","orphanDependents":true}"#,
    r#"{"preconditions":{"uid":"x"}}"#,
    r#"{"preconditions":{"resourceVersion":"x"}}"#,
    r#"{"preconditions":{"resourceVersion":"1"}}"#,
    r#"{"apiVersion":"v1","kind":"DeleteOptions","dryRun":["All"]}"#,
    r#"{"unheardOf":1,"dryRun":["All"]}"#,
    r#"{"apiVersion":"v2","kind":"DeleteOptions","dryRun":["All"]}"#,
    r#"{"preconditions":5}"#,
    r#"{"orphanDependents":true,"dryRun":["All"]}"#,
    r#"{"kind":"DeleteOptions","dryRun":["All"]}"#,
];

const QUERIES: &[&str] = &[
    "gracePeriodSeconds=x",
    "propagationPolicy=x",
    "orphanDependents=true&propagationPolicy=Orphan",
    "dryRun=x",
    "dryRun=All",
    "gracePeriodSeconds=5&dryRun=All",
    "propagationPolicy=Foreground&dryRun=All",
];

const ACCEPTED: &[&str] = &[
    "application/foo",
    "*/*",
    "application/*",
    "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
    "application/foo,application/json",
    "text/plain",
    "application/json;q=0.5",
    "application/json;as=Table;g=meta.k8s.io;v=v1",
];

pub(super) fn draft(draft: &mut Draft) {
    let kind =
        *draft.chance.pick(&[Kind::ConfigMap, Kind::Pod, Kind::Deployment, Kind::Lease, Kind::PodDisruptionBudget]);
    let name = draft.name(kind);
    let mut valid = object(&mut draft.chance, kind, &name);
    valid["metadata"]["finalizers"].take();
    draft.create(kind, valid);
    let path = path_of(kind.resource(), &name);
    while draft.steps.len() < LENGTH {
        match draft.chance.below(12) {
            0 => {
                let page = *draft.chance.pick(PATHS);
                draft.request("unknown path", "GET", page, Sent::Nothing);
            }
            1 => {
                let (method, page) = *draft.chance.pick(METHODS);
                let body = if method == "GET" { Sent::Nothing } else { Sent::Json(json!({})) };
                draft.request("unknown method", method, page, body);
            }
            2 | 3 => malformed(draft, kind, &path),
            4 => medium(draft, kind, &path),
            5 => options(draft, kind, &path),
            6 => {
                let body = *draft.chance.pick(DELETIONS);
                let sent = if body.is_empty() { Sent::Nothing } else { Sent::Text(body.to_owned()) };
                draft.request("delete", "DELETE", path.clone(), sent);
            }
            7 => {
                let query = *draft.chance.pick(QUERIES);
                draft.request("delete", "DELETE", format!("{path}?{query}"), Sent::Nothing);
            }
            8 => {
                let accept = *draft.chance.pick(ACCEPTED);
                draft.get(path.clone());
                draft.last().accept = accept;
            }
            9 => subresources(draft),
            10 => {
                let valid = object(&mut draft.chance, kind, &name);
                draft.post("create", "/api/v1/namespaces/nope/configmaps", json!({"metadata": {"name": "a"}}));
                draft.create(kind, valid);
            }
            _ => foreign(draft, kind, &path),
        }
    }
}

fn malformed(draft: &mut Draft, kind: Kind, path: &str) {
    let body = Sent::Text(line(&mut draft.chance, variation::BODIES).to_owned());
    match draft.chance.below(6) {
        0 | 1 => {
            draft.request("malformed body", "POST", collection(kind.resource()), body);
        }
        2 => {
            draft.request("malformed body", "PUT", path, body);
        }
        3 => {
            draft.request("malformed body", "POST", collection(kind.resource()), Sent::Nothing);
        }
        _ => {
            let media = *draft.chance.pick(&[MERGE, STRATEGIC, OPERATIONS, APPLY]);
            let path = if media == APPLY { format!("{path}?fieldManager=x") } else { path.to_owned() };
            draft.request("malformed body", "PATCH", path, body);
            draft.last().content_type = media;
        }
    }
}

fn medium(draft: &mut Draft, kind: Kind, path: &str) {
    let media = *draft.chance.pick(&[
        "text/plain",
        "application/foo",
        "application/json; charset=utf-8",
        JSON,
        "",
        YAML,
        PROTOBUF,
    ]);
    if draft.chance.percent(50) {
        let valid = object(&mut draft.chance, kind, "medium");
        draft.post("malformed body", collection(kind.resource()) + "?dryRun=All", valid);
    } else {
        draft.patch("malformed body", path, media, json!({}));
    }
    draft.last().content_type = media;
}

fn options(draft: &mut Draft, kind: Kind, path: &str) {
    let query = *draft.chance.pick(OPTIONS);
    match draft.chance.below(3) {
        0 => {
            let valid = object(&mut draft.chance, kind, "options");
            draft.post("create", format!("{}?{query}", collection(kind.resource())), valid);
        }
        1 => {
            draft.merge(format!("{path}?{query}"), json!({"metadata": {"labels": {"o": "p"}}}));
        }
        _ => {
            let read = draft.get(path);
            draft.put("update", format!("{path}?{query}"), Sent::Edited { of: read, merge: json!({}) });
        }
    }
}

/// Bodies of another kind than the subresource's, and of objects that are not there.
fn subresources(draft: &mut Draft) {
    let pod = "/api/v1/namespaces/{ns}/pods/none";
    let deployment = "/apis/apps/v1/namespaces/{ns}/deployments/none";
    let bodies: [Value; 4] = [
        json!({}),
        json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "none"}}),
        json!({"metadata": {"name": "none"}, "spec": {"replicas": 1}, "target": {"kind": "Node", "name": "n"}}),
        json!({"metadata": {"name": "other"}}),
    ];
    let body = draft.chance.pick(&bodies).clone();
    match draft.chance.below(5) {
        0 => draft.post("evict", format!("{pod}/eviction"), body),
        1 => draft.post("bind", format!("{pod}/binding"), body),
        2 => draft.put("scale", format!("{deployment}/scale"), Sent::Json(body)),
        3 => draft.patch("scale", format!("{deployment}/scale"), MERGE, body),
        _ => draft.patch("status", format!("{pod}/status"), MERGE, body),
    };
}

/// An object of one kind, sent as another.
fn foreign(draft: &mut Draft, kind: Kind, path: &str) {
    let other = draft.kind();
    let row = other.resource();
    let mut sent = object(&mut draft.chance, other, "foreign");
    sent["apiVersion"] = row.api_version().into();
    sent["kind"] = row.name.into();
    match draft.chance.below(3) {
        0 => draft.post("malformed body", collection(kind.resource()) + "?dryRun=All", sent),
        1 => draft.put("malformed body", path.to_owned() + "?dryRun=All", Sent::Json(sent)),
        _ => draft.patch("malformed body", path.to_owned() + "?fieldManager=x&dryRun=All", APPLY, sent),
    };
}
