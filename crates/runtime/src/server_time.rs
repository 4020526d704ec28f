//! What time the API server has, where ours differs.
//!
//! The times on objects are the API server's. Held against a clock that is a minute ahead, every cooldown is over when it
//! begins. Every answer carries the server's time (`Date`, RFC 9110 section 6.6.1), so nobody's clock has to be trusted.
//!
//! `Date` has whole seconds, rounded down, and an answer takes its time: each says what time it is there at least. The most
//! that answers of late say is taken, so the server is never believed to be further than it is, and less than a second behind.

use std::sync::Arc;

use http::{HeaderMap, Request, header};
use jiff::fmt::rfc2822::DateTimeParser;
use jiff::{SignedDuration, Timestamp};
use kube::Client;
use kube::client::Body;
use parking_lot::Mutex;

use crate::Clock;

/// For at least so long, and at most twice as long, it counts what an answer said: then a clock that was set back is known.
const LATELY: SignedDuration = SignedDuration::from_mins(1);

/// How far the API server's clock is ahead of our steady one. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct ServerTime(Arc<Mutex<Said>>);

/// By how much it is ahead at least, as answers say.
#[derive(Debug, Default)]
struct Said {
    /// When the answers of `now` begin.
    since: Timestamp,
    now: Option<SignedDuration>,
    before: Option<SignedDuration>,
}

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
        let mut said = self.0.lock();
        if now.duration_since(said.since) >= LATELY {
            *said = Said { since: now, now: None, before: said.now };
        }
        said.now = said.now.max(Some(ahead));
    }

    /// The server's time when our steady clock shows `now`; before the first answer, that itself.
    pub fn at(&self, now: Timestamp) -> Timestamp {
        let said = self.0.lock();
        let ahead = said.now.max(said.before).unwrap_or_default();
        now.saturating_add(ahead).unwrap_or(now)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http::Response;

    use super::*;

    const NOW: &str = "2026-03-01T12:00:00.7Z";

    fn at(time: &str) -> Timestamp {
        time.parse().unwrap()
    }

    /// A server that answers with these dates, one after the other, and what time it is believed to be there after each, at
    /// `NOW` and so many seconds later each time.
    async fn after(dates: &[Option<&'static str>], pause: u64) -> Vec<Timestamp> {
        let clock = Clock::starting_at(at(NOW));
        let answers = Arc::new(Mutex::new(dates.to_vec()));
        let service = tower::service_fn(move |_: Request<Body>| {
            let date = answers.lock().remove(0);
            async move {
                let mut response = Response::new(Body::empty());
                if let Some(date) = date {
                    response.headers_mut().insert(header::DATE, date.parse().unwrap());
                }
                Ok::<_, Infallible>(response)
            }
        });
        let (time, client) = ServerTime::learned_from(Client::new(service, "default"), clock);
        let mut believed = Vec::new();
        for _ in dates {
            client.send(Request::new(Body::empty())).await.unwrap();
            believed.push(time.at(clock.steady()));
            tokio::time::advance(std::time::Duration::from_secs(pause)).await;
        }
        believed
    }

    #[tokio::test(start_paused = true)]
    async fn the_servers_date_holds_where_the_clocks_differ() {
        for (date, wanted) in [
            (None, NOW),
            (Some("Sun, 01 Mar 2026 12:00:00 GMT"), "2026-03-01T12:00:00Z"),
            (Some("Sun, 01 Mar 2026 11:59:18 GMT"), "2026-03-01T11:59:18Z"),
            (Some("Sun, 01 Mar 2026 13:00:00 GMT"), "2026-03-01T13:00:00Z"),
            (Some("yesterday"), NOW),
        ] {
            assert_eq!(after(&[date], 0).await, [at(wanted)], "{date:?}");
        }
    }

    /// The server is 59 seconds ahead of a clock that shows 0.7, so an answer at its full second says most.
    #[tokio::test(start_paused = true)]
    async fn the_most_that_answers_of_late_say_counts() {
        let dates = ["12:00:59", "12:01:00", "12:00:58", "12:00:01", "12:00:01", "12:00:01"];
        let dates = dates.map(|time| Some(&*format!("Sun, 01 Mar 2026 {time} GMT").leak()));
        let at_once = ["12:00:59Z", "12:01:00Z", "12:01:00Z", "12:01:00Z", "12:01:00Z", "12:01:00Z"];
        assert_eq!(after(&dates, 0).await, at_once.map(|time| at(&format!("2026-03-01T{time}"))));
        // Somebody set it back, and what was said before is forgotten.
        let dates = ["12:01:00", "12:00:41", "12:01:21", "12:02:01", "12:02:41"];
        let dates = dates.map(|time| Some(&*format!("Sun, 01 Mar 2026 {time} GMT").leak()));
        let later = ["12:01:00Z", "12:01:40Z", "12:02:20Z", "12:03:00Z", "12:02:41Z"];
        assert_eq!(after(&dates, 40).await, later.map(|time| at(&format!("2026-03-01T{time}"))));
    }
}
