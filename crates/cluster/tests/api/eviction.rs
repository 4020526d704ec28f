//! Every line of the table of evictions.

use serde_json::{Value, json};

use crate::world::{MERGE, PODS, STRATEGIC, World, on_node, pod, why};

const BUDGETS: &str = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";

async fn running(world: &World, name: &str, ready: bool) -> Value {
    world.made(PODS, &on_node(name)).await;
    let ready = if ready { "True" } else { "False" };
    let status = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]}});
    world.patch(&format!("{PODS}/{name}/status"), STRATEGIC, &status).await.1
}

async fn budget(world: &World, name: &str, status: &Value) {
    let new =
        json!({"metadata": {"name": name}, "spec": {"minAvailable": 3, "selector": {"matchLabels": {"app": "a"}}}});
    world.made(BUDGETS, &new).await;
    let (code, _) = world.patch(&format!("{BUDGETS}/{name}/status"), MERGE, &json!({"status": status})).await;
    assert_eq!(code, 200);
}

async fn evict(world: &World, name: &str, options: &Value) -> (u16, Value) {
    let eviction =
        json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}, "deleteOptions": options});
    world.post(&format!("{PODS}/{name}/eviction"), &eviction).await
}

fn allows(disruptions: i64, healthy: i64) -> Value {
    json!({"observedGeneration": 1, "disruptionsAllowed": disruptions, "currentHealthy": healthy, "desiredHealthy": 3, "expectedPods": 5})
}

#[tokio::test(start_paused = true)]
async fn without_a_budget_only_preconditions_count() {
    let world = World::new();
    running(&world, "p", true).await;
    for precondition in [json!({"uid": "x"}), json!({"resourceVersion": "1"})] {
        let (code, status) = evict(&world, "p", &json!({"preconditions": precondition})).await;
        assert_eq!((code, &status["details"]), (409, &json!({"name": "p", "kind": "Pod"})));
    }
    let body = json!({"metadata": {"name": "q"}});
    assert_eq!(world.post(&format!("{PODS}/p/eviction"), &body).await.0, 400);
    assert_eq!(evict(&world, "none", &Value::Null).await.0, 404);
    let (code, done) = evict(&world, "p", &json!({"gracePeriodSeconds": 7})).await;
    assert_eq!((code, &done["status"]), (201, &json!("Success")));
    let (_, ending) = world.get(&format!("{PODS}/p")).await;
    assert_eq!(ending["metadata"]["deletionGracePeriodSeconds"], 7);
    let conditions = ending["status"]["conditions"].as_array().unwrap();
    assert_eq!(conditions.last().unwrap()["reason"], "EvictionByEvictionAPI");
}

#[tokio::test(start_paused = true)]
async fn a_budget_blocks_and_says_why() {
    let world = World::new();
    running(&world, "p", true).await;
    budget(&world, "b", &allows(0, 3)).await;
    for options in [Value::Null, json!({"preconditions": {"uid": "x"}}), json!({"dryRun": ["All"]})] {
        let (code, status) = evict(&world, "p", &options).await;
        let cause = json!({"reason": "DisruptionBudget",
                           "message": "The disruption budget b needs 3 healthy pods and has 3 currently"});
        assert_eq!(
            (code, &status["reason"], &status["details"]),
            (429, &json!("TooManyRequests"), &json!({"causes": [cause]}))
        );
    }
    world.delete(&format!("{PODS}/p"), &Value::Null).await;
    assert_eq!(evict(&world, "p", &Value::Null).await.0, 201, "it is going anyway");
}

/// The unpleasant one: a precondition that fails costs a disruption all the same.
#[tokio::test(start_paused = true)]
async fn a_failed_precondition_burns_the_budget() {
    let world = World::new();
    running(&world, "p", true).await;
    running(&world, "q", true).await;
    budget(&world, "b", &allows(1, 4)).await;
    assert_eq!(evict(&world, "p", &json!({"dryRun": ["All"], "preconditions": {"uid": "x"}})).await.0, 409);
    assert_eq!(
        world.get(&format!("{BUDGETS}/b")).await.1["status"]["disruptionsAllowed"],
        1,
        "a dry run takes nothing"
    );
    assert_eq!(evict(&world, "p", &json!({"preconditions": {"uid": "x"}})).await.0, 409);
    let (_, budget) = world.get(&format!("{BUDGETS}/b")).await;
    assert_eq!(
        (&budget["status"]["disruptionsAllowed"], &budget["status"]["disruptedPods"]["p"]),
        (&json!(0), &json!("2026-03-01T12:00:00Z"))
    );
    assert_eq!(evict(&world, "q", &Value::Null).await.0, 429);
    assert_eq!(world.get(&format!("{PODS}/p")).await.1["metadata"].get("deletionTimestamp"), None);
}

#[tokio::test(start_paused = true)]
async fn pods_that_are_not_ready_may_pass() {
    let world = World::new();
    let stale = running(&world, "p", false).await["metadata"]["resourceVersion"].clone();
    world.patch(&format!("{PODS}/p"), MERGE, &json!({"metadata": {"labels": {"x": "y"}}})).await;
    running(&world, "q", false).await;
    running(&world, "r", false).await;
    budget(&world, "b", &allows(0, 3)).await;
    assert_eq!(evict(&world, "p", &json!({"preconditions": {"uid": "x"}})).await.0, 429);
    let behind = evict(&world, "p", &json!({"preconditions": {"uid": "x"}})).await;
    assert_eq!(behind.1["details"]["retryAfterSeconds"], 10);
    let (code, _) = evict(&world, "p", &json!({"preconditions": {"resourceVersion": stale}})).await;
    assert_eq!(code, 201, "the caller's version is replaced");
    world.patch(&format!("{BUDGETS}/b/status"), MERGE, &json!({"status": {"currentHealthy": 2}})).await;
    assert_eq!(evict(&world, "q", &Value::Null).await.0, 429);
    world.patch(&format!("{BUDGETS}/b"), MERGE, &json!({"spec": {"unhealthyPodEvictionPolicy": "AlwaysAllow"}})).await;
    assert_eq!(evict(&world, "q", &Value::Null).await.0, 201);
}

#[tokio::test(start_paused = true)]
async fn a_budget_that_is_behind_asks_to_wait() {
    let world = World::new();
    running(&world, "p", true).await;
    budget(&world, "b", &json!({"observedGeneration": 0, "disruptionsAllowed": 1})).await;
    let refused = evict(&world, "p", &Value::Null).await;
    assert_eq!((why(&refused).0, &refused.1["details"]["retryAfterSeconds"]), (429, &json!(10)));
    assert_eq!(
        refused.1["details"]["causes"][0]["message"],
        "The disruption budget b is still being processed by the server."
    );
}

#[tokio::test(start_paused = true)]
async fn two_budgets_are_one_too_many_and_pending_pods_have_none() {
    let world = World::new();
    running(&world, "p", true).await;
    world.made(PODS, &pod("pending")).await;
    budget(&world, "b", &allows(0, 3)).await;
    budget(&world, "c", &allows(0, 3)).await;
    let (code, status) = evict(&world, "p", &Value::Null).await;
    assert_eq!((code, status.get("reason"), status.get("details")), (500, None, None));
    assert_eq!(evict(&world, "pending", &json!({"preconditions": {"resourceVersion": "1"}})).await.0, 409);
    assert_eq!(evict(&world, "pending", &Value::Null).await.0, 201);
    assert_eq!(world.get(&format!("{PODS}/pending")).await.0, 404);
}
