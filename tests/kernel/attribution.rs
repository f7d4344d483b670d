//! Each tool, laid out on disk as it is installed, is recognised; over IPv4 and over IPv6.
//!
//! In: one layout per test. Out: `process-started` and `connection-opened` with the tool's id.

use std::path::Path;

use monitor_tests::event::Event;
use monitor_tests::program::{self, Program};
use monitor_tests::scene::{SERVER_V4, SERVER_V6, Scene};

/// What must be said of the tool.
struct Expect {
    tool: &'static str,
    /// Empty: the path does not say.
    version: &'static str,
    evidence: &'static str,
    /// A host of its manifest with purpose `api`.
    api: &'static str,
}

#[track_caller]
fn check(lay_out: impl Fn(&Path) -> Program, expect: &Expect) {
    let scene = Scene::new();
    let _servers = scene.serve_https();
    let tool = lay_out(scene.dir());
    let telltale = scene.telltale().start();
    for (address, family) in [(SERVER_V4, "ipv4"), (SERVER_V6, "ipv6")] {
        scene.dns.answer(expect.api, &[address]);
        let words = ["connect", &format!("{}:443", expect.api)];
        let pid = scene.run(&tool, &words);
        let started = telltale.wait_for_action(pid, "process-started");
        check_tool(&started, &tool.argv(&words), expect);
        let opened = telltale.wait_for_action(pid, "connection-opened");
        check_tool(&opened, &tool.argv(&words), expect);
        assert_eq!(
            opened.get("process.entity_id"),
            started.get("process.entity_id")
        );
        opened.expect(&[
            ("destination.ip", address),
            ("destination.port", "443"),
            ("destination.domain", expect.api),
            ("network.transport", "tcp"),
            ("network.type", family),
            ("telltale.name.source", "dns-own"),
            ("telltale.endpoint.purpose", "api"),
            ("telltale.verdict", "expected"),
        ]);
    }
    telltale.stop();
}

#[track_caller]
fn check_tool(event: &Event, argv: &[String], expect: &Expect) {
    event.expect(&[
        ("process.executable", &argv[0]),
        ("user.id", "0"),
        ("telltale.tool.id", expect.tool),
        ("telltale.tool.role", "main"),
    ]);
    assert_eq!(event.text("telltale.tool.version"), expect.version);
    assert_eq!(event.texts("process.args"), argv);
    assert_eq!(
        event.get("process.parent.pid").as_u64(),
        Some(u64::from(std::process::id())),
        "the parent is this test"
    );
    let evidence = event.get("telltale.attribution.evidence").to_string();
    assert!(evidence.contains(expect.evidence), "{evidence}");
}

const CLAUDE_API: &str = "api.anthropic.com";

#[test]
fn claude_code_native() {
    check(
        |home| Program::native(home, program::CLAUDE_NATIVE),
        &Expect {
            tool: "claude-code",
            version: "2.1.328",
            evidence: "exe-path",
            api: CLAUDE_API,
        },
    );
}

#[test]
fn claude_code_from_npm_native() {
    check(
        |home| Program::native(home, program::CLAUDE_NPM_NATIVE),
        &Expect {
            tool: "claude-code",
            version: "",
            evidence: "exe-path",
            api: CLAUDE_API,
        },
    );
}

/// The script renames its process before it connects: only argv as it was at exec tells.
#[test]
fn claude_code_from_npm_script() {
    check(
        |home| Program::script_titled(home, program::CLAUDE_SCRIPT, "claude"),
        &Expect {
            tool: "claude-code",
            version: "",
            evidence: "script",
            api: CLAUDE_API,
        },
    );
}

#[test]
fn qoder_cli() {
    check(
        |home| Program::script(home, program::QODER_SCRIPT),
        &Expect {
            tool: "qoder-cli",
            version: "",
            evidence: "script",
            api: "api2.qoder.sh",
        },
    );
}

#[test]
fn codex_cli_native() {
    check(
        |home| Program::native(home, program::CODEX_NATIVE),
        &Expect {
            tool: "codex-cli",
            version: "",
            evidence: "exe-path",
            api: "api.openai.com",
        },
    );
}

#[test]
fn codex_cli_script() {
    check(
        |home| Program::script(home, program::CODEX_SCRIPT),
        &Expect {
            tool: "codex-cli",
            version: "",
            evidence: "script",
            api: "api.openai.com",
        },
    );
}

#[test]
fn gemini_cli() {
    let api = "generativelanguage.googleapis.com";
    check(
        |home| Program::script(home, program::GEMINI_SCRIPT),
        &Expect {
            tool: "gemini-cli",
            version: "",
            evidence: "script",
            api,
        },
    );
}

#[test]
fn copilot_cli_native() {
    let api = "api.individual.githubcopilot.com";
    check(
        |home| Program::native(home, program::COPILOT_NATIVE),
        &Expect {
            tool: "github-copilot-cli",
            version: "",
            evidence: "exe-path",
            api,
        },
    );
}

#[test]
fn copilot_cli_script() {
    let api = "api.githubcopilot.com";
    check(
        |home| Program::script(home, program::COPILOT_SCRIPT),
        &Expect {
            tool: "github-copilot-cli",
            version: "",
            evidence: "script",
            api,
        },
    );
}

#[test]
fn cursor_cli() {
    let version = "2026.11.12-abcdef0";
    check(
        |home| Program::script_with_node(home, program::CURSOR_NODE, program::CURSOR_SCRIPT),
        &Expect {
            tool: "cursor-agent",
            version,
            evidence: "exe-path",
            api: "api2.cursor.sh",
        },
    );
}

/// Bun connects from a thread called `HTTP Client`: the process counts, not the thread's name.
#[test]
fn a_connection_from_a_named_thread() {
    let scene = Scene::new();
    let _servers = scene.serve_https();
    let claude = Program::native(scene.dir(), program::CLAUDE_NATIVE);
    let telltale = scene.telltale().start();
    let pid = scene.run(
        &claude,
        &["thread", "HTTP Client", "connect", "203.0.113.10:443"],
    );
    let opened = telltale.wait_for_action(pid, "connection-opened");
    opened.expect(&[
        ("telltale.tool.id", "claude-code"),
        ("telltale.tool.role", "main"),
    ]);
}
