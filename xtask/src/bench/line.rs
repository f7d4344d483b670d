//! What a record and a scrape cost in user space, stage by stage.
//!
//! In: the benchmark `line` of package telltale, and a recording that is made here. Out: Markdown.

use anyhow::Result;

use super::Bench;
use super::monitor::{self, Monitor, Scope};
use crate::shell;

const HOW: &str = "\
CPU time of one thread, nanoseconds for one record, scope `all`: decode its bytes, apply it to \
the collector, count its effects in the metrics, write its lines to a file.
`recorded` is a recording of 2 000 TCP connects and 200 short-lived processes on this machine.
What a client says first is looked at as it comes, in one segment or two.
The third table is the same for connections of a tool under policies of so many rules, none of which fits; every other record is an opening, which is judged.
A scrape is the text of all metrics, made in one thread.
";
const CONNECTS: u32 = 2_000;
const PROCESSES: u32 = 200;

/// Runs this part.
pub fn run(bench: &Bench) -> Result<String> {
    let monitor = Monitor::start(bench, Scope::All, true)?;
    bench.generator.run("tcp-connect", CONNECTS, 1)?;
    bench.generator.run("exec", PROCESSES, 1)?;
    let recording = monitor.recording.clone();
    monitor.stop()?;
    let mut cargo = shell::cargo();
    cargo.current_dir(shell::workspace_root()?);
    cargo
        .args([
            "bench", "--quiet", "-p", "telltale", "--bench", "line", "--",
        ])
        .arg(&recording);
    let tables = shell::output(&mut cargo)?;
    monitor::discard(&recording)?;
    Ok(format!("{HOW}\n{tables}"))
}
