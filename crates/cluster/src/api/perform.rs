//! Writes from within: what the cluster's own controllers do, by the same way as a client's requests. Admission,
//! validation, quotas and conflicts are theirs too; only HTTP is left out.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::time::sleep;

use super::body::{Expected, Sent, typed};
use super::meta::meta_text;
use super::options::{DeleteOptions, Unknown, WriteOptions};
use super::status::Status;
use super::update::Update;
use crate::cluster::Cluster;
use crate::object::Object;
use crate::resource::Kind;
use crate::store::Key;

/// A write that did not happen, in the words of the `Status` that a client would have got.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code} {reason}: {message}")]
pub struct Rejected {
    /// The HTTP status.
    pub code: u16,
    /// `reason`
    pub reason: String,
    /// `message`
    pub message: String,
}

impl From<Status> for Rejected {
    fn from(status: Status) -> Self {
        Self { code: status.code, reason: status.reason.to_owned(), message: status.message }
    }
}

/// What writes from within own.
fn options() -> WriteOptions {
    WriteOptions { manager: "kube-controller-manager".to_owned(), unknown: Unknown::Ignored, ..WriteOptions::default() }
}

/// The kind of an object that is sent, which says it itself.
fn kind_of(object: &Value) -> Result<Kind, Status> {
    let text = |field: &str| object[field].as_str().unwrap_or_default();
    let (version, name) = (text("apiVersion"), text("kind"));
    Kind::of_object(version, name)
        .ok_or_else(|| Status::bad_request(format!("no kind {name:?} in version {version:?}")))
}

impl Cluster {
    /// Creates an object.
    pub async fn create_from_within(&self, object: Value) -> Result<Arc<Object>, Rejected> {
        self.taking_time(async {
            let kind = kind_of(&object)?;
            let Sent { object, .. } = typed(object, &Expected::object(kind), Unknown::Ignored)?;
            let namespace = meta_text(&object, "namespace").to_owned();
            self.create_object(kind, &namespace, object, &options()).await
        })
        .await
    }

    /// Puts an object, or its status or finalizers, in place of what is there. Its `resourceVersion` is the precondition.
    pub async fn replace_from_within(
        &self,
        object: Value,
        subresource: Option<&'static str>,
    ) -> Result<Arc<Object>, Rejected> {
        self.taking_time(async {
            let kind = kind_of(&object)?;
            let Sent { object, .. } = typed(object, &Expected::object(kind), Unknown::Ignored)?;
            let key = Key::new(kind, meta_text(&object, "namespace"), meta_text(&object, "name"));
            let uid = Some(meta_text(&object, "uid").to_owned()).filter(|uid| !uid.is_empty());
            let update = Update {
                key,
                subresource: subresource.unwrap_or_default(),
                uid,
                creates: false,
                applies: false,
                options: &options(),
            };
            Ok(self.update(&update, |_| Ok(object.clone())).await?.object())
        })
        .await
    }

    /// Deletes the object with this UID, within so many seconds if it is given time at all.
    pub async fn delete_from_within(&self, key: &Key, uid: &str, grace: Option<u32>) -> Result<(), Rejected> {
        self.taking_time(async {
            self.admit_deletion(key, false).await?;
            let options =
                DeleteOptions { uid: Some(uid.to_owned()), grace: grace.map(i64::from), ..DeleteOptions::default() };
            self.delete_object(&mut self.state(), key, &options).map(drop)
        })
        .await
    }

    /// Gives the pod with this UID its node.
    pub async fn bind_from_within(&self, pod: &Key, uid: &str, node: &str) -> Result<(), Rejected> {
        self.taking_time(async {
            let metadata = json!({"name": &*pod.name, "uid": uid});
            self.bind_pod(pod, &json!({"metadata": metadata, "target": {"kind": "Node", "name": node}}), false)
        })
        .await
    }

    /// As long as a request takes.
    async fn taking_time<T>(&self, write: impl Future<Output = Result<T, Status>>) -> Result<T, Rejected> {
        let (there, back) = self.latency();
        if !there.is_zero() {
            sleep(there).await;
        }
        let result = write.await;
        if !back.is_zero() {
            sleep(back).await;
        }
        result.map_err(Rejected::from)
    }
}
