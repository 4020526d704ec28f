//! `--from-cluster`: reads the objects that can be simulated, and the nodes. Nothing is written to the cluster, nothing is
//! watched.

use kube::core::params::ListParams;
use serde::Deserialize;
use serde_json::Value;
use spotalis_config::Config;
use spotalis_core::capacity::CapacityType;
use spotalis_core::selector::Labels;
use spotalis_kube::index::View;
use spotalis_kube::watch::Failure;
use spotalis_runtime::apiclient::Cluster;
use spotalis_sim::whatif::{Manifest, Origin, Quantity, Seen, stripped};

use crate::exit::talk;
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

const NODES: Source = Source { kind: "Node", group: "", version: "v1", plural: "nodes" };

/// Nodes that are not for workloads have this label.
const CONTROL_PLANE: &str = "node-role.kubernetes.io/control-plane";
/// Where a node is.
const ZONE: &str = "topology.kubernetes.io/zone";

/// What a cluster has of what can be simulated.
#[derive(Debug, Default)]
pub struct There {
    /// Its objects, as manifests.
    pub manifests: Vec<Manifest>,
    /// Its nodes; none where they may not be listed.
    pub nodes: Vec<Seen>,
}

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

/// Reads all namespaces, or one.
pub async fn read(cluster: &Cluster, config: &Config, namespace: Option<&str>) -> Result<There, ViewError> {
    let manifests = manifests(cluster, namespace).await?;
    let nodes = match list(cluster, &NODES, None).await {
        Ok(nodes) => nodes.iter().filter_map(|node| seen(config, node)).collect(),
        // Whoever sees one namespace need not see nodes; the fleet can be described by hand.
        Err(ViewError::Forbidden { server: _, permissions: _ }) => {
            talk("note: nodes may not be listed, so the fleet is not that of the cluster");
            Vec::new()
        }
        Err(error) => return Err(error),
    };
    Ok(There { manifests, nodes })
}

fn seen(config: &Config, node: &Value) -> Option<Seen> {
    let labels = node.pointer("/metadata/labels").and_then(Value::as_object);
    let labels: Labels = labels
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.as_str().into(), value.as_str()?.into())))
        .collect();
    let has = |resource: &str| Quantity::of(&node["status"]["allocatable"][resource]);
    let is_for_workloads = !labels.contains_key(CONTROL_PLANE) && has("cpu") > Quantity::ZERO;
    is_for_workloads.then(|| Seen {
        spot: config.classes.classify(&labels) == Some(CapacityType::Spot),
        cpu: has("cpu"),
        memory: has("memory"),
        zone: labels.get(ZONE).map(ToString::to_string),
    })
}

/// The objects of all namespaces, or of one, as manifests.
async fn manifests(cluster: &Cluster, namespace: Option<&str>) -> Result<Vec<Manifest>, ViewError> {
    let mut found = Vec::new();
    match namespace {
        // Somebody who may see one namespace may get it, not list all.
        Some(name) => {
            view::namespace(cluster, name).await?;
            let object: Value = view::get(cluster, View::Namespaces, "", name).await?;
            found.extend(manifest(&NAMESPACES, &object));
        }
        None => found.extend(list(cluster, &NAMESPACES, None).await?.iter().filter_map(|it| manifest(&NAMESPACES, it))),
    }
    for source in &NAMESPACED {
        found.extend(list(cluster, source, namespace).await?.iter().filter_map(|it| manifest(source, it)));
    }
    Ok(found)
}

fn manifest(source: &Source, object: &Value) -> Option<Manifest> {
    let object = stripped(source.kind, &source.api_version(), object)?;
    Some(Manifest { object, origin: Origin::Cluster })
}

async fn list(cluster: &Cluster, source: &Source, namespace: Option<&str>) -> Result<Vec<Value>, ViewError> {
    let mut tries = 1;
    loop {
        match pages(cluster, source, namespace).await {
            Ok(objects) => return Ok(objects),
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
