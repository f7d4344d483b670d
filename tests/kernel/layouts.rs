//! Ways in which real installations hide what runs: links, shebangs, wrappers, titles, other
//! names. What runs here is real: Node.js, Python, shells.
//!
//! In: one layout per test. Out: the tool, its version, whether the evidence is trusted, and where
//! the script was found.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use monitor_tests::binary;
use monitor_tests::event::Event;
use monitor_tests::program::{self, Program};
use monitor_tests::running::Running;
use monitor_tests::scene::{SERVER_V4, Scene};
use monitor_tests::telltale::{recording, telltale, write_config};
use rustix::process::Signal;

const LIFE: Duration = Duration::from_secs(15);

/// What npm writes for Gemini CLI.
const GEMINI_PACKAGE: &str = "lib/node_modules/@google/gemini-cli/package.json";
const GEMINI_API: &str = "generativelanguage.googleapis.com";

/// The stand-in's words for Node.js.
const SCRIPT: &str = include_str!("../src/standin.js");

/// What must be said of the tool that ran.
struct Expect<'a> {
    tool: &'a str,
    role: &'a str,
    version: &'a str,
    trusted: &'a str,
    verdict: &'a str,
    /// Part of the evidence.
    evidence: &'a str,
}

const GEMINI: Expect<'_> = Expect {
    tool: "gemini-cli",
    role: "main",
    version: "0.61.0",
    trusted: "true",
    verdict: "expected",
    evidence: program::GEMINI_SCRIPT,
};

/// Runs the command that `lay_out` leaves on disk; it connects to `host`.
#[track_caller]
fn check(host: &str, lay_out: impl Fn(&Path) -> Vec<String>, expect: &Expect<'_>) {
    let scene = Scene::new();
    let _servers = scene.serve_https();
    scene.dns.answer(host, &[SERVER_V4]);
    let command = lay_out(scene.dir());
    let telltale = scene.telltale().start();
    let to = format!("{host}:443");
    // It stays a while, as the real ones do: its files are looked at when its record is read.
    let pid = run(&scene, &command, &["connect", &to, "run", "sleep", "0.2"]);
    let opened = telltale.wait_for_action(pid, "connection-opened");
    check_tool(&opened, expect);
    opened.expect(&[("telltale.verdict", expect.verdict)]);
    telltale.stop();
}

#[track_caller]
fn check_tool(event: &Event, expect: &Expect<'_>) {
    event.expect(&[
        ("telltale.tool.id", expect.tool),
        ("telltale.tool.role", expect.role),
        ("telltale.tool.version", expect.version),
        ("telltale.tool.trusted", expect.trusted),
    ]);
    let evidence = event.get("telltale.attribution.evidence").to_string();
    assert!(evidence.contains(expect.evidence), "{evidence}");
}

/// Runs a command in the scene to its successful end, and returns the pid it had.
#[track_caller]
fn run(scene: &Scene, command: &[String], words: &[&str]) -> u32 {
    let mut shown = scene.ns.command(&command[0]);
    shown.args(&command[1..]).args(words);
    shown.env("HOME", scene.dir());
    let mut process = Running::start("layout", scene.dir(), shown);
    process.succeed(LIFE);
    process.pid()
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn words<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(str::to_owned).to_vec()
}

/// Writes an executable file. `install` does it in a process of its own: were this one to write
/// it, a child that another test starts at that moment would keep it busy.
fn executable(path: &Path, content: &str) {
    let draft = path.with_extension("draft");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&draft, content).unwrap();
    let status = Command::new("install")
        .args(["-m", "755"])
        .arg(&draft)
        .arg(path)
        .status();
    assert!(status.unwrap().success());
    fs::remove_file(draft).unwrap();
}

/// Gemini CLI as `npm install --global` leaves it: the package, and a link to it in `bin`.
fn gemini(home: &Path) -> PathBuf {
    executable(
        &home.join(program::GEMINI_SCRIPT),
        &format!("#!/usr/bin/env node\n{SCRIPT}"),
    );
    let package = r#"{"name": "@google/gemini-cli", "version": "0.61.0", "type": "commonjs"}"#;
    fs::write(home.join(GEMINI_PACKAGE), package).unwrap();
    let link = home.join("bin/gemini");
    fs::create_dir_all(home.join("bin")).unwrap();
    symlink(Path::new("..").join(program::GEMINI_SCRIPT), &link).unwrap();
    link
}

fn node() -> String {
    text(binary::node())
}

#[test]
fn npms_link_as_an_argument() {
    check(
        GEMINI_API,
        |home| vec![node(), text(&gemini(home))],
        &GEMINI,
    );
}

/// The kernel starts `env`, and `env` starts Node.js with the link as its argument.
#[test]
fn npms_link_by_its_shebang() {
    check(GEMINI_API, |home| vec![text(&gemini(home))], &GEMINI);
}

#[test]
fn a_script_in_the_working_folder() {
    let lay_out = |home: &Path| {
        let folder = text(gemini(home).parent().unwrap());
        let inside = format!("cd {folder} && exec {} gemini \"$@\"", node());
        words(["sh", "-c", &inside, "sh"])
    };
    check(GEMINI_API, lay_out, &GEMINI);
}

/// pnpm writes a shell script where npm makes a link.
#[test]
fn a_wrapper_that_is_a_shell_script() {
    let lay_out = |home: &Path| {
        gemini(home);
        let script = text(&home.join(program::GEMINI_SCRIPT));
        let wrapper = home.join("node_modules/.bin/gemini");
        let line = format!("#!/bin/sh\nexec {} --no-warnings {script} \"$@\"\n", node());
        executable(&wrapper, &line);
        vec![text(&wrapper)]
    };
    check(GEMINI_API, lay_out, &GEMINI);
}

/// The link leads to another script than a link of this name should.
#[test]
fn a_link_with_a_tools_name_to_a_script_of_ones_own() {
    let lay_out = |home: &Path| {
        let script = Program::script(home, "src/mine.js").script.unwrap();
        let link = home.join("bin/gemini");
        fs::create_dir_all(home.join("bin")).unwrap();
        symlink(script, &link).unwrap();
        vec![node(), text(&link)]
    };
    let expect = Expect {
        version: "unknown",
        trusted: "false",
        verdict: "expected-unverified",
        evidence: "bin/gemini",
        ..GEMINI
    };
    check(GEMINI_API, lay_out, &expect);
}

/// The files exist in the mount namespace of the process alone.
#[test]
fn a_container_with_files_of_its_own() {
    let lay_out = |home: &Path| {
        gemini(home);
        let [home, inside] = [text(home), text(&home.join("inside"))];
        fs::create_dir(&inside).unwrap();
        let script = format!(
            "mount -t tmpfs none {inside} && cp -a {home}/lib {home}/bin {inside}/ \
             && exec {} {inside}/bin/gemini \"$@\"",
            node()
        );
        words([
            "unshare",
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            &script,
            "sh",
        ])
    };
    let evidence = format!("inside/{}", program::GEMINI_SCRIPT);
    check(
        GEMINI_API,
        lay_out,
        &Expect {
            evidence: &evidence,
            ..GEMINI
        },
    );
}

/// Up to 2.1.112: the process renames itself, and its package says which version it is.
#[test]
fn claude_code_behind_npms_link_under_a_title() {
    let lay_out = |home: &Path| {
        let claude = Program::script_titled(home, program::CLAUDE_SCRIPT, "claude");
        let package = home.join("lib/node_modules/@anthropic-ai/claude-code/package.json");
        fs::write(package, r#"{"version": "2.1.91"}"#).unwrap();
        let link = home.join("bin/claude");
        fs::create_dir_all(home.join("bin")).unwrap();
        symlink(claude.script.unwrap(), &link).unwrap();
        vec![node(), text(&link)]
    };
    let expect = Expect {
        tool: "claude-code",
        version: "2.1.91",
        evidence: program::CLAUDE_SCRIPT,
        ..GEMINI
    };
    check("api.anthropic.com", lay_out, &expect);
}

/// The monitor stands still while the process starts and renames itself: when it reads of it, only
/// argv as it was at exec still tells.
#[test]
fn a_title_that_is_set_before_the_first_event_is_read() {
    let scene = Scene::new();
    let claude = Program::script_titled(scene.dir(), program::CLAUDE_SCRIPT, "claude");
    let telltale = scene.telltale().start();
    telltale.process.signal(Signal::STOP);
    let mut process = scene.start(&claude, &["wait"]);
    process.wait_for_output("waiting");
    let cmdline = fs::read_to_string(format!("/proc/{}/cmdline", process.pid())).unwrap();
    assert!(!cmdline.contains("cli.js"), "{cmdline}");
    telltale.process.signal(Signal::CONT);
    let started = telltale.wait_for_action(process.pid(), "process-started");
    let expect = Expect {
        tool: "claude-code",
        version: "unknown",
        evidence: program::CLAUDE_SCRIPT,
        ..GEMINI
    };
    check_tool(&started, &expect);
    process.say("go on");
    process.succeed(LIFE);
    telltale.stop();
}

/// The script names an interpreter that is a script itself: three images, of which the last is the
/// tool.
#[test]
fn a_chain_of_shebangs() {
    let lay_out = |home: &Path| {
        gemini(home);
        let runner = home.join("bin/run-node");
        executable(&runner, &format!("#!/bin/sh\nexec {} \"$@\"\n", node()));
        let script = home.join(program::GEMINI_SCRIPT);
        executable(&script, &format!("#!{}\n{SCRIPT}", text(&runner)));
        vec![text(&script)]
    };
    check(GEMINI_API, lay_out, &GEMINI);
}

/// From 2.1.113: an ELF in the package, under whatever argv[0].
#[test]
fn an_executable_from_npm_under_another_name() {
    let lay_out = |home: &Path| {
        let claude = Program::native(home, program::CLAUDE_NPM_NATIVE);
        let package = home.join("lib/node_modules/@anthropic-ai/claude-code/package.json");
        fs::write(package, r#"{"version": "2.1.328"}"#).unwrap();
        let script = format!("exec -a vim {} \"$@\"", text(&claude.exe));
        words(["bash", "-c", &script, "bash"])
    };
    let expect = Expect {
        tool: "claude-code",
        version: "2.1.328",
        evidence: "exe-path",
        ..GEMINI
    };
    check("api.anthropic.com", lay_out, &expect);
}

/// In a mount namespace with a package database of its own, which lists the executable.
#[test]
fn an_executable_that_a_package_brought() {
    let lay_out = |home: &Path| {
        let exe = text(&Program::native(home, ".tabnine/TabNine").exe);
        let script = format!(
            "mount -t tmpfs none /var/lib/dpkg && cd /var/lib/dpkg && mkdir info \
             && echo {exe} > info/tabnine.list \
             && printf 'Package: tabnine\\nVersion: 1:4.7.1-2\\n' > status && exec {exe} \"$@\""
        );
        let unshare = ["unshare", "--mount", "--propagation", "private"];
        [words(unshare), words(["sh", "-c", &script, "sh"])].concat()
    };
    let expect = Expect {
        tool: "tabnine",
        version: "4.7.1",
        evidence: "exe-path",
        ..GEMINI
    };
    check("api.tabnine.com", lay_out, &expect);
}

/// Claude Code's executable is its search program too.
#[test]
fn an_executable_that_acts_as_another_program() {
    let lay_out = |home: &Path| {
        let claude = Program::native(home, program::CLAUDE_NATIVE);
        let script = format!("exec -a rg {} \"$@\"", text(&claude.exe));
        words(["bash", "-c", &script, "bash"])
    };
    let expect = Expect {
        tool: "claude-code",
        role: "helper",
        version: "2.1.328",
        evidence: "exe-path",
        ..GEMINI
    };
    check("api.anthropic.com", lay_out, &expect);
}

/// Lays out a Python console script as pip does, and the module that it imports.
fn console_script(home: &Path, path: &str) -> PathBuf {
    binary::require("python3", "python3");
    let ask = "import os, sys; print(os.path.realpath(sys.executable))";
    let asked = Command::new("python3").args(["-c", ask]).output();
    let python = String::from_utf8(asked.unwrap().stdout).unwrap();
    let modules = home.join("site-packages");
    fs::create_dir_all(modules.join("aider")).unwrap();
    let module = "import socket, sys\ndef main():\n    host, port = sys.argv[2].rsplit(':', 1)\n    \
                  socket.create_connection((host, int(port)), 5).close()\n";
    fs::write(modules.join("aider/main.py"), module).unwrap();
    let script = home.join(path);
    let text = format!(
        "#!{}\n# -*- coding: utf-8 -*-\nimport sys\nsys.path.insert(0, {:?})\n\
         from aider.main import main\nif __name__ == '__main__':\n    sys.exit(main())\n",
        python.trim(),
        text(&modules)
    );
    executable(&script, &text);
    script
}

/// Nothing about a console script's place is the tool's alone.
const AIDER: Expect<'_> = Expect {
    tool: "aider",
    role: "main",
    version: "unknown",
    trusted: "false",
    verdict: "expected-unverified",
    evidence: "/usr/bin/aider",
};

#[test]
fn a_python_console_script() {
    let lay_out = |home: &Path| vec![text(&console_script(home, "usr/bin/aider"))];
    check("openrouter.ai", lay_out, &AIDER);
}

/// pipx links to the script of an environment of its own; the link can bear any name.
#[test]
fn a_python_console_script_behind_a_link() {
    let path = ".local/share/pipx/venvs/aider-chat/bin/aider";
    let lay_out = |home: &Path| {
        let link = home.join("bin/pair");
        fs::create_dir_all(home.join("bin")).unwrap();
        symlink(console_script(home, path), &link).unwrap();
        vec![text(&link)]
    };
    check(
        "openrouter.ai",
        lay_out,
        &Expect {
            evidence: path,
            ..AIDER
        },
    );
}

/// Everything above ran in a mount namespace of its own, as `ip netns exec` makes one. This runs
/// where the monitor does, and connects nowhere.
#[test]
fn in_the_monitors_own_mount_namespace() {
    let scene = Scene::new();
    let link = gemini(scene.dir());
    let telltale = scene.telltale().start();
    let start = |command: &mut Command| {
        let mut child = command.spawn().unwrap();
        assert!(child.wait().unwrap().success());
        child.id()
    };
    let folder = link.parent().unwrap();
    let pids = [
        start(Command::new(binary::node()).arg(&link)),
        start(Command::new(&link).current_dir("/")),
        start(
            Command::new(binary::node())
                .arg("gemini")
                .current_dir(folder),
        ),
    ];
    let script = text(&scene.dir().join(program::GEMINI_SCRIPT));
    for pid in pids {
        let started = telltale.wait_for_action(pid, "process-started");
        check_tool(
            &started,
            &Expect {
                evidence: &script,
                ..GEMINI
            },
        );
    }
    telltale.stop();
}

/// What was found in the file system is in the recording: the replay finds nothing there.
#[test]
fn a_replay_needs_no_files() {
    let scene = Scene::new();
    let command = vec![node(), text(&gemini(scene.dir()))];
    let monitor = scene.telltale().record().start();
    let pid = run(&scene, &command, &[]);
    monitor.wait_for_action(pid, "process-started");
    monitor.stop();
    fs::remove_dir_all(scene.dir().join("lib")).unwrap();

    let file = text(&recording(scene.dir()));
    let config = text(&write_config(scene.dir(), ""));
    let args = [
        "replay",
        &file,
        "--config",
        &config,
        "--events",
        "-",
        "--events-arguments",
        "redacted",
    ];
    let replay = telltale(scene.dir(), &args);
    replay.expect(0, &[]);
    let events = Event::parse_log(&replay.stdout);
    let started = events
        .iter()
        .find(|event| event.pid() == Some(pid) && event.action() == "process-started");
    check_tool(started.unwrap(), &GEMINI);
}

/// A child of a banned tool does not become another tool by its name.
#[test]
fn a_banned_tools_child_under_the_name_of_another_tool() {
    let scene = Scene::new();
    let _servers = scene.serve_https();
    scene.dns.answer("api.openai.com", &[SERVER_V4]);
    let claude = Program::native(scene.dir(), program::CLAUDE_NATIVE);
    let codex = Program::native(scene.dir(), "codex");
    let ban = "[policy]\nbanned = [\"claude-code\"]\n";
    let telltale = scene.telltale().config(ban).start();
    let child = text(&codex.exe);
    scene.run(&claude, &["run", &child, "connect", "api.openai.com:443"]);
    let opened = telltale.wait_for("the child's connection", |event| {
        event.action() == "connection-opened" && event.text("process.executable") == child
    });
    opened.expect(&[
        ("telltale.tool.id", "claude-code"),
        ("telltale.tool.role", "other-child"),
        ("telltale.verdict", "denied"),
    ]);
    let evidence = opened.get("telltale.attribution.evidence").to_string();
    assert!(
        evidence.contains("lineage") && evidence.contains("\"codex\""),
        "{evidence}"
    );
    telltale.stop();
}
