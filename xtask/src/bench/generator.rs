//! Runs the load generator.
//!
//! In: what to do, how often, in how many processes. Out: what that took. Each process has a
//! network namespace of its own with nothing but loopback in it: its ports and its half-closed
//! connections are nobody else's.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

/// Starts the program that follows in a namespace with a loopback that works.
const NAMESPACE: [&str; 5] = [
    "--net",
    "--",
    "sh",
    "-c",
    // Addresses that look like a server's, not like loopback, are the namespace's own as well.
    r#"ip link set lo up && ip route add local 198.51.100.0/24 dev lo && exec "$0" "$@""#,
];

/// The built load generator.
pub struct Generator(PathBuf);

/// What a load took.
#[derive(Default)]
pub struct Outcome {
    /// Operations in all.
    pub operations: u64,
    /// From the start to the end of the slowest process.
    pub wall: Duration,
    /// Of all processes with their children: also what the kernel did for them.
    pub cpu: Duration,
    /// The processes.
    pub pids: Vec<u32>,
}

impl Outcome {
    /// Operations per second.
    pub fn rate(&self) -> f64 {
        self.operations as f64 / self.wall.as_secs_f64()
    }

    /// CPU time of one operation, nanoseconds.
    pub fn cpu_ns(&self) -> f64 {
        self.cpu.as_nanos() as f64 / self.operations.max(1) as f64
    }
}

/// What a process reports.
#[derive(Deserialize)]
struct Report {
    operations: u64,
    wall_ns: u64,
    cpu_ns: u64,
}

impl Generator {
    /// The generator at this path.
    pub fn new(program: PathBuf) -> Self {
        Generator(program)
    }

    /// Does `kind` `count` times in each of `processes` processes, which start together.
    ///
    /// # Errors
    ///
    /// If a process cannot be started or fails; it has said why on standard error.
    pub fn run(&self, kind: &str, count: u32, processes: u32) -> Result<Outcome> {
        let mut loads = Vec::new();
        for _ in 0..processes {
            loads.push(Load::start(&self.0, &[kind, &count.to_string()])?);
        }
        for load in &mut loads {
            load.stdin.write_all(b"\n")?;
        }
        let mut outcome = Outcome::default();
        for load in loads {
            outcome.pids.push(load.process.id());
            let report = load.finish()?;
            outcome.operations += report.operations;
            outcome.wall = outcome.wall.max(Duration::from_nanos(report.wall_ns));
            outcome.cpu += Duration::from_nanos(report.cpu_ns);
        }
        Ok(outcome)
    }

    /// Starts doing `kind` `count` times, so many a second.
    ///
    /// # Errors
    ///
    /// As [`Generator::run`].
    pub fn start(&self, kind: &str, count: u32, per_second: u32) -> Result<Load> {
        let words = [kind, &count.to_string(), &per_second.to_string()];
        let mut load = Load::start(&self.0, &words)?;
        load.stdin.write_all(b"\n")?;
        Ok(load)
    }

    /// Starts `count` processes with five connected sockets each. They end with the result.
    ///
    /// # Errors
    ///
    /// As [`Generator::run`].
    pub fn hold(&self, count: u32) -> Result<Load> {
        let mut load = Load::start(&self.0, &["hold", &count.to_string()])?;
        load.stdin.write_all(b"\n")?;
        load.line()?;
        Ok(load)
    }
}

/// One process; killed if it is dropped before it ended.
pub struct Load {
    process: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Load {
    /// Starts a process and waits until it is ready.
    fn start(program: &PathBuf, words: &[&str]) -> Result<Load> {
        let mut process = Command::new("unshare")
            .args(NAMESPACE)
            .arg(program)
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start unshare (package util-linux)")?;
        let (Some(stdin), Some(stdout)) = (process.stdin.take(), process.stdout.take()) else {
            bail!("the load generator has no pipes");
        };
        let mut load = Load {
            process,
            stdin,
            stdout: BufReader::new(stdout),
        };
        ensure!(
            load.line()? == "ready\n",
            "the load generator did not start"
        );
        Ok(load)
    }

    fn finish(mut self) -> Result<Report> {
        let report = serde_json::from_str(&self.line()?).context("the load generator failed")?;
        self.process.wait()?;
        Ok(report)
    }

    /// Waits until everything is done. How often, and the rate that was kept.
    ///
    /// # Errors
    ///
    /// It failed; it has said why on standard error.
    pub fn end(self) -> Result<Outcome> {
        let report = self.finish()?;
        Ok(Outcome {
            operations: report.operations,
            wall: Duration::from_nanos(report.wall_ns),
            ..Outcome::default()
        })
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        Ok(line)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.process.kill(); // It has ended, if all went well.
        let _ = self.process.wait();
    }
}
