//! What balance counts. Labels are closed sets, except for the workloads themselves, which are capped and can be left out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use spotalis_core::capacity::CapacityType;
use spotalis_core::reason::Reason;
use spotalis_core::rebalance::{Decision, Realized};
use spotalis_core::split::Split;
use spotalis_kube::index::WorkloadKey;
use spotalis_runtime::metrics::{Kind, MetricDoc};

/// No more workloads than this have series of their own.
const MOST_WORKLOADS: usize = 5_000;

const DESIRED: MetricDoc = MetricDoc {
    name: "replicas_desired",
    kind: Kind::Gauge,
    labels: &["namespace", "workload", "kind", "type"],
    help: "Replicas of a managed workload that its policy wants on a capacity type",
};
const REALIZED: MetricDoc = MetricDoc {
    name: "replicas_realized",
    kind: Kind::Gauge,
    labels: &["namespace", "workload", "kind", "type"],
    help: "Active pods of a managed workload by the capacity type of their node",
};
const RECONCILES: MetricDoc = MetricDoc {
    name: "reconcile_total",
    kind: Kind::Counter,
    labels: &["controller", "result"],
    help: "Passes over a workload, by the reason they ended with or what the API server answered",
};
const ERRORS: MetricDoc = MetricDoc {
    name: "reconcile_errors_total",
    kind: Kind::Counter,
    labels: &["controller", "reason"],
    help: "Passes whose write failed, by what the API server answered",
};
const DURATION: MetricDoc = MetricDoc {
    name: "reconcile_duration_seconds",
    kind: Kind::Histogram,
    labels: &["controller"],
    help: "Time of one pass, writes included",
};
const PARSE_FAILURES: MetricDoc = MetricDoc {
    name: "annotation_parse_failures_total",
    kind: Kind::Counter,
    labels: &["key"],
    help: "Annotations and labels of ours that cannot be used, counted when they appear",
};
const EVICTIONS: MetricDoc = MetricDoc {
    name: "evictions_total",
    kind: Kind::Counter,
    labels: &["reason", "result"],
    help: "Evictions sent, by why and by the answer",
};
const BLOCKED: MetricDoc = MetricDoc {
    name: "evictions_blocked",
    kind: Kind::Gauge,
    labels: &["namespace", "workload"],
    help: "1 while a PodDisruptionBudget holds back a move of the workload",
};
const NODE_HOURS: MetricDoc = MetricDoc {
    name: "node_hours_total",
    kind: Kind::Counter,
    labels: &["type"],
    help: "Hours that nodes ran, by their type, as far as this replica led",
};

/// The reference table of this crate's metrics.
pub const METRICS: &[MetricDoc] =
    &[DESIRED, REALIZED, RECONCILES, ERRORS, DURATION, PARSE_FAILURES, EVICTIONS, BLOCKED, NODE_HOURS];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Replicas {
    namespace: String,
    workload: String,
    kind: &'static str,
    r#type: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Workload {
    namespace: String,
    workload: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Result {
    controller: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Failure {
    controller: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Controller {
    controller: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Key {
    key: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Eviction {
    reason: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Type {
    r#type: &'static str,
}

const BALANCE: &str = "balance";

/// What the series of a workload say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shown {
    wanted: Split,
    realized: Realized,
    blocked: bool,
}

/// The metrics of balance. Clones are the same.
#[derive(Clone, Debug)]
pub struct BalanceMetrics {
    desired: Family<Replicas, Gauge>,
    realized: Family<Replicas, Gauge>,
    reconciles: Family<Result, Counter>,
    errors: Family<Failure, Counter>,
    duration: Family<Controller, Histogram>,
    parse_failures: Family<Key, Counter>,
    evictions: Family<Eviction, Counter>,
    blocked: Family<Workload, Gauge>,
    node_hours: Family<Type, Counter<f64, AtomicU64>>,
    shown: Arc<Mutex<BTreeMap<WorkloadKey, Shown>>>,
}

impl BalanceMetrics {
    /// Registers them.
    pub fn register(registry: &mut Registry) -> Self {
        let buckets = || Histogram::new([0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0]);
        let metrics = Self {
            desired: Family::default(),
            realized: Family::default(),
            reconciles: Family::default(),
            errors: Family::default(),
            duration: Family::new_with_constructor(buckets),
            parse_failures: Family::default(),
            evictions: Family::default(),
            blocked: Family::default(),
            node_hours: Family::default(),
            shown: Arc::default(),
        };
        DESIRED.register(registry, metrics.desired.clone());
        REALIZED.register(registry, metrics.realized.clone());
        RECONCILES.register(registry, metrics.reconciles.clone());
        ERRORS.register(registry, metrics.errors.clone());
        DURATION.register(registry, metrics.duration.clone());
        PARSE_FAILURES.register(registry, metrics.parse_failures.clone());
        EVICTIONS.register(registry, metrics.evictions.clone());
        BLOCKED.register(registry, metrics.blocked.clone());
        NODE_HOURS.register(registry, metrics.node_hours.clone());
        metrics
    }

    /// Shows the counts of a managed workload.
    pub(crate) fn show(&self, key: &WorkloadKey, decision: &Decision) {
        let Decision { reason, wanted, realized, action: _, wake_at: _, drift: _ } = decision;
        let blocked = matches!(reason, Reason::MoveBlockedByPdb { pdb: _ } | Reason::SeveralPdbs { pod: _ });
        let new = Shown { wanted: *wanted, realized: *realized, blocked };
        {
            // Most passes find all as it was, and the look-up of seven series would be a good part of one.
            let mut shown = self.shown.lock();
            let old = shown.get(key);
            if old == Some(&new) || old.is_none() && shown.len() >= MOST_WORKLOADS {
                return;
            }
            shown.insert(key.clone(), new);
        }
        for capacity in CapacityType::ALL {
            let labels = replicas(key, Some(capacity));
            self.desired.get_or_create(&labels).set(wanted.of(capacity).into());
        }
        for capacity in TYPES {
            let labels = replicas(key, capacity);
            self.realized.get_or_create(&labels).set(realized.of(capacity).into());
        }
        self.blocked.get_or_create(&workload(key)).set(blocked.into());
    }

    /// Ends the series of a workload that is gone or no longer managed.
    pub(crate) fn hide(&self, key: &WorkloadKey) {
        if self.shown.lock().remove(key).is_none() {
            return;
        }
        for capacity in TYPES {
            self.desired.remove(&replicas(key, capacity));
            self.realized.remove(&replicas(key, capacity));
        }
        self.blocked.remove(&workload(key));
    }

    /// Ends all series of workloads.
    pub(crate) fn hide_all(&self) {
        let shown: Vec<WorkloadKey> = self.shown.lock().keys().cloned().collect();
        shown.iter().for_each(|key| self.hide(key));
    }

    pub(crate) fn reconciled(&self, result: &'static str, took: Duration) {
        self.reconciles.get_or_create(&Result { controller: BALANCE, result }).inc();
        self.duration.get_or_create(&Controller { controller: BALANCE }).observe(took.as_secs_f64());
    }

    pub(crate) fn failed(&self, reason: &'static str) {
        self.errors.get_or_create(&Failure { controller: BALANCE, reason }).inc();
    }

    pub(crate) fn parse_failed(&self, key: &'static str) {
        self.parse_failures.get_or_create(&Key { key }).inc();
    }

    /// Nodes of a type ran for so many hours, together.
    pub(crate) fn ran(&self, capacity: Option<CapacityType>, hours: f64) {
        self.node_hours.get_or_create(&Type { r#type: type_label(capacity) }).inc_by(hours);
    }

    pub(crate) fn eviction(&self, reason: &'static str, result: &'static str) {
        self.evictions.get_or_create(&Eviction { reason, result }).inc();
    }
}

const TYPES: [Option<CapacityType>; 3] = [Some(CapacityType::Spot), Some(CapacityType::OnDemand), None];

fn type_label(capacity: Option<CapacityType>) -> &'static str {
    capacity.map_or("unknown", CapacityType::as_metric_label)
}

fn replicas(key: &WorkloadKey, capacity: Option<CapacityType>) -> Replicas {
    Replicas {
        namespace: key.namespace.to_string(),
        workload: key.name.to_string(),
        kind: key.kind.as_str(),
        r#type: type_label(capacity),
    }
}

fn workload(key: &WorkloadKey) -> Workload {
    Workload { namespace: key.namespace.to_string(), workload: key.name.to_string() }
}

#[cfg(test)]
mod tests {
    use spotalis_core::rebalance::Realized;
    use spotalis_core::split::Split;
    use spotalis_kube::index::WorkloadKind;
    use spotalis_runtime::metrics::{PREFIX, undocumented, unexposed};

    use super::*;

    #[test]
    fn the_table_is_what_is_shown() {
        let mut registry = Registry::with_prefix(PREFIX);
        let metrics = BalanceMetrics::register(&mut registry);
        let key = WorkloadKey { namespace: "shop".into(), kind: WorkloadKind::Deployment, name: "web".into() };
        let decision = Decision {
            action: None,
            reason: Reason::OnTarget,
            wake_at: None,
            wanted: Split { spot: 1, on_demand: 1 },
            realized: Realized { spot: 1, on_demand: 1, unknown: 0 },
            drift: 0,
        };
        metrics.show(&key, &decision);
        metrics.reconciled("OnTarget", Duration::from_millis(1));
        metrics.failed("forbidden");
        metrics.parse_failed("spot-percentage");
        metrics.eviction("Rebalanced", "evicted");
        metrics.ran(None, 1.5);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        assert_eq!(unexposed(&text, &[METRICS]), [""; 0], "{text}");
        assert_eq!(undocumented(&text, &[METRICS]), [""; 0], "{text}");
    }
}
