//! Patches: JSON patch, merge patch, strategic merge patch, server-side apply.
//!
//! Each makes a whole object of the one that is there; from there on it is an update.

use serde_json::{Value, json};

use super::body::{self, Expected};
use super::create::place;
use super::decode::Words;
use super::field::FieldError;
use super::options::{Unknown, WriteOptions};
use super::request::{Request, Target};
use super::service::Reply;
use super::status::Status;
use super::update::{Update, check_name};
use super::{apply, jsonpatch, schema, strategic};
use crate::cluster::Cluster;
use crate::object::Object;

/// The largest JSON patch.
const OPERATIONS: usize = 10_000;

/// The kinds of patches.
#[derive(Clone, Debug)]
pub(crate) enum Patch {
    Json(Value),
    Merge(Value),
    Strategic(Value),
    Apply(Value),
}

impl Patch {
    /// Reads the one that the content type announces.
    pub(crate) fn of(request: &Request) -> Result<(Self, WriteOptions), Status> {
        let media = request.content_type.split(';').next().unwrap_or_default().trim();
        let custom = schema::of_kind(request.target.kind).is_none();
        let unsupported = || Status::with_reason(415, "UnsupportedMediaType", "415: Unsupported Media Type", json!({}));
        let options = || WriteOptions::of_patch(request, media.starts_with("application/apply-patch"));
        match media {
            "application/json-patch+json" => {
                let options = options()?;
                Ok((Self::Json(operations(&request.body)?), options))
            }
            "application/merge-patch+json" => {
                let options = options()?;
                let value = body::json(&request.body)
                    .map_err(|error| Status::bad_request(format!("error decoding patch: {error}")))?;
                is_map(&value).map_err(|error| Status::bad_request(format!("error decoding patch: {error}")))?;
                if value.is_null() {
                    return Err(Status::bad_request("Invalid JSON Patch"));
                }
                Ok((Self::Merge(value), options))
            }
            "application/strategic-merge-patch+json" if !custom => {
                let options = options()?;
                let value = body::json(&request.body).map_err(Status::bad_request)?;
                is_map(&value).map_err(Status::bad_request)?;
                Ok((Self::Strategic(value), options))
            }
            "application/apply-patch+yaml" => {
                let options = options()?;
                // YAML that is not JSON is not read here.
                let value = body::json(&request.body).map_err(|error| {
                    Status::bad_request(format!("error decoding YAML: error converting YAML to JSON: {error}"))
                })?;
                is_map(&value).map_err(|error| {
                    let why = format!("error unmarshaling JSON: while decoding JSON: {error}");
                    Status::bad_request(format!("error decoding YAML: {why}"))
                })?;
                Ok((Self::Apply(value), options))
            }
            _ => Err(unsupported()),
        }
    }

    /// What becomes of an object, as JSON that is not checked yet.
    pub(crate) fn laid_over(&self, original: &Value, type_: Option<&'static schema::Struct>) -> Result<Value, Status> {
        let mut patched = original.clone();
        match self {
            Self::Json(operations) => jsonpatch::apply(&mut patched, operations).map_err(|_| {
                let message = "the server rejected our request due to an error in our request";
                Status::with_reason(422, "Invalid", message, json!({}))
            })?,
            Self::Merge(patch) => json_patch::merge(&mut patched, patch),
            Self::Strategic(patch) | Self::Apply(patch) => {
                let fields = patch.as_object().cloned().unwrap_or_default();
                let type_ = type_.unwrap_or_else(|| schema::named("ObjectMeta"));
                patched = strategic::merge(patched, &fields, type_).map_err(|error| Status::bare(500, error))?;
            }
        }
        Ok(patched)
    }

    /// How the patch, or what became of it, is quoted when it does not fit.
    fn quoted(&self, patched: &Value) -> String {
        match self {
            Self::Strategic(patch) => strategic::go_map(patch),
            _ => patched.to_string(),
        }
    }
}

fn is_map(value: &Value) -> Result<(), String> {
    let Some(what) = body::not_an_object(value) else { return Ok(()) };
    Err(format!("json: cannot unmarshal {what} into Go value of type map[string]interface {{}}"))
}

fn operations(bytes: &[u8]) -> Result<Value, Status> {
    let bad = |error: String| Status::bad_request(format!("error decoding patch: {error}"));
    let value = body::json(bytes).map_err(bad)?;
    match &value {
        Value::Array(operations) if operations.len() > OPERATIONS => {
            let found = operations.len();
            let message = format!(
                "Request entity too large: The allowed maximum operations in a JSON patch is {OPERATIONS}, got {found}"
            );
            Err(Status::with_reason(413, "RequestEntityTooLarge", message, Value::Null))
        }
        Value::Array(operations) => match operations.iter().find_map(body::not_an_object) {
            Some(what) => Err(bad(format!("json: cannot unmarshal {what} into Go value of type handlers.jsonPatchOp"))),
            None => Ok(value),
        },
        Value::Null => Ok(json!([])),
        _ => {
            let what = body::not_an_object(&value).unwrap_or("object");
            Err(bad(format!("json: cannot unmarshal {what} into Go value of type []handlers.jsonPatchOp")))
        }
    }
}

/// Brings what a patch made into the form of its kind.
pub(crate) fn formed(
    patch: &Patch,
    patched: &Value,
    expected: &Expected,
    unknown: Unknown,
) -> Result<body::Sent, Status> {
    let quoted = || patch.quoted(patched);
    let is_strategic = matches!(patch, Patch::Strategic(_));
    let words = if is_strategic { Words::Unstructured } else { Words::Json };
    let mut object = patched.clone();
    if is_strategic {
        // What it says to be is not looked at: it is laid over a value of the right type.
        for (key, value) in [("kind", expected.name.to_owned()), ("apiVersion", expected.api_version())] {
            if object[key].is_string() {
                object[key] = value.into();
            }
        }
    }
    match body::typed_in(object, expected, unknown, words) {
        Ok(sent) => Ok(sent),
        Err(status) => {
            let prefix = format!("cannot be handled as a {}: ", expected.name);
            let why = status.message.split_once(&prefix).map_or(status.message.as_str(), |(_, why)| why).to_owned();
            let error = FieldError::invalid_text("patch", &quoted(), &why);
            Err(Status::invalid_in("", "", "", &vec![error]))
        }
    }
}

impl Cluster {
    /// Reads a patch. What is wrong with it is said only if there is something to patch.
    pub(crate) fn patch_of(&self, request: &Request) -> Result<(Patch, WriteOptions), Status> {
        let target = &request.target;
        Patch::of(request).map_err(|status| {
            let applies = request.content_type.starts_with("application/apply-patch");
            let is_body = matches!(status.code, 400 | 413);
            if is_body && !applies && self.read(|store| store.get(&target.key()).is_none()) {
                return Status::not_found(target.kind, target.name.as_deref().unwrap_or_default());
            }
            status
        })
    }

    pub(crate) async fn patch(&self, request: &Request) -> Result<Reply, Status> {
        let (patch, options) = self.patch_of(request)?;
        let target = &request.target;
        let applies = matches!(patch, Patch::Apply(_));
        let update = Update {
            key: target.key(),
            subresource: target.subresource,
            uid: None,
            creates: applies && target.subresource.is_empty(),
            applies,
            options: &options,
        };
        let warnings = parking_lot::Mutex::new(Vec::new());
        let updated =
            self.update(&update, |current| patched(&patch, target, current, &options, &mut warnings.lock())).await;
        let warnings = warnings.into_inner();
        let updated = updated.map_err(|status| status.warning(&warnings))?;
        Ok(updated.reply(warnings))
    }
}

/// What a patch makes of an object, decoded and in its place.
fn patched(
    patch: &Patch,
    target: &Target,
    current: Option<&Object>,
    options: &WriteOptions,
    warnings: &mut Vec<String>,
) -> Result<Value, Status> {
    let expected = Expected::object(target.kind);
    let name = target.name.as_deref().unwrap_or_default();
    let made = match (patch, current) {
        (Patch::Apply(config), current) => apply::apply(target, current, config, options)?,
        (_, None) => return Err(Status::not_found(target.kind, name)),
        (patch, Some(current)) => patch.laid_over(current.json(), expected.type_)?,
    };
    let managed = made["metadata"].get("managedFields").cloned();
    let body::Sent { mut object, warnings: said } = formed(patch, &made, &expected, options.unknown)?;
    *warnings = said;
    if current.is_none()
        && let Some(uid) = object["metadata"]["uid"].as_str().filter(|uid| !uid.is_empty())
    {
        let why = format!("uid mismatch: the provided object specified uid {uid}, and no existing object was found");
        return Err(Status::conflict(target.kind, name, &why));
    }
    place(&mut object, target.kind, &target.namespace)?;
    check_name(&object, name)?;
    super::meta::put_meta(&mut object, "managedFields", managed);
    Ok(object)
}
