//! The quality-of-service class of a pod, from the requests and limits of its containers.

use serde_json::Value;

use crate::api::quantity::Quantity;

/// `Guaranteed`, `Burstable` or `BestEffort`.
pub(crate) fn class(pod: &Value) -> &'static str {
    let containers = || {
        let of = |name: &str| pod["spec"][name].as_array().into_iter().flatten();
        of("containers").chain(of("initContainers"))
    };
    let amount = |container: &Value, which: &str, resource: &str| {
        let text = container["resources"][which][resource].as_str()?;
        Quantity::parse(text).ok().map(Quantity::nano).filter(|nano| *nano > 0)
    };
    let both = ["cpu", "memory"];
    let any = containers().any(|container| {
        both.iter().any(|resource| {
            amount(container, "requests", resource).is_some() || amount(container, "limits", resource).is_some()
        })
    });
    if !any {
        return "BestEffort";
    }
    let guaranteed = containers().all(|container| {
        both.iter().all(|resource| {
            let limit = amount(container, "limits", resource);
            limit.is_some() && limit == amount(container, "requests", resource).or(limit)
        })
    });
    if guaranteed { "Guaranteed" } else { "Burstable" }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn requests_and_limits_make_the_class() {
        let both = json!({"cpu": "1", "memory": "1Gi"});
        for (resources, expected) in [
            (json!({}), "BestEffort"),
            (json!({"requests": {"cpu": "0"}}), "BestEffort"),
            (json!({"requests": {"cpu": "1"}}), "Burstable"),
            (json!({"limits": both, "requests": both}), "Guaranteed"),
            (json!({"limits": both, "requests": {"cpu": "500m", "memory": "1Gi"}}), "Burstable"),
            (json!({"limits": {"cpu": "1"}, "requests": {"cpu": "1"}}), "Burstable"),
        ] {
            assert_eq!(class(&json!({"spec": {"containers": [{"resources": resources}]}})), expected);
        }
    }
}
