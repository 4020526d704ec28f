//! What the policy of each simulated workload wants, from the same index that webhook and controllers decide from.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use spotalis_config::Config;
use spotalis_core::opt_in::OptIn;
use spotalis_core::split::{Split, Target};
use spotalis_kube::index::{Index, WorkloadKey, WorkloadKind};
use spotalis_sim::scenario::WorkloadKind as Simulated;
use spotalis_sim::whatif::{Inventory, Need, Workload};

/// The policy of a workload.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// Whether it is managed.
    pub standing: Standing,
    /// What the split is computed from; none where it is not managed.
    pub target: Option<Target>,
    /// What somebody should know of it.
    pub notes: Vec<String>,
}

/// Whether a workload is managed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Standing {
    /// It is.
    Managed,
    /// Nobody asked.
    OptedOut,
    /// Somebody asked, and one word is missing.
    HalfOptedIn,
    /// Its namespace is out of bounds.
    Never,
}

/// The policies of an inventory, in the order of its workloads.
pub fn wanted(inventory: &Inventory, config: &Config) -> Vec<Wanted> {
    let mut index = Index::new(spotalis_instance::rules(config));
    let epoch = index.begin_list();
    for namespace in &inventory.namespaces {
        index.apply_namespace(slim(namespace), epoch);
    }
    for workload in &inventory.workloads {
        index.apply_workload(kind(workload), slim(&workload.object), epoch);
    }
    inventory.workloads.iter().map(|workload| Wanted::of(&index, workload)).collect()
}

fn slim<T: DeserializeOwned>(object: &Value) -> T {
    serde_json::from_str(&object.to_string()).expect("an API server has admitted it")
}

const fn kind(workload: &Workload) -> WorkloadKind {
    match workload.kind {
        Simulated::Deployment => WorkloadKind::Deployment,
        Simulated::StatefulSet => WorkloadKind::StatefulSet,
    }
}

impl Wanted {
    fn of(index: &Index, workload: &Workload) -> Self {
        let kind = kind(workload);
        let (namespace, name) = workload.name.split_once('/').expect("a workload is in a namespace");
        let key = WorkloadKey { namespace: namespace.into(), kind, name: name.into() };
        let mut notes = Vec::new();
        let standing = match index.opt_in(&key).expect("it was put into the index") {
            OptIn::Managed => Standing::Managed,
            OptIn::Out => Standing::OptedOut,
            OptIn::Half(missing) => {
                let command = missing.completing_command(kind.as_str(), namespace, name);
                notes.push(format!("{} is not managed: {missing}; `{command}` would complete it", workload.name));
                Standing::HalfOptedIn
            }
            OptIn::Never(reason) => {
                notes.push(format!("{} is not managed: {reason}", workload.name));
                Standing::Never
            }
        };
        let managed = standing == Standing::Managed;
        let target = index.policy(&key).filter(|_| managed).map(|policy| policy.target());
        if let Some(view) = index.workload(&key).filter(|_| managed) {
            notes.extend(view.problems.iter().map(|problem| format!("{}: {problem}", workload.name)));
        }
        Self { standing, target, notes }
    }

    /// The split of so many replicas.
    pub fn split(&self, replicas: u32) -> Option<Split> {
        self.target.map(|target| target.split(replicas))
    }

    /// What a workload needs of a fleet.
    pub fn need(&self, workload: &Workload) -> Need {
        let Workload { name, kind: _, replicas, cpu, memory, object: _ } = workload;
        let (spot, on_demand, anywhere) = match self.split(*replicas) {
            Some(split) => (split.spot, replicas - split.spot, 0),
            None => (0, 0, *replicas),
        };
        Need { workload: name.clone(), spot, on_demand, anywhere, cpu: *cpu, memory: *memory }
    }
}
