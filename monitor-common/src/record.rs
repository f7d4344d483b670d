//! Records: what travels through the rings, and what a recording holds.
//!
//! In: nothing. Out: one `#[repr(C)]` struct per kind, each starting with a [`Header`].
//!
//! ```text
//!  0        8        12       16
//!  +--------+--------+--------+-------------------+----------------------+
//!  | time   | kind   | bytes  | fixed fields …    | tail (some kinds)    |
//!  +--------+--------+--------+-------------------+----------------------+
//!   Header                     by kind             length in fixed fields
//! ```
//!
//! The collector itself writes the kinds from [`KIND_FLOW_COUNTED`] up, from what it drains from
//! maps and finds in samples, so that a recording is complete and a replay needs nothing else.
//! Samples themselves are in no recording: they are payload.

use core::mem::size_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::counter::COUNTERS;
use crate::flow::{FlowKey, ProcessKey, Remote};
use crate::limits::{
    ARGS_BYTES, CGROUP_BYTES, NAME_BYTES, PATH_BYTES, SAMPLE_BYTES, SAMPLE_LONG_BYTES,
    SAMPLE_SHORT_BYTES, SCRIPT_BYTES, VERSION_BYTES,
};

/// [`ProcessForked`].
pub const KIND_PROCESS_FORKED: u32 = 1;
/// [`ProcessExecuted`].
pub const KIND_PROCESS_EXECUTED: u32 = 2;
/// [`ProcessExited`].
pub const KIND_PROCESS_EXITED: u32 = 3;
/// [`FlowOpened`].
pub const KIND_FLOW_OPENED: u32 = 4;
/// [`FlowEnded`].
pub const KIND_FLOW_ENDED: u32 = 5;
/// [`SampleHead`].
pub const KIND_SAMPLE: u32 = 6;
/// [`FlowRedirected`].
pub const KIND_FLOW_REDIRECTED: u32 = 7;
/// [`SocketOpened`].
pub const KIND_SOCKET_OPENED: u32 = 8;
/// [`OverBudget`].
pub const KIND_OVER_BUDGET: u32 = 9;
/// [`FlowJoined`].
pub const KIND_FLOW_JOINED: u32 = 10;
/// [`CgroupHead`].
pub const KIND_CGROUP_MADE: u32 = 11;
/// [`FlowCounted`], written by the collector.
pub const KIND_FLOW_COUNTED: u32 = 64;
/// [`KernelCounters`], written by the collector.
pub const KIND_KERNEL_COUNTERS: u32 = 65;
/// [`SelfChecked`], written by the collector.
pub const KIND_SELF_CHECKED: u32 = 66;
/// [`DnsHead`], written by the collector.
pub const KIND_DNS_MESSAGE: u32 = 67;
/// [`NameClaimed`], written by the collector.
pub const KIND_NAME_CLAIMED: u32 = 68;
/// [`ContainerTold`], written by the collector.
pub const KIND_CONTAINER_TOLD: u32 = 70;
/// [`JobTold`], written by the collector.
pub const KIND_JOB_TOLD: u32 = 71;
/// [`NameResolved`], written by the collector.
pub const KIND_NAME_RESOLVED: u32 = 72;

/// [`Resumed`], written by the collector.
pub const KIND_RESUMED: u32 = 69;

/// Whether a hook books a record of this kind as delivered. The others go with one that it does.
#[must_use]
pub const fn is_booked(kind: u32) -> bool {
    kind < KIND_FLOW_COUNTED
        && kind != KIND_OVER_BUDGET
        && kind != KIND_FLOW_REDIRECTED
        && kind != KIND_CGROUP_MADE
}

/// First bytes of every record.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Header {
    /// When the hook ran, ns of `CLOCK_BOOTTIME`.
    pub time_ns: u64,
    /// One of the `KIND_` constants.
    pub kind: u32,
    /// Length of the whole record, header and tail included.
    pub bytes: u32,
}

const _: () = assert!(size_of::<Header>() == 16);

/// A new process, from `sched_process_fork`. Until it executes, it is its parent's program.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ProcessForked {
    /// Kind [`KIND_PROCESS_FORKED`].
    pub header: Header,
    /// The child. Its `exec_id` is its parent's.
    pub process: ProcessKey,
    /// The process whose thread called fork, vfork or clone.
    pub parent: ProcessKey,
}

const _: () = assert!(size_of::<ProcessForked>() == 48);

/// A new program image, from `sched_process_exec`; or a process that is older than the monitor,
/// from the task iterator.
///
/// The tail holds `path_bytes` of path, `args_bytes` of argv, then what the collector found in the
/// file system when it read the record: `script_bytes` of a script's path, `version_bytes` of a
/// version. The kernel leaves these two zero.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ProcessExecuted {
    /// Kind [`KIND_PROCESS_EXECUTED`].
    pub header: Header,
    /// The new image.
    pub process: ProcessKey,
    /// The parent process as it is now (`real_parent`), which may be a reaper.
    pub parent: ProcessKey,
    /// Id of the cgroup-v2 directory; 1 is the root, 0 unknown.
    pub cgroup_id: u64,
    /// Inode number of the executable.
    pub exe_inode: u64,
    /// Device of the executable in the kernel's encoding (major << 20 | minor).
    pub exe_device: u32,
    /// Hard links to the executable; 0 means deleted or never linked (memfd).
    pub exe_links: u32,
    /// Inode number of the mount namespace.
    pub mount_ns: u32,
    /// Inode number of the network namespace.
    pub net_ns: u32,
    /// Real user id in the initial user namespace.
    pub uid: u32,
    /// Real group id in the initial user namespace.
    pub gid: u32,
    /// `EXEC_` flags.
    pub flags: u32,
    /// Bytes of path in the tail: components leaf first, each NUL-terminated
    /// (`b"node\0bin\0usr\0"` is `/usr/bin/node`).
    pub path_bytes: u16,
    /// Bytes of argv in the tail, NUL-separated.
    pub args_bytes: u16,
    /// Bytes of the script's path in the tail: absolute and without links. 0 if argv says the
    /// same, the program runs no script, or it could not be found out.
    pub script_bytes: u16,
    /// Bytes in the tail of the version that the npm package states in which the script, or else
    /// the executable, lies. 0 if it lies in none, or it could not be found out.
    pub version_bytes: u16,
    /// Zero.
    pub reserved: u32,
}

const _: () = assert!(size_of::<ProcessExecuted>() == 104);

/// The path has more components or bytes than [`crate::limits`] keeps; its leaf end is there.
pub const EXEC_PATH_TRUNCATED: u32 = 1 << 0;
/// argv is longer than [`ARGS_BYTES`].
pub const EXEC_ARGS_TRUNCATED: u32 = 1 << 1;
/// argv could not be read.
pub const EXEC_ARGS_UNREADABLE: u32 = 1 << 2;
/// Found by the task iterator: the program is older than the monitor. argv was read from
/// `/proc` and is what the process shows now, which it may have overwritten.
pub const EXEC_FOUND: u32 = 1 << 3;
/// A kernel thread: no executable, no argv.
pub const EXEC_KERNEL_THREAD: u32 = 1 << 4;

/// Room for the path in the tail: one component may start at the last byte that is kept.
pub const EXEC_PATH_ROOM: usize = PATH_BYTES + NAME_BYTES;

/// Longest possible exec record.
pub const EXEC_RECORD_MAX: usize =
    size_of::<ProcessExecuted>() + EXEC_PATH_ROOM + ARGS_BYTES + SCRIPT_BYTES + VERSION_BYTES;

/// The end of a process (its last thread's leader), from `sched_process_exit`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ProcessExited {
    /// Kind [`KIND_PROCESS_EXITED`].
    pub header: Header,
    /// Who.
    pub process: ProcessKey,
    /// As `wait(2)` returns it: `status << 8 | signal`.
    pub exit_code: i32,
    /// Zero.
    pub reserved: u32,
}

const _: () = assert!(size_of::<ProcessExited>() == 40);

/// A process asked to reach a remote: `connect()`, or a datagram with an address.
///
/// The kernel accepted the call's arguments; whether the remote was reached is in the
/// [`FlowEnded`] that follows.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct FlowOpened {
    /// Kind [`KIND_FLOW_OPENED`].
    pub header: Header,
    /// Who.
    pub process: ProcessKey,
    /// To whom, as the caller asked.
    pub remote: Remote,
    /// Socket cookie: unique per socket until reboot.
    pub cookie: u64,
    /// Id of the cgroup-v2 directory.
    pub cgroup_id: u64,
    /// Network namespace cookie.
    pub netns_cookie: u64,
    /// Thread that called.
    pub tid: u32,
    /// Real user id in the initial user namespace, at the call.
    pub uid: u32,
    /// A `HOOK_` constant of [`crate::counter`].
    pub hook: u32,
    /// `FLOW_` flags.
    pub flags: u32,
}

const _: () = assert!(size_of::<FlowOpened>() == 96);

/// First time this program image goes to this remote.
pub const FLOW_FIRST: u32 = 1 << 0;
/// The socket has no owner that the monitor knows: the kernel's own, or older than the monitor.
/// `process` is zero.
pub const FLOW_UNOWNED: u32 = 1 << 1;
/// The process answers a peer that connected to it. `remote.port` is 0: peers' ports vary.
pub const FLOW_ACCEPTED: u32 = 1 << 2;
/// The socket is older than the monitor; `process` had it open when the monitor started.
pub const FLOW_FOUND: u32 = 1 << 3;

/// The end of a flow whose opening was delivered.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct FlowEnded {
    /// Kind [`KIND_FLOW_ENDED`].
    pub header: Header,
    /// Who opened it.
    pub process: ProcessKey,
    /// To whom, as the opener asked.
    pub remote: Remote,
    /// Socket cookie.
    pub cookie: u64,
    /// When it was opened, ns of `CLOCK_BOOTTIME`.
    pub opened_ns: u64,
    /// TCP: when it was established; 0 if it never was.
    pub established_ns: u64,
    /// TCP: payload bytes that the remote acknowledged.
    pub bytes_sent: u64,
    /// TCP: payload bytes received in order.
    pub bytes_received: u64,
    /// TCP: smoothed round-trip time, microseconds; 0 if unknown.
    pub srtt_us: u32,
    /// TCP: segments sent again.
    pub retransmits: u32,
    /// An `END_` constant.
    pub outcome: u32,
    /// `errno` of a failed TCP connection; 0 if the kernel recorded none.
    pub errno: i32,
}

const _: () = assert!(size_of::<FlowEnded>() == 112);

/// The flow ended after it was established (TCP), or its socket was closed (UDP).
pub const END_CLOSED: u32 = 1;
/// The remote was not reached, for the reason in `errno` (0: given up by the caller).
pub const END_FAILED: u32 = 2;
/// The call failed before a packet could leave (no route, no free port): TCP never sent a SYN.
pub const END_NEVER_SENT: u32 = 3;

/// Bytes that a process sent or received, for names to be found in: these fields, then
/// `sample_bytes` of payload.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct SampleHead {
    /// Kind [`KIND_SAMPLE`].
    pub header: Header,
    /// Who opened the socket.
    pub process: ProcessKey,
    /// The other end: of TCP, as the process asked for it; else as it is on the wire.
    pub remote: Remote,
    /// Socket cookie.
    pub cookie: u64,
    /// `HOOK_SAMPLE` or a `HOOK_DNS_` constant of [`crate::counter`]: what it is part of, and the
    /// direction.
    pub hook: u32,
    /// TCP: place of the first byte in the stream, from its first byte of payload on. Else 0.
    pub offset: u32,
    /// Bytes in the tail, at most [`SAMPLE_LONG_BYTES`].
    pub sample_bytes: u32,
    /// Bytes that the datagram, or this piece of a segment, has on the wire.
    pub wire_bytes: u32,
}

const _: () = assert!(size_of::<SampleHead>() == 80);

/// A [`SampleHead`] with all the tail it may need, as the kernel reserves it. What lies behind
/// `head.header.bytes` is not valid.
#[repr(C)]
pub struct Sample {
    /// Fixed fields.
    pub head: SampleHead,
    /// The payload.
    pub payload: [u8; SAMPLE_BYTES],
}

/// The same with a longer tail.
#[repr(C)]
pub struct SampleLong {
    /// Fixed fields.
    pub head: SampleHead,
    /// The payload.
    pub payload: [u8; SAMPLE_LONG_BYTES],
}

/// The same with a shorter tail.
#[repr(C)]
pub struct SampleShort {
    /// Fixed fields.
    pub head: SampleHead,
    /// The payload.
    pub payload: [u8; SAMPLE_SHORT_BYTES],
}

/// A DNS message that a process sent or received: these fields, then `payload_bytes` of message
/// from its header on. Of what is no DNS message, nothing is kept.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct DnsHead {
    /// Kind [`KIND_DNS_MESSAGE`].
    pub header: Header,
    /// Who opened the socket.
    pub process: ProcessKey,
    /// The other end, as in the sample: the resolver.
    pub remote: Remote,
    /// Socket cookie.
    pub cookie: u64,
    /// A `HOOK_DNS_` constant of [`crate::counter`]: the direction.
    pub hook: u32,
    /// Bytes of the message that are in the tail, at most [`crate::limits::DNS_BYTES`].
    pub payload_bytes: u16,
    /// Bytes that the message has on the wire.
    pub message_bytes: u16,
}

const _: () = assert!(size_of::<DnsHead>() == 72);

/// What was found in the first bytes of a flow: these fields, then `name_bytes` of the name or
/// address that the client claims to speak to, in its canonical form.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct NameClaimed {
    /// Kind [`KIND_NAME_CLAIMED`].
    pub header: Header,
    /// Who opened the socket.
    pub process: ProcessKey,
    /// The other end: of TCP, as the process asked for it; else as it is on the wire.
    pub remote: Remote,
    /// Socket cookie.
    pub cookie: u64,
    /// A `PROTOCOL_` constant.
    pub protocol: u32,
    /// A `CLAIM_` constant, or the number of a reason behind [`CLAIM_INCOMPLETE`] or
    /// [`CLAIM_INVALID`].
    pub outcome: u32,
    /// `HELLO_` flags.
    pub flags: u32,
    /// The port that a proxy is asked for; 0 if none.
    pub port: u16,
    /// Bytes in the tail.
    pub name_bytes: u16,
}

const _: () = assert!(size_of::<NameClaimed>() == 80);

/// The first bytes are of no protocol that is known, or missing.
pub const PROTOCOL_UNKNOWN: u32 = 0;
/// TLS over TCP.
pub const PROTOCOL_TLS: u32 = 1;
/// QUIC.
pub const PROTOCOL_QUIC: u32 = 2;
/// HTTP/1 to a server.
pub const PROTOCOL_HTTP: u32 = 3;
/// `CONNECT` to an HTTP proxy.
pub const PROTOCOL_HTTP_CONNECT: u32 = 4;
/// A request for another server to an HTTP proxy.
pub const PROTOCOL_HTTP_FORWARD: u32 = 5;
/// SOCKS 4 or 5.
pub const PROTOCOL_SOCKS: u32 = 6;

/// There is a name, or an address.
pub const CLAIM_NAMED: u32 = 0;
/// The protocol was understood, and the client names nobody.
pub const CLAIM_UNNAMED: u32 = 1;
/// No protocol that carries names.
pub const CLAIM_NOT_RECOGNISED: u32 = 2;
/// The client sent two different things at one place of the stream.
pub const CLAIM_CONTRADICTED: u32 = 3;
/// No room to look any further.
pub const CLAIM_EVICTED: u32 = 4;
/// The client did not get to its name; the reasons follow.
pub const CLAIM_INCOMPLETE: u32 = 0x100;
/// What stands where the name should be is none; the reasons follow.
pub const CLAIM_INVALID: u32 = 0x200;

/// There is an Encrypted Client Hello, which may hide another name.
pub const HELLO_ECH: u32 = 1 << 0;
/// Place of the first bit of the application protocols that the client offers (ALPN), in the
/// order in which the collector lists them.
pub const HELLO_ALPN_SHIFT: u32 = 8;

/// A flow's packets go elsewhere than its process asked: address translation, a program that
/// rewrites addresses, or a source route.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct FlowRedirected {
    /// Kind [`KIND_FLOW_REDIRECTED`].
    pub header: Header,
    /// Who asked.
    pub process: ProcessKey,
    /// Whereto the process asked.
    pub asked: Remote,
    /// Whereto the packet goes.
    pub wire: Remote,
    /// Socket cookie.
    pub cookie: u64,
}

const _: () = assert!(size_of::<FlowRedirected>() == 88);

/// A socket was opened that can send without asking for a destination.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct SocketOpened {
    /// Kind [`KIND_SOCKET_OPENED`].
    pub header: Header,
    /// Who.
    pub process: ProcessKey,
    /// `AF_` constant.
    pub family: u32,
    /// `SOCK_` constant.
    pub socket_type: u32,
    /// `IPPROTO_` constant of a raw socket.
    pub protocol: u32,
    /// `FLOW_FOUND` if it was open when the monitor started, or was found by a later look.
    pub flags: u32,
}

const _: () = assert!(size_of::<SocketOpened>() == 48);

/// `SOCK_RAW` of include/linux/net.h.
pub const SOCK_RAW: u32 = 3;
/// Not an address family: the character device `/dev/net/tun`.
pub const FAMILY_TUN: u32 = 1 << 16;

/// A process opened more new flows than its budget allows. At most one a second per process, and
/// one at its end.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct OverBudget {
    /// Kind [`KIND_OVER_BUDGET`].
    pub header: Header,
    /// Who.
    pub process: ProcessKey,
    /// Flows without a record of their own so far.
    pub refused: u64,
}

const _: () = assert!(size_of::<OverBudget>() == 40);

/// Both ends of a TCP connection are on this host: what the server does next may be for the client.
/// The first of each (client, server), and all of watched clients.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct FlowJoined {
    /// Kind [`KIND_FLOW_JOINED`].
    pub header: Header,
    /// Who connected.
    pub client: ProcessKey,
    /// Who opened the socket that listens.
    pub server: ProcessKey,
    /// The client's socket, as in its [`FlowOpened`].
    pub cookie: u64,
}

const _: () = assert!(size_of::<FlowJoined>() == 56);

/// A cgroup-v2 directory was made, from `cgroup_mkdir`; or the collector found it where the
/// hierarchy is mounted. These fields, then `path_bytes` of path from the root of the hierarchy
/// on, without a NUL.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct CgroupHead {
    /// Kind [`KIND_CGROUP_MADE`].
    pub header: Header,
    /// Its id: the inode number of the directory.
    pub cgroup_id: u64,
    /// Bytes of path in the tail, less than [`CGROUP_BYTES`]. 0: the collector did not find it.
    pub path_bytes: u16,
    /// Zero.
    pub reserved: [u16; 3],
}

const _: () = assert!(size_of::<CgroupHead>() == 32);

/// A [`CgroupHead`] with all the tail it may need, as the kernel reserves it.
#[repr(C)]
pub struct CgroupMade {
    /// Fixed fields.
    pub head: CgroupHead,
    /// The path; only `path_bytes` of it are valid.
    pub path: [u8; CGROUP_BYTES],
}

/// What happened in the flow map since it was last drained, for one flow.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct FlowCounted {
    /// Kind [`KIND_FLOW_COUNTED`].
    pub header: Header,
    /// Which flow.
    pub flow: FlowKey,
    /// Increase since the last drain; `last_seen_ns` is absolute.
    pub delta: crate::flow::FlowCounters,
}

const _: () = assert!(size_of::<FlowCounted>() == 128);

/// What the monitor found out about its own eyes. Bits are places in
/// [`crate::program::PROGRAMS`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct SelfChecked {
    /// Kind [`KIND_SELF_CHECKED`].
    pub header: Header,
    /// When the canary flow was last seen, ns of `CLOCK_BOOTTIME`; 0 if never.
    pub canary_ns: u64,
    /// Programs that are attached.
    pub attached: u64,
    /// Programs that this kernel does not allow and the monitor does without, and
    /// [`MISSING_PINS`].
    pub missing: u64,
}

/// Not a program: the kernel side was to outlive the monitor, and cannot.
pub const MISSING_PINS: u64 = 1 << 63;

const _: () = assert!(size_of::<SelfChecked>() == 40);

/// What files of the host say of the container whose cgroup this is. The tail is `facts_bytes` of
/// `name=value`, each with a NUL; none if they say nothing.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ContainerTold {
    /// Kind [`KIND_CONTAINER_TOLD`].
    pub header: Header,
    /// Whose.
    pub cgroup_id: u64,
    /// Bytes of the tail, at most [`crate::limits::FACTS_BYTES`].
    pub facts_bytes: u16,
    /// Zero.
    pub reserved: [u16; 3],
}

const _: () = assert!(size_of::<ContainerTold>() == 32);

/// Which build job a process is part of, by variables of its environment or an ancestor's. The
/// tail is as in [`ContainerTold`], and holds none but the variables that are asked for.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct JobTold {
    /// Kind [`KIND_JOB_TOLD`].
    pub header: Header,
    /// Which image asked.
    pub process: ProcessKey,
    /// Bytes of the tail, at most [`crate::limits::FACTS_BYTES`].
    pub facts_bytes: u16,
    /// Zero.
    pub reserved: [u16; 3],
}

const _: () = assert!(size_of::<JobTold>() == 40);

/// An answer that systemd-resolved gave somebody: these fields, then `name_bytes` of the name that
/// was asked, in its canonical form.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct NameResolved {
    /// Kind [`KIND_NAME_RESOLVED`].
    pub header: Header,
    /// One address of the name, in network order; IPv4 as IPv4-mapped.
    pub addr: [u8; 16],
    /// Bytes in the tail.
    pub name_bytes: u16,
    /// Zero.
    pub reserved: [u16; 3],
}

const _: () = assert!(size_of::<NameResolved>() == 40);

/// The kernel's counters, summed over CPUs; absolute since the programs were loaded.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct KernelCounters {
    /// Kind [`KIND_KERNEL_COUNTERS`].
    pub header: Header,
    /// Indexed by [`crate::counter::index`] and the `GAP_` constants.
    pub values: [u64; COUNTERS as usize],
    /// Records that hooks have booked as delivered and that never came out of a ring; below zero,
    /// records that came and were never booked.
    pub astray: i64,
}

/// The monitor took over from one that ran before it, whose programs went on without a reader.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Resumed {
    /// Kind [`KIND_RESUMED`]. The time is the end of the interval.
    pub header: Header,
    /// When the monitor before was last known to have told everything, ns of `CLOCK_BOOTTIME`.
    pub from_ns: u64,
    /// Records that were waiting in the rings.
    pub recovered: u64,
    /// Records that the monitor before took out of the rings and may not have told, at most.
    pub unread: u64,
    /// Operations without a record that the monitor before read and may not have told, at most.
    pub untold: u64,
    /// Records of another layout, which were thrown away.
    pub discarded: u64,
    /// The kernel's counters at the start of the interval.
    pub before: [u64; COUNTERS as usize],
    /// The kernel's counters at its end.
    pub after: [u64; COUNTERS as usize],
}
