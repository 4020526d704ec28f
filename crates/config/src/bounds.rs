//! How single values are read, written and described: each type here holds the one rule for its kind of value, and the
//! message, the schema and the documentation all come from that rule.
//!
//! They are used as `#[serde(with = "…")]`, so that the settings themselves hold plain types.
#![expect(clippy::ref_option, clippy::trivially_copy_pass_by_ref, reason = "serde hands references over")]

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::marker::PhantomData;
use std::net::IpAddr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserializer, Unexpected, Visitor};
use serde::ser::{SerializeSeq, Serializer};
use serde::{Deserialize, Serialize};
use spotalis_core::class::{Preset, TaintEffect, Toleration, TolerationOperator};
use spotalis_core::duration;
use spotalis_core::opt_in::Mode;
use spotalis_core::policy::{Placement, values};
use spotalis_core::selector::{Operator, Requirement, Selector, SelectorError};
use spotalis_core::split::{Floor, Percentage, Rounding};

use crate::decode::alternatives;

/// The schema keyword that marks a value and says, in words, what it may be.
pub(crate) const ALLOWED: &str = "x-allowed";

/// A second in milliseconds, the unit of [`Span`]'s bounds.
pub(crate) const SECOND: u64 = 1_000;
/// A minute in milliseconds.
pub(crate) const MINUTE: u64 = 60 * SECOND;
/// An hour in milliseconds.
pub(crate) const HOUR: u64 = 60 * MINUTE;
/// A day in milliseconds.
pub(crate) const DAY: u64 = 24 * HOUR;

/// Go's durations; what they mean is checked by the reader, not by the pattern.
const DURATION_PATTERN: &str = r"^(0|(([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+)$";

/// Implements [`JsonSchema`] in place, without a name to refer to.
macro_rules! described {
    ([$($generics:tt)*] $type:ty, $schema:expr) => {
        impl<$($generics)*> JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    };
}

/// Reads a text with a plain function. `None` means that `allowed` was not met.
struct TextVisitor<'a, F> {
    allowed: &'a str,
    read: F,
    /// Whether a number may be written without quotes.
    numbers: bool,
}

impl<T, F: Fn(&str) -> Option<T>> Visitor<'_> for TextVisitor<'_, F> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.allowed)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.read)(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        let read = if self.numbers { (self.read)(&number.to_string()) } else { None };
        read.ok_or_else(|| E::invalid_value(Unexpected::Signed(number), &self))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        let read = if self.numbers { (self.read)(&number.to_string()) } else { None };
        read.ok_or_else(|| E::invalid_value(Unexpected::Unsigned(number), &self))
    }
}

fn read_text<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    allowed: &str,
    read: impl Fn(&str) -> Option<T>,
) -> Result<T, D::Error> {
    deserializer.deserialize_any(TextVisitor { allowed, read, numbers: false })
}

/// A duration between two bounds, in milliseconds.
pub(crate) struct Span<const MIN: u64, const MAX: u64>;

impl<const MIN: u64, const MAX: u64> Span<MIN, MAX> {
    fn allowed() -> String {
        let bound = |millis| duration::format(Duration::from_millis(millis));
        format!("a duration from {} to {}", bound(MIN), bound(MAX))
    }

    pub fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&duration::format(*value))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let allowed = Self::allowed();
        let read = |text: &str| {
            let bounds = Duration::from_millis(MIN)..=Duration::from_millis(MAX);
            duration::parse(text).ok().filter(|duration| bounds.contains(duration))
        };
        read_text(deserializer, &allowed, read)
    }
}

described!([const MIN: u64, const MAX: u64] Span<MIN, MAX>, {
    json_schema!({ "type": "string", "pattern": DURATION_PATTERN, (ALLOWED): Span::<MIN, MAX>::allowed() })
});

/// A duration, or `never`, which is `None`.
pub(crate) struct OrNever;

impl OrNever {
    pub fn serialize<S: Serializer>(value: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&value.map_or_else(|| "never".to_owned(), duration::format))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        read_text(deserializer, values::FALLBACK_AFTER_ALLOWED, values::fallback_after)
    }
}

described!([] OrNever, json_schema!({ "type": "string", (ALLOWED): values::FALLBACK_AFTER_ALLOWED }));

/// An integer between two bounds.
pub(crate) struct Count<const MIN: u32, const MAX: u32>;

impl<const MIN: u32, const MAX: u32> Count<MIN, MAX> {
    fn allowed() -> String {
        format!("an integer from {MIN} to {MAX}")
    }

    pub fn serialize<S: Serializer>(value: &u32, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(*value)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
        deserializer.deserialize_u64(IntegerVisitor { min: MIN, max: MAX, allowed: &Self::allowed() })
    }
}

described!([const MIN: u32, const MAX: u32] Count<MIN, MAX>, {
    json_schema!({ "type": "integer", "minimum": MIN, "maximum": MAX, (ALLOWED): Count::<MIN, MAX>::allowed() })
});

/// A TCP port; 0, "any", is not one that anybody could be told about.
pub(crate) struct Port;

impl Port {
    pub fn serialize<S: Serializer>(value: &u16, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u16(*value)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
        let port = Count::<1, 65_535>::deserialize(deserializer)?;
        Ok(u16::try_from(port).expect("the bound is the largest u16"))
    }
}

impl JsonSchema for Port {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Port".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Count::<1, 65_535>::json_schema(generator)
    }
}

struct IntegerVisitor<'a> {
    min: u32,
    max: u32,
    allowed: &'a str,
}

impl Visitor<'_> for IntegerVisitor<'_> {
    type Value = u32;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.allowed)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<u32, E> {
        let in_bounds = u32::try_from(number).ok().filter(|number| (self.min..=self.max).contains(number));
        in_bounds.ok_or_else(|| E::invalid_value(Unexpected::Signed(number), &self))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<u32, E> {
        let in_bounds = u32::try_from(number).ok().filter(|number| (self.min..=self.max).contains(number));
        in_bounds.ok_or_else(|| E::invalid_value(Unexpected::Unsigned(number), &self))
    }
}

/// A spot percentage, or nothing at all.
pub(crate) struct Share;

impl Share {
    pub fn serialize<S: Serializer>(value: &Option<Percentage>, serializer: S) -> Result<S::Ok, S::Error> {
        value.map(Percentage::get).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Percentage>, D::Error> {
        let read = |text: &str| values::percentage(text).map(Some);
        deserializer.deserialize_any(TextVisitor { allowed: values::PERCENTAGE_ALLOWED, read, numbers: true })
    }
}

described!([] Share, json_schema!({ "type": ["integer", "string", "null"], (ALLOWED): values::PERCENTAGE_ALLOWED }));

/// An on-demand floor, or nothing at all.
pub(crate) struct FloorOrNothing;

impl FloorOrNothing {
    pub fn serialize<S: Serializer>(value: &Option<Floor>, serializer: S) -> Result<S::Ok, S::Error> {
        match value {
            None => serializer.serialize_none(),
            Some(Floor::Count(count)) => serializer.serialize_u32(*count),
            Some(percent @ Floor::Percent(_)) => serializer.collect_str(percent),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Floor>, D::Error> {
        let read = |text: &str| values::floor(text).map(Some);
        deserializer.deserialize_any(TextVisitor { allowed: values::FLOOR_ALLOWED, read, numbers: true })
    }
}

described!([] FloorOrNothing, {
    json_schema!({ "type": ["integer", "string", "null"], (ALLOWED): values::FLOOR_ALLOWED })
});

/// A type of the decisions that is one word out of a few.
pub(crate) trait Vocabulary: Copy + 'static {
    const WORDS: &'static [&'static str];
    fn of(word: &str) -> Option<Self>;
    fn word(self) -> &'static str;
}

impl Vocabulary for Mode {
    const WORDS: &'static [&'static str] = &["both", "either"];

    fn of(word: &str) -> Option<Self> {
        [Self::Both, Self::Either].into_iter().find(|mode| mode.word() == word)
    }

    fn word(self) -> &'static str {
        match self {
            Self::Both => "both",
            Self::Either => "either",
        }
    }
}

impl Vocabulary for Rounding {
    const WORDS: &'static [&'static str] = &["ceil", "nearest", "floor"];

    fn of(word: &str) -> Option<Self> {
        [Self::Ceil, Self::Nearest, Self::Floor].into_iter().find(|rounding| rounding.word() == word)
    }

    fn word(self) -> &'static str {
        match self {
            Self::Ceil => "ceil",
            Self::Nearest => "nearest",
            Self::Floor => "floor",
        }
    }
}

impl Vocabulary for Placement {
    const WORDS: &'static [&'static str] = &["required", "preferred"];

    fn of(word: &str) -> Option<Self> {
        Self::parse(word)
    }

    fn word(self) -> &'static str {
        self.as_str()
    }
}

impl Vocabulary for Preset {
    const WORDS: &'static [&'static str] = &["karpenter", "eks", "gke", "aks", "spotalis"];

    fn of(word: &str) -> Option<Self> {
        Self::parse(word)
    }

    fn word(self) -> &'static str {
        self.as_str()
    }
}

impl Vocabulary for TolerationOperator {
    const WORDS: &'static [&'static str] = &["Equal", "Exists"];

    fn of(word: &str) -> Option<Self> {
        Self::parse(word)
    }

    fn word(self) -> &'static str {
        self.as_str()
    }
}

impl Vocabulary for TaintEffect {
    const WORDS: &'static [&'static str] = &["NoSchedule", "PreferNoSchedule", "NoExecute"];

    fn of(word: &str) -> Option<Self> {
        Self::parse(word)
    }

    fn word(self) -> &'static str {
        self.as_str()
    }
}

/// One word of a vocabulary.
pub(crate) struct Word<T>(PhantomData<T>);

impl<T: Vocabulary> Word<T> {
    pub fn serialize<S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(value.word())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
        deserializer.deserialize_any(WordVisitor(PhantomData))
    }
}

described!([T: Vocabulary] Word<T>, {
    json_schema!({ "type": "string", "enum": T::WORDS, (ALLOWED): alternatives(T::WORDS) })
});

/// The same, or nothing at all.
pub(crate) struct OptionalWord<T>(PhantomData<T>);

impl<T: Vocabulary> OptionalWord<T> {
    pub fn serialize<S: Serializer>(value: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
        value.map(T::word).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
        Word::<T>::deserialize(deserializer).map(Some)
    }
}

described!([T: Vocabulary] OptionalWord<T>, {
    json_schema!({ "type": ["string", "null"], (ALLOWED): alternatives(T::WORDS) })
});

struct WordVisitor<T>(PhantomData<T>);

impl<T: Vocabulary> Visitor<'_> for WordVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&alternatives(T::WORDS))
    }

    fn visit_str<E: de::Error>(self, word: &str) -> Result<T, E> {
        T::of(word).ok_or_else(|| E::unknown_variant(word, T::WORDS))
    }
}

/// A selector string that selects something in particular.
pub(crate) struct SelectorText;

const SELECTOR_ALLOWED: &str = "a selector string such as `a=b,c in (x,y),!d`";

impl SelectorText {
    pub fn serialize<S: Serializer>(value: &Selector, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Selector, D::Error> {
        let text = read_text(deserializer, SELECTOR_ALLOWED, |text| Some(text.to_owned()))?;
        Selector::parse(&text).map_err(de::Error::custom)
    }
}

described!([] SelectorText, json_schema!({ "type": "string", (ALLOWED): SELECTOR_ALLOWED }));

/// The same, or nothing at all.
pub(crate) struct OptionalSelector;

impl OptionalSelector {
    pub fn serialize<S: Serializer>(value: &Option<Selector>, serializer: S) -> Result<S::Ok, S::Error> {
        value.as_ref().map(ToString::to_string).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Selector>, D::Error> {
        SelectorText::deserialize(deserializer).map(Some)
    }
}

described!([] OptionalSelector, json_schema!({ "type": ["string", "null"], (ALLOWED): SELECTOR_ALLOWED }));

/// A label selector as the API writes it: `matchLabels`, `matchExpressions`.
pub(crate) struct LabelSelector;

#[derive(Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct Matches {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    match_labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    match_expressions: Vec<Expression>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Expression {
    key: String,
    operator: ExpressionOperator,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    values: BTreeSet<Box<str>>,
}

#[derive(Deserialize, Serialize)]
enum ExpressionOperator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
}

impl LabelSelector {
    pub fn serialize<S: Serializer>(value: &Selector, serializer: S) -> Result<S::Ok, S::Error> {
        let expression = |requirement: &Requirement| {
            let (operator, values) = match &requirement.operator {
                Operator::In(values) => (ExpressionOperator::In, values.clone()),
                Operator::NotIn(values) => (ExpressionOperator::NotIn, values.clone()),
                Operator::Exists => (ExpressionOperator::Exists, BTreeSet::new()),
                Operator::DoesNotExist => (ExpressionOperator::DoesNotExist, BTreeSet::new()),
                Operator::Gt(_) | Operator::Lt(_) => return None,
            };
            Some(Expression { key: requirement.key.to_string(), operator, values })
        };
        let match_expressions = value.requirements.iter().filter_map(expression).collect();
        Matches { match_labels: BTreeMap::new(), match_expressions }.serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Selector, D::Error> {
        let Matches { match_labels, match_expressions } = Matches::deserialize(deserializer)?;
        let equalities = match_labels
            .into_iter()
            .map(|(key, value)| Requirement::new(&key, Operator::In(BTreeSet::from([value.into()]))));
        let requirements = equalities.chain(match_expressions.into_iter().map(requirement));
        requirements.collect::<Result<_, _>>().map(|requirements| Selector { requirements }).map_err(de::Error::custom)
    }
}

fn requirement(Expression { key, operator, values }: Expression) -> Result<Requirement, SelectorError> {
    let operator = match operator {
        ExpressionOperator::In => Operator::In(values),
        ExpressionOperator::NotIn => Operator::NotIn(values),
        ExpressionOperator::Exists => Operator::Exists,
        ExpressionOperator::DoesNotExist => Operator::DoesNotExist,
    };
    Requirement::new(&key, operator)
}

described!([] LabelSelector, json_schema!({
    "type": "object",
    "additionalProperties": false,
    "properties": {
        "matchLabels": { "type": "object", "additionalProperties": { "type": "string" } },
        "matchExpressions": {
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": false,
                "required": ["key", "operator"],
                "properties": {
                    "key": { "type": "string" },
                    "operator": { "enum": ["In", "NotIn", "Exists", "DoesNotExist"] },
                    "values": { "type": "array", "items": { "type": "string" } }
                }
            }
        }
    },
    (ALLOWED): "a label selector with matchLabels and matchExpressions; {} matches everything"
}));

/// A name of one DNS label, as of namespaces.
#[derive(Deserialize)]
#[serde(transparent)]
struct Name(#[serde(with = "Name")] Box<str>);

const NAME_ALLOWED: &str = "a name of at most 63 lower-case letters, digits and `-`";

impl Name {
    fn read(text: &str) -> Option<Box<str>> {
        let letters = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let ends = [text.bytes().next(), text.bytes().next_back()];
        let valid = text.len() <= 63
            && text.bytes().all(|b| letters(b) || b == b'-')
            && ends.into_iter().all(|end| end.is_some_and(letters));
        valid.then(|| text.into())
    }

    fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Box<str>, D::Error> {
        read_text(deserializer, NAME_ALLOWED, Self::read)
    }
}

/// The name of one namespace.
pub(crate) struct Namespace;

impl Namespace {
    pub fn serialize<S: Serializer>(value: &str, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(value)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Box<str>, D::Error> {
        Name::deserialize(deserializer)
    }
}

described!([] Namespace, json_schema!({ "type": "string", (ALLOWED): NAME_ALLOWED }));

/// A set of namespaces.
pub(crate) struct Namespaces;

impl Namespaces {
    pub fn serialize<S: Serializer>(value: &BTreeSet<Box<str>>, serializer: S) -> Result<S::Ok, S::Error> {
        value.serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeSet<Box<str>>, D::Error> {
        let names = <Vec<Name> as Deserialize>::deserialize(deserializer)?;
        Ok(names.into_iter().map(|Name(name)| name).collect())
    }
}

described!([] Namespaces, json_schema!({
    "type": "array", "items": { "type": "string" }, (ALLOWED): "a list of namespace names"
}));

/// Tolerations that the API server accepts.
pub(crate) struct TolerationList;

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct WrittenToleration {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<Box<str>>,
    #[serde(default, with = "Word::<TolerationOperator>")]
    operator: TolerationOperator,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<Box<str>>,
    #[serde(default, with = "OptionalWord::<TaintEffect>", skip_serializing_if = "Option::is_none")]
    effect: Option<TaintEffect>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    toleration_seconds: Option<i64>,
}

struct CheckedToleration(Toleration);

impl<'de> Deserialize<'de> for CheckedToleration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let WrittenToleration { key, operator, value, effect, toleration_seconds } =
            WrittenToleration::deserialize(deserializer)?;
        let toleration = Toleration { key, operator, value, effect, toleration_seconds };
        toleration.check().map_err(de::Error::custom)?;
        Ok(Self(toleration))
    }
}

impl TolerationList {
    pub fn serialize<S: Serializer>(tolerations: &[Toleration], serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(tolerations.len()))?;
        for Toleration { key, operator, value, effect, toleration_seconds } in tolerations.iter().cloned() {
            list.serialize_element(&WrittenToleration { key, operator, value, effect, toleration_seconds })?;
        }
        list.end()
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Toleration>, D::Error> {
        let checked = Vec::<CheckedToleration>::deserialize(deserializer)?;
        Ok(checked.into_iter().map(|CheckedToleration(toleration)| toleration).collect())
    }
}

described!([] TolerationList, json_schema!({
    "type": "array",
    "items": {
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "key": { "type": "string" },
            "operator": { "enum": TolerationOperator::WORDS },
            "value": { "type": "string" },
            "effect": { "enum": TaintEffect::WORDS },
            "tolerationSeconds": { "type": "integer" }
        }
    },
    (ALLOWED): "a list of tolerations as in a pod's spec"
}));

/// An IP address to listen on.
pub(crate) struct Address;

const ADDRESS_ALLOWED: &str = "an IP address such as 0.0.0.0, 127.0.0.1 or ::";

impl Address {
    pub fn serialize<S: Serializer>(value: &IpAddr, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<IpAddr, D::Error> {
        read_text(deserializer, ADDRESS_ALLOWED, |text| text.parse().ok())
    }
}

described!([] Address, json_schema!({ "type": "string", (ALLOWED): ADDRESS_ALLOWED }));

/// Text of bounded length without control characters, except line ends where there is room for lines.
pub(crate) struct Text<const MIN: usize, const MAX: usize>;

impl<const MIN: usize, const MAX: usize> Text<MIN, MAX> {
    fn allowed() -> String {
        match MIN {
            0 => format!("text of at most {MAX} bytes, or empty"),
            _ => format!("text of at most {MAX} bytes, not empty"),
        }
    }

    pub fn serialize<S: Serializer>(value: &str, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(value)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
        let read = |text: &str| {
            let fits = (MIN..=MAX).contains(&text.len()) && !text.contains(|c: char| c.is_control() && c != '\n');
            fits.then(|| text.to_owned())
        };
        read_text(deserializer, &Self::allowed(), read)
    }
}

described!([const MIN: usize, const MAX: usize] Text<MIN, MAX>, {
    json_schema!({ "type": "string", "minLength": MIN, "maxLength": MAX, (ALLOWED): Text::<MIN, MAX>::allowed() })
});

/// An address of the web, or nothing.
pub(crate) struct Url;

/// What [`Url::read`] takes.
pub(crate) const URL_ALLOWED: &str = "an address beginning with https:// or http://, or empty";

impl Url {
    /// Only what distinguishes an address from a slip: whether somebody answers there is found out by asking.
    pub fn read(text: &str) -> Option<&str> {
        let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        let host = rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'));
        let clean = text.len() <= 2048 && !text.contains(|c: char| c.is_whitespace() || c.is_control());
        (text.is_empty() || host && clean).then_some(text)
    }

    pub fn serialize<S: Serializer>(value: &str, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(value)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
        read_text(deserializer, URL_ALLOWED, |text| Self::read(text).map(str::to_owned))
    }
}

described!([] Url, json_schema!({ "type": "string", (ALLOWED): URL_ALLOWED }));

/// A day, or nothing.
pub(crate) struct Day;

const DAY_ALLOWED: &str = "a date such as 2026-07-20, or empty";

impl Day {
    pub fn serialize<S: Serializer>(value: &str, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(value)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
        let read = |text: &str| {
            let date = text.is_empty() || text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok();
            date.then(|| text.to_owned())
        };
        read_text(deserializer, DAY_ALLOWED, read)
    }
}

described!([] Day, json_schema!({ "type": "string", (ALLOWED): DAY_ALLOWED }));
