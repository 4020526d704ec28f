//! The empty handler as a process, registered for one namespace.

use std::process::{Child, Command, Stdio};

use anyhow::Result;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use kube::api::{Api, PostParams};
use serde_json::json;
use spotalis_e2e::{Authority, Cluster, eventually, release};
use spotalis_rig::free_port;

/// The label of namespaces for which the webhook is called that answers "allowed".
pub const EMPTY: &str = "empty";
/// Its name in the API server's metrics.
pub const EMPTY_NAME: &str = "empty.spotalis.io";
/// The label for the one that answers with a patch of one label.
pub const SMALLEST: &str = "smallest";
/// Its name in the API server's metrics.
pub const SMALLEST_NAME: &str = "smallest.spotalis.io";
/// The label for the one that answers with a patch of the size of ours.
pub const CONSTANT: &str = "constant";
/// Its name in the API server's metrics.
pub const CONSTANT_NAME: &str = "constant.spotalis.io";

/// The empty handler. Dropping it ends it.
pub struct EmptyHandler {
    process: Child,
}

impl EmptyHandler {
    /// Builds it, starts it, and has it called at all of its paths.
    pub async fn start(cluster: &Cluster<'_>) -> Result<Self> {
        let program = release(&["--package", "spotalis-bench", "--bin", "empty-handler"], "empty-handler")?;
        let authority = Authority::new()?;
        let directory = cluster.rig().dir().join("empty-handler");
        authority.write(&directory)?;
        let port = free_port()?;
        let process = Command::new(program)
            .arg(port.to_string())
            .args([directory.join("tls.crt"), directory.join("tls.key")])
            .stdin(Stdio::null())
            .spawn()?;
        let handler = Self { process };
        eventually("the empty handler to listen", async || {
            tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok().map(drop)
        })
        .await?;
        register(cluster, port, authority.pem()).await?;
        Ok(handler)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for EmptyHandler {
    fn drop(&mut self) {
        // It may have ended by itself, and then there is nothing to do.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

async fn register(cluster: &Cluster<'_>, port: u16, authority: &str) -> Result<()> {
    let webhook = |name: &str, label: &str, path: &str| {
        json!({
            "name": name,
            "admissionReviewVersions": ["v1"],
            "clientConfig": {
                "url": format!("https://127.0.0.1:{port}/{path}"),
                "caBundle": k8s_openapi::ByteString(authority.as_bytes().to_vec()),
            },
            "failurePolicy": "Fail",
            "sideEffects": "None",
            "timeoutSeconds": 10,
            "namespaceSelector": { "matchLabels": { label: "true" } },
            "rules": [{ "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"] }],
        })
    };
    let configuration: MutatingWebhookConfiguration = serde_json::from_value(json!({
        "metadata": { "name": "empty" },
        "webhooks": [
            webhook(EMPTY_NAME, EMPTY, "mutate"),
            webhook(SMALLEST_NAME, SMALLEST, "smallest"),
            webhook(CONSTANT_NAME, CONSTANT, "patch"),
        ],
    }))?;
    let api: Api<MutatingWebhookConfiguration> = Api::all(cluster.client());
    api.create(&PostParams::default(), &configuration).await?;
    Ok(())
}
