//! What time the API server has, where ours differs.
//!
//! The times on objects are the API server's. Held against a clock that is a minute ahead, every cooldown is over when it
//! begins. Every answer carries the server's time (`Date`, RFC 9110 section 6.6.1, in whole seconds), so the difference is
//! known as soon as there was an answer, and nobody's clock has to be trusted.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use http::{HeaderMap, Request, header};
use jiff::fmt::rfc2822::DateTimeParser;
use jiff::{SignedDuration, Timestamp};
use kube::Client;
use kube::client::Body;

use crate::Clock;

/// Clocks that differ by less count as the same: answers take their time, and `Date` has no fractions.
const TOLERANCE: SignedDuration = SignedDuration::from_secs(2);

/// How far the API server's clock is ahead of our steady one. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct ServerTime(Arc<AtomicI64>);

impl ServerTime {
    /// The client, and the time of the server whose answers pass through it. Must be called within a runtime.
    pub fn learned_from(client: Client, clock: Clock) -> (Self, Client) {
        let time = Self::default();
        let namespace = client.default_namespace().to_owned();
        let learning = time.clone();
        let listening = tower::service_fn(move |request: Request<Body>| {
            let (client, learning) = (client.clone(), learning.clone());
            async move {
                let response = client.send(request).await?;
                learning.learn(response.headers(), clock.steady());
                Ok::<_, kube::Error>(response)
            }
        });
        (time, Client::new(listening, namespace))
    }

    fn learn(&self, headers: &HeaderMap, now: Timestamp) {
        let date = headers.get(header::DATE).and_then(|date| date.to_str().ok());
        let Some(date) = date.and_then(|date| DateTimeParser::new().parse_timestamp(date).ok()) else { return };
        let ahead = date.duration_since(now);
        let ahead = if ahead.abs() < TOLERANCE { SignedDuration::ZERO } else { ahead };
        self.0.store(i64::try_from(ahead.as_millis()).unwrap_or(0), Ordering::Relaxed);
    }

    /// The server's time when our steady clock shows `now`. Before the first answer, and where the clocks are nearly the same, it
    /// is ours.
    pub fn at(&self, now: Timestamp) -> Timestamp {
        let ahead = SignedDuration::from_millis(self.0.load(Ordering::Relaxed));
        now.saturating_add(ahead).unwrap_or(now)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http::Response;

    use super::*;

    const NOW: &str = "2026-03-01T12:00:00Z";

    async fn after(date: Option<&'static str>) -> Timestamp {
        let now = NOW.parse().unwrap();
        let service = tower::service_fn(move |_: Request<Body>| async move {
            let mut response = Response::new(Body::empty());
            if let Some(date) = date {
                response.headers_mut().insert(header::DATE, date.parse().unwrap());
            }
            Ok::<_, Infallible>(response)
        });
        let (time, client) = ServerTime::learned_from(Client::new(service, "default"), Clock::starting_at(now));
        client.send(Request::new(Body::empty())).await.unwrap();
        time.at(now)
    }

    #[tokio::test(start_paused = true)]
    async fn the_servers_date_holds_where_the_clocks_differ() {
        for (date, wanted) in [
            (None, NOW),
            (Some("Sun, 01 Mar 2026 12:00:00 GMT"), NOW),
            (Some("Sun, 01 Mar 2026 11:59:59 GMT"), NOW),
            (Some("Sun, 01 Mar 2026 11:59:18 GMT"), "2026-03-01T11:59:18Z"),
            (Some("Sun, 01 Mar 2026 13:00:00 GMT"), "2026-03-01T13:00:00Z"),
            (Some("yesterday"), NOW),
        ] {
            assert_eq!(after(date).await, wanted.parse().unwrap(), "{date:?}");
        }
    }
}
