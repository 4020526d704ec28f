//! Watching: what changed since a revision, and from then on what changes, as far as a selection sees it.
//!
//! An object that leaves the selection is deleted for who watches it, one that enters is added. Who lags behind what is
//! still known is told 410 and let go.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use super::list::{Selection, version};
use super::options::ListOptions;
use super::reply::{Body, Form};
use super::request::{Request, Target};
use super::service::{Outcome, Reply};
use super::status::Status;
use super::{decode, schema};
use crate::cluster::Cluster;
use crate::object::Object;
use crate::resource::Kind;
use crate::store::{Change, Store, at_revision};

/// How often who asked for bookmarks gets one.
const BOOKMARKS: Duration = Duration::from_mins(1);
/// How long before the end there is another.
const FAREWELL: Duration = Duration::from_secs(2);
/// How long a watch lasts that did not say. A real server draws something between half an hour and an hour.
const TIMEOUT: Duration = Duration::from_mins(45);

struct Watcher {
    cluster: Cluster,
    target: Target,
    selection: Selection,
    form: Form,
    /// What was already looked at.
    seen: u64,
    ready: Vec<u8>,
    /// An object of which nothing is said: what a bookmark is, but for its revision.
    blank: Value,
    deadline: Instant,
    /// When the next bookmark is due, if they are wanted.
    bookmark: Option<Instant>,
    ended: bool,
}

/// In a minute, or shortly before the end.
fn next_bookmark(now: Instant, deadline: Instant) -> Instant {
    let regular = now + BOOKMARKS;
    let last = deadline.checked_sub(FAREWELL).filter(|last| *last > now);
    last.map_or(regular, |last| regular.min(last))
}

fn blank(kind: Kind) -> Value {
    let mut object =
        schema::of_kind(kind).and_then(|type_| decode::normalized(json!({}), type_).ok()).unwrap_or_else(|| json!({}));
    let row = kind.resource();
    object["kind"] = row.name.into();
    object["apiVersion"] = row.api_version().into();
    if row.subresources.contains(&"scale") {
        // In the server it is a number, and 0 if nobody said it.
        object["spec"]["replicas"] = 0.into();
    }
    object
}

impl Cluster {
    pub(crate) fn watch(&self, request: &Request, form: Form) -> Result<Reply, Status> {
        let options = ListOptions::of(&request.query)?;
        let selection = Selection::of(request)?;
        let from = version(&options.resource_version).map_err(|error| Status::bare(500, error))?;
        let now = Instant::now();
        let deadline = now + options.timeout.map_or(TIMEOUT, Duration::from_secs);
        let mut watcher = Watcher {
            cluster: self.clone(),
            target: request.target.clone(),
            selection,
            form,
            seen: from,
            ready: Vec::new(),
            blank: blank(request.target.kind),
            deadline,
            bookmark: options.bookmarks.then(|| next_bookmark(now, deadline)),
            ended: false,
        };
        let initial = options.initial_events.unwrap_or(from == 0);
        // Who asks in the old way for what is there is told its end in the new one.
        self.read(|store| watcher.start(store, initial, initial && options.bookmarks));
        Ok(Outcome::Stream(watcher.into_body()).into())
    }
}

impl Watcher {
    /// What there is already, for who wants to hear of it.
    fn start(&mut self, store: &Store, initial: bool, marked: bool) {
        if initial && self.seen <= store.revision() {
            let there = store.list(self.target.kind, self.target.scope());
            let there: Vec<Arc<Object>> = there.filter(|object| self.selection.matches(object)).cloned().collect();
            for object in there {
                self.event("ADDED", &object);
            }
            self.seen = store.revision();
            if marked {
                self.mark(true);
            }
        } else if self.seen == 0 {
            self.seen = store.revision();
        }
    }

    fn event(&mut self, type_: &str, object: &Object) {
        for part in ["{\"type\":\"", type_, "\",\"object\":"] {
            self.ready.extend_from_slice(part.as_bytes());
        }
        self.ready.extend_from_slice(&self.form.object(self.target.kind, object, self.cluster.now()));
        self.form = self.form.after_the_first();
        self.ready.extend_from_slice(b"}\n");
    }

    /// A bookmark: everything up to here was told.
    fn mark(&mut self, initial_end: bool) {
        let mut object = self.blank.clone();
        object["metadata"] = json!({"resourceVersion": self.seen.to_string()});
        if initial_end {
            object["metadata"]["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        self.event("BOOKMARK", &Object::from(object));
        self.bookmark = self.bookmark.map(|_| next_bookmark(Instant::now(), self.deadline));
    }

    /// What a change is to who sees only a selection.
    fn tell(&mut self, change: &Change) {
        let Change { revision, key, before, after } = change;
        let ours = self.target.scope().is_none_or(|namespace| *key.namespace == *namespace);
        if !ours {
            return;
        }
        let seen = |object: &Option<Arc<Object>>| object.clone().filter(|object| self.selection.matches(object));
        match (seen(before), seen(after)) {
            (None, None) => {}
            (None, Some(after)) => self.event("ADDED", &after),
            (Some(_), Some(after)) => self.event("MODIFIED", &after),
            (Some(before), None) => self.event("DELETED", &at_revision(&before, *revision)),
        }
    }

    /// Catches up with the store.
    fn catch_up(&mut self) {
        let cluster = self.cluster.clone();
        cluster.read(|store| {
            if store.revision() <= self.seen {
                return;
            }
            match store.changes_of(self.target.kind, self.seen) {
                Ok(changes) => {
                    let changes: Vec<Change> = changes.cloned().collect();
                    changes.iter().for_each(|change| self.tell(change));
                    self.seen = store.revision();
                }
                Err(compacted) => {
                    self.ready.extend_from_slice(b"{\"type\":\"ERROR\",\"object\":");
                    self.ready.extend(Status::expired(compacted.to_string()).json().to_string().into_bytes());
                    self.ready.extend_from_slice(b"}\n");
                    self.ended = true;
                }
            }
        });
    }

    async fn next(&mut self) -> Option<Bytes> {
        let cluster = self.cluster.clone();
        loop {
            if !self.ready.is_empty() {
                return Some(Bytes::from(std::mem::take(&mut self.ready)));
            }
            if self.ended {
                return None;
            }
            let mut news = pin!(cluster.news().of(self.target.kind));
            news.as_mut().enable();
            self.catch_up();
            if !self.ready.is_empty() || self.ended {
                continue;
            }
            let bookmark = self.bookmark;
            tokio::select! {
                biased;
                () = news => {}
                () = sleep_until(self.deadline) => self.ended = true,
                () = sleep_until(bookmark.unwrap_or(self.deadline)), if bookmark.is_some() => {
                    // Other kinds have changed meanwhile, of which nobody told.
                    self.catch_up();
                    self.mark(false);
                }
            }
        }
    }

    fn into_body(self) -> Body {
        Body::pieces(stream::unfold(self, |mut watcher| async move {
            let piece = watcher.next().await?;
            Some((piece, watcher))
        }))
    }
}
