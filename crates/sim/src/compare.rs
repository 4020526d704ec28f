//! Two runs of the same scenario and seed beside each other, with Spotalis and without it, and one sentence on what was seen.
//!
//! The sentence follows from the figures alone. It does not know what the scenario wanted to show, and says it where Spotalis
//! came out worse.

use std::time::Duration;

use crate::summary::{Summary, WorkloadSummary};
use crate::words::{list, percent, span};

/// The price of spot as a share of that of on-demand. Clouds advertise discounts of 60 to 90 percent, and what is paid for
/// common types is nearer to the former; 0.35 claims no more than that.
pub const SPOT_PRICE: f64 = 0.35;

/// What a workload's figures are called, in the order of [`figures`].
pub const TITLES: [&str; 6] = ["fewest", "below", "down", "evicted", "on spot", "cost"];

/// What the figures mean, for a reader.
pub const MEANING: &str = "Fewest ready replicas, how long fewer were ready than wanted (below), and how long none was (down), \
    all from the moment on at which the workload was whole with and without Spotalis, or at most a minute after the first of the \
    two; how many pods were evicted; the share of the pods' time on spot; \
    and what they cost relative to the same pods all on on-demand.";

/// What the other run is.
pub const WITHOUT: &str = "Without Spotalis is a run of the same seed with neither webhook nor controller: pods go where the \
    scheduler puts them, and nothing is moved.";

/// What the cost rests on.
pub fn price() -> String {
    format!("A pod-hour on spot is counted at {} of one on on-demand.", percent(SPOT_PRICE))
}

/// A workload's figures in words.
pub fn figures(summary: &WorkloadSummary) -> [String; 6] {
    let time = |time: Duration| if time.is_zero() { "-".to_owned() } else { span(time) };
    [
        format!("{}", summary.fewest_ready),
        time(summary.below),
        time(summary.down),
        if summary.evictions == 0 { "-".to_owned() } else { summary.evictions.to_string() },
        percent(spot_share([summary])),
        percent(relative_cost([summary])),
    ]
}

/// The share of the pods' time that they were on spot.
pub fn spot_share<'s>(of: impl IntoIterator<Item = &'s WorkloadSummary>) -> f64 {
    let (spot, all) = pod_hours(of);
    if all > 0.0 { spot / all } else { 0.0 }
}

/// What all pods together cost, as a share of what they would have cost on on-demand.
pub fn relative_cost<'s>(of: impl IntoIterator<Item = &'s WorkloadSummary>) -> f64 {
    let (spot, all) = pod_hours(of);
    if all > 0.0 { (all - spot + spot * SPOT_PRICE) / all } else { 1.0 }
}

fn pod_hours<'s>(of: impl IntoIterator<Item = &'s WorkloadSummary>) -> (f64, f64) {
    of.into_iter().fold((0.0, 0.0), |(spot, all), summary| {
        (spot + summary.spot_hours, all + summary.spot_hours + summary.other_hours)
    })
}

/// Each workload that is in both runs, with its name and its figures.
pub fn pairs<'s>(
    with: &'s Summary,
    without: &'s Summary,
) -> impl Iterator<Item = (&'s str, &'s WorkloadSummary, &'s WorkloadSummary)> {
    with.workloads.iter().filter_map(|one| {
        let other = without.workloads.iter().find(|other| other.workload == one.workload)?;
        Some((short(&one.workload), one, other))
    })
}

/// A workload's name without its namespace, which is the same for all that a scenario says shortly.
pub fn short(workload: &str) -> &str {
    workload.strip_prefix(crate::world::NAMESPACE).and_then(|name| name.strip_prefix('/')).unwrap_or(workload)
}

/// What was seen, in a sentence.
pub fn seen(with: &Summary, without: &Summary) -> String {
    let availability = match (downs(with), downs(without)) {
        (None, None) => "No workload was ever without a ready replica, with Spotalis or without it".to_owned(),
        (None, Some(others)) => {
            format!("With Spotalis no workload was ever without a ready replica; without it {others}")
        }
        (Some(ours), None) => format!("With Spotalis {ours} without a ready replica; without it none was"),
        (Some(ours), Some(others)) => format!("With Spotalis {ours} without a ready replica; without it {others}"),
    };
    let (ours, others) = (missing(with), missing(without));
    let missing = if ours == others {
        format!("{ours} with and without it")
    } else {
        format!("{ours} with it and {others} without it")
    };
    let (cost, other_cost) = (percent(relative_cost(&with.workloads)), percent(relative_cost(&without.workloads)));
    let (spot, other_spot) = (percent(spot_share(&with.workloads)), percent(spot_share(&without.workloads)));
    format!(
        "{availability}; the time that replicas were missing adds up to {missing}; the pods cost {cost} of what they would on \
         on-demand ({other_cost} without it), with {spot} of their time on spot ({other_spot} without it)."
    )
}

/// Those that were down, and for how long: `web was for 9 s and api for 2 s`.
fn downs(summary: &Summary) -> Option<String> {
    let down: Vec<String> = summary
        .workloads
        .iter()
        .filter(|workload| !workload.down.is_zero())
        .enumerate()
        .map(|(number, workload)| {
            let was = if number == 0 { "was for" } else { "for" };
            format!("{} {was} {}", short(&workload.workload), span(workload.down))
        })
        .collect();
    (!down.is_empty()).then(|| list(&down))
}

fn missing(summary: &Summary) -> String {
    let hours: f64 = summary.workloads.iter().map(|workload| workload.missing_hours).sum();
    span(Duration::from_secs_f64(hours.max(0.0) * 3_600.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload(name: &str, down: u64, missing_hours: f64, spot: f64) -> WorkloadSummary {
        WorkloadSummary {
            workload: format!("shop/{name}"),
            last: crate::record::Counts::default(),
            whole_after: None,
            counted_from: Duration::ZERO,
            fewest_ready: 1,
            most_missing: 0,
            below: Duration::from_secs(down),
            down: Duration::from_secs(down),
            missing_hours,
            evictions: 0,
            spot_hours: spot,
            other_hours: 1.0 - spot,
        }
    }

    fn summary(workloads: &[WorkloadSummary]) -> Summary {
        Summary { workloads: workloads.to_vec(), spot_node_hours: 0.0, other_node_hours: 0.0 }
    }

    #[test]
    fn the_sentence_says_what_the_figures_say_whoever_comes_out_better() {
        let well = summary(&[workload("web", 0, 0.1, 0.5), workload("api", 0, 0.0, 0.5)]);
        let ill = summary(&[workload("web", 9, 0.1, 0.0), workload("api", 70, 0.1, 0.0)]);
        let table = [
            (
                (&well, &well),
                "with Spotalis or without it; the time that replicas were missing adds up to 6 min with and without it",
            ),
            (
                (&well, &ill),
                "With Spotalis no workload was ever without a ready replica; without it web was for 9 s and api for 1 min 10 s; ",
            ),
            (
                (&ill, &well),
                "With Spotalis web was for 9 s and api for 1 min 10 s without a ready replica; without it none was; ",
            ),
            (
                (&ill, &well),
                "the pods cost 100% of what they would on on-demand (68% without it), with 0% of their time on spot (50% without it).",
            ),
            ((&ill, &ill), "adds up to 12 min with and without it"),
            ((&ill, &well), "adds up to 12 min with it and 6 min without it"),
        ];
        for ((with, without), part) in table {
            let seen = seen(with, without);
            assert!(seen.contains(part), "{part}: {seen}");
        }
    }

    #[test]
    fn each_workload_stands_beside_itself() {
        let (one, other) = (
            summary(&[workload("a", 0, 0.0, 1.0), workload("b", 0, 0.0, 0.0)]),
            summary(&[workload("b", 5, 0.0, 0.0)]),
        );
        let pairs: Vec<_> = pairs(&one, &other).collect();
        assert_eq!(pairs.len(), 1);
        assert_eq!((pairs[0].0, figures(pairs[0].1)), ("b", ["1", "-", "-", "-", "0%", "100%"].map(str::to_owned)));
        assert_eq!(figures(pairs[0].2)[1..3], ["5 s", "5 s"]);
        assert_eq!(figures(&one.workloads[0])[4..], ["100%", "35%"]);
    }
}
