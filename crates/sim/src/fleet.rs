//! Which nodes there are, which of them are lost, and when others come in their place. A plain value: it says what is to be
//! done, and does nothing.

use std::time::Duration;

use embedded_cluster::controllers::kubelet;
use serde_json::{Value, json};

use crate::chance::Chance;
use crate::scenario::{Amount, Group};

/// The label by which the type of a node is known, that of Karpenter.
pub const CAPACITY_TYPE: &str = "karpenter.sh/capacity-type";
/// What pods can have of the disk of each node. So much that disk does not decide: a fleet is described by CPU and memory, since
/// how large a disk is, is no property of a type of machine but chosen by whoever orders it. All pods of a full node can ask for
/// 9 GiB each, and who asks for more than a node with disks of its own has, is told that there is none.
pub const DISK: &str = "1000Gi";

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
    let room = json!({"cpu": cpu, "memory": memory, "ephemeral-storage": DISK, "pods": pods.to_string()});
    // What a cloud says of each of its nodes, for workloads may ask for it. There is one region, and a type for each size.
    let mut labels = json!({
        "kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64",
        "beta.kubernetes.io/os": "linux", "beta.kubernetes.io/arch": "amd64",
        "node.kubernetes.io/instance-type": format!("{cpu}-{memory}"), "topology.kubernetes.io/region": "region",
    });
    if let Some(word) = capacity.word() {
        labels[CAPACITY_TYPE] = json!(word);
    }
    if let Some(zone) = zone_of(zones, number) {
        labels["topology.kubernetes.io/zone"] = json!(zone);
    }
    json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels},
        "status": {"capacity": room, "allocatable": room, "nodeInfo": kubelet::info(), "conditions": [
            {"type": "Ready", "status": "True", "reason": "KubeletReady"},
        ]},
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Capacity;

    fn group(name: &str, count: u32, back_after: Option<u64>) -> Group {
        Group {
            name: name.to_owned(),
            capacity: Capacity::Spot,
            count,
            pods: 10,
            cpu: "4".to_owned(),
            memory: "8Gi".to_owned(),
            zones: vec!["a".to_owned(), "b".to_owned()],
            cordoned: name == "closed",
            back_after: back_after.map(Duration::from_secs),
        }
    }

    fn fleet(groups: &[Group]) -> Fleet {
        let mut fleet = Fleet::new(groups, Chance::of(7));
        assert_eq!(fleet.first().len(), groups.iter().map(|group| group.count as usize).sum::<usize>());
        fleet
    }

    #[test]
    fn nodes_are_made_as_their_group_says() {
        let mut fleet = Fleet::new(&[group("open", 2, None), group("closed", 1, None)], Chance::of(0));
        let nodes = fleet.first();
        let names: Vec<&str> = nodes.iter().filter_map(|node| node["metadata"]["name"].as_str()).collect();
        assert_eq!(names, ["open-1", "open-2", "closed-1"]);
        let labels = json!({
            "kubernetes.io/hostname": "open-1", "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64",
            "beta.kubernetes.io/os": "linux", "beta.kubernetes.io/arch": "amd64",
            "node.kubernetes.io/instance-type": "4-8Gi", "topology.kubernetes.io/region": "region",
            "topology.kubernetes.io/zone": "b", "karpenter.sh/capacity-type": "spot",
        });
        assert_eq!(nodes[0]["metadata"]["labels"], labels, "what workloads may ask for");
        assert_eq!(nodes[0]["status"]["nodeInfo"]["architecture"], "amd64");
        assert_ne!(
            nodes[0]["metadata"]["labels"]["topology.kubernetes.io/zone"],
            nodes[1]["metadata"]["labels"]["topology.kubernetes.io/zone"],
            "zones take turns"
        );
        assert_eq!(nodes[0]["status"]["allocatable"]["pods"], "10");
        assert_eq!(
            (&nodes[1]["spec"]["unschedulable"], &nodes[2]["spec"]["unschedulable"]),
            (&Value::Null, &json!(true))
        );
        assert_eq!(fleet.next(0), None, "no more than there are to be");
    }

    #[test]
    fn the_lost_are_replaced_once_and_only_where_the_group_says() {
        let mut fleet = fleet(&[group("x", 4, Some(30)), group("y", 2, None)]);
        assert_eq!(fleet.lose("x", Amount::Percent(50)).len(), 2);
        assert_eq!(fleet.lose("y", Amount::Nodes(9)).len(), 2, "no more than there are");
        let coming = Coming { group: 0, after: Duration::from_secs(30) };
        assert_eq!(fleet.replacements(), [coming.clone(), coming]);
        assert_eq!(fleet.replacements(), [], "they are on their way");
        let names: Vec<Value> =
            std::iter::from_fn(|| fleet.next(0)).map(|node| node["metadata"]["name"].clone()).collect();
        assert_eq!(names, ["x-5", "x-6"], "no name comes twice");
        assert_eq!(fleet.lose("z", Amount::Nodes(1)), [""; 0]);
    }

    #[test]
    fn the_limit_takes_away_and_gives_back() {
        let mut fleet = fleet(&[group("x", 4, Some(30))]);
        assert_eq!(fleet.limit("x", Some(1)).len(), 3);
        assert_eq!(fleet.replacements(), [], "no more can be had");
        assert_eq!(fleet.limit("x", None), [""; 0]);
        assert_eq!(fleet.replacements().len(), 3);
    }

    #[test]
    fn a_zone_takes_its_nodes_with_it_and_a_choice_does_not() {
        let mut fleet = fleet(&[group("x", 4, None), group("y", 2, None)]);
        assert_eq!(fleet.choose("x", Amount::Percent(100)).len(), 4);
        assert_eq!(fleet.of("x").len(), 4);
        assert_eq!(fleet.lose_zone("a"), ["x-2", "x-4", "y-2"]);
        assert_eq!(fleet.of("x"), ["x-1", "x-3"]);
    }

    #[test]
    fn a_seed_says_which() {
        let lost = |seed| {
            let mut fleet = Fleet::new(&[group("x", 9, None)], Chance::of(seed));
            fleet.first();
            fleet.lose("x", Amount::Nodes(3))
        };
        assert_eq!(lost(1), lost(1));
        assert!((2..9).any(|seed| lost(seed) != lost(1)));
    }
}
