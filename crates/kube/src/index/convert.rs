//! From the words of the wire to the types of `spotalis-core`. Nothing is judged; what cannot be read is left out.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use spotalis_core::capacity::CapacityType;
use spotalis_core::class::{TaintEffect, Toleration, TolerationOperator};
use spotalis_core::fit::{Demand, Resources, Taint, parse_quantity};
use spotalis_core::selector::{Labels, Operator, Requirement, Selector};
use spotalis_core::steering::{NodeTerm, PodPlacement, PodToleration};

use crate::names;
use crate::slim;

/// `spec.replicas`, whose absence means one.
pub(super) fn replicas(replicas: Option<i32>) -> u32 {
    u32::try_from(replicas.unwrap_or(1)).unwrap_or(0)
}

/// An unreadable operator makes a requirement that nothing meets: the API server lets none through.
fn requirement(expression: &slim::Expression) -> Requirement {
    let slim::Expression { key, operator, values } = expression;
    let number = || values.first().and_then(|value| value.parse().ok());
    let nothing = Operator::In(std::collections::BTreeSet::new());
    let operator = match &**operator {
        "In" => Operator::In(values.iter().cloned().collect()),
        "NotIn" => Operator::NotIn(values.iter().cloned().collect()),
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        "Gt" => number().map_or(nothing, Operator::Gt),
        "Lt" => number().map_or(nothing, Operator::Lt),
        _ => nothing,
    };
    Requirement { key: key.clone(), operator }
}

/// A label selector.
pub(super) fn selector(selector: &slim::LabelSelector) -> Selector {
    let equalities = selector
        .match_labels
        .iter()
        .map(|(key, value)| Requirement { key: key.clone(), operator: Operator::In([value.clone()].into()) });
    Selector { requirements: equalities.chain(selector.match_expressions.iter().map(requirement)).collect() }
}

fn terms(spec: &slim::PodSpec) -> Option<&[slim::NodeSelectorTerm]> {
    let affinity = spec.affinity.as_ref()?.node_affinity.as_ref()?;
    Some(&affinity.required_during_scheduling_ignored_during_execution.as_ref()?.node_selector_terms)
}

/// What a template or pod says about where it wants to run; preferences are left out, for they exclude nothing.
pub(super) fn placement(spec: &slim::PodSpec) -> PodPlacement<'_> {
    let text = |text: &'_ str| (!text.is_empty()).then(|| Cow::Owned(text.to_owned()));
    let node_selector: BTreeMap<_, _> =
        spec.node_selector.iter().map(|(key, value)| (Cow::Borrowed(&**key), Cow::Borrowed(&**value))).collect();
    let required = terms(spec).map(|terms| {
        terms
            .iter()
            .map(|term| NodeTerm {
                expressions: Some(term.match_expressions.iter().map(requirement).collect()),
                has_fields: !term.match_fields.is_empty(),
            })
            .collect()
    });
    let tolerations = spec.tolerations.iter().map(|toleration| PodToleration {
        key: toleration.key.as_deref().map(Cow::Borrowed),
        operator: text(&toleration.operator),
        value: toleration.value.as_deref().map(Cow::Borrowed),
        effect: text(&toleration.effect),
    });
    PodPlacement {
        node_name: text(&spec.node_name),
        node_selector: Some(node_selector),
        required,
        preferred: None,
        tolerations: Some(tolerations.collect()),
    }
}

fn toleration(toleration: &slim::Toleration) -> Toleration {
    Toleration {
        key: toleration.key.clone().filter(|key| !key.is_empty()),
        operator: if &*toleration.operator == "Exists" {
            TolerationOperator::Exists
        } else {
            TolerationOperator::Equal
        },
        value: toleration.value.clone(),
        effect: TaintEffect::parse(&toleration.effect),
        toleration_seconds: toleration.toleration_seconds,
    }
}

/// What one pod of this template asks of a node of the class whose tolerations are `class`.
pub(super) fn demand(template: &slim::Template, class: &[Toleration]) -> Demand {
    let spec = &template.spec;
    let node_affinity = terms(spec)
        .map(|terms| terms.iter().map(|term| term.match_expressions.iter().map(requirement).collect()).collect());
    let apart = spec
        .affinity
        .iter()
        .filter_map(|affinity| affinity.pod_anti_affinity.as_ref())
        .flat_map(|away| &away.required_during_scheduling_ignored_during_execution)
        .filter(|term| term.label_selector.as_ref().is_some_and(|own| selector(own).matches(&template.metadata.labels)))
        .map(|term| term.topology_key.clone())
        .collect();
    Demand {
        requests: requests(spec),
        node_selector: spec.node_selector.clone(),
        node_affinity,
        tolerations: spec.tolerations.iter().map(toleration).chain(class.iter().cloned()).collect(),
        apart,
    }
}

/// What the scheduler reserves for a pod: all containers and sidecars together, or the largest init container beside the
/// sidecars started before it, whichever is more; plus overhead.
///
/// <https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/#resource-sharing-within-containers>
pub(super) fn requests(spec: &slim::PodSpec) -> Resources {
    let mut sidecars = Resources::default();
    let mut starting = Resources::default();
    for container in &spec.init_containers {
        let own = resources(&container.resources.requests);
        let mut beside = sidecars.clone();
        beside.add(&own);
        starting.raise_to(&beside);
        if &*container.restart_policy == "Always" {
            sidecars.add(&own);
        }
    }
    let mut running = sidecars;
    spec.containers.iter().for_each(|container| running.add(&resources(&container.resources.requests)));
    running.raise_to(&starting);
    running.add(&resources(&spec.overhead));
    running
}

/// A resource list.
pub(super) fn resources(list: &BTreeMap<Box<str>, slim::Quantity>) -> Resources {
    let mut resources = Resources::default();
    for (name, slim::Quantity(text)) in list {
        match &**name {
            "cpu" => resources.cpu = parse_quantity(text, 1_000).unwrap_or(0),
            "memory" => resources.memory = parse_quantity(text, 1).unwrap_or(0),
            // The scheduler counts pods by their number, not by what they say.
            "pods" => {}
            other => {
                resources.other.insert(Arc::from(other), parse_quantity(text, 1).unwrap_or(0));
            }
        }
    }
    resources
}

/// The taints of a node that are in force; an unknown effect keeps nobody away.
pub(super) fn taints(node: &slim::Node) -> Vec<Taint> {
    let taint = |taint: &slim::Taint| {
        let effect = TaintEffect::parse(&taint.effect)?;
        Some(Taint { key: taint.key.clone(), value: taint.value.clone(), effect })
    };
    node.spec.taints.iter().filter_map(taint).collect()
}

/// Whether a condition is true.
pub(super) fn is_true(conditions: &[slim::Condition], kind: &str) -> bool {
    conditions.iter().any(|condition| &*condition.r#type == kind && &*condition.status == "True")
}

/// Whether a NodePool makes nodes of this type: its requirements allow it, it may still grow, it is not about to go, and
/// it is not reported as not Ready.
pub(super) fn provides(pool: &slim::NodePool, capacity: CapacityType) -> bool {
    let not_ready =
        pool.status.conditions.iter().any(|condition| &*condition.r#type == "Ready" && &*condition.status == "False");
    let label: Labels = [(names::KARPENTER_CAPACITY_TYPE.into(), capacity.as_str().into())].into();
    // Without a word about it, Karpenter makes on-demand nodes.
    let requirements = &pool.spec.template.spec.requirements;
    let mut about = requirements.iter().filter(|r| &*r.key == names::KARPENTER_CAPACITY_TYPE).peekable();
    let allowed = match about.peek() {
        None => capacity == CapacityType::OnDemand,
        Some(_) => about.all(|expression| requirement(expression).matches(&label)),
    };
    allowed && !not_ready && !is_full(pool) && pool.metadata.deletion_timestamp.is_none()
}

/// Whether the nodes of a NodePool have as much of a resource as they may. A limit that cannot be read is none.
fn is_full(pool: &slim::NodePool) -> bool {
    let amount = |slim::Quantity(text): &slim::Quantity| parse_quantity(text, 1_000);
    pool.spec.limits.iter().any(|(name, limit)| {
        let there = pool.status.resources.get(name).and_then(amount).unwrap_or(0);
        amount(limit).is_some_and(|limit| there >= limit)
    })
}
