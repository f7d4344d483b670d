//! `memcpy` and `memmove` for the program that packages hold, which is linked with musl.
//!
//! musl 1.2.5 copies with `rep movsq` on x86-64, and single bytes before and after
//! (src/string/x86_64/memcpy.s). Most copies here are a few bytes of a line of JSON or a record of
//! some hundred, for which that takes longer than all else that is done with them. Here, two
//! vectors that may overlap cover short ones, and vectors of 16 bytes the rest; SSE2 is part of
//! x86-64. Other processors and C libraries have good ones of their own.
//!
//! `memmove` is here because musl's is one with its `memcpy`: the linker would take both, or none.
#![no_std]
// Or the compiler would make a call of `memcpy` out of these very loops.
#![no_builtins]
#![cfg(target_arch = "x86_64")]
#![allow(
    clippy::multiple_unsafe_ops_per_block,
    reason = "the loads and stores of one copy are sound for one reason"
)]

#[cfg(test)]
extern crate std;

use core::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_storeu_si128};

/// Bytes of a vector.
const VECTOR: usize = size_of::<__m128i>();

/// Copies `bytes` bytes that do not overlap, as C's `memcpy`.
///
/// # Safety
///
/// `from` is readable and `to` is writable for `bytes` bytes.
#[cfg(target_env = "musl")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, bytes: usize) -> *mut u8 {
    // SAFETY: the caller's promise.
    unsafe { copy_up(to, from, bytes) };
    to
}

/// Copies `bytes` bytes that may overlap, as C's `memmove`.
///
/// # Safety
///
/// `from` is readable and `to` is writable for `bytes` bytes.
#[cfg(target_env = "musl")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, bytes: usize) -> *mut u8 {
    // SAFETY: the caller's promise.
    unsafe { copy(to, from, bytes) };
    to
}

/// Copies bytes that may overlap.
///
/// # Safety
///
/// `from` is readable and `to` is writable for `bytes` bytes.
#[cfg_attr(
    not(any(test, target_env = "musl")),
    expect(dead_code, reason = "for musl")
)]
unsafe fn copy(to: *mut u8, from: *const u8, bytes: usize) {
    let is_inside = to.addr().wrapping_sub(from.addr()) < bytes;
    if is_inside && bytes > 2 * VECTOR {
        // SAFETY: the caller's promise.
        unsafe { copy_down(to, from, bytes) };
    } else {
        // SAFETY: the caller's promise.
        unsafe { copy_up(to, from, bytes) };
    }
}

/// Copies from the first byte on; `to` is not within what is copied, unless that is at most two
/// vectors long.
///
/// # Safety
///
/// `from` is readable and `to` is writable for `bytes` bytes.
unsafe fn copy_up(to: *mut u8, from: *const u8, bytes: usize) {
    if bytes <= 2 * VECTOR {
        // SAFETY: the caller's promise.
        return unsafe { copy_short(to, from, bytes) };
    }
    // SAFETY: both vectors are within what is copied, which is longer than two; the loop ends
    // before it would pass the end. The last is read first, as `to` may begin before `from`.
    unsafe {
        let last = load(from.add(bytes - VECTOR));
        let mut done = 0;
        while done < bytes - VECTOR {
            store(to.add(done), load(from.add(done)));
            done += VECTOR;
        }
        store(to.add(bytes - VECTOR), last);
    }
}

/// Copies from the last byte on, more than a vector; `from` is not within what is written.
///
/// # Safety
///
/// `from` is readable and `to` is writable for `bytes` bytes.
unsafe fn copy_down(to: *mut u8, from: *const u8, bytes: usize) {
    // SAFETY: as `copy_up`, in the other direction.
    unsafe {
        let first = load(from);
        let mut left = bytes;
        while left > VECTOR {
            left -= VECTOR;
            store(to.add(left), load(from.add(left)));
        }
        store(to, first);
    }
}

/// Copies up to two vectors, which may overlap: everything is read before anything is written.
///
/// # Safety
///
/// `from` is readable and `to` is writable for `bytes` bytes.
unsafe fn copy_short(to: *mut u8, from: *const u8, bytes: usize) {
    // SAFETY: each arm's pair is no longer than `bytes`; vectors and integers may lie anywhere.
    unsafe {
        match bytes {
            0 => {}
            1 => *to = *from,
            2..4 => pair::<u16>(to, from, bytes),
            4..8 => pair::<u32>(to, from, bytes),
            8..16 => pair::<u64>(to, from, bytes),
            _ => pair::<__m128i>(to, from, bytes),
        }
    }
}

/// Copies the first and the last `T`, which may be the same bytes in part.
///
/// # Safety
///
/// `from` is readable and `to` is writable for `bytes` bytes, which is at least the size of `T`.
unsafe fn pair<T: Copy>(to: *mut u8, from: *const u8, bytes: usize) {
    let at = bytes - size_of::<T>();
    // SAFETY: the caller's promise.
    unsafe {
        let first = from.cast::<T>().read_unaligned();
        let last = from.add(at).cast::<T>().read_unaligned();
        to.cast::<T>().write_unaligned(first);
        to.add(at).cast::<T>().write_unaligned(last);
    }
}

/// # Safety
///
/// A vector is readable there.
unsafe fn load(from: *const u8) -> __m128i {
    // SAFETY: the caller's promise; the instruction wants no alignment.
    unsafe { _mm_loadu_si128(from.cast()) }
}

/// # Safety
///
/// A vector is writable there.
unsafe fn store(to: *mut u8, vector: __m128i) {
    // SAFETY: the caller's promise; the instruction wants no alignment.
    unsafe { _mm_storeu_si128(to.cast(), vector) }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::copy;

    /// Room before and after, in which nothing may change.
    const MARGIN: usize = 70;

    /// What is copied within one buffer is what the standard library copies.
    #[track_caller]
    fn check(from: usize, to: usize, bytes: usize) {
        let before: Vec<u8> = (0..=u8::MAX).cycle().take(bytes + 3 * MARGIN).collect();
        let (mut expect, mut got) = (before.clone(), before);
        expect.copy_within(from..from + bytes, to);
        // SAFETY: both ranges are in the buffer, which `copy_within` has checked.
        unsafe { copy(got.as_mut_ptr().add(to), got.as_ptr().add(from), bytes) };
        assert_eq!(got, expect, "{bytes} bytes from {from} to {to}");
    }

    #[test]
    fn every_length_at_every_distance() {
        for bytes in 0..300 {
            for to in 0..2 * MARGIN {
                check(MARGIN, to, bytes);
            }
        }
    }

    #[test]
    fn every_alignment() {
        for bytes in [1, 15, 16, 17, 31, 32, 33, 63, 64, 65, 4096, 65_537] {
            for from in 0..17 {
                for to in 0..17 {
                    check(from, to, bytes);
                    check(from, to + MARGIN, bytes);
                }
            }
        }
    }

    #[test]
    fn apart() {
        for bytes in 0..1000 {
            let from: Vec<u8> = (0..=u8::MAX).cycle().take(bytes).collect();
            let mut to = std::vec![0xff; bytes + 2];
            // SAFETY: there is one byte more on either side.
            unsafe { copy(to.as_mut_ptr().add(1), from.as_ptr(), bytes) };
            assert_eq!(to[1..=bytes], from);
            assert_eq!((to[0], to[bytes + 1]), (0xff, 0xff));
        }
    }
}
