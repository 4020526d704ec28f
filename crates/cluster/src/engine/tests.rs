//! The loop, on a world with controllers made for the purpose.

use serde_json::json;

use super::bare::{Bare, refused};
use super::*;
use crate::resource::Kind;

/// Wants as many copies of an object beside it as its data says, in batches 1, 2, 4.
struct Copies;

impl Controller for Copies {
    fn name(&self) -> &'static str {
        "copies"
    }

    fn touched(&self, _store: &Store, change: &Change) -> Vec<Key> {
        let name = change.key.name.split('-').next().unwrap_or_default();
        vec![Key::new(change.key.kind, &change.key.namespace, name)]
    }

    fn look(&self, store: &Store, key: &Key, _now: Timestamp) -> Act {
        let Some(wanted) = store.get(key).and_then(|object| object.number("/data/copies")) else { return Act::none() };
        let there = store.list(Kind::ConfigMap, Some(&key.namespace)).count() - 1;
        let missing = usize::try_from(wanted).unwrap_or_default().saturating_sub(there);
        let copy = || {
            let metadata = json!({"namespace": "a", "generateName": format!("{}-", key.name)});
            Write::Create(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}))
        };
        let copies = (0..missing).map(|_| copy()).collect();
        Act { batches: slow_start(copies), again: None }
    }

    fn refused(&self, store: &Store, key: &Key, verb: Verb, refused: &Refused, _now: Timestamp) -> Vec<Write> {
        assert_eq!(verb, Verb::Create);
        let mut object = store.get(key).unwrap().json().clone();
        if object["status"]["why"] == json!(refused.message) {
            return Vec::new();
        }
        object["status"]["why"] = json!(refused.message);
        vec![Write::Replace { object, subresource: Some("status") }]
    }
}

fn original(copies: u32) -> Value {
    let metadata = json!({"namespace": "a", "name": "x"});
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"copies": copies}})
}

fn times(log: &[String], word: &str) -> Vec<u64> {
    let times = log.iter().filter(|line| line.contains(word));
    times.map(|line| line.split(' ').next().unwrap().parse().unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn batches_follow_each_other_and_their_writes_are_under_way_together() {
    let world = Bare::slow(Duration::from_millis(10));
    world.create(original(10));
    world.run(vec![Box::new(Copies)]);
    world.wait(1.0).await;
    assert_eq!(times(&world.log(), "create ConfigMap x-"), [10, 20, 20, 30, 30, 30, 30, 40, 40, 40]);
}

/// With a quota of three and six wanted: batches of 1, 2 and 3, then one attempt per back-off, 13 in the first second.
#[tokio::test(start_paused = true)]
async fn a_refusal_ends_the_pass_is_written_down_once_and_is_retried_with_back_off() {
    let world = Bare::new();
    world.create(original(6));
    world.gate(|store, write| {
        let full = write.verb() == Verb::Create && store.list(Kind::ConfigMap, None).count() > 3;
        if full { Err(refused(403, "Forbidden", "exceeded quota")) } else { Ok(()) }
    });
    world.run(vec![Box::new(Copies)]);
    world.wait(1.0).await;
    let log = world.log();
    assert_eq!(times(&log, "create ConfigMap x-"), [0, 0, 0, 0, 0, 0, 5, 15, 35, 75, 155, 315, 635]);
    assert_eq!(times(&log, "status"), [0]);
    world.gate(|_, _| Ok(()));
    world.wait(10.0).await;
    assert_eq!(world.list(Kind::ConfigMap).len(), 7);
}

#[tokio::test(start_paused = true)]
async fn what_was_there_before_the_start_is_looked_at_and_so_is_what_was_forgotten() {
    let world = Bare::new();
    world.create(original(1));
    world.run(vec![Box::new(Copies)]);
    world.wait(0.1).await;
    assert_eq!(world.list(Kind::ConfigMap).len(), 2);
    world.change(&Key::new(Kind::ConfigMap, "a", "x"), |object| object["data"]["copies"] = json!(3));
    world.forget_changes();
    world.wait(0.1).await;
    assert_eq!(world.list(Kind::ConfigMap).len(), 4);
}

/// Asks for a look ten seconds after each, and removes the object at the third.
struct Patient;

impl Controller for Patient {
    fn name(&self) -> &'static str {
        "patient"
    }

    fn touched(&self, _store: &Store, change: &Change) -> Vec<Key> {
        if change.before.is_none() { vec![change.key.clone()] } else { Vec::new() }
    }

    fn delay(&self) -> SignedDuration {
        SignedDuration::from_secs(3)
    }

    fn look(&self, store: &Store, key: &Key, now: Timestamp) -> Act {
        let Some(object) = store.get(key) else { return Act::none() };
        if now.duration_since(object.created()) < SignedDuration::from_secs(20) {
            return Act::at(Some(now + SignedDuration::from_secs(10)));
        }
        Act::now(vec![Write::Delete { key: key.clone(), uid: object.uid().to_owned(), grace: None }])
    }
}

#[tokio::test(start_paused = true)]
async fn a_controller_may_look_later_and_again() {
    let world = Bare::new();
    world.create(original(1));
    world.run(vec![Box::new(Patient)]);
    world.wait(60.0).await;
    assert_eq!(times(&world.log(), "delete"), [23_000]);
}

#[tokio::test(start_paused = true)]
async fn that_something_to_be_deleted_is_gone_is_no_failure() {
    assert_eq!(failure(Verb::Delete, Err(refused(404, "NotFound", ""))), None);
    assert_eq!(failure(Verb::Delete, Err(refused(409, "Conflict", ""))), None);
    assert!(failure(Verb::Delete, Err(refused(429, "TooManyRequests", ""))).is_some());
    assert!(failure(Verb::Replace, Err(refused(409, "Conflict", ""))).is_some());
}
