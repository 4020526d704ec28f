//! Bodies in, bodies out: what a good request says, what a bad one still gives up, and what an answer looks like.

#![expect(clippy::unwrap_used, reason = "a helper of tests fails like a test")]

use std::fmt::Write as _;

use serde_json::{Value, json};
use spotalis_core::selector::Operator;
use spotalis_webhook::wire::{Fault, Owner, Review, ReviewError, parse, respond};

const UID: &str = "705ab4f5-6393-11e8-b7cc-42010a800002";

/// A request as the API server writes it, with this pod.
fn review(pod: &Value) -> Value {
    json!({
        "kind": "AdmissionReview",
        "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": UID,
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "namespace": "shop",
            "operation": "CREATE",
            "userInfo": {"username": "system:serviceaccount:kube-system:replicaset-controller"},
            "object": pod,
            "oldObject": null,
            "dryRun": false,
            "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
        },
    })
}

fn pod() -> Value {
    json!({
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": {
            "generateName": "web-5d4f8c-",
            "creationTimestamp": null,
            "labels": {"app": "web", "pod-template-hash": "5d4f8c"},
            "annotations": {"note": "say \"hi\"\nä"},
            "ownerReferences": [
                {"apiVersion": "v1", "kind": "ConfigMap", "name": "other", "uid": "1", "controller": false},
                {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-5d4f8c", "uid": "2", "controller": true,
                 "blockOwnerDeletion": true},
            ],
        },
        "spec": {
            "containers": [{"name": "web", "image": "web:1", "resources": {}}],
            "nodeSelector": {"zone": "a"},
            "affinity": {"nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                    {"matchExpressions": [
                        {"key": "cpu", "operator": "Gt", "values": ["4"]},
                        {"key": "disk", "operator": "Exists"},
                    ]},
                    {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}]},
                    {},
                ]},
                "preferredDuringSchedulingIgnoredDuringExecution": [
                    {"weight": 5, "preference": {
                        "matchExpressions": [{"key": "zone", "operator": "NotIn", "values": ["b"]}]}},
                ],
            }},
            "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute",
                             "tolerationSeconds": 300}],
        },
        "status": {},
    })
}

fn bytes(value: &Value) -> Vec<u8> {
    serde_json::to_vec(value).unwrap()
}

/// The review with one member replaced, by JSON Pointer; a missing one is added.
fn with(pointer: &str, value: Value) -> Vec<u8> {
    let mut review = review(&pod());
    let (parent, member) = pointer.rsplit_once('/').unwrap();
    review.pointer_mut(parent).unwrap().as_object_mut().unwrap().insert(member.to_owned(), value);
    bytes(&review)
}

#[track_caller]
fn unreadable(body: &[u8]) -> Fault {
    match parse(body) {
        Err(ReviewError::Unreadable { uid, fault }) => {
            assert_eq!(uid, UID);
            fault
        }
        other => panic!("expected an unreadable body with its uid, got {other:?}"),
    }
}

#[track_caller]
fn without_uid(body: &[u8]) -> Fault {
    match parse(body) {
        Err(ReviewError::NoUid(fault)) => fault,
        other => panic!("expected a body without uid, got {other:?}"),
    }
}

#[test]
fn a_pod_is_read_with_everything_that_matters() {
    let body = bytes(&review(&pod()));
    let Review { uid, dry_run, pod } = parse(&body).unwrap();
    assert_eq!((&*uid, dry_run), (UID, false));
    let pod = pod.unwrap();
    assert_eq!((&*pod.namespace, &*pod.name, &*pod.generate_name), ("shop", "", "web-5d4f8c-"));
    assert_eq!(pod.label("pod-template-hash"), Some("5d4f8c"));
    assert_eq!(pod.label("absent"), None);
    assert_eq!(pod.annotation("note"), Some("say \"hi\"\nä"));
    let owner =
        Owner { api_version: "apps/v1".into(), kind: "ReplicaSet".into(), name: "web-5d4f8c".into(), uid: "2".into() };
    assert_eq!(pod.controller, Some(owner));
    let placement = pod.placement;
    assert_eq!(placement.node_name, None);
    assert_eq!(placement.node_selector.unwrap()["zone"], "a");
    let terms = placement.required.unwrap();
    assert_eq!(terms.len(), 3);
    let operators: Vec<_> = terms[0].expressions.iter().flatten().map(|r| (&*r.key, &r.operator)).collect();
    assert_eq!(operators, [("cpu", &Operator::Gt(4)), ("disk", &Operator::Exists)]);
    assert_eq!((terms[1].expressions.is_none(), terms[1].has_fields), (true, true));
    assert_eq!((terms[2].expressions.is_none(), terms[2].has_fields), (true, false));
    assert_eq!(placement.preferred.unwrap()[0].weight, 5);
    assert_eq!(placement.tolerations.unwrap()[0].key.as_deref(), Some("node.kubernetes.io/not-ready"));
    assert!(pod.has_affinity && pod.has_node_affinity);
}

#[test]
fn texts_without_escapes_are_borrowed() {
    let body = bytes(&review(&pod()));
    let review = parse(&body).unwrap();
    let pod = review.pod.unwrap();
    let within = |text: &str| body.as_ptr_range().contains(&text.as_ptr());
    assert!(within(&review.uid) && within(&pod.namespace) && within(pod.label("app").unwrap()));
    assert!(within(&pod.controller.as_ref().unwrap().name));
    assert!(!within(pod.annotation("note").unwrap()));
}

#[test]
fn null_is_as_good_as_absent() {
    for member in [
        "metadata/name",
        "metadata/generateName",
        "metadata/labels",
        "metadata/annotations",
        "metadata/ownerReferences",
        "spec/nodeName",
        "spec/nodeSelector",
        "spec/affinity",
        "spec/affinity/nodeAffinity",
        "spec/affinity/nodeAffinity/preferredDuringSchedulingIgnoredDuringExecution",
        "spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution",
        "spec/tolerations",
    ] {
        let null = with(&format!("/request/object/{member}"), Value::Null);
        let mut absent: Value = serde_json::from_slice(&null).unwrap();
        let (parent, name) = member.rsplit_once('/').unwrap();
        let parent = absent.pointer_mut(&format!("/request/object/{parent}")).unwrap();
        parent.as_object_mut().unwrap().remove(name);
        assert_eq!(parse(&null).unwrap(), parse(&bytes(&absent)).unwrap(), "{member}");
    }
    let nulls = with(
        "/request/object/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution",
        json!({"nodeSelectorTerms": [null, {"matchExpressions": null, "matchFields": null}, {"matchExpressions": [
            {"key": null, "operator": "In", "values": [null]}, {"key": "a", "operator": "Exists", "values": null}]}]}),
    );
    assert_eq!(parse(&nulls).unwrap().pod.unwrap().placement.required.unwrap().len(), 3);
    for null_item in ["spec/tolerations", "metadata/ownerReferences"] {
        assert!(parse(&with(&format!("/request/object/{null_item}"), json!([null]))).is_ok(), "{null_item}");
    }
    assert_eq!(
        parse(&with("/request/object/metadata/labels", json!({"a": null}))).unwrap().pod.unwrap().label("a"),
        Some("")
    );
    assert!(!parse(&with("/request/dryRun", Value::Null)).unwrap().dry_run);
}

#[test]
fn dry_run_and_node_name_are_seen() {
    assert!(parse(&with("/request/dryRun", json!(true))).unwrap().dry_run);
    let node_name = |value: &str| {
        let body = with("/request/object/spec/nodeName", json!(value));
        parse(&body).unwrap().pod.unwrap().placement.node_name.map(std::borrow::Cow::into_owned)
    };
    assert_eq!(node_name("n1"), Some("n1".to_owned()));
    assert_eq!(node_name(""), None);
}

#[test]
fn anything_but_the_creation_of_a_pod_is_left_alone() {
    for body in [
        with("/request/kind", json!({"group": "apps", "version": "v1", "kind": "Deployment"})),
        with("/request/kind", json!({"group": "example.com", "version": "v1", "kind": "Pod"})),
        with("/request/kind", Value::Null),
        with("/request/operation", json!("UPDATE")),
        with("/request/operation", json!("DELETE")),
        with("/request/subResource", json!("binding")),
        br#"{"request":{"uid":"705ab4f5-6393-11e8-b7cc-42010a800002"}}"#.to_vec(),
        br#"{"request":{"uid":"705ab4f5-6393-11e8-b7cc-42010a800002","operation":"DELETE","object":null}}"#.to_vec(),
    ] {
        let review = parse(&body).unwrap();
        assert_eq!((&*review.uid, review.pod), (UID, None), "{}", String::from_utf8_lossy(&body));
    }
}

#[test]
fn a_body_without_uid_cannot_be_answered() {
    let mut garbage: Vec<Vec<u8>> = [
        "",
        " ",
        "{",
        "}",
        "[]",
        "null",
        "42",
        "\"uid\"",
        "{}",
        "GET / HTTP/1.1",
        "\u{feff}{}",
        "{\"request\":null}",
        "{\"request\":{}}",
        "{\"request\":[]}",
        "{\"request\":{\"uid\":null}}",
        "{\"request\":{\"uid\":\"\"}}",
        "{\"request\":{\"uid\":7}}",
        "{\"request\":{\"uid\":{\"uid\":\"x\"}}}",
        "{\"uid\":\"x\"}",
        "{\"request\":{\"object\":{\"uid\":\"x\"}}}",
        "{\"request\":{\"uid\":\"x",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into();
    garbage.push(vec![0; 1000]);
    garbage.push((0..=255).collect());
    garbage.push(b"{\"request\":{\"uid\":\"\xff\xfe\"}}".to_vec());
    garbage.push(vec![b'['; 100_000]);
    garbage.push(b"{\"request\":".repeat(100_000));
    for body in garbage {
        let fault = without_uid(&body);
        assert!(fault.to_string().len() < 200, "{fault}");
    }
    assert_eq!(without_uid(b"{}"), Fault::Missing("request"));
    assert_eq!(without_uid(b"{\"request\":{}}"), Fault::Missing("request.uid"));
}

#[test]
fn the_uid_survives_a_body_that_ends_anywhere_behind_it() {
    let body = format!("{{\"request\":{{\"uid\":\"{UID}\",\"object\":{}}}}}", pod());
    let behind_uid = body.find(UID).unwrap() + UID.len() + 1;
    for end in 0..body.len() {
        let fault =
            if end < behind_uid { without_uid(&body.as_bytes()[..end]) } else { unreadable(&body.as_bytes()[..end]) };
        assert_eq!(fault, Fault::Truncated, "cut at {end}");
    }
}

#[test]
fn the_uid_survives_a_pod_that_is_no_pod() {
    let wrong = [
        with("/request/object", Value::Null),
        with("/request/object", json!({})),
        with("/request/object", json!("pod")),
        with("/request/object", json!(7)),
        with("/request/object/metadata", Value::Null),
        with("/request/object/spec", Value::Null),
        with("/request/object/spec", json!([1])),
        with("/request/object/metadata/labels", json!(["a"])),
        with("/request/object/metadata/labels", json!({"a": 1})),
        with("/request/object/metadata/name", json!(true)),
        with("/request/object/spec/tolerations", json!({})),
        with("/request/dryRun", json!("yes")),
        with("/request/operation", json!(1)),
        format!("{{\"request\":{{\"uid\":\"{UID}\",\"operation\":\"CREATE\",\"operation\":\"DELETE\"}}}}").into_bytes(),
        format!("{{\"request\":{{\"uid\":\"{UID}\"}}}} trailing").into_bytes(),
        format!("{{\"request\":{{\"object\":{{\"spec\":1}},\"uid\":\"{UID}\"}}}}").into_bytes(),
    ];
    for body in wrong {
        unreadable(&body);
    }
}

#[test]
fn depth_costs_no_stack() {
    let nested = |open: &str, close: &str| open.repeat(500_000) + "1" + &close.repeat(500_000);
    for deep in [nested("[", "]"), nested("{\"a\":", "}")] {
        let where_nobody_looks = format!("{{\"request\":{{\"options\":{deep},\"uid\":\"{UID}\"}}}}");
        assert_eq!(parse(where_nobody_looks.as_bytes()).unwrap().uid, UID);
        let as_pod = format!("{{\"request\":{{\"object\":{{\"spec\":[{deep}]}},\"uid\":\"{UID}\"}}}}");
        unreadable(as_pod.as_bytes());
    }
}

#[test]
fn an_impossible_requirement_is_not_ours_to_read() {
    for (operator, values) in [("Like", json!(["a"])), ("", json!([])), ("Gt", json!(["many"])), ("Lt", json!([]))] {
        let terms = json!({"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "a", "operator": operator, "values": values}]}]});
        let member = "/request/object/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution";
        assert_eq!(unreadable(&with(member, terms)), Fault::Requirement, "{operator}");
    }
}

#[test]
fn ten_thousand_labels_are_read_and_the_last_of_two_wins() {
    let mut labels = String::from("{");
    for index in 0..10_000 {
        write!(labels, "\"key-{index}\":\"value-{index}\",").unwrap();
    }
    labels.push_str("\"key-7\":\"again\"}");
    let body = String::from_utf8(with("/request/object/metadata/labels", json!("LABELS"))).unwrap();
    let body = body.replace("\"LABELS\"", &labels);
    let pod = parse(body.as_bytes()).unwrap().pod.unwrap();
    assert_eq!(pod.labels.as_ref().unwrap().iter().count(), 10_001);
    assert_eq!((pod.label("key-9999"), pod.label("key-7")), (Some("value-9999"), Some("again")));
}

#[test]
fn an_answer_allows_and_echoes_whatever_the_uid_was() {
    for uid in [UID, "with \"quotes\" and \\ and \u{1}", "</script>", "ü"] {
        let answer: Value = serde_json::from_slice(&respond(uid, None, &[])).unwrap();
        assert_eq!(
            answer,
            json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
                   "response": {"uid": uid, "allowed": true}})
        );
    }
}

#[test]
fn an_answer_carries_patch_and_warnings() {
    let answer: Value = serde_json::from_slice(&respond("u", Some(b"[{}]"), &["look", "out\n"])).unwrap();
    assert_eq!(
        answer["response"],
        json!({"uid": "u", "allowed": true, "patchType": "JSONPatch", "patch": "W3t9XQ==",
               "warnings": ["look", "out\n"]})
    );
}

mod arbitrary {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_body_is_a_reason_to_panic(body in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&body);
        }

        /// Bytes of a good body changed at random: whatever comes of it, never another uid than one that is in there.
        #[test]
        fn a_damaged_body_is_read_or_answered_or_refused(
            damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        ) {
            let mut body = bytes(&review(&pod()));
            for (at, byte) in damage {
                let at = at.index(body.len());
                body[at] = byte;
            }
            match parse(&body) {
                Ok(review) => prop_assert!(!review.uid.is_empty()),
                Err(ReviewError::Unreadable { uid, .. }) => prop_assert!(!uid.is_empty()),
                Err(ReviewError::NoUid(_)) => {}
            }
        }
    }
}
