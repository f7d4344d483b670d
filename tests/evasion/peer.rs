//! The other end of the wire, driven by the runner: what really left the host.
//!
//! In: a namespace. Out: [`Wire`]: every packet that arrived there, by destination.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::IpAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::network::Namespace;

/// Where a packet went: protocol number, address, port (0 where there is none).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Destination {
    /// IANA's number of the protocol.
    pub protocol: u8,
    /// Destination address in the packet.
    pub address: IpAddr,
    /// Destination port.
    pub port: u16,
}

/// Payload that the peer's sockets counted for one of its addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bytes {
    /// What the host's side sent.
    pub received: u64,
    /// What the peer sent.
    pub sent: u64,
}

/// All that the peer has seen so far.
#[derive(Clone, Debug, Default)]
pub struct Wire {
    /// Number of packets by destination.
    pub packets: BTreeMap<Destination, u64>,
    /// Payload by address.
    pub bytes: BTreeMap<IpAddr, Bytes>,
}

impl Wire {
    /// The destinations at one of these addresses.
    pub fn to<'a>(&'a self, addresses: &'a [IpAddr]) -> impl Iterator<Item = Destination> + 'a {
        let destinations = self.packets.keys();
        destinations
            .filter(|it| addresses.contains(&it.address))
            .copied()
    }
}

/// The running peer; killed when dropped.
pub struct Peer {
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Peer {
    /// Starts `evade peer` in the namespace and waits until it listens.
    pub fn start(namespace: &Namespace, evade: &Path) -> Peer {
        let mut command = Command::new(evade);
        command
            .arg("peer")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = namespace.enter(|| command.spawn().expect("evade peer starts"));
        let commands = child.stdin.take().expect("a pipe");
        let answers = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut peer = Peer {
            child,
            commands,
            answers,
        };
        assert_eq!(peer.line(), "ready");
        peer
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("the peer's pipe");
        assert!(!line.is_empty(), "the peer has ended");
        line.trim_end().to_owned()
    }

    fn ask(&mut self, command: &str) -> Vec<String> {
        writeln!(self.commands, "{command}").expect("the peer's pipe");
        let mut lines = Vec::new();
        loop {
            match self.line() {
                end if end == "end" => return lines,
                line => lines.push(line),
            }
        }
    }

    /// Connects from one of its addresses to the host, and reads to the end.
    pub fn call(&mut self, from: IpAddr, to: &str) {
        self.ask(&format!("call {from}:0 {to}"));
    }

    /// Sends an echo request from one of its addresses to the host.
    pub fn ping(&mut self, from: IpAddr, to: &str) {
        self.ask(&format!("ping {from}:0 {to}:0"));
    }

    /// What it has seen so far.
    pub fn report(&mut self) -> Wire {
        let mut wire = Wire::default();
        for line in self.ask("report") {
            let words: Vec<&str> = line.split(' ').collect();
            add(&mut wire, &words).unwrap_or_else(|| panic!("not a line of a report: {line}"));
        }
        wire
    }
}

fn add(wire: &mut Wire, words: &[&str]) -> Option<()> {
    match words {
        ["packet", protocol, address, port, packets, _] => {
            let destination = Destination {
                protocol: protocol.parse().ok()?,
                address: address.parse().ok()?,
                port: port.parse().ok()?,
            };
            wire.packets.insert(destination, packets.parse().ok()?);
        }
        ["stream" | "datagrams", address, received, sent] => {
            let bytes = wire.bytes.entry(address.parse().ok()?).or_default();
            bytes.received += received.parse::<u64>().ok()?;
            bytes.sent += sent.parse::<u64>().ok()?;
        }
        _ => return None,
    }
    Some(())
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
