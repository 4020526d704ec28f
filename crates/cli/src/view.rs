//! Reads the cluster once, into the same index that webhook and controllers decide from.
//!
//! Whatever the commands say is therefore what the controller would say. Nothing is written, nothing is watched, and
//! nothing is decided here; what may not be read is either named and fatal, or named and passed over.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::core::params::ListParams;
use kube::{Api, Client};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use spotalis_config::Config;
use spotalis_core::policy::keys;
use spotalis_kube::index::{Currency, Index, Source, View};
use spotalis_kube::slim;
use spotalis_kube::watch::{self, Failure, Resource, Sink};
use spotalis_runtime::Clock;
use spotalis_runtime::apiclient::Cluster;

use crate::exit::Exit;
use crate::told::{self, Words};

/// How often a list is begun whose continuation the server has forgotten meanwhile.
const TRIES: u32 = 3;
/// Pods per page.
const PAGE: u32 = 500;

/// What was seen.
pub struct Picture {
    /// The index, with everything in it.
    pub index: Index,
    /// When it was complete.
    pub now: Timestamp,
    /// What could not be seen, and what that means.
    pub notes: Vec<Note>,
    /// What the controller last told.
    pub told: Words,
}

/// What a person at the terminal has to know to judge an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Note {
    /// The code of the reason that would perhaps be another one.
    pub casts_doubt_on: &'static str,
    /// What is missing.
    pub text: &'static str,
}

impl Picture {
    /// The notes that matter where these reasons were given.
    pub fn doubts<'a>(&self, given: impl IntoIterator<Item = &'a str>) -> Vec<&'static str> {
        let given: BTreeSet<&str> = given.into_iter().collect();
        let matters = |note: &&Note| given.contains(note.casts_doubt_on);
        self.notes.iter().filter(matters).map(|note| note.text).collect()
    }
}

/// Nodes without the pods of other namespaces.
const EMPTIER: Note = Note {
    casts_doubt_on: "Rebalanced",
    text: "pods of other namespaces may not be listed, so nodes look emptier than they are; the namespace itself is complete",
};
/// Without Karpenter's node pools.
const UNPROVIDED: Note = Note {
    casts_doubt_on: "NoCapacity",
    text: "nodepools.karpenter.sh or the cluster-autoscaler's status could not be read; if one of them provides nodes of that \
           type, there is capacity",
};

/// Without what the controller told.
const UNTOLD: Note = Note {
    casts_doubt_on: "Rebalanced",
    text: "Events could not be read; if the controller told that it does not evict, it does not",
};

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// 403.
    #[error("the API server {server} does not allow us to {}", missing(.permissions))]
    Forbidden {
        /// Which server.
        server: String,
        /// What would have to be allowed; never empty.
        permissions: Vec<Permission>,
    },
    /// 401.
    #[error("the API server {server} does not accept our credentials; they may have expired, log in again")]
    Expired {
        /// Which server.
        server: String,
    },
    /// It does not know a kind that every supported cluster has.
    #[error("the API server {server} does not know {resource}; Spotalis needs Kubernetes 1.30 or later")]
    Absent {
        /// Which server.
        server: String,
        /// The kind.
        resource: &'static str,
    },
    /// It answers with another error.
    #[error("the API server {server} cannot {verb} {resource} now: {code} {message}")]
    Refused {
        /// Which server.
        server: String,
        /// `list`, `get`.
        verb: &'static str,
        /// The kind.
        resource: &'static str,
        /// The status code.
        code: u16,
        /// The server's words.
        message: String,
    },
    /// It does not answer, or nothing that we understand.
    #[error("the API server {server} did not answer as it should")]
    Unanswered {
        /// Which server.
        server: String,
        /// Why.
        source: Failure,
    },
    /// There is no such namespace.
    #[error("there is no namespace {name}")]
    NoNamespace {
        /// The name.
        name: String,
    },
}

/// A permission as in a Role.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Permission {
    /// `list`, `get`.
    pub verb: &'static str,
    /// `nodes`, `deployments.apps`.
    pub resource: String,
    /// Where, if not everywhere.
    pub namespace: Option<String>,
}

fn missing(permissions: &[Permission]) -> String {
    let named = |permission: &Permission| match &permission.namespace {
        Some(namespace) => format!("{} {} in namespace {namespace}", permission.verb, permission.resource),
        None => format!("{} {}", permission.verb, permission.resource),
    };
    permissions.iter().map(named).collect::<Vec<_>>().join(", ")
}

impl ViewError {
    /// The exit code.
    pub const fn exit(&self) -> Exit {
        match self {
            Self::Forbidden { .. } | Self::Expired { .. } => Exit::Forbidden,
            Self::Absent { .. } | Self::Refused { .. } | Self::Unanswered { .. } => Exit::Unreachable,
            Self::NoNamespace { .. } => Exit::Usage,
        }
    }

    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Forbidden { server: _, permissions } => permissions.first().map(grant),
            Self::Expired { server: _ } => {
                Some("`kubectl auth whoami` shows whether the cluster knows you again".to_owned())
            }
            Self::Refused { .. } => Some("`kubectl get --raw /readyz?verbose` shows what the server lacks".to_owned()),
            Self::Absent { .. } | Self::Unanswered { .. } => {
                Some("`kubectl version` shows what answers at that address".to_owned())
            }
            Self::NoNamespace { name: _ } => Some("`kubectl get namespaces` lists them".to_owned()),
        }
    }
}

/// The command that shows a permission to be missing, and what somebody else has to do about it.
fn grant(permission: &Permission) -> String {
    let Permission { verb, resource, namespace } = permission;
    let (scope, role) = match namespace {
        Some(namespace) => (format!(" --namespace {namespace}"), "Role"),
        None => (String::new(), "ClusterRole"),
    };
    let narrower = if namespace.is_none() && *verb == "list" && *resource != "nodes" {
        "; or look at one namespace with --namespace"
    } else {
        ""
    };
    format!(
        "`kubectl auth can-i {verb} {resource}{scope}` shows it; a {role} with that verb and resource grants it{narrower}"
    )
}

/// Reads everything, or what concerns one namespace.
pub async fn read(cluster: &Cluster, config: &Config, namespace: Option<&str>) -> Result<Picture, ViewError> {
    let clock = Clock::system();
    let index = Arc::new(Mutex::new(Index::new(spotalis_instance::rules(config))));
    let mut reading = Reading { cluster, index: index.clone(), clock, notes: Vec::new(), told: Words::new() };
    reading.all(config, namespace).await?;
    let Reading { cluster: _, index: own, clock, notes, told } = reading;
    drop(own);
    let index = Arc::into_inner(index).expect("the reads have ended, and nobody else knows the index").into_inner();
    Ok(Picture { index, now: clock.now(), notes, told })
}

/// One object, for what the index does not keep of it. `namespace` and `name` must be names of objects.
pub async fn get<K: DeserializeOwned>(
    cluster: &Cluster,
    view: View,
    namespace: &str,
    name: &str,
) -> Result<K, ViewError> {
    let resource = Resource::of(view);
    let path = format!("{}/{name}", resource.path(Some(namespace)));
    let request = http::Request::get(path).body(Vec::new()).expect("names of objects make valid paths");
    let failure = |source| Failure::Api { verb: "get", resource: view.as_str(), source };
    // A namespace may be had by those who may get it within itself.
    let namespace = Some(if resource.is_namespaced() { namespace } else { name }.to_owned());
    cluster.client.request(request).await.map_err(|error| verdict(cluster, view, namespace, failure(error)))
}

/// A namespace, which has to exist.
pub async fn namespace(cluster: &Cluster, name: &str) -> Result<slim::Namespace, ViewError> {
    let nowhere = || ViewError::NoNamespace { name: name.to_owned() };
    if !is_name(name) {
        return Err(nowhere());
    }
    match get(cluster, View::Namespaces, "", name).await {
        Err(ViewError::Absent { server: _, resource: _ }) => Err(nowhere()),
        found => found,
    }
}

/// Whether this can be the name of an object at all. What people type ends up in the path of a request.
fn is_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'.';
    (1..=253).contains(&text.len()) && text.bytes().all(allowed) && !text.starts_with('.')
}

/// What the failure of a list or a get means.
fn verdict(cluster: &Cluster, view: View, namespace: Option<String>, failure: Failure) -> ViewError {
    let server = cluster.server.clone();
    if failure.is_forbidden() {
        let verb = match &failure {
            Failure::Api { verb, .. } | Failure::Silent { verb, .. } | Failure::TooOld { verb, .. } => verb,
            Failure::Unreadable { .. } => "list",
        };
        return ViewError::Forbidden {
            server,
            permissions: vec![Permission { verb, resource: full_name(view), namespace }],
        };
    }
    if failure.is_absent() {
        return ViewError::Absent { server, resource: view.as_str() };
    }
    match failure {
        Failure::Api { verb: _, resource: _, source: kube::Error::Api(status) } if status.code == 401 => {
            ViewError::Expired { server }
        }
        Failure::Api { verb, resource, source: kube::Error::Api(status) } => {
            ViewError::Refused { server, verb, resource, code: status.code, message: status.message }
        }
        source => ViewError::Unanswered { server, source },
    }
}

/// The resource with its group, as kubectl and Roles want it.
fn full_name(view: View) -> String {
    match Resource::of(view).group() {
        "" => view.as_str().to_owned(),
        group => format!("{}.{group}", view.as_str()),
    }
}

/// A view, everywhere or in one namespace.
type Part = (View, Option<String>);

struct Reading<'a> {
    cluster: &'a Cluster,
    index: Arc<Mutex<Index>>,
    clock: Clock,
    notes: Vec<Note>,
    told: Words,
}

impl Reading<'_> {
    async fn all(&mut self, config: &Config, namespace: Option<&str>) -> Result<(), ViewError> {
        let mut parts = parts(config, namespace);
        if let Some(name) = namespace {
            self.only_namespace(name).await?;
        }
        parts.extend(View::PROVISIONERS.map(|view| (view, None)));
        let outcomes = self.lists(&parts).await;
        let mut forbidden = Vec::new();
        for ((view, scope), outcome) in parts.into_iter().zip(outcomes) {
            let Err(failure) = outcome else { continue };
            match (view, namespace) {
                (View::NodePools | View::AutoscalerStatus, _) => self.without_provisioner(&failure),
                (View::Pods, Some(name)) if scope.is_none() && failure.is_forbidden() => self.pods_of(name).await?,
                _ => match verdict(self.cluster, view, scope, failure) {
                    ViewError::Forbidden { server: _, permissions } => forbidden.extend(permissions),
                    error => return Err(error),
                },
            }
        }
        if forbidden.is_empty() {
            self.words(namespace).await;
            return Ok(());
        }
        forbidden.sort();
        Err(ViewError::Forbidden { server: self.cluster.server.clone(), permissions: forbidden })
    }

    /// What the controller told; without it the answer is worth something, too.
    async fn words(&mut self, namespace: Option<&str>) {
        match told::read(&self.cluster.client, namespace).await {
            Ok(words) => self.told = words,
            Err(error) => {
                tracing::debug!(%error, "Events could not be read");
                self.notes.push(UNTOLD);
            }
        }
    }

    async fn lists(&self, parts: &[Part]) -> Vec<Result<(), Failure>> {
        join_all(parts.iter().map(|(view, scope)| self.list(*view, scope.as_deref()))).await
    }

    async fn list(&self, view: View, namespace: Option<&str>) -> Result<(), Failure> {
        let client = &self.cluster.client;
        let mut outcome = list(client, view, namespace, self.sink()).await;
        for _ in 1..TRIES {
            if !matches!(outcome, Err(Failure::TooOld { verb: _, resource: _ })) {
                break;
            }
            outcome = list(client, view, namespace, self.sink()).await;
        }
        outcome
    }

    fn sink(&self) -> Sink {
        let clock = self.clock;
        Sink {
            index: self.index.clone(),
            heard: Arc::new(|_| {}),
            now: Arc::new(move || clock.now()),
            failed: Arc::new(|_, _| {}),
        }
    }

    /// Somebody who may see one namespace may get it, not list all.
    async fn only_namespace(&self, name: &str) -> Result<(), ViewError> {
        let object = namespace(self.cluster, name).await?;
        let mut index = self.index.lock();
        let epoch = index.begin_list();
        index.apply_namespace(object, epoch);
        drop(index);
        self.count_as_read(View::Namespaces);
        Ok(())
    }

    /// Pods of other namespaces matter only for how full the nodes are.
    async fn pods_of(&mut self, namespace: &str) -> Result<(), ViewError> {
        self.count_as_read(View::Pods);
        self.notes.push(EMPTIER);
        let scope = Some(namespace.to_owned());
        self.list(View::Pods, scope.as_deref())
            .await
            .map_err(|failure| verdict(self.cluster, View::Pods, scope, failure))
    }

    fn count_as_read(&self, view: View) {
        let read = Currency::heard_at(self.clock.now());
        self.index.lock().set_currency(&Source { view, namespace: None }, read);
    }

    /// A cluster without Karpenter is an ordinary cluster.
    fn without_provisioner(&mut self, failure: &Failure) {
        if !failure.is_absent() && !self.notes.contains(&UNPROVIDED) {
            self.notes.push(UNPROVIDED);
        }
    }
}

/// What has to be read. With one namespace, pods are nevertheless wanted from everywhere: they fill the nodes.
fn parts(config: &Config, namespace: Option<&str>) -> Vec<Part> {
    let watched = || config.opt_in.watch_namespaces.iter().map(|name| Some(name.to_string()));
    let scopes = |view: View| -> Vec<Option<String>> {
        match namespace {
            _ if !Resource::of(view).is_namespaced() => vec![None],
            Some(_) if view == View::Pods => vec![None],
            Some(name) => vec![Some(name.to_owned())],
            None if config.opt_in.watch_namespaces.is_empty() => vec![None],
            None => watched().collect(),
        }
    };
    let views = View::REQUIRED.into_iter().filter(|view| namespace.is_none() || *view != View::Namespaces);
    views.flat_map(|view| scopes(view).into_iter().map(move |scope| (view, scope))).collect()
}

async fn list(client: &Client, view: View, namespace: Option<&str>, sink: Sink) -> Result<(), Failure> {
    let (client, resource) = (client.clone(), Resource::of(view));
    match view {
        View::Namespaces => watch::read::<slim::Namespace>(client, resource, namespace, sink).await,
        View::Nodes => watch::read::<slim::Node>(client, resource, namespace, sink).await,
        View::Pods => watch::read::<slim::Pod>(client, resource, namespace, sink).await,
        View::Deployments | View::StatefulSets => {
            watch::read::<slim::Workload>(client, resource, namespace, sink).await
        }
        View::ReplicaSets => watch::read::<slim::ReplicaSet>(client, resource, namespace, sink).await,
        View::PodDisruptionBudgets => watch::read::<slim::PodDisruptionBudget>(client, resource, namespace, sink).await,
        View::NodePools => watch::read::<slim::NodePool>(client, resource, namespace, sink).await,
        View::AutoscalerStatus => watch::read::<slim::AutoscalerStatus>(client, resource, namespace, sink).await,
    }
}

/// What of a pod the index does not keep.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodDetail {
    /// What admission wrote about its place.
    pub placement_reason: Option<String>,
    /// From its creation until it was last found Ready, if it is.
    pub ready_after: Option<Duration>,
}

impl PodDetail {
    fn of(pod: &Pod) -> Self {
        let annotations = pod.metadata.annotations.as_ref();
        let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
        let ready = conditions.filter(|condition| condition.type_ == "Ready" && condition.status == "True");
        let ready_at = ready.filter_map(|condition| condition.last_transition_time.as_ref()).next_back();
        let created = pod.metadata.creation_timestamp.as_ref();
        Self {
            placement_reason: annotations.and_then(|map| map.get(keys::PLACEMENT_REASON)).cloned(),
            ready_after: created
                .zip(ready_at)
                .and_then(|(from, to)| Duration::try_from(to.0.duration_since(from.0)).ok()),
        }
    }
}

/// The details of all pods of a namespace, by name.
pub async fn pods(cluster: &Cluster, namespace: &str) -> Result<BTreeMap<String, PodDetail>, ViewError> {
    let api: Api<Pod> = Api::namespaced(cluster.client.clone(), namespace);
    let mut params = ListParams::default().limit(PAGE);
    let mut found = BTreeMap::new();
    loop {
        let failure = |source| Failure::Api { verb: "list", resource: View::Pods.as_str(), source };
        let page = api
            .list(&params)
            .await
            .map_err(|error| verdict(cluster, View::Pods, Some(namespace.to_owned()), failure(error)))?;
        found.extend(page.items.iter().filter_map(|pod| Some((pod.metadata.name.clone()?, PodDetail::of(pod)))));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(found),
        }
    }
}
