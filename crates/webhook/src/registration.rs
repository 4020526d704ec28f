//! What the API server is told about the webhook: when to call it, and what to do when it does not answer.
//!
//! The one place that says so; the reference page and the tests take it from here.

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    MatchCondition, MutatingWebhook, MutatingWebhookConfiguration, RuleWithOperations, WebhookClientConfig,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement, ObjectMeta};
use spotalis_core::opt_in::{Mode, OptInRules, SYSTEM_NAMESPACES};
use spotalis_core::policy::keys;

/// The path of the webhook.
pub const PATH: &str = "/mutate";
/// How long the API server waits, in seconds. We answer in 0.2 s or not at all.
const TIMEOUT_SECONDS: i32 = 2;

/// Pods of a controller that keeps several alike. The API server calls us for nothing else.
pub const OWNED: &str = "has(object.metadata.ownerReferences) && object.metadata.ownerReferences.exists(r, \
                     has(r.controller) && r.controller && !(r.kind in ['DaemonSet','Job','Node']))";
/// A pod that is bound already cannot be steered.
pub const UNBOUND: &str = "!has(object.spec.nodeName) || object.spec.nodeName == ''";

/// The registration. `client` says where the webhook listens and which CA signed its certificate.
pub fn registration(name: &str, client: Client, rules: &OptInRules) -> MutatingWebhookConfiguration {
    let webhook = MutatingWebhook {
        name: "pods.spotalis.io".to_owned(),
        admission_review_versions: vec!["v1".to_owned()],
        client_config: client.into_config(),
        failure_policy: Some("Ignore".to_owned()),
        match_policy: Some("Equivalent".to_owned()),
        reinvocation_policy: Some("IfNeeded".to_owned()),
        side_effects: "NoneOnDryRun".to_owned(),
        timeout_seconds: Some(TIMEOUT_SECONDS),
        namespace_selector: Some(namespaces(rules)),
        match_conditions: Some(vec![
            condition("owned-by-a-replicating-controller", OWNED),
            condition("not-bound", UNBOUND),
        ]),
        rules: Some(vec![RuleWithOperations {
            api_groups: Some(vec![String::new()]),
            api_versions: Some(vec!["v1".to_owned()]),
            operations: Some(vec!["CREATE".to_owned()]),
            resources: Some(vec!["pods".to_owned()]),
            scope: Some("Namespaced".to_owned()),
        }]),
        ..MutatingWebhook::default()
    };
    MutatingWebhookConfiguration {
        metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
        webhooks: Some(vec![webhook]),
    }
}

/// Where the webhook listens, and the CA that signed its certificate, as PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Client {
    /// Behind a Service, on its port 443.
    Service {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// The CA.
        ca: String,
    },
    /// At an address that the API server reaches by itself.
    Url {
        /// `https://HOST:PORT`, without a path.
        base: String,
        /// The CA.
        ca: String,
    },
}

impl Client {
    fn into_config(self) -> WebhookClientConfig {
        use k8s_openapi::api::admissionregistration::v1::ServiceReference;
        match self {
            Self::Service { namespace, name, ca } => WebhookClientConfig {
                ca_bundle: Some(ByteString(ca.into_bytes())),
                service: Some(ServiceReference { namespace, name, path: Some(PATH.to_owned()), port: None }),
                url: None,
            },
            Self::Url { base, ca } => WebhookClientConfig {
                ca_bundle: Some(ByteString(ca.into_bytes())),
                service: None,
                url: Some(format!("{base}{PATH}")),
            },
        }
    }
}

fn condition(name: &str, expression: &str) -> MatchCondition {
    MatchCondition { name: name.to_owned(), expression: expression.to_owned() }
}

/// Namespaces that may be managed: never the system's or our own, and with `optIn: both` only labelled ones.
fn namespaces(rules: &OptInRules) -> LabelSelector {
    let never = SYSTEM_NAMESPACES.iter().map(|name| (*name).to_owned()).chain([rules.own_namespace.to_string()]);
    let excluded = LabelSelectorRequirement {
        key: "kubernetes.io/metadata.name".to_owned(),
        operator: "NotIn".to_owned(),
        values: Some(never.collect()),
    };
    let match_labels = match rules.mode {
        Mode::Both => Some([(keys::ENABLED.to_owned(), "true".to_owned())].into()),
        Mode::Either => None,
    };
    LabelSelector { match_expressions: Some(vec![excluded]), match_labels }
}
