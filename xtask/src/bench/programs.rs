//! What the kernel says of the run time of the monitor's programs.
//!
//! In: the monitor's pid, with `kernel.bpf_stats_enabled` set. Out: runs and nanoseconds of each
//! program. Taking the statistics costs some 60 ns a run, so they have a round of their own.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use anyhow::{Context, Result};
use serde::Deserialize;

use super::report::Table;
use crate::shell;

const SETTING: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// The kernel takes statistics as long as this lives.
pub struct Statistics {
    before: String,
}

impl Statistics {
    /// Switches statistics on.
    ///
    /// # Errors
    ///
    /// If this kernel has none.
    pub fn start() -> Result<Self> {
        let before = fs::read_to_string(SETTING).context(SETTING)?;
        fs::write(SETTING, "1").context(SETTING)?;
        Ok(Statistics { before })
    }
}

impl Drop for Statistics {
    fn drop(&mut self) {
        let _ = fs::write(SETTING, &self.before); // It could be written a moment ago.
    }
}

/// One program, as `bpftool` tells of it.
#[derive(Clone, Deserialize)]
pub struct Program {
    id: u32,
    #[serde(default)]
    name: String,
    #[serde(default)]
    run_time_ns: u64,
    #[serde(default)]
    run_cnt: u64,
}

/// The programs that the process holds.
///
/// # Errors
///
/// If there is no `bpftool`.
pub fn of_process(pid: u32) -> Result<Vec<Program>> {
    let mut held = BTreeSet::new();
    for file in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        let text = fs::read_to_string(file?.path()).unwrap_or_default();
        let id = text.lines().find_map(|line| line.strip_prefix("prog_id:"));
        held.extend(id.and_then(|id| id.trim().parse::<u32>().ok()));
    }
    let mut programs = every()?;
    programs.retain(|program| held.contains(&program.id));
    Ok(programs)
}

/// Whether another monitor is attached to this kernel: figures would hold its cost as well.
pub fn another_monitor() -> Result<bool> {
    Ok(every()?
        .iter()
        .any(|program| program.name == "socket_state"))
}

fn every() -> Result<Vec<Program>> {
    let text = shell::output(Command::new("bpftool").args(["prog", "show", "-j"]))
        .context("the Debian package is called bpftool")?;
    serde_json::from_str(&text).context("bpftool prog show -j")
}

/// What each program did between two looks, by operation.
pub fn table(before: &[Program], after: &[Program], operations: u64) -> String {
    let mut table = Table::new([
        "program",
        "runs per operation",
        "ns per run",
        "ns per operation",
    ]);
    let mut total = 0.0;
    let by_operation = |number: u64| number as f64 / operations.max(1) as f64;
    for program in after {
        let same = before.iter().find(|it| it.id == program.id);
        let runs = program.run_cnt - same.map_or(0, |it| it.run_cnt);
        let time = program.run_time_ns - same.map_or(0, |it| it.run_time_ns);
        if runs == 0 {
            continue;
        }
        total += by_operation(time);
        table.row([
            program.name.clone(),
            format!("{:.2}", by_operation(runs)),
            format!("{}", time / runs),
            format!("{:.0}", by_operation(time)),
        ]);
    }
    table.row([
        "all".to_owned(),
        String::new(),
        String::new(),
        format!("{total:.0}"),
    ]);
    table.text()
}
