//! What it costs to find the name in what a client says first.
//!
//! In: what real clients said, from `fuzz/corpus`. Out: a Markdown table of CPU time for a flow.

use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use telltale::core::wire::dns;
use telltale::core::wire::found::Found;
use telltale::core::wire::opening::TcpOpening;
use telltale::core::wire::quic::QuicOpening;

use crate::timed;

/// Flows of each kind; a tenth of it is not counted.
const FLOWS: u32 = 20_000;

/// What an MTU of 1280 leaves for a segment, so that a post-quantum hello needs two.
const SEGMENT_BYTES: usize = 1220;

/// Prints the table.
pub fn print_table() -> Result<()> {
    println!("| first bytes of a flow | bytes | ns |");
    println!("|---|--:|--:|");
    for (name, file) in [
        ("TLS, curl", "curl"),
        ("TLS, post-quantum", "rustls-post-quantum"),
    ] {
        let message = read("tls", file)?;
        let size = u16::try_from(message.len())?.to_be_bytes();
        let record = [&[22, 3, 1], &size[..], &message].concat();
        print_row(name, &record, tcp)?;
    }
    let request = read("http", "plain")?;
    print_row("HTTP", &request, tcp)?;
    for (name, file) in [
        ("QUIC", "quinn"),
        ("QUIC, post-quantum", "quinn-post-quantum"),
    ] {
        let datagrams = read("quic", file)?;
        print_row(name, &datagrams, quic)?;
    }
    for (name, file) in [("DNS query", "udp-a"), ("DNS answer", "udp-a-answer")] {
        let message = read("dns", file)?;
        print_row(name, &message, |bytes| dns::parse(bytes).is_ok())?;
    }
    let other = b"SSH-2.0-x\r\n".repeat(100);
    print_row("none of these", &other, |bytes| !tcp(bytes))
}

fn read(parser: &str, file: &str) -> Result<Vec<u8>> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    let path = corpus.join(parser).join(file);
    std::fs::read(&path).with_context(|| path.display().to_string())
}

fn print_row(name: &str, bytes: &[u8], look: impl Fn(&[u8]) -> bool) -> Result<()> {
    let mut time = Duration::ZERO;
    for _ in 0..FLOWS / 10 {
        ensure!(look(bytes), "{name}: not found");
    }
    timed(&mut time, || {
        for _ in 0..FLOWS {
            black_box(look(black_box(bytes)));
        }
    });
    let each = time.as_nanos() / u128::from(FLOWS);
    println!("| {name} | {} | {each} |", bytes.len());
    Ok(())
}

/// Whether there is a name in a flow whose bytes come in segments.
fn tcp(bytes: &[u8]) -> bool {
    let mut opening = TcpOpening::default();
    let mut found = Vec::new();
    let offsets = (0..).step_by(SEGMENT_BYTES);
    for (offset, segment) in offsets.zip(bytes.chunks(SEGMENT_BYTES)) {
        found = opening.segment(offset, segment);
    }
    matches!(found[..], [Found::Tls(_) | Found::Http(_)])
}

/// The same of datagrams, each behind its length.
fn quic(mut bytes: &[u8]) -> bool {
    let mut opening = QuicOpening::default();
    let mut found = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes(*length));
        let (datagram, rest) = rest.split_at_checked(length).unwrap_or((rest, &[]));
        found = opening.datagram(datagram);
        bytes = rest;
    }
    matches!(found[..], [Found::Quic(..)])
}
