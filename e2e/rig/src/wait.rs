//! Waits until something observed in the cluster holds, and says what was waited for when it never does.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

/// How often the question is asked. Local answers take a few milliseconds.
const PERIOD: Duration = Duration::from_millis(25);

/// The condition did not come to hold.
#[derive(Debug, thiserror::Error)]
#[error("waited {limit:?} in vain for {what}")]
pub struct TimedOut {
    /// What was waited for.
    pub what: String,
    /// How long.
    pub limit: Duration,
}

/// Asks again and again until the answer is `Some`. A question that is never answered counts as a `None`.
pub async fn until<T>(what: &str, limit: Duration, mut ask: impl AsyncFnMut() -> Option<T>) -> Result<T, TimedOut> {
    let deadline = Instant::now() + limit;
    loop {
        match timeout_at(deadline, ask()).await {
            Ok(Some(answer)) => return Ok(answer),
            Ok(None) if Instant::now() < deadline => sleep(PERIOD).await,
            Ok(None) | Err(_) => return Err(TimedOut { what: what.to_owned(), limit }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn asks_until_answered() {
        let mut asked = 0;
        let answer = until("three", Duration::from_mins(1), async || {
            asked += 1;
            (asked == 3).then_some("yes")
        });
        assert_eq!(answer.await.unwrap(), "yes");
        assert_eq!(asked, 3);
    }

    #[tokio::test]
    async fn a_question_without_end_ends() {
        let asked = until("Godot", Duration::from_millis(1), std::future::pending::<Option<()>>);
        asked.await.unwrap_err();
    }

    #[tokio::test]
    async fn says_what_never_came() {
        let error = until("a miracle", Duration::ZERO, async || None::<()>).await.unwrap_err();
        assert_eq!(error.to_string(), "waited 0ns in vain for a miracle");
    }
}
