//! Looks at the cluster and the controller once, and says of every workload what is wanted, what there is, and why.
//!
//! What is wanted, and why, is the controller's own word: its metrics and its log. What there is is counted here, from pods
//! and the nodes that Karpenter made, so that the controller cannot vouch for itself. Nothing is written.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, ListParams};
use kube::{Client, Resource};
use serde::de::DeserializeOwned;
use serde_json::Value;
use spotalis_core::opt_in::{Missing, Mode, OptIn, OptInRules};
use spotalis_core::selector::{Labels, Selector};
use spotalis_e2e::{Product, Scrape, Split, active_pods, is_ready};

/// Karpenter puts these on every node it makes.
const NODE_POOL: &str = "karpenter.sh/nodepool";
const CAPACITY_TYPE: &str = "karpenter.sh/capacity-type";
const INSTANCE_TYPE: &str = "node.kubernetes.io/instance-type";

/// Where the controller is at home; never managed.
const OWN_NAMESPACE: &str = "spotalis-system";

/// What there is at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Picture {
    /// All workloads by namespace, name and kind.
    pub workloads: Vec<Workload>,
    /// The nodes that Karpenter made: how many of each instance type, by capacity type.
    pub nodes: BTreeMap<String, BTreeMap<String, usize>>,
    /// Whether the controller answers.
    pub answers: bool,
}

/// A Deployment or `StatefulSet`.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// Its pods by the type of node they run on. Unknown is on none, or on one that Karpenter did not make.
    pub actual: Split,
    /// The nodes that Karpenter made and that it runs on.
    pub nodes: Split,
    /// What Spotalis makes of it.
    pub standing: Standing,
}

/// What Spotalis makes of a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is opted in.
    Managed {
        /// What the controller wants; `None` if it has not said so yet.
        wanted: Option<Split>,
        /// The last reason that the controller gave.
        reason: Option<String>,
    },
    /// It is left alone.
    NotManaged {
        /// What is missing where somebody opted in by half.
        half: Option<Missing>,
    },
}

impl Workload {
    /// What is not, or not any more, as it should be.
    pub fn shortfall(&self) -> Option<String> {
        let Self { namespace, name, kind: _, replicas, ready, actual, nodes: _, standing } = self;
        let split = match standing {
            Standing::Managed { wanted: None, reason: _ } => {
                Some("the controller has not said what it wants".to_owned())
            }
            Standing::Managed { wanted: Some(wanted), reason: _ } if wanted.spot + wanted.on_demand != *replicas => {
                Some(format!("{replicas} replicas, of which the controller wants {wanted}"))
            }
            Standing::Managed { wanted: Some(wanted), reason: _ } => {
                (wanted != actual).then(|| format!("is {actual}, wanted {wanted}"))
            }
            Standing::NotManaged { half: _ } => None,
        };
        let readiness = || (ready != replicas).then(|| format!("{ready} of {replicas} replicas are Ready"));
        split.or_else(readiness).map(|what| format!("{namespace}/{name}: {what}"))
    }
}

impl Picture {
    /// Takes one.
    pub async fn take(client: &Client, product: &Product) -> Result<Self> {
        let objects = Objects::read(client).await?;
        let scrape = product.replica().scrape().await.ok();
        let reasons = reasons(&product.replica().log()?);
        Ok(objects.picture(scrape.as_ref(), &reasons))
    }

    /// Everything that is not as it should be. Nothing at all is not as it should be, either.
    pub fn shortfalls(&self) -> Vec<String> {
        let Self { workloads, nodes: _, answers } = self;
        let mut shortfalls: Vec<String> = workloads.iter().filter_map(Workload::shortfall).collect();
        if !answers {
            shortfalls.push("the controller does not answer".to_owned());
        }
        if !workloads.iter().any(|workload| matches!(workload.standing, Standing::Managed { .. })) {
            shortfalls.push("there is no managed workload".to_owned());
        }
        shortfalls
    }
}

/// The last reason that the controller's log gives for each workload, by `namespace/kind/name`.
fn reasons(log: &[Value]) -> BTreeMap<String, String> {
    let told = log.iter().filter_map(|line| {
        let text = |key: &str| line.get(key).and_then(Value::as_str);
        Some((text("workload")?.to_owned(), format!("{}: {}", text("reason")?, text("message")?)))
    });
    told.collect()
}

/// What the API server knows.
#[derive(Default)]
struct Objects {
    namespaces: Vec<Namespace>,
    deployments: Vec<Deployment>,
    stateful_sets: Vec<StatefulSet>,
    replica_sets: Vec<ReplicaSet>,
    pods: Vec<Pod>,
    nodes: Vec<Node>,
}

impl Objects {
    async fn read(client: &Client) -> Result<Self> {
        let (namespaces, deployments, stateful_sets, replica_sets, pods, nodes) =
            tokio::try_join!(list(client), list(client), list(client), list(client), list(client), list(client),)?;
        Ok(Self { namespaces, deployments, stateful_sets, replica_sets, pods, nodes })
    }

    fn picture(&self, scrape: Option<&Scrape>, reasons: &BTreeMap<String, String>) -> Picture {
        let pods = self.pods_by_workload();
        let capacity = self.capacity_of_nodes();
        let workload = |kind: &'static str, metadata: &ObjectMeta, replicas: Option<i32>| {
            let (namespace, name) = (text(metadata.namespace.as_ref()), text(metadata.name.as_ref()));
            let pods = pods.get(text(metadata.uid.as_ref())).map_or(&[][..], Vec::as_slice);
            Workload {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
                kind,
                replicas: replicas.and_then(|replicas| u32::try_from(replicas).ok()).unwrap_or(1),
                ready: count(pods.iter().filter(|pod| is_ready(pod))),
                actual: split(pods.iter().map(|pod| capacity_of(pod, &capacity))),
                nodes: nodes(pods, &capacity),
                standing: match self.opt_in(namespace, metadata) {
                    OptIn::Managed => Standing::Managed {
                        wanted: scrape.and_then(|scrape| wanted(scrape, namespace, name, kind)),
                        reason: reasons.get(&format!("{namespace}/{}/{name}", kind.to_ascii_lowercase())).cloned(),
                    },
                    OptIn::Half(missing) => Standing::NotManaged { half: Some(missing) },
                    OptIn::Out | OptIn::Never(_) => Standing::NotManaged { half: None },
                },
            }
        };
        let deployments = self.deployments.iter().map(|Deployment { metadata, spec, .. }| {
            workload("Deployment", metadata, spec.as_ref().and_then(|spec| spec.replicas))
        });
        let stateful_sets = self.stateful_sets.iter().map(|StatefulSet { metadata, spec, .. }| {
            workload("StatefulSet", metadata, spec.as_ref().and_then(|spec| spec.replicas))
        });
        let mut workloads: Vec<Workload> = deployments.chain(stateful_sets).collect();
        workloads.sort_by(|one, other| {
            (&one.namespace, &one.name, one.kind).cmp(&(&other.namespace, &other.name, other.kind))
        });
        Picture { workloads, nodes: self.nodes_by_type(), answers: scrape.is_some() }
    }

    /// As the controller decides it: the harness leaves the rules as they are built in.
    fn opt_in(&self, namespace: &str, workload: &ObjectMeta) -> OptIn {
        let rules = OptInRules {
            mode: Mode::Both,
            namespace_selector: Selector::default(),
            own_namespace: OWN_NAMESPACE.into(),
            watch_namespaces: BTreeSet::new(),
        };
        let found = self.namespaces.iter().find(|found| found.metadata.name.as_deref() == Some(namespace));
        let namespace_labels = found.map(|found| labels(&found.metadata)).unwrap_or_default();
        rules.decide(namespace, &namespace_labels, &labels(workload))
    }

    /// Active pods by the uid of their workload.
    fn pods_by_workload(&self) -> BTreeMap<&str, Vec<&Pod>> {
        let above: BTreeMap<&str, &str> = self
            .replica_sets
            .iter()
            .filter_map(|set| Some((set.metadata.uid.as_deref()?, controller(&set.metadata)?)))
            .collect();
        let mut pods: BTreeMap<&str, Vec<&Pod>> = BTreeMap::new();
        for pod in active_pods(&self.pods) {
            if let Some(owner) = controller(&pod.metadata) {
                pods.entry(above.get(owner).copied().unwrap_or(owner)).or_default().push(pod);
            }
        }
        pods
    }

    fn made_by_karpenter(&self) -> impl Iterator<Item = &ObjectMeta> {
        let is_made = |metadata: &&ObjectMeta| label(metadata, NODE_POOL).is_some();
        self.nodes.iter().map(|node| &node.metadata).filter(is_made)
    }

    /// The capacity types of Karpenter's nodes by the name of the node.
    fn capacity_of_nodes(&self) -> BTreeMap<&str, &str> {
        self.made_by_karpenter().filter_map(|node| Some((node.name.as_deref()?, label(node, CAPACITY_TYPE)?))).collect()
    }

    fn nodes_by_type(&self) -> BTreeMap<String, BTreeMap<String, usize>> {
        let mut nodes: BTreeMap<String, BTreeMap<String, usize>> = BTreeMap::new();
        for node in self.made_by_karpenter() {
            let word = |key| label(node, key).unwrap_or("unknown").to_owned();
            *nodes.entry(word(CAPACITY_TYPE)).or_default().entry(word(INSTANCE_TYPE)).or_default() += 1;
        }
        nodes
    }
}

async fn list<K>(client: &Client) -> Result<Vec<K>>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    Ok(Api::<K>::all(client.clone()).list(&ListParams::default()).await?.items)
}

/// What the controller says that it wants; a workload it does not know has no such series.
fn wanted(scrape: &Scrape, namespace: &str, workload: &str, kind: &str) -> Option<Split> {
    let of = |capacity| {
        let labels = [("namespace", namespace), ("workload", workload), ("kind", kind), ("type", capacity)];
        // A number of pods: a fraction would be a defect.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of pods")]
        let count = scrape.sum("spotalis_replicas_desired", &labels) as u32;
        scrape.has("spotalis_replicas_desired", &labels).then_some(count)
    };
    Some(Split { spot: of("spot")?, on_demand: of("on_demand")?, unknown: 0 })
}

/// Each node once, however many of the pods run on it. Pods without a node count for nothing.
fn nodes(pods: &[&Pod], capacity: &BTreeMap<&str, &str>) -> Split {
    let names: BTreeSet<&str> = pods.iter().filter_map(|pod| pod.spec.as_ref()?.node_name.as_deref()).collect();
    split(names.into_iter().filter_map(|name| capacity.get(name)).map(|capacity| Some(*capacity)))
}

fn capacity_of<'n>(pod: &Pod, capacity: &BTreeMap<&str, &'n str>) -> Option<&'n str> {
    capacity.get(pod.spec.as_ref()?.node_name.as_deref()?).copied()
}

fn split<'c>(types: impl Iterator<Item = Option<&'c str>>) -> Split {
    let mut split = Split::default();
    for capacity in types {
        match capacity {
            Some("spot") => split.spot += 1,
            Some("on-demand") => split.on_demand += 1,
            Some(_) | None => split.unknown += 1,
        }
    }
    split
}

fn count(things: impl Iterator) -> u32 {
    u32::try_from(things.count()).unwrap_or(u32::MAX)
}

/// The uid of the controlling owner.
fn controller(metadata: &ObjectMeta) -> Option<&str> {
    let owner = metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))?;
    Some(&owner.uid)
}

fn labels(metadata: &ObjectMeta) -> Labels {
    let labels = metadata.labels.iter().flatten();
    labels.map(|(key, value)| (key.as_str().into(), value.as_str().into())).collect()
}

fn label<'m>(metadata: &'m ObjectMeta, key: &str) -> Option<&'m str> {
    metadata.labels.as_ref()?.get(key).map(String::as_str)
}

fn text(value: Option<&String>) -> &str {
    value.map_or("", String::as_str)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object<K: DeserializeOwned>(value: Value) -> K {
        serde_json::from_value(value).unwrap()
    }

    fn node(name: &str, labels: &Value) -> Node {
        object(json!({"metadata": {"name": name, "labels": labels}}))
    }

    fn pod(owner: &str, node: Option<&str>, ready: bool) -> Pod {
        object(json!({
            "metadata": {"namespace": "shop", "ownerReferences": [
                {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "x", "uid": owner, "controller": true},
            ]},
            "spec": {"nodeName": node, "containers": []},
            "status": {"conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]},
        }))
    }

    fn deployment(name: &str, enabled: &str) -> Deployment {
        object(json!({
            "metadata": {"namespace": "shop", "name": name, "uid": name, "labels": {"spotalis.io/enabled": enabled}},
            "spec": {"replicas": 3, "selector": {}, "template": {}},
        }))
    }

    fn shop() -> Objects {
        let made = |capacity: &str| json!({NODE_POOL: "default", CAPACITY_TYPE: capacity, INSTANCE_TYPE: "small"});
        Objects {
            namespaces: vec![object(json!({"metadata": {"name": "shop", "labels": {"spotalis.io/enabled": "true"}}}))],
            deployments: vec![deployment("web", "true"), deployment("admin", "false")],
            replica_sets: vec![object(json!({"metadata": {"uid": "web-1", "ownerReferences": [
                {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "web", "controller": true},
            ]}}))],
            pods: vec![
                pod("web-1", Some("s"), true),
                pod("web-1", Some("s"), true),
                pod("web-1", Some("o"), true),
                pod("else", Some("s"), true),
            ],
            nodes: vec![
                node("s", &made("spot")),
                node("o", &made("on-demand")),
                node("h", &json!({CAPACITY_TYPE: "spot"})),
            ],
            ..Objects::default()
        }
    }

    fn metrics(spot: u32, on_demand: u32) -> Scrape {
        let series = |capacity, count| {
            let labels = format!(r#"namespace="shop",workload="web",kind="Deployment",type="{capacity}""#);
            format!("spotalis_replicas_desired{{{labels}}} {count}\n")
        };
        Scrape::parse(&(series("spot", spot) + &series("on_demand", on_demand)))
    }

    #[test]
    fn pods_are_counted_by_owner_and_by_the_nodes_of_karpenter() {
        let picture = shop().picture(Some(&metrics(2, 1)), &BTreeMap::new());
        let [admin, web] = &picture.workloads[..] else { panic!("{picture:?}") };
        assert_eq!(web.actual, Split { spot: 2, on_demand: 1, unknown: 0 });
        assert_eq!(web.nodes, Split { spot: 1, on_demand: 1, unknown: 0 });
        assert_eq!((web.ready, web.shortfall()), (3, None));
        assert_eq!((admin.ready, &admin.standing), (0, &Standing::NotManaged { half: None }));
        assert_eq!(picture.nodes["spot"], BTreeMap::from([("small".to_owned(), 1)]));
    }

    /// What is told, after which change, with which metrics.
    type Case = (&'static str, fn(&mut Objects), Scrape);

    #[test]
    fn whatever_is_off_is_said() {
        let web = |change: fn(&mut Objects), metrics: Scrape| {
            let mut objects = shop();
            change(&mut objects);
            objects.picture(Some(&metrics), &BTreeMap::new()).workloads.pop().unwrap().shortfall().unwrap_or_default()
        };
        let cases: [Case; 6] = [
            ("is 2/1, wanted 1/2", |_| {}, metrics(1, 2)),
            ("3 replicas, of which the controller wants 2/2", |_| {}, metrics(2, 2)),
            ("has not said", |_| {}, Scrape::default()),
            ("is 1/1 and 1 unknown", |objects| objects.pods[0] = pod("web-1", None, false), metrics(2, 1)),
            ("is 1/1 and 1 unknown", |objects| objects.pods[0] = pod("web-1", Some("h"), true), metrics(2, 1)),
            ("2 of 3 replicas are Ready", |objects| objects.pods[0] = pod("web-1", Some("s"), false), metrics(2, 1)),
        ];
        for (expected, change, metrics) in cases {
            let told = web(change, metrics);
            assert!(told.contains(expected), "{expected}: {told:?}");
        }
    }

    #[test]
    fn silence_and_emptiness_are_shortfalls() {
        let picture = Objects::default().picture(None, &BTreeMap::new());
        assert_eq!(picture.shortfalls(), ["the controller does not answer", "there is no managed workload"]);
    }

    #[test]
    fn the_last_reason_counts() {
        let line = |reason: &str| json!({"workload": "shop/deployment/web", "reason": reason, "message": "because"});
        let log = [line("Scaling"), line("OnTarget"), json!({"reason": "no workload"})];
        assert_eq!(reasons(&log)["shop/deployment/web"], "OnTarget: because");
    }
}
