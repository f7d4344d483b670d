//! The one clock that is read: `CLOCK_BOOTTIME`, as the kernel programs stamp their records.
//!
//! In: the system's clocks. Out: [`BootNs`], and the offset to wall time for what people read.

use rustix::time::{ClockId, clock_gettime};

use crate::core::event::BootNs;

/// Now.
#[must_use]
pub fn now() -> BootNs {
    BootNs(read(ClockId::Boottime))
}

/// What to add to a [`BootNs`] to get nanoseconds since 1970-01-01 UTC. Changes when the wall
/// clock is stepped.
#[must_use]
pub fn wall_offset_ns() -> i64 {
    let (wall, boot) = (read(ClockId::Realtime), read(ClockId::Boottime));
    i64::try_from(wall).unwrap_or(i64::MAX) - i64::try_from(boot).unwrap_or_default()
}

/// Nanoseconds since 1970-01-01 UTC, now.
#[must_use]
pub fn unix_ns() -> u64 {
    read(ClockId::Realtime)
}

/// Seconds since 1970-01-01 UTC.
#[must_use]
pub fn unix_seconds() -> i64 {
    clock_gettime(ClockId::Realtime).tv_sec
}

fn read(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanoseconds = u64::try_from(time.tv_nsec).unwrap_or_default();
    seconds * 1_000_000_000 + nanoseconds
}
