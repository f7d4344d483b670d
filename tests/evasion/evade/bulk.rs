//! Many bytes, in ways that counters of system calls miss.
//!
//! In: a target. Out: bytes there and back, and how many the application counts.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};

use libc::{AF_INET, IPPROTO_UDP, SOCK_DGRAM, SOCK_STREAM, SOL_SOCKET};

use crate::sys::{self, Address, Outcome, check, owned, say, set_number, supported};
use crate::uring::Ring;
use crate::{Act, Target, tcp};

/// See the functions.
pub const ACTS: &[(&str, Act)] = &[
    ("bytes-none", |t| exchange(t, |_, _| Ok(()), 0)),
    ("bytes-write", |t| exchange(t, write, STREAM)),
    ("bytes-one", |t| exchange(t, write, 1)),
    ("bytes-sendfile", |t| exchange(t, sendfile, STREAM)),
    ("bytes-splice", |t| exchange(t, splice, STREAM)),
    ("bytes-uring", |t| exchange(t, uring, STREAM)),
    ("bytes-zerocopy", |t| exchange(t, zerocopy, STREAM)),
    ("bytes-fast-open", fast_open),
    ("bytes-mptcp", mptcp),
    ("bytes-udp-connected", |t| datagrams(t, true)),
    ("bytes-udp-sendto", |t| datagrams(t, false)),
    ("bytes-udp-gso", gso),
];

/// Odd, and more than any buffer holds.
const STREAM: usize = 1_000_003;
/// Datagrams of one exchange.
const DATAGRAMS: usize = 50;

/// What is sent: it asks for an answer.
fn payload(length: usize) -> Vec<u8> {
    let mut bytes = vec![b'x'; length];
    if let Some(first) = bytes.first_mut() {
        *first = b'R';
    }
    bytes
}

fn exchange(
    target: &Target,
    transfer: fn(&OwnedFd, &[u8]) -> io::Result<()>,
    length: usize,
) -> Outcome {
    let fd = tcp::open(target.v4)?;
    transfer(&fd, &payload(length))?;
    finish(&fd, length)
}

fn finish(fd: &OwnedFd, sent: usize) -> Outcome {
    // SAFETY: no pointer is passed.
    check(unsafe { libc::shutdown(fd.as_raw_fd(), libc::SHUT_WR) })?;
    let received = sys::receive_all(fd)?;
    say(&format!("sent {sent}\nreceived {received}"));
    Ok(())
}

fn write(fd: &OwnedFd, bytes: &[u8]) -> io::Result<()> {
    let mut left = bytes;
    while !left.is_empty() {
        left = &left[sys::send(fd, left)?..];
    }
    Ok(())
}

/// A file of memory with these bytes.
fn file_of(bytes: &[u8]) -> io::Result<File> {
    // SAFETY: the name is NUL-terminated.
    let fd = owned(unsafe { libc::memfd_create(c"bytes".as_ptr(), libc::MFD_CLOEXEC) })?;
    let mut file = File::from(fd);
    file.write_all(bytes)?;
    Ok(file)
}

fn sendfile(fd: &OwnedFd, bytes: &[u8]) -> io::Result<()> {
    let file = file_of(bytes)?;
    let mut at: libc::off_t = 0;
    let end = libc::off_t::try_from(bytes.len()).map_err(io::Error::other)?;
    while at < end {
        let left = usize::try_from(end - at).map_err(io::Error::other)?;
        // SAFETY: `at` is a place for the position.
        check(unsafe { libc::sendfile(fd.as_raw_fd(), file.as_raw_fd(), &raw mut at, left) })?;
    }
    Ok(())
}

fn splice(fd: &OwnedFd, bytes: &[u8]) -> io::Result<()> {
    let mut ends = [0; 2];
    // SAFETY: there is room for two descriptors.
    check(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) })?;
    let (out, into) = (owned(ends[0])?, owned(ends[1])?);
    let file = file_of(bytes)?;
    let mut at: libc::off64_t = 0;
    let none = std::ptr::null_mut();
    let mut left = bytes.len();
    while left > 0 {
        // SAFETY: `at` is a place for the position.
        let mut piped = check(unsafe {
            libc::splice(
                file.as_raw_fd(),
                &raw mut at,
                into.as_raw_fd(),
                none,
                left,
                0,
            )
        })?
        .unsigned_abs();
        left -= piped;
        while piped > 0 {
            // SAFETY: null: neither end has a position.
            let moved = check(unsafe {
                libc::splice(out.as_raw_fd(), none, fd.as_raw_fd(), none, piped, 0)
            })?;
            piped -= moved.unsigned_abs();
        }
    }
    Ok(())
}

fn uring(fd: &OwnedFd, bytes: &[u8]) -> io::Result<()> {
    let mut ring = Ring::plain()?;
    let mut left = bytes;
    while !left.is_empty() {
        let sent = ring.send(fd, left)?;
        left = &left[usize::try_from(sent).map_err(io::Error::other)?..];
    }
    Ok(())
}

fn zerocopy(fd: &OwnedFd, bytes: &[u8]) -> io::Result<()> {
    supported(
        "SO_ZEROCOPY",
        set_number(fd, SOL_SOCKET, libc::SO_ZEROCOPY, 1),
    )?;
    let mut left = bytes;
    while !left.is_empty() {
        left = &left[sys::send_to(fd, left, libc::MSG_ZEROCOPY, None)?..];
    }
    Ok(())
}

/// The first bytes travel in the SYN.
fn fast_open(target: &Target) -> Outcome {
    let bytes = payload(STREAM);
    let fd = sys::socket(AF_INET, SOCK_STREAM, 0)?;
    let address = Address::new(target.v4);
    let sent = sys::send_to(&fd, &bytes, libc::MSG_FASTOPEN, Some(&address))?;
    write(&fd, &bytes[sent..])?;
    finish(&fd, STREAM)
}

fn mptcp(target: &Target) -> Outcome {
    let socket = sys::socket(AF_INET, SOCK_STREAM, libc::IPPROTO_MPTCP);
    let fd = supported("IPPROTO_MPTCP", socket)?;
    sys::connect(&fd, &Address::new(target.v4))?;
    write(&fd, &payload(STREAM))?;
    finish(&fd, STREAM)
}

/// One by one, each answered.
fn datagrams(target: &Target, connected: bool) -> Outcome {
    let fd = sys::socket(AF_INET, SOCK_DGRAM, 0)?;
    let address = Address::new(target.v4);
    if connected {
        sys::connect(&fd, &address)?;
    }
    let to = (!connected).then_some(&address);
    let (mut sent, mut received) = (0, 0);
    let mut buffer = [0; 65_536];
    for number in 0..DATAGRAMS {
        let bytes = payload(1 + number * 25);
        sent += sys::send_to(&fd, &bytes, 0, to)?;
        received += sys::receive(&fd, &mut buffer)?;
    }
    say(&format!("sent {sent}\nreceived {received}"));
    Ok(())
}

/// Ten datagrams in each packet, as QUIC sends them. No answers.
fn gso(target: &Target) -> Outcome {
    let fd = sys::socket(AF_INET, SOCK_DGRAM, 0)?;
    sys::connect(&fd, &Address::new(target.v4))?;
    let size = set_number(&fd, IPPROTO_UDP, libc::UDP_SEGMENT, 1200);
    supported("UDP_SEGMENT", size)?;
    let mut sent = 0;
    for _ in 0..10 {
        sent += sys::send(&fd, &[b'x'; 12_000])?;
    }
    say(&format!("sent {sent}\nreceived 0"));
    Ok(())
}
