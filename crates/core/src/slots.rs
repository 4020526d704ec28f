//! Decides which type and which slot the next pod takes, and who sits where.
//!
//! A workload's slots 1, 2, 3, … have fixed types (`split`). A pod *claims* a slot by its annotation; the claim holds when
//! the pod counts as the slot's type. A pod without a claim that holds takes, in order of creation, the lowest free slots
//! of its own type. Nothing here looks at names, nodes or time: only at types, claims and ages.

use std::collections::BTreeMap;

use crate::capacity::CapacityType;
use crate::split::{Split, Target};

/// The highest slot a claim may name; a larger one is treated as no claim.
///
/// Far above any workload a cluster can hold (Kubernetes supports 150,000 pods in all), and small enough that a forged
/// annotation cannot make the slot sets grow beyond 32 KiB.
pub const MAX_SLOT: u32 = 1 << 18;

/// Reads the slot annotation. Anything but a plain number from 1 to [`MAX_SLOT`] is no claim.
pub fn parse_claim(text: &str) -> Option<u32> {
    let plain = !text.is_empty() && text.len() <= 7 && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|slot| plain && (1..=MAX_SLOT).contains(slot))
}

/// A set of slots as a bit per slot; bit 0 of the first word is slot 1.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct SlotSet {
    words: Vec<u64>,
}

impl SlotSet {
    const fn place(slot: u32) -> (usize, u64) {
        let bit = slot - 1;
        ((bit / 64) as usize, 1 << (bit % 64))
    }

    fn insert(&mut self, slot: u32) {
        let (word, mask) = Self::place(slot);
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        self.words[word] |= mask;
    }

    fn remove(&mut self, slot: u32) {
        let (word, mask) = Self::place(slot);
        if let Some(bits) = self.words.get_mut(word) {
            *bits &= !mask;
        }
    }

    fn word(&self, index: usize) -> u64 {
        self.words.get(index).copied().unwrap_or(0)
    }
}

/// Claims on slots, several on one slot included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Claims {
    claimed: SlotSet,
    /// How many claims a slot has beyond the first; forged or copied annotations only, so nearly always empty.
    repeated: BTreeMap<u32, u32>,
}

impl Claims {
    /// Whether it is the first claim on the slot.
    fn add(&mut self, slot: u32) -> bool {
        let (word, mask) = SlotSet::place(slot);
        let first = self.claimed.word(word) & mask == 0;
        if first {
            self.claimed.insert(slot);
        } else {
            *self.repeated.entry(slot).or_default() += 1;
        }
        first
    }

    /// Whether it was the last claim on the slot.
    fn remove(&mut self, slot: u32) -> bool {
        match self.repeated.get_mut(&slot) {
            None => {
                self.claimed.remove(slot);
                return true;
            }
            Some(1) => {
                self.repeated.remove(&slot);
            }
            Some(times) => *times -= 1,
        }
        false
    }
}

/// The spot slots of a target as a bit set, computed once and extended when needed.
#[derive(Clone, Debug, Default)]
struct SpotSlots {
    target: Target,
    slots: SlotSet,
    /// Slots 1 to `known` are in `slots`.
    known: u32,
}

impl SpotSlots {
    fn cover(&mut self, last: u32) {
        for slot in self.known + 1..=last {
            if self.target.slot(slot) == CapacityType::Spot {
                self.slots.insert(slot);
            }
        }
        self.known = self.known.max(last);
    }

    fn of(&self, slot: u32) -> CapacityType {
        let (word, mask) = SlotSet::place(slot);
        if self.slots.word(word) & mask == 0 { CapacityType::OnDemand } else { CapacityType::Spot }
    }
}

/// What is kept for one type so that a look need not start from the first slot.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    /// Pods whose claim holds: one for each slot of the type that is claimed at all.
    seated: u32,
    /// No word before this has a free slot of the type.
    full_words: usize,
}

/// What one revision holds: its pods and reservations by the type they count as, and the slots they claim.
///
/// Kept up to date one pod at a time; [`Self::next`] then answers without looking at any pod.
#[derive(Clone, Debug, Default)]
pub struct Occupancy {
    spot: u32,
    on_demand: u32,
    unknown: u32,
    spot_claims: Claims,
    on_demand_claims: Claims,
    unknown_claims: Claims,
    /// For the target that was asked about last, as is all progress.
    spot_slots: SpotSlots,
    spot_progress: Progress,
    on_demand_progress: Progress,
}

/// A type and a slot for a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seat {
    /// What the pod is steered to.
    pub capacity: CapacityType,
    /// The slot it takes, from 1.
    pub slot: u32,
}

impl Occupancy {
    /// Counts a pod or reservation. `slot` is its claim, if it has one.
    pub fn add(&mut self, capacity: Option<CapacityType>, slot: Option<u32>) {
        let (count, claims) = self.of_mut(capacity);
        *count += 1;
        let Some(slot) = slot else { return };
        if claims.add(slot) {
            self.spot_slots.cover(slot);
            if let Some(capacity) = capacity.filter(|capacity| self.spot_slots.of(slot) == *capacity) {
                self.progress_mut(capacity).seated += 1;
            }
        }
    }

    /// Takes back an [`Self::add`] with the same arguments.
    pub fn remove(&mut self, capacity: Option<CapacityType>, slot: Option<u32>) {
        let (count, claims) = self.of_mut(capacity);
        debug_assert!(*count > 0, "removed what was never added");
        *count = count.saturating_sub(1);
        let Some(slot) = slot else { return };
        if claims.remove(slot) {
            let of_slot = self.spot_slots.of(slot);
            let (word, _) = SlotSet::place(slot);
            let progress = self.progress_mut(of_slot);
            progress.full_words = progress.full_words.min(word);
            if capacity == Some(of_slot) {
                progress.seated = progress.seated.saturating_sub(1);
            }
        }
    }

    /// How many count as this type; `None` is unknown.
    pub const fn count(&self, capacity: Option<CapacityType>) -> u32 {
        match capacity {
            Some(CapacityType::Spot) => self.spot,
            Some(CapacityType::OnDemand) => self.on_demand,
            None => self.unknown,
        }
    }

    /// All of them.
    pub const fn total(&self) -> u32 {
        self.spot + self.on_demand + self.unknown
    }

    /// The seat of the next pod: the type of which there are too few against the split of one more, and that type's
    /// lowest free slot.
    ///
    /// Where pods on unknown nodes leave both types short, on-demand goes first: unknown never satisfies the floor.
    pub fn next(&mut self, target: Target) -> Seat {
        let wanted = target.split(self.total() + 1);
        let capacity = if self.spot < wanted.spot && self.on_demand >= wanted.on_demand {
            CapacityType::Spot
        } else {
            CapacityType::OnDemand
        };
        Seat { capacity, slot: self.free_slot(target, capacity) }
    }

    /// The lowest slot of `capacity` that is neither claimed nor due to a pod without a claim that holds; the lowest free
    /// one of any type where that type has none among the first n + 1.
    ///
    /// The first n + 1 slots are enough, for their split has more of the short type than there are pods of it.
    fn free_slot(&mut self, target: Target, capacity: CapacityType) -> u32 {
        let last = self.total() + 1;
        if self.spot_slots.target != target {
            self.turn_to(target);
        }
        self.spot_slots.cover(last);
        self.skip_full_words(capacity);
        let due = self.count(Some(capacity)).saturating_sub(self.progress(capacity).seated);
        self.free_of(capacity, last)
            .nth(due as usize)
            .or_else(|| CapacityType::ALL.into_iter().filter_map(|t| self.free_of(t, last).next()).min())
            .unwrap_or(last)
    }

    /// Starts anew for another target: a policy changed.
    fn turn_to(&mut self, target: Target) {
        self.spot_slots = SpotSlots { target, ..SpotSlots::default() };
        self.spot_slots.cover(self.highest_claim());
        for capacity in CapacityType::ALL {
            let claimed = &self.claims(capacity).claimed;
            let seated_in = |word| (claimed.word(word) & self.slots_of(capacity, word)).count_ones();
            let seated = (0..claimed.words.len()).map(seated_in).sum();
            *self.progress_mut(capacity) = Progress { seated, full_words: 0 };
        }
    }

    /// Remembers that the first words are full, as far as the types of all their slots are known.
    fn skip_full_words(&mut self, capacity: CapacityType) {
        let known = self.spot_slots.known as usize / 64;
        let mut word = self.progress(capacity).full_words;
        while word < known && self.free_in(capacity, word) == 0 {
            word += 1;
        }
        self.progress_mut(capacity).full_words = word;
    }

    /// The free slots of a type in a word. A slot claimed from an unknown node is not free.
    fn free_in(&self, capacity: CapacityType, word: usize) -> u64 {
        let taken = self.claims(capacity).claimed.word(word) | self.unknown_claims.claimed.word(word);
        self.slots_of(capacity, word) & !taken
    }

    /// The free slots of a type among the first `last`, lowest first.
    fn free_of(&self, capacity: CapacityType, last: u32) -> impl Iterator<Item = u32> {
        let first = u32::try_from(self.progress(capacity).full_words).unwrap_or(u32::MAX);
        (first..last.div_ceil(64))
            .flat_map(move |word| ones(self.free_in(capacity, word as usize)).map(move |bit| word * 64 + bit + 1))
            .take_while(move |slot| *slot <= last)
    }

    fn slots_of(&self, capacity: CapacityType, word: usize) -> u64 {
        let spot = self.spot_slots.slots.word(word);
        match capacity {
            CapacityType::Spot => spot,
            CapacityType::OnDemand => !spot,
        }
    }

    fn highest_claim(&self) -> u32 {
        let words =
            [&self.spot_claims, &self.on_demand_claims, &self.unknown_claims].map(|claims| claims.claimed.words.len());
        u32::try_from(words.into_iter().max().unwrap_or(0) * 64).unwrap_or(MAX_SLOT)
    }

    const fn progress(&self, capacity: CapacityType) -> Progress {
        match capacity {
            CapacityType::Spot => self.spot_progress,
            CapacityType::OnDemand => self.on_demand_progress,
        }
    }

    const fn progress_mut(&mut self, capacity: CapacityType) -> &mut Progress {
        match capacity {
            CapacityType::Spot => &mut self.spot_progress,
            CapacityType::OnDemand => &mut self.on_demand_progress,
        }
    }

    const fn claims(&self, capacity: CapacityType) -> &Claims {
        match capacity {
            CapacityType::Spot => &self.spot_claims,
            CapacityType::OnDemand => &self.on_demand_claims,
        }
    }

    fn of_mut(&mut self, capacity: Option<CapacityType>) -> (&mut u32, &mut Claims) {
        match capacity {
            Some(CapacityType::Spot) => (&mut self.spot, &mut self.spot_claims),
            Some(CapacityType::OnDemand) => (&mut self.on_demand, &mut self.on_demand_claims),
            None => (&mut self.unknown, &mut self.unknown_claims),
        }
    }
}

/// The positions of the ones in a word, lowest first.
fn ones(mut word: u64) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        let bit = (word != 0).then(|| word.trailing_zeros())?;
        word &= word - 1;
        Some(bit)
    })
}

/// The type of a StatefulSet pod, whose slot is fixed by its ordinal: what the slot wants, unless that type already has
/// its share of the split among the other ordinals; then the other type.
pub fn ordinal_capacity(target: Target, replicas: u32, slot: u32, others: Split) -> CapacityType {
    let share = target.split(replicas.max(slot));
    let wanted = target.slot(slot);
    let full = |capacity| others.of(capacity) >= share.of(capacity);
    if full(wanted) && !full(wanted.other()) { wanted.other() } else { wanted }
}

/// A pod as seating sees it, in order of creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sitter {
    /// What it counts as; an unknown one is given no seat.
    pub capacity: Option<CapacityType>,
    /// The slot it claims.
    pub claim: Option<u32>,
}

/// The slot each pod should have among the first `total`, oldest pod first; `None` for pods on unknown nodes and for
/// pods that find no free slot of their type.
///
/// A claim within `total` on a slot of the pod's own type is kept, by the oldest where several claim it.
pub fn seat(target: Target, total: u32, sitters: &[Sitter]) -> Vec<Option<u32>> {
    let mut free: Vec<Option<CapacityType>> = (1..=total).map(|slot| Some(target.slot(slot))).collect();
    let mut take = |slot: u32, capacity: CapacityType| {
        let place = free.get_mut(slot as usize - 1).filter(|place| **place == Some(capacity))?;
        *place = None;
        Some(slot)
    };
    let mut seats: Vec<Option<u32>> =
        sitters.iter().map(|sitter| take(sitter.claim.filter(|slot| *slot >= 1)?, sitter.capacity?)).collect();
    let mut free_of = CapacityType::ALL.map(|capacity| {
        let slots: Vec<u32> = (1..=total).filter(|slot| free[*slot as usize - 1] == Some(capacity)).collect();
        (capacity, slots.into_iter())
    });
    for (seat, sitter) in seats.iter_mut().zip(sitters) {
        if let (None, Some(capacity)) = (*seat, sitter.capacity) {
            *seat = free_of.iter_mut().find(|(free, _)| *free == capacity).and_then(|(_, slots)| slots.next());
        }
    }
    seats
}

#[cfg(test)]
mod tests {
    use CapacityType::{OnDemand, Spot};
    use proptest::prelude::*;

    use super::*;
    use crate::split::{Floor, Percentage, Rounding};

    fn target(percent: u8, floor: u32) -> Target {
        Target {
            spot_percentage: Percentage::new(percent).unwrap(),
            min_on_demand: Floor::Count(floor),
            rounding: Rounding::Ceil,
        }
    }

    fn any_target() -> impl Strategy<Value = Target> {
        (0..=100u8, 0..12u32, any::<bool>()).prop_map(|(percent, floor, as_percent)| {
            let floor_percent = Percentage::new(u8::try_from(floor * 8).unwrap()).unwrap();
            Target {
                min_on_demand: if as_percent { Floor::Percent(floor_percent) } else { Floor::Count(floor) },
                ..target(percent, 0)
            }
        })
    }

    fn any_capacity() -> impl Strategy<Value = Option<CapacityType>> {
        prop_oneof![4 => Just(Some(Spot)), 4 => Just(Some(OnDemand)), 1 => Just(None)]
    }

    #[test]
    fn claims_are_plain_numbers_in_range() {
        for (text, slot) in [
            ("1", Some(1)),
            ("262144", Some(MAX_SLOT)),
            ("007", Some(7)),
            ("0", None),
            ("262145", None),
            ("", None),
            ("+1", None),
            ("-1", None),
            ("1 ", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(parse_claim(text), slot, "{text:?}");
        }
    }

    #[test]
    fn a_clean_revision_fills_its_slots_in_order() {
        let target = target(70, 1);
        let mut held = Occupancy::default();
        for slot in 1..=300 {
            let seat = held.next(target);
            assert_eq!(seat, Seat { capacity: target.slot(slot), slot });
            held.add(Some(seat.capacity), Some(seat.slot));
        }
        assert_eq!(held.count(Some(Spot)), 210);
    }

    #[test]
    fn a_pod_without_a_claim_is_due_the_lowest_slot_of_its_type() {
        // 50 %: spot, on-demand, spot, on-demand, …
        let target = target(50, 0);
        let mut held = Occupancy::default();
        held.add(Some(Spot), None);
        held.add(Some(OnDemand), None);
        held.add(Some(OnDemand), Some(1)); // landed on the other type: its claim does not hold
        assert_eq!(held.next(target), Seat { capacity: Spot, slot: 3 });
        held.add(Some(Spot), Some(3));
        assert_eq!(held.next(target), Seat { capacity: Spot, slot: 5 });
    }

    #[test]
    fn a_doubled_claim_holds_once() {
        let target = target(50, 0);
        let mut held = Occupancy::default();
        held.add(Some(Spot), Some(1));
        held.add(Some(Spot), Some(1));
        held.add(Some(OnDemand), Some(2));
        assert_eq!(held.next(target), Seat { capacity: OnDemand, slot: 4 });
        held.remove(Some(Spot), Some(1));
        assert_eq!(held.next(target), Seat { capacity: Spot, slot: 3 });
        held.remove(Some(Spot), Some(1));
        assert_eq!(held.next(target), Seat { capacity: Spot, slot: 1 });
    }

    #[test]
    fn pods_on_unknown_nodes_count_as_neither_and_on_demand_goes_first() {
        let target = target(50, 1);
        let mut held = Occupancy::default();
        for _ in 0..3 {
            held.add(None, None);
        }
        assert_eq!(held.next(target).capacity, OnDemand);
    }

    #[test]
    fn ordinals_take_the_type_of_their_slot_unless_it_is_full() {
        let target = target(50, 0);
        let others = |spot, on_demand| Split { spot, on_demand };
        assert_eq!(ordinal_capacity(target, 4, 1, others(0, 0)), Spot);
        assert_eq!(ordinal_capacity(target, 4, 1, others(2, 1)), OnDemand);
        assert_eq!(ordinal_capacity(target, 4, 1, others(2, 2)), Spot);
        // Beyond the replicas the index knows: the scale is ahead of it.
        assert_eq!(ordinal_capacity(target, 4, 6, others(2, 2)), OnDemand);
        assert_eq!(ordinal_capacity(target, 4, 6, others(2, 3)), Spot);
    }

    proptest! {
        /// From any loss, refilling ends on the exact split, and neither type ever overshoots it on the way.
        #[test]
        fn from_any_loss_the_refill_is_exact(
            target in any_target(), total in 1..150u32, lost in proptest::collection::vec(any::<bool>(), 150),
        ) {
            let mut held = Occupancy::default();
            for slot in (1..=total).filter(|slot| !lost[*slot as usize - 1]) {
                held.add(Some(target.slot(slot)), Some(slot));
            }
            let wanted = target.split(total);
            let mut taken = std::collections::BTreeSet::new();
            while held.total() < total {
                let seat = held.next(target);
                prop_assert!(taken.insert(seat.slot), "slot {} given twice", seat.slot);
                prop_assert_eq!(target.slot(seat.slot), seat.capacity);
                held.add(Some(seat.capacity), Some(seat.slot));
                prop_assert!(held.count(Some(seat.capacity)) <= wanted.of(seat.capacity));
            }
            prop_assert_eq!(held.count(Some(Spot)), wanted.spot);
        }

        /// The bit sets against the definition: seat everybody as `seat` does, then take the first free slot.
        #[test]
        fn next_equals_the_definition(
            target in any_target(),
            pods in proptest::collection::vec((any_capacity(), proptest::option::of(1..90u32)), 0..80),
        ) {
            let mut held = Occupancy::default();
            for (capacity, claim) in &pods {
                held.add(*capacity, *claim);
            }
            let last = u32::try_from(pods.len()).unwrap() + 1;
            let known: Vec<Sitter> = pods.iter().map(|(capacity, claim)| Sitter { capacity: *capacity, claim: *claim }).collect();
            let seated: Vec<u32> = seat(target, 200, &known).into_iter().flatten().collect();
            let unknown: Vec<u32> = pods.iter().filter(|(c, _)| c.is_none()).filter_map(|(_, claim)| *claim).collect();
            let next = held.next(target);
            if unknown.is_empty() {
                let lowest = (1..=200).find(|s| !seated.contains(s) && target.slot(*s) == next.capacity);
                prop_assert_eq!(Some(next.slot), lowest);
            }
            prop_assert!(!unknown.contains(&next.slot) || next.slot == last);
            let wanted = target.split(last);
            if pods.iter().all(|(capacity, _)| capacity.is_some()) {
                prop_assert!(held.count(Some(next.capacity)) < wanted.of(next.capacity));
            }
        }

        #[test]
        fn removing_undoes_adding(
            target in any_target(),
            kept in proptest::collection::vec((any_capacity(), proptest::option::of(1..40u32)), 0..30),
            gone in proptest::collection::vec((any_capacity(), proptest::option::of(1..40u32)), 0..30),
        ) {
            let mut plain = Occupancy::default();
            kept.iter().for_each(|(c, s)| plain.add(*c, *s));
            let mut churned = Occupancy::default();
            gone.iter().for_each(|(c, s)| churned.add(*c, *s));
            kept.iter().for_each(|(c, s)| churned.add(*c, *s));
            gone.iter().for_each(|(c, s)| churned.remove(*c, *s));
            prop_assert_eq!(plain.next(target), churned.next(target));
        }

        /// What is kept from look to look never shows: at any point of any history, with policies that change in between, the
        /// answer is that of somebody who counts the present pods for the first time.
        #[test]
        fn every_look_is_as_the_first(
            targets in proptest::collection::vec(any_target(), 1..3),
            filled in 0..250u32,
            steps in proptest::collection::vec((any_capacity(), proptest::option::of(1..300u32), any::<u8>()), 0..80),
        ) {
            let mut held = Occupancy::default();
            let mut pods: Vec<(Option<CapacityType>, Option<u32>)> = Vec::new();
            for _ in 0..filled {
                let seat = held.next(targets[0]);
                pods.push((Some(seat.capacity), Some(seat.slot)));
                held.add(Some(seat.capacity), Some(seat.slot));
            }
            for (capacity, claim, choice) in steps {
                let target = targets[usize::from(choice) % targets.len()];
                if choice % 3 == 0 && !pods.is_empty() {
                    let (capacity, claim) = pods.swap_remove(usize::from(choice) % pods.len());
                    held.remove(capacity, claim);
                } else if choice % 3 == 1 {
                    pods.push((capacity, claim));
                    held.add(capacity, claim);
                } else {
                    let seat = held.next(target);
                    pods.push((Some(seat.capacity), Some(seat.slot)));
                    held.add(Some(seat.capacity), Some(seat.slot));
                }
                let mut fresh = Occupancy::default();
                pods.iter().for_each(|(capacity, claim)| fresh.add(*capacity, *claim));
                prop_assert_eq!(held.next(target), fresh.next(target));
            }
        }

        /// Right counts always seat everybody, on slots of their own type, without moving a claim that holds.
        #[test]
        fn right_counts_seat_everybody(
            target in any_target(), total in 1..100u32, claims in proptest::collection::vec(proptest::option::of(1..120u32), 100),
        ) {
            let wanted = target.split(total);
            let sitters: Vec<Sitter> = (0..total)
                .map(|i| Sitter {
                    capacity: Some(if i < wanted.spot { Spot } else { OnDemand }),
                    claim: claims[i as usize],
                })
                .collect();
            let seats = seat(target, total, &sitters);
            let mut slots: Vec<u32> = seats.iter().copied().flatten().collect();
            slots.sort_unstable();
            prop_assert_eq!(slots, (1..=total).collect::<Vec<_>>());
            for (sitter, slot) in sitters.iter().zip(&seats) {
                prop_assert_eq!(sitter.capacity, slot.map(|slot| target.slot(slot)));
            }
            let again: Vec<Sitter> = sitters.iter().zip(&seats).map(|(s, slot)| Sitter { claim: *slot, ..*s }).collect();
            prop_assert_eq!(seat(target, total, &again), seats);
        }
    }
}
