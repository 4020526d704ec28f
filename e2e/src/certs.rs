//! Issues what the product presents: an authority for one test, and leaves that serve and dial alike, since replicas
//! show the same certificate to the API server and to each other.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose};

/// What a leaf is called: by its address, and as a Service would be.
const NAMES: [&str; 3] = ["127.0.0.1", "localhost", "spotalis-webhook.spotalis-system.svc"];

/// A certificate and its key, PEM.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// Its private key.
    pub key: String,
}

/// A certificate authority.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    /// A new one.
    pub fn new() -> Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        let pem = params.self_signed(&key)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), pem })
    }

    /// Its own certificate, PEM, for `caBundle`.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A new leaf.
    pub fn issue(&self) -> Result<Pair> {
        let mut params = CertificateParams::new(NAMES.map(str::to_owned))?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        Ok(Pair { certificate: params.signed_by(&key, &self.issuer)?.pem(), key: key.serialize_pem() })
    }

    /// Writes a new leaf and this authority into a directory, as a mounted Secret has them. The key goes first, so that
    /// whoever reads in between finds a pair that does not fit rather than a wrong one that does.
    pub fn write(&self, directory: &Path) -> Result<()> {
        let Pair { certificate, key } = self.issue()?;
        fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
        for (name, text) in [("tls.key", key.as_str()), ("tls.crt", &certificate), ("ca.crt", &self.pem)] {
            let path = directory.join(name);
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }
}
