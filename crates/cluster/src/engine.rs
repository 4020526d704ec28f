//! Runs controllers: hands them what changed, asks each for its writes, performs those, and asks again.
//!
//! It decides only when a controller looks at what, in one fixed order: due time, controller, key. It knows no kind of
//! object, and it writes nothing that no controller asked for. Controllers read the store itself and are never behind it,
//! so they need no expectations; instead a key whose writes are under way is left alone until they ended.

mod queue;

#[cfg(test)]
pub mod bare;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt, join_all};
use futures::stream::{FuturesUnordered, StreamExt};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use self::queue::{Item, Queue};
use crate::store::{Change, Key, Store};

/// One write of a controller of the cluster's own.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// A whole object, as a client sends it; it goes through admission.
    Create(Value),
    /// A whole object in place of another.
    Replace {
        /// Its `resourceVersion` is the precondition.
        object: Value,
        /// Which part of it is taken.
        subresource: Option<&'static str>,
    },
    /// The end of an object.
    Delete {
        /// Where it lies.
        key: Key,
        /// The precondition.
        uid: String,
        /// Seconds; 0 ends it now, and without it the object's own or its kind's holds.
        grace: Option<u32>,
    },
    /// A pod goes to a node.
    Bind {
        /// Where the pod lies.
        pod: Key,
        /// The precondition.
        uid: String,
        /// The node's name.
        node: String,
    },
}

/// What a write does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// [`Write::Create`]
    Create,
    /// [`Write::Replace`]
    Replace,
    /// [`Write::Delete`]
    Delete,
    /// [`Write::Bind`]
    Bind,
}

impl Write {
    /// What it does.
    pub const fn verb(&self) -> Verb {
        match self {
            Self::Create(_) => Verb::Create,
            Self::Replace { object: _, subresource: _ } => Verb::Replace,
            Self::Delete { key: _, uid: _, grace: _ } => Verb::Delete,
            Self::Bind { pod: _, uid: _, node: _ } => Verb::Bind,
        }
    }
}

/// What a controller wants.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Act {
    /// One after the other; the writes of a batch at the same time. A refusal ends the rest.
    pub batches: Vec<Vec<Write>>,
    /// When to look again though nothing changed. Of no use beside writes, after which it looks again anyway.
    pub again: Option<Timestamp>,
}

impl Act {
    /// Nothing to do until something changes.
    pub const fn none() -> Self {
        Self { batches: Vec::new(), again: None }
    }

    /// These writes at the same time.
    pub fn now(writes: Vec<Write>) -> Self {
        Self { batches: vec![writes], again: None }
    }

    /// Nothing to do until then.
    pub const fn at(again: Option<Timestamp>) -> Self {
        Self { batches: Vec::new(), again }
    }

    /// Whether there is something to write.
    pub fn writes(&self) -> bool {
        self.batches.iter().any(|batch| !batch.is_empty())
    }
}

/// Batches of 1, 2, 4, 8, … as the ReplicaSet controller starts slowly.
pub fn slow_start(writes: Vec<Write>) -> Vec<Vec<Write>> {
    let mut writes = writes.into_iter();
    let mut batches = Vec::new();
    let mut size = 1;
    while writes.len() > 0 {
        batches.push(writes.by_ref().take(size).collect());
        size *= 2;
    }
    batches
}

/// A write that did not happen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code} {reason}: {message}")]
pub struct Refused {
    /// The HTTP status.
    pub code: u16,
    /// `reason` of the `Status`.
    pub reason: String,
    /// `message` of the `Status`.
    pub message: String,
}

/// A controller of the cluster's own. It has no clock, no I/O, no randomness and no memory.
pub trait Controller: Send + Sync {
    /// For messages.
    fn name(&self) -> &'static str;

    /// What to look at because of a change.
    fn touched(&self, store: &Store, change: &Change) -> Vec<Key>;

    /// How long after a change it looks.
    fn delay(&self) -> SignedDuration {
        SignedDuration::ZERO
    }

    /// What to do about a key, which may be of an object that is gone.
    fn look(&self, store: &Store, key: &Key, now: Timestamp) -> Act;

    /// What to write down because a write of its own was refused.
    fn refused(&self, _store: &Store, _key: &Key, _verb: Verb, _refused: &Refused, _now: Timestamp) -> Vec<Write> {
        Vec::new()
    }
}

/// What the engine needs of the API.
pub trait World: Clone + Send + Sync + 'static {
    /// Looks at what there is. Nothing changes meanwhile.
    fn read<R>(&self, look: impl FnOnce(&Store) -> R) -> R;
    /// The date.
    fn now(&self) -> Timestamp;
    /// Does a write as if a client had asked for it: admission, validation, quota.
    fn perform(&self, write: Write) -> impl Future<Output = Result<(), Refused>> + Send;
    /// Returns once the revision is above `after`.
    fn changed(&self, after: u64) -> impl Future<Output = ()> + Send;
}

/// The controllers of a world, and what they are to look at.
pub struct Engine<W> {
    world: W,
    controllers: Arc<[Box<dyn Controller>]>,
    queue: Queue,
    /// Changes up to this revision were handed out; none before the first round.
    seen: Option<u64>,
    under_way: FuturesUnordered<BoxFuture<'static, Ended>>,
}

/// An item whose writes ended, and whether all were done.
type Ended = (Item, bool);

impl<W: World> Engine<W> {
    /// Nothing happens before [`Self::run`].
    pub fn new(world: W, controllers: Vec<Box<dyn Controller>>) -> Self {
        let under_way = FuturesUnordered::new();
        Self { world, controllers: controllers.into(), queue: Queue::default(), seen: None, under_way }
    }

    /// Runs until dropped.
    pub async fn run(mut self) {
        let mut ended: Vec<Ended> = Vec::new();
        loop {
            // First what changed, then what ended: the traces of its own writes are no reason to skip a back-off.
            self.hand_out();
            for (item, done) in ended.drain(..) {
                self.queue.end(item, done, self.world.now());
            }
            self.look();
            let (seen, next) = (self.seen.unwrap_or_default(), self.queue.next());
            tokio::select! {
                biased;
                Some(end) = self.under_way.next() => {
                    ended.push(end);
                    while let Some(Some(end)) = self.under_way.next().now_or_never() {
                        ended.push(end);
                    }
                }
                () = self.world.changed(seen) => {}
                () = wait_until(next, self.world.now()) => {}
            }
        }
    }

    /// Hands the changes since the last time to every controller. At the start, and when they are no longer known, all
    /// objects count as changed.
    fn hand_out(&mut self) {
        let Self { world, controllers, queue, seen, under_way: _ } = self;
        let now = world.now();
        let revision = world.read(|store| {
            let mut tell = |change: &Change| {
                for (number, controller) in controllers.iter().enumerate() {
                    let at = now.saturating_add(controller.delay()).unwrap_or(Timestamp::MAX);
                    for key in controller.touched(store, change) {
                        queue.add((number, key), at);
                    }
                }
            };
            match seen.map(|seen| store.changes_after(seen)) {
                Some(Ok(changes)) => changes.for_each(tell),
                Some(Err(_)) | None => {
                    for (key, object) in store.all() {
                        let (key, after) = (key.clone(), Some(object.clone()));
                        tell(&Change { revision: object.revision(), key, before: None, after });
                    }
                }
            }
            store.revision()
        });
        *seen = Some(revision);
    }

    /// Asks about everything that is due, and begins the writes.
    fn look(&mut self) {
        let now = self.world.now();
        while let Some(item) = self.queue.take(now) {
            let act = self.world.read(|store| self.controllers[item.0].look(store, &item.1, now));
            if act.writes() {
                self.queue.begin(item.clone());
                let controllers = self.controllers.clone();
                self.under_way.push(perform(self.world.clone(), controllers, item, act.batches).boxed());
            } else if let Some(again) = act.again {
                // A controller that asks for the past must not stop the world.
                self.queue.add(item, again.max(now + SignedDuration::from_millis(1)));
            }
        }
    }
}

/// Does the writes of an item until one is refused, which its controller may then write down.
async fn perform<W: World>(
    world: W,
    controllers: Arc<[Box<dyn Controller>]>,
    item: Item,
    batches: Vec<Vec<Write>>,
) -> Ended {
    for batch in batches {
        let verbs: Vec<Verb> = batch.iter().map(Write::verb).collect();
        let results = join_all(batch.into_iter().map(|write| world.perform(write))).await;
        let refusal = verbs.into_iter().zip(results).find_map(|(verb, result)| Some((verb, failure(verb, result)?)));
        if let Some((verb, refused)) = refusal {
            let (controller, now) = (&controllers[item.0], world.now());
            for write in world.read(|store| controller.refused(store, &item.1, verb, &refused, now)) {
                // Written down or not, the item has to wait as after any refusal.
                let _outcome = world.perform(write).await;
            }
            return (item, false);
        }
    }
    (item, true)
}

/// What of an outcome is a failure: that something to be deleted is gone, or is another by now, is none.
fn failure(verb: Verb, result: Result<(), Refused>) -> Option<Refused> {
    result.err().filter(|refused| verb != Verb::Delete || !matches!(refused.code, 404 | 409))
}

async fn wait_until(due: Option<Timestamp>, now: Timestamp) {
    match due {
        Some(due) => tokio::time::sleep(Duration::try_from(due.duration_since(now)).unwrap_or_default()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
