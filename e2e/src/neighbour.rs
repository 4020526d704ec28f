//! Another admission webhook in the same cluster: it remembers what it was asked, and labels pods if it is told to.
//!
//! It borrows the product's listener and nothing else of it.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::{Request, Response};
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use kube::api::PostParams;
use kube::{Api, Client};
use parking_lot::Mutex;
use serde_json::{Value, json};
use spotalis_webhook::certs::{Certificates, ClientVerification};
use spotalis_webhook::server::{Limits, Listener};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::Authority;

const PATH: &str = "/neighbour";
/// The label that it gives to pods.
const LABEL: &str = "neighbour";

/// One review as it came.
#[derive(Clone, Debug)]
pub struct Review {
    /// `request.uid`.
    pub uid: String,
    /// The pod.
    pub pod: Value,
}

/// A webhook that listens. Dropping it ends it.
#[derive(Debug)]
pub struct Neighbour {
    port: u16,
    authority: Authority,
    reviews: Arc<Mutex<Vec<Review>>>,
    _ends: DropGuard,
}

impl Neighbour {
    /// Listens; `directory` is for its certificate. With `labels` it changes every pod that it has not changed yet.
    pub async fn start(directory: &Path, labels: bool) -> Result<Self> {
        let authority = Authority::new()?;
        authority.write(directory)?;
        let certificates = Certificates::load(directory, ClientVerification::Off).await?;
        let listener = Listener::bind((Ipv4Addr::LOCALHOST, 0).into()).await?;
        let port = listener.address().port();
        let reviews = Arc::<Mutex<Vec<Review>>>::default();
        let heard = reviews.clone();
        let answer = move |request: Request<Bytes>| {
            let answer = answer(request.body(), labels, &heard);
            async move { answer }
        };
        let stop = CancellationToken::new();
        let tls = move || certificates.current().webhook.clone();
        tokio::spawn(stop.clone().run_until_cancelled_owned(listener.serve(
            PATH,
            answer,
            tls,
            Limits::default(),
            stop.clone(),
        )));
        Ok(Self { port, authority, reviews, _ends: stop.drop_guard() })
    }

    /// Has the API server call it for the pods of one namespace. Webhooks are called in the order of their names.
    pub async fn register(&self, client: Client, name: &str, namespace: &str) -> Result<()> {
        let configuration: MutatingWebhookConfiguration = serde_json::from_value(json!({
            "metadata": {"name": name},
            "webhooks": [{
                "name": "pods.neighbour.example",
                "admissionReviewVersions": ["v1"],
                "clientConfig": {
                    "url": format!("https://127.0.0.1:{}{PATH}", self.port),
                    "caBundle": ByteString(self.authority.pem().into()),
                },
                "failurePolicy": "Fail",
                "reinvocationPolicy": "IfNeeded",
                "sideEffects": "None",
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
                "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}],
            }],
        }))?;
        Api::all(client).create(&PostParams::default(), &configuration).await?;
        Ok(())
    }

    /// What it was asked so far.
    pub fn reviews(&self) -> Vec<Review> {
        self.reviews.lock().clone()
    }
}

fn answer(body: &[u8], labels: bool, heard: &Mutex<Vec<Review>>) -> Response<Bytes> {
    match review(body) {
        Err(error) => {
            let mut response = Response::new(Bytes::from(format!("{error:#}")));
            *response.status_mut() = http::StatusCode::BAD_REQUEST;
            response
        }
        Ok(review) => {
            let mut response = json!({"uid": review.uid, "allowed": true});
            if labels && review.pod["metadata"]["labels"][LABEL].is_null() {
                let patch = json!([{"op": "add", "path": format!("/metadata/labels/{LABEL}"), "value": "was-here"}]);
                response["patchType"] = json!("JSONPatch");
                response["patch"] = json!(ByteString(patch.to_string().into_bytes()));
            }
            heard.lock().push(review);
            let answer = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response});
            let mut response = Response::new(Bytes::from(answer.to_string()));
            let json = http::HeaderValue::from_static("application/json");
            response.headers_mut().insert(http::header::CONTENT_TYPE, json);
            response
        }
    }
}

fn review(body: &[u8]) -> Result<Review> {
    let mut review: Value = serde_json::from_slice(body)?;
    let uid = review["request"]["uid"].as_str().context("a review has a uid")?.to_owned();
    Ok(Review { uid, pod: review["request"]["object"].take() })
}
