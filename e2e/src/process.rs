//! Runs the product so that it cannot outlive the test: a shell holds it that kills it when the test's end of a pipe
//! closes, whatever closed it. As the rig does with its programs; here the exit status is kept as well.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use spotalis_rig::until;

/// Starts the program with its output appended to a file, tells its process id, and ends as it ends.
///
/// File descriptor 3 is the pipe: `sh` gives background commands an empty standard input. The program must not inherit it.
const WATCHDOG: &str = r#"
log=$1; shift
exec 3<&0
"$@" </dev/null >>"$log" 2>&1 3<&- &
program=$!
echo "$program"
{ read -r _ <&3; kill -KILL "$program"; } >/dev/null 2>&1 &
guard=$!
wait "$program"
status=$?
kill "$guard"
exit "$status"
"#;

/// A running program. Dropping it kills it and waits until it is gone.
#[derive(Debug)]
pub struct Process {
    watchdog: Child,
    pid: u32,
}

impl Process {
    /// Starts `program`; what it says goes to the end of `log`.
    pub fn start(program: &Path, args: &[String], log: &Path) -> Result<Self> {
        File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("cannot write {}", log.display()))?;
        let mut shell = Command::new("sh");
        // The product reads every such variable as configuration; these are the tests' own.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"SPOTALIS_")) {
            shell.env_remove(name);
        }
        let mut watchdog = shell
            .args(["-c", WATCHDOG, "e2e-watchdog"])
            .arg(log)
            .arg(program)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("cannot run sh")?;
        let mut said = String::new();
        BufReader::new(watchdog.stdout.take().context("it was asked for")?).read_line(&mut said)?;
        let pid = said.trim().parse().with_context(|| format!("no process id but {said:?}"))?;
        Ok(Self { watchdog, pid })
    }

    /// The program's own process id.
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether it ended by itself.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.watchdog.try_wait(), Ok(None))
    }

    /// Sends `TERM`, `STOP`, `CONT` or another signal.
    pub fn signal(&self, name: &str) -> Result<()> {
        let sent = Command::new("kill").args(["-s", name]).arg(self.pid.to_string()).status()?;
        ensure!(sent.success(), "process {} takes no SIG{name}", self.pid);
        Ok(())
    }

    /// Waits until it ended by itself, and tells its exit code: 128 and the signal's number if one ended it.
    pub async fn ended(mut self, limit: Duration) -> Result<i32> {
        let what = format!("process {} to end", self.pid);
        let status = until(&what, limit, async || self.watchdog.try_wait().ok().flatten()).await?;
        status.code().context("the shell was killed")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.watchdog.stdin.take());
        // It was ours to reap; an error here means that there is nothing left.
        let _ = self.watchdog.wait();
    }
}
