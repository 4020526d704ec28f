//! The one place that reads the time. Everything else is handed a `now`.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// Where the time comes from.
#[derive(Clone, Copy, Debug)]
pub enum Clock {
    /// The clock of the machine.
    System {
        /// The date at `start`.
        epoch: Timestamp,
        /// What [`Clock::elapsed`] counts from.
        start: Instant,
    },
    /// Time that moves only as tokio's does.
    Virtual {
        /// The date at `start`.
        epoch: Timestamp,
        /// What [`Clock::elapsed`] counts from.
        start: Instant,
        /// When somebody sets it, and by how much forward.
        set: Option<(Duration, SignedDuration)>,
    },
}

impl Clock {
    /// The clock of the machine; [`Self::elapsed`] counts from now.
    #[expect(clippy::disallowed_methods, reason = "this is the place from which the shell takes the time")]
    pub fn system() -> Self {
        Self::System { epoch: Timestamp::now(), start: Instant::now() }
    }

    /// It is `epoch` now, and time passes as tokio's does.
    pub fn starting_at(epoch: Timestamp) -> Self {
        Self::Virtual { epoch, start: Instant::now(), set: None }
    }

    /// A virtual clock that somebody sets forward (or, less than nothing, back) that long after its start.
    #[must_use]
    pub const fn set_after(self, after: Duration, forward: SignedDuration) -> Self {
        match self {
            Self::System { .. } => self,
            Self::Virtual { epoch, start, set: _ } => Self::Virtual { epoch, start, set: Some((after, forward)) },
        }
    }

    /// The date, for people and for what leaves the process. May jump when somebody sets the machine's clock: nothing is
    /// decided by the difference of two of these.
    #[expect(clippy::disallowed_methods, reason = "this is the place from which the shell takes the time")]
    pub fn now(&self) -> Timestamp {
        match self {
            Self::System { .. } => Timestamp::now(),
            Self::Virtual { epoch: _, start: _, set } => match set {
                Some((after, forward)) if self.elapsed() >= *after => later(self.steady(), *forward),
                Some(_) | None => self.steady(),
            },
        }
    }

    /// The date at the start and the time since: it never jumps, whatever is done to the machine's clock.
    pub fn steady(&self) -> Timestamp {
        let (Self::System { epoch, start: _ } | Self::Virtual { epoch, start: _, set: _ }) = self;
        later(*epoch, SignedDuration::try_from(self.elapsed()).unwrap_or(SignedDuration::MAX))
    }

    /// Time since the clock was made. Never jumps, never runs backwards.
    pub fn elapsed(&self) -> Duration {
        self.start().elapsed()
    }

    /// The instant to sleep until so that [`Self::elapsed`] is `elapsed`.
    pub fn instant(&self, elapsed: Duration) -> Instant {
        // Far enough to be never, near enough for every platform's clock.
        const NEVER: Duration = Duration::from_hours(10 * 365 * 24);
        self.start() + elapsed.min(NEVER)
    }

    const fn start(&self) -> Instant {
        match self {
            Self::System { epoch: _, start } | Self::Virtual { epoch: _, start, set: _ } => *start,
        }
    }
}

fn later(time: Timestamp, by: SignedDuration) -> Timestamp {
    time.saturating_add(by).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn virtual_time_moves_with_tokio() {
        let clock = Clock::starting_at("2026-03-01T12:00:00Z".parse().unwrap());
        tokio::time::advance(Duration::from_secs(90)).await;
        assert_eq!(clock.now(), "2026-03-01T12:01:30Z".parse().unwrap());
        assert_eq!(clock.elapsed(), Duration::from_secs(90));
        tokio::time::sleep_until(clock.instant(Duration::from_secs(100))).await;
        assert_eq!(clock.elapsed(), Duration::from_secs(100));
    }

    #[tokio::test(start_paused = true)]
    async fn a_steady_clock_is_not_set() {
        let epoch: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        let clock = Clock::starting_at(epoch).set_after(Duration::from_secs(10), SignedDuration::from_secs(-60));
        assert_eq!((clock.now(), clock.steady()), (epoch, epoch));
        tokio::time::advance(Duration::from_secs(10)).await;
        let later = epoch + SignedDuration::from_secs(10);
        assert_eq!((clock.now(), clock.steady()), (later - SignedDuration::from_mins(1), later));
    }

    #[tokio::test]
    async fn system_time_is_a_date_of_today() {
        assert!(Clock::system().now() > "2026-01-01T00:00:00Z".parse().unwrap());
    }
}
