//! Owners and what belongs to them: objects in, writes out, and whole families under the engine.

use super::*;
use crate::controllers::namespace::Namespaces;
use crate::engine::bare::{Bare, epoch, short, store_of};

fn thing(name: &str, owners: &[(&str, &str)]) -> Value {
    let owner = |(name, uid): &(&str, &str)| json!({"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": uid, "blockOwnerDeletion": true});
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"namespace": "a", "name": name, "ownerReferences": owners.iter().map(owner).collect::<Vec<_>>()},
    })
}

fn going(mut object: Value, finalizer: &str) -> Value {
    object["metadata"]["deletionTimestamp"] = json!("2026-03-01T12:00:00Z");
    object["metadata"]["finalizers"] = json!([finalizer]);
    object
}

fn look(name: &str, objects: Vec<Value>) -> Act {
    GarbageCollector.look(&store_of(objects), &Key::new(Kind::ConfigMap, "a", name), epoch())
}

#[test]
fn what_nobody_owns_any_more_goes_and_what_somebody_owns_stays() {
    let unknown = {
        let mut thing = thing("x", &[("o", "o-uid")]);
        thing["metadata"]["ownerReferences"][0]["kind"] = json!("Gadget");
        thing
    };
    for (name, objects, expected) in [
        ("owned by nobody", vec![thing("x", &[])], ""),
        ("the owner is there", vec![thing("x", &[("o", "o-uid")]), thing("o", &[])], ""),
        ("the owner is gone", vec![thing("x", &[("o", "o-uid")])], "delete ConfigMap x"),
        ("a namesake of the owner", vec![thing("x", &[("o", "old")]), thing("o", &[])], "delete ConfigMap x"),
        ("an owner of no known kind", vec![unknown], ""),
        (
            "one of two is there",
            vec![thing("x", &[("o", "old"), ("p", "p-uid")]), thing("p", &[])],
            "replace ConfigMap x",
        ),
        ("it goes already", vec![going(thing("x", &[("o", "old")]), "example.com/f")], ""),
        ("an owner that waits for it", vec![thing("x", &[("o", "o-uid")]), going(thing("o", &[]), FOREGROUND)], ""),
    ] {
        assert_eq!(short(&look("x", objects)), expected, "{name}");
    }
    let act = look("x", vec![thing("x", &[("o", "old"), ("p", "p-uid")]), thing("p", &[])]);
    let Write::Replace { object, .. } = &act.batches[0][0] else { panic!("{act:?}") };
    assert_eq!(object["metadata"]["ownerReferences"].as_array().map(Vec::len), Some(1));
    assert_eq!(object["metadata"]["ownerReferences"][0]["uid"], "p-uid");
}

#[test]
fn finalizers_say_what_becomes_of_dependents() {
    let owner = |finalizer| going(thing("o", &[]), finalizer);
    let child = || thing("x", &[("o", "o-uid")]);
    let grandchild = || thing("y", &[("x", "x-uid")]);
    for (name, objects, expected) in [
        ("orphans", vec![owner(ORPHAN), child()], "replace ConfigMap x | replace ConfigMap o"),
        ("nothing to orphan", vec![owner(ORPHAN)], " | replace ConfigMap o"),
        ("dependents first", vec![owner(FOREGROUND), child()], " | delete ConfigMap x"),
        ("theirs too", vec![owner(FOREGROUND), child(), grandchild()], "replace ConfigMap x | delete ConfigMap x"),
        ("they are going", vec![owner(FOREGROUND), going(child(), FOREGROUND)], ""),
        ("they are gone", vec![owner(FOREGROUND)], "replace ConfigMap o"),
        (
            "somebody else wants it",
            vec![owner(FOREGROUND), thing("x", &[("o", "o-uid"), ("p", "p-uid")]), thing("p", &[])],
            "replace ConfigMap o",
        ),
    ] {
        assert_eq!(short(&look("o", objects)), expected, "{name}");
    }
}

fn names(world: &Bare) -> Vec<String> {
    world.list(Kind::ConfigMap).iter().map(|object| object.name().to_owned()).collect()
}

/// A child, a grandchild, and one that nobody owns. UIDs are given by the world.
fn family(world: &Bare, finalizer: Option<&str>) -> Key {
    let key = |name: &str| Key::new(Kind::ConfigMap, "a", name);
    let mut owner = thing("o", &[]);
    if let Some(finalizer) = finalizer {
        owner["metadata"]["finalizers"] = json!([finalizer]);
    }
    world.create(owner);
    let uid = |name: &str| world.get(&key(name)).uid().to_owned();
    world.create(thing("x", &[("o", &uid("o"))]));
    world.create(thing("y", &[("x", &uid("x"))]));
    world.create(thing("z", &[]));
    key("o")
}

#[tokio::test(start_paused = true)]
async fn families_go_together_or_are_left_behind() {
    for (finalizer, expected) in [(None, vec!["z"]), (Some(FOREGROUND), vec!["z"]), (Some(ORPHAN), vec!["x", "y", "z"])]
    {
        let world = Bare::new();
        world.run(vec![Box::new(GarbageCollector)]);
        let owner = family(&world, finalizer);
        world.wait(1.0).await;
        assert_eq!(names(&world), ["o", "x", "y", "z"]);
        world.delete(&owner);
        world.wait(1.0).await;
        assert_eq!(names(&world), expected, "{finalizer:?}");
        let gone: Vec<String> = world.read_removed();
        if finalizer == Some(FOREGROUND) {
            assert_eq!(gone, ["y", "x", "o"]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_made_for_an_owner_that_is_gone_goes_at_once() {
    let world = Bare::new();
    world.run(vec![Box::new(GarbageCollector)]);
    world.create(thing("x", &[("o", "gone")]));
    world.wait(1.0).await;
    assert_eq!(names(&world), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_namespace_is_emptied_and_then_goes() {
    let world = Bare::new();
    world.run(vec![Box::new(GarbageCollector), Box::new(Namespaces)]);
    let namespace = Key::new(Kind::Namespace, "", "a");
    world.create(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"}, "spec": {"finalizers": ["kubernetes"]}}));
    let held = Key::new(Kind::ConfigMap, "a", "held");
    world.create(going(thing("held", &[]), "example.com/f"));
    world.change(&held, |held| held["metadata"]["deletionTimestamp"] = Value::Null);
    family(&world, None);
    world.delete(&namespace);
    world.wait(1.0).await;
    assert_eq!(names(&world), ["held"]);
    assert_eq!(world.get(&namespace).text("/status/phase"), Some("Terminating"));
    let mut after = world.get(&held).json().clone();
    after["metadata"]["finalizers"] = json!([]);
    world.does(Write::Replace { object: after, subresource: None });
    world.wait(1.0).await;
    assert!(world.find(&namespace).is_none() && names(&world).is_empty());
}
