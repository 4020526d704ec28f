//! Every scenario of the suite on the embedded cluster, before the judge, on two seeds. The same files are played on a real
//! control plane by `e2e/tests/scenarios`.

#![expect(clippy::unwrap_used, reason = "all of this is a test")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use std::{fs, io};

use spotalis_sim::embedded::judged;
use spotalis_sim::expect::broken;
use spotalis_sim::play::Terms;
use spotalis_sim::scenario::Scenario;

/// What a seed decides: which nodes are lost, how long pods take to start, how ties are broken.
const SEEDS: [u64; 2] = [0, 1];
/// What lasts longer is played on the first of them only.
const LONG: Duration = Duration::from_mins(2);

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
        let seeds = if scenario.lasts > LONG { &SEEDS[..1] } else { &SEEDS };
        for &seed in seeds {
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

fn simulate(words: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_simulate-seeds"));
    let ran = command.args(words).current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")).output().unwrap();
    let [out, err] = [ran.stdout, ran.stderr].map(|text| String::from_utf8(text).unwrap());
    (ran.status.code().unwrap(), out, err)
}

/// As the documentation has it: the words go from `cargo xtask sim` to this program as they are.
#[test]
fn a_scenario_is_played_and_told() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/explanation/simulation.md");
    let page = fs::read_to_string(page).unwrap();
    let command = page.lines().find_map(|line| line.strip_prefix("$ cargo xtask sim --scenario ")).unwrap();
    let (code, out, err) = simulate(&[&["--scenario"][..], &command.split(' ').collect::<Vec<_>>()].concat());
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    for said in ["is steered to spot", "* 50% of the spot nodes are taken back", "9 of 9 are ready", "was kept"] {
        assert!(out.contains(said), "{said:?} is not in: {out}");
    }
    let again = simulate(&["--scenario", command]);
    assert_eq!(out, again.1, "the same seed, the same bytes");
}

#[test]
fn what_is_not_kept_ends_with_1_and_what_cannot_be_read_with_2() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let [broken, bad, refused] = ["broken.yaml", "bad.yaml", "refused.yaml"].map(|name| folder.join(name));
    let text =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scenarios/kept-pods.yaml")).unwrap();
    fs::write(&broken, text.replace("evictions: 0", "evictions: 1")).unwrap();
    fs::write(&bad, text.replace("lasts: 13s", "lasts: long")).unwrap();
    fs::write(&refused, text.replace("replicas: 2", "replicas: 2\n    maxUnavailable: some")).unwrap();
    let (code, _, err) = simulate(&["--scenario", refused.to_str().unwrap()]);
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("refused.yaml: PodDisruptionBudget ") && err.contains("is refused: "), "{err}");
    let (code, out, _) = simulate(&["--scenario", broken.to_str().unwrap()]);
    assert_eq!(code, 1, "{out}");
    assert!(out.contains("WRONG line 25: 0 evictions, wanted are 1"), "{out}");
    for (file, said) in [(bad.to_str().unwrap(), "bad.yaml:3:8: \"long\" is no duration"), ("none.yaml", "cannot read")]
    {
        let (code, out, err) = simulate(&["--scenario", file]);
        assert_eq!((code, out.as_str()), (2, ""), "{err}");
        assert!(err.contains(said), "{err}");
    }
}
