//! Whom real clients reach, with the names that they resolve, claim, or ask a proxy for.
//!
//! In: dig and others, in a namespace. Out: `destination.domain` and `telltale.name.source` of each
//! flow. Each test runs its clients beside one monitor, since starting that takes longest.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests report failure by panicking, in their helpers too"
)]

mod resolving;
mod stage;
