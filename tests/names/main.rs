//! Whom real clients reach, with the names that they resolve, claim, or ask a proxy for.
//!
//! In: curl, OpenSSL, Node.js, Python, dig, two Rust clients, tinyproxy, microsocks and
//! systemd-resolved, in a namespace. Out: `destination.domain`, `telltale.name.source`, `telltale.proxied` of each flow.
//! Each test runs many clients beside one monitor, since starting that takes longest.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests report failure by panicking, in their helpers too"
)]

mod clients;
mod proxies;
mod resolved;
mod resolving;
mod stage;
