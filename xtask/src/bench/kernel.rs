//! What single operations cost their caller, with and without the monitor.
//!
//! In: the built programs. Out: Markdown.

use anyhow::Result;

use super::monitor::{Monitor, Scope};
use super::report::Table;
use super::sample::Sample;
use super::{Bench, monitor};

const HOW: &str = "\
CPU time of the caller for one operation, nanoseconds: what the kernel does for it included.
The difference is the median over pairs. `tools` counts repeated flows in the kernel, \
`all` hands out a record for each connect and each end of one.
";

/// Name of the operation for the generator, for people, and how often it is done in a round.
const OPERATIONS: [(&str, &str, u32); 7] = [
    ("udp-connect", "connect(2) of a UDP socket", 200_000),
    (
        "udp-sendto",
        "sendto(2) with an address, and its reception",
        100_000,
    ),
    ("tcp-connect", "TCP connect, accept, close", 20_000),
    ("packet-small", "packet of 64 B, sent and received", 100_000),
    ("packet-large", "packet of 64 KB, sent and received", 20_000),
    ("fork", "fork and exit", 3_000),
    ("exec", "fork, exec, connect, exit", 1_000),
];

/// Runs this part.
pub fn run(bench: &Bench) -> Result<String> {
    let mut table = Table::new(["operation", "without", "tools: more", "all: more"]);
    let mut samples: Vec<[Sample; 3]> = OPERATIONS.iter().map(|_| Default::default()).collect();
    for _ in 0..bench.rounds {
        let off = measure(bench, None)?;
        let tools = measure(bench, Some(Scope::Tools))?;
        let off_again = measure(bench, None)?;
        let all = measure(bench, Some(Scope::All))?;
        for (index, [without, with_tools, with_all]) in samples.iter_mut().enumerate() {
            without.push(off[index]);
            without.push(off_again[index]);
            with_tools.push(tools[index] - off[index]);
            with_all.push(all[index] - off_again[index]);
        }
    }
    for ((_, operation, _), samples) in OPERATIONS.into_iter().zip(samples) {
        let [without, tools, all] = samples.map(|sample| format!("{sample:.0}"));
        table.row([operation.to_owned(), without, tools, all]);
    }
    Ok(format!("{HOW}\n{}", table.text()))
}

/// Nanoseconds of each operation, under a monitor of this scope if there is one.
fn measure(bench: &Bench, scope: Option<Scope>) -> Result<Vec<f64>> {
    let monitor = scope
        .map(|scope| Monitor::start(bench, scope, false))
        .transpose()?;
    let one = |(kind, _, count)| Ok(bench.generator.run(kind, count, 1)?.cpu_ns());
    let times = OPERATIONS.into_iter().map(one).collect();
    if let Some(monitor) = monitor {
        let events = monitor.events.clone();
        monitor.stop()?;
        monitor::discard(&events)?;
    }
    times
}
