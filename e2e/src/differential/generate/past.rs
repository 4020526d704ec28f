//! What there is to know of the past, before and after the servers forget it. Both stop knowing then, so nothing else may be
//! under way.

use embedded_cluster::resource::Kind;
use serde_json::json;

use super::super::step::{COMPACT, Reading, Sent, collection};
use super::Draft;

pub(super) fn draft(draft: &mut Draft) {
    let path = collection(Kind::ConfigMap.resource());
    let objects = ["a", "b", "c", "d"].map(|name| json!({"metadata": {"name": name}, "data": {"k": "v"}}));
    let written = objects.map(|object| draft.create(Kind::ConfigMap, object));
    let page = draft.request("page", "GET", format!("{path}?limit=2"), Sent::Nothing);
    draft.merge(format!("{path}/a"), json!({"data": {"k": "w"}}));
    draft.delete(format!("{path}/c"), None);
    let at = format!("resourceVersion=${{{}/metadata/resourceVersion}}", written[1]);
    let exact = format!("{path}?{at}&resourceVersionMatch=Exact");
    draft.list(&*exact);
    draft.request("compaction", COMPACT, "", Sent::Nothing);
    draft.list(exact);
    draft.list(format!("{path}?{at}&limit=1"));
    draft.list(format!("{path}?{at}&resourceVersionMatch=NotOlderThan"));
    let token = format!("continue=${{{page}/metadata/continue}}");
    let expired = draft.request("page", "GET", format!("{path}?limit=2&{token}"), Sent::Nothing);
    draft.request("page", "GET", format!("{path}?limit=2&continue=${{{expired}/metadata/continue}}"), Sent::Nothing);
    draft.request("watch", "GET", format!("{path}?watch=true&{at}"), Sent::Nothing);
    draft.last().reading = Reading::ToEnd;
    draft.list(path);
}
