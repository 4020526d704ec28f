//! Whether the API server would take the objects. It is asked: an embedded cluster that nobody else looks at.

use bytes::Bytes;
use embedded_cluster::resource::Kind;
use embedded_cluster::{Cluster, Misfit, Options};
use kube::Client;
use serde_json::Value;

use super::kind_of;
use crate::play;
use crate::whatif::manifests::{Complaint, Complaints, Manifest, Origin};
use crate::whatif::written::pointer;

/// The objects as the API server shows them; what it refuses, in its words and with its place. Namespaces come first.
pub(super) fn admitted(manifests: &[Manifest]) -> Result<Vec<Value>, Complaints> {
    crate::embedded::in_no_time(async {
        let client = Client::new(Cluster::new(Options::default()).service(), "default");
        let (mut admitted, mut complaints) = (Vec::new(), Vec::new());
        for manifest in manifests {
            match create(&client, manifest).await {
                Ok(object) => admitted.push(object),
                Err(kube::Error::Api(status)) => complaints.extend(complain(manifest, &status)),
                Err(error) => complaints.push(manifest.complain("", error.to_string())),
            }
        }
        if complaints.is_empty() { Ok(admitted) } else { Err(Complaints(complaints)) }
    })
}

async fn create(client: &Client, manifest: &Manifest) -> Result<Value, kube::Error> {
    let object = &manifest.object;
    let kind = kind_of(object).expect("only known kinds are taken");
    let namespace = if kind.resource().namespaced { manifest.text("/metadata/namespace") } else { "" };
    // A cluster may be newer than what is known here; who writes by hand wants to hear of what does not exist.
    let validation = match &manifest.origin {
        Origin::File(_) => "Strict",
        Origin::Cluster => "Ignore",
    };
    let path = format!("{}?fieldValidation={validation}", play::path(kind, namespace, None));
    let body = Bytes::from(object.to_string()).to_vec();
    let request = http::Request::post(path).header(http::header::CONTENT_TYPE, "application/json").body(body);
    match client.request(request.expect("names of namespaces are words")).await {
        // Every cluster has some namespaces of its own.
        Err(kube::Error::Api(status)) if status.code == 409 && kind == Kind::Namespace => Ok(object.clone()),
        outcome => outcome,
    }
}

/// One complaint for each field that is wrong.
fn complain(manifest: &Manifest, status: &kube::core::Status) -> Vec<Complaint> {
    let named = |field: &str, what: &str| manifest.complain_by_name(field, what);
    let causes = status.details.iter().flat_map(|details| &details.causes);
    let told: Vec<Complaint> =
        causes.map(|cause| named(&cause.field, &format!("{}: {}", cause.field, cause.message))).collect();
    if !told.is_empty() {
        return told;
    }
    let unknown: Vec<Complaint> = unknown_fields(&status.message)
        .map(|(what, field)| {
            let around = field.rsplit_once('.').map_or("", |(around, _)| around);
            let place = if what == "unknown" { field } else { around };
            named(place, &format!("{what} field {field:?}"))
        })
        .collect();
    if !unknown.is_empty() {
        return unknown;
    }
    vec![match embedded_cluster::misfit(&manifest.object) {
        Some(Misfit { field, why }) => named(&field, &format!("{field}: {why}{}", quoted(manifest, &field, &why))),
        None => named("", &status.message),
    }]
}

/// What to write instead of a number or a truth where a text belongs, as in labels, annotations and variables.
fn quoted(manifest: &Manifest, field: &str, why: &str) -> String {
    match manifest.object.pointer(&pointer(field)) {
        Some(value @ (Value::Number(_) | Value::Bool(_))) if why.ends_with("of type string") => {
            format!("; put it in quotes: {:?}", value.to_string())
        }
        _ => String::new(),
    }
}

/// `strict decoding error: unknown field "spec.replcas", duplicate field "spec.paused"`
fn unknown_fields(message: &str) -> impl Iterator<Item = (&'static str, &str)> {
    let strict = message.split_once("strict decoding error: ").map_or("", |(_, fields)| fields);
    strict.split(", ").filter_map(|part| {
        let (what, field) = part.split_once(" field ")?;
        let what = ["unknown", "duplicate"].into_iter().find(|word| *word == what)?;
        Some((what, field.trim_matches('"')))
    })
}
