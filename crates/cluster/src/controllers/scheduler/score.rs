//! Which of the nodes that can take a pod is the best: what the pod prefers, how evenly pods are spread, how much is free.
//!
//! Each view gives 0 to 100 and has the weight of the real scheduler. Between equals the name decides, where the real one
//! throws dice.

use super::room::{Nominal, Room, requests};
use super::{affinity, spread};
use crate::matching::{preference, unwelcome};
use crate::object::Object;
use crate::quantity::Quantity;
use crate::store::Store;

/// The best of these nodes.
pub(super) fn best(store: &Store, rooms: &[Room], fits: &[usize], pod: &Object) -> usize {
    let of = |score: &dyn Fn(&Room) -> i64| fits.iter().map(|place| score(&rooms[*place])).collect::<Vec<i64>>();
    let asked = Nominal::of(&requests(pod));
    let unwelcome = of(&|room| i64::try_from(unwelcome(pod, &room.node)).unwrap_or(i64::MAX));
    let views = [
        (3, fewest(&unwelcome)),
        (2, most(&of(&|room| preference(pod, &room.node)))),
        (2, fewest(&spread::crowding(rooms, fits, pod))),
        (2, between(&affinity::preference(store, rooms, fits, pod))),
        (1, of(&|room| free(room, asked))),
    ];
    let total = |nth: usize| views.iter().map(|(weight, scores)| weight * scores[nth]).sum::<i64>();
    // The first of the best, and they come in the order of their names.
    let mut best = 0;
    for nth in 1..fits.len() {
        if total(nth) > total(best) {
            best = nth;
        }
    }
    fits[best]
}

/// The most is 100, nothing is 0.
fn most(values: &[i64]) -> Vec<i64> {
    let most = values.iter().copied().max().unwrap_or(0);
    values.iter().map(|value| if most > 0 { 100 * value / most } else { 0 }).collect()
}

/// None is 100, the most is 0.
fn fewest(values: &[i64]) -> Vec<i64> {
    most(values).into_iter().map(|value| 100 - value).collect()
}

/// The least is 0, the most is 100.
fn between(values: &[i64]) -> Vec<i64> {
    let least = values.iter().copied().min().unwrap_or(0);
    most(&values.iter().map(|value| value - least).collect::<Vec<_>>())
}

/// The part of cpu and memory that would be left, in hundredths.
fn free(room: &Room, asked: Nominal) -> i64 {
    let left = |resource: &str, used: Quantity| {
        let has = room.amount(resource).milli();
        if has <= 0 { 0 } else { (has - used.milli()).max(0) * 100 / has }
    };
    let (cpu, memory) = (room.nominal.cpu + asked.cpu, room.nominal.memory + asked.memory);
    i64::try_from(i128::midpoint(left("cpu", cpu), left("memory", memory))).unwrap_or(0)
}
