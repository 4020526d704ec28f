//! Which nodes a pod may go to by what both say: node selectors, node affinity, taints and tolerations.
//!
//! It knows nothing of room on nodes or of other pods; that is the scheduler's.

use serde_json::Value;

use crate::object::Object;
use crate::selector::Requirement;

/// A taint of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taint<'o> {
    /// `key`
    pub key: &'o str,
    /// `value`; empty if there is none.
    pub value: &'o str,
    /// `effect`
    pub effect: &'o str,
}

/// Reads a taint.
pub fn taint(value: &Value) -> Taint<'_> {
    let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default();
    Taint { key: text("key"), value: text("value"), effect: text("effect") }
}

/// The taints of a node.
pub fn taints(node: &Object) -> impl Iterator<Item = Taint<'_>> {
    node.list("/spec/taints").iter().map(taint)
}

/// Whether a toleration tolerates a taint.
pub fn tolerates(toleration: &Value, taint: Taint<'_>) -> bool {
    let text = |key: &str| toleration.get(key).and_then(Value::as_str).unwrap_or_default();
    let (key, effect) = (text("key"), text("effect"));
    if !effect.is_empty() && effect != taint.effect || !key.is_empty() && key != taint.key {
        return false;
    }
    match text("operator") {
        "Exists" => true,
        "" | "Equal" => !key.is_empty() && text("value") == taint.value,
        _ => false,
    }
}

/// The first taint of a node that keeps a pod from being scheduled there.
pub fn untolerated<'n>(pod: &Object, node: &'n Object) -> Option<Taint<'n>> {
    let repels = |taint: &Taint<'_>| matches!(taint.effect, "NoSchedule" | "NoExecute");
    let tolerations = pod.list("/spec/tolerations");
    taints(node).filter(repels).find(|taint| !tolerations.iter().any(|toleration| tolerates(toleration, *taint)))
}

/// Whether a pod's `nodeSelector` and its required node affinity allow a node.
pub fn wants(pod: &Object, node: &Object) -> bool {
    let selector = pod.at("/spec/nodeSelector").as_object();
    let selected = selector.into_iter().flatten().all(|(key, value)| node.label(key) == value.as_str());
    let required = pod.at("/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution");
    selected && (required.is_null() || any_term(&required["nodeSelectorTerms"], node))
}

fn any_term(terms: &Value, node: &Object) -> bool {
    terms.as_array().into_iter().flatten().any(|term| term_matches(term, node))
}

/// Whether a node selector term matches a node. One without conditions matches none, and so does one that cannot be read.
pub fn term_matches(term: &Value, node: &Object) -> bool {
    let requirements = |key: &str| term[key].as_array().map_or(&[][..], Vec::as_slice);
    let (labels, fields) = (requirements("matchExpressions"), requirements("matchFields"));
    let allowed = |requirement: &Value, value: &dyn Fn(&str) -> Option<String>| {
        Requirement::parse(requirement).is_ok_and(|requirement| requirement.allows(value(requirement.key()).as_deref()))
    };
    let label = |key: &str| node.label(key).map(str::to_owned);
    let field = |key: &str| (key == "metadata.name").then(|| node.name().to_owned());
    labels.len() + fields.len() > 0
        && labels.iter().all(|requirement| allowed(requirement, &label))
        && fields.iter().all(|requirement| allowed(requirement, &field))
}

/// How much a pod prefers a node: the weights of its preferred terms that match. An empty term is an exception to the rule
/// above: preferred, it matches every node.
pub fn preference(pod: &Object, node: &Object) -> i64 {
    let terms = pod.list("/spec/affinity/nodeAffinity/preferredDuringSchedulingIgnoredDuringExecution");
    let matching = terms.iter().filter(|term| is_empty(&term["preference"]) || term_matches(&term["preference"], node));
    matching.map(|term| term["weight"].as_i64().unwrap_or(0)).sum()
}

fn is_empty(term: &Value) -> bool {
    let none = |key: &str| term[key].as_array().is_none_or(Vec::is_empty);
    none("matchExpressions") && none("matchFields")
}

/// How many taints of a node with the effect `PreferNoSchedule` a pod does not tolerate.
pub fn unwelcome(pod: &Object, node: &Object) -> usize {
    let tolerations = pod.list("/spec/tolerations");
    let soft = taints(node).filter(|taint| taint.effect == "PreferNoSchedule");
    soft.filter(|taint| !tolerations.iter().any(|toleration| tolerates(toleration, *taint))).count()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tolerations_tolerate() {
        let taint = Taint { key: "k", value: "v", effect: "NoExecute" };
        for (toleration, expected) in [
            (json!({"operator": "Exists"}), true),
            (json!({"key": "k", "operator": "Exists"}), true),
            (json!({"key": "k", "operator": "Exists", "effect": "NoSchedule"}), false),
            (json!({"key": "j", "operator": "Exists"}), false),
            (json!({"key": "k", "value": "v"}), true),
            (json!({"key": "k", "value": "w", "operator": "Equal"}), false),
            (json!({"key": "k", "value": "v", "effect": "NoExecute"}), true),
            (json!({"key": "k", "operator": "Perhaps"}), false),
            (json!({}), false),
        ] {
            assert_eq!(tolerates(&toleration, taint), expected, "{toleration}");
        }
    }

    fn node() -> Object {
        Object::from(json!({
            "metadata": {"name": "n", "labels": {"zone": "a", "size": "4"}},
            "spec": {"taints": [{"key": "soft", "effect": "PreferNoSchedule"}, {"key": "hard", "value": "1", "effect": "NoSchedule"}]},
        }))
    }

    #[test]
    fn terms_match_by_all_their_conditions_and_an_empty_one_matches_nothing() {
        let with =
            |key: &str, operator: &str, value: &str| json!({"key": key, "operator": operator, "values": [value]});
        for (term, expected) in [
            (json!({}), false),
            (json!({"matchExpressions": []}), false),
            (json!({"matchExpressions": [with("zone", "In", "a")]}), true),
            (json!({"matchExpressions": [with("zone", "In", "a"), with("size", "Gt", "4")]}), false),
            (json!({"matchExpressions": [with("size", "Lt", "5")]}), true),
            (json!({"matchExpressions": [with("zone", "Odd", "a")]}), false),
            (json!({"matchFields": [with("metadata.name", "In", "n")]}), true),
            (json!({"matchFields": [with("metadata.name", "NotIn", "n")]}), false),
            (
                json!({"matchFields": [with("metadata.name", "In", "n")], "matchExpressions": [with("zone", "In", "b")]}),
                false,
            ),
        ] {
            assert_eq!(term_matches(&term, &node()), expected, "{term}");
        }
    }

    #[test]
    fn a_pod_wants_what_selector_and_affinity_both_allow() {
        let affinity = |terms: Value| json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}});
        let zone = |zone: &str| json!({"matchExpressions": [{"key": "zone", "operator": "In", "values": [zone]}]});
        for (spec, expected) in [
            (json!({}), true),
            (json!({"nodeSelector": {"zone": "a"}}), true),
            (json!({"nodeSelector": {"zone": "b"}}), false),
            (json!({"affinity": affinity(json!([zone("b"), zone("a")]))}), true),
            (json!({"affinity": affinity(json!([{}]))}), false),
            (json!({"affinity": affinity(json!([{}, zone("a")])), "nodeSelector": {"size": "5"}}), false),
        ] {
            assert_eq!(wants(&Object::from(json!({"spec": spec})), &node()), expected, "{spec}");
        }
    }

    #[test]
    fn hard_taints_repel_and_soft_ones_and_preferences_are_counted() {
        let pod = |tolerations: Value| Object::from(json!({"spec": {"tolerations": tolerations}}));
        assert_eq!(untolerated(&pod(json!([])), &node()).map(|taint| taint.key), Some("hard"));
        assert_eq!(untolerated(&pod(json!([{"key": "hard", "operator": "Exists"}])), &node()), None);
        assert_eq!(unwelcome(&pod(json!([])), &node()), 1);
        assert_eq!(unwelcome(&pod(json!([{"operator": "Exists"}])), &node()), 0);
        let zone = |zone: &str| json!({"matchExpressions": [{"key": "zone", "operator": "In", "values": [zone]}]});
        let preferred = json!([{"weight": 7, "preference": zone("a")}, {"weight": 50, "preference": zone("b")}, {"weight": 1, "preference": {}}]);
        let pod = json!({"spec": {"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}}}});
        assert_eq!(preference(&Object::from(pod), &node()), 8);
    }
}
