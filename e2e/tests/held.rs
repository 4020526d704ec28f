//! The commands of `cargo xtask` that hold a control plane, used as on a terminal: what they start ends with them, and what
//! they say of it is so.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use spotalis_e2e::{Attempt, Process, binary, cargo, eventually, scenario};
use spotalis_rig::{RigOptions, Standing, on_rig};

/// Going away takes well below a second.
const ENDING: Duration = Duration::from_secs(30);

#[tokio::test]
async fn what_they_start_ends_with_them() -> Result<()> {
    // The rig is only there to skip where there can be none, and for its directory.
    on_rig(RigOptions::default(), async |rig| {
        let xtask = Xtask { program: program()?, directory: rig.dir().to_owned() };
        scenario("rig up and Ctrl-C", held_in_a_terminal(&xtask)).await?;
        scenario("rig up --background and down", held_in_the_background(&xtask)).await?;
        scenario("KUBEBUILDER_ASSETS", programs_of_others(&xtask, rig.kubectl().get_program().as_ref())).await?;
        scenario("up and Ctrl-C", up_until_it_is_enough(&xtask)).await?;
        anyhow::Ok(())
    })
    .await
}

/// The program that `cargo xtask` runs, which is the one that runs this test in `cargo xtask test`.
fn program() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let profile =
        own.ancestors().find(|directory| directory.ends_with("debug")).context("a directory of debug builds")?;
    let program = profile.join("xtask");
    if !program.is_file() {
        let built = cargo().args(["build", "--quiet", "--package", "xtask"]).status()?;
        ensure!(built.success(), "it does not build: run `cargo build --package xtask`");
    }
    Ok(program)
}

struct Xtask {
    program: PathBuf,
    directory: PathBuf,
}

impl Xtask {
    /// Starts it; what it says goes to a file of this name.
    fn start(&self, log: &str, variables: &[(&str, &Path)], words: &[&str]) -> Result<(Process, PathBuf)> {
        let log = self.directory.join(log);
        let variables = variables.iter().map(|(name, value)| format!("{name}={}", value.display()));
        let words = words.iter().map(ToString::to_string);
        let args: Vec<String> = variables.chain([self.program.display().to_string()]).chain(words).collect();
        Ok((Process::start(Path::new("/usr/bin/env"), &args, &log)?, log))
    }

    /// What it says once it has ended, which is to be well.
    async fn ask(&self, words: &[&str]) -> Result<String> {
        let attempt = Attempt::of(&self.program, &self.directory, &[], words).await?;
        ensure!(attempt.code == 0, "{words:?} ended with {}: {}", attempt.code, attempt.said);
        Ok(attempt.said)
    }

    /// The line of `rig status` about a rig.
    async fn listed(&self, name: &str) -> Result<Option<String>> {
        let said = self.ask(&["rig", "status"]).await?;
        Ok(said.lines().find(|line| line.split('\t').next() == Some(name)).map(str::to_owned))
    }
}

/// Waits until a file has a line with this in it.
async fn said(log: &Path, part: &str) -> Result<()> {
    let heard = eventually(format!("{part:?} in {}", log.display()), async || {
        fs::read_to_string(log).ok()?.contains(part).then_some(())
    });
    match heard.await {
        Ok(()) => Ok(()),
        Err(error) => bail!("{error}; it says:\n{}", fs::read_to_string(log)?),
    }
}

/// The programs that have the directory of a rig among their arguments, as paths.
fn programs_of(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for process in fs::read_dir("/proc")? {
        // Processes come and go while one reads.
        let line = fs::read(process?.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        let mut words = line.split('\0');
        let program = PathBuf::from(words.next().unwrap_or_default());
        let is_shell = program.ends_with("sh");
        if !is_shell && words.any(|word| word.contains(&directory.display().to_string())) {
            found.push(program);
        }
    }
    Ok(found)
}

async fn held_in_a_terminal(xtask: &Xtask) -> Result<()> {
    let name = format!("held-{}", std::process::id());
    let (process, log) = xtask.start("held.log", &[], &["rig", "up", "--name", &name, "--spot", "1"])?;
    said(&log, "export KUBECONFIG=").await?;
    let standing = Standing::named(&name)?;
    let line = xtask.listed(&name).await?.context("listed")?;
    ensure!(line.contains(&standing.server) && line.contains(&standing.kubeconfig.display().to_string()), "{line}");
    ensure!(programs_of(&standing.dir)?.len() >= 5, "{:?}", programs_of(&standing.dir)?);
    process.signal("INT")?;
    ensure!(process.ended(ENDING).await? == 0, "{}", fs::read_to_string(&log)?);
    is_gone(xtask, &standing).await
}

/// Neither listed, nor running, nor on the disk.
async fn is_gone(xtask: &Xtask, standing: &Standing) -> Result<()> {
    ensure!(xtask.listed(&standing.name).await?.is_none(), "still listed");
    let left = programs_of(&standing.dir)?;
    ensure!(left.is_empty(), "still running: {left:?}");
    ensure!(!standing.dir.exists(), "{} is still there", standing.dir.display());
    Ok(())
}

async fn held_in_the_background(xtask: &Xtask) -> Result<()> {
    let name = format!("background-{}", std::process::id());
    let said = xtask.ask(&["rig", "up", "--name", &name, "--spot", "1", "--background"]).await?;
    let standing = Standing::named(&name)?;
    let ended = async {
        ensure!(said.contains(&format!("export KUBECONFIG={}", standing.kubeconfig.display())), "{said}");
        ensure!(xtask.listed(&name).await?.is_some(), "not listed");
        let nodes = Command::new(kubectl(&standing)?)
            .args(["get", "nodes", "--output", "name", "--kubeconfig"])
            .arg(&standing.kubeconfig)
            .output()?;
        let nodes = String::from_utf8_lossy(&nodes.stdout).into_owned();
        ensure!(nodes.lines().eq(["node/on-demand-0", "node/on-demand-1", "node/spot-0"]), "{nodes}");
        Ok(())
    };
    let passed = ended.await;
    xtask.ask(&["rig", "down", "--name", &name]).await?;
    passed?;
    is_gone(xtask, &standing).await
}

/// The kubectl that was built with the control plane.
fn kubectl(standing: &Standing) -> Result<PathBuf> {
    let programs = programs_of(&standing.dir)?;
    let server = programs.iter().find(|program| program.ends_with("kube-apiserver")).context("an API server")?;
    Ok(server.with_file_name("kubectl"))
}

/// Programs that somebody else provides are used in place of those that were built.
async fn programs_of_others(xtask: &Xtask, kubectl: &Path) -> Result<()> {
    let (name, assets) = (format!("assets-{}", std::process::id()), xtask.directory.join("assets"));
    fs::create_dir(&assets)?;
    for program in ["etcd", "kube-apiserver", "kubectl"] {
        symlink(kubectl.with_file_name(program), assets.join(program))?;
    }
    let (process, log) =
        xtask.start("assets.log", &[("KUBEBUILDER_ASSETS", &assets)], &["rig", "up", "--name", &name])?;
    said(&log, "export KUBECONFIG=").await?;
    let standing = Standing::named(&name)?;
    let theirs = |programs: &[PathBuf]| programs.iter().filter(|program| program.starts_with(&assets)).count();
    let programs = programs_of(&standing.dir)?;
    ensure!(theirs(&programs) == 2, "etcd and the API server are theirs: {programs:?}");
    process.signal("TERM")?;
    ensure!(process.ended(ENDING).await? == 0, "{}", fs::read_to_string(&log)?);
    is_gone(xtask, &standing).await
}

/// Interrupted while it shows the table, and once more before there is anything to show.
async fn up_until_it_is_enough(xtask: &Xtask) -> Result<()> {
    let binary = tokio::task::spawn_blocking(binary).await??;
    let name = format!("enough-{}", std::process::id());
    let words = ["up", "--name", &name];
    let (process, log) = xtask.start("up.log", &[("SPOTALIS_BIN", &binary)], &words)?;
    said(&log, "WORKLOAD").await?;
    let standing = Standing::named(&name)?;
    process.signal("INT")?;
    ensure!(process.ended(ENDING).await? == 0, "{}", fs::read_to_string(&log)?);
    ensure!(fs::read_to_string(&log)?.contains("up: all of it has ended"), "{}", fs::read_to_string(&log)?);
    is_gone(xtask, &standing).await?;

    let (process, log) = xtask.start("early.log", &[("SPOTALIS_BIN", &binary)], &words)?;
    let standing = eventually("the control plane to start", async || Standing::named(&name).ok()).await?;
    process.signal("INT")?;
    let code = process.ended(ENDING).await?;
    ensure!(code == 130, "interrupted early it ends as a shell has it, not with {code}: {}", fs::read_to_string(&log)?);
    is_gone(xtask, &standing).await
}
