//! What the kernel says about a process: CPU time and memory.

use std::fs;

use anyhow::{Context, Result};

/// CPU time used so far by all threads that run, in seconds. In nanoseconds inside (`/proc/PID/task/TID/schedstat`): the clock
/// ticks of `stat` are 10 ms, and a share of a percent is looked for.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    let mut nanoseconds = 0.0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may end between the listing and the look.
        let Ok(schedstat) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
        let on_cpu = schedstat.split(' ').next().context("schedstat is empty")?;
        nanoseconds += on_cpu.parse::<f64>()?;
    }
    Ok(nanoseconds / 1e9)
}

/// The most memory the process ever had in RAM, in MB.
pub fn peak_megabytes(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    let kilobytes: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kilobytes * 1024.0 / 1e6)
}
