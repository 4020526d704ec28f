//! The options of requests, and what is refused about them before anything else is looked at.

use serde_json::{Value, json};

use super::body;
use super::field::{Errors, FieldError};
use super::query::Query;
use super::request::Request;
use super::schema;
use super::status::Status;

const META: &str = "meta.k8s.io";

/// Of every write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct WriteOptions {
    pub dry_run: bool,
    /// Who owns what is written.
    pub manager: String,
    /// What happens with unknown fields.
    pub unknown: Unknown,
    /// Apply: takes fields from others.
    pub force: bool,
}

/// What happens with fields that there are not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Unknown {
    Ignored,
    #[default]
    Warned,
    Refused,
}

fn dry_run(values: &[&str], errors: &mut Errors) -> bool {
    if values.iter().any(|value| *value != "All") {
        errors.push(FieldError::not_supported("dryRun", &json!(values), &["All"]));
    }
    !values.is_empty()
}

fn checked(kind: &str, errors: &Errors) -> Result<(), Status> {
    if errors.is_empty() { Ok(()) } else { Err(Status::invalid_in(META, kind, "", errors)) }
}

/// The part of a user agent before the first slash: the manager of who names none.
fn manager_of(user_agent: &str) -> String {
    user_agent.split('/').next().unwrap_or_default().chars().take(128).collect()
}

/// A text as Go quotes it.
fn go_quoted(text: &str) -> String {
    let quoted = text.chars().map(|c| match c {
        '\u{7}' => "\\a".to_owned(),
        '\u{8}' => "\\b".to_owned(),
        '\u{c}' => "\\f".to_owned(),
        '\u{b}' => "\\v".to_owned(),
        '\n' => "\\n".to_owned(),
        '\r' => "\\r".to_owned(),
        '\t' => "\\t".to_owned(),
        '"' | '\\' => format!("\\{c}"),
        c if c.is_ascii_control() => format!("\\x{:02x}", u32::from(c)),
        c if c.is_control() => format!("\\u{:04x}", u32::from(c)),
        c => c.to_string(),
    });
    format!("\"{}\"", quoted.collect::<Vec<_>>().concat())
}

impl WriteOptions {
    /// Those of a creation (`CreateOptions`) or an update (`UpdateOptions`).
    pub(crate) fn of(kind: &str, request: &Request) -> Result<Self, Status> {
        Self::read(kind, request, None)
    }

    /// Those of a patch; an apply patch names its manager, and only it may force.
    pub(crate) fn of_patch(request: &Request, is_apply: bool) -> Result<Self, Status> {
        Self::read("PatchOptions", request, Some(is_apply))
    }

    fn read(kind: &str, request: &Request, apply: Option<bool>) -> Result<Self, Status> {
        let query = &request.query;
        let mut errors = Errors::new();
        let manager = query.text("fieldManager");
        match apply {
            Some(true) if manager.is_empty() => {
                errors.push(FieldError::required("fieldManager", "is required for apply patch"));
            }
            Some(false) if query.flag("force").is_some() => {
                errors.push(FieldError::forbidden("force", "may not be specified for non-apply patch"));
            }
            _ => {}
        }
        if manager.len() > 128 {
            errors.push(FieldError::too_long("fieldManager", 128));
        }
        let unprintable = |(_, c): &(usize, char)| c.is_control();
        errors.extend(manager.char_indices().filter(unprintable).map(|(at, c)| {
            let why = format!("invalid character U+{:04X} (at position {at})", u32::from(c));
            let mut error = FieldError::invalid("fieldManager", &manager.into(), &why);
            error.say(&format!("Invalid value: {}: {why}", go_quoted(manager)));
            error
        }));
        let dry_run = dry_run(&query.all("dryRun").collect::<Vec<_>>(), &mut errors);
        let unknown = match query.text("fieldValidation") {
            "" | "Warn" => Unknown::Warned,
            "Ignore" => Unknown::Ignored,
            "Strict" => Unknown::Refused,
            other => {
                let known = ["", "Ignore", "Strict", "Warn"];
                errors.push(FieldError::not_supported("fieldValidation", &other.into(), &known));
                Unknown::Warned
            }
        };
        checked(kind, &errors)?;
        let manager = if manager.is_empty() { manager_of(&request.user_agent) } else { manager.to_owned() };
        Ok(Self { dry_run, manager, unknown, force: query.is("force") })
    }
}

/// What becomes of what belongs to a deleted object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Propagation {
    Background,
    Foreground,
    Orphan,
}

/// Of a deletion.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DeleteOptions {
    pub dry_run: bool,
    pub grace: Option<i64>,
    pub uid: Option<String>,
    pub resource_version: Option<String>,
    pub propagation: Option<Propagation>,
    /// The older way to say it; it also changes the code of the answer.
    pub orphan: Option<bool>,
    /// What is wrong with them.
    pub wrong: Option<Status>,
}

impl DeleteOptions {
    /// From the body, or from the query if there is none.
    pub(crate) fn of(request: &Request) -> Result<Self, Status> {
        let sent =
            if request.body.is_empty() { Self::in_query(&request.query)? } else { body::delete_options(request)? };
        let options = Self::of_object(&sent);
        options.check()?;
        Ok(options)
    }

    /// Refuses them if something is wrong with them.
    pub(crate) fn check(&self) -> Result<(), Status> {
        self.wrong.clone().map_or(Ok(()), Err)
    }

    fn in_query(query: &Query) -> Result<Value, Status> {
        let mut sent = json!({});
        if let Some(grace) = query.number("gracePeriodSeconds")? {
            sent["gracePeriodSeconds"] = grace.into();
        }
        if let Some(policy) = query.get("propagationPolicy") {
            sent["propagationPolicy"] = policy.into();
        }
        if let Some(orphan) = query.flag("orphanDependents") {
            sent["orphanDependents"] = orphan.into();
        }
        let dry_run: Vec<&str> = query.all("dryRun").collect();
        if !dry_run.is_empty() {
            sent["dryRun"] = json!(dry_run);
        }
        Ok(sent)
    }

    /// From a `DeleteOptions` object, as an eviction has it inside.
    pub(crate) fn of_object(sent: &Value) -> Self {
        let mut errors = Errors::new();
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let orphan = sent["orphanDependents"].as_bool();
        let propagation = match sent["propagationPolicy"].as_str() {
            None => None,
            Some(policy) if orphan.is_some() => {
                let why = "orphanDependents and deletionPropagation cannot be both set";
                errors.push(FieldError::invalid_text("propagationPolicy", policy, why));
                None
            }
            Some("Background") => Some(Propagation::Background),
            Some("Foreground") => Some(Propagation::Foreground),
            Some("Orphan") => Some(Propagation::Orphan),
            Some(other) => {
                let known = ["Foreground", "Background", "Orphan", "nil"];
                errors.push(FieldError::not_supported("propagationPolicy", &other.into(), &known));
                None
            }
        };
        let values: Vec<&str> = sent["dryRun"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let dry_run = dry_run(&values, &mut errors);
        Self {
            dry_run,
            grace: sent["gracePeriodSeconds"].as_i64(),
            uid: text(&sent["preconditions"]["uid"]),
            resource_version: text(&sent["preconditions"]["resourceVersion"]),
            propagation,
            orphan,
            wrong: checked("DeleteOptions", &errors).err(),
        }
    }

    /// The type that a body is read as.
    pub(crate) fn type_() -> &'static schema::Struct {
        schema::named("DeleteOptions")
    }
}

/// `resourceVersionMatch`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Match {
    Exact,
    NotOlderThan,
}

/// Of a list or a watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListOptions {
    /// As it was sent; empty for the latest.
    pub resource_version: String,
    pub matching: Option<Match>,
    pub limit: Option<usize>,
    pub continued: String,
    pub bookmarks: bool,
    pub initial_events: Option<bool>,
    pub timeout: Option<u64>,
}

impl ListOptions {
    /// Reads and checks them.
    pub(crate) fn of(query: &Query) -> Result<Self, Status> {
        let mut errors = Errors::new();
        let version = query.text("resourceVersion");
        let matching = query.text("resourceVersionMatch");
        let initial_events = query.flag("sendInitialEvents");
        if query.is("watch") {
            check_watch(matching, initial_events, query, &mut errors);
        } else {
            check_list(matching, initial_events, query, &mut errors);
        }
        let limit = query.number("limit")?;
        let timeout = query.number("timeoutSeconds")?;
        checked("ListOptions", &errors)?;
        Ok(Self {
            resource_version: version.to_owned(),
            matching: match matching {
                "Exact" => Some(Match::Exact),
                "NotOlderThan" => Some(Match::NotOlderThan),
                _ => None,
            },
            limit: limit.and_then(|limit| usize::try_from(limit).ok()).filter(|limit| *limit > 0),
            continued: query.text("continue").to_owned(),
            bookmarks: query.is("allowWatchBookmarks"),
            initial_events,
            timeout: timeout.and_then(|seconds| u64::try_from(seconds).ok()).filter(|seconds| *seconds > 0),
        })
    }
}

const MATCH: &str = "resourceVersionMatch";

fn check_list(matching: &str, initial_events: Option<bool>, query: &Query, errors: &mut Errors) {
    if !matching.is_empty() {
        if query.text("resourceVersion").is_empty() {
            let why = "resourceVersionMatch is forbidden unless resourceVersion is provided";
            errors.push(FieldError::forbidden(MATCH, why));
        }
        if !query.text("continue").is_empty() {
            errors.push(FieldError::forbidden(MATCH, "resourceVersionMatch is forbidden when continue is provided"));
        }
        if !matches!(matching, "Exact" | "NotOlderThan") {
            errors.push(FieldError::not_supported(MATCH, &matching.into(), &["Exact", "NotOlderThan", ""]));
        }
        if matching == "Exact" && query.text("resourceVersion") == "0" {
            let why = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
            errors.push(FieldError::forbidden(MATCH, why));
        }
    }
    if initial_events.is_some() {
        errors.push(FieldError::forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list"));
    }
}

fn check_watch(matching: &str, initial_events: Option<bool>, query: &Query, errors: &mut Errors) {
    if initial_events.is_some() && matching != "NotOlderThan" {
        let why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
        errors.push(FieldError::forbidden(MATCH, why));
    }
    if matching.is_empty() {
        return;
    }
    if initial_events.is_none() {
        let why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
        errors.push(FieldError::forbidden(MATCH, why));
    }
    if matching != "NotOlderThan" {
        errors.push(FieldError::not_supported(MATCH, &matching.into(), &["NotOlderThan"]));
    }
    if !query.text("continue").is_empty() {
        errors.push(FieldError::forbidden(MATCH, "resourceVersionMatch is forbidden when continue is provided"));
    }
}
