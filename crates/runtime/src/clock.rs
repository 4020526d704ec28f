//! The one place that reads the time. Everything else is handed a `now`.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// Where the time comes from.
#[derive(Clone, Copy, Debug)]
pub enum Clock {
    /// The clock of the machine.
    System {
        /// What [`Clock::elapsed`] counts from.
        start: Instant,
    },
    /// Time that moves only as tokio's does: `epoch` at `start`.
    Virtual {
        /// The date at `start`.
        epoch: Timestamp,
        /// What [`Clock::elapsed`] counts from.
        start: Instant,
    },
}

impl Clock {
    /// The clock of the machine; [`Self::elapsed`] counts from now.
    pub fn system() -> Self {
        Self::System { start: Instant::now() }
    }

    /// It is `epoch` now, and time passes as tokio's does.
    pub fn starting_at(epoch: Timestamp) -> Self {
        Self::Virtual { epoch, start: Instant::now() }
    }

    /// The date. May jump when somebody sets the machine's clock, so never subtract two of these to decide who leads.
    #[expect(clippy::disallowed_methods, reason = "this is the place from which the shell takes the time")]
    pub fn now(&self) -> Timestamp {
        match self {
            Self::System { start: _ } => Timestamp::now(),
            Self::Virtual { epoch, start: _ } => {
                let elapsed = SignedDuration::try_from(self.elapsed()).unwrap_or(SignedDuration::MAX);
                epoch.saturating_add(elapsed).unwrap_or(Timestamp::MAX)
            }
        }
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
            Self::System { start } | Self::Virtual { epoch: _, start } => *start,
        }
    }
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

    #[tokio::test]
    async fn system_time_is_a_date_of_today() {
        assert!(Clock::system().now() > "2026-01-01T00:00:00Z".parse().unwrap());
    }
}
