//! Plays a scenario where somebody has set the stage: on the embedded cluster, or on a real control plane.
//!
//! All that is done to the world is done here, by requests that anybody with the rights could send, so that both stages see
//! the same. What time is, is tokio's business: paused, an hour takes no time.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use embedded_cluster::resource::Kind;
use kube::Client;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, sleep_until};

use crate::chance::Chance;
use crate::fleet::Fleet;
use crate::record::{Moment, Record, Recorder};
use crate::scenario::{Happening, Scenario, Turn};
use crate::world::NAMESPACE;

/// Until a replica of Spotalis that ended has a successor.
const RESTART: Duration = Duration::from_secs(3);

/// Where a scenario is played.
pub trait Stage {
    /// The way to the API server, with all rights.
    fn client(&self) -> &Client;

    /// Has every version of every pod, node, workload and Event handed to the recorder from now on, those that are there
    /// included.
    fn watch(&mut self, recorder: &Recorder) -> impl Future<Output = Result<(), PlayError>>;

    /// Makes of an object one that lives here: of a node one that runs pods, of a workload one whose pods keep the times
    /// that it names.
    fn dress(&self, object: Value) -> Value;

    /// Starts so many replicas of Spotalis, and returns when all serve.
    fn start(&mut self, replicas: u32) -> impl Future<Output = Result<(), PlayError>>;

    /// Ends the replica that leads; false if there is none. In order, or all at once.
    fn end_leader(&mut self, in_order: bool) -> impl Future<Output = Result<bool, PlayError>>;

    /// Ends all replicas, in order.
    fn end_all(&mut self) -> impl Future<Output = Result<(), PlayError>>;
}

/// Why a scenario could not be played to its end.
#[derive(Debug, thiserror::Error)]
pub enum PlayError {
    /// The API server does not take an object.
    #[error("{what} is refused: {}", in_words(.source))]
    Refused {
        /// What was to be done.
        what: String,
        /// Why not.
        source: kube::Error,
    },
    /// An object of a kind that cannot be played with.
    #[error("{api_version} {kind} is not known here")]
    UnknownKind {
        /// Its version.
        api_version: String,
        /// Its kind.
        kind: String,
    },
    /// The stage broke down.
    #[error("{0}")]
    Stage(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// What the API server said, without all that it said besides.
fn in_words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

/// How a scenario is played.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Says which nodes are lost.
    pub seed: u64,
    /// Whether Spotalis is there.
    pub with_spotalis: bool,
}

/// Plays it. `tell` hears of everything at once, with the time since the workloads were created.
pub async fn play<S: Stage>(
    scenario: &Scenario,
    terms: Terms,
    stage: &mut S,
    mut tell: impl FnMut(Duration, &Moment),
) -> Result<Record, PlayError> {
    let recorder = Recorder::default();
    let fleet = Fleet::new(&scenario.nodes, Chance::of(terms.seed));
    let mut playing = Playing { scenario, terms, stage, fleet, agenda: BTreeMap::new(), entries: 0 };
    playing.set_up(&recorder).await?;
    recorder.begin();
    let begun = Instant::now();
    for (number, event) in scenario.events.iter().enumerate() {
        playing.plan(event.at, Due::Event(number));
    }
    playing.populate().await?;
    let end = begun + scenario.lasts;
    let mut told = 0;
    loop {
        for (at, moment) in recorder.since(told) {
            tell(at, &moment);
            told += 1;
        }
        let next = playing.agenda.first_key_value().map_or(end, |((at, _), _)| begun + *at);
        tokio::select! {
            biased;
            () = recorder.news() => {}
            () = sleep_until(next.min(end)) => {
                if next > end || playing.agenda.is_empty() {
                    break;
                }
                playing.step(begun, &recorder).await?;
            }
        }
    }
    let record = recorder.record();
    record.moments.iter().skip(told).for_each(|(at, moment)| tell(*at, moment));
    Ok(record)
}

/// What is to be done at some time.
enum Due {
    /// The so-manieth event of the scenario.
    Event(usize),
    /// These nodes are gone.
    Gone(Vec<String>),
    /// A node of this group comes, if it can be had.
    Comes(usize),
    /// A replica of Spotalis starts.
    Start,
}

struct Playing<'s, S> {
    scenario: &'s Scenario,
    terms: Terms,
    stage: &'s mut S,
    fleet: Fleet,
    /// By time, and in order of entry at the same time.
    agenda: BTreeMap<(Duration, u64), Due>,
    entries: u64,
}

impl<S: Stage> Playing<'_, S> {
    fn plan(&mut self, at: Duration, due: Due) {
        self.entries += 1;
        self.agenda.insert((at, self.entries), due);
    }

    async fn set_up(&mut self, recorder: &Recorder) -> Result<(), PlayError> {
        let scenario = self.scenario;
        let labels = json!({"spotalis.io/enabled": "true"});
        let own = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}});
        let described = || scenario.objects.iter().filter(|object| is_namespace(object));
        if described().all(|namespace| namespace["metadata"]["name"] != NAMESPACE) {
            self.create(own).await?;
        }
        for namespace in described() {
            // Every cluster has some of its own.
            self.apply(namespace).await?;
        }
        // What cannot be had from the beginning on was never there.
        for event in scenario.events.iter().filter(|event| event.at.is_zero()) {
            if let Happening::Available { nodes, count } = &event.happening {
                self.fleet.limit(nodes, *count);
            }
        }
        for node in self.fleet.first() {
            self.create(node).await?;
        }
        self.stage.watch(recorder).await?;
        if self.terms.with_spotalis {
            self.stage.start(self.scenario.spotalis.replicas).await?;
        }
        // Everybody has seen the nodes.
        sleep(Duration::from_secs(1)).await;
        Ok(())
    }

    async fn populate(&mut self) -> Result<(), PlayError> {
        let scenario = self.scenario;
        let workloads = scenario.workloads.iter().flat_map(crate::scenario::Workload::objects);
        let objects = scenario.objects.iter().filter(|object| !is_namespace(object)).cloned();
        for object in objects.chain(workloads) {
            self.create(object).await?;
        }
        Ok(())
    }

    async fn step(&mut self, begun: Instant, recorder: &Recorder) -> Result<(), PlayError> {
        let Some(((at, _), due)) = self.agenda.pop_first() else { return Ok(()) };
        match due {
            Due::Event(number) => {
                let happening = &self.scenario.events[number].happening;
                // To what is not there nothing happens.
                if matches!(happening, Happening::Spotalis(_)) && !self.terms.with_spotalis {
                    return Ok(());
                }
                recorder.happened(happening.to_string());
                self.happens(happening, at).await?;
            }
            Due::Gone(nodes) => self.end_nodes(&nodes).await?,
            Due::Comes(group) => {
                if let Some(node) = self.fleet.next(group) {
                    self.create(node).await?;
                }
            }
            Due::Start => self.stage.start(1).await?,
        }
        // The world may have taken its time.
        for coming in self.fleet.replacements() {
            self.plan(begun.elapsed().max(at) + coming.after, Due::Comes(coming.group));
        }
        Ok(())
    }

    async fn happens(&mut self, happening: &Happening, at: Duration) -> Result<(), PlayError> {
        match happening {
            Happening::Scale { workload, to } => self.change(workload, json!({"spec": {"replicas": to}})).await?,
            Happening::Restart(workload) => {
                let metadata = json!({"annotations": {"kubectl.kubernetes.io/restartedAt": format!("{at:?}")}});
                self.change(workload, json!({"spec": {"template": {"metadata": metadata}}})).await?;
            }
            Happening::Set { workload, labels, annotations } => {
                let metadata = json!({"labels": labels, "annotations": annotations});
                self.change(workload, json!({"metadata": metadata})).await?;
            }
            Happening::Load { workload, wants } => {
                let annotations = json!({embedded_cluster::controllers::autoscaler::WANTED: wants.to_string()});
                let key = (Kind::HorizontalPodAutoscaler, NAMESPACE, workload.as_str());
                self.patch(key, json!({"metadata": {"annotations": annotations}})).await?;
            }
            Happening::Reclaim { nodes, count, notice } => {
                let lost = self.fleet.lose(nodes, *count);
                self.plan(at + *notice, Due::Gone(lost));
            }
            Happening::Available { nodes, count } => {
                let lost = self.fleet.limit(nodes, *count);
                self.plan(at, Due::Gone(lost));
            }
            Happening::FailZone(zone) => {
                let lost = self.fleet.lose_zone(zone);
                self.plan(at, Due::Gone(lost));
            }
            Happening::Cordon { nodes, count } => {
                for node in self.fleet.choose(nodes, *count) {
                    self.patch((Kind::Node, "", &node), json!({"spec": {"unschedulable": true}})).await?;
                }
            }
            Happening::Uncordon(nodes) => {
                for node in self.fleet.of(nodes) {
                    self.patch((Kind::Node, "", &node), json!({"spec": {"unschedulable": null}})).await?;
                }
            }
            Happening::Apply(object) => self.apply(object).await?,
            Happening::Delete { kind, name } => {
                let known = embedded_cluster::resource::RESOURCES.iter().find(|row| row.name == kind);
                let Some(row) = known else {
                    return Err(PlayError::UnknownKind { api_version: String::new(), kind: kind.clone() });
                };
                let namespace = if row.namespaced { NAMESPACE } else { "" };
                self.delete((row.kind, namespace, name), None).await?;
            }
            Happening::Spotalis(turn) => self.turn(*turn, at).await?,
        }
        Ok(())
    }

    async fn turn(&mut self, turn: Turn, at: Duration) -> Result<(), PlayError> {
        match turn {
            Turn::Kill | Turn::Replace => {
                if self.stage.end_leader(turn == Turn::Replace).await? {
                    self.plan(at + RESTART, Due::Start);
                }
            }
            Turn::Stop => self.stage.end_all().await?,
            Turn::Start => self.stage.start(self.scenario.spotalis.replicas).await?,
        }
        Ok(())
    }

    /// They are not there any more, and neither are their pods. All nodes go first: what comes in place of a pod must not
    /// land on one that is about to go.
    async fn end_nodes(&self, nodes: &[String]) -> Result<(), PlayError> {
        for node in nodes {
            self.delete((Kind::Node, "", node), Some(0)).await?;
        }
        for node in nodes {
            let path = format!("/api/v1/pods?fieldSelector=spec.nodeName%3D{node}");
            let pods =
                self.send("GET", &path, None).await.map_err(|source| refused(format!("a look at {node}"), source))?;
            for pod in pods["items"].as_array().into_iter().flatten() {
                let text = |pointer: &str| pod.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
                self.delete((Kind::Pod, text("/metadata/namespace"), text("/metadata/name")), Some(0)).await?;
            }
        }
        Ok(())
    }

    async fn change(&self, workload: &str, patch: Value) -> Result<(), PlayError> {
        let is_it = |object: &Value| object.pointer("/metadata/name").and_then(Value::as_str) == Some(workload);
        let short = self.scenario.workloads.iter().flat_map(crate::scenario::Workload::objects);
        let all = self.scenario.objects.iter().cloned().chain(short);
        let kinds = ["Deployment", "StatefulSet"];
        let Some(object) =
            all.into_iter().find(|object| is_it(object) && kinds.iter().any(|kind| object["kind"] == *kind))
        else {
            return Ok(());
        };
        let (kind, namespace, name) = key_of(&object)?;
        self.patch((kind, &namespace, &name), patch).await
    }

    async fn create(&self, object: Value) -> Result<(), PlayError> {
        let (kind, namespace, name) = key_of(&object)?;
        let object = self.stage.dress(object);
        let sent = self.send("POST", &path(kind, &namespace, None), Some(("application/json", &object))).await;
        sent.map(drop).map_err(|source| refused(format!("{kind} {name}"), source))
    }

    async fn apply(&self, object: &Value) -> Result<(), PlayError> {
        let (kind, namespace, name) = key_of(object)?;
        match self.send("GET", &path(kind, &namespace, Some(&name)), None).await {
            Ok(_) => self.patch((kind, &namespace, &name), object.clone()).await,
            Err(error) if is_404(&error) => self.create(object.clone()).await,
            Err(source) => Err(refused(format!("a look at {kind} {name}"), source)),
        }
    }

    /// A JSON merge patch (RFC 7386). What is gone stays gone.
    async fn patch(&self, (kind, namespace, name): (Kind, &str, &str), patch: Value) -> Result<(), PlayError> {
        let body = Some(("application/merge-patch+json", &patch));
        match self.send("PATCH", &path(kind, namespace, Some(name)), body).await {
            Err(error) if !is_404(&error) => Err(refused(format!("a change of {kind} {name}"), error)),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    async fn delete(&self, (kind, namespace, name): (Kind, &str, &str), grace: Option<u32>) -> Result<(), PlayError> {
        let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": grace,
            "propagationPolicy": "Background"});
        match self.send("DELETE", &path(kind, namespace, Some(name)), Some(("application/json", &options))).await {
            Err(error) if !is_404(&error) => Err(refused(format!("the end of {kind} {name}"), error)),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    async fn send(&self, method: &str, path: &str, body: Option<(&str, &Value)>) -> Result<Value, kube::Error> {
        let request = http::Request::builder().method(method).uri(path);
        let request = match body {
            Some((content_type, body)) => {
                request.header(http::header::CONTENT_TYPE, content_type).body(Bytes::from(body.to_string()).to_vec())
            }
            None => request.body(Vec::new()),
        };
        self.stage.client().request(request.expect("names of objects are words")).await
    }
}

fn refused(what: String, source: kube::Error) -> PlayError {
    PlayError::Refused { what, source }
}

fn is_404(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

fn is_namespace(object: &Value) -> bool {
    object["apiVersion"] == "v1" && object["kind"] == "Namespace"
}

/// Kind, namespace and name of an object; one without a namespace is in that of the scenario.
fn key_of(object: &Value) -> Result<(Kind, String, String), PlayError> {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let (api_version, kind) = (text("/apiVersion"), text("/kind"));
    let unknown = || PlayError::UnknownKind { api_version: api_version.to_owned(), kind: kind.to_owned() };
    let kind = Kind::of_object(api_version, kind).ok_or_else(unknown)?;
    let namespace = match text("/metadata/namespace") {
        _ if !kind.resource().namespaced => "",
        "" => NAMESPACE,
        namespace => namespace,
    };
    Ok((kind, namespace.to_owned(), text("/metadata/name").to_owned()))
}

/// Where the API server has objects of a kind, or one of them.
pub(crate) fn path(kind: Kind, namespace: &str, name: Option<&str>) -> String {
    let row = kind.resource();
    let root = if row.group.is_empty() { "/api".to_owned() } else { format!("/apis/{}", row.group) };
    let within = if namespace.is_empty() { String::new() } else { format!("/namespaces/{namespace}") };
    let name = name.map(|name| format!("/{name}")).unwrap_or_default();
    format!("{root}/{}{within}/{}{name}", row.version, row.plural)
}
