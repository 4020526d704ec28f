//! The shell around `spotalis_core::election`: one Lease, kept or watched, and what the rest of the process may know of it.
//!
//! It chooses nothing: the elector says when to read, write, wait or step down. What belongs here is that every call has an
//! end, that a term's token is cancelled the moment leadership is lost, and that the Lease is released only after the writes
//! in flight have ended. The dates in the Lease are for people; nobody decides by them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::{Api, Client};
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use serde_json::json;
use spotalis_core::election::{Elector, Record, Reply, Step, Timing, Write};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::Clock;
use crate::apiclient::{ApiError, Call, explain};
use crate::metrics::{Kind, MetricDoc};

/// On the Lease: `host:port` at which the holder takes decisions forwarded by the other replicas.
pub use spotalis_core::policy::keys::PEER_ADDRESS;

const FIELD_MANAGER: &str = "spotalis";

/// How long the server keeps one watch open, in seconds; it allows at most 295 here.
const WATCH_SECONDS: u32 = 290;

/// The metrics of this module.
pub const METRICS: &[MetricDoc] = &[LEADER, TRANSITIONS];

const LEADER: MetricDoc =
    MetricDoc { name: "leader", kind: Kind::Gauge, labels: &[], help: "1 while this replica leads, else 0" };
const TRANSITIONS: MetricDoc = MetricDoc {
    name: "lease_transitions_total",
    kind: Kind::Counter,
    labels: &[],
    help: "How often this replica saw the Lease go to another holder than before",
};

/// What this module counts.
#[derive(Clone, Debug, Default)]
pub struct LeadershipMetrics {
    leader: Gauge,
    transitions: Counter,
}

impl LeadershipMetrics {
    /// Makes them visible.
    pub fn register(&self, registry: &mut Registry) {
        let Self { leader, transitions } = self;
        LEADER.register(registry, leader.clone());
        TRANSITIONS.register(registry, transitions.clone());
    }
}

/// Whoever holds the Lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leader {
    /// Its identity.
    pub identity: Box<str>,
    /// Where it can be reached by the other replicas, as `host:port`.
    pub peer_address: Option<Box<str>>,
}

/// One uninterrupted time of leading.
#[derive(Clone, Debug)]
pub struct Term {
    /// `leaseTransitions` at its beginning.
    pub number: u32,
    /// Cancelled when it is over.
    pub ended: CancellationToken,
}

/// What is known of the leadership.
#[derive(Clone, Debug, Default)]
pub struct LeaderState {
    /// The holder last seen, which may be us, and may be gone.
    pub leader: Option<Leader>,
    /// Our own term, while we lead.
    pub term: Option<Term>,
}

/// Who runs for which Lease.
#[derive(Clone)]
pub struct Candidate {
    /// Sends each call once.
    pub client: Client,
    /// Where the Lease is.
    pub namespace: String,
    /// Its name.
    pub lease: String,
    /// Ours; must differ between processes, see [`Elector`].
    pub identity: String,
    /// Where other replicas reach us, as `host:port`.
    pub peer_address: Option<String>,
    /// The durations.
    pub timing: Timing,
}

/// This replica does not lead, or not for long enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this replica does not lead")]
pub struct NotLeading;

/// What everybody asks; clones are the same.
#[derive(Clone)]
pub struct Leadership {
    mode: Arc<Mode>,
    state: watch::Receiver<LeaderState>,
    clock: Clock,
    /// A token for each write in flight.
    in_flight: TaskTracker,
}

enum Mode {
    Alone { _state: watch::Sender<LeaderState>, resigned: CancellationToken },
    Elected(Box<Mutex<Elector>>),
}

impl fmt::Debug for Leadership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leadership").field("state", &*self.state.borrow()).finish_non_exhaustive()
    }
}

impl Leadership {
    /// Leads without a Lease until `shutdown`: for a single replica.
    pub fn alone(identity: &str, clock: Clock, metrics: &LeadershipMetrics, shutdown: &CancellationToken) -> Self {
        let leader = Leader { identity: identity.into(), peer_address: None };
        let term = Term { number: 0, ended: shutdown.child_token() };
        metrics.leader.set(1);
        let (sender, state) = watch::channel(LeaderState { leader: Some(leader), term: Some(term) });
        let mode = Arc::new(Mode::Alone { _state: sender, resigned: shutdown.clone() });
        Self { mode, state, clock, in_flight: TaskTracker::new() }
    }

    /// Takes part in the election. The returned future does the work: it ends after `shutdown`, when the Lease is released.
    pub fn contend(
        candidate: Candidate,
        clock: Clock,
        metrics: LeadershipMetrics,
        shutdown: CancellationToken,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (sender, state) = watch::channel(LeaderState::default());
        let elector = Elector::new(candidate.identity.as_str(), candidate.timing);
        let mode = Arc::new(Mode::Elected(Box::new(Mutex::new(elector))));
        let leadership = Self { mode, state, clock, in_flight: TaskTracker::new() };
        let api = Api::namespaced(candidate.client.clone(), &candidate.namespace);
        let campaign = Campaign {
            calls: LeaseCalls { api, candidate, clock, acquired: None },
            leadership: leadership.clone(),
            metrics,
            sender,
            trouble: None,
            watch: None,
            watch_not_before: Instant::now(),
        };
        (leadership, campaign.run(shutdown))
    }

    /// Whether a write may leave now. To be asked last, right before each send.
    pub fn may_write(&self) -> bool {
        !self.remaining().is_zero()
    }

    /// For how much longer writes may leave; zero when they may not.
    pub fn remaining(&self) -> Duration {
        match &*self.mode {
            Mode::Alone { resigned, .. } if resigned.is_cancelled() => Duration::ZERO,
            Mode::Alone { .. } => Duration::MAX,
            Mode::Elected(elector) => elector.lock().remaining(self.clock.elapsed()),
        }
    }

    /// Announces a write: until the permit is dropped, the Lease is not released.
    pub fn permit(&self) -> Result<Permit, NotLeading> {
        // Counted first: a release that begins between the two lines waits for this permit.
        let counted = self.in_flight.token();
        let remaining = self.remaining();
        if remaining.is_zero() { Err(NotLeading) } else { Ok(Permit { remaining, _counted: counted }) }
    }

    /// The leadership as it is and as it changes.
    pub fn state(&self) -> watch::Receiver<LeaderState> {
        self.state.clone()
    }

    /// The holder last seen.
    pub fn leader(&self) -> Option<Leader> {
        self.state.borrow().leader.clone()
    }

    /// Our own term, while we lead.
    pub fn term(&self) -> Option<Term> {
        self.state.borrow().term.clone()
    }

    /// Waits until this replica leads; `None` when it never will any more.
    pub async fn next_term(&self) -> Option<Term> {
        let mut state = self.state.clone();
        let led = state.wait_for(|state| state.term.as_ref().is_some_and(|term| !term.ended.is_cancelled())).await;
        led.ok().and_then(|state| state.term.clone())
    }

    fn elector<T>(&self, ask: impl FnOnce(&mut Elector, Duration) -> T) -> T {
        match &*self.mode {
            Mode::Elected(elector) => ask(&mut elector.lock(), self.clock.elapsed()),
            Mode::Alone { .. } => unreachable!("only a campaign asks, and alone there is none"),
        }
    }
}

/// The right to send one write. The Lease is not released before it is dropped.
#[derive(Debug)]
pub struct Permit {
    remaining: Duration,
    _counted: TaskTrackerToken,
}

impl Permit {
    /// The longest the write may take, as of when the permit was given.
    pub fn remaining(&self) -> Duration {
        self.remaining
    }
}

type LeaseEvents = BoxStream<'static, kube::Result<WatchEvent<Lease>>>;

struct Campaign {
    calls: LeaseCalls,
    leadership: Leadership,
    metrics: LeadershipMetrics,
    sender: watch::Sender<LeaderState>,
    /// The trouble last logged, so that it is logged once.
    trouble: Option<String>,
    watch: Option<LeaseEvents>,
    watch_not_before: Instant,
}

impl Campaign {
    async fn run(mut self, shutdown: CancellationToken) {
        while !shutdown.is_cancelled() {
            match self.leadership.elector(Elector::next) {
                Step::Read { timeout } => tokio::select! {
                    biased;
                    () = shutdown.cancelled() => self.leadership.elector(|e, now| e.answered(Reply::Unknown, now)),
                    answer = self.calls.read(timeout) => self.answered(answer),
                },
                // Not interrupted: a lost reply would cost the next leader the whole lease duration.
                Step::Write { write, timeout } => {
                    let answer = self.calls.write(write, timeout).await;
                    self.answered(answer);
                }
                Step::Wait { until } => self.wait(until, &shutdown).await,
                Step::StepDown => self.step_down("the Lease was lost"),
                Step::Done => break,
            }
        }
        self.resign().await;
    }

    /// No new writes, wait for those in flight, then release.
    async fn resign(mut self) {
        let grace = self.leadership.remaining();
        self.leadership.elector(Elector::resign);
        self.leadership.in_flight.close();
        // Every write in flight ends within the time that its permit named, which is over when the grace is.
        let _ = timeout(grace, self.leadership.in_flight.wait()).await;
        self.step_down("shutting down");
        loop {
            match self.leadership.elector(Elector::next) {
                Step::Read { timeout } => {
                    let answer = self.calls.read(timeout).await;
                    self.answered(answer);
                }
                Step::Write { write, timeout } => {
                    let answer = self.calls.write(write, timeout).await;
                    self.answered(answer);
                }
                Step::Wait { until } => sleep_until(self.leadership.clock.instant(until)).await,
                Step::StepDown => {}
                Step::Done => return,
            }
        }
    }

    fn answered(&mut self, answer: Answer) {
        let (reply, trouble) = match answer {
            Answer::Lease(lease) => match record(&lease) {
                Some(record) => {
                    self.saw(&lease);
                    (Reply::Record(record), None)
                }
                None => (Reply::Unknown, Some("the Lease has no resourceVersion".to_owned())),
            },
            Answer::Absent => (Reply::Absent, None),
            Answer::Conflict => (Reply::Conflict, None),
            Answer::Trouble(trouble) => (Reply::Unknown, Some(trouble)),
        };
        if let Some(trouble) = &trouble
            && self.trouble.as_ref() != Some(trouble)
        {
            let Candidate { namespace, lease, .. } = &self.calls.candidate;
            tracing::warn!(%namespace, %lease, error = %trouble, "a call for the leader election failed");
        }
        self.trouble = trouble;
        let leads = self.leadership.elector(|elector, now| {
            elector.answered(reply, now);
            elector.may_write(now)
        });
        if leads && self.sender.borrow().term.is_none() {
            self.step_up();
        }
    }

    fn step_up(&mut self) {
        // Not needed while we lead: we write the Lease ourselves, and a foreign write shows as a conflict.
        self.watch = None;
        let number = self.leadership.elector(|elector, _| elector.record().map_or(0, |record| record.transitions));
        tracing::info!(identity = %self.calls.candidate.identity, term = number, "leading");
        self.metrics.leader.set(1);
        self.sender.send_modify(|state| state.term = Some(Term { number, ended: CancellationToken::new() }));
    }

    fn step_down(&mut self, reason: &str) {
        self.calls.acquired = None;
        self.metrics.leader.set(0);
        let term = self.sender.borrow().term.clone();
        if let Some(term) = term {
            tracing::info!(identity = %self.calls.candidate.identity, term = term.number, reason, "no longer leading");
            term.ended.cancel();
            self.sender.send_modify(|state| state.term = None);
        }
    }

    /// Publishes the holder.
    fn saw(&mut self, lease: &Lease) {
        let holder = leader(lease);
        let known = self.sender.borrow().leader.clone();
        if holder.is_none() || holder == known {
            return;
        }
        let changed = holder.as_ref().map(|l| &l.identity) != known.as_ref().map(|l| &l.identity);
        if changed && known.is_some() {
            self.metrics.transitions.inc();
        }
        if changed && let Some(holder) = &holder {
            tracing::info!(leader = %holder.identity, "the Lease has a holder");
        }
        self.sender.send_modify(|state| state.leader = holder);
    }

    async fn wait(&mut self, until: Duration, shutdown: &CancellationToken) {
        let until = self.leadership.clock.instant(until);
        let following = self.sender.borrow().term.is_none();
        if following && self.watch.is_none() && Instant::now() >= self.watch_not_before {
            self.watch = Some(self.calls.events());
        }
        let Some(watch) = &mut self.watch else {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => {}
                () = sleep_until(until) => {}
            }
            return;
        };
        tokio::select! {
            biased;
            () = shutdown.cancelled() => {}
            event = watch.next() => self.heard(event),
            () = sleep_until(until) => {}
        }
    }

    fn heard(&mut self, event: Option<kube::Result<WatchEvent<Lease>>>) {
        match event {
            Some(Ok(WatchEvent::Added(lease) | WatchEvent::Modified(lease))) => {
                if let Some(record) = record(&lease) {
                    self.saw(&lease);
                    self.leadership.elector(|elector, now| elector.observed(Some(record), now));
                }
            }
            Some(Ok(WatchEvent::Deleted(_))) => self.leadership.elector(|elector, now| elector.observed(None, now)),
            Some(Ok(WatchEvent::Bookmark(_))) => {}
            // The elector looks for itself when it hears nothing, so the watch has time.
            Some(Ok(WatchEvent::Error(_)) | Err(_)) | None => {
                self.watch = None;
                self.watch_not_before = Instant::now() + self.calls.candidate.timing.retry_period();
            }
        }
    }
}

impl Drop for Campaign {
    /// Also when the future is dropped half-way: nobody may go on as if the term lasted.
    fn drop(&mut self) {
        self.step_down("the campaign has ended");
    }
}

/// The calls about the Lease, one each, with an end.
struct LeaseCalls {
    api: Api<Lease>,
    candidate: Candidate,
    clock: Clock,
    /// `acquireTime` of our term, for people.
    acquired: Option<jiff::Timestamp>,
}

impl LeaseCalls {
    fn events(&self) -> LeaseEvents {
        let parameters =
            WatchParams::default().fields(&format!("metadata.name={}", self.candidate.lease)).timeout(WATCH_SECONDS);
        let api = self.api.clone();
        // From version 0 the server begins with the Lease as it is.
        futures::stream::once(async move { api.watch(&parameters, "0").await }).try_flatten().boxed()
    }

    async fn read(&self, limit: Duration) -> Answer {
        let call = Call { verb: "get", resource: "leases" };
        match timeout(limit, self.api.get(&self.candidate.lease)).await {
            Ok(Err(kube::Error::Api(status))) if status.is_not_found() => Answer::Absent,
            outcome => Answer::from(call, limit, outcome),
        }
    }

    async fn write(&mut self, write: Write, limit: Duration) -> Answer {
        let now = self.clock.now();
        let name = &self.candidate.lease;
        match write {
            Write::Create => {
                self.acquired = Some(now);
                let call = Call { verb: "create", resource: "leases" };
                let lease = self.new_lease(now);
                let outcome = timeout(limit, self.api.create(&PostParams::default(), &lease)).await;
                Answer::from(call, limit, outcome)
            }
            Write::Take { version, transitions } => {
                self.acquired = Some(now);
                self.patch(self.held(&version, transitions, now), limit).await
            }
            Write::Renew { version, transitions } => {
                self.acquired.get_or_insert(now);
                self.patch(self.held(&version, transitions, now), limit).await
            }
            Write::Release { version, transitions } => {
                tracing::info!(lease = %name, "releasing the Lease");
                let patch = json!({
                    "metadata": { "resourceVersion": version, "annotations": { PEER_ADDRESS: null } },
                    "spec": {
                        "holderIdentity": "",
                        "leaseTransitions": transitions,
                        "renewTime": MicroTime(now),
                    },
                });
                self.patch(patch, limit).await
            }
        }
    }

    fn new_lease(&self, now: jiff::Timestamp) -> Lease {
        let address = self.candidate.peer_address.clone();
        Lease {
            metadata: ObjectMeta {
                name: Some(self.candidate.lease.clone()),
                annotations: address.map(|address| [(PEER_ADDRESS.to_owned(), address)].into()),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                acquire_time: Some(MicroTime(now)),
                holder_identity: Some(self.candidate.identity.clone()),
                lease_duration_seconds: Some(self.candidate.timing.lease_duration_seconds()),
                lease_transitions: Some(0),
                renew_time: Some(MicroTime(now)),
                ..LeaseSpec::default()
            }),
        }
    }

    /// A patch keeps labels and annotations of others; the version in it makes the server refuse it if anything changed.
    fn held(&self, version: &str, transitions: u32, now: jiff::Timestamp) -> serde_json::Value {
        json!({
            "metadata": {
                "resourceVersion": version,
                "annotations": { PEER_ADDRESS: self.candidate.peer_address },
            },
            "spec": {
                "holderIdentity": self.candidate.identity,
                "leaseDurationSeconds": self.candidate.timing.lease_duration_seconds(),
                "leaseTransitions": transitions,
                "acquireTime": self.acquired.map(MicroTime),
                "renewTime": MicroTime(now),
            },
        })
    }

    async fn patch(&self, patch: serde_json::Value, limit: Duration) -> Answer {
        let call = Call { verb: "patch", resource: "leases" };
        let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
        let patch = Patch::Merge(patch);
        match timeout(limit, self.api.patch(&self.candidate.lease, &parameters, &patch)).await {
            Ok(Err(kube::Error::Api(status))) if status.is_not_found() => Answer::Absent,
            outcome => Answer::from(call, limit, outcome),
        }
    }
}

enum Answer {
    Lease(Box<Lease>),
    Absent,
    Conflict,
    Trouble(String),
}

impl Answer {
    fn from(call: Call, limit: Duration, outcome: Result<kube::Result<Lease>, tokio::time::error::Elapsed>) -> Self {
        match outcome {
            Ok(Ok(lease)) => Self::Lease(Box::new(lease)),
            Ok(Err(error)) => match ApiError::from_kube(call, error) {
                ApiError::Conflict | ApiError::AlreadyExists => Self::Conflict,
                error => Self::Trouble(explain(&error)),
            },
            Err(_) => Self::Trouble(format!("no answer to {} leases within {limit:?}", call.verb)),
        }
    }
}

/// What the elector wants to know; `None` without a version.
fn record(lease: &Lease) -> Option<Record> {
    let spec = lease.spec.as_ref();
    let seconds = spec.and_then(|spec| spec.lease_duration_seconds).and_then(|s| u64::try_from(s).ok());
    Some(Record {
        holder: leader(lease).map(|leader| leader.identity),
        transitions: spec.and_then(|spec| spec.lease_transitions).and_then(|n| u32::try_from(n).ok()).unwrap_or(0),
        lease_duration: seconds.filter(|seconds| *seconds > 0).map(Duration::from_secs),
        version: lease.metadata.resource_version.as_deref()?.into(),
    })
}

fn leader(lease: &Lease) -> Option<Leader> {
    let identity = lease.spec.as_ref()?.holder_identity.as_deref().filter(|holder| !holder.is_empty())?;
    let address = lease.metadata.annotations.as_ref().and_then(|annotations| annotations.get(PEER_ADDRESS));
    Some(Leader { identity: identity.into(), peer_address: address.map(|address| address.as_str().into()) })
}
