//! What tests of the listener share: a certificate authority, a directory of certificate files that changes like a
//! mounted Secret, and a client that shows what happens on the wire.

#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a helper of tests fails like a test")]

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// The name on every leaf.
pub const NAME: &str = "webhook.test";

/// Any port of this machine.
pub fn any_port() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

/// A certificate and its key, in PEM.
#[derive(Clone)]
pub struct Pair {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    pub fn issue(&self) -> Pair {
        self.issue_until(2049)
    }

    /// A leaf that ends with the first day of `year`.
    pub fn issue_until(&self, year: i32) -> Pair {
        let mut params = CertificateParams::new(vec![NAME.to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().unwrap();
        Pair { certificate: params.signed_by(&key, &self.issuer).unwrap().pem(), key: key.serialize_pem() }
    }

    /// A client that trusts this authority, with or without a certificate of its own.
    pub fn client(&self, versions: &[&'static SupportedProtocolVersion], own: Option<&Pair>) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        match own {
            None => builder.with_no_client_auth(),
            Some(Pair { certificate, key }) => builder
                .with_client_auth_cert(
                    vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
                    PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
                )
                .unwrap(),
        }
    }

    pub fn any_client(&self) -> Arc<ClientConfig> {
        Arc::new(self.client(rustls::ALL_VERSIONS, None))
    }
}

pub fn leaf(pair: &Pair) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap()
}

/// A directory that changes like a mounted Secret: the files are links through `..data`, which is swapped at once.
pub struct SecretVolume {
    pub path: PathBuf,
    versions: std::cell::Cell<u32>,
}

impl SecretVolume {
    pub fn new(test: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{test}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self { path, versions: std::cell::Cell::new(0) }
    }

    pub fn publish(&self, files: &[(&str, &str)]) {
        let version = self.versions.get() + 1;
        self.versions.set(version);
        let data = format!("..version-{version}");
        fs::create_dir(self.path.join(&data)).unwrap();
        for (name, contents) in files {
            fs::write(self.path.join(&data).join(name), contents).unwrap();
            let link = self.path.join(name);
            if !link.is_symlink() {
                std::os::unix::fs::symlink(Path::new("..data").join(name), link).unwrap();
            }
        }
        let swap = self.path.join("..data_tmp");
        std::os::unix::fs::symlink(data, &swap).unwrap();
        fs::rename(swap, self.path.join("..data")).unwrap();
    }

    pub fn publish_pair(&self, pair: &Pair) {
        self.publish(&[("tls.crt", &pair.certificate), ("tls.key", &pair.key)]);
    }
}

impl Drop for SecretVolume {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// One connection.
pub struct Client {
    pub stream: TlsStream<TcpStream>,
}

/// One answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// Whether it says `Connection: close`.
    pub closes: bool,
    pub head: String,
    pub body: Vec<u8>,
}

impl Client {
    pub async fn connect(address: SocketAddr, config: Arc<ClientConfig>) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(NAME).unwrap();
        Ok(Self { stream: TlsConnector::from(config).connect(name, stream).await? })
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref()).await?;
        self.stream.flush().await
    }

    pub async fn post(&mut self, path: &str, body: &[u8]) -> io::Result<Answer> {
        let mut request =
            format!("POST {path} HTTP/1.1\r\nhost: {NAME}\r\ncontent-length: {}\r\n\r\n", body.len()).into_bytes();
        request.extend_from_slice(body);
        self.send(request).await?;
        self.answer().await
    }

    /// Reads one answer.
    pub async fn answer(&mut self) -> io::Result<Answer> {
        let mut received = Vec::new();
        let end_of_head = loop {
            if let Some(at) = received.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            self.more(&mut received).await?;
        };
        let head = String::from_utf8(received[..end_of_head].to_vec()).unwrap().to_ascii_lowercase();
        let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let length: usize = header("content-length").unwrap().parse().unwrap();
        while received.len() < end_of_head + length {
            self.more(&mut received).await?;
        }
        assert_eq!(received.len(), end_of_head + length, "more than one answer");
        Ok(Answer {
            status: head[9..12].parse().unwrap(),
            closes: header("connection") == Some("close"),
            body: received.split_off(end_of_head),
            head,
        })
    }

    async fn more(&mut self, received: &mut Vec<u8>) -> io::Result<()> {
        match self.stream.read_buf(received).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// Waits until the server closes; an answer before that is an error.
    pub async fn closed(&mut self) {
        let mut byte = [0];
        match self.stream.read(&mut byte).await {
            Ok(0) | Err(_) => {}
            Ok(_) => panic!("expected the connection to be closed, and something came"),
        }
    }
}
