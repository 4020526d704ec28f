//! One running instance of Spotalis: its parts, put together.
//!
//! Given a client, a clock, a configuration and a name, it watches, leads when it is its turn, and answers admission
//! reviews. It opens no port, reads no file and no environment, and knows no process: the binary adds those, and a
//! simulation does without them. Nothing is decided here.

mod watching;
mod wiring;

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use kube::Client;
use parking_lot::Mutex;
use spotalis_config::Config;
use spotalis_controller::{Balance, BalanceMetrics};
use spotalis_kube::index::Index;
use spotalis_runtime::apiclient::RateLimit;
use spotalis_runtime::events::{CONTROLLER, EventMetrics, EventRecorder, Reporter};
use spotalis_runtime::leadership::{Candidate, Leadership, LeadershipMetrics};
use spotalis_runtime::metrics::Metrics;
use spotalis_runtime::writer::Writer;
use spotalis_runtime::{Clock, ServerTime};
use spotalis_webhook::admission::{self, Admission};
use spotalis_webhook::metrics::AdmissionMetrics;
use tokio::sync::{Notify, watch as channel};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use wiring::{balance_settings, rules};

/// The Lease of the controllers.
pub const LEASE: &str = "spotalis-controller";
/// Events that may wait to be published.
const EVENT_QUEUE: usize = 1_024;
/// How often reservations that ran out are ended.
const EXPIRY_PERIOD: Duration = Duration::from_secs(1);
/// How long a write may take.
const WRITE_LIMIT: Duration = Duration::from_secs(10);

/// What an instance is given.
pub struct Surroundings<'a> {
    /// The way to the API server.
    pub client: Client,
    /// Where the time comes from.
    pub clock: Clock,
    /// What was configured.
    pub config: &'a Config,
    /// Who it is in the Lease and in Events.
    pub identity: String,
    /// `HOST:PORT` at which other replicas ask it while it leads.
    pub peer_address: Option<String>,
    /// Version and source revision, for the metrics.
    pub build: (&'static str, &'static str),
}

/// What an instance consists of, for those who serve it to others.
pub struct Instance {
    /// Answers reviews.
    pub admission: Admission,
    /// Whether it leads, and who else does.
    pub leadership: Leadership,
    /// What it counts.
    pub metrics: Metrics,
    /// What may be changed while it runs.
    pub adjustable: Adjustable,
    index: Arc<Mutex<Index>>,
}

/// Settings on their way to whom they concern. Clones are the same.
#[derive(Clone)]
pub struct Adjustable {
    index: Arc<Mutex<Index>>,
    balance_settings: channel::Sender<spotalis_controller::Settings>,
    admission_settings: channel::Sender<admission::Settings>,
    /// Of everything that is sent to the API server.
    pace: Arc<RateLimit>,
    balance: Balance,
}

/// Runs the tasks of an instance. All of them end after its `stop`, some only when what they do is done.
pub trait Executor {
    /// Begins a task.
    fn spawn(&self, task: BoxFuture<'static, ()>);
}

impl Executor for TaskTracker {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.spawn(task);
    }
}

impl Instance {
    /// Starts it. `stop` asks for its end, which has come when all of its tasks have ended.
    pub fn start(surroundings: Surroundings<'_>, stop: &CancellationToken, tasks: &dyn Executor) -> Self {
        let Surroundings { client, clock, config, identity, peer_address, build: (version, revision) } = surroundings;
        // The times on objects are the API server's.
        let (server_time, client) = ServerTime::learned_from(client, clock);
        let settings = &config.settings;
        let mut metrics = Metrics::new(version, revision, clock);
        let index = Arc::new(Mutex::new(Index::new(rules(config))));
        let changed = Arc::new(Notify::new());
        let (balance_settings, balance_receiver) = channel::channel(balance_settings(config));
        let (admission_settings, admission_receiver) = channel::channel(wiring::admission_settings(config));

        let event_metrics = EventMetrics::default();
        event_metrics.register(metrics.registry());
        let api = &settings.controller.api_client;
        let pace = Arc::new(RateLimit::new(api.qps, api.burst));
        // Ends after the last term: what a leader does last is told as well.
        let silence = CancellationToken::new();
        let (events, publish) = EventRecorder::new(
            client.clone(),
            Reporter { controller: CONTROLLER.to_owned(), instance: identity.clone() },
            clock,
            event_metrics,
            pace.clone(),
            EVENT_QUEUE,
            silence.clone(),
        );
        tasks.spawn(Box::pin(publish));

        let leadership_metrics = LeadershipMetrics::default();
        leadership_metrics.register(metrics.registry());
        let leadership = if settings.controller.leader_election.enabled {
            let candidate = Candidate {
                client: client.clone(),
                namespace: settings.controller.leader_election.namespace.to_string(),
                lease: LEASE.to_owned(),
                identity: identity.clone(),
                peer_address,
                timing: wiring::timing(config),
            };
            let (leadership, campaign) = Leadership::contend(candidate, clock, leadership_metrics, stop.clone());
            let whole = until_synced(index.clone(), changed.clone());
            let stop = stop.clone();
            tasks.spawn(Box::pin(async move {
                // Followers ask the leader, so it has to know more than they.
                if stop.run_until_cancelled_owned(whole).await.is_some() {
                    campaign.await;
                }
            }));
            leadership
        } else {
            Leadership::alone(&identity, clock, &leadership_metrics, stop)
        };
        let writer = Writer::new(client.clone(), pace.clone(), leadership.clone(), WRITE_LIMIT);

        let balance_metrics = BalanceMetrics::register(metrics.registry());
        let balance = Balance::new(
            index.clone(),
            writer,
            events.clone(),
            balance_metrics,
            balance_receiver,
            (clock, server_time),
        );
        let admission_metrics = AdmissionMetrics::register(metrics.registry(), index.clone());
        let admission =
            Admission::new(index.clone(), changed.clone(), admission_receiver, events, admission_metrics, clock);

        let listeners = watching::Listeners {
            index: index.clone(),
            freshness: metrics.freshness(),
            changed,
            balance: balance.clone(),
            leadership: leadership.clone(),
            clock,
        };
        let until_stop = |task| {
            let task = stop.clone().run_until_cancelled_owned(task);
            tasks.spawn(Box::pin(async move {
                task.await;
            }));
        };
        watching::pumps(&client, &config.opt_in.watch_namespaces, &listeners.sink()).for_each(until_stop);
        until_stop(expire(index.clone(), clock).boxed());
        let (leading, terms, ended) = (balance.clone(), leadership.clone(), stop.clone());
        tasks.spawn(Box::pin(async move {
            lead(&leading, &terms, &ended).await;
            silence.cancel();
        }));
        let adjustable = Adjustable { index: index.clone(), balance_settings, admission_settings, pace, balance };
        Self { admission, leadership, metrics, adjustable, index }
    }

    /// Tells, whenever asked, whether its first lists are complete.
    pub fn synced(&self) -> impl Fn() -> bool + Send + Sync + 'static {
        let index = self.index.clone();
        move || index.lock().is_synced()
    }
}

impl Adjustable {
    /// What of a changed configuration needs no restart holds from now on.
    pub fn put_in_force(&self, config: &Config) {
        let Self { index, balance_settings, admission_settings, pace, balance } = self;
        let api = &config.settings.controller.api_client;
        pace.set(api.qps, api.burst);
        index.lock().set_rules(rules(config));
        balance_settings.send_replace(wiring::balance_settings(config));
        admission_settings.send_replace(wiring::admission_settings(config));
        balance.notify_all();
    }
}

/// Leads term after term, until the process is to end.
async fn lead(balance: &Balance, leadership: &Leadership, stop: &CancellationToken) {
    // A replica that leads alone has no campaign whose end would be the end of terms.
    while let Some(Some(term)) = stop.run_until_cancelled(leadership.next_term()).await {
        tracing::info!(term = term.number, "leading");
        balance.lead(&term).await;
        tracing::info!(term = term.number, "no longer leading");
    }
}

/// Waits until all first lists are complete.
async fn until_synced(index: Arc<Mutex<Index>>, changed: Arc<Notify>) {
    loop {
        let news = changed.notified();
        if index.lock().is_synced() {
            return;
        }
        news.await;
    }
}

async fn expire(index: Arc<Mutex<Index>>, clock: Clock) {
    let mut ticks = tokio::time::interval(EXPIRY_PERIOD);
    loop {
        ticks.tick().await;
        index.lock().expire_reservations(clock.steady());
    }
}
