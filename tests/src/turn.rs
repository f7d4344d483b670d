//! Whose turn it is: most tests share the host, load tests have it for themselves.
//!
//! In: nothing. Out: a [`Turn`], held until the test ends.
//!
//! A monitor watches the whole host. Tests look at their own processes only, so they can run side
//! by side; a test that compares totals, or that floods the host, must not.

use std::env;
use std::fs::{File, TryLockError};
use std::time::Duration;

use crate::wait;

/// The longest a test may have to wait for others.
const PATIENCE: Duration = Duration::from_secs(600);

/// A right to use the host's kernel hooks, until dropped. Holds across test binaries.
#[derive(Debug)]
pub struct Turn {
    _lock: File,
}

impl Turn {
    /// Together with other tests.
    #[must_use]
    pub fn shared() -> Turn {
        Turn::take(File::try_lock_shared)
    }

    /// Alone.
    #[must_use]
    pub fn alone() -> Turn {
        Turn::take(File::try_lock)
    }

    fn take(lock: fn(&File) -> Result<(), TryLockError>) -> Turn {
        // Whoever waits for the host holds the gate, so that nobody overtakes one who wants it
        // alone.
        let gate = locked("telltale-tests.gate", File::try_lock);
        let turn = Turn {
            _lock: locked("telltale-tests.lock", lock),
        };
        drop(gate);
        turn
    }
}

/// Opens and locks a file in the temp directory; the lock ends with the file.
fn locked(name: &str, lock: fn(&File) -> Result<(), TryLockError>) -> File {
    let path = env::temp_dir().join(name);
    let file = File::create(&path).expect("lock file in the temp directory");
    wait::until("a turn among the kernel tests", PATIENCE, || {
        match lock(&file) {
            Ok(()) => Some(()),
            Err(TryLockError::WouldBlock) => None,
            Err(TryLockError::Error(error)) => panic!("lock {}: {error}", path.display()),
        }
    });
    file
}
