//! What the webhook counts.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use spotalis_kube::index::Index;
use spotalis_runtime::metrics::{Kind, MetricDoc};

use crate::admission::Outcome;

const REQUESTS: MetricDoc = MetricDoc {
    name: "admission_requests_total",
    kind: Kind::Counter,
    labels: &["result"],
    help: "Admission reviews answered, by what came of them",
};
const DURATION: MetricDoc = MetricDoc {
    name: "admission_duration_seconds",
    kind: Kind::Histogram,
    labels: &[],
    help: "Time from a review's last byte to its answer, waiting for what is not seen yet included",
};
const RESERVATIONS: MetricDoc = MetricDoc {
    name: "admission_reservations",
    kind: Kind::Gauge,
    labels: &[],
    help: "Decisions whose pods are not visible yet",
};

const CERTIFICATE: MetricDoc = MetricDoc {
    name: "certificate_not_after_timestamp_seconds",
    kind: Kind::Gauge,
    labels: &[],
    help: "When the webhook's certificate ends, in seconds since 1970; 0 if it does not say",
};

const RELOADS: MetricDoc = MetricDoc {
    name: "certificate_reloads_total",
    kind: Kind::Counter,
    labels: &["result"],
    help: "Changed certificate files, by whether they are in use now (loaded) or not fit for it (rejected)",
};

/// The reference table of this crate's metrics.
pub const METRICS: &[MetricDoc] = &[REQUESTS, DURATION, RESERVATIONS, CERTIFICATE, RELOADS];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

/// The metrics of admission. Clones are the same.
#[derive(Clone, Debug)]
pub struct AdmissionMetrics {
    /// By [`Outcome`], in its order: found without hashing a label.
    requests: Arc<[Counter]>,
    duration: Histogram,
}

impl AdmissionMetrics {
    /// Registers them. The reservations are read off the index when somebody asks.
    pub fn register(registry: &mut Registry, index: Arc<Mutex<Index>>) -> Self {
        let family = Family::<ResultLabel, Counter>::default();
        let of = |outcome: Outcome| family.get_or_create(&ResultLabel { result: outcome.as_str() }).clone();
        let metrics = Self {
            requests: Outcome::ALL.into_iter().map(of).collect(),
            duration: Histogram::new([0.000_05, 0.000_1, 0.000_5, 0.001, 0.005, 0.01, 0.05, 0.1, 0.2]),
        };
        REQUESTS.register(registry, family);
        DURATION.register(registry, metrics.duration.clone());
        registry.register_collector(Box::new(Reservations(index)));
        metrics
    }

    pub(crate) fn answered(&self, outcome: Outcome, took: Duration) {
        self.requests[outcome as usize].inc();
        self.duration.observe(took.as_secs_f64());
    }
}

struct Reservations(Arc<Mutex<Index>>);

impl std::fmt::Debug for Reservations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reservations")
    }
}

impl Collector for Reservations {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let outstanding = i64::try_from(self.0.lock().reservations()).unwrap_or(i64::MAX);
        RESERVATIONS.encode(&mut encoder, &ConstGauge::new(outstanding))
    }
}

/// The certificate in use, and what became of changed files. Clones are the same.
#[derive(Clone, Debug)]
pub struct CertificateMetrics {
    not_after: Gauge,
    loaded: Counter,
    rejected: Counter,
}

impl CertificateMetrics {
    /// Registers them, with the certificate of the start.
    pub fn register(registry: &mut Registry, not_after: Option<jiff::Timestamp>) -> Self {
        let reloads = Family::<ResultLabel, Counter>::default();
        let of = |result| reloads.get_or_create(&ResultLabel { result }).clone();
        let metrics = Self { not_after: Gauge::default(), loaded: of("loaded"), rejected: of("rejected") };
        metrics.ends(not_after);
        CERTIFICATE.register(registry, metrics.not_after.clone());
        RELOADS.register(registry, reloads);
        metrics
    }

    /// Changed files are in use.
    pub fn loaded(&self, not_after: Option<jiff::Timestamp>) {
        self.ends(not_after);
        self.loaded.inc();
    }

    /// Changed files are not fit for use.
    pub fn rejected(&self) {
        self.rejected.inc();
    }

    fn ends(&self, not_after: Option<jiff::Timestamp>) {
        self.not_after.set(not_after.map_or(0, jiff::Timestamp::as_second));
    }
}

#[cfg(test)]
mod tests {
    use spotalis_core::class::{CapacityClasses, Preset};
    use spotalis_core::opt_in::{Mode, OptInRules};
    use spotalis_kube::index::{Provisioner, Rules};
    use spotalis_runtime::metrics::{PREFIX, undocumented, unexposed};

    use super::*;

    #[test]
    fn the_table_is_what_is_shown() {
        let rules = Rules {
            opt_in: OptInRules {
                mode: Mode::Both,
                namespace_selector: spotalis_core::selector::Selector::default(),
                own_namespace: "spotalis-system".into(),
                watch_namespaces: std::collections::BTreeSet::new(),
            },
            classes: CapacityClasses::preset(Preset::Karpenter).into(),
            defaults: spotalis_core::policy::Defaults::default(),
            on_conflict: spotalis_core::steering::OnConflict::Respect,
            provisioner: Provisioner::Auto,
        };
        let mut registry = Registry::with_prefix(PREFIX);
        let metrics = AdmissionMetrics::register(&mut registry, Arc::new(Mutex::new(Index::new(rules))));
        metrics.answered(Outcome::Steered, Duration::from_millis(1));
        CertificateMetrics::register(&mut registry, None).rejected();
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        assert_eq!(unexposed(&text, &[METRICS]), [""; 0], "{text}");
        assert_eq!(undocumented(&text, &[METRICS]), [""; 0], "{text}");
    }
}
