//! Counts what the running thread has on the heap.
//!
//! In: every allocation of this test binary. Out: the most that a piece of work had at one time.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    /// Bytes on the heap now; below zero where another thread allocated what this one freed.
    static LIVE: Cell<isize> = const { Cell::new(0) };
    /// The most there ever was.
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

/// The system's allocator, counted.
pub struct Counted;

#[global_allocator]
static ALLOCATOR: Counted = Counted;

// SAFETY: the system's allocator does it all, with the arguments as they came. Counting neither
// allocates nor unwinds: the cells are constant at first, and have nothing to drop.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        // SAFETY: what the caller upholds for this function, it upholds for that one.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(0, layout.size());
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size, layout.size());
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

fn count(allocated: usize, freed: usize) {
    let live = LIVE.get() + allocated.cast_signed() - freed.cast_signed();
    LIVE.set(live);
    PEAK.set(PEAK.get().max(live));
}

/// The most bytes that `work` had on the heap at one time.
pub fn peak_of(work: impl FnOnce()) -> usize {
    let before = LIVE.get();
    PEAK.set(before);
    work();
    (PEAK.get() - before).max(0).cast_unsigned()
}
