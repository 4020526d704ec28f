//! Looks at the cluster and the controller once, and says of every workload what is wanted, what there is, and why.
//!
//! What is wanted, and why, is the controller's own word: its metrics and its log. What there is is counted here, from pods
//! and the nodes that Karpenter made, so that the controller cannot vouch for itself. Nothing is written.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::de::DeserializeOwned;
use serde_json::Value;
use spotalis_core::opt_in::{Mode, OptIn, OptInRules};
use spotalis_core::selector::{Labels, Selector};
use spotalis_e2e::{Product, Scrape, Split, active_pods, is_ready};
use spotalis_rig::Rig;
use spotalis_rig::kube::api::{Api, ListParams};
use spotalis_rig::kube::{Client, Resource};

/// Karpenter puts these on every node it makes.
const NODE_POOL: &str = "karpenter.sh/nodepool";
const CAPACITY_TYPE: &str = "karpenter.sh/capacity-type";
const INSTANCE_TYPE: &str = "node.kubernetes.io/instance-type";

/// Where the controller's Lease lies; never managed.
const OWN_NAMESPACE: &str = "spotalis-system";

/// What there is at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Picture {
    /// All workloads by namespace and name.
    pub workloads: Vec<Workload>,
    /// The nodes that Karpenter made: how many of each instance type, by capacity type.
    pub nodes: BTreeMap<String, BTreeMap<String, usize>>,
    /// Whether the controller answers.
    pub answers: bool,
}

/// A Deployment or StatefulSet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Workload {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// `Deployment` or `StatefulSet`.
    pub kind: &'static str,
    /// As many as it should have.
    pub replicas: u32,
    /// As many of its pods are Ready.
    pub ready: u32,
    /// Its pods by the type of node they run on; unknown is on none, or on one that Karpenter did not make.
    pub actual: Counts,
    /// The nodes that Karpenter made and that it runs on.
    pub nodes: Counts,
    /// What Spotalis makes of it.
    pub standing: Standing,
}

/// What Spotalis makes of a workload.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// It is opted in.
    Managed {
        /// What the controller wants; `None` if it has not said so yet.
        wanted: Option<Counts>,
        /// The last reason that the controller gave.
        reason: Option<String>,
    },
    /// Only its namespace or only the workload itself carries the label.
    HalfOptedIn,
    /// It is left alone.
    NotManaged,
}

/// Numbers by capacity type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Counts {
    /// Of spot.
    pub spot: u32,
    /// Of on-demand.
    pub on_demand: u32,
    /// Of neither.
    pub unknown: u32,
}

impl Workload {
    /// Why this is not yet, or no longer, as it should be.
    pub fn shortfall(&self) -> Option<String> {
        let Self { namespace, name, kind: _, replicas, ready, actual, nodes: _, standing } = self;
        let what = match standing {
            Standing::Managed { wanted: None, .. } => "the controller has not said what it wants".to_owned(),
            Standing::Managed { wanted: Some(wanted), .. } if wanted.sum() != *replicas => {
                format!("the controller wants {wanted} of {replicas} replicas")
            }
            Standing::Managed { wanted: Some(wanted), .. } if wanted != actual => format!("is {actual}, wanted {wanted}"),
            Standing::Managed { .. } | Standing::HalfOptedIn | Standing::NotManaged if ready != replicas => {
                format!("{ready} of {replicas} pods are Ready")
            }
            Standing::Managed { .. } | Standing::HalfOptedIn | Standing::NotManaged => return None,
        };
        Some(format!("{namespace}/{name}: {what}"))
    }
}
