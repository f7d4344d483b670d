//! Answers that somebody else gives in a resolver's place.
//!
//! In: a tool's child that asks its resolver, which is silent, and takes whatever comes; datagrams
//! made by hand, with any sender and id. Out: only the answer that matches the question ties a name
//! to an address; the others are cause for an alert, and for nothing else.

use std::path::Path;
use std::time::Duration;

use monitor_tests::event::Event;
use monitor_tests::netns::RESOLVER;
use monitor_tests::program::{self, Program};
use monitor_tests::running::Running;
use monitor_tests::scene::{SERVER_V4, Scene};
use monitor_tests::telltale::Telltale;

/// A host that Claude Code declares.
const NAME: &str = "api.anthropic.com";

/// Where the question is asked from.
const CLIENT: &str = "203.0.113.1:40053";

const ID: u16 = 0x4711;

/// Asks for the name, takes one datagram, and connects to the server without a word.
const ASK: &str = r#"
import socket, struct, sys
def name(text): return b"".join(bytes([len(it)]) + it.encode() for it in text.split(".")) + b"\0"
host, client, resolver, server, ident = sys.argv[1:]
address, port = client.split(":")
asker = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
asker.bind((address, int(port)))
question = name(host) + struct.pack(">HH", 1, 1)
asker.sendto(struct.pack(">HHHHHH", int(ident), 0x100, 1, 0, 0, 0) + question, (resolver, 53))
print("asked", flush=True)
asker.settimeout(20)
asker.recvfrom(4096)
socket.create_connection((server, 443)).close()
"#;

/// Sends an answer with this sender, id and name.
const FORGE: &str = r#"
import socket, struct, sys
def name(text): return b"".join(bytes([len(it)]) + it.encode() for it in text.split(".")) + b"\0"
host, client, sender, server, ident = sys.argv[1:]
address, port = client.split(":")
source, source_port = sender.split(":")
answer = struct.pack(">HHHHHH", int(ident), 0x8180, 1, 1, 0, 0) + name(host) + struct.pack(">HH", 1, 1)
answer += b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 600, 4) + socket.inet_aton(server)
udp = struct.pack(">HHHH", int(source_port), int(port), 8 + len(answer), 0) + answer
ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0,
                 socket.inet_aton(source), socket.inet_aton(address))
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
raw.sendto(ip + udp, (address, 0))
"#;

/// One forged answer, and what is thought of the connection that follows it.
struct Stage {
    scene: Scene,
    claude: Program,
}

impl Stage {
    fn new() -> Stage {
        let scene = Scene::alone();
        scene.dns.silence(NAME);
        for (file, text) in [("ask.py", ASK), ("forge.py", FORGE)] {
            std::fs::write(scene.dir().join(file), text).unwrap();
        }
        let claude = Program::native(scene.dir(), program::CLAUDE_NATIVE);
        Stage { scene, claude }
    }

    fn file(&self, name: &str) -> String {
        let path: &Path = &self.scene.dir().join(name);
        path.display().to_string()
    }

    /// The child asks for the name, an answer with these comes, and the child connects.
    fn answer(&self, sender: &str, id: u16, name: &str) {
        let asked = ID.to_string();
        let ask = self.file("ask.py");
        let words = ["run", "python3", &ask, NAME, CLIENT, RESOLVER, SERVER_V4];
        let words = [&words[..], &[&asked]].concat();
        let mut asker = self.scene.start(&self.claude, &words);
        asker.wait_for_output("asked");
        let mut command = self.scene.ns.command("python3");
        let id = id.to_string();
        let forge = self.file("forge.py");
        command.args([&forge, name, CLIENT, sender, SERVER_V4, &id]);
        let life = Duration::from_secs(20);
        Running::start("forger", self.scene.dir(), command).succeed(life);
        asker.succeed(life);
    }
}

/// The child's connection, which is told when it ends.
#[track_caller]
fn opened(telltale: &Telltale<'_>) -> Event {
    telltale.wait_for("connection to the server", |event: &Event| {
        event.action() == "connection-opened" && event.text("destination.ip") == SERVER_V4
    })
}

#[track_caller]
fn check(sender: &str, id: u16, name: &str, outcome: &str, alerts: bool) {
    let stage = Stage::new();
    let _servers = stage.scene.serve_https();
    let telltale = stage.scene.telltale().start();
    stage.answer(sender, id, name);
    let event = opened(&telltale);
    event.expect(&[
        ("telltale.tool.id", "claude-code"),
        ("telltale.verdict", "unknown"),
        ("destination.domain", "null"),
    ]);
    if !outcome.is_empty() {
        let seen = telltale
            .metrics()
            .get("telltale_dns_messages_total", &[("outcome", outcome)]);
        assert!(seen >= 1.0, "no {outcome}");
    }
    if alerts {
        let alert = telltale.wait_for("name-conflict", |event: &Event| {
            event.action() == "alert" && event.text("rule.name") == "name-conflict"
        });
        let whole = alert.get("telltale").to_string();
        assert!(whole.contains(NAME), "no {NAME} in {whole}");
    }
    let events = telltale.stop();
    let is_conflict = |event: &&Event| event.text("rule.name") == "name-conflict";
    assert_eq!(events.iter().any(|event| is_conflict(&event)), alerts);
}

#[test]
fn with_another_id() {
    let resolver = format!("{RESOLVER}:53");
    check(&resolver, ID + 1, NAME, "forged", true);
}

#[test]
fn from_another_server() {
    check("203.0.113.66:53", ID, NAME, "forged", true);
}

/// Nothing but a resolver's ports is looked at.
#[test]
fn from_another_port() {
    check(&format!("{RESOLVER}:5353"), ID, NAME, "", false);
}

/// To a question that nobody asked.
#[test]
fn unasked() {
    let resolver = format!("{RESOLVER}:53");
    check(&resolver, ID, "claude.ai", "unsolicited", false);
}

/// By this the others can fail: the same datagram, with all as it was asked.
#[test]
fn the_answer_that_matches_is_believed() {
    let stage = Stage::new();
    let _servers = stage.scene.serve_https();
    let telltale = stage.scene.telltale().start();
    stage.answer(&format!("{RESOLVER}:53"), ID, NAME);
    opened(&telltale).expect(&[
        ("destination.domain", NAME),
        ("telltale.name.source", "dns-own"),
        ("telltale.verdict", "expected"),
        ("dns.question.name", NAME),
    ]);
}
