//! Runs a build that shows its own progress, and ends it with all of its children when the user has seen enough.
//!
//! The build gets a process group of its own: compilers are children of children, and only the group reaches them all.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::process::Command as AsyncCommand;

/// What an interrupted build gets to end by itself.
const PATIENCE: Duration = Duration::from_secs(2);

/// How a build ended.
#[derive(Debug)]
pub enum Built {
    /// All is there.
    Done,
    /// It failed and said why; this is its exit code.
    Failed(ExitCode),
    /// Somebody asked for its end, and nothing of it runs any more.
    Interrupted,
}

/// Runs the build until its end or until `interrupted` is ready. What it says on standard error is shown as it comes.
pub async fn follow(mut command: Command, interrupted: impl Future<Output = ()>) -> Result<Built> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).process_group(0);
    let program = command.get_program().to_string_lossy().into_owned();
    let mut build = AsyncCommand::from(command).spawn().with_context(|| format!("cannot run {program}"))?;
    let group = build.id().context("it has not been waited for")?;
    tokio::select! {
        biased;
        () = interrupted => {
            // As Ctrl-C on a terminal would, so that the build can remove what it has not finished.
            signal(group, "INT").await?;
            if tokio::time::timeout(PATIENCE, build.wait()).await.is_err() {
                // Nobody heard that: a script's background jobs begin with SIGINT ignored, and so do their children.
                signal(group, "KILL").await?;
                build.wait().await?;
            }
            Ok(Built::Interrupted)
        }
        status = build.wait() => {
            let status = status?;
            let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
            Ok(if status.success() { Built::Done } else { Built::Failed(ExitCode::from(code)) })
        }
    }
}

async fn signal(group: u32, name: &str) -> Result<()> {
    let mut kill = AsyncCommand::new("kill");
    kill.args(["-s", name, "--"]).arg(format!("-{group}")).stderr(Stdio::null());
    // It fails when the build ended at the same moment, which is as well.
    kill.status().await.context("cannot run kill")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    fn sh(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    fn lives(pid: &str) -> bool {
        Command::new("kill").args(["-0", pid]).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    }

    #[tokio::test]
    async fn a_failed_build_hands_on_its_code() {
        let built = follow(sh("exit 2"), std::future::pending()).await.unwrap();
        assert_eq!(format!("{built:?}"), format!("{:?}", Built::Failed(ExitCode::from(2))));
        assert!(matches!(follow(sh("true"), std::future::pending()).await.unwrap(), Built::Done));
    }

    #[tokio::test]
    async fn grandchildren_end_with_the_build() {
        grandchildren_end("heard", "").await;
    }

    #[tokio::test]
    async fn a_build_that_ignores_interrupts_is_killed() {
        grandchildren_end("ignored", "trap '' INT; ").await;
    }

    async fn grandchildren_end(test: &str, before: &str) {
        let told = std::env::temp_dir().join(format!("xtask-build-{}-{test}", std::process::id()));
        // A shell without job control lets its background children ignore SIGINT, so the grandchild is in the foreground.
        let script =
            format!("{before}sh -c 'echo $$ >{0}.new && mv {0}.new {0} && exec sleep 600'; true", told.display());
        let mut grandchild = String::new();
        let interrupted = async {
            let read = spotalis_rig::until("the grandchild", LIMIT, async || std::fs::read_to_string(&told).ok());
            grandchild = read.await.unwrap().trim().to_owned();
            assert!(lives(&grandchild));
        };
        let built = follow(sh(&script), interrupted).await.unwrap();
        assert!(matches!(built, Built::Interrupted));
        spotalis_rig::until("its end", LIMIT, async || (!lives(&grandchild)).then_some(())).await.unwrap();
        std::fs::remove_file(&told).unwrap();
    }
}
