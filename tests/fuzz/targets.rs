//! What every parser of hostile bytes must hold, whatever the bytes: one function for each.
//!
//! In: bytes, of a fuzzer or of a mutated corpus. Out: nothing, or a panic that says what does not
//! hold. `tests/fuzz/main.rs` and `fuzz/` both run these.

use telltale::core::wire::dns::{self, ANSWERS_MAX, AnswerData};
use telltale::core::wire::dns_stream::DnsStream;
use telltale::core::wire::found::{Found, Incomplete};
use telltale::core::wire::opening::{TUNNELS_MAX, TcpOpening};
use telltale::core::wire::quic::QuicOpening;
use telltale::core::wire::resolved::{self, Message};
use telltale::core::wire::tls::ClientHello;
use telltale::core::wire::{Host, HostName, NameInvalid, Target};

use crate::seal::seal_initial;

/// A parser by name, as its corpus is called, and what must hold of it.
pub type FuzzTarget = (&'static str, fn(&[u8]));

/// Every parser.
pub const TARGETS: [FuzzTarget; 9] = [
    ("dns", dns),
    ("dns_stream", dns_stream),
    ("tls", tls),
    ("http", opening),
    ("socks", opening),
    ("segments", segments),
    ("quic", quic),
    ("quic_frames", quic_frames),
    ("resolved", resolved),
];

/// A DNS message.
pub fn dns(bytes: &[u8]) {
    let Ok(message) = dns::parse(bytes) else {
        return;
    };
    assert!(message.answers.len() <= ANSWERS_MAX);
    check_name(&message.question.name);
    for answer in &message.answers {
        check_name(&answer.owner);
        match &answer.data {
            AnswerData::Cname(name) => check_name(name),
            AnswerData::Service(service) => service.target.iter().for_each(check_name),
            AnswerData::Address(_) => {}
        }
    }
}

/// DNS messages in a TCP stream: the same ones however it is cut, if none is lost.
pub fn dns_stream(bytes: &[u8]) {
    let run = |cut: Cut| {
        let mut stream = DnsStream::default();
        let mut sums = Vec::new();
        for (at, part) in cut.segments(bytes) {
            for message in stream.segment(at, part) {
                dns(&message);
                sums.push(checksum(&message));
            }
        }
        (!stream.is_lost()).then_some(sums)
    };
    if let (Some(whole), Some(cut)) = (run(Cut::Whole), run(Cut::by(bytes))) {
        assert_eq!(whole, cut);
    }
}

/// A handshake message, in records.
pub fn tls(bytes: &[u8]) {
    // Records of one byte would make six of each, which count as the parser's heap.
    const RECORDS_MAX: usize = 4096;
    let size = 1 + checksum(bytes) % 0x3fff;
    let bytes = &bytes[..bytes.len().min(size * RECORDS_MAX)];
    let record = |part: &[u8]| {
        let length = u16::try_from(part.len()).unwrap_or_default();
        [&[22, 3, 1], &length.to_be_bytes()[..], part].concat()
    };
    opening(&bytes.chunks(size).flat_map(record).collect::<Vec<u8>>());
}

/// The beginning of a TCP flow: the same is found in it however it is cut.
pub fn opening(bytes: &[u8]) {
    let run = |cut: Cut| {
        let mut opening = TcpOpening::default();
        let segments = cut.segments(bytes);
        let found = segments.flat_map(|(at, part)| opening.segment(at, part));
        let mut found: Vec<_> = found.collect();
        found.extend(opening.close(Incomplete::Ended));
        found
    };
    let whole = run(Cut::Whole);
    check_found(&whole);
    assert_eq!(whole, run(Cut::by(bytes)));
}

/// Segments at any offset: two bytes of offset, one of length, and so on.
pub fn segments(bytes: &[u8]) {
    let mut opening = TcpOpening::default();
    let mut stream = DnsStream::default();
    let mut found = Vec::new();
    let mut rest = bytes;
    while let Some(([high, low, length], behind)) = rest.split_first_chunk() {
        let offset = u32::from_be_bytes([0, 0, *high, *low]);
        let (part, behind) = behind
            .split_at_checked(usize::from(*length))
            .unwrap_or((behind, &[]));
        found.extend(opening.segment(offset, part));
        stream.segment(offset, part);
        rest = behind;
    }
    found.extend(opening.close(Incomplete::Ended));
    check_found(&found);
}

/// Datagrams, each behind two bytes of length.
pub fn quic(bytes: &[u8]) {
    let mut opening = QuicOpening::default();
    let mut found = Vec::new();
    let mut rest = bytes;
    while let Some((length, behind)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes(*length));
        let (datagram, behind) = behind.split_at_checked(length).unwrap_or((behind, &[]));
        found.extend(opening.datagram(datagram));
        rest = behind;
    }
    found.extend(opening.close(Incomplete::Ended));
    check_found(&found);
}

/// The frames of Initial packets, sealed as a client would.
pub fn quic_frames(bytes: &[u8]) {
    let mut opening = QuicOpening::default();
    let packets = (0..).zip(bytes.chunks(4096));
    let found =
        packets.flat_map(|(number, frames)| opening.datagram(&seal_initial(number, frames)));
    let mut found: Vec<_> = found.collect();
    found.extend(opening.close(Incomplete::Ended));
    check_found(&found);
}

/// A message of systemd-resolved.
pub fn resolved(bytes: &[u8]) {
    if let Ok(Message::Answer(pairs)) = resolved::parse(bytes) {
        assert!(pairs.len() <= resolved::QUESTIONS_MAX * ANSWERS_MAX);
        for (name, ip) in &pairs {
            check_name(name);
            assert_eq!(*ip, ip.to_canonical());
        }
    }
}

/// How to cut a stream into segments.
enum Cut {
    Whole,
    Every(usize),
}

impl Cut {
    /// A length that follows from the bytes, mostly a small one.
    fn by(bytes: &[u8]) -> Cut {
        let sum = checksum(bytes);
        Cut::Every(1 + (sum >> 8) % [7, 100, 2000][sum % 3])
    }

    fn segments<'a>(&self, bytes: &'a [u8]) -> impl Iterator<Item = (u32, &'a [u8])> {
        let size = match self {
            Cut::Whole => 1 << 16, // The longest that there is.
            Cut::Every(size) => *size,
        };
        let offsets = (0..).step_by(size);
        offsets.zip(bytes.chunks(size))
    }
}

/// FNV-1a: choices that follow from the input, so that an input says all.
fn checksum(bytes: &[u8]) -> usize {
    let mix = |sum: u32, byte: &u8| (sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
    bytes.iter().fold(0x811c_9dc5, mix) as usize
}

fn check_found(found: &[Found]) {
    assert!(found.len() <= TUNNELS_MAX + 2, "{found:?}");
    for found in found {
        match found {
            Found::Tls(hello) | Found::Quic(_, hello) => check_hello(hello),
            Found::Http(Some(target)) | Found::Proxied(_, target) => check_target(target),
            Found::Http(None)
            | Found::Contradicted
            | Found::Incomplete(..)
            | Found::NotRecognised => {}
        }
    }
}

fn check_hello(hello: &ClientHello) {
    assert!(hello.alpn.len() <= 6, "{hello:?}");
    if let Some(Ok(name)) = &hello.server_name {
        check_name(name);
    }
}

fn check_target(target: &Result<Target, NameInvalid>) {
    match target {
        Ok(Target {
            host: Host::Name(name),
            ..
        }) => check_name(name),
        Ok(Target {
            host: Host::Address(ip),
            ..
        }) => assert_eq!(*ip, ip.to_canonical()),
        Err(_) => {}
    }
}

/// A name is in the form that it would take.
fn check_name(name: &HostName) {
    assert_eq!(
        HostName::from_text(name.as_str().as_bytes()).as_ref(),
        Ok(name)
    );
}
