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
use super::scheduler::{Reason, Room, accepts, refusals, requests, waits};
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
            (
                Reverse(asked.cpu),
                Reverse(asked.memory),
                pod.created(),
                pod.namespace().to_owned(),
                pod.name().to_owned(),
            )
        });
        let mut plan = Plan::of(store);
        pods.into_iter().for_each(|pod| plan.provide(pod));
        Act::now(plan.claims().map(Write::Create).collect())
    }
}

/// Whether the scheduler found no place for a pod.
fn is_left_over(pod: &Object) -> bool {
    let condition = pod.condition("PodScheduled");
    waits(pod) && condition.is_some_and(|it| it["status"] == "False" && it["reason"] == "Unschedulable")
}

/// A node that is to be made.
struct New {
    /// Of which pool.
    pool: usize,
    offering: Offering,
}

/// What there is, what comes, and what is to be made.
struct Plan<'s> {
    store: &'s Store,
    pools: Vec<Pool<'s>>,
    /// The nodes that are there or come, and after them those that are to be made.
    rooms: Vec<Room>,
    new: Vec<New>,
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
        let mut rooms: Vec<Room> = nodes.map(|node| Room::of(store, expected(store, node))).collect();
        let coming = store.list(Kind::NodeClaim, None).filter(|claim| claim.deletion().is_none());
        let coming = coming.filter(|claim| store.get(&claims::node_of(claim)).is_none() && !claims::is_launched(claim));
        let coming = coming.map(|claim| claims::node(claim, claim.name()));
        // A zone where a node could be made counts when pods are spread, though nothing is there yet.
        let zones = pools.iter().flat_map(Pool::zones);
        rooms.extend(coming.chain(zones).map(|node| Room::empty(Arc::new(Object::from(node)))));
        Self { store, pools, rooms, new: Vec::new() }
    }

    /// Finds a place for a pod: where there is room, on a node that is to be made anyway, or on one more.
    fn provide(&mut self, pod: &Arc<Object>) {
        if let Some(place) = refusals(self.store, &self.rooms, pod).iter().position(Vec::is_empty) {
            return self.rooms[place].take(pod.clone());
        }
        if !(0..self.new.len()).any(|nth| self.enlarge(nth, pod)) {
            self.add(pod);
        }
    }

    fn empty(&self, pool: usize, offering: &Offering, nth: usize) -> Room {
        let mut node = self.pools[pool].node(offering);
        // It has no name yet, but must not seem to be the same host as another.
        node["metadata"]["labels"][HOST] = json!(format!("new/{nth}"));
        Room::empty(Arc::new(Object::from(node)))
    }

    /// Makes one more node, for a pod.
    fn add(&mut self, pod: &Arc<Object>) {
        for pool in 0..self.pools.len() {
            for nth in 0..self.pools[pool].offerings.len() {
                let offering = self.pools[pool].offerings[nth].clone();
                let room = self.empty(pool, &offering, self.new.len());
                if !self.could_take(&room, pod) || !self.is_within_limits(pool, None, &offering) {
                    continue;
                }
                self.rooms.push(room);
                let place = self.rooms.len() - 1;
                if accepts(self.store, &self.rooms, place, pod) {
                    self.rooms[place].take(pod.clone());
                    return self.new.push(New { pool, offering });
                }
                self.rooms.pop();
            }
        }
    }

    /// Makes a node that is to be made a bigger one, of the same zone and capacity type, if that takes this pod too.
    fn enlarge(&mut self, nth: usize, pod: &Arc<Object>) -> bool {
        let pool = self.new[nth].pool;
        let bigger = self.pools[pool].offerings.iter().filter(|it| it.is_bigger_kind_of(&self.new[nth].offering));
        let bigger: Vec<Offering> = bigger.cloned().collect();
        let place = self.rooms.len() - self.new.len() + nth;
        for offering in bigger {
            let mut room = self.empty(pool, &offering, nth);
            self.rooms[place].pods.iter().for_each(|pod| room.take(pod.clone()));
            if !self.could_take(&room, pod) || !self.is_within_limits(pool, Some(nth), &offering) {
                continue;
            }
            let smaller = std::mem::replace(&mut self.rooms[place], room);
            if accepts(self.store, &self.rooms, place, pod) {
                self.rooms[place].take(pod.clone());
                self.new[nth].offering = offering;
                return true;
            }
            self.rooms[place] = smaller;
        }
        false
    }

    /// Whether a node by itself would take a pod; what does not fit then need not be compared with all the others.
    fn could_take(&self, room: &Room, pod: &Object) -> bool {
        refusals(self.store, std::slice::from_ref(room), pod)[0].iter().all(Reason::depends_on_others)
    }

    /// The nodes that are to be made.
    fn claims(&self) -> impl Iterator<Item = Value> {
        let rooms = &self.rooms[self.rooms.len() - self.new.len()..];
        self.new.iter().zip(rooms).map(|(new, room)| claim(self.pools[new.pool].object, &new.offering, room))
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

fn claim(pool: &Object, offering: &Offering, room: &Room) -> Value {
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
