//! For the parsers' unit tests: hellos, packets and requests, made field by field.
//!
//! In: what a test cares about. Out: bytes as a client sends them, and findings as text.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may fail by a panic"
)]

use rustls::Side;

use super::found::{Found, QuicVersion};
use super::quic::packet::suite;
use super::tls::ClientHello;
use super::{Host, NameInvalid, Target};

/// `bytes` behind their length of one byte.
pub fn vec8(bytes: &[u8]) -> Vec<u8> {
    [&[u8::try_from(bytes.len()).unwrap()], bytes].concat()
}

/// `bytes` behind their length of two bytes.
pub fn vec16(bytes: &[u8]) -> Vec<u8> {
    let size = u16::try_from(bytes.len()).unwrap();
    [&size.to_be_bytes(), bytes].concat()
}

/// An extension of a hello.
pub fn extension(kind: u16, data: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &vec16(data)].concat()
}

/// A `server_name` extension with entries of these kinds.
pub fn server_names(names: &[(u8, &[u8])]) -> Vec<u8> {
    let entry = |(kind, name): &(u8, &[u8])| [&[*kind], &vec16(name)[..]].concat();
    let list: Vec<u8> = names.iter().flat_map(entry).collect();
    extension(0, &vec16(&list))
}

/// An ALPN extension.
pub fn alpn(protocols: &[&str]) -> Vec<u8> {
    let list = protocols.iter().flat_map(|it| vec8(it.as_bytes()));
    extension(16, &vec16(&list.collect::<Vec<u8>>()))
}

/// A handshake message with this hello in it.
pub fn hello(extensions: &[Vec<u8>]) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend(vec8(&[8; 32]));
    body.extend(vec16(&[0x0a, 0x0a, 0x13, 0x01]));
    body.extend(vec8(&[0]));
    body.extend(vec16(&extensions.concat()));
    message(&body)
}

/// A handshake message of type ClientHello.
pub fn message(body: &[u8]) -> Vec<u8> {
    let mut message = u32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
    message[0] = 1;
    message.extend(body);
    message
}

/// A hello as large as one with a post-quantum key share, its name behind that.
pub fn large_hello(name: &str) -> Vec<u8> {
    let key_share = extension(51, &[9; 1250]);
    let padding = extension(21, &[0; 400]);
    hello(&[
        extension(0x2a2a, &[]),
        key_share,
        padding,
        server_names(&[(0, name.as_bytes())]),
        alpn(&["h2", "http/1.1"]),
    ])
}

/// The message in records of `size` bytes each.
pub fn records(message: &[u8], size: usize) -> Vec<u8> {
    let record = |part: &[u8]| [&[22, 3, 1], &vec16(part)[..]].concat();
    message.chunks(size).flat_map(record).collect()
}

/// The large hello in one record.
pub fn large_record(name: &str) -> Vec<u8> {
    records(&large_hello(name), 1 << 14)
}

/// An Initial packet to be.
pub struct Initial<'a> {
    /// Its version.
    pub version: QuicVersion,
    /// Destination connection id.
    pub id: &'a [u8],
    /// The connection id that its keys follow from.
    pub key_id: &'a [u8],
    /// Packet number, sent in two bytes.
    pub number: u16,
    /// What it carries.
    pub frames: Vec<u8>,
}

impl<'a> Initial<'a> {
    /// The first packet of a connection.
    pub fn new(frames: Vec<u8>) -> Self {
        Initial {
            version: QuicVersion::V1,
            id: b"\x01\x02\x03\x04\x05\x06\x07\x08",
            key_id: b"\x01\x02\x03\x04\x05\x06\x07\x08",
            number: 0,
            frames,
        }
    }

    /// The packet, sealed.
    pub fn seal(&self) -> Vec<u8> {
        let (version, kind): (u32, u8) = match self.version {
            QuicVersion::V1 => (1, 0),
            QuicVersion::V2 => (0x6b33_43cf, 1),
        };
        let mut frames = self.frames.clone();
        frames.resize(frames.len().max(4), 0);
        let mut header = vec![0xc0 | kind << 4 | 1];
        header.extend(version.to_be_bytes());
        header.extend(vec8(self.id));
        header.extend(vec8(b"source"));
        header.push(0); // No token.
        let size = u16::try_from(2 + frames.len() + 16).unwrap();
        header.extend((0x4000 | size).to_be_bytes());
        let number_at = header.len();
        header.extend(self.number.to_be_bytes());
        let suite = suite().unwrap();
        let keys = suite
            .keys(self.key_id, Side::Client, self.version.into())
            .local;
        let number = self.number.into();
        let tag = keys.packet.encrypt_in_place(number, &header, &mut frames);
        frames.extend(tag.unwrap().as_ref());
        let mut packet = [header, frames].concat();
        let sample = packet[number_at + 4..number_at + 20].to_vec();
        let (head, rest) = packet.split_at_mut(number_at);
        let (first, number) = (&mut head[0], &mut rest[..2]);
        keys.header
            .encrypt_in_place(&sample, first, number)
            .unwrap();
        packet
    }
}

/// A CRYPTO frame.
pub fn crypto(offset: u64, bytes: &[u8]) -> Vec<u8> {
    let size = u16::try_from(bytes.len()).unwrap() | 0x4000;
    let offset = offset | 3 << 62;
    [&[6], &offset.to_be_bytes()[..], &size.to_be_bytes(), bytes].concat()
}

/// Findings, one in a line.
pub fn describe(found: &[Found]) -> String {
    let lines: Vec<String> = found.iter().map(describe_one).collect();
    lines.join("\n")
}

fn describe_one(found: &Found) -> String {
    match found {
        Found::Tls(hello) => format!("tls {}", describe_hello(hello)),
        Found::Quic(version, hello) => format!("{version:?} {}", describe_hello(hello)),
        Found::Http(None) => "http -".to_owned(),
        Found::Http(Some(host)) => format!("http {}", describe_target(host)),
        Found::Proxied(by, target) => format!("{by:?} {}", describe_target(target)),
        Found::Contradicted => "contradicted".to_owned(),
        Found::Incomplete(protocol, why) => format!("{} {}", protocol.name(), why.name()),
        Found::NotRecognised => "not-recognised".to_owned(),
    }
}

fn describe_hello(hello: &ClientHello) -> String {
    let mut words = vec![match &hello.server_name {
        None => "-".to_owned(),
        Some(Ok(name)) => name.as_str().to_owned(),
        Some(Err(why)) => format!("!{why}"),
    }];
    words.extend(hello.alpn.iter().map(|it| it.name().to_owned()));
    words.extend(hello.ech.then(|| "ech".to_owned()));
    words.join(" ")
}

fn describe_target(target: &Result<Target, NameInvalid>) -> String {
    let target = match target {
        Ok(target) => target,
        Err(why) => return format!("!{why}"),
    };
    let host = match &target.host {
        Host::Name(name) => name.as_str().to_owned(),
        Host::Address(ip) => ip.to_string(),
    };
    match target.port {
        Some(port) => format!("{host} {port}"),
        None => host,
    }
}
