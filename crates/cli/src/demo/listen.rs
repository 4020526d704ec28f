//! The demo in real time, with a door: whoever has its kubeconfig can talk to the cluster.
//!
//! It listens on this machine alone, for there is neither TLS nor a password. It ends by SIGINT or SIGTERM, and takes the
//! kubeconfig with it.

use std::cell::RefCell;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use embedded_cluster::{ApiService, Cluster, Options, Ownership};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use spotalis_runtime::Clock;
use spotalis_sim::embedded::Embedded;
use spotalis_sim::play::{Terms, play};
use spotalis_sim::scenario::Scenario;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;
use tower::Service as _;

use super::DemoError;
use super::ink::{Ink, Text};
use super::narrator::{Narrator, TICK};

/// Plays, and serves until somebody ends it.
pub async fn run<W: io::Write>(
    scenario: &Scenario,
    seed: u64,
    address: SocketAddr,
    narrator: Narrator<W>,
) -> anyhow::Result<()> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let refused = |source| DemoError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(refused)?;
    let kubeconfig = Kubeconfig::write(listener.local_addr().map_err(refused)?)?;
    let terms = Terms { seed, with_spotalis: true };
    let options = Options { seed, epoch: Clock::system().now(), ownership: Ownership::Always, ..Options::default() };
    let mut stage = Embedded::of(&scenario.spotalis, terms, options).await?;
    let cluster = stage.world.cluster.clone();
    let narrator = RefCell::new(narrator);
    narrator.borrow_mut().say(&[
        Text::of(Ink::Plain, "It is played in real time. The cluster answers at ").and(Ink::Bold, kubeconfig.server()),
        Text::of(Ink::Plain, "until Ctrl-C; in another terminal: ")
            .and(Ink::Bold, format!("export KUBECONFIG={}", kubeconfig.path.display())),
        Text::default(),
    ]);
    let playing = async {
        play(scenario, terms, &mut stage, |at, moment| narrator.borrow_mut().hear(at, moment)).await?;
        let over = Text::of(Ink::Plain, "That was all. The cluster lives on until Ctrl-C.");
        narrator.borrow_mut().say(&[over]);
        std::future::pending().await
    };
    let passing = async {
        loop {
            sleep(TICK).await;
            narrator.borrow_mut().tick(TICK);
        }
    };
    tokio::select! {
        biased;
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
        played = playing => played,
        () = serve(&listener, &cluster) => Ok(()),
        () = passing => Ok(()),
    }
}

/// Lets everybody in who knocks.
async fn serve(listener: &TcpListener, cluster: &Cluster) {
    loop {
        // Too many open files, or a client that left: the next one may have more luck.
        let Ok((connection, _)) = listener.accept().await else {
            sleep(TICK).await;
            continue;
        };
        let api = cluster.service();
        tokio::spawn(async move {
            let answer = service_fn(move |request| {
                let answered = ApiService::call(&mut api.clone(), request);
                async { answered.await.map_err(io::Error::other) }
            });
            // A connection that breaks is its client's loss.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(connection), answer).await;
        });
    }
}

/// A kubeconfig in a directory of its own, which is there as long as this is.
struct Kubeconfig {
    directory: PathBuf,
    path: PathBuf,
    address: SocketAddr,
}

impl Kubeconfig {
    fn write(address: SocketAddr) -> anyhow::Result<Self> {
        let directory = std::env::temp_dir().join(format!("spotalis-demo-{}", std::process::id()));
        let refused = |path: &Path| {
            let path = path.to_owned();
            move |source| DemoError::Kubeconfig { path, source }
        };
        // Fails if it is there: it would be somebody else's.
        fs::create_dir(&directory).map_err(refused(&directory))?;
        let path = directory.join("kubeconfig");
        let kubeconfig = Self { directory, path, address };
        fs::write(&kubeconfig.path, kubeconfig.text()).map_err(refused(&kubeconfig.path))?;
        Ok(kubeconfig)
    }

    fn server(&self) -> String {
        format!("http://{}", self.address)
    }

    fn text(&self) -> String {
        let namespace = spotalis_sim::world::NAMESPACE;
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: spotalis-demo\n\
             clusters:\n- name: spotalis-demo\n  cluster: {{server: '{}'}}\n\
             contexts:\n- name: spotalis-demo\n  context: {{cluster: spotalis-demo, user: anybody, namespace: {namespace}}}\n\
             users:\n- name: anybody\n  user: {{}}\n",
            self.server()
        )
    }
}

impl Drop for Kubeconfig {
    fn drop(&mut self) {
        // Whoever removed it before us did what we wanted.
        let _ = fs::remove_dir_all(&self.directory);
    }
}
