//! Processes that were there before the monitor are known to it all the same.
//!
//! In: tools that start first and connect later. Out: their connections, attributed.

use std::path::Path;

use monitor_tests::program::{self, Program};
use monitor_tests::scene::Scene;

#[track_caller]
fn check(lay_out: impl Fn(&Path) -> Program, tool: &str) {
    let scene = Scene::new();
    let _servers = scene.serve_https();
    let program = lay_out(scene.dir());
    let words = ["wait", "connect", "203.0.113.10:443"];
    let mut process = scene.start(&program, &words);
    process.wait_for_output("waiting");
    let telltale = scene.telltale().start();
    process.say("go on");
    let opened = telltale.wait_for_action(process.pid(), "connection-opened");
    opened.expect(&[
        ("process.executable", &program.exe.display().to_string()),
        ("telltale.tool.id", tool),
        ("telltale.tool.role", "main"),
    ]);
    assert_eq!(opened.texts("process.args"), program.argv(&words));
}

#[test]
fn a_native_tool() {
    check(
        |home| Program::native(home, program::CLAUDE_NATIVE),
        "claude-code",
    );
}

#[test]
fn a_script() {
    check(
        |home| Program::script(home, program::GEMINI_SCRIPT),
        "gemini-cli",
    );
}

/// The child of a tool, both older than the monitor.
#[test]
fn a_child() {
    let scene = Scene::new();
    let _servers = scene.serve_https();
    let claude = Program::native(scene.dir(), program::CLAUDE_NATIVE);
    let child = Program::native(scene.dir(), "bin/child")
        .exe
        .display()
        .to_string();
    let words = ["run", &child, "wait", "connect", "203.0.113.10:443"];
    let mut process = scene.start(&claude, &words);
    process.wait_for_output("waiting");
    let telltale = scene.telltale().start();
    process.say("go on");
    let opened = telltale.wait_for("connection of the child", |event| {
        event.action() == "connection-opened" && event.text("process.executable") == child
    });
    opened.expect(&[
        ("telltale.tool.id", "claude-code"),
        ("telltale.tool.role", "other-child"),
    ]);
}
