//! Serves a cluster without TLS on a port of this machine, in real time: for `kubectl` and `curl`.
//!
//! `cargo run -p embedded-cluster --example serve -- 127.0.0.1:8001`

use std::error::Error;

use embedded_cluster::{Cluster, Options, Ownership};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8001".to_owned());
    let listener = TcpListener::bind(&address).await?;
    let cluster = Cluster::new(Options { ownership: Ownership::Always, ..Options::default() });
    loop {
        let (connection, _) = listener.accept().await?;
        let service = TowerToHyperService::new(cluster.service());
        tokio::spawn(async move {
            // A connection that breaks is its client's loss.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(connection), service).await;
        });
    }
}
