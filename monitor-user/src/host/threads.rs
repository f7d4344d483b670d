//! The privileges of a running monitor, thread by thread.
//!
//! In: `/proc/PID/task/*/status` of processes whose main thread is called `telltale`. Out:
//! [`Daemon`]s. What cannot be read has ended, or is another user's.

use std::fs;

use super::HostRoot;
use super::capability::Capabilities;

/// Longest name of a program in `/proc`, and what the monitor is called there.
const NAME: &str = "telltale";

/// A monitor that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Daemon {
    /// Its process id.
    pub pid: u32,
    /// Its threads, in the order of their ids.
    pub threads: Vec<Thread>,
}

/// What a thread may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Thread {
    /// What it is called.
    pub name: String,
    /// Capabilities in effect.
    pub capabilities: Capabilities,
    /// It cannot gain privileges by executing a program.
    pub no_new_privileges: bool,
    /// Its system calls are filtered.
    pub filtered: bool,
}

impl HostRoot {
    /// The monitors that run here, but for this process.
    #[must_use]
    pub fn daemons(&self) -> Vec<Daemon> {
        let Ok(entries) = fs::read_dir(self.0.join("proc")) else {
            return Vec::new();
        };
        let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        let mut daemons: Vec<Daemon> = pids
            .filter(|pid| *pid != std::process::id())
            .filter_map(|pid| self.daemon(pid))
            .collect();
        daemons.sort_by_key(|daemon| daemon.pid);
        daemons
    }

    fn daemon(&self, pid: u32) -> Option<Daemon> {
        let folder = self.0.join(format!("proc/{pid}"));
        let name = fs::read_to_string(folder.join("comm")).ok()?;
        if name.trim_end() != NAME {
            return None;
        }
        let mut ids: Vec<u32> = fs::read_dir(folder.join("task"))
            .ok()?
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .collect();
        ids.sort_unstable();
        let status = |id| fs::read_to_string(folder.join(format!("task/{id}/status"))).ok();
        let threads: Vec<Thread> = ids
            .into_iter()
            .filter_map(|id| Some(Thread::of(&status(id)?)))
            .collect();
        (!threads.is_empty()).then_some(Daemon { pid, threads })
    }
}

impl Thread {
    fn of(status: &str) -> Thread {
        let field = |name: &str| {
            let lines = status.lines().filter_map(|line| line.split_once(':'));
            let mut values = lines.filter(|(key, _)| *key == name);
            values.next().map_or("", |(_, value)| value.trim())
        };
        let set = u64::from_str_radix(field("CapEff"), 16).unwrap_or_default();
        Thread {
            name: field("Name").to_owned(),
            capabilities: Capabilities(set),
            no_new_privileges: field("NoNewPrivs") == "1",
            filtered: field("Seccomp") == "2",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::root;
    use super::*;

    #[test]
    fn threads_are_read_and_other_programs_are_not() {
        let line = b"Name:\tline\nCapEff:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\n";
        let kernel = b"Name:\tkernel\nCapEff:\t000000c000001000\nNoNewPrivs:\t1\nSeccomp:\t0\n";
        let (_folder, root) = root(&[
            ("proc/7/comm", b"telltale\n"),
            ("proc/7/task/9/status", line),
            ("proc/7/task/8/status", kernel),
            ("proc/6/comm", b"bash\n"),
            ("proc/6/task/6/status", line),
            ("proc/self/comm", b"telltale\n"),
        ]);
        let thread = |name: &str, set, filtered| Thread {
            name: name.to_owned(),
            capabilities: Capabilities(set),
            no_new_privileges: true,
            filtered,
        };
        let threads = vec![
            thread("kernel", 0xc0_0000_1000, false),
            thread("line", 0, true),
        ];
        assert_eq!(root.daemons(), [Daemon { pid: 7, threads }]);
    }
}
