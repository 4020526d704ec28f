//! The cluster's time: an epoch, and what tokio's clock has run since.
//!
//! It decides nothing. Paused with tokio's clock, it stands; it is read at the edge, and everything below is told the time.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// A clock that began at a given time.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    epoch: Timestamp,
    start: Instant,
}

impl Clock {
    /// It shows `epoch` now.
    pub fn starting_at(epoch: Timestamp) -> Self {
        Self { epoch, start: Instant::now() }
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        let elapsed = SignedDuration::try_from(self.elapsed()).unwrap_or(SignedDuration::MAX);
        self.epoch.saturating_add(elapsed).unwrap_or(Timestamp::MAX)
    }

    /// How long it has run.
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// The moment at which it will show a time; now if that has passed.
    pub fn instant(&self, at: Timestamp) -> Instant {
        let wait = Duration::try_from(at.duration_since(self.epoch)).unwrap_or_default();
        self.start + wait
    }
}

/// As `metav1.Time` is written: whole seconds, the rest cut off.
pub fn seconds(at: Timestamp) -> String {
    Timestamp::from_second(at.as_nanosecond().div_euclid(1_000_000_000).try_into().unwrap_or(i64::MAX))
        .unwrap_or(at)
        .to_string()
}

/// As `metav1.MicroTime` is written: six decimals.
pub fn microseconds(at: Timestamp) -> String {
    let whole = Timestamp::from_microsecond(at.as_nanosecond().div_euclid(1000).try_into().unwrap_or(i64::MAX));
    format!("{:.6}", whole.unwrap_or(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_runs_with_tokio() {
        let epoch: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        let clock = Clock::starting_at(epoch);
        tokio::time::sleep(Duration::from_millis(90_061_500)).await;
        assert_eq!(clock.now().to_string(), "2026-03-02T13:01:01.5Z");
        assert_eq!(clock.instant(clock.now()), Instant::now());
        assert_eq!(seconds(clock.now()), "2026-03-02T13:01:01Z");
        assert_eq!(microseconds(clock.now()), "2026-03-02T13:01:01.500000Z");
    }
}
