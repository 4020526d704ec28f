//! The way by which a leader's writes leave: paced, announced, fenced, bounded.
//!
//! The order matters. Waiting for a turn comes first, because it may take long; the question whether we still lead comes
//! last before the send; and the send ends when leadership would. What to write, and whether to write it again, is not
//! decided here.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use kube::Client;

use crate::apiclient::{ApiError, Call, RateLimit, TransportError, accepted, send};
use crate::leadership::{Leadership, NotLeading, Permit};

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

/// Who needs to lead for a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fence {
    /// Only the leader may do it.
    Leader,
    /// Every replica may: it is idempotent, and urgent.
    Anyone,
}

/// Sends writes; clones share the pace.
#[derive(Clone, Debug)]
pub struct Writer {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    pace: RateLimit,
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
    pub fn new(client: Client, pace: RateLimit, leadership: Leadership, limit: Duration) -> Self {
        Self { inner: Arc::new(Inner { client, pace, leadership, limit }) }
    }

    /// The client, for reads.
    pub fn client(&self) -> &Client {
        &self.inner.client
    }

    /// The pace, to be shared with reads and changed on reload.
    pub fn pace(&self) -> &RateLimit {
        &self.inner.pace
    }

    /// Whose leadership the writes need.
    pub fn leadership(&self) -> &Leadership {
        &self.inner.leadership
    }

    /// Sends `request` once and returns the body of a success.
    ///
    /// A throttled answer slows all writes down. When the future is dropped before the request has left, it does not leave.
    pub async fn write(&self, call: Call, fence: Fence, request: Request<Vec<u8>>) -> Result<Bytes, WriteError> {
        let response = self.exchange(call, fence, request).await?;
        let outcome = accepted(call, response);
        if let Err(ApiError::Throttled { retry_after }) = &outcome {
            self.inner.pace.pause(*retry_after);
        }
        Ok(outcome?)
    }

    async fn exchange(
        &self,
        call: Call,
        fence: Fence,
        request: Request<Vec<u8>>,
    ) -> Result<Response<Bytes>, WriteError> {
        let Inner { client, pace, leadership, limit } = &*self.inner;
        pace.turn().await;
        let permit = match fence {
            Fence::Leader => Some(leadership.permit()?),
            Fence::Anyone => None,
        };
        let remaining = permit.as_ref().map_or(Duration::MAX, Permit::remaining);
        let sent = send(client, request, remaining.min(*limit)).await;
        drop(permit);
        Ok(sent.map_err(|source: TransportError| ApiError::Transport { call, source })?)
    }
}
