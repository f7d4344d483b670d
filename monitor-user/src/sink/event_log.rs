//! The event log: one JSON object per line, in the names of ECS or OCSF.
//!
//! In: effects. Out: lines in a file or on standard output. Only what the core marked as logged
//! is written, and alerts when they fire and when they are resolved.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;

use super::chain::Seal;
use super::ecs::Line;
use super::ecs::known::{Frame, KnownProcesses};
use super::lines::{LineWriter, Rotation, WhenFull};
use super::ocsf::Ocsf;
use super::{HostInfo, json};
use crate::clock::WallClock;
use crate::config::EventFormat;
use crate::core::report::Effect;
use crate::metrics::outputs::EventLogStats;

/// Where the log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTarget {
    /// Standard output.
    Stdout,
    /// Appended to this file.
    File(PathBuf),
}

/// Writes effects as JSON lines, and never fails.
pub struct EventLog {
    lines: LineWriter,
    /// The seal of the last line that was taken, if lines are sealed.
    seal: Option<Seal>,
    /// One line in the making; kept for its memory.
    buffer: Vec<u8>,
    frame: Frame,
    processes: KnownProcesses,
    /// Writes lines in another schema than ECS.
    ocsf: Option<Ocsf>,
}

impl EventLog {
    /// Opens the log of what happens on `host`.
    ///
    /// # Errors
    ///
    /// If the file cannot be opened for appending; the text names it and what to do.
    pub fn open(target: &LogTarget, when_full: WhenFull, host: &HostInfo) -> anyhow::Result<Self> {
        let lines = match target {
            LogTarget::Stdout => {
                let stdout = io::stdout()
                    .as_fd()
                    .try_clone_to_owned()
                    .context("standard output")?;
                LineWriter::new(File::from(stdout), "standard output", when_full)
            }
            LogTarget::File(path) => append(path, when_full)?,
        };
        Ok(EventLog {
            lines,
            seal: None,
            buffer: Vec::new(),
            frame: Frame::new(host),
            processes: KnownProcesses::default(),
            ocsf: None,
        })
    }

    /// Writes lines in this schema.
    #[must_use]
    pub fn in_format(self, format: EventFormat, host: &HostInfo) -> Self {
        EventLog {
            ocsf: (format == EventFormat::Ocsf).then(|| Ocsf::new(host)),
            ..self
        }
    }

    /// Puts its file aside when it is full.
    #[must_use]
    pub fn rotating(self, rotation: Rotation) -> Self {
        EventLog {
            lines: self.lines.rotating(rotation),
            ..self
        }
    }

    /// Seals its lines, after those that its file at `path` holds.
    ///
    /// # Errors
    ///
    /// If what the file holds cannot be read.
    pub fn chained(self, target: &LogTarget) -> anyhow::Result<Self> {
        let seal = match target {
            LogTarget::Stdout => Seal::default(),
            LogTarget::File(path) => Seal::last_in(path).with_context(|| {
                let path = path.display();
                format!("cannot go on with the chain of the event log {path}")
            })?,
        };
        Ok(EventLog {
            seal: Some(seal),
            ..self
        })
    }

    /// Has the disk keep what was written, about once in `interval`.
    ///
    /// # Errors
    ///
    /// If there is no thread to do it.
    pub fn syncing(self, interval: Duration) -> anyhow::Result<Self> {
        let lines = self.lines.syncing(interval);
        Ok(EventLog {
            lines: lines.context("cannot start a thread for events.sync_seconds")?,
            ..self
        })
    }

    /// Writes the line of an effect, if it has one.
    pub fn write(&mut self, effect: &Effect, clock: &WallClock) {
        self.buffer.clear();
        if !self.render(effect, clock) {
            return;
        }
        let seal = self
            .seal
            .as_ref()
            .and_then(|last| last.next(&mut self.buffer));
        self.buffer.push(b'\n');
        // A line that is dropped is no part of the chain.
        if self.lines.push(&self.buffer) && seal.is_some() {
            self.seal = seal;
        }
    }

    /// Puts the line of an effect into the buffer. Whether it has one.
    fn render(&mut self, effect: &Effect, clock: &WallClock) -> bool {
        let (frame, processes) = (&self.frame, &mut self.processes);
        match &self.ocsf {
            Some(ocsf) => ocsf
                .line(effect, clock, frame, processes)
                .is_some_and(|line| json::write(&line, &mut self.buffer)),
            None => Line::of(effect, clock, frame, processes)
                .is_some_and(|line| json::write(&line, &mut self.buffer)),
        }
    }

    /// Writes what waits. The owner calls it at least every second.
    pub fn flush(&mut self) {
        self.lines.flush();
    }

    /// Writes what waits, and has the disk keep it if it is to.
    pub fn finish(&mut self) {
        self.lines.finish();
    }

    /// What was written, dropped and is pending.
    #[must_use]
    pub fn stats(&self) -> EventLogStats {
        self.lines.stats()
    }
}

fn append(path: &Path, when_full: WhenFull) -> anyhow::Result<LineWriter> {
    LineWriter::append(path, when_full).with_context(|| {
        format!(
            "cannot append to the event log {}: create its folder and let Telltale write there, \
             or choose another file with --events",
            path.display()
        )
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::Value;

    use super::*;
    use crate::core::event::{BootNs, SocketKind};
    use crate::core::report::{AlertState, FlowReport, ProcessView, SocketReport};
    use crate::sink::fixture::{self, CLOCK};
    use crate::sink::is_unprintable;

    /// What the log holds after these effects.
    fn written(effects: &[Effect]) -> String {
        written_as(EventFormat::Ecs, effects)
    }

    fn written_as(format: EventFormat, effects: &[Effect]) -> String {
        static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let name = format!("telltale-events-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let mut log = EventLog::open(
            &LogTarget::File(path.clone()),
            WhenFull::Drop,
            &fixture::host(),
        )
        .unwrap()
        .in_format(format, &fixture::host());
        for effect in effects {
            log.write(effect, &CLOCK);
        }
        log.flush();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(log.stats().lines_written, text.lines().count() as u64);
        text
    }

    /// The version changes with each release; the rest of a golden line does not.
    fn without_version(text: &str) -> String {
        text.replace(
            concat!("\"version\":\"", env!("CARGO_PKG_VERSION"), "\""),
            "\"version\":\"V\"",
        )
    }

    #[test]
    fn each_action_has_its_golden_line() {
        let text = written(&fixture::every_line());
        fixture::check_golden("src/sink/ecs/golden.ndjson", &without_version(&text));
    }

    #[test]
    fn a_chain_goes_over_files_restarts_and_dropped_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let target = LogTarget::File(path.clone());
        let rotation = Rotation {
            bytes_max: 4000,
            age_max: None,
            files_max: 9,
        };
        for _ in 0..3 {
            let log = EventLog::open(&target, WhenFull::Drop, &fixture::host()).unwrap();
            let mut log = log.rotating(rotation).chained(&target).unwrap();
            for _ in 0..5 {
                log.write(&fixture::started(fixture::process(42)), &CLOCK);
                log.flush();
            }
            log.finish();
        }
        let report = crate::verify::verify(&[path], None).unwrap();
        assert!(
            report.text.starts_with("ok: 15 lines, 1 to 15, in "),
            "{report:?}"
        );

        let full = LogTarget::File("/dev/full".into());
        let log = EventLog::open(&full, WhenFull::Drop, &fixture::host()).unwrap();
        let mut log = log.chained(&LogTarget::Stdout).unwrap();
        while log.stats().lines_dropped < 3 {
            log.write(&fixture::started(fixture::process(42)), &CLOCK);
        }
        let taken = log.lines.pending_lines();
        assert_eq!(log.seal.map(|seal| seal.line), Some(taken));
    }

    #[test]
    fn each_action_has_its_golden_line_in_ocsf() {
        let text = written_as(EventFormat::Ocsf, &fixture::every_line());
        fixture::check_golden("src/sink/ocsf/golden.ndjson", &without_version(&text));
    }

    #[test]
    fn only_what_the_core_marked_is_written() {
        let not_logged = FlowReport {
            logged: false,
            ..fixture::opened(fixture::process(42))
        };
        let socket_not_logged = SocketReport {
            logged: false,
            ..fixture::socket(fixture::process(42), SocketKind::Raw, false)
        };
        let effects = [
            fixture::flow(not_logged),
            Effect::SocketOpened(Box::new(socket_not_logged)),
            fixture::alert(AlertState::StillFiring),
            Effect::Limited(crate::core::report::Limit::Flows),
            fixture::counted(fixture::process(42), Default::default()),
        ];
        assert_eq!(written(&effects), "");
    }

    #[track_caller]
    fn check_safe(text: &str, json: &str) {
        let process = ProcessView {
            exe: text.into(),
            args: Arc::new([text.into()]),
            ..fixture::process(1)
        };
        let written = written(&[fixture::started(process)]);
        assert!(written.contains(&format!("\"args\":[{json}]")), "{written}");
        let (line, rest) = written.split_once('\n').unwrap();
        assert!(
            rest.is_empty() && !line.contains(is_unprintable),
            "{written}"
        );
        let value: Value = serde_json::from_str(line).unwrap();
        assert_eq!(
            value["process"]["executable"], text,
            "readers get back what was there"
        );
    }

    #[test]
    fn text_of_others_cannot_break_a_line_or_act_on_a_terminal() {
        check_safe("a\"b\\c", r#""a\"b\\c""#);
        check_safe("line\nfeed\0", r#""line\nfeed\u0000""#);
        check_safe("\u{1b}[2J\u{7f}\u{9b}2J", r#""\u001b[2J\u007f\u009b2J""#);
        check_safe("a\u{202e}b\u{2028}c", r#""a\u202eb\u2028c""#);
        check_safe("tag \u{e0041}!", r#""tag \udb40\udc41!""#);
        check_safe("żółw 🐢", r#""żółw 🐢""#);
        check_safe("\u{1b}", r#""\u001b""#);
    }

    #[test]
    fn times_before_they_can_be_known_are_left_out() {
        let mut process = fixture::process(1);
        process.key.start_ns = 0;
        process.started = BootNs(u64::MAX);
        let line = written(&[fixture::started(process)]);
        let value: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["process"]["start"], Value::Null);
    }

    #[test]
    fn a_log_that_cannot_be_opened_is_named_with_the_remedy() {
        let target = LogTarget::File("/nonexistent/events".into());
        let Err(error) = EventLog::open(&target, WhenFull::Drop, &fixture::host()) else {
            panic!("it was opened");
        };
        let text = format!("{error:#}");
        assert!(
            text.contains("/nonexistent/events") && text.contains("--events"),
            "{text}"
        );
        assert!(text.contains("No such file"), "{text}");
    }
}
