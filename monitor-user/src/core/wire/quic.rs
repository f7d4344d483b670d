//! What a client says first over QUIC: the ClientHello in its Initial packets, RFC 9000 §17.2.2
//! and RFC 9369.
//!
//! In: the first datagrams that a process sends, in any order; several in one where the kernel
//! cuts them up later. Out: the hello. Initial packets are encrypted with keys that follow from
//! the connection id in clear (RFC 9001 §5.2); rustls derives them and opens the packets.

use rustls::Side;
use rustls::quic::DirectionalKeys;

use self::packet::{Kind, Packet, Sealed};
use super::cursor::Cursor;
use super::found::{Found, Incomplete, Protocol, QuicVersion};
use super::stream::Stream;
use super::tls::{self, HELLO_BYTES_MAX};

pub(super) mod packet;

/// Datagrams that are looked at. A post-quantum hello needs two, and clients that scramble theirs
/// send it in four or five; the rest is for repeats.
pub const DATAGRAMS_MAX: usize = 16;

/// Packets that are tried, each with the keys of two connection ids at most.
const PACKETS_MAX: usize = 32;

/// Longest connection id of the versions here, RFC 9000 §17.2.
const CONNECTION_ID_BYTES_MAX: usize = 20;

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
        let keys = packet::suite()?.keys(connection_id, Side::Server, version.into());
        Some(Keys {
            version,
            connection_id: connection_id.to_vec(),
            client: keys.remote,
        })
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

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "a test may fail by a panic")]
mod tests {
    use rustls::quic::Version;

    use super::super::fixture::{Initial, crypto, describe, extension, hello, large_hello};
    use super::packet::{FIRST_DATAGRAM_BYTES_MIN, suite};
    use super::*;

    const NAME: &str = "api.example.com";
    const V1: &str = "V1 api.example.com h2 http/1.1";
    const V2: &str = "V2 api.example.com h2 http/1.1";

    /// What datagrams lead to, one finding in a line; `...` if it is not done.
    fn feed(datagrams: &[Vec<u8>]) -> String {
        let mut opening = QuicOpening::default();
        let found: Vec<_> = datagrams
            .iter()
            .flat_map(|datagram| opening.datagram(datagram))
            .collect();
        let mut text = describe(&found);
        if !opening.is_done() {
            text.push_str("...");
        }
        text
    }

    #[track_caller]
    fn check(datagrams: &[Vec<u8>], expect: &str) {
        assert_eq!(feed(datagrams), expect);
    }

    /// The large hello in packets with a CRYPTO frame each, which end at these offsets.
    fn split(ends: &[usize]) -> Vec<Vec<u8>> {
        let message = large_hello(NAME);
        let ends: Vec<usize> = ends.iter().copied().chain([message.len()]).collect();
        let starts = [0].into_iter().chain(ends.iter().copied());
        let parts = starts
            .zip(&ends)
            .map(|(start, &end)| crypto(start as u64, &message[start..end]));
        let packet = |(number, frames): (u16, _)| Initial {
            number,
            ..Initial::new(frames)
        };
        (0..).zip(parts).map(packet).map(|it| it.seal()).collect()
    }

    /// The example of RFC 9001 §A.2, up to its padding: the header and the CRYPTO frame are those
    /// of the specification, which names a server `example.com`.
    #[test]
    fn keys_are_those_of_the_specification() {
        let id = [0x83, 0x94, 0xc8, 0xf0, 0x3e, 0x51, 0x57, 0x08];
        let keys = suite().unwrap().keys(&id, Side::Client, Version::V1).local;
        let sample = [
            0xd1, 0xb1, 0xc9, 0x8d, 0xd7, 0x68, 0x9f, 0xb8, 0xec, 0x11, 0xd2, 0x42, 0xb1, 0x23,
            0xdc, 0x9b,
        ];
        let (mut first, mut number) = (0xc3, [0, 0, 0, 2]);
        let result = keys
            .header
            .encrypt_in_place(&sample, &mut first, &mut number);
        assert_eq!((result, first), (Ok(()), 0xc0));
        assert_eq!(number, [0x7b, 0x9a, 0xec, 0x34]);
    }

    #[test]
    fn both_versions_are_read() {
        let frames = || crypto(0, &large_hello(NAME));
        check(&[Initial::new(frames()).seal()], V1);
        let version = QuicVersion::V2;
        let packet = Initial {
            version,
            ..Initial::new(frames())
        };
        check(&[packet.seal()], V2);
        let packet = Initial {
            number: 4711,
            ..Initial::new(frames())
        };
        check(&[packet.seal()], V1);
    }

    #[test]
    fn hellos_are_put_together_from_packets_in_any_order() {
        check(&split(&[1100]), V1);
        check(&split(&[300, 700, 1500]), V1);
        let mut packets = split(&[300, 700, 1500]);
        packets.reverse();
        check(&packets, V1);
        packets.rotate_left(2);
        check(&packets, V1);
        check(&packets[1..], "...");
        check(&[packets.concat()], V1);
        let padded: Vec<u8> = packets
            .iter()
            .flat_map(|it| [it, &[0; 50][..]].concat())
            .collect();
        check(&[padded], V1);
    }

    #[test]
    fn frames_come_in_any_order_among_others() {
        let message = large_hello(NAME);
        let (ping, padding) = (vec![1], vec![0; 9]);
        let ack = [&[2][..], &[0x40, 9, 5, 1, 0, 2, 3]].concat();
        let ack_ecn = [&[3][..], &[9, 5, 0, 4, 1, 2, 3]].concat();
        let shuffled = [
            ping,
            crypto(1000, &message[1000..]),
            ack,
            padding,
            crypto(0, &message[..400]),
            ack_ecn,
            crypto(300, &message[300..1100]),
        ];
        check(&[Initial::new(shuffled.concat()).seal()], V1);
        let close = [&[0x1c][..], &[0x41, 0, 6, 2, b'n', b'o']].concat();
        check(
            &[Initial::new([close, crypto(0, &message)].concat()).seal()],
            V1,
        );
    }

    #[test]
    fn other_frames_end_a_packet() {
        let message = large_hello(NAME);
        for bad in [
            &[0x08, 0, 0][..],
            &[2, 9, 5, 0xff],
            &[6, 0, 0x7f, 0xff],
            &[0x1d, 0, 0],
        ] {
            let frames = [bad, &crypto(0, &message)[..]].concat();
            let packet = Initial::new(frames).seal();
            check_close(&packet, "quic malformed");
        }
        // Ranges without end.
        let endless = [&[2, 9, 5][..], &[0xff; 8]].concat();
        check(&[Initial::new(endless).seal()], "...");
    }

    #[test]
    fn offsets_are_bounded() {
        let far = [crypto((1 << 62) - 1, b"x"), crypto(1 << 14, b"y")].concat();
        let near = crypto(0, &large_hello(NAME));
        check(&[Initial::new([far.clone(), near].concat()).seal()], V1);
        check(&[Initial::new(far).seal()], "...");
        let long = hello(&[extension(21, &[0; 1 << 14])]);
        check(
            &[Initial::new(crypto(0, &long[..100])).seal()],
            "quic too-long",
        );
    }

    #[test]
    fn the_first_bytes_count_and_a_contradiction_is_told() {
        let (first, second) = (large_hello(NAME), large_hello("api.example.net"));
        let frames = [crypto(1500, &first[1500..]), crypto(0, &second)].concat();
        check(
            &[Initial::new(frames).seal()],
            &format!("contradicted\n{V1}"),
        );
    }

    #[test]
    fn a_client_may_be_made_to_try_again() {
        let message = large_hello(NAME);
        let first = Initial::new(crypto(0, &message[..900])).seal();
        // Behind a Retry: the keys follow from the id that the server chose.
        let again = Initial {
            id: b"server",
            key_id: b"server",
            number: 1,
            ..Initial::new(crypto(0, &message))
        };
        check(&[first.clone(), again.seal()], V1);
        // Without: the keys stay, and only the id is the server's.
        let rest = Initial {
            id: b"server",
            number: 1,
            ..Initial::new(crypto(900, &message[900..]))
        };
        check(&[first.clone(), rest.seal()], V1);
        // What was said on the connection given up does not count.
        let rest = Initial {
            id: b"server",
            key_id: b"server",
            ..Initial::new(crypto(900, &message[900..]))
        };
        check(&[first, rest.seal()], "...");
    }

    #[test]
    fn other_packets_may_come_first_or_between() {
        let initial = Initial::new(crypto(0, &large_hello(NAME))).seal();
        let header = [&[0, 0, 0, 1, 8][..], &[1, 2, 3, 4, 5, 6, 7, 8, 0]].concat();
        let zero_rtt = [&[0xd0][..], &header, &[5, 1, 2, 3, 4, 5]].concat();
        let handshake = [&[0xe0][..], &header, &[2, 1, 2]].concat();
        check(&[zero_rtt.clone(), initial.clone()], V1);
        check(&[[&zero_rtt[..], &handshake, &initial].concat()], V1);
        let retry = [&[0xf0][..], &header, &[7; 40]].concat();
        check(&[retry, initial.clone()], V1);
        // A short header ends a datagram.
        check(
            &[[&zero_rtt[..], &[0x40, 1, 2, 3], &initial].concat()],
            "...",
        );
    }

    #[test]
    fn ids_may_be_short_and_not_long() {
        let frames = || crypto(0, &large_hello(NAME));
        let with_id = |id| Initial {
            id,
            key_id: id,
            ..Initial::new(frames())
        };
        check(&[with_id(b"").seal()], V1);
        check(&[with_id(&[7; 20]).seal()], V1);
        check(&[with_id(&[7; 21]).seal()], "...");
    }

    /// What closing tells after this datagram.
    #[track_caller]
    fn check_close(datagram: &[u8], expect: &str) {
        let mut opening = QuicOpening::default();
        let mut found = opening.datagram(datagram);
        found.extend(opening.close(Incomplete::TimedOut));
        assert_eq!(describe(&found), expect);
        assert!(opening.is_done() && opening.close(Incomplete::Ended).is_none());
    }

    #[test]
    fn closing_tells_why_there_is_no_hello() {
        let packet = Initial::new(crypto(0, &large_hello(NAME)[..900])).seal();
        check_close(&packet, "quic timed-out");
        let mut bad_tag = packet.clone();
        *bad_tag.last_mut().unwrap() ^= 1;
        check_close(&bad_tag, "quic undecryptable");
        let mut other_version = packet.clone();
        other_version[4] = 9;
        check_close(&other_version, "not-recognised");
        other_version.resize(FIRST_DATAGRAM_BYTES_MIN, 0);
        check_close(&other_version, "quic unknown-version");
        let mut version_list = other_version;
        version_list[1..5].fill(0);
        check_close(&version_list, "not-recognised");
        check_close(&[0xc0, 0, 0, 0, 1, 0, 0, 0, 2, 9, 9], "quic undecryptable");
        check_close(&[0xd0, 0, 0, 0, 1, 0, 0, 1, 9], "quic timed-out");
        check_close(b"", "not-recognised");
        check_close(&[0x16, 0xfe, 0xfd, 0, 0], "not-recognised"); // DTLS.
        check_close(&[0; 1200], "not-recognised");
        let mut opening = QuicOpening::default();
        assert_eq!(opening.close(Incomplete::Ended), None);
    }

    #[test]
    fn every_part_of_a_packet_is_survived() {
        let packet = Initial::new(crypto(0, &large_hello(NAME))).seal();
        for end in 0..packet.len() {
            let text = feed(&[packet[..end].to_vec()]);
            assert_eq!(text, "not-recognised", "{end}");
        }
    }

    #[test]
    fn datagrams_and_packets_are_bounded() {
        let ping = Initial::new(vec![1]).seal();
        let last = vec![ping.clone(); DATAGRAMS_MAX - 1];
        check(&last, "...");
        check(&vec![ping.clone(); DATAGRAMS_MAX], "quic too-long");
        check(&[ping.repeat(PACKETS_MAX + 1)], "quic too-long");
        let mut bad = ping;
        *bad.last_mut().unwrap() ^= 1;
        check(&[bad.repeat(PACKETS_MAX)], "quic undecryptable");
    }
}
