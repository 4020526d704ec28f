//! Deletion: at once, after a grace period that somebody else ends, or once finalizers are gone.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::list::Selection;
use super::meta::{metadata, put_meta};
use super::options::{DeleteOptions, Propagation};
use super::reply::Form;
use super::request::Request;
use super::service::{Outcome, Reply};
use super::status::{Status, deleted};
use crate::clock::seconds;
use crate::cluster::{Cluster, State};
use crate::object::Object;
use crate::resource::Kind;
use crate::store::Key;

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// What came of a deletion.
pub(crate) enum Deletion {
    /// The object is gone; this was its last version.
    Gone(Arc<Object>),
    /// It waits.
    Pending(Arc<Object>),
    /// It was waiting already, and nothing changed.
    Unchanged(Arc<Object>),
}

impl Deletion {
    fn object(&self) -> &Arc<Object> {
        match self {
            Self::Gone(object) | Self::Pending(object) | Self::Unchanged(object) => object,
        }
    }
}

/// Kinds whose last version is the answer to their deletion.
const fn returns_object(kind: Kind) -> bool {
    matches!(kind, Kind::Pod | Kind::Namespace | Kind::ServiceAccount | Kind::ResourceQuota)
}

impl Cluster {
    pub(crate) async fn delete(&self, request: &Request) -> Result<Reply, Status> {
        let options = DeleteOptions::of(request)?;
        let key = request.target.key();
        self.admit_deletion(&key, options.dry_run).await?;
        let mut state = self.state();
        let deletion = self.delete_object(&mut state, &key, &options)?;
        let accepted = options.orphan == Some(false) && !matches!(deletion, Deletion::Gone(_));
        let code = if accepted { 202 } else { 200 };
        let as_object = matches!(deletion, Deletion::Pending(_)) || returns_object(key.kind);
        let object = deletion.object();
        Ok(if as_object {
            Outcome::Object(code, object.clone()).into()
        } else {
            Outcome::Json(code, deleted(key.kind, &key.name, object.uid())).into()
        })
    }

    pub(crate) fn delete_collection(&self, request: &Request, form: Form) -> Result<Reply, Status> {
        let selection = Selection::of(request)?;
        let options = DeleteOptions::of(request)?;
        let kind = request.target.kind;
        let mut state = self.state();
        let revision = state.store.revision();
        let there = state.store.list(kind, request.target.scope());
        let there: Vec<Arc<Object>> = there.filter(|object| selection.matches(object)).cloned().collect();
        for object in &there {
            self.delete_object(&mut state, &Key::new(kind, object.namespace(), object.name()), &options)?;
        }
        let metadata = json!({"resourceVersion": revision.to_string()});
        let there = there.iter().map(|object| &**object);
        Ok(Outcome::List(form.list(kind, &metadata, there, self.now())).into())
    }

    /// Deletes an object, as far as that can be done now.
    pub(crate) fn delete_object(
        &self,
        state: &mut State,
        key: &Key,
        options: &DeleteOptions,
    ) -> Result<Deletion, Status> {
        let Some(object) = state.store.get(key).cloned() else { return Err(Status::not_found(key.kind, &key.name)) };
        options.check()?;
        if key.kind == Kind::Namespace {
            if matches!(&*key.name, "default" | "kube-system" | "kube-public") {
                return Err(Status::forbidden(key.kind, &key.name, "this namespace may not be deleted"));
            }
            check_namespace(&object, options)?;
            if let Some(deletion) = self.terminate(state, key, &object, options) {
                return Ok(deletion);
            }
        }
        check_preconditions(key, &object, options)?;
        let now = self.now();
        let mut json = object.json().clone();
        let grace = match graceful(key.kind, &mut json, &object, options, now) {
            Grace::Pending => return Ok(Deletion::Unchanged(object)),
            Grace::None => None,
            Grace::Seconds(seconds) => Some(seconds),
        };
        let held = set_finalizers(&mut json, &object, key.kind, options);
        if grace.is_none() && held {
            mark(&mut json, now);
        }
        if grace.is_none() && !held {
            if options.dry_run {
                return Ok(Deletion::Gone(object));
            }
            let last = self.remove(state, key);
            return Ok(Deletion::Gone(last.unwrap_or(object)));
        }
        let waiting = held || grace.is_some_and(|seconds| seconds > 0);
        if options.dry_run {
            let object = Arc::new(Object::from(json));
            return Ok(if waiting { Deletion::Pending(object) } else { Deletion::Gone(object) });
        }
        let marked = if json == *object.json() { object } else { self.put(state, key.clone(), json) };
        if waiting {
            return Ok(Deletion::Pending(marked));
        }
        Ok(Deletion::Gone(self.remove(state, key).unwrap_or(marked)))
    }

    /// The first deletion of a namespace only begins its end. None if it has come so far that it can go.
    fn terminate(
        &self,
        state: &mut State,
        key: &Key,
        object: &Arc<Object>,
        options: &DeleteOptions,
    ) -> Option<Deletion> {
        if object.deletion().is_some() {
            let held = !object.list("/spec/finalizers").is_empty();
            return held.then(|| Deletion::Unchanged(object.clone()));
        }
        let mut json = object.json().clone();
        put_meta(&mut json, "deletionTimestamp", Some(seconds(self.now()).into()));
        json["status"]["phase"] = "Terminating".into();
        set_finalizers(&mut json, object, key.kind, options);
        if options.dry_run {
            return Some(Deletion::Pending(Arc::new(Object::from(json))));
        }
        Some(Deletion::Pending(self.put(state, key.clone(), json)))
    }
}

fn check_namespace(object: &Object, options: &DeleteOptions) -> Result<(), Status> {
    let conflict = |field: &str, asked: &str, found: &str| {
        let why = format!("Precondition failed: {field} in precondition: {asked}, {field} in object meta: {found}");
        Status::conflict(Kind::Namespace, object.name(), &why)
    };
    if let Some(uid) = options.uid.as_deref().filter(|uid| *uid != object.uid()) {
        return Err(conflict("UID", uid, object.uid()));
    }
    let revision = object.revision().to_string();
    if let Some(version) = options.resource_version.as_deref().filter(|version| *version != revision) {
        return Err(conflict("ResourceVersion", version, &revision));
    }
    Ok(())
}

pub(crate) fn check_preconditions(key: &Key, object: &Object, options: &DeleteOptions) -> Result<(), Status> {
    let found = object.uid();
    if let Some(uid) = options.uid.as_deref().filter(|uid| *uid != found) {
        let why = format!(
            "the UID in the precondition ({uid}) does not match the UID in record ({found}). The object might have been \
             deleted and then recreated"
        );
        return Err(Status::precondition(key.kind, &key.name, &why));
    }
    let found = object.revision().to_string();
    if let Some(version) = options.resource_version.as_deref().filter(|version| *version != found) {
        let why = format!(
            "the ResourceVersion in the precondition ({version}) does not match the ResourceVersion in record ({found}). \
             The object might have been modified"
        );
        return Err(Status::precondition(key.kind, &key.name, &why));
    }
    Ok(())
}

enum Grace {
    /// The kind knows none, or what there was is over.
    None,
    /// It is running, and this deletion does not shorten it.
    Pending,
    /// It begins, or gets shorter.
    Seconds(i64),
}

/// Only pods are given time.
fn graceful(kind: Kind, json: &mut Value, object: &Object, options: &DeleteOptions, now: Timestamp) -> Grace {
    if kind != Kind::Pod {
        return Grace::None;
    }
    // A negative time is one second.
    let asked = options.grace.map(|seconds| if seconds < 0 { 1 } else { seconds });
    if let Some(due) = object.deletion() {
        let running = object.number("/metadata/deletionGracePeriodSeconds").unwrap_or(0);
        if running == 0 {
            return Grace::None;
        }
        let Some(asked) = asked.filter(|asked| *asked < running) else { return Grace::Pending };
        let mut due = due.saturating_add(SignedDuration::from_secs(asked - running)).unwrap_or(now);
        let mut period = asked;
        if due < now {
            due = now;
            period = period.min(1);
        }
        set_deletion(json, due, period);
        return Grace::Seconds(period);
    }
    let over = matches!(object.text("/status/phase"), Some("Failed" | "Succeeded"));
    let unscheduled = object.text("/spec/nodeName").unwrap_or_default().is_empty();
    let period = asked.or(object.number("/spec/terminationGracePeriodSeconds")).unwrap_or(0);
    let period = if over || unscheduled {
        0
    } else if period < 0 {
        1
    } else {
        period
    };
    let due = now.saturating_add(SignedDuration::from_secs(period)).unwrap_or(now);
    set_deletion(json, due, period);
    count(json, object);
    Grace::Seconds(period)
}

fn set_deletion(json: &mut Value, due: Timestamp, period: i64) {
    put_meta(json, "deletionTimestamp", Some(seconds(due).into()));
    put_meta(json, "deletionGracePeriodSeconds", Some(period.into()));
}

/// Being deleted is a change of what is wanted.
fn count(json: &mut Value, object: &Object) {
    if object.generation() > 0 {
        put_meta(json, "generation", Some((object.generation() + 1).into()));
    }
}

/// Finalizers hold it: it is only marked.
fn mark(json: &mut Value, now: Timestamp) {
    let object = Object::from(json.clone());
    let due = object.deletion();
    if due.is_none() {
        count(json, &object);
    }
    let due = due.filter(|due| *due <= now).unwrap_or(now);
    set_deletion(json, due, 0);
}

/// Puts the finalizers of a propagation policy in place of what there was of them; whether any are left at all.
fn set_finalizers(json: &mut Value, object: &Object, kind: Kind, options: &DeleteOptions) -> bool {
    let there: Vec<&str> = object.list("/metadata/finalizers").iter().filter_map(Value::as_str).collect();
    let (mut orphan, mut foreground) = (there.contains(&ORPHAN), there.contains(&FOREGROUND));
    if kind == Kind::Event {
        (orphan, foreground) = (false, false);
    } else if let Some(orphans) = options.orphan {
        (orphan, foreground) = (orphans, false);
    } else if let Some(policy) = options.propagation {
        (orphan, foreground) = (policy == Propagation::Orphan, policy == Propagation::Foreground);
    }
    let mut finalizers: Vec<&str> =
        there.iter().copied().filter(|name| !matches!(*name, ORPHAN | FOREGROUND)).collect();
    finalizers.extend(orphan.then_some(ORPHAN));
    finalizers.extend(foreground.then_some(FOREGROUND));
    let held = !finalizers.is_empty();
    let same = finalizers.len() == there.len() && finalizers.iter().all(|name| there.contains(name));
    if !same {
        if held {
            metadata(json).insert("finalizers".to_owned(), json!(finalizers));
        } else {
            metadata(json).remove("finalizers");
        }
    }
    held
}
