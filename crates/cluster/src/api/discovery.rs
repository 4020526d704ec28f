//! Pages beside the objects: which groups and kinds there are, the version, and whether the server lives. Enough for
//! clients that look before they ask.

use http::Method;
use serde_json::{Map, Value, json};

use super::service::{Page, check_page};
use super::status::Status;
use crate::cluster::Cluster;
use crate::resource::{Kind, RESOURCES, Resource};

/// The minor version of Kubernetes that this behaves as.
const MINOR: &str = "36";
/// The release of it.
pub(crate) const RELEASE: &str = "v1.36.3";

pub(crate) fn page(_: &Cluster, method: &Method, path: &str) -> Result<Page, Status> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let page = match parts.as_slice() {
        ["healthz" | "readyz" | "livez", ..] => Page::Text("ok"),
        ["version"] => Page::Json(version()),
        ["api"] => Page::Json(json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})),
        ["api", "v1"] => Page::Json(resources("", "v1")),
        ["api", _] => return Err(Status::no_resource()),
        ["apis"] => Page::Json(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups()})),
        ["apis", group] => {
            let found = groups().into_iter().find(|known| known["name"] == *group);
            let mut found = found.ok_or_else(Status::no_page)?;
            found["kind"] = "APIGroup".into();
            found["apiVersion"] = "v1".into();
            Page::Json(found)
        }
        ["apis", group, version] => {
            let rows: Vec<&Resource> = RESOURCES.iter().filter(|row| row.group == *group).collect();
            if rows.is_empty() {
                return Err(Status::no_page());
            }
            if !rows.iter().any(|row| row.version == *version) {
                return Err(Status::no_resource());
            }
            Page::Json(resources(group, version))
        }
        ["openapi", "v3"] => Page::Json(openapi_root()),
        ["openapi", "v3", "api", version] => Page::Json(openapi("", version)?),
        ["openapi", "v3", "apis", group, version] => Page::Json(openapi(group, version)?),
        _ => return Err(Status::no_page()),
    };
    check_page(method)?;
    Ok(page)
}

fn version() -> Value {
    json!({
        "major": "1", "minor": MINOR, "gitVersion": RELEASE, "gitCommit": "", "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z", "goVersion": "", "compiler": "", "platform": "",
        "emulationMajor": "1", "emulationMinor": MINOR, "minCompatibilityMajor": "1", "minCompatibilityMinor": "35",
    })
}

fn groups() -> Vec<Value> {
    let mut groups: Vec<Value> = Vec::new();
    for row in RESOURCES.iter().filter(|row| !row.group.is_empty()) {
        if groups.iter().any(|known| known["name"] == row.group) {
            continue;
        }
        let version = json!({"groupVersion": row.api_version(), "version": row.version});
        groups.push(json!({"name": row.group, "versions": [version.clone()], "preferredVersion": version}));
    }
    groups
}

/// Where which part of the `OpenAPI` document is.
fn openapi_root() -> Value {
    let mut paths = Map::new();
    for row in RESOURCES {
        let prefix = if row.group.is_empty() { "api" } else { "apis" };
        let path = format!("{prefix}/{}", row.api_version());
        let at = json!({"serverRelativeURL": format!("/openapi/v3/{path}")});
        paths.insert(path, at);
    }
    json!({"paths": paths})
}

/// As much of an `OpenAPI` document as tells clients that the server itself complains about unknown fields: the patches, and
/// that they can be asked to. Without it, `kubectl apply` wants the types and checks on its own.
fn openapi(group: &str, version: &str) -> Result<Value, Status> {
    let mut paths = Map::new();
    for row in RESOURCES.iter().filter(|row| row.group == group && row.version == version) {
        let prefix = if group.is_empty() { "api" } else { "apis" };
        let scope = if row.namespaced { "namespaces/{namespace}/" } else { "" };
        let path = format!("/{prefix}/{}/{scope}{}/{{name}}", row.api_version(), row.plural);
        let operation = json!({
            "operationId": format!("patch{}", row.name),
            "parameters": [
                {"name": "fieldValidation", "in": "query", "schema": {"type": "string", "uniqueItems": true}},
                {"name": "dryRun", "in": "query", "schema": {"type": "string", "uniqueItems": true}},
            ],
            "responses": {"200": {"description": "OK"}},
            "x-kubernetes-action": "patch",
            "x-kubernetes-group-version-kind": {"group": group, "version": version, "kind": row.name},
        });
        paths.insert(path, json!({"patch": operation}));
    }
    if paths.is_empty() {
        return Err(Status::no_page());
    }
    Ok(json!({"openapi": "3.0.0", "info": {"title": "Kubernetes", "version": RELEASE}, "paths": paths}))
}

fn short_names(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Namespace => &["ns"],
        Kind::Node => &["no"],
        Kind::ConfigMap => &["cm"],
        Kind::ServiceAccount => &["sa"],
        Kind::ResourceQuota => &["quota"],
        Kind::Pod => &["po"],
        Kind::Deployment => &["deploy"],
        Kind::ReplicaSet => &["rs"],
        Kind::StatefulSet => &["sts"],
        Kind::HorizontalPodAutoscaler => &["hpa"],
        Kind::PodDisruptionBudget => &["pdb"],
        Kind::Event => &["ev"],
        Kind::Secret
        | Kind::ControllerRevision
        | Kind::Lease
        | Kind::MutatingWebhookConfiguration
        | Kind::NodePool
        | Kind::NodeClaim => &[],
    }
}

/// Words for several kinds at once, as in `kubectl get all`.
fn categories(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Pod | Kind::Deployment | Kind::ReplicaSet | Kind::StatefulSet | Kind::HorizontalPodAutoscaler => &["all"],
        Kind::MutatingWebhookConfiguration => &["api-extensions"],
        Kind::NodePool | Kind::NodeClaim => &["karpenter"],
        Kind::Namespace
        | Kind::Node
        | Kind::ConfigMap
        | Kind::Secret
        | Kind::ServiceAccount
        | Kind::ResourceQuota
        | Kind::ControllerRevision
        | Kind::PodDisruptionBudget
        | Kind::Lease
        | Kind::Event => &[],
    }
}

fn resources(group: &str, version: &str) -> Value {
    let mut list = Vec::new();
    for row in RESOURCES.iter().filter(|row| row.group == group && row.version == version) {
        let mut verbs = vec!["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
        if row.kind == Kind::Namespace {
            verbs.retain(|verb| *verb != "deletecollection");
        }
        let mut resource = json!({
            "name": row.plural, "singularName": row.name.to_lowercase(), "namespaced": row.namespaced, "kind": row.name,
            "verbs": verbs,
        });
        if !short_names(row.kind).is_empty() {
            resource["shortNames"] = json!(short_names(row.kind));
        }
        if !categories(row.kind).is_empty() {
            resource["categories"] = json!(categories(row.kind));
        }
        list.push(resource);
        list.extend(row.subresources.iter().map(|name| subresource(row, name)));
    }
    let group_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": list})
}

fn subresource(row: &Resource, name: &str) -> Value {
    let mut resource = json!({
        "name": format!("{}/{name}", row.plural), "singularName": "", "namespaced": row.namespaced, "kind": row.name,
    });
    let (foreign, verbs) = match name {
        "scale" => (Some(("autoscaling", "v1", "Scale")), json!(["get", "patch", "update"])),
        "eviction" => (Some(("policy", "v1", "Eviction")), json!(["create"])),
        "binding" => (Some(("", "v1", "Binding")), json!(["create"])),
        "finalize" => (None, json!(["update"])),
        _ => (None, json!(["get", "patch", "update"])),
    };
    if let Some((group, version, kind)) = foreign {
        resource["kind"] = kind.into();
        if !group.is_empty() {
            resource["group"] = group.into();
            resource["version"] = version.into();
        }
    }
    resource["verbs"] = verbs;
    resource
}
