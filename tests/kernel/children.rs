//! What a tool starts belongs to the tool, with a role of its own.
//!
//! In: tools that start shells, git, package managers, helpers. Out: tool id, role, evidence.

use monitor_tests::event::Event;
use monitor_tests::program::{self, Program};
use monitor_tests::scene::Scene;
use monitor_tests::telltale::Telltale;

/// The one connection that a child of the scene's tool opens to a port of its own.
#[track_caller]
fn opened_to(telltale: &Telltale<'_>, port: u64) -> Event {
    let matches = |event: &Event| {
        event.action() == "connection-opened"
            && event.get("destination.port").as_u64() == Some(port)
    };
    telltale.wait_for(&format!("connection to port {port}"), matches)
}

/// Claude Code runs `command`, which connects; what is said of the process that connected?
#[track_caller]
fn check(command: impl Fn(&Scene) -> Vec<String>, role: &str) -> Event {
    // A port per test, as tests run side by side and a child's pid is not known.
    static PORT: std::sync::atomic::AtomicU16 = std::sync::atomic::AtomicU16::new(20_000);
    let port = PORT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let scene = Scene::new();
    let _server = scene.serve(&format!("203.0.113.10:{port}"));
    let claude = Program::native(scene.dir(), program::CLAUDE_NATIVE);
    let telltale = scene.telltale().start();
    let command = command(&scene)
        .iter()
        .map(|w| w.replace("PORT", &port.to_string()))
        .collect::<Vec<_>>();
    let words: Vec<&str> = std::iter::once("run")
        .chain(command.iter().map(String::as_str))
        .collect();
    let pid = scene.run(&claude, &words);
    let opened = opened_to(&telltale, port.into());
    opened.expect(&[
        ("telltale.tool.id", "claude-code"),
        ("telltale.tool.role", role),
    ]);
    assert_ne!(opened.pid(), Some(pid), "the child connected, not the tool");
    let evidence = opened.get("telltale.attribution.evidence").to_string();
    assert!(evidence.contains("lineage"), "{evidence}");
    opened
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

fn native(scene: &Scene, path: &str) -> String {
    Program::native(scene.dir(), path).exe.display().to_string()
}

#[test]
fn a_program_below_it() {
    check(
        |scene| {
            words(&[
                &native(scene, "bin/fetcher"),
                "connect",
                "203.0.113.10:PORT",
            ])
        },
        "other-child",
    );
}

#[test]
fn curl_below_a_shell_below_it() {
    let script = "curl --silent --max-time 5 http://203.0.113.10:PORT/; exit 0";
    let opened = check(|_| words(&["sh", "-c", script]), "other-child");
    assert!(opened.text("process.executable").ends_with("/curl"));
}

/// A subshell does not execute anything: its image is the shell that it was forked from.
#[test]
fn a_fork_of_a_shell_below_it() {
    let script = "(exec 3<>/dev/tcp/203.0.113.10/PORT); exit 0";
    let opened = check(|_| words(&["bash", "-c", script]), "shell-child");
    assert!(opened.text("process.executable").ends_with("/bash"));
}

#[test]
fn git_below_it() {
    check(
        |scene| words(&[&native(scene, "bin/git"), "connect", "203.0.113.10:PORT"]),
        "git",
    );
}

#[test]
fn a_package_manager_below_it() {
    let npm = |scene: &Scene| {
        let npm = Program::script(scene.dir(), "lib/node_modules/npm/bin/npm-cli.js");
        npm.argv(&["connect", "203.0.113.10:PORT"])
    };
    check(npm, "package-manager");
}

/// The tool has ended, the child's parent is the reaper; it is the tool's child all the same.
#[test]
fn a_child_that_outlives_it() {
    let detached = |scene: &Scene| {
        let late = format!(
            "sleep 1; {} connect 203.0.113.10:PORT",
            native(scene, "bin/fetcher")
        );
        words(&[
            "sh",
            "-c",
            &format!("setsid sh -c '{late}' > /dev/null 2>&1 &"),
        ])
    };
    check(detached, "other-child");
}

/// Qoder CLI unpacks a native helper into the home directory and starts it.
#[test]
fn the_helper_of_qoder_cli() {
    let scene = Scene::new();
    let _server = scene.serve("203.0.113.10:443");
    let qoder = Program::script(scene.dir(), program::QODER_SCRIPT);
    let helper = native(&scene, program::QODER_HELPER);
    let telltale = scene.telltale().start();
    scene.run(&qoder, &["run", &helper, "connect", "203.0.113.10:443"]);
    let of_helper = |event: &Event| {
        event.action() == "connection-opened" && event.text("process.executable") == helper
    };
    let opened = telltale.wait_for("connection of the helper", of_helper);
    opened.expect(&[
        ("telltale.tool.id", "qoder-cli"),
        ("telltale.tool.role", "helper"),
    ]);
}

/// The same program without a tool above it is nobody's child.
#[test]
fn not_a_child_of_a_tool() {
    let scene = Scene::new();
    let _servers = scene.serve_https();
    let fetcher = Program::native(scene.dir(), "bin/fetcher");
    let telltale = scene.telltale().scope("all").start();
    let pid = scene.run(&fetcher, &["connect", "203.0.113.10:443"]);
    let opened = telltale.wait_for_action(pid, "connection-opened");
    assert!(opened.get("telltale.tool.id").is_null());
    opened.expect(&[("telltale.verdict", "not-judged")]);
}
