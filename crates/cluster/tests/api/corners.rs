//! Answers of a real API server that nobody would guess, found by asking both the same: what comes first when several things
//! are wrong, and what is said beside the refusal.

use embedded_cluster::{Options, Ownership};
use http::{Request, header};
use serde_json::{Value, json};

use crate::world::{APPLY, JSON, MAPS, MERGE, PODS, STRATEGIC, World, map, on_node, pod, why};

const BUDGETS: &str = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

fn always() -> World {
    World::with(Options { ownership: Ownership::Always, ..Options::default() })
}

#[tokio::test(start_paused = true)]
async fn what_is_not_there_is_told_before_what_is_wrong_with_its_patch() {
    let world = World::new();
    let none = format!("{MAPS}/none");
    for (media, code) in [(JSON, 404), (MERGE, 404), (STRATEGIC, 404), (APPLY, 400)] {
        let path = if media == APPLY { format!("{none}?fieldManager=x") } else { none.clone() };
        assert_eq!(world.ask("PATCH", &path, media, &json!("no patch")).await.0, code, "{media}");
    }
    let (_, _, message) = {
        world.made(MAPS, &map("a")).await;
        why(&world.patch(&format!("{MAPS}/a"), JSON, &json!(true)).await)
    };
    assert_eq!(
        message,
        "error decoding patch: json: cannot unmarshal bool into Go value of type []handlers.jsonPatchOp"
    );
}

#[tokio::test(start_paused = true)]
async fn a_trial_names_another_path_in_the_store() {
    let world = World::new();
    world.made(PODS, &pod("p")).await;
    let binding = json!({"metadata": {"name": "p", "uid": "x"}, "target": {"kind": "Node", "name": "n"}});
    for (query, key) in [("", "Key: /registry/pods/default/p,"), ("?dryRun=All", "Key: /pods/default/p,")] {
        let (_, _, message) = why(&world.post(&format!("{PODS}/p/binding{query}"), &binding).await);
        assert!(message.contains(key), "{message}");
    }
}

#[tokio::test(start_paused = true)]
async fn unknown_fields_are_warned_of_although_the_request_is_refused() {
    let world = World::new();
    world.made(MAPS, &map("a")).await;
    let body = json!({"metadata": {"name": "a"}, "unheardOf": 1}).to_string().into_bytes();
    let response = world.client.send(Request::post(MAPS).body(body.into()).unwrap()).await.unwrap();
    assert_eq!(response.status(), 409);
    assert_eq!(response.headers()[header::WARNING], "299 - \"unknown field \\\"unheardOf\\\"\"");
}

#[tokio::test(start_paused = true)]
async fn managers_are_printable() {
    let world = World::new();
    let (code, _, message) = why(&world.post(&format!("{MAPS}?fieldManager=a%07"), &map("a")).await);
    assert_eq!(code, 422);
    assert!(
        message.ends_with(r#"fieldManager: Invalid value: "a\a": invalid character U+0007 (at position 1)"#),
        "{message}"
    );
}

#[tokio::test(start_paused = true)]
async fn bodies_are_quoted_as_text_if_they_look_like_an_object() {
    let world = World::new();
    for (body, end) in [
        ("{'a':1}", r"invalid character '\'' looking for beginning of object key string ({'a':1})"),
        ("}", "invalid character '}' looking for beginning of value (7d)"),
        (r#"{"a":1 "b":2}"#, r#"invalid character '"' after object key:value pair ({"a":1 "b":2})"#),
        (r#"{"kind":5}"#, r#"cannot unmarshal number into Go struct field .kind of type string ({"kind":5})"#),
    ] {
        let response =
            world.client.send(Request::post(MAPS).body(body.as_bytes().to_vec().into()).unwrap()).await.unwrap();
        let bytes = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
        let status: Value = serde_json::from_slice(&bytes).unwrap();
        assert!(status["message"].as_str().unwrap().ends_with(end), "{status}");
    }
    let (_, _, message) = why(&world.post(MAPS, &json!({"kind": "Status", "apiVersion": "v1"})).await);
    assert!(message.ends_with("converting (v1.Status) to (core.ConfigMap): unknown conversion"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn a_page_that_is_full_goes_on_while_anything_is_left() {
    let world = World::new();
    for name in ["a", "b", "c"] {
        let mut map = map(name);
        map["metadata"]["labels"] = json!({"l": name});
        world.made(MAPS, &map).await;
    }
    let (_, page) = world.get(&format!("{MAPS}?limit=1&labelSelector=l%3Db")).await;
    let token = page["metadata"]["continue"].as_str().unwrap();
    let (_, page) = world.get(&format!("{MAPS}?limit=1&labelSelector=l%3Db&continue={token}")).await;
    assert_eq!((&page["items"], &page["metadata"]["continue"]), (&json!([]), &Value::Null));
}

#[tokio::test(start_paused = true)]
async fn a_selector_that_is_none_selects_nothing() {
    let world = World::new();
    let spec = json!({
        "selector": {"matchLabels": {"a b": "c"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
    });
    let (code, status) = world.post(DEPLOYMENTS, &json!({"metadata": {"name": "d"}, "spec": spec})).await;
    let fields: Vec<&Value> =
        status["details"]["causes"].as_array().unwrap().iter().map(|cause| &cause["field"]).collect();
    assert_eq!((code, fields), (422, vec![&json!("spec.selector.matchLabels"), &json!("spec.selector")]));
}

#[tokio::test(start_paused = true)]
async fn what_admission_undoes_is_no_change() {
    let world = always();
    world.made(PODS, &pod("p")).await;
    let path = format!("{PODS}/p");
    let (_, before) = world.get(&path).await;
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    let (code, after) = world.patch(&path, STRATEGIC, &json!({"spec": {"tolerations": []}})).await;
    assert_eq!((code, &after), (200, &before));
    let labels = json!({"metadata": {"labels": {"$patch": "replace", "app": "b"}, "annotations": {"$patch": "replace", "c": "d"}}});
    let (_, after) = world.patch(&path, STRATEGIC, &labels).await;
    assert_eq!(after["metadata"]["labels"], json!({"app": "b"}));
    assert_eq!(after["metadata"]["annotations"], Value::Null, "nothing is there that could be replaced");
}

#[tokio::test(start_paused = true)]
async fn a_budget_is_taken_from_by_the_server_itself() {
    let world = always();
    world.made(PODS, &on_node("p")).await;
    let ready = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
    world.patch(&format!("{PODS}/p/status"), STRATEGIC, &ready).await;
    let spec = json!({"minAvailable": 0, "selector": {"matchLabels": {"app": "a"}}});
    world.made(BUDGETS, &json!({"metadata": {"name": "b"}, "spec": spec})).await;
    let status = json!({"disruptionsAllowed": 2, "currentHealthy": 2, "expectedPods": 2, "observedGeneration": 1});
    world.patch(&format!("{BUDGETS}/b/status"), MERGE, &json!({"status": status})).await;
    let (code, _) = world.post(&format!("{PODS}/p/eviction"), &json!({"metadata": {"name": "p"}})).await;
    assert_eq!(code, 201);
    let (_, budget) = world.get(&format!("{BUDGETS}/b")).await;
    let entries = budget["metadata"]["managedFields"].as_array().unwrap();
    let server = entries.iter().find(|entry| entry["manager"] == "kube-apiserver").unwrap();
    let fields = json!({"f:status": {"f:disruptedPods": {".": {}, "f:p": {}}, "f:disruptionsAllowed": {}}});
    assert_eq!((&server["subresource"], &server["fieldsV1"]), (&json!("status"), &fields));
}

#[tokio::test(start_paused = true)]
async fn who_applies_what_is_so_already_is_not_dated() {
    let world = always();
    world.made(MAPS, &map("a")).await;
    let config = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "v"}});
    let (_, applied) = world.patch(&format!("{MAPS}/a?fieldManager=x"), APPLY, &config).await;
    let entries = applied["metadata"]["managedFields"].as_array().unwrap();
    assert_eq!((&entries[0]["manager"], entries[0].get("time")), (&json!("x"), None));
    let other = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"l": "w"}});
    let (_, applied) = world.patch(&format!("{MAPS}/a?fieldManager=y"), APPLY, &other).await;
    let entries = applied["metadata"]["managedFields"].as_array().unwrap();
    assert!(entries.iter().any(|entry| entry["manager"] == "y" && entry.get("time").is_some()), "{applied}");
}

#[tokio::test(start_paused = true)]
async fn amounts_are_counted_in_thousandths() {
    let world = World::new();
    let mut pod = pod("p");
    pod["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "100u"}, "limits": {"cpu": "1.0005"}});
    let made = world.made(PODS, &pod).await;
    let resources = json!({"requests": {"cpu": "1m"}, "limits": {"cpu": "1001m"}});
    assert_eq!(made["spec"]["containers"][0]["resources"], resources);
}

#[tokio::test(start_paused = true)]
async fn a_slash_in_a_path_is_one_however_it_is_written() {
    let world = World::new();
    world.made(PODS, &pod("p")).await;
    assert_eq!(world.get(&format!("{PODS}/p%2Fstatus")).await.0, 200);
    assert_eq!(
        world.get(&format!("{PODS}/a%2Fb")).await.1["message"],
        "the server could not find the requested resource"
    );
    assert_eq!(world.get("/api/v1//pods").await.0, 404);
}

#[tokio::test(start_paused = true)]
async fn whoever_scales_parts_the_number_from_the_rest() {
    let world = always();
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let spec = json!({"replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "template": template});
    world.made(DEPLOYMENTS, &json!({"metadata": {"name": "d"}, "spec": spec})).await;
    world.patch(&format!("{DEPLOYMENTS}/d/scale"), MERGE, &json!({"spec": {"replicas": 1}})).await;
    let (_, object) = world.get(&format!("{DEPLOYMENTS}/d")).await;
    let entries = object["metadata"]["managedFields"].as_array().unwrap();
    let number = json!({"f:spec": {"f:replicas": {}}});
    assert_eq!(entries.len(), 2, "{object}");
    assert!(entries.iter().any(|entry| entry["fieldsV1"] == number && entry.get("time").is_none()), "{object}");
}

#[tokio::test(start_paused = true)]
async fn a_strategic_patch_is_of_the_kind_it_is_laid_over() {
    let world = World::new();
    world.made(MAPS, &map("a")).await;
    let path = format!("{MAPS}/a");
    let patch = json!({"kind": "Unheard", "apiVersion": "v9", "data": {"k": "w"}});
    for (media, code) in [(STRATEGIC, 200), (MERGE, 422)] {
        assert_eq!(world.patch(&path, media, &patch).await.0, code, "{media}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_pod_says_by_its_own_labels_is_part_of_its_selectors() {
    let world = World::new();
    let term = |selector: Value| {
        json!({
            "topologyKey": "zone", "labelSelector": selector, "matchLabelKeys": ["app", "none"], "mismatchLabelKeys": ["tier"],
        })
    };
    let mut asked = pod("a");
    asked["metadata"]["labels"] = json!({"app": "x", "tier": "y"});
    asked["spec"]["affinity"] = json!({
        "podAntiAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": [term(json!({"matchLabels": {"l": "m"}}))],
            "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "podAffinityTerm": term(json!({}))}],
        },
        "podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
            {"topologyKey": "zone", "labelSelector": {"matchLabels": {"l": "m"}}},
        ]},
    });
    asked["spec"]["topologySpreadConstraints"] = json!([{
        "topologyKey": "zone", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"l": "m"}},
        "matchLabelKeys": ["app"],
    }]);
    let made = world.made(PODS, &asked).await;
    let own = json!({"key": "app", "operator": "In", "values": ["x"]});
    let others = json!({"key": "tier", "operator": "NotIn", "values": ["y"]});
    let affinity = &made["spec"]["affinity"];
    let required = "requiredDuringSchedulingIgnoredDuringExecution";
    assert_eq!(
        affinity["podAntiAffinity"][required][0]["labelSelector"],
        json!({"matchLabels": {"l": "m"}, "matchExpressions": [own, others]})
    );
    assert_eq!(
        affinity["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"][0]["podAffinityTerm"]["labelSelector"],
        json!({"matchExpressions": [own, others]})
    );
    assert_eq!(affinity["podAffinity"][required][0]["labelSelector"], json!({"matchLabels": {"l": "m"}}));
    let spread = &made["spec"]["topologySpreadConstraints"][0]["labelSelector"];
    assert_eq!(*spread, json!({"matchLabels": {"l": "m"}, "matchExpressions": [own]}));
}
