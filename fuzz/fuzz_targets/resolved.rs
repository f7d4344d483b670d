//! Fuzzes `targets::resolved` from the corpus `resolved`.
//!
//! In: bytes of libFuzzer. Out: a crash if what must hold does not.
#![no_main]

#[allow(dead_code, reason = "each program runs one of them")]
#[path = "../../tests/fuzz/seal.rs"]
mod seal;
#[allow(dead_code, reason = "each program runs one of them")]
#[path = "../../tests/fuzz/targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| targets::resolved(bytes));
