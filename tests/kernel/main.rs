//! The whole line on the running kernel: real processes connect, and the built binary says who
//! they were, whom they reached and what the policy thinks of it.
//!
//! In: scenes. Out: what the event log, the scrape and a real webhook receiver hold afterwards.
//!
//! Needs root, cgroup v2 and the kernel's BTF; a test that lacks something fails and says what.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests report failure by panicking, in their helpers too"
)]

mod attribution;
mod books;
mod budget;
mod children;
mod endpoints;
mod identity;
mod layouts;
mod names;
mod older;
mod places;
mod policy;
mod privilege;
mod recording;
mod reload;
mod replaced;
mod scope;
mod short_lived;
mod spoofed;
mod survival;
mod transport;
