//! What becomes of manifests: what is simulated, what is skipped, noted, refused.

use super::*;
use crate::whatif::manifests::read;

const NOWHERE: &str = "trial";

fn inventory(text: &str) -> Result<Inventory, String> {
    let assumptions = Assumptions { namespace: NOWHERE.to_owned(), ready_after: Duration::from_secs(10) };
    let manifests = read("a.yaml", text).map_err(|complaints| complaints.to_string())?;
    Inventory::of(manifests, &assumptions).map_err(|complaints| complaints.to_string())
}

fn workload(kind: &str, metadata: &str, replicas: &str, pod: &str) -> String {
    format!(
        "apiVersion: apps/v1\nkind: {kind}\nmetadata: {metadata}\nspec:\n  replicas: {replicas}\n  selector: {{matchLabels: {{app: a}}}}\n  \
         template:\n    metadata: {{labels: {{app: a}}}}\n    spec: {{{pod}}}\n---\n"
    )
}

const CONTAINER: &str = "containers: [{name: a, image: a, resources: {requests: {cpu: 500m, memory: 1Gi}}}]";

fn deployment(metadata: &str, replicas: &str) -> String {
    workload("Deployment", metadata, replicas, CONTAINER)
}

fn names(inventory: &Inventory) -> Vec<String> {
    inventory
        .objects
        .iter()
        .map(|object| format!("{} {}", object["kind"], object["metadata"]["name"]).replace('"', ""))
        .collect()
}

#[test]
fn workloads_are_in_namespaces_and_the_rest_is_counted() {
    let text = deployment("{name: web}", "3")
        + &workload("StatefulSet", "{name: db, namespace: shop}", "2", CONTAINER)
        + "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n---\n\
           {apiVersion: v1, kind: Service, metadata: {name: web}}\n---\n\
           {apiVersion: v1, kind: Service, metadata: {name: db}}\n---\n\
           {apiVersion: keda.sh/v1alpha1, kind: ScaledObject, metadata: {name: web}}\n---\n\
           apiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {name: web}\n\
           spec: {maxUnavailable: 1, selector: {matchLabels: {app: a}}}\n";
    let inventory = inventory(&text).unwrap();
    assert_eq!(
        names(&inventory),
        ["Namespace trial", "Namespace shop", "PodDisruptionBudget web", "Deployment web", "StatefulSet db"]
    );
    let skipped = [("ScaledObject (keda.sh/v1alpha1)".to_owned(), 1), ("Service".to_owned(), 2)];
    assert_eq!(inventory.skipped, BTreeMap::from(skipped));
    assert_eq!(inventory.notes, ["no Namespace manifest for trial: taken as opted in"]);
    let told: Vec<(&str, WorkloadKind, u32)> =
        inventory.workloads.iter().map(|workload| (&*workload.name, workload.kind, workload.replicas)).collect();
    assert_eq!(told, [("shop/db", WorkloadKind::StatefulSet, 2), ("trial/web", WorkloadKind::Deployment, 3)]);
    let web = &inventory.workloads[1];
    assert_eq!((web.cpu, web.memory), (Quantity::parse("500m").unwrap(), Quantity::parse("1Gi").unwrap()));
    assert!(web.object["metadata"]["uid"].is_string(), "as the API server shows it");
    let enabled = |name: &str| {
        let namespace = inventory.namespaces.iter().find(|namespace| namespace["metadata"]["name"] == name).unwrap();
        namespace["metadata"]["labels"]["spotalis.io/enabled"].clone()
    };
    assert_eq!((enabled("trial"), enabled("shop")), (json!("true"), Value::Null));
}

#[test]
fn what_cannot_be_simulated_is_told_with_its_place() {
    let budget = "apiVersion: policy/v1beta1\nkind: PodDisruptionBudget\nmetadata: {name: a}\n";
    let web = deployment("{name: web}", "1");
    for (text, wanted) in [
        (
            deployment("{name: web}", "100000"),
            "a.yaml:5:13: Deployment trial/web: 100000 replicas: at most 5000 are simulated",
        ),
        (
            deployment("{name: a}", "3000") + &deployment("{name: b}", "3000"),
            "the manifests: they have 6000 replicas together: at most 5000 are simulated",
        ),
        (
            deployment("{name: web}", "-1"),
            "a.yaml:5:13: Deployment trial/web: spec.replicas: Invalid value: -1: must be greater than or equal to 0",
        ),
        (deployment("{name: web}", "three"), "a.yaml:5:13: Deployment trial/web: "),
        (deployment("{name: Web}", "1"), "a.yaml:3:18: Deployment trial/Web: metadata.name: Invalid value: \"Web\""),
        (deployment("{name: web, annotations: {a: 70}}", "1"), "a.yaml:3:"),
        (web.replace("replicas:", "replcas:"), "a.yaml:5:12: Deployment trial/web: unknown field \"spec.replcas\""),
        (web.replace("image: a", "image: ''"), "spec.template.spec.containers[0].image: Required value"),
        (deployment("{name: web, namespace: a b}", "1"), "\"a b\" is no name of a namespace"),
        (
            budget.to_owned(),
            "a.yaml:1:13: Kubernetes no longer serves PodDisruptionBudget of policy/v1beta1: write policy/v1",
        ),
        (web.clone() + &web, "a.yaml:13:18: Deployment trial/web: it is at a.yaml:3:18 already"),
        (
            web.clone() + &workload("StatefulSet", "{name: web}", "1", CONTAINER),
            "a.yaml:13:18: StatefulSet trial/web: Deployment trial/web has the same name",
        ),
        (
            "apiVersion: v1\nkind: Namespace\nmetadata:\n  labels: {}\n".to_owned(),
            "a.yaml:4:3: Namespace without metadata.name",
        ),
        ("apiVersion: v1\nkind: Namespace\nmetadata: [a]\n".to_owned(), "a.yaml:3:11: Namespace without metadata.name"),
        (
            deployment("{name: web, namespace: 123}", "1"),
            "a.yaml:3:34: metadata.namespace of this Deployment is 123, which is no text: write \"123\"",
        ),
        (
            deployment("{name: 123}", "1"),
            "a.yaml:3:18: metadata.name of this Deployment is 123, which is no text: write",
        ),
        (
            deployment("{generateName: web-}", "1"),
            "a.yaml:3:11: Deployment without metadata.name: who generates a name is the API server, so give it one here",
        ),
        (
            deployment("{name: web, namespace: Bad_NS}", "1"),
            "a.yaml:3:34: Deployment Bad_NS/web: metadata.namespace: \"Bad_NS\" is no name of a namespace: use small letters",
        ),
        (
            web.replace("500m", "lots"),
            "a.yaml:9:73: Deployment trial/web: spec.template.spec.containers[0].resources.requests[cpu]: quantities must",
        ),
        (
            deployment("{name: web, annotations: {a.b/c: 70}}", "1"),
            "a.yaml:3:44: Deployment trial/web: metadata.annotations[a.b/c]: json: cannot unmarshal number",
        ),
        (
            deployment("{name: web}", "3.5"),
            "a.yaml:5:13: Deployment trial/web: spec.replicas: json: cannot unmarshal number 3.5 into Go struct field",
        ),
        (deployment("{name: web}", "1e5"), "a.yaml:5:13: Deployment trial/web: 100000 replicas: at most"),
        (
            deployment("{name: web}", "1")
                + "apiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nmetadata: {name: web}\nspec:\n  \
                   scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}\n  minReplicas: 30000\n  maxReplicas: 30000\n",
            "a.yaml:5:13: Deployment trial/web: 30000 replicas: at most 5000 are simulated",
        ),
        ("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec: [a]\n".to_owned(), "a.yaml:"),
        (String::new(), "the manifests: neither a Deployment nor a StatefulSet is among them"),
        (
            "{apiVersion: v1, kind: Service, metadata: {name: web}}\n---\n".to_owned()
                + budget.replace("v1beta1", "v1").as_str(),
            "so there is nothing to simulate; there is 1 PodDisruptionBudget (policy/v1), 1 Service",
        ),
    ] {
        let error = inventory(&text).unwrap_err();
        assert!(error.contains(wanted), "wanted {wanted}: {error}");
    }
    let two = inventory(&(deployment("{name: a}", "-1") + &deployment("{name: b}", "-2"))).unwrap_err();
    assert_eq!(two.lines().count(), 2, "all at once: {two}");
}

#[test]
fn what_the_simulation_lacks_is_left_out_and_noted() {
    let pod = format!(
        "priorityClassName: high, serviceAccountName: web, schedulerName: mine, runtimeClassName: kata, \
         readinessGates: [{{conditionType: example.com/a}}], {CONTAINER}"
    );
    let found = inventory(&workload("Deployment", "{name: web}", "1", &pod)).unwrap();
    assert_eq!(names(&found), ["Namespace trial", "ServiceAccount web", "Deployment web"]);
    let spec = &found.objects[2]["spec"]["template"]["spec"];
    let left: Vec<&String> = spec.as_object().unwrap().keys().collect();
    assert_eq!(left, ["containers", "serviceAccountName"]);
    for what in ["priority classes", "readiness gates", "runtime classes", "schedulers but the default one"] {
        let note = format!("there are no {what} in the simulation: 1 of the workloads are simulated without");
        assert!(found.notes.contains(&note), "{note}: {:?}", found.notes);
    }
    let critical = format!("priorityClassName: system-cluster-critical, schedulerName: default-scheduler, {CONTAINER}");
    let kept = inventory(&workload("Deployment", "{name: web}", "1", &critical)).unwrap();
    assert_eq!(kept.notes.len(), 1, "{:?}", kept.notes);
    assert_eq!(
        kept.objects[1]["spec"]["template"]["metadata"]["annotations"]["embedded-cluster/ready-after"],
        "10000ms"
    );
}

#[test]
fn a_set_may_mount_what_it_claims() {
    let pod = CONTAINER.replace("image: a,", "image: a, volumeMounts: [{name: data, mountPath: /data}],");
    let set = workload("StatefulSet", "{name: db}", "1", &pod);
    assert!(inventory(&set).unwrap_err().contains("volumeMounts[0].name: Not found"));
    let claims = "spec:\n  volumeClaimTemplates: [{metadata: {name: data}, spec: {accessModes: [ReadWriteOnce]}}]\n";
    assert_eq!(inventory(&set.replacen("spec:\n", claims, 1)).unwrap().workloads.len(), 1);
}

#[test]
fn a_whole_number_is_one_however_it_is_written() {
    assert_eq!(inventory(&deployment("{name: web}", "3.0")).unwrap().workloads[0].replicas, 3);
    assert_eq!(inventory(&deployment("{name: web}", "1e2")).unwrap().workloads[0].replicas, 100);
}

#[test]
fn what_is_paused_is_simulated_as_if_it_were_not() {
    let paused = deployment("{name: web}", "2").replace("  replicas", "  paused: true\n  replicas");
    let found = inventory(&paused).unwrap();
    assert_eq!(found.objects[1]["spec"]["paused"], false);
    let note = "Deployment trial/web is paused, and is simulated as if it were not: here it would get no pods";
    assert!(found.notes.contains(&note.to_owned()), "{:?}", found.notes);
}

#[test]
fn who_is_about_nothing_that_is_simulated_is_named() {
    let scaler = |name: &str, kind: &str, target: &str, namespace: &str| {
        format!(
            "apiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec:\n  \
             scaleTargetRef: {{apiVersion: apps/v1, kind: {kind}, name: {target}}}\n  maxReplicas: 3\n---\n"
        )
    };
    let budget = |name: &str, selector: &str| {
        format!(
            "apiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {{name: {name}}}\nspec: {{maxUnavailable: 1, selector: {selector}}}\n---\n"
        )
    };
    let text = deployment("{name: web}", "1")
        + &scaler("web", "Deployment", "web", NOWHERE)
        + &scaler("ghost", "Deployment", "nothere", NOWHERE)
        + &scaler("rollout", "Rollout", "web", NOWHERE)
        + &scaler("abroad", "Deployment", "web", "shop")
        + &budget("web", "{matchLabels: {app: a}}")
        + &budget("all", "{}")
        + &budget("nothing", "{matchLabels: {app: b}}");
    let found = inventory(&text).unwrap();
    let note = "without effect, for nothing is simulated that they are about: HorizontalPodAutoscaler trial/ghost of Deployment \
                nothere, HorizontalPodAutoscaler trial/rollout of Rollout web, HorizontalPodAutoscaler shop/abroad of Deployment \
                web, PodDisruptionBudget trial/nothing";
    assert!(found.notes.contains(&note.to_owned()), "{:?}", found.notes);
}

#[test]
fn a_workload_begins_within_the_bounds_of_its_autoscaler() {
    let scaler = |version: &str, spec: &str| {
        format!(
            "apiVersion: autoscaling/{version}\nkind: HorizontalPodAutoscaler\nmetadata: {{name: web}}\nspec:\n  \
             scaleTargetRef: {{apiVersion: apps/v1, kind: Deployment, name: web}}\n  {spec}\n"
        )
    };
    for (replicas, spec, wanted) in [
        ("1", "{version: v2, minReplicas: 3, maxReplicas: 9}", 3),
        ("20", "{version: v1, minReplicas: 3, maxReplicas: 9, targetCPUUtilizationPercentage: 80}", 9),
        ("5", "{version: v2, maxReplicas: 9}", 5),
        ("0", "{version: v2, minReplicas: 3, maxReplicas: 9}", 0),
    ] {
        let (version, rest) = spec.trim_matches(['{', '}']).split_once(", ").unwrap();
        let fields = rest.replace(", ", "\n  ");
        let text = deployment("{name: web}", replicas) + &scaler(version.trim_start_matches("version: "), &fields);
        let inventory = inventory(&text).unwrap();
        assert_eq!(inventory.workloads[0].replicas, wanted, "{replicas} {spec}");
        let noted = inventory.notes.iter().any(|note| note.contains("as its HorizontalPodAutoscaler wants"));
        assert_eq!(noted, replicas != wanted.to_string(), "{:?}", inventory.notes);
    }
}

#[test]
fn what_is_miswritten_is_told_with_what_to_write() {
    let web = deployment("{name: web}", "1");
    for (text, wanted) in [
        (
            web.replace("apps/v1", "v1"),
            "a.yaml:1:13: Kubernetes has no Deployment of v1: write apiVersion: apps/v1, kind: Deployment",
        ),
        (
            web.replace("apps/v1", "apps/v2"),
            "a.yaml:1:13: Kubernetes has no Deployment of apps/v2: write apiVersion: apps/v1, kind: Deployment",
        ),
        (
            web.replace("kind: D", "kind: d"),
            "a.yaml:2:7: Kubernetes has no deployment of apps/v1: write apiVersion: apps/v1, kind: Deployment",
        ),
        (
            web.replace("kind: Deployment", "kind: Statefulset"),
            "a.yaml:2:7: Kubernetes has no Statefulset of apps/v1: write apiVersion: apps/v1, kind: StatefulSet",
        ),
        (deployment("{name: web, annotations: {a.b/c: 70}}", "1"), "of type string; put it in quotes: \"70\""),
        (
            deployment("{name: web, labels: {spotalis.io/enabled: true}}", "1"),
            "a.yaml:3:53: Deployment trial/web: metadata.labels[spotalis.io/enabled]: json: cannot unmarshal bool",
        ),
        (
            deployment("{name: web, labels: {spotalis.io/enabled: true}}", "1"),
            "of type string; put it in quotes: \"true\"",
        ),
    ] {
        let error = inventory(&text).unwrap_err();
        assert!(error.contains(wanted), "wanted {wanted}: {error}");
    }
}

#[test]
fn a_kind_of_the_same_name_in_somebody_elses_group_is_skipped() {
    let theirs = deployment("{name: web}", "1").replace("apps/v1", "example.com/v1");
    let found = inventory(&(deployment("{name: web}", "1") + &theirs)).unwrap();
    assert_eq!(found.skipped, BTreeMap::from([("Deployment (example.com/v1)".to_owned(), 1)]));
}

#[test]
fn several_autoscalers_of_one_workload_are_named_with_what_kubernetes_makes_of_them() {
    let scaler = |name: &str, least: u32, most: u32| {
        format!(
            "apiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nmetadata: {{name: {name}}}\nspec:\n  \
             scaleTargetRef: {{apiVersion: apps/v1, kind: Deployment, name: web}}\n  minReplicas: {least}\n  maxReplicas: {most}\n---\n"
        )
    };
    let told = |scalers: &[String]| {
        let notes = inventory(&(deployment("{name: web}", "4") + &scalers.concat())).unwrap().notes;
        notes.into_iter().filter(|note| note.contains("AmbiguousSelector")).collect::<Vec<_>>()
    };
    let both = told(&[scaler("a", 2, 9), scaler("b", 3, 5)]);
    let wanted = "2 HorizontalPodAutoscalers are about Deployment trial/web, a and b: Kubernetes scales it by the metrics of none \
                  of them (AmbiguousSelector), and only keeps it within the bounds of all of them; keep one of them";
    assert_eq!(both, [wanted]);
    let apart = told(&[scaler("a", 2, 3), scaler("b", 5, 6)]);
    assert!(apart[0].contains("back and forth between their bounds, which contradict each other"), "{apart:?}");
    assert_eq!(told(&[scaler("a", 2, 3)]), [""; 0]);
}

#[test]
fn files_count_before_the_cluster() {
    let of = |origin: Origin, replicas: u32| {
        let text = deployment("{name: web, namespace: shop}", &replicas.to_string());
        Manifest { origin, ..read("a.yaml", &text).unwrap().remove(0) }
    };
    let from_file = |replicas| read("a.yaml", &deployment("{name: web, namespace: shop}", replicas)).unwrap().remove(0);
    let assumptions = Assumptions { namespace: NOWHERE.to_owned(), ready_after: Duration::ZERO };
    for manifests in [vec![of(Origin::Cluster, 7), from_file("3")], vec![from_file("3"), of(Origin::Cluster, 7)]] {
        let inventory = Inventory::of(manifests, &assumptions).unwrap();
        assert_eq!(inventory.workloads.iter().map(|workload| workload.replicas).collect::<Vec<_>>(), [3]);
    }
    let error = Inventory::of(vec![of(Origin::Cluster, 30_000)], &assumptions).unwrap_err().to_string();
    assert_eq!(error, "Deployment shop/web: 30000 replicas: at most 5000 are simulated");
}

#[test]
fn an_object_of_a_cluster_is_stripped_of_what_the_cluster_added() {
    let object = json!({
        "metadata": {
            "name": "web", "namespace": "shop", "uid": "u", "resourceVersion": "7", "generation": 3,
            "creationTimestamp": "2026-01-01T00:00:00Z", "managedFields": [{}], "finalizers": ["a/b"],
            "ownerReferences": [{"uid": "o"}], "labels": {"a": "b"},
            "annotations": {"deployment.kubernetes.io/revision": "4", "c": "d",
                            "kubectl.kubernetes.io/last-applied-configuration": "{}"},
        },
        "spec": {"replicas": 3}, "status": {"replicas": 3},
    });
    let wanted = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "shop", "labels": {"a": "b"}, "annotations": {"c": "d"}},
        "spec": {"replicas": 3},
    });
    assert_eq!(stripped("Deployment", "apps/v1", &object), Some(wanted));
    let mut ending = object.clone();
    ending["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    assert_eq!(stripped("Deployment", "apps/v1", &ending), None);
    let namespace = json!({"metadata": {"name": "shop"}, "spec": {"finalizers": ["kubernetes"]}});
    let wanted = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}});
    assert_eq!(stripped("Namespace", "v1", &namespace), Some(wanted));
}

#[test]
fn what_a_cluster_added_to_a_file_is_no_mistake_and_other_kinds_need_no_name() {
    let metadata = "{name: web, uid: u, resourceVersion: \"7\", generation: 3, creationTimestamp: \"2026-01-01T00:00:00Z\", \
                    managedFields: [{manager: a}], ownerReferences: [{apiVersion: a/v1, kind: A, name: a, uid: o}]}";
    let text = deployment(metadata, "1").replace("spec:\n", "status: {replicas: 1}\nspec:\n")
        + "{apiVersion: kustomize.config.k8s.io/v1beta1, kind: Kustomization, resources: [web.yaml]}\n";
    let inventory = inventory(&text).unwrap();
    let metadata = &inventory.objects[1]["metadata"];
    assert_eq!(*metadata, json!({"name": "web", "namespace": NOWHERE}));
    assert_eq!(inventory.skipped.keys().collect::<Vec<_>>(), ["Kustomization (kustomize.config.k8s.io/v1beta1)"]);
}

#[test]
fn a_namespace_of_the_cluster_is_there_for_whoever_uses_it() {
    let namespace = |name: &str| {
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        Manifest { object, origin: Origin::Cluster }
    };
    let web = read("a.yaml", &deployment("{name: web, namespace: used}", "1")).unwrap().remove(0);
    let assumptions = Assumptions { namespace: NOWHERE.to_owned(), ready_after: Duration::ZERO };
    let inventory = Inventory::of(vec![namespace("idle"), namespace("used"), web], &assumptions).unwrap();
    assert_eq!(names(&inventory), ["Namespace used", "Deployment web"]);
    assert_eq!(inventory.notes, [""; 0], "it is known not to be opted in");
}
