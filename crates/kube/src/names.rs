//! Names that other projects own: labels, annotations and kinds that Spotalis reads or writes but did not invent.
//!
//! Our own keys live in `spotalis_core::policy::keys`.

/// Label of a Deployment's pods and ReplicaSets: the revision.
pub const POD_TEMPLATE_HASH: &str = "pod-template-hash";
/// Label of a StatefulSet's pods: the revision.
pub const CONTROLLER_REVISION_HASH: &str = "controller-revision-hash";
/// The order in which a ReplicaSet removes pods, lowest first.
pub const POD_DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
/// Karpenter: `"true"` keeps a pod where it is.
pub const KARPENTER_DO_NOT_DISRUPT: &str = "karpenter.sh/do-not-disrupt";
/// Cluster autoscaler: `"false"` keeps a pod where it is.
pub const SAFE_TO_EVICT: &str = "cluster-autoscaler.kubernetes.io/safe-to-evict";
/// Karpenter's capacity type, on nodes and in the requirements of a NodePool.
pub const KARPENTER_CAPACITY_TYPE: &str = "karpenter.sh/capacity-type";
/// Where cluster-autoscaler reports what it manages.
pub const CLUSTER_AUTOSCALER_STATUS: (&str, &str) = ("kube-system", "cluster-autoscaler-status");
