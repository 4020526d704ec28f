//! Puts into the cluster what Karpenter needs: its resource definitions, a node class, a node pool for both capacity types.

use std::fs;
use std::path::Path;
use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ApiResource, DynamicObject, PostParams};
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};

use crate::wait::{TimedOut, until};

/// Karpenter could not be given what it needs.
#[derive(Debug, thiserror::Error)]
pub enum KarpenterError {
    /// Its definitions cannot be read.
    #[error("cannot read Karpenter's resource definitions")]
    Read(#[from] std::io::Error),
    /// They are not what they were.
    #[error("Karpenter's resource definitions are not the YAML they were")]
    Yaml(#[from] serde_saphyr::Error),
    /// The API server refused.
    #[error("the API server refused Karpenter's objects")]
    Api(#[from] kube::Error),
    /// The API server did not begin to serve them.
    #[error(transparent)]
    TimedOut(#[from] TimedOut),
}

const LIMIT: Duration = Duration::from_secs(30);

/// Creates all of it.
pub(crate) async fn prepare(client: &Client, crds: &Path) -> Result<(), KarpenterError> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let mut names = Vec::new();
    for entry in fs::read_dir(crds)? {
        let crd: CustomResourceDefinition = serde_saphyr::from_str(&fs::read_to_string(entry?.path())?)?;
        names.push(api.create(&PostParams::default(), &crd).await?.name_any());
    }
    for name in names {
        until(&format!("{name} to be established"), LIMIT, async || api.get(&name).await.ok().filter(is_established))
            .await?;
    }
    create(client, "karpenter.kwok.sh/v1alpha1", "KWOKNodeClass", "kwoknodeclasses", json!({})).await?;
    create(client, "karpenter.sh/v1", "NodePool", "nodepools", node_pool()).await
}

fn is_established(crd: &CustomResourceDefinition) -> bool {
    let conditions = crd.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Established" && condition.status == "True")
}

/// Both capacity types, and no disruption until a test asks for it: nodes move only when somebody moved them.
fn node_pool() -> Value {
    let requirement = |key: &str, values: &[&str]| json!({"key": key, "operator": "In", "values": values});
    json!({
        "template": {"spec": {
            "nodeClassRef": {"group": "karpenter.kwok.sh", "kind": "KWOKNodeClass", "name": "default"},
            "requirements": [
                requirement("karpenter.sh/capacity-type", &["spot", "on-demand"]),
                requirement("kubernetes.io/arch", &["amd64"]),
                requirement("kubernetes.io/os", &["linux"]),
            ],
            "expireAfter": "Never",
        }},
        "disruption": {"consolidationPolicy": "WhenEmpty", "consolidateAfter": "Never"},
    })
}

/// Creates the object `default` of a kind. Asked again while the API server does not serve the kind yet.
async fn create(
    client: &Client,
    api_version: &str,
    kind: &str,
    plural: &str,
    spec: Value,
) -> Result<(), KarpenterError> {
    let (group, version) = api_version.split_once('/').expect("a group and a version");
    let resource = ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
        plural: plural.to_owned(),
    };
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    let object = DynamicObject::new("default", &resource).data(json!({"spec": spec}));
    until(&format!("{plural} to be served"), LIMIT, async || match api.create(&PostParams::default(), &object).await {
        Err(kube::Error::Api(status)) if status.code == 404 => None,
        result => Some(result),
    })
    .await??;
    Ok(())
}
