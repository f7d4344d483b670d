//! Processes that live for a few milliseconds are identified all the same.
//!
//! In: 300 processes, one after the other. Out: 300 executables and 300 argvs.

use std::collections::BTreeSet;
use std::time::Duration;

use monitor_tests::event::Event;
use monitor_tests::program::{self, Program};
use monitor_tests::scene::Scene;

const PROCESSES: usize = 300;

#[test]
fn each_of_them_has_its_executable_and_argv() {
    let scene = Scene::alone();
    let _servers = scene.serve_https();
    let claude = Program::native(scene.dir(), program::CLAUDE_NATIVE);
    let child = Program::native(scene.dir(), "bin/short");
    let child = child.exe.to_str().unwrap();
    let telltale = scene.telltale().start();
    // Each is given a number, which it does not use.
    let count = PROCESSES.to_string();
    let command = [child, "connect", "203.0.113.10:443", "number"];
    let mut spawner = scene.start(&claude, &[&["each", &count], &command[..]].concat());
    spawner.succeed(Duration::from_secs(60));
    let expect: BTreeSet<Vec<String>> = (0..PROCESSES)
        .map(|number| {
            command
                .iter()
                .map(ToString::to_string)
                .chain([number.to_string()])
                .collect()
        })
        .collect();
    let events = telltale.stop();
    for action in ["process-started", "connection-opened"] {
        let of_child =
            |event: &&Event| event.action() == action && event.text("process.executable") == child;
        let argvs: BTreeSet<Vec<String>> = events
            .iter()
            .filter(of_child)
            .map(|event| {
                event
                    .texts("process.args")
                    .into_iter()
                    .map(str::to_owned)
                    .collect()
            })
            .collect();
        let missing: Vec<_> = expect.difference(&argvs).take(3).collect();
        assert_eq!(
            argvs.len(),
            PROCESSES,
            "{action}; missing, for example: {missing:?}"
        );
        assert_eq!(argvs, expect, "{action}");
    }
}
