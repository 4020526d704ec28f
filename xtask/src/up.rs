//! `cargo xtask up`: the main job on real input. Builds everything, starts a control plane whose nodes Karpenter makes, runs
//! Spotalis on it, applies `examples/`, and shows what becomes of them.
//!
//! Here is the order of things and their end. Nothing is decided about the workloads, and whatever way this process ends,
//! nothing that it started runs on.

mod build;
mod picture;
mod table;

use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use spotalis_e2e::{Product, ProductOptions, cargo};
use spotalis_rig::{Rig, RigOptions, say};
use tokio::process::Command as AsyncCommand;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep};

use crate::workspace::Workspace;
use build::Built;
use picture::Picture;
use table::{Palette, Screen, render};

/// With `--once`: what is not settled by then counts as never. Half of it is a slow machine's share.
const SETTLES_WITHIN: Duration = Duration::from_mins(2);
/// Between two pictures.
const PERIOD: Duration = Duration::from_millis(500);
/// The binary to run instead of the one that is built.
const BINARY: &str = "SPOTALIS_BIN";
/// As a shell has it: 128 and the number of SIGINT.
const INTERRUPTED: u8 = 130;

/// How to show it.
#[derive(Debug, Args)]
pub struct UpOptions {
    /// Print the table when it has settled and end, with success if every split is exact.
    #[arg(long)]
    once: bool,
    /// The name of the rig, to have several side by side. Without it, `up`; with --once, a name of its own.
    #[arg(long)]
    name: Option<String>,
}

/// Does it, and tells the exit code where that is not one of an error.
pub fn run(options: UpOptions) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(up(options))
}

async fn up(UpOptions { once, name }: UpOptions) -> Result<ExitCode> {
    // Asked for before anything starts, so that no signal finds the process unprepared.
    let mut interrupt = Interrupt::new()?;
    let workspace = Workspace::read()?;
    for command in builds(&workspace)? {
        match build::follow(command, interrupt.asked()).await? {
            Built::Done => {}
            Built::Failed(code) => return Ok(code),
            Built::Interrupted => return Ok(INTERRUPTED.into()),
        }
    }
    if named_binary().is_none() {
        return Err(start_again_with(&built_binary(&workspace)));
    }
    let name = name.unwrap_or_else(|| if once { format!("up-{}", std::process::id()) } else { "up".to_owned() });
    let stage = tokio::select! {
        biased;
        () = interrupt.asked() => return Ok(INTERRUPTED.into()),
        stage = Box::pin(Stage::raise(name, &workspace)) => stage?,
    };
    if once {
        Box::pin(stage.settle(&mut interrupt)).await
    } else {
        Box::pin(stage.live(&mut interrupt, &workspace)).await
    }
}

/// What has to be there first, each with its own progress on standard error. The programs of the control plane come
/// first: what hinders them is said before anybody waits for a compiler.
fn builds(workspace: &Workspace) -> Result<Vec<Command>> {
    let mut programs = Command::new(std::env::current_exe()?);
    programs.args(["rig", "build", "--karpenter"]);
    let mut builds = vec![programs];
    if named_binary().is_none() {
        let mut spotalis = cargo();
        spotalis.args(["build", "--release", "--package", "spotalis"]).current_dir(&workspace.root);
        builds.push(spotalis);
    }
    Ok(builds)
}

fn built_binary(workspace: &Workspace) -> PathBuf {
    workspace.target.join("release").join("spotalis")
}

/// Puts the same program in the place of this one, with the binary named. The harness finds it in the environment, which
/// a process cannot change for itself; unnamed, it would build a second time while the control plane waits. Returns only
/// if it fails.
fn start_again_with(binary: &Path) -> anyhow::Error {
    let again = std::env::current_exe().map(|program| {
        let mut command = Command::new(program);
        command.args(std::env::args_os().skip(1)).env(BINARY, binary).exec()
    });
    anyhow::Error::new(again.unwrap_or_else(|error| error)).context("cannot start this program again")
}

fn named_binary() -> Option<PathBuf> {
    std::env::var_os(BINARY).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// The wish of somebody that this should end.
struct Interrupt {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupt {
    fn new() -> Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn asked(&mut self) {
        let Self { interrupt, terminate } = self;
        tokio::select! {
            biased;
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    }
}

/// Everything that runs. Dropping it ends it, the controller before its cluster.
struct Stage {
    product: Product,
    rig: Rig,
    applied: Instant,
}

impl Stage {
    /// Starts the cluster and the controller, and applies the examples.
    async fn raise(name: String, workspace: &Workspace) -> Result<Self> {
        let rig = Rig::start(RigOptions { name: Some(name), karpenter: true, ..RigOptions::default() }).await?;
        say(format!("up: the control plane is ready after {:.1} s", rig.ready_after().as_secs_f64()));
        say(format!("up: logs and data are in {} while it runs", rig.dir().display()));
        let raised = async {
            let since = Instant::now();
            let product = Box::pin(Product::start(&rig, ProductOptions::default())).await?;
            say(format!("up: Spotalis is ready after {:.1} s", since.elapsed().as_secs_f64()));
            apply_examples(&rig, workspace).await?;
            anyhow::Ok(product)
        };
        match raised.await {
            Ok(product) => Ok(Self { product, rig, applied: Instant::now() }),
            Err(error) => {
                rig.keep();
                Err(error)
            }
        }
    }

    /// Waits until everything is as it should be, and shows that.
    async fn settle(self, interrupt: &mut Interrupt) -> Result<ExitCode> {
        let Self { product, rig, applied } = &self;
        let client = rig.client();
        let settled = async {
            loop {
                let picture = Picture::take(&client, product).await?;
                let is_late = applied.elapsed() >= SETTLES_WITHIN;
                if is_late || picture.shortfalls().is_empty() {
                    return anyhow::Ok(picture);
                }
                sleep(PERIOD).await;
            }
        };
        let picture = tokio::select! {
            biased;
            () = interrupt.asked() => return Ok(INTERRUPTED.into()),
            picture = settled => picture.inspect_err(|_| rig.keep())?,
        };
        io::stdout().write_all(render(&picture, Palette::of_stdout()).as_bytes())?;
        let shortfalls = picture.shortfalls();
        if shortfalls.is_empty() {
            say(format!("up: settled {:.1} s after the examples were applied", applied.elapsed().as_secs_f64()));
            return Ok(ExitCode::SUCCESS);
        }
        rig.keep();
        bail!("not as it should be after {} s:\n{}", SETTLES_WITHIN.as_secs(), shortfalls.join("\n"))
    }

    /// Shows what there is until somebody has seen enough.
    async fn live(self, interrupt: &mut Interrupt, workspace: &Workspace) -> Result<ExitCode> {
        let Self { product, rig, applied: _ } = &self;
        let client = rig.client();
        io::stdout().write_all(hints(rig, workspace).as_bytes())?;
        let mut screen = Screen::stdout();
        let shown = async {
            loop {
                let text = match Picture::take(&client, product).await {
                    Ok(picture) => render(&picture, Palette::of_stdout()),
                    // It may come back: whoever tries out what happens without it wants to see that, too.
                    Err(error) => format!("The API server does not answer: {error:#}\n"),
                };
                screen.show(&text)?;
                sleep(PERIOD).await;
            }
        };
        tokio::select! {
            biased;
            () = interrupt.asked() => {}
            ended = shown => return ended,
        }
        drop(self);
        say("up: all of it has ended");
        Ok(ExitCode::SUCCESS)
    }
}

async fn apply_examples(rig: &Rig, workspace: &Workspace) -> Result<()> {
    let examples = workspace.root.join("examples");
    let mut kubectl = AsyncCommand::from(rig.kubectl());
    kubectl.args(["apply", "--recursive", "--filename"]).arg(&examples);
    kubectl.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
    let applied = kubectl.status().await.context("cannot run kubectl")?;
    ensure!(applied.success(), "kubectl could not apply {}", examples.display());
    Ok(())
}

/// What to try in another terminal.
fn hints(rig: &Rig, workspace: &Workspace) -> String {
    let spotalis = named_binary().unwrap_or_else(|| built_binary(workspace));
    let mut lines = vec![format!("export KUBECONFIG={}", rig.kubeconfig_path().display())];
    if !is_on_path("kubectl") {
        lines.push(format!("alias kubectl={}", rig.kubectl().get_program().display()));
    }
    lines.extend(
        [
            "kubectl --namespace shop scale deployment web --replicas 20",
            "kubectl --namespace shop rollout restart deployment web",
            "kubectl --namespace shop annotate --overwrite deployment web spotalis.io/spot-percentage=30",
            "kubectl --namespace shop label --overwrite deployment admin spotalis.io/enabled=true",
            "kubectl --namespace shop annotate deployment admin spotalis.io/spot-percentage=50",
        ]
        .map(str::to_owned),
    );
    lines.push(format!("{} status", spotalis.display()));
    format!("\nTry in another terminal; Ctrl-C here ends all of it:\n  {}\n\n", lines.join("\n  "))
}

fn is_on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}
