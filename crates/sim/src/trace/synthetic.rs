//! Traces that are made up: what spot capacity does, in four kinds. Integers only, so that a seed gives the same trace on every
//! machine.

use std::time::Duration;

use super::Trace;
use crate::chance::Chance;

/// A step of a made-up trace.
const GAP: Duration = Duration::from_mins(1);
/// In a calm market a node is taken back once in so many minutes, on average: two days.
const CALM: u32 = 48 * 60;
/// Minutes until another can be had in its place.
const AWAY: (u32, u32) = (5, 15);
/// In a bursty market many go at once, once in so many minutes on average.
const BURSTS: u32 = 4 * 60;
/// Of a hundred nodes, so many go with a burst.
const BURST: (u32, u32) = (30, 90);
/// Minutes that a burst lasts.
const BURST_LASTS: (u32, u32) = (10, 60);
/// Of a thousand nodes, so many are left in the busiest hour of the day.
const BUSIEST: u32 = 400;
/// An outage lasts no longer than so many minutes.
const LONGEST_OUTAGE: u32 = 180;

const HOUR: u32 = 60;
const DAY: u32 = 24 * HOUR;

/// A kind of made-up trace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Synthetic {
    /// Now and then a node is taken back, and a few minutes later another comes.
    #[default]
    Calm,
    /// Every few hours most of them go at once, for up to an hour.
    Bursty,
    /// Capacity follows the day: all of it at night, less than half of it in the afternoon.
    Diurnal,
    /// Once a day there is none at all for hours; in a shorter time, for a part of it.
    Outage,
}

impl Synthetic {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Calm, Self::Bursty, Self::Diurnal, Self::Outage];

    /// What it is called.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Calm => "calm",
            Self::Bursty => "bursty",
            Self::Diurnal => "diurnal",
            Self::Outage => "outage",
        }
    }

    /// The kind that is called so.
    pub fn called(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The trace of a seed, for so many nodes and so long a time.
    pub fn trace(self, seed: u64, nodes: u32, lasts: Duration) -> Trace {
        let steps = u32::try_from(lasts.as_secs().div_ceil(GAP.as_secs())).unwrap_or(u32::MAX).max(1);
        let mut chance = Chance::of(seed).fork();
        let calm = calm(&mut chance.fork(), nodes, steps);
        let limit: Box<dyn FnMut(u32) -> u32> = match self {
            Self::Calm => Box::new(|_| nodes),
            Self::Bursty => bursts(chance, nodes),
            Self::Diurnal => {
                let begins = chance.between(0, DAY - 1);
                Box::new(move |minute| share(nodes, of_the_day((begins + minute) % DAY)))
            }
            Self::Outage => outages(&mut chance, nodes, steps),
        };
        let available =
            calm.into_iter().zip((0..).map(limit)).map(|(calm, limit)| f64::from(calm.min(limit))).collect();
        Trace { gap: GAP, available }
    }
}

fn share(nodes: u32, per_mille: u32) -> u32 {
    u32::try_from(u64::from(nodes) * u64::from(per_mille) / 1_000).unwrap_or(nodes)
}

fn calm(chance: &mut Chance, nodes: u32, steps: u32) -> Vec<u32> {
    let mut away: Vec<u32> = Vec::new();
    let counts = (0..steps).map(|minute| {
        away.retain(|until| *until > minute);
        let there = nodes - u32::try_from(away.len()).expect("no more than there are nodes");
        let lost = (0..there).filter(|_| chance.between(1, CALM) == 1).count();
        away.extend((0..lost).map(|_| minute + chance.between(AWAY.0, AWAY.1)));
        nodes - u32::try_from(away.len()).expect("no more than there are nodes")
    });
    counts.collect()
}

fn bursts(mut chance: Chance, nodes: u32) -> Box<dyn FnMut(u32) -> u32> {
    let (mut until, mut left) = (0, nodes);
    Box::new(move |minute| {
        if minute >= until {
            left = nodes;
            if chance.between(1, BURSTS) == 1 {
                left = share(nodes, 10 * (100 - chance.between(BURST.0, BURST.1)));
                until = minute + chance.between(BURST_LASTS.0, BURST_LASTS.1);
            }
        }
        left
    })
}

/// Of a thousand nodes, how many can be had in this minute of the day.
const fn of_the_day(minute: u32) -> u32 {
    const MORNING: u32 = 6 * HOUR;
    const BUSY: u32 = 14 * HOUR;
    const EVENING: u32 = 22 * HOUR;
    match minute {
        MORNING..BUSY => 1_000 - (1_000 - BUSIEST) * (minute - MORNING) / (BUSY - MORNING),
        BUSY..EVENING => BUSIEST + (1_000 - BUSIEST) * (minute - BUSY) / (EVENING - BUSY),
        _ => 1_000,
    }
}

/// One outage for each day that has begun, within its part of the time: neither at its beginning nor at its end.
fn outages(chance: &mut Chance, nodes: u32, steps: u32) -> Box<dyn FnMut(u32) -> u32> {
    let days = steps.div_ceil(DAY);
    let part = steps / days;
    let times: Vec<(u32, u32)> = (0..days)
        .map(|day| {
            let lasts = chance.between(part / 12, part / 6).clamp(1, LONGEST_OUTAGE);
            let from = day * part + chance.between(part / 4, part / 2);
            (from, from + lasts)
        })
        .collect();
    Box::new(move |minute| if times.iter().any(|(from, until)| (*from..*until).contains(&minute)) { 0 } else { nodes })
}

#[cfg(test)]
mod tests {
    use super::*;

    const A_DAY: Duration = Duration::from_hours(24);

    fn counts(kind: Synthetic, seed: u64, nodes: u32, lasts: Duration) -> Vec<u32> {
        kind.trace(seed, nodes, lasts).nodes(nodes, super::super::Scale::Nodes)
    }

    fn node_hours_missing(counts: &[u32], nodes: u32) -> u32 {
        counts.iter().map(|count| nodes - count).sum::<u32>() / 60
    }

    #[test]
    fn each_kind_is_what_it_says() {
        for seed in 0..20 {
            let of = |kind| counts(kind, seed, 20, A_DAY);
            let calm = of(Synthetic::Calm);
            assert_eq!(calm.len(), 24 * 60);
            assert!(calm.iter().min() >= Some(&15), "{seed}: {calm:?}");
            assert!(calm.iter().any(|count| *count < 20), "{seed}: 20 nodes, and none is lost in a day");
            assert!(node_hours_missing(&calm, 20) < 6, "{seed}");
            let busy = of(Synthetic::Diurnal).into_iter().min().unwrap();
            assert!((4..=8).contains(&busy), "{seed}: {busy}");
            let without = of(Synthetic::Outage).into_iter().filter(|count| *count == 0).count();
            assert!((120..=180).contains(&without), "{seed}: {without} minutes");
        }
        let bursts = (0..20).map(|seed| {
            let counts = counts(Synthetic::Bursty, seed, 20, A_DAY);
            counts.windows(2).filter(|pair| pair[0] >= pair[1] + 5).count()
        });
        assert!((60..=160).contains(&bursts.sum::<usize>()), "about six a day in twenty days");
    }

    #[test]
    fn an_outage_is_seen_however_short_the_time_is() {
        for minutes in [12, 60, 600, 5 * 24 * 60] {
            for seed in 0..20 {
                let counts = counts(Synthetic::Outage, seed, 3, Duration::from_mins(minutes));
                assert!(counts.contains(&0), "{minutes} minutes, seed {seed}");
                assert!(counts[0] > 0 && counts.last() > Some(&0));
            }
        }
    }

    #[test]
    fn a_seed_says_all_of_it() {
        for kind in Synthetic::ALL {
            assert_eq!(Synthetic::called(kind.name()), Some(kind));
            assert_eq!(kind.trace(3, 10, A_DAY), kind.trace(3, 10, A_DAY));
            assert_ne!(kind.trace(3, 10, A_DAY), kind.trace(4, 10, A_DAY));
            assert_eq!(kind.trace(3, 0, Duration::ZERO).available, [0.0], "no node is no error");
        }
        // The same for ever: what was seen with a seed can be seen again.
        let hash = |kind: Synthetic| {
            let counts = counts(kind, 1, 100, A_DAY);
            counts.iter().fold(0_u64, |hash, count| hash.wrapping_mul(31).wrapping_add(u64::from(*count)))
        };
        let known = [
            10_745_213_232_200_097_308,
            174_933_617_568_893_311,
            11_658_460_909_590_002_791,
            18_194_493_336_721_668_830,
        ];
        assert_eq!(Synthetic::ALL.map(hash), known);
    }
}
