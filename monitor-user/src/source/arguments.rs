//! The arguments of processes that are older than the monitor.
//!
//! In: their ids. Out: what `/proc/PID/cmdline` shows. To read it, the kernel waits for a lock of
//! that process, which may be held for as long as a file system of its choice does not answer. So a
//! thread reads, and one that hangs is left behind: another goes on after that process.

use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;
use std::{io, thread};

use crate::host::HostRoot;
use crate::sandbox::{self, Role};

/// How long one process is waited for: it takes microseconds, and on a busy host until the thread
/// has its turn.
const PATIENCE: Duration = Duration::from_secs(1);
/// Processes that are waited for in vain; with more, no more is read. The start is delayed by this
/// many times [`PATIENCE`] at most.
const HUNG_MAX: usize = 8;

/// The arguments of each process, NUL-separated; `None` where they cannot be read.
///
/// # Errors
///
/// There can be no further thread.
pub fn read(host: &HostRoot, pids: &[u32]) -> io::Result<Vec<Option<Vec<u8>>>> {
    let host = host.clone();
    read_by(pids, move |pid| host.arguments(pid).ok())
}

fn read_by(
    pids: &[u32],
    look: impl Fn(u32) -> Option<Vec<u8>> + Clone + Send + 'static,
) -> io::Result<Vec<Option<Vec<u8>>>> {
    let mut found = Vec::with_capacity(pids.len());
    for _ in 0..HUNG_MAX {
        let answers = start(pids.get(found.len()..).unwrap_or_default(), look.clone())?;
        match take(&answers, &mut found) {
            RecvTimeoutError::Disconnected => break,
            RecvTimeoutError::Timeout => {
                let pid = pids.get(found.len()).copied().unwrap_or_default();
                tracing::warn!("process {pid} does not show its arguments: it hangs");
                found.push(None);
            }
        }
    }
    found.resize(pids.len(), None);
    Ok(found)
}

/// Takes answers until there are no more, or one does not come.
fn take(answers: &Receiver<Option<Vec<u8>>>, found: &mut Vec<Option<Vec<u8>>>) -> RecvTimeoutError {
    loop {
        match answers.recv_timeout(PATIENCE) {
            Ok(answer) => found.push(answer),
            Err(end) => return end,
        }
    }
}

/// Starts a thread that answers for these processes in turn. Never joined: it may never end.
fn start(
    pids: &[u32],
    look: impl Fn(u32) -> Option<Vec<u8>> + Send + 'static,
) -> io::Result<Receiver<Option<Vec<u8>>>> {
    let (send, answers) = channel();
    let pids = pids.to_vec();
    thread::Builder::new()
        .name("arguments".to_owned())
        .spawn(move || {
            if let Err(error) = sandbox::enter(Role::Files) {
                tracing::warn!("arguments are read with all privileges: {error:#}");
            }
            for pid in pids {
                if send.send(look(pid)).is_err() {
                    return;
                }
            }
        })?;
    Ok(answers)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of 20 processes are read if these hang.
    #[track_caller]
    fn check(hanging: &'static [u32], expect: impl Fn(u32) -> bool) {
        let pids: Vec<u32> = (0..20).collect();
        let look = move |pid| {
            while hanging.contains(&pid) {
                thread::park();
            }
            Some(vec![u8::try_from(pid).unwrap()])
        };
        let found = read_by(&pids, look).unwrap();
        assert_eq!(found.len(), pids.len());
        for (pid, found) in pids.iter().zip(found) {
            assert_eq!(found.is_some(), expect(*pid), "{pid}");
        }
    }

    #[test]
    fn a_process_that_hangs_is_passed_over() {
        check(&[], |_| true);
        check(&[0, 7, 19], |pid| ![0, 7, 19].contains(&pid));
    }

    #[test]
    fn so_many_are_waited_for_and_no_more() {
        check(&[1, 2, 3, 4, 5, 6, 7, 8], |pid| pid == 0);
    }

    #[test]
    fn this_process_is_read_and_one_that_is_gone_is_not() {
        let pids = [std::process::id(), u32::MAX];
        let found = read(&HostRoot::default(), &pids).unwrap();
        assert!(found[0].as_ref().is_some_and(|args| !args.is_empty()));
        assert_eq!(found[1], None);
    }
}
