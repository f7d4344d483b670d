//! The other end: answers, counts what it is sent, and reads every packet off the wire.
//!
//! In: commands on standard input. Out: on standard output, per command, lines and then `end`.
//!
//! | command | answer |
//! |---|---|
//! | `report` | `packet PROTOCOL DESTINATION PORT PACKETS BYTES`, as captured before this end's network stack; `stream DESTINATION RECEIVED SENT` and `datagrams DESTINATION RECEIVED SENT`, payload as this end's sockets count it. All since the start |
//! | `call FROM TO` | nothing; connects from one address to another and reads to the end |
//! | `ping FROM TO` | nothing; sends an echo request |
//!
//! A stream that starts with `R` is answered, at its end, with half as many bytes plus 3; a
//! datagram that does, with one of half its size plus 1.

use std::collections::BTreeMap;
use std::io::{self, BufRead};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Mutex;
use std::thread;

use libc::{AF_INET, AF_INET6, AF_PACKET, SOCK_DGRAM, SOCK_STREAM, SOL_SOCKET, c_int};

use crate::sys::{self, Address, Outcome, say, set_number};

/// The port that everything here listens on.
const PORT: u16 = 443;
/// Room for what the wire brings at once: a burst of small packets.
const CAPTURE_BYTES: c_int = 32 << 20;

/// Packets and bytes, or bytes received and sent.
type Pair = (u64, u64);

static PACKETS: Mutex<BTreeMap<(u8, IpAddr, u16), Pair>> = Mutex::new(BTreeMap::new());
static STREAMS: Mutex<BTreeMap<IpAddr, Pair>> = Mutex::new(BTreeMap::new());
static DATAGRAMS: Mutex<BTreeMap<IpAddr, Pair>> = Mutex::new(BTreeMap::new());

/// Serves until standard input ends.
pub fn run() -> Outcome {
    let capture = capture()?;
    thread::spawn(move || sniff(&capture));
    // A listener of Multipath TCP takes plain TCP as well.
    let listener = listener(libc::IPPROTO_MPTCP).or_else(|_| listener(0))?;
    thread::spawn(move || accept(&listener));
    if let Ok(listener) = self::listener(libc::IPPROTO_SCTP) {
        thread::spawn(move || accept(&listener));
    }
    let datagrams = datagrams()?;
    thread::spawn(move || answer(&datagrams));
    say("ready");
    for line in io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            ["report"] => report(),
            ["call", from, to] => call(from.parse()?, to.parse()?)?,
            ["ping", from, to] => ping(from.parse()?, to.parse()?)?,
            _ => return Err(format!("unknown command {line}").into()),
        }
        say("end");
    }
    Ok(())
}

fn add<K: Ord>(table: &Mutex<BTreeMap<K, Pair>>, key: K, first: u64, second: u64) {
    if let Ok(mut table) = table.lock() {
        let entry = table.entry(key).or_default();
        entry.0 += first;
        entry.1 += second;
    }
}

fn report() {
    let mut lines = Vec::new();
    if let Ok(table) = PACKETS.lock() {
        for ((protocol, address, port), (packets, bytes)) in &*table {
            lines.push(format!(
                "packet {protocol} {address} {port} {packets} {bytes}"
            ));
        }
    }
    for (kind, table) in [("stream", &STREAMS), ("datagrams", &DATAGRAMS)] {
        if let Ok(table) = table.lock() {
            for (address, (received, sent)) in &*table {
                lines.push(format!("{kind} {address} {received} {sent}"));
            }
        }
    }
    if !lines.is_empty() {
        say(&lines.join("\n"));
    }
}

/// A packet socket that hears every device of this namespace.
fn capture() -> io::Result<OwnedFd> {
    let all = c_int::from(u16::try_from(libc::ETH_P_ALL).unwrap_or_default().to_be());
    let fd = sys::socket(AF_PACKET, SOCK_DGRAM, all)?;
    set_number(&fd, SOL_SOCKET, libc::SO_RCVBUFFORCE, CAPTURE_BYTES)?;
    Ok(fd)
}

fn sniff(capture: &OwnedFd) {
    let mut packet = vec![0; 65_536];
    loop {
        let mut from = Address::raw(AF_PACKET, &[0; 18]);
        let mut length: libc::socklen_t = 20;
        // SAFETY: packet and address have the lengths that are passed.
        let got = unsafe {
            libc::recvfrom(
                capture.as_raw_fd(),
                packet.as_mut_ptr().cast(),
                packet.len(),
                0,
                from.bytes.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        let Ok(got) = usize::try_from(got) else {
            return;
        };
        // struct sockaddr_ll: sll_pkttype.
        let is_for_this_end = from.bytes[10] != libc::PACKET_OUTGOING;
        if is_for_this_end && let Some(key) = parse(&packet[..got]) {
            add(&PACKETS, key, 1, got as u64);
        }
    }
}

/// Protocol, destination and port of an IP packet; port 0 where there is none.
fn parse(packet: &[u8]) -> Option<(u8, IpAddr, u16)> {
    let (protocol, address, transport) = match packet.first()? >> 4 {
        4 => {
            let octets: [u8; 4] = packet.get(16..20)?.try_into().ok()?;
            let transport = usize::from(packet[0] & 0xf) * 4;
            (packet[9], IpAddr::from(octets), transport)
        }
        6 => {
            let octets: [u8; 16] = packet.get(24..40)?.try_into().ok()?;
            let (protocol, transport) = skip_extensions(packet)?;
            (protocol, IpAddr::from(octets), transport)
        }
        _ => return None,
    };
    let has_ports = matches!(protocol, 6 | 17 | 33 | 132 | 136);
    let port = match packet.get(transport + 2..transport + 4) {
        Some(&[high, low]) if has_ports => u16::from_be_bytes([high, low]),
        _ => 0,
    };
    Some((protocol, address, port))
}

fn skip_extensions(packet: &[u8]) -> Option<(u8, usize)> {
    let (mut next, mut at) = (*packet.get(6)?, 40);
    while matches!(next, 0 | 43 | 44 | 60) {
        let length = match next {
            44 => 8,
            _ => (usize::from(*packet.get(at + 1)?) + 1) * 8,
        };
        (next, at) = (*packet.get(at)?, at + length);
    }
    Some((next, at))
}

/// Listens on every address of this end, of both families.
fn listener(protocol: c_int) -> io::Result<OwnedFd> {
    let fd = sys::socket(AF_INET6, SOCK_STREAM, protocol)?;
    set_number(&fd, SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
    sys::bind(&fd, &Address::new(any()))?;
    sys::listen(&fd)?;
    Ok(fd)
}

fn any() -> SocketAddr {
    SocketAddr::new(IpAddr::from([0; 16]), PORT)
}

fn accept(listener: &OwnedFd) {
    while let Ok(stream) = sys::accept(listener) {
        thread::spawn(move || serve(&stream));
    }
}

fn serve(stream: &OwnedFd) {
    let Ok(local) = local_address(stream) else {
        return;
    };
    let (mut received, mut wants_answer) = (0, false);
    let mut buffer = vec![0; 65_536];
    // A reset ends it as well: what came before counts.
    while let Ok(got) = sys::receive(stream, &mut buffer) {
        if got == 0 {
            break;
        }
        wants_answer |= received == 0 && buffer[0] == b'R';
        received += got as u64;
        add(&STREAMS, local, got as u64, 0);
    }
    let mut left = if wants_answer { received / 2 + 3 } else { 0 };
    while left > 0 {
        let piece = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let Ok(sent) = sys::send(stream, &buffer[..piece]) else {
            return;
        };
        left -= sent as u64;
        add(&STREAMS, local, 0, sent as u64);
    }
}

/// The address that the other end connected to.
fn local_address(stream: &OwnedFd) -> io::Result<IpAddr> {
    let mut address = Address::raw(AF_INET6, &[0; 26]);
    let mut length = address.length;
    // SAFETY: the address has at least that many bytes.
    sys::check(unsafe {
        libc::getsockname(
            stream.as_raw_fd(),
            address.bytes.as_mut_ptr().cast(),
            &raw mut length,
        )
    })?;
    let family = c_int::from(u16::from_ne_bytes([address.bytes[0], address.bytes[1]]));
    if family == AF_INET {
        let octets: [u8; 4] = address.bytes[4..8].try_into().unwrap_or_default();
        return Ok(IpAddr::from(octets));
    }
    let octets: [u8; 16] = address.bytes[8..24].try_into().unwrap_or_default();
    Ok(IpAddr::from(octets).to_canonical())
}

fn datagrams() -> io::Result<OwnedFd> {
    let fd = sys::socket(AF_INET6, SOCK_DGRAM, 0)?;
    set_number(&fd, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1)?;
    set_number(&fd, SOL_SOCKET, libc::SO_RCVBUFFORCE, CAPTURE_BYTES)?;
    sys::bind(&fd, &Address::new(any()))?;
    Ok(fd)
}

/// Length of a control message with a `struct in6_pktinfo`, and where that starts in it.
const CONTROL: usize = 40;
const PACKET_INFO: usize = 16;

fn answer(socket: &OwnedFd) {
    let mut buffer = vec![0u8; 65_536];
    let mut control = [0u64; CONTROL / 8];
    loop {
        let mut from = Address::raw(AF_INET6, &[0; 26]);
        let mut part = libc::iovec {
            iov_base: buffer.as_mut_ptr().cast(),
            iov_len: buffer.len(),
        };
        // SAFETY: all zero is a valid `msghdr`.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_name = from.bytes.as_mut_ptr().cast();
        header.msg_namelen = from.length;
        header.msg_iov = &raw mut part;
        header.msg_iovlen = 1;
        header.msg_control = control.as_mut_ptr().cast();
        header.msg_controllen = CONTROL;
        // SAFETY: the header points to places of the lengths that it says.
        let got = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, 0) };
        let Ok(got) = usize::try_from(got) else {
            return;
        };
        let bytes: Vec<u8> = control.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let info = &bytes[PACKET_INFO..PACKET_INFO + 20];
        let octets: [u8; 16] = info[..16].try_into().unwrap_or_default();
        let local = IpAddr::from(octets).to_canonical();
        let mut sent = 0;
        if got > 0 && buffer[0] == b'R' {
            // From the address that was asked, by whichever device.
            let source = [&info[..16], &[0; 4]].concat();
            let control = Some((libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, source.as_slice()));
            let reply = sys::Message::new(&buffer[..got / 2 + 1], Some(&from), control);
            sent = reply.send(socket, 0).unwrap_or(0);
        }
        add(&DATAGRAMS, local, got as u64, sent as u64);
    }
}

fn call(from: SocketAddr, to: SocketAddr) -> Outcome {
    let fd = sys::socket_for(from, SOCK_STREAM, 0)?;
    sys::bind(&fd, &Address::new(from))?;
    sys::connect(&fd, &Address::new(to))?;
    sys::receive_all(&fd)?;
    Ok(())
}

fn ping(from: SocketAddr, to: SocketAddr) -> Outcome {
    let fd = sys::socket(AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP)?;
    sys::bind(&fd, &Address::new(from))?;
    let mut request = [8, 0, 0, 0, 0, 1, 0, 1];
    let sum = crate::raw::checksum(&request);
    request[2..4].copy_from_slice(&sum.to_be_bytes());
    sys::send_to(&fd, &request, 0, Some(&Address::new(to)))?;
    Ok(())
}
