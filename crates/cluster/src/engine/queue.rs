//! When to look at what: one due time for each item, the items whose writes are under way, and how often an item was
//! refused in a row.
//!
//! It reads no clock and runs nothing. Whoever drives it says what time it is.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use crate::store::Key;

/// A controller, by its number, and what it is to look at. Their order breaks ties between items due at the same time.
pub type Item = (usize, Key);

/// The shortest and the longest wait after a refusal, those of client-go's queues.
const FIRST_WAIT: SignedDuration = SignedDuration::from_millis(5);
const LONGEST_WAIT: SignedDuration = SignedDuration::from_secs(1000);

/// Items with their due times.
#[derive(Debug, Default)]
pub struct Queue {
    due: BTreeSet<(Timestamp, Item)>,
    at: BTreeMap<Item, Timestamp>,
    busy: BTreeSet<Item>,
    refused: BTreeMap<Item, u32>,
}

impl Queue {
    /// To be looked at, at this time or sooner. An item whose writes are under way is looked at when they ended anyway.
    pub fn add(&mut self, item: Item, at: Timestamp) {
        if self.busy.contains(&item) || self.at.get(&item).is_some_and(|already| *already <= at) {
            return;
        }
        if let Some(later) = self.at.insert(item.clone(), at) {
            self.due.remove(&(later, item.clone()));
        }
        self.due.insert((at, item));
    }

    /// The first item that is due, which is then no longer waited for.
    pub fn take(&mut self, now: Timestamp) -> Option<Item> {
        let first = self.due.first().filter(|(at, _)| *at <= now)?.clone();
        self.due.remove(&first);
        self.at.remove(&first.1);
        Some(first.1)
    }

    /// When the next item is due.
    pub fn next(&self) -> Option<Timestamp> {
        self.due.first().map(|(at, _)| *at)
    }

    /// The writes of an item are under way.
    pub fn begin(&mut self, item: Item) {
        self.busy.insert(item);
    }

    /// They ended: all done, so it is looked at once more; or one was refused, so that has to wait.
    pub fn end(&mut self, item: Item, done: bool, now: Timestamp) {
        self.busy.remove(&item);
        if done {
            self.refused.remove(&item);
            self.add(item, now);
            return;
        }
        let times = self.refused.entry(item.clone()).or_default();
        let wait = FIRST_WAIT.saturating_mul(1 << (*times).min(20)).min(LONGEST_WAIT);
        *times += 1;
        self.add(item, now.saturating_add(wait).unwrap_or(Timestamp::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::Kind;

    fn item(controller: usize, name: &str) -> Item {
        (controller, Key::new(Kind::Pod, "a", name))
    }

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millisecond(millis).unwrap()
    }

    #[test]
    fn the_order_is_time_then_controller_then_key_and_sooner_wins() {
        let mut queue = Queue::default();
        queue.add(item(1, "x"), at(5));
        queue.add(item(0, "y"), at(5));
        queue.add(item(0, "x"), at(5));
        queue.add(item(2, "z"), at(9));
        queue.add(item(2, "z"), at(3));
        queue.add(item(2, "z"), at(7));
        assert_eq!(queue.next(), Some(at(3)));
        assert_eq!(queue.take(at(2)), None);
        let order: Vec<Item> = std::iter::from_fn(|| queue.take(at(5))).collect();
        assert_eq!(order, [item(2, "z"), item(0, "x"), item(0, "y"), item(1, "x")]);
        assert_eq!(queue.next(), None);
    }

    #[test]
    fn what_is_busy_waits_for_its_end_and_refusals_wait_longer_each_time() {
        let mut queue = Queue::default();
        queue.begin(item(0, "x"));
        queue.add(item(0, "x"), at(0));
        assert_eq!(queue.take(at(0)), None);
        for wait in [5, 10, 20, 40] {
            queue.begin(item(0, "x"));
            queue.end(item(0, "x"), false, at(100));
            assert_eq!(queue.next(), Some(at(100 + wait)));
            assert_eq!(queue.take(at(100 + wait)), Some(item(0, "x")));
        }
        queue.end(item(0, "x"), true, at(100));
        assert_eq!(queue.take(at(100)), Some(item(0, "x")));
        queue.end(item(0, "x"), false, at(100));
        assert_eq!(queue.next(), Some(at(105)));
        for _ in 0..40 {
            queue.take(Timestamp::MAX);
            queue.end(item(0, "x"), false, at(0));
        }
        assert_eq!(queue.next(), Some(at(1_000_000)));
    }
}
