//! 100 000 TCP connects as fast as they go: is every one of them seen, and at what price?
//!
//! In: the built programs. Out: Markdown.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::{Context, Result, bail};
use monitor_common::record::{
    FLOW_ACCEPTED, FlowCounted, FlowOpened, Header, KIND_FLOW_COUNTED, KIND_FLOW_OPENED,
};
use serde_json::Value;
use zerocopy::FromBytes;

use super::Bench;
use super::generator::Outcome;
use super::monitor::{self, Memory, Monitor, Scope};
use super::programs::{self, Statistics};
use super::report::Table;
use super::sample::Sample;

const CONNECTS: u32 = 100_000;
const PROCESSES: u32 = 2;
const KIND: &str = "tcp-connect";

const HOW: &str = "\
Two processes connect to themselves over loopback, accept, and close with a FIN: \
100 000 connects each round.
`rate` and `CPU of the load` are with the monitor to without it, pair by pair; the load's CPU \
is less disturbed by neighbours than its rate.
`monitor CPU` is user and kernel time of all its threads for 100 000 connects; `idle` is what it \
uses when only the other programs of this machine do something.
The rings' 7 MB count twice in the memory, as they are mapped twice in a row.
Scope `tools` counts these connects in the kernel, as their programs are no AI tools; \
scope `all` writes two lines for each, opened and closed.
";

const BOOKS: &str = "\
Made is what the load generator did; the rest is what the monitor told of its processes.
Lost are records of any process that found a ring full: a connect has two, its opening and its \
end, so what is unaccounted for is below 0 where both were lost.
";

const PROGRAMS: &str = "\
Run time of the kernel programs (`kernel.bpf_stats_enabled`, which adds some 60 ns to each run), \
scope";

/// Runs this part.
pub fn run(bench: &Bench) -> Result<String> {
    let mut costs = Table::new([
        "scope",
        "rate",
        "CPU of the load",
        "connects/s without",
        "monitor CPU, s",
        "idle, % of a core",
        "peak RSS, MB",
        "heap",
        "files and rings",
    ]);
    let mut books = Table::new([
        "scope",
        "made",
        "events",
        "counted in the kernel",
        "lost",
        "unaccounted",
    ]);
    let mut run_times = String::new();
    for scope in [Scope::Tools, Scope::All] {
        costs.row(compare(bench, scope)?);
        let (row, programs) = account(bench, scope)?;
        books.row(row);
        run_times += &format!("\n{PROGRAMS} `{}`:\n\n{programs}", scope.name());
    }
    Ok(format!(
        "{HOW}\n{}\n{BOOKS}\n{}{run_times}",
        costs.text(),
        books.text()
    ))
}

/// With and without the monitor, in turns.
fn compare(bench: &Bench, scope: Scope) -> Result<[String; 9]> {
    let [
        mut rate,
        mut load_cpu,
        mut without_rate,
        mut monitor_cpu,
        mut idle,
    ] = std::array::from_fn(|_| Sample::default());
    let mut memory = None;
    for _ in 0..bench.rounds {
        let without = load(bench)?;
        let monitor = Monitor::start(bench, scope, false)?;
        idle.push(monitor.idle_share()? * 100.0);
        let before = monitor.cpu_time()?;
        let with = load(bench)?;
        monitor::settle();
        monitor_cpu.push((monitor.cpu_time()? - before).as_secs_f64());
        memory = Some(monitor.memory()?);
        let events = monitor.events.clone();
        monitor.stop()?;
        monitor::discard(&events)?;
        rate.push(with.rate() / without.rate());
        load_cpu.push(with.cpu_ns() / without.cpu_ns());
        without_rate.push(without.rate());
    }
    let Memory {
        peak,
        anonymous,
        files,
    } = memory.context("no round")?;
    Ok([
        scope.name().to_owned(),
        rate.to_string(),
        load_cpu.to_string(),
        format!("{without_rate:.0}"),
        monitor_cpu.to_string(),
        idle.to_string(),
        format!("{peak:.1}"),
        format!("{anonymous:.1}"),
        format!("{files:.1}"),
    ])
}

fn load(bench: &Bench) -> Result<Outcome> {
    bench.generator.run(KIND, CONNECTS / PROCESSES, PROCESSES)
}

/// One round in which every connect is accounted for and the programs are timed.
fn account(bench: &Bench, scope: Scope) -> Result<([String; 6], String)> {
    let _statistics = Statistics::start()?;
    // The event log holds all connects or few; what is only counted, the recording tells.
    let monitor = Monitor::start(bench, scope, scope == Scope::Tools)?;
    let before = programs::of_process(monitor.pid())?;
    let made = load(bench)?;
    monitor::settle();
    let after = programs::of_process(monitor.pid())?;
    let lost = monitor.metrics()?.lost();
    let (events, recording) = (monitor.events.clone(), monitor.recording.clone());
    monitor.stop()?;
    let (reported, counted) = match scope {
        Scope::All => (opened_lines(&events, &made.pids)?, 0),
        Scope::Tools => recorded(&recording, &made.pids)?,
    };
    monitor::discard(&events)?;
    let unaccounted = made.operations as f64 - reported as f64 - counted as f64 - lost;
    let row = [
        scope.name().to_owned(),
        made.operations.to_string(),
        reported.to_string(),
        counted.to_string(),
        lost.to_string(),
        unaccounted.to_string(),
    ];
    Ok((row, programs::table(&before, &after, made.operations)))
}

/// Lines of the event log that tell of a connect of these processes. They answer connects as
/// well, which the log tells once for each remote.
fn opened_lines(events: &Path, pids: &[u32]) -> Result<u64> {
    let mut count = 0;
    // A quarter of a gigabyte: looked through as text, not parsed.
    let pids: Vec<_> = pids
        .iter()
        .map(|pid| format!(r#""process":{{"pid":{pid},"#))
        .collect();
    for line in BufReader::new(File::open(events)?).lines() {
        let line = line?;
        let opened = line.contains(r#""action":"connection-opened""#)
            && line.contains(r#""direction":"egress""#);
        count += u64::from(opened && pids.iter().any(|pid| line.contains(pid)));
    }
    Ok(count)
}

/// Connects of these processes in a recording: those with a record, and those only counted.
fn recorded(recording: &Path, pids: &[u32]) -> Result<(u64, u64)> {
    let (mut reported, mut counted) = (0, 0);
    for line in BufReader::new(File::open(recording)?).lines() {
        let line: Value = serde_json::from_str(&line?)?;
        let Some(hex) = line.get("hex").and_then(Value::as_str) else {
            continue;
        };
        let bytes = from_hex(hex)?;
        match Header::read_from_prefix(&bytes).map(|(header, _)| header.kind) {
            Ok(KIND_FLOW_OPENED) => {
                if let Ok((record, _)) = FlowOpened::read_from_prefix(&bytes)
                    && pids.contains(&record.process.tgid)
                {
                    reported += u64::from(record.flags & FLOW_ACCEPTED == 0);
                }
            }
            Ok(KIND_FLOW_COUNTED) => {
                if let Ok((record, _)) = FlowCounted::read_from_prefix(&bytes)
                    && pids.contains(&record.flow.process.tgid)
                {
                    counted += record.delta.connects_unreported;
                }
            }
            _ => {}
        }
    }
    Ok((reported, counted))
}

fn from_hex(text: &str) -> Result<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        bail!("the recording holds no hex: {text}");
    }
    let digits = (0..text.len()).step_by(2);
    Ok(digits
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16))
        .collect::<Result<_, _>>()?)
}
