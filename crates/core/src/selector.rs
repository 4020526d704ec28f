//! Decides which label sets a Kubernetes selector matches, and reads the selector strings that `kubectl -l` takes.
//!
//! Only labels: no field selectors, no owner look-ups. Whether a match means anything is for the caller to say.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::iter::Peekable;
use std::str::CharIndices;

/// Labels or annotations of one object, in order of their keys.
pub type Labels = BTreeMap<Box<str>, Box<str>>;

/// Longest selector string that is read, in bytes.
const MAX_LENGTH: usize = 4096;

/// A conjunction of requirements; the empty one matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Selector {
    /// All of them must hold.
    pub requirements: Vec<Requirement>,
}

/// What one label key must satisfy.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Requirement {
    /// The label key, with its prefix.
    pub key: Box<str>,
    /// What its value must be.
    pub operator: Operator,
}

/// How a requirement judges the value of its key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operator {
    /// The key is there with one of these values.
    In(BTreeSet<Box<str>>),
    /// The key is absent, or has none of these values.
    NotIn(BTreeSet<Box<str>>),
    /// The key is there.
    Exists,
    /// The key is absent.
    DoesNotExist,
    /// The key is there with an integer above this one. Only node affinity has it; selector strings are refused.
    Gt(i64),
    /// The key is there with an integer below this one. Only node affinity has it; selector strings are refused.
    Lt(i64),
}

/// Why a selector cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// The string has the wrong shape.
    #[error("expected {expected} at column {column}, found {found}; write for example `a=b,c in (x,y),!d`")]
    Syntax {
        /// What would have been right.
        expected: &'static str,
        /// What is there.
        found: String,
        /// Where, in characters, from 1.
        column: usize,
    },
    /// A label key that the API server would refuse.
    #[error("label key {key:?} is not valid: {rule}")]
    Key {
        /// The key.
        key: String,
        /// The rule it breaks.
        rule: &'static str,
    },
    /// A label value that the API server would refuse.
    #[error("label value {value:?} is not valid: {VALUE_RULE}")]
    Value {
        /// The value.
        value: String,
    },
    /// `in` or `notin` without a single value.
    #[error("the list of values of {key:?} is empty; name at least one, as in `{key} in (x,y)`")]
    NoValues {
        /// The key whose list it is.
        key: String,
    },
    /// Longer than anything that is meant.
    #[error("a selector has at most {MAX_LENGTH} bytes, this one has {length}")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
}

const NAME_RULE: &str = "at most 63 letters, digits, `-`, `_` or `.`, with a letter or digit at both ends, \
                         after an optional DNS prefix and `/`";
const PREFIX_RULE: &str = "the part before `/` is a DNS name of at most 253 lower-case letters, digits, `-` and `.`";
const VALUE_RULE: &str = "at most 63 letters, digits, `-`, `_` or `.`, with a letter or digit at both ends, or empty";

impl Selector {
    /// Reads the grammar of `kubectl get -l`: `a=b`, `a==b`, `a!=b`, `a in (x,y)`, `a notin (x)`, `a`, `!a`, joined by
    /// commas. The empty string is the selector that matches everything.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        if text.len() > MAX_LENGTH {
            return Err(SelectorError::TooLong { length: text.len() });
        }
        Parser::new(text).selector()
    }

    /// Whether every requirement holds for these labels.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.requirements.iter().all(|requirement| requirement.matches(labels))
    }

    /// Key and value, when the selector is exactly one equality and so can be written as a `nodeSelector` entry.
    pub fn as_equality(&self) -> Option<(&str, &str)> {
        let [Requirement { key, operator: Operator::In(values) }] = self.requirements.as_slice() else { return None };
        let mut values = values.iter();
        match (values.next(), values.next()) {
            (Some(value), None) => Some((key, value)),
            _ => None,
        }
    }
}

impl Requirement {
    /// A requirement whose key and values the API server accepts.
    pub fn new(key: &str, operator: Operator) -> Result<Self, SelectorError> {
        check_key(key)?;
        match &operator {
            Operator::In(values) | Operator::NotIn(values) => {
                if values.is_empty() {
                    return Err(SelectorError::NoValues { key: key.to_owned() });
                }
                values.iter().try_for_each(|value| check_value(value))?;
            }
            Operator::Exists | Operator::DoesNotExist | Operator::Gt(_) | Operator::Lt(_) => {}
        }
        Ok(Self { key: key.into(), operator })
    }

    /// Whether it holds for these labels. As in Kubernetes, [`Operator::NotIn`] holds where the key is absent, and a
    /// value that is no integer satisfies neither [`Operator::Gt`] nor [`Operator::Lt`].
    pub fn matches(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        let integer = || value.and_then(|value| value.parse::<i64>().ok());
        match &self.operator {
            Operator::In(values) => value.is_some_and(|value| values.contains(value)),
            Operator::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::Gt(bound) => integer().is_some_and(|value| value > *bound),
            Operator::Lt(bound) => integer().is_some_and(|value| value < *bound),
        }
    }
}

/// Holds the API server's rule for label and annotation keys (a qualified name).
pub fn check_key(key: &str) -> Result<(), SelectorError> {
    let broken = |rule| Err(SelectorError::Key { key: key.to_owned(), rule });
    let name = match key.split_once('/') {
        Some((prefix, name)) => {
            if !is_dns_subdomain(prefix) {
                return broken(PREFIX_RULE);
            }
            name
        }
        None => key,
    };
    if name.is_empty() || !is_name(name) { broken(NAME_RULE) } else { Ok(()) }
}

/// Holds the API server's rule for label values.
pub fn check_value(value: &str) -> Result<(), SelectorError> {
    if value.is_empty() || is_name(value) { Ok(()) } else { Err(SelectorError::Value { value: value.to_owned() }) }
}

fn is_name(text: &str) -> bool {
    text.len() <= 63
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        && starts_and_ends_alphanumeric(text)
}

fn is_dns_subdomain(text: &str) -> bool {
    text.len() <= 253
        && text.split('.').all(|label| {
            label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
                && starts_and_ends_alphanumeric(label)
        })
}

fn starts_and_ends_alphanumeric(text: &str) -> bool {
    let ends = [text.bytes().next(), text.bytes().next_back()];
    ends.into_iter().all(|end| end.is_some_and(|b| b.is_ascii_alphanumeric()))
}

impl fmt::Display for Selector {
    /// The canonical selector string. [`Operator::Gt`] and [`Operator::Lt`] are written `a>1`, `a<1`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, requirement) in self.requirements.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            requirement.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, operator } = self;
        match operator {
            Operator::In(values) => write_values(f, key, values, "=", "in"),
            Operator::NotIn(values) => write_values(f, key, values, "!=", "notin"),
            Operator::Exists => f.write_str(key),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::Gt(bound) => write!(f, "{key}>{bound}"),
            Operator::Lt(bound) => write!(f, "{key}<{bound}"),
        }
    }
}

fn write_values(
    f: &mut fmt::Formatter<'_>,
    key: &str,
    values: &BTreeSet<Box<str>>,
    one: &str,
    many: &str,
) -> fmt::Result {
    if values.len() == 1 {
        return values.iter().try_for_each(|value| write!(f, "{key}{one}{value}"));
    }
    write!(f, "{key} {many} (")?;
    for (index, value) in values.iter().enumerate() {
        let comma = if index > 0 { "," } else { "" };
        write!(f, "{comma}{value}")?;
    }
    f.write_str(")")
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'t> {
    Word(&'t str),
    Bang,
    Equal,
    NotEqual,
    Open,
    Close,
    Comma,
    /// `<`, `>`: part of the API's grammar, of no use for labels of nodes and namespaces.
    Order(char),
    End,
}

impl fmt::Display for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(word) => write!(f, "`{word}`"),
            Self::Bang => f.write_str("`!`"),
            Self::Equal => f.write_str("`=`"),
            Self::NotEqual => f.write_str("`!=`"),
            Self::Open => f.write_str("`(`"),
            Self::Close => f.write_str("`)`"),
            Self::Comma => f.write_str("`,`"),
            Self::Order(sign) => write!(f, "`{sign}`"),
            Self::End => f.write_str("the end"),
        }
    }
}

/// One token of lookahead over the string.
struct Parser<'t> {
    text: &'t str,
    rest: Peekable<CharIndices<'t>>,
    next: Token<'t>,
    /// Byte where `next` begins.
    at: usize,
}

impl<'t> Parser<'t> {
    fn new(text: &'t str) -> Self {
        let mut parser = Self { text, rest: text.char_indices().peekable(), next: Token::End, at: 0 };
        parser.take();
        parser
    }

    /// The next token, moving on.
    fn take(&mut self) -> Token<'t> {
        while self.rest.next_if(|(_, c)| c.is_ascii_whitespace()).is_some() {}
        self.at = self.rest.peek().map_or(self.text.len(), |(at, _)| *at);
        let scanned = self.scan();
        std::mem::replace(&mut self.next, scanned)
    }

    fn scan(&mut self) -> Token<'t> {
        let Some((start, first)) = self.rest.next() else { return Token::End };
        match first {
            '(' => Token::Open,
            ')' => Token::Close,
            ',' => Token::Comma,
            '<' | '>' => Token::Order(first),
            '=' => {
                // `==` is `=` written twice.
                self.rest.next_if(|(_, c)| *c == '=');
                Token::Equal
            }
            '!' if self.rest.next_if(|(_, c)| *c == '=').is_some() => Token::NotEqual,
            '!' => Token::Bang,
            _ => {
                let ends = |c: char| c.is_ascii_whitespace() || "()!=<>,".contains(c);
                while self.rest.next_if(|(_, c)| !ends(*c)).is_some() {}
                let end = self.rest.peek().map_or(self.text.len(), |(at, _)| *at);
                Token::Word(&self.text[start..end])
            }
        }
    }

    fn expected<T>(&self, expected: &'static str) -> Result<T, SelectorError> {
        let column = self.text[..self.at].chars().count() + 1;
        Err(SelectorError::Syntax { expected, found: self.next.to_string(), column })
    }

    fn selector(mut self) -> Result<Selector, SelectorError> {
        let mut requirements = Vec::new();
        if self.next == Token::End {
            return Ok(Selector { requirements });
        }
        loop {
            requirements.push(self.requirement()?);
            match self.next {
                Token::End => return Ok(Selector { requirements }),
                Token::Comma => {
                    self.take();
                }
                _ => return self.expected("`,` or the end"),
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, SelectorError> {
        if self.next == Token::Bang {
            self.take();
            let key = self.key()?;
            return Requirement::new(key, Operator::DoesNotExist);
        }
        let key = self.key()?;
        let operator = match self.next {
            Token::End | Token::Comma => Operator::Exists,
            Token::Equal => {
                self.take();
                Operator::In(self.value())
            }
            Token::NotEqual => {
                self.take();
                Operator::NotIn(self.value())
            }
            Token::Word("in") => {
                self.take();
                Operator::In(self.values(key)?)
            }
            Token::Word("notin") => {
                self.take();
                Operator::NotIn(self.values(key)?)
            }
            Token::Word(_) | Token::Bang | Token::Open | Token::Close | Token::Order(_) => {
                return self.expected("`=`, `!=`, `in`, `notin`, `,` or the end");
            }
        };
        Requirement::new(key, operator)
    }

    fn key(&mut self) -> Result<&'t str, SelectorError> {
        match self.next {
            Token::Word(word) => {
                self.take();
                Ok(word)
            }
            _ => self.expected("a label key"),
        }
    }

    /// The value after `=` or `!=`; nothing there is the empty value.
    fn value(&mut self) -> BTreeSet<Box<str>> {
        let word = match self.next {
            Token::Word(word) => {
                self.take();
                word
            }
            _ => "",
        };
        BTreeSet::from([word.into()])
    }

    /// `(x,y)`; as in Kubernetes, nothing beside a comma is the empty value and nothing at all is an error.
    fn values(&mut self, key: &str) -> Result<BTreeSet<Box<str>>, SelectorError> {
        if self.next != Token::Open {
            return self.expected("`(`");
        }
        self.take();
        if self.next == Token::Close {
            return Err(SelectorError::NoValues { key: key.to_owned() });
        }
        let mut values = BTreeSet::new();
        loop {
            values.append(&mut self.value());
            match self.next {
                Token::Comma => {
                    self.take();
                }
                Token::Close => {
                    self.take();
                    return Ok(values);
                }
                _ => return self.expected("`,` or `)`"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
    }

    /// Selector, labels, and what the documentation of label selectors says about them.
    #[test]
    fn matches_as_kubernetes_does() {
        for (selector, pairs, wanted) in [
            ("", &[][..], true),
            ("", &[("a", "b")][..], true),
            ("a=b", &[("a", "b")], true),
            ("a==b", &[("a", "b")], true),
            ("a=b", &[("a", "c")], false),
            ("a=b", &[], false),
            ("a=", &[("a", "")], true),
            ("a!=b", &[("a", "c")], true),
            ("a!=b", &[("a", "b")], false),
            ("a!=b", &[], true),
            ("a in (x,y)", &[("a", "y")], true),
            ("a in (x,y)", &[("a", "z")], false),
            ("a in (x,y)", &[], false),
            ("a in (x,)", &[("a", "")], true),
            ("a in (,x)", &[("a", "")], true),
            ("a notin (x,y)", &[("a", "x")], false),
            ("a notin (x,y)", &[("a", "z")], true),
            ("a notin (x,y)", &[], true),
            ("a", &[("a", "")], true),
            ("a", &[("b", "")], false),
            ("!a", &[("b", "")], true),
            ("!a", &[("a", "false")], false),
            ("! a , b = c", &[("b", "c")], true),
            ("a=b,c", &[("a", "b")], false),
            ("a=b,c", &[("a", "b"), ("c", "")], true),
            ("in in (in)", &[("in", "in")], true),
            ("x.io/a=b", &[("x.io/a", "b")], true),
        ] {
            let parsed = Selector::parse(selector).unwrap();
            assert_eq!(parsed.matches(&labels(pairs)), wanted, "{selector} on {pairs:?}");
        }
    }

    #[test]
    fn order_operators_judge_integers_only() {
        let above = Requirement::new("n", Operator::Gt(5)).unwrap();
        let below = Requirement::new("n", Operator::Lt(5)).unwrap();
        for (value, is_above, is_below) in
            [("6", true, false), ("5", false, false), ("-9", false, true), ("six", false, false), ("", false, false)]
        {
            assert_eq!(above.matches(&labels(&[("n", value)])), is_above, "{value} > 5");
            assert_eq!(below.matches(&labels(&[("n", value)])), is_below, "{value} < 5");
        }
        assert!(!above.matches(&labels(&[])) && !below.matches(&labels(&[])));
    }

    #[test]
    fn refuses_with_place_and_remedy() {
        let long = "a".repeat(64);
        for (selector, says) in [
            ("a=b,", "a label key at column 5, found the end"),
            (",a", "a label key at column 1, found `,`"),
            ("=b", "a label key at column 1, found `=`"),
            ("!", "a label key at column 2, found the end"),
            ("a=b c=d", "`,` or the end at column 5, found `c`"),
            ("a b", "found `b`"),
            ("a>1", "found `>`"),
            ("a in x", "`(` at column 6, found `x`"),
            ("a in (x", "`,` or `)` at column 8, found the end"),
            ("a in (x y)", "found `y`"),
            ("a in ()", "the list of values of \"a\" is empty"),
            ("a=é", "label value \"é\" is not valid"),
            ("ä,b c", "label key \"ä\" is not valid"),
            ("-a", "label key \"-a\" is not valid"),
            ("x/y/z", "label key \"x/y/z\""),
            ("/a", "the part before `/` is a DNS name"),
            ("Upper/a", "the part before `/` is a DNS name"),
            ("a..b/c", "the part before `/` is a DNS name"),
            ("x/", "at most 63 letters"),
            (&*long, "at most 63 letters"),
            (&*format!("a={long}"), "label value"),
            (&*"a,".repeat(3000), "at most 4096 bytes, this one has 6000"),
        ] {
            let error = Selector::parse(selector).unwrap_err().to_string();
            assert!(error.contains(says), "{selector:?}: {error}");
        }
    }

    #[test]
    fn only_a_single_value_is_an_equality() {
        for (selector, wanted) in [
            ("a=b", Some(("a", "b"))),
            ("a in (b)", Some(("a", "b"))),
            ("a=", Some(("a", ""))),
            ("a in (b,c)", None),
            ("a!=b", None),
            ("a", None),
            ("!a", None),
            ("a=b,c=d", None),
            ("", None),
        ] {
            assert_eq!(Selector::parse(selector).unwrap().as_equality(), wanted, "{selector}");
        }
    }

    fn operators() -> impl Strategy<Value = Operator> {
        let values = || proptest::collection::btree_set("[a-c]{0,2}".prop_map(Into::into), 1..3);
        prop_oneof![
            values().prop_map(Operator::In),
            values().prop_map(Operator::NotIn),
            Just(Operator::Exists),
            Just(Operator::DoesNotExist),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            pairs in proptest::collection::vec(("([a-z]{1,3}\\.)?[a-z]{1,3}/[A-Z]{1,3}|in|notin", operators()), 0..4),
        ) {
            let requirements =
                pairs.into_iter().map(|(key, operator)| Requirement::new(&key, operator).unwrap()).collect();
            let selector = Selector { requirements };
            prop_assert_eq!(Selector::parse(&selector.to_string()), Ok(selector));
        }

        #[test]
        fn nothing_panics(text in "\\PC{0,40}", dense in "[a!=(), n>\u{e9}]{0,20}") {
            for text in [text, dense] {
                if let Ok(selector) = Selector::parse(&text) {
                    prop_assert_eq!(Selector::parse(&selector.to_string()), Ok(selector));
                }
            }
        }
    }
}
