//! What is no single way out: floods, hooks that are taken off, a monitor that is killed.
//!
//! In: a suite that runs. Out: lines of the report.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use monitor_tests::event::Event;
use monitor_tests::metrics::Metrics;
use monitor_tests::running::Running;
use monitor_tests::turn::Turn;
use monitor_tests::wait;
use rustix::process::Signal;

use crate::log::Log;
use crate::network::Addresses;
use crate::report::{Line, Report};
use crate::suite::{Suite, monitor};

/// First number of the addresses of these cases.
const FIRST: usize = 800;
/// Calls of the flood; ten times the flow map.
const FLOOD: u32 = 500_000;
/// The longest that a flood may take, under emulation.
const FLOOD_LIMIT: Duration = Duration::from_secs(600);
/// A hook that is gone must be told within this.
const LOST_LIMIT: Duration = Duration::from_secs(12);

/// Plays those that are wanted. The monitor of the suite is another one afterwards.
pub fn run(
    suite: &mut Suite<'_>,
    report: &mut Report,
    is_wanted: &dyn Fn(&str) -> bool,
    dir: &Path,
) {
    let _turn = Turn::alone();
    if is_wanted("flood") {
        flood(suite, report, "flood", &[&FLOOD.to_string()], 0);
    }
    if is_wanted("flood-by-children") {
        let each = (FLOOD / 200).to_string();
        flood(suite, report, "flood-by-children", &["200", &each], 1);
    }
    if is_wanted("detach") {
        detach(suite, report);
    }
    if is_wanted("killed-monitor") {
        killed_monitor(suite, report, dir);
    }
}

fn act(suite: &Suite<'_>, name: &str, number: usize, args: &[&str]) -> Running {
    let mut command = Command::new(&suite.stage.evade);
    let addresses = Addresses::of(FIRST + number).all();
    command.current_dir(&suite.stage.dir).arg(name);
    command.args(addresses.map(|it| std::net::SocketAddr::new(it, 443).to_string()));
    command.args(args);
    let label = format!("{name}-{number}");
    let (host, dir) = (&suite.stage.network.host, &suite.stage.dir);
    host.enter(|| Running::start(&label, dir, command))
}

fn operations(metrics: &Metrics, outcome: &str) -> f64 {
    let labels = [("hook", "connect4"), ("outcome", outcome)];
    let sum = metrics.sum("telltale_kernel_operations_total", &labels);
    sum.unwrap_or_default()
}

fn has_connection(log: &Log, pid: u32, number: usize) -> bool {
    let address = Addresses::of(FIRST + number).all()[0];
    let mut about = log.about(address).iter();
    about.any(|event| event.pid() == Some(pid))
}

fn line(name: &str, what: &str, owed: &str, faults: &[String]) -> Line {
    Line {
        name: name.to_owned(),
        what: what.to_owned(),
        owed: owed.to_owned(),
        got: if faults.is_empty() { owed } else { "SILENT" }.to_owned(),
        tracer: String::new(),
        notes: faults.join("; "),
        passes: faults.is_empty(),
    }
}

/// One process, or its children, ask for very many addresses; another one for one.
fn flood(suite: &mut Suite<'_>, report: &mut Report, name: &str, args: &[&str], number: usize) {
    let before = suite.telltale.metrics();
    let mut flood = act(suite, name, 2 * number, args);
    // In the middle of it.
    std::thread::sleep(Duration::from_millis(400));
    let still_runs = flood.status().is_none();
    let mut lone = act(suite, "tcp4", 2 * number + 1, &[]);
    let lone_pid = lone.pid();
    let mut faults = Vec::new();
    if !lone.end(FLOOD_LIMIT).success() || !flood.end(FLOOD_LIMIT).success() {
        faults.push("the act failed".to_owned());
    }
    if !still_runs {
        faults.push("the flood was over too soon".to_owned());
    }
    let seen = wait::try_until(wait::SOON, || {
        suite.log.update();
        has_connection(&suite.log, lone_pid, 2 * number + 1).then_some(())
    });
    if seen.is_none() {
        faults.push("the other process's connection is not told".to_owned());
    }
    // Telltale reads on for a while after the flood is over.
    let attempted = || {
        let now = suite.telltale.metrics();
        operations(&now, "attempted") - operations(&before, "attempted")
    };
    wait::try_until(FLOOD_LIMIT, || {
        (attempted() >= f64::from(FLOOD)).then_some(())
    });
    let attempted = attempted();
    suite.catch_up();
    let named = |event: &Event| {
        let exe = Path::new(event.text("process.executable"));
        event.action() == "flows-over-budget" && exe == suite.stage.evade
    };
    // A child's share may be within its budget: then each of its flows is told.
    if name == "flood" && !suite.log.others().iter().any(named) {
        faults.push("the flooder is not named".to_owned());
    }
    faults.extend(suite.unbalanced());
    let after = suite.telltale.metrics();
    if attempted < f64::from(FLOOD) {
        faults.push(format!("{attempted} of {FLOOD} calls are in the books"));
    }
    let gone = ["ring_full", "flows_full", "unreadable"].map(|outcome| {
        let count = operations(&after, outcome) - operations(&before, outcome);
        (count > 0.0).then(|| format!("{outcome} {count}"))
    });
    let gone: Vec<String> = gone.into_iter().flatten().collect();
    let what = format!(
        "{FLOOD} random addresses{}, and one connection of another process{}",
        if number == 0 { "" } else { " by 200 children" },
        if gone.is_empty() {
            String::new()
        } else {
            format!(" (counted as lost: {})", gone.join(", "))
        }
    );
    report.add(line(name, &what, "ATTR", &faults));
}

/// Somebody takes a program of Telltale's off its hook.
fn detach(suite: &mut Suite<'_>, report: &mut Report) {
    const CONNECT4: &str = "10";
    let mut faults = Vec::new();
    let Some(link) = link_of(suite.telltale.process.pid(), CONNECT4) else {
        return report.add(line("detach", "", "alert", &["no link found".to_owned()]));
    };
    let mut process = act(suite, "detach", 10, &[&link]);
    if !process.end(wait::SOON).success() {
        faults.push(format!("the act failed: {}", process.stdout().trim()));
    }
    let lost = wait::try_until(LOST_LIMIT, || {
        suite.log.update();
        suite.log.has_alert("hook-lost").then_some(())
    });
    if lost.is_none() {
        faults.push("no alert hook-lost".to_owned());
    }
    let mut after = act(suite, "tcp4", 11, &[]);
    let _ = after.end(wait::SOON);
    let seen = wait::try_until(wait::SOON, || {
        suite.log.update();
        has_connection(&suite.log, after.pid(), 11).then_some(())
    });
    if seen.is_none() {
        faults.push("not attached again".to_owned());
    }
    let what = "connect4 is taken off its hook";
    report.add(line("detach", what, "alert", &faults));
}

/// Id of the link of a process that has this attach type.
fn link_of(pid: u32, attach_type: &str) -> Option<String> {
    let folder = fs::read_dir(format!("/proc/{pid}/fdinfo")).ok()?;
    folder.flatten().find_map(|entry| {
        let text = fs::read_to_string(entry.path()).ok()?;
        let field = |name: &str| {
            let mut lines = text.lines().filter_map(|line| line.split_once(':'));
            lines
                .find(|(key, _)| *key == name)
                .map(|(_, value)| value.trim().to_owned())
        };
        let is_it = field("attach_type")? == attach_type;
        is_it.then(|| field("link_id"))?
    })
}

/// The monitor is killed while connections are made, and started again.
fn killed_monitor(suite: &mut Suite<'_>, report: &mut Report, dir: &Path) {
    let mut steady = act(suite, "steady", 20, &[]);
    std::thread::sleep(Duration::from_secs(2));
    suite.telltale.process.signal(Signal::KILL);
    wait::try_until(wait::SOON, || suite.telltale.process.status());
    std::thread::sleep(Duration::from_secs(1));
    let count = |log: &mut Log| {
        log.update();
        let address = Addresses::of(FIRST + 20).all()[0];
        let opened = log.about(address).iter();
        let opened = opened.filter(|event| event.action() == "connection-opened");
        opened.count()
    };
    let first = count(&mut suite.log);
    let (telltale, log) = monitor(dir, "all");
    (suite.telltale, suite.log) = (telltale, log);
    std::thread::sleep(Duration::from_secs(2));
    steady.say("stop");
    let mut faults = Vec::new();
    if !steady.end(wait::SOON).success() {
        faults.push("the act failed".to_owned());
    }
    let output = steady.stdout();
    let sent = output.lines().find_map(|line| line.strip_prefix("sent "));
    let sent: usize = sent.and_then(|it| it.parse().ok()).unwrap_or_default();
    // An opening may wait for a name for some seconds.
    wait::try_until(wait::SOON, || {
        (first + count(&mut suite.log) >= sent).then_some(())
    });
    let second = count(&mut suite.log);
    let metrics = suite.telltale.metrics();
    let gaps = metrics.lines("telltale_coverage_gap_info");
    let told = gaps.lines().any(|line| line.contains("\"restart\""));
    let missing = sent.saturating_sub(first + second);
    let counted = ["dropped", "lost"].map(|outcome| {
        let labels = [("outcome", outcome)];
        let count = metrics.sum("telltale_restart_operations", &labels);
        count.unwrap_or_default()
    });
    if missing as f64 > counted.iter().sum() || (missing > 0 && !told) {
        faults.push(format!(
            "{missing} of {sent} connections are in no log, {counted:?} counted; gap told: {told}"
        ));
    }
    faults.extend(suite.unbalanced());
    let what = "SIGKILL and restart in the middle of connections";
    report.add(line("killed-monitor", what, "gap", &faults));
}
