//! QUIC packets with a long header, RFC 9000 §17.2 and RFC 9369: found in a datagram, and opened.
//!
//! In: untrusted bytes of a datagram. Out: packets, and the frames of Initial ones.

use rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256;
use rustls::quic::{DirectionalKeys, Suite, Version};

use super::super::cursor::Cursor;
use super::super::found::QuicVersion;

/// A client's first datagram has this many bytes, RFC 9000 §14.1. With an unknown version, it is
/// all that tells QUIC from other protocols.
pub(super) const FIRST_DATAGRAM_BYTES_MIN: usize = 1200;

const LONG_HEADER: u8 = 0x80;
const FIXED_BIT: u8 = 0x40;

/// The suite of all Initial packets, RFC 9001 §5.2.
pub(in super::super) fn suite() -> Option<Suite> {
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
pub(super) struct Packet<'a> {
    /// Of the server.
    pub(super) connection_id: &'a [u8],
    /// What it is.
    pub(super) kind: Kind<'a>,
}

/// What a packet is.
pub(super) enum Kind<'a> {
    /// One that may carry the hello.
    Initial(QuicVersion, Sealed<'a>),
    /// 0-RTT, Handshake or Retry.
    Other,
    /// What it is depends on the version.
    UnknownVersion,
}

/// The bytes of an Initial packet.
#[derive(Clone, Copy)]
pub(super) struct Sealed<'a> {
    packet: &'a [u8],
    /// Where its packet number begins.
    number_at: usize,
}

impl<'a> Packet<'a> {
    /// The next packet with a long header; `None` if none follows.
    pub(super) fn read(rest: &mut Cursor<'a>) -> Option<Packet<'a>> {
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
    pub(super) fn open(self, keys: &DirectionalKeys) -> Option<Vec<u8>> {
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
