//! What the controller last told about each workload, read from its Events.
//!
//! Its own evictions, and what came of them, the controller alone remembers; but it tells what it concludes. So a command
//! that would say "the controller evicts X now" can know better. Nothing is decided here.

use std::collections::BTreeMap;

use jiff::Timestamp;
use kube::Client;
use kube::core::params::ListParams;
use serde::Deserialize;

use spotalis_runtime::events::CONTROLLER;

/// Events per page.
const PAGE: u32 = 500;

/// The controller's last word about an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The reason's code.
    pub reason: String,
    /// When it was last told.
    pub at: Timestamp,
    /// How often in a row.
    pub times: u32,
}

/// By the UID of what is told about.
pub type Words = BTreeMap<String, Told>;

/// Only what is needed; Events of either API group come out of the core one.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    involved_object: Subject,
    #[serde(default)]
    reason: String,
    #[serde(default, rename = "eventTime")]
    at: Option<Timestamp>,
    #[serde(default)]
    series: Option<Series>,
}

#[derive(Debug, Deserialize)]
struct Subject {
    #[serde(default)]
    uid: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Series {
    #[serde(default)]
    count: u32,
    #[serde(default)]
    last_observed_time: Option<Timestamp>,
}

#[derive(Debug, Deserialize)]
struct Page {
    metadata: PageMeta,
    items: Vec<Event>,
}

#[derive(Debug, Deserialize)]
struct PageMeta {
    #[serde(default)]
    r#continue: Option<String>,
}

/// Reads the controller's last words, in one namespace or in all of them.
pub async fn read(client: &Client, namespace: Option<&str>) -> Result<Words, kube::Error> {
    let path = match namespace {
        Some(namespace) => format!("/api/v1/namespaces/{namespace}/events"),
        None => "/api/v1/events".to_owned(),
    };
    let mut words = Words::new();
    let mut params = ListParams::default().fields(&format!("reportingComponent={CONTROLLER}")).limit(PAGE);
    loop {
        let request = kube::core::Request::new(&path).list(&params).map_err(kube::Error::BuildRequest)?;
        let page: Page = client.request(request).await?;
        page.items.into_iter().for_each(|event| remember(&mut words, event));
        match page.metadata.r#continue.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(words),
        }
    }
}

/// Keeps the newest word about each object.
fn remember(words: &mut Words, Event { involved_object, reason, at, series }: Event) {
    let times = series.as_ref().map_or(1, |series| series.count.max(1));
    let Some(at) = series.and_then(|series| series.last_observed_time).or(at) else { return };
    let newer = words.get(&involved_object.uid).is_none_or(|known| known.at <= at);
    if newer {
        words.insert(involved_object.uid, Told { reason, at, times });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_word_counts() {
        let event = |uid: &str, reason: &str, minute: u32, again: Option<u32>| {
            let at = |minute: u32| Some(format!("2026-03-01T10:{minute:02}:00Z").parse().unwrap());
            let series = again.map(|minute| Series { count: 3, last_observed_time: at(minute) });
            Event {
                involved_object: Subject { uid: uid.to_owned() },
                reason: reason.to_owned(),
                at: at(minute),
                series,
            }
        };
        let mut words = Words::new();
        for told in [
            event("web", "WebhookNotSteering", 10, Some(30)),
            event("web", "Rebalanced", 20, None),
            event("api", "Rebalanced", 5, None),
            Event { at: None, ..event("old", "Rebalanced", 5, None) },
        ] {
            remember(&mut words, told);
        }
        let word = |uid: &str| words.get(uid).map(|told| (&*told.reason, told.times));
        assert_eq!(word("web"), Some(("WebhookNotSteering", 3)));
        assert_eq!(word("api"), Some(("Rebalanced", 1)));
        assert_eq!(word("old"), None, "an Event without a time is nobody's last word");
    }
}
