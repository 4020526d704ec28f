//! The kinds of patches, and what server-side apply makes of several managers.

use serde_json::{Value, json};

use crate::world::{APPLY, JSON, MAPS, MERGE, PODS, STRATEGIC, World, map, pod, why};

const NODE: &str = "/api/v1/nodes/n";

#[tokio::test(start_paused = true)]
async fn taints_are_one_list_for_all_patches() {
    let world = World::new();
    let taint = |key: &str| json!({"key": key, "effect": "NoSchedule"});
    for media in [MERGE, STRATEGIC] {
        world.delete(NODE, &Value::Null).await;
        world.made("/api/v1/nodes", &json!({"metadata": {"name": "n"}, "spec": {"taints": [taint("a")]}})).await;
        let (_, node) = world.patch(NODE, media, &json!({"spec": {"taints": [taint("b")]}})).await;
        assert_eq!(node["spec"]["taints"], json!([taint("b")]), "{media}");
    }
    world.patch(NODE, MERGE, &json!({"spec": {"taints": null}})).await;
    let append = json!([{"op": "add", "path": "/spec/taints/-", "value": taint("c")}]);
    assert_eq!(world.patch(NODE, JSON, &append).await.0, 422, "there is no list to append to");
    let (code, _) = world.patch(NODE, APPLY, &json!({})).await;
    assert_eq!(code, 422, "apply needs a manager");
}

#[tokio::test(start_paused = true)]
async fn containers_are_merged_by_name() {
    let world = World::new();
    world.made(PODS, &pod("p")).await;
    let p = format!("{PODS}/p");
    let (code, patched) =
        world.patch(&p, STRATEGIC, &json!({"spec": {"containers": [{"name": "c", "image": "j"}]}})).await;
    assert_eq!((code, &patched["spec"]["containers"][0]["image"]), (200, &json!("j")));
    assert_eq!(patched["spec"]["containers"][0]["imagePullPolicy"], "Always");
    assert_eq!(patched["metadata"]["generation"], 2);
    let (code, _) = world.patch(&p, MERGE, &json!({"spec": {"containers": [{"name": "c", "image": "k"}]}})).await;
    assert_eq!(code, 422, "a merge patch replaces the list, and mounts with it");
    let status = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
    world.patch(&format!("{p}/status"), STRATEGIC, &status).await;
    let status = json!({"status": {"conditions": [{"type": "Initialized", "status": "True"}]}});
    let (_, both) = world.patch(&format!("{p}/status"), STRATEGIC, &status).await;
    assert_eq!(both["status"]["conditions"].as_array().unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_patch_is_refused() {
    let world = World::new();
    world.made(MAPS, &map("a")).await;
    let a = format!("{MAPS}/a");
    for (media, patch, code) in [
        (JSON, json!([{"op": "test", "path": "/data/k", "value": "w"}]), 422),
        (JSON, json!([{"op": "test", "path": "/data/k", "value": "v"}]), 200),
        (JSON, json!({}), 400),
        (MERGE, json!([]), 400),
        (MERGE, json!({"data": 5}), 422),
        (MERGE, json!({"metadata": {"name": "b"}}), 400),
        (STRATEGIC, json!({"data": {"k": null}}), 200),
        ("application/json", json!({}), 415),
    ] {
        assert_eq!(world.patch(&a, media, &patch).await.0, code, "{media} {patch}");
    }
    assert_eq!(world.patch(&format!("{MAPS}/none"), MERGE, &json!({})).await.0, 404);
}

fn config(data: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data})
}

#[tokio::test(start_paused = true)]
async fn managers_own_what_they_apply() {
    let world = World::new();
    let by = |manager: &str| format!("{MAPS}/a?fieldManager={manager}");
    let (code, _) = world.patch(&by("x"), APPLY, &config(&json!({"k": "1", "l": "1"}))).await;
    assert_eq!(code, 201);
    let (code, _) = world.patch(&by("y"), APPLY, &config(&json!({"k": "1", "m": "1"}))).await;
    assert_eq!(code, 200, "the same value is no conflict");
    let refused = world.patch(&by("y"), APPLY, &config(&json!({"k": "2"}))).await;
    assert_eq!(
        why(&refused),
        (409, "Conflict".to_owned(), "Apply failed with 1 conflict: conflict with \"x\": .data.k".to_owned())
    );
    assert_eq!(refused.1["details"]["causes"][0]["field"], ".data.k");
    let (_, forced) = world.patch(&format!("{}&force=true", by("y")), APPLY, &config(&json!({"k": "2"}))).await;
    assert_eq!(forced["data"], json!({"k": "2", "l": "1"}), "m was y's and is no longer wanted");
    let (_, less) = world.patch(&by("x"), APPLY, &config(&json!({}))).await;
    assert_eq!(less["data"], json!({"k": "2"}), "l went with x");
    world.patch(&format!("{MAPS}/a"), MERGE, &json!({"data": {"k": "3"}})).await;
    let refused = world.patch(&by("y"), APPLY, &config(&json!({"k": "2"}))).await;
    assert_eq!(refused.0, 409, "whoever writes owns");
}

#[tokio::test(start_paused = true)]
async fn what_was_there_before_anybody_applied_is_somebody_s() {
    let world = World::new();
    let made = world.made(MAPS, &map("a")).await;
    assert_eq!(made["metadata"].get("managedFields"), None);
    let path = format!("{MAPS}/a?fieldManager=x");
    let refused = world.patch(&path, APPLY, &config(&json!({"k": "w"}))).await;
    let message = "Apply failed with 1 conflict: conflict with \"before-first-apply\" using v1: .data.k";
    assert_eq!(why(&refused).2, message);
    let labels = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"labels": {"l": "1"}}});
    let (code, applied) = world.patch(&path, APPLY, &labels).await;
    assert_eq!((code, &applied["metadata"]["labels"], &applied["data"]), (200, &json!({"l": "1"}), &json!({"k": "v"})));
    let (_, same) = world.patch(&path, APPLY, &labels).await;
    assert_eq!(same, applied, "applied twice, changed once");
    let none = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}});
    let (_, without) = world.patch(&path, APPLY, &none).await;
    assert_eq!(without["metadata"].get("labels"), None);
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_applied_and_replaced() {
    let world = World::new();
    let path = "/apis/coordination.k8s.io/v1/namespaces/default/leases/l";
    let lease = |holder: &str| {
        json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l"},
               "spec": {"holderIdentity": holder, "leaseDurationSeconds": 15, "renewTime": "2026-03-01T12:00:00.000000Z"}})
    };
    let (code, made) = world.put(path, &lease("a")).await;
    assert_eq!((code, world.put(path, &lease("b")).await.0), (201, 422), "an update names the version");
    let mut stale = lease("b");
    stale["metadata"]["resourceVersion"] = "1".into();
    assert_eq!(world.put(path, &stale).await.0, 409);
    stale["metadata"]["resourceVersion"] = made["metadata"]["resourceVersion"].clone();
    assert_eq!(world.put(path, &stale).await.0, 200);
    let (code, applied) = world.patch(&format!("{path}?fieldManager=m&force=true"), APPLY, &lease("c")).await;
    assert_eq!((code, &applied["spec"]["holderIdentity"]), (200, &json!("c")));
}
