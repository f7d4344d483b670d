//! What waits for a receiver, kept on disk so that neither a kill nor a restart loses it.
//!
//! In: notices, and which of them were delivered. Out: those that were not, in order.
//!
//! The file is a journal: a line `put NUMBER JSON` for each notice, synced before it counts as
//! accepted, and `done NUMBER` when it is delivered. It is emptied when nothing waits and written
//! anew when it has grown. A line that a kill tore is left out. What was delivered right before a
//! kill may be delivered again: receivers tell by its id.
//!
//! A repetition (`still-firing`) of an alert that waits already says nothing new: it is left out,
//! and counted, so that a receiver that was away for a night is not flooded.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use rustix::fs::{FlockOperation, OFlags, flock};

use super::notice::{Notice, State};

/// Notices hold paths and arguments: for their owner alone.
const FILE_MODE: u32 = 0o600;

/// The journal is written anew when it is longer than this many times the most that may wait.
const GROWTH_MAX: u64 = 2;

/// Notices that wait for one receiver.
#[derive(Debug)]
pub struct Spool {
    waiting: VecDeque<Waiting>,
    /// Bytes that wait, and that may.
    bytes: u64,
    bytes_max: u64,
    next: u64,
    journal: Option<Journal>,
}

#[derive(Debug)]
struct Waiting {
    number: u64,
    notice: Notice,
    /// Its line in the journal.
    line: String,
}

/// What became of notices that were offered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pushed {
    /// They wait now.
    pub kept: u64,
    /// Their alert waits already.
    pub superseded: u64,
    /// There was no room.
    pub full: u64,
    /// The file could not be written: they wait in memory alone.
    pub unwritten: u64,
}

#[derive(Debug)]
struct Journal {
    path: PathBuf,
    file: File,
    /// Length of the file; `None` after a write that failed: it must be written anew.
    length: Option<u64>,
}

impl Spool {
    /// One that is lost when Telltale ends.
    #[must_use]
    pub fn in_memory(bytes_max: u64) -> Self {
        Spool {
            waiting: VecDeque::new(),
            bytes: 0,
            bytes_max,
            next: 1,
            journal: None,
        }
    }

    /// The one in this file, with what an earlier run left there.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or written, or another Telltale uses it.
    pub fn open(path: &Path, bytes_max: u64) -> anyhow::Result<Self> {
        let journal = Journal::open(path)?;
        let text = fs::read(path).with_context(|| path.display().to_string())?;
        let mut spool = Spool::in_memory(bytes_max);
        let lines = String::from_utf8_lossy(&text);
        for line in lines.split_inclusive('\n') {
            // Without its newline, a line is torn.
            if let Some(line) = line.strip_suffix('\n') {
                spool.replay(line);
            }
        }
        spool.journal = Some(journal);
        spool.rewrite();
        if spool.journal.as_ref().is_some_and(|it| it.length.is_none()) {
            return Err(anyhow!("cannot write {}", path.display()));
        }
        Ok(spool)
    }

    /// Whether it outlives this run.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.journal.is_some()
    }

    /// Number of notices that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Takes notices; on return they are on disk.
    pub fn push(&mut self, notices: Vec<Notice>) -> Pushed {
        let (mut pushed, mut lines) = (Pushed::default(), String::new());
        for notice in notices {
            if notice.state == State::StillFiring && self.waits(&notice) {
                pushed.superseded += 1;
                continue;
            }
            // A notice is texts and numbers, which always are JSON.
            let json = serde_json::to_string(&notice).unwrap_or_default();
            let line = format!("put {} {json}\n", self.next);
            if self.bytes + line.len() as u64 > self.bytes_max {
                pushed.full += 1;
                continue;
            }
            lines.push_str(&line);
            self.keep(self.next, notice, line);
            pushed.kept += 1;
        }
        if !self.append(&lines, true) {
            pushed.unwritten = pushed.kept;
        }
        pushed
    }

    /// The first that wait.
    #[must_use]
    pub fn front(&self, most: usize) -> Vec<Notice> {
        let first = self.waiting.iter().take(most);
        first.map(|waiting| waiting.notice.clone()).collect()
    }

    /// The first so many are done with.
    pub fn done(&mut self, count: usize) {
        let mut lines = String::new();
        for waiting in self.waiting.drain(..count.min(self.waiting.len())) {
            self.bytes -= waiting.line.len() as u64;
            lines.push_str(&format!("done {}\n", waiting.number));
        }
        if self.waiting.is_empty() {
            self.rewrite();
        } else {
            self.append(&lines, false);
        }
    }

    /// The first so many let the others go before them.
    pub fn put_off(&mut self, count: usize) {
        self.waiting.rotate_left(count.min(self.waiting.len()));
    }

    /// An alert that fires waits, and nothing later of it.
    fn waits(&self, notice: &Notice) -> bool {
        let latest = self.waiting.iter().rev().find(|it| it.notice.is_of(notice));
        latest.is_some_and(|latest| latest.notice.fires())
    }

    fn keep(&mut self, number: u64, notice: Notice, line: String) {
        self.bytes += line.len() as u64;
        self.next = number + 1;
        self.waiting.push_back(Waiting {
            number,
            notice,
            line,
        });
    }

    /// Does what a line of the journal says; a line that says nothing is left out.
    fn replay(&mut self, line: &str) {
        let mut words = line.splitn(3, ' ');
        let (verb, number) = (words.next(), words.next());
        let Some(number) = number.and_then(|number| number.parse().ok()) else {
            return;
        };
        match (verb, words.next()) {
            (Some("put"), Some(json)) => {
                if let Ok(notice) = serde_json::from_str(json) {
                    self.keep(number, notice, format!("{line}\n"));
                }
            }
            (Some("done"), None) => {
                let is_it = |waiting: &Waiting| waiting.number == number;
                if let Some(at) = self.waiting.iter().position(is_it) {
                    let gone = self.waiting.remove(at);
                    self.bytes -= gone.map_or(0, |gone| gone.line.len() as u64);
                }
            }
            _ => {}
        }
    }

    /// Adds lines to the journal, if there is one; false if it cannot be written.
    fn append(&mut self, lines: &str, sync: bool) -> bool {
        let limit = GROWTH_MAX * self.bytes_max;
        let Some(journal) = &mut self.journal else {
            return true;
        };
        match journal.length {
            Some(length) if length + lines.len() as u64 <= limit => journal.append(lines, sync),
            _ => self.rewrite(),
        }
    }

    /// Writes the journal anew, with what waits; false if that cannot be.
    fn rewrite(&mut self) -> bool {
        let Some(journal) = &mut self.journal else {
            return true;
        };
        let lines: String = self.waiting.iter().map(|it| &*it.line).collect();
        journal.replace(&lines)
    }
}

impl Journal {
    fn open(path: &Path) -> anyhow::Result<Self> {
        let open = || -> io::Result<File> {
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder)?;
            }
            OpenOptions::new()
                .read(true)
                .append(true)
                .create(true)
                .mode(FILE_MODE)
                .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
                .open(path)
        };
        let file = open().with_context(|| {
            format!(
                "cannot open the spool {}: let Telltale write there, or choose another \
                 alerts.spool_directory",
                path.display()
            )
        })?;
        // The lock lasts as long as this file is open, and moves with no rename.
        flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
            anyhow!(
                "the spool {} is used by another Telltale; stop it, or choose another \
                 alerts.spool_directory",
                path.display()
            )
        })?;
        Ok(Journal {
            path: path.to_owned(),
            file,
            length: Some(0),
        })
    }

    fn append(&mut self, lines: &str, sync: bool) -> bool {
        let written = self.file.write_all(lines.as_bytes());
        let written = written.and_then(|()| if sync { self.file.sync_data() } else { Ok(()) });
        self.length = match written {
            Ok(()) => self.length.map(|length| length + lines.len() as u64),
            Err(error) => self.failed(&error),
        };
        self.length.is_some()
    }

    /// Empties the file and writes `lines`. A kill in between loses nothing: what is to be there
    /// is written to a second file first.
    fn replace(&mut self, lines: &str) -> bool {
        let replaced = if lines.is_empty() {
            self.file.set_len(0)
        } else {
            self.swap(lines)
        };
        self.length = match replaced {
            Ok(()) => Some(lines.len() as u64),
            Err(error) => self.failed(&error),
        };
        self.length.is_some()
    }

    fn swap(&mut self, lines: &str) -> io::Result<()> {
        let beside = self.path.with_extension("new");
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(FILE_MODE)
            .open(&beside)?;
        file.set_len(0)?;
        file.write_all(lines.as_bytes())?;
        file.sync_data()?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        fs::rename(&beside, &self.path)?;
        self.file = file;
        Ok(())
    }

    fn failed(&self, error: &io::Error) -> Option<u64> {
        tracing::warn!(
            "{}: {error}; alerts wait in memory alone",
            self.path.display()
        );
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::report::{AlertNotice, AlertState};
    use crate::sink::fixture::{self, CLOCK};

    const ROOMY: u64 = 1 << 20;

    /// A notice of the alert for `tool`.
    fn notice(sequence: u64, tool: &str, state: AlertState) -> Notice {
        let notice = AlertNotice {
            sequence,
            ..fixture::notice(state)
        };
        let mut notice = Notice::new(&notice, CLOCK, &fixture::host());
        notice.labels.insert("tool".to_owned(), tool.to_owned());
        notice
    }

    fn fired(sequence: u64) -> Notice {
        notice(sequence, &format!("tool-{sequence}"), AlertState::Fired)
    }

    #[track_caller]
    fn check(spool: &Spool, expect: &[u64]) {
        let numbers: Vec<u64> = spool
            .front(usize::MAX)
            .iter()
            .map(|notice| notice.id.rsplit('-').next().unwrap().parse().unwrap())
            .collect();
        assert_eq!(numbers, expect);
    }

    #[test]
    fn what_was_not_done_is_there_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/a.spool");
        let mut spool = Spool::open(&path, ROOMY).unwrap();
        spool.push((1..=4).map(fired).collect());
        spool.done(1);
        spool.put_off(1);
        check(&spool, &[3, 4, 2]);
        spool.done(1);
        check(&spool, &[4, 2]);
        // As after a kill: nothing is said to the first one.
        std::mem::forget(spool);
        let text = fs::read(&path).unwrap();
        let copy = folder.path().join("b.spool");
        fs::write(&copy, &text).unwrap();
        let mut spool = Spool::open(&copy, ROOMY).unwrap();
        check(&spool, &[2, 4]);
        spool.push(vec![fired(5)]);
        check(&spool, &[2, 4, 5]);
        spool.done(3);
        assert_eq!(fs::metadata(&copy).unwrap().len(), 0);
        drop(spool);
        check(&Spool::open(&copy, ROOMY).unwrap(), &[]);
    }

    #[test]
    fn a_file_cut_at_any_byte_gives_back_whole_notices() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.spool");
        let mut spool = Spool::open(&path, ROOMY).unwrap();
        spool.push(vec![fired(1), fired(2)]);
        let text = fs::read(&path).unwrap();
        let first = text.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        for end in 0..=text.len() {
            let cut = folder.path().join("cut.spool");
            fs::write(&cut, &text[..end]).unwrap();
            let spool = Spool::open(&cut, ROOMY).unwrap();
            let expect: &[u64] = match end {
                _ if end < first => &[],
                _ if end < text.len() => &[1],
                _ => &[1, 2],
            };
            check(&spool, expect);
        }
        fs::write(&path, b"put x {}\nput 1 {\ndone\n\xff\xff\nput 9 {}\n\n").unwrap();
        drop(spool);
        check(&Spool::open(&path, ROOMY).unwrap(), &[]);
    }

    #[test]
    fn repetitions_of_what_waits_are_left_out() {
        let mut spool = Spool::in_memory(ROOMY);
        let (fired, still, over) = (
            AlertState::Fired,
            AlertState::StillFiring,
            AlertState::Resolved,
        );
        let of_a = |sequence, state| notice(sequence, "a", state);
        let pushed = spool.push(vec![
            of_a(1, fired),
            of_a(2, still),
            notice(3, "b", still),
            of_a(4, over),
            of_a(5, fired),
            of_a(6, still),
        ]);
        check(&spool, &[1, 3, 4, 5]);
        let expect = Pushed {
            kept: 4,
            superseded: 2,
            ..Pushed::default()
        };
        assert_eq!(pushed, expect);
        spool.done(4);
        spool.push(vec![of_a(7, still)]);
        check(&spool, &[7]);
    }

    #[test]
    fn what_finds_no_room_is_counted_and_the_file_stays_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.spool");
        let most = 4_000;
        let mut spool = Spool::open(&path, most).unwrap();
        let pushed = spool.push((1..=100).map(fired).collect());
        assert!(
            pushed.kept > 1 && pushed.full == 100 - pushed.kept,
            "{pushed:?}"
        );
        for number in 101..400 {
            spool.done(1);
            assert_eq!(spool.push(vec![fired(number)]).kept, 1);
            let length = fs::metadata(&path).unwrap().len();
            assert!(length <= GROWTH_MAX * most, "{length}");
        }
        let waiting = spool.front(usize::MAX);
        drop(spool);
        let again = Spool::open(&path, most).unwrap();
        assert_eq!(again.front(usize::MAX), waiting);
    }

    #[test]
    fn a_spool_has_one_user() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.spool");
        let _first = Spool::open(&path, ROOMY).unwrap();
        let error = Spool::open(&path, ROOMY).unwrap_err().to_string();
        assert!(error.contains("used by another Telltale"), "{error}");
        let error = format!("{:#}", Spool::open(Path::new("/proc/x/y"), 1).unwrap_err());
        assert!(error.contains("alerts.spool_directory"), "{error}");
    }
}
