//! 2 000 short-lived processes in a row: is every one identified, and at what price?
//!
//! In: the built programs. Out: Markdown.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::Result;
use serde_json::Value;

use super::Bench;
use super::monitor::{self, Monitor, Scope};
use super::programs::{self, Statistics};
use super::report::Table;
use super::sample::Sample;

const PROCESSES: u32 = 2_000;
const KIND: &str = "exec";

const HOW: &str = "\
One process starts 2 000 others in a row; each executes, connects once over loopback, and exits.
Each has an argument of its own. Identified are those whose executable and arguments stand in a \
`process-started` line of the event log (scope `all`), connected those with a \
`connection-opened` line that says who it was.
";

const PROGRAMS: &str = "Run time of the kernel programs, for each of the processes:";

/// Runs this part.
pub fn run(bench: &Bench) -> Result<String> {
    let [mut rate, mut without_rate, mut load_cpu, mut monitor_cpu] =
        std::array::from_fn(|_| Sample::default());
    let mut seen = Vec::new();
    for _ in 0..bench.rounds {
        let without = bench.generator.run(KIND, PROCESSES, 1)?;
        let monitor = Monitor::start(bench, Scope::All, false)?;
        let before = monitor.cpu_time()?;
        let with = bench.generator.run(KIND, PROCESSES, 1)?;
        monitor::settle();
        monitor_cpu.push((monitor.cpu_time()? - before).as_secs_f64());
        let events = monitor.events.clone();
        monitor.stop()?;
        seen.push(identified(&events)?);
        monitor::discard(&events)?;
        rate.push(with.rate() / without.rate());
        without_rate.push(without.rate());
        load_cpu.push(with.cpu_ns() / without.cpu_ns());
    }
    let mut table = Table::new(["what", "figure"]);
    let each = |pick: fn(&Seen) -> usize| {
        let numbers: Vec<_> = seen.iter().map(|round| pick(round).to_string()).collect();
        format!("{} of {PROCESSES}", numbers.join(", "))
    };
    table.row([
        "identified, each round".to_owned(),
        each(|seen| seen.started),
    ]);
    table.row([
        "connected, each round".to_owned(),
        each(|seen| seen.connected),
    ]);
    table.row(["rate with to without".to_owned(), rate.to_string()]);
    table.row([
        "CPU of the load with to without".to_owned(),
        load_cpu.to_string(),
    ]);
    table.row([
        "processes/s without".to_owned(),
        format!("{without_rate:.0}"),
    ]);
    table.row([
        "monitor CPU for 1 000, s".to_owned(),
        monitor_cpu.to_string(),
    ]);
    Ok(format!(
        "{HOW}\n{}\n{PROGRAMS}\n\n{}",
        table.text(),
        run_times(bench)?
    ))
}

fn run_times(bench: &Bench) -> Result<String> {
    let _statistics = Statistics::start()?;
    let monitor = Monitor::start(bench, Scope::All, false)?;
    let before = programs::of_process(monitor.pid())?;
    let made = bench.generator.run(KIND, PROCESSES, 1)?;
    let after = programs::of_process(monitor.pid())?;
    monitor.stop()?;
    Ok(programs::table(&before, &after, made.operations))
}

/// How many of the processes the event log knows.
struct Seen {
    started: usize,
    connected: usize,
}

fn identified(events: &Path) -> Result<Seen> {
    let (mut started, mut connected) = (BTreeSet::new(), BTreeSet::new());
    for line in BufReader::new(File::open(events)?).lines() {
        let line: Value = serde_json::from_str(&line?)?;
        let process = &line["process"];
        let executable = process["executable"].as_str().unwrap_or_default();
        let args = process["args"].as_array().map_or(&[][..], Vec::as_slice);
        let [_, once, _address, number] = args else {
            continue;
        };
        if !executable.ends_with("/load") || once != "once" {
            continue;
        }
        match line["event"]["action"].as_str() {
            Some("process-started") => started.insert(number.to_string()),
            Some("connection-opened") => connected.insert(number.to_string()),
            _ => false,
        };
    }
    Ok(Seen {
        started: started.len(),
        connected: connected.len(),
    })
}
