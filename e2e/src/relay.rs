//! Hands TCP connections on to several ports in turn, byte by byte, so that one registration reaches all replicas.
//!
//! A port that refuses is passed over, as a Service does with an endpoint that is not ready. What is said on a connection
//! is not looked at.

use std::net::Ipv4Addr;
use std::sync::Arc;

use anyhow::Result;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A listening relay. Dropping it ends it; connections that it made go on.
#[derive(Debug)]
pub struct Relay {
    port: u16,
    task: JoinHandle<()>,
}

impl Relay {
    /// Listens on a port of its own and hands on to `ports`.
    pub async fn start(ports: Vec<u16>) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        Ok(Self { port, task: tokio::spawn(accept(listener, ports.into())) })
    }

    /// Where it listens.
    pub const fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, ports: Arc<[u16]>) {
    let mut turn = 0;
    while let Ok((inbound, _)) = listener.accept().await {
        let ports = ports.clone();
        tokio::spawn(hand_on(inbound, ports, turn));
        turn += 1;
    }
}

async fn hand_on(mut inbound: TcpStream, ports: Arc<[u16]>, turn: usize) {
    for port in ports.iter().cycle().skip(turn % ports.len()).take(ports.len()) {
        if let Ok(mut outbound) = TcpStream::connect((Ipv4Addr::LOCALHOST, *port)).await {
            // However it ends, both sides have seen it.
            let _ = copy_bidirectional(&mut inbound, &mut outbound).await;
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// A server that greets everybody with one byte.
    async fn greeter(byte: u8) -> u16 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                stream.write_all(&[byte]).await.unwrap();
            }
        });
        port
    }

    async fn greeted(port: u16) -> u8 {
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap().read_u8().await.unwrap()
    }

    #[tokio::test]
    async fn takes_turns_and_passes_over_the_dead() {
        let closed = spotalis_rig::free_port().unwrap();
        let relay = Relay::start(vec![greeter(1).await, closed, greeter(2).await]).await.unwrap();
        let mut heard = Vec::new();
        for _ in 0..6 {
            heard.push(greeted(relay.port()).await);
        }
        assert_eq!(heard, [1, 2, 2, 1, 2, 2]);
    }
}
