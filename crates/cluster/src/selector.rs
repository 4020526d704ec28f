//! Label selectors as they stand in objects.
//!
//! A selector that cannot be read is an error, never one that matches everything.

use std::collections::BTreeSet;

use serde_json::Value;

/// A condition on one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    key: String,
    test: Test,
}

/// A comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Test {
    In(BTreeSet<String>),
    NotIn(BTreeSet<String>),
    Exists,
    DoesNotExist,
    Above(i64),
    Below(i64),
}

/// What is wrong with a selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a valid label selector operator")]
pub struct Unreadable(String);

impl Requirement {
    /// A condition on the label of this key.
    pub(crate) fn new(key: &str, test: Test) -> Self {
        Self { key: key.to_owned(), test }
    }

    /// Reads `{key, operator, values}`.
    pub fn parse(value: &Value) -> Result<Self, Unreadable> {
        let key = value["key"].as_str().unwrap_or_default().to_owned();
        let operator = value["operator"].as_str().unwrap_or_default();
        let values = || value["values"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let bound = || values().next().and_then(|bound| bound.parse().ok());
        let unreadable = || Unreadable(operator.to_owned());
        let test = match operator {
            "In" => Test::In(values().map(str::to_owned).collect()),
            "NotIn" => Test::NotIn(values().map(str::to_owned).collect()),
            "Exists" => Test::Exists,
            "DoesNotExist" => Test::DoesNotExist,
            "Gt" => Test::Above(bound().ok_or_else(unreadable)?),
            "Lt" => Test::Below(bound().ok_or_else(unreadable)?),
            _ => return Err(unreadable()),
        };
        Ok(Self { key, test })
    }

    /// The label that it is about.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Whether labels (a map, or null for none) fulfil it.
    pub fn matches(&self, labels: &Value) -> bool {
        self.allows(labels.get(&self.key).and_then(Value::as_str))
    }

    /// Whether a value, or the lack of one, fulfils it.
    pub fn allows(&self, value: Option<&str>) -> bool {
        let number = || value.and_then(|value| value.parse::<i64>().ok());
        match &self.test {
            Test::In(values) => value.is_some_and(|value| values.contains(value)),
            Test::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
            Test::Exists => value.is_some(),
            Test::DoesNotExist => value.is_none(),
            Test::Above(bound) => number().is_some_and(|number| number > *bound),
            Test::Below(bound) => number().is_some_and(|number| number < *bound),
        }
    }
}

/// A `LabelSelector`. Without conditions it matches everything; where there is none at all, nothing matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    /// `None` matches nothing.
    requirements: Option<Vec<Requirement>>,
}

impl Selector {
    /// Reads `{matchLabels, matchExpressions}`; null matches nothing.
    pub fn parse(value: &Value) -> Result<Self, Unreadable> {
        if value.is_null() {
            return Ok(Self { requirements: None });
        }
        let labels = value["matchLabels"].as_object().into_iter().flatten().map(|(key, value)| Requirement {
            key: key.clone(),
            test: Test::In(value.as_str().map(str::to_owned).into_iter().collect()),
        });
        let expressions = value["matchExpressions"].as_array().into_iter().flatten().map(Requirement::parse);
        let requirements = labels.map(Ok).chain(expressions).collect::<Result<_, _>>()?;
        Ok(Self { requirements: Some(requirements) })
    }

    /// Whether these labels (a map, or null for none) are selected.
    pub fn matches(&self, labels: &Value) -> bool {
        let fits = |requirement: &Requirement| requirement.matches(labels);
        self.requirements.as_ref().is_some_and(|requirements| requirements.iter().all(fits))
    }

    /// Whether it has no condition, and so selects everything.
    pub fn is_everything(&self) -> bool {
        self.requirements.as_ref().is_some_and(Vec::is_empty)
    }
}

/// Whether a `LabelSelector`, as it stands in an object, selects these labels; not if it is null or cannot be read. The same
/// as [`Selector::matches`], for selectors that are looked at once.
pub fn selects(selector: &Value, labels: &Value) -> bool {
    let wanted = |key: &str| selector.get(key);
    let mut equal = wanted("matchLabels").and_then(Value::as_object).into_iter().flatten();
    let mut expressions = wanted("matchExpressions").and_then(Value::as_array).into_iter().flatten();
    let value = |key: &str| labels.get(key).and_then(Value::as_str);
    let fits = |it: &Value| Requirement::parse(it).is_ok_and(|requirement| requirement.matches(labels));
    selector.is_object() && equal.all(|(key, wanted)| value(key) == wanted.as_str()) && expressions.all(fits)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn selectors_select() {
        let labels = json!({"app": "x", "tier": "2"});
        let with = |key: &str, operator: &str, values: &[&str]| json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]});
        for (selector, expected) in [
            (json!(null), false),
            (json!({}), true),
            (json!({"matchLabels": {"app": "x"}}), true),
            (json!({"matchLabels": {"app": "y"}}), false),
            (json!({"matchLabels": {"app": "x", "none": ""}}), false),
            (with("app", "In", &["y", "x"]), true),
            (with("none", "In", &["x"]), false),
            (with("app", "NotIn", &["x"]), false),
            (with("none", "NotIn", &["x"]), true),
            (with("app", "Exists", &[]), true),
            (with("none", "DoesNotExist", &[]), true),
            (with("app", "DoesNotExist", &[]), false),
            (with("tier", "Gt", &["1"]), true),
            (with("tier", "Lt", &["2"]), false),
            (with("app", "Gt", &["1"]), false),
            (with("none", "Gt", &["1"]), false),
        ] {
            assert_eq!(Selector::parse(&selector).unwrap().matches(&labels), expected, "{selector}");
            assert_eq!(selects(&selector, &labels), expected, "{selector}");
        }
        assert!(Selector::parse(&with("app", "Like", &["x"])).is_err());
        assert!(!selects(&with("app", "Like", &["x"]), &labels));
        assert!(Selector::parse(&with("app", "Gt", &["x"])).is_err());
        assert!(Selector::parse(&json!({})).unwrap().matches(&json!(null)));
        assert!(Selector::parse(&json!({})).unwrap().is_everything());
    }
}
