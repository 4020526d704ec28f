//! What a rig starts ends with it, in whatever way its holder ends; and rigs do not meet.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use spotalis_rig::{NodeKind, Part, Rig, RigOptions, Standing, on_rig, say, until};

/// Set in the child process that plays a holder.
const HOLD: &str = "RIG_TEST_HOLD";
const LIMIT: Duration = Duration::from_mins(1);

fn lives(pid: u32) -> bool {
    Command::new("kill").args(["-0", &pid.to_string()]).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
}

fn living(pids: &BTreeMap<Part, u32>) -> Vec<Part> {
    pids.iter().filter(|(_, pid)| lives(**pid)).map(|(part, _)| *part).collect()
}

#[tokio::test]
async fn nothing_is_left_after_dropping() -> Result<()> {
    let Some(rig) = Rig::start_or_skip(RigOptions::default()).await? else { return Ok(()) };
    let (pids, dir) = (rig.pids(), rig.dir().to_owned());
    assert_eq!(living(&pids).len(), 5, "{pids:?}");
    assert!(Standing::all()?.iter().any(|standing| standing.name == rig.name()));
    let name = rig.name().to_owned();
    drop(rig);
    assert_eq!(living(&pids), []);
    assert!(!dir.exists());
    assert!(Standing::named(&name).is_err());
    Ok(())
}

#[tokio::test]
async fn two_rigs_side_by_side_do_not_meet() -> Result<()> {
    let (first, second) =
        tokio::join!(Rig::start_or_skip(RigOptions::default()), Rig::start_or_skip(RigOptions::default()));
    let (Some(first), Some(second)) = (first?, second?) else { return Ok(()) };
    first.add_nodes(1, NodeKind::Spot).await?;
    second.add_nodes(2, NodeKind::OnDemand).await?;
    assert_eq!(node_names(&first)?, ["node/spot-0"]);
    assert_eq!(node_names(&second)?, ["node/on-demand-0", "node/on-demand-1"]);
    first.stop();
    assert_eq!(node_names(&second)?, ["node/on-demand-0", "node/on-demand-1"]);
    Ok(())
}

fn node_names(rig: &Rig) -> Result<Vec<String>> {
    let output = rig.kubectl().args(["get", "nodes", "-o", "name"]).output()?;
    Ok(String::from_utf8(output.stdout)?.lines().map(ToOwned::to_owned).collect())
}

#[tokio::test]
async fn a_name_is_held_by_one_at_a_time() -> Result<()> {
    let named = || RigOptions { name: Some(format!("held-{}", std::process::id())), ..RigOptions::default() };
    let Some(rig) = Rig::start_or_skip(named()).await? else { return Ok(()) };
    let error = Rig::start(named()).await.expect_err("the name is taken").to_string();
    assert!(error.contains("is running already"), "{error}");
    rig.stop();
    Ok(())
}

#[tokio::test]
async fn a_program_that_cannot_start_is_quoted() -> Result<()> {
    let options = RigOptions { scheduler_args: vec!["--no-such-flag".to_owned()], ..RigOptions::default() };
    let error = match Rig::start_or_skip(options).await {
        Ok(None) => return Ok(()),
        Ok(Some(rig)) => panic!("{rig:?} started"),
        Err(error) => error.to_string(),
    };
    assert!(error.contains("kube-scheduler ended") && error.contains("no-such-flag"), "{error}");
    let log = error.split_once("the end of ").and_then(|(_, rest)| rest.split_once(" says")).context("a log")?.0;
    let dir = Path::new(log).parent().context("a directory")?;
    assert!(dir.is_dir(), "what failed keeps its logs");
    fs::remove_dir_all(dir)?;
    Ok(())
}

#[tokio::test]
async fn a_panic_keeps_the_logs_and_nothing_else() -> Result<()> {
    let Some(rig) = Rig::start_or_skip(RigOptions::default()).await? else { return Ok(()) };
    let (pids, dir) = (rig.pids(), rig.dir().to_owned());
    let test = tokio::spawn(async move { panic!("on purpose, with {rig:?}") });
    assert!(test.await.unwrap_err().is_panic());
    assert_eq!(living(&pids), []);
    assert!(dir.join("kube-apiserver.log").is_file());
    fs::remove_dir_all(dir)?;
    Ok(())
}

#[tokio::test]
async fn an_error_keeps_the_logs_as_well() -> Result<()> {
    let mut kept = None;
    let options = RigOptions::default();
    let failed = on_rig(options, async |rig| {
        kept = Some(rig.dir().to_owned());
        Err(anyhow::anyhow!("on purpose"))
    });
    let (failed, Some(dir)) = (failed.await, kept) else { return Ok(()) };
    assert!(failed.is_err());
    assert!(dir.join("kube-apiserver.log").is_file());
    fs::remove_dir_all(dir)?;
    Ok(())
}

/// Not a test of its own: the process that the next test kills.
#[tokio::test]
async fn holder() -> Result<()> {
    if std::env::var_os(HOLD).is_none() {
        return Ok(());
    }
    let options = RigOptions { name: Some(format!("killed-{}", std::process::id())), ..RigOptions::default() };
    let rig = Rig::start(options).await?;
    say(format!("holding {} {}", rig.name(), serde_json::to_string(&rig.pids().values().collect::<Vec<_>>())?));
    std::future::pending::<()>().await;
    Ok(())
}

#[tokio::test]
async fn nothing_is_left_after_the_holder_is_killed() -> Result<()> {
    let Some(rig) = Rig::start_or_skip(RigOptions::default()).await? else { return Ok(()) };
    rig.stop();
    let mut child = Command::new(std::env::current_exe()?)
        .args(["--exact", "holder", "--nocapture"])
        .env(HOLD, "1")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let lines = BufReader::new(child.stderr.take().context("its standard error")?).lines();
    let said = lines.map_while(Result::ok).find(|line| line.starts_with("holding ")).context("a rig")?;
    let (name, pids) = said.trim_start_matches("holding ").split_once(' ').context("a name")?;
    let pids: Vec<u32> = serde_json::from_str(pids)?;
    assert_eq!(pids.iter().filter(|pid| lives(**pid)).count(), 5, "{pids:?}");
    let dir = Standing::named(name)?.dir;

    // SIGKILL: it cannot tidy up after itself.
    child.kill()?;
    child.wait()?;
    until("its programs to end", LIMIT, async || (!pids.iter().any(|pid| lives(*pid))).then_some(())).await?;
    fs::remove_dir_all(dir)?;
    Ok(())
}
