//! Records the corpora of the parsers anew: `cargo run -p monitor-tests --bin record-hellos`.
//!
//! In: the clients of `clients.rs`, on loopback; curl, openssl, node, python3 and dig must be
//! there. Out: `fuzz/corpus/<parser>/<client>`, each in the form that the parser's target reads.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "it reports to whoever runs it, by printing and by panicking"
)]

use std::fs;
use std::path::Path;

use monitor_tests::clients::{self, Spoken};

/// Where the corpora are.
const CORPUS_DIR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus");

fn main() {
    for spoken in clients::tls() {
        let bytes = spoken.parts.concat();
        let message = &bytes[5..];
        write("tls", spoken.label, message);
        write("segments", spoken.label, &segments(&bytes));
        write("quic_frames", spoken.label, &crypto_frames(message));
    }
    for spoken in clients::through_proxies() {
        let parser = match spoken.label.starts_with("socks") {
            true => "socks",
            false => "http",
        };
        write(parser, spoken.label, &spoken.parts.concat());
    }
    for spoken in clients::quic() {
        write("quic", spoken.label, &framed(&spoken.parts));
    }
    for spoken in clients::dig() {
        dns(&spoken);
    }
}

fn write(parser: &str, label: &str, bytes: &[u8]) {
    let folder = Path::new(CORPUS_DIR).join(parser);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(label), bytes).unwrap();
    println!("{parser}/{label}: {} bytes", bytes.len());
}

/// Each part behind its length.
fn framed(parts: &[Vec<u8>]) -> Vec<u8> {
    let frame = |part: &Vec<u8>| {
        let length = u16::try_from(part.len()).unwrap();
        [&length.to_be_bytes(), &part[..]].concat()
    };
    parts.iter().flat_map(frame).collect()
}

/// A stream in segments of 255 bytes, the last first.
fn segments(bytes: &[u8]) -> Vec<u8> {
    let segment = |(index, part): (usize, &[u8])| {
        let offset = u16::try_from(index * 255).unwrap();
        let length = u8::try_from(part.len()).unwrap();
        [&offset.to_be_bytes()[..], &[length], part].concat()
    };
    let all: Vec<_> = bytes.chunks(255).enumerate().map(segment).collect();
    all.into_iter().rev().flatten().collect()
}

/// A hello in two CRYPTO frames, the second first, with others around them.
fn crypto_frames(message: &[u8]) -> Vec<u8> {
    let frame = |offset: usize, part: &[u8]| {
        let numbers = [offset, part.len()].map(|it| u16::try_from(it).unwrap() | 0x4000);
        let [offset, length] = numbers.map(u16::to_be_bytes);
        [&[6][..], &offset, &length, part].concat()
    };
    let (first, second) = message.split_at(message.len() / 2);
    let (ping, ack, padding) = ([1], [2, 9, 5, 1, 0, 2, 3], [0; 9]);
    let frames = [frame(first.len(), second), frame(0, first)];
    [&ping[..], &frames[0], &ack, &padding, &frames[1]].concat()
}

/// The query, and answers with aliases, addresses and service records.
fn dns(spoken: &Spoken) {
    let bytes = spoken.parts.concat();
    let over_tcp = spoken.label.starts_with("tcp");
    let query = if over_tcp { bytes[2..].to_vec() } else { bytes };
    let answers = [(1, "answer"), (40, "long-answer")]
        .map(|(times, name)| (format!("{}-{name}", spoken.label), answer(&query, times)));
    if over_tcp {
        let messages = answers.map(|(_, answer)| answer);
        write(
            "dns_stream",
            spoken.label,
            &framed(&[&[query][..], &messages].concat()),
        );
    } else {
        write("dns", spoken.label, &query);
        for (label, answer) in answers {
            write("dns", &label, &answer);
        }
    }
}

/// An answer to a query, with its records as often as this.
fn answer(query: &[u8], times: usize) -> Vec<u8> {
    let mut answer = query.to_vec();
    answer[2] |= 0x80;
    // Records go between the question and what is behind it (EDNS).
    let question_end = 12 + clients::NAME.len() + 2 + 4;
    let behind = answer.split_off(question_end);
    let alias = [&[4][..], b"edge", &[0xc0, 16]].concat();
    let alias_at = u16::try_from(answer.len() + 12).unwrap() | 0xc000;
    let records = [
        record([0xc0, 12], 5, &alias),
        record(alias_at.to_be_bytes(), 1, &[192, 0, 2, 1]),
        record(
            alias_at.to_be_bytes(),
            28,
            &[&[0x20, 1, 0x0d, 0xb8][..], &[1; 12]].concat(),
        ),
        record(
            alias_at.to_be_bytes(),
            65,
            b"\0\x01\0\0\x01\0\x03\x02h2\0\x04\0\x04\xc0\0\x02\x01",
        ),
    ];
    answer[7] = u8::try_from(records.len() * times).unwrap();
    answer.extend(records.concat().repeat(times));
    answer.extend(behind);
    answer
}

/// A record of class IN that lives 300 s.
fn record(owner: [u8; 2], kind: u8, data: &[u8]) -> Vec<u8> {
    let length = u8::try_from(data.len()).unwrap();
    [&owner[..], &[0, kind, 0, 1, 0, 0, 1, 44, 0, length], data].concat()
}
