//! Reading: one object, or a list of them, from the present or from a revision of the past.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use super::body;
use super::fields::Fields;
use super::options::{ListOptions, Match};
use super::reply::Form;
use super::request::{Request, Target};
use super::service::{Outcome, Reply};
use super::status::Status;
use crate::api::labels::Selector;
use crate::cluster::Cluster;
use crate::object::Object;
use crate::store::{Key, Store};

/// How long a revision that is not there yet is waited for.
const PATIENCE: Duration = Duration::from_secs(3);

const TOO_OLD: &str = "The resourceVersion for the provided list is too old.";
const CONTINUE_TOO_OLD: &str = "The provided continue parameter is too old to display a consistent list result. You can \
    start a new list without the continue parameter, or use the continue token in this response to retrieve the \
    remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were \
    created, modified, or deleted between the time the first chunk was returned and now may show up in the list.";

/// Which objects of a collection are asked for.
#[derive(Clone, Debug)]
pub(crate) struct Selection {
    pub labels: Selector,
    pub fields: Fields,
}

impl Selection {
    pub(crate) fn of(request: &Request) -> Result<Self, Status> {
        let labels = Selector::parse(request.query.text("labelSelector")).map_err(Status::bad_request)?;
        let fields = Fields::parse(request.target.kind, request.query.text("fieldSelector"))?;
        Ok(Self { labels, fields })
    }

    pub(crate) fn matches(&self, object: &Object) -> bool {
        self.labels.matches(object) && self.fields.matches(object)
    }

    fn is_everything(&self) -> bool {
        self.labels.is_everything() && self.fields.is_everything()
    }
}

/// The number that a `resourceVersion` is; 0 for none.
pub(crate) fn version(text: &str) -> Result<u64, String> {
    if text.is_empty() {
        return Ok(0);
    }
    text.parse().map_err(|_| {
        format!("resourceVersion: Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: invalid syntax")
    })
}

impl Target {
    pub(crate) fn key(&self) -> Key {
        Key::new(self.kind, &self.namespace, self.name.as_deref().unwrap_or_default())
    }

    /// The namespace to look in; none for all, and for kinds outside of them.
    pub(crate) fn scope(&self) -> Option<&str> {
        (self.kind.resource().namespaced && !self.namespace.is_empty()).then_some(self.namespace.as_str())
    }
}

/// Where a list that did not fit goes on.
struct Continuation {
    /// None after the token that comes with an answer of 410.
    revision: Option<u64>,
    /// `namespace/name` or `name` of the last object.
    after: String,
}

impl Continuation {
    fn parse(token: &str) -> Result<Self, Status> {
        let bad = |why: &str| Status::bad_request(format!("invalid continue token: {why}"));
        let bytes = URL_SAFE_NO_PAD
            .decode(token.trim_end_matches('='))
            .map_err(|_| bad("continue key is not valid: illegal base64 data at input byte 0"))?;
        let token: Value = body::json(&bytes).map_err(|error| bad(&format!("continue key is not valid: {error}")))?;
        if token["v"] != "meta.k8s.io/v1" {
            let version = token["v"].as_str().unwrap_or_default();
            let why = format!("continue key is not valid: server does not recognize this encoded version {version}");
            return Err(bad(&why));
        }
        let after = token["start"].as_str().unwrap_or_default();
        let after = after.strip_suffix('\0').unwrap_or(after).trim_start_matches('/').to_owned();
        match token["rv"].as_i64() {
            None | Some(0) => {
                Err(bad("continue key is not valid: incorrect encoded start resourceVersion (version meta.k8s.io/v1)"))
            }
            Some(revision) => Ok(Self { revision: u64::try_from(revision).ok(), after }),
        }
    }

    fn write(revision: i64, after: &str, namespaced: bool) -> String {
        let slash = if namespaced { "/" } else { "" };
        let token = format!("{{\"v\":\"meta.k8s.io/v1\",\"rv\":{revision},\"start\":\"{slash}{after}\\u0000\"}}");
        URL_SAFE_NO_PAD.encode(token)
    }
}

/// Objects of one revision, in order.
struct Snapshot {
    revision: u64,
    objects: Vec<(Key, Arc<Object>)>,
}

fn present(store: &Store, target: &Target) -> Snapshot {
    let objects = store.list(target.kind, target.scope());
    let key = |object: &Object| Key::new(target.kind, object.namespace(), object.name());
    Snapshot { revision: store.revision(), objects: objects.map(|object| (key(object), object.clone())).collect() }
}

fn past(store: &Store, target: &Target, revision: u64) -> Option<Snapshot> {
    let objects = store.list_at(target.kind, target.scope(), revision).ok()?;
    Some(Snapshot { revision, objects: objects.into_iter().collect() })
}

impl Cluster {
    pub(crate) async fn get(&self, request: &Request) -> Result<Reply, Status> {
        let key = request.target.key();
        let asked = version(request.query.text("resourceVersion")).map_err(|error| Status::bare(500, error))?;
        self.reached(asked).await?;
        let object = self.read(|store| store.get(&key).cloned());
        let object = object.ok_or_else(|| Status::not_found(key.kind, &key.name))?;
        Ok(Outcome::Object(200, object).into())
    }

    /// Waits a little for a revision.
    async fn reached(&self, revision: u64) -> Result<(), Status> {
        if self.read(Store::revision) >= revision {
            return Ok(());
        }
        let waited = timeout_at(Instant::now() + PATIENCE, self.changed(revision - 1)).await;
        waited.map_err(|_| Status::too_large(revision, self.read(Store::revision)))
    }

    pub(crate) async fn list(&self, request: &Request, form: Form) -> Result<Reply, Status> {
        let options = ListOptions::of(&request.query)?;
        let selection = Selection::of(request)?;
        let asked = version(&options.resource_version)
            .map_err(|error| Status::bad_request(format!("invalid resource version: {error}")))?;
        let continuation =
            if options.continued.is_empty() { None } else { Some(Continuation::parse(&options.continued)?) };
        if continuation.is_some() && asked != 0 {
            let why = "specifying resource version is not allowed when using continue";
            return Err(Status::bad_request(why));
        }
        let target = &request.target;
        // Any version will do: then all of it is at hand, and the limit is not looked at.
        let limit = options.limit.filter(|_| options.resource_version != "0");
        let snapshot = match &continuation {
            Some(Continuation { revision: Some(revision), after }) => {
                self.read(|store| past(store, target, *revision)).ok_or_else(|| continue_expired(after))?
            }
            Some(Continuation { revision: None, .. }) => self.read(|store| present(store, target)),
            None => self.snapshot(target, &options, asked).await?,
        };
        let (metadata, page) = page(snapshot, continuation.as_ref(), limit, target, &selection);
        let page = page.iter().map(|object| &**object);
        Ok(Outcome::List(form.list(target.kind, &metadata, page, self.now())).into())
    }

    async fn snapshot(&self, target: &Target, options: &ListOptions, asked: u64) -> Result<Snapshot, Status> {
        // A limit without a match makes an old revision exact, as it always did.
        let exact = match options.matching {
            Some(Match::Exact) => true,
            Some(Match::NotOlderThan) => false,
            None => options.limit.is_some() && asked > 0,
        };
        self.reached(asked).await?;
        if exact {
            return self.read(|store| past(store, target, asked)).ok_or_else(|| Status::expired(TOO_OLD));
        }
        Ok(self.read(|store| present(store, target)))
    }
}

fn continue_expired(after: &str) -> Status {
    let mut status = Status::expired(CONTINUE_TOO_OLD);
    status.continued = Some(Continuation::write(-1, after, false).into());
    status
}

/// One page of a snapshot, and the metadata of its list.
fn page(
    snapshot: Snapshot,
    continuation: Option<&Continuation>,
    limit: Option<usize>,
    target: &Target,
    selection: &Selection,
) -> (Value, Vec<Arc<Object>>) {
    let path = |key: &Key| match target.scope() {
        None if target.kind.resource().namespaced => format!("{}/{}", key.namespace, key.name),
        _ => key.name.to_string(),
    };
    let after = continuation.map(|continuation| {
        let (namespace, name) = continuation.after.rsplit_once('/').unwrap_or((&target.namespace, &continuation.after));
        Key::new(target.kind, namespace, name)
    });
    let mut left = snapshot.objects.into_iter().filter(|(key, _)| after.as_ref().is_none_or(|after| key > after));
    let mut page = Vec::new();
    let mut last = None;
    while page.len() < limit.unwrap_or(usize::MAX)
        && let Some((key, object)) = left.find(|(_, object)| selection.matches(object))
    {
        last = Some(key);
        page.push(object);
    }
    // Whether any of them is selected is not known before the next page.
    let remaining = left.count();
    let mut metadata = json!({"resourceVersion": snapshot.revision.to_string()});
    if let Some(last) = last.filter(|_| remaining > 0) {
        let revision = i64::try_from(snapshot.revision).unwrap_or(-1);
        metadata["continue"] = Continuation::write(revision, &path(&last), target.scope().is_some()).into();
        if selection.is_everything() {
            metadata["remainingItemCount"] = remaining.into();
        }
    }
    (metadata, page)
}
