//! What is shown of a simulation: a table for people, everything for programs. Nothing is decided here.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

use serde::Serialize;
use spotalis_core::duration;
use spotalis_sim::record::Sides;
use spotalis_sim::trace::Scale;
use spotalis_sim::whatif::{Counted, Figures, Fleet, Miss, Objective, Run, Side, Spread, Spreads, Stuck, Workload};

use super::policies::{Standing, Wanted};
use crate::state::Pair;
use crate::table::{self, Cell, Palette, Table, Tone};

/// Misses that a table shows; documents show all of them.
const SHOWN: usize = 20;

/// What came of it.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// What it was played with.
    pub terms: Terms,
    /// Each workload, by name.
    pub workloads: Vec<WorkloadReport>,
    /// What was asked of them.
    pub objectives: Vec<ObjectiveReport>,
    /// Each run.
    pub runs: Vec<Run>,
}

/// What it was played with.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Terms {
    /// The nodes.
    pub fleet: Fleet,
    /// What became of the spot nodes.
    pub trace: String,
    /// What its numbers were taken for, where it came from a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_scale: Option<Scale>,
    /// Hours of a run.
    pub hours: f64,
    /// The seed of the first run.
    pub seed: u64,
    /// The price of spot as a share of that of on-demand.
    pub spot_price: f64,
}

/// A workload, over all runs.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadReport {
    /// `NAMESPACE/NAME`
    pub workload: String,
    /// `Deployment`, `StatefulSet`
    pub kind: &'static str,
    /// Whether it is managed.
    pub standing: Standing,
    /// Its replicas at the beginning.
    pub replicas: u32,
    /// What its policy wants of them; none where it is not managed.
    pub wanted: Option<Pair>,
    /// With Spotalis.
    pub with: Spreads,
    /// Without it.
    pub without: Spreads,
    /// Where it never was whole, and why.
    pub never_whole: Vec<NeverWhole>,
}

/// A workload that never was whole in some runs.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NeverWhole {
    /// In so many runs with Spotalis.
    pub with: usize,
    /// In so many runs without it.
    pub without: usize,
    /// How many of its pods waited for this when the time was over; none, if it is about the whole.
    pub pods: u32,
    /// Why.
    pub why: String,
}

/// An objective, over all runs.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectiveReport {
    /// As it was typed.
    pub objective: String,
    /// Where it was missed.
    pub missed: Vec<Missed>,
}

/// Where an objective was missed.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Missed {
    /// The seed of the run.
    pub seed: u64,
    /// The first time in that run.
    #[serde(flatten)]
    pub miss: Miss,
}

impl Report {
    /// Of the runs. Workloads and policies are in the same order.
    pub fn of(
        terms: Terms,
        workloads: &[Workload],
        wanted: &[Wanted],
        objectives: &[Objective],
        runs: Vec<Run>,
    ) -> Self {
        let reports = workloads
            .iter()
            .zip(wanted)
            .map(|(workload, wanted)| WorkloadReport::of(workload, wanted, &runs))
            .collect();
        let missed = |objective: &String| {
            let all = runs.iter().flat_map(|run| run.with.missed.iter().map(move |miss| (run.seed, miss)));
            let of_it = all.filter(|(_, miss)| miss.objective == *objective);
            of_it.map(|(seed, miss)| Missed { seed, miss: miss.clone() }).collect()
        };
        let objectives = objectives
            .iter()
            .map(ToString::to_string)
            .map(|objective| ObjectiveReport { missed: missed(&objective), objective })
            .collect();
        Self { terms, workloads: reports, objectives, runs }
    }

    /// The seed with which the first miss can be seen again.
    pub fn first_miss(&self) -> Option<u64> {
        self.objectives.iter().flat_map(|objective| &objective.missed).map(|missed| missed.seed).min()
    }

    /// Writes it for people.
    pub fn write(&self, out: &mut dyn Write, palette: Palette, wide: bool) -> io::Result<()> {
        let Self { terms, workloads: _, objectives, runs } = self;
        let Terms { fleet, trace, hours, seed, .. } = terms;
        let (runs, lasts) = (runs.len(), time(hours * 3_600.0));
        let said = match runs {
            1 => format!("One run of {lasts}, seed {seed}"),
            _ => format!(
                "{runs} runs of {lasts}, from seed {seed} on; of each figure the median, and (the worst); AT END is of seed {seed}"
            ),
        };
        table::line(
            out,
            0,
            &format!("{said}. {} spot and {} on-demand nodes, trace {trace}.", fleet.spot, fleet.on_demand),
        )?;
        writeln!(out)?;
        self.overview(wide).write(out, palette)?;
        if !objectives.is_empty() {
            table::heading(out, palette, "Objectives")?;
        }
        objectives.iter().try_for_each(|objective| objective.write(out, palette))
    }

    fn overview(&self, wide: bool) -> Table {
        let mut titles = vec![
            "WORKLOAD",
            "WANTED",
            "SPOTALIS",
            "AT END",
            "WHOLE AFTER",
            "FEWEST READY",
            "BELOW WANTED",
            "EVICTIONS",
            "COST",
        ];
        if wide {
            titles.extend(["NONE READY", "KIND", "WHOLE IN"]);
        }
        let mut table = Table::new(0, &titles);
        let runs = self.runs.len();
        for WorkloadReport { workload, kind, standing: _, replicas, wanted, with, without, never_whole: _ } in
            &self.workloads
        {
            let split =
                wanted.map_or_else(|| format!("{replicas}"), |Pair { spot, on_demand }| format!("{spot}/{on_demand}"));
            let mut with = with.cells(runs, wide);
            let mut without = without.cells(runs, wide);
            if wide {
                with.insert(7, (*kind).into());
                without.insert(7, "".into());
            }
            table.row([workload.into(), split.into(), "with".into()].into_iter().chain(with));
            table.row(["".into(), "".into(), "without".into()].into_iter().chain(without));
        }
        table
    }
}

impl WorkloadReport {
    fn of(workload: &Workload, wanted: &Wanted, runs: &[Run]) -> Self {
        let figures = |side: fn(&Run) -> &Side| {
            let found = runs.iter().flat_map(|run| &side(run).workloads).filter(|it| it.workload == workload.name);
            Spreads::over(&found.collect::<Vec<&Figures>>())
        };
        Self {
            workload: workload.name.clone(),
            kind: workload.kind.word(),
            standing: wanted.standing,
            replicas: workload.replicas,
            wanted: wanted.split(workload.replicas).map(Pair::from),
            with: figures(|run| &run.with),
            without: figures(|run| &run.without),
            never_whole: NeverWhole::of(&workload.name, runs),
        }
    }
}

impl NeverWhole {
    fn of(workload: &str, runs: &[Run]) -> Vec<Self> {
        let mut counts: BTreeMap<&Stuck, (usize, usize)> = BTreeMap::new();
        for run in runs {
            let ours = |side: &&Stuck| side.workload == workload;
            run.with.stuck.iter().filter(ours).for_each(|stuck| counts.entry(stuck).or_default().0 += 1);
            run.without.stuck.iter().filter(ours).for_each(|stuck| counts.entry(stuck).or_default().1 += 1);
        }
        let told = |(stuck, (with, without)): (&Stuck, _)| {
            let Stuck { workload: _, pods, why } = stuck;
            Self { with, without, pods: *pods, why: why.clone() }
        };
        counts.into_iter().map(told).collect()
    }

    /// `never whole with Spotalis in 2 of 5 runs, and without it in 1: 10 of its pods wait: …`
    pub fn in_words(&self, runs: usize) -> String {
        let Self { with, without, pods, why } = self;
        let times = |count: &usize| match (*count, runs) {
            (count, runs) if count == runs => String::new(),
            (count, runs) => format!(" in {count} of {runs} runs"),
        };
        let sides = match (with, without) {
            (with, 0) => format!("with Spotalis{}", times(with)),
            (0, without) => format!("without Spotalis{}", times(without)),
            (with, without) if with == without => format!("with Spotalis and without it{}", times(with)),
            (with, without) => format!("with Spotalis{}, and without it{}", times(with), times(without)),
        };
        let wait = if *pods > 0 { format!("{pods} of its pods waited: ") } else { String::new() };
        format!("never whole {sides}: {wait}{why}")
    }
}

/// The columns of one side.
trait Columns {
    fn cells(&self, runs: usize, wide: bool) -> Vec<Cell>;
}

impl Columns for Spreads {
    fn cells(&self, runs: usize, wide: bool) -> Vec<Cell> {
        let Self { whole, at_end, whole_after_seconds, fewest_ready, below_seconds, down_seconds, evictions, cost } =
            self;
        let Sides { spot, on_demand, unknown } = at_end;
        let count = |Counted { median, worst, .. }: &Counted| with_worst(runs, median.to_string(), &worst.to_string());
        let lasted = |Spread { median, worst, .. }: &Spread<f64>| with_worst(runs, time(*median), &time(*worst));
        let since = |after: Option<f64>| after.map_or_else(|| "never".to_owned(), time);
        let share = |cost: f64| format!("{:.0}%", cost * 100.0);
        let mut cells: Vec<Cell> = vec![
            format!("{spot}/{}", on_demand + unknown).into(),
            with_worst(runs, since(whole_after_seconds.median), &since(whole_after_seconds.worst)).into(),
            count(fewest_ready).into(),
            lasted(below_seconds).into(),
            count(evictions).into(),
            cost.map_or_else(|| "-".to_owned(), |cost| with_worst(runs, share(cost.median), &share(cost.worst))).into(),
        ];
        if wide {
            cells.push(lasted(down_seconds).into());
            cells.push(format!("{whole} of {runs}").into());
        }
        cells
    }
}

fn with_worst(runs: usize, median: String, worst: &str) -> String {
    if runs == 1 { median } else { format!("{median} ({worst})") }
}

/// In whole seconds, as `1h2m3s`.
fn time(seconds: f64) -> String {
    let whole = Duration::try_from_secs_f64(seconds.round()).unwrap_or_default();
    duration::format(whole)
}

impl ObjectiveReport {
    fn write(&self, out: &mut dyn Write, palette: Palette) -> io::Result<()> {
        let Self { objective, missed } = self;
        if missed.is_empty() {
            return table::line(out, 2, &format!("{objective}: kept by every workload in every run"));
        }
        table::line(out, 2, &format!("{objective}: missed"))?;
        let mut rows = Table::new(4, &["WORKLOAD", "SEED", "AT", "FOR", "READY"]);
        for Missed { seed, miss: Miss { workload, at_seconds, lasted_seconds, ready, wanted, objective: _ } } in
            missed.iter().take(SHOWN)
        {
            let at = time(*at_seconds);
            let ready = Cell::toned(format!("{ready} of {wanted}"), Tone::Warning);
            rows.row([workload.into(), seed.to_string().into(), at.into(), time(*lasted_seconds).into(), ready]);
        }
        rows.write(out, palette)?;
        match missed.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => table::line(out, 4, &format!("and {more} more, which -o json shows")),
        }
    }
}
