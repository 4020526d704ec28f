//! The number of pods that a namespace may have.
//!
//! Only the count of `pods` is enforced; it is counted when it is asked for, so it is never behind.

use super::status::Status;
use crate::api::quantity::Quantity;
use crate::object::Object;
use crate::resource::Kind;
use crate::store::Store;

/// Refuses a pod for which there is no room.
pub(crate) fn check(store: &Store, pod: &serde_json::Value) -> Result<(), Status> {
    let meta = |field: &str| pod["metadata"][field].as_str().unwrap_or_default();
    let (namespace, name) = (meta("namespace"), meta("name"));
    for quota in store.list(Kind::ResourceQuota, Some(namespace)) {
        let limit = |key: &str| quota.at("/spec/hard").get(key).and_then(serde_json::Value::as_str);
        for key in ["pods", "count/pods"] {
            let Some(limit) = limit(key).and_then(|text| Quantity::parse(text).ok()) else { continue };
            let used = count(store, namespace, key);
            if used + 1 > limit.whole() {
                let why = format!(
                    "exceeded quota: {}, requested: {key}=1, used: {key}={used}, limited: {key}={limit}",
                    quota.name()
                );
                return Err(Status::forbidden(Kind::Pod, name, &why));
            }
        }
    }
    Ok(())
}

/// Pods that are over do not count for `pods`; for `count/pods` everything does that is there.
fn count(store: &Store, namespace: &str, key: &str) -> i64 {
    let counts = |pod: &Object| key != "pods" || !matches!(pod.text("/status/phase"), Some("Failed" | "Succeeded"));
    let pods = store.list(Kind::Pod, Some(namespace)).filter(|pod| counts(pod)).count();
    i64::try_from(pods).unwrap_or(i64::MAX)
}
