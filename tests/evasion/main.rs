//! Every known way out of a Linux host, and what Telltale says of each.
//!
//! In: names of cases; without any, all. Out: on standard output a line per case, as
//! `RESULT<tab>case<tab>what<tab>owed<tab>got<tab>tracer<tab>notes`, from which
//! `cargo xtask evasion` makes the tables; exit code 1 if Telltale owes one anything.
//!
//! What really happened is what the other end of the wire saw. Telltale's verdict comes from its
//! event log and its metrics alone. A case that this kernel cannot do is `unsupported`, and says
//! why; a case of which nothing leaves the host shows nothing, and fails.
//!
//! Needs root, cgroup v2, the kernel's BTF and iproute2; uses nftables and bpftrace where they are.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test reports failure by panicking, and this one reports to a caller as well"
)]

mod cases;
mod log;
mod network;
mod peer;
mod report;
mod score;
mod special;
mod stage;
mod suite;
mod tracer;

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    // `cargo test` passes options of its own harness.
    let wanted: Vec<String> = args
        .into_iter()
        .filter(|arg| !arg.starts_with('-'))
        .collect();
    let report = suite::run(&wanted);
    report.print();
    if report.passes() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
