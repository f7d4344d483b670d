//! Bans and alerts: to the log, to the metrics and to a real webhook receiver.
//!
//! In: a configuration and what tools do. Out: verdicts, and what the receiver got.

use std::time::Duration;

use monitor_tests::event::Event;
use monitor_tests::program::{self, Program};
use monitor_tests::scene::{SERVER_V4, Scene};
use monitor_tests::wait;
use monitor_tests::webhook::WebhookReceiver;
use serde_json::Value;

fn config(receiver: &WebhookReceiver, alerts: &str) -> String {
    format!(
        "[policy]\nbanned = [\"claude-code\"]\n\n[alerts]\n{alerts}\n\n\
         [[alerts.webhook]]\nurl = \"{}\"\n",
        receiver.url()
    )
}

/// A body of this rule and state that speaks of something in the scene.
fn of(scene: &Scene, rule: &str, state: &str) -> impl Fn(&Value) -> bool {
    let dir = scene.dir().display().to_string();
    let (rule, state) = (rule.to_owned(), state.to_owned());
    move |body| {
        body["rule"] == rule.as_str()
            && body["state"] == state.as_str()
            && (state == "resolved" || body.to_string().contains(&dir))
    }
}

/// Presence alone is a violation, before anything is sent.
#[test]
fn a_banned_tool_that_only_starts() {
    let scene = Scene::alone();
    let receiver = WebhookReceiver::start();
    let claude = Program::native(scene.dir(), program::CLAUDE_NATIVE);
    let telltale = scene.telltale().config(&config(&receiver, "")).start();
    let pid = scene.run(&claude, &[]);
    telltale.wait_for_action(pid, "process-started").expect(&[
        ("telltale.verdict", "denied"),
        ("telltale.rule", "banned-tool"),
    ]);
    receiver.wait_for("alert", of(&scene, "banned-tool", "firing"));
    telltale.wait_for("alert in the log", |event| {
        event.action() == "alert" && event.text("telltale.rule") == "banned-tool"
    });
}

#[test]
fn connections_of_a_banned_tool_are_denied_even_to_its_own_provider() {
    let scene = Scene::alone();
    let _servers = scene.serve_https();
    scene.dns.answer("api.anthropic.com", &[SERVER_V4]);
    scene.dns.answer("api.openai.com", &[SERVER_V4]);
    let receiver = WebhookReceiver::start();
    let claude = Program::native(scene.dir(), program::CLAUDE_NATIVE);
    let codex = Program::native(scene.dir(), program::CODEX_NATIVE);
    let telltale = scene.telltale().config(&config(&receiver, "")).start();
    let pid = scene.run(&claude, &["connect", "api.anthropic.com:443"]);
    telltale.wait_for_action(pid, "connection-opened").expect(&[
        ("telltale.verdict", "denied"),
        ("telltale.rule", "banned-tool"),
    ]);
    // The other tool is not banned.
    let pid = scene.run(&codex, &["connect", "api.openai.com:443"]);
    telltale
        .wait_for_action(pid, "connection-opened")
        .expect(&[("telltale.verdict", "expected")]);
}

/// A copy in another place has only its name: enough for a ban, never for an allowance.
#[test]
fn a_copy_of_a_banned_tool() {
    let scene = Scene::alone();
    let receiver = WebhookReceiver::start();
    let copy = Program::native(scene.dir(), "elsewhere/claude");
    let telltale = scene.telltale().config(&config(&receiver, "")).start();
    let pid = scene.run(&copy, &[]);
    telltale.wait_for_action(pid, "process-started").expect(&[
        ("telltale.tool.id", "claude-code"),
        ("telltale.verdict", "denied"),
    ]);
    receiver.wait_for("alert", of(&scene, "banned-tool", "firing"));
}

#[test]
fn an_unexpected_endpoint_is_an_alert() {
    let scene = Scene::alone();
    let _servers = scene.serve_https();
    scene.dns.answer("paste.example", &[SERVER_V4]);
    let receiver = WebhookReceiver::start();
    let codex = Program::native(scene.dir(), program::CODEX_NATIVE);
    let telltale = scene.telltale().config(&config(&receiver, "")).start();
    scene.run(&codex, &["connect", "paste.example:443"]);
    let body = receiver.wait_for("alert", of(&scene, "unexpected-endpoint", "firing"));
    assert!(body.to_string().contains("paste.example"), "{body:#}");
    drop(telltale);
}

/// Five starts are one alert; after a while without it, it is resolved; then it may fire again.
#[test]
fn alerts_are_told_once_and_resolved() {
    let scene = Scene::alone();
    let receiver = WebhookReceiver::start();
    let claude = Program::native(scene.dir(), program::CLAUDE_NATIVE);
    let alerts = "resend_seconds = 3600\nresolve_after_seconds = 2";
    let telltale = scene.telltale().config(&config(&receiver, alerts)).start();
    for _ in 0..5 {
        scene.run(&claude, &[]);
    }
    let told = |state| {
        let of = of(&scene, "banned-tool", state);
        receiver.bodies().iter().filter(|body| of(body)).count()
    };
    receiver.wait_for("alert", of(&scene, "banned-tool", "firing"));
    receiver.wait_for("all-clear", of(&scene, "banned-tool", "resolved"));
    assert_eq!(
        (told("firing"), told("resolved")),
        (1, 1),
        "{:#?}",
        receiver.bodies()
    );
    scene.run(&claude, &[]);
    wait::until("a second alert", wait::SOON, || {
        (told("firing") == 2).then_some(())
    });
    let events = telltale.stop();
    let logged = events.iter().filter(|event| is_alert(event, "banned-tool"));
    assert!(logged.count() >= 2, "fired and resolved are in the log");
}

/// While its cause goes on, receivers are told again.
#[test]
fn alerts_that_last_are_sent_again() {
    let scene = Scene::alone();
    let receiver = WebhookReceiver::start();
    let claude = Program::native(scene.dir(), program::CLAUDE_NATIVE);
    let alerts = "resend_seconds = 1\nresolve_after_seconds = 60";
    let telltale = scene.telltale().config(&config(&receiver, alerts)).start();
    scene.run(&claude, &[]);
    let of = of(&scene, "banned-tool", "firing");
    let told = || receiver.bodies().iter().filter(|body| of(body)).count();
    wait::until("the alert three times", wait::SOON, || {
        (told() >= 3).then_some(())
    });
    drop(telltale);
}

/// A receiver that is down for a moment gets the alert when it is up again.
#[test]
fn a_refused_alert_is_sent_again() {
    let scene = Scene::alone();
    let receiver = WebhookReceiver::start();
    receiver.refuse(1);
    let claude = Program::native(scene.dir(), program::CLAUDE_NATIVE);
    let telltale = scene
        .telltale()
        .config(&config(&receiver, "resend_seconds = 3600"))
        .start();
    scene.run(&claude, &[]);
    let delivered = of(&scene, "banned-tool", "firing");
    let ask = || receiver.bodies().iter().any(&delivered).then_some(());
    wait::until("the alert after a refusal", Duration::from_secs(20), ask);
    assert_eq!(receiver.refused(), 1);
    drop(telltale);
}

fn is_alert(event: &Event, rule: &str) -> bool {
    event.action() == "alert" && event.text("telltale.rule") == rule
}
