//! Field selectors: which fields of which kinds can be selected by, and whether an object matches.

use serde_json::Value;

use super::status::Status;
use crate::object::Object;
use crate::resource::Kind;

/// What fields must be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fields(Vec<Term>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Term {
    field: String,
    /// Where it stands, as a JSON pointer.
    pointer: String,
    /// `!=`
    differs: bool,
    value: String,
}

/// The fields of a kind beside `metadata.name`; none where the real one has only the names that all have.
fn selectable(kind: Kind) -> Option<&'static [&'static str]> {
    Some(match kind {
        Kind::Pod => &[
            "metadata.namespace",
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ],
        Kind::Node => &["spec.unschedulable"],
        Kind::Namespace => &["status.phase"],
        Kind::Secret => &["type", "metadata.namespace"],
        Kind::Event => &[
            "reason",
            "regarding.kind",
            "regarding.namespace",
            "regarding.name",
            "regarding.uid",
            "regarding.apiVersion",
            "regarding.resourceVersion",
            "regarding.fieldPath",
            "reportingController",
            "type",
            "metadata.namespace",
        ],
        _ => return None,
    })
}

impl Fields {
    /// From the text of a query.
    pub(crate) fn parse(kind: Kind, text: &str) -> Result<Self, Status> {
        let terms = text.split(',').filter(|term| !term.is_empty());
        let terms: Result<Vec<Term>, String> = terms.map(|term| Self::term(kind, term)).collect();
        terms.map(Self).map_err(Status::bad_request)
    }

    fn term(kind: Kind, text: &str) -> Result<Term, String> {
        let operator = ["!=", "==", "="].into_iter().find_map(|operator| Some((text.find(operator)?, operator)));
        let Some((at, operator)) = operator else {
            return Err(format!("invalid selector: '{text}'; can't understand '{text}'"));
        };
        let (field, value) = (&text[..at], &text[at + operator.len()..]);
        let known = match selectable(kind) {
            Some(fields) => field == "metadata.name" || fields.contains(&field),
            None => matches!(field, "metadata.name" | "metadata.namespace"),
        };
        if !known {
            return Err(match selectable(kind) {
                Some(_) => format!("field label not supported: {field}"),
                None => {
                    format!("{field:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")
                }
            });
        }
        let pointer = format!("/{}", field.replace('.', "/"));
        Ok(Term { field: field.to_owned(), pointer, differs: operator == "!=", value: value.to_owned() })
    }

    /// Whether an object matches.
    pub(crate) fn matches(&self, object: &Object) -> bool {
        self.0.iter().all(|term| {
            let is_same = match object.at(&term.pointer) {
                Value::String(text) => *text == term.value,
                Value::Null if matches!(term.field.as_str(), "spec.unschedulable" | "spec.hostNetwork") => {
                    term.value == "false"
                }
                Value::Null => term.value.is_empty(),
                other => {
                    let text = other.to_string();
                    text == term.value
                }
            };
            is_same != term.differs
        })
    }

    /// Whether everything matches.
    pub(crate) fn is_everything(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_select() {
        let pod = Object::from(json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n"}}));
        for (query, matches) in [
            ("", true),
            ("spec.nodeName=n", true),
            ("spec.nodeName!=n", false),
            ("spec.nodeName=n,metadata.name==q", false),
            ("status.phase=", true),
            ("spec.hostNetwork=false", true),
        ] {
            assert_eq!(Fields::parse(Kind::Pod, query).map(|fields| fields.matches(&pod)), Ok(matches), "{query}");
        }
        for (kind, query, why) in [
            (Kind::Pod, "foo=bar", "field label not supported: foo"),
            (
                Kind::ConfigMap,
                "foo=bar",
                "\"foo\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"",
            ),
            (Kind::ConfigMap, "foo", "invalid selector: 'foo'; can't understand 'foo'"),
        ] {
            assert_eq!(Fields::parse(kind, query).map_err(|status| status.message), Err(why.to_owned()), "{query}");
        }
    }
}
