//! What an operator types and asks: commands, flags, signals, HTTP paths, the terminal.
//!
//! In: command lines and requests. Out: exit status, output, responses.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests report failure by panicking, in their helpers too"
)]

mod documents;
mod fleet;

use std::fs;
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

/// A host, an address and a command line, each with what the catalog makes of it; status 1 if nothing.
#[test]
fn the_catalog_is_asked() {
    check_output(
        &["catalog", "match", "api.openai.com"],
        &["AI of OpenAI", "expected of codex-cli"],
    );
    let gemini = [
        "catalog",
        "match",
        "/usr/bin/node",
        "-r",
        "x",
        "/usr/bin/gemini",
    ];
    check_output(&gemini, &["Gemini CLI", "never towards an allowance"]);
    let dir = temp_dir();
    let unknown = telltale(dir.path(), &["catalog", "match", "paste.example"]);
    unknown.expect(1, &[]);
    assert_eq!(unknown.stdout, "the catalog does not know it\n");
}

#[test]
fn catalog_files_are_checked() {
    let dir = temp_dir();
    let own = OwnTool::lay_out(dir.path());
    let folder = OwnTool::catalog(dir.path());
    let file = folder.join(format!("tools/{}.toml", own.id));
    let lint = [
        "catalog",
        "lint",
        "--catalog",
        &folder.display().to_string(),
    ];
    check_output(&lint, &["ok: 56 tools, 115 services"]);
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("2026-11-20", "2016-11-20")).unwrap();
    let old = telltale(dir.path(), &lint);
    old.expect(1, &[]);
    let remark = ":8:8: date: 2016-11-20 is more than a year ago";
    assert!(old.stdout.contains(remark), "{old:#?}");
    fs::write(&file, text.replace("XX", "ZZ")).unwrap();
    telltale(dir.path(), &lint).expect(2, &["jurisdiction: `ZZ` is no ISO 3166"]);
}

#[test]
fn the_doctor_finds_this_host_fit() {
    binary::require_root();
    check_output(&["doctor"], &["CAP_BPF", "BTF", "cgroup"]);
}

#[test]
fn help_is_there_for_every_command() {
    for command in ["run", "replay", "check", "doctor", "catalog", "verify"] {
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

/// A log with a chain is proven, and what was altered in it is found.
#[test]
fn a_log_with_a_chain() {
    let case = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/replay/cases/claude-native-expected/recording"
    );
    let dir = temp_dir();
    let log = dir.path().join("events.ndjson");
    let log_text = log.display().to_string();
    for format in ["ecs", "ocsf"] {
        let sections = format!("[events]\nchain = \"on\"\nformat = \"{format}\"\n");
        let config = write_config(dir.path(), &sections).display().to_string();
        let args = ["replay", case, "--config", &config, "--events", &log_text];
        telltale(dir.path(), &args).expect(0, &[]);
    }
    check_output(
        &["verify", &log_text],
        &["ok: ", ", in 1 files; the last hash is "],
    );
    let text = fs::read_to_string(&log).unwrap();
    assert!(text.contains("\"class_uid\":4001"), "{text}");
    let altered = text.replacen("api.anthropic.com", "api.anthropic.org", 1);
    fs::write(&log, altered).unwrap();
    let ended = telltale(dir.path(), &["verify", &log_text]);
    assert_eq!(ended.status.code(), Some(1));
    assert!(
        ended
            .stdout
            .contains("of the chain is not what was written"),
        "{}",
        ended.stdout
    );
    fs::write(&log, "{}\n").unwrap();
    telltale(dir.path(), &["verify", &log_text]).expect(2, &["no line has a seal", "events.chain"]);
}

/// What another policy would have said of a recording, and by the exit status whether anything.
#[test]
fn a_replay_against_another_policy() {
    let case = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/replay/cases/claude-native-expected/recording"
    );
    let dir = temp_dir();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let old = file("old.toml", "# Nothing is forbidden.\n");
    let new = file(
        "new.toml",
        "[[pack]]\nname = \"ban-and-replace\"\nbanned = [\"claude-code\"]\n",
    );
    let config = write_config(dir.path(), "").display().to_string();
    let args = [
        "replay",
        case,
        "--config",
        &config,
        "--policy",
        &new,
        "--against",
        &old,
    ];
    let ended = telltale(dir.path(), &args);
    ended.expect(1, &[]);
    let change = "1 x claude-code (main) to api.anthropic.com: expected by manifest, \
                  now denied by banned-tool (deny)\n";
    assert!(ended.stdout.contains(change), "{ended:#?}");
    let args = ["replay", case, "--policy", &old, "--against", &old];
    let ended = telltale(dir.path(), &args);
    ended.expect(0, &[]);
    assert!(ended.stdout.starts_with("0 of "), "{ended:#?}");
}

/// A policy that can be used, and that its author cannot have meant.
#[test]
fn a_check_of_an_odd_policy() {
    let dir = temp_dir();
    let path = dir.path().join("policy.toml");
    let rules = "[[rule]]\nid = \"all\"\naction = \"deny\"\ntool = [\"*\"]\n\
                 [[rule]]\nid = \"one\"\naction = \"deny\"\ntool = [\"claude-code\"]\n";
    std::fs::write(&path, rules).unwrap();
    let file = path.display().to_string();
    let ended = telltale(dir.path(), &["check", "--policy", &file]);
    ended.expect(1, &[]);
    let odd = format!("{file}:5:1: rule `one` never decides");
    assert!(ended.stdout.contains(&odd), "{ended:#?}");
}

/// A golden recording, and the event that says of Claude Code's connection to its API.
const CLAUDE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/replay/cases/claude-native-expected/recording"
);

/// From a recording and from an event log, by pid and by event: who, why, and each rule.
#[test]
fn an_explanation() {
    let dir = temp_dir();
    let policy = dir.path().join("policy.toml");
    let rules = "[[rule]]\nid = \"others\"\naction = \"deny\"\ntool = [\"codex-cli\"]\n\
                 [[pack]]\nname = \"data-sovereignty\"\njurisdictions = [\"CN\"]\n";
    std::fs::write(&policy, rules).unwrap();
    let policy = policy.display().to_string();
    let log = dir.path().join("events.ndjson").display().to_string();
    let config = write_config(dir.path(), "").display().to_string();
    let args = ["replay", CLAUDE, "--config", &config, "--events", &log];
    telltale(dir.path(), &args).expect(0, &[]);
    let events = monitor_tests::event::Event::parse_log(&std::fs::read_to_string(&log).unwrap());
    let opened = events.iter().find(|event| {
        event.action() == "connection-opened"
            && event.text("destination.domain") == "api.anthropic.com"
    });
    let opened = opened.unwrap();
    let (id, pid) = (opened.text("event.id"), opened.pid().unwrap().to_string());
    let entity = opened.text("process.entity_id");
    let asked = [
        (&*pid, CLAUDE),
        (entity, CLAUDE),
        (&*pid, &*log),
        (entity, &*log),
        (id, &*log),
    ];
    for (wanted, file) in asked {
        let args = [
            "explain", wanted, "--events", file, "--config", &config, "--policy", &policy,
        ];
        check_output(
            &args,
            &[
                "Claude Code (claude-code) 2.1.328 as main, by its place of installation",
                "evidence exe-path: glob",
                "name api.anthropic.com (",
                "the catalog alone: expected: api.anthropic.com is in Claude Code's manifest",
                "rule 1, others: its `tool` does not fit",
                "rule 2, data-leaves-for-unknown: its `country` does not fit",
                "rule 3, data-leaves: fits, and decides: deny",
            ],
        );
    }
    let none = telltale(dir.path(), &["explain", "1", "--events", &log]);
    none.expect(1, &[]);
    telltale(dir.path(), &["explain", "x", "--events", &log]).expect(2, &["entity id"]);
    telltale(dir.path(), &["explain", "1", "--events", &policy]).expect(2, &[":1: no event"]);
}

/// What was seen against what is declared: a patch of the manifest that `check` accepts.
#[test]
fn a_patch_of_a_manifest() {
    let dir = temp_dir();
    let config = write_config(dir.path(), "").display().to_string();
    let diff_of = |case: &str| {
        let recording = CLAUDE.replace("claude-native-expected", case);
        let log = dir.path().join(case).display().to_string();
        let args = ["replay", &recording, "--config", &config, "--events", &log];
        telltale(dir.path(), &args).expect(0, &[]);
        let diff = telltale(dir.path(), &["catalog", "diff", "--events", &log]);
        diff.expect(0, &[]);
        diff
    };
    let diff = diff_of("claude-native-expected");
    let seen = "#   seen      api.anthropic.com (api): api.anthropic.com\n";
    assert!(diff.stdout.contains(seen), "{diff:#?}");
    assert!(diff.stdout.contains("#   not seen  "), "{diff:#?}");
    let diff = diff_of("undeclared-endpoint");
    let part = diff.stdout.split("[[endpoint]]\n").nth(1);
    let part = part.unwrap_or_else(|| panic!("no patch in {diff:#?}"));
    for line in [
        "host = \"",
        "purpose = \"other\"\n",
        "confidence = \"measured\"\n",
    ] {
        assert!(part.contains(line), "{line} in {diff:#?}");
    }
}
