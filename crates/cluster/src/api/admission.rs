//! Admission: what the API adds to an object because of other objects, then what webhooks make of it.
//!
//! Webhooks are called in process, with the bytes that would have gone over the wire. What is asked of which webhook, in
//! which order, and what its failure means is decided here; validation and quotas come after.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::body::{self, Expected};
use super::field::FieldError;
use super::meta::meta_text;
use super::options::Unknown;
use super::status::Status;
use super::{jsonpatch, plugins};
use crate::api::labels::Selector;
use crate::cluster::{Cluster, Handler, Predicate, State};
use crate::object::Object;
use crate::resource::Kind;
use crate::store::{Key, Store};

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Create,
    Update,
    Delete,
}

impl Operation {
    const fn name(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
        }
    }

    const fn options(self) -> &'static str {
        match self {
            Self::Create => "CreateOptions",
            Self::Update => "UpdateOptions",
            Self::Delete => "DeleteOptions",
        }
    }
}

/// What admission knows of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attributes<'a> {
    pub operation: Operation,
    pub kind: Kind,
    pub namespace: &'a str,
    /// Empty if it is going to be generated.
    pub name: &'a str,
    pub subresource: &'a str,
    pub dry_run: bool,
    pub old: Option<&'a Object>,
}

impl<'a> Attributes<'a> {
    /// What an object without a name is called in a refusal.
    pub(crate) fn called(&self, object: &'a Value) -> &'a str {
        if self.name.is_empty() { meta_text(object, "generateName") } else { self.name }
    }
}

/// One webhook of one configuration, with what is needed to call it.
struct Webhook {
    name: String,
    url: String,
    timeout: Duration,
    ignores_failure: bool,
    reinvocable: bool,
    labels: Selector,
    conditions: Vec<Predicate>,
    handler: Option<Handler>,
}

/// Why a call led to nothing.
enum Failure {
    /// The webhook could not be asked; its failure policy decides.
    Call(String),
    /// It was asked, and this is the end of the request.
    Refused(Status),
}

impl Cluster {
    /// Takes an object through admission.
    pub(crate) async fn admit(&self, attributes: &Attributes<'_>, mut object: Value) -> Result<Value, Status> {
        let webhooks = {
            let mut state = self.state();
            check_namespace(&state.store, attributes, &object)?;
            plugins::admit(&mut state, attributes, &mut object)?;
            webhooks(&state, attributes)
        };
        if webhooks.is_empty() {
            return Ok(object);
        }
        let mut reinvoked: Vec<usize> = Vec::new();
        let mut earlier: Vec<usize> = Vec::new();
        let mut changed = false;
        for (index, webhook) in webhooks.iter().enumerate() {
            if self.ask(webhook, attributes, &mut object).await? {
                changed = true;
                reinvoked.append(&mut earlier);
            }
            if webhook.reinvocable {
                earlier.push(index);
            }
        }
        if changed {
            plugins::admit(&mut self.state(), attributes, &mut object)?;
            reinvoked.sort_unstable();
            for index in reinvoked {
                self.ask(&webhooks[index], attributes, &mut object).await?;
            }
        }
        Ok(object)
    }

    /// Asks whether an object may be deleted.
    pub(crate) async fn admit_deletion(&self, key: &Key, dry_run: bool) -> Result<(), Status> {
        let Some(object) = self.read(|store| store.get(key).cloned()) else { return Ok(()) };
        let attributes = Attributes {
            operation: Operation::Delete,
            kind: key.kind,
            namespace: if key.kind == Kind::Namespace { &key.name } else { &key.namespace },
            name: &key.name,
            subresource: "",
            dry_run,
            old: Some(&object),
        };
        let webhooks = webhooks(&self.state(), &attributes);
        for webhook in &webhooks {
            let mut nothing = Value::Null;
            if self.ask(webhook, &attributes, &mut nothing).await? {
                let why = "webhook attempted to modify the object, which is not supported for this operation";
                return Err(Status::internal(format!("admission webhook {:?}: {why}", webhook.name)));
            }
        }
        Ok(())
    }

    /// Asks a webhook, if it is interested; whether it changed the object.
    async fn ask(&self, webhook: &Webhook, attributes: &Attributes<'_>, object: &mut Value) -> Result<bool, Status> {
        let old = attributes.old.map_or(&Value::Null, Object::json);
        let selected = |object: &Value| webhook.labels.matches_labels(&object["metadata"]["labels"]);
        if !(selected(object) || attributes.old.is_some() && selected(old)) {
            return Ok(false);
        }
        let request = review(attributes, object);
        if !webhook.conditions.iter().all(|condition| condition(&request)) {
            return Ok(false);
        }
        match self.call(webhook, request, attributes.kind, object).await {
            Ok(changed) => Ok(changed),
            Err(Failure::Refused(status)) => Err(status),
            Err(Failure::Call(_)) if webhook.ignores_failure => Ok(false),
            Err(Failure::Call(why)) => {
                Err(Status::internal(format!("failed calling webhook {:?}: {why}", webhook.name)))
            }
        }
    }

    async fn call(
        &self,
        webhook: &Webhook,
        mut request: Value,
        kind: Kind,
        object: &mut Value,
    ) -> Result<bool, Failure> {
        // A new one for every call, even for the same object.
        let uid = self.state().random.uid();
        request["uid"] = uid.as_str().into();
        let review = json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": request});
        let bytes = Bytes::from(review.to_string());
        let failed = |why: &str| {
            let seconds = webhook.timeout.as_secs();
            Failure::Call(format!("failed to call webhook: Post \"{}?timeout={seconds}s\": {why}", webhook.url))
        };
        let Some(handler) = &webhook.handler else { return Err(failed("connection refused")) };
        let answer = match timeout(webhook.timeout, handler(bytes)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(why)) => return Err(failed(&why)),
            Err(_) => return Err(failed("context deadline exceeded")),
        };
        let response = understood(&answer, &uid).map_err(Failure::Call)?;
        if response["allowed"] != true {
            return Err(Failure::Refused(denied(&webhook.name, &response["status"])));
        }
        patched(kind, object, &response)
    }
}

/// The namespace must be there, and must not be ending if something is to be created in it.
fn check_namespace(store: &Store, attributes: &Attributes<'_>, object: &Value) -> Result<(), Status> {
    if !attributes.kind.resource().namespaced {
        return Ok(());
    }
    let name = attributes.namespace;
    let namespace = store.get(&Key::new(Kind::Namespace, "", name));
    let namespace = namespace.ok_or_else(|| Status::not_found(Kind::Namespace, name))?;
    let ends = namespace.deletion().is_some() || namespace.text("/status/phase") == Some("Terminating");
    if attributes.operation != Operation::Create || !ends {
        return Ok(());
    }
    let why = format!("unable to create new content in namespace {name} because it is being terminated");
    let cause = json!({
        "reason": "NamespaceTerminating", "message": format!("namespace {name} is being terminated"),
        "field": "metadata.namespace",
    });
    Err(Status::forbidden(attributes.kind, attributes.called(object), &why).because(cause))
}

/// The webhooks that a request may concern, in the order in which they are asked.
fn webhooks(state: &State, attributes: &Attributes<'_>) -> Vec<Webhook> {
    if attributes.kind == Kind::MutatingWebhookConfiguration {
        return Vec::new();
    }
    let configurations = state.store.list(Kind::MutatingWebhookConfiguration, None);
    let all = configurations.flat_map(|configuration| configuration.list("/webhooks"));
    all.filter(|webhook| is_asked(&state.store, webhook, attributes)).map(|webhook| prepared(state, webhook)).collect()
}

fn prepared(state: &State, webhook: &Value) -> Webhook {
    let config = &webhook["clientConfig"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let url = if config["url"].is_string() {
        text(&config["url"])
    } else {
        let service = &config["service"];
        let path = text(&service["path"]);
        let port = service["port"].as_u64().unwrap_or(443);
        format!("https://{}.{}.svc:{port}{path}", text(&service["name"]), text(&service["namespace"]))
    };
    let expressions = webhook["matchConditions"].as_array().into_iter().flatten();
    Webhook {
        name: text(&webhook["name"]),
        handler: state.handlers.get(&url).cloned(),
        url,
        timeout: Duration::from_secs(webhook["timeoutSeconds"].as_u64().unwrap_or(10)),
        ignores_failure: webhook["failurePolicy"] == "Ignore",
        reinvocable: webhook["reinvocationPolicy"] == "IfNeeded",
        labels: Selector::of_object(&webhook["objectSelector"]).unwrap_or_else(Selector::nothing),
        conditions: expressions
            .filter_map(|condition| state.predicates.get(condition["expression"].as_str()?).cloned())
            .collect(),
    }
}

/// Whether rules and namespace speak for a webhook.
fn is_asked(store: &Store, webhook: &Value, attributes: &Attributes<'_>) -> bool {
    let rules = webhook["rules"].as_array().map_or(&[][..], Vec::as_slice);
    rules.iter().any(|rule| rule_matches(rule, attributes)) && namespace_matches(store, webhook, attributes)
}

fn rule_matches(rule: &Value, attributes: &Attributes<'_>) -> bool {
    let row = attributes.kind.resource();
    let any = |field: &str, is: &dyn Fn(&str) -> bool| {
        rule[field].as_array().into_iter().flatten().filter_map(Value::as_str).any(|value| value == "*" || is(value))
    };
    let resource = |named: &str| {
        let (plural, sub) = named.split_once('/').unwrap_or((named, ""));
        (plural == "*" || plural == row.plural) && (sub == "*" || sub == attributes.subresource)
    };
    let all_resources = rule["resources"].as_array().into_iter().flatten().filter_map(Value::as_str).any(resource);
    let scope = match rule["scope"].as_str() {
        Some("Cluster") => !row.namespaced,
        Some("Namespaced") => row.namespaced,
        _ => true,
    };
    scope
        && any("operations", &|operation| operation == attributes.operation.name())
        && any("apiGroups", &|group| group == row.group)
        && any("apiVersions", &|version| version == row.version)
        && all_resources
}

fn namespace_matches(store: &Store, webhook: &Value, attributes: &Attributes<'_>) -> bool {
    let selector = Selector::of_object(&webhook["namespaceSelector"]).unwrap_or_else(Selector::nothing);
    if selector.is_everything() || (!attributes.kind.resource().namespaced && attributes.kind != Kind::Namespace) {
        return true;
    }
    let namespace = store.get(&Key::new(Kind::Namespace, "", attributes.namespace));
    namespace.is_some_and(|namespace| selector.matches(namespace))
}

/// The request of an AdmissionReview, without its uid.
fn review(attributes: &Attributes<'_>, object: &Value) -> Value {
    let row = attributes.kind.resource();
    let kind = json!({"group": row.group, "version": row.version, "kind": row.name});
    let resource = json!({"group": row.group, "version": row.version, "resource": row.plural});
    let mut request = json!({
        "uid": "",
        "kind": kind, "resource": resource, "requestKind": kind, "requestResource": resource,
        "operation": attributes.operation.name(),
        "userInfo": {"username": "kubernetes-admin", "groups": ["system:masters", "system:authenticated"]},
        "object": object,
        "oldObject": attributes.old.map_or(Value::Null, |old| old.json().clone()),
        "dryRun": attributes.dry_run,
        "options": {"kind": attributes.operation.options(), "apiVersion": "meta.k8s.io/v1"},
    });
    let texts = [
        ("name", attributes.name),
        ("namespace", attributes.namespace),
        ("subResource", attributes.subresource),
        ("requestSubResource", attributes.subresource),
    ];
    for (field, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
        request[field] = text.into();
    }
    if attributes.dry_run {
        request["options"]["dryRun"] = json!(["All"]);
    }
    request
}

/// The response in an answer, if it is one to our request.
fn understood(answer: &[u8], uid: &str) -> Result<Value, String> {
    let mut review: Value =
        serde_json::from_slice(answer).map_err(|error| format!("failed to call webhook: {error}"))?;
    let said = |name: &str| review[name].as_str().unwrap_or_default();
    let (kind, version) = (said("kind"), said("apiVersion"));
    if (kind, version) != ("AdmissionReview", "admission.k8s.io/v1") {
        return Err(format!(
            "received invalid webhook response: expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, \
             got {version}, Kind={kind}"
        ));
    }
    let response = review["response"].take();
    if response.is_null() {
        return Err("received invalid webhook response: webhook response was absent".to_owned());
    }
    let echoed = response["uid"].as_str().unwrap_or_default();
    if echoed != uid {
        return Err(format!("received invalid webhook response: expected response.uid={uid:?}, got {echoed:?}"));
    }
    let (has_patch, type_) = (response["patch"].is_string(), response["patchType"].as_str().unwrap_or_default());
    if has_patch && type_ != "JSONPatch" {
        return Err(format!(
            "received invalid webhook response: invalid response.patchType, expected \"JSONPatch\", got {type_:?}"
        ));
    }
    if !has_patch && !type_.is_empty() {
        return Err("received invalid webhook response: response.patchType was specified, but response.patch was not"
            .to_owned());
    }
    Ok(response)
}

fn denied(webhook: &str, status: &Value) -> Status {
    let text = |name: &str| status[name].as_str().unwrap_or_default();
    let by = format!("admission webhook {webhook:?} denied the request");
    let message = match (text("message"), text("reason")) {
        ("", "") => format!("{by} without explanation"),
        ("", reason) => format!("{by}: {reason}"),
        (message, _) => format!("{by}: {message}"),
    };
    let code =
        status["code"].as_u64().and_then(|code| u16::try_from(code).ok()).filter(|code| *code >= 400).unwrap_or(400);
    let reason = match text("reason") {
        "Forbidden" => "Forbidden",
        "Invalid" => "Invalid",
        "BadRequest" => "BadRequest",
        "NotFound" => "NotFound",
        "Conflict" => "Conflict",
        "TooManyRequests" => "TooManyRequests",
        "InternalError" => "InternalError",
        _ => "",
    };
    Status::with_reason(code, reason, message, status["details"].clone())
}

/// Applies the patch of a response; whether it changed anything.
fn patched(kind: Kind, object: &mut Value, response: &Value) -> Result<bool, Failure> {
    let internal = |why: String| Failure::Refused(Status::internal(why));
    let Some(patch) = response["patch"].as_str() else { return Ok(false) };
    let patch = STANDARD.decode(patch).map_err(|error| internal(error.to_string()))?;
    let patch: Value = serde_json::from_slice(&patch).map_err(|error| internal(error.to_string()))?;
    if patch.as_array().is_some_and(Vec::is_empty) {
        return Ok(false);
    }
    if object.is_null() {
        return Ok(true);
    }
    let mut new = object.clone();
    jsonpatch::apply(&mut new, &patch).map_err(internal)?;
    let new =
        body::typed(new, &Expected::object(kind), Unknown::Ignored).map_err(|status| internal(status.message))?.object;
    let changed = new != *object;
    *object = new;
    Ok(changed)
}

/// Refuses a configuration with match conditions that this cluster does not understand.
pub(crate) fn check_conditions(configuration: &Value, state: &State) -> Result<(), Status> {
    let mut errors = Vec::new();
    for (index, webhook) in configuration["webhooks"].as_array().into_iter().flatten().enumerate() {
        for (at, condition) in webhook["matchConditions"].as_array().into_iter().flatten().enumerate() {
            let expression = condition["expression"].as_str().unwrap_or_default();
            if !state.predicates.contains_key(expression) {
                let field = format!("webhooks[{index}].matchConditions[{at}].expression");
                let why =
                    "this cluster does not understand the expression: it evaluates no CEL, only what it was taught";
                errors.push(FieldError::invalid_text(field, expression, why));
            }
        }
    }
    let (kind, name) = (Kind::MutatingWebhookConfiguration, meta_text(configuration, "name"));
    if errors.is_empty() { Ok(()) } else { Err(Status::invalid(kind, name, &errors)) }
}
