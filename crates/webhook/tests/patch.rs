//! Patches are applied by a JSON Patch implementation that is not ours, and the pod that comes out is looked at.

#![expect(clippy::unwrap_used, reason = "a helper of tests fails like a test")]

use proptest::prelude::*;
use serde_json::{Value, json};
use spotalis_core::capacity::CapacityType;
use spotalis_core::class::{CapacityClasses, Preset};
use spotalis_core::policy::Placement;
use spotalis_core::steering::{OnConflict, Steering, SteeringRules, steer};
use spotalis_webhook::patch::PodPatch;
use spotalis_webhook::wire::{Pod, parse};

const LABEL: &str = "spotalis.io/capacity-type";
const ANNOTATION: &str = "odd~key/with/slashes";
const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

fn body(pod: &Value) -> Vec<u8> {
    let kind = json!({"group": "", "version": "v1", "kind": "Pod"});
    let request = json!({"uid": "u", "kind": kind, "operation": "CREATE", "object": pod});
    serde_json::to_vec(&json!({ "request": request })).unwrap()
}

fn patch_of(pod: &Pod<'_>, wanted: CapacityType, classes: &CapacityClasses, rules: SteeringRules) -> Option<Vec<u8>> {
    let patch = PodPatch::new(pod).label(LABEL, wanted.as_str()).annotation(ANNOTATION, "7").annotation("b", "");
    match steer(&pod.placement, wanted, classes, rules) {
        Steering::Amend(amendment) => patch.amend(&amendment).into_bytes(),
        Steering::Satisfied => patch.into_bytes(),
        Steering::Bound | Steering::Conflict(_) => None,
    }
}

/// The pod after admission.
fn admitted(pod: &Value, wanted: CapacityType, classes: &CapacityClasses, rules: SteeringRules) -> Value {
    let body = body(pod);
    let review = parse(&body).unwrap();
    let mut admitted = pod.clone();
    if let Some(patch) = patch_of(&review.pod.unwrap(), wanted, classes, rules) {
        json_patch::patch(&mut admitted, &serde_json::from_slice::<json_patch::Patch>(&patch).unwrap()).unwrap();
    }
    admitted
}

const RULES: SteeringRules = SteeringRules { placement: Placement::Required, on_conflict: OnConflict::Respect };

#[test]
fn a_bare_pod_gets_all_parents() {
    let preferred = SteeringRules { placement: Placement::Preferred, ..RULES };
    let metadata = json!({"labels": {LABEL: "spot"}, "annotations": {ANNOTATION: "7", "b": ""}});
    let toleration = json!({"key": "kubernetes.azure.com/scalesetpriority", "operator": "Equal", "value": "spot",
                            "effect": "NoSchedule"});
    let is_spot = json!({"key": "kubernetes.azure.com/scalesetpriority", "operator": "In", "values": ["spot"]});
    let preference = json!({"weight": 100, "preference": {"matchExpressions": [is_spot]}});
    for bare in [
        json!({"metadata": {}, "spec": {}}),
        json!({"metadata": {"labels": null, "annotations": null},
               "spec": {"nodeSelector": null, "affinity": null, "tolerations": null}}),
    ] {
        let mut expected = bare.clone();
        expected["metadata"] = metadata.clone();
        expected["spec"]["tolerations"] = json!([toleration]);
        let mut by_selector = expected.clone();
        by_selector["spec"]["nodeSelector"] = json!({"kubernetes.azure.com/scalesetpriority": "spot"});
        let aks = CapacityClasses::preset(Preset::Aks);
        assert_eq!(admitted(&bare, CapacityType::Spot, &aks, RULES), by_selector);

        expected["spec"]["affinity"] = json!({"nodeAffinity": {PREFERRED: [preference]}});
        assert_eq!(admitted(&bare, CapacityType::Spot, &aks, preferred), expected);
    }
}

#[test]
fn what_is_there_is_added_to() {
    let gke = CapacityClasses::preset(Preset::Gke);
    let absent = json!({"key": "cloud.google.com/gke-spot", "operator": "DoesNotExist"});
    let zone = json!({"key": "zone", "operator": "In", "values": ["a"]});
    let field = json!({"key": "metadata.name", "operator": "In", "values": ["n"]});
    let pod = json!({
        "metadata": {"labels": {"app": "web", LABEL: "spot"}, "annotations": {}},
        "spec": {"affinity": {"podAffinity": {}, "nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [
            {"matchExpressions": [zone]}, {}, {"matchFields": [field]}]}}}},
    });
    let expected = json!({
        "metadata": {"labels": {"app": "web", LABEL: "on-demand"}, "annotations": {ANNOTATION: "7", "b": ""}},
        "spec": {"affinity": {"podAffinity": {}, "nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [
            {"matchExpressions": [zone, absent]}, {}, {"matchFields": [field], "matchExpressions": [absent]}]}}}},
    });
    assert_eq!(admitted(&pod, CapacityType::OnDemand, &gke, RULES), expected);
}

#[test]
fn override_replaces_or_removes_the_entry() {
    let rules = SteeringRules { on_conflict: OnConflict::Override, ..RULES };
    let karpenter = CapacityClasses::preset(Preset::Karpenter);
    let pod = json!({"metadata": {}, "spec": {"nodeSelector": {"karpenter.sh/capacity-type": "spot", "zone": "a"}}});
    let spec = admitted(&pod, CapacityType::OnDemand, &karpenter, rules)["spec"].take();
    assert_eq!(spec, json!({"nodeSelector": {"karpenter.sh/capacity-type": "on-demand", "zone": "a"}}));

    let gke = CapacityClasses::preset(Preset::Gke);
    let pod = json!({"metadata": {}, "spec": {"nodeSelector": {"cloud.google.com/gke-spot": "true"}}});
    let absent = json!({"key": "cloud.google.com/gke-spot", "operator": "DoesNotExist"});
    let affinity = json!({"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [{"matchExpressions": [absent]}]}}});
    let spec = admitted(&pod, CapacityType::OnDemand, &gke, rules)["spec"].take();
    assert_eq!(spec, json!({"nodeSelector": {}, "affinity": affinity}));
}

/// A member that is absent, null, or this.
fn maybe(inner: impl Strategy<Value = Value> + 'static) -> BoxedStrategy<Option<Value>> {
    prop_oneof![Just(None), Just(Some(Value::Null)), inner.prop_map(Some)].boxed()
}

fn object<const N: usize>(members: [(&'static str, BoxedStrategy<Option<Value>>); N]) -> BoxedStrategy<Value> {
    let (names, members): (Vec<_>, Vec<_>) = members.into_iter().unzip();
    members
        .prop_map(move |values| {
            let present = names.iter().zip(values).filter_map(|(name, value)| Some(((*name).to_owned(), value?)));
            Value::Object(present.collect())
        })
        .boxed()
}

fn list(item: impl Strategy<Value = Value> + 'static) -> BoxedStrategy<Value> {
    proptest::collection::vec(item, 0..3).prop_map(Value::Array).boxed()
}

fn map(keys: &'static [&'static str], values: &'static [&'static str]) -> BoxedStrategy<Value> {
    let entry = (proptest::sample::select(keys), proptest::sample::select(values));
    proptest::collection::vec(entry, 0..3)
        .prop_map(|entries| entries.into_iter().map(|(key, value)| (key.to_owned(), json!(value))).collect())
        .boxed()
}

const KEYS: &[&str] = &["zone", "cloud.google.com/gke-spot", "karpenter.sh/capacity-type"];
const VALUES: &[&str] = &["a", "true", "spot", "on-demand"];

fn a_term() -> BoxedStrategy<Value> {
    let key = || proptest::sample::select(KEYS);
    let with_values = (key(), proptest::sample::select(&["In", "NotIn"][..]), proptest::sample::select(VALUES))
        .prop_map(|(key, operator, value)| json!({"key": key, "operator": operator, "values": [value]}));
    let without = (key(), proptest::sample::select(&["Exists", "DoesNotExist"][..]))
        .prop_map(|(key, operator)| json!({"key": key, "operator": operator}));
    let field = Just(json!({"key": "metadata.name", "operator": "In", "values": ["n"]}));
    object([
        ("matchExpressions", maybe(list(prop_oneof![3 => with_values, 1 => without]))),
        ("matchFields", maybe(list(field))),
    ])
}

fn a_pod() -> BoxedStrategy<Value> {
    let preference = a_term().prop_map(|term| json!({"weight": 100, "preference": term}));
    let node_affinity = object([
        (REQUIRED, maybe(object([("nodeSelectorTerms", maybe(list(a_term())))]))),
        (PREFERRED, maybe(list(preference))),
    ]);
    let affinity =
        object([("nodeAffinity", maybe(node_affinity)), ("podAntiAffinity", maybe(Just(json!({"x": [1]}))))]);
    let toleration = Just(json!({"key": "a", "operator": "Exists", "tolerationSeconds": 3}));
    let own = &[LABEL, ANNOTATION, "app"];
    object([
        (
            "metadata",
            object([("labels", maybe(map(own, VALUES))), ("annotations", maybe(map(own, VALUES)))])
                .prop_map(Some)
                .boxed(),
        ),
        (
            "spec",
            object([
                ("nodeSelector", maybe(map(KEYS, VALUES))),
                ("affinity", maybe(affinity)),
                ("tolerations", maybe(list(toleration))),
                ("containers", maybe(Just(json!([{"name": "c"}])))),
            ])
            .prop_map(Some)
            .boxed(),
        ),
    ])
}

/// Whether everything of `before` is still in its place; items may follow in lists, members in objects.
fn extends(before: &Value, after: &Value) -> bool {
    match (before, after) {
        (Value::Null, _) => true,
        (Value::Object(before), Value::Object(after)) => {
            before.iter().all(|(key, value)| after.get(key).map_or(value.is_null(), |after| extends(value, after)))
        }
        (Value::Array(before), Value::Array(after)) => {
            before.len() <= after.len() && before.iter().zip(after).all(|(before, after)| extends(before, after))
        }
        (before, after) => before == after,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, ..ProptestConfig::default() })]

    #[test]
    fn the_admitted_pod_is_the_users_pod_and_needs_nothing_more(
        pod in a_pod(),
        preset in proptest::sample::select(&Preset::ALL[..]),
        wanted in proptest::sample::select(&CapacityType::ALL[..]),
        placement in proptest::sample::select(&[Placement::Required, Placement::Preferred][..]),
    ) {
        let classes = CapacityClasses::preset(preset);
        let rules = SteeringRules { placement, on_conflict: OnConflict::Respect };
        let before = body(&pod);
        let steering = steer(&parse(&before).unwrap().pod.unwrap().placement, wanted, &classes, rules);
        let after = admitted(&pod, wanted, &classes, rules);

        prop_assert!(extends(&pod["spec"], &after["spec"]), "{after}");
        if matches!(steering, Steering::Conflict(_)) {
            prop_assert_eq!(&after, &pod);
            return Ok(());
        }
        prop_assert_eq!(&after["metadata"]["labels"][LABEL], wanted.as_str());
        prop_assert_eq!(&after["metadata"]["annotations"][ANNOTATION], "7");
        prop_assert_eq!(&after["metadata"]["annotations"]["b"], "");

        let again = body(&after);
        let pod = parse(&again).unwrap().pod.unwrap();
        prop_assert_eq!(steer(&pod.placement, wanted, &classes, rules), Steering::Satisfied);
        prop_assert_eq!(patch_of(&pod, wanted, &classes, rules), None);
    }
}
