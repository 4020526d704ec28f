//! `cargo xtask docs`: writes the reference pages that are drawn from what they describe, and tells when they are not up to
//! date.
//!
//! A page is a plain function of the tables that the crates themselves go by, so it cannot say anything else than they do.
//! What the tables do not know is said here, in [`NOT_YET`] and [`flags`] alone; everything else that needs words is written
//! by hand in other pages.

mod permissions;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde_json::Value;
use spotalis_config::{Flags, Key, OTHER_VARIABLES};
use spotalis_core::opt_in::{Mode, OptInRules};
use spotalis_core::reason::{REASONS, Severity};
use spotalis_runtime::metrics::{MetricDoc, PREFIX, TABLES};
use spotalis_sim::play::Terms;
use spotalis_sim::{catalogue, embedded, report};
use spotalis_webhook::admission::Outcome;
use spotalis_webhook::registration::{self, registration};

use crate::mutants::{
    self,
    table::{Defect, Simulated},
};
use crate::workspace::Workspace;

/// What to do with the pages.
#[derive(Debug, Args)]
pub struct DocsOptions {
    /// Write nothing; fail if a page is not what the code says.
    #[arg(long)]
    check: bool,
}

/// Keys that are read and checked and have no effect in this release, by the path they begin with.
const NOT_YET: &[&str] =
    &["distribution.spotFallbackAfter", "protect", "interruption", "drain", "guard", "notifications", "prices"];

/// Spotalis's own namespace where nobody chose another.
const NAMESPACE: &str = "spotalis-system";

/// A generated page.
struct Page {
    path: &'static str,
    render: fn() -> Result<String>,
}

const PAGES: &[Page] = &[
    Page { path: "docs/reference/configuration.md", render: configuration },
    Page { path: "docs/reference/metrics.md", render: metrics },
    Page { path: "docs/reference/events.md", render: events },
    Page { path: "docs/reference/permissions.md", render: permissions::page },
    Page { path: "docs/reference/registration.md", render: registration_page },
    Page { path: "docs/demo.svg", render: demo },
    Page { path: "docs/reference/defects.md", render: defects },
];

/// Writes or checks the pages.
pub fn run(options: &DocsOptions) -> Result<()> {
    let DocsOptions { check: only_check } = options;
    let root = Workspace::read()?.root;
    if *only_check { check(&root) } else { write(&root) }
}

fn write(root: &Path) -> Result<()> {
    for Page { path, render } in PAGES {
        let file = root.join(path);
        let directory = file.parent().context("a page lies in a directory")?;
        fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
        fs::write(&file, render()?).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}

/// Fails if a page is not what the code says.
pub fn check(root: &Path) -> Result<()> {
    let mut stale = Vec::new();
    for Page { path, render } in PAGES {
        if fs::read_to_string(root.join(path)).ok() != Some(render()?) {
            stale.push(*path);
        }
    }
    if stale.is_empty() {
        return Ok(());
    }
    bail!("not what the code says: {}; run `cargo xtask docs` and commit the result", stale.join(", "))
}

/// The first lines of a generated page.
fn heading(title: &str) -> String {
    heading_from(title, "the code")
}

fn heading_from(title: &str, source: &str) -> String {
    format!(
        "# {title}\n\n<!-- Written by `cargo xtask docs` from {source}. Do not edit: the next run would undo it. -->\n\n"
    )
}

/// A row of a table; what would end a cell is escaped.
fn row(cells: &[String]) -> String {
    let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|").replace('\n', " ")).collect();
    format!("| {} |\n", cells.join(" | "))
}

fn table(columns: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let names: Vec<String> = columns.iter().map(|name| (*name).to_owned()).collect();
    let rule: Vec<String> = columns.iter().map(|_| "---".to_owned()).collect();
    let mut table = row(&names) + &row(&rule);
    table.extend(rows.into_iter().map(|cells| row(&cells)));
    table
}

fn code(text: &str) -> String {
    format!("`{text}`")
}

fn is_under(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

fn configuration() -> Result<String> {
    let keys = spotalis_config::keys();
    if let Some(prefix) = NOT_YET.iter().find(|prefix| !keys.iter().any(|key| is_under(&key.path, prefix))) {
        bail!("no key is {prefix} any more; remove it from NOT_YET in xtask/src/docs.rs");
    }
    let mut page = heading("Configuration");
    let variable = spotalis_config::variable("controller.resyncPeriod");
    writeln!(
        page,
        "Read in this order, the later over the earlier: the file named by `--config`, then the environment, then flags.\n\
         Every key has an environment variable: its path in upper case after `SPOTALIS_`, as `{variable}` for\n\
         `controller.resyncPeriod`; lists and maps are YAML flow there. Unknown keys and bad values stop the start, each with\n\
         file, line, column, what is allowed and what was probably meant.\n\n\
         {}\n\
         *Change* says whether a changed file takes effect at once or after a restart. Keys marked \u{2020} are read and\n\
         checked but have no effect in this release: the engines they belong to are not there yet.\n",
        flags()
    )?;
    let mut sections: BTreeMap<String, Vec<Key>> = BTreeMap::new();
    for key in keys {
        // Keys without a section of their own come first: the empty name sorts before all others.
        let section = key.path.split_once('.').map_or("", |(section, _)| section).to_owned();
        sections.entry(section).or_default().push(key);
    }
    for (section, keys) in sections {
        writeln!(page, "## {}\n", if section.is_empty() { "Top level".to_owned() } else { code(&section) })?;
        page += &table(&["Key", "For", "Allowed", "Default", "Change"], keys.iter().map(key_row));
        page.push('\n');
    }
    Ok(page.trim_end().to_owned() + "\n")
}

/// What is said elsewhere than in a key. The flags are the binary's; a test holds this table against them.
fn flags() -> String {
    // One that is new there is new here.
    let Flags { read_only: _, log_level: _, log_format: _ } = Flags::default();
    let flags = table(
        &["Flag of every command", "For"],
        [
            ("--config FILE", "the configuration file"),
            ("--kubeconfig FILE", "the kubeconfig; without it the usual one, else the pod's service account"),
            ("--read-only", "`readOnlyMode: true`"),
            ("--log-level LEVEL", "`logging.level`"),
            ("--log-format FORMAT", "`logging.format`"),
        ]
        .map(|(flag, meaning)| vec![code(flag), meaning.to_owned()]),
    );
    let variables = OTHER_VARIABLES.map(|(name, meaning)| format!("{} ({meaning})", code(name)));
    format!("{flags}\nVariables that are no keys: {}.\n", variables.join(", "))
}

fn key_row(key: &Key) -> Vec<String> {
    let Key { path, variable: _, kind: _, default, allowed, description, reloadable } = key;
    let mark = if NOT_YET.iter().any(|prefix| is_under(path, prefix)) { " \u{2020}" } else { "" };
    let change = if *reloadable { "at once" } else { "restart" };
    vec![code(path) + mark, description.clone(), allowed.clone(), shown_default(default), change.to_owned()]
}

fn shown_default(default: &Value) -> String {
    match default {
        Value::Null => "not set".to_owned(),
        Value::String(text) if text.is_empty() => "empty".to_owned(),
        Value::String(text) => code(text),
        value @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => code(&value.to_string()),
    }
}

fn metrics() -> Result<String> {
    let mut page = heading("Metrics");
    page += "Served at `/metrics` on `metrics.port` (8080) in the OpenMetrics text format. Labels are closed sets, except for\n\
             those that name a workload: such series exist for managed workloads only, for at most 5,000 of them, and not at all\n\
             with `metrics.perWorkload: false`. `type` is `spot`, `on_demand` or `unknown`.\n\n\
             What balance does is counted and shown by the replica that leads. An admission that a follower passes on is counted\n\
             twice: `forwarded` by the follower, and by the leader as what came of it. A new leader counts the annotations that\n\
             cannot be used anew.\n\n";
    let all = TABLES.iter().copied().chain([spotalis_controller::METRICS, spotalis_webhook::metrics::METRICS]);
    let mut docs: Vec<&MetricDoc> = all.flatten().collect();
    docs.sort_by_key(|doc| doc.name);
    page += &table(
        &["Metric", "Kind", "Labels", "Meaning"],
        docs.iter().map(|doc| {
            let MetricDoc { name, kind, labels, help } = doc;
            let labels: Vec<String> = labels.iter().map(|label| code(label)).collect();
            vec![format!("`{PREFIX}_{name}`"), kind.as_str().to_owned(), labels.join(", "), format!("{help}.")]
        }),
    );
    let outcomes: Vec<String> = Outcome::ALL.iter().map(|outcome| code(outcome.as_str())).collect();
    writeln!(
        page,
        "\nThe `result` of `{PREFIX}_reconcile_total` is a reason from [Events and reasons](events.md), or what the API server\n\
         answered to a write; the `reason` of `{PREFIX}_evictions_total` is one of these reasons. The `result` of\n\
         `{PREFIX}_admission_requests_total` is one of {}.",
        outcomes.join(", ")
    )?;
    Ok(page)
}

fn events() -> Result<String> {
    let mut page = heading("Events and reasons");
    page += "One vocabulary: the reason of an Event, the `result` of `spotalis_reconcile_total` where no write failed, the field\n\
             `reason` of a log line and the column REASON of `spotalis status` are the same words. A reason with a dash in the\n\
             column *Event* is never an Event. An Event is published when the reason of a workload changes, not on every pass;\n\
             repetitions within ten minutes become a series on the Event that is there.\n\n\
             `spotalis status` decides by what it reads of the cluster and of these Events. `LimitReached` it cannot know, for\n\
             only the leader counts the moves under way; there it shows what would be decided without it.\n\n";
    page += &table(
        &["Reason", "Event", "Meaning"],
        REASONS.iter().map(|doc| {
            let event = match doc.event {
                None => "\u{2013}",
                Some(Severity::Normal) => "Normal",
                Some(Severity::Warning) => "Warning",
            };
            vec![code(doc.code), event.to_owned(), doc.meaning.to_owned()]
        }),
    );
    writeln!(page, "\n`kubectl get events --field-selector reason=Rebalanced` lists those of one reason.")?;
    Ok(page)
}

/// What the API server has to be told of the webhook.
fn registration_page() -> Result<String> {
    let rules = OptInRules {
        mode: Mode::Both,
        namespace_selector: spotalis_core::selector::Selector::default(),
        own_namespace: NAMESPACE.into(),
        watch_namespaces: BTreeSet::new(),
    };
    let client = registration::Client::Service {
        namespace: NAMESPACE.to_owned(),
        name: "spotalis".to_owned(),
        ca: String::new(),
    };
    let mut object = serde_json::to_value(registration("spotalis", client, &rules))?;
    object["webhooks"][0]["clientConfig"]["caBundle"] = "the CA of the webhook's certificate: PEM, in base64".into();
    let mut page = heading("The webhook's registration");
    writeln!(
        page,
        "What the API server is told: which pods it asks the webhook about, and that it goes on without an answer. Nothing\n\
         registers it by itself in this release. With `optIn: either` there is no `matchLabels`; with another namespace in\n\
         `controller.leaderElection.namespace`, that one stands in the place of `{NAMESPACE}`.\n\n\
         ```json\n{}\n```",
        serde_json::to_string_pretty(&object)?
    )?;
    Ok(page)
}

/// The picture of what `spotalis demo` plays if nothing else is said.
fn demo() -> Result<String> {
    let scenario = catalogue::scenario(catalogue::DEFAULT).context("the default scenario is among those built in")?;
    let played = |with_spotalis| embedded::run(&scenario, Terms { seed: 1, with_spotalis }, |_, _| ());
    Ok(report::picture(&scenario, &played(true)?, &played(false)?))
}

/// What the tests are known to catch.
fn defects() -> Result<String> {
    let mut page = heading_from("Defects that are caught", &format!("`{}`", mutants::table::FILE));
    page += "A test that cannot fail proves nothing. Each of these defects is a slip of a hand, and `cargo xtask mutants` makes\n\
             it in a copy of the code, one at a time, and shows that it is caught: by the test, which `cargo test -p` runs alone\n\
             when given these words, and where a seed is named, by the simulated cluster of that seed as well, with\n\
             the property that is not kept; `cargo xtask sim --seed` shows it. The judge of the simulation shares no line with the code that it judges.\n\n";
    page += &table(
        &["Defect", "What would go wrong", "Where", "Test", "Seed"],
        mutants::table::read()?.into_iter().map(|defect| {
            let Defect { name, harm, file, from: _, to: _, test, seed } = defect;
            let told = |Simulated { number, property }| format!("{number}: {property}");
            let seed = seed.map_or_else(|| "\u{2013}".to_owned(), told);
            vec![code(&name), harm, code(&file), code(&test.to_string()), seed]
        }),
    );
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pages_are_what_the_code_says() {
        check(&Workspace::read().unwrap().root).unwrap();
    }

    #[test]
    fn cells_stay_within_their_row() {
        assert_eq!(row(&["a|b".to_owned(), "c\nd".to_owned()]), "| a\\|b | c d |\n");
    }

    #[test]
    fn a_prefix_ends_at_a_dot() {
        assert!(is_under("guard", "guard") && is_under("guard.enabled", "guard"));
        assert!(!is_under("guardian", "guard"));
    }
}
