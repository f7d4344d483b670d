//! UDP: datagrams that are sent in every way there is.
//!
//! In: a target. Out: at least a datagram to it.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use libc::{AF_INET, AF_INET6, AF_UNSPEC, IPPROTO_UDP, SOCK_DGRAM, SOL_SOCKET};

use crate::sys::{self, Address, Message, Outcome, set_number, supported};
use crate::tcp::{as_mapped, route_by};
use crate::{Act, Target};

/// See the functions.
pub const ACTS: &[(&str, Act)] = &[
    ("udp-sendto", |t| send_to(t.v4)),
    ("udp6-sendto", |t| send_to(t.v6)),
    ("udp-sendmsg", |t| send_message(t.v4)),
    ("udp6-sendmsg", |t| send_message(t.v6)),
    ("udp-sendmmsg", send_messages),
    ("udp-connected", |t| connected(t.v4)),
    ("udp6-connected", |t| connected(t.v6)),
    ("udp-elsewhere", elsewhere),
    ("udp-again", again),
    ("udp-mapped", |t| mapped(t.v4)),
    ("udp-mapped-connected", |t| mapped_connected(t.v4)),
    ("udp-v4-on-v6", |t| v4_on_v6(t.v4)),
    ("udp-unspec", |t| unspecified(t.v4)),
    ("udp6-unspec", |t| unspecified6(t.v6)),
    ("udp-gso", |t| segmented(t.v4)),
    ("udp-empty", |t| empty(t.v4)),
    ("udp-more", |t| corked(t.v4)),
    ("udp-broadcast", |t| broadcast(t.v4)),
    ("udp-lite", |t| lite(t.v4)),
    ("udp-source-route", source_route),
    ("udp6-routing-header", routing_header),
];

const HELLO: &[u8] = b"hello";

/// A UDP socket of the address's family.
pub fn open(address: SocketAddr) -> io::Result<OwnedFd> {
    sys::socket_for(address, SOCK_DGRAM, 0)
}

/// `sendto` on a socket that is not connected.
pub fn send_to(address: SocketAddr) -> Outcome {
    sys::send_to(&open(address)?, HELLO, 0, Some(&Address::new(address)))?;
    Ok(())
}

/// `sendmsg`.
fn send_message(address: SocketAddr) -> Outcome {
    Message::new(HELLO, Some(&Address::new(address)), None).send(&open(address)?, 0)?;
    Ok(())
}

/// `sendmmsg`, to two addresses in one call.
fn send_messages(target: &Target) -> Outcome {
    let messages =
        [target.v4, target.other4].map(|to| Message::new(HELLO, Some(&Address::new(to)), None));
    Message::send_many(&messages, &open(target.v4)?)?;
    Ok(())
}

/// `connect`, then `send`.
pub fn connected(address: SocketAddr) -> Outcome {
    let fd = open(address)?;
    sys::connect(&fd, &Address::new(address))?;
    sys::send(&fd, HELLO)?;
    Ok(())
}

/// Connected to one address, and `sendto` another; then again to the first.
fn elsewhere(target: &Target) -> Outcome {
    let fd = open(target.v4)?;
    sys::connect(&fd, &Address::new(target.v4))?;
    sys::send(&fd, HELLO)?;
    sys::send_to(&fd, HELLO, 0, Some(&Address::new(target.other4)))?;
    sys::send(&fd, HELLO)?;
    Ok(())
}

/// Connected to one address, then to another.
fn again(target: &Target) -> Outcome {
    let fd = open(target.v4)?;
    for address in [target.v4, target.other4] {
        sys::connect(&fd, &Address::new(address))?;
        sys::send(&fd, HELLO)?;
    }
    Ok(())
}

/// An IPv6 socket that speaks IPv4.
fn mapped(address: SocketAddr) -> Outcome {
    let fd = sys::socket(AF_INET6, SOCK_DGRAM, 0)?;
    sys::send_to(&fd, HELLO, 0, Some(&as_mapped(address)))?;
    Ok(())
}

/// The same, connected.
fn mapped_connected(address: SocketAddr) -> Outcome {
    let fd = sys::socket(AF_INET6, SOCK_DGRAM, 0)?;
    sys::connect(&fd, &as_mapped(address))?;
    sys::send(&fd, HELLO)?;
    Ok(())
}

/// An IPv6 socket that is given an IPv4 address structure.
fn v4_on_v6(address: SocketAddr) -> Outcome {
    let fd = sys::socket(AF_INET6, SOCK_DGRAM, 0)?;
    sys::send_to(&fd, HELLO, 0, Some(&Address::new(address)))?;
    Ok(())
}

/// An address structure that denies its family.
fn unspecified(address: SocketAddr) -> Outcome {
    let address = Address::new(address).with_family(AF_UNSPEC);
    let fd = sys::socket(AF_INET, SOCK_DGRAM, 0)?;
    sys::send_to(&fd, HELLO, 0, Some(&address))?;
    Ok(())
}

/// The same on a connected IPv6 socket: the kernel sends to the address of the connection.
fn unspecified6(address: SocketAddr) -> Outcome {
    let fd = sys::socket(AF_INET6, SOCK_DGRAM, 0)?;
    sys::connect(&fd, &Address::new(address))?;
    let nothing = Address::raw(AF_UNSPEC, &[0; 26]);
    sys::send_to(&fd, HELLO, 0, Some(&nothing))?;
    Ok(())
}

/// Many datagrams in one packet until late (UDP_SEGMENT).
fn segmented(address: SocketAddr) -> Outcome {
    let fd = open(address)?;
    let size = set_number(&fd, IPPROTO_UDP, libc::UDP_SEGMENT, 1000);
    supported("UDP_SEGMENT", size)?;
    sys::send_to(&fd, &[b'x'; 10_000], 0, Some(&Address::new(address)))?;
    Ok(())
}

/// Not one byte.
fn empty(address: SocketAddr) -> Outcome {
    sys::send_to(&open(address)?, &[], 0, Some(&Address::new(address)))?;
    Ok(())
}

/// In two pieces.
fn corked(address: SocketAddr) -> Outcome {
    let fd = open(address)?;
    let to = Address::new(address);
    sys::send_to(&fd, HELLO, libc::MSG_MORE, Some(&to))?;
    sys::send_to(&fd, HELLO, 0, Some(&to))?;
    Ok(())
}

/// To everybody on the link: the address's host part is all ones.
fn broadcast(address: SocketAddr) -> Outcome {
    let fd = open(address)?;
    set_number(&fd, SOL_SOCKET, libc::SO_BROADCAST, 1)?;
    sys::send_to(&fd, HELLO, 0, Some(&Address::new(address)))?;
    Ok(())
}

/// UDP-Lite.
fn lite(address: SocketAddr) -> Outcome {
    let fd = sys::socket_for(address, SOCK_DGRAM, libc::IPPROTO_UDPLITE);
    let fd = supported("UDP-Lite", fd)?;
    sys::send_to(&fd, HELLO, 0, Some(&Address::new(address)))?;
    Ok(())
}

/// Asks for one address, and sends to another: IP's source route.
fn source_route(target: &Target) -> Outcome {
    let fd = open(target.v4)?;
    let options = route_by(target.other4);
    sys::set_option(&fd, libc::IPPROTO_IP, libc::IP_OPTIONS, &options)?;
    sys::send_to(&fd, HELLO, 0, Some(&Address::new(target.v4)))?;
    Ok(())
}

/// The same for IPv6: a segment routing header (RFC 8754).
fn routing_header(target: &Target) -> Outcome {
    const SEGMENT_ROUTING: u8 = 4;
    let SocketAddr::V6(hop) = target.other6 else {
        return Err("an IPv6 address is needed".into());
    };
    // Next header, length in 8 bytes beyond the first, type, segments left, last entry, flags,
    // tag; then the final address, which the kernel fills in, and the hop.
    let mut header = vec![0, 4, SEGMENT_ROUTING, 1, 1, 0, 0, 0];
    header.extend([0; 16]);
    header.extend(hop.ip().octets());
    let fd = open(target.v6)?;
    let set = sys::set_option(&fd, libc::IPPROTO_IPV6, libc::IPV6_RTHDR, &header);
    if let Err(error) = &set
        && error.raw_os_error() == Some(libc::EINVAL)
    {
        sys::unsupported("segment routing (CONFIG_IPV6_SEG6_LWTUNNEL or older kernel)");
    }
    set?;
    sys::send_to(&fd, HELLO, 0, Some(&Address::new(target.v6)))?;
    Ok(())
}
