//! Remembers which rigs stand on this machine, in one file per rig, so that another terminal can list and end them.
//!
//! A process id alone is not enough to go by, since ids come round again: it is kept together with the time at which its
//! process began.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::component::{ComponentError, Signal, send};
use crate::surroundings::rigs_dir;
use crate::wait::until;

const FILE: &str = "rig.json";
/// So many directories of rigs that ended badly are kept for their logs.
const RELICS: usize = 10;
/// Ending takes well below a second; a holder in the middle of a build notices late.
const END_WITHIN: Duration = Duration::from_secs(30);

/// A process, told apart from later ones with the same id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Holder {
    pub(crate) pid: u32,
    began: String,
}

impl Holder {
    /// The running process with this id.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        began(pid).map(|began| Self { pid, began })
    }

    /// This very process.
    pub(crate) fn this() -> Self {
        Self::of(std::process::id()).expect("this process runs")
    }

    /// Whether it runs still.
    pub(crate) fn lives(&self) -> bool {
        began(self.pid).is_some_and(|began| began == self.began)
    }
}

/// When the process began, in words that only have to differ. `None` when it is gone or waits to be reaped.
fn began(pid: u32) -> Option<String> {
    if !Path::new("/proc/self/stat").exists() {
        return began_by_ps(pid);
    }
    let line = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field, the name, may hold blanks and parentheses. proc(5): state is the third, start time the 22nd.
    let mut fields = line[line.rfind(')')? + 1..].split_whitespace();
    let state = fields.next()?;
    let start = fields.nth(18)?;
    (state != "Z").then(|| start.to_owned())
}

fn began_by_ps(pid: u32) -> Option<String> {
    let output = Command::new("ps").args(["-o", "state=,lstart=", "-p", &pid.to_string()]).output().ok()?;
    let said = String::from_utf8(output.stdout).ok()?;
    let (state, start) = said.trim().split_once(' ')?;
    (!state.starts_with('Z')).then(|| start.trim().to_owned())
}

/// A rig that stands, or stood, on this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Its name; also that of its directory.
    pub name: String,
    /// The API server's address.
    pub server: String,
    /// The administrator's kubeconfig.
    pub kubeconfig: PathBuf,
    /// Data, logs, certificates.
    pub dir: PathBuf,
    pub(crate) holder: Holder,
}

/// The rigs of this machine cannot be listed, or one not be ended.
#[derive(Debug, thiserror::Error)]
pub enum StandingError {
    /// A file of the rig's directory.
    #[error("cannot read or write {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No such rig runs.
    #[error("no rig named {name} is running; `cargo xtask rig status` lists those that are")]
    None {
        /// The name asked for.
        name: String,
    },
    /// It could not be told.
    #[error(transparent)]
    Signal(#[from] ComponentError),
    /// It was told and stays.
    #[error("process {pid}, which holds the rig, did not end")]
    Stays {
        /// The holder's process id.
        pid: u32,
    },
}

impl Standing {
    /// All rigs that run, by name.
    pub fn all() -> Result<Vec<Self>, StandingError> {
        Ok(remembered(&rigs_dir())?.into_iter().filter(Self::lives).collect())
    }

    /// The running rig of this name.
    pub fn named(name: &str) -> Result<Self, StandingError> {
        let found = Self::all()?.into_iter().find(|standing| standing.name == name);
        found.ok_or_else(|| StandingError::None { name: name.to_owned() })
    }

    /// The process id of the one who holds the rig.
    pub const fn pid(&self) -> u32 {
        self.holder.pid
    }

    /// Asks the holder to end the rig, and waits until it did.
    pub async fn end(&self) -> Result<(), StandingError> {
        send(Signal::Terminate, self.holder.pid)?;
        let gone = until("the holder to end", END_WITHIN, async || (!self.lives()).then_some(())).await;
        gone.map_err(|_| StandingError::Stays { pid: self.holder.pid })
    }

    fn lives(&self) -> bool {
        self.holder.lives()
    }

    pub(crate) fn remember(&self) -> Result<(), StandingError> {
        let path = self.dir.join(FILE);
        let text = serde_json::to_string_pretty(self).expect("strings and numbers");
        // Renamed into place, so that nobody reads half of it.
        let draft = self.dir.join(".rig.json");
        fs::write(&draft, text)
            .and_then(|()| fs::rename(&draft, &path))
            .map_err(|source| StandingError::File { path, source })
    }
}

/// Every rig that left a file, in the order of names, alive or not. A file that cannot be read belongs to nobody.
fn remembered(dir: &Path) -> Result<Vec<Standing>, StandingError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(StandingError::File { path: dir.to_owned(), source }),
    };
    let mut found: Vec<Standing> = entries
        .filter_map(|entry| fs::read_to_string(entry.ok()?.path().join(FILE)).ok())
        .filter_map(|text| serde_json::from_str(&text).ok())
        .collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// Removes the directories of rigs long dead, all but the newest few.
pub(crate) fn sweep(dir: &Path) -> Result<(), StandingError> {
    let mut dead: Vec<_> = remembered(dir)?
        .into_iter()
        .filter(|standing| !standing.lives())
        .map(|standing| (fs::metadata(&standing.dir).and_then(|metadata| metadata.modified()).ok(), standing.dir))
        .collect();
    dead.sort();
    for (_, dir) in dead.iter().rev().skip(RELICS) {
        // Another rig may be sweeping as well.
        let _ = fs::remove_dir_all(dir);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(dir: &Path, name: &str, holder: Holder) -> Standing {
        let dir = dir.join(name);
        fs::create_dir_all(&dir).unwrap();
        let standing =
            Standing { name: name.to_owned(), server: String::new(), kubeconfig: dir.join("kubeconfig"), dir, holder };
        standing.remember().unwrap();
        standing
    }

    #[test]
    fn a_process_is_known_by_its_beginning() {
        let this = Holder::this();
        assert!(this.lives());
        assert!(!Holder { began: "0".to_owned(), ..this }.lives());
    }

    #[test]
    fn a_process_that_waits_to_be_reaped_is_gone() {
        let mut child = Command::new("true").stdout(std::process::Stdio::piped()).spawn().unwrap();
        // The end of its output comes with its end, or a moment before.
        io::copy(&mut child.stdout.take().unwrap(), &mut io::sink()).unwrap();
        while Holder::of(child.id()).is_some() {
            std::thread::yield_now();
        }
        child.wait().unwrap();
    }

    #[test]
    fn sweeping_leaves_the_living_and_the_newest_dead() {
        let dir = std::env::temp_dir().join(format!("rig-sweep-{}", std::process::id()));
        let dead = Holder { pid: std::process::id(), began: "never".to_owned() };
        standing(&dir, "alive", Holder::this());
        for number in 0..RELICS + 3 {
            standing(&dir, &format!("dead-{number:02}"), dead.clone());
        }
        sweep(&dir).unwrap();
        let left = remembered(&dir).unwrap();
        assert_eq!(left.len(), RELICS + 1);
        assert_eq!(left.iter().filter(|standing| standing.lives()).count(), 1);
        fs::remove_dir_all(dir).unwrap();
    }
}
