//! A queue of keys for a fixed number of workers: each key at most once in the queue, never with two workers at a time.
//!
//! It carries keys, not events: what happened to the object is found out by looking at it. Jobs come in the order in which
//! they fall due, and among those due at the same instant in the order in which they were added. It knows nothing of what a
//! job does and never gives one up by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// Longer than any process lives.
const NEVER: Duration = Duration::from_hours(30 * 365 * 24);

/// How long a failing key waits: `first`, then twice as long each time, up to `limit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// After the first failure.
    pub first: Duration,
    /// Never longer than this.
    pub limit: Duration,
}

impl Backoff {
    /// The wait after the `failures`-th failure in a row, counted from 1.
    pub fn delay(&self, failures: u32) -> Duration {
        let doubled = 2_u32.saturating_pow(failures.saturating_sub(1));
        self.first.saturating_mul(doubled).min(self.limit)
    }
}

impl Default for Backoff {
    /// 100 ms to 60 s.
    fn default() -> Self {
        Self { first: Duration::from_millis(100), limit: Duration::from_mins(1) }
    }
}

/// The queue; clones are the same queue.
#[derive(Debug)]
pub struct WorkQueue<K: Ord + Clone> {
    shared: Arc<Shared<K>>,
}

impl<K: Ord + Clone> Clone for WorkQueue<K> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

#[derive(Debug)]
struct Shared<K> {
    state: Mutex<State<K>>,
    changed: Notify,
    backoff: Backoff,
}

#[derive(Debug)]
struct State<K> {
    /// By due time, then by order of addition.
    due: BTreeMap<(Instant, u64), K>,
    /// Where a key stands in `due`.
    queued: BTreeMap<K, (Instant, u64)>,
    /// With a worker.
    running: BTreeSet<K>,
    /// Added while with a worker: when to run again.
    again: BTreeMap<K, Instant>,
    /// Failures in a row.
    failures: BTreeMap<K, u32>,
    additions: u64,
    closed: bool,
}

impl<K: Ord + Clone> State<K> {
    fn enqueue(&mut self, key: K, at: Instant) {
        if let Some(place) = self.queued.get(&key) {
            if place.0 <= at {
                return;
            }
            self.due.remove(place);
        }
        self.additions += 1;
        let place = (at, self.additions);
        self.due.insert(place, key.clone());
        self.queued.insert(key, place);
    }

    fn add(&mut self, key: K, at: Instant) {
        if self.closed {
            return;
        }
        if self.running.contains(&key) {
            let again = self.again.entry(key).or_insert(at);
            *again = at.min(*again);
        } else {
            self.enqueue(key, at);
        }
    }

    fn take(&mut self, now: Instant) -> Next<K> {
        if self.closed {
            return Next::Closed;
        }
        match self.due.first_entry() {
            None => Next::Nothing,
            Some(entry) if entry.key().0 > now => Next::At(entry.key().0),
            Some(entry) => {
                let key = entry.remove();
                self.queued.remove(&key);
                self.running.insert(key.clone());
                let more = self.due.first_key_value().is_some_and(|((at, _), _)| *at <= now);
                Next::Key { key, more }
            }
        }
    }

    fn done(&mut self, key: &K) {
        self.running.remove(key);
        if let Some(at) = self.again.remove(key)
            && !self.closed
        {
            self.enqueue(key.clone(), at);
        }
    }
}

enum Next<K> {
    Key { key: K, more: bool },
    At(Instant),
    Nothing,
    Closed,
}

impl<K: Ord + Clone> WorkQueue<K> {
    /// An empty queue.
    pub fn new(backoff: Backoff) -> Self {
        let state = State {
            due: BTreeMap::new(),
            queued: BTreeMap::new(),
            running: BTreeSet::new(),
            again: BTreeMap::new(),
            failures: BTreeMap::new(),
            additions: 0,
            closed: false,
        };
        Self { shared: Arc::new(Shared { state: Mutex::new(state), changed: Notify::new(), backoff }) }
    }

    /// Has `key` looked at as soon as a worker is free. If a worker is at it, it is looked at once more afterwards.
    pub fn add(&self, key: K) {
        self.add_after(key, Duration::ZERO);
    }

    /// The same, not before `delay` is over. Of several the earliest counts.
    pub fn add_after(&self, key: K, delay: Duration) {
        // A delay beyond what a clock can count is one that never ends.
        let at = Instant::now().checked_add(delay.min(NEVER)).expect("thirty years fit into every clock");
        self.shared.state.lock().add(key, at);
        self.shared.changed.notify_one();
    }

    /// Counts a failure of `key` and adds it after the back-off, which is returned.
    pub fn retry(&self, key: K) -> Duration {
        let delay = {
            let mut state = self.shared.state.lock();
            let failures = state.failures.entry(key.clone()).or_insert(0);
            *failures = failures.saturating_add(1);
            self.shared.backoff.delay(*failures)
        };
        self.add_after(key, delay);
        delay
    }

    /// Forgets the failures of `key`; to be called on success and when the object is gone.
    pub fn forget(&self, key: &K) {
        self.shared.state.lock().failures.remove(key);
    }

    /// Keys waiting, due or not.
    pub fn depth(&self) -> usize {
        self.shared.state.lock().due.len()
    }

    /// Nobody gets another job, and nothing can be added. Jobs under way are not touched.
    pub fn shutdown(&self) {
        self.shared.state.lock().closed = true;
        self.shared.changed.notify_waiters();
    }

    /// The next job, or `None` after [`Self::shutdown`]. Dropping the job gives the key back.
    pub async fn get(&self) -> Option<Job<K>> {
        loop {
            let mut changed = pin!(self.shared.changed.notified());
            // Registered before the look, so that no addition falls between the look and the wait.
            changed.as_mut().enable();
            let next = self.shared.state.lock().take(Instant::now());
            match next {
                Next::Closed => return None,
                Next::Key { key, more } => {
                    if more {
                        self.shared.changed.notify_one();
                    }
                    return Some(Job { key, queue: self.clone() });
                }
                Next::Nothing => changed.await,
                Next::At(at) => tokio::select! {
                    biased;
                    () = changed => {}
                    () = sleep_until(at) => {}
                },
            }
        }
    }
}

/// A key that this worker alone has, until it is dropped.
#[derive(Debug)]
pub struct Job<K: Ord + Clone> {
    key: K,
    queue: WorkQueue<K>,
}

impl<K: Ord + Clone> Job<K> {
    /// What to look at.
    pub fn key(&self) -> &K {
        &self.key
    }

    /// It failed: again after the back-off, which is returned.
    pub fn retry(self) -> Duration {
        self.queue.retry(self.key.clone())
    }

    /// It succeeded, and nothing has to be looked at before something changes.
    pub fn done(self) {
        self.queue.forget(&self.key);
    }

    /// It succeeded, and is to be looked at again after `delay`.
    pub fn done_until(self, delay: Duration) {
        self.queue.forget(&self.key);
        self.queue.add_after(self.key.clone(), delay);
    }
}

impl<K: Ord + Clone> Drop for Job<K> {
    fn drop(&mut self) {
        self.queue.shared.state.lock().done(&self.key);
        self.queue.shared.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use tokio::time::{advance, timeout};

    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn queue() -> WorkQueue<&'static str> {
        WorkQueue::new(Backoff { first: S, limit: S * 5 })
    }

    /// The key that is due now, if one is.
    fn due(queue: &WorkQueue<&'static str>) -> Option<Job<&'static str>> {
        queue.get().now_or_never().flatten()
    }

    #[tokio::test(start_paused = true)]
    async fn in_order_of_addition_and_each_once() {
        let queue = queue();
        for key in ["c", "a", "b", "a", "c"] {
            queue.add(key);
        }
        let order: Vec<_> = std::iter::from_fn(|| due(&queue).map(|job| *job.key())).collect();
        assert_eq!(order, ["c", "a", "b"]);
    }

    #[tokio::test(start_paused = true)]
    async fn never_the_same_key_twice_at_once() {
        let queue = queue();
        queue.add("a");
        let job = due(&queue).unwrap();
        queue.add("a");
        queue.add_after("a", S);
        assert!(due(&queue).is_none());
        drop(job);
        assert!(due(&queue).is_some(), "the addition during the job is kept");
        advance(S * 2).await;
        assert!(due(&queue).is_none(), "as one addition, the earlier");
    }

    #[tokio::test(start_paused = true)]
    async fn the_earliest_counts() {
        let queue = queue();
        queue.add_after("a", S * 5);
        queue.add_after("a", S * 2);
        queue.add_after("a", S * 9);
        let before = Instant::now();
        assert_eq!(queue.get().await.unwrap().key(), &"a");
        assert_eq!(before.elapsed(), S * 2);
        assert_eq!(queue.depth(), 0);
        queue.add_after("never", Duration::MAX);
        assert_eq!(queue.depth(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn an_earlier_addition_wakes_a_sleeping_worker() {
        let queue = queue();
        queue.add_after("late", S * 60);
        let worker = tokio::spawn({
            let queue = queue.clone();
            async move { *queue.get().await.unwrap().key() }
        });
        tokio::task::yield_now().await;
        queue.add("early");
        assert_eq!(timeout(S, worker).await.unwrap().unwrap(), "early");
    }

    #[tokio::test(start_paused = true)]
    async fn back_off_doubles_up_to_its_limit_and_is_forgotten() {
        let queue = queue();
        queue.add("a");
        for seconds in [1, 2, 4, 5, 5] {
            assert_eq!(queue.get().await.unwrap().retry(), S * seconds);
        }
        queue.get().await.unwrap().done();
        assert_eq!(queue.retry("a"), S);
        assert_eq!(Backoff::default().delay(u32::MAX), Backoff::default().limit);
    }

    #[tokio::test(start_paused = true)]
    async fn a_job_may_ask_to_be_seen_again() {
        let queue = queue();
        queue.add("a");
        due(&queue).unwrap().done_until(S * 3);
        let before = Instant::now();
        queue.get().await.unwrap();
        assert_eq!(before.elapsed(), S * 3);
    }

    #[tokio::test(start_paused = true)]
    async fn all_workers_are_used_and_all_end() {
        let queue = WorkQueue::new(Backoff::default());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let workers: Vec<_> = (0..3)
            .map(|worker| {
                let (queue, seen) = (queue.clone(), Arc::clone(&seen));
                tokio::spawn(async move {
                    while let Some(job) = queue.get().await {
                        tokio::time::sleep(S).await;
                        seen.lock().push((worker, *job.key()));
                    }
                })
            })
            .collect();
        tokio::task::yield_now().await;
        (0..9).for_each(|key| queue.add(key));
        let before = Instant::now();
        while seen.lock().len() < 9 {
            tokio::time::sleep(S / 10).await;
        }
        assert!(before.elapsed() < S * 4, "nine jobs of a second, three at a time: {:?}", before.elapsed());
        let mut keys: Vec<_> = seen.lock().iter().map(|(_, key)| *key).collect();
        keys.sort_unstable();
        assert_eq!(keys, (0..9).collect::<Vec<_>>());
        queue.shutdown();
        for worker in workers {
            timeout(S, worker).await.expect("a waiting worker ends").unwrap();
        }
        queue.add(1);
        assert!(queue.get().await.is_none());
    }
}
