//! The books balance: what the kernel saw is delivered, aggregated, or counted as lost.
//!
//! In: a flood of connections. Out: for every hook, a remainder of zero; and nothing unaccounted.

use std::time::Duration;

use monitor_common::counter::{DELIVERED, HOOK_NAMES, OUTCOME_NAMES};
use monitor_tests::metrics::Metrics;
use monitor_tests::program::{self, Program};
use monitor_tests::scene::Scene;
use monitor_tests::tcp::TcpServer;

const CONNECTS: u32 = 20_000;

/// Operations of a hook with this outcome.
fn operations(metrics: &Metrics, hook: &str, outcome: &str) -> f64 {
    metrics.get(
        "telltale_kernel_operations_total",
        &[("hook", hook), ("outcome", outcome)],
    )
}

#[test]
fn after_a_flood() {
    let scene = Scene::alone();
    let addresses: Vec<String> = (10..14)
        .map(|host| format!("203.0.113.{host}:443"))
        .collect();
    let _servers: Vec<TcpServer> = addresses
        .iter()
        .map(|at| TcpServer::start_dropping(&scene.ns, at))
        .collect();
    let claude = Program::native(scene.dir(), program::CLAUDE_NATIVE);
    let telltale = scene.telltale().start();
    let before = telltale.metrics();
    let mut flood = scene.start(
        &claude,
        &["burst", &CONNECTS.to_string(), &addresses.join(",")],
    );
    flood.succeed(Duration::from_secs(60));

    let lost = |metrics: &Metrics| -> f64 {
        let reasons = OUTCOME_NAMES.iter().skip(DELIVERED as usize + 2);
        let now: f64 = reasons
            .clone()
            .map(|reason| operations(metrics, "connect4", reason))
            .sum();
        now - reasons
            .map(|reason| operations(&before, "connect4", reason))
            .sum::<f64>()
    };
    let seen = |metrics: &Metrics| {
        metrics
            .sum("telltale_connections_total", &[("tool", "claude-code")])
            .unwrap_or_default()
    };
    let settled = |metrics: &Metrics| seen(metrics) + lost(metrics) >= f64::from(CONNECTS);
    let metrics = telltale.wait_for_metrics("account of every connection", settled);
    assert_eq!(
        seen(&metrics) + lost(&metrics),
        f64::from(CONNECTS),
        "seen, and counted as lost"
    );
    let attempted = |metrics: &Metrics| operations(metrics, "connect4", "attempted");
    assert!(attempted(&metrics) - attempted(&before) >= f64::from(CONNECTS));
    for hook in HOOK_NAMES {
        let remainder = metrics.get("telltale_books_remainder", &[("hook", hook)]);
        assert!(
            remainder.abs() < f64::EPSILON,
            "remainder of {hook} is {remainder}"
        );
    }
}
