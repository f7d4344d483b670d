//! Names of the kernel programs, in the order of attachment.
//!
//! In: nothing. Out: names for the loader, for self-checks in recordings (where a program is its
//! place in this list), and for metrics.

/// Every program. Processes first, so that no flow comes from a process nobody saw.
pub const PROGRAMS: [&str; 16] = [
    "process_fork",
    "process_exec",
    "process_exit",
    "sock_create",
    "sock_release",
    "socket_state",
    "connect4",
    "connect6",
    "sendmsg4",
    "sendmsg6",
    "packet_egress",
    "packet_ingress",
    "send_length",
    "task_iter",
    "file_iter",
    "cgroup_mkdir",
];

const _: () = assert!(PROGRAMS.len() < 64); // One bit each; the last is `MISSING_PINS`.
