//! The event log: one JSON object per line, in ECS field names.
//!
//! In: effects. Out: lines in a file or on standard output. Only what the core marked as logged
//! is written, and alerts when they fire and when they are resolved.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::ecs::Line;
use super::ecs::known::{Frame, KnownProcesses};
use super::lines::{LineWriter, Rotation, WhenFull};
use super::{HostInfo, json};
use crate::clock::WallClock;
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
    /// One line in the making; kept for its memory.
    buffer: Vec<u8>,
    frame: Frame,
    processes: KnownProcesses,
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
            buffer: Vec::new(),
            frame: Frame::new(host),
            processes: KnownProcesses::default(),
        })
    }

    /// Puts its file aside when it is full.
    #[must_use]
    pub fn rotating(self, rotation: Rotation) -> Self {
        EventLog {
            lines: self.lines.rotating(rotation),
            ..self
        }
    }

    /// Writes the line of an effect, if it has one.
    pub fn write(&mut self, effect: &Effect, clock: &WallClock) {
        let Some(line) = Line::of(effect, clock, &self.frame, &mut self.processes) else {
            return;
        };
        self.buffer.clear();
        if json::write(&line, &mut self.buffer) {
            self.buffer.push(b'\n');
            self.lines.push(&self.buffer);
        }
    }

    /// Writes what waits. The owner calls it at least every second.
    pub fn flush(&mut self) {
        self.lines.flush();
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
    use crate::core::event::{BootNs, Outcome, Protocol, SocketKind};
    use crate::core::policy::judgement::Verdict;
    use crate::core::report::{AlertState, FlowReport, ProcessView, SocketReport};
    use crate::sink::fixture::{self, CLOCK};
    use crate::sink::is_unprintable;

    /// What the log holds after these effects.
    fn written(effects: &[Effect]) -> String {
        static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let name = format!("telltale-events-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let mut log = EventLog::open(
            &LogTarget::File(path.clone()),
            WhenFull::Drop,
            &fixture::host(),
        )
        .unwrap();
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

    fn socket(report: SocketReport) -> Effect {
        Effect::SocketOpened(Box::new(report))
    }

    #[test]
    fn each_action_has_its_golden_line() {
        let udp = FlowReport {
            remote: fixture::remote("[2001:db8::1]:53", Protocol::Udp),
            names: Vec::new(),
            judgement: fixture::judgement(Verdict::NotJudged),
            ..fixture::closed(fixture::stranger(43), Outcome::Closed)
        };
        let text = written(&[
            fixture::started(fixture::process(42)),
            fixture::flow(fixture::opened(fixture::process(42))),
            fixture::flow(fixture::closed(fixture::process(42), Outcome::Closed)),
            fixture::flow(fixture::closed(
                fixture::process(42),
                Outcome::Failed(Some(111)),
            )),
            fixture::flow(fixture::closed(fixture::process(42), Outcome::NeverSent)),
            fixture::flow(udp),
            fixture::flow(fixture::opened(fixture::stranger(44))),
            fixture::flow(fixture::accepted(fixture::process(42))),
            fixture::flow(fixture::redirected(fixture::process(42))),
            fixture::flow(FlowReport {
                names: Vec::new(),
                ..fixture::opened(fixture::kernel())
            }),
            socket(fixture::socket(
                fixture::process(42),
                SocketKind::Raw,
                false,
            )),
            socket(fixture::socket(fixture::process(42), SocketKind::Tun, true)),
            fixture::over_budget(fixture::stranger(43), 10, 250),
            fixture::ended(fixture::process(42), 3 << 8),
            fixture::ended(fixture::process(42), 9),
            fixture::alert(AlertState::Fired),
            fixture::alert(AlertState::Resolved),
            fixture::resumed(),
        ]);
        fixture::check_golden("src/sink/ecs/golden.ndjson", &without_version(&text));
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
            socket(socket_not_logged),
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
