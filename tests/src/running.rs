//! A process that a test started: its output is kept, and it never outlives the test.
//!
//! In: a command. Out: its pid, what it prints, and how it ends.

use std::fs::{self, File};
use std::io::{PipeWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::wait;

/// A running process. Dropping it kills it.
#[derive(Debug)]
pub struct Running {
    label: String,
    child: Child,
    stdin: Option<PipeWriter>,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Running {
    /// Starts a command; its output goes to files in `dir` named after `label`.
    ///
    /// # Panics
    ///
    /// If it does not start.
    #[must_use]
    pub fn start(label: &str, dir: &Path, mut command: Command) -> Running {
        let stdout = dir.join(format!("{label}.stdout"));
        let stderr = dir.join(format!("{label}.stderr"));
        let (reader, writer) = std::io::pipe().expect("pipe");
        command.stdin(reader);
        command.stdout(Stdio::from(File::create(&stdout).expect("file for stdout")));
        command.stderr(Stdio::from(File::create(&stderr).expect("file for stderr")));
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Running {
            label: label.to_owned(),
            child,
            stdin: Some(writer),
            stdout,
            stderr,
        }
    }

    /// Process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything it wrote to standard output so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        read(&self.stdout)
    }

    /// Everything it wrote to standard error so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        read(&self.stderr)
    }

    /// Sends it a line.
    ///
    /// # Panics
    ///
    /// If it no longer listens.
    pub fn say(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("standard input is open");
        writeln!(stdin, "{line}").unwrap_or_else(|error| panic!("{}: {error}", self.label));
    }

    /// Waits until it has printed `text`.
    ///
    /// # Panics
    ///
    /// If it does not in time, or ends before.
    #[track_caller]
    pub fn wait_for_output(&mut self, text: &str) {
        self.wait_for_text(text, Running::stdout);
    }

    /// Waits until it has told `text` on standard error.
    ///
    /// # Panics
    ///
    /// If it does not in time, or ends before.
    #[track_caller]
    pub fn wait_for_message(&mut self, text: &str) {
        self.wait_for_text(text, Running::stderr);
    }

    #[track_caller]
    fn wait_for_text(&mut self, text: &str, said: fn(&Running) -> String) {
        wait::until(
            &format!("{} prints {text:?}", self.label),
            wait::SOON,
            || {
                if said(self).contains(text) {
                    return Some(());
                }
                assert!(
                    self.status().is_none(),
                    "{} ended before {text:?}",
                    self.describe()
                );
                None
            },
        );
    }

    /// Its exit status, if it has ended.
    ///
    /// # Panics
    ///
    /// If the system cannot tell.
    pub fn status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("status of a child")
    }

    /// Asks it to stop (SIGTERM).
    ///
    /// # Panics
    ///
    /// If it cannot be signalled.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Sends a signal.
    ///
    /// # Panics
    ///
    /// If it cannot be signalled.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid())
            .ok()
            .and_then(Pid::from_raw)
            .expect("a pid");
        kill_process(pid, signal).unwrap_or_else(|error| panic!("{}: {error}", self.label));
    }

    /// Waits for its end, whatever the status.
    ///
    /// # Panics
    ///
    /// If it does not end in time.
    #[track_caller]
    pub fn end(&mut self, limit: Duration) -> ExitStatus {
        self.stdin = None;
        match wait::try_until(limit, || self.status()) {
            Some(status) => status,
            None => panic!("{} still runs after {limit:?}", self.describe()),
        }
    }

    /// Waits for its successful end.
    ///
    /// # Panics
    ///
    /// If it fails or does not end in time.
    #[track_caller]
    pub fn succeed(&mut self, limit: Duration) {
        let status = self.end(limit);
        assert!(status.success(), "{} ended with {status}", self.describe());
    }

    /// Name, pid and output, for the messages of failed tests.
    #[must_use]
    pub fn describe(&self) -> String {
        let (stdout, stderr) = (self.stdout(), self.stderr());
        format!(
            "{} (pid {})\nstdout: {stdout}\nstderr: {stderr}\nit",
            self.label,
            self.pid()
        )
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.status().is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if thread::panicking() {
            eprintln!("--- {}", self.describe());
        }
    }
}

fn read(path: &Path) -> String {
    fs::read(path)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default()
}
