//! Handing records to the rings, and keeping the books while doing so.
//!
//! In: a filled record and the hook it came from. Out: the record in a ring, or a counted drop.

use aya_ebpf::maps::RingBuf;
use monitor_common::{
    counter::{self, ATTEMPTED, DELIVERED, DROPPED_RING_FULL},
    record::Header,
};

use crate::{kernel, maps::COUNTERS};

/// Do not wake the reader: it polls. A wake-up costs about five times the record.
pub const NO_WAKEUP: u64 = aya_ebpf::bindings::BPF_RB_NO_WAKEUP as u64;

/// Adds one to a counter of this CPU.
#[inline(always)]
pub fn count(index: u32) {
    if let Some(value) = COUNTERS.get_ptr_mut(index) {
        // A per-CPU slot, but cgroup programs can be preempted by another task that runs the
        // same hook on the same CPU: only an atomic addition keeps the books exact.
        // SAFETY: an aligned map value, checked for null.
        unsafe { kernel::add(value, 1) };
    }
}

/// Books that a hook saw an operation.
#[inline(always)]
pub fn attempted(hook: u32) {
    count(counter::index(hook, ATTEMPTED));
}

/// Books an outcome of an operation.
#[inline(always)]
pub fn outcome(hook: u32, outcome: u32) {
    count(counter::index(hook, outcome));
}

/// A header for a record of type `T`, stamped now.
#[inline(always)]
pub fn header<T>(kind: u32) -> Header {
    Header {
        time_ns: kernel::now_ns(),
        kind,
        bytes: size_of::<T>() as u32,
    }
}

/// Puts a record into a ring without booking it: for records that accompany a booked one.
#[inline(always)]
pub fn aside<T>(ring: &'static RingBuf, value: &T) -> bool {
    ring.output::<T>(value, NO_WAKEUP).is_ok()
}

/// Puts a whole record into a ring and books it. Returns whether it was delivered.
#[inline(always)]
pub fn record<T>(ring: &'static RingBuf, hook: u32, value: &T) -> bool {
    record_or(ring, hook, value, None)
}

/// As [`record`], with the outcome to book when the ring has no room, if not "ring full".
#[inline(always)]
pub fn record_or<T>(ring: &'static RingBuf, hook: u32, value: &T, otherwise: Option<u32>) -> bool {
    let delivered = aside(ring, value);
    outcome(
        hook,
        if delivered {
            DELIVERED
        } else {
            otherwise.unwrap_or(DROPPED_RING_FULL)
        },
    );
    delivered
}
