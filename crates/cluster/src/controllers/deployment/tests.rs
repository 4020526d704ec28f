//! Objects in, writes out. How a whole rollout goes is in `controllers/tests.rs`.

use serde_json::json;

use super::*;
use crate::engine::bare::{epoch, short, store_of};

fn deployment(replicas: u32, template: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"namespace": "a", "name": "web", "generation": 1, "annotations": {"example.com/a": "b", "kubectl.kubernetes.io/last-applied-configuration": "{}"}},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"image": template}},
        },
    })
}

/// A ReplicaSet of the template that its name says, sized for a Deployment of so many pods with a surge.
fn set(template: &str, (size, available): (i64, i64), (desired, maximum): (i64, i64)) -> Value {
    let revision = template.trim_start_matches('v');
    json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": {
            "namespace": "a", "name": template, "generation": 1, "labels": {"app": "web"},
            "creationTimestamp": format!("2026-03-01T11:0{revision}:00Z"),
            "annotations": {
                "example.com/a": "b", "deployment.kubernetes.io/revision": revision,
                "deployment.kubernetes.io/desired-replicas": desired.to_string(),
                "deployment.kubernetes.io/max-replicas": maximum.to_string(),
            },
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "web-uid", "controller": true}],
        },
        "spec": {
            "replicas": size, "selector": {"matchLabels": {"app": "web", "pod-template-hash": template}},
            "template": {"metadata": {"labels": {"app": "web", "pod-template-hash": template}}, "spec": {"image": template}},
        },
        "status": {
            "replicas": size, "readyReplicas": available, "availableReplicas": available, "observedGeneration": 1,
        },
    })
}

fn changed(mut object: Value, change: impl FnOnce(&mut Value)) -> Value {
    change(&mut object);
    object
}

fn look(objects: impl IntoIterator<Item = Value>) -> Act {
    Deployments.look(&store_of(objects), &Key::new(Kind::Deployment, "a", "web"), epoch())
}

/// The sizes that ReplicaSets get.
fn sizes(act: &Act) -> Vec<(String, i64)> {
    let sized = act.batches.iter().flatten().filter_map(|write| match write {
        Write::Replace { object, subresource: None } => {
            Some((object["metadata"]["name"].as_str()?.to_owned(), object["spec"]["replicas"].as_i64()?))
        }
        _ => None,
    });
    sized.collect()
}

#[test]
fn a_replica_set_is_made_for_the_template() {
    let act = look([deployment(3, "v1")]);
    let name = format!("web-{}", crate::controllers::portion::hash(&deployment(3, "v1")["spec"]["template"]));
    assert_eq!(short(&act), format!("create ReplicaSet {name} | replace/status Deployment web"));
    let Write::Create(set) = &act.batches[0][0] else { unreachable!() };
    let hash = name.trim_start_matches("web-");
    assert_eq!(set["metadata"]["labels"], json!({"app": "web", "pod-template-hash": hash}));
    assert_eq!(set["spec"]["selector"], json!({"matchLabels": {"app": "web", "pod-template-hash": hash}}));
    assert_eq!(set["spec"]["template"]["metadata"]["labels"], json!({"app": "web", "pod-template-hash": hash}));
    assert_eq!(
        set["metadata"]["annotations"],
        json!({
            "example.com/a": "b", "deployment.kubernetes.io/revision": "1",
            "deployment.kubernetes.io/desired-replicas": "3", "deployment.kubernetes.io/max-replicas": "4",
        })
    );
    assert_eq!(set["spec"]["replicas"], 3);
    let Write::Replace { object, subresource: Some("status") } = &act.batches[1][0] else { panic!("no status") };
    assert_eq!(object["status"]["conditions"][0]["reason"], "NewReplicaSetCreated");
    assert_eq!(object["metadata"]["annotations"]["deployment.kubernetes.io/revision"], "1");
}

#[test]
fn the_first_size_of_a_new_replica_set_is_what_the_surge_leaves() {
    let old = || set("v1", (10, 10), (10, 13));
    let first = |act: &Act| match &act.batches[0][0] {
        Write::Create(set) => set["spec"]["replicas"].clone(),
        other => panic!("no creation: {other:?}"),
    };
    assert_eq!(first(&look([deployment(10, "v2"), old()])), 3);
    let narrow = changed(deployment(10, "v2"), |web| web["spec"]["strategy"]["rollingUpdate"]["maxSurge"] = json!(0));
    assert_eq!(first(&look([narrow, old()])), 0);
}

#[test]
fn a_rolling_update_grows_into_the_surge_and_shrinks_as_pods_become_available() {
    let scale = (10, 13);
    for (name, old, new, expected) in [
        ("room to grow", (8, 8), (3, 0), vec![("v2", 5)]),
        ("all of the surge", (10, 10), (3, 0), vec![("v1", 8)]),
        ("not while the new ones are missing", (8, 5), (5, 0), vec![]),
        ("unhealthy old ones go first", (8, 6), (5, 5), vec![("v1", 3)]),
        ("the new ones are there", (8, 8), (5, 5), vec![("v1", 3)]),
        ("no more than may be missing", (8, 8), (5, 1), vec![("v1", 7)]),
        ("the last", (3, 3), (10, 10), vec![("v1", 0)]),
    ] {
        let act = look([deployment(10, "v2"), set("v1", old, scale), set("v2", new, scale)]);
        let expected: Vec<(String, i64)> = expected.into_iter().map(|(name, size)| (name.to_owned(), size)).collect();
        assert_eq!(sizes(&act), expected, "{name}");
    }
}

#[test]
fn scaling_in_the_middle_of_a_rollout_gives_each_its_share() {
    let of = |replicas, sets: Vec<Value>| sizes(&look(std::iter::once(deployment(replicas, "v2")).chain(sets)));
    let two = |old, new| vec![set("v1", old, (10, 13)), set("v2", new, (10, 13))];
    let named =
        |sizes: &[(&str, i64)]| sizes.iter().map(|(name, size)| ((*name).to_owned(), *size)).collect::<Vec<_>>();
    assert_eq!(of(20, two((8, 8), (5, 0))), named(&[("v1", 15), ("v2", 10)]));
    assert_eq!(of(5, two((8, 8), (5, 0))), named(&[("v1", 4), ("v2", 3)]));
    assert_eq!(of(0, two((8, 8), (5, 0))), named(&[("v1", 0), ("v2", 0)]));
    assert_eq!(of(20, two((10, 10), (0, 0))), named(&[("v1", 20)]));
    assert_eq!(of(7, vec![set("v2", (10, 10), (10, 13))]), named(&[("v2", 7)]));
}

#[test]
fn recreate_empties_the_old_waits_for_its_pods_and_fills_the_new() {
    let web = || changed(deployment(4, "v2"), |web| web["spec"]["strategy"] = json!({"type": "Recreate"}));
    let scale = (4, 4);
    assert_eq!(sizes(&look([web(), set("v1", (4, 4), scale)])), [("v1".to_owned(), 0)]);
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": "a", "name": "p", "deletionTimestamp": "2026-03-01T12:00:30Z", "ownerReferences": [{"kind": "ReplicaSet", "name": "v1", "uid": "v1-uid", "controller": true}]},
        "status": {"phase": "Running"},
    });
    assert_eq!(short(&look([web(), set("v1", (0, 0), scale), pod.clone()])), "replace/status Deployment web");
    let act = look([web(), set("v1", (0, 0), scale)]);
    assert!(short(&act).starts_with("create ReplicaSet web-"), "{act:?}");
    let store = store_of([web(), set("v1", (0, 0), scale), pod.clone()]);
    let gone = Change {
        revision: 9,
        key: Key::new(Kind::Pod, "a", "p"),
        before: Some(Arc::new(Object::from(pod))),
        after: None,
    };
    assert_eq!(Deployments.touched(&store, &gone), [Key::new(Kind::Deployment, "a", "web")]);
}

#[test]
fn a_paused_one_is_scaled_but_not_rolled_out() {
    let web = changed(deployment(4, "v2"), |web| {
        web["spec"]["paused"] = json!(true);
        web["status"]["conditions"] =
            json!([{"type": "Progressing", "status": "Unknown", "reason": "DeploymentPaused"}]);
    });
    assert_eq!(sizes(&look([web.clone(), set("v1", (3, 3), (3, 4))])), [("v1".to_owned(), 4)]);
    assert_eq!(short(&look([web.clone(), set("v1", (4, 4), (4, 5))])), "replace/status Deployment web");
    let act = look([changed(web, |web| web["status"] = json!({})), set("v1", (3, 3), (3, 4))]);
    let Write::Replace { object, subresource: Some("status") } = &act.batches[0][0] else { panic!("{act:?}") };
    assert_eq!(object["status"]["conditions"][0]["reason"], "DeploymentPaused");
}

#[test]
fn going_back_to_an_old_template_gives_it_a_new_revision_and_keeps_the_old() {
    let act = look([deployment(3, "v1"), set("v1", (0, 0), (3, 4)), set("v2", (3, 3), (3, 4))]);
    let Write::Replace { object, subresource: None } = &act.batches[0][0] else { panic!("{act:?}") };
    assert_eq!(object["metadata"]["annotations"]["deployment.kubernetes.io/revision"], "3");
    assert_eq!(object["metadata"]["annotations"]["deployment.kubernetes.io/revision-history"], "1");
}

#[test]
fn annotations_of_the_deployment_reach_the_new_replica_set() {
    let web = changed(deployment(3, "v1"), |web| web["metadata"]["annotations"]["example.com/c"] = json!("d"));
    let act = look([web, set("v1", (3, 3), (3, 4))]);
    let Write::Replace { object, subresource: None } = &act.batches[0][0] else { panic!("{act:?}") };
    assert_eq!(object["metadata"]["annotations"]["example.com/c"], "d");
    assert_eq!(object["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"], Value::Null);
}

fn complete(replicas: i64) -> Value {
    json!({"observedGeneration": 1, "replicas": replicas, "updatedReplicas": replicas, "readyReplicas": replicas, "availableReplicas": replicas})
}

#[test]
fn old_replica_sets_go_once_the_rollout_is_over() {
    let web = |kept: u32| {
        changed(deployment(3, "v3"), |web| {
            web["spec"]["revisionHistoryLimit"] = json!(kept);
            web["status"] = complete(3);
        })
    };
    let sets = || [set("v1", (0, 0), (3, 4)), set("v2", (0, 0), (3, 4)), set("v3", (3, 3), (3, 4))];
    let of = |kept| short(&look(std::iter::once(web(kept)).chain(sets())));
    assert_eq!(of(0), "delete ReplicaSet v1, delete ReplicaSet v2");
    assert_eq!(of(1), "delete ReplicaSet v1");
    assert_eq!(of(2), "replace/status Deployment web");
    let busy = changed(web(0), |web| web["status"]["replicas"] = json!(4));
    assert_eq!(short(&look(std::iter::once(busy).chain(sets()))), "replace/status Deployment web");
}

fn progress(act: &Act) -> Value {
    let Some(Write::Replace { object, subresource: Some("status") }) = act.batches.iter().flatten().last() else {
        panic!("no status: {act:?}")
    };
    let conditions = object["status"]["conditions"].as_array().unwrap();
    conditions.iter().find(|condition| condition["type"] == "Progressing").cloned().unwrap_or_default()
}

#[test]
fn the_progress_is_told_with_the_real_reasons() {
    let created = |since: &str| json!([{"type": "Progressing", "status": "True", "reason": "NewReplicaSetCreated", "lastUpdateTime": since, "lastTransitionTime": "2026-03-01T11:00:00Z"}]);
    let web = |since: &str| changed(deployment(3, "v1"), |web| web["status"] = json!({"conditions": created(since)}));
    let told = |since: &str, available| progress(&look([web(since), set("v1", (3, available), (3, 4))]));
    let done = told("2026-03-01T11:59:00Z", 3);
    assert_eq!(
        (&done["reason"], &done["message"]),
        (&json!("NewReplicaSetAvailable"), &json!("ReplicaSet \"v1\" has successfully progressed."))
    );
    assert_eq!(done["lastTransitionTime"], "2026-03-01T11:00:00Z");
    let going = told("2026-03-01T11:59:00Z", 1);
    assert_eq!(
        (&going["reason"], &going["lastUpdateTime"]),
        (&json!("ReplicaSetUpdated"), &json!("2026-03-01T12:00:00Z"))
    );
    let seen = |since: &str| {
        changed(web(since), |web| {
            web["status"]["updatedReplicas"] = json!(3);
            web["status"]["availableReplicas"] = json!(1);
            web["status"]["readyReplicas"] = json!(1);
        })
    };
    let late = progress(&look([seen("2026-03-01T11:49:00Z"), set("v1", (3, 1), (3, 4))]));
    assert_eq!((&late["reason"], &late["status"]), (&json!("ProgressDeadlineExceeded"), &json!("False")));
    let act = look([seen("2026-03-01T11:59:00Z"), set("v1", (3, 1), (3, 4))]);
    assert_eq!(act.again, Some("2026-03-01T12:09:01Z".parse().unwrap()));
}

#[test]
fn a_failure_of_a_replica_set_is_shown_and_so_is_that_none_could_be_made() {
    let failing = changed(set("v1", (3, 1), (3, 4)), |set| {
        set["status"]["conditions"] =
            json!([{"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "quota"}]);
    });
    let act = look([deployment(3, "v1"), failing]);
    let Write::Replace { object, .. } = &act.batches[0][0] else { panic!("{act:?}") };
    let conditions = object["status"]["conditions"].as_array().unwrap();
    assert!(
        conditions.iter().any(|condition| condition["type"] == "ReplicaFailure" && condition["message"] == "quota")
    );
    let refused = Refused { code: 403, reason: "Forbidden".to_owned(), message: "no".to_owned() };
    let store = store_of([deployment(3, "v1")]);
    let writes = Deployments.refused(&store, &Key::new(Kind::Deployment, "a", "web"), Verb::Create, &refused, epoch());
    let Write::Replace { object, .. } = &writes[0] else { panic!("{writes:?}") };
    assert_eq!(object["status"]["conditions"][0]["reason"], "ReplicaSetCreateError");
}
