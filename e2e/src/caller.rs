//! Talks to the webhook's own port without an API server in between: the reviews that no API server would send, and
//! connections on which nothing is ever asked.
//!
//! Bytes go out as they were given. What comes back is taken apart only as far as status and body.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::Replica;

/// An answer that takes longer is none.
const LIMIT: Duration = Duration::from_secs(20);

/// A client of one controller's webhook.
#[derive(Clone)]
pub struct Caller {
    port: u16,
    tls: Arc<ClientConfig>,
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: String,
}

impl Heard {
    /// The body as JSON; null if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }
}

impl Caller {
    /// Of the controller's webhook, trusting the authority that lies beside its certificate.
    pub fn of(replica: &Replica) -> Result<Self> {
        let config: Value = serde_json::from_str(&fs::read_to_string(replica.config_path())?)?;
        let webhook = &config["webhook"];
        let port = webhook["port"].as_u64().and_then(|port| u16::try_from(port).ok()).context("a port")?;
        let directory = Path::new(webhook["certDir"].as_str().context("a directory")?);
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(directory.join("ca.crt"))?)?;
        let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { port, tls: Arc::new(tls) })
    }

    /// A connection on which nothing was said, not even a greeting.
    pub async fn dial(&self) -> Result<TcpStream> {
        Ok(TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).await?)
    }

    /// A connection on which a request may be sent.
    pub async fn connect(&self) -> Result<TlsStream<TcpStream>> {
        let name = ServerName::from(std::net::IpAddr::from(Ipv4Addr::LOCALHOST));
        let connect =
            async { anyhow::Ok(TlsConnector::from(self.tls.clone()).connect(name, self.dial().await?).await?) };
        timeout(LIMIT, connect).await.context("no connection in time")?
    }

    /// The certificate that a new connection is shown, DER.
    pub async fn certificate(&self) -> Result<Vec<u8>> {
        let stream = self.connect().await?;
        let (_, session) = stream.get_ref();
        let chain = session.peer_certificates().context("a server shows a certificate")?;
        Ok(chain.first().context("a leaf")?.to_vec())
    }

    /// What comes back to `POST /mutate` with this body.
    pub async fn post(&self, body: impl AsRef<[u8]>) -> Result<Heard> {
        let body = body.as_ref();
        let head = format!(
            "POST /mutate HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
             connection: close\r\n\r\n",
            body.len()
        );
        self.say(&[head.as_bytes(), body].concat()).await
    }

    /// What comes back to these bytes. The connection is to be closed by the other side.
    pub async fn say(&self, bytes: &[u8]) -> Result<Heard> {
        timeout(LIMIT, self.exchange(bytes)).await.context("no answer in time")?
    }

    async fn exchange(&self, bytes: &[u8]) -> Result<Heard> {
        let (mut read, mut write) = tokio::io::split(self.connect().await?);
        let mut answer = Vec::new();
        let heard = async {
            // One who does not want to hear more closes the connection; what was answered before counts.
            let (_, _) = tokio::join!(write.write_all(bytes), read.read_to_end(&mut answer));
        };
        heard.await;
        let answer = String::from_utf8(answer).context("an answer that is no text")?;
        let (head, body) = answer.split_once("\r\n\r\n").context("an answer without an end of its head")?;
        let status = head.split(' ').nth(1).context("an answer without a status")?.parse()?;
        Ok(Heard { status, body: body.to_owned() })
    }
}
