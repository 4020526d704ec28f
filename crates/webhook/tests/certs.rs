//! Certificate files: what is refused and how it is said, what happens when they change, and whom they let in.

#![expect(clippy::unwrap_used, reason = "a helper of tests fails like a test")]

mod common;

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::{Authority, Client, Pair, SecretVolume, any_port};
use http::{Request, Response};
use parking_lot::Mutex;
use rustls::{ClientConfig, ServerConfig};
use spotalis_webhook::certs::{CertificateError, Certificates, ClientVerification, Reload};
use spotalis_webhook::server::{Limits, Listener};
use tokio_util::sync::CancellationToken;

async fn echo(request: Request<Bytes>) -> Response<Bytes> {
    Response::new(request.into_body())
}

/// Whether a client with this configuration gets an answer from a server with that one.
async fn answers(server: Arc<ServerConfig>, client: Arc<ClientConfig>) -> bool {
    let listener = Listener::bind(any_port()).await.unwrap();
    let address = listener.address();
    let serve = listener.serve("/", echo, move || server.clone(), Limits::default(), CancellationToken::new());
    let exchange = async { Client::connect(address, client).await?.post("/", b"x").await };
    tokio::select! {
        () = serve => unreachable!("it was not told to stop"),
        answer = exchange => answer.is_ok_and(|answer| answer.body == b"x"),
    }
}

#[tokio::test]
async fn bad_files_are_refused_with_their_path_and_without_their_contents() {
    let authority = Authority::new();
    let (pair, other) = (authority.issue(), authority.issue());
    let Pair { certificate, key } = &pair;
    let ca = &authority.pem;
    let broken_key = key.replace("MI", "??");
    let broken_certificate = certificate.replacen("MI", "??", 1);
    for (case, files, path, says) in [
        ("nothing", vec![], "tls.crt", "cannot read"),
        ("no-key", vec![("tls.crt", certificate)], "tls.key", "cannot read"),
        ("no-certificate", vec![("tls.key", key)], "tls.crt", "cannot read"),
        ("swapped", vec![("tls.crt", key), ("tls.key", certificate)], "tls.crt", "holds no PEM certificate"),
        (
            "broken-certificate",
            vec![("tls.crt", &broken_certificate), ("tls.key", key)],
            "tls.crt",
            "BEGIN CERTIFICATE",
        ),
        ("broken-key", vec![("tls.crt", certificate), ("tls.key", &broken_key)], "tls.key", "no usable private key"),
        (
            "key-is-certificate",
            vec![("tls.crt", certificate), ("tls.key", certificate)],
            "tls.key",
            "BEGIN PRIVATE KEY",
        ),
        ("mismatch", vec![("tls.crt", certificate), ("tls.key", &other.key)], "tls.crt", "cannot be used together"),
        ("empty", vec![("tls.crt", &String::new()), ("tls.key", key)], "tls.crt", "holds no PEM certificate"),
        ("ca", vec![("tls.crt", certificate), ("tls.key", key), ("ca.crt", key)], "ca.crt", "holds no PEM certificate"),
        ("authority", vec![("tls.crt", certificate), ("tls.key", key), ("ca.crt", ca)], "clients.crt", "cannot read"),
    ] {
        let volume = SecretVolume::new(&format!("bad-{case}"));
        let files: Vec<(&str, &str)> = files.into_iter().map(|(name, text)| (name, text.as_str())).collect();
        volume.publish(&files);
        let verification = ClientVerification::Authority(volume.path.join("clients.crt"));
        if case != "authority" {
            fs::write(volume.path.join("clients.crt"), ca).unwrap();
        }
        let error = Certificates::load(&volume.path, verification).await.unwrap_err();
        let message = error.to_string();
        assert!(
            message.contains(volume.path.join(path).to_str().unwrap()) && message.contains(says),
            "{case}: {message}"
        );
        let key_body = key.lines().nth(1).unwrap();
        assert!(!format!("{error:?}").contains(key_body), "{case}: {error:?}");
    }
}

#[tokio::test]
async fn a_directory_that_may_not_be_read_says_so() {
    let volume = SecretVolume::new("not-a-directory");
    let file = volume.path.join("file");
    fs::write(&file, "").unwrap();
    let error = Certificates::load(&file, ClientVerification::Off).await.unwrap_err();
    assert!(matches!(error, CertificateError::Unreadable { .. }), "{error:?}");
}

#[tokio::test]
async fn the_end_of_the_leaf_is_known_in_both_spellings() {
    let authority = Authority::new();
    // RFC 5280 has two digits of the year until 2049, and four from 2050 on.
    for (year, expected) in
        [(2030, "2030-01-01T00:00:00Z"), (2049, "2049-01-01T00:00:00Z"), (2051, "2051-01-01T00:00:00Z")]
    {
        let volume = SecretVolume::new(&format!("until-{year}"));
        volume.publish_pair(&authority.issue_until(year));
        let certificates = Certificates::load(&volume.path, ClientVerification::Off).await.unwrap();
        assert_eq!(certificates.current().not_after.unwrap().to_string(), expected);
    }
}

#[tokio::test]
async fn new_files_are_used_and_bad_ones_leave_the_old_in_place() {
    let authority = Authority::new();
    let volume = SecretVolume::new("reload");
    let (old, new) = (authority.issue_until(2040), authority.issue_until(2041));
    volume.publish_pair(&old);
    let certificates = Certificates::load(&volume.path, ClientVerification::Off).await.unwrap();
    let end = || certificates.current().not_after.unwrap().to_string();
    assert!(matches!(certificates.reload().await, Reload::Unchanged));

    volume.publish_pair(&Pair { certificate: new.certificate.clone(), key: old.key.clone() });
    assert!(matches!(certificates.reload().await, Reload::Rejected(CertificateError::Mismatch { .. })));
    assert!(matches!(certificates.reload().await, Reload::Unchanged), "once is enough");
    assert!(end().starts_with("2040"));

    fs::remove_file(volume.path.join("tls.key")).unwrap();
    assert!(matches!(certificates.reload().await, Reload::Rejected(CertificateError::Unreadable { .. })));
    assert!(matches!(certificates.reload().await, Reload::Unchanged));
    assert!(end().starts_with("2040"));

    volume.publish_pair(&new);
    assert!(matches!(certificates.reload().await, Reload::Loaded { not_after: Some(_) }));
    assert!(end().starts_with("2041"));
    assert!(answers(certificates.current().webhook.clone(), authority.any_client()).await);
}

#[tokio::test]
async fn watching_reports_each_change_until_it_is_stopped() {
    let authority = Authority::new();
    let volume = SecretVolume::new("watch");
    volume.publish_pair(&authority.issue());
    let certificates = Certificates::load(&volume.path, ClientVerification::Off).await.unwrap();
    let stop = CancellationToken::new();
    let reports = Mutex::new(Vec::new());
    volume.publish(&[("tls.crt", "nothing"), ("tls.key", "nothing")]);
    certificates
        .watch(Duration::from_millis(1), stop.clone(), |reload| {
            let mut reports = reports.lock();
            match reload {
                Reload::Unchanged => reports.push("unchanged"),
                Reload::Loaded { .. } => {
                    reports.push("loaded");
                    stop.cancel();
                }
                Reload::Rejected(_) => {
                    reports.push("rejected");
                    volume.publish_pair(&authority.issue());
                }
            }
        })
        .await;
    assert_eq!(*reports.lock(), ["rejected", "loaded"]);
}

#[tokio::test]
async fn clients_are_verified_where_that_is_asked_for() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let volume = SecretVolume::new("verified");
    volume.publish_pair(&ours.issue());
    let clients = volume.path.join("clients.crt");
    fs::write(&clients, &theirs.pem).unwrap();
    let certificates = Certificates::load(&volume.path, ClientVerification::Authority(clients)).await.unwrap();
    for versions in [[&rustls::version::TLS12], [&rustls::version::TLS13]] {
        for (own, expected) in [(None, false), (Some(ours.issue()), false), (Some(theirs.issue()), true)] {
            let client = Arc::new(ours.client(&versions, own.as_ref()));
            assert_eq!(answers(certificates.current().webhook.clone(), client).await, expected, "{versions:?}");
        }
    }
}

#[tokio::test]
async fn replicas_know_each_other_by_their_own_authority() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let volume = SecretVolume::new("peers");
    let Pair { certificate, key } = ours.issue();
    volume.publish(&[("tls.crt", &certificate), ("tls.key", &key), ("ca.crt", &ours.pem)]);
    let certificates = Certificates::load(&volume.path, ClientVerification::Off).await.unwrap();
    let peer = certificates.current().peer.clone().unwrap();

    assert!(answers(peer.server.clone(), peer.client.clone()).await);
    assert!(!answers(peer.server.clone(), ours.any_client()).await);
    let stranger = Arc::new(ours.client(rustls::ALL_VERSIONS, Some(&theirs.issue())));
    assert!(!answers(peer.server, stranger).await);
    // A ca.crt beside the pair is no reason to ask the API server for a certificate.
    assert!(answers(certificates.current().webhook.clone(), ours.any_client()).await);

    let impostor = SecretVolume::new("impostor");
    impostor.publish_pair(&theirs.issue());
    let impostor = Certificates::load(&impostor.path, ClientVerification::Off).await.unwrap();
    assert!(impostor.current().peer.is_none());
    assert!(!answers(impostor.current().webhook.clone(), peer.client).await);
}
