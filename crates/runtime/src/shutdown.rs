//! Ends the process in order: the first signal asks, the second does not wait.
//!
//! Nothing is aborted here. The token says that it is time, the tracker knows who is still at work, and the binary exits
//! when [`Shutdown::finished`] returns.

use std::time::Duration;

use futures::{Stream, StreamExt};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Signals cannot be listened for.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen for SIGTERM and SIGINT")]
pub struct SignalError(#[source] std::io::Error);

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Every task is over.
    Complete,
    /// The time allowed was over first.
    OutOfTime,
    /// A second signal came.
    Aborted,
}

/// The token that asks for the end, and the tasks that are waited for.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    requested: CancellationToken,
    aborted: CancellationToken,
    tasks: TaskTracker,
}

impl Shutdown {
    /// Nothing asked, nothing running.
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancelled when the end was asked for.
    pub fn token(&self) -> CancellationToken {
        self.requested.clone()
    }

    /// Spawn here whatever must have ended before the process does.
    pub fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    /// Asks for the end; the second call aborts.
    pub fn request(&self) {
        if self.requested.is_cancelled() {
            self.aborted.cancel();
        } else {
            self.requested.cancel();
        }
    }

    /// Turns SIGTERM and SIGINT into requests from now on. The signals are caught before this returns.
    pub fn listen(&self) -> Result<(), SignalError> {
        let mut terminate = signal(SignalKind::terminate()).map_err(SignalError)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(SignalError)?;
        let signals = futures::stream::poll_fn(move |context| {
            if terminate.poll_recv(context).is_ready() {
                return std::task::Poll::Ready(Some("SIGTERM"));
            }
            interrupt.poll_recv(context).map(|received| received.map(|()| "SIGINT"))
        });
        // Not tracked: it would never end by itself.
        tokio::spawn(self.clone().obey(signals));
        Ok(())
    }

    async fn obey(self, signals: impl Stream<Item = &'static str>) {
        let mut signals = std::pin::pin!(signals);
        while let Some(signal) = signals.next().await {
            if self.requested.is_cancelled() {
                tracing::warn!(signal, "second signal, not waiting any longer");
            } else {
                tracing::info!(signal, "shutting down");
            }
            self.request();
        }
    }

    /// Waits for the request, and then for the tasks: at most `grace`, and not after a second signal.
    pub async fn finished(&self, grace: Duration) -> Ending {
        self.requested.cancelled().await;
        self.tasks.close();
        tokio::select! {
            biased;
            () = self.aborted.cancelled() => Ending::Aborted,
            () = self.tasks.wait() => Ending::Complete,
            () = tokio::time::sleep(grace) => Ending::OutOfTime,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn tasks_are_waited_for() {
        let shutdown = Shutdown::new();
        let token = shutdown.token();
        shutdown.tasks().spawn(async move {
            token.cancelled().await;
            tokio::time::sleep(Duration::from_secs(5)).await;
        });
        shutdown.clone().obey(futures::stream::iter(["SIGTERM"])).await;
        let before = tokio::time::Instant::now();
        assert_eq!(shutdown.finished(GRACE).await, Ending::Complete);
        assert_eq!(before.elapsed(), Duration::from_secs(5));
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_signal_or_the_end_of_the_grace_does_not_wait() {
        let shutdown = Shutdown::new();
        shutdown.tasks().spawn(std::future::pending::<()>());
        shutdown.clone().obey(futures::stream::iter(["SIGTERM"])).await;
        assert_eq!(shutdown.finished(GRACE).await, Ending::OutOfTime);
        shutdown.clone().obey(futures::stream::iter(["SIGINT"])).await;
        assert_eq!(shutdown.finished(GRACE).await, Ending::Aborted);
    }
}
