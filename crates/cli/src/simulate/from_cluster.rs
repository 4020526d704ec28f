//! `--from-cluster`: reads the objects that can be simulated. Nothing is written to the cluster, nothing is watched.

use kube::core::params::ListParams;
use serde::Deserialize;
use serde_json::Value;
use spotalis_kube::index::View;
use spotalis_kube::watch::Failure;
use spotalis_runtime::apiclient::Cluster;
use spotalis_sim::whatif::{Manifest, Origin, stripped};

use crate::view::{self, Permission, ViewError};

/// Objects per page.
const PAGE: u32 = 500;
/// How often a list is begun whose continuation the server has forgotten meanwhile.
const TRIES: u32 = 3;

/// A kind that is read.
struct Source {
    kind: &'static str,
    group: &'static str,
    version: &'static str,
    plural: &'static str,
}

const NAMESPACES: Source = Source { kind: "Namespace", group: "", version: "v1", plural: "namespaces" };

const NAMESPACED: [Source; 4] = [
    Source { kind: "Deployment", group: "apps", version: "v1", plural: "deployments" },
    Source { kind: "StatefulSet", group: "apps", version: "v1", plural: "statefulsets" },
    Source { kind: "PodDisruptionBudget", group: "policy", version: "v1", plural: "poddisruptionbudgets" },
    Source { kind: "HorizontalPodAutoscaler", group: "autoscaling", version: "v2", plural: "horizontalpodautoscalers" },
];

#[derive(Deserialize)]
struct Page {
    metadata: PageMeta,
    #[serde(default)]
    items: Vec<Value>,
}

#[derive(Deserialize)]
struct PageMeta {
    #[serde(default)]
    r#continue: Option<String>,
}

/// The objects of all namespaces, or of one, as manifests.
pub async fn read(cluster: &Cluster, namespace: Option<&str>) -> Result<Vec<Manifest>, ViewError> {
    let mut found = Vec::new();
    match namespace {
        // Somebody who may see one namespace may get it, not list all.
        Some(name) => {
            view::namespace(cluster, name).await?;
            let object: Value = view::get(cluster, View::Namespaces, "", name).await?;
            found.extend(manifest(&NAMESPACES, &object));
        }
        None => found.extend(list(cluster, &NAMESPACES, None).await?),
    }
    for source in &NAMESPACED {
        found.extend(list(cluster, source, namespace).await?);
    }
    Ok(without_idle_namespaces(found))
}

fn manifest(source: &Source, object: &Value) -> Option<Manifest> {
    let object = stripped(source.kind, &source.api_version(), object)?;
    Some(Manifest { object, origin: Origin::Cluster })
}

/// A cluster has many namespaces in which nothing is simulated.
fn without_idle_namespaces(manifests: Vec<Manifest>) -> Vec<Manifest> {
    let text = |manifest: &Manifest, pointer: &str| {
        manifest.object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let used: std::collections::BTreeSet<String> =
        manifests.iter().map(|manifest| text(manifest, "/metadata/namespace")).collect();
    let is_needed = |manifest: &Manifest| {
        text(manifest, "/kind") != "Namespace" || used.contains(&text(manifest, "/metadata/name"))
    };
    manifests.into_iter().filter(is_needed).collect()
}

async fn list(cluster: &Cluster, source: &Source, namespace: Option<&str>) -> Result<Vec<Manifest>, ViewError> {
    let mut tries = 1;
    loop {
        match pages(cluster, source, namespace).await {
            Ok(objects) => return Ok(objects.iter().filter_map(|object| manifest(source, object)).collect()),
            Err(kube::Error::Api(status)) if status.code == 410 && tries < TRIES => tries += 1,
            Err(error) => return Err(verdict(cluster, source, namespace, error)),
        }
    }
}

async fn pages(cluster: &Cluster, source: &Source, namespace: Option<&str>) -> Result<Vec<Value>, kube::Error> {
    let path = source.path(namespace);
    let mut params = ListParams::default().limit(PAGE);
    let mut found = Vec::new();
    loop {
        let request = kube::core::Request::new(&path).list(&params).map_err(kube::Error::BuildRequest)?;
        let page: Page = cluster.client.request(request).await?;
        found.extend(page.items);
        match page.metadata.r#continue.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(found),
        }
    }
}

fn verdict(cluster: &Cluster, source: &Source, namespace: Option<&str>, error: kube::Error) -> ViewError {
    let server = cluster.server.clone();
    let resource = source.plural;
    match error {
        kube::Error::Api(status) => match status.code {
            401 => ViewError::Expired { server },
            403 => {
                let namespace = namespace.map(str::to_owned);
                ViewError::Forbidden {
                    server,
                    permissions: vec![Permission { verb: "list", resource: source.full_name(), namespace }],
                }
            }
            404 => ViewError::Absent { server, resource },
            code => ViewError::Refused { server, verb: "list", resource, code, message: status.message },
        },
        source => ViewError::Unanswered { server, source: Failure::Api { verb: "list", resource, source } },
    }
}

impl Source {
    fn api_version(&self) -> String {
        let Self { group, version, .. } = self;
        if group.is_empty() { (*version).to_owned() } else { format!("{group}/{version}") }
    }

    /// The resource with its group, as kubectl and Roles want it.
    fn full_name(&self) -> String {
        let Self { group, plural, .. } = self;
        if group.is_empty() { (*plural).to_owned() } else { format!("{plural}.{group}") }
    }

    fn path(&self, namespace: Option<&str>) -> String {
        let root = if self.group.is_empty() { "api" } else { "apis" };
        let within = namespace.map(|name| format!("namespaces/{name}/")).unwrap_or_default();
        format!("/{root}/{}/{within}{}", self.api_version(), self.plural)
    }
}
