//! The seam: an HTTP request comes in, an HTTP response goes out. Here it is found out who answers it, how long that takes,
//! and it is written down.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::header::DATE;
use http::{HeaderValue, Method, Response};
use http_body_util::BodyExt as _;
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;
use serde_json::Value;
use tokio::time::sleep;

use super::query::Query;
use super::reply::{Body, Form, refuse, respond};
use super::request::{Request, Route, Target, Verb, header, route, verb};
use super::status::Status;
use super::{body, discovery};
use crate::cluster::{Answered, Cluster};
use crate::object::Object;
use crate::resource::Kind;

/// A Kubernetes API as a `tower::Service`.
#[derive(Clone, Debug)]
pub struct ApiService {
    cluster: Cluster,
}

impl Cluster {
    /// The API, for `kube::Client::new`.
    pub fn service(&self) -> ApiService {
        ApiService { cluster: self.clone() }
    }
}

/// What a request led to.
pub(crate) enum Outcome {
    /// An object, with the code.
    Object(u16, Arc<Object>),
    /// Some other JSON object, as a Status or a Scale.
    Json(u16, Value),
    /// A list, already written.
    List(Vec<u8>),
    /// A watch.
    Stream(Body),
}

/// An outcome, and what is to be said about the request although it is done.
pub(crate) struct Reply {
    pub outcome: Outcome,
    pub warnings: Vec<String>,
}

impl From<Outcome> for Reply {
    fn from(outcome: Outcome) -> Self {
        Self { outcome, warnings: Vec::new() }
    }
}

impl<B> tower::Service<http::Request<B>> for ApiService
where
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<Body>;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = BoxFuture<'static, Result<Response<Body>, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let cluster = self.cluster.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.map_err(Into::into)?.to_bytes();
            let Ok(response) = answer(&cluster, &parts, body).await;
            Ok(response)
        })
    }
}

async fn answer(cluster: &Cluster, parts: &http::request::Parts, body: Bytes) -> Result<Response<Body>, Infallible> {
    let (there, back) = cluster.latency();
    // Sleeping for no time would still let others go first.
    if !there.is_zero() {
        sleep(there).await;
    }
    let mut response = serve(cluster, parts, body).await.unwrap_or_else(|status| refuse(&status));
    response.headers_mut().insert(DATE, date(cluster.now()));
    if !back.is_zero() {
        sleep(back).await;
    }
    Ok(response)
}

/// As every server says it (RFC 9110 section 6.6.1).
fn date(now: Timestamp) -> HeaderValue {
    let text = DateTimePrinter::new().timestamp_to_rfc9110_string(&now).ok();
    text.and_then(|text| HeaderValue::try_from(text).ok()).unwrap_or(HeaderValue::from_static(""))
}

async fn serve(cluster: &Cluster, parts: &http::request::Parts, body: Bytes) -> Result<Response<Body>, Status> {
    let target = match route(parts.uri.path())? {
        Route::Objects(target) => target,
        Route::Page(path) => {
            let result = discovery::page(cluster, &parts.method, &path);
            return result.map(Page::into_response);
        }
    };
    let query = Query::parse(parts.uri.query().unwrap_or_default());
    let verb = verb(&parts.method, &target, &query)?;
    let user_agent = header(&parts.headers, "user-agent");
    let request = Request {
        verb,
        target,
        query,
        accept: header(&parts.headers, "accept"),
        content_type: header(&parts.headers, "content-type"),
        user_agent,
        body,
    };
    let result = match Form::accepted(&request.accept, &request.query) {
        Ok(form) => {
            let reply = handle(cluster, &request, form).await;
            reply.map(|reply| written(reply, request.target.kind, form, cluster.now()))
        }
        Err(status) => Err(status),
    };
    record(cluster, request, result.as_ref().map_or_else(|status| status.code, |response| response.status().as_u16()));
    result
}

fn record(cluster: &Cluster, request: Request, code: u16) {
    let Request { verb, target: Target { kind, namespace, name, subresource }, user_agent, .. } = request;
    let at = cluster.now();
    cluster.answered(|revision| Answered {
        at,
        verb: verb.name(),
        kind,
        namespace,
        name: name.unwrap_or_default(),
        subresource,
        user_agent,
        code,
        revision,
    });
}

fn written(reply: Reply, kind: Kind, form: Form, now: Timestamp) -> Response<Body> {
    let (code, bytes) = match reply.outcome {
        Outcome::Object(code, object) => (code, form.object(kind, &object, now)),
        Outcome::Json(code, json) => (code, form.other(json, now)),
        Outcome::List(bytes) => (200, bytes.into()),
        Outcome::Stream(body) => return respond(200, Bytes::new(), &reply.warnings).map(|_| body),
    };
    respond(code, bytes, &reply.warnings)
}

async fn handle(cluster: &Cluster, request: &Request, form: Form) -> Result<Reply, Status> {
    match (request.verb, request.target.subresource) {
        (Verb::Get, "scale") => cluster.get_scale(request),
        (Verb::Get, _) => cluster.get(request).await,
        (Verb::List, _) => cluster.list(request, form).await,
        (Verb::Watch, _) => cluster.watch(request, form),
        (Verb::Create, "eviction") => cluster.evict(request),
        (Verb::Create, "binding") => cluster.bind(request),
        (Verb::Create, _) => cluster.create(request).await,
        (Verb::Update, "scale") => cluster.put_scale(request).await,
        (Verb::Update, _) => cluster.replace(request).await,
        (Verb::Patch, "scale") => cluster.patch_scale(request).await,
        (Verb::Patch, _) => cluster.patch(request).await,
        (Verb::Delete, _) => cluster.delete(request).await,
        (Verb::DeleteCollection, _) => cluster.delete_collection(request, form),
    }
}

/// A page beside the objects.
pub(crate) enum Page {
    /// JSON.
    Json(Value),
    /// A text.
    Text(&'static str),
}

impl Page {
    fn into_response(self) -> Response<Body> {
        match self {
            Self::Json(json) => respond(200, json.to_string().into_bytes(), &[]),
            Self::Text(text) => super::reply::text(200, text),
        }
    }
}

/// Only what is read can be asked of a page.
pub(crate) fn check_page(method: &Method) -> Result<(), Status> {
    if method == Method::GET { Ok(()) } else { Err(Status::method_not_allowed()) }
}

/// Whether a write is of JSON; patches have media types of their own.
pub(crate) fn check_body(request: &Request) -> Result<(), Status> {
    body::check_media(&request.content_type)
}
