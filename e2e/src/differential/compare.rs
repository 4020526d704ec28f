//! Finds where two answers differ. What the words mean that are its own to each server is settled before; only times are
//! compared here, as the time that passed since the first one.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::canon::Canon;
use super::send::{Answer, metadata_of};

/// A request takes its time, and the two servers are asked at the same moment, not with the same clock.
const NEAR: SignedDuration = SignedDuration::from_secs(15);

/// One place in which two answers differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Difference {
    /// A pointer into the answer: `/code`, `/body/reason`, `/events/3/type`.
    pub at: String,
    /// What the real server says there; null if nothing.
    pub real: Value,
    /// What the embedded one says.
    pub here: Value,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, real, here } = self;
        write!(f, "at {at}\n      real: {real}\n      here: {here}")
    }
}

/// What two servers said.
#[derive(Debug, Default)]
pub(crate) struct Comparison {
    real: Canon,
    here: Canon,
}

impl Comparison {
    pub(crate) fn answers(&mut self, real: &Answer, here: &Answer) -> Vec<Difference> {
        let whole = |canon: &mut Canon, answer: &Answer| {
            let Answer { code, content_type, retry_after, warnings, body } = answer;
            let mut warnings = warnings.clone();
            warnings.sort();
            let body = canon.of(body);
            json!({
                "code": code, "contentType": content_type, "retryAfter": retry_after, "warnings": warnings, "body": body,
            })
        };
        if real.code != here.code {
            // The rest is another story, and what it names is nobody else's.
            return vec![Difference { at: "/code".to_owned(), real: real.code.into(), here: here.code.into() }];
        }
        let (real, here) = (whole(&mut self.real, real), whole(&mut self.here, here));
        self.differences(&real, &here)
    }

    /// How many events there were, and where they differ.
    pub(crate) fn events(&mut self, real: &[Value], here: &[Value]) -> (usize, Vec<Difference>) {
        let list = |canon: &mut Canon, events: &[Value]| -> Vec<Value> {
            let mut told = 0;
            let events = events.iter().filter(|event| !is_heartbeat(event));
            events.map(|event| canon.of(&without_reach(event, &mut told))).collect()
        };
        let (real, here) = (list(&mut self.real, real), list(&mut self.here, here));
        if real.len() != here.len() {
            let both = real.iter().zip(&here);
            let first = both.into_iter().position(|(real, here)| !self.differences(real, here).is_empty());
            let first = first.unwrap_or(real.len().min(here.len()));
            let at = |events: &[Value]| events.get(first).map(brief).unwrap_or_default();
            let at = Difference { at: format!("/events/{first}"), real: at(&real), here: at(&here) };
            return (real.len(), vec![at]);
        }
        (real.len(), self.differences(&json!({"events": real}), &json!({"events": here})))
    }

    fn differences(&self, real: &Value, here: &Value) -> Vec<Difference> {
        let mut found = Vec::new();
        self.walk("", real, here, &mut found);
        found
    }

    fn walk(&self, at: &str, real: &Value, here: &Value, found: &mut Vec<Difference>) {
        match (real, here) {
            (Value::Object(a), Value::Object(b)) => {
                let keys: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
                for key in keys {
                    let of = |map: &serde_json::Map<String, Value>| map.get(key).cloned().unwrap_or_default();
                    let at = format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"));
                    match (a.get(key), b.get(key)) {
                        (Some(a), Some(b)) => self.walk(&at, a, b, found),
                        _ => found.push(Difference { at, real: of(a), here: of(b) }),
                    }
                }
            }
            (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
                a.iter().zip(b).enumerate().for_each(|(i, (a, b))| self.walk(&format!("{at}/{i}"), a, b, found));
            }
            _ if real == here || self.is_same_time(real, here) => {}
            _ => found.push(Difference { at: at.to_owned(), real: real.clone(), here: here.clone() }),
        }
    }

    fn is_same_time(&self, real: &Value, here: &Value) -> bool {
        let since = |canon: &Canon, value: &Value| canon.since_origin(value.as_str()?.parse::<Timestamp>().ok()?);
        match (since(&self.real, real), since(&self.here, here)) {
            (Some(real), Some(here)) => (real - here).abs() <= NEAR,
            _ => false,
        }
    }
}

/// A bookmark that comes when its time has come, and tells nothing else.
fn is_heartbeat(event: &Value) -> bool {
    let metadata = event.pointer(metadata_of(event));
    event["type"] == "BOOKMARK" && metadata.is_none_or(|metadata| metadata.get("annotations").is_none())
}

/// Up to which revision a bookmark tells depends on what others wrote meanwhile; it must not be less than what was told.
fn without_reach(event: &Value, told: &mut u64) -> Value {
    let revision = &event["object"]["metadata"]["resourceVersion"];
    let revision = revision.as_str().and_then(|text| text.parse().ok()).unwrap_or(0);
    let is_behind = revision < *told;
    *told = revision.max(*told);
    let mut event = event.clone();
    if event["type"] == "BOOKMARK" {
        let reach = if is_behind { "less than was told" } else { "all that was told" };
        for place in ["/object/metadata", metadata_of(&event)] {
            if let Some(metadata) = event.pointer_mut(place) {
                metadata["resourceVersion"] = reach.into();
            }
        }
    }
    event
}

fn brief(event: &Value) -> Value {
    json!({"type": event["type"], "name": event["object"]["metadata"]["name"], "message": event["object"]["message"]})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(code: u16, body: Value) -> Answer {
        Answer { code, content_type: String::new(), retry_after: String::new(), warnings: Vec::new(), body }
    }

    #[test]
    fn every_place_is_told() {
        let real = answer(200, json!({"a": 1, "b": [1, 2], "c": {"d": "x"}}));
        let here = answer(200, json!({"a": 1, "b": [1, 3], "c": {"e/f": "x"}}));
        let found = Comparison::default().answers(&real, &here);
        let places: Vec<&str> = found.iter().map(|difference| difference.at.as_str()).collect();
        assert_eq!(places, ["/body/b/1", "/body/c/d", "/body/c/e~1f"]);
        let found = Comparison::default().answers(&real, &answer(404, json!({})));
        assert_eq!((found.len(), found[0].at.as_str()), (1, "/code"));
    }

    #[test]
    fn times_are_compared_by_what_passed_since_the_first() {
        let mut comparison = Comparison::default();
        let first = |time: &str| answer(200, json!({"time": time}));
        assert_eq!(comparison.answers(&first("2026-01-01T00:00:00Z"), &first("2030-01-01T00:00:00Z")), []);
        assert_eq!(comparison.answers(&first("2026-01-01T00:00:30Z"), &first("2030-01-01T00:00:31Z")), []);
        assert_eq!(comparison.answers(&first("2026-01-01T00:00:30Z"), &first("2030-01-01T00:01:00Z")).len(), 1);
    }

    #[test]
    fn an_event_too_many_is_told() {
        let event = |name: &str| json!({"type": "ADDED", "object": {"metadata": {"name": name}}});
        let (_, found) = Comparison::default().events(&[event("a"), event("b")], &[event("b")]);
        assert_eq!((found.len(), found[0].at.as_str(), &found[0].real["name"]), (1, "/events/0", &json!("a")));
    }
}
