//! What real clients say first, read by Telltale and by others.
//!
//! In: curl, OpenSSL, Node.js, Python, dig and two libraries, on loopback. Out: the names that
//! each meant, and no difference to what a TLS server reads.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests report failure by panicking, in their helpers too"
)]

use monitor_tests::clients::{self, NAME, Spoken};
use rustls::server::Acceptor;
use telltale::core::wire::dns::{self, Message};
use telltale::core::wire::dns_stream::DnsStream;
use telltale::core::wire::found::{Found, ProxyProtocol, QuicVersion};
use telltale::core::wire::opening::TcpOpening;
use telltale::core::wire::quic::QuicOpening;
use telltale::core::wire::tls::ClientHello;
use telltale::core::wire::{Host, HostName, NameInvalid};

/// What an MTU of 1280 leaves.
const SEGMENT_BYTES: usize = 1220;

/// What there is in the bytes of one TCP client, in segments as short as IPv6 may ask for.
fn read(bytes: &[u8]) -> Vec<Found> {
    let mut opening = TcpOpening::default();
    let segments = (0..)
        .step_by(SEGMENT_BYTES)
        .zip(bytes.chunks(SEGMENT_BYTES));
    segments
        .flat_map(|(at, part)| opening.segment(at, part))
        .collect()
}

fn hello(found: &[Found]) -> &ClientHello {
    match found.last() {
        Some(Found::Tls(hello) | Found::Quic(_, hello)) => hello,
        other => panic!("no hello: {other:?}"),
    }
}

fn name(hello: &ClientHello) -> Option<&str> {
    hello
        .server_name
        .as_ref()
        .map(|name| name.as_ref().unwrap().as_str())
}

fn alpn(hello: &ClientHello) -> Vec<&str> {
    hello.alpn.iter().map(|it| it.name()).collect()
}

/// Server name and protocols as a TLS server of another author reads them.
fn read_by_rustls(bytes: &[u8]) -> Option<(Option<String>, Vec<String>)> {
    let mut acceptor = Acceptor::default();
    acceptor.read_tls(&mut &*bytes).ok()?;
    let accepted = acceptor.accept().ok()??;
    let hello = accepted.client_hello();
    let text = |protocol: &[u8]| String::from_utf8_lossy(protocol).into_owned();
    let alpn = hello.alpn().map(|protocols| protocols.map(text).collect());
    Some((
        hello.server_name().map(str::to_owned),
        alpn.unwrap_or_default(),
    ))
}

#[test]
fn tls_clients_are_read_as_a_server_reads_them() {
    let mut sizes = Vec::new();
    for Spoken {
        label,
        parts,
        alpn: meant,
    } in clients::tls()
    {
        let bytes = parts.concat();
        let found = read(&bytes);
        let ours = hello(&found);
        let expect = (label != "openssl-nameless").then_some(NAME);
        assert_eq!((name(ours), &alpn(ours)[..]), (expect, meant), "{label}");
        let theirs = read_by_rustls(&bytes);
        let ours = (
            expect.map(str::to_owned),
            meant.iter().map(|it| it.to_string()).collect(),
        );
        assert_eq!(theirs, Some(ours), "{label}");
        sizes.push(bytes.len());
    }
    // One of them needs a second segment.
    assert!(sizes.iter().any(|&size| size > SEGMENT_BYTES), "{sizes:?}");
}

#[test]
fn proxies_are_seen_through() {
    for spoken in clients::through_proxies() {
        let found = read(&spoken.parts.concat());
        let by = match spoken.label {
            "forward" => Some(ProxyProtocol::HttpForward),
            "connect" => Some(ProxyProtocol::HttpConnect),
            label if label.starts_with("socks5") => Some(ProxyProtocol::Socks5),
            label if label.starts_with("socks4") => Some(ProxyProtocol::Socks4),
            _ => None,
        };
        let target = match found.first() {
            Some(Found::Http(target)) if by.is_none() => target.clone().unwrap(),
            Some(Found::Proxied(found_by, target)) if by == Some(*found_by) => target.clone(),
            other => panic!("{}: {other:?}", spoken.label),
        };
        let address = matches!(spoken.label, "socks5-address" | "socks4");
        let host = if address { "192.0.2.1" } else { NAME };
        assert_eq!(
            target.unwrap().host,
            Host::from_text(host.as_bytes()).unwrap()
        );
        if matches!(spoken.label, "plain" | "forward") {
            assert_eq!(found.len(), 1, "{found:?}");
        } else {
            assert_eq!(name(hello(&found)), (!address).then_some(NAME));
        }
        assert!(!format!("{found:?}").contains("secret"));
    }
}

#[test]
fn quic_clients_are_read() {
    for Spoken {
        label,
        parts,
        alpn: meant,
    } in clients::quic()
    {
        let mut opening = QuicOpening::default();
        let found = parts.iter().flat_map(|datagram| opening.datagram(datagram));
        let found: Vec<_> = found.collect();
        assert!(
            matches!(&found[..], [Found::Quic(QuicVersion::V1, _)]),
            "{label}: {found:?}"
        );
        let hello = hello(&found);
        assert_eq!(
            (name(hello), &alpn(hello)[..]),
            (Some(NAME), meant),
            "{label}"
        );
        // In one datagram, as the kernel sees it before it is cut up, and in another order.
        let joined = QuicOpening::default().datagram(&parts.concat());
        let mut opening = QuicOpening::default();
        let reversed = parts
            .iter()
            .rev()
            .flat_map(|datagram| opening.datagram(datagram));
        assert_eq!(
            [joined, reversed.collect()],
            [found.clone(), found],
            "{label}"
        );
    }
}

#[test]
fn dig_is_read_over_udp_and_tcp() {
    let asked = |message: &Message| (message.question.name.clone(), message.question.qtype);
    let name = HostName::from_text(NAME.as_bytes()).unwrap();
    for (spoken, qtype) in clients::dig().iter().zip([1, 65, 28]) {
        let bytes = spoken.parts.concat();
        let messages = match spoken.label.starts_with("tcp") {
            true => DnsStream::default().segment(0, &bytes),
            false => vec![bytes],
        };
        let messages: Vec<_> = messages.iter().map(|it| dns::parse(it).unwrap()).collect();
        let questions: Vec<_> = messages.iter().map(asked).collect();
        assert_eq!(questions, [(name.clone(), qtype)], "{}", spoken.label);
    }
}

/// xorshift64: the same mutations in every run.
fn next_random(state: &mut u64) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    usize::try_from(*state >> 32).unwrap()
}

/// Where both of us read a hello, we read the same name; a name that is none here, or several, may
/// be one there, and a hello there that is none here is one that no client sends.
#[test]
fn changed_hellos_are_read_as_a_server_reads_them() {
    let hellos: Vec<_> = clients::tls().iter().map(|it| it.parts.concat()).collect();
    let mut state = 0x9e37_79b9_7f4a_7c15;
    let mut compared = 0;
    for round in 0..20_000 {
        let mut bytes = hellos[round % hellos.len()].clone();
        for _ in 0..=next_random(&mut state) % 3 {
            let at = next_random(&mut state) % bytes.len();
            bytes[at] = next_random(&mut state).to_le_bytes()[0];
        }
        let Some((theirs, _)) = read_by_rustls(&bytes) else {
            continue;
        };
        let found = read(&bytes);
        let Some(Found::Tls(ours)) = found.last() else {
            continue;
        };
        compared += 1;
        match (&ours.server_name, theirs) {
            (Some(Ok(ours)), Some(theirs)) => {
                let theirs = HostName::from_text(theirs.as_bytes());
                assert_eq!(Ok(ours), theirs.as_ref(), "{bytes:x?}");
            }
            (Some(Err(why)), Some(theirs)) => {
                let form = HostName::from_text(theirs.as_bytes());
                assert!(
                    form.is_err() || *why == NameInvalid::Several,
                    "{theirs}: {why}"
                );
            }
            (ours, None) => assert!(!matches!(ours, Some(Ok(_))), "{ours:?}: {bytes:x?}"),
            (None, Some(theirs)) => panic!("{theirs} was not read: {bytes:x?}"),
        }
    }
    assert!(compared > 1000, "{compared} compared");
}
