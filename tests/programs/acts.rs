//! One act for each kernel program, done by this process on loopback.
//!
//! In: nothing. Out: what was done, to compare with what the programs say.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{self, Command};

use monitor_tests::cgroup::Cgroup;
use rustix::net::{AddressFamily, SendFlags, SocketType};

/// Status that the child exits with.
pub const EXIT_STATUS: i32 = 7;

/// argv of the child.
pub const CHILD_ARGS: [&str; 4] = ["sh", "-c", "exit 7", "an argument"];

/// What is said over each TCP connection.
pub const GREETING: &[u8] = b"GET / HTTP/1.1\r\nHost: named.test\r\n\r\n";

/// Whom it names.
pub const GREETED: &str = "named.test";

/// What is answered.
pub const REPLY: &[u8] = b"you too";

/// Where the name server listens: on loopback, and not where a real one does.
const RESOLVER: &str = "127.0.83.1:53";

/// A question for the address of `telltale.test`: RFC 1035 section 4.
pub const DNS_QUERY: &[u8] =
    b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x08telltale\x04test\x00\x00\x01\x00\x01";

/// Its answer: there is no such name.
pub const DNS_ANSWER: &[u8] =
    b"\x12\x34\x81\x83\x00\x01\x00\x00\x00\x00\x00\x00\x08telltale\x04test\x00\x00\x01\x00\x01";

/// What was done.
#[derive(Debug)]
pub struct Acts {
    /// Who did it.
    pub pid: u32,
    /// Where this program lies.
    pub exe: PathBuf,
    /// The child that ran [`CHILD_ARGS`].
    pub child: u32,
    /// Where the child's program lies.
    pub child_exe: PathBuf,
    /// Connected to, greeted and closed.
    pub tcp4: SocketAddr,
    /// The same over IPv6.
    pub tcp6: SocketAddr,
    /// Refused the connection.
    pub refused: SocketAddr,
    /// Got a datagram from an unconnected socket.
    pub udp4: SocketAddr,
    /// The same over IPv6.
    pub udp6: SocketAddr,
    /// Was sent an ICMP echo request over a raw socket.
    pub echoed: SocketAddr,
    /// Was connected to before the programs were loaded.
    pub older: SocketAddr,
    /// Path from the root of the hierarchy on, and inode number, of a cgroup that was made.
    pub cgroup: (String, u64),
    /// Was asked [`DNS_QUERY`] over a connected socket, and answered.
    pub resolver: SocketAddr,
}

impl Acts {
    /// Does it all. `older` is a connection that was there before.
    pub fn perform(older: &TcpStream) -> Acts {
        let (child, child_exe) = run_child();
        Acts {
            pid: process::id(),
            exe: fs::canonicalize("/proc/self/exe").unwrap(),
            child,
            child_exe,
            tcp4: greet("127.0.0.1:0"),
            tcp6: greet("[::1]:0"),
            refused: be_refused(),
            udp4: send_to("127.0.0.1:0"),
            udp6: send_to("[::1]:0"),
            echoed: {
                send_frame();
                echo()
            },
            older: older.peer_addr().unwrap(),
            cgroup: make_cgroup(),
            resolver: ask(),
        }
    }
}

fn run_child() -> (u32, PathBuf) {
    let mut child = Command::new(CHILD_ARGS[0])
        .args(&CHILD_ARGS[1..])
        .spawn()
        .unwrap();
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(EXIT_STATUS));
    (child.id(), fs::canonicalize("/bin/sh").unwrap())
}

fn make_cgroup() -> (String, u64) {
    let path = format!("/telltale-{}.slice", process::id());
    let cgroup = Cgroup::make(&path);
    (path, cgroup.id())
}

fn greet(addr: &str) -> SocketAddr {
    let listener = TcpListener::bind(addr).unwrap();
    let addr = listener.local_addr().unwrap();
    let mut client = TcpStream::connect(addr).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    client.write_all(GREETING).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut heard = Vec::new();
    server.read_to_end(&mut heard).unwrap();
    assert_eq!(heard, GREETING);
    server.write_all(REPLY).unwrap();
    drop(server);
    heard.clear();
    client.read_to_end(&mut heard).unwrap();
    assert_eq!(heard, REPLY);
    addr
}

fn be_refused() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    drop(listener);
    TcpStream::connect(addr).unwrap_err();
    addr
}

fn send_to(addr: &str) -> SocketAddr {
    let receiver = UdpSocket::bind(addr).unwrap();
    let addr = receiver.local_addr().unwrap();
    let sender = UdpSocket::bind(SocketAddr::new(addr.ip(), 0)).unwrap();
    sender.send_to(GREETING, addr).unwrap();
    addr
}

/// Sends an ICMP echo request: RFC 792.
fn echo() -> SocketAddr {
    let target: SocketAddr = "127.0.83.2:0".parse().unwrap();
    let icmp = Some(rustix::net::ipproto::ICMP);
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::RAW, icmp).unwrap();
    let request = [8, 0, 0xf7, 0xff, 0, 0, 0, 0];
    rustix::net::sendto(&socket, &request, SendFlags::empty(), &target).unwrap();
    target
}

/// Tries to send a frame on a packet socket that is bound to no device: refused, after the send
/// was seen.
fn send_frame() {
    let socket = rustix::net::socket(AddressFamily::PACKET, SocketType::DGRAM, None).unwrap();
    rustix::net::send(&socket, GREETING, SendFlags::empty()).unwrap_err();
}

fn ask() -> SocketAddr {
    let resolver = UdpSocket::bind(RESOLVER).unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(RESOLVER).unwrap();
    client.send(DNS_QUERY).unwrap();
    let mut message = [0; 512];
    let (_, asker) = resolver.recv_from(&mut message).unwrap();
    resolver.send_to(DNS_ANSWER, asker).unwrap();
    let length = client.recv(&mut message).unwrap();
    assert_eq!(&message[..length], DNS_ANSWER);
    resolver.local_addr().unwrap()
}
