//! TLS from files: what the listeners present and whom they trust, read anew when the files change.
//!
//! `tls.crt` and `tls.key` lie in one directory, as in a mounted `kubernetes.io/tls` Secret; `ca.crt` beside them makes
//! mutual TLS between our own replicas possible. Everything is replaced at once or not at all: files that do not fit
//! together leave in place what is served. Files are told apart by their contents, since a Secret volume swaps a
//! symbolic link under them. Nothing here renews or writes a certificate.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::Offset;
use parking_lot::Mutex;
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::{CryptoProvider, ring};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// HTTP/1.1 alone: one protocol less to be attacked through, and the API server speaks it as readily.
const ALPN: &[u8] = b"http/1.1";

/// Who may talk to the webhook.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ClientVerification {
    /// Anybody who reaches the port.
    #[default]
    Off,
    /// Clients with a certificate of an authority in this PEM file.
    Authority(PathBuf),
}

/// Why the files cannot be used. Never quotes them: one of them is a key.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file is not there or may not be read.
    #[error(
        "cannot read {path}; certificates need `tls.crt` and `tls.key` in `webhook.certDir`, as a mounted Secret of \
             type kubernetes.io/tls has them"
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// No certificate in a file that should have one.
    #[error("{path} holds no PEM certificate, or a broken one; it needs sections BEGIN CERTIFICATE, the leaf first")]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// No key in the key file.
    #[error(
        "{path} holds no usable private key; it needs one PEM section BEGIN PRIVATE KEY (or RSA, or EC), unencrypted"
    )]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// Both are fine and do not belong together, or the certificate is none.
    #[error(
        "{certificate} and {key} cannot be used together; write both from the same issue, the leaf certificate first"
    )]
    Mismatch {
        /// The certificate file.
        certificate: PathBuf,
        /// The key file.
        key: PathBuf,
        /// What rustls said.
        source: rustls::Error,
    },
    /// An authority that cannot be trusted.
    #[error("{path} cannot serve as a certificate authority")]
    Authority {
        /// The file.
        path: PathBuf,
        /// What rustls said.
        source: AuthorityError,
    },
}

/// What rustls says about an authority.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// Of one certificate.
    #[error(transparent)]
    Certificate(#[from] rustls::Error),
    /// Of all of them.
    #[error(transparent)]
    Verifier(#[from] rustls::client::VerifierBuilderError),
}

/// Ready configurations for every listener and dialler.
#[derive(Clone, Debug)]
pub struct Tls {
    /// For the webhook's port.
    pub webhook: Arc<ServerConfig>,
    /// For the port between our own replicas; only where there is a `ca.crt`.
    pub peer: Option<PeerTls>,
    /// A name in the leaf certificate. All replicas share the certificate, so it is also the name of every other one.
    pub name: Option<ServerName<'static>>,
    /// When the leaf certificate ends; `None` where it does not say so readably.
    pub not_after: Option<Timestamp>,
}

/// Mutual TLS between our own replicas: both sides present `tls.crt` and trust `ca.crt` alone.
#[derive(Clone, Debug)]
pub struct PeerTls {
    /// For the side that listens.
    pub server: Arc<ServerConfig>,
    /// For the side that dials.
    pub client: Arc<ClientConfig>,
}

/// What a look at the files found.
#[derive(Debug)]
pub enum Reload {
    /// The files are as they were at the last look, or are being written.
    Unchanged,
    /// New files are in use.
    Loaded {
        /// When their leaf ends.
        not_after: Option<Timestamp>,
    },
    /// New files are not fit for use; the old ones stay.
    Rejected(CertificateError),
}

/// The files, and what was made of them last.
#[derive(Debug)]
pub struct Certificates {
    files: Files,
    current: watch::Sender<Arc<Tls>>,
    /// Of what was looked at last, whether it was fit for use or not.
    seen: Mutex<u64>,
}

impl Certificates {
    /// Reads the files for the first time.
    pub async fn load(directory: &Path, verification: ClientVerification) -> Result<Self, CertificateError> {
        let files = Files::of(directory, verification);
        let contents = files.read().await?;
        let tls = files.build(&contents)?;
        Ok(Self { files, current: watch::Sender::new(Arc::new(tls)), seen: Mutex::new(fingerprint(&Ok(contents))) })
    }

    /// What to use for the next connection. Those that are open keep what they began with.
    pub fn current(&self) -> Arc<Tls> {
        self.current.borrow().clone()
    }

    /// Looks at the files once. Files that change under the look are left for the next one.
    pub async fn reload(&self) -> Reload {
        let first_look = fingerprint(&self.files.read().await);
        if *self.seen.lock() == first_look {
            return Reload::Unchanged;
        }
        let contents = self.files.read().await;
        if fingerprint(&contents) != first_look {
            return Reload::Unchanged;
        }
        *self.seen.lock() = first_look;
        match contents.and_then(|contents| self.files.build(&contents)) {
            Ok(tls) => {
                let not_after = tls.not_after;
                self.current.send_replace(Arc::new(tls));
                Reload::Loaded { not_after }
            }
            Err(error) => Reload::Rejected(error),
        }
    }

    /// Looks at the files `every` so often until `stop`, and reports what is new. A rejection is reported once, not at
    /// every look.
    pub async fn watch(&self, every: Duration, stop: CancellationToken, report: impl Fn(&Reload)) {
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            match self.reload().await {
                Reload::Unchanged => {}
                news @ (Reload::Loaded { .. } | Reload::Rejected(_)) => report(&news),
            }
        }
    }
}

/// Where everything lies.
#[derive(Debug)]
struct Files {
    certificate: PathBuf,
    key: PathBuf,
    /// May be absent.
    peer_authority: PathBuf,
    client_authority: Option<PathBuf>,
}

/// What lies there.
#[derive(Hash)]
struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
    peer_authority: Option<Vec<u8>>,
    client_authority: Option<Vec<u8>>,
}

/// Instead of the contents themselves, so that the key is not kept a second time.
fn fingerprint(contents: &Result<Contents, CertificateError>) -> u64 {
    let mut hasher = DefaultHasher::new();
    match contents {
        Ok(contents) => contents.hash(&mut hasher),
        Err(error) => error.to_string().hash(&mut hasher),
    }
    hasher.finish()
}

impl Files {
    fn of(directory: &Path, verification: ClientVerification) -> Self {
        Self {
            certificate: directory.join("tls.crt"),
            key: directory.join("tls.key"),
            peer_authority: directory.join("ca.crt"),
            client_authority: match verification {
                ClientVerification::Off => None,
                ClientVerification::Authority(path) => Some(path),
            },
        }
    }

    async fn read(&self) -> Result<Contents, CertificateError> {
        let peer_authority = match read(&self.peer_authority).await {
            Err(CertificateError::Unreadable { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => None,
            contents => Some(contents?),
        };
        let client_authority = match &self.client_authority {
            None => None,
            Some(path) => Some(read(path).await?),
        };
        let (certificate, key) = (read(&self.certificate).await?, read(&self.key).await?);
        Ok(Contents { certificate, key, peer_authority, client_authority })
    }

    fn build(&self, contents: &Contents) -> Result<Tls, CertificateError> {
        let Contents { certificate, key, peer_authority, client_authority } = contents;
        let provider = Arc::new(ring::default_provider());
        let chain = certificates(&self.certificate, certificate)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| CertificateError::NoKey { path: self.key.clone() })?;
        let not_after = chain.first().and_then(|leaf| not_after(leaf));
        let name = chain.first().and_then(name_of);
        let certified = CertifiedKey::from_der(chain, key, &provider).map_err(|source| CertificateError::Mismatch {
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            source,
        })?;
        let certified = Arc::new(certified);
        let client_roots = match (&self.client_authority, client_authority) {
            (Some(path), Some(pem)) => Some((path, roots(path, pem)?)),
            (_, _) => None,
        };
        let peer = match peer_authority {
            None => None,
            Some(pem) => Some(self.peer(&certified, roots(&self.peer_authority, pem)?, &provider)?),
        };
        let client_roots = client_roots.as_ref().map(|(path, roots)| (path.as_path(), roots.clone()));
        Ok(Tls { webhook: server(&certified, client_roots, &provider)?, peer, name, not_after })
    }

    fn peer(
        &self,
        certified: &Arc<CertifiedKey>,
        roots: Arc<RootCertStore>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<PeerTls, CertificateError> {
        let path = self.peer_authority.as_path();
        let verifier = WebPkiServerVerifier::builder_with_provider(roots.clone(), provider.clone())
            .build()
            .map_err(|error| authority_error(path, error))?;
        let mut client = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .expect("ring has cipher suites for TLS 1.2 and 1.3")
            .with_webpki_verifier(verifier)
            .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified.clone())));
        client.alpn_protocols = vec![ALPN.to_vec()];
        Ok(PeerTls { server: server(certified, Some((path, roots)), provider)?, client: Arc::new(client) })
    }
}

/// TLS 1.3 and 1.2. Sessions are not resumed: the API server keeps its connections and offers no tickets, so storing
/// sessions would only cost memory.
fn server(
    certified: &Arc<CertifiedKey>,
    clients: Option<(&Path, Arc<RootCertStore>)>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<ServerConfig>, CertificateError> {
    let verifier = match clients {
        None => WebPkiClientVerifier::no_client_auth(),
        Some((path, roots)) => WebPkiClientVerifier::builder_with_provider(roots, provider.clone())
            .build()
            .map_err(|error| authority_error(path, error))?,
    };
    let mut config = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("ring has cipher suites for TLS 1.2 and 1.3")
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified.clone())));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// The first DNS name of a leaf that is no wildcard.
fn name_of(leaf: &CertificateDer<'_>) -> Option<ServerName<'static>> {
    let leaf = webpki::EndEntityCert::try_from(leaf).ok()?;
    leaf.valid_dns_names().find_map(|name| ServerName::try_from(name.to_owned()).ok())
}

async fn read(path: &Path) -> Result<Vec<u8>, CertificateError> {
    tokio::fs::read(path).await.map_err(|source| CertificateError::Unreadable { path: path.to_owned(), source })
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        Ok(_) | Err(_) => Err(CertificateError::NoCertificate { path: path.to_owned() }),
    }
}

fn roots(path: &Path, pem: &[u8]) -> Result<Arc<RootCertStore>, CertificateError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path, pem)? {
        roots.add(certificate).map_err(|error| authority_error(path, error))?;
    }
    Ok(Arc::new(roots))
}

fn authority_error(path: &Path, source: impl Into<AuthorityError>) -> CertificateError {
    CertificateError::Authority { path: path.to_owned(), source: source.into() }
}

/// When a certificate ends: the second time of its `validity` (RFC 5280, section 4.1). The rest of it is rustls' to
/// judge.
fn not_after(certificate: &[u8]) -> Option<Timestamp> {
    const SEQUENCE: u8 = 0x30;
    const INTEGER: u8 = 0x02;
    const VERSION: u8 = 0xa0;

    let mut to_be_signed = Der(Der(Der(certificate).expect(SEQUENCE)?).expect(SEQUENCE)?);
    if to_be_signed.clone().expect(VERSION).is_some() {
        to_be_signed.next()?;
    }
    to_be_signed.expect(INTEGER)?; // serial number
    to_be_signed.expect(SEQUENCE)?; // signature algorithm
    to_be_signed.expect(SEQUENCE)?; // issuer
    let mut validity = Der(to_be_signed.expect(SEQUENCE)?);
    validity.next()?; // not before
    let (tag, time) = validity.next()?;
    time_of(tag, std::str::from_utf8(time).ok()?)
}

/// `YYMMDDHHMMSSZ` with years 1950 to 2049, or `YYYYMMDDHHMMSSZ` (RFC 5280, section 4.1.2.5).
fn time_of(tag: u8, text: &str) -> Option<Timestamp> {
    const UTC_TIME: u8 = 0x17;
    const GENERALIZED_TIME: u8 = 0x18;

    let digits = text.strip_suffix('Z').filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
    let (year, rest) = match (tag, digits.len()) {
        (UTC_TIME, 12) => {
            let year: i16 = digits[..2].parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, &digits[2..])
        }
        (GENERALIZED_TIME, 14) => (digits[..4].parse().ok()?, &digits[4..]),
        _ => return None,
    };
    let [month, day, hour, minute, second] = [0, 2, 4, 6, 8].map(|at| rest[at..at + 2].parse::<i8>().ok());
    let time = DateTime::new(year, month?, day?, hour?, minute?, second?, 0).ok()?;
    Offset::UTC.to_timestamp(time).ok()
}

/// A run of DER elements (X.690), of which only lengths and tags are looked at.
#[derive(Clone)]
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&[tag, first], rest) = self.0.split_first_chunk()?;
        let (length, rest) = if first < 0x80 {
            (usize::from(first), rest)
        } else {
            let (octets, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (
                octets
                    .iter()
                    .try_fold(0_usize, |length, octet| Some(length.checked_mul(256)? + usize::from(*octet)))?,
                rest,
            )
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }

    fn expect(&mut self, wanted: u8) -> Option<&'a [u8]> {
        self.next().filter(|(tag, _)| *tag == wanted).map(|(_, content)| content)
    }
}
