//! Pods that want to be, or not to be, where certain other pods are.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::filter::Reason;
use super::room::Room;
use crate::object::Object;
use crate::resource::Kind;
use crate::selector::Selector;
use crate::store::{Key, Store};

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

/// Where nodes lie: a label and its value.
type Domain = (String, String);

/// What a term says: which pods, and by which label of nodes.
struct Term {
    key: String,
    selector: Selector,
    namespaces: Namespaces,
}

/// Those that are named, and those that a selector selects.
struct Namespaces {
    named: BTreeSet<String>,
    selected: Option<Selector>,
}

impl Term {
    fn parse(term: &Value, pod: &Object) -> Option<Self> {
        let mut named: BTreeSet<String> = term["namespaces"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|name| Some(name.as_str()?.to_owned()))
            .collect();
        let selected = match &term["namespaceSelector"] {
            Value::Null => None,
            selector => Some(Selector::parse(selector).ok()?),
        };
        if named.is_empty() && selected.is_none() {
            named.insert(pod.namespace().to_owned());
        }
        let selector = Selector::parse(&term["labelSelector"]).ok()?;
        let namespaces = Namespaces { named, selected };
        Some(Self { key: term["topologyKey"].as_str()?.to_owned(), selector, namespaces })
    }

    fn matches(&self, store: &Store, pod: &Object) -> bool {
        let Namespaces { named, selected } = &self.namespaces;
        let is_selected = |selector: &Selector| {
            selector.is_everything()
                || store
                    .get(&Key::new(Kind::Namespace, "", pod.namespace()))
                    .is_some_and(|namespace| selector.matches(namespace.at("/metadata/labels")))
        };
        let there = named.contains(pod.namespace()) || selected.as_ref().is_some_and(is_selected);
        there && self.selector.matches(pod.at("/metadata/labels"))
    }

    fn domain(&self, node: &Object) -> Option<Domain> {
        Some((self.key.clone(), node.label(&self.key)?.to_owned()))
    }
}

fn terms(pod: &Object, which: &str, when: &str) -> Vec<Term> {
    let list = pod.at("/spec/affinity")[which][when].as_array();
    list.into_iter().flatten().filter_map(|term| Term::parse(term, pod)).collect()
}

/// What is required of and by a pod.
pub(super) struct Affinity {
    /// Labels of nodes that must be there, and domains of which each must hold a pod of a term.
    wanted: Vec<(String, BTreeSet<Domain>)>,
    /// Whether a pod that wants to be with its like may be the first of them.
    is_first: bool,
    avoided: BTreeSet<Domain>,
    forbidden: BTreeSet<Domain>,
}

impl Affinity {
    pub(super) fn required(store: &Store, rooms: &[Room], pod: &Object) -> Self {
        let wanted = terms(pod, "podAffinity", REQUIRED);
        let domains = |term: &Term, counts: &dyn Fn(&Object) -> bool| {
            let rooms = rooms.iter().filter(|room| room.pods.iter().any(|other| counts(other)));
            rooms.filter_map(|room| term.domain(&room.node)).collect::<BTreeSet<Domain>>()
        };
        // A pod to be with is one that all terms select; one not to be with is one that any does.
        let is_company = |other: &Object| wanted.iter().all(|term| term.matches(store, other));
        let found: Vec<(String, BTreeSet<Domain>)> =
            wanted.iter().map(|term| (term.key.clone(), domains(term, &is_company))).collect();
        let nobody = found.iter().all(|(_, domains)| domains.is_empty());
        let is_first = nobody && wanted.iter().all(|term| term.matches(store, pod));
        let avoided = terms(pod, "podAntiAffinity", REQUIRED);
        let avoided = avoided.iter().flat_map(|term| domains(term, &|other| term.matches(store, other))).collect();
        let mut forbidden = BTreeSet::new();
        for room in rooms {
            for other in &room.averse {
                let against = terms(other, "podAntiAffinity", REQUIRED).into_iter();
                let against = against.filter(|term| term.matches(store, pod));
                forbidden.extend(against.filter_map(|term| term.domain(&room.node)));
            }
        }
        Self { wanted: found, is_first, avoided, forbidden }
    }

    /// Why a node may not get the pod.
    pub(super) fn refuses(&self, room: &Room) -> Option<Reason> {
        let lies_in = |domains: &BTreeSet<Domain>| {
            domains.iter().any(|(key, value)| room.node.label(key) == Some(value.as_str()))
        };
        if lies_in(&self.forbidden) {
            return Some(Reason::Repelling);
        }
        if lies_in(&self.avoided) {
            return Some(Reason::Repelled);
        }
        let has = |(key, domains): &(String, BTreeSet<Domain>)| {
            room.node.label(key).is_some() && (self.is_first || lies_in(domains))
        };
        (!self.wanted.iter().all(has)).then_some(Reason::Lonely)
    }
}

/// For each of these nodes how much a pod prefers the pods that are around there.
pub(super) fn preference(store: &Store, rooms: &[Room], fits: &[usize], pod: &Object) -> Vec<i64> {
    let mut weights: BTreeMap<Domain, i64> = BTreeMap::new();
    for (which, sign) in [("podAffinity", 1), ("podAntiAffinity", -1)] {
        for preferred in pod.at("/spec/affinity")[which][PREFERRED].as_array().into_iter().flatten() {
            let Some(term) = Term::parse(&preferred["podAffinityTerm"], pod) else { continue };
            let weight = sign * preferred["weight"].as_i64().unwrap_or(0);
            for room in rooms {
                let count = room.pods.iter().filter(|other| term.matches(store, other)).count();
                if let Some(domain) = term.domain(&room.node).filter(|_| count > 0) {
                    *weights.entry(domain).or_default() += weight * i64::try_from(count).unwrap_or(0);
                }
            }
        }
    }
    let sum = |node: &Object| {
        weights
            .iter()
            .filter(|((key, value), _)| node.label(key) == Some(value.as_str()))
            .map(|(_, weight)| weight)
            .sum()
    };
    fits.iter().map(|place| sum(&rooms[*place].node)).collect()
}
