//! A world for tests: the store, and as little of an API as controllers cannot do without (names, UIDs, times, graceful
//! deletion, finalizers, preconditions). It validates nothing and admits what no test refuses.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Controller, Engine, Refused, World, Write};
use crate::controllers::pods::second;
use crate::object::Object;
use crate::resource::Kind;
use crate::store::{Key, Store};

/// More changes than any test makes: two controllers that undo each other's writes must not run for ever.
const TOO_MANY: u64 = 200_000;

type Gate = Box<dyn Fn(&Store, &Write) -> Result<(), Refused> + Send>;

/// Where it is noon on the first of March, at the start.
#[derive(Clone)]
pub struct Bare(Arc<Inner>);

struct Inner {
    start: Instant,
    state: Mutex<State>,
    revision: watch::Sender<u64>,
    /// How long each write takes.
    latency: std::time::Duration,
}

struct State {
    store: Store,
    made: u64,
    gate: Gate,
    log: Vec<String>,
}

/// The date at the start.
pub fn epoch() -> Timestamp {
    "2026-03-01T12:00:00Z".parse().unwrap()
}

/// A refusal.
pub fn refused(code: u16, reason: &str, message: &str) -> Refused {
    Refused { code, reason: reason.to_owned(), message: message.to_owned() }
}

fn conflict(message: &str) -> Refused {
    refused(409, "Conflict", message)
}

fn key_of(object: &Value) -> Key {
    let object = Object::from(object.clone());
    let kind = object.kind().unwrap_or_else(|| panic!("no known kind: {}", object.json()));
    Key::new(kind, object.namespace(), object.name())
}

/// Five characters of those that Kubernetes makes names of.
fn suffix(mut number: u64) -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut characters = [b'b'; 5];
    for place in characters.iter_mut().rev() {
        *place = ALPHABET[usize::try_from(number % 27).unwrap()];
        number /= 27;
    }
    String::from_utf8_lossy(&characters).into_owned()
}

impl Default for Bare {
    fn default() -> Self {
        Self::new()
    }
}

impl Bare {
    /// An empty one whose writes take no time.
    pub fn new() -> Self {
        Self::slow(std::time::Duration::ZERO)
    }

    /// An empty one.
    pub fn slow(latency: std::time::Duration) -> Self {
        let state = State { store: Store::default(), made: 0, gate: Box::new(|_, _| Ok(())), log: Vec::new() };
        let (start, revision) = (Instant::now(), watch::Sender::new(0));
        Self(Arc::new(Inner { start, state: Mutex::new(state), revision, latency }))
    }

    /// Runs these controllers on it.
    pub fn run(&self, controllers: Vec<Box<dyn Controller>>) -> tokio::task::JoinHandle<()> {
        tokio::spawn(Engine::new(self.clone(), controllers).run())
    }

    /// Decides what is refused from now on.
    pub fn gate(&self, gate: impl Fn(&Store, &Write) -> Result<(), Refused> + Send + 'static) {
        self.0.state.lock().gate = Box::new(gate);
    }

    /// What was written, one line for each attempt: the milliseconds, the verb, the object.
    pub fn log(&self) -> Vec<String> {
        self.0.state.lock().log.clone()
    }

    /// What somebody does; it must succeed.
    pub fn does(&self, write: Write) {
        self.apply(write).unwrap();
    }

    /// Creates an object.
    pub fn create(&self, object: Value) {
        self.does(Write::Create(object));
    }

    /// Changes an object, its status included.
    pub fn change(&self, key: &Key, change: impl FnOnce(&mut Value)) {
        let mut object = self.get(key).json().clone();
        let spec = object["spec"].clone();
        change(&mut object);
        if object["spec"] != spec {
            object["metadata"]["generation"] = json!(object["metadata"]["generation"].as_i64().unwrap_or(0) + 1);
        }
        self.with(|state| {
            state.store.put(key.clone(), object);
        });
    }

    /// Deletes an object gracefully.
    pub fn delete(&self, key: &Key) {
        let uid = self.get(key).uid().to_owned();
        self.does(Write::Delete { key: key.clone(), uid, grace: None });
    }

    /// An object.
    pub fn get(&self, key: &Key) -> Arc<Object> {
        self.find(key).unwrap_or_else(|| panic!("{key:?} is not there"))
    }

    /// An object, if it is there.
    pub fn find(&self, key: &Key) -> Option<Arc<Object>> {
        self.read(|store| store.get(key).cloned())
    }

    /// The objects of a kind.
    pub fn list(&self, kind: Kind) -> Vec<Arc<Object>> {
        self.read(|store| store.list(kind, None).cloned().collect())
    }

    /// The names of all that went, in that order.
    pub fn read_removed(&self) -> Vec<String> {
        self.read(|store| {
            let gone = store.changes_after(0).unwrap().filter(|change| change.after.is_none());
            gone.map(|change| change.key.name.to_string()).collect()
        })
    }

    /// Forgets all changes, as a compaction does.
    pub fn forget_changes(&self) {
        self.with(|state| state.store.compact(u64::MAX));
    }

    /// Lets time pass.
    pub async fn wait(&self, seconds: f64) {
        tokio::time::sleep(std::time::Duration::from_secs_f64(seconds)).await;
    }

    /// Whole seconds until a condition holds; it is looked at every tenth of a second, for an hour.
    pub async fn until(&self, holds: impl Fn(&Store) -> bool) -> i64 {
        let from = self.now();
        for _ in 0..36_000 {
            if self.read(|store| holds(store)) {
                return self.now().duration_since(from).as_secs();
            }
            self.wait(0.1).await;
        }
        panic!("did not come about within an hour");
    }

    fn with<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.0.state.lock();
        let result = change(&mut state);
        let revision = state.store.revision();
        assert!(revision < TOO_MANY, "the controllers do not come to rest");
        drop(state);
        self.0.revision.send_replace(revision);
        result
    }

    fn apply(&self, write: Write) -> Result<(), Refused> {
        let now = self.now();
        let millis = now.duration_since(epoch()).as_millis();
        self.with(|state| {
            let line = line(&write);
            let result = (state.gate)(&state.store, &write).and_then(|()| state.apply(write, now));
            let mark = if result.is_ok() { "" } else { " refused" };
            state.log.push(format!("{millis} {line}{mark}"));
            result
        })
    }
}

fn line(write: &Write) -> String {
    let name = |object: &Value| {
        let metadata = &object["metadata"];
        let name = metadata["name"].as_str().or(metadata["generateName"].as_str()).unwrap_or_default();
        format!("{} {name}", object["kind"].as_str().unwrap_or_default())
    };
    match write {
        Write::Create(object) => format!("create {}", name(object)),
        Write::Replace { object, subresource } => format!("replace{} {}", slash(*subresource), name(object)),
        Write::Delete { key, uid: _, grace } => {
            format!("delete {} {}{}", key.kind, key.name, grace.map_or_else(String::new, |grace| format!(" {grace}")))
        }
        Write::Bind { pod, uid: _, node } => format!("bind {} {node}", pod.name),
    }
}

fn slash(subresource: Option<&str>) -> String {
    subresource.map_or_else(String::new, |subresource| format!("/{subresource}"))
}

impl State {
    fn apply(&mut self, write: Write, now: Timestamp) -> Result<(), Refused> {
        match write {
            Write::Create(object) => self.create(object, now),
            Write::Replace { object, subresource } => self.replace(object, subresource),
            Write::Delete { key, uid, grace } => self.delete(&key, &uid, grace, now),
            Write::Bind { pod, uid, node } => self.bind(&pod, &uid, &node, now),
        }
    }

    fn create(&mut self, mut object: Value, now: Timestamp) -> Result<(), Refused> {
        self.made += 1;
        let metadata = &mut object["metadata"];
        if metadata["name"].is_null() {
            metadata["name"] = json!(format!("{}{}", metadata["generateName"].as_str().unwrap(), suffix(self.made)));
        }
        metadata["uid"] = json!(format!("00000000-0000-4000-8000-{:012}", self.made));
        metadata["creationTimestamp"] = json!(second(now));
        metadata["generation"] = json!(1);
        let key = key_of(&object);
        if self.store.get(&key).is_some() {
            return Err(refused(409, "AlreadyExists", "already exists"));
        }
        if key.kind == Kind::Pod {
            object["status"]["phase"] = json!("Pending");
        }
        self.store.put(key, object);
        Ok(())
    }

    fn existing(&self, key: &Key, uid: Option<&str>) -> Result<Arc<Object>, Refused> {
        let object = self.store.get(key).ok_or_else(|| refused(404, "NotFound", "not found"))?;
        if uid.is_some_and(|uid| uid != object.uid()) {
            return Err(conflict("the UID in the precondition does not match"));
        }
        Ok(object.clone())
    }

    fn replace(&mut self, object: Value, subresource: Option<&str>) -> Result<(), Refused> {
        let key = key_of(&object);
        let before = self.existing(&key, None)?;
        if object["metadata"]["resourceVersion"].as_str() != before.text("/metadata/resourceVersion") {
            return Err(conflict("the object has been modified"));
        }
        let mut after = before.json().clone();
        match subresource {
            Some("status") => {
                after["status"] = object["status"].clone();
                if key.kind == Kind::Deployment {
                    after["metadata"]["annotations"] = object["metadata"]["annotations"].clone();
                }
            }
            Some("finalize") => after["spec"]["finalizers"] = object["spec"]["finalizers"].clone(),
            Some(other) => panic!("no subresource {other}"),
            None => {
                let status = after["status"].take();
                after = object;
                after["status"] = status;
            }
        }
        if after["spec"] != *before.at("/spec") {
            after["metadata"]["generation"] = json!(before.generation() + 1);
        }
        assert_ne!(&after, before.json(), "a write that changes nothing: {key:?}");
        self.store.put(key.clone(), after);
        self.finish(&key);
        Ok(())
    }

    fn delete(&mut self, key: &Key, uid: &str, grace: Option<u32>, now: Timestamp) -> Result<(), Refused> {
        let before = self.existing(key, Some(uid))?;
        let bound = key.kind == Kind::Pod && !before.node().is_empty();
        let default = if bound { before.number("/spec/terminationGracePeriodSeconds").unwrap_or(30) } else { 0 };
        let grace = grace.map_or(default, i64::from);
        let already = before.number("/metadata/deletionGracePeriodSeconds");
        if already.is_some_and(|already| already <= grace) && grace != 0 {
            return Ok(());
        }
        let mut after = before.json().clone();
        if after["metadata"]["deletionTimestamp"].is_null() || already.is_some() {
            let end = now + SignedDuration::from_secs(grace);
            after["metadata"]["deletionTimestamp"] = json!(second(end));
            after["metadata"]["deletionGracePeriodSeconds"] = json!(grace);
        }
        if key.kind == Kind::Namespace {
            after["status"]["phase"] = json!("Terminating");
        }
        if after != *before.json() {
            self.store.put(key.clone(), after);
        }
        self.finish(key);
        Ok(())
    }

    /// Takes away what is deleted and held by nothing.
    fn finish(&mut self, key: &Key) {
        let Some(object) = self.store.get(key) else { return };
        let held = !object.list("/metadata/finalizers").is_empty() || !object.list("/spec/finalizers").is_empty();
        let over = object.number("/metadata/deletionGracePeriodSeconds") == Some(0);
        if object.deletion().is_some() && over && !held {
            self.store.remove(key);
        }
    }

    fn bind(&mut self, pod: &Key, uid: &str, node: &str, now: Timestamp) -> Result<(), Refused> {
        let before = self.existing(pod, Some(uid))?;
        if !before.node().is_empty() {
            return Err(conflict("pod is already assigned to a node"));
        }
        let mut after = before.json().clone();
        after["spec"]["nodeName"] = json!(node);
        let scheduled = json!({"type": "PodScheduled", "status": "True", "lastTransitionTime": second(now)});
        crate::controllers::pods::set_condition(&mut after, scheduled);
        self.store.put(pod.clone(), after);
        Ok(())
    }
}

impl World for Bare {
    fn read<R>(&self, look: impl FnOnce(&Store) -> R) -> R {
        look(&self.0.state.lock().store)
    }

    fn now(&self) -> Timestamp {
        epoch() + SignedDuration::try_from(self.0.start.elapsed()).unwrap()
    }

    async fn perform(&self, write: Write) -> Result<(), Refused> {
        if !self.0.latency.is_zero() {
            tokio::time::sleep(self.0.latency).await;
        }
        self.apply(write)
    }

    async fn changed(&self, after: u64) {
        let mut revision = self.0.revision.subscribe();
        let _sender_lives_with_self = revision.wait_for(|revision| *revision > after).await;
    }
}

/// A store that holds these objects, each with a UID that is its name with `-uid` unless it has one.
pub fn store_of(objects: impl IntoIterator<Item = Value>) -> Store {
    let mut store = Store::default();
    for mut object in objects {
        if object["metadata"]["uid"].is_null() {
            object["metadata"]["uid"] = json!(format!("{}-uid", object["metadata"]["name"].as_str().unwrap()));
        }
        if object["metadata"]["creationTimestamp"].is_null() {
            object["metadata"]["creationTimestamp"] = json!(second(epoch()));
        }
        store.put(key_of(&object), object);
    }
    store
}

/// The writes of an act in short: what [`Bare::log`] has, without the time; batches are separated by `|`.
pub fn short(act: &super::Act) -> String {
    let batches: Vec<String> =
        act.batches.iter().map(|batch| batch.iter().map(line).collect::<Vec<_>>().join(", ")).collect();
    batches.join(" | ")
}

/// Counts of the words that lines end in, for logs of which only the sum matters.
pub fn counts(log: &[String]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for line in log {
        let words: Vec<&str> = line.split(' ').skip(1).take(2).collect();
        *counts.entry(words.join(" ")).or_default() += 1;
    }
    counts
}
