//! Has the disk keep what was written, without anybody waiting for the disk.
//!
//! In: a file that was written to. Out: `fdatasync` on a thread of its own, at most one at a time.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use crate::sandbox::{self, Role};

/// Files that may wait: the one that is written, and the one that was put aside before it.
const WAITING_MAX: usize = 2;

/// Asks for syncs, and counts them.
pub struct Syncer {
    interval: Duration,
    asked: Option<Instant>,
    /// Bytes written when a sync was last asked for.
    written: u64,
    files: SyncSender<File>,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    done: AtomicU64,
    failed: AtomicU64,
}

impl Syncer {
    /// Starts the thread, which ends with this.
    ///
    /// # Errors
    ///
    /// If there is none to be had.
    pub fn start(interval: Duration) -> io::Result<Self> {
        let (files, waiting) = sync_channel(WAITING_MAX);
        let counts = Arc::new(Counts::default());
        let counted = Arc::clone(&counts);
        let thread = std::thread::Builder::new().name("sync".to_owned());
        thread.spawn(move || sync_all(&waiting, &counted))?;
        Ok(Syncer {
            interval,
            asked: None,
            written: 0,
            files,
            counts,
        })
    }

    /// Syncs the file if that is due, and there is something new in it: `written` is how many
    /// bytes were written so far.
    pub fn offer(&mut self, file: &File, written: u64) {
        let due = self
            .asked
            .is_none_or(|asked| asked.elapsed() >= self.interval);
        if !due || written == self.written {
            return;
        }
        // Where the disk is slower than the interval, the next flush asks again.
        let Ok(copy) = file.try_clone() else { return };
        if self.files.try_send(copy).is_ok() {
            self.asked = Some(Instant::now());
            self.written = written;
        }
    }

    /// Syncs a file that is written no more.
    pub fn last(&mut self, file: File) {
        if self.files.try_send(file).is_err() {
            self.counts.failed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Syncs that were done, and that failed.
    pub fn counts(&self) -> (u64, u64) {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (get(&self.counts.done), get(&self.counts.failed))
    }
}

fn sync_all(files: &Receiver<File>, counts: &Counts) {
    if let Err(error) = sandbox::enter(Role::Line) {
        tracing::warn!("the thread that syncs the event log keeps all privileges: {error:#}");
    }
    for file in files {
        let count = match file.sync_data() {
            Ok(()) => &counts.done,
            Err(error) => {
                tracing::warn!("the event log may not be on the disk: {error}");
                &counts.failed
            }
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}
