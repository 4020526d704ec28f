//! The listener over real sockets and real TLS: what it serves, what it refuses, and whom it never lets down.

#![expect(clippy::unwrap_used, reason = "a helper of tests fails like a test")]

mod common;

use std::convert::identity;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use common::{Authority, Client, Pair, SecretVolume, any_port};
use http::{Request, Response};
use rustls::{ClientConfig, ServerConfig};
use spotalis_webhook::certs::{Certificates, ClientVerification, Reload};
use spotalis_webhook::server::{Handler, Limits, Listener};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const PATH: &str = "/mutate";

/// Long enough never to be reached by a test that passes.
const NEVER: Duration = Duration::from_mins(10);
/// Short enough to wait for.
const SOON: Duration = Duration::from_millis(50);

/// Limits of which a test shortens the one it is about.
const LIMITS: Limits = Limits {
    connections: 64,
    body_bytes: 1000,
    handshake: NEVER,
    head: NEVER,
    body: NEVER,
    idle: NEVER,
    write: NEVER,
    grace: Duration::ZERO,
    completion: NEVER,
};

struct Server {
    address: SocketAddr,
    client: Arc<ClientConfig>,
    shutdown: CancellationToken,
    served: JoinHandle<()>,
    _volume: SecretVolume,
}

impl Server {
    async fn start(test: &str, limits: Limits, handler: impl Handler) -> Self {
        Self::start_with(test, limits, handler, identity).await
    }

    async fn start_with(
        test: &str,
        limits: Limits,
        handler: impl Handler,
        change: impl FnOnce(Arc<ServerConfig>) -> Arc<ServerConfig>,
    ) -> Self {
        let authority = Authority::new();
        let volume = SecretVolume::new(test);
        volume.publish_pair(&authority.issue());
        let certificates = Certificates::load(&volume.path, ClientVerification::Off).await.unwrap();
        let tls = change(certificates.current().webhook.clone());
        let listener = Listener::bind(any_port()).await.unwrap();
        let address = listener.address();
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        let served =
            tokio::spawn(async move { listener.serve(PATH, handler, move || tls.clone(), limits, stop).await });
        Self { address, client: authority.any_client(), shutdown, served, _volume: volume }
    }

    async fn connect(&self) -> Client {
        Client::connect(self.address, self.client.clone()).await.unwrap()
    }
}

/// Answers with the body it got.
async fn echo(request: Request<Bytes>) -> Response<Bytes> {
    Response::new(request.into_body())
}

/// Answers only as often as it is allowed to, and tells how many requests it has seen.
fn gated(gate: &Arc<Semaphore>, seen: &Arc<Semaphore>) -> impl Handler {
    let (gate, seen) = (gate.clone(), seen.clone());
    move |request: Request<Bytes>| {
        let (gate, seen) = (gate.clone(), seen.clone());
        async move {
            seen.add_permits(1);
            gate.acquire().await.unwrap().forget();
            Response::new(request.into_body())
        }
    }
}

async fn wait_for(seen: &Semaphore, requests: u32) {
    seen.acquire_many(requests).await.unwrap().forget();
}

#[tokio::test]
async fn many_requests_on_one_connection_are_served() {
    let server = Server::start("many", LIMITS, echo).await;
    let mut client = server.connect().await;
    for body in ["", "a", &"b".repeat(1000)] {
        let answer = client.post(PATH, body.as_bytes()).await.unwrap();
        assert_eq!((answer.status, answer.closes, &*answer.body), (200, false, body.as_bytes()));
    }
    assert_eq!(client.post("/mutate?timeout=2s", b"x").await.unwrap().status, 200);
}

#[tokio::test]
async fn a_body_in_pieces_is_put_together() {
    let server = Server::start("pieces", LIMITS, echo).await;
    let mut client = server.connect().await;
    client.send("POST /mutate HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
    for piece in ["5\r\nhello\r\n", "1\r\n \r\n", "5\r\nworld\r\n", "0\r\n\r\n"] {
        client.send(piece).await.unwrap();
    }
    assert_eq!(client.answer().await.unwrap().body, b"hello world");
}

#[tokio::test]
async fn other_paths_and_methods_are_refused() {
    let server = Server::start("routes", LIMITS, echo).await;
    let mut client = server.connect().await;
    for path in ["/", "/mutate/", "/Mutate", "/validate"] {
        assert_eq!(client.post(path, b"").await.unwrap().status, 404, "{path}");
    }
    for method in ["GET", "PUT", "DELETE", "OPTIONS", "PATCH"] {
        client.send(format!("{method} /mutate HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n")).await.unwrap();
        let answer = client.answer().await.unwrap();
        assert_eq!(answer.status, 405, "{method}");
        assert!(answer.head.contains("allow: post"), "{}", answer.head);
    }
}

#[tokio::test]
async fn garbage_instead_of_a_request_ends_the_connection_only() {
    let server = Server::start("garbage", LIMITS, echo).await;
    for garbage in ["\0\0\0\0\r\n\r\n", "POST\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "a: b\r\n\r\n"] {
        let mut client = server.connect().await;
        client.send(garbage).await.unwrap();
        let mut rest = Vec::new();
        let _ = client.stream.read_to_end(&mut rest).await;
        assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 4"), "{:?}", String::from_utf8_lossy(&rest));
    }
    let mut plain = TcpStream::connect(server.address).await.unwrap();
    plain.write_all(b"POST /mutate HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    let mut rest = Vec::new();
    let _ = plain.read_to_end(&mut rest).await;
    assert!(!rest.starts_with(b"HTTP"));
    assert_eq!(server.connect().await.post(PATH, b"x").await.unwrap().status, 200);
}

#[tokio::test]
async fn too_large_a_body_is_refused_declared_or_not() {
    let server = Server::start("large", LIMITS, echo).await;
    let mut declared = server.connect().await;
    declared.send("POST /mutate HTTP/1.1\r\nhost: x\r\ncontent-length: 1001\r\n\r\n").await.unwrap();
    let answer = declared.answer().await.unwrap();
    assert_eq!((answer.status, answer.closes), (413, true));

    let mut chunked = server.connect().await;
    chunked.send("POST /mutate HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
    for _ in 0..10 {
        chunked.send(format!("64\r\n{}\r\n", "x".repeat(100))).await.unwrap();
    }
    chunked.send("1\r\nx\r\n").await.unwrap();
    let answer = chunked.answer().await.unwrap();
    assert_eq!((answer.status, answer.closes), (413, true));
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let server = Server::start("slow-body", Limits { body: SOON, ..LIMITS }, echo).await;
    let mut client = server.connect().await;
    client.send("POST /mutate HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nhalf").await.unwrap();
    let answer = client.answer().await.unwrap();
    assert_eq!((answer.status, answer.closes), (408, true));
    client.closed().await;
}

#[tokio::test]
async fn a_slow_head_is_cut_off_and_an_idle_connection_is_not() {
    let server = Server::start("slow-head", Limits { head: SOON, ..LIMITS }, echo).await;
    let mut idle = server.connect().await;
    assert_eq!(idle.post(PATH, b"1").await.unwrap().status, 200);

    // The silent one; the one that stops; and the one that always sends a little more.
    server.connect().await.closed().await;
    let mut stopped = server.connect().await;
    stopped.send("POST /mutate HTTP/1.1\r\nho").await.unwrap();
    stopped.closed().await;
    let mut trickling = server.connect().await;
    trickling.send("POST /mutate HTTP/1.1\r\n").await.unwrap();
    while trickling.send("a: b\r\n").await.is_ok() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // And on a connection that was of use before.
    let mut turned = server.connect().await;
    assert_eq!(turned.post(PATH, b"1").await.unwrap().status, 200);
    turned.send("POST").await.unwrap();
    turned.closed().await;

    // By now the first connection has been idle for longer than a head may take.
    assert_eq!(idle.post(PATH, b"2").await.unwrap().status, 200);
}

#[tokio::test]
async fn an_idle_connection_is_closed_in_the_end() {
    let server = Server::start("idle", Limits { idle: SOON, ..LIMITS }, echo).await;
    let mut client = server.connect().await;
    assert_eq!(client.post(PATH, b"1").await.unwrap().status, 200);
    client.closed().await;
}

#[tokio::test]
async fn a_handshake_that_does_not_come_is_not_waited_for() {
    let server = Server::start("handshake", Limits { handshake: SOON, ..LIMITS }, echo).await;
    for beginning in [&[][..], &[0x16, 0x03, 0x01]] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(beginning).await.unwrap();
        assert!(matches!(stream.read(&mut [0; 8]).await, Ok(0) | Err(_)));
    }
}

#[tokio::test]
async fn a_flood_of_idle_connections_pushes_out_itself() {
    let server = Server::start("flood", Limits { connections: 8, ..LIMITS }, echo).await;
    let mut steady = server.connect().await;
    assert_eq!(steady.post(PATH, b"before").await.unwrap().status, 200);

    let mut silent = Vec::new();
    let mut shaken = Vec::new();
    for _ in 0..20 {
        silent.push(TcpStream::connect(server.address).await.unwrap());
        shaken.push(server.connect().await);
        // One that began a request, and will never end it.
        shaken.last_mut().unwrap().send("POST /mutate HTTP/1.1\r\n").await.unwrap();
        assert_eq!(steady.post(PATH, b"amid").await.unwrap().status, 200);
        assert_eq!(server.connect().await.post(PATH, b"new").await.unwrap().status, 200);
    }
    // Those that came first had to go.
    assert!(matches!(silent[0].read(&mut [0; 8]).await, Ok(0) | Err(_)));
    shaken[0].closed().await;
}

#[tokio::test]
async fn a_request_under_way_keeps_its_place() {
    let (gate, seen) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let server = Server::start("busy", Limits { connections: 1, ..LIMITS }, gated(&gate, &seen)).await;
    let mut client = server.connect().await;
    let busy = tokio::spawn(async move { client.post(PATH, b"mine").await.map(|answer| (answer, client)) });
    wait_for(&seen, 1).await;

    assert!(Client::connect(server.address, server.client.clone()).await.is_err());
    gate.add_permits(2);
    let (answer, mut client) = busy.await.unwrap().unwrap();
    assert_eq!(answer.body, b"mine");

    // Now it waits, and gives way to the next one.
    let mut next = server.connect().await;
    assert_eq!(next.post(PATH, b"next").await.unwrap().status, 200);
    client.closed().await;
}

#[tokio::test]
async fn tls_1_2_and_1_3_are_spoken_and_1_1_is_not() {
    let authority = Authority::new();
    let volume = SecretVolume::new("versions");
    volume.publish_pair(&authority.issue());
    let certificates = Certificates::load(&volume.path, ClientVerification::Off).await.unwrap();
    let server = Server::start_with("versions-server", LIMITS, echo, |_| certificates.current().webhook.clone()).await;
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let config = authority.client(&[version], None);
        let mut client = Client::connect(server.address, Arc::new(config)).await.unwrap();
        assert_eq!(client.stream.get_ref().1.protocol_version(), Some(version.version));
        assert_eq!(client.post(PATH, b"x").await.unwrap().status, 200);
    }
    let client = Client::connect(server.address, authority.any_client()).await.unwrap();
    assert_eq!(client.stream.get_ref().1.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));

    // The same greeting twice, but for the version it can speak.
    let first_record = async |minor_version| {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(&client_hello(minor_version)).await.unwrap();
        let mut record = [0; 7];
        stream.read_exact(&mut record).await.unwrap();
        record
    };
    assert_eq!(first_record(3).await[0], 0x16, "TLS 1.2: the handshake goes on");
    let refusal = first_record(2).await;
    assert_eq!((refusal[0], &refusal[5..]), (0x15, &[2, 70][..]), "TLS 1.1: a fatal alert, protocol version");
}

/// A `ClientHello` of TLS 1.0 + `minor_version` - 1 (RFC 5246, section 7.4.1.2) with one elliptic-curve cipher suite.
fn client_hello(minor_version: u8) -> Vec<u8> {
    let signature_algorithms = [0, 13, 0, 4, 0, 2, 4, 3];
    let groups = [0, 10, 0, 4, 0, 2, 0, 23];
    let point_formats = [0, 11, 0, 2, 1, 0];
    let extensions = [&signature_algorithms[..], &groups, &point_formats].concat();
    let cipher_suites = [0, 2, 0xc0, 0x2b];
    let (no_session, no_compression) = ([0], [1, 0]);
    let mut body = vec![3, minor_version];
    body.extend([7; 32]);
    body.extend([&no_session[..], &cipher_suites, &no_compression].concat());
    body.extend([0, u8::try_from(extensions.len()).unwrap()]);
    body.extend(extensions);
    let mut record =
        vec![0x16, 3, 1, 0, u8::try_from(body.len() + 4).unwrap(), 1, 0, 0, u8::try_from(body.len()).unwrap()];
    record.extend(body);
    record
}

#[tokio::test]
async fn http_2_is_not_spoken() {
    let authority = Authority::new();
    let volume = SecretVolume::new("alpn");
    volume.publish_pair(&authority.issue());
    let certificates = Certificates::load(&volume.path, ClientVerification::Off).await.unwrap();
    let server = Server::start_with("alpn-server", LIMITS, echo, |_| certificates.current().webhook.clone()).await;
    let offering = |protocols: &[&[u8]]| {
        let mut config = authority.client(rustls::ALL_VERSIONS, None);
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Client::connect(server.address, Arc::new(config))
    };
    assert!(offering(&[b"h2"]).await.is_err());
    let client = offering(&[b"h2", b"http/1.1"]).await.unwrap();
    assert_eq!(client.stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
}

#[tokio::test]
async fn a_certificate_is_swapped_under_load_and_nobody_notices() {
    let authority = Authority::new();
    let volume = SecretVolume::new("swap");
    let pairs: Vec<Pair> = std::iter::repeat_with(|| authority.issue()).take(4).collect();
    volume.publish_pair(&pairs[0]);
    let certificates = Arc::new(Certificates::load(&volume.path, ClientVerification::Off).await.unwrap());
    let listener = Listener::bind(any_port()).await.unwrap();
    let address = listener.address();
    let source = certificates.clone();
    let tls = move || source.current().webhook.clone();
    let served = tokio::spawn(listener.serve(PATH, echo, tls, LIMITS, CancellationToken::new()));

    let config = authority.any_client();
    let last_leaf = common::leaf(&pairs[3]);
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let (config, last_leaf) = (config.clone(), last_leaf.clone());
            tokio::spawn(async move {
                let mut kept = Client::connect(address, config.clone()).await.unwrap();
                loop {
                    let mut client = Client::connect(address, config.clone()).await.unwrap();
                    assert_eq!(client.post(PATH, b"new").await.unwrap().status, 200);
                    assert_eq!(kept.post(PATH, b"kept").await.unwrap().status, 200);
                    if client.stream.get_ref().1.peer_certificates().unwrap()[0] == last_leaf {
                        return;
                    }
                }
            })
        })
        .collect();
    for pair in &pairs[1..] {
        let mut between = Client::connect(address, config.clone()).await.unwrap();
        assert_eq!(between.post(PATH, b"between").await.unwrap().status, 200);
        volume.publish_pair(pair);
        assert!(matches!(certificates.reload().await, Reload::Loaded { .. }));
    }
    for client in clients {
        client.await.unwrap();
    }
    served.abort();
}

#[tokio::test]
async fn a_request_under_way_is_finished_after_shutdown() {
    let (gate, seen) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let server = Server::start("in-flight", LIMITS, gated(&gate, &seen)).await;
    let requests: Vec<_> = (0..5)
        .map(|_| {
            let connect = Client::connect(server.address, server.client.clone());
            tokio::spawn(async move { connect.await?.post(PATH, b"mine").await })
        })
        .collect();
    let mut idle = server.connect().await;
    wait_for(&seen, 5).await;
    server.shutdown.cancel();
    // The connection without a request goes at once; that shows that the others have outlived it.
    idle.closed().await;
    gate.add_permits(5);
    for request in requests {
        let answer = request.await.unwrap().unwrap();
        assert_eq!((answer.status, answer.closes, &*answer.body), (200, true, &b"mine"[..]));
    }
    server.served.await.unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}

#[tokio::test]
async fn a_request_that_does_not_end_does_not_hold_up_the_exit() {
    let (gate, seen) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let server = Server::start("stuck", Limits { completion: SOON, ..LIMITS }, gated(&gate, &seen)).await;
    let connect = Client::connect(server.address, server.client.clone());
    let stuck = tokio::spawn(async move { connect.await?.post(PATH, b"mine").await });
    wait_for(&seen, 1).await;
    server.shutdown.cancel();
    server.served.await.unwrap();
    assert!(stuck.await.unwrap().is_err());
}

/// Two replicas under load, and the first is told to go: it asks each client to, with an answer, and the clients come to
/// the second one. New connections to the first are served all the same, for not everybody knows yet.
#[tokio::test]
async fn a_rolling_restart_fails_no_request() {
    let leaving = Server::start("leaving", Limits { grace: NEVER, ..LIMITS }, echo).await;
    let staying = Server::start("staying", LIMITS, echo).await;
    let (moved, told) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let clients: Vec<_> = (0..16)
        .map(|_| {
            let (first, second) = (leaving.address, staying.address);
            let (first_config, second_config) = (leaving.client.clone(), staying.client.clone());
            let (moved, told) = (moved.clone(), told.clone());
            tokio::spawn(async move {
                let mut client = Client::connect(first, first_config).await.unwrap();
                loop {
                    let already_told = told.load(Ordering::SeqCst);
                    let answer = client.post(PATH, b"x").await.unwrap();
                    assert_eq!(answer.status, 200);
                    assert!(answer.closes || !already_told);
                    if answer.closes {
                        break;
                    }
                }
                client.closed().await;
                moved.fetch_add(1, Ordering::SeqCst);
                let mut client = Client::connect(second, second_config).await.unwrap();
                for _ in 0..20 {
                    let answer = client.post(PATH, b"y").await.unwrap();
                    assert_eq!((answer.status, answer.closes), (200, false));
                }
            })
        })
        .collect();
    // Some load first.
    let mut steady = leaving.connect().await;
    for _ in 0..50 {
        assert!(!steady.post(PATH, b"x").await.unwrap().closes);
    }
    assert_eq!(moved.load(Ordering::SeqCst), 0);
    leaving.shutdown.cancel();
    told.store(true, Ordering::SeqCst);
    let late = leaving.connect().await.post(PATH, b"late").await.unwrap();
    assert_eq!((late.status, late.closes), (200, true));
    for client in clients {
        client.await.unwrap();
    }
    assert!(steady.post(PATH, b"last").await.unwrap().closes);
    leaving.served.abort();
}
