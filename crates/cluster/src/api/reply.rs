//! Answers: what their bodies are made of, and in which form objects are put into them.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::Stream;
use futures::stream::BoxStream;
use http::{HeaderValue, Response, StatusCode, header};
use http_body::Frame;
use jiff::Timestamp;
use serde_json::Value;

use super::query::Query;
use super::status::Status;
use super::table::{Terms, partial};
use crate::object::Object;
use crate::resource::Kind;

/// The body of an answer: one piece, or for a watch as many as there will be.
pub struct Body(Content);

enum Content {
    Whole(Option<Bytes>),
    Pieces(BoxStream<'static, Bytes>),
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").finish_non_exhaustive()
    }
}

impl Body {
    pub(crate) const fn whole(bytes: Bytes) -> Self {
        Self(Content::Whole(Some(bytes)))
    }

    pub(crate) fn pieces(stream: impl Stream<Item = Bytes> + Send + 'static) -> Self {
        Self(Content::Pieces(Box::pin(stream)))
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = match &mut self.0 {
            Content::Whole(bytes) => Poll::Ready(bytes.take()),
            Content::Pieces(stream) => stream.as_mut().poll_next(cx),
        };
        next.map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.0, Content::Whole(None))
    }
}

/// How objects are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// All of them.
    Whole,
    /// `PartialObjectMetadata`
    Metadata,
    /// Rows of a `Table`.
    Table(Terms),
}

/// What a range of an `Accept` header wants objects turned into, if it is one that is answered at all; empty for nothing.
fn accepted_as(range: &str) -> Option<&str> {
    let mut parameters = range.split(';').map(str::trim);
    if !matches!(parameters.next(), Some("*/*" | "application/json")) {
        return None;
    }
    let given: BTreeMap<&str, &str> = parameters.filter_map(|parameter| parameter.split_once('=')).collect();
    let [as_, group, version] = ["as", "g", "v"].map(|key| given.get(key).copied());
    match (as_, group, version) {
        (None, None, None) => Some(""),
        (Some(kind), Some("meta.k8s.io"), Some("v1")) => Some(kind),
        _ => None,
    }
}

impl Form {
    /// What an `Accept` header asks for, and the query with it.
    pub(crate) fn accepted(accept: &str, query: &Query) -> Result<Self, Status> {
        let mut ranges = accept.split(',').map(str::trim).filter(|range| !range.is_empty()).peekable();
        if ranges.peek().is_none() {
            return Ok(Self::Whole);
        }
        for wanted in ranges.filter_map(accepted_as) {
            match wanted {
                "" => return Ok(Self::Whole),
                "PartialObjectMetadata" | "PartialObjectMetadataList" => return Ok(Self::Metadata),
                "Table" => return Terms::of(query).map(Self::Table),
                _ => {}
            }
        }
        Err(Status::not_acceptable())
    }

    /// The form of what comes after the first event of a watch.
    pub(crate) const fn after_the_first(self) -> Self {
        match self {
            Self::Table(terms) => Self::Table(terms.after_the_first()),
            other => other,
        }
    }

    /// An object as it is sent.
    pub(crate) fn object(self, kind: Kind, object: &Object, now: Timestamp) -> Bytes {
        match self {
            Self::Whole => object.written().clone(),
            Self::Metadata => partial(object).to_string().into(),
            Self::Table(terms) => terms.one(kind, object, now).to_string().into(),
        }
    }

    /// What is no object of a kind: a Status, which is always itself, or a Scale.
    pub(crate) fn other(self, json: Value, now: Timestamp) -> Bytes {
        match self {
            Self::Table(terms) if json["kind"] == "Scale" => terms.scale(&json.into(), now).to_string().into(),
            Self::Whole | Self::Metadata | Self::Table(_) => json.to_string().into(),
        }
    }

    /// Many of them. In lists of the kinds that are not custom resources, `kind` and `apiVersion` are said once.
    pub(crate) fn list<'o>(
        self,
        kind: Kind,
        metadata: &Value,
        items: impl Iterator<Item = &'o Object>,
        now: Timestamp,
    ) -> Vec<u8> {
        let row = kind.resource();
        let custom = super::schema::of_kind(kind).is_none();
        let (list, version) = match self {
            Self::Whole => (format!("{}List", row.name), row.api_version()),
            Self::Metadata => ("PartialObjectMetadataList".to_owned(), "meta.k8s.io/v1".to_owned()),
            Self::Table(terms) => return terms.many(kind, metadata, items, now).to_string().into(),
        };
        let mut text =
            format!("{{\"kind\":\"{list}\",\"apiVersion\":\"{version}\",\"metadata\":{metadata},\"items\":[")
                .into_bytes();
        for (index, item) in items.enumerate() {
            if index > 0 {
                text.push(b',');
            }
            match (self, item.json()) {
                (Self::Whole, Value::Object(fields)) if !custom => {
                    text.push(b'{');
                    let fields = fields.iter().filter(|(name, _)| !matches!(name.as_str(), "kind" | "apiVersion"));
                    for (index, (name, value)) in fields.enumerate() {
                        if index > 0 {
                            text.push(b',');
                        }
                        text.push(b'"');
                        text.extend_from_slice(name.as_bytes());
                        text.extend_from_slice(b"\":");
                        serde_json::to_writer(&mut text, value).expect("a Vec takes everything");
                    }
                    text.push(b'}');
                }
                (form, _) => text.extend_from_slice(&form.object(kind, item, now)),
            }
        }
        text.extend_from_slice(b"]}");
        text
    }
}

/// A JSON answer.
pub(crate) fn respond(code: u16, bytes: impl Into<Bytes>, warnings: &[String]) -> Response<Body> {
    let mut response = Response::new(Body::whole(bytes.into()));
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    for warning in warnings {
        let quoted = warning.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{quoted}\"")) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
    response
}

/// A text.
pub(crate) fn text(code: u16, text: &str) -> Response<Body> {
    let mut response = respond(code, text.as_bytes().to_vec(), &[]);
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}

/// A refusal.
pub(crate) fn refuse(status: &Status) -> Response<Body> {
    if status.plain {
        return text(status.code, &status.message);
    }
    let warnings = status.warnings.as_ref().map_or(&[][..], |warnings| warnings);
    let mut response = respond(status.code, status.json().to_string().into_bytes(), warnings);
    if let Some(seconds) = status.retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}
