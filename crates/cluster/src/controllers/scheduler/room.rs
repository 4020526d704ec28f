//! A node and what is on it: what it has, what its pods ask for, what is left.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use crate::controllers::pods::is_over;
use crate::object::Object;
use crate::quantity::Quantity;
use crate::store::Store;

/// Amounts of resources. The two that nearly everybody asks for have places of their own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    /// `cpu`
    pub cpu: Quantity,
    /// `memory`
    pub memory: Quantity,
    /// All others, by their names.
    others: BTreeMap<String, Quantity>,
}

impl Amounts {
    /// Reads a list of resources.
    pub fn of(value: &Value) -> Self {
        let mut amounts = Self::default();
        for (resource, amount) in value.as_object().into_iter().flatten() {
            *amounts.place(resource) = Quantity::of(amount);
        }
        amounts
    }

    fn place(&mut self, resource: &str) -> &mut Quantity {
        match resource {
            "cpu" => &mut self.cpu,
            "memory" => &mut self.memory,
            _ => self.others.entry(resource.to_owned()).or_default(),
        }
    }

    /// How much of a resource.
    pub fn get(&self, resource: &str) -> Quantity {
        match resource {
            "cpu" => self.cpu,
            "memory" => self.memory,
            _ => self.others.get(resource).copied().unwrap_or_default(),
        }
    }

    /// All that is more than nothing, in the order of names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Quantity)> {
        let others = self.others.iter().map(|(resource, amount)| (resource.as_str(), *amount));
        let all = [("cpu", self.cpu), ("memory", self.memory)].into_iter().chain(others);
        all.filter(|(_, amount)| *amount > Quantity::ZERO)
    }

    fn add(&mut self, more: &Self) {
        for (resource, amount) in more.iter() {
            let place = self.place(resource);
            *place = *place + amount;
        }
    }

    /// At least as much of each.
    fn raise(&mut self, least: &Self) {
        for (resource, amount) in least.iter() {
            let place = self.place(resource);
            *place = amount.max(*place);
        }
    }
}

/// What counts for a pod that asks for nothing.
const LEAST_CPU: Quantity = Quantity::from_milli(100);
const LEAST_MEMORY: Quantity = Quantity::from_milli(200 * 1024 * 1024 * 1000);

/// What pods weigh when nodes are compared: something even where they ask for nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Nominal {
    pub(super) cpu: Quantity,
    pub(super) memory: Quantity,
}

impl Nominal {
    pub(super) fn of(asked: &Amounts) -> Self {
        let or = |amount: Quantity, least| if amount > Quantity::ZERO { amount } else { least };
        Self { cpu: or(asked.cpu, LEAST_CPU), memory: or(asked.memory, LEAST_MEMORY) }
    }
}

/// A node with its pods.
#[derive(Clone, Debug)]
pub struct Room {
    /// The node.
    pub node: Arc<Object>,
    /// The pods on it that are not at their end.
    pub pods: Vec<Arc<Object>>,
    has: Amounts,
    used: Amounts,
    pub(super) nominal: Nominal,
    /// How many pods of each controller, by its UID, are there to stay.
    families: BTreeMap<String, i64>,
    /// Those of the pods that do not want to be with certain others.
    pub(super) averse: Vec<Arc<Object>>,
}

/// What a pod asks for: its containers together with those that come first and stay, or the most that is needed while one of
/// those runs that only come first; what it says as a whole in place of that; and what it costs by itself.
pub fn requests(pod: &Object) -> Amounts {
    let of = |container: &Value| Amounts::of(&container["resources"]["requests"]);
    let mut sum = Amounts::default();
    for container in pod.list("/spec/containers") {
        sum.add(&of(container));
    }
    let (mut staying, mut most) = (Amounts::default(), Amounts::default());
    for container in pod.list("/spec/initContainers") {
        let mut meanwhile = of(container);
        if container["restartPolicy"] == "Always" {
            sum.add(&meanwhile);
            staying.add(&meanwhile);
        } else {
            meanwhile.add(&staying);
            most.raise(&meanwhile);
        }
    }
    sum.raise(&most);
    for (resource, amount) in Amounts::of(pod.at("/spec/resources/requests")).iter() {
        *sum.place(resource) = amount;
    }
    sum.add(&Amounts::of(pod.at("/spec/overhead")));
    sum
}

impl Room {
    /// A node as it is.
    pub fn of(store: &Store, node: Arc<Object>) -> Self {
        let mut room = Self::empty(node);
        let name = room.node.name().to_owned();
        for (_, pod) in store.pods_on(&name).filter(|(_, pod)| !is_over(pod)) {
            room.take(pod.clone());
        }
        room
    }

    /// A node without pods.
    pub fn empty(node: Arc<Object>) -> Self {
        let has = Amounts::of(node.at("/status/allocatable"));
        Self {
            node,
            pods: Vec::new(),
            has,
            used: Amounts::default(),
            nominal: Nominal::default(),
            families: BTreeMap::new(),
            averse: Vec::new(),
        }
    }

    /// Puts a pod there.
    pub fn take(&mut self, pod: Arc<Object>) {
        let asked = requests(&pod);
        self.used.add(&asked);
        let more = Nominal::of(&asked);
        self.nominal = Nominal { cpu: self.nominal.cpu + more.cpu, memory: self.nominal.memory + more.memory };
        if let Some(owner) = pod.controller().filter(|_| pod.deletion().is_none()) {
            *self.families.entry(owner.uid.to_owned()).or_default() += 1;
        }
        if !pod.at("/spec/affinity/podAntiAffinity").is_null() {
            self.averse.push(pod.clone());
        }
        self.pods.push(pod);
    }

    /// How many pods of a controller are there to stay.
    pub(super) fn siblings(&self, uid: &str) -> i64 {
        self.families.get(uid).copied().unwrap_or(0)
    }

    /// How many pods it can hold.
    pub fn places(&self) -> usize {
        usize::try_from(self.amount("pods").milli() / 1000).unwrap_or(0)
    }

    /// How much it has.
    pub fn amount(&self, resource: &str) -> Quantity {
        self.has.get(resource)
    }

    /// How much of it is asked for.
    pub fn used(&self, resource: &str) -> Quantity {
        self.used.get(resource)
    }
}
