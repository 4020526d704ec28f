//! The floor for any webhook: reads `request.uid` and answers "allowed", on the servers that everybody uses.
//!
//! `empty-handler PORT CERTIFICATE KEY`, with files in PEM. A process of its own, so that its CPU time can be told. At
//! `/smallest` it answers with a patch of one label, and at `/patch` with one of the size of ours, always the same: what the
//! API server does with a patch is in its measure of the webhook, whoever sends it.

use std::net::SocketAddr;

use anyhow::Context;
use axum::Router;
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::routing::post;
use axum_server::tls_rustls::RustlsConfig;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

#[derive(Deserialize)]
struct Review<'a> {
    #[serde(borrow)]
    request: Request<'a>,
}

#[derive(Deserialize)]
struct Request<'a> {
    uid: &'a str,
}

/// What steering adds to a pod of a Deployment.
const PATCH: &str = r#"[
{"op":"add","path":"/metadata/labels/spotalis.io~1capacity-type","value":"spot"},
{"op":"add","path":"/metadata/annotations","value":{"controller.kubernetes.io/pod-deletion-cost":"-1","spotalis.io/admission-id":"705ab4f5-6393-11e8-b7cc-42010a800002","spotalis.io/placement-reason":"slot 1 is spot","spotalis.io/slot":"1"}},
{"op":"add","path":"/spec/nodeSelector","value":{"karpenter.sh/capacity-type":"spot"}}
]"#;

/// Nobody who changes anything gets by with less.
const SMALLEST: &str = r#"[{"op":"add","path":"/metadata/labels/a","value":"b"}]"#;

async fn allow(body: Bytes) -> Result<String, StatusCode> {
    answer(&body, "")
}

async fn patch(body: Bytes) -> Result<String, StatusCode> {
    answer(&body, &patching(PATCH))
}

async fn smallest(body: Bytes) -> Result<String, StatusCode> {
    answer(&body, &patching(SMALLEST))
}

fn patching(patch: &str) -> String {
    format!(r#","patchType":"JSONPatch","patch":"{}""#, STANDARD.encode(patch))
}

fn answer(body: &[u8], more: &str) -> Result<String, StatusCode> {
    let review: Review<'_> = serde_json::from_slice(body).map_err(|_| StatusCode::BAD_REQUEST)?;
    let uid = review.request.uid;
    Ok(format!(
        r#"{{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","response":{{"uid":"{uid}","allowed":true{more}}}}}"#
    ))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    rustls::crypto::ring::default_provider().install_default().expect("the first provider of the process");
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().context("usage: empty-handler PORT CERTIFICATE KEY");
    let port: u16 = next()?.parse()?;
    let tls = RustlsConfig::from_pem_file(next()?, next()?).await?;
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let router =
        Router::new().route("/mutate", post(allow)).route("/patch", post(patch)).route("/smallest", post(smallest));
    axum_server::bind_rustls(address, tls).serve(router.into_make_service()).await?;
    Ok(())
}
