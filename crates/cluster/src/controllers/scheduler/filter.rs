//! What keeps a pod from a node: the filters in their real order, with the real words. The first that refuses a node is
//! the one that is told.

use std::fmt;

use super::affinity::Affinity;
use super::room::{Amounts, Room, requests};
use super::spread::Spread;
use crate::matching::{Taint, tolerates, untolerated, wants};
use crate::object::Object;
use crate::store::Store;

/// Why a node does not take a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Cordoned.
    Unschedulable,
    /// A taint that the pod does not tolerate.
    Tainted,
    /// The pod wants another node.
    NotWanted,
    /// Another pod has a port of the node that the pod wants.
    PortTaken,
    /// It holds as many pods as it can.
    TooManyPods,
    /// Not enough left of a resource; whether the empty node would have enough.
    Insufficient(String, bool),
    /// Pods would be spread too unevenly.
    Uneven,
    /// The node has no label by which pods are to be spread.
    NoDomain,
    /// No pod is there that the pod wants to be with.
    Lonely,
    /// A pod is there that the pod does not want to be with.
    Repelled,
    /// A pod is there that does not want to be with this one.
    Repelling,
}

impl Reason {
    /// Whether it would end if pods went away from the node.
    pub const fn ends_with_other_pods(&self) -> bool {
        match self {
            Self::PortTaken | Self::TooManyPods | Self::Uneven | Self::Repelled | Self::Repelling => true,
            Self::Insufficient(_, empty_is_enough) => *empty_is_enough,
            Self::Unschedulable | Self::Tainted | Self::NotWanted | Self::NoDomain | Self::Lonely => false,
        }
    }

    /// Whether it has to do with what is on other nodes.
    pub const fn depends_on_others(&self) -> bool {
        match self {
            Self::Uneven | Self::Lonely | Self::Repelled | Self::Repelling => true,
            Self::Unschedulable
            | Self::Tainted
            | Self::NotWanted
            | Self::PortTaken
            | Self::TooManyPods
            | Self::Insufficient(_, _)
            | Self::NoDomain => false,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unschedulable => "node(s) were unschedulable",
            Self::Tainted => "node(s) had untolerated taint(s)",
            Self::NotWanted => "node(s) didn't match Pod's node affinity/selector",
            Self::PortTaken => "node(s) didn't have free ports for the requested pod ports",
            Self::TooManyPods => "Too many pods",
            Self::Insufficient(resource, _) => return write!(f, "Insufficient {resource}"),
            Self::Uneven => "node(s) didn't match pod topology spread constraints",
            Self::NoDomain => "node(s) didn't match pod topology spread constraints (missing required label)",
            Self::Lonely => "node(s) didn't match pod affinity rules",
            Self::Repelled => "node(s) didn't match pod anti-affinity rules",
            Self::Repelling => "node(s) didn't satisfy existing pods anti-affinity rules",
        })
    }
}

/// For each node why it does not take a pod; nothing if it does.
pub fn refusals(store: &Store, rooms: &[Room], pod: &Object) -> Vec<Vec<Reason>> {
    let question = Question::of(store, rooms, pod);
    rooms.iter().map(|room| question.refusal(room)).collect()
}

/// Whether one of these nodes takes a pod.
pub fn accepts(store: &Store, rooms: &[Room], place: usize, pod: &Object) -> bool {
    Question::of(store, rooms, pod).refusal(&rooms[place]).is_empty()
}

/// A pod, with what about all nodes matters to it.
struct Question<'p> {
    pod: &'p Object,
    ports: Vec<HostPort<'p>>,
    wanted: Amounts,
    spread: Spread,
    affinity: Affinity,
}

impl<'p> Question<'p> {
    fn of(store: &Store, rooms: &[Room], pod: &'p Object) -> Self {
        let (spread, affinity) = (Spread::required(rooms, pod), Affinity::required(store, rooms, pod));
        Self { pod, ports: host_ports(pod).collect(), wanted: requests(pod), spread, affinity }
    }

    fn refusal(&self, room: &Room) -> Vec<Reason> {
        if let Some(reason) = by_node(self.pod, &room.node) {
            return vec![reason];
        }
        let is_taken =
            |port: &HostPort<'_>| room.pods.iter().flat_map(|pod| host_ports(pod)).any(|it| it.excludes(port));
        if self.ports.iter().any(is_taken) {
            return vec![Reason::PortTaken];
        }
        let lacking = lacks(room, &self.wanted);
        if !lacking.is_empty() {
            return lacking;
        }
        self.spread.refuses(&room.node).or_else(|| self.affinity.refuses(room)).into_iter().collect()
    }
}

/// A port of the node that a pod wants for itself.
#[derive(Clone, Copy, Debug)]
struct HostPort<'o> {
    number: i64,
    protocol: &'o str,
    /// `0.0.0.0` for all addresses.
    address: &'o str,
}

impl HostPort<'_> {
    fn excludes(&self, other: &HostPort<'_>) -> bool {
        let all = "0.0.0.0";
        (self.number, self.protocol) == (other.number, other.protocol)
            && (self.address == other.address || self.address == all || other.address == all)
    }
}

/// Those of the containers that run all the time.
fn host_ports(pod: &Object) -> impl Iterator<Item = HostPort<'_>> {
    let staying = pod.list("/spec/initContainers").iter().filter(|container| container["restartPolicy"] == "Always");
    let containers = pod.list("/spec/containers").iter().chain(staying);
    let ports = containers.flat_map(|container| container["ports"].as_array().into_iter().flatten());
    ports.filter_map(|port| {
        let text = |key: &str, none| port[key].as_str().filter(|text| !text.is_empty()).unwrap_or(none);
        let number = port["hostPort"].as_i64().filter(|number| *number > 0)?;
        Some(HostPort { number, protocol: text("protocol", "TCP"), address: text("hostIP", "0.0.0.0") })
    })
}

/// What node and pod say about each other.
fn by_node(pod: &Object, node: &Object) -> Option<Reason> {
    let cordon = Taint { key: "node.kubernetes.io/unschedulable", value: "", effect: "NoSchedule" };
    let tolerations = pod.list("/spec/tolerations");
    if node.is("/spec/unschedulable") && !tolerations.iter().any(|toleration| tolerates(toleration, cordon)) {
        return Some(Reason::Unschedulable);
    }
    if untolerated(pod, node).is_some() {
        return Some(Reason::Tainted);
    }
    (!wants(pod, node)).then_some(Reason::NotWanted)
}

fn lacks(room: &Room, wanted: &Amounts) -> Vec<Reason> {
    let full = (room.pods.len() + 1 > room.places()).then_some(Reason::TooManyPods);
    let short = wanted.iter().filter_map(|(resource, amount)| {
        let has = room.amount(resource);
        (room.used(resource) + amount > has).then(|| Reason::Insufficient(resource.to_owned(), amount <= has))
    });
    full.into_iter().chain(short).collect()
}
