//! Updates: of the object or of a subresource, whole (PUT) or in part. One way for all of them: read, change, admit, check,
//! store if nothing came between, else again.

use std::sync::Arc;

use serde_json::Value;

use super::admission::{Attributes, Operation};
use super::body::{self, Expected, Sent};
use super::create::{dedup_owners, place};
use super::field::FieldError;
use super::list::version;
use super::meta::{meta_text, put_meta};
use super::options::WriteOptions;
use super::request::Request;
use super::service::{Outcome, Reply, check_body};
use super::status::Status;
use super::{admission, ownership, strategy, validation};
use crate::cluster::{Cluster, Ownership, State};
use crate::object::Object;
use crate::resource::Kind;
use crate::store::Key;

/// An update, whatever the new object is.
pub(crate) struct Update<'u> {
    pub key: Key,
    pub subresource: &'static str,
    /// Whose object it must be; of a PUT, what the object says.
    pub uid: Option<String>,
    /// Creates what is not there.
    pub creates: bool,
    pub applies: bool,
    pub options: &'u WriteOptions,
}

/// What came of it.
pub(crate) enum Updated {
    Changed(Arc<Object>),
    Created(Arc<Object>),
}

impl Updated {
    pub(crate) fn object(self) -> Arc<Object> {
        match self {
            Self::Changed(object) | Self::Created(object) => object,
        }
    }

    pub(crate) fn reply(self, warnings: Vec<String>) -> Reply {
        let outcome = match self {
            Self::Changed(object) => Outcome::Object(200, object),
            Self::Created(object) => Outcome::Object(201, object),
        };
        Reply { outcome, warnings }
    }
}

/// Kinds that a PUT creates.
const fn created_by_put(kind: Kind) -> bool {
    matches!(kind, Kind::Lease | Kind::Event)
}

/// Kinds that are not replaced without saying which version.
pub(crate) const fn needs_version(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Lease | Kind::PodDisruptionBudget | Kind::MutatingWebhookConfiguration | Kind::NodePool | Kind::NodeClaim
    )
}

/// The name in an object must be that of the path.
pub(crate) fn check_name(object: &Value, name: &str) -> Result<(), Status> {
    match meta_text(object, "name") {
        "" => Err(Status::bad_request(format!(
            "the name of the object ({name} based on URL) was undeterminable: name must be provided"
        ))),
        named if named == name => Ok(()),
        named => Err(Status::bad_request(format!(
            "the name of the object ({named}) does not match the name on the URL ({name})"
        ))),
    }
}

/// A uid that was asked for is not the object's; in the words of the real server's storage.
/// A trial does not come as far as the part of the path that all objects share.
pub(crate) fn other_uid(key: &Key, asked: &str, found: &str, dry_run: bool) -> Status {
    let root = if dry_run { "" } else { "/registry" };
    let row = key.kind.resource();
    let directory = match key.kind {
        Kind::Node => "minions",
        Kind::ControllerRevision => "controllerrevisions",
        _ => row.plural,
    };
    let path = if row.namespaced {
        format!("{root}/{directory}/{}/{}", key.namespace, key.name)
    } else {
        format!("{root}/{directory}/{}", key.name)
    };
    let why = format!(
        "StorageError: invalid object, Code: 4, Key: {path}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: \
         UID in precondition: {asked}, UID in object meta: {found}"
    );
    Status::conflict(key.kind, &key.name, &why)
}

impl Cluster {
    pub(crate) async fn replace(&self, request: &Request) -> Result<Reply, Status> {
        check_body(request)?;
        let options = WriteOptions::of("UpdateOptions", request)?;
        let target = &request.target;
        let kind = target.kind;
        let Sent { mut object, warnings } = body::object(request, &Expected::object(kind), options.unknown)?;
        let warn = |status: Status| status.warning(&warnings);
        place(&mut object, kind, &target.namespace).map_err(warn)?;
        check_name(&object, target.name.as_deref().unwrap_or_default()).map_err(warn)?;
        dedup_owners(&mut object);
        let update = Update {
            key: target.key(),
            subresource: target.subresource,
            uid: Some(meta_text(&object, "uid").to_owned()).filter(|uid| !uid.is_empty()),
            creates: created_by_put(kind) && target.subresource.is_empty(),
            applies: false,
            options: &options,
        };
        let updated = self.update(&update, |_| Ok(object.clone())).await.map_err(warn)?;
        Ok(updated.reply(warnings))
    }

    /// Carries an update out. `change` makes the new object of the one that is there, and may be asked again.
    pub(crate) async fn update(
        &self,
        update: &Update<'_>,
        change: impl Fn(Option<&Object>) -> Result<Value, Status>,
    ) -> Result<Updated, Status> {
        let Update { key, subresource, uid, creates, .. } = update;
        loop {
            let current = self.read(|store| store.get(key).cloned());
            if current.is_none() && !creates {
                return Err(Status::not_found(key.kind, &key.name));
            }
            let found = current.as_ref().map_or("", |object| object.uid());
            if let Some(asked) = uid.as_deref().filter(|asked| *asked != found) {
                return Err(other_uid(key, asked, found, update.options.dry_run));
            }
            let mut object = change(current.as_deref())?;
            self.count(&mut object, current.as_deref(), update);
            let attributes = Attributes {
                operation: if current.is_some() { Operation::Update } else { Operation::Create },
                kind: key.kind,
                namespace: if key.kind == Kind::Namespace { &key.name } else { &key.namespace },
                name: &key.name,
                subresource,
                dry_run: update.options.dry_run,
                old: current.as_deref(),
            };
            let mut object = self.admit(&attributes, object).await?;
            dedup_owners(&mut object);
            let mut state = self.state();
            let there = state.store.get(key).cloned();
            match (current, there) {
                (None, None) => {
                    put_meta(&mut object, "uid", None);
                    let created = self.insert(&mut state, key.kind, object, update.options, true);
                    return created.map(Updated::Created);
                }
                (Some(current), Some(there)) if Arc::ptr_eq(&current, &there) => {
                    return self.store_update(&mut state, update, &current, object).map(Updated::Changed);
                }
                // Somebody came between.
                _ => {}
            }
        }
    }

    /// Who owns what is written; before admission, what it adds is nobody's.
    fn count(&self, object: &mut Value, old: Option<&Object>, update: &Update<'_>) {
        let (manager, now) = (update.options.manager.as_str(), self.now());
        match old {
            Some(old) => {
                let subresource = update.subresource;
                let write = ownership::Write { subresource, manager, applied: update.applies, now };
                ownership::note(object, old, &write);
            }
            None if update.applies => ownership::stamp(object, now),
            None if self.options().ownership == Ownership::Always => ownership::begin(object, manager, now),
            None => {}
        }
    }

    /// The last part of an update, in which nothing else happens.
    fn store_update(
        &self,
        state: &mut State,
        update: &Update<'_>,
        old: &Arc<Object>,
        mut object: Value,
    ) -> Result<Arc<Object>, Status> {
        let Update { key, subresource, options, .. } = update;
        let kind = key.kind;
        check_version(key, &mut object, old)?;
        before_update(kind, subresource, &mut object, old);
        let errors = validation::update(kind, subresource, &object, old.json());
        if !errors.is_empty() {
            return Err(Status::invalid(kind, meta_text(&object, "name"), &errors));
        }
        if kind == Kind::MutatingWebhookConfiguration {
            admission::check_conditions(&object, state)?;
        }
        if is_finished(kind, &object, old) {
            return Ok(self.finish(state, key, object, options.dry_run));
        }
        ownership::keep_times(&mut object, old.json());
        if object == *old.json() {
            return Ok(old.clone());
        }
        if options.dry_run {
            return Ok(Arc::new(Object::from(object)));
        }
        Ok(self.put(state, key.clone(), object))
    }

    /// The last finalizer went: the object does too.
    fn finish(&self, state: &mut State, key: &Key, object: Value, dry_run: bool) -> Arc<Object> {
        if !dry_run {
            self.remove(state, key);
        }
        Arc::new(Object::from(object))
    }
}

/// The version that an update speaks of must be the one that is there.
fn check_version(key: &Key, object: &mut Value, old: &Object) -> Result<(), Status> {
    let sent = version(meta_text(object, "resourceVersion")).map_err(|_| {
        let text = meta_text(object, "resourceVersion");
        Status::bare(500, format!("strconv.ParseUint: parsing {text:?}: invalid syntax"))
    })?;
    if sent == 0 {
        if needs_version(key.kind) {
            let error = FieldError::invalid("metadata.resourceVersion", &0.into(), "must be specified for an update");
            let row = key.kind.resource();
            return Err(Status::invalid_in(row.group, row.plural, &key.name, &vec![error]));
        }
        put_meta(object, "resourceVersion", Some(old.revision().to_string().into()));
        return Ok(());
    }
    if sent == old.revision() { Ok(()) } else { Err(Status::modified(key.kind, &key.name)) }
}

/// What an update cannot touch is put back.
fn before_update(kind: Kind, subresource: &str, object: &mut Value, old: &Object) {
    let old = old.json();
    let before = |name: &str| old["metadata"].get(name).cloned();
    put_meta(object, "selfLink", None);
    strategy::prepare_update(kind, subresource, object, old);
    if meta_text(object, "uid").is_empty() {
        put_meta(object, "uid", before("uid"));
    }
    put_meta(object, "creationTimestamp", before("creationTimestamp"));
    if before("deletionTimestamp").is_some() || (kind == Kind::Pod && subresource == "status") {
        put_meta(object, "deletionTimestamp", before("deletionTimestamp"));
    }
    if before("deletionGracePeriodSeconds").is_some() && object["metadata"].get("deletionGracePeriodSeconds").is_none()
    {
        put_meta(object, "deletionGracePeriodSeconds", before("deletionGracePeriodSeconds"));
    }
}

fn has_finalizers(object: &Value) -> bool {
    object["metadata"]["finalizers"].as_array().is_some_and(|finalizers| !finalizers.is_empty())
}

/// Whether an object was only held by finalizers, and is no longer.
fn is_finished(kind: Kind, object: &Value, old: &Object) -> bool {
    let held = has_finalizers(object)
        || (kind == Kind::Namespace && object["spec"]["finalizers"].as_array().is_some_and(|held| !held.is_empty()));
    !held && old.deletion().is_some() && old.number("/metadata/deletionGracePeriodSeconds").unwrap_or(0) == 0
}
