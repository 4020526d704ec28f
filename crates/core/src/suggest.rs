//! Decides which of the known words a misspelt one was probably meant to be.

/// Longer words than this are no typing mistakes; also the bound on the work.
const MAX_LENGTH: usize = 128;

/// The candidate nearest to `word`, if it is near enough to be meant; the first one of several equally near.
///
/// Letter case does not count. Up to a third of the letters may be wrong, at most three; swapping two neighbours is one
/// mistake.
pub fn closest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > MAX_LENGTH {
        return None;
    }
    let word = folded(word);
    let tolerated = (word.len() / 3).clamp(1, 3);
    candidates
        .into_iter()
        .filter(|candidate| candidate.len() <= MAX_LENGTH)
        .map(|candidate| (distance(&word, &folded(candidate)), candidate))
        .filter(|(distance, candidate)| *distance <= tolerated && *distance < candidate.chars().count())
        // `min_by_key` keeps the first of equals.
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

fn folded(word: &str) -> Vec<char> {
    word.chars().map(|c| c.to_ascii_lowercase()).collect()
}

/// Letters to insert, remove, replace or swap with their neighbour (optimal string alignment).
fn distance(from: &[char], to: &[char]) -> usize {
    let mut two_above: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.iter().enumerate() {
        let mut row = Vec::with_capacity(to.len() + 1);
        row.push(i + 1);
        for (j, b) in to.iter().enumerate() {
            let mut least = (above[j] + usize::from(a != b)).min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == to[j - 1] && from[i - 1] == *b {
                least = least.min(two_above[j - 1] + 1);
            }
            row.push(least);
        }
        two_above = std::mem::replace(&mut above, row);
    }
    above[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn guesses_what_was_meant() {
        let known = ["spot-percentage", "min-on-demand", "placement", "protect", "port"];
        for (word, wanted) in [
            ("spot-percentage", Some("spot-percentage")),
            ("spot-precentage", Some("spot-percentage")),
            ("spotPercentage", Some("spot-percentage")),
            ("Placement", Some("placement")),
            ("placment", Some("placement")),
            ("porotect", Some("protect")),
            ("prot", Some("port")),
            ("min-ondemand", Some("min-on-demand")),
            ("colour", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(closest(word, known), wanted, "{word}");
        }
        assert_eq!(closest(&"placement".repeat(20), known), None);
        assert_eq!(closest("ab", ["aa", "bb"]), Some("aa"));
    }

    proptest! {
        #[test]
        fn distance_is_a_distance(a in "[a-c]{0,6}", b in "[a-c]{0,6}") {
            let (a, b) = (folded(&a), folded(&b));
            prop_assert_eq!(distance(&a, &b), distance(&b, &a));
            prop_assert_eq!(distance(&a, &b) == 0, a == b);
            prop_assert!(distance(&a, &b) <= a.len().max(b.len()));
            prop_assert!(distance(&a, &b) >= a.len().abs_diff(b.len()));
        }
    }
}
