//! A process is its pid and its start time: a pid that is used again is another process.
//!
//! In: reused pids, replaced images, two monitors. Out: entity ids and attributions.

use std::fs;

use monitor_tests::program::{self, Program};
use monitor_tests::running::Running;
use monitor_tests::scene::{Scene, temp_dir};
use monitor_tests::telltale::Options;

/// Attempts to get a given pid; other programs of the host may take it first.
const ATTEMPTS: u32 = 50;

/// Starts a program until it gets this pid.
fn start_with_pid(scene: &Scene, program: &Program, words: &[&str], pid: u32) -> Running {
    for _ in 0..ATTEMPTS {
        let last = (pid - 1).to_string();
        fs::write("/proc/sys/kernel/ns_last_pid", last).unwrap();
        let process = scene.start(program, words);
        if process.pid() == pid {
            return process;
        }
    }
    panic!("pid {pid} was not to be had");
}

#[test]
fn a_reused_pid_is_another_process() {
    let scene = Scene::alone();
    let _servers = scene.serve_https();
    let claude = Program::native(scene.dir(), program::CLAUDE_NATIVE);
    let other = Program::native(scene.dir(), "bin/other");
    let telltale = scene.telltale().scope("all").start();
    let pid = scene.run(&claude, &["connect", "203.0.113.10:443"]);
    let first = telltale.wait_for_action(pid, "connection-opened");
    first.expect(&[("telltale.tool.id", "claude-code")]);
    let mut second = start_with_pid(&scene, &other, &["connect", "[2001:db8::10]:443"], pid);
    second.succeed(monitor_tests::wait::SOON);
    let second = telltale.wait_for("connection of the second process", |event| {
        event.pid() == Some(pid) && event.text("destination.ip") == "2001:db8::10"
    });
    assert!(second.get("telltale.tool.id").is_null(), "{second:?}");
    assert_eq!(
        second.text("process.executable"),
        other.exe.display().to_string()
    );
    assert_ne!(
        first.get("process.entity_id"),
        second.get("process.entity_id")
    );
}

/// One pid, two images: each flow names the image that made it.
#[test]
fn an_image_that_replaces_another() {
    let scene = Scene::new();
    let _servers = scene.serve_https();
    let other = Program::native(scene.dir(), "bin/other")
        .exe
        .display()
        .to_string();
    let claude = Program::native(scene.dir(), program::CLAUDE_NATIVE)
        .exe
        .display()
        .to_string();
    let script = format!(
        "exec 3<>/dev/tcp/203.0.113.10/443; exec {claude} run {other} connect [2001:db8::10]:443"
    );
    let shell = Program {
        exe: "/bin/bash".into(),
        script: None,
    };
    let telltale = scene.telltale().scope("all").start();
    let pid = scene.run(&shell, &["-c", &script]);
    let of_shell = telltale.wait_for_action(pid, "connection-opened");
    assert!(
        of_shell.text("process.executable").ends_with("/bash"),
        "{of_shell:?}"
    );
    assert!(of_shell.get("telltale.tool.id").is_null(), "{of_shell:?}");
    let started = telltale.wait_for("start of the tool", |event| {
        event.pid() == Some(pid) && event.text("process.executable") == claude
    });
    started.expect(&[("telltale.tool.id", "claude-code")]);
    let of_child = telltale.wait_for("connection of the child", |event| {
        event.text("process.executable") == other && event.action() == "connection-opened"
    });
    of_child.expect(&[
        ("telltale.tool.id", "claude-code"),
        ("process.parent.pid", &pid.to_string()),
    ]);
}

/// Entity ids can be joined across monitors, restarts and logs.
#[test]
fn two_monitors_agree_on_the_entity_id() {
    let scene = Scene::new();
    let _servers = scene.serve_https();
    let second_dir = temp_dir();
    let claude = Program::native(scene.dir(), program::CLAUDE_NATIVE);
    let first = scene.telltale().start();
    let second = Options::new(second_dir.path()).start();
    let pid = scene.run(&claude, &["connect", "203.0.113.10:443"]);
    let ids = [&first, &second].map(|monitor| {
        let opened = monitor.wait_for_action(pid, "connection-opened");
        opened.text("process.entity_id").to_owned()
    });
    assert!(!ids[0].is_empty());
    assert_eq!(ids[0], ids[1]);
}
