//! The provisioner: pods that no node can take, now or when those that come are there, get a node of a NodePool. It behaves
//! as Karpenter does in the simple case.
//!
//! What there is to choose from is in `offering`; what becomes of a NodeClaim is in `claims`. It does not drain, replace or
//! repack nodes that are in use.

mod claims;
mod offering;

use std::cmp::Reverse;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

pub use self::claims::NodeClaims;
use self::offering::{ALLOCATABLE, Offering, Pool};
use super::pods::controller_reference;
use super::scheduler::{Room, refusals, requests, waits};
use crate::engine::{Act, Controller, Write};
use crate::object::Object;
use crate::quantity::Quantity;
use crate::resource::Kind;
use crate::store::{Change, Key, Store};

/// The label with a node's capacity type.
pub const CAPACITY_TYPE: &str = "karpenter.sh/capacity-type";
/// The label with a node's NodePool.
pub const NODE_POOL: &str = "karpenter.sh/nodepool";
const HOST: &str = "kubernetes.io/hostname";
/// The finalizer of a NodeClaim whose node is there.
const TERMINATION: &str = "karpenter.sh/termination";
/// Pods are collected for so long before nodes are made for them.
const BATCH: SignedDuration = SignedDuration::from_secs(1);

/// The provisioner.
#[derive(Clone, Copy, Debug)]
pub struct Provisioner;

/// Everything is planned under one key, so that no two plans are made for the same pods.
fn plan_key() -> Key {
    Key::new(Kind::NodePool, "", "")
}

impl Controller for Provisioner {
    fn name(&self) -> &'static str {
        "provisioner"
    }

    fn touched(&self, store: &Store, change: &Change) -> Vec<Key> {
        let relevant = match (change.key.kind, &change.after) {
            (Kind::Pod, Some(pod)) => is_left_over(pod),
            (Kind::NodePool, _) | (Kind::Node | Kind::NodeClaim, None) => true,
            _ => false,
        };
        if relevant && store.list(Kind::NodePool, None).next().is_some() { vec![plan_key()] } else { Vec::new() }
    }

    fn delay(&self) -> SignedDuration {
        BATCH
    }

    fn look(&self, store: &Store, _key: &Key, _now: Timestamp) -> Act {
        let mut pods: Vec<&Arc<Object>> =
            store.pods_on("").map(|(_, pod)| pod).filter(|pod| is_left_over(pod)).collect();
        if pods.is_empty() {
            return Act::none();
        }
        // The big ones first, for the small ones fit in beside them.
        pods.sort_by_key(|pod| {
            let asked = requests(pod);
            let of = |resource: &str| Reverse(asked.get(resource).copied().unwrap_or_default());
            (of("cpu"), of("memory"), pod.created(), pod.namespace().to_owned(), pod.name().to_owned())
        });
        let mut plan = Plan::of(store);
        pods.into_iter().for_each(|pod| plan.provide(pod));
        Act::now(plan.new.iter().map(|new| Write::Create(claim(new))).collect())
    }
}

/// Whether the scheduler found no place for a pod.
fn is_left_over(pod: &Object) -> bool {
    let condition = pod.condition("PodScheduled");
    waits(pod) && condition.is_some_and(|it| it["status"] == "False" && it["reason"] == "Unschedulable")
}

/// A node that is to be made.
struct New<'s> {
    pool: usize,
    object: &'s Object,
    offering: Offering,
    room: Room,
}

/// What there is, what comes, and what is to be made.
struct Plan<'s> {
    store: &'s Store,
    pools: Vec<Pool<'s>>,
    /// The nodes that are there or come.
    rooms: Vec<Room>,
    new: Vec<New<'s>>,
}

impl<'s> Plan<'s> {
    fn of(store: &'s Store) -> Self {
        let mut pools: Vec<Pool<'s>> = store
            .list(Kind::NodePool, None)
            .filter(|pool| pool.deletion().is_none())
            .map(|pool| Pool::of(pool))
            .collect();
        pools.sort_by_key(|pool| Reverse(pool.weight()));
        let nodes = store.list(Kind::Node, None).filter(|node| node.deletion().is_none());
        let rooms = nodes.map(|node| Room::of(store, expected(store, node))).collect();
        let mut plan = Self { store, pools, rooms, new: Vec::new() };
        let coming = store.list(Kind::NodeClaim, None).filter(|claim| claim.deletion().is_none());
        for claim in coming.filter(|claim| store.get(&claims::node_of(claim)).is_none() && !claims::is_launched(claim))
        {
            plan.rooms.push(Room::empty(Arc::new(Object::from(claims::node(claim, claim.name())))));
        }
        // A zone where a node could be made counts when pods are spread, though nothing is there yet.
        let zones = plan.pools.iter().flat_map(Pool::zones);
        let zones: Vec<Room> = zones.map(|zone| Room::empty(Arc::new(Object::from(zone)))).collect();
        plan.rooms.extend(zones);
        plan
    }

    /// Finds a place for a pod: where there is room, on a node that is to be made anyway, or on one more.
    fn provide(&mut self, pod: &Arc<Object>) {
        let mut rooms = self.rooms.clone();
        rooms.extend(self.new.iter().map(|new| new.room.clone()));
        if let Some(place) = refusals(self.store, &rooms, pod).iter().position(Vec::is_empty) {
            let there = self.rooms.len();
            let room = if place < there { &mut self.rooms[place] } else { &mut self.new[place - there].room };
            return room.take(pod.clone());
        }
        for nth in 0..self.new.len() {
            if let Some((offering, room)) = self.bigger(nth, pod) {
                (self.new[nth].offering, self.new[nth].room) = (offering, room);
                return;
            }
        }
        for pool in 0..self.pools.len() {
            let offerings = self.pools[pool].offerings.clone();
            for offering in offerings {
                let mut room = self.empty(pool, &offering, self.new.len());
                if self.takes(&room, None, pod) && self.is_within_limits(pool, None, &offering) {
                    room.take(pod.clone());
                    let object = self.pools[pool].object;
                    return self.new.push(New { pool, object, offering, room });
                }
            }
        }
    }

    fn empty(&self, pool: usize, offering: &Offering, nth: usize) -> Room {
        let mut node = self.pools[pool].node(offering);
        // It has no name yet, but must not seem to be the same host as another.
        node["metadata"]["labels"][HOST] = json!(format!("new/{nth}"));
        Room::empty(Arc::new(Object::from(node)))
    }

    /// A bigger node in place of one that is to be made, of the same zone and capacity type, that takes this pod too.
    fn bigger(&self, nth: usize, pod: &Arc<Object>) -> Option<(Offering, Room)> {
        let new = &self.new[nth];
        let pool = &self.pools[new.pool];
        let bigger = pool.offerings.iter().filter(|it| it.is_bigger_kind_of(&new.offering));
        for offering in bigger {
            let mut room = self.empty(new.pool, offering, nth);
            new.room.pods.iter().for_each(|pod| room.take(pod.clone()));
            if self.takes(&room, Some(nth), pod) && self.is_within_limits(new.pool, Some(nth), offering) {
                room.take(pod.clone());
                return Some((offering.clone(), room));
            }
        }
        None
    }

    /// Whether a node would take a pod, beside or in place of those that are to be made.
    fn takes(&self, room: &Room, in_place_of: Option<usize>, pod: &Object) -> bool {
        // What does not fit by itself need not be compared with all the others.
        if !refusals(self.store, std::slice::from_ref(room), pod)[0]
            .iter()
            .all(super::scheduler::Reason::depends_on_others)
        {
            return false;
        }
        let others = self.new.iter().enumerate().filter(|(nth, _)| Some(*nth) != in_place_of).map(|(_, new)| &new.room);
        let mut rooms: Vec<Room> = self.rooms.iter().chain(others).cloned().collect();
        rooms.push(room.clone());
        refusals(self.store, &rooms, pod).last().is_some_and(Vec::is_empty)
    }

    fn is_within_limits(&self, pool: usize, in_place_of: Option<usize>, offering: &Offering) -> bool {
        let name = self.pools[pool].object.name();
        let limits = self.pools[pool].object.at("/spec/limits").as_object();
        let own = |claim: &&Arc<Object>| claim.label(NODE_POOL) == Some(name);
        let new = || {
            let kept = self.new.iter().enumerate().filter(|(nth, new)| new.pool == pool && Some(*nth) != in_place_of);
            kept.map(|(_, new)| &new.offering).chain([offering])
        };
        limits.into_iter().flatten().all(|(resource, limit)| {
            let there = self.store.list(Kind::NodeClaim, None).filter(own);
            let used = there.map(|claim| Quantity::of(&claims::capacity(claim)[resource])).sum::<Quantity>();
            used + new().map(|offering| Quantity::of(&offering.capacity[resource])).sum() <= Quantity::of(limit)
        })
    }
}

/// A node as it will be once it is ready, if it was made for a NodeClaim and is not ready yet.
fn expected(store: &Store, node: &Arc<Object>) -> Arc<Object> {
    if super::kubelet::is_up(node) {
        return node.clone();
    }
    let claims = node.owners().filter(|owner| owner.kind == "NodeClaim");
    let mut claims = claims.filter_map(|owner| store.get(&Key::new(Kind::NodeClaim, "", owner.name)));
    match claims.next().filter(|claim| !claim.has_condition("Initialized")) {
        Some(claim) => Arc::new(Object::from(claims::node(claim, node.name()))),
        None => node.clone(),
    }
}

fn claim(new: &New<'_>) -> Value {
    let New { pool: _, object: pool, offering, room } = new;
    let mut node = room.node.json().clone();
    if let Some(labels) = node["metadata"]["labels"].as_object_mut() {
        labels.remove(HOST);
    }
    let mut owner = controller_reference(pool);
    if let Some(owner) = owner.as_object_mut() {
        owner.remove("controller");
    }
    let mut annotations = pool.at("/spec/template/metadata/annotations").clone();
    annotations[ALLOCATABLE] = json!(offering.capacity.to_string());
    json!({
        "apiVersion": "karpenter.sh/v1",
        "kind": "NodeClaim",
        "metadata": {
            "generateName": format!("{}-", pool.name()), "labels": node["metadata"]["labels"],
            "annotations": annotations, "ownerReferences": [owner],
            "finalizers": [TERMINATION],
        },
        "spec": {
            "nodeClassRef": pool.at("/spec/template/spec/nodeClassRef"),
            "requirements": offering.labels().map(|(key, value)| json!({"key": key, "operator": "In", "values": [value]})),
            "taints": node["spec"]["taints"],
        },
    })
}

#[cfg(test)]
mod tests;
