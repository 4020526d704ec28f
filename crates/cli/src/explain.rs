//! `spotalis explain`: why a workload or a pod is where it is, where each value comes from, and what happens next.
//!
//! Every figure is computed by the function that webhook and controllers call, and every reason is theirs. Nothing is
//! decided and nothing is written here.

use std::collections::BTreeMap;
use std::io::{self, Write};

use jiff::Timestamp;
use serde::Serialize;
use spotalis_config::Config;
use spotalis_core::capacity::CapacityType;
use spotalis_core::duration;
use spotalis_core::opt_in::{Missing, Mode, OptIn};
use spotalis_core::plan;
use spotalis_core::rebalance::{Action, Decision, Pod, Snapshot};
use spotalis_core::split::{Floor, Target};
use spotalis_core::suggest;
use spotalis_kube::index::{Index, Outlook, WorkloadKey, WorkloadKind, WorkloadView};
use spotalis_runtime::apiclient::Cluster;

use crate::args::{Environment, Explain, Look};
use crate::exit::{Exit, talk};
use crate::plan::{Hypothesis, PlanState, median};
use crate::state::{self, Counts, Pair, PolicyState, ProblemState, Severity, WorkloadState};
use crate::table::{self, Cell, Palette, Table, Tone};
use crate::view::{self, Picture, PodDetail};

/// Slots that are written out.
const SLOTS: u32 = 60;

/// A question that cannot be answered.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    /// A kind that is not ours to look at.
    #[error("{kind} is no kind of workload; use deployment or statefulset, as in deployment/web")]
    UnknownKind {
        /// The word.
        kind: String,
    },
    /// Nothing of that name.
    #[error("there is no {what} {name} in namespace {namespace}{}", meant(.suggestion.as_deref()))]
    Unknown {
        /// What was looked for.
        what: &'static str,
        /// Its name.
        name: String,
        /// Where.
        namespace: String,
        /// What was probably meant.
        suggestion: Option<String>,
    },
    /// Two of that name.
    #[error("{name} is a Deployment and a StatefulSet; write deployment/{name} or statefulset/{name}")]
    Ambiguous {
        /// The name.
        name: String,
    },
    /// A value of `--if` that would not hold on a workload either.
    #[error("--if: {}", .problems.join("; "))]
    Hypothesis {
        /// What is wrong, never empty.
        problems: Vec<String>,
    },
}

fn meant(suggestion: Option<&str>) -> String {
    suggestion.map(|meant| format!("; did you mean {meant}?")).unwrap_or_default()
}

impl ExplainError {
    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unknown { what: "pod", name: _, namespace, suggestion: _ } => {
                Some(format!("`kubectl get pods --namespace {namespace}` lists them; --namespace looks elsewhere"))
            }
            Self::Unknown { .. } => {
                Some("`spotalis status` lists what is managed; --namespace looks elsewhere".to_owned())
            }
            Self::UnknownKind { .. } | Self::Ambiguous { .. } => None,
            Self::Hypothesis { .. } => Some("`spotalis explain workload NAME --if spot-percentage=80`".to_owned()),
        }
    }
}

/// What is asked, as far as it makes sense without looking at the cluster.
#[derive(Debug)]
pub struct Question {
    namespace: Option<String>,
    look: Look,
    about: Subject,
}

#[derive(Debug)]
enum Subject {
    Workload { kind: Option<WorkloadKind>, name: String, hypothesis: Option<Hypothesis> },
    Pod { name: String },
}

impl Question {
    /// Takes the words apart.
    pub fn read(words: Explain) -> Result<Self, ExplainError> {
        match words {
            Explain::Workload { target, namespace, hypothesis, look } => {
                let (kind, name) = match target.split_once('/') {
                    Some((word, name)) => {
                        let unknown = || ExplainError::UnknownKind { kind: word.to_owned() };
                        (Some(WorkloadKind::parse(word).ok_or_else(unknown)?), name.to_owned())
                    }
                    None => (None, target),
                };
                let hypothesis = Hypothesis::read(&hypothesis)?;
                Ok(Self { namespace, look, about: Subject::Workload { kind, name, hypothesis } })
            }
            Explain::Pod { name, namespace, look } => Ok(Self { namespace, look, about: Subject::Pod { name } }),
        }
    }

    /// Looks at the cluster and answers.
    pub async fn answer(self, cluster: &Cluster, config: &Config, environment: &Environment) -> anyhow::Result<Exit> {
        let Self { namespace, look, about } = self;
        let namespace = namespace.as_deref().unwrap_or(&cluster.namespace);
        let mut picture = view::read(cluster, config, Some(namespace)).await?;
        let palette = Palette::of(look, environment);
        let (exit, given) = match about {
            Subject::Workload { kind, name, hypothesis } => {
                let key = find(&picture.index, namespace, kind, &name)?;
                let details = view::pods(cluster, namespace).await?;
                let mut found = Explanation::of(config, &picture, &key, &details)
                    .expect("a key of the index leads to a workload of the index");
                if let Some(hypothesis) = hypothesis {
                    let before = found.managed().then_some(&found.workload);
                    let subject = (&key, before);
                    let plan =
                        crate::plan::suppose(&hypothesis, cluster, config, &mut picture, subject, &details).await?;
                    found.plan = Some(plan);
                }
                table::present(&found, look, |out| found.write(out, palette))?;
                (found.exit(), found.reasons())
            }
            Subject::Pod { name } => {
                let details = view::pods(cluster, namespace).await?;
                let found = PodExplanation::of(config, &picture, namespace, &name, &details)?;
                table::present(&found, look, |out| found.write(out, palette))?;
                (Exit::Fine, Vec::new())
            }
        };
        picture.doubts(given).into_iter().for_each(|note| talk(&format!("note: {note}")));
        Ok(exit)
    }
}

fn find(index: &Index, namespace: &str, kind: Option<WorkloadKind>, name: &str) -> Result<WorkloadKey, ExplainError> {
    let here = || index.workload_keys().filter(|key| &*key.namespace == namespace);
    let of_kind = |key: &&WorkloadKey| kind.is_none_or(|kind| kind == key.kind);
    let mut found = here().filter(of_kind).filter(|key| &*key.name == name);
    match (found.next(), found.next()) {
        (Some(key), None) => Ok(key.clone()),
        (Some(_), Some(_)) => Err(ExplainError::Ambiguous { name: name.to_owned() }),
        (None, _) => Err(ExplainError::Unknown {
            what: kind.map_or("Deployment or StatefulSet", WorkloadKind::as_str),
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            suggestion: suggest::closest(name, here().filter(of_kind).map(|key| &*key.name)).map(str::to_owned),
        }),
    }
}

/// Everything about one workload.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Explanation {
    #[serde(flatten)]
    workload: WorkloadState,
    opt_in: OptInState,
    split: SplitState,
    slots: Vec<&'static str>,
    pods: Vec<PodState>,
    next: String,
    problems: Vec<ProblemState>,
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<PlanState>,
}

/// Whether a workload is managed, and what would have to be said.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct OptInState {
    managed: bool,
    message: String,
    /// What completes it; empty where nothing is missing or nothing would help.
    commands: Vec<String>,
}

/// The figures of the split.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct SplitState {
    replicas: u32,
    spot_percentage: u8,
    rounding: &'static str,
    /// The percentage of the replicas, rounded.
    share: u32,
    min_on_demand: u32,
    /// The replicas above the floor.
    above_floor: u32,
    spot: u32,
    on_demand: u32,
}

/// A pod in the table of its workload.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct PodState {
    name: String,
    node: Option<String>,
    r#type: &'static str,
    slot: Option<u32>,
    ready: bool,
    why: String,
}

impl Explanation {
    fn of(
        config: &Config,
        picture: &Picture,
        key: &WorkloadKey,
        details: &BTreeMap<String, PodDetail>,
    ) -> Option<Self> {
        let Picture { index, now, notes: _, told: _ } = picture;
        let view = index.workload(key)?;
        let decision = state::decision(config, picture, &view);
        let snapshot = &view.snapshot;
        let target = snapshot.policy.target();
        let workload = WorkloadState::of(&view, &decision);
        Some(Self {
            opt_in: OptInState::of(snapshot.opt_in, config.settings.opt_in, key),
            split: SplitState::of(target, snapshot.replicas, workload.policy.rounding),
            slots: (1..=snapshot.replicas.min(SLOTS)).map(|slot| target.slot(slot).as_str()).collect(),
            pods: snapshot.pods.iter().map(|pod| PodState::of(index, key, snapshot, pod, details)).collect(),
            next: next(config, &decision, &workload, *now),
            problems: view.problems.iter().map(|problem| ProblemState::of(key, problem)).collect(),
            plan: None,
            workload,
        })
    }

    const fn managed(&self) -> bool {
        self.opt_in.managed
    }

    /// The codes of the reasons that it gives.
    fn reasons(&self) -> Vec<&'static str> {
        let planned = self.plan.as_ref().map(|plan| (plan.ends_with, plan.moves.is_empty()));
        let moves = planned.filter(|(_, empty)| !empty).map(|_| "Rebalanced");
        [Some(self.workload.reason), planned.map(|(ends_with, _)| ends_with), moves].into_iter().flatten().collect()
    }

    fn exit(&self) -> Exit {
        let fine = self.workload.severity != Severity::Warning && self.problems.is_empty();
        let half = !self.opt_in.managed && self.workload.reason == "HalfOptIn";
        if fine && !half { Exit::Fine } else { Exit::Found }
    }

    fn write(&self, out: &mut dyn Write, palette: Palette) -> io::Result<()> {
        let Self { workload, opt_in, split, slots, pods, next: _, problems, plan } = self;
        self.summary().write(out, palette)?;
        for command in &opt_in.commands {
            table::line(out, 2, command)?;
        }
        table::heading(out, palette, "Policy")?;
        policy_table(&workload.policy).write(out, palette)?;
        table::heading(out, palette, "Split")?;
        split.write(out)?;
        write_slots(out, slots, split.replicas)?;
        if !pods.is_empty() {
            table::heading(out, palette, "Pods")?;
            pod_table(pods).write(out, palette)?;
        }
        if !problems.is_empty() {
            table::heading(out, palette, "Problems")?;
            for ProblemState { subject, key: _, message } in problems {
                table::line(out, 2, &format!("{subject}: {message}"))?;
            }
        }
        plan.as_ref().map_or(Ok(()), |plan| plan.write(out, palette))
    }

    fn summary(&self) -> Table {
        let WorkloadState { namespace, kind, name, replicas, wanted, actual, reason, severity, message, .. } =
            &self.workload;
        let mut table = Table::untitled(0);
        table.row(["workload".into(), format!("{kind} {name} in namespace {namespace}").into()]);
        let tone = if self.opt_in.managed { Tone::Good } else { Tone::Plain };
        table.row(["opt-in".into(), Cell::toned(&self.opt_in.message, tone)]);
        table.row(["replicas".into(), replicas.to_string().into()]);
        if self.opt_in.managed {
            let (Pair { spot, on_demand }, Counts { spot: s, on_demand: o, unknown }) = (wanted, actual);
            table.row(["wanted".into(), format!("{spot} spot, {on_demand} on-demand").into()]);
            table.row(["actual".into(), format!("{s} spot, {o} on-demand, {unknown} unknown").into()]);
        }
        table.row(["reason".into(), Cell::toned(format!("{reason}: {message}"), severity.tone())]);
        table.row(["next".into(), self.next.as_str().into()]);
        table
    }
}

impl OptInState {
    fn of(opt_in: OptIn, mode: Mode, key: &WorkloadKey) -> Self {
        let command = |missing: Missing| missing.completing_command(key.kind.as_str(), &key.namespace, &key.name);
        let (message, missing) = match (opt_in, mode) {
            (OptIn::Managed, _) => ("managed".to_owned(), vec![]),
            (OptIn::Out, Mode::Both) => {
                ("not opted in; these commands do it".to_owned(), vec![Missing::Namespace, Missing::Workload])
            }
            (OptIn::Out, Mode::Either) => ("not opted in; this command does it".to_owned(), vec![Missing::Workload]),
            (OptIn::Half(missing), _) => (format!("half: {missing}; this command completes it"), vec![missing]),
            (OptIn::Never(reason), _) => (format!("never: {reason}"), vec![]),
        };
        Self { managed: opt_in == OptIn::Managed, message, commands: missing.into_iter().map(command).collect() }
    }
}

impl SplitState {
    fn of(target: Target, replicas: u32, rounding: &'static str) -> Self {
        // The share is the split without a floor.
        let share = Target { min_on_demand: Floor::Count(0), ..target }.split(replicas).spot;
        let min_on_demand = target.min_on_demand.of(replicas);
        let Pair { spot, on_demand } = target.split(replicas).into();
        let above_floor = replicas.saturating_sub(min_on_demand);
        let spot_percentage = target.spot_percentage.get();
        Self { replicas, spot_percentage, rounding, share, min_on_demand, above_floor, spot, on_demand }
    }

    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let Self { replicas, spot_percentage, rounding, share, min_on_demand, above_floor, spot, on_demand } = self;
        let by = match *rounding {
            "nearest" => "round",
            other => other,
        };
        writeln!(
            out,
            "  spot = min( {by}({replicas} * {spot_percentage} / 100), max(0, {replicas} - {min_on_demand}) )"
        )?;
        writeln!(out, "       = min( {share}, {above_floor} ) = {spot}")?;
        writeln!(out, "  on-demand = {replicas} - {spot} = {on_demand}")
    }
}

/// The first slots, as `S S O`.
fn write_slots(out: &mut dyn Write, slots: &[&'static str], replicas: u32) -> io::Result<()> {
    if slots.is_empty() {
        return Ok(());
    }
    let letter = |word: &&'static str| if *word == CapacityType::Spot.as_str() { "S" } else { "O" };
    let strip: Vec<&str> = slots.iter().map(letter).collect();
    let more = if replicas > SLOTS { format!(" and {} more", replicas - SLOTS) } else { String::new() };
    writeln!(out, "  slots: {}{more} (S is spot, O is on-demand)", strip.join(" "))
}

fn policy_table(policy: &PolicyState) -> Table {
    let PolicyState {
        spot_percentage,
        min_on_demand,
        placement,
        spot_fallback_after,
        disruption_window,
        protect,
        rounding,
        fails_closed,
    } = policy;
    let mut table = Table::new(2, &["KEY", "VALUE", "FROM"]);
    let mut row = |key: &str, value: &str, from: &str| table.row([key.into(), value.into(), from.into()]);
    row("spot-percentage", &policy.spot_share(), spot_percentage.from);
    row("min-on-demand", &min_on_demand.value, min_on_demand.from);
    row("placement", placement.value, placement.from);
    row("spot-fallback-after", &spot_fallback_after.value, spot_fallback_after.from);
    row("disruption window", &disruption_window.value, disruption_window.from);
    if let Some(protect) = protect {
        row("protect", &protect.value.to_string(), protect.from);
    }
    row("rounding", rounding, "distribution.rounding");
    if *fails_closed {
        table.row([Cell::toned(
            "a value cannot be used, so new pods go to on-demand and nothing is moved",
            Tone::Warning,
        )]);
    }
    table
}

fn pod_table(pods: &[PodState]) -> Table {
    let mut table = Table::new(2, &["NAME", "NODE", "TYPE", "SLOT", "READY", "WHY"]);
    for PodState { name, node, r#type, slot, ready, why } in pods {
        let slot = slot.map_or_else(|| "-".to_owned(), |slot| slot.to_string());
        let ready = if *ready { Cell::from("yes") } else { Cell::toned("no", Tone::Warning) };
        let node = node.as_deref().unwrap_or("-");
        table.row([name.into(), node.into(), r#type.into(), slot.into(), ready, why.into()]);
    }
    table
}

impl PodState {
    fn of(
        index: &Index,
        key: &WorkloadKey,
        snapshot: &Snapshot,
        pod: &Pod,
        details: &BTreeMap<String, PodDetail>,
    ) -> Self {
        let node = index.pod(&key.namespace, &pod.name).and_then(|seen| seen.node);
        Self {
            name: pod.name.to_string(),
            node: node.map(|node| node.to_string()),
            r#type: state::word(pod.capacity),
            slot: pod.slot,
            ready: pod.ready,
            why: why(snapshot, pod, details.get(&*pod.name)),
        }
    }
}

/// Why the pod is where it is, as far as anything tells.
fn why(snapshot: &Snapshot, pod: &Pod, detail: Option<&PodDetail>) -> String {
    let recorded = detail.and_then(|detail| detail.placement_reason.clone());
    let steered = pod.steered.filter(|_| pod.marked);
    let why = match (recorded, steered) {
        (Some(recorded), _) if pod.marked => recorded,
        (_, Some(steered)) => format!("steered to {steered}"),
        (_, None) if pod.marked => "left alone at admission".to_owned(),
        (_, None) if snapshot.pods.iter().any(|other| other.marked && other.created < pod.created) => {
            "not steered: the webhook was not called when it was created".to_owned()
        }
        (_, None) => "not steered: older than the opt-in, or the webhook was not called".to_owned(),
    };
    match steered {
        Some(steered) if pod.capacity != Some(steered) => {
            format!("{why}; it runs on {} nevertheless", state::word(pod.capacity))
        }
        Some(_) | None => why,
    }
}

/// What happens next, and when.
fn next(config: &Config, decision: &Decision, workload: &WorkloadState, now: Timestamp) -> String {
    let Decision { action, wake_at, .. } = decision;
    if config.settings.read_only_mode && action.is_some() {
        return "nothing, because readOnlyMode is on".to_owned();
    }
    match (action, wake_at) {
        (Some(Action::Evict { pod, uid: _, probe }), _) => {
            let proof = if probe.is_some() { ", which shows whether the webhook is called" } else { "" };
            format!("the controller evicts {pod} now, and waits for the replacement to be Ready{proof}")
        }
        (Some(Action::Seat(seats)), _) => format!("{} pods are given their slots; nothing restarts", seats.len()),
        (None, Some(wake_at)) => format!("looked at again at {wake_at}, {}", ahead(now, *wake_at)),
        (None, None) => match workload.severity {
            Severity::Fine => "nothing, until the workload or its policy changes".to_owned(),
            Severity::Acting | Severity::Waiting | Severity::Warning => {
                "looked at again as soon as something changes".to_owned()
            }
        },
    }
}

fn ahead(now: Timestamp, at: Timestamp) -> String {
    let seconds = at.duration_since(now).as_secs().max(0).unsigned_abs();
    format!("in {}", duration::format(std::time::Duration::from_secs(seconds)))
}

/// Everything about one pod.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct PodExplanation {
    namespace: String,
    name: String,
    /// `namespace/kind/name`.
    workload: Option<String>,
    node: Option<String>,
    r#type: &'static str,
    steered: Option<&'static str>,
    slot: Option<u32>,
    slot_wants: Option<&'static str>,
    /// Whether it is where its slot wants it; none where it has no slot.
    matches: Option<bool>,
    why: String,
    /// What will happen to it.
    fate: String,
}

impl PodExplanation {
    fn of(
        config: &Config,
        picture: &Picture,
        namespace: &str,
        name: &str,
        details: &BTreeMap<String, PodDetail>,
    ) -> Result<Self, ExplainError> {
        let index = &picture.index;
        let Some(seen) = index.pod(namespace, name) else {
            return Err(ExplainError::Unknown {
                what: "pod",
                name: name.to_owned(),
                namespace: namespace.to_owned(),
                suggestion: suggest::closest(name, details.keys().map(String::as_str)).map(str::to_owned),
            });
        };
        let mut found = Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            workload: seen.workload.as_ref().map(ToString::to_string),
            node: seen.node.map(|node| node.to_string()),
            r#type: state::word(seen.node_class),
            steered: None,
            slot: None,
            slot_wants: None,
            matches: None,
            why: "the scheduler chose its node".to_owned(),
            fate: "nothing: no Deployment or StatefulSet owns it, so Spotalis leaves it alone".to_owned(),
        };
        let Some(view) = seen.workload.and_then(|key| index.workload(&key)) else { return Ok(found) };
        found.judge(config, picture, &view, details);
        Ok(found)
    }

    fn judge(
        &mut self,
        config: &Config,
        picture: &Picture,
        view: &WorkloadView,
        details: &BTreeMap<String, PodDetail>,
    ) {
        let snapshot = &view.snapshot;
        if snapshot.opt_in != OptIn::Managed {
            "nothing: its workload is not managed; `spotalis explain workload` says why".clone_into(&mut self.fate);
            return;
        }
        let Some(pod) = snapshot.pods.iter().find(|pod| *pod.name == *self.name) else {
            "nothing: it is terminating or has finished, and counts no more".clone_into(&mut self.fate);
            return;
        };
        let wants = pod.slot.map(|slot| snapshot.policy.target().slot(slot));
        self.r#type = state::word(pod.capacity);
        self.steered = pod.steered.map(CapacityType::as_str);
        self.slot = pod.slot;
        self.slot_wants = wants.map(CapacityType::as_str);
        self.matches = wants.map(|wants| pod.capacity == Some(wants));
        self.why = why(snapshot, pod, details.get(&*pod.name));
        self.fate = fate(config, picture, view, pod, details);
    }

    fn write(&self, out: &mut dyn Write, palette: Palette) -> io::Result<()> {
        let Self { namespace, name, workload, node, r#type, steered, slot, slot_wants, matches, why, fate } = self;
        let mut table = Table::untitled(0);
        table.row(["pod".into(), format!("{name} in namespace {namespace}").into()]);
        table.row(["workload".into(), workload.as_deref().unwrap_or("none").into()]);
        table.row(["node".into(), node.as_deref().unwrap_or("none yet").into()]);
        table.row(["type".into(), r#type.into()]);
        table.row(["steered to".into(), steered.unwrap_or("nothing").into()]);
        let seat = match (slot, slot_wants) {
            (Some(slot), Some(wants)) => format!("{slot}, which wants {wants}"),
            _ => "none".to_owned(),
        };
        let tone = match matches {
            Some(true) => Tone::Good,
            Some(false) => Tone::Warning,
            None => Tone::Plain,
        };
        table.row(["slot".into(), Cell::toned(seat, tone)]);
        table.row(["why".into(), why.into()]);
        table.row(["next".into(), fate.into()]);
        table.write(out, palette)
    }
}

/// What will happen to a pod of a managed workload, if nothing else changes.
fn fate(
    config: &Config,
    picture: &Picture,
    view: &WorkloadView,
    pod: &Pod,
    details: &BTreeMap<String, PodDetail>,
) -> String {
    let Picture { index, now, notes: _, told: _ } = picture;
    let now = *now;
    let snapshot = &view.snapshot;
    let decision = state::decision(config, picture, view);
    if let Some(Action::Seat(seats)) = &decision.action
        && let Some(seat) = seats.iter().find(|seat| seat.uid == pod.uid)
    {
        return format!("it is given slot {} and keeps running", seat.slot);
    }
    let ready_times = snapshot.pods.iter().filter_map(|pod| details.get(&*pod.name)?.ready_after);
    let circumstances = state::circumstances(config, picture, view);
    let room = |capacity| index.room(&view.key, capacity, Outlook::default(), now);
    let plan = plan::plan(snapshot, &circumstances, room, now, median(ready_times).0);
    let place = plan.moves.iter().position(|planned| planned.pod == pod.name);
    match place {
        Some(place) => {
            let planned = &plan.moves[place];
            let (to, at) = (planned.to, duration::format(std::time::Duration::from_secs(planned.at.as_secs())));
            let order = format!("number {} of {} to be moved", place + 1, plan.moves.len());
            format!("it is {order}: evicted in about {at}, and its replacement starts on {to}")
        }
        None if plan.left > 0 => {
            format!("it stays for now; {} moves are held back: {}", plan.left, plan.ends_with)
        }
        None => "it stays where it is".to_owned(),
    }
}

#[cfg(test)]
mod tests;
