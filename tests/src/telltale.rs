//! The monitor under test: started, asked, stopped.
//!
//! In: options as an operator would give them. Out: its events, metrics, exit code and messages.

use std::fs::{self, Permissions};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::event::Event;
use crate::metrics::Metrics;
use crate::netns::{NetNs, RESOLVER};
use crate::program::OwnTool;
use crate::running::Running;
use crate::{binary, http, wait};

/// A clean stop, draining included.
const STOP: Duration = Duration::from_secs(30);

/// How the monitor is to be started.
#[derive(Debug)]
pub struct Options<'a> {
    dir: &'a Path,
    config: String,
    args: Vec<String>,
    through: Vec<String>,
    inside: Option<&'a NetNs>,
    address: SocketAddr,
}

impl<'a> Options<'a> {
    /// `telltale run` with its files in `dir`, listening on a free loopback port, with the
    /// resolver of the tests' namespaces as the host's own, and knowing the [`OwnTool`]s in `dir`.
    ///
    /// # Panics
    ///
    /// If the test does not run as root.
    #[must_use]
    pub fn new(dir: &'a Path) -> Options<'a> {
        binary::require_root();
        binary::require("setpriv", "util-linux");
        Options {
            dir,
            config: String::new(),
            args: Vec::new(),
            through: Vec::new(),
            inside: None,
            address: free_address(),
        }
    }

    /// `--events-scope`.
    #[must_use]
    pub fn scope(self, scope: &str) -> Self {
        self.args(&["--events-scope", scope])
    }

    /// Whole sections of the configuration; all but `[resolvers]`.
    #[must_use]
    pub fn config(mut self, sections: &str) -> Self {
        self.config.push_str(sections);
        self
    }

    /// `--record`, to [`recording`].
    #[must_use]
    pub fn record(self) -> Self {
        let path = recording(self.dir).display().to_string();
        self.args(&["--record", &path])
    }

    /// Any other arguments.
    #[must_use]
    pub fn args(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(|&arg| arg.to_owned()));
        self
    }

    /// Runs it by a program, such as `env`, that replaces itself by what its arguments end with.
    #[must_use]
    pub fn through(mut self, words: &[&str]) -> Self {
        self.through = words.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// Runs in a network namespace.
    #[must_use]
    pub fn inside(mut self, ns: &'a NetNs) -> Self {
        self.inside = Some(ns);
        self
    }

    /// Starts the monitor and waits until it is ready.
    ///
    /// # Panics
    ///
    /// If it ends, or is not ready in time; its messages are then shown.
    #[must_use]
    #[track_caller]
    pub fn start(self) -> Telltale<'a> {
        let events = self.dir.join("events.ndjson");
        let telltale = binary::telltale().display().to_string();
        let words = [&self.through[..], &[telltale]].concat();
        let mut command = match self.inside {
            Some(ns) => ns.command(&words[0]),
            None => {
                let mut command = Command::new("setpriv");
                command.args(["--pdeathsig", "KILL", &words[0]]);
                command
            }
        };
        command.args(&words[1..]);
        command.args(["run", "--web.listen-address", &self.address.to_string()]);
        command
            .arg("--config")
            .arg(write_config(self.dir, &self.config));
        let catalog = OwnTool::catalog(self.dir);
        if catalog.exists() {
            command.arg("--catalog").arg(catalog);
        }
        // Tests tell processes apart by their arguments.
        command.args(["--events-arguments", "redacted"]);
        // What this host asks is no test's business.
        if !self.args.iter().any(|arg| arg == "--resolved") {
            command.args(["--resolved", "off"]);
        }
        command.arg("--events").arg(&events).args(&self.args);
        let process = Running::start("telltale", self.dir, command);
        let mut telltale = Telltale {
            process,
            events,
            address: self.address,
            inside: self.inside,
            questions: AtomicU64::new(0),
        };
        wait::until("telltale is ready", wait::START, || {
            let ended = telltale.process.status();
            assert!(
                ended.is_none(),
                "{} ended at once: {ended:?}",
                telltale.process.describe()
            );
            telltale
                .get("/-/ready")
                .is_ok_and(|response| response.status == 200)
                .then_some(())
        });
        telltale
    }
}

/// The stub of systemd-resolved.
const STUB: &str = "127.0.0.53";

/// Writes a configuration with these sections, and with the resolver of the tests' namespaces and
/// a stub as the host's own, to a file in `dir`.
///
/// # Panics
///
/// If it cannot be written.
#[must_use]
pub fn write_config(dir: &Path, sections: &str) -> PathBuf {
    let path = dir.join("telltale.toml");
    let text = format!("{sections}\n[resolvers]\naddresses = [\"{RESOLVER}\", \"{STUB}\"]\n");
    fs::write(&path, text).expect("config file");
    // Whatever the umask: the monitor refuses a configuration that others can write.
    fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("its permissions");
    path
}

/// Where [`Options::record`] writes.
#[must_use]
pub fn recording(dir: &Path) -> PathBuf {
    dir.join("recording")
}

/// A running monitor. Dropping it kills it.
#[derive(Debug)]
pub struct Telltale<'a> {
    /// The process.
    pub process: Running,
    /// Where it listens.
    pub address: SocketAddr,
    events: PathBuf,
    inside: Option<&'a NetNs>,
    questions: AtomicU64,
}

impl Telltale<'_> {
    /// Asks its HTTP server.
    ///
    /// # Errors
    ///
    /// A sentence, if it does not answer.
    pub fn get(&self, path: &str) -> Result<http::Response, String> {
        self.questions.fetch_add(1, Ordering::Relaxed);
        match self.inside {
            Some(ns) => ns.enter(|| http::get(self.address, path)),
            None => http::get(self.address, path),
        }
    }

    /// How often the test has asked its HTTP server, each time on a new connection.
    #[must_use]
    pub fn questions(&self) -> u64 {
        self.questions.load(Ordering::Relaxed)
    }

    /// One scrape.
    ///
    /// # Panics
    ///
    /// If it does not answer with metrics.
    #[must_use]
    #[track_caller]
    pub fn metrics(&self) -> Metrics {
        let response = self.get("/metrics").expect("a scrape");
        assert_eq!(response.status, 200, "{}", response.body);
        Metrics::parse(&response.body)
    }

    /// Waits until a scrape is as wanted.
    ///
    /// # Panics
    ///
    /// If none is in time.
    #[track_caller]
    pub fn wait_for_metrics(&self, what: &str, matches: impl Fn(&Metrics) -> bool) -> Metrics {
        self.wait_long_for_metrics(what, wait::SOON, matches)
    }

    /// As [`Telltale::wait_for_metrics`], after more than can be looked at soon.
    ///
    /// # Panics
    ///
    /// If none is within `limit`.
    #[track_caller]
    pub fn wait_long_for_metrics(
        &self,
        what: &str,
        limit: Duration,
        matches: impl Fn(&Metrics) -> bool,
    ) -> Metrics {
        let mut last = None;
        let found = wait::try_until(limit, || {
            let metrics = self.metrics();
            let found = matches(&metrics).then(|| metrics.clone());
            last = Some(metrics);
            found
        });
        match found {
            Some(metrics) => metrics,
            None => panic!(
                "no {what} in {}",
                last.map(|m| m.lines("telltale_")).unwrap_or_default()
            ),
        }
    }

    /// The events logged so far.
    ///
    /// # Panics
    ///
    /// If the log cannot be read, or is not NDJSON.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        Event::parse_log(&fs::read_to_string(&self.events).expect("event log"))
    }

    /// Waits for an event.
    ///
    /// # Panics
    ///
    /// If none comes in time; the message shows what was logged instead.
    #[track_caller]
    pub fn wait_for(&self, what: &str, matches: impl Fn(&Event) -> bool) -> Event {
        let ask = || self.events().into_iter().find(&matches);
        match wait::try_until(wait::SOON, ask) {
            Some(event) => event,
            None => panic!("no {what} among\n{}", summary(&self.events())),
        }
    }

    /// Waits for an event of a process, its conversations with the resolver aside.
    ///
    /// # Panics
    ///
    /// As [`Telltale::wait_for`].
    #[track_caller]
    pub fn wait_for_action(&self, pid: u32, action: &str) -> Event {
        let matches = |event: &Event| {
            event.pid() == Some(pid)
                && event.action() == action
                && event.text("destination.ip") != RESOLVER
        };
        self.wait_for(&format!("{action} of pid {pid}"), matches)
    }

    /// Stops it as an operator would, and returns all it logged: nothing more will come.
    ///
    /// # Panics
    ///
    /// If it does not stop cleanly.
    #[track_caller]
    pub fn stop(mut self) -> Vec<Event> {
        self.process.terminate();
        self.process.succeed(STOP);
        self.events()
    }
}

/// How a command of the program ended.
#[derive(Debug)]
pub struct Ended {
    /// Exit status.
    pub status: ExitStatus,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Ended {
    /// Fails the test unless it ended with `code` and said each of `words` on standard error.
    ///
    /// # Panics
    ///
    /// If it did not.
    #[track_caller]
    pub fn expect(&self, code: i32, words: &[&str]) {
        assert_eq!(self.status.code(), Some(code), "{self:#?}");
        assert!(!self.stderr.contains("panicked"), "{self:#?}");
        for word in words {
            assert!(self.stderr.contains(word), "no {word:?} in {self:#?}");
        }
    }
}

/// Runs a command to its end, which must come soon.
///
/// # Panics
///
/// If it does not start or end.
#[must_use]
#[track_caller]
pub fn run_to_end(dir: &Path, command: Command) -> Ended {
    let mut process = Running::start("command", dir, command);
    let status = process.end(wait::START);
    Ended {
        status,
        stdout: process.stdout(),
        stderr: process.stderr(),
    }
}

/// `telltale ARGS`, run to its end.
///
/// # Panics
///
/// As [`run_to_end`].
#[must_use]
#[track_caller]
pub fn telltale(dir: &Path, args: &[&str]) -> Ended {
    let mut command = Command::new(binary::telltale());
    command.args(args);
    run_to_end(dir, command)
}

/// A loopback address on which nobody listens at this moment.
///
/// # Panics
///
/// If there is none.
#[must_use]
pub fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free loopback port");
    listener.local_addr().expect("address of the listener")
}

/// One line per event: enough to see what happened.
fn summary(events: &[Event]) -> String {
    let fields = [
        "event.action",
        "process.pid",
        "process.executable",
        "destination.ip",
        "destination.domain",
        "telltale.tool.id",
        "telltale.verdict",
    ];
    let line = |event: &Event| fields.map(|field| event.get(field).to_string()).join(" ");
    events.iter().map(line).collect::<Vec<_>>().join("\n")
}
