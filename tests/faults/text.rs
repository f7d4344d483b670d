//! Text that others chose, in everything that the monitor writes.
//!
//! In: a tool in a folder, with arguments and a host name that hold control characters, quotes,
//! markup and bytes that are no text. Out: none of it as such in the event log, the metrics, the
//! pages, the alerts to a webhook and to syslog, what a person reads, and an explanation.

use std::ffi::OsStr;
use std::fs;
use std::net::UdpSocket;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use monitor_tests::binary;
use monitor_tests::program;
use monitor_tests::running::Running;
use monitor_tests::scene::{SERVER_V4, Scene};
use monitor_tests::telltale::{recording, telltale};
use monitor_tests::wait;
use monitor_tests::webhook::WebhookReceiver;

/// Clears a terminal, ends a line, closes a string, a label and an element.
const HOSTILE: &str = "\u{1b}[2J\r\n\u{7}\u{9b}31m\"}]'<script>\\\u{202e}";
/// No text at all.
const BYTES: &[u8] = b"\xff\xfe\x80";

/// Nothing that a terminal or a parser would take for a command.
#[track_caller]
fn check_plain(what: &str, text: &str) {
    let raw = |it: &char| (it.is_control() && *it != '\n') || *it == '\u{202e}';
    let found: Vec<char> = text.chars().filter(raw).collect();
    assert!(found.is_empty(), "{what}: {found:?} in {text:?}");
}

#[test]
fn in_every_output() {
    let scene = Scene::new();
    let _servers = scene.serve_https();
    // The folder has the name of the package: what is above it is the attacker's choice.
    let home = scene
        .dir()
        .join(HOSTILE.replace('/', ""))
        .join(OsStr::from_bytes(BYTES));
    let claude = home.join(program::CLAUDE_NATIVE);
    fs::create_dir_all(claude.parent().unwrap()).unwrap();
    fs::copy(binary::standin(), &claude).unwrap();

    let (webhook, syslog) = (
        WebhookReceiver::start(),
        UdpSocket::bind("127.0.0.1:0").unwrap(),
    );
    syslog.set_read_timeout(Some(wait::SOON)).unwrap();
    let config = format!(
        "[policy]\nbanned = [\"claude-code\"]\n[[alerts.webhook]]\nurl = \"{}\"\n\
         [[alerts.syslog]]\naddress = \"udp:{}\"\n",
        webhook.url(),
        syslog.local_addr().unwrap()
    );
    let monitor = scene.telltale().config(&config).record().start();
    let mut command = scene.ns.command("bash");
    // Its name in `comm`, its arguments, and the host it asks for.
    command
        .args(["-c", "exec -a \"$1\" \"$0\" \"${@:2}\""])
        .arg(&claude)
        .arg(HOSTILE);
    command.args(["number", HOSTILE]);
    command.args(["connect", &format!("{SERVER_V4}:443")]);
    let mut process = Running::start("hostile", scene.dir(), command);
    monitor.wait_for_action(process.pid(), "connection-opened");
    process.end(Duration::from_secs(15));
    let body = webhook.wait_for("alert", |body| body.to_string().contains("banned-tool"));

    let mut datagram = [0; 65_536];
    let bytes = syslog.recv(&mut datagram).unwrap();
    check_plain("syslog", &String::from_utf8_lossy(&datagram[..bytes]));
    // It was parsed: what is told is the text as it is.
    assert!(body.to_string().contains("<script>"), "{body}");
    for path in ["/metrics", "/status", "/", "/status?format=json"] {
        let page = monitor.get(path).unwrap().body;
        check_plain(path, &page);
        assert!(!page.contains("<script>\\"), "{path}: {page}");
    }
    let pid = process.pid();
    check_plain("messages", &monitor.process.stderr());
    let events = scene.dir().join("events.ndjson").display().to_string();
    let _ = monitor.stop();
    let log = fs::read_to_string(&events).unwrap();
    check_plain("event log", &log);
    for line in log.lines() {
        let _: serde_json::Value = serde_json::from_str(line).unwrap();
    }
    let recorded = recording(scene.dir()).display().to_string();
    let seen = telltale(scene.dir(), &["replay", &recorded]);
    check_plain("what a person reads", &seen.stdout);
    let why = telltale(
        scene.dir(),
        &["explain", &pid.to_string(), "--events", &events],
    );
    check_plain("explanation", &why.stdout);
    assert!(why.stdout.contains("claude-code"), "{}", why.stdout);
}
