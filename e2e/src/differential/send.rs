//! Sends a sequence's requests to one API server and keeps what it answers. What the answers mean, and whether they are
//! right, is decided elsewhere.

use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use futures::StreamExt as _;
use http::{Request, Response, header};
use http_body_util::{BodyExt as _, BodyStream};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::step::{Filling, MARK, Reading, Sent, Step};

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub code: u16,
    pub content_type: String,
    pub retry_after: String,
    pub warnings: Vec<String>,
    /// Null of a watch that began; a text if it is no JSON.
    pub body: Value,
}

/// A watch that is being read, or was.
#[derive(Debug)]
pub(crate) enum Watch {
    Running(JoinHandle<Vec<Value>>),
    Over(Vec<Value>),
}

/// One sequence as one server sees it.
pub(crate) struct Talk {
    client: Client,
    namespace: String,
    /// A watch in which so long nothing comes has missed its mark.
    silence: Duration,
    answers: Vec<Value>,
    watches: Vec<(usize, Watch)>,
}

impl Talk {
    pub(crate) const fn new(client: Client, namespace: String, silence: Duration) -> Self {
        Self { client, namespace, silence, answers: Vec::new(), watches: Vec::new() }
    }

    /// Leaves out the next request, for which there is nothing to refer to then.
    pub(crate) fn skip(&mut self) {
        self.answers.push(Value::Null);
    }

    pub(crate) async fn send(&mut self, step: &Step) -> Result<Answer> {
        let number = self.answers.len();
        let request = self.request(step)?;
        let response = self.client.send(request).await.with_context(|| format!("no answer to {step}"))?;
        let mut answer = head(&response);
        match step.reading {
            Reading::UntilMark if answer.code == 200 => {
                let running = tokio::spawn(events(response, true, self.silence));
                self.watches.push((number, Watch::Running(running)));
            }
            Reading::ToEnd if answer.code == 200 => {
                self.watches.push((number, Watch::Over(events(response, false, self.silence).await)));
            }
            Reading::Whole | Reading::UntilMark | Reading::ToEnd => {
                let bytes = response.into_body().collect().await?.to_bytes();
                answer.body = parsed(&bytes);
            }
        }
        self.answers.push(answer.body.clone());
        Ok(answer)
    }

    fn request(&self, step: &Step) -> Result<Request<Body>> {
        let filling = Filling { namespace: &self.namespace, answers: &self.answers };
        let mut request = Request::builder()
            .method(step.method)
            .uri(filling.path(&step.path))
            .header(header::USER_AGENT, "differential/1");
        if step.body != Sent::Nothing {
            request = request.header(header::CONTENT_TYPE, step.content_type);
        }
        if !step.accept.is_empty() {
            request = request.header(header::ACCEPT, step.accept);
        }
        request.body(Body::from(filling.body(&step.body))).with_context(|| format!("no request: {step}"))
    }

    /// The events of all watches, by the number of the request that began them.
    pub(crate) async fn events(self) -> Result<Vec<(usize, Vec<Value>)>> {
        let mut all = Vec::new();
        for (number, watch) in self.watches {
            let events = match watch {
                Watch::Running(running) => running.await.context("a watch that is read")?,
                Watch::Over(events) => events,
            };
            all.push((number, events));
        }
        Ok(all)
    }
}

fn parsed(bytes: &Bytes) -> Value {
    serde_json::from_slice(bytes).unwrap_or_else(|_| String::from_utf8_lossy(bytes).into_owned().into())
}

fn head(response: &Response<Body>) -> Answer {
    let all = |name| {
        response.headers().get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    Answer {
        code: response.status().as_u16(),
        content_type: all(header::CONTENT_TYPE).collect(),
        retry_after: all(header::RETRY_AFTER).collect(),
        warnings: all(header::WARNING).collect(),
        body: Value::Null,
    }
}

/// Where an event has the metadata of what it tells of: a table has them in its row.
pub(crate) fn metadata_of(event: &Value) -> &'static str {
    if event["object"]["kind"] == "Table" { "/object/rows/0/object/metadata" } else { "/object/metadata" }
}

fn is_mark(event: &Value) -> bool {
    event.pointer(metadata_of(event)).is_some_and(|metadata| metadata["annotations"].get(MARK).is_some())
}

/// Reads the events of a watch. One that goes silent, or ends before its mark, ends with an event that says so.
async fn events(response: Response<Body>, until_mark: bool, silence: Duration) -> Vec<Value> {
    let mut pieces = BodyStream::new(response.into_body());
    let mut events = Vec::new();
    let mut unread = Vec::new();
    loop {
        let Ok(piece) = timeout(silence, pieces.next()).await else {
            events.push(json!({"type": "SILENCE"}));
            return events;
        };
        let Some(piece) = piece else {
            if until_mark {
                events.push(json!({"type": "END"}));
            }
            return events;
        };
        match piece.map(|piece| piece.into_data().unwrap_or_default()) {
            Ok(bytes) => unread.extend_from_slice(&bytes),
            Err(error) => {
                events.push(json!({"type": "BROKEN", "object": error.to_string()}));
                return events;
            }
        }
        while let Some(end) = unread.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = unread.drain(..=end).collect();
            let event = parsed(&Bytes::from(line));
            let over = until_mark && is_mark(&event);
            events.push(event);
            if over {
                return events;
            }
        }
    }
}
