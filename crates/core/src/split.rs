//! Decides how many of T replicas belong on spot, and which of the slots 1, 2, 3, … those are.
//!
//! Integers only. Everything that asks "how many" (webhook, controller, command line, metrics, simulator) asks here;
//! there must be no second place that multiplies a percentage.

use std::fmt;

use crate::capacity::CapacityType;

/// A whole percentage, 0 to 100.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Percentage(u8);

impl Percentage {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// Everything.
    pub const HUNDRED: Self = Self(100);

    /// `None` above 100.
    pub const fn new(percent: u8) -> Option<Self> {
        if percent <= 100 { Some(Self(percent)) } else { None }
    }

    /// The number, 0 to 100.
    pub const fn get(self) -> u8 {
        self.0
    }

    /// The share of `total`, rounded as told.
    fn of(self, total: u32, rounding: Rounding) -> u32 {
        let hundredths = u64::from(total) * u64::from(self.0);
        let whole = match rounding {
            Rounding::Ceil => hundredths.div_ceil(100),
            Rounding::Nearest => (hundredths + 50) / 100,
            Rounding::Floor => hundredths / 100,
        };
        // A share of at most 100 % never exceeds the total.
        u32::try_from(whole).unwrap_or(total)
    }
}

impl fmt::Display for Percentage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

/// What becomes of the fraction when the spot share is no whole number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rounding {
    /// Up: 70 % of 1 is 1.
    #[default]
    Ceil,
    /// Half up: 50 % of 1 is 1, 49 % of 1 is 0.
    Nearest,
    /// Down: 99 % of 1 is 0.
    Floor,
}

/// The on-demand floor, `min-on-demand`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Floor {
    /// So many replicas.
    Count(u32),
    /// A share of the replicas, always rounded up.
    Percent(Percentage),
}

impl Floor {
    /// The floor for `total` replicas; may exceed `total` when it is a count.
    pub fn of(self, total: u32) -> u32 {
        match self {
            Self::Count(count) => count,
            Self::Percent(percent) => percent.of(total, Rounding::Ceil),
        }
    }
}

impl Default for Floor {
    fn default() -> Self {
        Self::Count(0)
    }
}

impl fmt::Display for Floor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => count.fmt(f),
            Self::Percent(percent) => percent.fmt(f),
        }
    }
}

/// So many replicas on each type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Split {
    /// Replicas on spot.
    pub spot: u32,
    /// Replicas on on-demand.
    pub on_demand: u32,
}

impl Split {
    /// The count of one type.
    pub const fn of(self, capacity: CapacityType) -> u32 {
        match capacity {
            CapacityType::Spot => self.spot,
            CapacityType::OnDemand => self.on_demand,
        }
    }

    /// The count of one type, to be changed.
    pub(crate) const fn of_mut(&mut self, capacity: CapacityType) -> &mut u32 {
        match capacity {
            CapacityType::Spot => &mut self.spot,
            CapacityType::OnDemand => &mut self.on_demand,
        }
    }

    /// Both together.
    pub const fn total(self) -> u32 {
        self.spot + self.on_demand
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} spot / {} on-demand", self.spot, self.on_demand)
    }
}

/// What the split is computed from, besides the number of replicas.
///
/// `spot(T) = min(round(T * P / 100), max(0, T - M))`, `on_demand(T) = T - spot(T)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    /// P.
    pub spot_percentage: Percentage,
    /// M.
    pub min_on_demand: Floor,
    /// How P's share is rounded.
    pub rounding: Rounding,
}

impl Target {
    /// The split of `total` replicas.
    pub fn split(&self, total: u32) -> Split {
        let share = self.spot_percentage.of(total, self.rounding);
        let above_floor = total.saturating_sub(self.min_on_demand.of(total));
        let spot = share.min(above_floor);
        Split { spot, on_demand: total - spot }
    }

    /// The type of slot `slot` (1, 2, 3, …): the one that the split gains between `slot - 1` and `slot` replicas.
    ///
    /// The split is prefix-exact, so the first T slots together are the split of T.
    pub fn slot(&self, slot: u32) -> CapacityType {
        debug_assert!(slot >= 1, "slots are counted from 1");
        if self.split(slot).spot > self.split(slot.saturating_sub(1)).spot {
            CapacityType::Spot
        } else {
            CapacityType::OnDemand
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(percent: u8, floor: Floor, rounding: Rounding) -> Target {
        Target { spot_percentage: Percentage::new(percent).unwrap(), min_on_demand: floor, rounding }
    }

    /// Each row by hand, from the wording of the contract, not from the code.
    #[test]
    fn table() {
        use Floor::{Count, Percent};
        use Rounding::{Ceil, Floor as Down, Nearest};
        let half = Percentage::new(50).unwrap();
        for (total, percent, floor, rounding, spot) in [
            (10, 70, Count(1), Ceil, 7),
            (10, 70, Count(4), Ceil, 6),
            (1, 70, Count(1), Ceil, 0),
            (1, 70, Count(0), Ceil, 1),
            (1, 70, Count(0), Down, 0),
            (1, 50, Count(0), Nearest, 1),
            (1, 49, Count(0), Nearest, 0),
            (3, 50, Count(0), Nearest, 2),
            (0, 100, Count(5), Ceil, 0),
            (2, 100, Count(5), Ceil, 0),
            (7, 100, Percent(half), Ceil, 3),
            (3000, 33, Count(0), Ceil, 990),
            (u32::MAX, 100, Count(0), Ceil, u32::MAX),
        ] {
            let split = target(percent, floor, rounding).split(total);
            assert_eq!(split.spot, spot, "T={total} P={percent} M={floor} {rounding:?}");
            assert_eq!(split.total(), total);
        }
    }

    /// Against a second formulation that shares no arithmetic: the largest `s` for which no rule is broken.
    #[test]
    fn equals_brute_force_and_is_prefix_exact() {
        let floors = (0..=6)
            .map(Floor::Count)
            .chain([0, 1, 10, 33, 50, 99, 100].map(|p| Floor::Percent(Percentage::new(p).unwrap())));
        for floor in floors {
            for rounding in [Rounding::Ceil, Rounding::Nearest, Rounding::Floor] {
                for percent in 0..=100 {
                    let target = target(percent, floor, rounding);
                    let mut before = Split::default();
                    for total in 0..=120 {
                        let split = target.split(total);
                        assert_eq!(split.spot, brute(total, percent, floor, rounding), "T={total} {target:?}");
                        if total > 0 {
                            let gained = target.slot(total);
                            assert_eq!(split.of(gained), before.of(gained) + 1, "T={total} {target:?}");
                            assert_eq!(split.of(gained.other()), before.of(gained.other()), "T={total} {target:?}");
                        }
                        before = split;
                    }
                }
            }
        }
    }

    fn brute(total: u32, percent: u8, floor: Floor, rounding: Rounding) -> u32 {
        let exact = f64::from(total) * f64::from(percent) / 100.0;
        let share = match rounding {
            Rounding::Ceil => exact.ceil(),
            Rounding::Nearest => (exact + 0.5).floor(),
            Rounding::Floor => exact.floor(),
        };
        let kept = |on_demand: u32| match floor {
            Floor::Count(count) => on_demand >= count.min(total),
            Floor::Percent(percent) => u64::from(on_demand) * 100 >= u64::from(total) * u64::from(percent.get()),
        };
        (0..=total).rev().find(|s| f64::from(*s) <= share && kept(total - s)).unwrap_or(0)
    }
}
