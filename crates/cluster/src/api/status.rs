//! What is answered instead of an object: `Status`, with the code, reason, message and details of a real API server.
//!
//! Which one is answered is decided by who calls this.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::field::{Errors, sentence};
use crate::resource::Kind;

/// The one form of bodies and answers.
const JSON: &str = "application/json";

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Status {
    pub code: u16,
    /// Empty where the real one gives none.
    pub reason: &'static str,
    pub message: String,
    /// Null where there are none; `{}` is written.
    pub details: Value,
    /// In seconds; also a header.
    pub retry_after: Option<u64>,
    /// Not JSON: the message is the body.
    pub plain: bool,
    /// With which token an interrupted list can go on all the same.
    pub continued: Option<Box<str>>,
    /// What was to be said about the request before it was refused.
    pub warnings: Option<Arc<Vec<String>>>,
}

/// Of what an error speaks: the group, and the word for the kind that this error uses.
fn details(group: &str, kind: &str, name: &str) -> Value {
    let pairs = [("name", name), ("group", group), ("kind", kind)];
    pairs.into_iter().filter(|(_, text)| !text.is_empty()).map(|(key, text)| (key, Value::from(text))).collect()
}

/// `deployments.apps`, `pods`
pub(crate) fn qualified(word: &str, group: &str) -> String {
    if group.is_empty() { word.to_owned() } else { format!("{word}.{group}") }
}

/// The group of a kind where it is named by the kind: events are of the core group then.
fn core_group(kind: Kind) -> &'static str {
    if matches!(kind, Kind::Event) { "" } else { kind.resource().group }
}

impl Status {
    fn new(code: u16, reason: &'static str, message: impl Into<String>, details: Value) -> Self {
        let (message, warnings) = (message.into(), None);
        Self { code, reason, message, details, retry_after: None, plain: false, continued: None, warnings }
    }

    fn of_resource(
        code: u16,
        reason: &'static str,
        kind: Kind,
        name: &str,
        say: impl FnOnce(String) -> String,
    ) -> Self {
        let row = kind.resource();
        let what = format!("{} {name:?}", qualified(row.plural, row.group));
        Self::new(code, reason, say(what), details(row.group, row.plural, name))
    }

    pub(crate) fn not_found(kind: Kind, name: &str) -> Self {
        Self::of_resource(404, "NotFound", kind, name, |what| format!("{what} not found"))
    }

    pub(crate) fn already_exists(kind: Kind, name: &str) -> Self {
        Self::of_resource(409, "AlreadyExists", kind, name, |what| format!("{what} already exists"))
    }

    /// All names that were generated are taken.
    pub(crate) fn name_taken(kind: Kind, name: &str) -> Self {
        let mut status = Self::already_exists(kind, name);
        status.message =
            format!("{}, the server was not able to generate a unique name for the object", status.message);
        status
    }

    pub(crate) fn conflict(kind: Kind, name: &str, why: &str) -> Self {
        Self::of_resource(409, "Conflict", kind, name, |what| format!("Operation cannot be fulfilled on {what}: {why}"))
    }

    /// The object was changed since the caller read it.
    pub(crate) fn modified(kind: Kind, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(kind, name, why)
    }

    /// A precondition of a deletion does not hold; this one names the kind, not the resource.
    pub(crate) fn precondition(kind: Kind, name: &str, why: &str) -> Self {
        let row = kind.resource();
        let group = core_group(kind);
        let what = format!("{} {name:?}", qualified(row.name, group));
        let message = format!("Operation cannot be fulfilled on {what}: {why}");
        Self::new(409, "Conflict", message, details(group, row.name, name))
    }

    pub(crate) fn forbidden(kind: Kind, name: &str, why: &str) -> Self {
        Self::of_resource(403, "Forbidden", kind, name, |what| format!("{what} is forbidden: {why}"))
    }

    pub(crate) fn invalid(kind: Kind, name: &str, errors: &Errors) -> Self {
        let row = kind.resource();
        Self::invalid_in(core_group(kind), row.name, name, errors)
    }

    /// Of something that is no object of a kind of ours, as options of a request.
    pub(crate) fn invalid_in(group: &str, kind: &str, name: &str, errors: &Errors) -> Self {
        let what = format!("{} {name:?}", qualified(kind, group));
        let message = if errors.is_empty() {
            format!("{what} is invalid")
        } else {
            format!("{what} is invalid: {}", sentence(errors))
        };
        let mut details = details(group, kind, name);
        if !errors.is_empty() {
            details["causes"] = errors.iter().map(super::field::FieldError::cause).collect();
        }
        Self::new(422, "Invalid", message, details)
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message, Value::Null)
    }

    /// A path that names nothing under a group that is there.
    pub(crate) fn no_resource() -> Self {
        Self::new(404, "NotFound", "the server could not find the requested resource", json!({}))
    }

    /// A path that names nothing at all.
    pub(crate) fn no_page() -> Self {
        Self { plain: true, ..Self::new(404, "", "404 page not found\n", Value::Null) }
    }

    pub(crate) fn method_not_allowed() -> Self {
        let message = "the server does not allow this method on the requested resource";
        Self::new(405, "MethodNotAllowed", message, json!({}))
    }

    /// An answer is wanted in a form that is not there. JSON is what is spoken here.
    pub(crate) fn not_acceptable() -> Self {
        let message = format!("406: Not Acceptable\n\nAvailable representations: {JSON}");
        Self::new(406, "NotAcceptable", message, json!({}))
    }

    /// A body is in a form that is not read here.
    pub(crate) fn unsupported_media_type(media: &str) -> Self {
        // What kubectl makes up itself it sends so, and it cannot be told otherwise.
        let hint = match media {
            "application/vnd.kubernetes.protobuf" => {
                "; kubectl sends what it reads from a file as JSON: `kubectl create ... --dry-run=client -o yaml | \
                 kubectl apply -f -`"
            }
            _ => "",
        };
        let message =
            format!("the body of the request was in an unknown format - accepted media types include: {JSON}{hint}");
        Self::new(415, "UnsupportedMediaType", message, Value::Null)
    }

    /// Changes or a snapshot that were asked for are compacted.
    pub(crate) fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message, Value::Null)
    }

    /// A revision that is not there yet.
    pub(crate) fn too_large(asked: u64, current: u64) -> Self {
        let message = format!("Timeout: Too large resource version: {asked}, current: {current}");
        let causes = json!([{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]);
        let mut status = Self::new(504, "Timeout", message, json!({"causes": causes, "retryAfterSeconds": 1}));
        status.retry_after = Some(1);
        status
    }

    pub(crate) fn internal(message: impl AsRef<str>) -> Self {
        let message = message.as_ref();
        let causes = json!([{"message": message}]);
        Self::new(500, "InternalError", format!("Internal error occurred: {message}"), json!({"causes": causes}))
    }

    /// An answer that has neither reason nor details.
    pub(crate) fn bare(code: u16, message: impl Into<String>) -> Self {
        Self::new(code, "", message, Value::Null)
    }

    /// As `bare`, with a reason.
    pub(crate) fn with_reason(code: u16, reason: &'static str, message: impl Into<String>, details: Value) -> Self {
        Self::new(code, reason, message, details)
    }

    /// An eviction must wait.
    pub(crate) fn too_many_requests(message: &str, retry_after: u64, cause: &str) -> Self {
        let mut details = json!({"causes": [{"reason": "DisruptionBudget", "message": cause}]});
        if retry_after > 0 {
            details["retryAfterSeconds"] = retry_after.into();
        }
        let mut status = Self::new(429, "TooManyRequests", message, details);
        status.retry_after = (retry_after > 0).then_some(retry_after);
        status
    }

    /// With what was to be said before.
    pub(crate) fn warning(self, warnings: &[String]) -> Self {
        Self { warnings: (!warnings.is_empty()).then(|| Arc::new(warnings.to_vec())), ..self }
    }

    /// With one more cause in the details.
    pub(crate) fn because(mut self, cause: Value) -> Self {
        if let Value::Object(details) = &mut self.details {
            let causes = details.entry("causes").or_insert_with(|| json!([]));
            if let Value::Array(causes) = causes {
                causes.push(cause);
            }
        }
        self
    }

    pub(crate) fn json(&self) -> Value {
        let mut status = Map::from_iter([
            ("kind".to_owned(), "Status".into()),
            ("apiVersion".to_owned(), "v1".into()),
            ("metadata".to_owned(), json!({})),
            ("status".to_owned(), "Failure".into()),
            ("code".to_owned(), self.code.into()),
        ]);
        let mut set = |key: &str, value: Value| drop(status.insert(key.to_owned(), value));
        if !self.message.is_empty() {
            set("message", self.message.as_str().into());
        }
        if !self.reason.is_empty() {
            set("reason", self.reason.into());
        }
        if let Some(token) = &self.continued {
            set("metadata", json!({"continue": token}));
        }
        if !self.details.is_null() {
            set("details", self.details.clone());
        }
        Value::Object(status)
    }
}

/// What is answered to a deletion that left nothing.
pub(crate) fn deleted(kind: Kind, name: &str, uid: &str) -> Value {
    let row = kind.resource();
    let mut details = details(row.group, row.plural, name);
    details["uid"] = uid.into();
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}
