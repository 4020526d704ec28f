//! What Kubernetes does that the product leans on, without the product: if one of these changes, its test says so before a
//! user does. Facts that only show while the product works are pinned in the tests of that work.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use http::Method;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};
use spotalis_e2e::{Answer, Budget, Cluster, JSON, MERGE, Workload, ask, eventually, label, scenario};
use spotalis_rig::{NodeKind, Part, RigOptions, on_rig, say};

/// A UID that no object has.
const STRANGER: &str = "00000000-0000-0000-0000-000000000000";
/// What the API server says to wait while a budget's status is behind, in seconds.
const BUDGET_DELAY: u64 = 10;

#[tokio::test]
async fn what_the_product_leans_on_is_so() -> Result<()> {
    on_rig(RigOptions::default(), async |rig| {
        let since = tokio::time::Instant::now();
        let cluster = &Cluster::of(rig);
        rig.add_nodes(2, NodeKind::OnDemand).await?;
        tokio::try_join!(
            scenario("answers to evictions", answers_to_evictions(cluster)),
            scenario("pods that budgets do not keep", pods_that_budgets_do_not_keep(cluster)),
            scenario("preconditions", preconditions(cluster)),
            scenario("empty terms", empty_terms_match_nothing(cluster)),
            scenario("OnDelete", on_delete_updates_what_is_evicted(cluster)),
            scenario("annotations of a Deployment", annotations_are_copied(cluster)),
            scenario("deletion costs", deletion_costs(cluster)),
            scenario("Events", events(cluster)),
            scenario("a registration's address", an_address_has_no_query(cluster)),
            scenario("priority and fairness", an_overloaded_server_answers_in_plain_text(cluster)),
        )?;
        // Pauses a part that the others need.
        scenario("a budget that is behind", a_budget_whose_status_is_behind(cluster)).await?;
        say(format!("facts: passed after {:.1} s", since.elapsed().as_secs_f64()));
        anyhow::Ok(())
    })
    .await
}

fn uid(pod: &Pod) -> String {
    pod.uid().unwrap_or_default()
}

fn of(uid: &str) -> Value {
    json!({"preconditions": {"uid": uid}})
}

async fn budget(cluster: &Cluster<'_>, namespace: &str, name: &str) -> Result<PodDisruptionBudget> {
    Ok(Api::namespaced(cluster.client(), namespace).get(name).await?)
}

async fn until_allowed(cluster: &Cluster<'_>, namespace: &str, name: &str, disruptions: i32) -> Result<()> {
    eventually(format!("budget {namespace}/{name} to allow {disruptions}"), async || {
        let allowed = budget(cluster, namespace, name).await.ok()?.status?.disruptions_allowed;
        (allowed == disruptions).then_some(())
    })
    .await
}

fn is_blocked(answer: &Answer) -> bool {
    answer.code == 429 && answer.retry_after.is_none() && answer.causes() == ["DisruptionBudget"]
}

/// What is answered, and what a failed precondition costs.
async fn answers_to_evictions(cluster: &Cluster<'_>) -> Result<()> {
    let namespace = "answers";
    cluster.namespace(namespace, json!({})).await?;
    let workload = Workload::deployment(namespace, "web").replicas(3);
    cluster.create(&workload).await?;
    let pods = cluster.settled(&workload).await?;
    let (first, second) = (&pods[0], &pods[1]);
    let evict = async |pod: &Pod, options: Value| cluster.evict(namespace, &pod.name_any(), options).await;

    let answer = evict(first, of(STRANGER)).await?;
    ensure!((answer.code, answer.reason().as_str()) == (409, "Conflict"), "another UID: {answer:?}");
    let answer = cluster.evict(namespace, "nobody", json!({})).await?;
    ensure!((answer.code, answer.reason().as_str()) == (404, "NotFound"), "no such pod: {answer:?}");
    let body = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": second.name_any()}});
    let path = format!("/api/v1/namespaces/{namespace}/pods/{}/eviction", first.name_any());
    let answer = ask(&cluster.client(), Method::POST, &path, Some((JSON, &body))).await?;
    ensure!(answer.code == 400, "another name in the body: {answer:?}");

    cluster.create_budget(&Budget::min_available(&workload, "one", 2)).await?;
    until_allowed(cluster, namespace, "one", 1).await?;
    let trial = json!({"dryRun": ["All"], "preconditions": {"uid": uid(first)}});
    let answer = evict(first, trial).await?;
    ensure!(answer.code == 201, "a trial: {answer:?}");
    let status = budget(cluster, namespace, "one").await?.status.context("a status")?;
    ensure!(status.disruptions_allowed == 1, "a trial costs nothing: {status:?}");

    let answer = evict(first, of(STRANGER)).await?;
    ensure!(answer.code == 409, "another UID, under a budget: {answer:?}");
    let status = budget(cluster, namespace, "one").await?.status.context("a status")?;
    ensure!(status.disruptions_allowed == 0, "a failed precondition takes the budget: {status:?}");
    ensure!(status.disrupted_pods.is_some_and(|pods| pods.contains_key(&first.name_any())));
    let answer = evict(second, of(&uid(second))).await?;
    ensure!(is_blocked(&answer), "a budget taken: {answer:?}");
    // The budget is looked at before the UID.
    let answer = evict(second, of(STRANGER)).await?;
    ensure!(is_blocked(&answer), "another UID, and a budget taken: {answer:?}");
    let still: BTreeSet<String> = cluster.pods(&workload).await?.iter().map(uid).collect();
    ensure!(still == pods.iter().map(uid).collect(), "all three are still there");

    cluster.create_budget(&Budget::min_available(&workload, "two", 1)).await?;
    eventually("the answer to two budgets", async || {
        let answer = evict(second, of(&uid(second))).await.ok()?;
        (answer.code == 500 && answer.text.contains("more than one PodDisruptionBudget")).then_some(())
    })
    .await
}

/// Pending pods, pods on their way out, and unready ones while enough others are healthy, or always if the budget says so.
async fn pods_that_budgets_do_not_keep(cluster: &Cluster<'_>) -> Result<()> {
    let namespace = "not-kept";
    cluster.namespace(namespace, json!({})).await?;
    let pending = Workload::deployment(namespace, "pending").pod(json!({"nodeSelector": {"no": "where"}}));
    cluster.create(&pending).await?;
    cluster.create_budget(&Budget::min_available(&pending, "pending", 1)).await?;
    let pod = eventually("a Pending pod", async || cluster.pods(&pending).await.ok()?.pop()).await?;
    let answer = cluster.evict(namespace, &pod.name_any(), of(&uid(&pod))).await?;
    ensure!(answer.code == 201, "Pending, under a budget that allows nothing: {answer:?}");

    let leaving = Workload::deployment(namespace, "leaving");
    let leaving = leaving.pod(json!({"terminationGracePeriodSeconds": 600}));
    let leaving = leaving.pod_annotation(spotalis_rig::TERMINATED_AFTER, "1h");
    cluster.create(&leaving).await?;
    let pod = cluster.settled(&leaving).await?.pop().context("a pod")?;
    cluster.create_budget(&Budget::min_available(&leaving, "leaving", 2)).await?;
    let pods: Api<Pod> = Api::namespaced(cluster.client(), namespace);
    pods.delete(&pod.name_any(), &DeleteParams::default()).await?;
    let answer = cluster.evict(namespace, &pod.name_any(), of(&uid(&pod))).await?;
    ensure!(answer.code == 201, "on its way out, under a budget that allows nothing: {answer:?}");

    for (name, healthy, always, code) in
        [("enough", 2, false, 201), ("too-few", 3, false, 429), ("always", 3, true, 201)]
    {
        let workload = Workload::deployment(namespace, name).replicas(3);
        cluster.create(&workload).await?;
        let pod = cluster.settled(&workload).await?.pop().context("a pod")?;
        let condition = json!({"type": "Ready", "status": "False", "reason": "Test"});
        let unready = Patch::Strategic(json!({"status": {"conditions": [condition]}}));
        pods.patch_status(&pod.name_any(), &PatchParams::default(), &unready).await?;
        let policy = if always { "AlwaysAllow" } else { "IfHealthyBudget" };
        let spec = json!({"unhealthyPodEvictionPolicy": policy});
        cluster.create_budget(&Budget::min_available(&workload, name, healthy).spec(spec)).await?;
        eventually(format!("budget {name} to see two healthy pods"), async || {
            let status = budget(cluster, namespace, name).await.ok()?.status?;
            (status.current_healthy == 2 && status.disruptions_allowed == 0).then_some(())
        })
        .await?;
        let answer = cluster.evict(namespace, &pod.name_any(), of(&uid(&pod))).await?;
        ensure!(answer.code == code, "unready, {name}: {answer:?}");
    }
    Ok(())
}

/// Nobody may know yet what the budget allows: the server says how long to wait, and it is no word on the pod.
async fn a_budget_whose_status_is_behind(cluster: &Cluster<'_>) -> Result<()> {
    let namespace = "behind";
    cluster.namespace(namespace, json!({})).await?;
    let workload = Workload::deployment(namespace, "web").replicas(2);
    cluster.create(&workload).await?;
    let pod = cluster.settled(&workload).await?.pop().context("a pod")?;
    let budget = Budget::min_available(&workload, "late", 2);
    cluster.create_budget(&budget).await?;
    cluster.rig().pause(Part::ControllerManager)?;
    let changed = json!({"spec": {"minAvailable": 1}});
    let path = format!("/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets/late");
    ensure!(ask(&cluster.client(), Method::PATCH, &path, Some((MERGE, &changed))).await?.code == 200);
    let answer = cluster.evict(namespace, &pod.name_any(), of(&uid(&pod))).await;
    cluster.rig().resume(Part::ControllerManager)?;
    let answer = answer?;
    ensure!(answer.code == 429 && answer.retry_after == Some(BUDGET_DELAY), "{answer:?}");
    ensure!(answer.reason() == "TooManyRequests" && !is_blocked(&answer), "{answer:?}");
    until_allowed(cluster, namespace, "late", 1).await?;
    let answer = cluster.evict(namespace, &pod.name_any(), of(&uid(&pod))).await?;
    ensure!(answer.code == 201, "once it is not: {answer:?}");
    Ok(())
}

/// A wrong UID is 422 in a PATCH and 409 in a DELETE or a change of the scale; an old resourceVersion is 409.
async fn preconditions(cluster: &Cluster<'_>) -> Result<()> {
    let (namespace, client) = ("fences", cluster.client());
    cluster.namespace(namespace, json!({})).await?;
    let workload = Workload::deployment(namespace, "web");
    cluster.create(&workload).await?;
    let pod = cluster.settled(&workload).await?.pop().context("a pod")?.name_any();
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "map"}});
    let maps = format!("/api/v1/namespaces/{namespace}/configmaps");
    ensure!(ask(&client, Method::POST, &maps, Some((JSON, &map))).await?.code == 201);
    let deployment = format!("/apis/apps/v1/namespaces/{namespace}/deployments/web");
    let pod = format!("/api/v1/namespaces/{namespace}/pods/{pod}");
    let paths = [pod.clone(), "/api/v1/nodes/on-demand-0".to_owned(), format!("{maps}/map"), deployment.clone()];
    for path in paths {
        let wrong = json!({"metadata": {"uid": STRANGER, "labels": {"a": "b"}}});
        let answer = ask(&client, Method::PATCH, &path, Some((MERGE, &wrong))).await?;
        ensure!((answer.code, answer.reason().as_str()) == (422, "Invalid"), "{path}: {answer:?}");
        let old = json!({"metadata": {"resourceVersion": "1", "labels": {"a": "b"}}});
        let answer = ask(&client, Method::PATCH, &path, Some((MERGE, &old))).await?;
        ensure!((answer.code, answer.reason().as_str()) == (409, "Conflict"), "{path}: {answer:?}");
    }
    let answer = ask(&client, Method::DELETE, &pod, Some((JSON, &of(STRANGER)))).await?;
    ensure!((answer.code, answer.reason().as_str()) == (409, "Conflict"), "deleted by another UID: {answer:?}");
    for fence in [json!({"uid": STRANGER}), json!({"resourceVersion": "1"})] {
        let change = json!({"metadata": fence, "spec": {"replicas": 2}});
        let answer = ask(&client, Method::PATCH, &format!("{deployment}/scale"), Some((MERGE, &change))).await?;
        ensure!((answer.code, answer.reason().as_str()) == (409, "Conflict"), "scaled by {fence}: {answer:?}");
    }
    Ok(())
}

/// An empty term is accepted and matches no node; a list without terms is refused.
async fn empty_terms_match_nothing(cluster: &Cluster<'_>) -> Result<()> {
    let namespace = "terms";
    cluster.namespace(namespace, json!({})).await?;
    let pods = format!("/api/v1/namespaces/{namespace}/pods");
    let pod = |name: &str, terms: Value| {
        let affinity = json!({"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms},
        }});
        let containers = json!([{"name": "main", "image": "none"}]);
        json!({"metadata": {"name": name}, "spec": {"containers": containers, "affinity": affinity}})
    };
    let answer = ask(&cluster.client(), Method::POST, &pods, Some((JSON, &pod("none", json!([]))))).await?;
    ensure!(answer.code == 422, "no term: {answer:?}");
    let linux = json!({"matchExpressions": [{"key": "kubernetes.io/os", "operator": "In", "values": ["linux"]}]});
    for (name, terms) in [("empty", json!([{}])), ("beside", json!([{}, linux]))] {
        let answer = ask(&cluster.client(), Method::POST, &pods, Some((JSON, &pod(name, terms)))).await?;
        ensure!(answer.code == 201, "{name}: {answer:?}");
    }
    let api: Api<Pod> = Api::namespaced(cluster.client(), namespace);
    let scheduled = async |name: &str| {
        let conditions = api.get(name).await.ok()?.status?.conditions?;
        conditions.into_iter().find(|condition| condition.type_ == "PodScheduled").map(|condition| condition.status)
    };
    eventually("the pod with another term to be scheduled", async || {
        (scheduled("beside").await? == "True").then_some(())
    })
    .await?;
    eventually("the pod with an empty term to be refused by the scheduler", async || {
        (scheduled("empty").await? == "False").then_some(())
    })
    .await
}

/// Evicting an outdated pod of a StatefulSet with `OnDelete` updates it.
async fn on_delete_updates_what_is_evicted(cluster: &Cluster<'_>) -> Result<()> {
    let namespace = "updates";
    cluster.namespace(namespace, json!({})).await?;
    let workload = Workload::stateful_set(namespace, "db").replicas(2);
    let workload = workload.spec(json!({"updateStrategy": {"type": "OnDelete"}}));
    cluster.create(&workload).await?;
    cluster.settled(&workload).await?;
    cluster.restart(&workload).await?;
    let revisions = async || {
        let pods = cluster.settled(&workload).await?;
        let revision = |pod: &Pod| label(pod, "controller-revision-hash").map(str::to_owned).context("a revision");
        pods.iter().map(revision).collect::<Result<Vec<_>>>()
    };
    let before = revisions().await?;
    ensure!(before[0] == before[1], "nothing is updated by itself: {before:?}");
    ensure!(cluster.evict(namespace, "db-1", json!({})).await?.code == 201);
    eventually("the evicted pod to be another", async || {
        let after = revisions().await.ok()?;
        (after[0] == before[0] && after[1] != before[1]).then_some(())
    })
    .await
}

/// What is written on a Deployment is written on its ReplicaSets by its own controller: nothing of ours may live there.
async fn annotations_are_copied(cluster: &Cluster<'_>) -> Result<()> {
    let namespace = "copies";
    cluster.namespace(namespace, json!({})).await?;
    let workload = Workload::deployment(namespace, "web").annotation("spotalis.io/spot-percentage", "70");
    let workload = workload.label("spotalis.io/enabled", "true");
    cluster.create(&workload).await?;
    cluster.settled(&workload).await?;
    let sets: Api<ReplicaSet> = Api::namespaced(cluster.client(), namespace);
    let set = async || sets.list(&ListParams::default().labels(&workload.selector())).await.ok()?.items.pop();
    let percentage = |set: &ReplicaSet| set.annotations().get("spotalis.io/spot-percentage").cloned();
    let first = set().await.context("a ReplicaSet")?;
    ensure!(percentage(&first).as_deref() == Some("70"), "{:?}", first.annotations());
    ensure!(!first.labels().contains_key("spotalis.io/enabled"), "labels are not: {:?}", first.labels());
    cluster.annotate(&workload, json!({"spotalis.io/spot-percentage": "30"})).await?;
    eventually("the ReplicaSet to be rewritten", async || {
        let set = set().await?;
        (percentage(&set).as_deref() == Some("30") && set.resource_version() != first.resource_version()).then_some(())
    })
    .await
}

/// A cost that is no plain number rejects the whole pod, so ours has to be one.
async fn deletion_costs(cluster: &Cluster<'_>) -> Result<()> {
    let namespace = "costs";
    cluster.namespace(namespace, json!({})).await?;
    let pods = format!("/api/v1/namespaces/{namespace}/pods?dryRun=All");
    for (cost, code) in
        [("-1", 201), ("-0", 201), ("-2147483648", 201), ("+1", 422), ("01", 422), ("2147483648", 422), ("x", 422)]
    {
        let pod = json!({
            "metadata": {"name": "pod", "annotations": {"controller.kubernetes.io/pod-deletion-cost": cost}},
            "spec": {"containers": [{"name": "main", "image": "none"}]},
        });
        let answer = ask(&cluster.client(), Method::POST, &pods, Some((JSON, &pod))).await?;
        ensure!(answer.code == code, "{cost:?}: {answer:?}");
    }
    Ok(())
}

/// What an Event has to be, and what of it may change.
async fn events(cluster: &Cluster<'_>) -> Result<()> {
    let namespace = "events";
    cluster.namespace(namespace, json!({})).await?;
    let (client, events) = (cluster.client(), format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events"));
    let event = |name: &str, time: &str| {
        json!({
            "metadata": {"name": name}, "eventTime": time, "type": "Normal", "reason": "Test", "action": "Test",
            "note": "as it was", "reportingController": "example.com/test", "reportingInstance": "test",
            "regarding": {"apiVersion": "v1", "kind": "Pod", "namespace": namespace, "name": "pod"},
        })
    };
    let create = async |event: &Value| ask(&client, Method::POST, &events, Some((JSON, event))).await;
    let answer = create(&event("short", "2026-03-01T12:00:00.123Z")).await?;
    ensure!(answer.code == 400, "a time with three decimals: {answer:?}");
    let answer = create(&event("event", "2026-03-01T12:00:00.123456Z")).await?;
    ensure!(answer.code == 201, "{answer:?}");
    let mut long = event("long", "2026-03-01T12:00:00.123456Z");
    long["note"] = json!("x".repeat(1_025));
    let answer = create(&long).await?;
    ensure!(answer.code == 422, "a note of 1025 bytes: {answer:?}");

    let patch = async |name: &str, change: Value| {
        ask(&client, Method::PATCH, &format!("{events}/{name}"), Some((MERGE, &change))).await
    };
    let series = |count: u32| json!({"series": {"count": count, "lastObservedTime": "2026-03-01T12:00:01.000000Z"}});
    let answer = patch("event", series(1)).await?;
    ensure!(answer.code == 422, "a series of one: {answer:?}");
    let answer = patch("event", series(2)).await?;
    ensure!(answer.code == 200, "a series of two: {answer:?}");
    for change in [json!({"note": "another"}), json!({"reason": "Another"}), json!({"type": "Warning"})] {
        let answer = patch("event", change.clone()).await?;
        ensure!(answer.code == 422, "{change}: {answer:?}");
    }
    let answer = patch("gone", series(2)).await?;
    ensure!(answer.code == 404, "of an Event that is gone: {answer:?}");
    Ok(())
}

/// A webhook cannot be told anything in the query of its address.
async fn an_address_has_no_query(cluster: &Cluster<'_>) -> Result<()> {
    let registration = |url: &str| {
        json!({
            "metadata": {"name": "queried"},
            "webhooks": [{
                "name": "queried.example.com", "admissionReviewVersions": ["v1"], "sideEffects": "None",
                "clientConfig": {"url": url},
            }],
        })
    };
    let path = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations?dryRun=All";
    for (url, code) in [("https://localhost/mutate", 201), ("https://localhost/mutate?a=b", 422)] {
        let answer = ask(&cluster.client(), Method::POST, path, Some((JSON, &registration(url)))).await?;
        ensure!(answer.code == code, "{url}: {answer:?}");
    }
    Ok(())
}

/// The answer of priority and fairness is no Status, and so is told apart from a budget's.
async fn an_overloaded_server_answers_in_plain_text(cluster: &Cluster<'_>) -> Result<()> {
    let flow = "/apis/flowcontrol.apiserver.k8s.io/v1";
    let create = async |resource: &str, object: Value| {
        let path = format!("{flow}/{resource}");
        let answer = ask(&cluster.client(), Method::POST, &path, Some((JSON, &object))).await?;
        ensure!(answer.code == 201, "{resource}: {answer:?}");
        anyhow::Ok(())
    };
    let nothing = json!({"nominalConcurrencyShares": 0, "lendablePercent": 0, "borrowingLimitPercent": 0,
        "limitResponse": {"type": "Reject"}});
    create(
        "prioritylevelconfigurations",
        json!({"metadata": {"name": "nothing"}, "spec": {"type": "Limited", "limited": nothing}}),
    )
    .await?;
    let rules = json!([{
        "subjects": [{"kind": "User", "user": {"name": "waiting"}}],
        "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"],
            "clusterScope": true}],
    }]);
    let spec = json!({"priorityLevelConfiguration": {"name": "nothing"}, "matchingPrecedence": 2, "rules": rules});
    create("flowschemas", json!({"metadata": {"name": "waiting"}, "spec": spec})).await?;
    let waiting: Client = cluster.rig().client_as("waiting", None).await?;
    // One request at a time is served all the same.
    let answer = eventually("an answer of priority and fairness", async || {
        let many = (0..50).map(|_| ask(&waiting, Method::GET, "/api/v1/namespaces", None));
        let answers = futures::future::join_all(many).await;
        answers.into_iter().flatten().find(|answer| answer.code == 429)
    })
    .await?;
    ensure!(answer.json().is_null() && answer.retry_after.is_some(), "{answer:?}");
    // Nobody else has to wait.
    tokio::time::timeout(Duration::from_secs(10), ask(&cluster.client(), Method::GET, "/api/v1/namespaces", None))
        .await
        .context("another user is held up")??;
    Ok(())
}
