//! The page of permissions, from the manifest that every test on the rig runs with. Its comments are the reasons.
//!
//! Read line by line, because a reader of YAML drops comments. It knows just what a role consists of: a line that is none
//! of that, or a rule without a reason, is an error, so nothing is left out in silence.

use std::fmt::Write as _;

use anyhow::{Context as _, Result, bail, ensure};

use super::{code, heading_from, table};

const MANIFEST: &str = include_str!("../../../e2e/manifests/rbac.yaml");

/// A Role or a `ClusterRole`.
#[derive(Debug, Default, PartialEq, Eq)]
struct Role<'a> {
    kind: &'a str,
    name: &'a str,
    /// None of a `ClusterRole`.
    namespace: Option<&'a str>,
    rules: Vec<Rule<'a>>,
}

/// One of its rules.
#[derive(Debug, Default, PartialEq, Eq)]
struct Rule<'a> {
    reason: String,
    groups: Vec<&'a str>,
    resources: Vec<&'a str>,
    /// The only objects; empty is all.
    names: Vec<&'a str>,
    verbs: Vec<&'a str>,
}

pub fn page() -> Result<String> {
    let mut page = heading_from("Permissions", "`e2e/manifests/rbac.yaml`");
    page += "What `spotalis controller`, with its webhook, may do in a cluster, and why. It is what\n\
             [e2e/manifests/rbac.yaml](../../e2e/manifests/rbac.yaml) grants; every test on the rig runs with these rights and no\n\
             others. Nothing here writes to workloads, pod templates, nodes, Secrets, ConfigMaps or RBAC.\n";
    for role in roles(MANIFEST)? {
        let Role { kind, name, namespace, rules } = role;
        let place = namespace.map(|namespace| format!(" in `{namespace}`")).unwrap_or_default();
        writeln!(page, "\n## {kind} `{name}`{place}\n")?;
        page += &table(
            &["Resources", "Verbs", "Why"],
            rules.into_iter().map(|rule| {
                let Rule { reason, groups, resources, names, verbs } = rule;
                let resources: Vec<String> =
                    resources.iter().map(|resource| code(&full_name(resource, &groups))).collect();
                let names: Vec<String> = names.iter().map(|name| code(name)).collect();
                let only = if names.is_empty() { String::new() } else { format!(", only {}", names.join(", ")) };
                vec![resources.join(", ") + &only, verbs.join(", "), reason]
            }),
        );
    }
    page += "\nThe Role in `spotalis-system` is for the namespace in `controller.leaderElection.namespace`. With\n\
             `controller.watchNamespaces`, the ClusterRole needs its rules for `namespaces`, `nodes` and `nodepools` alone; the\n\
             others can be a Role in each of those namespaces.\n\n\
             A missing permission is named in the log, with the command that shows it. Without those on `nodepools` and on the\n\
             cluster-autoscaler's ConfigMap, `distribution.provisioner: auto` does not see who provides nodes.\n\n\
             The webhook needs no permission: it is asked, and asks nobody. `spotalis status` and `spotalis explain` use the\n\
             permissions of who runs them: `list` on what is listed here and on `events`, with a namespace `get` on it, and for\n\
             `--if` `get` on the workload. They name what is missing.\n";
    Ok(page)
}

/// The resource with its group, as kubectl writes it.
fn full_name(resource: &str, groups: &[&str]) -> String {
    match groups {
        [] | [""] => resource.to_owned(),
        groups => format!("{resource}.{}", groups.join("|")),
    }
}

/// The roles of a manifest; its other objects are passed over.
fn roles(manifest: &str) -> Result<Vec<Role<'_>>> {
    let documents = manifest
        .split("\n---\n")
        .filter(|document| document.lines().any(|line| matches!(line, "kind: ClusterRole" | "kind: Role")));
    documents.map(role).collect()
}

fn role(document: &str) -> Result<Role<'_>> {
    let mut role = Role::default();
    let mut reason = Vec::new();
    for line in document.lines() {
        let place = || format!("e2e/manifests/rbac.yaml, in a role: {line}");
        let Some((key, value)) = line.trim().trim_start_matches("- ").split_once(':').filter(|_| !is_comment(line))
        else {
            ensure!(is_comment(line), "not a line that is known here: {}", place());
            reason.push(line.trim().trim_start_matches('#').trim());
            continue;
        };
        let value = value.trim();
        match key {
            "apiVersion" | "metadata" | "rules" => {}
            "kind" => role.kind = value,
            "name" => role.name = value,
            "namespace" => role.namespace = Some(value),
            "apiGroups" => {
                ensure!(!reason.is_empty(), "a rule without a reason above it: {}", place());
                role.rules.push(Rule {
                    reason: reason.join(" "),
                    groups: list(value).with_context(place)?,
                    ..Rule::default()
                });
                reason.clear();
            }
            "resources" => last(&mut role).with_context(place)?.resources = list(value).with_context(place)?,
            "resourceNames" => last(&mut role).with_context(place)?.names = list(value).with_context(place)?,
            "verbs" => last(&mut role).with_context(place)?.verbs = list(value).with_context(place)?,
            _ => bail!("not a key that is known here: {}", place()),
        }
    }
    let complete = |rule: &Rule<'_>| !rule.resources.is_empty() && !rule.verbs.is_empty();
    ensure!(!role.rules.is_empty() && role.rules.iter().all(complete), "{role:?} is not complete");
    Ok(role)
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with('#')
}

fn last<'r, 'a>(role: &'r mut Role<'a>) -> Result<&'r mut Rule<'a>> {
    role.rules.last_mut().context("outside a rule")
}

/// A list on one line.
fn list(text: &str) -> Result<Vec<&str>> {
    let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).context("not a list on one line")?;
    Ok(inner.split(',').map(|word| word.trim().trim_matches('"')).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROLE: &str = "kind: Role\nmetadata:\n  name: a\n  namespace: b\nrules:\n  # Because it\n  # has to.\n  \
                        - apiGroups: [\"\", apps]\n    resources: [c, d/e]\n    resourceNames: [f]\n    verbs: [get, list]\n";

    #[test]
    fn a_role_is_read_with_its_reasons() {
        let bindings = "kind: RoleBinding\nroleRef:\n  kind: Role\n";
        let rule = Rule {
            reason: "Because it has to.".to_owned(),
            groups: vec!["", "apps"],
            resources: vec!["c", "d/e"],
            names: vec!["f"],
            verbs: vec!["get", "list"],
        };
        let role = Role { kind: "Role", name: "a", namespace: Some("b"), rules: vec![rule] };
        assert_eq!(roles(&format!("{bindings}---\n{ROLE}---\n{bindings}")).unwrap(), [role]);
    }

    #[test]
    fn nothing_is_left_out_in_silence() {
        for (what, from, to) in [
            ("a rule without a reason", "  # Because it\n  # has to.\n", ""),
            ("a list over several lines", "[get, list]", "\n    - get\n    - list"),
            ("an unknown key", "    verbs:", "    nonResourceURLs: [\"/\"]\n    verbs:"),
            ("no verbs", "    verbs: [get, list]\n", ""),
            ("no rules", "  - apiGroups", "  # - apiGroups"),
        ] {
            assert!(ROLE.contains(from) && roles(&ROLE.replacen(from, to, 1)).is_err(), "{what}");
        }
    }
}
