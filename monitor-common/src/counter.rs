//! The books: one row per hook, one column per outcome, summed over CPUs by the reader.
//!
//! In: nothing. Out: indices into the kernel's `COUNTERS` per-CPU array.
//!
//! For every hook row, at rest: `ATTEMPTED = DELIVERED + AGGREGATED + all DROPPED_*`.
//! A remainder is a bug or a loss nobody counted, and is itself an alert.

/// `connect()` to an `AF_INET` address.
pub const HOOK_CONNECT4: u32 = 0;
/// `connect()` to an `AF_INET6` address, v4-mapped ones included.
pub const HOOK_CONNECT6: u32 = 1;
/// A datagram to an `AF_INET` address given with the send.
pub const HOOK_SENDMSG4: u32 = 2;
/// A datagram to an `AF_INET6` address given with the send.
pub const HOOK_SENDMSG6: u32 = 3;
/// The end of a flow: failed or closed.
pub const HOOK_FLOW_END: u32 = 4;
/// A DNS message leaving the host.
pub const HOOK_DNS_EGRESS: u32 = 5;
/// A DNS message reaching a socket of the host.
pub const HOOK_DNS_INGRESS: u32 = 6;
/// A new process (threads are not counted).
pub const HOOK_FORK: u32 = 7;
/// A new program image.
pub const HOOK_EXEC: u32 = 8;
/// The end of a process (threads are not counted).
pub const HOOK_EXIT: u32 = 9;
/// A packet to a destination that its socket is not known to have asked for: the flow was not
/// opened by a call that the other hooks see, or its address was rewritten on the way.
pub const HOOK_WIRE: u32 = 10;
/// A socket that can send without a destination being asked for: raw.
pub const HOOK_SOCKET: u32 = 11;
/// A TCP connection that a process of this host accepted from another of its processes.
pub const HOOK_JOIN: u32 = 12;
/// First bytes of a flow that leave the host.
pub const HOOK_SAMPLE: u32 = 13;
/// Number of hook rows.
pub const HOOKS: u32 = 14;

/// Names of the hook rows, in index order; the `hook` label of metrics.
pub const HOOK_NAMES: [&str; HOOKS as usize] = [
    "connect4",
    "connect6",
    "sendmsg4",
    "sendmsg6",
    "flow_end",
    "dns_egress",
    "dns_ingress",
    "fork",
    "exec",
    "exit",
    "wire",
    "socket",
    "join",
    "sample",
];

/// The hook saw an operation.
pub const ATTEMPTED: u32 = 0;
/// A record was handed to a ring.
pub const DELIVERED: u32 = 1;
/// Counted in the flow map, no record wanted.
pub const AGGREGATED: u32 = 2;
/// No room in the ring.
pub const DROPPED_RING_FULL: u32 = 3;
/// No room in the flow map and no record either.
pub const DROPPED_FLOWS_FULL: u32 = 4;
/// The kernel object could not be read as expected (a probe read or a packet read failed).
pub const DROPPED_UNREADABLE: u32 = 5;
/// The process opened new flows faster than its budget allows; it is named by an `OverBudget`
/// record.
pub const DROPPED_OVER_BUDGET: u32 = 6;
/// Number of outcome columns.
pub const OUTCOMES: u32 = 7;

/// Names of the outcome columns, in index order; the `outcome` label of metrics.
pub const OUTCOME_NAMES: [&str; OUTCOMES as usize] = [
    "attempted",
    "delivered",
    "aggregated",
    "ring_full",
    "flows_full",
    "unreadable",
    "over_budget",
];

/// A new flow found no room in the flow map; its record may still have been delivered.
pub const GAP_FLOWS_FULL: u32 = HOOKS * OUTCOMES;
/// A socket could not be given its storage record; its end will not be seen.
pub const GAP_NO_SOCKET_STORAGE: u32 = GAP_FLOWS_FULL + 1;
/// A child of a watched process could not be marked as watched.
pub const GAP_WATCHED_FULL: u32 = GAP_FLOWS_FULL + 2;
/// A process could not be given a budget; it was let through without one.
pub const GAP_BUDGETS_FULL: u32 = GAP_FLOWS_FULL + 3;
/// The opener of an MPTCP socket could not be remembered: connections that the kernel adds to it
/// will be the kernel's own.
pub const GAP_MPTCP_FULL: u32 = GAP_FLOWS_FULL + 4;
/// Number of gap counters.
pub const GAPS: u32 = 5;

/// Names of the gap counters, in index order; the `reason` label of metrics.
pub const GAP_NAMES: [&str; GAPS as usize] = [
    "flows_full",
    "no_socket_storage",
    "watched_full",
    "budgets_full",
    "mptcp_full",
];

/// Length of the counter array.
pub const COUNTERS: u32 = HOOKS * OUTCOMES + GAPS;

/// Index of one cell of the books.
#[must_use]
pub const fn index(hook: u32, outcome: u32) -> u32 {
    hook * OUTCOMES + outcome
}
