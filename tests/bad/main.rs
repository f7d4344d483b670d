//! Bad input and bad places: a clear message with the remedy and exit status 2 at the start, a
//! counter while it runs, and never a panic.
//!
//! In: missing privileges, missing kernel features, taken ports, broken files, full disks.
//! Out: exit status, messages, metrics.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests report failure by panicking, in their helpers too"
)]

mod files;
mod places;
mod privileges;
