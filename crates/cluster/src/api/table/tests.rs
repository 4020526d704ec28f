//! Rows by kind, cell by cell.

use serde_json::{Value, json};

use super::*;

const NOW: &str = "2026-01-01T01:00:00Z";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

fn terms(include: Include) -> Terms {
    Terms { include, heads: true }
}

/// An object that was made a minute ago.
fn made(kind: Kind, rest: &Value) -> Object {
    let mut object = json!({
        "apiVersion": kind.resource().api_version(), "kind": kind.resource().name,
        "metadata": {"name": "it", "resourceVersion": "7", "creationTimestamp": "2026-01-01T00:59:00Z"},
    });
    for (key, value) in rest.as_object().into_iter().flatten() {
        match value.as_object().filter(|_| key == "metadata") {
            Some(more) => more.iter().for_each(|(key, value)| object["metadata"][key] = value.clone()),
            None => object[key] = value.clone(),
        }
    }
    object.into()
}

/// The columns, with `+` before those that are wide, and the cells.
fn shown(kind: Kind, rest: &Value) -> (String, Value) {
    let table = terms(Include::Nothing).one(kind, &made(kind, rest), now());
    let heads = table["columnDefinitions"].as_array().unwrap().iter().map(|head| {
        let wide = if head["priority"] == 0 { "" } else { "+" };
        format!("{wide}{}", head["name"].as_str().unwrap())
    });
    (heads.collect::<Vec<_>>().join(" | "), table["rows"][0]["cells"].clone())
}

fn check(kind: Kind, object: &Value, columns: &str, cells: &Value) {
    let (heads, row) = shown(kind, object);
    assert_eq!((heads.as_str(), &row), (columns, cells), "{kind}");
}

#[test]
fn workloads_and_their_neighbours_have_the_columns_and_cells_of_a_real_server() {
    let template = json!({"spec": {"containers": [{"name": "a", "image": "i:1"}, {"name": "b", "image": "j"}]}});
    let selector = json!({"matchLabels": {"tier": "x", "app": "y"}, "matchExpressions": [
        {"key": "b", "operator": "In", "values": ["2", "1"]}, {"key": "c", "operator": "Exists"},
        {"key": "d", "operator": "DoesNotExist"}, {"key": "e", "operator": "NotIn", "values": ["1"]},
    ]});
    let selected = "app=y,b in (1,2),c,!d,e notin (1),tier=x";
    let owner = |kind: &str, api: &str| json!([{"kind": kind, "apiVersion": api, "name": "web", "controller": true}]);
    for (kind, object, columns, cells) in [
        (
            Kind::Namespace,
            json!({"status": {"phase": "Active"}}),
            "Name | Status | Age",
            json!(["it", "Active", "60s"]),
        ),
        (
            Kind::ConfigMap,
            json!({"data": {"a": "1", "b": "2"}, "binaryData": {"c": ""}}),
            "Name | Data | Age",
            json!(["it", 3, "60s"]),
        ),
        (Kind::ConfigMap, json!({}), "Name | Data | Age", json!(["it", 0, "60s"])),
        (
            Kind::Secret,
            json!({"type": "Opaque", "data": {"a": ""}}),
            "Name | Type | Data | Age",
            json!(["it", "Opaque", 1, "60s"]),
        ),
        (Kind::ServiceAccount, json!({}), "Name | Age", json!(["it", "60s"])),
        (
            Kind::ResourceQuota,
            json!({"status": {
                "hard": {"pods": "10", "limits.cpu": "4", "requests.cpu": "2"}, "used": {"pods": "3", "limits.cpu": "1"},
            }}),
            "Name | Request | Limit | Age",
            json!(["it", "pods: 3/10, requests.cpu: 0/2", "limits.cpu: 1/4", "60s"]),
        ),
        (
            Kind::Deployment,
            json!({
                "spec": {"replicas": 5, "selector": selector, "template": template},
                "status": {"readyReplicas": 3, "updatedReplicas": 4, "availableReplicas": 2},
            }),
            "Name | Ready | Up-to-date | Available | Age | +Containers | +Images | +Selector",
            json!(["it", "3/5", 4, 2, "60s", "a,b", "i:1,j", selected]),
        ),
        (
            Kind::ReplicaSet,
            json!({
                "spec": {"replicas": 5, "selector": {"matchLabels": {"app": "y"}}, "template": template},
                "status": {"replicas": 4, "readyReplicas": 3},
            }),
            "Name | Desired | Current | Ready | Age | +Containers | +Images | +Selector",
            json!(["it", 5, 4, 3, "60s", "a,b", "i:1,j", "app=y"]),
        ),
        (
            Kind::StatefulSet,
            json!({"spec": {"replicas": 2, "template": template}, "status": {"replicas": 2}}),
            "Name | Ready | Age | +Containers | +Images",
            json!(["it", "0/2", "60s", "a,b", "i:1,j"]),
        ),
        (
            Kind::ControllerRevision,
            json!({"revision": 3, "metadata": {"ownerReferences": owner("StatefulSet", "apps/v1")}}),
            "Name | Controller | Revision | Age",
            json!(["it", "statefulset.apps/web", 3, "60s"]),
        ),
        (
            Kind::ControllerRevision,
            json!({"metadata": {"ownerReferences": owner("Node", "v1")}}),
            "Name | Controller | Revision | Age",
            json!(["it", "node/web", 0, "60s"]),
        ),
    ] {
        check(kind, &object, columns, &cells);
    }
}

#[test]
fn budgets_leases_and_nodes_to_be_have_the_columns_and_cells_of_a_real_server() {
    for (kind, object, columns, cells) in [
        (
            Kind::PodDisruptionBudget,
            json!({"spec": {"minAvailable": "50%"}, "status": {"disruptionsAllowed": 1}}),
            "Name | Min Available | Max Unavailable | Allowed Disruptions | Age",
            json!(["it", "50%", "N/A", 1, "60s"]),
        ),
        (
            Kind::PodDisruptionBudget,
            json!({"spec": {"maxUnavailable": 0}}),
            "Name | Min Available | Max Unavailable | Allowed Disruptions | Age",
            json!(["it", "N/A", "0", 0, "60s"]),
        ),
        (Kind::Lease, json!({"spec": {"holderIdentity": "me"}}), "Name | Holder | Age", json!(["it", "me", "60s"])),
        (Kind::Lease, json!({"spec": {}}), "Name | Holder | Age", json!(["it", "", "60s"])),
        (
            Kind::MutatingWebhookConfiguration,
            json!({"webhooks": [{}, {}]}),
            "Name | Webhooks | Age",
            json!(["it", 2, "60s"]),
        ),
        (
            Kind::NodePool,
            json!({
                "spec": {"weight": 10, "template": {"spec": {"nodeClassRef": {"name": "default"}}}},
                "status": {
                    "nodes": 3, "resources": {"cpu": "12", "memory": "24Gi"},
                    "conditions": [{"type": "Ready", "status": "True"}],
                },
            }),
            "Name | NodeClass | Nodes | Ready | Age | +Weight | +CPU | +Memory",
            json!(["it", "default", "3", "True", "60s", 10, "12", "24Gi"]),
        ),
        (
            Kind::NodePool,
            json!({}),
            "Name | NodeClass | Nodes | Ready | Age | +Weight | +CPU | +Memory",
            json!(["it", null, null, null, "60s", null, null, null]),
        ),
        (
            Kind::NodeClaim,
            json!({
                "metadata": {"labels": {
                    "node.kubernetes.io/instance-type": "large", "karpenter.sh/capacity-type": "spot",
                    "topology.kubernetes.io/zone": "a", "karpenter.sh/nodepool": "pool",
                }},
                "spec": {"nodeClassRef": {"name": "default"}},
                "status": {
                    "nodeName": "n", "providerID": "p://n",
                    "conditions": [{"type": "Ready", "status": "False"}, {"type": "Drifted", "status": "True"}],
                },
            }),
            "Name | Type | Capacity | Zone | Node | Ready | Age | +ImageID | +ID | +NodePool | +NodeClass | +Drifted",
            json!(["it", "large", "spot", "a", "n", "False", "60s", null, "p://n", "pool", "default", "True"]),
        ),
    ] {
        check(kind, &object, columns, &cells);
    }
}

#[test]
fn nodes_say_how_they_stand_and_what_runs_on_them() {
    let ready =
        |status: &str| json!([{"type": "MemoryPressure", "status": "False"}, {"type": "Ready", "status": status}]);
    let heads = "Name | Status | Roles | Age | Version | +Internal-IP | +External-IP | +OS-Image | +Kernel-Version | \
                 +Container-Runtime";
    let said = json!({
        "metadata": {"labels": {
            "node-role.kubernetes.io/worker": "", "kubernetes.io/role": "agent", "node-role.kubernetes.io/": "",
        }},
        "spec": {"unschedulable": true},
        "status": {
            "conditions": ready("True"),
            "addresses": [{"type": "Hostname", "address": "n"}, {"type": "InternalIP", "address": "10.0.0.1"}],
            "nodeInfo": {
                "kubeletVersion": "v1.36.3", "osImage": "Linux", "kernelVersion": "6", "architecture": "amd64",
                "containerRuntimeVersion": "containerd://2",
            },
        },
    });
    let wide = json!([
        "it",
        "Ready,SchedulingDisabled",
        "agent,worker",
        "60s",
        "v1.36.3",
        "10.0.0.1",
        "<none>",
        "Linux",
        "6 (amd64)",
        "containerd://2",
    ]);
    assert_eq!(shown(Kind::Node, &said), (heads.to_owned(), wide));
    let none = json!(["<none>", "<none>", "<unknown>", "<unknown>", "<unknown>"]);
    for (status, says) in [
        (json!({"conditions": ready("False")}), "NotReady"),
        (json!({"conditions": ready("Unknown")}), "NotReady"),
        (json!({}), "Unknown"),
    ] {
        let (_, cells) = shown(Kind::Node, &json!({"status": status}));
        assert_eq!(
            cells.as_array().unwrap()[..5],
            [json!("it"), says.into(), "<none>".into(), "60s".into(), "".into()]
        );
        assert_eq!(cells.as_array().unwrap()[5..], *none.as_array().unwrap());
    }
}

#[test]
fn autoscalers_show_what_they_look_at() {
    let of = |metrics: Value, current: Value| {
        let object = json!({
            "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "web"}, "maxReplicas": 9, "metrics": metrics},
            "status": {"currentReplicas": 3, "currentMetrics": current},
        });
        shown(Kind::HorizontalPodAutoscaler, &object)
    };
    let cpu = |target: Value| json!({"type": "Resource", "resource": {"name": "cpu", "target": target}});
    let other = |type_: &str, field: &str, target: Value| json!({"type": type_, field: {"target": target}});
    let heads = "Name | Reference | Targets | MinPods | MaxPods | Replicas | Age";
    let row = json!(["it", "Deployment/web", "<none>", "<unset>", 9, 3, "60s"]);
    assert_eq!(of(json!([]), json!([])), (heads.to_owned(), row));
    let percent = cpu(json!({"averageUtilization": 70}));
    let now_40 =
        json!({"type": "Resource", "resource": {"current": {"averageUtilization": 40, "averageValue": "200m"}}});
    for (metrics, current, says) in [
        (json!([percent]), json!([now_40]), "cpu: 40%/70%"),
        (json!([percent]), json!([]), "cpu: <unknown>/70%"),
        (json!([cpu(json!({"averageValue": "500m"}))]), json!([now_40]), "cpu: 200m/500m"),
        (json!([cpu(json!({}))]), json!([]), "cpu: <unknown>/<auto>"),
        (json!([other("Pods", "pods", json!({"averageValue": "5"}))]), json!([]), "<unknown>/5"),
        (
            json!([other("External", "external", json!({"averageValue": "5"}))]),
            json!([{"external": {"current": {"averageValue": "2"}}}]),
            "2/5 (avg)",
        ),
        (
            json!([other("Object", "object", json!({"value": "5"}))]),
            json!([{"object": {"current": {"value": "3"}}}]),
            "3/5",
        ),
        (json!([{"type": "New"}]), json!([]), "<unknown type>"),
        (json!([percent, percent]), json!([]), "cpu: <unknown>/70%, cpu: <unknown>/70%"),
        (json!([percent, percent, percent]), json!([now_40]), "cpu: 40%/70%, cpu: <unknown>/70% + 1 more..."),
    ] {
        assert_eq!(of(metrics, current).1[2], says);
    }
    let (_, cells) = shown(Kind::HorizontalPodAutoscaler, &json!({"spec": {"minReplicas": 2}}));
    assert_eq!(cells[3], "2");
}

#[test]
fn events_say_when_and_of_whom() {
    let heads =
        "Last Seen | Type | Reason | Object | +Subobject | +Source | Message | +First Seen | +Count | +Name".to_owned();
    let event = json!({
        "eventTime": "2026-01-01T00:50:00.000000Z", "type": "Warning", "reason": "Bad", "note": " so it is\n",
        "reportingController": "spotalis", "reportingInstance": "spotalis-0",
        "regarding": {"kind": "Pod", "name": "p", "fieldPath": "spec.containers{c}"},
    });
    let cells = json!([
        "10m",
        "Warning",
        "Bad",
        "pod/p",
        "spec.containers{c}",
        "spotalis, spotalis-0",
        "so it is",
        "10m",
        1,
        "it",
    ]);
    assert_eq!(shown(Kind::Event, &event), (heads, cells));
    let with = |key: &str, value: Value| {
        let mut event = event.clone();
        event[key] = value;
        shown(Kind::Event, &event).1
    };
    let series = with("series", json!({"count": 4, "lastObservedTime": "2026-01-01T00:59:57.000000Z"}));
    assert_eq!((&series[0], &series[7], &series[8]), (&json!("3s"), &json!("10m"), &json!(4)));
    let old = with("deprecatedLastTimestamp", json!("2026-01-01T00:59:58Z"));
    assert_eq!((&old[0], &old[7]), (&json!("2s"), &json!("10m")));
    let old = with("deprecatedFirstTimestamp", json!("2026-01-01T00:59:56Z"));
    assert_eq!((&old[0], &old[7]), (&json!("4s"), &json!("4s")));
    assert_eq!(with("deprecatedSource", json!({"component": "kubelet"}))[5], "kubelet, spotalis-0");
    assert_eq!(with("deprecatedCount", json!(0))[8], 1);
    assert_eq!(with("regarding", json!({"kind": "Node"}))[3], "node");
}

/// READY, STATUS and RESTARTS of a pod of two containers and an init container.
fn pod(status: &Value, deleted: bool) -> [String; 3] {
    let mut pod = json!({
        "spec": {"containers": [{"name": "a"}, {"name": "b"}], "initContainers": [{"name": "i"}]}, "status": status,
    });
    if deleted {
        pod["metadata"] = json!({"deletionTimestamp": NOW});
    }
    let (_, cells) = shown(Kind::Pod, &pod);
    [1, 2, 3].map(|index| cells[index].as_str().unwrap().to_owned())
}

#[test]
fn a_pod_in_one_word() {
    let running = json!({"ready": true, "restartCount": 0, "state": {"running": {}}});
    let starting = json!({"restartCount": 0, "state": {"waiting": {"reason": "ContainerCreating"}}});
    let ended = |exit: i64, reason: &str| json!({"state": {"terminated": {"exitCode": exit, "reason": reason}}});
    let crashed = json!({
        "restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {"terminated": {"finishedAt": "2026-01-01T00:55:00Z", "exitCode": 1}},
    });
    let of = |phase: &str, containers: Value| json!({"phase": phase, "containerStatuses": containers});
    let with = |mut status: Value, key: &str, value: Value| {
        status[key] = value;
        status
    };
    let ready = json!([{"type": "Ready", "status": "True"}]);
    let gated = json!([{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]);
    let init = |state: Value| json!([{"name": "i", "restartCount": 1, "state": state}]);
    let initialized = json!([{"type": "Initialized", "status": "True"}]);
    for (status, deleted, shows) in [
        (json!({"phase": "Pending"}), false, ["0/2", "Pending", "0"]),
        (json!({"phase": "Pending", "conditions": gated}), false, ["0/2", "SchedulingGated", "0"]),
        (of("Pending", json!([starting, starting])), false, ["0/2", "ContainerCreating", "0"]),
        (of("Running", json!([running, running])), false, ["2/2", "Running", "0"]),
        (of("Running", json!([running, running])), true, ["2/2", "Terminating", "0"]),
        (of("Running", json!([running, crashed])), false, ["1/2", "CrashLoopBackOff", "3 (5m ago)"]),
        (of("Running", json!([crashed, running])), false, ["1/2", "CrashLoopBackOff", "3 (5m ago)"]),
        (json!({"phase": "Failed", "reason": "Evicted"}), false, ["0/2", "Evicted", "0"]),
        (json!({"phase": "Failed", "reason": "Evicted"}), true, ["0/2", "Evicted", "0"]),
        (json!({"phase": "Running", "reason": "NodeLost"}), true, ["0/2", "Unknown", "0"]),
        (of("Succeeded", json!([ended(0, "Completed"), ended(0, "Completed")])), false, ["0/2", "Completed", "0"]),
        (of("Running", json!([ended(0, "Completed"), running])), false, ["1/2", "NotReady", "0"]),
        (
            with(of("Running", json!([ended(0, "Completed"), running])), "conditions", ready),
            false,
            ["1/2", "Running", "0"],
        ),
        (of("Failed", json!([ended(0, "Completed"), ended(1, "Error")])), false, ["0/2", "Error", "0"]),
        (of("Failed", json!([ended(3, ""), running])), false, ["1/2", "ExitCode:3", "0"]),
        (
            of("Failed", json!([{"state": {"terminated": {"exitCode": 137, "signal": 9}}}])),
            false,
            ["0/2", "Signal:9", "0"],
        ),
        (
            json!({"phase": "Pending", "initContainerStatuses": init(json!({"running": {}}))}),
            false,
            ["0/2", "Init:0/1", "1"],
        ),
        (
            json!({"phase": "Pending", "initContainerStatuses": init(json!({"waiting": {"reason": "PodInitializing"}}))}),
            false,
            ["0/2", "Init:0/1", "1"],
        ),
        (
            json!({"phase": "Pending", "initContainerStatuses": init(json!({"waiting": {"reason": "ErrImagePull"}}))}),
            false,
            ["0/2", "Init:ErrImagePull", "1"],
        ),
        (
            json!({"phase": "Pending", "initContainerStatuses": init(json!({"terminated": {"exitCode": 2}}))}),
            false,
            ["0/2", "Init:ExitCode:2", "1"],
        ),
        (
            with(
                of("Running", json!([running, running])),
                "initContainerStatuses",
                init(json!({"terminated": {"exitCode": 0}})),
            ),
            false,
            ["2/2", "Running", "0"],
        ),
        (
            json!({
                "phase": "Running", "initContainerStatuses": init(json!({"running": {}})), "conditions": initialized,
                "containerStatuses": [running, running],
            }),
            false,
            ["2/2", "Init:0/1", "0"],
        ),
    ] {
        assert_eq!(pod(&status, deleted), shows, "{status}");
    }
}

#[test]
fn sidecars_are_containers_of_a_pod() {
    let sidecar = |started: bool| {
        json!({
            "spec": {"containers": [{"name": "a"}], "initContainers": [{"name": "s", "restartPolicy": "Always"}]},
            "status": {
                "phase": "Running",
                "initContainerStatuses": [{
                    "name": "s", "started": started, "ready": true, "restartCount": 2, "state": {"running": {}},
                }],
                "containerStatuses": [{"ready": true, "restartCount": 1, "state": {"running": {}}}],
            },
        })
    };
    let (_, cells) = shown(Kind::Pod, &sidecar(true));
    assert_eq!((&cells[1], &cells[2], &cells[3]), (&json!("2/2"), &json!("Running"), &json!("3")));
    let (_, cells) = shown(Kind::Pod, &sidecar(false));
    assert_eq!((&cells[1], &cells[2], &cells[3]), (&json!("0/2"), &json!("Init:0/1"), &json!("2")));
}

#[test]
fn a_wide_pod_says_where_it_is() {
    let heads = "Name | Ready | Status | Restarts | Age | +IP | +Node | +Nominated Node | +Readiness Gates";
    let (said, cells) = shown(Kind::Pod, &json!({"status": {"phase": "Pending"}}));
    assert_eq!(said, heads);
    assert_eq!(cells, json!(["it", "0/0", "Pending", "0", "60s", "<none>", "<none>", "<none>", "<none>"]));
    let (_, cells) = shown(
        Kind::Pod,
        &json!({
            "spec": {"nodeName": "n", "readinessGates": [{"conditionType": "x"}, {"conditionType": "y"}]},
            "status": {
                "phase": "Running", "podIP": "10.0.0.9", "nominatedNodeName": "m",
                "conditions": [{"type": "x", "status": "True"}, {"type": "y", "status": "False"}],
            },
        }),
    );
    assert_eq!(cells.as_array().unwrap()[5..], [json!("10.0.0.9"), "n".into(), "m".into(), "1/2".into()]);
}

#[test]
fn a_row_brings_as_much_of_its_object_as_was_asked_for() {
    let failed = made(Kind::Pod, &json!({"status": {"phase": "Failed"}}));
    let row = |include| terms(include).one(Kind::Pod, &failed, now())["rows"][0].clone();
    assert_eq!(row(Include::Nothing)["object"], Value::Null);
    assert_eq!(row(Include::Whole)["object"], *failed.json());
    let metadata = row(Include::Metadata)["object"].clone();
    assert_eq!((&metadata["kind"], &metadata["status"]), (&json!("PartialObjectMetadata"), &Value::Null));
    assert_eq!(metadata["metadata"], *failed.at("/metadata"));
    assert_eq!(
        row(Include::Nothing)["conditions"],
        json!([{"type": "Completed", "status": "True", "reason": "Failed", "message": "The pod failed."}])
    );
    let running = made(Kind::Pod, &json!({"status": {"phase": "Running"}}));
    assert_eq!(terms(Include::Nothing).one(Kind::Pod, &running, now())["rows"][0].get("conditions"), None);
}
