//! How things stand now: each workload a row of replicas drawn by where they run, and the nodes.
//!
//! It hears of moments and draws. What they mean for the story is not its business.

use std::collections::BTreeMap;
use std::time::Duration;

use spotalis_sim::compare::short;
use spotalis_sim::record::{Counts, Moment, Sides};
use spotalis_sim::scenario::Capacity;
use spotalis_sim::words::{clock, count};

use super::ink::{Ink, Text};

/// No more replicas than these are drawn of a workload.
const MOST_DRAWN: usize = 60;

/// How things stand.
#[derive(Clone, Debug, Default)]
pub struct Board {
    workloads: BTreeMap<String, Counts>,
    nodes: BTreeMap<String, Capacity>,
}

/// The signs of replicas, for a reader.
pub fn legend() -> Text {
    let signs = [
        (Ink::Spot, "●", "ready on spot"),
        (Ink::OnDemand, "■", "ready on on-demand"),
        (Ink::Waiting, "○", "starting"),
        (Ink::Waiting, "?", "without a node"),
        (Ink::Missing, "·", "missing"),
    ];
    signs.iter().enumerate().fold(Text::default(), |text, (number, (ink, sign, meaning))| {
        text.and(Ink::Plain, if number == 0 { "" } else { ",  " }).and(*ink, sign).and(Ink::Dim, format!(" {meaning}"))
    })
}

/// A workload's replicas, each a sign.
pub fn row(counts: Counts) -> Text {
    let Counts { wanted, ready, placed, pending } = counts;
    let starting = placed.total().saturating_sub(ready.total());
    let missing = wanted.saturating_sub(placed.total() + pending);
    let signs = [
        (Ink::Spot, "●", ready.spot),
        (Ink::OnDemand, "■", ready.on_demand),
        (Ink::Plain, "◆", ready.unknown),
        (Ink::Waiting, "○", starting),
        (Ink::Waiting, "?", pending),
        (Ink::Missing, "·", missing),
    ];
    let mut room = MOST_DRAWN;
    let mut text = Text::default();
    for (ink, sign, number) in signs {
        let drawn = room.min(number as usize);
        room -= drawn;
        text = text.and(ink, sign.repeat(drawn));
        if drawn < number as usize {
            return text.and(Ink::Plain, "…");
        }
    }
    text
}

impl Board {
    /// Takes note of a moment.
    pub fn hear(&mut self, moment: &Moment) {
        match moment {
            Moment::Counted { workload, counts } => {
                self.workloads.insert(workload.clone(), *counts);
            }
            Moment::NodeCame { node, capacity } => {
                self.nodes.insert(node.clone(), *capacity);
            }
            Moment::NodeWent { node, capacity: _ } => {
                self.nodes.remove(node);
            }
            Moment::Happened { .. } | Moment::Steered { .. } | Moment::Evicted { .. } | Moment::Told { .. } => {}
        }
    }

    /// The picture.
    pub fn draw(&self, at: Duration, lasts: Duration) -> Vec<Text> {
        let names = self.workloads.keys().map(|workload| short(workload).chars().count()).max().unwrap_or(0);
        let rows = self.workloads.iter().map(|(workload, counts)| {
            let signs = row(*counts);
            let gap = " ".repeat(self.widest().saturating_sub(signs.width()) + 2);
            let ready = format!("{gap}{}/{} ready", counts.ready.total(), counts.wanted);
            Text::of(Ink::Bold, format!("{:names$}  ", short(workload))).then(signs).and(Ink::Plain, ready)
        });
        let rule = Text::of(Ink::Dim, "─".repeat(names + self.widest() + 16));
        let clock = Text::of(Ink::Bold, clock(at)).and(Ink::Dim, format!(" of {}   ", clock(lasts))).then(self.nodes());
        [rule, clock].into_iter().chain(rows).chain([legend()]).collect()
    }

    /// The longest row that a workload had so far would shift the others; this is that of now, in steps of ten.
    fn widest(&self) -> usize {
        let widest = self.workloads.values().map(|counts| row(*counts).width()).max().unwrap_or(0);
        widest.next_multiple_of(10)
    }

    fn nodes(&self) -> Text {
        let mut sides = Sides::default();
        for capacity in self.nodes.values() {
            match capacity {
                Capacity::Spot => sides.spot += 1,
                Capacity::OnDemand => sides.on_demand += 1,
                Capacity::Unknown => sides.unknown += 1,
            }
        }
        let signs = |sign: &str, number: u32| sign.repeat((number as usize).min(MOST_DRAWN / 2));
        let text = Text::of(Ink::Dim, "nodes ")
            .and(Ink::Spot, signs("●", sides.spot))
            .and(Ink::Plain, format!(" {} spot  ", sides.spot))
            .and(Ink::OnDemand, signs("■", sides.on_demand))
            .and(Ink::Plain, format!(" {} on-demand", sides.on_demand));
        if sides.unknown == 0 {
            text
        } else {
            text.and(Ink::Plain, format!("  {}", count(sides.unknown as usize, "other")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Palette;

    fn counts(wanted: u32, ready: (u32, u32), starting: u32, pending: u32) -> Counts {
        let ready = Sides { spot: ready.0, on_demand: ready.1, unknown: 0 };
        let placed = Sides { spot: ready.spot + starting, ..ready };
        Counts { wanted, ready, placed, pending }
    }

    #[test]
    fn each_replica_is_drawn_by_how_it_is() {
        let drawn = |counts| row(counts).paint(Palette::Plain);
        assert_eq!(drawn(counts(8, (3, 2), 1, 1)), "●●●■■○?·");
        assert_eq!(drawn(counts(2, (3, 0), 0, 0)), "●●●");
        assert_eq!(drawn(counts(100, (30, 100), 0, 0)), format!("{}{}…", "●".repeat(30), "■".repeat(30)));
        assert_eq!(drawn(Counts::default()), "");
    }

    #[test]
    fn the_picture_has_a_row_for_each_workload_and_all_nodes() {
        let mut board = Board::default();
        board.hear(&Moment::NodeCame { node: "a".to_owned(), capacity: Capacity::Spot });
        board.hear(&Moment::NodeCame { node: "b".to_owned(), capacity: Capacity::OnDemand });
        board.hear(&Moment::NodeWent { node: "a".to_owned(), capacity: Capacity::Spot });
        board.hear(&Moment::Counted { workload: "shop/web".to_owned(), counts: counts(3, (1, 1), 0, 1) });
        board.hear(&Moment::Counted { workload: "shop/pay".to_owned(), counts: counts(1, (0, 1), 0, 0) });
        let drawn = board.draw(Duration::from_secs(65), Duration::from_mins(5));
        let lines: Vec<String> = drawn.iter().map(|line| line.paint(Palette::Plain)).collect();
        assert_eq!(
            lines[1..4],
            ["1:05 of 5:00   nodes  0 spot  ■ 1 on-demand", "pay  ■           1/1 ready", "web  ●■?         2/3 ready"]
        );
    }
}
