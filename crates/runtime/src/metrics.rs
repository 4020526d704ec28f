//! The registry of all metrics, the table that documents them, and the metrics of the process itself.
//!
//! An engine owns its metrics, documents each in a `&[MetricDoc]` and registers it through that entry, so that name, help
//! and documentation cannot differ. Labels are closed sets; nothing here takes a name from the cluster as a label.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry};

use crate::Clock;

/// What every metric's name begins with.
pub const PREFIX: &str = "spotalis";

/// What a metric counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows; the name ends in `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts observations by size.
    Histogram,
    /// Always 1; the labels are the content, and the name ends in `_info`.
    Info,
}

impl Kind {
    /// The word after `# TYPE`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Info => "info",
        }
    }

    const fn suffix(self) -> &'static str {
        match self {
            Self::Counter => "_total",
            Self::Info => "_info",
            Self::Gauge | Self::Histogram => "",
        }
    }
}

/// One metric as the documentation shows it, and as it is registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetricDoc {
    /// As queried, without `spotalis_`, with `_total` or `_info`.
    pub name: &'static str,
    /// What it counts as.
    pub kind: Kind,
    /// Its labels, in the order of the documentation.
    pub labels: &'static [&'static str],
    /// One sentence, without the full stop.
    pub help: &'static str,
}

impl MetricDoc {
    /// The family's name, which is what a registry wants: without the suffix of its kind.
    fn family(&self) -> &'static str {
        self.name.strip_suffix(self.kind.suffix()).expect("counters end in _total, infos in _info")
    }

    /// Registers `metric` under this name and help.
    pub fn register(&self, registry: &mut Registry, metric: impl Metric) {
        debug_assert_eq!(metric.metric_type().as_str(), self.kind.as_str(), "{} is another kind of metric", self.name);
        registry.register(self.family(), self.help, metric);
    }

    /// Writes `metric` under this name and help, for a collector.
    pub fn encode(&self, encoder: &mut DescriptorEncoder<'_>, metric: &impl EncodeMetric) -> fmt::Result {
        metric.encode(self.describe(encoder, metric.metric_type())?)
    }

    fn describe<'e>(
        &self,
        encoder: &'e mut DescriptorEncoder<'_>,
        kind: MetricType,
    ) -> Result<MetricEncoder<'e>, fmt::Error> {
        // A registry adds the full stop itself, an encoder does not.
        encoder.encode_descriptor(self.family(), &format!("{}.", self.help), None, kind)
    }
}

/// Every table of this crate.
pub const TABLES: &[&[MetricDoc]] = &[METRICS, crate::leadership::METRICS, crate::events::METRICS];

/// The metrics of every process of ours.
pub const METRICS: &[MetricDoc] = &[BUILD, RESIDENT, PEAK, CPU, WATCH_AGE];

const BUILD: MetricDoc = MetricDoc {
    name: "build_info",
    kind: Kind::Info,
    labels: &["version", "revision"],
    help: "Version and source revision of the running binary",
};
const RESIDENT: MetricDoc = MetricDoc {
    name: "process_resident_memory_bytes",
    kind: Kind::Gauge,
    labels: &[],
    help: "Memory of the process that is in RAM",
};
const PEAK: MetricDoc = MetricDoc {
    name: "process_resident_memory_peak_bytes",
    kind: Kind::Gauge,
    labels: &[],
    help: "The most memory the process ever had in RAM",
};
const CPU: MetricDoc = MetricDoc {
    name: "process_cpu_seconds_total",
    kind: Kind::Counter,
    labels: &[],
    help: "CPU time the process has used, in user and system mode",
};
const WATCH_AGE: MetricDoc = MetricDoc {
    name: "watch_age_seconds",
    kind: Kind::Gauge,
    labels: &["kind"],
    help: "Seconds since anything, a bookmark included, was last heard on the watch of a kind",
};

/// The root: everything that `/metrics` shows.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    freshness: WatchFreshness,
}

impl Metrics {
    /// A registry with the metrics of the process in it.
    pub fn new(version: &'static str, revision: &'static str, clock: Clock) -> Self {
        let mut registry = Registry::with_prefix(PREFIX);
        BUILD.register(&mut registry, Info::new(vec![("version", version), ("revision", revision)]));
        registry.register_collector(Box::new(Process));
        let freshness = WatchFreshness { clock, heard: Arc::default() };
        registry.register_collector(Box::new(freshness.clone()));
        Self { registry, freshness }
    }

    /// For an engine to register its own metrics, before the server starts.
    pub fn registry(&mut self) -> &mut Registry {
        &mut self.registry
    }

    /// For a watch to say that it is alive.
    pub fn freshness(&self) -> WatchFreshness {
        self.freshness.clone()
    }

    /// All of it as `OpenMetrics` text.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).expect("a String takes any text");
        text
    }
}

/// When each watch was last heard. Clones are the same.
#[derive(Clone, Debug)]
pub struct WatchFreshness {
    clock: Clock,
    heard: Arc<Mutex<BTreeMap<&'static str, Duration>>>,
}

impl WatchFreshness {
    /// The watch of `kind` has shown something, be it a bookmark.
    pub fn heard(&self, kind: &'static str) {
        self.heard.lock().insert(kind, self.clock.elapsed());
    }

    /// Time since the watch of `kind` was heard; `None` before the first time.
    pub fn age(&self, kind: &str) -> Option<Duration> {
        self.heard.lock().get(kind).map(|at| self.clock.elapsed().saturating_sub(*at))
    }
}

impl Collector for WatchFreshness {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let now = self.clock.elapsed();
        let heard = self.heard.lock().clone();
        if heard.is_empty() {
            return Ok(());
        }
        let mut family = WATCH_AGE.describe(&mut encoder, MetricType::Gauge)?;
        for (kind, at) in heard {
            let age = ConstGauge::new(now.saturating_sub(at).as_secs_f64());
            age.encode(family.encode_family(&[("kind", kind)])?)?;
        }
        Ok(())
    }
}

/// Memory and CPU, read at every scrape. What cannot be read is left out.
#[derive(Debug)]
struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        if let Some(bytes) = status_bytes(&status, "VmRSS:") {
            RESIDENT.encode(&mut encoder, &ConstGauge::new(bytes))?;
        }
        if let Some(bytes) = status_bytes(&status, "VmHWM:") {
            PEAK.encode(&mut encoder, &ConstGauge::new(bytes))?;
        }
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        if let Some(seconds) = cpu_seconds(&stat) {
            CPU.encode(&mut encoder, &ConstCounter::new(seconds))?;
        }
        Ok(())
    }
}

/// A line of `/proc/self/status` such as `VmRSS: 1234 kB`, in bytes.
fn status_bytes(status: &str, field: &str) -> Option<i64> {
    let rest = status.lines().find_map(|line| line.strip_prefix(field))?;
    let kibibytes: i64 = rest.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// `utime` and `stime`, fields 14 and 15 of `/proc/self/stat` (proc(5)).
fn cpu_seconds(stat: &str) -> Option<f64> {
    // Linux shows these to every program in hundredths of a second, whatever its own tick is.
    const TICKS_PER_SECOND: f64 = 100.0;
    // The command in field 2 may hold anything, closing brackets included; field 3 follows the last one.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: u32 = fields.next()?.parse().ok()?;
    let system: u32 = fields.next()?.parse().ok()?;
    Some((f64::from(user) + f64::from(system)) / TICKS_PER_SECOND)
}

/// Holds what `/metrics` shows against the tables: a sentence for each family that is undocumented, of another kind, or
/// has a label that its entry does not name. For tests.
pub fn undocumented(exposition: &str, tables: &[&[MetricDoc]]) -> Vec<String> {
    let documented: BTreeMap<String, &MetricDoc> =
        tables.iter().copied().flatten().map(|doc| (format!("{PREFIX}_{}", doc.family()), doc)).collect();
    let mut faults = Vec::new();
    let mut current = None;
    for line in exposition.lines() {
        if let Some((family, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            current = documented.get(family).copied();
            match current {
                None => faults.push(format!("{family} is in no table")),
                Some(doc) if doc.kind.as_str() != kind => {
                    faults.push(format!("{family} is a {kind}, its table says {}", doc.kind.as_str()));
                }
                Some(_) => {}
            }
        } else if let Some((doc, labels)) = current.zip(label_names(line)) {
            let foreign = labels.filter(|label| *label != "le" && !doc.labels.contains(label));
            faults.extend(foreign.map(|label| format!("{} has an undocumented label {label}", doc.name)));
        }
    }
    faults
}

/// The other direction: the names that the tables promise and `/metrics` does not show. For tests that have used every metric,
/// since a family without a series is not shown.
pub fn unexposed<'t>(exposition: &str, tables: &'t [&'t [MetricDoc]]) -> Vec<&'t str> {
    let exposed = |doc: &&MetricDoc| {
        let head = format!("# TYPE {PREFIX}_{} {}", doc.family(), doc.kind.as_str());
        exposition.lines().any(|line| line == head)
    };
    tables.iter().copied().flatten().filter(|doc| !exposed(doc)).map(|doc| doc.name).collect()
}

/// The label names of a sample line; values with `="` in them would be misread, and a closed set has none.
fn label_names(line: &str) -> Option<impl Iterator<Item = &str>> {
    if line.starts_with('#') {
        return None;
    }
    let labels = line.split_once('{')?.1.rsplit_once('}')?.0;
    Some(labels.split("=\"").filter_map(|part| part.rsplit(['"', ',']).next()).filter(|name| !name.is_empty()))
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::counter::Counter;
    use prometheus_client::metrics::family::Family;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_process_shows_itself() {
        let metrics = Metrics::new("1.2.3", "abc", Clock::starting_at("2026-01-01T00:00:00Z".parse().unwrap()));
        metrics.freshness().heard("Pod");
        tokio::time::advance(Duration::from_secs(7)).await;
        let text = metrics.encode();
        assert!(text.contains(r#"spotalis_build_info{version="1.2.3",revision="abc"} 1"#), "{text}");
        assert!(text.contains(r#"spotalis_watch_age_seconds{kind="Pod"} 7.0"#), "{text}");
        assert!(text.contains("\nspotalis_process_resident_memory_bytes "), "{text}");
        assert!(text.contains("\nspotalis_process_resident_memory_peak_bytes "), "{text}");
        assert!(text.contains("\nspotalis_process_cpu_seconds_total "), "{text}");
        assert!(text.lines().all(|line| !line.starts_with("# HELP") || line.ends_with('.')), "{text}");
        assert!(text.ends_with("# EOF\n"), "{text}");
        assert_eq!(undocumented(&text, &[METRICS]), [""; 0]);
        assert_eq!(metrics.freshness().age("Pod"), Some(Duration::from_secs(7)));
        assert_eq!(metrics.freshness().age("Node"), None);
    }

    #[tokio::test]
    async fn the_tables_of_this_crate_are_complete() {
        let clock = Clock::system();
        let mut metrics = Metrics::new("1.2.3", "abc", clock);
        crate::leadership::LeadershipMetrics::default().register(metrics.registry());
        let events = crate::events::EventMetrics::default();
        events.register(metrics.registry());
        metrics.freshness().heard("Pod");
        assert_eq!(unexposed(&metrics.encode(), TABLES), ["events_total"], "it has no series yet");
        let (recorder, queue) = crate::events::EventRecorder::channel(clock, events, 1);
        drop(queue);
        recorder.publish(crate::events::Notice {
            regarding: k8s_openapi::api::core::v1::ObjectReference::default(),
            related: None,
            reason: "Test",
            note: "test".into(),
            warning: false,
            action: "Test",
        });
        assert_eq!(unexposed(&metrics.encode(), TABLES), [""; 0]);
        assert_eq!(undocumented(&metrics.encode(), TABLES), [""; 0]);
    }

    #[test]
    fn what_no_table_names_is_found() {
        let mut registry = Registry::with_prefix(PREFIX);
        let family = Family::<Vec<(&str, &str)>, Counter>::default();
        family.get_or_create(&vec![("type", "spot"), ("pod", "web-1")]).inc();
        registry.register("evictions", "Evictions", family);
        registry.register("strays", "Strays", Counter::<u64>::default());
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let table = [MetricDoc { name: "evictions_total", kind: Kind::Counter, labels: &["type"], help: "Evictions" }];
        assert_eq!(
            undocumented(&text, &[&table]),
            ["evictions_total has an undocumented label pod", "spotalis_strays is in no table"]
        );
        let table = [MetricDoc { kind: Kind::Gauge, name: "strays", labels: &[], help: "" }];
        assert!(undocumented(&text, &[&table]).contains(&"spotalis_strays is a counter, its table says gauge".into()));
    }

    #[test]
    fn proc_files() {
        assert_eq!(status_bytes("VmHWM:\t   2048 kB\nVmRSS:\t     12 kB\n", "VmRSS:"), Some(12 * 1024));
        assert_eq!(status_bytes("VmHWM:\t   2048 pages\n", "VmHWM:"), None);
        let stat = "1 (a) b) c) S 0 1 1 0 -1 4194560 1 2 3 4 250 50 0 0 20 0 9 0 1 1 1";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        assert_eq!(cpu_seconds("garbage"), None);
    }
}
