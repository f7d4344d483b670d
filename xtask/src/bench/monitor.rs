//! A running monitor: started, asked, measured, stopped.
//!
//! In: what it shall write. Out: its metrics, CPU time, memory, and the files it wrote.

use std::fs::{self, File, Permissions};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::Bench;
use crate::shell;

/// Time that the monitor gets to be ready, and to end.
const PATIENCE: Duration = Duration::from_secs(30);
/// After this all records are read, all counters drained and all lines written: each happens
/// once a second or more often.
const SETTLE: Duration = Duration::from_millis(2500);

/// For so long its idle time is measured.
const IDLE: Duration = Duration::from_secs(3);

/// The log in one file, which is read as a whole, and all arguments, by which processes are told
/// apart.
const CONFIG: &str = "[events]\nrotate_mebibytes = 65536\narguments = \"redacted\"\n";

/// What the event log covers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// AI tools: anything else is counted in the kernel.
    Tools,
    /// Every connection of every process.
    All,
}

impl Scope {
    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Scope::Tools => "tools",
            Scope::All => "all",
        }
    }
}

/// A monitor that runs; killed if it is dropped.
pub struct Monitor {
    process: Child,
    address: SocketAddr,
    /// The event log.
    pub events: PathBuf,
    /// The recording, if one was asked for.
    pub recording: PathBuf,
}

/// Resident memory, in MB.
pub struct Memory {
    /// The most there ever was.
    pub peak: f64,
    /// Heap and stacks.
    pub anonymous: f64,
    /// The program, libraries, and the kernel's rings.
    pub files: f64,
}

impl Monitor {
    /// Starts a monitor and waits until it watches.
    ///
    /// # Errors
    ///
    /// If it ends instead; the text is what it said.
    pub fn start(bench: &Bench, scope: Scope, record: bool) -> Result<Monitor> {
        Monitor::start_with(bench, scope, record, "")
    }

    /// The same with further sections of the configuration.
    ///
    /// # Errors
    ///
    /// As [`Monitor::start`].
    pub fn start_with(bench: &Bench, scope: Scope, record: bool, more: &str) -> Result<Monitor> {
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let [config, events, recording, messages] = [
            "telltale.toml",
            "events.ndjson",
            "recording.ndjson",
            "messages",
        ]
        .map(|name| bench.folder.join(name));
        fs::write(&config, format!("{CONFIG}{more}"))?;
        // Whatever the umask: the monitor refuses a configuration that others can write.
        fs::set_permissions(&config, Permissions::from_mode(0o600))?;
        for file in [&events, &recording] {
            let _ = fs::remove_file(file); // There is none, or it is of the round before.
        }
        let mut command = Command::new(&bench.telltale);
        command.args([
            "run",
            "--quiet",
            "--config",
            &config.display().to_string(),
            "--web.listen-address",
            &address.to_string(),
        ]);
        command
            .arg("--events")
            .arg(&events)
            .args(["--events-scope", scope.name()]);
        if record {
            command.arg("--record").arg(&recording);
        }
        let process = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&messages)?)
            .spawn()
            .with_context(|| format!("cannot start {}", bench.telltale.display()))?;
        let mut monitor = Monitor {
            process,
            address,
            events,
            recording,
        };
        let deadline = Instant::now() + PATIENCE;
        while !monitor
            .get("/-/ready")
            .is_ok_and(|text| text.starts_with("HTTP/1.1 200"))
        {
            let ended = monitor.process.try_wait()?.is_some();
            if ended || Instant::now() > deadline {
                bail!(
                    "the monitor is not ready: {}",
                    fs::read_to_string(messages)?
                );
            }
            thread::sleep(Duration::from_millis(50));
        }
        settle();
        Ok(monitor)
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Its metrics, as it serves them.
    pub fn metrics(&self) -> Result<Metrics> {
        self.get("/metrics").map(Metrics)
    }

    /// CPU time of all its threads.
    pub fn cpu_time(&self) -> Result<Duration> {
        let mut total = Duration::ZERO;
        for thread in fs::read_dir(format!("/proc/{}/task", self.pid()))? {
            let text = fs::read_to_string(thread?.path().join("schedstat")).unwrap_or_default();
            let nanoseconds = text
                .split_whitespace()
                .next()
                .and_then(|field| field.parse().ok());
            total += Duration::from_nanos(nanoseconds.unwrap_or_default());
        }
        Ok(total)
    }

    /// The share of a CPU that it uses while nobody bothers it on purpose.
    pub fn idle_share(&self) -> Result<f64> {
        let before = self.cpu_time()?;
        thread::sleep(IDLE);
        Ok((self.cpu_time()? - before).as_secs_f64() / IDLE.as_secs_f64())
    }

    /// Its memory now.
    pub fn memory(&self) -> Result<Memory> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let megabytes = |name: &str| {
            let value = status
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            let kilobytes = value.and_then(|it| it.trim().strip_suffix(" kB"));
            kilobytes
                .and_then(|it| it.parse::<f64>().ok())
                .unwrap_or_default()
                / 1000.0
        };
        Ok(Memory {
            peak: megabytes("VmHWM"),
            anonymous: megabytes("RssAnon"),
            files: megabytes("RssFile") + megabytes("RssShmem"),
        })
    }

    /// Its open files now.
    pub fn descriptors(&self) -> Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.pid()))?.count())
    }

    /// Ends it in order, so that its files are complete.
    ///
    /// # Errors
    ///
    /// If it does not end, or says that something was wrong.
    pub fn stop(mut self) -> Result<()> {
        shell::run(Command::new("kill").args(["-TERM", &self.pid().to_string()]))?;
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.process.try_wait()? {
                ensure!(status.success(), "the monitor ended with {status}");
                return Ok(());
            }
            thread::sleep(Duration::from_millis(20));
        }
        bail!("the monitor does not end");
    }

    fn get(&self, path: &str) -> Result<String> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
            self.address
        )?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        let _ = self.process.kill(); // It has ended, if all went well.
        let _ = self.process.wait();
    }
}

/// Waits until what happened is counted and written everywhere.
pub fn settle() {
    thread::sleep(SETTLE);
}

/// Metrics in the text format.
pub struct Metrics(String);

impl Metrics {
    /// The sum over all series of a metric that have all these labels.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let labels: Vec<_> = labels
            .iter()
            .map(|(name, value)| format!("{name}=\"{value}\""))
            .collect();
        let series = self.0.lines().filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let rest = series.strip_prefix(name)?;
            let is_name = rest.is_empty() || rest.starts_with('{');
            (is_name && labels.iter().all(|label| rest.contains(label))).then_some(value)
        });
        series.filter_map(|value| value.parse::<f64>().ok()).sum()
    }

    /// Records that a full ring or map of the kernel, or the event log, could not take.
    pub fn lost(&self) -> f64 {
        let kernel = ["ring_full", "flows_full", "unreadable", "over_budget"]
            .map(|outcome| self.sum("telltale_kernel_operations_total", &[("outcome", outcome)]));
        kernel.iter().sum::<f64>() + self.sum("telltale_event_log_dropped_lines_total", &[])
    }
}

/// Removes a file that was looked at: an event log of a round is large.
pub fn discard(file: &Path) -> Result<()> {
    fs::remove_file(file).with_context(|| file.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, labels: &[(&str, &str)], expect: f64) {
        let text =
            "# TYPE a counter\na 1\na_total{x=\"1\",y=\"2\"} 3\na_total{x=\"1\",y=\"3\"} 4\n";
        assert_eq!(Metrics(text.to_owned()).sum(name, labels), expect);
    }

    #[test]
    fn series_are_summed_by_name_and_labels() {
        check("a", &[], 1.0);
        check("a_total", &[("x", "1")], 7.0);
        check("a_total", &[("x", "1"), ("y", "3")], 4.0);
        check("a_total", &[("y", "9")], 0.0);
    }
}
