//! Tells the id that an admission wrote on a pod from one that somebody copied into the pod template.
//!
//! Pods that were never admitted carry the template's id, all the same one; an admission writes its own over it. So an id
//! proves something only if it differs from the template's. For that a fingerprint is enough, and it takes an eighth of the
//! memory of the text.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use spotalis_core::policy::keys;

use crate::slim;

/// The fingerprint of an admission id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark(u64);

impl Mark {
    pub(super) fn of(id: &str) -> Self {
        // Its keys are constant: the same text has the same fingerprint in every process.
        let mut hasher = DefaultHasher::new();
        id.hash(&mut hasher);
        Self(hasher.finish())
    }

    /// The mark of a template, which nobody admitted.
    pub(super) fn in_template(template: &slim::TemplateMeta) -> Option<Self> {
        template.annotations.get(keys::ADMISSION_ID).map(Self::of)
    }
}
