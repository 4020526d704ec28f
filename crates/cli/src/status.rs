//! `spotalis status`: every managed workload, what is wanted, what there is, and why the two differ.
//!
//! Half an opt-in is never silent: it is listed with the command that completes it. Shows what the index says and decides
//! nothing.

use std::collections::BTreeSet;
use std::io::{self, Write};

use serde::Serialize;
use spotalis_config::Config;
use spotalis_core::opt_in::OptIn;
use spotalis_kube::index::{NodeSummary, WorkloadView};
use spotalis_runtime::apiclient::Cluster;

use crate::args::{Environment, Output, StatusArgs};
use crate::exit::{Exit, talk};
use crate::state::{self, Counts, ProblemState, Severity, WorkloadState};
use crate::table::{self, Cell, Palette, Table, Tone};
use crate::view::{self, Picture};

/// What was found.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    workloads: Vec<WorkloadState>,
    half_opt_ins: Vec<HalfOptIn>,
    nodes: Counts,
    problems: Vec<ProblemState>,
}

/// A workload of which only one word is missing.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct HalfOptIn {
    namespace: String,
    kind: &'static str,
    name: String,
    replicas: u32,
    reason: &'static str,
    message: String,
    /// What completes the opt-in.
    command: String,
}

/// Shows the status.
pub async fn run(
    args: &StatusArgs,
    cluster: &Cluster,
    config: &Config,
    environment: &Environment,
) -> anyhow::Result<Exit> {
    let StatusArgs { namespace, all_namespaces: _, look } = args;
    let picture = view::read(cluster, config, namespace.as_deref()).await?;
    let report = Report::of(config, &picture);
    let palette = Palette::of(*look, environment);
    let wide = look.output == Output::Wide;
    table::present(&report, *look, |out| report.write(out, palette, wide))?;
    let doubts = picture.doubts(report.workloads.iter().map(|workload| workload.reason));
    doubts.into_iter().chain(report.advice()).for_each(|note| talk(&format!("note: {note}")));
    Ok(if report.is_fine() { Exit::Fine } else { Exit::Found })
}

impl Report {
    fn of(config: &Config, picture: &Picture) -> Self {
        let index = &picture.index;
        let mut report = Self {
            workloads: Vec::new(),
            half_opt_ins: Vec::new(),
            nodes: counts(index.node_summary()),
            problems: Vec::new(),
        };
        let mut problems = BTreeSet::new();
        for view in index.workload_keys().filter_map(|key| index.workload(key)) {
            match view.snapshot.opt_in {
                OptIn::Managed => {
                    let decision = state::decision(config, picture, &view);
                    report.workloads.push(WorkloadState::of(&view, &decision));
                }
                OptIn::Half(_) => report.half_opt_ins.extend(HalfOptIn::of(config, picture, &view)),
                OptIn::Out | OptIn::Never(_) => continue,
            }
            problems.extend(view.problems.iter().map(|problem| ProblemState::of(&view.key, problem)));
        }
        report.problems.extend(problems);
        report
    }

    fn is_fine(&self) -> bool {
        let Self { workloads, half_opt_ins, nodes: _, problems } = self;
        let warned = workloads.iter().any(|workload| workload.severity == Severity::Warning);
        !warned && half_opt_ins.is_empty() && problems.is_empty()
    }

    /// What a reader may not think of.
    fn advice(&self) -> Option<&'static str> {
        let Self { workloads, half_opt_ins, nodes, problems: _ } = self;
        if workloads.is_empty() && half_opt_ins.is_empty() {
            return Some(
                "no workload is opted in; label one, and its namespace, as `spotalis explain workload NAME` shows",
            );
        }
        (nodes.spot + nodes.on_demand == 0 && nodes.unknown > 0).then_some(
            "no node is known as spot or on-demand; if the installation has its own nodeLabels, name its configuration \
             with --config",
        )
    }

    fn write(&self, out: &mut dyn Write, palette: Palette, wide: bool) -> io::Result<()> {
        let Self { workloads, half_opt_ins, nodes, problems } = self;
        if !workloads.is_empty() || !half_opt_ins.is_empty() {
            self.overview(wide).write(out, palette)?;
            writeln!(out)?;
        }
        let Counts { spot, on_demand, unknown } = nodes;
        writeln!(out, "nodes: {spot} spot, {on_demand} on-demand, {unknown} unknown")?;
        if !half_opt_ins.is_empty() {
            table::heading(out, palette, "Half opt-ins, each with the command that completes it")?;
            let commands: BTreeSet<&str> = half_opt_ins.iter().map(|half| half.command.as_str()).collect();
            for command in commands {
                table::line(out, 2, command)?;
            }
        }
        if !problems.is_empty() {
            table::heading(out, palette, "Problems")?;
            for ProblemState { subject, key: _, message } in problems {
                table::line(out, 2, &format!("{subject}: {message}"))?;
            }
        }
        Ok(())
    }

    fn overview(&self, wide: bool) -> Table {
        let mut titles =
            vec!["NAMESPACE", "WORKLOAD", "KIND", "REPLICAS", "WANTED SPOT/OD", "ACTUAL SPOT/OD", "REASON"];
        if wide {
            titles.extend(["SPOT", "MIN ON-DEMAND", "PLACEMENT", "WINDOW", "WHY"]);
        }
        let mut table = Table::new(0, &titles);
        for workload in &self.workloads {
            table.row(workload_row(workload, wide));
        }
        for half in &self.half_opt_ins {
            table.row(half_row(half, wide));
        }
        table
    }
}

fn workload_row(workload: &WorkloadState, wide: bool) -> Vec<Cell> {
    let WorkloadState {
        namespace,
        kind,
        name,
        replicas,
        wanted,
        actual,
        drift: _,
        reason,
        severity,
        message,
        wake_at: _,
        policy,
    } = workload;
    let unknown = if actual.unknown > 0 { format!(" +{} unknown", actual.unknown) } else { String::new() };
    let mut row: Vec<Cell> = vec![
        namespace.into(),
        name.into(),
        kind.into(),
        replicas.to_string().into(),
        format!("{}/{}", wanted.spot, wanted.on_demand).into(),
        format!("{}/{}{unknown}", actual.spot, actual.on_demand).into(),
        Cell::toned(reason, severity.tone()),
    ];
    if wide {
        row.extend([
            format!("{} ({})", policy.spot_share(), policy.spot_percentage.from).into(),
            format!("{} ({})", policy.min_on_demand.value, policy.min_on_demand.from).into(),
            format!("{} ({})", policy.placement.value, policy.placement.from).into(),
            format!("{} ({})", policy.disruption_window.value, policy.disruption_window.from).into(),
            message.into(),
        ]);
    }
    row
}

fn half_row(half: &HalfOptIn, wide: bool) -> Vec<Cell> {
    let HalfOptIn { namespace, kind, name, replicas, reason, message, command: _ } = half;
    let mut row: Vec<Cell> = vec![
        namespace.into(),
        name.into(),
        kind.into(),
        replicas.to_string().into(),
        "-".into(),
        "-".into(),
        Cell::toned(reason, Tone::Warning),
    ];
    if wide {
        row.extend(["-".into(), "-".into(), "-".into(), "-".into(), message.into()]);
    }
    row
}

impl HalfOptIn {
    fn of(config: &Config, picture: &Picture, view: &WorkloadView) -> Option<Self> {
        let OptIn::Half(missing) = view.snapshot.opt_in else { return None };
        let WorkloadState { namespace, kind, name, replicas, reason, message, .. } =
            WorkloadState::of(view, &state::decision(config, picture, view));
        let command = missing.completing_command(kind, &namespace, &name);
        Some(Self { namespace, kind, name, replicas, reason, message, command })
    }
}

fn counts(NodeSummary { spot, on_demand, unknown }: NodeSummary) -> Counts {
    Counts { spot, on_demand, unknown }
}

#[cfg(test)]
mod tests;
