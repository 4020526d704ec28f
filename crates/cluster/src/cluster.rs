//! The handle of a cluster: its store, its clock, its seed, and who is told of every change.
//!
//! Nothing is decided here; requests are answered under `api`, and controllers look at the store by [`Cluster::read`].

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use jiff::Timestamp;
use parking_lot::{Mutex, MutexGuard};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::api::perform::Rejected;
use crate::clock::{Clock, seconds};
use crate::engine::{Refused, World, Write};
use crate::news::News;
use crate::object::Object;
use crate::random::Random;
use crate::resource::Kind;
use crate::store::{Change, Key, Store};

/// How long a request takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Latency {
    /// No time at all.
    #[default]
    None,
    /// Always the same: half of it on the way there, half on the way back.
    Fixed(Duration),
    /// Something in between, from the cluster's seed.
    Between(Duration, Duration),
}

/// From when on it is kept who owns which field (`managedFields`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ownership {
    /// From the first server-side apply of an object on, which is what anybody looks at it for. Cheap.
    #[default]
    FirstApply,
    /// From its creation on, as a real server does it.
    Always,
}

/// What a cluster starts with.
#[derive(Clone, Debug)]
pub struct Options {
    /// Decides everything that is random: uids, names, latencies.
    pub seed: u64,
    /// What the clock shows at the start.
    pub epoch: Timestamp,
    /// How long a request takes.
    pub latency: Latency,
    /// How often history is compacted: afterwards, what is older than this is forgotten. Never, if none.
    pub compaction: Option<Duration>,
    /// From when on field ownership is kept.
    pub ownership: Ownership,
}

impl Default for Options {
    /// 2026-03-01T12:00:00Z, no latency, and history for five to ten minutes as a real one keeps it.
    fn default() -> Self {
        Self {
            seed: 0,
            epoch: Timestamp::constant(1_772_366_400, 0),
            latency: Latency::None,
            compaction: Some(Duration::from_mins(5)),
            ownership: Ownership::FirstApply,
        }
    }
}

/// One request that was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// When the answer was decided on.
    pub at: Timestamp,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`
    pub verb: &'static str,
    /// Of what.
    pub kind: Kind,
    /// Empty outside namespaces, and of all of them.
    pub namespace: String,
    /// Empty of a collection.
    pub name: String,
    /// Empty of the object itself.
    pub subresource: &'static str,
    /// Who asked, by the header.
    pub user_agent: String,
    /// The answer's.
    pub code: u16,
    /// The cluster's when the answer was decided on.
    pub revision: u64,
}

/// Answers an AdmissionReview; an error is a call that failed.
pub(crate) type Handler = Arc<dyn Fn(bytes::Bytes) -> BoxFuture<'static, Result<bytes::Bytes, String>> + Send + Sync>;
/// What an expression of a match condition says of an AdmissionReview's request.
pub(crate) type Predicate = Arc<dyn Fn(&Value) -> bool + Send + Sync>;
type Observer = Box<dyn FnMut(&Store, &Change) + Send>;

/// What changes.
pub(crate) struct State {
    pub store: Store,
    pub random: Random,
    pub handlers: BTreeMap<String, Handler>,
    pub predicates: BTreeMap<String, Predicate>,
    observers: Vec<Observer>,
    answered: Option<Vec<Answered>>,
    /// When which revision was the last one, for compaction.
    marks: VecDeque<(Instant, u64)>,
}

struct Shared {
    clock: Clock,
    options: Options,
    state: Mutex<State>,
    news: News,
}

/// A cluster. Clones are the same cluster.
#[derive(Clone)]
pub struct Cluster(Arc<Shared>);

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("options", &self.0.options).finish_non_exhaustive()
    }
}

/// The namespaces that are there from the start, and stay.
pub(crate) const NAMESPACES: [&str; 4] = ["default", "kube-node-lease", "kube-public", "kube-system"];

impl Cluster {
    /// An empty one, except for the namespaces that every cluster has.
    pub fn new(options: Options) -> Self {
        let clock = Clock::starting_at(options.epoch);
        let state = State {
            store: Store::default(),
            random: Random::seeded(options.seed),
            handlers: BTreeMap::new(),
            predicates: BTreeMap::new(),
            observers: Vec::new(),
            answered: None,
            marks: VecDeque::new(),
        };
        let shared = Shared { clock, options, state: Mutex::new(state), news: News::new() };
        let cluster = Self(Arc::new(shared));
        for name in NAMESPACES {
            let mut state = cluster.state();
            let uid = state.random.uid();
            let namespace = json!({
                "apiVersion": "v1", "kind": "Namespace",
                "metadata": {
                    "name": name, "uid": uid, "creationTimestamp": seconds(cluster.now()),
                    "labels": {"kubernetes.io/metadata.name": name},
                },
                "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"},
            });
            cluster.put(&mut state, Key::new(Kind::Namespace, "", name), namespace);
        }
        cluster
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    /// The clock.
    pub fn clock(&self) -> Clock {
        self.0.clock
    }

    /// What it started with.
    pub fn options(&self) -> &Options {
        &self.0.options
    }

    /// Looks at the store. Nothing changes meanwhile: `look` must be short, and must not ask the cluster for anything.
    pub fn read<R>(&self, look: impl FnOnce(&Store) -> R) -> R {
        look(&self.state().store)
    }

    /// Has `observer` told of every change from now on, while nothing else happens. It must be short, and must not ask the
    /// cluster for anything.
    pub fn observe(&self, observer: impl FnMut(&Store, &Change) + Send + 'static) {
        self.state().observers.push(Box::new(observer));
    }

    /// Returns once there is a revision above `after`.
    pub async fn changed(&self, after: u64) {
        loop {
            let mut news = pin!(self.0.news.any());
            news.as_mut().enable();
            if self.read(Store::revision) > after {
                return;
            }
            news.await;
        }
    }

    /// Forgets all history: who watches from an older revision is told 410.
    pub fn compact(&self) {
        let mut state = self.state();
        let revision = state.store.revision();
        state.store.compact(revision);
        drop(state);
        // Those who lag learn of it now.
        self.0.news.tell_all();
    }

    /// From now on, keeps a record of every request.
    pub fn record_requests(&self) {
        self.state().answered.get_or_insert_default();
    }

    /// The requests since this was last asked; nothing before [`Cluster::record_requests`].
    pub fn take_requests(&self) -> Vec<Answered> {
        self.state().answered.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Has a handler called for the webhooks of a URL, in place of an HTTPS request. It is given the bytes of an
    /// AdmissionReview and returns those of the answer; an error is as good as no answer.
    pub fn route<F, R>(&self, url: &str, handler: F)
    where
        F: Fn(bytes::Bytes) -> R + Send + Sync + 'static,
        R: Future<Output = Result<bytes::Bytes, String>> + Send + 'static,
    {
        let handler: Handler = Arc::new(move |review| Box::pin(handler(review)));
        self.state().handlers.insert(url.to_owned(), handler);
    }

    /// Teaches the cluster an expression of match conditions. It is compared as text; the predicate sees the `request` of
    /// the AdmissionReview. A webhook configuration with an expression that was not taught is refused.
    pub fn understand(&self, expression: &str, predicate: impl Fn(&Value) -> bool + Send + Sync + 'static) {
        self.state().predicates.insert(expression.to_owned(), Arc::new(predicate));
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock()
    }

    pub(crate) fn news(&self) -> &News {
        &self.0.news
    }

    /// Stores an object and tells everybody.
    pub(crate) fn put(&self, state: &mut State, key: Key, object: Value) -> Arc<Object> {
        let object = state.store.put(key, object);
        self.tell(state);
        object
    }

    /// Takes an object away and tells everybody.
    pub(crate) fn remove(&self, state: &mut State, key: &Key) -> Option<Arc<Object>> {
        let object = state.store.remove(key)?;
        self.tell(state);
        Some(object)
    }

    fn tell(&self, state: &mut State) {
        let State { store, observers, .. } = state;
        let changed = store.last().map(|change| {
            observers.iter_mut().for_each(|observer| observer(store, change));
            change.key.kind
        });
        self.forget(state);
        if let Some(kind) = changed {
            self.0.news.tell(kind);
        }
    }

    /// Compacts as etcd is made to: at every interval, up to where the one before began.
    fn forget(&self, state: &mut State) {
        let Some(interval) = self.0.options.compaction else { return };
        let now = Instant::now();
        if state.marks.back().is_some_and(|(marked, _)| now < *marked + interval) {
            return;
        }
        // The change that was just made is not old yet.
        state.marks.push_back((now, state.store.revision() - 1));
        if state.marks.len() > 2 {
            state.marks.pop_front();
        }
        if let [(marked, revision), _] = state.marks.make_contiguous()
            && *marked + interval <= now
        {
            let revision = *revision;
            state.store.compact(revision);
        }
    }

    pub(crate) fn answered(&self, answered: impl FnOnce(u64) -> Answered) {
        let mut state = self.state();
        let revision = state.store.revision();
        if let Some(all) = &mut state.answered {
            all.push(answered(revision));
        }
    }

    /// How long the next request takes on its way, and its answer.
    pub(crate) fn latency(&self) -> (Duration, Duration) {
        let total = match self.0.options.latency {
            Latency::None => return (Duration::ZERO, Duration::ZERO),
            Latency::Fixed(latency) => latency,
            Latency::Between(least, most) => {
                let spread = u64::try_from(most.saturating_sub(least).as_micros()).unwrap_or(u64::MAX - 1);
                least + Duration::from_micros(self.state().random.below(spread + 1))
            }
        };
        (total / 2, total.saturating_sub(total / 2))
    }
}

impl From<Rejected> for Refused {
    fn from(Rejected { code, reason, message }: Rejected) -> Self {
        Self { code, reason, message }
    }
}

impl World for Cluster {
    fn read<R>(&self, look: impl FnOnce(&Store) -> R) -> R {
        Self::read(self, look)
    }

    fn now(&self) -> Timestamp {
        Self::now(self)
    }

    async fn perform(&self, write: Write) -> Result<(), Refused> {
        match write {
            Write::Create(object) => self.create_from_within(object).await.map(drop)?,
            Write::Replace { object, subresource } => self.replace_from_within(object, subresource).await.map(drop)?,
            Write::Delete { key, uid, grace } => self.delete_from_within(&key, &uid, grace).await?,
            Write::Bind { pod, uid, node } => self.bind_from_within(&pod, &uid, &node).await?,
        }
        Ok(())
    }

    async fn changed(&self, after: u64) {
        Self::changed(self, after).await;
    }
}
