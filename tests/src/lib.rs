//! The harness: everything a test needs to watch Telltale watch real processes.
//!
//! In: a test's description of a scene (names, servers, tools on disk). Out: namespaces, servers
//! and processes that are really there, and are gone when the test ends, also when it fails.
//!
//! Nothing here is a mock: stand-in tools are real processes in a network namespace of their own,
//! which ask a real DNS server and connect to real sockets. In reading order:
//!
//! - [`binary`]: the programs under test, built once
//! - [`wait`]: the only way to wait: for a condition, with a limit
//! - [`turn`]: load tests have the host for themselves
//! - [`netns`], [`dns`], [`tcp`], [`http`], [`webhook`]: the network of a test
//! - [`bpffs`]: where a monitor can leave its kernel side
//! - [`cgroup`]: where processes are put
//! - [`running`], [`program`]: processes, and tools laid out on disk as the catalog says
//! - [`telltale`], [`event`], [`metrics`]: the monitor under test, and what it says
//! - [`scene`]: all of it together
//! - [`clients`]: what real TLS, QUIC, DNS and proxy clients say first
//! - [`trim`]: golden cases out of recordings
//!
//! A test panics when something is not as it should be; it never returns an error, and it never
//! skips itself: a missing privilege or program fails the test with a line that says what to do.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test harness reports failure by panicking"
)]

pub mod binary;
pub mod bpffs;
pub mod cgroup;
pub mod clients;
pub mod dns;
pub mod event;
pub mod http;
pub mod metrics;
pub mod netns;
pub mod program;
pub mod python;
pub mod resolved;
pub mod running;
pub mod scene;
pub mod tcp;
pub mod telltale;
pub mod trim;
pub mod turn;
pub mod wait;
pub mod webhook;
