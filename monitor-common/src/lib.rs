//! The kernel/user ABI: what `monitor-ebpf` writes and `monitor-user` reads, and nothing else.
//!
//! In: nothing. Out: record layouts ([`record`]), map keys and values ([`flow`]), counter
//! indices ([`counter`]), limits ([`limits`]) and what one monitor leaves for the next ([`resume`]).
//!
//! Rules, each of which prevents a class of bug:
//!
//! - Only `u8`/`u16`/`u32`/`u64`/`i32`/`i64` and arrays cross the line; no `bool`, `enum` or
//!   `Option`, because the other side may be of another build.
//! - `#[repr(C)]`, largest field first, padding spelled out; `zerocopy::IntoBytes` refuses hidden
//!   padding at compile time, and sizes are asserted beside each layout.
//! - Kinds are `u32` constants; user space turns them into an enum with an unknown arm.
//! - Addresses are 16 bytes in network order, IPv4 as v4-mapped (`::ffff:a.b.c.d`); ports are in
//!   host order; times are nanoseconds of `CLOCK_BOOTTIME`, which compares with the start time in
//!   `/proc/PID/stat`.
//! - A change of layout or meaning changes [`ABI_VERSION`]: a recording holds it, and a replay
//!   refuses another. That the committed object is of these sources, `cargo xtask build-ebpf
//!   --check` proves on every run of CI.
#![no_std]
#![deny(unsafe_code)]

pub mod counter;
pub mod flow;
pub mod limits;
pub mod program;
pub mod record;
pub mod resume;

/// Version of everything in this crate.
pub const ABI_VERSION: u32 = 6;
