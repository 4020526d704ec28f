//! The embedded cluster as a stage: Spotalis as it is, on a cluster that is a value.

use std::collections::BTreeMap;
use std::time::Duration;

use embedded_cluster::Options;
use embedded_cluster::resource::Kind;
use embedded_cluster::store::Store;
use kube::Client;
use serde_json::Value;
use spotalis_config::{Config, Sources, variable};
use spotalis_runtime::Clock;
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::fault::Calm;
use crate::judge::{Judge, Rules};
use crate::play::{PlayError, Stage, Terms, play};
use crate::process::{Process, identity};
use crate::record::{Moment, Record, Recorder};
use crate::requests::Requests;
use crate::scenario::{Installation, Scenario};
use crate::wire::Exchange;
use crate::world::World;

/// A stage that is set.
pub struct Embedded {
    /// The world.
    pub world: World,
    client: Client,
    exchange: Exchange,
    judge: Option<Judge>,
    config: Config,
    processes: BTreeMap<u32, Process>,
    started: u32,
}

/// Plays a scenario on this thread, in no time.
pub fn run(scenario: &Scenario, terms: Terms, tell: impl FnMut(Duration, &Moment)) -> Result<Record, PlayError> {
    run_and_look(scenario, terms, tell, |_| ()).map(|(record, ())| record)
}

/// The same for as long as somebody listens: whoever is told says whether to go on. `None` if that ended before the scenario.
pub fn run_while(
    scenario: &Scenario,
    terms: Terms,
    mut tell: impl FnMut(Duration, &Moment) -> bool,
) -> Result<Option<Record>, PlayError> {
    let enough = Notify::new();
    let tell = |at, moment: &Moment| {
        if !tell(at, moment) {
            enough.notify_one();
        }
    };
    in_no_time(async {
        let mut stage = Embedded::new(&scenario.spotalis, terms).await?;
        tokio::select! {
            biased;
            () = enough.notified() => Ok(None),
            record = play(scenario, terms, &mut stage, tell) => record.map(Some),
        }
    })
}

/// The same as [`run`], with a look at the cluster as it is at the end.
pub fn run_and_look<R>(
    scenario: &Scenario,
    terms: Terms,
    tell: impl FnMut(Duration, &Moment),
    look: impl FnOnce(&Store) -> R,
) -> Result<(Record, R), PlayError> {
    in_no_time(async {
        let mut stage = Embedded::new(&scenario.spotalis, terms).await?;
        let record = play(scenario, terms, &mut stage, tell).await?;
        Ok((record, stage.world.cluster.read(look)))
    })
}

/// The same before a judge: what happened, and what was wrong with what Spotalis did.
pub fn judged(
    scenario: &Scenario,
    terms: Terms,
    tell: impl FnMut(Duration, &Moment),
) -> Result<(Record, Vec<String>), PlayError> {
    in_no_time(async {
        let mut stage = Embedded::new(&scenario.spotalis, terms).await?;
        let judge = stage.summon_judge();
        let record = play(scenario, terms, &mut stage, tell).await?;
        Ok((record, judge.wrongs()))
    })
}

/// Runs something on this thread, under a clock that jumps to the next thing that is due.
pub(crate) fn in_no_time<R>(work: impl Future<Output = R>) -> R {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O needs nothing of the system");
    let result = runtime.block_on(Box::pin(work));
    // Whatever waits still, nobody waits for.
    runtime.shutdown_background();
    result
}

/// The configuration of an installation: that which nobody changed, and its settings.
pub fn configuration(installation: &Installation) -> Result<Config, PlayError> {
    let environment = installation.settings.iter().map(|(key, value)| (variable(key), value.clone())).collect();
    let sources = Sources { environment, ..Sources::default() };
    Config::load(&sources).map_err(|errors| PlayError::Stage(Box::new(errors)))
}

impl Embedded {
    /// An empty cluster that lives. Has to be called within a runtime.
    pub async fn new(installation: &Installation, terms: Terms) -> Result<Self, PlayError> {
        Self::of(installation, terms, Options { seed: terms.seed, ..Options::default() }).await
    }

    /// An empty cluster of a kind of its own that lives. Has to be called within a runtime.
    pub async fn of(installation: &Installation, terms: Terms, options: Options) -> Result<Self, PlayError> {
        let config = configuration(installation)?;
        let world = World::empty(options, Requests::new(Box::new(Calm))).await;
        if terms.with_spotalis {
            world.register(&config).await;
        }
        let client = Client::new(world.cluster.service(), "default");
        let exchange = Exchange::new(world.cluster.clone(), None, world.doors.requests().clone());
        Ok(Self { world, client, exchange, judge: None, config, processes: BTreeMap::new(), started: 0 })
    }

    /// A judge of all that is done from now on, by the rules of this installation.
    fn summon_judge(&mut self) -> Judge {
        let rules = Rules::of(&self.config);
        let requests = self.world.doors.requests();
        let judge = Judge::of(&self.world.cluster, requests.clone(), rules);
        self.exchange = Exchange::new(self.world.cluster.clone(), Some(judge.clone()), requests.clone());
        self.judge = Some(judge.clone());
        judge
    }
}

impl Stage for Embedded {
    fn client(&self) -> &Client {
        &self.client
    }

    async fn watch(&mut self, recorder: &Recorder) -> Result<(), PlayError> {
        let kinds = [Kind::Node, Kind::Deployment, Kind::StatefulSet, Kind::ReplicaSet, Kind::Pod];
        self.world.cluster.read(|store| {
            kinds.iter().flat_map(|kind| store.list(*kind, None)).for_each(|object| recorder.see(object.json(), false));
        });
        let recorder = recorder.clone();
        self.world.cluster.observe(move |_, change| match (&change.after, &change.before) {
            (Some(object), _) => recorder.see(object.json(), false),
            (None, Some(object)) => recorder.see(object.json(), true),
            (None, None) => {}
        });
        Ok(())
    }

    fn dress(&self, object: Value) -> Value {
        object
    }

    async fn start(&mut self, replicas: u32) -> Result<(), PlayError> {
        for _ in 0..replicas {
            self.started += 1;
            if let Some(judge) = &self.judge {
                judge.knows(self.started, &identity(self.started));
            }
            let clock = Clock::starting_at(self.world.cluster.now());
            let process = Process::start(self.started, &self.exchange, &self.config, clock, &self.world.doors);
            self.processes.insert(self.started, process);
        }
        sleep(Duration::from_secs(1)).await;
        Ok(())
    }

    async fn end_leader(&mut self, in_order: bool) -> Result<bool, PlayError> {
        let leads = |process: &Process| process.metric("spotalis_leader").is_some_and(|leads| leads > 0.0);
        let Some(number) = self.processes.iter().find(|(_, process)| leads(process)).map(|(number, _)| *number) else {
            return Ok(false);
        };
        if let Some(process) = self.processes.remove(&number).filter(|_| in_order) {
            process.end().await;
        }
        Ok(true)
    }

    async fn end_all(&mut self) -> Result<(), PlayError> {
        for process in std::mem::take(&mut self.processes).into_values() {
            process.end().await;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue;

    #[test]
    fn nothing_is_played_once_nobody_listens() {
        let scenario = catalogue::scenario("rollout").unwrap();
        let terms = Terms { seed: 1, with_spotalis: true };
        let enough = Duration::from_secs(2);
        let mut last = Duration::ZERO;
        let stopped = run_while(&scenario, terms, |at, _| {
            last = at;
            at < enough
        });
        assert!(stopped.unwrap().is_none());
        assert!(last >= enough && last < enough + Duration::from_secs(1), "{last:?}");
        assert!(run_while(&scenario, terms, |_, _| true).unwrap().is_some());
    }
}
