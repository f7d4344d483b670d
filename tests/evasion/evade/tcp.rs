//! TCP: connections that are opened in every way there is.
//!
//! In: a target. Out: at least a SYN to it.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::thread::sleep;
use std::time::Duration;

use libc::{AF_INET, AF_INET6, AF_UNSPEC, IPPROTO_TCP, MSG_FASTOPEN, SOCK_STREAM, SOL_SOCKET};

use crate::sys::{self, Address, Outcome, say, set_number, supported};
use crate::{Act, Target};

/// See the functions.
pub const ACTS: &[(&str, Act)] = &[
    ("tcp4", |t| plain(t.v4)),
    ("tcp6", |t| plain(t.v6)),
    ("tcp-mapped", |t| mapped(t.v4)),
    ("tcp-no-wait", |t| no_wait(t.v4)),
    ("tcp-again", again),
    ("tcp-repair", |t| repair(t.v4)),
    ("tcp-bound-device", |t| bound_device(t.v4)),
    ("tcp-same-port", same_port),
    ("tfo4-sendto", |t| fast_open(t.v4, IPPROTO_TCP)),
    ("tfo6-sendto", |t| fast_open(t.v6, IPPROTO_TCP)),
    ("tfo-sendmsg", |t| fast_open_message(t.v4)),
    ("tfo-connect", |t| fast_open_connect(t.v4)),
    ("mptcp4", |t| mptcp(t.v4)),
    ("mptcp6", |t| mptcp(t.v6)),
    ("mptcp-tfo", |t| fast_open(t.v4, libc::IPPROTO_MPTCP)),
    ("mptcp-join", |t| join(t.v4)),
    ("smc", |t| smc(t.v4)),
    ("tcp-source-route", source_route),
];

const HELLO: &[u8] = b"hello";

/// A connected TCP socket.
pub fn open(address: SocketAddr) -> io::Result<OwnedFd> {
    let fd = sys::socket_for(address, SOCK_STREAM, 0)?;
    sys::connect(&fd, &Address::new(address))?;
    Ok(fd)
}

/// Connects, says hello, closes.
pub fn plain(address: SocketAddr) -> Outcome {
    sys::send(&open(address)?, HELLO)?;
    Ok(())
}

/// An IPv6 socket that speaks IPv4.
fn mapped(address: SocketAddr) -> Outcome {
    let fd = sys::socket(AF_INET6, SOCK_STREAM, 0)?;
    sys::connect(&fd, &as_mapped(address))?;
    sys::send(&fd, HELLO)?;
    Ok(())
}

/// `::ffff:a.b.c.d`.
pub fn as_mapped(address: SocketAddr) -> Address {
    let ip = match address {
        SocketAddr::V4(v4) => v4.ip().to_ipv6_mapped(),
        SocketAddr::V6(v6) => *v6.ip(),
    };
    Address::new(SocketAddr::new(ip.into(), address.port()))
}

/// Does not wait for the answer to its SYN.
fn no_wait(address: SocketAddr) -> Outcome {
    let fd = sys::socket(AF_INET, SOCK_STREAM | libc::SOCK_NONBLOCK, 0)?;
    match sys::connect(&fd, &Address::new(address)) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error.into()),
        _ => Ok(()),
    }
}

/// One socket for two connections, one after the other.
fn again(target: &Target) -> Outcome {
    let fd = open(target.v4)?;
    sys::send(&fd, HELLO)?;
    sys::connect(&fd, &Address::raw(AF_UNSPEC, &[0; 14]))?;
    sys::connect(&fd, &Address::new(target.other4))?;
    sys::send(&fd, HELLO)?;
    Ok(())
}

/// A connection that is declared to exist: no SYN leaves, data does.
fn repair(address: SocketAddr) -> Outcome {
    let fd = sys::socket(AF_INET, SOCK_STREAM, 0)?;
    set_number(&fd, IPPROTO_TCP, libc::TCP_REPAIR, 1)?;
    sys::connect(&fd, &Address::new(address))?;
    set_number(&fd, IPPROTO_TCP, libc::TCP_REPAIR, 0)?;
    // The peer knows of no such connection, and may have said so already.
    let _ = sys::send(&fd, HELLO);
    sleep(Duration::from_millis(50));
    Ok(())
}

/// Names the device that it leaves by.
fn bound_device(address: SocketAddr) -> Outcome {
    let fd = sys::socket(AF_INET, SOCK_STREAM, 0)?;
    sys::set_option(&fd, SOL_SOCKET, libc::SO_BINDTODEVICE, b"uplink\0")?;
    sys::connect(&fd, &Address::new(address))?;
    sys::send(&fd, HELLO)?;
    Ok(())
}

/// Two processes, the same local port, the same remote: the same five-tuple.
fn same_port(target: &Target) -> Outcome {
    let address = target.v4;
    for _ in 0..2 {
        let child = sys::fork(|| {
            say(&format!("doer {} {} -", sys::pid(), address.ip()));
            let fd = sys::socket(AF_INET, SOCK_STREAM, 0)?;
            set_number(&fd, SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
            sys::bind(&fd, &Address::new("0.0.0.0:31013".parse()?))?;
            sys::connect(&fd, &Address::new(address))?;
            // No TIME_WAIT: the next one could not have the port.
            let linger = [1u32.to_ne_bytes(), 0u32.to_ne_bytes()].concat();
            sys::set_option(&fd, SOL_SOCKET, libc::SO_LINGER, &linger)?;
            Ok(())
        })?;
        sys::wait(child)?;
    }
    Ok(())
}

/// Data in the SYN, with no call to `connect`.
fn fast_open(address: SocketAddr, protocol: i32) -> Outcome {
    let socket = sys::socket_for(address, SOCK_STREAM, protocol);
    let fd = supported("socket", socket)?;
    let sent = sys::send_to(&fd, HELLO, MSG_FASTOPEN, Some(&Address::new(address)));
    supported("MSG_FASTOPEN", sent)?;
    Ok(())
}

/// The same by `sendmsg`.
fn fast_open_message(address: SocketAddr) -> Outcome {
    let fd = sys::socket(AF_INET, SOCK_STREAM, 0)?;
    sys::Message::new(HELLO, Some(&Address::new(address)), None).send(&fd, MSG_FASTOPEN)?;
    Ok(())
}

/// `connect` that sends nothing until there is data for the SYN.
fn fast_open_connect(address: SocketAddr) -> Outcome {
    let fd = sys::socket(AF_INET, SOCK_STREAM, 0)?;
    set_number(&fd, IPPROTO_TCP, libc::TCP_FASTOPEN_CONNECT, 1)?;
    sys::connect(&fd, &Address::new(address))?;
    sys::send(&fd, HELLO)?;
    Ok(())
}

/// Multipath TCP.
fn mptcp(address: SocketAddr) -> Outcome {
    let socket = sys::socket_for(address, SOCK_STREAM, libc::IPPROTO_MPTCP);
    let fd = supported("IPPROTO_MPTCP", socket)?;
    sys::connect(&fd, &Address::new(address))?;
    sys::send(&fd, HELLO)?;
    Ok(())
}

/// Multipath TCP to a peer that announces another address: the kernel connects to that.
fn join(address: SocketAddr) -> Outcome {
    let socket = sys::socket_for(address, SOCK_STREAM, libc::IPPROTO_MPTCP);
    let fd = supported("IPPROTO_MPTCP", socket)?;
    sys::connect(&fd, &Address::new(address))?;
    for _ in 0..10 {
        sys::send(&fd, HELLO)?;
        sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// AF_SMC: without the hardware it falls back to TCP, on a socket of the kernel's own.
fn smc(address: SocketAddr) -> Outcome {
    const AF_SMC: i32 = 43;
    let fd = supported("AF_SMC", sys::socket(AF_SMC, SOCK_STREAM, 0))?;
    sys::connect(&fd, &Address::new(address))?;
    sys::send(&fd, HELLO)?;
    Ok(())
}

/// IP's loose source route by way of `hop`: the header says `hop`, an option says the rest.
pub fn route_by(hop: SocketAddr) -> Vec<u8> {
    const NO_OPERATION: u8 = 1;
    const LOOSE_SOURCE_ROUTE: u8 = 131;
    let octets = match hop {
        SocketAddr::V4(v4) => v4.ip().octets(),
        SocketAddr::V6(_) => [0; 4],
    };
    // Length and pointer as in RFC 791: one hop; the kernel adds the destination.
    [&[NO_OPERATION, LOOSE_SOURCE_ROUTE, 7, 4], octets.as_slice()].concat()
}

/// Asks for one address, and sends the SYN to another.
fn source_route(target: &Target) -> Outcome {
    let fd = sys::socket(AF_INET, SOCK_STREAM | libc::SOCK_NONBLOCK, 0)?;
    let options = route_by(target.other4);
    sys::set_option(&fd, libc::IPPROTO_IP, libc::IP_OPTIONS, &options)?;
    // Nobody has to answer.
    let _ = sys::connect(&fd, &Address::new(target.v4));
    sleep(Duration::from_millis(50));
    Ok(())
}
