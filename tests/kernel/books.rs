//! The books balance: what the kernel saw is delivered, aggregated, or counted as lost.
//!
//! In: floods of connections, one of them at a monitor that does not look. Out: every connection
//! in the metrics or among the losses, and for every hook a remainder of zero.

use std::time::Duration;

use monitor_common::counter::{DELIVERED, HOOK_NAMES, OUTCOME_NAMES};
use monitor_common::limits::DETAIL_RING_BYTES;
use monitor_common::record::FlowOpened;
use monitor_tests::metrics::Metrics;
use monitor_tests::scene::Scene;
use monitor_tests::tcp::TcpServer;
use rustix::process::Signal;

/// Making and looking at a flood, on a busy host and without optimisation.
const FLOOD: Duration = Duration::from_secs(90);

/// A tool connects so often, at least twice; `stopped`: while the monitor is. Returns what it said afterwards.
#[track_caller]
fn check(connects: u32, stopped: bool) -> Metrics {
    let scene = Scene::alone();
    let addresses: Vec<String> = (10..14)
        .map(|host| format!("203.0.113.{host}:443"))
        .collect();
    let _servers: Vec<TcpServer> = addresses
        .iter()
        .map(|at| TcpServer::start_dropping(&scene.ns, at))
        .collect();
    let tool = scene.own_tool();
    let telltale = scene.telltale().start();
    let (count, first, all) = (
        (connects - 1).to_string(),
        &addresses[0],
        addresses.join(","),
    );
    let words = ["wait", "burst", "1", first, "wait", "burst", &count, &all];
    let mut flood = scene.start(&tool.program, &words);
    // Once a connection is told after the start was, each is wanted as a record.
    telltale.wait_for_action(flood.pid(), "process-started");
    flood.say("go on");
    telltale.wait_for_action(flood.pid(), "connection-opened");
    if stopped {
        telltale.process.signal(Signal::STOP);
    }
    flood.say("go on");
    flood.succeed(FLOOD);
    if stopped {
        telltale.process.signal(Signal::CONT);
    }

    let connects = f64::from(connects);
    let seen = |metrics: &Metrics| {
        let of_tool = [("tool", tool.id.as_str())];
        metrics
            .sum("telltale_connections_total", &of_tool)
            .unwrap_or_default()
    };
    let attempted = |metrics: &Metrics| operations(metrics, "connect4", "attempted");
    let settled = |metrics: &Metrics| attempted(metrics) >= connects && seen(metrics) >= connects;
    let metrics = telltale.wait_long_for_metrics("account of all connections", FLOOD, settled);
    assert_eq!(seen(&metrics), connects, "each is counted once");
    assert_eq!(metrics.unbalanced(), [""; 0]);
    for hook in HOOK_NAMES {
        let outcomes = OUTCOME_NAMES.iter().skip(DELIVERED as usize);
        let accounted: f64 = outcomes.map(|name| operations(&metrics, hook, name)).sum();
        assert_eq!(operations(&metrics, hook, "attempted"), accounted, "{hook}");
    }
    metrics
}

/// Operations of a hook with this outcome.
fn operations(metrics: &Metrics, hook: &str, outcome: &str) -> f64 {
    metrics.get(
        "telltale_kernel_operations_total",
        &[("hook", hook), ("outcome", outcome)],
    )
}

#[test]
fn after_a_flood() {
    check(10_000, false);
}

/// More than its rings hold happens while the monitor does not look: the records are lost, and
/// counted as lost; the connections are not.
#[test]
fn after_a_flood_that_nobody_looked_at() {
    let room = u32::try_from(DETAIL_RING_BYTES as usize / size_of::<FlowOpened>()).unwrap();
    let metrics = check(room + 1_000, true);
    assert!(operations(&metrics, "connect4", "ring_full") > 0.0);
}
