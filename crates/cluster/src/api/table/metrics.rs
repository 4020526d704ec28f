//! What an autoscaler looks at, and where it stands.

use serde_json::Value;

use crate::object::Object;

/// So many are shown.
const SHOWN: usize = 2;

/// `cpu: 40%/70%` for the first ones, and how many more there are.
pub(super) fn targets(autoscaler: &Object) -> String {
    let (wanted, found) = (autoscaler.list("/spec/metrics"), autoscaler.list("/status/currentMetrics"));
    if wanted.is_empty() {
        return "<none>".to_owned();
    }
    let all = wanted.iter().enumerate().map(|(index, metric)| target(metric, found.get(index).unwrap_or(&Value::Null)));
    let shown = all.take(SHOWN).collect::<Vec<_>>().join(", ");
    match wanted.len().checked_sub(SHOWN) {
        None | Some(0) => shown,
        Some(more) => format!("{shown} + {more} more..."),
    }
}

fn target(metric: &Value, found: &Value) -> String {
    let (field, is_of_a_resource) = match metric["type"].as_str() {
        Some("External") => ("external", false),
        Some("Pods") => ("pods", false),
        Some("Object") => ("object", false),
        Some("Resource") => ("resource", true),
        Some("ContainerResource") => ("containerResource", true),
        _ => return "<unknown type>".to_owned(),
    };
    let (target, current) = (&metric[field]["target"], &found[field]["current"]);
    let now = |what: &str| current[what].as_str().unwrap_or("<unknown>");
    if is_of_a_resource {
        let name = metric[field]["name"].as_str().unwrap_or_default();
        let percent = |value: &Value, none: &str| value.as_i64().map_or_else(|| none.to_owned(), |it| format!("{it}%"));
        return match target["averageValue"].as_str() {
            Some(average) => format!("{name}: {}/{average}", now("averageValue")),
            None => format!(
                "{name}: {}/{}",
                percent(&current["averageUtilization"], "<unknown>"),
                percent(&target["averageUtilization"], "<auto>")
            ),
        };
    }
    match (field, target["averageValue"].as_str()) {
        ("pods", Some(average)) => format!("{}/{average}", now("averageValue")),
        (_, Some(average)) => format!("{}/{average} (avg)", now("averageValue")),
        (_, None) => format!("{}/{}", now("value"), target["value"].as_str().unwrap_or("<nil>")),
    }
}
