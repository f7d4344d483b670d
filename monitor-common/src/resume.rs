//! What one monitor leaves for the next, so that what happens in between is told once.
//!
//! In: nothing. Out: [`Checkpoint`], the value of the kernel's `CHECKPOINT` map, which only the
//! collector reads and writes.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::counter::COUNTERS;

/// How far a monitor came. Zero if there was none.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Checkpoint {
    /// When everything up to here was written out, ns of `CLOCK_BOOTTIME`.
    pub time_ns: u64,
    /// Records that the hooks booked as delivered and that were told, or declared lost.
    pub settled: u64,
    /// Operations without a record that were read from the flow map: noted before they are told.
    pub taken: u64,
    /// Those of them that were told, or declared lost.
    pub told: u64,
    /// The kernel's counters at their last reading.
    pub books: [u64; COUNTERS as usize],
}

impl Default for Checkpoint {
    fn default() -> Self {
        Checkpoint {
            time_ns: 0,
            settled: 0,
            taken: 0,
            told: 0,
            books: [0; COUNTERS as usize],
        }
    }
}
