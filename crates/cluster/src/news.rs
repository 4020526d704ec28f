//! Wakes those who wait for changes, of one kind or of any, in the order in which they came to wait.
//!
//! tokio's `watch` would do, if it did not wake its receivers in a random order: here the order is part of what the same
//! seed has to lead to.

use std::collections::BTreeMap;

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use crate::resource::{Kind, RESOURCES};

/// Who waits.
#[derive(Debug)]
pub(crate) struct News {
    any: Notify,
    of: BTreeMap<Kind, Notify>,
}

impl News {
    /// Nobody waits.
    pub(crate) fn new() -> Self {
        Self { any: Notify::new(), of: RESOURCES.iter().map(|row| (row.kind, Notify::new())).collect() }
    }

    /// Something of a kind changed.
    pub(crate) fn tell(&self, kind: Kind) {
        self.of[&kind].notify_waiters();
        self.any.notify_waiters();
    }

    /// Everybody is to look.
    pub(crate) fn tell_all(&self) {
        self.of.values().for_each(Notify::notify_waiters);
        self.any.notify_waiters();
    }

    /// Waits for the next news of a kind, from now on or from when it is enabled.
    pub(crate) fn of(&self, kind: Kind) -> Notified<'_> {
        self.of[&kind].notified()
    }

    /// As [`Self::of`], of any kind.
    pub(crate) fn any(&self) -> Notified<'_> {
        self.any.notified()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;

    async fn all_have_had_a_turn() {
        for _ in 0..200 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn who_waits_first_is_woken_first_and_only_for_what_concerns_it() {
        let (news, woken) = (Arc::new(News::new()), Arc::<Mutex<Vec<u32>>>::default());
        let waits = |number: u32, kind: Option<Kind>| {
            let (news, woken) = (news.clone(), woken.clone());
            async move {
                match kind {
                    Some(kind) => news.of(kind).await,
                    None => news.any().await,
                }
                woken.lock().push(number);
            }
        };
        for number in 0..100 {
            tokio::spawn(waits(number, Some(Kind::Pod)));
        }
        tokio::spawn(waits(100, None));
        tokio::spawn(waits(101, Some(Kind::Node)));
        all_have_had_a_turn().await;
        news.tell(Kind::Pod);
        all_have_had_a_turn().await;
        assert_eq!(*woken.lock(), (0..=100).collect::<Vec<_>>());
        news.tell_all();
        all_have_had_a_turn().await;
        assert_eq!(woken.lock().last(), Some(&101));
    }
}
