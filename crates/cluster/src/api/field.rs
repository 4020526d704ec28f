//! What can be wrong with a field, in the words of a real API server.
//!
//! Which fields are wrong is decided by who calls this.

use serde_json::{Value, json};

use super::schema::{Type, named};

/// One thing that is wrong with an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FieldError {
    reason: &'static str,
    pub field: String,
    message: String,
}

pub(crate) type Errors = Vec<FieldError>;

/// A value as it is quoted in a message.
fn quoted(value: &Value) -> String {
    value.to_string()
}

fn with_detail(message: String, detail: &str) -> String {
    if detail.is_empty() { message } else { format!("{message}: {detail}") }
}

impl FieldError {
    fn new(reason: &'static str, field: impl Into<String>, message: String) -> Self {
        Self { reason, field: field.into(), message }
    }

    pub(crate) fn required(field: impl Into<String>, detail: &str) -> Self {
        Self::new("FieldValueRequired", field, with_detail("Required value".to_owned(), detail))
    }

    pub(crate) fn invalid(field: impl Into<String>, value: &Value, detail: &str) -> Self {
        Self::new("FieldValueInvalid", field, with_detail(format!("Invalid value: {}", quoted(value)), detail))
    }

    /// With the value as Go writes it, whose fields have an order of their own.
    pub(crate) fn invalid_as(field: impl Into<String>, value: &Value, type_: &Type, detail: &str) -> Self {
        let mut quoted = String::new();
        go_json(value, type_, &mut quoted);
        Self::new("FieldValueInvalid", field, with_detail(format!("Invalid value: {quoted}"), detail))
    }

    pub(crate) fn invalid_text(field: impl Into<String>, value: &str, detail: &str) -> Self {
        Self::invalid(field, &Value::from(value), detail)
    }

    pub(crate) fn duplicate(field: impl Into<String>, value: &Value) -> Self {
        Self::new("FieldValueDuplicate", field, format!("Duplicate value: {}", quoted(value)))
    }

    pub(crate) fn forbidden(field: impl Into<String>, detail: &str) -> Self {
        Self::new("FieldValueForbidden", field, with_detail("Forbidden".to_owned(), detail))
    }

    pub(crate) fn not_found(field: impl Into<String>, value: &Value) -> Self {
        Self::new("FieldValueNotFound", field, format!("Not found: {}", quoted(value)))
    }

    pub(crate) fn too_long(field: impl Into<String>, limit: usize) -> Self {
        let unit = if limit == 1 { "byte" } else { "bytes" };
        Self::new("FieldValueTooLong", field, format!("Too long: may not be more than {limit} {unit}"))
    }

    pub(crate) fn not_supported(field: impl Into<String>, value: &Value, supported: &[&str]) -> Self {
        let words: Vec<String> = supported.iter().map(|word| format!("{word:?}")).collect();
        let list = if words.is_empty() { String::new() } else { format!(": supported values: {}", words.join(", ")) };
        Self::new("FieldValueNotSupported", field, format!("Unsupported value: {}{list}", quoted(value)))
    }

    /// Says it in other words.
    pub(crate) fn say(&mut self, message: &str) {
        message.clone_into(&mut self.message);
    }

    /// As a cause in the details of a status.
    pub(crate) fn cause(&self) -> Value {
        json!({"reason": self.reason, "message": self.message, "field": self.field})
    }
}

/// JSON with the fields of types in Go's order.
fn go_json(value: &Value, type_: &Type, into: &mut String) {
    let separate = |into: &mut String, first: &mut bool| {
        if !std::mem::take(first) {
            into.push(',');
        }
    };
    match (type_, value) {
        (Type::Struct(name), Value::Object(fields)) => {
            let mut first = true;
            into.push('{');
            for field in &named(name).fields {
                let Some(value) = fields.get(field.name) else { continue };
                separate(into, &mut first);
                into.push_str(&Value::from(field.name).to_string());
                into.push(':');
                go_json(value, &field.type_, into);
            }
            into.push('}');
        }
        (Type::List(element), Value::Array(elements)) => {
            let mut first = true;
            into.push('[');
            for value in elements {
                separate(into, &mut first);
                go_json(value, element, into);
            }
            into.push(']');
        }
        (_, value) => into.push_str(&value.to_string()),
    }
}

/// All of them in one sentence.
pub(crate) fn sentence(errors: &[FieldError]) -> String {
    let mut parts: Vec<String> = Vec::new();
    for error in errors {
        let part = format!("{}: {}", error.field, error.message);
        if !parts.contains(&part) {
            parts.push(part);
        }
    }
    if parts.len() == 1 { parts.remove(0) } else { format!("[{}]", parts.join(", ")) }
}
