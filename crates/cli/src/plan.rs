//! `--if`: another policy as if it were on the workload already, and what balance would do about it.
//!
//! The workload's own object is put into the index once more, with the other annotations and with the opt-in it may lack;
//! from there on everything is what it would be. Nothing is written to the cluster.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

use serde::Serialize;
use spotalis_config::Config;
use spotalis_core::duration;
use spotalis_core::opt_in::{Missing, OptIn};
use spotalis_core::plan::{self, Move};
use spotalis_core::policy::{self, Declared, Defaults, Problem, keys};
use spotalis_core::selector::Labels;
use spotalis_kube::index::{Index, Outlook, View, WorkloadKey, WorkloadKind};
use spotalis_kube::slim;
use spotalis_runtime::apiclient::Cluster;

use crate::explain::ExplainError;
use crate::state::{self, Counts, Pair, WorkloadState};
use crate::table::{self, Palette, Table};
use crate::view::{self, Picture, PodDetail};

/// What a replacement is taken to need until it is Ready where no pod shows it.
const READY_TIME: Duration = Duration::from_secs(30);

/// Moves that a table shows; documents show all of them.
const SHOWN: usize = 50;

/// The three keys that are one value, and so can be judged only together with what the workload has.
const WINDOW: [&str; 3] = [keys::DISRUPTION_SCHEDULE, keys::DISRUPTION_DURATION, keys::DISRUPTION_TIME_ZONE];

/// Annotations that are not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hypothesis {
    annotations: Labels,
}

impl Hypothesis {
    /// Reads `KEY=VALUE` words; keys may be written with or without their prefix.
    pub fn read(words: &[(String, String)]) -> Result<Option<Self>, ExplainError> {
        if words.is_empty() {
            return Ok(None);
        }
        let full = |key: &str| format!("{}{}", keys::PREFIX, key.strip_prefix(keys::PREFIX).unwrap_or(key));
        let annotations = words.iter().map(|(key, value)| (full(key).into(), value.as_str().into())).collect();
        let none = Labels::new();
        let workload = Declared { annotations: &annotations, labels: &none };
        let namespace = Declared { annotations: &none, labels: &none };
        let (_, problems) = policy::resolve(&workload, &namespace, &Defaults::default());
        refuse(problems.iter().filter(|problem| !is_window(&problem.key)))?;
        Ok(Some(Self { annotations }))
    }

    /// Puts it into the index; the commands that would have to go before, where the workload is not opted in.
    async fn suppose(&self, cluster: &Cluster, index: &mut Index, key: &WorkloadKey) -> anyhow::Result<Vec<String>> {
        let view = match key.kind {
            WorkloadKind::Deployment => View::Deployments,
            WorkloadKind::StatefulSet => View::StatefulSets,
        };
        let mut object: slim::Workload = view::get(cluster, view, &key.namespace, &key.name).await?;
        object.metadata.annotations.0.extend(self.annotations.clone());
        let commands = self.opt_in(cluster, index, key, object).await?;
        if self.annotations.keys().any(|key| is_window(key)) {
            let problems = index.workload(key).map(|view| view.problems).unwrap_or_default();
            let own = |problem: &&Problem| problem.level == policy::Level::Workload && is_window(&problem.key);
            refuse(problems.iter().filter(own))?;
        }
        Ok(commands)
    }

    async fn opt_in(
        &self,
        cluster: &Cluster,
        index: &mut Index,
        key: &WorkloadKey,
        mut object: slim::Workload,
    ) -> anyhow::Result<Vec<String>> {
        let command = |missing: Missing| missing.completing_command(key.kind.as_str(), &key.namespace, &key.name);
        let mut commands = Vec::new();
        let epoch = index.begin_list();
        index.apply_workload(key.kind, object.clone(), epoch);
        if matches!(index.opt_in(key), Some(OptIn::Out | OptIn::Half(Missing::Workload))) {
            object.metadata.labels.insert(keys::ENABLED.into(), "true".into());
            index.apply_workload(key.kind, object, epoch);
            commands.push(command(Missing::Workload));
        }
        if index.opt_in(key) == Some(OptIn::Half(Missing::Namespace)) {
            let mut namespace = view::namespace(cluster, &key.namespace).await?;
            namespace.metadata.labels.insert(keys::ENABLED.into(), "true".into());
            index.apply_namespace(namespace, epoch);
            commands.push(command(Missing::Namespace));
        }
        Ok(commands)
    }

    /// The commands that make it true, as `kubectl` wants them.
    fn command(&self, key: &WorkloadKey) -> String {
        let pairs: Vec<String> =
            self.annotations.iter().map(|(key, value)| quoted(&format!("{key}={value}"))).collect();
        let WorkloadKey { namespace, kind, name } = key;
        let kind = kind.as_str().to_ascii_lowercase();
        format!("kubectl annotate --overwrite --namespace {namespace} {kind} {name} {}", pairs.join(" "))
    }
}

/// One word for a shell.
fn quoted(text: &str) -> String {
    let harmless = |c: char| c.is_ascii_alphanumeric() || "-_./=%:".contains(c);
    if text.chars().all(harmless) { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

fn is_window(key: &str) -> bool {
    WINDOW.contains(&key)
}

fn refuse<'a>(problems: impl Iterator<Item = &'a Problem>) -> Result<(), ExplainError> {
    let problems: Vec<String> = problems.map(ToString::to_string).collect();
    if problems.is_empty() { Ok(()) } else { Err(ExplainError::Hypothesis { problems }) }
}

/// What would be done.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanState {
    /// The annotations that were supposed.
    pub supposed: BTreeMap<String, String>,
    /// What makes all of it true, in this order.
    pub commands: Vec<String>,
    /// What the policy wants now; none where the workload is not managed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wanted_before: Option<Pair>,
    /// What it would want.
    pub wanted_after: Pair,
    /// What there is.
    pub actual: Counts,
    /// The evictions in their order.
    pub moves: Vec<MoveState>,
    /// Until the last replacement is Ready.
    pub lasts_seconds: u64,
    /// How long a replacement is taken to need until it is Ready.
    pub ready_seconds: u64,
    /// Of how many pods that is the median; 0 is an assumption.
    pub ready_measured: usize,
    /// The pause between a replacement that is Ready and the next eviction.
    pub cooldown_seconds: u64,
    /// The code of the reason why there are no more moves.
    pub ends_with: &'static str,
    /// Its sentence.
    pub message: String,
    /// The moves that are held back for that reason.
    pub left: u32,
}

/// One eviction of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MoveState {
    /// The pod.
    pub pod: String,
    /// What it runs on.
    pub from: &'static str,
    /// What its replacement runs on.
    pub to: &'static str,
    /// Seconds from now.
    pub after_seconds: u64,
}

/// Works out what the hypothesis leads to. `before` is the workload as it is.
pub async fn suppose(
    hypothesis: &Hypothesis,
    cluster: &Cluster,
    config: &Config,
    picture: &mut Picture,
    (key, before): (&WorkloadKey, Option<&WorkloadState>),
    details: &BTreeMap<String, PodDetail>,
) -> anyhow::Result<PlanState> {
    let mut commands = hypothesis.suppose(cluster, &mut picture.index, key).await?;
    commands.push(hypothesis.command(key));
    let picture = &*picture;
    let Picture { index, now, notes: _, told: _ } = picture;
    let view = index.workload(key).expect("the workload was put into the index a moment ago");
    let decision = state::decision(config, picture, &view);
    let after = WorkloadState::of(&view, &decision);
    let ready_times = view.snapshot.pods.iter().filter_map(|pod| details.get(&*pod.name)?.ready_after);
    let (ready_time, ready_measured) = median(ready_times);
    let circumstances = state::circumstances(config, picture, &view);
    let plan = plan::plan(
        &view.snapshot,
        &circumstances,
        |capacity| index.room(key, capacity, Outlook::default(), *now),
        *now,
        ready_time,
    );
    Ok(PlanState {
        supposed: hypothesis.annotations.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect(),
        commands,
        wanted_before: before.map(|before| before.wanted),
        wanted_after: after.wanted,
        actual: after.actual,
        moves: plan.moves.iter().map(MoveState::of).collect(),
        lasts_seconds: plan.lasts.as_secs(),
        ready_seconds: ready_time.as_secs(),
        ready_measured,
        cooldown_seconds: circumstances.cooldown.as_secs(),
        ends_with: plan.ends_with.code(),
        message: plan.ends_with.to_string(),
        left: plan.left,
    })
}

/// The median and of how many; an assumption where there are none.
pub fn median(times: impl Iterator<Item = Duration>) -> (Duration, usize) {
    let mut times: Vec<Duration> = times.collect();
    times.sort();
    times.get(times.len() / 2).map_or((READY_TIME, 0), |median| (*median, times.len()))
}

impl MoveState {
    fn of(Move { pod, from, to, at }: &Move) -> Self {
        Self { pod: pod.to_string(), from: from.as_str(), to: to.as_str(), after_seconds: at.as_secs() }
    }
}

impl PlanState {
    /// Writes it for people.
    pub fn write(&self, out: &mut dyn Write, palette: Palette) -> io::Result<()> {
        table::heading(out, palette, "Plan, if this were set; nothing is changed")?;
        for command in &self.commands {
            table::line(out, 2, command)?;
        }
        writeln!(out)?;
        self.figures().write(out, palette)?;
        if !self.moves.is_empty() {
            writeln!(out)?;
            self.order().write(out, palette)?;
        }
        if let Some(more) = self.moves.len().checked_sub(SHOWN).filter(|more| *more > 0) {
            table::line(out, 2, &format!("and {more} more, which -o json shows"))?;
        }
        Ok(())
    }

    fn figures(&self) -> Table {
        let pair = |Pair { spot, on_demand }: Pair| format!("{spot} spot / {on_demand} on-demand");
        let Counts { spot, on_demand, unknown } = self.actual;
        let before = self.wanted_before.map_or_else(|| "nothing, it is not managed".to_owned(), pair);
        let mut table = Table::untitled(2);
        table.row(["wanted now".into(), before.into()]);
        table.row(["wanted then".into(), pair(self.wanted_after).into()]);
        table.row(["actual".into(), format!("{spot} spot, {on_demand} on-demand, {unknown} unknown").into()]);
        table.row(["moves".into(), self.moves.len().to_string().into()]);
        if !self.moves.is_empty() {
            table.row(["takes about".into(), self.assumptions().into()]);
        }
        if self.left > 0 {
            let why = format!("{} of them, {}: {}", self.left, self.ends_with, self.message);
            table.row(["held back".into(), why.into()]);
        } else {
            table.row(["ends with".into(), format!("{}: {}", self.ends_with, self.message).into()]);
        }
        table
    }

    fn assumptions(&self) -> String {
        let written = |seconds| duration::format(Duration::from_secs(seconds));
        let source = match self.ready_measured {
            0 => "assumed".to_owned(),
            1 => "as its one Ready pod did".to_owned(),
            pods => format!("the median of its {pods} Ready pods"),
        };
        format!(
            "{}, if each replacement finds room and is Ready after {} ({source}), with a cooldown of {}",
            written(self.lasts_seconds),
            written(self.ready_seconds),
            written(self.cooldown_seconds)
        )
    }

    fn order(&self) -> Table {
        let mut table = Table::new(2, &["MOVE", "POD", "FROM", "TO", "AFTER"]);
        for (number, MoveState { pod, from, to, after_seconds }) in (1..).zip(&self.moves).take(SHOWN) {
            let number: usize = number;
            let after = duration::format(Duration::from_secs(*after_seconds));
            table.row([number.to_string().into(), pod.into(), from.into(), to.into(), after.into()]);
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[(&str, &str)]) -> Result<Option<Hypothesis>, String> {
        let words: Vec<_> = words.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Hypothesis::read(&words).map_err(|error| error.to_string())
    }

    #[test]
    fn keys_are_policy_keys_with_or_without_prefix() {
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&[("spot-percentage", "80")]), read(&[(keys::SPOT_PERCENTAGE, "80")]));
        for (key, value, says) in [
            ("spot-percentage", "8O", "an integer from 0 to 100"),
            ("spot-precentage", "80", "did you mean spotalis.io/spot-percentage"),
            ("enabled", "true", "Set it as label instead"),
            ("placement", "maybe", "required or preferred"),
            ("spot-fallback-after", "soon", "a duration such as"),
            ("colour", "red", "is unknown"),
        ] {
            let error = read(&[(key, value)]).unwrap_err();
            assert!(error.contains(says), "{key}={value}: {error}");
        }
        // Half a window may find its other half on the workload.
        assert!(read(&[("disruption-schedule", "0 2 * * *")]).is_ok());
    }

    #[test]
    fn the_command_survives_a_shell() {
        let hypothesis = read(&[("disruption-schedule", "0 2 * * *"), ("spot-percentage", "80")]).unwrap().unwrap();
        let key = WorkloadKey { namespace: "shop".into(), kind: WorkloadKind::Deployment, name: "web".into() };
        assert_eq!(
            hypothesis.command(&key),
            "kubectl annotate --overwrite --namespace shop deployment web \
             'spotalis.io/disruption-schedule=0 2 * * *' spotalis.io/spot-percentage=80"
        );
    }

    #[test]
    fn the_median_of_nothing_is_an_assumption() {
        let seconds = |list: &[u64]| median(list.iter().map(|s| Duration::from_secs(*s)));
        assert_eq!(seconds(&[]), (READY_TIME, 0));
        assert_eq!(seconds(&[9]), (Duration::from_secs(9), 1));
        assert_eq!(seconds(&[100, 1, 5]), (Duration::from_secs(5), 3));
    }
}
