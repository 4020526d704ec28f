//! One request to the API server and what it answers, with nobody's interpretation between.

use anyhow::{Context as _, Result};
use http::{Method, Request, header};
use http_body_util::BodyExt as _;
use kube::Client;
use kube::client::Body;
use serde_json::Value;

/// JSON as it is.
pub const JSON: &str = "application/json";
/// RFC 7386.
pub const MERGE: &str = "application/merge-patch+json";

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub code: u16,
    /// `Retry-After`, in seconds.
    pub retry_after: Option<u64>,
    /// The body, as text.
    pub text: String,
}

impl Answer {
    /// The body as JSON; null if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_default()
    }

    /// `reason` of a Status; empty if there is none.
    pub fn reason(&self) -> String {
        self.json()["reason"].as_str().unwrap_or_default().to_owned()
    }

    /// The reasons of a Status's causes.
    pub fn causes(&self) -> Vec<String> {
        let causes = self.json()["details"]["causes"].as_array().cloned().unwrap_or_default();
        causes.iter().filter_map(|cause| cause["reason"].as_str().map(str::to_owned)).collect()
    }
}

/// Sends a body of this type, or none, and tells the answer, whatever it is.
pub async fn ask(client: &Client, method: Method, path: &str, body: Option<(&str, &Value)>) -> Result<Answer> {
    let request = Request::builder().method(method).uri(path);
    let request = match body {
        Some((content_type, body)) => {
            request.header(header::CONTENT_TYPE, content_type).body(Body::from(body.to_string().into_bytes()))
        }
        None => request.body(Body::empty()),
    };
    let response = client.send(request?).await?;
    let code = response.status().as_u16();
    let retry_after = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let bytes = response.into_body().collect().await?.to_bytes();
    let text = String::from_utf8(bytes.to_vec()).context("an answer that is no text")?;
    Ok(Answer { code, retry_after, text })
}
