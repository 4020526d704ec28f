//! What is wrong with objects, for all kinds: one variation at a time, mostly as a trial, for what counts is the answer.

use super::super::step::{Sent, collection};
use super::object::object;
use super::variation::vary;
use super::{Draft, path_of};

const LENGTH: usize = 70;

pub(super) fn draft(draft: &mut Draft) {
    while draft.steps.len() < LENGTH {
        let kind = draft.kind();
        let row = kind.resource();
        let name = draft.name(kind);
        let mut object = object(&mut draft.chance, kind, &name);
        vary(&mut draft.chance, kind, &mut object);
        if draft.chance.percent(10) {
            vary(&mut draft.chance, kind, &mut object);
        }
        let validation = *draft.chance.pick(&["", "&fieldValidation=Strict", "&fieldValidation=Ignore"]);
        if draft.chance.percent(20) {
            draft.put("update", path_of(row, &name) + "?dryRun=All" + validation, Sent::Json(object));
        } else if draft.chance.percent(15) {
            draft.post("invalid", collection(row), object);
        } else {
            draft.post("invalid", collection(row) + "?dryRun=All" + validation, object);
        }
    }
}
