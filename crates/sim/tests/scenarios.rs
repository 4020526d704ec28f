//! Every scenario of the suite on the embedded cluster, before the judge, on several seeds. The same files are played on a real
//! control plane by `e2e/tests/scenarios`.

#![expect(clippy::unwrap_used, reason = "all of this is a test")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

use spotalis_sim::embedded::judged;
use spotalis_sim::expect::broken;
use spotalis_sim::play::Terms;
use spotalis_sim::scenario::Scenario;

/// What a seed decides: which nodes are lost, how long pods take to start, how ties are broken.
const SEEDS: [u64; 2] = [0, 1];

/// The scenarios, by name.
fn suite() -> Vec<Scenario> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scenarios");
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let read = |file: &PathBuf| {
        let name = file.file_stem().unwrap().to_str().unwrap();
        assert_eq!(file.extension().unwrap(), "yaml", "a scenario ends in .yaml: {}", file.display());
        let text = fs::read_to_string(file).unwrap();
        Scenario::read(name, &format!("scenarios/{name}.yaml"), &text).unwrap_or_else(|mistakes| panic!("{mistakes}"))
    };
    files.iter().map(read).collect()
}

#[test]
fn every_scenario_is_kept_on_the_embedded_cluster() {
    let suite = suite();
    assert!(suite.len() >= 15, "there are {}", suite.len());
    let mut wrong = Vec::new();
    for scenario in &suite {
        for seed in SEEDS {
            let played = judged(scenario, Terms { seed, with_spotalis: true }, |_, _| ());
            let said = match played {
                Ok((record, wrongs)) => broken(scenario, &record).into_iter().chain(wrongs).collect(),
                Err(error) => vec![error.to_string()],
            };
            wrong.extend(said.iter().map(|one| format!("{}, seed {seed}: {one}", scenario.name)));
        }
    }
    let mut out = io::stderr().lock();
    wrong.iter().for_each(|one| writeln!(out, "  {one}").unwrap());
    assert!(wrong.is_empty(), "{} expectations of {} scenarios were not kept", wrong.len(), suite.len());
}

/// Expectations that hold without Spotalis as well would say nothing about it.
#[test]
fn no_scenario_is_kept_without_spotalis() {
    for scenario in suite() {
        let terms = Terms { seed: 0, with_spotalis: false };
        let record = spotalis_sim::embedded::run(&scenario, terms, |_, _| ()).unwrap();
        assert_ne!(broken(&scenario, &record), [""; 0], "{} proves nothing", scenario.name);
    }
}
