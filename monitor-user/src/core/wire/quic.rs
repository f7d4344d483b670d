//! What a client says first over QUIC: the ClientHello in its Initial packets, RFC 9000 §17.2.2
//! and RFC 9369.
//!
//! In: the first datagrams that a process sends, in any order; several in one where the kernel
//! cuts them up later. Out: the hello. Initial packets are encrypted with keys that follow from
//! the connection id in clear (RFC 9001 §5.2); rustls derives them and opens the packets.

use rustls::Side;
use rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256;
use rustls::quic::{DirectionalKeys, Suite, Version};

use super::cursor::Cursor;
use super::found::{Found, Incomplete, Protocol, QuicVersion};
use super::stream::Stream;
use super::tls::{self, HELLO_BYTES_MAX};

/// Datagrams that are looked at. A post-quantum hello needs two, and clients that scramble theirs
/// send it in four or five; the rest is for repeats.
pub const DATAGRAMS_MAX: usize = 16;

/// Packets that are tried, each with the keys of two connection ids at most.
const PACKETS_MAX: usize = 32;

/// Longest connection id of the versions here, RFC 9000 §17.2.
const CONNECTION_ID_BYTES_MAX: usize = 20;

/// A client's first datagram has this many bytes, RFC 9000 §14.1. With an unknown version, it is
/// all that tells QUIC from other protocols.
const FIRST_DATAGRAM_BYTES_MIN: usize = 1200;

const LONG_HEADER: u8 = 0x80;
const FIXED_BIT: u8 = 0x40;

const FRAME_PADDING: u64 = 0x00;
const FRAME_PING: u64 = 0x01;
const FRAME_ACK: u64 = 0x02;
const FRAME_ACK_ECN: u64 = 0x03;
const FRAME_CRYPTO: u64 = 0x06;
const FRAME_CONNECTION_CLOSE: u64 = 0x1c;

/// The beginning of a UDP flow, as its client sends it.
pub struct QuicOpening {
    keys: Option<Keys>,
    /// The handshake bytes of the connection that `keys` are of.
    crypto: Stream,
    datagrams: usize,
    packets: usize,
    /// There was a packet of QUIC.
    is_quic: bool,
    /// What was wrong with the last packet.
    trouble: Option<Incomplete>,
    contradiction_told: bool,
    done: bool,
}

/// The keys of a client's Initial packets.
struct Keys {
    version: QuicVersion,
    connection_id: Vec<u8>,
    client: DirectionalKeys,
}

impl Default for QuicOpening {
    fn default() -> Self {
        QuicOpening {
            keys: None,
            crypto: Stream::new(HELLO_BYTES_MAX),
            datagrams: 0,
            packets: 0,
            is_quic: false,
            trouble: None,
            contradiction_told: false,
            done: false,
        }
    }
}

impl QuicOpening {
    /// Takes a datagram that the client sent, and tells what is found now.
    pub fn datagram(&mut self, bytes: &[u8]) -> Vec<Found> {
        let mut found = Vec::new();
        if self.done {
            return found;
        }
        self.datagrams += 1;
        let mut rest = Cursor(bytes);
        while let Some(packet) = Packet::read(&mut rest) {
            if self.packets == PACKETS_MAX {
                break;
            }
            self.packets += 1;
            self.packet(&packet, &mut found);
            if self.done {
                return found;
            }
        }
        if !self.is_quic || self.datagrams == DATAGRAMS_MAX || self.packets == PACKETS_MAX {
            found.extend(self.close(Incomplete::TooLong));
        }
        found
    }

    /// Ends looking, and tells what there was to tell. Nothing if it is done already.
    pub fn close(&mut self, why: Incomplete) -> Option<Found> {
        if self.done || self.datagrams == 0 {
            self.done = true;
            return None;
        }
        self.finish();
        Some(if self.is_quic {
            Found::Incomplete(Protocol::Quic, self.trouble.unwrap_or(why))
        } else {
            Found::NotRecognised
        })
    }

    /// Nothing more will be found.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.done
    }

    fn finish(&mut self) {
        self.done = true;
        self.keys = None;
        self.crypto = Stream::new(0);
    }

    fn packet(&mut self, packet: &Packet, found: &mut Vec<Found>) {
        self.is_quic = true;
        let (version, sealed) = match packet.kind {
            Kind::Initial(version, sealed) => (version, sealed),
            Kind::Other => return,
            Kind::UnknownVersion => {
                self.trouble = Some(Incomplete::UnknownVersion);
                return;
            }
        };
        let Some(frames) = self.open(version, packet.connection_id, sealed) else {
            self.trouble = Some(Incomplete::Undecryptable);
            return;
        };
        self.trouble = match self.frames(Cursor(&frames)) {
            Some(()) => None,
            None => Some(Incomplete::Malformed),
        };
        if self.crypto.is_contradicted() && !self.contradiction_told {
            self.contradiction_told = true;
            found.push(Found::Contradicted);
        }
        match tls::read_message(self.crypto.ready()) {
            Ok(None) => {}
            Ok(Some(hello)) => {
                found.push(Found::Quic(version, hello));
                self.finish();
            }
            Err(stop) => {
                found.push(Found::Incomplete(Protocol::Quic, stop.into()));
                self.finish();
            }
        }
    }

    /// Opens an Initial packet: with the keys of the connection in hand, whatever connection id
    /// the client uses by now, or with those of the packet's own. Then it begins a connection,
    /// perhaps because the server asked to try again with an id of its choice (Retry).
    fn open(&mut self, version: QuicVersion, id: &[u8], sealed: Sealed) -> Option<Vec<u8>> {
        let known = self.keys.as_ref().filter(|keys| keys.version == version);
        if let Some(frames) = known.and_then(|keys| sealed.open(&keys.client)) {
            return Some(frames);
        }
        if known.is_some_and(|keys| keys.connection_id == id) {
            return None;
        }
        let keys = Keys::new(version, id)?;
        let frames = sealed.open(&keys.client)?;
        self.keys = Some(keys);
        self.crypto = Stream::new(HELLO_BYTES_MAX);
        Some(frames)
    }

    /// Takes the handshake bytes out of frames, RFC 9000 §19; `None` if others are among them than
    /// an Initial packet may have. What came before them is used.
    fn frames(&mut self, mut rest: Cursor) -> Option<()> {
        while !rest.is_empty() {
            match rest.varint()? {
                FRAME_PADDING | FRAME_PING => {}
                FRAME_CRYPTO => {
                    let (offset, size) = (rest.varint()?, rest.varint()?);
                    let bytes = rest.take(usize::try_from(size).ok()?)?;
                    self.crypto.insert(offset, bytes);
                }
                kind @ (FRAME_ACK | FRAME_ACK_ECN) => {
                    let (_largest, _delay, ranges) =
                        (rest.varint()?, rest.varint()?, rest.varint()?);
                    let counters = if kind == FRAME_ACK_ECN { 3 } else { 0 };
                    let values = ranges.saturating_mul(2).saturating_add(1 + counters);
                    // Each has a byte at least, so this ends with the bytes.
                    for _ in 0..values {
                        rest.varint()?;
                    }
                }
                FRAME_CONNECTION_CLOSE => {
                    let (_code, _frame, size) = (rest.varint()?, rest.varint()?, rest.varint()?);
                    rest.take(usize::try_from(size).ok()?)?;
                }
                _ => return None,
            }
        }
        Some(())
    }
}

impl Keys {
    /// `None` if the id is longer than any.
    fn new(version: QuicVersion, connection_id: &[u8]) -> Option<Keys> {
        if connection_id.len() > CONNECTION_ID_BYTES_MAX {
            return None;
        }
        let keys = suite()?.keys(connection_id, Side::Server, version.into());
        Some(Keys {
            version,
            connection_id: connection_id.to_vec(),
            client: keys.remote,
        })
    }
}

/// The suite of all Initial packets, RFC 9001 §5.2.
fn suite() -> Option<Suite> {
    TLS13_AES_128_GCM_SHA256.tls13()?.quic_suite()
}

impl From<QuicVersion> for Version {
    fn from(version: QuicVersion) -> Self {
        match version {
            QuicVersion::V1 => Version::V1,
            QuicVersion::V2 => Version::V2,
        }
    }
}

/// A packet with a long header.
struct Packet<'a> {
    connection_id: &'a [u8],
    kind: Kind<'a>,
}

enum Kind<'a> {
    Initial(QuicVersion, Sealed<'a>),
    /// 0-RTT, Handshake or Retry.
    Other,
    UnknownVersion,
}

/// The bytes of an Initial packet.
#[derive(Clone, Copy)]
struct Sealed<'a> {
    packet: &'a [u8],
    /// Where its packet number begins.
    number_at: usize,
}

impl<'a> Packet<'a> {
    /// The next packet with a long header; `None` if none follows.
    fn read(rest: &mut Cursor<'a>) -> Option<Packet<'a>> {
        // Zeros fill up a datagram behind its packets.
        let padding = rest.0.iter().take_while(|&&byte| byte == 0).count();
        rest.take(padding)?;
        let start = rest.0;
        let (first, version) = (rest.u8()?, rest.u32()?);
        let (connection_id, _source_id) = (rest.vec8()?, rest.vec8()?);
        if first & LONG_HEADER == 0 || version == 0 {
            return None; // Version 0 is a server's list of versions.
        }
        let kind = match packet_type(version, first) {
            None if first & FIXED_BIT == 0 || start.len() < FIRST_DATAGRAM_BYTES_MIN => {
                return None;
            }
            None => {
                rest.0 = &[];
                Kind::UnknownVersion
            }
            Some((_, PacketType::Retry)) => {
                rest.0 = &[];
                Kind::Other
            }
            Some((version, packet_type)) => {
                if packet_type == PacketType::Initial {
                    let token = rest.varint()?;
                    rest.take(usize::try_from(token).ok()?)?;
                }
                let size = usize::try_from(rest.varint()?).ok()?;
                let number_at = start.len() - rest.0.len();
                rest.take(size)?;
                let packet = start.get(..number_at + size)?;
                match packet_type {
                    PacketType::Initial => Kind::Initial(version, Sealed { packet, number_at }),
                    _ => Kind::Other,
                }
            }
        };
        Some(Packet {
            connection_id,
            kind,
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum PacketType {
    Initial,
    Retry,
    Other,
}

/// `None` for an unknown version. The two that are known number their packets differently, RFC
/// 9369 §3.2.
fn packet_type(version: u32, first: u8) -> Option<(QuicVersion, PacketType)> {
    let bits = first >> 4 & 3;
    let (version, initial, retry) = match version {
        0x0000_0001 => (QuicVersion::V1, 0, 3),
        0x6b33_43cf => (QuicVersion::V2, 1, 0),
        _ => return None,
    };
    let packet_type = match bits {
        _ if bits == initial => PacketType::Initial,
        _ if bits == retry => PacketType::Retry,
        _ => PacketType::Other,
    };
    Some((version, packet_type))
}

impl Sealed<'_> {
    /// The frames of the packet; `None` if these are not its keys.
    fn open(self, keys: &DirectionalKeys) -> Option<Vec<u8>> {
        let mut packet = self.packet.to_vec();
        let (header, protected) = packet.split_at_mut_checked(self.number_at)?;
        // RFC 9001 §5.4.2: the sample begins where a number of four bytes would end.
        let (number, payload) = protected.split_first_chunk_mut::<4>()?;
        let sample = payload.get(..keys.header.sample_len())?;
        let first = header.first_mut()?;
        keys.header.decrypt_in_place(sample, first, number).ok()?;
        let number_size = usize::from(*first & 3) + 1;
        let number = number.get(..number_size)?;
        // The first numbers are small, and a client sends those whole, RFC 9000 §17.1.
        let full_number = number
            .iter()
            .fold(0, |all, &byte| all << 8 | u64::from(byte));
        let header_size = self.number_at + number_size;
        let (header, payload) = packet.split_at_mut_checked(header_size)?;
        let opened = keys.packet.decrypt_in_place(full_number, header, payload);
        let size = opened.ok()?.len();
        Some(payload.get(..size)?.to_vec())
    }
}

/// Says how far it is, not what was read.
impl std::fmt::Debug for QuicOpening {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("QuicOpening")
            .field("datagrams", &self.datagrams)
            .field("packets", &self.packets)
            .field("trouble", &self.trouble)
            .finish_non_exhaustive()
    }
}
