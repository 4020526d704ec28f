//! A cluster with a client, and requests as they would be typed.

use embedded_cluster::{Cluster, Options};
use http::Request;
use kube::Client;
use serde_json::{Value, json};

pub const MERGE: &str = "application/merge-patch+json";
pub const STRATEGIC: &str = "application/strategic-merge-patch+json";
pub const JSON: &str = "application/json-patch+json";
pub const APPLY: &str = "application/apply-patch+yaml";

pub struct World {
    pub cluster: Cluster,
    pub client: Client,
}

impl World {
    pub fn new() -> Self {
        Self::with(Options::default())
    }

    pub fn with(options: Options) -> Self {
        let cluster = Cluster::new(options);
        let client = Client::new(cluster.service(), "default");
        Self { cluster, client }
    }

    /// The code and the JSON of an answer; a text that is no JSON as a JSON text.
    pub async fn ask(&self, method: &str, path: &str, media: &str, body: &Value) -> (u16, Value) {
        let bytes = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let request =
            Request::builder().method(method).uri(path).header("content-type", media).body(bytes.into()).unwrap();
        let response = self.client.send(request).await.unwrap();
        let code = response.status().as_u16();
        let bytes = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        (code, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        self.ask("GET", path, "application/json", &Value::Null).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.ask("POST", path, "application/json", body).await
    }

    pub async fn put(&self, path: &str, body: &Value) -> (u16, Value) {
        self.ask("PUT", path, "application/json", body).await
    }

    pub async fn patch(&self, path: &str, media: &str, body: &Value) -> (u16, Value) {
        self.ask("PATCH", path, media, body).await
    }

    pub async fn delete(&self, path: &str, body: &Value) -> (u16, Value) {
        self.ask("DELETE", path, "application/json", body).await
    }

    /// Creates something that must be fine.
    pub async fn made(&self, path: &str, body: &Value) -> Value {
        let (code, object) = self.post(path, body).await;
        assert_eq!(code, 201, "{object}");
        object
    }
}

pub const PODS: &str = "/api/v1/namespaces/default/pods";
pub const MAPS: &str = "/api/v1/namespaces/default/configmaps";

pub fn pod(name: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"app": "a"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}})
}

/// A pod that a node runs.
pub fn on_node(name: &str) -> Value {
    let mut pod = pod(name);
    pod["spec"]["nodeName"] = "n".into();
    pod
}

pub fn map(name: &str) -> Value {
    json!({"metadata": {"name": name}, "data": {"k": "v"}})
}

/// Code, reason and message of a refusal.
pub fn why((code, status): &(u16, Value)) -> (u16, String, String) {
    let text = |field: &str| status[field].as_str().unwrap_or_default().to_owned();
    (*code, text("reason"), text("message"))
}
