//! What an operator types and asks: commands, flags, signals, HTTP paths, the terminal.
//!
//! In: command lines and requests. Out: exit status, output, responses.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests report failure by panicking, in their helpers too"
)]

use std::process::Command;

use monitor_tests::netns::NetNs;
use monitor_tests::program::{self, Program};
use monitor_tests::running::Running;
use monitor_tests::scene::{Scene, temp_dir};
use monitor_tests::telltale::{free_address, telltale};
use monitor_tests::{binary, http, wait};
use rustix::process::Signal;

/// `telltale ARGS` succeeds; its output holds these words.
#[track_caller]
fn check_output(args: &[&str], words: &[&str]) {
    let dir = temp_dir();
    let ended = telltale(dir.path(), args);
    ended.expect(0, &[]);
    for word in words {
        assert!(ended.stdout.contains(word), "no {word:?} in {ended:#?}");
    }
}

#[test]
fn version_names_the_kernel_object() {
    check_output(&["--version"], &["telltale 0."]);
    let dir = temp_dir();
    let ended = telltale(dir.path(), &["--version"]);
    let is_digest = |word: &str| word.len() == 64 && word.bytes().all(|b| b.is_ascii_hexdigit());
    let words = ended
        .stdout
        .split(|char: char| !char.is_ascii_alphanumeric());
    assert_eq!(
        words.filter(|word| is_digest(word)).count(),
        1,
        "one SHA-256: {ended:#?}"
    );
}

#[test]
fn the_catalog_is_listed() {
    let tools = [
        "claude-code",
        "qoder-cli",
        "codex-cli",
        "gemini-cli",
        "github-copilot-cli",
        "cursor-agent",
    ];
    check_output(&["catalog", "list"], &tools);
}

#[test]
fn a_tool_is_shown() {
    let words = [
        "Claude Code",
        "Anthropic",
        "api.anthropic.com",
        ".local/share/claude/versions",
    ];
    check_output(&["catalog", "show", "claude-code"], &words);
    let dir = temp_dir();
    telltale(dir.path(), &["catalog", "show", "claude-coed"]).expect(2, &["claude-coed"]);
}

#[test]
fn the_doctor_finds_this_host_fit() {
    binary::require_root();
    check_output(&["doctor"], &["CAP_BPF", "BTF", "cgroup"]);
}

#[test]
fn help_is_there_for_every_command() {
    for command in ["run", "replay", "check", "doctor", "catalog"] {
        check_output(&[command, "--help"], &["Usage: telltale"]);
    }
}

/// With no flag at all it works, and listens where the documentation says.
#[test]
fn run_needs_no_flag() {
    let (ns, dir) = (NetNs::new(), temp_dir());
    let mut command = ns.command(&binary::telltale().display().to_string());
    command.arg("run");
    let mut process = Running::start("telltale", dir.path(), command);
    let address = "127.0.0.1:10142".parse().unwrap();
    wait::until("the default address", wait::START, || {
        assert!(process.status().is_none(), "{}", process.describe());
        let ready = ns.enter(|| http::get(address, "/-/ready"));
        ready
            .is_ok_and(|response| response.status == 200)
            .then_some(())
    });
    process.terminate();
    process.succeed(wait::SOON);
}

#[test]
fn http_paths() {
    let scene = Scene::new();
    let telltale = scene.telltale().start();
    let status = |path| telltale.get(path).unwrap().status;
    assert_eq!(
        ["/", "/metrics", "/-/healthy", "/-/ready"].map(status),
        [200; 4]
    );
    assert_eq!(
        ["/none", "/metrics/none", "/../etc/passwd"].map(status),
        [404; 3]
    );
    assert!(telltale.get("/").unwrap().body.contains("/metrics"));
    let scrape = telltale.get("/metrics").unwrap();
    let head = scrape.head.to_ascii_lowercase();
    assert!(
        head.contains("content-type: text/plain; version=0.0.4"),
        "{head}"
    );
}

#[test]
fn signals_stop_it_cleanly() {
    for signal in [Signal::TERM, Signal::INT] {
        let scene = Scene::new();
        let mut telltale = scene.telltale().start();
        telltale.process.signal(signal);
        telltale.process.succeed(wait::SOON);
        assert!(
            http::get(telltale.address, "/-/ready").is_err(),
            "nobody listens any more"
        );
    }
}

/// What happened right before the stop is in the log.
#[test]
fn a_stop_drains() {
    let scene = Scene::new();
    let _servers = scene.serve_https();
    let claude = Program::native(scene.dir(), program::CLAUDE_NATIVE);
    let telltale = scene.telltale().start();
    let pid = scene.run(&claude, &["connect", "203.0.113.10:443"]);
    let events = telltale.stop();
    let opened = |action| {
        events
            .iter()
            .any(|e| e.pid() == Some(pid) && e.action() == action)
    };
    assert!(opened("connection-opened"));
}

/// The escape character: only a terminal may get it.
const ESCAPE: char = '\u{1b}';

/// A new (process, endpoint) is one line: plain in a file, coloured on a terminal.
#[test]
fn a_line_for_people() {
    binary::require("script", "bsdutils");
    let scene = Scene::new();
    let _servers = scene.serve_https();
    scene.dns.answer("paste.example", &["203.0.113.10"]);
    let claude = Program::native(scene.dir(), program::CLAUDE_NATIVE);
    let run = format!("{} run --web.listen-address", binary::telltale().display());
    let start = |label: &str, terminal: bool| {
        let address = free_address();
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM"]);
        if terminal {
            command.args([
                "script",
                "-qefc",
                &format!("exec {run} {address}"),
                "/dev/null",
            ]);
        } else {
            command.args(["sh", "-c", &format!("exec {run} {address}")]);
        }
        command.env("TERM", "xterm").env_remove("NO_COLOR");
        let mut process = Running::start(label, scene.dir(), command);
        wait::until("telltale is ready", wait::START, || {
            assert!(process.status().is_none(), "{}", process.describe());
            http::get(address, "/-/ready")
                .is_ok_and(|response| response.status == 200)
                .then_some(())
        });
        process
    };
    let (mut terminal, mut file) = (start("terminal", true), start("file", false));
    scene.run(&claude, &["connect", "paste.example:443"]);
    terminal.wait_for_output("paste.example");
    assert!(
        terminal.stdout().contains(ESCAPE),
        "{}",
        terminal.describe()
    );
    for process in [&mut terminal, &mut file] {
        process.terminate();
        process.end(wait::SOON);
    }
    assert!(!file.stdout().contains(ESCAPE), "{}", file.describe());
    assert!(!file.stderr().contains(ESCAPE), "{}", file.describe());
}
