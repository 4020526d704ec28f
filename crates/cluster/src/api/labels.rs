//! Label selectors, from a query (`a=b,c in (d,e),!f`) or from an object (`matchLabels`, `matchExpressions`).
//!
//! It decides whether labels match. What is no selector is refused with the words of the real parser.

use std::collections::BTreeSet;

use serde_json::Value;

use super::names;
use crate::object::Object;
use crate::selector::{Requirement, Test};

/// What labels must fulfil.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Selector {
    requirements: Vec<Requirement>,
    /// Matches nothing at all.
    nothing: bool,
}

impl Selector {
    /// Matches nothing.
    pub(crate) fn nothing() -> Self {
        Self { requirements: Vec::new(), nothing: true }
    }

    /// Whether it matches everything.
    pub(crate) fn is_everything(&self) -> bool {
        self.requirements.is_empty() && !self.nothing
    }

    /// Whether the labels of an object match.
    pub(crate) fn matches(&self, object: &Object) -> bool {
        self.matches_labels(object.at("/metadata/labels"))
    }

    /// Whether labels match, given as a JSON object or null.
    pub(crate) fn matches_labels(&self, labels: &Value) -> bool {
        !self.nothing && self.requirements.iter().all(|requirement| requirement.matches(labels))
    }

    /// From a `LabelSelector`: null matches nothing, an empty one everything. None for one that is not valid.
    pub(crate) fn of_object(selector: &Value) -> Option<Self> {
        if selector.is_null() {
            return Some(Self::nothing());
        }
        let mut requirements = Vec::new();
        for (key, value) in selector["matchLabels"].as_object().into_iter().flatten() {
            let value = value.as_str()?.to_owned();
            requirements.push(Requirement::new(key, Test::In([value].into())));
        }
        for expression in selector["matchExpressions"].as_array().into_iter().flatten() {
            let values = || -> BTreeSet<String> {
                expression["values"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(Value::as_str)
                    .map(str::to_owned)
                    .collect()
            };
            let test = match expression["operator"].as_str()? {
                "In" => Test::In(values()),
                "NotIn" => Test::NotIn(values()),
                "Exists" => Test::Exists,
                "DoesNotExist" => Test::DoesNotExist,
                _ => return None,
            };
            requirements.push(Requirement::new(expression["key"].as_str()?, test));
        }
        Some(Self { requirements, nothing: false })
    }

    /// From the text of a query. The error is the real parser's.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut parser = Parser { tokens: tokens(text), at: 0 };
        Ok(Self { requirements: parser.requirements()?, nothing: false })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Symbol(&'static str),
    End,
}

const SYMBOLS: [&str; 9] = ["!=", "==", "!", "=", ">", "<", "(", ")", ","];

fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        if let Some(symbol) = SYMBOLS.into_iter().find(|symbol| rest.starts_with(symbol)) {
            tokens.push(Token::Symbol(symbol));
            rest = &rest[symbol.len()..];
        } else {
            let end = rest.find(|c: char| c.is_whitespace() || "!=><(),".contains(c)).unwrap_or(rest.len());
            tokens.push(Token::Word(rest[..end].to_owned()));
            rest = &rest[end..];
        }
        rest = rest.trim_start();
    }
    tokens
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
}

impl Token {
    fn text(&self) -> &str {
        match self {
            Self::Word(word) => word,
            Self::Symbol(symbol) => symbol,
            Self::End => "",
        }
    }
}

impl Parser {
    fn peek(&self) -> Token {
        self.tokens.get(self.at).cloned().unwrap_or(Token::End)
    }

    fn next(&mut self) -> Token {
        let token = self.peek();
        self.at += 1;
        token
    }

    fn requirements(&mut self) -> Result<Vec<Requirement>, String> {
        let mut requirements = Vec::new();
        loop {
            match self.peek() {
                Token::Word(_) | Token::Symbol("!") => {
                    let requirement =
                        self.requirement().map_err(|error| format!("unable to parse requirement: {error}"))?;
                    requirements.push(requirement);
                    match self.next() {
                        Token::End => return Ok(requirements),
                        Token::Symbol(",") => match self.peek() {
                            Token::Word(_) | Token::Symbol("!") => {}
                            other => return Err(format!("found '{}', expected: identifier after ','", other.text())),
                        },
                        other => return Err(format!("found '{}', expected: ',' or 'end of string'", other.text())),
                    }
                }
                Token::End => return Ok(requirements),
                other @ Token::Symbol(_) => {
                    return Err(format!("found '{}', expected: !, identifier, or 'end of string'", other.text()));
                }
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let absent = self.peek() == Token::Symbol("!");
        if absent {
            self.next();
        }
        let Token::Word(key) = self.next() else {
            let found = self.tokens.get(self.at - 1).map_or("", Token::text);
            return Err(format!("found '{found}', expected: identifier"));
        };
        checked("<nil>", &key, &names::qualified(&key))?;
        if absent {
            return Ok(Requirement::new(&key, Test::DoesNotExist));
        }
        let operator = match self.peek() {
            Token::End | Token::Symbol(",") => return Ok(Requirement::new(&key, Test::Exists)),
            other => {
                self.next();
                other
            }
        };
        let test = match operator.text() {
            "in" => Test::In(self.list()?),
            "notin" => Test::NotIn(self.list()?),
            "=" | "==" => Test::In([self.exact()?].into()),
            "!=" => Test::NotIn([self.exact()?].into()),
            ">" | "gt" => Test::Above(self.number()?),
            "<" | "lt" => Test::Below(self.number()?),
            other => return Err(format!("found '{other}', expected: in, notin, =, ==, !=, gt, lt")),
        };
        if let Test::In(values) | Test::NotIn(values) = &test {
            for (index, value) in values.iter().enumerate() {
                checked(&format!("values[{index}][{key}]"), value, &names::label_value(value))?;
            }
        }
        Ok(Requirement::new(&key, test))
    }

    fn exact(&mut self) -> Result<String, String> {
        match self.peek() {
            Token::End | Token::Symbol(",") => Ok(String::new()),
            Token::Word(word) => {
                self.next();
                Ok(word)
            }
            other @ Token::Symbol(_) => Err(format!("found '{}', expected: identifier", other.text())),
        }
    }

    fn number(&mut self) -> Result<i64, String> {
        let value = self.exact()?;
        let why = "for 'Gt', 'Lt' operators, the value must be an integer";
        value.parse().map_err(|_| format!("values[0]: Invalid value: {value:?}: {why}"))
    }

    fn list(&mut self) -> Result<BTreeSet<String>, String> {
        let open = self.next();
        if open != Token::Symbol("(") {
            return Err(format!("found '{}' expected: '('", open.text()));
        }
        let mut values = BTreeSet::new();
        loop {
            match self.next() {
                Token::Word(word) => {
                    values.insert(word);
                    match self.next() {
                        Token::Symbol(",") => {}
                        Token::Symbol(")") => return Ok(values),
                        other => return Err(format!("found '{}', expected: ',' or ')'", other.text())),
                    }
                }
                Token::Symbol(",") => {
                    values.insert(String::new());
                }
                Token::Symbol(")") => {
                    values.insert(String::new());
                    return Ok(values);
                }
                other => return Err(format!("found '{}', expected: ',', or identifier", other.text())),
            }
        }
    }
}

fn checked(field: &str, value: &str, wrong: &[String]) -> Result<(), String> {
    if wrong.is_empty() { Ok(()) } else { Err(format!("{field}: Invalid value: {value:?}: {}", wrong.join("; "))) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn queries_select() {
        for (query, labels, matches) in [
            ("", json!({}), true),
            ("a=b", json!({"a": "b"}), true),
            ("a==b,c", json!({"a": "b"}), false),
            ("a != b", json!({}), true),
            ("a!=b", json!({"a": "b"}), false),
            ("a in (b, c)", json!({"a": "c"}), true),
            ("a notin (b,c)", json!({"a": "c"}), false),
            ("a in ()", json!({"a": ""}), true),
            ("!a", json!({"a": ""}), false),
            ("a=", json!({"a": ""}), true),
            ("a>1", json!({"a": "2"}), true),
            ("a lt 2", json!({"a": "2"}), false),
            ("in in (in)", json!({"in": "in"}), true),
        ] {
            let selector = Selector::parse(query).unwrap();
            assert_eq!(selector.matches_labels(&labels), matches, "{query} {labels}");
        }
    }

    #[test]
    fn what_is_no_query_is_refused() {
        for (query, why) in [
            ("a b c", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
            ("a,", "found '', expected: identifier after ','"),
            (",a", "found ',', expected: !, identifier, or 'end of string'"),
            ("a=b c", "found 'c', expected: ',' or 'end of string'"),
            ("a in b", "unable to parse requirement: found 'b' expected: '('"),
            ("a in (b", "unable to parse requirement: found '', expected: ',' or ')'"),
        ] {
            assert_eq!(Selector::parse(query), Err(why.to_owned()), "{query}");
        }
        assert!(Selector::parse("a=b!").is_err() && Selector::parse("-=b").is_err());
    }

    #[test]
    fn objects_select() {
        let of = |selector: Value, labels: Value| {
            Selector::of_object(&selector).map(|selector| selector.matches_labels(&labels))
        };
        assert_eq!(of(Value::Null, json!({})), Some(false));
        assert_eq!(of(json!({}), json!({})), Some(true));
        assert_eq!(of(json!({"matchLabels": {"a": "b"}}), json!({"a": "b", "c": "d"})), Some(true));
        let expression = json!({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["b"]}]});
        assert_eq!(of(expression.clone(), json!({})), Some(true));
        assert_eq!(of(expression, json!({"a": "b"})), Some(false));
        assert_eq!(of(json!({"matchExpressions": [{"key": "a", "operator": "Near"}]}), json!({})), None);
    }
}
