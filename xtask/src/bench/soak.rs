//! Memory and open files of a monitor over time, and with full tables.
//!
//! In: a steady load, and how long; or processes that stay. Out: tables. A line through the samples
//! of the second half says whether anything grows: the first fills tables and buffers.

use std::fmt::Write;
use std::fs::File;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::Bench;
use super::monitor::{Monitor, Scope, discard, settle};
use super::report::{self, Table};

/// TCP connections a second.
const RATE: u32 = 1_000;
/// Rows of the table, and samples of the line.
const SAMPLES: u32 = 12;

/// Processes that stay, and what they have open between them.
const PROCESSES: u32 = 10_000;
const FLOWS: u32 = 5 * PROCESSES;

/// 1 000 connections a second, each of them an event.
///
/// # Errors
///
/// If something does not start or end.
pub fn run(bench: &Bench) -> Result<String> {
    let monitor = Monitor::start(bench, Scope::All, false)?;
    let load = bench
        .generator
        .start("tcp-connect", bench.seconds * RATE, RATE)?;
    let mut text = format!(
        "{RATE} TCP connections a second for {} s, every one an event (scope `all`), and a scrape \
         for each row.\n\n",
        bench.seconds
    );
    let mut table = Table::new([
        "second",
        "anonymous, MB",
        "rings and program, MB",
        "open files",
        "CPU, % of a core",
        "load average of the machine",
    ]);
    let (begin, mut samples) = (Instant::now(), Vec::new());
    let (mut last_at, mut last_cpu) = (0.0, monitor.cpu_time()?);
    for number in 1..=SAMPLES {
        let due = Duration::from_secs(bench.seconds.into()) * number / SAMPLES;
        thread::sleep(due.saturating_sub(begin.elapsed()));
        monitor.metrics()?;
        File::create(&monitor.events)?; // Emptied: nobody reads these gigabytes.
        let (memory, files, cpu) = (
            monitor.memory()?,
            monitor.descriptors()?,
            monitor.cpu_time()?,
        );
        let at = begin.elapsed().as_secs_f64();
        let share = (cpu - last_cpu).as_secs_f64() / (at - last_at);
        table.row([
            format!("{at:.0}"),
            format!("{:.2}", memory.anonymous),
            format!("{:.1}", memory.files),
            files.to_string(),
            format!("{:.1}", 100.0 * share),
            report::load_average()?,
        ]);
        samples.push((at / 3600.0, memory.anonymous, files as f64));
        (last_at, last_cpu) = (at, cpu);
    }
    text += &table.text();
    let outcome = load.end()?;
    settle();
    let metrics = monitor.metrics()?;
    let half = samples.get(samples.len() / 2..).unwrap_or_default();
    let memory: Vec<_> = half.iter().map(|(at, memory, _)| (*at, *memory)).collect();
    let files: Vec<_> = half.iter().map(|(at, _, files)| (*at, *files)).collect();
    write!(
        text,
        "\nIn the second half, anonymous memory changed by {:+.1} MB and open files by {:+.1} an \
         hour.\n{} connections were made, {:.0} a second; {} were lost, and the books have a \
         remainder of {}.\n",
        slope(&memory),
        slope(&files),
        outcome.operations,
        outcome.rate(),
        metrics.lost(),
        metrics.sum("telltale_books_remainder", &[]),
    )?;
    let events = monitor.events.clone();
    monitor.stop()?;
    discard(&events)?;
    Ok(text)
}

/// Many processes with many flows, all of them alive.
///
/// # Errors
///
/// As [`run`].
pub fn memory(bench: &Bench) -> Result<String> {
    let monitor = Monitor::start(bench, Scope::Tools, false)?;
    let before = monitor.memory()?;
    let held = bench.generator.hold(PROCESSES)?;
    settle();
    let (after, metrics) = (monitor.memory()?, monitor.metrics()?);
    let entries = |table| metrics.sum("telltale_table_entries", &[("table", table)]);
    let text = format!(
        "{PROCESSES} processes with {FLOWS} connected sockets between them, all of them alive; the \
         tables then hold {:.0} program images (each process had another one before its own) and \
         {:.0} flows.\n\n",
        entries("processes"),
        entries("flows"),
    );
    let mut table = Table::new(["", "anonymous, MB", "rings and program, MB"]);
    for (name, memory) in [("before", before), ("with them", after)] {
        let (anonymous, files) = (memory.anonymous, memory.files);
        table.row([
            name.to_owned(),
            format!("{anonymous:.1}"),
            format!("{files:.1}"),
        ]);
    }
    drop(held);
    let events = monitor.events.clone();
    monitor.stop()?;
    discard(&events)?;
    Ok(text + &table.text())
}

/// Slope of the line that is nearest to the points.
fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let above: f64 = points
        .iter()
        .map(|point| (point.0 - x) * (point.1 - y))
        .sum();
    let below: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    if below > 0.0 { above / below } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(points: &[(f64, f64)], expect: f64) {
        assert!((slope(points) - expect).abs() < 1e-9, "{}", slope(points));
    }

    #[test]
    fn the_slope_of_a_line() {
        check(&[(0.0, 1.0), (1.0, 3.0), (2.0, 5.0)], 2.0);
        check(&[(0.0, 7.0), (1.0, 7.0)], 0.0);
        check(&[(1.0, 7.0)], 0.0);
        check(&[], 0.0);
    }
}
