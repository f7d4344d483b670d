//! Whom a tool reaches: names from the DNS answers it got, purposes and verdicts by its manifest.
//!
//! In: connections by name and by address. Out: `destination.domain`, purpose, verdict, rule.

use std::time::{Duration, Instant};

use monitor_tests::event::Event;
use monitor_tests::program::{self, Program};
use monitor_tests::scene::{SERVER_V4, Scene};

/// Claude Code does as `words` say; what is said of the connection it opens?
#[track_caller]
fn check(prepare: impl Fn(&Scene), words: &[&str], expect: &[(&str, &str)]) {
    let scene = Scene::new();
    let _servers = scene.serve_https();
    prepare(&scene);
    let claude = Program::native(scene.dir(), program::CLAUDE_NATIVE);
    let telltale = scene.telltale().start();
    let pid = scene.run(&claude, words);
    let to_server = |event: &Event| {
        event.pid() == Some(pid)
            && event.action() == "connection-opened"
            && event.text("destination.ip") == SERVER_V4
    };
    telltale
        .wait_for("connection to the server", to_server)
        .expect(expect);
}

fn named(name: &'static str) -> impl Fn(&Scene) {
    move |scene| scene.dns.answer(name, &[SERVER_V4])
}

#[test]
fn a_host_outside_the_manifest() {
    check(
        named("paste.example"),
        &["connect", "paste.example:443"],
        &[
            ("destination.domain", "paste.example"),
            ("telltale.verdict", "undeclared"),
            ("telltale.rule", "unexpected-endpoint"),
        ],
    );
}

/// A name that contains a declared one is another name.
#[test]
fn a_host_that_looks_like_one_of_the_manifest() {
    check(
        named("api.anthropic.com.example"),
        &["connect", "api.anthropic.com.example:443"],
        &[("telltale.verdict", "undeclared")],
    );
}

#[test]
fn an_address_without_a_name() {
    check(
        |_| {},
        &["connect", "203.0.113.10:443"],
        &[
            ("destination.domain", "null"),
            ("telltale.verdict", "unknown"),
        ],
    );
}

/// The name is the one that was asked for, not the alias's target.
#[test]
fn a_name_behind_aliases() {
    check(
        |scene| {
            scene.dns.alias("api.anthropic.com", "edge.cdn.example");
            scene.dns.alias("edge.cdn.example", "node7.cdn.example");
            scene.dns.answer("node7.cdn.example", &[SERVER_V4]);
        },
        &["connect", "api.anthropic.com:443"],
        &[
            ("destination.domain", "api.anthropic.com"),
            ("telltale.verdict", "expected"),
        ],
    );
}

/// Upper case in a query is the same name.
#[test]
fn a_name_in_upper_case() {
    check(
        named("api.anthropic.com"),
        &["connect", "API.Anthropic.COM:443"],
        &[
            ("destination.domain", "api.anthropic.com"),
            ("telltale.verdict", "expected"),
        ],
    );
}

/// Another process asked: the name is known, and that it was shared is said.
#[test]
fn a_name_that_another_process_asked_for() {
    let scene = Scene::new();
    let _servers = scene.serve_https();
    scene.dns.answer("shared.example", &[SERVER_V4]);
    let asker = Program::native(scene.dir(), "bin/asker");
    let claude = Program::native(scene.dir(), program::CLAUDE_NATIVE);
    let telltale = scene.telltale().start();
    scene.run(&asker, &["connect", "shared.example:443"]);
    let pid = scene.run(&claude, &["connect", "203.0.113.10:443"]);
    let opened = telltale.wait_for_action(pid, "connection-opened");
    opened.expect(&[("telltale.name.source", "dns-shared")]);
}

/// No tool is known, but it reaches an AI provider: it is shown, as unidentified.
#[test]
fn a_program_of_no_tool_that_reaches_a_provider() {
    let scene = Scene::new();
    let _servers = scene.serve_https();
    scene.dns.answer("api.anthropic.com", &[SERVER_V4]);
    let script = Program::native(scene.dir(), "bin/own-script");
    let telltale = scene.telltale().start();
    let pid = scene.run(&script, &["connect", "api.anthropic.com:443"]);
    let opened = telltale.wait_for_action(pid, "connection-opened");
    opened.expect(&[
        ("telltale.tool.role", "unidentified"),
        ("destination.domain", "api.anthropic.com"),
    ]);
    let evidence = opened.get("telltale.attribution.evidence").to_string();
    assert!(evidence.contains("endpoint"), "{evidence}");
}

/// The promise to operators: a connect is one count in the scrape, within two seconds.
#[test]
fn a_connection_is_in_the_scrape_within_two_seconds() {
    let scene = Scene::alone();
    let _servers = scene.serve_https();
    scene.dns.answer("api.anthropic.com", &[SERVER_V4]);
    let claude = Program::native(scene.dir(), program::CLAUDE_NATIVE);
    let telltale = scene.telltale().start();
    let mut process = scene.start(&claude, &["hold", "api.anthropic.com:443", "wait"]);
    process.wait_for_output("connected");
    let connected = Instant::now();
    let labels = [
        ("tool", "claude-code"),
        ("role", "main"),
        ("purpose", "api"),
        ("verdict", "expected"),
        ("transport", "tcp"),
    ];
    let metrics = telltale.wait_for_metrics("connection", |metrics| {
        metrics
            .sum("telltale_connections_total", &labels)
            .is_some_and(|count| count > 0.0)
    });
    assert!(
        connected.elapsed() < Duration::from_secs(2),
        "took {:?}",
        connected.elapsed()
    );
    assert!((metrics.get("telltale_connections_total", &labels) - 1.0).abs() < f64::EPSILON);
}
