//! Balance: keeps each managed workload's replicas split as its policy says.
//!
//! A pass takes the workload's snapshot, asks `rebalance::decide`, shows and tells the answer, and sends at most one
//! eviction or a few slots. Which, and whether, is decided there; here is only what an answer of the API server means for
//! the next pass. Runs on the leader alone, one term at a time.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use spotalis_core::opt_in::OptIn;
use spotalis_core::reason::Reason;
use spotalis_core::rebalance::{self, Action, Circumstances, Decision, Pod, Seating};
use spotalis_kube::index::{Index, WorkloadKey, WorkloadView};
use spotalis_kube::{slim, write};
use spotalis_runtime::apiclient::{ApiError, Call, RateLimit};
use spotalis_runtime::events::EventRecorder;
use spotalis_runtime::leadership::Term;
use spotalis_runtime::workqueue::{Backoff, Job, WorkQueue};
use spotalis_runtime::writer::{Turn, WriteError, Writer};
use spotalis_runtime::{Clock, ServerTime};
use tokio::sync::watch;
use tracing::Instrument;

use crate::memory::{Blocked, DISRUPTION_LIMIT, Memory, Victim};
use crate::metrics::BalanceMetrics;
use crate::{node_hours, story};

/// Between a change and the look at it. A rollout changes a workload several times for each pod; a pass over thousands of
/// pods for each of these would cost more than the rollout.
const SETTLING: Duration = Duration::from_millis(25);
/// Between a change of nodes and the look at those who wait for one: nodes come with several changes, and all at once.
const ROOM_SETTLING: Duration = Duration::from_secs(1);
/// Slots written per second, over all workloads.
const SEATING_RATE: u32 = 10;
/// Until the next look at a workload that has more slots to be written.
const SEATING_PAUSE: Duration = Duration::from_millis(500);
/// How long a pod that a budget held back is no candidate: the budget's status changes when a pod does.
const BLOCKED_PAUSE: Duration = Duration::from_secs(10);
/// Pause after a failed precondition on a pod with a budget, which holds the budget's allowance for two minutes.
const BURNT_BUDGET_PAUSE: Duration = Duration::from_mins(2);
/// Pause after any other refusal, and after an eviction of which the answer was lost.
const REFUSED_PAUSE: Duration = Duration::from_secs(10);

const EVICT: Call = Call { verb: "create", resource: "pods/eviction" };
const SEAT: Call = Call { verb: "patch", resource: "pods" };
const LOOK: Call = Call { verb: "get", resource: "pods" };

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
    server_time: ServerTime,
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
        (clock, server_time): (Clock, ServerTime),
    ) -> Self {
        let backoff = Backoff { first: Duration::from_millis(100), limit: Duration::from_secs(30) };
        Self {
            index,
            writer,
            events,
            metrics,
            settings,
            clock,
            server_time,
            queue: WorkQueue::new(backoff),
            seating_pace: Arc::new(RateLimit::new(SEATING_RATE, SEATING_RATE)),
            memory: Arc::default(),
        }
    }

    /// Has the changed workloads looked at, after a moment.
    pub fn notify(&self, changed: BTreeSet<WorkloadKey>) {
        changed.into_iter().for_each(|key| self.queue.add_after(key, SETTLING));
    }

    /// Has every workload looked at: what holds for all of them changed.
    pub fn notify_all(&self) {
        self.notify(self.index.lock().workload_keys().cloned().collect());
    }

    /// Nodes, or who provides them, changed: has those looked at who wait for that.
    pub fn room_changed(&self) {
        let waiting = self.memory.lock().take_waiting_for_room();
        waiting.into_iter().for_each(|key| self.queue.add_after(key, ROOM_SETTLING));
    }

    /// Works until the term ends. What was remembered in an earlier term is forgotten: others have acted since.
    pub async fn lead(&self, term: &Term) {
        *self.memory.lock() = Memory::of_term(self.server_time.at(self.clock.steady()));
        let keys: Vec<WorkloadKey> = self.index.lock().workload_keys().cloned().collect();
        keys.into_iter().for_each(|key| self.queue.add(key));
        let workers = self.settings.borrow().workers;
        let work = futures::future::join_all((0..workers).map(|_| self.work()));
        let counted = node_hours::count(&self.index, &self.metrics, self.clock);
        term.ended.run_until_cancelled(futures::future::join(work, counted)).await;
        // The next leader shows them.
        self.metrics.hide_all();
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
        let Some(Pass { result, after }) = self.reconcile(&key).await else {
            self.metrics.hide(&key);
            self.memory.lock().forget(&key);
            self.pass_on();
            return job.done();
        };
        self.memory.lock().looked_at(&key);
        self.pass_on();
        self.metrics.reconciled(result, self.clock.elapsed().saturating_sub(started));
        match after {
            After::Pause(pause) => job.done_until(pause),
            After::Failure => {
                job.retry();
            }
        }
    }

    /// What a pass consists of; `None` if the workload is gone.
    async fn reconcile(&self, key: &WorkloadKey) -> Option<Pass> {
        let mut settings = self.settings.borrow().clone();
        let mut sight = self.look(key, &settings)?;
        self.report_problems(&sight.view);
        self.show(&sight, &settings);
        let held = self.memory.lock().held(key, self.clock.elapsed());
        if let Some(left) = held {
            return Some(sight.pass_after(left.min(settings.resync)));
        }
        let doubtful = self.memory.lock().doubtful(key);
        if let Some(victim) = doubtful {
            self.dispel(key, &victim).await;
            (settings, sight) = self.look_again(key)?;
        }
        match sight.due(&settings) {
            None => return Some(sight.rest(&settings)),
            Some(Action::Seat(seatings)) => return Some(self.seat(&sight, seatings, &settings).await),
            Some(Action::Evict { pod: _, uid: _, probe: _ }) => {}
        }
        let turn = if let Some(turn) = self.writer.try_turn() {
            turn
        } else {
            let turn = self.writer.turn().await;
            (settings, sight) = self.look_again(key)?;
            turn
        };
        match sight.due(&settings) {
            None => Some(sight.rest(&settings)),
            Some(Action::Seat(_)) => Some(sight.pass_after(SETTLING)),
            Some(Action::Evict { pod, uid, probe }) => {
                let victim = sight.victim(pod.clone(), uid.clone());
                Some(self.evict(&sight, victim, probe.unwrap_or(0), turn, &settings).await)
            }
        }
    }

    /// After a wait: what was decided before is old, and what was configured may be.
    fn look_again(&self, key: &WorkloadKey) -> Option<(Settings, Sight)> {
        let settings = self.settings.borrow().clone();
        let sight = self.look(key, &settings)?;
        self.show(&sight, &settings);
        Some((settings, sight))
    }

    /// The workload as it is now, and what is to be done about it.
    fn look(&self, key: &WorkloadKey, settings: &Settings) -> Option<Sight> {
        let (now, elapsed) = (self.clock.steady(), self.clock.elapsed());
        // What is known of freshness is ours; the times on objects are not.
        let server_now = self.server_time.at(now);
        let index = self.index.lock();
        let mut view = index.workload_to_decide(key)?;
        let mut memory = self.memory.lock();
        memory.settle(key, &view.snapshot, elapsed);
        let corrected_for = memory.correct(key, &mut view.snapshot, elapsed);
        let lapse = corrected_for.into_iter().chain(memory.unsettled_for(key, elapsed)).min();
        let circumstances = Circumstances {
            fresh: index.is_whole(now),
            awaited: memory.awaits(key, &view.snapshot, elapsed),
            steering: settings.steering,
            limit_free: memory.limit_free(key, settings.max_disruptions, elapsed),
            cooldown: settings.cooldown,
            term_began: memory.term_began,
            seating: settings.seating,
            probe: memory.probe(key, &view.snapshot),
        };
        let room = |capacity| index.room(key, capacity, memory.outlook(key, capacity, elapsed), now);
        let decision = rebalance::decide(&view.snapshot, &circumstances, room, server_now);
        match decision.reason {
            Reason::LimitReached => memory.wait_for_limit(key),
            Reason::NoCapacity { capacity: _ } | Reason::CapacityUnseen { capacity: _ } => memory.wait_for_room(key),
            _ => {}
        }
        Some(Sight { view, decision, at: server_now, lapse })
    }

    /// Wakes who has waited longest for a place under the limit, if there is one. A workload that is woken and has no use
    /// for it any more passes it on in turn.
    fn pass_on(&self) {
        let limit = self.settings.borrow().max_disruptions;
        let next = self.memory.lock().next_waiting(limit, self.clock.elapsed());
        self.notify(next.into_iter().collect());
    }

    /// Shows the counts, and tells the reason if it is news. A move is told when it was made, not when it was decided; in
    /// read-only mode it is never made, and an Event would say that it was.
    fn show(&self, sight: &Sight, settings: &Settings) {
        let Sight { view, decision, at: _, lapse: _ } = sight;
        let key = &view.key;
        match view.snapshot.opt_in {
            OptIn::Managed if settings.per_workload_metrics => self.metrics.show(key, decision),
            OptIn::Managed | OptIn::Out | OptIn::Half(_) | OptIn::Never(_) => self.metrics.hide(key),
        }
        let reason = &decision.reason;
        match &decision.action {
            None if self.is_news(key, reason) => self.tell(view, reason),
            Some(_) if settings.read_only && self.is_news(key, reason) => {
                tracing::info!(workload = %key, reason = reason.code(), "not done in read-only mode: {reason}");
            }
            None | Some(_) => {}
        }
    }

    fn is_news(&self, key: &WorkloadKey, reason: &Reason) -> bool {
        self.memory.lock().is_news(key, reason.code(), &reason.to_string())
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
            let reason = Reason::of_problem(problem);
            tracing::warn!(workload = %view.key, reason = reason.code(), "{problem}");
            self.metrics.parse_failed(problem.metric_label());
            self.events.publish(story::problem(view, &reason, problem));
        }
    }

    /// Sends one eviction, and draws the consequences of the answer.
    async fn evict(&self, sight: &Sight, victim: Victim, failures: u32, turn: Turn, settings: &Settings) -> Pass {
        let Sight { view, decision, at: _, lapse: _ } = sight;
        let key = &view.key;
        let begun =
            self.memory.lock().begin_disruption(key, victim.clone(), settings.max_disruptions, self.clock.elapsed());
        if !begun {
            self.memory.lock().wait_for_limit(key);
            return Pass { result: Reason::LimitReached.code(), after: After::Pause(settings.resync) };
        }
        let request = write::eviction(&key.namespace, &victim.name, &victim.uid);
        // The replacement may be there before the answer is.
        let sent = self.server_time.at(self.clock.steady());
        let answer = self.writer.write(turn, EVICT, request).await;
        let error = match answer {
            Ok(_) => {
                self.metrics.eviction(decision.reason.code(), "evicted");
                self.memory.lock().evicted(key, failures, sent, true);
                self.tell(view, &decision.reason);
                self.is_news(key, &decision.reason);
                return sight.pass_after(settings.resync.min(DISRUPTION_LIMIT));
            }
            // It was fenced off before it left.
            Err(WriteError::NotLeading(_)) => {
                self.memory.lock().end_disruption(key);
                return sight.pass_after(settings.resync);
            }
            Err(WriteError::Api(error)) => error,
        };
        self.metrics.eviction(decision.reason.code(), error.as_label());
        self.conclude(sight, &victim, failures, sent, &error)
    }

    /// What it means that an eviction was not simply accepted.
    fn conclude(&self, sight: &Sight, victim: &Victim, failures: u32, sent: Timestamp, error: &ApiError) -> Pass {
        let key = &sight.view.key;
        let budget = sight.budget_of(&victim.uid);
        match verdict(error, budget.is_some()) {
            Verdict::Undone(pause) => {
                self.memory.lock().end_disruption(key);
                self.hold(key, pause);
                Pass { result: error.as_label(), after: After::Pause(pause) }
            }
            Verdict::Gone(pause) => {
                self.hold(key, pause);
                self.await_view(sight, error)
            }
            // A budget is looked at before the UID: the pod may be gone.
            Verdict::Blocked(_) if !self.index.lock().is_active(&key.namespace, &victim.name, &victim.uid) => {
                self.await_view(sight, error)
            }
            Verdict::Blocked(several) => {
                let named = || budget.or_else(|| named_budget(error)).unwrap_or_else(|| "unknown".into());
                let blocked = if several { Blocked::BySeveral } else { Blocked::By(named()) };
                let mut memory = self.memory.lock();
                memory.end_disruption(key);
                memory.block(key, &victim.uid, blocked, self.clock.elapsed() + BLOCKED_PAUSE);
                // Another pod may go in its place; if none may, that is what the next pass tells.
                Pass { result: error.as_label(), after: After::Pause(SETTLING) }
            }
            Verdict::Unknown => {
                self.memory.lock().evicted(key, failures, sent, false);
                self.hold(key, REFUSED_PAUSE);
                self.metrics.failed(error.as_label());
                tracing::warn!(workload = %key, pod = %victim.name, %error, "the answer to an eviction was lost");
                Pass { result: error.as_label(), after: After::Pause(REFUSED_PAUSE) }
            }
            Verdict::Refused => {
                let pause = {
                    let mut memory = self.memory.lock();
                    memory.end_disruption(key);
                    memory.refused(key)
                };
                self.hold(key, pause);
                self.metrics.failed(error.as_label());
                let reason = Reason::EvictionRefused { pod: victim.name.clone() };
                tracing::error!(workload = %key, pod = %victim.name, %error, reason = reason.code(), "an eviction was refused");
                if self.is_news(key, &reason) {
                    self.tell(&sight.view, &reason);
                }
                Pass { result: reason.code(), after: After::Pause(pause) }
            }
        }
    }

    /// The pod went before it could be evicted, and the view does not show that yet: nothing that it shows is true now.
    fn await_view(&self, sight: &Sight, error: &ApiError) -> Pass {
        self.memory.lock().found_gone(&sight.view.key, self.clock.elapsed());
        Pass { result: error.as_label(), after: After::Pause(self.settings.borrow().resync) }
    }

    fn hold(&self, key: &WorkloadKey, pause: Duration) {
        self.memory.lock().hold(key, self.clock.elapsed() + pause);
    }

    /// Finds out whether a pod was evicted of which the answer was lost.
    async fn dispel(&self, key: &WorkloadKey, victim: &Victim) {
        let request = write::get_pod(&key.namespace, &victim.name);
        let answer = self.writer.read(self.writer.turn().await, LOOK, request).await;
        let unreadable = |source| ApiError::Unreadable { call: LOOK, source };
        match answer.and_then(|body| serde_json::from_slice::<slim::Pod>(&body).map_err(unreadable)) {
            Ok(pod) if *pod.metadata.uid == *victim.uid && pod.metadata.deletion_timestamp.is_none() => {
                self.memory.lock().retract(key);
            }
            Ok(_) | Err(ApiError::NotFound) => {
                self.memory.lock().confirm(key);
                tracing::info!(workload = %key, pod = %victim.name, "the eviction of which the answer was lost had gone through");
            }
            Err(error) => {
                self.hold(key, REFUSED_PAUSE);
                tracing::warn!(workload = %key, pod = %victim.name, %error, "whether the pod was evicted cannot be found out");
            }
        }
    }

    /// Writes slots as far as their own pace and that of all requests allow now, and never waits: others have more urgent
    /// work.
    async fn seat(&self, sight: &Sight, seatings: &[Seating], settings: &Settings) -> Pass {
        for seating in seatings {
            // What was decided is old as soon as an answer was waited for.
            let is_due = |(settings, sight): (Settings, Sight)| match sight.due(&settings) {
                Some(Action::Seat(due)) => due.contains(seating),
                Some(Action::Evict { pod: _, uid: _, probe: _ }) | None => false,
            };
            if !self.look_again(&sight.view.key).is_some_and(is_due) {
                break;
            }
            // Asked first: a common turn that is taken and not used is one less for an eviction.
            if !self.seating_pace.try_turn() {
                break;
            }
            let Some(turn) = self.writer.try_turn() else { break };
            match self.seat_one(sight, seating, turn).await {
                Ok(()) | Err(WriteError::Api(ApiError::NotFound | ApiError::WrongUid | ApiError::Conflict)) => {}
                Err(WriteError::NotLeading(_)) => return sight.pass_after(settings.resync),
                Err(WriteError::Api(error)) => {
                    self.metrics.failed(error.as_label());
                    tracing::warn!(workload = %sight.view.key, pod = %seating.pod, %error, "a slot could not be written");
                    return Pass { result: error.as_label(), after: After::Failure };
                }
            }
        }
        sight.pass_after(SEATING_PAUSE)
    }

    /// Writes one slot, if the pod is still as it was when that was decided.
    async fn seat_one(&self, sight: &Sight, seating: &Seating, turn: Turn) -> Result<(), WriteError> {
        let Seating { pod, uid, slot } = seating;
        let namespace = &sight.view.key.namespace;
        let version = sight.pod(uid).and_then(|decided| self.index.lock().version_of(namespace, decided));
        let Some(version) = version else { return Ok(()) };
        self.writer.write(turn, SEAT, write::seat(namespace, pod, uid, version, *slot)).await?;
        Ok(())
    }
}

/// A workload, and what was decided about it at that moment.
struct Sight {
    view: WorkloadView,
    decision: Decision,
    at: Timestamp,
    /// When something that is remembered of it will be over, and the decision may be another.
    lapse: Option<Duration>,
}

impl Sight {
    fn pod(&self, uid: &Arc<str>) -> Option<&Pod> {
        self.view.snapshot.pods.iter().find(|pod| pod.uid == *uid)
    }

    fn victim(&self, name: Arc<str>, uid: Arc<str>) -> Victim {
        let from =
            self.pod(&uid).and_then(|pod| pod.capacity).expect("a victim runs on the type of which there are too many");
        Victim { name, uid, to: from.other() }
    }

    fn budget_of(&self, uid: &Arc<str>) -> Option<Arc<str>> {
        match &self.pod(uid)?.budgets {
            rebalance::Budgets::One { name, allows: _ } => Some(name.clone()),
            rebalance::Budgets::None | rebalance::Budgets::Several => None,
        }
    }

    /// What is to be done, if anything may be.
    fn due(&self, settings: &Settings) -> Option<&Action> {
        self.decision.action.as_ref().filter(|_| !settings.read_only)
    }

    /// Nothing is to be done now.
    fn rest(&self, settings: &Settings) -> Pass {
        self.pass_after(self.pause(settings.resync))
    }

    fn pass_after(&self, pause: Duration) -> Pass {
        Pass { result: self.decision.reason.code(), after: After::Pause(pause) }
    }

    /// When to look again if nothing happens: when the decision says so, at the latest after the resync period.
    fn pause(&self, resync: Duration) -> Duration {
        let until = |at: Timestamp| Duration::try_from(at.duration_since(self.at)).unwrap_or_default();
        let wakes = self.decision.wake_at.map(until).into_iter().chain(self.lapse);
        wakes.min().map_or(resync, |wake| wake.min(resync))
    }
}

/// How a pass ended.
struct Pass {
    /// The metric label.
    result: &'static str,
    after: After,
}

/// When the next one is due if nothing happens before.
enum After {
    Pause(Duration),
    /// After a back-off.
    Failure,
}

/// What an answer to an eviction amounts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Nothing happened, and that is fine; after this long it may be different.
    Undone(Duration),
    /// The pod was gone already; this long nothing else may be asked for.
    Gone(Duration),
    /// A budget holds it back, or several of them do.
    Blocked(bool),
    /// It may have happened.
    Unknown,
    /// It did not happen, and somebody should know.
    Refused,
}

fn verdict(error: &ApiError, has_budget: bool) -> Verdict {
    match error {
        ApiError::NotFound => Verdict::Gone(Duration::ZERO),
        ApiError::WrongUid => Verdict::Gone(if has_budget { BURNT_BUDGET_PAUSE } else { Duration::ZERO }),
        ApiError::Conflict | ApiError::AlreadyExists if has_budget => Verdict::Undone(BURNT_BUDGET_PAUSE),
        ApiError::Conflict | ApiError::AlreadyExists => Verdict::Undone(REFUSED_PAUSE),
        ApiError::BudgetExhausted { message: _ } => Verdict::Blocked(false),
        ApiError::SeveralBudgets => Verdict::Blocked(true),
        ApiError::BudgetBehind { retry_after } | ApiError::Throttled { retry_after } => Verdict::Undone(*retry_after),
        error if error.may_have_been_applied() => Verdict::Unknown,
        _ => Verdict::Refused,
    }
}

/// The budget in the API server's words: "The disruption budget NAME needs 3 healthy pods and has 3 currently".
fn named_budget(error: &ApiError) -> Option<Arc<str>> {
    let ApiError::BudgetExhausted { message } = error else { return None };
    let (_, rest) = message.split_once("disruption budget ")?;
    rest.split(' ').next().filter(|name| !name.is_empty()).map(Into::into)
}
