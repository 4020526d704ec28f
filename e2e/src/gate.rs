//! Hands connections of the API server on to the controllers that are ready, as a Service does: one that is starting or
//! on its way out gets none.
//!
//! The readiness page is asked for every connection, so there is no moment at which the gate knows less than it could.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result};
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use kube::{Api, Client};
use serde_json::Value;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::http_get::get;
use crate::{Product, Replica, eventually};

/// The registration that the product's harness makes.
const REGISTRATION: &str = "spotalis";

/// A listening gate. Dropping it ends it; connections that it made go on.
#[derive(Debug)]
pub struct Gate {
    port: u16,
    connections: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

#[derive(Clone, Copy, Debug)]
struct Ports {
    webhook: u16,
    health: u16,
}

impl Ports {
    fn of(replica: &Replica) -> Result<Self> {
        let config: Value = serde_json::from_str(&std::fs::read_to_string(replica.config_path())?)?;
        let port = |section: &str| {
            let port = config[section]["port"].as_u64().and_then(|port| u16::try_from(port).ok());
            port.with_context(|| format!("{section}.port"))
        };
        Ok(Self { webhook: port("webhook")?, health: port("health")? })
    }

    async fn is_ready(self) -> bool {
        matches!(get(self.health, "/readyz").await, Ok((200, _)))
    }
}

impl Gate {
    /// Listens, and has the API server come through it from now on.
    pub async fn before(product: &Product, client: Client, probe: (&str, &Pod)) -> Result<Self> {
        let ports: Arc<[Ports]> = product.replicas().iter().map(Ports::of).collect::<Result<_>>()?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let connections = Arc::<AtomicUsize>::default();
        let task = tokio::spawn(accept(listener, ports, connections.clone()));
        let gate = Self { port, connections, task };
        gate.lead_through(client, probe).await?;
        Ok(gate)
    }

    async fn lead_through(&self, client: Client, (namespace, pod): (&str, &Pod)) -> Result<()> {
        let url = format!("https://127.0.0.1:{}/mutate", self.port);
        let registrations: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
        let mut registration = registrations.get(REGISTRATION).await?;
        registration.webhooks.iter_mut().flatten().for_each(|webhook| webhook.client_config.url = Some(url.clone()));
        registrations.replace(REGISTRATION, &PostParams::default(), &registration).await?;
        let pods: Api<Pod> = Api::namespaced(client, namespace);
        let trial = PostParams { dry_run: true, ..PostParams::default() };
        eventually("the API server to come through the gate", async || {
            pods.create(&trial, pod).await.ok()?;
            (self.connections.load(Ordering::Relaxed) > 0).then_some(())
        })
        .await
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, ports: Arc<[Ports]>, connections: Arc<AtomicUsize>) {
    while let Ok((inbound, _)) = listener.accept().await {
        let turn = connections.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(hand_on(inbound, ports.clone(), turn));
    }
}

async fn hand_on(mut inbound: TcpStream, ports: Arc<[Ports]>, turn: usize) {
    for ports in ports.iter().cycle().skip(turn % ports.len()).take(ports.len()) {
        if !ports.is_ready().await {
            continue;
        }
        if let Ok(mut outbound) = TcpStream::connect((Ipv4Addr::LOCALHOST, ports.webhook)).await {
            // However it ends, both sides have seen it.
            let _ = copy_bidirectional(&mut inbound, &mut outbound).await;
            return;
        }
    }
}
