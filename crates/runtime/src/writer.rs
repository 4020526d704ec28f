//! The way by which a leader's writes leave: paced, announced, fenced, bounded.
//!
//! The order matters. The turn comes first, because it may take long, and whoever waited for one looks again before deciding
//! what to write; the question whether we still lead comes last before the send; and the send ends when leadership would.
//! What to write, and whether to write it again, is not decided here.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use kube::Client;

use crate::apiclient::{ApiError, Call, RateLimit, TransportError, accepted, send};
use crate::leadership::{Leadership, NotLeading};

/// A write that did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Nothing was sent.
    #[error(transparent)]
    NotLeading(#[from] NotLeading),
    /// The server's answer, or none.
    #[error(transparent)]
    Api(#[from] ApiError),
}

/// A turn at the common pace: one request may leave.
#[derive(Debug)]
#[must_use = "the turn is spent"]
pub struct Turn(());

/// Sends writes; clones share the pace.
#[derive(Clone, Debug)]
pub struct Writer {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    pace: Arc<RateLimit>,
    leadership: Leadership,
    /// No write may take longer.
    limit: Duration,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").field("pace", &self.pace).field("limit", &self.limit).finish_non_exhaustive()
    }
}

impl Writer {
    /// Writes through `client`, at most so fast as `pace` allows, each for at most `limit`.
    pub fn new(client: Client, pace: Arc<RateLimit>, leadership: Leadership, limit: Duration) -> Self {
        Self { inner: Arc::new(Inner { client, pace, leadership, limit }) }
    }

    /// The next turn, if it is due now.
    pub fn try_turn(&self) -> Option<Turn> {
        self.inner.pace.try_turn().then_some(Turn(()))
    }

    /// The next turn, whenever it comes. What was decided before is old by then.
    pub async fn turn(&self) -> Turn {
        self.inner.pace.turn().await;
        Turn(())
    }

    /// Sends `request` once, if this replica leads, and returns the body of a success.
    ///
    /// A throttled answer slows everybody down. When the future is dropped before the request has left, it does not leave.
    pub async fn write(&self, Turn(()): Turn, call: Call, request: Request<Vec<u8>>) -> Result<Bytes, WriteError> {
        let Inner { client, pace: _, leadership, limit } = &*self.inner;
        let permit = leadership.permit()?;
        let sent = send(client, request, permit.remaining().min(*limit)).await;
        drop(permit);
        Ok(self.outcome(call, sent)?)
    }

    /// Sends `request`, which changes nothing, once.
    pub async fn read(&self, Turn(()): Turn, call: Call, request: Request<Vec<u8>>) -> Result<Bytes, ApiError> {
        let Inner { client, pace: _, leadership: _, limit } = &*self.inner;
        self.outcome(call, send(client, request, *limit).await)
    }

    fn outcome(&self, call: Call, sent: Result<Response<Bytes>, TransportError>) -> Result<Bytes, ApiError> {
        let response = sent.map_err(|source| ApiError::Transport { call, source })?;
        let outcome = accepted(call, response);
        if let Err(ApiError::Throttled { retry_after }) = &outcome {
            self.inner.pace.pause(*retry_after);
        }
        outcome
    }
}
