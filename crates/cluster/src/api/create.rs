//! Creation: admitted, named, dated, validated, stored.

use std::sync::Arc;

use serde_json::Value;

use super::admission::{Attributes, Operation};
use super::body::{self, Expected, Sent};
use super::field::Errors;
use super::meta::{meta_text, metadata, put_meta};
use super::options::WriteOptions;
use super::request::Request;
use super::service::{Outcome, Reply, check_body};
use super::status::Status;
use super::{admission, ownership, quota, strategy, validation};
use crate::clock::seconds;
use crate::cluster::{Cluster, Ownership, State};
use crate::object::Object;
use crate::resource::Kind;
use crate::store::Key;

/// How many letters are put behind a `generateName`, and how much of it they leave.
const LETTERS: usize = 5;
const LONGEST_BASE: usize = 63 - LETTERS;
/// How many names are tried.
const ATTEMPTS: usize = 8;

/// The namespace that an object names must be that of the request; what names none is put into it.
pub(crate) fn place(object: &mut Value, kind: Kind, namespace: &str) -> Result<(), Status> {
    let expected = if kind.resource().namespaced { namespace } else { "" };
    match meta_text(object, "namespace") {
        "" => {
            if !expected.is_empty() {
                put_meta(object, "namespace", Some(expected.into()));
            }
            Ok(())
        }
        named if named == expected => Ok(()),
        _ if expected.is_empty() => {
            put_meta(object, "namespace", None);
            Ok(())
        }
        _ => Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        )),
    }
}

/// The same owner twice counts once.
pub(crate) fn dedup_owners(object: &mut Value) {
    if let Some(Value::Array(owners)) = metadata(object).get_mut("ownerReferences") {
        let mut seen: Vec<Value> = Vec::new();
        owners.retain(|owner| {
            let new = !seen.contains(owner);
            seen.push(owner.clone());
            new
        });
    }
}

/// What only the API sets is forgotten, whoever sent it.
fn wipe(object: &mut Value) {
    for field in
        ["creationTimestamp", "uid", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "managedFields"]
    {
        metadata(object).remove(field);
    }
}

impl Cluster {
    pub(crate) async fn create(&self, request: &Request) -> Result<Reply, Status> {
        check_body(request)?;
        let options = WriteOptions::of("CreateOptions", request)?;
        let target = &request.target;
        let Sent { object, warnings } = body::object(request, &Expected::object(target.kind), options.unknown)?;
        let created = self.create_object(target.kind, &target.namespace, object, &options).await;
        let object = created.map_err(|status| status.warning(&warnings))?;
        Ok(Reply { outcome: Outcome::Object(201, object), warnings })
    }

    /// Creates an object that has the form of its kind and its defaults.
    pub(crate) async fn create_object(
        &self,
        kind: Kind,
        namespace: &str,
        mut object: Value,
        options: &WriteOptions,
    ) -> Result<Arc<Object>, Status> {
        wipe(&mut object);
        place(&mut object, kind, namespace)?;
        dedup_owners(&mut object);
        let name = meta_text(&object, "name").to_owned();
        let attributes = Attributes {
            operation: Operation::Create,
            kind,
            namespace: if kind == Kind::Namespace { &name } else { namespace },
            name: &name,
            subresource: "",
            dry_run: options.dry_run,
            old: None,
        };
        if self.options().ownership == Ownership::Always {
            ownership::begin(&mut object, &options.manager, self.now());
        }
        let mut object = self.admit(&attributes, object).await?;
        dedup_owners(&mut object);
        let mut state = self.state();
        self.insert(&mut state, kind, object, options, false)
    }

    /// The last part of a creation, in which nothing else happens.
    pub(crate) fn insert(
        &self,
        state: &mut State,
        kind: Kind,
        mut object: Value,
        options: &WriteOptions,
        applied: bool,
    ) -> Result<Arc<Object>, Status> {
        let now = self.now();
        put_meta(&mut object, "uid", Some(state.random.uid().into()));
        put_meta(&mut object, "creationTimestamp", Some(seconds(now).into()));
        let generated = generate(state, kind, &mut object);
        strategy::prepare_create(kind, &mut object);
        validate(kind, &object, state)?;
        if kind == Kind::Pod {
            quota::check(&state.store, &object)?;
        }
        if !applied && !options.dry_run && !meta_text(&object, "resourceVersion").is_empty() {
            return Err(Status::bare(500, "resourceVersion should not be set on objects to be created"));
        }
        let key = Key::new(kind, meta_text(&object, "namespace"), meta_text(&object, "name"));
        if let Some(there) = state.store.get(&key) {
            let mut status = Status::already_exists(kind, &key.name);
            if generated {
                status = Status::name_taken(kind, &key.name);
            }
            if there.deletion().is_some() {
                status.message = format!("object is being deleted: {}", status.message);
            }
            return Err(status);
        }
        if options.dry_run {
            return Ok(Arc::new(Object::from(object)));
        }
        Ok(self.put(state, key, object))
    }
}

/// Gives an object without a name one; whether it did.
fn generate(state: &mut State, kind: Kind, object: &mut Value) -> bool {
    let base = meta_text(object, "generateName").to_owned();
    if base.is_empty() || !meta_text(object, "name").is_empty() {
        return false;
    }
    let base: String = base.chars().take(LONGEST_BASE).collect();
    let namespace = meta_text(object, "namespace").to_owned();
    for _ in 0..ATTEMPTS {
        let name = format!("{base}{}", state.random.letters(LETTERS));
        let taken = state.store.get(&Key::new(kind, &namespace, &name)).is_some();
        put_meta(object, "name", Some(name.into()));
        if !taken {
            break;
        }
    }
    true
}

fn validate(kind: Kind, object: &Value, state: &State) -> Result<(), Status> {
    let name = meta_text(object, "name");
    let errors: Errors = validation::create(kind, object);
    if !errors.is_empty() {
        return Err(Status::invalid(kind, name, &errors));
    }
    let errors = validation::common(kind, object);
    if !errors.is_empty() {
        return Err(Status::invalid(kind, name, &errors));
    }
    if kind == Kind::MutatingWebhookConfiguration {
        admission::check_conditions(object, state)?;
    }
    Ok(())
}
