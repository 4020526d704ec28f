//! `cargo xtask rig`: builds the programs of the rig, holds a rig for as long as somebody wants it, lists and ends rigs.
//!
//! What a rig is and does is decided in `spotalis-rig`; here are only the words typed and printed.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use spotalis_rig::{AuditLevel, Binaries, NodeKind, Rig, RigOptions, Standing, say, until};
use tokio::signal::unix::{SignalKind, signal};

/// A rig that is to stand in the background does so within this time, first build included.
const BACKGROUND_WITHIN: Duration = Duration::from_hours(1);

/// What to do with rigs.
#[derive(Debug, Subcommand)]
pub enum RigCommand {
    /// Build the programs that are not in the cache yet, and tell where they are.
    Build {
        /// Karpenter as well.
        #[arg(long)]
        karpenter: bool,
    },
    /// Start a rig and hold it until Ctrl-C.
    Up(Up),
    /// End a rig that runs in another terminal or in the background.
    Down {
        /// Its name.
        #[arg(long, default_value = "default")]
        name: String,
    },
    /// List the rigs that run on this machine, those of tests included.
    Status,
}

/// How the rig is to be.
#[derive(Debug, Args)]
pub struct Up {
    /// Its name, to have several side by side.
    #[arg(long, default_value = "default")]
    name: String,
    /// With Karpenter and a node pool for spot and on-demand.
    #[arg(long)]
    karpenter: bool,
    /// Nodes labelled as spot.
    #[arg(long, default_value_t = 2)]
    spot: u32,
    /// Nodes labelled as on-demand.
    #[arg(long, default_value_t = 2)]
    on_demand: u32,
    /// Record every request in `audit.jsonl` of the rig's directory.
    #[arg(long)]
    audit: bool,
    /// Return as soon as the rig is ready; `rig down` ends it.
    #[arg(long)]
    background: bool,
}

/// Does it.
pub fn run(command: RigCommand) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match command {
        RigCommand::Build { karpenter } => build(karpenter),
        RigCommand::Up(up) if up.background => runtime.block_on(up_in_background(&up)),
        RigCommand::Up(up) => runtime.block_on(hold(up)),
        RigCommand::Down { name } => runtime.block_on(down(&name)),
        RigCommand::Status => status(),
    }
}

fn build(karpenter: bool) -> Result<()> {
    let Binaries {
        etcd,
        kube_apiserver,
        kube_controller_manager,
        kube_scheduler,
        kubectl,
        kwok,
        kwok_stages: _,
        karpenter,
    } = Binaries::obtain(karpenter)?;
    let mut out = io::stdout().lock();
    for program in [etcd, kube_apiserver, kube_controller_manager, kube_scheduler, kubectl, kwok] {
        writeln!(out, "{}", program.display())?;
    }
    if let Some(karpenter) = karpenter {
        writeln!(out, "{}", karpenter.program.display())?;
    }
    Ok(())
}

/// Holds the rig in this process: it ends with it, in whatever way.
async fn hold(up: Up) -> Result<()> {
    let Up { name, karpenter, spot, on_demand, audit, background: _ } = up;
    // Asked for before anything starts, so that no signal finds the process unprepared.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let audit = audit.then_some(AuditLevel::Metadata);
    let options = RigOptions { name: Some(name), karpenter, audit, ..RigOptions::default() };
    let ready = async {
        let rig = Rig::start(options).await?;
        rig.add_nodes(spot, NodeKind::Spot).await?;
        rig.add_nodes(on_demand, NodeKind::OnDemand).await?;
        anyhow::Ok(rig)
    };
    let rig = tokio::select! {
        biased;
        _ = interrupt.recv() => return Ok(()),
        _ = terminate.recv() => return Ok(()),
        rig = ready => rig?,
    };
    say(format!("rig: {} is ready after {:.1} s; Ctrl-C ends it", rig.name(), rig.ready_after().as_secs_f64()));
    say(format!("rig: API server {}, logs in {}", rig.server(), rig.dir().display()));
    print_export(&rig.kubeconfig_path())?;
    tokio::select! {
        biased;
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    rig.stop();
    Ok(())
}

/// Starts this program again as a holder without a terminal, and waits until its rig is ready.
async fn up_in_background(up: &Up) -> Result<()> {
    let Up { name, karpenter, spot, on_demand, audit, background: _ } = up;
    let output = std::env::temp_dir().join(format!("spotalis-rig-{name}.out"));
    let log = File::create(&output).with_context(|| format!("cannot write {}", output.display()))?;
    let mut holder = Command::new(std::env::current_exe()?);
    holder.args(["rig", "up", "--name", name, "--spot", &spot.to_string(), "--on-demand", &on_demand.to_string()]);
    holder.args(karpenter.then_some("--karpenter")).args(audit.then_some("--audit"));
    // A group of its own: the Ctrl-C that ends this terminal's commands is not meant for it.
    let errors = log.try_clone()?;
    let mut holder = holder.stdin(Stdio::null()).stdout(log).stderr(errors).process_group(0).spawn()?;
    until("the rig", BACKGROUND_WITHIN, async || has_spoken(&mut holder, &output).transpose()).await??;
    let kubeconfig = Standing::named(name)?.kubeconfig;
    say(format!("rig: {name} is ready; `cargo xtask rig down --name {name}` ends it"));
    print_export(&kubeconfig)
}

/// Whether the holder printed its line, which it does when all is ready.
fn has_spoken(holder: &mut Child, output: &Path) -> Result<Option<()>> {
    let said = std::fs::read_to_string(output)?;
    if said.lines().any(|line| line.starts_with("export ")) {
        return Ok(Some(()));
    }
    if let Some(status) = holder.try_wait()? {
        bail!("the holder ended with {status}:\n{said}");
    }
    Ok(None)
}

async fn down(name: &str) -> Result<()> {
    let standing = Standing::named(name)?;
    standing.end().await?;
    say(format!("rig: {name} is down"));
    Ok(())
}

fn status() -> Result<()> {
    let mut out = io::stdout().lock();
    for standing in Standing::all()? {
        let pid = standing.pid();
        writeln!(out, "{}\tpid {pid}\t{}\t{}", standing.name, standing.server, standing.kubeconfig.display())?;
    }
    Ok(())
}

fn print_export(kubeconfig: &Path) -> Result<()> {
    writeln!(io::stdout().lock(), "export KUBECONFIG={}", kubeconfig.display())?;
    Ok(())
}
