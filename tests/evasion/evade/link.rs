//! Below IP: packet sockets, tunnels of user space, and families that are no IP at all.
//!
//! In: a target; its IPv4 address is beyond the device `uplink`, whose other end has the address
//! [`GATEWAY`]. Out: frames that no socket of IP has made.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::thread::sleep;
use std::time::Duration;

use libc::{AF_INET, AF_PACKET, SOCK_DGRAM, SOCK_RAW, c_int};

use crate::raw::{SOURCE, ipv4, udp};
use crate::sys::{self, Address, Outcome, check, set_number, supported};
use crate::xdp;
use crate::{Act, Target};

/// See the functions.
pub const ACTS: &[(&str, Act)] = &[
    ("packet", |t| packet(t, Way::Queue, HELD)),
    ("packet-brief", |t| packet(t, Way::Queue, Duration::ZERO)),
    ("packet-bypass", |t| packet(t, Way::Bypass, HELD)),
    ("packet-bypass-brief", |t| {
        packet(t, Way::Bypass, Duration::ZERO)
    }),
    ("packet-datagram", |t| packet_datagram(t, HELD)),
    ("xdp", |t| xdp::send(&frame(t), HELD)),
    ("tun", tun),
    ("vsock", vsock),
];

/// Longer than a monitor may take to look at what is open.
const HELD: Duration = Duration::from_secs(4);
/// Hardware address at the other end of `uplink`.
const GATEWAY: [u8; 6] = [2, 0, 0, 0, 0, 2];
/// Hardware address at this end.
const THIS_END: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// Where a frame goes from here.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    Queue,
    /// Past the queue, and whoever watches it.
    Bypass,
}

/// An Ethernet frame with a UDP datagram to the target.
fn frame(target: &Target) -> Vec<u8> {
    let mut frame = [GATEWAY, THIS_END].concat();
    frame.extend([0x08, 0x00]);
    frame.extend(ipv4(SOURCE, target.v4, &udp(target.v4.port())));
    frame
}

fn device_index(name: &std::ffi::CStr) -> io::Result<u32> {
    // SAFETY: the name is NUL-terminated.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    if index == 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(index)
}

/// `struct sockaddr_ll`: IPv4, out of `uplink`, to the other end.
fn uplink() -> io::Result<Address> {
    let mut rest = 0x0800u16.to_be_bytes().to_vec();
    rest.extend(device_index(c"uplink")?.to_ne_bytes());
    rest.extend([0, 0, 0, 6]);
    rest.extend(GATEWAY);
    rest.extend([0, 0]);
    Ok(Address::raw(AF_PACKET, &rest))
}

fn packet(target: &Target, way: Way, hold: Duration) -> Outcome {
    const PACKET_QDISC_BYPASS: c_int = 20;
    let fd = sys::socket(AF_PACKET, SOCK_RAW, 0)?;
    if way == Way::Bypass {
        set_number(&fd, libc::SOL_PACKET, PACKET_QDISC_BYPASS, 1)?;
    }
    sys::send_to(&fd, &frame(target), 0, Some(&uplink()?))?;
    sleep(hold);
    Ok(())
}

/// The kernel writes the Ethernet header.
fn packet_datagram(target: &Target, hold: Duration) -> Outcome {
    let fd = sys::socket(AF_PACKET, SOCK_DGRAM, 0)?;
    let packet = ipv4(SOURCE, target.v4, &udp(target.v4.port()));
    sys::send_to(&fd, &packet, 0, Some(&uplink()?))?;
    sleep(hold);
    Ok(())
}

/// `struct ifreq`: a name of 16 bytes, then flags.
fn interface_request(name: &[u8], flags: i32) -> [u8; 40] {
    let mut request = [0; 40];
    request[..name.len()].copy_from_slice(name);
    request[16..18].copy_from_slice(&u16::try_from(flags).unwrap_or_default().to_ne_bytes());
    request
}

/// A device whose other end is this process: the host forwards what comes out of it.
fn tun(target: &Target) -> Outcome {
    const TUNSETIFF: libc::c_ulong = 0x4004_54ca;
    /// An address that is not this host's: it would not believe a packet from itself.
    const ELSEWHERE: [u8; 4] = [192, 0, 2, 99];
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/net/tun");
    let mut tun: File = supported("/dev/net/tun", opened)?;
    let mut request = interface_request(b"evade-tun", libc::IFF_TUN | libc::IFF_NO_PI);
    // SAFETY: the request is longer than what the kernel reads and writes.
    check(unsafe { libc::ioctl(tun.as_raw_fd(), TUNSETIFF, request.as_mut_ptr()) })?;
    let control: OwnedFd = sys::socket(AF_INET, SOCK_DGRAM, 0)?;
    let mut request = interface_request(b"evade-tun", libc::IFF_UP | libc::IFF_RUNNING);
    // SAFETY: as above.
    check(unsafe {
        libc::ioctl(
            control.as_raw_fd(),
            libc::SIOCSIFFLAGS,
            request.as_mut_ptr(),
        )
    })?;
    tun.write_all(&ipv4(ELSEWHERE, target.v4, &udp(target.v4.port())))?;
    sleep(HELD);
    Ok(())
}

/// A socket to the hypervisor or another virtual machine. It goes no further than this one: it
/// connects only where the kernel can be its own peer.
fn vsock(_: &Target) -> Outcome {
    const LOCAL: u32 = 1;
    let fd = supported(
        "AF_VSOCK",
        sys::socket(libc::AF_VSOCK, libc::SOCK_STREAM, 0),
    )?;
    if std::path::Path::new("/sys/module/vsock_loopback").exists() {
        // struct sockaddr_vm: reserved, port, context id.
        let rest = [
            &[0; 2],
            &9999u32.to_ne_bytes()[..],
            &LOCAL.to_ne_bytes(),
            &[0; 4],
        ]
        .concat();
        // Nobody listens.
        let _ = sys::connect(&fd, &Address::raw(libc::AF_VSOCK, &rest));
    }
    sleep(HELD);
    Ok(())
}
