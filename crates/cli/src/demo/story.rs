//! What happens, told line by line, in Spotalis's own words where it gives its reasons.
//!
//! Moments of the same second are told together: twelve pods that are steered are one line. It keeps no clock; it is told
//! what time it is.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use spotalis_sim::compare::short;
use spotalis_sim::record::{Counts, Moment};
use spotalis_sim::scenario::Capacity;
use spotalis_sim::words::{clock, count, list, names};

use super::board::row;
use super::ink::{Ink, Text};

/// What comes within so much time is told together.
const TOGETHER: Duration = Duration::from_secs(1);
/// Reasons beyond these are counted.
const MOST_REASONS: usize = 3;

/// The story so far, and what is not told yet.
#[derive(Debug, Default)]
pub struct Story {
    since: Duration,
    held: Held,
    /// What was last told of each workload.
    told: BTreeMap<String, Counts>,
    /// Those that were something else since.
    astir: BTreeSet<String>,
}

#[derive(Debug, Default)]
struct Held {
    came: Vec<(String, Capacity)>,
    went: Vec<(String, Capacity)>,
    /// Of each workload: to which type, and why.
    steered: BTreeMap<String, Vec<(String, String)>>,
    evicted: Vec<(String, String, Capacity)>,
    told: Vec<(String, String, String, bool)>,
    counted: BTreeMap<String, Counts>,
}

impl Story {
    /// Hears of a moment. What there is to tell now.
    pub fn hear(&mut self, at: Duration, moment: &Moment) -> Vec<Text> {
        let mut lines = self.until(at);
        if self.held.is_empty() {
            self.since = at;
        }
        match moment.clone() {
            Moment::Happened { what } => {
                lines.extend(self.tell());
                lines.push(line(at, Text::of(Ink::Bold, what)));
            }
            Moment::NodeCame { node, capacity } => self.held.came.push((node, capacity)),
            Moment::NodeWent { node, capacity } => self.held.went.push((node, capacity)),
            Moment::Steered { workload, pod: _, to, why } => {
                self.held.steered.entry(workload).or_default().push((to, why));
            }
            Moment::Evicted { workload, pod, capacity } => self.held.evicted.push((workload, pod, capacity)),
            Moment::Told { reason, about, note, warning } => self.held.told.push((reason, about, note, warning)),
            Moment::Counted { workload, counts } => {
                self.held.counted.insert(workload, counts);
            }
        }
        lines
    }

    /// It is that late. What there is to tell now.
    pub fn until(&mut self, now: Duration) -> Vec<Text> {
        if self.held.is_empty() || now < self.since + TOGETHER { Vec::new() } else { self.tell() }
    }

    /// Everything that is not told yet.
    pub fn tell(&mut self) -> Vec<Text> {
        let Held { came, went, steered, evicted, told, counted } = std::mem::take(&mut self.held);
        let at = self.since;
        let mut lines = Vec::new();
        lines.extend(nodes(&went).map(|words| line(at, Text::of(Ink::Missing, format!("gone: {words}")))));
        lines.extend(nodes(&came).map(|words| line(at, Text::of(Ink::Plain, format!("new: {words}")))));
        for (workload, pod, capacity) in evicted {
            // Spotalis tells of its own evictions itself, with the reason.
            if !told.iter().any(|(_, _, note, _)| names(note, &pod)) {
                lines.push(line(at, words(&workload, Ink::Plain, &format!("{pod} is evicted from {capacity}"))));
            }
        }
        for (reason, about, note, warning) in told {
            let (name, ink) =
                (about.rsplit(' ').next().unwrap_or_default(), if warning { Ink::Missing } else { Ink::Told });
            lines.push(line(at, words(name, ink, &format!("{reason}: {note}"))));
        }
        for (workload, pods) in steered {
            lines.push(line(at, words(&workload, Ink::Told, &steering(&pods))));
        }
        for (workload, counts) in counted {
            lines.extend(self.standing(&workload, counts, !went.is_empty()).map(|text| line(at, text)));
        }
        lines
    }

    /// How a workload stands, if that is worth a line: it came to rest after something else, or it lost pods.
    fn standing(&mut self, workload: &str, counts: Counts, nodes_went: bool) -> Option<Text> {
        let Counts { wanted, ready, placed, pending } = counts;
        let at_rest = pending == 0 && placed == ready && ready.total() == wanted;
        let before = self.told.get(workload).copied();
        let lost = nodes_went && before.is_some_and(|before| before.ready.total() > ready.total());
        if before != Some(counts) {
            self.astir.insert(workload.to_owned());
        }
        if !(at_rest || lost) || !self.astir.remove(workload) {
            return None;
        }
        self.told.insert(workload.to_owned(), counts);
        let split = format!("{} on spot, {} on on-demand", ready.spot, ready.on_demand);
        let said = format!("  {} of {wanted} ready: {split}", ready.total());
        Some(Text::of(Ink::Bold, format!("{}  ", short(workload))).then(row(counts)).and(Ink::Plain, said))
    }
}

impl Held {
    fn is_empty(&self) -> bool {
        let Self { came, went, steered, evicted, told, counted } = self;
        came.is_empty()
            && went.is_empty()
            && steered.is_empty()
            && evicted.is_empty()
            && told.is_empty()
            && counted.is_empty()
    }
}

fn line(at: Duration, text: Text) -> Text {
    Text::of(Ink::Dim, format!("{:>7}  ", clock(at))).then(text)
}

fn words(workload: &str, ink: Ink, said: &str) -> Text {
    Text::of(Ink::Bold, format!("{}  ", short(workload))).and(ink, said)
}

/// `8 spot nodes (spot-1, spot-2, spot-3 and 5 more)`.
fn nodes(all: &[(String, Capacity)]) -> impl Iterator<Item = String> {
    let types: BTreeSet<Capacity> = all.iter().map(|(_, capacity)| *capacity).collect();
    types.into_iter().map(|of| {
        let names: Vec<&str> =
            all.iter().filter(|(_, capacity)| *capacity == of).map(|(name, _)| name.as_str()).collect();
        format!("{} ({})", count(names.len(), &format!("{of} node")), some(&names))
    })
}

/// `9 new pods to spot and 3 to on-demand (slot 1 is on-demand, slot 2 is on-demand, slot 3 is spot and 9 more)`.
fn steering(pods: &[(String, String)]) -> String {
    let types: BTreeSet<&str> = pods.iter().map(|(to, _)| to.as_str()).collect();
    let parts: Vec<String> = types
        .iter()
        .rev()
        .enumerate()
        .map(|(number, of)| {
            let pods = pods.iter().filter(|(to, _)| to == of).count();
            let what = if number == 0 { count(pods, "new pod") } else { pods.to_string() };
            format!("{what} to {of}")
        })
        .collect();
    let reasons: Vec<&str> = pods.iter().map(|(_, why)| why.as_str()).collect();
    format!("{}: {}", list(&parts), some(&reasons))
}

fn some(words: &[&str]) -> String {
    let mut shown: Vec<String> = words.iter().take(MOST_REASONS).map(|word| (*word).to_owned()).collect();
    if words.len() > MOST_REASONS {
        shown.push(format!("{} more", words.len() - MOST_REASONS));
    }
    list(&shown)
}

#[cfg(test)]
mod tests {
    use spotalis_sim::record::Sides;

    use super::*;
    use crate::table::Palette;

    fn told(moments: &[(u64, Moment)]) -> Vec<String> {
        let mut story = Story::default();
        let mut lines = Vec::new();
        for (at, moment) in moments {
            lines.extend(story.hear(Duration::from_secs(*at), moment));
        }
        lines.extend(story.tell());
        lines.iter().map(|line| line.paint(Palette::Plain).trim().to_owned()).collect()
    }

    fn steered(to: &str, slot: u32) -> Moment {
        let why = format!("slot {slot} is {to}");
        Moment::Steered { workload: "shop/web".to_owned(), pod: format!("web-{slot}"), to: to.to_owned(), why }
    }

    fn counted(ready: (u32, u32), pending: u32) -> Moment {
        let ready = Sides { spot: ready.0, on_demand: ready.1, unknown: 0 };
        Moment::Counted { workload: "shop/web".to_owned(), counts: Counts { wanted: 3, ready, placed: ready, pending } }
    }

    #[test]
    fn what_comes_together_is_told_together() {
        let node = |name: &str| Moment::NodeCame { node: name.to_owned(), capacity: Capacity::Spot };
        let moments = [
            (0, node("a")),
            (0, node("b")),
            (0, steered("on-demand", 1)),
            (0, steered("spot", 2)),
            (0, steered("spot", 3)),
            (0, steered("spot", 4)),
            (0, counted((0, 0), 3)),
            (2, counted((1, 1), 1)),
            (2, counted((2, 1), 0)),
            (9, Moment::Happened { what: "it rains".to_owned() }),
            (11, counted((2, 0), 1)),
            (14, counted((2, 1), 0)),
        ];
        assert_eq!(
            told(&moments),
            [
                "0:00  new: 2 spot nodes (a and b)",
                "0:00  web  3 new pods to spot and 1 to on-demand: slot 1 is on-demand, slot 2 is spot, slot 3 is spot and 1 more",
                "0:02  web  ●●■  3 of 3 ready: 2 on spot, 1 on on-demand",
                "0:09  it rains",
                "0:14  web  ●●■  3 of 3 ready: 2 on spot, 1 on on-demand",
            ]
        );
    }

    #[test]
    fn an_eviction_is_told_once_and_a_loss_is_told() {
        let evicted =
            Moment::Evicted { workload: "shop/web".to_owned(), pod: "web-1".to_owned(), capacity: Capacity::OnDemand };
        let why = Moment::Told {
            reason: "Rebalanced".to_owned(),
            about: "Deployment shop/web".to_owned(),
            note: "evicted web-1 from on-demand".to_owned(),
            warning: false,
        };
        let went = Moment::NodeWent { node: "spot-1".to_owned(), capacity: Capacity::Spot };
        let moments = [
            (1, counted((2, 1), 0)),
            (5, evicted.clone()),
            (5, why),
            (7, evicted),
            (9, went),
            (9, counted((0, 1), 2)),
            (12, counted((2, 1), 0)),
        ];
        assert_eq!(
            told(&moments)[1..],
            [
                "0:05  web  Rebalanced: evicted web-1 from on-demand",
                "0:07  web  web-1 is evicted from on-demand",
                "0:09  gone: 1 spot node (spot-1)",
                "0:09  web  ■??  1 of 3 ready: 0 on spot, 1 on on-demand",
                "0:12  web  ●●■  3 of 3 ready: 2 on spot, 1 on on-demand",
            ]
        );
    }
}
