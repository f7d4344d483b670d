//! A DNS server for one namespace: it answers from a table, over UDP and TCP.
//!
//! In: names and addresses, or aliases. Out: real DNS messages, and the list of what was asked.
//!
//! Deliberately written without the library that the product parses DNS with, so that the two
//! cannot share a misunderstanding.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::netns::{NetNs, RESOLVER};

/// Seconds an answer may be kept.
const TTL: u32 = 60;
/// How soon the server notices that it is to stop.
const POLL: Duration = Duration::from_millis(50);
/// Aliases followed at most.
const CHAIN_MAX: usize = 8;
/// Length of the DNS header.
const HEADER: usize = 12;

const TYPE_A: u16 = 1;
const TYPE_CNAME: u16 = 5;
const TYPE_AAAA: u16 = 28;
const CLASS_IN: u16 = 1;
/// A response, recursion desired and available.
const FLAGS_ANSWER: u16 = 0x8180;
const RCODE_NO_SUCH_NAME: u16 = 3;
/// There is more than a datagram holds.
const FLAG_TRUNCATED: u16 = 0x0200;

/// A running DNS server; stops when dropped.
#[derive(Debug)]
pub struct DnsServer {
    zone: Arc<Mutex<Zone>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Zone {
    addresses: BTreeMap<String, Vec<IpAddr>>,
    aliases: BTreeMap<String, String>,
    asked: Vec<String>,
    truncates: bool,
    silent: BTreeSet<String>,
}

/// How a query came.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Over {
    Udp,
    Tcp,
}

impl DnsServer {
    /// Starts a server on the namespace's resolver address.
    ///
    /// # Panics
    ///
    /// If the address is taken.
    #[must_use]
    pub fn start(ns: &NetNs) -> DnsServer {
        let socket = ns.enter(|| UdpSocket::bind((RESOLVER, 53)).expect("DNS socket"));
        socket.set_read_timeout(Some(POLL)).expect("read timeout");
        let listener = ns.enter(|| TcpListener::bind((RESOLVER, 53)).expect("DNS listener"));
        listener.set_nonblocking(true).expect("a listener to poll");
        let (zone, stop) = (
            Arc::new(Mutex::new(Zone::default())),
            Arc::new(AtomicBool::new(false)),
        );
        let (served, stopped) = (Arc::clone(&zone), Arc::clone(&stop));
        let udp = thread::spawn(move || serve(&socket, &served, &stopped));
        let (served, stopped) = (Arc::clone(&zone), Arc::clone(&stop));
        let tcp = thread::spawn(move || serve_tcp(&listener, &served, &stopped));
        DnsServer {
            zone,
            stop,
            threads: vec![udp, tcp],
        }
    }

    /// From now on `name` has these addresses.
    ///
    /// # Panics
    ///
    /// If the server has.
    pub fn answer(&self, name: &str, addresses: &[&str]) {
        let parse = |address: &&str| address.parse().expect("an IP address");
        let addresses = addresses.iter().map(parse).collect();
        self.zone
            .lock()
            .expect("zone")
            .addresses
            .insert(name.to_owned(), addresses);
    }

    /// From now on `name` is an alias (CNAME) of `target`.
    ///
    /// # Panics
    ///
    /// If the server has.
    pub fn alias(&self, name: &str, target: &str) {
        self.zone
            .lock()
            .expect("zone")
            .aliases
            .insert(name.to_owned(), target.to_owned());
    }

    /// From now on answers over UDP hold no records, and say so.
    ///
    /// # Panics
    ///
    /// If the server has.
    pub fn truncate(&self) {
        self.zone.lock().expect("zone").truncates = true;
    }

    /// From now on questions about `name` stay without an answer.
    ///
    /// # Panics
    ///
    /// If the server has.
    pub fn silence(&self, name: &str) {
        self.zone
            .lock()
            .expect("zone")
            .silent
            .insert(name.to_owned());
    }

    /// The names asked for so far, one entry per query.
    ///
    /// # Panics
    ///
    /// If the server has.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        self.zone.lock().expect("zone").asked.clone()
    }
}

impl Drop for DnsServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn serve(socket: &UdpSocket, zone: &Mutex<Zone>, stop: &AtomicBool) {
    let mut buffer = [0; 1500];
    while !stop.load(Ordering::Relaxed) {
        let Ok((length, client)) = socket.recv_from(&mut buffer) else {
            continue;
        };
        let reply = buffer
            .get(..length)
            .and_then(|query| zone.lock().ok()?.reply(query, Over::Udp));
        if let Some(reply) = reply {
            let _ = socket.send_to(&reply, client);
        }
    }
}

fn serve_tcp(listener: &TcpListener, zone: &Mutex<Zone>, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((client, _)) => drop(serve_client(client, zone)),
            Err(_) => thread::sleep(POLL),
        }
    }
}

/// Answers queries, one client at a time, until it ends or says nothing.
fn serve_client(mut client: TcpStream, zone: &Mutex<Zone>) -> std::io::Result<()> {
    client.set_nonblocking(false)?;
    client.set_read_timeout(Some(Duration::from_secs(1)))?;
    loop {
        let mut length = [0; 2];
        client.read_exact(&mut length)?;
        let mut query = vec![0; u16::from_be_bytes(length).into()];
        client.read_exact(&mut query)?;
        let reply = zone
            .lock()
            .ok()
            .and_then(|mut zone| zone.reply(&query, Over::Tcp));
        let Some(reply) = reply else {
            return Ok(());
        };
        let length = u16::try_from(reply.len()).unwrap_or_default();
        client.write_all(&[&length.to_be_bytes(), &reply[..]].concat())?;
    }
}

impl Zone {
    /// Answers one query; `None` if it is none.
    fn reply(&mut self, query: &[u8], over: Over) -> Option<Vec<u8>> {
        let (name, end) = read_name(query)?;
        let question = query.get(HEADER..end + 4)?;
        let kind = u16::from_be_bytes([*query.get(end)?, *query.get(end + 1)?]);
        self.asked.push(name.clone());
        if self.silent.contains(&name) {
            return None;
        }
        let (mut records, known) = self.records(&name, kind);
        let rcode = if known { 0 } else { RCODE_NO_SUCH_NAME };
        let truncated = match over {
            Over::Udp if self.truncates => FLAG_TRUNCATED,
            Over::Udp | Over::Tcp => 0,
        };
        if truncated != 0 {
            records.clear();
        }
        let count = u16::try_from(records.len()).ok()?;

        let mut reply = query.get(..2)?.to_vec();
        for field in [FLAGS_ANSWER | truncated | rcode, 1, count, 0, 0] {
            reply.extend(field.to_be_bytes());
        }
        reply.extend(question);
        for (owner, kind, data) in records {
            write_name(&mut reply, &owner);
            reply.extend(kind.to_be_bytes());
            reply.extend(CLASS_IN.to_be_bytes());
            reply.extend(TTL.to_be_bytes());
            reply.extend(u16::try_from(data.len()).ok()?.to_be_bytes());
            reply.extend(data);
        }
        Some(reply)
    }

    /// The records (owner, type, data) for a question, aliases first; and whether the name exists.
    fn records(&self, name: &str, kind: u16) -> (Vec<(String, u16, Vec<u8>)>, bool) {
        let mut records = Vec::new();
        let mut owner = name.to_owned();
        while let Some(target) = self
            .aliases
            .get(&owner)
            .filter(|_| records.len() < CHAIN_MAX)
        {
            let mut data = Vec::new();
            write_name(&mut data, target);
            records.push((owner.clone(), TYPE_CNAME, data));
            owner.clone_from(target);
        }
        let known = self.addresses.get(&owner);
        for address in known.into_iter().flatten() {
            match address {
                IpAddr::V4(v4) if kind == TYPE_A => {
                    records.push((owner.clone(), TYPE_A, v4.octets().to_vec()));
                }
                IpAddr::V6(v6) if kind == TYPE_AAAA => {
                    records.push((owner.clone(), TYPE_AAAA, v6.octets().to_vec()));
                }
                IpAddr::V4(_) | IpAddr::V6(_) => {}
            }
        }
        (records, known.is_some())
    }
}

/// The first question's name in lower case, and the offset after it.
fn read_name(message: &[u8]) -> Option<(String, usize)> {
    let (mut labels, mut at) = (Vec::new(), HEADER);
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        if length == 0 {
            return Some((labels.join("."), at));
        }
        let label = message.get(at..at + length)?;
        labels.push(String::from_utf8_lossy(label).to_ascii_lowercase());
        at += length;
    }
}

fn write_name(message: &mut Vec<u8>, name: &str) {
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).expect("a label of at most 63 bytes"));
        message.extend(label.as_bytes());
    }
    message.push(0);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks the system's own stub resolver, from inside a namespace with this zone.
    #[track_caller]
    fn check(fill: impl Fn(&DnsServer), database: &str, name: &str, expect: &str) {
        let ns = NetNs::new();
        let dns = DnsServer::start(&ns);
        fill(&dns);
        let output = ns
            .command("getent")
            .args([database, name])
            .output()
            .unwrap();
        let stdout = String::from_utf8_lossy(&output.stdout);
        let addresses = stdout
            .lines()
            .filter_map(|line| line.split_whitespace().next());
        assert_eq!(addresses.collect::<Vec<_>>().join(" "), expect);
        assert!(dns.asked().contains(&name.to_owned()));
    }

    #[test]
    fn answers_over_ipv4_and_ipv6_with_aliases() {
        check(
            |dns| dns.answer("a.example", &["203.0.113.10"]),
            "ahostsv4",
            "a.example",
            "203.0.113.10 203.0.113.10 203.0.113.10",
        );
        check(
            |dns| dns.answer("b.example", &["2001:db8::10"]),
            "hosts",
            "b.example",
            "2001:db8::10",
        );
        check(
            |dns| {
                dns.alias("c.example", "edge.example");
                dns.answer("edge.example", &["2001:db8::11"]);
            },
            "hosts",
            "c.example",
            "2001:db8::11",
        );
        check(|_| {}, "hosts", "none.example", "");
        let over_tcp = |dns: &DnsServer| {
            dns.answer("d.example", &["2001:db8::12"]);
            dns.truncate();
        };
        check(over_tcp, "hosts", "d.example", "2001:db8::12");
    }
}
