//! From a reason to the Event that tells it. Which reasons are told is in their table, not here.

use spotalis_core::policy::Problem;
use spotalis_core::reason::{Reason, Severity};
use spotalis_kube::index::WorkloadView;
use spotalis_runtime::events::Notice;

/// The Event of a reason, if it is one that is told. An invalid value has told itself: [`problem`] names it.
pub(crate) fn notice(view: &WorkloadView, reason: &Reason) -> Option<Notice> {
    if let Reason::InvalidAnnotation { key: _ } = reason {
        return None;
    }
    let severity = reason.doc().event?;
    Some(Notice {
        regarding: view.key.reference(&view.uid),
        related: None,
        reason: reason.code(),
        note: reason.to_string(),
        warning: severity == Severity::Warning,
        action: "Balance",
    })
}

/// The Event of a problem with an annotation: the problem says more than its reason.
pub(crate) fn problem(view: &WorkloadView, reason: &Reason, problem: &Problem) -> Notice {
    Notice {
        regarding: view.key.reference(&view.uid),
        related: None,
        reason: reason.code(),
        note: problem.to_string(),
        warning: true,
        action: "ReadPolicy",
    }
}
