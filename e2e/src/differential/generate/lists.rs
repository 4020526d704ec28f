//! Reading many: pages, selectors by label and field, and the revisions that a list may speak of.

use embedded_cluster::resource::Kind;
use serde_json::json;

use super::super::step::{Sent, collection, encoded};
use super::{Draft, path_of};

const LENGTH: usize = 60;

const LABELS: &[&str] = &[
    "l",
    "l=a",
    "l==b",
    "l!=a",
    "!l",
    "l in (b,d)",
    "l notin (b,,c)",
    "l,x=y",
    "x in ()",
    "a b c",
    "a in (b",
    "a=b!",
    "a,",
    ",a",
    "-=b",
    "a=-",
    "a>1",
    "a>x",
    "n>1",
    "n<3",
    "!",
    "a in b",
    "a in (b c)",
    "",
    "a=b,c",
    "a/b/c=d",
];

const FIELDS: &[&str] = &[
    "metadata.name=a",
    "metadata.name!=a",
    "metadata.namespace={ns}",
    "metadata.name=a,metadata.name=b",
    "foo=bar",
    "foo",
    "spec.nodeName=",
    "spec.nodeName=nope",
    "status.phase=Pending",
    "status.phase=Pending,metadata.name!=p0",
    "type=Opaque",
    "spec.unschedulable=true",
    "status.replicas=0",
    "spec.restartPolicy=Always",
    "reason=R",
    "x==y,",
];

const REVISIONS: &[&str] = &[
    "resourceVersion=x",
    "resourceVersionMatch=Exact",
    "resourceVersion=1&resourceVersionMatch=x",
    "limit=x",
    "limit=-1",
    "sendInitialEvents=true",
    "resourceVersion=0&resourceVersionMatch=Exact",
    "continue=abc&resourceVersion=5",
    "limit=0",
    "limit=1&continue=x",
    "watch=true&resourceVersion=x",
    "watch=true&fieldSelector=x%3Dy",
    "timeoutSeconds=x",
    "watch=true&resourceVersionMatch=Exact&resourceVersion=1",
    "sendInitialEvents=true&watch=true",
    "resourceVersion=-1",
    "watch=true&labelSelector=a%20b%20c",
    "continue=eyJ2IjoieCJ9",
];

pub(super) fn draft(draft: &mut Draft) {
    let kind = *draft.chance.pick(&[Kind::ConfigMap, Kind::ConfigMap, Kind::Secret, Kind::Pod, Kind::Lease]);
    let path = collection(kind.resource());
    let mut written = Vec::new();
    for (number, name) in ["a", "b", "c", "d", "e", "p0"].into_iter().enumerate() {
        let mut object = super::object::object(&mut draft.chance, kind, name);
        object["metadata"]["labels"] = json!({"l": name, "n": number.to_string()});
        object["metadata"]["finalizers"].take();
        written.push(draft.create(kind, object));
    }
    // Freshens the server's cache, from which some lists are answered.
    draft.list(&path);
    while draft.steps.len() < LENGTH {
        match draft.chance.below(12) {
            0..=2 => pages(draft, &path),
            3 | 4 => {
                let selector = *draft.chance.pick(LABELS);
                draft.list(format!("{path}?labelSelector={}", encoded(selector)));
            }
            5 | 6 => {
                let selector = *draft.chance.pick(FIELDS);
                let kind = if draft.chance.percent(50) { kind } else { draft.kind() };
                let scope = if kind.resource().namespaced { "" } else { "&labelSelector=seq%3D{ns}" };
                draft.list(format!("{}?fieldSelector={}{scope}", collection(kind.resource()), encoded(selector)));
            }
            7 => {
                let query = *draft.chance.pick(REVISIONS);
                draft.list(format!("{path}?{query}"));
            }
            8 | 9 => past(draft, &path, &written),
            10 => {
                let name = *draft.chance.pick(&["a", "b", "c"]);
                let value = draft.chance.below(100).to_string();
                let one = path_of(kind.resource(), name);
                written.push(draft.merge(one, json!({"metadata": {"labels": {"x": value}}})));
                draft.list(&path);
            }
            _ => everywhere(draft, kind),
        }
    }
}

/// One page after the other, sometimes with a change between, and sometimes with what is not allowed.
fn pages(draft: &mut Draft, path: &str) {
    let selector = *draft.chance.pick(&["", "", "&labelSelector=l", "&labelSelector=l%20in%20%28b%2Cd%29"]);
    let limit = *draft.chance.pick(&[1, 2, 4, 9]);
    let mut page = draft.request("page", "GET", format!("{path}?limit={limit}{selector}"), Sent::Nothing);
    for _ in 0..draft.chance.below(4) {
        let more = *draft.chance.weighted(&[(8, ""), (1, "&resourceVersion=5"), (1, "&resourceVersionMatch=Exact")]);
        let query = format!("?limit={limit}{selector}&continue=${{{page}/metadata/continue}}{more}");
        page = draft.request("page", "GET", format!("{path}{query}"), Sent::Nothing);
    }
}

/// What there was when something was written.
fn past(draft: &mut Draft, path: &str, written: &[usize]) {
    let at = *draft.chance.pick(written);
    let how = *draft.chance.pick(&[
        "&resourceVersionMatch=Exact",
        "&resourceVersionMatch=Exact&limit=2",
        "&resourceVersionMatch=NotOlderThan",
        "&resourceVersionMatch=NotOlderThan&limit=2",
        "&limit=1",
        "",
    ]);
    draft.list(format!("{path}?resourceVersion=${{{at}/metadata/resourceVersion}}{how}"));
    let name = *draft.chance.pick(&["a", "c"]);
    let how = *draft.chance.pick(&["0", "x", "1"]);
    draft.get(format!("{path}/{name}?resourceVersion={how}"));
    draft.list(format!("{path}?resourceVersion=0&limit=2"));
}

/// Over all namespaces, of which only this one counts.
fn everywhere(draft: &mut Draft, kind: Kind) {
    let path = collection(kind.resource()).replace("namespaces/{ns}/", "");
    draft.list(format!("{path}?fieldSelector=metadata.namespace%3D{{ns}}"));
    draft.request("list", "GET", format!("{path}?fieldSelector=metadata.namespace%3D{{ns}}"), Sent::Nothing);
    draft.last().accept = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
}
