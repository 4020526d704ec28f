//! Makes the tasks of a process stand still, as those of one that is stopped or not scheduled do: nothing of it runs, while
//! time passes, and what it has sent is on its way. Afterwards all go on at once.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use spotalis_instance::Executor;
use tokio::time::sleep;
use tokio_util::task::TaskTracker;

/// The tasks of one process. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Tasks {
    tracker: TaskTracker,
    gate: Gate,
}

/// While the process stands still: who is to be woken when it goes on.
#[derive(Clone, Default)]
struct Gate(Arc<Mutex<Option<Vec<Waker>>>>);

struct Task {
    work: BoxFuture<'static, ()>,
    gate: Gate,
}

impl Gate {
    fn poll(&self, context: &Context<'_>) -> Poll<()> {
        match &mut *self.0.lock() {
            None => Poll::Ready(()),
            Some(waiting) => {
                waiting.push(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Future for Task {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        match self.gate.poll(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => self.work.as_mut().poll(context),
        }
    }
}

impl Executor for Tasks {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.tracker.spawn(Task { work: task, gate: self.gate.clone() });
    }
}

impl Tasks {
    /// None of them runs for that long; nothing happens, and `false` is returned, if they stand still already.
    pub(crate) fn stand_still(&self, length: Duration) -> bool {
        let gate = self.gate.clone();
        if gate.0.lock().is_some() {
            return false;
        }
        *gate.0.lock() = Some(Vec::new());
        tokio::spawn(async move {
            sleep(length).await;
            let waiting = gate.0.lock().take();
            waiting.into_iter().flatten().for_each(Waker::wake);
        });
        true
    }

    /// Returns when they run.
    pub(crate) async fn run(&self) {
        std::future::poll_fn(|context| self.gate.poll(context)).await;
    }

    /// Returns when all of them have ended.
    pub(crate) async fn end(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn nothing_runs_and_everything_goes_on() {
        let (tasks, ticks) = (Tasks::default(), Arc::new(AtomicU32::new(0)));
        let counted = ticks.clone();
        tasks.spawn(Box::pin(async move {
            loop {
                sleep(Duration::from_secs(1)).await;
                counted.fetch_add(1, Ordering::Relaxed);
            }
        }));
        sleep(Duration::from_millis(3_500)).await;
        assert_eq!(ticks.load(Ordering::Relaxed), 3);
        assert!(tasks.stand_still(Duration::from_mins(1)) && !tasks.stand_still(Duration::from_mins(9)));
        sleep(Duration::from_secs(30)).await;
        assert_eq!(ticks.load(Ordering::Relaxed), 3, "it stands still");
        tasks.run().await;
        // The tick that was missed comes late, and the next ones a second apart.
        sleep(Duration::from_millis(2_500)).await;
        assert_eq!(ticks.load(Ordering::Relaxed), 6);
    }
}
