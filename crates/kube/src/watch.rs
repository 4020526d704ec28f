//! From list and watch to the index: one pump for each resource and namespace.
//!
//! A list marks what it shows with an epoch and sweeps the rest only when its last page has arrived, so a half-read list
//! never looks like deletions, and the old view stays in place while a new one is read. A watch that ends is resumed; one
//! that is too old (410) is listed anew. Every line heard, bookmarks included, keeps the view fresh. What an event means
//! is the index's affair, and what is done about it the controllers'.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use kube::Client;
use kube::core::params::{ListParams, WatchParams};
use kube::core::response::StatusCause;
use kube::core::{Status, WatchEvent};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::index::{Currency, Epoch, Index, Source, View, WorkloadKind};
use crate::names;
use crate::slim::{self, Slim};

/// Objects per page of a list.
const PAGE: u32 = 500;
/// The API server ends a watch after this many seconds; kept below the five minutes after which load balancers do.
const WATCH_SECONDS: u32 = 290;
/// A list page that takes longer has failed.
const PAGE_TIMEOUT: Duration = Duration::from_mins(1);
/// A watch without a line for this long is given up and resumed; bookmarks come about once a minute.
const LINE_TIMEOUT: Duration = Duration::from_mins(2);
/// First and longest pause after a failure.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// The longest pause while nobody answers: as soon as the API server is back, pods are created, and until the watches are
/// back as well they go to on-demand.
const UNREACHABLE_PAUSE: Duration = Duration::from_secs(1);

/// What is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resource {
    view: View,
    /// `/api/v1` or `/apis/GROUP/VERSION`.
    api: &'static str,
    namespaced: bool,
    /// The one object of interest, in its namespace.
    only: Option<(&'static str, &'static str)>,
}

impl Resource {
    /// The resource behind a view.
    pub const fn of(view: View) -> Self {
        let (api, namespaced) = match view {
            View::Namespaces | View::Nodes => ("/api/v1", false),
            View::Pods | View::AutoscalerStatus => ("/api/v1", true),
            View::Deployments | View::StatefulSets | View::ReplicaSets => ("/apis/apps/v1", true),
            View::PodDisruptionBudgets => ("/apis/policy/v1", true),
            View::NodePools => ("/apis/karpenter.sh/v1", false),
        };
        let only = match view {
            View::AutoscalerStatus => Some(names::CLUSTER_AUTOSCALER_STATUS),
            View::Namespaces
            | View::Nodes
            | View::Pods
            | View::Deployments
            | View::StatefulSets
            | View::ReplicaSets
            | View::PodDisruptionBudgets
            | View::NodePools => None,
        };
        Self { view, api, namespaced, only }
    }

    /// The collection's path, within `namespace` if it has namespaces and one is given. A single object has its own.
    pub fn path(self, namespace: Option<&str>) -> String {
        let Self { view, api, namespaced, only } = self;
        match only.map(|(own, _)| own).or(namespace).filter(|_| namespaced) {
            Some(namespace) => format!("{api}/namespaces/{namespace}/{}", view.as_str()),
            None => format!("{api}/{}", view.as_str()),
        }
    }

    /// Whether its objects live in namespaces.
    pub const fn is_namespaced(self) -> bool {
        self.namespaced
    }

    /// The field selector of a single object. A role that names the object allows just this list and watch.
    fn field_selector(self) -> Option<String> {
        self.only.map(|(_, name)| format!("metadata.name={name}"))
    }

    /// The API group, empty for the core one.
    pub fn group(self) -> &'static str {
        self.api.strip_prefix("/apis/").and_then(|rest| rest.split('/').next()).unwrap_or("")
    }
}

/// The index, and who is told about it.
#[derive(Clone)]
pub struct Sink {
    /// The index.
    pub index: Arc<Mutex<Index>>,
    /// Called outside the lock after everything heard on a view: the index may have changed.
    pub heard: Arc<dyn Fn(View) + Send + Sync>,
    /// The time.
    pub now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// Called with every failure of a list or watch.
    pub failed: Arc<OnFailure>,
}

/// What is done about a failure besides trying again.
pub type OnFailure = dyn Fn(View, &Failure) + Send + Sync;

/// Why a list or watch has to be begun anew or resumed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The API server refused or could not be reached.
    #[error("{verb} {resource} failed")]
    Api {
        /// `list` or `watch`: the permission that is missing, if it was refused with 403.
        verb: &'static str,
        /// The resource.
        resource: &'static str,
        /// What the client says.
        source: kube::Error,
    },
    /// Nothing came in time.
    #[error("{verb} {resource} was silent for too long")]
    Silent {
        /// `list` or `watch`.
        verb: &'static str,
        /// The resource.
        resource: &'static str,
    },
    /// The server does not know the resource version, or not any more: list anew.
    #[error("{verb} {resource}: the server does not have this resource version any more")]
    TooOld {
        /// `list` or `watch`.
        verb: &'static str,
        /// The resource.
        resource: &'static str,
    },
    /// The answer is no list.
    #[error("list {resource}: the answer is not a list")]
    Unreadable {
        /// The resource.
        resource: &'static str,
        /// Why.
        source: serde_json::Error,
    },
}

impl Failure {
    fn code(&self) -> Option<u16> {
        match self {
            Self::Api { source: kube::Error::Api(status), verb: _, resource: _ } => Some(status.code),
            Self::Api { .. } | Self::Silent { .. } | Self::TooOld { .. } | Self::Unreadable { .. } => None,
        }
    }

    /// Whether the API server forbids it, which only an administrator can mend.
    pub fn is_forbidden(&self) -> bool {
        self.code() == Some(403)
    }

    /// Whether the kind does not exist in this cluster.
    pub fn is_absent(&self) -> bool {
        self.code() == Some(404)
    }

    /// Whether the API server said nothing at all.
    fn is_unanswered(&self) -> bool {
        match self {
            Self::Api { source, verb: _, resource: _ } => !matches!(source, kube::Error::Api(_)),
            Self::Silent { .. } => true,
            Self::TooOld { .. } | Self::Unreadable { .. } => false,
        }
    }

    /// What is missing, if it is forbidden, and the command that shows it.
    pub fn forbidden_hint(&self) -> Option<String> {
        let Self::Api { verb, resource, source: _ } = self else { return None };
        self.is_forbidden().then(|| {
            format!("the permission to {verb} {resource} is missing; `kubectl auth can-i {verb} {resource} --as USER` shows it")
        })
    }
}

/// An index slot for a kind: how its objects enter and leave.
pub trait Indexed: Slim {
    /// It was seen.
    fn apply(self, index: &mut Index, view: View, epoch: Epoch);
    /// It is gone.
    fn delete(&self, index: &mut Index, view: View);
}

impl Indexed for slim::Namespace {
    fn apply(self, index: &mut Index, _: View, epoch: Epoch) {
        index.apply_namespace(self, epoch);
    }

    fn delete(&self, index: &mut Index, _: View) {
        index.delete_namespace(&self.metadata.name);
    }
}

impl Indexed for slim::Node {
    fn apply(self, index: &mut Index, _: View, epoch: Epoch) {
        index.apply_node(&self, epoch);
    }

    fn delete(&self, index: &mut Index, _: View) {
        index.delete_node(&self.metadata.name);
    }
}

impl Indexed for slim::Pod {
    fn apply(self, index: &mut Index, _: View, epoch: Epoch) {
        index.apply_pod(&self, epoch);
    }

    fn delete(&self, index: &mut Index, _: View) {
        index.delete_pod(&self.metadata.namespace, &self.metadata.name);
    }
}

impl Indexed for slim::Workload {
    fn apply(self, index: &mut Index, view: View, epoch: Epoch) {
        index.apply_workload(kind_of(view), self, epoch);
    }

    fn delete(&self, index: &mut Index, view: View) {
        index.delete_workload(kind_of(view), &self.metadata.namespace, &self.metadata.name);
    }
}

const fn kind_of(view: View) -> WorkloadKind {
    match view {
        View::StatefulSets => WorkloadKind::StatefulSet,
        View::Deployments
        | View::Namespaces
        | View::Nodes
        | View::ReplicaSets
        | View::Pods
        | View::PodDisruptionBudgets
        | View::NodePools
        | View::AutoscalerStatus => WorkloadKind::Deployment,
    }
}

impl Indexed for slim::ReplicaSet {
    fn apply(self, index: &mut Index, _: View, epoch: Epoch) {
        index.apply_replica_set(&self, epoch);
    }

    fn delete(&self, index: &mut Index, _: View) {
        index.delete_replica_set(&self.metadata.uid);
    }
}

impl Indexed for slim::PodDisruptionBudget {
    fn apply(self, index: &mut Index, _: View, epoch: Epoch) {
        index.apply_pdb(self, epoch);
    }

    fn delete(&self, index: &mut Index, _: View) {
        index.delete_pdb(&self.metadata.namespace, &self.metadata.name);
    }
}

impl Indexed for slim::NodePool {
    fn apply(self, index: &mut Index, _: View, epoch: Epoch) {
        index.apply_node_pool(&self, epoch);
    }

    fn delete(&self, index: &mut Index, _: View) {
        index.delete_node_pool(&self.metadata.name);
    }
}

impl Indexed for slim::AutoscalerStatus {
    fn apply(self, index: &mut Index, _: View, epoch: Epoch) {
        index.apply_autoscaler_status(&self, epoch);
    }

    fn delete(&self, index: &mut Index, _: View) {
        index.delete_autoscaler_status();
    }
}

/// A page of a list; the items are read one by one, so that one unreadable object costs only itself.
#[derive(Deserialize)]
struct Page<'a> {
    metadata: PageMeta,
    #[serde(borrow, default)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageMeta {
    #[serde(default)]
    resource_version: String,
    #[serde(default)]
    r#continue: Option<String>,
}

/// Reads one view into the index, for ever. `namespace` narrows it to one namespace; a kind that does not exist is looked
/// for again after `absent_pause`, or after the usual back-off if that is longer.
pub async fn pump<K: Indexed + std::fmt::Debug>(
    client: Client,
    resource: Resource,
    namespace: Option<String>,
    sink: Sink,
    absent_pause: Duration,
) {
    let mut pump = Pump::new(client, resource, namespace.as_deref(), sink);
    let mut version: Option<String> = None;
    loop {
        let step = match &mut version {
            None => pump.list::<K>().await.map(|listed| {
                version = Some(listed);
                Ended::Listed
            }),
            Some(seen) => pump.watch::<K>(seen).await,
        };
        let mut least = Duration::ZERO;
        let mut most = BACKOFF.1;
        match step {
            Ok(Ended::Listed) => continue,
            // Until the next one is there nothing is heard, however long that takes.
            Ok(Ended::WithNews) => {
                pump.disconnected();
                continue;
            }
            // A server that accepts watches and ends them at once is not to be asked in a tight loop.
            Ok(Ended::WithNothing) => pump.disconnected(),
            Err(failure) => {
                pump.disconnected();
                (pump.sink.failed)(resource.view, &failure);
                if failure.is_absent() {
                    least = absent_pause;
                }
                if failure.is_unanswered() {
                    most = UNREACHABLE_PAUSE;
                }
                match failure {
                    Failure::TooOld { verb: _, resource: _ } => version = None,
                    // Waited for long enough. A kind of which the API server never had an event gets no bookmarks
                    // either (its watch cache has no version to tell): longer and longer pauses would make it look old.
                    Failure::Silent { verb: _, resource: _ } => pump.pause = BACKOFF.0,
                    Failure::Api { .. } | Failure::Unreadable { .. } => {}
                }
            }
        }
        tokio::time::sleep(pump.pause.min(most).max(least)).await;
        pump.pause = (pump.pause * 2).min(most);
    }
}

/// 410; or a version from the future, as after a restored backup, which no waiting mends.
fn is_too_old(status: &Status) -> bool {
    let from_the_future = |cause: &StatusCause| cause.reason == "ResourceVersionTooLarge";
    status.code == 410 || status.details.as_ref().is_some_and(|details| details.causes.iter().any(from_the_future))
}

/// A line that is no event. The client tries it as a `Status` too, of which no field is required: what comes out then
/// has no code.
fn is_unreadable(error: &kube::Error) -> bool {
    match error {
        kube::Error::SerdeError(_) => true,
        kube::Error::Api(status) => status.code == 0,
        _ => false,
    }
}

/// Lists one view into the index, once; for commands that look and end.
pub async fn read<K: Indexed + std::fmt::Debug>(
    client: Client,
    resource: Resource,
    namespace: Option<&str>,
    sink: Sink,
) -> Result<(), Failure> {
    let mut pump = Pump::new(client, resource, namespace, sink);
    pump.list::<K>().await.map(|_| ())
}

/// How a list or watch ended that did not fail.
enum Ended {
    /// All of it was read.
    Listed,
    /// It told something, so the next one may begin at once.
    WithNews,
    /// It told nothing, not even a bookmark.
    WithNothing,
}

struct Pump {
    client: Client,
    resource: Resource,
    source: Source,
    path: String,
    sink: Sink,
    epoch: Epoch,
    pause: Duration,
}

impl Pump {
    fn new(client: Client, resource: Resource, namespace: Option<&str>, sink: Sink) -> Self {
        let namespace = namespace.filter(|_| resource.namespaced);
        let source = Source { view: resource.view, namespace: namespace.map(Into::into) };
        sink.index.lock().expect_source(source.clone());
        Self { client, resource, source, path: resource.path(namespace), sink, epoch: 0, pause: BACKOFF.0 }
    }

    /// Lists everything; the resource version to watch from.
    async fn list<K: Indexed>(&mut self) -> Result<String, Failure> {
        // What it shows is as old as the request, and no newer before the watch that follows is there.
        let asked = (self.sink.now)();
        self.epoch = self.sink.index.lock().begin_list();
        self.update(|currency| Currency { mixed: true, ..currency });
        let first = ListParams { field_selector: self.resource.field_selector(), ..ListParams::default() }.limit(PAGE);
        let mut params = first.clone();
        loop {
            let request =
                kube::core::Request::new(&self.path).list(&params).map_err(|error| self.request_error(error))?;
            let text = self.timed("list", self.client.request_text(request)).await?;
            let next = self.read_page::<K>(&text)?;
            if let Some(token) = next.r#continue.filter(|token| !token.is_empty()) {
                params = first.clone().continue_token(&token);
            } else {
                {
                    let mut index = self.sink.index.lock();
                    index.sweep(&self.source, self.epoch);
                    let listed = Currency { disconnected: Some(asked), ..Currency::heard_at(asked) };
                    index.set_currency(&self.source, listed);
                }
                (self.sink.heard)(self.resource.view);
                return Ok(next.resource_version);
            }
        }
    }

    fn read_page<K: Indexed>(&self, text: &str) -> Result<PageMeta, Failure> {
        let resource = self.resource.view.as_str();
        let page: Page<'_> = serde_json::from_str(text).map_err(|source| Failure::Unreadable { resource, source })?;
        let objects: Vec<K> = page.items.into_iter().flatten().filter_map(|raw| self.read_object(raw)).collect();
        let mut index = self.sink.index.lock();
        for object in objects {
            object.apply(&mut index, self.resource.view, self.epoch);
        }
        Ok(page.metadata)
    }

    fn read_object<K: Indexed>(&self, raw: &RawValue) -> Option<K> {
        serde_json::from_str(raw.get())
            .inspect_err(
                |error| tracing::warn!(resource = self.resource.view.as_str(), %error, "skipped an unreadable object"),
            )
            .ok()
    }

    /// Watches from a version until the server ends the watch. `seen` keeps up with what was seen, so that not even a
    /// failure makes the next watch tell again what is known: an old event after a newer one would turn back time.
    async fn watch<K: Indexed>(&mut self, seen: &mut String) -> Result<Ended, Failure> {
        let resource = self.resource.view.as_str();
        let field_selector = self.resource.field_selector();
        let params = WatchParams { field_selector, ..WatchParams::default() }.timeout(WATCH_SECONDS);
        let request =
            kube::core::Request::new(&self.path).watch(&params, seen).map_err(|error| self.request_error(error))?;
        let stream = self.timed("watch", self.client.request_events::<K>(request)).await?;
        let mut stream = std::pin::pin!(stream);
        let mut ended = Ended::WithNothing;
        self.heard();
        loop {
            let Ok(line) = tokio::time::timeout(LINE_TIMEOUT, stream.next()).await else {
                return Err(Failure::Silent { verb: "watch", resource });
            };
            match line {
                None => return Ok(ended),
                Some(Ok(event)) => {
                    if let Some(version) = self.apply(event)? {
                        *seen = version;
                    }
                    self.pause = BACKOFF.0;
                    ended = Ended::WithNews;
                }
                // One line that cannot be read is one object lost from view until the next list; the rest goes on.
                Some(Err(error)) if is_unreadable(&error) => {
                    tracing::warn!(resource, %error, "skipped an unreadable event");
                }
                Some(Err(kube::Error::Api(status))) if is_too_old(&status) => {
                    return Err(Failure::TooOld { verb: "watch", resource });
                }
                Some(Err(source)) => return Err(Failure::Api { verb: "watch", resource, source }),
            }
        }
    }

    /// Applies one event; the resource version it shows.
    fn apply<K: Indexed>(&self, event: WatchEvent<K>) -> Result<Option<String>, Failure> {
        let view = self.resource.view;
        let resource = view.as_str();
        let version = match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                let version = object.meta().resource_version.to_string();
                object.apply(&mut self.sink.index.lock(), view, self.epoch);
                version
            }
            WatchEvent::Deleted(object) => {
                object.delete(&mut self.sink.index.lock(), view);
                object.meta().resource_version.to_string()
            }
            WatchEvent::Bookmark(bookmark) => bookmark.metadata.resource_version,
            WatchEvent::Error(status) if is_too_old(&status) => {
                return Err(Failure::TooOld { verb: "watch", resource });
            }
            WatchEvent::Error(status) => {
                return Err(Failure::Api { verb: "watch", resource, source: kube::Error::Api(status) });
            }
        };
        self.heard();
        (self.sink.heard)(self.resource.view);
        Ok(Some(version).filter(|version| !version.is_empty()))
    }

    async fn timed<T>(
        &self,
        verb: &'static str,
        call: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, Failure> {
        let resource = self.resource.view.as_str();
        match tokio::time::timeout(PAGE_TIMEOUT, call).await {
            Err(_) => Err(Failure::Silent { verb, resource }),
            Ok(Err(kube::Error::Api(status))) if is_too_old(&status) => Err(Failure::TooOld { verb, resource }),
            Ok(Err(source)) => Err(Failure::Api { verb, resource, source }),
            Ok(Ok(value)) => Ok(value),
        }
    }

    fn request_error(&self, source: kube::core::request::Error) -> Failure {
        Failure::Api { verb: "list", resource: self.resource.view.as_str(), source: kube::Error::BuildRequest(source) }
    }

    /// Something was heard: the view is connected and current.
    fn heard(&self) {
        let now = (self.sink.now)();
        self.update(|currency| Currency { heard: now, disconnected: None, ..currency });
    }

    fn disconnected(&self) {
        let now = (self.sink.now)();
        self.update(|currency| Currency { disconnected: Some(currency.disconnected.unwrap_or(now)), ..currency });
    }

    fn update(&self, change: impl FnOnce(Currency) -> Currency) {
        self.sink.index.lock().update_currency(&self.source, change);
    }
}
