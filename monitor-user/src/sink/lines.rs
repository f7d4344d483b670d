//! Whole lines to a file, a pipe or a terminal that may be full, slow or broken.
//!
//! In: lines. Out: bytes, of which a reader sees whole lines only, whatever happens in between.
//!
//! What could not be written stays in a bounded buffer, also the rest of a line that was written
//! in part, and the next flush goes on at exactly that byte: so the next line never runs into a
//! torn one, and recovery needs nobody. Lines that find no room in the buffer are dropped whole,
//! and counted.

mod sync;

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use self::sync::Syncer;
use crate::metrics::outputs::EventLogStats;

/// Bytes that may wait for the file: some 2 000 lines, so that a reader may pause for a tenth of
/// a second under heavy traffic.
pub const PENDING_BYTES_MAX: usize = 4 << 20;

/// Bytes after which lines are written without waiting for the next flush.
const WRITE_BYTES: usize = 64 << 10;

/// Bytes per write to anything but a regular file: a pipe that polls as writable takes this
/// many (`PIPE_BUF`) without blocking.
const PIPE_BYTES: usize = 4096;

/// The log holds command lines: its group may read it, others not.
const LOG_MODE: u32 = 0o640;

/// What to do when the file takes no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// Go on, and drop lines once the buffer is full: a live line must not wait for a reader.
    Drop,
    /// Wait for the reader: a replay has time, and its output must be complete.
    Wait,
}

/// When a file is put aside for a new one, and how many are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// Bytes after which it is put aside, at the end of a line.
    pub bytes_max: u64,
    /// Age after which it is put aside, if there is anything in it.
    pub age_max: Option<Duration>,
    /// Files that are kept beside the one that is written: `FILE.1` is the youngest of them.
    pub files_max: u32,
}

/// Writes lines, and never fails.
pub struct LineWriter {
    file: File,
    /// Where a regular file lies.
    path: Option<PathBuf>,
    rotation: Option<Rotation>,
    /// When the file was made.
    born: SystemTime,
    /// Has the disk keep what was written.
    syncer: Option<Syncer>,
    /// What to call the file in messages.
    name: String,
    /// A regular file: never polled, written in large parts.
    regular: bool,
    when_full: WhenFull,
    pending: VecDeque<u8>,
    /// `pending` starts with the end of a line that an earlier run left torn.
    heals: bool,
    /// What was written last did not end a line.
    within_line: bool,
    /// The last write failed: only a flush tries again.
    failing: bool,
    stats: EventLogStats,
}

impl LineWriter {
    /// Appends to the file at `path`, which is created if it is not there.
    ///
    /// # Errors
    ///
    /// If it cannot be opened for reading and appending.
    pub fn append(path: &Path, when_full: WhenFull) -> io::Result<Self> {
        let mut file = open(path)?;
        let torn = ends_within_a_line(&mut file);
        let mut lines = LineWriter::new(file, &path.display().to_string(), when_full);
        lines.path = lines.regular.then(|| path.to_owned());
        if torn {
            lines.pending.push_back(b'\n');
            lines.heals = true;
            lines.within_line = true;
        }
        Ok(lines)
    }

    /// Writes to `file`; `name` is what to call it in messages.
    #[must_use]
    pub fn new(file: File, name: &str, when_full: WhenFull) -> Self {
        let regular = file.metadata().is_ok_and(|metadata| metadata.is_file());
        LineWriter {
            born: born(&file),
            file,
            path: None,
            rotation: None,
            syncer: None,
            name: name.to_owned(),
            regular,
            when_full,
            pending: VecDeque::new(),
            heals: false,
            within_line: false,
            failing: false,
            stats: EventLogStats::default(),
        }
    }

    /// Puts the file aside when it is full.
    #[must_use]
    pub fn rotating(self, rotation: Rotation) -> Self {
        LineWriter {
            rotation: Some(rotation),
            ..self
        }
    }

    /// Has the disk keep what was written, about once in `interval`, without waiting for it. For
    /// regular files; others keep nothing.
    ///
    /// # Errors
    ///
    /// If there is no thread to do it.
    pub fn syncing(mut self, interval: Duration) -> io::Result<Self> {
        if self.regular {
            self.syncer = Some(Syncer::start(interval)?);
        }
        Ok(self)
    }

    /// Takes one line, which ends in its only newline. It is written now, at the next flush, or,
    /// if the file takes no more and the buffer is full, dropped and counted. Whether it was
    /// taken.
    pub fn push(&mut self, line: &[u8]) -> bool {
        let has_room = |pending: &VecDeque<u8>| pending.len() + line.len() <= PENDING_BYTES_MAX;
        if !has_room(&self.pending) && !self.failing {
            self.flush();
        }
        if !has_room(&self.pending) {
            self.stats.lines_dropped += 1;
            return false;
        }
        self.pending.extend(line);
        if self.pending.len() >= WRITE_BYTES && !self.failing {
            self.flush();
        }
        true
    }

    /// Writes what waits, as far as the file takes it.
    pub fn flush(&mut self) {
        self.flush_at(SystemTime::now());
    }

    /// As [`LineWriter::flush`], at another time.
    fn flush_at(&mut self, now: SystemTime) {
        if !self.within_line
            && let Err(error) = self.change_file(now)
        {
            self.note(Err(error));
        }
        let result = loop {
            match self.write_once() {
                Ok(0) => break Ok(()),
                Ok(written) => self.forget(written),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        self.note(result);
        let written = self.stats.bytes_written;
        if let Some(syncer) = &mut self.syncer {
            syncer.offer(&self.file, written);
        }
    }

    /// Writes what waits, and has the disk keep it, before this returns.
    pub fn finish(&mut self) {
        self.flush();
        if self.syncer.is_some() {
            self.note(self.file.sync_data());
        }
    }

    /// Goes on in a new file, if this one is full or old, or somebody moved or removed it. Only
    /// between lines. If that cannot be, this one is written on.
    fn change_file(&mut self, now: SystemTime) -> io::Result<()> {
        let Some(path) = &self.path else {
            return Ok(());
        };
        let here = self.file.metadata()?;
        let moved = match fs::metadata(path) {
            Ok(there) => (there.dev(), there.ino()) != (here.dev(), here.ino()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            Err(error) => return Err(error),
        };
        // A clock that was set back makes it younger than it is.
        let age = now.duration_since(self.born).unwrap_or_default();
        let done = self.rotation.filter(|rotation| {
            let old = rotation.age_max.is_some_and(|age_max| age >= age_max);
            here.len() >= rotation.bytes_max || old && here.len() > 0
        });
        match done {
            Some(rotation) if !moved => put_aside(path, rotation.files_max)?,
            _ if !moved => return Ok(()),
            _ => {}
        }
        let new = open(path)?;
        let old = std::mem::replace(&mut self.file, new);
        if let Some(syncer) = &mut self.syncer {
            syncer.last(old);
        }
        self.born = now;
        self.stats.files_changed += 1;
        Ok(())
    }

    /// Writes some of what waits; 0 if nothing does, or there is no room now.
    fn write_once(&mut self) -> io::Result<usize> {
        let (front, _) = self.pending.as_slices();
        if front.is_empty() {
            return Ok(0);
        }
        if self.regular {
            return nonzero(self.file.write(front)?);
        }
        if !is_writable(&self.file, self.when_full)? {
            return Ok(0);
        }
        let (chunk, _) = front.split_at(front.len().min(PIPE_BYTES));
        nonzero(self.file.write(chunk)?)
    }

    /// Takes what was written from the front of the buffer, and counts it.
    fn forget(&mut self, written: usize) {
        let (front, _) = self.pending.as_slices(); // All that `write_once` writes from.
        let (gone, _) = front.split_at(written.min(front.len()));
        let lines = newlines(gone);
        let within_line = gone.last() != Some(&b'\n');
        self.pending.drain(..written);
        self.stats.bytes_written += written as u64;
        self.stats.lines_written += (lines - usize::from(self.heals)) as u64;
        self.within_line = within_line;
        self.heals = false;
    }

    /// What was written, dropped and is pending.
    #[must_use]
    pub fn stats(&self) -> EventLogStats {
        let (syncs, sync_errors) = self.syncer.as_ref().map_or((0, 0), Syncer::counts);
        EventLogStats {
            bytes_pending: self.pending.len() as u64,
            syncs,
            sync_errors,
            ..self.stats
        }
    }

    /// Lines that wait.
    #[cfg(test)]
    pub fn pending_lines(&self) -> u64 {
        self.pending.iter().filter(|byte| **byte == b'\n').count() as u64
    }

    /// Counts a failure; says so when failures begin and when they end.
    fn note(&mut self, result: io::Result<()>) {
        match result {
            Ok(()) if self.failing => {
                let dropped = self.stats.lines_dropped;
                tracing::info!(
                    "{}: can be written again; {dropped} lines dropped so far",
                    self.name
                );
                self.failing = false;
            }
            Ok(()) => {}
            Err(error) => {
                if !self.failing {
                    tracing::warn!("{}: {error}; lines wait, then are dropped", self.name);
                }
                self.failing = true;
                self.stats.write_errors += 1;
            }
        }
    }
}

/// Opens a file for appending; reading is for a look at its end.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true).mode(LOG_MODE);
    options.open(path)
}

/// When a file was made; now, where its file system does not tell.
fn born(file: &File) -> SystemTime {
    let made = file.metadata().and_then(|metadata| metadata.created());
    made.unwrap_or_else(|_| SystemTime::now())
}

/// `FILE.number`: what `FILE` is called when it was put aside so often.
#[must_use]
pub fn put_aside_as(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    PathBuf::from(name)
}

/// Renames `FILE` to `FILE.1`, what was that to `FILE.2`, and so on; the last is lost.
fn put_aside(path: &Path, files_max: u32) -> io::Result<()> {
    let aside = |number| put_aside_as(path, number);
    for number in (1..files_max).rev() {
        match fs::rename(aside(number), aside(number + 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    fs::rename(path, aside(1))
}

/// Number of newlines. A chunk has no more than a byte can count, so that the compiler counts 16
/// at a time.
fn newlines(bytes: &[u8]) -> usize {
    let count = |chunk: &[u8]| {
        chunk
            .iter()
            .map(|byte| u8::from(*byte == b'\n'))
            .sum::<u8>()
    };
    let chunks = bytes.chunks(usize::from(u8::MAX));
    chunks.map(|chunk| usize::from(count(chunk))).sum()
}

/// A file that takes nothing and reports no error would be asked for ever.
fn nonzero(written: usize) -> io::Result<usize> {
    if written == 0 {
        Err(io::ErrorKind::WriteZero.into())
    } else {
        Ok(written)
    }
}

/// A write would not block, now or (to wait) after some time. An error or a hang-up counts as
/// writable, for the write to report.
fn is_writable(file: &File, when_full: WhenFull) -> io::Result<bool> {
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let timeout = (when_full == WhenFull::Drop).then_some(&now);
    Ok(poll(&mut [PollFd::new(file, PollFlags::OUT)], timeout)? > 0)
}

/// The file's last line has no newline: an earlier run ended in the middle of it.
fn ends_within_a_line(file: &mut File) -> bool {
    let mut last = [0];
    let is_file = file.metadata().is_ok_and(|metadata| metadata.is_file());
    let found =
        is_file && file.seek(SeekFrom::End(-1)).is_ok() && file.read_exact(&mut last).is_ok();
    found && last != *b"\n"
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// Set in the process that [`a_full_disk_tears_no_line_and_is_left_behind`] starts.
    const TMPFS_ENV: &str = "TELLTALE_TEST_TMPFS";

    fn line(number: usize) -> String {
        format!("{number:06} {}\n", "x".repeat(93))
    }

    #[track_caller]
    fn balance(lines: &LineWriter, offered: u64) {
        let stats = lines.stats();
        let waiting = lines.pending.iter().filter(|byte| **byte == b'\n').count() as u64;
        let waiting = waiting - u64::from(lines.heals);
        assert_eq!(
            stats.lines_written + stats.lines_dropped + waiting,
            offered,
            "{stats:?}"
        );
    }

    #[test]
    fn lines_are_appended_and_a_torn_one_is_ended() {
        let path = std::env::temp_dir().join(format!("telltale-lines-{}", std::process::id()));
        std::fs::write(&path, "whole\ntorn").unwrap();
        let mut lines = LineWriter::append(&path, WhenFull::Drop).unwrap();
        lines.push(b"one\n");
        balance(&lines, 1);
        lines.flush();
        balance(&lines, 1);
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "whole\ntorn\none\n"
        );
        let mut lines = LineWriter::append(&path, WhenFull::Drop).unwrap();
        lines.push(b"two\n");
        lines.flush();
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "whole\ntorn\none\ntwo\n"
        );
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_full_file_is_put_aside_between_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let rotation = Rotation {
            bytes_max: 250,
            age_max: None,
            files_max: 3,
        };
        let mut lines = LineWriter::append(&path, WhenFull::Drop)
            .unwrap()
            .rotating(rotation);
        for number in 0..20 {
            lines.push(line(number).as_bytes());
            lines.flush();
        }
        balance(&lines, 20);
        // Three lines of 101 bytes a file; the oldest files are gone.
        assert_eq!(lines.stats().files_changed, 6);
        let text = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
        let expect = |from: usize, to: usize| (from..to).map(line).collect::<String>();
        assert_eq!(text("log"), expect(18, 20));
        assert_eq!(text("log.1"), expect(15, 18));
        assert_eq!(text("log.3"), expect(9, 12));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 4);
    }

    #[test]
    fn an_old_file_is_put_aside_if_there_is_anything_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let rotation = Rotation {
            bytes_max: u64::MAX,
            age_max: Some(Duration::from_secs(3600)),
            files_max: 3,
        };
        let lines = LineWriter::append(&path, WhenFull::Drop).unwrap();
        let mut lines = lines.rotating(rotation);
        let start = lines.born;
        let after = |minutes: u64| start + Duration::from_secs(60 * minutes);
        lines.flush_at(after(61)); // Still empty.
        for (number, minutes) in [62, 70, 121, 122, 300].into_iter().enumerate() {
            lines.push(line(number).as_bytes());
            lines.flush_at(after(minutes));
        }
        let text = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
        assert_eq!(text("log"), line(4));
        assert_eq!(text("log.1"), line(1) + &line(2) + &line(3));
        assert_eq!(text("log.2"), line(0));
        assert_eq!(lines.stats().files_changed, 2);
    }

    #[test]
    fn the_disk_is_told_to_keep_what_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let lines = LineWriter::append(&path, WhenFull::Drop).unwrap();
        let mut lines = lines.syncing(Duration::ZERO).unwrap();
        lines.push(b"one\n");
        lines.flush();
        // The other thread syncs; it is waited for, as long as it takes.
        while lines.stats().syncs == 0 {
            std::thread::yield_now();
        }
        assert_eq!(lines.stats().sync_errors, 0);
        lines.finish();
        let (_, pipe) = io::pipe().unwrap();
        let pipe = File::from(std::os::fd::OwnedFd::from(pipe));
        let pipe = LineWriter::new(pipe, "pipe", WhenFull::Drop);
        assert!(pipe.syncing(Duration::ZERO).unwrap().syncer.is_none());
    }

    #[test]
    fn a_file_that_was_moved_or_removed_is_left_for_a_new_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let moved = folder.path().join("moved");
        let mut lines = LineWriter::append(&path, WhenFull::Drop).unwrap();
        let mut write = |number| {
            lines.push(line(number).as_bytes());
            lines.flush();
        };
        write(0);
        std::fs::rename(&path, &moved).unwrap();
        write(1);
        write(2);
        std::fs::remove_file(&path).unwrap();
        write(3);
        write(4);
        assert_eq!(std::fs::read_to_string(&moved).unwrap(), line(0));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), line(3) + &line(4));
        assert_eq!(lines.stats().files_changed, 2);
    }

    #[test]
    fn a_device_that_is_full_costs_lines_and_nothing_else() {
        let mut lines = LineWriter::append(Path::new("/dev/full"), WhenFull::Drop).unwrap();
        let offered = 2 * PENDING_BYTES_MAX / 100;
        for number in 0..offered {
            lines.push(line(number).as_bytes());
        }
        lines.flush();
        balance(&lines, offered as u64);
        let stats = lines.stats();
        assert_eq!(stats.lines_written, 0);
        assert!(stats.lines_dropped > 0 && stats.bytes_pending <= PENDING_BYTES_MAX as u64);
        assert_eq!(
            stats.write_errors, 2,
            "one when it filled up, one for the flush: {stats:?}"
        );
    }

    #[test]
    fn a_reader_that_stalls_blocks_nobody_and_loses_no_part_of_a_line() {
        let (mut reader, writer) = io::pipe().unwrap();
        let file = File::from(std::os::fd::OwnedFd::from(writer));
        let mut lines = LineWriter::new(file, "pipe", WhenFull::Drop);
        let offered = 2 * PENDING_BYTES_MAX / 100;
        for number in 0..offered {
            lines.push(line(number).as_bytes());
        }
        balance(&lines, offered as u64);
        assert!(lines.stats().lines_dropped > 0);
        assert_eq!(lines.stats().write_errors, 0);
        let mut text = Vec::new();
        let mut part = vec![0; 64 << 10];
        while lines.stats().bytes_pending > 0 {
            let read = reader.read(&mut part).unwrap();
            text.extend_from_slice(part.get(..read).unwrap());
            lines.flush();
        }
        let written = lines.stats().lines_written;
        drop(lines);
        reader.read_to_end(&mut text).unwrap();
        assert_whole_lines(&String::from_utf8(text).unwrap(), written);
    }

    #[test]
    fn a_writer_that_may_wait_drops_nothing() {
        let (mut reader, writer) = io::pipe().unwrap();
        let reader = std::thread::spawn(move || {
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            text
        });
        let file = File::from(std::os::fd::OwnedFd::from(writer));
        let mut lines = LineWriter::new(file, "pipe", WhenFull::Wait);
        let offered = 2 * PENDING_BYTES_MAX / 100;
        for number in 0..offered {
            lines.push(line(number).as_bytes());
        }
        lines.flush();
        assert_eq!(lines.stats().lines_written, offered as u64);
        drop(lines);
        assert_whole_lines(&reader.join().unwrap(), offered as u64);
    }

    #[test]
    fn a_reader_that_is_gone_is_counted() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let file = File::from(std::os::fd::OwnedFd::from(writer));
        let mut lines = LineWriter::new(file, "pipe", WhenFull::Wait);
        lines.push(b"one\n");
        lines.flush();
        assert_eq!(lines.stats().write_errors, 1);
        balance(&lines, 1);
    }

    /// Runs [`fill_and_free_a_tmpfs`] in a mount namespace of its own.
    #[test]
    fn a_full_disk_tears_no_line_and_is_left_behind() {
        let test = std::env::current_exe().unwrap();
        let script = "mount -t tmpfs -o size=256k telltale-test /mnt && exec \"$0\" \"$@\"";
        let inner = "sink::lines::tests::fill_and_free_a_tmpfs";
        let result = Command::new("unshare")
            .args(["--mount", "--map-root-user", "sh", "-c", script])
            .arg(test)
            .args(["--exact", inner, "--nocapture"])
            .env(TMPFS_ENV, "/mnt")
            .output();
        let Ok(output) = result else {
            eprintln!("skipped: unshare(1) is not there");
            return;
        };
        let text = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        if errors.contains("unshare failed") || errors.contains("permission denied") {
            eprintln!("skipped: no mount namespace here: {errors}");
            return;
        }
        assert!(
            output.status.success() && errors.contains("filled and freed"),
            "{text}{errors}"
        );
    }

    #[test]
    fn fill_and_free_a_tmpfs() {
        let Some(folder) = std::env::var_os(TMPFS_ENV) else {
            return;
        };
        let folder = Path::new(&folder);
        let (ballast, path) = (folder.join("ballast"), folder.join("log"));
        std::fs::write(&ballast, vec![0; 128 << 10]).unwrap();
        let mut lines = LineWriter::append(&path, WhenFull::Drop).unwrap();
        let offered = 2 * PENDING_BYTES_MAX / 100;
        for number in 0..offered {
            lines.push(line(number).as_bytes());
        }
        lines.flush();
        let full = lines.stats();
        assert!(full.lines_dropped > 0 && full.write_errors > 0 && full.lines_written > 0);
        let torn = std::fs::read(&path).unwrap();
        assert_ne!(
            torn.last(),
            Some(&b'\n'),
            "the disk filled up within a line"
        );

        // Half the disk is free again, which is less than what waits: it tears once more.
        std::fs::remove_file(&ballast).unwrap();
        lines.flush();
        lines.push(line(999_999).as_bytes());
        lines.flush();
        balance(&lines, offered as u64 + 1);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(
            lines.stats().lines_written > full.lines_written,
            "it recovered"
        );
        let whole = text.rsplit_once('\n').unwrap().0.to_owned() + "\n";
        assert_whole_lines(&whole, lines.stats().lines_written);
        eprintln!("filled and freed");
    }

    #[track_caller]
    fn assert_whole_lines(text: &str, count: u64) {
        let mut found = 0;
        let mut last = None;
        for text_line in text.split_inclusive('\n') {
            let number: usize = text_line[..6].parse().unwrap();
            assert_eq!(text_line, line(number));
            assert!(last < Some(number), "out of order");
            last = Some(number);
            found += 1;
        }
        assert_eq!(found, count);
    }
}
