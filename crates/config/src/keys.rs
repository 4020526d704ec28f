//! The table of all keys, drawn from the settings' own types: what documentation, schema and environment agree upon.

use std::collections::BTreeSet;

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

use crate::bounds::ALLOWED;
use crate::decode::alternatives;
use crate::layers::variable;
use crate::reload::needs_restart;
use crate::settings::Settings;

/// One key of the configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Key {
    /// Its path, as `controller.resyncPeriod`.
    pub path: String,
    /// Its environment variable.
    pub variable: String,
    /// `boolean`, `integer`, `string`, `list` or `map`.
    pub kind: &'static str,
    /// Its value where nobody sets it, as JSON; `null` is "not set".
    pub default: Value,
    /// What may be written, in words.
    pub allowed: String,
    /// What it is for.
    pub description: String,
    /// Whether a change takes effect while running.
    pub reloadable: bool,
}

/// The JSON schema (draft 7, which Helm reads) of the file.
pub fn json_schema() -> Value {
    let settings = SchemaSettings::draft07().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<Settings>();
    schema.insert("title".to_owned(), "Spotalis configuration".into());
    schema.to_value()
}

/// Every key, in the order of their paths.
pub fn keys() -> Vec<Key> {
    let mut keys = Vec::new();
    walk(&json_schema(), "", &mut |path, schema, default| {
        if !is_section(schema) {
            keys.push(describe(path, schema, default));
        }
    });
    keys.sort_by(|a, b| a.path.cmp(&b.path));
    keys
}

/// Every path that holds keys.
pub(crate) fn sections() -> BTreeSet<String> {
    let mut sections = BTreeSet::new();
    walk(&json_schema(), "", &mut |path, schema, _| {
        if is_section(schema) {
            sections.insert(path.to_owned());
        }
    });
    sections
}

/// A map that is not one value.
fn is_section(schema: &Value) -> bool {
    schema.get("properties").is_some() && schema.get(ALLOWED).is_none()
}

fn walk(section: &Value, path: &str, visit: &mut impl FnMut(&str, &Value, &Value)) {
    walk_with(section, path, section.get("default").unwrap_or(&Value::Null), visit);
}

/// A section's default holds those of its keys.
fn walk_with(section: &Value, path: &str, defaults: &Value, visit: &mut impl FnMut(&str, &Value, &Value)) {
    for (name, schema) in properties(section).into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let default = schema.get("default").or_else(|| defaults.get(name)).unwrap_or(&Value::Null);
        visit(&path, schema, default);
        if is_section(schema) {
            walk_with(schema, &path, default, visit);
        }
    }
}

fn properties(schema: &Value) -> Option<&Map<String, Value>> {
    schema.get("properties").and_then(Value::as_object)
}

fn describe(path: &str, schema: &Value, default: &Value) -> Key {
    let text = |keyword: &str| schema.get(keyword).and_then(Value::as_str).unwrap_or_default();
    let kind = match first_type(schema) {
        "boolean" => "boolean",
        "integer" => "integer",
        "array" => "list",
        "object" => "map",
        _ => "string",
    };
    let allowed = match text(ALLOWED) {
        "" if kind == "boolean" => "true or false".to_owned(),
        "" => alternatives(&words(schema)),
        allowed => allowed.to_owned(),
    };
    Key {
        path: path.to_owned(),
        variable: variable(path),
        kind,
        default: default.clone(),
        allowed,
        description: text("description").split_whitespace().collect::<Vec<_>>().join(" "),
        reloadable: !needs_restart(path),
    }
}

/// The type, or the first of several.
fn first_type(schema: &Value) -> &str {
    match schema.get("type") {
        Some(Value::String(only)) => only,
        Some(Value::Array(several)) => several.first().and_then(Value::as_str).unwrap_or_default(),
        _ => "",
    }
}

/// The words of an enumeration, which is written in one of two ways.
fn words(schema: &Value) -> Vec<&str> {
    let list = |keyword: &str| schema.get(keyword).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let described = list("oneOf").iter().filter_map(|word| word.get("const")?.as_str());
    list("enum").iter().filter_map(Value::as_str).chain(described).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_described() {
        let keys = keys();
        assert!(keys.len() > 80, "{}", keys.len());
        for key in &keys {
            assert!(!key.allowed.is_empty(), "{key:?}");
            assert!(key.description.ends_with('.'), "{key:?}");
        }
    }

    #[test]
    fn variables_are_distinct() {
        let paths: Vec<String> = keys().into_iter().map(|key| key.path).chain(sections()).collect();
        let variables: BTreeSet<String> = paths.iter().map(|path| variable(path)).collect();
        assert_eq!(variables.len(), paths.len());
    }

    #[test]
    fn a_few_rows_by_hand() {
        for (path, variable, kind, default, allowed, reloadable) in [
            (
                "controller.resyncPeriod",
                "SPOTALIS_CONTROLLER_RESYNC_PERIOD",
                "string",
                Value::from("30s"),
                "a duration from 5s to 24h",
                true,
            ),
            (
                "controller.leaderElection.leaseDuration",
                "SPOTALIS_CONTROLLER_LEADER_ELECTION_LEASE_DURATION",
                "string",
                Value::from("15s"),
                "a duration from 1s to 1h",
                false,
            ),
            (
                "webhook.port",
                "SPOTALIS_WEBHOOK_PORT",
                "integer",
                Value::from(9443),
                "an integer from 1 to 65535",
                false,
            ),
            (
                "interruption.sqs.queueUrl",
                "SPOTALIS_INTERRUPTION_SQS_QUEUE_URL",
                "string",
                Value::from(""),
                "an address beginning with https:// or http://, or empty",
                false,
            ),
            ("optIn", "SPOTALIS_OPT_IN", "string", Value::from("both"), "both or either", false),
            ("readOnlyMode", "SPOTALIS_READ_ONLY_MODE", "boolean", Value::from(false), "true or false", true),
            (
                "logging.level",
                "SPOTALIS_LOGGING_LEVEL",
                "string",
                Value::from("info"),
                "error, warn, info, debug or trace",
                true,
            ),
            (
                "nodeLabels.onDemand",
                "SPOTALIS_NODE_LABELS_ON_DEMAND",
                "string",
                Value::Null,
                "a selector string such as `a=b,c in (x,y),!d`",
                true,
            ),
            (
                "guard.utilization.max",
                "SPOTALIS_GUARD_UTILIZATION_MAX",
                "integer",
                Value::from(75),
                "an integer from 1 to 100",
                true,
            ),
        ] {
            let keys = keys();
            let key = keys.iter().find(|key| key.path == path).unwrap_or_else(|| panic!("no {path}"));
            assert_eq!(
                (key.variable.as_str(), key.kind, &key.default, key.allowed.as_str(), key.reloadable),
                (variable, kind, &default, allowed, reloadable),
                "{path}"
            );
        }
    }

    #[test]
    fn the_schema_knows_keys_and_nothing_else() {
        let schema = json_schema();
        assert_eq!(schema.get("additionalProperties"), Some(&Value::Bool(false)));
        assert!(schema.get("$defs").is_none() && schema.get("definitions").is_none());
        assert_eq!(schema.pointer("/properties/controller/additionalProperties"), Some(&Value::Bool(false)));
    }
}
