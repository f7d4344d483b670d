//! What it costs to look at the first bytes of connections for names.
//!
//! In: the built programs. Out: Markdown.

use anyhow::{Result, ensure};

use super::Bench;
use super::generator::Outcome;
use super::monitor::{self, Monitor, Scope};
use super::programs::{self, Statistics};
use super::report::Table;
use super::sample::Sample;

const PROCESSES: u32 = 2;
/// What a connection is, and how many are made each round: some seconds of them.
const CONNECTIONS: [(&str, &str, u32); 2] = [
    ("tls-handshake", "a whole TLS handshake", 10_000),
    ("tls-hello", "a hello and one byte", 50_000),
];

const PACKETS: u32 = 100_000;
/// Packets of a connection that has said hello, and datagrams.
const PACKET_KINDS: [(&str, &str); 2] = [
    (
        "tcp-stream",
        "packet of 64 B on a connection after its hello",
    ),
    ("packet-small", "datagram of 64 B, sent and received"),
];

const HOW: &str = "\
Two processes connect to themselves over TLS and close, scope `all`, so that each connection is \
told and named. A handshake is TLS 1.3 between rustls and itself with nothing resumed and a P-256 \
key: 10 000 each round. The same without any cryptography, 50 000 each round: the hello of a client \
with a post-quantum key share (1.4 KB), and one byte back.
`CPU of the load` and `rate` are to those without a monitor, in the same round. Naming is what \
`sample = \"on\"` takes more than `off`, of load and monitor together: in microseconds for a \
connection, and in percent of the load's CPU without a monitor.
";

const PACKET_HOW: &str = "\
CPU time of the caller for one packet, nanoseconds; with more than without a monitor.
";

const PROGRAMS: &str = "\
Run time of the kernel programs for one connection (`kernel.bpf_stats_enabled`, which adds some \
60 ns to each run), `sample`";

/// Whether first bytes are looked at.
const SAMPLING: [&str; 2] = ["off", "on"];

/// Runs this part.
pub fn run(bench: &Bench) -> Result<String> {
    let mut connections = String::new();
    for (kind, connection, count) in CONNECTIONS {
        let table = self::connections(bench, (kind, count))?;
        connections += &format!("A connection is {connection}:\n\n{table}\n");
    }
    let packets = packets(bench)?;
    let mut programs = String::new();
    for sample in SAMPLING {
        programs += &format!("\n{PROGRAMS} `{sample}`:\n\n{}", account(bench, sample)?);
    }
    Ok(format!(
        "{HOW}\n{connections}\n{PACKET_HOW}\n{packets}{programs}"
    ))
}

fn start(bench: &Bench, sample: &str) -> Result<Monitor> {
    let config = format!("[names]\nsample = \"{sample}\"\nresolved = \"off\"\n");
    Monitor::start_with(bench, Scope::All, false, &config)
}

fn load(bench: &Bench, (kind, count): (&str, u32)) -> Result<Outcome> {
    bench.generator.run(kind, count / PROCESSES, PROCESSES)
}

/// What a round took with sampling on or off.
#[derive(Default)]
struct Samples {
    rate: Sample,
    load_cpu: Sample,
    monitor_cpu: Sample,
    per_second: Sample,
    named: Sample,
}

fn connections(bench: &Bench, connection: (&str, u32)) -> Result<String> {
    let mut columns = [Samples::default(), Samples::default()];
    let (mut without_rate, mut share) = (Sample::default(), Sample::default());
    let mut naming = Sample::default();
    for _ in 0..bench.rounds {
        let without = load(bench, connection)?;
        without_rate.push(without.rate());
        let mut took = [0.0; 2];
        for ((sample, samples), took) in SAMPLING.into_iter().zip(&mut columns).zip(&mut took) {
            let monitor = start(bench, sample)?;
            let before = monitor.cpu_time()?;
            let with = load(bench, connection)?;
            monitor::settle();
            let monitor_cpu = (monitor.cpu_time()? - before).as_secs_f64();
            let named = monitor
                .metrics()?
                .sum("telltale_name_claims_total", &[("outcome", "named")]);
            let events = monitor.events.clone();
            monitor.stop()?;
            monitor::discard(&events)?;
            samples.rate.push(with.rate() / without.rate());
            samples.load_cpu.push(with.cpu_ns() / without.cpu_ns());
            samples.per_second.push(with.rate());
            samples.monitor_cpu.push(monitor_cpu);
            samples.named.push(named / with.operations as f64 * 100.0);
            *took = with.cpu.as_secs_f64() + monitor_cpu;
        }
        let [off, on] = took;
        naming.push((on - off) / without.operations as f64 * 1e6);
        share.push((on - off) / without.cpu.as_secs_f64() * 100.0);
    }
    let mut table = Table::new([
        "sample",
        "rate",
        "connections/s",
        "CPU of the load",
        "monitor CPU, s",
        "named, %",
    ]);
    for (sample, samples) in SAMPLING.into_iter().zip(columns) {
        table.row([
            sample.to_owned(),
            samples.rate.to_string(),
            format!("{:.0}", samples.per_second),
            samples.load_cpu.to_string(),
            samples.monitor_cpu.to_string(),
            format!("{:.1}", samples.named),
        ]);
    }
    Ok(format!(
        "{}\nWithout a monitor: {without_rate:.0} connections/s. Naming: {naming:.1} µs for a \
         connection, {share:.1} % of the load's CPU.\n",
        table.text()
    ))
}

fn packets(bench: &Bench) -> Result<String> {
    let mut samples =
        PACKET_KINDS.map(|_| [Sample::default(), Sample::default(), Sample::default()]);
    let measure = || -> Result<Vec<f64>> {
        let one = |(kind, _)| Ok(bench.generator.run(kind, PACKETS, 1)?.cpu_ns());
        PACKET_KINDS.into_iter().map(one).collect()
    };
    for _ in 0..bench.rounds {
        let without = measure()?;
        let mut with = Vec::new();
        for sample in SAMPLING {
            let monitor = start(bench, sample)?;
            with.push(measure()?);
            let events = monitor.events.clone();
            monitor.stop()?;
            monitor::discard(&events)?;
        }
        for (index, [none, off, on]) in samples.iter_mut().enumerate() {
            none.push(without[index]);
            off.push(with[0][index] - without[index]);
            on.push(with[1][index] - without[index]);
        }
    }
    let mut table = Table::new(["packet", "without", "off: more", "on: more"]);
    for ((_, packet), samples) in PACKET_KINDS.into_iter().zip(samples) {
        let [none, off, on] = samples.map(|sample| format!("{sample:.0}"));
        table.row([packet.to_owned(), none, off, on]);
    }
    Ok(table.text())
}

/// One round in which the programs are timed.
fn account(bench: &Bench, sample: &str) -> Result<String> {
    let _statistics = Statistics::start()?;
    let monitor = start(bench, sample)?;
    let before = programs::of_process(monitor.pid())?;
    let [_, (kind, _, count)] = CONNECTIONS;
    let made = load(bench, (kind, count))?;
    monitor::settle();
    let after = programs::of_process(monitor.pid())?;
    let events = monitor.events.clone();
    ensure!(made.operations > 0, "the load did nothing");
    monitor.stop()?;
    monitor::discard(&events)?;
    Ok(programs::table(&before, &after, made.operations))
}
