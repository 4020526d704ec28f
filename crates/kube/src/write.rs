//! The writes of Spotalis as requests: the smallest body, with the fence that the object needs.
//!
//! Requests are built by hand because the fences are the point: the client's own `evict` sends its options under a name
//! that the API server ignores, and with them the UID precondition. Sending, and what an answer means, is the runtime's.

use http::Request;
use serde_json::json;
use spotalis_core::policy::keys;

use crate::names;

/// The eviction of one very pod: a pod of the same name and another UID stays.
///
/// Without a resourceVersion, on purpose: a failed precondition takes the PodDisruptionBudget's allowance for up to two
/// minutes, and a cached resourceVersion fails often.
pub fn eviction(namespace: &str, pod: &str, uid: &str) -> Request<Vec<u8>> {
    let body = json!({
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": { "namespace": namespace, "name": pod },
        "deleteOptions": { "preconditions": { "uid": uid } },
    });
    request("POST", &format!("/api/v1/namespaces/{namespace}/pods/{pod}/eviction"), "application/json", &body)
}

/// A pod as it is stored now.
pub fn get_pod(namespace: &str, pod: &str) -> Request<Vec<u8>> {
    let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}");
    Request::get(path).body(Vec::new()).expect("names of stored objects are valid in a path")
}

/// The slot of a running pod and the deletion cost that goes with it, in one PATCH of the pod as it was seen: what somebody
/// else wrote since is not overwritten. An older resourceVersion answers 409, a wrong UID 422; unlike with an eviction,
/// neither costs anything.
pub fn seat(namespace: &str, pod: &str, uid: &str, resource_version: u64, slot: u32) -> Request<Vec<u8>> {
    let body = json!({
        "metadata": {
            "uid": uid,
            "resourceVersion": resource_version.to_string(),
            "annotations": { keys::SLOT: slot.to_string(), names::POD_DELETION_COST: format!("-{slot}") },
        },
    });
    let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}");
    request("PATCH", &path, "application/merge-patch+json", &body)
}

fn request(method: &str, path: &str, content_type: &str, body: &serde_json::Value) -> Request<Vec<u8>> {
    Request::builder()
        .method(method)
        .uri(path)
        .header(http::header::CONTENT_TYPE, content_type)
        .body(body.to_string().into_bytes())
        .expect("names of stored objects are valid in a path")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_eviction_fences_the_uid_under_the_name_the_server_reads() {
        let request = eviction("shop", "web-1", "u-1");
        assert_eq!(request.uri(), "/api/v1/namespaces/shop/pods/web-1/eviction");
        let body: serde_json::Value = serde_json::from_slice(request.body()).unwrap();
        assert_eq!(body["deleteOptions"]["preconditions"], json!({ "uid": "u-1" }));
    }

    #[test]
    fn a_seat_is_one_merge_patch_with_uid_and_version() {
        let request = seat("shop", "web-1", "u-1", 12, 7);
        let body: serde_json::Value = serde_json::from_slice(request.body()).unwrap();
        assert_eq!(
            body,
            json!({ "metadata": { "uid": "u-1", "resourceVersion": "12", "annotations": {
                "spotalis.io/slot": "7", "controller.kubernetes.io/pod-deletion-cost": "-7" } } })
        );
    }
}
