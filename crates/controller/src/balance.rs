//! Balance: keeps each managed workload's replicas split as its policy says.
//!
//! A pass takes the workload's snapshot, asks `rebalance::decide`, shows and tells the answer, and sends at most one
//! eviction or a batch of slot patches. Which, and whether, is decided there; here is only what an answer of the API
//! server means for the next pass. Runs on the leader alone, one term at a time.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use spotalis_core::opt_in::OptIn;
use spotalis_core::policy::{Fault, Problem};
use spotalis_core::reason::Reason;
use spotalis_core::rebalance::{self, Action, Circumstances, Decision, Seating};
use spotalis_kube::index::{Index, WorkloadKey, WorkloadView};
use spotalis_kube::write;
use spotalis_runtime::Clock;
use spotalis_runtime::apiclient::{ApiError, Call, RateLimit};
use spotalis_runtime::events::EventRecorder;
use spotalis_runtime::leadership::Term;
use spotalis_runtime::workqueue::{Backoff, Job, WorkQueue};
use spotalis_runtime::writer::{Fence, WriteError, Writer};
use tokio::sync::watch;
use tracing::Instrument;

use crate::memory::Memory;
use crate::metrics::BalanceMetrics;
use crate::story;

/// Between a change and the look at it. A rollout changes a workload several times for each pod; a pass over thousands of
/// pods for each of these would cost more than the rollout.
const SETTLING: Duration = Duration::from_millis(25);
/// Patches of slots per second, over all workloads.
const SEATING_RATE: u32 = 10;
/// Slot patches of one pass; the rest follows in the next.
const SEATING_BATCH: usize = 10;
/// Pause after a budget forbade an eviction: its status changes when a pod does, which wakes the workload anyway.
const BLOCKED_PAUSE: Duration = Duration::from_secs(10);
/// Pause after a failed precondition on a pod with a budget, which holds the budget's allowance for two minutes.
const BURNT_BUDGET_PAUSE: Duration = Duration::from_mins(2);
/// Pause after any other refusal, and after an eviction of which the answer was lost.
const REFUSED_PAUSE: Duration = Duration::from_secs(10);

const EVICT: Call = Call { verb: "create", resource: "pods/eviction" };
const SEAT: Call = Call { verb: "patch", resource: "pods" };

/// What of the configuration balance needs; replaced as a whole on reload.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `readOnlyMode`.
    pub read_only: bool,
    /// `webhook.enabled`.
    pub steering: bool,
    /// `controller.resyncPeriod`.
    pub resync: Duration,
    /// `controller.workers`.
    pub workers: usize,
    /// `controller.cooldown`.
    pub cooldown: Duration,
    /// `controller.maxConcurrentDisruptions`.
    pub max_disruptions: usize,
    /// `distribution.scaleDownOrder: pod-deletion-cost`.
    pub seating: bool,
    /// `metrics.perWorkload`.
    pub per_workload_metrics: bool,
}

/// The balance controller. Clones are the same.
#[derive(Clone)]
pub struct Balance {
    index: Arc<Mutex<Index>>,
    writer: Writer,
    events: EventRecorder,
    metrics: BalanceMetrics,
    settings: watch::Receiver<Settings>,
    clock: Clock,
    queue: WorkQueue<WorkloadKey>,
    seating_pace: Arc<RateLimit>,
    memory: Arc<Mutex<Memory>>,
}

impl Balance {
    /// A controller that does nothing until [`Self::lead`].
    pub fn new(
        index: Arc<Mutex<Index>>,
        writer: Writer,
        events: EventRecorder,
        metrics: BalanceMetrics,
        settings: watch::Receiver<Settings>,
        clock: Clock,
    ) -> Self {
        let backoff = Backoff { first: Duration::from_millis(100), limit: Duration::from_secs(30) };
        Self {
            index,
            writer,
            events,
            metrics,
            settings,
            clock,
            queue: WorkQueue::new(backoff),
            seating_pace: Arc::new(RateLimit::new(SEATING_RATE, SEATING_RATE)),
            memory: Arc::default(),
        }
    }

    /// Has the changed workloads looked at, after a moment.
    pub fn notify(&self, changed: BTreeSet<WorkloadKey>) {
        changed.into_iter().for_each(|key| self.queue.add_after(key, SETTLING));
    }

    /// Works until the term ends. What was remembered in an earlier term is forgotten: others have acted since.
    pub async fn lead(&self, term: &Term) {
        *self.memory.lock() = Memory::default();
        let keys: Vec<WorkloadKey> = self.index.lock().workload_keys().cloned().collect();
        keys.into_iter().for_each(|key| self.queue.add(key));
        let workers = self.settings.borrow().workers;
        let work = futures::future::join_all((0..workers).map(|_| self.work()));
        term.ended.run_until_cancelled(work).await;
    }

    async fn work(&self) {
        while let Some(job) = self.queue.get().await {
            let key = job.key().clone();
            let span = tracing::info_span!("reconcile", controller = "balance", workload = %key);
            self.pass(job).instrument(span).await;
        }
    }

    /// One pass over one workload.
    async fn pass(&self, job: Job<WorkloadKey>) {
        let key = job.key().clone();
        let started = self.clock.elapsed();
        let now = self.clock.now();
        let settings = self.settings.borrow().clone();
        let Some(view) = self.index.lock().workload(&key) else {
            self.metrics.hide(&key);
            let waiting = self.memory.lock().forget(&key);
            self.notify(waiting);
            return job.done();
        };
        self.report_problems(&view);
        if let Some(left) = self.memory.lock().held(&key, now) {
            return job.done_until(left);
        }
        let decision = self.decide(&view, &settings, now);
        self.show(&view, &decision, &settings);
        let outcome = if settings.read_only { Ok(()) } else { self.apply(&view, &decision, &settings, now).await };
        self.metrics.reconciled(decision.reason.code(), self.clock.elapsed().saturating_sub(started));
        match outcome {
            Ok(()) => job.done_until(pause(&decision, settings.resync, now)),
            Err(Unfinished::Failed) => {
                job.retry();
            }
            Err(Unfinished::More) => job.done_until(Duration::from_secs(1)),
        }
    }

    fn decide(&self, view: &WorkloadView, settings: &Settings, now: Timestamp) -> Decision {
        let key = &view.key;
        let (circumstances, waiting) = {
            let mut memory = self.memory.lock();
            let waiting = memory.settle(key, &view.snapshot, now);
            let circumstances = Circumstances {
                fresh: self.index.lock().is_fresh(now),
                awaited: memory.awaits(key, &view.snapshot),
                steering: settings.steering,
                limit_free: memory.limit_free(key, settings.max_disruptions),
                cooldown: settings.cooldown,
                seating: settings.seating,
                probe: memory.probe(key, &view.snapshot),
            };
            (circumstances, waiting)
        };
        self.notify(waiting);
        rebalance::decide(&view.snapshot, &circumstances, |capacity| self.index.lock().room(key, capacity), now)
    }

    /// Shows the counts, and tells the reason if it is news. A move is told when it was made, not when it was decided; in
    /// read-only mode it is never made, and an Event would say that it was.
    fn show(&self, view: &WorkloadView, decision: &Decision, settings: &Settings) {
        let key = &view.key;
        match view.snapshot.opt_in {
            OptIn::Managed if settings.per_workload_metrics => self.metrics.show(key, decision),
            OptIn::Managed | OptIn::Out | OptIn::Half(_) | OptIn::Never(_) => self.metrics.hide(key),
        }
        if matches!(decision.reason, Reason::LimitReached) {
            self.memory.lock().wait_for_limit(key);
        }
        let reason = &decision.reason;
        let is_news = || self.memory.lock().is_news(key, reason.code(), &reason.to_string());
        match &decision.action {
            None if is_news() => self.tell(view, reason),
            Some(_) if settings.read_only && is_news() => {
                tracing::info!(workload = %key, reason = reason.code(), "not done in read-only mode: {reason}");
            }
            None | Some(_) => {}
        }
    }

    fn tell(&self, view: &WorkloadView, reason: &Reason) {
        if let Some(notice) = story::notice(view, reason) {
            tracing::info!(workload = %view.key, reason = reason.code(), "{reason}");
            self.events.publish(notice);
        } else {
            tracing::debug!(workload = %view.key, reason = reason.code(), "{reason}");
        }
    }

    fn report_problems(&self, view: &WorkloadView) {
        if !matches!(view.snapshot.opt_in, OptIn::Managed) {
            return;
        }
        let sentences = view.problems.iter().map(ToString::to_string).collect();
        let new = self.memory.lock().new_problems(&view.key, sentences);
        for problem in view.problems.iter().filter(|problem| new.contains(&problem.to_string())) {
            let reason = problem_reason(problem);
            tracing::warn!(workload = %view.key, reason, "{problem}");
            self.metrics.parse_failed(problem.metric_label());
            self.events.publish(story::problem(view, reason, problem.to_string()));
        }
    }

    async fn apply(
        &self,
        view: &WorkloadView,
        decision: &Decision,
        settings: &Settings,
        now: Timestamp,
    ) -> Result<(), Unfinished> {
        match &decision.action {
            None => Ok(()),
            Some(Action::Evict { pod, uid, probe }) => {
                if !self.memory.lock().begin_disruption(&view.key, settings.max_disruptions, now) {
                    self.memory.lock().wait_for_limit(&view.key);
                    return Ok(());
                }
                let request = write::eviction(&view.key.namespace, pod, uid);
                let answer = self.writer.write(EVICT, Fence::Leader, request).await;
                self.conclude(view, decision, (pod, uid, *probe), answer)
            }
            Some(Action::Seat(seatings)) => self.seat(view, seatings).await,
        }
    }

    /// What the answer to an eviction means.
    fn conclude(
        &self,
        view: &WorkloadView,
        decision: &Decision,
        (pod, uid, probe): (&Arc<str>, &Arc<str>, Option<u32>),
        answer: Result<bytes::Bytes, WriteError>,
    ) -> Result<(), Unfinished> {
        let key = &view.key;
        let now = self.clock.now();
        let budget = budget_of(view, uid);
        let (label, verdict) = match answer {
            Ok(_) => {
                self.memory.lock().evicted(key, uid, probe, now);
                self.tell(view, &decision.reason);
                self.memory.lock().is_news(key, decision.reason.code(), &decision.reason.to_string());
                self.metrics.eviction("evicted");
                return Ok(());
            }
            // It was fenced off before it left.
            Err(WriteError::NotLeading(_)) => ("not_leading", Verdict::Undone(None)),
            Err(WriteError::Api(error)) => (error.as_label(), verdict(error, pod, budget.as_ref())),
        };
        self.metrics.eviction(label);
        match verdict {
            Verdict::Undone(pause) => {
                let waiting = self.memory.lock().end_disruption(key);
                self.notify(waiting);
                self.hold(key, pause, now);
                Ok(())
            }
            Verdict::Blocked(reason, pause) => {
                let waiting = self.memory.lock().end_disruption(key);
                self.notify(waiting);
                self.hold(key, Some(pause), now);
                if self.memory.lock().is_news(key, reason.code(), &reason.to_string()) {
                    self.tell(view, &reason);
                }
                Ok(())
            }
            Verdict::Unknown => {
                // It may have gone through: count it as done, and let the watch say how it was.
                self.memory.lock().evicted(key, uid, probe, now);
                self.hold(key, Some(REFUSED_PAUSE), now);
                self.metrics.failed(label);
                tracing::warn!(workload = %key, pod = %pod, "the answer to an eviction was lost; looking again before acting");
                Ok(())
            }
            Verdict::Failed(error) => {
                let waiting = self.memory.lock().end_disruption(key);
                self.notify(waiting);
                self.metrics.failed(label);
                tracing::error!(workload = %key, pod = %pod, error = %error, "an eviction was refused");
                Err(Unfinished::Failed)
            }
        }
    }

    fn hold(&self, key: &WorkloadKey, pause: Option<Duration>, now: Timestamp) {
        if let Some(until) = pause.and_then(|pause| now.checked_add(pause).ok()) {
            self.memory.lock().hold(key, until);
            self.queue.add_after(key.clone(), Duration::try_from(until.duration_since(now)).unwrap_or_default());
        }
    }

    /// Writes a batch of slots, paced over all workloads.
    async fn seat(&self, view: &WorkloadView, seatings: &[Seating]) -> Result<(), Unfinished> {
        for Seating { pod, uid, slot } in seatings.iter().take(SEATING_BATCH) {
            self.seating_pace.turn().await;
            let request = write::seat(&view.key.namespace, pod, uid, *slot);
            match self.writer.write(SEAT, Fence::Leader, request).await {
                Ok(_) | Err(WriteError::Api(ApiError::NotFound | ApiError::WrongUid | ApiError::Conflict)) => {}
                Err(WriteError::NotLeading(_)) => return Ok(()),
                Err(WriteError::Api(error)) => {
                    self.metrics.failed(error.as_label());
                    tracing::warn!(workload = %view.key, pod = %pod, %error, "a slot could not be written");
                    return Err(Unfinished::Failed);
                }
            }
        }
        Err(Unfinished::More)
    }
}

/// Why a pass is to be repeated soon.
enum Unfinished {
    /// A write failed: with back-off.
    Failed,
    /// There is more of the same.
    More,
}

/// What an answer to an eviction amounts to.
enum Verdict {
    /// Nothing happened, and that is fine.
    Undone(Option<Duration>),
    /// A budget holds it back.
    Blocked(Reason, Duration),
    /// It may have happened.
    Unknown,
    /// It did not happen, and somebody should know.
    Failed(ApiError),
}

fn verdict(error: ApiError, pod: &Arc<str>, budget: Option<&Arc<str>>) -> Verdict {
    let pdb = || budget.cloned().unwrap_or_else(|| "unknown".into());
    match error {
        ApiError::NotFound | ApiError::WrongUid => Verdict::Undone(None),
        ApiError::Conflict | ApiError::AlreadyExists => {
            Verdict::Undone(Some(if budget.is_some() { BURNT_BUDGET_PAUSE } else { REFUSED_PAUSE }))
        }
        ApiError::BudgetExhausted { message: _ } => {
            Verdict::Blocked(Reason::MoveBlockedByPdb { pdb: pdb() }, BLOCKED_PAUSE)
        }
        ApiError::SeveralBudgets => Verdict::Blocked(Reason::SeveralPdbs { pod: pod.clone() }, BURNT_BUDGET_PAUSE),
        ApiError::BudgetBehind { retry_after } | ApiError::Throttled { retry_after } => {
            Verdict::Undone(Some(retry_after))
        }
        error if error.may_have_been_applied() => Verdict::Unknown,
        error => Verdict::Failed(error),
    }
}

fn budget_of(view: &WorkloadView, uid: &Arc<str>) -> Option<Arc<str>> {
    let pod = view.snapshot.pods.iter().find(|pod| pod.uid == *uid)?;
    match &pod.budgets {
        rebalance::Budgets::One { name, allows: _ } => Some(name.clone()),
        rebalance::Budgets::None | rebalance::Budgets::Several => None,
    }
}

const fn problem_reason(problem: &Problem) -> &'static str {
    match problem.fault {
        Fault::Invalid { .. } => "InvalidAnnotation",
        Fault::UnknownKey { .. } | Fault::Misplaced { .. } => "UnknownAnnotation",
    }
}

/// When to look again if nothing happens: when the decision says so, at the latest after the resync period.
fn pause(decision: &Decision, resync: Duration, now: Timestamp) -> Duration {
    let until = |at: Timestamp| Duration::try_from(at.duration_since(now)).unwrap_or_default();
    decision.wake_at.map_or(resync, |at| until(at).min(resync))
}
