//! The differences that are known, and why they do not matter: the one table of them. The page on the embedded cluster
//! shows the same lines, and a test holds them together.

use serde_json::{Value, json};

use super::compare::Difference;
use super::send::Answer;
use super::step::{APPLY, PROTOBUF, Step, YAML};

/// A known difference.
#[derive(Clone, Copy, Debug)]
pub struct Explained {
    /// Where it shows.
    pub what: &'static str,
    /// What a real API server does.
    pub real: &'static str,
    /// What the embedded cluster does.
    pub here: &'static str,
    /// Why it does not matter.
    pub why: &'static str,
    pub(crate) covers: fn(&Case<'_>) -> bool,
}

/// One difference, and what it is the answer to.
pub(crate) struct Case<'a> {
    pub step: &'a Step,
    pub difference: &'a Difference,
    /// Of a watch, none.
    pub answers: Option<(&'a Answer, &'a Answer)>,
}

impl Case<'_> {
    fn texts(&self) -> Option<(&str, &str)> {
        let Difference { real, here, .. } = self.difference;
        Some((real.as_str()?, here.as_str()?))
    }

    fn is_at(&self, place: &str) -> bool {
        self.difference.at.starts_with(place)
    }

    /// Where a refusal says why.
    fn is_reason(&self) -> bool {
        self.is_at("/body/message") || self.is_at("/body/details/causes")
    }

    fn codes(&self) -> Option<(u16, u16)> {
        self.answers.map(|(real, here)| (real.code, here.code))
    }
}

/// All of them.
pub const EXPLAINED: &[Explained] = &[
    Explained {
        what: "Warnings",
        real: "warns of unknown and of repeated fields, of fractions of a byte, of values that were allowed by mistake and \
               of names that surprise",
        here: "warns of unknown fields",
        why: "A warning changes nothing, and no client of Spotalis reads one.",
        covers: warnings,
    },
    Explained {
        what: "What a pod's update may not change",
        real: "shows the lines of the pod that differ, as Go prints them",
        here: "says which fields may change, and shows no lines",
        why: "Code, reason and field are the same; the lines are for people.",
        covers: lines_of_a_pod,
    },
    Explained {
        what: "The order of fields in a quoted object",
        real: "an object that is quoted in a message has the order of its Go type",
        here: "it has the order of the alphabet",
        why: "Nobody reads an object out of a message.",
        covers: order_in_quotes,
    },
    Explained {
        what: "The order of what is wrong with a quota, with data or with annotations, and of conflicts with several managers",
        real: "another order each time",
        here: "the order of the alphabet",
        why: "A real server does not keep it either.",
        covers: order_of_causes,
    },
    Explained {
        what: "What is wrong with YAML",
        real: "an apply patch is YAML, and what is wrong with it is said in the words of a YAML parser",
        here: "it is read as JSON, and YAML that is not JSON is refused with the same code",
        why: "kube and kubectl send JSON.",
        covers: yaml,
    },
    Explained {
        what: "Elements of a list that have the same key",
        real: "`managedFields` names the element, and none of its fields",
        here: "it names its fields, too",
        why: "Such a list can be created and not be applied.",
        covers: repeated_keys,
    },
    Explained {
        what: "Validation that is left out",
        real: "refuses names of volumes and of ports that are wrong or said twice, a quota's scopes, a namespace's finalizers \
               without a domain, `minDomains` with `ScheduleAnyway`",
        here: "accepts them",
        why: "None of them decides where a pod runs; whoever simulates manifests has had them accepted by a cluster.",
        covers: validation,
    },
    Explained {
        what: "A pod's overhead",
        real: "403 without a RuntimeClass that says the same",
        here: "accepted",
        why: "There are no RuntimeClasses here.",
        covers: overhead,
    },
    Explained {
        what: "YAML and protobuf",
        real: "reads and writes them",
        here: "415 and 406, and says that JSON is read and written",
        why: "kube sends JSON, and so does kubectl whatever it reads from a file. What it makes up itself, as by `kubectl \
              create deployment`, it sends as protobuf: `kubectl create deployment … --dry-run=client -o yaml | kubectl \
              apply -f -` does the same.",
        covers: media,
    },
    Explained {
        what: "What is in a column of a table",
        real: "`description` is the documentation of the field",
        here: "it is empty",
        why: "kubectl does not show it.",
        covers: descriptions,
    },
];

fn warnings(case: &Case<'_>) -> bool {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let (real, here) = (list(&case.difference.real), list(&case.difference.here));
    let is_of_unknown = |warning: &Value| warning.as_str().is_some_and(|text| text.contains("unknown field"));
    let known =
        |warnings: &[Value]| warnings.iter().filter(|warning| is_of_unknown(warning)).cloned().collect::<Vec<_>>();
    case.is_at("/warnings") && known(&real) == known(&here) && here.iter().all(is_of_unknown)
}

fn lines_of_a_pod(case: &Case<'_>) -> bool {
    let Some((real, here)) = case.texts() else { return false };
    let cut = |text: &str| text.split_once('\n').map(|(first, _)| first.to_owned());
    case.is_reason()
        && real.contains("pod updates may not change fields")
        && cut(real).is_some()
        && cut(real) == cut(here)
}

/// Numbers aside, for revisions are among them.
fn letters(text: &str) -> Vec<char> {
    let mut letters: Vec<char> = text.chars().filter(|c| !c.is_ascii_digit()).collect();
    letters.sort_unstable();
    letters
}

fn order_in_quotes(case: &Case<'_>) -> bool {
    let Some((real, here)) = case.texts() else { return false };
    case.is_reason()
        && real.contains("patch: Invalid value") | case.is_at("/body/details/causes")
        && real.contains('{')
        && letters(real) == letters(here)
}

fn causes(answer: &Answer) -> Vec<Value> {
    let mut causes = answer.body["details"]["causes"].as_array().cloned().unwrap_or_default();
    causes.sort_by_key(ToString::to_string);
    causes
}

fn order_of_causes(case: &Case<'_>) -> bool {
    let Some((real, here)) = case.answers else { return false };
    let text = |answer: &Answer| letters(answer.body["message"].as_str().unwrap_or_default());
    let is_conflict = real.body["reason"] == "Conflict" && case.step.content_type == APPLY;
    let of_annotations = causes(real).iter().filter(|cause| cause["field"] == "metadata.annotations").count();
    let is_of_a_map = ["/resourcequotas", "/configmaps", "/secrets"].iter().any(|kind| case.step.path.contains(kind));
    let is_ours = is_conflict || is_of_a_map || of_annotations > 1;
    is_ours && case.is_reason() && causes(real) == causes(here) && text(real) == text(here)
}

fn yaml(case: &Case<'_>) -> bool {
    let ours = "error decoding YAML: error converting YAML to JSON";
    case.step.content_type == APPLY
        && case.is_at("/body/message")
        && case.texts().is_some_and(|(real, here)| real != here && here.starts_with(ours))
}

fn repeated_keys(case: &Case<'_>) -> bool {
    let Difference { at, real, here } = case.difference;
    at.contains("/managedFields/") && at.contains("/f:env/k:") && real.is_null() && *here == json!({})
}

fn validation(case: &Case<'_>) -> bool {
    let is_left_out = |field: &&str| {
        let pod = field.strip_prefix("spec.template.").unwrap_or(field);
        let ends = |end: &str| pod.ends_with(end);
        pod.starts_with("spec.volumes[") && ends(".name")
            || pod.contains(".ports[") && ends(".name")
            || pod.starts_with("spec.topologySpreadConstraints[") && ends(".minDomains")
            || *field == "spec.scopes"
            || case.step.path.starts_with("/api/v1/namespaces") && field.starts_with("spec.finalizers")
    };
    let Some((real, here)) = case.answers else { return false };
    let (faults, rest): (Vec<Value>, Vec<Value>) =
        causes(real).into_iter().partition(|cause| cause["field"].as_str().is_some_and(|field| is_left_out(&field)));
    match (real.code, here.code) {
        // Nothing else is wrong.
        (422, 200 | 201 | 409) => case.is_at("/code") && !faults.is_empty() && rest.is_empty(),
        (422, 422) => case.is_reason() && !faults.is_empty() && rest == causes(here),
        _ => false,
    }
}

fn overhead(case: &Case<'_>) -> bool {
    let said = case.answers.and_then(|(real, _)| real.body["message"].as_str()).unwrap_or_default();
    case.is_at("/code") && said.contains("Overhead set without corresponding RuntimeClass")
}

fn media(case: &Case<'_>) -> bool {
    let is_other = matches!(case.step.content_type, YAML | PROTOBUF);
    let names = |text: &str| text.contains("application/json, application/yaml, application/vnd.kubernetes.protobuf");
    match case.codes() {
        Some((415 | 406, 415 | 406)) => {
            case.is_at("/body/message") && case.texts().is_some_and(|(real, here)| names(real) && !names(here))
        }
        Some((_, here)) => case.is_at("/code") && is_other && here == 415,
        None => false,
    }
}

fn descriptions(case: &Case<'_>) -> bool {
    let Difference { at, real: _, here } = case.difference;
    at.contains("/columnDefinitions/") && at.ends_with("/description") && here == ""
}

/// The line that explains a difference.
pub(crate) fn explanation(case: &Case<'_>) -> Option<usize> {
    EXPLAINED.iter().position(|explained| (explained.covers)(case))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table as the page shows it.
    fn table() -> Vec<String> {
        let row = |cells: [&str; 4]| format!("| {} |", cells.map(|cell| cell.replace('|', "\\|")).join(" | "));
        let head = [row(["What", "Real", "Here", "Why it does not matter"]), row(["---"; 4])];
        let rows = EXPLAINED.iter().map(|Explained { what, real, here, why, covers: _ }| row([what, real, here, why]));
        head.into_iter().chain(rows).collect()
    }

    #[test]
    fn the_page_shows_the_same_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference/embedded-cluster.md");
        let page = std::fs::read_to_string(path).unwrap();
        let shown: Vec<&str> = page.lines().filter(|line| line.starts_with('|')).collect();
        assert_eq!(shown, table(), "the page has to say:\n{}", table().join("\n"));
    }
}
