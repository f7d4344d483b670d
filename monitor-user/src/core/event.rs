//! Bytes of a record → [`Event`]. Parse, do not validate: past this file nothing is raw.
//!
//! In: one record as `monitor_common::record` lays it out. Out: an [`Event`], or a
//! [`DecodeError`] that is counted and never stops the line.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use monitor_common::counter;
use monitor_common::flow::{FlowCounters, ProcessKey, Remote};
use monitor_common::program::PROGRAMS;
use monitor_common::record::{self, Header};
use zerocopy::FromBytes;

use super::claim::{self, Claim};
use super::wire::HostName;

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

/// Why a record could not be used. The `reason` label of `telltale_decode_errors_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Fewer bytes than the kind needs.
    #[error("record of kind {kind} has {got} bytes, {want} wanted")]
    TooShort {
        /// Kind in the header; 0 if there is no whole header.
        kind: u32,
        /// Bytes there.
        got: usize,
        /// Bytes wanted.
        want: usize,
    },
    /// A length field points outside the record.
    #[error("record of kind {kind} has a tail of {tail} bytes but says {said}")]
    TailMismatch {
        /// Kind in the header.
        kind: u32,
        /// Bytes after the fixed fields.
        tail: usize,
        /// What its length fields add up to.
        said: usize,
    },
    /// A kind that this build does not know.
    #[error("record of unknown kind {0}")]
    UnknownKind(u32),
    /// A field holds a value that this build does not know.
    #[error("record of kind {kind} has {field} {value}")]
    UnknownValue {
        /// Kind in the header.
        kind: u32,
        /// Which field.
        field: &'static str,
        /// The value.
        value: u32,
    },
}

impl DecodeError {
    /// Short name for metrics.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            DecodeError::TooShort { .. } => "too_short",
            DecodeError::TailMismatch { .. } => "tail_mismatch",
            DecodeError::UnknownKind(_) => "unknown_kind",
            DecodeError::UnknownValue { .. } => "unknown_value",
        }
    }
}

impl Event {
    /// Decodes one record.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] if the bytes are not a record of a known kind. Never panics.
    pub fn decode(bytes: &[u8]) -> Result<Event, DecodeError> {
        let (header, _) = prefix::<Header>(0, bytes)?;
        let time = BootNs(header.time_ns);
        match header.kind {
            record::KIND_PROCESS_FORKED => decode_forked(time, bytes),
            record::KIND_PROCESS_EXECUTED => decode_executed(time, bytes),
            record::KIND_PROCESS_EXITED => decode_exited(time, bytes),
            record::KIND_FLOW_OPENED => decode_opened(time, bytes),
            record::KIND_FLOW_ENDED => decode_ended(time, bytes),
            record::KIND_FLOW_REDIRECTED => decode_redirected(time, bytes),
            record::KIND_SOCKET_OPENED => decode_socket(time, bytes),
            record::KIND_OVER_BUDGET => decode_over_budget(time, bytes),
            record::KIND_FLOW_JOINED => decode_joined(time, bytes),
            record::KIND_DNS_MESSAGE => decode_dns(time, bytes),
            record::KIND_NAME_CLAIMED => decode_claim(time, bytes),
            record::KIND_FLOW_COUNTED => decode_counted(time, bytes),
            record::KIND_KERNEL_COUNTERS => decode_counters(time, bytes),
            record::KIND_SELF_CHECKED => decode_self_checked(time, bytes),
            record::KIND_RESUMED => decode_resumed(time, bytes),
            record::KIND_CGROUP_MADE => decode_cgroup(time, bytes),
            record::KIND_CONTAINER_TOLD => decode_container(time, bytes),
            record::KIND_JOB_TOLD => decode_job(time, bytes),
            record::KIND_NAME_RESOLVED => decode_resolved(time, bytes),
            other => Err(DecodeError::UnknownKind(other)),
        }
    }

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

/// Splits a `T` off the front of a record.
fn prefix<T: FromBytes>(kind: u32, bytes: &[u8]) -> Result<(T, &[u8]), DecodeError> {
    T::read_from_prefix(bytes).map_err(|_| DecodeError::TooShort {
        kind,
        got: bytes.len(),
        want: size_of::<T>(),
    })
}

fn decode_forked(time: BootNs, bytes: &[u8]) -> Result<Event, DecodeError> {
    let (raw, _) = prefix::<record::ProcessForked>(record::KIND_PROCESS_FORKED, bytes)?;
    Ok(Event::ProcessForked(ProcessForked {
        time,
        process: raw.process,
        parent: raw.parent,
    }))
}

fn decode_executed(time: BootNs, bytes: &[u8]) -> Result<Event, DecodeError> {
    let kind = record::KIND_PROCESS_EXECUTED;
    let (raw, tail) = prefix::<record::ProcessExecuted>(kind, bytes)?;
    let [path, args, script, version] = parts(
        kind,
        tail,
        [
            raw.path_bytes,
            raw.args_bytes,
            raw.script_bytes,
            raw.version_bytes,
        ],
    )?;
    let text =
        |bytes: &[u8]| (!bytes.is_empty()).then(|| String::from_utf8_lossy(bytes).into_owned());
    let flag = |bit: u32| raw.flags & bit != 0;
    let exe_truncated = flag(record::EXEC_PATH_TRUNCATED);
    Ok(Event::ProcessExecuted(Box::new(ProcessExecuted {
        time,
        process: raw.process,
        parent: raw.parent,
        cgroup: CgroupId(raw.cgroup_id),
        uid: raw.uid,
        gid: raw.gid,
        exe: path_from_components(path, exe_truncated),
        exe_file: ExeFile {
            device: raw.exe_device,
            inode: raw.exe_inode,
            links: raw.exe_links,
        },
        args: args_from_bytes(args),
        script: text(script),
        package_version: text(version),
        exe_truncated,
        args_truncated: flag(record::EXEC_ARGS_TRUNCATED | record::EXEC_ARGS_UNREADABLE),
        found: flag(record::EXEC_FOUND),
        kernel_thread: flag(record::EXEC_KERNEL_THREAD),
        mount_ns: raw.mount_ns,
        net_ns: raw.net_ns,
    })))
}

/// Splits a tail into its parts, which are of these lengths.
fn parts<const N: usize>(
    kind: u32,
    tail: &[u8],
    lengths: [u16; N],
) -> Result<[&[u8]; N], DecodeError> {
    let lengths = lengths.map(usize::from);
    let mismatch = DecodeError::TailMismatch {
        kind,
        tail: tail.len(),
        said: lengths.iter().sum(),
    };
    let (mut parts, mut rest) = ([tail; N], tail);
    for (part, length) in parts.iter_mut().zip(lengths) {
        (*part, rest) = rest.split_at_checked(length).ok_or(mismatch)?;
    }
    Ok(parts)
}

fn decode_cgroup(time: BootNs, bytes: &[u8]) -> Result<Event, DecodeError> {
    let kind = record::KIND_CGROUP_MADE;
    let (raw, tail) = prefix::<record::CgroupHead>(kind, bytes)?;
    let [path] = parts(kind, tail, [raw.path_bytes])?;
    let path = (!path.is_empty()).then(|| String::from_utf8_lossy(path).into_owned());
    Ok(Event::CgroupMade(CgroupMade {
        time,
        cgroup: CgroupId(raw.cgroup_id),
        path,
    }))
}

fn decode_container(time: BootNs, bytes: &[u8]) -> Result<Event, DecodeError> {
    let kind = record::KIND_CONTAINER_TOLD;
    let (raw, tail) = prefix::<record::ContainerTold>(kind, bytes)?;
    let [facts] = parts(kind, tail, [raw.facts_bytes])?;
    Ok(Event::ContainerTold(ContainerTold {
        time,
        cgroup: CgroupId(raw.cgroup_id),
        facts: pairs(facts),
    }))
}

fn decode_job(time: BootNs, bytes: &[u8]) -> Result<Event, DecodeError> {
    let kind = record::KIND_JOB_TOLD;
    let (raw, tail) = prefix::<record::JobTold>(kind, bytes)?;
    let [variables] = parts(kind, tail, [raw.facts_bytes])?;
    Ok(Event::JobTold(JobTold {
        time,
        process: raw.process,
        variables: pairs(variables),
    }))
}

/// `b"name=web\0image=example:1\0"`. What has no `=` is left out.
fn pairs(bytes: &[u8]) -> Vec<(String, String)> {
    let pair = |pair: &[u8]| {
        let text = String::from_utf8_lossy(pair);
        let (name, value) = text.split_once('=')?;
        Some((name.to_owned(), value.to_owned()))
    };
    bytes.split(|&byte| byte == 0).filter_map(pair).collect()
}

/// `b"node\0bin\0usr\0"` → `/usr/bin/node`; `…/` in front if the root end is missing.
fn path_from_components(bytes: &[u8], truncated: bool) -> String {
    let mut path = String::with_capacity(bytes.len() + 4);
    if truncated {
        path.push('…');
    }
    let components = bytes
        .split(|&byte| byte == 0)
        .filter(|component| !component.is_empty());
    for component in components.collect::<Vec<_>>().into_iter().rev() {
        path.push('/');
        path.push_str(&String::from_utf8_lossy(component));
    }
    path
}

/// argv from its NUL-separated form. Empty arguments in the middle are kept.
fn args_from_bytes(bytes: &[u8]) -> Vec<String> {
    let bytes = bytes.strip_suffix(b"\0").unwrap_or(bytes);
    if bytes.is_empty() {
        return Vec::new();
    }
    bytes
        .split(|&byte| byte == 0)
        .map(|arg| String::from_utf8_lossy(arg).into_owned())
        .collect()
}

fn decode_exited(time: BootNs, bytes: &[u8]) -> Result<Event, DecodeError> {
    let (raw, _) = prefix::<record::ProcessExited>(record::KIND_PROCESS_EXITED, bytes)?;
    let exit_code = raw.exit_code;
    Ok(Event::ProcessExited(ProcessExited {
        time,
        process: raw.process,
        exit_code,
    }))
}

fn decode_opened(time: BootNs, bytes: &[u8]) -> Result<Event, DecodeError> {
    let kind = record::KIND_FLOW_OPENED;
    let (raw, _) = prefix::<record::FlowOpened>(kind, bytes)?;
    let hook = match raw.hook {
        counter::HOOK_CONNECT4 | counter::HOOK_CONNECT6 => Hook::Connect,
        counter::HOOK_SENDMSG4 | counter::HOOK_SENDMSG6 => Hook::Sendmsg,
        counter::HOOK_WIRE if raw.flags & record::FLOW_ACCEPTED != 0 => Hook::Accepted,
        counter::HOOK_WIRE if raw.flags & record::FLOW_FOUND != 0 => Hook::Found,
        counter::HOOK_WIRE => Hook::Packet,
        value => {
            return Err(DecodeError::UnknownValue {
                kind,
                field: "hook",
                value,
            });
        }
    };
    Ok(Event::FlowOpened(FlowOpened {
        time,
        process: raw.process,
        remote: raw.remote.into(),
        cookie: SocketCookie(raw.cookie),
        cgroup: CgroupId(raw.cgroup_id),
        uid: raw.uid,
        tid: raw.tid,
        hook,
        first: raw.flags & record::FLOW_FIRST != 0,
    }))
}

fn decode_ended(time: BootNs, bytes: &[u8]) -> Result<Event, DecodeError> {
    let kind = record::KIND_FLOW_ENDED;
    let (raw, _) = prefix::<record::FlowEnded>(kind, bytes)?;
    let outcome = match raw.outcome {
        record::END_CLOSED => Outcome::Closed,
        record::END_FAILED => Outcome::Failed((raw.errno != 0).then_some(raw.errno)),
        record::END_NEVER_SENT => Outcome::NeverSent,
        value => {
            return Err(DecodeError::UnknownValue {
                kind,
                field: "outcome",
                value,
            });
        }
    };
    Ok(Event::FlowEnded(FlowEnded {
        time,
        process: raw.process,
        remote: raw.remote.into(),
        cookie: SocketCookie(raw.cookie),
        opened: BootNs(raw.opened_ns),
        established: (raw.established_ns != 0).then_some(BootNs(raw.established_ns)),
        outcome,
        bytes_sent: raw.bytes_sent,
        bytes_received: raw.bytes_received,
        srtt_us: (raw.srtt_us != 0).then_some(raw.srtt_us),
        retransmits: raw.retransmits,
    }))
}

fn decode_redirected(time: BootNs, bytes: &[u8]) -> Result<Event, DecodeError> {
    let (raw, _) = prefix::<record::FlowRedirected>(record::KIND_FLOW_REDIRECTED, bytes)?;
    Ok(Event::FlowRedirected(FlowRedirected {
        time,
        process: raw.process,
        asked: raw.asked.into(),
        wire: raw.wire.into(),
        cookie: SocketCookie(raw.cookie),
    }))
}

fn decode_socket(time: BootNs, bytes: &[u8]) -> Result<Event, DecodeError> {
    let (raw, _) = prefix::<record::SocketOpened>(record::KIND_SOCKET_OPENED, bytes)?;
    Ok(Event::SocketOpened(SocketOpened {
        time,
        process: raw.process,
        kind: SocketKind::from_numbers(raw.family, raw.socket_type),
        protocol: raw.protocol,
        found: raw.flags & record::FLOW_FOUND != 0,
    }))
}

fn decode_over_budget(time: BootNs, bytes: &[u8]) -> Result<Event, DecodeError> {
    let (raw, _) = prefix::<record::OverBudget>(record::KIND_OVER_BUDGET, bytes)?;
    let (process, refused) = (raw.process, raw.refused);
    Ok(Event::OverBudget(OverBudget {
        time,
        process,
        refused,
    }))
}

fn decode_joined(time: BootNs, bytes: &[u8]) -> Result<Event, DecodeError> {
    let (raw, _) = prefix::<record::FlowJoined>(record::KIND_FLOW_JOINED, bytes)?;
    Ok(Event::FlowJoined(FlowJoined {
        time,
        client: raw.client,
        server: raw.server,
        cookie: SocketCookie(raw.cookie),
    }))
}

fn decode_dns(time: BootNs, bytes: &[u8]) -> Result<Event, DecodeError> {
    let kind = record::KIND_DNS_MESSAGE;
    let (raw, tail) = prefix::<record::DnsHead>(kind, bytes)?;
    let said = usize::from(raw.payload_bytes);
    let payload = tail.get(..said).ok_or(DecodeError::TailMismatch {
        kind,
        tail: tail.len(),
        said,
    })?;
    let direction = match raw.hook {
        counter::HOOK_DNS_EGRESS => Direction::Egress,
        counter::HOOK_DNS_INGRESS => Direction::Ingress,
        value => {
            return Err(DecodeError::UnknownValue {
                kind,
                field: "hook",
                value,
            });
        }
    };
    Ok(Event::DnsMessage(Box::new(DnsMessage {
        time,
        process: raw.process,
        resolver: raw.remote.into(),
        cookie: SocketCookie(raw.cookie),
        direction,
        payload: payload.to_vec(),
        truncated: raw.message_bytes > raw.payload_bytes,
    })))
}

fn decode_claim(time: BootNs, bytes: &[u8]) -> Result<Event, DecodeError> {
    let kind = record::KIND_NAME_CLAIMED;
    let (raw, tail) = prefix::<record::NameClaimed>(kind, bytes)?;
    let [name] = parts(kind, tail, [raw.name_bytes])?;
    Ok(Event::NameClaimed(Box::new(NameClaimed {
        time,
        process: raw.process,
        remote: raw.remote.into(),
        cookie: SocketCookie(raw.cookie),
        claim: claim::decode(&raw, name).map_err(|(field, value)| DecodeError::UnknownValue {
            kind,
            field,
            value,
        })?,
    })))
}

fn decode_resolved(time: BootNs, bytes: &[u8]) -> Result<Event, DecodeError> {
    let kind = record::KIND_NAME_RESOLVED;
    let (raw, tail) = prefix::<record::NameResolved>(kind, bytes)?;
    let [name] = parts(kind, tail, [raw.name_bytes])?;
    let name = HostName::from_text(name).map_err(|_| DecodeError::UnknownValue {
        kind,
        field: "name",
        value: 0,
    })?;
    Ok(Event::NameResolved(NameResolved {
        time,
        name: name.into(),
        ip: IpAddr::from(raw.addr).to_canonical(),
    }))
}

fn decode_counted(time: BootNs, bytes: &[u8]) -> Result<Event, DecodeError> {
    let (raw, _) = prefix::<record::FlowCounted>(record::KIND_FLOW_COUNTED, bytes)?;
    let (process, remote) = (raw.flow.process, raw.flow.remote.into());
    Ok(Event::FlowCounted(FlowCounted {
        time,
        process,
        remote,
        delta: raw.delta,
    }))
}

fn decode_counters(time: BootNs, bytes: &[u8]) -> Result<Event, DecodeError> {
    let (raw, _) = prefix::<record::KernelCounters>(record::KIND_KERNEL_COUNTERS, bytes)?;
    Ok(Event::KernelCounters(Box::new(KernelCounters {
        time,
        values: raw.values,
        astray: raw.astray,
    })))
}

fn decode_self_checked(time: BootNs, bytes: &[u8]) -> Result<Event, DecodeError> {
    let (raw, _) = prefix::<record::SelfChecked>(record::KIND_SELF_CHECKED, bytes)?;
    let programs = || PROGRAMS.iter().enumerate();
    let has = |mask: u64, place: usize| mask >> place & 1 == 1;
    let allowed = programs().filter(|(place, _)| !has(raw.missing, *place));
    let missing = programs().filter(|(place, _)| has(raw.missing, *place));
    Ok(Event::SelfChecked(Box::new(SelfChecked {
        time,
        attached: allowed
            .map(|(place, name)| (*name, has(raw.attached, place)))
            .collect(),
        canary: (raw.canary_ns != 0).then_some(BootNs(raw.canary_ns)),
        missing: missing.map(|(_, name)| *name).collect(),
        unpinned: raw.missing & record::MISSING_PINS != 0,
    })))
}

fn decode_resumed(time: BootNs, bytes: &[u8]) -> Result<Event, DecodeError> {
    let (raw, _) = prefix::<record::Resumed>(record::KIND_RESUMED, bytes)?;
    Ok(Event::Resumed(Box::new(Resumed {
        time,
        from: BootNs(raw.from_ns),
        recovered: raw.recovered,
        unread: raw.unread,
        untold: raw.untold,
        discarded: raw.discarded,
        before: raw.before,
        after: raw.after,
    })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::IntoBytes;

    fn executed(path: &[u8], args: &[u8], flags: u32) -> Vec<u8> {
        let raw = record::ProcessExecuted {
            header: Header {
                time_ns: 7,
                kind: record::KIND_PROCESS_EXECUTED,
                bytes: 0,
            },
            flags,
            path_bytes: u16::try_from(path.len()).unwrap(),
            args_bytes: u16::try_from(args.len()).unwrap(),
            ..record::ProcessExecuted::default()
        };
        [raw.as_bytes(), path, args].concat()
    }

    #[track_caller]
    fn check_executed(bytes: &[u8], exe: &str, args: &[&str]) {
        let Ok(Event::ProcessExecuted(event)) = Event::decode(bytes) else {
            panic!("not an exec: {:?}", Event::decode(bytes));
        };
        assert_eq!(event.exe, exe);
        assert_eq!(event.args, args);
    }

    #[test]
    fn exec_path_is_put_in_order_and_args_are_split() {
        check_executed(
            &executed(b"node\0bin\0usr\0", b"node\0\0cli.js\0", 0),
            "/usr/bin/node",
            &["node", "", "cli.js"],
        );
        check_executed(&executed(b"x\0", b"", 0), "/x", &[]);
        check_executed(
            &executed(b"a\0b\0", b"a", record::EXEC_PATH_TRUNCATED),
            "…/b/a",
            &["a"],
        );
        check_executed(
            &executed(b"\xff\0", b"\xff\0", 0),
            "/\u{fffd}",
            &["\u{fffd}"],
        );
    }

    #[test]
    fn what_was_found_of_the_script_follows_argv() {
        #[track_caller]
        fn check(script: &[u8], version: &[u8], expect: (Option<&str>, Option<&str>)) {
            let bytes = executed(b"node\0bin\0", b"node\0/bin/gemini\0", 0);
            let (mut raw, tail) = prefix::<record::ProcessExecuted>(2, &bytes).unwrap();
            raw.script_bytes = u16::try_from(script.len()).unwrap();
            raw.version_bytes = u16::try_from(version.len()).unwrap();
            let bytes = [raw.as_bytes(), tail, script, version].concat();
            check_executed(&bytes, "/bin/node", &["node", "/bin/gemini"]);
            let Ok(Event::ProcessExecuted(event)) = Event::decode(&bytes) else {
                unreachable!()
            };
            let found = (event.script.as_deref(), event.package_version.as_deref());
            assert_eq!(found, expect);
            // Without its last byte, a length lies; a byte more is no part of it.
            let cut = Event::decode(&bytes[..bytes.len() - 1]);
            assert!(matches!(cut, Err(DecodeError::TailMismatch { .. })));
            assert_eq!(
                Event::decode(&[&*bytes, b"!"].concat()),
                Event::decode(&bytes)
            );
        }
        check(b"", b"", (None, None));
        check(b"/lib/gemini.js", b"", (Some("/lib/gemini.js"), None));
        check(b"", b"0.61.0", (None, Some("0.61.0")));
        check(b"/a", b"1\xff", (Some("/a"), Some("1\u{fffd}")));
    }

    #[test]
    fn lengths_that_lie_are_errors() {
        let mut bytes = executed(b"node\0", b"node\0", 0);
        bytes.truncate(bytes.len() - 1);
        assert!(matches!(
            Event::decode(&bytes),
            Err(DecodeError::TailMismatch { .. })
        ));
        assert!(matches!(
            Event::decode(&bytes[..40]),
            Err(DecodeError::TooShort { .. })
        ));
        assert!(matches!(
            Event::decode(&[]),
            Err(DecodeError::TooShort { .. })
        ));
    }

    #[test]
    fn unknown_kinds_and_values_are_errors() {
        let header = Header {
            time_ns: 0,
            kind: 9_999,
            bytes: 16,
        };
        assert_eq!(
            Event::decode(header.as_bytes()),
            Err(DecodeError::UnknownKind(9_999))
        );
        let raw = record::FlowEnded {
            header: Header {
                kind: record::KIND_FLOW_ENDED,
                ..Header::default()
            },
            outcome: 77,
            ..record::FlowEnded::default()
        };
        let error = Event::decode(raw.as_bytes()).unwrap_err();
        assert_eq!(error.reason(), "unknown_value");
    }

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

    #[test]
    fn no_prefix_of_a_record_panics() {
        let full = executed(b"node\0bin\0", b"node\0x\0", 0);
        for kind in 0..80u32 {
            for len in 0..full.len() {
                let mut bytes = full[..len].to_vec();
                if len >= 12 {
                    bytes[8..12].copy_from_slice(&kind.to_le_bytes());
                }
                let _ = Event::decode(&bytes);
            }
        }
    }
}
