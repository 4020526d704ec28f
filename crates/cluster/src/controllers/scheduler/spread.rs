//! Spreading pods over the values of a node label (`topologySpreadConstraints`).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::filter::Reason;
use super::room::Room;
use crate::matching::{untolerated, wants};
use crate::object::Object;
use crate::selector::Selector;

/// A constraint, with how many pods it counts in each domain.
#[derive(Debug)]
struct Constraint {
    key: String,
    max_skew: i64,
    min_domains: usize,
    /// Whether the pod itself would be counted.
    counts_itself: bool,
    counts: BTreeMap<String, i64>,
}

/// The constraints of a pod that are to be honoured.
#[derive(Debug)]
pub(super) struct Spread(Vec<Constraint>);

fn selector(constraint: &Value, pod: &Object) -> Option<Selector> {
    let mut selector = constraint["labelSelector"].clone();
    for key in constraint["matchLabelKeys"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if let Some(value) = pod.label(key) {
            selector["matchLabels"][key] = json!(value);
        }
    }
    Selector::parse(&selector).ok()
}

fn constraints<'p>(pod: &'p Object, when: &'static str) -> impl Iterator<Item = &'p Value> {
    let all = pod.list("/spec/topologySpreadConstraints").iter();
    all.filter(move |constraint| constraint["whenUnsatisfiable"].as_str().unwrap_or("DoNotSchedule") == when)
}

/// Whether a node counts for a constraint.
fn counts(constraint: &Value, pod: &Object, node: &Object) -> bool {
    let wanted = constraint["nodeAffinityPolicy"] == "Ignore" || wants(pod, node);
    wanted && (constraint["nodeTaintsPolicy"] != "Honor" || untolerated(pod, node).is_none())
}

impl Spread {
    /// Those that must be kept.
    pub(super) fn required(rooms: &[Room], pod: &Object) -> Self {
        let required: Vec<&Value> = constraints(pod, "DoNotSchedule").collect();
        let keys: BTreeSet<&str> =
            required.iter().filter_map(|constraint| constraint["topologyKey"].as_str()).collect();
        let has_all = |room: &&Room| keys.iter().all(|key| room.node.label(key).is_some());
        let eligible: Vec<&Room> = rooms.iter().filter(has_all).collect();
        Self(required.into_iter().filter_map(|constraint| count(&eligible, pod, constraint)).collect())
    }

    /// Why a node may not get another pod.
    pub(super) fn refuses(&self, node: &Object) -> Option<Reason> {
        for constraint in &self.0 {
            let Some(domain) = node.label(&constraint.key) else { return Some(Reason::NoDomain) };
            let enough = constraint.counts.len() >= constraint.min_domains;
            let least = if enough { constraint.counts.values().min().copied().unwrap_or(0) } else { 0 };
            let there = constraint.counts.get(domain).copied().unwrap_or(0);
            if there + i64::from(constraint.counts_itself) - least > constraint.max_skew {
                return Some(Reason::Uneven);
            }
        }
        None
    }
}

fn count(rooms: &[&Room], pod: &Object, constraint: &Value) -> Option<Constraint> {
    let key = constraint["topologyKey"].as_str()?.to_owned();
    let selector = selector(constraint, pod)?;
    let counts_itself = selector.matches(pod.at("/metadata/labels"));
    let counted = Counted::Selected(selector);
    let mut domains: BTreeMap<String, i64> = BTreeMap::new();
    for room in rooms.iter().filter(|room| counts(constraint, pod, &room.node)) {
        let Some(domain) = room.node.label(&key) else { continue };
        *domains.entry(domain.to_owned()).or_default() += matching(room, pod, &counted);
    }
    Some(Constraint {
        key,
        max_skew: constraint["maxSkew"].as_i64().unwrap_or(1),
        min_domains: constraint["minDomains"].as_u64().and_then(|number| usize::try_from(number).ok()).unwrap_or(1),
        counts_itself,
        counts: domains,
    })
}

/// Which pods are counted.
enum Counted<'p> {
    Selected(Selector),
    /// Those of the same owner, by its UID.
    Siblings(&'p str),
}

/// How many of those that are counted are on a node.
fn matching(room: &Room, pod: &Object, counted: &Counted<'_>) -> i64 {
    let selector = match counted {
        Counted::Selected(selector) => selector,
        Counted::Siblings(uid) => return room.siblings(uid),
    };
    let here = |other: &Object| other.namespace() == pod.namespace() && other.deletion().is_none();
    let counted = room.pods.iter().filter(|other| here(other) && selector.matches(other.at("/metadata/labels")));
    i64::try_from(counted.count()).unwrap_or(i64::MAX)
}

/// For each of these nodes how crowded it is, by the constraints that may be broken. A pod that has none of its own is
/// spread beside those of its owner, over nodes and zones.
pub(super) fn crowding(rooms: &[Room], fits: &[usize], pod: &Object) -> Vec<i64> {
    let own = constraints(pod, "ScheduleAnyway");
    let own = own.filter_map(|it| Some((it["topologyKey"].as_str()?, it, Counted::Selected(selector(it, pod)?))));
    let owner = pod.controller().filter(|_| pod.list("/spec/topologySpreadConstraints").is_empty());
    let default = owner.into_iter().flat_map(|owner| {
        ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]
            .map(|key| (key, &Value::Null, Counted::Siblings(owner.uid)))
    });
    let mut crowding = vec![0; fits.len()];
    for (key, constraint, counted) in own.chain(default) {
        let domain = |room: &Room| match key {
            "kubernetes.io/hostname" => Some(room.node.name().to_owned()),
            _ => room.node.label(key).map(str::to_owned),
        };
        let mut there: BTreeMap<String, i64> = BTreeMap::new();
        for room in rooms.iter().filter(|room| counts(constraint, pod, &room.node)) {
            if let Some(domain) = domain(room) {
                *there.entry(domain).or_default() += matching(room, pod, &counted);
            }
        }
        // The more domains there are, the more a crowd in one of them weighs.
        let weight = i64::from((there.len() + 2).ilog2());
        for (crowding, place) in crowding.iter_mut().zip(fits) {
            let count = domain(&rooms[*place]).and_then(|domain| there.get(&domain).copied());
            *crowding += weight * count.unwrap_or(0);
        }
    }
    crowding
}
