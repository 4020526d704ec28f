//! What the cluster-autoscaler says of itself, in the ConfigMap `kube-system/cluster-autoscaler-status`.
//!
//! The report names its node groups and how far each may grow, not what their nodes are labelled with. So it answers
//! whether a node can be had, not of which type (ADR 0008). YAML since cluster-autoscaler 1.30, the oldest version for a
//! supported Kubernetes (`clusterstate/api/types.go`); what cannot be read promises nothing.

use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;

use super::{Epoch, Index};
use crate::slim;

/// A report older than this is of an autoscaler that is gone. It writes one in every loop, by default each 10 s, and is
/// restarted by its own liveness probe after 10 minutes without one (`--max-inactivity`).
const CURRENT_FOR: Duration = Duration::from_mins(10);

/// The last report.
#[derive(Debug)]
pub(super) struct AutoscalerRecord {
    /// When it was written, if it says that some node group can grow.
    can_grow: Option<Timestamp>,
    pub(super) epoch: Epoch,
}

impl AutoscalerRecord {
    pub(super) fn provides(&self, now: Timestamp) -> bool {
        self.can_grow.is_some_and(|written| {
            // Another machine's clock may be a little ahead of ours.
            Duration::try_from(now.duration_since(written)).unwrap_or_default() < CURRENT_FOR
        })
    }
}

impl Index {
    /// The cluster-autoscaler's report was seen.
    pub fn apply_autoscaler_status(&mut self, object: &slim::AutoscalerStatus, epoch: Epoch) {
        let can_grow = can_grow(&object.data.status);
        self.room_changed |= can_grow.is_some() && self.autoscaler.as_ref().is_none_or(|old| old.can_grow.is_none());
        self.autoscaler = Some(AutoscalerRecord { can_grow, epoch });
    }

    /// The cluster-autoscaler's report is gone.
    pub fn delete_autoscaler_status(&mut self) {
        self.autoscaler = None;
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    time: String,
    autoscaler_status: String,
    #[serde(default)]
    node_groups: Vec<NodeGroup>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct NodeGroup {
    health: Health,
    scale_up: ScaleUp,
}

/// Numbers that are zero are left out.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Health {
    status: String,
    cloud_provider_target: i64,
    max_size: i64,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ScaleUp {
    status: String,
}

impl NodeGroup {
    fn can_grow(&self) -> bool {
        let Health { status, cloud_provider_target, max_size } = &self.health;
        status == "Healthy" && cloud_provider_target < max_size && self.scale_up.status != "Backoff"
    }
}

/// When the report was written, if the autoscaler runs and one of its groups can grow.
fn can_grow(status: &str) -> Option<Timestamp> {
    let Report { time, autoscaler_status, node_groups } = serde_saphyr::from_str(status).ok()?;
    let grows = autoscaler_status == "Running" && node_groups.iter().any(NodeGroup::can_grow);
    if grows { written(&time) } else { None }
}

/// Reads Go's way to print a time: `2026-07-26 10:00:00.123456789 +0000 UTC`, at times with a monotonic reading at the end.
fn written(time: &str) -> Option<Timestamp> {
    let words: Vec<&str> = time.split_whitespace().take(3).collect();
    Timestamp::strptime("%Y-%m-%d %H:%M:%S%.f %z", words.join(" ")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: &str = "2026-07-26 10:00:00.5 +0000 UTC";

    fn report(status: &str, groups: &str) -> String {
        format!("time: {TIME}\nautoscalerStatus: {status}\nclusterWide: {{health: {{status: Healthy}}}}\n{groups}")
    }

    #[test]
    fn a_group_that_can_grow_is_a_promise_of_its_time() {
        let group = |health: &str, scale_up: &str| {
            let rest = "nodeCounts: {registered: {total: 1}, unregistered: 0}, minSize: 0";
            format!("nodeGroups:\n- name: asg-1\n  health: {{{health}, {rest}}}\n  scaleUp: {{status: {scale_up}}}")
        };
        let room = group("status: Healthy, cloudProviderTarget: 2, maxSize: 3", "NoActivity");
        for (what, text, promised) in [
            ("room", report("Running", &room), true),
            ("room, scaling", report("Running", &room.replace("NoActivity", "InProgress")), true),
            ("at zero", report("Running", &group("status: Healthy, maxSize: 3", "NoActivity")), true),
            ("full", report("Running", &room.replace("Target: 2", "Target: 3")), false),
            ("unhealthy", report("Running", &room.replace("Healthy, cloud", "Unhealthy, cloud")), false),
            ("back-off", report("Running", &room.replace("NoActivity", "Backoff")), false),
            ("one of two", report("Running", &format!("{room}\n- name: asg-2\n  health: {{status: Unhealthy}}")), true),
            ("initializing", report("Initializing", &room), false),
            ("no groups", report("Running", ""), false),
            ("the text of older versions", "Cluster-autoscaler status at 2026-07-26\nHealth: Healthy".into(), false),
            ("no YAML", "nodeGroups: [".into(), false),
            ("no time", report("Running", &room).replace(TIME, "yesterday"), false),
            ("nothing", String::new(), false),
        ] {
            assert_eq!(can_grow(&text).is_some(), promised, "{what}: {text}");
        }
    }

    #[test]
    fn a_promise_holds_for_ten_minutes() {
        for text in ["2026-07-26 10:00:00 +0000 UTC", "2026-07-26 12:00:00.25 +0200 CEST m=+81.2"] {
            let record = AutoscalerRecord { can_grow: written(text), epoch: 0 };
            for (now, holds) in [("09:59:58", true), ("10:00:01", true), ("10:09:59", true), ("10:10:01", false)] {
                assert_eq!(record.provides(format!("2026-07-26T{now}Z").parse().unwrap()), holds, "{text} at {now}");
            }
        }
    }
}
