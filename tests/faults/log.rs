//! What is done to the event log while it is written.
//!
//! In: a log that is moved, removed, and kept from growing. Out: what happens afterwards is in a
//! new file, or counted; the monitor goes on.

use std::fs;
use std::path::Path;
use std::time::Duration;

use monitor_tests::event::Event;
use monitor_tests::program::{self, Program};
use monitor_tests::scene::Scene;
use monitor_tests::wait;

#[test]
fn moved_and_removed() {
    let scene = Scene::new();
    let claude = Program::native(scene.dir(), program::CLAUDE_NATIVE);
    let telltale = scene.telltale().start();
    let log = scene.dir().join("events.ndjson");
    let started = |pid: u32| {
        wait::until("the start in the log", wait::SOON, || {
            let events = Event::parse_log(&fs::read_to_string(&log).ok()?);
            let mut events = events.iter();
            events.find(|it| it.pid() == Some(pid) && it.action() == "process-started")?;
            Some(())
        });
    };
    started(scene.run(&claude, &["number", "1"]));
    let aside = scene.dir().join("aside");
    fs::rename(&log, &aside).unwrap();
    // It is looked for once a second.
    wait::until("a new file", wait::SOON, || log.exists().then_some(()));
    started(scene.run(&claude, &["number", "2"]));
    fs::remove_file(&log).unwrap();
    wait::until("a new file", wait::SOON, || log.exists().then_some(()));
    started(scene.run(&claude, &["number", "3"]));
    // What was put aside is whole lines.
    assert!(!Event::parse_log(&fs::read_to_string(&aside).unwrap()).is_empty());
    assert!(telltale.get("/-/ready").is_ok_and(|it| it.status == 200));
}

/// The lowest number that a process has no descriptor of, between the short-lived ones.
fn lowest_free(pid: u32) -> usize {
    let now = || {
        (0..)
            .find(|number| !Path::new(&format!("/proc/{pid}/fd/{number}")).is_symlink())
            .unwrap()
    };
    let looks = (0..100).map(|_| {
        std::thread::sleep(Duration::from_millis(10));
        now()
    });
    looks.min().unwrap()
}

/// No descriptor can be opened any more: who scrapes waits, the line does not, and that the
/// monitor cannot look after itself is told.
#[test]
fn no_descriptors_left() {
    let scene = Scene::new();
    let claude = Program::native(scene.dir(), program::CLAUDE_NATIVE);
    let telltale = scene.telltale().start();
    let pid = telltale.process.pid();
    let limit = |number: usize| {
        let pid = pid.to_string();
        let status = std::process::Command::new("prlimit")
            .args(["--pid", &pid, &format!("--nofile={number}:4096")])
            .status();
        assert!(status.unwrap().success());
    };
    limit(lowest_free(pid));
    let number = scene.run(&claude, &["number", "1"]);
    telltale.wait_for("the start, without descriptors", |event| {
        event.pid() == Some(number) && event.action() == "process-started"
    });
    // The canary's patience, a round of checks, and some.
    let deadline = Duration::from_secs(30);
    wait::until("the gap, without descriptors", deadline, || {
        let is_it = |event: &Event| {
            event.text("rule.name") == "coverage-lost"
                && event.0.to_string().contains("canary_missing")
        };
        telltale.events().iter().any(is_it).then_some(())
    });
    limit(1024);
    wait::until("an answer", wait::SOON, || {
        let answer = telltale.get("/-/ready").ok()?;
        (answer.status == 200).then_some(())
    });
}
