//! Keys and values of the kernel's maps: who talks to whom, and how often.
//!
//! In: nothing. Out: [`ProcessKey`], [`Remote`], [`FlowKey`], [`FlowCounters`].

use core::mem::size_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// One program image of one process: unique on this host until it reboots.
///
/// The process is (`start_ns`, `tgid`); each `execve` raises `exec_id`, so that a flow names the
/// program that made it even when the process became another program right after.
#[repr(C)]
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
pub struct ProcessKey {
    /// `task_struct.start_boottime` of the thread group leader, ns of `CLOCK_BOOTTIME`.
    pub start_ns: u64,
    /// Thread group id in the initial pid namespace: what user space calls the pid.
    pub tgid: u32,
    /// Low 32 bits of the leader's `task_struct.self_exec_id`.
    pub exec_id: u32,
}

const _: () = assert!(size_of::<ProcessKey>() == 16);

/// The far end of a flow.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Remote {
    /// Network order, in words as the kernel keeps them; IPv4 as v4-mapped.
    pub addr: [u32; 4],
    /// Host order.
    pub port: u16,
    /// `IPPROTO_` of the socket: 6 TCP, 17 UDP, 132 SCTP, 262 MPTCP.
    pub protocol: u16,
    /// Zero.
    pub reserved: u32,
}

const _: () = assert!(size_of::<Remote>() == 24);

impl Remote {
    /// The address words of an IPv4 address in network order.
    #[must_use]
    #[inline(always)]
    pub const fn v4_mapped(ip4: u32) -> [u32; 4] {
        [0, 0, 0xffff_u32.to_be(), ip4]
    }
}

/// Key of the kernel's flow map.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct FlowKey {
    /// Who.
    pub process: ProcessKey,
    /// To whom.
    pub remote: Remote,
}

const _: () = assert!(size_of::<FlowKey>() == 40);

/// Value of the kernel's flow map. All fields only grow.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct FlowCounters {
    /// `connect()` calls.
    pub connects: u64,
    /// Datagrams sent to an address given with the send.
    pub datagrams: u64,
    /// `connect()` calls for which no record was delivered: aggregated or dropped.
    pub connects_unreported: u64,
    /// TCP: connections that reached ESTABLISHED.
    pub established: u64,
    /// TCP: connections that ended without reaching ESTABLISHED.
    pub failed: u64,
    /// Flows that ended.
    pub closed: u64,
    /// Payload bytes acknowledged by the remote, of ended TCP connections.
    pub bytes_sent: u64,
    /// Payload bytes received in order, of ended TCP connections.
    pub bytes_received: u64,
    /// When the flow map last changed this entry, ns of `CLOCK_BOOTTIME`.
    pub last_seen_ns: u64,
}

const _: () = assert!(size_of::<FlowCounters>() == 72);
