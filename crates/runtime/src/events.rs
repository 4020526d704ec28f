//! Publishes Events (`events.k8s.io/v1`) without ever making anybody wait.
//!
//! What is worth an Event is not decided here. A notice that repeats within ten minutes becomes a series on the Event that is
//! there, and a notice that cannot be queued or published is counted and forgotten: an Event is news, not state.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::{sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::Clock;
use crate::apiclient::{ApiError, Call, RateLimit, TransportError, explain};
use crate::metrics::{Kind, MetricDoc};
use crate::text::{clip, printable};

/// A repeated notice belongs to the same series if the last one is not longer ago than this.
const SERIES_WINDOW: Duration = Duration::from_mins(10);
/// The second notice is written at once, further ones at most so often.
const SERIES_PACE: Duration = Duration::from_mins(5);
/// How many different notices are remembered; the one not heard of for longest is forgotten first.
const SERIES_LIMIT: usize = 4096;
/// Limits of the API, in bytes.
const NOTE_LIMIT: usize = 1024;
const WORD_LIMIT: usize = 128;
const NAME_LIMIT: usize = 253;
/// No call may take longer.
const CALL_LIMIT: Duration = Duration::from_secs(10);
const TRIES: u32 = 3;
/// What is still in the queue at shutdown gets so long.
const FAREWELL: Duration = Duration::from_secs(2);

const CREATE: Call = Call { verb: "create", resource: "events" };
const PATCH: Call = Call { verb: "patch", resource: "events" };

/// The metrics of this module.
pub const METRICS: &[MetricDoc] = &[EVENTS];

const EVENTS: MetricDoc = MetricDoc {
    name: "events_total",
    kind: Kind::Counter,
    labels: &["result"],
    help: "Notices by what became of them: posted, patched (a series), held (counted in a later patch), dropped (the queue was full), failed",
};

/// What this module counts.
#[derive(Clone, Debug, Default)]
pub struct EventMetrics {
    events: Family<[(&'static str, &'static str); 1], Counter>,
}

impl EventMetrics {
    /// Makes them visible.
    pub fn register(&self, registry: &mut Registry) {
        let Self { events } = self;
        EVENTS.register(registry, events.clone());
    }

    fn count(&self, result: &'static str) {
        self.events.get_or_create(&[("result", result)]).inc();
    }
}

/// Something worth telling about an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Notice {
    /// What it is about. With its UID, or `kubectl describe` does not show it.
    pub regarding: ObjectReference,
    /// Another object that plays a part.
    pub related: Option<ObjectReference>,
    /// `UpperCamel`, stable, documented.
    pub reason: &'static str,
    /// A sentence. No changing figures: they would start a new series each time.
    pub note: String,
    /// Shown as Warning, not as Normal.
    pub warning: bool,
    /// What was done, `UpperCamel`.
    pub action: &'static str,
}

/// A notice and when it was given.
#[derive(Clone, Debug, PartialEq)]
pub struct Stamped {
    /// What was said.
    pub notice: Notice,
    /// When.
    pub at: Timestamp,
}

/// The name under which the controllers report. With it, readers find what they told.
pub const CONTROLLER: &str = "spotalis.io/controller";

/// In whose name Events are published.
#[derive(Clone, Debug)]
pub struct Reporter {
    /// `reportingController`, a qualified name such as `spotalis.io/controller`.
    pub controller: String,
    /// `reportingInstance`, which pod of it.
    pub instance: String,
}

/// Takes notices; clones feed the same queue.
#[derive(Clone, Debug)]
pub struct EventRecorder {
    queue: mpsc::Sender<Stamped>,
    clock: Clock,
    metrics: EventMetrics,
}

impl EventRecorder {
    /// A recorder, and the work of publishing what it takes: at most as fast as `pace` allows, until `shutdown`.
    pub fn new(
        client: Client,
        reporter: Reporter,
        clock: Clock,
        metrics: EventMetrics,
        pace: Arc<RateLimit>,
        capacity: usize,
        shutdown: CancellationToken,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (recorder, queue) = Self::channel(clock, metrics.clone(), capacity);
        let seed = format!("{}\n{}", reporter.instance, clock.now().as_nanosecond());
        let publisher =
            Publisher { client, reporter, clock, metrics, pace, seed, published: 0, series: BTreeMap::new() };
        (recorder, publisher.run(queue, shutdown))
    }

    /// A recorder whose notices are handed to whoever holds the other end.
    pub fn channel(clock: Clock, metrics: EventMetrics, capacity: usize) -> (Self, mpsc::Receiver<Stamped>) {
        let (queue, notices) = mpsc::channel(capacity.max(1));
        (Self { queue, clock, metrics }, notices)
    }

    /// Queues `notice`. Never waits; when the queue is full the notice is counted and lost.
    pub fn publish(&self, notice: Notice) {
        let stamped = Stamped { notice, at: self.clock.now() };
        if let Err(error) = self.queue.try_send(stamped) {
            self.metrics.count("dropped");
            let notice = error.into_inner().notice;
            tracing::debug!(reason = notice.reason, note = %notice.note, "an Event was dropped, the queue is full");
        }
    }
}

/// What makes two notices the same news. The reporting controller is the same for all of a publisher.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct SeriesKey {
    object: Arc<str>,
    reason: &'static str,
    note: Arc<str>,
    warning: bool,
}

impl SeriesKey {
    fn of(notice: &Notice) -> Self {
        let ObjectReference { kind, namespace, name, uid, .. } = &notice.regarding;
        let word = |word: &Option<String>| word.clone().unwrap_or_default();
        let object = match uid {
            Some(uid) => uid.clone(),
            None => format!("{}/{}/{}", word(kind), word(namespace), word(name)),
        };
        let (object, note) = (object.into(), notice.note.as_str().into());
        Self { object, reason: notice.reason, note, warning: notice.warning }
    }
}

/// An Event that is there, and how often its news was told.
#[derive(Clone, Debug)]
struct Series {
    namespace: String,
    name: String,
    count: i32,
    last_observed: Timestamp,
    /// When the last notice came, and when the Event was last written; since the start of the process.
    heard: Duration,
    written: Duration,
    /// Notices came that the Event does not show yet.
    pending: bool,
}

impl Series {
    /// Counts one more notice; `true` when the Event is to be written now.
    fn extend(&mut self, at: Timestamp, now: Duration) -> bool {
        self.count = self.count.saturating_add(1);
        self.last_observed = at;
        self.heard = now;
        self.pending = true;
        self.count == 2 || now >= self.due()
    }

    fn due(&self) -> Duration {
        self.written + SERIES_PACE
    }

    fn is_over(&self, now: Duration) -> bool {
        !self.pending && now > self.heard + SERIES_WINDOW
    }
}

struct Publisher {
    client: Client,
    reporter: Reporter,
    clock: Clock,
    metrics: EventMetrics,
    pace: Arc<RateLimit>,
    /// Together with a counter it makes names that no other process makes.
    seed: String,
    published: u64,
    series: BTreeMap<SeriesKey, Series>,
}

impl Publisher {
    async fn run(mut self, queue: mpsc::Receiver<Stamped>, shutdown: CancellationToken) {
        let end = async {
            shutdown.cancelled().await;
            sleep(FAREWELL).await;
        };
        tokio::select! {
            biased;
            () = self.work(queue, &shutdown) => {}
            // What has not made it by now is lost, as the process is about to be.
            () = end => {}
        }
    }

    async fn work(&mut self, mut queue: mpsc::Receiver<Stamped>, shutdown: &CancellationToken) {
        loop {
            let flush_at = self.clock.instant(self.next_flush().unwrap_or(Duration::MAX));
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                stamped = queue.recv() => match stamped {
                    Some(stamped) => self.publish(stamped).await,
                    None => break,
                },
                () = sleep_until(flush_at) => self.flush(self.clock.elapsed()).await,
            }
        }
        queue.close();
        while let Some(stamped) = queue.recv().await {
            self.publish(stamped).await;
        }
        self.flush(Duration::MAX).await;
    }

    async fn publish(&mut self, Stamped { notice, at }: Stamped) {
        let key = SeriesKey::of(&notice);
        let now = self.clock.elapsed();
        match self.series.get_mut(&key).filter(|series| !series.is_over(now)) {
            None => self.post(key, &notice, at).await,
            Some(series) => {
                if !series.extend(at, now) {
                    self.metrics.count("held");
                } else if self.patch(&key).await == Patched::Gone {
                    self.series.remove(&key);
                    self.post(key, &notice, at).await;
                }
            }
        }
    }

    async fn post(&mut self, key: SeriesKey, notice: &Notice, at: Timestamp) {
        let event = self.event(notice, at);
        let namespace = event.metadata.namespace.clone().unwrap_or_default();
        let name = event.metadata.name.clone().unwrap_or_default();
        let api: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        let outcome = self.call(CREATE, || async { api.create(&PostParams::default(), &event).await }).await;
        match outcome {
            // There already: the first try arrived and its answer did not.
            Ok(()) | Err(ApiError::AlreadyExists) => {
                self.metrics.count("posted");
                let now = self.clock.elapsed();
                self.forget(now);
                let series =
                    Series { namespace, name, count: 1, last_observed: at, heard: now, written: now, pending: false };
                self.series.insert(key, series);
            }
            Err(error) => self.failed(notice.reason, &error),
        }
    }

    async fn patch(&mut self, key: &SeriesKey) -> Patched {
        let Some(series) = self.series.get(key) else { return Patched::Gone };
        let patch = json!({
            "series": { "count": series.count, "lastObservedTime": MicroTime(series.last_observed) },
        });
        let api: Api<Event> = Api::namespaced(self.client.clone(), &series.namespace);
        let (name, patch) = (series.name.clone(), Patch::Merge(patch));
        let outcome = self.call(PATCH, || async { api.patch(&name, &PatchParams::default(), &patch).await }).await;
        let now = self.clock.elapsed();
        if let Some(series) = self.series.get_mut(key) {
            series.written = now;
            series.pending = false;
        }
        match outcome {
            Ok(()) => self.metrics.count("patched"),
            Err(ApiError::NotFound) => return Patched::Gone,
            Err(error) => self.failed(key.reason, &error),
        }
        Patched::Done
    }

    /// Writes the series that have waited until `now`.
    async fn flush(&mut self, now: Duration) {
        let due = self.series.iter().filter(|(_, series)| series.pending && series.due() <= now);
        let due: Vec<_> = due.map(|(key, _)| key.clone()).collect();
        for key in due {
            // Expired on the server: it will be posted anew when it happens again.
            if self.patch(&key).await == Patched::Gone {
                self.series.remove(&key);
            }
        }
    }

    fn next_flush(&self) -> Option<Duration> {
        self.series.values().filter(|series| series.pending).map(Series::due).min()
    }

    /// Makes room for one more.
    fn forget(&mut self, now: Duration) {
        self.series.retain(|_, series| !series.is_over(now));
        while self.series.len() >= SERIES_LIMIT {
            let oldest = self.series.iter().min_by_key(|(_, series)| series.heard).map(|(key, _)| key.clone());
            if let Some(key) = oldest {
                self.series.remove(&key);
            }
        }
    }

    /// A few tries, each in its turn. Which failures are worth another one does not depend on the Event.
    async fn call<F>(&self, call: Call, attempt: impl Fn() -> F) -> Result<(), ApiError>
    where
        F: Future<Output = kube::Result<Event>>,
    {
        let mut delay = Duration::from_secs(1);
        for last in (0..TRIES).map(|attempt| attempt + 1 == TRIES) {
            self.pace.turn().await;
            let error = match timeout(CALL_LIMIT, attempt()).await {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(error)) => ApiError::from_kube(call, error),
                Err(_) => ApiError::Transport { call, source: TransportError::Timeout(CALL_LIMIT) },
            };
            match error {
                ApiError::Throttled { retry_after } if !last => self.pace.pause(retry_after),
                ApiError::Transport { .. } | ApiError::Server { .. } if !last => sleep(delay).await,
                error => return Err(error),
            }
            delay *= 2;
        }
        unreachable!("the last try returns")
    }

    fn failed(&self, reason: &str, error: &ApiError) {
        self.metrics.count("failed");
        tracing::warn!(reason, error = %explain(error), "an Event could not be published");
    }

    fn event(&mut self, notice: &Notice, at: Timestamp) -> Event {
        let Notice { regarding, related, reason, note, warning, action } = notice;
        // Objects without a namespace have their Events in `default`; the server refuses anything else.
        let namespace = regarding.namespace.clone().filter(|namespace| !namespace.is_empty());
        let name = self.name(regarding.name.as_deref().unwrap_or_default());
        Event {
            metadata: ObjectMeta {
                namespace: Some(namespace.unwrap_or_else(|| "default".to_owned())),
                name: Some(name),
                ..ObjectMeta::default()
            },
            event_time: Some(MicroTime(at)),
            reporting_controller: Some(self.reporter.controller.clone()),
            reporting_instance: Some(clip(&self.reporter.instance, WORD_LIMIT).into_owned()),
            action: Some(clip(action, WORD_LIMIT).into_owned()),
            reason: Some(clip(reason, WORD_LIMIT).into_owned()),
            regarding: Some(regarding.clone()),
            related: related.clone(),
            note: Some(clip(&printable(note), NOTE_LIMIT).into_owned()),
            type_: Some(if *warning { "Warning" } else { "Normal" }.to_owned()),
            ..Event::default()
        }
    }

    /// The object's name and sixteen digits that depend on the process and its count of Events.
    fn name(&mut self, object: &str) -> String {
        self.published += 1;
        let digits = fnv1a(format!("{}\n{}", self.seed, self.published).as_bytes());
        let room = object.floor_char_boundary(object.len().min(NAME_LIMIT - 17));
        let stem = object[..room].trim_end_matches(['.', '-']);
        let stem = if stem.is_empty() { "event" } else { stem };
        format!("{stem}.{digits:016x}")
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Patched {
    Done,
    Gone,
}

/// FNV-1a, 64 bit: the standard library's hasher promises nothing from one version to the next.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fnv_as_published() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
    }

    #[test]
    fn a_series_writes_the_second_and_then_at_its_pace() {
        let at = Timestamp::UNIX_EPOCH;
        let s = Duration::from_secs;
        let mut series = Series {
            namespace: "n".into(),
            name: "e".into(),
            count: 1,
            last_observed: at,
            heard: s(0),
            written: s(0),
            pending: false,
        };
        assert!(series.extend(at, s(1)));
        (series.written, series.pending) = (s(1), false);
        assert!(!series.extend(at, s(2)));
        assert!(!series.extend(at, s(300)));
        assert!(series.extend(at, s(301)));
        assert_eq!(series.count, 5);
        assert!(!series.is_over(s(5000)), "what is not written yet is not forgotten");
        series.pending = false;
        assert!(!series.is_over(s(901)) && series.is_over(s(902)));
    }
}
