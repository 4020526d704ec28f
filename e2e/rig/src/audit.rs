//! Reads the API server's own record of who asked for what, for tests that count requests.

use std::fmt;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

/// How much of each request the API server records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditLevel {
    /// Who, what and with which result.
    Metadata,
    /// The request's body as well.
    Request,
    /// Both bodies.
    RequestResponse,
}

impl fmt::Display for AuditLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Metadata => "Metadata",
            Self::Request => "Request",
            Self::RequestResponse => "RequestResponse",
        })
    }
}

/// A policy that records every request at this level. A request is recorded when it is answered; a watch when it begins.
pub(crate) fn policy(level: AuditLevel) -> Value {
    json!({
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [{"level": level.to_string()}],
    })
}

/// One answered request, or the begin or end of a watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// When the request came in.
    pub received: Timestamp,
    /// `ResponseComplete`; a watch also has `ResponseStarted` when it begins.
    pub stage: String,
    /// Who, as the API server authenticated them.
    pub user: String,
    /// What the client calls itself.
    pub user_agent: String,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, …
    pub verb: String,
    /// Path and query.
    pub uri: String,
    /// The plural name; empty for paths that are no resource.
    pub resource: String,
    /// `eviction`, `status`, `scale`, …; empty for the resource itself.
    pub subresource: String,
    /// Empty for cluster-scoped resources.
    pub namespace: String,
    /// Empty for lists, and for creations that leave the name to the server.
    pub name: String,
    /// The HTTP status; 0 when the connection ended without one.
    pub code: u16,
    /// Whether the right was missing. A 403 can have other causes, such as a quota or a namespace that is going away.
    pub forbidden: bool,
    /// The request's body, at the levels that record it.
    pub request: Option<Value>,
    /// The answer's body, at the level that records it.
    pub response: Option<Value>,
}

/// Entries in the order of the log. A last line that is still being written is left for the next time.
pub(crate) fn parse(log: &str) -> Result<Vec<AuditEntry>, serde_json::Error> {
    let complete = log.rfind('\n').map_or("", |end| &log[..end]);
    complete.lines().map(|line| serde_json::from_str::<Recorded>(line).map(AuditEntry::from)).collect()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Recorded {
    request_received_timestamp: Timestamp,
    stage: String,
    user: User,
    #[serde(default)]
    user_agent: String,
    verb: String,
    #[serde(rename = "requestURI")]
    request_uri: String,
    #[serde(default)]
    object_ref: ObjectRef,
    #[serde(default)]
    response_status: ResponseStatus,
    #[serde(default)]
    annotations: Annotations,
    request_object: Option<Value>,
    response_object: Option<Value>,
}

#[derive(Deserialize)]
struct User {
    #[serde(default)]
    username: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ObjectRef {
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ResponseStatus {
    code: u16,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Annotations {
    #[serde(rename = "authorization.k8s.io/decision")]
    decision: String,
}

impl From<Recorded> for AuditEntry {
    fn from(recorded: Recorded) -> Self {
        let ObjectRef { resource, subresource, namespace, name } = recorded.object_ref;
        Self {
            received: recorded.request_received_timestamp,
            stage: recorded.stage,
            user: recorded.user.username,
            user_agent: recorded.user_agent,
            verb: recorded.verb,
            uri: recorded.request_uri,
            resource,
            subresource,
            namespace,
            name,
            code: recorded.response_status.code,
            forbidden: recorded.annotations.decision == "forbid",
            request: recorded.request_object,
            response: recorded.response_object,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVICTION: &str = r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":"x",
        "stage":"ResponseComplete","requestURI":"/api/v1/namespaces/a/pods/p/eviction","verb":"create",
        "user":{"username":"system:admin","groups":["system:masters"]},"sourceIPs":["127.0.0.1"],"userAgent":"me/1",
        "objectRef":{"resource":"pods","namespace":"a","name":"p","apiVersion":"v1","subresource":"eviction"},
        "responseStatus":{"metadata":{},"code":429},"requestReceivedTimestamp":"2026-01-02T03:04:05.000006Z"}"#;

    #[test]
    fn takes_what_tests_ask_for() {
        let log = format!("{}\n", EVICTION.replace('\n', ""));
        let [entry] = parse(&log).unwrap().try_into().unwrap();
        assert_eq!((entry.user.as_str(), entry.user_agent.as_str()), ("system:admin", "me/1"));
        assert_eq!((entry.verb.as_str(), entry.resource.as_str()), ("create", "pods"));
        assert_eq!((entry.subresource.as_str(), entry.namespace.as_str()), ("eviction", "a"));
        assert_eq!((entry.name.as_str(), entry.code, entry.forbidden), ("p", 429, false));
        let refused = log.replace("\"code\":429", "\"code\":403");
        let decided = |decision: &str| {
            let annotated = format!(r#"}},"annotations":{{"authorization.k8s.io/decision":"{decision}"}},"requestR"#);
            parse(&refused.replace(r#"},"requestR"#, &annotated)).unwrap()[0].forbidden
        };
        assert!(decided("forbid") && !decided("allow"));
    }

    #[test]
    fn leaves_an_unfinished_line_alone() {
        let log = format!("{}\n{{\"stage\":\"Resp", EVICTION.replace('\n', ""));
        assert_eq!(parse(&log).unwrap().len(), 1);
        assert_eq!(parse("{\"stage\"").unwrap(), []);
    }

    #[test]
    fn a_path_without_resource_has_empty_names() {
        let line = r#"{"stage":"ResponseComplete","requestURI":"/readyz","verb":"get","user":{},
            "requestReceivedTimestamp":"2026-01-02T03:04:05Z"}"#;
        let [entry] = parse(&format!("{}\n", line.replace('\n', ""))).unwrap().try_into().unwrap();
        assert_eq!((entry.uri.as_str(), entry.resource.as_str(), entry.code), ("/readyz", "", 0));
    }
}
