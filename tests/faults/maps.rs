//! The kernel's flow map, filled.
//!
//! In: processes that stay, each with as many destinations as one is allowed; nothing is sent to
//! them. Out: what finds no room is told one by one and counted, a tool among it, and said to be a
//! gap; when they are idle for a while there is room again, though their processes live.

use std::process::Command;
use std::time::{Duration, Instant};

use monitor_common::limits::{BUDGET_BURST, FLOWS_MAX};
use monitor_tests::event::Event;
use monitor_tests::metrics::Metrics;
use monitor_tests::program::{self, Program};
use monitor_tests::running::Running;
use monitor_tests::scene::{SERVER_V4, Scene};
use monitor_tests::wait;

use crate::{check_balance, operations};

/// Destinations of a process: below what one is allowed at once.
const EACH: u32 = 8_000;
/// Some thousand connections fewer than these have room.
const PROCESSES: u32 = FLOWS_MAX / EACH + 1;
/// Filling it, on a busy host; and until it is found empty again.
const LONG: Duration = Duration::from_secs(240);

/// Contacts that the flow map had no room for.
fn refused(metrics: &Metrics) -> f64 {
    metrics.get("telltale_kernel_gap_total", &[("reason", "flows_full")])
}

#[test]
fn flow_map() {
    const _: () = assert!(EACH < BUDGET_BURST);
    let scene = Scene::alone();
    let _servers = scene.serve_https();
    let claude = Program::native(scene.dir(), program::CLAUDE_NATIVE);
    let telltale = scene.telltale().start();
    let address = format!("{SERVER_V4}:443");

    let script = "exec 4<&0
        for p in $(seq $1); do (
            for i in $(seq $2); do exec 3<> /dev/udp/127.$((100 + p)).$((i / 250)).$((i % 250 + 1))/1078 3>&-; done
            echo done; read -r -u 4
        ) & done; wait";
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "bash", "-c", script, "fill"]);
    command.args([PROCESSES.to_string(), EACH.to_string()]);
    let start = Instant::now();
    let mut fill = Running::start("fill", scene.dir(), command);
    wait::until("as many contacts as were wanted", LONG, || {
        (fill.stdout().lines().count() >= PROCESSES as usize).then_some(())
    });
    let made = start.elapsed();

    // What it has not looked at yet comes first, and may have filled a ring.
    let opened = |event: &Event| event.action() == "connection-opened";
    let is_told = || {
        let number = scene.run(&claude, &["connect", &address]);
        wait::try_until(wait::SOON, || {
            let mut events = telltale.events().into_iter();
            events.find(|event| opened(event) && event.pid() == Some(number))
        })
    };
    wait::until("a tool's connection", LONG, is_told);
    telltale.wait_for("the alert", |event| {
        event.text("rule.name") == "coverage-lost" && event.0.to_string().contains("flows_full")
    });
    let full = telltale.metrics();
    assert!(refused(&full) > 0.0);
    assert_eq!(full.get("telltale_coverage_complete", &[]), 0.0);
    check_balance(&full);

    let start = Instant::now();
    let evicted = || {
        telltale
            .metrics()
            .get("telltale_kernel_flows_evicted_total", &[])
    };
    wait::until("room again", LONG, || {
        let before = refused(&telltale.metrics());
        is_told()?;
        (evicted() > 0.0 && refused(&telltale.metrics()) <= before).then_some(())
    });
    let idle = start.elapsed();
    check_balance(&telltale.metrics());
    for _ in 0..PROCESSES {
        fill.say("end");
    }
    fill.succeed(wait::SOON);
    println!(
        "flow map: {} contacts of {PROCESSES} processes in {made:.1?}, {FLOWS_MAX} have room: {} \
         found none, {} were in a full ring; {} connections told; {} taken out, room again after {idle:.1?}",
        PROCESSES * EACH,
        refused(&full),
        operations(&full, "ring_full"),
        telltale.events().into_iter().filter(opened).count(),
        evicted(),
    );
}
