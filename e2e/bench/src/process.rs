//! What the kernel says about a process: CPU time and memory.

use std::fs;

use anyhow::{Context, Result};

/// Clock ticks per second of `/proc/PID/stat`; 100 on every Linux that Rust runs on (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU time used so far, in seconds, user and system.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The command's name stands in parentheses and may hold spaces; what is wanted comes after it.
    let (_, fields) = stat.rsplit_once(") ").context("/proc/PID/stat has no command")?;
    let fields: Vec<&str> = fields.split(' ').collect();
    let ticks = |field: usize| fields.get(field).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
    Ok((ticks(11) + ticks(12)) / TICKS_PER_SECOND)
}

/// The most memory the process ever had in RAM, in MB.
pub fn peak_megabytes(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    let kilobytes: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kilobytes * 1024.0 / 1e6)
}
