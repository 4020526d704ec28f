//! Choices made from a seed. SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014):
//! every seed is a good one, and the numbers are the same on every machine and in every version.

use std::time::Duration;

/// A source of choices.
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// Seeds that differ in one bit lead to different choices.
    pub const fn of(seed: u64) -> Self {
        Self(seed)
    }

    /// Another source, for a purpose of its own: what one is asked does not change what the other says.
    #[must_use]
    pub fn fork(&mut self) -> Self {
        Self(self.next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from `least` to `most`, both included.
    pub fn between(&mut self, least: u32, most: u32) -> u32 {
        let span = u64::from(most.saturating_sub(least)) + 1;
        least + u32::try_from(self.next() % span).expect("below a number of 32 bits")
    }

    /// True in so many of a thousand cases.
    pub fn per_mille(&mut self, times: u32) -> bool {
        self.between(0, 999) < times
    }

    /// True in so many of a hundred cases.
    pub fn percent(&mut self, times: u32) -> bool {
        self.between(0, 99) < times
    }

    /// One of several.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        let last = u32::try_from(from.len() - 1).expect("a short list");
        &from[self.between(0, last) as usize]
    }

    /// A time from `least` to `most`, in whole milliseconds.
    pub fn time(&mut self, least: Duration, most: Duration) -> Duration {
        let millis = |time: Duration| u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
        Duration::from_millis(self.between(millis(least), millis(most)).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_the_paper() {
        let mut chance = Chance::of(1_234_567);
        // The reference implementation's first two numbers for this seed.
        assert_eq!(chance.next(), 6_457_827_717_110_365_317);
        assert_eq!(chance.next(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn every_number_of_a_range_comes_and_no_other() {
        let mut chance = Chance::of(0);
        let seen: std::collections::BTreeSet<u32> = (0..1_000).map(|_| chance.between(3, 6)).collect();
        assert_eq!(seen, (3..=6).collect());
        assert_eq!(Chance::of(5).pick(&[7]), &7);
    }
}
