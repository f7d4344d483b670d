//! Bytes that were never meant to be, for every parser of hostile bytes.
//!
//! In: the corpora of `fuzz/corpus`, recorded from real clients by `record-hellos`, and changed
//! here. Out: no panic, no more than [`HEAP_BYTES_MAX`] on the heap, an end in good time.
//! `cargo xtask fuzz` runs it for longer, with another seed each time.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "tests report failure by panicking, and say what they did"
)]

mod memory;
mod mutate;
mod seal;
mod targets;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use self::mutate::{INPUT_BYTES_MAX, Random};
use self::targets::{FuzzTarget, TARGETS};

/// Heap that 64 KiB of input may take at one time.
const HEAP_BYTES_MAX: usize = 256 << 10;

/// CPU time that one input may take: a hundred times what it takes unoptimised. What bounds it is
/// the parsers' own limits; this only finds work without end.
const CPU_TIME_MAX: Duration = Duration::from_secs(2);

/// How long all parsers are run in all, where nobody says otherwise.
const SECONDS: u64 = 2;

/// First number of the mutations, where nobody says otherwise.
const SEED: u64 = 0x7e11_7a1e;

/// A number from the environment.
fn from_env(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{name}={text}: not a number")),
        Err(_) => default,
    }
}

/// The files of a parser's corpus, in order.
fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz/corpus")
        .join(name);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{folder:?} is empty");
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

/// Runs one input, and keeps it if it does not hold. Returns the most it had on the heap.
fn run((name, target): FuzzTarget, input: &[u8]) -> usize {
    let start = clock_gettime(ClockId::ThreadCPUTime);
    let result = catch_unwind(AssertUnwindSafe(|| {
        let peak = memory::peak_of(|| target(input));
        assert!(
            peak <= HEAP_BYTES_MAX,
            "{peak} bytes on the heap at one time"
        );
        peak
    }));
    let time = Duration::try_from(clock_gettime(ClockId::ThreadCPUTime) - start).unwrap();
    if result.is_err() || time > CPU_TIME_MAX {
        let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{name}.bin"));
        fs::write(&file, input).unwrap();
        println!("{name}: {time:?} for the input in {}", file.display());
    }
    assert!(time <= CPU_TIME_MAX, "{name}: {time:?}");
    result.unwrap_or_else(|panic| resume_unwind(panic))
}

#[test]
fn corpora_hold() {
    for target in TARGETS {
        for input in corpus(target.0) {
            run(target, &input);
            // As large as inputs come.
            let mut large = input.repeat(INPUT_BYTES_MAX / input.len() + 1);
            large.truncate(INPUT_BYTES_MAX);
            run(target, &large);
        }
    }
}

#[test]
fn mutated_corpora_hold() {
    let seconds = from_env("TELLTALE_FUZZ_SECONDS", SECONDS);
    let seed = from_env("TELLTALE_FUZZ_SEED", SEED);
    println!("seed {seed}, {seconds} s");
    let share = Duration::from_secs(seconds) / u32::try_from(TARGETS.len()).unwrap();
    for target in TARGETS {
        let corpus = corpus(target.0);
        let mut random = Random::new(seed);
        let start = Instant::now();
        let (mut inputs, mut peak) = (0_u64, 0);
        while start.elapsed() < share {
            peak = peak.max(run(target, &mutate::next(&mut random, &corpus)));
            inputs += 1;
        }
        println!(
            "{:<12} {inputs:>9} inputs, {peak:>7} bytes of heap at most",
            target.0
        );
    }
}
