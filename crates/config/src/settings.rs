//! Every key of the configuration: its place, its type, its default and what it is for.
//!
//! The sentences above the fields are the reference documentation and the schema's; the types say what is allowed.
//! Rules between keys are `effective`'s.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use schemars::JsonSchema;
use serde::de::{self, Deserializer};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};
use spotalis_core::class::{Preset, Toleration};
use spotalis_core::opt_in::Mode;
use spotalis_core::policy::{self, Placement};
use spotalis_core::selector::Selector;
use spotalis_core::split::{Floor, Percentage, Rounding};

use crate::bounds::{
    Address, Count, DAY, Day, FloorOrNothing, HOUR, LabelSelector, MINUTE, Namespace, Namespaces, OptionalSelector,
    OptionalWord, OrNever, Port, SECOND, SelectorText, Share, Span, Text, TolerationList, URL_ALLOWED, Url, Word,
};

/// The whole configuration as it holds after all layers.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Settings {
    /// Who has to opt in: namespace and workload (`both`), or one of them (`either`).
    #[serde(with = "Word::<Mode>")]
    pub opt_in: Mode,
    /// Compute, show and count everything, and change nothing.
    pub read_only_mode: bool,
    /// The controllers: pace, scope and leadership.
    pub controller: Controller,
    /// How replicas are split and steered.
    pub distribution: Distribution,
    /// When balance may disrupt, where neither workload nor namespace say so.
    pub disruption_window: DisruptionWindow,
    /// How spot and on-demand nodes are told apart.
    pub node_labels: NodeLabels,
    /// What pods steered to a type tolerate, besides what the preset brings.
    pub tolerations: Tolerations,
    /// The admission webhook.
    pub webhook: Webhook,
    /// A second replica for single-replica workloads on dying nodes.
    pub protect: Protect,
    /// Where news of interruptions comes from and what follows.
    pub interruption: Interruption,
    /// How dying nodes are emptied.
    pub drain: Drain,
    /// Replacement of spot capacity before it is lost.
    pub guard: Guard,
    /// Messages to people.
    pub notifications: Notifications,
    /// Prices for the estimate of savings.
    pub prices: Prices,
    /// The log.
    pub logging: Logging,
    /// The metrics endpoint.
    pub metrics: Metrics,
    /// The health endpoints.
    pub health: Health,
}

/// `controller`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Controller {
    /// How often every workload is looked at even if nothing is heard of it.
    #[serde(with = "Span::<{5 * SECOND}, DAY>")]
    pub resync_period: Duration,
    /// How many workloads are looked at at once.
    #[serde(with = "Count::<1, 1000>")]
    pub workers: u32,
    /// How long a workload rests after its pods last changed.
    #[serde(with = "Span::<0, HOUR>")]
    pub cooldown: Duration,
    /// How many pods moved by balance may be missing in the cluster at once.
    #[serde(with = "Count::<1, 100_000>")]
    pub max_concurrent_disruptions: u32,
    /// The only namespaces to look at; empty means all.
    #[serde(with = "Namespaces")]
    pub watch_namespaces: BTreeSet<Box<str>>,
    /// Only namespaces with these labels are managed.
    #[serde(with = "LabelSelector")]
    pub namespace_selector: Selector,
    /// How hard the API server may be pressed.
    pub api_client: ApiClient,
    /// Which of several replicas acts.
    pub leader_election: LeaderElection,
}

impl Default for Controller {
    fn default() -> Self {
        Self {
            resync_period: Duration::from_secs(30),
            workers: 5,
            cooldown: Duration::from_secs(10),
            max_concurrent_disruptions: 5,
            watch_namespaces: BTreeSet::new(),
            namespace_selector: Selector::default(),
            api_client: ApiClient::default(),
            leader_election: LeaderElection::default(),
        }
    }
}

/// `controller.apiClient`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ApiClient {
    /// Requests per second in the long run.
    #[serde(with = "Count::<1, 10_000>")]
    pub qps: u32,
    /// Requests at once.
    #[serde(with = "Count::<1, 10_000>")]
    pub burst: u32,
}

impl Default for ApiClient {
    fn default() -> Self {
        Self { qps: 50, burst: 100 }
    }
}

/// `controller.leaderElection`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct LeaderElection {
    /// Off only where there is never a second replica, not even during an update.
    pub enabled: bool,
    /// Where the Lease and the records live; Spotalis's own namespace, which is never managed.
    #[serde(with = "Namespace")]
    pub namespace: Box<str>,
    /// How long a silent leader is still taken for one. Longer than renewDeadline.
    #[serde(with = "Span::<SECOND, HOUR>")]
    pub lease_duration: Duration,
    /// How long a leader acts without having renewed. Longer than retryPeriod.
    #[serde(with = "Span::<SECOND, HOUR>")]
    pub renew_deadline: Duration,
    /// How often the Lease is renewed or asked for.
    #[serde(with = "Span::<{SECOND / 2}, HOUR>")]
    pub retry_period: Duration,
}

impl Default for LeaderElection {
    fn default() -> Self {
        Self {
            enabled: true,
            namespace: "spotalis-system".into(),
            lease_duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
        }
    }
}

/// `distribution`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Distribution {
    /// What becomes of the fraction when the spot share is no whole number.
    #[serde(with = "Word::<Rounding>")]
    pub rounding: Rounding,
    /// Whether pods must land on their type or merely should.
    #[serde(with = "Word::<Placement>")]
    pub placement: Placement,
    /// How long a pod waits for spot before on-demand takes it.
    #[serde(with = "OrNever")]
    pub spot_fallback_after: Option<Duration>,
    /// Whether an autoscaler makes nodes of a type that has none: look for one, or take it as given.
    pub provisioner: Provisioner,
    /// How a scale-down is led to the replicas that keep the split.
    pub scale_down_order: ScaleDownOrder,
    /// The policy of workloads that declare none, nor their namespace.
    pub defaults: Defaults,
}

impl Default for Distribution {
    fn default() -> Self {
        Self {
            rounding: Rounding::default(),
            placement: Placement::default(),
            spot_fallback_after: Some(policy::SPOT_FALLBACK_AFTER),
            provisioner: Provisioner::default(),
            scale_down_order: ScaleDownOrder::default(),
            defaults: Defaults::default(),
        }
    }
}

/// `distribution.defaults`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Defaults {
    /// The share of replicas wanted on spot.
    #[serde(with = "Share", skip_serializing_if = "Option::is_none")]
    pub spot_percentage: Option<Percentage>,
    /// The replicas that always stay on on-demand.
    #[serde(with = "FloorOrNothing", skip_serializing_if = "Option::is_none")]
    pub min_on_demand: Option<Floor>,
}

/// Whether nodes are made on demand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Provisioner {
    /// Look for Karpenter and cluster-autoscaler.
    #[default]
    Auto,
    /// They are there, whatever it looks like.
    Always,
    /// There are none: only nodes that exist count.
    Never,
}

/// How a scale-down is led.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ScaleDownOrder {
    /// By the annotation that the `ReplicaSet` controller looks at.
    #[default]
    PodDeletionCost,
    /// Not at all.
    None,
}

/// `disruptionWindow`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct DisruptionWindow {
    /// When it opens, in five cron fields; empty, together with duration, means always open.
    #[serde(with = "Text::<0, 1024>")]
    pub schedule: String,
    /// How long it stays open.
    #[serde(with = "Text::<0, 64>")]
    pub duration: String,
    /// Whose clock the schedule follows, as an IANA name.
    #[serde(with = "Text::<0, 1024>")]
    pub time_zone: String,
}

impl Default for DisruptionWindow {
    fn default() -> Self {
        Self { schedule: String::new(), duration: String::new(), time_zone: "UTC".to_owned() }
    }
}

/// `nodeLabels`: a preset, or both selectors.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct NodeLabels {
    /// The provisioner whose labels the nodes carry; karpenter where nothing is said.
    #[serde(with = "OptionalWord::<Preset>", skip_serializing_if = "Option::is_none")]
    pub preset: Option<Preset>,
    /// The nodes that are spot, instead of a preset.
    #[serde(with = "OptionalSelector", skip_serializing_if = "Option::is_none")]
    pub spot: Option<Selector>,
    /// The nodes that are on-demand, instead of a preset.
    #[serde(with = "OptionalSelector", skip_serializing_if = "Option::is_none")]
    pub on_demand: Option<Selector>,
}

/// `tolerations`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Tolerations {
    /// Added to pods steered to spot.
    #[serde(with = "TolerationList")]
    pub spot: Vec<Toleration>,
    /// Added to pods steered to on-demand.
    #[serde(with = "TolerationList")]
    pub on_demand: Vec<Toleration>,
}

/// `webhook`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Webhook {
    /// Without it nothing is steered, and drift is only reported.
    pub enabled: bool,
    /// The address it listens on.
    #[serde(with = "Address")]
    pub bind_address: IpAddr,
    /// The port the API server calls.
    #[serde(with = "Port")]
    pub port: u16,
    /// What happens to a pod's own entry for the same node label.
    pub on_conflict: ConflictRule,
    /// Where the serving certificate comes from.
    pub certificates: Certificates,
    /// The directory of `tls.crt` and `tls.key`.
    #[serde(with = "Text::<1, 4096>")]
    pub cert_dir: String,
    /// A PEM file with the authority of the API server's client certificate; without one, whoever reaches the port is
    /// answered.
    #[serde(with = "Text::<0, 4096>")]
    pub client_ca_file: String,
    /// The port on which the leader answers its followers.
    #[serde(with = "Port")]
    pub peer_port: u16,
}

/// Every address of this machine.
const ANY_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

impl Default for Webhook {
    fn default() -> Self {
        Self {
            enabled: true,
            bind_address: ANY_ADDRESS,
            port: 9443,
            on_conflict: ConflictRule::default(),
            certificates: Certificates::default(),
            cert_dir: "/tmp/k8s-webhook-server/serving-certs".to_owned(),
            client_ca_file: String::new(),
            peer_port: 9444,
        }
    }
}

/// Who wins over a pod's own node selector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ConflictRule {
    /// The pod's own entry stays.
    #[default]
    Respect,
    /// The entry is replaced.
    Override,
}

/// Where the serving certificate comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Certificates {
    /// From an authority of our own, kept in a Secret.
    SelfManaged,
    /// From cert-manager.
    CertManager,
    /// From files that somebody else keeps fresh.
    #[default]
    Files,
}

impl Certificates {
    /// Whether this release can do it. The one place to change when it can do more, and with it the default above.
    pub(crate) const fn is_available(self) -> bool {
        match self {
            Self::Files => true,
            Self::SelfManaged | Self::CertManager => false,
        }
    }
}

/// `protect`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Protect {
    /// Whether it acts at all.
    pub enabled: bool,
    /// The workloads it looks after, besides those that carry `spotalis.io/protect`.
    #[serde(with = "SelectorText")]
    pub selector: Selector,
    /// How `namespaces` is meant.
    pub namespace_mode: NamespaceMode,
    /// The namespaces let in or kept out.
    #[serde(with = "Namespaces")]
    pub namespaces: BTreeSet<Box<str>>,
    /// How long a signal must last before it counts.
    #[serde(with = "Span::<0, HOUR>")]
    pub scale_up_delay: Duration,
    /// How long the second replica stays after it became Ready.
    #[serde(with = "Span::<0, DAY>")]
    pub scale_down_delay: Duration,
    /// How long a surge lasts at most.
    #[serde(with = "Span::<MINUTE, {7 * DAY}>")]
    pub max_hold: Duration,
    /// How often all nodes are looked at even if nothing is heard of them.
    #[serde(with = "Span::<SECOND, DAY>")]
    pub check_interval: Duration,
    /// Whether the second replica stays for a while or replaces the first at once.
    pub hand_over: HandOver,
}

impl Default for Protect {
    fn default() -> Self {
        Self {
            enabled: true,
            selector: Selector::parse("spot-aware=enabled").expect("a constant selector is valid"),
            namespace_mode: NamespaceMode::default(),
            namespaces: BTreeSet::new(),
            scale_up_delay: Duration::ZERO,
            scale_down_delay: Duration::from_mins(5),
            max_hold: Duration::from_mins(30),
            check_interval: Duration::from_secs(30),
            hand_over: HandOver::default(),
        }
    }
}

/// How a list of namespaces is meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NamespaceMode {
    /// Not at all: every namespace.
    #[default]
    All,
    /// Only these.
    Whitelist,
    /// All but these.
    Blacklist,
}

/// What happens once the second replica is Ready.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum HandOver {
    /// Two replicas for a while.
    #[default]
    Hold,
    /// Back to one at once.
    Swap,
}

/// `interruption`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Interruption {
    /// Whether cordons and taints of others count as signals.
    pub node_signals: bool,
    /// What a rebalance recommendation leads to; auto drains where guard manages the node's group, else cordons.
    pub rebalance: Rebalance,
    /// The node agent.
    pub agent: Agent,
    /// The queue.
    pub sqs: Sqs,
}

impl Default for Interruption {
    fn default() -> Self {
        Self { node_signals: true, rebalance: Rebalance::default(), agent: Agent::default(), sqs: Sqs::default() }
    }
}

/// What a rebalance recommendation leads to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Rebalance {
    /// As capacity allows.
    #[default]
    Auto,
    /// Nothing.
    Ignore,
    /// No new pods.
    Cordon,
    /// No pods.
    Drain,
}

/// `interruption.agent`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Agent {
    /// Whose metadata service is asked.
    pub provider: AgentProvider,
    /// How often.
    #[serde(with = "Span::<{SECOND / 2}, MINUTE>")]
    pub poll_interval: Duration,
    /// The port of its own metrics and health, on the node's network.
    #[serde(with = "Port")]
    pub port: u16,
}

impl Default for Agent {
    fn default() -> Self {
        Self { provider: AgentProvider::default(), poll_interval: Duration::from_secs(2), port: 8082 }
    }
}

/// Whose metadata service is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AgentProvider {
    /// The one that answers.
    #[default]
    Auto,
    /// Amazon's.
    Aws,
    /// Google's.
    Gcp,
    /// Microsoft's.
    Azure,
}

/// `interruption.sqs`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Sqs {
    /// The queue of interruption messages, as an address; empty means none.
    #[serde(with = "Url")]
    pub queue_url: String,
}

/// `drain`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Drain {
    /// What happens to a pod that a disruption budget still holds shortly before the deadline.
    pub at_deadline: AtDeadline,
    /// How long a held pod waits for its next try.
    #[serde(with = "Span::<SECOND, {5 * MINUTE}>")]
    pub retry_interval: Duration,
    /// Whether nodes of Karpenter are drained; auto does when Karpenter has not begun within ten seconds.
    pub karpenter_nodes: KarpenterNodes,
    /// Whether load balancers are told to leave the node out.
    pub exclude_from_load_balancers: bool,
    /// Whether a node whose instance is gone gets the out-of-service taint.
    pub out_of_service_taint: bool,
}

impl Default for Drain {
    fn default() -> Self {
        Self {
            at_deadline: AtDeadline::default(),
            retry_interval: Duration::from_secs(5),
            karpenter_nodes: KarpenterNodes::default(),
            exclude_from_load_balancers: false,
            out_of_service_taint: false,
        }
    }
}

/// What happens to pods that cannot be evicted in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AtDeadline {
    /// They are deleted, with what is left of their grace.
    #[default]
    Delete,
    /// They are left to the cloud.
    Leave,
}

/// Whether nodes of Karpenter are drained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum KarpenterNodes {
    /// When Karpenter does not.
    #[default]
    Auto,
    /// Never.
    Never,
    /// Always.
    Always,
}

/// `guard`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Guard {
    /// Whether it acts at all.
    pub enabled: bool,
    /// The pairs of node groups it looks after.
    #[schemars(extend("x-allowed" = "a list of {name, spot, onDemand}"))]
    pub groups: Vec<Group>,
    /// How often a running request is looked at.
    #[serde(with = "Span::<SECOND, {10 * MINUTE}>")]
    pub poll_interval: Duration,
    /// How long spot has to come into service.
    #[serde(with = "Span::<SECOND, HOUR>")]
    pub spot_timeout: Duration,
    /// How long its node then has to become Ready.
    #[serde(with = "Span::<SECOND, HOUR>")]
    pub node_ready_timeout: Duration,
    /// How long on-demand has to come into service.
    #[serde(with = "Span::<SECOND, HOUR>")]
    pub on_demand_timeout: Duration,
    /// How old a fallback node must be to be given back.
    #[serde(with = "Span::<0, DAY>")]
    pub min_age: Duration,
    /// How long spot must have been healthy before one is given back.
    #[serde(with = "Span::<0, DAY>")]
    pub stable_for: Duration,
    /// How often that is looked at.
    #[serde(with = "Span::<SECOND, HOUR>")]
    pub check_interval: Duration,
    /// How long a failed way down rests.
    #[serde(with = "Span::<SECOND, DAY>")]
    pub retry_after: Duration,
    /// How long a finished record is kept.
    #[serde(with = "Span::<MINUTE, {7 * DAY}>")]
    pub record_ttl: Duration,
    /// How long cluster-autoscaler is kept off fresh spot nodes.
    #[serde(with = "Span::<0, HOUR>")]
    pub shield_for: Duration,
    /// How full the cluster may be after a node is given back.
    pub utilization: Utilization,
}

impl Default for Guard {
    fn default() -> Self {
        Self {
            enabled: false,
            groups: Vec::new(),
            poll_interval: Duration::from_secs(10),
            spot_timeout: Duration::from_mins(2),
            node_ready_timeout: Duration::from_mins(3),
            on_demand_timeout: Duration::from_mins(5),
            min_age: Duration::from_mins(2),
            stable_for: Duration::from_mins(2),
            check_interval: Duration::from_secs(30),
            retry_after: Duration::from_mins(5),
            record_ttl: Duration::from_mins(10),
            shield_for: Duration::from_mins(7),
            utilization: Utilization::default(),
        }
    }
}

/// A pair of node groups.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Group {
    /// What it is called in Events and metrics; no two have the same.
    #[serde(with = "Text::<1, 63>")]
    pub name: String,
    /// The group of spot nodes.
    #[serde(with = "Text::<1, 512>")]
    pub spot: String,
    /// The group of on-demand nodes.
    #[serde(with = "Text::<1, 512>")]
    pub on_demand: String,
}

/// `guard.utilization`, each in percent of allocatable. No value is above the next.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Utilization {
    /// What spot is scaled up to reach before a node goes.
    #[serde(with = "Count::<1, 100>")]
    pub prescale: u32,
    /// What needs no further care.
    #[serde(with = "Count::<1, 100>")]
    pub max: u32,
    /// What is never exceeded.
    #[serde(with = "Count::<1, 100>")]
    pub hard: u32,
}

impl Default for Utilization {
    fn default() -> Self {
        Self { prescale: 65, max: 75, hard: 95 }
    }
}

/// `notifications`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Notifications {
    /// Where interruptions are told, in a form that Slack takes; empty means nowhere. Counts as a secret.
    pub webhook_url: SecretUrl,
    /// The text, instead of the built-in one.
    #[serde(with = "Text::<0, 16_384>")]
    pub template: String,
}

/// An address that lets whoever knows it write: never shown.
#[derive(Clone, Default, PartialEq, JsonSchema)]
#[schemars(transparent)]
pub struct SecretUrl(#[schemars(with = "Url")] String);

impl SecretUrl {
    /// The address itself, for the one place that calls it; empty means none.
    pub fn expose(&self) -> &str {
        &self.0
    }

    const fn mask(&self) -> &'static str {
        if self.0.is_empty() { "" } else { "(not shown)" }
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.mask())
    }
}

impl Serialize for SecretUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.mask())
    }
}

impl<'de> Deserialize<'de> for SecretUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match Url::read(&text) {
            Some(url) => Ok(Self(url.to_owned())),
            // The wrong text may be a secret that only lacks its scheme.
            None => {
                Err(de::Error::custom(format_args!("the value (not shown) is not allowed; allowed is {URL_ALLOWED}")))
            }
        }
    }
}

/// `prices`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Prices {
    /// The price list; empty means no estimate.
    #[serde(with = "Text::<0, 4096>")]
    pub file: String,
    /// The day the prices were true.
    #[serde(with = "Day")]
    pub date: String,
}

/// `logging`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Logging {
    /// The least important line that is written.
    pub level: LogLevel,
    /// For machines or for people.
    pub format: LogFormat,
}

/// The least important line that is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LogLevel {
    /// What failed.
    Error,
    /// What somebody should look at.
    Warn,
    /// What was done.
    #[default]
    Info,
    /// Why.
    Debug,
    /// Everything.
    Trace,
}

/// How lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// One object per line.
    #[default]
    Json,
    /// For a person's eyes.
    Console,
}

/// `metrics`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Metrics {
    /// Whether there is an endpoint.
    pub enabled: bool,
    /// The address it listens on.
    #[serde(with = "Address")]
    pub bind_address: IpAddr,
    /// Its port.
    #[serde(with = "Port")]
    pub port: u16,
    /// Whether there are series for each workload.
    pub per_workload: bool,
}

impl Default for Metrics {
    fn default() -> Self {
        Self { enabled: true, bind_address: ANY_ADDRESS, port: 8080, per_workload: true }
    }
}

/// `health`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Health {
    /// The address it listens on.
    #[serde(with = "Address")]
    pub bind_address: IpAddr,
    /// Its port.
    #[serde(with = "Port")]
    pub port: u16,
}

impl Default for Health {
    fn default() -> Self {
        Self { bind_address: ANY_ADDRESS, port: 8081 }
    }
}
