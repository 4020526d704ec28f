//! Reads an `AdmissionReview` and writes the answer: bytes in, bytes out.
//!
//! Only the fields that are used are kept, borrowed from the body; everything else is skipped without allocation. A
//! body that cannot be read still gives up its `request.uid` where it has one, for an answer without it is an error to
//! the API server. There is no way to write `allowed: false` here, and nothing here decides anything about the pod.

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use spotalis_core::selector::{Operator, Requirement};
use spotalis_core::steering::{NodeSelector, NodeTerm, PodPlacement, PodToleration, PreferredTerm};

/// The longest id that is remembered; those of Kubernetes have 36 bytes. Whoever reaches the port may send any.
const MOST_ID_BYTES: usize = 128;
/// The most node affinity requirements, with their values, that are worked through for one pod. Users write a handful; a
/// body has room for a hundred thousand, and nobody else is answered meanwhile.
const MOST_REQUIREMENTS: usize = 2_000;

/// A request of the API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Review<'a> {
    /// `request.uid`: to be echoed. A new one for every call, reinvocations included.
    pub uid: Cow<'a, str>,
    /// Whether the answer must leave no trace.
    pub dry_run: bool,
    /// The pod that is to be created; `None` when the request is about anything else.
    pub pod: Option<Pod<'a>>,
}

/// A pod on its way in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod<'a> {
    /// The namespace of the request.
    pub namespace: Cow<'a, str>,
    /// Empty for the pods of a `ReplicaSet`.
    pub name: Cow<'a, str>,
    /// What the name will begin with, where it is still to be made up.
    pub generate_name: Cow<'a, str>,
    /// `metadata.labels`; `None` where a patch must create the map.
    pub labels: Option<Entries<'a>>,
    /// `metadata.annotations`; `None` where a patch must create the map.
    pub annotations: Option<Entries<'a>>,
    /// The owner that controls the pod.
    pub controller: Option<Owner<'a>>,
    /// What the pod says about where it wants to run.
    pub placement: PodPlacement<'a>,
    /// Whether there is a `spec.affinity` for a patch to add to.
    pub has_affinity: bool,
    /// Whether there is a `spec.affinity.nodeAffinity` for a patch to add to.
    pub has_node_affinity: bool,
}

impl Pod<'_> {
    /// The value of a label.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels.as_ref()?.get(key)
    }

    /// The value of an annotation.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(key)
    }
}

/// A controlling owner reference.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owner<'a> {
    /// Such as `apps/v1`.
    pub api_version: Cow<'a, str>,
    /// Such as `ReplicaSet`.
    pub kind: Cow<'a, str>,
    /// Its name.
    pub name: Cow<'a, str>,
    /// Its UID.
    pub uid: Cow<'a, str>,
}

/// Labels or annotations in the order of the body. Looking one up walks the list: a pod has few, and one that has ten
/// thousand costs ten thousand steps, not a tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entries<'a>(Vec<(Text<'a>, Text<'a>)>);

impl Entries<'_> {
    /// The value of `key`; of a key written twice the last one, as the API server reads it.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().rev().find(|(own, _)| own.0 == key).map(|(_, value)| &*value.0)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (&*key.0, &*value.0))
    }
}

/// Why there is no [`Review`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReviewError {
    /// Nothing to echo: the answer can only be an HTTP error.
    #[error("expected an admission.k8s.io/v1 AdmissionReview with a request.uid: {0}")]
    NoUid(Fault),
    /// The body is no review of a pod that the API server would store, but it can be answered: allowed, untouched.
    #[error("AdmissionReview {uid:?}: {fault}")]
    Unreadable {
        /// To be echoed.
        uid: String,
        /// What is wrong.
        fault: Fault,
    },
}

/// What is wrong with a body. Holds no part of it, so that it can be logged and sent whatever the body was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Not JSON.
    #[error("malformed JSON at line {line} column {column}")]
    Syntax {
        /// From 1.
        line: usize,
        /// From 1; in bytes.
        column: usize,
    },
    /// The JSON ends too early.
    #[error("the body ends before the JSON does")]
    Truncated,
    /// A field has another type than it should, or is there twice.
    #[error("a field of the wrong type, or a duplicate one, before line {line} column {column}")]
    Shape {
        /// From 1.
        line: usize,
        /// From 1; in bytes.
        column: usize,
    },
    /// A part that every request has.
    #[error("{0} is missing or empty")]
    Missing(&'static str),
    /// An id that is none of Kubernetes'.
    #[error("{0} is longer than {MOST_ID_BYTES} bytes")]
    TooLong(&'static str),
    /// More node affinity than is worked through.
    #[error("the node affinity has more than {MOST_REQUIREMENTS} requirements and values")]
    TooManyRequirements,
    /// A node affinity requirement that no node can be held against.
    #[error("a node affinity requirement has an unknown operator or a value that is no integer")]
    Requirement,
}

impl From<&serde_json::Error> for Fault {
    fn from(error: &serde_json::Error) -> Self {
        let (line, column) = (error.line(), error.column());
        match error.classify() {
            serde_json::error::Category::Eof => Self::Truncated,
            serde_json::error::Category::Data => Self::Shape { line, column },
            serde_json::error::Category::Syntax | serde_json::error::Category::Io => Self::Syntax { line, column },
        }
    }
}

/// Reads the body of a request.
pub fn parse(body: &[u8]) -> Result<Review<'_>, ReviewError> {
    match serde_json::from_slice::<RawReview<'_>>(body) {
        Ok(RawReview { request }) => request.ok_or(ReviewError::NoUid(Fault::Missing("request")))?.into_review(),
        Err(error) => {
            let fault = Fault::from(&error);
            Err(match uid_of(body) {
                Some(uid) => ReviewError::Unreadable { uid: uid.into_owned(), fault },
                None => ReviewError::NoUid(fault),
            })
        }
    }
}

/// Writes the body of an answer: allowed, with `patch` (a JSON Patch) and `warnings` if there are any.
pub fn respond(uid: &str, patch: Option<&[u8]>, warnings: &[&str]) -> Vec<u8> {
    let answer = Answer {
        api_version: "admission.k8s.io/v1",
        kind: "AdmissionReview",
        response: Response {
            uid,
            allowed: true,
            patch_type: patch.map(|_| "JSONPatch"),
            patch: patch.map(|patch| STANDARD.encode(patch)),
            warnings,
        },
    };
    serde_json::to_vec(&answer).expect("texts and a constant are always JSON")
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    api_version: &'static str,
    kind: &'static str,
    response: Response<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Response<'a> {
    uid: &'a str,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<String>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    warnings: &'a [&'a str],
}

/// A text that is borrowed wherever it has no escapes. (A `Cow` inside an `Option` or a collection would be copied.)
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Text<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;

        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }

        deserializer.deserialize_str(TextVisitor)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Entries<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntriesVisitor;

        impl<'de> Visitor<'de> for EntriesVisitor {
            type Value = Entries<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries<'de>, A::Error> {
                let mut entries = Vec::new();
                while let Some((key, value)) = map.next_entry::<Text<'de>, Option<Text<'de>>>()? {
                    entries.push((key, value.unwrap_or_default()));
                }
                Ok(Entries(entries))
            }
        }

        deserializer.deserialize_map(EntriesVisitor)
    }
}

#[derive(Deserialize)]
struct RawReview<'a> {
    #[serde(borrow)]
    request: Option<RawRequest<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawRequest<'a> {
    #[serde(borrow)]
    uid: Option<Text<'a>>,
    #[serde(borrow)]
    kind: Option<RawKind<'a>>,
    #[serde(borrow)]
    sub_resource: Option<Text<'a>>,
    #[serde(borrow)]
    namespace: Option<Text<'a>>,
    #[serde(borrow)]
    operation: Option<Text<'a>>,
    dry_run: Option<bool>,
    #[serde(borrow)]
    object: Option<RawPod<'a>>,
}

#[derive(Default, Deserialize)]
struct RawKind<'a> {
    #[serde(borrow)]
    group: Option<Text<'a>>,
    #[serde(borrow)]
    version: Option<Text<'a>>,
    #[serde(borrow)]
    kind: Option<Text<'a>>,
}

#[derive(Default, Deserialize)]
struct RawPod<'a> {
    #[serde(borrow)]
    metadata: Option<RawMetadata<'a>>,
    #[serde(borrow)]
    spec: Option<RawSpec<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawMetadata<'a> {
    #[serde(borrow)]
    name: Option<Text<'a>>,
    #[serde(borrow)]
    generate_name: Option<Text<'a>>,
    #[serde(borrow)]
    namespace: Option<Text<'a>>,
    #[serde(borrow)]
    labels: Option<Entries<'a>>,
    #[serde(borrow)]
    annotations: Option<Entries<'a>>,
    #[serde(borrow)]
    owner_references: Option<Vec<Option<RawOwner<'a>>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawOwner<'a> {
    #[serde(borrow)]
    api_version: Option<Text<'a>>,
    #[serde(borrow)]
    kind: Option<Text<'a>>,
    #[serde(borrow)]
    name: Option<Text<'a>>,
    #[serde(borrow)]
    uid: Option<Text<'a>>,
    controller: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawSpec<'a> {
    #[serde(borrow)]
    node_name: Option<Text<'a>>,
    #[serde(borrow)]
    node_selector: Option<Entries<'a>>,
    #[serde(borrow)]
    affinity: Option<RawAffinity<'a>>,
    #[serde(borrow)]
    tolerations: Option<Vec<Option<RawToleration<'a>>>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawAffinity<'a> {
    #[serde(borrow)]
    node_affinity: Option<RawNodeAffinity<'a>>,
}

#[derive(Default, Deserialize)]
struct RawNodeAffinity<'a> {
    #[serde(borrow, rename = "requiredDuringSchedulingIgnoredDuringExecution")]
    required: Option<RawNodeSelector<'a>>,
    #[serde(borrow, rename = "preferredDuringSchedulingIgnoredDuringExecution")]
    preferred: Option<Vec<Option<RawPreferred<'a>>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawNodeSelector<'a> {
    #[serde(borrow)]
    node_selector_terms: Option<Vec<Option<RawTerm<'a>>>>,
}

#[derive(Default, Deserialize)]
struct RawPreferred<'a> {
    weight: Option<i32>,
    #[serde(borrow)]
    preference: Option<RawTerm<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawTerm<'a> {
    #[serde(borrow)]
    match_expressions: Option<Vec<Option<RawRequirement<'a>>>>,
    match_fields: Option<Vec<IgnoredAny>>,
}

#[derive(Default, Deserialize)]
struct RawRequirement<'a> {
    #[serde(borrow)]
    key: Option<Text<'a>>,
    #[serde(borrow)]
    operator: Option<Text<'a>>,
    #[serde(borrow)]
    values: Option<Vec<Option<Text<'a>>>>,
}

#[derive(Default, Deserialize)]
struct RawToleration<'a> {
    #[serde(borrow)]
    key: Option<Text<'a>>,
    #[serde(borrow)]
    operator: Option<Text<'a>>,
    #[serde(borrow)]
    value: Option<Text<'a>>,
    #[serde(borrow)]
    effect: Option<Text<'a>>,
}

/// An absent text and an empty one are the same to the API server.
fn or_empty(text: Option<Text<'_>>) -> Cow<'_, str> {
    text.unwrap_or_default().0
}

fn unless_empty(text: Option<Text<'_>>) -> Option<Cow<'_, str>> {
    text.map(|Text(text)| text).filter(|text| !text.is_empty())
}

impl<'a> RawRequest<'a> {
    fn into_review(self) -> Result<Review<'a>, ReviewError> {
        let Self { uid, kind, sub_resource, namespace, operation, dry_run, object } = self;
        let uid = unless_empty(uid).ok_or(ReviewError::NoUid(Fault::Missing("request.uid")))?;
        if uid.len() > MOST_ID_BYTES {
            return Err(ReviewError::NoUid(Fault::TooLong("request.uid")));
        }
        let RawKind { group, version, kind } = kind.unwrap_or_default();
        let creates_pod = or_empty(group).is_empty()
            && or_empty(version) == "v1"
            && or_empty(kind) == "Pod"
            && or_empty(operation) == "CREATE"
            && or_empty(sub_resource).is_empty();
        let pod = if creates_pod { Some(object.unwrap_or_default().into_pod(namespace)) } else { None };
        match pod.transpose() {
            Ok(pod) => Ok(Review { uid, dry_run: dry_run.unwrap_or_default(), pod }),
            Err(fault) => Err(ReviewError::Unreadable { uid: uid.into_owned(), fault }),
        }
    }
}

impl<'a> RawPod<'a> {
    fn into_pod(self, namespace: Option<Text<'a>>) -> Result<Pod<'a>, Fault> {
        let metadata = self.metadata.ok_or(Fault::Missing("request.object.metadata"))?;
        let spec = self.spec.ok_or(Fault::Missing("request.object.spec"))?;
        let RawMetadata { name, generate_name, namespace: own_namespace, labels, annotations, owner_references } =
            metadata;
        let RawSpec { node_name, node_selector, affinity, tolerations } = spec;
        let has_affinity = affinity.is_some();
        let node_affinity = affinity.unwrap_or_default().node_affinity;
        let has_node_affinity = node_affinity.is_some();
        let RawNodeAffinity { required, preferred } = node_affinity.unwrap_or_default();
        let terms_of_both =
            required.iter().flat_map(|selector| selector.node_selector_terms.iter().flatten().flatten());
        let terms_of_both = terms_of_both
            .chain(preferred.iter().flatten().flatten().filter_map(|preferred| preferred.preference.as_ref()));
        if terms_of_both.map(RawTerm::size).sum::<usize>() > MOST_REQUIREMENTS {
            return Err(Fault::TooManyRequirements);
        }
        let required = required.map(|selector| terms(selector.node_selector_terms.unwrap_or_default())).transpose()?;
        let preferred = preferred.map(preferences).transpose()?;
        Ok(Pod {
            namespace: unless_empty(namespace).unwrap_or_else(|| or_empty(own_namespace)),
            name: or_empty(name),
            generate_name: or_empty(generate_name),
            labels,
            annotations,
            controller: controller(owner_references.unwrap_or_default())?,
            placement: PodPlacement {
                node_name: unless_empty(node_name),
                node_selector: node_selector.map(node_selector_of),
                required,
                preferred,
                tolerations: tolerations.map(|all| all.into_iter().map(toleration).collect()),
            },
            has_affinity,
            has_node_affinity,
        })
    }
}

fn controller(owners: Vec<Option<RawOwner<'_>>>) -> Result<Option<Owner<'_>>, Fault> {
    let Some(RawOwner { api_version, kind, name, uid, controller: _ }) =
        owners.into_iter().flatten().find(|owner| owner.controller == Some(true))
    else {
        return Ok(None);
    };
    let uid = or_empty(uid);
    if uid.len() > MOST_ID_BYTES {
        return Err(Fault::TooLong("the owner's uid"));
    }
    Ok(Some(Owner { api_version: or_empty(api_version), kind: or_empty(kind), name: or_empty(name), uid }))
}

impl RawTerm<'_> {
    /// One for itself, for each requirement and for each value.
    fn size(&self) -> usize {
        let requirements = self.match_expressions.iter().flatten();
        1 + requirements
            .map(|one| 1 + one.iter().flat_map(|one| &one.values).map(Vec::len).sum::<usize>())
            .sum::<usize>()
    }
}

fn node_selector_of(Entries(entries): Entries<'_>) -> NodeSelector<'_> {
    entries.into_iter().map(|(Text(key), Text(value))| (key, value)).collect()
}

fn terms(raw: Vec<Option<RawTerm<'_>>>) -> Result<Vec<NodeTerm>, Fault> {
    raw.into_iter().map(|term| node_term(term.unwrap_or_default())).collect()
}

fn preferences(raw: Vec<Option<RawPreferred<'_>>>) -> Result<Vec<PreferredTerm>, Fault> {
    let preference = |raw: Option<RawPreferred<'_>>| {
        let RawPreferred { weight, preference } = raw.unwrap_or_default();
        let term = node_term(preference.unwrap_or_default())?;
        Ok(PreferredTerm { weight: weight.unwrap_or_default(), term })
    };
    raw.into_iter().map(preference).collect()
}

fn node_term(RawTerm { match_expressions, match_fields }: RawTerm<'_>) -> Result<NodeTerm, Fault> {
    let expressions = |raw: Vec<Option<RawRequirement<'_>>>| {
        raw.into_iter().map(|raw| requirement(raw.unwrap_or_default())).collect::<Result<Vec<_>, Fault>>()
    };
    Ok(NodeTerm {
        expressions: match_expressions.map(expressions).transpose()?,
        has_fields: !match_fields.unwrap_or_default().is_empty(),
    })
}

/// The API server looks at operators only after admission, so an impossible one gets here; it will refuse the pod.
fn requirement(RawRequirement { key, operator, values }: RawRequirement<'_>) -> Result<Requirement, Fault> {
    let mut values = values.unwrap_or_default().into_iter().map(or_empty);
    let mut bound = || values.next().and_then(|value| value.parse::<i64>().ok()).ok_or(Fault::Requirement);
    let operator = match &*or_empty(operator) {
        "In" => Operator::In(values.map(Into::into).collect()),
        "NotIn" => Operator::NotIn(values.map(Into::into).collect()),
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        "Gt" => Operator::Gt(bound()?),
        "Lt" => Operator::Lt(bound()?),
        _ => return Err(Fault::Requirement),
    };
    Ok(Requirement { key: or_empty(key).into(), operator })
}

fn toleration(raw: Option<RawToleration<'_>>) -> PodToleration<'_> {
    let RawToleration { key, operator, value, effect } = raw.unwrap_or_default();
    PodToleration {
        key: unless_empty(key),
        operator: unless_empty(operator),
        value: unless_empty(value),
        effect: unless_empty(effect),
    }
}

/// The `request.uid` of a body that is otherwise unreadable: whatever came of it before the fault.
fn uid_of(body: &[u8]) -> Option<Cow<'_, str>> {
    let mut uid = None;
    let search = Search { path: &["request", "uid"], found: &mut uid };
    // Its error is the fault that is known already.
    let _ = search.deserialize(&mut serde_json::Deserializer::from_slice(body));
    uid.filter(|uid| !uid.is_empty())
}

/// Walks down `path` and keeps the text it finds there; skips everything else.
struct Search<'s, 'de> {
    path: &'static [&'static str],
    found: &'s mut Option<Cow<'de, str>>,
}

impl<'de> DeserializeSeed<'de> for Search<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.path.is_empty() {
            *self.found = Some(Text::deserialize(deserializer)?.0);
            Ok(())
        } else {
            deserializer.deserialize_map(self)
        }
    }
}

impl<'de> Visitor<'de> for Search<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Text(key)) = map.next_key()? {
            match self.path.split_first() {
                Some((name, path)) if key == *name => map.next_value_seed(Search { path, found: &mut *self.found })?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}
