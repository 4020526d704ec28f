//! Runs one program so that it cannot outlive the process that started it.
//!
//! Each program runs under a few lines of `sh` whose standard input is a pipe that this process holds. When the pipe
//! closes, on purpose or because this process died of whatever cause, the shell kills the program by its process id. The
//! shell has a process group of its own, so that Ctrl-C on a terminal reaches the holder first. Nothing here ever looks
//! for a process by name.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// Starts the program, tells its process id, and waits for its end or for the end of standard input.
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
kill "$guard"
"#;

/// What to run, where, and with which environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Launch {
    /// The program's file.
    pub(crate) program: PathBuf,
    /// Its arguments.
    pub(crate) args: Vec<String>,
    /// Added to the environment.
    pub(crate) env: BTreeMap<String, String>,
    /// Its working directory.
    pub(crate) dir: PathBuf,
    /// Where its output goes, appended.
    pub(crate) log: PathBuf,
}

/// A program could not be started, signalled or watched.
#[derive(Debug, thiserror::Error)]
pub enum ComponentError {
    /// The shell that watches it could not be started, or its directory not be made.
    #[error("cannot start {}", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The shell started and did not tell the program's process id.
    #[error("the watchdog of {} told no process id but {said:?}", program.display())]
    NoPid {
        /// The program.
        program: PathBuf,
        /// What it told instead.
        said: String,
    },
    /// `kill` failed.
    #[error("cannot send {signal} to process {pid}")]
    Signal {
        /// The signal.
        signal: Signal,
        /// To whom.
        pid: u32,
        /// Why; absent when `kill` ran and refused.
        source: Option<io::Error>,
    },
}

/// The signals that are sent to a program one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Stop running, keep everything.
    Stop,
    /// Go on.
    Continue,
    /// Please end.
    Terminate,
}

impl Signal {
    const fn name(self) -> &'static str {
        match self {
            Self::Stop => "STOP",
            Self::Continue => "CONT",
            Self::Terminate => "TERM",
        }
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SIG{}", self.name())
    }
}

/// A running program. Dropping it kills it and waits until it is gone.
#[derive(Debug)]
pub(crate) struct Component {
    watchdog: Child,
    pid: u32,
}

impl Component {
    /// Starts the program. It runs when this returns; whether it is of use is not known yet.
    pub(crate) fn start(launch: &Launch) -> Result<Self, ComponentError> {
        let Launch { program, args, env, dir, log } = launch;
        let failed = |source| ComponentError::Start { program: program.clone(), source };
        fs::create_dir_all(dir).map_err(failed)?;
        File::options().create(true).append(true).open(log).map_err(failed)?;
        let mut watchdog = Command::new("sh")
            .arg("-c")
            .arg(WATCHDOG)
            .arg("rig-watchdog")
            .arg(log)
            .arg(program)
            .args(args)
            .envs(env)
            .current_dir(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        let mut said = String::new();
        let stdout = watchdog.stdout.take().expect("its standard output was asked for");
        BufReader::new(stdout).read_line(&mut said).map_err(failed)?;
        match said.trim().parse() {
            Ok(pid) => Ok(Self { watchdog, pid }),
            Err(_) => Err(ComponentError::NoPid { program: program.clone(), said }),
        }
    }

    /// The program's own process id, not the watchdog's.
    pub(crate) const fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether the program ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        // An error means that somebody else reaped the watchdog: it is gone as well.
        !matches!(self.watchdog.try_wait(), Ok(None))
    }

    /// Sends a signal to the program.
    pub(crate) fn send(&self, signal: Signal) -> Result<(), ComponentError> {
        send(signal, self.pid)
    }
}

impl Drop for Component {
    fn drop(&mut self) {
        drop(self.watchdog.stdin.take());
        // It was ours to reap; an error here means that there is nothing left.
        let _ = self.watchdog.wait();
    }
}

/// Sends a signal through `kill`, since the library call is `unsafe`.
pub(crate) fn send(signal: Signal, pid: u32) -> Result<(), ComponentError> {
    let status = Command::new("kill").arg("-s").arg(signal.name()).arg(pid.to_string()).stderr(Stdio::null()).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err(ComponentError::Signal { signal, pid, source: None }),
        Err(source) => Err(ComponentError::Signal { signal, pid, source: Some(source) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::standing::Holder;

    fn launch(test: &str, script: &str) -> Launch {
        let dir = std::env::temp_dir().join(format!("rig-component-{}-{test}", std::process::id()));
        Launch {
            program: "sh".into(),
            args: vec!["-c".to_owned(), script.to_owned()],
            env: BTreeMap::from([("WORD".to_owned(), "said".to_owned())]),
            log: dir.join("log"),
            dir,
        }
    }

    #[test]
    fn dropping_kills_what_ignores_signals() {
        let launch = launch("stubborn", "trap '' TERM INT HUP; exec sleep 600");
        let component = Component::start(&launch).unwrap();
        let holder = Holder::of(component.pid()).unwrap();
        assert!(holder.lives());
        drop(component);
        assert!(!holder.lives());
        fs::remove_dir_all(launch.dir).unwrap();
    }

    #[test]
    fn dropping_kills_what_is_stopped() {
        let launch = launch("stopped", "exec sleep 600");
        let component = Component::start(&launch).unwrap();
        let holder = Holder::of(component.pid()).unwrap();
        component.send(Signal::Stop).unwrap();
        drop(component);
        assert!(!holder.lives());
        fs::remove_dir_all(launch.dir).unwrap();
    }

    #[test]
    fn the_end_of_the_program_is_seen_and_its_output_kept() {
        let launch = launch("short", "echo $WORD; exit 3");
        let mut component = Component::start(&launch).unwrap();
        // `wait` closes the pipe first, which would kill the program before it has said anything.
        let pipe = component.watchdog.stdin.take();
        component.watchdog.wait().unwrap();
        assert!(component.has_ended());
        drop(pipe);
        assert_eq!(fs::read_to_string(launch.log).unwrap(), "said\n");
        fs::remove_dir_all(launch.dir).unwrap();
    }
}
