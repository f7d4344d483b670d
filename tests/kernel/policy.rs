//! Bans and alerts: to the log, to the metrics and to a real webhook receiver.
//!
//! In: a configuration and what tools do. Out: verdicts, and what the receiver got.

use std::time::Duration;

use monitor_tests::event::Event;
use monitor_tests::program::{self, OwnTool, Program};
use monitor_tests::scene::{SERVER_V4, Scene};
use monitor_tests::wait;
use monitor_tests::webhook::WebhookReceiver;
use serde_json::Value;

fn config(banned: &str, receiver: &WebhookReceiver, alerts: &str) -> String {
    format!(
        "[policy]\nbanned = [\"{banned}\"]\n\n[alerts]\n{alerts}\n\n\
         [[alerts.webhook]]\nurl = \"{}\"\n",
        receiver.url()
    )
}

/// A body that tells that this alert of this tool has this status.
fn of(tool: &str, rule: &str, status: &str) -> impl Fn(&Value) -> bool {
    let (tool, rule, status) = (tool.to_owned(), rule.to_owned(), status.to_owned());
    move |body| {
        let alert = &body["alert"];
        alert["labels"]["tool"] == tool && alert["rule"] == rule && body["status"] == status
    }
}

/// Presence alone is a violation, before anything is sent.
#[test]
fn a_banned_tool_that_only_starts() {
    let scene = Scene::new();
    let receiver = WebhookReceiver::start();
    let claude = Program::native(scene.dir(), program::CLAUDE_NATIVE);
    let config = config("claude-code", &receiver, "");
    let telltale = scene.telltale().config(&config).start();
    let pid = scene.run(&claude, &[]);
    telltale.wait_for_action(pid, "process-started").expect(&[
        ("telltale.verdict", "denied"),
        ("telltale.rule", "banned-tool"),
    ]);
    receiver.wait_for("alert", of("claude-code", "banned-tool", "firing"));
    telltale.wait_for("alert in the log", |event| {
        is_alert(event, "claude-code", "banned-tool")
    });
    let banned = [("rule", "banned-tool"), ("severity", "critical")];
    assert!(telltale.metrics().get("telltale_alerts_total", &banned) >= 1.0);
}

/// What a pager shows: who, what, why, and where to look.
#[test]
fn an_alert_tells_all_that_is_known() {
    let scene = Scene::new();
    let receiver = WebhookReceiver::start();
    let tool = scene.own_tool();
    let config = config(&tool.id, &receiver, "");
    let telltale = scene.telltale().config(&config).start();
    let pid = scene.run(&tool.program, &["number", "7"]);
    let body = receiver.wait_for("alert", of(&tool.id, "banned-tool", "firing"));
    let exe = tool.program.exe.display().to_string();
    let of_alert = &body["alert"]["annotations"];
    assert_eq!(of_alert["executable"], exe, "{body:#}");
    assert_eq!(of_alert["args"], format!("{exe} number 7"), "{body:#}");
    assert_eq!(of_alert["pid"], pid.to_string(), "{body:#}");
    assert_eq!(of_alert["user_id"], "0", "{body:#}");
    assert_eq!(body["alert"]["severity"], "critical", "{body:#}");
    assert_eq!(body["alert"]["state"], "fired", "{body:#}");
    for (field, word) in [
        ("summary", "Own Tool"),
        ("why", "banned"),
        ("evidence", "exe-path"),
    ] {
        let text = of_alert[field].as_str().unwrap_or_default();
        assert!(text.contains(word), "{field} of {body:#}");
    }
    assert_eq!(body["version"], "1", "{body:#}");
    drop(telltale);
}

#[test]
fn connections_of_a_banned_tool_are_denied_even_to_its_own_provider() {
    let scene = Scene::new();
    let _servers = scene.serve_https();
    scene.dns.answer("api.anthropic.com", &[SERVER_V4]);
    scene.dns.answer("api.openai.com", &[SERVER_V4]);
    let receiver = WebhookReceiver::start();
    let claude = Program::native(scene.dir(), program::CLAUDE_NATIVE);
    let codex = Program::native(scene.dir(), program::CODEX_NATIVE);
    let config = config("claude-code", &receiver, "");
    let telltale = scene.telltale().config(&config).start();
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
    let scene = Scene::new();
    let copy = Program::native(scene.dir(), "elsewhere/claude");
    let receiver = WebhookReceiver::start();
    let config = config("claude-code", &receiver, "");
    let telltale = scene.telltale().config(&config).start();
    let pid = scene.run(&copy, &[]);
    telltale.wait_for_action(pid, "process-started").expect(&[
        ("telltale.tool.id", "claude-code"),
        ("telltale.verdict", "denied"),
    ]);
    receiver.wait_for("alert", of("claude-code", "banned-tool", "firing"));
}

#[test]
fn an_unexpected_endpoint_is_an_alert() {
    let scene = Scene::new();
    let _servers = scene.serve_https();
    scene.dns.answer("paste.example", &[SERVER_V4]);
    let receiver = WebhookReceiver::start();
    let tool = scene.own_tool();
    let config = config("claude-code", &receiver, "");
    let telltale = scene.telltale().config(&config).start();
    scene.run(&tool.program, &["connect", "paste.example:443"]);
    let body = receiver.wait_for("alert", of(&tool.id, "unexpected-endpoint", "firing"));
    let labels = &body["alert"]["labels"];
    assert_eq!(labels["endpoint"], "paste.example", "{body:#}");
    assert_eq!(labels["verdict"], "undeclared", "{body:#}");
    drop(telltale);
}

/// What an expected connection is for raises nothing.
#[test]
fn an_expected_endpoint_is_no_alert() {
    let scene = Scene::new();
    let _servers = scene.serve_https();
    let tool = scene.own_tool();
    scene.dns.answer(&tool.api, &[SERVER_V4]);
    let telltale = scene.telltale().start();
    let pid = scene.run(&tool.program, &["connect", &format!("{}:443", tool.api)]);
    telltale
        .wait_for_action(pid, "process-ended")
        .expect(&[("telltale.tool.id", &tool.id)]);
    let events = telltale.stop();
    let alert = events
        .iter()
        .find(|event| event.action() == "alert" && event.0.to_string().contains(&tool.id));
    assert_eq!(alert, None);
}

/// A scene in which its own tool is banned, and what its receiver was told.
struct Banned {
    scene: Scene,
    receiver: WebhookReceiver,
    tool: OwnTool,
    config: String,
}

impl Banned {
    fn new(alerts: &str) -> Banned {
        let (scene, receiver) = (Scene::new(), WebhookReceiver::start());
        let tool = scene.own_tool();
        let config = config(&tool.id, &receiver, alerts);
        Banned {
            scene,
            receiver,
            tool,
            config,
        }
    }

    fn told(&self, status: &str) -> usize {
        let of = of(&self.tool.id, "banned-tool", status);
        self.receiver
            .bodies()
            .iter()
            .filter(|body| of(body))
            .count()
    }

    #[track_caller]
    fn wait_until_told(&self, status: &str, times: usize) {
        let what = format!("{status} {times} times");
        wait::until(&what, Duration::from_secs(20), || {
            (self.told(status) >= times).then_some(())
        });
    }
}

/// Five starts are one alert; after a while without it, it is resolved; then it may fire again.
#[test]
fn alerts_are_told_once_and_resolved() {
    let banned = Banned::new("resend_seconds = 3600\nresolve_after_seconds = 4");
    let telltale = banned.scene.telltale().config(&banned.config).start();
    for _ in 0..5 {
        banned.scene.run(&banned.tool.program, &[]);
    }
    banned.wait_until_told("firing", 1);
    banned.wait_until_told("resolved", 1);
    let told = (banned.told("firing"), banned.told("resolved"));
    assert_eq!(told, (1, 1), "{:#?}", banned.receiver.bodies());
    banned.scene.run(&banned.tool.program, &[]);
    banned.wait_until_told("firing", 2);
    let events = telltale.stop();
    let logged = events
        .iter()
        .filter(|event| is_alert(event, &banned.tool.id, "banned-tool"));
    assert_eq!(
        logged.count(),
        3,
        "fired, resolved and fired are in the log"
    );
}

/// While its cause goes on, receivers are told again.
#[test]
fn alerts_that_last_are_sent_again() {
    let banned = Banned::new("resend_seconds = 1\nresolve_after_seconds = 60");
    let telltale = banned.scene.telltale().config(&banned.config).start();
    banned.scene.run(&banned.tool.program, &[]);
    banned.wait_until_told("firing", 3);
    drop(telltale);
}

/// A banned tool that runs on keeps its alert firing, whatever it does.
#[test]
fn an_alert_lasts_as_long_as_its_tool_runs() {
    let banned = Banned::new("resend_seconds = 1\nresolve_after_seconds = 2");
    let telltale = banned.scene.telltale().config(&banned.config).start();
    let mut process = banned.scene.start(&banned.tool.program, &["wait"]);
    // Longer than it takes to resolve.
    banned.wait_until_told("firing", 5);
    assert_eq!(banned.told("resolved"), 0);
    process.say("go on");
    banned.wait_until_told("resolved", 1);
    drop(telltale);
}

/// A receiver that is down for a moment gets the alert when it is up again.
#[test]
fn a_refused_alert_is_sent_again() {
    let banned = Banned::new("resend_seconds = 3600");
    banned.receiver.refuse(1);
    let telltale = banned.scene.telltale().config(&banned.config).start();
    banned.scene.run(&banned.tool.program, &[]);
    banned.wait_until_told("firing", 1);
    assert_eq!(banned.receiver.refused(), 1);
    drop(telltale);
}

fn is_alert(event: &Event, tool: &str, rule: &str) -> bool {
    event.action() == "alert"
        && event.text("telltale.rule") == rule
        && event.text("telltale.alert.labels.tool") == tool
}
