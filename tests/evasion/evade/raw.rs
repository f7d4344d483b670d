//! Raw and ping sockets: whole protocols made in user space.
//!
//! In: a target. Out: packets that no `connect` or address hook announces.

use std::net::SocketAddr;

use libc::{AF_INET, AF_INET6, IPPROTO_RAW, SOCK_DGRAM, SOCK_RAW};

use crate::sys::{self, Address, Message, Outcome};
use crate::{Act, Target};

/// See the functions.
pub const ACTS: &[(&str, Act)] = &[
    ("raw4-unknown-protocol", |t| raw(t.v4, UNKNOWN)),
    ("raw6-unknown-protocol", |t| raw(t.v6, UNKNOWN)),
    ("raw4-sendmsg", |t| raw_message(t.v4)),
    ("raw4-connected", |t| raw_connected(t.v4)),
    ("raw4-two-remotes", raw_two),
    ("raw4-icmp-tunnel", |t| icmp_tunnel(t.v4)),
    ("raw4-udp", |t| raw_udp(t.v4)),
    ("raw4-tcp-syn", |t| raw_tcp(t.v4)),
    ("raw4-header-included", |t| header_included(t.v4, t.v4)),
    ("raw4-header-lies", |t| header_included(t.other4, t.v4)),
    ("raw6-header-included", |t| header_included6(t.v6)),
    ("ping4", |t| ping(t.v4, false)),
    ("ping6", |t| ping6(t.v6)),
    ("ping4-connected", |t| ping(t.v4, true)),
];

/// "Use for experimentation and testing", RFC 3692.
pub const UNKNOWN: i32 = 253;

const HELLO: &[u8] = b"hello";

/// The same host, no port: raw sockets have none.
fn without_port(address: SocketAddr) -> Address {
    Address::new(SocketAddr::new(address.ip(), 0))
}

/// A protocol that the kernel does not know.
fn raw(address: SocketAddr, protocol: i32) -> Outcome {
    let fd = sys::socket_for(address, SOCK_RAW, protocol)?;
    sys::send_to(&fd, HELLO, 0, Some(&without_port(address)))?;
    Ok(())
}

/// By `sendmsg`.
fn raw_message(address: SocketAddr) -> Outcome {
    let fd = sys::socket_for(address, SOCK_RAW, UNKNOWN)?;
    Message::new(HELLO, Some(&without_port(address)), None).send(&fd, 0)?;
    Ok(())
}

/// Connected first, which sends nothing.
fn raw_connected(address: SocketAddr) -> Outcome {
    let fd = sys::socket_for(address, SOCK_RAW, UNKNOWN)?;
    sys::connect(&fd, &without_port(address))?;
    sys::send(&fd, HELLO)?;
    Ok(())
}

/// One socket, two remotes.
fn raw_two(target: &Target) -> Outcome {
    let fd = sys::socket_for(target.v4, SOCK_RAW, UNKNOWN)?;
    for address in [target.v4, target.other4, target.v4] {
        sys::send_to(&fd, HELLO, 0, Some(&without_port(address)))?;
    }
    Ok(())
}

/// Data in echo requests.
fn icmp_tunnel(address: SocketAddr) -> Outcome {
    let fd = sys::socket_for(address, SOCK_RAW, libc::IPPROTO_ICMP)?;
    sys::send_to(&fd, &echo_request(8), 0, Some(&without_port(address)))?;
    Ok(())
}

/// An echo request with a checksum and a few bytes of data.
fn echo_request(kind: u8) -> Vec<u8> {
    let mut message = vec![kind, 0, 0, 0, 0x12, 0x34, 0, 1];
    message.extend(HELLO);
    let sum = checksum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message
}

/// UDP without a UDP socket.
fn raw_udp(address: SocketAddr) -> Outcome {
    let fd = sys::socket_for(address, SOCK_RAW, libc::IPPROTO_UDP)?;
    sys::send_to(&fd, &udp(address.port()), 0, Some(&without_port(address)))?;
    Ok(())
}

/// A UDP datagram, without checksum.
pub fn udp(port: u16) -> Vec<u8> {
    let length = u16::try_from(8 + HELLO.len()).unwrap_or_default();
    let mut datagram = 31_099u16.to_be_bytes().to_vec();
    datagram.extend(port.to_be_bytes());
    datagram.extend(length.to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(HELLO);
    datagram
}

/// A SYN without a TCP socket, as port scanners send it.
fn raw_tcp(address: SocketAddr) -> Outcome {
    let mut segment = vec![0; 20];
    segment[0..2].copy_from_slice(&31_098u16.to_be_bytes());
    segment[2..4].copy_from_slice(&address.port().to_be_bytes());
    segment[12] = 5 << 4;
    segment[13] = 0x02;
    let fd = sys::socket_for(address, SOCK_RAW, libc::IPPROTO_TCP)?;
    sys::send_to(&fd, &segment, 0, Some(&without_port(address)))?;
    Ok(())
}

/// The whole packet, header included. The call says one address, the header another: the
/// header decides.
fn header_included(call: SocketAddr, header: SocketAddr) -> Outcome {
    let fd = sys::socket(AF_INET, SOCK_RAW, IPPROTO_RAW)?;
    let packet = ipv4(SOURCE, header, &udp(header.port()));
    sys::send_to(&fd, &packet, 0, Some(&without_port(call)))?;
    Ok(())
}

/// An IPv4 packet with a UDP datagram in it. The kernel fills in source, id and checksum where it
/// sends it from a raw socket; elsewhere the checksum is right and the source is 0.
pub fn ipv4(source: [u8; 4], to: SocketAddr, datagram: &[u8]) -> Vec<u8> {
    let SocketAddr::V4(to) = to else {
        return Vec::new();
    };
    let length = u16::try_from(20 + datagram.len()).unwrap_or_default();
    let mut packet = vec![0x45, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([0, 1, 0, 0, 64, 17, 0, 0]);
    packet.extend(source);
    packet.extend(to.ip().octets());
    let sum = checksum(&packet);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(datagram);
    packet
}

/// The address of the namespace that the acts run in.
pub const SOURCE: [u8; 4] = [203, 0, 113, 1];

/// The same for IPv6.
fn header_included6(address: SocketAddr) -> Outcome {
    let SocketAddr::V6(to) = address else {
        return Err("an IPv6 address is needed".into());
    };
    let datagram = udp(address.port());
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(
        u16::try_from(datagram.len())
            .unwrap_or_default()
            .to_be_bytes(),
    );
    packet.extend([17, 64]);
    packet.extend(to.ip().octets());
    packet.extend(to.ip().octets());
    packet.extend(datagram);
    let fd = sys::socket(AF_INET6, SOCK_RAW, IPPROTO_RAW)?;
    sys::send_to(&fd, &packet, 0, Some(&without_port(address)))?;
    Ok(())
}

/// A ping socket: what anybody may open whose group is in `net.ipv4.ping_group_range`.
fn ping(address: SocketAddr, connected: bool) -> Outcome {
    std::fs::write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647")?;
    let fd = sys::socket(AF_INET, SOCK_DGRAM, libc::IPPROTO_ICMP)?;
    if connected {
        // With a port, which means nothing.
        sys::connect(&fd, &Address::new(address))?;
        sys::send(&fd, &echo_request(8))?;
    } else {
        sys::send_to(&fd, &echo_request(8), 0, Some(&without_port(address)))?;
    }
    Ok(())
}

/// The same for IPv6.
fn ping6(address: SocketAddr) -> Outcome {
    std::fs::write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647")?;
    let fd = sys::socket(AF_INET6, SOCK_DGRAM, libc::IPPROTO_ICMPV6)?;
    sys::send_to(&fd, &echo_request(128), 0, Some(&without_port(address)))?;
    Ok(())
}

/// The checksum of the Internet, RFC 1071.
pub fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or_default()
}
