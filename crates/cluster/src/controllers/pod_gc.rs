//! Pods that are bound to a node that is not there: nobody runs them or ends them, so they are taken away.

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::pods::{is_over, second, set_condition, write_status};
use crate::engine::{Act, Controller, Write};
use crate::resource::Kind;
use crate::store::{Change, Key, Store};

/// The real one looks every 20 seconds, and a second time after 40; a minute is in the middle of what comes of that.
const PATIENCE: SignedDuration = SignedDuration::from_mins(1);

/// The collector of orphaned pods.
#[derive(Clone, Copy, Debug)]
pub struct PodGc;

impl Controller for PodGc {
    fn name(&self) -> &'static str {
        "podgc"
    }

    fn touched(&self, store: &Store, change: &Change) -> Vec<Key> {
        match (change.key.kind, &change.after) {
            (Kind::Node, None) => store.pods_on(&change.key.name).map(|(key, _)| key.clone()).collect(),
            (Kind::Pod, Some(pod)) if !pod.node().is_empty() => {
                let missing = store.get(&Key::new(Kind::Node, "", pod.node())).is_none();
                if missing { vec![change.key.clone()] } else { Vec::new() }
            }
            _ => Vec::new(),
        }
    }

    fn delay(&self) -> SignedDuration {
        PATIENCE
    }

    fn look(&self, store: &Store, key: &Key, now: Timestamp) -> Act {
        let lost = |node: &str| !node.is_empty() && store.get(&Key::new(Kind::Node, "", node)).is_none();
        let Some(pod) = store.get(key).filter(|pod| lost(pod.node())) else { return Act::none() };
        let grace = pod.number("/metadata/deletionGracePeriodSeconds");
        if grace == Some(0) {
            return Act::none();
        }
        let mut after = pod.json().clone();
        if !is_over(pod) {
            after["status"]["phase"] = json!("Failed");
            set_condition(
                &mut after,
                json!({
                    "type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC",
                    "message": "PodGC: node no longer exists", "lastTransitionTime": second(now),
                }),
            );
        }
        let gone = Write::Delete { key: key.clone(), uid: pod.uid().to_owned(), grace: Some(0) };
        Act { batches: vec![write_status(pod, after), vec![gone]], again: None }
    }
}
