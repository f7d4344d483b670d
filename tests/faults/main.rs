//! What is done to the monitor, and what comes of it: the rows of docs/reliability.md.
//!
//! In: a monitor of a scene of its own, and a fault. Out: what was done is told or counted, and the
//! monitor goes on. `cargo xtask test faults` runs these and prints what they measured; kills,
//! restarts and lost hooks are in `kernel survival`, hosts that lack something in `bad`, the
//! service under systemd in `cargo xtask test service`.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "tests report failure by panicking, and these print what they measured"
)]

mod churn;
mod log;
mod maps;
mod receiver;
mod receivers;
mod text;
mod web;

use monitor_tests::metrics::Metrics;

/// Every hook's books balance.
#[track_caller]
fn check_balance(metrics: &Metrics) {
    assert_eq!(metrics.unbalanced(), [""; 0]);
}

/// Operations of all hooks with this outcome.
fn operations(metrics: &Metrics, outcome: &str) -> f64 {
    let outcome = [("outcome", outcome)];
    let sum = metrics.sum("telltale_kernel_operations_total", &outcome);
    sum.unwrap_or_default()
}
