//! The watches, and what happens when something is heard on them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use kube::Client;
use parking_lot::Mutex;
use spotalis_controller::Balance;
use spotalis_kube::index::{Index, View};
use spotalis_kube::slim;
use spotalis_kube::watch::{self, Failure, Resource, Sink};
use spotalis_runtime::Clock;
use spotalis_runtime::leadership::Leadership;
use spotalis_runtime::metrics::WatchFreshness;
use tokio::sync::Notify;

/// Pause before a kind of somebody else's is looked for again, where it does not exist.
const ABSENT_KIND_PERIOD: Duration = Duration::from_mins(10);

/// Whom news of the cluster concern.
pub(crate) struct Listeners {
    pub(crate) index: Arc<Mutex<Index>>,
    pub(crate) freshness: WatchFreshness,
    pub(crate) changed: Arc<Notify>,
    pub(crate) balance: Balance,
    pub(crate) leadership: Leadership,
    pub(crate) clock: Clock,
}

impl Listeners {
    /// What happens when something was heard.
    pub(crate) fn sink(self) -> Sink {
        let Self { index, freshness, changed, balance, leadership, clock } = self;
        let heard = index.clone();
        Sink {
            index,
            heard: Arc::new(move |view| {
                freshness.heard(view.as_str());
                changed.notify_waiters();
                let (keys, room_changed) = {
                    let mut index = heard.lock();
                    (index.take_changed(), index.take_room_changed())
                };
                // A follower starts its term with every workload, so what changes before is not kept.
                if leadership.term().is_some() {
                    balance.notify(keys);
                    if room_changed {
                        balance.room_changed();
                    }
                }
            }),
            now: Arc::new(move || clock.steady()),
            failed: Arc::new(report),
        }
    }
}

/// A failing watch is tried again for ever; somebody has to hear why.
fn report(view: View, failure: &Failure) {
    let resource = view.as_str();
    if failure.is_forbidden() {
        tracing::error!(
            resource,
            error = %spotalis_runtime::text::chain(failure),
            "{}", failure.forbidden_hint().unwrap_or_default()
        );
    } else if matches!(failure, Failure::Silent { verb: "watch", resource: _ }) {
        // Resumed at once, and usual for a kind of which the cluster has no object: no bookmarks either.
        tracing::debug!(resource, error = %failure, "resuming");
    } else if !View::PROVISIONERS.contains(&view) {
        tracing::warn!(resource, error = %spotalis_runtime::text::chain(failure), "trying again");
    }
}

/// What has to go on for the index to know everything, or everything of these namespaces.
pub(crate) fn pumps(
    client: &Client,
    only: &BTreeSet<Box<str>>,
    sink: &Sink,
) -> impl Iterator<Item = BoxFuture<'static, ()>> {
    let namespaces: Vec<Option<String>> =
        if only.is_empty() { vec![None] } else { only.iter().map(|name| Some(name.to_string())).collect() };
    let scopes = move |view: View| if Resource::of(view).is_namespaced() { namespaces.clone() } else { vec![None] };
    let required =
        View::REQUIRED.into_iter().flat_map(move |view| scopes(view).into_iter().map(move |scope| (view, scope)));
    let all = required.chain(View::PROVISIONERS.into_iter().map(|view| (view, None)));
    all.map(|(view, scope)| pump(client.clone(), view, scope, sink.clone()).boxed())
}

async fn pump(client: Client, view: View, namespace: Option<String>, sink: Sink) {
    let resource = Resource::of(view);
    let absent_pause = if View::PROVISIONERS.contains(&view) { ABSENT_KIND_PERIOD } else { Duration::ZERO };
    match view {
        View::Namespaces => watch::pump::<slim::Namespace>(client, resource, namespace, sink, absent_pause).await,
        View::Nodes => watch::pump::<slim::Node>(client, resource, namespace, sink, absent_pause).await,
        View::Pods => watch::pump::<slim::Pod>(client, resource, namespace, sink, absent_pause).await,
        View::Deployments | View::StatefulSets => {
            watch::pump::<slim::Workload>(client, resource, namespace, sink, absent_pause).await;
        }
        View::ReplicaSets => watch::pump::<slim::ReplicaSet>(client, resource, namespace, sink, absent_pause).await,
        View::PodDisruptionBudgets => {
            watch::pump::<slim::PodDisruptionBudget>(client, resource, namespace, sink, absent_pause).await;
        }
        View::NodePools => watch::pump::<slim::NodePool>(client, resource, namespace, sink, absent_pause).await,
        View::AutoscalerStatus => {
            watch::pump::<slim::AutoscalerStatus>(client, resource, namespace, sink, absent_pause).await;
        }
    }
}
