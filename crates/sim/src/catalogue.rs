//! The scenarios that are built in. Their text is that of the files in `scenarios/`.

use crate::scenario::Scenario;

/// The one that is shown if none is named.
pub const DEFAULT: &str = "tour";

/// Names and texts, in the order in which they are listed.
const FILES: &[(&str, &str)] = &[
    ("tour", include_str!("../../../scenarios/tour.yaml")),
    ("rollout", include_str!("../../../scenarios/rollout.yaml")),
    ("reclaim", include_str!("../../../scenarios/reclaim.yaml")),
    ("spot-gone", include_str!("../../../scenarios/spot-gone.yaml")),
    ("zone-loss", include_str!("../../../scenarios/zone-loss.yaml")),
    ("hpa-waves", include_str!("../../../scenarios/hpa-waves.yaml")),
    ("blocking-pdb", include_str!("../../../scenarios/blocking-pdb.yaml")),
    ("controller-crash", include_str!("../../../scenarios/controller-crash.yaml")),
];

/// What they are called.
pub fn names() -> impl Iterator<Item = &'static str> {
    FILES.iter().map(|(name, _)| *name)
}

/// The one of that name.
pub fn scenario(name: &str) -> Option<Scenario> {
    let (name, text) = FILES.iter().find(|(known, _)| *known == name)?;
    Some(Scenario::read(name, &format!("scenarios/{name}.yaml"), text).expect("a test reads all that are built in"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::play::Terms;
    use crate::{embedded, expect};

    /// Each for itself, so that they are tried side by side.
    fn keeps_its_expectations(name: &str) {
        let scenario = scenario(name).unwrap();
        for seed in 1..=5 {
            let record = embedded::run(&scenario, Terms { seed, with_spotalis: true }, |_, _| ()).unwrap();
            let broken = expect::broken(&scenario, &record);
            assert!(broken.is_empty(), "{name}, seed {seed}:\n{}", broken.join("\n"));
        }
    }

    #[test]
    fn the_first_is_the_default_and_each_says_what_it_shows() {
        assert_eq!(names().next(), Some(DEFAULT));
        for name in names() {
            let Scenario { about, expect, .. } = scenario(name).unwrap();
            assert!(about.len() > 80 && expect.len() > 3, "{name}");
        }
        assert_eq!(scenario("nothing"), None);
    }

    #[test]
    fn tour_is_as_expected_on_several_seeds() {
        keeps_its_expectations("tour");
    }

    #[test]
    fn rollout_is_as_expected_on_several_seeds() {
        keeps_its_expectations("rollout");
    }

    #[test]
    fn reclaim_is_as_expected_on_several_seeds() {
        keeps_its_expectations("reclaim");
    }

    #[test]
    fn spot_gone_is_as_expected_on_several_seeds() {
        keeps_its_expectations("spot-gone");
    }

    #[test]
    fn zone_loss_is_as_expected_on_several_seeds() {
        keeps_its_expectations("zone-loss");
    }

    #[test]
    fn hpa_waves_is_as_expected_on_several_seeds() {
        keeps_its_expectations("hpa-waves");
    }

    #[test]
    fn blocking_pdb_is_as_expected_on_several_seeds() {
        keeps_its_expectations("blocking-pdb");
    }

    #[test]
    fn controller_crash_is_as_expected_on_several_seeds() {
        keeps_its_expectations("controller-crash");
    }
}
