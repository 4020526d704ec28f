//! Mutating webhooks, called in process.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::world::{MAPS, MERGE, PODS, World, map, pod, why};

const HOOKS: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";

fn hook(name: &str, url: &str) -> Value {
    json!({
        "name": name, "sideEffects": "None", "admissionReviewVersions": ["v1"], "clientConfig": {"url": url},
        "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]}],
    })
}

fn answer(review: &Bytes, response: &Value) -> Bytes {
    let review: Value = serde_json::from_slice(review).unwrap();
    let mut response = response.clone();
    if response.get("uid").is_none() {
        response["uid"] = review["request"]["uid"].clone();
    }
    json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": response}).to_string().into()
}

fn patch(operations: &Value) -> Value {
    json!({"allowed": true, "patchType": "JSONPatch", "patch": STANDARD.encode(operations.to_string())})
}

/// Registers a handler that answers the same to all, and what it was asked.
fn always(world: &World, url: &str, response: Value) -> Arc<Mutex<Vec<Value>>> {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = asked.clone();
    world.cluster.route(url, move |review| {
        let asked: Value = serde_json::from_slice(&review).unwrap();
        seen.lock().push(asked["request"].clone());
        let answer = answer(&review, &response);
        async move { Ok(answer) }
    });
    asked
}

async fn configure(world: &World, name: &str, hooks: &[Value]) {
    world.made(HOOKS, &json!({"metadata": {"name": name}, "webhooks": hooks})).await;
}

#[tokio::test(start_paused = true)]
async fn a_webhook_sees_what_a_real_one_sees_and_changes_the_pod() {
    let world = World::new();
    let operations = json!([{"op": "add", "path": "/metadata/annotations", "value": {"seen": "yes"}}]);
    let asked = always(&world, "https://a/mutate", patch(&operations));
    configure(&world, "m", &[hook("a.b.c", "https://a/mutate")]).await;
    let mut generated = pod("");
    generated["metadata"] = json!({"generateName": "p-"});
    let made = world.made(PODS, &generated).await;
    assert_eq!(made["metadata"]["annotations"]["seen"], "yes");
    world.made(MAPS, &map("a")).await;
    let asked = asked.lock();
    let [request] = asked.as_slice() else { panic!("{asked:?}") };
    assert_eq!(
        (request.get("name"), &request["namespace"], &request["operation"]),
        (None, &json!("default"), &json!("CREATE"))
    );
    assert_eq!(request["kind"], json!({"group": "", "version": "v1", "kind": "Pod"}));
    assert_eq!(request["resource"], json!({"group": "", "version": "v1", "resource": "pods"}));
    assert_eq!((&request["oldObject"], &request["dryRun"]), (&Value::Null, &json!(false)));
    assert_eq!(request["options"], json!({"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"}));
    let object = &request["object"];
    assert_eq!((object["metadata"].get("name"), object["metadata"].get("uid")), (None, None));
    assert_eq!(object["spec"]["tolerations"].as_array().unwrap().len(), 2, "defaults are there already");
}

#[tokio::test(start_paused = true)]
async fn a_changed_object_is_shown_again_to_who_wants_to_see_it() {
    let world = World::new();
    let first = always(&world, "https://first/", json!({"allowed": true}));
    let never = always(&world, "https://never/", json!({"allowed": true}));
    let label = json!([{"op": "add", "path": "/metadata/labels/late", "value": "x"}]);
    always(&world, "https://last/", patch(&label));
    let mut wants = hook("first.b.c", "https://first/");
    wants["reinvocationPolicy"] = "IfNeeded".into();
    configure(&world, "b", &[hook("last.b.c", "https://last/")]).await;
    configure(&world, "a", &[wants, hook("never.b.c", "https://never/")]).await;
    world.made(PODS, &pod("p")).await;
    let first = first.lock();
    assert_eq!((first.len(), never.lock().len()), (2, 1));
    assert_ne!(first[0]["uid"], first[1]["uid"], "a new uid for every call");
    assert_eq!(
        (first[0]["object"]["metadata"]["labels"].get("late"), &first[1]["object"]["metadata"]["labels"]["late"]),
        (None, &json!("x"))
    );
}

#[tokio::test(start_paused = true)]
async fn failure_is_what_the_policy_makes_of_it() {
    let world = World::new();
    world.cluster.route("https://slow/", |review| async move {
        sleep(Duration::from_mins(1)).await;
        Ok(review)
    });
    world.cluster.route("https://broken/", |_| async move { Err("connection reset by peer".to_owned()) });
    always(&world, "https://other/", json!({"allowed": true, "uid": "x"}));
    always(&world, "https://bad/", patch(&json!([{"op": "remove", "path": "/nothing"}])));
    for (url, ignored) in [
        ("https://slow/", true),
        ("https://broken/", true),
        ("https://nobody/", true),
        ("https://other/", true),
        ("https://bad/", false),
    ] {
        for policy in ["Ignore", "Fail"] {
            let mut failing = hook("f.b.c", url);
            failing["failurePolicy"] = policy.into();
            failing["timeoutSeconds"] = 2.into();
            configure(&world, "f", &[failing]).await;
            let started = Instant::now();
            let (code, status) = world.post(&format!("{PODS}?dryRun=All"), &pod("p")).await;
            let expected = if ignored && policy == "Ignore" { 201 } else { 500 };
            assert_eq!(code, expected, "{url} {policy} {status}");
            assert_eq!(started.elapsed() == Duration::from_secs(2), url == "https://slow/");
            world.delete(&format!("{HOOKS}/f"), &Value::Null).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_webhook_can_refuse() {
    let world = World::new();
    let status = json!({"code": 403, "reason": "Forbidden", "message": "not today"});
    always(&world, "https://no/", json!({"allowed": false, "status": status}));
    configure(&world, "m", &[hook("no.b.c", "https://no/")]).await;
    let refused = world.post(PODS, &pod("p")).await;
    let message = "admission webhook \"no.b.c\" denied the request: not today";
    assert_eq!(why(&refused), (403, "Forbidden".to_owned(), message.to_owned()));
}

#[tokio::test(start_paused = true)]
async fn rules_and_selectors_decide_who_is_asked() {
    let world = World::new();
    world.made("/api/v1/namespaces", &json!({"metadata": {"name": "x", "labels": {"team": "x"}}})).await;
    for (change, where_, asked) in [
        (json!({}), "default", 1),
        (json!({"namespaceSelector": {"matchLabels": {"team": "x"}}}), "default", 0),
        (json!({"namespaceSelector": {"matchLabels": {"team": "x"}}}), "x", 1),
        (json!({"objectSelector": {"matchLabels": {"app": "b"}}}), "default", 0),
        (json!({"objectSelector": {"matchLabels": {"app": "a"}}}), "default", 1),
        (
            json!({"rules": [{"apiGroups": ["apps"], "apiVersions": ["*"], "resources": ["*"], "operations": ["*"]}]}),
            "default",
            0,
        ),
        (
            json!({"rules": [{"apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"], "operations": ["*"]}]}),
            "default",
            1,
        ),
        (
            json!({"rules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["UPDATE"]}]}),
            "default",
            0,
        ),
        (json!({"matchConditions": [{"name": "has", "expression": "has(object.metadata.labels)"}]}), "default", 1),
        (json!({"matchConditions": [{"name": "not", "expression": "false"}]}), "default", 0),
    ] {
        world
            .cluster
            .understand("has(object.metadata.labels)", |request| request["object"]["metadata"]["labels"].is_object());
        world.cluster.understand("false", |_| false);
        let seen = always(&world, "https://a/", json!({"allowed": true}));
        let mut configured = hook("a.b.c", "https://a/");
        for (field, value) in change.as_object().unwrap() {
            configured[field] = value.clone();
        }
        configure(&world, "m", &[configured]).await;
        let path = format!("/api/v1/namespaces/{where_}/pods?dryRun=All");
        assert_eq!(world.post(&path, &pod("p")).await.0, 201);
        assert_eq!(seen.lock().len(), asked, "{change} {where_}");
        world.delete(&format!("{HOOKS}/m"), &Value::Null).await;
    }
}

#[tokio::test(start_paused = true)]
async fn updates_are_shown_with_what_was_there() {
    let world = World::new();
    let asked = always(&world, "https://a/", json!({"allowed": true}));
    let mut updates = hook("a.b.c", "https://a/");
    updates["rules"][0]["operations"] = json!(["UPDATE"]);
    configure(&world, "m", &[updates]).await;
    world.made(PODS, &pod("p")).await;
    world.patch(&format!("{PODS}/p"), MERGE, &json!({"metadata": {"labels": {"new": "x"}}})).await;
    let asked = asked.lock();
    assert_eq!((asked.len(), &asked[0]["name"], &asked[0]["operation"]), (1, &json!("p"), &json!("UPDATE")));
    assert_eq!(asked[0]["oldObject"]["metadata"]["labels"], json!({"app": "a"}));
    assert_eq!(asked[0]["object"]["metadata"]["labels"], json!({"app": "a", "new": "x"}));
}

#[tokio::test(start_paused = true)]
async fn an_expression_that_nobody_taught_is_refused() {
    let world = World::new();
    let mut configured = hook("a.b.c", "https://a/");
    configured["matchConditions"] = json!([{"name": "x", "expression": "1 + 1 == 2"}]);
    let refused = world.post(HOOKS, &json!({"metadata": {"name": "m"}, "webhooks": [configured]})).await;
    assert_eq!(
        (refused.0, &refused.1["details"]["causes"][0]["field"]),
        (422, &json!("webhooks[0].matchConditions[0].expression"))
    );
    assert!(why(&refused).2.contains("1 + 1 == 2"));
}

#[tokio::test(start_paused = true)]
async fn a_deletion_is_asked_about_and_not_changed() {
    let world = World::new();
    let asked = always(&world, "https://a/", json!({"allowed": false, "status": {"message": "it stays"}}));
    let mut deletions = hook("a.b.c", "https://a/");
    deletions["rules"][0]["operations"] = json!(["DELETE"]);
    configure(&world, "m", &[deletions]).await;
    world.made(PODS, &pod("p")).await;
    let refused = world.delete(&format!("{PODS}/p"), &Value::Null).await;
    assert_eq!(why(&refused).2, "admission webhook \"a.b.c\" denied the request: it stays");
    let request = asked.lock()[0].clone();
    assert_eq!((&request["object"], &request["oldObject"]["metadata"]["name"]), (&Value::Null, &json!("p")));
    assert_eq!(world.get(&format!("{PODS}/p")).await.0, 200);
}
