//! Which nodes there are, which of them are lost, and when others come in their place. A plain value: it says what is to be
//! done, and does nothing.

use std::time::Duration;

use serde_json::{Value, json};

use crate::chance::Chance;
use crate::scenario::{Amount, Group};

/// The nodes of a scenario.
#[derive(Clone, Debug)]
pub struct Fleet {
    crowds: Vec<Crowd>,
    chance: Chance,
}

#[derive(Clone, Debug)]
struct Crowd {
    group: Group,
    /// So many can be had.
    available: u32,
    alive: Vec<String>,
    /// So many are on their way.
    coming: u32,
    /// So many were made.
    made: u32,
}

/// A node to be created, or one that comes later.
#[derive(Clone, Debug, PartialEq)]
pub struct Coming {
    /// Of which group, by its number.
    pub group: usize,
    /// After which time.
    pub after: Duration,
}

impl Fleet {
    /// Nodes that are yet to be created. `chance` says which of them are lost.
    pub fn new(groups: &[Group], chance: Chance) -> Self {
        let crowds = groups.iter().map(|group| Crowd {
            group: group.clone(),
            available: u32::MAX,
            alive: Vec::new(),
            coming: 0,
            made: 0,
        });
        Self { crowds: crowds.collect(), chance }
    }

    /// The nodes of the beginning.
    pub fn first(&mut self) -> Vec<Value> {
        let mut nodes = Vec::new();
        for group in 0..self.crowds.len() {
            let cordoned = self.crowds[group].group.cordoned;
            let alike = std::iter::from_fn(|| self.next(group));
            nodes.extend(alike.map(|mut node| {
                if cordoned {
                    node["spec"]["unschedulable"] = json!(true);
                }
                node
            }));
        }
        nodes
    }

    /// One more node of a group, unless it is not needed or cannot be had.
    pub fn next(&mut self, group: usize) -> Option<Value> {
        let crowd = &mut self.crowds[group];
        crowd.coming = crowd.coming.saturating_sub(1);
        if crowd.alive.len() >= crowd.wanted() {
            return None;
        }
        crowd.made += 1;
        let name = format!("{}-{}", crowd.group.name, crowd.made);
        let node = node(&crowd.group, &name, crowd.made);
        crowd.alive.push(name);
        Some(node)
    }

    /// Those of a group that are lost: a seed says which.
    pub fn lose(&mut self, group: &str, count: Amount) -> Vec<String> {
        let Some(crowd) = self.crowds.iter_mut().find(|crowd| crowd.group.name == group) else { return Vec::new() };
        let lost = count.of(crowd.alive.len());
        crowd.lose(lost, &mut self.chance)
    }

    /// Those of a group that are chosen for something from which they do not go.
    pub fn choose(&mut self, group: &str, count: Amount) -> Vec<String> {
        let Some(crowd) = self.crowds.iter().find(|crowd| crowd.group.name == group) else { return Vec::new() };
        let mut others = crowd.clone();
        others.lose(count.of(crowd.alive.len()), &mut self.chance)
    }

    /// All of a group.
    pub fn of(&self, group: &str) -> Vec<String> {
        let crowd = self.crowds.iter().find(|crowd| crowd.group.name == group);
        crowd.map(|crowd| crowd.alive.clone()).unwrap_or_default()
    }

    /// Those of a zone, which are lost.
    pub fn lose_zone(&mut self, zone: &str) -> Vec<String> {
        let mut lost = Vec::new();
        for crowd in &mut self.crowds {
            let zones = crowd.group.zones.clone();
            let is_there = |name: &String| zone_of(&zones, number(name)).is_some_and(|its| its == zone);
            lost.extend(crowd.alive.iter().filter(|name| is_there(name)).cloned());
            crowd.alive.retain(|name| !is_there(name));
        }
        lost
    }

    /// So many of a group can be had from now on. Those above that are lost.
    pub fn limit(&mut self, group: &str, count: Option<u32>) -> Vec<String> {
        let Some(crowd) = self.crowds.iter_mut().find(|crowd| crowd.group.name == group) else { return Vec::new() };
        crowd.available = count.unwrap_or(u32::MAX);
        let surplus = crowd.alive.len().saturating_sub(crowd.wanted());
        crowd.lose(surplus, &mut self.chance)
    }

    /// Nodes that come in place of lost ones, from now.
    pub fn replacements(&mut self) -> Vec<Coming> {
        let mut coming = Vec::new();
        for (group, crowd) in self.crowds.iter_mut().enumerate() {
            let Some(after) = crowd.group.back_after else { continue };
            while crowd.alive.len() + (crowd.coming as usize) < crowd.wanted() {
                crowd.coming += 1;
                coming.push(Coming { group, after });
            }
        }
        coming
    }
}

impl Crowd {
    fn wanted(&self) -> usize {
        self.group.count.min(self.available) as usize
    }

    fn lose(&mut self, count: usize, chance: &mut Chance) -> Vec<String> {
        let mut lost = Vec::new();
        while lost.len() < count && !self.alive.is_empty() {
            let last = u32::try_from(self.alive.len() - 1).expect("a fleet is bounded");
            lost.push(self.alive.remove(chance.between(0, last) as usize));
        }
        lost
    }
}

fn number(name: &str) -> u32 {
    name.rsplit('-').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

fn zone_of(zones: &[String], number: u32) -> Option<&String> {
    zones.get((number as usize).checked_rem(zones.len())?)
}

fn node(group: &Group, name: &str, number: u32) -> Value {
    let Group { name: _, capacity, count: _, pods, cpu, memory, zones, cordoned: _, back_after: _ } = group;
    let room = json!({"cpu": cpu, "memory": memory, "pods": pods.to_string()});
    let mut labels = json!({"kubernetes.io/hostname": name, "kubernetes.io/os": "linux"});
    if let Some(word) = capacity.word() {
        labels["karpenter.sh/capacity-type"] = json!(word);
    }
    if let Some(zone) = zone_of(zones, number) {
        labels["topology.kubernetes.io/zone"] = json!(zone);
    }
    json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels},
        "status": {"capacity": room, "allocatable": room, "conditions": [
            {"type": "Ready", "status": "True", "reason": "KubeletReady"},
        ]},
    })
}
