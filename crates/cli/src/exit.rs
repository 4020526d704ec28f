//! How a command ends: its exit code, and the sentence on standard error that goes with a failure.
//!
//! What failed is decided where it failed, by the type of the error; here it is only looked up.

use std::io::{self, Write};
use std::process::ExitCode;

use spotalis_config::ConfigErrors;
use spotalis_runtime::apiclient::ConnectError;
use spotalis_runtime::text::{chain, printable};
use spotalis_webhook::certs::CertificateError;

use crate::demo::DemoError;
use crate::explain::ExplainError;
use crate::table::Unwritten;
use crate::view::ViewError;

/// The exit codes, which scripts rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Nothing to complain of.
    Fine,
    /// The command worked, and found something that somebody should look at; or it failed in another way.
    Found,
    /// What was typed or configured makes no sense.
    Usage,
    /// The cluster cannot be reached.
    Unreachable,
    /// The cluster does not let us.
    Forbidden,
    /// Our own mistake.
    Defect,
    /// What was found cannot be written, so that nobody can read off the other codes what it was.
    Unwritten,
}

impl Exit {
    /// The number.
    pub const fn code(self) -> u8 {
        match self {
            Self::Fine => 0,
            Self::Found => 1,
            Self::Usage => 2,
            Self::Unreachable => 3,
            Self::Forbidden => 4,
            Self::Defect => 70,
            Self::Unwritten => 74,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}

/// A panic is a mistake of ours wherever it happens: say so, and end with the code for it.
pub fn own_up_to_panics() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        default(panic);
        talk("error: this is a defect of spotalis, not of your cluster; please report it with the lines above");
        std::process::exit(Exit::Defect.code().into());
    }));
}

/// Says a line to the person at the terminal, who need not be there.
pub fn talk(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Says what failed and what to do, and finds the exit code.
pub fn conclude(error: &anyhow::Error) -> Exit {
    let (exit, hint) = verdict(error);
    match error.downcast_ref::<ConfigErrors>() {
        // A list, with its own hint; its values are fit for showing already.
        Some(errors) => talk(&format!("error: {errors}")),
        None => talk(&format!("error: {}", chain(error.as_ref()))),
    }
    if let Some(hint) = hint {
        talk(&format!("hint: {}", printable(&hint)));
    }
    exit
}

fn verdict(error: &anyhow::Error) -> (Exit, Option<String>) {
    if error.is::<ConfigErrors>() {
        (Exit::Usage, None)
    } else if let Some(error) = error.downcast_ref::<ConnectError>() {
        connect(error)
    } else if error.is::<CertificateError>() {
        // Says itself which key of the configuration leads to the file.
        (Exit::Usage, None)
    } else if let Some(error) = error.downcast_ref::<ViewError>() {
        (error.exit(), error.hint())
    } else if let Some(error) = error.downcast_ref::<ExplainError>() {
        (Exit::Usage, error.hint())
    } else if error.is::<Unwritten>() {
        (Exit::Unwritten, None)
    } else if let Some(error) = error.downcast_ref::<DemoError>() {
        (Exit::Usage, Some(error.hint()))
    } else {
        (Exit::Found, None)
    }
}

fn connect(error: &ConnectError) -> (Exit, Option<String>) {
    let shows_config = || Some("`kubectl config view --minify` shows the kubeconfig that kubectl uses".to_owned());
    match error {
        ConnectError::Unreadable { path: _, source: _ } | ConnectError::NothingFound(_) => {
            (Exit::Usage, shows_config())
        }
        ConnectError::Invalid { path: _, source: _ } | ConnectError::NotInCluster(_) => (Exit::Usage, None),
        ConnectError::Unreachable { server: _, source: _ } | ConnectError::Unexpected { server: _, status: _ } => {
            (Exit::Unreachable, None)
        }
        ConnectError::Credentials { server: _, source: _ } | ConnectError::Expired { server: _ } => {
            (Exit::Forbidden, Some("`kubectl auth whoami` shows whether the cluster knows you again".to_owned()))
        }
    }
}
