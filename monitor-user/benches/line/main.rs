//! What the line costs in user space, stage by stage: decode, collect, count, log.
//!
//! In: streams of records that are made here, a recording if one is named, and what real clients
//! say first. Out: Markdown tables of CPU time on standard output. Needs no privileges; `cargo
//! xtask bench line` runs it and says how to read it. Nothing here passes or fails.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "a benchmark talks on stdout")]

mod first_bytes;
mod policy;
mod scrape;
mod streams;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use rustix::time::{ClockId, clock_gettime};
use telltale::clock::WallClock;
use telltale::config::Config;
use telltale::core::alert::AlertTiming;
use telltale::core::catalog::Catalog;
use telltale::core::collector::{Collector, CollectorConfig, Limits, Scope};
use telltale::core::event::Event;
use telltale::core::names::NameLimits;
use telltale::core::policy::PolicyConfig;
use telltale::core::report::Effect;
use telltale::metrics::{BuildInfo, Metrics};
use telltale::sink::HostInfo;
use telltale::sink::event_log::{EventLog, LogTarget};
use telltale::sink::lines::WhenFull;
use telltale::source::recording::{Entry, Recording};

/// Records between two looks at the clock, as many as the rings give at one time or so.
const BATCH: usize = 500;

fn main() -> Result<()> {
    // Cargo itself adds `--bench`.
    let arguments: Vec<_> = std::env::args()
        .skip(1)
        .filter(|it| it != "--bench")
        .collect();
    println!("| stream | records | decode | collect | count | log | sum | records/s |");
    println!("|---|--:|--:|--:|--:|--:|--:|--:|");
    for (name, records) in streams::all() {
        print_row(name, &records)?;
    }
    if let Some(file) = arguments.first() {
        print_row("recorded", &recorded(Path::new(file))?)?;
    }
    println!();
    first_bytes::print_table()?;
    println!();
    policy::print_table()?;
    scrape::print_table()
}

/// Stages of the line, in order.
#[derive(Default)]
struct Times {
    decode: Duration,
    collect: Duration,
    count: Duration,
    log: Duration,
}

fn print_row(name: &str, records: &[Vec<u8>]) -> Result<()> {
    let times = Line::new(PolicyConfig::default())?.run(records);
    let each = |time: Duration| time.as_nanos() / records.len().max(1) as u128;
    let stages = [times.decode, times.collect, times.count, times.log];
    let sum = stages.iter().sum::<Duration>();
    let rate = records.len() as f64 / sum.as_secs_f64();
    let cells: Vec<_> = stages
        .iter()
        .chain([&sum])
        .map(|time| each(*time).to_string())
        .collect();
    println!(
        "| {name} | {} | {} | {rate:.0} |",
        records.len(),
        cells.join(" | ")
    );
    Ok(())
}

/// The parts of a run that a record passes, without the kernel.
struct Line {
    collector: Collector,
    metrics: Metrics,
    log: EventLog,
    log_file: PathBuf,
}

impl Line {
    fn new(policy: PolicyConfig) -> Result<Self> {
        let catalog = Arc::new(Catalog::embedded()?);
        let metrics = Metrics::new(
            catalog.tools().map(|it| &*it.id),
            &BuildInfo::default(),
            "bench",
        )?;
        let log_file = std::env::temp_dir().join(format!("telltale-bench-{}", std::process::id()));
        Ok(Line {
            collector: collector(catalog, policy),
            metrics,
            log: EventLog::open(&LogTarget::File(log_file.clone()), WhenFull::Drop, &host())?,
            log_file,
        })
    }

    fn run(mut self, records: &[Vec<u8>]) -> Times {
        let clock = WallClock::default();
        let mut times = Times::default();
        for batch in records.chunks(BATCH) {
            let events: Vec<Event> = timed(&mut times.decode, || {
                batch
                    .iter()
                    .filter_map(|record| Event::decode(record).ok())
                    .collect()
            });
            let effects: Vec<Effect> = timed(&mut times.collect, || {
                let apply = |event: Event| {
                    let now = event.time();
                    self.collector.apply(event, now)
                };
                events.into_iter().flat_map(apply).collect()
            });
            timed(&mut times.count, || {
                effects
                    .iter()
                    .for_each(|effect| self.metrics.record(effect, &clock));
            });
            timed(&mut times.log, || {
                effects
                    .iter()
                    .for_each(|effect| self.log.write(effect, &clock));
            });
        }
        timed(&mut times.log, || self.log.flush());
        times
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.log_file); // Left behind at worst.
    }
}

/// Adds the CPU time of `work`: the wall clock would count the neighbours as well.
fn timed<T>(total: &mut Duration, work: impl FnOnce() -> T) -> T {
    let start = cpu_time();
    let result = work();
    *total += cpu_time().saturating_sub(start);
    result
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// A collector that has seen nothing and reports everything.
fn collector(catalog: Arc<Catalog>, policy: PolicyConfig) -> Collector {
    let limits = Config::default().limits;
    let alerts = Config::default().alerts;
    let config = CollectorConfig {
        boot_id: host().boot_id,
        scope: Scope::All,
        policy,
        wall_offset_ns: 0,
        resolvers: Vec::new(),
        proxies: Vec::new(),
        sampling: true,
        limits: Limits {
            processes: limits.processes,
            flows: limits.flows,
            alerts: limits.alerts,
            names: NameLimits::of(limits.names),
        },
        alerts: AlertTiming {
            resend: alerts.resend,
            resolve_after: alerts.resolve_after,
            pace: alerts.pace,
            paces: Default::default(),
        },
        arguments: Config::default().events.arguments,
    };
    Collector::new(config, catalog)
}

fn host() -> HostInfo {
    HostInfo {
        name: "build-7".to_owned(),
        boot_id: "a64180ab-b9c6-471b-a0cd-baf18289495b".to_owned(),
        session: "43fc6638b35".to_owned(),
        ..HostInfo::default()
    }
}

fn recorded(file: &Path) -> Result<Vec<Vec<u8>>> {
    let mut records = Vec::new();
    for entry in Recording::open(file)? {
        if let Entry::Record { bytes, .. } = entry? {
            records.push(bytes);
        }
    }
    Ok(records)
}
