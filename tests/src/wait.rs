//! Waiting for a condition, with a limit: the only way a test waits.
//!
//! In: a question asked again and again. Out: its answer, or a panic that says what was missing.

use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

/// An event, a metric or an alert is there well within this; two busy cores included.
pub const SOON: Duration = Duration::from_secs(10);

/// Starting a server or loading the kernel programs takes this long at most.
pub const START: Duration = Duration::from_secs(20);

/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// How many times as long everything takes as on the machines that the limits are for: 1, or what
/// an emulated one says of itself.
static SLOWNESS: LazyLock<u32> = LazyLock::new(|| {
    let told = std::env::var("TELLTALE_TEST_SLOWNESS");
    told.map_or(1, |it| {
        it.parse().expect("TELLTALE_TEST_SLOWNESS is a number")
    })
});

/// A limit on this machine.
#[must_use]
pub fn here(limit: Duration) -> Duration {
    limit * *SLOWNESS
}

/// Asks until the answer is there, or `limit`, as it is [`here`], has passed.
pub fn try_until<T>(limit: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + here(limit);
    loop {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if Instant::now() >= deadline {
            return None;
        }
        thread::sleep(PAUSE);
    }
}

/// Asks until the answer is there.
///
/// # Panics
///
/// If `limit` has passed without one.
#[track_caller]
pub fn until<T>(what: &str, limit: Duration, ask: impl FnMut() -> Option<T>) -> T {
    match try_until(limit, ask) {
        Some(answer) => answer,
        None => panic!("{what}: not within {limit:?}"),
    }
}
