//! What the core is told: everything that happens on the host is an [`Event`].
//!
//! In: records, through [`decode`]. Out: the types that the collector reads.

pub mod decode;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use monitor_common::counter;
use monitor_common::flow::{FlowCounters, ProcessKey, Remote};
use monitor_common::record;

use super::claim::Claim;

/// Nanoseconds of `CLOCK_BOOTTIME`: the one clock of the core.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootNs(pub u64);

impl BootNs {
    /// Time since `earlier`; zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: BootNs) -> std::time::Duration {
        std::time::Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// `bpf_get_socket_cookie`: unique per socket until the host reboots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketCookie(pub u64);

/// Id of a cgroup-v2 directory (its inode number); 0 means unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CgroupId(pub u64);

/// Transport protocol of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP, MPTCP included.
    Tcp,
    /// UDP.
    Udp,
    /// Any other protocol number.
    Other(u16),
}

impl Protocol {
    fn from_number(number: u16) -> Self {
        match number {
            6 | 262 => Protocol::Tcp,
            17 => Protocol::Udp,
            other => Protocol::Other(other),
        }
    }

    /// Name as in ECS `network.transport`; `other` for anything but TCP and UDP.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Other(_) => "other",
        }
    }
}

/// The far end of a flow. IPv4-mapped addresses are already IPv4 here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// Address and port as the process asked for them.
    pub addr: SocketAddr,
    /// Transport.
    pub protocol: Protocol,
}

impl Endpoint {
    /// The first in order.
    pub const MIN: Endpoint = Endpoint {
        addr: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
        protocol: Protocol::Tcp,
    };
}

impl From<Remote> for Endpoint {
    fn from(remote: Remote) -> Self {
        let bytes: [u8; 16] = zerocopy::transmute!(remote.addr);
        let ip = IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical();
        Endpoint {
            addr: SocketAddr::new(ip, remote.port),
            protocol: Protocol::from_number(remote.protocol),
        }
    }
}

/// Everything that can move the collector, besides time.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A new process; still its parent's program.
    ProcessForked(ProcessForked),
    /// A new program image, or one found running at start-up.
    ProcessExecuted(Box<ProcessExecuted>),
    /// A process ended.
    ProcessExited(ProcessExited),
    /// A process asked to reach a remote.
    FlowOpened(FlowOpened),
    /// A flow failed or closed.
    FlowEnded(FlowEnded),
    /// A flow's packets go elsewhere than its process asked.
    FlowRedirected(FlowRedirected),
    /// A socket was opened that can send without asking for a destination.
    SocketOpened(SocketOpened),
    /// A process opened more new flows than its budget allows.
    OverBudget(OverBudget),
    /// Two processes of this host are connected.
    FlowJoined(FlowJoined),
    /// A DNS message passed a socket.
    DnsMessage(Box<DnsMessage>),
    /// A client said whom it speaks to.
    NameClaimed(Box<NameClaimed>),
    /// systemd-resolved told somebody an address.
    NameResolved(NameResolved),
    /// Flows that the kernel counted without a record each.
    FlowCounted(FlowCounted),
    /// The kernel's books.
    KernelCounters(Box<KernelCounters>),
    /// What the monitor found out about its own eyes.
    SelfChecked(Box<SelfChecked>),
    /// The monitor took over from one that ran before it.
    Resumed(Box<Resumed>),
    /// A cgroup was made, or found.
    CgroupMade(CgroupMade),
    /// What the host's files say of a container.
    ContainerTold(ContainerTold),
    /// Which build job a process is part of.
    JobTold(JobTold),
}

/// See [`record::ProcessForked`].
#[derive(Clone, Debug, PartialEq)]
pub struct ProcessForked {
    /// When.
    pub time: BootNs,
    /// The child; its `exec_id` is its parent's.
    pub process: ProcessKey,
    /// The parent.
    pub parent: ProcessKey,
}

/// See [`record::ProcessExecuted`].
#[derive(Clone, Debug, PartialEq)]
pub struct ProcessExecuted {
    /// When.
    pub time: BootNs,
    /// The new image.
    pub process: ProcessKey,
    /// The parent process at this moment.
    pub parent: ProcessKey,
    /// Its cgroup.
    pub cgroup: CgroupId,
    /// Real user id.
    pub uid: u32,
    /// Real group id.
    pub gid: u32,
    /// Absolute path of the executable in its mount namespace, as the kernel resolved it.
    /// Invalid UTF-8 is replaced; control characters are kept (outputs escape them).
    pub exe: String,
    /// The executable itself, whatever its path says.
    pub exe_file: ExeFile,
    /// argv as it stood at exec, or (when `found`) as the process shows it now.
    pub args: Vec<String>,
    /// Where the script lies that an interpreter runs, absolute and without links, as the file
    /// system was some milliseconds after the exec. `None` if argv says the same, the program
    /// runs no script, or it could not be found out.
    pub script: Option<String>,
    /// What the npm package says of its version in which the script, or else the executable,
    /// lies. Anyone who can write there can write anything.
    pub package_version: Option<String>,
    /// The path is longer than the kernel side keeps; `exe` then starts with `…/`.
    pub exe_truncated: bool,
    /// argv is longer than the kernel side keeps, or could not be read.
    pub args_truncated: bool,
    /// Older than the monitor: found by the task iterator.
    pub found: bool,
    /// A kernel thread.
    pub kernel_thread: bool,
    /// Mount namespace inode.
    pub mount_ns: u32,
    /// Network namespace inode.
    pub net_ns: u32,
}

/// Identity of an executable file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ExeFile {
    /// Kernel device number (major << 20 | minor).
    pub device: u32,
    /// Inode number.
    pub inode: u64,
    /// Hard links; 0: deleted or never linked (memfd).
    pub links: u32,
}

/// See [`record::ProcessExited`].
#[derive(Clone, Debug, PartialEq)]
pub struct ProcessExited {
    /// When.
    pub time: BootNs,
    /// Who.
    pub process: ProcessKey,
    /// As `wait(2)` returns it.
    pub exit_code: i32,
}

/// See [`record::FlowOpened`].
#[derive(Clone, Debug, PartialEq)]
pub struct FlowOpened {
    /// When.
    pub time: BootNs,
    /// Who.
    pub process: ProcessKey,
    /// To whom.
    pub remote: Endpoint,
    /// On which socket.
    pub cookie: SocketCookie,
    /// Cgroup of the caller.
    pub cgroup: CgroupId,
    /// Real user id of the caller.
    pub uid: u32,
    /// Thread that called.
    pub tid: u32,
    /// Through which kernel hook; an index into [`counter::HOOK_NAMES`].
    pub hook: Hook,
    /// First time this image goes to this remote.
    pub first: bool,
}

/// See [`record::CgroupHead`].
#[derive(Clone, Debug, PartialEq)]
pub struct CgroupMade {
    /// When it was made, or looked for.
    pub time: BootNs,
    /// Its id.
    pub cgroup: CgroupId,
    /// Its path from the root of the hierarchy on; `None`: it was not found.
    pub path: Option<String>,
}

/// See [`record::ContainerTold`].
#[derive(Clone, Debug, PartialEq)]
pub struct ContainerTold {
    /// When the files were read.
    pub time: BootNs,
    /// The container's cgroup.
    pub cgroup: CgroupId,
    /// What they say, by the names of [`super::place::Fact`].
    pub facts: Vec<(String, String)>,
}

/// See [`record::JobTold`].
#[derive(Clone, Debug, PartialEq)]
pub struct JobTold {
    /// When the environment was read.
    pub time: BootNs,
    /// Which image asked.
    pub process: ProcessKey,
    /// The variables that were asked for and are there.
    pub variables: Vec<(String, String)>,
}

/// How a flow was seen first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hook {
    /// `connect()`.
    Connect,
    /// A datagram with an address.
    Sendmsg,
    /// By its first packet: no call that names a destination announced it (raw, ping, SCTP), or
    /// it goes elsewhere than was asked.
    Packet,
    /// By its first answer to a peer that connected to the process. The port is 0: peers' vary.
    Accepted,
    /// On a socket that is older than the monitor.
    Found,
}

impl Hook {
    /// Name in events.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Hook::Connect => "connect",
            Hook::Sendmsg => "sendmsg",
            Hook::Packet => "packet",
            Hook::Accepted => "accepted",
            Hook::Found => "found",
        }
    }
}

/// See [`record::FlowEnded`].
#[derive(Clone, Debug, PartialEq)]
pub struct FlowEnded {
    /// When.
    pub time: BootNs,
    /// Who opened it.
    pub process: ProcessKey,
    /// To whom.
    pub remote: Endpoint,
    /// On which socket.
    pub cookie: SocketCookie,
    /// When it was opened.
    pub opened: BootNs,
    /// TCP: when it was established.
    pub established: Option<BootNs>,
    /// How it ended.
    pub outcome: Outcome,
    /// TCP payload bytes acknowledged by the remote.
    pub bytes_sent: u64,
    /// TCP payload bytes received.
    pub bytes_received: u64,
    /// TCP smoothed round-trip time, microseconds.
    pub srtt_us: Option<u32>,
    /// TCP segments sent again.
    pub retransmits: u32,
}

/// How a flow ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// After it was established (TCP), or by closing the socket (UDP).
    Closed,
    /// The remote was not reached; the kernel's errno, `None` if the caller gave up.
    Failed(Option<i32>),
    /// No packet left: no route, no free port.
    NeverSent,
}

/// See [`record::FlowRedirected`].
#[derive(Clone, Debug, PartialEq)]
pub struct FlowRedirected {
    /// When.
    pub time: BootNs,
    /// Who asked.
    pub process: ProcessKey,
    /// Whereto the process asked.
    pub asked: Endpoint,
    /// Whereto the packet goes.
    pub wire: Endpoint,
    /// On which socket.
    pub cookie: SocketCookie,
}

/// See [`record::SocketOpened`].
#[derive(Clone, Debug, PartialEq)]
pub struct SocketOpened {
    /// When it was opened, or found.
    pub time: BootNs,
    /// Who.
    pub process: ProcessKey,
    /// What it can do.
    pub kind: SocketKind,
    /// `IPPROTO_` number of a raw socket, Ethernet protocol of a packet socket; 0 if unknown.
    pub protocol: u32,
    /// It was found open, not seen being opened.
    pub found: bool,
}

/// What a socket (or device) can do that no hook on `connect()` sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SocketKind {
    /// Send IP packets to any address.
    Raw,
    /// Send frames on any network device (`AF_PACKET`).
    Packet,
    /// Send frames past the network stack (`AF_XDP`).
    Xdp,
    /// Reach the hypervisor (`AF_VSOCK`).
    Vsock,
    /// Put packets into the network stack (`/dev/net/tun`).
    Tun,
    /// Another address family.
    Other(u32),
}

impl SocketKind {
    /// Name in events and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            SocketKind::Raw => "raw",
            SocketKind::Packet => "packet",
            SocketKind::Xdp => "xdp",
            SocketKind::Vsock => "vsock",
            SocketKind::Tun => "tun",
            SocketKind::Other(_) => "other",
        }
    }

    fn from_numbers(family: u32, socket_type: u32) -> Self {
        match (family, socket_type) {
            (2 | 10, record::SOCK_RAW) => SocketKind::Raw,
            (17, _) => SocketKind::Packet,
            (40, _) => SocketKind::Vsock,
            (44, _) => SocketKind::Xdp,
            (record::FAMILY_TUN, _) => SocketKind::Tun,
            (other, _) => SocketKind::Other(other),
        }
    }
}

/// See [`record::OverBudget`].
#[derive(Clone, Debug, PartialEq)]
pub struct OverBudget {
    /// When.
    pub time: BootNs,
    /// Who.
    pub process: ProcessKey,
    /// New flows without a record of their own, so far.
    pub refused: u64,
}

/// See [`record::FlowJoined`].
#[derive(Clone, Debug, PartialEq)]
pub struct FlowJoined {
    /// When the first packet of the connection reached the server.
    pub time: BootNs,
    /// Who connected.
    pub client: ProcessKey,
    /// Who opened the socket that listens.
    pub server: ProcessKey,
    /// The client's socket.
    pub cookie: SocketCookie,
}

/// See [`record::DnsMessage`].
#[derive(Clone, Debug, PartialEq)]
pub struct DnsMessage {
    /// When.
    pub time: BootNs,
    /// Who opened the socket.
    pub process: ProcessKey,
    /// The resolver, as on the wire.
    pub resolver: Endpoint,
    /// On which socket.
    pub cookie: SocketCookie,
    /// Leaving (a query) or arriving (an answer).
    pub direction: Direction,
    /// The message, from the DNS header on.
    pub payload: Vec<u8>,
    /// The message on the wire is longer than `payload`.
    pub truncated: bool,
}

/// See [`record::NameClaimed`].
#[derive(Clone, Debug, PartialEq)]
pub struct NameClaimed {
    /// When.
    pub time: BootNs,
    /// Who opened the socket.
    pub process: ProcessKey,
    /// The other end: of TCP, as the process asked for it; else as on the wire.
    pub remote: Endpoint,
    /// On which socket.
    pub cookie: SocketCookie,
    /// What was said.
    pub claim: Claim,
}

/// See [`record::NameResolved`].
#[derive(Clone, Debug, PartialEq)]
pub struct NameResolved {
    /// When it was told to somebody.
    pub time: BootNs,
    /// The name that was asked, in its canonical form.
    pub name: Arc<str>,
    /// One of its addresses.
    pub ip: IpAddr,
}

/// Direction of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Leaving the process.
    Egress,
    /// Reaching the process.
    Ingress,
}

/// See [`record::FlowCounted`].
#[derive(Clone, Debug, PartialEq)]
pub struct FlowCounted {
    /// When it was drained.
    pub time: BootNs,
    /// Who.
    pub process: ProcessKey,
    /// To whom.
    pub remote: Endpoint,
    /// Increase since the last drain.
    pub delta: FlowCounters,
}

/// See [`record::KernelCounters`].
#[derive(Clone, Debug, PartialEq)]
pub struct KernelCounters {
    /// When it was read.
    pub time: BootNs,
    /// Absolute values, indexed as `monitor_common::counter` says.
    pub values: [u64; counter::COUNTERS as usize],
    /// Records booked as delivered that never came; below zero, records that came unbooked.
    pub astray: i64,
}

/// See [`record::SelfChecked`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SelfChecked {
    /// When.
    pub time: BootNs,
    /// Every program that this kernel allows, and whether it is attached.
    pub attached: Vec<(&'static str, bool)>,
    /// When it was last proved, by a flow of the monitor's own, that the hooks see; `None` if it
    /// never was.
    pub canary: Option<BootNs>,
    /// Programs that this kernel does not allow and the monitor does without.
    pub missing: Vec<&'static str>,
    /// The kernel side was to outlive the monitor, and cannot.
    pub unpinned: bool,
}

/// See [`record::Resumed`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resumed {
    /// The end of the interval.
    pub time: BootNs,
    /// When the monitor before was last known to have told everything.
    pub from: BootNs,
    /// Records that were waiting in the rings.
    pub recovered: u64,
    /// Records that the monitor before took and may not have told, at most.
    pub unread: u64,
    /// Operations without a record that the monitor before read and may not have told, at most.
    pub untold: u64,
    /// Records of another layout, which were thrown away.
    pub discarded: u64,
    /// The kernel's counters at the start of the interval.
    pub before: [u64; counter::COUNTERS as usize],
    /// The kernel's counters at its end.
    pub after: [u64; counter::COUNTERS as usize],
}

impl Event {
    /// When the kernel, or the drain, stamped it.
    #[must_use]
    pub fn time(&self) -> BootNs {
        match self {
            Event::ProcessForked(event) => event.time,
            Event::ProcessExecuted(event) => event.time,
            Event::ProcessExited(event) => event.time,
            Event::FlowOpened(event) => event.time,
            Event::FlowEnded(event) => event.time,
            Event::FlowRedirected(event) => event.time,
            Event::SocketOpened(event) => event.time,
            Event::OverBudget(event) => event.time,
            Event::FlowJoined(event) => event.time,
            Event::DnsMessage(event) => event.time,
            Event::NameClaimed(event) => event.time,
            Event::NameResolved(event) => event.time,
            Event::FlowCounted(event) => event.time,
            Event::KernelCounters(event) => event.time,
            Event::SelfChecked(event) => event.time,
            Event::Resumed(event) => event.time,
            Event::CgroupMade(event) => event.time,
            Event::ContainerTold(event) => event.time,
            Event::JobTold(event) => event.time,
        }
    }

    /// Short name, the `kind` label of `telltale_events_total`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Event::ProcessForked(_) => "process_forked",
            Event::ProcessExecuted(_) => "process_executed",
            Event::ProcessExited(_) => "process_exited",
            Event::FlowOpened(_) => "flow_opened",
            Event::FlowEnded(_) => "flow_ended",
            Event::FlowRedirected(_) => "flow_redirected",
            Event::SocketOpened(_) => "socket_opened",
            Event::OverBudget(_) => "over_budget",
            Event::FlowJoined(_) => "flow_joined",
            Event::DnsMessage(_) => "dns_message",
            Event::NameClaimed(_) => "name_claimed",
            Event::NameResolved(_) => "name_resolved",
            Event::FlowCounted(_) => "flow_counted",
            Event::KernelCounters(_) => "kernel_counters",
            Event::SelfChecked(_) => "self_checked",
            Event::Resumed(_) => "resumed",
            Event::CgroupMade(_) => "cgroup_made",
            Event::ContainerTold(_) => "container_told",
            Event::JobTold(_) => "job_told",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v4_mapped_addresses_become_v4() {
        let addr = [0, 0, 0xffff_u32.to_be(), 0xc000_0201_u32.to_be()];
        let remote = Remote {
            addr,
            port: 443,
            protocol: 6,
            reserved: 0,
        };
        let endpoint = Endpoint::from(remote);
        assert_eq!(endpoint.addr, "192.0.2.1:443".parse().unwrap());
        assert_eq!(endpoint.protocol, Protocol::Tcp);
    }
}
