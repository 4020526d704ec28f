//! Decides when this replica may lead: when to read the Lease, when to take, renew or release it, and until when a write
//! may leave.
//!
//! Time is a `Duration` since the start of the process, read from a clock that never jumps. The times that another replica
//! wrote into the Lease are not looked at: a Lease is expired when *we* have seen the same record for its whole duration.
//! Nothing is fetched and nothing is written here; the shell does what [`Elector::next`] says and hands back the reply.
//!
//! Why there are never two leaders, with clocks of the same rate: a leader may write for `renew_deadline` counted from
//! before its last acknowledged write was sent. Everybody else saw that write later than it was sent, waits at least
//! `lease_duration` from then, and takes the Lease only in the very version it watched. Since `lease_duration` is longer
//! than `renew_deadline`, the old leader has fallen silent before the new one speaks. The quotient of the two is also how
//! much faster one clock may run than another.

use std::time::Duration;

/// The three durations of an election, checked against each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    lease_duration: Duration,
    renew_deadline: Duration,
    retry_period: Duration,
}

/// Durations that cannot keep two leaders apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimingError {
    /// The leader would write on after others think it gone.
    #[error("the lease duration ({lease:?}) must be longer than the renew deadline ({renew:?})")]
    LeaseTooShort {
        /// What was asked for as lease duration.
        lease: Duration,
        /// What was asked for as renew deadline.
        renew: Duration,
    },
    /// The leader would not get a second try before it has to stop.
    #[error("the renew deadline ({renew:?}) must be longer than the retry period ({retry:?})")]
    RenewTooShort {
        /// What was asked for as renew deadline.
        renew: Duration,
        /// What was asked for as retry period.
        retry: Duration,
    },
    /// Tries without a pause.
    #[error("the retry period must be longer than zero")]
    NoRetryPeriod,
}

impl Timing {
    /// `lease_duration > renew_deadline > retry_period > 0`.
    pub fn new(
        lease_duration: Duration,
        renew_deadline: Duration,
        retry_period: Duration,
    ) -> Result<Self, TimingError> {
        if retry_period.is_zero() {
            return Err(TimingError::NoRetryPeriod);
        }
        if renew_deadline <= retry_period {
            return Err(TimingError::RenewTooShort { renew: renew_deadline, retry: retry_period });
        }
        if lease_duration <= renew_deadline {
            return Err(TimingError::LeaseTooShort { lease: lease_duration, renew: renew_deadline });
        }
        Ok(Self { lease_duration, renew_deadline, retry_period })
    }

    /// How long a record must be seen unchanged before somebody else may take the Lease.
    pub const fn lease_duration(&self) -> Duration {
        self.lease_duration
    }

    /// How long after the sending of its last acknowledged write a leader may write.
    pub const fn renew_deadline(&self) -> Duration {
        self.renew_deadline
    }

    /// The pace of renewals, and of tries after a failure.
    pub const fn retry_period(&self) -> Duration {
        self.retry_period
    }

    /// What to write as `leaseDurationSeconds`: rounded up, because others must never wait for less.
    pub fn lease_duration_seconds(&self) -> i32 {
        let seconds = self.lease_duration.as_secs() + u64::from(self.lease_duration.subsec_nanos() > 0);
        i32::try_from(seconds).unwrap_or(i32::MAX)
    }

    /// No call may hang for longer, so that a leader always gets a second try.
    fn call_timeout(&self) -> Duration {
        self.renew_deadline / 2
    }

    /// A follower that has heard nothing for so long looks for itself. A little more than the pace of renewals, so that a
    /// follower with a working watch never needs to.
    fn poll_period(&self) -> Duration {
        self.retry_period + self.retry_period / 4
    }
}

impl Default for Timing {
    /// 15 s, 10 s, 2 s: what other Kubernetes controllers use.
    fn default() -> Self {
        Self {
            lease_duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
        }
    }
}

/// The parts of a Lease that decide anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// `holderIdentity`; `None` when empty, which is a released Lease.
    pub holder: Option<Box<str>>,
    /// `leaseTransitions`.
    pub transitions: u32,
    /// `leaseDurationSeconds`; `None` when absent or not positive, and then our own duration counts.
    pub lease_duration: Option<Duration>,
    /// `metadata.resourceVersion`, compared for equality only.
    pub version: Box<str>,
}

/// What to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Read the Lease and hand the outcome to [`Elector::answered`].
    Read {
        /// Give the call up after so long.
        timeout: Duration,
    },
    /// Write the Lease and hand the outcome to [`Elector::answered`].
    Write {
        /// What to write.
        write: Write,
        /// Give the call up after so long.
        timeout: Duration,
    },
    /// Nothing to do before `until`, unless something is observed first.
    Wait {
        /// Time since the start of the process.
        until: Duration,
    },
    /// Leadership is lost: cancel everything that was started under it.
    StepDown,
    /// After [`Elector::resign`]: nothing is left to do, ever.
    Done,
}

/// A write to the Lease; all but the first must fail when the version is no longer `version`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// There is no Lease: create one, held by us.
    Create,
    /// Become the holder.
    Take {
        /// The version that was watched until it expired or was released.
        version: Box<str>,
        /// The new count.
        transitions: u32,
    },
    /// Stay the holder.
    Renew {
        /// The version of our last write.
        version: Box<str>,
        /// The unchanged count.
        transitions: u32,
    },
    /// Empty the holder, so that somebody else need not wait.
    Release {
        /// The version of our last write.
        version: Box<str>,
        /// The unchanged count.
        transitions: u32,
    },
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The Lease as it was read, or as it is after our write.
    Record(Record),
    /// There is none (404).
    Absent,
    /// Somebody else wrote first (409).
    Conflict,
    /// Anything else. A write may have been applied or not.
    Unknown,
}

/// What we know of the Lease.
#[derive(Clone, Debug)]
enum View {
    Unread,
    /// Not there. Taken as held until `free_at` if somebody else was seen to hold it: deleting a Lease silences nobody.
    Absent {
        free_at: Duration,
    },
    Seen {
        record: Record,
        /// When this version was first seen.
        since: Duration,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Following,
    Leading {
        /// When the last acknowledged write was sent.
        sent: Duration,
    },
    Resigned {
        give_up_at: Duration,
    },
}

#[derive(Clone, Copy, Debug)]
struct Call {
    sent: Duration,
    kind: CallKind,
}

#[derive(Clone, Copy, Debug)]
enum CallKind {
    Read,
    Claim,
    Release,
}

/// One replica's part in the election.
///
/// `identity` must differ between processes, or a restarted process must be sure that its predecessor has ended: whoever
/// finds its own identity in the Lease renews it without waiting.
#[derive(Clone, Debug)]
pub struct Elector {
    identity: Box<str>,
    timing: Timing,
    role: Role,
    view: View,
    /// The view may be out of date: read before the next write.
    stale: bool,
    /// When anything was last heard of the Lease.
    heard: Duration,
    /// No call before this.
    not_before: Duration,
    call: Option<Call>,
}

impl Elector {
    /// A follower that has seen nothing yet.
    pub fn new(identity: impl Into<Box<str>>, timing: Timing) -> Self {
        Self {
            identity: identity.into(),
            timing,
            role: Role::Following,
            view: View::Unread,
            stale: false,
            heard: Duration::ZERO,
            not_before: Duration::ZERO,
            call: None,
        }
    }

    /// The name under which this replica holds the Lease.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// The durations in force.
    pub fn timing(&self) -> Timing {
        self.timing
    }

    /// The Lease as last seen.
    pub fn record(&self) -> Option<&Record> {
        match &self.view {
            View::Seen { record, .. } => Some(record),
            View::Unread | View::Absent { .. } => None,
        }
    }

    /// Whether a write may leave at `now`. To be asked last, right before the send.
    pub fn may_write(&self, now: Duration) -> bool {
        !self.remaining(now).is_zero()
    }

    /// For how much longer writes may leave; zero when they may not.
    pub fn remaining(&self, now: Duration) -> Duration {
        match self.role {
            Role::Leading { sent } => (sent + self.timing.renew_deadline).saturating_sub(now),
            Role::Following | Role::Resigned { .. } => Duration::ZERO,
        }
    }

    /// What a watch showed, at `now`; `None` when the Lease was deleted.
    ///
    /// A watch may lag behind our own writes. A leader therefore only takes it as a reason to look.
    pub fn observed(&mut self, record: Option<Record>, now: Duration) {
        let known = match (&self.view, &record) {
            (View::Seen { record: known, .. }, Some(record)) => known.version == record.version,
            _ => false,
        };
        match self.role {
            Role::Leading { .. } | Role::Resigned { .. } => self.stale |= !known,
            Role::Following => self.see(record, now),
        }
    }

    /// What to do at `now`. After `Read` and `Write`, [`Self::answered`] comes before the next call of this.
    pub fn next(&mut self, now: Duration) -> Step {
        debug_assert!(self.call.is_none(), "the reply of the last call has not been handed in");
        match self.role {
            Role::Leading { sent } if now >= sent + self.timing.renew_deadline || !self.is_ours() => {
                self.role = Role::Following;
                Step::StepDown
            }
            Role::Leading { sent } => self.lead(sent, now),
            Role::Following => self.follow(now),
            Role::Resigned { give_up_at } => self.leave(give_up_at, now),
        }
    }

    /// The outcome of the call that [`Self::next`] asked for, received at `now`.
    pub fn answered(&mut self, reply: Reply, now: Duration) {
        let Call { sent, kind } = self.call.take().expect("a reply belongs to a call");
        match reply {
            Reply::Record(record) => {
                self.see(Some(record), now);
                self.stale = false;
                self.acknowledged(kind, sent, now);
            }
            Reply::Absent => {
                self.see(None, now);
                self.stale = false;
            }
            Reply::Conflict => self.stale = true,
            Reply::Unknown => {
                self.stale = true;
                self.not_before = now.max(sent + self.timing.retry_period);
            }
        }
    }

    /// Stops leading for good. Writes may not leave from now on; once those that have left are over, [`Self::next`] says
    /// how to release the Lease, and [`Step::Done`] when that has ended or is not worth more time.
    pub fn resign(&mut self, now: Duration) {
        let give_up_at = now + self.remaining(now).max(self.timing.retry_period);
        self.role = Role::Resigned { give_up_at };
    }

    fn acknowledged(&mut self, kind: CallKind, sent: Duration, now: Duration) {
        match (kind, self.role) {
            (CallKind::Claim, Role::Following | Role::Leading { .. }) => {
                // A reply that took longer than the deadline leaves nothing to lead with.
                if now < sent + self.timing.renew_deadline && self.is_ours() {
                    self.role = Role::Leading { sent };
                }
            }
            (CallKind::Claim, Role::Resigned { .. }) | (CallKind::Read | CallKind::Release, _) => {}
        }
    }

    fn see(&mut self, record: Option<Record>, now: Duration) {
        self.heard = now;
        match (record, &self.view) {
            (Some(record), View::Seen { record: known, .. }) if known.version == record.version => {}
            (Some(record), _) => self.view = View::Seen { record, since: now },
            (None, View::Absent { .. }) => {}
            (None, View::Unread) => self.view = View::Absent { free_at: now },
            (None, View::Seen { record, since }) => {
                let free_at = if self.is_free(record) { now } else { self.expiry(record, *since) };
                self.view = View::Absent { free_at };
            }
        }
    }

    fn is_ours(&self) -> bool {
        self.record().is_some_and(|record| record.holder.as_deref() == Some(&*self.identity))
    }

    /// Nobody else can be leading on the strength of this record.
    fn is_free(&self, record: &Record) -> bool {
        match record.holder.as_deref() {
            None => true,
            Some(holder) => holder == &*self.identity,
        }
    }

    fn expiry(&self, record: &Record, since: Duration) -> Duration {
        since.saturating_add(record.lease_duration.unwrap_or(self.timing.lease_duration))
    }

    fn lead(&mut self, sent: Duration, now: Duration) -> Step {
        let deadline = sent + self.timing.renew_deadline;
        if now < self.not_before {
            return Step::Wait { until: self.not_before.min(deadline) };
        }
        if self.stale {
            return self.read(now);
        }
        let renew_at = sent + self.timing.retry_period;
        if now < renew_at {
            return Step::Wait { until: renew_at.min(deadline) };
        }
        self.write_if_seen(now, |record| Write::Renew {
            version: record.version.clone(),
            transitions: record.transitions,
        })
    }

    fn follow(&mut self, now: Duration) -> Step {
        if now < self.not_before {
            return Step::Wait { until: self.not_before };
        }
        if self.stale {
            return self.read(now);
        }
        let free_at = match &self.view {
            View::Unread => return self.read(now),
            View::Absent { free_at } => *free_at,
            View::Seen { record, .. } if self.is_free(record) => now,
            View::Seen { record, since } => self.expiry(record, *since),
        };
        if now >= free_at {
            return self.claim(now);
        }
        let poll_at = self.heard + self.timing.poll_period();
        if now >= poll_at {
            return self.read(now);
        }
        Step::Wait { until: free_at.min(poll_at) }
    }

    fn leave(&mut self, give_up_at: Duration, now: Duration) -> Step {
        if now >= give_up_at {
            return Step::Done;
        }
        if now < self.not_before {
            return Step::Wait { until: self.not_before.min(give_up_at) };
        }
        if self.stale {
            return self.read(now);
        }
        if !self.is_ours() {
            return Step::Done;
        }
        self.write_if_seen(now, |record| Write::Release {
            version: record.version.clone(),
            transitions: record.transitions,
        })
    }

    fn claim(&mut self, now: Duration) -> Step {
        if matches!(self.view, View::Absent { .. }) {
            return self.write(Write::Create, now);
        }
        let ours = self.is_ours();
        self.write_if_seen(now, |record| {
            let version = record.version.clone();
            // Our own name without leadership: a write whose reply was lost, or came too late.
            if ours {
                Write::Renew { version, transitions: record.transitions }
            } else {
                Write::Take { version, transitions: record.transitions.saturating_add(1) }
            }
        })
    }

    fn write_if_seen(&mut self, now: Duration, write: impl FnOnce(&Record) -> Write) -> Step {
        match self.record().map(write) {
            Some(write) => self.write(write, now),
            None => self.read(now),
        }
    }

    fn write(&mut self, write: Write, now: Duration) -> Step {
        let kind = match &write {
            Write::Create | Write::Take { .. } | Write::Renew { .. } => CallKind::Claim,
            Write::Release { .. } => CallKind::Release,
        };
        self.call = Some(Call { sent: now, kind });
        Step::Write { write, timeout: self.timeout(now) }
    }

    fn read(&mut self, now: Duration) -> Step {
        self.call = Some(Call { sent: now, kind: CallKind::Read });
        Step::Read { timeout: self.timeout(now) }
    }

    /// Never beyond the deadline of the role, so that the step due then is not late.
    fn timeout(&self, now: Duration) -> Duration {
        let usual = self.timing.call_timeout();
        match self.role {
            Role::Following => usual,
            Role::Leading { .. } => usual.min(self.remaining(now)),
            Role::Resigned { give_up_at } => usual.min(give_up_at.saturating_sub(now)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn record(holder: &str, version: u64) -> Record {
        let holder = if holder.is_empty() { None } else { Some(holder.into()) };
        Record { holder, transitions: 3, lease_duration: Some(s(15)), version: version.to_string().into() }
    }

    fn elector() -> Elector {
        Elector::new("a", Timing::default())
    }

    /// Reads `record` at `now`.
    fn seen(record: Record, now: Duration) -> Elector {
        let mut elector = elector();
        assert!(matches!(elector.next(now), Step::Read { .. }));
        elector.answered(Reply::Record(record), now);
        elector
    }

    /// Leads on version 2 by a write sent at `now`.
    fn leading(now: Duration) -> Elector {
        let mut elector = seen(record("", 1), now);
        assert_eq!(written(&mut elector, now), Write::Take { version: "1".into(), transitions: 4 });
        elector.answered(Reply::Record(record("a", 2)), now);
        elector
    }

    #[track_caller]
    fn written(elector: &mut Elector, now: Duration) -> Write {
        match elector.next(now) {
            Step::Write { write, .. } => write,
            step => panic!("expected a write, got {step:?}"),
        }
    }

    #[test]
    fn durations_must_keep_their_order() {
        assert_eq!(Timing::new(s(15), s(10), s(2)), Ok(Timing::default()));
        assert_eq!(Timing::new(s(10), s(10), s(2)), Err(TimingError::LeaseTooShort { lease: s(10), renew: s(10) }));
        assert_eq!(Timing::new(s(15), s(2), s(2)), Err(TimingError::RenewTooShort { renew: s(2), retry: s(2) }));
        assert_eq!(Timing::new(s(15), s(10), s(0)), Err(TimingError::NoRetryPeriod));
        assert_eq!(Timing::new(s(3) + MS, s(2), s(1)).map(|t| t.lease_duration_seconds()), Ok(4));
    }

    #[test]
    fn a_missing_lease_is_created() {
        let mut elector = elector();
        assert_eq!(elector.next(s(1)), Step::Read { timeout: s(5) });
        elector.answered(Reply::Absent, s(1));
        assert_eq!(written(&mut elector, s(1)), Write::Create);
        elector.answered(Reply::Record(record("a", 1)), s(2));
        assert!(elector.may_write(s(2)));
    }

    #[test]
    fn a_foreign_lease_is_left_until_it_was_seen_unchanged_for_its_own_duration() {
        let long = Record { lease_duration: Some(s(40)), ..record("b", 1) };
        let mut elector = seen(long.clone(), s(100));
        assert_eq!(elector.next(s(100)), Step::Wait { until: s(102) + MS * 500 });
        elector.observed(Some(long.clone()), s(139));
        assert_eq!(elector.next(s(139)), Step::Wait { until: s(140) });
        assert_eq!(written(&mut elector, s(140)), Write::Take { version: "1".into(), transitions: 4 });

        let mut elector = seen(long.clone(), s(100));
        elector.observed(Some(Record { version: "2".into(), ..long }), s(139));
        assert_eq!(elector.next(s(140)), Step::Wait { until: s(141) + MS * 500 });
    }

    #[test]
    fn a_follower_that_hears_nothing_looks() {
        let mut elector = seen(record("b", 1), s(100));
        assert!(matches!(elector.next(s(102) + MS * 499), Step::Wait { .. }));
        assert_eq!(elector.next(s(102) + MS * 500), Step::Read { timeout: s(5) });
    }

    #[test]
    fn a_released_lease_is_taken_at_once() {
        let mut elector = seen(record("b", 1), s(100));
        elector.observed(Some(record("", 2)), s(101));
        assert_eq!(written(&mut elector, s(101)), Write::Take { version: "2".into(), transitions: 4 });
    }

    #[test]
    fn a_deleted_lease_is_held_until_its_last_holder_is_silent() {
        let mut elector = seen(record("b", 1), s(100));
        elector.observed(None, s(101));
        assert!(matches!(elector.next(s(101)), Step::Wait { .. }));
        elector.observed(None, s(114));
        assert_eq!(elector.next(s(114)), Step::Wait { until: s(115) });
        assert_eq!(written(&mut elector, s(115)), Write::Create);
    }

    #[test]
    fn the_deadline_counts_from_before_the_send() {
        let mut elector = seen(record("", 1), s(1));
        written(&mut elector, s(1));
        elector.answered(Reply::Record(record("a", 2)), s(4));
        assert!(elector.may_write(MS * 10_999));
        assert!(!elector.may_write(s(11)));
        assert_eq!(elector.remaining(s(4)), s(7));
        assert_eq!(elector.next(s(11)), Step::StepDown);
        // Still our record: claimed again, not waited for.
        assert_eq!(written(&mut elector, s(11)), Write::Renew { version: "2".into(), transitions: 3 });
    }

    #[test]
    fn a_reply_after_the_deadline_does_not_lead() {
        let mut elector = seen(record("", 1), s(1));
        written(&mut elector, s(1));
        elector.answered(Reply::Record(record("a", 2)), s(11));
        assert!(!elector.may_write(s(11)));
        assert!(matches!(elector.next(s(11)), Step::Write { write: Write::Renew { .. }, .. }), "no step down");
    }

    #[test]
    fn renewals_are_paced_and_extend() {
        let mut elector = leading(s(1));
        assert_eq!(elector.next(s(1)), Step::Wait { until: s(3) });
        assert_eq!(written(&mut elector, s(3)), Write::Renew { version: "2".into(), transitions: 3 });
        elector.answered(Reply::Record(record("a", 3)), s(3));
        assert!(elector.may_write(MS * 12_999));
    }

    #[test]
    fn an_unknown_outcome_is_read_before_the_next_write_and_extends_nothing() {
        let mut elector = leading(s(1));
        written(&mut elector, s(3));
        elector.answered(Reply::Unknown, s(3));
        assert_eq!(elector.next(s(3)), Step::Wait { until: s(5) });
        assert!(matches!(elector.next(s(5)), Step::Read { .. }));
        elector.answered(Reply::Record(record("a", 7)), s(5));
        assert_eq!(elector.remaining(s(5)), s(6));
        assert_eq!(written(&mut elector, s(5)), Write::Renew { version: "7".into(), transitions: 3 });
    }

    #[test]
    fn no_call_outlives_the_deadline() {
        let mut elector = leading(s(1));
        assert_eq!(
            elector.next(s(9)),
            Step::Write { write: Write::Renew { version: "2".into(), transitions: 3 }, timeout: s(2) }
        );
    }

    #[test]
    fn a_leader_looks_before_it_believes_a_watch() {
        let mut elector = leading(s(1));
        elector.observed(Some(record("a", 2)), s(2));
        assert!(matches!(elector.next(s(2)), Step::Wait { .. }), "our own write is no news");
        elector.observed(Some(record("b", 1)), s(2));
        assert!(elector.may_write(s(2)));
        assert!(matches!(elector.next(s(2)), Step::Read { .. }));
        elector.answered(Reply::Record(record("b", 9)), s(2));
        assert_eq!(elector.next(s(2)), Step::StepDown);
        assert!(!elector.may_write(s(2)));
    }

    #[test]
    fn a_conflict_or_a_deleted_lease_ends_leadership_when_read() {
        for (reply, writes_on) in [(Reply::Conflict, true), (Reply::Absent, false)] {
            let mut elector = leading(s(1));
            written(&mut elector, s(3));
            elector.answered(reply.clone(), s(3));
            let step = elector.next(s(3));
            assert_eq!(matches!(step, Step::Read { .. }), writes_on, "{reply:?} {step:?}");
            assert_eq!(step == Step::StepDown, !writes_on, "{reply:?} {step:?}");
        }
    }

    #[test]
    fn resigning_silences_at_once_and_then_releases() {
        let mut elector = leading(s(1));
        elector.resign(s(2));
        assert!(!elector.may_write(s(2)));
        assert_eq!(written(&mut elector, s(2)), Write::Release { version: "2".into(), transitions: 3 });
        elector.answered(Reply::Conflict, s(2));
        assert!(matches!(elector.next(s(2)), Step::Read { .. }));
        elector.answered(Reply::Record(record("a", 5)), s(2));
        assert_eq!(written(&mut elector, s(2)), Write::Release { version: "5".into(), transitions: 3 });
        elector.answered(Reply::Record(record("", 6)), s(2));
        assert_eq!(elector.next(s(2)), Step::Done);
    }

    #[test]
    fn resigning_without_the_lease_is_done_and_a_dead_server_is_given_up() {
        let mut elector = seen(record("b", 1), s(1));
        elector.resign(s(1));
        assert_eq!(elector.next(s(1)), Step::Done);

        let mut elector = leading(s(1));
        elector.resign(s(2));
        written(&mut elector, s(2));
        elector.answered(Reply::Unknown, s(7));
        assert!(matches!(elector.next(s(7)), Step::Read { .. }));
        elector.answered(Reply::Unknown, s(11));
        assert_eq!(elector.next(s(11)), Step::Done);
    }
}

/// Several electors on one simulated Lease, event by event, with everything that a network and a scheduler can do to them.
#[cfg(test)]
mod simulation {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// True time in milliseconds; every replica has its own clock.
    type Millis = u64;

    #[derive(Clone, Copy, Debug)]
    struct Faults {
        /// Per cent of calls whose request never arrives.
        request_lost: u64,
        /// Per cent of calls whose reply never arrives.
        reply_lost: u64,
        /// Per cent of calls that travel for up to 25 s, long after the caller has given up.
        straggling: u64,
        /// Per cent of watch events that never arrive.
        watch_lost: u64,
        /// Per cent of ticks before which a replica stands still for up to 30 s.
        pause: u64,
        /// Per cent of ticks at which a replica is replaced by a new process.
        crash: u64,
        /// Per cent of ticks at which a replica shuts down in an orderly way.
        resign: u64,
    }

    const CALM: Faults =
        Faults { request_lost: 0, reply_lost: 0, straggling: 0, watch_lost: 0, pause: 0, crash: 0, resign: 0 };
    const ROUGH: Faults =
        Faults { request_lost: 8, reply_lost: 12, straggling: 8, watch_lost: 30, pause: 2, crash: 1, resign: 1 };

    #[derive(Clone, Debug)]
    enum Operation {
        Read,
        Write(Write),
    }

    #[derive(Clone, Debug)]
    enum Event {
        Tick(usize),
        Arrive { replica: usize, call: u64, identity: Box<str>, operation: Operation },
        Answer { replica: usize, call: u64, reply: Reply },
        Watch { replica: usize, process: u64, record: Record },
    }

    struct Replica {
        elector: Elector,
        process: u64,
        /// This clock counts `rate` thousandths of a true second each second.
        rate: u64,
        started: Millis,
        paused_until: Millis,
        call: Option<u64>,
        /// Watch events that came during a call.
        unheard: Vec<Record>,
        wakes: Millis,
    }

    impl Replica {
        fn local(&self, now: Millis) -> Duration {
            Duration::from_micros((now - self.started) * self.rate)
        }

        fn true_time(&self, local: Duration) -> Millis {
            let micros = u64::try_from(local.as_micros()).unwrap();
            self.started + micros.div_ceil(self.rate)
        }
    }

    struct World {
        now: Millis,
        seed: u64,
        faults: Faults,
        lease: Option<Record>,
        version: u64,
        ids: u64,
        replicas: Vec<Replica>,
        due: BTreeMap<(Millis, u64), Event>,
        /// When a leader was last seen, and terms so far.
        terms: u64,
        last_leader: Option<u64>,
    }

    impl World {
        fn new(seed: u64, faults: Faults, rates: &[u64]) -> Self {
            let mut world = Self {
                now: 0,
                seed: seed | 1,
                faults,
                lease: None,
                version: 0,
                ids: 0,
                replicas: Vec::new(),
                due: BTreeMap::new(),
                terms: 0,
                last_leader: None,
            };
            for rate in rates {
                let process = world.id();
                world.replicas.push(Replica {
                    elector: Elector::new(format!("p{process}"), Timing::default()),
                    process,
                    rate: *rate,
                    started: 0,
                    paused_until: 0,
                    call: None,
                    unheard: Vec::new(),
                    wakes: 0,
                });
                let replica = world.replicas.len() - 1;
                world.schedule(replica as u64, Event::Tick(replica));
            }
            world
        }

        fn id(&mut self) -> u64 {
            self.ids += 1;
            self.ids
        }

        /// Xorshift: the property gives the seed, so a failure repeats.
        fn below(&mut self, limit: u64) -> u64 {
            self.seed ^= self.seed << 13;
            self.seed ^= self.seed >> 7;
            self.seed ^= self.seed << 17;
            self.seed % limit
        }

        fn happens(&mut self, per_cent: u64) -> bool {
            self.below(100) < per_cent
        }

        fn schedule(&mut self, after: Millis, event: Event) {
            let id = self.id();
            self.due.insert((self.now + after, id), event);
        }

        fn delay(&mut self) -> Millis {
            if self.happens(self.faults.straggling) { self.below(25_000) } else { 1 + self.below(20) }
        }

        fn run_until(&mut self, end: Millis) {
            while let Some(entry) = self.due.first_entry() {
                if entry.key().0 > end {
                    break;
                }
                let ((at, _), event) = entry.remove_entry();
                self.now = at;
                self.happen(event);
                self.check();
            }
            self.now = end;
        }

        fn leaders(&self) -> Vec<usize> {
            (0..self.replicas.len())
                .filter(|i| self.replicas[*i].elector.may_write(self.replicas[*i].local(self.now)))
                .collect()
        }

        fn check(&mut self) {
            let leaders = self.leaders();
            assert!(leaders.len() <= 1, "{leaders:?} may write at {} ms, lease {:?}", self.now, self.lease);
            if let Some(leader) = leaders.first().map(|i| self.replicas[*i].process)
                && self.last_leader != Some(leader)
            {
                self.terms += 1;
                self.last_leader = Some(leader);
            }
        }

        fn happen(&mut self, event: Event) {
            match event {
                Event::Tick(replica) => self.tick(replica),
                Event::Arrive { replica, call, identity, operation } => {
                    let reply = self.serve(&identity, &operation);
                    if !self.happens(self.faults.reply_lost) {
                        let delay = self.delay();
                        self.schedule(delay, Event::Answer { replica, call, reply });
                    }
                }
                Event::Answer { replica, call, reply } => {
                    if self.replicas[replica].call != Some(call) {
                        return;
                    }
                    if let Some(wait) = self.replicas[replica].paused_until.checked_sub(self.now + 1) {
                        self.schedule(wait + 1, Event::Answer { replica, call, reply });
                        return;
                    }
                    let now = self.replicas[replica].local(self.now);
                    self.replicas[replica].call = None;
                    self.replicas[replica].elector.answered(reply, now);
                    for record in std::mem::take(&mut self.replicas[replica].unheard) {
                        self.replicas[replica].elector.observed(Some(record), now);
                    }
                    self.tick(replica);
                }
                Event::Watch { replica, process, record } => {
                    if self.replicas[replica].process != process {
                        return;
                    }
                    if let Some(wait) = self.replicas[replica].paused_until.checked_sub(self.now + 1) {
                        self.schedule(wait + 1, Event::Watch { replica, process, record });
                        return;
                    }
                    if self.replicas[replica].call.is_some() {
                        self.replicas[replica].unheard.push(record);
                        return;
                    }
                    let now = self.replicas[replica].local(self.now);
                    self.replicas[replica].elector.observed(Some(record), now);
                    self.tick(replica);
                }
            }
        }

        fn tick(&mut self, replica: usize) {
            if self.replicas[replica].call.is_some() {
                return;
            }
            if self.happens(self.faults.crash) {
                return self.crash(replica, 500);
            }
            if self.happens(self.faults.resign) {
                let now = self.replicas[replica].local(self.now);
                self.replicas[replica].elector.resign(now);
            }
            if self.happens(self.faults.pause) {
                self.replicas[replica].paused_until = self.now + self.below(30_000);
            }
            if let Some(wait) = self.replicas[replica].paused_until.checked_sub(self.now + 1) {
                self.schedule(wait + 1, Event::Tick(replica));
                return;
            }
            self.step(replica);
        }

        fn step(&mut self, replica: usize) {
            let now = self.replicas[replica].local(self.now);
            match self.replicas[replica].elector.next(now) {
                Step::Read { timeout } => self.call(replica, Operation::Read, now + timeout),
                Step::Write { write, timeout } => self.call(replica, Operation::Write(write), now + timeout),
                Step::Wait { until } => {
                    assert!(until > now, "a wait until {until:?} at {now:?} would spin");
                    let at = self.replicas[replica].true_time(until);
                    if self.replicas[replica].wakes != at {
                        self.replicas[replica].wakes = at;
                        self.schedule(at - self.now, Event::Tick(replica));
                    }
                }
                Step::StepDown => self.tick(replica),
                Step::Done => self.crash(replica, 1_000),
            }
        }

        fn call(&mut self, replica: usize, operation: Operation, gives_up: Duration) {
            let call = self.id();
            self.replicas[replica].call = Some(call);
            let timeout = self.replicas[replica].true_time(gives_up) - self.now;
            self.schedule(timeout, Event::Answer { replica, call, reply: Reply::Unknown });
            if !self.happens(self.faults.request_lost) {
                let delay = self.delay();
                let identity = self.replicas[replica].elector.identity().into();
                self.schedule(delay, Event::Arrive { replica, call, identity, operation });
            }
        }

        /// The process is gone, what it sent is not; another one starts after `pause`.
        fn crash(&mut self, replica: usize, pause: Millis) {
            let process = self.id();
            let started = self.now + pause;
            let slot = &mut self.replicas[replica];
            slot.elector = Elector::new(format!("p{process}"), Timing::default());
            slot.process = process;
            slot.started = self.now;
            slot.paused_until = started;
            slot.call = None;
            slot.unheard.clear();
            slot.wakes = 0;
            self.schedule(pause, Event::Tick(replica));
        }

        /// What an API server does with one request.
        fn serve(&mut self, identity: &str, operation: &Operation) -> Reply {
            let (version, holder, transitions) = match operation {
                Operation::Read => return self.lease.clone().map_or(Reply::Absent, Reply::Record),
                Operation::Write(Write::Create) => (None, Some(identity.into()), 0),
                Operation::Write(Write::Take { version, transitions } | Write::Renew { version, transitions }) => {
                    (Some(version), Some(identity.into()), *transitions)
                }
                Operation::Write(Write::Release { version, transitions }) => (Some(version), None, *transitions),
            };
            match (&self.lease, version) {
                (None, Some(_)) => return Reply::Absent,
                (Some(_), None) => return Reply::Conflict,
                (Some(lease), Some(version)) if lease.version != *version => return Reply::Conflict,
                (None, None) | (Some(_), Some(_)) => {}
            }
            self.version += 1;
            let lease_duration = Some(Timing::default().lease_duration());
            let record = Record { holder, transitions, lease_duration, version: self.version.to_string().into() };
            self.lease = Some(record.clone());
            for replica in 0..self.replicas.len() {
                if !self.happens(self.faults.watch_lost) {
                    let (delay, process) = (self.delay(), self.replicas[replica].process);
                    self.schedule(delay, Event::Watch { replica, process, record: record.clone() });
                }
            }
            Reply::Record(record)
        }

        fn run_until_leader(&mut self, end: Millis) -> Option<Millis> {
            while self.now < end {
                if !self.leaders().is_empty() {
                    return Some(self.now);
                }
                self.run_until(self.now + 10);
            }
            None
        }
    }

    const SAME: [u64; 3] = [1000, 1000, 1000];

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

        /// Ten minutes of everything at once; the invariant is checked after every event.
        #[test]
        fn never_two_may_write(seed: u64, replicas in 2..=3_usize) {
            let mut world = World::new(seed, ROUGH, &SAME[..replicas]);
            world.run_until(600_000);
            prop_assert!(world.terms >= 2, "the faults must reach the interesting part, {} terms", world.terms);
        }

        /// Clocks may differ in rate by less than the quotient of lease duration and renew deadline.
        #[test]
        fn nor_with_clocks_of_different_rates(seed: u64, rates in prop::array::uniform3(1000..1450_u64)) {
            World::new(seed, ROUGH, &rates).run_until(600_000);
        }

        /// Once the faults have ended and the stragglers have arrived, somebody leads within a lease duration and a poll.
        #[test]
        fn calm_brings_a_leader(seed: u64) {
            let mut world = World::new(seed, ROUGH, &SAME);
            world.run_until(120_000);
            world.faults = CALM;
            world.run_until(150_000);
            let leader = world.run_until_leader(150_000 + 15_000 + 2_500 + 500);
            prop_assert!(leader.is_some(), "nobody leads, lease {:?}", world.lease);
        }

        /// A killed leader is followed within the lease duration, plus a poll when no watch works.
        #[test]
        fn takeover_is_bounded(seed: u64, watch_works: bool, at in 20_000..40_000_u64) {
            let faults = Faults { watch_lost: if watch_works { 0 } else { 100 }, ..CALM };
            let mut world = World::new(seed, faults, &SAME);
            world.run_until(at);
            let leader = world.leaders()[0];
            world.crash(leader, 3_600_000);
            let allowed = 15_000 + 200 + if watch_works { 0 } else { 2_500 };
            prop_assert!(world.run_until_leader(at + allowed).is_some(), "nobody leads after {allowed} ms");
        }

        /// A leader that resigns is followed at once.
        #[test]
        fn planned_takeover_is_immediate(seed: u64, at in 20_000..40_000_u64) {
            let mut world = World::new(seed, CALM, &SAME);
            world.run_until(at);
            let leader = world.leaders()[0];
            let now = world.replicas[leader].local(world.now);
            world.replicas[leader].elector.resign(now);
            world.tick(leader);
            prop_assert!(world.run_until_leader(at + 500).is_some(), "nobody leads after half a second");
        }
    }
}
