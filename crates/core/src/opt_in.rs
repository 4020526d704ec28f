//! Decides whether Spotalis may touch a workload at all.
//!
//! Webhook, controllers and command line ask here, so that none of them can be more eager than another. Windows, policy
//! and health are other questions; this one comes first.

use std::collections::BTreeSet;
use std::fmt;

use crate::policy::keys;
use crate::selector::{Labels, Selector};

/// Whose word is needed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// Namespace and workload must both carry the label.
    #[default]
    Both,
    /// One of them is enough; a workload's explicit `"false"` is heard before its namespace.
    Either,
}

/// What an installation says about opting in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptInRules {
    /// Whose word is needed.
    pub mode: Mode,
    /// Namespaces outside it are left alone; the empty selector narrows nothing.
    pub namespace_selector: Selector,
    /// Where Spotalis itself runs.
    pub own_namespace: Box<str>,
    /// The only namespaces that are looked at; empty means all.
    pub watch_namespaces: BTreeSet<Box<str>>,
}

/// Whether one workload is managed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OptIn {
    /// Opted in.
    Managed,
    /// Nobody asked, or the workload said no.
    Out,
    /// Somebody asked, and one word is missing. Never silent.
    Half(Missing),
    /// Not even if everybody asks.
    Never(NeverReason),
}

/// Who has not opted in yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Missing {
    /// The workload asked, its namespace did not.
    Namespace,
    /// The namespace asked, the workload did not.
    Workload,
}

/// Why a namespace is out of bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NeverReason {
    /// `kube-system`, `kube-node-lease`.
    SystemNamespace,
    /// Where Spotalis itself runs: managing it could take away what repairs it.
    OwnNamespace,
    /// Not among `controller.watchNamespaces`.
    NotWatched,
    /// Outside `controller.namespaceSelector`.
    NotSelected,
}

/// Never managed, whatever anybody says.
pub const SYSTEM_NAMESPACES: [&str; 2] = ["kube-system", "kube-node-lease"];

impl OptInRules {
    /// Whether the workload with these labels, in the namespace with that name and those labels, is managed.
    pub fn decide(&self, namespace: &str, namespace_labels: &Labels, workload_labels: &Labels) -> OptIn {
        if let Some(reason) = self.never(namespace, namespace_labels) {
            return OptIn::Never(reason);
        }
        match (self.mode, Word::of(namespace_labels), Word::of(workload_labels)) {
            (Mode::Both | Mode::Either, Word::Yes, Word::Yes)
            | (Mode::Either, Word::Yes, Word::Nothing)
            | (Mode::Either, Word::No | Word::Nothing, Word::Yes) => OptIn::Managed,
            (Mode::Both, Word::No | Word::Nothing, Word::Yes) => OptIn::Half(Missing::Namespace),
            (Mode::Both, Word::Yes, Word::Nothing) => OptIn::Half(Missing::Workload),
            // A workload that says no has opted out, whatever its namespace says: nothing is missing.
            (Mode::Both | Mode::Either, Word::Yes | Word::No | Word::Nothing, Word::No)
            | (Mode::Both | Mode::Either, Word::No | Word::Nothing, Word::Nothing) => OptIn::Out,
        }
    }

    /// Whether a namespace of this name is never managed, whatever its labels are.
    pub fn is_never_by_name(&self, namespace: &str) -> bool {
        matches!(
            self.never(namespace, &Labels::new()),
            Some(NeverReason::SystemNamespace | NeverReason::OwnNamespace | NeverReason::NotWatched)
        )
    }

    /// Why nothing in this namespace is ever managed, if so.
    pub fn never(&self, namespace: &str, namespace_labels: &Labels) -> Option<NeverReason> {
        let Self { mode: _, namespace_selector, own_namespace, watch_namespaces } = self;
        if SYSTEM_NAMESPACES.contains(&namespace) {
            Some(NeverReason::SystemNamespace)
        } else if namespace == &**own_namespace {
            Some(NeverReason::OwnNamespace)
        } else if !watch_namespaces.is_empty() && !watch_namespaces.contains(namespace) {
            Some(NeverReason::NotWatched)
        } else if !namespace_selector.matches(namespace_labels) {
            Some(NeverReason::NotSelected)
        } else {
            None
        }
    }
}

/// What one label set says about [`keys::ENABLED`].
#[derive(Clone, Copy)]
enum Word {
    Yes,
    No,
    /// No label, or a value that is neither: only exactly `"true"` opts in.
    Nothing,
}

impl Word {
    fn of(labels: &Labels) -> Self {
        match labels.get(keys::ENABLED).map(|value| &**value) {
            Some("true") => Self::Yes,
            Some("false") => Self::No,
            Some(_) | None => Self::Nothing,
        }
    }
}

impl Missing {
    /// The command that says the missing word. `kind` is the workload's kind, in any letter case.
    pub fn completing_command(self, kind: &str, namespace: &str, name: &str) -> String {
        let kind = kind.to_ascii_lowercase();
        let object = match self {
            Self::Namespace => format!("namespace {namespace}"),
            Self::Workload => format!("--namespace {namespace} {kind} {name}"),
        };
        // The label may be there with another value, which kubectl replaces only when told.
        format!("kubectl label --overwrite {object} {}=true", keys::ENABLED)
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Namespace => "the workload is opted in, its namespace is not",
            Self::Workload => "the namespace is opted in, the workload is not",
        })
    }
}

impl fmt::Display for NeverReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SystemNamespace => "kube-system and kube-node-lease are never managed",
            Self::OwnNamespace => "the namespace Spotalis runs in is never managed",
            Self::NotWatched => "the namespace is not in controller.watchNamespaces",
            Self::NotSelected => "the namespace is outside controller.namespaceSelector",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(mode: Mode) -> OptInRules {
        OptInRules {
            mode,
            namespace_selector: Selector::default(),
            own_namespace: "spotalis-system".into(),
            watch_namespaces: BTreeSet::new(),
        }
    }

    fn labelled(value: &str) -> Labels {
        let value = Some(value).filter(|value| *value != "-");
        value.map(|value| (keys::ENABLED.into(), value.into())).into_iter().collect()
    }

    /// `-` is no label at all.
    #[test]
    fn every_pair_of_words() {
        use OptIn::{Half, Managed, Out};
        let (no_namespace, no_workload) = (Half(Missing::Namespace), Half(Missing::Workload));
        for (namespace, workload, both, either) in [
            ("true", "true", Managed, Managed),
            ("true", "-", no_workload, Managed),
            ("true", "True", no_workload, Managed),
            ("true", "", no_workload, Managed),
            ("true", "false", Out, Out),
            ("-", "true", no_namespace, Managed),
            ("yes", "true", no_namespace, Managed),
            ("false", "true", no_namespace, Managed),
            ("-", "-", Out, Out),
            ("false", "-", Out, Out),
            ("-", "false", Out, Out),
            ("1", " true", Out, Out),
        ] {
            for (mode, wanted) in [(Mode::Both, both), (Mode::Either, either)] {
                let decided = rules(mode).decide("shop", &labelled(namespace), &labelled(workload));
                assert_eq!(decided, wanted, "{mode:?}: namespace {namespace:?}, workload {workload:?}");
            }
        }
    }

    #[test]
    fn out_of_bounds_whatever_anybody_says() {
        let yes = labelled("true");
        for mode in [Mode::Both, Mode::Either] {
            let mut rules = rules(mode);
            for (namespace, reason) in [
                ("kube-system", NeverReason::SystemNamespace),
                ("kube-node-lease", NeverReason::SystemNamespace),
                ("spotalis-system", NeverReason::OwnNamespace),
            ] {
                assert_eq!(rules.decide(namespace, &yes, &yes), OptIn::Never(reason));
            }
            rules.watch_namespaces = BTreeSet::from(["shop".into(), "kube-system".into()]);
            assert_eq!(rules.decide("shop", &yes, &yes), OptIn::Managed);
            assert_eq!(rules.decide("bank", &yes, &yes), OptIn::Never(NeverReason::NotWatched));
            assert_eq!(rules.decide("kube-system", &yes, &yes), OptIn::Never(NeverReason::SystemNamespace));
            rules.namespace_selector = Selector::parse("team=a").unwrap();
            assert_eq!(rules.decide("shop", &yes, &yes), OptIn::Never(NeverReason::NotSelected));
            let mut of_team = yes.clone();
            of_team.insert("team".into(), "a".into());
            assert_eq!(rules.decide("shop", &of_team, &yes), OptIn::Managed);
        }
    }

    #[test]
    fn the_command_completes_the_opt_in() {
        assert_eq!(
            Missing::Workload.completing_command("Deployment", "shop", "web"),
            "kubectl label --overwrite --namespace shop deployment web spotalis.io/enabled=true"
        );
        assert_eq!(
            Missing::Namespace.completing_command("StatefulSet", "shop", "db"),
            "kubectl label --overwrite namespace shop spotalis.io/enabled=true"
        );
    }
}
