//! What an operator types and asks: commands, flags, signals, HTTP paths, the terminal.
//!
//! In: command lines and requests. Out: exit status, output, responses.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests report failure by panicking, in their helpers too"
)]

use std::process::Command;

use monitor_tests::metrics::Metrics;
use monitor_tests::netns::NetNs;
use monitor_tests::program::{self, OwnTool, Program};
use monitor_tests::running::Running;
use monitor_tests::scene::{Scene, temp_dir};
use monitor_tests::telltale::{free_address, telltale, write_config};
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

/// SHA-256 of the kernel object that was built in, as coreutils counts it.
fn object_digest() -> String {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let object = std::env::var("TELLTALE_EBPF_OBJECT");
    let object = object.unwrap_or_else(|_| "monitor-ebpf/bpf/telltale.bpf.o".to_owned());
    let output = Command::new("sha256sum")
        .arg(object)
        .current_dir(root)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.split_whitespace().next().unwrap().to_owned()
}

#[test]
fn version_names_the_kernel_object() {
    let digest = format!("sha256:{}", object_digest());
    check_output(&["--version"], &["telltale 0.", &digest]);
    check_output(&["doctor"], &[&digest]);
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
        ["/", "/metrics", "/status", "/-/healthy", "/-/ready"].map(status),
        [200; 5]
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

/// A monitor whose standard output is a terminal (or a file), for a person to read.
fn watched_by_a_person(
    scene: &Scene,
    label: &str,
    terminal: bool,
    flags: &str,
    environment: &[(&str, &str)],
) -> Running {
    let (telltale, address) = (binary::telltale().display(), free_address());
    let run = format!("exec {telltale} run --web.listen-address {address} {flags}");
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM"]);
    if terminal {
        command.args(["script", "-qefc", &run, "/dev/null"]);
    } else {
        command.args(["sh", "-c", &run]);
    }
    command.env("TERM", "xterm").env_remove("NO_COLOR");
    command.envs(environment.iter().copied());
    let mut process = Running::start(label, scene.dir(), command);
    wait::until("telltale is ready", wait::START, || {
        assert!(process.status().is_none(), "{}", process.describe());
        http::get(address, "/-/ready")
            .is_ok_and(|response| response.status == 200)
            .then_some(())
    });
    process
}

/// A new (process, endpoint) is one line: in colour on a terminal, plain if the person wants no
/// colour, and not at all where nobody reads it.
#[test]
fn a_line_for_people() {
    binary::require("script", "bsdutils");
    let scene = Scene::new();
    let _servers = scene.serve_https();
    scene.dns.answer("paste.example", &["203.0.113.10"]);
    let claude = Program::native(scene.dir(), program::CLAUDE_NATIVE);
    let start = |label: &str, terminal, flags: &str, environment: &[(&str, &str)]| {
        watched_by_a_person(&scene, label, terminal, flags, environment)
    };
    let mut colored = start("colored", true, "", &[]);
    let mut plain = start("plain", true, "", &[("NO_COLOR", "1")]);
    let mut quiet = start("quiet", true, "--quiet", &[]);
    let mut file = start("file", false, "", &[]);
    let pid = scene.run(
        &claude,
        &[
            "connect",
            "paste.example:443",
            "connect",
            "paste.example:443",
        ],
    );
    let to_paste = |process: &Running| -> Vec<String> {
        let of_process = |line: &&str| line.contains(&pid.to_string()) && line.contains("paste");
        let text = process.stdout();
        text.lines().filter(of_process).map(str::to_owned).collect()
    };
    for process in [&mut colored, &mut plain] {
        wait::until("the line", wait::SOON, || {
            (!to_paste(process).is_empty()).then_some(())
        });
    }
    for process in [&mut colored, &mut plain, &mut quiet, &mut file] {
        process.terminate();
        process.end(wait::SOON);
    }
    for process in [&colored, &plain] {
        let lines = to_paste(process);
        assert_eq!(lines.len(), 1, "the second time is not new: {lines:#?}");
        let words: Vec<&str> = lines[0].split_whitespace().collect();
        let pid = pid.to_string();
        let expect = [
            "connect",
            "claude-code",
            "2.1.328",
            "main",
            &pid,
            "paste.example:443",
            "(203.0.113.10)",
            "tcp",
        ];
        assert_eq!(words[1..9], expect, "{lines:#?}");
        assert!(words[9].contains("undeclared"), "{lines:#?}");
    }
    assert!(
        to_paste(&colored)[0].contains(ESCAPE),
        "{}",
        colored.describe()
    );
    assert!(!plain.stdout().contains(ESCAPE), "{}", plain.describe());
    assert!(!quiet.stdout().contains("paste"), "{}", quiet.describe());
    assert_eq!(file.stdout(), "", "events belong there, if anything");
    assert!(!file.stderr().contains(ESCAPE), "{}", file.describe());
}

/// A catalog of one's own is laid over the built-in one.
#[test]
fn a_catalog_of_ones_own() {
    let dir = temp_dir();
    let own = OwnTool::lay_out(dir.path());
    let folder = OwnTool::catalog(dir.path()).display().to_string();
    let listed = telltale(dir.path(), &["catalog", "list", "--catalog", &folder]);
    listed.expect(0, &[]);
    for id in [own.id.as_str(), "claude-code", "codex-cli"] {
        assert!(listed.stdout.contains(id), "no {id} in {listed:#?}");
    }
    let shown = ["catalog", "show", &own.id, "--catalog", &folder];
    check_output(&shown, &["Own Tool", &own.api]);
    let banned = ["check", "--catalog", &folder, "--banned", &own.id];
    check_output(&banned, &["ok: ", "2 rules"]);
    let without = telltale(dir.path(), &["check", "--banned", &own.id]);
    without.expect(2, &[&own.id, "not in the catalog"]);
}

/// What the help of replay shows works: a candidate policy, and only the metrics.
#[test]
fn a_replay_under_a_candidate_policy() {
    let case = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/replay/cases/claude-native-expected/recording"
    );
    let dir = temp_dir();
    let banned = "[policy]\nbanned = [\"claude-code\"]\n";
    let config = write_config(dir.path(), banned).display().to_string();
    let args = ["replay", case, "--config", &config, "--metrics", "-"];
    let ended = telltale(dir.path(), &args);
    ended.expect(0, &[]);
    let metrics = Metrics::parse(&ended.stdout);
    let denied = [
        ("tool", "claude-code"),
        ("verdict", "denied"),
        ("transport", "tcp"),
    ];
    assert_eq!(metrics.get("telltale_connections_total", &denied), 1.0);
    // Without the policy, and for a person.
    let config = write_config(dir.path(), "").display().to_string();
    check_output(
        &["replay", case, "--config", &config],
        &[
            "connect  claude-code 2.1.328",
            "api.anthropic.com:443",
            "expected",
        ],
    );
}
