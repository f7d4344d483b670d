//! Names that systemd-resolved answers without a packet (`nss-resolve`).
//!
//! In: a real systemd-resolved, getent and Python beside it. Out: the name of each flow, from
//! `resolved`; and what the monitor says when the daemon goes and comes.

use std::time::Duration;

use monitor_tests::event::Event;
use monitor_tests::metrics::Metrics;
use monitor_tests::netns::RESOLVER;
use monitor_tests::resolved::SystemdResolved;
use monitor_tests::running::Running;
use monitor_tests::scene::Scene;
use monitor_tests::telltale::Telltale;

use crate::stage::Stage;

const STATE: &str = "telltale_resolved_state";

/// A client's whole life.
const LIFE: Duration = Duration::from_secs(30);

fn run(scene: &Scene, resolved: &SystemdResolved<'_>, words: &[&str]) -> Running {
    let mut command = resolved.command(words[0]);
    command.args(&words[1..]);
    let mut client = Running::start(words[0], scene.dir(), command);
    client.end(LIFE);
    client
}

fn wait_for_state(telltale: &Telltale<'_>, state: &str) {
    telltale.wait_long_for_metrics(state, Duration::from_secs(15), |metrics| {
        metrics.get(STATE, &[("state", state)]) == 1.0
    });
}

/// Connects by name; glibc asks as nsswitch.conf says.
fn connecting_to(name: &str) -> String {
    format!("import socket; socket.create_connection(('{name}', 443))")
}

/// Asks the stub of systemd-resolved over DNS, as programs without glibc do, and connects to the
/// one address that it answers.
fn asking_the_stub(name: &str) -> String {
    format!(
        "import socket
labels = b''.join(bytes([len(label)]) + label.encode() for label in '{name}'.split('.'))
stub = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
stub.connect(('127.0.0.53', 53))
stub.send(bytes.fromhex('123401000001000000000000') + labels + bytes.fromhex('0000010001'))
socket.create_connection((socket.inet_ntoa(stub.recv(512)[-4:]), 443))
"
    )
}

#[test]
fn who_asks_systemd_resolved_has_its_names() {
    const SERVER: &str = "203.0.113.41";
    const OTHER: &str = "203.0.113.42";
    const THIRD: &str = "203.0.113.46";
    let scene = Scene::new();
    scene.dns.answer("a.telltale.example", &[SERVER]);
    scene.dns.answer("b.telltale.example", &[OTHER]);
    scene.dns.answer("d.telltale.example", &[THIRD]);
    let resolved = SystemdResolved::start(&scene);
    let socket = resolved.socket().display().to_string();
    let stage = Stage::with(&scene, SERVER, |options| {
        options.args(&["--resolved", &socket])
    });
    let _others = [OTHER, THIRD].map(|address| scene.serve(&format!("{address}:443")));
    wait_for_state(&stage.telltale, "connected");

    // Python asks and connects itself.
    let python = ["python3", "-c", &connecting_to("a.telltale.example")];
    let client = run(&scene, &resolved, &python);
    let expect = [
        ("destination.domain", "a.telltale.example"),
        ("telltale.name.source", "resolved"),
    ];
    stage.expect(client.pid(), SERVER, &expect);
    let asked = |event: &Event| {
        event.pid() == Some(client.pid()) && event.text("destination.ip") == RESOLVER
    };
    assert!(
        !stage.telltale.events().iter().any(asked),
        "it sent a query"
    );

    // getent asks; somebody else, who says nothing, connects to what it was told.
    let getent = run(
        &scene,
        &resolved,
        &["getent", "hosts", "b.telltale.example"],
    );
    assert!(getent.stdout().contains(OTHER), "{}", getent.describe());
    let silent = run(&scene, &resolved, &["python3", "-c", &connecting_to(OTHER)]);
    let expect = [
        ("destination.domain", "b.telltale.example"),
        ("telltale.name.source", "resolved"),
    ];
    stage.expect(silent.pid(), OTHER, &expect);

    // Over DNS it is the asker's own name.
    let python = ["python3", "-c", &asking_the_stub("d.telltale.example")];
    let client = run(&scene, &resolved, &python);
    let expect = [
        ("destination.domain", "d.telltale.example"),
        ("telltale.name.source", "dns-own"),
    ];
    stage.expect(client.pid(), THIRD, &expect);

    let told = |metrics: &Metrics, outcome| {
        metrics.get("telltale_resolved_messages_total", &[("outcome", outcome)])
    };
    stage
        .telltale
        .wait_for_metrics("two answers", |metrics| told(metrics, "answer") >= 2.0);
    let metrics = stage.telltale.metrics();
    assert_eq!(
        (told(&metrics, "malformed"), told(&metrics, "oversized")),
        (0.0, 0.0)
    );

    resolved.stop();
    wait_for_state(&stage.telltale, "absent");
}

#[test]
fn a_daemon_that_comes_late_is_found() {
    const SERVER: &str = "203.0.113.43";
    let scene = Scene::new();
    scene.dns.answer("c.telltale.example", &[SERVER]);
    let socket = scene.dir().join("resolve/io.systemd.Resolve.Monitor");
    let socket = socket.display().to_string();
    let stage = Stage::with(&scene, SERVER, |options| {
        options.args(&["--resolved", &socket])
    });
    wait_for_state(&stage.telltale, "absent");
    let resolved = SystemdResolved::start(&scene);
    wait_for_state(&stage.telltale, "connected");
    let python = ["python3", "-c", &connecting_to("c.telltale.example")];
    let client = run(&scene, &resolved, &python);
    let expect = [
        ("destination.domain", "c.telltale.example"),
        ("telltale.name.source", "resolved"),
    ];
    stage.expect(client.pid(), SERVER, &expect);
}
