//! Instructions of the admission path, counted by valgrind: the figure that does not depend on the machine's mood.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use spotalis_e2e::release;

use crate::report::{Figure, Report};

/// Admissions counted; the same number of reviews is prepared in every run.
const ADMISSIONS: u32 = 200;
/// How far the count may be from the committed one, as a share of it.
pub const TOLERANCE: f64 = 0.02;
/// The committed count of instructions per admission with 10 pods. Write the new one here when it changes for a reason.
pub const COMMITTED: f64 = 124_103.0;

/// Counts; `None` without valgrind.
pub fn run() -> Result<Option<Report>> {
    if Command::new("valgrind").arg("--version").output().is_err() {
        return Ok(None);
    }
    let example =
        release(&["--package", "spotalis-webhook", "--example", "admission_path"], "examples/admission_path")?;
    let per_admission = |pods: u32| -> Result<f64> {
        let none = instructions(&example, pods, 0)?;
        Ok((instructions(&example, pods, ADMISSIONS)? - none) / f64::from(ADMISSIONS))
    };
    let (small, large) = (per_admission(10)?, per_admission(3_000)?);
    Ok(Some(Report {
        benchmark: "count",
        method: "valgrind --tool=callgrind, the difference between 0 and 200 admissions, bytes in to bytes out"
            .to_owned(),
        figures: vec![
            Figure::new("instructions per admission, 10 pods", small, ""),
            Figure::new("instructions per admission, 3,000 pods", large, ""),
            Figure::at_most("growth at 3,000 pods", large / small, "", 1.05),
            Figure::at_most("off the committed count", (small / COMMITTED - 1.0).abs(), "", TOLERANCE),
        ],
    }))
}

fn instructions(example: &Path, pods: u32, admissions: u32) -> Result<f64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(example)
        .args([pods.to_string(), admissions.to_string()])
        .output()?;
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "valgrind failed: {text}");
    let line = text.lines().find_map(|line| line.split_once("Collected : ")).context("valgrind counted nothing")?;
    Ok(line.1.trim().parse()?)
}
