//! Telltale itself opens no connection and asks no resolver, unless the operator gave it a sink.
//!
//! In: a monitor in a network namespace of its own, with alerts firing. Out: the kernel's own
//! counters of that namespace, and the queries that its resolver got.
//!
//! The evidence is not the product's: `/proc/net` of the namespace counts every connection
//! attempt and every datagram of everyone in it. A second test proves that it would tell.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests report failure by panicking, in their helpers too"
)]

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use monitor_tests::dns::DnsServer;
use monitor_tests::netns::NetNs;
use monitor_tests::program::{self, Program};
use monitor_tests::scene::{SERVER_V4, Scene, temp_dir};
use monitor_tests::telltale::Telltale;
use monitor_tests::webhook::WebhookReceiver;

/// Long enough for sweeps, gauges and whatever else a monitor does by itself.
const WATCHED: Duration = Duration::from_secs(5);

const BANNED: &str = "[policy]\nbanned = [\"claude-code\"]\n";

/// Traffic that a namespace has originated so far.
#[derive(Debug, PartialEq)]
struct Traffic {
    connects: u64,
    datagrams: u64,
    names_asked: usize,
}

/// A monitor in a namespace in which nobody else talks, except the test to it.
struct Quiet {
    ns: NetNs,
    dns: DnsServer,
}

impl Quiet {
    fn new() -> Quiet {
        let ns = NetNs::new();
        let dns = DnsServer::start(&ns);
        Quiet { ns, dns }
    }

    fn traffic(&self) -> Traffic {
        let counters = self.ns.enter(|| {
            // The thread's own: /proc/net belongs to the process's first thread.
            let read = |file| fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap();
            let mut counters = pairs(&read("snmp"));
            counters.extend(read("snmp6").lines().filter_map(|line| {
                let (name, value) = line.split_once(char::is_whitespace)?;
                Some((name.to_owned(), value.trim().parse().ok()?))
            }));
            counters
        });
        Traffic {
            connects: counters["Tcp.ActiveOpens"],
            datagrams: counters["Udp.OutDatagrams"] + counters["Udp6OutDatagrams"],
            names_asked: self.dns.asked().len(),
        }
    }
}

/// `/proc/net/snmp`: a line of names, then a line of values, each with its protocol in front.
fn pairs(text: &str) -> BTreeMap<String, u64> {
    let lines: Vec<&str> = text.lines().collect();
    let mut counters = BTreeMap::new();
    for pair in lines.chunks_exact(2) {
        let (protocol, names) = pair[0].split_once(':').unwrap();
        let (_, values) = pair[1].split_once(':').unwrap();
        let values = values
            .split_whitespace()
            .map(|value| value.parse().unwrap_or_default());
        for (name, value) in names.split_whitespace().zip(values) {
            counters.insert(format!("{protocol}.{name}"), value);
        }
    }
    counters
}

/// A banned tool runs and connects elsewhere on the host, so that there is much to tell.
fn make_it_talk(scene: &Scene, telltale: &Telltale<'_>) {
    let _servers = scene.serve_https();
    scene.dns.answer("api.anthropic.com", &[SERVER_V4]);
    let claude = Program::native(scene.dir(), program::CLAUDE_NATIVE);
    let pid = scene.run(&claude, &["connect", "api.anthropic.com:443"]);
    telltale
        .wait_for_action(pid, "connection-opened")
        .expect(&[("telltale.verdict", "denied")]);
}

#[test]
fn without_a_sink_it_says_nothing_to_anyone() {
    let (scene, quiet) = (Scene::new(), Quiet::new());
    let telltale = scene.telltale().config(BANNED).inside(&quiet.ns).start();
    // Up to here the test has asked whether it is ready, an unknown number of times.
    let before = quiet.traffic();
    make_it_talk(&scene, &telltale);
    thread::sleep(WATCHED);
    assert_eq!(quiet.traffic(), before);
    telltale.stop();
    assert_eq!(quiet.traffic(), before, "also while it stops");
}

/// From its first moment: nothing but the test's own questions.
#[test]
fn its_start_is_as_quiet() {
    let (scene, quiet) = (Scene::new(), Quiet::new());
    let telltale = scene.telltale().config(BANNED).inside(&quiet.ns).start();
    let traffic = quiet.traffic();
    assert_eq!((traffic.datagrams, traffic.names_asked), (0, 0));
    assert_eq!(traffic.connects, telltale.questions());
}

/// The same watch sees a sink: the name that is asked for, and the connection.
#[test]
fn with_a_sink_the_watch_sees_it() {
    let (scene, quiet) = (Scene::new(), Quiet::new());
    quiet.dns.answer("hooks.example", &[SERVER_V4]);
    let listener = quiet
        .ns
        .enter(|| TcpListener::bind((SERVER_V4, 8080)).unwrap());
    let receiver = WebhookReceiver::on(listener);
    let config = format!("{BANNED}\n[[alerts.webhook]]\nurl = \"http://hooks.example:8080/\"\n");
    let telltale = scene.telltale().config(&config).inside(&quiet.ns).start();
    let before = quiet.traffic();
    make_it_talk(&scene, &telltale);
    receiver.wait_for("alert", |body| body["rule"] == "banned-tool");
    let after = quiet.traffic();
    assert!(after.connects > before.connects, "{before:?} {after:?}");
    assert!(after.datagrams > before.datagrams, "{before:?} {after:?}");
    assert!(quiet.dns.asked().contains(&"hooks.example".to_owned()));
}

/// The counters count: over IPv4 and IPv6, TCP and UDP, and each name that is asked for.
#[test]
fn the_watch_sees_every_kind_of_traffic() {
    let quiet = Quiet::new();
    let dir = temp_dir();
    let tool = Program::native(dir.path(), "bin/tool");
    let play = |words: &[&str]| {
        let before = quiet.traffic();
        let argv = tool.argv(words);
        let output = quiet
            .ns
            .command(&argv[0])
            .args(&argv[1..])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let after = quiet.traffic();
        (
            after.connects - before.connects,
            after.datagrams - before.datagrams,
            after.names_asked - before.names_asked,
        )
    };
    // Nobody listens: an attempt counts as well.
    assert_eq!(play(&["connect-fails", "203.0.113.10:443"]), (1, 0, 0));
    assert_eq!(play(&["connect-fails", "[2001:db8::10]:443"]), (1, 0, 0));
    assert_eq!(play(&["datagram", "203.0.113.10:53"]), (0, 1, 0));
    assert_eq!(play(&["datagram", "[2001:db8::10]:53"]), (0, 1, 0));
    // A question for each family, and an answer to each, from the same namespace.
    assert_eq!(play(&["connect-fails", "none.example:443"]), (0, 4, 2));
}
