//! Recordings: every record and sweep of a run, in a file that replays to the same effects.
//!
//! In ([`Recorder`]): raw records with the time they were applied at. Out ([`Recording`]): the
//! same, as an iterator. The file is NDJSON, so that a case can be trimmed by hand and a diff reads:
//!
//! ```text
//! {"telltale_recording":1,"abi":6,"boot_id":"…","host":"…","wall_offset_ns":…,"started_ns":…,
//!  "resolvers":["192.0.2.53:53"]}
//! {"now_ns":1200,"hex":"0a00…"}     one raw record of `monitor_common::record`
//! {"now_ns":1300,"tick":true}       a sweep: the collector's own clockwork ran
//! {"now_ns":1400,"end":true}        the run ended in order
//! ```
//!
//! Times are nanoseconds of `CLOCK_BOOTTIME` and never go backwards. A recording holds arguments
//! and host names of the recorded programs: it is created readable by its owner only.

use std::borrow::Cow;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use monitor_common::ABI_VERSION;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::core::event::BootNs;

/// Version of the file format.
pub const FORMAT_VERSION: u32 = 1;

/// Longest record that is written or read: the longest there is has about 6.4 KiB.
pub const RECORD_BYTES_MAX: usize = 16 << 10;

/// Longest line: two digits per byte of the longest record, and the JSON around them.
const LINE_BYTES_MAX: usize = 2 * RECORD_BYTES_MAX + 256;

/// Written to the file at once. A tick, every second or so, writes what there is.
const BUFFER_BYTES: usize = 64 << 10;

/// First line of a recording: what a replay must know of the run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Version of the file format: [`FORMAT_VERSION`].
    #[serde(rename = "telltale_recording")]
    pub format: u32,
    /// Version of the records' layout: [`ABI_VERSION`].
    pub abi: u32,
    /// Boot that the times count from.
    pub boot_id: String,
    /// Host that was recorded.
    pub host: String,
    /// Nanoseconds since 1970 at the start, less `started_ns`: turns its times into wall time.
    pub wall_offset_ns: i64,
    /// When the recording started, ns of `CLOCK_BOOTTIME`.
    pub started_ns: u64,
    /// The resolvers whose answers backed names.
    #[serde(default)]
    pub resolvers: Vec<SocketAddr>,
}

impl Header {
    /// Header of a recording that this build makes.
    #[must_use]
    pub fn new(
        boot_id: String,
        host: String,
        wall_offset_ns: i64,
        started: BootNs,
        resolvers: Vec<SocketAddr>,
    ) -> Self {
        Header {
            format: FORMAT_VERSION,
            abi: ABI_VERSION,
            boot_id,
            host,
            wall_offset_ns,
            started_ns: started.0,
            resolvers,
        }
    }
}

/// One line after the header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A raw record was applied.
    Record {
        /// When.
        now: BootNs,
        /// The record, not yet decoded.
        bytes: Vec<u8>,
    },
    /// A sweep ran.
    Tick {
        /// When.
        now: BootNs,
    },
    /// The run ended in order; nothing follows.
    End {
        /// When.
        now: BootNs,
    },
}

impl Entry {
    /// When it was applied.
    #[must_use]
    pub fn now(&self) -> BootNs {
        match *self {
            Entry::Record { now, .. } | Entry::Tick { now } | Entry::End { now } => now,
        }
    }
}

/// An entry as the file spells it: exactly one of the three fields is there.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    now_ns: u64,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    hex: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tick: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<bool>,
}

/// Writes a recording.
///
/// The first write that fails ends it: the file is cut back to its last whole line, the failure
/// is logged once, and [`Recorder::lost`] counts every entry from then on. It never stops the
/// caller.
#[derive(Debug)]
pub struct Recorder {
    file: File,
    path: PathBuf,
    /// Whole lines that are not in the file yet, and how many.
    buffer: Vec<u8>,
    buffered: u64,
    /// Bytes of whole lines in the file.
    written: u64,
    lost: u64,
    failed: bool,
}

impl Recorder {
    /// Creates the file, readable by its owner only, and writes the header.
    ///
    /// # Errors
    ///
    /// [`RecordingError::Create`] if the file exists (evidence is never overwritten) or cannot
    /// be written.
    pub fn create(path: &Path, header: &Header) -> Result<Self, RecordingError> {
        let refused = |source| RecordingError::Create {
            file: path.to_owned(),
            source,
        };
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(refused)?;
        let mut line = serde_json::to_vec(header).map_err(|error| refused(error.into()))?;
        line.push(b'\n');
        file.write_all(&line).map_err(refused)?;
        Ok(Recorder {
            file,
            path: path.to_owned(),
            buffer: Vec::with_capacity(BUFFER_BYTES),
            buffered: 0,
            written: line.len() as u64,
            lost: 0,
            failed: false,
        })
    }

    /// Notes a raw record that was applied at `now`. One that is longer than
    /// [`RECORD_BYTES_MAX`] is counted as lost.
    pub fn record(&mut self, now: BootNs, bytes: &[u8]) {
        if bytes.len() > RECORD_BYTES_MAX {
            self.lost += 1;
            return;
        }
        let hex = Some(Cow::Owned(encode_hex(bytes)));
        self.push(&Line {
            now_ns: now.0,
            hex,
            ..Line::default()
        });
        if self.buffer.len() >= BUFFER_BYTES {
            self.flush();
        }
    }

    /// Notes a sweep, and writes out what is buffered: a killed monitor leaves a recording that
    /// misses no more than what happened since the last sweep.
    pub fn tick(&mut self, now: BootNs) {
        self.push(&Line {
            now_ns: now.0,
            tick: Some(true),
            ..Line::default()
        });
        self.flush();
    }

    /// Ends the recording. Returns how many entries it lost.
    pub fn finish(mut self, now: BootNs) -> u64 {
        self.push(&Line {
            now_ns: now.0,
            end: Some(true),
            ..Line::default()
        });
        self.flush();
        self.lost
    }

    /// Entries that are not in the file and will never be.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost
    }

    fn push(&mut self, line: &Line) {
        if self.failed {
            self.lost += 1;
            return;
        }
        let whole_lines = self.buffer.len();
        match serde_json::to_writer(&mut self.buffer, line) {
            Ok(()) => {
                self.buffer.push(b'\n');
                self.buffered += 1;
            }
            Err(_) => {
                self.buffer.truncate(whole_lines);
                self.lost += 1;
            }
        }
    }

    fn flush(&mut self) {
        if self.failed {
            return;
        }
        match self.file.write_all(&self.buffer) {
            Ok(()) => self.written += self.buffer.len() as u64,
            Err(error) => self.fail(&error),
        }
        self.buffer.clear();
        self.buffered = 0;
    }

    fn fail(&mut self, error: &io::Error) {
        self.failed = true;
        self.lost += self.buffered;
        // Cutting a file back works on a full disk too. Where it does not (a device), the reader
        // finds a cut line and says so.
        let whole = self.file.set_len(self.written).is_ok();
        tracing::error!(
            file = %self.path.display(),
            %error,
            whole,
            "cannot write the recording; it ends here"
        );
    }
}

/// Reads a recording, entry by entry. Ends after its first error.
#[derive(Debug)]
pub struct Recording {
    reader: BufReader<File>,
    file: PathBuf,
    header: Header,
    /// Number of the line read last, from 1.
    line: u64,
    /// Time of the line read last.
    now: BootNs,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Reading,
    /// The end line was read.
    Ended,
    /// Nothing more will come.
    Done {
        ended: bool,
    },
}

/// Something odd about a recording that does not stop its replay.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordingWarning {
    /// There is no end line.
    #[error(
        "{file}: no end line after line {line}: the recording was cut off, \
         and what happened after {} ns is not in it",
        now.0
    )]
    NoEnd {
        /// Which file.
        file: String,
        /// Its last line.
        line: u64,
        /// Time of its last line.
        now: BootNs,
    },
}

/// Whether a file that begins with this line is a recording.
#[must_use]
pub fn is_recording(first_line: &str) -> bool {
    serde_json::from_str::<Value>(first_line)
        .is_ok_and(|header| header.get("telltale_recording").is_some())
}

impl Recording {
    /// Opens a recording and reads its header.
    ///
    /// # Errors
    ///
    /// [`RecordingError`] if it cannot be read, is not a recording, or is one that this build
    /// cannot replay.
    pub fn open(path: &Path) -> Result<Self, RecordingError> {
        let file = path.to_owned();
        let handle = match File::open(path) {
            Ok(handle) => handle,
            Err(source) => return Err(RecordingError::Open { file, source }),
        };
        let mut reader = BufReader::new(handle);
        let header = read_line(&mut reader)
            .and_then(|line| parse_header(line.as_deref().unwrap_or_default()))
            .map_err(|fault| RecordingError::Line {
                file: file.clone(),
                line: 1,
                fault,
            })?;
        let now = BootNs(header.started_ns);
        Ok(Recording {
            reader,
            file,
            header,
            line: 1,
            now,
            state: State::Reading,
        })
    }

    /// What the first line says.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// What was odd, once the iterator is exhausted without an error.
    #[must_use]
    pub fn warning(&self) -> Option<RecordingWarning> {
        (self.state == State::Done { ended: false }).then(|| RecordingWarning::NoEnd {
            file: self.file.display().to_string(),
            line: self.line,
            now: self.now,
        })
    }

    fn read_entry(&mut self) -> Result<Option<Entry>, Fault> {
        let line = read_line(&mut self.reader);
        if !matches!(line, Ok(None)) {
            self.line += 1;
        }
        let Some(line) = line? else { return Ok(None) };
        if self.state == State::Ended {
            return Err(Fault::AfterEnd);
        }
        let entry = parse_entry(&line)?;
        if entry.now() < self.now {
            return Err(Fault::Backwards {
                now: entry.now().0,
                before: self.now.0,
            });
        }
        self.now = entry.now();
        if matches!(entry, Entry::End { .. }) {
            self.state = State::Ended;
        }
        Ok(Some(entry))
    }
}

impl Iterator for Recording {
    type Item = Result<Entry, RecordingError>;

    fn next(&mut self) -> Option<Self::Item> {
        if matches!(self.state, State::Done { .. }) {
            return None;
        }
        match self.read_entry() {
            Ok(Some(entry)) => Some(Ok(entry)),
            Ok(None) => {
                self.state = State::Done {
                    ended: self.state == State::Ended,
                };
                None
            }
            Err(fault) => {
                // An error says more than the warning of a missing end would.
                self.state = State::Done { ended: true };
                Some(Err(RecordingError::Line {
                    file: self.file.clone(),
                    line: self.line,
                    fault,
                }))
            }
        }
    }
}

/// Why a recording cannot be written or replayed.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// The file cannot be created.
    #[error("cannot create recording {file}: {source}{}", create_remedy(source))]
    Create {
        /// Which file.
        file: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The file cannot be opened.
    #[error("cannot open recording {file}: {source}")]
    Open {
        /// Which file.
        file: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A line cannot be used.
    #[error("{file}:{line}: {fault}")]
    Line {
        /// Which file.
        file: PathBuf,
        /// Which line, from 1.
        line: u64,
        /// What is wrong with it.
        fault: Fault,
    },
}

fn create_remedy(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::AlreadyExists => "; choose another name or remove it first",
        _ => "",
    }
}

/// What is wrong with a line of a recording.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// Reading failed.
    #[error("cannot read on: {0}")]
    Unreadable(io::Error),
    /// The first line is no header.
    #[error(
        "not a Telltale recording: the first line is no header ({0}); \
         make one with `telltale run --record FILE`"
    )]
    NoHeader(serde_json::Error),
    /// Another format.
    #[error(
        "recording format {0}, but this telltale reads format {FORMAT_VERSION}; \
         replay it with the version that recorded it"
    )]
    Format(u32),
    /// Another layout of records.
    #[error(
        "records of ABI {0}, but this telltale reads ABI {ABI_VERSION}; \
         replay it with the version that recorded it"
    )]
    Abi(u32),
    /// The file ends within the line.
    #[error("the line is cut off; remove it to replay what comes before it")]
    Cut,
    /// The line is longer than any that a recorder writes.
    #[error("the line has more than {LINE_BYTES_MAX} bytes")]
    TooLong,
    /// The line is no entry.
    #[error("not an entry: {0}")]
    NotAnEntry(serde_json::Error),
    /// Not exactly one of the three kinds.
    #[error("an entry holds \"hex\":\"…\", \"tick\":true or \"end\":true, and only one of them")]
    Ambiguous,
    /// The record is not hexadecimal.
    #[error("hex digit {at} is {found:?}; a record is pairs of 0-9 a-f")]
    NotHex {
        /// Position of the digit, from 1.
        at: usize,
        /// What is there instead.
        found: char,
    },
    /// Half a byte is left over.
    #[error("{0} hex digits: the last one has no partner")]
    OddHex(usize),
    /// Time goes backwards.
    #[error("now_ns {now} is before {before} of an earlier line; entries are in order of time")]
    Backwards {
        /// Its time.
        now: u64,
        /// The time before it.
        before: u64,
    },
    /// There is a line after the end.
    #[error("a line after the end line; two recordings in one file are not read")]
    AfterEnd,
}

/// The next line without its newline; `None` at the end of the file.
fn read_line(reader: &mut BufReader<File>) -> Result<Option<Vec<u8>>, Fault> {
    let mut line = Vec::new();
    let limit = LINE_BYTES_MAX as u64 + 1;
    reader
        .take(limit)
        .read_until(b'\n', &mut line)
        .map_err(Fault::Unreadable)?;
    match line.pop() {
        None => Ok(None),
        Some(b'\n') => Ok(Some(line)),
        Some(_) if line.len() >= LINE_BYTES_MAX => Err(Fault::TooLong),
        // The last line of a file may lack its newline, but not its closing brace.
        Some(b'}') => {
            line.push(b'}');
            Ok(Some(line))
        }
        Some(_) => Err(Fault::Cut),
    }
}

fn parse_header(line: &[u8]) -> Result<Header, Fault> {
    // The versions first: the rest of the line may look different in another one.
    #[derive(Deserialize)]
    struct Versions {
        telltale_recording: u32,
        abi: u32,
    }
    let versions: Versions = serde_json::from_slice(line).map_err(Fault::NoHeader)?;
    if versions.telltale_recording != FORMAT_VERSION {
        return Err(Fault::Format(versions.telltale_recording));
    }
    if versions.abi != ABI_VERSION {
        return Err(Fault::Abi(versions.abi));
    }
    serde_json::from_slice(line).map_err(Fault::NoHeader)
}

fn parse_entry(line: &[u8]) -> Result<Entry, Fault> {
    let line: Line = serde_json::from_slice(line).map_err(Fault::NotAnEntry)?;
    let now = BootNs(line.now_ns);
    match (line.hex, line.tick, line.end) {
        (Some(hex), None, None) => Ok(Entry::Record {
            now,
            bytes: decode_hex(&hex)?,
        }),
        (None, Some(true), None) => Ok(Entry::Tick { now }),
        (None, None, Some(true)) => Ok(Entry::End { now }),
        _ => Err(Fault::Ambiguous),
    }
}

fn encode_hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or_default();
    bytes
        .iter()
        .flat_map(|&byte| [digit(byte >> 4), digit(byte & 0xf)])
        .collect()
}

fn decode_hex(hex: &str) -> Result<Vec<u8>, Fault> {
    let mut nibbles = Vec::with_capacity(hex.len());
    for (idx, found) in hex.chars().enumerate() {
        let nibble = found
            .to_digit(16)
            .and_then(|nibble| u8::try_from(nibble).ok());
        nibbles.push(nibble.ok_or(Fault::NotHex { at: idx + 1, found })?);
    }
    let (pairs, rest) = nibbles.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(Fault::OddHex(nibbles.len()));
    }
    Ok(pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn header() -> Header {
        Header::new(
            "boot".to_owned(),
            "build-07".to_owned(),
            1_700_000_000_000_000_000,
            BootNs(5),
            vec!["192.0.2.53:53".parse().unwrap()],
        )
    }

    const HEADER: &str = r#"{"telltale_recording":1,"abi":6,"boot_id":"b","host":"h","wall_offset_ns":-1,"started_ns":5}"#;

    #[test]
    fn what_is_recorded_is_replayed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.ndjson");
        let every_byte: Vec<u8> = (0..=255).collect();

        let mut recorder = Recorder::create(&path, &header()).unwrap();
        recorder.record(BootNs(5), &every_byte);
        recorder.record(BootNs(6), &[]);
        recorder.tick(BootNs(6));
        recorder.record(BootNs(7), &vec![0xa5; RECORD_BYTES_MAX]);
        assert_eq!(recorder.finish(BootNs(u64::MAX)), 0);

        let mut recording = Recording::open(&path).unwrap();
        assert_eq!(recording.header(), &header());
        let entries: Vec<Entry> = recording.by_ref().map(Result::unwrap).collect();
        assert_eq!(
            entries,
            [
                Entry::Record {
                    now: BootNs(5),
                    bytes: every_byte
                },
                Entry::Record {
                    now: BootNs(6),
                    bytes: Vec::new()
                },
                Entry::Tick { now: BootNs(6) },
                Entry::Record {
                    now: BootNs(7),
                    bytes: vec![0xa5; RECORD_BYTES_MAX]
                },
                Entry::End {
                    now: BootNs(u64::MAX)
                },
            ]
        );
        assert_eq!(recording.warning(), None);
    }

    #[test]
    fn the_format_is_as_documented() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.ndjson");
        let mut recorder = Recorder::create(&path, &header()).unwrap();
        recorder.record(BootNs(1200), &[0x0a, 0x00, 0xff]);
        recorder.tick(BootNs(1300));
        recorder.finish(BootNs(1400));
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "{\"telltale_recording\":1,\"abi\":6,\"boot_id\":\"boot\",\"host\":\"build-07\",\
             \"wall_offset_ns\":1700000000000000000,\"started_ns\":5,\
             \"resolvers\":[\"192.0.2.53:53\"]}\n\
             {\"now_ns\":1200,\"hex\":\"0a00ff\"}\n\
             {\"now_ns\":1300,\"tick\":true}\n\
             {\"now_ns\":1400,\"end\":true}\n"
        );
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }

    #[test]
    fn a_killed_run_keeps_what_came_before_its_last_tick() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.ndjson");
        let mut recorder = Recorder::create(&path, &header()).unwrap();
        recorder.tick(BootNs(9));
        recorder.record(BootNs(10), &[1]);
        std::mem::forget(recorder);

        let mut recording = Recording::open(&path).unwrap();
        assert_eq!(recording.by_ref().map(Result::unwrap).count(), 1);
        let warning = recording.warning().unwrap().to_string();
        assert!(
            warning.contains("run.ndjson: no end line after line 2"),
            "{warning}"
        );
        assert!(
            warning.ends_with("what happened after 9 ns is not in it"),
            "{warning}"
        );
    }

    #[test]
    fn an_existing_file_is_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.ndjson");
        std::fs::write(&path, "evidence").unwrap();
        let error = Recorder::create(&path, &header()).unwrap_err().to_string();
        assert!(error.contains(&path.display().to_string()), "{error}");
        assert!(
            error.ends_with("; choose another name or remove it first"),
            "{error}"
        );
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "evidence");
    }

    #[test]
    fn failed_writes_are_counted_and_leave_whole_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.ndjson");
        let mut recorder = Recorder::create(&path, &header()).unwrap();
        recorder.tick(BootNs(6));
        // A handle that cannot write stands for a full disk.
        let whole = std::mem::replace(&mut recorder.file, File::open(&path).unwrap());
        recorder.record(BootNs(7), &[1]);
        recorder.tick(BootNs(8));
        assert_eq!(recorder.lost(), 2);
        // Once failed, a disk with room again would only make a gap that nobody sees.
        recorder.file = whole;
        recorder.record(BootNs(9), &[2]);
        assert_eq!(recorder.finish(BootNs(10)), 4);

        let mut recording = Recording::open(&path).unwrap();
        let entries: Vec<Entry> = recording.by_ref().map(Result::unwrap).collect();
        assert_eq!(entries, [Entry::Tick { now: BootNs(6) }]);
        assert!(recording.warning().is_some());
    }

    #[test]
    fn an_oversized_record_is_lost_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.ndjson");
        let mut recorder = Recorder::create(&path, &header()).unwrap();
        recorder.record(BootNs(6), &vec![0; RECORD_BYTES_MAX + 1]);
        recorder.record(BootNs(7), &[1]);
        assert_eq!(recorder.finish(BootNs(8)), 1);
        assert_eq!(
            Recording::open(&path).unwrap().map(Result::unwrap).count(),
            2
        );
    }

    /// Replays this content to its first error, which must read as expected after `run:`.
    #[track_caller]
    fn check_error(content: &[u8], expect: &str) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run");
        std::fs::write(&path, content).unwrap();
        let error = match Recording::open(&path) {
            Err(error) => error,
            Ok(mut recording) => {
                let error = recording.by_ref().find_map(Result::err).expect("no error");
                assert!(recording.next().is_none(), "goes on after an error");
                assert_eq!(recording.warning(), None);
                error
            }
        };
        let error = error.to_string();
        assert_eq!(
            error.strip_prefix(&format!("{}:", path.display())).unwrap(),
            expect
        );
    }

    #[test]
    fn header_errors() {
        let no_header = |why: &str| {
            format!(
                "1: not a Telltale recording: the first line is no header ({why}); \
                 make one with `telltale run --record FILE`"
            )
        };
        check_error(
            b"",
            &no_header("EOF while parsing a value at line 1 column 0"),
        );
        check_error(b"hello\n", &no_header("expected value at line 1 column 1"));
        check_error(
            b"{\"abi\":1}\n",
            &no_header("missing field `telltale_recording` at line 1 column 9"),
        );
        check_error(
            b"{\"telltale_recording\":1,\"abi\":6}\n",
            &no_header("missing field `boot_id` at line 1 column 32"),
        );
        check_error(
            b"{\"telltale_recording\":2,\"abi\":1,\"of\":\"the future\"}\n",
            "1: recording format 2, but this telltale reads format 1; \
             replay it with the version that recorded it",
        );
        check_error(
            b"{\"telltale_recording\":1,\"abi\":77}\n",
            "1: records of ABI 77, but this telltale reads ABI 6; \
             replay it with the version that recorded it",
        );
        check_error(
            &HEADER.as_bytes()[..40],
            "1: the line is cut off; remove it to replay what comes before it",
        );
    }

    #[track_caller]
    fn check_line(line: &str, expect: &str) {
        let content = format!("{HEADER}\n{{\"now_ns\":6,\"tick\":true}}\n{line}");
        check_error(content.as_bytes(), &format!("3: {expect}"));
    }

    #[test]
    fn line_errors() {
        let ambiguous =
            "an entry holds \"hex\":\"…\", \"tick\":true or \"end\":true, and only one of them";
        check_line("{\"now_ns\":7}\n", ambiguous);
        check_line("{\"now_ns\":7,\"tick\":false}\n", ambiguous);
        check_line("{\"now_ns\":7,\"tick\":true,\"hex\":\"00\"}\n", ambiguous);
        check_line(
            "\n",
            "not an entry: EOF while parsing a value at line 1 column 0",
        );
        check_line(
            "{\"now_ns\":-7,\"end\":true}\n",
            "not an entry: invalid value: integer `-7`, expected u64 at line 1 column 12",
        );
        check_line(
            "{\"now_ns\":7,\"tock\":true}\n",
            "not an entry: unknown field `tock`, expected one of `now_ns`, `hex`, `tick`, `end` \
             at line 1 column 18",
        );
        check_line(
            "{\"now_ns\":7,\"hex\":\"00g0\"}\n",
            "hex digit 3 is 'g'; a record is pairs of 0-9 a-f",
        );
        check_line(
            "{\"now_ns\":7,\"hex\":\"0é\"}\n",
            "hex digit 2 is 'é'; a record is pairs of 0-9 a-f",
        );
        check_line(
            "{\"now_ns\":7,\"hex\":\"000\"}\n",
            "3 hex digits: the last one has no partner",
        );
        check_line(
            "{\"now_ns\":5,\"tick\":true}\n",
            "now_ns 5 is before 6 of an earlier line; entries are in order of time",
        );
    }

    #[test]
    fn a_cut_last_line_is_an_error() {
        let line = "{\"now_ns\":7,\"hex\":\"00ff\"}";
        let cut = "the line is cut off; remove it to replay what comes before it";
        for end in 1..line.len() {
            check_line(&line[..end], cut);
        }
    }

    #[test]
    fn a_last_line_without_newline_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run");
        std::fs::write(&path, format!("{HEADER}\n{{\"now_ns\":6,\"end\":true}}")).unwrap();
        let mut recording = Recording::open(&path).unwrap();
        assert_eq!(
            recording.next().unwrap().unwrap(),
            Entry::End { now: BootNs(6) }
        );
        assert!(recording.next().is_none());
        assert_eq!(recording.warning(), None);
    }

    #[test]
    fn nothing_follows_the_end() {
        let end = "{\"now_ns\":6,\"end\":true}\n";
        let content = format!("{HEADER}\n{end}{HEADER}\n");
        check_error(
            content.as_bytes(),
            "3: a line after the end line; two recordings in one file are not read",
        );
    }

    #[test]
    fn time_before_the_start_is_an_error() {
        let content = format!("{HEADER}\n{{\"now_ns\":4,\"tick\":true}}\n");
        check_error(
            content.as_bytes(),
            "2: now_ns 4 is before 5 of an earlier line; entries are in order of time",
        );
    }

    #[test]
    fn endless_lines_are_not_read_into_memory() {
        let expect = format!("the line has more than {LINE_BYTES_MAX} bytes");
        check_line(&"x".repeat(LINE_BYTES_MAX * 3), &expect);
        let error = Recording::open(Path::new("/dev/zero"))
            .unwrap_err()
            .to_string();
        assert_eq!(error, format!("/dev/zero:1: {expect}"));
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = Recording::open(Path::new("/nonexistent/run"))
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("cannot open recording /nonexistent/run: No such file"),
            "{error}"
        );
    }
}
