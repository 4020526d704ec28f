//! Bodies: from bytes to an object of the expected kind, with its defaults.
//!
//! What is wrong with the bytes, the kind or a type is said here; what is wrong with values comes later.

use serde_json::Value;

use super::decode::{Words, decode, decode_in};
use super::defaults;
use super::options::{DeleteOptions, Unknown};
use super::request::Request;
use super::schema::{self, Struct};
use super::status::Status;
use crate::resource::{Kind, RESOURCES};

/// An object that was sent, and what is to be said about it although it is accepted.
#[derive(Debug)]
pub(crate) struct Sent {
    pub object: Value,
    pub warnings: Vec<String>,
}

/// Which types a body may be of, and what it is called in messages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected {
    pub group: &'static str,
    pub version: &'static str,
    pub name: &'static str,
    /// None for custom resources.
    pub type_: Option<&'static Struct>,
    /// Where it has defaults.
    pub kind: Option<Kind>,
}

impl Expected {
    pub(crate) fn object(kind: Kind) -> Self {
        let row = kind.resource();
        Self { group: row.group, version: row.version, name: row.name, type_: schema::of_kind(kind), kind: Some(kind) }
    }

    pub(crate) fn scale() -> Self {
        let type_ = Some(schema::named("autoscaling.Scale"));
        Self { group: "autoscaling", version: "v1", name: "Scale", type_, kind: None }
    }

    pub(crate) fn eviction() -> Self {
        Self { group: "policy", version: "v1", name: "Eviction", type_: Some(schema::named("Eviction")), kind: None }
    }

    pub(crate) fn binding() -> Self {
        Self { group: "", version: "v1", name: "Binding", type_: Some(schema::named("Binding")), kind: None }
    }

    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) }
    }

    /// Go's name of the package of the internal type.
    fn internal(&self) -> &'static str {
        match self.group {
            "" | "events.k8s.io" => "core",
            "coordination.k8s.io" => "coordination",
            "admissionregistration.k8s.io" => "admissionregistration",
            group => group,
        }
    }
}

/// JSON, or what is wrong with it as Go says it.
pub(crate) fn json(bytes: &[u8]) -> Result<Value, String> {
    serde_json::from_slice(bytes).map_err(|error| {
        if error.is_eof() {
            return "unexpected end of JSON input".to_owned();
        }
        let at = error.column().saturating_sub(1);
        let character = match bytes.get(at).copied().map_or(' ', char::from) {
            '\'' => "'\\''".to_owned(),
            other => format!("'{other}'"),
        };
        format!("invalid character {character} {}", place_of(&error.to_string()))
    })
}

/// Where in a document a character was not expected, as Go says it.
fn place_of(error: &str) -> &'static str {
    const PLACES: [(&str, &str); 5] = [
        ("key must be a string", "looking for beginning of object key string"),
        ("expected `,` or `}`", "after object key:value pair"),
        ("expected `,` or `]`", "after array element"),
        ("expected `:`", "after object key"),
        ("trailing characters", "after top-level value"),
    ];
    let found = PLACES.iter().find(|(said, _)| error.contains(said));
    let is_key = error.contains("trailing comma");
    found.map_or(if is_key { PLACES[0].1 } else { "looking for beginning of value" }, |(_, place)| place)
}

/// A body as it is quoted: as text if it looks like an object.
fn quoted(bytes: &[u8]) -> String {
    match bytes.first() {
        None => "<empty>".to_owned(),
        Some(b'{') => String::from_utf8_lossy(bytes).into_owned(),
        Some(_) => {
            let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            digits.concat()
        }
    }
}

/// Whether a content type is one that objects can be sent as.
pub(crate) fn check_media(content_type: &str) -> Result<(), Status> {
    let media = content_type.split(';').next().unwrap_or_default().trim();
    // YAML and protobuf are not read here, and said so.
    if matches!(media, "" | "application/json") { Ok(()) } else { Err(Status::unsupported_media_type(media)) }
}

/// Reads an object that was sent to be stored.
pub(crate) fn object(request: &Request, expected: &Expected, unknown: Unknown) -> Result<Sent, Status> {
    let value = json(&request.body).map_err(|error| {
        let shown = quoted(&request.body);
        Status::bad_request(format!(
            "the object provided is unrecognized (must be of type {}): couldn't get version/kind; json parse error: \
             {error} ({shown})",
            expected.name
        ))
    })?;
    if let Some(what) = not_an_object(&value) {
        let shown = quoted(&request.body);
        return Err(Status::bad_request(format!(
            "the object provided is unrecognized (must be of type {}): couldn't get version/kind; json parse error: {} \
             ({shown})",
            expected.name,
            no_type(what)
        )));
    }
    for key in ["apiVersion", "kind"] {
        named(&value, key, Words::Json).map_err(|status| {
            let (name, shown) = (expected.name, quoted(&request.body));
            let why = status.message;
            Status::bad_request(format!(
                "the object provided is unrecognized (must be of type {name}): {why} ({shown})"
            ))
        })?;
    }
    typed(value, expected, unknown)
}

/// Why Go does not find out what something is of.
fn no_type(what: &str) -> String {
    format!(
        "json: cannot unmarshal {what} into Go value of type struct {{ APIVersion string \
         \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }}"
    )
}

/// What Go calls JSON that is no object.
pub(crate) fn not_an_object(value: &Value) -> Option<&'static str> {
    match value {
        Value::Object(_) | Value::Null => None,
        Value::Array(_) => Some("array"),
        Value::String(_) => Some("string"),
        Value::Bool(_) => Some("bool"),
        Value::Number(_) => Some("number"),
    }
}

fn named(value: &Value, key: &str, words: Words) -> Result<String, Status> {
    let what = match &value[key] {
        Value::Null => return Ok(String::new()),
        Value::String(text) => return Ok(text.clone()),
        Value::Number(_) if matches!(words, Words::Unstructured) => "int64",
        other => not_an_object(other).unwrap_or("object"),
    };
    Err(Status::bad_request(match words {
        Words::Unstructured => format!("cannot convert {what} to string"),
        Words::Json => format!(
            "couldn't get version/kind; json parse error: json: cannot unmarshal {what} into Go struct field .{key} of type \
             string"
        ),
    }))
}

/// Brings JSON into the form of what is expected.
pub(crate) fn typed(value: Value, expected: &Expected, unknown: Unknown) -> Result<Sent, Status> {
    typed_in(value, expected, unknown, Words::Json)
}

/// The same, with errors in certain words.
pub(crate) fn typed_in(value: Value, expected: &Expected, unknown: Unknown, words: Words) -> Result<Sent, Status> {
    let (version, name) = if value.is_object() {
        (named(&value, "apiVersion", words)?, named(&value, "kind", words)?)
    } else {
        <_>::default()
    };
    let (api_version, name) = (
        if version.is_empty() { expected.api_version() } else { version },
        if name.is_empty() { expected.name.to_owned() } else { name },
    );
    let short = api_version.rsplit('/').next().unwrap_or_default();
    let cannot = |why: &str| {
        Status::bad_request(format!("{name} in version {short:?} cannot be handled as a {}: {why}", expected.name))
    };
    if api_version != expected.api_version() || name != expected.name {
        let known = RESOURCES.iter().any(|row| row.name == name && row.api_version() == api_version)
            || (name.as_str(), api_version.as_str()) == ("Status", "v1");
        let why = if known {
            let internal = format!("{}.{}", expected.internal(), expected.name);
            format!("converting ({short}.{name}) to ({internal}): unknown conversion")
        } else {
            format!(
                "no kind {name:?} is registered for version {api_version:?} in scheme \"pkg/runtime/scheme.go:111\""
            )
        };
        return Err(cannot(&why));
    }
    let (mut object, names) = match expected.type_ {
        Some(type_) => decode_in(value, type_, words)
            .map(|decoded| (decoded.object, decoded.unknown))
            .map_err(|error| cannot(&error))?,
        None => custom(value).map_err(|error| cannot(&error))?,
    };
    let warnings = match unknown {
        Unknown::Ignored => Vec::new(),
        Unknown::Warned => names,
        Unknown::Refused if names.is_empty() => names,
        Unknown::Refused => return Err(cannot(&format!("strict decoding error: {}", names.join(", ")))),
    };
    object["apiVersion"] = api_version.into();
    object["kind"] = name.into();
    if let Some(kind) = expected.kind {
        defaults::apply(kind, &mut object);
    }
    Ok(Sent { object, warnings })
}

/// A custom resource keeps what was sent; only its metadata has a type.
fn custom(mut value: Value) -> Result<(Value, Vec<String>), String> {
    if !value.is_object() {
        return Err("json: cannot unmarshal into Go value of type map[string]interface {}".to_owned());
    }
    let metadata = decode(value["metadata"].take(), schema::named("ObjectMeta"))?;
    value["metadata"] = metadata.object;
    let unknown = metadata.unknown.into_iter().map(|name| name.replacen('"', "\"metadata.", 1)).collect();
    Ok((value, unknown))
}

/// Reads the body of a deletion.
pub(crate) fn delete_options(request: &Request) -> Result<Value, Status> {
    check_media(&request.content_type)?;
    let value = json(&request.body)
        .map_err(|error| Status::bad_request(format!("couldn't get version/kind; json parse error: {error}")))?;
    if let Some(what) = not_an_object(&value) {
        return Err(Status::bad_request(format!("couldn't get version/kind; json parse error: {}", no_type(what))));
    }
    let (version, kind) = (named(&value, "apiVersion", Words::Json)?, named(&value, "kind", Words::Json)?);
    if !kind.is_empty() && kind != "DeleteOptions" {
        let why =
            format!("no kind {kind:?} is registered for version {version:?} in scheme \"pkg/runtime/scheme.go:111\"");
        return Err(Status::bad_request(why));
    }
    decode(value, DeleteOptions::type_()).map(|decoded| decoded.object).map_err(Status::bad_request)
}
