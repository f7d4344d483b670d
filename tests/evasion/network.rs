//! The network of the suite: this host's side, a peer, and a second way from one to the other.
//!
//! In: nothing. Out: three network namespaces, gone when it is dropped.
//!
//! ```text
//!   host --uplink(203.0.113.1)------(203.0.113.2)-- peer: all of 198.18.0.0/15, 2001:db8:b::/64
//!   other --uplink(192.0.2.129)-----(192.0.2.130)--/
//! ```
//!
//! The acts run in `host`; everything that leaves it crosses the wire to `peer`, which reads it.

use std::fs::{self, File};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::thread;

use monitor_tests::binary;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Start of the names; the harness removes those of processes that are no more.
const PREFIX: &str = "telltale-test-";

/// How the destinations of the suite begin in the event log: those of the cases, the broadcast and
/// multicast ones, those inside the tunnel, and those that the suite itself calls.
pub const PREFIXES: [&str; 7] = [
    "\"198.18.",
    "\"198.19.",
    "\"2001:db8:b:",
    "\"203.0.113.255\"",
    "\"239.1.2.3\"",
    "\"198.51.100.",
    "\"192.0.2.77\"",
];

/// Addresses of the host at its end of the wire.
pub const HOST: &str = "203.0.113.1";

/// A network namespace.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    fn new(suffix: &str) -> Namespace {
        let name = format!("{PREFIX}{}-{suffix}", process::id());
        ip(&["netns", "add", &name]);
        let namespace = Namespace { name };
        namespace.ip("link set lo up");
        namespace
    }

    /// Where it is in the file system.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.name)
    }

    /// Runs a closure in the namespace; processes that it starts stay there.
    pub fn enter<T: Send>(&self, action: impl FnOnce() -> T + Send) -> T {
        let file = File::open(self.path()).expect("namespace");
        // A thread of its own: entering cannot be undone without privilege to go back.
        let entered = || {
            let kind = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(file.as_fd(), kind).expect("setns");
            action()
        };
        thread::scope(|scope| scope.spawn(entered).join().expect("closure"))
    }

    /// `ip` with these words, in the namespace.
    pub fn ip(&self, words: &str) {
        let words: Vec<&str> = words.split(' ').collect();
        ip(&[&["-n", &self.name], words.as_slice()].concat());
    }

    /// The same, where the kernel may not know it.
    pub fn ip_if_it_can(&self, words: &str) -> bool {
        let mut command = Command::new("ip");
        command.args(["-n", &self.name]).args(words.split(' '));
        command.output().is_ok_and(|output| output.status.success())
    }

    fn sysctl(&self, settings: &[(&str, &str)]) {
        self.enter(|| {
            for (name, value) in settings {
                let path = Path::new("/proc/sys/net").join(name);
                fs::write(&path, value).unwrap_or_else(|error| panic!("{name}: {error}"));
            }
        });
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip")
            .args(["netns", "del", &self.name])
            .output();
    }
}

fn ip(words: &[&str]) {
    let output = Command::new("ip").args(words).output().expect("ip starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {}: {stderr}", words.join(" "));
}

/// All of it.
#[derive(Debug)]
pub struct Network {
    /// Where the acts run.
    pub host: Namespace,
    /// The other end.
    pub peer: Namespace,
    /// Another namespace of the host, with a wire of its own.
    pub other: Namespace,
}

impl Network {
    /// Makes it.
    #[must_use]
    pub fn new() -> Network {
        binary::require_root();
        binary::require("ip", "iproute2");
        let network = Network {
            host: Namespace::new("host"),
            peer: Namespace::new("peer"),
            other: Namespace::new("other"),
        };
        network.set_rules();
        network.wire(&network.host, "down0", HOST, "203.0.113.2", 1);
        network.wire(&network.other, "down1", "192.0.2.129", "192.0.2.130", 3);
        let Network { host, peer, .. } = &network;
        host.ip("-6 addr add 2001:db8:e::1/64 dev uplink nodad");
        peer.ip("-6 addr add 2001:db8:e::2/64 dev down0 nodad");
        host.ip("-6 route add default via 2001:db8:e::2");
        peer.ip("route add local 198.18.0.0/15 dev lo");
        peer.ip("-6 route add local 2001:db8:b::/64 dev lo");
        host.ip_if_it_can("mptcp limits set subflow 4 add_addr_accepted 4");
        network
    }

    /// A wire from a namespace of the host to the peer. `number` makes the hardware addresses.
    fn wire(&self, from: &Namespace, device: &str, address: &str, gateway: &str, number: u8) {
        from.ip(&format!(
            "link add uplink address 02:00:00:00:00:{number:02x} type veth peer name {device} \
             address 02:00:00:00:00:{:02x} netns {}",
            number + 1,
            self.peer.name
        ));
        let bits = if number == 1 { 24 } else { 25 };
        from.ip(&format!("addr add {address}/{bits} dev uplink"));
        self.peer
            .ip(&format!("addr add {gateway}/{bits} dev {device}"));
        from.ip("link set uplink up");
        self.peer.ip(&format!("link set {device} up"));
        from.ip(&format!("route add default via {gateway}"));
    }

    /// What the kernel would not do by default.
    fn set_rules(&self) {
        // Clients: data in the first SYN, without a cookie. Packets of tunnels are forwarded.
        const CLIENT: &[(&str, &str)] = &[
            ("ipv4/tcp_fastopen", "5"),
            ("ipv4/ip_forward", "1"),
            ("ipv4/conf/all/rp_filter", "0"),
            ("ipv4/conf/default/rp_filter", "0"),
        ];
        self.host.sysctl(CLIENT);
        self.other.sysctl(CLIENT);
        // The server takes such data on every listener; it answers on addresses of no device.
        self.peer.sysctl(&[
            ("ipv4/tcp_fastopen", "1027"),
            ("ipv4/conf/all/rp_filter", "0"),
            ("ipv4/conf/default/rp_filter", "0"),
            ("ipv6/ip_nonlocal_bind", "1"),
        ]);
    }
}

/// The addresses of one case: its number is in each.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    number: u16,
}

impl Addresses {
    /// For the case with this number, below 10 000.
    #[must_use]
    pub fn of(number: usize) -> Addresses {
        let number = u16::try_from(number).expect("a small number");
        Addresses { number }
    }

    /// IPv4, IPv6, other IPv4, other IPv6.
    #[must_use]
    pub fn all(self) -> [IpAddr; 4] {
        const PER_BYTE: u16 = 250;
        let byte = |number: u16| u8::try_from(number).expect("a small number");
        let (high, low) = (self.number / PER_BYTE, self.number % PER_BYTE + 1);
        let v4 = |second: u8| IpAddr::from([198, second, byte(high), byte(low)]);
        let v6 = |group: u16| IpAddr::from([0x2001, 0xdb8, 0xb, 0, 0, 0, group, self.number + 1]);
        [v4(18), v6(0), v4(19), v6(1)]
    }
}

/// Whether the suite reaches for an address, as [`PREFIXES`] say it of the event log.
#[must_use]
pub fn is_of_suite(address: IpAddr) -> bool {
    let quoted = format!("\"{address}\"");
    PREFIXES.iter().any(|prefix| quoted.starts_with(prefix))
}
