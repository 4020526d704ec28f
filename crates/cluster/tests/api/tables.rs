//! What `kubectl get` is answered.

use http::Request;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use crate::world::{MAPS, MERGE, PODS, World, map, pod};

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";
/// As kubectl asks.
const KUBECTL: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,\
                       application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";

/// The code and the lines of an answer.
async fn asked(world: &World, path: &str, accept: &str) -> (u16, Vec<Value>) {
    let request = Request::get(path).header("accept", accept).body(Vec::new().into()).unwrap();
    let response = world.client.send(request).await.unwrap();
    let code = response.status().as_u16();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (code, bytes.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect())
}

async fn table(world: &World, path: &str) -> Value {
    let (code, lines) = asked(world, path, KUBECTL).await;
    assert_eq!(code, 200, "{lines:?}");
    lines[0].clone()
}

#[tokio::test(start_paused = true)]
async fn lists_and_objects_are_tables_for_who_asks_so() {
    let world = World::new();
    for name in ["a", "b", "c"] {
        world.made(MAPS, &map(name)).await;
    }
    let list = table(&world, &format!("{MAPS}?limit=2")).await;
    assert_eq!((&list["kind"], &list["apiVersion"]), (&json!("Table"), &json!("meta.k8s.io/v1")));
    assert_eq!(
        list["columnDefinitions"][0],
        json!({"name": "Name", "type": "string", "format": "name", "description": "", "priority": 0})
    );
    let cells: Vec<&Value> = list["rows"].as_array().unwrap().iter().map(|row| &row["cells"]).collect();
    assert_eq!(cells, [&json!(["a", 1, "0s"]), &json!(["b", 1, "0s"])]);
    assert_eq!(list["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    assert_eq!(list["metadata"]["remainingItemCount"], 1);
    let rest = format!("{MAPS}?limit=2&continue={}", list["metadata"]["continue"].as_str().unwrap());
    assert_eq!(table(&world, &rest).await["rows"][0]["cells"][0], "c");
    let one = table(&world, &format!("{MAPS}/b?includeObject=Object")).await;
    assert_eq!(one["rows"][0]["object"]["data"], json!({"k": "v"}));
    assert_eq!(one["metadata"], json!({"resourceVersion": one["rows"][0]["object"]["metadata"]["resourceVersion"]}));
    let none = table(&world, &format!("{MAPS}?labelSelector=x%3Dy&includeObject=None")).await;
    assert_eq!((&none["rows"], none["columnDefinitions"].as_array().unwrap().len()), (&json!([]), 3));
}

#[tokio::test(start_paused = true)]
async fn a_table_is_what_is_named_first_among_what_is_there() {
    let world = World::new();
    world.made(MAPS, &map("a")).await;
    let partial = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
    for (accept, kind) in [
        (TABLE.to_owned(), "Table"),
        (format!("text/plain,{TABLE},application/json"), "Table"),
        (format!("application/json,{TABLE}"), "ConfigMapList"),
        (format!("{partial},{TABLE}"), "PartialObjectMetadataList"),
        ("application/json;as=Table;v=v9;g=meta.k8s.io,application/json".to_owned(), "ConfigMapList"),
        ("application/json;as=Table,application/json".to_owned(), "ConfigMapList"),
    ] {
        let (code, lines) = asked(&world, MAPS, &accept).await;
        assert_eq!((code, &lines[0]["kind"]), (200, &json!(kind)), "{accept}");
    }
    for accept in ["application/json;as=Chair;v=v1;g=meta.k8s.io", "application/yaml", "application/*"] {
        let (code, lines) = asked(&world, MAPS, accept).await;
        let says = "406: Not Acceptable\n\nAvailable representations: application/json";
        assert_eq!((code, &lines[0]["message"]), (406, &json!(says)), "{accept}");
    }
    let (code, lines) = asked(&world, &format!("{MAPS}?includeObject=Half"), TABLE).await;
    let says = "Unable to convert to Table as requested: includeObject: Invalid value: \"Half\": must be 'Metadata', \
                'Object', 'None', or empty";
    assert_eq!((code, &lines[0]["message"]), (400, &json!(says)));
    assert_eq!(asked(&world, &format!("{MAPS}/none"), KUBECTL).await.1[0]["kind"], "Status");
}

#[tokio::test(start_paused = true)]
async fn a_watch_names_the_columns_once() {
    let world = World::new();
    world.made(PODS, &pod("a")).await;
    world.patch(&format!("{PODS}/a"), MERGE, &json!({"metadata": {"labels": {"x": "y"}}})).await;
    world.made(PODS, &pod("b")).await;
    let query =
        "watch=1&timeoutSeconds=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=1";
    let (_, events) = asked(&world, &format!("{PODS}?{query}&includeObject=None"), KUBECTL).await;
    let told: Vec<(&Value, &Value, bool, bool)> = events
        .iter()
        .map(|event| {
            let table = &event["object"];
            let row = &table["rows"][0];
            (&event["type"], &row["cells"][0], table["columnDefinitions"].is_array(), row["object"].is_object())
        })
        .collect();
    let [added, mark] = ["ADDED", "BOOKMARK"].map(Value::from);
    let [a, b, nobody] = ["a", "b", ""].map(Value::from);
    assert_eq!(told, [(&added, &a, true, false), (&added, &b, false, false), (&mark, &nobody, false, true)]);
    let annotations = &events[2]["object"]["rows"][0]["object"]["metadata"]["annotations"];
    assert_eq!(annotations["k8s.io/initial-events-end"], "true");
}

#[tokio::test(start_paused = true)]
async fn a_scale_has_a_table_of_its_own() {
    let world = World::new();
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let deployment = json!({
        "metadata": {"name": "d"},
        "spec": {"replicas": 4, "selector": {"matchLabels": {"a": "b"}}, "template": template},
    });
    let path = "/apis/apps/v1/namespaces/default/deployments";
    world.made(path, &deployment).await;
    let scale = table(&world, &format!("{path}/d/scale")).await;
    let heads: Vec<&Value> =
        scale["columnDefinitions"].as_array().unwrap().iter().map(|column| &column["name"]).collect();
    assert_eq!(heads, ["Name", "Desired", "Available", "Age"]);
    assert_eq!(scale["rows"][0]["cells"], json!(["d", 4, 0, "0s"]));
}
