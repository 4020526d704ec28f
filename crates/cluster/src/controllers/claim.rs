//! Who controls what: a controller takes in what belongs to nobody and matches its selector, and lets go of what no longer
//! matches.
//!
//! It decides by owner references and labels only; what is then done with the objects is the controller's own.

use serde_json::json;

use super::pods::{controller_reference, is_controlled_by, is_over, key, write_object};
use crate::engine::Write;
use crate::object::Object;
use crate::resource::Kind;
use crate::selector;
use crate::store::{Key, Store};

/// The objects of this kind to which another belongs or that, if it belongs to nobody, would take it in.
pub fn claimants(store: &Store, object: &Object, kind: Kind) -> Vec<Key> {
    if let Some(owner) = object.controller() {
        let ours = owner.kind == kind.resource().name;
        return ours.then(|| Key::new(kind, object.namespace(), owner.name)).into_iter().collect();
    }
    let owners = store.list(kind, Some(object.namespace()));
    owners.filter(|owner| selects(owner, object)).filter_map(|owner| key(owner)).collect()
}

/// Whether an owner's selector selects an object.
pub fn selects(owner: &Object, object: &Object) -> bool {
    selector::selects(owner.at("/spec/selector"), object.at("/metadata/labels"))
}

/// The changes of owner references that are due between an owner and the objects of a kind.
pub fn claims(store: &Store, owner: &Object, kind: Kind) -> Vec<Write> {
    claims_if(store, owner, kind, &|_| true)
}

/// The same, where only some of the objects that match may be taken in.
pub fn claims_if(store: &Store, owner: &Object, kind: Kind, may: &dyn Fn(&Object) -> bool) -> Vec<Write> {
    let selector = owner.at("/spec/selector");
    let selects = |object: &Object| selector::selects(selector, object.at("/metadata/labels"));
    // Of thousands of pods that are alike only one is asked.
    let has_strays = kind != Kind::Pod || store.crowds(owner).any(|(_, crowd)| !selects(&crowd.one));
    let owned = store.owned_by(owner.uid()).filter(|(key, _)| has_strays && key.kind == kind).map(|(_, object)| object);
    let strays = owned.filter(|object| is_controlled_by(object, owner) && !selects(object));
    let released = strays.flat_map(|object| {
        let mut after = object.json().clone();
        if let Some(owners) = after["metadata"]["ownerReferences"].as_array_mut() {
            owners.retain(|reference| reference["uid"] != owner.uid());
        }
        write_object(object, after)
    });
    let free = |object: &Object| object.deletion().is_none() && !is_over(object);
    let orphans = store.uncontrolled(kind, owner.namespace()).filter(|object| free(object));
    let adopted =
        orphans.filter(|object| owner.deletion().is_none() && selects(object) && may(object)).flat_map(|object| {
            let mut after = object.json().clone();
            let owners = &mut after["metadata"]["ownerReferences"];
            match owners.as_array_mut() {
                Some(owners) => owners.push(controller_reference(owner)),
                None => *owners = json!([controller_reference(owner)]),
            }
            write_object(object, after)
        });
    released.chain(adopted).collect()
}
