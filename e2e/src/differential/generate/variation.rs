//! What is done to valid objects to see what a server says of it: tables of merge patches, one on a line, many of them of
//! things that no server accepts.

use embedded_cluster::resource::Kind;
use serde_json::{Value, json};

use super::super::chance::Chance;
use super::super::step::merge_into;

const METADATA: &str = include_str!("../variations/metadata.jsonl");
const POD: &str = include_str!("../variations/pod.jsonl");
const CONTAINER: &str = include_str!("../variations/container.jsonl");
const WORKLOAD: &str = include_str!("../variations/workload.jsonl");
const WEBHOOK: &str = include_str!("../variations/webhook.jsonl");
/// JSON patches, and what is none.
pub(crate) const OPERATIONS: &str = include_str!("../variations/operations.jsonl");
/// Merge patches of whatever there is.
pub(crate) const PATCHES: &str = include_str!("../variations/patches.jsonl");
/// Strategic merge patches that are more than merge patches.
pub(crate) const DIRECTIVES: &str = include_str!("../variations/directives.jsonl");
/// Bodies that are no objects, or hardly.
pub(crate) const BODIES: &str = include_str!("../variations/bodies.txt");

/// One line of a table.
pub(crate) fn line<'t>(chance: &mut Chance, table: &'t str) -> &'t str {
    let lines: Vec<&str> = table.lines().collect();
    chance.pick::<&str>(&lines)
}

/// One line of a table, as JSON.
pub(crate) fn variation(chance: &mut Chance, table: &str) -> Value {
    serde_json::from_str(line(chance, table)).expect("a table of JSON")
}

fn own_table(kind: Kind) -> Option<&'static str> {
    Some(match kind {
        Kind::Namespace => include_str!("../variations/namespace.jsonl"),
        Kind::Node => include_str!("../variations/node.jsonl"),
        Kind::ConfigMap => include_str!("../variations/configmap.jsonl"),
        Kind::Secret => include_str!("../variations/secret.jsonl"),
        Kind::ServiceAccount => include_str!("../variations/serviceaccount.jsonl"),
        Kind::ResourceQuota => include_str!("../variations/resourcequota.jsonl"),
        Kind::ControllerRevision => include_str!("../variations/controllerrevision.jsonl"),
        Kind::HorizontalPodAutoscaler => include_str!("../variations/horizontalpodautoscaler.jsonl"),
        Kind::PodDisruptionBudget => include_str!("../variations/poddisruptionbudget.jsonl"),
        Kind::Lease => include_str!("../variations/lease.jsonl"),
        Kind::Event => include_str!("../variations/event.jsonl"),
        Kind::Pod
        | Kind::Deployment
        | Kind::ReplicaSet
        | Kind::StatefulSet
        | Kind::MutatingWebhookConfiguration
        | Kind::NodePool
        | Kind::NodeClaim => return None,
    })
}

/// Changes an object of a kind in one way that is particular to the kind, or in one that is not.
pub(crate) fn vary(chance: &mut Chance, kind: Kind, object: &mut Value) {
    if chance.percent(20) {
        return merge_into(object, &variation(chance, METADATA));
    }
    match kind {
        Kind::Pod => vary_pod(chance, &mut object["spec"]),
        Kind::Deployment | Kind::ReplicaSet | Kind::StatefulSet if chance.percent(35) => {
            vary_pod(chance, &mut object["spec"]["template"]["spec"]);
        }
        Kind::Deployment | Kind::ReplicaSet | Kind::StatefulSet => {
            merge_into(object, &json!({"spec": variation(chance, WORKLOAD)}));
        }
        Kind::MutatingWebhookConfiguration => merge_into(&mut object["webhooks"][0], &variation(chance, WEBHOOK)),
        _ => {
            let table = own_table(kind).unwrap_or(METADATA);
            merge_into(object, &variation(chance, table));
        }
    }
}

fn vary_pod(chance: &mut Chance, spec: &mut Value) {
    if chance.percent(40) {
        merge_into(&mut spec["containers"][0], &variation(chance, CONTAINER));
    } else {
        merge_into(spec, &variation(chance, POD));
    }
}

#[cfg(test)]
mod tests {
    use embedded_cluster::resource::RESOURCES;

    use super::*;

    #[test]
    fn the_tables_are_json() {
        let tables = [METADATA, POD, CONTAINER, WORKLOAD, WEBHOOK, OPERATIONS, PATCHES, DIRECTIVES];
        for table in tables.into_iter().chain(RESOURCES.iter().filter_map(|row| own_table(row.kind))) {
            for line in table.lines() {
                assert!(serde_json::from_str::<Value>(line).is_ok(), "{line}");
            }
        }
    }
}
