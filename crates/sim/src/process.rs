//! One instance of Spotalis as a process: it starts, it ends in order or all at once, and reviews reach it while it is
//! ready.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use kube::Client;
use parking_lot::Mutex;
use spotalis_config::Config;
use spotalis_instance::{Instance, Surroundings};
use spotalis_runtime::Clock;
use spotalis_runtime::metrics::Metrics;
use spotalis_webhook::admission::Admission;
use spotalis_webhook::peer::{LeadersAnswer, PeerLink, PeerTransport};
use tokio_util::sync::CancellationToken;

use crate::fault::{ADMIT, ASK};
use crate::requests::Requests;
use crate::standstill::Tasks;
use crate::wire::Exchange;

/// One running process. Dropping it crashes it.
pub struct Process {
    number: u32,
    /// Cancelled when it is no more; its wire does that where it is to crash.
    dead: CancellationToken,
    stop: CancellationToken,
    tasks: Tasks,
    metrics: Metrics,
    doors: Doors,
}

/// Where reviews come in: those processes that are ready, in turn, as behind a Service. Clones are the same.
#[derive(Clone)]
pub struct Doors {
    open: Arc<Mutex<Open>>,
    requests: Requests,
}

#[derive(Default)]
struct Open {
    doors: BTreeMap<u32, Door>,
    turn: usize,
}

#[derive(Clone)]
struct Door {
    admission: Admission,
    is_ready: Arc<dyn Fn() -> bool + Send + Sync>,
    tasks: Tasks,
    dead: CancellationToken,
}

impl Doors {
    /// None is open yet.
    pub fn new(requests: Requests) -> Self {
        Self { open: Arc::default(), requests }
    }

    /// The requests of the run.
    pub const fn requests(&self) -> &Requests {
        &self.requests
    }

    /// The answer of the next one in turn; an error is no answer.
    pub async fn answer(&self, review: Bytes) -> Result<Bytes, String> {
        let door = {
            let mut open = self.open.lock();
            open.turn += 1;
            let ready: Vec<(&u32, &Door)> = open.doors.iter().filter(|(_, door)| (door.is_ready)()).collect();
            let turn = open.turn;
            ready.get(turn.checked_rem(ready.len()).unwrap_or(0)).map(|(number, door)| (**number, (*door).clone()))
        };
        let Some((number, Door { admission, is_ready: _, tasks, dead })) = door else {
            return Err("connection refused".to_owned());
        };
        let answer = || async {
            tasks.run().await;
            admission.answer(&review).await
        };
        let reply = self.requests.carry(ADMIT, number, &dead, answer).await;
        reply.map(|reply| Bytes::from(reply.body)).ok_or_else(|| "connection reset".to_owned())
    }
}

/// Among replicas a review comes in at the leader's door.
impl PeerTransport for Doors {
    fn carry<'a>(&'a self, leader: &'a str, review: Bytes) -> BoxFuture<'a, Option<LeadersAnswer>> {
        Box::pin(async move {
            let number = self.open.lock().doors.keys().find(|number| identity(**number) == leader).copied()?;
            let Door { admission, is_ready: _, tasks, dead } = self.open.lock().doors.get(&number)?.clone();
            let answer = || async {
                tasks.run().await;
                admission.answer_as_leader(&review).await
            };
            let reply = self.requests.carry(ASK, number, &dead, answer).await??;
            Some(LeadersAnswer { body: reply.body.into(), seat: reply.seat })
        })
    }
}

impl Process {
    /// Starts one. Its identity differs from those of all before it.
    pub fn start(number: u32, exchange: &Exchange, config: &Config, clock: Clock, doors: &Doors) -> Self {
        let (dead, stop, tasks) = (CancellationToken::new(), CancellationToken::new(), Tasks::default());
        let surroundings = Surroundings {
            client: Client::new(exchange.wire(number, dead.clone()), "default"),
            clock,
            config,
            identity: identity(number),
            peer_address: Some(identity(number)),
            build: ("simulated", "simulated"),
        };
        let instance = Instance::start(surroundings, &stop, &tasks);
        let is_ready: Arc<dyn Fn() -> bool + Send + Sync> = Arc::new(instance.synced());
        let Instance { admission, metrics, leadership, .. } = instance;
        let peers = PeerLink::new(leadership, &identity(number), Arc::new(doors.clone()));
        let admission = admission.with_peers(Arc::new(peers));
        let door = Door { admission, is_ready, tasks: tasks.clone(), dead: dead.clone() };
        doors.open.lock().doors.insert(number, door);
        Self { number, dead, stop, tasks, metrics, doors: doors.clone() }
    }

    /// Its number.
    pub const fn number(&self) -> u32 {
        self.number
    }

    /// Returns when it is no more.
    pub async fn died(&self) {
        self.dead.cancelled().await;
    }

    /// Whether it is no more.
    pub fn is_dead(&self) -> bool {
        self.dead.is_cancelled()
    }

    /// Ends it in order, as SIGTERM does.
    pub async fn end(self) {
        self.doors.open.lock().doors.remove(&self.number);
        self.stop.cancel();
        self.dead.run_until_cancelled(self.tasks.end()).await;
    }

    /// Nothing of it runs for that long, if it does not stand still already.
    pub fn stand_still(&self, length: Duration) {
        if self.tasks.stand_still(length) {
            self.doors.requests.is_deaf(self.number, length);
        }
    }

    /// The sum of a metric over all its series; absent, there is none of this name.
    pub fn metric(&self, name: &str) -> Option<f64> {
        let text = self.metrics.encode();
        let samples = text
            .lines()
            .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ') || rest.starts_with('{')));
        let values = samples.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        values.fold(None, |sum, value| Some(sum.unwrap_or(0.0) + value))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.doors.open.lock().doors.remove(&self.number);
        self.dead.cancel();
        self.stop.cancel();
    }
}

/// Who a process is in the Lease.
pub fn identity(number: u32) -> String {
    format!("spotalis-{number}")
}
