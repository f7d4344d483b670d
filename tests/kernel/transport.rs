//! Every way to reach a remote is seen, and so is how it went.
//!
//! In: TCP, UDP, IPv4, IPv6 and IPv4 in IPv6 sockets. Out: transport, type, address, outcome.

use monitor_tests::event::Event;
use monitor_tests::program::{self, Program};
use monitor_tests::scene::Scene;
use monitor_tests::tcp::udp_sink;

/// Claude Code does as `words` say; what is said of it in events with `action`?
#[track_caller]
fn check(words: &[&str], action: &str, expect: &[(&str, &str)]) -> Event {
    let scene = Scene::new();
    let _servers = scene.serve_https();
    let _sinks = ["203.0.113.10:4433", "[2001:db8::10]:4433"].map(|at| udp_sink(&scene.ns, at));
    let claude = Program::native(scene.dir(), program::CLAUDE_NATIVE);
    let telltale = scene.telltale().start();
    let pid = scene.run(&claude, words);
    let event = telltale.wait_for_action(pid, action);
    event.expect(expect);
    event
}

#[test]
fn tcp_over_ipv4() {
    check(
        &["connect", "203.0.113.10:443"],
        "connection-opened",
        &[
            ("destination.ip", "203.0.113.10"),
            ("network.transport", "tcp"),
            ("network.type", "ipv4"),
        ],
    );
}

#[test]
fn tcp_over_ipv6() {
    check(
        &["connect", "[2001:db8::10]:443"],
        "connection-opened",
        &[
            ("destination.ip", "2001:db8::10"),
            ("network.transport", "tcp"),
            ("network.type", "ipv6"),
        ],
    );
}

/// An IPv6 socket to `::ffff:a.b.c.d` speaks IPv4.
#[test]
fn tcp_over_ipv4_from_an_ipv6_socket() {
    check(
        &["connect", "[::ffff:203.0.113.10]:443"],
        "connection-opened",
        &[("destination.ip", "203.0.113.10"), ("network.type", "ipv4")],
    );
}

#[test]
fn a_datagram_with_an_address() {
    check(
        &["datagram", "203.0.113.10:4433"],
        "connection-opened",
        &[
            ("destination.ip", "203.0.113.10"),
            ("destination.port", "4433"),
            ("network.transport", "udp"),
            ("network.type", "ipv4"),
        ],
    );
    check(
        &["datagram", "[2001:db8::10]:4433"],
        "connection-opened",
        &[
            ("destination.ip", "2001:db8::10"),
            ("network.transport", "udp"),
        ],
    );
}

#[test]
fn a_connected_datagram_socket() {
    check(
        &["udp-connect", "203.0.113.10:4433"],
        "connection-opened",
        &[("destination.port", "4433"), ("network.transport", "udp")],
    );
    check(
        &["udp-connect", "[2001:db8::10]:4433"],
        "connection-opened",
        &[
            ("destination.ip", "2001:db8::10"),
            ("network.transport", "udp"),
        ],
    );
}

#[test]
fn a_connection_that_is_refused() {
    check(
        &["connect-fails", "203.0.113.10:444"],
        "connection-failed",
        &[("destination.port", "444"), ("event.outcome", "failure")],
    );
}

#[test]
fn a_connection_that_ends() {
    let closed = check(
        &["connect", "203.0.113.10:443"],
        "connection-closed",
        &[
            ("destination.ip", "203.0.113.10"),
            ("event.outcome", "success"),
        ],
    );
    assert!(
        closed
            .get("event.duration")
            .as_u64()
            .is_some_and(|ns| ns > 0),
        "{closed:?}"
    );
    // The stand-in says "hello\n".
    assert_eq!(closed.get("source.bytes").as_u64(), Some(6), "{closed:?}");
}
