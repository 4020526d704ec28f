//! Dry-run creates of pods: admission without growth of the store.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, ListParams, PostParams};
use serde_json::json;
use spotalis_e2e::{Cluster, Workload, eventually};

/// Sends dry-run creates of a workload's pods.
pub struct Load {
    pods: Api<Pod>,
    pod: Pod,
}

impl Load {
    /// The load on the newest ReplicaSet of a Deployment.
    pub async fn on(cluster: &Cluster<'_>, workload: &Workload) -> Result<Self> {
        let sets: Api<ReplicaSet> = Api::namespaced(cluster.client(), workload.namespace());
        let set = eventually("the ReplicaSet to exist", async || {
            sets.list(&ListParams::default().labels(&workload.selector())).await.ok()?.items.into_iter().next()
        })
        .await?;
        let template = set.spec.clone().and_then(|spec| spec.template).context("a ReplicaSet has a template")?;
        let labels = template.metadata.and_then(|metadata| metadata.labels).unwrap_or_default();
        let pod = serde_json::from_value(json!({
            "metadata": {
                "generateName": format!("{}-", set.name_any()),
                "labels": labels,
                "ownerReferences": [{
                    "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": set.name_any(),
                    "uid": set.uid(), "controller": true, "blockOwnerDeletion": true,
                }],
            },
            "spec": template.spec,
        }))?;
        Ok(Self { pods: Api::namespaced(cluster.client(), workload.namespace()), pod })
    }

    /// Sends `count` creates over at most `connections` at a time.
    pub async fn run(&self, count: usize, connections: usize) -> Result<()> {
        let dry_run = PostParams { dry_run: true, field_manager: None };
        futures::stream::iter(0..count)
            .map(|_| self.pods.create(&dry_run, &self.pod))
            .buffer_unordered(connections)
            .try_for_each(|_| async { Ok(()) })
            .await?;
        Ok(())
    }
}

/// The API server's own measure of a webhook: `apiserver_admission_webhook_admission_duration_seconds`.
#[derive(Clone, Debug, Default)]
pub struct Measure {
    sum: f64,
    count: f64,
    /// Cumulative counts by upper bound, in the order of the bounds.
    buckets: BTreeMap<u64, f64>,
}

impl Measure {
    /// What it is so far, for the webhook with this name.
    pub async fn of(cluster: &Cluster<'_>, webhook: &str) -> Result<Self> {
        let text = cluster.rig().apiserver_metrics().await?;
        let mut measure = Self::default();
        let prefix = "apiserver_admission_webhook_admission_duration_seconds_";
        let name = format!("name=\"{webhook}\"");
        for line in text.lines().filter(|line| line.starts_with(prefix) && line.contains(&name)) {
            let (series, value) = line.rsplit_once(' ').context("a sample has a value")?;
            let value: f64 = value.parse()?;
            match series[prefix.len()..].split('{').next() {
                Some("sum") => measure.sum += value,
                Some("count") => measure.count += value,
                Some("bucket") => {
                    let bound = series.split("le=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or("+Inf");
                    let nanoseconds = if bound == "+Inf" { u64::MAX } else { to_nanoseconds(bound.parse()?) };
                    *measure.buckets.entry(nanoseconds).or_default() += value;
                }
                Some(_) | None => {}
            }
        }
        Ok(measure)
    }

    /// What came between an earlier measure and this one.
    pub fn since(&self, earlier: &Self) -> Self {
        let buckets = self
            .buckets
            .iter()
            .map(|(bound, count)| (*bound, count - earlier.buckets.get(bound).copied().unwrap_or(0.0)))
            .collect();
        Self { sum: self.sum - earlier.sum, count: self.count - earlier.count, buckets }
    }

    /// Adds another block of calls.
    pub fn add(&mut self, other: &Self) {
        self.sum += other.sum;
        self.count += other.count;
        for (bound, count) in &other.buckets {
            *self.buckets.entry(*bound).or_default() += count;
        }
    }

    /// Mean, in milliseconds.
    pub fn mean(&self) -> f64 {
        self.sum * 1e3 / self.count.max(1.0)
    }

    /// Quantile, in milliseconds, interpolated within its bucket as Prometheus does.
    pub fn quantile(&self, quantile: f64) -> f64 {
        let rank = quantile * self.count;
        let (mut below, mut lower) = (0.0, 0.0);
        for (bound, count) in &self.buckets {
            let upper = if *bound == u64::MAX { lower } else { milliseconds(*bound) };
            if *count >= rank && *count > below {
                return lower + (upper - lower) * (rank - below) / (count - below);
            }
            (below, lower) = (*count, upper);
        }
        lower
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounds are between 0 and 10 seconds")]
fn to_nanoseconds(seconds: f64) -> u64 {
    (seconds * 1e9).round() as u64
}

#[expect(clippy::cast_precision_loss, reason = "bounds are between 0 and 10 seconds")]
fn milliseconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e6
}
