//! From method, path and headers to what is asked of which kind of object. Paths that name nothing here are refused as the
//! real server refuses them.
//!
//! It looks at no object and at no body.

use bytes::Bytes;
use http::{HeaderMap, Method};

use super::query::{Query, decoded};
use super::status::Status;
use crate::resource::{Kind, RESOURCES, Resource};

/// What a request is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub kind: Kind,
    /// Empty outside namespaces, and of a collection over all of them.
    pub namespace: String,
    /// None of a collection.
    pub name: Option<String>,
    /// Empty of the object itself.
    pub subresource: &'static str,
}

impl Target {
    /// Over all namespaces.
    fn is_everywhere(&self) -> bool {
        self.kind.resource().namespaced && self.namespace.is_empty()
    }
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Get,
    List,
    Watch,
    Create,
    Update,
    Patch,
    Delete,
    DeleteCollection,
}

impl Verb {
    /// As in an audit log.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
        }
    }
}

/// Where a path leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    Objects(Target),
    /// `/apis`, `/version`, `/readyz`, …; the path as it is.
    Page(String),
}

/// A request, its body included.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub verb: Verb,
    pub target: Target,
    pub query: Query,
    pub accept: String,
    pub content_type: String,
    pub user_agent: String,
    pub body: Bytes,
}

/// Finds what a path names.
pub(crate) fn route(path: &str) -> Result<Route, Status> {
    // A slash is one, however it was written; between two of them is a segment without a name.
    let path = decoded(path);
    let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
    let (group, version, rest) = match segments.as_slice() {
        ["api", version, rest @ ..] if !rest.is_empty() => ("", *version, rest),
        ["apis", group, version, rest @ ..] if !rest.is_empty() => (*group, *version, rest),
        _ => return Ok(Route::Page(path)),
    };
    if !RESOURCES.iter().any(|row| row.group == group) {
        return Err(Status::no_page());
    }
    let target = target(group, version, rest).ok_or_else(Status::no_resource)?;
    Ok(Route::Objects(target))
}

fn target(group: &str, version: &str, rest: &[&str]) -> Option<Target> {
    let of = |plural: &str| Kind::of_path(group, version, plural);
    if let ["namespaces", namespace, plural, rest @ ..] = rest
        && let Some(kind) = of(plural)
        && kind.resource().namespaced
    {
        return with_name(kind, (*namespace).to_owned(), rest);
    }
    let (plural, rest) = rest.split_first()?;
    let kind = of(plural)?;
    if kind.resource().namespaced && !rest.is_empty() {
        return None;
    }
    with_name(kind, String::new(), rest)
}

fn with_name(kind: Kind, namespace: String, rest: &[&str]) -> Option<Target> {
    let (name, subresource) = match rest {
        [] => (None, ""),
        [name] => (Some((*name).to_owned()), ""),
        [name, word] => (Some((*name).to_owned()), *kind.resource().subresources.iter().find(|known| *known == word)?),
        _ => return None,
    };
    Some(Target { kind, namespace, name, subresource })
}

/// What a method asks of a target.
pub(crate) fn verb(method: &Method, target: &Target, query: &Query) -> Result<Verb, Status> {
    let &Resource { kind, .. } = target.kind.resource();
    let verb = match (method.as_str(), &target.name, target.subresource) {
        ("GET", None, _) if query.is("watch") => Verb::Watch,
        ("GET", None, _) => Verb::List,
        ("POST", None, _) if !target.is_everywhere() => Verb::Create,
        ("DELETE", None, _) if !target.is_everywhere() && kind != Kind::Namespace => Verb::DeleteCollection,
        ("GET", Some(_), "" | "status" | "scale") => Verb::Get,
        ("PUT", Some(_), "" | "status" | "scale" | "finalize") => Verb::Update,
        ("PATCH", Some(_), "" | "status" | "scale") => Verb::Patch,
        ("DELETE", Some(_), "") => Verb::Delete,
        ("POST", Some(_), "eviction" | "binding") => Verb::Create,
        _ => return Err(Status::method_not_allowed()),
    };
    Ok(verb)
}

/// A header as text; empty if it is not there.
pub(crate) fn header(headers: &HeaderMap, name: &str) -> String {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(method: &str, path: &str, query: &str) -> Result<String, u16> {
        let route = route(path).map_err(|status| status.code)?;
        let Route::Objects(target) = route else { return Ok("page".to_owned()) };
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let verb = verb(&method, &target, &Query::parse(query)).map_err(|status| status.code)?;
        let name = target.name.unwrap_or_else(|| "*".to_owned());
        Ok(format!("{} {} {}/{name} {}", verb.name(), target.kind, target.namespace, target.subresource)
            .trim()
            .to_owned())
    }

    #[test]
    fn paths_and_methods_are_verbs_on_kinds() {
        for (method, path, query, what) in [
            ("GET", "/api/v1/pods", "", Ok("list Pod /*")),
            ("GET", "/api/v1/namespaces/a/pods", "watch=true", Ok("watch Pod a/*")),
            ("POST", "/api/v1/namespaces/a/pods", "", Ok("create Pod a/*")),
            ("POST", "/api/v1/pods", "", Err(405)),
            ("DELETE", "/api/v1/namespaces/a/pods", "", Ok("deletecollection Pod a/*")),
            ("DELETE", "/api/v1/pods", "", Err(405)),
            ("DELETE", "/api/v1/namespaces", "", Err(405)),
            ("DELETE", "/api/v1/nodes", "", Ok("deletecollection Node /*")),
            ("GET", "/api/v1/namespaces/a", "", Ok("get Namespace /a")),
            ("PUT", "/api/v1/namespaces/a/finalize", "", Ok("update Namespace /a finalize")),
            ("GET", "/api/v1/namespaces/a/status", "", Ok("get Namespace /a status")),
            ("PATCH", "/apis/apps/v1/namespaces/a/deployments/d/scale", "", Ok("patch Deployment a/d scale")),
            ("POST", "/api/v1/namespaces/a/pods/p/eviction", "", Ok("create Pod a/p eviction")),
            ("GET", "/api/v1/namespaces/a/pods/p/eviction", "", Err(405)),
            ("GET", "/api/v1/namespaces/a/pods/p/log", "", Err(404)),
            ("GET", "/api/v1/namespaces/a/pods/p%2Fstatus", "", Ok("get Pod a/p status")),
            ("GET", "/api/v1/namespaces/a/pods/p%2Fq", "", Err(404)),
            ("GET", "/api/v1//pods", "", Err(404)),
            ("GET", "/api/v1/pods/p", "", Err(404)),
            ("GET", "/api/v1/nodes/n", "", Ok("get Node /n")),
            ("GET", "/api/v1/namespaces/a/nodes/n", "", Err(404)),
            ("PUT", "/api/v1/namespaces/a/pods", "", Err(405)),
            ("POST", "/api/v1/namespaces/a/pods/p", "", Err(405)),
            ("GET", "/apis/apps/v2/namespaces/a/deployments", "", Err(404)),
            ("GET", "/apis/nothing/v1/namespaces/a/deployments", "", Err(404)),
            ("GET", "/apis/apps/v1", "", Ok("page")),
            ("GET", "/healthz", "", Ok("page")),
        ] {
            assert_eq!(read(method, path, query), what.map(str::to_owned), "{method} {path}");
        }
    }
}
