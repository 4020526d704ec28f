//! Decides whether a node could take a pod: the scheduler's filters that a template and a node can answer between them.
//!
//! Looked at: readiness, cordon, taints, node selector, required node affinity, requests on top of what runs there, pod
//! count, and required anti-affinity of a workload's pods among themselves. Not looked at: volumes, ports, affinity to
//! other workloads, topology spread; a move that fails on those leaves a Pending pod, which stops further moves of its
//! workload. Must not know where the facts come from.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::class::{TaintEffect, Toleration, TolerationOperator};
use crate::selector::{Labels, Requirement};

/// Amounts of what a container requests and a node has: CPU in thousandths of a core, everything else in whole units
/// (bytes for memory).
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Resources {
    /// CPU in millicores.
    pub cpu: u64,
    /// Memory in bytes.
    pub memory: u64,
    /// Everything else, by name.
    pub other: BTreeMap<Arc<str>, u64>,
}

impl Resources {
    /// Adds `other`, saturating.
    pub fn add(&mut self, more: &Self) {
        let Self { cpu, memory, other } = more;
        self.cpu = self.cpu.saturating_add(*cpu);
        self.memory = self.memory.saturating_add(*memory);
        for (name, amount) in other {
            let sum = self.other.entry(name.clone()).or_default();
            *sum = sum.saturating_add(*amount);
        }
    }

    /// Takes back an [`Self::add`].
    pub fn subtract(&mut self, less: &Self) {
        let Self { cpu, memory, other } = less;
        self.cpu = self.cpu.saturating_sub(*cpu);
        self.memory = self.memory.saturating_sub(*memory);
        for (name, amount) in other {
            if let Some(sum) = self.other.get_mut(name) {
                *sum = sum.saturating_sub(*amount);
                if *sum == 0 {
                    self.other.remove(name);
                }
            }
        }
    }

    /// The larger of both, for each resource: what init and main containers need together.
    pub fn raise_to(&mut self, than: &Self) {
        let Self { cpu, memory, other } = than;
        self.cpu = self.cpu.max(*cpu);
        self.memory = self.memory.max(*memory);
        for (name, amount) in other {
            let most = self.other.entry(name.clone()).or_default();
            *most = (*most).max(*amount);
        }
    }

    /// Whether `used` and `more` together stay within these.
    fn hold(&self, used: &Self, more: &Self) -> bool {
        let Self { cpu, memory, other } = more;
        let of = |all: &Self, name| all.other.get(name).copied().unwrap_or(0);
        used.cpu.saturating_add(*cpu) <= self.cpu
            && used.memory.saturating_add(*memory) <= self.memory
            && other
                .iter()
                .all(|(name, amount)| *amount == 0 || of(used, name).saturating_add(*amount) <= of(self, name))
    }
}

/// A taint of a node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Taint {
    /// Its key.
    pub key: Box<str>,
    /// Its value, empty if none.
    pub value: Box<str>,
    /// What it does.
    pub effect: TaintEffect,
}

/// What a pod of the workload asks of its node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    /// Requests of one pod, overhead included.
    pub requests: Resources,
    /// `nodeSelector`.
    pub node_selector: Labels,
    /// Required node affinity: any one of these terms, all requirements of it. `None`: no constraint.
    /// A term without requirements matches nothing.
    pub node_affinity: Option<Vec<Vec<Requirement>>>,
    /// Tolerations, those of the capacity class included.
    pub tolerations: Vec<Toleration>,
    /// Topology keys of required anti-affinity terms that select the workload's own pods.
    pub apart: BTreeSet<Box<str>>,
}

/// A node as the scheduler sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node<'a> {
    /// Its labels.
    pub labels: &'a Labels,
    /// Its taints.
    pub taints: &'a [Taint],
    /// Ready condition true.
    pub ready: bool,
    /// `spec.unschedulable`.
    pub cordoned: bool,
    /// What it offers.
    pub allocatable: &'a Resources,
    /// How many pods it may hold.
    pub pod_capacity: u32,
    /// What its pods request.
    pub used: &'a Resources,
    /// How many pods it holds.
    pub pods: u32,
}

/// Whether `node` could take one more pod. `occupied(key, value)` tells whether a pod of the same workload already runs
/// in that topology domain.
pub fn fits(demand: &Demand, node: &Node<'_>, occupied: impl Fn(&str, &str) -> bool) -> bool {
    let Demand { requests, node_selector, node_affinity, tolerations, apart } = demand;
    node.ready
        && !node.cordoned
        && node.pods < node.pod_capacity
        && node.taints.iter().all(|taint| tolerated(taint, tolerations))
        && node_selector.iter().all(|(key, value)| node.labels.get(key) == Some(value))
        && node_affinity.as_ref().is_none_or(|terms| terms.iter().any(|term| matches(term, node.labels)))
        && node.allocatable.hold(node.used, requests)
        && apart.iter().all(|key| node.labels.get(key).is_none_or(|value| !occupied(key, value)))
}

/// How many such pods `node` could take, counted up to `most`. Of pods that keep themselves apart, one.
pub fn places(demand: &Demand, node: &Node<'_>, occupied: impl Fn(&str, &str) -> bool, most: u32) -> u32 {
    if !fits(demand, node, occupied) {
        return 0;
    }
    if !demand.apart.is_empty() {
        return most.min(1);
    }
    let (mut used, mut places) = (node.used.clone(), 0);
    while places < most
        && node.pods.saturating_add(places) < node.pod_capacity
        && node.allocatable.hold(&used, &demand.requests)
    {
        used.add(&demand.requests);
        places += 1;
    }
    places
}

fn matches(term: &[Requirement], labels: &Labels) -> bool {
    !term.is_empty() && term.iter().all(|requirement| requirement.matches(labels))
}

/// Whether a taint keeps no pod with these tolerations away. `PreferNoSchedule` keeps nobody away.
pub fn tolerated(taint: &Taint, tolerations: &[Toleration]) -> bool {
    match taint.effect {
        TaintEffect::PreferNoSchedule => true,
        TaintEffect::NoSchedule | TaintEffect::NoExecute => {
            tolerations.iter().any(|toleration| tolerates(toleration, taint))
        }
    }
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let Toleration { key, operator, value, effect, toleration_seconds: _ } = toleration;
    let effect_matches = effect.is_none_or(|effect| effect == taint.effect);
    let key_matches = key.as_deref().is_none_or(|key| key == &*taint.key);
    let value_matches = match operator {
        TolerationOperator::Exists => true,
        TolerationOperator::Equal => key.is_some() && value.as_deref().unwrap_or("") == &*taint.value,
    };
    effect_matches && key_matches && value_matches
}

/// Reads a Kubernetes quantity in thousandths (`scale` 1,000) or whole units (`scale` 1), rounded up; `None` if it is no
/// quantity or negative.
///
/// Format: <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>.
pub fn parse_quantity(text: &str, scale: u64) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let (multiplier, divisor): (u128, u128) = match suffix {
        "" => (1, 1),
        "n" => (1, 1_000_000_000),
        "u" => (1, 1_000_000),
        "m" => (1, 1_000),
        "k" => (1_000, 1),
        "M" => (1_000_000, 1),
        "G" => (1_000_000_000, 1),
        "T" => (1_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000, 1),
        "E" => (1_000_000_000_000_000_000, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        exponent => {
            let power: i32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            let ten = 10u128.checked_pow(power.unsigned_abs()).filter(|_| power.abs() <= 18)?;
            if power >= 0 { (ten, 1) } else { (1, ten) }
        }
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') || number.len() > 30 {
        return None;
    }
    let fraction = &fraction[..fraction.len().min(9)];
    let digits: u128 = format!("{whole}{fraction}").parse().ok()?;
    let places = 10u128.pow(u32::try_from(fraction.len()).ok()?);
    let amount = digits.checked_mul(multiplier)?.checked_mul(u128::from(scale))?.div_ceil(divisor.checked_mul(places)?);
    Some(u64::try_from(amount).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::selector::Operator;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
    }

    fn requirement(key: &str, value: &str) -> Requirement {
        Requirement { key: key.into(), operator: Operator::In([value.into()].into()) }
    }

    fn taint(effect: TaintEffect) -> Taint {
        Taint { key: "dedicated".into(), value: "db".into(), effect }
    }

    fn toleration(key: Option<&str>, operator: TolerationOperator, value: Option<&str>) -> Toleration {
        Toleration {
            key: key.map(Into::into),
            operator,
            value: value.map(Into::into),
            effect: None,
            toleration_seconds: None,
        }
    }

    /// A demand and a node that fit, to be broken one way at a time.
    fn check(change: impl Fn(&mut Demand, &mut Labels, &mut Vec<Taint>, &mut Node<'_>)) -> bool {
        let mut demand = Demand {
            requests: Resources { cpu: 500, memory: 1 << 30, other: BTreeMap::new() },
            node_selector: labels(&[("disk", "ssd")]),
            node_affinity: Some(vec![vec![], vec![requirement("zone", "a")]]),
            ..Demand::default()
        };
        let mut node_labels = labels(&[("disk", "ssd"), ("zone", "a"), ("kubernetes.io/hostname", "n1")]);
        let mut taints = Vec::new();
        let allocatable = Resources { cpu: 2_000, memory: 4 << 30, other: BTreeMap::new() };
        let used = Resources { cpu: 1_500, memory: 3 << 30, other: BTreeMap::new() };
        let (no_labels, no_taints) = (Labels::new(), Vec::new());
        let mut node = Node {
            labels: &no_labels,
            taints: &no_taints,
            ready: true,
            cordoned: false,
            allocatable: &allocatable,
            pod_capacity: 10,
            used: &used,
            pods: 9,
        };
        change(&mut demand, &mut node_labels, &mut taints, &mut node);
        let node = Node { labels: &node_labels, taints: &taints, ..node };
        fits(&demand, &node, |key, value| (key, value) == ("kubernetes.io/hostname", "n1"))
    }

    #[test]
    fn each_filter_alone_decides() {
        assert!(check(|_, _, _, _| {}));
        assert!(!check(|_, _, _, node| node.ready = false));
        assert!(!check(|_, _, _, node| node.cordoned = true));
        assert!(!check(|_, _, _, node| node.pods = 10));
        assert!(!check(|demand, _, _, _| demand.requests.cpu = 501));
        assert!(!check(|demand, _, _, _| demand.requests.memory += 1));
        assert!(!check(|demand, _, _, _| {
            demand.requests.other.insert("nvidia.com/gpu".into(), 1);
        }));
        assert!(!check(|_, labels, _, _| {
            labels.remove("disk");
        }));
        assert!(!check(|_, labels, _, _| {
            labels.insert("zone".into(), "b".into());
        }));
        assert!(!check(|demand, _, _, _| demand.node_affinity = Some(vec![vec![]])));
        assert!(!check(|demand, _, _, _| {
            demand.apart.insert("kubernetes.io/hostname".into());
        }));
        assert!(check(|demand, _, _, _| {
            demand.apart.insert("zone".into());
        }));
    }

    #[test]
    fn taints_need_a_toleration_that_matches() {
        use TolerationOperator::{Equal, Exists};
        for (taint, tolerations, tolerates) in [
            (taint(TaintEffect::NoSchedule), vec![], false),
            (taint(TaintEffect::PreferNoSchedule), vec![], true),
            (taint(TaintEffect::NoExecute), vec![toleration(None, Exists, None)], true),
            (taint(TaintEffect::NoSchedule), vec![toleration(Some("dedicated"), Equal, Some("db"))], true),
            (taint(TaintEffect::NoSchedule), vec![toleration(Some("dedicated"), Equal, Some("web"))], false),
            (taint(TaintEffect::NoSchedule), vec![toleration(Some("other"), Exists, None)], false),
            (
                taint(TaintEffect::NoSchedule),
                vec![Toleration { effect: Some(TaintEffect::NoExecute), ..toleration(None, Exists, None) }],
                false,
            ),
        ] {
            assert_eq!(tolerated(&taint, &tolerations), tolerates, "{taint:?} {tolerations:?}");
        }
    }

    #[test]
    fn quantities() {
        for (text, scale, amount) in [
            ("1", 1_000, Some(1_000)),
            ("250m", 1_000, Some(250)),
            ("0.1", 1_000, Some(100)),
            ("1.5", 1_000, Some(1_500)),
            ("100n", 1_000, Some(1)),
            ("1Gi", 1, Some(1 << 30)),
            ("1.5Gi", 1, Some(3 << 29)),
            ("128974848", 1, Some(128_974_848)),
            ("129e6", 1, Some(129_000_000)),
            ("129M", 1, Some(129_000_000)),
            ("128974848000m", 1, Some(128_974_848)),
            ("99999E", 1, Some(u64::MAX)),
            (".5", 1_000, Some(500)),
            ("", 1, None),
            (".", 1, None),
            ("-1", 1, None),
            ("1x", 1, None),
            ("1e", 1, None),
            ("1e99", 1, None),
            ("1.2.3", 1, None),
            ("Gi", 1, None),
        ] {
            assert_eq!(parse_quantity(text, scale), amount, "{text}");
        }
    }
}
