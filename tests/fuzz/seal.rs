//! Seals frames as the Initial packet of a QUIC client, RFC 9001.
//!
//! In: frames, which may be anything. Out: a packet that opens.
#![allow(clippy::unwrap_used, reason = "a test may fail by a panic")]

use rustls::Side;
use rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256;
use rustls::quic::Version;

/// The connection id that the keys follow from.
const CONNECTION_ID: &[u8; 8] = b"fuzzfuzz";

/// A version 1 packet with this number and these frames, filled up to four bytes.
pub fn seal_initial(number: u16, frames: &[u8]) -> Vec<u8> {
    let suite = TLS13_AES_128_GCM_SHA256.tls13().unwrap();
    let suite = suite.quic_suite().unwrap();
    let keys = suite.keys(CONNECTION_ID, Side::Client, Version::V1).local;
    let mut frames = frames.to_vec();
    frames.resize(frames.len().max(4), 0);
    let size = u16::try_from(2 + frames.len() + 16).unwrap() | 0x4000;
    // Version, destination, source, token.
    let ids = [&[0, 0, 0, 1, 8][..], CONNECTION_ID, &[0, 0]].concat();
    let mut header = [&[0xc1][..], &ids, &size.to_be_bytes()].concat();
    let number_at = header.len();
    header.extend(number.to_be_bytes());
    let tag = keys
        .packet
        .encrypt_in_place(number.into(), &header, &mut frames);
    frames.extend(tag.unwrap().as_ref());
    let mut packet = [header, frames].concat();
    let (head, rest) = packet.split_at_mut(number_at);
    let (number, behind) = rest.split_at_mut(2);
    // The sample begins where a number of four bytes would end.
    let sample = behind.get(2..18).unwrap();
    let first = head.first_mut().unwrap();
    keys.header.encrypt_in_place(sample, first, number).unwrap();
    packet
}
