//! What can go wrong with a request, and what is known of a request when that is decided.
//!
//! A request is known by its spot: who sends it, its site (`create pods/eviction`), and the how manieth of these it is. So it
//! is the same one in a plan from which something else was left out. What is to happen to it is said by a [`Fate`]; that it
//! happens is the affair of [`crate::wire`].

use std::fmt;
use std::time::Duration;

use http::Method;
use serde::{Deserialize, Serialize};

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Fault {
    /// 500, and nothing was done.
    Broken,
    /// 409, and nothing was done.
    Conflict,
    /// 429 in plain text, and nothing was done: priority and fairness.
    Overload,
    /// The connection breaks before the request arrives.
    Unsent,
    /// It is done, and the connection breaks before the answer arrives.
    Lost,
    /// It arrives so many milliseconds late; a write does, even if its sender has given it up or is no more by then.
    Late(u32),
    /// It is done, and no answer ever comes: its sender has to give it up.
    Hang,
    /// Its answer arrives so many milliseconds late; of a watch, every event.
    LateAnswer(u32),
    /// The process ends before it is sent.
    CrashBefore,
    /// The process ends when it is done, before the answer arrives.
    CrashAfter,
    /// Of a watch: it ends after so many events.
    Cut(u32),
    /// Of a watch: after so many events it is silent for so many milliseconds, and then all that was held back comes at
    /// once. Whatever its process does meanwhile, it does by an old view.
    Held(u32, u32),
    /// Of a watch: every event comes twice. Of a review: it is asked twice, as by a transport that sends it again.
    Twice,
    /// Of a watch: 410, its revision is too old, which it hears after so many milliseconds.
    Expired(u32),
    /// Of a watch: the API server that is asked is behind the one that was asked before, and does not know the revision yet.
    Behind,
}

impl Fault {
    /// Whether what was asked for is not done, and its sender hears of it or could.
    pub(crate) const fn is_loss(self) -> bool {
        matches!(self, Self::Broken | Self::Conflict | Self::Overload | Self::Unsent)
    }

    /// What can go wrong with a request that is no list, watch or review.
    pub const OF_REQUESTS: [Self; 10] = [
        Self::Broken,
        Self::Conflict,
        Self::Overload,
        Self::Unsent,
        Self::Lost,
        Self::Late(1_500),
        Self::LateAnswer(1_500),
        Self::Hang,
        Self::CrashBefore,
        Self::CrashAfter,
    ];
    /// What can go wrong with a review, on the way to a process and back.
    pub const OF_REVIEWS: [Self; 8] = [
        Self::Unsent,
        Self::Lost,
        Self::Late(1_500),
        Self::LateAnswer(1_500),
        Self::Hang,
        Self::Twice,
        Self::CrashBefore,
        Self::CrashAfter,
    ];
    /// What can go wrong with a watch.
    pub const OF_WATCHES: [Self; 12] = [
        Self::Broken,
        Self::Unsent,
        Self::Hang,
        Self::Late(15_000),
        Self::LateAnswer(1_500),
        Self::Cut(0),
        Self::Cut(3),
        Self::Held(1, 20_000),
        Self::Twice,
        Self::Expired(0),
        Self::Expired(20_000),
        Self::Behind,
    ];
    /// What can go wrong with a list: it is refused or lost, and what it shows is old when it comes.
    pub const OF_LISTS: [Self; 8] = [
        Self::Broken,
        Self::Overload,
        Self::Unsent,
        Self::Lost,
        Self::Hang,
        Self::LateAnswer(15_000),
        Self::CrashBefore,
        Self::CrashAfter,
    ];

    /// How long it lasts by itself; one that hangs lasts until it is given up.
    pub fn length(self) -> Duration {
        match self {
            Self::Late(millis) | Self::LateAnswer(millis) | Self::Held(_, millis) | Self::Expired(millis) => {
                Duration::from_millis(millis.into())
            }
            Self::Hang => LONGEST_PATIENCE,
            Self::Broken
            | Self::Conflict
            | Self::Overload
            | Self::Unsent
            | Self::Lost
            | Self::CrashBefore
            | Self::CrashAfter
            | Self::Cut(_)
            | Self::Twice
            | Self::Behind => Duration::ZERO,
        }
    }

    /// Whether the process ends by it.
    pub const fn is_crash(self) -> bool {
        matches!(self, Self::CrashBefore | Self::CrashAfter)
    }
}

/// Nobody waits longer for an answer: a list is given two minutes for a page.
const LONGEST_PATIENCE: Duration = Duration::from_mins(2);

/// The site of a review that comes from the API server.
pub const ADMIT: &str = "review pods";
/// The site of a review that comes from another process.
pub const ASK: &str = "review pods of others";

/// One request of a run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spot {
    /// The number of the process.
    pub process: u32,
    /// Verb and resource, as `create pods/eviction`.
    pub site: String,
    /// The how manieth of its process at this site, from 1.
    pub nth: u32,
}

impl fmt::Display for Spot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { process, site, nth } = self;
        write!(f, "{site} no. {nth} of process {process}")
    }
}

/// A request, as far as its fate may depend on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Its number among all requests of the run, from 1.
    pub number: u64,
    /// The number of the process.
    pub process: u32,
    /// Verb and resource, as `create pods/eviction`.
    pub site: String,
    /// The how manieth of its process at this site, from 1.
    pub nth: u32,
    /// Empty outside namespaces.
    pub namespace: String,
    /// Empty of a collection.
    pub name: String,
}

impl Call {
    /// Which one of the run it is.
    pub fn spot(&self) -> Spot {
        Spot { process: self.process, site: self.site.clone(), nth: self.nth }
    }

    /// What it is about, as `pods/eviction`.
    pub fn resource(&self) -> &str {
        self.site.split_once(' ').map_or("", |(_, resource)| resource)
    }

    /// In this many milliseconds whoever waits for its answer has given it up, or has got something to fear: a renewal of
    /// the Lease that comes so late comes after its deadline.
    pub fn patience(&self) -> u32 {
        if self.is_review() {
            3_000
        } else if self.is_watch() || self.is_list() {
            40_000
        } else {
            12_000
        }
    }

    /// Whether it is a watch.
    pub fn is_watch(&self) -> bool {
        self.site.starts_with("watch ")
    }

    /// Whether it is a list.
    pub fn is_list(&self) -> bool {
        self.site.starts_with("list ")
    }

    /// Whether it is about who leads.
    pub fn is_about_the_lease(&self) -> bool {
        self.site.ends_with(" leases")
    }

    /// Whether it is a review, from the API server or from another process.
    pub fn is_review(&self) -> bool {
        self.site == ADMIT || self.site == ASK
    }

    /// What can go wrong with it.
    pub fn faults(&self) -> &'static [Fault] {
        if self.is_review() {
            &Fault::OF_REVIEWS
        } else if self.is_watch() {
            &Fault::OF_WATCHES
        } else if self.is_list() {
            &Fault::OF_LISTS
        } else {
            &Fault::OF_REQUESTS
        }
    }

    /// Whether something is written.
    pub fn is_write(&self) -> bool {
        !["get ", "list ", "watch "].iter().any(|verb| self.site.starts_with(verb))
    }

    /// Whether an answer of it may decide where a pod goes: who leads, what there is, and the question itself.
    pub fn is_about_steering(&self) -> bool {
        self.is_review() || self.is_watch() || self.is_list() || self.is_about_the_lease()
    }
}

/// Where a request goes: site, namespace and name.
pub(crate) fn target(request: &http::request::Parts) -> (String, String, String) {
    let mut words = request.uri.path().split('/').filter(|word| !word.is_empty());
    // `/api/v1` or `/apis/GROUP/VERSION`
    let skipped = if words.next() == Some("api") { 1 } else { 2 };
    let mut words = words.skip(skipped).peekable();
    let mut namespace = "";
    let mut first = words.next().unwrap_or_default();
    let mut of_namespace = None;
    if first == "namespaces" {
        let name = words.next();
        match (name, words.peek()) {
            (Some(name), Some(_)) => {
                namespace = name;
                first = words.next().unwrap_or_default();
            }
            (name, _) => of_namespace = Some(name.unwrap_or_default()),
        }
    }
    let name = of_namespace.unwrap_or_else(|| words.next().unwrap_or_default());
    let resource = words.next().map_or_else(|| first.to_owned(), |subresource| format!("{first}/{subresource}"));
    let site = format!("{} {resource}", verb(request, name));
    (site, namespace.to_owned(), name.to_owned())
}

fn verb(request: &http::request::Parts, name: &str) -> &'static str {
    let watches = request.uri.query().is_some_and(|query| query.split('&').any(|word| word.starts_with("watch=")));
    match request.method {
        Method::GET if watches => "watch",
        Method::GET if name.is_empty() => "list",
        Method::GET => "get",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "other",
    }
}

/// Says what goes wrong.
pub trait Fate: Send {
    /// With this request.
    fn of(&mut self, call: &Call) -> Option<Fault>;
}

/// Nothing goes wrong.
#[derive(Clone, Copy, Debug)]
pub struct Calm;

impl Fate for Calm {
    fn of(&mut self, _: &Call) -> Option<Fault> {
        None
    }
}
