//! The nodes of a simulated fleet: described by hand, taken from a cluster, or as many as the workloads need.
//!
//! A fleet is fixed: spot nodes come and go as their market has it, and nothing makes more of them than there were.

use std::collections::BTreeSet;
use std::time::Duration;

use embedded_cluster::quantity::Quantity;
use serde::Serialize;

use crate::scenario::{Capacity, Group, MOST_NODES};

/// The group of spot nodes.
pub(super) const SPOT: &str = "spot";
/// The group of on-demand nodes.
const ON_DEMAND: &str = "on-demand";
/// The CPU of a node where nobody said it.
const CPU: &str = "16";
/// The memory of a node where nobody said it.
const MEMORY: &str = "64Gi";
/// Over how many zones nodes are spread where nobody said it.
const ZONES: u32 = 3;
/// How many pods a node takes: the limit of Kubernetes itself.
const PODS: u32 = 110;
/// The share of spot nodes where nobody said it, in percent.
const SPOT_SHARE: u32 = 50;
/// The least nodes of a type that are made of it where nobody said how many: one alone is no fleet.
const LEAST: u32 = 2;
/// The largest node.
const MOST_CPU: Quantity = Quantity::from_milli(1_024 * 1_000);
/// The largest node, in bytes.
const MOST_MEMORY: Quantity = Quantity::from_milli((1 << 46) * 1_000);

/// What somebody wants. What is not said is as it is in the cluster, or as the workloads need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// How many nodes.
    pub nodes: Option<u32>,
    /// The share of spot nodes, in percent.
    pub spot_share: Option<u32>,
    /// The CPU of each, as a quantity.
    pub cpu: Option<String>,
    /// The memory of each, as a quantity.
    pub memory: Option<String>,
    /// Over how many zones they are spread.
    pub zones: Option<u32>,
    /// How long until another node is there in place of a lost one, once it can be had.
    pub replace_after: Duration,
    /// The nodes of a cluster; they count only where it is not said how many there are to be.
    pub seen: Vec<Seen>,
}

/// A node of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Whether it is a spot node.
    pub spot: bool,
    /// What pods can have of it.
    pub cpu: Quantity,
    /// What pods can have of it, in bytes.
    pub memory: Quantity,
    /// Where it is.
    pub zone: Option<String>,
}

/// What a workload needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// `NAMESPACE/NAME`
    pub workload: String,
    /// Pods that are wanted on spot.
    pub spot: u32,
    /// Pods that are wanted on on-demand.
    pub on_demand: u32,
    /// Pods of which nobody says where.
    pub anywhere: u32,
    /// CPU of each.
    pub cpu: Quantity,
    /// Memory of each, in bytes.
    pub memory: Quantity,
}

impl Need {
    const fn all(&self) -> u32 {
        self.spot + self.other()
    }

    /// Those that are not wanted on spot.
    const fn other(&self) -> u32 {
        self.on_demand + self.anywhere
    }
}

/// A fleet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Fleet {
    /// Spot nodes, while all of them can be had.
    pub spot: u32,
    /// On-demand nodes.
    pub on_demand: u32,
    /// The CPU of each.
    pub cpu: String,
    /// The memory of each.
    pub memory: String,
    /// Where they are.
    pub zones: Vec<String>,
    /// Until another is there in place of a lost one.
    #[serde(serialize_with = "seconds", rename = "replaceAfterSeconds")]
    pub replace_after: Duration,
}

fn seconds<S: serde::Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}

/// Why there is no such fleet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Impossible(String);

/// So many pods that are alike.
#[derive(Clone, Copy)]
struct Pods {
    count: u32,
    cpu: i128,
    memory: i128,
}

impl Fleet {
    /// The fleet that somebody wants for these workloads.
    pub fn of(wish: &Wish, needs: &[Need]) -> Result<Self, Impossible> {
        let Wish { nodes, spot_share, cpu, memory, zones, replace_after, seen } = wish;
        let seen = if nodes.is_none() { seen.as_slice() } else { &[] };
        let average = |what: fn(&Seen) -> Quantity| {
            let count = i128::try_from(seen.len()).ok().filter(|count| *count > 0)?;
            Some(Quantity::from_milli(seen.iter().map(what).sum::<Quantity>().milli() / count))
        };
        let cpu = cpu.clone().or_else(|| average(|node| node.cpu).map(decimal)).unwrap_or_else(|| CPU.to_owned());
        let memory =
            memory.clone().or_else(|| average(|node| node.memory).map(mebibytes)).unwrap_or_else(|| MEMORY.to_owned());
        let room = Pods {
            count: PODS,
            cpu: sized("--node-cpu", &cpu, MOST_CPU, "16 or 3500m, at most 1024")?,
            memory: sized("--node-memory", &memory, MOST_MEMORY, "64Gi, at most 64Ti")?,
        };
        if let Some(share) = spot_share.filter(|share| *share > 100) {
            return Err(Impossible(format!("--spot-share {share} is no percentage: 0 to 100")));
        }
        if let Some(need) = needs.iter().find(|need| need.cpu.milli() > room.cpu || need.memory.milli() > room.memory) {
            let Need { workload, cpu: wanted_cpu, memory: wanted_memory, .. } = need;
            return Err(Impossible(format!(
                "a pod of {workload} asks for {} CPU and {} of memory, which no node of {cpu} CPU and {memory} has: raise \
                 --node-cpu or --node-memory",
                decimal(*wanted_cpu),
                mebibytes(*wanted_memory),
            )));
        }
        let (spot, on_demand) = match (nodes, spot_share) {
            (Some(0), _) => return Err(Impossible("a fleet of no nodes runs nothing: raise --nodes".to_owned())),
            (Some(nodes), share) => split(*nodes, share.unwrap_or(SPOT_SHARE)),
            (None, share) if seen.is_empty() => sizes(needs, room, *share),
            (None, Some(share)) => split(counted(seen.len()), *share),
            (None, None) => {
                let spot = seen.iter().filter(|node| node.spot).count();
                (counted(spot), counted(seen.len() - spot))
            }
        };
        if spot.saturating_add(on_demand) > MOST_NODES {
            return Err(Impossible(format!(
                "{} nodes: at most {MOST_NODES} are simulated; take fewer, or larger ones with --node-cpu and --node-memory",
                spot.saturating_add(on_demand)
            )));
        }
        enough(needs, room, (spot, on_demand))?;
        let there: BTreeSet<&String> = seen.iter().filter_map(|node| node.zone.as_ref()).collect();
        let zones = match (zones, there.len()) {
            (Some(zones), _) => numbered(*zones),
            (None, 0) => numbered(ZONES),
            (None, _) => there.into_iter().cloned().collect(),
        };
        Ok(Self { spot, on_demand, cpu, memory, zones, replace_after: *replace_after })
    }

    /// Its nodes, as a scenario has them.
    pub fn groups(&self) -> Vec<Group> {
        let Self { spot, on_demand, cpu, memory, zones, replace_after } = self;
        let group = |name: &str, capacity, count| Group {
            name: name.to_owned(),
            capacity,
            count,
            pods: PODS,
            cpu: cpu.clone(),
            memory: memory.clone(),
            zones: zones.clone(),
            cordoned: false,
            back_after: Some(*replace_after),
        };
        vec![group(SPOT, Capacity::Spot, *spot), group(ON_DEMAND, Capacity::OnDemand, *on_demand)]
    }
}

/// Whether there is as much as is asked for together, on each type and on both. Where it is less, somebody waits for ever.
fn enough(needs: &[Need], room: Pods, (spot, on_demand): (u32, u32)) -> Result<(), Impossible> {
    let kinds = [
        (" that are wanted on spot", "spot nodes", spot),
        (" that are wanted on on-demand", "on-demand nodes", on_demand),
        ("", "nodes", spot.saturating_add(on_demand)),
    ];
    let counts: [fn(&Need) -> u32; 3] = [|need| need.spot, |need| need.on_demand, Need::all];
    for ((which, where_, nodes), count) in kinds.into_iter().zip(counts) {
        let sum =
            |of: &dyn Fn(&Need) -> i128| needs.iter().map(|need| i128::from(count(need)) * of(need)).sum::<i128>();
        let (pods, cpu, memory) = (sum(&|_| 1), sum(&|need| need.cpu.milli()), sum(&|need| need.memory.milli()));
        let has = |of: i128| of * i128::from(nodes);
        let (cores, bytes) =
            (|milli| decimal(Quantity::from_milli(milli)), |milli| mebibytes(Quantity::from_milli(milli)));
        let short = if pods > has(room.count.into()) {
            format!("are {pods} pods, and {nodes} {where_} take {}", has(room.count.into()))
        } else if cpu > has(room.cpu) {
            format!("ask for {} CPU together, and {nodes} {where_} have {}", cores(cpu), cores(has(room.cpu)))
        } else if memory > has(room.memory) {
            format!(
                "ask for {} of memory together, and {nodes} {where_} have {}",
                bytes(memory),
                bytes(has(room.memory))
            )
        } else {
            continue;
        };
        return Err(Impossible(format!(
            "the replicas{which} {short}: they can never all run; change --nodes, --spot-share, --node-cpu or --node-memory"
        )));
    }
    Ok(())
}

fn sized(flag: &str, text: &str, most: Quantity, allowed: &str) -> Result<i128, Impossible> {
    let quantity = Quantity::parse(text).filter(|quantity| Quantity::ZERO < *quantity && *quantity <= most);
    let wrong = || Impossible(format!("{flag} {text:?} is no size of a node: write a quantity as {allowed}"));
    quantity.map(Quantity::milli).ok_or_else(wrong)
}

fn numbered(zones: u32) -> Vec<String> {
    (1..=zones).map(|zone| format!("zone-{zone}")).collect()
}

fn counted(nodes: usize) -> u32 {
    u32::try_from(nodes).unwrap_or(u32::MAX)
}

fn decimal(quantity: Quantity) -> String {
    let milli = quantity.milli();
    if milli % 1_000 == 0 { (milli / 1_000).to_string() } else { format!("{milli}m") }
}

fn mebibytes(quantity: Quantity) -> String {
    format!("{}Mi", quantity.milli().div_euclid(1_000 * 1_024 * 1_024))
}

/// So many nodes, by type; half of one is one of spot.
fn split(nodes: u32, share: u32) -> (u32, u32) {
    let spot = (u64::from(nodes) * u64::from(share) + 50) / 100;
    let spot = u32::try_from(spot).unwrap_or(nodes);
    (spot, nodes - spot)
}

/// As many as are needed, and a quarter to spare.
fn sizes(needs: &[Need], room: Pods, share: Option<u32>) -> (u32, u32) {
    let pods = |count: fn(&Need) -> u32| {
        needs.iter().map(move |need| Pods { count: count(need), cpu: need.cpu.milli(), memory: need.memory.milli() })
    };
    let spared = |nodes: u32| nodes.saturating_add(nodes.div_ceil(4)).max(LEAST);
    let all = || spared(packed(pods(Need::all).collect(), room));
    let spot = spared(packed(pods(|need| need.spot).collect(), room));
    let other = spared(packed(pods(Need::other).collect(), room));
    match share {
        None => (spot, other),
        Some(0) => (0, all()),
        Some(100) => (all(), 0),
        // The fewest of which the shares are large enough.
        Some(share) => {
            let enough = |nodes: &u32| split(*nodes, share).0 >= spot && split(*nodes, share).1 >= other;
            split((1..=MOST_NODES).find(enough).unwrap_or(MOST_NODES + 1), share)
        }
    }
}

/// How many nodes pods fill, the large ones first and each on the first node with room.
fn packed(mut pods: Vec<Pods>, room: Pods) -> u32 {
    pods.sort_by_key(|pods| std::cmp::Reverse((pods.cpu * room.memory + pods.memory * room.cpu, pods.cpu)));
    let mut nodes: Vec<Pods> = Vec::new();
    for Pods { count, cpu, memory } in pods {
        let (mut left, mut place) = (count, 0);
        while left > 0 {
            if place == nodes.len() {
                nodes.push(room);
            }
            let node = &mut nodes[place];
            let fit = |has: i128, asked: i128| {
                has.checked_div(asked).map_or(u32::MAX, |fit| u32::try_from(fit).unwrap_or(u32::MAX))
            };
            let here = node.count.min(fit(node.cpu, cpu)).min(fit(node.memory, memory)).min(left);
            node.count -= here;
            node.cpu -= cpu * i128::from(here);
            node.memory -= memory * i128::from(here);
            left -= here;
            place += 1;
        }
    }
    u32::try_from(nodes.len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish() -> Wish {
        Wish {
            nodes: None,
            spot_share: None,
            cpu: None,
            memory: None,
            zones: None,
            replace_after: Duration::from_mins(2),
            seen: Vec::new(),
        }
    }

    fn need(spot: u32, other: u32, cpu: &str, memory: &str) -> Need {
        let quantity = |text: &str| Quantity::parse(text).unwrap();
        let (cpu, memory) = (quantity(cpu), quantity(memory));
        Need { workload: "shop/web".to_owned(), spot, on_demand: other, anywhere: 0, cpu, memory }
    }

    fn sizes(wish: &Wish, needs: &[Need]) -> (u32, u32) {
        let Fleet { spot, on_demand, .. } = Fleet::of(wish, needs).unwrap();
        (spot, on_demand)
    }

    #[test]
    fn a_fleet_is_as_large_as_is_needed_and_a_quarter() {
        let large = need(8, 4, "9", "1Gi");
        assert_eq!(sizes(&wish(), std::slice::from_ref(&large)), (10, 5), "two of 9 CPU do not go on one node of 16");
        let beside = need(8, 0, "7", "1Gi");
        assert_eq!(sizes(&wish(), &[beside, large]), (10, 5), "but one of 7 CPU goes beside it");
        assert_eq!(sizes(&wish(), &[need(8, 0, "100m", "33Gi")]), (10, 2), "memory counts as well");
        assert_eq!(sizes(&wish(), &[need(250, 0, "0", "0")]), (4, 2), "and so does the number of pods");
        assert_eq!(sizes(&wish(), &[]), (2, 2));
    }

    #[test]
    fn the_share_of_spot_is_kept() {
        let needs = [need(8, 4, "16", "1Gi")];
        let with = |nodes, share| sizes(&Wish { nodes, spot_share: share, ..wish() }, &needs);
        assert_eq!(with(None, Some(50)), (10, 9));
        assert_eq!(with(None, Some(80)), (18, 5));
        let anywhere = [Need { on_demand: 0, anywhere: 12, ..need(0, 0, "16", "1Gi") }];
        let free = |nodes, share, needs: &[Need]| sizes(&Wish { nodes, spot_share: share, ..wish() }, needs);
        assert_eq!((free(None, Some(0), &anywhere), free(None, Some(100), &anywhere)), ((0, 15), (15, 0)));
        let fixed = |nodes, share| free(Some(nodes), share, &[]);
        assert_eq!((fixed(5, None), fixed(5, Some(10)), fixed(1, Some(0))), ((3, 2), (1, 4), (0, 1)));
        let groups = Fleet::of(&Wish { nodes: Some(5), ..wish() }, &[]).unwrap().groups();
        let told: Vec<(&str, Capacity, u32)> = groups.iter().map(|it| (&*it.name, it.capacity, it.count)).collect();
        assert_eq!(told, [("spot", Capacity::Spot, 3), ("on-demand", Capacity::OnDemand, 2)]);
        assert_eq!(groups[0].zones, ["zone-1", "zone-2", "zone-3"]);
    }

    #[test]
    fn a_cluster_is_taken_as_it_is_on_average() {
        let seen = |spot: bool, cpu: &str, memory: &str, zone: &str| Seen {
            spot,
            cpu: Quantity::parse(cpu).unwrap(),
            memory: Quantity::parse(memory).unwrap(),
            zone: Some(zone.to_owned()),
        };
        let seen = vec![seen(true, "4", "8Gi", "b"), seen(true, "8", "16Gi", "a"), seen(false, "3900m", "8Gi", "a")];
        let there = Wish { seen, ..wish() };
        let fleet = Fleet::of(&there, &[need(10, 0, "100m", "1Gi")]).unwrap();
        assert_eq!(
            (fleet.spot, fleet.on_demand, fleet.cpu.as_str(), fleet.memory.as_str()),
            (2, 1, "5300m", "10922Mi")
        );
        assert_eq!(fleet.zones, ["a", "b"]);
        let sized = |wish: &Wish| sizes(wish, &[]);
        assert_eq!(sized(&Wish { spot_share: Some(34), ..there.clone() }), (1, 2), "what is said counts");
        assert_eq!(sized(&Wish { nodes: Some(10), ..there }), (5, 5));
    }

    #[test]
    fn impossible_fleets_say_what_to_change() {
        let of =
            |cpu: &str, memory: &str| Wish { cpu: Some(cpu.to_owned()), memory: Some(memory.to_owned()), ..wish() };
        for (wish, needs, says) in [
            (Wish { nodes: Some(0), ..wish() }, vec![], "raise --nodes"),
            (Wish { nodes: Some(6_000), ..wish() }, vec![], "6000 nodes: at most 5000 are simulated"),
            (Wish { spot_share: Some(101), ..wish() }, vec![], "--spot-share 101 is no percentage: 0 to 100"),
            (of("sixteen", "64Gi"), vec![], "--node-cpu \"sixteen\" is no size of a node"),
            (of("0", "64Gi"), vec![], "--node-cpu \"0\""),
            (of("-1", "64Gi"), vec![], "--node-cpu \"-1\""),
            (of("2000", "64Gi"), vec![], "at most 1024"),
            (of("16", "65Ti"), vec![], "--node-memory \"65Ti\""),
            (
                wish(),
                vec![need(1, 0, "17", "1Gi")],
                "a pod of shop/web asks for 17 CPU and 1024Mi of memory, which no node of 16 CPU",
            ),
            (wish(), vec![need(1, 0, "1500m", "65Gi")], "asks for 1500m CPU"),
            (wish(), vec![need(5_000, 0, "16", "1Gi")], "nodes: at most 5000 are simulated"),
            (Wish { spot_share: Some(1), ..wish() }, vec![need(100, 0, "16", "1Gi")], "at most 5000 are simulated"),
            (
                Wish { nodes: Some(4), ..wish() },
                vec![need(3, 0, "16", "1Gi")],
                "the replicas that are wanted on spot ask for 48 CPU together, and 2 spot nodes have 32: they can never all run",
            ),
            (
                Wish { nodes: Some(4), spot_share: Some(0), ..wish() },
                vec![need(1, 0, "1", "1Gi")],
                "the replicas that are wanted on spot are 1 pods, and 0 spot nodes take 0: ",
            ),
            (
                Wish { nodes: Some(4), ..wish() },
                vec![need(0, 3, "1", "64Gi")],
                "wanted on on-demand ask for 196608Mi of memory together, and 2 on-demand nodes have 131072Mi: ",
            ),
            (
                Wish { nodes: Some(4), ..wish() },
                vec![Need { on_demand: 0, anywhere: 441, ..need(0, 0, "1m", "1Mi") }],
                "the replicas are 441 pods, and 4 nodes take 440: ",
            ),
        ] {
            let error = Fleet::of(&wish, &needs).unwrap_err().to_string();
            assert!(error.contains(says), "{says}: {error}");
        }
    }
}
