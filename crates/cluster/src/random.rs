//! The one source of chance: uids and the ends of generated names.
//!
//! A `SplitMix64`, seeded. Nothing else in the cluster is random, and who draws does it under the lock of the store.

use std::fmt::Write as _;

/// The letters of generated names: no vowels, and nothing that is mistaken for another.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// A generator.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// What it gives is decided by the seed.
    pub const fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`, which is not 0. The bias of the remainder does not matter here.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.bits() % limit
    }

    /// A random uid (RFC 9562, version 4).
    pub fn uid(&mut self) -> String {
        let (high, low) = (self.bits() & !0xf000 | 0x4000, self.bits() & !(0b11 << 62) | (0b10 << 62));
        let mut uid = String::with_capacity(36);
        let groups = [
            (high >> 32, 8),
            (high >> 16 & 0xffff, 4),
            (high & 0xffff, 4),
            (low >> 48, 4),
            (low & !(0xffff << 48), 12),
        ];
        for (index, (group, digits)) in groups.into_iter().enumerate() {
            let dash = if index == 0 { "" } else { "-" };
            write!(uid, "{dash}{group:0digits$x}").expect("a String takes everything");
        }
        uid
    }

    /// Letters to tell names apart.
    pub fn letters(&mut self, count: usize) -> String {
        let letter = |_| {
            let index = usize::try_from(self.below(ALPHABET.len() as u64)).unwrap_or_default();
            char::from(ALPHABET[index])
        };
        (0..count).map(letter).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_decides_everything() {
        let draw = |seed| {
            let mut random = Random::seeded(seed);
            (random.uid(), random.letters(5))
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        let (uid, letters) = draw(7);
        assert_eq!((uid.len(), &uid[14..15], letters.len()), (36, "4", 5));
        assert!(matches!(&uid[19..20], "8" | "9" | "a" | "b"), "{uid}");
        assert!(letters.bytes().all(|letter| ALPHABET.contains(&letter)));
    }
}
