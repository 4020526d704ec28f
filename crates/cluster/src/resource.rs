//! The kinds that the cluster knows, and what the API does differently for each.
//!
//! One table. A kind that is not in it does not exist here, and paths to it answer 404.

use std::fmt;

/// A kind of object. Their order is the order in which whoever looks at several kinds looks at them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `v1`
    Namespace,
    /// `v1`
    Node,
    /// `v1`
    ConfigMap,
    /// `v1`
    Secret,
    /// `v1`
    ServiceAccount,
    /// `v1`
    ResourceQuota,
    /// `v1`
    Pod,
    /// `apps/v1`
    Deployment,
    /// `apps/v1`
    ReplicaSet,
    /// `apps/v1`
    StatefulSet,
    /// `apps/v1`
    ControllerRevision,
    /// `autoscaling/v2`
    HorizontalPodAutoscaler,
    /// `policy/v1`
    PodDisruptionBudget,
    /// `coordination.k8s.io/v1`
    Lease,
    /// `events.k8s.io/v1`
    Event,
    /// `admissionregistration.k8s.io/v1`
    MutatingWebhookConfiguration,
    /// `karpenter.sh/v1`
    NodePool,
    /// `karpenter.sh/v1`
    NodeClaim,
}

/// What is special about a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Which one.
    pub kind: Kind,
    /// The API group; empty for `v1`.
    pub group: &'static str,
    /// The version, as `v1`.
    pub version: &'static str,
    /// `kind` in an object.
    pub name: &'static str,
    /// The word in paths.
    pub plural: &'static str,
    /// Whether its objects are in namespaces.
    pub namespaced: bool,
    /// Words that may follow an object's name in a path.
    pub subresources: &'static [&'static str],
    /// Whether `metadata.generation` counts changes of the spec.
    pub has_generation: bool,
}

const fn namespaced(
    kind: Kind,
    (group, version): (&'static str, &'static str),
    name: &'static str,
    plural: &'static str,
    subresources: &'static [&'static str],
) -> Resource {
    Resource { kind, group, version, name, plural, namespaced: true, subresources, has_generation: false }
}

const fn of_cluster(resource: Resource) -> Resource {
    Resource { namespaced: false, ..resource }
}

const fn counted(resource: Resource) -> Resource {
    Resource { has_generation: true, ..resource }
}

const CORE: (&str, &str) = ("", "v1");
const APPS: (&str, &str) = ("apps", "v1");
const KARPENTER: (&str, &str) = ("karpenter.sh", "v1");

/// All of them, in the order of [`Kind`].
pub const RESOURCES: &[Resource] = &[
    of_cluster(namespaced(Kind::Namespace, CORE, "Namespace", "namespaces", &["status", "finalize"])),
    of_cluster(namespaced(Kind::Node, CORE, "Node", "nodes", &["status"])),
    namespaced(Kind::ConfigMap, CORE, "ConfigMap", "configmaps", &[]),
    namespaced(Kind::Secret, CORE, "Secret", "secrets", &[]),
    namespaced(Kind::ServiceAccount, CORE, "ServiceAccount", "serviceaccounts", &[]),
    namespaced(Kind::ResourceQuota, CORE, "ResourceQuota", "resourcequotas", &["status"]),
    counted(namespaced(Kind::Pod, CORE, "Pod", "pods", &["status", "eviction", "binding"])),
    counted(namespaced(Kind::Deployment, APPS, "Deployment", "deployments", &["status", "scale"])),
    counted(namespaced(Kind::ReplicaSet, APPS, "ReplicaSet", "replicasets", &["status", "scale"])),
    counted(namespaced(Kind::StatefulSet, APPS, "StatefulSet", "statefulsets", &["status", "scale"])),
    namespaced(Kind::ControllerRevision, APPS, "ControllerRevision", "controllerrevisions", &[]),
    namespaced(
        Kind::HorizontalPodAutoscaler,
        ("autoscaling", "v2"),
        "HorizontalPodAutoscaler",
        "horizontalpodautoscalers",
        &["status"],
    ),
    counted(namespaced(
        Kind::PodDisruptionBudget,
        ("policy", "v1"),
        "PodDisruptionBudget",
        "poddisruptionbudgets",
        &["status"],
    )),
    namespaced(Kind::Lease, ("coordination.k8s.io", "v1"), "Lease", "leases", &[]),
    namespaced(Kind::Event, ("events.k8s.io", "v1"), "Event", "events", &[]),
    counted(of_cluster(namespaced(
        Kind::MutatingWebhookConfiguration,
        ("admissionregistration.k8s.io", "v1"),
        "MutatingWebhookConfiguration",
        "mutatingwebhookconfigurations",
        &[],
    ))),
    counted(of_cluster(namespaced(Kind::NodePool, KARPENTER, "NodePool", "nodepools", &["status"]))),
    counted(of_cluster(namespaced(Kind::NodeClaim, KARPENTER, "NodeClaim", "nodeclaims", &["status"]))),
];

impl Kind {
    /// Its row of the table.
    pub fn resource(self) -> &'static Resource {
        RESOURCES.iter().find(|resource| resource.kind == self).expect("every kind has a row")
    }

    /// The kind that a path names.
    pub fn of_path(group: &str, version: &str, plural: &str) -> Option<Self> {
        let row = RESOURCES.iter().find(|row| (row.group, row.version, row.plural) == (group, version, plural))?;
        Some(row.kind)
    }

    /// The kind that an object names.
    pub fn of_object(api_version: &str, name: &str) -> Option<Self> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let row = RESOURCES.iter().find(|row| (row.name, row.group, row.version) == (name, group, version))?;
        Some(row.kind)
    }
}

impl Resource {
    /// `apiVersion` in an object.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.resource().name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_found_by_path_and_by_object() {
        for row in RESOURCES {
            assert_eq!(row.kind.resource(), row);
            assert_eq!(Kind::of_path(row.group, row.version, row.plural), Some(row.kind));
            assert_eq!(Kind::of_object(&row.api_version(), row.name), Some(row.kind));
        }
        assert!(RESOURCES.is_sorted_by_key(|row| row.kind));
        assert_eq!(Kind::of_path("", "v1", "services"), None);
    }
}
