//! Evictions under budgets, whose status is reported by the sequence itself: allowed, refused, burnt by preconditions that do
//! not hold, two budgets for one pod, pods that are not ready or have not begun.

use embedded_cluster::resource::Kind;
use serde_json::json;

use super::super::step::{MERGE, STRATEGIC};
use super::mixed::deletion;
use super::object::budget_status;
use super::{Draft, path_of};

const LENGTH: usize = 75;
const PODS: [&str; 6] = ["p0", "p1", "p2", "p3", "p4", "p5"];

pub(super) fn draft(draft: &mut Draft) {
    let (pods, budgets) = (Kind::Pod.resource(), Kind::PodDisruptionBudget.resource());
    PODS.iter().for_each(|name| pod(draft, name));
    budget(draft, "a");
    while draft.steps.len() < LENGTH {
        let name = *draft.chance.pick(&PODS);
        let path = path_of(pods, name);
        let budget_name = draft.name(Kind::PodDisruptionBudget);
        let budget_path = path_of(budgets, &budget_name);
        match draft.chance.below(16) {
            0..=6 => {
                let options = if draft.chance.percent(50) { deletion(draft, &path) } else { json!({}) };
                let mut eviction = json!({"metadata": {"name": name}, "deleteOptions": options});
                if draft.chance.percent(5) {
                    eviction["metadata"]["name"] = "other".into();
                }
                let query = *draft.chance.weighted(&[(9, ""), (1, "?dryRun=All"), (1, "?dryRun=x")]);
                draft.post("evict", path + "/eviction" + query, eviction);
            }
            7..=9 => {
                let mut status = budget_status(&mut draft.chance);
                if draft.chance.percent(10) {
                    status["conditions"] = json!([{
                        "type": "DisruptionAllowed", "status": "False", "reason": "SyncFailed", "message": "bad",
                        "lastTransitionTime": "2026-01-01T00:00:00Z",
                    }]);
                }
                draft.patch("status", budget_path + "/status", MERGE, json!({"status": status}));
            }
            10 => {
                let policy = *draft.chance.pick(&["AlwaysAllow", "IfHealthyBudget"]);
                draft.merge(budget_path, json!({"spec": {"unhealthyPodEvictionPolicy": policy}}));
            }
            11 => budget(draft, &budget_name),
            12 => {
                draft.delete(budget_path, None);
            }
            13 => {
                let ready = *draft.chance.pick(&["True", "False"]);
                let phase = *draft.chance.pick(&["Running", "Succeeded", "Pending"]);
                let status = json!({"phase": phase, "conditions": [{"type": "Ready", "status": ready}]});
                draft.patch("status", path + "/status", STRATEGIC, json!({"status": status}));
            }
            14 => pod(draft, name),
            _ => {
                draft.get(budget_path);
            }
        }
    }
}

fn pod(draft: &mut Draft, name: &str) {
    let mut pod = json!({
        "metadata": {"name": name, "labels": {"app": "a"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    });
    if draft.chance.percent(80) {
        pod["spec"]["nodeName"] = "nope".into();
    }
    draft.create(Kind::Pod, pod);
    if draft.chance.percent(80) {
        let ready = *draft.chance.weighted(&[(3, "True"), (1, "False")]);
        let status = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]});
        let path = path_of(Kind::Pod.resource(), name) + "/status";
        draft.patch("status", path, STRATEGIC, json!({"status": status}));
    }
}

fn budget(draft: &mut Draft, name: &str) {
    let bound = *draft.chance.pick(&["minAvailable", "maxUnavailable"]);
    let spec = json!({bound: *draft.chance.pick(&[1, 2]), "selector": {"matchLabels": {"app": "a"}}});
    draft.create(Kind::PodDisruptionBudget, json!({"metadata": {"name": name}, "spec": spec}));
    let mut status = budget_status(&mut draft.chance);
    status["observedGeneration"] = 1.into();
    let path = path_of(Kind::PodDisruptionBudget.resource(), name) + "/status";
    draft.patch("status", path, MERGE, json!({"status": status}));
}
