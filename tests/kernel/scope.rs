//! What the event log covers: the tools' flows, or everyone's.
//!
//! In: a tool and another program, each connecting. Out: whose connections are in the log.

use monitor_tests::event::Event;
use monitor_tests::program::{self, Program};
use monitor_tests::scene::Scene;

/// Which of (tool, other program) have their connection in the log.
#[track_caller]
fn check(scope: Option<&str>, expect: (bool, bool)) {
    let scene = Scene::new();
    let _servers = scene.serve_https();
    let claude = Program::native(scene.dir(), program::CLAUDE_NATIVE);
    let other = Program::native(scene.dir(), "bin/other");
    let mut options = scene.telltale();
    if let Some(scope) = scope {
        options = options.scope(scope);
    }
    let telltale = options.start();
    // The other one first: once the tool is in the log, it would be too.
    let other = scene.run(&other, &["connect", "203.0.113.10:443"]);
    let claude = scene.run(&claude, &["connect", "203.0.113.10:443"]);
    telltale.wait_for_action(claude, "connection-opened");
    let events = telltale.stop();
    let logged = |pid: u32| {
        let opened =
            |event: &Event| event.action() == "connection-opened" && event.pid() == Some(pid);
        events.iter().any(opened)
    };
    assert_eq!((logged(claude), logged(other)), expect);
}

#[test]
fn tools_is_the_default() {
    check(None, (true, false));
}

#[test]
fn tools() {
    check(Some("tools"), (true, false));
}

#[test]
fn all() {
    check(Some("all"), (true, true));
}

/// The life of a tool's process, from beginning to end, in the order it happened.
#[test]
fn a_process_from_start_to_end() {
    let scene = Scene::new();
    let _servers = scene.serve_https();
    let claude = Program::native(scene.dir(), program::CLAUDE_NATIVE);
    let telltale = scene.telltale().start();
    let pid = scene.run(&claude, &["connect", "203.0.113.10:443"]);
    telltale.wait_for_action(pid, "process-ended");
    let events = telltale.stop();
    let of_process = events.iter().filter(|event| event.pid() == Some(pid));
    let actions: Vec<&str> = of_process
        .map(Event::action)
        .filter(|action| *action != "alert")
        .collect();
    assert_eq!(
        actions,
        [
            "process-started",
            "connection-opened",
            "connection-closed",
            "process-ended"
        ]
    );
}
