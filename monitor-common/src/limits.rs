//! Every bound of the kernel side, with its unit and its reason.
//!
//! In: nothing. Out: constants that both sides compile in. Reaching a bound is always counted
//! (see [`crate::counter`]) or flagged in the record.

/// Bytes kept of an executable's path, as NUL-terminated components, leaf first.
///
/// Build trees nest deeply, but `PATH_MAX` (4096) per exec would triple the ring traffic.
pub const PATH_BYTES: usize = 1024;

/// Components walked from the executable up to the root of its mount tree.
pub const PATH_DEPTH: usize = 48;

/// Longest path component a Linux file system allows, plus its NUL.
pub const NAME_BYTES: usize = 256;

/// Bytes kept of argv as it stood at exec, NUL-separated.
pub const ARGS_BYTES: usize = 1024;

/// Bytes kept of a script's path without links: `PATH_MAX`, as it travels through no ring.
pub const SCRIPT_BYTES: usize = 4096;

/// Bytes kept of a version: longer than any known one.
pub const VERSION_BYTES: usize = 48;

/// Bytes kept of a cgroup's path, its NUL included: what the kernel's own tracepoints keep
/// (`TRACE_CGROUP_PATH_LEN`, kernel/cgroup/cgroup-internal.h).
pub const CGROUP_BYTES: usize = 1024;

/// Bytes kept of what the host says of a container, or of a build job: a dozen short names.
pub const FACTS_BYTES: usize = 4096;

/// Bytes kept of one DNS message: a few more than resolvers send in a datagram, and than any
/// answer about one host has.
pub const DNS_BYTES: usize = 4096;

/// Bytes of a usual sample record: a TLS hello with a post-quantum key share (1.8 KiB), a QUIC or a
/// DNS datagram.
pub const SAMPLE_BYTES: usize = 2048;

/// Bytes of a short sample record, so that most take little room in the ring: OpenSSL pads its
/// hellos to 517 bytes; most requests and DNS messages are shorter.
pub const SAMPLE_SHORT_BYTES: usize = 536;

/// Bytes of a long sample record: half of a flow's share, as large hellos and HTTP fields take.
pub const SAMPLE_LONG_BYTES: usize = 8192;

/// Bytes sampled of one direction of a TCP connection: the longest TLS record.
pub const SAMPLE_FLOW_BYTES: u32 = 16 << 10;

/// Packets sampled of one direction of a TCP connection: a flight that fills the initial
/// congestion window (10), and some that are sent again.
pub const SAMPLE_TCP_PACKETS: u32 = 16;

/// Datagrams sampled of one UDP flow: a QUIC hello takes up to 3, and may be sent twice.
pub const SAMPLE_UDP_PACKETS: u32 = 6;

/// Distinct (process, protocol, address, port) tuples counted at one time.
pub const FLOWS_MAX: u32 = 65_536;

/// Processes that may be watched in detail at one time.
pub const WATCHED_MAX: u32 = 16_384;

/// New flows that a process may open at once before its budget is used up.
pub const BUDGET_BURST: u32 = 8_192;

/// New flows per second that a process may open in the long run.
pub const BUDGET_PER_SECOND: u32 = 20;

/// Processes that have a budget at one time.
pub const BUDGETS_MAX: u32 = 32_768;

/// Pairs of processes, connected over loopback, that were told already. One that is forgotten is
/// told again.
pub const JOINED_MAX: u32 = 16_384;

/// MPTCP sockets whose opener is known at one time.
pub const MPTCP_MAX: u32 = 8_192;

/// IPv6 extension headers that are skipped to find the transport header.
pub const IPV6_EXTENSIONS: usize = 6;

/// Control ring: process events and first sightings of a (process, destination).
pub const CONTROL_RING_BYTES: u32 = 4 << 20;

/// Detail ring: repeated opens and ends of flows.
pub const DETAIL_RING_BYTES: u32 = 2 << 20;

/// Payload ring: samples.
pub const PAYLOAD_RING_BYTES: u32 = 1 << 20;
