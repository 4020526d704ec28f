//! Decides what a new pod needs so that it lands on the wanted type of capacity.
//!
//! The user's own constraints are kept. What this adds only ever narrows them to the nodes of the wanted class, and
//! only where at least one imaginable node is left; otherwise the pod is left alone and the answer says which
//! constraint stood in the way. Whether two constraints leave a node is decided exactly, key by key, by what one node
//! label may still be, never by comparing texts: so a pod that is steered already needs nothing more.
//!
//! Nothing here looks at nodes that exist, counts pods or chooses a type.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::capacity::CapacityType;
use crate::class::{CapacityClass, CapacityClasses, TaintEffect, Toleration, TolerationOperator};
use crate::policy::Placement;
use crate::selector::{Operator, Requirement, Selector};

/// The weight of a preferred term of ours: the highest that Kubernetes allows.
pub const PREFERRED_WEIGHT: i32 = 100;

/// `spec.nodeSelector`.
pub type NodeSelector<'a> = BTreeMap<Cow<'a, str>, Cow<'a, str>>;

/// What a pod says about where it wants to run. `None` is an absent field, which a patch must create first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodPlacement<'a> {
    /// `spec.nodeName`; `None` where it is empty.
    pub node_name: Option<Cow<'a, str>>,
    /// `spec.nodeSelector`: all entries must hold.
    pub node_selector: Option<NodeSelector<'a>>,
    /// The terms of the required node affinity: one of them must hold.
    pub required: Option<Vec<NodeTerm>>,
    /// The preferred node affinity.
    pub preferred: Option<Vec<PreferredTerm>>,
    /// `spec.tolerations`.
    pub tolerations: Option<Vec<PodToleration<'a>>>,
}

/// One node selector term: all of its requirements must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeTerm {
    /// `matchExpressions`.
    pub expressions: Option<Vec<Requirement>>,
    /// Whether `matchFields` has entries. They speak of the node's name, which is on no label, so they neither help nor
    /// contradict a class; but they make a term without expressions match something.
    pub has_fields: bool,
}

impl NodeTerm {
    fn expressions(&self) -> &[Requirement] {
        self.expressions.as_deref().unwrap_or_default()
    }

    /// A term without requirements matches no node at all (Kubernetes API reference, `NodeSelectorTerm`).
    fn matches_nothing(&self) -> bool {
        self.expressions().is_empty() && !self.has_fields
    }
}

/// One preferred node affinity term.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreferredTerm {
    /// 1 to 100.
    pub weight: i32,
    /// What is preferred.
    pub term: NodeTerm,
}

/// One of the pod's tolerations, as written; `None` and the empty text mean the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodToleration<'a> {
    /// `key`.
    pub key: Option<Cow<'a, str>>,
    /// `operator`; absent is `Equal`.
    pub operator: Option<Cow<'a, str>>,
    /// `value`.
    pub value: Option<Cow<'a, str>>,
    /// `effect`; absent is every effect.
    pub effect: Option<Cow<'a, str>>,
}

impl PodToleration<'_> {
    /// Whether the pod wrote this very toleration. `tolerationSeconds` does not count: where several tolerations match
    /// a taint Kubernetes takes the shortest, so ours beside theirs would change nothing.
    fn is(&self, toleration: &Toleration) -> bool {
        let Toleration { key, operator, value, effect, toleration_seconds: _ } = toleration;
        let own_operator = match self.operator.as_deref() {
            None | Some("") => TolerationOperator::default().as_str(),
            Some(written) => written,
        };
        self.key.as_deref().unwrap_or_default() == key.as_deref().unwrap_or_default()
            && own_operator == operator.as_str()
            && self.value.as_deref().unwrap_or_default() == value.as_deref().unwrap_or_default()
            && self.effect.as_deref().unwrap_or_default() == effect.map_or("", TaintEffect::as_str)
    }
}

/// What becomes of the user's own `nodeSelector` entry that contradicts the wanted class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OnConflict {
    /// It stays, and the pod is left alone.
    #[default]
    Respect,
    /// It gives way to a required placement. A preferred one never outweighs it, and node affinity always stays.
    Override,
}

/// How a pod is steered, besides where to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SteeringRules {
    /// By a constraint or by a preference.
    pub placement: Placement,
    /// Who wins over a contradicting `nodeSelector` entry.
    pub on_conflict: OnConflict,
}

/// What to do about a pod's placement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Steering<'c> {
    /// `spec.nodeName` is set: never touched, counts by that node's type.
    Bound,
    /// The pod's own constraints and tolerations say it already.
    Satisfied,
    /// Add this.
    Amend(Amendment<'c>),
    /// Leave the pod alone.
    Conflict(Conflict),
}

/// What is added to a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Amendment<'c> {
    /// Keys of `nodeSelector` that give way ([`OnConflict::Override`]) and are not set anew.
    pub drop_from_node_selector: Vec<Box<str>>,
    /// An entry of `nodeSelector`; replaces one of the same key only with [`OnConflict::Override`].
    pub node_selector: Option<(&'c str, &'c str)>,
    /// Required node affinity, for classes that are not one equality.
    pub required: Option<RequiredAmendment<'c>>,
    /// One preferred term of weight [`PREFERRED_WEIGHT`].
    pub preferred: Option<&'c [Requirement]>,
    /// Tolerations of the class that the pod has not.
    pub tolerations: Vec<&'c Toleration>,
}

/// What is added to the required node affinity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequiredAmendment<'c> {
    /// There was none: one term.
    NewTerm(&'c [Requirement]),
    /// Into each of these terms.
    IntoTerms(Vec<TermAmendment<'c>>),
}

/// What is added to one existing term.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TermAmendment<'c> {
    /// Its index.
    pub term: usize,
    /// What it does not say yet.
    pub requirements: Vec<&'c Requirement>,
}

/// Why a pod cannot be steered to the wanted type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The user's constraint that stands in the way.
    pub constraint: UserConstraint,
    /// The one type that the user's constraints leave; `None` where they leave neither or both.
    pub counts_as: Option<CapacityType>,
}

/// A constraint that the user wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserConstraint {
    /// An entry of `nodeSelector`.
    NodeSelector {
        /// Its key.
        key: Box<str>,
        /// Its value.
        value: Box<str>,
    },
    /// The required node affinity, alone or together with `nodeSelector`, on this key.
    NodeAffinity {
        /// The first key of the class that is contradicted.
        key: Box<str>,
    },
    /// No node can ever match, whatever we add: only empty terms, or terms that contradict themselves.
    MatchesNoNode,
}

impl fmt::Display for UserConstraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NodeSelector { key, value } => write!(f, "nodeSelector {key}={value}"),
            Self::NodeAffinity { key } => write!(f, "required node affinity on {key}"),
            Self::MatchesNoNode => f.write_str("required node affinity that matches no node"),
        }
    }
}

/// What the pod needs to land on `wanted`.
pub fn steer<'c>(
    pod: &PodPlacement<'_>,
    wanted: CapacityType,
    classes: &'c CapacityClasses,
    rules: SteeringRules,
) -> Steering<'c> {
    if pod.node_name.is_some() {
        return Steering::Bound;
    }
    let class = classes.of(wanted);
    let none = NodeSelector::new();
    let node_selector = pod.node_selector.as_ref().unwrap_or(&none);
    match reach(pod, node_selector, &class.selector) {
        Reach::Nowhere => conflict(pod, classes, UserConstraint::MatchesNoNode),
        Reach::Within => amend(Amendment { tolerations: missing_tolerations(pod, class), ..Amendment::default() }),
        Reach::Partly(missing) => amend(narrow(pod, class, rules.placement, missing)),
        Reach::Outside => {
            let contradicted = contradicted_entries(node_selector, &class.selector);
            match (rules.on_conflict, rules.placement) {
                (OnConflict::Override, Placement::Required) if !contradicted.is_empty() => {
                    override_entries(pod, node_selector, &contradicted, class)
                        .map_or_else(|| conflict(pod, classes, obstacle(node_selector, &class.selector)), amend)
                }
                (OnConflict::Override | OnConflict::Respect, Placement::Required | Placement::Preferred) => {
                    conflict(pod, classes, obstacle(node_selector, &class.selector))
                }
            }
        }
    }
}

/// The one type that the pod's own constraints leave, if it is exactly one. A pod that is bound is pinned by its node,
/// about which nothing is known here: `None`.
pub fn pinned(classes: &CapacityClasses, pod: &PodPlacement<'_>) -> Option<CapacityType> {
    if pod.node_name.is_some() {
        return None;
    }
    let none = NodeSelector::new();
    let node_selector = pod.node_selector.as_ref().unwrap_or(&none);
    let [spot, on_demand] =
        CapacityType::ALL.map(|capacity| match reach(pod, node_selector, &classes.of(capacity).selector) {
            Reach::Within | Reach::Partly(_) => Some(capacity),
            Reach::Outside | Reach::Nowhere => None,
        });
    spot.xor(on_demand)
}

/// How the nodes that the user's required constraints allow lie to the nodes of a class.
#[derive(Debug, PartialEq, Eq)]
enum Reach {
    /// The constraints allow no node whatever.
    Nowhere,
    /// They allow only nodes of the class.
    Within,
    /// They allow some nodes of the class, and others. For each term (an absent affinity being one term that says
    /// nothing) the indices of the class's requirements it lacks; terms that lack none are left out.
    Partly(Vec<(usize, Vec<usize>)>),
    /// They allow nodes, but none of the class.
    Outside,
}

fn reach(pod: &PodPlacement<'_>, node_selector: &NodeSelector<'_>, class: &Selector) -> Reach {
    let verdicts: Vec<Verdict> =
        match &pod.required {
            None => vec![judge(&[], node_selector, class)],
            Some(terms) => terms
                .iter()
                .map(|term| {
                    if term.matches_nothing() { Verdict::Dead } else { judge(term.expressions(), node_selector, class) }
                })
                .collect(),
        };
    let mut reach = Reach::Nowhere;
    let mut missing = Vec::new();
    for (term, verdict) in verdicts.into_iter().enumerate() {
        let next = match verdict {
            Verdict::Dead => continue,
            Verdict::Alive { lacks, .. } if lacks.is_empty() => Reach::Within,
            Verdict::Alive { lacks, compatible } => {
                missing.push((term, lacks));
                if compatible { Reach::Partly(Vec::new()) } else { Reach::Outside }
            }
        };
        reach = match (reach, next) {
            (Reach::Nowhere, next) => next,
            (Reach::Within, Reach::Within) => Reach::Within,
            (Reach::Outside, Reach::Outside) => Reach::Outside,
            _ => Reach::Partly(Vec::new()),
        };
    }
    match reach {
        Reach::Partly(_) => Reach::Partly(missing),
        whole @ (Reach::Nowhere | Reach::Within | Reach::Outside) => whole,
    }
}

/// What one term together with `nodeSelector` allows.
enum Verdict {
    /// No node.
    Dead,
    /// Some nodes.
    Alive {
        /// Indices of the class's requirements that do not follow from the term.
        lacks: Vec<usize>,
        /// Whether one of those nodes can be of the class.
        compatible: bool,
    },
}

fn judge(expressions: &[Requirement], node_selector: &NodeSelector<'_>, class: &Selector) -> Verdict {
    let mut domains: BTreeMap<&str, Domain<'_>> = BTreeMap::new();
    for Requirement { key, operator } in expressions {
        domains.entry(key).or_insert_with(|| Domain::of_entry(node_selector, key)).narrow(operator);
    }
    if domains.values().any(Domain::is_empty) {
        return Verdict::Dead;
    }
    for Requirement { key, operator: _ } in &class.requirements {
        domains.entry(key).or_insert_with(|| Domain::of_entry(node_selector, key));
    }
    let follows = |requirement: &Requirement| domains[&*requirement.key].implies(&requirement.operator);
    let lacks = class.requirements.iter().enumerate().filter(|(_, r)| !follows(r)).map(|(index, _)| index).collect();
    for Requirement { key, operator } in &class.requirements {
        domains.entry(key).or_default().narrow(operator);
    }
    let compatible = class.requirements.iter().all(|requirement| !domains[&*requirement.key].is_empty());
    Verdict::Alive { lacks, compatible }
}

fn amend(amendment: Amendment<'_>) -> Steering<'_> {
    if amendment == Amendment::default() { Steering::Satisfied } else { Steering::Amend(amendment) }
}

fn conflict<'c>(pod: &PodPlacement<'_>, classes: &CapacityClasses, constraint: UserConstraint) -> Steering<'c> {
    Steering::Conflict(Conflict { constraint, counts_as: pinned(classes, pod) })
}

/// The additions for a pod that may land on the class, but need not. `missing` is what [`Reach::Partly`] carries.
fn narrow<'c>(
    pod: &PodPlacement<'_>,
    class: &'c CapacityClass,
    placement: Placement,
    missing: Vec<(usize, Vec<usize>)>,
) -> Amendment<'c> {
    let mut amendment = Amendment { tolerations: missing_tolerations(pod, class), ..Amendment::default() };
    let requirements = class.selector.requirements.as_slice();
    match placement {
        Placement::Preferred => {
            if !already_preferred(pod, requirements) {
                amendment.preferred = Some(requirements);
            }
        }
        Placement::Required => match (class.selector.as_equality(), &pod.required) {
            (Some(entry), _) => amendment.node_selector = Some(entry),
            (None, None) => amendment.required = Some(RequiredAmendment::NewTerm(requirements)),
            (None, Some(_)) => {
                let terms = missing.into_iter().map(|(term, lacks)| TermAmendment {
                    term,
                    requirements: lacks.into_iter().map(|index| &requirements[index]).collect(),
                });
                amendment.required = Some(RequiredAmendment::IntoTerms(terms.collect()));
            }
        },
    }
    amendment
}

/// The additions once the `contradicted` entries are gone; `None` where something else contradicts the class as well.
fn override_entries<'c>(
    pod: &PodPlacement<'_>,
    node_selector: &NodeSelector<'_>,
    contradicted: &[&str],
    class: &'c CapacityClass,
) -> Option<Amendment<'c>> {
    let mut remaining = node_selector.clone();
    remaining.retain(|key, _| !contradicted.contains(&&**key));
    let mut amendment = match reach(pod, &remaining, &class.selector) {
        Reach::Nowhere | Reach::Outside => return None,
        Reach::Within => Amendment { tolerations: missing_tolerations(pod, class), ..Amendment::default() },
        Reach::Partly(missing) => narrow(pod, class, Placement::Required, missing),
    };
    let set_anew = amendment.node_selector.map(|(key, _)| key);
    amendment.drop_from_node_selector =
        contradicted.iter().filter(|key| Some(**key) != set_anew).map(|key| (*key).into()).collect();
    Some(amendment)
}

/// The keys of the class that a `nodeSelector` entry contradicts by itself, each once.
fn contradicted_entries<'c>(node_selector: &NodeSelector<'_>, class: &'c Selector) -> Vec<&'c str> {
    let contradicted: BTreeSet<&str> = class
        .requirements
        .iter()
        .filter(|Requirement { key, operator }| {
            let mut domain = Domain::of_entry(node_selector, key);
            domain.narrow(operator);
            node_selector.contains_key(&**key) && domain.is_empty()
        })
        .map(|requirement| &*requirement.key)
        .collect();
    contradicted.into_iter().collect()
}

/// What to blame for [`Reach::Outside`].
fn obstacle(node_selector: &NodeSelector<'_>, class: &Selector) -> UserConstraint {
    let entry = contradicted_entries(node_selector, class).into_iter().find_map(|key| {
        let value = node_selector.get(key)?;
        Some(UserConstraint::NodeSelector { key: key.into(), value: (&**value).into() })
    });
    let key = || class.requirements.first().map(|requirement| requirement.key.clone()).unwrap_or_default();
    entry.unwrap_or_else(|| UserConstraint::NodeAffinity { key: key() })
}

fn already_preferred(pod: &PodPlacement<'_>, requirements: &[Requirement]) -> bool {
    let ours: BTreeSet<&Requirement> = requirements.iter().collect();
    pod.preferred.iter().flatten().any(|PreferredTerm { weight, term }| {
        *weight == PREFERRED_WEIGHT
            && !term.has_fields
            && term.expressions().len() == requirements.len()
            && term.expressions().iter().collect::<BTreeSet<_>>() == ours
    })
}

fn missing_tolerations<'c>(pod: &PodPlacement<'_>, class: &'c CapacityClass) -> Vec<&'c Toleration> {
    let has = |toleration: &Toleration| pod.tolerations.iter().flatten().any(|own| own.is(toleration));
    class.tolerations.iter().filter(|toleration| !has(toleration)).collect()
}

/// What one label of a node may still be: absent, or one of these values.
///
/// Requirements on different keys do not touch each other, so a set of requirements leaves a node exactly when no
/// domain is empty.
#[derive(Clone, Debug)]
struct Domain<'r> {
    may_be_absent: bool,
    may_be_present: bool,
    /// The only values left; `None` while no `In` was seen.
    among: Option<BTreeSet<&'r str>>,
    /// Values ruled out.
    except: BTreeSet<&'r str>,
    /// The value is an integer above this one.
    above: Option<i64>,
    /// The value is an integer below this one.
    below: Option<i64>,
}

impl Default for Domain<'_> {
    fn default() -> Self {
        Self {
            may_be_absent: true,
            may_be_present: true,
            among: None,
            except: BTreeSet::new(),
            above: None,
            below: None,
        }
    }
}

impl<'r> Domain<'r> {
    /// What `nodeSelector` leaves of `key`.
    fn of_entry(node_selector: &'r NodeSelector<'_>, key: &str) -> Self {
        let mut domain = Self::default();
        if let Some(value) = node_selector.get(key) {
            domain.narrow_to([&**value].into_iter());
        }
        domain
    }

    fn narrow(&mut self, operator: &'r Operator) {
        match operator {
            Operator::In(values) => self.narrow_to(values.iter().map(|value| &**value)),
            Operator::NotIn(values) => self.except.extend(values.iter().map(|value| &**value)),
            Operator::Exists => self.may_be_absent = false,
            Operator::DoesNotExist => self.may_be_present = false,
            Operator::Gt(bound) => {
                self.may_be_absent = false;
                self.above = Some(self.above.map_or(*bound, |above| above.max(*bound)));
            }
            Operator::Lt(bound) => {
                self.may_be_absent = false;
                self.below = Some(self.below.map_or(*bound, |below| below.min(*bound)));
            }
        }
    }

    fn narrow_to(&mut self, values: impl Iterator<Item = &'r str>) {
        self.may_be_absent = false;
        let values: BTreeSet<&str> = values.collect();
        match &mut self.among {
            None => self.among = Some(values),
            Some(among) => among.retain(|value| values.contains(value)),
        }
    }

    /// Whether nothing is left. Labels hold no minus sign, so integers start at 0; one that is ruled out in one
    /// spelling is still there in another (`5`, `05`).
    fn is_empty(&self) -> bool {
        if self.may_be_absent {
            return false;
        }
        if !self.may_be_present {
            return true;
        }
        match &self.among {
            Some(among) => !among.iter().any(|value| self.admits(value)),
            None if self.above.is_none() && self.below.is_none() => false,
            None => {
                let lowest = self.above.map_or(Some(0), |above| above.checked_add(1)).map(|lowest| lowest.max(0));
                lowest.is_none_or(|lowest| self.below.is_some_and(|below| lowest >= below))
            }
        }
    }

    fn admits(&self, value: &str) -> bool {
        let in_bounds = (self.above.is_none() && self.below.is_none())
            || value.parse::<i64>().is_ok_and(|number| {
                self.above.is_none_or(|above| number > above) && self.below.is_none_or(|below| number < below)
            });
        in_bounds && !self.except.contains(value)
    }

    /// Whether every label that is left meets `operator`: whether nothing is left that does not.
    fn implies(&self, operator: &Operator) -> bool {
        let mut rest = Domain::<'_> { among: self.among.clone(), except: self.except.clone(), ..*self };
        match operator {
            Operator::In(values) => rest.except.extend(values.iter().map(|value| &**value)),
            Operator::NotIn(values) => rest.narrow_to(values.iter().map(|value| &**value)),
            Operator::Exists => rest.may_be_present = false,
            Operator::DoesNotExist => rest.may_be_absent = false,
            Operator::Gt(bound) => return !self.may_be_absent && self.above.is_some_and(|above| above >= *bound),
            Operator::Lt(bound) => return !self.may_be_absent && self.below.is_some_and(|below| below <= *bound),
        }
        rest.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Node = BTreeMap<&'static str, &'static str>;

    fn requirement(key: &str, operator: Operator) -> Requirement {
        Requirement { key: key.into(), operator }
    }

    fn values(values: &[&str]) -> BTreeSet<Box<str>> {
        values.iter().map(|value| (*value).into()).collect()
    }

    fn is_in(key: &str, among: &[&str]) -> Requirement {
        requirement(key, Operator::In(values(among)))
    }

    fn not_in(key: &str, except: &[&str]) -> Requirement {
        requirement(key, Operator::NotIn(values(except)))
    }

    fn class(requirements: Vec<Requirement>) -> CapacityClass {
        CapacityClass { selector: Selector { requirements }, tolerations: Vec::new() }
    }

    fn no_schedule(key: &str, value: &str) -> Toleration {
        Toleration {
            key: Some(key.into()),
            operator: TolerationOperator::Equal,
            value: Some(value.into()),
            effect: Some(TaintEffect::NoSchedule),
            toleration_seconds: None,
        }
    }

    fn equality() -> CapacityClasses {
        CapacityClasses { spot: class(vec![is_in("type", &["s"])]), on_demand: class(vec![is_in("type", &["o"])]) }
    }

    fn presence() -> CapacityClasses {
        CapacityClasses {
            spot: class(vec![is_in("type", &["s"])]),
            on_demand: class(vec![requirement("type", Operator::DoesNotExist)]),
        }
    }

    fn term(expressions: Vec<Requirement>) -> NodeTerm {
        NodeTerm { expressions: Some(expressions), has_fields: false }
    }

    fn selects(entries: &[(&'static str, &'static str)]) -> PodPlacement<'static> {
        let entries = entries.iter().map(|(key, value)| (Cow::Borrowed(*key), Cow::Borrowed(*value)));
        PodPlacement { node_selector: Some(entries.collect()), ..PodPlacement::default() }
    }

    fn requires(terms: Vec<NodeTerm>) -> PodPlacement<'static> {
        PodPlacement { required: Some(terms), ..PodPlacement::default() }
    }

    const REQUIRED: SteeringRules = SteeringRules { placement: Placement::Required, on_conflict: OnConflict::Respect };
    const PREFERRED: SteeringRules =
        SteeringRules { placement: Placement::Preferred, on_conflict: OnConflict::Respect };
    const OVERRIDE: SteeringRules = SteeringRules { placement: Placement::Required, on_conflict: OnConflict::Override };

    use CapacityType::{OnDemand, Spot};

    #[test]
    fn a_plain_pod_gets_a_node_selector_where_the_class_is_one_equality() {
        let classes = equality();
        let steering = steer(&PodPlacement::default(), Spot, &classes, REQUIRED);
        let amendment = Amendment { node_selector: Some(("type", "s")), ..Amendment::default() };
        assert_eq!(steering, Steering::Amend(amendment));
    }

    #[test]
    fn a_plain_pod_gets_node_affinity_where_the_class_is_no_equality() {
        let classes = presence();
        let steering = steer(&PodPlacement::default(), OnDemand, &classes, REQUIRED);
        let required = RequiredAmendment::NewTerm(&classes.on_demand.selector.requirements);
        assert_eq!(steering, Steering::Amend(Amendment { required: Some(required), ..Amendment::default() }));
    }

    #[test]
    fn requirements_go_into_every_term_that_can_match_and_lacks_them() {
        let classes = presence();
        let absent = requirement("type", Operator::DoesNotExist);
        let pod = requires(vec![
            term(vec![is_in("zone", &["a"])]),
            NodeTerm::default(),
            term(vec![absent.clone(), is_in("zone", &["b"])]),
            NodeTerm { expressions: None, has_fields: true },
            term(vec![is_in("zone", &["a"]), is_in("zone", &["b"])]),
        ]);
        let into = |term| TermAmendment { term, requirements: vec![&absent] };
        let required = RequiredAmendment::IntoTerms(vec![into(0), into(3)]);
        assert_eq!(
            steer(&pod, OnDemand, &classes, REQUIRED),
            Steering::Amend(Amendment { required: Some(required), ..Amendment::default() })
        );
    }

    #[test]
    fn preferred_adds_a_preference_and_no_constraint() {
        for classes in [equality(), presence()] {
            let steering = steer(&PodPlacement::default(), OnDemand, &classes, PREFERRED);
            let preferred = Some(classes.on_demand.selector.requirements.as_slice());
            assert_eq!(steering, Steering::Amend(Amendment { preferred, ..Amendment::default() }));
        }
    }

    #[test]
    fn what_the_user_said_already_needs_nothing() {
        let classes = equality();
        for pod in [
            selects(&[("type", "s")]),
            requires(vec![term(vec![is_in("type", &["s"])])]),
            requires(vec![term(vec![is_in("type", &["s", "o"]), not_in("type", &["o"])]), NodeTerm::default()]),
        ] {
            for rules in [REQUIRED, PREFERRED, OVERRIDE] {
                assert_eq!(steer(&pod, Spot, &classes, rules), Steering::Satisfied, "{pod:?}");
            }
            assert_eq!(pinned(&classes, &pod), Some(Spot));
        }
    }

    #[test]
    fn a_contradiction_leaves_the_pod_alone_and_names_what_stands_in_the_way() {
        let by_selector = UserConstraint::NodeSelector { key: "type".into(), value: "o".into() };
        let by_affinity = UserConstraint::NodeAffinity { key: "type".into() };
        for (pod, constraint, counts_as) in [
            (selects(&[("type", "o")]), by_selector.clone(), Some(OnDemand)),
            (requires(vec![term(vec![is_in("type", &["o"])])]), by_affinity.clone(), Some(OnDemand)),
            (requires(vec![term(vec![not_in("type", &["s"])])]), by_affinity.clone(), Some(OnDemand)),
            (requires(vec![term(vec![not_in("type", &["s", "o"])])]), by_affinity.clone(), None),
            (requires(vec![term(vec![requirement("type", Operator::DoesNotExist)])]), by_affinity, None),
            (requires(vec![NodeTerm::default()]), UserConstraint::MatchesNoNode, None),
            (requires(Vec::new()), UserConstraint::MatchesNoNode, None),
        ] {
            for rules in [REQUIRED, PREFERRED] {
                let conflict = Conflict { constraint: constraint.clone(), counts_as };
                assert_eq!(steer(&pod, Spot, &equality(), rules), Steering::Conflict(conflict), "{pod:?}");
            }
        }
    }

    #[test]
    fn override_replaces_an_entry_and_nothing_else() {
        let classes = equality();
        let replaced = Amendment { node_selector: Some(("type", "s")), ..Amendment::default() };
        let pod = selects(&[("type", "o"), ("zone", "a")]);
        assert_eq!(steer(&pod, Spot, &classes, OVERRIDE), Steering::Amend(replaced));

        let preferred = SteeringRules { placement: Placement::Preferred, ..OVERRIDE };
        assert!(matches!(steer(&pod, Spot, &classes, preferred), Steering::Conflict(_)));

        let mut pinned_twice = selects(&[("type", "o")]);
        pinned_twice.required = Some(vec![term(vec![is_in("type", &["o"])])]);
        assert!(matches!(steer(&pinned_twice, Spot, &classes, OVERRIDE), Steering::Conflict(_)));
    }

    #[test]
    fn override_drops_the_entry_where_the_class_sets_none() {
        let classes = presence();
        let required = RequiredAmendment::NewTerm(&classes.on_demand.selector.requirements);
        assert_eq!(
            steer(&selects(&[("type", "s")]), OnDemand, &classes, OVERRIDE),
            Steering::Amend(Amendment {
                drop_from_node_selector: vec!["type".into()],
                required: Some(required),
                ..Amendment::default()
            })
        );
    }

    #[test]
    fn tolerations_are_added_once_and_also_to_a_pod_that_pinned_itself() {
        let mut classes = equality();
        classes.spot.tolerations = vec![no_schedule("type", "s"), no_schedule("other", "s")];
        let own = |operator: Option<&'static str>| PodToleration {
            key: Some("type".into()),
            operator: operator.map(Cow::Borrowed),
            value: Some("s".into()),
            effect: Some("NoSchedule".into()),
        };
        for operator in [None, Some(""), Some("Equal")] {
            let mut pod = selects(&[("type", "s")]);
            pod.tolerations = Some(vec![own(operator)]);
            let tolerations = vec![&classes.spot.tolerations[1]];
            assert_eq!(
                steer(&pod, Spot, &classes, REQUIRED),
                Steering::Amend(Amendment { tolerations, ..Amendment::default() })
            );
        }
        let mut pod = selects(&[("type", "s")]);
        pod.tolerations = Some(vec![own(Some("Exists"))]);
        assert!(matches!(steer(&pod, Spot, &classes, REQUIRED), Steering::Amend(a) if a.tolerations.len() == 2));
    }

    #[test]
    fn a_bound_pod_is_never_touched() {
        let pod = PodPlacement { node_name: Some("n".into()), ..PodPlacement::default() };
        assert_eq!(steer(&pod, Spot, &equality(), OVERRIDE), Steering::Bound);
        assert_eq!(pinned(&equality(), &pod), None);
    }

    // From here on: against a second formulation that knows nodes only. `y`, `z` and the spellings with a zero are on
    // nodes but (mostly) in no requirement, so that "any other value" has a witness.
    const KEYS: [&str; 2] = ["type", "zone"];
    const ON_NODES: [&str; 12] = ["s", "o", "y", "z", "0", "1", "2", "3", "00", "01", "02", "03"];
    const IN_REQUIREMENTS: [&str; 6] = ["s", "o", "y", "1", "2", "3"];

    fn nodes() -> Vec<Node> {
        let states: Vec<Option<&str>> = std::iter::once(None).chain(ON_NODES.map(Some)).collect();
        let mut nodes = Vec::new();
        for kind in &states {
            for zone in &states {
                nodes.push(KEYS.into_iter().zip([*kind, *zone]).filter_map(|(k, v)| Some((k, v?))).collect());
            }
        }
        nodes
    }

    fn meets(node: &Node, Requirement { key, operator }: &Requirement) -> bool {
        let number = |value: &&str| value.parse::<i64>().ok();
        let value = node.get(&**key);
        match (operator, value) {
            (Operator::In(values), Some(value)) => values.contains(*value),
            (Operator::NotIn(values), Some(value)) => !values.contains(*value),
            (Operator::Exists, value) => value.is_some(),
            (Operator::DoesNotExist, value) => value.is_none(),
            (Operator::Gt(bound), Some(value)) => number(value).is_some_and(|number| number > *bound),
            (Operator::Lt(bound), Some(value)) => number(value).is_some_and(|number| number < *bound),
            (Operator::NotIn(_), None) => true,
            (Operator::In(_) | Operator::Gt(_) | Operator::Lt(_), None) => false,
        }
    }

    fn schedulable(pod: &PodPlacement<'_>, node: &Node) -> bool {
        let selected = pod.node_selector.iter().flatten().all(|(key, value)| node.get(&**key) == Some(&&**value));
        let matches = |term: &NodeTerm| {
            (term.has_fields || !term.expressions().is_empty()) && term.expressions().iter().all(|r| meets(node, r))
        };
        selected && pod.required.as_ref().is_none_or(|terms| terms.iter().any(matches))
    }

    fn apply<'a>(pod: &PodPlacement<'a>, amendment: &Amendment<'_>) -> PodPlacement<'a> {
        let Amendment { drop_from_node_selector, node_selector, required, preferred, tolerations } = amendment;
        let mut pod = pod.clone();
        for key in drop_from_node_selector {
            pod.node_selector.as_mut().unwrap().remove(&**key).unwrap();
        }
        if let Some((key, value)) = node_selector {
            let own = |text: &str| Cow::Owned(text.to_owned());
            pod.node_selector.get_or_insert_default().insert(own(key), own(value));
        }
        match required {
            None => {}
            Some(RequiredAmendment::NewTerm(requirements)) => {
                assert!(pod.required.is_none());
                pod.required = Some(vec![term(requirements.to_vec())]);
            }
            Some(RequiredAmendment::IntoTerms(amended)) => {
                for TermAmendment { term, requirements } in amended {
                    let expressions = pod.required.as_mut().unwrap()[*term].expressions.get_or_insert_default();
                    expressions.extend(requirements.iter().copied().cloned());
                }
            }
        }
        if let Some(requirements) = preferred {
            let term = term(requirements.to_vec());
            pod.preferred.get_or_insert_default().push(PreferredTerm { weight: PREFERRED_WEIGHT, term });
        }
        for Toleration { key, operator, value, effect, toleration_seconds: _ } in tolerations {
            pod.tolerations.get_or_insert_default().push(PodToleration {
                key: key.as_deref().map(|key| Cow::Owned(key.to_owned())),
                operator: Some(operator.as_str().into()),
                value: value.as_deref().map(|value| Cow::Owned(value.to_owned())),
                effect: effect.map(|effect| effect.as_str().into()),
            });
        }
        pod
    }

    fn a_requirement(numbers: bool) -> impl Strategy<Value = Requirement> {
        let some_values = || {
            proptest::collection::btree_set(proptest::sample::select(&IN_REQUIREMENTS[..]).prop_map(Into::into), 1..4)
        };
        let weight = u32::from(numbers);
        let operator = prop_oneof![
            4 => some_values().prop_map(Operator::In),
            4 => some_values().prop_map(Operator::NotIn),
            2 => Just(Operator::Exists),
            2 => Just(Operator::DoesNotExist),
            weight => (0..=2i64).prop_map(Operator::Gt),
            weight => (1..=3i64).prop_map(Operator::Lt),
        ];
        (proptest::sample::select(&KEYS[..]), operator)
            .prop_map(|(key, operator)| Requirement { key: key.into(), operator })
    }

    fn a_term() -> impl Strategy<Value = NodeTerm> {
        let expressions = proptest::option::weighted(0.9, proptest::collection::vec(a_requirement(true), 0..4));
        (expressions, proptest::bool::weighted(0.1))
            .prop_map(|(expressions, has_fields)| NodeTerm { expressions, has_fields })
    }

    fn a_pod() -> impl Strategy<Value = PodPlacement<'static>> {
        let entry = (proptest::sample::select(&KEYS[..]), proptest::sample::select(&IN_REQUIREMENTS[..]));
        let entry = entry.prop_map(|(key, value)| (Cow::Borrowed(key), Cow::Borrowed(value)));
        let preferred = (proptest::sample::select(&[1, PREFERRED_WEIGHT][..]), a_term())
            .prop_map(|(weight, term)| PreferredTerm { weight, term });
        (
            proptest::option::of(proptest::collection::vec(entry, 0..2)),
            proptest::option::of(proptest::collection::vec(a_term(), 0..4)),
            proptest::option::of(proptest::collection::vec(preferred, 0..2)),
        )
            .prop_map(|(node_selector, required, preferred)| PodPlacement {
                node_selector: node_selector.map(|entries| entries.into_iter().collect()),
                required,
                preferred,
                ..PodPlacement::default()
            })
    }

    fn some_classes() -> impl Strategy<Value = CapacityClasses> {
        let some_class = || proptest::collection::vec(a_requirement(false), 0..3).prop_map(class);
        let tolerations = proptest::collection::vec(Just(no_schedule("type", "s")), 0..2);
        prop_oneof![
            Just(equality()),
            Just(presence()),
            (some_class(), some_class(), tolerations).prop_map(|(mut spot, on_demand, tolerations)| {
                spot.tolerations = tolerations;
                CapacityClasses { spot, on_demand }
            }),
        ]
    }

    fn in_class(class: &CapacityClass, node: &Node) -> bool {
        class.selector.requirements.iter().all(|requirement| meets(node, requirement))
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 1024, ..ProptestConfig::default() })]

        /// Required: afterwards the pod may land exactly on those of its nodes that are of the class, and on at least
        /// one; where there is none it is left alone; where there are no others it gets nothing.
        #[test]
        fn required_means_exactly_the_nodes_of_the_class(
            pod in a_pod(),
            classes in some_classes(),
            wanted in proptest::sample::select(&CapacityType::ALL[..]),
        ) {
            let class = classes.of(wanted);
            let nodes = nodes();
            let both = |node: &&Node| schedulable(&pod, node) && in_class(class, node);
            match steer(&pod, wanted, &classes, REQUIRED) {
                Steering::Amend(amendment) => {
                    let steered = apply(&pod, &amendment);
                    prop_assert!(nodes.iter().any(|node| schedulable(&steered, node)));
                    for node in &nodes {
                        prop_assert_eq!(schedulable(&steered, node), both(&node), "{:?}", node);
                    }
                    prop_assert_eq!(steer(&steered, wanted, &classes, REQUIRED), Steering::Satisfied);
                    for (key, value) in pod.node_selector.iter().flatten() {
                        prop_assert_eq!(steered.node_selector.as_ref().unwrap().get(key), Some(value));
                    }
                    prop_assert_eq!(&steered.preferred, &pod.preferred);
                }
                Steering::Satisfied => {
                    prop_assert!(nodes.iter().filter(|node| schedulable(&pod, node)).all(|n| in_class(class, n)));
                }
                Steering::Conflict(Conflict { constraint, counts_as }) => {
                    prop_assert!(!nodes.iter().any(|node| both(&node)));
                    let nowhere = !nodes.iter().any(|node| schedulable(&pod, node));
                    prop_assert_eq!(constraint == UserConstraint::MatchesNoNode, nowhere);
                    prop_assert_eq!(counts_as, pinned(&classes, &pod));
                }
                Steering::Bound => prop_assert!(false),
            }
        }

        /// Preferred: no node is lost, no node is won, and one preference is enough.
        #[test]
        fn preferred_constrains_nothing(
            pod in a_pod(),
            classes in some_classes(),
            wanted in proptest::sample::select(&CapacityType::ALL[..]),
        ) {
            if let Steering::Amend(amendment) = steer(&pod, wanted, &classes, PREFERRED) {
                let steered = apply(&pod, &amendment);
                prop_assert_eq!(&steered.node_selector, &pod.node_selector);
                prop_assert_eq!(&steered.required, &pod.required);
                let before = pod.preferred.clone().unwrap_or_default();
                prop_assert!(steered.preferred.clone().unwrap_or_default().starts_with(&before));
                prop_assert_eq!(steer(&steered, wanted, &classes, PREFERRED), Steering::Satisfied);
            }
        }

        /// Override: whatever is amended lands on the class and somewhere, and affinity of the user's is still there.
        #[test]
        fn override_lands_on_the_class(
            pod in a_pod(),
            classes in some_classes(),
            wanted in proptest::sample::select(&CapacityType::ALL[..]),
        ) {
            let respected = steer(&pod, wanted, &classes, REQUIRED);
            let overridden = steer(&pod, wanted, &classes, OVERRIDE);
            if !matches!(respected, Steering::Conflict(_)) {
                prop_assert_eq!(&overridden, &respected);
            }
            if let Steering::Amend(amendment) = overridden {
                let steered = apply(&pod, &amendment);
                let nodes = nodes();
                let reached: Vec<&Node> = nodes.iter().filter(|node| schedulable(&steered, node)).collect();
                prop_assert!(!reached.is_empty());
                prop_assert!(reached.iter().all(|node| in_class(classes.of(wanted), node)));
                prop_assert_eq!(steer(&steered, wanted, &classes, OVERRIDE), Steering::Satisfied);
                let affinity_only = PodPlacement { node_selector: None, ..pod.clone() };
                prop_assert!(reached.iter().all(|node| schedulable(&affinity_only, node)));
            }
        }

        #[test]
        fn pinned_is_the_only_type_with_a_node(pod in a_pod(), classes in some_classes()) {
            let nodes = nodes();
            let reachable = |capacity: &CapacityType| {
                nodes.iter().any(|node| schedulable(&pod, node) && in_class(classes.of(*capacity), node))
            };
            let reachable: Vec<CapacityType> = CapacityType::ALL.into_iter().filter(reachable).collect();
            let expected = if let [only] = reachable.as_slice() { Some(*only) } else { None };
            prop_assert_eq!(pinned(&classes, &pod), expected);
        }
    }
}
